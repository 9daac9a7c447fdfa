/* Tumbling windows: definitions, and which window holds an instant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "core/timestamp.h"
#include "core/window.h"

static struct error error;

static enum status read_window(const char *text, struct window *out)
{
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(json);
    enum status status = window_from_json(json, out, &error);
    json_decref(json);
    return status;
}

static void test_good(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        int64_t size_us;
    } cases[] = {
        {"{\"type\":\"tumbling\",\"size\":\"1ms\"}", 1000},
        {"{\"type\":\"tumbling\",\"size\":\"90s\"}", 90000000},
        {"{\"size\":\"15m\",\"type\":\"tumbling\",\"description\":\"short\"}", 900000000},
        {"{\"type\":\"tumbling\",\"size\":\"1h\"}", 3600000000},
        {"{\"type\":\"tumbling\",\"size\":\"1d\"}", TIMESTAMP_US_PER_DAY},
        {"{\"type\":\"tumbling\",\"size\":\"2w\"}", 14 * TIMESTAMP_US_PER_DAY},
        {"{\"type\":\"tumbling\",\"size\":\"365000d\"}", 365000 * TIMESTAMP_US_PER_DAY},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct window window;
        assert_int_equal(read_window(cases[i].json, &window), STATUS_OK);
        assert_int_equal(window.kind, WINDOW_TUMBLING);
        assert_int_equal(window.size_us, cases[i].size_us);
    }
}

static void test_bad(void **state)
{
    (void)state;
    static const char size[] = "size: wants a duration such as \"15m\", \"1h\" or \"1d\"";
    static const char object[] =
        "wants an object such as {\"type\": \"tumbling\", \"size\": \"1h\"}";
    static const char *const cases[][2] = {
        {"null", object},
        {"\"1h\"", object},
        {"[]", object},
        {"{\"type\":\"tumbling\"}", size},
        {"{\"type\":\"tumbling\",\"size\":60}", size},
        {"{\"type\":\"tumbling\",\"size\":\"\"}", size},
        {"{\"type\":\"tumbling\",\"size\":\"1\"}", size},
        {"{\"type\":\"tumbling\",\"size\":\"0h\"}", size},
        {"{\"type\":\"tumbling\",\"size\":\"-1h\"}", size},
        {"{\"type\":\"tumbling\",\"size\":\"1.5h\"}", size},
        {"{\"type\":\"tumbling\",\"size\":\"1 h\"}", size},
        {"{\"type\":\"tumbling\",\"size\":\"1H\"}", size},
        {"{\"type\":\"tumbling\",\"size\":\"01h\"}", size},
        {"{\"type\":\"tumbling\",\"size\":\"1mo\"}", size},
        {"{\"type\":\"tumbling\",\"size\":\"99999999999999999999h\"}", size},
        {"{\"type\":\"tumbling\",\"size\":\"365001d\"}", "size: longer than 365,000 days"},
        {"{\"type\":\"tumbling\",\"size\":\"1h\",\"offset\":\"5m\"}", "offset: unknown key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct window window;
        assert_int_equal(read_window(cases[i][0], &window), STATUS_REJECT);
        assert_string_equal(error.text, cases[i][1]);
    }
    struct window window;
    assert_int_equal(read_window("{\"type\":\"nothing\",\"size\":\"1h\"}", &window), STATUS_REJECT);
    assert_memory_equal(error.text, "type: wants \"tumbling\"", 22);
    assert_int_equal(read_window("{\"size\":\"1h\"}", &window), STATUS_REJECT);
    assert_memory_equal(error.text, "type: wants \"tumbling\"", 22);
}

static void test_starts(void **state)
{
    (void)state;
    const struct window hour = {.kind = WINDOW_TUMBLING, .size_us = 3600000000};
    static const int64_t cases[][2] = {
        {0, 0},
        {1, 0},
        {3599999999, 0},
        {3600000000, 3600000000},
        {-1, -3600000000},
        {-3600000000, -3600000000},
        {-3600000001, -7200000000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t start = window_start(&hour, cases[i][0]);
        assert_int_equal(start, cases[i][1]);
        assert_int_equal(window_end(&hour, start), start + 3600000000);
    }
}

/* The first and the last instant an event can have, in every size there can be. */
static void test_bounds_of_time(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1000, 7000, 3600000000, TIMESTAMP_US_PER_DAY,
                                    365000 * TIMESTAMP_US_PER_DAY};
    static const int64_t times[] = {TIMESTAMP_MIN_US, TIMESTAMP_END_US - 1, 0, -1};
    for (size_t i = 0; i < 5; i++) {
        const struct window window = {.kind = WINDOW_TUMBLING, .size_us = sizes[i]};
        for (size_t t = 0; t < 4; t++) {
            int64_t start = window_start(&window, times[t]);
            assert_true(start <= times[t]);
            assert_true(window_end(&window, start) > times[t]);
            assert_int_equal(start % sizes[i], 0);
            /* as timestamptz, from 4714 BC on */
            assert_true(start > INT64_C(-210866803200000000));
        }
    }
}

static void test_rollups(void **state)
{
    (void)state;
    const struct window minute = {.size_us = 60000000}, hour = {.size_us = 3600000000};
    const struct window odd = {.size_us = 7 * INT64_C(60000000)};
    assert_true(window_is_rollup(&minute, &hour));
    assert_true(window_is_rollup(&hour, &hour));
    assert_false(window_is_rollup(&hour, &minute));
    assert_false(window_is_rollup(&odd, &hour));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),    cmocka_unit_test(test_bad),
        cmocka_unit_test(test_starts),  cmocka_unit_test(test_bounds_of_time),
        cmocka_unit_test(test_rollups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
