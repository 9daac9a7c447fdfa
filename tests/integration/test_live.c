/* Live streams on a database that moves only when the test says so: what events there are, what a
 * reconnect gets, what is refused, and how streams end. */
#include "tests/support/trips_fixture.h"

#include "core/program/program.h"
#include "tests/support/sse.h"

#define POSITION "UPDATE dovetail_internal.position SET "
#define LIVE "/v1/views/by_route/live"

static void open_live(struct sse *sse, const char *target, const char *headers)
{
    int status = sse_open(sse, port, target, headers);
    if (status != 200)
        fail_msg("%s: %d %s", target, status, sse->text);
    assert_non_null(strcasestr(sse->text, "Content-Type: text/event-stream\r\n"));
    assert_non_null(strcasestr(sse->text, "Cache-Control: no-store\r\n"));
}

static struct sse_event next(struct sse *sse, const char *name)
{
    struct sse_event event;
    int64_t deadline = stack_now_ms() + 2 * STACK_WAIT_MS;
    for (;;) {
        assert_true(sse_next(sse, &event));
        if (strcmp(event.name, name) == 0)
            return event;
        if (stack_now_ms() > deadline)
            fail_msg("no event %s in %d ms", name, 2 * STACK_WAIT_MS);
        /* Heartbeats come when they come. */
        if (strcmp(event.name, "receipt") != 0)
            fail_msg("the event %s instead of %s", event.name, name);
        json_decref(event.data);
    }
}

/* "rows" of an event is what the query says now. */
static void assert_is_answer(json_t *rows, const char *target)
{
    json_t *answer = get_json(target);
    assert_true(json_array_size(rows) > 0);
    if (!json_equal(rows, json_object_get(answer, "rows")))
        fail_msg("%s: the rows are others", target);
    json_decref(answer);
}

static int64_t position_of(const struct sse_event *event, size_t partition)
{
    json_t *receipt = json_object_get(event->data, "receipt");
    json_t *topic = json_object_get(json_object_get(receipt, "positions"), "trips");
    return json_integer_value(json_array_get(topic, partition));
}

/* The table of the view's speed rows. */
static void run_on_speed_rows(const char *before, const char *behind)
{
    char sql[512];
    PGresult *result = NULL;
    assert_status(STATUS_OK, postgres_query(postgres,
                                            "SELECT version FROM dovetail_internal.view_version"
                                            " WHERE view = 'by_route'",
                                            0, NULL, &result, &error));
    snprintf(sql, sizeof sql, "%s dovetail_internal.speed_%s %s", before, PQgetvalue(result, 0, 0),
             behind);
    PQclear(result);
    execute(sql);
}

static void test_changes(void **state)
{
    (void)state;
    struct sse sse;
    open_live(&sse, LIVE "?to=2001-01-02", "");
    struct sse_event event = next(&sse, "snapshot");
    json_t *rows = json_object();
    assert_int_equal(strlen(event.id), 32);
    assert_is_answer(json_object_get(event.data, "rows"), "/v1/views/by_route/rows?to=2001-01-02");
    assert_int_equal(position_of(&event, 0), 250);
    sse_apply(rows, &event, 2);
    size_t before = json_object_size(rows);
    json_decref(event.data);

    /* Rows lose what an open slice had; those that had nothing else are gone. */
    execute("BEGIN");
    run_on_speed_rows("CREATE TABLE saved AS SELECT * FROM", "");
    run_on_speed_rows("DELETE FROM", "WHERE _slice_start IN (200, 1180)");
    execute(POSITION "next_offset = next_offset + 1 WHERE partition = 0; COMMIT");
    event = next(&sse, "rows");
    assert_int_equal(position_of(&event, 0), 251);
    size_t changed = json_array_size(json_object_get(event.data, "rows"));
    size_t removed = json_array_size(json_object_get(event.data, "removed"));
    assert_true(removed > 0);
    assert_true(changed + removed < before);
    sse_apply(rows, &event, 2);
    assert_int_equal(json_object_size(rows) < before, 1);
    json_t *answer = get_json("/v1/views/by_route/rows?to=2001-01-02");
    json_t *row;
    size_t index;
    json_array_foreach (json_object_get(answer, "rows"), index, row) {
        char *identity = sse_identity(row, 2);
        if (!json_equal(json_object_get(rows, identity), row))
            fail_msg("the row %s is another one", identity);
        free(identity);
    }
    assert_int_equal(json_object_size(rows), index);
    json_decref(answer);
    json_decref(event.data);

    /* And back. */
    execute("BEGIN");
    run_on_speed_rows("DELETE FROM", "");
    run_on_speed_rows("INSERT INTO", "SELECT * FROM saved");
    execute("DROP TABLE saved;" POSITION "next_offset = next_offset - 1 WHERE partition = 0;"
            "COMMIT");
    event = next(&sse, "rows");
    sse_apply(rows, &event, 2);
    assert_int_equal(json_object_size(rows), before);
    json_decref(event.data);
    json_decref(rows);
    sse_close(&sse);
}

static void test_question(void **state)
{
    (void)state;
    struct sse sse;
    static const char question[] = "?origin=JFK&granularity=1d&measures=trips&group_by=origin";
    char target[256];
    snprintf(target, sizeof target, LIVE "%s", question);
    open_live(&sse, target, "Accept: text/event-stream\r\n");
    struct sse_event event = next(&sse, "snapshot");
    snprintf(target, sizeof target, "/v1/views/by_route/rows%s", question);
    assert_is_answer(json_object_get(event.data, "rows"), target);
    json_decref(event.data);
    sse_close(&sse);
}

/* Nothing but the receipt while no row changes, and it is of now. */
static void test_heartbeat(void **state)
{
    (void)state;
    struct sse sse;
    struct sse_event event;
    open_live(&sse, LIVE "?limit=2", "");
    assert_true(sse_next(&sse, &event));
    assert_string_equal(event.name, "snapshot");
    json_decref(event.data);
    execute(POSITION "as_of = as_of - interval '1 h'");
    assert_true(sse_next(&sse, &event));
    assert_string_equal(event.name, "receipt");
    assert_null(json_object_get(event.data, "rows"));
    assert_in_range(
        json_integer_value(json_object_get(json_object_get(event.data, "receipt"), "freshness_ms")),
        3600000, 7100000);
    execute(POSITION "as_of = as_of + interval '1 h'");
    json_decref(event.data);
    sse_close(&sse);
}

static void test_reconnect(void **state)
{
    (void)state;
    struct sse sse;
    char header[128];
    open_live(&sse, LIVE "?limit=3", "");
    struct sse_event event = next(&sse, "snapshot");
    snprintf(header, sizeof header, "Last-Event-ID: %s\r\n", event.id);
    json_decref(event.data);
    sse_close(&sse);
    /* Nothing was missed. */
    open_live(&sse, LIVE "?limit=3", header);
    assert_true(sse_next(&sse, &event));
    assert_string_equal(event.name, "receipt");
    json_decref(event.data);
    sse_close(&sse);
    /* Another question. */
    open_live(&sse, LIVE "?limit=4", header);
    event = next(&sse, "snapshot");
    json_decref(event.data);
    sse_close(&sse);
    /* Something was: all of it. */
    execute(POSITION "next_offset = next_offset + 1 WHERE partition = 1");
    open_live(&sse, LIVE "?limit=3", header);
    event = next(&sse, "snapshot");
    assert_int_equal(position_of(&event, 1), 1251);
    json_decref(event.data);
    sse_close(&sse);
    execute(POSITION "next_offset = next_offset - 1 WHERE partition = 1");
}

static void test_refusals(void **state)
{
    (void)state;
    assert_problem(LIVE "?limit=x", 400, "limit", "limit: ");
    assert_problem(LIVE "?cursor=x", 400, "cursor", "a live stream does not take it");
    assert_problem(LIVE "?at_least=%7B%7D", 400, "at_least", "a live stream does not take it");
    assert_problem(LIVE "?explain=1", 400, "explain", "a live stream does not take it");
    assert_problem(LIVE "?nothing=1", 400, "nothing", "unknown parameter");
    assert_problem("/v1/views/nothing/live", 404, NULL, "no view");
    struct sse sse;
    assert_int_equal(sse_open(&sse, port, LIVE, "Accept: text/csv\r\n"), 406);
    sse_close(&sse);
}

static int open_streams(void)
{
    static const char name[] = "\ndovetail_live_streams ";
    struct reply reply = get("/metrics");
    const char *line = strstr(reply.text, name);
    assert_non_null(line);
    int count = atoi(line + strlen(name));
    free(reply.text);
    return count;
}

static void await_streams(int count)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    while (open_streams() != count) {
        if (stack_now_ms() > deadline)
            fail_msg("%d streams are open, not %d", open_streams(), count);
        stack_sleep_ms(20);
    }
}

/* Until serving waits for a lock; `what` of its session is selected. */
static void await_question(struct postgres *other, const char *what)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    char sql[300];
    snprintf(sql, sizeof sql,
             "SELECT %s FROM pg_stat_activity WHERE datname = current_database()"
             " AND wait_event_type = 'Lock' AND application_name = 'dovetail-serving'",
             what);
    for (int found = 0; found == 0;) {
        PGresult *result = NULL;
        if (stack_now_ms() > deadline)
            fail_msg("no question waits for a lock");
        assert_status(STATUS_OK, postgres_query(other, sql, 0, NULL, &result, &error));
        found = PQntuples(result);
        PQclear(result);
    }
}

/* One that does not read while there is much to be read. */
static void test_slow_reader(void **state)
{
    (void)state;
    static const char request[] = "GET " LIVE "?to=2001-01-02 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int receive_bytes = 2048;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(send(fd, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
    await_streams(1); /* those of the tests before are ending */
    /* Another one is told of every change meanwhile. */
    struct sse sse;
    open_live(&sse, LIVE "?to=2001-01-02", "");
    struct sse_event event = next(&sse, "snapshot");
    json_decref(event.data);
    /* Until the buffers are full every row changes, again and again; then it is cut off. It does
     * not hear of that itself, for the end waits behind what it has not read. */
    assert_int_equal(open_streams(), 2);
    for (int i = 0; i < 600 && open_streams() > 1; i++) {
        execute(i % 2 == 0 ? POSITION "watermark = watermark - interval '100 d' WHERE true"
                           : POSITION "watermark = watermark + interval '100 d' WHERE true");
        event = next(&sse, "rows");
        json_decref(event.data);
    }
    assert_int_equal(open_streams(), 1);
    close(fd);
    sse_close(&sse);
    execute("UPDATE dovetail_internal.position SET watermark = CASE partition WHEN 0 THEN"
            " timestamptz '2001-01-03 07:30Z' ELSE '2001-01-02 12:00Z' END");
}

/* A question that takes too long ends its stream; it would keep the others waiting. */
static void test_timeout(void **state)
{
    (void)state;
    struct sse sse;
    struct sse_event event;
    struct postgres *other = NULL;
    assert_status(STATUS_OK, postgres_connect(conninfo, "test-live", &other, &error));
    open_live(&sse, LIVE "?limit=2", "");
    event = next(&sse, "snapshot");
    json_decref(event.data);
    execute("BEGIN");
    run_on_speed_rows("LOCK TABLE", "IN ACCESS EXCLUSIVE MODE");
    assert_status(STATUS_OK,
                  postgres_execute(
                      other, POSITION "next_offset = next_offset + 1 WHERE partition = 0", &error));
    /* The same SQLSTATE as that of statement_timeout. */
    await_question(other, "pg_cancel_backend(pid)");
    event = next(&sse, "problem");
    assert_int_equal(json_integer_value(json_object_get(event.data, "status")), 504);
    json_decref(event.data);
    assert_false(sse_next(&sse, &event));
    sse_close(&sse);
    postgres_close(other);
    execute("ROLLBACK; " POSITION "next_offset = next_offset - 1 WHERE partition = 0");
}

/* A question that waits in PostgreSQL keeps nobody else waiting, and ends by itself. */
static void test_slow_question(void **state)
{
    (void)state;
    struct sse sse;
    struct sse slow;
    struct sse_event event;
    struct postgres *other = NULL;
    assert_status(STATUS_OK, postgres_connect(conninfo, "test-live", &other, &error));
    open_live(&sse, "/v1/views/typed/live?to=2001-01-02", "");
    event = next(&sse, "snapshot");
    json_decref(event.data);
    open_live(&slow, LIVE "?limit=2", ""); /* the first to be asked */
    event = next(&slow, "snapshot");
    json_decref(event.data);
    execute("BEGIN");
    run_on_speed_rows("LOCK TABLE", "IN ACCESS EXCLUSIVE MODE");
    assert_status(
        STATUS_OK,
        postgres_execute(other, POSITION "watermark = watermark - interval '100 d'", &error));
    event = next(&sse, "rows");
    json_decref(event.data);
    /* Not answered yet, or just about to be asked. */
    await_question(other, "pid");
    event = next(&slow, "problem"); /* nobody has cancelled it */
    assert_int_equal(json_integer_value(json_object_get(event.data, "status")), 504);
    json_decref(event.data);
    assert_false(sse_next(&slow, &event));
    sse_close(&slow);
    sse_close(&sse);
    postgres_close(other);
    execute("ROLLBACK; " POSITION "watermark = watermark + interval '100 d'");
}

static double metric(const char *name)
{
    struct reply reply = get("/metrics");
    char begin[80];
    snprintf(begin, sizeof begin, "\n%s ", name);
    const char *line = strstr(reply.text, begin);
    assert_non_null(line);
    double value = atof(line + strlen(begin));
    free(reply.text);
    return value;
}

/* What a stream holds is counted, given back, and refused where there is no more. */
static void test_memory(void **state)
{
    (void)state;
    static const char question[] = LIVE "?to=2001-01-02";
    struct sse sse;
    await_streams(0); /* those of the tests before are ending */
    assert_int_equal((int)metric("dovetail_memory_bytes"), 0);
    open_live(&sse, question, "");
    struct sse_event event = next(&sse, "snapshot");
    char *rows = json_dumps(json_object_get(event.data, "rows"), JSON_COMPACT);
    /* What is sent has been taken by now, or not. */
    double held = metric("dovetail_memory_bytes");
    assert_true(held > (double)strlen(rows) && held < 4.0 * (double)strlen(rows));
    free(rows);
    json_decref(event.data);
    sse_close(&sse);
    await_streams(0);
    assert_int_equal((int)metric("dovetail_memory_bytes"), 0);
}

/* The end of the program waits for no question: those that are being asked are cancelled. */
static void test_stop_while_asking(void **state)
{
    (void)state;
    enum { COUNT = 10 };
    struct sse streams[COUNT];
    struct sse_event event;
    struct postgres *other = NULL;
    assert_status(STATUS_OK, postgres_connect(conninfo, "test-live", &other, &error));
    for (int i = 0; i < COUNT; i++) {
        open_live(&streams[i], LIVE "?limit=2", "");
        event = next(&streams[i], "snapshot");
        json_decref(event.data);
    }
    execute("BEGIN");
    run_on_speed_rows("LOCK TABLE", "IN ACCESS EXCLUSIVE MODE");
    assert_status(STATUS_OK,
                  postgres_execute(other, POSITION "next_offset = next_offset + 1", &error));
    await_question(other, "pid");
    stop_server();
    for (int i = 0; i < COUNT; i++)
        sse_close(&streams[i]);
    postgres_close(other);
    execute("ROLLBACK; " POSITION "next_offset = next_offset - 1");
    start_server();
}

static void test_number_of_streams(void **state)
{
    (void)state;
    struct sse streams[LIVE_STREAMS];
    await_streams(0); /* those of the test before are ending */
    for (int i = 0; i < LIVE_STREAMS; i++)
        open_live(&streams[i], LIVE "?limit=1", "");
    assert_problem(LIVE "?limit=1", 503, NULL, "live streams already");
    for (int i = 0; i < LIVE_STREAMS; i++)
        sse_close(&streams[i]);
    /* The places are free again as soon as the ends are noticed. */
    struct sse sse;
    int status = 503;
    for (int tries = 0; tries < 600 && status == 503; tries++) {
        status = sse_open(&sse, port, LIVE "?limit=1", "");
        sse_close(&sse);
        if (status == 503)
            usleep(50000);
    }
    assert_int_equal(status, 200);
}

static void restart_with(const char *settings)
{
    more_settings = settings;
    restart_server();
}

static void test_streams_of_one_address(void **state)
{
    (void)state;
    struct sse streams[2];
    restart_with("{\"live_streams_per_address\": 2}");
    open_live(&streams[0], LIVE "?limit=1", "");
    open_live(&streams[1], LIVE "?limit=1", "");
    assert_problem(LIVE "?limit=1", 429, NULL, "this address has 2 live streams already");
    sse_close(&streams[0]);
    await_streams(1);
    open_live(&streams[0], LIVE "?limit=1", "");
    sse_close(&streams[0]);
    sse_close(&streams[1]);
    restart_with(NULL);
}

/* Readers that do not read hold up nobody, and not the end of the program either. */
static void test_stop(void **state)
{
    (void)state;
    struct sse sse;
    struct sse slow;
    struct sse_event event;
    open_live(&sse, LIVE "?limit=5", "");
    event = next(&sse, "snapshot");
    json_decref(event.data);
    open_live(&slow, LIVE "?limit=300", "");
    kill(server_pid, SIGTERM);
    while (sse_next(&sse, &event))
        json_decref(event.data);
    assert_true(sse.ended);
    assert_int_equal(stack_reap(server_pid, "dovetail-serving"), 0);
    sse_close(&sse);
    sse_close(&slow);
    close(server_messages);
    start_server();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes),       cmocka_unit_test(test_question),
        cmocka_unit_test(test_heartbeat),     cmocka_unit_test(test_reconnect),
        cmocka_unit_test(test_refusals),      cmocka_unit_test(test_stop),
        cmocka_unit_test(test_slow_reader),   cmocka_unit_test(test_number_of_streams),
        cmocka_unit_test(test_timeout),       cmocka_unit_test(test_stop_while_asking),
        cmocka_unit_test(test_memory),        cmocka_unit_test(test_streams_of_one_address),
        cmocka_unit_test(test_slow_question),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
