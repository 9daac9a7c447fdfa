/* Versions of another engine: see core/catalog/catalog.h.
 *
 * Invariant: a state is only ever folded, merged and finished by programs that compute what the
 * version was registered for: by the same ENGINE_VERSION, with the same rules of its time zones.
 * Any other version is refused, and so holds its topic. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/catalog/catalog.h"
#include "core/catalog/catalog_internal.h"

/* The engine's version in a canonical text; 0 where there is none. */
static int engine_in(const char *canonical)
{
    json_t *json = json_loads(canonical, 0, NULL);
    int engine = (int)json_integer_value(json_object_get(json, "engine"));
    json_decref(json);
    return engine;
}

enum status catalog_check_engine(const struct view *view, const char *registered,
                                 struct error *error)
{
    char *ours = view_canonical_text(view);
    if (ours == NULL)
        return error_no_memory(error);
    bool same = strcmp(ours, registered) == 0;
    free(ours);
    if (same)
        return STATUS_OK;
    int engine = engine_in(registered);
    if (engine > ENGINE_VERSION)
        return error_set(error, STATUS_REJECT,
                         "it is of engine version %d, and this program of %d: use the newer "
                         "Dovetail",
                         engine, (int)ENGINE_VERSION);
    if (engine < ENGINE_VERSION)
        return error_set(error, STATUS_REJECT,
                         "it is of engine version %d, and this program of %d: run `dovetail init` "
                         "with its definition, then `dovetail-batch run`; or `dovetail drop`",
                         engine, (int)ENGINE_VERSION);
    return error_set(error, STATUS_REJECT,
                     "it was registered with other rules of its time zones than this host has: "
                     "bring all hosts' tzdata to one version, run `dovetail init`, then "
                     "`dovetail-batch run`");
}

/* A run of ours builds what replaces it. */
static bool is_replaced(const struct catalog *catalog, const struct catalog_refusal *refusal)
{
    if (refusal->view == NULL || !refusal->by_engine)
        return false;
    for (size_t i = 0; i < catalog->version_count; i++)
        if (catalog->versions[i].state == CATALOG_BUILDING &&
            strcmp(catalog->versions[i].view->name, refusal->view) == 0)
            return true;
    return false;
}

bool catalog_waits_for_run(const struct catalog *catalog)
{
    for (size_t i = 0; i < catalog->refusal_count; i++)
        if (!is_replaced(catalog, &catalog->refusals[i]))
            return false;
    return catalog->refusal_count > 0;
}

enum status catalog_leave_replaced(struct catalog *catalog, struct error *error)
{
    size_t kept = 0;
    catalog->replaced = calloc(catalog->refusal_count + 1, sizeof *catalog->replaced);
    if (catalog->replaced == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < catalog->refusal_count; i++) {
        struct catalog_refusal refusal = catalog->refusals[i];
        if (is_replaced(catalog, &refusal))
            catalog->replaced[catalog->replaced_count++] = refusal;
        else
            catalog->refusals[kept++] = refusal;
    }
    catalog->refusal_count = kept;
    return STATUS_OK;
}

enum status catalog_check_replaced(struct postgres *postgres, const struct catalog *catalog,
                                   struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < catalog->replaced_count; i++) {
        const struct catalog_refusal *refusal = &catalog->replaced[i];
        PGresult *result = NULL;
        char number[16];
        snprintf(number, sizeof number, "%d", refusal->version);
        status = postgres_query(postgres,
                                "SELECT FROM dovetail_internal.view_version"
                                " WHERE version = $1::integer AND state <> 'retired'",
                                1, (const char *const[]){number}, &result, error);
        if (status == STATUS_OK && PQntuples(result) > 0)
            status = error_set(error, STATUS_FATAL,
                               "view %s, version %d cannot be folded by this program, and this run "
                               "does not replace it, because its successor cannot be read yet",
                               refusal->view, refusal->version);
        PQclear(result);
    }
    return status;
}
