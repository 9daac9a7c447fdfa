/* Every kind of measure on the running system: records in Kafka, some of them folded by the batch
 * layer and the rest by the speed layer, bad expressions among them. The SQL view, `dovetail query`
 * and its roll-ups, and `dovetail verify` must all say what PostgreSQL computes from the raw
 * records.
 *
 * DOVETAIL_SEED repeats the records. */
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
#include "tests/support/stack.h"

enum { RECORDS = 1200, PARTITIONS = 3 };

static const char source_json[] =
    "{\"source\": \"readings\", \"partitions\": 3,"
    " \"event_time\": {\"field\": \"at\", \"format\": \"epoch_ms\"},"
    " \"fields\": {\"at\": \"timestamp\", \"place\": \"string\","
    "  \"i\": {\"type\": \"integer\", \"nullable\": true},"
    "  \"d\": {\"type\": \"decimal\", \"nullable\": true},"
    "  \"s\": {\"type\": \"string\", \"nullable\": true},"
    "  \"b\": {\"type\": \"boolean\", \"nullable\": true},"
    "  \"t\": {\"type\": \"timestamp\", \"format\": \"epoch_s\", \"nullable\": true}}}";

/* Names, calls, and where PostgreSQL has no such aggregate over the table below: what it has. The
 * aggregates pairs_... of (y, x) are made by the test. */
static const struct measure {
    const char *name;
    enum { NUMBER, TEXT, BOOLEAN, TIME } type;
    const char *call;
    const char *sql;
} measures[] = {
    {"all_ok", BOOLEAN, "bool_and(b)", NULL},
    {"any_ok", BOOLEAN, "bool_or(b) FILTER (WHERE i > 0)", NULL},
    {"vp_i", NUMBER, "var_pop(i)", NULL},
    {"vs_d", NUMBER, "var_samp(d)", NULL},
    {"v_id", NUMBER, "variance(i * d)", NULL},
    {"sp_d", NUMBER, "stddev_pop(d)", NULL},
    {"ss_i", NUMBER, "stddev_samp(i)", NULL},
    {"s_d", NUMBER, "stddev(d) FILTER (WHERE b)", NULL},
    {"n_pairs", NUMBER, "regr_count(d, i)", NULL},
    {"ax", NUMBER, "regr_avgx(d, i)", "pairs_avgx(d, i)"},
    {"ay", NUMBER, "regr_avgy(d, i)", "pairs_avgy(d, i)"},
    {"sxx", NUMBER, "regr_sxx(d, i)", "pairs_sxx(d, i)"},
    {"syy", NUMBER, "regr_syy(d, i)", "pairs_syy(d, i)"},
    {"sxy", NUMBER, "regr_sxy(d, i)", "pairs_sxy(d, i)"},
    {"cp", NUMBER, "covar_pop(d, i)", "pairs_covar_pop(d, i)"},
    {"cs", NUMBER, "covar_samp(d, i) FILTER (WHERE b)", "pairs_covar_samp(d, i) FILTER (WHERE b)"},
    {"slope", NUMBER, "regr_slope(i, d)", "pairs_slope(i, d)"},
    {"intercept", NUMBER, "regr_intercept(d, i)", "pairs_intercept(d, i)"},
    {"r2", NUMBER, "regr_r2(d, i)", "pairs_r2(d, i)"},
    {"cor", NUMBER, "corr(i, d + i)", "pairs_corr(i, d + i)"},
    {"risky", NUMBER, "regr_slope(100 / i, d) FILTER (WHERE b)",
     "pairs_slope(100 / i, d) FILTER (WHERE b)"},
    {"f_s", TEXT, "first(s)", "(array_agg(s ORDER BY at, part, off))[1]"},
    {"f_l", TEXT, "last('literal')", "max('literal')"},
    {"l_d", NUMBER, "last(d)", "(array_agg(d ORDER BY at DESC, part DESC, off DESC))[1]"},
    {"l_b", BOOLEAN, "last(b) FILTER (WHERE b IS NOT NULL)",
     "(array_agg(b ORDER BY at DESC, part DESC, off DESC) FILTER (WHERE b IS NOT NULL))[1]"},
    {"f_t", TIME, "first(t)", "(array_agg(t ORDER BY at, part, off))[1]"},
    {"least", TEXT, "arg_min(s, d)",
     "(array_agg(s ORDER BY d, at, part, off) FILTER (WHERE d IS NOT NULL))[1]"},
    {"greatest", NUMBER, "arg_max(d, s)",
     "(array_agg(d ORDER BY s DESC, at, part, off) FILTER (WHERE s IS NOT NULL))[1]"},
    {"late", TIME, "arg_max(at, i) FILTER (WHERE b)",
     "(array_agg(at ORDER BY i DESC, at, part, off) FILTER (WHERE i IS NOT NULL AND b))[1]"},
};

enum { MEASURES = sizeof measures / sizeof measures[0] };

/* By the formulas of docs/VIEWS.md. */
static const char aggregates_sql[] =
    "CREATE FUNCTION pg_temp.pairs_add(s numeric[], y numeric, x numeric) RETURNS numeric[]"
    " LANGUAGE sql IMMUTABLE STRICT RETURN ARRAY[s[1] + 1, s[2] + x, s[3] + x * x, s[4] + y,"
    " s[5] + y * y, s[6] + x * y, 0];"
    "DO $$ DECLARE one record; BEGIN FOR one IN SELECT * FROM (VALUES"
    " ('avgx', 's[2] / n'), ('avgy', 's[4] / n'), ('sxx', 'xx / n'), ('syy', 'yy / n'),"
    " ('sxy', 'xy / n'), ('covar_pop', 'xy / (n * n)'),"
    " ('covar_samp', 'xy / nullif(n * (n - 1), 0)'), ('slope', 'xy / nullif(xx, 0)'),"
    " ('intercept', '(s[4] * s[3] - s[2] * s[6]) / nullif(xx, 0)'),"
    " ('r2', 'CASE WHEN xx <> 0 AND yy = 0 THEN 1 ELSE xy * xy / nullif(xx * yy, 0) END'),"
    " ('corr', 'sign(xy) * sqrt(xy * xy / nullif(xx * yy, 0))')) AS v(name, formula) LOOP"
    " EXECUTE format('CREATE FUNCTION pg_temp.end_%1$s(s numeric[]) RETURNS numeric LANGUAGE sql"
    "  AS $f$ SELECT %2$s FROM (SELECT nullif(s[1], 0) AS n, s[1] * s[3] - s[2] * s[2] AS xx,"
    "  s[1] * s[5] - s[4] * s[4] AS yy, s[1] * s[6] - s[2] * s[4] AS xy) AS q $f$',"
    "  one.name, one.formula);"
    " EXECUTE format('CREATE AGGREGATE pg_temp.pairs_%1$s(numeric, numeric) (sfunc ="
    "  pg_temp.pairs_add, stype = numeric[], initcond = ''{0,0,0,0,0,0,0}'', finalfunc ="
    "  pg_temp.end_%1$s)', one.name); END LOOP; END $$;"
    "CREATE TEMP TABLE raw (part integer, off bigint, at timestamptz, place text COLLATE \"C\","
    " i bigint, d numeric, s text COLLATE \"C\", b boolean, t timestamptz)";

static struct deployment *deployment;
static PGconn *connection;
static uint64_t random_state; /* splitmix64 (Steele, Lea, Flood, 2014) */

static uint64_t below(uint64_t bound)
{
    uint64_t z = random_state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (z ^ (z >> 31)) % bound;
}

static PGresult *run(const char *sql)
{
    PGresult *result = database_ask(connection, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        fail_msg("%s: %s", PQerrorMessage(connection), sql);
    return result;
}

static char *put_definition(void)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    fputs("{\"view\": \"statistics\", \"source\": \"readings\", \"group_by\": [\"place\"],"
          " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}, \"measures\": {",
          out);
    for (size_t i = 0; i < MEASURES; i++)
        fprintf(out, "%s\"%s\": \"%s\"", i > 0 ? ", " : "", measures[i].name, measures[i].call);
    fputs("}}", out);
    fclose(out);
    return text;
}

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    deployment_set(deployment, "speed", "slice_interval_ms", json_integer(300));
    deployment_define_source(deployment, source_json);
    char *definition = put_definition();
    deployment_define_view(deployment, definition);
    free(definition);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    connection = deployment_connect(deployment);
    PQclear(run("SET timezone = 'UTC'"));
    PQclear(run(aggregates_sql));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    PQfinish(connection);
    deployment_destroy(deployment);
    return 0;
}

/* --- records, in JSON for Kafka and in SQL for PostgreSQL --- */

/* "null", or a value that both JSON and SQL read. */
static void random_number(char *out, size_t size, bool decimal)
{
    int64_t number = (int64_t)below(80) - 20;
    if (below(10) == 0)
        snprintf(out, size, "null");
    else if (!decimal && below(20) == 0) /* far out */
        snprintf(out, size, "%" PRId64, (int64_t)below(INT64_MAX) - INT64_MAX / 2);
    else if (!decimal)
        snprintf(out, size, "%" PRId64, number);
    else
        snprintf(out, size, "%" PRId64 ".%0*" PRIu64, number, 1 + (int)below(9), below(10));
}

static void add_record(FILE *json, FILE *sql, int partition, int64_t offset, bool is_first)
{
    static const char *const texts[] = {"null", "\"\"", "\"a\"", "\"b\"", "\"\xC3\xA9\"", "\"ab\""};
    static const char *const literals[] = {"NULL", "''", "'a'", "'b'", "'\xC3\xA9'", "'ab'"};
    static const char *const truths[] = {"null", "true", "true", "false"};
    char i[32], d[32];
    /* few event times, so that they tie */
    int64_t at_ms = 1767225600000 + (int64_t)below(40) * 180000;
    size_t text = below(6), place = below(3), truth = below(4);
    int64_t t = 1700000000 + (int64_t)below(1000);
    random_number(i, sizeof i, false);
    random_number(d, sizeof d, true);
    fprintf(json,
            "{\"at\": %" PRId64 ", \"place\": \"p%zu\", \"i\": %s, \"d\": %s, \"s\": %s, \"b\": %s,"
            " \"t\": %" PRId64 "}\n",
            at_ms, place, i, d, texts[text], truths[truth], t);
    fprintf(sql,
            "%s(%d, %" PRId64 ", to_timestamp(%" PRId64 "), 'p%zu', %s, %s, %s, %s,"
            " to_timestamp(%" PRId64 "))",
            is_first ? "" : ", ", partition, offset, at_ms / 1000, place, i, d, literals[text],
            truths[truth], t);
}

/* `count` records more in one partition, whose offsets begin at `offset`. */
static void produce(int partition, int64_t offset, int64_t count)
{
    char *json = NULL, *sql = NULL, number[8], path[128];
    size_t json_length, sql_length;
    FILE *json_out = open_memstream(&json, &json_length);
    FILE *sql_out = open_memstream(&sql, &sql_length);
    fputs("INSERT INTO raw VALUES ", sql_out);
    for (int64_t i = 0; i < count; i++)
        add_record(json_out, sql_out, partition, offset + i, i == 0);
    fclose(json_out);
    fclose(sql_out);
    PQclear(run(sql));
    deployment_write(deployment, "lines.jsonl", json);
    snprintf(path, sizeof path, "%s/lines.jsonl", deployment->directory);
    snprintf(number, sizeof number, "%d", partition);
    deployment_run(deployment, 0, "dovetail", "produce", "readings", path, "--partition", number,
                   NULL);
    free(json);
    free(sql);
}

/* --- comparing --- */

/* What PostgreSQL says over `raw`, as JSON, for each window of `us` and, with keys, place. The view
 * rejects a record if an expression fails for it. */
static char *expected_sql(const char *window, bool keys)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    fprintf(out, "SELECT date_bin('%s', at, '1970-01-01T00:00:00Z') AS window_start%s", window,
            keys ? ", place" : "");
    for (size_t i = 0; i < MEASURES; i++) {
        /* temporary aggregates have to be named in full */
        const char *call = measures[i].sql != NULL ? measures[i].sql : measures[i].call;
        bool is_pairs = strncmp(call, "pairs_", 6) == 0;
        fprintf(out, ", %s%s AS \"%s\"", is_pairs ? "pg_temp." : "", call, measures[i].name);
    }
    fprintf(out, " FROM raw WHERE NOT (b IS TRUE AND i IS NOT DISTINCT FROM 0) GROUP BY 1%s",
            keys ? ", 2" : "");
    return fclose(out) == 0 ? text : NULL;
}

/* Both as text, a row for each window and key: equal rows are equal texts. */
static void put_canonical(FILE *out, const char *from, bool keys)
{
    fprintf(out, "SELECT extract(epoch FROM window_start)::bigint%s", keys ? ", place" : "");
    for (size_t i = 0; i < MEASURES; i++) {
        static const char *const formats[] = {
            [NUMBER] = ", trim_scale(%s::numeric)::text",
            [TEXT] = ", %s::text",
            [BOOLEAN] = ", %s::text",
            [TIME] = ", extract(epoch FROM %s)::text",
        };
        const char *format = formats[measures[i].type], *mark = strstr(format, "%s");
        fprintf(out, "%.*s\"%s\"%s", (int)(mark - format), format, measures[i].name, mark + 2);
    }
    fprintf(out, " FROM (%s) AS q", from);
}

static void check_sql_view(void)
{
    char *expected = expected_sql("1 hour", true), *sql = NULL;
    size_t length;
    FILE *out = open_memstream(&sql, &length);
    fputs("SELECT count(*), count(*) FILTER (WHERE n <> 2) FROM (SELECT count(*) AS n FROM (", out);
    put_canonical(out, expected, true);
    fputs(" UNION ALL ", out);
    put_canonical(out, "SELECT * FROM dovetail.statistics", true);
    fputs(") AS a GROUP BY a::text) AS b", out);
    fclose(out);
    PGresult *result = run(sql);
    if (strcmp(PQgetvalue(result, 0, 1), "0") != 0) {
        PQclear(result);
        result = run("SELECT * FROM dovetail.statistics LIMIT 3");
        PQprintOpt options = {.header = 1, .align = 1, .fieldSep = (char *)"|", .expanded = 1};
        PQprint(stderr, result, &options);
        fail_msg("dovetail.statistics differs from: %s", expected);
    }
    assert_true(atoi(PQgetvalue(result, 0, 0)) >= 6);
    PQclear(result);
    free(sql);
    free(expected);
}

/* A value as `dovetail query` writes it in JSON. Times are compared in the SQL view. */
static void expect_json(const char *json, const struct measure *measure, const PGresult *result,
                        int column)
{
    char wanted[600];
    bool is_null = PQgetisnull(result, 0, column) != 0;
    const char *quote = measure->type == TEXT && !is_null ? "\"" : "";
    if (measure->type == TIME)
        return;
    snprintf(wanted, sizeof wanted, "\"%s\":%s%s%s", measure->name, quote,
             is_null ? "null" : PQgetvalue(result, 0, column), quote);
    if (strstr(json, wanted) == NULL)
        fail_msg("no %s in:\n%s", wanted, json);
}

/* One row over everything: states of hours and places, rolled up. */
static void check_roll_up(void)
{
    char *expected = expected_sql("1000 days", false), *sql = NULL, *json;
    size_t length;
    FILE *out = open_memstream(&sql, &length);
    put_canonical(out, expected, false);
    fclose(out);
    PGresult *result = run(sql);
    assert_int_equal(PQntuples(result), 1);
    struct child *child =
        deployment_run(deployment, 0, "dovetail", "query", "statistics", "--group-by", "",
                       "--granularity", "all", "--format", "json", NULL);
    json = strdup(child_output(child));
    size_t used = 0;
    for (const char *at = json; *at != '\0'; at++) /* without white space */
        if (*at != ' ' && *at != '\n')
            json[used++] = *at;
    json[used] = '\0';
    for (size_t i = 0; i < MEASURES; i++)
        expect_json(json, &measures[i], result, 1 + (int)i);
    PQclear(result);
    free(json);
    free(sql);
    free(expected);
}

static void check_everything(void)
{
    check_sql_view();
    check_roll_up();
    deployment_run(deployment, 0, "dovetail", "verify", "statistics", NULL);
}

static void await_position(struct child *speed, int64_t records)
{
    const int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    while (deployment_number(deployment,
                             "SELECT sum(next_offset) FROM dovetail_internal.position") < records) {
        assert_true(child_is_running(speed));
        if (stack_now_ms() > deadline)
            fail_msg("the position does not reach %" PRId64, records);
        stack_sleep_ms(50);
    }
}

static void test_every_layer_says_the_same(void **state)
{
    (void)state;
    const int64_t half = RECORDS / 2 / PARTITIONS;
    random_state = stack_seed();
    for (int partition = 0; partition < PARTITIONS; partition++)
        produce(partition, 0, half);
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    await_position(speed, half * PARTITIONS);
    check_everything(); /* speed alone */
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    check_everything(); /* batch alone */
    for (int partition = 0; partition < PARTITIONS; partition++)
        produce(partition, half, half);
    await_position(speed, 2 * half * PARTITIONS);
    check_everything(); /* both */
    /* Not all records were counted. */
    assert_true(deployment_number(deployment,
                                  "SELECT sum(rejected) FROM dovetail_internal.view_ledger") > 0);
    child_stop(speed);
}

/* A row of states that says something else must be found. */
static void test_verify_finds_a_difference(void **state)
{
    (void)state;
    static const char *const damages[] = {
        "\"slope$xy\" = \"slope$xy\" + 1",
        "\"ss_i$n\" = \"ss_i$n\" + 1",
        "\"l_d\" = 4711",
        "\"least\" = 'nobody'",
        "\"all_ok\" = NOT \"all_ok\"",
    };
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    char table[64], sql[400];
    snprintf(
        table, sizeof table, "dovetail_internal.batch_%" PRId64,
        deployment_number(deployment, "SELECT max(version) FROM dovetail_internal.view_version"));
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        PQclear(run("BEGIN"));
        snprintf(sql, sizeof sql, "CREATE TABLE kept AS SELECT * FROM %s", table);
        PQclear(run(sql));
        snprintf(sql, sizeof sql, "UPDATE %s SET %s", table, damages[i]);
        PQclear(run(sql));
        PQclear(run("COMMIT"));
        deployment_run(deployment, 1, "dovetail", "verify", "statistics", NULL);
        snprintf(sql, sizeof sql, "TRUNCATE %s", table);
        PQclear(run(sql));
        snprintf(sql, sizeof sql, "INSERT INTO %s OVERRIDING SYSTEM VALUE SELECT * FROM kept",
                 table);
        PQclear(run(sql));
        PQclear(run("DROP TABLE kept"));
    }
    deployment_run(deployment, 0, "dovetail", "verify", "statistics", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_layer_says_the_same),
        cmocka_unit_test(test_verify_finds_a_difference),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
