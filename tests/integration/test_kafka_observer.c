/* Asking a real broker about topics without reading them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "core/kafka/kafka_observer.h"
#include "tests/support/broker.h"
#include "tests/support/stack.h"

static struct error error;
static struct kafka_observer *observer;
static char suffix[24];
static char topic[48];

#define assert_status(expected, call)                                                              \
    do {                                                                                           \
        enum status got = (call);                                                                  \
        if (got != (expected))                                                                     \
            fail_msg("%s: status %d, text '%s'", #call, (int)got, error.text);                     \
    } while (0)

static int set_up(void **state)
{
    (void)state;
    uint32_t number = 0;
    assert_int_equal(getrandom(&number, sizeof number, 0), (ssize_t)sizeof number);
    snprintf(suffix, sizeof suffix, "-observer-%08x", number);
    snprintf(topic, sizeof topic, "test%s", suffix);
    broker_create_topic(topic, 2);
    json_t *properties = json_pack("{s:s}", "bootstrap.servers", stack_kafka());
    assert_status(STATUS_OK, kafka_observer_create(properties, &observer, &error));
    json_decref(properties);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    kafka_observer_destroy(observer);
    observer = NULL;
    broker_delete_topics(suffix);
    return 0;
}

static void produce(struct broker_producer *producer, int32_t partition, int count)
{
    for (int i = 0; i < count; i++)
        assert_true(broker_produce(producer, topic, partition, NULL, 0, "v", 1, NULL, NULL));
    assert_true(broker_flush(producer));
}

/* A broker that has just made the topic may not lead it yet, and a transaction's marker comes after
 * its end was acknowledged: what is asked is asked again until it is so. */
static void await_offsets(enum status (*ask)(struct kafka_observer *, struct kafka_position *,
                                             size_t, int, struct error *),
                          int64_t of_0, int64_t of_1)
{
    struct kafka_position positions[] = {{.topic = topic, .partition = 1},
                                         {.topic = topic, .partition = 0}};
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    for (;;) {
        enum status status = ask(observer, positions, 2, STACK_WAIT_MS, &error);
        if (status == STATUS_OK && positions[0].offset == of_1 && positions[1].offset == of_0)
            return;
        if (status != STATUS_OK && status != STATUS_RETRY)
            fail_msg("%s", error.text);
        if (stack_now_ms() > end_ms)
            fail_msg("offsets %lld and %lld", (long long)positions[1].offset,
                     (long long)positions[0].offset);
        stack_sleep_ms(20);
    }
}

static void assert_offsets(int64_t start_0, int64_t end_0, int64_t start_1, int64_t end_1)
{
    await_offsets(kafka_observer_starts, start_0, start_1);
    await_offsets(kafka_observer_ends, end_0, end_1);
}

static void test_partitions(void **state)
{
    (void)state;
    char missing[64];
    snprintf(missing, sizeof missing, "none%s", suffix);
    const char *topics[] = {missing, topic};
    int counts[2];
    assert_status(STATUS_OK,
                  kafka_observer_partitions(observer, topics, 2, STACK_WAIT_MS, counts, &error));
    assert_int_equal(counts[0], -1); /* and it was not made by asking */
    assert_int_equal(counts[1], 2);
    broker_grow_topic(topic, 3);
    assert_status(STATUS_OK,
                  kafka_observer_partitions(observer, topics, 2, STACK_WAIT_MS, counts, &error));
    assert_int_equal(counts[0], -1);
    assert_int_equal(counts[1], 3);
}

static void test_starts_and_ends(void **state)
{
    (void)state;
    struct broker_producer *producer = broker_producer_create(NULL, NULL);
    assert_offsets(0, 0, 0, 0);
    produce(producer, 0, 5);
    produce(producer, 1, 7);
    assert_offsets(0, 5, 0, 7);
    broker_delete_below(topic, 1, 3);
    produce(producer, 1, 1);
    assert_offsets(0, 5, 3, 8);
    broker_producer_destroy(producer);
}

/* The end is behind the last record that a reader gets. */
static void test_open_transaction(void **state)
{
    (void)state;
    struct broker_producer *producer = broker_producer_create(topic, NULL);
    assert_true(broker_transaction_begin(producer));
    produce(producer, 0, 5);
    assert_offsets(0, 0, 0, 0);
    assert_int_equal(broker_transaction_end(producer, true), BROKER_COMMITTED);
    assert_offsets(0, 6, 0, 0); /* with the marker */
    broker_producer_destroy(producer);
}

static void test_no_broker(void **state)
{
    (void)state;
    struct kafka_observer *alone = NULL;
    json_t *properties = json_pack("{s:s}", "bootstrap.servers", "127.0.0.1:1");
    const char *topics[] = {topic};
    struct kafka_position position = {.topic = topic};
    int count;
    assert_status(STATUS_OK, kafka_observer_create(properties, &alone, &error));
    assert_status(STATUS_RETRY, kafka_observer_partitions(alone, topics, 1, 100, &count, &error));
    assert_status(STATUS_RETRY, kafka_observer_ends(alone, &position, 1, 100, &error));
    kafka_observer_destroy(alone);
    json_decref(properties);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_partitions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_starts_and_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_transaction, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_broker, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
