/* The statements of a plan: batch rows and speed rows of states.
 *
 * Invariant: they find run and cut-offs by themselves, so that no snapshot can disagree with them;
 * or they are told them, with the snapshot that they are of, and give nothing in any other.
 * Looked-up columns are joined in these same statements, so they are of the same snapshot as the
 * states. Pure; any thread. */
#include "core/query/query_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/catalog/catalog_lookup.h"
#include "core/query/query_text.h"

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

/* The reference tables of the query, joined to a row of states "t". */
static enum status make_joins(const struct query_plan *plan, int version, struct arena *arena,
                              const char **out, struct error *error)
{
    char *text = NULL;
    size_t length = 0;
    bool has_joins = false;
    for (size_t i = 0; i < plan->view->lookup_count; i++)
        has_joins = has_joins || plan->joins[i];
    *out = "";
    if (!has_joins)
        return STATUS_OK;
    FILE *sql = open_memstream(&text, &length);
    if (sql == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < plan->view->lookup_count; i++)
        if (plan->joins[i])
            catalog_lookup_put_join(sql, plan->view, &plan->view->lookups[i], version, "t");
    *out = fclose(sql) == 0 ? arena_copy(arena, text, length) : NULL;
    free(text);
    return *out != NULL ? STATUS_OK : error_no_memory(error);
}

/* The first rows of the answer are among the first batch rows and all speed rows, where a batch row
 * is one of the answer's groups: then no more than that need be read. Behind a cursor only where
 * the conditions leave out all that is before it (put_after in query_filter.c). */
bool query_batch_may_be_limited(const struct query_plan *plan)
{
    size_t own = 0;
    if (plan->keep_first == 0 || plan->order_count > 0 || plan->window_is_all ||
        plan->window_is_coarser)
        return false;
    for (size_t i = 0; i < plan->shape.key_count; i++) {
        bool is_own = plan->shape.keys[i].lookup == NULL;
        if (is_own && own < i)
            return false; /* behind a looked-up column */
        own += is_own ? 1 : 0;
    }
    if (plan->has_after && (own < plan->shape.key_count || plan->view->window.kind->is_timeless))
        return false;
    return own == plan->view->key_count;
}

/* " ORDER BY t.window_start, t.a, t.b LIMIT $n", or nothing. */
static const char *make_limit(const struct query_plan *plan, int parameter, struct arena *arena)
{
    struct query_text sql = {0};
    if (!plan->batch_is_limited)
        return "";
    query_put_text(&sql, " ORDER BY t.window_start");
    for (size_t i = 0; i < plan->shape.key_count; i++)
        if (plan->shape.keys[i].lookup == NULL)
            query_put_format(&sql, ", t.\"%s\"", plan->shape.keys[i].name);
    query_put_format(&sql, " LIMIT $%d", parameter);
    return query_text_keep(&sql, arena);
}

/* What the statements of one plan share while they are made. */
struct making {
    const struct query_plan *plan;
    char batch_table[CATALOG_NAME_BYTES];
    char speed_table[CATALOG_NAME_BYTES];
    char *columns; /* owned */
    const char *joins;
    struct arena *arena;
};

static enum status making_init(struct making *making, const struct query_plan *plan, int version,
                               struct arena *arena, struct error *error)
{
    *making = (struct making){
        .plan = plan, .columns = catalog_state_columns(&plan->shape, "t."), .arena = arena};
    catalog_batch_table(version, making->batch_table);
    catalog_speed_table(version, making->speed_table);
    if (making->columns == NULL)
        return error_no_memory(error);
    return make_joins(plan, version, arena, &making->joins, error);
}

static void making_deinit(struct making *making)
{
    free(making->columns);
}

/* The limit of the batch rows becomes the statement's last parameter. */
static enum status add_limit(const struct making *making, struct query_parameters *parameters,
                             const char **text, struct error *error)
{
    enum status status = STATUS_OK;
    if (making->plan->batch_is_limited) {
        struct value limit = value_integer((int64_t)making->plan->keep_first);
        status = query_add_parameter(parameters, &limit, making->arena, error);
    }
    *text = make_limit(making->plan, parameters->count, making->arena);
    return status == STATUS_OK && *text == NULL ? error_no_memory(error) : status;
}

static enum status make_batch_statement(const struct making *making, struct query_sql *out,
                                        struct error *error)
{
    const char *limit = NULL;
    enum status status = add_limit(making, &out->parameters, &limit, error);
    if (status == STATUS_OK)
        out->text = in_arena(making->arena,
                             "SELECT %s FROM %s t%s"
                             " WHERE t._run_from <= (SELECT run FROM dovetail_internal.current_run)"
                             " AND t._run_to > (SELECT run FROM dovetail_internal.current_run)%s%s",
                             making->columns, making->batch_table, making->joins,
                             making->plan->conditions, limit);
    return status == STATUS_OK && out->text == NULL ? error_no_memory(error) : status;
}

static enum status make_speed_statement(const struct making *making, struct query_sql *out,
                                        struct error *error)
{
    const char *topic = making->plan->view->source->topic;
    struct value value = value_string(topic, strlen(topic));
    enum status status = query_add_parameter(&out->parameters, &value, making->arena, error);
    if (status == STATUS_OK)
        out->text = in_arena(making->arena,
                             "SELECT %s FROM dovetail_internal.position p"
                             " LEFT JOIN dovetail_internal.run_cutoff c ON c.topic = p.topic"
                             " AND c.partition = p.partition"
                             " AND c.run = (SELECT run FROM dovetail_internal.current_run)"
                             " JOIN %s t ON t._partition = p.partition"
                             " AND t._slice_start >= coalesce(c.next_offset, p.base_offset)"
                             "%s WHERE p.topic = $%d%s",
                             making->columns, making->speed_table, making->joins,
                             out->parameters.count, making->plan->conditions);
    return status == STATUS_OK && out->text == NULL ? error_no_memory(error) : status;
}

enum status query_make_statements(const struct query_plan *plan,
                                  const struct catalog_version *version, enum query_layer layer,
                                  struct arena *arena, struct query_sql *batch,
                                  struct query_sql *speed, struct error *error)
{
    struct making making;
    *batch = *speed = (struct query_sql){.parameters = plan->parameters};
    enum status status = making_init(&making, plan, version->version, arena, error);
    if (status == STATUS_OK && layer != QUERY_SPEED)
        status = make_batch_statement(&making, batch, error);
    if (status == STATUS_OK && layer != QUERY_BATCH)
        status = make_speed_statement(&making, speed, error);
    making_deinit(&making);
    return status;
}

/* --- where a snapshot is known --- */

/* As text, which takes NULL for partitions that are not known: those have no rows yet. */
static enum status add_cutoffs(const struct query_receipt *known,
                               struct query_parameters *parameters, struct arena *arena,
                               struct error *error)
{
    struct query_text text = {0};
    int32_t next = 0;
    query_put_char(&text, '{');
    for (size_t i = 0; i < known->partition_count; i++) {
        const struct query_partition *partition = &known->partitions[i];
        for (; next < partition->partition; next++)
            query_put_text(&text, next > 0 ? ",NULL" : "NULL");
        query_put_text(&text, next > 0 ? "," : "");
        query_put_integer(&text, partition->cutoff);
        next++;
    }
    query_put_char(&text, '}');
    const char *copy = query_text_keep(&text, arena);
    if (copy == NULL)
        return error_no_memory(error);
    int index = parameters->count++;
    parameters->types[index] = PG_OID_INT8_ARRAY;
    parameters->values[index] = copy;
    parameters->lengths[index] = 0;
    parameters->formats[index] = 0;
    return STATUS_OK;
}

/* The row that tells that the snapshot is this one. */
static void put_marker(struct query_text *sql, const struct query_plan *plan, int snapshot)
{
    query_put_format(sql, "SELECT %d", QUERY_MERGED);
    for (size_t i = 0; i < view_row_columns(&plan->shape); i++)
        query_put_text(sql, ", NULL");
    query_put_format(sql, " WHERE pg_catalog.pg_current_snapshot()::text = $%d", snapshot);
}

static enum status put_known_batch(struct query_text *sql, const struct making *making,
                                   const struct query_receipt *known, int snapshot,
                                   struct query_parameters *parameters, struct error *error)
{
    const char *limit = NULL;
    struct value run = value_integer(known->run);
    enum status status = query_add_parameter(parameters, &run, making->arena, error);
    const int number = parameters->count;
    if (status == STATUS_OK)
        status = add_limit(making, parameters, &limit, error);
    if (status == STATUS_OK)
        query_put_format(sql,
                         " UNION ALL (SELECT %d, %s FROM %s t%s"
                         " WHERE pg_catalog.pg_current_snapshot()::text = $%d"
                         " AND t._run_from <= $%d AND t._run_to > $%d%s%s)",
                         QUERY_BATCH, making->columns, making->batch_table, making->joins, snapshot,
                         number, number, making->plan->conditions, limit);
    return status;
}

static enum status put_known_speed(struct query_text *sql, const struct making *making,
                                   const struct query_request *request, int snapshot,
                                   struct query_parameters *parameters, bool *has_windows,
                                   struct error *error)
{
    enum status status = add_cutoffs(request->known, parameters, making->arena, error);
    const int cutoffs = parameters->count;
    if (status == STATUS_OK)
        status =
            query_add_windows(making->plan, request, parameters, making->arena, has_windows, error);
    if (status != STATUS_OK)
        return status;
    query_put_format(sql,
                     " UNION ALL SELECT %d, %s FROM %s t%s"
                     " WHERE pg_catalog.pg_current_snapshot()::text = $%d"
                     " AND t._slice_start >= ($%d)[t._partition + 1]%s",
                     QUERY_SPEED, making->columns, making->speed_table, making->joins, snapshot,
                     cutoffs, making->plan->conditions);
    if (*has_windows)
        query_put_format(sql, " AND t.window_start = ANY($%d)", parameters->count);
    return STATUS_OK;
}

/* States of a few bytes, whatever was folded into them: no sets, no sketches, no texts. */
static bool has_small_states(const struct view *shape)
{
    for (size_t i = 0; i < shape->state_count; i++) {
        const struct measure *measure = shape->measures[i].measure;
        for (size_t c = 0; c < measure->column_count; c++) {
            switch (measure->columns[c].oid) {
            case PG_OID_BOOL:
            case PG_OID_INT4:
            case PG_OID_INT8:
            case PG_OID_TIMESTAMPTZ:
            case PG_OID_NUMERIC:
                continue;
            default:
                return false;
            }
        }
    }
    return true;
}

enum status query_make_known_statement(const struct query_plan *plan,
                                       const struct catalog_version *version,
                                       const struct query_request *request, struct arena *arena,
                                       struct query_sql *out, bool *is_short, struct error *error)
{
    struct making making;
    const struct query_receipt *known = request->known;
    const struct value snapshot = value_string(known->mark.snapshot, strlen(known->mark.snapshot));
    struct query_parameters *parameters = &out->parameters;
    struct query_text text = {0};
    struct query_text *sql = &text;
    *out = (struct query_sql){.parameters = plan->parameters};
    *is_short = false;
    enum status status = making_init(&making, plan, version->version, arena, error);
    if (status == STATUS_OK)
        status = query_add_parameter(parameters, &snapshot, arena, error);
    const int mark = parameters->count;
    if (status == STATUS_OK)
        put_marker(sql, plan, mark);
    if (status == STATUS_OK && request->layer != QUERY_SPEED)
        status = put_known_batch(sql, &making, known, mark, parameters, error);
    if (status == STATUS_OK && request->layer != QUERY_BATCH)
        status = put_known_speed(sql, &making, request, mark, parameters, is_short, error);
    *is_short = *is_short && has_small_states(&plan->shape);
    if (status == STATUS_OK && *is_short)
        query_put_format(sql, " LIMIT %d", QUERY_SHORT_ROWS);
    out->text = query_text_keep(&text, arena);
    if (status == STATUS_OK && out->text == NULL)
        status = error_no_memory(error);
    making_deinit(&making);
    return status;
}
