/* dovetail-serving over HTTP, against a real PostgreSQL: every parameter, every refusal, and that
 * HTTP and the SQL views give the same values.
 *
 * The database is this test's own (tests/support/trips_fixture.h). The tests run in order: the last
 * ones publish and stop. */
#include "tests/support/trips_fixture.h"

#include "tests/support/promtool.h"

/* --- rows --- */

static void test_all_rows_equal_sql(void **state)
{
    (void)state;
    assert_rows("/v1/views/by_route/rows?limit=300", ROUTE_SQL ROUTE_ORDER " LIMIT 300", 300);
    assert_rows("/v1/views/typed/rows?limit=300",
                "SELECT " WINDOW_SQL ", delay, trim_scale(fare) AS fare, late, " TIME_SQL(
                    "booked") " AS booked, trips, provisional FROM dovetail.typed t"
                              " ORDER BY t.window_start, delay, t.fare, late, t.booked LIMIT 300",
                300);
    assert_rows("/v1/views/odd_names/rows?limit=300",
                "SELECT " WINDOW_SQL ", \"limit\", key, \"is\", trips, provisional"
                " FROM dovetail.odd_names t ORDER BY t.window_start, \"limit\" COLLATE \"C\","
                " key COLLATE \"C\", \"is\" LIMIT 300",
                100);
}

static void test_every_event_counts_once(void **state)
{
    (void)state;
    json_t *json = get_json("/v1/views/by_route/rows?group_by=&granularity=all&measures=trips");
    json_t *rows = json_object_get(json, "rows");
    assert_int_equal(json_array_size(rows), 1);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(rows, 0), "trips")), EVENTS);
    json_decref(json);
}

static void test_range_and_limit(void **state)
{
    (void)state;
    assert_rows("/v1/views/by_route/rows?from=2001-01-02&to=2001-01-02T09:00:00Z",
                ROUTE_SQL "WHERE t.window_start >= '2001-01-02Z'"
                          " AND t.window_start < '2001-01-02 09:00Z' " ROUTE_ORDER,
                20);
    /* '+' in a query is a space, so an offset is written %2B. */
    assert_rows("/v1/views/by_route/rows?from=2001-01-02T10:00:00%2B01:00&limit=7",
                ROUTE_SQL "WHERE t.window_start >= '2001-01-02 09:00Z' " ROUTE_ORDER " LIMIT 7", 7);
    assert_rows("/v1/views/by_route/rows?from=2001-01-02&to=2001-01-02", ROUTE_SQL "WHERE false",
                0);
    assert_rows("/v1/views/by_route/rows?from=1999-01-01&to=1999-01-02", ROUTE_SQL "WHERE false",
                0);
}

static void test_keys(void **state)
{
    (void)state;
    assert_rows("/v1/views/by_route/rows?origin=JFK", ROUTE_SQL "WHERE origin = 'JFK' " ROUTE_ORDER,
                5);
    assert_rows("/v1/views/by_route/rows?origin=JFK&destination=SFO",
                ROUTE_SQL "WHERE origin = 'JFK' AND destination = 'SFO' " ROUTE_ORDER, 1);
    assert_rows("/v1/views/by_route/rows?origin=", ROUTE_SQL "WHERE origin = '' " ROUTE_ORDER, 5);
    assert_rows("/v1/views/by_route/rows?origin", ROUTE_SQL "WHERE origin = '' " ROUTE_ORDER, 5);
    assert_rows("/v1/views/by_route/rows?origin.is=null",
                ROUTE_SQL "WHERE origin IS NULL " ROUTE_ORDER, 5);
    assert_rows("/v1/views/by_route/rows?origin=O'Hare",
                ROUTE_SQL "WHERE origin = 'O''Hare' " ROUTE_ORDER, 5);
    assert_rows("/v1/views/by_route/rows?origin=%22quoted%22",
                ROUTE_SQL "WHERE origin = '\"quoted\"' " ROUTE_ORDER, 5);
    assert_rows("/v1/views/by_route/rows?origin=%E6%97%a5%E6%9c%AC",
                ROUTE_SQL "WHERE origin = '日本' " ROUTE_ORDER, 5);
    assert_rows("/v1/views/by_route/rows?origin=%F0%9F%9B%AB",
                ROUTE_SQL "WHERE origin = E'\\U0001F6EB' " ROUTE_ORDER, 5);
    assert_rows("/v1/views/by_route/rows?origin=new%0Aline",
                ROUTE_SQL "WHERE origin = E'new\\nline' " ROUTE_ORDER, 5);
    assert_rows("/v1/views/by_route/rows?origin=back%5Cslash",
                ROUTE_SQL "WHERE origin = E'back\\\\slash' " ROUTE_ORDER, 5);
    assert_rows("/v1/views/by_route/rows?destination=50%25+%2B+1&limit=20",
                ROUTE_SQL "WHERE destination = '50%% + 1' OR destination = '50% + 1' " ROUTE_ORDER
                          " LIMIT 20",
                5);
    assert_rows("/v1/views/by_route/rows?destination=a%26b%3Dc%23d&limit=20",
                ROUTE_SQL "WHERE destination = 'a&b=c#d' " ROUTE_ORDER " LIMIT 20", 5);
    assert_rows("/v1/views/by_route/rows?origin=nowhere%27%3B+DROP+TABLE+x",
                ROUTE_SQL "WHERE false", 0);
}

static void test_typed_keys(void **state)
{
    (void)state;
    static const char columns[] =
        "SELECT " WINDOW_SQL ", delay, trim_scale(fare) AS fare, late, " TIME_SQL(
            "booked") " AS booked, trips, provisional FROM dovetail.typed t";
    static const char order[] = " ORDER BY t.window_start, delay, t.fare, late, t.booked";
    char sql[2048];
    char target[256];
    snprintf(sql, sizeof sql, "%s WHERE delay = 3%s", columns, order);
    assert_rows("/v1/views/typed/rows?delay=3", sql, 1);
    snprintf(sql, sizeof sql, "%s WHERE delay = -3 OR delay = -03%s", columns, order);
    assert_rows("/v1/views/typed/rows?delay=-3", sql, 1);
    snprintf(sql, sizeof sql, "%s WHERE late AND delay IS NULL%s", columns, order);
    assert_rows("/v1/views/typed/rows?late=true&delay.is=null", sql, 1);
    snprintf(sql, sizeof sql, "%s WHERE fare IS NULL%s", columns, order);
    assert_rows("/v1/views/typed/rows?fare.is=null", sql, 1);
    /* One fare and one time that occur, and the fare with zeros behind it. */
    PGresult *result = NULL;
    assert_status(STATUS_OK,
                  postgres_query(postgres,
                                 "SELECT trim_scale(fare), " TIME_SQL(
                                     "booked") " FROM dovetail.typed"
                                               " WHERE fare IS NOT NULL AND booked IS NOT NULL"
                                               " AND scale(trim_scale(fare)) > 0 LIMIT 1",
                                 0, NULL, &result, &error));
    snprintf(sql, sizeof sql, "%s WHERE fare = %s%s", columns, PQgetvalue(result, 0, 0), order);
    snprintf(target, sizeof target, "/v1/views/typed/rows?fare=%s00", PQgetvalue(result, 0, 0));
    assert_rows(target, sql, 1);
    snprintf(sql, sizeof sql, "%s WHERE booked = '%s'%s", columns, PQgetvalue(result, 0, 1), order);
    snprintf(target, sizeof target, "/v1/views/typed/rows?booked=%s", PQgetvalue(result, 0, 1));
    assert_rows(target, sql, 1);
    PQclear(result);
}

/* Keys that are named as parameters are. */
static void test_odd_names(void **state)
{
    (void)state;
#define ODD_SQL                                                                                    \
    "SELECT " WINDOW_SQL ", \"limit\", key, \"is\", trips, provisional FROM dovetail.odd_names t "
#define ODD_ORDER " ORDER BY t.window_start, \"limit\" COLLATE \"C\", key COLLATE \"C\", \"is\""
    assert_rows("/v1/views/odd_names/rows?key.limit=SFO",
                ODD_SQL "WHERE \"limit\" = 'SFO'" ODD_ORDER, 5);
    assert_rows("/v1/views/odd_names/rows?key.limit=SFO&limit=2",
                ODD_SQL "WHERE \"limit\" = 'SFO'" ODD_ORDER " LIMIT 2", 2);
    assert_rows("/v1/views/odd_names/rows?key=JFK", ODD_SQL "WHERE key = 'JFK'" ODD_ORDER, 5);
    assert_rows("/v1/views/odd_names/rows?key.key=JFK", ODD_SQL "WHERE key = 'JFK'" ODD_ORDER, 5);
    assert_rows("/v1/views/odd_names/rows?key.is=true", ODD_SQL "WHERE \"is\"" ODD_ORDER, 5);
    assert_rows("/v1/views/odd_names/rows?is.is=null", ODD_SQL "WHERE \"is\" IS NULL" ODD_ORDER, 5);
    assert_rows("/v1/views/odd_names/rows?key.key.is=null", ODD_SQL "WHERE key IS NULL" ODD_ORDER,
                5);
    assert_problem("/v1/views/odd_names/rows?key.is=perhaps", 400, "key.is", "is: ");
}

#define ROLLED_MEASURES                                                                            \
    "sum(trips)::bigint AS trips, sum(delayed)::bigint AS delayed, sum(total) AS total,"           \
    " trim_scale(sum(fares)) AS fares, min(best) AS best, max(worst) AS worst,"                    \
    " trim_scale(min(cheapest)) AS cheapest"
#define ROLLED "&measures=trips,delayed,total,fares,best,worst,cheapest"

static void test_roll_up_over_keys(void **state)
{
    (void)state;
    assert_rows("/v1/views/by_route/rows?group_by=destination" ROLLED,
                "SELECT " WINDOW_SQL ", destination, " ROLLED_MEASURES
                ", bool_or(provisional) AS provisional FROM dovetail.by_route t"
                " GROUP BY t.window_start, t.window_end, destination"
                " ORDER BY t.window_start, destination COLLATE \"C\"",
                100);
    assert_rows("/v1/views/by_route/rows?group_by=" ROLLED,
                "SELECT " WINDOW_SQL ", " ROLLED_MEASURES
                ", bool_or(provisional) AS provisional FROM dovetail.by_route t"
                " GROUP BY t.window_start, t.window_end ORDER BY t.window_start",
                50);
    /* The order of the names is the order of the columns, and of the rows. */
    assert_rows("/v1/views/by_route/rows?group_by=destination,origin&measures=trips&limit=50",
                "SELECT " WINDOW_SQL ", destination, origin, trips, provisional"
                " FROM dovetail.by_route t ORDER BY t.window_start, destination COLLATE \"C\","
                " origin COLLATE \"C\" LIMIT 50",
                50);
    /* A restriction on a key that is rolled up. */
    assert_rows("/v1/views/by_route/rows?group_by=&origin=JFK" ROLLED,
                "SELECT " WINDOW_SQL ", " ROLLED_MEASURES
                ", bool_or(provisional) AS provisional FROM dovetail.by_route t"
                " WHERE origin = 'JFK' GROUP BY t.window_start, t.window_end"
                " ORDER BY t.window_start",
                5);
}

#define DAY "date_trunc('day', t.window_start, 'UTC')"

static void test_roll_up_over_windows(void **state)
{
    (void)state;
    assert_rows(
        "/v1/views/by_route/rows?granularity=1d" ROLLED,
        "SELECT " TIME_SQL(DAY) " AS window_start, " TIME_SQL(
            "(" DAY
            " + interval '24 h')") " AS window_end, origin, destination, " ROLLED_MEASURES ", " DAY
                                   " + interval '24 h' > '2001-01-02 12:00Z' AS provisional"
                                   " FROM dovetail.by_route t GROUP BY " DAY ", origin, destination"
                                   " ORDER BY " DAY
                                   ", origin COLLATE \"C\", destination COLLATE \"C\"",
        100);
    /* from and to choose among the view's own windows. */
    assert_rows("/v1/views/by_route/rows?granularity=24h&group_by=&from=2001-01-01T20:00:00Z"
                "&to=2001-01-02T04:00:00Z" ROLLED,
                "SELECT " TIME_SQL(DAY) " AS window_start, " TIME_SQL(
                    "(" DAY
                    " + interval '24 h')") " AS window_end, " ROLLED_MEASURES ", " DAY
                                           " + interval '24 h' > '2001-01-02 12:00Z' AS provisional"
                                           " FROM dovetail.by_route t WHERE t.window_start >= "
                                           "'2001-01-01 20:00Z'"
                                           " AND t.window_start < '2001-01-02 04:00Z' GROUP BY " DAY
                                           " ORDER BY " DAY,
                2);
    assert_rows("/v1/views/by_route/rows?granularity=1h&limit=5", ROUTE_SQL ROUTE_ORDER " LIMIT 5",
                5);
}

static void test_roll_up_over_everything(void **state)
{
    (void)state;
    assert_rows("/v1/views/by_route/rows?granularity=all&group_by=origin" ROLLED,
                "SELECT NULL AS window_start, NULL AS window_end, origin, " ROLLED_MEASURES
                ", true AS provisional FROM dovetail.by_route GROUP BY origin"
                " ORDER BY origin COLLATE \"C\"",
                12);
    assert_rows(
        "/v1/views/by_route/rows?granularity=all&group_by=&from=2001-01-01&to=2001-01-02" ROLLED,
        "SELECT '2001-01-01T00:00:00Z' AS window_start,"
        " '2001-01-02T00:00:00Z' AS window_end, " ROLLED_MEASURES ", false AS provisional"
        " FROM dovetail.by_route t WHERE t.window_start < '2001-01-02Z'",
        1);
    /* The last window begins at 12:00 and is open, although `to` is not beyond the watermark. */
    assert_rows("/v1/views/by_route/rows?granularity=all&group_by=&to=2001-01-02T12:00:00Z"
                "&measures=trips",
                "SELECT NULL AS window_start, '2001-01-02T12:00:00Z' AS window_end,"
                " sum(trips)::bigint AS trips, false AS provisional FROM dovetail.by_route t"
                " WHERE t.window_start < '2001-01-02 12:00Z'",
                1);
    assert_rows("/v1/views/by_route/rows?granularity=all&group_by=&to=2001-01-02T12:00:00.5Z"
                "&measures=trips",
                "SELECT NULL AS window_start, '2001-01-02T12:00:00.5Z' AS window_end,"
                " sum(trips)::bigint AS trips, true AS provisional FROM dovetail.by_route t"
                " WHERE t.window_start < '2001-01-02 12:00:00.5Z'",
                1);
}

static void test_order(void **state)
{
    (void)state;
#define TIES ", t.window_start, origin COLLATE \"C\", destination COLLATE \"C\" LIMIT 200"
    static const char *const columns[][2] = {
        {"total", "total"},
        {"fares", "fares"},
        {"mean_fare", "mean_fare"},
        {"trips", "trips"},
        {"origin", "origin COLLATE \"C\""},
        {"window_start", "t.window_start"},
        {"window_end", "t.window_end"},
    };
    char target[128];
    char sql[1024];
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        snprintf(target, sizeof target, "/v1/views/by_route/rows?limit=200&order=%s",
                 columns[i][0]);
        snprintf(sql, sizeof sql, ROUTE_SQL "ORDER BY %s" TIES, columns[i][1]);
        assert_rows(target, sql, 200);
        snprintf(target, sizeof target, "/v1/views/by_route/rows?limit=200&order=-%s",
                 columns[i][0]);
        snprintf(sql, sizeof sql, ROUTE_SQL "ORDER BY %s DESC" TIES, columns[i][1]);
        assert_rows(target, sql, 200);
    }
    assert_rows("/v1/views/by_route/rows?limit=200&order=-trips,destination,-best",
                ROUTE_SQL "ORDER BY trips DESC, destination COLLATE \"C\", best DESC" TIES, 200);
}

/* Neither layer alone is in the SQL view: counts tell. */
static int64_t counted(const char *layer)
{
    char target[160];
    snprintf(target, sizeof target,
             "/v1/views/by_route/rows?granularity=all&group_by=&measures=trips&layer=%s", layer);
    json_t *json = get_json(target);
    json_t *row = json_array_get(json_object_get(json, "rows"), 0);
    int64_t trips_count = json_integer_value(json_object_get(row, "trips"));
    json_decref(json);
    return trips_count;
}

static void test_layers(void **state)
{
    (void)state;
    assert_int_equal(counted("merged"), EVENTS);
    assert_int_equal(counted("batch"), 150 + 100);
    assert_int_equal(counted("speed"), 100 + 150);
    json_t *json = get_json("/v1/views/by_route/rows?limit=1&layer=batch");
    json_t *receipt = json_object_get(json, "receipt");
    char *text = json_dumps(json_object_get(receipt, "positions"), JSON_COMPACT);
    assert_string_equal(text, "{\"trips\":[150,1100]}");
    assert_string_equal(text_at(receipt, "watermark"), "2001-01-01T05:00:00Z");
    assert_true(json_integer_value(json_object_get(receipt, "freshness_ms")) >= 10000);
    free(text);
    json_decref(json);
}

static void test_receipt(void **state)
{
    (void)state;
    json_t *json = get_json("/v1/views/by_route/rows?limit=1");
    json_t *receipt = json_object_get(json, "receipt");
    char *text = json_dumps(receipt, JSON_COMPACT);
    const char *expected = "{\"run\":1,\"cutoffs\":{\"trips\":[150,1100]},"
                           "\"positions\":{\"trips\":[250,1250]},"
                           "\"watermark\":\"2001-01-02T12:00:00Z\",\"freshness_ms\":";
    assert_string_equal(text_at(json, "view"), "by_route");
    if (strncmp(text, expected, strlen(expected)) != 0)
        fail_msg("%s", text);
    int64_t freshness = json_integer_value(json_object_get(receipt, "freshness_ms"));
    assert_true(freshness >= 2000 && freshness < 600000);
    free(text);
    json_decref(json);
}

/* --- refusals --- */

static void test_bad_parameters(void **state)
{
    (void)state;
    static const struct {
        const char *query;
        const char *parameter;
        const char *detail;
    } cases[] = {
        {"from=yesterday", "from", "2024-05-01"},
        {"to=2001-13-01", "to", "2024-05-01"},
        {"from=2001-01-01+00:00", "from", ""},
        {"from=", "from", ""},
        {"from=2001-01-02&to=2001-01-01", "to", "before"},
        {"from=10000-01-01", "from", ""},
        {"group_by=origin,nothing", "group_by", "origin, destination"},
        {"group_by=origin,origin", "group_by", "twice"},
        {"group_by=,", "group_by", ""},
        {"group_by=trips", "group_by", "no key"},
        {"granularity=90m", "granularity", "1h"},
        {"granularity=30m", "granularity", "1h"},
        {"granularity=day", "granularity", "all"},
        {"granularity=0h", "granularity", ""},
        {"granularity=9999999d", "granularity", ""},
        {"measures=nothing", "measures", "trips, delayed"},
        {"measures=trips,trips", "measures", "twice"},
        {"order=nothing", "order", "window_start"},
        {"order=-", "order", ""},
        {"order=total&measures=trips", "order", "total"},
        {"order=origin&group_by=", "order", "origin"},
        {"limit=0", "limit", "from 1"},
        {"limit=-1", "limit", ""},
        {"limit=1.5", "limit", ""},
        {"limit=99999999999999999999", "limit", ""},
        {"limit=+5", "limit", ""},
        {"", "limit", "more than 300"},
        {"limit=301", "limit", "more than 300"},
        {"layer=both", "layer", "merged"},
        {"nothing=1", "nothing", "origin"},
        {"Origin=JFK", "Origin", "origin"},
        {"origin.is=JFK", "origin.is", "null"},
        {"nothing.is=null", "nothing.is", "unknown"},
        {"key.from=1", "key.from", "unknown"},
        {"origin=JFK&key.origin=SFO", "origin", "twice"},
        {"origin=JFK&origin.is=null", "origin", "twice"},
        {"origin=JFK&origin=SFO", "origin", "twice"},
        {"limit=1&limit=1", "limit", "twice"},
        {"origin=%zz", "origin", "UTF-8"},
        {"origin=%4", "origin", "UTF-8"},
        {"origin=%", "origin", "UTF-8"},
        {"origin=a%00b", "origin", "UTF-8"},
        {"origin=%ff", "origin", "UTF-8"},
        {"origin=%C0%80", "origin", "UTF-8"},
        {"origin=%ED%A0%80", "origin", "UTF-8"},
        {"%ff=1", "?", "UTF-8"},
        {"a%0Ab=1", "a?b", "unknown"},
        {"at_least=1", "at_least", "trips"},
        {"at_least={\"other\":[1]}", "at_least", "trips"},
        {"at_least={\"trips\":[-1]}", "at_least", "offset"},
        {"at_least={\"trips\":[1.5]}", "at_least", "offset"},
        {"at_least={\"trips\":[1,1,1]}&limit=1", "at_least", "2 partitions"},
        {"at_least={\"trips\":[1],\"b\":[1]}", "at_least", "trips"},
        {"wait_ms=30001", "wait_ms", "30000"},
    };
    char target[512];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(target, sizeof target, "/v1/views/by_route/rows?%s", cases[i].query);
        assert_problem(target, 400, cases[i].parameter, cases[i].detail);
    }
    assert_problem("/v1/views/typed/rows?delay=x", 400, "delay", "delay: ");
    assert_problem("/v1/views/typed/rows?delay=99999999999999999999", 400, "delay", "delay: ");
    assert_problem("/v1/views/typed/rows?late=maybe", 400, "late", "late: ");
    assert_problem("/v1/views/typed/rows?booked=today", 400, "booked", "booked: ");
    assert_problem("/v1/views/typed/rows?fare=NaN", 400, "fare", "fare: ");
    assert_problem("/v1/views/typed/rows?fare=", 400, "fare", "fare: ");
    assert_problem("/v1/views?x=1", 400, "x", "no parameters");
    assert_problem("/v1/views/typed?x=1", 400, "x", "no parameters");
    assert_problem("/v1/status?x=1", 400, "x", "no parameters");
}

static void test_unknown_paths(void **state)
{
    (void)state;
    assert_problem("/v1/views/nothing", 404, NULL, "/v1/views");
    assert_problem("/v1/views/nothing/rows", 404, NULL, "/v1/views");
    assert_problem("/v1/views/by_route%27/rows", 404, NULL, "");
    assert_problem("/v1", 404, NULL, "");
    assert_problem("/v2/views", 404, NULL, "");
    assert_problem("/v1/views/by_route/rows/x", 404, NULL, "");
    assert_problem("/v1//views", 404, NULL, "");
    assert_problem("/a/b/c/d/e/f/g/h/i/j/k", 404, NULL, "");
    assert_problem("/v1/views/%ff/rows", 400, NULL, "UTF-8");
    assert_problem("/v1/views/a%00/rows", 400, NULL, "UTF-8");
    assert_problem("/v1/views/by_route%2Frows", 404, NULL, "");
    /* A percent-encoded letter is the letter, and a trailing slash is nothing. */
    struct reply reply = get("/v1/views/%62y_route/rows?limit=1");
    assert_int_equal(reply.status, 200);
    free(reply.text);
    reply = get("/v1/views/");
    assert_int_equal(reply.status, 200);
    free(reply.text);
}

static void test_methods(void **state)
{
    (void)state;
    static const char *const refused[] = {"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct reply reply = receive(send_request(refused[i], "/v1/views"));
        assert_int_equal(reply.status, 405);
        assert_true(has_header(&reply, "Allow: GET, HEAD\r\n"));
        free(reply.text);
    }
    struct reply full = get("/v1/views/by_route/rows?limit=3");
    struct reply head = receive(send_request("HEAD", "/v1/views/by_route/rows?limit=3"));
    assert_int_equal(head.status, 200);
    assert_string_equal(head.body, "");
    assert_true(has_header(&head, "Content-Type: application/json\r\n"));
    assert_true(has_header(&head, "Content-Length: "));
    free(full.text);
    free(head.text);
    /* A body is no reason to fail, and is not taken for the next request. */
    full = receive(send_text("GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
                             "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    assert_int_equal(count_of(full.text, "200 OK"), 2);
    free(full.text);
}

static void test_limits_of_requests(void **state)
{
    (void)state;
    char *text = malloc(100000);
    assert_non_null(text);
    /* Longer than we take. */
    int length = snprintf(text, 100000, "/v1/views/by_route/rows?origin=");
    memset(text + length, 'x', 9000);
    text[length + 9000] = '\0';
    assert_problem(text, 414, NULL, "8,192");
    /* Longer than the library takes: refused, whatever the words. */
    memset(text + length, 'x', 90000);
    text[length + 90000] = '\0';
    struct reply reply = get(text);
    assert_true(reply.status == 414 || reply.status == 431 || reply.status == 0);
    free(reply.text);
    /* More parameters than we take. */
    length = snprintf(text, 100000, "/v1/views/by_route/rows?");
    for (int i = 0; i < 70; i++)
        length += snprintf(text + length, 32, "p%d=1&", i);
    assert_problem(text, 400, "p64", "64 parameters");
    /* A large header. */
    length = snprintf(text, 100000, "GET /livez HTTP/1.1\r\nHost: x\r\nX-Large: ");
    memset(text + length, 'x', 80000);
    snprintf(text + length + 80000, 64, "\r\nConnection: close\r\n\r\n");
    reply = receive(send_text(text));
    assert_true(reply.status == 431 || reply.status == 413 || reply.status == 0);
    free(reply.text);
    free(text);
    /* And it still answers. */
    reply = get("/livez");
    assert_int_equal(reply.status, 200);
    free(reply.text);
    reply = receive(send_text("rubbish\r\n\r\n"));
    free(reply.text);
    reply = get("/livez");
    assert_string_equal(reply.body, "ok\n");
    free(reply.text);
}

/* More different statements than a connection keeps, over one connection after the other. */
static void test_many_different_statements(void **state)
{
    (void)state;
    static const char *const measures[] = {"trips",     "delayed", "total", "fares",
                                           "mean_fare", "best",    "worst", "cheapest"};
    char target[256];
    for (size_t i = 0; i < 8 * 8 * 8; i++) {
        size_t a = i % 8, b = i / 8 % 8, c = i / 64;
        if (a == b || b == c || a == c)
            continue;
        snprintf(target, sizeof target,
                 "/v1/views/by_route/rows?limit=1&origin=JFK&destination=SFO&measures=%s,%s,%s",
                 measures[a], measures[b], measures[c]);
        json_decref(get_json(target));
    }
}

/* --- the other paths --- */

static void test_views(void **state)
{
    (void)state;
    json_t *json = get_json("/v1/views");
    json_t *views = json_object_get(json, "views");
    assert_int_equal(json_array_size(views), 3);
    json_t *view = json_array_get(views, 0);
    assert_string_equal(text_at(view, "view"), "by_route");
    assert_string_equal(text_at(view, "source"), "trips");
    assert_string_equal(text_at(view, "topic"), "trips");
    assert_string_equal(text_at(view, "state"), "current");
    assert_string_equal(text_at(view, "description"), "Trips by route");
    assert_true(json_is_true(json_object_get(view, "readable")));
    assert_int_equal(json_integer_value(json_object_get(view, "run")), 1);
    assert_string_equal(text_at(json_object_get(view, "window"), "size"), "1h");
    json_t *keys = json_object_get(view, "keys");
    assert_int_equal(json_array_size(keys), 2);
    assert_string_equal(text_at(json_array_get(keys, 0), "name"), "origin");
    assert_string_equal(text_at(json_array_get(keys, 0), "type"), "string");
    json_t *measures = json_object_get(view, "measures");
    assert_int_equal(json_array_size(measures), 8);
    assert_string_equal(text_at(json_array_get(measures, 4), "name"), "mean_fare");
    assert_string_equal(text_at(json_array_get(measures, 4), "type"), "decimal");
    assert_string_equal(text_at(json_array_get(measures, 4), "expression"), "avg(fare)");
    json_t *links = json_object_get(view, "links");
    json_t *own = get_json(text_at(links, "self"));
    assert_true(json_equal(own, view));
    json_decref(own);
    assert_string_equal(text_at(links, "rows"), "/v1/views/by_route/rows");
    json_decref(json);
}

static void test_status(void **state)
{
    (void)state;
    json_t *json = get_json("/v1/status");
    assert_int_equal(json_integer_value(json_object_get(json, "run")), 1);
    json_t *source = json_array_get(json_object_get(json, "sources"), 0);
    assert_string_equal(text_at(source, "source"), "trips");
    json_t *partitions = json_object_get(source, "partitions");
    assert_int_equal(json_array_size(partitions), PARTITIONS);
    json_t *first = json_array_get(partitions, 0);
    assert_int_equal(json_integer_value(json_object_get(first, "cutoff")), 150);
    assert_int_equal(json_integer_value(json_object_get(first, "position")), 250);
    json_t *ledger = json_object_get(first, "ledger");
    assert_int_equal(json_integer_value(json_object_get(ledger, "counted")), 240);
    json_t *view = json_array_get(json_object_get(json, "views"), 0);
    json_t *version = json_array_get(json_object_get(view, "versions"), 0);
    assert_true(json_is_true(json_object_get(version, "readable")));
    assert_int_equal(json_array_size(json_object_get(json, "runs")), 2);
    json_decref(json);
}

static void test_metrics(void **state)
{
    (void)state;
    struct reply reply = get("/metrics");
    assert_int_equal(reply.status, 200);
    static const char *const lines[] = {
        "\ndovetail_postgres_up 1\n",
        "\ndovetail_current_run 1\n",
        "\ndovetail_cutoff_offset{topic=\"trips\",partition=\"1\"} 1100\n",
        "\ndovetail_position_offset{topic=\"trips\",partition=\"0\"} 250\n",
        "\ndovetail_records_total{topic=\"trips\",partition=\"0\",outcome=\"filtered\"} 6\n",
        "\ndovetail_http_requests_total{route=\"/v1/views/{view}/rows\",code=\"400\"} ",
        "\ndovetail_http_requests_total{route=\"other\",code=\"404\"} ",
        "\ndovetail_http_request_duration_seconds_bucket{route=\"/"
        "livez\",code=\"200\",le=\"+Inf\"} ",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (strstr(reply.body, lines[i]) == NULL)
            fail_msg("%s is not in %s", lines[i], reply.body);
    free(reply.text);
}

/* By the conventions of Prometheus, as its own tool judges them. */
static void test_metrics_by_promtool(void **state)
{
    (void)state;
    if (!promtool_is_there()) {
        print_message("skipped: promtool is missing (Debian's package prometheus)\n");
        skip();
    }
    struct reply reply = get("/metrics");
    promtool_check(reply.body);
    free(reply.text);
}

/* The description has exactly the routes that the metrics, hence the server, know. */
static void test_openapi_is_true(void **state)
{
    (void)state;
    json_t *json = get_json("/openapi.json");
    json_t *paths = json_object_get(json, "paths");
    const char *path;
    json_t *item;
    char line[160];
    assert_string_equal(text_at(json, "openapi"), "3.1.0");
    struct reply reply = get("/metrics");
    int described = 0;
    json_object_foreach (paths, path, item) {
        snprintf(line, sizeof line, "_count{route=\"%s\",code=\"200\"}", path);
        if (strstr(reply.body, line) == NULL)
            fail_msg("%s is described, but no route", path);
        assert_true(json_object_get(item, "get") != NULL || json_object_get(item, "post") != NULL);
        described++;
    }
    /* Requests, sum and count of each route, and of "other". */
    assert_int_equal(count_of(reply.body, ",code=\"200\"} "), 3 * (described + 1));
    /* And exactly the parameters that the refusal of an unknown one lists. */
    json_t *rows = json_object_get(json_object_get(paths, "/v1/views/{view}/rows"), "get");
    size_t index;
    json_t *parameter;
    free(reply.text);
    reply = get("/v1/views/by_route/rows?nothing=1");
    json_array_foreach (json_object_get(rows, "parameters"), index, parameter) {
        const char *name = strrchr(text_at(parameter, "$ref"), '/') + 1;
        assert_non_null(json_object_get(
            json_object_get(json_object_get(json, "components"), "parameters"), name));
        snprintf(line, sizeof line, "%s, ", name);
        assert_non_null(strstr(reply.body, line));
    }
    assert_int_equal(index, 14);
    free(reply.text);
    json_decref(json);
}

static void test_index(void **state)
{
    (void)state;
    struct reply reply = get("/?any=thing");
    assert_int_equal(reply.status, 200);
    assert_true(has_header(&reply, "Content-Type: text/html; charset=utf-8\r\n"));
    assert_true(has_header(&reply, "Content-Security-Policy: default-src 'none'"));
    assert_true(has_header(&reply, "Cache-Control: no-cache\r\n"));
    assert_non_null(strstr(reply.body, "/dashboard/main.js"));
    assert_null(strstr(reply.body, "http://"));
    assert_null(strstr(reply.body, "https://"));
    free(reply.text);
    reply = get("/dashboard/vendor/LICENSE.uPlot");
    assert_int_equal(reply.status, 200);
    assert_true(has_header(&reply, "Content-Type: text/plain; charset=utf-8\r\n"));
    free(reply.text);
    assert_problem("/dashboard/nothing.js", 404, NULL, "no such file");
}

/* --- waiting --- */

static void test_at_least_reached_already(void **state)
{
    (void)state;
    json_decref(get_json("/v1/views/by_route/rows?limit=1&at_least={%22trips%22:[250,1250]}"));
    json_decref(get_json("/v1/views/by_route/rows?limit=1&at_least={%22trips%22:[null,1250]}"));
    json_decref(get_json("/v1/views/by_route/rows?limit=1&at_least=%7B%22trips%22%3A%5B%5D%7D"));
    json_decref(
        get_json("/v1/views/by_route/rows?limit=1&layer=batch&at_least={%22trips%22:[150]}"));
}

static void test_at_least_not_in_time(void **state)
{
    (void)state;
    assert_problem("/v1/views/by_route/rows?limit=1&wait_ms=100&at_least={%22trips%22:[251]}", 504,
                   NULL, "[250, 1250]");
    assert_problem("/v1/views/by_route/rows?limit=1&wait_ms=0&at_least={%22trips%22:[251]}", 504,
                   NULL, "[250, 1250]");
    assert_problem("/v1/views/by_route/rows?limit=1&wait_ms=50&layer=batch"
                   "&at_least={%22trips%22:[151]}",
                   504, NULL, "[150, 1100]");
}

/* Many wait at once without holding up others, and all of them are answered when P has come. */
static void test_at_least_waits(void **state)
{
    (void)state;
    enum { WAITING = 40 };
    int fds[WAITING];
    for (int i = 0; i < WAITING; i++)
        fds[i] = send_request(
            "GET", "/v1/views/by_route/rows?limit=1&wait_ms=20000&at_least={%22trips%22:[251]}");
    usleep(150 * 1000);
    struct pollfd silent = {.fd = fds[0], .events = POLLIN};
    assert_int_equal(poll(&silent, 1, 0), 0);
    json_decref(get_json("/v1/views/by_route/rows?limit=1"));
    execute("UPDATE dovetail_internal.position SET next_offset = 251 WHERE partition = 0");
    for (int i = 0; i < WAITING; i++) {
        struct reply reply = receive(fds[i]);
        assert_int_equal(reply.status, 200);
        assert_non_null(strstr(reply.body, "\"positions\":{\"trips\":[251,1250]}"));
        free(reply.text);
    }
    execute("UPDATE dovetail_internal.position SET next_offset = 250 WHERE partition = 0");
}

/* --- PostgreSQL away and back --- */

static void terminate_backends(void)
{
    assert_status(STATUS_OK,
                  postgres_executef(admin, &error,
                                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                                    " WHERE datname = '%s' AND application_name ="
                                    " 'dovetail-serving'",
                                    database));
    usleep(100 * 1000);
}

static void test_lost_connections_are_renewed(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        terminate_backends();
        json_decref(get_json("/v1/views/by_route/rows?limit=1"));
        terminate_backends();
        json_decref(get_json("/v1/views"));
        terminate_backends();
        json_decref(get_json("/v1/status"));
    }
}

static void test_postgres_away_and_back(void **state)
{
    (void)state;
    assert_status(
        STATUS_OK,
        postgres_executef(admin, &error, "ALTER DATABASE %s ALLOW_CONNECTIONS false", database));
    terminate_backends();
    assert_problem("/v1/views/by_route/rows?limit=1", 503, NULL, "PostgreSQL is away");
    assert_problem("/v1/views", 503, NULL, "PostgreSQL is away");
    assert_problem("/v1/status", 503, NULL, "PostgreSQL is away");
    assert_problem("/readyz", 503, NULL, "PostgreSQL is away");
    struct reply reply = get("/readyz");
    assert_true(has_header(&reply, "Retry-After: 1\r\n"));
    free(reply.text);
    reply = get("/livez");
    assert_int_equal(reply.status, 200);
    free(reply.text);
    reply = get("/metrics");
    assert_non_null(strstr(reply.body, "\ndovetail_postgres_up 0\n"));
    free(reply.text);
    reply = get("/");
    assert_int_equal(reply.status, 200);
    free(reply.text);
    assert_status(
        STATUS_OK,
        postgres_executef(admin, &error, "ALTER DATABASE %s ALLOW_CONNECTIONS true", database));
    usleep(300 * 1000);
    json_decref(get_json("/v1/views/by_route/rows?limit=1"));
    reply = get("/readyz");
    assert_int_equal(reply.status, 200);
    free(reply.text);
}

/* Where the database is and who we are to it is the operator's to know. */
static void assert_secret(const char *target)
{
    char port_text[16];
    const char *at = strstr(conninfo, "port=");
    assert_non_null(at);
    snprintf(port_text, sizeof port_text, "%d", atoi(at + 5));
    struct reply reply = get(target);
    assert_int_equal(reply.status, 503);
    const char *const secrets[] = {port_text, "127.0.0.1", "host", "user", "FATAL", database};
    for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++)
        if (strstr(reply.body, secrets[i]) != NULL)
            fail_msg("%s tells \"%s\": %s", target, secrets[i], reply.body);
    free(reply.text);
}

/* The program's messages until one has `text`. */
static void assert_logged(const char *text)
{
    char messages[16384];
    size_t length = 0;
    messages[0] = '\0';
    while (strstr(messages, text) == NULL) {
        struct pollfd wait = {.fd = server_messages, .events = POLLIN};
        if (length + 1 == sizeof messages || poll(&wait, 1, STACK_WAIT_MS) != 1)
            fail_msg("not logged: %s\n%s", text, messages);
        ssize_t got = read(server_messages, messages + length, sizeof messages - 1 - length);
        assert_true(got > 0);
        length += (size_t)got;
        messages[length] = '\0';
    }
}

static void test_connection_details_stay_in_the_log(void **state)
{
    (void)state;
    assert_status(
        STATUS_OK,
        postgres_executef(admin, &error, "ALTER DATABASE %s ALLOW_CONNECTIONS false", database));
    terminate_backends();
    assert_secret("/v1/views/by_route/rows?limit=1");
    assert_secret("/v1/views");
    assert_secret("/v1/status");
    assert_secret("/readyz");
    assert_logged("is not currently accepting connections");
    assert_status(
        STATUS_OK,
        postgres_executef(admin, &error, "ALTER DATABASE %s ALLOW_CONNECTIONS true", database));
    usleep(300 * 1000);
    json_decref(get_json("/v1/views"));
    assert_logged("PostgreSQL is back");
}

/* --- new versions --- */

static void register_view(const char *text)
{
    struct catalog *catalog = NULL;
    struct view *view = NULL;
    enum catalog_change change;
    assert_status(STATUS_OK, catalog_load(postgres, &catalog, &error));
    json_t *json = json_loads(text, 0, NULL);
    assert_status(STATUS_OK,
                  view_create(json, "test", catalog_source(catalog, "trips"), &view, &error));
    execute("BEGIN");
    assert_status(STATUS_OK, catalog_register_view(postgres, view, &change, &error));
    assert_status(STATUS_OK, catalog_promote(postgres, &error));
    execute("COMMIT");
    json_decref(json);
    view_destroy(view);
    catalog_destroy(catalog);
}

static const char young_json[] = "{\"view\": \"young\", \"source\": \"trips\","
                                 " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"},"
                                 " \"measures\": {\"trips\": \"count(*)\"}}";
static const char changed_json[] = "{\"view\": \"typed\", \"source\": \"trips\","
                                   " \"group_by\": [\"late\"],"
                                   " \"window\": {\"type\": \"tumbling\", \"size\": \"1d\"},"
                                   " \"measures\": {\"how_many\": \"count(*)\"}}";

/* A view without keys, and a changed one: both are built by the next run. */
static void test_building_versions(void **state)
{
    (void)state;
    register_view(young_json);
    register_view(changed_json);
    assert_problem("/v1/views/young/rows", 503, NULL, "being built");
    json_t *json = get_json("/v1/views/young");
    assert_string_equal(text_at(json, "state"), "building");
    assert_true(json_is_false(json_object_get(json, "readable")));
    json_decref(json);
    json = get_json("/v1/views/typed/rows?limit=1"); /* the old version */
    assert_non_null(json_object_get(json_array_get(json_object_get(json, "rows"), 0), "trips"));
    json_decref(json);
}

/* The request after the publication has the new version, without a restart. */
static void test_published_versions(void **state)
{
    (void)state;
    struct catalog *catalog = NULL;
    execute("BEGIN;"
            "INSERT INTO dovetail_internal.run (run, state, reason) VALUES (2, 'published', 'x');"
            "INSERT INTO dovetail_internal.run_cutoff VALUES"
            " (2, 'trips', 0, 250, now(), '2001-01-03 07:30Z'),"
            " (2, 'trips', 1, 1250, now(), '2001-01-03 08:30Z');"
            "UPDATE dovetail_internal.current_run SET run = 2");
    assert_status(STATUS_OK, catalog_load(postgres, &catalog, &error));
    for (size_t i = 0; i < catalog->version_count; i++) {
        const struct catalog_version *version = &catalog->versions[i];
        assert_status(STATUS_OK, catalog_mark_built(postgres, version->version, 2, &error));
        if (version->state == CATALOG_BUILDING) {
            char table[CATALOG_NAME_BYTES];
            catalog_batch_table(version->version, table);
            assert_status(STATUS_OK,
                          postgres_executef(postgres, &error,
                                            "INSERT INTO %s (_run_from, window_start, %s)"
                                            " VALUES (2, '2001-01-01Z', 7)",
                                            table, version->view->measures[0].name));
        }
    }
    assert_status(STATUS_OK, catalog_promote(postgres, &error));
    execute("COMMIT");
    assert_rows("/v1/views/typed/rows",
                "SELECT '2001-01-01T00:00:00Z' AS window_start,"
                " '2001-01-02T00:00:00Z' AS window_end, NULL AS late, 7 AS how_many,"
                " false AS provisional",
                1);
    assert_rows("/v1/views/young/rows",
                "SELECT '2001-01-01T00:00:00Z' AS window_start,"
                " '2001-01-01T01:00:00Z' AS window_end, 7 AS trips, false AS provisional",
                1);
    assert_problem("/v1/views/typed/rows?measures=trips", 400, "measures", "how_many");
    /* Back to run 1: the new versions have no rows for it. */
    execute("UPDATE dovetail_internal.current_run SET run = 1");
    assert_problem("/v1/views/young/rows", 503, NULL, "being built");
    json_t *json = get_json("/v1/views/young");
    assert_true(json_is_false(json_object_get(json, "readable")));
    json_decref(json);
    catalog_destroy(catalog);
}

/* --- the end --- */

static void test_stop_finishes_requests(void **state)
{
    (void)state;
    int status = 0;
    int fd = send_request(
        "GET", "/v1/views/by_route/rows?limit=1&wait_ms=30000&at_least={%22trips%22:[251]}");
    usleep(100 * 1000);
    assert_int_equal(kill(server_pid, SIGTERM), 0);
    struct reply reply = receive(fd);
    assert_int_equal(reply.status, 503);
    assert_non_null(strstr(reply.body, "stopping"));
    free(reply.text);
    status = stack_reap(server_pid, "dovetail-serving");
    server_pid = 0;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_rows_equal_sql),
        cmocka_unit_test(test_every_event_counts_once),
        cmocka_unit_test(test_range_and_limit),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_typed_keys),
        cmocka_unit_test(test_odd_names),
        cmocka_unit_test(test_roll_up_over_keys),
        cmocka_unit_test(test_roll_up_over_windows),
        cmocka_unit_test(test_roll_up_over_everything),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_receipt),
        cmocka_unit_test(test_bad_parameters),
        cmocka_unit_test(test_unknown_paths),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_limits_of_requests),
        cmocka_unit_test(test_many_different_statements),
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_metrics_by_promtool),
        cmocka_unit_test(test_openapi_is_true),
        cmocka_unit_test(test_index),
        cmocka_unit_test(test_at_least_reached_already),
        cmocka_unit_test(test_at_least_not_in_time),
        cmocka_unit_test(test_at_least_waits),
        cmocka_unit_test(test_lost_connections_are_renewed),
        cmocka_unit_test(test_postgres_away_and_back),
        cmocka_unit_test(test_connection_details_stay_in_the_log),
        cmocka_unit_test(test_building_versions),
        cmocka_unit_test(test_published_versions),
        cmocka_unit_test(test_stop_finishes_requests),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
