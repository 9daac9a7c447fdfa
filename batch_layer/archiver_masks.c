/* The masks of the topics that are archived: see archiver_internal.h. A segment is masked by one
 * definition throughout. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "batch_layer/archiver_internal.h"

void archiver_free_masks(struct archiver *archiver)
{
    for (size_t i = 0; i < archiver->mask_count; i++) {
        free(archiver->masks[i].topic);
        free(archiver->masks[i].paths);
        json_decref(archiver->masks[i].json);
        record_mask_destroy(archiver->masks[i].masker);
    }
    free(archiver->masks);
    free(archiver->definitions);
    archiver->masks = NULL;
    archiver->mask_count = 0;
    archiver->definitions = NULL;
}

struct archiver_mask *archiver_find_mask(struct archiver *archiver, const char *topic)
{
    for (size_t i = 0; i < archiver->mask_count; i++)
        if (strcmp(archiver->masks[i].topic, topic) == 0)
            return &archiver->masks[i];
    return NULL;
}

static enum status add_mask(struct archiver *archiver, const struct source *source,
                            struct error *error)
{
    struct archiver_mask *mask = &archiver->masks[archiver->mask_count++];
    mask->topic = strdup(source->topic);
    mask->json = json_deep_copy(json_object_get(source->json, "mask"));
    mask->paths = mask_paths_text(source);
    if (mask->topic == NULL || mask->json == NULL || mask->paths == NULL)
        return error_no_memory(error);
    return record_mask_create(source, &mask->masker, error);
}

/* The definitions of the sources that have a mask, to know when one changes. */
static char *definitions_text(const struct catalog *catalog)
{
    json_t *all = json_array();
    bool failed = all == NULL;
    for (size_t i = 0; !failed && i < catalog->source_count; i++)
        if (catalog->sources[i]->mask_count > 0)
            failed = json_array_append(all, catalog->sources[i]->json) != 0;
    char *text = failed ? NULL : json_dumps(all, JSON_COMPACT);
    json_decref(all);
    return text;
}

/* Takes the catalogue's masks up; *changed where they are others than before. */
enum status archiver_update_masks(struct archiver *archiver, const struct catalog *catalog,
                                  bool *changed, struct error *error)
{
    char *definitions = definitions_text(catalog);
    *changed = false;
    if (definitions == NULL)
        return error_no_memory(error);
    if (archiver->definitions != NULL && strcmp(archiver->definitions, definitions) == 0) {
        free(definitions);
        return STATUS_OK;
    }
    *changed = true;
    enum status status = STATUS_OK;
    archiver_free_masks(archiver);
    archiver->definitions = definitions;
    archiver->masks = calloc(catalog->source_count + 1, sizeof *archiver->masks);
    if (archiver->masks == NULL)
        return error_no_memory(error);
    for (size_t i = 0; status == STATUS_OK && i < catalog->source_count; i++)
        if (catalog->sources[i]->mask_count > 0)
            status = add_mask(archiver, catalog->sources[i], error);
    return status;
}

/* Nothing is archived by a mask that is no longer the registered one: the segment is thrown away
 * and read again. */
enum status archiver_check_mask(struct archiver *archiver,
                                const struct archiver_partition *partition, struct error *error)
{
    const struct archiver_mask *mask = archiver_find_mask(archiver, partition->topic);
    const char *parameters[] = {partition->topic};
    PGresult *result = NULL;
    enum status status = postgres_query(archiver->postgres,
                                        "SELECT definition -> 'mask' FROM dovetail_internal.source"
                                        " WHERE topic = $1",
                                        1, parameters, &result, error);
    json_t *now = NULL;
    if (status == STATUS_OK && PQntuples(result) == 1 && !PQgetisnull(result, 0, 0))
        now = json_loads(PQgetvalue(result, 0, 0), 0, NULL);
    bool same = mask == NULL ? now == NULL : now != NULL && json_equal(mask->json, now);
    json_decref(now);
    PQclear(result);
    if (status == STATUS_OK && !same)
        status = error_set(error, STATUS_RETRY,
                           "%s[%" PRId32 "]: the mask has changed; what is not archived yet is read"
                           " again",
                           partition->topic, partition->partition);
    return status;
}
