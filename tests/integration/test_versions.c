/* Changing a view while the layers run: versions are built, served, retired and dropped, a view
 * goes back to an earlier one, and a view is removed. HTTP and SQL say the same throughout. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/deployment.h"
#include "tests/support/http.h"
#include "tests/support/sse.h"
#include "tests/support/stack.h"

static struct deployment *deployment;
static struct child *speed;
static struct http_session *http;

static void define_view(const char *measure)
{
    char text[300];
    snprintf(text, sizeof text,
             "{\"view\": \"sums\", \"source\": \"orders\", \"group_by\": [\"shop\"],"
             " \"measures\": {\"v\": \"%s\"}, \"window\": {\"type\": \"tumbling\","
             " \"size\": \"1h\"}}",
             measure);
    deployment_define_view(deployment, text);
}

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    deployment_define_source(deployment,
                             "{\"source\": \"orders\", \"partitions\": 1, \"event_time\":"
                             " {\"field\": \"t\", \"format\": \"epoch_s\"},"
                             " \"fields\": {\"t\": \"integer\", \"shop\": \"string\"}}");
    define_view("count(*)");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    deployment_serve(deployment);
    http = http_session_create(deployment->port);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    http_session_destroy(http);
    http = NULL;
    deployment_destroy(deployment);
    deployment = NULL;
    return 0;
}

static void await(const char *sql, int64_t expected)
{
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    int64_t found;
    while ((found = deployment_number(deployment, sql)) != expected) {
        if (stack_now_ms() > end_ms) {
            children_show();
            fail_msg("%s: %lld instead of %lld", sql, (long long)found, (long long)expected);
        }
        children_must_run(&speed, 1);
        stack_sleep_ms(20);
    }
}

/* Two records, in one window: t is 2 for shop a, 3 for shop b. All that came is in the rows then.
 */
static void produce(void)
{
    static int64_t before;
    before = deployment_number(deployment, "SELECT next_offset FROM dovetail_internal.position");
    deployment_write(deployment, "events",
                     "{\"t\": 2, \"shop\": \"a\"}\n{\"t\": 3, \"shop\": \"b\"}\n");
    char path[100];
    snprintf(path, sizeof path, "%s/events", deployment->directory);
    deployment_run(deployment, 0, "dovetail", "produce", "orders", path, NULL);
    await("SELECT next_offset FROM dovetail_internal.position", before + 2);
}

static void run_batch(void)
{
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
}

/* The sum over both shops, by SQL and by HTTP. */
static void expect_sum(int64_t expected)
{
    struct http_reply reply;
    assert_int_equal(deployment_number(deployment, "SELECT sum(v) FROM dovetail.sums"), expected);
    http_get(http, "/v1/views/sums/rows?granularity=all&group_by=", &reply);
    char text[40];
    snprintf(text, sizeof text, "\"v\":%lld,", (long long)expected);
    if (reply.status != 200 || strstr(reply.body, text) == NULL)
        fail_msg("HTTP %d, without %s: %s", reply.status, text, reply.body);
    http_reply_free(&reply);
}

/* The speed layer has been told `times` that a version was retired. */
static void await_retired(int times)
{
    static const char told[] = "version was retired";
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    for (;;) {
        int found = 0;
        const char *at = child_errors(speed);
        while ((at = strstr(at, told)) != NULL)
            at += sizeof told, found++;
        if (found >= times)
            return;
        assert_true(stack_now_ms() < end_ms);
        children_must_run(&speed, 1);
        stack_sleep_ms(20);
    }
}

static void expect_text(struct child *child, const char *text)
{
    if (strstr(child_output(child), text) == NULL && strstr(child_errors(child), text) == NULL)
        fail_msg("no \"%s\": %s%s", text, child_output(child), child_errors(child));
}

static void await_dropped(int version)
{
    char sql[120];
    snprintf(sql, sizeof sql, "SELECT (to_regclass('dovetail_internal.speed_%d') IS NULL)::integer",
             version);
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    while (deployment_number(deployment, sql) != 1) {
        assert_true(stack_now_ms() < end_ms);
        run_batch(); /* a snapshot of autovacuum's may be in the way of one */
    }
}

static void test_versions_come_and_go(void **state)
{
    (void)state;
    produce();
    expect_sum(2);
    define_view("sum(t)");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    produce();
    expect_sum(4); /* the old one, until a run has built the new one */
    run_batch();
    expect_sum(10);

    /* Nobody folds the old one any more. */
    await_retired(1);
    produce();
    expect_sum(15);
    assert_true(deployment_number(deployment,
                                  "SELECT sum(counted) FROM"
                                  " dovetail_internal.view_ledger WHERE version = 1") <= 4);
    await_dropped(1);
    produce();
    expect_sum(20);

    /* Back to it. */
    expect_text(deployment_run(deployment, 0, "dovetail", "versions", NULL), "dropped");
    struct child *child =
        deployment_run(deployment, 0, "dovetail", "versions", "show", "sums", "1", NULL);
    expect_text(child, "count(*)");
    child = deployment_run(deployment, 2, "dovetail", "versions", "show", "sums", "1", "--format",
                           "table", NULL);
    expect_text(child, "json alone");
    child = deployment_run(deployment, 0, "dovetail", "versions", "switch", "sums", "1", "--format",
                           "json", NULL);
    assert_string_equal(child_output(child), "{\"view\": \"sums\", \"version\": 3, \"state\":"
                                             " \"building\", \"definition_of\": 1}\n");
    produce();
    expect_sum(25);
    run_batch();
    expect_sum(10);
    produce();
    expect_sum(12);
    deployment_run(deployment, 0, "dovetail", "verify", "sums", NULL);

    /* What is being built is given up. */
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    child = deployment_run(deployment, 0, "dovetail", "versions", "switch", "sums", "3", NULL);
    expect_text(child, "version 3 is served");
    run_batch();
    expect_sum(12);
    child = deployment_run(deployment, 0, "dovetail", "versions", "list", "sums", "--format",
                           "json", NULL);
    expect_text(child, "\"state\": \"current\"");

    child = deployment_run(deployment, 2, "dovetail", "versions", "switch", "sums", "77", NULL);
    expect_text(child, "view sums has no version 77");
    child = deployment_run(deployment, 2, "dovetail", "versions", "switch", "sums", NULL);
    expect_text(child, "which version");
    child = deployment_run(deployment, 2, "dovetail", "versions", "show", "sums", "x", NULL);
    expect_text(child, "VERSION");
    deployment_run(deployment, 2, "dovetail", "versions", "list", "nothing", NULL);
    child_stop(speed);
}

static void define_whole(const char *keys, const char *where, const char *measures)
{
    char text[400];
    snprintf(text, sizeof text,
             "{\"view\": \"sums\", \"source\": \"orders\", \"group_by\": [%s], %s"
             " \"measures\": {%s}, \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}}",
             keys, where, measures);
    deployment_define_view(deployment, text);
}

static void expect_diff(int code, const char *first, const char *second)
{
    struct child *child = deployment_run(deployment, code, "dovetail", "diff", "sums", NULL);
    expect_text(child, first);
    expect_text(child, second);
}

static void test_diff(void **state)
{
    (void)state;
    produce();
    produce();
    expect_diff(0, "nothing would change", "version 1 is served");
    define_view("sum(t)"); /* 2 becomes 4 for shop a, 6 for shop b */
    expect_diff(1, "the definition file, which is not registered, against version 1",
                "0 rows added, 0 removed, 2 changed, 0 the same; 4 records");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    expect_diff(1, "version 2, which is being built, against version 1",
                "0 rows added, 0 removed, 2 changed, 0 the same; 4 records");
    expect_diff(1, "changed  1970-01-01T00:00:00Z  shop=a  v        2       4", "shop=b");
    run_batch();
    expect_sum(10);
    expect_diff(0, "nothing would change", "version 2 is served");

    define_whole("\"shop\"", "\"where\": \"shop = 'a'\",", "\"v\": \"sum(t)\"");
    expect_diff(1, "removed", "0 rows added, 1 removed, 0 changed, 1 the same");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    run_batch();
    define_whole("\"shop\"", "", "\"v\": \"sum(t)\"");
    expect_diff(1, "added", "1 row added, 0 removed, 0 changed, 1 the same");
    define_whole("\"shop\"", "\"where\": \"shop = 'a'\",",
                 "\"v\": \"sum(t)\", \"most\": \"max(t)\"");
    expect_diff(1, "most", "0 rows added, 0 removed, 1 changed, 0 the same");
    /* Another text that computes the same values. */
    define_whole("\"shop\"", "\"where\": \"'a' = shop\",", "\"v\": \"sum(t)\"");
    expect_diff(0, "0 rows added, 0 removed, 0 changed, 1 the same", "the definition file");
    define_whole("", "", "\"v\": \"sum(t)\"");
    expect_diff(1, "the keys are others", "1 row added, 1 removed, 0 changed");
    deployment_run(deployment, 2, "dovetail", "diff", "nothing", NULL);
    deployment_run(deployment, 2, "dovetail", "diff", NULL);
    child_stop(speed);
}

static void test_a_view_is_removed(void **state)
{
    (void)state;
    produce();
    run_batch();
    struct child *child = deployment_run(deployment, 2, "dovetail", "drop", "sums", "--yes", NULL);
    expect_text(child, "definition file");
    deployment_remove(deployment, "schemas/views/sums.json");
    child = deployment_run(deployment, 0, "dovetail", "init", NULL);
    expect_text(child, "dovetail drop");
    child = deployment_run(deployment, 2, "dovetail", "drop", "sums", NULL);
    expect_text(child, "--yes");
    expect_sum(2);
    /* As a definition is that this release accepts no more. */
    deployment_number(deployment, "WITH changed AS (UPDATE dovetail_internal.view_version"
                                  " SET definition = '{\"view\": \"sums\", \"unknown\": 1}'"
                                  " WHERE view = 'sums' RETURNING 1) SELECT count(*) FROM changed");
    deployment_run(deployment, 0, "dovetail", "drop", "sums", "--yes", NULL);
    assert_int_equal(
        deployment_number(deployment, "SELECT (to_regclass('dovetail.sums') IS NULL)::integer"), 1);
    struct http_reply reply;
    http_get(http, "/v1/views/sums/rows", &reply);
    assert_int_equal(reply.status, 404);
    http_reply_free(&reply);
    await_retired(1);
    produce(); /* the source goes on being read */
    await_dropped(1);
    produce();
    child = deployment_run(deployment, 2, "dovetail", "drop", "sums", "--yes", NULL);
    expect_text(child, "not registered");

    /* The same definition is a new view, with all records. */
    define_view("count(*)");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    run_batch();
    expect_sum(6);
    child_stop(speed);
}

/* A stream whose version's tables are gone before anybody has told the server. */
static void test_a_stream_over_a_switch(void **state)
{
    (void)state;
    struct sse sse;
    struct sse_event event;
    produce();
    assert_int_equal(sse_open(&sse, deployment->port, "/v1/views/sums/live?group_by=", ""), 200);
    assert_true(sse_next(&sse, &event));
    assert_string_equal(event.name, "snapshot");
    json_decref(event.data);
    child_signal(deployment->serving, SIGSTOP);
    define_view("sum(t)");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    run_batch();
    await_dropped(1);
    child_signal(deployment->serving, SIGCONT);
    do { /* a receipt may be on its way */
        assert_true(sse_next(&sse, &event));
        assert_string_not_equal(event.name, "problem");
        if (strcmp(event.name, "snapshot") == 0)
            break;
        json_decref(event.data);
    } while (true);
    json_t *row = json_array_get(json_object_get(event.data, "rows"), 0);
    assert_int_equal(json_integer_value(json_object_get(row, "v")), 5);
    json_decref(event.data);
    sse_close(&sse);
    child_stop(speed);
}

/* --- a definition that a later release refuses --- */

static void change_definition(const char *sql)
{
    char text[400];
    snprintf(text, sizeof text,
             "WITH changed AS (UPDATE dovetail_internal.view_version SET definition = %s"
             " WHERE view = 'sums' RETURNING 1) SELECT count(*) FROM changed",
             sql);
    assert_int_equal(deployment_number(deployment, text), 1);
}

/* Speed and serving as another release that begins now. */
static void restart(void)
{
    http_session_destroy(http);
    child_stop(speed);
    child_stop(deployment->serving);
    deployment_serve(deployment);
    http = http_session_create(deployment->port);
    speed = deployment_start(deployment, "dovetail-speed", NULL);
}

/* One record of the other topic, and the layer has come to it. */
static void produce_click(void)
{
    char sql[200];
    char path[100];
    snprintf(sql, sizeof sql,
             "SELECT next_offset FROM dovetail_internal.position WHERE topic = '%s'",
             deployment_topic(deployment, "clicks"));
    int64_t before = deployment_number(deployment, sql);
    deployment_write(deployment, "clicks", "{\"t\": 2}\n");
    snprintf(path, sizeof path, "%s/clicks", deployment->directory);
    deployment_run(deployment, 0, "dovetail", "produce", "clicks", path, NULL);
    await(sql, before + 1);
}

static int64_t orders_number(const char *column, const char *from)
{
    char sql[200];
    snprintf(sql, sizeof sql, "SELECT %s FROM dovetail_internal.%s AND topic = '%s'", column, from,
             deployment_topic(deployment, "orders"));
    return deployment_number(deployment, sql);
}

static int64_t orders_position(void)
{
    return orders_number("next_offset", "position WHERE true");
}

static int64_t orders_cutoff(void)
{
    return orders_number("next_offset", "run_cutoff JOIN dovetail_internal.current_run USING (run)"
                                        " WHERE true");
}

static void produce_orders(void)
{
    char path[100];
    snprintf(path, sizeof path, "%s/events", deployment->directory);
    deployment_write(deployment, "events",
                     "{\"t\": 2, \"shop\": \"a\"}\n{\"t\": 3, \"shop\": \"b\"}\n");
    deployment_run(deployment, 0, "dovetail", "produce", "orders", path, NULL);
}

static void await_orders(int64_t expected)
{
    char sql[200];
    snprintf(sql, sizeof sql,
             "SELECT next_offset FROM dovetail_internal.position WHERE topic = '%s'",
             deployment_topic(deployment, "orders"));
    await(sql, expected);
}

static void expect_http(const char *path, int status, const char *text)
{
    struct http_reply reply;
    http_get(http, path, &reply);
    if (reply.status != status || strstr(reply.body, text) == NULL)
        fail_msg("HTTP %d, without %s: %s", reply.status, text, reply.body);
    http_reply_free(&reply);
}

/* Whoever refuses a definition leaves its topic alone, P and C, and nobody else's. Who accepts it
 * goes on where it was left, and the answer is exact. */
static void test_a_refused_definition(void **state)
{
    (void)state;
    deployment_define_source(deployment,
                             "{\"source\": \"clicks\", \"partitions\": 1, \"event_time\":"
                             " {\"field\": \"t\", \"format\": \"epoch_s\"},"
                             " \"fields\": {\"t\": \"integer\"}}");
    deployment_define_view(deployment, "{\"view\": \"hits\", \"source\": \"clicks\","
                                       " \"measures\": {\"v\": \"count(*)\"}, \"window\":"
                                       " {\"type\": \"tumbling\", \"size\": \"1h\"}}");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    produce_orders();
    await_orders(2);
    produce_click();
    run_batch();
    assert_int_equal(orders_cutoff(), 2);
    expect_sum(2);

    change_definition("'{\"view\": \"sums\", \"unheard_of\": 1}'");
    restart();
    produce_orders();
    produce_click();
    assert_int_equal(orders_position(), 2);
    expect_text(speed, "view sums, version 1, of topic");
    expect_text(speed, "unheard_of");
    expect_http("/v1/views/hits/rows", 200, "\"v\":2");
    expect_http("/v1/views/sums/rows", 503, "unheard_of");
    expect_http("/v1/views/sums", 503, "version 1 of the view");
    expect_http("/v1/views/sums/live", 503, "unheard_of");
    expect_http("/v1/views", 200, "hits");
    expect_http("/v1/status", 200, "\"refused\" : [{\"view\":\"sums\",\"version\":1,");
    expect_http("/metrics", 200,
                "dovetail_refused_definition{source=\"orders\",view=\"sums\",version=\"1\"} 1");
    expect_text(deployment_run(deployment, 0, "dovetail", "query", "hits", NULL), "2");
    expect_text(deployment_run(deployment, 1, "dovetail", "query", "sums", NULL), "unheard_of");
    struct child *child = deployment_run(deployment, 0, "dovetail", "status", NULL);
    expect_text(child, "refused: view sums, version 1, of topic");
    child = deployment_run(deployment, 0, "dovetail", "status", "--format", "json", NULL);
    expect_text(child, "\"refused\": [");

    /* A run has the other view alone; what SQL says of this one is what it said. */
    child = deployment_run(deployment, 1, "dovetail-batch", "run", NULL);
    expect_text(child, "definitions are refused");
    assert_int_equal(orders_cutoff(), 2);
    assert_int_equal(deployment_number(deployment, "SELECT sum(v) FROM dovetail.sums"), 2);
    assert_int_equal(deployment_number(deployment, "SELECT run FROM dovetail_internal.current_run"),
                     2);
    expect_http("/v1/views/hits/rows", 200, "\"v\":2");
    /* It was not compared: another code than that of a difference. */
    deployment_run(deployment, 3, "dovetail", "diff", "sums", NULL);
    child = deployment_run(deployment, 1, "dovetail-batch", "import", "orders", "/dev/null", NULL);
    expect_text(child, "unheard_of");

    /* It is accepted again: nothing is missing, nothing twice. The rows are taken over. */
    change_definition("'{\"view\": \"sums\", \"source\": \"orders\", \"group_by\": [\"shop\"],"
                      " \"measures\": {\"v\": \"count(*)\"},"
                      " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}}'");
    restart();
    await_orders(4);
    expect_sum(4);
    run_batch();
    assert_int_equal(orders_cutoff(), 4);
    assert_int_equal(deployment_number(deployment, "SELECT (kind = 'incremental')::integer"
                                                   " FROM dovetail_internal.run WHERE run = 3"),
                     1);
    expect_sum(4);
    deployment_run(deployment, 0, "dovetail", "verify", "sums", NULL);

    /* Behind a rollback its rows are of another run than its cut-offs: no run can be exact. */
    child = deployment_run(deployment, 0, "dovetail", "runs", "rollback", "2", "--format", "json",
                           NULL);
    assert_string_equal(child_output(child), "{\"run\": 2, \"previous\": 3}\n");
    change_definition("'{\"view\": \"sums\", \"unheard_of\": 1}'");
    child = deployment_run(deployment, 1, "dovetail-batch", "run", NULL);
    expect_text(child, "are of run 3");
    assert_int_equal(deployment_number(deployment, "SELECT run FROM dovetail_internal.current_run"),
                     2);
    assert_int_equal(deployment_number(deployment, "SELECT sum(v) FROM dovetail.sums"), 4);

    /* With nothing else to do the speed layer says so. */
    change_definition("'[]'");
    deployment_number(deployment, "WITH changed AS (UPDATE dovetail_internal.source"
                                  " SET definition = '{\"source\": 7}' WHERE source = 'clicks'"
                                  " RETURNING 1) SELECT count(*) FROM changed");
    child_stop(speed);
    child = deployment_run(deployment, 1, "dovetail-speed", NULL);
    expect_text(child, "no topic is left to read");
    child = deployment_run(deployment, 1, "dovetail", "query", "hits", NULL);
    expect_text(child, "its source clicks is refused");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_versions_come_and_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_diff, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_view_is_removed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_stream_over_a_switch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_refused_definition, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
