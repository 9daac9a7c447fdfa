/* Each message to PostgreSQL, one after the other: lost with its connection, carried out with its
 * answer lost, or answered with a serialization failure or a deadlock. Whatever is hit, of a run, a
 * flush, a registration or a question, nothing is half done, nothing counts twice, and what comes
 * next is whole.
 *
 * With DOVETAIL_FAULTS=all every message; otherwise some, which DOVETAIL_SEED repeats. */
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
#include "tests/support/numbers.h"
#include "tests/support/orders.h"
#include "tests/support/stack.h"
#include "tests/support/wire.h"

enum { MESSAGES_MAX = 3000, TEXT_BYTES = 120 };

static const struct kind {
    enum wire_fault fault;
    const char *sqlstate;
    const char *name;
} kinds[] = {
    {WIRE_LOSE_REQUEST, NULL, "request lost"},
    {WIRE_LOSE_REPLY, NULL, "reply lost"},
    {WIRE_ERROR, "40001", "serialization failure"},
    {WIRE_ERROR, "40P01", "deadlock"},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static struct deployment *deployment;
static struct wire *wire;
static struct numbers numbers;
static uint64_t moments; /* random */

static int set_up(void **state)
{
    (void)state;
    char conninfo[700];
    moments = stack_seed();
    deployment = deployment_create();
    numbers_define(&numbers, deployment);
    PGconn *connection = deployment_connect(deployment);
    wire = wire_start(PQhost(connection), atoi(PQport(connection)));
    PQfinish(connection);
    wire_conninfo(wire, deployment->postgres, conninfo, sizeof conninfo);
    deployment_set(deployment, NULL, "postgres", json_string(conninfo));
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    deployment_destroy(deployment);
    wire_stop(wire);
    wire = NULL;
    deployment = NULL;
    return 0;
}

/* The next message to be hit. */
static int next_after(int at, int stride)
{
    return getenv("DOVETAIL_FAULTS") != NULL ? at + 1
                                             : at + 1 + (int)orders_below(&moments, (size_t)stride);
}

/* Runs a program with the fault; false: it came through without meeting it. */
static bool run_with(const struct kind *kind, int at, const char *program, const char *first,
                     const char *second)
{
    char text[TEXT_BYTES];
    wire_arm(wire, kind->fault, at, kind->sqlstate);
    struct child *child = deployment_start(deployment, program, first, second, NULL);
    int code = child_wait(child, STACK_WAIT_MS);
    bool happened = wire_has_happened(wire, text, sizeof text);
    wire_arm(wire, WIRE_NOTHING, 0, NULL);
    bool told = strlen(child_errors(child)) > 0;
    if ((code != 0 && code != 1) || (code == 1 && !told) || (code == 1 && !happened))
        fail_msg("%s at message %d (%s): %s ended with %d: %s", kind->name, at, text, program, code,
                 child_errors(child));
    return happened;
}

/* --- runs --- */

static void runs_meet_faults_at_every_message(void **state)
{
    (void)state;
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_produce_all(&numbers, 300);
    numbers_await_end(&numbers, speed);
    child_stop(speed);
    for (size_t k = 0; k < KINDS; k++) {
        int faults = 0, at = 1;
        for (; at < MESSAGES_MAX; at = next_after(at, 24)) {
            if (faults % 8 == 0) /* so that there is something to publish, again and again */
                numbers_produce_all(&numbers, 20);
            if (!run_with(&kinds[k], at, "dovetail-batch", "run", NULL))
                break;
            numbers_check_now(&numbers);
            faults++;
        }
        print_message("%s: %d faults in up to %d messages\n", kinds[k].name, faults, at - 1);
        assert_in_range(faults, 3, MESSAGES_MAX);
        deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
        numbers_check_now(&numbers);
    }
    deployment_run(deployment, 0, "dovetail-batch", "run", "--full", NULL);
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_await_end(&numbers, speed);
    numbers_check(&numbers);
    deployment_run(deployment, 0, "dovetail", "archive", "verify", NULL);
    child_stop(speed);
}

/* --- flushes --- */

static void flushes_meet_faults_at_every_message(void **state)
{
    (void)state;
    char text[TEXT_BYTES];
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_produce_all(&numbers, 30);
    numbers_await_end(&numbers, speed);
    for (size_t k = 0; k < KINDS; k++) {
        int faults = 0;
        for (int at = 1; at < 40; at = next_after(at, 8)) {
            wire_arm(wire, kinds[k].fault, at, kinds[k].sqlstate);
            numbers_produce(&numbers, at % 2, 7);
            numbers_await_end(&numbers, speed);
            faults += wire_has_happened(wire, text, sizeof text);
            wire_arm(wire, WIRE_NOTHING, 0, NULL);
            numbers_check_now(&numbers);
        }
        print_message("%s: %d faults\n", kinds[k].name, faults);
        assert_in_range(faults, 1, MESSAGES_MAX);
    }
    numbers_check(&numbers);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    numbers_check(&numbers);
    child_stop(speed);
}

/* From its first message on: the slot, the catalogue, the claim. */
static void starts_meet_faults_at_every_message(void **state)
{
    (void)state;
    char text[TEXT_BYTES];
    for (size_t k = 0; k < KINDS; k++) {
        int faults = 0;
        for (int at = 1; at < 70; at = next_after(at, 24)) {
            numbers_produce_all(&numbers, 10);
            wire_arm(wire, kinds[k].fault, at, kinds[k].sqlstate);
            struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
            numbers_await_end(&numbers, speed);
            faults += wire_has_happened(wire, text, sizeof text);
            wire_arm(wire, WIRE_NOTHING, 0, NULL);
            numbers_check_now(&numbers);
            child_stop(speed);
        }
        print_message("%s: %d faults\n", kinds[k].name, faults);
        assert_in_range(faults, 1, MESSAGES_MAX);
    }
    numbers_check(&numbers);
}

/* --- registrations --- */

static void registrations_meet_faults_at_every_message(void **state)
{
    (void)state;
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_produce_all(&numbers, 100);
    numbers_await_end(&numbers, speed);
    child_stop(speed);
    for (size_t k = 0; k < KINDS; k++) {
        int faults = 0;
        for (int at = 1; at < MESSAGES_MAX; at = next_after(at, 12)) {
            char view[300];
            snprintf(view, sizeof view,
                     "{\"view\":\"other\",\"source\":\"numbers\",\"where\":\"n > %d\",\"measures\":"
                     "{\"c\":\"count(*)\"},\"window\":{\"type\":\"tumbling\",\"size\":\"1h\"}}",
                     (int)k * MESSAGES_MAX + at);
            deployment_define_view(deployment, view);
            if (!run_with(&kinds[k], at, "dovetail", "init", NULL))
                break;
            numbers_check_now(&numbers);
            faults++;
        }
        print_message("%s: %d faults\n", kinds[k].name, faults);
        assert_in_range(faults, 3, MESSAGES_MAX);
        deployment_run(deployment, 0, "dovetail", "init", NULL);
    }
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_produce_all(&numbers, 100);
    numbers_await_end(&numbers, speed);
    numbers_check(&numbers);
    deployment_run(deployment, 0, "dovetail", "verify", "other", NULL);
    child_stop(speed);
}

/* --- questions --- */

static void questions_meet_faults_at_every_message(void **state)
{
    (void)state;
    char text[TEXT_BYTES], good[20000];
    struct http_reply reply;
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_produce_all(&numbers, 300);
    numbers_await_end(&numbers, speed);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    numbers_produce_all(&numbers, 300);
    numbers_await_end(&numbers, speed);
    child_stop(speed); /* so that the rows stay as they are */
    deployment_set(deployment, "serving", "cache_bytes", json_integer(0));
    deployment_serve(deployment);
    struct http_session *session = http_session_create(deployment->port);
    http_get(session, "/v1/views/sums/rows", &reply);
    assert_int_equal(reply.status, 200);
    snprintf(good, sizeof good, "%.*s", (int)(strstr(reply.body, "\"receipt\"") - reply.body),
             reply.body);
    http_reply_free(&reply);
    for (size_t k = 0; k < KINDS; k++) {
        int faults = 0, answered = 0;
        for (int at = 1; at < 60; at++) {
            wire_arm(wire, kinds[k].fault, at, kinds[k].sqlstate);
            for (int i = 0; i < 3; i++) {
                http_get(session, "/v1/views/sums/rows", &reply);
                if (reply.status != 200 && reply.status != 503)
                    fail_msg("%s at %d: %d %s", kinds[k].name, at, reply.status, reply.body);
                if (reply.status == 200 && strncmp(reply.body, good, strlen(good)) != 0)
                    fail_msg("%s at %d: %s", kinds[k].name, at, reply.body);
                answered += reply.status == 200;
                http_reply_free(&reply);
            }
            faults += wire_has_happened(wire, text, sizeof text);
            wire_arm(wire, WIRE_NOTHING, 0, NULL);
        }
        print_message("%s: %d faults, %d answers\n", kinds[k].name, faults, answered);
        assert_in_range(faults, 3, MESSAGES_MAX);
    }
    http_get(session, "/v1/views/sums/rows", &reply);
    assert_int_equal(reply.status, 200);
    http_reply_free(&reply);
    http_session_destroy(session);
}

int main(int argc, char **argv)
{
    if (argc > 1) /* a pattern for the names of tests */
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(runs_meet_faults_at_every_message, set_up, tear_down),
        cmocka_unit_test_setup_teardown(flushes_meet_faults_at_every_message, set_up, tear_down),
        cmocka_unit_test_setup_teardown(starts_meet_faults_at_every_message, set_up, tear_down),
        cmocka_unit_test_setup_teardown(registrations_meet_faults_at_every_message, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(questions_meet_faults_at_every_message, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
