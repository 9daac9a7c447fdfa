/* Upgrades: state that an earlier release wrote is migrated, or refused with what to do; and while
 * processes of two releases are at work, no record counts twice and no state of one engine is
 * merged with another's.
 *
 * Earlier schemas are made by running the migrations up to each of them, and get what an earlier
 * release would have had there: the rows of a deployment that was at work, without the columns that
 * came later. Later releases are programs with another engine and one migration more
 * (make/faults.mk). With DOVETAIL_FAULTS=all each earlier schema is tried, else some. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/catalog/catalog_tables.h"
#include "core/catalog/migrations.h"
#include "tests/support/database.h"
#include "tests/support/http.h"
#include "tests/support/numbers.h"
#include "tests/support/orders.h"
#include "tests/support/stack.h"

enum { SQL_BYTES = 4000 };

static struct deployment *deployment;
static struct numbers numbers;

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    deployment_set(deployment, "kafka", "session.timeout.ms", json_integer(6000));
    numbers_define(&numbers, deployment);
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

/* --- earlier schemas --- */

static void execute(PGconn *connection, const char *sql)
{
    PGresult *result = database_ask(connection, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_EMPTY_QUERY)
        fail_msg("%.300s: %s", sql, PQerrorMessage(connection));
    PQclear(result);
}

/* The whole of one column, `separator` between its values; malloc'd. */
static char *list_of(PGconn *connection, const char *sql, const char *separator)
{
    char *text = NULL;
    size_t length;
    PGresult *result = database_ask(connection, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%.300s: %s", sql, PQerrorMessage(connection));
    FILE *out = open_memstream(&text, &length);
    for (int row = 0; row < PQntuples(result); row++)
        fprintf(out, "%s%s", row > 0 ? separator : "", PQgetvalue(result, row, 0));
    fclose(out);
    PQclear(result);
    return text;
}

/* The migrations up to `level`, as the release that ended with it ran them. */
static void make_schema(PGconn *old, PGconn *model, size_t level)
{
    execute(old, "SET client_min_messages = warning; BEGIN; CREATE SCHEMA dovetail_internal;"
                 "CREATE TABLE dovetail_internal.migration (name text COLLATE \"C\" PRIMARY KEY,"
                 " checksum text NOT NULL, ran_at timestamptz NOT NULL DEFAULT now())");
    for (size_t i = 0; i < level; i++) {
        char sql[SQL_BYTES];
        execute(old, migrations[i].sql);
        execute(old, "RESET search_path");
        snprintf(sql, sizeof sql,
                 "SELECT format('INSERT INTO dovetail_internal.migration VALUES (%%L, %%L)', name,"
                 " checksum) FROM dovetail_internal.migration WHERE name = '%s'",
                 migrations[i].name);
        char *insert = list_of(model, sql, "");
        execute(old, insert);
        free(insert);
    }
    execute(old, "COMMIT");
}

/* The tables of version 1; with the index and the column that they had before 012. */
static void make_tables(PGconn *old, size_t level)
{
    struct source *source = NULL;
    struct view *view = NULL;
    struct error error;
    char *texts[2] = {
        list_of(old, "SELECT source_definition FROM dovetail_internal.view_version", ""),
        list_of(old, "SELECT definition FROM dovetail_internal.view_version", "")};
    json_t *json[2] = {json_loads(texts[0], 0, NULL), json_loads(texts[1], 0, NULL)};
    if (source_create(json[0], "source", &source, &error) != STATUS_OK ||
        view_create(json[1], "view", source, &view, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    char *tables = catalog_tables_sql(view, 1);
    execute(old, tables);
    if (strcmp(migrations[level - 1].name, "012") < 0)
        execute(old, "DROP INDEX dovetail_internal.speed_1_address;"
                     "ALTER TABLE dovetail_internal.speed_1 ALTER COLUMN _group_id SET NOT NULL,"
                     " SET (fillfactor = 50), ADD CONSTRAINT speed_1_address"
                     " UNIQUE (_partition, _slice_start, _group_id)");
    free(tables);
    view_destroy(view);
    source_destroy(source);
    for (int i = 0; i < 2; i++) {
        json_decref(json[i]);
        free(texts[i]);
    }
}

/* The rows of one table, in the columns that there are. */
static void copy_table(PGconn *old, PGconn *model, const char *table)
{
    char sql[SQL_BYTES];
    snprintf(sql, sizeof sql,
             "SELECT quote_ident(attname) FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped"
             " AND attrelid = 'dovetail_internal.%s'::regclass ORDER BY attnum",
             table);
    char *columns = list_of(old, sql, ", ");
    /* Rows without an address came with 012. */
    const char *addressed = strstr(columns, "_group_id");
    snprintf(sql, sizeof sql, "COPY (SELECT %.*s%s%s FROM dovetail_internal.%s) TO STDOUT",
             addressed == NULL ? (int)strlen(columns) : (int)(addressed - columns), columns,
             addressed == NULL ? "" : "COALESCE(_group_id, 1000000 + row_number() OVER ())",
             addressed == NULL ? "" : addressed + strlen("_group_id"), table);
    PGresult *from = database_ask(model, sql);
    if (PQresultStatus(from) != PGRES_COPY_OUT)
        fail_msg("%s: %s", sql, PQerrorMessage(model));
    snprintf(sql, sizeof sql, "COPY dovetail_internal.%s (%s) FROM STDIN", table, columns);
    PGresult *to = database_ask(old, sql);
    if (PQresultStatus(to) != PGRES_COPY_IN)
        fail_msg("%s: %s", sql, PQerrorMessage(old));
    char *line;
    for (int length; (length = PQgetCopyData(model, &line, 0)) > 0; PQfreemem(line))
        assert_int_equal(PQputCopyData(old, line, length), 1);
    assert_int_equal(PQputCopyEnd(old, NULL), 1);
    PQclear(from);
    PQclear(to);
    PQclear(PQgetResult(model));
    PGresult *end = PQgetResult(old);
    if (PQresultStatus(end) != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(old));
    PQclear(end);
    while ((end = PQgetResult(old)) != NULL || (end = PQgetResult(model)) != NULL)
        PQclear(end);
    free(columns);
}

static void copy_tables(PGconn *old, PGconn *model, const char *where)
{
    char sql[SQL_BYTES];
    snprintf(sql, sizeof sql,
             "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname <> 'migration' AND"
             " relnamespace = 'dovetail_internal'::regnamespace AND relname %s ORDER BY relname",
             where);
    char *tables = list_of(old, sql, "\n");
    for (char *rest = tables, *table; (table = strtok_r(rest, "\n", &rest)) != NULL;)
        copy_table(old, model, table);
    free(tables);
}

/* Numbers go on behind those that were copied; and the view that people read. */
static void finish_copy(PGconn *old, PGconn *model)
{
    execute(old, "SELECT setval(pg_get_serial_sequence('dovetail_internal.view_version','version'),"
                 " max(version)) FROM dovetail_internal.view_version;"
                 "SELECT setval(pg_get_serial_sequence('dovetail_internal.run', 'run'), max(run))"
                 " FROM dovetail_internal.run;"
                 "SELECT setval(pg_get_serial_sequence('dovetail_internal.batch_1', '_row_id'),"
                 " max(_row_id)) FROM dovetail_internal.batch_1");
    char *view = list_of(model,
                         "SELECT 'CREATE VIEW dovetail.sums AS '"
                         " || pg_get_viewdef('dovetail.sums'::regclass)",
                         "");
    execute(old, view);
    free(view);
}

/* The deployment's database as an earlier release with migrations up to `level` would have it. */
static void go_back_to(size_t level)
{
    char name[100], sql[SQL_BYTES], conninfo[700];
    PGconn *model = deployment_connect(deployment);
    snprintf(name, sizeof name, "%s_%zu", deployment->database, level);
    snprintf(sql, sizeof sql, "CREATE DATABASE %s", name);
    execute(model, sql);
    snprintf(conninfo, sizeof conninfo, "%s dbname=%s", deployment->postgres, name);
    PGconn *old = database_open(conninfo);
    assert_int_equal(PQstatus(old), CONNECTION_OK);
    make_schema(old, model, level);
    execute(old, "SET session_replication_role = replica;" /* any order of tables will do */
                 "TRUNCATE dovetail_internal.deployment, dovetail_internal.run CASCADE");
    copy_tables(old, model, "!~ '_[0-9]+$'");
    make_tables(old, level);
    copy_tables(old, model, "~ '_[0-9]+$'");
    finish_copy(old, model);
    PQfinish(old);
    PQfinish(model);
    assert_true((size_t)snprintf(deployment->postgres, sizeof deployment->postgres, "%s",
                                 conninfo) < sizeof deployment->postgres);
    deployment_set(deployment, NULL, "postgres", json_string(conninfo));
}

static void leave(const char *conninfo, size_t level)
{
    char sql[200];
    assert_true((size_t)snprintf(deployment->postgres, sizeof deployment->postgres, "%s",
                                 conninfo) < sizeof deployment->postgres);
    deployment_set(deployment, NULL, "postgres", json_string(conninfo));
    snprintf(sql, sizeof sql, "DROP DATABASE %s_%zu WITH (FORCE)", deployment->database, level);
    PGconn *connection = deployment_connect(deployment);
    execute(connection, sql);
    PQfinish(connection);
}

static void migrate_from(size_t level)
{
    char conninfo[sizeof deployment->postgres];
    snprintf(conninfo, sizeof conninfo, "%s", deployment->postgres);
    go_back_to(level);
    /* Nothing is touched before. */
    struct child *refused = deployment_run(deployment, 2, "dovetail-speed", NULL);
    numbers_expect_text(refused, "run `dovetail init`");
    struct child *init = deployment_run(deployment, 0, "dovetail", "init", NULL);
    numbers_expect_text(init, "tables: migrated");
    numbers_expect_text(init, "view sums: unchanged, version 1");
    numbers_check_now(&numbers);
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_await_end(&numbers, speed);
    numbers_check_now(&numbers);
    numbers_produce_all(&numbers, 40);
    numbers_await_end(&numbers, speed);
    numbers_check(&numbers);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    numbers_check(&numbers);
    deployment_run(deployment, 0, "dovetail", "runs", "rollback", "1", NULL);
    numbers_check(&numbers);
    child_stop(speed);
    leave(conninfo, level);
}

static void earlier_schemas_are_migrated(void **state)
{
    (void)state;
    uint64_t random = stack_seed();
    const char *which = getenv("DOVETAIL_FAULTS");
    size_t tried = 0;
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_produce_all(&numbers, 300);
    numbers_await_end(&numbers, speed);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    numbers_produce_all(&numbers, 300);
    numbers_await_end(&numbers, speed);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    numbers_produce_all(&numbers, 300);
    numbers_await_end(&numbers, speed);
    child_stop(speed);
    numbers_check(&numbers);
    /* The view that people read came with 002. */
    size_t chosen = 3 + orders_below(&random, migration_count - 4);
    for (size_t level = 2; level < migration_count; level++) {
        if (which == NULL && level != 2 && level != chosen && level != migration_count - 1)
            continue;
        migrate_from(level);
        tried++;
    }
    print_message("%zu earlier schemas\n", tried);
}

/* --- later releases --- */

static int64_t position(void)
{
    return deployment_number(deployment,
                             "SELECT sum(next_offset)::bigint FROM dovetail_internal.position");
}

static void expect_refusal(const char *program, const char *argument, int code, const char *text)
{
    numbers_expect_text(deployment_run(deployment, code, program, argument, NULL), text);
}

/* Waits until somebody waits for a lock. */
static void await_blocked(const char *application)
{
    char sql[300];
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
             " AND datname = current_database() AND application_name = '%s'",
             application);
    numbers_await(&numbers, NULL, sql, 1);
}

static void a_later_schema_is_refused(void **state)
{
    (void)state;
    static const char newer[] = "the database was migrated by a newer Dovetail (999_next.sql)";
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_produce_all(&numbers, 300);
    numbers_await_end(&numbers, speed);
    /* A run that is about to publish when the tables become another release's. */
    PGconn *holder = deployment_connect(deployment);
    execute(holder, "BEGIN; SELECT FROM dovetail_internal.view_version FOR UPDATE");
    struct child *batch = deployment_start(deployment, "dovetail-batch", "run", NULL);
    await_blocked("dovetail-batch");
    struct child *init =
        deployment_start(deployment, "tests/faults/next/schema/dovetail", "init", NULL);
    numbers_await(&numbers, init,
                  "SELECT count(*) FROM dovetail_internal.migration WHERE name = '999_next.sql'",
                  1);
    execute(holder, "COMMIT");
    PQfinish(holder);
    child_expect(init, 0);
    child_expect(batch, 2);
    numbers_expect_text(batch, newer);
    numbers_check_now(&numbers);
    /* Nobody had to tell the speed layer. */
    child_expect(speed, 2);
    numbers_expect_text(speed, newer);
    int64_t before = position();
    numbers_produce_all(&numbers, 50);
    expect_refusal("dovetail-speed", NULL, 2, newer);
    expect_refusal("dovetail-batch", "run", 2, newer);
    expect_refusal("dovetail", "init", 2, newer);
    expect_refusal("dovetail", "status", 2, newer);
    assert_int_equal(position(), before);
    numbers_check_now(&numbers);
}

#define NEXT(program) "tests/faults/next/" program

static int http_rows(int port, char *body, size_t size)
{
    struct http_session *session = http_session_create(port);
    struct http_reply reply;
    http_get(session, "/v1/views/sums/rows", &reply);
    int status = reply.status;
    snprintf(body, size, "%s", reply.body);
    http_reply_free(&reply);
    http_session_destroy(session);
    return status;
}

/* Two processes; one is restarted as the next release, which computes otherwise, then the database
 * is made ready, then the other one. */
static void a_rolling_upgrade_mixes_nothing(void **state)
{
    (void)state;
    char body[20000];
    deployment_serve(deployment);
    struct child *old[2] = {deployment_start(deployment, "dovetail-speed", NULL),
                            deployment_start(deployment, "dovetail-speed", NULL)};
    numbers_produce_all(&numbers, 300);
    numbers_await_end(&numbers, old[0]);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    numbers_produce_all(&numbers, 300);

    /* Restarted too early: refused, and the other one goes on with everything. */
    child_stop(old[0]);
    expect_refusal(NEXT("dovetail-speed"), NULL, 1,
                   "it is of engine version 2, and this program of 1000: run `dovetail init`");
    expect_refusal(NEXT("dovetail-batch"), "run", 1, "definitions are refused");
    numbers_produce_all(&numbers, 300);
    numbers_await_end(&numbers, old[1]);
    numbers_check(&numbers);

    /* From init on the old release folds nothing, and what it said stays what is answered. */
    numbers_expect_text(deployment_run(deployment, 0, NEXT("dovetail"), "init", NULL),
                        "view sums: changed, version 2");
    child_expect(old[1], 1);
    numbers_expect_text(old[1], "it is of engine version 1000, and this program of 2: use the newer"
                                " Dovetail");
    int64_t before = position();
    struct child *next[2] = {deployment_start(deployment, NEXT("dovetail-speed"), NULL),
                             deployment_start(deployment, NEXT("dovetail-speed"), NULL)};
    numbers_produce_all(&numbers, 300);
    numbers_await_text(next[0], "it is of engine version 2");
    numbers_check_now(&numbers);
    assert_int_equal(position(), before);
    assert_int_equal(http_rows(deployment->port, body, sizeof body), 200);
    assert_null(strstr(body, "\"rest\":100"));
    expect_refusal("dovetail-batch", "run", 1, "use the newer Dovetail");
    numbers_check_now(&numbers);
    numbers_expect_text(deployment_run(deployment, 1, NEXT("dovetail"), "query", "sums", NULL),
                        "it is of engine version 2");
    children_must_run(next, 2);

    /* The run builds the successor and retires the old version in one transaction. */
    deployment_run(deployment, 0, NEXT("dovetail-batch"), "run", NULL);
    numbers.other_engine = true;
    numbers_check_now(&numbers);
    numbers_await_end(&numbers, next[0]);
    numbers_produce_all(&numbers, 300);
    numbers_await_end(&numbers, next[0]);
    numbers_check(&numbers);
    deployment_run(deployment, 0, NEXT("dovetail-batch"), "run", NULL);
    numbers_check(&numbers);
    assert_int_equal(deployment_number(deployment, "SELECT count(*) FROM dovetail.sums"
                                                   " WHERE rest < 1000"),
                     0);
    assert_int_equal(http_rows(deployment->port, body, sizeof body), 503);
    assert_non_null(strstr(body, "use the newer Dovetail"));
    child_stop(next[0]);
    child_stop(next[1]);
    expect_refusal("dovetail-speed", NULL, 1, "use the newer Dovetail");
}

/* What an older engine left is thrown away, whatever is in it. */
static void states_of_an_older_engine_are_recomputed(void **state)
{
    (void)state;
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_produce_all(&numbers, 300);
    numbers_await_end(&numbers, speed);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    numbers_produce_all(&numbers, 300);
    numbers_await_end(&numbers, speed);
    child_stop(speed);
    PGconn *connection = deployment_connect(deployment);
    execute(connection, "UPDATE dovetail_internal.view_version SET canonical ="
                        " replace(canonical, '\"engine\":2', '\"engine\":1');"
                        "UPDATE dovetail_internal.batch_1 SET rest = rest - 100, c = c + 1;"
                        "UPDATE dovetail_internal.speed_1 SET rest = rest - 100, c = c + 1");
    PQfinish(connection);
    expect_refusal("dovetail-speed", NULL, 1, "of engine version 1, and this program of 2");
    numbers_expect_text(deployment_run(deployment, 1, "dovetail", "query", "sums", NULL),
                        "of engine version 1");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_produce_all(&numbers, 300);
    numbers_await_text(speed, "it is of engine version 1");
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    numbers_await_end(&numbers, speed);
    numbers_check(&numbers);
    assert_int_equal(
        deployment_number(deployment, "SELECT count(*) FROM dovetail.sums WHERE rest < 0"), 0);
    child_stop(speed);
}

/* A view that nobody has a definition of any more cannot be built anew: it is named. */
static void an_older_view_without_a_definition(void **state)
{
    (void)state;
    deployment_define_view(deployment,
                           "{\"view\":\"forgotten\",\"source\":\"numbers\",\"measures\":{\"c\":"
                           "\"count(*)\"},\"window\":{\"type\":\"tumbling\",\"size\":\"1h\"}}");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    PGconn *connection = deployment_connect(deployment);
    execute(connection, "UPDATE dovetail_internal.view_version SET canonical ="
                        " replace(canonical, '\"engine\":2', '\"engine\":1')");
    PQfinish(connection);
    deployment_remove(deployment, "schemas/views/forgotten.json");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    static const char text[] = "is refused by this program: it is of engine version 1, and this"
                               " program of 2: run `dovetail init` with its definition";
    expect_refusal("dovetail-speed", NULL, 1, text);
    expect_refusal("dovetail-batch", "run", 1, text);
    deployment_run(deployment, 0, "dovetail", "drop", "forgotten", "--yes", NULL);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_produce_all(&numbers, 100);
    numbers_await_end(&numbers, speed);
    numbers_check(&numbers);
    child_stop(speed);
}

int main(int argc, char **argv)
{
    if (argc > 1) /* a pattern for the names of tests */
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(earlier_schemas_are_migrated, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_later_schema_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_rolling_upgrade_mixes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(states_of_an_older_engine_are_recomputed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_older_view_without_a_definition, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
