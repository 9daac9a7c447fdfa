/* A deployment for one test: see deployment.h. */
#include "tests/support/deployment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/broker.h"
#include "tests/support/database.h"
#include "tests/support/http.h"
#include "tests/support/stack.h"

enum { ARGUMENTS_MAX = 40, SERVE_ATTEMPTS = 3 };

/* --- PostgreSQL --- */

static void administer(const struct deployment *deployment, const char *what, const char *how)
{
    char sql[256];
    snprintf(sql, sizeof sql, "%s %s%s", what, deployment->database, how);
    PGconn *connection = database_connect(deployment->server);
    PGresult *result = database_ask(connection, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        print_message("%s: %s", sql, PQerrorMessage(connection));
    PQclear(result);
    PQfinish(connection);
}

/* The stack's conninfo with another database; quoting as in conninfo texts. */
static void fill_conninfo(struct deployment *deployment)
{
    char *error = NULL;
    char *out = deployment->postgres;
    size_t size = sizeof deployment->postgres;
    PQconninfoOption *options = PQconninfoParse(deployment->server, &error);
    if (options == NULL)
        fail_msg("%s", error);
    size_t length = (size_t)snprintf(out, size, "dbname='%s'", deployment->database);
    for (PQconninfoOption *option = options; option->keyword != NULL; option++)
        if (option->val != NULL && strcmp(option->keyword, "dbname") != 0)
            length += (size_t)snprintf(out + length, size - length, " %s='%s'", option->keyword,
                                       option->val);
    PQconninfoFree(options);
    assert_true(length < size);
}

PGconn *deployment_connect(const struct deployment *deployment)
{
    return database_connect(deployment->postgres);
}

static PGconn *kept; /* for numbers: to the database of the last one that was asked for */
static char kept_conninfo[sizeof((struct deployment *)NULL)->postgres];

static void forget_kept(void)
{
    PQfinish(kept);
    kept = NULL;
}

static PGresult *ask_kept(const struct deployment *deployment, const char *sql)
{
    if (kept != NULL && strcmp(kept_conninfo, deployment->postgres) != 0)
        forget_kept();
    PGresult *result = kept != NULL ? database_ask(kept, sql) : NULL;
    if (kept != NULL && PQstatus(kept) == CONNECTION_OK)
        return result;
    /* The server may have been stopped and started since. */
    PQclear(result);
    forget_kept();
    snprintf(kept_conninfo, sizeof kept_conninfo, "%s", deployment->postgres);
    kept = database_open(kept_conninfo);
    return database_ask(kept, sql);
}

static int64_t number_of(const PGresult *result)
{
    return PQntuples(result) > 0 && !PQgetisnull(result, 0, 0)
               ? strtoll(PQgetvalue(result, 0, 0), NULL, 10)
               : -1;
}

int64_t deployment_number(const struct deployment *deployment, const char *sql)
{
    PGresult *result = ask_kept(deployment, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(kept));
    int64_t number = number_of(result);
    PQclear(result);
    return number;
}

bool deployment_has_number(const struct deployment *deployment, const char *sql, int64_t *out)
{
    PGresult *result = ask_kept(deployment, sql);
    bool good = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) > 0;
    if (good)
        *out = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return good;
}

/* --- files --- */

void deployment_write(const struct deployment *deployment, const char *path, const char *text)
{
    char full[PATH_MAX];
    snprintf(full, sizeof full, "%s/%s", deployment->directory, path);
    FILE *file = fopen(full, "w");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0)
        fail_msg("%s: %s", full, strerror(errno));
}

void deployment_remove(const struct deployment *deployment, const char *path)
{
    char full[PATH_MAX];
    snprintf(full, sizeof full, "%s/%s", deployment->directory, path);
    if (unlink(full) != 0)
        fail_msg("%s: %s", full, strerror(errno));
}

static void write_json(const struct deployment *deployment, const char *path, const json_t *json)
{
    char *text = json_dumps(json, JSON_INDENT(2));
    assert_non_null(text);
    deployment_write(deployment, path, text);
    free(text);
}

static void make_directory(const struct deployment *deployment, const char *path)
{
    char full[PATH_MAX];
    snprintf(full, sizeof full, "%s/%s", deployment->directory, path);
    if (mkdir(full, 0700) != 0)
        fail_msg("%s: %s", full, strerror(errno));
}

static int remove_entry(const char *path, const struct stat *stat, int kind, struct FTW *walk)
{
    (void)stat, (void)kind, (void)walk;
    return remove(path);
}

/* --- definitions --- */

const char *deployment_topic(const struct deployment *deployment, const char *source)
{
    static char names[8][128];
    static unsigned turn;
    char *name = names[turn++ % 8];
    snprintf(name, sizeof names[0], "test-%s%s", source, deployment->suffix);
    return name;
}

static void define(const struct deployment *deployment, const char *folder, const char *kind,
                   const char *text)
{
    char path[256];
    json_error_t fault;
    json_t *json = json_loads(text, 0, &fault);
    if (json == NULL)
        fail_msg("%s at %d: %s", fault.text, fault.position, text);
    const char *name = json_string_value(json_object_get(json, kind));
    assert_non_null(name);
    if (strcmp(kind, "source") == 0)
        json_object_set_new(json, "topic", json_string(deployment_topic(deployment, name)));
    snprintf(path, sizeof path, "schemas/%s/%s.json", folder, name);
    write_json(deployment, path, json);
    json_decref(json);
}

void deployment_define_source(const struct deployment *deployment, const char *json)
{
    define(deployment, "sources", "source", json);
}

void deployment_define_view(const struct deployment *deployment, const char *json)
{
    define(deployment, "views", "view", json);
}

void deployment_set(struct deployment *deployment, const char *section, const char *key,
                    json_t *value)
{
    json_t *object =
        section == NULL ? deployment->settings : json_object_get(deployment->settings, section);
    if (object == NULL) {
        object = json_object();
        json_object_set_new(deployment->settings, section, object);
    }
    json_object_set_new(object, key, value);
    write_json(deployment, "dovetail.json", deployment->settings);
}

/* --- life --- */

static struct deployment *alive; /* removed at exit where a test did not come to it */

static void remove_at_exit(void)
{
    deployment_destroy(alive);
}

struct deployment *deployment_create_on(const char *conninfo)
{
    static bool registered;
    uint64_t number = 0;
    struct deployment *deployment = calloc(1, sizeof *deployment);
    assert_non_null(deployment);
    deployment->server = conninfo;
    if (getrandom(&number, sizeof number, 0) != sizeof number)
        fail_msg("no random numbers");
    snprintf(deployment->suffix, sizeof deployment->suffix, "-%016llx", (unsigned long long)number);
    snprintf(deployment->database, sizeof deployment->database, "dovetail_test_%016llx",
             (unsigned long long)number);
    const char *temporary = getenv("TMPDIR");
    if (temporary == NULL || strlen(temporary) > 30)
        temporary = "/tmp";
    snprintf(deployment->directory, sizeof deployment->directory, "%s/dovetail-test-XXXXXX",
             temporary);
    if (mkdtemp(deployment->directory) == NULL)
        fail_msg("%s: %s", deployment->directory, strerror(errno));
    alive = deployment;
    if (!registered)
        atexit(remove_at_exit);
    registered = true;
    snprintf(deployment->config, sizeof deployment->config, "%s/dovetail.json",
             deployment->directory);
    fill_conninfo(deployment);
    administer(deployment, "CREATE DATABASE", "");
    make_directory(deployment, "schemas");
    make_directory(deployment, "schemas/sources");
    make_directory(deployment, "schemas/views");
    make_directory(deployment, "archive");
    make_directory(deployment, "log");
    deployment->settings =
        json_pack("{s:{s:s}, s:s, s:s, s:{s:i, s:i}, s:{s:s}, s:{s:s}}", "kafka",
                  "bootstrap.servers", stack_kafka(), "postgres", deployment->postgres, "schemas",
                  "schemas", "speed", "flush_interval_ms", 20, "slice_interval_ms", 700, "batch",
                  "archive", "archive", "serving", "listen", "127.0.0.1:0");
    assert_non_null(deployment->settings);
    write_json(deployment, "dovetail.json", deployment->settings);
    return deployment;
}

struct deployment *deployment_create(void)
{
    return deployment_create_on(stack_postgres());
}

void deployment_destroy(struct deployment *deployment)
{
    if (deployment == NULL)
        return;
    alive = NULL;
    forget_kept();
    children_end();
    if (getenv("DOVETAIL_KEEP") != NULL) {
        print_message("kept: %s, database %s\n", deployment->directory, deployment->database);
    } else {
        if (strcmp(deployment->server, stack_postgres()) == 0) /* else it goes with its server */
            administer(deployment, "DROP DATABASE IF EXISTS", " WITH (FORCE)");
        broker_delete_topics(deployment->suffix);
        nftw(deployment->directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    }
    json_decref(deployment->settings);
    free(deployment);
}

/* --- programs --- */

static struct child *start(const struct deployment *deployment, const char *program, va_list rest)
{
    const char *argv[ARGUMENTS_MAX + 4];
    char path[PATH_MAX], logs[PATH_MAX];
    int count = 0;
    argv[count++] = stack_program(program, path, sizeof path);
    argv[count++] = "--config";
    argv[count++] = deployment->config;
    for (const char *argument; (argument = va_arg(rest, const char *)) != NULL;) {
        assert_true(count < ARGUMENTS_MAX);
        argv[count++] = argument;
    }
    argv[count] = NULL;
    snprintf(logs, sizeof logs, "%s/log", deployment->directory);
    const char *folder = strrchr(program, '/');
    return child_start(logs, folder == NULL ? program : folder + 1, argv);
}

struct child *deployment_start(const struct deployment *deployment, const char *program, ...)
{
    va_list rest;
    va_start(rest, program);
    struct child *child = start(deployment, program, rest);
    va_end(rest);
    return child;
}

struct child *deployment_run(const struct deployment *deployment, int expected, const char *program,
                             ...)
{
    va_list rest;
    va_start(rest, program);
    struct child *child = start(deployment, program, rest);
    va_end(rest);
    child_expect(child, expected);
    return child;
}

/* False: it ended, such as for a port that somebody else took meanwhile. */
static bool is_ready(struct deployment *deployment)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    struct http_session *session = http_session_create(deployment->port);
    struct http_reply reply;
    bool ready = false;
    while (!ready && child_is_running(deployment->serving)) {
        http_get(session, "/readyz", &reply);
        ready = reply.status == 200;
        if (!ready && stack_now_ms() > deadline) {
            children_show();
            fail_msg("/readyz: %d %s %s", reply.status, reply.problem, reply.body);
        }
        http_reply_free(&reply);
        if (!ready)
            stack_sleep_ms(20);
    }
    http_session_destroy(session);
    return ready;
}

void deployment_await_serving(struct deployment *deployment, struct child *serving)
{
    deployment->serving = serving;
    if (is_ready(deployment))
        return;
    children_show();
    fail_msg("dovetail-serving does not start");
}

void deployment_serve(struct deployment *deployment)
{
    for (int attempt = 0; attempt < SERVE_ATTEMPTS; attempt++) {
        char listen[32];
        deployment->port = http_free_port();
        snprintf(listen, sizeof listen, "127.0.0.1:%d", deployment->port);
        deployment_set(deployment, "serving", "listen", json_string(listen));
        deployment->serving = deployment_start(deployment, "dovetail-serving", NULL);
        if (is_ready(deployment))
            return;
    }
    children_show();
    fail_msg("dovetail-serving does not start");
}
