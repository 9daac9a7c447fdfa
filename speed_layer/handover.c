/* Between folding and writing: see speed.h.
 *
 * Two flushes take turns: one is filled by the main thread while the other is with the flusher. A
 * slice that closes while a flush is under way leaves its rows in the one being filled, so its
 * groups can go.
 *
 * At the live edge a slice stays open for many flushes, so that a group that keeps changing has one
 * row. A partition far behind its log's end closes its slice at every flush instead: hardly a group
 * of history changes again, a row that is never updated needs no address (see
 * core/catalog/catalog_tables.c), which halves what PostgreSQL does for it, and memory stays small.
 * As nobody can wait for such flushes, they are larger.
 *
 * Memory: speed.memory is divided among what a record may become. Half of it is for the states of
 * open slices, beyond which they are closed. A quarter is for each of the flushes: changed states,
 * which the next hand-over will copy, count as part of the one being filled. They are handed over
 * early, so that flushes stay small; where the flusher cannot keep up consumption pauses, while
 * polls keep the membership alive. */
#include <stdlib.h>
#include <string.h>

#include "core/program/program.h"
#include "speed_layer/speed.h"

enum {
    DRAIN_STEP_MS = 50,
    BACKLOG_RECORDS = 50000, /* of one partition */
    BACKLOG_FLUSH_MS = 500,
    /* Of the memory bound: */
    OPEN_SLICES_SHARE = 2,
    OPEN_FLUSH_SHARE = 4,
    EARLY_FLUSH_SHARE = 16,
};

/* Is so much waiting in the log that nobody can mind when it is flushed? */
static bool is_behind(const struct speed *speed, const struct partition *partition)
{
    int64_t end = kafka_consumer_known_end(speed->consumer, partition->topic, partition->partition);
    return end - partition->next_offset > BACKLOG_RECORDS;
}

/* In a backlog every flush closes its slices: their rows are never changed. */
static enum status close_backlog(struct speed *speed, bool *behind, struct error *error)
{
    enum status status = STATUS_OK;
    *behind = false;
    for (size_t i = 0; status == STATUS_OK && i < speed->partition_count; i++) {
        struct partition *partition = &speed->partitions[i];
        if (!partition->claimed)
            continue;
        bool was_in_backlog = partition->in_backlog;
        partition->in_backlog = is_behind(speed, partition);
        *behind = *behind || partition->in_backlog;
        if (partition->in_backlog || was_in_backlog) /* what lies in between is history, too */
            status = partition_cut(partition, speed->open, speed->now_us, error);
    }
    return status;
}

static int64_t flush_interval_us(const struct speed *speed, bool behind)
{
    int64_t interval_ms = speed->config->speed_flush_interval_ms;
    if (behind && interval_ms < BACKLOG_FLUSH_MS)
        interval_ms = BACKLOG_FLUSH_MS;
    return interval_ms * 1000;
}

enum status handover_begin(struct speed *speed, bool touch, struct error *error)
{
    bool behind;
    speed->touch = speed->touch || touch; /* as soon as the flusher is idle */
    if (speed->in_flight)
        return STATUS_OK;
    int64_t clock_us = program_monotonic_us();
    enum status status = close_backlog(speed, &behind, error);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < speed->partition_count; i++) {
        struct partition *partition = &speed->partitions[i];
        if (!partition_has_news(partition) && !(speed->touch && partition->claimed))
            continue;
        status = partition_hand_over(partition, speed->open, clock_us, error);
        if (status != STATUS_OK)
            return status;
    }
    speed->touch = false;
    if (flush_is_empty(speed->open))
        return STATUS_OK;
    speed->open->generation = speed->generation;
    flusher_submit(speed->flusher, speed->open);
    telemetry_note_submitted(speed);
    speed->in_flight = true;
    speed->open = speed->open == &speed->flushes[0] ? &speed->flushes[1] : &speed->flushes[0];
    speed->next_flush_us = speed->now_us + flush_interval_us(speed, behind);
    return STATUS_OK;
}

/* A batch run asks for new slices: they begin where folding is, and the next flush tells. */
static enum status answer_cuts(struct speed *speed, const struct flush *flush, struct error *error)
{
    for (size_t i = 0; i < flush->partition_count; i++) {
        const struct flush_partition *entry = &flush->partitions[i];
        if (!entry->cut_requested)
            continue;
        struct partition *partition = ownership_find(speed, entry->topic, entry->partition);
        if (partition == NULL || !partition->claimed)
            continue;
        enum status status = partition_cut(partition, speed->open, speed->now_us, error);
        if (status != STATUS_OK)
            return status;
        partition->cut_answered = true;
        speed->next_flush_us = speed->now_us;
    }
    return STATUS_OK;
}

static enum status handle_outcome(struct speed *speed, const struct flush *flush,
                                  struct error *error)
{
    if (flush->generation != speed->generation)
        return STATUS_OK; /* its partitions are not ours any more, or were claimed anew */
    switch (flush->status) {
    case STATUS_OK:
        speed->reclaim_pause_us = 0;
        return answer_cuts(speed, flush, error);
    case STATUS_FENCED:
        program_log(LOG_NOTICE, "fenced, nothing was written: %s", flush->error.text);
        ownership_lose(speed);
        return STATUS_OK;
    case STATUS_RETRY: /* abandoned: P is read again before anything else is done */
        ownership_lose(speed);
        return STATUS_OK;
    default:
        *error = flush->error;
        return error_wrap(error, "flush");
    }
}

enum status handover_finish(struct speed *speed, int timeout_ms, struct error *error)
{
    if (!speed->in_flight)
        return STATUS_OK;
    struct flush *flush = flusher_take(speed->flusher, timeout_ms);
    if (flush == NULL)
        return STATUS_OK;
    speed->in_flight = false;
    telemetry_note_flush(speed, flush);
    enum status status = handle_outcome(speed, flush, error);
    flush_clear(flush);
    return status;
}

static bool has_news(const struct speed *speed)
{
    for (size_t i = 0; i < speed->partition_count; i++)
        if (partition_has_news(&speed->partitions[i]))
            return true;
    return false;
}

enum status handover_drain(struct speed *speed, int timeout_ms, bool *clean, struct error *error)
{
    int64_t end_us = program_monotonic_us() + timeout_ms * INT64_C(1000);
    enum status status = STATUS_OK;
    while (status == STATUS_OK && (speed->in_flight || has_news(speed)) &&
           program_monotonic_us() < end_us) {
        status = handover_begin(speed, false, error);
        if (status == STATUS_OK)
            status = handover_finish(speed, DRAIN_STEP_MS, error);
    }
    *clean = status == STATUS_OK && !speed->in_flight && !has_news(speed);
    if (speed->in_flight)
        flusher_abandon(speed->flusher);
    return status;
}

enum status handover_cut_all(struct speed *speed, bool answer, struct error *error)
{
    for (size_t i = 0; i < speed->partition_count; i++) {
        struct partition *partition = &speed->partitions[i];
        if (!partition->claimed)
            continue;
        enum status status = partition_cut(partition, speed->open, speed->now_us, error);
        if (status != STATUS_OK)
            return status;
        partition->cut_answered = partition->cut_answered || answer;
    }
    if (answer)
        speed->next_flush_us = speed->now_us;
    return STATUS_OK;
}

enum status handover_apply_limits(struct speed *speed, struct error *error)
{
    size_t limit = (size_t)speed->config->speed_memory_bytes;
    size_t states = 0;
    size_t waiting = flush_bytes(speed->open);
    for (size_t i = 0; i < speed->partition_count; i++) {
        states += partition_memory_bytes(&speed->partitions[i]);
        waiting += partition_pending_bytes(&speed->partitions[i]);
    }
    enum status status = STATUS_OK;
    if (states > limit / OPEN_SLICES_SHARE)
        status = handover_cut_all(speed, false, error);
    if (status == STATUS_OK && !speed->in_flight && waiting > limit / EARLY_FLUSH_SHARE) {
        status = handover_begin(speed, false, error);
        waiting = 0;
    }
    bool full = waiting > limit / OPEN_FLUSH_SHARE;
    if (status != STATUS_OK || full == speed->paused)
        return status;
    if (full)
        program_log(LOG_NOTICE, "consumption pauses until the flush under way is written");
    status = kafka_consumer_pause(speed->consumer, full, error);
    speed->paused = full;
    if (!full)
        program_log(LOG_NOTICE, "consumption goes on");
    return status;
}

void handover_commit_hint(struct speed *speed)
{
    struct kafka_position *positions = calloc(speed->partition_count + 1, sizeof *positions);
    size_t count = 0;
    for (size_t i = 0; positions != NULL && i < speed->partition_count; i++) {
        const struct partition *partition = &speed->partitions[i];
        if (partition->claimed)
            positions[count++] = (struct kafka_position){.topic = partition->topic,
                                                         .partition = partition->partition,
                                                         .offset = partition->handed_offset};
    }
    if (count > 0)
        kafka_consumer_commit_hint(speed->consumer, positions, count);
    free(positions);
}
