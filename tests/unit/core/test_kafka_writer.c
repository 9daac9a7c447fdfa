/* core/kafka/kafka_writer.h where the producer has a fatal error: another one takes its place, each
 * record is reported exactly once, and none is written twice. librdkafka's mock cluster stands for
 * the broker, because a real one cannot be told to answer so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <librdkafka/rdkafka.h>
#include <pthread.h>

#include <librdkafka/rdkafka_mock.h> /* wants rdkafka.h before it */

#include "core/kafka/kafka_writer.h"
#include "core/program/program.h"

enum { WAIT_US = 60000000, TIMEOUT_MS = 5000, THREADS = 2, RECORDS = 20000, FATES = 4 };
enum { PRODUCE = 0, INIT_PRODUCER_ID = 22 }; /* keys of requests, in Kafka's protocol */

static const char topic[] = "mocked";
static struct error error;
static rd_kafka_t *owner;
static rd_kafka_mock_cluster_t *cluster;
static json_t *properties;
static struct kafka_writer *writer;

/* Reports of one record at a time, or of many: by fate. */
static atomic_int fates[FATES];
static atomic_int reports;

static void reported(void *opaque, const struct kafka_report *report)
{
    atomic_int *times = opaque;
    atomic_fetch_add(times, 1);
    atomic_fetch_add(&fates[report->fate], 1);
    atomic_fetch_add(&reports, 1);
}

static int set_up(void **state)
{
    (void)state;
    char text[512];
    owner = rd_kafka_new(RD_KAFKA_PRODUCER, NULL, text, sizeof text);
    cluster = rd_kafka_mock_cluster_new(owner, 1);
    assert_int_equal(rd_kafka_mock_topic_create(cluster, topic, 1, 1), 0);
    properties = json_pack("{s:s}", "bootstrap.servers", rd_kafka_mock_cluster_bootstraps(cluster));
    for (int i = 0; i < FATES; i++)
        atomic_store(&fates[i], 0);
    atomic_store(&reports, 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    kafka_writer_destroy(writer);
    writer = NULL;
    json_decref(properties);
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(owner);
    return 0;
}

static void open_writer(void)
{
    if (kafka_writer_create(properties, TIMEOUT_MS, reported, &writer, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

static void must_be_in_time(int64_t since_us)
{
    if (program_monotonic_us() - since_us > WAIT_US)
        fail_msg("not in time: %d reports: %d written, %d refused, %d not written, %d unknown; %s",
                 atomic_load(&reports), atomic_load(&fates[KAFKA_WRITTEN]),
                 atomic_load(&fates[KAFKA_REFUSED]), atomic_load(&fates[KAFKA_NOT_WRITTEN]),
                 atomic_load(&fates[KAFKA_UNKNOWN]), error.text);
}

/* Sends one until Kafka takes it, as clients who are told 503 do; each attempt that was queued must
 * be reported once. */
static void send_until_written(void)
{
    static atomic_int times[10000];
    int64_t since_us = program_monotonic_us();
    int written = atomic_load(&fates[KAFKA_WRITTEN]);
    size_t queued = 0;
    while (atomic_load(&fates[KAFKA_WRITTEN]) == written) {
        must_be_in_time(since_us);
        assert_true(queued < sizeof times / sizeof times[0]);
        atomic_store(&times[queued], 0);
        if (kafka_writer_send(writer, topic, NULL, 0, "x", 1, &times[queued], &error) !=
            STATUS_OK) {
            assert_int_equal(error.status, STATUS_RETRY);
            (void)program_wait_ms(10);
            continue;
        }
        while (atomic_load(&times[queued]) == 0) {
            must_be_in_time(since_us);
            (void)program_wait_ms(5);
        }
        queued++;
    }
    for (size_t i = 0; i < queued; i++)
        assert_int_equal(atomic_load(&times[i]), 1);
}

static int64_t records_in_the_log(void)
{
    char text[512];
    int64_t low = -1, high = -1;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    assert_int_equal(rd_kafka_conf_set(conf, "bootstrap.servers",
                                       rd_kafka_mock_cluster_bootstraps(cluster), text,
                                       sizeof text),
                     RD_KAFKA_CONF_OK);
    rd_kafka_t *client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
    assert_non_null(client);
    assert_int_equal(rd_kafka_query_watermark_offsets(client, topic, 0, &low, &high, 20000), 0);
    rd_kafka_destroy(client);
    return high;
}

/* The right to be idempotent is missing for a while. */
static void test_goes_on_when_the_right_is_there(void **state)
{
    (void)state;
    rd_kafka_mock_push_request_errors(cluster, INIT_PRODUCER_ID, 3,
                                      RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
                                      RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
                                      RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED);
    open_writer();
    for (int i = 0; i < 5; i++)
        send_until_written();
    assert_int_equal(atomic_load(&fates[KAFKA_WRITTEN]), 5);
    assert_int_equal(atomic_load(&fates[KAFKA_REFUSED]), 0);
    assert_int_equal(records_in_the_log(), 5 + atomic_load(&fates[KAFKA_UNKNOWN]));
}

static atomic_int many[THREADS][RECORDS];
static atomic_int queued_count;
static atomic_bool enough;

static void *send_many(void *context)
{
    atomic_int *times = context;
    struct error trouble;
    for (int i = 0; i < RECORDS; i++) {
        atomic_store(&times[i], 1); /* nothing is to come */
        if (atomic_load(&enough))
            continue;
        atomic_store(&times[i], 0);
        if (kafka_writer_send(writer, topic, NULL, 0, "x", 1, &times[i], &trouble) == STATUS_OK)
            atomic_fetch_add(&queued_count, 1);
        else
            atomic_store(&times[i], 1);
        (void)program_wait_ms(1);
    }
    return NULL;
}

/* A broker loses what it knows of the producer, again and again, while others send. */
static void test_each_is_reported_once(void **state)
{
    (void)state;
    enum { ERRORS = 4 };
    pthread_t threads[THREADS];
    atomic_store(&queued_count, 0);
    atomic_store(&enough, false);
    json_object_set_new(properties, "batch.num.messages", json_integer(20));
    open_writer();
    send_until_written();
    int64_t since_us = program_monotonic_us();
    int before = atomic_load(&reports);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, send_many, many[i]), 0);
    for (int i = 0; i < ERRORS; i++) {
        int unknown = atomic_load(&fates[KAFKA_UNKNOWN]);
        rd_kafka_mock_push_request_errors(cluster, PRODUCE, 1,
                                          RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
        while (atomic_load(&fates[KAFKA_UNKNOWN]) == unknown) { /* of the batch that met it */
            must_be_in_time(since_us);
            (void)program_wait_ms(5);
        }
        int written = atomic_load(&fates[KAFKA_WRITTEN]);
        while (atomic_load(&fates[KAFKA_WRITTEN]) < written + 50) {
            must_be_in_time(since_us);
            (void)program_wait_ms(5);
        }
    }
    atomic_store(&enough, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    while (atomic_load(&reports) < before + atomic_load(&queued_count)) {
        must_be_in_time(since_us);
        (void)program_wait_ms(20);
    }
    for (int i = 0; i < THREADS; i++)
        for (int j = 0; j < RECORDS; j++)
            assert_int_equal(atomic_load(&many[i][j]), 1);
    int written = atomic_load(&fates[KAFKA_WRITTEN]);
    int unknown = atomic_load(&fates[KAFKA_UNKNOWN]);
    int64_t there = records_in_the_log();
    print_message("%d sent, %d written, %d not written, %d unknown; %lld in the log\n",
                  atomic_load(&queued_count), written, atomic_load(&fates[KAFKA_NOT_WRITTEN]),
                  unknown, (long long)there);
    assert_true(there >= written && there <= written + unknown);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_goes_on_when_the_right_is_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_each_is_reported_once, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
