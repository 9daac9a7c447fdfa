/* dovetail archive repair: damaged segments, from Kafka again.
 *
 * Invariant: a file takes the place of another only if it has the same records: archive_content of
 * the manifest, or the same bytes (archive_writer_replaces). Until then it has a temporary name.
 * Under the batch lock. Where the process dies between renaming and updating the manifest row,
 * which only happens where zstd packs otherwise than before, the segment is still damaged and is
 * repaired again. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/archive.h"
#include "core/archive/batch_lock.h"
#include "core/kafka/kafka.h"
#include "core/records/mask.h"

enum { KAFKA_TIMEOUT_MS = 10000, POLL_MS = 100, SILENCE_US = 60 * 1000 * 1000 };

struct repair {
    const struct archive_question *question;
    const struct source *source; /* of the topic in hand; NULL: none is registered */
    struct record_mask *masker;  /* NULL: it has no mask */
    int64_t damaged;
    int64_t repaired;
};

static enum status fetch_failure(const struct archive_segment *segment, const char *why,
                                 struct error *error)
{
    return error_set(
        error, STATUS_REJECT,
        "%s[%" PRId32 "]: offsets %" PRId64 " to %" PRId64 " cannot be fetched again: %s",
        segment->topic, segment->partition, segment->start_offset, segment->end_offset, why);
}

static enum status check_log(const struct repair *repair, const struct archive_segment *segment,
                             struct kafka_consumer *consumer, struct error *error)
{
    char why[160];
    int partitions;
    int64_t low;
    int64_t high;
    const json_t *properties = repair->question->session->config->kafka;
    enum status status =
        kafka_topic_partitions(properties, segment->topic, KAFKA_TIMEOUT_MS, &partitions, error);
    if (status != STATUS_OK)
        return status;
    if (segment->partition >= partitions)
        return fetch_failure(segment, "Kafka has no such partition", error);
    status = kafka_consumer_watermarks(consumer, segment->topic, segment->partition,
                                       KAFKA_TIMEOUT_MS, &low, &high, error);
    if (status != STATUS_OK || (low <= segment->start_offset && segment->end_offset <= high))
        return status;
    snprintf(why, sizeof why, "Kafka has only offsets %" PRId64 " to %" PRId64, low, high);
    return fetch_failure(segment, why, error);
}

static enum status add_message(struct repair *repair, struct archive_writer *writer,
                               const rd_kafka_message_t *message, struct error *error)
{
    struct archive_record record = {.offset = message->offset,
                                    .timestamp_ms = rd_kafka_message_timestamp(message, NULL),
                                    .value = message->payload,
                                    .length = message->payload == NULL ? 0 : message->len};
    enum status status = STATUS_OK;
    if (repair->masker != NULL)
        status = record_mask_apply(repair->masker, record.value, record.length, &record.value,
                                   &record.length, error);
    record.readable = record.length;
    return status == STATUS_OK ? archive_writer_add(writer, &record, error) : status;
}

/* Everything in [start, end) that the log shows to a reader of committed records. */
static enum status copy_log(struct repair *repair, const struct archive_segment *segment,
                            struct kafka_consumer *consumer, struct archive_writer *writer,
                            struct error *error)
{
    int64_t heard_us = program_monotonic_us();
    for (;;) {
        rd_kafka_message_t *message = NULL;
        enum status status = kafka_consumer_poll(consumer, POLL_MS, &message, error);
        bool ended = status == STATUS_OK && message != NULL &&
                     (message->offset >= segment->end_offset ||
                      message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF);
        if (message != NULL) {
            heard_us = program_monotonic_us();
            if (status == STATUS_OK && !ended)
                status = add_message(repair, writer, message, error);
            rd_kafka_message_destroy(message);
        }
        if (status != STATUS_OK || ended)
            return status;
        if (program_stopping())
            return error_set(error, STATUS_RETRY, "interrupted");
        if (program_monotonic_us() - heard_us > SILENCE_US)
            return fetch_failure(segment, "Kafka is silent", error);
    }
}

static enum status write_again(struct repair *repair, const struct archive_segment *segment,
                               struct kafka_consumer *consumer, struct error *error)
{
    const struct session *session = repair->question->session;
    struct archive_writer *writer = NULL;
    struct archive_segment replaced = {0};
    char *paths = repair->masker == NULL ? NULL : mask_paths_text(repair->source);
    enum status status =
        repair->masker != NULL && paths == NULL ? error_no_memory(error) : STATUS_OK;
    if (status == STATUS_OK)
        status = archive_writer_create(session->config->batch_archive, segment->topic,
                                       segment->partition, segment->start_offset, &writer, error);
    if (status == STATUS_OK) {
        archive_writer_set_level(writer, (int)session->config->batch_compression_level);
        archive_writer_replaces(writer, segment);
        if (paths != NULL)
            status = archive_writer_set_masked(writer, paths, error);
    }
    if (status == STATUS_OK)
        status = copy_log(repair, segment, consumer, writer, error);
    if (status == STATUS_OK)
        status = archive_writer_finish(writer, segment->end_offset, &replaced, error);
    if (status == STATUS_OK)
        status = archive_manifest_replace(session->postgres, &replaced, error);
    archive_segment_deinit(&replaced);
    archive_writer_destroy(writer);
    free(paths);
    return status;
}

static enum status fetch_again(struct repair *repair, const struct archive_segment *segment,
                               struct error *error)
{
    if (segment->partition == ARCHIVE_IMPORTED)
        return fetch_failure(segment,
                             "they were imported, and are not in Kafka; take the file"
                             " from a backup of the archive",
                             error);
    if (repair->source == NULL)
        return fetch_failure(segment, "no source is registered for the topic", error);
    const struct kafka_position position = {segment->topic, segment->partition,
                                            segment->start_offset};
    struct kafka_consumer *consumer = NULL;
    enum status status =
        kafka_consumer_assign(repair->question->session->config->kafka, NULL, 0, &consumer, error);
    if (status == STATUS_OK)
        status = check_log(repair, segment, consumer, error);
    if (status == STATUS_OK)
        status = kafka_consumer_restart(consumer, &position, 1, error);
    if (status == STATUS_OK)
        status = write_again(repair, segment, consumer, error);
    kafka_consumer_close(consumer);
    return status;
}

static enum status repair_segment(struct repair *repair, const struct archive_segment *segment,
                                  struct error *error)
{
    const struct config *config = repair->question->session->config;
    struct error fault;
    enum status status = archive_check_segment(config, segment, &fault);
    if (status == STATUS_OK)
        return STATUS_OK;
    if (status == STATUS_RETRY) {
        *error = fault;
        return status;
    }
    repair->damaged++;
    command_progress_end();
    printf("%s\n", fault.text);
    status = fetch_again(repair, segment, &fault);
    if (status == STATUS_OK) {
        repair->repaired++;
        printf("%s: fetched from Kafka again, %" PRId64 " records\n", segment->file,
               segment->record_count);
    } else if (status == STATUS_REJECT) { /* the others may be repaired all the same */
        printf("%s\n", fault.text);
        return STATUS_OK;
    } else {
        *error = fault;
    }
    return status;
}

static enum status repair_topic(struct repair *repair, const char *topic, struct error *error)
{
    const struct session *session = repair->question->session;
    struct archive_segment *segments = NULL;
    int64_t *expected = NULL;
    size_t count = 0;
    repair->source = NULL;
    for (size_t i = 0; i < session->catalog->source_count; i++)
        if (strcmp(session->catalog->sources[i]->topic, topic) == 0)
            repair->source = session->catalog->sources[i];
    enum status status = STATUS_OK;
    if (repair->source != NULL && repair->source->mask_count > 0)
        status = record_mask_create(repair->source, &repair->masker, error);
    if (status == STATUS_OK)
        status =
            archive_manifest_read(session->postgres, topic, &segments, &expected, &count, error);
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        command_progress("%s: %zu of %zu segments", topic, i, count);
        status = program_stopping() ? error_set(error, STATUS_RETRY, "interrupted")
                                    : repair_segment(repair, &segments[i], error);
    }
    command_progress_end();
    archive_segments_free(segments, count);
    free(expected);
    record_mask_destroy(repair->masker);
    repair->masker = NULL;
    return status;
}

int archive_repair(const struct archive_question *question)
{
    struct repair repair = {.question = question};
    struct error error = {0};
    char **topics = NULL;
    size_t count = 0;
    enum status status = batch_lock_take(question->session->postgres, &error);
    if (status == STATUS_OK)
        status = archive_topics(question, &topics, &count, &error);
    for (size_t i = 0; status == STATUS_OK && i < count; i++)
        status = repair_topic(&repair, topics[i], &error);
    archive_topics_free(topics, count);
    if (status != STATUS_OK)
        return command_fail(&error);
    printf("%" PRId64 " segments were damaged, %" PRId64 " of them are repaired\n", repair.damaged,
           repair.repaired);
    int code = command_finish_output();
    return code == PROGRAM_OK && repair.damaged > repair.repaired ? PROGRAM_FAILURE : code;
}
