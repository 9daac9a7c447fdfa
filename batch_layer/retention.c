/* Dropping what no retained run needs: see retention.h.
 *
 * Invariant: a slice is dropped only where it is closed (it starts below the open slice of its
 * partition) and starts below the cut-off of every retained run; by the Boundary invariant it then
 * ends at or below all of them. So every retained run can still be answered, or rolled back to.
 *
 * current_run is locked first: a rollback either is seen here, and its run is kept, or waits. */
#include "batch_layer/retention.h"

#include <inttypes.h>

#include "core/catalog/catalog.h"

/* Cut-offs below which no retained run reads speed rows. */
#define LOWEST_CUTOFFS                                                                             \
    "SELECT p.topic, p.partition, p.slice_start,"                                                  \
    " min(COALESCE(c.next_offset, p.base_offset)) AS lowest"                                       \
    " FROM dovetail_internal.position p CROSS JOIN dovetail_internal.run r"                        \
    " LEFT JOIN dovetail_internal.run_cutoff c"                                                    \
    "   ON c.run = r.run AND c.topic = p.topic AND c.partition = p.partition"                      \
    " WHERE r.state = 'published' GROUP BY p.topic, p.partition, p.slice_start"

static enum status drop_runs(struct postgres *postgres, int64_t retained_runs, struct error *error)
{
    return postgres_executef(
        postgres, error,
        "WITH retained AS (SELECT run FROM dovetail_internal.run WHERE state = 'published'"
        "   ORDER BY run DESC LIMIT %" PRId64 "),"
        " dropped AS (UPDATE dovetail_internal.run SET state = 'dropped'"
        "   WHERE state = 'published' AND run NOT IN (SELECT run FROM retained)"
        "   AND run <> (SELECT run FROM dovetail_internal.current_run) RETURNING run)"
        " DELETE FROM dovetail_internal.run_cutoff c USING dropped d WHERE c.run = d.run",
        retained_runs);
}

static enum status drop_planned_cuts(struct postgres *postgres, struct error *error)
{
    return postgres_execute(
        postgres,
        "DELETE FROM dovetail_internal.planned_cut n USING (" LOWEST_CUTOFFS ") l"
        " WHERE n.topic = l.topic AND n.partition = l.partition AND n.at_offset < l.lowest",
        error);
}

/* `topic` is a literal. A version that is retired may have its tables still. */
static enum status drop_rows(struct postgres *postgres, int version, const char *topic,
                             struct error *error)
{
    char batch[CATALOG_NAME_BYTES];
    char speed[CATALOG_NAME_BYTES];
    catalog_batch_table(version, batch);
    catalog_speed_table(version, speed);
    enum status status =
        postgres_executef(postgres, error,
                          "DELETE FROM %s WHERE _run_to < 9223372036854775807 AND _run_to <="
                          " (SELECT min(run) FROM dovetail_internal.run WHERE state = 'published')",
                          batch);
    if (status != STATUS_OK)
        return status;
    return postgres_executef(postgres, error,
                             "DELETE FROM %s s USING (" LOWEST_CUTOFFS ") l"
                             " WHERE l.topic = %s AND s._partition = l.partition"
                             " AND s._slice_start < least(l.lowest, l.slice_start)",
                             speed, topic);
}

static enum status drop_all_rows(struct postgres *postgres, struct error *error)
{
    PGresult *result = NULL;
    enum status status =
        postgres_query(postgres,
                       "SELECT v.version, s.topic FROM dovetail_internal.view_version v"
                       " JOIN dovetail_internal.source s USING (source)"
                       " WHERE to_regclass('dovetail_internal.batch_' || v.version) IS NOT NULL"
                       " ORDER BY v.version FOR SHARE OF v",
                       0, NULL, &result, error);
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++) {
        char *topic = postgres_literal(postgres, PQgetvalue(result, row, 1));
        status = topic == NULL
                     ? error_no_memory(error)
                     : drop_rows(postgres, (int)postgres_int64(result, row, 0), topic, error);
        PQfreemem(topic);
    }
    PQclear(result);
    return status;
}

enum status retention_apply(struct postgres *postgres, int64_t retained_runs, struct error *error)
{
    PGresult *result = NULL;
    struct error ignored;
    enum status status = postgres_execute(postgres, "BEGIN", error);
    if (status == STATUS_OK)
        status =
            postgres_query(postgres, "SELECT run FROM dovetail_internal.current_run FOR UPDATE", 0,
                           NULL, &result, error);
    PQclear(result);
    if (status == STATUS_OK)
        status = drop_runs(postgres, retained_runs, error);
    if (status == STATUS_OK)
        status = drop_all_rows(postgres, error);
    if (status == STATUS_OK)
        status = drop_planned_cuts(postgres, error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "COMMIT", error);
    else
        (void)!postgres_execute(postgres, "ROLLBACK", &ignored);
    if (status == STATUS_OK)
        status = catalog_drop_retired(postgres, retained_runs, error);
    return status;
}
