/* PostgreSQL servers that are cut off, full, too busy, restored or lost: whatever they do, every
 * answer is exact, and afterwards nothing is missing and nothing double.
 *
 * The servers are the test's own (tests/support/pgcluster.h). DOVETAIL_SEED repeats events and
 * moments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/database.h"
#include "tests/support/pgcluster.h"
#include "tests/support/http.h"
#include "tests/support/numbers.h"
#include "tests/support/orders.h"
#include "tests/support/proxy.h"
#include "tests/support/stack.h"
#include "tests/support/traffic.h"

enum { SPEEDS = 3, CONNECTIONS_MAX = 60, SMALL_MEGABYTES = 96 };

static struct pgcluster *cluster, *replica;
static struct deployment *deployment;
static struct traffic *traffic;
static struct proxy *proxy;
static struct numbers numbers;
static uint64_t moments; /* random */

static void deploy(const char *conninfo)
{
    deployment = deployment_create_on(conninfo);
    deployment_set(deployment, "kafka", "session.timeout.ms", json_integer(6000));
    deployment_set(deployment, "batch", "segment_size", json_integer(65536));
}

static void deploy_numbers(void)
{
    deploy(pgcluster_conninfo(cluster));
    numbers_define(&numbers, deployment);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
}

static int tear_down(void **state)
{
    (void)state;
    traffic_destroy(traffic);
    pgcluster_destroy(replica); /* before the children end: they are among them */
    pgcluster_destroy(cluster);
    deployment_destroy(deployment);
    proxy_stop(proxy);
    traffic = NULL;
    replica = cluster = NULL;
    deployment = NULL;
    proxy = NULL;
    return 0;
}

static void pause_below(int ms)
{
    stack_sleep_ms((int)orders_below(&moments, (size_t)ms));
}

static void execute(const char *conninfo, const char *sql)
{
    PGconn *connection = database_open(conninfo);
    PGresult *result = database_ask(connection, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    PQclear(result);
    PQfinish(connection);
}

/* --- immediate shutdown --- */

/* While records come, runs are published and readers ask. */
static void servers_are_cut_off(void **state)
{
    (void)state;
    struct traffic_options options = {.partitions = 4,
                                      .rate = 300,
                                      .readers = 1,
                                      .transactions = true,
                                      .dedupe_within = 100,
                                      .may_be_unavailable = true,
                                      .seed = stack_seed()};
    struct child *speeds[SPEEDS];
    int published = 0, failed = 0;
    moments = options.seed;
    cluster = pgcluster_create(NULL);
    deploy(pgcluster_conninfo(cluster));
    traffic_define_with(deployment, &options);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_serve(deployment);
    traffic = traffic_start(deployment, &options);
    for (int i = 0; i < SPEEDS; i++)
        speeds[i] = deployment_start(deployment, "dovetail-speed", NULL);
    traffic_await_answers(traffic, 20, speeds, SPEEDS);
    for (int i = 0; i < 8; i++) {
        struct child *batch = deployment_start(deployment, "dovetail-batch", "run", NULL);
        pause_below(i % 2 == 0 ? 250 : 1000);
        pgcluster_stop_immediately(cluster);
        int code = child_wait(batch, STACK_WAIT_MS);
        assert_true(code == 0 || code == 1);
        published += code == 0;
        failed += code == 1;
        pause_below(i % 3 == 0 ? 1500 : 200);
        pgcluster_start(cluster);
        traffic_must_be_well(traffic);
        children_must_run(speeds, SPEEDS);
        children_must_run(&deployment->serving, 1);
    }
    print_message("%d runs were published, %d failed\n", published, failed);
    traffic_prove(traffic, deployment, speeds, SPEEDS);
}

/* --- too many connections --- */

static PGconn *held[CONNECTIONS_MAX];

/* Takes every connection that is left. */
static int hold_connections(void)
{
    int count = 0;
    while (count < CONNECTIONS_MAX) {
        held[count] = database_open(pgcluster_conninfo(cluster));
        if (PQstatus(held[count]) != CONNECTION_OK) {
            PQfinish(held[count]);
            break;
        }
        count++;
    }
    assert_in_range(count, 1, CONNECTIONS_MAX - 1);
    return count;
}

static void release_connections(int count)
{
    while (count > 0)
        PQfinish(held[--count]);
}

static int rows_status(char *body, size_t size)
{
    struct http_session *session = http_session_create(deployment->port);
    struct http_reply reply;
    http_get(session, "/v1/views/sums/rows", &reply);
    int status = reply.status;
    snprintf(body, size, "%s", reply.body != NULL ? reply.body : "");
    http_reply_free(&reply);
    http_session_destroy(session);
    return status;
}

static void await_rows(int status)
{
    char body[20000];
    int got;
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    while ((got = rows_status(body, sizeof body)) != status) {
        if (stack_now_ms() > deadline)
            fail_msg("%d, not %d: %s", got, status, body);
        stack_sleep_ms(50);
    }
}

static void connections_run_out(void **state)
{
    (void)state;
    static const char too_many[] = "sorry, too many clients already";
    cluster = pgcluster_create("max_connections = 14\nsuperuser_reserved_connections = 1\n"
                               "max_wal_senders = 0\n");
    deploy_numbers();
    deployment_serve(deployment);
    struct child *early = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_produce_all(&numbers, 200);
    numbers_await_end(&numbers, early);

    /* Whoever comes now is told, and the speed layer waits. */
    int count = hold_connections();
    struct child *late = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_await_text(late, too_many);
    numbers_expect_text(deployment_run(deployment, 1, "dovetail-batch", "run", NULL), too_many);
    numbers_expect_text(deployment_run(deployment, 1, "dovetail", "query", "sums", NULL), too_many);
    /* Who has a connection goes on, until it is lost, too. */
    children_must_run(&early, 1);
    PQclear(database_ask(held[0], "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                                  " WHERE application_name LIKE 'dovetail%'"));
    count += 0;
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    for (int more = 0; more < 20 && stack_now_ms() < deadline; more++) {
        PGconn *connection = database_open(pgcluster_conninfo(cluster));
        if (PQstatus(connection) == CONNECTION_OK && count < CONNECTIONS_MAX)
            held[count++] = connection;
        else
            PQfinish(connection);
        stack_sleep_ms(20);
    }
    numbers_produce_all(&numbers, 200);
    await_rows(503);
    children_must_run(&early, 1);
    children_must_run(&late, 1);
    children_must_run(&deployment->serving, 1);

    release_connections(count);
    numbers_await_end(&numbers, early);
    await_rows(200);
    numbers_check(&numbers);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    numbers_check(&numbers);
    child_stop(early);
    child_stop(late);
}

/* --- a full disk --- */

static void disks_are_full(void **state)
{
    (void)state;
    cluster = pgcluster_create_small(SMALL_MEGABYTES, "wal_keep_size = 0\nmin_wal_size = '8MB'\n"
                                                      "max_wal_size = '16MB'\n");
    if (cluster == NULL)
        skip();
    deploy_numbers();
    deployment_serve(deployment);
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_produce_all(&numbers, 300);
    numbers_await_end(&numbers, speed);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    for (int round = 0; round < 2; round++) {
        pgcluster_fill(cluster, true);
        numbers_produce_all(&numbers, 20000);
        numbers_await_text(speed, "No space left on device");
        numbers_check_now(&numbers);
        children_must_run(&speed, 1);
        struct child *run = deployment_start(deployment, "dovetail-batch", "run", NULL);
        int code = child_wait(run, STACK_WAIT_MS);
        assert_in_range(code, 0, 1);
        numbers_check_now(&numbers);
        pgcluster_fill(cluster, false);
        numbers_await_end(&numbers, speed);
        numbers_check_now(&numbers);
    }
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    numbers_check(&numbers);
    await_rows(200);
    child_stop(speed);
}

/* --- an earlier backup --- */

static void dump_to(const char *name)
{
    char command[900];
    snprintf(command, sizeof command, "timeout 120 pg_dump --dbname \"%s\" --file %s/%s",
             deployment->postgres, deployment->directory, name);
    assert_int_equal(system(command), 0);
}

/* The database as it was when it was dumped, under another name. */
static void restore_from(const char *name)
{
    char sql[200], conninfo[600], command[1400];
    snprintf(sql, sizeof sql, "CREATE DATABASE %s_restored", deployment->database);
    execute(pgcluster_conninfo(cluster), sql);
    snprintf(conninfo, sizeof conninfo, "%s dbname=%s_restored", pgcluster_conninfo(cluster),
             deployment->database);
    snprintf(
        command, sizeof command,
        "timeout 120 psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --dbname \"%s\" --file %s/%s"
        " > %s/restore.log",
        conninfo, deployment->directory, name, deployment->directory);
    assert_int_equal(system(command), 0);
    assert_true((size_t)snprintf(deployment->postgres, sizeof deployment->postgres, "%s",
                                 conninfo) < sizeof deployment->postgres);
    deployment_set(deployment, NULL, "postgres", json_string(conninfo));
}

/* Dumped while everything runs; afterwards more is counted, archived and published. Offsets and
 * sums go back together, and what was archived since is there already. */
static void an_earlier_backup_is_restored(void **state)
{
    (void)state;
    cluster = pgcluster_create(NULL);
    deploy_numbers();
    deployment_serve(deployment);
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_produce_all(&numbers, 300);
    numbers_await_end(&numbers, speed);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    numbers_produce_all(&numbers, 2000);
    dump_to("backup.sql");
    numbers_produce_all(&numbers, 300);
    numbers_await_end(&numbers, speed);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    numbers_produce_all(&numbers, 300);
    numbers_await_end(&numbers, speed);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    child_stop(speed);
    child_stop(deployment->serving);

    restore_from("backup.sql");
    numbers_check_now(&numbers);
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    deployment_serve(deployment);
    numbers_await_end(&numbers, speed);
    numbers_check(&numbers);
    numbers_produce_all(&numbers, 300);
    numbers_await_end(&numbers, speed);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    numbers_check(&numbers);
    deployment_run(deployment, 0, "dovetail", "archive", "verify", NULL);
    deployment_run(deployment, 0, "dovetail-batch", "run", "--full", NULL);
    numbers_check(&numbers);
    await_rows(200);
    child_stop(speed);
}

/* --- failover --- */

/* Until the replica has everything that the primary has. */
static void await_replica(void)
{
    numbers_await(&numbers, NULL,
                  "SELECT count(*) FROM pg_stat_replication"
                  " WHERE replay_lsn = pg_current_wal_lsn()",
                  1);
}

/* The replica has lost the last commits: flushes, and a run with its segments. The processes stay
 * and find the new primary by themselves. */
static void a_replica_without_the_last_commits(void **state)
{
    (void)state;
    char conninfo[300];
    cluster = pgcluster_create(NULL);
    proxy = proxy_start("127.0.0.1", pgcluster_port(cluster));
    deploy_numbers();
    replica = pgcluster_create_replica(proxy_port(proxy));
    snprintf(conninfo, sizeof conninfo,
             "host=127.0.0.1,127.0.0.1 port=%d,%d dbname=%s user=postgres"
             " target_session_attrs=read-write",
             pgcluster_port(cluster), pgcluster_port(replica), deployment->database);
    assert_true((size_t)snprintf(deployment->postgres, sizeof deployment->postgres, "%s",
                                 conninfo) < sizeof deployment->postgres);
    deployment_set(deployment, NULL, "postgres", json_string(conninfo));
    deployment_serve(deployment);
    struct child *speeds[SPEEDS];
    for (int i = 0; i < SPEEDS - 1; i++)
        speeds[i] = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_produce_all(&numbers, 300);
    numbers_await_end(&numbers, speeds[0]);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    numbers_produce_all(&numbers, 300);
    numbers_await_end(&numbers, speeds[0]);
    await_replica();

    proxy_refuse(proxy, true);
    proxy_cut(proxy);
    numbers_produce_all(&numbers, 500);
    numbers_await_end(&numbers, speeds[0]);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    await_rows(200);
    numbers_check(&numbers);
    pgcluster_stop_immediately(cluster);
    numbers_produce_all(&numbers, 100);
    children_must_run(speeds, SPEEDS - 1);
    /* One that is content with the replica waits until that may be written to. */
    char *attribute = strstr(conninfo, " target_session_attrs");
    assert_non_null(attribute);
    *attribute = '\0';
    deployment_set(deployment, NULL, "postgres", json_string(conninfo));
    speeds[SPEEDS - 1] = deployment_start(deployment, "dovetail-speed", NULL);
    numbers_await_text(speeds[SPEEDS - 1], "cannot execute");
    children_must_run(speeds, SPEEDS);
    pgcluster_promote(replica);

    numbers_await_end(&numbers, speeds[0]);
    numbers_check(&numbers);
    assert_int_equal(deployment_number(deployment, "SELECT max(run) FROM dovetail_internal.run"
                                                   " WHERE state = 'published'"),
                     1); /* the second one is lost */
    await_rows(200);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    numbers_check(&numbers);
    deployment_run(deployment, 0, "dovetail", "archive", "verify", NULL);
    deployment_run(deployment, 0, "dovetail-batch", "run", "--full", NULL);
    numbers_check(&numbers);
    children_must_run(speeds, SPEEDS);
    for (int i = 0; i < SPEEDS; i++)
        child_stop(speeds[i]);
}

int main(int argc, char **argv)
{
    if (argc > 1) /* a pattern for the names of tests */
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(servers_are_cut_off, tear_down),
        cmocka_unit_test_teardown(connections_run_out, tear_down),
        cmocka_unit_test_teardown(disks_are_full, tear_down),
        cmocka_unit_test_teardown(an_earlier_backup_is_restored, tear_down),
        cmocka_unit_test_teardown(a_replica_without_the_last_commits, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
