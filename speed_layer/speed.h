/* The speed layer's process: what its files share.
 *
 *   main.c       arguments, configuration
 *   speed.c      start, run loop, stop
 *   ownership.c  claiming partitions, giving them back, starting again after a fence
 *   recovery.c   records that Kafka has no more, from the archive; partitions that are halted
 *   handover.c   filling flushes, their outcomes, memory bounds
 *   watch.c      ends of the logs, partitions that nobody reads
 *   telemetry.c  the page of metrics
 *
 * The main thread owns all of it; the flusher's thread has the flush that was submitted, until it
 * comes back, and log_ends' thread the question that it asks. */
#ifndef DOVETAIL_SPEED_H
#define DOVETAIL_SPEED_H

#include "core/program/config.h"
#include "core/kafka/kafka.h"
#include "speed_layer/flusher.h"
#include "speed_layer/instance.h"
#include "speed_layer/log_ends.h"
#include "speed_layer/partition.h"
#include "speed_layer/telemetry.h"

struct speed {
    const struct config *config;
    const char *instance_name; /* --instance, or NULL */

    struct postgres *postgres; /* holds the instance's lock; claims are made with it */
    struct instance instance;
    bool instance_held;  /* the session has its lock */
    bool instance_lost;  /* the group gave our name to another process */
    bool must_subscribe; /* under a new name */
    char group[64];
    char owner[INSTANCE_NAME_BYTES + 24]; /* instance and a number that is this process's alone */

    struct feeds *feeds; /* of the newest claim */
    struct kafka_consumer *consumer;
    char **topics; /* subscribed; owned */
    int *known;    /* of each topic: so many partitions have position rows */
    int *existing; /* of each topic: so many partitions Kafka has; -1 = not known */
    size_t topic_count;

    struct partition *partitions; /* assigned by the group, by topic and partition */
    size_t partition_count;
    size_t newest; /* where the last message belonged */

    struct flusher *flusher;
    struct flush flushes[2];
    struct flush *open; /* being filled; the other one is with the flusher, if in_flight */
    bool in_flight;
    bool touch;          /* the next flush writes partitions without news, too */
    uint64_t generation; /* grows whenever work in memory is thrown away */

    struct log_ends *log_ends;
    struct telemetry telemetry;

    /* Monotonic clock; 0 = never. */
    int64_t now_us;
    int64_t next_flush_us;
    int64_t next_progress_us;
    int64_t next_hint_us;
    int64_t look_us;  /* when to read the catalogue; 0 = nothing says that it has changed */
    bool has_retired; /* what is folded has a retired version: claim again */
    int64_t last_progress_us;
    int64_t reclaim_us; /* when to claim again after a fence; 0 = nothing to claim */
    int64_t reclaim_pause_us;
    int64_t next_lone_us;   /* when to look for partitions that nobody reads */
    int64_t resubscribe_us; /* when the group may be asked again to give them to somebody */
    int resubscriptions;    /* in vain, since there was none */
    int64_t complained_us;
    bool paused;
    bool idle;    /* the last poll brought nothing */
    bool walking; /* records of the archive are being folded */

    int64_t records; /* folded since the last progress line */
    int64_t records_total;
    int64_t learned; /* read again for their ids since the last progress line */
};

/* Runs until the program is stopped; the exit code. */
int speed_run(const struct config *config, const char *instance_name);

/* One warning in ten seconds about something that is waited for. */
void speed_complain(struct speed *speed, const char *what, const struct error *error);

/* Folds a record that was read from the archive, as those are that come from Kafka. */
enum status speed_fold_archived(struct speed *speed, struct partition *partition,
                                const struct record *record, struct error *error) MUST_CHECK;

/* --- ownership.c --- */

/* A session with the instance's lock. STATUS_RETRY: PostgreSQL is away. Where another process took
 * the instance meanwhile, this one gets another name, and `must_subscribe` is set; STATUS_FATAL
 * where the name was given by the operator. */
enum status ownership_ensure_session(struct speed *speed, struct error *error) MUST_CHECK;
/* After the group gave our name to another process (instance_lost): the same. */
enum status ownership_replace_instance(struct speed *speed, struct error *error) MUST_CHECK;
/* Makes the name that claims are made in. */
void ownership_name_owner(struct speed *speed);

struct kafka_group_callbacks ownership_callbacks(struct speed *speed);

/* After a fence: what is in memory is thrown away; ownership_reclaim will claim again. */
void ownership_lose(struct speed *speed);
/* Claims again what is still ours, when it is time, and starts reading at P. */
enum status ownership_reclaim(struct speed *speed, struct error *error) MUST_CHECK;

/* Reads from Kafka what is ours and to be read there, each from where it stands. */
enum status ownership_restart_consumer(struct speed *speed, struct error *error) MUST_CHECK;

/* For how long a partition must have been nobody's before somebody else acts: the group had its
 * chance by then. */
int ownership_lone_ms(const struct speed *speed);

struct partition *ownership_find(struct speed *speed, const char *topic, int32_t partition);
void ownership_drop_partitions(struct speed *speed);

/* --- handover.c --- */

/* Hands everything new to the flusher, if it is idle and there is anything. `touch`: partitions
 * without news, too, now or when it is idle. */
enum status handover_begin(struct speed *speed, bool touch, struct error *error) MUST_CHECK;
/* Takes the flusher's outcome, waiting up to timeout_ms. STATUS_FATAL ends the program; a fence is
 * handled (ownership_lose) and is STATUS_OK. */
enum status handover_finish(struct speed *speed, int timeout_ms, struct error *error) MUST_CHECK;
/* Flushes everything, within a bounded time; *clean tells whether all of it is written. */
enum status handover_drain(struct speed *speed, int timeout_ms, bool *clean,
                           struct error *error) MUST_CHECK;
/* Closes the open slices of all partitions; `answer`: because a batch run asked. */
enum status handover_cut_all(struct speed *speed, bool answer, struct error *error) MUST_CHECK;
/* Keeps memory within bounds: early slices, then a pause of consumption. */
enum status handover_apply_limits(struct speed *speed, struct error *error) MUST_CHECK;
/* Tells the group P, for lag tools. */
void handover_commit_hint(struct speed *speed);

/* --- watch.c --- */

/* After topics or partitions have changed: what Kafka is asked about. */
enum status watch_begin(struct speed *speed, struct error *error) MUST_CHECK;
/* Takes what Kafka answered, makes position rows for partitions that are new in it, and has those
 * read that nobody reads. */
enum status watch_tick(struct speed *speed, struct error *error) MUST_CHECK;
/* Sessions were lost, perhaps everybody's: who is there needs a moment to say so. */
void watch_wait(struct speed *speed);

#endif
