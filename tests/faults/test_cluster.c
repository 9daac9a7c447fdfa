/* Three brokers, each record on all of them: leaders that die, change and come back, all of them
 * away, and an election of a broker that had not everything, which loses acknowledged records.
 *
 * Events arrive and readers check every answer all the while (tests/support/traffic.h).
 * DOVETAIL_SEED repeats events and questions; DOVETAIL_FAULTS makes the absence ten minutes. */
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
#include "tests/support/cluster.h"
#include "tests/support/http.h"
#include "tests/support/orders.h"
#include "tests/support/stack.h"
#include "tests/support/traffic.h"

enum { PARTITIONS = 3, LINE_BYTES = 100 };

static char directory[] = "/tmp/dovetail-cluster-XXXXXX";
static struct cluster *cluster;
static struct deployment *deployment;
static struct traffic *traffic;
static struct child *speed;
static struct traffic_options options = {
    .partitions = PARTITIONS, .rate = 200, .readers = 1, .transactions = true, .dedupe_within = 50};

static int start_cluster(void **state)
{
    (void)state;
    const struct cluster_options three = {.nodes = 3};
    if (mkdtemp(directory) == NULL)
        return -1;
    cluster = cluster_start(&three, directory);
    return 0;
}

static int stop_cluster(void **state)
{
    (void)state;
    char command[100];
    cluster_stop(cluster);
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command) == 0 ? 0 : -1;
}

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    deployment_set(deployment, "kafka", "session.timeout.ms", json_integer(6000));
    deployment_set(deployment, "kafka", "heartbeat.interval.ms", json_integer(500));
    return 0;
}

static int set_up_traffic(void **state)
{
    set_up(state);
    traffic_define_with(deployment, &options);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_serve(deployment);
    cluster_await_copies(cluster, deployment_topic(deployment, "orders"), 3);
    options.seed = stack_seed();
    traffic = traffic_start(deployment, &options);
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    traffic_await_answers(traffic, 20, &speed, 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    traffic_destroy(traffic);
    deployment_destroy(deployment);
    traffic = NULL;
    deployment = NULL;
    speed = NULL;
    return 0;
}

/* --- leaders --- */

/* All that has been sent is counted. */
static void go_on(const char *what)
{
    traffic_await_end(traffic, &speed, 1);
    traffic_await_answers(traffic, 10, &speed, 1);
    print_message("%s\n", what);
}

/* A run amid all that may fail, and the next one repairs it. */
static void run_batch(int *done, int *failed)
{
    struct child *batch = deployment_start(deployment, "dovetail-batch", "run", NULL);
    int code = child_wait(batch, 2 * STACK_WAIT_MS);
    if (code != 0 && code != 1)
        fail_msg("dovetail-batch ended with %d: %s", code, child_errors(batch));
    *done += code == 0;
    *failed += code == 1;
}

static void leaders_move(void **state)
{
    (void)state;
    int done = 0, failed = 0;
    const char *topic = traffic_topic(traffic);
    for (int i = 0; i < 2; i++) {
        /* kill -9: somebody else must be elected; then back, and the preferred one again. */
        int leader = cluster_await_leader(cluster, topic, i % PARTITIONS, 0);
        cluster_kill(cluster, leader);
        run_batch(&done, &failed);
        (void)cluster_await_leader(cluster, topic, i % PARTITIONS, leader);
        go_on("a leader was killed");
        cluster_revive(cluster, leader);
        run_batch(&done, &failed);
        cluster_await_copies(cluster, topic, 3);
        go_on("it is back");
    }
    /* Leadership is handed over. */
    int leader = cluster_await_leader(cluster, topic, 0, 0);
    cluster_shut_down(cluster, leader);
    cluster_revive(cluster, leader);
    run_batch(&done, &failed);
    cluster_await_copies(cluster, topic, 3);
    go_on("a broker was restarted");
    print_message("%d runs came through, %d failed\n", done, failed);
    assert_true(done > 0);
    traffic_prove(traffic, deployment, &speed, 1);
    child_stop(speed);
}

/* --- nobody --- */

/* Whether they are right is known when the producer has heard of its records. */
static void questions_are_answered(void)
{
    struct http_session *session = http_session_create(deployment->port);
    struct http_reply reply;
    http_get(session, "/v1/views/sales/rows", &reply);
    if (reply.status != 200)
        fail_msg("%d %s %s", reply.status, reply.problem, reply.body);
    http_reply_free(&reply);
    http_session_destroy(session);
}

static void all_brokers_are_away(void **state)
{
    (void)state;
    int seconds = getenv("DOVETAIL_FAULTS") != NULL ? 600 : 5;
    run_batch(&(int){0}, &(int){0});
    if (seconds > 60) { /* our own producers do not wait for so long */
        traffic_pause(traffic, true);
        stack_sleep_ms(5000);
    }
    for (int node = 1; node <= CLUSTER_NODES; node++)
        cluster_kill(cluster, node);
    /* Questions are answered, a run ends with an error, SIGTERM is obeyed. */
    struct child *batch = deployment_start(deployment, "dovetail-batch", "run", NULL);
    questions_are_answered();
    stack_sleep_ms(seconds * 1000);
    questions_are_answered();
    traffic_must_be_well(traffic);
    children_must_run(&speed, 1);
    assert_int_equal(child_wait(batch, 4 * STACK_WAIT_MS), 1);
    assert_true(child_errors(batch)[0] != '\0');
    print_message("%.300s", child_errors(batch));
    child_stop(speed);
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    for (int node = 1; node <= CLUSTER_NODES; node++)
        cluster_revive(cluster, node);
    cluster_await_copies(cluster, traffic_topic(traffic), 3);
    traffic_pause(traffic, false);
    go_on("all brokers were away");
    traffic_prove(traffic, deployment, &speed, 1);
    child_stop(speed);
}

/* --- acknowledged records are lost --- */

static struct child *expect_resume(int code, const char *option)
{
    return deployment_run(deployment, code, "dovetail", "resume", "numbers", option, NULL);
}

static void expect_text(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("no \"%s\" in: %s", part, text);
}

static void await_number(const char *sql, int64_t wanted)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS, number;
    while ((number = deployment_number(deployment, sql)) != wanted) {
        if (stack_now_ms() > deadline || !child_is_running(speed)) {
            children_show();
            fail_msg("%s: %" PRId64 ", not %" PRId64, sql, number, wanted);
        }
        stack_sleep_ms(20);
    }
}

static const char counted_sql[] = "SELECT coalesce(sum(c), 0)::bigint FROM dovetail.counts";
static const char position_sql[] = "SELECT next_offset FROM dovetail_internal.position";
static const char halted_sql[] =
    "SELECT count(*) FROM dovetail_internal.halted WHERE layer = 'speed'";

/* Records first to end - 1, each with its number; until all copies in sync have them. */
static void produce(int first, int end)
{
    struct broker_producer *producer = broker_producer_create(NULL, NULL);
    for (int i = first; i < end; i++) {
        char value[LINE_BYTES];
        int length = snprintf(value, sizeof value, "{\"at\":%d,\"n\":%d}", i, i);
        assert_true(broker_produce(producer, deployment_topic(deployment, "numbers"), 0, NULL, 0,
                                   value, (size_t)length, NULL, NULL));
    }
    if (!broker_flush(producer))
        fail_msg("%s", broker_problem(producer));
    broker_producer_destroy(producer);
}

static int set_up_numbers(void **state)
{
    set_up(state);
    deployment_define_source(deployment, "{\"source\":\"numbers\",\"topic\":\"\",\"partitions\":1,"
                                         "\"event_time\":{\"field\":\"at\",\"format\":\"epoch_s\"},"
                                         "\"fields\":{\"at\":\"integer\",\"n\":\"integer\"}}");
    deployment_define_view(deployment, "{\"view\":\"counts\",\"source\":\"numbers\","
                                       "\"window\":{\"type\":\"tumbling\",\"size\":\"1h\"},"
                                       "\"measures\":{\"c\":\"count(*)\",\"total\":\"sum(n)\"}}");
    cluster_create_unsafe(cluster, deployment_topic(deployment, "numbers"));
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    return 0;
}

/* The second copy misses the last 50 of 150 records, and becomes the only one. */
static void lose_records(void)
{
    const char *topic = deployment_topic(deployment, "numbers");
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    produce(0, 100);
    cluster_await_copies(cluster, topic, 2);
    int leader = cluster_await_leader(cluster, topic, 0, 0), other = 3 - leader;
    cluster_kill(cluster, other);
    produce(100, 150);
    await_number(position_sql, 150);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    cluster_kill(cluster, leader);
    cluster_revive(cluster, other);
    assert_int_equal(cluster_await_leader(cluster, topic, 0, leader), other);
    assert_int_equal(broker_end(topic, 0), 100);
}

/* Nothing is counted that was counted, nothing goes on, until an operator accepts the loss. */
static void the_log_ends_below_the_position(void **state)
{
    (void)state;
    lose_records();
    await_number(halted_sql, 1);
    expect_text(child_errors(speed), "log ends at offset 100, below offset 150");
    expect_text(child_output(expect_resume(1, NULL)), "log ends at offset 100, below offset 150");
    assert_int_equal(deployment_number(deployment, counted_sql), 150);

    /* Grown past P by other records: no reason to go on. */
    produce(1100, 1180);
    await_number("SELECT count(*) FROM dovetail_internal.halted WHERE layer = 'speed'"
                 " AND message LIKE '%has another record at offset 149%'",
                 1);
    assert_int_equal(deployment_number(deployment, position_sql), 150);
    assert_int_equal(deployment_number(deployment, counted_sql), 150);
    assert_int_equal(deployment_number(deployment, halted_sql), 1);
    deployment_run(deployment, 1, "dovetail-batch", "run", NULL);
    deployment_run(deployment, 0, "dovetail", "verify", "counts", NULL);

    expect_resume(0, "--accept-gap");
    await_number(position_sql, 180);
    assert_int_equal(deployment_number(deployment, counted_sql), 180);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    deployment_run(deployment, 0, "dovetail", "verify", "counts", NULL);
    child_stop(speed);
}

int main(int argc, char **argv)
{
    if (argc > 1) /* a pattern for the names of tests */
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(leaders_move, set_up_traffic, tear_down),
        cmocka_unit_test_setup_teardown(all_brokers_are_away, set_up_traffic, tear_down),
        cmocka_unit_test_setup_teardown(the_log_ends_below_the_position, set_up_numbers, tear_down),
    };
    return cmocka_run_group_tests(tests, start_cluster, stop_cluster);
}
