/* `batch.memory`: hundreds of thousands of groups, of every kind of window, in runs that may keep 4
 * MiB. A full run without a bound finds every row as it would have made it, and the other way
 * round. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/deployment.h"
#include "tests/support/stack.h"

enum { VISITORS = 50000, LINES = 120000, LATER = 40000, PATH_BYTES = 300 };

/* What docs/CONFIGURATION.md says of what is not counted. */
enum { BESIDES_MIB = 64, LIMIT_MIB = 4 };

static struct deployment *deployment;
static const char little[] = "4 MiB";
static const char much[] = "1 GiB";

static const char source_json[] = "{\"source\":\"visits\",\"partitions\":1,\"event_time\":{"
                                  "\"field\":\"t\",\"format\":\"epoch_s\"},"
                                  " \"fields\":{\"t\":\"timestamp\",\"visitor\":\"string\","
                                  "\"page\":\"integer\",\"d\":\"decimal\"}}";

static const char *const views[] = {
    "{\"view\":\"visitors\",\"source\":\"visits\",\"group_by\":[\"visitor\"],"
    " \"window\":{\"type\":\"tumbling\",\"size\":\"1d\"},"
    " \"measures\":{\"c\":\"count(*)\",\"total\":\"sum(d)\",\"longest\":\"max(d)\"}}",
    "{\"view\":\"stays\",\"source\":\"visits\",\"group_by\":[\"visitor\"],"
    " \"window\":{\"type\":\"session\",\"gap\":\"20m\"},"
    " \"measures\":{\"c\":\"count(*)\",\"pages\":\"approx_count_distinct(page)\"}}",
    "{\"view\":\"pages\",\"source\":\"visits\",\"group_by\":[\"page\"],"
    " \"window\":{\"type\":\"hopping\",\"size\":\"1h\",\"slide\":\"20m\"},"
    " \"measures\":{\"c\":\"count(*)\",\"p\":\"approx_percentile(d, 0.9)\","
    "  \"visitors\":\"count(DISTINCT visitor)\"}}",
    /* One state larger than what there is. */
    "{\"view\":\"everything\",\"source\":\"visits\",\"group_by\":[],\"window\":{\"type\":\"none\"},"
    " \"measures\":{\"c\":\"count(*)\",\"visitors\":\"count(DISTINCT visitor, 200000)\"}}",
};

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    deployment_set(deployment, "batch", "threads", json_integer(2));
    deployment_set(deployment, "batch", "segment_size", json_string("1 MiB"));
    deployment_define_source(deployment, source_json);
    for (size_t i = 0; i < sizeof views / sizeof views[0]; i++)
        deployment_define_view(deployment, views[i]);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    deployment_destroy(deployment);
    deployment = NULL;
    return 0;
}

/* Visitors come in no order, and some come again. */
static void import(int first, int count)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%d.jsonl", deployment->directory, first);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    for (int64_t i = first; i < first + count; i++) {
        int64_t visitor = i * 7919 % VISITORS;
        fprintf(out,
                "{\"t\":%" PRId64 ",\"visitor\":\"visitor-%" PRId64 "\",\"page\":%" PRId64
                ",\"d\":%" PRId64 ".%02d}\n",
                1700000000 + i * 977 % 86400, visitor, i % 700, i % 90, (int)(i % 100));
    }
    assert_int_equal(fclose(out), 0);
    deployment_run(deployment, 0, "dovetail-batch", "import", "visits", path, NULL);
}

static int64_t last_run(const char *column)
{
    char sql[200];
    snprintf(sql, sizeof sql, "SELECT %s FROM dovetail_internal.run ORDER BY run DESC LIMIT 1",
             column);
    return deployment_number(deployment, sql);
}

static void expect_nothing_left(void)
{
    char command[PATH_BYTES];
    snprintf(command, sizeof command, "test ! -e '%s/archive/~spill'", deployment->directory);
    assert_int_equal(system(command), 0);
}

static void run(const char *memory, bool full)
{
    deployment_set(deployment, "batch", "memory", json_string(memory));
    deployment_run(deployment, 0, "dovetail-batch", "run", full ? "--full" : NULL, NULL);
    assert_true((last_run("spilled_runs") > 0) == (memory == little));
    assert_true((last_run("spilled_bytes") > 0) == (memory == little));
    assert_true(last_run("peak_bytes") > 0);
#ifndef __SANITIZE_ADDRESS__
    if (memory == little)
        assert_true(last_run("peak_bytes") < (int64_t)(LIMIT_MIB + BESIDES_MIB) << 20);
#endif
    expect_nothing_left();
}

/* The full run that was the last has found every row as it was, and changed none. */
static void expect_all_equal(void)
{
    assert_int_equal(last_run("rows_changed"), 0);
    assert_int_equal(last_run("mismatched"), 0);
    assert_true(last_run("audited") > 2 * VISITORS);
}

static void expect_counted(int64_t lines)
{
    static const char *const names[] = {"visitors", "stays", "everything"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char sql[100];
        snprintf(sql, sizeof sql, "SELECT sum(c)::bigint FROM dovetail.%s", names[i]);
        assert_int_equal(deployment_number(deployment, sql), lines);
    }
    assert_int_equal(deployment_number(deployment, "SELECT visitors FROM dovetail.everything"),
                     VISITORS);
    assert_int_equal(
        deployment_number(deployment, "SELECT count(DISTINCT visitor) FROM dovetail.visitors"),
        VISITORS);
}

static void little_memory_gives_the_same_rows(void **state)
{
    (void)state;
    import(0, LINES);
    run(little, false);
    expect_counted(LINES);
    run(much, true);
    expect_all_equal();
    import(LINES, LATER);
    run(little, false);
    assert_true(last_run("rows_changed") > LATER);
    expect_counted(LINES + LATER);
    run(much, true);
    expect_all_equal();
    run(little, true);
    expect_all_equal();
}

/* A row that was changed, one that is missing, one too many, and two of one group. */
static void little_memory_finds_what_differs(void **state)
{
    (void)state;
    import(0, LINES);
    run(much, false);
    int version = (int)deployment_number(
        deployment, "SELECT version FROM dovetail_internal.view_version WHERE view = 'visitors'");
    char sql[1500];
    snprintf(sql, sizeof sql,
             "WITH changed AS (UPDATE dovetail_internal.batch_%d SET c = c + 1"
             "  WHERE visitor = 'visitor-77' RETURNING 1),"
             " lost AS (DELETE FROM dovetail_internal.batch_%d WHERE visitor = 'visitor-78'"
             "  RETURNING 1),"
             " doubled AS (INSERT INTO dovetail_internal.batch_%d OVERRIDING SYSTEM VALUE"
             "  SELECT (jsonb_populate_record(b, jsonb_build_object('_row_id', -_row_id))).*"
             "  FROM dovetail_internal.batch_%d AS b WHERE visitor = 'visitor-79' RETURNING 1),"
             " invented AS (INSERT INTO dovetail_internal.batch_%d OVERRIDING SYSTEM VALUE"
             "  SELECT (jsonb_populate_record(b, jsonb_build_object('_row_id', -_row_id,"
             "   'visitor', 'nobody'))).*"
             "  FROM dovetail_internal.batch_%d AS b WHERE visitor = 'visitor-80' RETURNING 1)"
             " SELECT (SELECT count(*) FROM changed) + (SELECT count(*) FROM lost)"
             "  + (SELECT count(*) FROM doubled) + (SELECT count(*) FROM invented)",
             version, version, version, version, version, version);
    int64_t spoilt = deployment_number(deployment, sql);
    assert_true(spoilt >= 4);
    deployment_set(deployment, "batch", "memory", json_string(little));
    deployment_run(deployment, 1, "dovetail-batch", "run", "--full", NULL);
    assert_int_equal(last_run("mismatched"), spoilt);
    expect_counted(LINES);
    assert_int_equal(
        deployment_number(deployment,
                          "SELECT count(*) FROM dovetail.visitors WHERE visitor = 'nobody'"),
        0);
    run(much, true);
    expect_all_equal();
}

static void a_directory_that_is_none_is_told(void **state)
{
    (void)state;
    import(0, LINES);
    char path[PATH_BYTES];
    deployment_write(deployment, "occupied", "");
    snprintf(path, sizeof path, "%s/occupied", deployment->directory);
    deployment_set(deployment, "batch", "spill", json_string(path));
    deployment_set(deployment, "batch", "memory", json_string(little));
    struct child *batch = deployment_run(deployment, 1, "dovetail-batch", "run", NULL);
    assert_non_null(strstr(child_errors(batch), "batch.spill: "));
    assert_non_null(strstr(child_errors(batch), path));
    assert_int_equal(
        deployment_number(deployment, "SELECT count(*) FROM dovetail_internal.batch_1"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(little_memory_gives_the_same_rows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(little_memory_finds_what_differs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_directory_that_is_none_is_told, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
