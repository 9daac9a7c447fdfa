/* The program `dovetail` as an operator uses it, on a real Kafka and a real PostgreSQL.
 *
 * Each test has a database, a topic and a folder of definitions of its own, and runs the program as
 * a child. Where rows are needed the layers themselves make them; what is looked for afterwards is
 * written into the tables by SQL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "core/kafka/kafka.h"
#include "core/postgres/postgres.h"
#include "tests/support/child.h"
#include "tests/support/stack.h"

enum { ARGUMENTS_MAX = 16, PATH_BYTES = 256 };

static struct error error;
static struct postgres *server;
static struct postgres *postgres;
static json_t *properties;
static char database[64];
static char topic[64];
static char dead_topic[80];
static char directory[64];

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        error = (struct error){0};                                                                 \
        if ((call) != STATUS_OK)                                                                   \
            fail_msg("%s: \"%s\"", #call, error.text);                                             \
    } while (0)

/* --- the world of one test --- */

static const char *path_of(const char *name)
{
    static char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void write_bytes(const char *name, const void *bytes, size_t length)
{
    FILE *out = fopen(path_of(name), "w");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, length, out), length);
    assert_int_equal(fclose(out), 0);
}

static void write_text(const char *name, const char *text)
{
    write_bytes(name, text, strlen(text));
}

static void write_source(void)
{
    char text[1500];
    snprintf(text, sizeof text,
             "{\"source\": \"flights\", \"topic\": \"%s\", \"dead_letter_topic\": \"%s\","
             " \"event_time\": {\"field\": \"time\"}, \"fields\": {\"time\": \"timestamp\","
             " \"delay\": {\"type\": \"integer\", \"nullable\": true},"
             " \"fare\": {\"type\": \"decimal\", \"nullable\": true},"
             " \"origin\": {\"type\": \"string\", \"nullable\": true},"
             " \"gate\": {\"type\": \"integer\", \"path\": \"at.gate\", \"nullable\": true},"
             " \"sold\": {\"type\": \"timestamp\", \"format\": \"epoch_ms\", \"nullable\": true},"
             " \"paid\": {\"type\": \"boolean\", \"nullable\": true}}}",
             topic, dead_topic);
    write_text("schemas/sources/flights.json", text);
}

static const char by_origin_text[] =
    "{\"view\": \"by_origin\", \"source\": \"flights\", \"group_by\": [\"origin\"],"
    " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"},"
    " \"measures\": {\"flights\": \"count(*)\", \"late\": \"count(*) FILTER (WHERE delay > 15)\","
    " \"total\": \"sum(delay)\", \"mean\": \"avg(delay)\", \"fares\": \"sum(fare)\","
    " \"dearest\": \"max(fare)\", \"last\": \"max(sold)\", \"first\": \"min(origin)\"}}";

/* Fails on gate 0, on the greatest delays, and on fares with many digits. */
static const char ratios_text[] =
    "{\"view\": \"ratios\", \"source\": \"flights\", \"where\": \"paid OR delay IS NOT NULL\","
    " \"group_by\": [{\"name\": \"pair\", \"expr\": \"origin || '-' || origin\"}, \"paid\"],"
    " \"window\": {\"type\": \"tumbling\", \"size\": \"7h\"},"
    " \"measures\": {\"share\": \"sum(1000 / gate)\", \"squares\": \"sum(fare * fare)\","
    " \"twice\": \"max(delay * 2) FILTER (WHERE paid)\", \"each\": \"avg(fare / gate)\"}}";

static void write_config(const char *name, const char *kafka)
{
    PQconninfoOption *options = PQconninfoParse(stack_postgres(), NULL);
    assert_non_null(options);
    char *conninfo = NULL;
    size_t length;
    FILE *out = open_memstream(&conninfo, &length);
    for (const PQconninfoOption *option = options; option->keyword != NULL; option++)
        if (option->val != NULL && strcmp(option->keyword, "dbname") != 0)
            fprintf(out, "%s='%s' ", option->keyword, option->val);
    fprintf(out, "dbname='%s'", database);
    fclose(out);
    PQconninfoFree(options);
    json_t *config =
        json_pack("{s:{s:s}, s:s, s:s, s:{s:i}, s:{s:s}}", "kafka", "bootstrap.servers", kafka,
                  "postgres", conninfo, "schemas", "schemas", "speed", "flush_interval_ms", 20,
                  "batch", "archive", "archive");
    assert_int_equal(json_dump_file(config, path_of(name), 0), 0);
    json_decref(config);
    if (postgres == NULL)
        assert_ok(postgres_connect(conninfo, "test_cli", &postgres, &error));
    free(conninfo);
}

static int set_up(void **state)
{
    (void)state;
    static const char *const folders[] = {"schemas", "schemas/sources", "schemas/views", "archive"};
    uint64_t number = 0;
    if (getrandom(&number, sizeof number, 0) != sizeof number)
        return -1;
    assert_ok(postgres_connect(stack_postgres(), "test_cli", &server, &error));
    properties = json_pack("{s:s}", "bootstrap.servers", stack_kafka());
    snprintf(database, sizeof database, "test_cli_%016" PRIx64, number);
    snprintf(topic, sizeof topic, "test-cli-%016" PRIx64, number);
    snprintf(dead_topic, sizeof dead_topic, "%s.dead", topic);
    snprintf(directory, sizeof directory, "/tmp/test_cli_XXXXXX");
    assert_non_null(mkdtemp(directory));
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        assert_int_equal(mkdir(path_of(folders[i]), 0700), 0);
    assert_ok(postgres_executef(server, &error, "CREATE DATABASE %s", database));
    write_config("dovetail.json", stack_kafka());
    write_source();
    write_text("schemas/views/by_origin.json", by_origin_text);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[PATH_BYTES];
    children_end();
    postgres_close(postgres);
    postgres = NULL;
    assert_ok(postgres_executef(server, &error, "DROP DATABASE %s WITH (FORCE)", database));
    postgres_close(server);
    server = NULL;
    json_decref(properties);
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command) == 0 ? 0 : -1;
}

/* --- running the program --- */

static struct child *start_program(const char *program, const char *const *arguments)
{
    char path[PATH_BYTES];
    const char *argv[ARGUMENTS_MAX + 4] = {stack_program(program, path, sizeof path)};
    char config[PATH_BYTES];
    size_t count = 1;
    bool has_config = false;
    for (; arguments[count - 1] != NULL; count++) {
        assert_true(count < ARGUMENTS_MAX);
        argv[count] = arguments[count - 1];
        has_config = has_config || strcmp(argv[count], "--config") == 0;
    }
    snprintf(config, sizeof config, "%s", path_of("dovetail.json"));
    if (!has_config) {
        argv[count++] = "--config";
        argv[count++] = config;
    }
    return child_start(directory, program, argv);
}

#define START(program, ...) start_program(program, (const char *const[]){__VA_ARGS__, NULL})

/* Runs `dovetail ARGUMENTS`, which must exit with `code`. */
static struct child *run_dovetail(int code, const char *const *arguments)
{
    struct child *child = start_program("dovetail", arguments);
    child_expect(child, code);
    return child;
}

#define RUN(code, ...) run_dovetail(code, (const char *const[]){__VA_ARGS__, NULL})

static void assert_contains(const char *text, const char *wanted)
{
    if (strstr(text, wanted) == NULL)
        fail_msg("\"%s\" is not in:\n%s", wanted, text);
}

static void assert_lacks(const char *text, const char *unwanted)
{
    if (strstr(text, unwanted) != NULL)
        fail_msg("\"%s\" is in:\n%s", unwanted, text);
}

static json_t *json_output(struct child *child)
{
    json_error_t fault;
    json_t *json = json_loads(child_output(child), JSON_DECODE_ANY, &fault);
    if (json == NULL)
        fail_msg("no JSON (%s):\n%s", fault.text, child_output(child));
    return json;
}

static void execute(const char *sql)
{
    assert_ok(postgres_execute(postgres, sql, &error));
}

static int64_t query_int64(const char *sql)
{
    PGresult *result = NULL;
    assert_ok(postgres_query(postgres, sql, 0, NULL, &result, &error));
    assert_int_equal(PQntuples(result), 1);
    int64_t value = postgres_int64(result, 0, 0);
    PQclear(result);
    return value;
}

/* --- help and usage --- */

static void test_help(void **state)
{
    (void)state;
    static const char *const commands[] = {"init",   "validate", "produce",      "query", "verify",
                                           "status", "runs",     "dead-letters", "resume"};
    struct child *main_help = RUN(0, "--help");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        char usage[80];
        snprintf(usage, sizeof usage, "usage: dovetail %s", commands[i]);
        assert_contains(child_output(main_help), commands[i]);
        assert_contains(child_output(RUN(0, commands[i], "--help")), usage);
    }
    assert_contains(child_output(RUN(0, "--version")), "dovetail ");
    RUN(2, "frobnicate");
    RUN(2, "status", "--nonsense");
    RUN(2, "query");
    RUN(2, "query", "by_origin", "--limit", "many");
    RUN(2, "query", "by_origin", "--layer", "both");
    RUN(2, "validate", "--config", "/nowhere/dovetail.json");
}

/* --- validate --- */

static void test_validate_names_each_fault(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        const char *text;
        const char *wanted[4];
    } faults[] = {
        {"views/a.json",
         "{\"view\": \"a\", \"source\": \"flights\", \"where\": \"delay > 'x'\","
         " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}, \"measures\": {\"n\": "
         "\"count(*)\"}}",
         {"views/a.json", "where", "column ", NULL}},
        {"views/b.json",
         "{\"view\": \"b\", \"source\": \"flights\","
         " \"window\": {\"type\": \"tumbling\", \"size\": \"1 hour\"}, \"measures\": {\"n\": "
         "\"count(*)\"}}",
         {"views/b.json", "window", "size", NULL}},
        {"views/c.json",
         "{\"view\": \"c\", \"source\": \"flights\", \"group_by\": [\"origin\", \"nix\"],"
         " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}, \"measures\": {\"n\": "
         "\"count(*)\"}}",
         {"views/c.json", "group_by[1]", "nix", NULL}},
        {"views/d.json",
         "{\"view\": \"d\", \"source\": \"flights\","
         " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}, \"measures\": {\"n\": "
         "\"sum(delay) + 1\"}}",
         {"views/d.json", "measures.n", "column 12", NULL}},
        {"views/e.json",
         "{\"view\": \"e\", \"source\": \"ships\","
         " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}, \"measures\": {\"n\": "
         "\"count(*)\"}}",
         {"views/e.json", "source", "ships", NULL}},
        {"views/f.json", "{\"view\": \"f\",", {"views/f.json", "line 1", "column ", NULL}},
        {"sources/g.json",
         "{\"source\": \"g\", \"topic\": \"g\", \"event_time\": {\"field\": \"t\"},"
         " \"fields\": {\"t\": \"time\"}}",
         {"sources/g.json", "fields.t", NULL}},
        {"sources/h.json",
         "{\"source\": \"h\", \"topic\": \"h\", \"topics\": 1, \"event_time\":"
         " {\"field\": \"t\"}, \"fields\": {\"t\": \"timestamp\"}}",
         {"sources/h.json", "topics", "unknown", NULL}},
    };
    enum { FAULT_COUNT = sizeof faults / sizeof faults[0] };
    assert_contains(child_output(RUN(0, "validate")), "1 source, 1 view");
    for (size_t i = 0; i < FAULT_COUNT; i++) {
        char name[PATH_BYTES];
        snprintf(name, sizeof name, "schemas/%s", faults[i].file);
        write_text(name, faults[i].text);
    }
    /* init tells the same, and touches nothing. */
    static const char *const commands[] = {"validate", "init"};
    for (size_t c = 0; c < 2; c++) {
        char lines[8192];
        snprintf(lines, sizeof lines, "%s", child_errors(RUN(2, commands[c])));
        size_t found = 0;
        for (char *rest = lines, *line; (line = strsep(&rest, "\n")) != NULL;)
            for (size_t i = 0; i < FAULT_COUNT; i++) {
                if (strstr(line, faults[i].file) == NULL)
                    continue;
                for (size_t w = 0; faults[i].wanted[w] != NULL; w++)
                    assert_contains(line, faults[i].wanted[w]);
                found++;
            }
        assert_int_equal(found, FAULT_COUNT);
    }
    assert_int_equal(
        query_int64("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'dovetail%'"), 0);
    int partitions;
    assert_ok(kafka_topic_partitions(properties, topic, 15000, &partitions, &error));
    assert_int_equal(partitions, -1);
}

/* --- init --- */

static void test_init_twice(void **state)
{
    (void)state;
    char line[128];
    int partitions;
    struct child *early = START("dovetail-batch", "run");
    child_expect(early, 2);
    assert_contains(child_errors(early), "run `dovetail init`");
    assert_contains(child_errors(RUN(2, "runs")), "run `dovetail init`");
    struct child *first = RUN(0, "init");
    assert_contains(child_output(first), "tables: migrated");
    snprintf(line, sizeof line, "topic %s: created, 3 partitions", topic);
    assert_contains(child_output(first), line);
    snprintf(line, sizeof line, "topic %s: created, 1 partition\n", dead_topic);
    assert_contains(child_output(first), line);
    assert_contains(child_output(first), "source flights: added");
    assert_contains(child_output(first), "view by_origin: added, version 1\n");
    assert_ok(kafka_topic_partitions(properties, topic, 15000, &partitions, &error));
    assert_int_equal(partitions, 3);
    assert_int_equal(query_int64("SELECT count(*) FROM dovetail_internal.position"
                                 " WHERE base_offset = 0 AND next_offset = 0 AND slice_start = 0"),
                     3);
    int64_t epochs = query_int64("SELECT sum(owner_epoch) FROM dovetail_internal.position");
    struct child *second = RUN(0, "init");
    assert_lacks(child_output(second), "created");
    assert_lacks(child_output(second), "added");
    assert_contains(child_output(second), "tables: unchanged");
    assert_contains(child_output(second), "view by_origin: unchanged, version 1");
    assert_int_equal(query_int64("SELECT sum(owner_epoch) FROM dovetail_internal.position"),
                     epochs);

    /* The file goes, the view stays. */
    assert_int_equal(unlink(path_of("schemas/views/by_origin.json")), 0);
    assert_contains(child_output(RUN(0, "init")), "view by_origin: kept");
}

static void test_inits_at_once(void **state)
{
    (void)state;
    struct child *children[4];
    size_t added = 0;
    for (size_t i = 0; i < 4; i++)
        children[i] = START("dovetail", "init");
    for (size_t i = 0; i < 4; i++) {
        child_expect(children[i], 0);
        added += strstr(child_output(children[i]), "view by_origin: added") != NULL;
    }
    assert_int_equal(added, 1);
    assert_int_equal(query_int64("SELECT count(*) FROM dovetail_internal.view_version"), 1);
}

static void test_init_takes_a_topic_as_it_is(void **state)
{
    (void)state;
    bool created;
    assert_ok(kafka_topic_create(properties, topic, 2, 15000, &created, &error));
    assert_true(created);
    assert_contains(child_output(RUN(0, "init")), "unchanged, 2 partitions");
    assert_int_equal(query_int64("SELECT count(*) FROM dovetail_internal.position"), 2);
}

static void test_a_changed_view_is_a_new_version(void **state)
{
    (void)state;
    RUN(0, "init");
    execute("UPDATE dovetail_internal.position SET next_offset = 5");
    write_text("schemas/views/by_origin.json",
               "{\"view\": \"by_origin\", \"source\": \"flights\","
               " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"},"
               " \"measures\": {\"flights\": \"count(*)\"}}");
    struct child *child = RUN(0, "init");
    assert_contains(child_output(child), "view by_origin: changed, version 2, readable once");
    assert_contains(child_output(RUN(0, "status")), "building");
    /* The topic is what offsets belong to. */
    topic[0] = 'T';
    write_source();
    assert_contains(child_errors(RUN(2, "init")), "topic");
}

/* --- produce --- */

/* All records of one partition, a line each; "-" for no key. */
static char *read_topic(int32_t partition, int64_t end)
{
    struct kafka_consumer *consumer = NULL;
    struct kafka_position position = {.topic = topic, .partition = partition, .offset = 0};
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    assert_ok(kafka_consumer_assign(properties, &position, 1, &consumer, &error));
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    for (int64_t next = 0; next < end;) {
        rd_kafka_message_t *message = NULL;
        assert_true(stack_now_ms() < deadline);
        assert_ok(kafka_consumer_poll(consumer, 500, &message, &error));
        if (message == NULL)
            continue;
        if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            next = message->offset + 1;
            fprintf(out, "%.*s:%.*s\n", message->key != NULL ? (int)message->key_len : 1,
                    message->key != NULL ? (const char *)message->key : "-", (int)message->len,
                    (const char *)message->payload);
        }
        rd_kafka_message_destroy(message);
    }
    kafka_consumer_close(consumer);
    fclose(out);
    return text;
}

static void test_produce(void **state)
{
    (void)state;
    static const char lines[] = "{\"time\": \"2001-01-01T00:00:00Z\", \"origin\": \"JFK\"}\n"
                                "\n"
                                "not JSON \xff\n"
                                "{\"time\": \"2001-01-01T00:00:00Z\", \"origin\": null}\r\n"
                                "{\"time\": \"2001-01-01T00:00:00Z\", \"origin\": \"L\\u0041X\"}";
    RUN(0, "init");
    write_text("lines.jsonl", lines);
    char file[PATH_BYTES];
    snprintf(file, sizeof file, "%s", path_of("lines.jsonl"));
    struct child *child = RUN(0, "produce", "flights", file, "--partition", "1", "--key", "origin",
                              "--offsets", "--rate", "1000");
    char expected[256];
    snprintf(expected, sizeof expected, "produced 4 records\n{\"%s\": [0, 4, 0]}\n", topic);
    assert_string_equal(child_output(child), expected);
    char *records = read_topic(1, 4);
    assert_string_equal(records,
                        "JFK:{\"time\": \"2001-01-01T00:00:00Z\", \"origin\": \"JFK\"}\n"
                        "-:not JSON \xff\n"
                        "-:{\"time\": \"2001-01-01T00:00:00Z\", \"origin\": null}\r\n"
                        "LAX:{\"time\": \"2001-01-01T00:00:00Z\", \"origin\": \"L\\u0041X\"}\n");
    free(records);

    /* The same compressed, in two frames. */
    char packed[2048];
    size_t half = ZSTD_compress(packed, sizeof packed, lines, 30, 3);
    size_t rest =
        ZSTD_compress(packed + half, sizeof packed - half, lines + 30, strlen(lines) - 30, 3);
    assert_false(ZSTD_isError(half) || ZSTD_isError(rest));
    write_bytes("lines.jsonl.zst", packed, half + rest);
    snprintf(file, sizeof file, "%s", path_of("lines.jsonl.zst"));
    assert_contains(child_output(RUN(0, "produce", "flights", file)), "produced 4 records");
    write_bytes("cut.zst", packed, half + rest - 3);
    snprintf(file, sizeof file, "%s", path_of("cut.zst"));
    assert_contains(child_errors(RUN(2, "produce", "flights", file)), "cut off");
    write_bytes("lines.gz", "\x1f\x8b\x08\x00", 4);
    snprintf(file, sizeof file, "%s", path_of("lines.gz"));
    assert_contains(child_errors(RUN(2, "produce", "flights", file)), "cut off");

    assert_contains(child_output(RUN(0, "produce", "flights", "-")), "produced 0 records");
    assert_contains(child_errors(RUN(2, "produce", "ships")), "ships");
    assert_contains(child_errors(RUN(2, "produce", "flights", "/nowhere")), "/nowhere");
    assert_contains(child_errors(RUN(2, "produce", "flights", "--key", "nix")), "nix");
    assert_contains(
        child_errors(RUN(1, "produce", "flights", path_of("lines.jsonl"), "--partition", "77")),
        "artition");
}

static void test_produce_is_interruptible(void **state)
{
    (void)state;
    RUN(0, "init");
    FILE *out = fopen(path_of("many.jsonl"), "w");
    for (int i = 0; i < 100000; i++)
        fputs("{}\n", out);
    fclose(out);
    struct child *child =
        START("dovetail", "produce", "flights", path_of("many.jsonl"), "--rate", "50");
    stack_sleep_ms(500);
    child_signal(child, SIGTERM);
    child_expect(child, 0);
    assert_contains(child_output(child), "produced ");
}

static void test_produce_without_kafka(void **state)
{
    (void)state;
    char config[PATH_BYTES];
    write_config("lonely.json", "127.0.0.1:1");
    FILE *out = fopen(path_of("line.jsonl"), "w");
    fputs("{}\n", out);
    fclose(out);
    snprintf(config, sizeof config, "%s", path_of("lonely.json"));
    struct child *child =
        START("dovetail", "produce", "flights", path_of("line.jsonl"), "--config", config);
    stack_sleep_ms(500);
    child_signal(child, SIGTERM);
    child_expect(child, 1);
    assert_contains(child_output(child), "produced 0 records");
    assert_contains(child_errors(child), "1 records are not acknowledged");
}

/* --- query --- */

static void test_query_without_layers(void **state)
{
    (void)state;
    assert_contains(child_errors(RUN(2, "query", "by_origin")), "dovetail init");
    RUN(0, "init");
    json_t *empty = json_output(RUN(0, "query", "by_origin", "--format", "json"));
    assert_int_equal(json_array_size(json_object_get(empty, "rows")), 0);
    assert_non_null(json_object_get(empty, "receipt"));
    json_decref(empty);
    execute("INSERT INTO dovetail_internal.speed_1"
            " (_partition, _slice_start, _group_id, window_start, origin, flights, late, total,"
            "  \"mean$sum\", \"mean$n\", fares, dearest) VALUES"
            " (0, 0, 1, '2001-01-01T00:00Z', 'A', 2, 1, 30, 30, 2, 1.50, 1.25),"
            " (1, 0, 1, '2001-01-01T00:00Z', 'A', 1, 0, 10, 10, 1, 0.25, 0.25),"
            " (0, 0, 2, '2001-01-01T00:00Z', '', 4, 0, NULL, 0, 0, NULL, NULL),"
            " (0, 0, 3, '2001-01-01T01:00Z', NULL, 8, 0, 0, 0, 1, 0, 0)");
    const char *csv = child_output(RUN(0, "query", "by_origin", "--measures", "flights,mean",
                                       "--where", "origin=A", "--format", "csv"));
    assert_contains(csv, "2001-01-01T00:00:00Z");
    assert_contains(csv, ",A,3,13.3333333333333333,");
    assert_contains(
        child_output(RUN(0, "query", "by_origin", "--where", "origin=", "--format", "csv")), ",4,");
    assert_contains(
        child_output(RUN(0, "query", "by_origin", "--where-null", "origin", "--format", "csv")),
        ",8,");
    json_t *rolled = json_output(RUN(0, "query", "by_origin", "--group-by", "", "--granularity",
                                     "1d", "--measures", "flights", "--from", "2001-01-01", "--to",
                                     "2001-01-02", "--format", "json"));
    json_t *row = json_array_get(json_object_get(rolled, "rows"), 0);
    assert_int_equal(json_integer_value(json_object_get(row, "flights")), 15);
    json_decref(rolled);
    const char *ordered =
        child_output(RUN(0, "query", "by_origin", "--order", "-flights", "--limit", "1",
                         "--measures", "flights", "--format", "csv"));
    assert_contains(ordered, ",8,");
    assert_lacks(ordered, ",4,");
    assert_contains(child_output(RUN(0, "query", "by_origin")), "cut-offs");
    assert_contains(child_errors(RUN(2, "query", "by_origin", "--where", "origin")), "KEY=VALUE");
    assert_contains(child_errors(RUN(2, "query", "by_origin", "--granularity", "90m")),
                    "granularity");
    assert_contains(child_errors(RUN(2, "query", "by_origin", "--where", "nix=1")), "nix");
    assert_contains(child_errors(RUN(2, "query", "by_destination")), "by_destination");
}

/* --- verify --- */

/* Good, late, strange and bad records. Lines that begin with '#' are made longer below. */
static const char *const records[] = {
    "{\"time\": \"2001-01-01T00:10:00Z\", \"delay\": 20, \"fare\": 0.1, \"origin\": \"JFK\", "
    "\"paid\": true}",
    "{\"time\": \"2001-01-01T00:20:00Z\", \"delay\": 5, \"fare\": 0.2, \"origin\": \"JFK\", "
    "\"at\": {\"gate\": 3}}",
    "{\"time\": \"2001-01-01 01:20:00.1234567+01:00\", \"delay\": -7, \"fare\": 1e-38, \"origin\": "
    "\"JFK\"}",
    "{\"time\": \"1999-12-31t23:59:60z\", \"delay\": null, \"origin\": null}",
    "{\"time\": \"0000-12-31T23:30:00-01:00\", \"delay\": 1, \"origin\": \"first\", \"sold\": "
    "-1.5}",
    "{\"time\": \"9999-12-31T23:59:59.9999999Z\", \"delay\": 1, \"origin\": \"last\", \"sold\": "
    "1e3}",
    "{\"time\": \"1969-12-31T23:59:59.999999Z\", \"origin\": \"\\ud83d\\ude00\", \"sold\": "
    "-0.0001}",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"delay\": 9223372036854775807, \"origin\": \"JFK\", "
    "\"paid\": false}",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"delay\": 9223372036854775807, \"origin\": \"JFK\", "
    "\"paid\": true}",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"delay\": -9223372036854775808, \"fare\": "
    "99999999999999999999999999999999999999}",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"delay\": 2, \"fare\": "
    "-99999999999999999999999999999999999999, \"origin\": \"x\"}",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"delay\": 1, \"origin\": \"gate 0\", \"at\": {\"gate\": "
    "0}}",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"origin\": \"gate 0, not asked\", \"at\": {\"gate\": "
    "0}}",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"delay\": 1, \"fare\": 1.50, \"origin\": \"dup\", "
    "\"origin\": \"dup2\"}",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"delay\": 4, \"at\": {\"gate\": 7}, \"at\": 3, "
    "\"origin\": \"hidden\"}",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"delay\": 1, \"origin\": \"zero\", \"fare\": "
    "0e999999999999}",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"delay\": 1, \"origin\": \"nul elsewhere\", \"note\": "
    "\"\\u0000\"}",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"delay\": 1, \"origin\": \"\\\\u0000\", \"e\": "
    "1e999999}",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"delay\": 1, \"origin\": \"\xee\x80\x80\", \"note\": "
    "\"\\u0000\\ue000\"}",
    " \t{\"time\":\"\\u0032001-01-01T00:00:00Z\",\"\\u0064elay\":8,\"origin\":\"JFK\"} \r",
    "#good 1000",
    "#good 1001",
    "#good 2000",
    "#good 2001",
    "#deep 511",
    "#deep 512",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"delay\": 1, \"origin\": \"nul \\u0000\"}",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"delay\": 1, \"note\": \"\\ud800\"}",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"delay\": 1, \"origin\": \"\xff\"}",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"delay\": 1, \"origin\": \"\xed\xa0\x80\"}",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"delay\": 1.0}",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"delay\": \"1\"}",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"delay\": 9223372036854775808}",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"fare\": 1e-39}",
    "{\"time\": \"2001-01-01T00:00:00Z\", \"fare\": 100000000000000000000000000000000000000}",
    "{\"time\": \"2001-02-29T00:00:00Z\"}",
    "{\"time\": \"9999-12-31T23:59:60Z\"}",
    "{\"time\": \"0000-12-31T23:59:59Z\"}",
    "{\"time\": \"2001-01-01T00:00:00\"}",
    "{\"time\": null}",
    "{}",
    "[]",
    "null",
    "1",
    "\"\"",
    "{",
    "not JSON",
    "{\"a\": 1,}",
    "{\"a\": 01}",
    "\xef\xbb\xbf{\"time\": \"2001-01-01T00:00:00Z\"}",
    "{\"time\": \"2001-01-01T00:00:00Z\"} x",
};

enum { RECORD_COUNT = sizeof records / sizeof records[0] };

static void write_record(FILE *out, const char *record)
{
    int count = 0;
    if (sscanf(record, "#good %d", &count) == 1) {
        fprintf(out, "{\"time\": \"2001-01-01T05:00:00Z\", \"delay\": 1, \"origin\": \"%0*d\"}\n",
                count, 0);
    } else if (sscanf(record, "#deep %d", &count) == 1) {
        fputs("{\"time\": \"2001-01-01T06:00:00Z\", \"delay\": 1, \"note\": ", out);
        for (int i = 0; i < count; i++)
            fputc('[', out);
        for (int i = 0; i < count; i++)
            fputc(']', out);
        fputs("}\n", out);
    } else {
        fprintf(out, "%s\n", record);
    }
}

/* Every record once or several times, so that sums have terms. */
static void produce_records(int repeat)
{
    char file[PATH_BYTES];
    char partition[8];
    for (int p = 0; p < 3; p++) {
        snprintf(file, sizeof file, "%s", path_of("records.jsonl"));
        FILE *out = fopen(file, "w");
        assert_non_null(out);
        for (int r = 0; r < repeat; r++)
            for (size_t i = 0; i < RECORD_COUNT; i++)
                write_record(out, records[i]);
        fclose(out);
        snprintf(partition, sizeof partition, "%d", p);
        RUN(0, "produce", "flights", file, "--partition", partition);
    }
}

static void wait_for_position(int64_t total)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    while (query_int64("SELECT sum(next_offset) FROM dovetail_internal.position") < total) {
        assert_true(stack_now_ms() < deadline);
        stack_sleep_ms(50);
    }
}

static void expect_identical(int64_t record_count)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, " rows, %" PRId64 " records, run ", record_count);
    static const char *const views[] = {"by_origin", "ratios"};
    for (size_t i = 0; i < 2; i++) {
        const char *output = child_output(RUN(0, "verify", views[i]));
        assert_contains(output, "identical: ");
        assert_contains(output, wanted);
    }
}

static void test_verify(void **state)
{
    (void)state;
    const int64_t once = RECORD_COUNT * INT64_C(3);
    write_text("schemas/views/ratios.json", ratios_text);
    RUN(0, "init");
    expect_identical(0);
    produce_records(1);
    expect_identical(0); /* nobody has counted them: P is 0 */
    struct child *speed = START("dovetail-speed", "--instance", "one");
    wait_for_position(once);
    expect_identical(once);
    child_expect(START("dovetail-batch", "run"), 0);
    expect_identical(once);
    produce_records(2);
    wait_for_position(3 * once);
    expect_identical(3 * once);
    assert_contains(child_output(RUN(0, "verify", "by_origin", "--from", "2001-01-01", "--to",
                                     "2001-01-01T01:00:00Z")),
                    "identical: ");
    assert_contains(child_output(RUN(0, "runs", "list")), "current");
    json_t *status = json_output(RUN(0, "status", "--format", "json"));
    size_t index;
    json_t *partition;
    int64_t dead = 0;
    json_array_foreach (json_object_get(status, "partitions"), index, partition) {
        json_t *ledger = json_object_get(partition, "ledger");
        assert_int_equal(json_integer_value(json_object_get(partition, "lag")), 0);
        assert_true(json_is_true(json_object_get(partition, "owner_alive")));
        assert_true(json_is_true(json_object_get(ledger, "balanced")));
        assert_int_equal(json_integer_value(json_object_get(ledger, "consumed")), 3 * RECORD_COUNT);
        dead += json_integer_value(json_object_get(ledger, "dead_lettered"));
    }
    assert_true(dead > 0);
    json_decref(status);
    json_t *letters = json_output(
        RUN(0, "dead-letters", "list", "flights", "--limit", "100000", "--format", "json"));
    assert_true((int64_t)json_array_size(letters) >= dead);
    json_decref(letters);
    const char *table = child_output(RUN(0, "dead-letters", "list"));
    assert_contains(table, "division by zero");
    assert_contains(table, "not JSON");
    child_stop(speed);
    assert_contains(child_output(RUN(0, "status")), "(gone)");
}

static void test_verify_finds_differences(void **state)
{
    (void)state;
    write_text("schemas/views/ratios.json", ratios_text);
    RUN(0, "init");
    produce_records(1);
    struct child *speed = START("dovetail-speed", "--instance", "one");
    wait_for_position(RECORD_COUNT * INT64_C(3));
    child_stop(speed);
    expect_identical(RECORD_COUNT * INT64_C(3));

    /* One value, by one unit of its last digit. */
    execute("UPDATE dovetail_internal.speed_1 SET fares = fares + 1e-38 WHERE origin = 'JFK'"
            " AND window_start = '2001-01-01T00:00Z' AND _partition = 1");
    const char *output = child_output(RUN(1, "verify", "by_origin"));
    assert_contains(output, "different: 1 difference,");
    assert_contains(output, "2001-01-01T00:00:00Z");
    assert_contains(output, "origin=JFK");
    assert_contains(output, "fares");
    assert_contains(output, "0.90000000000000000000000000000000000004");
    assert_contains(output, "0.90000000000000000000000000000000000003");
    assert_contains(child_output(RUN(0, "verify", "by_origin", "--from", "2001-01-02")),
                    "identical: ");
    assert_contains(child_output(RUN(0, "verify", "ratios")), "identical: ");
    execute("UPDATE dovetail_internal.speed_1 SET fares = fares - 1e-38 WHERE origin = 'JFK'"
            " AND window_start = '2001-01-01T00:00Z' AND _partition = 1");

    /* A row too few, a row too many, NULL for a value. */
    execute("DELETE FROM dovetail_internal.speed_1 WHERE origin = 'zero'");
    output = child_output(RUN(1, "verify", "by_origin"));
    assert_contains(output, "origin=zero");
    assert_contains(output, "missing");
    execute(
        "INSERT INTO dovetail_internal.speed_1 (_partition, _slice_start, _group_id, window_start,"
        " origin, flights, late, \"mean$sum\", \"mean$n\") SELECT 0, max(_slice_start), 99999,"
        " '2050-01-01T00:00Z', 'ghost', 1, 0, 0, 0 FROM dovetail_internal.speed_1 WHERE _partition "
        "= 0");
    output =
        child_output(RUN(1, "verify", "by_origin", "--from", "2050-01-01", "--to", "2051-01-01"));
    assert_contains(output, "origin=ghost");
    assert_contains(output, "different: 1 difference, 1 row,");
    execute("UPDATE dovetail_internal.speed_1 SET dearest = NULL WHERE origin = 'dup2'");
    output = child_output(RUN(1, "verify", "by_origin"));
    assert_contains(output, "dearest");
    assert_contains(output, "NULL");
    /* Nothing of it stays, once the server has seen the connection end. */
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    while (query_int64("SELECT count(*) FROM pg_class WHERE relname LIKE 'verify_%'") > 0) {
        assert_true(stack_now_ms() < deadline);
        stack_sleep_ms(20);
    }
    assert_contains(child_errors(RUN(2, "verify", "nothing")), "nothing");
    assert_contains(child_errors(RUN(2, "verify", "by_origin", "--from", "yesterday")), "from");
}

/* --- status --- */

static void test_status_without_kafka(void **state)
{
    (void)state;
    char config[PATH_BYTES];
    RUN(0, "init");
    write_config("lonely.json", "127.0.0.1:1");
    snprintf(config, sizeof config, "%s", path_of("lonely.json"));
    struct child *child = RUN(1, "status", "--format", "json", "--config", config);
    json_t *status = json_output(child);
    json_t *partitions = json_object_get(status, "partitions");
    assert_int_equal(json_array_size(partitions), 3);
    assert_true(json_is_null(json_object_get(json_array_get(partitions, 0), "end")));
    json_decref(status);
    assert_contains(child_errors(child), "Kafka");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_help),
        TEST(test_validate_names_each_fault),
        TEST(test_init_twice),
        TEST(test_inits_at_once),
        TEST(test_init_takes_a_topic_as_it_is),
        TEST(test_a_changed_view_is_a_new_version),
        TEST(test_produce),
        TEST(test_produce_is_interruptible),
        TEST(test_produce_without_kafka),
        TEST(test_query_without_layers),
        TEST(test_verify),
        TEST(test_verify_finds_differences),
        TEST(test_status_without_kafka),
    };
    return cmocka_run_group_tests_name("cli", tests, NULL, NULL);
}
