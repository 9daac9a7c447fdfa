/* What the files of the archiver share. In the order in which a run goes through them:
 *
 *   archiver_masks.c       which values are hashed before anything of a topic is written
 *   archiver_partitions.c  which partitions there are, where each begins and has come to
 *   archiver_halt.c        those whose log does not have the next offset stand still
 *   archiver.c             the flow: preparing, and reading Kafka up to an end
 *   archiver_segments.c    records into segments, segments into the manifest
 *
 * All on the archiver's thread (archiver.h). */
#ifndef DOVETAIL_BATCH_ARCHIVER_INTERNAL_H
#define DOVETAIL_BATCH_ARCHIVER_INTERNAL_H

#include "batch_layer/archiver.h"
#include "core/archive/gap.h"
#include "core/kafka/kafka.h"
#include "core/records/mask.h"

enum { ARCHIVER_KAFKA_TIMEOUT_MS = 10000 };

/* The mask of one topic. */
struct archiver_mask {
    char *topic;
    json_t *json; /* the member "mask" of the definition */
    char *paths;
    struct record_mask *masker;
};

struct archiver {
    const struct config *config;
    struct postgres *postgres;
    struct kafka_consumer *consumer;
    struct kafka_consumer *asker; /* reads nothing: its questions do not wait behind a fetch */
    struct archiver_partition *partitions;
    size_t count;
    int64_t listed_us;           /* PostgreSQL's clock: before Kafka was asked which there are */
    size_t last;                 /* where the last message belonged: they come in runs */
    struct archiver_mask *masks; /* of the topics that have one */
    size_t mask_count;
    char *definitions; /* what the masks were made from */
    int64_t record_count;
    int64_t raw_bytes;
};

/* archiver_masks.c. Takes the catalogue's masks up; *changed where they are others than before. */
enum status archiver_update_masks(struct archiver *archiver, const struct catalog *catalog,
                                  bool *changed, struct error *error) MUST_CHECK;
void archiver_free_masks(struct archiver *archiver);
struct archiver_mask *archiver_find_mask(struct archiver *archiver, const char *topic);
/* STATUS_RETRY where the topic's mask is no longer the registered one. */
enum status archiver_check_mask(struct archiver *archiver,
                                const struct archiver_partition *partition,
                                struct error *error) MUST_CHECK;

/* archiver_partitions.c. Asks Kafka for the partitions of every source's topic. *out is the
 * caller's in every case. */
enum status archiver_list_partitions(const struct archiver *archiver, const struct catalog *catalog,
                                     struct archiver_partition **out, size_t *count,
                                     struct error *error) MUST_CHECK;
void archiver_free_partitions(struct archiver_partition *partitions, size_t count);
/* The same as the archiver has, and nothing stands still that may go on by now. */
bool archiver_same_partitions(const struct archiver *archiver,
                              const struct archiver_partition *partitions, size_t count);
/* First and end offset of every partition's log; *lows has one for each, or NULL. */
enum status archiver_ask_logs(struct archiver *archiver, int64_t *lows,
                              struct error *error) MUST_CHECK;
/* Makes missing position rows. */
enum status archiver_add_positions(struct archiver *archiver, const int64_t *lows,
                                   struct error *error) MUST_CHECK;
/* Where each partition begins, and the manifest's end. */
enum status archiver_read_positions(struct archiver *archiver, struct error *error) MUST_CHECK;

/* archiver_halt.c. Is the next offset in the log, which begins at `low`? If not it is halted. */
enum status archiver_check_log(struct archiver *archiver, struct archiver_partition *partition,
                               int64_t low, const struct gap *gaps, size_t gap_count,
                               struct error *error) MUST_CHECK;
enum status archiver_check_logs(struct archiver *archiver, const int64_t *lows,
                                struct error *error) MUST_CHECK;
/* The record at `offset` is not the one that was archived: the topic was made anew. */
enum status archiver_halt_foreign(struct archiver *archiver, struct archiver_partition *partition,
                                  int64_t offset, struct error *error) MUST_CHECK;

/* archiver_segments.c. Into the open segment, which is closed when it is full. */
enum status archiver_add_record(struct archiver *archiver, struct archiver_partition *partition,
                                const rd_kafka_message_t *message, struct error *error) MUST_CHECK;
enum status archiver_close_segment(struct archiver *archiver, struct archiver_partition *partition,
                                   struct error *error) MUST_CHECK;

#endif
