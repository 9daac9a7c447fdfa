/* Every kind of window on a real deployment: tumbling, calendar, hopping, session and none.
 *
 * Random visits come in waves; between them runs are published, so that windows have a part in the
 * batch rows and parts in several slices, and late visits bridge sessions. After each wave HTTP,
 * the SQL view and the command line must give the same rows, and these must be what PostgreSQL
 * computes from the visits themselves, which the test keeps in a table of its own: hopping windows
 * generated for each visit, sessions by lag(), days by date_trunc. `dovetail verify` must say so,
 * too.
 *
 * DOVETAIL_SEED repeats. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/database.h"
#include "tests/support/deployment.h"
#include "tests/support/http.h"
#include "tests/support/orders.h"
#include "tests/support/stack.h"

enum { WAVES = 4, WAVE_VISITS = 500, TEXT_MAX = 4000 };

static const char source_json[] =
    "{\"source\": \"visits\", \"partitions\": 3,"
    " \"event_time\": {\"field\": \"at\", \"format\": \"epoch_ms\"},"
    " \"fields\": {\"at\": \"integer\", \"user\": {\"type\": \"string\", \"nullable\": true},"
    "  \"amount\": {\"type\": \"decimal\", \"nullable\": true}}}";

#define MEASURES                                                                                   \
    "\"measures\": {\"n\": \"count(*)\", \"total\": \"sum(amount)\", \"mean\": \"avg(amount)\","   \
    " \"most\": \"max(amount)\", \"early\": \"first(amount)\", \"p90\":"                           \
    " \"approx_percentile(amount, 0.9)\", \"kinds\": \"count(DISTINCT amount)\"}"

/* What PostgreSQL computes of the table visits (at, "user", amount), beside the definition. In the
 * texts `w` is the start of a row's window, and `e` its end. */
struct view_case {
    const char *name;
    const char *window;
    bool by_user;
    const char *rows; /* visits with w and e; NULL: sessions of `gap` */
    const char *gap;  /* NULL, too: `dovetail verify` alone says what is right */
};

#define TUMBLING(w, e) "SELECT v.*, " w " AS w, " e " AS e FROM visits v"
#define HOPPING(size, slide)                                                                       \
    "SELECT v.*, w, w + interval '" size "' AS e FROM visits v, generate_series("                  \
    "date_bin('" slide "', v.at - interval '" size "', '1800-01-01Z') + interval '" slide "',"     \
    " v.at, interval '" slide "') AS w"
#define TRUNC(unit, zone) "date_trunc('" unit "', v.at, '" zone "')"
#define NEXT(unit, zone)                                                                           \
    "((date_trunc('" unit "', v.at AT TIME ZONE '" zone "') + interval '1 " unit                   \
    "') AT TIME ZONE '" zone "')"
#define IN_ZONE(unit, zone) TUMBLING(TRUNC(unit, zone), NEXT(unit, zone))

static const struct view_case cases[] = {
    {"hourly", "{\"type\": \"tumbling\", \"size\": \"1h\"}", true,
     TUMBLING("date_trunc('hour', v.at)", "date_trunc('hour', v.at) + interval '1 hour'"), NULL},
    {"days", "{\"type\": \"tumbling\", \"size\": \"1d\", \"timezone\": \"America/New_York\"}", true,
     IN_ZONE("day", "America/New_York"), NULL},
    {"brazil", "{\"type\": \"tumbling\", \"size\": \"1d\", \"timezone\": \"America/Sao_Paulo\"}",
     false, IN_ZONE("day", "America/Sao_Paulo"), NULL},
    {"nepal", "{\"type\": \"tumbling\", \"size\": \"1w\", \"timezone\": \"Asia/Kathmandu\"}", false,
     IN_ZONE("week", "Asia/Kathmandu"), NULL},
    {"months", "{\"type\": \"tumbling\", \"size\": \"1mo\"}", true, IN_ZONE("month", "UTC"), NULL},
    {"years", "{\"type\": \"tumbling\", \"size\": \"1y\", \"timezone\": \"Europe/Berlin\"}", false,
     IN_ZONE("year", "Europe/Berlin"), NULL},
    /* midnights that clocks run through twice: date_trunc takes the second one */
    {"cuba", "{\"type\": \"tumbling\", \"size\": \"1d\", \"timezone\": \"America/Havana\"}", false,
     NULL, NULL},
    {"newfoundland",
     "{\"type\": \"tumbling\", \"size\": \"1d\", \"timezone\": \"America/St_Johns\"}", true, NULL,
     NULL},
    {"hops", "{\"type\": \"hopping\", \"size\": \"1h\", \"slide\": \"20m\"}", true,
     HOPPING("1 hour", "20 minutes"), NULL},
    {"uneven", "{\"type\": \"hopping\", \"size\": \"50m\", \"slide\": \"15m\"}", false,
     HOPPING("50 minutes", "15 minutes"), NULL},
    {"sessions", "{\"type\": \"session\", \"gap\": \"10m\"}", true, NULL, "10 minutes"},
    {"bursts", "{\"type\": \"session\", \"gap\": \"90s\"}", false, NULL, "90 seconds"},
    {"ever", "{\"type\": \"none\"}", true, TUMBLING("NULL::timestamptz", "NULL::timestamptz"),
     NULL},
    {"everything", "{\"type\": \"none\"}", false,
     TUMBLING("NULL::timestamptz", "NULL::timestamptz"), NULL},
};
enum { CASES = sizeof cases / sizeof cases[0] };

static struct deployment *deployment;
static struct http_session *session;
static PGconn *connection;
static struct child *speed;
static uint64_t seed;
static int64_t produced;

static PGresult *run(const char *sql, int count, const char *const *values)
{
    PGresult *result = database_ask_with(connection, sql, count, values);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    return result;
}

static int set_up(void **state)
{
    (void)state;
    seed = stack_seed();
    deployment = deployment_create();
    deployment_define_source(deployment, source_json);
    for (size_t i = 0; i < CASES; i++) {
        char text[1000];
        snprintf(text, sizeof text,
                 "{\"view\": \"%s\", \"source\": \"visits\", \"group_by\": [%s], \"window\": %s,"
                 " " MEASURES "}",
                 cases[i].name, cases[i].by_user ? "\"user\"" : "", cases[i].window);
        deployment_define_view(deployment, text);
    }
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_serve(deployment);
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    session = http_session_create(deployment->port);
    connection = deployment_connect(deployment);
    PQclear(run("SET timezone = 'Asia/Tokyo'", 0, NULL)); /* the reader's own zone has no say */
    PQclear(run("CREATE TABLE visits (at timestamptz, \"user\" text COLLATE \"C\", amount numeric)",
                0, NULL));
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

/* --- visits --- */

/* Around changes of clocks, and before 1970; in whole minutes often, so that sessions end exactly
 * where the next visit is. */
static int64_t random_time_ms(void)
{
    static const int64_t around_s[] = {
        1710054000, /* 2024-03-10: spring in New York */
        1730610000, /* 2024-11-03: autumn in New York */
        1541300400, /* 2018-11-04: no midnight in Sao Paulo */
        1518922800, /* 2018-02-18: 23:00 twice there */
        504901800,  /* 1986-01-01: Kathmandu moves by a quarter of an hour */
        972786600,  /* 2000-10-29: 23:01 to 00:01 twice in Saint John's */
        1352005200, /* 2012-11-04: midnight twice in Havana */
        -86400,
    };
    int64_t spread_s = orders_below(&seed, 3) == 0 ? 100000 : 6000;
    int64_t time_s = around_s[orders_below(&seed, 8)] +
                     (int64_t)orders_below(&seed, (size_t)spread_s) - spread_s / 2;
    if (orders_below(&seed, 2) == 0)
        return time_s / 60 * 60000;
    return time_s * 1000 + (int64_t)orders_below(&seed, 1000);
}

static void add_visit(FILE *lines, FILE *sql, int64_t ms, const char *user, const char *amount)
{
    char quoted[40] = "null", literal[40] = "NULL";
    if (user != NULL) {
        snprintf(quoted, sizeof quoted, "\"%s\"", user);
        snprintf(literal, sizeof literal, "'%s'", user);
    }
    fprintf(lines, "{\"at\": %" PRId64 ", \"user\": %s, \"amount\": %s}\n", ms, quoted, amount);
    fprintf(sql, "%s(timestamptz 'epoch' + %" PRId64 " * interval '1 millisecond', %s, %s)",
            ftell(sql) > 30 ? "," : "", ms, literal, amount);
    produced++;
}

static void send(const char *file, const char *lines, const char *sql)
{
    char path[200];
    deployment_write(deployment, file, lines);
    snprintf(path, sizeof path, "%s/%s", deployment->directory, file);
    deployment_run(deployment, 0, "dovetail", "produce", "visits", path, NULL);
    PQclear(run(sql, 0, NULL));
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

static void send_wave(int wave)
{
    static const char *const users[] = {"u1", "u2", "u3", NULL};
    char *lines = NULL, *sql = NULL, file[32];
    size_t lines_length, sql_length;
    FILE *out = open_memstream(&lines, &lines_length), *rows = open_memstream(&sql, &sql_length);
    fputs("INSERT INTO visits VALUES    ", rows);
    for (int i = 0; i < WAVE_VISITS >> (WAVES - 1 - wave); i++) {
        char amount[32] = "null";
        if (orders_below(&seed, 5) != 0)
            snprintf(amount, sizeof amount, "%d.%02d", (int)orders_below(&seed, 100),
                     (int)orders_below(&seed, 100));
        add_visit(out, rows, random_time_ms(), users[orders_below(&seed, 4)], amount);
    }
    fclose(out);
    fclose(rows);
    snprintf(file, sizeof file, "wave%d.jsonl", wave);
    send(file, lines, sql);
    free(lines);
    free(sql);
}

/* --- comparing --- */

static bool has_oracle(const struct view_case *view)
{
    return view->rows != NULL || view->gap != NULL;
}

static bool is_timeless(const struct view_case *view)
{
    return strstr(view->window, "none") != NULL;
}

#define COLUMNS "window_start, window_end, \"user\", n, total, mean, most"
#define ALL_COLUMNS COLUMNS ", early, p90, kinds, provisional"

/* Rows over the visits, with the columns of the answer. `keys` is "user" or nothing. */
static char *oracle_sql(const char *rows, const char *gap, bool by_user)
{
    char *sql = NULL;
    const char *partition = by_user ? "PARTITION BY \"user\"" : "";
    const char *user = by_user ? "\"user\"" : "NULL::text";
    const char *group = by_user ? ", \"user\"" : "";
    const char *results = "count(*) AS n, sum(amount) AS total, avg(amount) AS mean,"
                          " max(amount) AS most";
    int length;
    if (gap != NULL)
        length = asprintf(
            &sql,
            "SELECT min(at) AS window_start, max(at) + interval '%s' AS window_end, %s AS \"user\","
            " %s FROM (SELECT b.*, count(*) FILTER (WHERE begins) OVER (%s ORDER BY at) AS session"
            "  FROM (SELECT v.*, (at - lag(at) OVER (%s ORDER BY at) < interval '%s') IS NOT TRUE"
            "   AS begins FROM visits v) AS b) AS s GROUP BY session%s",
            gap, user, results, partition, partition, gap, group);
    else
        length = asprintf(&sql,
                          "SELECT w AS window_start, e AS window_end, %s AS \"user\", %s"
                          " FROM (%s) AS r GROUP BY w, e%s",
                          user, results, rows, group);
    assert_true(length > 0);
    return sql;
}

/* The rows of a JSON answer against a statement with the same columns. */
static int64_t compare(const char *what, const char *body, const char *sql, const char *columns)
{
    char *statement = NULL;
    const char *values[] = {body};
    assert_true(
        asprintf(&statement,
                 "WITH a AS (SELECT %s FROM json_to_recordset($1::json -> 'rows') AS x(window_start"
                 "  timestamptz, window_end timestamptz, \"user\" text, n bigint, total numeric,"
                 "  mean numeric, most numeric, early numeric, p90 numeric, kinds bigint, "
                 "provisional boolean)), b AS (SELECT %s FROM (%s) AS"
                 "  y), d AS ((SELECT 'answer' AS who, * FROM (SELECT * FROM a EXCEPT ALL SELECT *"
                 "  FROM b) AS p) UNION ALL (SELECT 'other', * FROM (SELECT * FROM b EXCEPT ALL"
                 "  SELECT * FROM a) AS q)) SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM"
                 "  d), (SELECT string_agg(d::text, E'\\n' ORDER BY d::text) FROM (SELECT * FROM d"
                 "  LIMIT 20) AS d)",
                 columns, columns, sql) > 0);
    PGresult *result = run(statement, 1, values);
    int64_t rows = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    if (strcmp(PQgetvalue(result, 0, 1), "0") != 0)
        fail_msg("%s: %s of %" PRId64 " rows differ:\n%s", what, PQgetvalue(result, 0, 1), rows,
                 PQgetvalue(result, 0, 2));
    PQclear(result);
    free(statement);
    return rows;
}

static void get(const char *view, const char *parameters, int status, struct http_reply *reply)
{
    char target[500];
    snprintf(target, sizeof target, "/v1/views/%s/rows%s", view, parameters);
    http_get(session, target, reply);
    if (reply->status != status)
        fail_msg("%s: %d %s", target, reply->status, reply->body);
}

static void check_command_line(const char *view, const char *body)
{
    struct child *child =
        deployment_run(deployment, 0, "dovetail", "query", view, "--format", "json", NULL);
    json_t *http = json_loads(body, 0, NULL), *cli = json_loads(child_output(child), 0, NULL);
    if (!json_equal(json_object_get(http, "rows"), json_object_get(cli, "rows")))
        fail_msg("dovetail query %s answers otherwise than HTTP:\n%s\n%s", view, body,
                 child_output(child));
    json_decref(http);
    json_decref(cli);
    deployment_run(deployment, 0, "dovetail", "query", view, "--format", "csv", NULL);
    deployment_run(deployment, 0, "dovetail", "query", view, NULL);
}

/* Restricted in time and to a user: what the SQL view has of it. */
static void check_parts(const struct view_case *view)
{
    char parameters[200], sql[500];
    struct http_reply reply;
    if (!is_timeless(view)) {
        for (int i = 0; i < 6; i++) {
            int64_t from_s = random_time_ms() / 1000,
                    to_s = from_s + (int64_t)orders_below(&seed, 90000);
            char from[40], to[40];
            oracle_time_text(from_s * 1000000, from, sizeof from);
            oracle_time_text(to_s * 1000000, to, sizeof to);
            snprintf(parameters, sizeof parameters, "?from=%s&to=%s%s", from, to,
                     view->by_user && i % 2 == 0 ? "&user=u1" : "");
            snprintf(sql, sizeof sql,
                     "SELECT %s * FROM dovetail.\"%s\" WHERE window_start >= '%s' AND window_start"
                     " < '%s'%s",
                     view->by_user ? "" : "NULL AS \"user\",", view->name, from, to,
                     view->by_user && i % 2 == 0 ? " AND \"user\" = 'u1'" : "");
            get(view->name, parameters, 200, &reply);
            compare(parameters, reply.body, sql, ALL_COLUMNS);
            http_reply_free(&reply);
        }
    }
    if (!view->by_user || !has_oracle(view))
        return;
    /* rolled up over users it is what the view without keys would be */
    char *all = oracle_sql(view->rows, view->gap, false);
    get(view->name, "?group_by=", 200, &reply);
    compare("group_by=", reply.body, all, COLUMNS);
    http_reply_free(&reply);
    free(all);
}

/* By HTTP and SQL, and by verify; `all`: by the command line too, and by parts of verify. */
static void check_view(const struct view_case *view, bool all, int64_t *rows)
{
    struct http_reply reply;
    char sql[200], *oracle = NULL;
    get(view->name, "", 200, &reply);
    if (has_oracle(view)) {
        oracle = oracle_sql(view->rows, view->gap, view->by_user);
        *rows += compare(view->name, reply.body, oracle, COLUMNS);
    }
    snprintf(sql, sizeof sql, "SELECT %s * FROM dovetail.\"%s\"",
             view->by_user ? "" : "NULL AS \"user\",", view->name);
    compare("the SQL view", reply.body, sql, ALL_COLUMNS);
    if (all)
        check_command_line(view->name, reply.body);
    check_parts(view);
    struct child *verify = deployment_run(deployment, 0, "dovetail", "verify", view->name, NULL);
    assert_non_null(strstr(child_output(verify), "identical"));
    if (all)
        deployment_run(deployment, is_timeless(view) ? 2 : 0, "dovetail", "verify", view->name,
                       "--from", "2018-11-03", "--to", "2024-03-10", NULL);
    http_reply_free(&reply);
    free(oracle);
}

static void check_rollup(const char *view, const char *granularity, const char *rows)
{
    struct http_reply reply;
    char parameters[200], *oracle = oracle_sql(rows, NULL, true);
    snprintf(parameters, sizeof parameters, "?granularity=%s", granularity);
    get(view, parameters, 200, &reply);
    assert_true(compare(parameters, reply.body, oracle, COLUMNS) > 0);
    http_reply_free(&reply);
    free(oracle);
}

static void check_refused(const char *view, const char *parameters, const char *parameter)
{
    struct http_reply reply;
    get(view, parameters, 400, &reply);
    json_t *problem = http_reply_json(&reply);
    assert_string_equal(json_string_value(json_object_get(problem, "parameter")), parameter);
    json_decref(problem);
    http_reply_free(&reply);
}

/* --- tests --- */

static void windows_are_what_the_records_say(void **state)
{
    (void)state;
    int64_t rows = 0;
    for (int wave = 0; wave < WAVES; wave++) {
        send_wave(wave);
        for (size_t i = 0; i < CASES; i++)
            check_view(&cases[i], wave + 1 == WAVES, &rows);
        if (wave + 1 < WAVES)
            deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    }
    assert_true(deployment_number(deployment, "SELECT count(DISTINCT s._slice_start) FROM"
                                              " dovetail_internal.speed_1 AS s") > 1);
    print_message("%" PRId64 " visits, %" PRId64 " rows compared with the visits\n", produced,
                  rows);
}

static void rollups_are_exact_or_refused(void **state)
{
    (void)state;
    check_rollup("days", "1w", IN_ZONE("week", "America/New_York"));
    check_rollup("days", "1mo", IN_ZONE("month", "America/New_York"));
    check_rollup("days", "1y&timezone=America/New_York", IN_ZONE("year", "America/New_York"));
    check_rollup("months", "3mo",
                 TUMBLING(TRUNC("quarter", "UTC"),
                          "((date_trunc('quarter', v.at AT TIME ZONE 'UTC')"
                          " + interval '3 months') AT TIME ZONE 'UTC')"));
    check_rollup("hourly", "1d&timezone=America/New_York", IN_ZONE("day", "America/New_York"));
    check_rollup("hourly", "1mo", IN_ZONE("month", "UTC"));
    check_rollup("hourly", "1d&timezone=UTC", IN_ZONE("day", "UTC"));
    check_refused("hourly", "?granularity=1d&timezone=Asia/Kathmandu", "granularity");
    check_refused("hourly", "?granularity=1d&timezone=Asia/Nowhere", "timezone");
    check_refused("hourly", "?granularity=2h&timezone=Europe/Berlin", "granularity");
    check_refused("hourly", "?timezone=Europe/Berlin", "timezone");
    check_refused("hourly", "?granularity=all&timezone=Europe/Berlin", "timezone");
    check_refused("days", "?granularity=1d&timezone=Europe/Berlin", "timezone");
    check_refused("days", "?granularity=24h", "granularity");
    check_refused("nepal", "?granularity=1mo", "granularity");
    check_refused("nepal", "?granularity=10d", "granularity");
    check_refused("hops", "?granularity=2h", "granularity");
    check_refused("hops", "?granularity=all", "granularity");
    check_refused("sessions", "?granularity=1d", "granularity");
    check_refused("sessions", "?granularity=all", "granularity");
    check_refused("ever", "?granularity=all", "granularity");
    check_refused("ever", "?from=2024-01-01", "from");
    check_refused("everything", "?to=2024-01-01", "to");
}

/* A visit in the middle makes one session of two, wherever the three of them are. */
static void late_visits_bridge(void **state)
{
    (void)state;
    static const int64_t minutes[] = {0, 18, 9, -9, 27};
    static const char *const expected[] = {"1", "2", "1", "1", "1"};
    const int64_t base_ms = INT64_C(1600000200000);
    for (int i = 0; i < 5; i++) {
        char *lines = NULL, *sql = NULL, file[32];
        size_t lines_length, sql_length;
        struct http_reply reply;
        FILE *out = open_memstream(&lines, &lines_length),
             *rows = open_memstream(&sql, &sql_length);
        fputs("INSERT INTO visits VALUES    ", rows);
        add_visit(out, rows, base_ms + minutes[i] * 60000, "bridge", "1");
        fclose(out);
        fclose(rows);
        snprintf(file, sizeof file, "bridge%d.jsonl", i);
        send(file, lines, sql);
        free(lines);
        free(sql);
        get("sessions", "?user=bridge", 200, &reply);
        json_t *json = http_reply_json(&reply);
        char count[8];
        snprintf(count, sizeof count, "%zu", json_array_size(json_object_get(json, "rows")));
        assert_string_equal(count, expected[i]);
        json_decref(json);
        http_reply_free(&reply);
        if (i % 2 == 0)
            deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    }
    int64_t rows = 0;
    for (size_t i = 0; i < CASES; i++)
        check_view(&cases[i], true, &rows);
}

/* A key in the WHERE of a query reaches the tables of states, through joins and window functions.
 */
static void keys_are_pushed_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        char sql[300];
        int found = 0;
        if (!cases[i].by_user)
            continue;
        snprintf(sql, sizeof sql, "EXPLAIN SELECT * FROM dovetail.\"%s\" WHERE \"user\" = 'u1'",
                 cases[i].name);
        PGresult *result = run(sql, 0, NULL);
        for (int row = 0; row < PQntuples(result); row++)
            found += strstr(PQgetvalue(result, row, 0), "'u1'") != NULL;
        if (found < 2) {
            for (int row = 0; row < PQntuples(result); row++)
                print_message("%s\n", PQgetvalue(result, row, 0));
            fail_msg("%s: the key does not reach both tables", cases[i].name);
        }
        PQclear(result);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_are_what_the_records_say),
        cmocka_unit_test(rollups_are_exact_or_refused),
        cmocka_unit_test(late_visits_bridge),
        cmocka_unit_test(keys_are_pushed_down),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
