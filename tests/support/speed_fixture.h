/* dovetail-speed on a real Kafka and a real PostgreSQL, with a model: what tests of the speed layer
 * alone begin with.
 *
 * Each test has a database and topics of its own and starts the program as a child. The model is
 * naive: every produced event also goes into a table, and PostgreSQL groups it. Nothing asserts a
 * time; waits are polls for a condition, bounded so that a failure ends. Included by one test
 * program each, whose main passes set_up and tear_down to cmocka.
 *
 * Needs DOVETAIL_KAFKA and DOVETAIL_POSTGRES; DOVETAIL_BUILD (default "build") has the program. */
#ifndef DOVETAIL_TESTS_SUPPORT_SPEED_FIXTURE_H
#define DOVETAIL_TESTS_SUPPORT_SPEED_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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

static inline const char *program_path(void)
{
    static char path[256];
    const char *build = getenv("DOVETAIL_BUILD");
    snprintf(path, sizeof path, "%s/dovetail-speed", build != NULL ? build : "build");
    return path;
}

static inline json_t *source_json(void)
{
    return json_pack("{s:s, s:s, s:s, s:{s:s, s:s}, s:{s:s, s:{s:s, s:b}, s:s, s:s}}", "source",
                     "flights", "topic", topic, "dead_letter_topic", dead_topic, "event_time",
                     "field", "time", "format", "epoch_ms", "fields", "time", "timestamp", "delay",
                     "type", "integer", "nullable", 1, "distance", "integer", "origin", "string");
}

static inline json_t *by_origin_json(void)
{
    return json_pack("{s:s, s:s, s:s, s:[s], s:{s:s, s:s}, s:{s:s, s:s, s:s}}", "view", "by_origin",
                     "source", "flights", "where", "distance > 0", "group_by", "origin", "window",
                     "type", "tumbling", "size", "1h", "measures", "flights", "count(*)", "total",
                     "sum(delay)", "worst", "max(delay)");
}

/* Fails on every record with distance 13. */
static inline json_t *ratio_json(void)
{
    return json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s}}", "view", "ratio", "source", "flights",
                     "window", "type", "tumbling", "size", "1d", "measures", "total",
                     "sum(1000 / (distance - 13))");
}

static inline void register_view(json_t *json)
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

static inline void write_config(const char *name, const char *server, int slice_interval_ms,
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

static inline void execute(const char *sql)
{
    assert_ok(postgres_execute(postgres, sql, &error));
}

static inline int64_t query_int64(const char *sql)
{
    PGresult *result = NULL;
    assert_ok(postgres_query(postgres, sql, 0, NULL, &result, &error));
    assert_int_equal(PQntuples(result), 1);
    int64_t value = postgres_int64(result, 0, 0);
    PQclear(result);
    return value;
}

static inline int set_up(void **state)
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

static inline void delete_topics(bool dead_alone)
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

static inline int tear_down(void **state)
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

static inline char *log_path(size_t process)
{
    static char path[96];
    snprintf(path, sizeof path, "%s/log.%zu", directory, process);
    return path;
}

/* `instance` may be NULL. */
static inline void start_named(size_t process, const char *config, const char *instance)
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

static inline void start_with(size_t process, const char *config)
{
    start_named(process, config, NULL);
}

static inline void start_process(size_t process)
{
    start_with(process, "dovetail.json");
}

static inline void show_logs(void)
{
    char command[160];
    snprintf(command, sizeof command, "tail -n 40 %s/log.* >&2", directory);
    if (system(command) != 0)
        fprintf(stderr, "no logs\n");
}

static inline int wait_for_exit(size_t process)
{
    int state = stack_reap(processes[process], "dovetail-speed");
    processes[process] = 0;
    return state;
}

static inline void kill_process(size_t process)
{
    assert_int_equal(kill(processes[process], SIGKILL), 0);
    assert_true(WIFSIGNALED(wait_for_exit(process)));
}

static inline void stop_process(size_t process)
{
    assert_int_equal(kill(processes[process], SIGTERM), 0);
    int state = wait_for_exit(process);
    if (!WIFEXITED(state) || WEXITSTATUS(state) != 0) {
        show_logs();
        fail_msg("dovetail-speed ended with wait status %d", state);
    }
}

static inline bool log_has(size_t process, const char *text)
{
    char command[256];
    snprintf(command, sizeof command, "grep -q '%s' %s", text, log_path(process));
    return system(command) == 0;
}

/* --- events --- */

static inline unsigned draw(unsigned below)
{
    next_random = next_random * 1103515245u + 12345u;
    return (next_random >> 8) % below;
}

/* Produces random events, and puts the same into the model. */
static inline void produce(int partition, int count)
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

static inline void produce_everywhere(int count)
{
    for (int partition = 0; partition < PARTITIONS; partition++)
        produce(partition, count);
}

/* One record that is not in the model. */
static inline void produce_raw(int partition, const char *key, const char *value,
                               rd_kafka_headers_t *headers)
{
    assert_ok(kafka_producer_send(producer, topic, partition, key, key != NULL ? strlen(key) : 0,
                                  value, value != NULL ? strlen(value) : 0, headers, &error));
    assert_ok(kafka_producer_flush(producer, WAIT_MS, &error));
    produced[partition]++;
}

/* --- waiting and comparing --- */

static inline void wait_until(const char *what, bool (*condition)(const void *),
                              const void *argument)
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

static inline bool sql_is_true(const void *sql)
{
    return query_int64(sql) != 0;
}

static inline void wait_until_sql(const char *sql)
{
    wait_until(sql, sql_is_true, sql);
}

static inline void wait_until_caught_up(void)
{
    char sql[512];
    snprintf(sql, sizeof sql,
             "SELECT (count(*) = 3 AND bool_and(next_offset = (ARRAY[%lld, %lld, %lld])"
             "[partition + 1]))::integer FROM dovetail_internal.position",
             (long long)produced[0], (long long)produced[1], (long long)produced[2]);
    wait_until_sql(sql);
}

static inline bool log_has_line(const void *text)
{
    return log_has(0, text);
}

/* Rows of a version in the slices of `slices` against the model's events of `events`. */
static inline void assert_rows(int version, const char *slices, const char *events)
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
static inline void assert_exact(void)
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

#endif
