/* Copies topics from Kafka into the archive: see archiver.h, and archiver_internal.h for the other
 * files. This one has the flow: what is prepared before a run, and reading Kafka up to an end. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "batch_layer/archiver_internal.h"
#include "batch_layer/leftovers.h"
#include "core/program/program.h"

enum {
    KAFKA_SILENCE_US = 60 * 1000 * 1000, /* records are due and none came: give up */
    POLL_MS = 100,
};

enum status archiver_create(const struct config *config, struct postgres *postgres,
                            struct archiver **out, struct error *error)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return error_no_memory(error);
    (*out)->config = config;
    (*out)->postgres = postgres;
    return STATUS_OK;
}

void archiver_destroy(struct archiver *archiver)
{
    if (archiver == NULL)
        return;
    kafka_consumer_close(archiver->consumer);
    kafka_consumer_close(archiver->asker);
    archiver_free_partitions(archiver->partitions, archiver->count);
    archiver_free_masks(archiver);
    free(archiver);
}

int64_t archiver_record_count(const struct archiver *archiver)
{
    return archiver->record_count;
}

int64_t archiver_raw_bytes(const struct archiver *archiver)
{
    return archiver->raw_bytes;
}

struct archiver_partition *archiver_partitions(struct archiver *archiver, size_t *count)
{
    *count = archiver->count;
    return archiver->partitions;
}

struct archiver_partition *archiver_find(struct archiver *archiver, const char *topic,
                                         int32_t partition)
{
    for (size_t i = 0; i < archiver->count; i++)
        if (archiver->partitions[i].partition == partition &&
            strcmp(archiver->partitions[i].topic, topic) == 0)
            return &archiver->partitions[i];
    return NULL;
}

/* --- preparing --- */

static enum status assign(struct archiver *archiver, struct error *error)
{
    struct kafka_position *positions = calloc(archiver->count + 1, sizeof *positions);
    if (positions == NULL)
        return error_no_memory(error);
    size_t count = 0;
    for (size_t i = 0; i < archiver->count; i++)
        if (!archiver->partitions[i].halted)
            positions[count++] =
                (struct kafka_position){.topic = archiver->partitions[i].topic,
                                        .partition = archiver->partitions[i].partition,
                                        .offset = archiver->partitions[i].check_offset >= 0
                                                      ? archiver->partitions[i].check_offset
                                                      : archiver->partitions[i].next_offset};
    enum status status = STATUS_OK;
    if (archiver->consumer == NULL)
        status = kafka_consumer_assign(archiver->config->kafka, positions, count,
                                       &archiver->consumer, error);
    else
        status = kafka_consumer_restart(archiver->consumer, positions, count, error);
    if (status == STATUS_OK)
        kafka_consumer_tell_gone(archiver->consumer);
    free(positions);
    return status;
}

static enum status clear_leftovers(struct archiver *archiver, const struct catalog *catalog,
                                   const int64_t *lows, struct error *error)
{
    bool adopted;
    enum status status =
        leftovers_clear(archiver->config, archiver->postgres, catalog, archiver->partitions,
                        archiver->count, lows, &adopted, error);
    return status == STATUS_OK && adopted ? archiver_read_positions(archiver, error) : status;
}

static enum status begin(struct archiver *archiver, const struct catalog *catalog,
                         struct error *error)
{
    int64_t *lows = calloc(archiver->count + 1, sizeof *lows);
    enum status status = lows == NULL ? error_no_memory(error) : STATUS_OK;
    if (status == STATUS_OK && archiver->asker == NULL)
        status = kafka_consumer_assign(archiver->config->kafka, NULL, 0, &archiver->asker, error);
    if (status == STATUS_OK)
        status = archiver_ask_logs(archiver, lows, error);
    if (status == STATUS_OK)
        status = archiver_add_positions(archiver, lows, error);
    if (status == STATUS_OK)
        status = archiver_read_positions(archiver, error);
    if (status == STATUS_OK)
        status = clear_leftovers(archiver, catalog, lows, error);
    if (status == STATUS_OK)
        status = archiver_check_logs(archiver, lows, error);
    if (status == STATUS_OK)
        status = assign(archiver, error);
    free(lows);
    return status;
}

/* By the clock that freshness is told by. */
static enum status ask_time(struct archiver *archiver, int64_t *out, struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_query(
        archiver->postgres, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint", 0,
        NULL, &result, error);
    if (status == STATUS_OK)
        *out = postgres_int64(result, 0, 0);
    PQclear(result);
    return status;
}

enum status archiver_prepare(struct archiver *archiver, const struct catalog *catalog,
                             struct error *error)
{
    struct archiver_partition *partitions;
    size_t count;
    bool masks_changed;
    enum status status = archiver_update_masks(archiver, catalog, &masks_changed, error);
    if (status != STATUS_OK)
        return status;
    int64_t listing_us;
    status = ask_time(archiver, &listing_us, error);
    if (status != STATUS_OK)
        return status;
    status = archiver_list_partitions(archiver, catalog, &partitions, &count, error);
    if (status == STATUS_OK &&
        (masks_changed || !archiver_same_partitions(archiver, partitions, count))) {
        /* Under another mask the open segments are thrown away and read again. */
        if (!masks_changed)
            status = archiver_flush(archiver, error);
        if (status == STATUS_OK) {
            archiver_free_partitions(archiver->partitions, archiver->count);
            archiver->partitions = partitions;
            archiver->count = count;
            archiver->last = 0;
            archiver->listed_us = listing_us;
            return begin(archiver, catalog, error);
        }
    } else if (status == STATUS_OK) {
        archiver->listed_us = listing_us;
    }
    archiver_free_partitions(partitions, count);
    return status;
}

/* --- messages --- */

static struct archiver_partition *partition_of(struct archiver *archiver,
                                               const rd_kafka_message_t *message)
{
    const char *topic = rd_kafka_topic_name(message->rkt);
    struct archiver_partition *last = &archiver->partitions[archiver->last];
    if (last->partition == message->partition && strcmp(last->topic, topic) == 0)
        return last;
    struct archiver_partition *found = archiver_find(archiver, topic, message->partition);
    if (found != NULL)
        archiver->last = (size_t)(found - archiver->partitions);
    return found;
}

/* The log does not have the next offset any more: retention was faster than this process. */
static enum status take_gone(struct archiver *archiver, struct archiver_partition *partition,
                             struct error *error)
{
    int64_t low;
    enum status status =
        kafka_consumer_watermarks(archiver->asker, partition->topic, partition->partition,
                                  ARCHIVER_KAFKA_TIMEOUT_MS, &low, &partition->log_end, error);
    if (status == STATUS_OK)
        status = archiver_check_log(archiver, partition, low, NULL, 0, error);
    /* What is in the open segment needs no more records to be archived. */
    if (status == STATUS_OK && partition->halted)
        return archiver_close_segment(archiver, partition, error);
    return status == STATUS_OK ? assign(archiver, error) : status;
}

/* The first record that comes: is it the last one of the archive, where it has its offset? */
static bool is_known(struct archiver_partition *partition, const rd_kafka_message_t *message)
{
    bool known = message->offset != partition->check_offset ||
                 rd_kafka_message_timestamp(message, NULL) == partition->check_timestamp_ms;
    partition->check_offset = -1;
    return known;
}

static enum status take_message(struct archiver *archiver, const rd_kafka_message_t *message,
                                struct error *error)
{
    struct archiver_partition *partition = partition_of(archiver, message);
    if (partition == NULL || partition->halted)
        return STATUS_OK;
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR && partition->check_offset >= 0 &&
        !is_known(partition, message))
        return archiver_halt_foreign(archiver, partition, message->offset, error);
    if (message->offset < partition->next_offset)
        return STATUS_OK; /* fetched before the last assignment, or to be checked */
    if (message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET)
        return take_gone(archiver, partition, error);
    if (message->err != RD_KAFKA_RESP_ERR__PARTITION_EOF)
        return archiver_add_record(archiver, partition, message, error);
    partition->next_offset = message->offset; /* whatever lies between is no record */
    return STATUS_OK;
}

/* --- reading --- */

/* Polls once; *progressed where there was something. */
static enum status poll_once(struct archiver *archiver, int timeout_ms, bool *progressed,
                             struct error *error)
{
    rd_kafka_message_t *message = NULL;
    enum status status = kafka_consumer_poll(archiver->consumer, timeout_ms, &message, error);
    *progressed = status == STATUS_OK && message != NULL;
    if (!*progressed)
        return status;
    status = take_message(archiver, message, error);
    rd_kafka_message_destroy(message);
    return status;
}

/* The first partition that has not reached the end its log had; NULL: none. */
static const struct archiver_partition *first_behind(const struct archiver *archiver)
{
    for (size_t i = 0; i < archiver->count; i++)
        if (!archiver->partitions[i].halted &&
            archiver->partitions[i].next_offset < archiver->partitions[i].log_end)
            return &archiver->partitions[i];
    return NULL;
}

/* Has the partition of the last message reached its end? */
static bool last_reached(const struct archiver *archiver)
{
    const struct archiver_partition *last = &archiver->partitions[archiver->last];
    return last->halted || last->next_offset >= last->log_end;
}

static int64_t records_due(const struct archiver *archiver)
{
    int64_t due = 0;
    for (size_t i = 0; i < archiver->count; i++)
        if (!archiver->partitions[i].halted &&
            archiver->partitions[i].log_end > archiver->partitions[i].next_offset)
            due += archiver->partitions[i].log_end - archiver->partitions[i].next_offset;
    return due;
}

static enum status read_to_log_ends(struct archiver *archiver, struct progress *progress,
                                    struct error *error)
{
    int64_t begun_count = archiver->record_count;
    int64_t heard_us = program_monotonic_us();
    for (int64_t round = 0;; round++) {
        /* The list is short but asked for each record it would cost; hence now and then. */
        bool look = round % 256 == 0;
        bool progressed;
        enum status status = poll_once(archiver, look ? 0 : POLL_MS, &progressed, error);
        if (status != STATUS_OK)
            return status;
        if (progressed && !look && !last_reached(archiver))
            continue;
        const struct archiver_partition *behind = first_behind(archiver);
        if (behind == NULL)
            return STATUS_OK;
        if (program_stopping())
            return error_set(error, STATUS_RETRY, "stopped");
        int64_t now_us = program_monotonic_us();
        if (progressed)
            heard_us = now_us;
        else if (now_us - heard_us > KAFKA_SILENCE_US)
            return error_set(error, STATUS_RETRY,
                             "Kafka has been silent for %d s; %s[%" PRId32 "] has records up to"
                             " offset %" PRId64 " and was read up to %" PRId64,
                             KAFKA_SILENCE_US / 1000000, behind->topic, behind->partition,
                             behind->log_end, behind->next_offset);
        progress_update(progress, archiver->record_count - begun_count);
    }
}

enum status archiver_catch_up(struct archiver *archiver, struct error *error)
{
    enum status status = archiver_ask_logs(archiver, NULL, error);
    if (status != STATUS_OK)
        return status;
    struct progress progress;
    int64_t begun_count = archiver->record_count;
    progress_begin(&progress, "load", "records", records_due(archiver));
    status = read_to_log_ends(archiver, &progress, error);
    if (status == STATUS_OK)
        status = archiver_flush(archiver, error);
    progress_end(&progress, archiver->record_count - begun_count);
    return status;
}

enum status archiver_follow(struct archiver *archiver, int64_t until_us, struct error *error)
{
    enum status status = STATUS_OK;
    while (status == STATUS_OK && !program_stopping()) {
        int64_t left_ms = (until_us - program_monotonic_us()) / 1000;
        if (left_ms <= 0)
            break;
        bool progressed;
        status =
            poll_once(archiver, (int)(left_ms < POLL_MS ? left_ms : POLL_MS), &progressed, error);
    }
    return status;
}
