/* Loading the catalogue: see core/catalog/catalog.h. Registering is in catalog_register.c, making
 * versions current in catalog_promote.c.
 *
 * Everything about versions comes from one statement, hence from one snapshot, whether or not the
 * caller has a transaction. A definition that this program cannot load makes the whole load fail:
 * a process that skipped it would fold less than the others. */
#include "core/catalog/catalog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/catalog/catalog_internal.h"
#include "core/catalog/catalog_lookup.h"
#include "core/catalog/migrations.h"

static enum status parse_json(const char *text, json_t **out, struct error *error)
{
    json_error_t fault;
    *out = json_loads(text, JSON_REJECT_DUPLICATES, &fault);
    if (*out == NULL)
        return error_set(error, STATUS_FATAL, "definition in the database: %s", fault.text);
    return STATUS_OK;
}

enum status catalog_parse_source(const char *text, struct source **out, struct error *error)
{
    json_t *json = NULL;
    *out = NULL;
    enum status status = parse_json(text, &json, error);
    if (status == STATUS_OK)
        status = source_create(json, "database", out, error);
    json_decref(json);
    return status;
}

enum status catalog_parse_version(const char *view_text, const char *source_text,
                                  struct source **source, struct view **view, struct error *error)
{
    json_t *json = NULL;
    *view = NULL;
    enum status status = catalog_parse_source(source_text, source, error);
    if (status == STATUS_OK)
        status = parse_json(view_text, &json, error);
    if (status == STATUS_OK)
        status = view_create(json, "database", *source, view, error);
    json_decref(json);
    if (status != STATUS_OK) {
        source_destroy(*source);
        *source = NULL;
    }
    return status;
}

/* Two hexadecimal digits for each byte. */
static bool read_secret(const char *text, unsigned char *out)
{
    if (strlen(text) != 2 * (size_t)RECENT_IDS_SECRET_BYTES)
        return false;
    for (size_t i = 0; i < RECENT_IDS_SECRET_BYTES; i++)
        if (sscanf(text + 2 * i, "%2hhx", &out[i]) != 1)
            return false;
    return true;
}

static enum status load_deployment(struct postgres *postgres, struct catalog *catalog,
                                   struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_query(
        postgres,
        "SELECT deployment_id, encode(id_secret, 'hex') FROM dovetail_internal.deployment", 0, NULL,
        &result, error);
    if (status == STATUS_OK && PQntuples(result) != 1)
        status = error_set(error, STATUS_FATAL, "dovetail_internal.deployment has no row");
    if (status == STATUS_OK)
        snprintf(catalog->deployment_id, sizeof catalog->deployment_id, "%s",
                 PQgetvalue(result, 0, 0));
    if (status == STATUS_OK && !read_secret(PQgetvalue(result, 0, 1), catalog->id_secret))
        status = error_set(error, STATUS_FATAL,
                           "dovetail_internal.deployment: id_secret is not of %d bytes",
                           (int)RECENT_IDS_SECRET_BYTES);
    PQclear(result);
    return status;
}

static void set_fingerprint(struct source *source, const char *fingerprint)
{
    snprintf(source->mask_fingerprint, sizeof source->mask_fingerprint, "%s", fingerprint);
}

static enum status load_sources(struct postgres *postgres, struct catalog *catalog,
                                struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_query(
        postgres,
        "SELECT source, definition, COALESCE(mask_fingerprint, '') FROM dovetail_internal.source"
        " ORDER BY source",
        0, NULL, &result, error);
    int rows = status == STATUS_OK ? PQntuples(result) : 0;
    catalog->sources = calloc((size_t)rows + 1, sizeof *catalog->sources);
    if (catalog->sources == NULL && status == STATUS_OK)
        status = error_no_memory(error);
    for (int row = 0; status == STATUS_OK && row < rows; row++) {
        status = catalog_parse_source(PQgetvalue(result, row, 1),
                                      &catalog->sources[catalog->source_count], error);
        if (status == STATUS_OK)
            set_fingerprint(catalog->sources[catalog->source_count++], PQgetvalue(result, row, 2));
        else
            error_wrap(error, "source %s", PQgetvalue(result, row, 0));
    }
    PQclear(result);
    return status;
}

static void version_deinit(struct catalog_version *version)
{
    view_destroy(version->view); /* it borrows from the source */
    source_destroy(version->source);
    free(version->lookups);
}

static enum status load_version(const PGresult *result, int row, struct catalog_version *out,
                                struct error *error)
{
    *out = (struct catalog_version){
        .version = (int)postgres_int64(result, row, 0),
        .state =
            strcmp(PQgetvalue(result, row, 2), "current") == 0 ? CATALOG_CURRENT : CATALOG_BUILDING,
        .readable = postgres_bool(result, row, 3),
    };
    enum status status = catalog_parse_version(
        PQgetvalue(result, row, 4), PQgetvalue(result, row, 5), &out->source, &out->view, error);
    if (status == STATUS_OK)
        set_fingerprint(out->source, PQgetvalue(result, row, 6));
    if (status == STATUS_OK && !PQgetisnull(result, row, 7)) {
        out->lookups = strdup(PQgetvalue(result, row, 7));
        status = out->lookups == NULL ? error_no_memory(error)
                                      : catalog_lookups_bind(out->view, out->lookups, error);
    }
    if (status != STATUS_OK) {
        error_wrap(error, "view %s, version %d", PQgetvalue(result, row, 1), out->version);
        version_deinit(out);
    }
    return status;
}

static enum status load_versions(struct postgres *postgres, struct catalog *catalog,
                                 struct error *error)
{
    PGresult *result = NULL;
    enum status status =
        postgres_query(postgres,
                       "SELECT version, view, state,"
                       "       state = 'current' AND dovetail_internal.version_reached(version),"
                       "       definition, source_definition,"
                       "       COALESCE((SELECT s.mask_fingerprint FROM dovetail_internal.source s"
                       "                 WHERE s.source = v.source), ''), lookups "
                       "FROM dovetail_internal.view_version AS v "
                       "WHERE state IN ('building', 'current') ORDER BY view, version",
                       0, NULL, &result, error);
    int rows = status == STATUS_OK ? PQntuples(result) : 0;
    catalog->versions = calloc((size_t)rows + 1, sizeof *catalog->versions);
    if (catalog->versions == NULL && status == STATUS_OK)
        status = error_no_memory(error);
    for (int row = 0; status == STATUS_OK && row < rows; row++) {
        status = load_version(result, row, &catalog->versions[catalog->version_count], error);
        if (status == STATUS_OK)
            catalog->version_count++;
    }
    PQclear(result);
    return status;
}

enum status catalog_load(struct postgres *postgres, struct catalog **out, struct error *error)
{
    *out = NULL;
    enum status status = migrations_check(postgres, error);
    if (status != STATUS_OK)
        return status;
    struct catalog *catalog = calloc(1, sizeof *catalog);
    if (catalog == NULL)
        return error_no_memory(error);
    status = load_deployment(postgres, catalog, error);
    if (status == STATUS_OK)
        status = load_sources(postgres, catalog, error);
    if (status == STATUS_OK)
        status = load_versions(postgres, catalog, error);
    if (status != STATUS_OK) {
        catalog_destroy(catalog);
        return status;
    }
    *out = catalog;
    return STATUS_OK;
}

void catalog_destroy(struct catalog *catalog)
{
    if (catalog == NULL)
        return;
    for (size_t i = 0; i < catalog->version_count; i++)
        version_deinit(&catalog->versions[i]);
    for (size_t i = 0; i < catalog->source_count; i++)
        source_destroy(catalog->sources[i]);
    free(catalog->versions);
    free(catalog->sources);
    free(catalog);
}

const struct source *catalog_source(const struct catalog *catalog, const char *name)
{
    for (size_t i = 0; i < catalog->source_count; i++)
        if (strcmp(catalog->sources[i]->name, name) == 0)
            return catalog->sources[i];
    return NULL;
}

const struct catalog_version *catalog_current(const struct catalog *catalog, const char *view)
{
    for (size_t i = 0; i < catalog->version_count; i++)
        if (catalog->versions[i].state == CATALOG_CURRENT &&
            strcmp(catalog->versions[i].view->name, view) == 0)
            return &catalog->versions[i];
    return NULL;
}
