/* The speed layer, one step after the other: what it says to PostgreSQL is counted, and it is
 * killed before the first statement, then before the second, and so on, through its start, many
 * flushes and its end (tests/faults/steps_shim.c). And what rebalances do to it: many joins and
 * leaves, partitions taken away while records are folded, a flush that takes longer than
 * max.poll.interval.ms, and a process that stands still until it has been replaced.
 *
 * Events arrive and readers check every answer all the while (tests/support/traffic.h).
 * DOVETAIL_SEED repeats events, questions and pauses; DOVETAIL_FAULTS does more of everything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/database.h"
#include "tests/support/orders.h"
#include "tests/support/stack.h"
#include "tests/support/traffic.h"

enum { PARTITIONS = 3, SPEEDS = 2, PATH_BYTES = 700 };

static struct deployment *deployment;
static struct traffic *traffic;
static struct child *speeds[SPEEDS];
static uint64_t moments; /* random */
static struct traffic_options options = {.partitions = PARTITIONS,
                                         .rate = 300,
                                         .readers = 1,
                                         .transactions = true,
                                         .dedupe_within = 100};

static bool is_long(void)
{
    return getenv("DOVETAIL_FAULTS") != NULL;
}

static void begin(void)
{
    deployment = deployment_create();
    deployment_set(deployment, "kafka", "session.timeout.ms", json_integer(6000));
    deployment_set(deployment, "kafka", "heartbeat.interval.ms", json_integer(500));
}

static void go(void)
{
    traffic_define_with(deployment, &options);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_serve(deployment);
    options.seed = moments = stack_seed();
    traffic = traffic_start(deployment, &options);
}

static int set_up(void **state)
{
    (void)state;
    begin();
    go();
    return 0;
}

/* A flush may take longer than the time between two polls. */
static int set_up_impatient(void **state)
{
    (void)state;
    begin();
    deployment_set(deployment, "kafka", "max.poll.interval.ms", json_integer(6000));
    go();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    traffic_destroy(traffic);
    deployment_destroy(deployment);
    traffic = NULL;
    deployment = NULL;
    for (int i = 0; i < SPEEDS; i++)
        speeds[i] = NULL;
    return 0;
}

static void pause_below(int ms)
{
    stack_sleep_ms((int)orders_below(&moments, (size_t)ms));
    traffic_must_be_well(traffic);
}

/* --- steps --- */

/* dovetail-speed with something happening at its step `at`, of those that match. */
static struct child *start_with(const char *action, const char *match, int at)
{
    const char *argv[13] = {"/usr/bin/env"};
    char settings[7][PATH_BYTES], path[PATH_BYTES / 2];
    size_t count = 1;
    snprintf(settings[0], PATH_BYTES, "LD_PRELOAD=%s",
             realpath(stack_program("tests/faults/steps_shim.so", path, sizeof path),
                      (char[PATH_MAX]){0}));
    snprintf(settings[1], PATH_BYTES, "STEPS_KIND=changes");
    snprintf(settings[2], PATH_BYTES, "STEPS_DIRECTORY=%s/archive", deployment->directory);
    snprintf(settings[3], PATH_BYTES, "STEPS_AT=%d", at);
    snprintf(settings[4], PATH_BYTES, "STEPS_ACTION=%s", action);
    snprintf(settings[5], PATH_BYTES, "STEPS_MATCH=%s", match);
    snprintf(settings[6], PATH_BYTES, "STEPS_LOG=%s/steps", deployment->directory);
    for (int i = 0; i < 7; i++)
        argv[count++] = settings[i];
    argv[count++] = "ASAN_OPTIONS=verify_asan_link_order=0";
    argv[count++] = stack_program("dovetail-speed", path, sizeof path);
    argv[count++] = "--config";
    argv[count++] = deployment->config;
    argv[count] = NULL;
    return child_start(deployment->directory, "dovetail-speed", argv);
}

/* Kinds of steps that were come to. */
static int kinds_of_steps(void)
{
    char command[PATH_BYTES + 100], line[32] = "0";
    snprintf(command, sizeof command, "cut -d ' ' -f 2- '%s/steps' | cut -c 1-40 | sort -u | wc -l",
             deployment->directory);
    FILE *in = popen(command, "r");
    if (in == NULL || fgets(line, sizeof line, in) == NULL || pclose(in) != 0)
        fail_msg("%s", command);
    return atoi(line);
}

static void killed_before_every_statement(void **state)
{
    (void)state;
    int last = is_long() ? 400 : 60;
    for (int at = 1; at <= last; at++) {
        struct child *child = start_with("kill", "", at);
        int code = child_wait(child, STACK_WAIT_MS);
        if (code != -SIGKILL)
            fail_msg("step %d: ended with %d: %s", at, code, child_errors(child));
        traffic_must_be_well(traffic);
        if (at % 25 == 0)
            deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    }
    int kinds = kinds_of_steps();
    print_message("%d kills, before %d different statements\n", last, kinds);
    assert_true(kinds > 10);
    /* Its end: while SIGTERM is obeyed. The steps until then are not the same each time. */
    speeds[0] = deployment_start(deployment, "dovetail-speed", NULL);
    traffic_await_answers(traffic, 10, speeds, 1);
    for (int i = 0; i < 5; i++) {
        pause_below(150);
        child_stop(speeds[0]);
        speeds[0] = deployment_start(deployment, "dovetail-speed", NULL);
        pause_below(600);
    }
    traffic_prove(traffic, deployment, speeds, 1);
    child_stop(speeds[0]);
}

/* --- rebalances --- */

/* What one has folded and not flushed when its partitions are taken is another one's to fold. */
static void joins_and_leaves(void **state)
{
    (void)state;
    int count = is_long() ? 100 : 8;
    speeds[0] = deployment_start(deployment, "dovetail-speed", NULL);
    for (int i = 0; i < count; i++) {
        speeds[1] = deployment_start(deployment, "dovetail-speed", NULL);
        pause_below(1500);
        if (i % 3 == 2)
            child_kill(speeds[1]);
        else
            child_stop(speeds[1]);
        speeds[1] = NULL;
        children_must_run(speeds, 1);
        if (i % 4 == 3)
            deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    }
    print_message("%d joined and left\n", count);
    traffic_prove(traffic, deployment, speeds, 1);
    child_stop(speeds[0]);
}

static int64_t owned_by_others_than(const char *instance)
{
    char sql[300];
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM dovetail_internal.position WHERE owner NOT LIKE '%%%s%%'",
             instance);
    return deployment_number(deployment, sql);
}

/* Until all partitions are claimed by somebody else than it. */
static void await_replaced(const char *instance)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    while (owned_by_others_than(instance) < PARTITIONS) {
        if (stack_now_ms() > deadline) {
            children_show();
            fail_msg("%s is not replaced", instance);
        }
        stack_sleep_ms(50);
        traffic_must_be_well(traffic);
    }
}

/* SIGSTOP in the middle of its work, its partitions are another one's, SIGCONT: what it wants to
 * write then must match no row. */
static void stands_still_until_replaced(void **state)
{
    (void)state;
    speeds[0] = deployment_start(deployment, "dovetail-speed", "--instance", "still", NULL);
    traffic_await_answers(traffic, 10, speeds, 1);
    for (int i = 0; i < (is_long() ? 10 : 2); i++) {
        pause_below(100);
        child_signal(speeds[0], SIGSTOP);
        speeds[1] = deployment_start(deployment, "dovetail-speed", "--instance", "other", NULL);
        await_replaced("still");
        child_signal(speeds[0], SIGCONT);
        traffic_await_answers(traffic, 10, speeds, 2);
        child_stop(speeds[1]);
        speeds[1] = NULL;
        traffic_await_end(traffic, speeds, 1);
    }
    print_message("fenced: %s\n",
                  strstr(child_errors(speeds[0]), "fenced, nothing was written") != NULL
                      ? "a flush was refused"
                      : "no flush was under way");
    traffic_prove(traffic, deployment, speeds, 1);
    child_stop(speeds[0]);
}

/* An owner that was stopped within a flush holds the position rows, here by a session of ours that
 * begins like one: whoever is given the partitions ends it. */
static void a_flush_stands_still(void **state)
{
    (void)state;
    speeds[0] = deployment_start(deployment, "dovetail-speed", NULL);
    traffic_await_answers(traffic, 10, speeds, 1);
    child_stop(speeds[0]);
    PGconn *stalled = deployment_connect(deployment);
    PQclear(database_ask(stalled, "SET application_name = 'dovetail-speed flush'"));
    PGresult *result =
        database_ask(stalled, "BEGIN; SELECT * FROM dovetail_internal.position FOR UPDATE");
    assert_int_equal(PQntuples(result), PARTITIONS);
    PQclear(result);
    speeds[0] = deployment_start(deployment, "dovetail-speed", NULL);
    traffic_prove(traffic, deployment, speeds, 1);
    assert_non_null(strstr(child_errors(speeds[0]), "stands still in the middle of a transaction"));
    result = database_ask(stalled, "COMMIT");
    assert_int_equal(PQstatus(stalled), CONNECTION_BAD);
    PQclear(result);
    PQfinish(stalled);
    child_stop(speeds[0]);
}

/* Until the kernel says that it was stopped. */
static void await_stopped(const struct child *child)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)child_pid(child));
    for (int64_t deadline = stack_now_ms() + STACK_WAIT_MS;; stack_sleep_ms(20)) {
        FILE *in = fopen(path, "r");
        if (in == NULL || fgets(line, sizeof line, in) == NULL || stack_now_ms() > deadline)
            fail_msg("%s was not stopped", child_name(child));
        fclose(in);
        if (strstr(line, ") T ") != NULL)
            return;
        traffic_must_be_well(traffic);
    }
}

/* The only process is stopped within a flush, and holds the position rows: nobody is given its
 * partitions. Whoever needs the rows ends that session, and goes on; when the process goes on, too,
 * nothing counts twice. */
static void the_only_flush_stands_still(void **state)
{
    (void)state;
    static const struct {
        const char *match;
        const char *command[4];
    } cases[] = {
        {"INSERT INTO dovetail_internal.view_ledger", {"dovetail-batch", "run"}},
        {"COMMIT", {"dovetail", "init"}},
        {"PQputCopyEnd", {"dovetail", "resume", "orders", "--accept-gap"}},
        {"UPDATE dovetail_internal.speed", {"dovetail-batch", "run"}},
    };
    int count = is_long() ? 4 : 2;
    for (int i = 0; i < count; i++) {
        speeds[0] = start_with("stop", cases[i].match, 20);
        await_stopped(speeds[0]);
        /* A new version, which fences; it counts nothing that the others do not. */
        if (strcmp(cases[i].command[1], "init") == 0)
            deployment_define_view(deployment, "{\"view\": \"stopped\", \"source\": \"orders\","
                                               " \"where\": \"shop IS NULL AND shop IS NOT NULL\","
                                               " \"window\": {\"type\": \"none\"},"
                                               " \"measures\": {\"n\": \"count(*)\"}}");
        struct child *command =
            deployment_run(deployment, 0, cases[i].command[0], cases[i].command[1],
                           cases[i].command[2], cases[i].command[3], NULL);
        if (strstr(child_errors(command), "stands still in the middle of a transaction") == NULL)
            fail_msg("%s %s did not wait for it: %s", cases[i].command[0], cases[i].command[1],
                     child_errors(command));
        child_signal(speeds[0], SIGCONT);
        traffic_await_answers(traffic, 10, speeds, 1);
        if (i + 1 == count)
            traffic_prove(traffic, deployment, speeds, 1);
        child_stop(speeds[0]);
    }
}

/* A transaction of ours holds the position rows for longer than max.poll.interval.ms. */
static void a_flush_takes_longer_than_the_poll_interval(void **state)
{
    (void)state;
    speeds[0] = deployment_start(deployment, "dovetail-speed", NULL);
    speeds[1] = deployment_start(deployment, "dovetail-speed", NULL);
    traffic_await_answers(traffic, 10, speeds, 2);
    PGconn *connection = deployment_connect(deployment);
    PQclear(database_ask(connection, "BEGIN; SELECT * FROM dovetail_internal.position FOR UPDATE"));
    stack_sleep_ms(9000); /* longer than the interval */
    PQfinish(connection);
    children_must_run(speeds, 2);
    traffic_prove(traffic, deployment, speeds, 2);
    child_stop(speeds[0]);
    child_stop(speeds[1]);
}

int main(int argc, char **argv)
{
    if (argc > 1) /* a pattern for the names of tests */
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(killed_before_every_statement, set_up, tear_down),
        cmocka_unit_test_setup_teardown(joins_and_leaves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stands_still_until_replaced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_flush_stands_still, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_only_flush_stands_still, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_flush_takes_longer_than_the_poll_interval,
                                        set_up_impatient, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
