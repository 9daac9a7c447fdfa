/* Records into segments, and segments into the manifest: see archiver_internal.h. The manifest row
 * comes after the file is durable (core/archive/archive.h). */
#include <inttypes.h>
#include <stdio.h>

#include "batch_layer/archiver_internal.h"

enum { SEGMENT_RECORDS_MAX = 1 << 24 }; /* bounds the segments of records without bytes */

static enum status create_writer(struct archiver *archiver, struct archiver_partition *partition,
                                 struct error *error)
{
    const struct archiver_mask *mask = archiver_find_mask(archiver, partition->topic);
    enum status status = archive_writer_create(archiver->config->batch_archive, partition->topic,
                                               partition->partition, partition->archived_end,
                                               &partition->writer, error);
    if (status == STATUS_OK)
        archive_writer_set_level(partition->writer, (int)archiver->config->batch_compression_level);
    if (status == STATUS_OK && mask != NULL)
        status = archive_writer_set_masked(partition->writer, mask->paths, error);
    return status;
}

enum status archiver_note_last(struct postgres *postgres, const char *topic, int32_t partition,
                               int64_t offset, int64_t timestamp_ms, struct error *error)
{
    char numbers[3][24];
    snprintf(numbers[0], sizeof numbers[0], "%" PRId32, partition);
    snprintf(numbers[1], sizeof numbers[1], "%" PRId64, offset);
    snprintf(numbers[2], sizeof numbers[2], "%" PRId64, timestamp_ms);
    const char *parameters[] = {topic, numbers[0], numbers[1], numbers[2]};
    PGresult *result = NULL;
    enum status status = postgres_query(
        postgres,
        "INSERT INTO dovetail_internal.archived_last AS l VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (topic, partition) DO UPDATE SET last_offset = EXCLUDED.last_offset,"
        " last_timestamp_ms = EXCLUDED.last_timestamp_ms",
        4, parameters, &result, error);
    PQclear(result);
    return status;
}

enum status archiver_close_segment(struct archiver *archiver, struct archiver_partition *partition,
                                   struct error *error)
{
    if (partition->next_offset == partition->archived_end)
        return STATUS_OK;
    enum status status = STATUS_OK;
    if (partition->writer == NULL) /* nothing but a hole, such as the marker of a transaction */
        status = create_writer(archiver, partition, error);
    if (status == STATUS_OK)
        status = archiver_check_mask(archiver, partition, error);
    struct archive_segment segment = {0};
    if (status == STATUS_OK)
        status = archive_writer_finish(partition->writer, partition->next_offset, &segment, error);
    if (status == STATUS_OK)
        status = archive_manifest_add(archiver->postgres, &segment, error);
    archive_segment_deinit(&segment);
    if (status == STATUS_OK && partition->last_offset >= 0)
        status = archiver_note_last(archiver->postgres, partition->topic, partition->partition,
                                    partition->last_offset, partition->last_timestamp_ms, error);
    if (status != STATUS_OK)
        return status;
    archive_writer_destroy(partition->writer);
    partition->writer = NULL;
    partition->archived_end = partition->next_offset;
    return STATUS_OK;
}

enum status archiver_flush(struct archiver *archiver, struct error *error)
{
    for (size_t i = 0; i < archiver->count; i++) {
        enum status status = archiver_close_segment(archiver, &archiver->partitions[i], error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

enum status archiver_add_record(struct archiver *archiver, struct archiver_partition *partition,
                                const rd_kafka_message_t *message, struct error *error)
{
    enum status status = STATUS_OK;
    if (partition->writer == NULL)
        status = create_writer(archiver, partition, error);
    if (status != STATUS_OK)
        return status;
    rd_kafka_timestamp_type_t type;
    struct archive_record record = {.offset = message->offset,
                                    .timestamp_ms = rd_kafka_message_timestamp(message, &type),
                                    .value = message->payload,
                                    .length = message->payload == NULL ? 0 : message->len,
                                    .readable = message->payload == NULL ? 0 : message->len};
    const struct archiver_mask *mask = archiver_find_mask(archiver, partition->topic);
    if (mask != NULL)
        status = record_mask_apply(mask->masker, record.value, record.length, &record.value,
                                   &record.length, error);
    record.readable = record.length;
    if (status == STATUS_OK)
        status = archive_writer_add(partition->writer, &record, error);
    if (status != STATUS_OK)
        return status;
    partition->next_offset = message->offset + 1;
    partition->last_offset = record.offset;
    partition->last_timestamp_ms = record.timestamp_ms;
    archiver->record_count++;
    archiver->raw_bytes += (int64_t)record.length;
    bool full =
        archive_writer_raw_bytes(partition->writer) >= archiver->config->batch_segment_bytes ||
        archive_writer_record_count(partition->writer) >= SEGMENT_RECORDS_MAX;
    return full ? archiver_close_segment(archiver, partition, error) : STATUS_OK;
}
