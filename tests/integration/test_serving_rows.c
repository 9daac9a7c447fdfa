/* The rows that dovetail-serving answers with, on a database as the layers leave it: against the
 * SQL views, text by text; layers, receipts, and answers that are waited for. */
#include "tests/support/trips_fixture.h"

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
        cmocka_unit_test(test_at_least_reached_already),
        cmocka_unit_test(test_at_least_not_in_time),
        cmocka_unit_test(test_at_least_waits),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
