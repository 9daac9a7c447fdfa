/* Kafka, behind one header: consuming, producing with acknowledgement and topics over librdkafka.
 *
 * Offsets always come from messages, never from the client's position. auto.offset.reset is
 * "error": an offset that the log no longer has is STATUS_FATAL with topic, partition and offset.
 * Transient broker errors are not reported; librdkafka retries them and kafka_consumer_problem
 * tells the newest. Objects belong to one thread each. The properties are the configuration's
 * "kafka" object: STATUS_REJECT names the one that librdkafka does not accept, or that must not be
 * set because exactness depends on it (see kafka_client.c); values are never printed. */
#ifndef DOVETAIL_KAFKA_H
#define DOVETAIL_KAFKA_H

#include <jansson.h>
#include <librdkafka/rdkafka.h>
#include <stdint.h>

#include "core/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- properties --- */

/* A property's value as librdkafka takes it: of a string, number or boolean; NULL for others. */
const char *kafka_property_text(const json_t *value, char *buffer, size_t size);
/* Whether librdkafka and we accept all of them; asks no broker. */
enum status kafka_properties_check(const json_t *properties, struct error *error) MUST_CHECK;

/* --- consumers --- */

struct kafka_consumer;

struct kafka_position {
    const char *topic;
    int32_t partition;
    int64_t offset; /* next to read */
};

/* Called from kafka_consumer_poll, in its thread, when the group gives or takes partitions: all of
 * them each time. Offsets are unset on entry; on_assign sets them (where to start), to a number or
 * RD_KAFKA_OFFSET_BEGINNING. A failing callback makes the poll fail with its status. After a failed
 * on_assign nothing is read and the next poll calls it again. `lost` is true where the group
 * already gave the partitions to others. on_revoke is also called from kafka_consumer_close, where
 * its failure is ignored. The positions are good until the callback returns. */
struct kafka_group_callbacks {
    enum status (*on_assign)(struct kafka_position *positions, size_t count, void *context,
                             struct error *error);
    enum status (*on_revoke)(const struct kafka_position *positions, size_t count, bool lost,
                             void *context, struct error *error);
    void *context;
};

/* A member of group `group_id` (unless the properties name one) with static membership
 * `instance` (NULL: none) that subscribes to `topics`. read_committed, no auto-commit, range
 * assignment. *callbacks is copied. Does not wait for a broker. */
enum status kafka_consumer_subscribe(const json_t *properties, const char *group_id,
                                     const char *instance, const char *const *topics,
                                     size_t topic_count,
                                     const struct kafka_group_callbacks *callbacks,
                                     struct kafka_consumer **out, struct error *error) MUST_CHECK;

/* Reads other topics from now on. The member stays: it gives back what it has (on_revoke) and joins
 * again. One that is closed and made anew instead comes back as the same static member, and the
 * broker hands it the old assignment, whatever it subscribes to. Outside the callbacks. */
enum status kafka_consumer_resubscribe(struct kafka_consumer *consumer, const char *const *topics,
                                       size_t topic_count, struct error *error) MUST_CHECK;

/* A consumer of explicit partitions and offsets outside every group; read_committed. End of
 * partition is reported as messages with err == RD_KAFKA_RESP_ERR__PARTITION_EOF (offset = end). */
enum status kafka_consumer_assign(const json_t *properties, const struct kafka_position *positions,
                                  size_t count, struct kafka_consumer **out,
                                  struct error *error) MUST_CHECK;

/* Starts the current assignment anew at other offsets: whatever was fetched is discarded. Call it
 * outside the callbacks, with all partitions that shall be read. */
enum status kafka_consumer_restart(struct kafka_consumer *consumer,
                                   const struct kafka_position *positions, size_t count,
                                   struct error *error) MUST_CHECK;
/* Stops and resumes delivery of all assigned partitions, while polls keep the membership alive.
 * What was fetched is discarded and fetched again: delivery resumes behind the last message polled.
 */
enum status kafka_consumer_pause(struct kafka_consumer *consumer, bool pause,
                                 struct error *error) MUST_CHECK;

/* The next message, or NULL after timeout_ms. The caller destroys it (rd_kafka_message_destroy).
 * Only messages without error and PARTITION_EOF come out (told once each time the end is reached,
 * offset = end), and what kafka_consumer_tell_gone asks for; other errors are returned.
 * STATUS_RETRY: a topic does not exist yet; STATUS_FENCED: another process uses this instance name;
 * both leave the consumer as it is. */
enum status kafka_consumer_poll(struct kafka_consumer *consumer, int timeout_ms,
                                rd_kafka_message_t **out, struct error *error) MUST_CHECK;

/* From now on an offset that the log does not have comes out of the poll as a message with err ==
 * RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET (offset = the one that was asked for) and is no failure. The
 * partition is not read until kafka_consumer_restart names another offset; the others go on. */
void kafka_consumer_tell_gone(struct kafka_consumer *consumer);

/* Tells the group's committed offset, for lag tools only; failures are ignored by design. */
void kafka_consumer_commit_hint(struct kafka_consumer *consumer,
                                const struct kafka_position *positions, size_t count);

/* First and end offset (last stable one) of a partition. STATUS_RETRY on time-out. */
enum status kafka_consumer_watermarks(struct kafka_consumer *consumer, const char *topic,
                                      int32_t partition, int timeout_ms, int64_t *low,
                                      int64_t *high, struct error *error) MUST_CHECK;

/* The end of a partition as the newest reply to a fetch told it, without asking anybody; -1 when
 * none came yet. */
int64_t kafka_consumer_known_end(struct kafka_consumer *consumer, const char *topic,
                                 int32_t partition);

/* How long the group keeps a member's partitions for it without hearing of it. */
int kafka_consumer_session_timeout_ms(const struct kafka_consumer *consumer);

/* The newest trouble with brokers, such as "Connection refused"; NULL when there is none, that is,
 * a message came since or a minute passed. Good until the next call. */
const char *kafka_consumer_problem(struct kafka_consumer *consumer);

/* For a static member that will not come back under its name: leaves the group, so that the others
 * get its partitions now and not after the session time-out. on_revoke is called. Bounded by a few
 * seconds, failures are ignored; only kafka_consumer_close may follow. */
void kafka_consumer_leave_group(struct kafka_consumer *consumer);

/* Ends the consumer cleanly, within seconds even where no broker answers. All polled messages must
 * have been destroyed. A static member that has not left stays in the group until its session
 * time-out. on_assign is called by neither: what the group gives meanwhile is not taken. Accepts
 * NULL. */
void kafka_consumer_close(struct kafka_consumer *consumer);

/* --- producers --- */

struct kafka_producer;

/* Idempotent, acks=all. Records are retried for as long as no broker takes them, unless the
 * properties set message.timeout.ms. */
enum status kafka_producer_create(const json_t *properties, struct kafka_producer **out,
                                  struct error *error) MUST_CHECK;
/* Queues one record; key, value may be NULL; headers (may be NULL) are taken on success. partition
 * RD_KAFKA_PARTITION_UA lets the partitioner choose. key and value are copied. A full queue waits,
 * until the program is stopping: STATUS_RETRY then. STATUS_REJECT: this record cannot be sent.
 * Failures of earlier deliveries are told by kafka_producer_flush. */
enum status kafka_producer_send(struct kafka_producer *producer, const char *topic,
                                int32_t partition, const void *key, size_t key_length,
                                const void *value, size_t value_length, rd_kafka_headers_t *headers,
                                struct error *error) MUST_CHECK;
/* Waits until every queued record is acknowledged. STATUS_RETRY when timeout_ms passed first,
 * STATUS_REJECT/FATAL when a record was refused since the last flush (the first reason is told). */
enum status kafka_producer_flush(struct kafka_producer *producer, int timeout_ms,
                                 struct error *error) MUST_CHECK;

/* One whose records appear in transactions, whole or not at all. Whoever else has the same id is
 * fenced by this call, and what it left open is aborted: nothing of it arrives any more.
 * STATUS_RETRY when no broker answers in time. */
enum status kafka_producer_create_transactional(const json_t *properties,
                                                const char *transactional_id, int timeout_ms,
                                                struct kafka_producer **out,
                                                struct error *error) MUST_CHECK;
enum status kafka_producer_begin(struct kafka_producer *producer, struct error *error) MUST_CHECK;
/* Every record since kafka_producer_begin is committed. On any failure the transaction is aborted,
 * or its outcome is unknown where the broker did not answer (STATUS_RETRY). */
enum status kafka_producer_commit(struct kafka_producer *producer, int timeout_ms,
                                  struct error *error) MUST_CHECK;

int64_t kafka_producer_acknowledged(const struct kafka_producer *producer);
void kafka_producer_destroy(
    struct kafka_producer *producer); /* what is unacknowledged is dropped */

/* --- topics --- */

/* Partition count of a topic; -1 when it does not exist. STATUS_RETRY when no broker answers. */
enum status kafka_topic_partitions(const json_t *properties, const char *topic, int timeout_ms,
                                   int *count, struct error *error) MUST_CHECK;
/* Creates a topic with the broker's default replication; an existing one is left alone. Returns
 * when its partitions have leaders. STATUS_RETRY when no broker answers in time. */
enum status kafka_topic_create(const json_t *properties, const char *topic, int partitions,
                               int timeout_ms, bool *created, struct error *error) MUST_CHECK;

/* Settings of a topic, as the cluster has them. */
struct kafka_topic_settings {
    bool known; /* false: the cluster does not tell; `unknown_reason` says why */
    char unknown_reason[256];
    char cleanup_policy[64]; /* "delete", "compact" or both with a comma */
    bool is_compacted;
    bool is_log_append_time; /* message.timestamp.type: the broker's time, not the producer's */
};
/* One for each topic, `out` having room for all. STATUS_RETRY when no broker answers. That we may
 * not know, or that there is no such topic, is STATUS_OK with `known` false. */
enum status kafka_topics_settings(const json_t *properties, const char *const *topics, size_t count,
                                  int timeout_ms, struct kafka_topic_settings *out,
                                  struct error *error) MUST_CHECK;
/* Refuses compacted topics with STATUS_REJECT: Kafka deletes records from the middle of their logs,
 * so that who reads them later finds others than who read them first. A cluster that does not tell
 * gets a warning in the log, which names the permission. */
enum status kafka_topics_check_uncompacted(const json_t *properties, const char *const *topics,
                                           size_t count, int timeout_ms,
                                           struct error *error) MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
