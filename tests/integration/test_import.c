/* `dovetail-batch import`: history from before the topic, in every form, once, whatever is killed
 * when; with runs, rollbacks, queries and `dovetail verify`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/support/database.h"
#include "tests/support/deployment.h"
#include "tests/support/stack.h"

static struct deployment *deployment;
static struct child *speed;
static PGconn *locker; /* holds a table, so that an import waits at a known place */

static const char source_json[] =
    "{\"source\":\"trips\",\"event_time\":{\"field\":\"at\",\"format\":\"rfc3339\"},"
    " \"fields\":{\"at\":\"timestamp\",\"city\":\"string\",\"fare\":\"decimal\","
    "  \"id\":{\"type\":\"integer\",\"path\":\"meta.id\",\"nullable\":true}}%s}";

static const char view_json[] =
    "{\"view\":\"fares\",\"source\":\"trips\",\"group_by\":[\"city\"],"
    " \"window\":{\"type\":\"tumbling\",\"size\":\"1d\"},"
    " \"measures\":{\"n\":\"count(*)\",\"total\":\"sum(fare)\",\"first_id\":\"first(id)\","
    "  \"inverse\":\"sum(1 / (fare - 13))\"}}";

static void define(const char *more)
{
    char text[1200];
    snprintf(text, sizeof text, source_json, more);
    deployment_define_source(deployment, text);
    deployment_define_view(deployment, view_json);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
}

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    /* Small, so that a file has many segments. */
    deployment_set(deployment, "batch", "segment_size", json_integer(65536));
    speed = NULL;
    locker = NULL;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    PQfinish(locker);
    deployment_destroy(deployment);
    deployment = NULL;
    return 0;
}

/* --- help --- */

static const char *path_of(const char *name)
{
    static char paths[4][200];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", deployment->directory, name);
    return path;
}

static void write_lines(const char *name, int first, int count)
{
    FILE *out = fopen(path_of(name), "w");
    assert_non_null(out);
    for (int i = first; i < first + count; i++)
        fprintf(out,
                "{\"at\":\"2020-01-%02dT00:00:00Z\",\"city\":\"c%d\",\"fare\":%d.25,"
                "\"meta\":{\"id\":%d}}\n",
                1 + i % 28, i % 5, i % 100, i);
    assert_int_equal(fclose(out), 0);
}

static void shell(const char *command)
{
    const char *const argv[] = {"/bin/sh", "-c", command, NULL};
    child_expect(child_start(path_of("log"), "sh", argv), 0);
}

static const char *import(const char *name)
{
    return child_output(
        deployment_run(deployment, 0, "dovetail-batch", "import", "trips", path_of(name), NULL));
}

static void expect_text(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("\"%s\" is not in: %s", part, text);
}

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

static void expect_count(int64_t wanted)
{
    expect("SELECT coalesce(sum(n), 0) FROM dovetail.fares", wanted);
}

static void run_and_verify(void)
{
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    deployment_run(deployment, 0, "dovetail", "verify", "fares", NULL);
}

/* Of the receipt; -1: it names no imports. */
static int64_t receipt_imported(const char *layer)
{
    json_t *answer =
        json_loads(child_output(deployment_run(deployment, 0, "dovetail", "query", "fares",
                                               "--format", "json", "--layer", layer, NULL)),
                   0, NULL);
    assert_non_null(answer);
    json_t *receipt = json_object_get(answer, "receipt");
    json_t *imported = json_object_get(receipt, "imported");
    json_t *of_topic = json_object_get(imported, deployment_topic(deployment, "trips"));
    assert_true((imported == NULL) == (of_topic == NULL));
    json_t *cutoffs =
        json_object_get(json_object_get(receipt, "cutoffs"), deployment_topic(deployment, "trips"));
    assert_int_equal(json_array_size(cutoffs), 3); /* by partition, as ever */
    int64_t found = of_topic == NULL ? -1 : json_integer_value(of_topic);
    json_decref(answer);
    return found;
}

static int64_t letters(void)
{
    json_t *all = json_loads(
        child_output(deployment_run(deployment, 0, "dovetail", "dead-letters", "list", "trips",
                                    "--limit", "100000", "--format", "json", NULL)),
        0, NULL);
    assert_non_null(all);
    int64_t count = (int64_t)json_array_size(all);
    json_decref(all);
    return count;
}

static void await_number(const char *sql, int64_t wanted)
{
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    while (number(sql) != wanted) {
        if (stack_now_ms() > end_ms)
            fail_msg("%s never became %" PRId64, sql, wanted);
        stack_sleep_ms(20);
    }
}

static int archived_files(void)
{
    char path[300];
    int count = 0;
    snprintf(path, sizeof path, "%s/archive/%s/-1", deployment->directory,
             deployment_topic(deployment, "trips"));
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;)
        count += strstr(entry->d_name, ".jsonl.zst") != NULL;
    if (folder != NULL)
        closedir(folder);
    return count;
}

/* While a run publishes an import every answer, over SQL and with a receipt, is the one before or
 * the one after; four of the imported records are dead. */
static void publish_under_queries(int64_t before, int64_t after)
{
    struct child *run = deployment_start(deployment, "dovetail-batch", "run", NULL);
    int64_t last = before;
    for (int i = 0; child_is_running(run) || i == 0; i++) {
        int64_t counted = number("SELECT sum(n)::bigint FROM dovetail.fares");
        assert_true(counted == last || counted == after);
        last = counted;
        if (i % 50 > 0)
            continue;
        json_t *answer = json_loads(
            child_output(deployment_run(deployment, 0, "dovetail", "query", "fares", "--format",
                                        "json", "--granularity", "all", "--group-by", "", NULL)),
            0, NULL);
        int64_t imported = json_integer_value(
            json_object_get(json_object_get(json_object_get(answer, "receipt"), "imported"),
                            deployment_topic(deployment, "trips")));
        int64_t n = json_integer_value(
            json_object_get(json_array_get(json_object_get(answer, "rows"), 0), "n"));
        assert_int_equal(n, imported - 4 + 2); /* two live ones */
        assert_true(n == before || n == after);
        json_decref(answer);
    }
    child_expect(run, 0);
    expect_count(after);
}

/* --- every form, once --- */

static const char csv[] =
    "when,town,fare,meta.id,note\r\n"
    "2020-02-01T00:00:00Z,\"A \"\"big\"\" one, really\",0.10,1,x\r\n"
    "2020-02-01T00:00:00Z,\"A \"\"big\"\" one, really\",000.20,,\"two\r\nlines\"\r\n"
    "2020-02-01T00:00:00Z,B,,3,no fare\r\n"            /* 5: null, but required */
    "2020-02-01T00:00:00Z,B,13,4,division by zero\r\n" /* 6 */
    "2020-02-01T00:00:00Z,B,1\r\n"                     /* 7: columns */
    "2020-02-01T00:00:00Z,\"B,1,5,\r\n"                /* 8: open quote */
    "2020-02-01T00:00:00Z,B,1e3,6,\r\n"
    "\r\n"
    "2020-02-01T00:00:00Z,\"\",-1,7,";

static void check_csv_letters(void)
{
    json_t *all =
        json_loads(child_output(deployment_run(deployment, 0, "dovetail", "dead-letters", "list",
                                               "trips", "--format", "json", NULL)),
                   0, NULL);
    static const struct {
        int line;
        const char *reason;
        const char *view; /* NULL: none */
    } expected[] = {{5, "fare", NULL},
                    {6, "division by zero", "fares"},
                    {7, "3 columns", NULL},
                    {8, "quote", NULL}};
    assert_int_equal(json_array_size(all), 4);
    for (size_t i = 0; i < 4; i++) {
        const json_t *letter = json_array_get(all, i);
        expect_text(json_string_value(json_object_get(letter, "reason")), expected[i].reason);
        assert_int_equal(json_integer_value(json_object_get(letter, "line")), expected[i].line);
        assert_int_equal(json_integer_value(json_object_get(letter, "partition")), -1);
        assert_string_equal(json_string_value(json_object_get(letter, "import")), path_of("d.csv"));
        const char *view = json_string_value(json_object_get(letter, "view"));
        assert_true((view == NULL) == (expected[i].view == NULL));
    }
    json_decref(all);
}

static void import_csv(void)
{
    deployment_write(deployment, "d.csv", csv);
    const char *const map[] = {"when=at", "town=city"};
    struct child *child =
        deployment_run(deployment, 0, "dovetail-batch", "import", "trips", "--map", map[0],
                       path_of("d.csv"), "--map", map[1], "--dry-run", NULL);
    expect_text(child_output(child), "8 records, 4 good, 4 dead-lettered if it were imported");
    expect_text(child_errors(child), "d.csv:8: it is no CSV");
    expect("SELECT count(*) FROM dovetail_internal.import WHERE format = 'csv'", 0);
    assert_int_equal(letters(), 0);
    child = deployment_run(deployment, 0, "dovetail-batch", "import", "trips", "--map", map[0],
                           path_of("d.csv"), "--map", map[1], NULL);
    expect_text(child_output(child), "8 records, 4 imported, 4 dead-lettered, 1 segments");
    expect_text(child_errors(child), "left out: note");
    check_csv_letters();
}

/* Into an empty topic; in all forms; again; with a live topic, rollback, and a view added later. */
static void test_all_forms(void **state)
{
    (void)state;
    char command[1000];
    define("");
    write_lines("a.jsonl", 0, 1000);
    write_lines("b.jsonl", 1000, 1000);
    write_lines("c.ndjson", 2000, 500);
    snprintf(command, sizeof command,
             "cd %s && cp a.jsonl again.jsonl && zstd -q --rm b.jsonl && gzip c.ndjson",
             deployment->directory);
    shell(command);
    /* fare 13.25 - 13 is no zero: all are good. */
    expect_text(import("a.jsonl"), "1000 records, 1000 imported, 0 dead-lettered, 2 segments");
    expect_text(import("b.jsonl.zst"), "1000 imported");
    expect_text(import("c.ndjson.gz"), "500 imported");
    import_csv();
    expect_count(0); /* not before a run */
    assert_int_equal(receipt_imported("merged"), -1);
    run_and_verify();
    expect_count(2504);
    expect("SELECT total FROM dovetail.fares WHERE city = 'B'", 1000);
    expect("SELECT (total * 100)::bigint FROM dovetail.fares WHERE city LIKE 'A \"big\" one, %'",
           30);
    expect("SELECT (total)::bigint FROM dovetail.fares WHERE city = ''", -1);
    assert_int_equal(receipt_imported("merged"), 2508);
    assert_int_equal(receipt_imported("batch"), 2508);
    assert_int_equal(receipt_imported("speed"), -1);
    expect("SELECT count(*) FROM dovetail_internal.run_cutoff WHERE partition = -1 AND run = 1"
           " AND consumed = 2508 AND counted = 2504 AND dead_lettered = 4 AND filtered = 0",
           1);
    /* The same content again, as another file, changes nothing. */
    expect_text(import("again.jsonl"), "was imported before");
    expect("SELECT count(*) FROM dovetail_internal.import", 4);

    /* Live records; one is as old as an imported one, which comes first. */
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    deployment_write(
        deployment, "live",
        "{\"at\":\"2020-01-01T00:00:00Z\",\"city\":\"c0\",\"fare\":1,\"meta\":{\"id\":-5}}\n"
        "{\"at\":\"2026-01-01T00:00:00Z\",\"city\":\"c9\",\"fare\":2,\"meta\":{}}\n");
    deployment_run(deployment, 0, "dovetail", "produce", "trips", path_of("live"), NULL);
    await_number("SELECT sum(n)::bigint FROM dovetail.fares", 2506);
    deployment_run(deployment, 0, "dovetail", "verify", "fares", NULL);
    expect("SELECT first_id FROM dovetail.fares WHERE city = 'c0' ORDER BY window_start LIMIT 1",
           0);

    /* A further import is not seen until its run, and gone again with a rollback. */
    write_lines("e.jsonl", 5000, 700);
    import("e.jsonl");
    expect_count(2506);
    publish_under_queries(2506, 3206);
    deployment_run(deployment, 0, "dovetail", "verify", "fares", NULL);
    assert_int_equal(receipt_imported("merged"), 3208);
    deployment_run(deployment, 0, "dovetail", "runs", "rollback", "1", NULL);
    deployment_run(deployment, 0, "dovetail", "verify", "fares", NULL);
    expect_count(2506);
    assert_int_equal(receipt_imported("merged"), 2508);
    deployment_run(deployment, 0, "dovetail", "runs", "rollback", "0", NULL);
    deployment_run(deployment, 0, "dovetail", "verify", "fares", NULL);
    expect_count(2);
    assert_int_equal(receipt_imported("merged"), -1);
    run_and_verify();
    expect_count(3206);

    /* A view that is added later has the whole history, from its first run on. */
    deployment_define_view(
        deployment, "{\"view\":\"later\",\"source\":\"trips\",\"window\":{\"type\":\"none\"},"
                    " \"measures\":{\"n\":\"count(*)\",\"least\":\"min(at)\"}}");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    expect("SELECT count(*) FROM dovetail_internal.view_version WHERE view = 'later'"
           " AND state = 'building'",
           1);
    run_and_verify();
    deployment_run(deployment, 0, "dovetail", "verify", "later", NULL);
    expect("SELECT n FROM dovetail.later",
           3206 + 1); /* 13 divides by zero in the other view only */
    struct child *status = deployment_run(deployment, 0, "dovetail", "status", NULL);
    expect_text(child_output(status), "imported into");
    expect_text(child_output(status), "✓");
    child_stop(speed);
}

/* A view that is made while the topic is empty needs a run all the same: there are imports. */
static void test_a_view_after_imports(void **state)
{
    (void)state;
    define("");
    write_lines("a.jsonl", 0, 100);
    import("a.jsonl");
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    deployment_define_view(deployment, "{\"view\":\"later\",\"source\":\"trips\","
                                       " \"window\":{\"type\":\"none\"},"
                                       " \"measures\":{\"n\":\"count(*)\"}}");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    expect("SELECT count(*) FROM dovetail_internal.view_version WHERE view = 'later'"
           " AND state = 'building'",
           1);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    expect("SELECT n FROM dovetail.later", 100);
}

/* --- what a source says --- */

/* Ids are compared within the imported records as within any partition, also over files. */
static void test_duplicates(void **state)
{
    (void)state;
    define(",\"dedupe\":{\"field\":\"id\",\"within\":400}");
    write_lines("a.jsonl", 0, 1000);
    write_lines("b.jsonl", 900, 200); /* 100 of them are in a.jsonl */
    write_lines("c.jsonl", 0, 50);    /* too long ago */
    import("a.jsonl");
    import("b.jsonl");
    import("c.jsonl");
    run_and_verify();
    expect_count(1150);
    expect("SELECT count(*) FROM dovetail_internal.run_cutoff WHERE partition = -1"
           " AND consumed = 1250 AND counted = 1150 AND duplicate = 100",
           1);
}

static void test_masks(void **state)
{
    (void)state;
    char more[300];
    char command[1000];
    deployment_write(deployment, "mask.key", "a key for this test alone");
    snprintf(more, sizeof more, ",\"mask\":{\"fields\":[\"city\"],\"key_file\":\"%s\"}",
             path_of("mask.key"));
    define(more);
    deployment_write(deployment, "m.csv",
                     "at,city,fare\n2020-01-01T00:00:00Z,Secretville,1\n"
                     "2020-01-01T00:00:00Z,Secretville,13\n2020-01-01T00:00:00Z,Secretville,x\n"
                     "2020-01-01T00:00:00Z,Secretville\n");
    import("m.csv");
    run_and_verify();
    expect("SELECT n FROM dovetail.fares WHERE length(city) = 64", 1);
    /* Neither the archive nor a letter has the name; the bad line's value is withheld. */
    snprintf(command, sizeof command,
             "cd %s/archive/%s/-1 && zstd -dc *.zst > ../../../archived && cd ../../.. &&"
             " grep -q fare archived && ! grep -q Secretville archived",
             deployment->directory, deployment_topic(deployment, "trips"));
    shell(command);
    const char *listed = child_output(deployment_run(deployment, 0, "dovetail", "dead-letters",
                                                     "list", "trips", "--format", "json", NULL));
    assert_int_equal(letters(), 3);
    assert_null(strstr(listed, "Secretville"));
    expect_text(listed, "\"withheld\": \"value\"");
    /* It is known again, mask or not. */
    expect_text(import("m.csv"), "was imported before");
}

/* --- input --- */

static void test_pipes_and_refusals(void **state)
{
    (void)state;
    char command[1000], program[600];
    define("");
    write_lines("a.jsonl", 0, 1000);
    stack_program("dovetail-batch", program, sizeof program);
    snprintf(command, sizeof command,
             "cd %s && cat a.jsonl | zstd -q | %s --config %s import trips --format json -",
             deployment->directory, program, deployment->config);
    shell(command);
    expect("SELECT end_offset FROM dovetail_internal.import", 1000);
    expect_text(import("a.jsonl"), "was imported before");
    deployment_write(deployment, "none", "");
    deployment_write(deployment, "empty.jsonl", "\n\r\n");
    deployment_write(deployment, "empty.csv", "");
    deployment_write(deployment, "bare.csv", "at,city,fare\n");
    deployment_write(deployment, "other.csv", "a,b\n1,2\n");
    expect_text(import("empty.jsonl"), "0 records");
    expect_text(import("bare.csv"), "0 records");
    static const struct {
        const char *file;
        const char *reason;
    } refused[] = {{"none", "tells no format"},
                   {"empty.csv", "no header"},
                   {"other.csv", "is required"},
                   {"missing.csv", "No such file"}};
    for (size_t i = 0; i < 4; i++) {
        struct child *child = deployment_run(deployment, 2, "dovetail-batch", "import", "trips",
                                             path_of(refused[i].file), NULL);
        expect_text(child_errors(child), refused[i].reason);
    }
    deployment_run(deployment, 2, "dovetail-batch", "import", "nothing", path_of("a.jsonl"), NULL);
    deployment_run(deployment, 2, "dovetail-batch", "import", "trips", NULL);
    deployment_run(deployment, 2, "dovetail-batch", "import", "trips", "--map", "x", "a", NULL);
    expect("SELECT count(*) FROM dovetail_internal.import", 3);
}

static void test_several_at_once(void **state)
{
    (void)state;
    enum { IMPORTS = 4 };
    struct child *children[IMPORTS];
    char name[20];
    define("");
    for (int i = 0; i < IMPORTS; i++) {
        snprintf(name, sizeof name, "%d.jsonl", i);
        write_lines(name, i * 1000, 1000);
        children[i] = deployment_start(deployment, "dovetail-batch", "import", "trips",
                                       path_of(name), path_of("0.jsonl"), NULL);
    }
    for (int i = 0; i < IMPORTS; i++)
        child_expect(children[i], 0);
    run_and_verify();
    expect_count(IMPORTS * 1000);
}

/* --- kill -9 --- */

/* Imports until it waits for the lock that `locker` has on the table; then it is killed. */
static void kill_at(const char *table, const char *mode)
{
    char sql[200];
    snprintf(sql, sizeof sql, "BEGIN; LOCK TABLE dovetail_internal.%s IN %s MODE", table, mode);
    PQclear(database_ask(locker, sql));
    struct child *child = deployment_start(deployment, "dovetail-batch", "import", "trips",
                                           path_of("big.jsonl"), NULL);
    await_number("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                 " AND application_name = 'dovetail-batch' AND datname = current_database()",
                 1);
    child_kill(child);
    PQclear(database_ask(locker, "ROLLBACK"));
}

static void test_kills(void **state)
{
    (void)state;
    enum { BEFORE = 500, LINES = 60000, BAD = 300 };
    define("");
    locker = deployment_connect(deployment);
    write_lines("a.jsonl", 0, BEFORE);
    write_lines("big.jsonl", 1000, LINES);
    FILE *big = fopen(path_of("big.jsonl"), "a");
    for (int i = 0; i < BAD; i++)
        fprintf(big, "bad line %d\n", i);
    fclose(big);
    import("a.jsonl");
    run_and_verify();

    kill_at("segment", "ACCESS EXCLUSIVE"); /* nothing is written yet */
    kill_at("import", "EXCLUSIVE");         /* segments and letters are there */
    assert_true(archived_files() > 10);
    kill_at("segment", "EXCLUSIVE"); /* in the middle of the transaction */
    /* While it writes segments. */
    struct child *child = deployment_start(deployment, "dovetail-batch", "import", "trips",
                                           path_of("big.jsonl"), NULL);
    while (archived_files() < 3 && child_is_running(child))
        stack_sleep_ms(1);
    child_kill(child);
    expect("SELECT count(*) FROM dovetail_internal.import", 1);
    run_and_verify();
    expect_count(BEFORE);

    /* At any moment; every state that anybody sees is the old or the new one. */
    int killed = 0;
    for (int i = 0; number("SELECT count(*) FROM dovetail_internal.import") == 1; i++) {
        child = deployment_start(deployment, "dovetail-batch", "import", "trips",
                                 path_of("big.jsonl"), NULL);
        stack_sleep_ms(40 * i);
        killed += child_is_running(child);
        child_kill(child);
        await_number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                     " AND application_name = 'dovetail-batch'",
                     0);
        if (i % 4 == 0)
            deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
        int64_t imported = number("SELECT max(end_offset) FROM dovetail_internal.segment");
        assert_true(imported == BEFORE || imported == BEFORE + LINES + BAD);
        int64_t counted = number("SELECT sum(n)::bigint FROM dovetail.fares");
        assert_true(counted == BEFORE || (counted == BEFORE + LINES && imported > BEFORE));
    }
    print_message("%d imports were killed at random moments\n", killed);
    assert_true(killed > 0);
    expect_text(import("big.jsonl"), "was imported before");
    run_and_verify();
    expect_count(BEFORE + LINES);
    assert_int_equal(receipt_imported("merged"), BEFORE + LINES + BAD);
    assert_true(letters() >= BAD);
    /* What the killed ones left is gone with the next import. */
    write_lines("c.jsonl", 90000, 10);
    import("c.jsonl");
    expect("SELECT count(*) FROM dovetail_internal.segment", archived_files());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_forms, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_view_after_imports, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_duplicates, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_masks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pipes_and_refusals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_several_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_kills, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
