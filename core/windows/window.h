/* Windows: which ones an event time falls into.
 *
 * A window is the half-open range [start, end) of event time. What is stored is panes: ranges that
 * follow each other without gaps, so that every event lies in exactly one, whatever the kind of
 * window. Speed slices, batch rows and the seam between them know panes only. Kinds differ in how a
 * time gives a pane, and in how the panes of one key become windows when they are read:
 *
 *     tumbling, calendar   a pane is a window
 *     hopping              a window is the union of size/pane panes; pane = gcd(size, slide)
 *     session              panes are `gap` wide, so all events of a pane are in one session; panes
 *                          also keep their least and greatest event time, and join by these
 *     none                 one pane, all of time
 *
 * A kind is one file in core/windows/ with one struct window_kind. Pure but for window_from_json,
 * which reads time zones; any thread. */
#ifndef DOVETAIL_WINDOW_H
#define DOVETAIL_WINDOW_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

#include "core/base/arena.h"
#include "core/base/error.h"
#include "core/time/timezone.h"

#ifdef __cplusplus
extern "C" {
#endif

struct group;
struct groups;
struct measure;
struct pgbinary_field;
struct view;
struct window_kind;

struct window {
    const struct window_kind *kind;
    int64_t size_us;              /* tumbling, hopping; session: the gap; else 0 */
    int64_t slide_us;             /* hopping */
    int64_t pane_us;              /* hopping: gcd(size, slide) */
    const struct time_zone *zone; /* calendar; in the view's arena */
    int32_t days;                 /* calendar: length in days, or 0 */
    int32_t months;               /* calendar: in months, a divisor of 12, or 0 */
    int32_t origin_day;           /* calendar, days: some window begins on it */
};

/* Which windows an answer has, by their start; and which panes it takes to make them. */
struct window_range {
    bool has_from, has_to;
    int64_t from_us; /* inclusive */
    int64_t to_us;   /* exclusive */
};

enum window_type {
    WINDOW_TUMBLING,
    WINDOW_CALENDAR,
    WINDOW_HOPPING,
    WINDOW_SESSION,
    WINDOW_NONE,
};

struct window_kind {
    enum window_type type;
    bool is_timeless; /* its windows have neither start nor end */

    int64_t (*pane_start)(const struct window *window, int64_t time_us);
    int64_t (*pane_end)(const struct window *window, int64_t start_us);

    /* A measure that every pane keeps besides the view's; or NULL. */
    const struct measure *hidden;

    /* Widens a range of windows to the panes they need. NULL: it is the same. */
    void (*widen)(const struct window *window, struct window_range *range);
    /* Makes the windows whose start is in `range` from panes; both tables are of `view`. May end
     * early, without an error, once `windows` uses more than `memory_bytes`. NULL: panes are the
     * windows. */
    enum status (*combine)(const struct view *view, const struct window_range *range,
                           const struct groups *panes, size_t memory_bytes, struct groups *windows,
                           struct error *error);
    /* Start and end of a window that is a group of `view`. */
    void (*bounds)(const struct view *view, const struct group *group, int64_t *start_us,
                   int64_t *end_us);

    /* The same in SQL. `u` is what put_rows makes of the stored rows `visible` (a SELECT), or these
     * themselves where it is NULL; grouped by sql_group and the keys, each group is a window, of
     * which sql_start and what put_end writes are start and end. */
    const char *sql_group;
    const char *sql_start;
    void (*put_end)(const struct window *window, FILE *out);
    void (*put_rows)(const struct view *view, const char *visible, FILE *out);
};

/* From a definition's "window" member; loads its time zone into `arena`, which must live as long as
 * the window. Errors name the key below "window". */
enum status window_from_json(const json_t *json, struct arena *arena, struct window *out,
                             struct error *error) MUST_CHECK;

/* Start of the pane that holds `time_us`, and its end. */
int64_t window_pane_start(const struct window *window, int64_t time_us);
int64_t window_pane_end(const struct window *window, int64_t start_us);

/* Whether a window, also a coarser one of a query, may start there: not long before the years of
 * events, and before their end. A length can be added to it without an overflow. */
bool window_may_start(int64_t start_us);

/* A stored start of a pane. STATUS_FATAL: no pane of an event starts there. */
enum status window_read_start(const struct pgbinary_field *field, int64_t *start_us,
                              struct error *error) MUST_CHECK;

/* How windows of a query's granularity come from the view's own. */
enum window_nesting {
    WINDOW_NESTS_ALWAYS,
    WINDOW_NESTS_SOMETIMES, /* each of the view's windows has to be looked at: window_is_within */
};

/* The windows of a query's `granularity`, with the time zone `timezone` or NULL, rolled up from
 * `own`. STATUS_REJECT begins with the parameter's name. */
enum status window_coarser(const struct window *own, const char *granularity, const char *timezone,
                           struct arena *arena, struct window *out, enum window_nesting *nesting,
                           struct error *error) MUST_CHECK;
/* STATUS_REJECT where the kind has no roll-ups at all, to "all" neither. */
enum status window_check_rollup(const struct window *own, struct error *error) MUST_CHECK;

/* True where the window of `fine` that starts at `start_us` lies within one of `coarse`. */
bool window_is_within(const struct window *fine, const struct window *coarse, int64_t start_us);

#ifdef __cplusplus
}
#endif
#endif
