/* Rows of states into groups, as they arrive.
 *
 * Invariant: what is held does not grow with what is read beyond what the answer may have. Where
 * the order is one of window and keys, only the first groups are kept: a group that is forgotten
 * has `keep_first` others before it, and their places are never given up, so that rows of it that
 * come later (it would then be incomplete) stay behind them, too. Where every group is a row, one
 * group more than rows are allowed ends the query. Everything else is bounded in bytes,
 * for all queries of a server together. */
#include "core/query/query_internal.h"

#include <stdio.h>

#include "core/time/timestamp.h"

/* Reached only by answers that nobody reads. */
#define DEFAULT_MEMORY_BYTES (INT64_C(512) << 20)

enum { KEEP_SLACK = 1024 }; /* forgetting is for many groups at a time */

static enum status straddles(const struct query_plan *plan, int64_t start_us, struct error *error)
{
    char start[TIMESTAMP_TEXT_SIZE];
    timestamp_format(start_us, start, sizeof start);
    return error_set(error, STATUS_REJECT,
                     "granularity: the view's window from %s does not lie within one of these in "
                     "%s; restrict the query by time, or ask for a granularity that fits",
                     start, plan->shape.window.zone->name);
}

/* Puts the start of the answer's window in the place of the row's own. `start` is its storage. */
static enum status map_window(const struct query_plan *plan, struct pgbinary_field *field,
                              uint8_t start[8], struct error *error)
{
    int64_t us = 0;
    if (!plan->window_is_all) {
        enum status status = window_read_start(field, &us, error);
        if (status != STATUS_OK)
            return status;
        if (plan->window_may_straddle &&
            !window_is_within(&plan->view->window, &plan->shape.window, us))
            return straddles(plan, us, error);
        us = window_pane_start(&plan->shape.window, us);
    }
    uint64_t postgres_us = (uint64_t)timestamp_to_postgres(us);
    for (int i = 0; i < 8; i++)
        start[i] = (uint8_t)(postgres_us >> (56 - 8 * i));
    *field = (struct pgbinary_field){.data = start, .length = 8};
    return STATUS_OK;
}

static enum status merge_row(struct query_reader *reader, const PGresult *result, int row,
                             int column, enum query_layer layer, struct error *error)
{
    const struct query_plan *plan = reader->plan;
    uint8_t start[8];
    for (size_t i = 0; i < reader->field_count; i++)
        reader->fields[i] = postgres_field(result, row, column + (int)i);
    if (plan->window_is_all || plan->window_is_coarser) {
        enum status status = map_window(plan, &reader->fields[0], start, error);
        if (status != STATUS_OK)
            return status;
    }
    enum status status = groups_merge_row(reader->answer->groups, reader->fields, NULL, error);
    if (status == STATUS_OK && reader->shares[layer - QUERY_BATCH] != NULL)
        status = groups_merge_row(reader->shares[layer - QUERY_BATCH], reader->fields, NULL, error);
    return status;
}

/* --- bounds --- */

static size_t memory_limit(const struct query_reader *reader)
{
    const struct query_budget *budget = reader->request->budget;
    return budget != NULL ? budget->limit_bytes : (size_t)DEFAULT_MEMORY_BYTES;
}

/* Takes what is missing up to `bytes` from the budget. */
static enum status reserve(const struct query_reader *reader, size_t bytes, struct error *error)
{
    struct query_budget *budget = reader->request->budget;
    struct query_answer *answer = reader->answer;
    if (budget == NULL || bytes <= answer->reserved_bytes)
        return STATUS_OK;
    size_t more = bytes - answer->reserved_bytes;
    if (query_budget_take(budget, more)) {
        answer->reserved_bytes = bytes;
        return STATUS_OK;
    }
    (void)error_set(error, STATUS_RETRY,
                    "other queries use the memory for groups; this one needs %zu MiB so far",
                    bytes >> 20);
    if (error != NULL) /* program_limit_exceeded: no other attempt of the server's own */
        snprintf(error->sqlstate, sizeof error->sqlstate, "54000");
    return STATUS_RETRY;
}

static enum status check_memory(const struct query_reader *reader, const struct groups *windows,
                                struct error *error)
{
    size_t limit = memory_limit(reader);
    size_t bytes = groups_memory_bytes(reader->answer->groups);
    if (windows != NULL)
        bytes += groups_memory_bytes(windows);
    for (int i = 0; i < QUERY_LAYERS; i++)
        if (reader->shares[i] != NULL)
            bytes += groups_memory_bytes(reader->shares[i]);
    if (bytes <= limit)
        return reserve(reader, bytes, error);
    return error_set(error, STATUS_REJECT,
                     "limit: the query needs more than %zu MiB for its groups; restrict it by "
                     "time or key, or ask for a coarser granularity",
                     limit >> 20);
}

enum status query_too_many_rows(const struct query_request *request, struct error *error)
{
    return error_set(error, STATUS_REJECT,
                     "limit: the answer has more than %lld rows; restrict it by time or key, ask "
                     "for a coarser granularity, or set a limit",
                     (long long)request->row_limit);
}

/* Puts a copy of `from` that has only the groups `kept` in the place of it. */
static enum status forget_others(const struct view *shape, const struct query_candidate *kept,
                                 size_t count, struct groups **from, struct error *error)
{
    struct groups *fewer = NULL;
    enum status status = groups_create(shape, &fewer, error);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        const struct group *key = kept[i].group;
        const struct group *group =
            groups_find(*from, key->window_start_us, key->key, key->key_length);
        struct group *copy = NULL;
        if (group == NULL)
            continue;
        status = groups_find_or_add(fewer, key->window_start_us, key->key, key->key_length, &copy,
                                    error);
        if (status == STATUS_OK)
            status = groups_merge_states(fewer, copy, group_state(group), error);
    }
    if (status != STATUS_OK) {
        groups_destroy(fewer);
        return status;
    }
    groups_destroy(*from);
    *from = fewer;
    return STATUS_OK;
}

static enum status keep_first(struct query_reader *reader, struct error *error)
{
    const struct query_plan *plan = reader->plan;
    struct query_candidate *kept = NULL;
    size_t count = 0;
    struct arena arena;
    arena_init(&arena);
    enum status status = query_first_groups(plan, reader->answer->groups, plan->keep_first, &arena,
                                            &kept, &count, error);
    /* The shares first: `kept` points into the answer's groups. */
    for (int i = 0; i < QUERY_LAYERS && status == STATUS_OK; i++)
        if (reader->shares[i] != NULL)
            status = forget_others(&plan->shape, kept, count, &reader->shares[i], error);
    if (status == STATUS_OK)
        status = forget_others(&plan->shape, kept, count, &reader->answer->groups, error);
    arena_deinit(&arena);
    return status;
}

/* After each row. */
static enum status check_bounds(struct query_reader *reader, struct error *error)
{
    const struct query_plan *plan = reader->plan;
    size_t count = groups_count(reader->answer->groups);
    struct query_explain *explain = &reader->answer->explain;
    if (count > explain->groups_held)
        explain->groups_held = count;
    if (plan->refuse_above > 0 && count > plan->refuse_above)
        return query_too_many_rows(reader->request, error);
    enum status status = STATUS_OK;
    if (plan->keep_first > 0 && count > 2 * plan->keep_first + KEEP_SLACK)
        status = keep_first(reader, error);
    return status == STATUS_OK ? check_memory(reader, NULL, error) : status;
}

/* --- the whole --- */

enum status query_merge_row(struct query_reader *reader, const PGresult *result, int row,
                            int column, enum query_layer layer, struct error *error)
{
    if (layer == QUERY_BATCH)
        reader->answer->batch_rows_read++;
    else
        reader->answer->speed_rows_read++;
    enum status status = merge_row(reader, result, row, column, layer, error);
    return status == STATUS_OK ? check_bounds(reader, error) : status;
}

enum status query_merge_rows(struct query_reader *reader, const PGresult *result,
                             enum query_layer layer, struct error *error)
{
    int rows = PQntuples(result);
    if ((size_t)PQnfields(result) != reader->field_count)
        return error_set(error, STATUS_FATAL, "a table of states has other columns than its view");
    enum status status = STATUS_OK;
    for (int row = 0; row < rows && status == STATUS_OK; row++)
        status = query_merge_row(reader, result, row, 0, layer, error);
    return status;
}

static enum status combine(struct query_reader *reader, struct groups **panes, struct error *error)
{
    const struct view *shape = &reader->plan->shape;
    struct groups *windows = NULL;
    enum status status = groups_create(shape, &windows, error);
    if (status == STATUS_OK)
        status = shape->window.kind->combine(shape, &reader->plan->range, *panes,
                                             memory_limit(reader), windows, error);
    if (status == STATUS_OK)
        status = check_memory(reader, windows, error);
    if (status != STATUS_OK) {
        groups_destroy(windows);
        return status;
    }
    groups_destroy(*panes);
    *panes = windows;
    return STATUS_OK;
}

enum status query_merge_finish(struct query_reader *reader, struct error *error)
{
    if (reader->plan->shape.window.kind->combine == NULL)
        return STATUS_OK;
    enum status status = combine(reader, &reader->answer->groups, error);
    for (int i = 0; i < QUERY_LAYERS && status == STATUS_OK; i++)
        if (reader->shares[i] != NULL)
            status = combine(reader, &reader->shares[i], error);
    return status;
}
