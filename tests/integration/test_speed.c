/* dovetail-speed against a real Kafka and a real PostgreSQL: whatever happens to the process, its
 * rows are the fold of the records below P, and the ledger balances.
 *
 * Each test has a database and topics of its own and starts the program as a child. The model is
 * naive: every produced event also goes into a table, and PostgreSQL groups it. Nothing asserts a
 * time; waits are polls for a condition, bounded so that a failure ends.
 *
 * Needs DOVETAIL_KAFKA and DOVETAIL_POSTGRES; DOVETAIL_BUILD (default "build") has the program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/catalog/catalog.h"
#include "core/kafka/kafka.h"
#include "core/program/program.h"
#include "tests/support/stack.h"

enum { WAIT_MS = 60000, STEP_MS = 20, PARTITIONS = 3, PROCESSES_MAX = 4 };

#define assert_status(expected, call)                                                              \
    do {                                                                                           \
        enum status got = (call);                                                                  \
        if (got != (expected))                                                                     \
            fail_msg("%s: status %d, text '%s'", #call, (int)got, error.text);                     \
    } while (0)
#define assert_ok(call) assert_status(STATUS_OK, call)

static struct error error;
static json_t *properties;
static char directory[64];
static char database[48];
static char topic[64];
static char dead_topic[72];
static char *conninfo; /* of the test's database */
static struct postgres *postgres;
static struct kafka_producer *producer;
static int64_t produced[PARTITIONS]; /* end offsets */
static unsigned next_random;
static unsigned origins; /* how many different ones are produced */
static pid_t processes[PROCESSES_MAX];

/* --- the world of one test --- */

static const char *program_path(void)
{
    static char path[256];
    const char *build = getenv("DOVETAIL_BUILD");
    snprintf(path, sizeof path, "%s/dovetail-speed", build != NULL ? build : "build");
    return path;
}

static json_t *source_json(void)
{
    return json_pack("{s:s, s:s, s:s, s:{s:s, s:s}, s:{s:s, s:{s:s, s:b}, s:s, s:s}}", "source",
                     "flights", "topic", topic, "dead_letter_topic", dead_topic, "event_time",
                     "field", "time", "format", "epoch_ms", "fields", "time", "timestamp", "delay",
                     "type", "integer", "nullable", 1, "distance", "integer", "origin", "string");
}

static json_t *by_origin_json(void)
{
    return json_pack("{s:s, s:s, s:s, s:[s], s:{s:s, s:s}, s:{s:s, s:s, s:s}}", "view", "by_origin",
                     "source", "flights", "where", "distance > 0", "group_by", "origin", "window",
                     "type", "tumbling", "size", "1h", "measures", "flights", "count(*)", "total",
                     "sum(delay)", "worst", "max(delay)");
}

/* Fails on every record with distance 13. */
static json_t *ratio_json(void)
{
    return json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s}}", "view", "ratio", "source", "flights",
                     "window", "type", "tumbling", "size", "1d", "measures", "total",
                     "sum(1000 / (distance - 13))");
}

static void register_view(json_t *json)
{
    json_t *source_definition = source_json();
    struct source *source = NULL;
    struct view *view = NULL;
    enum catalog_change change;
    assert_ok(source_create(source_definition, "test", &source, &error));
    assert_ok(view_create(json, "test", source, &view, &error));
    assert_ok(postgres_execute(postgres, "BEGIN", &error));
    assert_ok(catalog_register_source(postgres, source, &change, &error));
    assert_ok(catalog_register_view(postgres, view, &change, &error));
    assert_ok(postgres_execute(postgres, "COMMIT", &error));
    view_destroy(view);
    source_destroy(source);
    json_decref(json);
    json_decref(source_definition);
}

static void write_config(const char *name, const char *server, int slice_interval_ms,
                         int memory_bytes)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    json_t *config =
        json_pack("{s:O, s:s, s:s, s:{s:i, s:i, s:i}}", "kafka", properties, "postgres", server,
                  "schemas", directory, "speed", "flush_interval_ms", 20, "slice_interval_ms",
                  slice_interval_ms, "memory", memory_bytes);
    assert_non_null(config);
    assert_int_equal(json_dump_file(config, path, 0), 0);
    json_decref(config);
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

static int set_up(void **state)
{
    (void)state;
    const char *server = getenv("DOVETAIL_POSTGRES");
    const char *brokers = getenv("DOVETAIL_KAFKA");
    if (server == NULL || brokers == NULL) {
        fprintf(stderr, "DOVETAIL_KAFKA, DOVETAIL_POSTGRES: run `make stack-up`, load .run/env\n");
        return -1;
    }
    uint32_t number = 0;
    bool created;
    assert_int_equal(getrandom(&number, sizeof number, 0), (ssize_t)sizeof number);
    next_random = number;
    origins = 30;
    snprintf(directory, sizeof directory, "/tmp/dovetail-test-%08x", number);
    snprintf(database, sizeof database, "dovetail_test_%08x", number);
    snprintf(topic, sizeof topic, "test-speed-%08x", number);
    snprintf(dead_topic, sizeof dead_topic, "%s.dead", topic);
    assert_int_equal(mkdir(directory, 0700), 0);
    properties = json_pack("{s:s}", "bootstrap.servers", brokers);
    struct postgres *maintenance = NULL;
    assert_ok(postgres_connect(server, "test-speed", &maintenance, &error));
    assert_ok(postgres_executef(maintenance, &error, "CREATE DATABASE %s", database));
    postgres_close(maintenance);
    assert_true(asprintf(&conninfo, "%s dbname=%s", server, database) > 0);
    assert_ok(postgres_connect(conninfo, "test-speed", &postgres, &error));
    assert_ok(catalog_migrate(postgres, &created, &error));
    assert_ok(kafka_topic_create(properties, topic, PARTITIONS, WAIT_MS, &created, &error));
    assert_ok(kafka_topic_create(properties, dead_topic, 1, WAIT_MS, &created, &error));
    assert_ok(kafka_producer_create(properties, &producer, &error));
    register_view(by_origin_json());
    execute("CREATE TABLE model (partition integer, at_offset bigint, time_ms bigint, "
            "delay bigint, distance bigint, origin text)");
    memset(produced, 0, sizeof produced);
    write_config("dovetail.json", conninfo, 300, 64 << 20);
    write_config("long-slices.json", conninfo, 3600000, 64 << 20);
    write_config("small.json", conninfo, 100, 1 << 20);
    /* The group takes nothing from the dead while a test waits. */
    json_object_set_new(properties, "session.timeout.ms", json_integer(4 * WAIT_MS));
    write_config("patient.json", conninfo, 300, 64 << 20);
    json_object_del(properties, "session.timeout.ms");
    return 0;
}

static void delete_topics(bool dead_alone)
{
    char reason[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", getenv("DOVETAIL_KAFKA"), reason, sizeof reason);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof reason);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_DeleteTopic_t *requests[2] = {rd_kafka_DeleteTopic_new(dead_topic),
                                           rd_kafka_DeleteTopic_new(topic)};
    rd_kafka_DeleteTopics(rk, requests, dead_alone ? 1 : 2, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, WAIT_MS);
    if (event != NULL)
        rd_kafka_event_destroy(event);
    rd_kafka_DeleteTopic_destroy_array(requests, 2);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < PROCESSES_MAX; i++) {
        if (processes[i] <= 0)
            continue;
        kill(processes[i], SIGKILL);
        (void)stack_reap(processes[i], "dovetail-speed");
        processes[i] = 0;
    }
    kafka_producer_destroy(producer);
    postgres_close(postgres);
    struct postgres *maintenance = NULL;
    enum status status =
        postgres_connect(getenv("DOVETAIL_POSTGRES"), "test-speed", &maintenance, &error);
    if (status == STATUS_OK)
        status = postgres_executef(maintenance, &error, "DROP DATABASE %s WITH (FORCE)", database);
    postgres_close(maintenance);
    delete_topics(false);
    json_decref(properties);
    free(conninfo);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return status == STATUS_OK && system(command) == 0 ? 0 : -1;
}

/* --- the program --- */

static char *log_path(size_t process)
{
    static char path[96];
    snprintf(path, sizeof path, "%s/log.%zu", directory, process);
    return path;
}

/* `instance` may be NULL. */
static void start_named(size_t process, const char *config, const char *instance)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, config);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int log = open(log_path(process), O_WRONLY | O_CREAT | O_APPEND, 0600);
        dup2(log, STDERR_FILENO);
        execl(program_path(), program_path(), "--config", path,
              instance != NULL ? "--instance" : NULL, instance, (char *)NULL);
        _exit(127);
    }
    processes[process] = pid;
}

static void start_with(size_t process, const char *config)
{
    start_named(process, config, NULL);
}

static void start_process(size_t process)
{
    start_with(process, "dovetail.json");
}

static void show_logs(void)
{
    char command[160];
    snprintf(command, sizeof command, "tail -n 40 %s/log.* >&2", directory);
    if (system(command) != 0)
        fprintf(stderr, "no logs\n");
}

static int wait_for_exit(size_t process)
{
    int state = stack_reap(processes[process], "dovetail-speed");
    processes[process] = 0;
    return state;
}

static void kill_process(size_t process)
{
    assert_int_equal(kill(processes[process], SIGKILL), 0);
    assert_true(WIFSIGNALED(wait_for_exit(process)));
}

static void stop_process(size_t process)
{
    assert_int_equal(kill(processes[process], SIGTERM), 0);
    int state = wait_for_exit(process);
    if (!WIFEXITED(state) || WEXITSTATUS(state) != 0) {
        show_logs();
        fail_msg("dovetail-speed ended with wait status %d", state);
    }
}

static bool log_has(size_t process, const char *text)
{
    char command[256];
    snprintf(command, sizeof command, "grep -q '%s' %s", text, log_path(process));
    return system(command) == 0;
}

/* --- events --- */

static unsigned draw(unsigned below)
{
    next_random = next_random * 1103515245u + 12345u;
    return (next_random >> 8) % below;
}

/* Produces random events, and puts the same into the model. */
static void produce(int partition, int count)
{
    assert_ok(postgres_copy_in_begin(postgres, "COPY model FROM STDIN", &error));
    for (int i = 0; i < count; i++) {
        char value[256];
        char row[256];
        int64_t time_ms = INT64_C(978307200000) + (int64_t)draw(24 * 3600) * 1000;
        int distance = (int)draw(40) - 2;
        int delay = (int)draw(200) - 60;
        char delay_text[16] = "null";
        if (distance == 13)
            distance = 14; /* see ratio_json */
        if (draw(10) > 0)
            snprintf(delay_text, sizeof delay_text, "%d", delay);
        int length = snprintf(value, sizeof value,
                              "{\"time\":%lld,\"delay\":%s,\"distance\":%d,\"origin\":\"O%u\"}",
                              (long long)time_ms, delay_text, distance, draw(origins));
        const char *origin = strrchr(value, ':') + 2;
        snprintf(row, sizeof row, "%d\t%lld\t%lld\t%s\t%d\t%.*s\n", partition,
                 (long long)produced[partition]++, (long long)time_ms,
                 delay_text[0] == 'n' ? "\\N" : delay_text, distance, (int)strcspn(origin, "\""),
                 origin);
        assert_ok(kafka_producer_send(producer, topic, partition, NULL, 0, value, (size_t)length,
                                      NULL, &error));
        assert_ok(postgres_copy_in_data(postgres, row, strlen(row), &error));
    }
    assert_ok(postgres_copy_in_end(postgres, &error));
    assert_ok(kafka_producer_flush(producer, WAIT_MS, &error));
}

static void produce_everywhere(int count)
{
    for (int partition = 0; partition < PARTITIONS; partition++)
        produce(partition, count);
}

/* One record that is not in the model. */
static void produce_raw(int partition, const char *key, const char *value,
                        rd_kafka_headers_t *headers)
{
    assert_ok(kafka_producer_send(producer, topic, partition, key, key != NULL ? strlen(key) : 0,
                                  value, value != NULL ? strlen(value) : 0, headers, &error));
    assert_ok(kafka_producer_flush(producer, WAIT_MS, &error));
    produced[partition]++;
}

/* --- waiting and comparing --- */

static void wait_until(const char *what, bool (*condition)(const void *), const void *argument)
{
    int64_t end_us = program_monotonic_us() + WAIT_MS * INT64_C(1000);
    while (!condition(argument)) {
        if (program_monotonic_us() > end_us) {
            show_logs();
            fail_msg("never happened: %s", what);
        }
        usleep(STEP_MS * 1000);
    }
}

static bool sql_is_true(const void *sql)
{
    return query_int64(sql) != 0;
}

static void wait_until_sql(const char *sql)
{
    wait_until(sql, sql_is_true, sql);
}

static void wait_until_caught_up(void)
{
    char sql[512];
    snprintf(sql, sizeof sql,
             "SELECT (count(*) = 3 AND bool_and(next_offset = (ARRAY[%lld, %lld, %lld])"
             "[partition + 1]))::integer FROM dovetail_internal.position",
             (long long)produced[0], (long long)produced[1], (long long)produced[2]);
    wait_until_sql(sql);
}

static bool log_has_line(const void *text)
{
    return log_has(0, text);
}

/* Rows of a version in the slices of `slices` against the model's events of `events`. */
static void assert_rows(int version, const char *slices, const char *events)
{
    char sql[2048];
    snprintf(
        sql, sizeof sql,
        "WITH speed AS ("
        "    SELECT window_start, origin, sum(flights)::bigint AS flights, sum(total) AS total,"
        "        max(worst) AS worst"
        "    FROM dovetail_internal.speed_%d WHERE %s GROUP BY 1, 2), "
        "model AS ("
        "    SELECT to_timestamp(time_ms / 3600000 * 3600) AS window_start, origin,"
        "        count(*) AS flights, sum(delay) AS total, max(delay) AS worst"
        "    FROM model WHERE distance > 0 AND %s GROUP BY 1, 2) "
        "SELECT count(*) FROM ((SELECT * FROM speed EXCEPT SELECT * FROM model) UNION ALL "
        "    (SELECT * FROM model EXCEPT SELECT * FROM speed)) AS difference",
        version, slices, events);
    int64_t differences = query_int64(sql);
    if (differences != 0) {
        show_logs();
        fail_msg("%lld rows differ (slices %s)", (long long)differences, slices);
    }
}

/* Everything that was produced is in the rows once, and in the ledgers. */
static void assert_exact(void)
{
    wait_until_caught_up();
    assert_rows(1, "true", "true");
    assert_int_equal(query_int64("SELECT count(*) FROM dovetail_internal.position "
                                 "WHERE consumed <> counted + filtered + dead_lettered "
                                 "OR consumed <> next_offset - base_offset"),
                     0);
    assert_int_equal(query_int64("SELECT sum(counted) FROM dovetail_internal.view_ledger "
                                 "WHERE version = 1"),
                     query_int64("SELECT count(*) FROM model WHERE distance > 0"));
    assert_int_equal(query_int64("SELECT sum(filtered) FROM dovetail_internal.view_ledger "
                                 "WHERE version = 1"),
                     query_int64("SELECT count(*) FROM model WHERE distance <= 0"));
}

/* --- tests --- */

static void test_plain(void **state)
{
    (void)state;
    produce_everywhere(3000);
    start_process(0);
    wait_until_caught_up();
    for (int i = 0; i < 20; i++)
        produce_everywhere(150);
    assert_exact();
    /* An idle process keeps saying that it has everything. */
    execute("CREATE TABLE seen AS SELECT min(as_of) AS as_of FROM dovetail_internal.position");
    wait_until_sql("SELECT (p.as_of > s.as_of)::integer FROM seen AS s, "
                   "(SELECT min(as_of) AS as_of FROM dovetail_internal.position) AS p");
    stop_process(0);
    produce_everywhere(500);
    start_process(0);
    assert_exact();
    /* Slices begin on a timer, too, wherever records come. */
    for (int i = 0; i < 1000 && query_int64("SELECT count(DISTINCT _slice_start) FROM "
                                            "dovetail_internal.speed_1 WHERE _partition = 0") < 6;
         i++)
        produce_everywhere(5);
    assert_exact();
    assert_true(query_int64("SELECT count(DISTINCT _slice_start) "
                            "FROM dovetail_internal.speed_1 WHERE _partition = 0") >= 6);
    stop_process(0);
}

static void test_kill(void **state)
{
    (void)state;
    produce_everywhere(2000);
    for (int round = 0; round < 3; round++) {
        start_process(0);
        produce_everywhere(20000);
        char sql[256];
        snprintf(sql, sizeof sql,
                 "SELECT (count(*) = 3 AND sum(next_offset) > %lld)::integer "
                 "FROM dovetail_internal.position",
                 (long long)(produced[0] + produced[1] + produced[2] - 55000));
        wait_until_sql(sql);
        kill_process(0);
    }
    produce_everywhere(100);
    start_process(0);
    assert_exact();
    stop_process(0);
}

/* Far behind the end every flush closes its slices, whose rows have no address then; at the end
 * slices stay open, and a group of one has one row. */
static void test_backlog(void **state)
{
    (void)state;
    enum { BACKLOG = 150000 };
    produce(0, BACKLOG);
    start_process(0);
    wait_until_sql("SELECT (sum(next_offset) > 20000)::integer FROM dovetail_internal.position");
    kill_process(0);
    start_process(0);
    assert_exact();
    assert_true(query_int64("SELECT sum(flights) FROM dovetail_internal.speed_1 "
                            "WHERE _group_id IS NULL AND _partition = 0") > BACKLOG / 2);
    for (int i = 0; i < 20; i++) {
        produce_everywhere(100);
        wait_until_caught_up();
    }
    assert_exact();
    assert_int_equal(query_int64("SELECT count(*) FROM (SELECT FROM dovetail_internal.speed_1 "
                                 "GROUP BY _partition, _slice_start, window_start, origin "
                                 "HAVING count(*) > 1) AS twice"),
                     0);
    stop_process(0);
}

static void test_zombie(void **state)
{
    (void)state;
    start_process(0);
    produce_everywhere(1000);
    wait_until_caught_up();
    assert_int_equal(kill(processes[0], SIGSTOP), 0);
    execute("UPDATE dovetail_internal.position SET owner_epoch = owner_epoch + 1, "
            "owner = 'other', slice_start = next_offset");
    execute("CREATE TABLE before AS SELECT topic, partition, next_offset, consumed "
            "FROM dovetail_internal.position");
    produce_everywhere(1000);
    assert_int_equal(kill(processes[0], SIGCONT), 0);
    wait_until("the zombie is fenced", log_has_line, "fenced, nothing was written");
    wait_until("it lets go", log_has_line, "belongs to another process");
    assert_int_equal(
        query_int64("SELECT count(*) FROM dovetail_internal.position AS p "
                    "JOIN before AS b USING (topic, partition) "
                    "WHERE (p.next_offset, p.consumed) <> (b.next_offset, b.consumed)"),
        0);
    assert_rows(1, "true", "at_offset < 1000");
    /* The group gives the partitions anew as soon as its members change. */
    start_process(1);
    assert_exact();
    stop_process(0);
    produce_everywhere(10);
    assert_exact();
    stop_process(1);
}

static void test_owner_looks_again(void **state)
{
    (void)state;
    start_process(0);
    produce_everywhere(1000);
    wait_until_caught_up();
    execute("UPDATE dovetail_internal.position SET owner_epoch = owner_epoch + 1");
    produce_everywhere(1000);
    assert_exact();
    assert_true(log_has(0, "fenced, nothing was written"));
    stop_process(0);
}

/* Dead letters: what each must look like. */
struct bad_record {
    const char *key;
    const char *value;
    const char *reason; /* part of it */
    const char *view;
};

static const struct bad_record bad_records[] = {
    {"k1", "{\"time\":978307200000,", "", NULL},
    {"k2", "[1]", "", NULL},
    {"k3", "{\"time\":978307200000,\"delay\":1,\"distance\":5}", "origin", NULL},
    {"k4", "{\"time\":978307200000,\"delay\":\"x\",\"distance\":5,\"origin\":\"A\"}", "delay",
     NULL},
    {"k5", "{\"time\":978307200000000000,\"delay\":1,\"distance\":5,\"origin\":\"A\"}", "time",
     NULL},
    {"k6", NULL, "no value", NULL},
    {NULL, "", "", NULL},
    {"k8", "{\"time\":978307200000,\"delay\":null,\"distance\":13,\"origin\":\"A\"}", "", "ratio"},
};
enum { BAD_RECORDS = sizeof bad_records / sizeof bad_records[0] };

static const char *header(const rd_kafka_message_t *message, const char *name)
{
    rd_kafka_headers_t *headers = NULL;
    const void *value = NULL;
    size_t length;
    if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR ||
        rd_kafka_header_get_last(headers, name, &value, &length) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return NULL;
    return value; /* librdkafka ends it with a 0 */
}

static void assert_bytes(const void *data, size_t length, const char *expected)
{
    if (expected == NULL) {
        assert_null(data);
        return;
    }
    assert_int_equal(length, strlen(expected));
    assert_memory_equal(data, expected, length);
}

static void check_letter(const rd_kafka_message_t *message)
{
    char number[24];
    int64_t offset = strtoll(header(message, "dovetail.offset"), NULL, 10);
    const struct bad_record *bad = &bad_records[(offset - 100) / 2];
    assert_bytes(message->key, message->key_len, bad->key);
    assert_bytes(message->payload, message->len, bad->value);
    assert_string_equal(header(message, "dovetail.topic"), topic);
    assert_string_equal(header(message, "dovetail.partition"), "1");
    assert_non_null(header(message, "dovetail.timestamp"));
    assert_non_null(strstr(header(message, "dovetail.reason"), bad->reason));
    assert_true(header(message, "dovetail.reason")[0] != '\0');
    if (bad->view == NULL)
        assert_null(header(message, "dovetail.view"));
    else
        assert_string_equal(header(message, "dovetail.view"), bad->view);
    snprintf(number, sizeof number, "%lld", (long long)((offset - 100) / 2));
    assert_string_equal(header(message, "trace"), number);
}

/* Reads the dead-letter topic to its end. */
static void check_letters(void)
{
    struct kafka_consumer *consumer = NULL;
    const struct kafka_position position = {.topic = dead_topic};
    assert_ok(kafka_consumer_assign(properties, &position, 1, &consumer, &error));
    int count = 0;
    for (bool end = false; !end;) {
        rd_kafka_message_t *message = NULL;
        assert_ok(kafka_consumer_poll(consumer, WAIT_MS, &message, &error));
        assert_non_null(message);
        end = message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
        if (!end) {
            check_letter(message);
            count++;
        }
        rd_kafka_message_destroy(message);
    }
    kafka_consumer_close(consumer);
    assert_int_equal(count, BAD_RECORDS);
}

static void test_dead_letters(void **state)
{
    (void)state;
    register_view(ratio_json());
    produce_everywhere(100);
    for (int i = 0; i < BAD_RECORDS; i++) {
        char number[16];
        rd_kafka_headers_t *headers = rd_kafka_headers_new(1);
        snprintf(number, sizeof number, "%d", i);
        rd_kafka_header_add(headers, "trace", -1, number, -1);
        produce_raw(1, bad_records[i].key, bad_records[i].value, headers);
        produce(1, 1);
    }
    /* The record that only one view refuses is counted by the other. */
    execute("INSERT INTO model VALUES (1, -1, 978307200000, NULL, 13, 'A')");
    start_process(0);
    assert_exact();
    assert_int_equal(query_int64("SELECT sum(dead_lettered) FROM dovetail_internal.position"),
                     BAD_RECORDS);
    assert_int_equal(query_int64("SELECT sum(rejected) FROM dovetail_internal.view_ledger "
                                 "WHERE version = 2"),
                     1);
    check_letters();
    stop_process(0);
}

/* --- dead letters that the topic does not take --- */

enum { LARGE = 5000, LETTERS_TOGETHER = 60 };

static void limit_dead_letters(const char *bytes)
{
    char reason[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", getenv("DOVETAIL_KAFKA"), reason, sizeof reason);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof reason);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_ConfigResource_t *resource =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, dead_topic);
    rd_kafka_ConfigResource_set_config(resource, "max.message.bytes", bytes);
    rd_kafka_AlterConfigs(rk, &resource, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, WAIT_MS);
    assert_non_null(event);
    assert_int_equal(rd_kafka_event_error(event), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_event_destroy(event);
    rd_kafka_ConfigResource_destroy(resource);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
}

/* Text that no compression makes small. */
static const char *large_text(void)
{
    static char text[LARGE + 1];
    for (int i = 0; i < LARGE; i++)
        text[i] = (char)('!' + draw(90));
    text[0] = '?'; /* bad in any case */
    return text;
}

/* A bad record, of which the parts in `large` ("vhk") are. */
static void produce_bad(const char *large)
{
    char key[LARGE + 1] = "small";
    rd_kafka_headers_t *headers = rd_kafka_headers_new(1);
    rd_kafka_header_add(headers, "trace", -1, strchr(large, 'h') ? large_text() : "small", -1);
    if (strchr(large, 'k') != NULL)
        memcpy(key, large_text(), sizeof key);
    produce_raw(1, key, strchr(large, 'v') != NULL ? large_text() : "small", headers);
}

/* Counts the letters of which exactly the parts in `withheld` are left out. */
static int count_letters(const char *withheld)
{
    static const struct {
        char part;
        const char *text;
    } parts[] = {{'v', "value: too large for the dead-letter topic"},
                 {'h', "headers: too large for the dead-letter topic"},
                 {'k', "key: too large for the dead-letter topic"}};
    struct kafka_consumer *consumer = NULL;
    const struct kafka_position position = {.topic = dead_topic};
    assert_ok(kafka_consumer_assign(properties, &position, 1, &consumer, &error));
    int count = 0;
    char seen[PARTITIONS * 1000] = {0}; /* letters may come twice */
    for (bool end = false; !end;) {
        rd_kafka_message_t *message = NULL;
        assert_ok(kafka_consumer_poll(consumer, WAIT_MS, &message, &error));
        assert_non_null(message);
        end = message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
        rd_kafka_headers_t *headers = NULL;
        bool matches = !end;
        if (!end)
            assert_int_equal(rd_kafka_message_headers(message, &headers), 0);
        for (size_t i = 0, at = 0; i < 3 && !end; i++) {
            const void *text = NULL;
            size_t length;
            bool wanted = strchr(withheld, parts[i].part) != NULL;
            bool found =
                rd_kafka_header_get(headers, at, "dovetail.withheld", &text, &length) == 0 &&
                strcmp(text, parts[i].text) == 0;
            at += found;
            matches = matches && found == wanted;
        }
        if (matches) {
            assert_bytes(message->payload, message->len,
                         strchr(withheld, 'v') != NULL ? NULL : "small");
            assert_bytes(message->key, message->key_len,
                         strchr(withheld, 'k') != NULL ? NULL : "small");
            if (strchr(withheld, 'h') != NULL)
                assert_null(header(message, "trace"));
            else
                assert_string_equal(header(message, "trace"), "small");
            assert_non_null(header(message, "dovetail.reason"));
            int64_t offset = strtoll(header(message, "dovetail.offset"), NULL, 10);
            count += seen[offset]++ == 0;
        }
        rd_kafka_message_destroy(message);
    }
    kafka_consumer_close(consumer);
    return count;
}

static void test_dead_letters_too_large(void **state)
{
    (void)state;
    static const char *const larges[] = {"v", "h", "k", "vh", "vhk"};
    limit_dead_letters("2000");
    produce_everywhere(100);
    /* Together they are too large, too, and each of them is not. */
    for (int i = 0; i < LETTERS_TOGETHER; i++)
        produce_bad("");
    for (size_t i = 0; i < sizeof larges / sizeof larges[0]; i++) {
        produce_bad(larges[i]);
        produce(1, 5);
    }
    start_process(0);
    assert_exact();
    assert_int_equal(count_letters(""), LETTERS_TOGETHER);
    for (size_t i = 0; i < sizeof larges / sizeof larges[0]; i++)
        assert_int_equal(count_letters(larges[i]), 1);
    assert_true(log_has(0, "dead letters are sent without what is too large"));
    stop_process(0);
}

/* P waits where a letter cannot be delivered. */
static void test_dead_letter_topic_missing(void **state)
{
    (void)state;
    int partitions = 1;
    bool created;
    delete_topics(true);
    while (partitions >= 0)
        assert_ok(kafka_topic_partitions(properties, dead_topic, WAIT_MS, &partitions, &error));
    produce_everywhere(100);
    produce_raw(1, NULL, "{", NULL);
    produce(1, 10);
    start_process(0);
    wait_until("it says so", log_has_line, "dead letters");
    assert_int_equal(query_int64("SELECT count(*) FROM dovetail_internal.position "
                                 "WHERE partition = 1 AND next_offset > 100"),
                     0);
    assert_ok(kafka_topic_create(properties, dead_topic, 1, WAIT_MS, &created, &error));
    assert_exact();
    stop_process(0);
}

/* PostgreSQL does not answer: consumption pauses, and nothing is lost or doubled afterwards. */
static void test_bounded_memory(void **state)
{
    (void)state;
    start_with(0, "small.json");
    produce_everywhere(100);
    wait_until_caught_up();
    execute("BEGIN; SELECT FROM dovetail_internal.position FOR UPDATE");
    for (int i = 0; i < 2000 && !log_has(0, "consumption pauses"); i++)
        produce_everywhere(300);
    assert_true(log_has(0, "consumption pauses"));
    produce_everywhere(3000);
    execute("COMMIT");
    assert_exact();
    assert_true(log_has(0, "consumption goes on"));
    stop_process(0);
}

/* Groups that all differ: what waits for the flusher is bounded before it is encoded, too. */
static void test_bounded_flushes(void **state)
{
    (void)state;
    enum { MEMORY = 16 << 20, ROW_BYTES = 80 /* at least */ };
    origins = 1000000;
    write_config("groups.json", conninfo, 3600000, MEMORY);
    start_with(0, "groups.json");
    produce_everywhere(100);
    wait_until_caught_up();
    execute("BEGIN; SELECT FROM dovetail_internal.position FOR UPDATE");
    produce_everywhere(50000);
    wait_until("consumption pauses", log_has_line, "consumption pauses");
    execute("COMMIT");
    assert_exact();
    assert_true(query_int64("SELECT max(count) FROM (SELECT count(*) FROM "
                            "dovetail_internal.speed_1 GROUP BY xmin) AS flush") <
                MEMORY / 4 / ROW_BYTES);
    stop_process(0);
}

static void test_cut_while_idle(void **state)
{
    (void)state;
    start_with(0, "long-slices.json");
    produce_everywhere(100);
    wait_until_caught_up();
    wait_until_sql("SELECT bool_and(as_of IS NOT NULL)::integer FROM dovetail_internal.position");
    execute("UPDATE dovetail_internal.position SET cut_requested = true; NOTIFY dovetail_cut");
    wait_until_sql("SELECT bool_and(NOT cut_requested AND slice_start = next_offset)::integer "
                   "FROM dovetail_internal.position");
    produce_everywhere(100);
    assert_exact();
    assert_rows(1, "_slice_start = 100", "at_offset >= 100");
    stop_process(0);
}

static void test_planned_cut(void **state)
{
    (void)state;
    start_with(0, "long-slices.json");
    produce_everywhere(100);
    wait_until_caught_up();
    execute("BEGIN; SELECT FROM dovetail_internal.position ORDER BY partition FOR UPDATE; "
            "INSERT INTO dovetail_internal.planned_cut "
            "SELECT topic, partition, 150 + partition FROM dovetail_internal.position; "
            "UPDATE dovetail_internal.position SET owner_epoch = owner_epoch + 1; COMMIT");
    produce_everywhere(100);
    assert_exact();
    assert_rows(1, "_slice_start >= 150 + _partition", "at_offset >= 150 + partition");
    assert_rows(1, "_slice_start < 150 + _partition", "at_offset < 150 + partition");
    stop_process(0);
}

static void test_new_version(void **state)
{
    (void)state;
    start_process(0);
    produce_everywhere(1000);
    wait_until_caught_up(); /* or the new version would cover everything, and replace the old one */
    produce_everywhere(1000);
    json_t *changed = by_origin_json();
    json_object_set_new(json_object_get(changed, "measures"), "best", json_string("min(delay)"));
    register_view(changed);
    produce_everywhere(1000);
    assert_exact();
    /* From its coverage on, everything, wherever P was when it was registered. */
    assert_rows(2, "true",
                "at_offset >= (SELECT c.speed_from FROM dovetail_internal.coverage AS c "
                "WHERE c.version = 2 AND c.partition = model.partition)");
    stop_process(0);
}

/* The connection is lost at any moment, COMMIT included. */
static void test_lost_connections(void **state)
{
    (void)state;
    start_process(0);
    for (int i = 0; i < 60; i++) {
        produce_everywhere(100);
        execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name LIKE 'dovetail-speed%'");
    }
    assert_exact();
    stop_process(0);
}

/* --- a proxy that loses the answers of some COMMITs --- */

struct proxy_link {
    int client;
    int server;
    bool committing;
};

enum { LINKS_MAX = 8, LOSE_EVERY = 5 };

/* True: instead, the COMMIT itself is lost, and the server does not hear that the client is gone.
 */
static bool proxy_keeps_sessions;

static int connect_loopback(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        _exit(1);
    return fd;
}

static void close_link(struct proxy_link *link)
{
    close(link->client);
    if (!link->committing || !proxy_keeps_sessions)
        close(link->server);
    *link = (struct proxy_link){.client = -1, .server = -1};
}

/* What came on one side goes to the other. The simple query COMMIT is 'Q', a length, the text. */
static void forward(struct proxy_link *link, bool from_client)
{
    static unsigned commits;
    static char buffer[1 << 16];
    ssize_t length = read(from_client ? link->client : link->server, buffer, sizeof buffer);
    if (length <= 0 || (!from_client && link->committing)) {
        close_link(link); /* the answer is here: the server has committed */
        return;
    }
    if (from_client && memmem(buffer, (size_t)length, "COMMIT", 7) != NULL)
        link->committing = ++commits % LOSE_EVERY == 0;
    if (link->committing && proxy_keeps_sessions) {
        close_link(link);
        return;
    }
    for (ssize_t at = 0; at < length;) {
        ssize_t written =
            write(from_client ? link->server : link->client, buffer + at, (size_t)(length - at));
        if (written <= 0) {
            close_link(link);
            return;
        }
        at += written;
    }
}

static void run_proxy(int listener, int server_port)
{
    struct proxy_link links[LINKS_MAX];
    for (int i = 0; i < LINKS_MAX; i++)
        links[i] = (struct proxy_link){.client = -1, .server = -1};
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        struct pollfd waits[2 * LINKS_MAX + 1] = {[2 * LINKS_MAX] = {listener, POLLIN, 0}};
        for (int i = 0; i < LINKS_MAX; i++) {
            waits[2 * i] = (struct pollfd){links[i].client, POLLIN, 0};
            waits[2 * i + 1] = (struct pollfd){links[i].server, POLLIN, 0};
        }
        poll(waits, 2 * LINKS_MAX + 1, -1);
        for (int i = 0; i < LINKS_MAX; i++) {
            if (waits[2 * i].revents != 0)
                forward(&links[i], true);
            if (waits[2 * i + 1].revents != 0 && links[i].server == waits[2 * i + 1].fd)
                forward(&links[i], false);
        }
        for (int i = 0; i < LINKS_MAX && waits[2 * LINKS_MAX].revents != 0; i++) {
            if (links[i].client >= 0)
                continue;
            links[i] = (struct proxy_link){.client = accept(listener, NULL, NULL),
                                           .server = connect_loopback(server_port)};
            break;
        }
    }
}

/* Starts the proxy as process 3; its port. */
static int start_proxy(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    int server_port = atoi(PQport(postgres_handle(postgres)));
    processes[3] = fork();
    assert_true(processes[3] >= 0);
    if (processes[3] == 0)
        run_proxy(listener, server_port);
    close(listener);
    return ntohs(address.sin_port);
}

static void lose_commits(void)
{
    char *server = NULL;
    assert_true(asprintf(&server, "%s port=%d sslmode=disable gssencmode=disable", conninfo,
                         start_proxy()) > 0);
    write_config("proxy.json", server, 300, 64 << 20);
    free(server);
    start_with(0, "proxy.json");
    for (int i = 0; i < 60; i++)
        produce_everywhere(100);
    assert_exact();
    assert_true(log_has(0, "PostgreSQL is away"));
    /* It knew what to make of them: it was never wrong about P. */
    assert_false(log_has(0, "fenced"));
    stop_process(0);
    kill_process(3);
}

/* Every fifth COMMIT takes place without the program's hearing of it. */
static void test_commits_in_doubt(void **state)
{
    (void)state;
    proxy_keeps_sessions = false;
    lose_commits();
}

/* Every fifth never arrives, and the session that should have got it keeps its locks. */
static void test_sessions_that_outlive_their_client(void **state)
{
    (void)state;
    proxy_keeps_sessions = true;
    lose_commits();
}

static void test_two_processes(void **state)
{
    (void)state;
    start_process(0);
    produce_everywhere(2000);
    start_process(1);
    wait_until_sql("SELECT (count(DISTINCT owner) = 2)::integer FROM dovetail_internal.position");
    produce_everywhere(2000);
    assert_exact();
    kill_process(1);
    produce_everywhere(2000);
    assert_exact(); /* the group takes from the dead after its session time-out */
    stop_process(0);
}

/* Who stops gives its partitions away; who is killed comes back under the same name. */
static void test_no_session_is_waited_for(void **state)
{
    (void)state;
    start_with(0, "patient.json");
    start_with(1, "patient.json");
    produce_everywhere(1000);
    wait_until_sql("SELECT (count(DISTINCT owner) = 2)::integer FROM dovetail_internal.position");
    stop_process(1);
    produce_everywhere(1000);
    assert_exact();
    kill_process(0);
    produce_everywhere(1000);
    start_with(0, "patient.json");
    assert_exact();
    stop_process(0);
    produce_everywhere(1000);
    start_with(0, "patient.json");
    assert_exact();
    start_with(1, "patient.json");
    wait_until_sql("SELECT (count(DISTINCT owner) = 2)::integer FROM dovetail_internal.position");
    stop_process(0);
    stop_process(1);
    start_with(1, "patient.json");
    produce_everywhere(1000);
    assert_exact();
    stop_process(1);
}

/* --- names --- */

static void end_sessions(void)
{
    execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'dovetail-speed%'");
}

static void wait_for_owners(int count)
{
    char sql[128];
    snprintf(sql, sizeof sql,
             "SELECT (count(DISTINCT owner) = %d)::integer FROM dovetail_internal.position", count);
    wait_until_sql(sql);
}

/* Another process takes the name of one that is there and has no session. */
static void take_name_of_stopped(const char *instance)
{
    produce_everywhere(1000);
    start_named(0, "dovetail.json", instance);
    wait_until_caught_up();
    assert_int_equal(kill(processes[0], SIGSTOP), 0);
    end_sessions();
    execute("CREATE TABLE before AS SELECT DISTINCT owner FROM dovetail_internal.position");
    start_named(1, "dovetail.json", instance);
    wait_until_sql("SELECT (count(*) = 0)::integer FROM dovetail_internal.position "
                   "WHERE owner IN (SELECT owner FROM before)");
    produce_everywhere(1000);
    assert_int_equal(kill(processes[0], SIGCONT), 0);
}

static void test_name_lost_in_the_group(void **state)
{
    (void)state;
    take_name_of_stopped(NULL);
    wait_until("it takes another name", log_has_line, "this one goes on as");
    wait_for_owners(2);
    produce_everywhere(1000);
    assert_exact();
    stop_process(0);
    stop_process(1);
}

static void test_given_name_lost_in_the_group(void **state)
{
    (void)state;
    take_name_of_stopped("given");
    int exit_state = wait_for_exit(0);
    assert_true(WIFEXITED(exit_state));
    assert_int_equal(WEXITSTATUS(exit_state), PROGRAM_FAILURE);
    assert_true(log_has(0, "instance given"));
    produce_everywhere(1000);
    assert_exact();
    stop_process(1);
}

/* Takes the lock of process 0's slot as soon as its session ends, on the test's own connection. */
static void take_slot(void)
{
    PGresult *result = NULL;
    assert_ok(postgres_query(postgres,
                             "SELECT classid::bigint::bit(32)::integer, objid::bigint::bit(32)"
                             "::integer, pid FROM pg_locks WHERE locktype = 'advisory' "
                             "AND objsubid = 2 AND database = (SELECT oid FROM pg_database "
                             "WHERE datname = current_database())",
                             0, NULL, &result, &error));
    assert_int_equal(PQntuples(result), 1);
    assert_ok(postgres_executef(postgres, &error,
                                "SELECT pg_terminate_backend(%s, 10000); "
                                "SELECT pg_advisory_lock(%s, %s)",
                                PQgetvalue(result, 0, 2), PQgetvalue(result, 0, 0),
                                PQgetvalue(result, 0, 1)));
    PQclear(result);
    end_sessions(); /* it notices when the other one, for flushes, is gone */
}

static void test_slot_lost_with_the_session(void **state)
{
    (void)state;
    produce_everywhere(1000);
    start_process(0);
    wait_until_caught_up();
    take_slot();
    wait_until("it takes another name", log_has_line, "this one goes on as");
    produce_everywhere(1000);
    assert_exact();
    stop_process(0);
}

static void test_given_name_lost_with_the_session(void **state)
{
    (void)state;
    start_named(0, "dovetail.json", "given");
    produce_everywhere(1000);
    wait_until_caught_up();
    take_slot();
    int exit_state = wait_for_exit(0);
    assert_true(WIFEXITED(exit_state));
    assert_int_equal(WEXITSTATUS(exit_state), PROGRAM_FAILURE);
    assert_true(log_has(0, "another process runs as instance \"given\""));
}

static void test_nothing_to_do(void **state)
{
    (void)state;
    execute("TRUNCATE dovetail_internal.source CASCADE");
    start_process(0);
    int exit_state = wait_for_exit(0);
    assert_true(WIFEXITED(exit_state));
    assert_int_equal(WEXITSTATUS(exit_state), PROGRAM_USAGE);
    assert_true(log_has(0, "no source is registered"));
}

int main(int argc, char **argv)
{
    if (argc > 1) /* a pattern for the names of tests */
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plain, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_kill, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_backlog, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_zombie, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_owner_looks_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dead_letters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dead_letter_topic_missing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dead_letters_too_large, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bounded_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bounded_flushes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cut_while_idle, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_planned_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_new_version, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lost_connections, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_commits_in_doubt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sessions_that_outlive_their_client, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_two_processes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_session_is_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_name_lost_in_the_group, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_given_name_lost_in_the_group, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_slot_lost_with_the_session, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_given_name_lost_with_the_session, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_to_do, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
