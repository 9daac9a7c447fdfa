/* Restrictions on windows and keys, as SQL conditions on a row of states.
 *
 * Invariant: the text of a condition has nothing from the request in it. Names come from the
 * registered definition, values go as typed parameters, so that the same question with other values
 * is the same prepared statement and `key = $n` can use the index on that key. A restriction on
 * keys holds for a row of states exactly if it holds for its group. The scope is joined to the
 * request's own restrictions by AND, and is here or the query fails: nothing that a client sends is
 * looked at for it. Pure; any thread. */
#include "core/query/query_internal.h"

#include <string.h>

#include "core/base/utf8.h"
#include "core/query/query_text.h"

/* Conditions while they are written. */
struct conditions {
    struct query_plan *plan;
    struct query_parameters *parameters;
    struct query_text *sql;
    struct arena *arena;
};

/* --- parameters --- */

static enum status add_bytes(struct query_parameters *parameters, uint32_t type,
                             struct pgbinary_writer *writer, struct arena *arena,
                             struct error *error)
{
    enum status status = pgbinary_writer_check(writer, error);
    if (status != STATUS_OK)
        return status;
    size_t length = writer->length - 4; /* the length word is libpq's to write */
    char *copy = arena_copy(arena, writer->data + 4, length);
    if (copy == NULL)
        return error_no_memory(error);
    int index = parameters->count++;
    parameters->types[index] = type;
    parameters->values[index] = copy;
    parameters->lengths[index] = (int)length;
    parameters->formats[index] = 1;
    return STATUS_OK;
}

enum status query_add_parameter(struct query_parameters *parameters, const struct value *value,
                                struct arena *arena, struct error *error)
{
    struct pgbinary_writer writer;
    pgbinary_writer_init(&writer);
    pgbinary_put_value(&writer, value);
    enum status status = add_bytes(parameters, value_type_oid(value->type), &writer, arena, error);
    pgbinary_writer_deinit(&writer);
    return status;
}

static uint32_t array_oid(enum value_type type)
{
    static const uint32_t oids[] = {
        [VALUE_STRING] = PG_OID_TEXT_ARRAY,           [VALUE_INTEGER] = PG_OID_INT8_ARRAY,
        [VALUE_DECIMAL] = PG_OID_NUMERIC_ARRAY,       [VALUE_BOOLEAN] = PG_OID_BOOL_ARRAY,
        [VALUE_TIMESTAMP] = PG_OID_TIMESTAMPTZ_ARRAY,
    };
    return oids[type]; /* no key is a list */
}

static const char *filter_name(const struct query_filter *filter)
{
    return filter->name != NULL ? filter->name : filter->key;
}

/* A value of a key, from the request. */
static enum status parse_key(const struct view_key *key, const struct query_filter *filter,
                             const char *text, struct value *out, struct error *error)
{
    size_t length = strlen(text);
    enum status status = utf8_is_text(text, length)
                             ? value_parse(key->type, text, length, out, error)
                             : error_set(error, STATUS_REJECT, "is not valid UTF-8");
    return status == STATUS_REJECT ? error_wrap(error, "%s", filter_name(filter)) : status;
}

static enum status add_value(const struct conditions *in, const struct view_key *key,
                             const struct query_filter *filter, struct error *error)
{
    struct value value;
    enum status status = parse_key(key, filter, filter->texts[0], &value, error);
    return status == STATUS_OK ? query_add_parameter(in->parameters, &value, in->arena, error)
                               : status;
}

static enum status add_values(const struct conditions *in, const struct view_key *key,
                              const struct query_filter *filter, struct error *error)
{
    struct pgbinary_writer writer;
    enum status status = STATUS_OK;
    pgbinary_writer_init(&writer);
    size_t begun = pgbinary_array_begin(&writer, value_type_oid(key->type), filter->text_count);
    for (size_t i = 0; i < filter->text_count && status == STATUS_OK; i++) {
        struct value value;
        status = parse_key(key, filter, filter->texts[i], &value, error);
        if (status == STATUS_OK)
            pgbinary_put_value(&writer, &value);
    }
    pgbinary_array_end(&writer, begun);
    if (status == STATUS_OK)
        status = add_bytes(in->parameters, array_oid(key->type), &writer, in->arena, error);
    pgbinary_writer_deinit(&writer);
    return status;
}

/* --- keys --- */

/* "t.\"origin\"": keys are in the row of states, looked-up columns in that of their table. */
static void put_column(struct query_text *sql, const struct view_key *key)
{
    if (key->lookup != NULL)
        query_put_format(sql, "l%zu.\"%s\"", key->lookup->number, key->name);
    else
        query_put_format(sql, "t.\"%s\"", key->name);
}

static enum status put_prefix(const struct conditions *in, const struct view_key *key,
                              const struct query_filter *filter, struct error *error)
{
    if (key->type != VALUE_STRING)
        return error_set(error, STATUS_REJECT, "%s: the key is no string, so it has no prefix",
                         filter_name(filter));
    enum status status = add_value(in, key, filter, error);
    int number = in->parameters->count;
    query_put_text(in->sql, " AND ");
    put_column(in->sql, key);
    query_put_format(in->sql, " ^@ $%d", number);
    if (key->lookup == NULL) /* COLLATE "C": where the index has to begin */
        query_put_format(in->sql, " AND t.\"%s\" >= $%d", key->name, number);
    return status;
}

static enum status put_filter(const struct conditions *in, const struct view_key *key,
                              const struct query_filter *filter, struct error *error)
{
    enum status status = STATUS_OK;
    query_join(in->plan, key);
    if (filter->kind == QUERY_PREFIX)
        return put_prefix(in, key, filter, error);
    query_put_text(in->sql, " AND ");
    put_column(in->sql, key);
    switch (filter->kind) {
    case QUERY_IS_NULL:
        query_put_text(in->sql, " IS NULL");
        break;
    case QUERY_IS_NOT_NULL:
        query_put_text(in->sql, " IS NOT NULL");
        break;
    case QUERY_IN:
        status = add_values(in, key, filter, error);
        query_put_format(in->sql, " = ANY ($%d)", in->parameters->count);
        break;
    default:
        status = add_value(in, key, filter, error);
        query_put_format(in->sql, " = $%d", in->parameters->count);
    }
    return status;
}

static enum status check_names(const struct view *view, const struct query_request *request,
                               struct error *error)
{
    for (size_t i = 0; i < request->filter_count; i++) {
        size_t index;
        char name[64];
        char list[512];
        if (query_find_key(view, request->filters[i].key, &index))
            continue;
        query_list_keys(view, list, sizeof list);
        return error_set(error, STATUS_REJECT, "%s: the view has no such key; its keys are: %s",
                         query_shown(request->filters[i].key, name, sizeof name), list);
    }
    return STATUS_OK;
}

/* By the view's keys, not by the request's order: fewer different statements. */
static enum status put_filters(const struct conditions *in, const struct query_request *request,
                               struct error *error)
{
    const struct view *view = in->plan->view;
    enum status status = check_names(view, request, error);
    for (size_t k = 0; k < view->key_count + view->looked_up_count; k++) {
        const struct query_filter *seen = NULL;
        for (size_t i = 0; i < request->filter_count && status == STATUS_OK; i++) {
            const struct query_filter *filter = &request->filters[i];
            if (strcmp(filter->key, view->keys[k].name) != 0)
                continue;
            if (seen != NULL)
                return error_set(error, STATUS_REJECT, "%s: the key is restricted twice",
                                 filter_name(seen));
            seen = filter;
            status = put_filter(in, &view->keys[k], filter, error);
        }
    }
    return status;
}

/* Whoever asks did not write the scope, so what is wrong with it is none of his parameters'. */
static enum status put_scope(const struct conditions *in, const struct query_request *request,
                             struct error *error)
{
    const struct view *view = in->plan->view;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < request->scope_count && status == STATUS_OK; i++) {
        size_t index;
        if (!query_find_key(view, request->scope[i].key, &index))
            status = error_set(error, STATUS_REJECT, "the view has no key \"%s\"",
                               request->scope[i].key);
        else
            status = put_filter(in, &view->keys[index], &request->scope[i], error);
    }
    if (status == STATUS_REJECT) {
        (void)error_wrap(error, "the scope of rows does not fit the view \"%s\"", view->name);
        error->status = STATUS_FATAL;
        return STATUS_FATAL;
    }
    return status;
}

/* --- windows --- */

static enum status put_time(const struct conditions *in, const char *comparison, int64_t us,
                            struct error *error)
{
    struct value value = value_timestamp(us);
    enum status status = query_add_parameter(in->parameters, &value, in->arena, error);
    query_put_format(in->sql, " AND t.window_start %s $%d", comparison, in->parameters->count);
    return status;
}

static enum status put_range(const struct conditions *in, struct error *error)
{
    const struct window *own = &in->plan->view->window;
    struct window_range panes = in->plan->range;
    enum status status = STATUS_OK;
    if (own->kind->widen != NULL)
        own->kind->widen(own, &panes);
    if (panes.has_from)
        status = put_time(in, ">=", panes.from_us, error);
    if (status == STATUS_OK && panes.has_to)
        status = put_time(in, "<", panes.to_us, error);
    return status;
}

/* True: rows of few keys are wanted, by the first key of the index on (window, keys). */
static bool has_first_key(const struct query_plan *plan, const struct query_filter *filters,
                          size_t count)
{
    for (size_t i = 0; i < count; i++)
        if ((filters[i].kind == QUERY_IS || filters[i].kind == QUERY_IN) &&
            strcmp(filters[i].key, plan->view->keys[0].name) == 0)
            return true;
    return false;
}

enum status query_add_windows(const struct query_plan *plan, const struct query_request *request,
                              struct query_parameters *parameters, struct arena *arena, bool *added,
                              struct error *error)
{
    const struct window *own = &plan->view->window;
    const struct window_range *range = &plan->range;
    int64_t starts[QUERY_WINDOWS_MAX];
    size_t count = 0;
    *added = false;
    if (!range->has_from || !range->has_to || own->kind->combine != NULL ||
        own->kind->is_timeless || plan->view->key_count == 0 ||
        (!has_first_key(plan, request->filters, request->filter_count) &&
         !has_first_key(plan, request->scope, request->scope_count)))
        return STATUS_OK;
    int64_t start_us = window_pane_start(own, range->from_us);
    if (start_us < range->from_us)
        start_us = window_pane_end(own, start_us);
    for (; start_us < range->to_us; start_us = window_pane_end(own, start_us)) {
        if (count == QUERY_WINDOWS_MAX)
            return STATUS_OK;
        starts[count++] = start_us;
    }
    struct pgbinary_writer writer;
    pgbinary_writer_init(&writer);
    size_t begun = pgbinary_array_begin(&writer, PG_OID_TIMESTAMPTZ, count);
    for (size_t i = 0; i < count; i++)
        pgbinary_put_timestamp(&writer, starts[i]);
    pgbinary_array_end(&writer, begun);
    enum status status = add_bytes(parameters, PG_OID_TIMESTAMPTZ_ARRAY, &writer, arena, error);
    pgbinary_writer_deinit(&writer);
    *added = status == STATUS_OK;
    return status;
}

/* --- behind the cursor --- */

/* "(a > $1 OR a IS NULL OR (a = $1 AND (b > ..." */
static enum status put_keys_after(const struct conditions *in, struct error *error)
{
    const struct view *shape = &in->plan->shape;
    enum status status = STATUS_OK;
    size_t open = 0;
    for (size_t i = 0; i < shape->key_count && status == STATUS_OK; i++) {
        const struct value *value = &in->plan->after.keys[i];
        const char *name = shape->keys[i].name;
        open++;
        if (value->is_null) {
            query_put_format(in->sql, "(t.\"%s\" IS NULL AND ", name);
            continue;
        }
        status = query_add_parameter(in->parameters, value, in->arena, error);
        int number = in->parameters->count;
        query_put_format(in->sql, "(t.\"%s\" > $%d OR t.\"%s\" IS NULL OR t.\"%s\" = $%d AND ",
                         name, number, name, name, number);
    }
    query_put_text(in->sql, "false");
    for (; open > 0; open--)
        query_put_char(in->sql, ')');
    return status;
}

/* What lies before the cursor need not be read. It is left out while merging, too: this is for
 * speed alone, and only where it is simple. */
static enum status put_after(const struct conditions *in, struct error *error)
{
    const struct query_plan *plan = in->plan;
    const struct window_kind *kind = plan->view->window.kind;
    if (!plan->has_after || plan->order_count > 0 || kind->combine != NULL || kind->is_timeless ||
        plan->window_is_all)
        return STATUS_OK;
    enum status status = put_time(in, ">=", plan->after.window_start_us, error);
    for (size_t i = 0; i < plan->shape.key_count; i++)
        if (plan->shape.keys[i].lookup != NULL) /* not in the order of bytes */
            return status;
    if (status != STATUS_OK || plan->window_is_coarser)
        return status;
    query_put_format(in->sql, " AND (t.window_start > $%d OR ", in->parameters->count);
    status = put_keys_after(in, error);
    query_put_char(in->sql, ')');
    return status;
}

enum status query_make_conditions(struct query_plan *plan, const struct query_request *request,
                                  struct arena *arena, struct query_parameters *parameters,
                                  const char **out, struct error *error)
{
    struct query_text text = {0};
    struct conditions in = {.plan = plan, .parameters = parameters, .sql = &text, .arena = arena};
    enum status status = put_range(&in, error);
    if (status == STATUS_OK)
        status = put_scope(&in, request, error);
    if (status == STATUS_OK)
        status = put_filters(&in, request, error);
    if (status == STATUS_OK)
        status = put_after(&in, error);
    *out = query_text_keep(&text, arena);
    return status == STATUS_OK && *out == NULL ? error_no_memory(error) : status;
}
