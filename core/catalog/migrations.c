/* Creating and migrating Dovetail's own tables: see core/catalog/migrations.h.
 *
 * An advisory lock that lasts as long as the transaction lets one program migrate at a time; the
 * others find the work done. On failure the transaction is rolled back and nothing has happened. */
#include "core/catalog/migrations.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/catalog/catalog.h"
#include "core/catalog/catalog_roles.h"
#include "core/catalog/lock_wait.h"

enum { CHECKSUM_BYTES = 33 };

/* What the database has run, compared with what this program has. */
struct difference {
    size_t missing;      /* how many it has not run */
    const char *changed; /* the first whose checksum differs, or NULL */
    char unknown[64];    /* the first that this program does not have, or empty */
};

static void compute_checksum(const struct migration *migration, char *out)
{
    XXH128_hash_t hash = XXH3_128bits(migration->sql, migration->length);
    snprintf(out, CHECKSUM_BYTES, "%016" PRIx64 "%016" PRIx64, hash.high64, hash.low64);
}

static int find_row(const PGresult *result, const char *name)
{
    for (int row = 0; row < PQntuples(result); row++)
        if (strcmp(PQgetvalue(result, row, 0), name) == 0)
            return row;
    return -1;
}

static bool is_known(const char *name)
{
    for (size_t i = 0; i < migration_count; i++)
        if (strcmp(migrations[i].name, name) == 0)
            return true;
    return false;
}

/* `missing`: one for each migration, or NULL. */
static enum status compare(struct postgres *postgres, struct difference *out, bool *missing,
                           struct error *error)
{
    *out = (struct difference){0};
    PGresult *result = NULL;
    enum status status = postgres_query(
        postgres, "SELECT name, checksum FROM dovetail_internal.migration ORDER BY name", 0, NULL,
        &result, error);
    for (size_t i = 0; status == STATUS_OK && i < migration_count; i++) {
        char checksum[CHECKSUM_BYTES];
        compute_checksum(&migrations[i], checksum);
        int row = find_row(result, migrations[i].name);
        if (missing != NULL)
            missing[i] = row < 0;
        if (row < 0)
            out->missing++;
        else if (strcmp(PQgetvalue(result, row, 1), checksum) != 0 && out->changed == NULL)
            out->changed = migrations[i].name;
    }
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++)
        if (out->unknown[0] == '\0' && !is_known(PQgetvalue(result, row, 0)))
            snprintf(out->unknown, sizeof out->unknown, "%s", PQgetvalue(result, row, 0));
    PQclear(result);
    return status;
}

/* Differences that no migration can mend. */
static enum status refuse(const struct difference *difference, struct error *error)
{
    if (difference->unknown[0] != '\0')
        return error_set(error, STATUS_REJECT,
                         "the database was migrated by a newer Dovetail (%s); use that version",
                         difference->unknown);
    if (difference->changed != NULL)
        return error_set(error, STATUS_REJECT,
                         "the database was made by another build of Dovetail: %s differs from the "
                         "file that ran there",
                         difference->changed);
    return STATUS_OK;
}

static enum status has_table(struct postgres *postgres, bool *out, struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_query(
        postgres, "SELECT pg_catalog.to_regclass('dovetail_internal.migration') IS NOT NULL", 0,
        NULL, &result, error);
    *out = status == STATUS_OK && postgres_bool(result, 0, 0);
    PQclear(result);
    return status;
}

enum status migrations_check(struct postgres *postgres, struct error *error)
{
    bool exists = false;
    enum status status = has_table(postgres, &exists, error);
    if (status != STATUS_OK)
        return status;
    if (!exists)
        return error_set(error, STATUS_REJECT,
                         "the database has no Dovetail tables yet: run `dovetail init`");
    struct difference difference;
    status = compare(postgres, &difference, NULL, error);
    if (status == STATUS_OK)
        status = refuse(&difference, error);
    if (status == STATUS_OK && difference.missing > 0)
        status =
            error_set(error, STATUS_REJECT,
                      "the database's tables are those of an older Dovetail: run `dovetail init`");
    return status;
}

static enum status check_encoding(struct postgres *postgres, struct error *error)
{
    const char *encoding = PQparameterStatus(postgres_handle(postgres), "server_encoding");
    if (encoding == NULL || strcmp(encoding, "UTF8") == 0)
        return STATUS_OK;
    return error_set(error, STATUS_REJECT,
                     "the database's encoding is %s; Dovetail needs one with encoding UTF8",
                     encoding);
}

static enum status run_file(struct postgres *postgres, const struct migration *migration,
                            struct error *error)
{
    char checksum[CHECKSUM_BYTES];
    compute_checksum(migration, checksum);
    const char *parameters[] = {migration->name, checksum};
    enum status status = postgres_execute(postgres, migration->sql, error);
    if (status == STATUS_OK) /* files set their own search_path */
        status = postgres_execute(postgres, "RESET search_path", error);
    if (status == STATUS_OK) {
        PGresult *result = NULL;
        status = postgres_query(
            postgres, "INSERT INTO dovetail_internal.migration (name, checksum) VALUES ($1, $2)", 2,
            parameters, &result, error);
        PQclear(result);
    }
    return status == STATUS_OK ? status : error_wrap(error, "%s", migration->name);
}

/* Whoever moves P from now on has seen that the tables are newer: owners are fenced, and each reads
 * the catalogue again. A program that does not know these tables ends then. */
static enum status fence_owners(struct postgres *postgres, struct error *error)
{
    return postgres_execute(postgres,
                            "UPDATE dovetail_internal.position SET owner_epoch = owner_epoch + 1;"
                            "NOTIFY dovetail_catalog",
                            error);
}

/* In a transaction. */
static enum status run_missing(struct postgres *postgres, bool *changed, struct error *error)
{
    enum status status = postgres_execute(
        postgres,
        "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('dovetail migrations'));"
        "CREATE SCHEMA IF NOT EXISTS dovetail_internal;"
        "CREATE TABLE IF NOT EXISTS dovetail_internal.migration ("
        "    name text COLLATE \"C\" PRIMARY KEY, checksum text NOT NULL,"
        "    ran_at timestamptz NOT NULL DEFAULT now())",
        error);
    struct difference difference = {0};
    bool *missing = calloc(migration_count, sizeof *missing);
    if (status == STATUS_OK && missing == NULL)
        status = error_no_memory(error);
    if (status == STATUS_OK)
        status = compare(postgres, &difference, missing, error);
    if (status == STATUS_OK)
        status = refuse(&difference, error);
    *changed = difference.missing > 0;
    for (size_t i = 0; status == STATUS_OK && i < migration_count; i++)
        if (missing[i])
            status = run_file(postgres, &migrations[i], error);
    if (status == STATUS_OK && *changed)
        status = fence_owners(postgres, error);
    free(missing);
    return status;
}

enum status migrations_run(struct postgres *postgres, bool *changed, struct error *error)
{
    *changed = false;
    enum status status = check_encoding(postgres, error);
    if (status != STATUS_OK)
        return status;
    /* The common case needs no right to create anything. */
    bool exists = false;
    status = has_table(postgres, &exists, error);
    if (status == STATUS_OK && exists) {
        struct difference difference;
        status = compare(postgres, &difference, NULL, error);
        if (status == STATUS_OK)
            status = refuse(&difference, error);
        if (status != STATUS_OK || difference.missing == 0)
            return status;
    }
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "BEGIN; " LOCK_WAIT_SQL, error);
    if (status != STATUS_OK)
        return status;
    status = catalog_roles_act_as_owner(postgres, error);
    if (status == STATUS_OK)
        status = run_missing(postgres, changed, error);
    if (status == STATUS_OK)
        return postgres_execute(postgres, "COMMIT", error);
    /* The first error counts; after a lost connection there is nothing to roll back. */
    (void)!postgres_execute(postgres, "ROLLBACK", NULL);
    *changed = false;
    return status;
}

enum status catalog_migrate(struct postgres *postgres, bool *changed, struct error *error)
{
    return migrations_run(postgres, changed, error);
}
