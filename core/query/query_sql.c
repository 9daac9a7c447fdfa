/* The two statements of a plan: batch rows and speed rows of states.
 *
 * Invariant: they find run and cut-offs by themselves, so that no snapshot can disagree with them.
 * Looked-up columns are joined in these same statements, so they are of the same snapshot as the
 * states. Pure; any thread. */
#include "core/query/query_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/catalog/catalog_lookup.h"

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

/* The first rows of the answer are among the first batch rows and all speed rows, where a batch row
 * is one of the answer's groups: then no more than that need be read. Behind a cursor only where
 * the conditions leave out all that is before it (put_after in query_filter.c). */
static bool batch_may_be_limited(const struct query_plan *plan)
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

/* " ORDER BY t.window_start, t.a, t.b LIMIT $n", or nothing. Caller frees. */
static char *make_limit(const struct query_plan *plan)
{
    char *text = NULL;
    size_t length = 0;
    FILE *sql = open_memstream(&text, &length);
    if (sql == NULL)
        return NULL;
    if (plan->batch_is_limited) {
        fputs(" ORDER BY t.window_start", sql);
        for (size_t i = 0; i < plan->shape.key_count; i++)
            if (plan->shape.keys[i].lookup == NULL)
                fprintf(sql, ", t.\"%s\"", plan->shape.keys[i].name);
        fprintf(sql, " LIMIT $%d", plan->batch_parameters.count);
    }
    if (fclose(sql) == 0)
        return text;
    free(text);
    return NULL;
}

static enum status make_batch_statement(struct query_plan *plan, int version, const char *columns,
                                        const char *joins, const char *conditions,
                                        struct arena *arena, struct error *error)
{
    char table[CATALOG_NAME_BYTES];
    enum status status = STATUS_OK;
    plan->batch_is_limited = batch_may_be_limited(plan);
    if (plan->batch_is_limited) {
        struct value limit = value_integer((int64_t)plan->keep_first);
        status = query_add_parameter(&plan->batch_parameters, &limit, arena, error);
    }
    char *limit = make_limit(plan);
    catalog_batch_table(version, table);
    if (limit != NULL)
        plan->batch_sql =
            in_arena(arena,
                     "SELECT %s FROM %s t%s"
                     " WHERE t._run_from <= (SELECT run FROM dovetail_internal.current_run)"
                     " AND t._run_to > (SELECT run FROM dovetail_internal.current_run)%s%s",
                     columns, table, joins, conditions, limit);
    free(limit);
    if (status == STATUS_OK && plan->batch_sql == NULL)
        status = error_no_memory(error);
    return status;
}

static enum status make_speed_statement(struct query_plan *plan, int version, const char *columns,
                                        const char *joins, const char *conditions,
                                        struct arena *arena, struct error *error)
{
    char table[CATALOG_NAME_BYTES];
    const char *topic = plan->view->source->topic;
    struct value value = value_string(topic, strlen(topic));
    enum status status = query_add_parameter(&plan->speed_parameters, &value, arena, error);
    catalog_speed_table(version, table);
    plan->speed_sql = in_arena(arena,
                               "SELECT %s FROM dovetail_internal.position p"
                               " LEFT JOIN dovetail_internal.run_cutoff c ON c.topic = p.topic"
                               " AND c.partition = p.partition"
                               " AND c.run = (SELECT run FROM dovetail_internal.current_run)"
                               " JOIN %s t ON t._partition = p.partition"
                               " AND t._slice_start >= coalesce(c.next_offset, p.base_offset)"
                               "%s WHERE p.topic = $%d%s",
                               columns, table, joins, plan->speed_parameters.count, conditions);
    if (status == STATUS_OK && plan->speed_sql == NULL)
        status = error_no_memory(error);
    return status;
}

enum status query_make_statements(struct query_plan *plan, const struct catalog_version *version,
                                  const struct query_request *request, struct arena *arena,
                                  struct error *error)
{
    const char *conditions = "";
    if (request->receipt_only)
        return STATUS_OK;
    char *joins = NULL;
    char *columns = NULL;
    enum status status =
        query_make_conditions(plan, request, arena, &plan->batch_parameters, &conditions, error);
    if (status != STATUS_OK)
        return status;
    plan->speed_parameters = plan->batch_parameters;
    joins = make_joins(plan, version->version);
    columns = catalog_state_columns(&plan->shape, "t.");
    if (columns == NULL || joins == NULL)
        status = error_no_memory(error);
    if (status == STATUS_OK && request->layer != QUERY_SPEED)
        status =
            make_batch_statement(plan, version->version, columns, joins, conditions, arena, error);
    if (status == STATUS_OK && request->layer != QUERY_BATCH)
        status =
            make_speed_statement(plan, version->version, columns, joins, conditions, arena, error);
    free(columns);
    free(joins);
    return status;
}
