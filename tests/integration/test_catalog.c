/* The catalogue in a real PostgreSQL: migrations, registration, promotion, and the SQL views over
 * rows that the test plants. No layer runs. Each test has a database of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/catalog/migrations.h"
#include "core/catalog/catalog.h"
#include "core/catalog/lock_wait.h"
#include "core/catalog/catalog_tables.h"
#include "core/query/query.h"
#include "core/program/program.h"
#include "tests/support/stack.h"

#define assert_status(expected, call)                                                              \
    do {                                                                                           \
        error = (struct error){0};                                                                 \
        enum status got = (call);                                                                  \
        if (got != (expected))                                                                     \
            fail_msg("%s: status %d, \"%s\"", #call, (int)got, error.text);                        \
    } while (0)
#define assert_ok(call) assert_status(STATUS_OK, call)

static struct error error;
static struct postgres *server; /* where databases are made */
static struct postgres *postgres;
static char database[64];

static const char source_text[] =
    "{\"source\": \"flights\", \"topic\": \"air\", \"event_time\": {\"field\": \"time\"},"
    " \"fields\": {\"time\": \"timestamp\", \"delay\": {\"type\": \"integer\", \"nullable\": true},"
    "             \"fare\": \"decimal\", \"origin\": \"string\"}}";

#define VIEW(measures)                                                                             \
    "{\"view\": \"by_origin\", \"source\": \"flights\", \"group_by\": [\"origin\"],"               \
    " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}, \"measures\": {" measures "}}"

static const char view_text[] = VIEW("\"flights\": \"count(*)\", \"total\": \"sum(delay)\"");
static const char other_text[] = VIEW("\"flights\": \"count(*)\", \"mean\": \"avg(delay)\"");
static const char third_text[] = VIEW("\"total\": \"sum(delay)\"");

/* --- helpers --- */

/* The conninfo of another database of the same server; caller frees. */
static char *conninfo_of(const char *name)
{
    PQconninfoOption *options = PQconninfoParse(stack_postgres(), NULL);
    assert_non_null(options);
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    for (const PQconninfoOption *option = options; option->keyword != NULL; option++)
        if (option->val != NULL && strcmp(option->keyword, "dbname") != 0)
            fprintf(out, "%s='%s' ", option->keyword, option->val);
    fprintf(out, "dbname='%s'", name);
    fclose(out);
    PQconninfoFree(options);
    return text;
}

static void execute(const char *sql)
{
    assert_ok(postgres_execute(postgres, sql, &error));
}

/* All rows of a query as "a|b;c|d". */
static const char *rows_of(const char *sql)
{
    static char text[4096];
    PGresult *result = NULL;
    assert_ok(postgres_query(postgres, sql, 0, NULL, &result, &error));
    text[0] = '\0';
    for (int row = 0; row < PQntuples(result); row++)
        for (int column = 0; column < PQnfields(result); column++) {
            strcat(text, column > 0 ? "|" : row > 0 ? ";" : "");
            strcat(text,
                   PQgetisnull(result, row, column) ? "NULL" : PQgetvalue(result, row, column));
        }
    PQclear(result);
    return text;
}

static void assert_rows(const char *sql, const char *expected)
{
    assert_string_equal(rows_of(sql), expected);
}

static struct source *make_source(const char *text)
{
    struct source *source = NULL;
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    assert_ok(source_create(json, "test", &source, &error));
    json_decref(json);
    return source;
}

static enum status register_source(const char *text, enum catalog_change *change)
{
    struct source *source = make_source(text);
    enum status status = catalog_register_source(postgres, source, change, &error);
    source_destroy(source);
    return status;
}

static enum status try_view(const char *source_definition, const char *text,
                            enum catalog_change *change)
{
    struct source *source = make_source(source_definition);
    struct view *view = NULL;
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    assert_ok(view_create(json, "test", source, &view, &error));
    execute("BEGIN");
    error = (struct error){0};
    enum status status = catalog_register_view(postgres, view, change, &error);
    struct error kept = error;
    execute(status == STATUS_OK ? "COMMIT" : "ROLLBACK");
    error = kept;
    json_decref(json);
    view_destroy(view);
    source_destroy(source);
    return status;
}

static enum catalog_change register_view(const char *text)
{
    enum catalog_change change;
    assert_ok(try_view(source_text, text, &change));
    return change;
}

/* A source with three partitions whose history begins at 10. */
static void prepare(void)
{
    static const int64_t bases[] = {10, 10, 10};
    bool changed;
    enum catalog_change change;
    assert_ok(catalog_migrate(postgres, &changed, &error));
    assert_ok(register_source(source_text, &change));
    assert_int_equal(change, CATALOG_ADDED);
    assert_ok(catalog_add_partitions(postgres, "air", bases, 3, &error));
}

static void promote(void)
{
    execute("BEGIN");
    assert_ok(catalog_promote(postgres, &error));
    execute("COMMIT");
}

/* Publishes a run with one cut-off for every partition. */
static void publish(int run, int cutoff)
{
    assert_ok(postgres_executef(
        postgres, &error,
        "INSERT INTO dovetail_internal.run (run, state, reason) VALUES (%d, 'published', "
        "'command');"
        "INSERT INTO dovetail_internal.run_cutoff (run, topic, partition, next_offset)"
        " SELECT %d, topic, partition, %d FROM dovetail_internal.position;"
        "UPDATE dovetail_internal.current_run SET run = %d",
        run, run, cutoff, run));
}

static int set_up(void **state)
{
    (void)state;
    uint64_t number = 0;
    if (getrandom(&number, sizeof number, 0) != sizeof number)
        return -1;
    snprintf(database, sizeof database, "test_catalog_%016" PRIx64, number);
    assert_ok(postgres_connect(stack_postgres(), "test_catalog", &server, &error));
    assert_ok(postgres_executef(server, &error, "CREATE DATABASE %s", database));
    char *conninfo = conninfo_of(database);
    assert_ok(postgres_connect(conninfo, "test_catalog", &postgres, &error));
    free(conninfo);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    postgres_close(postgres);
    postgres = NULL;
    assert_ok(postgres_executef(server, &error, "DROP DATABASE %s WITH (FORCE)", database));
    postgres_close(server);
    server = NULL;
    return 0;
}

/* --- migrations --- */

static void test_migrations_run_once(void **state)
{
    (void)state;
    struct catalog *catalog = NULL;
    bool changed;
    assert_status(STATUS_REJECT, catalog_load(postgres, &catalog, &error));
    assert_non_null(strstr(error.text, "dovetail init"));
    assert_ok(catalog_migrate(postgres, &changed, &error));
    assert_true(changed);
    char before[4096];
    snprintf(before, sizeof before, "%s", rows_of("SELECT name FROM dovetail_internal.migration"));
    assert_ok(catalog_migrate(postgres, &changed, &error));
    assert_false(changed);
    assert_rows("SELECT name FROM dovetail_internal.migration", before);
    /* Known to the planner as what it is: one row, not ten pages of them. */
    assert_rows("SELECT reltuples FROM pg_class"
                " WHERE oid = 'dovetail_internal.current_run'::regclass",
                "1");
    assert_ok(catalog_load(postgres, &catalog, &error));
    assert_int_equal(catalog->source_count, 0);
    assert_int_equal(strlen(catalog->deployment_id), 36);
    catalog_destroy(catalog);
}

static void test_strange_migrations_are_refused(void **state)
{
    (void)state;
    struct catalog *catalog = NULL;
    bool changed;
    assert_ok(catalog_migrate(postgres, &changed, &error));
    execute("INSERT INTO dovetail_internal.migration VALUES ('900_future.sql', 'x')");
    assert_status(STATUS_REJECT, catalog_migrate(postgres, &changed, &error));
    assert_non_null(strstr(error.text, "900_future.sql"));
    assert_status(STATUS_REJECT, catalog_load(postgres, &catalog, &error));
    execute("DELETE FROM dovetail_internal.migration WHERE name = '900_future.sql'");
    execute("UPDATE dovetail_internal.migration SET checksum = 'x' WHERE name LIKE '001%'");
    assert_status(STATUS_REJECT, catalog_migrate(postgres, &changed, &error));
    assert_non_null(strstr(error.text, "001_dovetail.sql"));
}

static void test_a_failing_migration_leaves_nothing(void **state)
{
    (void)state;
    bool changed;
    execute("CREATE SCHEMA dovetail_internal; CREATE TABLE dovetail_internal.source (x integer)");
    assert_status(STATUS_FATAL, catalog_migrate(postgres, &changed, &error));
    assert_false(changed);
    assert_rows("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace ="
                " 'dovetail_internal'::regnamespace",
                "source");
}

static const char *migration_sql(const char *name)
{
    for (size_t i = 0; i < migration_count; i++)
        if (strcmp(migrations[i].name, name) == 0)
            return migrations[i].sql;
    fail_msg("there is no migration %s", name);
    return NULL;
}

/* Names are their order, so each has a number of its own. (Two of the first share theirs.) */
static void test_migrations_are_numbered(void **state)
{
    (void)state;
    long before = 0;
    for (size_t i = 0; i < migration_count; i++) {
        long number = strtol(migrations[i].name, NULL, 10);
        if (number != before + 1 && strcmp(migrations[i].name, "006_windows.sql") != 0)
            fail_msg("%s follows number %ld", migrations[i].name, before);
        before = number;
    }
}

/* A deployment from before 012_addresses.sql has its tables changed, too. */
static void test_old_tables_get_their_index(void **state)
{
    (void)state;
    enum catalog_change change;
    bool changed;
    static const char shape[] =
        "SELECT indexdef, attnotnull, reloptions FROM pg_indexes"
        " JOIN pg_attribute ON attrelid = 'dovetail_internal.speed_1'::regclass"
        "   AND attname = '_group_id'"
        " JOIN pg_class AS c ON c.oid = attrelid WHERE indexname = 'speed_1_address'";
    assert_ok(catalog_migrate(postgres, &changed, &error));
    assert_ok(register_source(source_text, &change));
    register_view(view_text);
    char wanted[4096];
    snprintf(wanted, sizeof wanted, "%s", rows_of(shape));
    assert_non_null(strstr(wanted, "WHERE"));
    execute("DROP INDEX dovetail_internal.speed_1_address;"
            "ALTER TABLE dovetail_internal.speed_1 ALTER COLUMN _group_id SET NOT NULL,"
            " SET (fillfactor = 50), ADD CONSTRAINT speed_1_address"
            " UNIQUE (_partition, _slice_start, _group_id)");
    execute("BEGIN");
    execute(migration_sql("012_addresses.sql"));
    execute("COMMIT");
    assert_rows(shape, wanted);
}

/* --- sources and partitions --- */

static void test_source_keeps_its_topic(void **state)
{
    (void)state;
    enum catalog_change change;
    prepare();
    assert_ok(register_source(source_text, &change));
    assert_int_equal(change, CATALOG_UNCHANGED);
    static const char moved[] =
        "{\"source\": \"flights\", \"topic\": \"sea\", \"event_time\": {\"field\": \"time\"},"
        " \"fields\": {\"time\": \"timestamp\"}}";
    assert_status(STATUS_REJECT, register_source(moved, &change));
    assert_non_null(strstr(error.text, "source flights: topic: it is air"));
    static const char second[] =
        "{\"source\": \"ships\", \"topic\": \"air\", \"event_time\": {\"field\": \"time\"},"
        " \"fields\": {\"time\": \"timestamp\"}}";
    assert_status(STATUS_REJECT, register_source(second, &change));
    assert_non_null(strstr(error.text, "source flights reads topic air already"));
}

static void test_new_partitions_are_covered(void **state)
{
    (void)state;
    static const int64_t bases[] = {99, 99, 99, 7};
    prepare();
    register_view(view_text);
    assert_ok(catalog_add_partitions(postgres, "air", bases, 4, &error));
    assert_rows("SELECT partition, base_offset, next_offset, slice_start"
                " FROM dovetail_internal.position ORDER BY partition",
                "0|10|10|10;1|10|10|10;2|10|10|10;3|7|7|7");
    assert_rows("SELECT partition, speed_from FROM dovetail_internal.coverage ORDER BY partition",
                "0|10;1|10;2|10;3|7");
    assert_rows("SELECT count(*) FROM dovetail_internal.view_ledger", "4");
}

/* --- versions --- */

static void test_a_view_of_an_unread_topic_is_current_at_once(void **state)
{
    (void)state;
    struct catalog *catalog = NULL;
    prepare();
    assert_int_equal(register_view(view_text), CATALOG_ADDED);
    assert_int_equal(register_view(view_text), CATALOG_UNCHANGED);
    assert_rows("SELECT version, view, state FROM dovetail_internal.view_version",
                "1|by_origin|current");
    assert_ok(catalog_load(postgres, &catalog, &error));
    const struct catalog_version *version = catalog_current(catalog, "by_origin");
    assert_non_null(version);
    assert_true(version->readable);
    assert_int_equal(version->version, 1);
    assert_string_equal(version->view->measures[1].text, "sum(delay)");
    assert_ptr_equal(version->view->source, version->source);
    assert_non_null(catalog_source(catalog, "flights"));
    assert_null(catalog_source(catalog, "ships"));
    catalog_destroy(catalog);
    assert_rows("SELECT * FROM dovetail.by_origin", "");
}

static void test_registration_covers_and_fences(void **state)
{
    (void)state;
    prepare();
    execute("UPDATE dovetail_internal.position SET next_offset = 50 + partition, owner_epoch = 7");
    assert_int_equal(register_view(view_text), CATALOG_ADDED);
    assert_rows("SELECT partition, speed_from FROM dovetail_internal.coverage ORDER BY partition",
                "0|50;1|51;2|52");
    assert_rows("SELECT DISTINCT owner_epoch FROM dovetail_internal.position", "8");
    assert_rows("SELECT partition, counted, filtered, rejected FROM dovetail_internal.view_ledger"
                " ORDER BY partition",
                "0|0|0|0;1|0|0|0;2|0|0|0");
    assert_rows("SELECT state FROM dovetail_internal.view_version", "building");
}

static void test_a_version_waits_for_a_run_that_has_it(void **state)
{
    (void)state;
    struct catalog *catalog = NULL;
    prepare();
    register_view(view_text);
    execute("UPDATE dovetail_internal.position SET next_offset = 50");
    assert_int_equal(register_view(other_text), CATALOG_CHANGED);
    assert_int_equal(register_view(other_text), CATALOG_UNCHANGED);
    assert_ok(catalog_load(postgres, &catalog, &error));
    assert_int_equal(catalog->version_count, 2);
    assert_int_equal(catalog_current(catalog, "by_origin")->version, 1);
    catalog_destroy(catalog);

    /* A run that began before the registration: its cut-offs are beyond S, its rows lack version 2.
     */
    publish(1, 60);
    assert_ok(catalog_mark_built(postgres, 1, 1, &error));
    promote();
    assert_rows("SELECT version, state FROM dovetail_internal.view_version ORDER BY version",
                "1|current;2|building");
    /* One that folded it, but ended below S. */
    publish(2, 40);
    assert_ok(catalog_mark_built(postgres, 2, 2, &error));
    promote();
    assert_rows("SELECT version, state FROM dovetail_internal.view_version ORDER BY version",
                "1|current;2|building");
    /* Its SQL view cannot be replaced while somebody reads it: the run is published all the same.
     */
    publish(3, 50);
    char *conninfo = conninfo_of(database);
    struct postgres *reader = NULL;
    assert_ok(postgres_connect(conninfo, "a report", &reader, &error));
    assert_ok(postgres_execute(reader, "BEGIN; SELECT * FROM dovetail.by_origin", &error));
    promote();
    assert_rows("SELECT version, state FROM dovetail_internal.view_version ORDER BY version",
                "1|current;2|building");
    postgres_close(reader);
    free(conninfo);
    promote();
    assert_rows("SELECT version, state FROM dovetail_internal.view_version ORDER BY version",
                "1|retired;2|current");
    assert_rows("SELECT attname FROM pg_attribute WHERE attrelid = 'dovetail.by_origin'::regclass"
                " ORDER BY attnum",
                "window_start;window_end;origin;flights;mean;provisional");

    /* Back to a run that does not have it: an error, not a wrong answer. */
    execute("UPDATE dovetail_internal.current_run SET run = 1");
    assert_ok(catalog_load(postgres, &catalog, &error));
    assert_false(catalog_current(catalog, "by_origin")->readable);
    catalog_destroy(catalog);
    assert_status(STATUS_FATAL,
                  postgres_execute(postgres, "SELECT * FROM dovetail.by_origin", &error));
    assert_string_equal(error.sqlstate, "55000");
}

/* Somebody else's snapshot may be in the way for a moment, such as autovacuum's. */
static void await_dropped(int version, int64_t retained)
{
    char sql[100];
    snprintf(sql, sizeof sql, "SELECT to_regclass('dovetail_internal.speed_%d')", version);
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    for (;;) {
        assert_ok(catalog_drop_retired(postgres, retained, &error));
        if (strcmp(rows_of(sql), "NULL") == 0)
            return;
        assert_true(stack_now_ms() < end_ms);
        stack_sleep_ms(20);
    }
}

static void test_retired_versions_are_dropped(void **state)
{
    (void)state;
    struct catalog *catalog = NULL;
    struct postgres *reader = NULL;
    char *conninfo = conninfo_of(database);
    prepare();
    register_view(view_text);
    execute("UPDATE dovetail_internal.position SET next_offset = 50");
    register_view(other_text);
    assert_ok(postgres_connect(conninfo, "test_catalog", &reader, &error));
    assert_ok(postgres_execute(reader, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1", &error));
    assert_int_equal(register_view(third_text), CATALOG_CHANGED);
    assert_rows("SELECT version, state FROM dovetail_internal.view_version ORDER BY version",
                "1|current;2|retired;3|building");
    assert_ok(catalog_drop_retired(postgres, 3, &error)); /* the reader may need it */
    /* Also to a role that sees nothing else of the reader's session. */
    execute("DROP ROLE IF EXISTS catalog_test_batch; CREATE ROLE catalog_test_batch;"
            "GRANT USAGE ON SCHEMA dovetail_internal TO catalog_test_batch;"
            "GRANT ALL ON ALL TABLES IN SCHEMA dovetail_internal TO catalog_test_batch;"
            "SET ROLE catalog_test_batch");
    assert_ok(catalog_drop_retired(postgres, 3, &error));
    execute("RESET ROLE; DROP OWNED BY catalog_test_batch; DROP ROLE catalog_test_batch");
    assert_rows("SELECT to_regclass('dovetail_internal.speed_2') IS NOT NULL", "t");
    assert_ok(postgres_execute(reader, "SELECT * FROM dovetail_internal.speed_2; COMMIT", &error));
    await_dropped(2, 3);
    assert_rows("SELECT to_regclass('dovetail_internal.batch_2')", "NULL");
    assert_rows("SELECT DISTINCT version FROM dovetail_internal.coverage ORDER BY version", "1;3");
    assert_rows("SELECT version FROM dovetail_internal.view_version ORDER BY version", "1;3");

    /* What was current keeps its definition for a while, and who did not hear of the change asks
     * again. */
    assert_ok(catalog_load(postgres, &catalog, &error));
    publish(1, 60);
    assert_ok(catalog_mark_built(postgres, 3, 1, &error));
    promote();
    await_dropped(1, 1);
    assert_rows("SELECT version, state FROM dovetail_internal.view_version ORDER BY version",
                "1|retired;3|current");
    struct query_request request = {.row_limit = 10};
    struct query_answer *answer = NULL;
    assert_status(STATUS_FENCED, query_run(reader, catalog_current(catalog, "by_origin"), &request,
                                           &answer, &error));
    catalog_destroy(catalog);
    assert_rows("SELECT count(*) FROM dovetail.by_origin", "0");
    assert_ok(catalog_drop_retired(postgres, 0, &error));
    assert_rows("SELECT version FROM dovetail_internal.view_version", "3");
    assert_rows("SELECT to_regclass('dovetail_internal.speed_3') IS NOT NULL", "t");
    postgres_close(reader);
    free(conninfo);
}

static enum status switch_to(int version, enum catalog_change *change)
{
    execute("BEGIN");
    assert_ok(catalog_lock(postgres, &error));
    enum status status = catalog_switch_version(postgres, "by_origin", version, change, &error);
    struct error kept = error;
    execute(status == STATUS_OK ? "COMMIT" : "ROLLBACK");
    error = kept;
    return status;
}

static void test_going_back_to_a_version(void **state)
{
    (void)state;
    enum catalog_change change;
    prepare();
    register_view(view_text);
    execute("UPDATE dovetail_internal.position SET next_offset = 50");
    register_view(other_text);
    publish(1, 60);
    assert_ok(catalog_mark_built(postgres, 2, 1, &error));
    promote();
    await_dropped(1, 3);
    register_view(third_text);
    /* The newest one is given up, and what is served stays. */
    assert_ok(switch_to(2, &change));
    assert_rows("SELECT version, state FROM dovetail_internal.view_version ORDER BY version",
                "1|retired;2|current;3|retired");
    /* The old one is built again, beside the other. */
    assert_ok(switch_to(1, &change));
    assert_int_equal(change, CATALOG_CHANGED);
    assert_rows("SELECT version, state FROM dovetail_internal.view_version ORDER BY version",
                "1|retired;2|current;3|retired;4|building");
    assert_rows("SELECT DISTINCT speed_from FROM dovetail_internal.coverage WHERE version = 4",
                "50");
    publish(2, 70);
    assert_ok(catalog_mark_built(postgres, 4, 2, &error));
    promote();
    assert_rows("SELECT state FROM dovetail_internal.view_version WHERE version IN (2, 4)"
                " ORDER BY version",
                "retired;current");
    assert_ok(postgres_execute(postgres, "SELECT flights, total FROM dovetail.by_origin", &error));
    assert_status(STATUS_REJECT, switch_to(99, &change));
    assert_string_equal(error.text, "view by_origin has no version 99");

    /* The same text over another source would be another view. */
    static const char changed[] =
        "{\"source\": \"flights\", \"topic\": \"air\", \"event_time\": {\"field\": \"time\"},"
        " \"fields\": {\"time\": \"timestamp\", \"delay\": {\"type\": \"integer\","
        " \"path\": \"late\", \"nullable\": true}, \"fare\": \"decimal\","
        " \"origin\": \"string\"}}";
    assert_ok(register_source(changed, &change));
    assert_status(STATUS_REJECT, switch_to(2, &change));
    assert_non_null(strstr(error.text, "source flights has changed"));
}

static enum status drop_view(const char *view)
{
    execute("BEGIN");
    assert_ok(catalog_lock(postgres, &error));
    enum status status = catalog_drop_view(postgres, view, &error);
    struct error kept = error;
    execute(status == STATUS_OK ? "COMMIT" : "ROLLBACK");
    error = kept;
    return status;
}

static void test_a_view_is_dropped(void **state)
{
    (void)state;
    struct catalog *catalog = NULL;
    prepare();
    register_view(view_text);
    execute("UPDATE dovetail_internal.position SET next_offset = 50");
    register_view(other_text);
    execute("CREATE VIEW public.mine AS SELECT total FROM dovetail.by_origin");
    assert_status(STATUS_FATAL, drop_view("by_origin"));
    assert_non_null(strstr(error.text, "mine"));
    execute("DROP VIEW public.mine");
    assert_ok(drop_view("by_origin"));
    assert_rows("SELECT version, state FROM dovetail_internal.view_version ORDER BY version",
                "1|retired;2|retired");
    assert_rows("SELECT to_regclass('dovetail.by_origin')", "NULL");
    assert_ok(catalog_load(postgres, &catalog, &error));
    assert_int_equal(catalog->version_count, 0);
    catalog_destroy(catalog);
    await_dropped(1, 3);
    await_dropped(2, 3);
    assert_status(STATUS_REJECT, drop_view("by_origin"));
    assert_int_equal(register_view(view_text), CATALOG_ADDED);
}

/* Back to what is current. */
static void test_a_change_is_taken_back(void **state)
{
    (void)state;
    prepare();
    register_view(view_text);
    execute("UPDATE dovetail_internal.position SET next_offset = 50");
    register_view(third_text);
    assert_int_equal(register_view(view_text), CATALOG_CHANGED);
    assert_rows("SELECT version, state FROM dovetail_internal.view_version ORDER BY version",
                "1|current;2|retired");
    assert_int_equal(register_view(view_text), CATALOG_UNCHANGED);
}

static void test_a_changed_source_makes_new_versions(void **state)
{
    (void)state;
    static const char changed_source[] =
        "{\"source\": \"flights\", \"topic\": \"air\", \"event_time\": {\"field\": \"time\"},"
        " \"fields\": {\"time\": \"timestamp\", \"delay\": {\"type\": \"decimal\", \"nullable\": "
        "true},"
        "             \"fare\": \"decimal\", \"origin\": \"string\"}}";
    enum catalog_change change;
    prepare();
    register_view(view_text);
    execute("UPDATE dovetail_internal.position SET next_offset = 50");
    assert_ok(register_source(changed_source, &change));
    assert_int_equal(change, CATALOG_CHANGED);
    assert_ok(try_view(changed_source, view_text, &change));
    assert_int_equal(change, CATALOG_CHANGED);
    assert_rows("SELECT version, state, source_definition #>> '{fields,delay,type}'"
                " FROM dovetail_internal.view_version ORDER BY version",
                "1|current|integer;2|building|decimal");
}

/* --- the SQL views --- */

static void test_sql_view_merges_exactly(void **state)
{
    (void)state;
    prepare();
    register_view(
        VIEW("\"flights\": \"count(*)\", \"total\": \"sum(delay)\", \"mean\": \"avg(delay)\","
             "\"cheapest\": \"min(fare)\", \"last\": \"max(time)\", \"name\": \"max(origin)\""));
    publish(1, 20);
    publish(2, 30);
    assert_ok(catalog_mark_built(postgres, 1, 1, &error));
    /* Run 1 and 2 differ in A; B is the same in both; C is of run 2. */
    execute(
        "INSERT INTO dovetail_internal.batch_1 (_run_from, _run_to, window_start, origin, flights, "
        "total,"
        " \"mean$sum\", \"mean$n\", cheapest, last, name) VALUES"
        " (1, 2, '2001-01-01T00:00Z', 'A', 5, 50, 50, 5, 1.50, '2001-01-01T00:10Z', 'A'),"
        " (2, DEFAULT, '2001-01-01T00:00Z', 'A', 7, 70, 70, 7, 1.50, '2001-01-01T00:10Z', 'A'),"
        " (1, DEFAULT, '2001-01-01T00:00Z', NULL, 1, NULL, NULL, 0, 3.10, '2001-01-01T00:59Z', "
        "NULL),"
        " (2, DEFAULT, '2001-01-01T01:00Z', 'C', 1, 1, 1, 1, 9, '2001-01-01T01:00Z', 'C');"
        "INSERT INTO dovetail_internal.speed_1 VALUES"
        " (0, 10, 1, '2001-01-01T00:00Z', 'A', 100, 100, 100, 100, 0.01, '2001-01-01T00:20Z', 'A'),"
        " (0, 20, 1, '2001-01-01T00:00Z', 'A', 2, 20, 20, 2, 1.20, '2001-01-01T00:30Z', 'A'),"
        " (0, 30, 1, '2001-01-01T00:00Z', 'A', 1, 1, 1, 1, 1.70, '2001-01-01T00:05Z', 'A'),"
        " (1, 30, 1, '2001-01-01T00:00Z', NULL, 1, -4, -4, 1, 3.1, '2001-01-01T00:01Z', NULL)");
    execute("UPDATE dovetail_internal.position SET next_offset = 40, slice_start = 30,"
            " watermark = '2001-01-01T01:30Z'");
    execute("SET TimeZone = 'UTC'");
    static const char query[] =
        "SELECT to_char(window_start, 'HH24:MI'), to_char(window_end, 'HH24:MI'), origin, flights,"
        " total, round(mean, 3), cheapest, to_char(last, 'HH24:MI'), name, provisional"
        " FROM dovetail.by_origin ORDER BY window_start, origin";
    assert_rows(query, "00:00|01:00|A|8|71|8.875|1.5|00:10|A|f;"
                       "00:00|01:00|NULL|2|-4|-4.000|3.1|00:59|NULL|f;"
                       "01:00|02:00|C|1|1|1.000|9|01:00|C|t");
    /* Under run 1 the slice at 20 counts again, and the rows of run 2 do not. */
    execute("UPDATE dovetail_internal.current_run SET run = 1");
    assert_rows(query, "00:00|01:00|A|8|71|8.875|1.2|00:30|A|f;"
                       "00:00|01:00|NULL|2|-4|-4.000|3.1|00:59|NULL|f");
    assert_rows("SELECT obj_description('dovetail.by_origin'::regclass) IS NOT NULL,"
                " col_description('dovetail.by_origin'::regclass, 5)",
                "t|sum(delay)");
}

static void test_sql_view_does_not_depend_on_the_reader(void **state)
{
    (void)state;
    prepare();
    register_view(view_text);
    execute(
        "INSERT INTO dovetail_internal.speed_1 VALUES"
        " (0, 10, 1, '2001-03-25T00:00Z', 'A', 2, 20), (0, 10, 2, '2001-03-25T00:00Z', 'a', 1, 1)");
    execute("CREATE SCHEMA evil; CREATE TABLE evil.speed_1 (x integer);"
            "CREATE FUNCTION evil.sum_them(numeric, numeric) RETURNS numeric LANGUAGE sql AS "
            "'SELECT 0.0';"
            "SET search_path = evil; SET TimeZone = 'Europe/Berlin'");
    assert_rows("SELECT extract(epoch FROM window_end - window_start)::integer, origin, total"
                " FROM dovetail.by_origin ORDER BY origin",
                "3600|A|20;3600|a|1");
    /* A reader needs no right to the tables behind it. */
    execute("RESET search_path; DROP ROLE IF EXISTS catalog_test_reader; CREATE ROLE "
            "catalog_test_reader;"
            "GRANT USAGE ON SCHEMA dovetail TO catalog_test_reader;"
            "GRANT SELECT ON dovetail.by_origin TO catalog_test_reader;"
            "SET ROLE catalog_test_reader");
    assert_rows("SELECT count(*) FROM dovetail.by_origin", "2");
    execute("RESET ROLE");

    /* The right outlives a version with other columns. */
    publish(1, 20);
    register_view(other_text);
    assert_ok(catalog_mark_built(postgres, 2, 1, &error));
    promote();
    assert_rows("SELECT has_table_privilege('catalog_test_reader', 'dovetail.by_origin', 'SELECT'),"
                " has_table_privilege('catalog_test_reader', 'dovetail.by_origin', 'INSERT')",
                "t|f");
    execute("DROP OWNED BY catalog_test_reader; DROP ROLE catalog_test_reader");
}

/* --- locks that others hold --- */

static enum status lock_positions(void)
{
    enum status status = postgres_execute(
        postgres,
        "BEGIN; SET LOCAL lock_timeout = '50ms'; SELECT FROM dovetail_internal.position FOR UPDATE",
        &error);
    struct error ignored;
    (void)!postgres_execute(postgres, "ROLLBACK", &ignored);
    return status;
}

static void expect_holder(const char *pid)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "held, it seems, by an operator (process %s at the server",
             pid);
    if (strstr(error.text, wanted) == NULL)
        fail_msg("%s: not in: %s", wanted, error.text);
    snprintf(wanted, sizeof wanted, "end it with SELECT pg_terminate_backend(%s)", pid);
    assert_non_null(strstr(error.text, wanted));
    assert_non_null(strstr(error.text, "in a transaction since 2"));
    assert_string_equal(error.sqlstate, "55P03");
}

/* Somebody who is none of ours is named, and never ended. */
static void test_who_holds_a_lock_is_named(void **state)
{
    (void)state;
    prepare();
    register_view(view_text);
    char *conninfo = conninfo_of(database);
    struct postgres *holder = NULL;
    PGresult *result = NULL;
    char pid[24];
    assert_ok(postgres_connect(conninfo, "an operator", &holder, &error));
    assert_ok(postgres_query(holder, "SELECT pg_backend_pid()", 0, NULL, &result, &error));
    snprintf(pid, sizeof pid, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    assert_rows("SHOW lock_timeout", "30s"); /* nobody waits for ever */
    assert_ok(postgres_execute(holder, "BEGIN; SELECT FROM dovetail_internal.position FOR UPDATE",
                               &error));

    struct lock_wait wait = lock_wait_begin();
    assert_status(STATUS_RETRY, lock_positions());
    assert_true(lock_wait_again(&wait, postgres, STATUS_RETRY, &error)); /* there is time */
    wait.until_us = 0;
    assert_ok(postgres_execute(postgres, "SELECT pg_sleep(1.1)", &error)); /* no flush takes that */
    assert_status(STATUS_RETRY, lock_positions());
    assert_false(lock_wait_again(&wait, postgres, STATUS_RETRY, &error)); /* over */
    expect_holder(pid);
    assert_status(STATUS_RETRY, lock_positions());
    lock_wait_resolve(postgres, &error);
    expect_holder(pid);

    assert_ok(postgres_execute(holder, "COMMIT", &error));
    assert_ok(lock_positions());
    wait = lock_wait_begin();
    assert_false(lock_wait_again(&wait, postgres, STATUS_OK, &error));
    assert_status(STATUS_FATAL, postgres_execute(postgres, "SELECT 1 / 0", &error));
    assert_false(lock_wait_again(&wait, postgres, STATUS_FATAL, &error)); /* another trouble */
    postgres_close(holder);
    free(conninfo);
}

static enum status lock_versions(void)
{
    enum status status =
        postgres_execute(postgres, "BEGIN; SET LOCAL lock_timeout = '50ms'", &error);
    if (status == STATUS_OK)
        status = catalog_lock(postgres, &error);
    (void)!postgres_execute(postgres, "ROLLBACK", NULL);
    return status;
}

/* A run takes as long as it takes: who registers a view meanwhile waits. */
static void test_a_publication_is_waited_for(void **state)
{
    (void)state;
    prepare();
    register_view(view_text);
    char *conninfo = conninfo_of(database);
    struct postgres *holder = NULL;
    assert_ok(postgres_connect(conninfo, "dovetail-batch", &holder, &error));
    assert_ok(postgres_execute(
        holder, "BEGIN; SELECT FROM dovetail_internal.view_version FOR SHARE", &error));
    struct lock_wait wait = {.until_us = program_monotonic_us() - 1};
    for (int i = 0; i < 2; i++) {
        assert_status(STATUS_RETRY, lock_versions());
        assert_true(lock_wait_again(&wait, postgres, STATUS_RETRY, &error));
        assert_true(wait.has_told);
    }
    wait.until_us -= INT64_C(3600000000);
    assert_status(STATUS_RETRY, lock_versions());
    assert_false(lock_wait_again(&wait, postgres, STATUS_RETRY, &error)); /* over, too */
    assert_ok(postgres_execute(holder, "COMMIT", &error));
    assert_ok(lock_versions());
    postgres_close(holder);
    free(conninfo);
}

static void test_dependent_objects_are_named(void **state)
{
    (void)state;
    prepare();
    register_view(view_text);
    execute("CREATE VIEW public.mine AS SELECT total FROM dovetail.by_origin");
    enum catalog_change change;
    assert_status(STATUS_FATAL, try_view(source_text, other_text, &change));
    assert_non_null(strstr(error.text, "mine"));
    /* The failure left everything as it was, and equal columns are no problem. */
    assert_rows("SELECT version, state FROM dovetail_internal.view_version", "1|current");
    assert_int_equal(
        register_view(VIEW("\"flights\": \"count(*)\", \"total\": \"sum(delay * 2)\"")),
        CATALOG_CHANGED);
    assert_rows("SELECT count(*) FROM public.mine", "0");
}

/* The widest group that the engine admits fits the index. */
static void test_widest_keys_fit_the_index(void **state)
{
    (void)state;
    static const char wide[] =
        "{\"view\": \"wide\", \"source\": \"flights\", \"group_by\": ["
        " {\"name\": \"a\", \"expr\": \"origin\"}, {\"name\": \"b\", \"expr\": \"origin || 'b'\"},"
        " {\"name\": \"c\", \"expr\": \"fare\"}, {\"name\": \"d\", \"expr\": \"fare + 1\"},"
        " {\"name\": \"e\", \"expr\": \"fare + 2\"}, {\"name\": \"f\", \"expr\": \"fare + 3\"},"
        " {\"name\": \"g\", \"expr\": \"fare + 4\"}, {\"name\": \"h\", \"expr\": \"fare + 5\"},"
        " {\"name\": \"i\", \"expr\": \"fare + 6\"}, {\"name\": \"j\", \"expr\": \"fare + 7\"},"
        " {\"name\": \"k\", \"expr\": \"fare + 8\"}, {\"name\": \"l\", \"expr\": \"fare + 9\"},"
        " {\"name\": \"m\", \"expr\": \"fare + 10\"}, {\"name\": \"q\", \"expr\": \"fare + 11\"},"
        " {\"name\": \"o\", \"expr\": \"fare + 12\"}, {\"name\": \"p\", \"expr\": \"time\"}],"
        " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}, \"measures\": {\"n\": "
        "\"count(*)\"}}";
    prepare();
    register_view(wide);
    /* Random text, because btree entries are compressed. */
    execute(
        "INSERT INTO dovetail_internal.speed_1 SELECT 0, 10, 1, now(),"
        " left(s, 999), left(s, 1000) || '!', x, x, x, x, x, x, x, x, x, x, x, x, x, now(), 1"
        " FROM (SELECT string_agg(md5(random()::text), '') AS s FROM generate_series(1, 40)) AS t,"
        "      (SELECT 1.2345678901234567890123456789012345678::numeric AS x) AS u");
    assert_rows("SELECT n FROM dovetail.wide", "1");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_migrations_run_once),
        TEST(test_strange_migrations_are_refused),
        TEST(test_a_failing_migration_leaves_nothing),
        cmocka_unit_test(test_migrations_are_numbered),
        TEST(test_old_tables_get_their_index),
        TEST(test_source_keeps_its_topic),
        TEST(test_new_partitions_are_covered),
        TEST(test_a_view_of_an_unread_topic_is_current_at_once),
        TEST(test_registration_covers_and_fences),
        TEST(test_a_version_waits_for_a_run_that_has_it),
        TEST(test_retired_versions_are_dropped),
        TEST(test_going_back_to_a_version),
        TEST(test_a_view_is_dropped),
        TEST(test_a_change_is_taken_back),
        TEST(test_a_changed_source_makes_new_versions),
        TEST(test_sql_view_merges_exactly),
        TEST(test_sql_view_does_not_depend_on_the_reader),
        TEST(test_who_holds_a_lock_is_named),
        TEST(test_a_publication_is_waited_for),
        TEST(test_dependent_objects_are_named),
        TEST(test_widest_keys_fit_the_index),
    };
    return cmocka_run_group_tests_name("catalog", tests, NULL, NULL);
}
