/* Every step, one after the other: what a batch process does to files and to PostgreSQL is counted,
 * and the process is killed before the first step, then before the second, and so on, until one
 * comes through (tests/faults/steps_shim.c). The same with disks that are full or fail. Whatever
 * happens, every answer is exact, no record is lost, and nothing is left over in the archive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/orders.h"
#include "tests/support/stack.h"
#include "tests/support/traffic.h"

enum { PARTITIONS = 2, STEPS_MAX = 2000, ARGUMENTS_MAX = 16, LINE_BYTES = 100, PATH_BYTES = 700 };

static struct deployment *deployment;
static struct traffic *traffic;
static struct child *speed;
static int lines; /* produced */

static void define(void)
{
    deployment = deployment_create();
    deployment_define_source(deployment,
                             "{\"source\": \"sales\", \"partitions\": 1, \"event_time\":"
                             " {\"field\": \"t\", \"format\": \"epoch_s\"},"
                             " \"fields\": {\"t\": \"integer\", \"shop\": \"string\"}}");
    deployment_define_view(deployment,
                           "{\"view\": \"counts\", \"source\": \"sales\", \"group_by\": [\"shop\"],"
                           " \"measures\": {\"c\": \"count(*)\"}, \"window\":"
                           " {\"type\": \"tumbling\", \"size\": \"1h\"}}");
    lines = 0;
}

static int set_up(void **state)
{
    (void)state;
    define();
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    return 0;
}

static int set_up_traffic(void **state)
{
    (void)state;
    deployment = deployment_create();
    traffic_define(deployment, orders_views, 1);
    /* Each partition adds the same steps. */
    json_t *source = json_loads(orders_source, 0, NULL);
    json_object_set_new(source, "partitions", json_integer(PARTITIONS));
    char *text = json_dumps(source, 0);
    deployment_define_source(deployment, text);
    free(text);
    json_decref(source);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_serve(deployment);
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

/* --- programs with a fault --- */

/* Starts `program` with a fault at step `at`. */
static struct child *start(const char *kind, int at, const char *action, const char *program,
                           const char *const *arguments)
{
    const char *argv[ARGUMENTS_MAX + 12] = {"/usr/bin/env"};
    char settings[6][PATH_BYTES];
    char path[PATH_BYTES / 2];
    size_t count = 1;
    snprintf(settings[0], PATH_BYTES, "LD_PRELOAD=%s",
             realpath(stack_program("tests/faults/steps_shim.so", path, sizeof path),
                      (char[PATH_MAX]){0}));
    snprintf(settings[1], PATH_BYTES, "STEPS_KIND=%s", kind);
    snprintf(settings[2], PATH_BYTES, "STEPS_DIRECTORY=%s/archive", deployment->directory);
    snprintf(settings[3], PATH_BYTES, "STEPS_AT=%d", at);
    snprintf(settings[4], PATH_BYTES, "STEPS_ACTION=%s", action);
    snprintf(settings[5], PATH_BYTES, "STEPS_LOG=%s/steps", deployment->directory);
    for (int i = 0; i < 6; i++)
        argv[count++] = settings[i];
    argv[count++] = "ASAN_OPTIONS=verify_asan_link_order=0";
    argv[count++] = stack_program(program, path, sizeof path);
    argv[count++] = "--config";
    argv[count++] = deployment->config;
    for (size_t i = 0; arguments[i] != NULL; i++)
        argv[count++] = arguments[i];
    return child_start(deployment->directory, program, argv);
}

static const char *const run_arguments[] = {"run", NULL};
static const char *const full_arguments[] = {"run", "--full", NULL};
static const char *const repair_arguments[] = {"archive", "repair", NULL};

/* The last step that a fault came to. */
static const char *last_step(void)
{
    static char line[200];
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/steps", deployment->directory);
    FILE *in = fopen(path, "r");
    line[0] = '\0';
    while (in != NULL && fgets(line, sizeof line, in) != NULL)
        continue;
    if (in != NULL)
        fclose(in);
    return line;
}

/* --- records --- */

static void write_lines(const char *name, int first, int count)
{
    char *text = malloc((size_t)count * LINE_BYTES + 1);
    size_t length = 0;
    assert_non_null(text);
    for (int i = first; i < first + count; i++)
        length += (size_t)snprintf(text + length, LINE_BYTES, "{\"t\": %d, \"shop\": \"s%d\"}\n",
                                   i * 10, i % 5);
    deployment_write(deployment, name, text);
    free(text);
}

static char *path_of(const char *name, char *out)
{
    snprintf(out, PATH_BYTES, "%s/%s", deployment->directory, name);
    return out;
}

static void produce(int count)
{
    char path[PATH_BYTES];
    write_lines("events", lines, count);
    deployment_run(deployment, 0, "dovetail", "produce", "sales", path_of("events", path), NULL);
    lines += count;
}

static void expect_counted(int64_t count)
{
    int64_t found = deployment_number(deployment, "SELECT coalesce(sum(c), 0)::bigint FROM"
                                                  " dovetail.counts");
    if (found != count)
        fail_msg("%" PRId64 " records are counted, not %" PRId64 "; the last fault was at step %s",
                 found, count, last_step());
}

/* Nothing is missing, damaged or left over in the archive. */
static void expect_clean(void)
{
    char command[PATH_BYTES + 100];
    deployment_run(deployment, 0, "dovetail", "archive", "verify", NULL);
    snprintf(command, sizeof command, "test -z \"$(find '%s/archive' -name '.*.tmp')\"",
             deployment->directory);
    if (system(command) != 0)
        fail_msg("a temporary file is left in the archive; the last fault was at step %s",
                 last_step());
}

/* --- kills --- */

/* Under a load of questions, with events that keep coming. */
static void runs_are_killed_at_every_step(void **state)
{
    (void)state;
    const struct traffic_options options = {.seed = stack_seed(),
                                            .views = orders_views,
                                            .view_count = 1,
                                            .partitions = PARTITIONS,
                                            .rate = 200,
                                            .readers = 1};
    int at = 1;
    traffic = traffic_start(deployment, &options);
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    traffic_await_answers(traffic, 10, &speed, 1);
    for (;; at++) {
        assert_true(at < STEPS_MAX);
        struct child *batch = start("changes", at, "kill", "dovetail-batch", run_arguments);
        int code = child_wait(batch, STACK_WAIT_MS);
        if (code != 0 && code != -SIGKILL)
            fail_msg("step %s: ended with %d: %s", last_step(), code, child_errors(batch));
        traffic_must_be_well(traffic);
        children_must_run(&speed, 1);
        if (code == 0)
            break;
    }
    print_message("%d steps\n", at - 1);
    assert_true(at > 50);
    traffic_await_answers(traffic, 10, &speed, 1);
    traffic_stop_producing(traffic);
    traffic_await_end(traffic, &speed, 1);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    traffic_await_answers(traffic, 10, &speed, 1);
    traffic_stop_reading(traffic);
    traffic_check_all(traffic, deployment);
    deployment_run(deployment, 0, "dovetail", "verify", orders_views[0].name, NULL);
    expect_clean();
}

/* Repeats a program until it is not killed any more. */
static int kill_until_done(const char *kind, const char *program, const char *const *arguments)
{
    for (int at = 1;; at++) {
        assert_true(at < STEPS_MAX);
        struct child *child = start(kind, at, "kill", program, arguments);
        int code = child_wait(child, STACK_WAIT_MS);
        if (code == 0)
            return at - 1;
        if (code != -SIGKILL)
            fail_msg("step %s: ended with %d: %s%s", last_step(), code, child_output(child),
                     child_errors(child));
    }
}

static void imports_are_killed_at_every_step(void **state)
{
    (void)state;
    char path[PATH_BYTES];
    write_lines("history.jsonl", 0, 500);
    const char *const arguments[] = {"import", "sales", path_of("history.jsonl", path), NULL};
    int steps = kill_until_done("changes", "dovetail-batch", arguments);
    print_message("%d steps\n", steps);
    assert_true(steps > 20);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    expect_counted(500);
    expect_clean();
}

/* The first segment, spoilt. */
static void spoil(void)
{
    char command[PATH_BYTES + 200];
    snprintf(
        command, sizeof command,
        "set -e; for f in '%s'/archive/*/0/00000000000000000000-*; do printf x >> \"$f\"; done",
        deployment->directory);
    assert_int_equal(system(command), 0);
}

static void repairs_are_killed_at_every_step(void **state)
{
    (void)state;
    produce(500);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    /* Another level, so that the file gets another checksum. */
    deployment_set(deployment, "batch", "compression_level", json_integer(1));
    spoil();
    deployment_run(deployment, 1, "dovetail", "archive", "verify", NULL);
    int steps = kill_until_done("changes", "dovetail", repair_arguments);
    print_message("%d steps\n", steps);
    assert_true(steps > 10);
    deployment_run(deployment, 0, "dovetail-batch", "run", "--full", NULL);
    expect_counted(500);
    expect_clean();
}

/* --- disks --- */

/* Fails at each step in turn, saying so and where, and changes nothing that anybody reads. */
static int fail_until_done(const char *kind, int number, const char *place, const char *program,
                           const char *const *arguments)
{
    char action[20];
    snprintf(action, sizeof action, "%d", number);
    int64_t counted = deployment_number(deployment, "SELECT coalesce(sum(c), 0)::bigint FROM"
                                                    " dovetail.counts");
    for (int at = 1;; at++) {
        assert_true(at < STEPS_MAX);
        struct child *child = start(kind, at, action, program, arguments);
        int code = child_wait(child, STACK_WAIT_MS);
        if (code == 0)
            return at - 1;
        if (code != 1 || (strstr(child_errors(child), strerror(number)) == NULL &&
                          strstr(child_output(child), strerror(number)) == NULL))
            fail_msg("step %s: ended with %d: %s%s", last_step(), code, child_output(child),
                     child_errors(child));
        if (strstr(child_errors(child), place) == NULL)
            fail_msg("step %s: no place in \"%s\"", last_step(), child_errors(child));
        expect_counted(counted);
    }
}

static void disks_fail_at_every_step(void **state)
{
    (void)state;
    static const int numbers[] = {ENOSPC, EIO, EROFS};
    int steps = 0;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        produce(100);
        steps +=
            fail_until_done("writes", numbers[i], "archive: ", "dovetail-batch", run_arguments);
        expect_counted(lines);
        expect_clean();
    }
    print_message("%d steps of writing\n", steps);
    assert_true(steps > 20);
    steps = fail_until_done("reads", EIO, "archive: ", "dovetail-batch", full_arguments);
    print_message("%d steps of reading\n", steps);
    assert_true(steps > 5);
    expect_clean();
}

/* Nothing can be written any more, from one moment to the next, and later it can again. */
static void a_disk_is_full_for_a_while(void **state)
{
    (void)state;
    char action[20];
    snprintf(action, sizeof action, "+%d", ENOSPC);
    produce(100);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    produce(100);
    for (int at = 1; at < 5; at++) {
        struct child *child = start("writes", at, action, "dovetail-batch", run_arguments);
        assert_int_equal(child_wait(child, STACK_WAIT_MS), 1);
        assert_non_null(strstr(child_errors(child), strerror(ENOSPC)));
        expect_counted(100);
    }
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    expect_counted(200);
    expect_clean();
}

/* --- spilling --- */

/* More groups than batch.memory holds, each of its own shop. */
static void produce_shops(int first, int count)
{
    char path[PATH_BYTES];
    char *text = malloc((size_t)count * LINE_BYTES + 1);
    size_t length = 0;
    assert_non_null(text);
    for (int i = first; i < first + count; i++)
        length += (size_t)snprintf(text + length, LINE_BYTES, "{\"t\": 7, \"shop\": \"s%d\"}\n", i);
    deployment_write(deployment, "shops", text);
    free(text);
    deployment_run(deployment, 0, "dovetail", "produce", "sales", path_of("shops", path), NULL);
    lines += count;
}

static int count_spill_files(void)
{
    char command[PATH_BYTES + 100];
    char line[20] = "";
    snprintf(command, sizeof command, "find '%s/archive' -name 'dovetail-spill-*' | wc -l",
             deployment->directory);
    FILE *in = popen(command, "r");
    assert_non_null(in);
    assert_non_null(fgets(line, sizeof line, in));
    pclose(in);
    return atoi(line);
}

/* Groups, and the rows that they are compared with, go to disk: whatever becomes of the writes, the
 * old answer or the new one is served, and no file is left after the next run. */
static void spills_fail_at_every_step(void **state)
{
    (void)state;
    enum { SHOPS = 16000, MORE = 500 };
    static const int numbers[] = {ENOSPC, EROFS};
    deployment_set(deployment, "batch", "memory", json_string("4 MiB"));
    deployment_set(deployment, "batch", "threads", json_integer(1));
    produce_shops(0, SHOPS);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    expect_counted(lines);
    assert_true(deployment_number(deployment, "SELECT spilled_runs FROM dovetail_internal.run"
                                              " ORDER BY run DESC LIMIT 1") > 0);
    produce_shops(SHOPS - MORE, 2 * MORE); /* rows are closed, and new ones written */
    int steps = 0;
    int left = 0;
    for (;;) {
        struct child *child = start("writes", ++steps, "kill", "dovetail-batch", full_arguments);
        int code = child_wait(child, STACK_WAIT_MS);
        if (code == 0)
            break;
        assert_int_equal(code, -SIGKILL);
        expect_counted(SHOPS);
        left += count_spill_files() > 0;
        assert_true(count_spill_files() <= 1);
    }
    expect_counted(lines);
    assert_true(left > 0); /* else the next line says nothing */
    assert_int_equal(count_spill_files(), 0);
    print_message("%d steps of writing, %d with a file left over\n", steps - 1, left);
    assert_true(steps > 10);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        assert_true(fail_until_done("writes", numbers[i], "batch.spill: ", "dovetail-batch",
                                    full_arguments) > 5);
    assert_true(fail_until_done("reads", EIO, strerror(EIO), "dovetail-batch", full_arguments) >
                10);
    deployment_run(deployment, 0, "dovetail-batch", "run", "--full", NULL);
    expect_counted(lines);
    assert_int_equal(count_spill_files(), 0);
    expect_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(runs_are_killed_at_every_step, set_up_traffic, tear_down),
        cmocka_unit_test_setup_teardown(imports_are_killed_at_every_step, set_up, tear_down),
        cmocka_unit_test_setup_teardown(repairs_are_killed_at_every_step, set_up, tear_down),
        cmocka_unit_test_setup_teardown(disks_fail_at_every_step, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_disk_is_full_for_a_while, set_up, tear_down),
        cmocka_unit_test_setup_teardown(spills_fail_at_every_step, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
