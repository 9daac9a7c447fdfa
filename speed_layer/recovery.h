/* Recovery: where a partition's records come from when Kafka's log does not have the next one.
 *
 * As a rule the log has them. Where its retention has overtaken P, or the offsets before P whose
 * ids must be known, the archive's segments are folded through the same feed as the log's records,
 * in the same flushes, and the log is gone on with at its first offset. Gaps that an operator
 * accepted are passed over. What is neither in the log nor in the archive halts that partition, and
 * no other.
 *
 * Main thread. Nothing here ends the program but want of memory. */
#ifndef DOVETAIL_SPEED_RECOVERY_H
#define DOVETAIL_SPEED_RECOVERY_H

#include "speed_layer/speed.h"

/* The log does not have the offset that the partition was to be read from: finds out who has. */
enum status recovery_begin(struct speed *speed, struct partition *partition,
                           struct error *error) MUST_CHECK;

/* The log has another record at `offset` than the one that was read there: halts the partition. */
void recovery_foreign(struct speed *speed, struct partition *partition, int64_t offset);

/* After a claim: what is to be checked of the log, and which partitions are not to be read from the
 * log before anybody has looked. */
enum status recovery_claimed(struct speed *speed, struct error *error) MUST_CHECK;

/* Folds some of the archive's records, where there are any to fold; *busy tells. */
enum status recovery_step(struct speed *speed, bool *busy, struct error *error) MUST_CHECK;

/* Looks again at what stands still, when it is time. */
enum status recovery_tick(struct speed *speed, struct error *error) MUST_CHECK;
/* It is time now: an operator may have accepted a gap. */
void recovery_look_again(struct speed *speed);

/* Before partition_discard. */
void recovery_forget(struct partition *partition);

#endif
