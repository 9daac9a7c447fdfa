/* The wall clock is set an hour back and an hour forth, now for one program, now for another, while
 * everything goes on (tests/faults/clock_shim.c). No answer depends on it, nothing stands still,
 * and no age that anybody is told is negative. DOVETAIL_SEED repeats events, questions and pauses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/clock.h"
#include "tests/support/http.h"
#include "tests/support/orders.h"
#include "tests/support/stack.h"
#include "tests/support/traffic.h"

enum { SPEED, BATCH, SERVING, CLOCKS };

static const char *const programs[CLOCKS] = {"dovetail-speed", "dovetail-batch",
                                             "dovetail-serving"};
static struct deployment *deployment;
static struct traffic *traffic;
static struct child *children[CLOCKS];
static struct clock *clocks[CLOCKS];
static uint64_t moments; /* random */
static struct traffic_options options = {
    .partitions = 3, .rate = 200, .readers = 1, .transactions = true, .dedupe_within = 100};

/* The program with its own clock. */
static struct child *start(int which, const char *argument)
{
    return clock_start(clocks[which], programs[which], deployment->config, argument);
}

static int set_up(void **state)
{
    (void)state;
    static const char *const names[CLOCKS] = {"clock0", "clock1", "clock2"};
    deployment = deployment_create();
    deployment_set(deployment, "kafka", "session.timeout.ms", json_integer(6000));
    deployment_set(deployment, "kafka", "heartbeat.interval.ms", json_integer(500));
    traffic_define_with(deployment, &options);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    for (int i = 0; i < CLOCKS; i++)
        clocks[i] = clock_create(deployment->directory, names[i]);
    deployment_serve(deployment);
    child_stop(deployment->serving);
    children[SERVING] = start(SERVING, NULL);
    deployment_await_serving(deployment, children[SERVING]);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    traffic_destroy(traffic);
    deployment_destroy(deployment);
    for (int i = 0; i < CLOCKS; i++)
        clock_destroy(clocks[i]);
    return 0;
}

static void set_clock(int which, int hours)
{
    clock_set(clocks[which], hours * INT64_C(3600));
}

/* "freshness_ms" of a view: null or not negative. */
static void no_age_is_negative(void)
{
    struct http_session *session = http_session_create(deployment->port);
    struct http_reply reply;
    http_get(session, "/v1/views/sales/rows?limit=1", &reply);
    assert_int_equal(reply.status, 200);
    const char *found = strstr(reply.body, "\"freshness_ms\":");
    assert_non_null(found);
    const char *value = found + strlen("\"freshness_ms\":");
    if (value[strspn(value, " ")] == '-')
        fail_msg("%.60s", found);
    http_reply_free(&reply);
    http_session_destroy(session);
}

/* What is told of the age of answers goes by PostgreSQL's clock, which nobody has set: no partition
 * is as of a time to come, and in the end each is as of now again. */
static void freshness_is_true(void)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    assert_int_equal(deployment_number(deployment, "SELECT count(*) FROM dovetail_internal.progress"
                                                   " WHERE as_of > clock_timestamp()"),
                     0);
    while (deployment_number(deployment,
                             "SELECT count(*) FROM dovetail_internal.progress WHERE"
                             " as_of < clock_timestamp() - interval '10 minutes'") > 0) {
        if (stack_now_ms() > deadline)
            fail_msg("a partition is as of a time that is long over");
        stack_sleep_ms(50);
    }
}

static void go_on(void)
{
    struct child *running[] = {children[SPEED], children[SERVING]};
    traffic_await_end(traffic, running, 2);
    traffic_await_answers(traffic, 10, running, 2);
    no_age_is_negative();
    freshness_is_true();
}

static void clocks_are_set(void **state)
{
    (void)state;
    options.seed = moments = stack_seed();
    traffic = traffic_start(deployment, &options);
    children[SPEED] = start(SPEED, NULL);
    go_on();
    static const int hours[] = {1, 0, -1, 0, 1, -1, 1};
    for (size_t i = 0; i < sizeof hours / sizeof hours[0]; i++) {
        set_clock(SPEED, hours[i]);
        go_on();
        set_clock(SERVING, hours[i]);
        go_on();
        /* In the middle of a run. */
        children[BATCH] = start(BATCH, "run");
        stack_sleep_ms((int)orders_below(&moments, 200));
        set_clock(BATCH, -hours[i]);
        child_expect(children[BATCH], 0);
        go_on();
    }
    /* No records, and a step: whoever waits for them must hear of them. */
    traffic_pause(traffic, true);
    for (int i = 0; i < CLOCKS; i++)
        set_clock(i, 0);
    stack_sleep_ms(1000);
    for (int i = 0; i < CLOCKS; i++)
        set_clock(i, -1);
    stack_sleep_ms(1000);
    traffic_pause(traffic, false);
    go_on();
    traffic_prove(traffic, deployment, &children[SPEED], 1);
    child_stop(children[SPEED]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(clocks_are_set, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
