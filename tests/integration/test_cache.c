/* Kept answers, on a database that moves only when the test says so: what hits, what does not, and
 * that a hit has the receipt of now. tests/integration/test_cache_traffic.c is the same under load.
 */
#include "tests/support/trips_fixture.h"

#define POSITION "UPDATE dovetail_internal.position SET "
#define ROWS "/v1/views/by_route/rows?"

static long metric(const char *name)
{
    char line[80];
    struct reply reply = get("/metrics");
    snprintf(line, sizeof line, "\n%s ", name);
    const char *found = strstr(reply.text, line);
    assert_non_null(found);
    long value = atol(found + strlen(line));
    free(reply.text);
    return value;
}

static long hits(void)
{
    return metric("dovetail_cache_hits_total");
}

/* Asks; the number of hits must have grown by so many. */
static struct reply ask(const char *target, const char *headers, long more_hits)
{
    char text[1024];
    long before = hits();
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n",
             target, headers);
    struct reply reply = receive(send_text(text));
    if (hits() - before != more_hits)
        fail_msg("%s: %ld hits instead of %ld: %s", target, hits() - before, more_hits, reply.body);
    return reply;
}

static void ask_only(const char *target, long more_hits)
{
    struct reply reply = ask(target, "", more_hits);
    assert_int_equal(reply.status, 200);
    free(reply.text);
}

static int64_t freshness(const struct reply *reply)
{
    json_t *json = json_loads(reply->body, 0, NULL);
    assert_non_null(json);
    int64_t ms =
        json_integer_value(json_object_get(json_object_get(json, "receipt"), "freshness_ms"));
    json_decref(json);
    return ms;
}

/* What is before and after the receipt's freshness. */
static void assert_same_rows(const struct reply *one, const struct reply *other)
{
    const char *end = strstr(one->body, "\"freshness_ms\":");
    assert_non_null(end);
    assert_memory_equal(one->body, other->body, (size_t)(end - one->body));
    assert_string_equal(strchr(end, '}'), strchr(strstr(other->body, "\"freshness_ms\":"), '}'));
}

static void test_same_question(void **state)
{
    (void)state;
    struct reply first = ask(ROWS "limit=7&origin=JFK", "", 0);
    struct reply second = ask(ROWS "limit=7&origin=JFK", "", 1);
    assert_same_rows(&first, &second);
    free(second.text);
    /* The same in another order; how long one would wait is no part of the question. */
    second = ask(ROWS "origin=JFK&limit=7&wait_ms=10", "", 1);
    assert_same_rows(&first, &second);
    free(second.text);
    second = ask(ROWS "limit=7&origin=JFK&at_least=%7B%22trips%22%3A%5B250%2C1250%5D%7D", "", 1);
    assert_same_rows(&first, &second);
    free(second.text);
    free(first.text);
    ask_only(ROWS "limit=6&origin=JFK", 0);
    ask_only(ROWS "limit=7&destination=JFK", 0);
    ask_only("/v1/views/odd_names/rows?limit=7&key.key=JFK", 0);
    ask_only(ROWS "limit=7&origin=JFK&layer=batch", 0);
    ask_only(ROWS "limit=7&origin=JFK&layer=batch", 1);
    ask_only(ROWS "limit=7&explain=1", 0);
    ask_only(ROWS "limit=7&explain=1", 0);
}

static void test_representations(void **state)
{
    (void)state;
    static const char *const headers[] = {"Accept: application/x-ndjson\r\n",
                                          "Accept: text/csv\r\n"};
    for (size_t i = 0; i < 2; i++) {
        struct reply first = ask(ROWS "limit=9", headers[i], 0);
        struct reply second = ask(ROWS "limit=9", headers[i], 1);
        assert_int_equal(second.status, 200);
        if (i == 0)
            assert_same_rows(&first, &second);
        else
            assert_string_equal(first.body, second.body);
        assert_int_equal(has_header(&first, "Dovetail-Page: {\"more\":true"), i == 1);
        assert_int_equal(has_header(&second, "Dovetail-Page: {\"more\":true"), i == 1);
        assert_int_equal(has_header(&second, "Dovetail-Receipt: {\"run\":1,"), i == 1);
        assert_true(has_header(&second, "ETag: W/\""));
        assert_true(has_header(&second, "Cache-Control: no-store\r\n"));
        free(first.text);
        free(second.text);
    }
    ask_only(ROWS "limit=9", 0);
    struct reply zipped = ask(ROWS "limit=9", "Accept-Encoding: gzip\r\n", 1);
    assert_true(has_header(&zipped, "Content-Encoding: gzip\r\n"));
    free(zipped.text);
}

/* The answer itself is checked against SQL: one from before the move would not do. */
static void test_moves(void **state)
{
    (void)state;
    static const char *const moves[][2] = {
        {POSITION "next_offset = next_offset + 1 WHERE partition = 0",
         POSITION "next_offset = next_offset - 1 WHERE partition = 0"},
        {POSITION "watermark = watermark + interval '20 h' WHERE partition = 1",
         POSITION "watermark = watermark - interval '20 h' WHERE partition = 1"},
    };
    static const char sql[] = ROUTE_SQL "WHERE origin = 'JFK' " ROUTE_ORDER;
    for (size_t i = 0; i < sizeof moves / sizeof moves[0]; i++) {
        ask_only(ROWS "origin=JFK", i > 0 ? 1 : 0);
        ask_only(ROWS "origin=JFK", 1);
        execute(moves[i][0]);
        ask_only(ROWS "origin=JFK", 0);
        assert_rows(ROWS "origin=JFK", sql, 5);
        execute(moves[i][1]);
        ask_only(ROWS "origin=JFK", 0);
        assert_rows(ROWS "origin=JFK", sql, 5);
    }
}

/* A question that nobody asked before finds where the view stands by what is known of it; that must
 * not be what was known before the move. */
static void test_new_questions_after_moves(void **state)
{
    (void)state;
    char sql[1024];
    char target[64];
    char wanted[64];
    for (int i = 1; i <= 6; i++) {
        snprintf(target, sizeof target, ROWS "limit=%d", 100 + i);
        snprintf(wanted, sizeof wanted, "\"positions\":{\"trips\":[%d,1250]}", 250 + (i + 1) / 2);
        if (i % 2 == 1)
            execute(POSITION "next_offset = next_offset + 1 WHERE partition = 0");
        struct reply reply = ask(target, "", 0);
        assert_non_null(strstr(reply.body, wanted));
        free(reply.text);
    }
    execute(POSITION "next_offset = 250 WHERE partition = 0");
    for (int i = 0; i < 4; i++) {
        snprintf(target, sizeof target, ROWS "limit=%d", 110 + i);
        snprintf(sql, sizeof sql, ROUTE_SQL ROUTE_ORDER " LIMIT %d", 110 + i);
        execute(i % 2 == 0 ? POSITION "watermark = watermark + interval '20 h'"
                           : POSITION "watermark = watermark - interval '20 h'");
        assert_rows(target, sql, 5);
    }
}

/* Asks new questions, `before` each of them; how many of them were put to PostgreSQL as "has
 * anything moved?", and it had (moved) or had not. */
static long ask_new(const char *before, int count, const char *name)
{
    static int serial; /* no question twice */
    char target[128];
    long asked = metric(name);
    for (int i = 0; i < count; i++) {
        snprintf(target, sizeof target, ROWS "origin=JFK&limit=%d", 300 - ++serial % 250);
        if (before != NULL)
            execute(before);
        struct reply reply = get(target);
        assert_int_equal(reply.status, 200);
        free(reply.text);
    }
    return metric(name) - asked;
}

/* Others may write, in databases beside this one, so it may take some questions. */
static void await_hold(void)
{
    for (int i = 0; i < 50; i++)
        if (ask_new(NULL, 1, "dovetail_cache_held_total") == 1)
            return;
    fail_msg("nothing moves, and nobody asks whether anything does");
}

/* While something moves all the time nobody asks whether it does; when it stops they do again. */
static void test_no_vain_questions(void **state)
{
    (void)state;
    static const char move[] = POSITION "as_of = as_of + interval '1 microsecond'";
    await_hold();
    assert_in_range(ask_new(move, 20, "dovetail_cache_moved_total"), 1, 1);
    assert_int_equal(ask_new(move, 20, "dovetail_cache_held_total"), 0);
    /* Neither where an answer is kept. */
    ask_only(ROWS "origin=JFK&limit=2", 0);
    long moved = metric("dovetail_cache_moved_total");
    for (int i = 0; i < 10; i++) {
        execute(move);
        ask_only(ROWS "origin=JFK&limit=2", 1);
    }
    assert_in_range(metric("dovetail_cache_moved_total"), moved, moved + 1);
    await_hold();
    execute(POSITION "as_of = as_of - interval '51 microseconds'");
}

/* `count` slices of one group of JFK more, behind all others. */
static void add_slices(int count)
{
    char sql[1024];
    snprintf(sql, sizeof sql,
             "DO $$ DECLARE speed text := (SELECT 'dovetail_internal.speed_' || version"
             "  FROM dovetail_internal.view_version WHERE view = 'by_route' AND state = 'current');"
             " BEGIN EXECUTE 'CREATE TEMP TABLE one AS SELECT * FROM ' || speed ||"
             "  ' WHERE origin = ''JFK'' AND _slice_start < 1000"
             "    ORDER BY _partition, _slice_start DESC LIMIT 1';"
             " EXECUTE 'DELETE FROM ' || speed || ' WHERE _slice_start >= 10000';"
             " FOR i IN 1..%d LOOP"
             "  UPDATE one SET _slice_start = 10000 + i, _group_id = NULL;"
             "  EXECUTE 'INSERT INTO ' || speed || ' SELECT * FROM one';"
             " END LOOP; DROP TABLE one; END $$",
             count);
    execute(sql);
}

/* Of few windows of one key few rows are expected, and taken as a whole; there may be more. */
static void test_many_rows_of_few_windows(void **state)
{
    (void)state;
    static const int counts[] = {3, 900, 1000, 1400, 0};
    char target[128];
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        add_slices(counts[i]);
        await_hold();
        /* Another question each time: P has not moved, so an answer would be kept. */
        snprintf(target, sizeof target,
                 ROWS "from=2000-12-31T%02zu:00:00Z&to=2001-01-04&origin=JFK", 10 + i);
        assert_rows(target, ROUTE_SQL "WHERE origin = 'JFK' " ROUTE_ORDER, 5);
    }
}

/* at_least is about the answer that is given. */
static void test_at_least(void **state)
{
    (void)state;
    ask_only(ROWS "limit=5", 0);
    struct reply reply =
        ask(ROWS "limit=5&wait_ms=0&at_least=%7B%22trips%22%3A%5B251%5D%7D", "", 0);
    assert_int_equal(reply.status, 504);
    free(reply.text);
    reply = ask(ROWS "limit=5&at_least=%7B%22trips%22%3A%5B1%2C1%2C1%5D%7D", "", 0);
    assert_int_equal(reply.status, 400);
    free(reply.text);
}

static void test_freshness_is_of_now(void **state)
{
    (void)state;
    struct reply reply = ask(ROWS "limit=4", "", 0);
    assert_in_range(freshness(&reply), 2000, 3500000);
    free(reply.text);
    execute(POSITION "as_of = as_of - interval '1 h'");
    reply = ask(ROWS "limit=4", "", 1);
    assert_in_range(freshness(&reply), 3602000, 7100000);
    free(reply.text);
    execute(POSITION "as_of = as_of + interval '1 h'");
    reply = ask(ROWS "limit=4", "", 1);
    assert_in_range(freshness(&reply), 2000, 3500000);
    free(reply.text);
}

static void restart(void)
{
    int status = -1;
    kill(server_pid, SIGTERM);
    assert_int_equal(waitpid(server_pid, &status, 0), server_pid);
    assert_int_equal(status, 0);
    close(server_messages);
    start_server();
}

/* With a permitted age PostgreSQL is not asked meanwhile: it may even be gone. */
static void test_age(void **state)
{
    (void)state;
    cache_age_ms = 60000;
    restart();
    struct reply first = ask(ROWS "limit=8", "", 0);
    execute(POSITION "next_offset = next_offset + 1 WHERE partition = 0");
    struct reply second = ask(ROWS "limit=8", "", 1);
    assert_same_rows(&first, &second);
    assert_true(freshness(&second) >= freshness(&first));
    free(second.text);
    /* Who demands what was written since gets it. */
    second = ask(ROWS "limit=8&at_least=%7B%22trips%22%3A%5B251%5D%7D", "", 0);
    assert_int_equal(second.status, 200);
    assert_non_null(strstr(second.body, "\"positions\":{\"trips\":[251,"));
    free(second.text);
    /* From then on everybody does. */
    second = ask(ROWS "limit=8", "", 1);
    assert_non_null(strstr(second.body, "\"positions\":{\"trips\":[251,"));
    free(second.text);
    free(first.text);
    execute(POSITION "next_offset = next_offset - 1 WHERE partition = 0");
    /* A bad question is refused as ever. */
    assert_problem(ROWS "limit=-8", 400, "limit", "limit: ");
    assert_problem("/v1/views/nothing/rows", 404, NULL, "no view");
}

static void test_bound(void **state)
{
    (void)state;
    char target[128];
    cache_age_ms = 0;
    cache_bytes = "64 KiB";
    restart();
    for (int i = 1; i <= 60; i++) {
        snprintf(target, sizeof target, ROWS "limit=%d", i);
        ask_only(target, 0);
        assert_in_range(metric("dovetail_cache_bytes"), 1, 65536);
    }
    assert_in_range(metric("dovetail_cache_evictions_total"), 1, 60);
    ask_only(ROWS "limit=60", 1);
    ask_only(ROWS "limit=1", 0); /* evicted */
    cache_bytes = "0";
    restart();
    ask_only(ROWS "limit=60", 0);
    ask_only(ROWS "limit=60", 0);
    assert_int_equal(metric("dovetail_cache_answers"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_question),
        cmocka_unit_test(test_representations),
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_new_questions_after_moves),
        cmocka_unit_test(test_no_vain_questions),
        cmocka_unit_test(test_many_rows_of_few_windows),
        cmocka_unit_test(test_at_least),
        cmocka_unit_test(test_freshness_is_of_now),
        cmocka_unit_test(test_age),
        cmocka_unit_test(test_bound),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
