/* What crashed processes left in the archive: see leftovers.h.
 *
 * The archive's own files are found by their names; a manifest that was restored from a backup is
 * older than they are. That is why Kafka decides what may go, and why a file is taken into the
 * manifest only where the log has lost what it holds. */
#include "batch_layer/leftovers.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/archive/batch_lock.h"
#include "core/program/program.h"
#include "core/records/mask.h"

struct clearing {
    const struct config *config;
    struct postgres *postgres;
    const struct source *source;
    const struct archiver_partition *partitions;
    size_t count;
    const int64_t *lows;
    bool imports; /* nobody imports into this source */
    bool adopted;
};

static enum status remove_one(const struct clearing *clearing,
                              const struct archive_unlisted *unlisted, struct error *error)
{
    enum status status =
        archive_remove_file(clearing->config->batch_archive, unlisted->file, error);
    if (status == STATUS_OK)
        program_log(LOG_INFO, "archive: %s was never finished: removed", unlisted->file);
    return status;
}

static void leave_one(const struct archive_unlisted *unlisted, const char *why)
{
    program_log(LOG_WARNING,
                "archive: %s is in no manifest and stays where it is: %s; tools that read the"
                " whole folder count its records, Dovetail does not",
                unlisted->file, why);
}

static enum status note_last(struct postgres *postgres, const struct archive_segment *segment,
                             const struct archive_record *last, struct error *error)
{
    return last->offset < 0 ? STATUS_OK
                            : archiver_note_last(postgres, segment->topic, segment->partition,
                                                 last->offset, last->timestamp_ms, error);
}

static bool is_masked_so(const struct source *source, const char *masked)
{
    if (source->mask_count == 0)
        return masked == NULL;
    char *paths = mask_paths_text(source);
    bool same = paths != NULL && masked != NULL && strcmp(paths, masked) == 0;
    free(paths);
    return same;
}

/* The only copy of what is next. Both rows, or none. */
static enum status add_rows(struct clearing *clearing, const struct archive_segment *segment,
                            const struct archive_record *last, struct error *error)
{
    struct error ignored;
    enum status status = postgres_execute(clearing->postgres, "BEGIN", error);
    if (status == STATUS_OK)
        status = archive_manifest_add(clearing->postgres, segment, error);
    if (status == STATUS_OK)
        status = note_last(clearing->postgres, segment, last, error);
    if (status == STATUS_OK)
        status = postgres_execute(clearing->postgres, "COMMIT", error);
    else
        (void)!postgres_execute(clearing->postgres, "ROLLBACK", &ignored);
    return status;
}

static enum status adopt_one(struct clearing *clearing, const struct archive_unlisted *unlisted,
                             int64_t *archived_end, struct error *error)
{
    struct archive_segment segment = {.topic = (char *)clearing->source->topic,
                                      .partition = unlisted->partition,
                                      .start_offset = unlisted->start_offset,
                                      .end_offset = unlisted->end_offset,
                                      .file = unlisted->file};
    struct archive_record last;
    char *masked = NULL;
    struct error fault;
    enum status status = STATUS_OK;
    if (archive_segment_examine(clearing->config->batch_archive, &segment, &masked, &last,
                                &fault) != STATUS_OK) {
        leave_one(unlisted, fault.text);
    } else if (!is_masked_so(clearing->source, masked)) {
        leave_one(unlisted, "it is not masked as the source says");
    } else {
        status = add_rows(clearing, &segment, &last, error);
        if (status == STATUS_OK)
            program_log(LOG_NOTICE,
                        "archive: %s was never finished, and Kafka does not have its offsets any"
                        " more: it is archived now",
                        unlisted->file);
        *archived_end = unlisted->end_offset;
        clearing->adopted = true;
    }
    free(masked);
    return status;
}

static const struct archiver_partition *find_partition(const struct clearing *clearing,
                                                       int32_t number)
{
    for (size_t i = 0; i < clearing->count; i++)
        if (clearing->partitions[i].partition == number &&
            strcmp(clearing->partitions[i].topic, clearing->source->topic) == 0)
            return &clearing->partitions[i];
    return NULL;
}

static enum status clear_one(struct clearing *clearing, const struct archive_unlisted *unlisted,
                             int64_t *archived_end, struct error *error)
{
    if (unlisted->partition == ARCHIVE_IMPORTED) /* an import is repeated as a whole */
        return clearing->imports ? remove_one(clearing, unlisted, error) : STATUS_OK;
    const struct archiver_partition *partition = find_partition(clearing, unlisted->partition);
    if (partition == NULL) {
        leave_one(unlisted, "there is no such partition");
        return STATUS_OK;
    }
    if (*archived_end < partition->archived_end)
        *archived_end = partition->archived_end;
    int64_t low = clearing->lows[partition - clearing->partitions];
    bool listed =
        unlisted->start_offset >= partition->base_offset && unlisted->end_offset <= *archived_end;
    int64_t needed =
        unlisted->start_offset < *archived_end ? *archived_end : unlisted->start_offset;
    bool logged = !partition->missing && unlisted->start_offset >= partition->base_offset &&
                  low <= needed && unlisted->end_offset <= partition->log_end;
    if (listed || logged)
        return remove_one(clearing, unlisted, error);
    if (!partition->missing && unlisted->start_offset == *archived_end && low > *archived_end)
        return adopt_one(clearing, unlisted, archived_end, error);
    leave_one(unlisted, "neither the archive nor Kafka has all its offsets");
    return STATUS_OK;
}

static enum status clear_unlisted(struct clearing *clearing, struct error *error)
{
    struct archive_segment *segments = NULL;
    struct archive_unlisted *unlisted = NULL;
    size_t segment_count = 0;
    size_t count = 0;
    const char *topic = clearing->source->topic;
    enum status status =
        archive_manifest_list(clearing->postgres, topic, &segments, &segment_count, error);
    if (status == STATUS_OK)
        status = archive_find_unlisted(clearing->config->batch_archive, topic, segments,
                                       segment_count, &unlisted, &count, error);
    int64_t archived_end = 0;
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        if (i == 0 || unlisted[i].partition != unlisted[i - 1].partition)
            archived_end = 0;
        status = clear_one(clearing, &unlisted[i], &archived_end, error);
    }
    archive_unlisted_free(unlisted, count);
    archive_segments_free(segments, segment_count);
    return status;
}

static enum status clear_source(struct clearing *clearing, struct error *error)
{
    enum status status =
        archive_remove_temporary(clearing->config->batch_archive, clearing->source->topic, error);
    if (status == STATUS_OK)
        status = batch_lock_try_import(clearing->postgres, clearing->source->name,
                                       &clearing->imports, error);
    if (status != STATUS_OK)
        return status;
    status = clear_unlisted(clearing, error);
    if (status == STATUS_OK && clearing->imports)
        status = batch_lock_end_import(clearing->postgres, clearing->source->name, error);
    return status;
}

enum status leftovers_clear(const struct config *config, struct postgres *postgres,
                            const struct catalog *catalog,
                            const struct archiver_partition *partitions, size_t count,
                            const int64_t *lows, bool *adopted, struct error *error)
{
    enum status status = STATUS_OK;
    *adopted = false;
    for (size_t i = 0; status == STATUS_OK && i < catalog->source_count; i++) {
        struct clearing clearing = {.config = config,
                                    .postgres = postgres,
                                    .source = catalog->sources[i],
                                    .partitions = partitions,
                                    .count = count,
                                    .lows = lows};
        status = clear_source(&clearing, error);
        *adopted = *adopted || clearing.adopted;
    }
    return status;
}
