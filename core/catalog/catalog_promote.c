/* Making view versions current, and the SQL views that read them: see core/catalog/catalog.h.
 *
 * Invariant: dovetail.<view> reads the tables of the version that is current in the same committed
 * state. A version becomes current only when dovetail_internal.version_reached says that the
 * current run has its batch rows and that its speed rows follow without a gap
 * (schemas/sql/002_versions.sql).
 *
 * What the version before leaves behind is catalog_retire.c's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/catalog/catalog.h"
#include "core/catalog/catalog_roles.h"
#include "core/catalog/catalog_internal.h"
#include "core/catalog/catalog_lookup.h"
#include "core/catalog/catalog_tables.h"
#include "core/catalog/lock_wait.h"
#include "core/program/program.h"

enum status catalog_mark_built(struct postgres *postgres, int version, int64_t run,
                               struct error *error)
{
    return postgres_executef(postgres, error,
                             "UPDATE dovetail_internal.view_version SET built_run = %lld "
                             "WHERE version = %d AND built_run IS NULL",
                             (long long)run, version);
}

/* --- the SQL view --- */

/* The columns of dovetail.<view> as it is, in the form of catalog_view_signature; "" = no such
 * view. */
static enum status read_signature(struct postgres *postgres, const char *view, PGresult **result,
                                  struct error *error)
{
    return postgres_query(
        postgres,
        "SELECT COALESCE(string_agg(a.attname || ' ' || CASE a.atttypid "
        "    WHEN 'timestamptz'::regtype THEN 'timestamptz' "
        "    ELSE format_type(a.atttypid, a.atttypmod) END, ',' ORDER BY a.attnum), '') "
        "FROM pg_catalog.pg_attribute AS a "
        "WHERE a.attrelid = to_regclass('dovetail.' || quote_ident($1))",
        1, &view, result, error);
}

/* The GRANTs on dovetail.<view>, a statement in each row. */
static enum status read_grants(struct postgres *postgres, const char *view, PGresult **result,
                               struct error *error)
{
    return postgres_query(
        postgres,
        "SELECT format('GRANT %s ON dovetail.%I TO %s%s', acl.privilege_type, c.relname, "
        "    CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(acl.grantee)) "
        "END, "
        "    CASE WHEN acl.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) "
        "FROM pg_catalog.pg_class AS c, aclexplode(c.relacl) AS acl "
        "WHERE c.oid = to_regclass('dovetail.' || quote_ident($1)) AND acl.grantee <> c.relowner",
        1, &view, result, error);
}

enum status catalog_drop_sql_view(struct postgres *postgres, const char *view, struct error *error)
{
    enum status status =
        postgres_executef(postgres, error, "DROP VIEW IF EXISTS dovetail.\"%s\"", view);
    if (status != STATUS_OK && error != NULL && strcmp(error->sqlstate, "2BP01") == 0)
        return error_wrap(error,
                          "dovetail.%s is replaced or dropped, but objects depend on it: drop "
                          "those first",
                          view);
    return status;
}

static enum status execute_owned(struct postgres *postgres, char *sql, struct error *error)
{
    if (sql == NULL)
        return error_no_memory(error);
    enum status status = postgres_execute(postgres, sql, error);
    free(sql);
    return status;
}

static enum status create_view(struct postgres *postgres, const struct view *view, int version,
                               struct error *error)
{
    enum status status = execute_owned(postgres, catalog_view_sql(view, version), error);
    if (status == STATUS_OK)
        status = execute_owned(postgres, catalog_view_comments_sql(view), error);
    return status;
}

static enum status grant(struct postgres *postgres, const PGresult *grants, struct error *error)
{
    enum status status = STATUS_OK;
    for (int row = 0; status == STATUS_OK && row < PQntuples(grants); row++)
        status = postgres_execute(postgres, PQgetvalue(grants, row, 0), error);
    return status;
}

/* With other columns the view must be dropped; the rights on it are given again. */
static enum status recreate_view(struct postgres *postgres, const struct view *view, int version,
                                 struct error *error)
{
    PGresult *grants = NULL;
    enum status status = read_grants(postgres, view->name, &grants, error);
    if (status == STATUS_OK)
        status = catalog_drop_sql_view(postgres, view->name, error);
    if (status == STATUS_OK)
        status = create_view(postgres, view, version, error);
    if (status == STATUS_OK)
        status = grant(postgres, grants, error);
    PQclear(grants);
    return status;
}

static enum status replace_view(struct postgres *postgres, const struct view *view, int version,
                                struct error *error)
{
    PGresult *existing = NULL;
    char *wanted = catalog_view_signature(view);
    enum status status = STATUS_OK;
    if (wanted == NULL)
        status = error_no_memory(error);
    if (status == STATUS_OK)
        status = read_signature(postgres, view->name, &existing, error);
    if (status == STATUS_OK) {
        const char *columns = PQgetvalue(existing, 0, 0);
        if (columns[0] == '\0' || strcmp(columns, wanted) == 0)
            status = create_view(postgres, view, version, error);
        else
            status = recreate_view(postgres, view, version, error);
    }
    PQclear(existing);
    free(wanted);
    return status;
}

/* --- lookups --- */

enum status catalog_drop_lookups(struct postgres *postgres, const char *view, int kept,
                                 struct error *error)
{
    char number[16];
    snprintf(number, sizeof number, "%d", kept);
    PGresult *result = NULL;
    enum status status =
        postgres_query(postgres,
                       "SELECT c.relname FROM dovetail_internal.view_version AS v"
                       " JOIN pg_catalog.pg_class AS c"
                       "  ON c.relnamespace = 'dovetail_internal'::regnamespace AND c.relkind = 'v'"
                       "  AND c.relname ~ ('^lookup_' || v.version || '_[0-9]+$')"
                       " WHERE v.view = $1 AND v.version <> $2::integer",
                       2, (const char *const[]){view, number}, &result, error);
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++)
        status = postgres_executef(postgres, error, "DROP VIEW dovetail_internal.%s",
                                   PQgetvalue(result, row, 0));
    PQclear(result);
    return status;
}

/* The views of a version's lookups, and what they are bound to. */
static enum status make_lookups(struct postgres *postgres, int version, struct view *view,
                                const char *binding, struct error *error)
{
    char number[16];
    snprintf(number, sizeof number, "%d", version);
    enum status status = catalog_lookups_bind(view, binding, error);
    if (status == STATUS_OK && view->lookup_count > 0)
        status = execute_owned(postgres, catalog_lookups_sql(view, version), error);
    if (status == STATUS_OK)
        status = postgres_run(
            postgres,
            "UPDATE dovetail_internal.view_version SET lookups = $2 WHERE version = $1::integer", 2,
            (const char *const[]){number, binding}, error);
    return status;
}

enum status catalog_rebind(struct postgres *postgres, int version, struct view *view,
                           const char *binding, struct error *error)
{
    PGresult *grants = NULL;
    enum status status = read_grants(postgres, view->name, &grants, error);
    if (status == STATUS_OK)
        status = catalog_drop_sql_view(postgres, view->name, error);
    if (status == STATUS_OK)
        status = catalog_drop_lookups(postgres, view->name, 0, error);
    if (status == STATUS_OK)
        status = make_lookups(postgres, version, view, binding, error);
    if (status == STATUS_OK)
        status = create_view(postgres, view, version, error);
    if (status == STATUS_OK)
        status = grant(postgres, grants, error);
    PQclear(grants);
    return status;
}

/* --- promotion --- */

/* The version becomes current in the place of another. */
static enum status switch_version(struct postgres *postgres, int version, struct view *view,
                                  const char *binding, struct error *error)
{
    const char *name = view->name;
    enum status status = catalog_retire(postgres, name, "current", error);
    if (status == STATUS_OK)
        status = postgres_executef(postgres, error,
                                   "UPDATE dovetail_internal.view_version "
                                   "SET state = 'current', current_since = now() "
                                   "WHERE version = %d",
                                   version);
    if (status == STATUS_OK && view->lookup_count > 0)
        status = make_lookups(postgres, version, view, binding, error);
    if (status == STATUS_OK)
        status = replace_view(postgres, view, version, error);
    if (status == STATUS_OK)
        status = catalog_drop_lookups(postgres, name, version, error);
    return status;
}

/* The same, unless somebody reads dovetail.<view> for longer than a publication should wait, such
 * as an export or a report. */
static enum status switch_if_free(struct postgres *postgres, int version, struct view *view,
                                  const char *binding, struct error *error)
{
    enum status status = postgres_execute(postgres, "SAVEPOINT promotion; " LOCK_WAIT_SQL, error);
    if (status != STATUS_OK)
        return status;
    status = switch_version(postgres, version, view, binding, error);
    if (status == STATUS_OK)
        return postgres_execute(postgres, "RELEASE promotion", error);
    if (!lock_wait_was_in_vain(error))
        return status;
    program_log(LOG_WARNING,
                "view %s, version %d is not current yet: somebody reads dovetail.%s; the next run"
                " tries again",
                view->name, version, view->name);
    return postgres_execute(postgres, "ROLLBACK TO promotion", error);
}

/* The version in row `row` of the building ones becomes current, unless what its lookups mean is
 * not there, its SQL view cannot be replaced now, or another release registered it and this one
 * refuses it: that must not keep other views from being published. */
static enum status make_current(struct postgres *postgres, const PGresult *building, int row,
                                struct error *error)
{
    int version = (int)postgres_int64(building, row, 0);
    const char *name = PQgetvalue(building, row, 1);
    struct source *source = NULL;
    struct view *view = NULL;
    char *binding = NULL;
    enum status status = catalog_parse_version(PQgetvalue(building, row, 2),
                                               PQgetvalue(building, row, 3), &source, &view, error);
    if (status == STATUS_OK)
        status = catalog_lookups_resolve(postgres, view, &binding, error);
    if (status == STATUS_OK) {
        status = switch_if_free(postgres, version, view, binding, error);
    } else if (status == STATUS_REJECT) {
        program_log(LOG_WARNING, "view %s, version %d is not current yet: %s", name, version,
                    error->text);
        status = STATUS_OK;
    }
    free(binding);
    view_destroy(view);
    source_destroy(source);
    return status == STATUS_OK ? status : error_wrap(error, "view %s, version %d", name, version);
}

enum status catalog_promote(struct postgres *postgres, struct error *error)
{
    PGresult *building = NULL;
    enum status status = catalog_roles_act_as_owner(postgres, error);
    if (status != STATUS_OK)
        return status;
    status = postgres_query(
        postgres,
        "SELECT version, view, definition, source_definition FROM dovetail_internal.view_version "
        "WHERE state = 'building' AND dovetail_internal.version_reached(version) "
        "ORDER BY view FOR UPDATE",
        0, NULL, &building, error);
    int count = status == STATUS_OK ? PQntuples(building) : 0;
    for (int row = 0; status == STATUS_OK && row < count; row++)
        status = make_current(postgres, building, row, error);
    PQclear(building);
    if (status == STATUS_OK && count > 0)
        status = postgres_execute(postgres, "NOTIFY dovetail_catalog", error);
    return status;
}
