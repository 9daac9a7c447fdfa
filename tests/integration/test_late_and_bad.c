/* Late records and bad ones: nothing disappears.
 *
 * A record a year behind the watermark is in the very next answer. A record that cannot be counted
 * is in the dead-letter topic with its key, value, headers, origin and a reason, its neighbours are
 * counted as if it had never been there, and the ledger of every partition adds up to the log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/broker.h"
#include "tests/support/deployment.h"
#include "tests/support/http.h"
#include "tests/support/oracle.h"
#include "tests/support/sql_rows.h"
#include "tests/support/stack.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define BYTES(literal) .value = literal, .length = sizeof(literal) - 1

enum { PARTITIONS = 3, MEGABYTE = 1 << 20, LETTERS_MAX = 1000 };

static const int64_t second_us = 1000000;
static const int64_t base_s = 1767225600; /* 2026-01-01 */

/* --- the source, the views and their model --- */

static const char source_json[] =
    "{\"source\": \"readings\", \"partitions\": 3,"
    " \"event_time\": {\"field\": \"at\", \"format\": \"epoch_s\"},"
    " \"fields\": {\"at\": \"timestamp\", \"sensor\": \"string\", \"value\": \"decimal\","
    "  \"count\": {\"type\": \"integer\", \"nullable\": true},"
    "  \"label\": {\"type\": \"string\", \"nullable\": true},"
    "  \"ok\": {\"type\": \"boolean\", \"nullable\": true}}}";

struct reading {
    int64_t time_us;
    const char *sensor;
    int64_t cents;
    bool has_count;
    int64_t count;
    const char *label; /* NULL is NULL */
    bool is_false;     /* "ok": false */
};

static bool set_text(struct oracle_value *out, const char *text)
{
    *out = (struct oracle_value){.type = ORACLE_STRING,
                                 .is_null = text == NULL,
                                 .text = text,
                                 .length = text != NULL ? strlen(text) : 0};
    return text != NULL;
}

static void key_sensor(const void *event, struct oracle_value *out)
{
    set_text(out, ((const struct reading *)event)->sensor);
}

static void key_label(const void *event, struct oracle_value *out)
{
    set_text(out, ((const struct reading *)event)->label);
}

static bool any(const void *event, struct oracle_value *out)
{
    (void)event, (void)out;
    return true;
}

static bool value_of(const void *event, struct oracle_value *out)
{
    *out = (struct oracle_value){.type = ORACLE_DECIMAL,
                                 .number = ((const struct reading *)event)->cents};
    return true;
}

static bool count_of(const void *event, struct oracle_value *out)
{
    const struct reading *reading = event;
    *out = (struct oracle_value){.type = ORACLE_INTEGER, .number = reading->count};
    return reading->has_count;
}

static bool label_of(const void *event, struct oracle_value *out)
{
    return set_text(out, ((const struct reading *)event)->label);
}

static enum oracle_verdict by_sensor_verdict(const void *event)
{
    return ((const struct reading *)event)->is_false ? ORACLE_FILTERED : ORACLE_COUNTED;
}

/* Why the view by_label refuses a record; NULL: it does not. */
static const char *by_label_refusal(const struct reading *reading)
{
    if (reading->is_false)
        return NULL;
    if (reading->label != NULL && strlen(reading->label) > 2000)
        return "2000";
    if (reading->has_count && reading->count == 7)
        return "division by zero";
    return reading->has_count && reading->count < INT64_MIN + 7 ? "out of range" : NULL;
}

static enum oracle_verdict by_label_verdict(const void *event)
{
    const struct reading *reading = event;
    if (reading->is_false)
        return ORACLE_FILTERED;
    return by_label_refusal(reading) != NULL ? ORACLE_REJECTED : ORACLE_COUNTED;
}

static bool inverse_of(const void *event, struct oracle_value *out)
{
    const struct reading *reading = event;
    if (!reading->has_count)
        return false;
    *out = (struct oracle_value){.type = ORACLE_INTEGER, .number = 100 / (reading->count - 7)};
    return true;
}

static const struct oracle_view views[] = {
    {
        .name = "by_sensor",
        .json = "{\"view\": \"by_sensor\", \"source\": \"readings\","
                " \"where\": \"ok IS NOT FALSE\", \"group_by\": [\"sensor\"],"
                " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"},"
                " \"measures\": {\"n\": \"count(*)\", \"total\": \"sum(value)\","
                "  \"counts\": \"sum(count)\", \"first_label\": \"min(label)\","
                "  \"last_label\": \"max(label)\"}}",
        .window_us = 3600 * 1000000LL,
        .verdict = by_sensor_verdict,
        .keys = {{"sensor", key_sensor}},
        .key_count = 1,
        .measures = {{"n", ORACLE_COUNT, ORACLE_INTEGER, any},
                     {"total", ORACLE_SUM, ORACLE_DECIMAL, value_of},
                     {"counts", ORACLE_SUM, ORACLE_INTEGER, count_of},
                     {"first_label", ORACLE_MIN, ORACLE_STRING, label_of},
                     {"last_label", ORACLE_MAX, ORACLE_STRING, label_of}},
        .measure_count = 5,
    },
    {
        .name = "by_label",
        .json = "{\"view\": \"by_label\", \"source\": \"readings\","
                " \"where\": \"ok IS NOT FALSE\", \"group_by\": [\"label\"],"
                " \"window\": {\"type\": \"tumbling\", \"size\": \"1d\"},"
                " \"measures\": {\"n\": \"count(*)\", \"inverse\": \"max(100 / (count - 7))\"}}",
        .window_us = 86400 * 1000000LL,
        .verdict = by_label_verdict,
        .keys = {{"label", key_label}},
        .key_count = 1,
        .measures = {{"n", ORACLE_COUNT, ORACLE_INTEGER, any},
                     {"inverse", ORACLE_MAX, ORACLE_INTEGER, inverse_of}},
        .measure_count = 2,
    },
};

/* --- records as they are sent --- */

struct header {
    const char *name;
    const void *value; /* NULL: none */
    size_t length;
};

static const struct header headers[] = {
    {"trace", "4bf92f3577b34da6", 16}, {"empty", "", 0},      {"none", NULL, 0},
    {"bytes", "\x00\xff\x80", 3},      {"trace", "again", 5}, {"größe", "ü", 2},
};

struct sent {
    const char *name; /* for messages */
    char *key;        /* NULL: none; malloc'd */
    size_t key_length;
    char *value; /* NULL: a tombstone; malloc'd */
    size_t length;
    bool has_headers;
    const char *reason; /* of a dead letter: what it must say; NULL: it is counted or filtered */
    const char *view;   /* that refuses it; NULL: it is bad for all */
    struct oracle_record model;
    int partition;
    int64_t offset;
};

static struct sent *sent;
static size_t sent_count, sent_capacity;
static char *big; /* MEGABYTE letters */

static struct deployment *deployment;
static struct oracle *oracle;
static struct broker_producer *producer;
static struct http_session *session;

static void *copy_of(const void *data, size_t length)
{
    char *copy = malloc(length + 1);
    assert_non_null(copy);
    memcpy(copy, data, length);
    copy[length] = '\0';
    return copy;
}

static struct sent *add(const char *name, const void *value, size_t length)
{
    if (sent_count == sent_capacity) {
        sent_capacity = 2 * sent_capacity + 64;
        sent = realloc(sent, sent_capacity * sizeof *sent);
        assert_non_null(sent);
    }
    struct sent *record = &sent[sent_count];
    *record = (struct sent){.name = name, .partition = (int)(sent_count % PARTITIONS)};
    record->value = value != NULL ? copy_of(value, length) : NULL;
    record->length = value != NULL ? length : 0;
    record->model.outcome = ORACLE_IS_DEAD;
    sent_count++;
    return record;
}

/* Says what a record means. */
static void mean(struct sent *record, const struct reading *reading)
{
    record->model.event = copy_of(reading, sizeof *reading);
    record->model.time_us = reading->time_us;
    record->model.is_ahead = reading->time_us > (base_s + 100 * 365 * 86400LL) * second_us;
    record->model.outcome = reading->is_false ? ORACLE_IS_FILTERED : ORACLE_IS_COUNTED;
    record->reason = by_label_refusal(reading);
    if (record->reason != NULL) {
        record->model.outcome = ORACLE_IS_DEAD;
        record->view = "by_label";
        record->has_headers = true;
    }
}

/* An ordinary record. */
static void add_good(int64_t at_s)
{
    char value[256];
    int64_t number = (int64_t)sent_count;
    const struct reading reading = {.time_us = at_s * second_us,
                                    .sensor = number % 2 == 0 ? "even" : "odd",
                                    .cents = number * 7,
                                    .has_count = true,
                                    .count = number % 5,
                                    .label = "plain"};
    int length =
        snprintf(value, sizeof value,
                 "{\"at\":%" PRId64 ",\"sensor\":\"%s\",\"value\":%" PRId64 ".%02" PRId64
                 ",\"count\":%" PRId64 ",\"label\":\"plain\"}",
                 at_s, reading.sensor, reading.cents / 100, reading.cents % 100, reading.count);
    mean(add("an ordinary record", value, (size_t)length), &reading);
}

/* --- bad for every view --- */

#define READING "{\"at\":1767225600,\"sensor\":\"s\",\"value\":1"

static const struct {
    const char *value;
    size_t length;
    const char *reason;
} bad[] = {
    {BYTES(""), "empty"},
    {BYTES(" "), "JSON"},
    {BYTES("null"), "JSON"},
    {BYTES("true"), "JSON"},
    {BYTES("17"), "JSON"},
    {BYTES("\"a string\""), "JSON"},
    {BYTES("[" READING "}]"), "JSON"},
    {BYTES("rubbish"), "JSON"},
    {BYTES("\x00\x01\x02\xfe\xff\x80\x81"), "JSON"},
    {BYTES("\x1f\x8b\x08\x00\x00\x00\x00\x00"), "JSON"},
    {BYTES("\xef\xbb\xbf" READING "}"), "JSON"},
    {BYTES("\x00\x00\x00\x00\x07" READING "}"), "JSON"},          /* a schema registry's framing, */
    {BYTES("\x00\x00\x00\x00\x07\x02\x80\x01s\xac\x02"), "JSON"}, /* and what is mostly in it */
    {BYTES("Obj\x01\x04\x16"
           "avro.schema"),
     "JSON"},
    {BYTES("\xff\xfe{\x00}\x00"), "JSON"},
    {BYTES(READING), "JSON"},
    {BYTES(READING ",}"), "JSON"},
    {BYTES(READING "}}"), "JSON"},
    {BYTES(READING "} x"), "JSON"},
    {BYTES(READING "}" READING "}"), "JSON"},
    {BYTES(READING "\x00}"), "JSON"},
    {BYTES(READING "}\x00"), "JSON"},
    {BYTES(READING ",\"x\":\"a\x00z\"}"), "JSON"},
    {BYTES(READING ",\"x\":\"a\nz\"}"), "JSON"},
    {BYTES(READING ",\"x\":\"\xc3\x28\"}"), "JSON"},
    {BYTES(READING ",\"x\":\"\xed\xa0\x80\"}"), "JSON"},
    {BYTES(READING ",\"x\":\"\\x41\"}"), "JSON"},
    {BYTES(READING ",\"x\":\"\\u12g4\"}"), "JSON"},
    {BYTES(READING ",\"x\":'single'}"), "JSON"},
    {BYTES(READING ",\"x\":+1}"), "JSON"},
    {BYTES(READING ",\"x\":01}"), "JSON"},
    {BYTES(READING ",\"x\":.5}"), "JSON"},
    {BYTES(READING ",\"x\":1.}"), "JSON"},
    {BYTES(READING ",\"x\":0x10}"), "JSON"},
    {BYTES(READING ",\"x\":Infinity}"), "JSON"},
    {BYTES(READING ",\"x\":nul}"), "JSON"},
    {BYTES(READING ",\"x\":[1,2}"), "JSON"},
    {BYTES(READING ",\"x\" 1}"), "JSON"},
    {BYTES(READING ",x:1}"), "JSON"},
    {BYTES(READING ",/* comment */\"x\":1}"), "JSON"},
    {BYTES("{}"), "at"},
    {BYTES("{\"sensor\":\"s\",\"value\":1}"), "at"},
    {BYTES("{\"at\":1767225600,\"value\":1}"), "sensor"},
    {BYTES("{\"at\":1767225600,\"sensor\":\"s\"}"), "value"},
    {BYTES("{\"At\":1767225600,\"sensor\":\"s\",\"value\":1}"), "at"},
    {BYTES("{\"at\":null,\"sensor\":\"s\",\"value\":1}"), "at"},
    {BYTES("{\"at\":\"1767225600\",\"sensor\":\"s\",\"value\":1}"), "at"},
    {BYTES("{\"at\":\"2026-01-01T00:00:00Z\",\"sensor\":\"s\",\"value\":1}"), "at"},
    {BYTES("{\"at\":[1767225600],\"sensor\":\"s\",\"value\":1}"), "at"},
    {BYTES("{\"at\":1767225600000,\"sensor\":\"s\",\"value\":1}"), "at"},    /* milliseconds */
    {BYTES("{\"at\":1767225600000000,\"sensor\":\"s\",\"value\":1}"), "at"}, /* microseconds */
    {BYTES("{\"at\":-62135596801,\"sensor\":\"s\",\"value\":1}"), "at"},     /* year 0 */
    {BYTES("{\"at\":253402300800,\"sensor\":\"s\",\"value\":1}"), "at"},     /* year 10000 */
    {BYTES("{\"at\":9223372036854775808,\"sensor\":\"s\",\"value\":1}"), "at"},
    {BYTES("{\"at\":1e400,\"sensor\":\"s\",\"value\":1}"), "at"},
    {BYTES("{\"at\":1767225600,\"sensor\":5,\"value\":1}"), "sensor"},
    {BYTES("{\"at\":1767225600,\"sensor\":{\"name\":\"s\"},\"value\":1}"), "sensor"},
    {BYTES("{\"at\":1767225600,\"sensor\":\"a\\u0000b\",\"value\":1}"), "sensor"},
    {BYTES("{\"at\":1767225600,\"sensor\":\"\\ud800\",\"value\":1}"), "JSON"},
    {BYTES("{\"at\":1767225600,\"sensor\":\"s\",\"value\":\"1\"}"), "value"},
    {BYTES("{\"at\":1767225600,\"sensor\":\"s\",\"value\":true}"), "value"},
    {BYTES("{\"at\":1767225600,\"sensor\":\"s\",\"value\":1e100}"), "value"},
    {BYTES("{\"at\":1767225600,\"sensor\":\"s\",\"value\":1e-100}"), "value"},
    {BYTES("{\"at\":1767225600,\"sensor\":\"s\",\"value\":1e999999999999}"), "value"},
    {BYTES("{\"at\":1767225600,\"sensor\":\"s\","
           "\"value\":1234567890123456789012345678901234567890}"),
     "value"},
    {BYTES(READING ",\"count\":1.0}"), "count"},
    {BYTES(READING ",\"count\":1e3}"), "count"},
    {BYTES(READING ",\"count\":9223372036854775808}"), "count"},
    {BYTES(READING ",\"count\":-9223372036854775809}"), "count"},
    {BYTES(READING ",\"count\":\"\"}"), "count"},
    {BYTES(READING ",\"label\":1}"), "label"},
    {BYTES(READING ",\"ok\":\"false\"}"), "ok"},
    {BYTES(READING ",\"ok\":0}"), "ok"},
    {BYTES(READING ",\"count\":1,\"count\":\"the last one counts\"}"), "count"},
};

static void add_bad(void)
{
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct sent *record =
            add(bad[i].length < 200 ? bad[i].value : "long", bad[i].value, bad[i].length);
        record->reason = bad[i].reason;
        record->has_headers = i % 2 == 0;
        if (i % 3 == 0) {
            record->key_length = i % 2 == 0 ? 6 : 4;
            record->key = copy_of(i % 2 == 0 ? "東京" : "\x00\xff\n ", record->key_length);
        } else if (i % 3 == 1) {
            record->key = copy_of("", 0); /* an empty key is not no key */
        }
        add_good(base_s + (int64_t)i);
    }
    add("a tombstone", NULL, 0)->reason = "value";
    sent[sent_count - 1].key = copy_of("gone", 4);
    sent[sent_count - 1].key_length = 4;
    add("a tombstone without a key", NULL, 0)->reason = "value";
    add_good(base_s);
}

/* `count` times `text` around `inside`. */
static char *nested(const char *open, const char *inside, const char *close, int count)
{
    char *text = malloc(2 * (size_t)count + strlen(inside) + 1);
    assert_non_null(text);
    memset(text, open[0], (size_t)count);
    strcpy(text + count, inside);
    char *end = text + strlen(text);
    memset(end, close[0], (size_t)count);
    end[count] = '\0';
    return text;
}

static void add_big_and_deep(void)
{
    char *text = NULL, *deep = nested("[", "1", "]", 100000);
    big = malloc(MEGABYTE + 1);
    assert_non_null(big);
    memset(big, 'x', MEGABYTE);
    big[MEGABYTE] = '\0';

    assert_true(asprintf(&text, READING ",\"deep\":%s}", deep) > 0);
    add("100,000 arrays deep", text, strlen(text))->reason = "nested";
    free(text);
    free(deep);
    deep = nested("[", "", "]", 200);
    assert_true(asprintf(&text, READING ",\"label\":\"deep\",\"deep\":%s}", deep) > 0);
    struct reading reading = {.time_us = base_s * second_us, .sensor = "s", .cents = 100};
    reading.label = "deep";
    mean(add("200 arrays deep", text, strlen(text)), &reading);
    free(text);
    free(deep);

    assert_true(asprintf(&text, READING ",\"label\":\"b\",\"unused\":\"%s\"}", big) > 0);
    reading.label = "b";
    mean(add("a megabyte in an unused field", text, strlen(text)), &reading);
    free(text);
    add_good(base_s);
    char *ten = malloc(10 * (size_t)MEGABYTE + 1);
    assert_non_null(ten);
    memset(ten, 'y', 10 * (size_t)MEGABYTE);
    ten[10 * (size_t)MEGABYTE] = '\0';
    assert_true(asprintf(&text, READING ",\"label\":\"ten\",\"unused\":\"%s\"}", ten) > 0);
    free(ten);
    reading.label = "ten";
    mean(add("ten megabytes in an unused field", text, strlen(text)), &reading);
    free(text);
    add_good(base_s);
    assert_true(asprintf(&text, READING ",\"label\":\"%s\"}", big) > 0);
    reading.label = big;
    mean(add("a megabyte as a key and as a measure", text, strlen(text)), &reading);
    free(text);
    add_good(base_s);
    assert_true(asprintf(&text, READING ",\"unused\":\"%s\"", big) > 0);
    add("a megabyte of bad JSON", text, strlen(text))->reason = "JSON";
    free(text);
    assert_true(asprintf(&text, READING ",\"unused\":[\"%s\",\"%s\",\"%s\"]", big, big, big) > 0);
    add("three megabytes of bad JSON", text, strlen(text))->reason = "JSON";
    free(text);
    add_good(base_s);
}

/* Odd, but right. */
static void add_odd(void)
{
    static const struct {
        const char *value;
        struct reading reading;
    } odd[] = {
        {READING ",\"label\":\"first\",\"label\":\"second\"}", {.label = "second"}},
        {"{\"value\":\"no\",\"sensor\":7,\"at\":[]" /* replaced by later members */
         ",\"at\":1767225600,\"sensor\":\"s\",\"value\":1}",
         {.label = NULL}},
        {READING ",\"unused\":\"\\u0000\",\"label\":\"nul is elsewhere\"}",
         {.label = "nul is elsewhere"}},
        {READING ",\"\":1,\"\\u0000\":2,\"label\":\"odd names\"}", {.label = "odd names"}},
        {" \t\r\n{ \"at\" : 1767225600 , \"sensor\":\"s\",\"value\":1 }\n", {.label = NULL}},
        {"{\"\\u0061t\":1767225600,\"sensor\":\"\\u0073\",\"value\":1}", {.label = NULL}},
        {READING ",\"label\":\"\\ud83d\\ude00 \\\"\\\\\\/\\b\\f\\n\\r\\t\"}",
         {.label = "😀 \"\\/\b\f\n\r\t"}},
        {READING ",\"label\":\"\xf0\x9f\x98\x80\"}", {.label = "😀"}},
        {READING ",\"label\":\"\"}", {.label = ""}},
        {READING ",\"label\":null,\"count\":null,\"ok\":null}", {.label = NULL}},
        {READING ",\"count\":9223372036854775807,\"label\":\"most\"}",
         {.label = "most", .has_count = true, .count = INT64_MAX}},
        {READING ",\"count\":-9223372036854775808,\"label\":\"least\"}",
         {.label = "least", .has_count = true, .count = INT64_MIN}},
        {READING ",\"count\":-0,\"label\":\"zero\"}",
         {.label = "zero", .has_count = true, .count = 0}},
        {READING ",\"ok\":false}", {.is_false = true}},
        {READING ",\"ok\":true,\"label\":\"t\"}", {.label = "t"}},
    };
    for (size_t i = 0; i < COUNT(odd); i++) {
        struct reading reading = odd[i].reading;
        reading.time_us = base_s * second_us;
        reading.sensor = "s";
        reading.cents = 100;
        mean(add(odd[i].value, odd[i].value, strlen(odd[i].value)), &reading);
        add_good(base_s + 10);
    }
    static const struct {
        const char *at;
        int64_t time_us;
    } times[] = {
        {"-62135596800", INT64_C(-62135596800000000)},        /* the first moment of year 1 */
        {"253402300799.999999", INT64_C(253402300799999999)}, /* the last one of 9999 */
        {"-0.5", -500000},
        {"1767225600.1234567", INT64_C(1767225600123456)},
        {"17672256e2", INT64_C(1767225600000000)},
    };
    for (size_t i = 0; i < COUNT(times); i++) {
        char text[128];
        const struct reading reading = {
            .time_us = times[i].time_us, .sensor = "time", .cents = -1, .label = "time"};
        snprintf(text, sizeof text,
                 "{\"at\":%s,\"sensor\":\"time\",\"value\":-0.01,\"label\":\"time\"}", times[i].at);
        mean(add(times[i].at, text, strlen(text)), &reading);
    }
    /* One view's expression fails; the other one counts the record. */
    const char *fails = READING ",\"count\":7,\"label\":\"division\"}";
    const struct reading reading = {.time_us = base_s * second_us,
                                    .sensor = "s",
                                    .cents = 100,
                                    .has_count = true,
                                    .count = 7,
                                    .label = "division"};
    mean(add("division by zero in one view", fails, strlen(fails)), &reading);
    add_good(base_s);
}

/* --- sending and asking --- */

static void delivered(void *opaque, int32_t partition, int64_t offset, const char *error)
{
    struct sent *record = &sent[(size_t)opaque - 1];
    if (error != NULL)
        fail_msg("%s: %s", record->name, error);
    record->partition = partition;
    record->offset = offset;
    oracle_add(oracle, partition, offset, &record->model);
}

static rd_kafka_headers_t *make_headers(void)
{
    rd_kafka_headers_t *list = rd_kafka_headers_new(COUNT(headers));
    for (size_t i = 0; i < COUNT(headers); i++)
        rd_kafka_header_add(list, headers[i].name, -1, headers[i].value,
                            (ssize_t)headers[i].length);
    return list;
}

/* Sends what was added since the last time. */
static void send_new(void)
{
    static size_t next;
    const char *topic = deployment_topic(deployment, "readings");
    for (; next < sent_count; next++) {
        const struct sent *record = &sent[next];
        if (!broker_produce(producer, topic, record->partition, record->key, record->key_length,
                            record->value, record->length,
                            record->has_headers ? make_headers() : NULL, (void *)(next + 1)))
            fail_msg("%s: %s", record->name, broker_problem(producer));
    }
    if (!broker_flush(producer))
        fail_msg("%s", broker_problem(producer));
}

/* The answer that has everything sent so far. */
static void ask(const struct oracle_query *query, struct http_reply *reply)
{
    int64_t ends[ORACLE_PARTITIONS];
    char demand[300], *escaped, *target = oracle_target(query), *whole = NULL;
    oracle_ends(oracle, ends);
    snprintf(demand, sizeof demand, "{\"%s\":[%" PRId64 ",%" PRId64 ",%" PRId64 "]}",
             deployment_topic(deployment, "readings"), ends[0], ends[1], ends[2]);
    escaped = http_escape(demand, strlen(demand));
    assert_true(asprintf(&whole, "%s%cat_least=%s&wait_ms=30000", target,
                         strchr(target, '?') == NULL ? '?' : '&', escaped) > 0);
    http_get(session, whole, reply);
    if (reply->status != 200) {
        children_show();
        fail_msg("%s: %d %s", whole, reply->status, reply->body);
    }
    free(escaped);
    free(whole);
    free(target);
}

/* Everything of both views over HTTP; by_sensor over SQL as well. */
static void check_answers(void)
{
    char problem[4096];
    for (size_t i = 0; i < COUNT(views); i++) {
        const struct oracle_query query = {.view = &views[i]};
        struct http_reply reply;
        ask(&query, &reply);
        if (!oracle_check(oracle, &query, reply.body, problem, sizeof problem))
            fail_msg("%s", problem);
        http_reply_free(&reply);
    }
    struct oracle_receipt receipt;
    char *rows = NULL;
    size_t count;
    const struct oracle_query query = {.view = &views[0]};
    struct sql_session *sql =
        sql_session_create(deployment->postgres, deployment_topic(deployment, "readings"));
    if (!sql_read_view(sql, &views[0], &receipt, &rows, problem, sizeof problem))
        fail_msg("%s", problem);
    char *expected = oracle_rows(oracle, &query, &receipt, &count);
    if (oracle_difference(expected, rows, problem, sizeof problem))
        fail_msg("SQL: %s", problem);
    free(expected);
    free(rows);
    sql_session_destroy(sql);
}

static void verify_all(void)
{
    for (size_t i = 0; i < COUNT(views); i++) {
        struct child *child =
            deployment_run(deployment, 0, "dovetail", "verify", views[i].name, NULL);
        if (strstr(child_output(child), "identical") == NULL)
            fail_msg("dovetail verify %s: %s", views[i].name, child_output(child));
    }
}

/* --- the ledger --- */

static void check_number(const json_t *ledger, const char *name, int64_t expected, int partition)
{
    const json_t *number = json_object_get(ledger, name);
    if (!json_is_integer(number) || json_integer_value(number) != expected)
        fail_msg("partition %d: %s is %" JSON_INTEGER_FORMAT ", not %" PRId64, partition, name,
                 json_integer_value(number), expected);
}

/* consumed = counted + filtered + duplicate + dead-lettered = the records of the log. */
static void check_ledger(const json_t *ledger, int partition)
{
    struct oracle_ledger wanted = oracle_ledger(oracle, partition, INT64_MAX);
    check_number(ledger, "consumed", wanted.consumed, partition);
    check_number(ledger, "counted", wanted.counted, partition);
    check_number(ledger, "filtered", wanted.filtered, partition);
    check_number(ledger, "duplicate", 0, partition);
    check_number(ledger, "dead_lettered", wanted.dead_lettered, partition);
    assert_int_equal(wanted.consumed,
                     broker_end(deployment_topic(deployment, "readings"), partition));
    assert_int_equal(wanted.consumed, wanted.counted + wanted.filtered + wanted.dead_lettered);
}

static void check_status(void)
{
    struct child *child =
        deployment_run(deployment, 0, "dovetail", "status", "--format", "json", NULL);
    json_t *json = json_loads(child_output(child), 0, NULL);
    const json_t *partitions = json_object_get(json, "partitions");
    assert_int_equal(json_array_size(partitions), PARTITIONS);
    for (int p = 0; p < PARTITIONS; p++) {
        const json_t *partition = json_array_get(partitions, (size_t)p);
        assert_int_equal(json_integer_value(json_object_get(partition, "partition")), p);
        assert_int_equal(json_integer_value(json_object_get(partition, "lag")), 0);
        check_ledger(json_object_get(partition, "ledger"), p);
        assert_true(
            json_is_true(json_object_get(json_object_get(partition, "ledger"), "balanced")));
    }
    json_decref(json);

    struct http_reply reply;
    http_get(session, "/v1/status", &reply);
    assert_int_equal(reply.status, 200);
    json = http_reply_json(&reply);
    partitions = json_object_get(json_array_get(json_object_get(json, "sources"), 0), "partitions");
    assert_int_equal(json_array_size(partitions), PARTITIONS);
    for (int p = 0; p < PARTITIONS; p++)
        check_ledger(json_object_get(json_array_get(partitions, (size_t)p), "ledger"), p);
    json_decref(json);
    http_reply_free(&reply);

    child = deployment_run(deployment, 0, "dovetail", "status", NULL);
    assert_non_null(strstr(child_output(child), "consumed"));
}

/* --- dead letters --- */

static bool header_text(const rd_kafka_message_t *letter, size_t index, const char *name, char *out,
                        size_t size)
{
    rd_kafka_headers_t *list = NULL;
    const void *value;
    size_t length;
    if (rd_kafka_message_headers(letter, &list) != RD_KAFKA_RESP_ERR_NO_ERROR ||
        rd_kafka_header_get(list, index, name, &value, &length) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return false;
    snprintf(out, size, "%.*s", (int)length, value != NULL ? (const char *)value : "");
    return true;
}

static bool same_bytes(const void *a, size_t a_length, const void *b, size_t b_length)
{
    if (a == NULL || b == NULL)
        return a == b;
    return a_length == b_length && memcmp(a, b, a_length) == 0;
}

/* The record's own headers come first, as they were. */
static void check_own_headers(const struct sent *record, const rd_kafka_message_t *letter)
{
    rd_kafka_headers_t *list = NULL;
    const char *name;
    const void *value;
    size_t length, own = record->has_headers ? COUNT(headers) : 0;
    if (rd_kafka_message_headers(letter, &list) != RD_KAFKA_RESP_ERR_NO_ERROR)
        fail_msg("%s: its letter has no headers", record->name);
    for (size_t i = 0; i < own; i++) {
        if (rd_kafka_header_get_all(list, i, &name, &value, &length) !=
                RD_KAFKA_RESP_ERR_NO_ERROR ||
            strcmp(name, headers[i].name) != 0 ||
            !same_bytes(value, length, headers[i].value, headers[i].length))
            fail_msg("%s: header %zu (%s) of its letter is not the record's", record->name, i,
                     headers[i].name);
    }
    for (size_t i = own;
         rd_kafka_header_get_all(list, i, &name, &value, &length) == RD_KAFKA_RESP_ERR_NO_ERROR;
         i++)
        if (strncmp(name, "dovetail.", 9) != 0)
            fail_msg("%s: its letter has a header %s too many", record->name, name);
}

static void check_letter(const struct sent *record, const rd_kafka_message_t *letter)
{
    char text[1200];
    if (!same_bytes(letter->key, letter->key_len, record->key, record->key_length))
        fail_msg("%s: its letter has another key", record->name);
    if (!same_bytes(letter->payload, letter->len, record->value, record->length))
        fail_msg("%s: its letter has another value", record->name);
    check_own_headers(record, letter);
    if (!header_text(letter, 0, "dovetail.reason", text, sizeof text) ||
        strstr(text, record->reason) == NULL)
        fail_msg("%s: the reason \"%s\" does not name \"%s\"", record->name, text, record->reason);
    bool has_view = header_text(letter, 0, "dovetail.view", text, sizeof text);
    if (has_view != (record->view != NULL) || (has_view && strcmp(text, record->view) != 0))
        fail_msg("%s: refused by %s, not %s", record->name, has_view ? text : "all views",
                 record->view != NULL ? record->view : "all views");
    for (int i = 0; i < 2; i++) { /* each once */
        assert_int_equal(header_text(letter, (size_t)i, "dovetail.timestamp", text, sizeof text),
                         i == 0);
        assert_int_equal(header_text(letter, (size_t)i, "dovetail.reason", text, sizeof text),
                         i == 0);
    }
}

/* Index into sent of the record that a letter is about; fails where there is none. */
static size_t origin_of(const rd_kafka_message_t *letter)
{
    char topic[300] = "", partition[32] = "", offset[32] = "";
    header_text(letter, 0, "dovetail.topic", topic, sizeof topic);
    header_text(letter, 0, "dovetail.partition", partition, sizeof partition);
    header_text(letter, 0, "dovetail.offset", offset, sizeof offset);
    assert_string_equal(topic, deployment_topic(deployment, "readings"));
    for (size_t i = 0; i < sent_count; i++)
        if (sent[i].partition == atoi(partition) && sent[i].offset == atoll(offset))
            return i;
    fail_msg("a letter is about partition %s, offset %s, where there is no record", partition,
             offset);
    return 0;
}

static size_t check_letters(void)
{
    struct broker_records letters;
    bool *found = calloc(sent_count, sizeof *found);
    size_t dead = 0;
    char topic[300];
    assert_non_null(found);
    snprintf(topic, sizeof topic, "%s.dead", deployment_topic(deployment, "readings"));
    broker_read(topic, &letters);
    for (size_t i = 0; i < letters.count; i++) {
        size_t index = origin_of(letters.items[i]);
        if (sent[index].reason == NULL)
            fail_msg("%s: it is right, and yet a dead letter", sent[index].name);
        check_letter(&sent[index], letters.items[i]);
        found[index] = true; /* at least once: a crash may repeat a letter */
    }
    for (size_t i = 0; i < sent_count; i++) {
        dead += sent[i].reason != NULL;
        if (sent[i].reason != NULL && !found[i])
            fail_msg("%s: it cannot be counted, and there is no dead letter", sent[i].name);
    }
    broker_records_free(&letters);
    free(found);
    return dead;
}

/* --- the tests --- */

static struct child *speed;

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    deployment_define_source(deployment, source_json);
    for (size_t i = 0; i < COUNT(views); i++)
        deployment_define_view(deployment, views[i].json);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_serve(deployment);
    oracle = oracle_create(deployment_topic(deployment, "readings"), PARTITIONS, free);
    producer = broker_producer_create(NULL, delivered);
    session = http_session_create(deployment->port);
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    broker_producer_destroy(producer);
    http_session_destroy(session);
    oracle_destroy(oracle);
    deployment_destroy(deployment);
    for (size_t i = 0; i < sent_count; i++) {
        free(sent[i].key);
        free(sent[i].value);
    }
    free(sent);
    free(big);
    return 0;
}

static void check_everything(void)
{
    check_answers();
    check_status();
    (void)check_letters();
    verify_all();
    children_must_run(&speed, 1);
}

static void bad_records_are_kept_and_neighbours_are_counted(void **state)
{
    (void)state;
    add_good(base_s);
    add_bad();
    add_big_and_deep();
    add_odd();
    send_new();
    check_everything();
    print_message("%zu records, of which %zu are dead letters\n", sent_count, check_letters());
}

static void the_batch_layer_judges_alike(void **state)
{
    (void)state;
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    assert_int_equal(deployment_number(deployment, "SELECT run FROM dovetail_internal.current_run"),
                     1);
    check_everything();
    struct http_reply reply;
    const struct oracle_query query = {.view = &views[0], .layer = ORACLE_BATCH};
    char problem[4096];
    ask(&query, &reply);
    if (!oracle_check(oracle, &query, reply.body, problem, sizeof problem))
        fail_msg("%s", problem);
    http_reply_free(&reply);
}

/* Before the batch's cut-off in time, behind it in the log. */
static void a_year_late_is_in_the_next_answer(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct oracle_query query = {.view = &views[0], .has_to = true};
        struct oracle_answer answer;
        struct http_reply reply;
        char problem[4096];
        query.to_us = (base_s - 300 * 86400) * second_us;
        add_good(base_s - 365 * 86400 + round);
        if (round % 4 == 0)
            add_good(base_s - 364 * 86400);
        send_new();
        ask(&query, &reply);
        if (!oracle_check(oracle, &query, reply.body, problem, sizeof problem) ||
            !oracle_read_answer(oracle, &query, reply.body, &answer, problem, sizeof problem))
            fail_msg("%s", problem);
        if (strstr(answer.rows, "2025-01-01T00:00:00Z") == NULL ||
            strstr(answer.rows, "provisional") != NULL)
            fail_msg("%s", answer.rows);
        free(answer.rows);
        http_reply_free(&reply);
        if (round == 10)
            deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    }
    check_everything();
}

/* The same records again after a restart from nothing but what PostgreSQL has. */
static void a_killed_speed_layer_loses_no_letter(void **state)
{
    (void)state;
    child_kill(speed);
    size_t before = sent_count;
    for (size_t i = 0; i < 30; i++) {
        struct sent *record = add(bad[i].value, bad[i].value, bad[i].length);
        record->reason = bad[i].reason;
        add_good(base_s + 7200);
    }
    send_new();
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    for (int i = 0; i < 3; i++) {
        stack_sleep_ms(50); /* wherever it may be by then */
        child_kill(speed);
        speed = deployment_start(deployment, "dovetail-speed", NULL);
    }
    check_everything();
    assert_int_equal(sent_count, before + 60);
    child_stop(speed);
    child_stop(deployment->serving);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_records_are_kept_and_neighbours_are_counted),
        cmocka_unit_test(the_batch_layer_judges_alike),
        cmocka_unit_test(a_year_late_is_in_the_next_answer),
        cmocka_unit_test(a_killed_speed_layer_loses_no_letter),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
