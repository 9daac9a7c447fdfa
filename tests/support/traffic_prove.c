/* Waiting for the traffic, and the last word on it: see traffic.h. Main thread. */
#include "tests/support/traffic_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/http.h"
#include "tests/support/sql_rows.h"
#include "tests/support/stack.h"

/* --- waiting and the last word --- */

void traffic_await(struct traffic *traffic, const char *what, const char *sql, int64_t wanted,
                   struct child *const *children, int child_count)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS, number;
    while ((number = deployment_number(traffic->deployment, sql)) < wanted) {
        traffic_must_be_well(traffic);
        children_must_run(children, child_count);
        if (stack_now_ms() > deadline) {
            children_show();
            fail_msg("%s: %" PRId64 ", still below %" PRId64 " after %d ms", what, number, wanted,
                     STACK_WAIT_MS);
        }
        stack_sleep_ms(20);
    }
}

void traffic_await_answers(struct traffic *traffic, int64_t count, struct child *const *children,
                           int child_count)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    int64_t wanted = traffic_counts(traffic).http_answers + count;
    while (traffic_counts(traffic).http_answers < wanted) {
        traffic_must_be_well(traffic);
        children_must_run(children, child_count);
        if (stack_now_ms() > deadline) {
            children_show();
            fail_msg("%" PRId64 " answers are still missing after %d ms",
                     wanted - traffic_counts(traffic).http_answers, STACK_WAIT_MS);
        }
        stack_sleep_ms(10);
    }
}

void traffic_await_end(struct traffic *traffic, struct child *const *children, int child_count)
{
    int64_t ends[ORACLE_PARTITIONS];
    oracle_ends(traffic->oracle, ends);
    for (int p = 0; p < oracle_partitions(traffic->oracle); p++) {
        char sql[512], what[64];
        snprintf(sql, sizeof sql,
                 "SELECT next_offset FROM dovetail_internal.position"
                 " WHERE topic = '%s' AND partition = %d",
                 traffic->topic, p);
        snprintf(what, sizeof what, "P of partition %d", p);
        traffic_await(traffic, what, sql, ends[p], children, child_count);
    }
}

/* Everything of a view by one layer, checked: the rows, and where they stand. */
static char *ask_layer(struct traffic *traffic, const struct deployment *deployment,
                       const struct oracle_view *view, enum oracle_layer layer,
                       struct oracle_receipt *receipt)
{
    const struct oracle_query query = {.view = view, .layer = layer};
    struct oracle_answer answer;
    struct http_reply reply;
    char problem[PROBLEM_BYTES];
    struct http_session *session = http_session_create(deployment->port);
    char *target = oracle_target(&query);
    http_get(session, target, &reply);
    if (reply.status != 200)
        fail_msg("%s: %d %s", target, reply.status, reply.body);
    if (!oracle_check(traffic->oracle, &query, reply.body, problem, sizeof problem) ||
        !oracle_read_answer(traffic->oracle, &query, reply.body, &answer, problem, sizeof problem))
        fail_msg("%s", problem);
    free(target);
    http_reply_free(&reply);
    http_session_destroy(session);
    *receipt = answer.receipt;
    return answer.rows;
}

void traffic_check_view(struct traffic *traffic, const struct deployment *deployment,
                        const struct oracle_view *view)
{
    struct oracle_query query = {.view = view};
    struct oracle_receipt receipt;
    int64_t ends[ORACLE_PARTITIONS];
    char problem[PROBLEM_BYTES];
    size_t count;
    free(ask_layer(traffic, deployment, view, query.layer, &receipt));
    oracle_ends(traffic->oracle, ends);
    for (int p = 0; p < oracle_partitions(traffic->oracle); p++)
        assert_true(receipt.positions[p] >= ends[p]);
    char *rows = NULL;
    struct sql_session *sql = sql_session_create(deployment->postgres, traffic->topic);
    if (!sql_read_view(sql, view, &receipt, &rows, problem, sizeof problem))
        fail_msg("%s", problem);
    char *expected = oracle_rows(traffic->oracle, &query, &receipt, &count);
    if (oracle_difference(expected, rows, problem, sizeof problem))
        fail_msg("SQL, %s: %s", view->name, problem);
    free(expected);
    free(rows);
    sql_session_destroy(sql);
}

static void check_ledger(struct traffic *traffic, const struct deployment *deployment)
{
    struct oracle_positions positions;
    char problem[PROBLEM_BYTES];
    struct sql_session *sql = sql_session_create(deployment->postgres, traffic->topic);
    if (!sql_read_positions(sql, &positions, problem, sizeof problem) ||
        !oracle_check_positions(traffic->oracle, &positions, problem, sizeof problem))
        fail_msg("%s", problem);
    sql_session_destroy(sql);
    assert_int_equal(positions.partitions, oracle_partitions(traffic->oracle));
    for (int p = 0; p < positions.partitions; p++) {
        struct oracle_ledger all = oracle_ledger(traffic->oracle, p, INT64_MAX);
        assert_int_equal(positions.ledgers[p].consumed, all.consumed);
    }
}

void traffic_check_all(struct traffic *traffic, const struct deployment *deployment)
{
    traffic_must_be_well(traffic);
    for (size_t i = 0; i < traffic->options.view_count; i++)
        traffic_check_view(traffic, deployment, &traffic->options.views[i]);
    check_ledger(traffic, deployment);
}

enum { VIEWS_MAX = 16, VERIFY_MS = 10 * STACK_WAIT_MS /* it reads every record again */ };

void traffic_prove(struct traffic *traffic, const struct deployment *deployment,
                   struct child *const *children, int child_count)
{
    struct oracle_receipt before[VIEWS_MAX], after;
    char *merged[VIEWS_MAX], problem[PROBLEM_BYTES];
    int64_t ends[ORACLE_PARTITIONS];
    size_t count = traffic->options.view_count;
    assert_true(count <= VIEWS_MAX);
    traffic_stop_producing(traffic);
    traffic_must_be_well(traffic);
    traffic_await_end(traffic, children, child_count);
    oracle_ends(traffic->oracle, ends);
    if (traffic->reader_count > 0)
        traffic_await_answers(traffic, 20, children, child_count);
    for (size_t i = 0; i < count; i++)
        merged[i] =
            ask_layer(traffic, deployment, &traffic->options.views[i], ORACLE_MERGED, &before[i]);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    for (size_t i = 0; i < count; i++) {
        char *batch =
            ask_layer(traffic, deployment, &traffic->options.views[i], ORACLE_BATCH, &after);
        /* Behind the last record is nothing but the marks of transactions, which P may or may not
         * have passed yet. */
        for (int p = 0; p < after.partitions; p++) {
            assert_true(before[i].positions[p] >= ends[p]);
            assert_true(after.cutoffs[p] >= before[i].positions[p]);
        }
        if (oracle_difference(merged[i], batch, problem, sizeof problem))
            fail_msg("%s: before and after the run that covers it: %s",
                     traffic->options.views[i].name, problem);
        free(batch);
        free(merged[i]);
    }
    if (traffic->reader_count > 0)
        traffic_await_answers(traffic, 20, children, child_count);
    traffic_stop_reading(traffic);
    traffic_check_all(traffic, deployment);
    for (size_t i = 0; i < count; i++) {
        struct child *verify = deployment_start(deployment, "dovetail", "verify",
                                                traffic->options.views[i].name, NULL);
        if (child_wait(verify, VERIFY_MS) != 0)
            fail_msg("dovetail verify: %s%s", child_output(verify), child_errors(verify));
    }
    struct traffic_counts counts = traffic_counts(traffic);
    print_message("%" PRId64 " records; %" PRId64 " answers over HTTP, %" PRId64
                  " over SQL and %" PRId64 " times all ledgers checked, at %" PRId64
                  " positions and %" PRId64 " changes of the run; %" PRId64
                  " refused meanwhile; %zu views verified\n",
                  counts.records, counts.http_answers, counts.sql_answers, counts.ledgers,
                  counts.positions, counts.runs, counts.unavailable, count);
}
