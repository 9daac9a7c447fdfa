/* The archive on disk: listed, read, verified and repaired by `dovetail archive`, and what crashes
 * leave in it. Files are damaged, removed and put there by hand; Kafka loses offsets by its
 * retention. Whatever happens, no record is lost that anybody still has, and no answer changes. */
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
#include <unistd.h>

#include "tests/support/broker.h"
#include "tests/support/database.h"
#include "tests/support/deployment.h"
#include "tests/support/stack.h"

enum { PARTITIONS = 2, LINE_BYTES = 120, PATH_BYTES = 700, FILE_MAX = 1 << 20 };

static struct deployment *deployment;
static int produced; /* of partition 0 */

static void define_source(const char *more)
{
    char text[500];
    snprintf(text, sizeof text,
             "{\"source\": \"orders\", \"partitions\": %d, \"event_time\":"
             " {\"field\": \"t\", \"format\": \"epoch_s\"},"
             " \"fields\": {\"t\": \"integer\", \"shop\": \"string\", \"n\": \"integer\"}%s}",
             PARTITIONS, more);
    deployment_define_source(deployment, text);
}

static void begin(const char *more)
{
    deployment = deployment_create();
    produced = 0;
    define_source(more);
    deployment_define_view(deployment,
                           "{\"view\": \"sums\", \"source\": \"orders\", \"group_by\": [\"shop\"],"
                           " \"measures\": {\"c\": \"count(*)\", \"s\": \"sum(n)\"}, \"window\":"
                           " {\"type\": \"tumbling\", \"size\": \"1h\"}}");
}

static int set_up(void **state)
{
    (void)state;
    begin("");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    return 0;
}

static int set_up_masked(void **state)
{
    (void)state;
    char more[200];
    begin("");
    snprintf(more, sizeof more,
             ", \"mask\": {\"fields\": [\"shop\"], \"key_file\": \"%s/mask.key\"}",
             deployment->directory);
    define_source(more);
    deployment_write(deployment, "mask.key", "a key for this test alone");
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

/* `count` records into partition 0, one of seven no record at all. Whoever needs others says so. */
static void produce(int count)
{
    char *text = malloc((size_t)count * LINE_BYTES + 1);
    char path[PATH_BYTES];
    size_t length = 0;
    assert_non_null(text);
    for (int i = 0; i < count; i++, produced++)
        length += (size_t)snprintf(text + length, LINE_BYTES,
                                   produced % 7 == 6 ? "{\"t\": %d, \"shop\": \"s%d\", \"n\"\n"
                                                     : "{\"t\": %d, \"shop\": \"s%d\", \"n\": 1}\n",
                                   produced * 10, produced % 5);
    text[length] = '\0';
    deployment_write(deployment, "events", text);
    free(text);
    snprintf(path, sizeof path, "%s/events", deployment->directory);
    deployment_run(deployment, 0, "dovetail", "produce", "orders", path, "--partition", "0", NULL);
}

static void run_batch(int expected)
{
    deployment_run(deployment, expected, "dovetail-batch", "run", NULL);
}

static struct child *archive(int expected, const char *action)
{
    return deployment_run(deployment, expected, "dovetail", "archive", action, "orders", NULL);
}

static void expect_text(struct child *child, const char *text)
{
    if (strstr(child_output(child), text) == NULL && strstr(child_errors(child), text) == NULL)
        fail_msg("no \"%s\": %s%s", text, child_output(child), child_errors(child));
}

/* Every good record of partition 0 in the served answer. */
static void expect_counted(int64_t offsets)
{
    int64_t good = 0;
    for (int64_t i = 0; i < offsets; i++)
        good += i % 7 != 6;
    assert_int_equal(deployment_number(deployment, "SELECT sum(c) FROM dovetail.sums"), good);
}

static int64_t number(const char *sql)
{
    return deployment_number(deployment, sql);
}

/* One text of the database. */
static void read_text(const char *sql, char *out, size_t size)
{
    PGconn *connection = deployment_connect(deployment);
    PGresult *result = database_ask(connection, sql);
    assert_int_equal(PQresultStatus(result), PGRES_TUPLES_OK);
    assert_int_equal(PQntuples(result), 1);
    snprintf(out, size, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    PQfinish(connection);
}

static void execute(const char *sql)
{
    PGconn *connection = deployment_connect(deployment);
    PGresult *result = database_ask(connection, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    PQclear(result);
    PQfinish(connection);
}

/* The newest segment, or the `index`th of partition 0. */
static void segment_path(int index, char *out)
{
    char sql[200];
    char file[400];
    snprintf(sql, sizeof sql,
             "SELECT file FROM dovetail_internal.segment WHERE partition = 0"
             " ORDER BY start_offset LIMIT 1 OFFSET %d",
             index);
    read_text(sql, file, sizeof file);
    snprintf(out, PATH_BYTES, "%s/archive/%s", deployment->directory, file);
}

static size_t read_file(const char *path, char *out)
{
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    size_t length = fread(out, 1, FILE_MAX, in);
    fclose(in);
    return length;
}

static void write_file(const char *path, const char *bytes, size_t length)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, length, out), length);
    assert_int_equal(fclose(out), 0);
}

/* --- list, cat, verify --- */

static void test_reading(void **state)
{
    (void)state;
    produce(30);
    run_batch(0);
    produce(12);
    run_batch(0);
    struct child *list =
        deployment_run(deployment, 0, "dovetail", "archive", "list", "--format", "json", NULL);
    json_t *all = json_loads(child_output(list), 0, NULL);
    assert_non_null(all);
    json_t *segments = json_object_get(all, "segments");
    assert_int_equal(json_array_size(segments), 2);
    const json_t *second = json_array_get(segments, 1);
    assert_int_equal(json_integer_value(json_object_get(second, "from_offset")), 30);
    assert_int_equal(json_integer_value(json_object_get(second, "to_offset")), 42);
    assert_int_equal(json_integer_value(json_object_get(second, "records")), 12);
    assert_int_equal(json_integer_value(json_object_get(second, "empty_offsets")), 0);
    assert_string_equal(json_string_value(json_object_get(second, "topic")),
                        deployment_topic(deployment, "orders"));
    assert_int_equal(json_array_size(json_object_get(all, "missing")), 0);
    json_decref(all);
    struct child *table = archive(0, "list");
    expect_text(table, "2 segments, 42 records, 0 offsets without a record");
    expect_text(archive(0, "verify"), "2 segments, 42 records");

    /* The lines are what was produced, and what other tools see: without the bad ones. */
    struct child *lines =
        deployment_run(deployment, 0, "dovetail", "archive", "cat", "orders", "--partition", "0",
                       "--from-offset", "28", "--to-offset", "33", NULL);
    assert_string_equal(child_output(lines), "{\"t\": 280, \"shop\": \"s3\", \"n\": 1}\n"
                                             "{\"t\": 290, \"shop\": \"s4\", \"n\": 1}\n"
                                             "{\"t\": 300, \"shop\": \"s0\", \"n\": 1}\n"
                                             "{\"t\": 310, \"shop\": \"s1\", \"n\": 1}\n"
                                             "{\"t\": 320, \"shop\": \"s2\", \"n\": 1}\n");
    char command[PATH_BYTES + 100];
    char seen[FILE_MAX / 16];
    snprintf(command, sizeof command, "zstd -dcq '%s'/archive/*/0/*.zst 2>/dev/null",
             deployment->directory);
    FILE *pipe = popen(command, "r");
    size_t length = fread(seen, 1, sizeof seen - 1, pipe);
    bool has_zstd = pclose(pipe) == 0;
    seen[length] = '\0';
    struct child *whole =
        deployment_run(deployment, 0, "dovetail", "archive", "cat", "orders", NULL);
    if (has_zstd)
        assert_string_equal(child_output(whole), seen);
    expect_text(whole, "6 records are no line of JSON");
    struct child *other = deployment_run(deployment, 0, "dovetail", "archive", "cat", "orders",
                                         "--partition", "1", NULL);
    assert_string_equal(child_output(other), "");

    other = deployment_run(deployment, 2, "dovetail", "archive", "cat", "orders", "--partition",
                           "77", NULL);
    expect_text(other, "has no partition 77");
    other = deployment_run(deployment, 2, "dovetail", "archive", "cat", "orders", "--partition",
                           "-1", NULL);
    expect_text(other, "nothing has been imported into source orders");
    deployment_run(deployment, 2, "dovetail", "archive", "cat", NULL);
    deployment_run(deployment, 2, "dovetail", "archive", "verify", "nobody", NULL);
    deployment_run(deployment, 2, "dovetail", "archive", "burn", NULL);
    deployment_run(deployment, 2, "dovetail", "archive", "list", "--partition", "0", NULL);
    deployment_run(deployment, 2, "dovetail", "archive", "--partition", "0", "list", NULL);
    deployment_run(deployment, 2, "dovetail", "archive", "--to-offset", "5", NULL);
}

static void test_missing_rows(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        produce(10);
        run_batch(0);
    }
    execute("DELETE FROM dovetail_internal.segment WHERE start_offset = 10");
    expect_text(archive(0, "list"), "[0]: the manifest has no segment for offsets 10 to 20");
    struct child *verify = archive(1, "verify");
    expect_text(verify, "[0]: the manifest has no segment for offsets 10 to 20");
    expect_text(verify, "is in no manifest");
    expect_text(verify, "2 faults");
    run_batch(1);
    expect_counted(30);
}

/* --- damage --- */

enum damage { FLIPPED, TRUNCATED, MISSING, DAMAGES };

static void damage(enum damage kind, const char *path)
{
    static char bytes[FILE_MAX];
    size_t length = read_file(path, bytes);
    if (kind == MISSING)
        assert_int_equal(unlink(path), 0);
    bytes[length / 2] ^= 4;
    if (kind == FLIPPED)
        write_file(path, bytes, length);
    if (kind == TRUNCATED)
        assert_int_equal(truncate(path, (off_t)(length / 2)), 0);
}

/* Named exactly, nothing published, and back bit for bit. */
static void test_repair(void **state)
{
    (void)state;
    static const char *const told[] = {
        [FLIPPED] = "is damaged: its checksum is not the manifest's",
        [TRUNCATED] = "is damaged: it has",
        [MISSING] = "is missing",
    };
    static char before[FILE_MAX], after[FILE_MAX];
    char path[PATH_BYTES];
    char place[200];
    for (int i = 0; i < 3; i++) {
        produce(20);
        run_batch(0);
    }
    snprintf(place, sizeof place, "(%s[0], offsets 20 to 40)",
             deployment_topic(deployment, "orders"));
    segment_path(1, path);
    size_t length = read_file(path, before);
    for (enum damage kind = FLIPPED; kind < DAMAGES; kind++) {
        damage(kind, path);
        int64_t run = number("SELECT run FROM dovetail_internal.current_run");
        struct child *batch =
            deployment_run(deployment, 1, "dovetail-batch", "run", "--full", NULL);
        expect_text(batch, told[kind]);
        expect_text(batch, place);
        assert_int_equal(number("SELECT run FROM dovetail_internal.current_run"), run);
        expect_counted(60);
        struct child *verify = archive(1, "verify");
        expect_text(verify, told[kind]);
        expect_text(verify, place);
        expect_text(verify, "1 faults");
        expect_text(archive(0, "repair"), "1 segments were damaged, 1 of them are repaired");
        assert_int_equal(read_file(path, after), length);
        assert_memory_equal(after, before, length);
        archive(0, "verify");
    }
    deployment_run(deployment, 0, "dovetail-batch", "run", "--full", NULL);
    deployment_run(deployment, 0, "dovetail", "verify", "sums", NULL);
    expect_counted(60);
}

/* Packed otherwise than before, and masked. */
static void test_repair_of_masked(void **state)
{
    (void)state;
    char path[PATH_BYTES];
    char content[2][64];
    produce(3000);
    run_batch(0);
    segment_path(0, path);
    read_text("SELECT content FROM dovetail_internal.segment", content[0], sizeof content[0]);
    deployment_set(deployment, "batch", "compression_level", json_integer(19));
    int64_t bytes = number("SELECT file_bytes FROM dovetail_internal.segment");
    damage(FLIPPED, path);
    expect_text(archive(0, "repair"), "1 of them are repaired");
    read_text("SELECT content FROM dovetail_internal.segment", content[1], sizeof content[1]);
    assert_string_equal(content[0], content[1]);
    assert_true(number("SELECT file_bytes FROM dovetail_internal.segment") != bytes);
    archive(0, "verify");
    struct child *lines =
        deployment_run(deployment, 0, "dovetail", "archive", "cat", "orders", NULL);
    assert_null(strstr(child_output(lines), "\"s1\""));
    deployment_run(deployment, 0, "dovetail-batch", "run", "--full", NULL);
    deployment_run(deployment, 0, "dovetail", "verify", "sums", NULL);
}

/* Kafka has lost some of it, or has other records there: nothing changes, and it is said why. */
static void test_beyond_repair(void **state)
{
    (void)state;
    static char before[FILE_MAX], after[FILE_MAX];
    char path[PATH_BYTES];
    char expected[200];
    for (int i = 0; i < 2; i++) {
        produce(20);
        run_batch(0);
    }
    segment_path(1, path);
    damage(TRUNCATED, path);
    size_t length = read_file(path, before);
    execute("UPDATE dovetail_internal.segment SET content = reverse(content),"
            " checksum = reverse(checksum) WHERE start_offset = 20");
    struct child *other = archive(1, "repair");
    expect_text(other, "[0]: offsets 20 to 40 are not what was archived: 20 records");
    expect_text(other, ", with other contents");
    broker_delete_below(deployment_topic(deployment, "orders"), 0, 21);
    struct child *gone = archive(1, "repair");
    snprintf(expected, sizeof expected,
             "%s[0]: offsets 20 to 40 cannot be fetched again: Kafka has only offsets 21 to 40",
             deployment_topic(deployment, "orders"));
    expect_text(gone, expected);
    expect_text(gone, "1 segments were damaged, 0 of them are repaired");
    assert_int_equal(read_file(path, after), length);
    assert_memory_equal(after, before, length);
    deployment_run(deployment, 1, "dovetail-batch", "run", "--full", NULL);
    expect_counted(40);
}

/* --- files that crashes left --- */

static bool exists(const char *path)
{
    struct stat stat_of;
    return stat(path, &stat_of) == 0;
}

static void beside(const char *path, const char *name, char *out)
{
    const char *slash = strrchr(path, '/');
    snprintf(out, PATH_BYTES, "%.*s/%s", (int)(slash - path), path, name);
}

static void test_orphans(void **state)
{
    (void)state;
    static char bytes[FILE_MAX];
    char path[PATH_BYTES];
    char covered[PATH_BYTES], logged[PATH_BYTES], beyond[PATH_BYTES], mine[PATH_BYTES];
    char above[PATH_BYTES];
    produce(40);
    run_batch(0);
    segment_path(0, path);
    size_t length = read_file(path, bytes);
    produce(10);
    beside(path, "00000000000000000010-00000000000000000030.jsonl.zst", covered);
    beside(path, "00000000000000000040-00000000000000000050.jsonl.zst", logged);
    beside(path, "00000000000000000040-00000000000000000051.jsonl.zst", beyond);
    beside(path, "notes.txt", mine);
    write_file(covered, bytes, length);
    write_file(logged, "half", 4); /* takes the name of what will be archived */
    write_file(beyond, bytes, length);
    write_file(mine, "mine", 4);
    beside(path, "../../README.txt", above); /* where the folders of topics are */
    write_file(above, "mine", 4);
    struct child *verify = archive(1, "verify");
    expect_text(verify, "00000000000000000010-00000000000000000030.jsonl.zst is in no manifest");
    expect_text(verify, "3 faults");

    struct child *batch = deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    expect_text(batch, "00000000000000000051.jsonl.zst is in no manifest and stays where it is");
    assert_false(exists(covered));
    assert_true(exists(beyond));
    assert_true(exists(mine));
    assert_true(exists(path));
    assert_true(exists(logged)); /* archived by now */
    expect_text(archive(1, "verify"), "1 faults");
    produce(1); /* Kafka has all of it now */
    run_batch(0);
    assert_false(exists(beyond));
    assert_true(exists(mine));
    assert_true(exists(above));
    archive(0, "verify");
    expect_text(deployment_run(deployment, 0, "dovetail", "archive", "verify", NULL), "all good");
    expect_counted(51);
    deployment_run(deployment, 0, "dovetail", "verify", "sums", NULL);
}

/* The manifest is a file behind, and Kafka's retention was faster: the file is all there is. */
static void test_orphan_is_the_only_copy(void **state)
{
    (void)state;
    static char bytes[FILE_MAX];
    char path[PATH_BYTES];
    char content[2][64];
    produce(20);
    run_batch(0);
    produce(20);
    run_batch(0);
    segment_path(1, path);
    size_t length = read_file(path, bytes);
    read_text("SELECT content || checksum FROM dovetail_internal.segment WHERE start_offset = 20",
              content[0], sizeof content[0]);
    execute("DELETE FROM dovetail_internal.segment WHERE start_offset = 20");
    broker_delete_below(deployment_topic(deployment, "orders"), 0, 40);
    produce(10);

    bytes[length / 2] ^= 1;
    write_file(path, bytes, length);
    struct child *damaged = deployment_run(deployment, 1, "dovetail-batch", "run", NULL);
    expect_text(damaged, "in no manifest and stays where it is");
    assert_true(exists(path));

    bytes[length / 2] ^= 1;
    write_file(path, bytes, length);
    struct child *batch = deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    expect_text(batch, "it is archived now");
    read_text("SELECT content || checksum FROM dovetail_internal.segment WHERE start_offset = 20",
              content[1], sizeof content[1]);
    assert_string_equal(content[0], content[1]);
    assert_int_equal(number("SELECT max(end_offset) FROM dovetail_internal.segment"), 50);
    archive(0, "verify");
    expect_counted(50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reading, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_missing_rows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_repair, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_repair_of_masked, set_up_masked, tear_down),
        cmocka_unit_test_setup_teardown(test_beyond_repair, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_orphans, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_orphan_is_the_only_copy, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
