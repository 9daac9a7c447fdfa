/* dovetail-serving over HTTP, against a real PostgreSQL: every parameter, every refusal, and that
 * HTTP and the SQL views give the same values.
 *
 * The database is this test's own. Random events are folded by the engine, those below C into batch
 * rows, all of them into speed slices, as the layers leave them; rows that no query may see (of
 * other runs, of slices below C) are there, too. Expected rows are built from SQL results, text by
 * text, so that no number passes through a double. The tests run in order: the last ones publish
 * and stop.
 *
 * Needs DOVETAIL_POSTGRES, and DOVETAIL_BUILD where the program is not in build/. */
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

enum { PARTITIONS = 2, EVENTS = 500, ROW_LIMIT = 300 };

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

#define assert_status(expected, call)                                                              \
    do {                                                                                           \
        enum status got = (call);                                                                  \
        if (got != (expected))                                                                     \
            fail_msg("%s: status %d, text '%s'", #call, (int)got, error.text);                     \
    } while (0)

static void execute(const char *sql)
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
};

static uint64_t seed;

static uint32_t random_below(uint32_t bound)
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

static struct value nullable(struct value value)
{
    if (random_below(6) == 0)
        value.is_null = true;
    return value;
}

static struct value pick(const char *const *texts, uint32_t count)
{
    const char *text = texts[random_below(count)];
    return value_string(text, strlen(text));
}

static struct value make_field(const char *name, int64_t time_us)
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

static void make_trips(const struct source *source)
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
static struct groups *fold(const struct view *view, int32_t partition, int64_t start, int64_t end)
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
static void copy_groups(const struct groups *groups, const char *table, const char *own_columns,
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
    size_t cursor = 0;
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

static void put_speed(struct pgbinary_writer *writer, const int64_t *own, int64_t number)
{
    pgbinary_put_int4(writer, (int32_t)own[0]);
    pgbinary_put_int8(writer, own[1]);
    pgbinary_put_int8(writer, number);
}

static void put_batch(struct pgbinary_writer *writer, const int64_t *own, int64_t number)
{
    (void)number;
    pgbinary_put_int8(writer, own[0]);
    pgbinary_put_int8(writer, own[1]);
}

static void store_slice(const struct catalog_version *version, int32_t partition, int64_t start,
                        int64_t end)
{
    char table[CATALOG_NAME_BYTES];
    const int64_t own[] = {partition, start};
    struct groups *groups = fold(version->view, partition, start, end);
    catalog_speed_table(version->version, table);
    copy_groups(groups, table, "_partition, _slice_start, _group_id", put_speed, own, 3);
    groups_destroy(groups);
}

static void store_batch(const struct catalog_version *version, int64_t run_from, int64_t run_to)
{
    char table[CATALOG_NAME_BYTES];
    const int64_t own[] = {run_from, run_to};
    struct groups *groups = fold(version->view, -1, 0, 0);
    catalog_batch_table(version->version, table);
    copy_groups(groups, table, "_run_from, _run_to", put_batch, own, 2);
    groups_destroy(groups);
}

static void register_definitions(void)
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
static void store_states(void)
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

static void write_config(const char *path)
{
    json_t *json = json_pack("{s:{s:s}, s:s, s:s, s:{s:s, s:i}}", "kafka", "bootstrap.servers",
                             "127.0.0.1:1", "postgres", conninfo, "schemas", directory, "serving",
                             "listen", "127.0.0.1:0", "row_limit", (int)ROW_LIMIT);
    assert_int_equal(json_dump_file(json, path, 0), 0);
    json_decref(json);
}

/* Reads the program's messages until it tells its address. */
static int read_port(int fd)
{
    char text[4096];
    size_t length = 0;
    while (length + 1 < sizeof text) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&wait, 1, 15000), 1);
        ssize_t got = read(fd, text + length, sizeof text - 1 - length);
        if (got <= 0)
            break;
        length += (size_t)got;
        text[length] = '\0';
        const char *url = strstr(text, "listening on http://127.0.0.1:");
        if (url != NULL && strchr(url, '\n') != NULL)
            return atoi(strrchr(strtok(strstr(text, "http://"), "\n"), ':') + 1);
    }
    fail_msg("the server did not start: %.*s", (int)length, text);
    return 0;
}

static void start_server(void)
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

static int set_up(void **state)
{
    (void)state;
    uint32_t suffix = 0;
    const char *server = getenv("DOVETAIL_POSTGRES");
    if (server == NULL) {
        fprintf(stderr, "DOVETAIL_POSTGRES is not set: run `make stack-up` and load .run/env\n");
        return -1;
    }
    if (getrandom(&suffix, sizeof suffix, 0) != sizeof suffix || mkdtemp(directory) == NULL)
        return -1;
    seed = suffix;
    printf("seed %u\n", suffix);
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

static int tear_down(void **state)
{
    (void)state;
    char config[128];
    if (server_pid > 0) {
        kill(server_pid, SIGTERM);
        waitpid(server_pid, NULL, 0);
    }
    snprintf(config, sizeof config, "%s/dovetail.json", directory);
    unlink(config);
    rmdir(directory);
    postgres_close(postgres);
    enum status status =
        postgres_executef(admin, &error, "DROP DATABASE IF EXISTS %s WITH (FORCE)", database);
    postgres_close(admin);
    return status == STATUS_OK ? 0 : -1;
}

/* --- a small HTTP client --- */

struct reply {
    int status;
    char *text; /* head and body, 0-terminated */
    char *body;
};

static int send_text(const char *text)
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

static int send_request(const char *method, const char *target)
{
    size_t size = strlen(target) + 128;
    char *text = malloc(size);
    assert_non_null(text);
    snprintf(text, size, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", method,
             target);
    int fd = send_text(text);
    free(text);
    return fd;
}

/* Reads to the end of the connection. */
static struct reply receive(int fd)
{
    struct reply reply = {0};
    size_t length = 0;
    size_t capacity = 1 << 16;
    reply.text = malloc(capacity);
    for (;;) {
        assert_non_null(reply.text);
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&wait, 1, 40000), 1);
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

static struct reply get(const char *target)
{
    return receive(send_request("GET", target));
}

static bool has_header(const struct reply *reply, const char *line)
{
    const char *found = strcasestr(reply->text, line);
    return found != NULL && found < reply->body;
}

static json_t *get_json(const char *target)
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

static const char *text_at(json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));
    return text != NULL ? text : "(none)";
}

/* The problem at `target` is `status`, names `parameter` (NULL: none) and says `detail`. */
static void assert_problem(const char *target, int status, const char *parameter,
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

static void put_string(FILE *out, const char *text)
{
    json_t *json = json_string(text);
    char *dump = json_dumps(json, JSON_ENCODE_ANY);
    assert_non_null(dump);
    fputs(dump, out);
    free(dump);
    json_decref(json);
}

/* Times come from SQL as text in the format of RFC 3339 already; see time_sql. */
static void put_field(FILE *out, const PGresult *result, int row, int column)
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
static char *rows_text(const char *sql)
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

static int count_of(const char *text, const char *part)
{
    int count = 0;
    for (; (text = strstr(text, part)) != NULL; text++)
        count++;
    return count;
}

/* jansson writes some controls as \u0008 or \b and the like: both sides are compared parsed, too,
 * but what counts is equality of all the text. */
static void assert_rows(const char *target, const char *sql, int least_rows)
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

/* --- rows --- */

static void test_all_rows_equal_sql(void **state)
{
    (void)state;
    assert_rows("/v1/views/by_route/rows?limit=300", ROUTE_SQL ROUTE_ORDER " LIMIT 300", 300);
    assert_rows("/v1/views/typed/rows?limit=300",
                "SELECT " WINDOW_SQL ", delay, trim_scale(fare) AS fare, late, " TIME_SQL(
                    "booked") " AS booked, trips, provisional FROM dovetail.typed t"
                              " ORDER BY t.window_start, delay, t.fare, late, t.booked LIMIT 300",
                300);
    assert_rows("/v1/views/odd_names/rows?limit=300",
                "SELECT " WINDOW_SQL ", \"limit\", key, \"is\", trips, provisional"
                " FROM dovetail.odd_names t ORDER BY t.window_start, \"limit\" COLLATE \"C\","
                " key COLLATE \"C\", \"is\" LIMIT 300",
                100);
}

static void test_every_event_counts_once(void **state)
{
    (void)state;
    json_t *json = get_json("/v1/views/by_route/rows?group_by=&granularity=all&measures=trips");
    json_t *rows = json_object_get(json, "rows");
    assert_int_equal(json_array_size(rows), 1);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(rows, 0), "trips")), EVENTS);
    json_decref(json);
}

static void test_range_and_limit(void **state)
{
    (void)state;
    assert_rows("/v1/views/by_route/rows?from=2001-01-02&to=2001-01-02T09:00:00Z",
                ROUTE_SQL "WHERE t.window_start >= '2001-01-02Z'"
                          " AND t.window_start < '2001-01-02 09:00Z' " ROUTE_ORDER,
                20);
    /* '+' in a query is a space, so an offset is written %2B. */
    assert_rows("/v1/views/by_route/rows?from=2001-01-02T10:00:00%2B01:00&limit=7",
                ROUTE_SQL "WHERE t.window_start >= '2001-01-02 09:00Z' " ROUTE_ORDER " LIMIT 7", 7);
    assert_rows("/v1/views/by_route/rows?from=2001-01-02&to=2001-01-02", ROUTE_SQL "WHERE false",
                0);
    assert_rows("/v1/views/by_route/rows?from=1999-01-01&to=1999-01-02", ROUTE_SQL "WHERE false",
                0);
}

static void test_keys(void **state)
{
    (void)state;
    assert_rows("/v1/views/by_route/rows?origin=JFK", ROUTE_SQL "WHERE origin = 'JFK' " ROUTE_ORDER,
                5);
    assert_rows("/v1/views/by_route/rows?origin=JFK&destination=SFO",
                ROUTE_SQL "WHERE origin = 'JFK' AND destination = 'SFO' " ROUTE_ORDER, 1);
    assert_rows("/v1/views/by_route/rows?origin=", ROUTE_SQL "WHERE origin = '' " ROUTE_ORDER, 5);
    assert_rows("/v1/views/by_route/rows?origin", ROUTE_SQL "WHERE origin = '' " ROUTE_ORDER, 5);
    assert_rows("/v1/views/by_route/rows?origin.is=null",
                ROUTE_SQL "WHERE origin IS NULL " ROUTE_ORDER, 5);
    assert_rows("/v1/views/by_route/rows?origin=O'Hare",
                ROUTE_SQL "WHERE origin = 'O''Hare' " ROUTE_ORDER, 5);
    assert_rows("/v1/views/by_route/rows?origin=%22quoted%22",
                ROUTE_SQL "WHERE origin = '\"quoted\"' " ROUTE_ORDER, 5);
    assert_rows("/v1/views/by_route/rows?origin=%E6%97%a5%E6%9c%AC",
                ROUTE_SQL "WHERE origin = '日本' " ROUTE_ORDER, 5);
    assert_rows("/v1/views/by_route/rows?origin=%F0%9F%9B%AB",
                ROUTE_SQL "WHERE origin = E'\\U0001F6EB' " ROUTE_ORDER, 5);
    assert_rows("/v1/views/by_route/rows?origin=new%0Aline",
                ROUTE_SQL "WHERE origin = E'new\\nline' " ROUTE_ORDER, 5);
    assert_rows("/v1/views/by_route/rows?origin=back%5Cslash",
                ROUTE_SQL "WHERE origin = E'back\\\\slash' " ROUTE_ORDER, 5);
    assert_rows("/v1/views/by_route/rows?destination=50%25+%2B+1&limit=20",
                ROUTE_SQL "WHERE destination = '50%% + 1' OR destination = '50% + 1' " ROUTE_ORDER
                          " LIMIT 20",
                5);
    assert_rows("/v1/views/by_route/rows?destination=a%26b%3Dc%23d&limit=20",
                ROUTE_SQL "WHERE destination = 'a&b=c#d' " ROUTE_ORDER " LIMIT 20", 5);
    assert_rows("/v1/views/by_route/rows?origin=nowhere%27%3B+DROP+TABLE+x",
                ROUTE_SQL "WHERE false", 0);
}

static void test_typed_keys(void **state)
{
    (void)state;
    static const char columns[] =
        "SELECT " WINDOW_SQL ", delay, trim_scale(fare) AS fare, late, " TIME_SQL(
            "booked") " AS booked, trips, provisional FROM dovetail.typed t";
    static const char order[] = " ORDER BY t.window_start, delay, t.fare, late, t.booked";
    char sql[2048];
    char target[256];
    snprintf(sql, sizeof sql, "%s WHERE delay = 3%s", columns, order);
    assert_rows("/v1/views/typed/rows?delay=3", sql, 1);
    snprintf(sql, sizeof sql, "%s WHERE delay = -3 OR delay = -03%s", columns, order);
    assert_rows("/v1/views/typed/rows?delay=-3", sql, 1);
    snprintf(sql, sizeof sql, "%s WHERE late AND delay IS NULL%s", columns, order);
    assert_rows("/v1/views/typed/rows?late=true&delay.is=null", sql, 1);
    snprintf(sql, sizeof sql, "%s WHERE fare IS NULL%s", columns, order);
    assert_rows("/v1/views/typed/rows?fare.is=null", sql, 1);
    /* One fare and one time that occur, and the fare with zeros behind it. */
    PGresult *result = NULL;
    assert_status(STATUS_OK,
                  postgres_query(postgres,
                                 "SELECT trim_scale(fare), " TIME_SQL(
                                     "booked") " FROM dovetail.typed"
                                               " WHERE fare IS NOT NULL AND booked IS NOT NULL"
                                               " AND scale(trim_scale(fare)) > 0 LIMIT 1",
                                 0, NULL, &result, &error));
    snprintf(sql, sizeof sql, "%s WHERE fare = %s%s", columns, PQgetvalue(result, 0, 0), order);
    snprintf(target, sizeof target, "/v1/views/typed/rows?fare=%s00", PQgetvalue(result, 0, 0));
    assert_rows(target, sql, 1);
    snprintf(sql, sizeof sql, "%s WHERE booked = '%s'%s", columns, PQgetvalue(result, 0, 1), order);
    snprintf(target, sizeof target, "/v1/views/typed/rows?booked=%s", PQgetvalue(result, 0, 1));
    assert_rows(target, sql, 1);
    PQclear(result);
}

/* Keys that are named as parameters are. */
static void test_odd_names(void **state)
{
    (void)state;
#define ODD_SQL                                                                                    \
    "SELECT " WINDOW_SQL ", \"limit\", key, \"is\", trips, provisional FROM dovetail.odd_names t "
#define ODD_ORDER " ORDER BY t.window_start, \"limit\" COLLATE \"C\", key COLLATE \"C\", \"is\""
    assert_rows("/v1/views/odd_names/rows?key.limit=SFO",
                ODD_SQL "WHERE \"limit\" = 'SFO'" ODD_ORDER, 5);
    assert_rows("/v1/views/odd_names/rows?key.limit=SFO&limit=2",
                ODD_SQL "WHERE \"limit\" = 'SFO'" ODD_ORDER " LIMIT 2", 2);
    assert_rows("/v1/views/odd_names/rows?key=JFK", ODD_SQL "WHERE key = 'JFK'" ODD_ORDER, 5);
    assert_rows("/v1/views/odd_names/rows?key.key=JFK", ODD_SQL "WHERE key = 'JFK'" ODD_ORDER, 5);
    assert_rows("/v1/views/odd_names/rows?key.is=true", ODD_SQL "WHERE \"is\"" ODD_ORDER, 5);
    assert_rows("/v1/views/odd_names/rows?is.is=null", ODD_SQL "WHERE \"is\" IS NULL" ODD_ORDER, 5);
    assert_rows("/v1/views/odd_names/rows?key.key.is=null", ODD_SQL "WHERE key IS NULL" ODD_ORDER,
                5);
    assert_problem("/v1/views/odd_names/rows?key.is=perhaps", 400, "key.is", "is: ");
}

#define ROLLED_MEASURES                                                                            \
    "sum(trips)::bigint AS trips, sum(delayed)::bigint AS delayed, sum(total) AS total,"           \
    " trim_scale(sum(fares)) AS fares, min(best) AS best, max(worst) AS worst,"                    \
    " trim_scale(min(cheapest)) AS cheapest"
#define ROLLED "&measures=trips,delayed,total,fares,best,worst,cheapest"

static void test_roll_up_over_keys(void **state)
{
    (void)state;
    assert_rows("/v1/views/by_route/rows?group_by=destination" ROLLED,
                "SELECT " WINDOW_SQL ", destination, " ROLLED_MEASURES
                ", bool_or(provisional) AS provisional FROM dovetail.by_route t"
                " GROUP BY t.window_start, t.window_end, destination"
                " ORDER BY t.window_start, destination COLLATE \"C\"",
                100);
    assert_rows("/v1/views/by_route/rows?group_by=" ROLLED,
                "SELECT " WINDOW_SQL ", " ROLLED_MEASURES
                ", bool_or(provisional) AS provisional FROM dovetail.by_route t"
                " GROUP BY t.window_start, t.window_end ORDER BY t.window_start",
                50);
    /* The order of the names is the order of the columns, and of the rows. */
    assert_rows("/v1/views/by_route/rows?group_by=destination,origin&measures=trips&limit=50",
                "SELECT " WINDOW_SQL ", destination, origin, trips, provisional"
                " FROM dovetail.by_route t ORDER BY t.window_start, destination COLLATE \"C\","
                " origin COLLATE \"C\" LIMIT 50",
                50);
    /* A restriction on a key that is rolled up. */
    assert_rows("/v1/views/by_route/rows?group_by=&origin=JFK" ROLLED,
                "SELECT " WINDOW_SQL ", " ROLLED_MEASURES
                ", bool_or(provisional) AS provisional FROM dovetail.by_route t"
                " WHERE origin = 'JFK' GROUP BY t.window_start, t.window_end"
                " ORDER BY t.window_start",
                5);
}

#define DAY "date_trunc('day', t.window_start, 'UTC')"

static void test_roll_up_over_windows(void **state)
{
    (void)state;
    assert_rows(
        "/v1/views/by_route/rows?granularity=1d" ROLLED,
        "SELECT " TIME_SQL(DAY) " AS window_start, " TIME_SQL(
            "(" DAY
            " + interval '24 h')") " AS window_end, origin, destination, " ROLLED_MEASURES ", " DAY
                                   " + interval '24 h' > '2001-01-02 12:00Z' AS provisional"
                                   " FROM dovetail.by_route t GROUP BY " DAY ", origin, destination"
                                   " ORDER BY " DAY
                                   ", origin COLLATE \"C\", destination COLLATE \"C\"",
        100);
    /* from and to choose among the view's own windows. */
    assert_rows("/v1/views/by_route/rows?granularity=24h&group_by=&from=2001-01-01T20:00:00Z"
                "&to=2001-01-02T04:00:00Z" ROLLED,
                "SELECT " TIME_SQL(DAY) " AS window_start, " TIME_SQL(
                    "(" DAY
                    " + interval '24 h')") " AS window_end, " ROLLED_MEASURES ", " DAY
                                           " + interval '24 h' > '2001-01-02 12:00Z' AS provisional"
                                           " FROM dovetail.by_route t WHERE t.window_start >= "
                                           "'2001-01-01 20:00Z'"
                                           " AND t.window_start < '2001-01-02 04:00Z' GROUP BY " DAY
                                           " ORDER BY " DAY,
                2);
    assert_rows("/v1/views/by_route/rows?granularity=1h&limit=5", ROUTE_SQL ROUTE_ORDER " LIMIT 5",
                5);
}

static void test_roll_up_over_everything(void **state)
{
    (void)state;
    assert_rows("/v1/views/by_route/rows?granularity=all&group_by=origin" ROLLED,
                "SELECT NULL AS window_start, NULL AS window_end, origin, " ROLLED_MEASURES
                ", true AS provisional FROM dovetail.by_route GROUP BY origin"
                " ORDER BY origin COLLATE \"C\"",
                12);
    assert_rows(
        "/v1/views/by_route/rows?granularity=all&group_by=&from=2001-01-01&to=2001-01-02" ROLLED,
        "SELECT '2001-01-01T00:00:00Z' AS window_start,"
        " '2001-01-02T00:00:00Z' AS window_end, " ROLLED_MEASURES ", false AS provisional"
        " FROM dovetail.by_route t WHERE t.window_start < '2001-01-02Z'",
        1);
    /* The last window begins at 12:00 and is open, although `to` is not beyond the watermark. */
    assert_rows("/v1/views/by_route/rows?granularity=all&group_by=&to=2001-01-02T12:00:00Z"
                "&measures=trips",
                "SELECT NULL AS window_start, '2001-01-02T12:00:00Z' AS window_end,"
                " sum(trips)::bigint AS trips, false AS provisional FROM dovetail.by_route t"
                " WHERE t.window_start < '2001-01-02 12:00Z'",
                1);
    assert_rows("/v1/views/by_route/rows?granularity=all&group_by=&to=2001-01-02T12:00:00.5Z"
                "&measures=trips",
                "SELECT NULL AS window_start, '2001-01-02T12:00:00.5Z' AS window_end,"
                " sum(trips)::bigint AS trips, true AS provisional FROM dovetail.by_route t"
                " WHERE t.window_start < '2001-01-02 12:00:00.5Z'",
                1);
}

static void test_order(void **state)
{
    (void)state;
#define TIES ", t.window_start, origin COLLATE \"C\", destination COLLATE \"C\" LIMIT 200"
    static const char *const columns[][2] = {
        {"total", "total"},
        {"fares", "fares"},
        {"mean_fare", "mean_fare"},
        {"trips", "trips"},
        {"origin", "origin COLLATE \"C\""},
        {"window_start", "t.window_start"},
        {"window_end", "t.window_end"},
    };
    char target[128];
    char sql[1024];
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        snprintf(target, sizeof target, "/v1/views/by_route/rows?limit=200&order=%s",
                 columns[i][0]);
        snprintf(sql, sizeof sql, ROUTE_SQL "ORDER BY %s" TIES, columns[i][1]);
        assert_rows(target, sql, 200);
        snprintf(target, sizeof target, "/v1/views/by_route/rows?limit=200&order=-%s",
                 columns[i][0]);
        snprintf(sql, sizeof sql, ROUTE_SQL "ORDER BY %s DESC" TIES, columns[i][1]);
        assert_rows(target, sql, 200);
    }
    assert_rows("/v1/views/by_route/rows?limit=200&order=-trips,destination,-best",
                ROUTE_SQL "ORDER BY trips DESC, destination COLLATE \"C\", best DESC" TIES, 200);
}

/* Neither layer alone is in the SQL view: counts tell. */
static int64_t counted(const char *layer)
{
    char target[160];
    snprintf(target, sizeof target,
             "/v1/views/by_route/rows?granularity=all&group_by=&measures=trips&layer=%s", layer);
    json_t *json = get_json(target);
    json_t *row = json_array_get(json_object_get(json, "rows"), 0);
    int64_t trips_count = json_integer_value(json_object_get(row, "trips"));
    json_decref(json);
    return trips_count;
}

static void test_layers(void **state)
{
    (void)state;
    assert_int_equal(counted("merged"), EVENTS);
    assert_int_equal(counted("batch"), 150 + 100);
    assert_int_equal(counted("speed"), 100 + 150);
    json_t *json = get_json("/v1/views/by_route/rows?limit=1&layer=batch");
    json_t *receipt = json_object_get(json, "receipt");
    char *text = json_dumps(json_object_get(receipt, "positions"), JSON_COMPACT);
    assert_string_equal(text, "{\"trips\":[150,1100]}");
    assert_string_equal(text_at(receipt, "watermark"), "2001-01-01T05:00:00Z");
    assert_true(json_integer_value(json_object_get(receipt, "freshness_ms")) >= 10000);
    free(text);
    json_decref(json);
}

static void test_receipt(void **state)
{
    (void)state;
    json_t *json = get_json("/v1/views/by_route/rows?limit=1");
    json_t *receipt = json_object_get(json, "receipt");
    char *text = json_dumps(receipt, JSON_COMPACT);
    const char *expected = "{\"run\":1,\"cutoffs\":{\"trips\":[150,1100]},"
                           "\"positions\":{\"trips\":[250,1250]},"
                           "\"watermark\":\"2001-01-02T12:00:00Z\",\"freshness_ms\":";
    assert_string_equal(text_at(json, "view"), "by_route");
    if (strncmp(text, expected, strlen(expected)) != 0)
        fail_msg("%s", text);
    int64_t freshness = json_integer_value(json_object_get(receipt, "freshness_ms"));
    assert_true(freshness >= 2000 && freshness < 600000);
    free(text);
    json_decref(json);
}

/* --- refusals --- */

static void test_bad_parameters(void **state)
{
    (void)state;
    static const struct {
        const char *query;
        const char *parameter;
        const char *detail;
    } cases[] = {
        {"from=yesterday", "from", "2024-05-01"},
        {"to=2001-13-01", "to", "2024-05-01"},
        {"from=2001-01-01+00:00", "from", ""},
        {"from=", "from", ""},
        {"from=2001-01-02&to=2001-01-01", "to", "before"},
        {"from=10000-01-01", "from", ""},
        {"group_by=origin,nothing", "group_by", "origin, destination"},
        {"group_by=origin,origin", "group_by", "twice"},
        {"group_by=,", "group_by", ""},
        {"group_by=trips", "group_by", "no key"},
        {"granularity=90m", "granularity", "1h"},
        {"granularity=30m", "granularity", "1h"},
        {"granularity=day", "granularity", "all"},
        {"granularity=0h", "granularity", ""},
        {"granularity=9999999d", "granularity", ""},
        {"measures=nothing", "measures", "trips, delayed"},
        {"measures=trips,trips", "measures", "twice"},
        {"order=nothing", "order", "window_start"},
        {"order=-", "order", ""},
        {"order=total&measures=trips", "order", "total"},
        {"order=origin&group_by=", "order", "origin"},
        {"limit=0", "limit", "from 1"},
        {"limit=-1", "limit", ""},
        {"limit=1.5", "limit", ""},
        {"limit=99999999999999999999", "limit", ""},
        {"limit=+5", "limit", ""},
        {"", "limit", "more than 300"},
        {"limit=301", "limit", "more than 300"},
        {"layer=both", "layer", "merged"},
        {"nothing=1", "nothing", "origin"},
        {"Origin=JFK", "Origin", "origin"},
        {"origin.is=JFK", "origin.is", "null"},
        {"nothing.is=null", "nothing.is", "unknown"},
        {"key.from=1", "key.from", "unknown"},
        {"origin=JFK&key.origin=SFO", "origin", "twice"},
        {"origin=JFK&origin.is=null", "origin", "twice"},
        {"origin=JFK&origin=SFO", "origin", "twice"},
        {"limit=1&limit=1", "limit", "twice"},
        {"origin=%zz", "origin", "UTF-8"},
        {"origin=%4", "origin", "UTF-8"},
        {"origin=%", "origin", "UTF-8"},
        {"origin=a%00b", "origin", "UTF-8"},
        {"origin=%ff", "origin", "UTF-8"},
        {"origin=%C0%80", "origin", "UTF-8"},
        {"origin=%ED%A0%80", "origin", "UTF-8"},
        {"%ff=1", "?", "UTF-8"},
        {"a%0Ab=1", "a?b", "unknown"},
        {"at_least=1", "at_least", "trips"},
        {"at_least={\"other\":[1]}", "at_least", "trips"},
        {"at_least={\"trips\":[-1]}", "at_least", "offset"},
        {"at_least={\"trips\":[1.5]}", "at_least", "offset"},
        {"at_least={\"trips\":[1,1,1]}&limit=1", "at_least", "2 partitions"},
        {"at_least={\"trips\":[1],\"b\":[1]}", "at_least", "trips"},
        {"wait_ms=30001", "wait_ms", "30000"},
    };
    char target[512];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(target, sizeof target, "/v1/views/by_route/rows?%s", cases[i].query);
        assert_problem(target, 400, cases[i].parameter, cases[i].detail);
    }
    assert_problem("/v1/views/typed/rows?delay=x", 400, "delay", "delay: ");
    assert_problem("/v1/views/typed/rows?delay=99999999999999999999", 400, "delay", "delay: ");
    assert_problem("/v1/views/typed/rows?late=maybe", 400, "late", "late: ");
    assert_problem("/v1/views/typed/rows?booked=today", 400, "booked", "booked: ");
    assert_problem("/v1/views/typed/rows?fare=NaN", 400, "fare", "fare: ");
    assert_problem("/v1/views/typed/rows?fare=", 400, "fare", "fare: ");
    assert_problem("/v1/views?x=1", 400, "x", "no parameters");
    assert_problem("/v1/views/typed?x=1", 400, "x", "no parameters");
    assert_problem("/v1/status?x=1", 400, "x", "no parameters");
}

static void test_unknown_paths(void **state)
{
    (void)state;
    assert_problem("/v1/views/nothing", 404, NULL, "/v1/views");
    assert_problem("/v1/views/nothing/rows", 404, NULL, "/v1/views");
    assert_problem("/v1/views/by_route%27/rows", 404, NULL, "");
    assert_problem("/v1", 404, NULL, "");
    assert_problem("/v2/views", 404, NULL, "");
    assert_problem("/v1/views/by_route/rows/x", 404, NULL, "");
    assert_problem("/v1//views", 404, NULL, "");
    assert_problem("/a/b/c/d/e/f/g/h/i/j/k", 404, NULL, "");
    assert_problem("/v1/views/%ff/rows", 400, NULL, "UTF-8");
    assert_problem("/v1/views/a%00/rows", 400, NULL, "UTF-8");
    assert_problem("/v1/views/by_route%2Frows", 404, NULL, "");
    /* A percent-encoded letter is the letter, and a trailing slash is nothing. */
    struct reply reply = get("/v1/views/%62y_route/rows?limit=1");
    assert_int_equal(reply.status, 200);
    free(reply.text);
    reply = get("/v1/views/");
    assert_int_equal(reply.status, 200);
    free(reply.text);
}

static void test_methods(void **state)
{
    (void)state;
    static const char *const refused[] = {"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct reply reply = receive(send_request(refused[i], "/v1/views"));
        assert_int_equal(reply.status, 405);
        assert_true(has_header(&reply, "Allow: GET, HEAD\r\n"));
        free(reply.text);
    }
    struct reply full = get("/v1/views/by_route/rows?limit=3");
    struct reply head = receive(send_request("HEAD", "/v1/views/by_route/rows?limit=3"));
    assert_int_equal(head.status, 200);
    assert_string_equal(head.body, "");
    assert_true(has_header(&head, "Content-Type: application/json\r\n"));
    assert_true(has_header(&head, "Content-Length: "));
    free(full.text);
    free(head.text);
    /* A body is no reason to fail, and is not taken for the next request. */
    full = receive(send_text("GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
                             "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    assert_int_equal(count_of(full.text, "200 OK"), 2);
    free(full.text);
}

static void test_limits_of_requests(void **state)
{
    (void)state;
    char *text = malloc(100000);
    assert_non_null(text);
    /* Longer than we take. */
    int length = snprintf(text, 100000, "/v1/views/by_route/rows?origin=");
    memset(text + length, 'x', 9000);
    text[length + 9000] = '\0';
    assert_problem(text, 414, NULL, "8,192");
    /* Longer than the library takes: refused, whatever the words. */
    memset(text + length, 'x', 90000);
    text[length + 90000] = '\0';
    struct reply reply = get(text);
    assert_true(reply.status == 414 || reply.status == 431 || reply.status == 0);
    free(reply.text);
    /* More parameters than we take. */
    length = snprintf(text, 100000, "/v1/views/by_route/rows?");
    for (int i = 0; i < 70; i++)
        length += snprintf(text + length, 32, "p%d=1&", i);
    assert_problem(text, 400, "p64", "64 parameters");
    /* A large header. */
    length = snprintf(text, 100000, "GET /livez HTTP/1.1\r\nHost: x\r\nX-Large: ");
    memset(text + length, 'x', 80000);
    snprintf(text + length + 80000, 64, "\r\nConnection: close\r\n\r\n");
    reply = receive(send_text(text));
    assert_true(reply.status == 431 || reply.status == 413 || reply.status == 0);
    free(reply.text);
    free(text);
    /* And it still answers. */
    reply = get("/livez");
    assert_int_equal(reply.status, 200);
    free(reply.text);
    reply = receive(send_text("rubbish\r\n\r\n"));
    free(reply.text);
    reply = get("/livez");
    assert_string_equal(reply.body, "ok\n");
    free(reply.text);
}

/* More different statements than a connection keeps, over one connection after the other. */
static void test_many_different_statements(void **state)
{
    (void)state;
    static const char *const measures[] = {"trips",     "delayed", "total", "fares",
                                           "mean_fare", "best",    "worst", "cheapest"};
    char target[256];
    for (size_t i = 0; i < 8 * 8 * 8; i++) {
        size_t a = i % 8, b = i / 8 % 8, c = i / 64;
        if (a == b || b == c || a == c)
            continue;
        snprintf(target, sizeof target,
                 "/v1/views/by_route/rows?limit=1&origin=JFK&destination=SFO&measures=%s,%s,%s",
                 measures[a], measures[b], measures[c]);
        json_decref(get_json(target));
    }
}

/* --- the other paths --- */

static void test_views(void **state)
{
    (void)state;
    json_t *json = get_json("/v1/views");
    json_t *views = json_object_get(json, "views");
    assert_int_equal(json_array_size(views), 3);
    json_t *view = json_array_get(views, 0);
    assert_string_equal(text_at(view, "view"), "by_route");
    assert_string_equal(text_at(view, "source"), "trips");
    assert_string_equal(text_at(view, "topic"), "trips");
    assert_string_equal(text_at(view, "state"), "current");
    assert_string_equal(text_at(view, "description"), "Trips by route");
    assert_true(json_is_true(json_object_get(view, "readable")));
    assert_int_equal(json_integer_value(json_object_get(view, "run")), 1);
    assert_string_equal(text_at(json_object_get(view, "window"), "size"), "1h");
    json_t *keys = json_object_get(view, "keys");
    assert_int_equal(json_array_size(keys), 2);
    assert_string_equal(text_at(json_array_get(keys, 0), "name"), "origin");
    assert_string_equal(text_at(json_array_get(keys, 0), "type"), "string");
    json_t *measures = json_object_get(view, "measures");
    assert_int_equal(json_array_size(measures), 8);
    assert_string_equal(text_at(json_array_get(measures, 4), "name"), "mean_fare");
    assert_string_equal(text_at(json_array_get(measures, 4), "type"), "decimal");
    assert_string_equal(text_at(json_array_get(measures, 4), "expression"), "avg(fare)");
    json_t *links = json_object_get(view, "links");
    json_t *own = get_json(text_at(links, "self"));
    assert_true(json_equal(own, view));
    json_decref(own);
    assert_string_equal(text_at(links, "rows"), "/v1/views/by_route/rows");
    json_decref(json);
}

static void test_status(void **state)
{
    (void)state;
    json_t *json = get_json("/v1/status");
    assert_int_equal(json_integer_value(json_object_get(json, "run")), 1);
    json_t *source = json_array_get(json_object_get(json, "sources"), 0);
    assert_string_equal(text_at(source, "source"), "trips");
    json_t *partitions = json_object_get(source, "partitions");
    assert_int_equal(json_array_size(partitions), PARTITIONS);
    json_t *first = json_array_get(partitions, 0);
    assert_int_equal(json_integer_value(json_object_get(first, "cutoff")), 150);
    assert_int_equal(json_integer_value(json_object_get(first, "position")), 250);
    json_t *ledger = json_object_get(first, "ledger");
    assert_int_equal(json_integer_value(json_object_get(ledger, "counted")), 240);
    json_t *view = json_array_get(json_object_get(json, "views"), 0);
    json_t *version = json_array_get(json_object_get(view, "versions"), 0);
    assert_true(json_is_true(json_object_get(version, "readable")));
    assert_int_equal(json_array_size(json_object_get(json, "runs")), 2);
    json_decref(json);
}

static void test_metrics(void **state)
{
    (void)state;
    struct reply reply = get("/metrics");
    assert_int_equal(reply.status, 200);
    static const char *const lines[] = {
        "\ndovetail_postgres_up 1\n",
        "\ndovetail_current_run 1\n",
        "\ndovetail_cutoff_offset{topic=\"trips\",partition=\"1\"} 1100\n",
        "\ndovetail_position_offset{topic=\"trips\",partition=\"0\"} 250\n",
        "\ndovetail_records_total{topic=\"trips\",partition=\"0\",outcome=\"filtered\"} 6\n",
        "\ndovetail_http_requests_total{route=\"/v1/views/{view}/rows\",code=\"400\"} ",
        "\ndovetail_http_requests_total{route=\"other\",code=\"404\"} ",
        "\ndovetail_http_request_duration_seconds_bucket{route=\"/livez\",le=\"+Inf\"} ",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (strstr(reply.body, lines[i]) == NULL)
            fail_msg("%s is not in %s", lines[i], reply.body);
    free(reply.text);
}

/* The description has exactly the routes that the metrics, hence the server, know. */
static void test_openapi_is_true(void **state)
{
    (void)state;
    json_t *json = get_json("/openapi.json");
    json_t *paths = json_object_get(json, "paths");
    const char *path;
    json_t *item;
    char line[160];
    assert_string_equal(text_at(json, "openapi"), "3.1.0");
    struct reply reply = get("/metrics");
    int described = 0;
    json_object_foreach (paths, path, item) {
        snprintf(line, sizeof line, "_count{route=\"%s\"}", path);
        if (strstr(reply.body, line) == NULL)
            fail_msg("%s is described, but no route", path);
        assert_non_null(json_object_get(item, "get"));
        described++;
    }
    assert_int_equal(count_of(reply.body, "seconds_count{route="), described + 1); /* "other" */
    /* And exactly the parameters that the refusal of an unknown one lists. */
    json_t *rows = json_object_get(json_object_get(paths, "/v1/views/{view}/rows"), "get");
    size_t index;
    json_t *parameter;
    free(reply.text);
    reply = get("/v1/views/by_route/rows?nothing=1");
    json_array_foreach (json_object_get(rows, "parameters"), index, parameter) {
        snprintf(line, sizeof line, "%s, ", text_at(parameter, "name"));
        assert_non_null(strstr(reply.body, line));
    }
    assert_int_equal(index, 11);
    free(reply.text);
    json_decref(json);
}

static void test_index(void **state)
{
    (void)state;
    struct reply reply = get("/?any=thing");
    assert_int_equal(reply.status, 200);
    assert_true(has_header(&reply, "Content-Type: text/html; charset=utf-8\r\n"));
    assert_true(has_header(&reply, "Content-Security-Policy: default-src 'none'"));
    assert_true(has_header(&reply, "Cache-Control: no-cache\r\n"));
    assert_non_null(strstr(reply.body, "/dashboard/main.js"));
    assert_null(strstr(reply.body, "http://"));
    assert_null(strstr(reply.body, "https://"));
    free(reply.text);
    reply = get("/dashboard/vendor/LICENSE.uPlot");
    assert_int_equal(reply.status, 200);
    assert_true(has_header(&reply, "Content-Type: text/plain; charset=utf-8\r\n"));
    free(reply.text);
    assert_problem("/dashboard/nothing.js", 404, NULL, "no such file");
}

/* --- waiting --- */

static void test_at_least_reached_already(void **state)
{
    (void)state;
    json_decref(get_json("/v1/views/by_route/rows?limit=1&at_least={%22trips%22:[250,1250]}"));
    json_decref(get_json("/v1/views/by_route/rows?limit=1&at_least={%22trips%22:[null,1250]}"));
    json_decref(get_json("/v1/views/by_route/rows?limit=1&at_least=%7B%22trips%22%3A%5B%5D%7D"));
    json_decref(
        get_json("/v1/views/by_route/rows?limit=1&layer=batch&at_least={%22trips%22:[150]}"));
}

static void test_at_least_not_in_time(void **state)
{
    (void)state;
    assert_problem("/v1/views/by_route/rows?limit=1&wait_ms=100&at_least={%22trips%22:[251]}", 504,
                   NULL, "[250, 1250]");
    assert_problem("/v1/views/by_route/rows?limit=1&wait_ms=0&at_least={%22trips%22:[251]}", 504,
                   NULL, "[250, 1250]");
    assert_problem("/v1/views/by_route/rows?limit=1&wait_ms=50&layer=batch"
                   "&at_least={%22trips%22:[151]}",
                   504, NULL, "[150, 1100]");
}

/* Many wait at once without holding up others, and all of them are answered when P has come. */
static void test_at_least_waits(void **state)
{
    (void)state;
    enum { WAITING = 40 };
    int fds[WAITING];
    for (int i = 0; i < WAITING; i++)
        fds[i] = send_request(
            "GET", "/v1/views/by_route/rows?limit=1&wait_ms=20000&at_least={%22trips%22:[251]}");
    usleep(150 * 1000);
    struct pollfd silent = {.fd = fds[0], .events = POLLIN};
    assert_int_equal(poll(&silent, 1, 0), 0);
    json_decref(get_json("/v1/views/by_route/rows?limit=1"));
    execute("UPDATE dovetail_internal.position SET next_offset = 251 WHERE partition = 0");
    for (int i = 0; i < WAITING; i++) {
        struct reply reply = receive(fds[i]);
        assert_int_equal(reply.status, 200);
        assert_non_null(strstr(reply.body, "\"positions\":{\"trips\":[251,1250]}"));
        free(reply.text);
    }
    execute("UPDATE dovetail_internal.position SET next_offset = 250 WHERE partition = 0");
}

/* --- PostgreSQL away and back --- */

static void terminate_backends(void)
{
    assert_status(STATUS_OK,
                  postgres_executef(admin, &error,
                                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                                    " WHERE datname = '%s' AND application_name ="
                                    " 'dovetail-serving'",
                                    database));
    usleep(100 * 1000);
}

static void test_lost_connections_are_renewed(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        terminate_backends();
        json_decref(get_json("/v1/views/by_route/rows?limit=1"));
        terminate_backends();
        json_decref(get_json("/v1/views"));
        terminate_backends();
        json_decref(get_json("/v1/status"));
    }
}

static void test_postgres_away_and_back(void **state)
{
    (void)state;
    assert_status(
        STATUS_OK,
        postgres_executef(admin, &error, "ALTER DATABASE %s ALLOW_CONNECTIONS false", database));
    terminate_backends();
    assert_problem("/v1/views/by_route/rows?limit=1", 503, NULL, "PostgreSQL is away");
    assert_problem("/v1/views", 503, NULL, "PostgreSQL is away");
    assert_problem("/v1/status", 503, NULL, "PostgreSQL is away");
    assert_problem("/readyz", 503, NULL, "PostgreSQL is away");
    struct reply reply = get("/readyz");
    assert_true(has_header(&reply, "Retry-After: 1\r\n"));
    free(reply.text);
    reply = get("/livez");
    assert_int_equal(reply.status, 200);
    free(reply.text);
    reply = get("/metrics");
    assert_non_null(strstr(reply.body, "\ndovetail_postgres_up 0\n"));
    free(reply.text);
    reply = get("/");
    assert_int_equal(reply.status, 200);
    free(reply.text);
    assert_status(
        STATUS_OK,
        postgres_executef(admin, &error, "ALTER DATABASE %s ALLOW_CONNECTIONS true", database));
    usleep(300 * 1000);
    json_decref(get_json("/v1/views/by_route/rows?limit=1"));
    reply = get("/readyz");
    assert_int_equal(reply.status, 200);
    free(reply.text);
}

/* Where the database is and who we are to it is the operator's to know. */
static void assert_secret(const char *target)
{
    char port_text[16];
    const char *at = strstr(conninfo, "port=");
    assert_non_null(at);
    snprintf(port_text, sizeof port_text, "%d", atoi(at + 5));
    struct reply reply = get(target);
    assert_int_equal(reply.status, 503);
    const char *const secrets[] = {port_text, "127.0.0.1", "host", "user", "FATAL", database};
    for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++)
        if (strstr(reply.body, secrets[i]) != NULL)
            fail_msg("%s tells \"%s\": %s", target, secrets[i], reply.body);
    free(reply.text);
}

/* The program's messages until one has `text`. */
static void assert_logged(const char *text)
{
    char messages[16384];
    size_t length = 0;
    messages[0] = '\0';
    while (strstr(messages, text) == NULL) {
        struct pollfd wait = {.fd = server_messages, .events = POLLIN};
        if (length + 1 == sizeof messages || poll(&wait, 1, 15000) != 1)
            fail_msg("not logged: %s\n%s", text, messages);
        ssize_t got = read(server_messages, messages + length, sizeof messages - 1 - length);
        assert_true(got > 0);
        length += (size_t)got;
        messages[length] = '\0';
    }
}

static void test_connection_details_stay_in_the_log(void **state)
{
    (void)state;
    assert_status(
        STATUS_OK,
        postgres_executef(admin, &error, "ALTER DATABASE %s ALLOW_CONNECTIONS false", database));
    terminate_backends();
    assert_secret("/v1/views/by_route/rows?limit=1");
    assert_secret("/v1/views");
    assert_secret("/v1/status");
    assert_secret("/readyz");
    assert_logged("is not currently accepting connections");
    assert_status(
        STATUS_OK,
        postgres_executef(admin, &error, "ALTER DATABASE %s ALLOW_CONNECTIONS true", database));
    usleep(300 * 1000);
    json_decref(get_json("/v1/views"));
    assert_logged("PostgreSQL is back");
}

/* --- new versions --- */

static void register_view(const char *text)
{
    struct catalog *catalog = NULL;
    struct view *view = NULL;
    enum catalog_change change;
    assert_status(STATUS_OK, catalog_load(postgres, &catalog, &error));
    json_t *json = json_loads(text, 0, NULL);
    assert_status(STATUS_OK,
                  view_create(json, "test", catalog_source(catalog, "trips"), &view, &error));
    execute("BEGIN");
    assert_status(STATUS_OK, catalog_register_view(postgres, view, &change, &error));
    assert_status(STATUS_OK, catalog_promote(postgres, &error));
    execute("COMMIT");
    json_decref(json);
    view_destroy(view);
    catalog_destroy(catalog);
}

static const char young_json[] = "{\"view\": \"young\", \"source\": \"trips\","
                                 " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"},"
                                 " \"measures\": {\"trips\": \"count(*)\"}}";
static const char changed_json[] = "{\"view\": \"typed\", \"source\": \"trips\","
                                   " \"group_by\": [\"late\"],"
                                   " \"window\": {\"type\": \"tumbling\", \"size\": \"1d\"},"
                                   " \"measures\": {\"how_many\": \"count(*)\"}}";

/* A view without keys, and a changed one: both are built by the next run. */
static void test_building_versions(void **state)
{
    (void)state;
    register_view(young_json);
    register_view(changed_json);
    assert_problem("/v1/views/young/rows", 503, NULL, "being built");
    json_t *json = get_json("/v1/views/young");
    assert_string_equal(text_at(json, "state"), "building");
    assert_true(json_is_false(json_object_get(json, "readable")));
    json_decref(json);
    json = get_json("/v1/views/typed/rows?limit=1"); /* the old version */
    assert_non_null(json_object_get(json_array_get(json_object_get(json, "rows"), 0), "trips"));
    json_decref(json);
}

/* The request after the publication has the new version, without a restart. */
static void test_published_versions(void **state)
{
    (void)state;
    struct catalog *catalog = NULL;
    execute("BEGIN;"
            "INSERT INTO dovetail_internal.run (run, state, reason) VALUES (2, 'published', 'x');"
            "INSERT INTO dovetail_internal.run_cutoff VALUES"
            " (2, 'trips', 0, 250, now(), '2001-01-03 07:30Z'),"
            " (2, 'trips', 1, 1250, now(), '2001-01-03 08:30Z');"
            "UPDATE dovetail_internal.current_run SET run = 2");
    assert_status(STATUS_OK, catalog_load(postgres, &catalog, &error));
    for (size_t i = 0; i < catalog->version_count; i++) {
        const struct catalog_version *version = &catalog->versions[i];
        assert_status(STATUS_OK, catalog_mark_built(postgres, version->version, 2, &error));
        if (version->state == CATALOG_BUILDING) {
            char table[CATALOG_NAME_BYTES];
            catalog_batch_table(version->version, table);
            assert_status(STATUS_OK,
                          postgres_executef(postgres, &error,
                                            "INSERT INTO %s (_run_from, window_start, %s)"
                                            " VALUES (2, '2001-01-01Z', 7)",
                                            table, version->view->measures[0].name));
        }
    }
    assert_status(STATUS_OK, catalog_promote(postgres, &error));
    execute("COMMIT");
    assert_rows("/v1/views/typed/rows",
                "SELECT '2001-01-01T00:00:00Z' AS window_start,"
                " '2001-01-02T00:00:00Z' AS window_end, NULL AS late, 7 AS how_many,"
                " false AS provisional",
                1);
    assert_rows("/v1/views/young/rows",
                "SELECT '2001-01-01T00:00:00Z' AS window_start,"
                " '2001-01-01T01:00:00Z' AS window_end, 7 AS trips, false AS provisional",
                1);
    assert_problem("/v1/views/typed/rows?measures=trips", 400, "measures", "how_many");
    /* Back to run 1: the new versions have no rows for it. */
    execute("UPDATE dovetail_internal.current_run SET run = 1");
    assert_problem("/v1/views/young/rows", 503, NULL, "being built");
    json_t *json = get_json("/v1/views/young");
    assert_true(json_is_false(json_object_get(json, "readable")));
    json_decref(json);
    catalog_destroy(catalog);
}

/* --- the end --- */

static void test_stop_finishes_requests(void **state)
{
    (void)state;
    int status = 0;
    int fd = send_request(
        "GET", "/v1/views/by_route/rows?limit=1&wait_ms=30000&at_least={%22trips%22:[251]}");
    usleep(100 * 1000);
    assert_int_equal(kill(server_pid, SIGTERM), 0);
    struct reply reply = receive(fd);
    assert_int_equal(reply.status, 503);
    assert_non_null(strstr(reply.body, "stopping"));
    free(reply.text);
    assert_int_equal(waitpid(server_pid, &status, 0), server_pid);
    server_pid = 0;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_rows_equal_sql),
        cmocka_unit_test(test_every_event_counts_once),
        cmocka_unit_test(test_range_and_limit),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_typed_keys),
        cmocka_unit_test(test_odd_names),
        cmocka_unit_test(test_roll_up_over_keys),
        cmocka_unit_test(test_roll_up_over_windows),
        cmocka_unit_test(test_roll_up_over_everything),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_receipt),
        cmocka_unit_test(test_bad_parameters),
        cmocka_unit_test(test_unknown_paths),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_limits_of_requests),
        cmocka_unit_test(test_many_different_statements),
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_openapi_is_true),
        cmocka_unit_test(test_index),
        cmocka_unit_test(test_at_least_reached_already),
        cmocka_unit_test(test_at_least_not_in_time),
        cmocka_unit_test(test_at_least_waits),
        cmocka_unit_test(test_lost_connections_are_renewed),
        cmocka_unit_test(test_postgres_away_and_back),
        cmocka_unit_test(test_connection_details_stay_in_the_log),
        cmocka_unit_test(test_building_versions),
        cmocka_unit_test(test_published_versions),
        cmocka_unit_test(test_stop_finishes_requests),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
