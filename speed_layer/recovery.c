/* Recovery from the archive: see recovery.h.
 *
 *   SUPPLY_KAFKA ── the offset is gone ──▶ look ──┬─▶ SUPPLY_ARCHIVE ── read as far as it was to be
 *        ▲                                  ▲  ▲  ├─▶ SUPPLY_WAITING    │          │
 *        └────── the log has the next one ──┘  │  └─▶ SUPPLY_HALTED ────┘          │
 *                                              └───────────────────────────────────┘
 *
 * Exactness: a record is folded if it lies at or above P, and only its id is learned if below; that
 * is partition_fold's, wherever it comes from. The manifest's segments follow each other without a
 * gap (checked when they are listed), and a look always begins at the offset that is next. So
 * nothing is left out but accepted gaps, and P moves by flushes alone. A retention that moves on
 * meanwhile is told by the log again, and leads to another look. */
#include "speed_layer/recovery.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/archive/archive.h"
#include "core/archive/gap.h"
#include "core/program/program.h"

enum {
    WATERMARKS_TIMEOUT_MS = 2000,
    LOOK_AGAIN_US = 2000000,
    STEP_RECORDS = 512, /* between two polls, which keep the membership */
};

/* The archive's records of one partition, on the way from its next offset to `end_offset`. */
struct archive_walk {
    struct archive_segment *segments; /* of the topic */
    size_t count;
    size_t at;
    struct archive_reader *reader; /* of segments[at]; NULL: not open */
    int64_t end_offset;
};

/* What a look finds. */
struct findings {
    int64_t low; /* the log has [low, high) */
    int64_t high;
    int64_t archived; /* end of the archive */
    bool fenced;      /* the partition is not ours any more, or something was registered */
    struct archive_segment *segments;
    size_t segment_count;
    struct gap *gaps;
    size_t gap_count;
};

static void walk_destroy(struct archive_walk *walk)
{
    if (walk == NULL)
        return;
    archive_reader_close(walk->reader);
    archive_segments_free(walk->segments, walk->count);
    free(walk);
}

void recovery_forget(struct partition *partition)
{
    walk_destroy(partition->walk);
    partition->walk = NULL;
}

static void set_supply(struct speed *speed, struct partition *partition, enum supply supply)
{
    partition->supply = supply;
    partition->look_us = speed->now_us + LOOK_AGAIN_US;
}

/* --- halting --- */

/* Told once in the log, and in the database for whoever asks there. */
static void halt(struct speed *speed, struct partition *partition, const struct error *why)
{
    struct error error;
    recovery_forget(partition);
    set_supply(speed, partition, SUPPLY_HALTED);
    if (strncmp(partition->trouble, why->text, sizeof partition->trouble - 1) == 0)
        return;
    if (halt_note(speed->postgres, "speed", partition->topic, partition->partition,
                  partition->next_offset, partition->foreign, why->text, &error) != STATUS_OK) {
        speed_complain(speed, "a halted partition cannot be noted", &error);
        return; /* the next look tries again */
    }
    snprintf(partition->trouble, sizeof partition->trouble, "%.*s",
             (int)sizeof partition->trouble - 1, why->text);
    program_log(LOG_ERR, "halted: %s", why->text);
}

static void go_on(struct speed *speed, struct partition *partition)
{
    struct error error;
    if (partition->trouble[0] != '\0')
        program_log(LOG_NOTICE, "%s[%" PRId32 "] goes on at offset %" PRId64, partition->topic,
                    partition->partition, partition_read_offset(partition));
    partition->trouble[0] = '\0';
    if (halt_clear(speed->postgres, "speed", partition->topic, partition->partition, &error) !=
        STATUS_OK)
        speed_complain(speed, "a partition that goes on cannot be noted", &error);
}

/* --- looking --- */

static enum status find_archived(struct speed *speed, const struct partition *partition,
                                 struct findings *findings, struct error *error)
{
    enum status status = archive_manifest_list(
        speed->postgres, partition->topic, &findings->segments, &findings->segment_count, error);
    for (size_t i = 0; i < findings->segment_count; i++)
        if (findings->segments[i].partition == partition->partition)
            findings->archived = findings->segments[i].end_offset;
    return status;
}

static enum status check_fence(struct speed *speed, const struct partition *partition,
                               struct findings *findings, struct error *error)
{
    char number[24];
    snprintf(number, sizeof number, "%" PRId32, partition->partition);
    const char *parameters[] = {partition->topic, number};
    PGresult *result = NULL;
    enum status status = postgres_query(speed->postgres,
                                        "SELECT owner_epoch FROM dovetail_internal.position"
                                        " WHERE topic = $1 AND partition = $2",
                                        2, parameters, &result, error);
    findings->fenced = status == STATUS_OK &&
                       (PQntuples(result) != 1 || postgres_int64(result, 0, 0) != partition->epoch);
    PQclear(result);
    return status;
}

static enum status find(struct speed *speed, const struct partition *partition,
                        struct findings *findings, struct error *error)
{
    enum status status =
        kafka_consumer_watermarks(speed->consumer, partition->topic, partition->partition,
                                  WATERMARKS_TIMEOUT_MS, &findings->low, &findings->high, error);
    if (status == STATUS_OK)
        status = ownership_ensure_session(speed, error);
    if (status == STATUS_OK && speed->must_subscribe)
        status = error_set(error, STATUS_RETRY, "the group is to be joined under a new name");
    if (status == STATUS_OK)
        status = check_fence(speed, partition, findings, error);
    if (status == STATUS_OK)
        status = gaps_list(speed->postgres, partition->topic, &findings->gaps, &findings->gap_count,
                           error);
    if (status == STATUS_OK)
        status = find_archived(speed, partition, findings, error);
    int64_t begins = gaps_log_begins(findings->gaps, findings->gap_count, partition->partition);
    if (begins > findings->low)
        findings->low = begins;
    return status;
}

static void findings_deinit(struct findings *findings)
{
    archive_segments_free(findings->segments, findings->segment_count);
    free(findings->gaps);
}

static enum status begin_walk(struct speed *speed, struct partition *partition,
                              struct findings *findings, int64_t end_offset, struct error *error)
{
    struct archive_walk *walk = calloc(1, sizeof *walk);
    if (walk == NULL)
        return error_no_memory(error);
    *walk = (struct archive_walk){
        .segments = findings->segments, .count = findings->segment_count, .end_offset = end_offset};
    findings->segments = NULL;
    findings->segment_count = 0;
    partition->walk = walk;
    set_supply(speed, partition, SUPPLY_ARCHIVE);
    /* Where a look has halted it, the next one that finds the same is no news. */
    if (partition->trouble[0] == '\0')
        program_log(LOG_NOTICE,
                    "%s[%" PRId32 "] offsets %" PRId64 " to %" PRId64
                    " are not in Kafka any more: read from the archive",
                    partition->topic, partition->partition, partition_read_offset(partition),
                    end_offset);
    return STATUS_OK;
}

static void halt_with(struct speed *speed, struct partition *partition,
                      const struct findings *findings, int64_t next)
{
    struct error why;
    (void)!halt_describe(&why, partition->feed->source->name, partition->topic,
                         partition->partition, next, findings->archived, findings->low,
                         findings->high);
    if (next < partition->next_offset)
        error_wrap(&why, "the ids below offset %" PRId64 ", for dedupe", partition->next_offset);
    halt(speed, partition, &why);
}

static void wait_for_growth(struct speed *speed, struct partition *partition)
{
    if (partition->supply != SUPPLY_WAITING)
        program_log(LOG_NOTICE,
                    "%s[%" PRId32 "] waits until the new log has grown to offset %" PRId64,
                    partition->topic, partition->partition, partition->next_offset);
    go_on(speed, partition);
    set_supply(speed, partition, SUPPLY_WAITING);
}

/* Has the last record below P compared with what the log has there, from `low` on. */
static void check_last(struct partition *partition, int64_t low)
{
    if (partition->last_offset >= low && partition->newest_timestamp_ms >= 0 &&
        partition->last_offset < partition->next_offset)
        partition->check_offset = partition->last_offset;
}

/* Decides. No gap begins where the partition is to be read from. */
static enum status decide(struct speed *speed, struct partition *partition,
                          struct findings *findings, struct error *error)
{
    int64_t next = partition_read_offset(partition);
    /* P itself is beyond the log, whatever of the ids below may be there. */
    if (partition->next_offset > findings->high &&
        !gaps_resume_at(findings->gaps, findings->gap_count, partition->partition,
                        partition->next_offset)) {
        halt_with(speed, partition, findings, partition->next_offset);
        return STATUS_OK;
    }
    if (next >= findings->low && next <= findings->high) {
        /* The log may have been shorter meanwhile, and filled again with other records. */
        check_last(partition, findings->low);
        go_on(speed, partition);
        set_supply(speed, partition, SUPPLY_KAFKA);
        return ownership_restart_consumer(speed, error);
    }
    if (next < findings->archived && next < findings->low)
        return begin_walk(speed, partition, findings,
                          findings->archived < findings->low ? findings->archived : findings->low,
                          error);
    if (next > findings->high)
        wait_for_growth(speed, partition);
    else
        halt_with(speed, partition, findings, next);
    return STATUS_OK;
}

static enum status look(struct speed *speed, struct partition *partition, struct error *error)
{
    struct findings findings = {0};
    recovery_forget(partition);
    partition->check_offset = -1;
    enum status status = find(speed, partition, &findings, error);
    if (status == STATUS_OK && findings.fenced) {
        /* Beginning anew also forgets the ids of what an operator gave up. */
        ownership_lose(speed);
    } else if (status == STATUS_OK && partition->foreign) {
        partition->look_us = speed->now_us + LOOK_AGAIN_US; /* until somebody accepts it */
    } else if (status == STATUS_OK) {
        int64_t next = partition_read_offset(partition);
        int64_t behind = gaps_pass(findings.gaps, findings.gap_count, partition->partition, next);
        if (behind > next) {
            program_log(LOG_NOTICE,
                        "%s[%" PRId32 "] passes over the gap from offset %" PRId64 " to %" PRId64,
                        partition->topic, partition->partition, next, behind);
            status = partition_pass(partition, behind, speed->open, error);
        }
        if (status == STATUS_OK)
            status = decide(speed, partition, &findings, error);
    } else if (status == STATUS_RETRY) {
        speed_complain(speed, "a partition's log and archive cannot be asked", error);
        if (partition->supply != SUPPLY_HALTED)
            partition->supply = SUPPLY_UNKNOWN;
        partition->look_us = speed->now_us + LOOK_AGAIN_US;
        status = STATUS_OK;
    } else if (status == STATUS_FATAL) { /* the manifest */
        halt(speed, partition, error);
        status = STATUS_OK;
    }
    findings_deinit(&findings);
    return status;
}

void recovery_foreign(struct speed *speed, struct partition *partition, int64_t offset)
{
    struct error why;
    partition->foreign = true;
    (void)!halt_describe_foreign(&why, partition->feed->source->name, partition->topic,
                                 partition->partition, offset);
    halt(speed, partition, &why);
}

enum status recovery_begin(struct speed *speed, struct partition *partition, struct error *error)
{
    if (partition->supply != SUPPLY_KAFKA)
        return STATUS_OK; /* it is being seen to */
    return look(speed, partition, error);
}

void recovery_look_again(struct speed *speed)
{
    for (size_t i = 0; i < speed->partition_count; i++)
        speed->partitions[i].look_us = 0;
}

/* A look may take as long as Kafka's answer: one at a time, so that the membership is kept
 * meanwhile; that which waits longest, so that all have their turn. */
enum status recovery_tick(struct speed *speed, struct error *error)
{
    struct partition *due = NULL;
    for (size_t i = 0; i < speed->partition_count; i++) {
        struct partition *partition = &speed->partitions[i];
        if (partition->claimed && partition->supply >= SUPPLY_UNKNOWN &&
            speed->now_us >= partition->look_us &&
            (due == NULL || partition->look_us < due->look_us))
            due = partition;
    }
    return due != NULL ? look(speed, due, error) : STATUS_OK;
}

/* A log that was made anew has other records below where it is gone on with: the ids of those that
 * are meant are in the archive. */
enum status recovery_claimed(struct speed *speed, struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_query(
        speed->postgres,
        "SELECT p.topic, p.partition, COALESCE(p.last_offset, -1),"
        " COALESCE(p.last_timestamp_ms, -1), COALESCE((SELECT max(g.to_offset)"
        "   FROM dovetail_internal.gap AS g WHERE g.topic = p.topic AND g.partition = p.partition"
        "   AND g.reason = 'new log'), 0) FROM dovetail_internal.position AS p",
        0, NULL, &result, error);
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++) {
        struct partition *partition = ownership_find(speed, PQgetvalue(result, row, 0),
                                                     (int32_t)postgres_int64(result, row, 1));
        int64_t begins = postgres_int64(result, row, 4);
        if (partition == NULL || !partition->claimed)
            continue;
        if (partition_read_offset(partition) < begins)
            partition->supply = SUPPLY_UNKNOWN;
        partition->last_offset = postgres_int64(result, row, 2);
        partition->newest_timestamp_ms = postgres_int64(result, row, 3);
        check_last(partition, begins);
    }
    PQclear(result);
    return status;
}

/* --- reading the archive --- */

/* Opens the segment that has the next offset; *ended where the walk has come to its end. */
static enum status open_segment(const struct speed *speed, const struct partition *partition,
                                bool *ended, struct error *error)
{
    struct archive_walk *walk = partition->walk;
    int64_t next = partition_read_offset(partition);
    *ended = next >= walk->end_offset;
    while (!*ended && walk->at < walk->count &&
           (walk->segments[walk->at].partition != partition->partition ||
            walk->segments[walk->at].end_offset <= next))
        walk->at++;
    *ended = *ended || walk->at == walk->count;
    if (*ended)
        return STATUS_OK;
    return archive_reader_open(speed->config->batch_archive, &walk->segments[walk->at],
                               &walk->reader, error);
}

/* Some records of the open segment; *ended where it has no more of them, *unreadable where the file
 * is at fault. A record that fails to be folded is another thing: the groups may have half of it.
 */
static enum status fold_some(struct speed *speed, struct partition *partition, bool *ended,
                             bool *unreadable, struct error *error)
{
    struct archive_walk *walk = partition->walk;
    enum status status = STATUS_OK;
    *ended = false;
    for (int i = 0; status == STATUS_OK && i < STEP_RECORDS && !*ended; i++) {
        struct archive_record found;
        status = archive_reader_next(walk->reader, &found, ended, error);
        *unreadable = status != STATUS_OK;
        if (status != STATUS_OK || *ended)
            break;
        *ended = found.offset >= walk->end_offset;
        if (*ended)
            break;
        const struct record record = {.offset = found.offset,
                                      .timestamp_ms = found.timestamp_ms,
                                      .value = found.value,
                                      .length = found.length};
        status = speed_fold_archived(speed, partition, &record, error);
    }
    return status;
}

/* One step; *ended where the archive was read as far as it was to be. */
static enum status read_some(struct speed *speed, struct partition *partition, bool *ended,
                             bool *unreadable, struct error *error)
{
    struct archive_walk *walk = partition->walk;
    *ended = false;
    enum status status =
        walk->reader == NULL ? open_segment(speed, partition, ended, error) : STATUS_OK;
    *unreadable = status != STATUS_OK;
    if (status != STATUS_OK || *ended)
        return status;
    bool read;
    feed_note_masked(partition->feed, archive_reader_masked(walk->reader));
    status = fold_some(speed, partition, &read, unreadable, error);
    feed_note_masked(partition->feed, NULL);
    if (status != STATUS_OK || !read)
        return status;
    /* What is left of the segment is no record. */
    int64_t end = walk->segments[walk->at].end_offset;
    archive_reader_close(walk->reader);
    walk->reader = NULL;
    if (partition->trouble[0] != '\0')
        go_on(speed, partition);
    return partition_pass(partition, end < walk->end_offset ? end : walk->end_offset, speed->open,
                          error);
}

enum status recovery_step(struct speed *speed, bool *busy, struct error *error)
{
    enum status status = STATUS_OK;
    *busy = false;
    for (size_t i = 0; status == STATUS_OK && i < speed->partition_count; i++) {
        struct partition *partition = &speed->partitions[i];
        if (!partition->claimed || partition->supply != SUPPLY_ARCHIVE || speed->paused)
            continue;
        bool ended;
        bool unreadable;
        *busy = true;
        status = read_some(speed, partition, &ended, &unreadable, error);
        if (status == STATUS_OK && ended)
            status = look(speed, partition, error);
        else if (unreadable) {
            halt(speed, partition, error);
            status = STATUS_OK;
        }
    }
    return status;
}
