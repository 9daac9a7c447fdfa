/* `dovetail dead-letters replay`: which records go back into the topic, each once, whatever is
 * killed when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/broker.h"
#include "tests/support/database.h"
#include "tests/support/deployment.h"
#include "tests/support/stack.h"

enum { OLD = 2000 }; /* offsets that were deleted before the deployment began */

static struct deployment *deployment;
static struct child *speed;
static PGconn *holder;
static char topic[200];
static char dead_topic[220];

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    snprintf(topic, sizeof topic, "%s", deployment_topic(deployment, "events"));
    snprintf(dead_topic, sizeof dead_topic, "%s.dead", topic);
    speed = NULL;
    holder = NULL;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    PQfinish(holder);
    deployment_destroy(deployment);
    deployment = NULL;
    return 0;
}

/* --- help --- */

static void expect(const char *sql, int64_t wanted)
{
    int64_t found = deployment_number(deployment, sql);
    if (found != wanted)
        fail_msg("%s: %" PRId64 ", not %" PRId64, sql, found, wanted);
}

static void await_number(const char *sql, int64_t wanted)
{
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    while (deployment_number(deployment, sql) != wanted) {
        if (stack_now_ms() > end_ms)
            fail_msg("%s never became %" PRId64 ", but is %" PRId64, sql, wanted,
                     deployment_number(deployment, sql));
        stack_sleep_ms(20);
    }
}

static void expect_text(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("\"%s\" is not in: %s", part, text);
}

#define REPLAY(...)                                                                                \
    child_output(deployment_run(deployment, 0, "dovetail", "dead-letters", "replay", __VA_ARGS__,  \
                                "events", NULL))
#define REPLAY_ALL()                                                                               \
    child_output(                                                                                  \
        deployment_run(deployment, 0, "dovetail", "dead-letters", "replay", "events", NULL))

static void define(const char *type, const char *more)
{
    char text[600];
    snprintf(text, sizeof text,
             "{\"source\":\"events\",\"partitions\":1,"
             " \"event_time\":{\"field\":\"t\",\"format\":\"epoch_s\"},"
             " \"fields\":{\"t\":\"timestamp\",\"n\":\"%s\"}%s}",
             type, more);
    deployment_define_source(deployment, text);
    deployment_define_view(deployment,
                           "{\"view\":\"counts\",\"source\":\"events\",\"group_by\":[\"n\"],"
                           " \"window\":{\"type\":\"none\"},\"measures\":{\"c\":\"count(*)\"}}");
    deployment_define_view(
        deployment, "{\"view\":\"inverse\",\"source\":\"events\",\"where\":\"t IS NOT NULL\","
                    " \"window\":{\"type\":\"none\"},"
                    " \"measures\":{\"s\":\"sum(1 / (length(n || '') - 3))\"}}");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
}

static void start_speed(void)
{
    speed = deployment_start(deployment, "dovetail-speed", NULL);
}

static void produce(const char *lines)
{
    char path[200];
    snprintf(path, sizeof path, "%s/lines", deployment->directory);
    deployment_write(deployment, "lines", lines);
    deployment_run(deployment, 0, "dovetail", "produce", "events", path, NULL);
}

/* Letters in the JSON of `list`. */
static json_t *list(void)
{
    json_t *all = json_loads(
        child_output(deployment_run(deployment, 0, "dovetail", "dead-letters", "list", "events",
                                    "--limit", "100000", "--format", "json", NULL)),
        0, NULL);
    assert_non_null(all);
    return all;
}

static void add(rd_kafka_headers_t *headers, const char *name, const char *text)
{
    assert_int_equal(rd_kafka_header_add(headers, name, -1, text, -1), 0);
}

/* A topic whose first OLD records are gone, and a deployment that begins behind them. */
static void begin_behind_old_records(void)
{
    broker_create_topic(topic, 1);
    struct broker_producer *producer = broker_producer_create(NULL, NULL);
    for (int i = 0; i < OLD; i++)
        assert_true(broker_produce(producer, topic, 0, NULL, 0, "old", 3, NULL, NULL));
    assert_true(broker_flush(producer));
    broker_producer_destroy(producer);
    broker_delete_below(topic, 0, OLD);
    define("string", "");
    expect("SELECT base_offset FROM dovetail_internal.position", OLD);
}

/* The letters that another deployment wrote for them; every seventh one twice. */
static void write_old_letters(void)
{
    struct broker_producer *producer = broker_producer_create(NULL, NULL);
    for (int i = 0; i < OLD; i++) {
        char key[20], value[60], number[20];
        snprintf(key, sizeof key, "key %d", i);
        snprintf(value, sizeof value, "{\"t\":1,\"n\":\"n%d\"}", i);
        snprintf(number, sizeof number, "%d", i);
        for (int copy = 0; copy <= (i % 7 == 0); copy++) {
            rd_kafka_headers_t *headers = rd_kafka_headers_new(8);
            add(headers, "trace", key);
            add(headers, "dovetail.view", "a record may have such a header, too");
            add(headers, "dovetail.topic", topic);
            add(headers, "dovetail.partition", "0");
            add(headers, "dovetail.offset", number);
            add(headers, "dovetail.timestamp", "2026-01-01T00:00:00Z");
            add(headers, "dovetail.reason", "was bad then");
            assert_true(broker_produce(producer, dead_topic, 0, key, strlen(key), value,
                                       strlen(value), headers, NULL));
        }
    }
    assert_true(broker_flush(producer));
    broker_producer_destroy(producer);
}

static void check_header(const rd_kafka_message_t *message, const char *name, const char *expected)
{
    rd_kafka_headers_t *headers = NULL;
    const void *value;
    size_t length;
    assert_int_equal(rd_kafka_message_headers(message, &headers), 0);
    assert_int_equal(rd_kafka_header_get_last(headers, name, &value, &length), 0);
    assert_int_equal(length, strlen(expected));
    assert_memory_equal(value, expected, length);
}

/* Each old record is in the topic once, with key, value and headers. */
static void check_topic(void)
{
    struct broker_records records;
    static bool seen[OLD];
    memset(seen, 0, sizeof seen);
    broker_read(topic, &records);
    for (size_t i = 0; i < records.count; i++) {
        const rd_kafka_message_t *message = records.items[i];
        char key[20], value[60];
        int n;
        assert_int_equal(sscanf(message->payload, "{\"t\":1,\"n\":\"n%d\"}", &n), 1);
        assert_in_range(n, 0, OLD - 1);
        assert_false(seen[n]);
        seen[n] = true;
        snprintf(key, sizeof key, "key %d", n);
        snprintf(value, sizeof value, "{\"t\":1,\"n\":\"n%d\"}", n);
        assert_int_equal(message->key_len, strlen(key));
        assert_memory_equal(message->key, key, strlen(key));
        assert_int_equal(message->len, strlen(value));
        assert_memory_equal(message->payload, value, strlen(value));
        check_header(message, "trace", key);
        check_header(message, "dovetail.replays", "1");
    }
    assert_int_equal(records.count, OLD);
    broker_records_free(&records);
}

/* --- tests --- */

static void test_records_that_the_history_lacks(void **state)
{
    (void)state;
    begin_behind_old_records();
    start_speed();
    write_old_letters();
    expect_text(REPLAY("--dry-run"), "nothing is produced");
    expect_text(child_output(deployment_run(deployment, 0, "dovetail", "dead-letters", "--dry-run",
                                            "replay", "events", NULL)),
                "nothing is produced");
    expect_text(child_errors(deployment_run(deployment, 2, "dovetail", "dead-letters", "--dry-run",
                                            "list", NULL)),
                "--dry-run: only of dead-letters replay");
    expect_text(child_errors(deployment_run(deployment, 2, "dovetail", "dead-letters", "replay",
                                            "events", "--limit", "3", NULL)),
                "--limit: only of dead-letters list");
    expect_text(child_errors(deployment_run(deployment, 2, "dovetail", "dead-letters", "replay",
                                            "events", "--partition", "77", NULL)),
                "has no partition 77");
    assert_int_equal(broker_end(topic, 0), OLD);
    expect_text(REPLAY("--partition", "0", "--offset", "14"), "1 records produced");
    await_number("SELECT sum(c)::bigint FROM dovetail.counts", 1);
    expect_text(REPLAY("--since", "2100-01-01"), "0 records produced");
    expect_text(REPLAY("--since", "2026-01-01T00:00:00Z"), "1999 records produced");
    await_number("SELECT sum(c)::bigint FROM dovetail.counts", OLD);
    expect("SELECT count(*) FROM dovetail.counts WHERE c = 1", OLD);
    check_topic();
    /* Again: nothing. */
    const char *again = REPLAY_ALL();
    expect_text(again, "0 records produced");
    expect_text(again, "2286 letters left alone: replayed before");
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    deployment_run(deployment, 0, "dovetail", "verify", "counts", NULL);
    child_stop(speed);
}

/* Statements that would take `lock` wait for as long as `holder` has it. */
static void kill_where_it_waits(void)
{
    struct child *child =
        deployment_start(deployment, "dovetail", "dead-letters", "replay", "events", NULL);
    await_number("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                 " AND application_name = 'dovetail' AND datname = current_database()",
                 1);
    child_kill(child);
    expect("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
           " WHERE application_name = 'dovetail' AND datname = current_database()",
           1);
    await_number("SELECT count(*) FROM pg_stat_activity"
                 " WHERE application_name = 'dovetail' AND datname = current_database()",
                 0);
}

static void execute(const char *sql)
{
    PGresult *result = database_ask(holder, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(holder));
    PQclear(result);
}

static void test_kills(void **state)
{
    (void)state;
    begin_behind_old_records();
    write_old_letters();
    holder = deployment_connect(deployment);
    execute("BEGIN; LOCK TABLE dovetail_internal.replay IN EXCLUSIVE MODE");
    kill_where_it_waits(); /* before anything is written down */
    execute("ROLLBACK");
    expect("SELECT count(*) FROM dovetail_internal.replay_batch", 0);

    /* In Kafka, and not marked. */
    execute("CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NEW; END';"
            "CREATE TRIGGER wait BEFORE UPDATE ON dovetail_internal.replay_batch"
            " FOR EACH ROW EXECUTE FUNCTION public.wait()");
    execute("SELECT pg_advisory_lock(4711)");
    kill_where_it_waits();
    expect("SELECT count(*) FROM dovetail_internal.replay_batch WHERE state = 'sending'", 1);
    assert_true(broker_end(topic, 0) > OLD);
    execute("SELECT pg_advisory_unlock(4711)");

    /* Written down, and not in Kafka: what a kill in between leaves. */
    execute("WITH b AS (INSERT INTO dovetail_internal.replay_batch (topic, from_offsets, state)"
            "  SELECT topic, from_offsets, 'sending' FROM dovetail_internal.replay_batch"
            "  RETURNING batch, topic)"
            " INSERT INTO dovetail_internal.replay SELECT topic, 0, 1999, '2026-01-01T00:00:00Z',"
            "  batch, 'letters', 0, 0 FROM b");

    /* At any moment. */
    int killed = 0;
    for (int i = 0;; i++) {
        struct child *child =
            deployment_start(deployment, "dovetail", "dead-letters", "replay", "events", NULL);
        stack_sleep_ms(60 * i);
        bool running = child_is_running(child);
        killed += running;
        child_kill(child);
        await_number("SELECT count(*) FROM pg_stat_activity"
                     " WHERE application_name = 'dovetail' AND datname = current_database()",
                     0);
        if (!running)
            break;
    }
    print_message("%d replays were killed at random moments\n", killed);
    expect_text(REPLAY_ALL(), "0 records produced");
    check_topic();
    expect("SELECT count(*) FROM dovetail_internal.replay_batch WHERE state = 'sending'", 0);
    expect("SELECT count(*) FROM dovetail_internal.replay", OLD);
    start_speed();
    await_number("SELECT sum(c)::bigint FROM dovetail.counts", OLD);
    child_stop(speed);
}

/* What lies in the history counts where it lies. */
static void test_records_of_the_history(void **state)
{
    (void)state;
    define("integer", "");
    start_speed();
    produce("{\"t\":1,\"n\":5}\n{\"t\":1,\"n\":\"x\"}\nnonsense\n{\"t\":1,\"n\":123}\n");
    await_number("SELECT dead_lettered FROM dovetail_internal.position", 3);
    json_t *letters = list();
    assert_int_equal(json_array_size(letters), 3);
    json_decref(letters);
    const char *text = REPLAY_ALL();
    expect_text(text, "0 records produced");
    expect_text(text, "2 letters left alone: no definition accepts them");
    expect_text(text, "1 letters left alone: refused by a view");
    /* Asked for, they come back, and say how often. */
    expect_text(REPLAY("--still-bad", "--offset", "2", "--partition", "0"), "1 records produced");
    await_number("SELECT dead_lettered FROM dovetail_internal.position", 4);
    expect_text(REPLAY("--still-bad", "--offset", "2", "--partition", "0"), "0 records produced");
    expect_text(REPLAY("--still-bad", "--offset", "4", "--partition", "0"), "1 records produced");
    await_number("SELECT dead_lettered FROM dovetail_internal.position", 5);
    letters = list();
    assert_int_equal(json_array_size(letters), 5);
    for (size_t i = 3; i < 5; i++) {
        const json_t *letter = json_array_get(letters, i);
        assert_string_equal(json_string_value(json_object_get(letter, "value")), "nonsense");
        assert_int_equal(json_integer_value(json_object_get(letter, "replays")), i - 2);
    }
    json_decref(letters);
    /* A definition that accepts one: it counts by the next run, and is not replayed as well. */
    define("string", "");
    await_number("SELECT count(*) FROM dovetail_internal.view_version WHERE state = 'building'", 2);
    text = REPLAY_ALL();
    expect_text(text, "0 records produced");
    expect_text(text, "counted where they are");
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    expect("SELECT c FROM dovetail.counts WHERE n = 'x'", 1);
    deployment_run(deployment, 0, "dovetail", "verify", "counts", NULL);
    child_stop(speed);
}

static void test_masked_and_imported(void **state)
{
    (void)state;
    char more[300], path[200];
    deployment_write(deployment, "mask.key", "a key for this test alone");
    snprintf(more, sizeof more, ",\"mask\":{\"fields\":[\"n\"],\"key_file\":\"%s/mask.key\"}",
             deployment->directory);
    define("string", more);
    start_speed();
    produce("{\"t\":\"x\",\"n\":\"secret\"}\nnonsense\n");
    await_number("SELECT dead_lettered FROM dovetail_internal.position", 2);
    snprintf(path, sizeof path, "%s/bad.jsonl", deployment->directory);
    deployment_write(deployment, "bad.jsonl", "nothing\n");
    deployment_run(deployment, 0, "dovetail-batch", "import", "events", path, NULL);
    const char *text = REPLAY("--still-bad");
    expect_text(text, "0 records produced");
    expect_text(text, "left alone: something of the record was withheld");
    expect_text(text, "1 letters left alone: imported lines");
    assert_int_equal(broker_end(topic, 0), 2);
    deployment_run(deployment, 2, "dovetail", "dead-letters", "replay", "nothing", NULL);
    deployment_run(deployment, 2, "dovetail", "dead-letters", "replay", "--offset", "1", NULL);
    deployment_run(deployment, 2, "dovetail", "dead-letters", "replay", "--limit", "1", NULL);
    deployment_run(deployment, 2, "dovetail", "dead-letters", "replay", "--since", "soon", NULL);
    child_stop(speed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_records_that_the_history_lacks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_kills, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_records_of_the_history, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_masked_and_imported, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
