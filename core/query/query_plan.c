/* From a request's texts to a checked plan and its two statements.
 *
 * Invariant: the text of a statement has nothing from the request in it. Names come from the
 * registered definition, values go as typed parameters, so that the same question with other values
 * is the same prepared statement and `key = $n` can use the index on that key. Looked-up columns
 * are joined in these same statements, so they are of the same snapshot as the states. Pure; any
 * thread.
 */
#include "core/query/query_plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/catalog/catalog_lookup.h"
#include "core/time/timestamp.h"
#include "core/base/utf8.h"

/* --- names --- */

/* A key or a looked-up column. */
static bool find_key(const struct view *view, const char *name, size_t *index)
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

/* "origin, destination", cut where it is long. */
static void list_keys(const struct view *view, char *text, size_t size)
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

/* A name from a request, short enough and printable enough for an error text. */
static const char *shown(const char *name, char *buffer, size_t size)
{
    snprintf(buffer, size, "%s", name);
    for (char *c = buffer; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7F)
            *c = '?';
    return buffer;
}

static void join(struct query_plan *plan, const struct view_key *key)
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
        if (!all && !find_key(view, request->group_by[i], &index)) {
            list_keys(view, list, sizeof list);
            return error_set(error, STATUS_REJECT, "group_by: no key \"%s\"; the keys are: %s",
                             shown(request->group_by[i], name, sizeof name), list);
        }
        if (repeated(plan->keys, i, index))
            return error_set(error, STATUS_REJECT, "group_by: \"%s\" occurs twice",
                             view->keys[index].name);
        plan->keys[i] = index;
        plan->shape.keys[i] = view->keys[index];
        join(plan, &view->keys[index]);
    }
    plan->shape.key_count = count;
    return STATUS_OK;
}

static enum status choose_measures(struct query_plan *plan, const struct query_request *request,
                                   struct arena *arena, struct error *error)
{
    const struct view *view = plan->view;
    bool all = request->measures == NULL;
    size_t count = all ? view->measure_count : request->measure_count;
    if (count > view->measure_count)
        return error_set(error, STATUS_REJECT, "measures: more names than the view has measures");
    struct view *shape = &plan->shape;
    plan->measures = arena_alloc(arena, count * sizeof *plan->measures);
    shape->measures = arena_alloc(arena, (count + 1) * sizeof *shape->measures);
    shape->state_offsets = arena_alloc(arena, (count + 1) * sizeof *shape->state_offsets);
    if (plan->measures == NULL || shape->measures == NULL || shape->state_offsets == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < count; i++) {
        size_t index = i;
        char list[512];
        char name[64];
        if (!all && !find_measure(view, request->measures[i], &index)) {
            list_measures(view, list, sizeof list);
            return error_set(error, STATUS_REJECT,
                             "measures: no measure \"%s\"; the measures are: %s",
                             shown(request->measures[i], name, sizeof name), list);
        }
        if (repeated(plan->measures, i, index))
            return error_set(error, STATUS_REJECT, "measures: \"%s\" occurs twice",
                             view->measures[index].name);
        plan->measures[i] = index;
        shape->measures[i] = view->measures[index];
        shape->state_offsets[i] = shape->state_bytes;
        /* States are aligned to 16. */
        shape->state_bytes += (view->measures[index].measure->state_bytes + 15) & ~(size_t)15;
    }
    shape->measure_count = count;
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
    else if (find_key(&plan->shape, order->column, &sort->index))
        sort->column = QUERY_KEY;
    else if (find_measure(&plan->shape, order->column, &sort->index))
        sort->column = QUERY_MEASURE;
    else {
        char keys[300];
        char measures[400];
        char name[64];
        list_keys(&plan->shape, keys, sizeof keys);
        list_measures(&plan->shape, measures, sizeof measures);
        return error_set(error, STATUS_REJECT,
                         "order: no column \"%s\" in the answer; its columns are: window_start, "
                         "window_end; keys %s; measures %s",
                         shown(order->column, name, sizeof name), keys, measures);
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
    return STATUS_OK;
}

/* --- parameters and conditions --- */

static enum status add_parameter(struct query_plan *plan, const struct value *value,
                                 struct arena *arena, struct error *error)
{
    struct query_parameters *parameters = &plan->parameters;
    struct pgbinary_writer writer;
    pgbinary_writer_init(&writer);
    pgbinary_put_value(&writer, value);
    enum status status = pgbinary_writer_check(&writer, error);
    if (status == STATUS_OK) {
        size_t length = writer.length - 4; /* the length word is libpq's to write */
        char *copy = arena_copy(arena, writer.data + 4, length);
        if (copy == NULL)
            status = error_no_memory(error);
        parameters->types[parameters->count] = value_type_oid(value->type);
        parameters->values[parameters->count] = copy;
        parameters->lengths[parameters->count] = (int)length;
        parameters->formats[parameters->count] = 1;
        parameters->count++;
    }
    pgbinary_writer_deinit(&writer);
    return status;
}

static enum status add_time(struct query_plan *plan, FILE *sql, const char *comparison, int64_t us,
                            struct arena *arena, struct error *error)
{
    struct value value = value_timestamp(us);
    enum status status = add_parameter(plan, &value, arena, error);
    fprintf(sql, " AND t.window_start %s $%d", comparison, plan->parameters.count);
    return status;
}

static enum status add_filter(struct query_plan *plan, FILE *sql, const struct view_key *key,
                              const char *text, struct arena *arena, struct error *error)
{
    char row[8] = "t";
    if (key->lookup != NULL)
        snprintf(row, sizeof row, "l%zu", key->lookup->number);
    join(plan, key);
    if (text == NULL) {
        fprintf(sql, " AND %s.\"%s\" IS NULL", row, key->name);
        return STATUS_OK;
    }
    struct value value;
    size_t length = strlen(text);
    enum status status;
    if (!utf8_is_text(text, length))
        status = error_set(error, STATUS_REJECT, "is not valid UTF-8");
    else
        status = value_parse(key->type, text, length, &value, error);
    if (status == STATUS_REJECT)
        return error_wrap(error, "%s", key->name);
    if (status == STATUS_OK)
        status = add_parameter(plan, &value, arena, error);
    fprintf(sql, " AND %s.\"%s\" = $%d", row, key->name, plan->parameters.count);
    return status;
}

/* By the view's keys, not by the request's order: fewer different statements. */
static enum status add_filters(struct query_plan *plan, const struct query_request *request,
                               FILE *sql, struct arena *arena, struct error *error)
{
    const struct view *view = plan->view;
    for (size_t i = 0; i < request->filter_count; i++) {
        size_t index;
        char name[64];
        char list[512];
        if (find_key(view, request->filters[i].key, &index))
            continue;
        list_keys(view, list, sizeof list);
        return error_set(error, STATUS_REJECT, "%s: the view has no such key; its keys are: %s",
                         shown(request->filters[i].key, name, sizeof name), list);
    }
    for (size_t k = 0; k < view->key_count + view->looked_up_count; k++) {
        bool seen = false;
        for (size_t i = 0; i < request->filter_count; i++) {
            const struct query_filter *filter = &request->filters[i];
            if (strcmp(filter->key, view->keys[k].name) != 0)
                continue;
            if (seen)
                return error_set(error, STATUS_REJECT, "%s: is restricted twice", filter->key);
            seen = true;
            enum status status = add_filter(plan, sql, &view->keys[k], filter->text, arena, error);
            if (status != STATUS_OK)
                return status;
        }
    }
    return STATUS_OK;
}

static enum status write_conditions(struct query_plan *plan, const struct query_request *request,
                                    FILE *sql, struct arena *arena, struct error *error)
{
    const struct window *own = &plan->view->window;
    struct window_range panes = plan->range;
    enum status status = STATUS_OK;
    if (own->kind->widen != NULL)
        own->kind->widen(own, &panes);
    if (panes.has_from)
        status = add_time(plan, sql, ">=", panes.from_us, arena, error);
    if (status == STATUS_OK && panes.has_to)
        status = add_time(plan, sql, "<", panes.to_us, arena, error);
    if (status == STATUS_OK)
        status = add_filters(plan, request, sql, arena, error);
    return status;
}

/* "= $n", "IS NULL" and the window's range; fills plan->parameters. *out is in the arena. */
static enum status make_conditions(struct query_plan *plan, const struct query_request *request,
                                   struct arena *arena, const char **out, struct error *error)
{
    char *text = NULL;
    size_t length = 0;
    FILE *sql = open_memstream(&text, &length);
    if (sql == NULL)
        return error_no_memory(error);
    enum status status = write_conditions(plan, request, sql, arena, error);
    if (fclose(sql) != 0 && status == STATUS_OK)
        status = error_no_memory(error);
    if (status == STATUS_OK) {
        *out = arena_copy(arena, text, length);
        if (*out == NULL)
            status = error_no_memory(error);
    }
    free(text);
    return status;
}

/* --- statements --- */

static const char *in_arena(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static const char *in_arena(struct arena *arena, const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0)
        return NULL;
    const char *copy = arena_copy(arena, text, (size_t)length);
    free(text);
    return copy;
}

/* The reference tables of the query, joined to a row of states "t". Caller frees; NULL when out of
 * memory. */
static char *make_joins(const struct query_plan *plan, int version)
{
    char *text = NULL;
    size_t length = 0;
    FILE *sql = open_memstream(&text, &length);
    if (sql == NULL)
        return NULL;
    for (size_t i = 0; i < plan->view->lookup_count; i++)
        if (plan->joins[i])
            catalog_lookup_put_join(sql, plan->view, &plan->view->lookups[i], version, "t");
    if (fclose(sql) == 0)
        return text;
    free(text);
    return NULL;
}

static enum status make_statements(struct query_plan *plan, const struct catalog_version *version,
                                   enum query_layer layer, const char *conditions,
                                   struct arena *arena, struct error *error)
{
    char table[CATALOG_NAME_BYTES];
    char *joins = make_joins(plan, version->version);
    char *columns = catalog_state_columns(&plan->shape, "t.");
    if (columns == NULL || joins == NULL) {
        free(columns);
        free(joins);
        return error_no_memory(error);
    }
    if (layer != QUERY_SPEED) {
        catalog_batch_table(version->version, table);
        plan->batch_sql =
            in_arena(arena,
                     "SELECT %s FROM %s t%s"
                     " WHERE t._run_from <= (SELECT run FROM dovetail_internal.current_run)"
                     " AND t._run_to > (SELECT run FROM dovetail_internal.current_run)%s",
                     columns, table, joins, conditions);
    }
    if (layer != QUERY_BATCH) {
        catalog_speed_table(version->version, table);
        plan->speed_sql = in_arena(arena,
                                   "SELECT %s FROM dovetail_internal.position p"
                                   " LEFT JOIN dovetail_internal.run_cutoff c ON c.topic = p.topic"
                                   " AND c.partition = p.partition"
                                   " AND c.run = (SELECT run FROM dovetail_internal.current_run)"
                                   " JOIN %s t ON t._partition = p.partition"
                                   " AND t._slice_start >= coalesce(c.next_offset, p.base_offset)"
                                   "%s WHERE p.topic = $%d%s",
                                   columns, table, joins, plan->parameters.count + 1, conditions);
    }
    free(columns);
    free(joins);
    if ((layer != QUERY_SPEED && plan->batch_sql == NULL) ||
        (layer != QUERY_BATCH && plan->speed_sql == NULL))
        return error_no_memory(error);
    return STATUS_OK;
}

enum status query_plan_make(const struct catalog_version *version,
                            const struct query_request *request, struct arena *arena,
                            struct query_plan *out, struct error *error)
{
    const struct view *view = version->view;
    *out = (struct query_plan){.view = view};
    out->shape = (struct view){.name = view->name, .source = view->source};
    const char *conditions = "";
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
        status = choose_order(out, request, arena, error);
    if (status == STATUS_OK)
        status = make_conditions(out, request, arena, &conditions, error);
    if (status == STATUS_OK)
        status = make_statements(out, version, request->layer, conditions, arena, error);
    if (status == STATUS_OK) {
        struct value topic = value_string(view->source->topic, strlen(view->source->topic));
        status = add_parameter(out, &topic, arena, error);
        out->parameters.count--; /* the statement of the batch rows goes without it */
    }
    return status;
}
