/* Lookups: reference tables joined when somebody asks, with a real Kafka and a real PostgreSQL.
 *
 * Flights are counted by both layers; airports and carriers are tables that the test changes. HTTP,
 * the command line and SQL must say the same at any time, a correction must show in the next answer
 * of each, and what becomes of the tables may trouble only the views that look them up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/postgres/pgbinary.h"
#include "tests/support/database.h"
#include "tests/support/deployment.h"
#include "tests/support/http.h"
#include "tests/support/stack.h"

enum { RECORDS = 400 };

static struct deployment *deployment;
static struct child *speed;
static PGconn *database;
static struct http_session *http;

/* --- PostgreSQL --- */

static void execute(const char *sql)
{
    PGresult *result = database_ask(database, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(database));
    PQclear(result);
}

/* It must fail with a message that has `part`. */
static void expect_refusal(const char *sql, const char *part)
{
    PGresult *result = database_ask(database, sql);
    if (PQresultStatus(result) != PGRES_FATAL_ERROR ||
        strstr(PQerrorMessage(database), part) == NULL)
        fail_msg("%s: \"%s\" without \"%s\"", sql, PQerrorMessage(database), part);
    PQclear(result);
}

static void expect_number(const char *sql, int64_t wanted)
{
    int64_t number = deployment_number(deployment, sql);
    if (number != wanted)
        fail_msg("%s: %lld, not %lld", sql, (long long)number, (long long)wanted);
}

/* --- rows as text: {"column":value,...} a line, in the order in which they come --- */

static void put_string(FILE *out, const char *text)
{
    json_t *json = json_string(text);
    char *dump = json_dumps(json, JSON_ENCODE_ANY);
    assert_non_null(dump);
    fputs(dump, out);
    free(dump);
    json_decref(json);
}

/* Numbers come as text and stay text. */
static char *sql_rows(const char *sql)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    PGresult *result = database_ask(database, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(database));
    for (int row = 0; row < PQntuples(result); row++) {
        for (int column = 0; column < PQnfields(result); column++) {
            const char *value = PQgetvalue(result, row, column);
            fprintf(out, "%c\"%s\":", column > 0 ? ',' : '{', PQfname(result, column));
            if (PQgetisnull(result, row, column))
                fputs("null", out);
            else if (PQftype(result, column) == PG_OID_TEXT)
                put_string(out, value);
            else if (PQftype(result, column) == PG_OID_BOOL)
                fputs(value[0] == 't' ? "true" : "false", out);
            else
                fputs(value, out);
        }
        fputs("}\n", out);
    }
    PQclear(result);
    fclose(out);
    return text;
}

/* The rows of an answer in the format of GET /v1/views/{view}/rows. */
static char *rows_of(const char *answer, const char *of)
{
    const char *rows = strstr(answer, "\"rows\":[");
    const char *end = strstr(answer, "],\"receipt\":");
    if (rows == NULL || end == NULL)
        fail_msg("%s: %s", of, answer);
    rows += 8;
    char *text = malloc((size_t)(end - rows) + 2);
    assert_non_null(text);
    size_t length = 0;
    for (; rows < end; rows++)
        if (!(rows[0] == ',' && rows[1] == '\n'))
            text[length++] = *rows;
    if (length > 0)
        text[length++] = '\n';
    text[length] = '\0';
    return text;
}

static char *http_rows(const char *target)
{
    struct http_reply reply;
    http_get(http, target, &reply);
    if (reply.status != 200)
        fail_msg("%s: %d %s %s", target, reply.status, reply.problem, reply.body);
    char *rows = rows_of(reply.body, target);
    http_reply_free(&reply);
    return rows;
}

static json_t *get_json(const char *target)
{
    struct http_reply reply;
    http_get(http, target, &reply);
    assert_int_equal(reply.status, 200);
    json_t *json = http_reply_json(&reply);
    http_reply_free(&reply);
    assert_non_null(json);
    return json;
}

static void assert_same(const char *what, char *got, char *expected, size_t least_rows)
{
    size_t count = 0;
    for (const char *at = expected; (at = strchr(at, '\n')) != NULL; at++)
        count++;
    if (strcmp(got, expected) != 0)
        fail_msg("%s\ngot\n%s\nexpected\n%s", what, got, expected);
    if (count < least_rows)
        fail_msg("%s: too few rows to prove anything:\n%s", what, expected);
    free(got);
    free(expected);
}

#define ROWS "/v1/views/routes/rows"

/* --- the deployment --- */

static const char source_json[] =
    "{\"source\":\"flights\",\"topic\":\"\",\"partitions\":2,"
    "\"event_time\":{\"field\":\"at\",\"format\":\"epoch_s\"},\"fields\":{\"at\":\"integer\","
    "\"origin\":{\"type\":\"string\",\"nullable\":true},\"destination\":\"string\","
    "\"carrier\":\"integer\",\"delay\":{\"type\":\"integer\",\"nullable\":true}}}";

#define DEFINITION(lookups, measures)                                                              \
    "{\"view\":\"routes\",\"source\":\"flights\","                                                 \
    "\"group_by\":[\"origin\",\"destination\",\"carrier\"],"                                       \
    "\"window\":{\"type\":\"tumbling\",\"size\":\"1h\"}," lookups "\"measures\":{"                 \
    "\"flights\":\"count(*)\"," measures                                                           \
    "\"known\":\"count(delay)\",\"total\":\"sum(delay)\",\"mean\":\"avg(delay)\"}}"
#define LOOKUPS                                                                                    \
    "\"lookup\":["                                                                                 \
    "{\"table\":\"airports\",\"key\":\"origin\",\"on\":\"iata\","                                  \
    " \"columns\":[\"city\",\"state\",\"height\",\"hub\",\"opened\",\"founded\",\"runways\"]},"    \
    "{\"table\":\"airports\",\"key\":\"destination\",\"on\":\"iata\","                             \
    " \"columns\":[{\"state\":\"to_state\"}]},"                                                    \
    "{\"table\":\"ref.Carriers\",\"key\":\"carrier\",\"on\":\"id\","                               \
    " \"columns\":{\"Name\":\"airline\"}}],"

/* All columns of dovetail.routes as HTTP gives them. */
#define TIME_SQL(column)                                                                           \
    "rtrim(rtrim(to_char(" column                                                                  \
    " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US'), '0'), '.') || 'Z'"
#define WINDOW_SQL                                                                                 \
    TIME_SQL("window_start") " AS window_start, " TIME_SQL("window_end") " AS window_end"
#define ROUTES_SQL                                                                                 \
    "SELECT " WINDOW_SQL ", origin, destination, carrier, city, state, trim_scale(height) AS "     \
    "height, hub, " TIME_SQL(                                                                      \
        "opened") " AS opened, founded, runways, to_state, airline, flights, "                     \
                  "known, total, trim_scale(mean) AS mean, provisional FROM dovetail.routes AS t "
#define ROUTES_ORDER " ORDER BY t.window_start, t.origin, t.destination, t.carrier"
/* A roll-up in SQL of what the SQL view has. */
#define ROLLED_SQL                                                                                 \
    "sum(flights)::bigint AS flights, sum(known)::bigint AS known, sum(total) AS total,"           \
    " trim_scale(sum(total) / nullif(sum(known), 0)) AS mean"

static void make_tables(void)
{
    execute(
        "CREATE SCHEMA ref;"
        "CREATE TABLE airports (iata varchar(3) COLLATE \"en-x-icu\" NOT NULL UNIQUE, city text,"
        " state char(4), height numeric(9,3), hub boolean, opened timestamptz, founded date,"
        " runways smallint, secret text);"
        "CREATE TABLE ref.\"Carriers\" (id integer PRIMARY KEY, \"Name\" text);"
        "INSERT INTO airports VALUES"
        " ('SFO', 'San Francisco', 'CA', 4.000, true, '1927-05-07 00:00Z', '1927-05-07', 4),"
        " ('LAX', 'Los \"Angeles\"', 'CA', 38.500, true, '1930-10-01 12:30:00.25Z', NULL, 4),"
        " ('LAS', 'Las Vegas', 'NV', 665, false, NULL, '1948-12-19', 4),"
        " ('RNO', 'Reno', 'NV', 1346.2, NULL, '1929-01-01 00:00Z', NULL, 3),"
        " ('JFK', E'New\\nYork, O''x', NULL, NULL, true, NULL, NULL, NULL);"
        "INSERT INTO ref.\"Carriers\" VALUES (1, 'United'), (2, 'Delta')");
}

static void produce(int first, int count)
{
    static const char *const airports[] = {"\"SFO\"", "\"LAX\"", "\"LAS\"", "\"RNO\"",
                                           "\"JFK\"", "\"XXX\"", "\"sfo\"", "null"};
    char path[160];
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    for (int i = first; i < first + count; i++) {
        char delay[16] = "null";
        if (i % 5 != 0)
            snprintf(delay, sizeof delay, "%d", i * 7 % 61 - 10);
        fprintf(out, "{\"at\":%d,\"origin\":%s,\"destination\":%s,\"carrier\":%d,\"delay\":%s}\n",
                1000000000 + i * 97 % 20000, airports[i * 31 % 8], airports[i * 17 % 7],
                i * 13 % 3 + 1, delay);
    }
    fclose(out);
    deployment_write(deployment, "lines.jsonl", text);
    free(text);
    snprintf(path, sizeof path, "%s/lines.jsonl", deployment->directory);
    deployment_run(deployment, 0, "dovetail", "produce", "flights", path, NULL);
}

static void await_counted(int64_t wanted)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    while (deployment_number(deployment, "SELECT sum(counted)::bigint FROM "
                                         "dovetail_internal.position") != wanted) {
        if (stack_now_ms() > deadline || !child_is_running(speed)) {
            children_show();
            fail_msg("not all records are counted");
        }
        stack_sleep_ms(20);
    }
}

/* Half of the records in batch rows, half in speed rows, serving over both. */
static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    database = deployment_connect(deployment);
    execute("SET TimeZone = 'UTC'");
    make_tables();
    deployment_define_source(deployment, source_json);
    deployment_define_view(deployment, DEFINITION(LOOKUPS, ""));
    deployment_define_view(deployment,
                           "{\"view\":\"plain\",\"source\":\"flights\",\"group_by\":[\"origin\"],"
                           "\"window\":{\"type\":\"tumbling\",\"size\":\"1h\"},"
                           "\"measures\":{\"flights\":\"count(*)\"}}");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    produce(0, RECORDS / 2);
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    await_counted(RECORDS / 2);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    produce(RECORDS / 2, RECORDS / 2);
    await_counted(RECORDS);
    deployment_serve(deployment);
    http = http_session_create(deployment->port);
    assert_non_null(http);
    return 0;
}

/* Roles are the server's, not the database's: those of a test that failed would stay. */
static void drop_roles(const char *prefix)
{
    char sql[200];
    PGconn *server = database_open(stack_postgres());
    snprintf(sql, sizeof sql, "DROP ROLE IF EXISTS %s_reader, %s_owner", prefix, prefix);
    PQclear(database_ask(server, "SET client_min_messages = error"));
    PQclear(database_ask(server, sql));
    PQfinish(server);
}

static int tear_down(void **state)
{
    (void)state;
    char prefix[sizeof deployment->database];
    snprintf(prefix, sizeof prefix, "%s", deployment->database);
    http_session_destroy(http);
    PQfinish(database);
    deployment_destroy(deployment);
    drop_roles(prefix);
    http = NULL;
    database = NULL;
    deployment = NULL;
    speed = NULL;
    return 0;
}

/* --- answers --- */

static void check_all_rows(void)
{
    assert_same(ROWS, http_rows(ROWS), sql_rows(ROUTES_SQL ROUTES_ORDER), 100);
}

static void test_answers_equal_sql(void **state)
{
    (void)state;
    check_all_rows();
    assert_same("layers", http_rows(ROWS "?layer=batch&group_by=&granularity=all&measures=flights"),
                strdup("{\"window_start\":null,\"window_end\":null,\"flights\":200,"
                       "\"provisional\":true}\n"),
                1);
    /* filters */
    assert_same("state", http_rows(ROWS "?state=NV"),
                sql_rows(ROUTES_SQL "WHERE state = 'NV'" ROUTES_ORDER), 10);
    assert_same(
        "two", http_rows(ROWS "?state=CA&to_state=NV&airline=United"),
        sql_rows(ROUTES_SQL
                 "WHERE state = 'CA' AND to_state = 'NV' AND airline = 'United'" ROUTES_ORDER),
        1);
    assert_same("null", http_rows(ROWS "?state.is=null"),
                sql_rows(ROUTES_SQL "WHERE state IS NULL" ROUTES_ORDER), 10);
    assert_same("number", http_rows(ROWS "?height=1346.20"),
                sql_rows(ROUTES_SQL "WHERE height = 1346.2" ROUTES_ORDER), 10);
    assert_same("time", http_rows(ROWS "?opened=1930-10-01T12:30:00.25Z&hub=true&runways=4"),
                sql_rows(ROUTES_SQL "WHERE origin = 'LAX'" ROUTES_ORDER), 10);
    assert_same("text", http_rows(ROWS "?founded=1927-05-07"),
                sql_rows(ROUTES_SQL "WHERE origin = 'SFO'" ROUTES_ORDER), 10);
    assert_same("quotes", http_rows(ROWS "?state=NV%27%20OR%20true--"),
                sql_rows(ROUTES_SQL "WHERE false"), 0);
    /* order */
    assert_same("order", http_rows(ROWS "?order=-state,airline,-flights"),
                sql_rows(ROUTES_SQL "ORDER BY state COLLATE \"C\" DESC, airline COLLATE \"C\","
                                    " flights DESC, t.window_start, t.origin, t.destination,"
                                    " t.carrier"),
                100);
}

static void test_rolled_up_by_looked_up_columns(void **state)
{
    (void)state;
    assert_same("state", http_rows(ROWS "?group_by=state&granularity=all"),
                sql_rows("SELECT NULL AS window_start, NULL AS window_end, state, " ROLLED_SQL
                         ", true AS provisional FROM dovetail.routes GROUP BY state"
                         " ORDER BY state COLLATE \"C\""),
                3);
    assert_same("hourly", http_rows(ROWS "?group_by=state"),
                sql_rows("SELECT " WINDOW_SQL ", state, " ROLLED_SQL
                         ", bool_or(provisional) AS provisional FROM dovetail.routes AS t"
                         " GROUP BY t.window_start, t.window_end, state"
                         " ORDER BY t.window_start, state COLLATE \"C\""),
                10);
    assert_same("three tables",
                http_rows(ROWS "?group_by=airline,to_state,state,destination&hub=true"),
                sql_rows("SELECT " WINDOW_SQL ", airline, to_state, state, destination, " ROLLED_SQL
                         ", bool_or(provisional) AS provisional FROM dovetail.routes AS t WHERE hub"
                         " GROUP BY t.window_start, t.window_end, airline, to_state, state,"
                         " destination ORDER BY t.window_start, airline COLLATE \"C\","
                         " to_state COLLATE \"C\", state COLLATE \"C\", destination"),
                20);
    assert_same(
        "height", http_rows(ROWS "?group_by=height,runways&granularity=all"),
        sql_rows("SELECT NULL AS window_start, NULL AS window_end, trim_scale(height) AS"
                 " height, runways, " ROLLED_SQL ", true AS provisional FROM"
                 " dovetail.routes AS t GROUP BY t.height, runways ORDER BY t.height, runways"),
        4);
    /* Every record once, whatever the tables have. */
    assert_same("once", http_rows(ROWS "?group_by=&granularity=all&measures=flights"),
                strdup("{\"window_start\":null,\"window_end\":null,\"flights\":400,"
                       "\"provisional\":true}\n"),
                1);
    json_t *json = get_json(ROWS "?group_by=city,airline,to_state&granularity=all");
    json_t *row;
    size_t index;
    int64_t flights = 0;
    json_array_foreach (json_object_get(json, "rows"), index, row)
        flights += json_integer_value(json_object_get(row, "flights"));
    assert_int_equal(flights, RECORDS);
    json_decref(json);
    expect_number("SELECT sum(flights)::bigint FROM dovetail.routes", RECORDS);
}

/* The same rows on the command line, and what is wrong is told by name. */
static void test_command_line(void **state)
{
    (void)state;
    struct child *child = deployment_run(deployment, 0, "dovetail", "query", "routes", "--format",
                                         "json", "--where", "state=CA", "--order", "-city", NULL);
    assert_same("query", rows_of(child_output(child), "query"),
                http_rows(ROWS "?state=CA&order=-city"), 20);
    child = deployment_run(deployment, 0, "dovetail", "query", "routes", "--format", "csv",
                           "--group-by", "state", "--granularity", "all", "--measures", "flights",
                           "--where-null", "airline", NULL);
    assert_non_null(strstr(child_output(child), "window_start,window_end,state,flights,"));
    child =
        deployment_run(deployment, 2, "dovetail", "query", "routes", "--group-by", "secret", NULL);
    assert_non_null(strstr(child_errors(child),
                           "group_by: no key \"secret\"; the keys are: origin, "
                           "destination, carrier, city, state, height"));
    child = deployment_run(deployment, 0, "dovetail", "query", "plain", NULL);
    child = deployment_run(deployment, 0, "dovetail", "verify", "routes", NULL);
    assert_non_null(strstr(child_output(child), "identical: "));
    assert_non_null(strstr(child_output(child),
                           "looked up when asked, not recomputed: city (airports.city), state "));
    child = deployment_run(deployment, 0, "dovetail", "verify", "plain", NULL);
    assert_null(strstr(child_output(child), "looked up"));
}

static void test_description(void **state)
{
    (void)state;
    json_t *json = get_json("/v1/views/routes");
    json_t *lookups = json_object_get(json, "lookups");
    assert_int_equal(json_array_size(lookups), 9);
    json_t *height = json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", "height", "type", "decimal",
                               "key", "origin", "table", "airports", "column", "height");
    assert_true(json_equal(json_array_get(lookups, 2), height));
    json_t *airline = json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", "airline", "type", "string",
                                "key", "carrier", "table", "ref.Carriers", "column", "Name");
    assert_true(json_equal(json_array_get(lookups, 8), airline));
    assert_int_equal(json_array_size(json_object_get(json, "keys")), 3);
    json_decref(height);
    json_decref(airline);
    json_decref(json);
    json = get_json("/v1/views/plain");
    assert_int_equal(json_array_size(json_object_get(json, "lookups")), 0);
    json_decref(json);
}

/* --- corrections --- */

static void test_corrections_show_at_once(void **state)
{
    (void)state;
    static const char *const corrections[] = {
        "UPDATE airports SET state = 'OR', city = 'Portland' WHERE iata = 'RNO'",
        "INSERT INTO airports (iata, city, state) VALUES ('XXX', 'Nowhere', '-')",
        "DELETE FROM airports WHERE iata = 'SFO'",
        "UPDATE airports SET height = -0.125, hub = false, opened = NULL",
        "INSERT INTO ref.\"Carriers\" VALUES (3, 'Third')",
        "UPDATE airports SET iata = lower(iata) WHERE iata = 'LAS'",
        "TRUNCATE ref.\"Carriers\"",
        "DELETE FROM airports",
    };
    char *before = http_rows(ROWS);
    for (size_t i = 0; i < sizeof corrections / sizeof corrections[0]; i++) {
        execute(corrections[i]);
        char *after = http_rows(ROWS);
        if (strcmp(before, after) == 0)
            fail_msg("%s: changes nothing", corrections[i]);
        free(before);
        before = after;
        check_all_rows();
        struct child *child =
            deployment_run(deployment, 0, "dovetail", "query", "routes", "--format", "json", NULL);
        assert_same(corrections[i], rows_of(child_output(child), "query"), http_rows(ROWS), 100);
    }
    free(before);
}

/* Batch and speed rows of one answer see one state of the reference table: it is changed when the
 * batch rows have been read, while the statement of the speed rows waits for a lock. */
static void test_one_snapshot(void **state)
{
    (void)state;
    static const char target[] = ROWS "?group_by=state&granularity=all&measures=flights&hub=true";
    char sql[300];
    int64_t version = deployment_number(
        deployment, "SELECT version FROM dovetail_internal.view_version WHERE view = 'routes'");
    execute("UPDATE airports SET state = 'old'");
    char *before = http_rows(target);
    assert_non_null(strstr(before, "\"state\":\"old\""));
    snprintf(sql, sizeof sql, "BEGIN; LOCK TABLE dovetail_internal.speed_%lld", (long long)version);
    execute(sql);
    struct child *query = deployment_start(deployment, "dovetail", "query", "routes", "--group-by",
                                           "state", "--granularity", "all", "--measures", "flights",
                                           "--where", "hub=true", "--format", "json", NULL);
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
             " WHERE NOT granted AND application_name = 'dovetail'"
             " AND relation = 'dovetail_internal.speed_%lld'::regclass",
             (long long)version);
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    while (deployment_number(deployment, sql) < 1 && stack_now_ms() < deadline)
        stack_sleep_ms(10);
    expect_number(sql, 1);
    expect_number("UPDATE airports SET state = 'new' WHERE iata = 'SFO' RETURNING 1", 1);
    execute("COMMIT");
    child_expect(query, 0);
    assert_same("one snapshot", rows_of(child_output(query), "one snapshot"), before, 1);
    char *after = http_rows(target);
    assert_non_null(strstr(after, "\"state\":\"new\""));
    free(after);
}

/* --- what init refuses --- */

static void expect_init(const char *definition, const char *part)
{
    deployment_define_view(deployment, definition);
    struct child *child = deployment_run(deployment, 2, "dovetail", "init", NULL);
    if (strstr(child_errors(child), part) == NULL)
        fail_msg("\"%s\" without \"%s\"", child_errors(child), part);
}

#define ONE_LOOKUP(members) DEFINITION("\"lookup\":[{" members "}],", "")

static void test_init_refuses(void **state)
{
    (void)state;
    execute("CREATE VIEW airport_view AS SELECT * FROM airports;"
            "CREATE TABLE loose (iata text, city text);"
            "CREATE UNIQUE INDEX ON loose (iata) WHERE city IS NOT NULL;"
            "CREATE UNIQUE INDEX ON loose (iata, city);"
            "CREATE UNIQUE INDEX ON loose (lower(iata));"
            "CREATE INDEX ON loose (iata)");
    expect_init(ONE_LOOKUP("\"table\":\"airport\",\"key\":\"origin\",\"columns\":[\"city\"]"),
                "view routes: lookup[0]: table: there is no table public.airport");
    expect_init(ONE_LOOKUP("\"table\":\"Ref.airports\",\"key\":\"origin\",\"columns\":[\"city\"]"),
                "view routes: lookup[0]: table: there is no table Ref.airports");
    expect_init(ONE_LOOKUP("\"table\":\"airports\",\"key\":\"origin\",\"columns\":[\"city\"]"),
                "lookup[0]: on: table public.airports has no column \"origin\"");
    expect_init(ONE_LOOKUP("\"table\":\"airports\",\"key\":\"origin\",\"on\":\"iata\","
                           "\"columns\":[{\"town\":\"city\"}]"),
                "lookup[0]: columns: table public.airports has no column \"town\"");
    expect_init(ONE_LOOKUP("\"table\":\"airports\",\"key\":\"carrier\",\"on\":\"iata\","
                           "\"columns\":[\"city\"]"),
                "lookup[0]: on: column \"iata\" of table public.airports has type character "
                "varying(3), the key \"carrier\" integer");
    expect_init(ONE_LOOKUP("\"table\":\"loose\",\"key\":\"origin\",\"on\":\"iata\","
                           "\"columns\":[\"city\"]"),
                "lookup[0]: on: column \"iata\" of table public.loose has no unique index");
    expect_init(ONE_LOOKUP("\"table\":\"airport_view\",\"key\":\"origin\",\"on\":\"iata\","
                           "\"columns\":[\"city\"]"),
                "lookup[0]: table: public.airport_view is a view");
    expect_init(ONE_LOOKUP("\"table\":\"airports\\\"; DROP TABLE airports; --\",\"key\":\"origin\","
                           "\"columns\":[\"city\"]"),
                "views/routes.json: lookup[0]: table: \"airports\"; DROP TABLE airports; --\" is "
                "not the name of a table");
    expect_init(ONE_LOOKUP("\"table\":\"airports\",\"key\":\"origin\",\"on\":\"iata\","
                           "\"columns\":[\"city\\\"::text FROM airports; --\"]"),
                "views/routes.json: lookup[0]: columns[0]: ");
    struct child *child = deployment_run(deployment, 2, "dovetail", "validate", NULL);
    assert_non_null(strstr(child_errors(child), "views/routes.json: lookup[0]: columns[0]: "));
    /* Nothing of all that was registered. */
    check_all_rows();
    expect_number("SELECT count(*) FROM dovetail_internal.view_version", 2);
}

/* Rights are asked of the role that runs init. */
static void test_init_without_rights(void **state)
{
    (void)state;
    char role[80], conninfo[700];
    snprintf(role, sizeof role, "%s_reader", deployment->database);
    char sql[1200];
    snprintf(sql, sizeof sql,
             "CREATE ROLE %s; GRANT ALL ON SCHEMA dovetail, dovetail_internal TO %s;"
             "GRANT ALL ON ALL TABLES IN SCHEMA dovetail_internal TO %s;"
             "GRANT SELECT (iata, city) ON airports TO %s; GRANT SELECT ON ref.\"Carriers\" TO %s",
             role, role, role, role, role);
    execute(sql);
    snprintf(conninfo, sizeof conninfo, "%s options='-c role=%s'", deployment->postgres, role);
    deployment_set(deployment, NULL, "postgres", json_string(conninfo));
    expect_init(ONE_LOOKUP("\"table\":\"airports\",\"key\":\"origin\",\"on\":\"iata\","
                           "\"columns\":[\"city\",\"state\"]"),
                "lookup[0]: columns: no right to read column \"state\" of table public.airports");
    expect_init(ONE_LOOKUP("\"table\":\"ref.Carriers\",\"key\":\"carrier\",\"on\":\"id\","
                           "\"columns\":[{\"Name\":\"airline\"}]"),
                "lookup[0]: table: no right to use the schema ref");
    snprintf(sql, sizeof sql, "DROP OWNED BY %s; DROP ROLE %s", role, role);
    execute(sql);
}

/* --- changed lookups --- */

/* The stored states stay; the next answer of everybody has the new columns. */
static void test_changed_lookups_take_effect(void **state)
{
    (void)state;
    char sql[300];
    int64_t version = deployment_number(
        deployment, "SELECT version FROM dovetail_internal.view_version WHERE view = 'routes'");
    snprintf(sql, sizeof sql, "CREATE ROLE %s_reader; GRANT SELECT ON dovetail.routes TO %s_reader",
             deployment->database, deployment->database);
    execute(sql);
    struct child *child = deployment_run(deployment, 0, "dovetail", "init", NULL);
    assert_non_null(strstr(child_output(child), "view routes: unchanged"));
    deployment_define_view(deployment,
                           ONE_LOOKUP("\"table\":\"airports\",\"key\":\"origin\","
                                      "\"on\":\"iata\",\"columns\":[{\"city\":\"town\"}]"));
    child = deployment_run(deployment, 0, "dovetail", "init", NULL);
    assert_non_null(strstr(child_output(child), "view routes: changed, version "));
    assert_null(strstr(child_output(child), "readable once"));
    assert_same("renamed", http_rows(ROWS "?group_by=town&granularity=all&measures=flights"),
                sql_rows("SELECT NULL AS window_start, NULL AS window_end, town,"
                         " sum(flights)::bigint AS flights, true AS provisional"
                         " FROM dovetail.routes GROUP BY town ORDER BY town COLLATE \"C\""),
                4);
    struct http_reply reply;
    http_get(http, ROWS "?state=CA", &reply);
    assert_int_equal(reply.status, 400);
    http_reply_free(&reply);
    expect_number("SELECT count(*) FROM pg_views WHERE viewname LIKE 'lookup%'", 1);
    snprintf(sql, sizeof sql,
             "SELECT has_table_privilege('%s_reader', 'dovetail.routes', 'SELECT')"
             "::integer",
             deployment->database);
    expect_number(sql, 1);
    /* none any more, and back */
    deployment_define_view(deployment, DEFINITION("", ""));
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    char *rows = http_rows(ROWS);
    assert_null(strstr(rows, "town"));
    free(rows);
    expect_number("SELECT count(*) FROM pg_views WHERE viewname LIKE 'lookup%'", 0);
    deployment_define_view(deployment, DEFINITION(LOOKUPS, ""));
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    check_all_rows();
    assert_int_equal(version, deployment_number(deployment, "SELECT max(version) FROM "
                                                            "dovetail_internal.view_version "
                                                            "WHERE view = 'routes'"));
    /* A new version beside it has its own. */
    deployment_define_view(deployment, DEFINITION(LOOKUPS, "\"worst\":\"max(delay)\","));
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    check_all_rows();
    expect_number("SELECT count(*) FROM pg_views WHERE viewname LIKE 'lookup%'", 3);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    assert_same(
        "new version", http_rows(ROWS "?group_by=state&granularity=all&measures=worst"),
        sql_rows("SELECT NULL AS window_start, NULL AS window_end, state, max(worst) AS worst,"
                 " true AS provisional FROM dovetail.routes GROUP BY state"
                 " ORDER BY state COLLATE \"C\""),
        3);
    expect_number("SELECT count(*) FROM pg_views WHERE viewname LIKE 'lookup%'", 3);
    snprintf(sql, sizeof sql, "DROP OWNED BY %s_reader; DROP ROLE %s_reader", deployment->database,
             deployment->database);
    execute(sql);
}

/* All readers go on with the same table until init looks the name up again. */
static void test_replaced_table(void **state)
{
    (void)state;
    execute("CREATE TABLE newer (LIKE airports INCLUDING ALL);"
            "INSERT INTO newer (iata, state) VALUES ('SFO', 'new'), ('LAX', 'new');"
            "BEGIN; ALTER TABLE airports RENAME TO older; ALTER TABLE newer RENAME TO airports;"
            " COMMIT");
    check_all_rows();
    char *rows = http_rows(ROWS "?state=new");
    assert_string_equal(rows, "");
    free(rows);
    expect_refusal("DROP TABLE older", "dovetail.routes");
    struct child *child = deployment_run(deployment, 0, "dovetail", "init", NULL);
    assert_non_null(strstr(child_output(child), "view routes: changed"));
    rows = http_rows(ROWS "?state=new");
    assert_true(strlen(rows) > 1000);
    free(rows);
    check_all_rows();
    execute("DROP TABLE older");
    check_all_rows();
}

/* --- what becomes of the tables --- */

/* 503 with a problem document that has `part`. */
static void expect_unavailable(const char *target, const char *part)
{
    struct http_reply reply;
    http_get(http, target, &reply);
    if (reply.status != 503 || strstr(reply.body, part) == NULL)
        fail_msg("%s: %d %s", target, reply.status, reply.body);
    assert_string_equal(reply.content_type, "application/problem+json");
    http_reply_free(&reply);
}

static void check_others(void)
{
    free(http_rows("/v1/views/plain/rows"));
    free(http_rows(ROWS "?group_by=origin,destination"));
    free(http_rows(ROWS "?group_by=airline"));
}

static void test_dropped_table(void **state)
{
    (void)state;
    struct child *child;
    free(http_rows(ROWS));
    expect_refusal("DROP TABLE airports", "dovetail.routes");
    execute("DROP TABLE airports CASCADE");
    for (int i = 0; i < 2; i++) {
        expect_unavailable(ROWS, "lookup: cannot read the reference table airports: ");
        expect_unavailable(ROWS "?group_by=to_state&measures=flights",
                           "lookup: cannot read the reference table airports: ");
        expect_unavailable(ROWS "?state=CA&group_by=origin",
                           "lookup: cannot read the reference table airports: ");
        check_others();
    }
    child = deployment_run(deployment, 1, "dovetail", "query", "routes", NULL);
    assert_non_null(
        strstr(child_errors(child), "lookup: cannot read the reference table airports"));
    child = deployment_run(deployment, 2, "dovetail", "init", NULL);
    assert_non_null(strstr(child_errors(child),
                           "view routes: lookup[0]: table: there is no table public.airports"));
    /* The layers do not care. */
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    deployment_run(deployment, 0, "dovetail", "verify", "routes", NULL);
    children_must_run(&speed, 1);
    check_others();
    /* It comes back with other types, and init is told to look. */
    execute("CREATE TABLE airports (iata text PRIMARY KEY, city text, state text, height numeric,"
            " hub boolean, opened timestamptz, founded date, runways bigint);"
            "INSERT INTO airports (iata, state, runways) VALUES ('SFO', 'back', 5000000000)");
    expect_unavailable(ROWS, "airports");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    check_all_rows();
    char *rows = http_rows(ROWS "?runways=5000000000");
    assert_non_null(strstr(rows, "\"state\":\"back\""));
    free(rows);
}

/* Without the index two rows could have one key, and a record would count twice. */
static void test_dropped_index(void **state)
{
    (void)state;
    execute("ALTER TABLE airports DROP CONSTRAINT airports_iata_key;"
            "INSERT INTO airports (iata, state) VALUES ('SFO', '2')");
    expect_unavailable(ROWS, "airports has no unique index any more");
    expect_refusal("SELECT * FROM dovetail.routes", "airports has no unique index any more");
    check_others();
    execute("DELETE FROM airports WHERE state = '2';"
            "CREATE UNIQUE INDEX again ON airports (iata)");
    check_all_rows();
    execute("REINDEX TABLE CONCURRENTLY airports");
    check_all_rows();
}

static void test_lost_rights(void **state)
{
    (void)state;
    char sql[600];
    snprintf(sql, sizeof sql,
             "CREATE ROLE %s_owner; ALTER VIEW dovetail_internal.lookup_%lld_3"
             " OWNER TO %s_owner",
             deployment->database,
             (long long)deployment_number(deployment,
                                          "SELECT version FROM "
                                          "dovetail_internal.view_version WHERE view = 'routes'"),
             deployment->database);
    execute(sql);
    expect_unavailable(ROWS "?group_by=airline", "cannot read the reference table ref.Carriers: ");
    free(http_rows(ROWS "?group_by=state"));
    snprintf(sql, sizeof sql, "REASSIGN OWNED BY %s_owner TO CURRENT_USER; DROP ROLE %s_owner",
             deployment->database, deployment->database);
    execute(sql);
    check_all_rows();
}

/* A version that cannot become current keeps nothing else from being published. */
static void test_promotion_waits(void **state)
{
    (void)state;
    execute("CREATE TABLE towns (iata text PRIMARY KEY, town text);"
            "INSERT INTO towns VALUES ('SFO', 'there')");
    deployment_define_view(
        deployment,
        DEFINITION("\"lookup\":[{\"table\":\"towns\",\"key\":\"origin\",\"on\":\"iata\","
                   "\"columns\":[\"town\"]}],",
                   "\"worst\":\"max(delay)\","));
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    execute("DROP TABLE towns");
    struct child *child = deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    if (strstr(child_errors(child), "there is no table public.towns") == NULL)
        fail_msg("no warning: %s", child_errors(child));
    check_all_rows(); /* of the version before, with its lookups */
    free(http_rows("/v1/views/plain/rows"));
    execute("CREATE TABLE towns (iata text PRIMARY KEY, town text);"
            "INSERT INTO towns VALUES ('SFO', 'here')");
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    char *rows = http_rows(ROWS "?town=here&measures=worst");
    assert_true(strlen(rows) > 500);
    free(rows);
}

/* What the engine cannot hold is told by column, and nothing else is touched. */
static void test_values_out_of_bounds(void **state)
{
    (void)state;
    execute("UPDATE airports SET city = repeat('x', 20000)");
    check_all_rows();
    execute("UPDATE airports SET city = repeat('x', 70000) WHERE iata = 'SFO'");
    expect_unavailable(ROWS, "lookup: column \\\"city\\\" (airports.city): more than 65536 bytes");
    free(http_rows(ROWS "?group_by=state"));
    execute("UPDATE airports SET city = NULL, opened = 'infinity' WHERE iata = 'SFO'");
    expect_unavailable(ROWS, "lookup: column \\\"opened\\\" (airports.opened): ");
    free(http_rows(ROWS "?group_by=state"));
    execute("UPDATE airports SET opened = NULL, height = 'NaN' WHERE iata = 'SFO'");
    expect_unavailable(ROWS, "lookup: column \\\"height\\\" (airports.height): ");
    execute("UPDATE airports SET height = NULL WHERE iata = 'SFO'");
    check_all_rows();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_answers_equal_sql),
        TEST(test_rolled_up_by_looked_up_columns),
        TEST(test_command_line),
        TEST(test_description),
        TEST(test_corrections_show_at_once),
        TEST(test_one_snapshot),
        TEST(test_init_refuses),
        TEST(test_init_without_rights),
        TEST(test_changed_lookups_take_effect),
        TEST(test_replaced_table),
        TEST(test_dropped_table),
        TEST(test_dropped_index),
        TEST(test_lost_rights),
        TEST(test_promotion_waits),
        TEST(test_values_out_of_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
