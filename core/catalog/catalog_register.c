/* Registering sources, partitions and view versions: see core/catalog/catalog.h.
 *
 * Invariant: a version's speed rows begin at S = P, read while the position rows are locked, and
 * the same transaction adds one to owner_epoch. So a flush is either before it, and S includes it,
 * or is fenced, and its owner claims again with a catalogue that has the version. Positions are
 * locked in the order of partitions, as a flush does, so that the two never deadlock. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/catalog/catalog.h"
#include "core/catalog/catalog_internal.h"
#include "core/catalog/catalog_lookup.h"
#include "core/catalog/catalog_tables.h"
#include "core/records/mask.h"
#include "core/catalog/catalog_roles.h"

enum { NUMBER_BYTES = 24 };

enum status catalog_lock(struct postgres *postgres, struct error *error)
{
    enum status status = catalog_roles_act_as_owner(postgres, error);
    if (status != STATUS_OK)
        return status;
    /* EXCLUSIVE: it begins with row locks, which foreign keys and a publication take, too. */
    return postgres_execute(postgres, "LOCK TABLE dovetail_internal.view_version IN EXCLUSIVE MODE",
                            error);
}

/* --- sources --- */

static enum status check_topic_is_free(struct postgres *postgres, const struct source *source,
                                       struct error *error)
{
    const char *parameters[] = {source->topic, source->name};
    PGresult *result = NULL;
    enum status status = postgres_query(
        postgres, "SELECT source FROM dovetail_internal.source WHERE topic = $1 AND source <> $2",
        2, parameters, &result, error);
    if (status == STATUS_OK && PQntuples(result) > 0)
        status =
            error_set(error, STATUS_REJECT,
                      "source %s: topic: source %s reads topic %s already; a topic has one source",
                      source->name, PQgetvalue(result, 0, 0), source->topic);
    PQclear(result);
    return status;
}

/* The fingerprint of the first key stays, also where a definition has no mask for a while: the
 * archive has hashes of that key. */
static enum status register_key(struct postgres *postgres, struct source *source,
                                struct error *error)
{
    struct mask *mask = NULL;
    char fingerprint[MASK_BYTES + 1];
    enum status status = mask_create(source, &mask, error);
    if (status == STATUS_OK)
        status = mask_fingerprint(mask, fingerprint, error);
    mask_destroy(mask);
    if (status != STATUS_OK)
        return status;
    const char *parameters[] = {source->name, fingerprint};
    return postgres_run(postgres,
                        "UPDATE dovetail_internal.source SET mask_fingerprint = $2"
                        " WHERE source = $1 AND mask_fingerprint IS NULL",
                        2, parameters, error);
}

/* Whoever works by the definition before is fenced, and reads the new one. Rows are locked in the
 * order of partitions, as everybody does. */
static enum status fence_owners(struct postgres *postgres, const struct source *source,
                                struct error *error)
{
    const char *parameters[] = {source->topic};
    enum status status = postgres_run(postgres,
                                      "SELECT FROM dovetail_internal.position WHERE topic = $1 "
                                      "ORDER BY partition FOR UPDATE",
                                      1, parameters, error);
    if (status == STATUS_OK)
        status = postgres_run(postgres,
                              "UPDATE dovetail_internal.position SET owner_epoch = owner_epoch + 1 "
                              "WHERE topic = $1",
                              1, parameters, error);
    return status;
}

static enum status write_source(struct postgres *postgres, const struct source *source,
                                struct error *error)
{
    char *definition = json_dumps(source->json, JSON_COMPACT);
    if (definition == NULL)
        return error_no_memory(error);
    const char *parameters[] = {source->name, source->topic, definition};
    enum status status =
        postgres_run(postgres,
                     "INSERT INTO dovetail_internal.source (source, topic, definition) "
                     "VALUES ($1, $2, $3) ON CONFLICT (source) DO UPDATE "
                     "SET definition = EXCLUDED.definition, registered_at = now()",
                     3, parameters, error);
    free(definition);
    return status;
}

/* The row of the registered definition, compared with the new one. */
static enum status compare_source(const PGresult *result, struct source *source,
                                  enum catalog_change *change, struct error *error)
{
    const char *topic = PQgetvalue(result, 0, 0);
    snprintf(source->mask_fingerprint, sizeof source->mask_fingerprint, "%s",
             PQgetvalue(result, 0, 2));
    if (strcmp(topic, source->topic) != 0)
        return error_set(
            error, STATUS_REJECT,
            "source %s: topic: it is %s in the database and cannot become %s, because "
            "offsets and rows belong to the topic; define a new source, and views over it",
            source->name, topic, source->topic);
    json_t *registered = json_loads(PQgetvalue(result, 0, 1), 0, NULL);
    *change = json_equal(registered, source->json) ? CATALOG_UNCHANGED : CATALOG_CHANGED;
    json_decref(registered);
    return STATUS_OK;
}

enum status catalog_register_source(struct postgres *postgres, struct source *source,
                                    enum catalog_change *change, struct error *error)
{
    *change = CATALOG_ADDED;
    PGresult *result = NULL;
    enum status status = postgres_query(
        postgres,
        "SELECT topic, definition, COALESCE(mask_fingerprint, '') FROM dovetail_internal.source"
        " WHERE source = $1 FOR UPDATE",
        1, (const char *const[]){source->name}, &result, error);
    if (status == STATUS_OK && PQntuples(result) > 0)
        status = compare_source(result, source, change, error);
    PQclear(result);
    if (status == STATUS_OK && *change == CATALOG_ADDED)
        status = check_topic_is_free(postgres, source, error);
    if (status == STATUS_OK && *change != CATALOG_UNCHANGED)
        status = write_source(postgres, source, error);
    if (status == STATUS_OK && *change == CATALOG_CHANGED)
        status = fence_owners(postgres, source, error);
    if (status == STATUS_OK && source->mask_count > 0)
        status = register_key(postgres, source, error);
    if (status == STATUS_OK && *change != CATALOG_UNCHANGED)
        status = postgres_execute(postgres, "NOTIFY dovetail_catalog", error);
    return status;
}

/* --- partitions --- */

/* PostgreSQL's text form of a bigint array; caller frees. */
static char *format_array(const int64_t *numbers, int count)
{
    char *text = malloc((size_t)count * NUMBER_BYTES + 3);
    if (text == NULL)
        return NULL;
    char *at = text;
    *at++ = '{';
    for (int i = 0; i < count; i++)
        at += sprintf(at, "%s%lld", i > 0 ? "," : "", (long long)numbers[i]);
    strcpy(at, "}");
    return text;
}

enum status catalog_add_partitions(struct postgres *postgres, const char *topic,
                                   const int64_t *base_offsets, int count, struct error *error)
{
    char *bases = format_array(base_offsets, count);
    if (bases == NULL)
        return error_no_memory(error);
    const char *parameters[] = {topic, bases};
    /* Views that exist already have seen nothing of a new partition: their speed rows begin at its
     * base. */
    enum status status = postgres_run(
        postgres,
        "WITH made AS ("
        "    INSERT INTO dovetail_internal.position"
        "        (topic, partition, base_offset, next_offset, slice_start)"
        "    SELECT $1, given.number - 1, given.base, given.base, given.base"
        "    FROM unnest($2::bigint[]) WITH ORDINALITY AS given (base, number)"
        "    ON CONFLICT DO NOTHING RETURNING partition, base_offset), "
        "version AS ("
        "    SELECT v.version FROM dovetail_internal.view_version AS v"
        "    JOIN dovetail_internal.source AS s USING (source)"
        "    WHERE s.topic = $1 AND v.state <> 'retired'), "
        "covered AS ("
        "    INSERT INTO dovetail_internal.coverage (version, topic, partition, speed_from)"
        "    SELECT version.version, $1, made.partition, made.base_offset FROM version, made) "
        "INSERT INTO dovetail_internal.view_ledger (version, topic, partition) "
        "SELECT version.version, $1, made.partition FROM version, made",
        2, parameters, error);
    free(bases);
    return status;
}

/* --- views --- */

/* The versions of a view that are in use, 0 = none, and whether they compute the same as the new
 * definition. */
struct registered {
    int current;
    int building;
    bool current_is_equal;
    bool building_is_equal;
};

static enum status read_registered(struct postgres *postgres, const struct view *view,
                                   const char *canonical, struct registered *out,
                                   struct error *error)
{
    *out = (struct registered){0};
    const char *parameters[] = {view->name, canonical};
    PGresult *result = NULL;
    enum status status =
        postgres_query(postgres,
                       "SELECT version, state, canonical = $2 FROM dovetail_internal.view_version "
                       "WHERE view = $1 AND state <> 'retired' ORDER BY version FOR UPDATE",
                       2, parameters, &result, error);
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++) {
        int version = (int)postgres_int64(result, row, 0);
        bool equal = postgres_bool(result, row, 2);
        if (strcmp(PQgetvalue(result, row, 1), "current") == 0) {
            out->current = version;
            out->current_is_equal = equal;
        } else {
            out->building = version;
            out->building_is_equal = equal;
        }
    }
    PQclear(result);
    return status;
}

static enum status retire_building(struct postgres *postgres, const struct view *view,
                                   struct error *error)
{
    enum status status = catalog_retire(postgres, view->name, "building", error);
    return status == STATUS_OK ? postgres_execute(postgres, "NOTIFY dovetail_catalog", error)
                               : status;
}

static enum status insert_version(struct postgres *postgres, const struct view *view,
                                  const char *canonical, int *version, struct error *error)
{
    char *definition = json_dumps(view->json, JSON_COMPACT);
    char *source_definition = json_dumps(view->source->json, JSON_COMPACT);
    PGresult *result = NULL;
    enum status status = STATUS_OK;
    if (definition == NULL || source_definition == NULL) {
        status = error_no_memory(error);
        goto cleanup;
    }
    const char *parameters[] = {view->name, view->source->name, definition, source_definition,
                                canonical};
    status = postgres_query(postgres,
                            "INSERT INTO dovetail_internal.view_version "
                            "(view, source, definition, source_definition, canonical, state) "
                            "VALUES ($1, $2, $3, $4, $5, 'building') RETURNING version",
                            5, parameters, &result, error);
    if (status == STATUS_OK)
        *version = (int)postgres_int64(result, 0, 0);
cleanup:
    PQclear(result);
    free(source_definition);
    free(definition);
    return status;
}

/* S = P and owner_epoch + 1, for every partition. */
static enum status cover(struct postgres *postgres, const struct view *view, int version,
                         struct error *error)
{
    char number[NUMBER_BYTES];
    snprintf(number, sizeof number, "%d", version);
    const char *parameters[] = {view->source->topic, number};
    enum status status = postgres_run(postgres,
                                      "SELECT FROM dovetail_internal.position WHERE topic = $1 "
                                      "ORDER BY partition FOR UPDATE",
                                      1, parameters, error);
    if (status == STATUS_OK)
        status = postgres_run(
            postgres,
            "WITH fenced AS ("
            "    UPDATE dovetail_internal.position SET owner_epoch = owner_epoch + 1"
            "    WHERE topic = $1 RETURNING topic, partition, next_offset), "
            "covered AS ("
            "    INSERT INTO dovetail_internal.coverage (version, topic, partition, speed_from)"
            "    SELECT $2::integer, topic, partition, next_offset FROM fenced) "
            "INSERT INTO dovetail_internal.view_ledger (version, topic, partition) "
            "SELECT $2::integer, topic, partition FROM fenced",
            2, parameters, error);
    return status;
}

static enum status add_version(struct postgres *postgres, const struct view *view,
                               const char *canonical, struct error *error)
{
    int version = 0;
    enum status status = insert_version(postgres, view, canonical, &version, error);
    if (status != STATUS_OK)
        return status;
    char *tables = catalog_tables_sql(view, version);
    if (tables == NULL)
        return error_no_memory(error);
    status = postgres_execute(postgres, tables, error);
    free(tables);
    if (status == STATUS_OK)
        status = catalog_roles_grant_version(postgres, version, error);
    if (status == STATUS_OK)
        status = cover(postgres, view, version, error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "NOTIFY dovetail_catalog", error);
    return status;
}

/* What to do about a definition, given the versions there are. */
static enum status register_canonical(struct postgres *postgres, const struct view *view,
                                      const char *canonical, enum catalog_change *change,
                                      struct error *error)
{
    struct registered registered;
    enum status status = read_registered(postgres, view, canonical, &registered, error);
    if (status != STATUS_OK || registered.building_is_equal)
        return status;
    if (registered.current_is_equal && registered.building == 0)
        return STATUS_OK;
    *change = registered.current != 0 || registered.building != 0 ? CATALOG_CHANGED : CATALOG_ADDED;
    if (registered.building != 0)
        status = retire_building(postgres, view, error);
    if (status == STATUS_OK && !registered.current_is_equal) /* else: back to what is there */
        status = add_version(postgres, view, canonical, error);
    if (status == STATUS_OK)
        status = catalog_promote(postgres, error);
    return status;
}

/* --- lookups: no part of what a version computes --- */

static enum status write_definition(struct postgres *postgres, const char *version,
                                    const struct view *view, struct error *error)
{
    char *definition = json_dumps(view->json, JSON_COMPACT);
    if (definition == NULL)
        return error_no_memory(error);
    enum status status = postgres_run(
        postgres,
        "UPDATE dovetail_internal.view_version SET definition = $2 WHERE version = $1::integer", 2,
        (const char *const[]){version, definition}, error);
    free(definition);
    return status;
}

static bool has_lookups_of(const char *definition, const struct view *view)
{
    json_t *json = json_loads(definition, 0, NULL);
    const json_t *registered = json_object_get(json, "lookup");
    const json_t *wanted = json_object_get(view->json, "lookup");
    bool equal = registered == NULL || wanted == NULL ? registered == wanted
                                                      : json_equal(registered, wanted);
    json_decref(json);
    return equal;
}

static bool is_equal(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static enum status rebind(struct postgres *postgres, const struct view *view, int version,
                          const char *binding, struct error *error)
{
    struct view *copy = NULL; /* to be bound */
    enum status status = view_create(view->json, "definition", view->source, &copy, error);
    if (status == STATUS_OK)
        status = catalog_rebind(postgres, version, copy, binding, error);
    view_destroy(copy);
    return status;
}

/* Makes the lookups of the version that computes this definition those of the definition. A version
 * that is building takes its own when it becomes current. */
static enum status register_lookups(struct postgres *postgres, const struct view *view,
                                    const char *canonical, const char *binding,
                                    enum catalog_change *change, struct error *error)
{
    enum { VERSION, IS_CURRENT, DEFINITION, LOOKUPS, HAS_SQL_VIEW };
    PGresult *result = NULL;
    bool changed = false;
    enum status status =
        postgres_query(postgres,
                       "SELECT version, state = 'current', definition, lookups,"
                       " to_regclass('dovetail.' || quote_ident(view)) IS NOT NULL "
                       "FROM dovetail_internal.view_version "
                       "WHERE view = $1 AND canonical = $2 AND state <> 'retired'",
                       2, (const char *const[]){view->name, canonical}, &result, error);
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++) {
        const char *version = PQgetvalue(result, row, VERSION);
        const char *bound =
            PQgetisnull(result, row, LOOKUPS) ? NULL : PQgetvalue(result, row, LOOKUPS);
        if (!has_lookups_of(PQgetvalue(result, row, DEFINITION), view)) {
            changed = true;
            status = write_definition(postgres, version, view, error);
        }
        /* A table that was dropped has taken the SQL view with it. */
        bool whole = is_equal(bound, binding) &&
                     (binding == NULL || postgres_bool(result, row, HAS_SQL_VIEW));
        if (status == STATUS_OK && postgres_bool(result, row, IS_CURRENT) && !whole) {
            changed = true;
            status = rebind(postgres, view, atoi(version), binding, error);
        }
    }
    if (changed && *change == CATALOG_UNCHANGED)
        *change = CATALOG_CHANGED;
    PQclear(result);
    return status;
}

enum status catalog_register_view(struct postgres *postgres, const struct view *view,
                                  enum catalog_change *change, struct error *error)
{
    char *binding = NULL;
    *change = CATALOG_UNCHANGED;
    char *canonical = view_canonical_text(view);
    if (canonical == NULL)
        return error_no_memory(error);
    enum status status = catalog_lookups_resolve(postgres, view, &binding, error);
    if (status == STATUS_OK)
        status = register_canonical(postgres, view, canonical, change, error);
    if (status == STATUS_OK)
        status = register_lookups(postgres, view, canonical, binding, change, error);
    free(binding);
    free(canonical);
    return status == STATUS_OK ? status : error_wrap(error, "view %s", view->name);
}
