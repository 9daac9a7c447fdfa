/* Kafka as an outsider sees it: producing records whose offsets are known, and reading a topic
 * back.
 *
 * Uses librdkafka directly and nothing of core/, so that the tests share no fault with the program.
 */
#ifndef DOVETAIL_TESTS_SUPPORT_BROKER_H
#define DOVETAIL_TESTS_SUPPORT_BROKER_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- producing --- */

struct broker_producer;

/* Called in the thread that polls, once for each record; `error` is NULL where it was delivered. */
typedef void broker_delivered(void *opaque, int32_t partition, int64_t offset, const char *error);

/* `transactional_id` may be NULL. Fails the test when it cannot be made. */
struct broker_producer *broker_producer_create(const char *transactional_id,
                                               broker_delivered *delivered);
void broker_producer_destroy(struct broker_producer *producer); /* accepts NULL */
/* Until it knows that the topic has so many partitions. */
void broker_producer_learn(struct broker_producer *producer, const char *topic, int partitions);
/* The timestamps of its records from now on; 0: the time at which they are produced. */
void broker_producer_set_time(struct broker_producer *producer, int64_t timestamp_ms);

/* Everything is copied; `headers` (may be NULL) are taken. A full queue is polled until it has
 * room. Any thread but not two at once; false with a text in producer's problem. */
bool broker_produce(struct broker_producer *producer, const char *topic, int32_t partition,
                    const void *key, size_t key_length, const void *value, size_t value_length,
                    rd_kafka_headers_t *headers, void *opaque);
void broker_poll(struct broker_producer *producer, int timeout_ms);
/* Until every record is acknowledged. */
bool broker_flush(struct broker_producer *producer);
bool broker_transaction_begin(struct broker_producer *producer);
/* What became of it: Kafka may have aborted what was to be committed, such as when it took too
 * long. Brokers that are away are waited for. */
enum broker_outcome { BROKER_COMMITTED, BROKER_ABORTED, BROKER_IN_DOUBT };
enum broker_outcome broker_transaction_end(struct broker_producer *producer, bool commit);
/* The first failure, or an empty text. */
const char *broker_problem(const struct broker_producer *producer);

/* --- reading --- */

/* Every committed record of a topic, from the first on, until the ends as they are now. Fails the
 * test when there is no answer. The caller releases each record: rd_kafka_message_destroy. */
struct broker_records {
    rd_kafka_message_t **items;
    size_t count;
    rd_kafka_t *client; /* the records belong to it */
};
void broker_read(const char *topic, struct broker_records *out);
void broker_records_free(struct broker_records *records);

/* End of a partition's log. */
int64_t broker_end(const char *topic, int32_t partition);

/* --- topics --- */

void broker_create_topic(const char *topic, int partitions);
/* Retention, as an administrator would force it: the log begins at `offset` afterwards. */
void broker_delete_below(const char *topic, int32_t partition, int64_t offset);
/* Deletes a topic, and returns when the broker has forgotten it. */
void broker_delete_topic(const char *topic);
/* Partitions can only be added: `count` is what the topic has afterwards. */
void broker_add_partitions(const char *topic, int count);
/* Alters one setting of a topic, such as ("cleanup.policy", "compact"). */
void broker_set_topic(const char *topic, const char *name, const char *value);
/* Nobody may ask for the topic's settings: until broker_permit_settings, which belongs to the
 * teardown, because a cluster's rules outlive its topics. */
void broker_forbid_settings(const char *topic);
void broker_permit_settings(const char *topic);
/* Returns when a new client sees that many. */
void broker_grow_topic(const char *topic, int partitions);
/* Deletes every topic whose name ends with `suffix`, or has it before ".dead". */
void broker_delete_topics(const char *suffix);

#endif
