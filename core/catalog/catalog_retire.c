/* The end of view versions, and going back to one: see core/catalog/catalog.h.
 *
 * Invariant: a version's tables outlive every snapshot in which it was current or building. The
 * transaction that retires it is kept with it (retired_by); once no session of this database has a
 * snapshot that old, whoever reads finds another version, or none, before it comes to the tables.
 *
 * A speed process that folds the version still, because it has not read its notification yet, finds
 * the table gone at its next flush, and claims again (speed_layer/flush_write.c). Both lock the
 * tables before the version's other rows, so they wait for each other and never in a circle.
 *
 * The definition of a version outlives its tables, so that the view can go back to it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/catalog/catalog.h"
#include "core/catalog/catalog_internal.h"
#include "core/catalog/catalog_tables.h"

enum { NUMBER_BYTES = 24 };

enum status catalog_retire(struct postgres *postgres, const char *view, const char *state,
                           struct error *error)
{
    return postgres_run(postgres,
                        "UPDATE dovetail_internal.view_version SET state = 'retired',"
                        " retired_at = now(), retired_by = pg_current_xact_id()"
                        " WHERE view = $1 AND state = $2",
                        2, (const char *const[]){view, state}, error);
}

/* --- dropping --- */

/* age() counts transactions back from the newest one. Of other roles' sessions PostgreSQL hides
 * much, but not backend_xmin. */
static const char unneeded_sql[] =
    "SELECT v.version FROM dovetail_internal.view_version AS v "
    "WHERE v.state = 'retired'"
    " AND to_regclass('dovetail_internal.speed_' || v.version) IS NOT NULL"
    " AND v.retired_by < pg_snapshot_xmin(pg_current_snapshot())"
    " AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity AS a"
    "  WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()"
    "  AND age(a.backend_xmin) >= age(v.retired_by::xid)) "
    "ORDER BY v.version";

static enum status drop_version(struct postgres *postgres, int version, struct error *error)
{
    char *tables = catalog_tables_drop_sql(version);
    if (tables == NULL)
        return error_no_memory(error);
    enum status status = postgres_execute(postgres, "BEGIN; SET LOCAL lock_timeout = '2s'", error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, tables, error);
    if (status == STATUS_OK)
        status = postgres_executef(postgres, error,
                                   "DELETE FROM dovetail_internal.coverage WHERE version = %d;"
                                   "DELETE FROM dovetail_internal.view_ledger WHERE version = %d;"
                                   "COMMIT",
                                   version, version);
    if (status != STATUS_OK) {
        error_wrap(error, "tables of version %d", version);
        (void)!postgres_execute(postgres, "ROLLBACK", NULL);
    }
    free(tables);
    return status;
}

static enum status drop_definitions(struct postgres *postgres, int64_t retained,
                                    struct error *error)
{
    return postgres_executef(
        postgres, error,
        "DELETE FROM dovetail_internal.view_version AS v USING ("
        " SELECT version, current_since, row_number() OVER ("
        "   PARTITION BY view, current_since IS NULL ORDER BY version DESC) AS place"
        " FROM dovetail_internal.view_version WHERE state = 'retired') AS r "
        "WHERE v.version = r.version AND (r.current_since IS NULL OR r.place > %lld)"
        " AND to_regclass('dovetail_internal.speed_' || v.version) IS NULL",
        (long long)retained);
}

enum status catalog_drop_retired(struct postgres *postgres, int64_t retained, struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_query(postgres, unneeded_sql, 0, NULL, &result, error);
    int count = status == STATUS_OK ? PQntuples(result) : 0;
    for (int row = 0; row < count; row++) {
        struct error trouble; /* must not keep the others */
        if (drop_version(postgres, (int)postgres_int64(result, row, 0), &trouble) != STATUS_OK) {
            status = trouble.status;
            *error = trouble;
        }
    }
    PQclear(result);
    return status == STATUS_OK ? drop_definitions(postgres, retained, error) : status;
}

enum status catalog_drop_view(struct postgres *postgres, const char *view, struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_query(postgres,
                                        "SELECT FROM dovetail_internal.view_version"
                                        " WHERE view = $1 AND state <> 'retired'",
                                        1, &view, &result, error);
    if (status == STATUS_OK && PQntuples(result) == 0)
        status = error_set(error, STATUS_REJECT, "view %s is not registered", view);
    PQclear(result);
    if (status == STATUS_OK)
        status = catalog_drop_sql_view(postgres, view, error);
    if (status == STATUS_OK)
        status = catalog_drop_lookups(postgres, view, 0, error);
    if (status == STATUS_OK)
        status = catalog_retire(postgres, view, "building", error);
    if (status == STATUS_OK)
        status = catalog_retire(postgres, view, "current", error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "NOTIFY dovetail_catalog", error);
    return status;
}

/* --- going back --- */

/* The old definition over the source as it is now, which must still compute the same. */
static enum status register_again(struct postgres *postgres, const PGresult *result,
                                  enum catalog_change *change, struct error *error)
{
    struct source *source = NULL;
    struct view *view = NULL;
    enum status status = catalog_parse_version(PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 2),
                                               &source, &view, error);
    char *canonical = status == STATUS_OK ? view_canonical_text(view) : NULL;
    if (status == STATUS_OK && canonical == NULL)
        status = error_no_memory(error);
    if (status == STATUS_OK && strcmp(canonical, PQgetvalue(result, 0, 1)) != 0)
        status = error_set(error, STATUS_REJECT,
                           "source %s has changed since, in what the view reads, or the engine "
                           "has: the same definition would compute something else",
                           source->name);
    if (status == STATUS_OK)
        status = catalog_register_view(postgres, view, change, error);
    free(canonical);
    view_destroy(view);
    source_destroy(source);
    return status;
}

enum status catalog_switch_version(struct postgres *postgres, const char *view, int version,
                                   enum catalog_change *change, struct error *error)
{
    char number[NUMBER_BYTES];
    snprintf(number, sizeof number, "%d", version);
    PGresult *result = NULL;
    enum status status = postgres_query(
        postgres,
        "SELECT v.definition, v.canonical, s.definition FROM dovetail_internal.view_version AS v"
        " JOIN dovetail_internal.source AS s USING (source)"
        " WHERE v.view = $1 AND v.version = $2::integer",
        2, (const char *const[]){view, number}, &result, error);
    if (status == STATUS_OK && PQntuples(result) == 0)
        status = error_set(error, STATUS_REJECT, "view %s has no version %d", view, version);
    else if (status == STATUS_OK)
        status = register_again(postgres, result, change, error);
    PQclear(result);
    return status;
}
