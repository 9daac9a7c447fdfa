/* Years of hourly events, counted by local days, weeks and months of three zones: Europe/Berlin,
 * America/New_York, and Australia/Lord_Howe, whose clocks change by half an hour. The years are
 * those in which the rules changed: double summer time and the end of the war, summer time in
 * winter (1974), other dates of change (1980, 1987, 1996, 2001, 2007, 2008), another standard time
 * (Lord Howe 1981), the rule that holds on (2039).
 *
 * The events come in three random parts with runs of the batch layer between them, so that most
 * windows have rows of both layers and of several slices. What is stored must be what PostgreSQL
 * computes from the events by date_trunc(unit, time, zone), over HTTP and in SQL, and the windows
 * of hours must roll up to the same.
 *
 * DOVETAIL_SEED repeats. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/database.h"
#include "tests/support/deployment.h"
#include "tests/support/http.h"
#include "tests/support/stack.h"

enum { PARTS = 3, ZONES = 3, UNITS = 3 };

static const char *const zones[ZONES][2] = {{"berlin", "Europe/Berlin"},
                                            {"new_york", "America/New_York"},
                                            {"lord_howe", "Australia/Lord_Howe"}};
static const char *const units[UNITS][2] = {{"day", "1d"}, {"week", "1w"}, {"month", "1mo"}};

static struct deployment *deployment;
static struct http_session *session;
static PGconn *connection;
static int64_t produced;

static PGresult *run(const char *sql, int count, const char *const *values)
{
    PGresult *result = database_ask_with(connection, sql, count, values);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    return result;
}

/* Hourly, on the hour in even days of the year and some seconds after it in others, so that the
 * half hours of Lord Howe and instants at the very start of a window both occur. */
static void make_events(uint64_t seed)
{
    char text[40];
    const char *values[] = {text};
    snprintf(text, sizeof text, "%.6f", (double)(seed % 1000000) / 1000000);
    PQclear(run("SELECT setseed($1::float8)", 1, values));
    PQclear(run("CREATE TABLE events AS SELECT at + CASE WHEN extract(doy FROM at)::integer % 2 = 0"
                "  THEN interval '0' ELSE floor(random() * 3600) * interval '1 second' END AS at,"
                " floor(random() * 2000)::bigint - 500 AS x, floor(random() * 3)::integer AS part"
                " FROM unnest('{1945,1974,1980,1981,1987,1996,2001,2007,2008,2039}'::integer[])"
                "  AS year, generate_series(make_timestamptz(year, 1, 1, 0, 0, 0, 'UTC'),"
                "  make_timestamptz(year, 12, 31, 23, 0, 0, 'UTC'), interval '1 hour') AS at",
                0, NULL));
}

static int set_up(void **state)
{
    (void)state;
    uint64_t seed = stack_seed();
    deployment = deployment_create();
    deployment_define_source(deployment,
                             "{\"source\": \"events\", \"partitions\": 2,"
                             " \"event_time\": {\"field\": \"at\", \"format\": \"epoch_s\"},"
                             " \"fields\": {\"at\": \"integer\", \"x\": \"integer\"}}");
#define MEASURES "\"measures\": {\"n\": \"count(*)\", \"total\": \"sum(x)\", \"least\": \"min(x)\"}"
    for (size_t z = 0; z < ZONES; z++)
        for (size_t u = 0; u < UNITS; u++) {
            char text[500];
            snprintf(text, sizeof text,
                     "{\"view\": \"%s_%s\", \"source\": \"events\", \"window\": {\"type\":"
                     " \"tumbling\", \"size\": \"%s\", \"timezone\": \"%s\"}, " MEASURES "}",
                     zones[z][0], units[u][0], units[u][1], zones[z][1]);
            deployment_define_view(deployment, text);
        }
    deployment_define_view(deployment,
                           "{\"view\": \"half_hours\", \"source\": \"events\", \"window\": {"
                           "\"type\": \"tumbling\", \"size\": \"30m\"}, " MEASURES "}");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_serve(deployment);
    deployment_start(deployment, "dovetail-speed", NULL);
    session = http_session_create(deployment->port);
    connection = deployment_connect(deployment);
    PQclear(run("SET timezone = 'Asia/Tokyo'", 0, NULL)); /* the reader's own zone has no say */
    make_events(seed);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    PQfinish(connection);
    http_session_destroy(session);
    deployment_destroy(deployment);
    return 0;
}

static void send_part(int part)
{
    char number[4], path[200];
    const char *values[] = {number};
    snprintf(number, sizeof number, "%d", part);
    PGresult *result = run("SELECT json_build_object('at', extract(epoch FROM at)::bigint, 'x', x)"
                           " FROM events WHERE part = $1::integer ORDER BY random()",
                           1, values);
    char *lines = NULL;
    size_t length;
    FILE *out = open_memstream(&lines, &length);
    for (int row = 0; row < PQntuples(result); row++)
        fprintf(out, "%s\n", PQgetvalue(result, row, 0));
    fclose(out);
    produced += PQntuples(result);
    PQclear(result);
    deployment_write(deployment, "part.jsonl", lines);
    free(lines);
    snprintf(path, sizeof path, "%s/part.jsonl", deployment->directory);
    deployment_run(deployment, 0, "dovetail", "produce", "events", path, NULL);
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    while (deployment_number(
               deployment, "SELECT sum(next_offset) FROM dovetail_internal.position") < produced) {
        if (stack_now_ms() > deadline) {
            children_show();
            fail_msg("the speed layer does not come to the end");
        }
        stack_sleep_ms(50);
    }
}

/* An answer over HTTP against the rows of a statement, with the same columns. */
static int64_t compare(const char *target, const char *sql)
{
    struct http_reply reply;
    char *statement = NULL;
    http_get(session, target, &reply);
    if (reply.status != 200)
        fail_msg("%s: %d %s", target, reply.status, reply.body);
    const char *values[] = {reply.body};
    assert_true(
        asprintf(&statement,
                 "WITH a AS (SELECT * FROM json_to_recordset($1::json -> 'rows') AS x(window_start"
                 "  timestamptz, window_end timestamptz, n bigint, total numeric, least bigint)),"
                 " b AS (%s),"
                 " d AS ((SELECT 'answer' AS who, * FROM (TABLE a EXCEPT ALL TABLE b) AS p)"
                 "  UNION ALL (SELECT 'other', * FROM (TABLE b EXCEPT ALL TABLE a) AS q))"
                 " SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM d),"
                 " (SELECT string_agg(d::text, E'\\n') FROM (SELECT * FROM d ORDER BY 2 LIMIT 20)"
                 "  AS d)",
                 sql) > 0);
    PGresult *result = run(statement, 1, values);
    int64_t rows = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    if (strcmp(PQgetvalue(result, 0, 1), "0") != 0)
        fail_msg("%s: %s of %" PRId64 " rows differ:\n%s", target, PQgetvalue(result, 0, 1), rows,
                 PQgetvalue(result, 0, 2));
    PQclear(result);
    free(statement);
    http_reply_free(&reply);
    return rows;
}

/* What PostgreSQL computes from the first parts of the events. */
static void put_oracle(char *out, size_t size, const char *unit, const char *zone, int part)
{
    snprintf(
        out, size,
        "SELECT date_trunc('%s', at, '%s') AS window_start, (date_trunc('%s', at AT TIME ZONE"
        " '%s') + interval '1 %s') AT TIME ZONE '%s' AS window_end, count(*) AS n,"
        " sum(x)::numeric AS total, min(x) AS least FROM events WHERE part <= %d GROUP BY 1, 2",
        unit, zone, unit, zone, unit, zone, part);
}

static void test_windows_are_those_of_date_trunc(void **state)
{
    (void)state;
    int64_t rows = 0;
    for (int part = 0; part < PARTS; part++) {
        send_part(part);
        for (size_t z = 0; z < ZONES; z++)
            for (size_t u = 0; u < UNITS; u++) {
                char oracle[600], view[100], target[200];
                put_oracle(oracle, sizeof oracle, units[u][0], zones[z][1], part);
                snprintf(target, sizeof target, "/v1/views/%s_%s/rows", zones[z][0], units[u][0]);
                rows += compare(target, oracle);
                snprintf(view, sizeof view,
                         "SELECT window_start, window_end, n, total, least FROM dovetail.%s_%s",
                         zones[z][0], units[u][0]);
                compare(target, view);
                snprintf(target, sizeof target,
                         "/v1/views/half_hours/rows?granularity=%s&timezone=%s", units[u][1],
                         zones[z][1]);
                compare(target, oracle);
            }
        if (part + 1 < PARTS)
            deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    }
    deployment_run(deployment, 0, "dovetail", "verify", "lord_howe_day", NULL);
    print_message("%" PRId64 " events, %" PRId64 " windows compared\n", produced, rows);
    assert_true(rows > PARTS * ZONES * 3650);
}

/* The years do have what they were chosen for: days of other lengths, in minutes. */
static void test_days_have_many_lengths(void **state)
{
    (void)state;
    static const char *const expected[ZONES] = {"{1380,1440,1500}", "{1380,1440,1500}",
                                                "{1380,1410,1440,1470}"};
    for (size_t z = 0; z < ZONES; z++) {
        char sql[200];
        snprintf(sql, sizeof sql,
                 "SELECT array_agg(DISTINCT (extract(epoch FROM window_end - window_start) / "
                 "60)::integer) FROM dovetail.%s_day",
                 zones[z][0]);
        PGresult *result = run(sql, 0, NULL);
        print_message("%s: %s\n", zones[z][1], PQgetvalue(result, 0, 0));
        assert_string_equal(PQgetvalue(result, 0, 0), expected[z]);
        PQclear(result);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows_are_those_of_date_trunc),
        cmocka_unit_test(test_days_have_many_lengths),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
