/* kill -9 at random moments, and connections that break in the middle of anything: whatever
 * happens, every answer is exact, and afterwards nothing is missing.
 *
 * Events arrive and readers check every answer all the while (tests/support/traffic.h).
 * DOVETAIL_SEED repeats events, questions and pauses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/orders.h"
#include "tests/support/proxy.h"
#include "tests/support/stack.h"
#include "tests/support/traffic.h"

enum { PARTITIONS = 4, SPEEDS = 2 };

static struct deployment *deployment;
static struct traffic *traffic;
static struct proxy *proxy;
static struct child *speeds[SPEEDS];
static uint64_t moments; /* random */
static struct traffic_options options = {.partitions = PARTITIONS,
                                         .rate = 500,
                                         .readers = 1,
                                         .transactions = true,
                                         .dedupe_within = 100};

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    deployment_set(deployment, "kafka", "session.timeout.ms", json_integer(6000));
    deployment_set(deployment, "kafka", "heartbeat.interval.ms", json_integer(500));
    /* Small, so that there is always something between two segments. */
    deployment_set(deployment, "batch", "segment_size", json_integer(65536));
    traffic_define_with(deployment, &options);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_serve(deployment);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    traffic_destroy(traffic);
    deployment_destroy(deployment);
    proxy_stop(proxy);
    proxy = NULL;
    traffic = NULL;
    deployment = NULL;
    for (int i = 0; i < SPEEDS; i++)
        speeds[i] = NULL;
    return 0;
}

static void begin(bool may_be_unavailable)
{
    options.seed = stack_seed();
    options.may_be_unavailable = may_be_unavailable;
    moments = options.seed;
    traffic = traffic_start(deployment, &options);
    speeds[0] = deployment_start(deployment, "dovetail-speed", NULL);
    traffic_await_answers(traffic, 20, speeds, SPEEDS);
}

static void pause_below(int ms)
{
    stack_sleep_ms((int)orders_below(&moments, (size_t)ms));
}

static void batch_runs_are_killed(void **state)
{
    (void)state;
    int published = 0, killed = 0;
    begin(false);
    for (int i = 0; i < 30; i++) {
        struct child *batch = deployment_start(deployment, "dovetail-batch", "run", NULL);
        pause_below(i % 2 == 0 ? 120 : 600);
        if (child_is_running(batch)) {
            child_kill(batch);
            killed++;
        } else {
            child_expect(batch, 0);
            published++;
        }
        traffic_must_be_well(traffic);
        children_must_run(speeds, SPEEDS);
    }
    traffic_prove(traffic, deployment, speeds, SPEEDS);
    print_message("%d runs were killed, %d came through\n", killed, published);
    assert_true(killed > 0);
}

static void the_speed_layer_is_killed(void **state)
{
    (void)state;
    begin(false);
    for (int i = 0; i < 16; i++) {
        int which = (int)orders_below(&moments, SPEEDS);
        if (speeds[which] != NULL)
            child_kill(speeds[which]);
        speeds[which] = NULL;
        if (i % 4 == 0)
            deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
        pause_below(300);
        speeds[which] = deployment_start(deployment, "dovetail-speed", NULL);
        pause_below(i % 3 == 0 ? 100 : 1200);
        traffic_must_be_well(traffic);
        children_must_run(speeds, SPEEDS);
    }
    traffic_prove(traffic, deployment, speeds, SPEEDS);
}

/* The programs reach PostgreSQL only through the proxy. */
static int set_up_behind_proxy(void **state)
{
    char conninfo[700];
    (void)set_up(state);
    child_stop(deployment->serving);
    PGconn *connection = deployment_connect(deployment);
    proxy = proxy_start(PQhost(connection), atoi(PQport(connection)));
    PQfinish(connection);
    snprintf(conninfo, sizeof conninfo, "%s host=127.0.0.1 port=%d", deployment->postgres,
             proxy_port(proxy));
    deployment_set(deployment, NULL, "postgres", json_string(conninfo));
    deployment_serve(deployment);
    return 0;
}

static void connections_break(void **state)
{
    (void)state;
    int done = 0, failed = 0;
    begin(true);
    speeds[1] = deployment_start(deployment, "dovetail-speed", NULL);
    traffic_await(traffic, "owners of partitions",
                  "SELECT count(DISTINCT owner) FROM dovetail_internal.position", 2, speeds, 2);
    for (int i = 0; i < 30; i++) {
        /* A run may fail now; what it may not is do half of its work. */
        struct child *batch =
            i % 3 == 0 ? deployment_start(deployment, "dovetail-batch", "run", NULL) : NULL;
        pause_below(250);
        proxy_refuse(proxy, i % 6 == 5);
        proxy_cut(proxy);
        pause_below(i % 6 == 5 ? 1500 : 250);
        proxy_refuse(proxy, false);
        if (batch != NULL) {
            int code = child_wait(batch, STACK_WAIT_MS);
            assert_true(code == 0 || code == 1);
            done += code == 0;
            failed += code == 1;
        }
        traffic_must_be_well(traffic);
        children_must_run(speeds, SPEEDS);
        children_must_run(&deployment->serving, 1);
    }
    print_message("%d connections were broken; %d runs came through, %d failed\n",
                  proxy_broken(proxy), done, failed);
    traffic_prove(traffic, deployment, speeds, SPEEDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(batch_runs_are_killed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_speed_layer_is_killed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(connections_break, set_up_behind_proxy, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
