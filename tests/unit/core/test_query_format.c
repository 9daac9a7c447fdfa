/* Answers as JSON, CSV and a table: escaping, NULL, exact numbers, and what the layout promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "core/query/query.h"
#include "core/base/utf8.h"

/* --- an answer by hand: two keys, three measures --- */

static struct source *source;
static struct view *view;
static struct query_answer answer;
static struct query_row rows[2];
static struct value keys[2][2];
static struct value results[2][3];
static const char *wide_texts[2][3];
static size_t key_indexes[] = {0, 1};
static size_t measure_indexes[] = {0, 1, 2};
static struct query_partition partitions[] = {
    {.topic = "trips", .partition = 0, .cutoff = 5, .position = 9},
    {.topic = "trips", .partition = 2, .cutoff = 7, .position = INT64_MAX},
};

static int make_view(void **state)
{
    (void)state;
    struct error error;
    json_t *json = json_loads("{\"source\": \"trips\", \"topic\": \"trips\","
                              " \"event_time\": {\"field\": \"time\", \"format\": \"rfc3339\"},"
                              " \"fields\": {\"time\": \"timestamp\", \"origin\": \"string\","
                              "  \"fare\": \"decimal\"}}",
                              0, NULL);
    enum status status = source_create(json, "test", &source, &error);
    json_decref(json);
    if (status != STATUS_OK)
        return -1;
    json =
        json_loads("{\"view\": \"v\", \"source\": \"trips\", \"group_by\": [\"origin\", \"fare\"],"
                   " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"},"
                   " \"measures\": {\"n\": \"count(*)\", \"total\": \"sum(fare)\","
                   "  \"least\": \"min(fare)\"}}",
                   0, NULL);
    status = view_create(json, "test", source, &view, &error);
    json_decref(json);
    return status == STATUS_OK ? 0 : -1;
}

static int drop_view(void **state)
{
    (void)state;
    view_destroy(view);
    source_destroy(source);
    return 0;
}

static struct value decimal(int64_t coefficient, int32_t scale)
{
    return value_decimal((struct decimal){.coefficient = coefficient, .scale = scale});
}

static void use_text(const char *text)
{
    keys[0][0] = value_string(text, strlen(text));
}

static int make_answer(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        rows[i] = (struct query_row){
            .window_start_us = (int64_t)i * 3600000000,
            .window_end_us = (int64_t)(i + 1) * 3600000000,
            .provisional = i == 1,
            .keys = keys[i],
            .results = results[i],
            .wide_texts = wide_texts[i],
        };
        memset(wide_texts[i], 0, sizeof wide_texts[i]);
    }
    use_text("JFK");
    keys[0][1] = decimal(-1500, 2);
    keys[1][0] = value_null(VALUE_STRING);
    keys[1][1] = value_null(VALUE_DECIMAL);
    results[0][0] = value_integer(INT64_MIN);
    results[0][1] = value_null(VALUE_DECIMAL);
    wide_texts[0][1] = "123456789012345678901234567890123456789012345.5";
    results[0][2] = decimal(1, 7);
    results[1][0] = value_integer(0);
    results[1][1] = decimal(0, 3);
    results[1][2] = value_null(VALUE_DECIMAL);
    answer = (struct query_answer){
        .view = view,
        .keys = key_indexes,
        .key_count = 2,
        .measures = measure_indexes,
        .measure_count = 3,
        .has_start = true,
        .has_end = true,
        .rows = rows,
        .row_count = 2,
        .receipt = {.run = 3,
                    .partitions = partitions,
                    .partition_count = 2,
                    .has_watermark = true,
                    .watermark_us = 3600000001,
                    .has_freshness = true,
                    .freshness_ms = 12},
    };
    return 0;
}

static void assert_json(const char *expected)
{
    size_t length;
    char *text = query_answer_json(&answer, &length, NULL);
    assert_non_null(text);
    assert_int_equal(length, strlen(text));
    assert_string_equal(text, expected);
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    json_decref(json);
    free(text);
}

#define RECEIPT                                                                                    \
    "\"receipt\":{\"run\":3,\"cutoffs\":{\"trips\":[5,null,7]},"                                   \
    "\"positions\":{\"trips\":[9,null,9223372036854775807]},"                                      \
    "\"watermark\":\"1970-01-01T01:00:00.000001Z\",\"freshness_ms\":12}}\n"

static void test_json(void **state)
{
    (void)state;
    assert_json(
        "{\"view\":\"v\",\"rows\":["
        "{\"window_start\":\"1970-01-01T00:00:00Z\",\"window_end\":\"1970-01-01T01:00:00Z\","
        "\"origin\":\"JFK\",\"fare\":-15,\"n\":-9223372036854775808,"
        "\"total\":123456789012345678901234567890123456789012345.5,\"least\":0.0000001,"
        "\"provisional\":false},\n"
        "{\"window_start\":\"1970-01-01T01:00:00Z\",\"window_end\":\"1970-01-01T02:00:00Z\","
        "\"origin\":null,\"fare\":null,\"n\":0,\"total\":0,\"least\":null,"
        "\"provisional\":true}]," RECEIPT);
}

static void test_json_names_imports(void **state)
{
    (void)state;
    answer.row_count = 0;
    answer.receipt.imported = 42;
    assert_json("{\"view\":\"v\",\"rows\":[],\"receipt\":{\"run\":3,"
                "\"cutoffs\":{\"trips\":[5,null,7]},"
                "\"positions\":{\"trips\":[9,null,9223372036854775807]},"
                "\"imported\":{\"trips\":42},"
                "\"watermark\":\"1970-01-01T01:00:00.000001Z\",\"freshness_ms\":12}}\n");
}

static void test_json_without_anything(void **state)
{
    (void)state;
    answer.row_count = 0;
    answer.receipt = (struct query_receipt){0};
    assert_json("{\"view\":\"v\",\"rows\":[],\"receipt\":{\"run\":0,\"cutoffs\":{},"
                "\"positions\":{},\"watermark\":null,\"freshness_ms\":null}}\n");
}

static void test_json_over_all_windows(void **state)
{
    (void)state;
    answer.row_count = 1;
    answer.key_count = 0;
    answer.measure_count = 1;
    answer.has_start = false;
    assert_json("{\"view\":\"v\",\"rows\":[{\"window_start\":null,"
                "\"window_end\":\"1970-01-01T01:00:00Z\",\"n\":-9223372036854775808,"
                "\"provisional\":false}]," RECEIPT);
}

/* The string that a JSON reader gets for the first row's first key. */
static void assert_string_survives(const char *text)
{
    size_t length;
    use_text(text);
    char *json_text = query_answer_json(&answer, &length, NULL);
    json_t *json = json_loads(json_text, 0, NULL);
    assert_non_null(json);
    const char *read = json_string_value(
        json_object_get(json_array_get(json_object_get(json, "rows"), 0), "origin"));
    assert_string_equal(read, text);
    json_decref(json);
    free(json_text);
}

static void test_every_character_survives_json(void **state)
{
    (void)state;
    for (int c = 1; c < 0x80; c++) {
        const char text[] = {'a', (char)c, 'b', (char)c, '\0'};
        const char alone[] = {(char)c, '\0'};
        assert_string_survives(text);
        assert_string_survives(alone);
    }
    assert_string_survives("");
    assert_string_survives("\xC2\x80 \xDF\xBF \xE0\xA0\x80 \xEF\xBF\xBF \xF0\x90\x80\x80"
                           " \xF4\x8F\xBF\xBF \xE2\x80\xA8");
    assert_string_survives("</script>\\u0041\\");
}

static void test_large_answers_grow(void **state)
{
    (void)state;
    size_t length;
    size_t size = 100000;
    char *text = malloc(size + 1);
    memset(text, '"', size);
    text[size] = '\0';
    assert_string_survives(text);
    char *csv = query_answer_csv(&answer, &length);
    assert_true(length > 2 * size);
    free(csv);
    free(text);
}

static void assert_csv_field(const char *text, const char *expected)
{
    size_t length;
    char line[256];
    use_text(text);
    char *csv = query_answer_csv(&answer, &length);
    snprintf(line, sizeof line, "\r\n1970-01-01T00:00:00Z,1970-01-01T01:00:00Z,%s,-15,", expected);
    if (strstr(csv, line) == NULL)
        fail_msg("%s is not in %s", line, csv);
    free(csv);
}

static void test_csv(void **state)
{
    (void)state;
    size_t length;
    char *text = query_answer_csv(&answer, &length);
    assert_int_equal(length, strlen(text));
    assert_string_equal(text,
                        "window_start,window_end,origin,fare,n,total,least,provisional\r\n"
                        "1970-01-01T00:00:00Z,1970-01-01T01:00:00Z,JFK,-15,-9223372036854775808,"
                        "123456789012345678901234567890123456789012345.5,0.0000001,false\r\n"
                        "1970-01-01T01:00:00Z,1970-01-01T02:00:00Z,,,0,0,,true\r\n");
    free(text);
    assert_csv_field("", "\"\"");
    assert_csv_field("a,b", "\"a,b\"");
    assert_csv_field("a\"b", "\"a\"\"b\"");
    assert_csv_field("a\nb", "\"a\nb\"");
    assert_csv_field("a\rb", "\"a\rb\"");
    assert_csv_field(" a ", " a ");
    assert_csv_field("\xC3\xBC", "\xC3\xBC");
}

static void test_table(void **state)
{
    (void)state;
    size_t length;
    wide_texts[0][1] = NULL;
    use_text("M\xC3\xBCnchen\x1B[2J\xC2\x9B\n");
    char *text = query_answer_table(&answer, &length);
    assert_int_equal(length, strlen(text));
    assert_string_equal(
        text, "window_start          window_end            origin                    fare"
              "                     n  total      least  provisional\n"
              "--------------------  --------------------  ------------------------  ----"
              "  --------------------  -----  ---------  -----------\n"
              "1970-01-01T00:00:00Z  1970-01-01T01:00:00Z  M\xC3\xBCnchen\\u001b[2J\\u009b\\n   -15"
              "  -9223372036854775808   NULL  0.0000001  no\n"
              "1970-01-01T01:00:00Z  1970-01-01T02:00:00Z  NULL                      NULL"
              "                     0      0       NULL  yes\n"
              "\n"
              "2 rows, batch run 3\n"
              "cut-offs   C  trips 0:5 2:7\n"
              "positions  P  trips 0:9 2:9223372036854775807\n"
              "watermark     1970-01-01T01:00:00.000001Z\n"
              "freshness     12 ms\n");
    free(text);
}

static void test_arrays(void **state)
{
    (void)state;
    static const int64_t numbers[] = {1, -2, 30};
    size_t length;
    results[0][0] = value_integers(numbers, 3);
    results[1][0] = value_integers(numbers, 1);
    char *text = query_answer_json(&answer, &length, NULL);
    assert_non_null(strstr(text, "\"n\":[1,-2,30],"));
    assert_non_null(strstr(text, "\"n\":[1],"));
    free(text);
    text = query_answer_csv(&answer, &length);
    assert_non_null(strstr(text, ",\"{1,-2,30}\","));
    assert_non_null(strstr(text, ",{1},"));
    free(text);
    text = query_answer_table(&answer, &length);
    assert_non_null(strstr(text, "  {1,-2,30}  "));
    free(text);
}

static void test_utf8(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "a",
                                       "\x7F",
                                       "\xC2\x80",
                                       "\xDF\xBF",
                                       "\xE0\xA0\x80",
                                       "\xED\x9F\xBF",
                                       "\xEE\x80\x80",
                                       "\xEF\xBF\xBF",
                                       "\xF0\x90\x80\x80",
                                       "\xF4\x8F\xBF\xBF"};
    static const char *const bad[] = {"\x80",
                                      "\xBF",
                                      "\xC0\x80",
                                      "\xC1\xBF",
                                      "\xC2",
                                      "\xC2z",
                                      "\xE0\x9F\xBF",
                                      "\xE1\x80",
                                      "\xED\xA0\x80",
                                      "\xED\xBF\xBF",
                                      "\xF0\x8F\xBF\xBF",
                                      "\xF1\x80\x80",
                                      "\xF4\x90\x80\x80",
                                      "\xF5\x80\x80\x80",
                                      "\xFF"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(utf8_is_text(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(utf8_is_text(bad[i], strlen(bad[i])));
    assert_false(utf8_is_text("a\0b", 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_json, make_answer),
        cmocka_unit_test_setup(test_json_without_anything, make_answer),
        cmocka_unit_test_setup(test_json_names_imports, make_answer),
        cmocka_unit_test_setup(test_json_over_all_windows, make_answer),
        cmocka_unit_test_setup(test_every_character_survives_json, make_answer),
        cmocka_unit_test_setup(test_large_answers_grow, make_answer),
        cmocka_unit_test_setup(test_csv, make_answer),
        cmocka_unit_test_setup(test_table, make_answer),
        cmocka_unit_test_setup(test_arrays, make_answer),
        cmocka_unit_test(test_utf8),
    };
    return cmocka_run_group_tests(tests, make_view, drop_view);
}
