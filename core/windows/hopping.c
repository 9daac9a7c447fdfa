/* Hopping windows: `size` long, one begins every `slide`, aligned to the Unix epoch.
 *
 * A pane is gcd(size, slide) long, so windows begin and end where panes do, and an event changes
 * one pane instead of size/slide windows. A window appears once one of its panes has rows. */
#include <inttypes.h>

#include "core/groups.h"
#include "core/time/timestamp.h"
#include "core/windows/kinds.h"

static int64_t hopping_pane_start(const struct window *window, int64_t time_us)
{
    return window_floor(time_us, window->pane_us);
}

static int64_t hopping_pane_end(const struct window *window, int64_t start_us)
{
    return start_us + window->pane_us;
}

/* A window has panes from its start until `size` later. */
static void hopping_widen(const struct window *window, struct window_range *range)
{
    if (range->has_to)
        range->to_us += window->size_us;
}

static bool in_range(const struct window_range *range, int64_t start_us)
{
    return (!range->has_from || start_us >= range->from_us) &&
           (!range->has_to || start_us < range->to_us);
}

/* The groups of a pane into one of the windows that it is a part of. */
static enum status combine_pane(const struct group_pane *pane, int64_t start_us,
                                size_t memory_bytes, struct groups *windows, struct error *error)
{
    size_t cursor = 0;
    uint64_t hash;
    const struct group *group;
    if (groups_memory_bytes(windows) > memory_bytes)
        return STATUS_OK;
    enum status status = groups_reserve(windows, start_us, pane->group_count, error);
    while (status == STATUS_OK && groups_memory_bytes(windows) <= memory_bytes &&
           (group = group_pane_next(pane, &cursor, &hash)) != NULL) {
        struct group *into;
        status = groups_find_or_add(windows, start_us, group->key, group->key_length, &into, error);
        if (status == STATUS_OK)
            status = groups_merge_states(windows, into, group_state(group), error);
    }
    return status;
}

static enum status hopping_combine(const struct view *view, const struct window_range *range,
                                   const struct groups *panes, size_t memory_bytes,
                                   struct groups *windows, struct error *error)
{
    const struct window *window = &view->window;
    size_t cursor = 0;
    const struct group_pane *pane;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && (pane = groups_next_pane(panes, &cursor)) != NULL) {
        int64_t start_us = window_floor(pane->start_us, window->slide_us);
        for (; status == STATUS_OK && start_us + window->size_us > pane->start_us;
             start_us -= window->slide_us)
            if (in_range(range, start_us))
                status = combine_pane(pane, start_us, memory_bytes, windows, error);
    }
    return status;
}

static void hopping_bounds(const struct view *view, const struct group *group, int64_t *start_us,
                           int64_t *end_us)
{
    *start_us = group->window_start_us;
    *end_us = group->window_start_us + view->window.size_us;
}

static void hopping_put_end(const struct window *window, FILE *out)
{
    fprintf(out, "u._window + interval '%" PRId64 " microseconds'", window->size_us);
}

/* The windows of a pane at p: the multiples of slide in (p - size, p]. date_bin counts from an
 * origin before every time, because versions of it differ for times before the origin. */
static void hopping_put_rows(const struct view *view, const char *visible, FILE *out)
{
    const struct window *window = &view->window;
    int64_t origin_us = window_floor(TIMESTAMP_MIN_US - WINDOW_MAX_US, window->slide_us);
    char origin[80];
    snprintf(origin, sizeof origin, "timestamptz 'epoch' + interval '%" PRId64 " microseconds'",
             origin_us);
    fprintf(out,
            "    SELECT r.*, h._window\n"
            "    FROM (\n%s    ) AS r\n"
            "    CROSS JOIN LATERAL pg_catalog.generate_series(\n"
            "        pg_catalog.date_bin(interval '%" PRId64 " microseconds',\n"
            "            r.window_start + interval '%" PRId64 " microseconds', %s),\n"
            "        r.window_start,\n"
            "        interval '%" PRId64 " microseconds') AS h (_window)\n",
            visible, window->slide_us, window->slide_us - window->size_us, origin,
            window->slide_us);
}

const struct window_kind window_hopping = {
    .type = WINDOW_HOPPING,
    .pane_start = hopping_pane_start,
    .pane_end = hopping_pane_end,
    .widen = hopping_widen,
    .combine = hopping_combine,
    .bounds = hopping_bounds,
    .sql_group = "u._window",
    .sql_start = "u._window",
    .put_end = hopping_put_end,
    .put_rows = hopping_put_rows,
};
