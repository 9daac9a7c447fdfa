/* Runs that reuse the rows of the run before: they publish what a full run publishes, to the byte,
 * whatever came in between; and what differs is found, told, and held where that was asked for.
 *
 * "To the byte" is what a full run over the same records shows: it rewrites every row whose bytes
 * are not those it computes, so one that changes no row has found them equal; and it compares the
 * rows with what it folds below their cut-offs. `dovetail verify` says the same by SQL.
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
#include <sys/stat.h>

#include "tests/support/database.h"
#include "tests/support/deployment.h"
#include "tests/support/http.h"
#include "tests/support/stack.h"

static const char source_json[] =
    "{\"source\": \"sales\", \"partitions\": 3,"
    " \"event_time\": {\"field\": \"at\", \"format\": \"epoch_s\"},"
    " \"fields\": {\"at\": \"timestamp\", \"id\": \"string\", \"buyer\": \"string\","
    "  \"shop\": {\"type\": \"string\", \"nullable\": true},"
    "  \"item\": {\"type\": \"integer\", \"nullable\": true},"
    "  \"price\": {\"type\": \"decimal\", \"nullable\": true},"
    "  \"paid\": {\"type\": \"boolean\", \"nullable\": true}},"
    " \"mask\": {\"key_file\": \"%s/mask.key\", \"fields\": [\"buyer\"]},"
    " \"dedupe\": {\"field\": \"id\", \"within\": 300}}";

/* Every kind of state: sums, extremes, sets, sketches, places of records, booleans, moments. */
#define MEASURES                                                                                   \
    "\"measures\": {\"n\": \"count(*)\", \"total\": \"sum(price)\", \"mean\": \"avg(price)\","     \
    " \"least\": \"min(price)\", \"most\": \"max(shop)\", \"buyers\": \"count(DISTINCT item)\","   \
    " \"about\": \"approx_count_distinct(buyer)\", \"p90\": \"approx_percentile(item, 0.9)\","     \
    " \"spread\": \"stddev_samp(price)\", \"slope\": \"regr_slope(price, item)\","                 \
    " \"opened\": \"first(item)\", \"closed\": \"last(shop)\", \"best\": \"arg_max(shop, "         \
    "price)\","                                                                                    \
    " \"all_paid\": \"bool_and(paid)\", \"inverse\": \"sum(1 / (item - 13))\"}"

/* In the order in which they are registered: version 1 is that of days. */
static const char *const view_names[] = {"days", "ever", "hops", "hourly", "total", "visits"};
enum { VIEWS = sizeof view_names / sizeof view_names[0] };

static const char *const views_json[VIEWS] = {
    "{\"view\": \"days\", \"source\": \"sales\", \"group_by\": [\"shop\"], \"window\":"
    " {\"type\": \"tumbling\", \"size\": \"1d\", \"timezone\": \"Europe/Berlin\"}, " MEASURES "}",
    "{\"view\": \"ever\", \"source\": \"sales\", \"group_by\": [\"buyer\", \"shop\"],"
    " \"window\": {\"type\": \"none\"}, " MEASURES "}",
    "{\"view\": \"hops\", \"source\": \"sales\", \"group_by\": [\"shop\"], \"where\": \"paid\","
    " \"window\": {\"type\": \"hopping\", \"size\": \"3h\", \"slide\": \"1h\"}, " MEASURES "}",
    "{\"view\": \"hourly\", \"source\": \"sales\", \"group_by\": [\"shop\", \"item\"],"
    " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}, " MEASURES "}",
    "{\"view\": \"total\", \"source\": \"sales\","
    " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}, " MEASURES "}",
    "{\"view\": \"visits\", \"source\": \"sales\", \"group_by\": [\"item\"],"
    " \"window\": {\"type\": \"session\", \"gap\": \"10m\"}, " MEASURES "}",
};

static struct deployment *deployment;
static struct child *speed;
static uint64_t random_state; /* splitmix64 (Steele, Lea, Flood, 2014) */
static int64_t sent;
static int64_t number_of_files;

static uint64_t below(uint64_t bound)
{
    uint64_t z = random_state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (z ^ (z >> 31)) % bound;
}

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    deployment_set(deployment, "batch", "segment_size", json_integer(32768));
    deployment_set(deployment, "batch", "retained_runs", json_integer(5));
    deployment_write(deployment, "mask.key", "a key that is long enough for anybody: 0123456789");
    char key[160];
    snprintf(key, sizeof key, "%s/mask.key", deployment->directory);
    assert_int_equal(chmod(key, 0600), 0);
    char source[1200];
    snprintf(source, sizeof source, source_json, deployment->directory);
    deployment_define_source(deployment, source);
    for (int i = 0; i < VIEWS; i++)
        deployment_define_view(deployment, views_json[i]);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    random_state = stack_seed();
    sent = 0;
    speed = NULL;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    deployment_destroy(deployment);
    deployment = NULL;
    return 0;
}

/* --- records --- */

/* Some come again, near or far; some are bad, for all views or for one. */
static void write_record(FILE *out)
{
    int64_t id = below(12) == 0 && sent > 0 ? (int64_t)below((uint64_t)sent) : sent;
    sent++;
    if (below(40) == 0) {
        fputs("{\"at\": \"no time\"}\n", out);
        return;
    }
    int64_t at = 1700000000 + (below(5) == 0 ? (int64_t)below(4000000) : sent * 3);
    fprintf(out, "{\"at\": %" PRId64 ", \"id\": \"i%" PRId64 "\", \"buyer\": \"b%d\"", at, id,
            (int)below(20));
    if (below(8) != 0)
        fprintf(out, ", \"shop\": \"s%d\"", (int)below(6));
    if (below(8) != 0)
        fprintf(out, ", \"item\": %d", (int)below(30));
    if (below(8) != 0)
        fprintf(out, ", \"price\": %d.%02d", (int)below(1000) - 200, (int)below(100));
    if (below(8) != 0)
        fprintf(out, ", \"paid\": %s", below(3) == 0 ? "false" : "true");
    fputs("}\n", out);
}

static const char *write_file(int count)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/records%" PRId64 ".jsonl", deployment->directory,
             number_of_files++);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    for (int i = 0; i < count; i++)
        write_record(out);
    assert_int_equal(fclose(out), 0);
    return path;
}

static void produce(int count)
{
    deployment_run(deployment, 0, "dovetail", "produce", "sales", write_file(count), NULL);
}

static void import(int count)
{
    deployment_run(deployment, 0, "dovetail-batch", "import", "sales", write_file(count), NULL);
}

/* --- the layers --- */

static int64_t number(const char *sql)
{
    return deployment_number(deployment, sql);
}

static void expect(const char *sql, int64_t wanted)
{
    int64_t found = number(sql);
    if (found != wanted)
        fail_msg("%s: %" PRId64 ", not %" PRId64, sql, found, wanted);
}

static void execute(const char *sql)
{
    PGconn *connection = deployment_connect(deployment);
    PGresult *result = database_ask(connection, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    PQclear(result);
    PQfinish(connection);
}

/* Until the speed layer has folded everything that was produced. */
static void wait_for_speed(int64_t records)
{
    int64_t until = stack_now_ms() + STACK_WAIT_MS;
    while (number("SELECT sum(consumed) FROM dovetail_internal.position") < records) {
        if (stack_now_ms() > until || !child_is_running(speed))
            fail_msg("the speed layer did not come to the end: %s", child_errors(speed));
        stack_sleep_ms(20);
    }
}

static struct child *run(int code, const char *option)
{
    return deployment_run(deployment, code, "dovetail-batch", "run", option, NULL);
}

#define LAST(column) "SELECT " column " FROM dovetail_internal.run ORDER BY run DESC LIMIT 1"

static void expect_text(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("\"%s\" is not in: %s", part, text);
}

static void expect_incremental(void)
{
    run(0, NULL);
    expect(LAST("(kind = 'incremental' AND why IS NULL)::int"), 1);
    expect(LAST("mismatched"), 0);
}

/* What the runs before left is what the archive gives. */
static void expect_equal_to_full(void)
{
    run(0, "--full");
    expect(LAST("(kind = 'full' AND why = 'asked for')::int"), 1);
    expect(LAST("mismatched"), 0);
    expect(LAST("rows_changed"), 0);
    int64_t rows = 0;
    for (int i = 1; i <= VIEWS; i++) {
        char sql[160];
        snprintf(sql, sizeof sql,
                 "SELECT count(*) FROM dovetail_internal.batch_%d"
                 " WHERE _run_to = 9223372036854775807",
                 i);
        rows += number(sql);
    }
    expect(LAST("audited"), rows);
}

static void verify_all(void)
{
    for (int i = 0; i < VIEWS; i++)
        deployment_run(deployment, 0, "dovetail", "verify", view_names[i], NULL);
}

/* --- tests --- */

static void test_incremental_is_full(void **state)
{
    (void)state;
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    produce(600);
    int64_t produced = 600;
    wait_for_speed(produced);
    run(0, NULL);
    expect(LAST("(kind = 'full' AND why = 'no run has folded it yet')::int"), 1);
    for (int i = 0; i < 4; i++) {
        produce(150);
        produced += 150;
        wait_for_speed(produced);
        if (i == 1 || i == 2)
            import(100);
        expect_incremental();
        /* Imports are folded in full where their ledger begins. */
        int64_t folded = number(LAST("records"));
        assert_in_range(folded, 1, 150 + 100);
        assert_true(number(LAST("audited")) > 0);
    }
    execute("CREATE TABLE public.before AS SELECT topic, partition, next_offset, watermark,"
            " segments, ledger_of, consumed, counted, filtered, duplicate, dead_lettered"
            " FROM dovetail_internal.run_cutoff JOIN dovetail_internal.current_run USING (run)");
    assert_true(number("SELECT duplicate FROM public.before WHERE partition = -1") >= 0);
    assert_true(number("SELECT sum(duplicate) FROM dovetail_internal.position") > 0);
    expect_equal_to_full();
    expect("SELECT count(*) FROM (TABLE public.before EXCEPT SELECT topic, partition, next_offset,"
           " watermark, segments, ledger_of, consumed, counted, filtered, duplicate, dead_lettered"
           " FROM dovetail_internal.run_cutoff JOIN dovetail_internal.current_run USING (run)) d",
           0);
    verify_all();
    expect_incremental(); /* with nothing new */
    expect(LAST("records"), 0);
    expect(LAST("rows_changed"), 0);
}

/* Without a speed layer, with as many runs and as little as it takes for every straddled segment.
 */
static void test_many_small_runs(void **state)
{
    (void)state;
    produce(400);
    run(0, NULL);
    for (int i = 0; i < 6; i++) {
        produce(1 + (int)below(60));
        expect_incremental();
    }
    expect_equal_to_full();
}

static void test_new_version_beside_old(void **state)
{
    (void)state;
    produce(400);
    import(80);
    run(0, NULL);
    produce(50);
    deployment_define_view(
        deployment, "{\"view\": \"total\", \"source\": \"sales\", \"where\": \"item > 3\","
                    " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}, " MEASURES "}");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    run(0, NULL);
    expect(LAST("(kind = 'incremental' AND why = 'total, version 7: no run has folded it "
                "yet')::int"),
           1);
    expect(LAST("records"), 400 + 80 + 50);
    expect("SELECT count(*) FROM dovetail_internal.view_version WHERE version = 7 AND state = "
           "'current'",
           1);
    expect("SELECT sum(consumed) FROM dovetail_internal.run_cutoff JOIN"
           " dovetail_internal.current_run USING (run) WHERE partition = -1",
           80);
    produce(50);
    expect_incremental();
    run(0, "--full");
    expect(LAST("mismatched"), 0);
    expect(LAST("rows_changed"), 0);
}

static void test_after_a_rollback(void **state)
{
    (void)state;
    produce(300);
    run(0, NULL);
    produce(60);
    expect_incremental();
    /* What is wrong with the newer run's rows must not live on. */
    execute("UPDATE dovetail_internal.batch_1 SET n = n + 1 WHERE _run_from = 2");
    deployment_run(deployment, 0, "dovetail", "runs", "rollback", "1", NULL);
    produce(30);
    run(0, NULL);
    expect(LAST("(kind = 'full' AND why = 'run 1 is served, and the newest rows are those of run"
                " 2')::int"),
           1);
    produce(30);
    expect_incremental();
    expect_equal_to_full();
    verify_all();
    /* Back and forth again: the newest rows are those of the run that is served. */
    deployment_run(deployment, 0, "dovetail", "runs", "rollback", "1", NULL);
    deployment_run(deployment, 0, "dovetail", "runs", "rollback", "5", NULL);
    expect_incremental();
}

static void test_rolled_back_meanwhile(void **state)
{
    (void)state;
    produce(200);
    run(0, NULL);
    produce(50);
    run(0, NULL);
    produce(50);
    PGconn *locker = deployment_connect(deployment);
    PQclear(database_ask(locker, "BEGIN; LOCK TABLE dovetail_internal.run_cutoff IN SHARE MODE"));
    struct child *child = deployment_start(deployment, "dovetail-batch", "run", NULL);
    int64_t until = stack_now_ms() + STACK_WAIT_MS;
    while (number("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                  " AND query LIKE 'INSERT INTO %run_cutoff%' AND datname = current_database()") ==
           0) {
        if (stack_now_ms() > until)
            fail_msg("the run never came to its publication: %s", child_errors(child));
        stack_sleep_ms(10);
    }
    execute("UPDATE dovetail_internal.current_run SET run = 1");
    PQfinish(locker);
    child_expect(child, 1);
    expect_text(child_errors(child), "somebody rolled back meanwhile");
    expect("SELECT run FROM dovetail_internal.current_run", 1);
}

static void test_changed_segments(void **state)
{
    (void)state;
    produce(300);
    run(0, NULL);
    execute("UPDATE dovetail_internal.run_cutoff SET segments = 'x' WHERE partition = 1");
    produce(30);
    run(0, NULL);
    expect(LAST("(kind = 'full' AND why LIKE 'segments or gaps of %[1] below % are not those that"
                " run 1 folded')::int"),
           1);
    expect_incremental();
    execute("UPDATE dovetail_internal.view_version SET rows_of = 'x' WHERE version = 3");
    run(0, NULL);
    expect(LAST("(kind = 'incremental' AND why LIKE 'hops, version 3: the engine%')::int"), 1);
    expect_equal_to_full();
}

/* Of a run that published although one group differed, after two that were held. */
static void expect_metrics(void)
{
    static const char *const lines[] = {
        "\ndovetail_held_runs 2\n",
        "\ndovetail_mismatched_groups_total 7\n",
        "\ndovetail_run_mismatched_groups 1\n",
        "\ndovetail_run_rows_changed 2\n",
        "\ndovetail_run_spilled_bytes 0\n",
        "\ndovetail_run_peak_bytes ",
        "\ndovetail_run_records 300\n",
        "\ndovetail_run_stage_seconds{stage=\"audit\"} ",
        "\ndovetail_full_run_timestamp_seconds 1",
    };
    deployment_serve(deployment);
    struct http_session *session = http_session_create(deployment->port);
    struct http_reply reply;
    http_get(session, "/metrics", &reply);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        expect_text(reply.body, lines[i]);
    http_reply_free(&reply);
    http_session_destroy(session);
}

/* A state that somebody changed: by hand, a bug, a bad disk. */
static void test_rows_mismatch(void **state)
{
    (void)state;
    produce(300);
    run(0, NULL);
    int64_t row = number("SELECT min(_row_id) FROM dovetail_internal.batch_4");
    char sql[200];
    snprintf(sql, sizeof sql,
             "UPDATE dovetail_internal.batch_4 SET n = n + 1 WHERE _row_id = %" PRId64, row);
    execute(sql);
    execute("DELETE FROM dovetail_internal.batch_5 WHERE _row_id ="
            " (SELECT min(_row_id) FROM dovetail_internal.batch_5)");
    deployment_set(deployment, "batch", "on_mismatch", json_string("hold"));
    struct child *child = run(1, "--full");
    expect_text(child_errors(child), "MISMATCH: view hourly, version 4, window ");
    expect_text(child_errors(child), "the states differ (rows of run 1)");
    expect_text(child_errors(child), "the recompute has it alone (rows of run 1)");
    expect(LAST("(state = 'held' AND mismatched = 2 AND json_array_length(mismatches) = 2)::int"),
           1);
    expect("SELECT run FROM dovetail_internal.current_run", 1);
    child = deployment_run(deployment, 0, "dovetail", "runs", NULL);
    expect_text(child_output(child), "held");
    expect_text(child_output(child), "2 of ");
    /* It stays held, though nobody says --full. */
    run(1, NULL);
    expect(LAST("(kind = 'full' AND why = 'run 2 was held' AND state = 'held')::int"), 1);
    child = deployment_run(deployment, 0, "dovetail-batch", "run", "--accept-mismatch", NULL);
    expect_text(child_output(child), "MISMATCH: 2 of ");
    expect("SELECT run FROM dovetail_internal.current_run", 4);
    expect_incremental();
    expect_equal_to_full();
    verify_all();
    /* As it is by default: published, and told. */
    snprintf(sql, sizeof sql,
             "UPDATE dovetail_internal.batch_6 SET n = n + 1 WHERE _row_id ="
             " (SELECT min(_row_id) FROM dovetail_internal.batch_6)");
    execute(sql);
    deployment_set(deployment, "batch", "on_mismatch", json_string("publish"));
    run(1, "--full");
    expect(LAST("(state = 'published' AND mismatched = 1 AND rows_changed = 2)::int"), 1);
    child = deployment_run(deployment, 0, "dovetail", "runs", "--format", "json", NULL);
    expect_text(child_output(child), "\"problem\": \"the states differ\"");
    expect_metrics();
    expect_equal_to_full();
}

static void test_speed_mismatch(void **state)
{
    (void)state;
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    produce(300);
    wait_for_speed(300);
    run(0, NULL);
    produce(100);
    wait_for_speed(400);
    child_stop(speed);
    execute("UPDATE dovetail_internal.speed_5 SET n = n + 1 WHERE ctid ="
            " (SELECT max(s.ctid) FROM dovetail_internal.speed_5 s JOIN"
            "  dovetail_internal.run_cutoff c ON s._partition = c.partition AND"
            "  s._slice_start >= c.next_offset)");
    deployment_set(deployment, "batch", "on_mismatch", json_string("hold"));
    struct child *child = run(1, NULL);
    expect_text(child_errors(child), "MISMATCH: view total, version 5, window ");
    expect_text(child_errors(child), "the states differ (speed rows)");
    expect(LAST("(state = 'held' AND kind = 'incremental' AND mismatched = 1)::int"), 1);
    expect("SELECT run FROM dovetail_internal.current_run", 1);
    run(0, "--accept-mismatch");
    expect_equal_to_full();
    verify_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_incremental_is_full, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_small_runs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_new_version_beside_old, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_after_a_rollback, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rolled_back_meanwhile, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changed_segments, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rows_mismatch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_speed_mismatch, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
