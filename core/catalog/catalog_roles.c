/* PostgreSQL's roles: see core/catalog/catalog_roles.h.
 *
 * Invariant: whose schema dovetail_internal is says which roles there are: a role without a login
 * whose name ends in _owner. Nothing else remembers it. Tables of states are made later, with each
 * version; reading them is granted by default privileges, writing by name. The batch layer makes
 * and drops tables and views, so its role is a member of the owner's; the speed layer, serving and
 * analytics are not. */
#include "core/catalog/catalog_roles.h"

#include "core/catalog/lock_wait.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PREFIX_MAX_BYTES = 40 };

static bool is_prefix(const char *text)
{
    size_t length = strlen(text);
    return length > 0 && length <= PREFIX_MAX_BYTES && text[0] >= 'a' && text[0] <= 'z' &&
           text[strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_")] == '\0';
}

/* Executes SQL in which every @ is the prefix. */
static enum status execute(struct postgres *postgres, const char *sql, const char *prefix,
                           struct error *error)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL)
        return error_no_memory(error);
    for (const char *at = sql; *at != '\0'; at++) {
        if (*at == '@')
            fputs(prefix, out);
        else
            fputc(*at, out);
    }
    enum status status = STATUS_OK;
    if (fclose(out) != 0)
        status = error_no_memory(error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, text, error);
    free(text);
    return status;
}

/* A role of that name that may log in is somebody's own, and not ours to grant to. */
static const char create_sql[] =
    "DO $$ DECLARE name text; BEGIN"
    " PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('dovetail roles'));"
    " FOREACH name IN ARRAY ARRAY['owner', 'speed', 'batch', 'serving', 'analytics'] LOOP"
    "  IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '@_' || name AND rolcanlogin) "
    "THEN"
    "   RAISE EXCEPTION 'the role @_% may log in: it is none of Dovetail''s', name;"
    "  ELSIF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '@_' || name) THEN"
    "   EXECUTE format('CREATE ROLE %I NOLOGIN', '@_' || name);"
    "  END IF;"
    " END LOOP;"
    " IF NOT pg_has_role('@_batch', '@_owner', 'MEMBER') THEN GRANT @_owner TO @_batch; END IF;"
    " IF NOT pg_has_role(current_user, '@_owner', 'MEMBER') THEN"
    "  EXECUTE format('GRANT @_owner TO %I', current_user);"
    " END IF;"
    " IF NOT has_database_privilege('@_owner', current_database(), 'CREATE') THEN"
    "  EXECUTE format('GRANT CREATE, CONNECT, TEMPORARY ON DATABASE %I TO @_owner',"
    "   current_database());"
    " END IF;"
    " END $$";

enum status catalog_roles_create(struct postgres *postgres, const char *prefix, struct error *error)
{
    if (!is_prefix(prefix))
        return error_set(error, STATUS_REJECT,
                         "--roles: 1 to %d small letters, digits and '_' are expected, a letter "
                         "first",
                         PREFIX_MAX_BYTES);
    enum status status = execute(postgres, create_sql, prefix, error);
    if (status == STATUS_FATAL && error != NULL && strcmp(error->sqlstate, "42501") == 0)
        return error_set(error, STATUS_REJECT,
                         "--roles: this user may not create roles. Without --roles, all programs "
                         "work with the rights of their own users. Or an administrator runs once: "
                         "CREATE ROLE %s_owner; CREATE ROLE %s_speed; CREATE ROLE %s_batch IN ROLE "
                         "%s_owner; CREATE ROLE %s_serving; CREATE ROLE %s_analytics; GRANT "
                         "%s_owner TO <this user>; GRANT CREATE ON DATABASE <this one> TO %s_owner",
                         prefix, prefix, prefix, prefix, prefix, prefix, prefix, prefix);
    return status;
}

/* An index follows its table, and an identity's sequence too. */
static const char hand_over_sql[] =
    "DO $$ DECLARE one record; BEGIN"
    " FOR one IN SELECT format('ALTER SCHEMA %I OWNER TO @_owner', nspname) AS sql"
    "  FROM pg_catalog.pg_namespace"
    "  WHERE nspname IN ('dovetail', 'dovetail_internal', 'dovetail_verify')"
    "   AND nspowner <> '@_owner'::regrole"
    " LOOP EXECUTE one.sql; END LOOP;"
    " FOR one IN SELECT format('ALTER %s %I.%I OWNER TO @_owner',"
    "   CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, n.nspname, c.relname) AS sql"
    "  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    "  WHERE n.nspname IN ('dovetail', 'dovetail_internal', 'dovetail_verify')"
    "   AND c.relkind IN ('r', 'v') AND c.relowner <> '@_owner'::regrole"
    " LOOP EXECUTE one.sql; END LOOP;"
    " FOR one IN SELECT format('ALTER FUNCTION %s OWNER TO @_owner', p.oid::regprocedure) AS sql"
    "  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
    "  WHERE n.nspname IN ('dovetail', 'dovetail_internal', 'dovetail_verify')"
    "   AND p.proowner <> '@_owner'::regrole"
    " LOOP EXECUTE one.sql; END LOOP;"
    " FOR one IN SELECT format('ALTER OPERATOR %s OWNER TO @_owner', o.oid::regoperator) AS sql"
    "  FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace"
    "  WHERE n.nspname = 'dovetail_verify' AND o.oprowner <> '@_owner'::regrole"
    " LOOP EXECUTE one.sql; END LOOP;"
    " FOR one IN SELECT format('GRANT SELECT, INSERT, UPDATE, DELETE ON dovetail_internal.%I"
    " TO @_speed', tablename) AS sql FROM pg_catalog.pg_tables"
    "  WHERE schemaname = 'dovetail_internal' AND tablename ~ '^speed_[0-9]+$'"
    " LOOP EXECUTE one.sql; END LOOP;"
    " END $$";

/* Taking up new partitions locks view_version, which needs a right to change it. */
static const char grant_sql[] =
    "GRANT USAGE ON SCHEMA dovetail_internal TO @_speed, @_serving;"
    "GRANT USAGE ON SCHEMA dovetail_verify TO @_serving;"
    "GRANT USAGE ON SCHEMA dovetail TO @_serving, @_analytics;"
    "GRANT SELECT ON ALL TABLES IN SCHEMA dovetail_internal TO @_speed, @_serving;"
    "GRANT SELECT ON ALL TABLES IN SCHEMA dovetail TO @_serving, @_analytics;"
    "ALTER DEFAULT PRIVILEGES FOR ROLE @_owner IN SCHEMA dovetail_internal"
    " GRANT SELECT ON TABLES TO @_speed, @_serving;"
    "ALTER DEFAULT PRIVILEGES FOR ROLE @_owner IN SCHEMA dovetail"
    " GRANT SELECT ON TABLES TO @_serving, @_analytics;"
    "GRANT INSERT, UPDATE ON dovetail_internal.position, dovetail_internal.view_ledger"
    " TO @_speed;"
    "GRANT INSERT ON dovetail_internal.coverage TO @_speed;"
    "GRANT INSERT, UPDATE, DELETE ON dovetail_internal.halt TO @_speed;"
    "GRANT UPDATE ON dovetail_internal.view_version TO @_speed;"
    "GRANT INSERT, UPDATE, DELETE ON dovetail_internal.ingest_key TO @_serving";

enum status catalog_roles_grant(struct postgres *postgres, const char *prefix, struct error *error)
{
    enum status status = postgres_execute(postgres, "BEGIN; " LOCK_WAIT_SQL, error);
    if (status != STATUS_OK)
        return status;
    status = execute(postgres, hand_over_sql, prefix, error);
    if (status == STATUS_OK)
        status = execute(postgres, grant_sql, prefix, error);
    if (status == STATUS_OK)
        return postgres_execute(postgres, "COMMIT", error);
    (void)!postgres_execute(postgres, "ROLLBACK", NULL);
    return status;
}

#define OWNER                                                                                      \
    " FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner"             \
    " WHERE n.nspname = 'dovetail_internal' AND NOT r.rolcanlogin AND r.rolname LIKE '%\\_owner'"

enum status catalog_roles_act_as_owner(struct postgres *postgres, struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_query(
        postgres,
        "SELECT pg_catalog.set_config('role', r.rolname, true)" OWNER
        " AND pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER') AND r.rolname <> current_user",
        0, NULL, &result, error);
    PQclear(result);
    return status;
}

enum status catalog_roles_grant_version(struct postgres *postgres, int version, struct error *error)
{
    return postgres_executef(
        postgres, error,
        "DO $$ DECLARE speed text; BEGIN"
        " SELECT regexp_replace(r.rolname, '_owner$', '_speed') INTO speed"
        " FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner"
        " WHERE n.nspname = 'dovetail_internal' AND NOT r.rolcanlogin"
        " AND r.rolname ~ '_owner$';"
        " IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = speed) THEN EXECUTE"
        " format('GRANT SELECT, INSERT, UPDATE, DELETE ON dovetail_internal.speed_%d TO %%I', "
        "speed);"
        " END IF; END $$",
        version);
}
