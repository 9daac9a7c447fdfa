/* The promise, on the running system: queries go on through publishes, a rollback, kill -9 of the
 * speed layer, a view that is registered, and a second speed process joining and leaving, and every
 * single answer is exactly what the records below its own receipt give.
 *
 * Events arrive all the while, over four partitions, some in transactions that are aborted. HTTP
 * and SQL are both asked. The second test asks for windows of every other kind; late events there
 * bridge sessions whose parts lie in other slices, partitions and runs. DOVETAIL_SEED repeats the
 * events and the questions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/http.h"
#include "tests/support/orders.h"
#include "tests/support/stack.h"
#include "tests/support/traffic.h"

enum { PARTITIONS = 4, STEP_ANSWERS = 60 };

static struct deployment *deployment;
static struct traffic *traffic;
/* Runs in which every live owner closed its slice when asked, so that nobody had to be fenced. */
static int agreed_runs;

static int begin(const struct oracle_view *views, size_t view_count)
{
    agreed_runs = 0;
    deployment = deployment_create();
    /* A member that is gone must not hold its partitions for 45 seconds. */
    deployment_set(deployment, "kafka", "session.timeout.ms", json_integer(6000));
    deployment_set(deployment, "kafka", "heartbeat.interval.ms", json_integer(500));
    traffic_define(deployment, views, view_count);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_serve(deployment);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    return begin(orders_views, ORDERS_VIEWS);
}

static int set_up_windows(void **state)
{
    (void)state;
    return begin(orders_window_views, ORDERS_WINDOW_VIEWS);
}

static int tear_down(void **state)
{
    (void)state;
    traffic_destroy(traffic);
    deployment_destroy(deployment);
    traffic = NULL;
    deployment = NULL;
    return 0;
}

static int64_t position(void)
{
    return deployment_number(deployment, "SELECT sum(next_offset) FROM dovetail_internal.position");
}

/* Some records further, and some answers too. */
static void go_on(const char *what, struct child *const *children, int count)
{
    int64_t wanted = position() + 400;
    traffic_await(traffic, what, "SELECT sum(next_offset) FROM dovetail_internal.position", wanted,
                  children, count);
    traffic_await_answers(traffic, STEP_ANSWERS, children, count);
    print_message("%s\n", what);
}

static int64_t epochs(void)
{
    return deployment_number(deployment, "SELECT sum(owner_epoch) FROM dovetail_internal.position");
}

static void run_batch(struct child *const *children, int count)
{
    int64_t before = deployment_number(deployment, "SELECT run FROM dovetail_internal.current_run");
    int64_t epochs_before = epochs();
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    agreed_runs += epochs() == epochs_before;
    traffic_await(traffic, "the current run", "SELECT run FROM dovetail_internal.current_run",
                  before + 1, children, count);
    go_on("a run is published", children, count);
}

static void await_owners(int64_t count, struct child *const *children, int child_count)
{
    traffic_await(traffic, "owners of partitions",
                  "SELECT count(DISTINCT owner_pid) FROM dovetail_internal.position"
                  " WHERE owner_pid IN (SELECT pid FROM pg_stat_activity)",
                  count, children, child_count);
}

/* A view that comes while everything runs: the speed layer counts for it from here on, and it can
 * be read once a run has built what was before. It is sales under another name. */
static struct oracle_view late_sales;

static void register_a_view(struct child *const *children, int count)
{
    struct http_reply reply;
    json_t *json = json_loads(orders_views[0].json, 0, NULL);
    json_object_set_new(json, "view", json_string("late_sales"));
    char *text = json_dumps(json, 0);
    deployment_define_view(deployment, text);
    free(text);
    json_decref(json);
    late_sales = orders_views[0];
    late_sales.name = "late_sales";
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    struct http_session *session = http_session_create(deployment->port);
    http_get(session, "/v1/views/late_sales/rows", &reply);
    if (reply.status != 503)
        fail_msg("a view that no run has built: %d %s", reply.status, reply.body);
    http_reply_free(&reply);
    http_session_destroy(session);
    go_on("a view is registered", children, count);
}

static void roll_back(struct child *const *children, int count)
{
    char run[24];
    int64_t before = deployment_number(deployment, "SELECT run FROM dovetail_internal.current_run");
    snprintf(run, sizeof run, "%" PRId64, before - 1);
    deployment_run(deployment, 0, "dovetail", "runs", "rollback", run, NULL);
    assert_int_equal(deployment_number(deployment, "SELECT run FROM dovetail_internal.current_run"),
                     before - 1);
    go_on("rolled back by one run", children, count);
}

/* dovetail query answers as HTTP does. */
static void check_command_line(void)
{
    char problem[4096];
    for (size_t i = 0; i < ORDERS_VIEWS; i++) {
        struct oracle_query query = {.view = &orders_views[i]};
        struct child *child = deployment_run(deployment, 0, "dovetail", "query",
                                             orders_views[i].name, "--format", "json", NULL);
        if (!oracle_check(traffic_oracle(traffic), &query, child_output(child), problem,
                          sizeof problem))
            fail_msg("dovetail query: %s", problem);
    }
}

static struct traffic_counts report(void)
{
    struct traffic_counts counts = traffic_counts(traffic);
    print_message("%" PRId64 " records; %" PRId64 " answers over HTTP and %" PRId64
                  " over SQL checked, at %" PRId64 " positions and %" PRId64
                  " changes of the run; %" PRId64 " waited for at_least in vain\n",
                  counts.records, counts.http_answers, counts.sql_answers, counts.positions,
                  counts.runs, counts.not_in_time);
    return counts;
}

static void every_answer_equals_the_model(void **state)
{
    (void)state;
    const struct traffic_options options = {.seed = stack_seed(),
                                            .partitions = PARTITIONS,
                                            .rate = 500,
                                            .readers = 2,
                                            .transactions = true};
    struct child *speeds[2] = {deployment_start(deployment, "dovetail-speed", NULL)};
    traffic = traffic_start(deployment, &options);

    go_on("the first records are counted", speeds, 1);
    run_batch(speeds, 1);

    child_kill(speeds[0]);
    speeds[0] = deployment_start(deployment, "dovetail-speed", NULL);
    go_on("the speed layer is back after kill -9", speeds, 1);

    register_a_view(speeds, 1);

    speeds[1] = deployment_start(deployment, "dovetail-speed", NULL);
    await_owners(2, speeds, 2);
    go_on("two speed processes share the partitions", speeds, 2);
    run_batch(speeds, 2);

    child_stop(speeds[0]);
    speeds[0] = NULL;
    traffic_await(traffic, "partitions that the other process took over",
                  "SELECT count(*) FROM dovetail_internal.position"
                  " WHERE owner_pid IN (SELECT pid FROM pg_stat_activity)"
                  " AND owner_pid = (SELECT max(owner_pid) FROM dovetail_internal.position"
                  "  WHERE owner_pid IN (SELECT pid FROM pg_stat_activity))",
                  PARTITIONS, speeds, 2);
    go_on("one of them has left", speeds, 2);

    run_batch(speeds, 2);
    roll_back(speeds, 2);
    /* Before the view was registered there is nothing to go back to. */
    struct child *refused =
        deployment_run(deployment, 2, "dovetail", "runs", "rollback", "1", NULL);
    assert_non_null(strstr(child_errors(refused), "late_sales"));
    run_batch(speeds, 2);

    traffic_stop_producing(traffic);
    traffic_await_end(traffic, speeds, 2);
    traffic_stop_reading(traffic);
    traffic_check_all(traffic, deployment);
    traffic_check_view(traffic, deployment, &late_sales);
    check_command_line();
    for (size_t i = 0; i < ORDERS_VIEWS; i++)
        deployment_run(deployment, 0, "dovetail", "verify", orders_views[i].name, NULL);
    deployment_run(deployment, 0, "dovetail", "verify", late_sales.name, NULL);
    child_stop(speeds[1]);
    child_stop(deployment->serving);

    struct traffic_counts counts = report();
    assert_true(counts.http_answers > 300);
    assert_true(counts.runs >= 6); /* 0, 1, 2, 3, 2, 4 */
    /* An owner may be too slow once; planning without it is for owners that are gone. */
    assert_true(agreed_runs > 0);
}

/* By how many a view has fewer windows than its two layers have together: those that meet at the
 * seam, and sessions that are joined there. */
static size_t windows_across_the_seam(const struct oracle_view *view)
{
    static const enum oracle_layer layers[] = {ORACLE_BATCH, ORACLE_SPEED, ORACLE_MERGED};
    struct oracle_query query = {.view = view};
    struct oracle_answer answer;
    struct http_reply reply;
    char problem[1024];
    size_t counts[3];
    struct http_session *session = http_session_create(deployment->port);
    char *target = oracle_target(&query);
    http_get(session, target, &reply);
    assert_int_equal(reply.status, 200);
    assert_true(oracle_read_answer(traffic_oracle(traffic), &query, reply.body, &answer, problem,
                                   sizeof problem));
    for (int i = 0; i < 3; i++) {
        query.layer = layers[i];
        free(oracle_rows(traffic_oracle(traffic), &query, &answer.receipt, &counts[i]));
    }
    free(answer.rows);
    free(target);
    http_reply_free(&reply);
    http_session_destroy(session);
    print_message("%s: %zu meet at the seam, %zu windows\n", view->name,
                  counts[0] + counts[1] - counts[2], counts[2]);
    return counts[0] + counts[1] - counts[2];
}

static void every_window_equals_the_model(void **state)
{
    (void)state;
    const struct traffic_options options = {.seed = stack_seed(),
                                            .views = orders_window_views,
                                            .view_count = ORDERS_WINDOW_VIEWS,
                                            .partitions = PARTITIONS,
                                            .rate = 300,
                                            .readers = 2,
                                            .transactions = true};
    struct child *speeds[2] = {deployment_start(deployment, "dovetail-speed", NULL)};
    traffic = traffic_start(deployment, &options);

    go_on("the first records are counted", speeds, 1);
    run_batch(speeds, 1);

    child_kill(speeds[0]);
    speeds[0] = deployment_start(deployment, "dovetail-speed", NULL);
    run_batch(speeds, 1); /* perhaps while nobody owns anything */

    speeds[1] = deployment_start(deployment, "dovetail-speed", NULL);
    await_owners(2, speeds, 2);
    go_on("two speed processes share the partitions", speeds, 2);
    run_batch(speeds, 2);

    child_kill(speeds[0]);
    speeds[0] = NULL;
    run_batch(speeds, 2);
    roll_back(speeds, 2);
    speeds[0] = deployment_start(deployment, "dovetail-speed", NULL);
    await_owners(2, speeds, 2);
    run_batch(speeds, 2);

    traffic_stop_producing(traffic);
    traffic_await_end(traffic, speeds, 2);
    traffic_stop_reading(traffic);
    traffic_check_all(traffic, deployment);
    for (size_t i = 0; i < ORDERS_WINDOW_VIEWS; i++) {
        assert_true(windows_across_the_seam(&orders_window_views[i]) > 0);
        deployment_run(deployment, 0, "dovetail", "verify", orders_window_views[i].name, NULL);
    }
    child_stop(speeds[0]);
    child_stop(speeds[1]);
    child_stop(deployment->serving);

    struct traffic_counts counts = report();
    assert_true(counts.http_answers > 300);
    assert_true(counts.sql_answers > 50);
    assert_true(counts.runs >= 7); /* 0, 1, 2, 3, 4, 3, 5 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_answer_equals_the_model, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_window_equals_the_model, set_up_windows, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
