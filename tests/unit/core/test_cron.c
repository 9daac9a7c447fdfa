/* Cron expressions: what is accepted, what is refused and with which words, and the next time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/time/cron.h"
#include "core/time/timestamp.h"

static int64_t instant(const char *text)
{
    int64_t us = 0;
    assert_int_equal(timestamp_parse_rfc3339(text, strlen(text), &us), TIMESTAMP_OK);
    return us;
}

static void expect_next(const char *expression, const char *after, const char *expected)
{
    struct cron cron;
    struct error error = {0};
    if (cron_parse(expression, &cron, &error) != STATUS_OK)
        fail_msg("%s: %s", expression, error.text);
    int64_t next;
    if (!cron_next(&cron, instant(after), &next))
        fail_msg("%s: never", expression);
    char text[TIMESTAMP_TEXT_SIZE];
    timestamp_format(next, text, sizeof text);
    if (strcmp(text, expected) != 0)
        fail_msg("%s after %s: %s, not %s", expression, after, text, expected);
}

static void expect_fault(const char *expression, const char *part)
{
    struct cron cron;
    struct error error = {0};
    assert_int_equal(cron_parse(expression, &cron, &error), STATUS_REJECT);
    if (strstr(error.text, part) == NULL)
        fail_msg("%s: \"%s\" does not say \"%s\"", expression, error.text, part);
}

static void test_every_minute(void **state)
{
    (void)state;
    expect_next("* * * * *", "2024-05-06T07:08:09Z", "2024-05-06T07:09:00Z");
    expect_next("* * * * *", "2024-05-06T07:08:00Z", "2024-05-06T07:09:00Z");
    expect_next("* * * * *", "2024-05-06T07:07:59.999999Z", "2024-05-06T07:08:00Z");
    expect_next("* * * * *", "2023-12-31T23:59:00Z", "2024-01-01T00:00:00Z");
}

static void test_lists_ranges_steps(void **state)
{
    (void)state;
    expect_next("*/10 * * * *", "2024-05-06T07:08:09Z", "2024-05-06T07:10:00Z");
    expect_next("*/10 * * * *", "2024-05-06T07:50:00Z", "2024-05-06T08:00:00Z");
    expect_next("5,35 6-8/2 * * *", "2024-05-06T06:35:00Z", "2024-05-06T08:05:00Z");
    expect_next("5,35 6-8/2 * * *", "2024-05-06T08:35:00Z", "2024-05-07T06:05:00Z");
    expect_next("1-5,50-59/3 0 1 1 *", "2024-01-01T00:05:00Z", "2024-01-01T00:50:00Z");
    expect_next("1-5,50-59/3 0 1 1 *", "2024-01-01T00:56:00Z", "2024-01-01T00:59:00Z");
    expect_next("0 0 1 1 *", "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z");
    expect_next("\t0   12 *\t* * ", "2024-01-01T00:00:00Z", "2024-01-01T12:00:00Z");
}

static void test_names(void **state)
{
    (void)state;
    expect_next("0 0 * feb *", "2024-05-06T00:00:00Z", "2025-02-01T00:00:00Z");
    expect_next("0 0 * Jan-MAR/2 *", "2024-01-31T00:00:00Z", "2024-03-01T00:00:00Z");
    expect_next("0 0 * * mon", "2024-05-06T00:00:00Z", "2024-05-13T00:00:00Z"); /* a Monday */
    expect_next("0 0 * * fri-sun", "2024-05-06T00:00:00Z", "2024-05-10T00:00:00Z");
    expect_next("0 0 * * fri-sun", "2024-05-11T00:00:00Z", "2024-05-12T00:00:00Z");
    expect_next("0 0 * * 7", "2024-05-06T00:00:00Z", "2024-05-12T00:00:00Z");
    expect_next("0 0 * * 0", "2024-05-06T00:00:00Z", "2024-05-12T00:00:00Z");
}

/* Either day field where both are given, both where one begins with a star: crontab(5). */
static void test_day_fields(void **state)
{
    (void)state;
    expect_next("0 0 13 * fri", "2024-05-06T00:00:00Z", "2024-05-10T00:00:00Z");
    expect_next("0 0 13 * fri", "2024-05-10T00:00:00Z", "2024-05-13T00:00:00Z");
    expect_next("0 0 13 * *", "2024-05-13T00:00:00Z", "2024-06-13T00:00:00Z");
    expect_next("0 0 */2 * mon", "2024-05-06T00:00:00Z", "2024-05-13T00:00:00Z");
    expect_next("0 0 */2 * mon", "2024-05-13T00:00:00Z", "2024-05-27T00:00:00Z");
}

static void test_calendar(void **state)
{
    (void)state;
    expect_next("0 0 29 2 *", "2024-02-29T00:00:00Z", "2028-02-29T00:00:00Z");
    expect_next("0 0 29 2 *", "2097-01-01T00:00:00Z", "2104-02-29T00:00:00Z");
    expect_next("0 0 31 * *", "2024-03-31T00:00:00Z", "2024-05-31T00:00:00Z");
    struct cron cron;
    int64_t next;
    assert_int_equal(cron_parse("0 0 30 2 *", &cron, NULL), STATUS_OK);
    assert_false(cron_next(&cron, instant("2024-01-01T00:00:00Z"), &next));
}

static void test_faults(void **state)
{
    (void)state;
    expect_fault("", "0 fields");
    expect_fault("* * * *", "4 fields");
    expect_fault("* * * * * *", "6 fields");
    expect_fault("60 * * * *", "minute: 60 is not between 0 and 59");
    expect_fault("* 24 * * *", "hour: 24");
    expect_fault("* * 0 * *", "day of month: 0");
    expect_fault("* * 32 * *", "day of month: 32");
    expect_fault("* * * 13 *", "month: 13");
    expect_fault("* * * * 8", "day of week: 8");
    expect_fault("*/0 * * * *", "minute: a step");
    expect_fault("*/60 * * * *", "minute: a step");
    expect_fault("5/10 * * * *", "a step needs a range");
    expect_fault("20-10 * * * *", "backwards");
    expect_fault("1, * * * *", "minute");
    expect_fault(",1 * * * *", "minute");
    expect_fault("1-2-3 * * * *", "minute");
    expect_fault("-1 * * * *", "minute");
    expect_fault("99999999999999999999 * * * *", "minute");
    expect_fault("*x * * * *", "minute");
    expect_fault("* * * janu *", "month");
    expect_fault("jan * * * *", "minute");
    expect_fault("@daily", "1 fields");
}

/* The answer against a walk over every minute with the C library's calendar. */
static void test_against_walk(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    for (int round = 0; round < 300; round++) {
        char text[64];
        int day = rand() % 3;
        int weekday = rand() % 3;
        char days[16] = "*";
        char weekdays[16] = "*";
        if (day > 0)
            snprintf(days, sizeof days, day == 1 ? "%d" : "*/%d", 1 + rand() % 20);
        if (weekday > 0)
            snprintf(weekdays, sizeof weekdays, weekday == 1 ? "%d" : "*/%d", 1 + rand() % 6);
        snprintf(text, sizeof text, "%d */%d %s * %s", rand() % 60, 1 + rand() % 23, days,
                 weekdays);
        struct cron cron;
        assert_int_equal(cron_parse(text, &cron, NULL), STATUS_OK);
        int64_t after_s = INT64_C(1700000000) + rand();
        int64_t next;
        assert_true(cron_next(&cron, after_s * 1000000, &next));
        for (time_t at = (time_t)(after_s / 60 + 1) * 60;; at += 60) {
            struct tm tm;
            gmtime_r(&at, &tm);
            bool by_day = (cron.days >> tm.tm_mday & 1) != 0;
            bool by_weekday = (cron.weekdays >> tm.tm_wday & 1) != 0;
            bool star = days[0] == '*' || weekdays[0] == '*';
            bool match = (cron.minutes >> tm.tm_min & 1) != 0 &&
                         (cron.hours >> tm.tm_hour & 1) != 0 &&
                         (star ? by_day && by_weekday : by_day || by_weekday);
            if (!match)
                continue;
            if ((int64_t)at * 1000000 != next)
                fail_msg("seed %u: %s after %ld: %ld, not %ld", seed, text, (long)after_s,
                         (long)(next / 1000000), (long)at);
            break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_minute), cmocka_unit_test(test_lists_ranges_steps),
        cmocka_unit_test(test_names),        cmocka_unit_test(test_day_fields),
        cmocka_unit_test(test_calendar),     cmocka_unit_test(test_faults),
        cmocka_unit_test(test_against_walk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
