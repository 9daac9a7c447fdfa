/* Two schedulers at once: one works and is left in peace, the other waits to take its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "tests/support/deployment.h"
#include "tests/support/stack.h"

static struct deployment *deployment;
static struct child *schedulers[2];

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    deployment_define_source(deployment,
                             "{\"source\": \"orders\", \"partitions\": 1, \"event_time\":"
                             " {\"field\": \"t\", \"format\": \"epoch_s\"},"
                             " \"fields\": {\"t\": \"integer\"}}");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    deployment_destroy(deployment);
    deployment = NULL;
    return 0;
}

static void start(int which)
{
    schedulers[which] = deployment_start(deployment, "dovetail-batch", "schedule", NULL);
}

/* `text` is in the messages `times` times, or more. */
static void await_told(int which, const char *text, int times)
{
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    for (int found = 0; found < times;) {
        const char *at = child_errors(schedulers[which]);
        for (found = 0; (at = strstr(at, text)) != NULL; at++)
            found++;
        if (stack_now_ms() > end_ms) {
            children_show();
            fail_msg("no \"%s\" %d times", text, times);
        }
        children_must_run(&schedulers[which], 1);
        stack_sleep_ms(20);
    }
}

static int64_t holder(void)
{
    return deployment_number(deployment,
                             "SELECT pid FROM pg_locks JOIN pg_database AS d ON d.oid = database"
                             " WHERE locktype = 'advisory' AND granted AND objsubid = 1"
                             " AND d.datname = current_database()"
                             " AND (classid::bigint << 32 | objid::bigint) ="
                             " x'646f76657461696c'::bigint");
}

static int64_t await_holder_but(int64_t other)
{
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    for (;;) {
        int64_t found = holder();
        if (found > 0 && found != other)
            return found;
        assert_true(stack_now_ms() < end_ms);
        stack_sleep_ms(20);
    }
}

static void test_two_schedulers(void **state)
{
    (void)state;
    start(0);
    int64_t first = await_holder_but(-1);
    start(1);
    await_told(1, "another scheduler is at work", 1);
    assert_int_equal(holder(), first);
    assert_null(strstr(child_errors(schedulers[0]), "another dovetail-batch wants to work"));

    /* Whoever has something to do gets its turn, once. */
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    deployment_run(deployment, 0, "dovetail", "archive", "verify", NULL);
    int64_t again = await_holder_but(-1);

    /* The one that works is gone. */
    child_stop(schedulers[0]);
    child_stop(schedulers[1]);
    assert_int_equal(holder(), -1);
    start(0);
    again = await_holder_but(-1);
    start(1);
    await_told(1, "another scheduler is at work", 1);
    child_kill(schedulers[0]);
    await_holder_but(again);
    children_must_run(&schedulers[1], 1);
    child_stop(schedulers[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_two_schedulers, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
