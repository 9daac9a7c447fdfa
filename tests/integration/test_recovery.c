/* Kafka's log no longer has what a layer expects: its retention was faster, or the topic was made
 * anew. What the archive has is read from there and every answer stays exact; what nobody has halts
 * that partition and no other, is told with its offsets, and is passed over once an operator has
 * accepted it. Records are numbered, so a naive model knows what each partition must say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/broker.h"
#include "tests/support/deployment.h"
#include "tests/support/http.h"
#include "tests/support/stack.h"

enum { PARTITIONS = 2, RECORDS_MAX = 20000, WITHIN = 50, LINE_BYTES = 200, SQL_BYTES = 600 };

static struct deployment *deployment;
static struct child *speed;
static int64_t ends[PARTITIONS];
static bool lost[PARTITIONS][RECORDS_MAX]; /* given up */

/* --- the model: the record at an offset --- */

static bool is_bad(int64_t offset)
{
    return offset % 30 == 7;
}

/* Its id: some are those of a record shortly before. */
static int64_t id_of(int64_t offset)
{
    return offset % 11 == 5 ? offset - 4 : offset % 97 == 60 ? offset - 45 : offset;
}

struct tally {
    int64_t consumed, counted, filtered, duplicate, dead, total;
};

static struct tally tally(int partition, int64_t end)
{
    struct tally tally = {0};
    for (int64_t i = 0; i < end; i++) {
        bool duplicate = false;
        if (lost[partition][i])
            continue;
        for (int64_t j = i - 1; !is_bad(i) && !duplicate && j >= 0 && j >= i - WITHIN; j--)
            duplicate = !is_bad(j) && !lost[partition][j] && id_of(i) == id_of(j);
        tally.consumed++;
        if (is_bad(i)) {
            tally.dead++;
        } else if (duplicate) {
            tally.duplicate++;
        } else if (i % 5 == 0) {
            tally.filtered++;
        } else {
            tally.counted++;
            tally.total += i;
        }
    }
    return tally;
}

/* --- the deployment --- */

static void define_numbers(const char *mask)
{
    char source[700];
    snprintf(source, sizeof source,
             "{\"source\":\"numbers\",\"topic\":\"\",\"partitions\":2,"
             "\"event_time\":{\"field\":\"at\",\"format\":\"epoch_s\"},"
             "\"fields\":{\"at\":\"integer\",\"id\":\"string\",\"n\":\"integer\"},"
             "\"dedupe\":{\"field\":\"id\",\"within\":%d}%s}",
             WITHIN, mask);
    deployment_define_source(deployment, source);
    deployment_define_view(deployment,
                           "{\"view\":\"sums\",\"source\":\"numbers\",\"where\":\"n % 5 <> 0\","
                           "\"group_by\":[{\"name\":\"last\",\"expr\":\"n % 7\"}],"
                           "\"window\":{\"type\":\"tumbling\",\"size\":\"1h\"},\"measures\":{"
                           "\"c\":\"count(*)\",\"total\":\"sum(n)\",\"most\":\"max(id)\"}}");
}

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    deployment_set(deployment, "batch", "segment_size", json_string("4 KiB"));
    memset(ends, 0, sizeof ends);
    memset(lost, 0, sizeof lost);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    deployment_destroy(deployment);
    deployment = NULL;
    speed = NULL;
    return 0;
}

static void send_lines(const char *source, int partition, const char *lines)
{
    char path[160];
    char number[8];
    deployment_write(deployment, "lines.jsonl", lines);
    snprintf(path, sizeof path, "%s/lines.jsonl", deployment->directory);
    snprintf(number, sizeof number, "%d", partition);
    deployment_run(deployment, 0, "dovetail", "produce", source, path, "--partition", number, NULL);
}

static void produce(int partition, int64_t count)
{
    char *lines = malloc((size_t)count * LINE_BYTES + 1);
    size_t length = 0;
    assert_non_null(lines);
    for (int64_t i = ends[partition]; i < ends[partition] + count; i++)
        length += (size_t)snprintf(
            lines + length, LINE_BYTES, "{\"at\":%lld,\"id\":\"e-%lld\",\"n\":%lld%s\n",
            (long long)(i * 17 % 100000), (long long)id_of(i), (long long)i, is_bad(i) ? "" : "}");
    ends[partition] += count;
    assert_true(ends[partition] <= RECORDS_MAX);
    send_lines("numbers", partition, lines);
    free(lines);
}

static void start_speed(void)
{
    speed = deployment_start(deployment, "dovetail-speed", NULL);
}

static void await(struct child *child, const char *sql, int64_t wanted)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    int64_t number;
    while ((number = deployment_number(deployment, sql)) != wanted) {
        if (stack_now_ms() > deadline || (child != NULL && !child_is_running(child))) {
            children_show();
            fail_msg("%s: %lld, not %lld", sql, (long long)number, (long long)wanted);
        }
        stack_sleep_ms(20);
    }
}

static void await_position(int partition, int64_t offset)
{
    char sql[SQL_BYTES];
    snprintf(sql, sizeof sql,
             "SELECT next_offset FROM dovetail_internal.position WHERE partition = %d"
             " AND topic LIKE '%%numbers%%'",
             partition);
    await(speed, sql, offset);
}

static void expect(const char *sql, int64_t wanted)
{
    int64_t number = deployment_number(deployment, sql);
    if (number != wanted) {
        children_show();
        fail_msg("%s: %lld, not %lld", sql, (long long)number, (long long)wanted);
    }
}

/* The ledger, what is counted, and what an independent recompute says of it. */
static void check(void)
{
    int64_t counted = 0;
    int64_t total = 0;
    for (int p = 0; p < PARTITIONS; p++) {
        struct tally wanted = tally(p, ends[p]);
        char sql[SQL_BYTES];
        snprintf(sql, sizeof sql,
                 "SELECT count(*) FROM dovetail_internal.position WHERE partition = %d"
                 " AND topic LIKE '%%numbers%%' AND next_offset = %lld AND consumed = %lld"
                 " AND counted = %lld AND filtered = %lld AND duplicate = %lld"
                 " AND dead_lettered = %lld",
                 p, (long long)ends[p], (long long)wanted.consumed, (long long)wanted.counted,
                 (long long)wanted.filtered, (long long)wanted.duplicate, (long long)wanted.dead);
        expect(sql, 1);
        counted += wanted.counted;
        total += wanted.total;
    }
    expect("SELECT sum(c) FROM dovetail.sums", counted);
    expect("SELECT sum(total) FROM dovetail.sums", total);
    deployment_run(deployment, 0, "dovetail", "verify", "sums", NULL);
}

static const char *numbers_topic(void)
{
    return deployment_topic(deployment, "numbers");
}

/* Every bad record has arrived, once at least; *archived of them from the archive, and what it
 * shows is the value. */
static void check_letters(int partition, const char *part_of_value, size_t *archived)
{
    char dead_topic[160];
    struct broker_records letters;
    bool *seen = calloc(RECORDS_MAX, sizeof *seen);
    *archived = 0;
    snprintf(dead_topic, sizeof dead_topic, "%s.dead", numbers_topic());
    broker_read(dead_topic, &letters);
    for (size_t i = 0; i < letters.count; i++) {
        rd_kafka_message_t *letter = letters.items[i];
        rd_kafka_headers_t *headers = NULL;
        const void *text;
        size_t length;
        assert_int_equal(rd_kafka_message_headers(letter, &headers), 0);
        assert_int_equal(rd_kafka_header_get_last(headers, "dovetail.partition", &text, &length),
                         0);
        if (strtoll(text, NULL, 10) != partition)
            continue;
        assert_int_equal(rd_kafka_header_get_last(headers, "dovetail.offset", &text, &length), 0);
        int64_t offset = strtoll(text, NULL, 10);
        assert_true(is_bad(offset));
        seen[offset] = true;
        bool from_archive =
            rd_kafka_header_get_last(headers, "dovetail.archive", &text, &length) == 0;
        *archived += from_archive;
        if (part_of_value == NULL) {
            assert_null(letter->payload);
        } else {
            assert_non_null(
                memmem(letter->payload, letter->len, part_of_value, strlen(part_of_value)));
        }
    }
    for (int64_t i = 0; i < ends[partition]; i++)
        assert_true(seen[i] == (is_bad(i) && !lost[partition][i]));
    broker_records_free(&letters);
    free(seen);
}

/* --- the speed layer: what the archive has --- */

static void overtake(const char *mask)
{
    size_t archived;
    define_numbers(mask);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    start_speed();
    produce(0, 500);
    produce(1, 700);
    await_position(0, 500);
    await_position(1, 700);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    child_stop(speed);

    /* Two runs without a speed layer plan cuts, which the way through the archive must respect. */
    produce(0, 900);
    produce(1, 100);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    produce(0, 900);
    produce(1, 300);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    broker_delete_below(numbers_topic(), 0, 2100);
    broker_delete_below(numbers_topic(), 1, 1100);
    produce(0, 150);
    start_speed();
    await_position(0, ends[0]);
    await_position(1, ends[1]);
    assert_non_null(strstr(child_errors(speed), "[0] offsets 450 to 2100 are not in Kafka"));
    check();
    deployment_run(deployment, 0, "dovetail", "runs", "rollback", "1", NULL);
    check();
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    check();
    check_letters(0, mask[0] == '\0' ? "\"id\"" : NULL, &archived);
    assert_true(archived >= 50 && archived < 70);

    /* While it runs, and is behind: the log tells, and nothing else is disturbed. */
    child_signal(speed, SIGSTOP);
    produce(0, 500);
    produce(1, 400);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    broker_delete_below(numbers_topic(), 0, ends[0]);
    produce(0, 100);
    child_signal(speed, SIGCONT);
    await_position(0, ends[0]);
    await_position(1, ends[1]);
    check();
    child_stop(speed);
}

static void test_overtaken(void **state)
{
    (void)state;
    overtake("");
}

/* The archive's values are masked already, and so are those of its letters. */
static void test_overtaken_with_a_mask(void **state)
{
    (void)state;
    char mask[250];
    snprintf(mask, sizeof mask, ",\"mask\":{\"fields\":[\"id\"],\"key_file\":\"%s/mask.key\"}",
             deployment->directory);
    deployment_write(deployment, "mask.key", "a key for the test of recovery");
    overtake(mask);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_overtaken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_overtaken_with_a_mask, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
