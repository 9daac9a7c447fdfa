/* Out of memory, at the first allocation, at the second, and so on (tests/faults/alloc_shim.c): no
 * program crashes; each goes on, or ends with a message; and what it leaves is exact.
 *
 * With DOVETAIL_FAULTS=all at every allocation; otherwise at some, which DOVETAIL_SEED repeats.
 * Allocations of librdkafka are left out, because it aborts by design: to everybody else that is a
 * kill -9, of which test_kills knows. Those of Kerberos are left out, too: it crashes, and the
 * conninfo keeps it out. */
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
#include <unistd.h>

#include "tests/support/http.h"
#include "tests/support/numbers.h"
#include "tests/support/orders.h"
#include "tests/support/stack.h"

enum { ARGUMENTS_MAX = 8, PATH_BYTES = 700, POINTS = 10 };

static struct deployment *deployment;
static struct numbers numbers;
static uint64_t moments; /* random */

static int set_up(void **state)
{
    (void)state;
    char conninfo[700];
    moments = stack_seed();
    deployment = deployment_create();
    numbers_define(&numbers, deployment);
    snprintf(conninfo, sizeof conninfo, "%s gssencmode=disable", deployment->postgres);
    deployment_set(deployment, NULL, "postgres", json_string(conninfo));
    deployment_set(deployment, "kafka", "session.timeout.ms", json_integer(6000));
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_produce_all(&numbers, 300);
    numbers_await_end(&numbers, speed);
    child_stop(speed);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    deployment_destroy(deployment);
    deployment = NULL;
    return 0;
}

/* --- programs that are short of memory --- */

static char log_path[PATH_BYTES];

static struct child *start(long at, bool more, const char *program, const char *const *arguments)
{
    const char *argv[ARGUMENTS_MAX + 10] = {"/usr/bin/env"};
    char settings[3][PATH_BYTES + 20], path[PATH_MAX], shim[PATH_MAX];
    size_t count = 1;
    snprintf(log_path, sizeof log_path, "%s/allocations", deployment->directory);
    unlink(log_path);
    snprintf(settings[0], sizeof settings[0], "LD_PRELOAD=%.600s",
             stack_program("tests/faults/alloc_shim.so", shim, sizeof shim));
    snprintf(settings[1], sizeof settings[1], "ALLOC_AT=%ld", at);
    snprintf(settings[2], sizeof settings[2], "ALLOC_LOG=%s", log_path);
    for (int i = 0; i < 3; i++)
        argv[count++] = settings[i];
    if (more)
        argv[count++] = "ALLOC_MORE=1";
    argv[count++] = stack_program(program, path, sizeof path);
    argv[count++] = "--config";
    argv[count++] = deployment->config;
    for (size_t i = 0; arguments[i] != NULL; i++)
        argv[count++] = arguments[i];
    return child_start(deployment->directory, program, argv);
}

/* What the shim wrote: callers, and numbers of allocations. */
static const char *shim_log(void)
{
    static char text[8000];
    FILE *in = fopen(log_path, "r");
    size_t length = in != NULL ? fread(text, 1, sizeof text - 1, in) : 0;
    text[length] = '\0';
    if (in != NULL)
        fclose(in);
    return text;
}

static long allocations(void)
{
    long number = 0;
    for (const char *line = shim_log(); line != NULL && *line != '\0';) {
        char *end;
        long found = strtol(line, &end, 10);
        if (*end == '\n')
            number = found;
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return number;
}

static void must_have_told(struct child *child, int code, long at)
{
    if (code != 0 && code != 1 && code != 2)
        fail_msg("%s ended with %d at allocation %ld: %s\n%s", child_name(child), code, at,
                 child_errors(child), shim_log());
    if (code != 0 && child_errors(child)[0] == '\0' && child_output(child)[0] == '\0')
        fail_msg("%s ended with %d at allocation %ld and told nothing\n%s", child_name(child), code,
                 at, shim_log());
}

/* The points to try among `total`. */
static long next_point(long at, long total)
{
    if (getenv("DOVETAIL_FAULTS") != NULL)
        return at + 1;
    long stride = 2 * total / POINTS + 1;
    return at + 1 + (long)orders_below(&moments, (size_t)stride);
}

/* A program that does its work and ends. */
static void try_command(const char *program, const char *first, const char *second)
{
    const char *const arguments[] = {first, second, NULL};
    struct child *child = start(0, false, program, arguments);
    child_expect(child, 0);
    long total = allocations();
    int failed = 0, tried = 0;
    for (long at = next_point(0, total); at <= total; at = next_point(at, total)) {
        child = start(at, tried % 3 == 2, program, arguments);
        int code = child_wait(child, STACK_WAIT_MS);
        must_have_told(child, code, at);
        failed += code != 0;
        tried++;
    }
    numbers_check_now(&numbers);
    print_message("%s %s: %d of %ld allocations, %d ended with a message\n", program, first, tried,
                  total, failed);
    assert_in_range(tried, 1, INT_MAX);
}

static void commands_are_short_of_memory(void **state)
{
    (void)state;
    try_command("dovetail", "validate", NULL);
    try_command("dovetail", "init", NULL);
    try_command("dovetail", "query", "sums");
    try_command("dovetail", "status", NULL);
    try_command("dovetail", "verify", "sums");
    try_command("dovetail", "archive", "verify");
    numbers_check(&numbers);
}

static void runs_are_short_of_memory(void **state)
{
    (void)state;
    try_command("dovetail-batch", "run", "--full");
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    numbers_produce_all(&numbers, 300);
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_await_end(&numbers, speed);
    child_stop(speed);
    try_command("dovetail-batch", "run", NULL);
    deployment_run(deployment, 0, "dovetail-batch", "run", "--full", NULL);
    numbers_check(&numbers);
    deployment_run(deployment, 0, "dovetail", "archive", "verify", NULL);
}

/* Waits until P is at the end, or the process has ended. */
static void await_end_of(struct child *child)
{
    char sql[200];
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM dovetail_internal.position HAVING sum(next_offset) = %" PRId64,
             numbers.ends[0] + numbers.ends[1]);
    while (child_is_running(child) && deployment_number(deployment, sql) < 0) {
        if (stack_now_ms() > deadline) {
            children_show();
            fail_msg("neither goes on nor ends\n%s", shim_log());
        }
        stack_sleep_ms(20);
    }
}

static void the_speed_layer_is_short_of_memory(void **state)
{
    (void)state;
    static const char *const arguments[] = {NULL};
    numbers_produce_all(&numbers, 30);
    struct child *speed = start(0, false, "dovetail-speed", arguments);
    numbers_await_end(&numbers, speed);
    child_stop(speed);
    long total = allocations();
    int ended = 0, tried = 0;
    for (long at = next_point(0, total); at <= total; at = next_point(at, total)) {
        numbers_produce_all(&numbers, 30);
        speed = start(at, tried % 3 == 2, "dovetail-speed", arguments);
        await_end_of(speed);
        if (child_is_running(speed))
            child_signal(speed, SIGTERM);
        int code = child_wait(speed, STACK_WAIT_MS);
        must_have_told(speed, code, at);
        ended += code != 0;
        numbers_check_now(&numbers);
        tried++;
    }
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_await_end(&numbers, speed);
    numbers_check(&numbers);
    child_stop(speed);
    print_message("dovetail-speed: %d of %ld allocations, %d ended with a message\n", tried, total,
                  ended);
}

/* Some questions; true once one was answered. */
static bool ask(struct child *serving)
{
    bool answered = false;
    struct http_session *session = http_session_create(deployment->port);
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    for (int i = 0; i < 400 && !answered && child_is_running(serving); i++) {
        struct http_reply reply;
        http_get(session, "/v1/views/sums/rows", &reply);
        answered = reply.status == 200;
        if (reply.status != 0 && reply.status != 200 && reply.status != 500 && reply.status != 503)
            fail_msg("%d %s", reply.status, reply.body);
        http_reply_free(&reply);
        if (stack_now_ms() > deadline)
            break;
        if (!answered)
            stack_sleep_ms(20);
    }
    http_session_destroy(session);
    return answered;
}

static void serving_is_short_of_memory(void **state)
{
    (void)state;
    static const char *const arguments[] = {NULL};
    deployment_serve(deployment); /* a port */
    child_stop(deployment->serving);
    struct child *serving = start(0, false, "dovetail-serving", arguments);
    assert_true(ask(serving));
    child_stop(serving);
    long total = allocations();
    int ended = 0, tried = 0;
    for (long at = next_point(0, total); at <= total; at = next_point(at, total)) {
        serving = start(at, false, "dovetail-serving", arguments);
        bool answered = ask(serving);
        bool runs = child_is_running(serving);
        if (runs && !answered)
            fail_msg("it runs and does not answer, at allocation %ld\n%s", at, shim_log());
        if (runs)
            child_signal(serving, SIGTERM);
        int code = child_wait(serving, STACK_WAIT_MS);
        must_have_told(serving, code, at);
        ended += !runs;
        tried++;
    }
    print_message("dovetail-serving: %d of %ld allocations, %d ended with a message\n", tried,
                  total, ended);
}

int main(int argc, char **argv)
{
    if (argc > 1) /* a pattern for the names of tests */
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(commands_are_short_of_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(runs_are_short_of_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_speed_layer_is_short_of_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(serving_is_short_of_memory, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
