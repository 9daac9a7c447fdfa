/* Kept answers while flushes and publications go on: each question is asked several times in a row,
 * and every single answer, kept or not, must be exactly what the records below its own receipt
 * give. Once with PostgreSQL asked each time whether anything moved, once with an age permitted.
 * DOVETAIL_SEED repeats events and questions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/http.h"
#include "tests/support/orders.h"
#include "tests/support/stack.h"
#include "tests/support/traffic.h"

enum { PARTITIONS = 4, STEP_ANSWERS = 150 };

static struct deployment *deployment;
static struct traffic *traffic;

static int tear_down(void **state)
{
    (void)state;
    traffic_destroy(traffic);
    deployment_destroy(deployment);
    traffic = NULL;
    deployment = NULL;
    return 0;
}

static int64_t hits(void)
{
    static const char name[] = "\ndovetail_cache_hits_total ";
    struct http_reply reply;
    struct http_session *session = http_session_create(deployment->port);
    http_get(session, "/metrics", &reply);
    assert_int_equal(reply.status, 200);
    const char *line = strstr(reply.body, name);
    assert_non_null(line);
    int64_t count = strtoll(line + strlen(name), NULL, 10);
    http_reply_free(&reply);
    http_session_destroy(session);
    return count;
}

static void run(int age_ms)
{
    const struct traffic_options options = {.seed = stack_seed(),
                                            .partitions = PARTITIONS,
                                            .rate = 300,
                                            .readers = 2,
                                            .repeats = 6,
                                            .transactions = true};
    deployment = deployment_create();
    deployment_set(deployment, "serving", "cache_age_ms", json_integer(age_ms));
    traffic_define(deployment, orders_views, ORDERS_VIEWS);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_serve(deployment);
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    traffic = traffic_start(deployment, &options);
    for (int i = 0; i < 4; i++) {
        traffic_await_answers(traffic, STEP_ANSWERS, &speed, 1);
        if (i == 2)
            deployment_run(deployment, 0, "dovetail", "runs", "rollback", "1", NULL);
        else
            deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    }
    traffic_await_answers(traffic, STEP_ANSWERS, &speed, 1);
    traffic_stop_producing(traffic);
    traffic_await_end(traffic, &speed, 1);
    traffic_stop_reading(traffic);
    int64_t count = hits();
    if (age_ms > 0) { /* an answer may be of before the end */
        child_stop(deployment->serving);
        deployment_set(deployment, "serving", "cache_age_ms", json_integer(0));
        deployment_serve(deployment);
    }
    traffic_check_all(traffic, deployment);
    child_stop(speed);
    child_stop(deployment->serving);
    struct traffic_counts counts = traffic_counts(traffic);
    print_message("%" PRId64 " answers checked at %" PRId64 " positions; %" PRId64 " hits\n",
                  counts.http_answers, counts.positions, count);
    assert_true(counts.positions > 20);
    assert_true(counts.runs >= 3);
    assert_true(count > 50);
}

static void test_asked_each_time(void **state)
{
    (void)state;
    run(0);
}

static void test_with_an_age(void **state)
{
    (void)state;
    run(100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_asked_each_time, tear_down),
        cmocka_unit_test_teardown(test_with_an_age, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
