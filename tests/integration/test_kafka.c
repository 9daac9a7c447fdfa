/* Consumers, producers and topics against a real broker: order and completeness across restarts,
 * pauses and rebalances, the meaning of each failure, and that nothing hangs without a broker.
 *
 * Topics and groups have a random suffix; the topics are deleted at the end. Needs DOVETAIL_KAFKA.
 */
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

static int64_t now_ms(void)
{
    return program_monotonic_us() / 1000;
}

/* --- topics of this run --- */

static const char *unused_topic(const char *name)
{
    assert_true(topic_count < TOPICS_MAX);
    char *topic = topics[topic_count++];
    snprintf(topic, sizeof topics[0], "test-kafka-%s-%s", name, suffix);
    return topic;
}

static const char *new_topic(const char *name, int partitions)
{
    const char *topic = unused_topic(name);
    bool created = false;
    assert_status(STATUS_OK,
                  kafka_topic_create(properties, topic, partitions, WAIT_MS, &created, &error));
    assert_true(created);
    return topic;
}

/* A plain client, for what the wrapper does not offer. */
static rd_kafka_t *raw_client(rd_kafka_type_t type, const char *name, const char *value)
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
static const char *new_topic_with_limit(const char *name, const char *max_bytes)
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

static void delete_topics(void)
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

static int set_up(void **state)
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

static int tear_down(void **state)
{
    (void)state;
    delete_topics();
    json_decref(properties);
    return 0;
}

/* --- records "0", "1", ... --- */

static void produce(const char *topic, int32_t partition, int from, int to)
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

static struct kafka_consumer *read_from(const char *topic, int32_t partition, int64_t offset)
{
    struct kafka_position position = {.topic = topic, .partition = partition, .offset = offset};
    struct kafka_consumer *consumer = NULL;
    assert_status(STATUS_OK, kafka_consumer_assign(properties, &position, 1, &consumer, &error));
    return consumer;
}

/* The next message or end; fails after WAIT_MS. */
static rd_kafka_message_t *next_message(struct kafka_consumer *consumer)
{
    int64_t end = now_ms() + WAIT_MS;
    rd_kafka_message_t *message = NULL;
    while (message == NULL && now_ms() < end)
        assert_status(STATUS_OK, kafka_consumer_poll(consumer, 100, &message, &error));
    assert_non_null(message);
    return message;
}

/* Offset and value of the next record must be `expected`; ends are skipped. */
static void expect_record(struct kafka_consumer *consumer, int expected)
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

static void expect_end(struct kafka_consumer *consumer, int64_t offset)
{
    rd_kafka_message_t *message = next_message(consumer);
    assert_int_equal(message->err, RD_KAFKA_RESP_ERR__PARTITION_EOF);
    assert_int_equal(message->offset, offset);
    rd_kafka_message_destroy(message);
}

/* Polls until something other than "nothing yet" is answered. */
static enum status poll_status(struct kafka_consumer *consumer)
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

/* --- topics --- */

static void test_topics(void **state)
{
    (void)state;
    const char *topic = unused_topic("topics");
    int count = 0;
    assert_status(STATUS_OK, kafka_topic_partitions(properties, topic, WAIT_MS, &count, &error));
    assert_int_equal(count, -1);
    assert_status(STATUS_OK, kafka_topic_partitions(properties, topic, WAIT_MS, &count, &error));
    assert_int_equal(count, -1); /* asking did not create it */
    bool created = false;
    assert_status(STATUS_OK, kafka_topic_create(properties, topic, 3, WAIT_MS, &created, &error));
    assert_true(created);
    assert_status(STATUS_OK, kafka_topic_create(properties, topic, 5, WAIT_MS, &created, &error));
    assert_false(created);
    assert_status(STATUS_OK, kafka_topic_partitions(properties, topic, WAIT_MS, &count, &error));
    assert_int_equal(count, 3);
    assert_status(STATUS_FATAL,
                  kafka_topic_create(properties, "no/such name", 1, WAIT_MS, &created, &error));
}

/* --- records --- */

static void test_key_value_and_headers(void **state)
{
    (void)state;
    const char *topic = new_topic("record", 1);
    struct kafka_producer *producer = NULL;
    assert_status(STATUS_OK, kafka_producer_create(properties, &producer, &error));
    rd_kafka_headers_t *headers = rd_kafka_headers_new(1);
    rd_kafka_header_add(headers, "reason", -1, "a\0b", 3);
    assert_status(STATUS_OK,
                  kafka_producer_send(producer, topic, 0, "key", 3, "value", 5, headers, &error));
    assert_status(STATUS_OK,
                  kafka_producer_send(producer, topic, 0, NULL, 0, NULL, 0, NULL, &error));
    assert_status(STATUS_OK, kafka_producer_flush(producer, WAIT_MS, &error));
    kafka_producer_destroy(producer);

    struct kafka_consumer *consumer = read_from(topic, 0, 0);
    rd_kafka_message_t *message = next_message(consumer);
    assert_memory_equal(message->key, "key", 3);
    assert_memory_equal(message->payload, "value", 5);
    rd_kafka_headers_t *read = NULL;
    const void *bytes;
    size_t size;
    assert_int_equal(rd_kafka_message_headers(message, &read), 0);
    assert_int_equal(rd_kafka_header_get_last(read, "reason", &bytes, &size), 0);
    assert_int_equal(size, 3);
    rd_kafka_message_destroy(message);
    message = next_message(consumer);
    assert_null(message->key);
    assert_null(message->payload);
    rd_kafka_message_destroy(message);
    expect_end(consumer, 2);
    kafka_consumer_close(consumer);
}

static void test_large_record(void **state)
{
    (void)state;
    enum { BYTES = 10 * 1000 * 1000 };
    const char *topic = new_topic_with_limit("large", "16777216");
    char *value = malloc(BYTES);
    assert_non_null(value);
    uint32_t random = 1; /* incompressible */
    for (size_t i = 0; i < BYTES; i++)
        value[i] = (char)((random = random * 1664525 + 1013904223) >> 24);
    struct kafka_producer *producer = NULL;
    assert_status(STATUS_OK, kafka_producer_create(properties, &producer, &error));
    for (int i = 0; i < 3; i++)
        assert_status(STATUS_OK,
                      kafka_producer_send(producer, topic, 0, NULL, 0, value, BYTES, NULL, &error));
    assert_status(STATUS_OK, kafka_producer_flush(producer, WAIT_MS, &error));
    assert_status(STATUS_REJECT, kafka_producer_send(producer, topic, 0, NULL, 0, value,
                                                     17 * 1000 * 1000, NULL, &error));
    assert_int_equal(error.kafka_code, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    kafka_producer_destroy(producer);

    struct kafka_consumer *consumer = read_from(topic, 0, 0);
    for (int i = 0; i < 3; i++) {
        rd_kafka_message_t *message = next_message(consumer);
        assert_int_equal(message->err, 0);
        assert_int_equal(message->len, BYTES);
        assert_memory_equal(message->payload, value, BYTES);
        rd_kafka_message_destroy(message);
    }
    kafka_consumer_close(consumer);
    free(value);
}

/* The broker's limit is lower than the client's: the refusal is told by flush, once. */
static void test_refused_record_is_told_by_flush(void **state)
{
    (void)state;
    enum { BYTES = 3 * 1000 * 1000 };
    const char *topic = new_topic_with_limit("refused", "1000000");
    char *value = malloc(BYTES);
    assert_non_null(value);
    uint32_t random = 7;
    for (size_t i = 0; i < BYTES; i++)
        value[i] = (char)((random = random * 1664525 + 1013904223) >> 24);
    struct kafka_producer *producer = NULL;
    assert_status(STATUS_OK, kafka_producer_create(properties, &producer, &error));
    assert_status(STATUS_OK,
                  kafka_producer_send(producer, topic, 0, NULL, 0, value, BYTES, NULL, &error));
    assert_status(STATUS_REJECT, kafka_producer_flush(producer, WAIT_MS, &error));
    assert_non_null(strstr(error.text, topic));
    assert_int_equal(error.kafka_code, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    assert_status(STATUS_OK,
                  kafka_producer_send(producer, topic, 0, NULL, 0, "0", 1, NULL, &error));
    assert_status(STATUS_OK, kafka_producer_flush(producer, WAIT_MS, &error));
    assert_int_equal(kafka_producer_acknowledged(producer), 1);
    kafka_producer_destroy(producer);
    free(value);
}

/* --- offsets --- */

static void test_reading_to_the_end_and_on(void **state)
{
    (void)state;
    const char *topic = new_topic("end", 2);
    produce(topic, 1, 0, 100);
    struct kafka_consumer *consumer = read_from(topic, 1, 40);
    for (int i = 40; i < 100; i++)
        expect_record(consumer, i);
    expect_end(consumer, 100);
    produce(topic, 1, 100, 110);
    for (int i = 100; i < 110; i++)
        expect_record(consumer, i);
    int64_t low, high;
    assert_status(STATUS_OK,
                  kafka_consumer_watermarks(consumer, topic, 1, WAIT_MS, &low, &high, &error));
    assert_int_equal(low, 0);
    assert_int_equal(high, 110);
    assert_status(STATUS_RETRY,
                  kafka_consumer_watermarks(consumer, topic, 7, 2000, &low, &high, &error));
    kafka_consumer_close(consumer);
}

static void test_offset_outside_the_log_is_fatal(void **state)
{
    (void)state;
    const char *topic = new_topic("range", 1);
    produce(topic, 0, 0, 100);
    struct kafka_consumer *consumer = read_from(topic, 0, 5000);
    assert_status(STATUS_FATAL, poll_status(consumer));
    char text[256];
    snprintf(text, sizeof text,
             "Kafka: offset 5000 is not in topic %s partition 0, which has offsets from 0 to 100",
             topic);
    assert_string_equal(error.text, text);
    kafka_consumer_close(consumer);

    /* Retention took the first 60. */
    rd_kafka_t *rk = raw_client(RD_KAFKA_PRODUCER, NULL, NULL);
    rd_kafka_topic_partition_list_t *before = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(before, topic, 0)->offset = 60;
    rd_kafka_DeleteRecords_t *request = rd_kafka_DeleteRecords_new(before);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_DeleteRecords(rk, &request, 1, NULL, queue);
    rd_kafka_event_destroy(rd_kafka_queue_poll(queue, WAIT_MS));
    rd_kafka_DeleteRecords_destroy(request);
    rd_kafka_topic_partition_list_destroy(before);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);

    consumer = read_from(topic, 0, 59);
    assert_status(STATUS_FATAL, poll_status(consumer));
    assert_non_null(strstr(error.text, "offset 59 is not in topic"));
    assert_non_null(strstr(error.text, "from 60 to 100"));
    kafka_consumer_close(consumer);
    consumer = read_from(topic, 0, RD_KAFKA_OFFSET_BEGINNING);
    expect_record(consumer, 60);
    kafka_consumer_close(consumer);
}

static void test_uncommitted_and_aborted_records_stay_hidden(void **state)
{
    (void)state;
    const char *topic = new_topic("transactions", 1);
    rd_kafka_t *rk = raw_client(RD_KAFKA_PRODUCER, "transactional.id", topic);
    rd_kafka_error_destroy(rd_kafka_init_transactions(rk, WAIT_MS));
    rd_kafka_error_destroy(rd_kafka_begin_transaction(rk));
    rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(0),
                      RD_KAFKA_V_VALUE("aborted", 7), RD_KAFKA_V_END);
    assert_int_equal(rd_kafka_flush(rk, WAIT_MS), 0);
    struct kafka_consumer *consumer = read_from(topic, 0, 0);
    expect_end(consumer, 0);
    int64_t low, high;
    assert_status(STATUS_OK,
                  kafka_consumer_watermarks(consumer, topic, 0, WAIT_MS, &low, &high, &error));
    assert_int_equal(high, 0); /* the last stable offset */
    rd_kafka_error_destroy(rd_kafka_abort_transaction(rk, WAIT_MS));

    rd_kafka_error_destroy(rd_kafka_begin_transaction(rk));
    rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(0),
                      RD_KAFKA_V_VALUE("2", 1), RD_KAFKA_V_END);
    rd_kafka_error_destroy(rd_kafka_commit_transaction(rk, WAIT_MS));
    rd_kafka_destroy(rk);
    expect_record(consumer, 2); /* 0: aborted, 1: the abort's marker */
    kafka_consumer_close(consumer);
}

/* --- restart and pause --- */

static void test_restart_discards_what_was_fetched(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    const char *topic = new_topic("restart", 1);
    produce(topic, 0, 0, COUNT);
    struct kafka_consumer *consumer = read_from(topic, 0, 0);
    uint32_t random = 12345;
    int next = 0;
    for (int round = 0; round < 60; round++) {
        random = random * 1664525 + 1013904223;
        int read = (int)(random >> 16) % 300 * (round % 3);
        for (int i = 0; i < read && next < COUNT; i++)
            expect_record(consumer, next++);
        random = random * 1664525 + 1013904223;
        next = (int)(random >> 8) % COUNT;
        struct kafka_position position = {.topic = topic, .partition = 0, .offset = next};
        assert_status(STATUS_OK, kafka_consumer_restart(consumer, &position, 1, &error));
        if (round % 4 == 0) { /* and once more at once */
            next = (int)(random >> 9) % COUNT;
            position.offset = next;
            assert_status(STATUS_OK, kafka_consumer_restart(consumer, &position, 1, &error));
        }
    }
    while (next < COUNT)
        expect_record(consumer, next++);
    expect_end(consumer, COUNT);
    kafka_consumer_close(consumer);
}

/* Without a poll between: an assignment that is still being stopped must not be stopped again. */
static void test_restarts_in_quick_succession(void **state)
{
    (void)state;
    enum { PARTITIONS = 8 };
    const char *topic = new_topic("quick", PARTITIONS);
    produce(topic, 3, 0, 100);
    struct kafka_position positions[PARTITIONS];
    for (int i = 0; i < PARTITIONS; i++)
        positions[i] = (struct kafka_position){.topic = topic, .partition = i, .offset = 0};
    struct kafka_consumer *consumer = read_from(topic, 3, 0);
    for (int i = 0; i < 3000; i++) {
        positions[3].offset = i % 100;
        assert_status(STATUS_OK,
                      kafka_consumer_restart(consumer, positions, (size_t)(i % 5 + 4), &error));
        if (i % 3 == 0)
            assert_status(STATUS_OK, kafka_consumer_pause(consumer, i % 2 == 0, &error));
        if (i % 7 == 0) {
            rd_kafka_message_t *message = NULL;
            assert_status(STATUS_OK, kafka_consumer_poll(consumer, i % 2, &message, &error));
            if (message != NULL && message->err == 0)
                assert_int_equal(message->offset, i % 100);
            if (message != NULL)
                rd_kafka_message_destroy(message);
        }
    }
    assert_status(STATUS_OK, kafka_consumer_pause(consumer, false, &error));
    positions[3].offset = 60;
    assert_status(STATUS_OK, kafka_consumer_restart(consumer, &positions[3], 1, &error));
    expect_record(consumer, 60);
    kafka_consumer_close(consumer);
}

static void test_pause_neither_skips_nor_repeats(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    const char *topic = new_topic("pause", 1);
    produce(topic, 0, 0, COUNT);
    struct kafka_consumer *consumer = read_from(topic, 0, 0);
    rd_kafka_message_t *message = NULL;
    assert_status(STATUS_OK, kafka_consumer_pause(consumer, true, &error)); /* before any record */
    assert_status(STATUS_OK, kafka_consumer_poll(consumer, 200, &message, &error));
    assert_null(message);
    assert_status(STATUS_OK, kafka_consumer_pause(consumer, false, &error));
    uint32_t random = 99;
    int next = 0;
    for (int round = 0; round < 40; round++) {
        random = random * 1664525 + 1013904223;
        for (int i = (int)(random >> 16) % 500; i > 0 && next < COUNT; i--)
            expect_record(consumer, next++);
        assert_status(STATUS_OK, kafka_consumer_pause(consumer, true, &error));
        assert_status(STATUS_OK,
                      kafka_consumer_poll(consumer, (int)(random >> 30), &message, &error));
        assert_null(message);
        if (round % 5 == 0) { /* a restart while paused takes effect when it ends */
            struct kafka_position position = {.topic = topic, .partition = 0, .offset = next / 2};
            next /= 2;
            assert_status(STATUS_OK, kafka_consumer_restart(consumer, &position, 1, &error));
            assert_status(STATUS_OK, kafka_consumer_poll(consumer, 20, &message, &error));
            assert_null(message);
        }
        assert_status(STATUS_OK, kafka_consumer_pause(consumer, false, &error));
    }
    while (next < COUNT)
        expect_record(consumer, next++);
    kafka_consumer_close(consumer);
}

/* --- groups --- */

struct member {
    struct kafka_consumer *consumer;
    enum status answer; /* of the callbacks */
    size_t assigned;    /* partitions held now */
    int assign_calls;
    int revoke_calls;
    bool lost;
    int64_t next[8]; /* by partition */
};

static enum status member_assign(struct kafka_position *positions, size_t count, void *context,
                                 struct error *failure)
{
    struct member *member = context;
    member->assign_calls++;
    if (member->answer != STATUS_OK)
        return error_set(failure, member->answer, "not now");
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(positions[i].offset, RD_KAFKA_OFFSET_INVALID);
        positions[i].offset = member->next[positions[i].partition];
    }
    member->assigned = count;
    return STATUS_OK;
}

static enum status member_revoke(const struct kafka_position *positions, size_t count, bool lost,
                                 void *context, struct error *failure)
{
    (void)positions;
    struct member *member = context;
    member->revoke_calls++;
    member->lost = lost;
    assert_int_equal(count, member->assigned);
    member->assigned = 0;
    return member->answer == STATUS_OK ? STATUS_OK
                                       : error_set(failure, member->answer, "no revoke");
}

static void join(struct member *member, const char *topic, const char *instance)
{
    struct kafka_group_callbacks callbacks = {member_assign, member_revoke, member};
    assert_status(STATUS_OK,
                  kafka_consumer_subscribe(properties, topic /* also the group */, instance, &topic,
                                           1, &callbacks, &member->consumer, &error));
}

/* Checks a message of a member, which may be NULL, against the order of its partition. */
static bool take(struct member *member, rd_kafka_message_t *message)
{
    bool is_record = message != NULL && message->err == 0;
    if (is_record)
        assert_int_equal(message->offset, member->next[message->partition]++);
    if (message != NULL)
        rd_kafka_message_destroy(message);
    return is_record;
}

static void expect_member_record(struct member *member)
{
    while (!take(member, next_message(member->consumer)))
        continue;
}

/* Polls both until each holds what it shall; records must be in order. */
static void poll_until_assigned(struct member *a, size_t wanted_a, struct member *b,
                                size_t wanted_b)
{
    int64_t end = now_ms() + WAIT_MS;
    while ((a->assigned != wanted_a || (b != NULL && b->assigned != wanted_b)) && now_ms() < end) {
        rd_kafka_message_t *message = NULL;
        assert_status(STATUS_OK, kafka_consumer_poll(a->consumer, 50, &message, &error));
        take(a, message);
        if (b == NULL)
            continue;
        assert_status(STATUS_OK, kafka_consumer_poll(b->consumer, 50, &message, &error));
        take(b, message);
    }
    assert_int_equal(a->assigned, wanted_a);
    if (b != NULL)
        assert_int_equal(b->assigned, wanted_b);
}

static void test_group_shares_partitions_and_reads_from_given_offsets(void **state)
{
    (void)state;
    const char *topic = new_topic("group", 2);
    produce(topic, 0, 0, 50);
    produce(topic, 1, 0, 50);
    struct member a = {.next = {30, 30}}, b = {.next = {10, 10}};
    join(&a, topic, NULL);
    poll_until_assigned(&a, 2, NULL, 0);
    expect_member_record(&a);
    join(&b, topic, NULL);
    poll_until_assigned(&a, 1, &b, 1);
    assert_int_equal(a.revoke_calls, 1);
    assert_false(a.lost);
    expect_member_record(&b);
    kafka_consumer_close(a.consumer);
    assert_int_equal(a.revoke_calls, 2); /* closing gives the partitions back */
    poll_until_assigned(&b, 2, NULL, 0);
    kafka_consumer_close(b.consumer);
}

static void test_failing_callbacks_surface_and_are_asked_again(void **state)
{
    (void)state;
    const char *topic = new_topic("callbacks", 1);
    produce(topic, 0, 0, 5);
    struct member a = {.answer = STATUS_RETRY, .next = {2}}, b = {0};
    join(&a, topic, NULL);
    assert_status(STATUS_RETRY, poll_status(a.consumer));
    assert_string_equal(error.text, "not now");
    rd_kafka_message_t *message = NULL;
    assert_status(STATUS_RETRY, kafka_consumer_poll(a.consumer, 100, &message, &error));
    assert_null(message);
    assert_int_equal(a.assign_calls, 2);
    a.answer = STATUS_OK;
    assert_status(STATUS_OK, kafka_consumer_poll(a.consumer, 100, &message, &error));
    take(&a, message);
    assert_int_equal(a.assign_calls, 3);
    expect_member_record(&a);

    a.answer = STATUS_FENCED;
    join(&b, topic, NULL);
    int64_t end = now_ms() + WAIT_MS;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && now_ms() < end) {
        status = kafka_consumer_poll(a.consumer, 50, &message, &error);
        assert_true(status != STATUS_OK || message == NULL || message->err != 0 ||
                    message->offset > 2);
        if (message != NULL)
            rd_kafka_message_destroy(message);
        assert_int_equal(kafka_consumer_poll(b.consumer, 50, &message, NULL), STATUS_OK);
        if (message != NULL)
            rd_kafka_message_destroy(message);
    }
    assert_int_equal(status, STATUS_FENCED);
    assert_string_equal(error.text, "no revoke");
    kafka_consumer_close(a.consumer);
    kafka_consumer_close(b.consumer);
}

/* While a member's on_assign fails the group goes on: another member's arrival takes back what was
 * given, without a call of on_revoke for it. */
static void test_unanswered_assignment_can_be_taken_back(void **state)
{
    (void)state;
    const char *topic = new_topic("unanswered", 2);
    struct member a = {.answer = STATUS_RETRY}, b = {0};
    join(&a, topic, NULL);
    assert_status(STATUS_RETRY, poll_status(a.consumer));
    join(&b, topic, NULL);
    int64_t end = now_ms() + WAIT_MS;
    while (b.assigned != 1 && now_ms() < end) {
        rd_kafka_message_t *message = NULL;
        (void)(kafka_consumer_poll(a.consumer, 20, &message, NULL) == STATUS_OK);
        assert_null(message);
        assert_status(STATUS_OK, kafka_consumer_poll(b.consumer, 20, &message, &error));
        if (message != NULL)
            rd_kafka_message_destroy(message);
    }
    assert_int_equal(b.assigned, 1);
    assert_int_equal(a.revoke_calls, 0);
    a.answer = STATUS_OK;
    poll_until_assigned(&a, 1, &b, 1);
    kafka_consumer_close(a.consumer);
    kafka_consumer_close(b.consumer);
}

static void test_paused_member_stays_and_rebalances(void **state)
{
    (void)state;
    const char *topic = new_topic("paused", 2);
    produce(topic, 0, 0, 20);
    produce(topic, 1, 0, 20);
    struct member a = {0}, b = {0};
    join(&a, topic, NULL);
    poll_until_assigned(&a, 2, NULL, 0);
    assert_status(STATUS_OK, kafka_consumer_pause(a.consumer, true, &error));
    join(&b, topic, NULL);
    a.next[0] = a.next[1] = 7;
    poll_until_assigned(&a, 1, &b, 1);
    assert_int_equal(a.revoke_calls, 1);
    rd_kafka_message_t *message = NULL;
    assert_status(STATUS_OK, kafka_consumer_poll(a.consumer, 500, &message, &error));
    assert_null(message); /* the new assignment is paused too */
    assert_status(STATUS_OK, kafka_consumer_pause(a.consumer, false, &error));
    expect_member_record(&a);
    kafka_consumer_close(a.consumer);
    kafka_consumer_close(b.consumer);
}

static void test_static_member_comes_back_at_once_and_fences_its_double(void **state)
{
    (void)state;
    const char *topic = new_topic("static", 1);
    produce(topic, 0, 0, 5);
    struct member a = {0}, b = {0};
    join(&a, topic, "slot-1");
    poll_until_assigned(&a, 1, NULL, 0);
    int64_t start = now_ms();
    join(&b, topic, "slot-1");
    poll_until_assigned(&b, 1, NULL, 0);
    assert_true(now_ms() - start < 9000); /* not the session time-out */
    assert_status(STATUS_FENCED, poll_status(a.consumer));
    assert_non_null(strstr(error.text, "instance name"));
    expect_member_record(&b);
    kafka_consumer_close(a.consumer);
    kafka_consumer_close(b.consumer);
}

static void test_commit_hint_reaches_the_group(void **state)
{
    (void)state;
    const char *topic = new_topic("hint", 1);
    produce(topic, 0, 0, 5);
    struct member a = {0};
    join(&a, topic, NULL);
    poll_until_assigned(&a, 1, NULL, 0);
    struct kafka_position position = {.topic = topic, .partition = 0, .offset = 3};
    kafka_consumer_commit_hint(a.consumer, &position, 1);
    rd_kafka_t *rk = raw_client(RD_KAFKA_CONSUMER, "group.id", topic);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, 0);
    int64_t end = now_ms() + WAIT_MS;
    while (list->elems[0].offset != 3 && now_ms() < end)
        assert_int_equal(rd_kafka_committed(rk, list, WAIT_MS), 0);
    assert_int_equal(list->elems[0].offset, 3);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(rk);
    kafka_consumer_close(a.consumer);
}

static void test_topic_that_comes_later(void **state)
{
    (void)state;
    const char *topic = unused_topic("later");
    struct member a = {0};
    join(&a, topic, NULL);
    assert_status(STATUS_RETRY, poll_status(a.consumer));
    assert_non_null(strstr(error.text, topic));
    bool created;
    assert_status(STATUS_OK, kafka_topic_create(properties, topic, 1, WAIT_MS, &created, &error));
    produce(topic, 0, 0, 3);
    int64_t end = now_ms() + WAIT_MS;
    while (a.assigned == 0 && now_ms() < end) {
        rd_kafka_message_t *message = NULL;
        enum status status = kafka_consumer_poll(a.consumer, 100, &message, &error);
        assert_true(status == STATUS_OK || status == STATUS_RETRY);
        take(&a, message);
    }
    expect_member_record(&a);
    kafka_consumer_close(a.consumer);
}

/* --- faults --- */

static void test_without_a_broker_nothing_hangs(void **state)
{
    (void)state;
    json_t *nowhere = json_pack("{s:s}", "bootstrap.servers", "127.0.0.1:1");
    struct kafka_position position = {.topic = "t", .partition = 0, .offset = 0};
    struct kafka_consumer *consumer = NULL;
    int64_t start = now_ms();
    assert_status(STATUS_OK, kafka_consumer_assign(nowhere, &position, 1, &consumer, &error));
    rd_kafka_message_t *message = NULL;
    const char *problem = NULL;
    while ((problem = kafka_consumer_problem(consumer)) == NULL && now_ms() - start < WAIT_MS) {
        assert_status(STATUS_OK, kafka_consumer_poll(consumer, 100, &message, &error));
        assert_null(message);
    }
    assert_non_null(problem);
    assert_non_null(strstr(problem, "refused"));
    start = now_ms();
    kafka_consumer_close(consumer);
    kafka_consumer_close(NULL);

    struct member a = {0};
    const char *topic = "t";
    struct kafka_group_callbacks callbacks = {member_assign, member_revoke, &a};
    assert_status(STATUS_OK, kafka_consumer_subscribe(nowhere, "g", "i", &topic, 1, &callbacks,
                                                      &a.consumer, &error));
    assert_status(STATUS_OK, kafka_consumer_poll(a.consumer, 300, &message, &error));
    kafka_consumer_close(a.consumer);

    struct kafka_producer *producer = NULL;
    assert_status(STATUS_OK, kafka_producer_create(nowhere, &producer, &error));
    assert_status(STATUS_OK, kafka_producer_send(producer, "t", 0, NULL, 0, "x", 1, NULL, &error));
    assert_status(STATUS_RETRY, kafka_producer_flush(producer, 500, &error));
    assert_non_null(strstr(error.text, "1 records"));
    kafka_producer_destroy(producer);
    kafka_producer_destroy(NULL);

    int count;
    bool created;
    assert_status(STATUS_RETRY, kafka_topic_partitions(nowhere, "t", 500, &count, &error));
    assert_status(STATUS_RETRY, kafka_topic_create(nowhere, "t", 1, 500, &created, &error));
    assert_true(now_ms() - start < 15000);
    json_decref(nowhere);
}

/* A member whose broker vanishes: polls stay quiet, records go on when it is back, and closing is
 * bounded. librdkafka's mock cluster stands for the broker, because a shared one cannot be stopped.
 */
static void test_broker_that_dies(void **state)
{
    (void)state;
    rd_kafka_t *owner = raw_client(RD_KAFKA_PRODUCER, NULL, NULL);
    rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(owner, 1);
    const char *topic = "mocked";
    assert_int_equal(rd_kafka_mock_topic_create(cluster, topic, 1, 1), 0);
    json_t *saved = properties;
    properties = json_pack("{s:s, s:i}", "bootstrap.servers",
                           rd_kafka_mock_cluster_bootstraps(cluster), "session.timeout.ms", 6000);
    produce(topic, 0, 0, 10);
    struct member a = {0};
    join(&a, topic, NULL);
    poll_until_assigned(&a, 1, NULL, 0);
    expect_member_record(&a);

    rd_kafka_mock_broker_set_down(cluster, 1);
    int64_t end = now_ms() + 2000;
    while (now_ms() < end) {
        rd_kafka_message_t *message = NULL;
        assert_status(STATUS_OK, kafka_consumer_poll(a.consumer, 100, &message, &error));
        take(&a, message);
    }
    assert_non_null(kafka_consumer_problem(a.consumer));
    rd_kafka_mock_broker_set_up(cluster, 1);
    produce(topic, 0, 10, 15);
    while (a.next[0] < 15)
        expect_member_record(&a);
    assert_null(kafka_consumer_problem(a.consumer));

    rd_kafka_mock_broker_set_down(cluster, 1);
    int64_t start = now_ms();
    kafka_consumer_close(a.consumer);
    assert_true(now_ms() - start < 8000);
    assert_int_equal(a.assigned, 0);
    json_decref(properties);
    properties = saved;
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(owner);
}

static void test_topic_settings(void **state)
{
    (void)state;
    struct kafka_topic_settings settings[2];
    const char *names[] = {new_topic("settings", 1), "there-is-no-such-topic"};
    assert_status(STATUS_OK, kafka_topics_settings(properties, names, 2, 1000, settings, &error));
    assert_true(settings[0].known);
    assert_string_equal(settings[0].cleanup_policy, "delete");
    assert_false(settings[0].is_compacted);
    assert_false(settings[0].is_log_append_time);
    assert_false(settings[1].known);
    assert_non_null(strstr(settings[1].unknown_reason, "Unknown topic"));
    json_t *nowhere = json_pack("{s:s}", "bootstrap.servers", "127.0.0.1:1");
    assert_status(STATUS_RETRY, kafka_topics_settings(nowhere, names, 1, 300, settings, &error));
    json_decref(nowhere);
}

static void assert_refused(const char *name, json_t *value, const char *text)
{
    json_t *refused = json_pack("{s:s, s:o}", "bootstrap.servers", "127.0.0.1:1", name, value);
    struct kafka_position position = {.topic = "t", .partition = 0, .offset = 0};
    struct kafka_consumer *consumer = NULL;
    assert_status(STATUS_REJECT, kafka_consumer_assign(refused, &position, 1, &consumer, &error));
    assert_null(consumer);
    assert_string_equal(error.text, text);
    json_decref(refused);
}

static void test_properties_are_refused_by_name(void **state)
{
    (void)state;
    assert_refused("enable.auto.commit", json_false(),
                   "kafka.\"enable.auto.commit\": cannot be set, exact results depend on it");
    assert_refused("auto.offset.reset", json_string("earliest"),
                   "kafka.\"auto.offset.reset\": cannot be set, exact results depend on it");
    assert_refused("fetch.wait.max.ms", json_string("secret"),
                   "kafka.\"fetch.wait.max.ms\": not a value that librdkafka accepts");
    assert_refused("client.id", json_null(),
                   "kafka.\"client.id\": must be a string, a number or a boolean");
    char text[128];
    snprintf(text, sizeof text, "kafka.\"bootstrap.server\": librdkafka %s has no such property",
             rd_kafka_version_str());
    assert_refused("bootstrap.server", json_string("secret"), text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topics),
        cmocka_unit_test(test_key_value_and_headers),
        cmocka_unit_test(test_large_record),
        cmocka_unit_test(test_refused_record_is_told_by_flush),
        cmocka_unit_test(test_reading_to_the_end_and_on),
        cmocka_unit_test(test_offset_outside_the_log_is_fatal),
        cmocka_unit_test(test_uncommitted_and_aborted_records_stay_hidden),
        cmocka_unit_test(test_restart_discards_what_was_fetched),
        cmocka_unit_test(test_restarts_in_quick_succession),
        cmocka_unit_test(test_pause_neither_skips_nor_repeats),
        cmocka_unit_test(test_group_shares_partitions_and_reads_from_given_offsets),
        cmocka_unit_test(test_failing_callbacks_surface_and_are_asked_again),
        cmocka_unit_test(test_unanswered_assignment_can_be_taken_back),
        cmocka_unit_test(test_paused_member_stays_and_rebalances),
        cmocka_unit_test(test_static_member_comes_back_at_once_and_fences_its_double),
        cmocka_unit_test(test_commit_hint_reaches_the_group),
        cmocka_unit_test(test_topic_that_comes_later),
        cmocka_unit_test(test_without_a_broker_nothing_hangs),
        cmocka_unit_test(test_broker_that_dies),
        cmocka_unit_test(test_topic_settings),
        cmocka_unit_test(test_properties_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
