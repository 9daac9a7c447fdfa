/* Loading the catalogue: see core/catalog/catalog.h. Registering is in catalog_register.c, making
 * versions current in catalog_promote.c.
 *
 * Everything about versions comes from one statement, hence from one snapshot, whether or not the
 * caller has a transaction. A definition that this program does not accept is left out and told
 * among the refusals: it must not keep other views from being asked. */
#include "core/catalog/catalog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/catalog/catalog_internal.h"
#include "core/catalog/catalog_lookup.h"
#include "core/catalog/migrations.h"

/* PostgreSQL has made sure that it is JSON. What jansson may still refuse of it is listed; any
 * other fault is a want of memory, which it tells in many ways, and no fault of the definition. */
static enum status parse_json(const char *text, json_t **out, struct error *error)
{
    json_error_t fault;
    *out = json_loads(text, JSON_REJECT_DUPLICATES, &fault);
    if (*out != NULL)
        return STATUS_OK;
    switch (json_error_code(&fault)) {
    case json_error_stack_overflow:
    case json_error_invalid_utf8:
    case json_error_null_character:
    case json_error_null_byte_in_key:
    case json_error_duplicate_key:
    case json_error_numeric_overflow:
        return error_set(error, STATUS_REJECT, "definition in the database: %s", fault.text);
    default:
        return error_no_memory(error);
    }
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

static void version_deinit(struct catalog_version *version)
{
    view_destroy(version->view); /* it borrows from the source */
    source_destroy(version->source);
    free(version->lookups);
}

/* --- refusals --- */

static void refusal_deinit(struct catalog_refusal *refusal)
{
    free(refusal->topic);
    free(refusal->source);
    free(refusal->view);
    free(refusal->reason);
}

/* Leaves a definition out; `view` NULL: a source's newest. */
static enum status refuse(struct catalog *catalog, const char *topic, const char *source,
                          const char *view, int version, enum catalog_state state, bool by_engine,
                          const char *reason, struct error *error)
{
    struct catalog_refusal *grown =
        reallocarray(catalog->refusals, catalog->refusal_count + 1, sizeof *grown);
    if (grown == NULL)
        return error_no_memory(error);
    catalog->refusals = grown;
    struct catalog_refusal *refusal = &grown[catalog->refusal_count++];
    *refusal = (struct catalog_refusal){
        .topic = strdup(topic),
        .source = strdup(source),
        .view = view != NULL ? strdup(view) : NULL,
        .version = version,
        .state = state,
        .by_engine = by_engine,
        .reason = strdup(reason),
    };
    if (refusal->topic == NULL || refusal->source == NULL || refusal->reason == NULL ||
        (view != NULL && refusal->view == NULL))
        return error_no_memory(error);
    return STATUS_OK;
}

static const struct catalog_refusal *refused_source(const struct catalog *catalog, const char *name)
{
    for (size_t i = 0; i < catalog->refusal_count; i++)
        if (catalog->refusals[i].view == NULL && strcmp(catalog->refusals[i].source, name) == 0)
            return &catalog->refusals[i];
    return NULL;
}

const struct catalog_refusal *catalog_refused_view(const struct catalog *catalog, const char *view)
{
    if (catalog_current(catalog, view) != NULL)
        return NULL;
    const struct catalog_refusal *found = NULL;
    for (size_t i = 0; i < catalog->refusal_count; i++) {
        const struct catalog_refusal *refusal = &catalog->refusals[i];
        if (refusal->view != NULL && strcmp(refusal->view, view) == 0 &&
            (found == NULL || refusal->state == CATALOG_CURRENT))
            found = refusal;
    }
    return found;
}

const struct catalog_refusal *catalog_holds_topic(const struct catalog *catalog, const char *topic)
{
    for (size_t i = 0; i < catalog->refusal_count; i++)
        if (strcmp(catalog->refusals[i].topic, topic) == 0)
            return &catalog->refusals[i];
    return NULL;
}

void catalog_refusal_describe(const struct catalog_refusal *refusal, char *out, size_t size)
{
    if (refusal->view != NULL)
        snprintf(out, size, "view %s, version %d, of topic %s is refused by this program: %s",
                 refusal->view, refusal->version, refusal->topic, refusal->reason);
    else
        snprintf(out, size, "source %s of topic %s is refused by this program: %s", refusal->source,
                 refusal->topic, refusal->reason);
}

void catalog_leave_held(struct catalog *catalog)
{
    size_t kept = 0;
    for (size_t i = 0; i < catalog->version_count; i++) {
        struct catalog_version *version = &catalog->versions[i];
        if (catalog_holds_topic(catalog, version->source->topic) != NULL)
            version_deinit(version);
        else
            catalog->versions[kept++] = *version;
    }
    catalog->version_count = kept;
}

char *catalog_refusals_json(const struct catalog *catalog)
{
    json_t *all = json_array();
    for (size_t i = 0; i < catalog->refusal_count; i++) {
        const struct catalog_refusal *refusal = &catalog->refusals[i];
        bool current = refusal->state == CATALOG_CURRENT;
        json_array_append_new(
            all, json_pack("{s:s?, s:o, s:s, s:s, s:o, s:s}", "view", refusal->view, "version",
                           refusal->view != NULL ? json_integer(refusal->version) : json_null(),
                           "source", refusal->source, "topic", refusal->topic, "state",
                           refusal->view == NULL ? json_null()
                           : current             ? json_string("current")
                                                 : json_string("building"),
                           "reason", refusal->reason));
    }
    char *text = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    return text;
}

/* --- sources and versions --- */

static enum status load_source(const PGresult *result, int row, struct catalog *catalog,
                               struct error *error)
{
    const char *name = PQgetvalue(result, row, 0);
    struct source **out = &catalog->sources[catalog->source_count];
    enum status status = catalog_parse_source(PQgetvalue(result, row, 1), out, error);
    if (status == STATUS_REJECT)
        return refuse(catalog, PQgetvalue(result, row, 3), name, NULL, 0, CATALOG_CURRENT, false,
                      error->text, error);
    if (status != STATUS_OK)
        return error_wrap(error, "source %s", name);
    set_fingerprint(*out, PQgetvalue(result, row, 2));
    catalog->source_count++;
    return STATUS_OK;
}

static enum status load_sources(struct postgres *postgres, struct catalog *catalog,
                                struct error *error)
{
    PGresult *result = NULL;
    enum status status =
        postgres_query(postgres,
                       "SELECT source, definition, COALESCE(mask_fingerprint, ''), topic"
                       " FROM dovetail_internal.source ORDER BY source",
                       0, NULL, &result, error);
    int rows = status == STATUS_OK ? PQntuples(result) : 0;
    catalog->sources = calloc((size_t)rows + 1, sizeof *catalog->sources);
    if (catalog->sources == NULL && status == STATUS_OK)
        status = error_no_memory(error);
    for (int row = 0; status == STATUS_OK && row < rows; row++)
        status = load_source(result, row, catalog, error);
    PQclear(result);
    return status;
}

enum version_column {
    VERSION_NUMBER,
    VERSION_VIEW,
    VERSION_STATE,
    VERSION_READABLE,
    VERSION_DEFINITION,
    VERSION_SOURCE_DEFINITION,
    VERSION_MASK,
    VERSION_LOOKUPS,
    VERSION_SOURCE,
    VERSION_TOPIC,
    VERSION_CANONICAL,
};

/* STATUS_REJECT: the definition is not one that this program accepts, or, with *by_engine, it would
 * compute something else. */
static enum status parse_version(const PGresult *result, int row, const struct catalog *catalog,
                                 struct catalog_version *out, bool *by_engine, struct error *error)
{
    const struct catalog_refusal *source =
        refused_source(catalog, PQgetvalue(result, row, VERSION_SOURCE));
    if (source != NULL)
        return error_set(error, STATUS_REJECT, "its source %s is refused: %s", source->source,
                         source->reason);
    enum status status = catalog_parse_version(PQgetvalue(result, row, VERSION_DEFINITION),
                                               PQgetvalue(result, row, VERSION_SOURCE_DEFINITION),
                                               &out->source, &out->view, error);
    if (status != STATUS_OK)
        return status;
    status = catalog_check_engine(out->view, PQgetvalue(result, row, VERSION_CANONICAL), error);
    *by_engine = status == STATUS_REJECT;
    if (status != STATUS_OK)
        return status;
    set_fingerprint(out->source, PQgetvalue(result, row, VERSION_MASK));
    if (PQgetisnull(result, row, VERSION_LOOKUPS))
        return STATUS_OK;
    out->lookups = strdup(PQgetvalue(result, row, VERSION_LOOKUPS));
    return out->lookups == NULL ? error_no_memory(error)
                                : catalog_lookups_bind(out->view, out->lookups, error);
}

static enum status load_version(const PGresult *result, int row, struct catalog *catalog,
                                struct error *error)
{
    bool current = strcmp(PQgetvalue(result, row, VERSION_STATE), "current") == 0;
    const char *view = PQgetvalue(result, row, VERSION_VIEW);
    struct catalog_version *out = &catalog->versions[catalog->version_count];
    *out = (struct catalog_version){
        .version = (int)postgres_int64(result, row, VERSION_NUMBER),
        .state = current ? CATALOG_CURRENT : CATALOG_BUILDING,
        .readable = postgres_bool(result, row, VERSION_READABLE),
    };
    bool by_engine = false;
    enum status status = parse_version(result, row, catalog, out, &by_engine, error);
    if (status == STATUS_OK) {
        catalog->version_count++;
        return STATUS_OK;
    }
    version_deinit(out);
    if (status == STATUS_REJECT)
        return refuse(catalog, PQgetvalue(result, row, VERSION_TOPIC),
                      PQgetvalue(result, row, VERSION_SOURCE), view, out->version, out->state,
                      by_engine, error->text, error);
    return error_wrap(error, "view %s, version %d", view, out->version);
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
                       "                 WHERE s.source = v.source), ''), lookups, source,"
                       "       (SELECT s.topic FROM dovetail_internal.source s"
                       "        WHERE s.source = v.source), canonical "
                       "FROM dovetail_internal.view_version AS v "
                       "WHERE state IN ('building', 'current') ORDER BY view, version",
                       0, NULL, &result, error);
    int rows = status == STATUS_OK ? PQntuples(result) : 0;
    catalog->versions = calloc((size_t)rows + 1, sizeof *catalog->versions);
    if (catalog->versions == NULL && status == STATUS_OK)
        status = error_no_memory(error);
    for (int row = 0; status == STATUS_OK && row < rows; row++)
        status = load_version(result, row, catalog, error);
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
    for (size_t i = 0; i < catalog->refusal_count; i++)
        refusal_deinit(&catalog->refusals[i]);
    for (size_t i = 0; i < catalog->replaced_count; i++)
        refusal_deinit(&catalog->replaced[i]);
    free(catalog->replaced);
    free(catalog->refusals);
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
