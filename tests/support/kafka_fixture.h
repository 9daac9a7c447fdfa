/* Topics of a test's own on a real broker, and reading and writing them through core/kafka: what
 * its tests begin with. Topics and groups have a random suffix; the topics are deleted at the end.
 * Included by one test program each, whose main passes set_up and tear_down to cmocka. Needs
 * DOVETAIL_KAFKA. */
#ifndef DOVETAIL_TESTS_SUPPORT_KAFKA_FIXTURE_H
#define DOVETAIL_TESTS_SUPPORT_KAFKA_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <cmocka.h>

#include "core/kafka/kafka.h"

#include <librdkafka/rdkafka_mock.h> /* wants rdkafka.h before it */
#include "core/program/program.h"

enum { WAIT_MS = 20000, TOPICS_MAX = 32 };

static json_t *properties;
static char suffix[16];
static char topics[TOPICS_MAX][64];
static size_t topic_count;
static struct error error;

#define assert_status(expected, call)                                                              \
    do {                                                                                           \
        enum status got = (call);                                                                  \
        if (got != (expected))                                                                     \
            fail_msg("%s: status %d, text '%s'", #call, (int)got, error.text);                     \
    } while (0)

static inline int64_t now_ms(void)
{
    return program_monotonic_us() / 1000;
}

/* --- topics of this run --- */

static inline const char *unused_topic(const char *name)
{
    assert_true(topic_count < TOPICS_MAX);
    char *topic = topics[topic_count++];
    snprintf(topic, sizeof topics[0], "test-kafka-%s-%s", name, suffix);
    return topic;
}

static inline const char *new_topic(const char *name, int partitions)
{
    const char *topic = unused_topic(name);
    bool created = false;
    assert_status(STATUS_OK,
                  kafka_topic_create(properties, topic, partitions, WAIT_MS, &created, &error));
    assert_true(created);
    return topic;
}

/* A plain client, for what the wrapper does not offer. */
static inline rd_kafka_t *raw_client(rd_kafka_type_t type, const char *name, const char *value)
{
    char reason[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", getenv("DOVETAIL_KAFKA"), reason, sizeof reason);
    if (name != NULL)
        rd_kafka_conf_set(conf, name, value, reason, sizeof reason);
    rd_kafka_t *rk = rd_kafka_new(type, conf, reason, sizeof reason);
    assert_non_null(rk);
    return rk;
}

/* One partition, whose record batches may have `max_bytes`. */
static inline const char *new_topic_with_limit(const char *name, const char *max_bytes)
{
    const char *topic = unused_topic(name);
    char reason[128];
    rd_kafka_t *rk = raw_client(RD_KAFKA_PRODUCER, NULL, NULL);
    rd_kafka_NewTopic_t *request = rd_kafka_NewTopic_new(topic, 1, 1, reason, sizeof reason);
    rd_kafka_NewTopic_set_config(request, "max.message.bytes", max_bytes);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_CreateTopics(rk, &request, 1, NULL, queue);
    rd_kafka_event_destroy(rd_kafka_queue_poll(queue, WAIT_MS));
    rd_kafka_NewTopic_destroy(request);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
    return topic;
}

static inline void delete_topics(void)
{
    rd_kafka_t *rk = raw_client(RD_KAFKA_PRODUCER, NULL, NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_DeleteTopic_t *requests[TOPICS_MAX];
    for (size_t i = 0; i < topic_count; i++)
        requests[i] = rd_kafka_DeleteTopic_new(topics[i]);
    rd_kafka_DeleteTopics(rk, requests, topic_count, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, WAIT_MS);
    if (event != NULL)
        rd_kafka_event_destroy(event);
    rd_kafka_DeleteTopic_destroy_array(requests, topic_count);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
}

static inline int set_up(void **state)
{
    (void)state;
    const char *servers = getenv("DOVETAIL_KAFKA");
    uint32_t number = 0;
    if (servers == NULL) {
        fprintf(stderr, "DOVETAIL_KAFKA is not set: run `make stack-up` and load .run/env\n");
        return -1;
    }
    if (getrandom(&number, sizeof number, 0) != sizeof number)
        return -1;
    snprintf(suffix, sizeof suffix, "%08x", number);
    properties = json_pack("{s:s, s:i}", "bootstrap.servers", servers,
                           "topic.metadata.refresh.interval.ms", 500);
    return properties == NULL ? -1 : 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    delete_topics();
    json_decref(properties);
    return 0;
}

/* --- records "0", "1", ... --- */

static inline void produce(const char *topic, int32_t partition, int from, int to)
{
    struct kafka_producer *producer = NULL;
    assert_status(STATUS_OK, kafka_producer_create(properties, &producer, &error));
    for (int i = from; i < to; i++) {
        char value[16];
        int length = snprintf(value, sizeof value, "%d", i);
        assert_status(STATUS_OK, kafka_producer_send(producer, topic, partition, NULL, 0, value,
                                                     (size_t)length, NULL, &error));
    }
    assert_status(STATUS_OK, kafka_producer_flush(producer, WAIT_MS, &error));
    assert_int_equal(kafka_producer_acknowledged(producer), to - from);
    kafka_producer_destroy(producer);
}

static inline struct kafka_consumer *read_from(const char *topic, int32_t partition, int64_t offset)
{
    struct kafka_position position = {.topic = topic, .partition = partition, .offset = offset};
    struct kafka_consumer *consumer = NULL;
    assert_status(STATUS_OK, kafka_consumer_assign(properties, &position, 1, &consumer, &error));
    return consumer;
}

/* The next message or end; fails after WAIT_MS. */
static inline rd_kafka_message_t *next_message(struct kafka_consumer *consumer)
{
    int64_t end = now_ms() + WAIT_MS;
    rd_kafka_message_t *message = NULL;
    while (message == NULL && now_ms() < end)
        assert_status(STATUS_OK, kafka_consumer_poll(consumer, 100, &message, &error));
    assert_non_null(message);
    return message;
}

/* Offset and value of the next record must be `expected`; ends are skipped. */
static inline void expect_record(struct kafka_consumer *consumer, int expected)
{
    rd_kafka_message_t *message = next_message(consumer);
    while (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        rd_kafka_message_destroy(message);
        message = next_message(consumer);
    }
    char text[16];
    snprintf(text, sizeof text, "%d", expected);
    assert_int_equal(message->offset, expected);
    assert_int_equal(message->len, strlen(text));
    assert_memory_equal(message->payload, text, message->len);
    rd_kafka_message_destroy(message);
}

static inline void expect_end(struct kafka_consumer *consumer, int64_t offset)
{
    rd_kafka_message_t *message = next_message(consumer);
    assert_int_equal(message->err, RD_KAFKA_RESP_ERR__PARTITION_EOF);
    assert_int_equal(message->offset, offset);
    rd_kafka_message_destroy(message);
}

/* Polls until something other than "nothing yet" is answered. */
static inline enum status poll_status(struct kafka_consumer *consumer)
{
    int64_t end = now_ms() + WAIT_MS;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && now_ms() < end) {
        rd_kafka_message_t *message = NULL;
        status = kafka_consumer_poll(consumer, 100, &message, &error);
        if (message != NULL)
            rd_kafka_message_destroy(message);
    }
    return status;
}

#endif
