/* Least privilege: each process as a login role that is a member of its own group role alone,
 * through the usual course; and what each of them cannot do.
 *
 * Roles are of the whole server: these have a random prefix, and go with the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/database.h"
#include "tests/support/deployment.h"
#include "tests/support/http.h"
#include "tests/support/stack.h"

static struct deployment *deployment;
static char prefix[40];
static char administrator[512]; /* conninfo */

static const char *const members[] = {"owner", "speed", "batch", "serving", "analytics"};

static const char source_json[] =
    "{\"source\": \"orders\", \"event_time\": {\"field\": \"time\", \"format\": \"rfc3339\"},"
    " \"partitions\": 2, \"fields\": {\"time\": \"timestamp\", \"shop\": \"string\"}}";

static const char *const view_jsons[] = {
    "{\"view\": \"sales\", \"source\": \"orders\", \"group_by\": [\"shop\"],"
    " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}, \"measures\": {\"n\": \"count(*)\"}}",
    "{\"view\": \"sales\", \"source\": \"orders\", \"group_by\": [\"shop\"],"
    " \"window\": {\"type\": \"tumbling\", \"size\": \"2h\"}, \"measures\": {\"n\": \"count(*)\"}}",
};

static void administer(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void administer(const char *format, ...)
{
    char sql[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sql, sizeof sql, format, arguments);
    va_end(arguments);
    PGconn *connection = database_open(administrator);
    PGresult *result = database_ask(connection, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    PQclear(result);
    PQfinish(connection);
}

/* What runs next does so as this login role; "" is the administrator. */
static void as(const char *member)
{
    char *out = deployment->postgres;
    size_t size = sizeof deployment->postgres;
    int length = member[0] == '\0'
                     ? snprintf(out, size, "%s", administrator)
                     : snprintf(out, size, "%s user=%s_login_%s", administrator, prefix, member);
    assert_in_range(length, 1, size - 1);
    deployment_set(deployment, NULL, "postgres", json_string(out));
}

/* True, or the SQLSTATE is `expected`. */
static void attempt(const char *member, const char *expected, const char *sql)
{
    as(member);
    PGconn *connection = deployment_connect(deployment);
    PGresult *result = database_ask(connection, sql);
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (strcmp(state != NULL ? state : "", expected) != 0)
        fail_msg("%s: %s: %s", member, sql, PQerrorMessage(connection));
    PQclear(result);
    PQfinish(connection);
}

static void must(const char *member, const char *sql)
{
    attempt(member, "", sql);
}

static void cannot(const char *member, const char *sql)
{
    attempt(member, "42501", sql);
}

static void produce(void)
{
    char events[4096] = "";
    for (int i = 0; i < 30; i++) {
        size_t length = strlen(events);
        snprintf(events + length, sizeof events - length,
                 "{\"time\":\"2001-01-01T%02d:00:00Z\",\"shop\":\"s%d\"}\n", i % 24, i % 3);
    }
    char path[128];
    deployment_write(deployment, "events", events);
    snprintf(path, sizeof path, "%s/events", deployment->directory);
    deployment_run(deployment, 0, "dovetail", "produce", "orders", path, NULL);
}

static void wait_for(const char *sql, int64_t wanted)
{
    for (int i = 0; i < 1200; i++) {
        if (deployment_number(deployment, sql) >= wanted)
            return;
        usleep(50000);
    }
    children_show();
    fail_msg("%s does not reach %lld", sql, (long long)wanted);
}

static void test_the_usual_course(void **state)
{
    (void)state;
    as("");
    deployment_run(deployment, 0, "dovetail", "init", "--roles", prefix, NULL);
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        administer("CREATE ROLE %s_login_%s LOGIN IN ROLE %s_%s", prefix, members[i], prefix,
                   members[i]);
    as("owner"); /* may be repeated, with the option and without */
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_run(deployment, 0, "dovetail", "init", "--roles", prefix, NULL);
    as("speed");
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    produce();
    wait_for("SELECT sum(next_offset)::bigint FROM dovetail_internal.position", 30);
    as("batch");
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    as("owner"); /* another version: tables that the grants have not seen */
    deployment_define_view(deployment, view_jsons[1]);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    produce();
    as("speed");
    wait_for("SELECT sum(next_offset)::bigint FROM dovetail_internal.position", 60);
    as("batch"); /* makes the new version current: dovetail.sales is made anew */
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    deployment_run(deployment, 0, "dovetail-batch", "run", "--full", NULL);
    as("owner");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    as("serving");
    deployment_set(deployment, "serving", "ingest", json_true());
    deployment_serve(deployment);
    struct child *query = deployment_run(deployment, 0, "dovetail", "query", "sales", "--group-by",
                                         "", "--granularity", "all", "--format", "csv", NULL);
    assert_non_null(strstr(child_output(query), "60"));
    deployment_run(deployment, 0, "dovetail", "verify", "sales", NULL);
    deployment_run(deployment, 0, "dovetail", "status", NULL);
    struct http_session *session = http_session_create(deployment->port);
    struct http_reply reply;
    static const char *const targets[] = {"/v1/views", "/v1/status", "/metrics",
                                          "/v1/views/sales/rows"};
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        http_get(session, targets[i], &reply);
        if (reply.status != 200)
            fail_msg("%s: %d %s", targets[i], reply.status, reply.body);
        http_reply_free(&reply);
    }
    /* The one table that serving writes to. */
    static const char *const headers[] = {"Content-Type: application/json",
                                          "Idempotency-Key: roles", NULL};
    static const char event[] = "{\"time\":\"2001-01-01T00:00:00Z\",\"shop\":\"s1\"}";
    for (int i = 0; i < 2; i++) {
        http_post(session, "/v1/sources/orders/events", headers, event, sizeof event - 1, &reply);
        if (reply.status != 200)
            fail_msg("%d %s", reply.status, reply.body);
        http_reply_free(&reply);
    }
    http_post(session, "/v1/sources/orders/events", headers, "{}", 2, &reply);
    assert_int_equal(reply.status, 422);
    http_reply_free(&reply);
    http_session_destroy(session);
    as("speed"); /* before the rows are counted */
    wait_for("SELECT sum(next_offset)::bigint FROM dovetail_internal.position", 61);
    as("analytics");
    assert_int_equal(deployment_number(deployment, "SELECT sum(n)::bigint FROM dovetail.sales"),
                     61);
    child_stop(speed);
}

static void test_what_they_cannot(void **state)
{
    (void)state;
    static const char *const readers[] = {"serving", "analytics"};
    static const char *const writes[] = {
        "UPDATE dovetail_internal.position SET next_offset = 0",
        "DELETE FROM dovetail_internal.speed_2",
        "INSERT INTO dovetail_internal.run (state, reason) VALUES ('running', 'command')",
        "UPDATE dovetail_internal.current_run SET run = 0",
        "DELETE FROM dovetail_internal.view_version",
        "DROP VIEW dovetail.sales",
        "CREATE TABLE dovetail_internal.mine (a integer)",
        "CREATE TABLE dovetail.mine (a integer)",
        "TRUNCATE dovetail_internal.ingest_key",
    };
    for (size_t r = 0; r < 2; r++)
        for (size_t i = 0; i < sizeof writes / sizeof writes[0]; i++)
            attempt(readers[r], "42501", writes[i]);
    must("analytics", "SELECT * FROM dovetail.sales");
    cannot("analytics", "SELECT * FROM dovetail_internal.position");
    cannot("analytics", "SELECT id_secret FROM dovetail_internal.deployment");
    cannot("analytics", "SELECT * FROM dovetail_internal.speed_2");
    must("serving", "SELECT * FROM dovetail_internal.speed_2");
    must("speed", "SELECT * FROM dovetail_internal.run");
    for (size_t i = 2; i < sizeof writes / sizeof writes[0]; i++)
        cannot("speed", writes[i]);
    cannot("speed", "DELETE FROM dovetail_internal.run_cutoff");
    cannot("speed", "DELETE FROM dovetail_internal.segment");
    cannot("speed", "DELETE FROM dovetail_internal.batch_2");
    cannot("speed", "SELECT * FROM dovetail.sales");
    cannot("speed", "DELETE FROM dovetail_internal.ingest_key");
    cannot("analytics", "SELECT * FROM dovetail_internal.ingest_key");
    as("");
    assert_int_equal(
        deployment_number(deployment,
                          "SELECT count(DISTINCT relowner) FROM pg_class WHERE relnamespace IN"
                          " ('dovetail'::regnamespace, 'dovetail_internal'::regnamespace)"),
        1);
}

static void test_who_may_not_create_roles(void **state)
{
    (void)state;
    as("analytics");
    struct child *child =
        deployment_run(deployment, 2, "dovetail", "init", "--roles", "somebody_else", NULL);
    assert_non_null(strstr(child_errors(child), "may not create roles"));
    assert_non_null(strstr(child_errors(child), "CREATE ROLE somebody_else_owner"));
    child = deployment_run(deployment, 2, "dovetail", "init", "--roles", "a; DROP", NULL);
    assert_non_null(strstr(child_errors(child), "--roles"));
}

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    snprintf(administrator, sizeof administrator, "%s", deployment->postgres);
    snprintf(prefix, sizeof prefix, "t%.16s", deployment->suffix + 1);
    deployment_define_source(deployment, source_json);
    deployment_define_view(deployment, view_jsons[0]);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    children_end();
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        administer("DROP ROLE IF EXISTS %s_login_%s", prefix, members[i]);
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        administer("DROP OWNED BY %s_%s CASCADE", prefix, members[i]);
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        administer("DROP ROLE %s_%s", prefix, members[i]);
    snprintf(deployment->postgres, sizeof deployment->postgres, "%s", administrator);
    deployment_destroy(deployment);
    deployment = NULL;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_usual_course),
        cmocka_unit_test(test_what_they_cannot),
        cmocka_unit_test(test_who_may_not_create_roles),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
