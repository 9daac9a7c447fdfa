/* Kafka's log no longer has what a layer expects: its retention was faster, or the topic was made
 * anew. What the archive has is read from there and every answer stays exact; what nobody has halts
 * that partition and no other, is told with its offsets, and is passed over once an operator has
 * accepted it. Records are numbered, so a naive model knows what each partition must say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/broker.h"
#include "tests/support/database.h"
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

/* Waits until the speed layer has opened the pipe and given it up. */
static void await_reader(const char *pipe)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    int fd;
    while ((fd = open(pipe, O_WRONLY | O_NONBLOCK | O_CLOEXEC)) < 0 && errno == ENXIO &&
           stack_now_ms() < deadline)
        stack_sleep_ms(20);
    assert_true(fd >= 0);
    struct pollfd closed = {.fd = fd};
    assert_int_equal(poll(&closed, 1, STACK_WAIT_MS), 1);
    close(fd);
}

/* Halted and told once, however often it is looked at, until the file is back. In its place stands
 * a pipe, which tells of each look. */
static void test_unreadable(void **state)
{
    (void)state;
    static const char notice[] = "are not in Kafka any more";
    char path[300], aside[sizeof path + 8];
    define_numbers("");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    start_speed();
    produce(0, 500);
    await_position(0, 500);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    child_stop(speed);
    produce(0, 10);
    broker_delete_below(numbers_topic(), 0, 500);
    PGconn *connection = deployment_connect(deployment);
    PGresult *result =
        database_ask(connection, "SELECT file FROM dovetail_internal.segment"
                                 " WHERE partition = 0 ORDER BY start_offset DESC LIMIT 1");
    assert_int_equal(PQntuples(result), 1);
    snprintf(path, sizeof path, "%s/archive/%s", deployment->directory, PQgetvalue(result, 0, 0));
    snprintf(aside, sizeof aside, "%s.aside", path);
    PQclear(result);
    PQfinish(connection);
    assert_int_equal(rename(path, aside), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    start_speed();
    for (int i = 0; i < 3; i++)
        await_reader(path);
    await(speed, "SELECT count(*) FROM dovetail_internal.halted WHERE layer = 'speed'", 1);
    int writer = open(path, O_RDWR | O_CLOEXEC); /* so that no look waits for one any more */
    assert_true(writer >= 0);
    assert_int_equal(rename(aside, path), 0);
    await_position(0, 510);
    close(writer);
    check();
    child_stop(speed);
    const char *told = strstr(child_errors(speed), notice);
    assert_non_null(told);
    assert_null(strstr(told + 1, notice));
}

/* --- what nobody has --- */

static void define_others(void)
{
    deployment_define_source(deployment, "{\"source\":\"others\",\"topic\":\"\",\"partitions\":1,"
                                         "\"event_time\":{\"field\":\"at\",\"format\":\"epoch_s\"},"
                                         "\"fields\":{\"at\":\"integer\"}}");
    deployment_define_view(deployment, "{\"view\":\"others_count\",\"source\":\"others\","
                                       "\"window\":{\"type\":\"tumbling\",\"size\":\"1h\"},"
                                       "\"measures\":{\"c\":\"count(*)\"}}");
}

static struct child *tell_resume(int code, const char *option)
{
    return deployment_run(deployment, code, "dovetail", "resume", "numbers", "--partition", "0",
                          option, NULL);
}

static void expect_text(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("no \"%s\" in: %s", part, text);
}

static void lose(int partition, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++)
        lost[partition][i] = true;
}

/* What /v1/status, /metrics and `dovetail status` say of partition 0. */
static void expect_halted(const char *layer, const char *message, int64_t lost_offsets)
{
    struct http_session *session = http_session_create(deployment->port);
    struct http_reply reply;
    char text[200];
    http_get(session, "/metrics", &reply);
    snprintf(text, sizeof text, "dovetail_halted{topic=\"%s\",partition=\"0\",layer=\"%s\"} %d",
             numbers_topic(), layer, message != NULL);
    expect_text(reply.body, text);
    snprintf(text, sizeof text, "dovetail_lost_offsets{topic=\"%s\",partition=\"0\"} %lld",
             numbers_topic(), (long long)lost_offsets);
    expect_text(reply.body, text);
    http_reply_free(&reply);
    http_get(session, "/v1/status", &reply);
    struct child *status = deployment_run(deployment, 0, "dovetail", "status", NULL);
    if (message != NULL) {
        expect_text(reply.body, message);
        expect_text(child_output(status), message);
    } else {
        assert_null(strstr(child_output(status), "halted: "));
    }
    http_reply_free(&reply);
    http_session_destroy(session);
    struct child *json =
        deployment_run(deployment, 0, "dovetail", "status", "--format", "json", NULL);
    json_t *all = json_loads(child_output(json), 0, NULL);
    json_t *partition = json_array_get(json_object_get(all, "partitions"), 0);
    assert_non_null(partition);
    assert_int_equal(json_integer_value(json_object_get(partition, "lost")), lost_offsets);
    json_decref(all);
}

/* Halted alone: another partition and another source go on, and so do batch runs. */
static void test_gap(void **state)
{
    (void)state;
    char message[200];
    define_numbers("");
    define_others();
    deployment_set(deployment, "batch", "schedule", json_string("0 0 1 1 *"));
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_serve(deployment);
    start_speed();
    produce(0, 500);
    produce(1, 100);
    await_position(0, 500);
    await_position(1, 100);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    expect_text(child_output(tell_resume(0, NULL)), "nothing is lost");
    child_stop(speed);
    produce(0, 500);
    broker_delete_below(numbers_topic(), 0, 700);

    start_speed();
    produce(1, 200);
    send_lines("others", 0, "{\"at\":1}\n{\"at\":2}\n");
    await_position(1, 300);
    await(speed, "SELECT sum(c) FROM dovetail.others_count", 2);
    await(speed, "SELECT count(*) FROM dovetail_internal.halted WHERE layer = 'speed'", 1);
    snprintf(message, sizeof message, "%s[0]: offsets 500 to 700 were deleted from Kafka",
             numbers_topic());
    expect_halted("speed", message, 0);
    struct child *run = deployment_run(deployment, 1, "dovetail-batch", "run", NULL);
    expect_text(child_errors(run), message);
    expect_halted("batch", message, 0);
    expect("SELECT count(*) FROM dovetail_internal.run_cutoff JOIN dovetail_internal.current_run"
           " USING (run) WHERE next_offset = CASE WHEN topic LIKE '%others%' THEN 2"
           " WHEN partition = 0 THEN 500 ELSE 300 END",
           3);
    /* The other one is as exact as ever; so are both up to here. */
    deployment_run(deployment, 0, "dovetail", "verify", "others_count", NULL);
    deployment_run(deployment, 0, "dovetail", "verify", "sums", NULL);

    /* Told, and nothing changed. Whoever only asks waits for nobody, and nobody for him. */
    PGconn *flush = deployment_connect(deployment);
    PQclear(database_ask(flush, "BEGIN; SELECT FROM dovetail_internal.position FOR UPDATE"));
    struct child *told = tell_resume(1, NULL);
    expect_text(child_output(told), "200 offsets are lost, 500 to 700");
    PQfinish(flush);
    expect("SELECT count(*) FROM dovetail_internal.gap", 0);

    /* Accepted while both run: neither needs a restart. */
    struct child *scheduler = deployment_start(deployment, "dovetail-batch", "schedule", NULL);
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    while (strstr(child_errors(scheduler), "halted: ") == NULL && stack_now_ms() < deadline)
        stack_sleep_ms(20);
    tell_resume(0, "--accept-gap");
    lose(0, 500, 700);
    await_position(0, 1000);
    check();
    deadline = stack_now_ms() + STACK_WAIT_MS;
    while (strstr(child_errors(scheduler), "is archived as a hole") == NULL &&
           stack_now_ms() < deadline)
        stack_sleep_ms(20);
    child_stop(scheduler);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    expect("SELECT max(end_offset) FROM dovetail_internal.segment WHERE partition = 0"
           " AND topic LIKE '%numbers%'",
           1000);
    check();
    expect_halted("speed", NULL, 200);
    expect_halted("batch", NULL, 200);
    expect_text(child_output(tell_resume(0, "--accept-gap")), "nothing is lost");
    child_stop(speed);
}

/* Part of the gap was counted before it was lost, and leaves with the run that passes it. Accepted
 * while nobody runs. */
static void test_gap_that_was_counted(void **state)
{
    (void)state;
    define_numbers("");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    start_speed();
    produce(0, 300);
    await_position(0, 300);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    produce(0, 200);
    await_position(0, 500);
    child_stop(speed);
    produce(0, 500);
    broker_delete_below(numbers_topic(), 0, 700);
    /* The speed layer is ahead of the archive: C stays, and with it every answer. */
    struct child *run = deployment_run(deployment, 1, "dovetail-batch", "run", NULL);
    expect_text(child_errors(run), "the run is published, but partitions are halted");
    expect("SELECT next_offset FROM dovetail_internal.run_cutoff JOIN"
           " dovetail_internal.current_run USING (run) WHERE partition = 0",
           300);
    expect("SELECT sum(c) FROM dovetail.sums", tally(0, 500).counted);
    struct child *told = tell_resume(0, "--accept-gap");
    expect_text(child_output(told), "400 offsets are lost, 300 to 700");
    expect_text(child_output(told), "offsets 300 to 500 of them were counted");
    start_speed();
    await_position(0, 1000);
    struct child *verify = deployment_run(deployment, 1, "dovetail", "verify", "sums", NULL);
    expect_text(child_errors(verify), "offsets 300 to 500 of them");
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    lose(0, 300, 700);
    deployment_run(deployment, 0, "dovetail", "verify", "sums", NULL);
    struct tally wanted = tally(0, 1000);
    expect("SELECT sum(c) FROM dovetail.sums", wanted.counted);
    expect("SELECT sum(total) FROM dovetail.sums", wanted.total);

    /* A run from before the gap has not passed it: that is told until the next one. */
    struct child *rollback =
        deployment_run(deployment, 0, "dovetail", "runs", "rollback", "1", NULL);
    expect_text(child_errors(rollback), "partition 0: answers have offsets 300 to 500 again");
    verify = deployment_run(deployment, 1, "dovetail", "verify", "sums", NULL);
    expect_text(child_errors(verify), "offsets 300 to 500 of them");
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    expect("SELECT sum(c) FROM dovetail.sums", wanted.counted);
    rollback = deployment_run(deployment, 0, "dovetail", "runs", "rollback", "3", NULL);
    assert_null(strstr(child_errors(rollback), "again"));
    child_stop(speed);
}

/* --- a topic that was made anew --- */

static void test_new_log(void **state)
{
    (void)state;
    define_numbers("");
    define_others();
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_serve(deployment);
    start_speed();
    produce(0, 300);
    produce(1, 60);
    await_position(0, 300);
    await_position(1, 60);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    child_stop(speed);
    int64_t counted = tally(0, 300).counted + tally(1, 60).counted;
    broker_delete_topic(numbers_topic());

    /* Gone altogether: nothing is taken out of the answers, and the others go on. */
    struct child *run = deployment_run(deployment, 1, "dovetail-batch", "run", NULL);
    expect_text(child_errors(run), "Kafka has no such partition any more");
    expect("SELECT sum(c) FROM dovetail.sums", counted);
    deployment_run(deployment, 0, "dovetail", "verify", "sums", NULL);

    /* Back, with fewer partitions and fewer records. */
    broker_create_topic(numbers_topic(), 1);
    ends[0] = 0;
    produce(0, 100);
    start_speed();
    await(speed,
          "SELECT count(*) FROM dovetail_internal.halted WHERE layer = 'speed'"
          " AND message LIKE '%log ends at offset 100, below offset 300%'",
          1);
    deployment_run(deployment, 1, "dovetail-batch", "run", NULL);
    expect("SELECT sum(c) FROM dovetail.sums", counted);
    expect_text(child_output(tell_resume(1, NULL)), "log ends at offset 100, below offset 300");
    tell_resume(0, "--accept-gap");
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    while (strstr(child_errors(speed), "waits until the new log has grown to offset 300") == NULL &&
           stack_now_ms() < deadline)
        stack_sleep_ms(20);
    expect("SELECT sum(c) FROM dovetail.sums", counted);
    produce(0, 350);
    await_position(0, 450);
    /* The records at 250 to 300 that the ids are compared with are the old log's, in the archive,
     * which here have the same ids. */
    counted = tally(0, 450).counted + tally(1, 60).counted;
    expect("SELECT sum(c) FROM dovetail.sums", counted);
    deployment_run(deployment, 0, "dovetail", "verify", "sums", NULL);
    deployment_run(deployment, 1, "dovetail-batch", "run", NULL); /* the second partition is gone */
    expect("SELECT sum(c) FROM dovetail.sums", counted);
    deployment_run(deployment, 0, "dovetail", "verify", "sums", NULL);
    child_stop(speed);
}

/* Made anew and grown past everything that was read: the offsets fit, the records do not. */
static void test_another_log(void **state)
{
    (void)state;
    define_numbers("");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    start_speed();
    produce(0, 300);
    produce(1, 60);
    await_position(0, 300);
    await_position(1, 60);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    child_stop(speed);
    int64_t counted = tally(0, 300).counted + tally(1, 60).counted;
    broker_delete_topic(numbers_topic());
    broker_create_topic(numbers_topic(), PARTITIONS);
    ends[0] = ends[1] = 0;
    produce(0, 500);
    produce(1, 100);
    start_speed();
    await(speed,
          "SELECT count(*) FROM dovetail_internal.halted WHERE layer = 'speed'"
          " AND message LIKE '%has another record at offset %'",
          PARTITIONS);
    struct child *run = deployment_run(deployment, 1, "dovetail-batch", "run", NULL);
    expect_text(child_errors(run), "[0]: the log has another record at offset 299");
    expect("SELECT sum(c) FROM dovetail.sums", counted);
    deployment_run(deployment, 0, "dovetail", "verify", "sums", NULL);

    /* A restart finds the same. */
    child_kill(speed);
    start_speed();
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    while (strstr(child_errors(speed), "[0]: the log has another record at offset 299") == NULL &&
           stack_now_ms() < deadline)
        stack_sleep_ms(20);
    expect("SELECT sum(next_offset) FROM dovetail_internal.position", 360);

    expect_text(child_output(tell_resume(1, NULL)), "would go on at offset 300");
    deployment_run(deployment, 0, "dovetail", "resume", "numbers", "--accept-gap", NULL);
    await_position(0, 500);
    await_position(1, 100);
    check();
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    check();
    child_stop(speed);
    start_speed(); /* what it finds now is the log that it goes on with */
    produce(0, 10);
    await_position(0, 510);
    check();
    child_stop(speed);
}

/* Deleted under a process that reads it: the others go on, and the process ends when it is told. */
static void test_deleted_while_read(void **state)
{
    (void)state;
    define_numbers("");
    define_others();
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    start_speed();
    produce(0, 100);
    produce(1, 100);
    await_position(0, 100);
    await_position(1, 100);
    broker_delete_topic(numbers_topic());
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    while (strstr(child_errors(speed), "given back") == NULL && stack_now_ms() < deadline)
        stack_sleep_ms(20);
    send_lines("others", 0, "{\"at\":1}\n{\"at\":2}\n");
    await(speed, "SELECT sum(c) FROM dovetail.others_count", 2);
    child_stop(speed);
}

/* A partition that Kafka has no more is nobody's for ever: the group is left in peace. That the
 * watch has looked is told by what it does about another one that nobody has. */
static void test_partition_is_gone(void **state)
{
    (void)state;
    define_numbers("");
    define_others();
    deployment_set(deployment, "kafka", "session.timeout.ms", json_integer(6000));
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    start_speed();
    produce(0, 100);
    produce(1, 100);
    await_position(0, 100);
    await_position(1, 100);
    child_stop(speed);
    broker_delete_topic(numbers_topic());
    broker_create_topic(numbers_topic(), 1);
    start_speed();
    send_lines("others", 0, "{\"at\":1}\n{\"at\":2}\n");
    await(speed, "SELECT sum(c) FROM dovetail.others_count", 2);
    deployment_number(deployment,
                      "WITH u AS (UPDATE dovetail_internal.position SET updated_at ="
                      " CASE WHEN partition = 1 THEN now() - interval '1 hour' ELSE now() END,"
                      " owner = 'gone/1', owner_pid = 2147483647, owner_epoch = owner_epoch + 1"
                      " WHERE partition = 1 OR topic LIKE '%others%' RETURNING 1) SELECT 1");
    send_lines("others", 0, "{\"at\":3}\n");
    await(speed, "SELECT sum(c) FROM dovetail.others_count", 3);
    child_stop(speed);
    expect_text(child_errors(speed), "[0] is assigned to us and its owner is gone");
    assert_null(strstr(child_errors(speed), "nobody reads"));
}

int main(int argc, char **argv)
{
    if (argc > 1) /* a pattern for the names of tests */
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_overtaken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_overtaken_with_a_mask, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unreadable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_gap, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_gap_that_was_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_new_log, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_another_log, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_deleted_while_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_partition_is_gone, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
