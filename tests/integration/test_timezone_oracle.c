/* Time zones and calendar windows against PostgreSQL, which reads the same tzdata: every zone it
 * knows, at random times from 1900 to 2100, far outside of these, and around every change of
 * clocks.
 *
 * Offsets are always equal. So are starts of days, weeks, months, quarters and years and
 * date_trunc, but around midnights that clocks left out or ran through twice: there date_trunc
 * names a time at which the day has long begun, and what must agree is dovetail_internal.day_start.
 * Every such case is looked at: PostgreSQL must confirm that calendars show the day from our start
 * on, and an earlier one just before.
 *
 * date_trunc with a zone, and EXTRACT at one, of expressions are always equal.
 *
 * Only temporary objects are made. DOVETAIL_SEED repeats. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/catalog/migrations.h"
#include "core/definitions/definition.h"
#include "core/time/timestamp.h"
#include "core/windows/window.h"
#include "tests/support/database.h"
#include "tests/support/orders.h"
#include "tests/support/stack.h"

enum { RANDOM_TIMES = 40, TIMES_MAX = 4000, SIZES = 5, DAYS_MAX = 60 };

static const char *const sizes[SIZES][2] = {
    {"1d", "day"}, {"1w", "week"}, {"1mo", "month"}, {"3mo", "quarter"}, {"1y", "year"}};

/* As a definition has them, of the field t; 'Z' stands for the zone. */
static const char *const expressions[] = {"date_trunc('minute', t, 'Z')",
                                          "date_trunc('hour', t, 'Z')",
                                          "date_trunc('day', t, 'Z')",
                                          "date_trunc('week', t, 'Z')",
                                          "date_trunc('month', t, 'Z')",
                                          "date_trunc('quarter', t, 'Z')",
                                          "date_trunc('year', t, 'Z')",
                                          "date_trunc('decade', t, 'Z')",
                                          "date_trunc('millennium', t, 'Z')",
                                          "EXTRACT(hour FROM t AT TIME ZONE 'Z')",
                                          "EXTRACT(doy FROM t AT TIME ZONE 'Z')",
                                          "EXTRACT(week FROM t AT TIME ZONE 'Z')",
                                          "EXTRACT(epoch FROM t AT TIME ZONE 'Z')"};
enum { EXPRESSIONS = sizeof expressions / sizeof expressions[0] };

static PGconn *connection;
static struct source *source;
static uint64_t seed;
static struct error error;

struct tally {
    size_t zones, times, starts, irregular, ends, values;
};

static PGresult *run(const char *sql, int count, const char *const *values)
{
    PGresult *result = database_ask_with(connection, sql, count, values);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    return result;
}

/* The functions of the migration, as temporary ones. */
static void create_functions(void)
{
    char *sql = NULL;
    size_t length;
    FILE *out = open_memstream(&sql, &length);
    for (size_t i = 0; i < migration_count; i++) {
        if (strcmp(migrations[i].name, "006_windows.sql") != 0)
            continue;
        for (const char *at = migrations[i].sql; *at != '\0'; at++) {
            static const char schema[] = "dovetail_internal.", set[] = "SET LOCAL",
                              create[] = "CREATE FUNCTION ";
            if (strncmp(at, schema, sizeof schema - 1) == 0) {
                fputs("pg_temp.", out);
                at += sizeof schema - 2;
            } else if (strncmp(at, set, sizeof set - 1) == 0) {
                at = strchr(at, ';');
            } else if (strncmp(at, create, sizeof create - 1) == 0) {
                fputs("CREATE FUNCTION pg_temp.", out);
                at += sizeof create - 2;
            } else {
                fputc(*at, out);
            }
        }
    }
    fclose(out);
    assert_true(length > 0);
    PGresult *result = database_ask(connection, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%s", PQerrorMessage(connection));
    PQclear(result);
    free(sql);
}

static int set_up(void **state)
{
    (void)state;
    seed = stack_seed();
    connection = database_open(stack_postgres());
    if (PQstatus(connection) != CONNECTION_OK) {
        print_error("%s", PQerrorMessage(connection));
        return -1;
    }
    json_t *json = json_loads("{\"source\":\"s\",\"topic\":\"s\",\"event_time\":{\"field\":"
                              "\"t\"},\"fields\":{\"t\":\"timestamp\"}}",
                              0, NULL);
    assert_int_equal(source_create(json, "s", &source, &error), STATUS_OK);
    json_decref(json);
    create_functions();
    PQclear(run("CREATE FUNCTION pg_temp.us(t timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE"
                " RETURN (extract(epoch FROM t) * 1000000)::bigint",
                0, NULL));
    PQclear(run("CREATE FUNCTION pg_temp.t(us bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE"
                " RETURN timestamptz 'epoch' + us / 1000000 * interval '1 second'"
                " + us % 1000000 * interval '1 microsecond'",
                0, NULL));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    source_destroy(source);
    PQfinish(connection);
    return 0;
}

static int64_t between(int64_t low, int64_t high)
{
    return low + (int64_t)(orders_random(&seed) % (uint64_t)(high - low));
}

static int64_t at(const char *date)
{
    int64_t us = 0;
    assert_int_equal(timestamp_parse_date_or_rfc3339(date, strlen(date), &us), TIMESTAMP_OK);
    return us;
}

/* Random times, and times around each change of clocks. */
static size_t make_times(const struct time_zone *zone, int64_t *times)
{
    static const int64_t around_s[] = {-90000, -5400, -1, 0, 1800, 3601, 86400};
    size_t count = 0;
    for (; count < RANDOM_TIMES; count++)
        times[count] = count % 10 == 0 ? between(at("0002-01-01"), at("9998-01-01"))
                                       : between(at("1900-01-01"), at("2100-01-01"));
    for (size_t i = 0; i < zone->count; i++) {
        int64_t change_us = zone->times_s[i] * TIMESTAMP_US_PER_SECOND;
        if (change_us < at("1850-01-01") || change_us > at("2060-01-01"))
            continue;
        for (size_t k = 0; k < 7 && count < TIMES_MAX; k++)
            times[count++] = change_us + around_s[k] * TIMESTAMP_US_PER_SECOND;
    }
    return count;
}

static char *array_of(const int64_t *numbers, size_t count)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    for (size_t i = 0; i < count; i++)
        fprintf(out, "%s%" PRId64, i == 0 ? "{" : ",", numbers[i]);
    fputs(count == 0 ? "{}" : "}", out);
    fclose(out);
    return text;
}

static int64_t number(const PGresult *result, int row, int column)
{
    return strtoll(PQgetvalue(result, row, column), NULL, 10);
}

static void check_truth(const char *zone, int64_t start_us)
{
    char us[24];
    snprintf(us, sizeof us, "%" PRId64, start_us);
    const char *values[] = {us, zone};
    /* the day that begins here had not been shown before, in the two days before */
    PGresult *result = run("SELECT (pg_temp.t($1::bigint) AT TIME ZONE $2)::date > max("
                           " (pg_temp.t($1::bigint - 1 - n * 60000000) AT TIME ZONE $2)::date)"
                           " FROM generate_series(0::bigint, 2900) AS n",
                           2, values);
    if (strcmp(PQgetvalue(result, 0, 0), "t") != 0)
        fail_msg("%s: %s is no start of a day", zone, us);
    PQclear(result);
}

/* Ours and PostgreSQL's windows of every size. */
static void check_windows(const struct time_zone *zone, const char *name, const int64_t *times,
                          const PGresult *result, struct tally *tally)
{
    int64_t irregular[DAYS_MAX];
    size_t irregular_count = 0;
    for (size_t s = 0; s < SIZES; s++) {
        char text[200];
        struct window window;
        struct arena arena;
        arena_init(&arena);
        snprintf(text, sizeof text, "{\"type\":\"tumbling\",\"size\":\"%s\",\"timezone\":\"%s\"}",
                 sizes[s][0], name);
        json_t *json = json_loads(text, 0, NULL);
        assert_int_equal(window_from_json(json, &arena, &window, &error), STATUS_OK);
        json_decref(json);
        for (int i = 0; i < PQntuples(result); i++) {
            int64_t start_us = window_pane_start(&window, times[i]);
            int64_t end_us = window_pane_end(&window, start_us);
            int64_t theirs_us = number(result, i, 1 + (int)s);
            assert_true(start_us <= times[i] && times[i] < end_us);
            assert_int_equal(window_pane_start(&window, start_us), start_us);
            assert_int_equal(window_pane_start(&window, end_us - 1), start_us);
            assert_int_equal(window_pane_start(&window, end_us), end_us);
            tally->starts++;
            if (theirs_us == start_us)
                continue;
            tally->irregular++;
            if (llabs(theirs_us - start_us) > 26 * INT64_C(3600000000) && s == 0)
                fail_msg("%s: %" PRId64 " is in the day from %" PRId64 ", not %" PRId64, name,
                         times[i], theirs_us, start_us);
            if (irregular_count < DAYS_MAX)
                irregular[irregular_count++] = start_us;
        }
        arena_deinit(&arena);
    }
    for (size_t i = 0; i < irregular_count; i++)
        if (i == 0 || irregular[i] != irregular[i - 1])
            check_truth(name, irregular[i]);
    (void)zone;
}

/* dovetail_internal.calendar_end, for windows of each size. */
static void check_ends(const char *name, const int64_t *times, size_t count, struct tally *tally)
{
    for (size_t s = 0; s < SIZES; s++) {
        char text[200], days[12], origin[12], months[12];
        int64_t starts[DAYS_MAX * 2];
        size_t chosen = 0;
        struct window window;
        struct arena arena;
        arena_init(&arena);
        snprintf(text, sizeof text, "{\"type\":\"tumbling\",\"size\":\"%s\",\"timezone\":\"%s\"}",
                 sizes[s][0], name);
        json_t *json = json_loads(text, 0, NULL);
        assert_int_equal(window_from_json(json, &arena, &window, &error), STATUS_OK);
        json_decref(json);
        /* those around changes near midnight, and some others */
        for (size_t i = 0; i < count && chosen < (s == 0 ? 2 * DAYS_MAX : 10); i++)
            if (i < 5 || between(0, (int64_t)count) < (s == 0 ? DAYS_MAX : 10))
                starts[chosen++] = window_pane_start(&window, times[i]);
        snprintf(days, sizeof days, "%d", window.days);
        snprintf(origin, sizeof origin, "%d", window.origin_day);
        snprintf(months, sizeof months, "%d", window.months);
        char *array = array_of(starts, chosen);
        const char *values[] = {array, name, days, origin, months};
        PGresult *result = run("SELECT pg_temp.us(pg_temp.calendar_end(pg_temp.t(us), $2,"
                               " $3::integer, $4::integer, $5::integer))"
                               " FROM unnest($1::bigint[]) WITH ORDINALITY AS x (us, n) ORDER BY n",
                               5, values);
        for (size_t i = 0; i < chosen; i++) {
            if (number(result, (int)i, 0) != window_pane_end(&window, starts[i]))
                fail_msg("%s: the window of %s from %" PRId64 " ends at %" PRId64
                         ", calendar_end says %s",
                         name, sizes[s][0], starts[i], window_pane_end(&window, starts[i]),
                         PQgetvalue(result, (int)i, 0));
            tally->ends++;
        }
        PQclear(result);
        free(array);
        arena_deinit(&arena);
    }
}

/* The expressions at all times, as texts of numbers: microseconds, or what EXTRACT gives. */
static void check_expressions(const char *zone, const int64_t *times, size_t count,
                              struct tally *tally)
{
    char *array = array_of(times, count);
    const char *values[] = {array};
    for (size_t e = 0; e < EXPRESSIONS; e++) {
        char text[200], sql[500];
        struct expression *expression;
        struct arena scratch;
        const char *letter = strstr(expressions[e], "'Z'");
        snprintf(text, sizeof text, "%.*s'%s')", (int)(letter - expressions[e]), expressions[e],
                 zone);
        if (expression_create(text, source, &expression, &error) != STATUS_OK)
            fail_msg("%s: %s", text, error.text);
        bool is_time = expression_type(expression) == VALUE_TIMESTAMP;
        snprintf(sql, sizeof sql,
                 "SELECT %s%s%s FROM (SELECT pg_temp.t(us) AS t, n FROM unnest($1::bigint[]) WITH"
                 " ORDINALITY AS x (us, n) OFFSET 0) AS y ORDER BY n",
                 is_time ? "pg_temp.us(" : "trim_scale(", text, ")");
        PGresult *result = run(sql, 1, values);
        arena_init(&scratch);
        for (size_t i = 0; i < count; i++) {
            struct value field = value_timestamp(times[i]), value;
            char ours[80];
            if (expression_evaluate(expression, &field, &scratch, &value, &error) != STATUS_OK) {
                if (is_time && !timestamp_in_range(number(result, (int)i, 0)))
                    continue; /* the millennium from the year 1 on, in local time */
                fail_msg("%s at %" PRId64 ": %s", text, times[i], error.text);
            }
            if (is_time)
                snprintf(ours, sizeof ours, "%" PRId64, value.timestamp_us);
            else
                snprintf(ours, sizeof ours, "%s", value_text(&value, &scratch, NULL));
            if (strcmp(ours, PQgetvalue(result, (int)i, 0)) != 0)
                fail_msg("%s at %" PRId64 ": %s, PostgreSQL says %s", text, times[i], ours,
                         PQgetvalue(result, (int)i, 0));
            arena_reset(&scratch);
        }
        tally->values += count;
        arena_deinit(&scratch);
        PQclear(result);
        expression_destroy(expression);
    }
    free(array);
}

static void check_zone(const char *name, struct tally *tally)
{
    static int64_t times[TIMES_MAX];
    const struct time_zone *zone;
    struct arena arena;
    arena_init(&arena);
    if (time_zone_load(name, &arena, &zone, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    size_t count = make_times(zone, times);
    char *array = array_of(times, count);
    const char *values[] = {array, name};
    PGresult *result =
        run("SELECT extract(epoch FROM (t AT TIME ZONE $2) - (t AT TIME ZONE 'UTC'))::bigint,"
            " pg_temp.us(date_trunc('day', t, $2)), pg_temp.us(date_trunc('week', t, $2)),"
            " pg_temp.us(date_trunc('month', t, $2)), pg_temp.us(date_trunc('quarter', t, $2)),"
            " pg_temp.us(date_trunc('year', t, $2))"
            " FROM (SELECT pg_temp.t(us) AS t, n FROM unnest($1::bigint[]) WITH ORDINALITY"
            "  AS x (us, n) OFFSET 0) AS y ORDER BY n",
            2, values);
    assert_int_equal(PQntuples(result), count);
    for (size_t i = 0; i < count; i++) {
        int64_t second =
            times[i] / TIMESTAMP_US_PER_SECOND - (times[i] % TIMESTAMP_US_PER_SECOND < 0);
        if (number(result, (int)i, 0) != time_zone_offset_s(zone, second))
            fail_msg("%s at %" PRId64 ": offset %d, PostgreSQL says %s", name, times[i],
                     time_zone_offset_s(zone, second), PQgetvalue(result, (int)i, 0));
    }
    check_windows(zone, name, times, result, tally);
    check_ends(name, times, count, tally);
    check_expressions(name, times, count, tally);
    PQclear(result);
    free(array);
    tally->zones++;
    tally->times += count;
    arena_deinit(&arena);
}

static void test_zones(void **state)
{
    (void)state;
    struct tally tally = {0};
    /* every name of a zone but the copies of the whole tree, in the order of a random hash */
    PGresult *zones = run("SELECT name FROM pg_timezone_names WHERE name LIKE '%/%'"
                          " AND name !~ '^(posix|right)/' ORDER BY name",
                          0, NULL);
    assert_true(PQntuples(zones) > 400);
    for (int i = 0; i < PQntuples(zones); i++)
        check_zone(PQgetvalue(zones, i, 0), &tally);
    PQclear(zones);
    print_message("%zu zones, %zu times, %zu starts, of which %zu not as date_trunc; %zu ends; %zu"
                  " values of expressions\n",
                  tally.zones, tally.times, tally.starts, tally.irregular, tally.ends,
                  tally.values);
    assert_true(tally.irregular * 100 < tally.starts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_zones)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
