/* More requests than can be answered, by the hundred: those that waited too long are told to come
 * again, at once when a thread is free, and whoever comes then is served. */
#include "tests/support/trips_fixture.h"

#include "core/program/program.h"

enum { CLIENTS = 300, THREADS = 2, QUEUE_MS = 300 };

static const char settings[] =
    "{\"connections\":1000,\"connections_per_address\":0,\"threads\":2,\"queue_ms\":300}";

static int64_t waiting_for_locks(void)
{
    PGresult *result = NULL;
    if (postgres_query(postgres,
                       "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid"
                       " WHERE NOT l.granted AND a.datname = current_database()",
                       0, NULL, &result, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    int64_t count = postgres_int64(result, 0, 0);
    PQclear(result);
    return count;
}

/* PostgreSQL answers nobody until COMMIT. */
static void hold_up(void)
{
    execute("BEGIN");
    execute("DO $$ DECLARE name text; BEGIN FOR name IN SELECT tablename FROM pg_tables WHERE"
            " schemaname = 'dovetail_internal' LOOP EXECUTE format('LOCK TABLE"
            " dovetail_internal.%I IN ACCESS EXCLUSIVE MODE', name); END LOOP; END $$");
}

static void await_held_up(void)
{
    int64_t end_us = program_monotonic_us() + INT64_C(60000000);
    while (waiting_for_locks() == 0) {
        assert_true(program_monotonic_us() < end_us);
        usleep(10000);
    }
}

static void test_a_crowd(void **state)
{
    (void)state;
    static int fds[CLIENTS];
    char target[128];
    int answered = 0;
    int told = 0;
    hold_up();
    for (int i = 0; i < CLIENTS; i++) {
        snprintf(target, sizeof target, "/v1/views/by_route/rows?origin=C%d", i);
        fds[i] = send_request("GET", target);
    }
    await_held_up();
    usleep(2 * QUEUE_MS * 1000); /* everybody has waited longer than that now */
    execute("COMMIT");
    for (int i = 0; i < CLIENTS; i++) {
        struct reply reply = receive(fds[i]);
        answered += reply.status == 200;
        told += reply.status == 503 && has_header(&reply, "Retry-After: 1\r\n") &&
                strstr(reply.body, "more requests come") != NULL;
        free(reply.text);
    }
    /* No more than each thread had in its hands, and nobody without a reply. */
    assert_in_range(answered, 1, THREADS);
    assert_int_equal(answered + told, CLIENTS);
    for (int i = 0; i < 20; i++) {
        snprintf(target, sizeof target, "/v1/views/by_route/rows?origin=D%d", i);
        json_decref(get_json(target));
    }
}

/* Health checks are answered however late: who asks them wants to know just that. */
static void test_health_in_a_crowd(void **state)
{
    (void)state;
    int fds[20];
    hold_up();
    int busy[2 * THREADS];
    for (int i = 0; i < 2 * THREADS; i++)
        busy[i] = send_request("GET", i % 2 == 0 ? "/v1/views/by_route/rows?origin=E"
                                                 : "/v1/views/by_route/rows?origin=F");
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        fds[i] = send_request("GET", "/livez");
    await_held_up();
    usleep(2 * QUEUE_MS * 1000);
    execute("COMMIT");
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        struct reply reply = receive(fds[i]);
        assert_int_equal(reply.status, 200);
        free(reply.text);
    }
    for (int i = 0; i < 2 * THREADS; i++) {
        struct reply reply = receive(busy[i]);
        assert_true(reply.status == 200 || reply.status == 503);
        free(reply.text);
    }
}

static int set_up_small(void **state)
{
    more_settings = settings;
    return set_up(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_crowd),
        cmocka_unit_test(test_health_in_a_crowd),
    };
    return cmocka_run_group_tests(tests, set_up_small, tear_down);
}
