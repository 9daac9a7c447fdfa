/* From a request's texts to a checked plan: keys, windows, measures, order, bounds.
 *
 * Every name is looked up in the registered definition; what is at fault is told by the parameter's
 * name. Pure; any thread. */
#include "core/query/query_internal.h"

#include <stdio.h>
#include <string.h>

#include "core/time/timestamp.h"

/* --- names --- */

bool query_find_key(const struct view *view, const char *name, size_t *index)
{
    for (size_t i = 0; i < view->key_count + view->looked_up_count; i++) {
        if (strcmp(view->keys[i].name, name) == 0) {
            *index = i;
            return true;
        }
    }
    return false;
}

static bool find_measure(const struct view *view, const char *name, size_t *index)
{
    for (size_t i = 0; i < view->measure_count; i++) {
        if (strcmp(view->measures[i].name, name) == 0) {
            *index = i;
            return true;
        }
    }
    return false;
}

static void append(char *text, size_t size, const char *part)
{
    size_t length = strlen(text);
    if (length + 1 < size)
        snprintf(text + length, size - length, "%s", part);
}

void query_list_keys(const struct view *view, char *text, size_t size)
{
    size_t count = view->key_count + view->looked_up_count;
    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        append(text, size, i > 0 ? ", " : "");
        append(text, size, view->keys[i].name);
    }
    if (count == 0)
        append(text, size, "(none)");
}

static void list_measures(const struct view *view, char *text, size_t size)
{
    text[0] = '\0';
    for (size_t i = 0; i < view->measure_count; i++) {
        append(text, size, i > 0 ? ", " : "");
        append(text, size, view->measures[i].name);
    }
    if (view->measure_count == 0)
        append(text, size, "(none)");
}

const char *query_shown(const char *name, char *buffer, size_t size)
{
    snprintf(buffer, size, "%s", name);
    for (char *c = buffer; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7F)
            *c = '?';
    return buffer;
}

void query_join(struct query_plan *plan, const struct view_key *key)
{
    if (key->lookup != NULL)
        plan->joins[key->lookup->number - 1] = true;
}

static bool repeated(const size_t *indexes, size_t count, size_t index)
{
    for (size_t i = 0; i < count; i++)
        if (indexes[i] == index)
            return true;
    return false;
}

static enum status choose_keys(struct query_plan *plan, const struct query_request *request,
                               struct arena *arena, struct error *error)
{
    const struct view *view = plan->view;
    bool all = request->group_by == NULL;
    size_t column_count = view->key_count + view->looked_up_count;
    size_t count = all ? column_count : request->group_by_count;
    if (count > column_count)
        return error_set(error, STATUS_REJECT, "group_by: more names than the view has keys");
    plan->keys = arena_alloc(arena, count * sizeof *plan->keys);
    plan->shape.keys = arena_alloc(arena, count * sizeof *plan->shape.keys);
    if (plan->keys == NULL || plan->shape.keys == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < count; i++) {
        size_t index = i;
        char list[512];
        char name[64];
        if (!all && !query_find_key(view, request->group_by[i], &index)) {
            query_list_keys(view, list, sizeof list);
            return error_set(error, STATUS_REJECT, "group_by: no key \"%s\"; the keys are: %s",
                             query_shown(request->group_by[i], name, sizeof name), list);
        }
        if (repeated(plan->keys, i, index))
            return error_set(error, STATUS_REJECT, "group_by: \"%s\" occurs twice",
                             view->keys[index].name);
        plan->keys[i] = index;
        plan->shape.keys[i] = view->keys[index];
        query_join(plan, &view->keys[index]);
    }
    plan->shape.key_count = count;
    return STATUS_OK;
}

static enum status no_measure(const struct view *view, const char *parameter, const char *measure,
                              struct error *error)
{
    char list[512];
    char name[64];
    list_measures(view, list, sizeof list);
    return error_set(error, STATUS_REJECT, "%s: no measure \"%s\"; the measures are: %s", parameter,
                     query_shown(measure, name, sizeof name), list);
}

static void add_measure(struct query_plan *plan, size_t index)
{
    struct view *shape = &plan->shape;
    size_t at = shape->measure_count++;
    plan->measures[at] = index;
    shape->measures[at] = plan->view->measures[index];
    view_place_state(shape, at);
}

/* Those of the answer, then those that only `having` needs. */
static enum status choose_measures(struct query_plan *plan, const struct query_request *request,
                                   struct arena *arena, struct error *error)
{
    const struct view *view = plan->view;
    bool all = request->measures == NULL;
    size_t count = all ? view->measure_count : request->measure_count;
    if (count > view->measure_count)
        return error_set(error, STATUS_REJECT, "measures: more names than the view has measures");
    struct view *shape = &plan->shape;
    size_t room = view->measure_count + 1;
    plan->measures = arena_alloc(arena, room * sizeof *plan->measures);
    shape->measures = arena_alloc(arena, room * sizeof *shape->measures);
    shape->state_offsets = arena_alloc(arena, room * sizeof *shape->state_offsets);
    if (plan->measures == NULL || shape->measures == NULL || shape->state_offsets == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < count; i++) {
        size_t index = i;
        if (!all && !find_measure(view, request->measures[i], &index))
            return no_measure(view, "measures", request->measures[i], error);
        if (repeated(plan->measures, i, index))
            return error_set(error, STATUS_REJECT, "measures: \"%s\" occurs twice",
                             view->measures[index].name);
        add_measure(plan, index);
    }
    plan->answer_measure_count = count;
    for (size_t i = 0; i < request->having_count; i++) {
        size_t index;
        if (!find_measure(view, request->having[i].measure, &index))
            return no_measure(view, "having", request->having[i].measure, error);
        if (!repeated(plan->measures, shape->measure_count, index))
            add_measure(plan, index);
    }
    view_add_hidden_measure(shape);
    return STATUS_OK;
}

/* --- windows --- */

static enum status parse_time(const char *parameter, const char *text, int64_t *us,
                              struct error *error)
{
    switch (timestamp_parse_date_or_rfc3339(text, strlen(text), us)) {
    case TIMESTAMP_OK:
        return STATUS_OK;
    case TIMESTAMP_RANGE:
        return error_set(error, STATUS_REJECT, "%s: a time from year 1 to 9999 is expected",
                         parameter);
    case TIMESTAMP_SYNTAX:
        break;
    }
    return error_set(error, STATUS_REJECT,
                     "%s: a time such as 2024-05-01T00:00:00Z or a date such as 2024-05-01 is "
                     "expected",
                     parameter);
}

static enum status choose_range(struct query_plan *plan, const struct query_request *request,
                                struct error *error)
{
    struct window_range *range = &plan->range;
    enum status status = STATUS_OK;
    range->has_from = request->from != NULL;
    range->has_to = request->to != NULL;
    if (plan->view->window.kind->is_timeless && (range->has_from || range->has_to))
        return error_set(error, STATUS_REJECT, "%s: the view has no windows to choose from",
                         range->has_from ? "from" : "to");
    if (range->has_from)
        status = parse_time("from", request->from, &range->from_us, error);
    if (status == STATUS_OK && range->has_to)
        status = parse_time("to", request->to, &range->to_us, error);
    if (status == STATUS_OK && range->has_from && range->has_to && range->to_us < range->from_us)
        status = error_set(error, STATUS_REJECT, "to: lies before \"from\"");
    return status;
}

static enum status choose_window(struct query_plan *plan, const struct query_request *request,
                                 struct arena *arena, struct error *error)
{
    const struct window *own = &plan->view->window;
    enum window_nesting nesting;
    plan->shape.window = *own;
    if (request->granularity == NULL && request->timezone != NULL)
        return error_set(error, STATUS_REJECT, "timezone: wants a granularity, such as 1d");
    if (request->granularity == NULL)
        return STATUS_OK;
    enum status status = window_check_rollup(own, error);
    if (status != STATUS_OK)
        return status;
    plan->window_is_all = strcmp(request->granularity, "all") == 0;
    if (plan->window_is_all && request->timezone != NULL)
        return error_set(error, STATUS_REJECT, "timezone: has no meaning with granularity=all");
    if (plan->window_is_all)
        return STATUS_OK;
    plan->window_is_coarser = true;
    status = window_coarser(own, request->granularity, request->timezone, arena,
                            &plan->shape.window, &nesting, error);
    plan->window_may_straddle = status == STATUS_OK && nesting == WINDOW_NESTS_SOMETIMES;
    return status;
}

/* --- order --- */

static enum status choose_sort(const struct query_plan *plan, const struct query_order *order,
                               struct query_sort *sort, struct error *error)
{
    *sort = (struct query_sort){.descending = order->descending};
    if (strcmp(order->column, "window_start") == 0)
        sort->column = QUERY_WINDOW_START;
    else if (strcmp(order->column, "window_end") == 0)
        sort->column = QUERY_WINDOW_END;
    else if (query_find_key(&plan->shape, order->column, &sort->index))
        sort->column = QUERY_KEY;
    else if (find_measure(&plan->shape, order->column, &sort->index) &&
             sort->index < plan->answer_measure_count)
        sort->column = QUERY_MEASURE;
    else {
        char keys[300];
        char measures[400];
        char name[64];
        query_list_keys(&plan->shape, keys, sizeof keys);
        list_measures(&plan->shape, measures, sizeof measures);
        return error_set(error, STATUS_REJECT,
                         "order: no column \"%s\" in the answer; its columns are: window_start, "
                         "window_end; keys %s; measures %s",
                         query_shown(order->column, name, sizeof name), keys, measures);
    }
    return STATUS_OK;
}

static enum status choose_order(struct query_plan *plan, const struct query_request *request,
                                struct arena *arena, struct error *error)
{
    if (request->order_count > 2 + VIEW_KEY_MAX + VIEW_LOOKED_UP_MAX + VIEW_MEASURE_MAX)
        return error_set(error, STATUS_REJECT, "order: more names than the answer has columns");
    plan->order = arena_alloc(arena, request->order_count * sizeof *plan->order);
    if (plan->order == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < request->order_count; i++) {
        enum status status = choose_sort(plan, &request->order[i], &plan->order[i], error);
        if (status != STATUS_OK)
            return status;
    }
    plan->order_count = request->order_count;
    plan->order_is_of_groups = true;
    for (size_t i = 0; i < plan->order_count; i++)
        if (plan->order[i].column == QUERY_MEASURE)
            plan->order_is_of_groups = false;
    return STATUS_OK;
}

/* --- bounds --- */

/* Only where every group is a row of the answer is it known while merging how many there are. */
static void choose_bounds(struct query_plan *plan, const struct query_request *request)
{
    const int64_t most = INT64_MAX / 8;
    int64_t allowed =
        request->row_limit > 0 && request->row_limit < most ? request->row_limit : most;
    bool is_limited = request->limit > 0 && request->limit <= allowed;
    int64_t rows = is_limited ? request->limit : allowed;
    if (plan->having_count > 0 || plan->shape.window.kind->combine != NULL || rows == most)
        return;
    /* One more tells that there are more. */
    if (plan->order_is_of_groups && (is_limited || plan->has_after))
        plan->keep_first = (size_t)rows + 1;
    else if (!is_limited && !plan->has_after)
        plan->refuse_above = (size_t)rows;
}

enum status query_plan_make(const struct catalog_version *version,
                            const struct query_request *request, struct arena *arena,
                            struct query_plan *out, struct error *error)
{
    const struct view *view = version->view;
    *out = (struct query_plan){.view = view};
    out->shape = (struct view){.name = view->name, .source = view->source};
    if (request->limit < 0)
        return error_set(error, STATUS_REJECT, "limit: is negative");
    enum status status = choose_keys(out, request, arena, error);
    if (status == STATUS_OK)
        status = choose_window(out, request, arena, error);
    if (status == STATUS_OK) /* behind the window, which may have a hidden one */
        status = choose_measures(out, request, arena, error);
    if (status == STATUS_OK)
        status = choose_range(out, request, error);
    if (status == STATUS_OK)
        status = query_choose_having(out, request, arena, error);
    if (status == STATUS_OK)
        status = choose_order(out, request, arena, error);
    if (status == STATUS_OK && request->cursor != NULL)
        status = query_cursor_read(version, request, arena, out, error);
    if (status != STATUS_OK)
        return status;
    choose_bounds(out, request);
    out->batch_is_limited = query_batch_may_be_limited(out);
    return request->receipt_only ? STATUS_OK
                                 : query_make_conditions(out, request, arena, &out->parameters,
                                                         &out->conditions, error);
}
