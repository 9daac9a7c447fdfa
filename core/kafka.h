/* Kafka, behind one header: consuming, producing with acknowledgement and topics over librdkafka.
 *
 * Offsets always come from messages, never from the client's position. auto.offset.reset is "error":
 * an offset that the log no longer has is STATUS_FATAL with topic, partition and offset. Transient
 * broker errors are not reported; librdkafka retries them and kafka_last_problem tells the newest.
 * Objects belong to one thread each. The properties are the configuration's "kafka" object. */
#ifndef DOVETAIL_KAFKA_H
#define DOVETAIL_KAFKA_H

#include <jansson.h>
#include <librdkafka/rdkafka.h>
#include <stdint.h>

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- consumers --- */

struct kafka_consumer;

struct kafka_position {
    const char *topic;
    int32_t partition;
    int64_t offset; /* next to read */
};

/* Called from kafka_consumer_poll, in its thread, when the group gives or takes partitions. Offsets
 * are unset on entry; on_assign sets them (where to start). A failing callback makes the poll fail
 * with its status. `lost` is true where the group already gave the partitions to others. */
struct kafka_group_callbacks {
    enum status (*on_assign)(struct kafka_position *positions, size_t count, void *context,
                             struct error *error);
    enum status (*on_revoke)(const struct kafka_position *positions, size_t count, bool lost,
                             void *context, struct error *error);
    void *context;
};

/* A member of group `group_id` (unless the properties name one) with static membership
 * `instance` that subscribes to `topics`. read_committed, no auto-commit, range assignment. */
enum status kafka_consumer_subscribe(const json_t *properties, const char *group_id,
                                     const char *instance, const char *const *topics,
                                     size_t topic_count,
                                     const struct kafka_group_callbacks *callbacks,
                                     struct kafka_consumer **out, struct error *error) MUST_CHECK;

/* A consumer of explicit partitions and offsets outside every group; read_committed. End of
 * partition is reported as messages with err == RD_KAFKA_RESP_ERR__PARTITION_EOF (offset = end). */
enum status kafka_consumer_assign(const json_t *properties, const struct kafka_position *positions,
                                  size_t count, struct kafka_consumer **out,
                                  struct error *error) MUST_CHECK;

/* Starts the current assignment anew at other offsets: whatever was fetched is discarded. */
enum status kafka_consumer_restart(struct kafka_consumer *consumer,
                                   const struct kafka_position *positions, size_t count,
                                   struct error *error) MUST_CHECK;
/* Stops and resumes delivery of all assigned partitions, while polls keep the membership alive. */
enum status kafka_consumer_pause(struct kafka_consumer *consumer, bool pause,
                                 struct error *error) MUST_CHECK;

/* The next message, or NULL after timeout_ms. The caller destroys it (rd_kafka_message_destroy).
 * Only messages without error and PARTITION_EOF come out; other errors are returned. */
enum status kafka_consumer_poll(struct kafka_consumer *consumer, int timeout_ms,
                                rd_kafka_message_t **out, struct error *error) MUST_CHECK;

/* Tells the group's committed offset, for lag tools only; failures are ignored by design. */
void kafka_consumer_commit_hint(struct kafka_consumer *consumer,
                                const struct kafka_position *positions, size_t count);

/* First and end offset (last stable one) of a partition. STATUS_RETRY on time-out. */
enum status kafka_consumer_watermarks(struct kafka_consumer *consumer, const char *topic,
                                      int32_t partition, int timeout_ms, int64_t *low,
                                      int64_t *high, struct error *error) MUST_CHECK;

/* Leaves cleanly; bounded by the session time-out. Accepts NULL. */
void kafka_consumer_close(struct kafka_consumer *consumer);

/* --- producers --- */

struct kafka_producer;

/* Idempotent, acks=all. */
enum status kafka_producer_create(const json_t *properties, struct kafka_producer **out,
                                  struct error *error) MUST_CHECK;
/* Queues one record; key, value may be NULL; headers (may be NULL) are taken on success. partition
 * RD_KAFKA_PARTITION_UA lets the partitioner choose. A full queue waits. Failures of earlier
 * deliveries are told by kafka_producer_flush. */
enum status kafka_producer_send(struct kafka_producer *producer, const char *topic,
                                int32_t partition, const void *key, size_t key_length,
                                const void *value, size_t value_length,
                                rd_kafka_headers_t *headers, struct error *error) MUST_CHECK;
/* Waits until every queued record is acknowledged. STATUS_RETRY when timeout_ms passed first,
 * STATUS_REJECT/FATAL when a record was refused (the first reason is told). */
enum status kafka_producer_flush(struct kafka_producer *producer, int timeout_ms,
                                 struct error *error) MUST_CHECK;
int64_t kafka_producer_acknowledged(const struct kafka_producer *producer);
void kafka_producer_destroy(struct kafka_producer *producer); /* what is unacknowledged is dropped */

/* --- topics --- */

/* Partition count of a topic; -1 when it does not exist. STATUS_RETRY when no broker answers. */
enum status kafka_topic_partitions(const json_t *properties, const char *topic, int timeout_ms,
                                   int *count, struct error *error) MUST_CHECK;
/* Creates a topic with the broker's default replication; an existing one is left alone. */
enum status kafka_topic_create(const json_t *properties, const char *topic, int partitions,
                               int timeout_ms, bool *created, struct error *error) MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
