/* The manifest of the archive, table dovetail_internal.segment: see core/archive/archive.h.
 *
 * Invariant: the segments of a partition follow each other without a gap from its base_offset on.
 * It is checked at every reading; a violation is STATUS_FATAL with the exact offsets. */
#include "core/archive/archive.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void archive_segment_deinit(struct archive_segment *segment)
{
    free(segment->topic);
    free(segment->file);
    *segment = (struct archive_segment){0};
}

void archive_segments_free(struct archive_segment *segments, size_t count)
{
    for (size_t i = 0; segments != NULL && i < count; i++)
        archive_segment_deinit(&segments[i]);
    free(segments);
}

enum { NUMBER_BYTES = 24 };

enum status archive_manifest_add(struct postgres *postgres, const struct archive_segment *segment,
                                 struct error *error)
{
    const int64_t numbers[] = {segment->partition,    segment->start_offset, segment->end_offset,
                               segment->record_count, segment->file_bytes,   segment->raw_bytes};
    enum { NUMBERS = sizeof numbers / sizeof numbers[0] };
    char texts[NUMBERS][NUMBER_BYTES];
    for (size_t i = 0; i < NUMBERS; i++)
        snprintf(texts[i], sizeof texts[i], "%" PRId64, numbers[i]);
    const char *parameters[] = {
        segment->topic,    texts[0],
        texts[1],          texts[2],
        segment->file,     texts[3],
        texts[4],          texts[5],
        segment->checksum, segment->content[0] == '\0' ? NULL : segment->content};
    PGresult *result = NULL;
    enum status status = postgres_query(
        postgres,
        "INSERT INTO dovetail_internal.segment (topic, partition, start_offset, end_offset, file,"
        " record_count, file_bytes, raw_bytes, checksum, content)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        sizeof parameters / sizeof parameters[0], parameters, &result, error);
    PQclear(result);
    return status;
}

enum status archive_manifest_replace(struct postgres *postgres,
                                     const struct archive_segment *segment, struct error *error)
{
    char texts[3][NUMBER_BYTES];
    snprintf(texts[0], NUMBER_BYTES, "%" PRId32, segment->partition);
    snprintf(texts[1], NUMBER_BYTES, "%" PRId64, segment->start_offset);
    snprintf(texts[2], NUMBER_BYTES, "%" PRId64, segment->file_bytes);
    const char *parameters[] = {segment->topic, texts[0],          texts[1],
                                texts[2],       segment->checksum, segment->content};
    PGresult *result = NULL;
    enum status status = postgres_query(
        postgres,
        "UPDATE dovetail_internal.segment SET file_bytes = $4, checksum = $5, content = $6"
        " WHERE topic = $1 AND partition = $2 AND start_offset = $3",
        6, parameters, &result, error);
    PQclear(result);
    return status;
}

static char *copy_text(const PGresult *result, int row, int column)
{
    return strdup(PQgetvalue(result, row, column));
}

static enum status read_row(const PGresult *result, int row, struct archive_segment *out,
                            struct error *error)
{
    out->topic = copy_text(result, row, 0);
    out->partition = (int32_t)postgres_int64(result, row, 1);
    out->start_offset = postgres_int64(result, row, 2);
    out->end_offset = postgres_int64(result, row, 3);
    out->file = copy_text(result, row, 4);
    out->record_count = postgres_int64(result, row, 5);
    out->file_bytes = postgres_int64(result, row, 6);
    out->raw_bytes = postgres_int64(result, row, 7);
    snprintf(out->checksum, sizeof out->checksum, "%s", PQgetvalue(result, row, 8));
    snprintf(out->content, sizeof out->content, "%s", PQgetvalue(result, row, 10));
    return out->topic != NULL && out->file != NULL ? STATUS_OK : error_no_memory(error);
}

static enum status check_contiguity(const struct archive_segment *segment, int64_t expected,
                                    struct error *error)
{
    if (segment->start_offset == expected)
        return STATUS_OK;
    return error_set(error, STATUS_FATAL,
                     "archive: %s/%" PRId32 ": the manifest has no segment for offsets %" PRId64
                     " to %" PRId64,
                     segment->topic, segment->partition, expected, segment->start_offset);
}

enum status archive_manifest_read(struct postgres *postgres, const char *topic,
                                  struct archive_segment **out, int64_t **expected, size_t *count,
                                  struct error *error)
{
    *out = NULL;
    *expected = NULL;
    *count = 0;
    PGresult *result = NULL;
    const char *parameters[] = {topic};
    struct archive_segment *segments = NULL;
    int64_t *starts = NULL;
    size_t rows = 0;
    enum status status = postgres_query(
        postgres,
        "SELECT s.topic, s.partition, s.start_offset, s.end_offset, s.file, s.record_count,"
        " s.file_bytes, s.raw_bytes, s.checksum, coalesce(p.base_offset, 0), s.content"
        " FROM dovetail_internal.segment s LEFT JOIN dovetail_internal.position p"
        " USING (topic, partition)"
        " WHERE s.topic = $1 AND (p.partition IS NOT NULL OR s.partition = -1)"
        " ORDER BY s.partition, s.start_offset",
        1, parameters, &result, error);
    if (status != STATUS_OK)
        goto cleanup;
    rows = (size_t)PQntuples(result);
    segments = calloc(rows + 1, sizeof *segments);
    starts = calloc(rows + 1, sizeof *starts);
    if (segments == NULL || starts == NULL)
        status = error_no_memory(error);
    for (size_t i = 0; status == STATUS_OK && i < rows; i++) {
        status = read_row(result, (int)i, &segments[i], error);
        bool first = i == 0 || segments[i].partition != segments[i - 1].partition;
        starts[i] = first ? postgres_int64(result, (int)i, 9) : segments[i - 1].end_offset;
    }
    if (status != STATUS_OK)
        goto cleanup;
    *out = segments;
    *expected = starts;
    *count = rows;
    segments = NULL;
    starts = NULL;
cleanup:
    archive_segments_free(segments, rows);
    free(starts);
    PQclear(result);
    return status;
}

enum status archive_manifest_list(struct postgres *postgres, const char *topic,
                                  struct archive_segment **out, size_t *count, struct error *error)
{
    int64_t *expected = NULL;
    enum status status = archive_manifest_read(postgres, topic, out, &expected, count, error);
    for (size_t i = 0; status == STATUS_OK && i < *count; i++)
        status = check_contiguity(&(*out)[i], expected[i], error);
    free(expected);
    if (status != STATUS_OK) {
        archive_segments_free(*out, *count);
        *out = NULL;
        *count = 0;
    }
    return status;
}
