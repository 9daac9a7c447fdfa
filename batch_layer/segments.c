/* The segments of a run: see segments.h. */
#include "batch_layer/segments.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

bool segments_are_read(const struct catalog *catalog, const char *topic)
{
    for (size_t i = 0; i < catalog->version_count; i++)
        if (strcmp(catalog->versions[i].source->topic, topic) == 0)
            return true;
    return false;
}

/* Takes over the topic's segments that begin below their partition's cut-off. */
static enum status take_segments(struct segments *out, struct archive_segment *segments,
                                 size_t count, const struct cut *cuts, size_t cut_count,
                                 struct error *error)
{
    struct archive_segment *grown =
        realloc(out->items, (out->count + count + 1) * sizeof *out->items);
    if (grown == NULL)
        return error_no_memory(error);
    out->items = grown;
    for (size_t i = 0; i < count; i++) {
        const struct cut *cut =
            cut_find((struct cut *)cuts, cut_count, segments[i].topic, segments[i].partition);
        if (cut == NULL || segments[i].start_offset >= cut->offset)
            continue;
        out->items[out->count++] = segments[i];
        segments[i] = (struct archive_segment){0};
    }
    return STATUS_OK;
}

/* archive_manifest_list has checked that there is no gap between them. */
static enum status check_coverage(const struct segments *segments, const struct cut *cut,
                                  struct error *error)
{
    int64_t covered = cut->base_offset;
    for (size_t i = 0; i < segments->count; i++) {
        const struct archive_segment *segment = &segments->items[i];
        if (segment->partition == cut->partition && strcmp(segment->topic, cut->topic) == 0)
            covered = segment->end_offset;
    }
    if (covered >= cut->offset && cut->offset >= cut->base_offset)
        return STATUS_OK;
    return error_set(error, STATUS_FATAL,
                     "%s[%" PRId32 "]: the cut-off %" PRId64
                     " is outside of what is archived, %" PRId64 " to %" PRId64,
                     cut->topic, cut->partition, cut->offset, cut->base_offset, covered);
}

enum status segments_list(struct postgres *postgres, const struct catalog *catalog,
                          const struct cut *cuts, size_t cut_count, struct segments *out,
                          struct error *error)
{
    *out = (struct segments){0};
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < catalog->source_count; i++) {
        struct archive_segment *segments = NULL;
        size_t count = 0;
        if (!segments_are_read(catalog, catalog->sources[i]->topic))
            continue;
        status =
            archive_manifest_list(postgres, catalog->sources[i]->topic, &segments, &count, error);
        if (status == STATUS_OK)
            status = take_segments(out, segments, count, cuts, cut_count, error);
        archive_segments_free(segments, count);
    }
    for (size_t i = 0; status == STATUS_OK && i < cut_count; i++)
        if (segments_are_read(catalog, cuts[i].topic))
            status = check_coverage(out, &cuts[i], error);
    return status;
}

/* --- fingerprints --- */

static bool is_of(const struct archive_segment *segment, const struct cut *cut)
{
    return segment->partition == cut->partition && strcmp(segment->topic, cut->topic) == 0;
}

static void hash_line(XXH3_state_t *state, const char *what, int64_t from, int64_t to,
                      const char *checksum)
{
    char line[128];
    int length =
        snprintf(line, sizeof line, "%s %" PRId64 " %" PRId64 " %s\n", what, from, to, checksum);
    XXH3_128bits_update(state, line, (size_t)length);
}

enum status segments_fingerprint(const struct segments *segments, const struct gap *gaps,
                                 size_t gap_count, const struct cut *cut, int64_t below,
                                 char out[SEGMENTS_FINGERPRINT_BYTES], struct error *error)
{
    XXH3_state_t *state = XXH3_createState();
    if (state == NULL)
        return error_no_memory(error);
    XXH3_128bits_reset(state);
    hash_line(state, "range", cut->base_offset, below, "");
    for (size_t i = 0; i < segments->count; i++) {
        const struct archive_segment *segment = &segments->items[i];
        if (is_of(segment, cut) && segment->start_offset < below)
            hash_line(state, "segment", segment->start_offset, segment->end_offset,
                      segment->checksum);
    }
    for (size_t i = 0; i < gap_count; i++)
        if (gaps[i].partition == cut->partition && gaps[i].from_offset < below)
            hash_line(state, gaps[i].new_log ? "new log" : "gap", gaps[i].from_offset,
                      gaps[i].to_offset, "");
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    snprintf(out, SEGMENTS_FINGERPRINT_BYTES, "%016" PRIx64 "%016" PRIx64, (uint64_t)hash.high64,
             (uint64_t)hash.low64);
    return STATUS_OK;
}
