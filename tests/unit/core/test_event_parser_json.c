/* core/records/event_parser.h: which bytes are a JSON object, everywhere in the record, and the
 * bounds. */
#include "tests/support/event_parser_fixture.h"

static void test_accepts_json_objects(void **state)
{
    (void)state;
    static const char *const valid[] = {
        "{}",
        " \t\r\n{ \t\r\n} \t\r\n",
        "{\"a\":1}",
        "{\"a\":{}}",
        "{\"a\":[]}",
        "{\"a\":[{}, [] ,[[]],{\"b\":[{}]}]}",
        "{ \"a\" : [ 1 , 2 ] , \"b\" : { \"c\" : null } }\n",
        "{\"a\":[true,false,null,-0,0.5,-1.5e+10,1E-3,\"\"]}",
        "{\"a\":1e999,\"b\":-1e999,\"c\":123456789012345678901234567890}",
        "{\"\":\"\",\"\\u0000\":\"\\u0000\"}",
        "{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD834\\udd1e\"}",
        "{\"a\":\"\x7f\xc3\xa9\xe2\x82\xac\xf0\x9d\x84\x9e\"}",
        "{\"a\\\\\":\"\\\\\",\"b\\\"\":\"}\"}",
        "{\"{\":\"[\",\":\":\",\",\"]\":\"}\"}",
    };
    struct event_parser *parser = parser_for(NULL);
    struct event event;
    for (size_t i = 0; i < COUNT(valid); i++)
        accept_with(parser, valid[i], &event);
    event_parser_destroy(parser);
}

static void test_rejects_what_is_no_object(void **state)
{
    (void)state;
    static const char *const other[] = {
        "",
        " \n",
        "[]",
        "[{}]",
        "1",
        "\"a\"",
        "null",
        "}",
        "x",
        ",{}",
        "\xef\xbb\xbf{}",
        "\xef\xbb\xbf",
        ":",
        "]",
    };
    struct event_parser *parser = parser_for(NULL);
    for (size_t i = 0; i < COUNT(other); i++)
        reject_with(parser, other[i], "not a JSON object");
    reject_bytes_with(parser, "\0{}", 3, "not a JSON object");
    event_parser_destroy(parser);
}

static void test_rejects_invalid_json(void **state)
{
    (void)state;
    static const char *const invalid[] = {
        "{",
        "{\"a\":1",
        "{\"a\":[1}",
        "{\"a\":[1]",
        "{\"a\":{\"b\":1}",
        "{\"a\":1}}",
        "{\"a\":1]",
        "{\"a\":1}x",
        "{\"a\":1} {}",
        "{\"a\":1},",
        "{\"a\":1}\"\"",
        "{\"a\":1}\f",
        "{}{}",
        "{}}",
        "{\"a\":1,}",
        "{,}",
        "{,\"a\":1}",
        "{\"a\":1,,\"b\":2}",
        "{\"a\":1 \"b\":2}",
        "{\"a\" 1}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\"::1}",
        "{\"a\":\"b\":1}",
        "{\"a\":\"b\",\"c\"}",
        "{1:2}",
        "{a:1}",
        "{'a':1}",
        "{null:1}",
        "{[]:1}",
        "{{}:1}",
        "{\"a\":1:2}",
        "{\"a\",1}",
        "{\"a\":[1,]}",
        "{\"a\":[,1]}",
        "{\"a\":[1 2]}",
        "{\"a\":[1,,2]}",
        "{\"a\":[\"b\":1]}",
        "{\"a\":[:]}",
        "{\"a\":[}]}",
        "{\"a\":{]}}",
        "{\"a\":[[]}",
        "{\"a\":\"b\"\"c\"}",
        "{\"a\":\"b\"c}",
        "{\"a\":1\"b\"}",
        "{\"a\":tru}",
        "{\"a\":trues}",
        "{\"a\":True}",
        "{\"a\":t rue}",
        "{\"a\":falsee}",
        "{\"a\":nul}",
        "{\"a\":nullx}",
        "{\"a\":null\"\"}",
        "{\"a\":true false}",
        "{\"a\":undefined}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
        "{\"a\":-Infinity}",
        "{\"a\":01}",
        "{\"a\":-01}",
        "{\"a\":00}",
        "{\"a\":+1}",
        "{\"a\":-}",
        "{\"a\":- 1}",
        "{\"a\":.5}",
        "{\"a\":1.}",
        "{\"a\":1.e1}",
        "{\"a\":1e}",
        "{\"a\":1e+}",
        "{\"a\":1e1.5}",
        "{\"a\":1.5.5}",
        "{\"a\":0x10}",
        "{\"a\":1_000}",
        "{\"a\":1,5,\"b\":1}",
        "{\"a\":--1}",
        "{\"a\":1-}",
        "{\"a\":1\f}",
        "{\"a\":\v1}",
        "{\"a\":1\x1a}",
        "{\"a\"\x1a:1}",
        "{\"a\":1}\x0c",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\\u\"}",
        "{\"a\":\"\\U0041\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\udc00\"}",
        "{\"a\":\"\\ud800x\"}",
        "{\"a\":\"\\ud800\\n\"}",
        "{\"a\":\"\\ud800\\ud800\"}",
        "{\"a\":\"\\ud800\\u0041\"}",
        "{\"a\":\"\\udc00\\ud800\"}",
        "{\"a\":\"\\ud834\\udd1\"}",
        "{\"a\":\"\\'\"}",
        "{\"a\":\"\\\"}",
        "{\"\\x\":1}",
        "{\"\\ud800\":1}",
        "{\\\"a\":1}",
        "{\"a\":\\\"b\"}",
        "{\"a\":\"b}",
        "{\"a:1}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\t\"}",
        "{\"a\":\"\x01\"}",
        "{\"a\":\"\x1f\"}",
        "{\"\x02\":1}",
        "{\"a\":\"\\\x01\"}",
        "{\"a\":\"\\\n\"}",
        "{\"a\":\"\x80\"}",
        "{\"a\":\"\xc3\"}",
        "{\"a\":\"\xc0\xaf\"}",
        "{\"a\":\"\xc1\xbf\"}",
        "{\"a\":\"\xe0\x80\xaf\"}",
        "{\"a\":\"\xed\xa0\x80\"}",
        "{\"a\":\"\xed\xbf\xbf\"}",
        "{\"a\":\"\xf0\x80\x80\xaf\"}",
        "{\"a\":\"\xf4\x90\x80\x80\"}",
        "{\"a\":\"\xf5\x80\x80\x80\"}",
        "{\"a\":\"\xff\"}",
        "{\"a\":\"\xe2\x82\"}",
        "{\"a\":\"\xf0\x9d\x84\"}",
        "{\"\xff\":1}",
        "{\"a\":\xff}",
        "{\"a\":1}\xff",
        "{\xc3\xa9:1}",
        "{\"a\":\"\\\xc3\xa9\"}",
        "{\"a\":1 /* no */}",
        "{\"a\":1} // no",
        "{\"a\":1;\"b\":2}",
        "{\"a\":\xc2\xa0"
        "1}",
        "{\"a\":\xe2\x80\xa8"
        "1}",
    };
    struct event_parser *parser = parser_for(NULL);
    for (size_t i = 0; i < COUNT(invalid); i++)
        reject_with(parser, invalid[i], "not valid JSON");
    reject_bytes_with(parser, "{\"a\":\"\0\"}", 9, "not valid JSON");
    reject_bytes_with(parser, "{\"a\":1\0}", 8, "not valid JSON");
    reject_bytes_with(parser, "{\"a\":\0}", 7, "not valid JSON");
    reject_bytes_with(parser, "{}\0", 3, "not valid JSON");
    reject_bytes_with(parser, "{\"\0\":1}", 7, "not valid JSON");
    event_parser_destroy(parser);
}

/* Faults far from the fields in use, and at every place relative to 64-byte blocks. */
static void test_rejects_faults_anywhere(void **state)
{
    (void)state;
    struct event_parser *parser = parser_for(&flights);
    char json[512];
    for (int shift = 0; shift < 130; shift++) {
        static const char *const faults[] = {"01",   "\"\\ud800\"", "\"\x1f\"", "\"\xc3\"",
                                             "[1,]", "{\"a\" 1}",   "tru",      "\"\\x\"",
                                             "1 2",  "\"a\"b"};
        for (size_t i = 0; i < COUNT(faults); i++) {
            snprintf(json, sizeof json,
                     "{\"time\":\"2001-01-01T00:00:00Z\",\"distance\":1,\"origin\":\"A\",%*s"
                     "\"unused\":%s,\"more\":{\"x\":[1,2,{\"y\":\"z\"}]}}",
                     shift, "", faults[i]);
            reject_with(parser, json, "not valid JSON");
        }
    }
    event_parser_destroy(parser);
}

static void test_rejects_every_truncation(void **state)
{
    (void)state;
    static const char json[] =
        "{\"time\":\"2001-01-01T00:00:00Z\",\"distance\":2176,\"origin\":\"\\u004c"
        "AS \xf0\x9d\x84\x9e\",\"x\":{\"y\":[1.5e3,{\"z\":null},[]],\"w\":{}},"
        "\"delay\":-3,\"deep\":[[[{\"a\":{\"b\":{}}}]]],\"flag\":true}";
    struct event_parser *parser = parser_for(&flights);
    struct event event;
    accept_with(parser, json, &event);
    for (size_t length = 0; length + 1 < sizeof json; length++)
        reject_bytes_with(parser, json, length, "not ");
    event_parser_destroy(parser);
}

static char *nested(const char *open, const char *middle, const char *close, size_t depth)
{
    char *json = malloc(depth * (strlen(open) + strlen(close)) + strlen(middle) + 32);
    assert_non_null(json);
    char *end = json;
    end += sprintf(end, "{\"x\":");
    for (size_t i = 1; i < depth; i++)
        end += sprintf(end, "%s", open);
    end += sprintf(end, "%s", middle);
    for (size_t i = 1; i < depth; i++)
        end += sprintf(end, "%s", close);
    sprintf(end, "}");
    return json;
}

static void test_bounds_depth(void **state)
{
    (void)state;
    static const char *const forms[][3] = {
        {"[", "1", "]"}, {"{\"x\":", "1", "}"}, {"[{\"x\":", "[]", "}]"}};
    struct event_parser *parser = parser_for(NULL);
    struct event event;
    for (size_t i = 0; i < 2; i++) {
        char *deepest = nested(forms[i][0], forms[i][1], forms[i][2], EVENT_DEPTH_MAX);
        accept_with(parser, deepest, &event);
        free(deepest);
        char *deeper = nested(forms[i][0], forms[i][1], forms[i][2], EVENT_DEPTH_MAX + 1);
        reject_with(parser, deeper, "nested too deeply");
        free(deeper);
    }
    char *far = nested(forms[2][0], forms[2][1], forms[2][2], 100000);
    reject_with(parser, far, "nested too deeply");
    free(far);
    char *unclosed = malloc(100001);
    assert_non_null(unclosed);
    memset(unclosed, '[', 100000);
    memcpy(unclosed, "{\"x\":", 5);
    reject_bytes_with(parser, unclosed, 100000, "not valid JSON");
    free(unclosed);
    event_parser_destroy(parser);
}

static void test_bounds_size(void **state)
{
    (void)state;
    enum { MAX = 64 * 1024 * 1024 };
    char *json = calloc(1, MAX + 1 + EVENT_PADDING_BYTES);
    assert_non_null(json);
    struct event_parser *parser = parser_for(&flights);
    struct event event;
    struct error error;
    assert_int_equal(
        event_parser_parse(parser, json, MAX + 1, MAX + 1 + EVENT_PADDING_BYTES, &event, &error),
        STATUS_REJECT);
    assert_non_null(strstr(error.text, "record too large"));
    free(json);

    /* Grows, keeps working for small ones, and needs no more memory for the same size. */
    enum { LONG = 3000000 };
    char *origin = malloc(LONG + 1);
    char *record = malloc(LONG + 200);
    assert_non_null(origin);
    assert_non_null(record);
    memset(origin, 'x', LONG);
    origin[LONG] = '\0';
    sprintf(record, "{\"time\":\"2001-01-01T00:00:00Z\",\"distance\":1,\"origin\":\"%s\"}", origin);
    for (int i = 0; i < 3; i++) {
        accept_with(parser, record, &event);
        assert_string(&event.fields[3], origin);
        accept_with(parser,
                    "{\"time\":\"2001-01-01T00:00:00Z\",\"distance\":1,\"origin\":\"short\"}",
                    &event);
        assert_string(&event.fields[3], "short");
    }
    free(origin);
    free(record);
    event_parser_destroy(parser);
}

static int run_all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts_json_objects),
        cmocka_unit_test(test_rejects_what_is_no_object),
        cmocka_unit_test(test_rejects_invalid_json),
        cmocka_unit_test(test_rejects_faults_anywhere),
        cmocka_unit_test(test_rejects_every_truncation),
        cmocka_unit_test(test_bounds_depth),
        cmocka_unit_test(test_bounds_size),
    };
    return cmocka_run_group_tests_name(event_parser_target(), tests, NULL, NULL);
}

int main(void)
{
    return for_each_target(run_all);
}
