/* One partition: its position, its open slice and the groups of the slice.
 *
 *         slice_start          next_offset
 *              │ open slice         │ not folded yet
 *   ───────────┼──────────┬─────────┼──────────────▶ offsets
 *                         │
 *                   handed_offset: P once the flushes handed over are written
 *
 * Where a definition of the source compares ids, the offsets before P are read again after a claim,
 * from recall_offset on, only to learn their ids. Records come in the order of offsets, so whatever
 * is folded is folded with all ids within its reach known.
 *
 * Freshness: at a time t before it was asked for, the log did not reach beyond the end that was
 * told; so once P has, everything that was in the log at t is folded. Records' own timestamps are a
 * clock of somebody else's, mostly the producer's, and say nothing about it.
 *
 * Invariant: the groups are the fold of the records in [slice_start, next_offset), and each group
 * that changed since it was last encoded is on its table's list of changed groups. Everything here
 * is pure: time is an argument, rows go into a struct flush. Main thread only. */
#ifndef DOVETAIL_SPEED_PARTITION_H
#define DOVETAIL_SPEED_PARTITION_H

#include "speed_layer/claim.h"
#include "speed_layer/feed.h"
#include "speed_layer/flush.h"

/* Where the records come from: see recovery.h. */
enum supply {
    SUPPLY_KAFKA,   /* from the log, by the run loop */
    SUPPLY_ARCHIVE, /* the log has them no more, the archive does */
    SUPPLY_UNKNOWN, /* the log was not to be asked yet */
    SUPPLY_WAITING, /* a log that was made anew has not grown to here yet, and that was accepted */
    SUPPLY_HALTED,  /* neither has them: an operator must say what to do */
};

/* One view version's share of a partition. */
struct partition_view {
    const struct feed_version *version;
    struct groups *groups;
    int64_t counted; /* since the last hand-over */
    int64_t filtered;
    int64_t rejected;
};

enum { PARTITION_ENDS_MAX = 16 };

struct partition_end {
    int64_t offset;
    int64_t asked_us;
};

struct partition {
    char *topic; /* owned */
    int32_t partition;
    bool claimed;          /* false: nothing is folded */
    const void *topic_tag; /* remembers librdkafka's object for the topic; NULL = not known yet */

    enum supply supply;
    struct archive_walk *walk; /* of SUPPLY_ARCHIVE; recovery.c's */
    int64_t look_us;           /* when to ask again, unless it is one of the first two */
    char trouble[512];         /* why it is halted, as it was told */

    /* To be compared before anything is read on: the last record below P, last_offset, as far as
     * the log still has it. Another one there is another log's. */
    int64_t check_offset; /* -1 = there is nothing to check, or it was checked */
    bool foreign;         /* there was another one */

    struct feed *feed;
    struct partition_view *views;
    size_t view_count;

    struct recent_ids **ids; /* one for each of the feed's parsers; NULL: it compares none */
    size_t ids_count;
    int64_t recall_offset; /* below next_offset: ids from here on are still to be learned */

    int64_t epoch;
    int64_t next_offset;
    int64_t slice_start;
    int64_t slice_began_us; /* monotonic clock */
    int64_t handed_offset;
    int64_t handed_slice_start;
    int64_t *cuts; /* planned, ascending */
    size_t cut_count;
    size_t cuts_passed;
    bool in_backlog;   /* the last hand-over was far from the log's end */
    bool cut_answered; /* the open slice answers a request that is not told to the database yet */

    /* Ends of the log that P has not reached yet, ascending, with the times they were asked for. */
    struct partition_end ends[PARTITION_ENDS_MAX];
    size_t end_count;
    int64_t end_spacing_us; /* between two of them, at least */
    int64_t as_of_us;       /* everything that was in the log then is folded; 0 = not known */
    int64_t handed_as_of_us;
    int64_t last_offset;         /* of the last folded record; -1 = none */
    int64_t newest_timestamp_ms; /* the broker's, of the same; -1 = none */
    int64_t handed_at_us;        /* when the last flush that moved P was filled */
    int64_t watermark_us;        /* WATERMARK_NONE: none */

    int64_t consumed; /* since the last hand-over */
    int64_t counted;
    int64_t filtered;
    int64_t duplicate;
    int64_t dead_lettered;
};

struct record {
    int64_t offset;
    int64_t timestamp_ms; /* the broker's, -1 = none */
    const char *value;    /* NULL: a tombstone */
    size_t length;
};

enum record_outcome {
    RECORD_STALE,   /* below next_offset: folded before */
    RECORD_LEARNED, /* the same, and its id is known again */
    RECORD_FOREIGN, /* below next_offset, and not the record that was there */
    RECORD_COUNTED,
    RECORD_FILTERED,
    RECORD_DUPLICATE,
    RECORD_DEAD, /* *rejection says why */
};

/* Copies the topic. The partition starts unclaimed. */
enum status partition_init(struct partition *partition, const char *topic, int32_t number,
                           struct error *error) MUST_CHECK;
void partition_deinit(struct partition *partition);

/* Forgets everything that is not in the database, and the claim. */
void partition_discard(struct partition *partition);

/* Begins at a claim's P; takes its cuts. `feed` outlives the claim. */
enum status partition_begin(struct partition *partition, struct claim *claim, struct feed *feed,
                            int64_t now_us, struct error *error) MUST_CHECK;

/* The offset to read from: next_offset, or below it where ids are to be learned or the last record
 * is to be checked. */
int64_t partition_read_offset(const struct partition *partition);

/* Folds one record into every view; planned cuts that it passes close slices into `flush`. */
enum status partition_fold(struct partition *partition, const struct record *record,
                           struct flush *flush, enum record_outcome *outcome,
                           struct rejection *rejection, struct error *error) MUST_CHECK;

/* Everything up to `end_offset` was read: offsets below hold no more records. */
enum status partition_reach_end(struct partition *partition, int64_t end_offset,
                                struct flush *flush, struct error *error) MUST_CHECK;

/* The offsets below `offset` hold no more records. */
enum status partition_pass(struct partition *partition, int64_t offset, struct flush *flush,
                           struct error *error) MUST_CHECK;

/* The log ended at `end_offset` or before at the time asked_us of the wall clock. */
void partition_note_end(struct partition *partition, int64_t end_offset, int64_t asked_us);
/* Does the end of the log say anything about it? Not where the log may be another one, or the
 * partition waits for it to grow or for an operator. */
bool partition_follows_log(const struct partition *partition);
/* Would knowing the end of the log now tell readers more than a second's worth? */
bool partition_wants_end(const struct partition *partition);

/* Closes the open slice at next_offset: what changed is encoded, a new slice begins. */
enum status partition_cut(struct partition *partition, struct flush *flush, int64_t now_us,
                          struct error *error) MUST_CHECK;

/* Is there anything a flush would tell the database? as_of alone counts once a second, and once
 * after P moved. */
bool partition_has_news(const struct partition *partition);
/* Puts everything since the last time into the flush. `clock_us`: wall clock. */
enum status partition_hand_over(struct partition *partition, struct flush *flush, int64_t clock_us,
                                struct error *error) MUST_CHECK;

size_t partition_memory_bytes(const struct partition *partition);
/* About what the next hand-over adds to a flush. */
size_t partition_pending_bytes(const struct partition *partition);

#endif
