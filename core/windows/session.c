/* Sessions: the events of one key of which each follows the one before it in less than `gap`.
 *
 * A session starts at its first event and ends `gap` after its last, [first, last + gap): an event
 * at its very end begins the next one. Panes are `gap` wide, so two events of one pane are less
 * than `gap` apart and in one session; a pane never has to be split, and keeps, besides the
 * measures, only its least and greatest event time. Two neighbouring panes of a key are of one
 * session exactly where the least time of the later one is less than `gap` after the greatest of
 * the earlier one: what lies between them in time is nothing. Least and greatest are commutative
 * monoids, so the panes of slices, partitions and the two layers merge first, as those of any
 * window, and then join; and a late event that bridges two sessions makes them one. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/groups.h"
#include "core/windows/kinds.h"

/* --- the times of a pane: a measure that is not the view's --- */

/* Empty: least > greatest, the neutral element. */
struct session_bounds {
    int64_t least_us, greatest_us;
};

static void bounds_init(const struct measure *measure, void *state)
{
    (void)measure;
    *(struct session_bounds *)state = (struct session_bounds){INT64_MAX, INT64_MIN};
}

static void widen_bounds(struct session_bounds *bounds, int64_t least_us, int64_t greatest_us)
{
    bounds->least_us = least_us < bounds->least_us ? least_us : bounds->least_us;
    bounds->greatest_us = greatest_us > bounds->greatest_us ? greatest_us : bounds->greatest_us;
}

static enum status bounds_fold(const struct measure *measure, void *state,
                               const struct value *arguments, const struct measure_origin *origin,
                               struct arena *arena, struct error *error)
{
    (void)measure, (void)arguments, (void)arena, (void)error;
    widen_bounds(state, origin->time_us, origin->time_us);
    return STATUS_OK;
}

static enum status bounds_merge(const struct measure *measure, void *into, const void *from,
                                struct arena *arena, struct error *error)
{
    const struct session_bounds *other = from;
    (void)measure, (void)arena, (void)error;
    widen_bounds(into, other->least_us, other->greatest_us);
    return STATUS_OK;
}

static enum status bounds_encode(const struct measure *measure, const void *state,
                                 struct pgbinary_writer *writer, struct error *error)
{
    const struct session_bounds *bounds = state;
    (void)measure, (void)error;
    pgbinary_put_timestamp(writer, bounds->least_us);
    pgbinary_put_timestamp(writer, bounds->greatest_us);
    return STATUS_OK;
}

static enum status bounds_decode(const struct measure *measure, void *state,
                                 const struct pgbinary_field *fields, struct arena *arena,
                                 struct error *error)
{
    struct session_bounds *bounds = state;
    (void)measure, (void)arena;
    enum status status = pgbinary_get_event_time(&fields[0], &bounds->least_us, error);
    if (status == STATUS_OK)
        status = pgbinary_get_event_time(&fields[1], &bounds->greatest_us, error);
    if (status == STATUS_OK && bounds->least_us > bounds->greatest_us)
        status =
            error_set(error, STATUS_FATAL, "stored state: a session that ends before it starts");
    return status;
}

static const struct measure_kind bounds_kind = {
    .name = "_session",
    .init = bounds_init,
    .fold = bounds_fold,
    .merge = bounds_merge,
    .encode = bounds_encode,
    .decode = bounds_decode,
};

static const struct measure bounds_measure = {
    .kind = &bounds_kind,
    .state_bytes = sizeof(struct session_bounds),
    .columns = {{.suffix = "least", .oid = PG_OID_TIMESTAMPTZ, .sql_type = "timestamptz"},
                {.suffix = "greatest", .oid = PG_OID_TIMESTAMPTZ, .sql_type = "timestamptz"}},
    .column_count = 2,
    .plain_field = SIZE_MAX,
};

/* The hidden measure stands behind those of the view. */
static const struct session_bounds *bounds_of(const struct view *view, const struct group *group)
{
    return (const void *)(group_state(group) + view->state_offsets[view->measure_count]);
}

/* --- panes --- */

static int64_t session_pane_start(const struct window *window, int64_t time_us)
{
    return window_floor(time_us, window->size_us);
}

static int64_t session_pane_end(const struct window *window, int64_t start_us)
{
    return start_us + window->size_us;
}

/* A session that starts at or after `from` has no pane before that of `from`; and whether an event
 * after `from` starts one depends on the times less than `gap` before it, which lie in its pane or
 * in the one before. So one pane more suffices: what it cuts off an older session leaves a session
 * that still starts before `from`. How long a session goes on after `to` is not known. */
static void session_widen(const struct window *window, struct window_range *range)
{
    if (range->has_from)
        range->from_us = window_floor(range->from_us, window->size_us) - window->size_us;
    range->has_to = false;
}

/* --- panes into sessions --- */

static int compare_panes(const void *left, const void *right)
{
    const struct group *a = *(const struct group *const *)left;
    const struct group *b = *(const struct group *const *)right;
    if (a->key_length != b->key_length)
        return a->key_length < b->key_length ? -1 : 1;
    int order = memcmp(a->key, b->key, a->key_length);
    return order != 0 ? order
                      : (a->window_start_us > b->window_start_us) -
                            (a->window_start_us < b->window_start_us);
}

/* Does `pane` go on with the session whose last pane is `last`? */
static bool joins(const struct view *view, const struct group *last, const struct group *pane)
{
    return last->key_length == pane->key_length &&
           memcmp(last->key, pane->key, pane->key_length) == 0 &&
           bounds_of(view, pane)->least_us - bounds_of(view, last)->greatest_us <
               view->window.size_us;
}

static enum status add_session(const struct view *view, const struct window_range *range,
                               struct group *const *panes, size_t count, struct groups *windows,
                               struct error *error)
{
    int64_t start_us = bounds_of(view, panes[0])->least_us;
    struct group *into;
    if ((range->has_from && start_us < range->from_us) ||
        (range->has_to && start_us >= range->to_us))
        return STATUS_OK;
    enum status status =
        groups_find_or_add(windows, start_us, panes[0]->key, panes[0]->key_length, &into, error);
    for (size_t i = 0; status == STATUS_OK && i < count; i++)
        status = groups_merge_states(windows, into, group_state(panes[i]), error);
    return status;
}

static enum status session_combine(const struct view *view, const struct window_range *range,
                                   const struct groups *panes, size_t memory_bytes,
                                   struct groups *windows, struct error *error)
{
    struct group **sorted = NULL;
    size_t count = groups_count(panes);
    enum status status = groups_sorted(panes, &sorted, error);
    if (status != STATUS_OK)
        return status;
    qsort(sorted, count, sizeof(struct group *), compare_panes);
    for (size_t first = 0, next; first < count && status == STATUS_OK; first = next) {
        for (next = first + 1; next < count && joins(view, sorted[next - 1], sorted[next]);)
            next++;
        status = add_session(view, range, sorted + first, next - first, windows, error);
        if (groups_memory_bytes(windows) > memory_bytes)
            break;
    }
    free(sorted);
    return status;
}

static void session_bounds(const struct view *view, const struct group *group, int64_t *start_us,
                           int64_t *end_us)
{
    const struct session_bounds *bounds = bounds_of(view, group);
    *start_us = bounds->least_us;
    *end_us = bounds->greatest_us + view->window.size_us;
}

/* --- SQL --- */

static void session_put_end(const struct window *window, FILE *out)
{
    fprintf(out, "max(u.\"_session$greatest\") + interval '%" PRId64 " microseconds'",
            window->size_us);
}

static void put_partition(const struct view *view, FILE *out)
{
    for (size_t i = 0; i < view->key_count; i++)
        fprintf(out, "%s\"%s\"", i == 0 ? "PARTITION BY " : ", ", view->keys[i].name);
    fputs(" ORDER BY \"_session$least\"", out);
}

/* Gaps and islands over the stored rows, which may be several for a pane: a row begins a session
 * where no earlier one reaches to less than `gap` before it. Of rows with equal least times one
 * does at most; counting by RANGE gives them all the same number. */
static void session_put_rows(const struct view *view, const char *visible, FILE *out)
{
    fputs("    SELECT s.*, pg_catalog.sum(s._begins) OVER (", out);
    put_partition(view, out);
    fprintf(out, ") AS _session\n"
                 "    FROM (\n"
                 "        SELECT r.*, CASE WHEN r.\"_session$least\" <\n"
                 "            pg_catalog.max(r.\"_session$greatest\") OVER (");
    put_partition(view, out);
    fprintf(out,
            "\n"
            "                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)\n"
            "            + interval '%" PRId64 " microseconds' THEN 0 ELSE 1 END AS _begins\n"
            "        FROM (\n%s        ) AS r\n    ) AS s\n",
            view->window.size_us, visible);
}

const struct window_kind window_session = {
    .type = WINDOW_SESSION,
    .pane_start = session_pane_start,
    .pane_end = session_pane_end,
    .hidden = &bounds_measure,
    .widen = session_widen,
    .combine = session_combine,
    .bounds = session_bounds,
    .sql_group = "u._session",
    .sql_start = "min(u.\"_session$least\")",
    .put_end = session_put_end,
    .put_rows = session_put_rows,
};
