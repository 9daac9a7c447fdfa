/* A database as the layers leave it, and dovetail-serving on it: what tests of HTTP begin with.
 *
 * Random events (the trips) are folded by the engine, those below C into batch rows, all of them
 * into speed slices; rows that no query may see (of other runs, of slices below C) are there, too.
 * Expected rows are built from SQL results, text by text, so that no number passes through a
 * double. Included by one test program each, whose main passes set_up and tear_down to cmocka.
 *
 * Needs DOVETAIL_POSTGRES, and DOVETAIL_BUILD where the programs are not in build/. */
#ifndef DOVETAIL_TESTS_SUPPORT_TRIPS_FIXTURE_H
#define DOVETAIL_TESTS_SUPPORT_TRIPS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/catalog/catalog.h"
#include "core/groups.h"
#include "core/postgres/postgres.h"
#include "tests/support/stack.h"

enum { PARTITIONS = 2, EVENTS = 500, ROW_LIMIT = 300, LIVE_STREAMS = 12 };

static const int64_t base_offsets[PARTITIONS] = {0, 1000};
static const int64_t cutoffs[PARTITIONS] = {150, 1100};
static const int64_t slice_starts[PARTITIONS] = {200, 1180};
static const int64_t positions[PARTITIONS] = {250, 1250};

static struct postgres *admin;
static struct postgres *postgres;
static struct error error;
static char database[64];
static char conninfo[512];
static char directory[] = "/tmp/test-serving-XXXXXX";
static pid_t server_pid;
static int server_messages; /* what it writes to stderr */
static int port;
static int cache_age_ms;                   /* of the server that is started next */
static const char *more_settings;          /* of "serving": a JSON object, or NULL; and this */
static const char *cache_bytes = "64 MiB"; /* so is this */

#define assert_status(expected, call)                                                              \
    do {                                                                                           \
        enum status got = (call);                                                                  \
        if (got != (expected))                                                                     \
            fail_msg("%s: status %d, text '%s'", #call, (int)got, error.text);                     \
    } while (0)

static inline void execute(const char *sql)
{
    assert_status(STATUS_OK, postgres_execute(postgres, sql, &error));
}

/* --- events, folded into the tables --- */

static const char source_json[] =
    "{\"source\": \"trips\", \"topic\": \"trips\","
    " \"event_time\": {\"field\": \"time\", \"format\": \"rfc3339\"},"
    " \"fields\": {\"time\": \"timestamp\", \"destination\": \"string\","
    "  \"origin\": {\"type\": \"string\", \"nullable\": true},"
    "  \"delay\": {\"type\": \"integer\", \"nullable\": true},"
    "  \"fare\": {\"type\": \"decimal\", \"nullable\": true},"
    "  \"late\": {\"type\": \"boolean\", \"nullable\": true},"
    "  \"booked\": {\"type\": \"timestamp\", \"nullable\": true}}}";

static const char *const view_jsons[] = {
    "{\"view\": \"by_route\", \"source\": \"trips\", \"description\": \"Trips by route\","
    " \"group_by\": [\"origin\", \"destination\"],"
    " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"},"
    " \"measures\": {\"trips\": \"count(*)\", \"delayed\": \"count(*) FILTER (WHERE delay > 5)\","
    "  \"total\": \"sum(delay)\", \"fares\": \"sum(fare)\", \"mean_fare\": \"avg(fare)\","
    "  \"best\": \"min(delay)\", \"worst\": \"max(delay)\", \"cheapest\": \"min(fare)\"}}",
    "{\"view\": \"typed\", \"source\": \"trips\", \"where\": \"delay IS NULL OR delay > -1000\","
    " \"group_by\": [\"delay\", \"fare\", \"late\", \"booked\"],"
    " \"window\": {\"type\": \"tumbling\", \"size\": \"1d\"},"
    " \"measures\": {\"trips\": \"count(*)\"}}",
    "{\"view\": \"odd_names\", \"source\": \"trips\","
    " \"group_by\": [{\"name\": \"limit\", \"expr\": \"destination\"},"
    "  {\"name\": \"key\", \"expr\": \"origin\"}, {\"name\": \"is\", \"expr\": \"late\"}],"
    " \"window\": {\"type\": \"tumbling\", \"size\": \"6h\"},"
    " \"measures\": {\"trips\": \"count(*)\"}}",
#ifdef TRIPS_MORE_VIEWS
    TRIPS_MORE_VIEWS
#endif
};

static uint64_t seed;

static inline uint32_t random_below(uint32_t bound)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed >> 33) % bound;
}

struct trip {
    int32_t partition;
    int64_t offset;
    int64_t time_us;
    struct value fields[8];
};

static struct trip trips[EVENTS];

static inline struct value nullable(struct value value)
{
    if (random_below(6) == 0)
        value.is_null = true;
    return value;
}

static inline struct value pick(const char *const *texts, uint32_t count)
{
    const char *text = texts[random_below(count)];
    return value_string(text, strlen(text));
}

static inline struct value make_field(const char *name, int64_t time_us)
{
    static const char *const origins[] = {
        "",          "JFK",       "O'Hare",      "\"quoted\"",       "München", "日本",
        "tab\there", "new\nline", "back\\slash", "\xF0\x9F\x9B\xAB", "a,b",     "\x01\x7F"};
    static const char *const destinations[] = {"SFO", "LAX", "50% + 1", "a&b=c#d"};
    if (strcmp(name, "time") == 0)
        return value_timestamp(time_us);
    if (strcmp(name, "destination") == 0)
        return pick(destinations, 4);
    if (strcmp(name, "origin") == 0)
        return nullable(pick(origins, 12));
    if (strcmp(name, "delay") == 0)
        return nullable(value_integer((int64_t)random_below(40) - 10));
    if (strcmp(name, "late") == 0)
        return nullable(value_boolean(random_below(2) == 1));
    if (strcmp(name, "booked") == 0)
        return nullable(value_timestamp(time_us - 86400000000 - (int64_t)random_below(3) * 1500));
    struct decimal fare = {.coefficient = (int64_t)random_below(40000) - 1000,
                           .scale = (int32_t)random_below(5)};
    return nullable(value_decimal(fare));
}

static inline void make_trips(const struct source *source)
{
    const int64_t start_us = INT64_C(978307200000000); /* 2001-01-01 */
    for (size_t i = 0; i < EVENTS; i++) {
        struct trip *trip = &trips[i];
        trip->partition = (int32_t)(i % PARTITIONS);
        trip->offset = base_offsets[trip->partition] + (int64_t)(i / PARTITIONS);
        trip->time_us = start_us + (int64_t)random_below(3 * 86400) * 1000000;
        for (size_t f = 0; f < source->field_count; f++)
            trip->fields[f] = make_field(source->fields[f].name, trip->time_us);
    }
}

/* Folds the trips of a partition with offsets in [start, end); partition -1: every partition, below
 * its cut-off. */
static inline struct groups *fold(const struct view *view, int32_t partition, int64_t start,
                                  int64_t end)
{
    struct groups *groups = NULL;
    assert_status(STATUS_OK, groups_create(view, &groups, &error));
    for (size_t i = 0; i < EVENTS; i++) {
        const struct trip *trip = &trips[i];
        bool taken = partition < 0 ? trip->offset < cutoffs[trip->partition]
                                   : trip->partition == partition && trip->offset >= start &&
                                         trip->offset < end;
        enum fold_outcome outcome;
        struct event event = {.fields = trip->fields, .time_us = trip->time_us};
        struct measure_origin origin = {
            .time_us = trip->time_us, .partition = trip->partition, .offset = trip->offset};
        if (taken)
            assert_status(STATUS_OK, groups_fold(groups, &event, &origin, &outcome, &error));
    }
    return groups;
}

/* COPY of groups; `own` has the table's own columns of each row, by their number. */
static inline void copy_groups(const struct groups *groups, const char *table,
                               const char *own_columns,
                               void (*put_own)(struct pgbinary_writer *, const int64_t *, int64_t),
                               const int64_t *own, int16_t own_count)
{
    const struct view *view = groups_view(groups);
    char *columns = catalog_state_columns(view, "");
    char sql[2048];
    snprintf(sql, sizeof sql, "COPY %s (%s, %s) FROM STDIN (FORMAT binary)", table, own_columns,
             columns);
    free(columns);
    struct pgbinary_writer writer;
    pgbinary_writer_init(&writer);
    pgbinary_put_copy_header(&writer);
    struct groups_cursor cursor = {0};
    int64_t number = 0;
    for (struct group *group; (group = groups_next(groups, &cursor)) != NULL;) {
        pgbinary_put_row(&writer, (int16_t)(own_count + (int16_t)view_row_columns(view)));
        put_own(&writer, own, number++);
        assert_status(STATUS_OK, group_encode_row(view, group, &writer, &error));
    }
    pgbinary_put_copy_trailer(&writer);
    assert_status(STATUS_OK, postgres_copy_in_begin(postgres, sql, &error));
    assert_status(STATUS_OK, postgres_copy_in_data(postgres, writer.data, writer.length, &error));
    assert_status(STATUS_OK, postgres_copy_in_end(postgres, &error));
    pgbinary_writer_deinit(&writer);
}

static inline void put_speed(struct pgbinary_writer *writer, const int64_t *own, int64_t number)
{
    pgbinary_put_int4(writer, (int32_t)own[0]);
    pgbinary_put_int8(writer, own[1]);
    pgbinary_put_int8(writer, number);
}

static inline void put_batch(struct pgbinary_writer *writer, const int64_t *own, int64_t number)
{
    (void)number;
    pgbinary_put_int8(writer, own[0]);
    pgbinary_put_int8(writer, own[1]);
}

static inline void store_slice(const struct catalog_version *version, int32_t partition,
                               int64_t start, int64_t end)
{
    char table[CATALOG_NAME_BYTES];
    const int64_t own[] = {partition, start};
    struct groups *groups = fold(version->view, partition, start, end);
    catalog_speed_table(version->version, table);
    copy_groups(groups, table, "_partition, _slice_start, _group_id", put_speed, own, 3);
    groups_destroy(groups);
}

static inline void store_batch(const struct catalog_version *version, int64_t run_from,
                               int64_t run_to)
{
    char table[CATALOG_NAME_BYTES];
    const int64_t own[] = {run_from, run_to};
    struct groups *groups = fold(version->view, -1, 0, 0);
    catalog_batch_table(version->version, table);
    copy_groups(groups, table, "_run_from, _run_to", put_batch, own, 2);
    groups_destroy(groups);
}

static inline void register_definitions(void)
{
    struct source *source = NULL;
    enum catalog_change change;
    bool changed;
    assert_status(STATUS_OK, catalog_migrate(postgres, &changed, &error));
    json_t *json = json_loads(source_json, 0, NULL);
    assert_status(STATUS_OK, source_create(json, "test", &source, &error));
    json_decref(json);
    make_trips(source);
    execute("BEGIN");
    assert_status(STATUS_OK, catalog_register_source(postgres, source, &change, &error));
    assert_status(STATUS_OK,
                  catalog_add_partitions(postgres, "trips", base_offsets, PARTITIONS, &error));
    for (size_t i = 0; i < sizeof view_jsons / sizeof view_jsons[0]; i++) {
        struct view *view = NULL;
        json = json_loads(view_jsons[i], 0, NULL);
        assert_status(STATUS_OK, view_create(json, "test", source, &view, &error));
        assert_status(STATUS_OK, catalog_register_view(postgres, view, &change, &error));
        json_decref(json);
        view_destroy(view);
    }
    assert_status(STATUS_OK, catalog_promote(postgres, &error));
    execute("COMMIT");
    source_destroy(source);
}

/* What the layers leave behind: slices from the base on, and run 1 with its cut-offs. */
static inline void store_states(void)
{
    struct catalog *catalog = NULL;
    assert_status(STATUS_OK, catalog_load(postgres, &catalog, &error));
    for (size_t i = 0; i < catalog->version_count; i++) {
        const struct catalog_version *version = &catalog->versions[i];
        for (int32_t p = 0; p < PARTITIONS; p++) {
            store_slice(version, p, base_offsets[p], cutoffs[p]);
            store_slice(version, p, cutoffs[p], slice_starts[p]);
            store_slice(version, p, slice_starts[p], positions[p]);
        }
        store_batch(version, 1, INT64_MAX);
        store_batch(version, 0, 1);         /* closed before run 1 */
        store_batch(version, 2, INT64_MAX); /* of a run after it */
    }
    execute("BEGIN;"
            "INSERT INTO dovetail_internal.run (run, state, reason, finished_at)"
            " VALUES (1, 'published', 'command', now());"
            "INSERT INTO dovetail_internal.run_cutoff VALUES"
            " (1, 'trips', 0, 150, now() - interval '10 s', '2001-01-01 05:00Z'),"
            " (1, 'trips', 1, 1100, now() - interval '10 s', '2001-01-01 06:00Z');"
            "UPDATE dovetail_internal.current_run SET run = 1;"
            "UPDATE dovetail_internal.position SET next_offset = 250, slice_start = 200,"
            "  watermark = '2001-01-03 07:30Z', as_of = now() - interval '2 s', consumed = 250,"
            "  counted = 240, filtered = 6, duplicate = 3, dead_lettered = 1 WHERE partition = 0;"
            "UPDATE dovetail_internal.position SET next_offset = 1250, slice_start = 1180,"
            "  watermark = '2001-01-02 12:00Z', as_of = now() - interval '1 s'"
            " WHERE partition = 1");
    for (size_t i = 0; i < catalog->version_count; i++)
        assert_status(STATUS_OK,
                      catalog_mark_built(postgres, catalog->versions[i].version, 1, &error));
    execute("COMMIT");
    catalog_destroy(catalog);
}

/* --- the program --- */

static inline void write_config(const char *path)
{
    json_t *json = json_pack("{s:{s:s}, s:s, s:s, s:{s:s, s:i, s:s, s:s, s:i, s:i}}", "kafka",
                             "bootstrap.servers", "127.0.0.1:1", "postgres", conninfo, "schemas",
                             directory, "serving", "listen", "127.0.0.1:0", "row_limit",
                             (int)ROW_LIMIT, "memory", "48 MiB", "cache_bytes", cache_bytes,
                             "cache_age_ms", cache_age_ms, "live_streams", (int)LIVE_STREAMS);
    if (more_settings != NULL)
        json_object_update_new(json_object_get(json, "serving"),
                               json_loads(more_settings, 0, NULL));
    assert_int_equal(json_dump_file(json, path, 0), 0);
    json_decref(json);
}

/* Reads the program's messages until it tells its address. */
static inline int read_port(int fd)
{
    char text[4096];
    size_t length = 0;
    while (length + 1 < sizeof text) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&wait, 1, STACK_WAIT_MS), 1);
        ssize_t got = read(fd, text + length, sizeof text - 1 - length);
        if (got <= 0)
            break;
        length += (size_t)got;
        text[length] = '\0';
        char *url = strstr(text, "listening on http");
        if (url != NULL && strchr(url, '\n') != NULL)
            return atoi(strrchr(strtok(url, "\n"), ':') + 1);
    }
    fail_msg("the server did not start: %.*s", (int)length, text);
    return 0;
}

static inline void start_server(void)
{
    char program[512];
    char config[128];
    int pipes[2];
    const char *build = getenv("DOVETAIL_BUILD");
    snprintf(program, sizeof program, "%s/dovetail-serving", build != NULL ? build : "build");
    snprintf(config, sizeof config, "%s/dovetail.json", directory);
    write_config(config);
    assert_int_equal(pipe(pipes), 0);
    server_pid = fork();
    if (server_pid == 0) {
        dup2(pipes[1], STDERR_FILENO);
        close(pipes[0]);
        close(pipes[1]);
        execl(program, program, "--config", config, (char *)NULL);
        _exit(127);
    }
    close(pipes[1]);
    port = read_port(pipes[0]);
    server_messages = pipes[0]; /* open to the end: a closed pipe would break the program */
}

/* SIGTERM, and the end that it must come to. */
static inline void stop_server(void)
{
    assert_int_equal(kill(server_pid, SIGTERM), 0);
    assert_int_equal(stack_reap(server_pid, "dovetail-serving"), 0);
    close(server_messages);
}

/* Another one, with what is set now. */
static inline void restart_server(void)
{
    stop_server();
    start_server();
}

static inline int set_up(void **state)
{
    (void)state;
    uint32_t suffix = 0;
    const char *server = getenv("DOVETAIL_POSTGRES");
    if (server == NULL) {
        fprintf(stderr, "DOVETAIL_POSTGRES is not set: run `make stack-up` and load .run/env\n");
        return -1;
    }
    if (getrandom(&suffix, sizeof suffix, 0) != sizeof suffix ||
        (access(directory, F_OK) != 0 && mkdtemp(directory) == NULL)) /* a test may have made it */
        return -1;
    const char *wanted_seed = getenv("DOVETAIL_SEED");
    seed = wanted_seed != NULL ? strtoull(wanted_seed, NULL, 10) : suffix;
    printf("seed %llu\n", (unsigned long long)seed);
    snprintf(database, sizeof database, "test_serving_%08x", suffix);
    snprintf(conninfo, sizeof conninfo, "%s dbname=%s", server, database);
    if (postgres_connect(server, "test-serving-admin", &admin, &error) != STATUS_OK ||
        postgres_executef(admin, &error, "CREATE DATABASE %s", database) != STATUS_OK ||
        postgres_connect(conninfo, "test-serving", &postgres, &error) != STATUS_OK) {
        fprintf(stderr, "%s\n", error.text);
        return -1;
    }
    register_definitions();
    store_states();
    start_server();
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    char config[128];
    int exit_status = 0; /* not 0 where a sanitizer has found something, too */
    if (server_pid > 0) {
        kill(server_pid, SIGTERM);
        exit_status = stack_reap(server_pid, "dovetail-serving");
    }
    snprintf(config, sizeof config, "%s/dovetail.json", directory);
    unlink(config);
    rmdir(directory);
    postgres_close(postgres);
    if (admin == NULL) /* the set-up came to nothing */
        return 0;
    enum status status =
        postgres_executef(admin, &error, "DROP DATABASE IF EXISTS %s WITH (FORCE)", database);
    postgres_close(admin);
    if (exit_status != 0)
        fprintf(stderr, "the server ended with status %d\n", exit_status);
    return status == STATUS_OK && exit_status == 0 ? 0 : -1;
}

/* --- a small HTTP client --- */

struct reply {
    int status;
    char *text; /* head and body, 0-terminated */
    char *body;
};

static inline int send_text(const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail_msg("cannot connect");
    for (size_t sent = 0, length = strlen(text); sent < length;) {
        ssize_t got = send(fd, text + sent, length - sent, MSG_NOSIGNAL);
        if (got <= 0)
            break; /* refused while we were sending */
        sent += (size_t)got;
    }
    return fd;
}

static const char *more_headers = ""; /* of every request: lines that end with CR LF */

static inline int send_request(const char *method, const char *target)
{
    size_t size = strlen(target) + strlen(more_headers) + 128;
    char *text = malloc(size);
    assert_non_null(text);
    snprintf(text, size, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n", method,
             target, more_headers);
    int fd = send_text(text);
    free(text);
    return fd;
}

/* Reads to the end of the connection. */
static inline struct reply receive(int fd)
{
    struct reply reply = {0};
    size_t length = 0;
    size_t capacity = 1 << 16;
    reply.text = malloc(capacity);
    for (;;) {
        assert_non_null(reply.text);
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&wait, 1, STACK_WAIT_MS), 1);
        ssize_t got = recv(fd, reply.text + length, capacity - 1 - length, 0);
        if (got <= 0)
            break;
        length += (size_t)got;
        if (capacity - length < 4096)
            reply.text = realloc(reply.text, capacity *= 2);
    }
    close(fd);
    reply.text[length] = '\0';
    reply.status = length > 12 ? atoi(reply.text + 9) : 0;
    reply.body = strstr(reply.text, "\r\n\r\n");
    reply.body = reply.body != NULL ? reply.body + 4 : reply.text + length;
    return reply;
}

static inline struct reply get(const char *target)
{
    return receive(send_request("GET", target));
}

static inline bool has_header(const struct reply *reply, const char *line)
{
    const char *found = strcasestr(reply->text, line);
    return found != NULL && found < reply->body;
}

static inline json_t *get_json(const char *target)
{
    json_error_t fault;
    struct reply reply = get(target);
    if (reply.status != 200)
        fail_msg("%s: %d %s", target, reply.status, reply.body);
    assert_true(has_header(&reply, "Content-Type: application/json\r\n"));
    json_t *json = json_loads(reply.body, 0, &fault);
    if (json == NULL)
        fail_msg("%s: %s in %s", target, fault.text, reply.body);
    free(reply.text);
    return json;
}

static inline const char *text_at(json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));
    return text != NULL ? text : "(none)";
}

/* The problem at `target` is `status`, names `parameter` (NULL: none) and says `detail`. */
static inline void assert_problem(const char *target, int status, const char *parameter,
                                  const char *detail)
{
    struct reply reply = get(target);
    if (reply.status != status)
        fail_msg("%s: %d instead of %d: %s", target, reply.status, status, reply.body);
    assert_true(has_header(&reply, "Content-Type: application/problem+json\r\n"));
    json_t *json = json_loads(reply.body, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(json, "status")), status);
    if (strcmp(text_at(json, "parameter"), parameter != NULL ? parameter : "(none)") != 0 ||
        strstr(text_at(json, "detail"), detail) == NULL)
        fail_msg("%s: unexpected problem: %s", target, reply.body);
    assert_string_not_equal(text_at(json, "type"), "(none)");
    assert_string_not_equal(text_at(json, "title"), "(none)");
    json_decref(json);
    free(reply.text);
}

/* --- expected rows, from SQL --- */

static inline void put_string(FILE *out, const char *text)
{
    json_t *json = json_string(text);
    char *dump = json_dumps(json, JSON_ENCODE_ANY);
    assert_non_null(dump);
    fputs(dump, out);
    free(dump);
    json_decref(json);
}

/* Times come from SQL as text in the format of RFC 3339 already; see time_sql. */
static inline void put_field(FILE *out, const PGresult *result, int row, int column)
{
    const char *text = PQgetvalue(result, row, column);
    unsigned int type = PQftype(result, column);
    if (PQgetisnull(result, row, column))
        fputs("null", out);
    else if (type == PG_OID_TEXT)
        put_string(out, text);
    else if (type == PG_OID_BOOL)
        fputs(text[0] == 't' ? "true" : "false", out);
    else
        fputs(text, out);
}

/* "rows" of the answer, as text: each row of `sql` with its columns' names. */
static __attribute__((noinline, unused)) char *rows_text(const char *sql)
{
    PGresult *result = NULL;
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    assert_status(STATUS_OK, postgres_query(postgres, sql, 0, NULL, &result, &error));
    fputs("\"rows\":[", out);
    for (int row = 0; row < PQntuples(result); row++) {
        fputs(row > 0 ? ",\n{" : "{", out);
        for (int column = 0; column < PQnfields(result); column++) {
            fprintf(out, "%s\"%s\":", column > 0 ? "," : "", PQfname(result, column));
            put_field(out, result, row, column);
        }
        fputs("}", out);
    }
    fputs("],\"receipt\":", out);
    PQclear(result);
    assert_int_equal(fclose(out), 0);
    return text;
}

static inline int count_of(const char *text, const char *part)
{
    int count = 0;
    for (; (text = strstr(text, part)) != NULL; text++)
        count++;
    return count;
}

/* jansson writes some controls as \u0008 or \b and the like: both sides are compared parsed, too,
 * but what counts is equality of all the text. */
static inline void assert_rows(const char *target, const char *sql, int least_rows)
{
    struct reply reply = get(target);
    if (reply.status != 200)
        fail_msg("%s: %d %s", target, reply.status, reply.body);
    json_t *json = json_loads(reply.body, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    json_decref(json);
    char *expected = rows_text(sql);
    if (strstr(reply.body, expected) == NULL)
        fail_msg("%s\nexpected %s\ngot %s", target, expected, reply.body);
    if (count_of(expected, "\"window_start\"") < least_rows)
        fail_msg("%s: too few rows to prove anything: %s", target, expected);
    free(expected);
    free(reply.text);
}

/* A time as HTTP gives it. */
#define TIME_SQL(column)                                                                           \
    "rtrim(rtrim(to_char(" column                                                                  \
    " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US'), '0'), '.') || 'Z'"
#define WINDOW_SQL                                                                                 \
    TIME_SQL("window_start") " AS window_start, " TIME_SQL("window_end") " AS window_end"
#define ROUTE_MEASURES "trips, delayed, total, fares, mean_fare, best, worst, cheapest, provisional"
#define ROUTE_SQL                                                                                  \
    "SELECT " WINDOW_SQL ", origin, destination, " ROUTE_MEASURES " FROM dovetail.by_route t "
#define ROUTE_ORDER "ORDER BY t.window_start, origin COLLATE \"C\", destination COLLATE \"C\""

#endif
