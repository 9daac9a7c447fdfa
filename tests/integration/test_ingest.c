/* The ingest door: what is accepted is in the topic once Kafka has it and in the views when asked
 * for with its offsets; what the layers would dead-letter is refused, line by line; and who may
 * send what. */
#include "tests/support/ingest_fixture.h"

#include <openssl/evp.h>
#include <zlib.h>

/* --- what is accepted --- */

/* Waits for the offsets of the answer, and compares what the view has. */
static void assert_rows(const json_t *answer, const char *shop, int64_t n, const char *total)
{
    char target[512];
    struct http_reply reply;
    char *offsets = json_dumps(json_object_get(answer, "offsets"), JSON_COMPACT);
    char *escaped = http_escape(offsets, strlen(offsets));
    snprintf(target, sizeof target,
             "/v1/views/sales/rows?shop=%s&granularity=all&wait_ms=30000&at_least=%s", shop,
             escaped);
    http_get(session, target, &reply);
    json_t *json = http_reply_json(&reply);
    json_t *row = json_array_get(json_object_get(json, "rows"), 0);
    if (reply.status != 200 || json_integer_value(json_object_get(row, "n")) != n ||
        strstr(reply.body, total) == NULL)
        fail_msg("%s: %d %s", target, reply.status, reply.body);
    json_decref(json);
    http_reply_free(&reply);
    free(escaped);
    free(offsets);
}

static void test_read_your_writes(void **state)
{
    (void)state;
    char body[2048];
    int64_t before = topic_size();
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    json_t *answer = post(DOOR, JSON, order("one", "1.5"), 200);
    assert_number(answer, "accepted", 1);
    assert_number(answer, "refused", 0);
    assert_int_equal(json_array_size(json_object_get(answer, "events")), 0);
    assert_rows(answer, "one", 1, "\"total\":1.5");
    json_decref(answer);
    /* An array, whose elements are on several lines and have brackets and escapes in strings. */
    snprintf(body, sizeof body,
             " [ %s,\n%s , {\"at\":\"2026-01-05T10:20:00Z\",\n"
             "\"shop\":\"[}\\\"]\",\r\n\"amount\":1, \"detail\":{\"count\":[]}}]\n",
             order("two", "1"), order("two", "2.25"));
    answer = post(DOOR, JSON, body, 207);
    assert_number(answer, "accepted", 2);
    assert_rows(answer, "two", 2, "\"total\":3.25");
    json_decref(answer);
    /* Lines, of which some are blank and the last has no line feed. */
    snprintf(body, sizeof body, "%s\n\n  \r\n%s\r\n%s", order("three", "1"), order("three", "2"),
             order("three", "4"));
    answer = post(DOOR, LINES "; charset=utf-8", body, 200);
    assert_number(answer, "accepted", 3);
    assert_rows(answer, "three", 3, "\"total\":7");
    json_decref(answer);
    assert_int_equal(topic_size(), before + 6);
    child_stop(speed);
}

/* An object over several lines is one line of the log, as every other. */
static void test_a_record_is_one_line(void **state)
{
    (void)state;
    struct broker_records records;
    json_decref(post(DOOR, JSON,
                     "{\n\"at\": \"2026-01-05T10:20:00Z\",\r\n\"shop\":\n\"lines\","
                     " \"amount\": 7}\n",
                     200));
    broker_read(deployment_topic(deployment, "orders"), &records);
    bool found = false;
    for (size_t i = 0; i < records.count; i++) {
        const rd_kafka_message_t *record = records.items[i];
        assert_null(memchr(record->payload, '\n', record->len));
        assert_null(memchr(record->payload, '\r', record->len));
        found = found || memmem(record->payload, record->len, "lines", 5) != NULL;
    }
    assert_true(found);
    broker_records_free(&records);
}

static void test_gzip(void **state)
{
    (void)state;
    unsigned char packed[1024];
    char text[1024];
    snprintf(text, sizeof text, "%s\n%s\n", order("gz", "1"), order("gz", "2"));
    z_stream stream = {.next_in = (unsigned char *)text,
                       .avail_in = (unsigned)strlen(text),
                       .next_out = packed,
                       .avail_out = sizeof packed};
    assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    deflateEnd(&stream);
    const char *const headers[] = {LINES, "Content-Encoding: gzip", NULL};
    json_t *answer = post_with(DOOR, headers, packed, stream.total_out, 200);
    assert_number(answer, "accepted", 2);
    json_decref(answer);
    /* Cut off, with rubbish behind it, and none at all. */
    assert_problem(post_with(DOOR, headers, packed, stream.total_out - 3, 400), NULL, "gzip");
    packed[stream.total_out] = 'x';
    assert_problem(post_with(DOOR, headers, packed, stream.total_out + 1, 400), NULL, "gzip");
    assert_problem(post_with(DOOR, headers, text, strlen(text), 400), NULL, "gzip");
    const char *const other[] = {LINES, "Content-Encoding: br", NULL};
    assert_problem(post_with(DOOR, other, text, strlen(text), 415), NULL, "gzip");
    /* A bomb: 64 MiB of zeros in some 64 KiB. */
    size_t size = 64 << 20;
    char *zeros = calloc(1, size);
    unsigned char *bomb = malloc(1 << 20);
    assert_non_null(zeros);
    assert_non_null(bomb);
    stream = (z_stream){.next_in = (unsigned char *)zeros,
                        .avail_in = (unsigned)size,
                        .next_out = bomb,
                        .avail_out = 1 << 20};
    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    deflateEnd(&stream);
    assert_problem(post_with(DOOR, headers, bomb, stream.total_out, 413), NULL, "unpacked");
    free(zeros);
    free(bomb);
}

/* The same field gives the same key, and so the same partition, as `dovetail produce --key`. */
static void test_keys_as_produce_has_them(void **state)
{
    (void)state;
    struct broker_records records;
    char path[128];
    deployment_write(deployment, "one", order("keyed", "12.50"));
    snprintf(path, sizeof path, "%s/one", deployment->directory);
    deployment_run(deployment, 0, "dovetail", "produce", "orders", path, "--key", "amount", NULL);
    json_decref(post(DOOR "?key=amount", JSON, order("keyed", "12.5"), 200));
    json_decref(post(DOOR "?key=count", JSON, order("keyed", "3"), 200)); /* NULL: none */
    assert_problem(post(DOOR "?key=nothing", JSON, order("keyed", "3"), 400), "key", "no field");
    broker_read(deployment_topic(deployment, "orders"), &records);
    int32_t partitions[2];
    size_t keyed = 0;
    for (size_t i = 0; i < records.count; i++) {
        const rd_kafka_message_t *record = records.items[i];
        if (record->key_len == 0)
            continue;
        assert_true(keyed < 2);
        assert_int_equal(record->key_len, 4);
        assert_memory_equal(record->key, "12.5", 4);
        partitions[keyed++] = record->partition;
    }
    assert_int_equal(keyed, 2);
    assert_int_equal(partitions[0], partitions[1]);
    broker_records_free(&records);
}

/* --- what is refused --- */

static const char *const bad_lines[] = {
    "x",
    "{}",
    "{\"at\":\"2026-01-05T10:20:00Z\",\"shop\":\"s\"}",
    "{\"at\":\"2026-01-05T10:20:00Z\",\"shop\":7,\"amount\":1}",
    "{\"at\":\"yesterday\",\"shop\":\"s\",\"amount\":1}",
    "{\"at\":\"2026-01-05T10:20:00Z\",\"shop\":\"s\",\"amount\":\"1\"}",
    "{\"at\":\"2026-01-05T10:20:00Z\",\"shop\":\"s\",\"amount\":1}}",
    "{\"at\":\"2026-01-05T10:20:00Z\",\"shop\":\"s\",\"amount\":1,\"x\":tru}",
    "{\"at\":\"2026-01-05T10:20:00Z\",\"shop\":\"s\",\"amount\":1,\"detail\":{\"count\":1.5}}",
    "{\"at\":\"2026-01-05T10:20:00Z\",\"shop\":null,\"amount\":1}",
    "[1]",
    "\"text\"",
    "{\"at\":\"2026-01-05T10:20:00Z\",\"shop\":\"\xff\",\"amount\":1}",
    "{\"at\":\"2026-01-05T10:20:00Z\",\"shop\":\"s\",\"amount\":1} "
    "{\"at\":\"2026-01-05T10:20:00Z\",\"shop\":\"s\",\"amount\":1}",
};
enum { BAD_COUNT = sizeof bad_lines / sizeof bad_lines[0] };

/* What the door refuses is exactly what the speed layer dead-letters. */
static void test_refusals_are_dead_letters(void **state)
{
    (void)state;
    char body[8192] = "";
    char path[128];
    for (size_t i = 0; i < BAD_COUNT; i++) {
        strcat(body, order("good", "1"));
        strcat(body, "\n");
        strcat(body, bad_lines[i]);
        strcat(body, "\n");
    }
    int64_t before = topic_size();
    json_t *answer = post(DOOR, LINES, body, 207);
    assert_number(answer, "accepted", BAD_COUNT);
    assert_number(answer, "refused", BAD_COUNT);
    json_t *events = json_object_get(answer, "events");
    assert_int_equal(json_array_size(events), BAD_COUNT);
    for (size_t i = 0; i < BAD_COUNT; i++) {
        json_t *event = json_array_get(events, i);
        assert_number(event, "line", (int64_t)(2 * i + 2));
        assert_string_equal(json_string_value(json_object_get(event, "outcome")), "refused");
        assert_true(json_string_length(json_object_get(event, "reason")) > 5);
    }
    json_decref(answer);
    assert_int_equal(topic_size(), before + BAD_COUNT);
    /* The same lines by another way. */
    deployment_write(deployment, "mixed", body);
    snprintf(path, sizeof path, "%s/mixed", deployment->directory);
    deployment_run(deployment, 0, "dovetail", "produce", "orders", path, NULL);
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    while (deployment_number(deployment,
                             "SELECT sum(next_offset)::bigint FROM dovetail_internal.position") <
           topic_size()) {
        assert_true(stack_now_ms() < end_ms);
        stack_sleep_ms(50);
    }
    assert_int_equal(deployment_number(deployment, "SELECT sum(dead_lettered)::bigint FROM "
                                                   "dovetail_internal.position"),
                     BAD_COUNT);
    child_stop(speed);
}

static void test_whole_or_nothing(void **state)
{
    (void)state;
    char body[1024];
    int64_t before = topic_size();
    snprintf(body, sizeof body, "[%s,{},%s]", order("w", "1"), order("w", "2"));
    json_t *problem = post(DOOR "?whole=1", JSON, body, 422);
    assert_number(problem, "accepted", 0);
    assert_number(problem, "refused", 1);
    assert_number(problem, "not_written", 2);
    json_t *events = json_object_get(problem, "events");
    assert_int_equal(json_array_size(events), 3);
    assert_number(json_array_get(events, 1), "index", 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(events, 0), "outcome")),
                        "not_written");
    json_decref(problem);
    json_decref(post(DOOR, JSON, "{}", 422)); /* nothing is left to be written */
    json_decref(post(DOOR, LINES, "{}\n{}\n", 422));
    assert_int_equal(topic_size(), before);
    json_t *answer = post(DOOR "?whole=0", JSON, body, 207);
    assert_number(answer, "accepted", 2);
    json_decref(answer);
    assert_int_equal(topic_size(), before + 2);
}

static void test_requests_that_are_none(void **state)
{
    (void)state;
    const char *good = order("none", "1");
    int64_t before = topic_size();
    static const struct {
        const char *type;
        const char *body;
        const char *words;
    } bodies[] = {
        {JSON, "", "no body"},           {JSON, "  \n ", "no event"},
        {LINES, "\n\n \n", "no event"},  {JSON, "[]", "no event"},
        {JSON, " [ ] ", "no event"},     {JSON, "[", "does not end"},
        {JSON, "[{}", "does not end"},   {JSON, "[{\"a\":\"]", "does not end"},
        {JSON, "[\"\\", "does not end"}, {JSON, "[{}}", "no whole"},
        {JSON, "[{}],", "no whole"},     {JSON, "[{}] x", "no whole"},
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++)
        assert_problem(post(DOOR, bodies[i].type, bodies[i].body, 400), NULL, bodies[i].words);
    /* An element that is none is told like one that is bad; the array has an end. */
    json_decref(post(DOOR, JSON, "[,]", 422));
    json_decref(post(DOOR, JSON, "[{},]", 422));
    assert_problem(post(DOOR, "Content-Type: text/plain", good, 415), NULL, "application/json");
    assert_problem(post(DOOR, "Content-Type: application/jsonx", good, 415), NULL, "json");
    assert_problem(post(DOOR, "X-Nothing: x", good, 415), NULL, "Content-Type");
    assert_problem(post("/v1/sources/nothing/events", JSON, good, 404), NULL, "no source");
    assert_problem(post(DOOR "?whole=2", JSON, good, 400), "whole", "0 or 1");
    assert_problem(post(DOOR "?partition=1", JSON, good, 400), "partition", "unknown");
    assert_problem(post(DOOR "?key=shop&key=at", JSON, good, 400), "key", "twice");
    assert_problem(post("/v1/views", JSON, good, 405), NULL, "GET");
    const char *const page[] = {JSON, "Origin: http://127.0.0.1", NULL};
    assert_problem(post_with(DOOR, page, good, strlen(good), 403), NULL, "browser");
    struct http_reply reply;
    char allow[32];
    http_get(session, DOOR, &reply);
    assert_int_equal(reply.status, 405);
    assert_string_equal(http_reply_header(&reply, "Allow", allow, sizeof allow), "POST");
    http_reply_free(&reply);
    assert_int_equal(topic_size(), before);
}

static void test_limits(void **state)
{
    (void)state;
    deployment_set(deployment, "serving", "ingest_body", json_integer(4096));
    deployment_set(deployment, "serving", "ingest_events", json_integer(5));
    serve_anew();
    char body[32 * 1024];
    memset(body, ' ', sizeof body);
    int64_t before = topic_size();
    const char *text = order("limit", "1");
    memcpy(body, text, strlen(text));
    const char *const json[] = {JSON, NULL};
    json_decref(post_with(DOOR, json, body, 4096, 200));
    assert_problem(post_with(DOOR, json, body, 4097, 413), NULL, "4096");
    /* Without a length that is told beforehand, a little too large and very much. */
    const char *const chunked[] = {JSON, "Transfer-Encoding: chunked", NULL};
    json_decref(post_with(DOOR, chunked, body, 4096, 200));
    assert_problem(post_with(DOOR, chunked, body, 8000, 413), NULL, "4096");
    struct http_reply reply;
    http_post(session, DOOR, chunked, body, sizeof body, &reply);
    assert_true(reply.status == 0 || reply.status == 413);
    http_reply_free(&reply);
    assert_problem(post(DOOR, JSON, "[1,2,3,4,5,6]", 413), NULL, "more than 5 events");
    assert_problem(post(DOOR, LINES, "1\n2\n3\n4\n5\n6\n", 413), NULL, "more than 5 events");
    json_decref(post(DOOR, LINES, "1\n2\n3\n4\n5\n", 422));
    assert_int_equal(topic_size(), before + 2);
    json_object_del(json_object_get(deployment->settings, "serving"), "ingest_body");
    json_object_del(json_object_get(deployment->settings, "serving"), "ingest_events");
    serve_anew();
}

/* An event of the source that the broker will not have. */
static double pending_bytes(void)
{
    struct http_reply reply;
    http_get(session, "/metrics", &reply);
    assert_int_equal(reply.status, 200);
    const char *at = strstr(reply.body, "\ndovetail_ingest_pending_bytes ");
    assert_non_null(at);
    double bytes = strtod(at + strlen("\ndovetail_ingest_pending_bytes "), NULL);
    http_reply_free(&reply);
    return bytes;
}

/* What is refused is listed with the reasons, and the list is within serving.ingest_memory. */
static void test_lists_of_what_is_refused_are_bounded(void **state)
{
    (void)state;
    enum { REFUSED = 2000, LINE = 80 };
    char *body = malloc(REFUSED * LINE + 1);
    size_t length = 0;
    for (int i = 0; i < REFUSED; i++)
        length += (size_t)sprintf(body + length, "{\"shop\": \"x%d\"}\n", i);
    json_t *answer = post(DOOR, LINES, body, 422);
    json_t *events = json_object_get(answer, "events");
    assert_int_equal(json_array_size(events), REFUSED);
    for (size_t i = 0; i < REFUSED; i++)
        assert_true(json_string_length(json_object_get(json_array_get(events, i), "reason")) > 0);
    json_decref(answer);
    deployment_set(deployment, "serving", "ingest_memory", json_string("1 MiB"));
    serve_anew();
    int64_t before = topic_size();
    assert_problem(post(DOOR, LINES, body, 413), NULL, "more than serving.ingest_memory");
    length = 0; /* all or nothing: one bad event makes a list of all */
    for (int i = 0; i < REFUSED; i++)
        length += (size_t)sprintf(body + length, "%s\n", i == 0 ? "{}" : order("s", "1"));
    assert_problem(post(DOOR "?whole=1", LINES, body, 413), NULL,
                   "more than serving.ingest_memory");
    length = 0;
    for (int i = 0; i < REFUSED; i++)
        length += (size_t)sprintf(body + length, "{\"shop\": \"x%d\"}\n", i);
    char *end = body;
    for (int i = 0; i < 100; i++)
        end = strchr(end, '\n') + 1;
    *end = '\0';
    json_decref(post(DOOR, LINES, body, 422)); /* fewer */
    while (pending_bytes() > 0)                /* what was held is given back */
        stack_sleep_ms(20);
    assert_int_equal(topic_size(), before);
    free(body);
    json_object_del(json_object_get(deployment->settings, "serving"), "ingest_memory");
    serve_anew();
}

static void test_what_kafka_refuses(void **state)
{
    (void)state;
    enum { SIZE = 300000 };
    static char large[SIZE + 256];
    const char *topic = deployment_topic(deployment, "orders");
    int64_t before = topic_size();
    int length = snprintf(large, 256, "{\"at\":\"2026-01-05T10:20:00Z\",\"amount\":1,\"shop\":\"");
    uint32_t random = 1; /* lz4 cannot make it small */
    for (size_t i = 0; i < SIZE; i++) {
        random = random * 1664525 + 1013904223;
        large[(size_t)length + i] = (char)('a' + (random >> 16) % 26);
    }
    strcpy(large + length + SIZE, "\"}");
    broker_set_topic(topic, "max.message.bytes", "100000");
    json_t *problem = post(DOOR, JSON, large, 422);
    assert_number(problem, "refused", 1);
    json_t *event = json_array_get(json_object_get(problem, "events"), 0);
    assert_non_null(strstr(json_string_value(json_object_get(event, "reason")), "too large"));
    json_decref(problem);
    assert_int_equal(topic_size(), before);
    broker_set_topic(topic, "max.message.bytes", "1000000");
    json_decref(post(DOOR, JSON, large, 200));
    assert_int_equal(topic_size(), before + 1);
}

/* --- who --- */

#define PRODUCER "dvt_producer-01234567890123456789012345678901234"
#define READER "dvt_reader-0123456789012345678901234567890123456"
#define ANYTHING "dvt_anything-01234567890123456789012345678901234"

static json_t *token(const char *secret, const char *name, const char *write)
{
    unsigned char hash[32];
    char hex[65];
    char text[48];
    snprintf(text, sizeof text, "%.47s", secret);
    assert_int_equal(EVP_Digest(text, strlen(text), hash, NULL, EVP_sha256(), NULL), 1);
    for (size_t i = 0; i < sizeof hash; i++)
        snprintf(hex + 2 * i, 3, "%02x", hash[i]);
    json_t *entry = json_pack("{s:s, s:s, s:[]}", "name", name, "sha256", hex, "views");
    if (write != NULL)
        json_object_set_new(entry, "write",
                            write[0] == '*' ? json_string(write) : json_pack("[s]", write));
    return entry;
}

static void post_as(const char *secret, const char *target, int status)
{
    char line[128];
    const char *text = order("who", "1");
    snprintf(line, sizeof line, "Authorization: Bearer %.47s", secret);
    const char *const headers[] = {JSON, line, NULL};
    json_decref(post_with(target, headers, text, strlen(text), status));
}

static void test_who_may(void **state)
{
    (void)state;
    int64_t before = topic_size();
    json_object_del(json_object_get(deployment->settings, "serving"), "ingest");
    deployment_set(deployment, "batch", "threads", json_integer(1)); /* writes the file */
    serve_anew();
    assert_problem(post(DOOR, JSON, order("who", "1"), 403), NULL, "serving.ingest");
    assert_problem(post("/v1/sources/nothing/events", JSON, "{}", 403), NULL, "serving.ingest");
    /* With tokens it is they that say so, whatever serving.ingest is. */
    deployment_set(deployment, "serving", "ingest", json_true());
    deployment_set(deployment, "serving", "tokens",
                   json_pack("[o, o, o]", token(PRODUCER, "producer", "orders"),
                             token(READER, "reader", NULL), token(ANYTHING, "anything", "*")));
    serve_anew();
    assert_problem(post(DOOR, JSON, order("who", "1"), 401), NULL, "token");
    assert_int_equal(topic_size(), before);
    post_as(READER, DOOR, 403);
    post_as(PRODUCER, DOOR, 200);
    post_as(PRODUCER, "/v1/sources/others/events", 403);
    post_as(ANYTHING, DOOR, 200);
    post_as(ANYTHING, "/v1/sources/others/events", 404);
    assert_int_equal(topic_size(), before + 2);
    /* Writing is no reading. */
    struct http_reply reply;
    http_get(session, "/v1/views", &reply);
    assert_int_equal(reply.status, 401);
    http_reply_free(&reply);
    json_object_del(json_object_get(deployment->settings, "serving"), "tokens");
    deployment_set(deployment, "batch", "threads", json_integer(0));
    serve_anew();
}

static void test_metrics(void **state)
{
    (void)state;
    struct http_reply reply;
    serve_anew();
    json_decref(post(DOOR, LINES, "{}\n{}\n", 422));
    json_decref(post(DOOR, JSON, order("metric", "1"), 200));
    http_get(session, "/metrics", &reply);
    static const char *const lines[] = {
        "\ndovetail_ingest_events_total{door=\"http\",outcome=\"accepted\"} 1\n",
        "\ndovetail_ingest_events_total{door=\"http\",outcome=\"invalid\"} 2\n",
        "\ndovetail_ingest_events_total{door=\"udp\",outcome=\"overflow\"} 0\n",
        "\ndovetail_ingest_pending_bytes 0\n",
        "dovetail_http_requests_total{route=\"/v1/sources/{source}/events\",code=\"422\"} 1\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (strstr(reply.body, lines[i]) == NULL)
            fail_msg("%s is not in %s", lines[i], reply.body);
    http_reply_free(&reply);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals_are_dead_letters),
        cmocka_unit_test(test_read_your_writes),
        cmocka_unit_test(test_a_record_is_one_line),
        cmocka_unit_test(test_gzip),
        cmocka_unit_test(test_keys_as_produce_has_them),
        cmocka_unit_test(test_whole_or_nothing),
        cmocka_unit_test(test_requests_that_are_none),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_lists_of_what_is_refused_are_bounded),
        cmocka_unit_test(test_what_kafka_refuses),
        cmocka_unit_test(test_who_may),
        cmocka_unit_test(test_metrics),
    };
    return cmocka_run_group_tests(tests, ingest_set_up, ingest_tear_down);
}
