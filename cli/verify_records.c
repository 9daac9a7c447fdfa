/* Loading raw records: see cli/verify_records.h.
 *
 * Imported records are in the archive only, as a partition of their own.
 *
 * Each record below P is taken once: `next` of a partition says from where on records are still
 * wanted; segments move it first, then Kafka from there. A segment may reach beyond P, and Kafka
 * goes on: those records are left out. */
#include "cli/verify_records.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/verify_mask.h"
#include "core/archive/archive.h"
#include "core/archive/gap.h"
#include "core/kafka/kafka.h"

enum { COPY_BYTES = 1 << 20, POLL_MS = 500, IDLE_POLLS_MAX = 120, PROGRESS_EVERY = 1 << 14 };

struct span {
    int64_t next; /* records below are loaded */
    int64_t end;  /* P */
};

struct loader {
    struct postgres *postgres;
    const struct config *config;
    const struct query_receipt *receipt;
    const char *topic;
    struct span *spans;   /* one for each of the receipt's partitions */
    struct span imported; /* of partition ARCHIVE_IMPORTED */
    struct pgbinary_writer writer;
    struct verify_mask *mask; /* NULL: the source has none */
    struct gap *gaps;
    size_t gap_count;
    int64_t count;
};

/* The span of a partition, or NULL. */
static struct span *find_span(struct loader *loader, int32_t partition)
{
    if (partition == ARCHIVE_IMPORTED)
        return &loader->imported;
    for (size_t i = 0; i < loader->receipt->partition_count; i++)
        if (loader->receipt->partitions[i].partition == partition)
            return &loader->spans[i];
    return NULL;
}

static enum status read_bases(struct loader *loader, struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_query(
        loader->postgres,
        "SELECT partition, base_offset FROM dovetail_internal.position WHERE topic = $1", 1,
        &loader->topic, &result, error);
    for (size_t i = 0; status == STATUS_OK && i < loader->receipt->partition_count; i++)
        loader->spans[i].end = loader->receipt->partitions[i].position;
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++) {
        struct span *span = find_span(loader, (int32_t)postgres_int64(result, row, 0));
        if (span != NULL) /* else the partition came after the answer */
            span->next = postgres_int64(result, row, 1);
    }
    PQclear(result);
    return status;
}

/* --- rows --- */

static enum status send_rows(struct loader *loader, struct error *error)
{
    enum status status = pgbinary_writer_check(&loader->writer, error);
    if (status == STATUS_OK)
        status = postgres_copy_in_data(loader->postgres, loader->writer.data, loader->writer.length,
                                       error);
    pgbinary_writer_clear(&loader->writer);
    return status;
}

static enum status add_record(struct loader *loader, int32_t partition, int64_t offset,
                              const char *value, size_t length, struct error *error)
{
    struct pgbinary_writer *writer = &loader->writer;
    if (loader->mask != NULL) {
        enum status status = verify_mask_apply(loader->mask, value, length, &value, &length, error);
        if (status != STATUS_OK)
            return status;
    }
    pgbinary_put_row(writer, 3);
    pgbinary_put_int4(writer, partition);
    pgbinary_put_int8(writer, offset);
    if (value == NULL)
        pgbinary_put_null(writer);
    else
        pgbinary_put_bytes(writer, value, length);
    if (++loader->count % PROGRESS_EVERY == 0)
        command_progress("loaded %" PRId64 " records", loader->count);
    return writer->length < COPY_BYTES ? STATUS_OK : send_rows(loader, error);
}

/* --- the archive --- */

static enum status load_segment(struct loader *loader, const struct archive_segment *segment,
                                const struct span *span, struct error *error)
{
    struct archive_reader *reader = NULL;
    struct archive_record record;
    bool end = false;
    enum status status =
        archive_reader_open(loader->config->batch_archive, segment, &reader, error);
    if (status == STATUS_OK && loader->mask != NULL)
        verify_mask_already(loader->mask, archive_reader_masked(reader));
    while (status == STATUS_OK) {
        status = archive_reader_next(reader, &record, &end, error);
        if (status != STATUS_OK || end)
            break;
        if (record.offset >= span->next && record.offset < span->end)
            status = add_record(loader, segment->partition, record.offset, record.value,
                                record.length, error);
    }
    archive_reader_close(reader);
    return status;
}

static enum status load_segments(struct loader *loader, const struct archive_segment *segments,
                                 size_t count, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        const struct archive_segment *segment = &segments[i];
        struct span *span = find_span(loader, segment->partition);
        if (span == NULL || segment->start_offset >= span->end || segment->end_offset <= span->next)
            continue;
        if (program_stopping())
            return error_set(error, STATUS_RETRY, "interrupted");
        status = load_segment(loader, segment, span, error);
        span->next = segment->end_offset;
    }
    return status;
}

/* What an operator gave up is in neither. Where the speed layer had counted some of it before, and
 * the run that is served has not passed it, the answer has more than the records that are left. */
static void tell_gap(const struct loader *loader, const struct gap *gap,
                     const struct query_partition *partition)
{
    int64_t counted = gap->speed_offset < gap->to_offset ? gap->speed_offset : gap->to_offset;
    command_complain("topic %s partition %" PRId32 ": offsets %" PRId64 " to %" PRId64
                     " were given up (dovetail resume) and are left out",
                     loader->topic, gap->partition, gap->from_offset, gap->to_offset);
    if (counted > gap->from_offset && partition->cutoff <= gap->from_offset)
        command_complain(
            "the answer still has offsets %" PRId64 " to %" PRId64
            " of them, which the speed layer had counted, until a run from behind them is"
            " served (the next batch run publishes one)",
            gap->from_offset, counted);
}

/* In the archive a gap is a hole; what is not archived yet is passed over here. */
static void pass_gaps(struct loader *loader)
{
    for (size_t i = 0; i < loader->receipt->partition_count; i++) {
        const struct query_partition *partition = &loader->receipt->partitions[i];
        struct span *span = &loader->spans[i];
        for (size_t g = 0; g < loader->gap_count; g++) {
            const struct gap *gap = &loader->gaps[g];
            if (gap->partition == partition->partition && gap->from_offset < gap->to_offset &&
                gap->from_offset < span->end)
                tell_gap(loader, gap, partition);
        }
        span->next = gaps_pass(loader->gaps, loader->gap_count, partition->partition, span->next);
    }
}

/* --- Kafka --- */

static size_t open_spans(const struct loader *loader)
{
    size_t count = 0;
    for (size_t i = 0; i < loader->receipt->partition_count; i++)
        count += loader->spans[i].next < loader->spans[i].end;
    return count;
}

static enum status take_message(struct loader *loader, const rd_kafka_message_t *message,
                                struct error *error)
{
    struct span *span = find_span(loader, message->partition);
    if (span == NULL || span->next >= span->end)
        return STATUS_OK;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) { /* the end of the log */
        if (message->offset < span->end)
            return error_set(error, STATUS_FATAL,
                             "Kafka: the log of topic %s partition %d ends at %" PRId64
                             ", below the position %" PRId64,
                             loader->topic, (int)message->partition, message->offset, span->end);
        span->next = span->end; /* the last offsets hold no records */
        return STATUS_OK;
    }
    span->next = message->offset + 1;
    if (message->offset >= span->end)
        return STATUS_OK;
    return add_record(loader, message->partition, message->offset, message->payload, message->len,
                      error);
}

static enum status open_consumer(const struct loader *loader, struct kafka_consumer **out,
                                 struct error *error)
{
    size_t count = 0;
    struct kafka_position *positions = calloc(open_spans(loader) + 1, sizeof *positions);
    if (positions == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < loader->receipt->partition_count; i++)
        if (loader->spans[i].next < loader->spans[i].end)
            positions[count++] =
                (struct kafka_position){.topic = loader->topic,
                                        .partition = loader->receipt->partitions[i].partition,
                                        .offset = loader->spans[i].next};
    enum status status = kafka_consumer_assign(loader->config->kafka, positions, count, out, error);
    free(positions);
    return status;
}

static enum status load_log(struct loader *loader, struct error *error)
{
    struct kafka_consumer *consumer = NULL;
    if (open_spans(loader) == 0)
        return STATUS_OK;
    enum status status = open_consumer(loader, &consumer, error);
    for (int idle = 0; status == STATUS_OK && open_spans(loader) > 0;) {
        rd_kafka_message_t *message = NULL;
        status = kafka_consumer_poll(consumer, POLL_MS, &message, error);
        idle = message == NULL ? idle + 1 : 0;
        if (status == STATUS_OK && message != NULL)
            status = take_message(loader, message, error);
        else if (status == STATUS_OK && idle > IDLE_POLLS_MAX)
            status = error_set(error, STATUS_RETRY, "Kafka: no records of topic %s for a minute",
                               loader->topic);
        if (message != NULL)
            rd_kafka_message_destroy(message);
        if (status == STATUS_OK && program_stopping())
            status = error_set(error, STATUS_RETRY, "interrupted");
    }
    kafka_consumer_close(consumer);
    return status;
}

/* --- all of it --- */

static enum status copy_all(struct loader *loader, const struct archive_segment *segments,
                            size_t segment_count, struct error *error)
{
    enum status status = postgres_copy_in_begin(
        loader->postgres,
        "COPY verify_raw (_partition, _offset, _value) FROM STDIN (FORMAT binary)", error);
    if (status != STATUS_OK)
        return status;
    pgbinary_put_copy_header(&loader->writer);
    status = load_segments(loader, segments, segment_count, error);
    if (status == STATUS_OK && loader->imported.next < loader->imported.end)
        status = error_set(error, STATUS_FATAL,
                           "archive: of %" PRId64 " imported records of topic %s only %" PRId64
                           " are there",
                           loader->imported.end, loader->topic, loader->imported.next);
    if (loader->mask != NULL)
        verify_mask_already(loader->mask, NULL);
    if (status == STATUS_OK) {
        pass_gaps(loader);
        status = load_log(loader, error);
    }
    if (status == STATUS_OK) {
        pgbinary_put_copy_trailer(&loader->writer);
        status = send_rows(loader, error);
    }
    /* On failure the connection is given up by the caller, and the copy with it. */
    return status == STATUS_OK ? postgres_copy_in_end(loader->postgres, error) : status;
}

enum status verify_load_records(struct postgres *postgres, const struct config *config,
                                const struct source *source, const struct query_receipt *receipt,
                                int64_t *count, struct error *error)
{
    struct archive_segment *segments = NULL;
    size_t segment_count = 0;
    enum status status = STATUS_OK;
    *count = 0;
    if (receipt->partition_count == 0)
        return STATUS_OK;
    struct loader loader = {.postgres = postgres,
                            .config = config,
                            .receipt = receipt,
                            .topic = receipt->partitions[0].topic,
                            .imported.end = receipt->imported};
    pgbinary_writer_init(&loader.writer);
    loader.spans = calloc(receipt->partition_count, sizeof *loader.spans);
    if (loader.spans == NULL)
        status = error_no_memory(error);
    if (status == STATUS_OK && source->mask_count > 0)
        status = verify_mask_create(source, &loader.mask, error);
    if (status == STATUS_OK)
        status = read_bases(&loader, error);
    if (status == STATUS_OK)
        status = gaps_list(postgres, loader.topic, &loader.gaps, &loader.gap_count, error);
    if (status == STATUS_OK)
        status = archive_manifest_list(postgres, loader.topic, &segments, &segment_count, error);
    if (status == STATUS_OK)
        status = copy_all(&loader, segments, segment_count, error);
    command_progress_end();
    archive_segments_free(segments, segment_count);
    pgbinary_writer_deinit(&loader.writer);
    verify_mask_destroy(loader.mask);
    free(loader.spans);
    free(loader.gaps);
    *count = loader.count;
    return status;
}
