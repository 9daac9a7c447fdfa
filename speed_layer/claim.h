/* Claiming partitions: becoming the owner that may move their P.
 *
 * A claim adds one to owner_epoch, which fences every earlier owner, begins a slice at P, and reads
 * the catalogue and the planned cuts behind the locks it took. So whatever a claimed partition
 * folds, it folds with every view version that is registered, and starts a slice at every planned
 * cut; a change of either adds one to owner_epoch and leads here again. */
#ifndef DOVETAIL_SPEED_CLAIM_H
#define DOVETAIL_SPEED_CLAIM_H

#include "core/catalog/catalog.h"
#include "core/kafka/kafka.h"

struct claim {
    const char *topic;
    int32_t partition;
    /* Results. */
    bool claimed;        /* false: it belongs to somebody else */
    int64_t base_offset; /* where the history begins */
    int64_t next_offset; /* P */
    int64_t epoch;
    int64_t *cuts; /* planned cuts above P, ascending; owned by the claim */
    size_t cut_count;
};

struct claimant {
    const char *owner;
    bool only_mine; /* those of other owners are left alone, unless they are lone ... */
    int lone_ms;    /* ... for so long: see claims_find_lone */
};

/* Claims all of them in one transaction. Partitions seen for the first time begin at the log's
 * first offset, which `consumer` is asked for. STATUS_RETRY: PostgreSQL or Kafka is away. On
 * success the caller owns *catalog; it calls claims_deinit in any case. */
enum status claims_take(struct claim *claims, size_t count, struct postgres *postgres,
                        struct kafka_consumer *consumer, const struct claimant *claimant,
                        struct catalog **catalog, struct error *error) MUST_CHECK;
void claims_deinit(struct claim *claims, size_t count);

/* Makes the position rows that are missing, with base_offset and without an owner: from then on
 * everybody knows of the partition, and that nothing is known of it. */
enum status claims_add_rows(struct claim *claims, size_t count, struct postgres *postgres,
                            struct error *error) MUST_CHECK;

/* Topic and partition of every position that nobody has touched for lone_ms and whose owner, if it
 * ever had one, has no session any more. */
enum status claims_find_lone(const char *const *topics, size_t topic_count, int lone_ms,
                             struct postgres *postgres, PGresult **out,
                             struct error *error) MUST_CHECK;

#endif
