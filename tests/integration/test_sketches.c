/* Distinct counts, percentiles and histograms on a real Kafka and PostgreSQL.
 *
 * Values of all sizes go through both layers. `dovetail query`, HTTP and the SQL view must say the
 * same to the digit, a roll-up the same as a view of its own, and `dovetail verify` must find it
 * identical. Stored HyperLogLogs must be to the byte what the extension hll makes of the same
 * values. A set beyond its limit must be refused by name and hurt nothing else. */
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
#include "tests/support/stack.h"

enum { RECORDS = 24000, FIRST = 9000 /* that the batch layer has seen */ };

static struct deployment *deployment;
static PGconn *connection;
static struct http_session *session;

static const char source_json[] =
    "{\"source\": \"samples\", \"partitions\": 3,"
    " \"event_time\": {\"field\": \"at\", \"format\": \"epoch_s\"},"
    " \"fields\": {\"at\": \"timestamp\", \"sort\": \"string\","
    "  \"x\": {\"type\": \"integer\", \"nullable\": true},"
    "  \"d\": {\"type\": \"decimal\", \"nullable\": true},"
    "  \"s\": {\"type\": \"string\", \"nullable\": true}, \"b\": \"boolean\"}}";

#define MEASURES                                                                                   \
    " \"measures\": {\"n\": \"count(*)\", \"xs\": \"count(DISTINCT x, 100000)\","                  \
    "  \"ds\": \"count(DISTINCT d % 100, 100000) FILTER (WHERE b)\","                              \
    "  \"ss\": \"count(DISTINCT s, 100000)\", \"ats\": \"count(DISTINCT at, 100000)\","            \
    "  \"bs\": \"count(DISTINCT b)\","                                                             \
    "  \"xs_about\": \"approx_count_distinct(x)\", \"ds_about\": \"approx_count_distinct(d)\","    \
    "  \"ss_about\": \"approx_count_distinct(s)\","                                                \
    "  \"ats_about\": \"approx_count_distinct(at) FILTER (WHERE x IS NOT NULL)\","                 \
    "  \"bs_about\": \"approx_count_distinct(b)\","                                                \
    "  \"x50\": \"approx_percentile(x, 0.5)\", \"x01\": \"approx_percentile(x, 0.01, 0.2)\","      \
    "  \"d95\": \"approx_percentile(d, 0.95)\","                                                   \
    "  \"d5\": \"approx_percentile(d - 0.5, 0.05, 0.0001) FILTER (WHERE d BETWEEN -1000 AND "      \
    "1000)\","                                                                                     \
    "  \"x_hist\": \"histogram(x, [-1000, -1, 0, 1, 1000])\","                                     \
    "  \"d_hist\": \"histogram(d, [0, 0.001, 1e6]) FILTER (WHERE b IS NOT TRUE)\"}"

static const char small_json[] =
    "{\"view\": \"small\", \"source\": \"samples\", \"group_by\": [\"sort\", \"b\"],"
    " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}," MEASURES "}";
static const char large_json[] =
    "{\"view\": \"large\", \"source\": \"samples\","
    " \"window\": {\"type\": \"tumbling\", \"size\": \"1d\"}," MEASURES "}";
static const char bounded_json[] =
    "{\"view\": \"bounded\", \"source\": \"samples\", \"group_by\": [\"sort\"],"
    " \"window\": {\"type\": \"tumbling\", \"size\": \"1w\"},"
    " \"measures\": {\"n\": \"count(*)\", \"different\": \"count(DISTINCT s, 20)\"}}";

/* Few, some and many different strings; integers and decimals of every size. */
static const char samples_sql[] =
    "SELECT setseed(0.25);"
    "CREATE TABLE samples AS SELECT i, 1767225600 + (random() * 172000)::integer AS at,"
    " sort, random() < 0.5 AS b,"
    " CASE WHEN random() > 0.05 THEN CASE sort"
    "   WHEN 'few' THEN (random() * 6 - 3)::bigint"
    "   WHEN 'some' THEN (random() * 2000)::bigint"
    "   ELSE ((random() - 0.5) * 2 ^ (random() * 63))::bigint END END AS x,"
    " CASE WHEN random() > 0.05 THEN CASE sort"
    "   WHEN 'few' THEN round((random() * 4 - 2)::numeric, 1)"
    "   ELSE (random() * 2000000000 - 1000000000)::bigint::numeric"
    "        * ('1e' || (CASE sort WHEN 'some' THEN -6 ELSE (random() * 66)::integer - 38 END))"
    "          ::numeric END END AS d,"
    " CASE WHEN random() > 0.05 THEN CASE sort"
    "   WHEN 'few' THEN 'v' || (random() * 10)::integer WHEN 'some' THEN 'Größe ' || i %% 700"
    "   ELSE md5(i::text) || repeat('-', i %% 40) END END AS s"
    " FROM (SELECT i, (ARRAY['few', 'some', 'many', 'many'])[1 + (random() * 3)::integer] AS sort"
    "       FROM generate_series(1, %d) AS i OFFSET 0) AS rows ORDER BY i;";

static PGresult *must_run(const char *sql)
{
    PGresult *result = database_ask(connection, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && status != PGRES_COPY_OUT)
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    return result;
}

static char *text_of(const char *sql)
{
    PGresult *result = must_run(sql);
    char *text = strdup(PQgetvalue(result, 0, 0));
    PQclear(result);
    return text;
}

static void produce(int from, int to)
{
    char *sql = NULL, path[100];
    assert_true(asprintf(&sql,
                         "SELECT string_agg(json_strip_nulls(json_build_object('at', at, 'sort', "
                         "sort, 'x', x, 'd', d, 's', s, 'b', b))::text || E'\\n', '' ORDER BY i)"
                         " FROM samples WHERE i > %d AND i <= %d",
                         from, to) > 0);
    char *lines = text_of(sql);
    deployment_write(deployment, "samples.jsonl", lines);
    snprintf(path, sizeof path, "%s/samples.jsonl", deployment->directory);
    deployment_run(deployment, 0, "dovetail", "produce", "samples", path, NULL);
    free(lines);
    free(sql);
}

static void await_positions(int64_t records, struct child *speed)
{
    static const char sql[] = "SELECT sum(consumed) FROM dovetail_internal.position";
    for (int64_t end = stack_now_ms() + STACK_WAIT_MS; deployment_number(deployment, sql) < records;
         stack_sleep_ms(50)) {
        children_must_run(&speed, 1);
        assert_true(stack_now_ms() < end);
    }
}

static int set_up(void **state)
{
    char *sql = NULL;
    (void)state;
    deployment = deployment_create();
    deployment_define_source(deployment, source_json);
    deployment_define_view(deployment, small_json);
    deployment_define_view(deployment, large_json);
    deployment_define_view(deployment, bounded_json);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    connection = deployment_connect(deployment);
    assert_true(asprintf(&sql, samples_sql, RECORDS) > 0);
    PQclear(must_run(sql));
    free(sql);
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    produce(0, FIRST);
    await_positions(FIRST, speed);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    produce(FIRST, RECORDS);
    await_positions(RECORDS, speed);
    deployment_serve(deployment);
    session = http_session_create(deployment->port);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    http_session_destroy(session);
    PQfinish(connection);
    deployment_destroy(deployment);
    return 0;
}

/* --- comparing --- */

/* The CSV of a statement, as COPY writes it. */
static char *csv_of(const char *select)
{
    char *sql = NULL, *text = NULL, *row;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    assert_true(asprintf(&sql, "COPY (%s) TO STDOUT WITH (FORMAT csv, HEADER)", select) > 0);
    PQclear(must_run(sql));
    for (int size; (size = PQgetCopyData(connection, &row, 0)) >= 0; PQfreemem(row)) {
        if (size > 0 && size == -2)
            fail_msg("%s", PQerrorMessage(connection));
        fwrite(row, 1, (size_t)size, out);
    }
    PGresult *result = PQgetResult(connection);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%s: %s", select, PQerrorMessage(connection));
    PQclear(result);
    while ((result = PQgetResult(connection)) != NULL)
        PQclear(result);
    fclose(out);
    free(sql);
    return text;
}

static void drop_returns(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; from++)
        if (*from != '\r')
            *to++ = *from;
    *to = '\0';
}

/* Line by line, so that a difference is readable. */
static void same_lines(const char *what, const char *a, const char *b)
{
    size_t lines = 0;
    while (*a != '\0' || *b != '\0') {
        size_t length_a = strcspn(a, "\n"), length_b = strcspn(b, "\n");
        if (length_a != length_b || memcmp(a, b, length_a) != 0)
            fail_msg("%s, line %zu:\n%.*s\n%.*s", what, lines + 1, (int)length_a, a, (int)length_b,
                     b);
        a += length_a + (a[length_a] != '\0');
        b += length_b + (b[length_b] != '\0');
        lines++;
    }
    print_message("%s: %zu equal lines\n", what, lines);
    assert_true(lines > 1);
}

#define WINDOW(name)                                                                               \
    "to_char(" name " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS " name
#define COLUMNS                                                                                    \
    "n, xs, ds, ss, ats, bs, xs_about, ds_about, ss_about, ats_about, bs_about, x50, x01, d95, "   \
    "d5,"                                                                                          \
    " x_hist, d_hist, provisional::text AS provisional"

static void test_sql_is_the_command_line(void **state)
{
    (void)state;
    char *theirs = csv_of("SELECT " WINDOW("window_start") ", " WINDOW(
        "window_end") ", sort, b::text"
                      " AS b, " COLUMNS " FROM dovetail.small ORDER BY 1, sort, b");
    struct child *child =
        deployment_run(deployment, 0, "dovetail", "query", "small", "--format", "csv", NULL);
    char *ours = strdup(child_output(child));
    drop_returns(ours);
    same_lines("dovetail query and SQL", ours, theirs);
    free(ours);
    free(theirs);
}

/* Merging states of many groups gives what a view without groups has. */
static void test_roll_up_is_a_view_of_its_own(void **state)
{
    (void)state;
    char *theirs = csv_of("SELECT " WINDOW("window_start") ", " WINDOW(
        "window_end") ", " COLUMNS " FROM dovetail.large ORDER BY 1");
    struct child *child = deployment_run(deployment, 0, "dovetail", "query", "small", "--group-by",
                                         "", "--granularity", "1d", "--format", "csv", NULL);
    char *ours = strdup(child_output(child));
    drop_returns(ours);
    same_lines("a roll-up and a view", ours, theirs);
    free(ours);
    free(theirs);
}

static json_t *http_rows(const char *target, int status)
{
    struct http_reply reply;
    http_get(session, target, &reply);
    if (reply.status != status)
        fail_msg("%s: %d %s", target, reply.status,
                 reply.body != NULL ? reply.body : reply.problem);
    json_t *json = http_reply_json(&reply);
    assert_non_null(json);
    http_reply_free(&reply);
    return json;
}

/* From the rows to the receipt, which says when it was written. Cuts the text. */
static const char *rows_in(char *json)
{
    char *rows = strstr(json, "\"rows\":["), *end = strstr(json, "],\"receipt\"");
    assert_non_null(rows);
    assert_non_null(end);
    *end = '\0';
    return rows;
}

/* As texts: decimals have more digits than a JSON library keeps. */
static void test_http_has_the_same(void **state)
{
    (void)state;
    struct http_reply reply;
    http_get(session, "/v1/views/small/rows", &reply);
    assert_int_equal(reply.status, 200);
    struct child *child =
        deployment_run(deployment, 0, "dovetail", "query", "small", "--format", "json", NULL);
    char *printed = strdup(child_output(child));
    const char *rows = rows_in(reply.body);
    same_lines("HTTP and dovetail query", rows, rows_in(printed));
    const char *histogram = strstr(rows, "\"x_hist\":[");
    assert_non_null(histogram);
    assert_int_equal(strspn(histogram + strlen("\"x_hist\":["), "0123456789,") > 10, 1);
    free(printed);
    http_reply_free(&reply);
}

static void test_verify(void **state)
{
    static const char *const views[] = {"small", "large"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct child *child = deployment_run(deployment, 0, "dovetail", "verify", views[i], NULL);
        print_message("%s: %s", views[i], child_output(child));
        assert_memory_equal(child_output(child), "identical: ", 11);
    }
}

/* Measures that verify must not believe: each has one count, register or value changed, and is
 * named with what differs. */
static void test_verify_finds_a_changed_state(void **state)
{
    static const char *const changed[] = {" x_hist ", " xs_about ", " xs ", " x50 "};
    (void)state;
    char *sql = NULL, *table = text_of("SELECT 'dovetail_internal.batch_' || version FROM"
                                       " dovetail_internal.view_version WHERE view = 'large'"
                                       " AND state = 'current'");
    assert_true(asprintf(&sql,
                         "CREATE TABLE kept AS SELECT * FROM %s; UPDATE %s SET"
                         " x_hist[6] = x_hist[6] + 1,"
                         " xs_about = set_byte(xs_about, 40, 255 - get_byte(xs_about, 40)),"
                         " xs = xs || 9223372036854775807, x50[2] = x50[2] + 100000",
                         table, table) > 0);
    PQclear(must_run(sql));
    free(sql);
    struct child *child = deployment_run(deployment, 1, "dovetail", "verify", "large", NULL);
    assert_non_null(strstr(child_output(child), "different: "));
    for (size_t i = 0; i < sizeof changed / sizeof changed[0]; i++)
        if (strstr(child_output(child), changed[i]) == NULL)
            fail_msg("no difference of%sin %s", changed[i], child_output(child));
    assert_true(asprintf(&sql,
                         "UPDATE %s AS t SET x_hist = k.x_hist, xs_about = k.xs_about,"
                         " xs = k.xs, x50 = k.x50 FROM kept AS k WHERE k._row_id = t._row_id;"
                         " DROP TABLE kept",
                         table) > 0);
    PQclear(must_run(sql));
    free(sql);
    free(table);
}

/* --- the extension hll --- */

static void test_hll_reads_what_is_stored(void **state)
{
    (void)state;
    PGresult *result = database_ask(connection, "CREATE EXTENSION hll");
    bool exists = PQresultStatus(result) == PGRES_COMMAND_OK;
    PQclear(result);
    if (!exists) {
        print_message("the extension hll is not installed (postgresql-<version>-hll): skipped\n");
        skip();
    }
    char *version = text_of("SELECT version FROM dovetail_internal.view_version"
                            " WHERE view = 'small' AND state = 'current'");
    char *sql = NULL;
    assert_true(
        asprintf(
            &sql,
            "WITH stored AS (SELECT sort, xs_about, ss_about FROM dovetail_internal.batch_%s"
            "   WHERE _run_to = 9223372036854775807"
            "   UNION ALL SELECT s.sort, s.xs_about, s.ss_about FROM dovetail_internal.speed_%s AS "
            "s"
            "   JOIN dovetail_internal.run_cutoff AS c ON c.run = (SELECT run FROM"
            "     dovetail_internal.current_run) AND c.partition = s._partition"
            "     AND s._slice_start >= c.next_offset),"
            " united AS (SELECT sort, hll_union_agg(xs_about::hll) AS x,"
            "   hll_union_agg(ss_about::hll) AS s FROM stored GROUP BY sort),"
            " made AS (SELECT sort,"
            "   hll_add_agg(hll_hash_bigint(x), 14, 5, 128, 1) FILTER (WHERE x IS NOT NULL) AS x,"
            "   hll_add_agg(hll_hash_text(s), 14, 5, 128, 1) FILTER (WHERE s IS NOT NULL) AS s,"
            "   count(DISTINCT x) AS xs, count(DISTINCT s) AS ss FROM samples GROUP BY sort)"
            " SELECT sort, u.x::text = m.x::text, u.s::text = m.s::text,"
            "   abs(hll_cardinality(u.x) - xs) <= 0.03 * xs, abs(hll_cardinality(u.s) - ss) <= "
            "0.03 "
            "* ss, xs, ss, round(hll_cardinality(u.x)), round(hll_cardinality(u.s)),"
            "   hll_schema_version(u.x), hll_log2m(u.x), hll_regwidth(u.x),"
            "   dovetail_internal.hll_cardinality(ARRAY[u.s::text::bytea])"
            " FROM united AS u JOIN made AS m USING (sort)",
            version, version) > 0);
    result = must_run(sql);
    assert_int_equal(PQntuples(result), 3);
    for (int row = 0; row < 3; row++) {
        print_message("%s: %s and %s values, hll says %s and %s, Dovetail %s of the latter\n",
                      PQgetvalue(result, row, 0), PQgetvalue(result, row, 5),
                      PQgetvalue(result, row, 6), PQgetvalue(result, row, 7),
                      PQgetvalue(result, row, 8), PQgetvalue(result, row, 12));
        for (int column = 1; column <= 4; column++)
            assert_string_equal(PQgetvalue(result, row, column), "t");
    }
    PQclear(result);
    free(sql);
    free(version);
}

/* --- beyond the limit --- */

static void must_fail(const char *sql, const char *text)
{
    PGresult *result = database_ask(connection, sql);
    assert_int_equal(PQresultStatus(result), PGRES_FATAL_ERROR);
    if (strstr(PQerrorMessage(connection), text) == NULL)
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    PQclear(result);
}

static void test_a_set_beyond_its_limit(void **state)
{
    static const char refusal[] = "measure \"different\": a group has more than 20 distinct values";
    (void)state;
    json_t *reply = http_rows("/v1/views/bounded/rows", 400);
    assert_non_null(strstr(json_string_value(json_object_get(reply, "detail")), refusal));
    assert_null(json_object_get(reply, "parameter")); /* none that was sent is at fault */
    json_decref(reply);
    reply = http_rows("/v1/views/bounded/rows?sort=few", 200);
    assert_int_equal(json_integer_value(json_object_get(
                         json_array_get(json_object_get(reply, "rows"), 0), "different")),
                     11);
    json_decref(reply);
    reply = http_rows("/v1/views/bounded/rows?measures=n", 200);
    assert_int_equal(json_array_size(json_object_get(reply, "rows")), 3);
    json_decref(reply);

    must_fail("SELECT * FROM dovetail.bounded", refusal);
    free(text_of("SELECT n FROM dovetail.bounded"));
    char *few = text_of("SELECT different FROM dovetail.bounded WHERE sort = 'few'");
    assert_string_equal(few, "11");
    free(few);

    struct child *child = deployment_run(deployment, 2, "dovetail", "query", "bounded", NULL);
    assert_non_null(strstr(child_errors(child), refusal));
    child = deployment_run(deployment, 2, "dovetail", "verify", "bounded", NULL);
    assert_non_null(strstr(child_errors(child), refusal));
}

/* The batch layer alone, over everything: the seam has moved, no value has. */
static void test_recompute_changes_nothing(void **state)
{
    (void)state;
    static const char select[] = "SELECT * FROM dovetail.small ORDER BY window_start, sort, b";
    char *before = csv_of(select);
    deployment_run(deployment, 0, "dovetail-batch", "run", "--full", NULL);
    char *after = csv_of(select);
    same_lines("before and after a run", before, after);
    free(before);
    free(after);
}

/* A reader who may read the view and nothing else. */
static void test_a_reader_without_other_rights(void **state)
{
    (void)state;
    PQclear(
        must_run("DO $$ BEGIN CREATE ROLE dovetail_test_reader; EXCEPTION WHEN duplicate_object "
                 "THEN NULL; END $$; GRANT USAGE ON SCHEMA dovetail TO dovetail_test_reader;"
                 "GRANT SELECT ON dovetail.large TO dovetail_test_reader;"
                 "SET ROLE dovetail_test_reader"));
    free(text_of("SELECT sum(xs_about + xs) + sum(x50) + sum(d95) + sum(x_hist[1])"
                 " FROM dovetail.large"));
    PQclear(must_run("RESET ROLE; DROP OWNED BY dovetail_test_reader"));
    PQclear(database_ask(connection, "DROP ROLE dovetail_test_reader"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sql_is_the_command_line),
        cmocka_unit_test(test_roll_up_is_a_view_of_its_own),
        cmocka_unit_test(test_http_has_the_same),
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_verify_finds_a_changed_state),
        cmocka_unit_test(test_hll_reads_what_is_stored),
        cmocka_unit_test(test_a_set_beyond_its_limit),
        cmocka_unit_test(test_a_reader_without_other_rights),
        cmocka_unit_test(test_recompute_changes_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
