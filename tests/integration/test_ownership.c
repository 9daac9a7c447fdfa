/* Which partitions the speed layer reads, and what its freshness says, where the group and the
 * clocks are not what one would like them to be.
 *
 * The one claim about freshness: what the log had at the time that an answer is as of is in the
 * answer. The test knows when its records were acknowledged, so an answer without them must not be
 * as of a later time. Nothing here is about how long anything takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/support/broker.h"
#include "tests/support/database.h"
#include "tests/support/deployment.h"
#include "tests/support/stack.h"

enum { STEP_MS = 20 };

static const char source_json[] =
    "{\"source\": \"s\", \"partitions\": 2, \"event_time\": {\"field\": \"t\", \"format\":"
    " \"epoch_s\"}, \"fields\": {\"t\": \"integer\"}}";
static const char view_json[] =
    "{\"view\": \"v\", \"source\": \"s\", \"measures\": {\"n\": \"count(*)\"},"
    " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}}";

static struct deployment *deployment;
static struct broker_producer *producer;
static const char *topic;
static int64_t produced;
static int64_t acknowledged_ms; /* wall clock: all of them were */

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    deployment_set(deployment, "kafka", "session.timeout.ms", json_integer(6000));
    deployment_define_source(deployment, source_json);
    deployment_define_view(deployment, view_json);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    producer = broker_producer_create(NULL, NULL);
    topic = deployment_topic(deployment, "s");
    produced = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    broker_producer_destroy(producer);
    producer = NULL;
    deployment_destroy(deployment);
    deployment = NULL;
    return 0;
}

static int64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static void produce(int32_t partition, int count)
{
    static const char value[] = "{\"t\": 1000000000}";
    for (int i = 0; i < count; i++)
        assert_true(broker_produce(producer, topic, partition, NULL, 0, value, sizeof value - 1,
                                   NULL, NULL));
    if (!broker_flush(producer))
        fail_msg("%s", broker_problem(producer));
    produced += count;
    acknowledged_ms = clock_ms() + 1; /* rounded up */
}

/* A producer that knows the topic already would not see the new partitions soon. */
static void grow_topic(int partitions)
{
    broker_grow_topic(topic, partitions);
    broker_producer_destroy(producer);
    producer = broker_producer_create(NULL, NULL);
}

/* One answer: how many records it has, and as of when (0: not known). */
static int64_t ask(int64_t *as_of_ms)
{
    int64_t before_ms = clock_ms();
    struct child *query = deployment_run(deployment, 0, "dovetail", "query", "v", "--granularity",
                                         "all", "--format", "json", NULL);
    json_t *answer = json_loads(child_output(query), 0, NULL);
    const json_t *rows = json_object_get(answer, "rows");
    const json_t *freshness = json_object_get(json_object_get(answer, "receipt"), "freshness_ms");
    assert_non_null(freshness);
    *as_of_ms = json_is_null(freshness) ? 0 : before_ms - json_integer_value(freshness);
    int64_t count = json_integer_value(json_object_get(json_array_get(rows, 0), "n"));
    json_decref(answer);
    return count;
}

/* Until everything is in the answer, and its freshness is known again. */
static void await_answer(struct child *speed)
{
    int64_t as_of_ms = 0;
    int64_t count = 0;
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    while (count < produced || as_of_ms == 0) {
        if (stack_now_ms() > end_ms) {
            children_show();
            fail_msg("%lld of %lld records are counted", (long long)count, (long long)produced);
        }
        count = ask(&as_of_ms);
        if (count < produced && as_of_ms > acknowledged_ms)
            fail_msg("%lld of %lld records, and as of %lld ms after the last one", (long long)count,
                     (long long)produced, (long long)(as_of_ms - acknowledged_ms));
        children_must_run(&speed, 1);
        stack_sleep_ms(STEP_MS);
    }
    assert_int_equal(count, produced);
}

/* Until answers say that they do not know how fresh they are. */
static void await_ignorance(void)
{
    int64_t as_of_ms = 1;
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    while (as_of_ms != 0) {
        if (ask(&as_of_ms) == produced)
            fail_msg("every record is counted, and freshness was known all the time");
        if (stack_now_ms() > end_ms)
            fail_msg("freshness is known all the time");
        stack_sleep_ms(STEP_MS);
    }
    assert_int_equal(deployment_number(deployment, "SELECT count(*) FROM dovetail_internal.position"
                                                   " WHERE dovetail_internal.freshness_ms(topic)"
                                                   " IS NOT NULL"),
                     0);
}

static struct child *start(void)
{
    return deployment_start(deployment, "dovetail-speed", NULL);
}

/* --- partitions that nobody reads --- */

/* A static member that comes back gets what it had, and no more. */
static void test_partition_added_while_nobody_was_there(void **state)
{
    (void)state;
    struct child *speed = start();
    produce(0, 10);
    produce(1, 10);
    await_answer(speed);
    child_kill(speed);
    grow_topic(4);
    produce(3, 10);
    speed = start();
    await_ignorance();
    await_answer(speed);
    produce(2, 10);
    await_answer(speed);
    child_stop(speed);
}

static void test_partition_added(void **state)
{
    (void)state;
    struct child *speed = start();
    produce(0, 10);
    await_answer(speed);
    grow_topic(3);
    produce(2, 10);
    await_answer(speed);
    child_stop(speed);
}

/* Somebody claimed a partition that the group had given to us, and is gone. */
static void test_owner_is_gone(void **state)
{
    (void)state;
    struct child *speed = start();
    produce(0, 10);
    produce(1, 10);
    await_answer(speed);
    deployment_number(deployment, "WITH u AS (UPDATE dovetail_internal.position SET"
                                  " owner = 'gone/1', owner_pid = 2147483647,"
                                  " owner_epoch = owner_epoch + 1, updated_at = now()"
                                  " WHERE partition = 1 RETURNING 1) SELECT 1");
    produce(0, 10);
    produce(1, 10);
    await_answer(speed);
    child_stop(speed);
}

/* --- what is told --- */

static json_t *run_json(const char *command, const char *argument)
{
    struct child *child =
        deployment_run(deployment, 0, "dovetail", command, "--format", "json", argument, NULL);
    json_t *json = json_loads(child_output(child), 0, NULL);
    assert_non_null(json);
    return json;
}

/* `dovetail status` and receipts tell the same P and freshness, also where a run is ahead. */
static void test_status_agrees_with_receipts(void **state)
{
    (void)state;
    deployment_number(
        deployment,
        "WITH r AS (INSERT INTO dovetail_internal.run (run, state, reason) VALUES"
        " (1, 'published', 'command')), c AS (INSERT INTO dovetail_internal.run_cutoff VALUES"
        " (1, (SELECT topic FROM dovetail_internal.source), 0, 7, now(), NULL)),"
        " v AS (UPDATE dovetail_internal.view_version SET built_run = 1),"
        " s AS (UPDATE dovetail_internal.current_run SET run = 1) SELECT 1");
    for (int known = 0; known <= 1; known++) {
        json_t *answer = run_json("query", "v");
        json_t *status = run_json("status", NULL);
        const json_t *receipt = json_object_get(answer, "receipt");
        const json_t *positions = json_object_get(json_object_get(receipt, "positions"), topic);
        const json_t *view = json_array_get(json_object_get(status, "views"), 0);
        assert_int_equal(json_array_size(positions), 2);
        for (size_t p = 0; p < 2; p++) {
            const json_t *told = json_array_get(json_object_get(status, "partitions"), p);
            assert_int_equal(json_integer_value(json_object_get(told, "position")),
                             json_integer_value(json_array_get(positions, p)));
            assert_int_equal(json_integer_value(json_object_get(told, "speed_position")), 0);
        }
        assert_int_equal(json_integer_value(json_array_get(positions, 0)), 7);
        /* Nothing is known of the other partition at first. */
        assert_int_equal(json_is_integer(json_object_get(receipt, "freshness_ms")), known);
        assert_int_equal(json_is_integer(json_object_get(view, "freshness_ms")), known);
        json_decref(status);
        json_decref(answer);
        deployment_number(deployment, "WITH u AS (UPDATE dovetail_internal.position"
                                      " SET as_of = now() WHERE partition = 1) SELECT 1");
    }
}

/* --- clocks --- */

/* Every position that the process told is written down: none may be as of a time at which records
 * were in the log that are not below it. */
static void test_producers_clock_is_ahead(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    char sql[256];
    PGconn *connection = deployment_connect(deployment);
    PGresult *result = database_ask(
        connection, "CREATE TABLE told (partition integer, next_offset bigint, as_of timestamptz);"
                    "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                    " INSERT INTO public.told VALUES (new.partition, new.next_offset, new.as_of);"
                    " RETURN NULL; END $$;"
                    "CREATE TRIGGER tell AFTER UPDATE ON dovetail_internal.position FOR EACH ROW"
                    " EXECUTE FUNCTION tell()");
    assert_int_equal(PQresultStatus(result), PGRES_COMMAND_OK);
    PQclear(result);
    PQfinish(connection);
    broker_producer_set_time(producer, clock_ms() + 3600 * 1000);
    produce(0, COUNT);
    produce(1, COUNT);
    struct child *speed = start();
    await_answer(speed);
    child_stop(speed);
    assert_true(deployment_number(deployment, "SELECT count(*) FROM told WHERE next_offset > 0"
                                              " AND next_offset < 100000") > 0);
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM told WHERE next_offset < %d AND as_of > to_timestamp(%.3f)",
             COUNT, (double)acknowledged_ms / 1000);
    assert_int_equal(deployment_number(deployment, sql), 0);
}

int main(int argc, char **argv)
{
    if (argc > 1) /* a pattern for the names of tests */
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_partition_added_while_nobody_was_there, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_partition_added, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_owner_is_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_status_agrees_with_receipts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_producers_clock_is_ahead, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
