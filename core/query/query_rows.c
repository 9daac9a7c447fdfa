/* From groups to rows: results, having, order, limit.
 *
 * Where the order needs no results, the groups are put in order first and only those of the answer
 * are finished: a result that cannot be read (a set beyond its limit) fails the answer only where
 * it is shown. Otherwise every group is finished, into slots that are used again: no more than
 * about twice the limit are held. Pure; one thread. */
#include "core/query/query_internal.h"

enum { SLOT_SLACK = 1024 };

/* --- one row --- */

/* The answer's window of a row, and whether more may come into it. */
static void set_window(const struct query_plan *plan, const struct query_answer *answer,
                       const struct group *group, struct query_row *row)
{
    const struct query_receipt *receipt = &answer->receipt;
    const struct window_range *range = &plan->range;
    int64_t closed_us = 0; /* from here on nothing of this row is to be expected */
    query_group_window(plan, group, &row->window_start_us, &row->window_end_us);
    if (!plan->window_is_all) {
        closed_us = row->window_end_us;
    } else if (range->has_to) {
        /* The last window that starts before `to`. */
        const struct window *own = &plan->view->window;
        closed_us = window_pane_end(own, window_pane_start(own, range->to_us - 1));
    }
    bool open = !answer->has_end;
    row->provisional = open || !receipt->has_watermark || closed_us > receipt->watermark_us;
}

/* Storage of a row; its results are those of the whole shape. */
static enum status slot_init(const struct view *shape, struct arena *arena, struct query_row *row,
                             struct error *error)
{
    *row = (struct query_row){
        .keys = arena_alloc(arena, shape->key_count * sizeof *row->keys),
        .results = arena_alloc(arena, shape->measure_count * sizeof *row->results),
        .wide_texts = arena_alloc(arena, shape->measure_count * sizeof *row->wide_texts),
    };
    return row->keys == NULL || row->results == NULL || row->wide_texts == NULL
               ? error_no_memory(error)
               : STATUS_OK;
}

static enum status finish_measures(const struct view *shape, const struct group *group,
                                   struct arena *arena, struct value *results,
                                   const char **wide_texts, struct error *error)
{
    for (size_t i = 0; i < shape->measure_count; i++) {
        const struct measure *measure = shape->measures[i].measure;
        wide_texts[i] = NULL;
        enum status status =
            measure->kind->finish(measure, group_state(group) + shape->state_offsets[i], arena,
                                  &results[i], &wide_texts[i], error);
        if (status != STATUS_OK)
            return error_wrap(error, "measure \"%s\"", shape->measures[i].name);
    }
    return STATUS_OK;
}

static enum status finish_row(const struct query_reader *reader, const struct group *group,
                              struct query_row *row, struct error *error)
{
    const struct query_plan *plan = reader->plan;
    row->group = group;
    set_window(plan, reader->answer, group, row);
    group_keys(&plan->shape, group, row->keys);
    return finish_measures(&plan->shape, group, &reader->answer->arena, row->results,
                           row->wide_texts, error);
}

/* --- in the order of groups --- */

static enum status rows_of_groups(struct query_reader *reader, size_t most, struct error *error)
{
    const struct query_plan *plan = reader->plan;
    const struct query_request *request = reader->request;
    struct query_answer *answer = reader->answer;
    struct query_candidate *first = NULL;
    size_t count = 0;
    struct arena arena;
    arena_init(&arena);
    enum status status =
        query_first_groups(plan, answer->groups, most + 1, &arena, &first, &count, error);
    answer->has_more = count > most;
    if (status == STATUS_OK && answer->has_more && request->limit <= 0)
        status = query_too_many_rows(request, error);
    if (answer->has_more)
        count = most;
    if (status == STATUS_OK) {
        answer->rows = arena_alloc(&answer->arena, count * sizeof *answer->rows);
        if (answer->rows == NULL)
            status = error_no_memory(error);
    }
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        struct query_row *row = &answer->rows[i];
        status = slot_init(&plan->shape, &answer->arena, row, error);
        if (status == STATUS_OK)
            status = finish_row(reader, first[i].group, row, error);
        answer->row_count = i + 1;
    }
    arena_deinit(&arena);
    return status;
}

/* --- in an order of results --- */

struct slots {
    struct query_row *rows;
    size_t count;    /* in use, from the first on */
    size_t made;     /* that have storage */
    size_t capacity; /* of `rows` */
};

static enum status slots_init(struct slots *slots, size_t group_count, size_t most,
                              struct arena *arena, struct error *error)
{
    size_t enough = most < SIZE_MAX / 4 ? 2 * (most + 1) + SLOT_SLACK : SIZE_MAX;
    *slots = (struct slots){.capacity = enough < group_count ? enough : group_count};
    slots->rows = arena_alloc(arena, (slots->capacity + 1) * sizeof *slots->rows);
    return slots->rows == NULL ? error_no_memory(error) : STATUS_OK;
}

static bool belongs(const struct query_plan *plan, const struct query_row *row)
{
    return query_passes_having(plan, row) &&
           (!plan->has_after || query_compare_rows(plan, row, &plan->after) > 0);
}

/* The first `most` + 1 of those that are in use stay. */
static void cut_slots(const struct query_plan *plan, struct slots *slots, size_t most)
{
    query_sort_rows(plan, slots->rows, slots->count);
    if (slots->count > most)
        slots->count = most + 1;
}

static enum status rows_of_results(struct query_reader *reader, size_t most, struct error *error)
{
    const struct query_plan *plan = reader->plan;
    struct query_answer *answer = reader->answer;
    struct slots slots;
    struct groups_cursor cursor = {0};
    enum status status =
        slots_init(&slots, groups_count(answer->groups), most, &answer->arena, error);
    for (struct group *group;
         status == STATUS_OK && (group = groups_next(answer->groups, &cursor)) != NULL;) {
        if (slots.count == slots.capacity)
            cut_slots(plan, &slots, most);
        struct query_row *row = &slots.rows[slots.count];
        if (slots.count == slots.made) {
            status = slot_init(&plan->shape, &answer->arena, row, error);
            slots.made++;
        }
        if (status == STATUS_OK)
            status = finish_row(reader, group, row, error);
        if (status == STATUS_OK && belongs(plan, row))
            slots.count++;
        if (status == STATUS_OK && reader->request->limit <= 0 && slots.count > most)
            status = query_too_many_rows(reader->request, error);
    }
    if (status != STATUS_OK)
        return status;
    cut_slots(plan, &slots, most);
    answer->has_more = slots.count > most;
    answer->rows = slots.rows;
    answer->row_count = answer->has_more ? most : slots.count;
    return STATUS_OK;
}

/* --- what each layer gave --- */

static enum status add_share(const struct query_reader *reader, const struct groups *groups,
                             const struct group *of, struct query_share *share, struct error *error)
{
    const struct view *shape = &reader->plan->shape;
    struct arena *arena = &reader->answer->arena;
    const struct group *group = groups_find(groups, of->window_start_us, of->key, of->key_length);
    *share = (struct query_share){0};
    if (group == NULL)
        return STATUS_OK;
    share->results = arena_alloc(arena, shape->measure_count * sizeof *share->results);
    share->wide_texts = arena_alloc(arena, shape->measure_count * sizeof *share->wide_texts);
    if (share->results == NULL || share->wide_texts == NULL)
        return error_no_memory(error);
    return finish_measures(shape, group, arena, share->results, share->wide_texts, error);
}

static enum status explain_rows(struct query_reader *reader, struct error *error)
{
    struct query_answer *answer = reader->answer;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < answer->row_count && status == STATUS_OK; i++) {
        struct query_row *row = &answer->rows[i];
        row->shares = arena_alloc(&answer->arena, QUERY_LAYERS * sizeof *row->shares);
        if (row->shares == NULL)
            return error_no_memory(error);
        for (int layer = 0; layer < QUERY_LAYERS && status == STATUS_OK; layer++)
            status =
                add_share(reader, reader->shares[layer], row->group, &row->shares[layer], error);
    }
    return status;
}

/* --- the whole --- */

enum status query_rows_make(struct query_reader *reader, struct error *error)
{
    const struct query_plan *plan = reader->plan;
    const struct query_request *request = reader->request;
    uint64_t most = UINT64_MAX / 8;
    if (request->row_limit > 0 && (uint64_t)request->row_limit < most)
        most = (uint64_t)request->row_limit;
    bool is_limited = request->limit > 0 && (uint64_t)request->limit <= most;
    if (is_limited)
        most = (uint64_t)request->limit;
    struct query_request bounded = *request;
    if (!is_limited) /* a limit beyond what is allowed is none */
        bounded.limit = 0;
    reader->request = &bounded;
    enum status status = plan->order_is_of_groups && plan->having_count == 0
                             ? rows_of_groups(reader, (size_t)most, error)
                             : rows_of_results(reader, (size_t)most, error);
    if (status == STATUS_OK && reader->answer->explain.has_shares)
        status = explain_rows(reader, error);
    reader->request = request;
    return status;
}
