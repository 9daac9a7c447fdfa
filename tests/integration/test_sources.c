/* What a source may say about its records beyond their fields, with a real Kafka and a real
 * PostgreSQL: duplicates, derived fields, records left out for a NULL. Records are produced to
 * known partitions, so their offsets are known, and a naive model looks back over them. Whatever
 * happens to the processes, the ledger, the views and the model agree, and `dovetail verify` finds
 * every answer identical. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/broker.h"
#include "tests/support/deployment.h"
#include "tests/support/orders.h"
#include "tests/support/stack.h"

enum { PARTITIONS = 2, LOG_MAX = 20000, LINE_BYTES = 160, WITHIN = 300 };

static struct deployment *deployment;
static struct child *speed;
static uint64_t chaos;

static int set_up(void **state)
{
    (void)state;
    chaos = stack_seed();
    deployment = deployment_create();
    deployment_set(deployment, "batch", "segment_size", json_string("8 KiB"));
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

static size_t below(size_t bound)
{
    return orders_below(&chaos, bound);
}

/* Writes lines into a file and produces it to one partition. */
static void produce(const char *source, int partition, const char *lines)
{
    char path[160];
    char number[8];
    deployment_write(deployment, "lines.jsonl", lines);
    snprintf(path, sizeof path, "%s/lines.jsonl", deployment->directory);
    snprintf(number, sizeof number, "%d", partition);
    deployment_run(deployment, 0, "dovetail", "produce", source, path, "--partition", number, NULL);
}

static void start_speed(void)
{
    speed = deployment_start(deployment, "dovetail-speed", NULL);
}

static void await_number(const char *sql, int64_t wanted)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    int64_t number;
    while ((number = deployment_number(deployment, sql)) != wanted) {
        if (stack_now_ms() > deadline || !child_is_running(speed)) {
            children_show();
            fail_msg("%s: %lld, not %lld", sql, (long long)number, (long long)wanted);
        }
        stack_sleep_ms(20);
    }
}

static void expect_number(const char *sql, int64_t wanted)
{
    int64_t number = deployment_number(deployment, sql);
    if (number != wanted)
        fail_msg("%s: %lld, not %lld", sql, (long long)number, (long long)wanted);
}

/* --- duplicates --- */

struct event {
    int64_t id; /* -1: NULL, -2: no event */
    int64_t n;
};

static struct event logs[PARTITIONS][LOG_MAX];
static size_t ends[PARTITIONS];

static void define_events(int within)
{
    char source[600];
    snprintf(source, sizeof source,
             "{\"source\":\"events\",\"topic\":\"\",\"partitions\":2,"
             "\"event_time\":{\"field\":\"at\",\"format\":\"epoch_s\"},"
             "\"fields\":{\"at\":\"integer\",\"id\":{\"type\":\"string\",\"nullable\":true},"
             "\"n\":\"integer\"},\"dedupe\":{\"field\":\"id\",\"within\":%d}}",
             within);
    deployment_define_source(deployment, source);
    deployment_define_view(deployment,
                           "{\"view\":\"sums\",\"source\":\"events\",\"where\":\"n > 10\","
                           "\"window\":{\"type\":\"tumbling\",\"size\":\"1h\"},\"measures\":{"
                           "\"c\":\"count(*)\",\"total\":\"sum(n)\"}}");
}

static void produce_events(int partition, size_t count)
{
    char *lines = malloc(count * LINE_BYTES);
    size_t length = 0;
    assert_non_null(lines);
    assert_true(ends[partition] + count <= LOG_MAX);
    for (size_t i = 0; i < count; i++) {
        struct event *event = &logs[partition][ends[partition]++];
        char id[24] = "null";
        *event = (struct event){.id = (int64_t)below(600), .n = (int64_t)below(100)};
        if (below(20) == 0)
            event->id = -1;
        if (below(30) == 0)
            event->id = -2;
        if (event->id >= 0)
            snprintf(id, sizeof id, "\"e-%lld\"", (long long)event->id);
        length +=
            (size_t)snprintf(lines + length, LINE_BYTES, "{\"at\":%zu,\"id\":%s,\"n\":%lld%s\n",
                             below(100000), id, (long long)event->n, event->id == -2 ? "" : "}");
    }
    produce("events", partition, lines);
    free(lines);
}

struct tally {
    int64_t counted, filtered, duplicate, dead, total;
};

static struct tally tally(int partition, int64_t within)
{
    struct tally tally = {0};
    const struct event *log = logs[partition];
    for (int64_t i = 0; i < (int64_t)ends[partition]; i++) {
        bool duplicate = false;
        for (int64_t j = i - 1; log[i].id >= 0 && !duplicate && j >= 0 && j >= i - within; j--)
            duplicate = log[j].id == log[i].id;
        if (log[i].id == -2) {
            tally.dead++;
        } else if (duplicate) {
            tally.duplicate++;
        } else if (log[i].n > 10) {
            tally.counted++;
            tally.total += log[i].n;
        } else {
            tally.filtered++;
        }
    }
    return tally;
}

static void await_end(void)
{
    await_number("SELECT sum(next_offset) FROM dovetail_internal.position",
                 (int64_t)(ends[0] + ends[1]));
}

static void check_view(int64_t within)
{
    struct tally a = tally(0, within);
    struct tally b = tally(1, within);
    expect_number("SELECT sum(c) FROM dovetail.sums", a.counted + b.counted);
    expect_number("SELECT sum(total) FROM dovetail.sums", a.total + b.total);
    deployment_run(deployment, 0, "dovetail", "verify", "sums", NULL);
}

static void check_ledger(void)
{
    for (int p = 0; p < PARTITIONS; p++) {
        struct tally wanted = tally(p, WITHIN);
        char sql[300];
        snprintf(sql, sizeof sql,
                 "SELECT count(*) FROM dovetail_internal.position WHERE partition = %d"
                 " AND counted = %lld AND filtered = %lld AND duplicate = %lld"
                 " AND dead_lettered = %lld AND consumed = %zu",
                 p, (long long)wanted.counted, (long long)wanted.filtered,
                 (long long)wanted.duplicate, (long long)wanted.dead, ends[p]);
        assert_true(wanted.duplicate > 0);
        expect_number(sql, 1);
    }
}

/* Retention, as an administrator would force it. */
static void delete_below(const char *topic, int64_t offset)
{
    char problem[300];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    assert_int_equal(
        rd_kafka_conf_set(conf, "bootstrap.servers", stack_kafka(), problem, sizeof problem),
        RD_KAFKA_CONF_OK);
    rd_kafka_t *client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, problem, sizeof problem);
    assert_non_null(client);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(PARTITIONS);
    for (int p = 0; p < PARTITIONS; p++)
        rd_kafka_topic_partition_list_add(list, topic, p)->offset = offset;
    rd_kafka_DeleteRecords_t *request = rd_kafka_DeleteRecords_new(list);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_DeleteRecords(client, &request, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, STACK_WAIT_MS);
    assert_non_null(event);
    assert_int_equal(rd_kafka_event_error(event), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_DeleteRecords_destroy(request);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(client);
}

static void test_duplicates(void **state)
{
    (void)state;
    memset(ends, 0, sizeof ends);
    define_events(WITHIN);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    start_speed();
    for (int round = 0; round < 10; round++) {
        produce_events(0, 100 + below(500));
        produce_events(1, 100 + below(500));
        if (below(2) == 0) {
            stack_sleep_ms((int)below(300));
            child_kill(speed);
            start_speed();
        }
        if (below(2) == 0)
            deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
        if (below(3) == 0)
            deployment_run(deployment, 0, "dovetail", "verify", "sums", NULL);
    }
    await_end();
    check_ledger();
    check_view(WITHIN);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    check_view(WITHIN);
    assert_true(deployment_number(deployment, "SELECT count(*) FROM dovetail_internal.segment") >
                20);

    /* A clean stop and start in the middle, ids from the log. */
    child_stop(speed);
    produce_events(0, 300);
    start_speed();
    await_end();
    check_ledger();
    check_view(WITHIN);

    /* Kafka has forgotten what is archived: ids from the archive, then from the log. */
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    child_stop(speed);
    int64_t gone = (int64_t)(ends[0] < ends[1] ? ends[0] : ends[1]) - 100;
    delete_below(deployment_topic(deployment, "events"), gone);
    produce_events(0, 300);
    produce_events(1, 300);
    start_speed();
    await_end();
    assert_non_null(strstr(child_errors(speed), "from the archive"));
    check_ledger();
    check_view(WITHIN);

    /* Another reach is another version of the view; the ledger goes on as it was. */
    define_events(20);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    check_view(WITHIN);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    expect_number("SELECT max(version) FROM dovetail_internal.view_version WHERE state = 'current'",
                  2);
    check_view(20);
    child_stop(speed);
}

/* The ids are neither in Kafka nor in the archive: nobody can say what is a duplicate. */
static void test_ids_are_gone(void **state)
{
    (void)state;
    memset(ends, 0, sizeof ends);
    define_events(WITHIN);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    start_speed();
    produce_events(0, 400);
    produce_events(1, 400);
    await_end();
    child_stop(speed);
    delete_below(deployment_topic(deployment, "events"), 200);
    start_speed();
    child_expect(speed, 1);
    assert_non_null(strstr(child_errors(speed), "dedupe needs the ids of offsets 100 to 200"));
}

/* --- derived fields, drop_if_null --- */

static void define_orders(void)
{
    deployment_define_source(
        deployment,
        "{\"source\":\"orders\",\"topic\":\"\",\"partitions\":1,"
        "\"event_time\":{\"field\":\"at\",\"format\":\"epoch_s\"},"
        "\"fields\":{\"at\":\"timestamp\",\"price\":\"decimal\",\"quantity\":\"integer\","
        "\"parts\":{\"type\":\"integer\",\"nullable\":true},"
        "\"shop\":{\"type\":\"string\",\"nullable\":true}},"
        "\"derive\":{\"revenue\":\"price * quantity\",\"each\":\"revenue / parts\","
        "\"order\":\"shop || '-' || CASE WHEN quantity > 5 THEN 'big' ELSE 'small' END\","
        "\"late\":\"at > '2001-01-01'\",\"quoted\":\"\\\"order\\\" || '!'\"},"
        "\"drop_if_null\":[\"parts\",\"order\"]}");
    deployment_define_view(
        deployment, "{\"view\":\"revenues\",\"source\":\"orders\",\"where\":\"late\","
                    "\"group_by\":[\"order\",\"quoted\"],"
                    "\"window\":{\"type\":\"tumbling\",\"size\":\"1d\"},\"measures\":{"
                    "\"c\":\"count(*)\",\"total\":\"sum(revenue)\",\"most\":\"max(each)\"}}");
    deployment_define_view(deployment,
                           "{\"view\":\"counts\",\"source\":\"orders\","
                           "\"window\":{\"type\":\"tumbling\",\"size\":\"1d\"},\"measures\":{"
                           "\"c\":\"count(*)\",\"cents\":\"sum(100 * revenue)\"}}");
}

static void test_derived_fields(void **state)
{
    (void)state;
    enum { RECORDS = 3000 };
    char *lines = malloc(RECORDS * LINE_BYTES);
    size_t length = 0;
    int64_t dead = 0;
    int64_t dropped = 0;
    int64_t cents = 0;
    assert_non_null(lines);
    for (int i = 0; i < RECORDS; i++) {
        int64_t price = (int64_t)below(10000);
        int64_t quantity = (int64_t)below(10);
        char parts[8] = "null";
        size_t part_count = below(8);
        if (part_count < 7)
            snprintf(parts, sizeof parts, "%zu", part_count);
        const char *shop = below(10) == 0 ? "null" : below(2) == 0 ? "\"a\"" : "\"b\"";
        length += (size_t)snprintf(
            lines + length, LINE_BYTES,
            "{\"at\":%zu,\"price\":%lld.%02lld,\"quantity\":%lld,\"parts\":%s,\"shop\":%s}\n",
            978307200 - 100000 + below(200000), (long long)price / 100, (long long)price % 100,
            (long long)quantity, parts, shop);
        if (part_count == 0)
            dead++;
        else if (part_count == 7 || shop[0] == 'n')
            dropped++;
        else
            cents += price * quantity;
    }
    define_orders();
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    start_speed();
    produce("orders", 0, lines);
    await_number("SELECT next_offset FROM dovetail_internal.position", RECORDS);
    deployment_run(deployment, 0, "dovetail", "verify", "revenues", NULL);
    expect_number("SELECT dead_lettered FROM dovetail_internal.position", dead);
    expect_number("SELECT filtered FROM dovetail_internal.position", dropped);
    expect_number("SELECT counted FROM dovetail_internal.position", RECORDS - dead - dropped);
    expect_number("SELECT sum(cents) FROM dovetail.counts", cents);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    produce("orders", 0, lines);
    await_number("SELECT next_offset FROM dovetail_internal.position", 2 * RECORDS);
    expect_number("SELECT sum(cents) FROM dovetail.counts", 2 * cents);
    deployment_run(deployment, 0, "dovetail", "verify", "revenues", NULL);
    deployment_run(deployment, 0, "dovetail", "verify", "counts", NULL);
    struct child *letters = deployment_run(deployment, 0, "dovetail", "dead-letters", "list",
                                           "orders", "--limit", "5", "--format", "json", NULL);
    assert_non_null(strstr(child_output(letters), "derive.each: division by zero"));
    child_stop(speed);
    free(lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_duplicates, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ids_are_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_derived_fields, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("sources", tests, NULL, NULL);
}
