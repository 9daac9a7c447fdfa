/*
 * Timestamps and durations: every form that is accepted, every fault that is refused, and random
 * instants against libc's calendar.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/time/duration.h"
#include "core/time/timestamp.h"
#include "decimal_model.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define RANDOM_ROUNDS 200000
#define SECOND TIMESTAMP_US_PER_SECOND

static void parses_rfc3339(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t us;
    } cases[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1970-01-01t00:00:00z", 0},
        {"1970-01-01 00:00:00Z", 0},
        {"2001-01-01T00:47:00Z", 978310020 * SECOND},
        {"2001-01-01T01:47:00+01:00", 978310020 * SECOND},
        {"2000-12-31T19:17:00-05:30", 978310020 * SECOND},
        {"2001-01-01T00:47:00-00:00", 978310020 * SECOND},
        {"2001-01-01T00:47:00+00:00", 978310020 * SECOND},
        {"2001-01-02T00:46:00+23:59", 978310020 * SECOND},
        {"1970-01-01T00:00:00.5Z", SECOND / 2},
        {"1970-01-01T00:00:00.000001Z", 1},
        {"1970-01-01T00:00:00.0000019999999999999999999999Z", 1},
        {"1969-12-31T23:59:59.9999999Z", -1},
        {"1969-12-31T23:59:59.000000999Z", -SECOND},
        {"1970-01-01T00:00:00.123456789+00:00", 123456},
        {"2016-12-31T23:59:60Z", 1483228800 * SECOND},
        {"2016-12-31T23:59:60.25Z", 1483228800 * SECOND + SECOND / 4},
        {"1970-01-01T00:00:60Z", 60 * SECOND},
        {"2000-02-29T00:00:00Z", 951782400 * SECOND},
        {"2024-02-29T12:00:00Z", 1709208000 * SECOND},
        {"0001-01-01T00:00:00Z", TIMESTAMP_MIN_US},
        {"0001-01-01T01:00:00+01:00", TIMESTAMP_MIN_US},
        {"0000-12-31T23:00:00-01:00", TIMESTAMP_MIN_US},
        {"9999-12-31T23:59:59.999999Z", TIMESTAMP_END_US - 1},
        {"9999-12-31T23:59:59.9999999999Z", TIMESTAMP_END_US - 1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int64_t us = 42;
        assert_int_equal(timestamp_parse_rfc3339(cases[i].text, strlen(cases[i].text), &us),
                         TIMESTAMP_OK);
        if (us != cases[i].us) {
            fail_msg("%s: %lld", cases[i].text, (long long)us);
        }
        assert_int_equal(timestamp_parse_date_or_rfc3339(cases[i].text, strlen(cases[i].text), &us),
                         TIMESTAMP_OK);
    }
}

static void refuses_what_is_no_time(void **state)
{
    (void)state;
    static const char *const faults[] = {
        "",
        "2001",
        "2001-01-01",
        "2001-01-01T00:47",
        "2001-01-01T00:47:00",
        "2001-01-01T00:47Z",
        "2001-01-01T00:47:00 Z",
        "2001-01-01T00:47:00Z ",
        " 2001-01-01T00:47:00Z",
        "2001-01-01  00:47:00Z",
        "2001-01-01_00:47:00Z",
        "2001-01-01X00:47:00Z",
        "2001/01/01T00:47:00Z",
        "2001-1-01T00:47:00Z0",
        "20010101T004700Z....",
        "2001-01-01T00:47:00.Z",
        "2001-01-01T00:47:00,5Z",
        "2001-01-01T00:47:00.5",
        "2001-01-01T00:47:00.5.5Z",
        "2001-01-01T00:47:00+01",
        "2001-01-01T00:47:00+0100",
        "2001-01-01T00:47:00+1:00",
        "2001-01-01T00:47:00+01:0",
        "2001-01-01T00:47:00+01:000",
        "2001-01-01T00:47:00+24:00",
        "2001-01-01T00:47:00+01:60",
        "2001-01-01T00:47:00+0a:00",
        "2001-01-01T00:47:00*01:00",
        "2001-01-01T00:47:00+01-00",
        "2001-01-01T00:47:00UTC",
        "2001-01-01T00:47:00ZZ",
        "2001-01-01T24:00:00Z",
        "2001-01-01T00:60:00Z",
        "2001-01-01T00:00:61Z",
        "2001-01-01T00:47.00Z",
        "2001-01-01T00-47:00Z",
        "2001-01-01T-1:47:00Z",
        "2001-01-01T0 :47:00Z",
        "2001-00-01T00:47:00Z",
        "2001-13-01T00:47:00Z",
        "2001-01-00T00:47:00Z",
        "2001-01-32T00:47:00Z",
        "2001-04-31T00:47:00Z",
        "2001-02-29T00:47:00Z",
        "1900-02-29T00:47:00Z",
        "2100-02-29T00:47:00Z",
        "2000-02-30T00:47:00Z",
        "+2001-01-01T00:47:00Z",
        "-001-01-01T00:47:00Z",
        "12001-01-01T00:47:00Z",
        "200a-01-01T00:47:00Z",
        "now",
        "infinity",
        "\xd9\xa2\xd9\xa0\xd9\xa0\xd9\xa1-01-01T00:00Z", /* digits of another script */
    };
    for (size_t i = 0; i < COUNT(faults); i++) {
        int64_t us = 42;
        if (timestamp_parse_rfc3339(faults[i], strlen(faults[i]), &us) != TIMESTAMP_SYNTAX) {
            fail_msg("accepted: %s", faults[i]);
        }
        assert_int_equal(us, 42);
    }
    static const char *const outside[] = {
        "0000-12-31T23:59:59.999999Z", "0000-01-01T00:00:00Z",      "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:60Z",        "9999-12-31T23:59:59-00:01",
    };
    for (size_t i = 0; i < COUNT(outside); i++) {
        int64_t us = 42;
        assert_int_equal(timestamp_parse_rfc3339(outside[i], strlen(outside[i]), &us),
                         TIMESTAMP_RANGE);
        assert_int_equal(us, 42);
    }
}

/* Any one byte of a good text changed: accepted only with a meaning, and never read past the end.
 */
static void survives_damage(void **state)
{
    (void)state;
    static const char good[] = "2001-01-28T00:47:59.5+01:30";
    for (int round = 0; round < RANDOM_ROUNDS; round++) {
        size_t length = (size_t)model_below(sizeof(good));
        char *text = malloc(length + 1); /* on the heap, so that a sanitizer sees the end */
        char *exact = malloc(length == 0 ? 1 : length);
        assert_non_null(text);
        assert_non_null(exact);
        memcpy(text, good, length);
        if (length > 0) {
            text[model_below((int)length)] = "0123456789-+:.TZ \0"[model_below(18)];
        }
        memcpy(exact, text, length);
        int64_t us = INT64_MIN;
        enum timestamp_status status = timestamp_parse_date_or_rfc3339(exact, length, &us);
        assert_int_equal(status == TIMESTAMP_OK, us != INT64_MIN);
        free(exact);
        free(text);
    }
}

/* The last day of every month of every year is one, and the next is none. */
static void knows_the_length_of_every_month(void **state)
{
    (void)state;
    for (int year = 1; year <= 9999; year++) {
        for (int month = 0; month < 12; month++) {
            struct tm last = {.tm_year = year - 1900, .tm_mon = month + 1, .tm_mday = 0};
            time_t seconds = timegm(&last); /* sets tm_mday as well */
            char text[48];
            int64_t us = 42;
            snprintf(text, sizeof(text), "%04d-%02d-%02d", year, month + 1, last.tm_mday);
            assert_int_equal(timestamp_parse_date_or_rfc3339(text, 10, &us), TIMESTAMP_OK);
            assert_true(us == seconds * SECOND);
            snprintf(text, sizeof(text), "%04d-%02d-%02d", year, month + 1, last.tm_mday + 1);
            assert_int_equal(timestamp_parse_date_or_rfc3339(text, 10, &us), TIMESTAMP_SYNTAX);
        }
    }
}

static void parses_dates_for_parameters(void **state)
{
    (void)state;
    int64_t us = 42;
    assert_int_equal(timestamp_parse_date_or_rfc3339("2001-01-01", 10, &us), TIMESTAMP_OK);
    assert_int_equal(us, 978307200 * SECOND);
    assert_int_equal(timestamp_parse_date_or_rfc3339("0001-01-01", 10, &us), TIMESTAMP_OK);
    assert_int_equal(us, TIMESTAMP_MIN_US);
    us = 42;
    assert_int_equal(timestamp_parse_date_or_rfc3339("0000-12-31", 10, &us), TIMESTAMP_RANGE);
    assert_int_equal(timestamp_parse_date_or_rfc3339("2001-02-29", 10, &us), TIMESTAMP_SYNTAX);
    assert_int_equal(timestamp_parse_date_or_rfc3339("2001-01-0", 9, &us), TIMESTAMP_SYNTAX);
    assert_int_equal(timestamp_parse_date_or_rfc3339("2001-01-01T", 11, &us), TIMESTAMP_SYNTAX);
    assert_int_equal(us, 42);
}

static void agrees_with_libc(void **state)
{
    (void)state;
    uint64_t span = (uint64_t)(TIMESTAMP_END_US - TIMESTAMP_MIN_US);
    for (int round = 0; round < RANDOM_ROUNDS; round++) {
        int64_t us = TIMESTAMP_MIN_US + (int64_t)(model_random() % span);
        if (model_below(2) == 0) {
            us -= us % SECOND;
        }
        int64_t fraction = (us % SECOND + SECOND) % SECOND;
        time_t seconds = (time_t)((us - fraction) / SECOND);
        struct tm tm;
        assert_non_null(gmtime_r(&seconds, &tm));
        assert_true(timegm(&tm) == seconds);

        char expected[64];
        int length =
            snprintf(expected, sizeof(expected), "%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year + 1900,
                     tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
        if (fraction != 0) {
            length += snprintf(expected + length, sizeof(expected) - (size_t)length, ".%06d",
                               (int)fraction);
            while (expected[length - 1] == '0') {
                length--;
            }
        }
        expected[length++] = 'Z';
        expected[length] = '\0';

        char text[TIMESTAMP_TEXT_SIZE];
        assert_int_equal(timestamp_format(us, text, sizeof(text)), length);
        assert_string_equal(text, expected);
        int64_t again;
        assert_int_equal(timestamp_parse_rfc3339(text, (size_t)length, &again), TIMESTAMP_OK);
        assert_true(again == us);
        assert_int_equal(timestamp_from_postgres(timestamp_to_postgres(us), &again), TIMESTAMP_OK);
        assert_true(again == us);
    }
}

static void formats_beyond_the_range(void **state)
{
    (void)state;
    static const struct {
        int64_t us;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00Z"},
        {-1, "1969-12-31T23:59:59.999999Z"},
        {1500000, "1970-01-01T00:00:01.5Z"},
        {TIMESTAMP_MIN_US, "0001-01-01T00:00:00Z"},
        {TIMESTAMP_MIN_US - SECOND, "0000-12-31T23:59:59Z"},
        {TIMESTAMP_END_US, "+010000-01-01T00:00:00Z"},
        {INT64_C(-62198755200000000), "-000001-01-01T00:00:00Z"},
        {INT64_MAX, "+294247-01-10T04:00:54.775807Z"},
        {INT64_MIN, "-290308-12-21T19:59:05.224192Z"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[TIMESTAMP_TEXT_SIZE];
        assert_int_equal(timestamp_format(cases[i].us, text, sizeof(text)), strlen(cases[i].text));
        assert_string_equal(text, cases[i].text);
        assert_int_equal(timestamp_format(cases[i].us, text, strlen(cases[i].text)), 0);
        assert_string_equal(text, "");
    }
}

static void reads_epochs(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        int64_t units;
        enum timestamp_status status;
        int64_t us;
    } cases[] = {
        {"0", 1, TIMESTAMP_OK, 0},
        {"978310020", 1, TIMESTAMP_OK, 978310020 * SECOND},
        {"978310020.25", 1, TIMESTAMP_OK, 978310020 * SECOND + SECOND / 4},
        {"978310020250", 1000, TIMESTAMP_OK, 978310020 * SECOND + SECOND / 4},
        {"978310020250.5", 1000, TIMESTAMP_OK, 978310020 * SECOND + SECOND / 4 + 500},
        {"978310020250000", 1000000, TIMESTAMP_OK, 978310020 * SECOND + SECOND / 4},
        {"0.9999999", 1, TIMESTAMP_OK, 999999},
        {"-0.9999999", 1, TIMESTAMP_OK, -SECOND},
        {"-0.0000001", 1, TIMESTAMP_OK, -1},
        {"-0.9", 1000000, TIMESTAMP_OK, -1},
        {"0.9", 1000000, TIMESTAMP_OK, 0},
        {"-1e-38", 1000000, TIMESTAMP_OK, -1},
        {"1.0000000000000000000000000000000000000", 1, TIMESTAMP_OK, SECOND},
        {"-1.0000000000000000000000000000000000000", 1, TIMESTAMP_OK, -SECOND},
        {"-62135596800", 1, TIMESTAMP_OK, TIMESTAMP_MIN_US},
        {"-62135596800.0000001", 1, TIMESTAMP_RANGE, 0},
        {"-62135596801", 1, TIMESTAMP_RANGE, 0},
        {"253402300799.9999999", 1, TIMESTAMP_OK, TIMESTAMP_END_US - 1},
        {"253402300800", 1, TIMESTAMP_RANGE, 0},
        {"9223372036854775807", 1, TIMESTAMP_RANGE, 0},
        {"9223372036854775808", 1000000, TIMESTAMP_RANGE, 0},
        {"-9223372036854775809", 1000, TIMESTAMP_RANGE, 0},
        {"99999999999999999999999999999999999999", 1, TIMESTAMP_RANGE, 0},
        {"-9999999999999999999999999999999999999.9", 1, TIMESTAMP_RANGE, 0},
        {"99999999999999999999999.999999999999999", 1, TIMESTAMP_RANGE, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct decimal value;
        assert_int_equal(decimal_parse(cases[i].value, strlen(cases[i].value), &value), DECIMAL_OK);
        int64_t us = 42;
        assert_int_equal(timestamp_from_epoch(&value, cases[i].units, &us), cases[i].status);
        assert_true(us == (cases[i].status == TIMESTAMP_OK ? cases[i].us : 42));
        int64_t integer;
        if (value.scale == 0 && decimal_to_int64(&value, &integer)) {
            us = 42;
            assert_int_equal(timestamp_from_epoch_int64(integer, cases[i].units, &us),
                             cases[i].status);
            assert_true(us == (cases[i].status == TIMESTAMP_OK ? cases[i].us : 42));
        }
    }
}

static void converts_to_postgres(void **state)
{
    (void)state;
    int64_t us = 42;
    assert_int_equal(timestamp_to_postgres(978310020 * SECOND), 31625220 * SECOND);
    assert_int_equal(timestamp_from_postgres(0, &us), TIMESTAMP_OK);
    assert_int_equal(us, 946684800 * SECOND);
    us = 42;
    assert_int_equal(timestamp_from_postgres(INT64_MIN, &us), TIMESTAMP_RANGE);
    assert_int_equal(timestamp_from_postgres(INT64_MAX, &us), TIMESTAMP_RANGE);
    assert_int_equal(timestamp_from_postgres(INT64_MAX - 1, &us), TIMESTAMP_RANGE);
    assert_int_equal(us, 42);
    /* A window may end at the first instant that is no event time any more. */
    assert_int_equal(timestamp_from_postgres(timestamp_to_postgres(TIMESTAMP_END_US), &us),
                     TIMESTAMP_OK);
    assert_true(us == TIMESTAMP_END_US);
}

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum duration_status status;
        int64_t us;
        const char *printed;
    } cases[] = {
        {"1ms", DURATION_OK, 1000, "1ms"},
        {"250ms", DURATION_OK, 250000, "250ms"},
        {"1000ms", DURATION_OK, SECOND, "1s"},
        {"90s", DURATION_OK, 90 * SECOND, "90s"},
        {"15m", DURATION_OK, 900 * SECOND, "15m"},
        {"90m", DURATION_OK, 5400 * SECOND, "90m"},
        {"1h", DURATION_OK, 3600 * SECOND, "1h"},
        {"24h", DURATION_OK, 86400 * SECOND, "1d"},
        {"7d", DURATION_OK, 604800 * SECOND, "1w"},
        {"2w", DURATION_OK, 1209600 * SECOND, "2w"},
        {"9223372036854775ms", DURATION_OK, INT64_C(9223372036854775000), "9223372036854775ms"},
        {"9223372036854776ms", DURATION_RANGE, 0, NULL},
        {"15250284w", DURATION_OK, INT64_C(9223371763200000000), "15250284w"},
        {"15250285w", DURATION_RANGE, 0, NULL},
        {"0s", DURATION_RANGE, 0, NULL},
        {"9223372036854775808s", DURATION_RANGE, 0, NULL},
        {"99999999999999999999999999999s", DURATION_RANGE, 0, NULL},
        {"99999999999999999999999999999x", DURATION_SYNTAX, 0, NULL},
        {"", DURATION_SYNTAX, 0, NULL},
        {"5", DURATION_SYNTAX, 0, NULL},
        {"m", DURATION_SYNTAX, 0, NULL},
        {"05m", DURATION_SYNTAX, 0, NULL},
        {"-5m", DURATION_SYNTAX, 0, NULL},
        {"+5m", DURATION_SYNTAX, 0, NULL},
        {"5 m", DURATION_SYNTAX, 0, NULL},
        {"5m ", DURATION_SYNTAX, 0, NULL},
        {"1.5h", DURATION_SYNTAX, 0, NULL},
        {"1h30m", DURATION_SYNTAX, 0, NULL},
        {"5M", DURATION_SYNTAX, 0, NULL},
        {"5us", DURATION_SYNTAX, 0, NULL},
        {"5min", DURATION_SYNTAX, 0, NULL},
        {"5y", DURATION_SYNTAX, 0, NULL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int64_t us = 42;
        assert_int_equal(duration_parse(cases[i].text, strlen(cases[i].text), &us),
                         cases[i].status);
        assert_true(us == (cases[i].status == DURATION_OK ? cases[i].us : 42));
        if (cases[i].printed != NULL) {
            char text[DURATION_TEXT_SIZE];
            assert_int_equal(duration_format(us, text, sizeof(text)), strlen(cases[i].printed));
            assert_string_equal(text, cases[i].printed);
            assert_int_equal(duration_format(us, text, strlen(cases[i].printed)), 0);
            assert_string_equal(text, "");
        }
    }
    char text[DURATION_TEXT_SIZE];
    duration_format(0, text, sizeof(text));
    assert_string_equal(text, "0s");
    duration_format(INT64_MAX, text, sizeof(text));
    assert_string_equal(text, "9223372036854775807us");
}

int main(void)
{
    model_random_start("test_timestamp");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_rfc3339),
        cmocka_unit_test(refuses_what_is_no_time),
        cmocka_unit_test(survives_damage),
        cmocka_unit_test(knows_the_length_of_every_month),
        cmocka_unit_test(parses_dates_for_parameters),
        cmocka_unit_test(agrees_with_libc),
        cmocka_unit_test(formats_beyond_the_range),
        cmocka_unit_test(reads_epochs),
        cmocka_unit_test(converts_to_postgres),
        cmocka_unit_test(durations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
