/* Numbered records: see numbers.h. */
#include "tests/support/numbers.h"

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
#include "tests/support/stack.h"

enum { LINE_BYTES = 100 };

void numbers_define(struct numbers *numbers, struct deployment *deployment)
{
    *numbers = (struct numbers){.deployment = deployment};
    deployment_define_source(deployment, "{\"source\":\"numbers\",\"partitions\":2,"
                                         "\"event_time\":{\"field\":\"at\",\"format\":\"epoch_s\"},"
                                         "\"fields\":{\"at\":\"integer\",\"n\":\"integer\"}}");
    deployment_define_view(deployment,
                           "{\"view\":\"sums\",\"source\":\"numbers\",\"where\":\"n % 5 <> 0\","
                           "\"group_by\":[{\"name\":\"rest\",\"expr\":\"n % 7\"}],"
                           "\"window\":{\"type\":\"tumbling\",\"size\":\"1h\"},\"measures\":{"
                           "\"c\":\"count(*)\",\"total\":\"sum(n)\"}}");
}

static bool is_bad(int64_t n)
{
    return n % 30 == 7;
}

void numbers_produce(struct numbers *numbers, int partition, int count)
{
    char path[160], number[8];
    char *lines = malloc((size_t)count * LINE_BYTES + 1);
    size_t length = 0;
    assert_non_null(lines);
    for (int64_t n = numbers->ends[partition]; n < numbers->ends[partition] + count; n++)
        length += (size_t)snprintf(lines + length, LINE_BYTES,
                                   "{\"at\":%" PRId64 ",\"n\":%" PRId64 "%s\n", n * 17 % 100000, n,
                                   is_bad(n) ? "" : "}");
    numbers->ends[partition] += count;
    deployment_write(numbers->deployment, "lines.jsonl", lines);
    free(lines);
    snprintf(path, sizeof path, "%s/lines.jsonl", numbers->deployment->directory);
    snprintf(number, sizeof number, "%d", partition);
    deployment_run(numbers->deployment, 0, "dovetail", "produce", "numbers", path, "--partition",
                   number, NULL);
}

void numbers_produce_all(struct numbers *numbers, int count)
{
    for (int p = 0; p < NUMBERS_PARTITIONS; p++)
        numbers_produce(numbers, p, count);
}

/* --- waiting --- */

static void give_up(const char *what)
{
    children_show();
    fail_msg("%s", what);
}

void numbers_await(const struct numbers *numbers, struct child *child, const char *sql,
                   int64_t wanted)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    int64_t number = -1;
    while (!deployment_has_number(numbers->deployment, sql, &number) || number != wanted) {
        if (stack_now_ms() > deadline || (child != NULL && !child_is_running(child))) {
            children_show();
            fail_msg("%s: %" PRId64 ", not %" PRId64, sql, number, wanted);
        }
        stack_sleep_ms(20);
    }
}

void numbers_await_end(const struct numbers *numbers, struct child *child)
{
    int64_t sum = 0;
    for (int p = 0; p < NUMBERS_PARTITIONS; p++)
        sum += numbers->ends[p];
    numbers_await(numbers, child, "SELECT sum(next_offset) FROM dovetail_internal.position", sum);
}

void numbers_await_text(struct child *child, const char *text)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    while (strstr(child_errors(child), text) == NULL) {
        if (stack_now_ms() > deadline)
            give_up(text);
        stack_sleep_ms(20);
    }
}

void numbers_expect_text(struct child *child, const char *text)
{
    if (strstr(child_errors(child), text) == NULL && strstr(child_output(child), text) == NULL)
        fail_msg("no \"%s\" in: %s%s", text, child_output(child), child_errors(child));
}

/* --- checking --- */

struct tally {
    int64_t consumed, counted, filtered, dead, total;
};

static void add_tally(int64_t end, struct tally *out)
{
    for (int64_t i = 0; i < end; i++) {
        out->consumed++;
        if (is_bad(i)) {
            out->dead++;
        } else if (i % 5 == 0) {
            out->filtered++;
        } else {
            out->counted++;
            out->total += i;
        }
    }
}

/* Everything in one statement, hence one snapshot: of each partition the end of the answer, P and
 * its ledger; and the answer. */
static const char state_sql[] =
    "SELECT (SELECT string_agg(concat_ws(' ', p.partition, p.next_offset,"
    "   GREATEST(p.next_offset, c.next_offset), p.consumed, p.counted, p.filtered,"
    "   p.dead_lettered), ' ' ORDER BY p.partition)"
    "  FROM dovetail_internal.position AS p LEFT JOIN dovetail_internal.run_cutoff AS c"
    "   ON c.topic = p.topic AND c.partition = p.partition"
    "   AND c.run = (SELECT run FROM dovetail_internal.current_run)),"
    " (SELECT concat_ws(' ', COALESCE(sum(c), 0), COALESCE(sum(total), 0)) FROM dovetail.sums)";

static void read_state(const struct numbers *numbers, char *positions, char *answer, size_t size)
{
    PGconn *connection = deployment_connect(numbers->deployment);
    PGresult *result = database_ask(connection, state_sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s", PQerrorMessage(connection));
    snprintf(positions, size, "%s", PQgetvalue(result, 0, 0));
    snprintf(answer, size, "%s", PQgetvalue(result, 0, 1));
    PQclear(result);
    PQfinish(connection);
}

void numbers_check_now(const struct numbers *numbers)
{
    char positions[400], answer[400], wanted[400];
    struct tally all = {0};
    const char *at = positions;
    read_state(numbers, positions, answer, sizeof positions);
    for (int p = 0; p < NUMBERS_PARTITIONS; p++) {
        long long partition, position, end, consumed, counted, filtered, dead;
        int used = 0;
        if (sscanf(at, "%lld %lld %lld %lld %lld %lld %lld %n", &partition, &position, &end,
                   &consumed, &counted, &filtered, &dead, &used) != 7)
            fail_msg("positions: %s", positions);
        at += used;
        struct tally ledger = {0};
        add_tally(position, &ledger);
        if (consumed != position || end > numbers->ends[p] || counted != ledger.counted ||
            filtered != ledger.filtered || dead != ledger.dead)
            fail_msg("positions and ledgers: %s", positions);
        add_tally(end, &all);
    }
    snprintf(wanted, sizeof wanted, "%" PRId64 " %" PRId64, all.counted, all.total);
    if (strcmp(answer, wanted) != 0) {
        children_show();
        fail_msg("at %s the answer is %s, not %s", positions, answer, wanted);
    }
}

void numbers_check(const struct numbers *numbers)
{
    struct tally all = {0};
    numbers_check_now(numbers);
    for (int p = 0; p < NUMBERS_PARTITIONS; p++)
        add_tally(numbers->ends[p], &all);
    int64_t counted =
        deployment_number(numbers->deployment, "SELECT COALESCE(sum(c), 0)::bigint FROM"
                                               " dovetail.sums");
    if (counted != all.counted)
        fail_msg("%" PRId64 " are counted, not %" PRId64, counted, all.counted);
    if (!numbers->other_engine)
        deployment_run(numbers->deployment, 0, "dovetail", "verify", "sums", NULL);
}
