/* Recalling ids: what a partition must know of the records below P before it folds another one.
 *
 * Kafka's part is read by the run loop, as every other record (partition.h). Where retention has
 * removed the beginning of it, that beginning is read here from the archive. Main thread. */
#ifndef DOVETAIL_SPEED_RECALL_H
#define DOVETAIL_SPEED_RECALL_H

#include "core/program/config.h"
#include "core/kafka/kafka.h"
#include "core/postgres/postgres.h"
#include "speed_layer/partition.h"

/* Learns the ids of the records that the log has no more, from a partition that just began, and
 * moves recall_offset to the log's first offset. STATUS_RETRY: Kafka or PostgreSQL is away, or the
 * program is stopping. STATUS_FATAL: neither the log nor the archive has them. */
enum status recall_from_archive(struct partition *partition, const struct config *config,
                                struct kafka_consumer *consumer, struct postgres *postgres,
                                struct error *error) MUST_CHECK;

#endif
