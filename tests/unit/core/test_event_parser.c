/* core/records/event_parser.h: the fields of a record, and why a record has none. */
#include "tests/support/event_parser_fixture.h"

static void test_reads_a_flight(void **state)
{
    (void)state;
    struct event_parser *parser = parser_for(&flights);
    struct event event;
    static const char *const orders[] = {
        "{\"time\":\"2001-01-01T00:01:00Z\",\"delay\":-33,\"distance\":2176,\"origin\":\"LAS\"}",
        "{\"origin\":\"LAS\",\"distance\":2176,\"unknown\":{\"time\":1},\"delay\":-33,"
        "\"time\":\"2001-01-01T00:01:00Z\"}",
        "{ \"\\u0064elay\" : -33 , \"times\":[\"time\"], \"tim\":0,\"distance\" : 2176,\n"
        "\"origin\":\"\\u004cAS\",\"time\":\"2001-01-01T00:01:00\\u005a\"}",
    };
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < COUNT(orders); i++) {
            accept_with(parser, orders[i], &event);
            assert_true(event.time_us == INT64_C(978307260000000));
            assert_int_equal(event.fields[0].type, VALUE_TIMESTAMP);
            assert_true(event.fields[0].timestamp_us == event.time_us);
            assert_int_equal(event.fields[1].integer, -33);
            assert_false(event.fields[1].is_null);
            assert_int_equal(event.fields[2].integer, 2176);
            assert_string(&event.fields[3], "LAS");
        }
    }
    event_parser_destroy(parser);
}

static void test_null_and_missing(void **state)
{
    (void)state;
    struct event_parser *parser = parser_for(&flights);
    struct event event;
    accept_with(
        parser,
        "{\"time\":\"2001-01-01T00:00:00Z\",\"delay\":null,\"distance\":1,\"origin\":\"A\"}",
        &event);
    assert_true(event.fields[1].is_null);
    assert_int_equal(event.fields[1].type, VALUE_INTEGER);
    accept_with(parser, "{\"time\":\"2001-01-01T00:00:00Z\",\"distance\":1,\"origin\":\"A\"}",
                &event);
    assert_true(event.fields[1].is_null);
    reject_with(parser, "{\"time\":\"2001-01-01T00:00:00Z\",\"origin\":\"A\"}",
                "field \"distance\": missing");
    reject_with(parser, "{\"time\":\"2001-01-01T00:00:00Z\",\"distance\":null,\"origin\":\"A\"}",
                "field \"distance\": null, but not nullable");
    reject_with(parser, "{}", "field \"time\": missing");
    event_parser_destroy(parser);
}

static const struct source_field typed_fields[] = {
    FIELD("t", VALUE_INTEGER, TIME_RFC3339, false, "t"),
    FIELD("s", VALUE_STRING, TIME_RFC3339, true, "s"),
    FIELD("i", VALUE_INTEGER, TIME_RFC3339, true, "i"),
    FIELD("d", VALUE_DECIMAL, TIME_RFC3339, true, "d"),
    FIELD("b", VALUE_BOOLEAN, TIME_RFC3339, true, "b"),
    FIELD("r", VALUE_TIMESTAMP, TIME_RFC3339, true, "r"),
    FIELD("es", VALUE_TIMESTAMP, TIME_EPOCH_S, true, "es"),
    FIELD("ems", VALUE_TIMESTAMP, TIME_EPOCH_MS, true, "ems"),
    FIELD("eus", VALUE_TIMESTAMP, TIME_EPOCH_US, true, "eus"),
};
static const struct source typed = SOURCE(0, TIME_EPOCH_MS, typed_fields);
enum { FIELD_T, FIELD_S, FIELD_I, FIELD_D, FIELD_B, FIELD_R, FIELD_ES, FIELD_EMS, FIELD_EUS };

static const struct value *typed_value(struct event_parser *parser, int field, const char *json)
{
    char record[512];
    snprintf(record, sizeof record, "{\"t\":1500,\"%s\":%s}", typed_fields[field].name, json);
    struct event event;
    accept_with(parser, record, &event);
    assert_int_equal(event.time_us, 1500000);
    assert_false(event.fields[field].is_null);
    assert_int_equal(event.fields[field].type, typed_fields[field].type);
    return &event.fields[field];
}

static void typed_reject(struct event_parser *parser, int field, const char *json,
                         const char *reason)
{
    char record[512];
    char text[256];
    snprintf(record, sizeof record, "{\"t\":1500,\"%s\":%s}", typed_fields[field].name, json);
    snprintf(text, sizeof text, "field \"%s\": %s", typed_fields[field].name, reason);
    reject_with(parser, record, text);
}

static void test_integers(void **state)
{
    (void)state;
    struct event_parser *parser = parser_for(&typed);
    assert_int_equal(typed_value(parser, FIELD_I, "0")->integer, 0);
    assert_int_equal(typed_value(parser, FIELD_I, "-0")->integer, 0);
    assert_int_equal(typed_value(parser, FIELD_I, " 42 ")->integer, 42);
    assert_true(typed_value(parser, FIELD_I, "9223372036854775807")->integer == INT64_MAX);
    assert_true(typed_value(parser, FIELD_I, "-9223372036854775808")->integer == INT64_MIN);
    typed_reject(parser, FIELD_I, "9223372036854775808", "out of range");
    typed_reject(parser, FIELD_I, "-9223372036854775809", "out of range");
    typed_reject(parser, FIELD_I, "9999999999999999999", "out of range");
    typed_reject(parser, FIELD_I, "18446744073709551616", "out of range");
    typed_reject(parser, FIELD_I, "100000000000000000000000", "out of range");
    typed_reject(parser, FIELD_I, "1.0", "wants an integer, got a number with a fraction");
    typed_reject(parser, FIELD_I, "1e2", "wants an integer, got a number with a fraction");
    typed_reject(parser, FIELD_I, "\"1\"", "wants an integer, got a string");
    typed_reject(parser, FIELD_I, "true", "wants an integer, got a boolean");
    typed_reject(parser, FIELD_I, "{}", "wants an integer, got an object");
    typed_reject(parser, FIELD_I, "[1]", "wants an integer, got an array");
    event_parser_destroy(parser);
}

static void assert_decimal(const struct value *value, const char *expected)
{
    char text[DECIMAL_TEXT_SIZE];
    decimal_format(&value->decimal, text, sizeof text);
    assert_string_equal(text, expected);
}

static void test_decimals(void **state)
{
    (void)state;
    struct event_parser *parser = parser_for(&typed);
    assert_decimal(typed_value(parser, FIELD_D, "0.10"), "0.10");
    assert_decimal(typed_value(parser, FIELD_D, "-12"), "-12");
    assert_decimal(typed_value(parser, FIELD_D, "1.5e3"), "1500");
    assert_decimal(typed_value(parser, FIELD_D, "12345678901234567890123456789012345678"),
                   "12345678901234567890123456789012345678");
    typed_reject(parser, FIELD_D, "1e999", decimal_status_text(DECIMAL_OVERFLOW));
    typed_reject(parser, FIELD_D, "1e-39", decimal_status_text(DECIMAL_OVERFLOW));
    typed_reject(parser, FIELD_D, "\"1.5\"", "wants a number, got a string");
    typed_reject(parser, FIELD_D, "false", "wants a number, got a boolean");
    event_parser_destroy(parser);
}

static void test_booleans_and_strings(void **state)
{
    (void)state;
    struct event_parser *parser = parser_for(&typed);
    assert_true(typed_value(parser, FIELD_B, "true")->boolean);
    assert_false(typed_value(parser, FIELD_B, "false")->boolean);
    typed_reject(parser, FIELD_B, "1", "wants a boolean, got a number");
    typed_reject(parser, FIELD_B, "\"true\"", "wants a boolean, got a string");
    assert_string(typed_value(parser, FIELD_S, "\"\""), "");
    assert_string(typed_value(parser, FIELD_S, "\"sixteen bytes ok\""), "sixteen bytes ok");
    assert_string(typed_value(parser, FIELD_S, "\"seventeen bytes..\""), "seventeen bytes..");
    assert_string(typed_value(parser, FIELD_S, "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""),
                  "\"\\/\b\f\n\r\t");
    assert_string(
        typed_value(parser, FIELD_S, "\"\\u007f\\u0080\\u07FF\\u0800\\uffff\\uD834\\uDD1E\""),
        "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x9d\x84\x9e");
    assert_string(typed_value(parser, FIELD_S, "\"\xc3\xa9\\\\\""), "\xc3\xa9\\");
    typed_reject(parser, FIELD_S, "\"a\\u0000b\"", "contains U+0000");
    typed_reject(parser, FIELD_S, "1", "wants a string, got a number");
    typed_reject(parser, FIELD_S, "[]", "wants a string, got an array");
    event_parser_destroy(parser);
}

static void test_timestamps(void **state)
{
    (void)state;
    struct event_parser *parser = parser_for(&typed);
    assert_true(typed_value(parser, FIELD_R, "\"1970-01-01T01:00:01.5+01:00\"")->timestamp_us ==
                1500000);
    typed_reject(parser, FIELD_R, "\"yesterday\"", "not an RFC 3339 time");
    typed_reject(parser, FIELD_R, "\"2001-02-30T00:00:00Z\"", "not an RFC 3339 time");
    typed_reject(parser, FIELD_R, "\"2001-02-03T00:00:00Z\\u0000\"", "not an RFC 3339 time");
    typed_reject(parser, FIELD_R, "\"0000-12-31T23:59:59Z\"", "a time outside");
    typed_reject(parser, FIELD_R, "1", "wants an RFC 3339 time in a string, got a number");
    assert_true(typed_value(parser, FIELD_ES, "1")->timestamp_us == 1000000);
    assert_true(typed_value(parser, FIELD_ES, "1.5")->timestamp_us == 1500000);
    assert_true(typed_value(parser, FIELD_ES, "-1e-6")->timestamp_us == -1);
    assert_true(typed_value(parser, FIELD_EMS, "1.5")->timestamp_us == 1500);
    assert_true(typed_value(parser, FIELD_EUS, "-7")->timestamp_us == -7);
    assert_true(typed_value(parser, FIELD_ES, "1e3")->timestamp_us == 1000000000);
    typed_reject(parser, FIELD_ES, "253402300800", "a time outside");
    typed_reject(parser, FIELD_ES, "9223372036854775807", "a time outside");
    typed_reject(parser, FIELD_ES, "92233720368547758070", "a time outside");
    typed_reject(parser, FIELD_ES, "1e300", decimal_status_text(DECIMAL_OVERFLOW));
    typed_reject(parser, FIELD_ES, "\"1\"", "wants a number of units since 1970, got a string");
    event_parser_destroy(parser);
}

static const struct source_field time_fields[] = {
    FIELD("text", VALUE_STRING, TIME_RFC3339, true, "text"),
    FIELD("number", VALUE_DECIMAL, TIME_RFC3339, true, "number"),
    FIELD("flag", VALUE_BOOLEAN, TIME_RFC3339, true, "flag"),
};
static const struct source by_text = SOURCE(0, TIME_RFC3339, time_fields);
static const struct source by_number = SOURCE(1, TIME_EPOCH_S, time_fields);

/* Texts of neighbours are remembered: by the byte, for each field, and only where they are times.
 */
static void test_times_that_repeat(void **state)
{
    (void)state;
    struct event_parser *parser = parser_for(&typed);
    static const char *const texts[] = {
        "\"1970-01-01T00:00:01Z\"",      "\"1970-01-01T00:00:01Z\"",
        "\"1970-01-01T00:00:02Z\"",      "\"1970-01-01T00:00:02.5Z\"",
        "\"1970-01-01T00:00:02.5z\"",    "\"1970-01-01T00:00:01Z\"",
        "\"1970-01-01T00:00:01+00:00\"", "\"1970-01-01T00:00:01.00000000000000000000000000Z\""};
    static const int64_t times[] = {1000000, 1000000, 2000000, 2500000,
                                    2500000, 1000000, 1000000, 1000000};
    for (size_t i = 0; i < COUNT(texts); i++) {
        assert_true(typed_value(parser, FIELD_R, texts[i])->timestamp_us == times[i]);
        typed_reject(parser, FIELD_R, "\"1970-01-01T00:00:0xZ\"", "not an RFC 3339 time");
        typed_reject(parser, FIELD_R, "\"\"", "not an RFC 3339 time");
        assert_true(typed_value(parser, FIELD_R, texts[i])->timestamp_us == times[i]);
    }
    event_parser_destroy(parser);
}

static void test_event_times(void **state)
{
    (void)state;
    struct event event;

    struct event_parser *parser = parser_for(&by_text);
    accept_with(parser, "{\"text\":\"1970-01-01T00:00:02Z\"}", &event);
    assert_int_equal(event.time_us, 2000000);
    assert_string(&event.fields[0], "1970-01-01T00:00:02Z");
    reject_with(parser, "{\"text\":\"soon\"}", "field \"text\": not an RFC 3339 time");
    reject_with(parser, "{\"number\":1}", "field \"text\": null, but the event's time");
    event_parser_destroy(parser);

    parser = parser_for(&by_number);
    accept_with(parser, "{\"number\":2.25}", &event);
    assert_int_equal(event.time_us, 2250000);
    reject_with(parser, "{\"number\":1e30}", "field \"number\": a time outside");
    reject_with(parser, "{\"number\":null}", "field \"number\": null, but the event's time");
    event_parser_destroy(parser);

    static const struct source impossible[] = {SOURCE(0, TIME_EPOCH_S, time_fields),
                                               SOURCE(1, TIME_RFC3339, time_fields),
                                               SOURCE(2, TIME_RFC3339, time_fields)};
    for (size_t i = 0; i < COUNT(impossible); i++) {
        struct error error;
        assert_int_equal(event_parser_create(&impossible[i], &parser, &error), STATUS_REJECT);
        assert_null(parser);
    }
}

static const struct source_field path_fields[] = {
    FIELD("t", VALUE_INTEGER, TIME_RFC3339, true, "t"),
    FIELD("a", VALUE_STRING, TIME_RFC3339, true, "a"),
    FIELD("ab", VALUE_INTEGER, TIME_RFC3339, true, "a", "b"),
    FIELD("abc", VALUE_STRING, TIME_RFC3339, true, "a", "b", "c"),
    FIELD("ad", VALUE_INTEGER, TIME_RFC3339, true, "a", "d"),
    FIELD("again", VALUE_STRING, TIME_RFC3339, true, "a"),
    FIELD("quoted", VALUE_INTEGER, TIME_RFC3339, true, "x\"y.z"),
    FIELD("empty", VALUE_INTEGER, TIME_RFC3339, true, ""),
    FIELD("lengthy", VALUE_INTEGER, TIME_RFC3339, true, "a_name_with_many_bytes_1"),
    FIELD("lengthier", VALUE_INTEGER, TIME_RFC3339, true, "a_name_with_many_bytes_2"),
};
static const struct source paths = SOURCE(0, TIME_EPOCH_S, path_fields);

static void test_paths(void **state)
{
    (void)state;
    struct event_parser *parser = parser_for(&paths);
    struct event event;
    accept_with(parser, "{\"t\":1,\"a\":\"long enough to be copied by memcpy\"}", &event);
    assert_string(&event.fields[1], "long enough to be copied by memcpy");
    assert_string(&event.fields[5], "long enough to be copied by memcpy");
    assert_true(event.fields[2].is_null && event.fields[3].is_null && event.fields[4].is_null);

    accept_with(parser, "{\"a\":null,\"t\":1}", &event);
    assert_true(event.fields[1].is_null && event.fields[2].is_null);
    reject_with(parser, "{\"t\":1,\"a\":{\"b\":1}}", "field \"a\": wants a string, got an object");
    reject_with(parser, "{\"t\":1,\"a\":[]}", "field \"a\": wants a string, got an array");

    accept_with(parser,
                "{\"t\":1,\"x\\\"y.z\":2,\"\":3,\"a_name_with_many_bytes_2\":5,"
                "\"a_name_with_many_bytes_1\":4,\"a_name_with_many_bytes_3\":6,\"b\":7}",
                &event);
    for (int i = 6; i < 10; i++)
        assert_int_equal(event.fields[i].integer, i - 4);
    event_parser_destroy(parser);
}

static const struct source_field object_fields[] = {
    FIELD("t", VALUE_INTEGER, TIME_RFC3339, false, "t"),
    FIELD("ab", VALUE_INTEGER, TIME_RFC3339, true, "a", "b"),
    FIELD("ac", VALUE_STRING, TIME_RFC3339, true, "a", "c"),
    FIELD("aed", VALUE_DECIMAL, TIME_RFC3339, true, "a", "e", "d"),
};
static const struct source objects = SOURCE(0, TIME_EPOCH_S, object_fields);

static void test_nested_objects(void **state)
{
    (void)state;
    struct event_parser *parser = parser_for(&objects);
    struct event event;
    accept_with(
        parser,
        "{\"b\":9,\"a\":{\"z\":{\"b\":8},\"c\":\"x\",\"e\":{\"b\":7,\"d\":1.5},\"b\":1},\"t\":1,"
        "\"c\":\"y\"}",
        &event);
    assert_int_equal(event.fields[1].integer, 1);
    assert_string(&event.fields[2], "x");
    assert_decimal(&event.fields[3], "1.5");

    /* Only objects lead on: arrays and scalars have no members. */
    accept_with(parser, "{\"t\":1,\"a\":[{\"b\":1}]}", &event);
    assert_true(event.fields[1].is_null);
    accept_with(parser, "{\"t\":1,\"a\":7}", &event);
    assert_true(event.fields[1].is_null);
    accept_with(parser, "{\"t\":1,\"a\":{\"e\":[[{\"d\":1}]],\"b\":2}}", &event);
    assert_true(event.fields[3].is_null);
    assert_int_equal(event.fields[1].integer, 2);
    event_parser_destroy(parser);
}

static void test_last_duplicate_counts(void **state)
{
    (void)state;
    struct event_parser *parser = parser_for(&objects);
    struct event event;
    accept_with(parser, "{\"t\":1,\"a\":{\"b\":1,\"b\":2},\"t\":3}", &event);
    assert_int_equal(event.fields[0].integer, 3);
    assert_int_equal(event.fields[1].integer, 2);
    accept_with(parser, "{\"t\":1,\"a\":{\"b\":1,\"e\":{\"d\":5}},\"a\":{\"c\":\"x\"}}", &event);
    assert_true(event.fields[1].is_null);
    assert_string(&event.fields[2], "x");
    assert_true(event.fields[3].is_null);
    accept_with(parser, "{\"a\":{\"b\":1},\"\\u0061\":null,\"t\":1}", &event);
    assert_true(event.fields[1].is_null);
    accept_with(parser, "{\"a\":{\"b\":1},\"a\":4,\"t\":1}", &event);
    assert_true(event.fields[1].is_null);
    /* What an earlier one held does not matter, as long as it is JSON. */
    accept_with(parser, "{\"t\":\"wrong\",\"a\":{\"b\":\"wrong\"},\"a\":{\"b\":5},\"t\":1}",
                &event);
    assert_int_equal(event.fields[1].integer, 5);
    reject_with(parser, "{\"t\":1,\"a\":{\"b\":5,\"b\":\"x\"}}",
                "field \"ab\": wants an integer, got a string");
    reject_with(parser, "{\"t\":01,\"t\":1}", "not valid JSON");
    event_parser_destroy(parser);
}

/* More members than any cache line holds, in changing orders. */
static void test_many_fields(void **state)
{
    (void)state;
    enum { FIELDS = 256 };
    static char names[FIELDS][24];
    static const char *path[FIELDS][1];
    static struct source_field fields[FIELDS];
    static char json[FIELDS * 48];
    for (int i = 0; i < FIELDS; i++) {
        snprintf(names[i], sizeof names[i], "field_%d", i);
        path[i][0] = names[i];
        fields[i] = (struct source_field){.name = names[i],
                                          .type = VALUE_INTEGER,
                                          .nullable = true,
                                          .path = path[i],
                                          .path_count = 1};
    }
    struct source source = {
        .name = "many", .fields = fields, .field_count = FIELDS, .event_time_format = TIME_EPOCH_S};
    struct event_parser *parser = parser_for(&source);
    for (int step = 1; step < 8; step += 2) {
        char *end = json;
        for (int i = 0; i < FIELDS; i++)
            end += sprintf(end, "%c\"field_%d\":%d,\"field_x%d\":0", i == 0 ? '{' : ',',
                           i * step % FIELDS, i * step % FIELDS, i);
        sprintf(end, "}");
        struct event event;
        accept_with(parser, json, &event);
        for (int i = 0; i < FIELDS; i++)
            assert_int_equal(event.fields[i].integer, i);
    }
    event_parser_destroy(parser);
}

static int run_all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_a_flight),
        cmocka_unit_test(test_null_and_missing),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_decimals),
        cmocka_unit_test(test_booleans_and_strings),
        cmocka_unit_test(test_timestamps),
        cmocka_unit_test(test_times_that_repeat),
        cmocka_unit_test(test_event_times),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_nested_objects),
        cmocka_unit_test(test_last_duplicate_counts),
        cmocka_unit_test(test_many_fields),
    };
    return cmocka_run_group_tests_name(event_parser_target(), tests, NULL, NULL);
}

int main(void)
{
    return for_each_target(run_all);
}
