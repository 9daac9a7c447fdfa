/* A source that is registered while dovetail-speed runs: it is read, too, without a restart.
 *
 * A static member that leaves and comes anew gets its old assignment from the broker, whatever it
 * subscribes to, so the process has to stay in the group (core/kafka/kafka.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "tests/support/deployment.h"
#include "tests/support/stack.h"

enum { PROCESSES_MAX = 2 };

static struct deployment *deployment;
static struct child *speeds[PROCESSES_MAX];
static int processes;

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    deployment_destroy(deployment);
    deployment = NULL;
    processes = 0;
    return 0;
}

static void define(const char *name)
{
    char text[400];
    snprintf(text, sizeof text,
             "{\"source\": \"%s\", \"event_time\": {\"field\": \"t\", \"format\": \"epoch_s\"},"
             " \"fields\": {\"t\": \"integer\"}}",
             name);
    deployment_define_source(deployment, text);
    snprintf(text, sizeof text,
             "{\"view\": \"of_%s\", \"source\": \"%s\", \"measures\": {\"n\": \"count(*)\"},"
             " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}}",
             name, name);
    deployment_define_view(deployment, text);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
}

/* Every partition of the source's topic has an owner, and its records are counted. */
static void await_counted(const char *source, int records)
{
    char sql[400];
    snprintf(sql, sizeof sql,
             "SELECT sum(counted) FILTER (WHERE owner IS NOT NULL) - 1000000 * count(*) FILTER"
             " (WHERE owner IS NULL) FROM dovetail_internal.position WHERE topic = '%s'",
             deployment_topic(deployment, source));
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    while (deployment_number(deployment, sql) != records) {
        if (stack_now_ms() > end_ms)
            fail_msg("%s: not every record was counted by an owner", source);
        children_must_run(speeds, processes);
        stack_sleep_ms(20);
    }
}

static void produce(const char *source)
{
    deployment_write(deployment, "events", "{\"t\": 1}\n{\"t\": 2}\n{\"t\": 3}\n");
    char path[100];
    snprintf(path, sizeof path, "%s/events", deployment->directory);
    deployment_run(deployment, 0, "dovetail", "produce", source, path, NULL);
}

static void run_with(int count)
{
    define("first");
    for (; processes < count; processes++)
        speeds[processes] = deployment_start(deployment, "dovetail-speed", NULL);
    produce("first");
    await_counted("first", 3);
    define("second");
    produce("second");
    await_counted("second", 3);
    produce("first");
    await_counted("first", 6);
    while (processes > 0)
        child_stop(speeds[--processes]);
}

static void test_one_process(void **state)
{
    (void)state;
    run_with(1);
}

static void test_two_processes(void **state)
{
    (void)state;
    run_with(2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_process, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_two_processes, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
