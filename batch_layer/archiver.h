/* Copies topics from Kafka into the archive.
 *
 * Invariant: segments of a partition follow each other without a gap from position.base_offset on;
 * a record is archived once. Where Kafka does not have the next offset, because its retention was
 * faster or the topic was made anew, that partition is halted and the others go on: never a silent
 * hole. It is noted in the database with its offsets, and archiver_prepare looks again. A gap that
 * an operator accepted (core/archive/gap.h) is archived as a hole.
 *
 * Where the newest definition of a source has a mask (core/records/mask.h), records are masked
 * before they are written, and one that has not the source's fields is archived without its value.
 * A segment is masked by one definition throughout: under another one an open segment is thrown
 * away and read again.
 *
 * One thread, under the batch lock, over the connection that holds the lock: a manifest row cannot
 * be written by a process that has lost it. After any failure the archiver is of no use but to be
 * destroyed; its unfinished segments are removed then and read again by the next one. */
#ifndef DOVETAIL_BATCH_ARCHIVER_H
#define DOVETAIL_BATCH_ARCHIVER_H

#include "batch_layer/progress.h"
#include "core/archive/archive.h"
#include "core/catalog/catalog.h"
#include "core/program/config.h"
#include "core/postgres/postgres.h"

struct archiver;

/* How far one partition is. */
struct archiver_partition {
    char *topic;
    int32_t partition;
    int64_t base_offset;  /* where the history begins */
    int64_t archived_end; /* end of its manifest */
    int64_t next_offset;  /* next to read; [archived_end, next_offset) is in the open segment */
    /* Every record that was in the log at log_end_at_us lies below log_end. -1: never asked. */
    int64_t log_end;
    int64_t log_end_at_us;
    struct archive_writer *writer; /* the open segment; NULL: none */
    char *source;                  /* its name */
    bool missing;                  /* Kafka has no such partition any more */
    bool halted;                   /* nothing is read of it */
    /* The last record that was archived, which the log must still have where it has its offset. */
    int64_t check_offset; /* -1 = there is nothing to check, or it was checked */
    int64_t check_timestamp_ms;
    int64_t last_offset; /* of the last record that was read; -1 = none */
    int64_t last_timestamp_ms;
};

enum status archiver_create(const struct config *config, struct postgres *postgres,
                            struct archiver **out, struct error *error) MUST_CHECK;
void archiver_destroy(struct archiver *archiver); /* accepts NULL */

/* Takes up the partitions of the catalogue's topics, and those that were there once: makes missing
 * position rows, reads the
 * manifest and goes on from its end. Where nothing changed since the last call this costs one
 * question to Kafka for each topic. */
enum status archiver_prepare(struct archiver *archiver, const struct catalog *catalog,
                             struct error *error) MUST_CHECK;

/* By topic and partition; good until the next archiver_prepare. */
struct archiver_partition *archiver_partitions(struct archiver *archiver, size_t *count);
struct archiver_partition *archiver_find(struct archiver *archiver, const char *topic,
                                         int32_t partition);

/* Reads everything that is in the log now, closes every segment and writes the manifest.
 * STATUS_RETRY "stopped" when the program is stopping. */
enum status archiver_catch_up(struct archiver *archiver, struct error *error) MUST_CHECK;

/* Reads what comes until `until_us` (monotonic) or until the program is stopping. Segments are
 * closed when they are full. */
enum status archiver_follow(struct archiver *archiver, int64_t until_us,
                            struct error *error) MUST_CHECK;
/* Closes every segment and writes the manifest. */
enum status archiver_flush(struct archiver *archiver, struct error *error) MUST_CHECK;

/* Keeps where the archive's last record is and what its timestamp was, to know its log by. */
enum status archiver_note_last(struct postgres *postgres, const char *topic, int32_t partition,
                               int64_t offset, int64_t timestamp_ms,
                               struct error *error) MUST_CHECK;

/* Records and bytes of values read since the archiver was made. */
int64_t archiver_record_count(const struct archiver *archiver);
int64_t archiver_raw_bytes(const struct archiver *archiver);

#endif
