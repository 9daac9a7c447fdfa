/* Recalling ids from the archive: see recall.h.
 *
 * Exactness: the ids of [recall_offset, P) must all be known. The log is asked for its first
 * offset; below it the archive's segments follow each other without a gap (core/archive/archive.h)
 * and must reach up to there. A retention that moves on between the question and the reading ends
 * the program, as any offset does that is gone, and the next start finds the records in the
 * archive. */
#include "speed_layer/recall.h"

#include <inttypes.h>
#include <string.h>

#include "core/archive/archive.h"
#include "core/program/program.h"

enum { WATERMARKS_TIMEOUT_MS = 5000, STOP_CHECK_RECORDS = 4096 };

static enum status learn_segment(struct partition *partition, const struct config *config,
                                 const struct archive_segment *segment, int64_t end_offset,
                                 struct error *error)
{
    struct archive_reader *reader = NULL;
    enum status status = archive_reader_open(config->batch_archive, segment, &reader, error);
    if (status == STATUS_OK)
        feed_note_masked(partition->feed, archive_reader_masked(reader));
    for (int64_t count = 0; status == STATUS_OK; count++) {
        struct archive_record found;
        bool end;
        if (count % STOP_CHECK_RECORDS == 0 && program_stopping())
            status = error_set(error, STATUS_RETRY, "stopped");
        if (status == STATUS_OK)
            status = archive_reader_next(reader, &found, &end, error);
        if (status != STATUS_OK || end || found.offset >= end_offset)
            break;
        const struct record record = {.offset = found.offset,
                                      .timestamp_ms = found.timestamp_ms,
                                      .value = found.value,
                                      .length = found.length};
        struct rejection rejection;
        enum record_outcome outcome;
        status = partition_fold(partition, &record, NULL, &outcome, &rejection, error);
    }
    feed_note_masked(partition->feed, NULL);
    archive_reader_close(reader);
    return status;
}

/* [recall_offset, end_offset), which lies below P. */
static enum status learn_archived(struct partition *partition, const struct config *config,
                                  struct postgres *postgres, int64_t end_offset,
                                  struct error *error)
{
    struct archive_segment *segments = NULL;
    size_t count = 0;
    int64_t covered = 0;
    enum status status =
        archive_manifest_list(postgres, partition->topic, &segments, &count, error);
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        const struct archive_segment *segment = &segments[i];
        if (segment->partition != partition->partition)
            continue;
        covered = segment->end_offset;
        if (segment->end_offset > partition->recall_offset && segment->start_offset < end_offset)
            status = learn_segment(partition, config, segment, end_offset, error);
    }
    archive_segments_free(segments, count);
    if (status != STATUS_OK || covered >= end_offset)
        return status;
    return error_set(error, STATUS_FATAL,
                     "the records up to offset %" PRId64 " are in Kafka no more and archived up to"
                     " %" PRId64 " only; run `dovetail-batch run` where Kafka still has them, or"
                     " keep them longer",
                     end_offset, covered);
}

enum status recall_from_archive(struct partition *partition, const struct config *config,
                                struct kafka_consumer *consumer, struct postgres *postgres,
                                struct error *error)
{
    if (partition->recall_offset >= partition->next_offset)
        return STATUS_OK;
    int64_t low;
    int64_t high;
    enum status status = kafka_consumer_watermarks(consumer, partition->topic, partition->partition,
                                                   WATERMARKS_TIMEOUT_MS, &low, &high, error);
    if (status != STATUS_OK)
        return status;
    int64_t end_offset = low < partition->next_offset ? low : partition->next_offset;
    program_log(LOG_INFO,
                "%s[%" PRId32 "] offsets %" PRId64 " to %" PRId64 " are read again for their ids%s",
                partition->topic, partition->partition, partition->recall_offset,
                partition->next_offset,
                end_offset > partition->recall_offset ? ", the first from the archive" : "");
    if (end_offset <= partition->recall_offset)
        return STATUS_OK;
    int64_t first_offset = partition->recall_offset;
    status = learn_archived(partition, config, postgres, end_offset, error);
    if (status == STATUS_FATAL)
        return error_wrap(
            error, "%s[%" PRId32 "]: dedupe needs the ids of offsets %" PRId64 " to %" PRId64,
            partition->topic, partition->partition, first_offset, end_offset);
    if (status == STATUS_OK)
        partition->recall_offset = end_offset;
    return status;
}
