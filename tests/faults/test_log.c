/* What a log may have in it and the group may be told: many aborted records in a row, a transaction
 * that stays open, records above every fetch limit, and offsets of the group that somebody set
 * anew. Each record has a number, so what must be counted follows from what was sent.
 * DOVETAIL_FAULTS sends a million aborted records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/broker.h"
#include "tests/support/deployment.h"
#include "tests/support/http.h"
#include "tests/support/stack.h"

enum { LARGE_BYTES = 10 << 20, TRANSACTION_RECORDS = 10000, VALUE_BYTES = 100 };

static struct deployment *deployment;
static struct child *speed;
static int64_t count, total; /* of what must be counted */

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    deployment_set(deployment, "kafka", "session.timeout.ms", json_integer(6000));
    deployment_define_source(deployment, "{\"source\":\"numbers\",\"topic\":\"\",\"partitions\":1,"
                                         "\"event_time\":{\"field\":\"at\",\"format\":\"epoch_s\"},"
                                         "\"fields\":{\"at\":\"integer\",\"n\":\"integer\"}}");
    deployment_define_view(deployment, "{\"view\":\"sums\",\"source\":\"numbers\","
                                       "\"window\":{\"type\":\"tumbling\",\"size\":\"1h\"},"
                                       "\"measures\":{\"c\":\"count(*)\",\"total\":\"sum(n)\"}}");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_serve(deployment);
    count = total = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    deployment_destroy(deployment);
    deployment = NULL;
    speed = NULL;
    return 0;
}

static const char *topic(void)
{
    return deployment_topic(deployment, "numbers");
}

/* Records with the numbers from `first` on. */
static void produce(struct broker_producer *producer, int64_t first, int64_t records)
{
    for (int64_t i = first; i < first + records; i++) {
        char value[VALUE_BYTES];
        int length =
            snprintf(value, sizeof value, "{\"at\":%" PRId64 ",\"n\":%" PRId64 "}", i % 86400, i);
        if (!broker_produce(producer, topic(), 0, NULL, 0, value, (size_t)length, NULL, NULL))
            fail_msg("%s", broker_problem(producer));
    }
}

static void must_count(int64_t first, int64_t records)
{
    count += records;
    total += records * first + records * (records - 1) / 2;
}

static void await(const char *what, const char *sql, int64_t wanted)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS, number;
    while ((number = deployment_number(deployment, sql)) != wanted) {
        if (stack_now_ms() > deadline || !child_is_running(speed)) {
            children_show();
            fail_msg("%s: %" PRId64 ", not %" PRId64, what, number, wanted);
        }
        stack_sleep_ms(20);
    }
}

static int64_t position(void)
{
    return deployment_number(deployment, "SELECT next_offset FROM dovetail_internal.position");
}

static void check(void)
{
    await("records", "SELECT coalesce(sum(c), 0)::bigint FROM dovetail.sums", count);
    await("sum", "SELECT coalesce(sum(total), 0)::bigint FROM dovetail.sums", total);
    await("ledger", "SELECT counted FROM dovetail_internal.position", count);
    deployment_run(deployment, 0, "dovetail", "verify", "sums", NULL);
}

/* What the status says of the whole answer's age; -1: null. */
static int64_t freshness_ms(void)
{
    struct http_session *session = http_session_create(deployment->port);
    struct http_reply reply;
    http_get(session, "/v1/views/sums/rows", &reply);
    json_t *json = http_reply_json(&reply);
    const json_t *freshness = json_object_get(json_object_get(json, "receipt"), "freshness_ms");
    assert_non_null(freshness);
    int64_t ms = json_is_integer(freshness) ? json_integer_value(freshness) : -1;
    json_decref(json);
    http_reply_free(&reply);
    http_session_destroy(session);
    return ms;
}

static void aborted_records_are_passed(void **state)
{
    (void)state;
    int64_t aborted = getenv("DOVETAIL_FAULTS") != NULL ? 1000000 : 50000;
    struct broker_producer *plain = broker_producer_create(NULL, NULL);
    struct broker_producer *transactional = broker_producer_create(topic(), NULL);
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    produce(plain, 0, 100);
    assert_true(broker_flush(plain));
    for (int64_t i = 0; i < aborted; i += TRANSACTION_RECORDS) {
        assert_true(broker_transaction_begin(transactional));
        produce(transactional, 5000000 + i, TRANSACTION_RECORDS);
        assert_int_equal(broker_transaction_end(transactional, false), BROKER_ABORTED);
    }
    int64_t end = broker_end(topic(), 0);
    assert_true(end >= 100 + aborted);
    /* P passes them although nothing comes. */
    must_count(0, 100);
    await("P", "SELECT next_offset FROM dovetail_internal.position", end);
    check();
    assert_true(freshness_ms() >= 0);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    check();
    /* A process that begins amid them. */
    child_kill(speed);
    assert_true(broker_transaction_begin(transactional));
    produce(transactional, 5000000, TRANSACTION_RECORDS);
    assert_int_equal(broker_transaction_end(transactional, false), BROKER_ABORTED);
    assert_true(broker_transaction_begin(transactional));
    produce(transactional, 100, 50);
    assert_int_equal(broker_transaction_end(transactional, true), BROKER_COMMITTED);
    must_count(100, 50);
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    await("P", "SELECT next_offset FROM dovetail_internal.position", broker_end(topic(), 0));
    check();
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    check();
    child_stop(speed);
    broker_producer_destroy(plain);
    broker_producer_destroy(transactional);
    print_message("%" PRId64 " aborted records between %" PRId64 " that count\n",
                  aborted + TRANSACTION_RECORDS, count);
}

static void nothing_behind_an_open_transaction_counts(void **state)
{
    (void)state;
    struct broker_producer *plain = broker_producer_create(NULL, NULL);
    struct broker_producer *transactional = broker_producer_create(topic(), NULL);
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    produce(plain, 0, 100);
    assert_true(broker_flush(plain));
    must_count(0, 100);
    await("P", "SELECT next_offset FROM dovetail_internal.position", 100);
    for (int commit = 0; commit < 2; commit++) {
        int64_t stable = broker_end(topic(), 0);
        assert_true(broker_transaction_begin(transactional));
        produce(transactional, 1000, 30);
        assert_true(broker_flush(transactional));
        produce(plain, 2000, 40);
        assert_true(broker_flush(plain));
        /* A run, a restart and a recompute later still not. Freshness is that of what can be
         * read. */
        deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
        child_kill(speed);
        speed = deployment_start(deployment, "dovetail-speed", NULL);
        await("owners",
              "SELECT count(*) FROM dovetail_internal.position WHERE owner_pid IN"
              " (SELECT pid FROM pg_stat_activity)",
              1);
        check();
        assert_int_equal(position(), stable);
        assert_true(freshness_ms() >= 0);
        assert_int_equal(broker_transaction_end(transactional, commit),
                         commit ? BROKER_COMMITTED : BROKER_ABORTED);
        if (commit)
            must_count(1000, 30);
        must_count(2000, 40);
        await("P", "SELECT next_offset FROM dovetail_internal.position", stable + 71);
        check();
    }
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    check();
    child_stop(speed);
    broker_producer_destroy(plain);
    broker_producer_destroy(transactional);
}

/* Larger than fetch.message.max.bytes (1 MB by default), and than what a producer sends unless it
 * is told otherwise. */
static void large_records_count(void **state)
{
    (void)state;
    char reason[256];
    char *value = malloc(LARGE_BYTES + VALUE_BYTES);
    assert_non_null(value);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", stack_kafka(), reason, sizeof reason);
    assert_int_equal(
        rd_kafka_conf_set(conf, "message.max.bytes", "12000000", reason, sizeof reason),
        RD_KAFKA_CONF_OK);
    rd_kafka_t *client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof reason);
    assert_non_null(client);
    broker_set_topic(topic(), "max.message.bytes", "12000000");
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    for (int i = 0; i < 6; i++) {
        int length = snprintf(value, VALUE_BYTES, "{\"at\":%d,\"n\":%d,\"text\":\"", i, i);
        if (i % 2 == 0) {
            memset(value + length, 'x', LARGE_BYTES);
            length += LARGE_BYTES;
        }
        length += snprintf(value + length, 4, "\"}");
        assert_int_equal(
            rd_kafka_producev(client, RD_KAFKA_V_TOPIC(topic()), RD_KAFKA_V_PARTITION(0),
                              RD_KAFKA_V_VALUE(value, (size_t)length),
                              RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END),
            RD_KAFKA_RESP_ERR_NO_ERROR);
        assert_int_equal(rd_kafka_flush(client, STACK_WAIT_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
    }
    must_count(0, 6);
    await("P", "SELECT next_offset FROM dovetail_internal.position", 6);
    check();
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    check();
    deployment_run(deployment, 0, "dovetail-batch", "run", "--full", NULL);
    deployment_run(deployment, 0, "dovetail", "archive", "verify", NULL);
    check();
    child_stop(speed);
    rd_kafka_destroy(client);
    free(value);
}

/* The group's offsets as an operator's tool would set them, which needs a group without members. */
static void set_group_offsets(const char *group, int64_t offset)
{
    char reason[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", stack_kafka(), reason, sizeof reason);
    assert_int_equal(rd_kafka_conf_set(conf, "group.id", group, reason, sizeof reason),
                     RD_KAFKA_CONF_OK);
    rd_kafka_t *client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, reason, sizeof reason);
    assert_non_null(client);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic(), 0)->offset = offset;
    rd_kafka_resp_err_t code = rd_kafka_commit(client, list, 0);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(client);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        fail_msg("offsets of group %s: %s", group, rd_kafka_err2str(code));
}

static void the_groups_offsets_do_not_matter(void **state)
{
    (void)state;
    char group[100] = "";
    struct broker_producer *plain = broker_producer_create(NULL, NULL);
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    produce(plain, 0, 100);
    assert_true(broker_flush(plain));
    must_count(0, 100);
    await("P", "SELECT next_offset FROM dovetail_internal.position", 100);
    const char *said = strstr(child_errors(speed), "group ");
    assert_non_null(said);
    assert_int_equal(sscanf(said, "group %99[^,]", group), 1);
    child_stop(speed);
    for (int i = 0; i < 2; i++) {
        int64_t end = broker_end(topic(), 0);
        set_group_offsets(group, i == 0 ? 0 : end + 1000);
        produce(plain, end, 50);
        assert_true(broker_flush(plain));
        must_count(end, 50);
        speed = deployment_start(deployment, "dovetail-speed", NULL);
        await("P", "SELECT next_offset FROM dovetail_internal.position", end + 50);
        check();
        child_stop(speed);
    }
    broker_producer_destroy(plain);
}

int main(int argc, char **argv)
{
    if (argc > 1) /* a pattern for the names of tests */
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(aborted_records_are_passed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_behind_an_open_transaction_counts, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(large_records_count, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_groups_offsets_do_not_matter, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
