/* dovetail-batch against a real Kafka and a real PostgreSQL: what a run publishes is the fold of
 * the records below its cut-offs, whatever happened before, and a run that fails changes nothing.
 *
 * Each test has a database, a topic and an archive of its own and starts the program as a child.
 * The model is naive: every valid event also goes into a table with its offset, and PostgreSQL
 * groups what lies below the current run's cut-offs. There is no speed layer; where a run must meet
 * one, the test plays the owner with plain SQL. Nothing asserts a time.
 *
 * Needs DOVETAIL_KAFKA and DOVETAIL_POSTGRES; DOVETAIL_BUILD (default "build") has the program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <inttypes.h>
#include <signal.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/catalog/catalog.h"
#include "core/kafka/kafka.h"
#include "tests/support/broker.h"
#include "tests/support/child.h"
#include "tests/support/clock.h"
#include "tests/support/stack.h"

enum { PARTITIONS = 3, KILLS = 12, RUN_MS = 60000 };

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        if ((call) != STATUS_OK)                                                                   \
            fail_msg("%s: %s", #call, error.text);                                                 \
    } while (0)

static struct error error;
static json_t *properties;
static char directory[64];
static char database[64];
static char topic[64];
static char conninfo[512];
static char program[512];
static struct postgres *postgres;
static struct kafka_producer *producer;
static int64_t produced[PARTITIONS]; /* end offsets */
static unsigned test_number;

/* --- the world of one test --- */

static void execute(const char *sql)
{
    assert_ok(postgres_execute(postgres, sql, &error));
}

static int64_t number(const char *sql)
{
    PGresult *result = NULL;
    assert_ok(postgres_query(postgres, sql, 0, NULL, &result, &error));
    if (PQntuples(result) != 1)
        fail_msg("%s: %d rows", sql, PQntuples(result));
    int64_t value = postgres_int64(result, 0, 0);
    PQclear(result);
    return value;
}

static void expect_number(const char *sql, int64_t expected)
{
    int64_t value = number(sql);
    if (value != expected)
        fail_msg("%s: %" PRId64 ", not %" PRId64, sql, value, expected);
}

static void register_view(json_t *view_definition)
{
    json_t *source_definition =
        json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s, s:s, s:s}}", "source", "events", "topic", topic,
                  "event_time", "field", "at", "format", "epoch_s", "fields", "at", "timestamp",
                  "k", "string", "n", "integer");
    struct source *source = NULL;
    struct view *view = NULL;
    enum catalog_change change;
    assert_ok(source_create(source_definition, "test", &source, &error));
    assert_ok(view_create(view_definition, "test", source, &view, &error));
    execute("BEGIN");
    assert_ok(catalog_register_source(postgres, source, &change, &error));
    assert_ok(catalog_register_view(postgres, view, &change, &error));
    execute("COMMIT");
    view_destroy(view);
    source_destroy(source);
    json_decref(view_definition);
    json_decref(source_definition);
}

static json_t *by_key_json(void)
{
    return json_pack("{s:s, s:s, s:s, s:[s], s:{s:s, s:s}, s:{s:s, s:s, s:s, s:s}}", "view",
                     "by_key", "source", "events", "where", "n >= 0", "group_by", "k", "window",
                     "type", "tumbling", "size", "1h", "measures", "c", "count(*)", "t", "sum(n)",
                     "lo", "min(n)", "hi", "max(n)");
}

/* Fails on every record with n = 13. */
static json_t *ratio_json(void)
{
    return json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s}}", "view", "ratio", "source", "events",
                     "window", "type", "tumbling", "size", "1d", "measures", "total",
                     "sum(1000 / (n - 13))");
}

static void write_schedules(const char *schedule, const char *full_schedule)
{
    char path[128];
    char archive[128];
    snprintf(path, sizeof path, "%s/dovetail.json", directory);
    snprintf(archive, sizeof archive, "%s/archive", directory);
    json_t *config =
        json_pack("{s:O, s:s, s:s, s:{s:s, s:s, s:s, s:i, s:i}}", "kafka", properties, "postgres",
                  conninfo, "schemas", directory, "batch", "archive", archive, "schedule", schedule,
                  "full_schedule", full_schedule, "threads", 2, "retained_runs", 2);
    assert_non_null(config);
    assert_int_equal(json_dump_file(config, path, 0), 0);
    json_decref(config);
}

static void write_config(const char *schedule)
{
    write_schedules(schedule, "off");
}

static void admin(const char *before, const char *name, const char *after)
{
    struct postgres *connection = NULL;
    assert_ok(postgres_connect(stack_postgres(), "test_batch", &connection, &error));
    assert_ok(postgres_executef(connection, &error, "%s %s %s", before, name, after));
    postgres_close(connection);
}

static int setup(void **state)
{
    (void)state;
    error = (struct error){0};
    test_number++;
    memset(produced, 0, sizeof produced);
    snprintf(directory, sizeof directory, "/tmp/dovetail-batch-XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(database, sizeof database, "test_batch_%d_%u", (int)getpid(), test_number);
    snprintf(topic, sizeof topic, "test-batch-%d-%u-%d", (int)getpid(), test_number,
             (int)(stack_now_ms() % 100000));
    snprintf(conninfo, sizeof conninfo, "%s dbname=%s", stack_postgres(), database);
    stack_program("dovetail-batch", program, sizeof program);
    properties = json_pack("{s:s}", "bootstrap.servers", stack_kafka());
    admin("CREATE DATABASE", database, "");
    assert_ok(postgres_connect(conninfo, "test_batch", &postgres, &error));
    bool changed;
    assert_ok(kafka_topic_create(properties, topic, PARTITIONS, RUN_MS, &changed, &error));
    assert_ok(kafka_producer_create(properties, &producer, &error));
    assert_ok(catalog_migrate(postgres, &changed, &error));
    const int64_t bases[PARTITIONS] = {0};
    assert_ok(catalog_add_partitions(postgres, topic, bases, PARTITIONS, &error));
    register_view(by_key_json());
    register_view(ratio_json());
    execute(
        "CREATE TABLE public.model (partition integer, at_offset bigint, at timestamptz, k text "
        "COLLATE \"C\", n bigint)");
    write_config("*/10 * * * *");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    children_end();
    kafka_producer_destroy(producer);
    producer = NULL;
    postgres_close(postgres);
    postgres = NULL;
    admin("DROP DATABASE IF EXISTS", database, "WITH (FORCE)");
    json_decref(properties);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command);
}

/* --- records --- */

static void produce_value(int32_t partition, const char *value, size_t length)
{
    assert_ok(
        kafka_producer_send(producer, topic, partition, NULL, 0, value, length, NULL, &error));
    produced[partition]++;
}

/* A good event, in the log and in the model. */
static void produce_event(int32_t partition, int hour, int key, int n, char *rows, size_t room)
{
    char value[200];
    int64_t at = 978307200 + hour * 3600 + key; /* 2001-01-01 */
    int length =
        snprintf(value, sizeof value, "{\"at\":%" PRId64 ",%s\"k\":\"k%02d\",\"n\":%d}", at,
                 n % 7 == 0 ? "\n" : "", key, n); /* every seventh is no line in the archive */
    size_t used = strlen(rows);
    snprintf(rows + used, room - used,
             "%s(%" PRId32 ",%" PRId64 ",to_timestamp(%" PRId64 "),'k%02d',%d)",
             used == 0 ? "" : ",", partition, produced[partition], at, key, n);
    produce_value(partition, value, (size_t)length);
}

static void produce_bad(int32_t partition)
{
    static const char *const bad[] = {
        "",
        "nonsense",
        "{\"at\":1,\"k\":\"a\",\"n\":1",
        "[]",
        "{\"at\":1,\"k\":\"a\"}",
        "{\"at\":1,\"k\":7,\"n\":1}",
        "{\"at\":1e30,\"k\":\"a\",\"n\":1}",
        "{\"at\":1,\n\"k\":\"a\"}",
    };
    size_t which = (size_t)random() % (sizeof bad / sizeof bad[0] + 1);
    if (which == sizeof bad / sizeof bad[0])
        produce_value(partition, NULL, 0);
    else
        produce_value(partition, bad[which], strlen(bad[which]));
}

/* `count` random events in hours [hour, hour + hours), with bad records in between. */
static void produce(int count, int hour, int hours)
{
    enum { BATCH = 500, ROW_BYTES = 100 };
    static char rows[BATCH * ROW_BYTES];
    while (count > 0) {
        rows[0] = '\0';
        for (int i = 0; i < BATCH && count > 0; i++, count--) {
            int32_t partition = (int32_t)(random() % PARTITIONS);
            if (random() % 20 == 0)
                produce_bad(partition);
            produce_event(partition, hour + (int)(random() % hours), (int)(random() % 40),
                          (int)(random() % 1000) - 50, rows, sizeof rows);
        }
        char sql[sizeof rows + 64];
        snprintf(sql, sizeof sql, "INSERT INTO public.model VALUES %s", rows);
        execute(sql);
    }
    assert_ok(kafka_producer_flush(producer, RUN_MS, &error));
}

/* --- runs --- */

/* `option` may be NULL. */
static struct child *start_with(const char *command, const char *option)
{
    char config[128];
    snprintf(config, sizeof config, "%s/dovetail.json", directory);
    const char *argv[] = {program, "--config", config, command, option, NULL};
    return child_start(directory, "batch", argv);
}

static struct child *start(const char *command)
{
    return start_with(command, NULL);
}

/* Where the test plays the speed layer it moves P and writes no rows. */
static void run_accepting(void)
{
    child_expect(start_with("run", "--accept-mismatch"), 0);
}

static struct child *run_ok(void)
{
    struct child *child = start("run");
    child_expect(child, 0);
    return child;
}

static struct child *fails_with(const char *option, const char *text)
{
    struct child *child = start_with("run", option);
    child_expect(child, 1);
    if (strstr(child_errors(child), text) == NULL)
        fail_msg("stderr has no \"%s\": %s", text, child_errors(child));
    return child;
}

static struct child *run_fails(const char *text)
{
    return fails_with(NULL, text);
}

#define BELOW_C                                                                                    \
    "public.model m JOIN dovetail_internal.run_cutoff c ON m.partition = c.partition"              \
    " AND m.at_offset < c.next_offset JOIN dovetail_internal.current_run USING (run)"

#define EXPECTED_BY_KEY                                                                            \
    "SELECT date_trunc('hour', m.at), m.k, count(*), sum(m.n)::numeric, min(m.n), max(m.n) "       \
    "FROM " BELOW_C " WHERE m.n >= 0 GROUP BY 1, 2"
#define ACTUAL_BY_KEY "SELECT window_start, k, c, t::numeric, lo, hi FROM dovetail.by_key"
#define EXPECTED_RATIO                                                                             \
    "SELECT date_trunc('day', m.at), sum(1000 / (m.n - 13))::numeric FROM " BELOW_C                \
    " WHERE m.n <> 13 GROUP BY 1"
#define ACTUAL_RATIO "SELECT window_start, total::numeric FROM dovetail.ratio"

static void expect_same(const char *expected, const char *actual)
{
    char sql[2048];
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM ((%s EXCEPT ALL %s) UNION ALL (%s EXCEPT ALL %s)) d", expected,
             actual, actual, expected);
    expect_number(sql, 0);
}

/* What people read is the model below the current run's C. */
static void expect_model(void)
{
    expect_same(EXPECTED_BY_KEY, ACTUAL_BY_KEY);
    expect_same(EXPECTED_RATIO, ACTUAL_RATIO);
}

/* C is the end of the log: nobody else was there to choose. */
static void expect_all_covered(void)
{
    for (int p = 0; p < PARTITIONS; p++) {
        char sql[256];
        snprintf(sql, sizeof sql,
                 "SELECT next_offset FROM dovetail_internal.run_cutoff JOIN "
                 "dovetail_internal.current_run USING (run) WHERE partition = %d",
                 p);
        expect_number(sql, produced[p]);
    }
    expect_model();
}

static int64_t current_run(void)
{
    return number("SELECT run FROM dovetail_internal.current_run");
}

/* --- tests --- */

static void test_publishes_the_model(void **state)
{
    (void)state;
    run_ok(); /* an empty log is no fault */
    expect_number("SELECT count(*) FROM dovetail.by_key", 0);
    produce(5000, 0, 30);
    struct child *child = run_ok();
    expect_all_covered();
    assert_true(number("SELECT count(*) FROM dovetail.by_key") > 500);
    assert_non_null(strstr(child_output(child), "\nprocess "));
    char sql[256];
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM dovetail_internal.run WHERE state = 'published' AND records = "
             "%" PRId64 " AND load_ms > 0 AND prepare_ms > 0 AND process_ms > 0 AND store_ms > 0",
             produced[0] + produced[1] + produced[2]);
    expect_number(sql, 1);
    /* P < C: the speed layer must begin a slice exactly there. */
    expect_number(
        "SELECT count(*) FROM dovetail_internal.run_cutoff c JOIN dovetail_internal.position "
        "p USING (topic, partition) JOIN dovetail_internal.planned_cut n ON n.topic = "
        "c.topic AND n.partition = c.partition AND n.at_offset = c.next_offset WHERE "
        "p.next_offset < c.next_offset AND c.run = (SELECT run FROM "
        "dovetail_internal.current_run) AND p.owner_epoch > 0",
        PARTITIONS);
    expect_number(
        "SELECT count(*) FROM dovetail_internal.run_cutoff c JOIN "
        "dovetail_internal.current_run USING (run) WHERE as_of IS NOT NULL AND watermark = "
        "(SELECT max(at) FROM public.model m WHERE m.partition = c.partition)",
        PARTITIONS);
}

static void test_writes_only_changes(void **state)
{
    (void)state;
    produce(3000, 0, 20);
    run_ok();
    int64_t first = current_run();
    int64_t rows = number("SELECT count(*) FROM dovetail.by_key");
    execute("CREATE TABLE public.before AS " ACTUAL_BY_KEY);
    run_ok();
    expect_number("SELECT rows_changed FROM dovetail_internal.run ORDER BY run DESC LIMIT 1", 0);
    produce(200, 5, 1); /* one window of 20 */
    run_ok();
    expect_all_covered();
    int64_t changed =
        number("SELECT rows_changed FROM dovetail_internal.run ORDER BY run DESC LIMIT 1");
    assert_in_range(changed, 1, 2 * 40 + 2 * 2);
    assert_true(rows > 4 * changed);
    /* Under the old run the old rows, until it is dropped. */
    char sql[256];
    execute("BEGIN");
    snprintf(sql, sizeof sql, "UPDATE dovetail_internal.current_run SET run = %" PRId64, first + 1);
    execute(sql);
    expect_same("TABLE public.before", ACTUAL_BY_KEY);
    execute("ROLLBACK");
    expect_model();
    /* Two runs are retained: of the first one nothing is left but its line in the history. */
    snprintf(
        sql, sizeof sql,
        "SELECT count(*) FROM dovetail_internal.run WHERE state = 'dropped' AND run <= %" PRId64,
        first);
    expect_number(sql, first + 1);
    run_ok();
    expect_number(
        "SELECT count(*) FROM dovetail_internal.batch_1 WHERE _run_to <= (SELECT min(run) "
        "FROM dovetail_internal.run WHERE state = 'published')",
        0);
    expect_model();
}

static void test_rolled_back_run_is_undone(void **state)
{
    (void)state;
    produce(1000, 0, 5);
    run_ok();
    int64_t first = current_run();
    produce(1000, 3, 5);
    run_ok();
    char sql[128];
    snprintf(sql, sizeof sql, "UPDATE dovetail_internal.current_run SET run = %" PRId64, first);
    execute(sql);
    expect_model();
    produce(500, 6, 5);
    run_ok();
    expect_all_covered();
}

static void test_new_version(void **state)
{
    (void)state;
    produce(1000, 0, 5);
    run_ok();
    json_t *changed = by_key_json();
    json_object_set_new(changed, "where", json_string("n >= 100"));
    register_view(changed);
    expect_model(); /* still the old one */
    run_ok();
    expect_same("SELECT date_trunc('hour', m.at), m.k, count(*), sum(m.n)::numeric, min(m.n), "
                "max(m.n) FROM " BELOW_C " WHERE m.n >= 100 GROUP BY 1, 2",
                ACTUAL_BY_KEY);
}

static void test_killed_at_any_moment(void **state)
{
    (void)state;
    srandom((unsigned)stack_seed());
    produce(4000, 0, 40);
    for (int i = 0; i < KILLS; i++) {
        produce(1500, i, 40);
        struct child *child = start("run");
        stack_sleep_ms((int)(random() % 400));
        child_kill(child);
        if (current_run() > 0)
            expect_model();
        if (i % 4 == 3) {
            run_ok();
            expect_all_covered();
        }
    }
    run_ok();
    expect_all_covered();
    expect_number("SELECT count(*) FROM dovetail_internal.run WHERE state = 'running'", 0);
    char command[160];
    snprintf(command, sizeof command, "test -z \"$(find '%s' -name '*.tmp')\"", directory);
    assert_int_equal(system(command), 0);
}

static void test_one_at_a_time(void **state)
{
    (void)state;
    produce(100, 0, 1);
    struct postgres *other = NULL;
    assert_ok(postgres_connect(conninfo, "test_batch", &other, &error));
    assert_ok(
        postgres_execute(other, "SELECT pg_advisory_lock(x'646f76657461696c'::bigint)", &error));
    run_fails("another dovetail-batch is at work");
    postgres_close(other);
    run_ok();
    expect_all_covered();
}

static void test_damaged_segment(void **state)
{
    (void)state;
    produce(1000, 0, 3);
    run_ok();
    int64_t run = current_run();
    PGresult *result = NULL;
    assert_ok(postgres_query(postgres, "SELECT file FROM dovetail_internal.segment LIMIT 1", 0,
                             NULL, &result, &error));
    char path[512];
    snprintf(path, sizeof path, "%s/archive/%s", directory, PQgetvalue(result, 0, 0));
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, 100, SEEK_SET);
    int byte = fgetc(file);
    fseek(file, 100, SEEK_SET);
    fputc(byte ^ 4, file);
    fclose(file);
    run_ok(); /* does not read it */
    run = current_run();
    fails_with("--full", PQgetvalue(result, 0, 0));
    assert_int_equal(current_run(), run);
    expect_number(
        "SELECT count(*) FROM dovetail_internal.run WHERE state = 'failed' AND message LIKE "
        "'%checksum%'",
        1);
    expect_model();
    file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, 100, SEEK_SET);
    fputc(byte, file);
    fclose(file);
    PQclear(result);
    run_ok();
    expect_all_covered();
}

/* Waits until the run asks for a cut. */
static void wait_for_request(void)
{
    int64_t until = stack_now_ms() + STACK_WAIT_MS;
    while (number("SELECT count(*) FROM dovetail_internal.position WHERE cut_requested") == 0) {
        if (stack_now_ms() > until)
            fail_msg("no cut was requested");
        stack_sleep_ms(5);
    }
}

static void test_asks_the_owner(void **state)
{
    (void)state;
    produce(3000, 0, 10);
    /* The test is the owner of partition 0, and answers. */
    execute("UPDATE dovetail_internal.position SET owner = 'test', owner_pid = pg_backend_pid(), "
            "owner_epoch = 1, slice_start = 10, next_offset = 100 WHERE partition = 0");
    struct child *child = start_with("run", "--accept-mismatch");
    wait_for_request();
    execute("UPDATE dovetail_internal.position SET slice_start = 250, next_offset = 250, "
            "cut_requested = false WHERE partition = 0");
    child_expect(child, 0);
    expect_number("SELECT next_offset FROM dovetail_internal.run_cutoff WHERE partition = 0", 250);
    expect_number("SELECT owner_epoch FROM dovetail_internal.position WHERE partition = 0", 1);
    expect_number("SELECT count(*) FROM dovetail_internal.planned_cut WHERE partition = 0", 0);
    expect_number("SELECT next_offset FROM dovetail_internal.run_cutoff WHERE partition = 1",
                  produced[1]);
    /* It does not answer: the cut is planned at the end of the archive, and the epoch fences it. */
    run_accepting();
    expect_all_covered();
    expect_number("SELECT owner_epoch FROM dovetail_internal.position WHERE partition = 0", 2);
    expect_number("SELECT count(*) FROM dovetail_internal.planned_cut WHERE partition = 0", 1);
    /* It is behind the published cut-off, and answers: C does not go back. */
    produce(100, 0, 1);
    child = start_with("run", "--accept-mismatch");
    wait_for_request();
    execute("UPDATE dovetail_internal.position SET slice_start = 260, next_offset = 260, "
            "cut_requested = false WHERE partition = 0");
    child_expect(child, 0);
    expect_all_covered();
    /* Nobody owns the partition any more and P has passed the archive. */
    execute("UPDATE dovetail_internal.position SET owner_pid = NULL WHERE partition = 0");
    produce(100, 0, 1);
    char sql[200];
    snprintf(sql, sizeof sql,
             "UPDATE dovetail_internal.position SET next_offset = %" PRId64 " WHERE partition = 0",
             produced[0]);
    execute(sql);
    run_accepting();
    expect_all_covered();
    expect_number("SELECT slice_start FROM dovetail_internal.position WHERE partition = 0",
                  produced[0]);
}

/* So that a slow machine does not plan what the test is about to answer. */
static void wait_longer_for_owners(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s/dovetail.json", directory);
    json_t *config = json_load_file(path, 0, NULL);
    assert_non_null(config);
    json_object_set_new(config, "speed", json_pack("{s:i}", "flush_interval_ms", 3000));
    assert_int_equal(json_dump_file(config, path, 0), 0);
    json_decref(config);
}

/* Rolled back when the run begins, gone on again before it publishes: its cut-offs do not take
 * records out of the answers. */
static void test_gone_on_meanwhile(void **state)
{
    (void)state;
    wait_longer_for_owners();
    produce(1000, 0, 5);
    run_ok();
    int64_t first = current_run();
    execute("UPDATE dovetail_internal.current_run SET run = 0");
    execute("UPDATE dovetail_internal.position SET owner = 'test', owner_pid = pg_backend_pid(), "
            "owner_epoch = owner_epoch + 1, slice_start = 10, next_offset = 10 "
            "WHERE partition = 0");
    struct child *child = start("run");
    wait_for_request();
    char sql[128];
    snprintf(sql, sizeof sql, "UPDATE dovetail_internal.current_run SET run = %" PRId64, first);
    execute(sql);
    /* Above the floor, which is run 0's, and below what is served. */
    execute("UPDATE dovetail_internal.position SET slice_start = 20, next_offset = 20, "
            "cut_requested = false WHERE partition = 0");
    child_expect(child, 1);
    if (strstr(child_errors(child), "or went on again") == NULL)
        fail_msg("%s", child_errors(child));
    /* What the speed layer had below the served cut-offs may have been dropped. */
    if (strstr(child_errors(child), "MISMATCH") != NULL)
        fail_msg("%s", child_errors(child));
    assert_int_equal(current_run(), first);
    expect_all_covered();
    execute("UPDATE dovetail_internal.position SET owner_pid = NULL");
    run_accepting();
    assert_true(current_run() > first);
    expect_all_covered();
}

static void test_slices_are_dropped(void **state)
{
    (void)state;
    produce(300, 0, 3);
    run_accepting();
    int64_t first = produced[0];
    produce(300, 0, 3);
    /* The speed layer has come to the end, with one slice on each side of the first cut-off. */
    char sql[512];
    snprintf(
        sql, sizeof sql,
        "UPDATE dovetail_internal.position SET next_offset = %" PRId64 ", slice_start = %" PRId64
        " WHERE partition = 0; INSERT INTO dovetail_internal.speed_1 (_partition, _slice_start,"
        " _group_id, window_start) VALUES (0, 0, 0, now()), (0, %" PRId64 ", 0, now())",
        produced[0], first, first);
    execute(sql);
    run_accepting();
    expect_number("SELECT _slice_start FROM dovetail_internal.speed_1", first);
    expect_number("SELECT count(*) FROM dovetail_internal.planned_cut WHERE partition = 0", 1);
    run_accepting(); /* now the first run is dropped */
    expect_number("SELECT count(*) FROM dovetail_internal.speed_1", 0);
    expect_number("SELECT count(*) FROM dovetail_internal.planned_cut WHERE partition = 0", 0);
    expect_all_covered();
}

static void test_overtaken_by_retention(void **state)
{
    (void)state;
    produce(1000, 0, 3);
    run_ok();
    produce(1000, 0, 3);
    char text[512];
    broker_delete_below(topic, 1, produced[1] - 5);
    int64_t archived =
        number("SELECT max(end_offset) FROM dovetail_internal.segment WHERE partition = 1");
    snprintf(text, sizeof text, "%s[1]: offsets %" PRId64 " to %" PRId64 " were deleted", topic,
             archived, produced[1] - 5);
    run_fails(text);
    /* The others were published; the one that is halted is as it was, archive and all. */
    expect_number("SELECT max(end_offset) FROM dovetail_internal.segment WHERE partition = 1",
                  archived);
    for (int p = 0; p < PARTITIONS; p++) {
        char sql[256];
        snprintf(sql, sizeof sql,
                 "SELECT next_offset FROM dovetail_internal.run_cutoff JOIN "
                 "dovetail_internal.current_run USING (run) WHERE partition = %d",
                 p);
        expect_number(sql, p == 1 ? archived : produced[p]);
    }
    expect_number("SELECT count(*) FROM dovetail_internal.halted WHERE layer = 'batch'"
                  " AND partition = 1",
                  1);
    expect_model();
}

static void wait_for_errors(struct child *child, const char *text)
{
    int64_t until = stack_now_ms() + STACK_WAIT_MS;
    while (strstr(child_errors(child), text) == NULL) {
        if (stack_now_ms() > until || !child_is_running(child))
            fail_msg("the child never said \"%s\": %s", text, child_errors(child));
        stack_sleep_ms(20);
    }
}

static void test_schedule(void **state)
{
    (void)state;
    write_config("0 0 1 1 *");
    produce(1000, 0, 3);
    struct child *scheduler = start("schedule");
    wait_for_errors(scheduler, "next run at ");
    /* It holds the lock, and lets go for a run by hand. */
    run_ok();
    expect_all_covered();
    assert_true(child_is_running(scheduler));
    child_stop(scheduler);
    write_config("* * * * * *");
    struct child *refused = start("schedule");
    child_expect(refused, 2);
    assert_non_null(strstr(child_errors(refused), "batch.schedule"));
    write_schedules("* * * * *", "0 0 30 2 *");
    refused = start("schedule");
    child_expect(refused, 2);
    assert_non_null(strstr(child_errors(refused), "batch.full_schedule"));
}

/* A scheduler for whom the minute ends as soon as it has said `text` of its next run. */
static struct child *start_before_a_run(struct clock *clock, const char *text)
{
    char config[100];
    snprintf(config, sizeof config, "%s/dovetail.json", directory);
    struct child *scheduler = clock_start(clock, "dovetail-batch", config, "schedule");
    wait_for_errors(scheduler, text);
    clock_set(clock, 60);
    return scheduler;
}

static void test_scheduled_run(void **state)
{
    (void)state;
    struct clock *clock = clock_create(directory, "clock");
    write_config("* * * * *");
    produce(1000, 0, 3);
    struct child *scheduler = start_before_a_run(clock, "next run at ");
    int64_t until = stack_now_ms() + 2 * STACK_WAIT_MS;
    while (current_run() == 0) {
        if (stack_now_ms() > until)
            fail_msg("no run: %s", child_errors(scheduler));
        stack_sleep_ms(50);
    }
    expect_all_covered();
    child_stop(scheduler);
    clock_destroy(clock);
    expect_number("SELECT count(*) FROM dovetail_internal.run WHERE reason = 'schedule'", 1);
}

static void test_scheduled_full_run(void **state)
{
    (void)state;
    write_schedules("0 0 1 1 *", "* * * * *");
    produce(500, 0, 3);
    run_ok();
    produce(500, 0, 3);
    struct clock *clock = clock_create(directory, "clock");
    struct child *scheduler = start_before_a_run(clock, ", a full one");
    int64_t until = stack_now_ms() + 2 * STACK_WAIT_MS;
    while (current_run() == 1) {
        if (stack_now_ms() > until)
            fail_msg("no run: %s", child_errors(scheduler));
        stack_sleep_ms(50);
    }
    child_stop(scheduler);
    clock_destroy(clock);
    expect_all_covered();
    expect_number("SELECT count(*) FROM dovetail_internal.run WHERE run = 2 AND reason = 'schedule'"
                  " AND kind = 'full' AND why = 'batch.full_schedule' AND audited > 0"
                  " AND mismatched = 0",
                  1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_publishes_the_model, setup, teardown),
        cmocka_unit_test_setup_teardown(test_writes_only_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rolled_back_run_is_undone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_new_version, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed_at_any_moment, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_at_a_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_segment, setup, teardown),
        cmocka_unit_test_setup_teardown(test_asks_the_owner, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gone_on_meanwhile, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slices_are_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overtaken_by_retention, setup, teardown),
        cmocka_unit_test_setup_teardown(test_schedule, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scheduled_run, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scheduled_full_run, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
