/* Versions and partitions that are registered at the same time: each version has its coverage for
 * every partition, whoever was first, and nobody who waits to register holds what a flush needs.
 *
 * The publication of a run is played by a transaction that locks the versions as it does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "tests/support/broker.h"
#include "tests/support/database.h"
#include "tests/support/deployment.h"
#include "tests/support/stack.h"

static struct deployment *deployment;
static PGconn *publication;

static void execute(PGconn *connection, const char *sql)
{
    PGresult *result = database_ask(connection, sql);
    ExecStatusType status = PQresultStatus(result);
    PQclear(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
}

static void define_view(const char *name)
{
    char text[300];
    snprintf(text, sizeof text,
             "{\"view\": \"%s\", \"source\": \"orders\", \"measures\": {\"n\": \"count(*)\"},"
             " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}}",
             name);
    deployment_define_view(deployment, text);
}

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    deployment_define_source(deployment,
                             "{\"source\": \"orders\", \"partitions\": 1, \"event_time\":"
                             " {\"field\": \"t\", \"format\": \"epoch_s\"},"
                             " \"fields\": {\"t\": \"integer\"}}");
    define_view("first");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    publication = deployment_connect(deployment);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    PQfinish(publication);
    publication = NULL;
    deployment_destroy(deployment);
    deployment = NULL;
    return 0;
}

/* Somebody waits for the lock, and holds no lock that a flush could wait for. */
#define WAITING                                                                                    \
    "SELECT count(*) FROM pg_locks AS w WHERE NOT w.granted AND w.mode = 'ExclusiveLock'"          \
    " AND w.relation = 'dovetail_internal.view_version'::regclass"
#define HOLDING                                                                                    \
    " AND EXISTS (SELECT FROM pg_locks AS h WHERE h.pid = w.pid AND h.granted"                     \
    "  AND h.relation = 'dovetail_internal.position'::regclass"                                    \
    "  AND h.mode <> 'AccessShareLock')"

static void expect_waiting(struct child *child)
{
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    while (deployment_number(deployment, WAITING) == 0) {
        if (!child_is_running(child) || stack_now_ms() > end_ms) {
            children_show();
            fail_msg("%s does not wait for the publication", child_name(child));
        }
        stack_sleep_ms(20);
    }
    assert_int_equal(deployment_number(deployment, WAITING HOLDING), 0);
    PGconn *flush = deployment_connect(deployment);
    execute(flush, "SET lock_timeout = '10s'");
    execute(flush, "UPDATE dovetail_internal.position SET updated_at = now()");
    PQfinish(flush);
}

static void publish_begin(void)
{
    execute(publication, "BEGIN");
    execute(publication, "SELECT version FROM dovetail_internal.view_version FOR SHARE");
}

static void test_registrations_wait_for_publications(void **state)
{
    (void)state;
    char topic[128];
    snprintf(topic, sizeof topic, "%s", deployment_topic(deployment, "orders"));
    define_view("second");
    publish_begin();
    struct child *init = deployment_start(deployment, "dovetail", "init", NULL);
    expect_waiting(init);
    execute(publication, "COMMIT");
    child_expect(init, 0);

    broker_add_partitions(topic, 2);
    publish_begin();
    struct child *batch = deployment_start(deployment, "dovetail-batch", "run", NULL);
    expect_waiting(batch);
    execute(publication, "COMMIT");
    child_expect(batch, 0);

    broker_add_partitions(topic, 3);
    publish_begin();
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    expect_waiting(speed);
    execute(publication, "COMMIT");
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    while (deployment_number(deployment, "SELECT count(*) FROM dovetail_internal.position"
                                         " WHERE owner IS NOT NULL") != 3) {
        assert_true(stack_now_ms() < end_ms);
        children_must_run(&speed, 1);
        stack_sleep_ms(20);
    }
    child_stop(speed);
    assert_int_equal(deployment_number(deployment, "SELECT count(*) FROM dovetail_internal.coverage"
                                                   " JOIN dovetail_internal.view_ledger"
                                                   " USING (version, topic, partition)"),
                     6);
}

/* What a version that is registered meanwhile does not see is not committed yet: it must wait. */
static void test_partitions_and_versions_meet(void **state)
{
    (void)state;
    define_view("second");
    execute(publication, "BEGIN");
    execute(publication, "LOCK TABLE dovetail_internal.view_version IN EXCLUSIVE MODE");
    execute(publication,
            "WITH made AS (INSERT INTO dovetail_internal.position (topic, partition, base_offset,"
            " next_offset, slice_start) SELECT topic, 1, 0, 0, 0 FROM dovetail_internal.source"
            " RETURNING topic, partition)"
            " INSERT INTO dovetail_internal.coverage (version, topic, partition, speed_from)"
            " SELECT version, topic, partition, 0 FROM dovetail_internal.view_version, made");
    struct child *init = deployment_start(deployment, "dovetail", "init", NULL);
    expect_waiting(init);
    execute(publication, "COMMIT");
    child_expect(init, 0);
    assert_int_equal(
        deployment_number(deployment, "SELECT count(*) FROM dovetail_internal.coverage"), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_registrations_wait_for_publications, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_partitions_and_versions_meet, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
