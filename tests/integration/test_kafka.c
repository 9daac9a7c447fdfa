/* Consumers, producers and topics against a real broker: order and completeness across restarts and
 * pauses, and the meaning of each failure. */
#include "tests/support/kafka_fixture.h"

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
        cmocka_unit_test(test_topic_settings),
        cmocka_unit_test(test_properties_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
