/* The libpq wrapper against a real server: statuses, texts without secrets, COPY, notifications.
 *
 * Runs in a schema of its own, dropped at the end. Needs DOVETAIL_POSTGRES. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/postgres/postgres.h"
#include "core/program/program.h"

static const char *conninfo;
static char schema[32];
static struct postgres *postgres;
static struct error error;

#define assert_status(expected, call)                                                              \
    do {                                                                                           \
        enum status got = (call);                                                                  \
        if (got != (expected))                                                                     \
            fail_msg("%s: status %d, text '%s'", #call, (int)got, error.text);                     \
    } while (0)

static int set_up(void **state)
{
    (void)state;
    conninfo = getenv("DOVETAIL_POSTGRES");
    if (conninfo == NULL) {
        fprintf(stderr, "DOVETAIL_POSTGRES is not set: run `make stack-up` and load .run/env\n");
        return -1;
    }
    uint32_t suffix = 0;
    if (getrandom(&suffix, sizeof suffix, 0) != sizeof suffix)
        return -1;
    snprintf(schema, sizeof schema, "test_postgres_%08x", suffix);
    if (postgres_connect(conninfo, "test-postgres", &postgres, &error) != STATUS_OK ||
        postgres_executef(postgres, &error, "CREATE SCHEMA %s; SET search_path = %s", schema,
                          schema) != STATUS_OK) {
        fprintf(stderr, "%s\n", error.text);
        return -1;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    enum status status =
        postgres_executef(postgres, &error, "ROLLBACK; DROP SCHEMA %s CASCADE", schema);
    postgres_close(postgres);
    return status == STATUS_OK ? 0 : -1;
}

static int64_t query_int64(struct postgres *connection, const char *sql)
{
    PGresult *result = NULL;
    assert_status(STATUS_OK, postgres_query(connection, sql, 0, NULL, &result, &error));
    assert_int_equal(PQntuples(result), 1);
    int64_t value = postgres_int64(result, 0, 0);
    PQclear(result);
    return value;
}

static void assert_text_result(const char *sql, const char *expected)
{
    PGresult *result = NULL;
    assert_status(STATUS_OK, postgres_query(postgres, sql, 0, NULL, &result, &error));
    assert_string_equal(PQgetvalue(result, 0, 0), expected);
    PQclear(result);
}

/* --- sessions --- */

static void test_session_settings(void **state)
{
    (void)state;
    assert_text_result("SHOW TimeZone", "UTC");
    assert_text_result("SHOW client_encoding", "UTF8");
    assert_text_result("SELECT setting || ' ' || source FROM pg_settings WHERE name = 'jit'",
                       "off session"); /* whatever the server's own setting is */
    assert_text_result("SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()",
                       "test-postgres");
    assert_text_result("SELECT timestamptz '2001-02-03 04:05:06+02'", "2001-02-03 02:05:06+00");
}

/* conninfo as a URI, made from the host, port and so on of the open connection. */
static void test_uri_with_options(void **state)
{
    (void)state;
    PGconn *open = postgres_handle(postgres);
    char uri[512];
    snprintf(uri, sizeof uri,
             "postgresql://%s@/%s?host=%s&port=%s&options=-c%%20statement_timeout%%3D4321",
             PQuser(open), PQdb(open), PQhost(open), PQport(open));
    struct postgres *other = NULL;
    assert_status(STATUS_OK, postgres_connect(uri, "test", &other, &error));
    assert_int_equal(query_int64(other, "SELECT setting FROM pg_settings "
                                        "WHERE name = 'statement_timeout'"),
                     4321);
    postgres_close(other);
}

static void assert_connect_fails(const char *text, enum status status, const char *sqlstate)
{
    struct postgres *other = NULL;
    int64_t start_us = program_monotonic_us();
    assert_status(status, postgres_connect(text, "test", &other, &error));
    assert_null(other);
    assert_string_equal(error.sqlstate, sqlstate);
    assert_null(strstr(error.text, "geheim"));
    assert_null(strchr(error.text, '\n'));
    assert_true(program_monotonic_us() - start_us < 5000000);
}

static void test_connection_failures(void **state)
{
    (void)state;
    char text[1024];
    PGconn *open = postgres_handle(postgres);
    const char *address = PQhost(open);
    const char *port = PQport(open);
    snprintf(text, sizeof text, "host=%s port=%s user=%s dbname=no_such_database", address, port,
             PQuser(open));
    assert_connect_fails(text, STATUS_FATAL, "3D000");
    assert_non_null(strstr(error.text, "no_such_database"));

    assert_connect_fails("host=127.0.0.1 port=1 password=geheim", STATUS_RETRY, "");
    assert_non_null(strstr(error.text, "refused"));
    assert_connect_fails("host=/no/such/folder password=geheim", STATUS_RETRY, "");
    /* 192.0.2.0/24 is for documentation: packets vanish or are refused at once. */
    assert_connect_fails("host=192.0.2.1 connect_timeout=1", STATUS_RETRY, "");
}

/* As pg_restore and ALTER DATABASE leave it for a while. */
static void test_database_that_takes_no_connections_now(void **state)
{
    (void)state;
    char text[1024];
    PGconn *handle = postgres_handle(postgres);
    snprintf(text, sizeof text, "host=%s port=%s user=%s dbname=%s_closed", PQhost(handle),
             PQport(handle), PQuser(handle), schema);
    assert_status(STATUS_OK,
                  postgres_executef(postgres, &error,
                                    "CREATE DATABASE %s_closed ALLOW_CONNECTIONS false", schema));
    assert_connect_fails(text, STATUS_RETRY, "55000");
    assert_status(STATUS_OK,
                  postgres_executef(postgres, &error, "DROP DATABASE %s_closed", schema));
}

/* The server has not noticed that the client is gone: the locks must not outlive the session. */
static void test_reconnect_ends_the_session_before(void **state)
{
    (void)state;
    struct postgres *victim = NULL;
    assert_status(STATUS_OK, postgres_connect(conninfo, "victim", &victim, &error));
    assert_status(STATUS_OK, postgres_execute(victim, "SELECT pg_advisory_lock(42)", &error));
    int client = PQsocket(postgres_handle(victim));
    int kept = dup(client); /* so that the server hears of no end */
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    close(ends[1]);
    assert_true(kept >= 0 && dup2(ends[0], client) == client);
    assert_status(STATUS_RETRY, postgres_execute(victim, "SELECT 1", &error));
    assert_status(STATUS_OK, postgres_reconnect(victim, &error));
    assert_status(STATUS_OK, postgres_execute(victim, "SET lock_timeout = '30s'", &error));
    assert_status(STATUS_OK, postgres_execute(victim, "SELECT pg_advisory_lock(42)", &error));
    postgres_close(victim);
    close(kept);
    close(ends[0]);
}

static void test_malformed_conninfo_is_not_echoed(void **state)
{
    (void)state;
    assert_connect_fails("host=localhost password=my geheim", STATUS_FATAL, "");
    assert_connect_fails("pasword=geheim", STATUS_FATAL, "");
    assert_connect_fails("password='geheim", STATUS_FATAL, "");
    assert_connect_fails("postgres://me:gehe%zzgeheim@localhost/x", STATUS_FATAL, "");
    assert_connect_fails("postgres://me:x@geheim@localhost/x", STATUS_FATAL, "");
    assert_connect_fails("postgres://me:x/geheim@localhost/x", STATUS_FATAL, "");
    assert_connect_fails("postgres://me:1/geheim@localhost/x", STATUS_FATAL, "");
    assert_connect_fails("sslmode=wrong", STATUS_FATAL, "");
}

static void test_lost_connection_and_reconnect(void **state)
{
    (void)state;
    struct postgres *victim = NULL;
    assert_status(STATUS_OK, postgres_connect(conninfo, "victim", &victim, &error));
    int64_t pid = query_int64(victim, "SELECT pg_backend_pid()");
    assert_true(postgres_is_connected(victim));
    assert_status(STATUS_OK,
                  postgres_executef(postgres, &error, "SELECT pg_terminate_backend(%d)", (int)pid));
    assert_status(STATUS_RETRY, postgres_execute(victim, "SELECT 1", &error));
    assert_false(postgres_is_connected(victim));
    assert_status(STATUS_RETRY, postgres_execute(victim, "SELECT 1", &error));
    bool arrived;
    assert_status(STATUS_RETRY, postgres_poll_notification(victim, "x", &arrived, &error));
    assert_status(STATUS_OK, postgres_reconnect(victim, &error));
    assert_int_not_equal(query_int64(victim, "SELECT pg_backend_pid()"), pid);
    postgres_close(victim);
    postgres_close(NULL);
}

/* --- statements --- */

static void test_errors_keep_sqlstate_and_say_what(void **state)
{
    (void)state;
    assert_status(STATUS_FATAL,
                  postgres_execute(postgres, "SELECT *\n FROM nowhere.table_a", &error));
    assert_string_equal(error.sqlstate, "42P01");
    assert_string_equal(
        error.text, "SELECT * FROM nowhere.table_a: relation \"nowhere.table_a\" does not exist");
    assert_status(STATUS_OK, postgres_execute(
                                 postgres, "CREATE TABLE unique_id (id int PRIMARY KEY)", &error));
    assert_status(STATUS_FATAL,
                  postgres_execute(postgres, "INSERT INTO unique_id VALUES (1), (1)", &error));
    assert_string_equal(error.sqlstate, "23505");
    assert_non_null(strstr(error.text, "INSERT INTO unique_id VALUES: duplicate key"));
    assert_non_null(strstr(error.text, "(Key (id)=(1) already exists.)"));
}

static void test_transaction_is_left_to_the_caller(void **state)
{
    (void)state;
    assert_status(STATUS_OK, postgres_execute(postgres, "BEGIN", &error));
    assert_status(STATUS_FATAL, postgres_execute(postgres, "SELECT 1/0", &error));
    assert_status(STATUS_FATAL, postgres_execute(postgres, "SELECT 1", &error));
    assert_string_equal(error.sqlstate, "25P02");
    assert_status(STATUS_OK, postgres_execute(postgres, "ROLLBACK", &error));
    assert_int_equal(query_int64(postgres, "SELECT 1"), 1);
}

static void test_lock_and_serialization_failures_are_retried(void **state)
{
    (void)state;
    struct postgres *other = NULL;
    assert_status(STATUS_OK, postgres_connect(conninfo, "other", &other, &error));
    assert_status(STATUS_OK, postgres_executef(other, &error, "SET search_path = %s", schema));
    assert_status(STATUS_OK, postgres_execute(postgres,
                                              "CREATE TABLE counter (n int); "
                                              "INSERT INTO counter VALUES (0)",
                                              &error));
    const char *begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM counter";
    assert_status(STATUS_OK, postgres_execute(other, begin, &error));
    assert_status(STATUS_OK, postgres_execute(postgres, "UPDATE counter SET n = n + 1", &error));
    assert_status(STATUS_RETRY, postgres_execute(other, "UPDATE counter SET n = n + 1", &error));
    assert_string_equal(error.sqlstate, "40001");
    assert_status(STATUS_OK, postgres_execute(other, "ROLLBACK", &error));

    assert_status(STATUS_OK,
                  postgres_execute(postgres, "BEGIN; SELECT * FROM counter FOR UPDATE", &error));
    assert_status(STATUS_RETRY,
                  postgres_execute(other, "SELECT * FROM counter FOR UPDATE NOWAIT", &error));
    assert_string_equal(error.sqlstate, "55P03");
    assert_status(STATUS_OK, postgres_execute(postgres, "ROLLBACK", &error));
    postgres_close(other);
}

static void test_parameters_and_nulls(void **state)
{
    (void)state;
    const char *parameters[] = {"it's", NULL, "42"};
    PGresult *result = NULL;
    assert_status(STATUS_OK,
                  postgres_query(postgres, "SELECT $1::text, $2::text, $3::bigint, true, false", 3,
                                 parameters, &result, &error));
    assert_string_equal(PQgetvalue(result, 0, 0), "it's");
    assert_null(postgres_field(result, 0, 1).data);
    assert_int_equal(postgres_int64(result, 0, 2), 42);
    assert_true(postgres_bool(result, 0, 3));
    assert_false(postgres_bool(result, 0, 4));
    PQclear(result);

    result = NULL;
    assert_status(STATUS_OK, postgres_query_binary(postgres, "SELECT $3::bigint, $1, $2", 3,
                                                   parameters, &result, &error));
    struct pgbinary_field field = postgres_field(result, 0, 0);
    assert_int_equal(field.length, 8);
    assert_int_equal(field.data[7], 42);
    PQclear(result);

    result = NULL;
    assert_status(STATUS_FATAL,
                  postgres_query(postgres, "SELECT 'x'::int", 0, NULL, &result, &error));
    assert_string_equal(error.sqlstate, "22P02");
    PQclear(result);
}

static void test_several_statements_and_quoting(void **state)
{
    (void)state;
    char *identifier = postgres_identifier(postgres, "od\"d");
    char *literal = postgres_literal(postgres, "it's \\");
    assert_string_equal(identifier, "\"od\"\"d\"");
    assert_status(STATUS_OK,
                  postgres_executef(postgres, &error,
                                    "CREATE TABLE %s (t text); INSERT INTO %s VALUES (%s)",
                                    identifier, identifier, literal));
    assert_text_result("SELECT t FROM \"od\"\"d\"", "it's \\");
    PQfreemem(identifier);
    PQfreemem(literal);
    assert_status(STATUS_OK, postgres_execute(postgres, "", &error));
}

/* --- COPY --- */

/* Rows (int4 i) for i in [0, count), as COPY BINARY wants them. */
static char *binary_rows(uint32_t count, size_t *length)
{
    static const char header[19] = "PGCOPY\n\377\r\n";
    char *data = malloc(sizeof header + (size_t)count * 10 + 2);
    assert_non_null(data);
    memcpy(data, header, sizeof header);
    unsigned char *at = (unsigned char *)data + sizeof header;
    for (uint32_t i = 0; i < count; i++, at += 10)
        memcpy(at,
               (unsigned char[]){0, 1, 0, 0, 0, 4, (unsigned char)(i >> 24),
                                 (unsigned char)(i >> 16), (unsigned char)(i >> 8),
                                 (unsigned char)i},
               10);
    memcpy(at, "\377\377", 2);
    *length = sizeof header + (size_t)count * 10 + 2;
    return data;
}

static void copy_in(const char *sql, const char *data, size_t length, enum status expected)
{
    assert_status(STATUS_OK, postgres_copy_in_begin(postgres, sql, &error));
    assert_status(STATUS_OK, postgres_copy_in_data(postgres, data, length, &error));
    assert_status(expected, postgres_copy_in_end(postgres, &error));
}

struct sum {
    int64_t count;
    int64_t sum;
    int64_t fail_at; /* -1: never */
};

static enum status sum_row(const uint8_t *row, size_t length, void *context, struct error *failure)
{
    struct sum *sum = context;
    if (sum->count == sum->fail_at)
        return error_set(failure, STATUS_REJECT, "enough");
    if (length != 10 || memcmp(row, "\0\1\0\0\0\4", 6) != 0)
        return error_set(failure, STATUS_FATAL, "odd row of %zu bytes", length);
    sum->count++;
    sum->sum += row[6] << 24 | row[7] << 16 | row[8] << 8 | row[9];
    return STATUS_OK;
}

static void test_copy_in_and_out(void **state)
{
    (void)state;
    enum { COUNT = 300000 }; /* 3 MB: several pieces */
    size_t length;
    char *data = binary_rows(COUNT, &length);
    assert_status(STATUS_OK, postgres_execute(postgres, "CREATE TABLE copied (i int)", &error));
    copy_in("COPY copied FROM STDIN (FORMAT binary)", data, length, STATUS_OK);
    free(data);

    struct sum sum = {.fail_at = -1};
    assert_status(STATUS_OK, postgres_copy_out(postgres,
                                               "COPY (SELECT i FROM copied) TO STDOUT "
                                               "(FORMAT binary)",
                                               sum_row, &sum, &error));
    assert_int_equal(sum.count, COUNT);
    assert_int_equal(sum.sum, (int64_t)COUNT * (COUNT - 1) / 2);

    sum = (struct sum){.fail_at = -1};
    assert_status(STATUS_OK, postgres_copy_out(postgres,
                                               "COPY (SELECT 1 WHERE false) TO STDOUT "
                                               "(FORMAT binary)",
                                               sum_row, &sum, &error));
    assert_int_equal(sum.count, 0);
}

static void test_copy_failures_leave_the_connection_usable(void **state)
{
    (void)state;
    size_t length;
    char *data = binary_rows(10, &length);
    assert_status(STATUS_OK,
                  postgres_execute(postgres, "CREATE TABLE failing (i int CHECK (i < 5))", &error));
    copy_in("COPY failing FROM STDIN (FORMAT binary)", data, length, STATUS_FATAL);
    assert_string_equal(error.sqlstate, "23514");
    assert_int_equal(query_int64(postgres, "SELECT count(*) FROM failing"), 0);

    /* Begun, not ended, and given up. */
    assert_status(STATUS_OK, postgres_execute(postgres, "BEGIN", &error));
    assert_status(STATUS_OK, postgres_copy_in_begin(
                                 postgres, "COPY failing FROM STDIN (FORMAT binary)", &error));
    assert_status(STATUS_OK, postgres_copy_in_data(postgres, data, 29, &error));
    assert_status(STATUS_OK, postgres_execute(postgres, "ROLLBACK", &error));
    assert_int_equal(query_int64(postgres, "SELECT count(*) FROM failing"), 0);
    free(data);

    struct sum sum = {.fail_at = 3};
    assert_status(STATUS_REJECT,
                  postgres_copy_out(postgres,
                                    "COPY (SELECT generate_series(1, 100000000)) TO STDOUT "
                                    "(FORMAT binary)",
                                    sum_row, &sum, &error));
    assert_string_equal(error.text, "enough");
    assert_int_equal(query_int64(postgres, "SELECT 7"), 7);

    /* The server fails in the midst of it. */
    sum = (struct sum){.fail_at = -1};
    assert_status(STATUS_FATAL,
                  postgres_copy_out(postgres,
                                    "COPY (SELECT 10 / (3 - i) FROM generate_series(0, 9) i) TO "
                                    "STDOUT (FORMAT binary)",
                                    sum_row, &sum, &error));
    assert_string_equal(error.sqlstate, "22012");
    assert_status(STATUS_FATAL,
                  postgres_copy_in_begin(postgres, "COPY nothing FROM STDIN", &error));
    assert_int_equal(query_int64(postgres, "SELECT 7"), 7);
}

/* --- notifications --- */

static void test_notifications_are_told_once_for_each_channel(void **state)
{
    (void)state;
    char one[64], two[64];
    snprintf(one, sizeof one, "%s_one", schema);
    snprintf(two, sizeof two, "%s_two", schema);
    assert_status(STATUS_OK, postgres_executef(postgres, &error, "LISTEN %s; LISTEN %s", one, two));
    bool arrived = true;
    assert_status(STATUS_OK, postgres_poll_notification(postgres, one, &arrived, &error));
    assert_false(arrived);

    struct postgres *other = NULL;
    assert_status(STATUS_OK, postgres_connect(conninfo, "other", &other, &error));
    assert_status(
        STATUS_OK,
        postgres_executef(other, &error, "NOTIFY %s; NOTIFY %s, 'x'; NOTIFY %s", one, one, two));
    postgres_close(other);
    assert_int_equal(program_wait_fd(PQsocket(postgres_handle(postgres)), 5000), 1);
    assert_status(STATUS_OK, postgres_execute(postgres, "SELECT 1", &error));

    /* Asking for one channel does not lose the other's. */
    assert_status(STATUS_OK, postgres_poll_notification(postgres, one, &arrived, &error));
    assert_true(arrived);
    assert_status(STATUS_OK, postgres_poll_notification(postgres, two, &arrived, &error));
    assert_true(arrived);
    assert_status(STATUS_OK, postgres_poll_notification(postgres, one, &arrived, &error));
    assert_false(arrived);
    assert_status(STATUS_OK, postgres_poll_notification(postgres, two, &arrived, &error));
    assert_false(arrived);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session_settings),
        cmocka_unit_test(test_uri_with_options),
        cmocka_unit_test(test_connection_failures),
        cmocka_unit_test(test_database_that_takes_no_connections_now),
        cmocka_unit_test(test_malformed_conninfo_is_not_echoed),
        cmocka_unit_test(test_reconnect_ends_the_session_before),
        cmocka_unit_test(test_lost_connection_and_reconnect),
        cmocka_unit_test(test_errors_keep_sqlstate_and_say_what),
        cmocka_unit_test(test_transaction_is_left_to_the_caller),
        cmocka_unit_test(test_lock_and_serialization_failures_are_retried),
        cmocka_unit_test(test_parameters_and_nulls),
        cmocka_unit_test(test_several_statements_and_quoting),
        cmocka_unit_test(test_copy_in_and_out),
        cmocka_unit_test(test_copy_failures_leave_the_connection_usable),
        cmocka_unit_test(test_notifications_are_told_once_for_each_channel),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
