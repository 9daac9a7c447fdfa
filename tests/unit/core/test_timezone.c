/* Time zones: local days around every kind of change of clocks there has been, and files that are
 * none. Reads the installed tzdata. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "core/time/timestamp.h"
#include "core/time/timezone.h"

static struct error error;
static struct arena arena;

static const struct time_zone *load(const char *name)
{
    const struct time_zone *zone = NULL;
    if (time_zone_load(name, &arena, &zone, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    assert_string_equal(zone->name, name);
    return zone;
}

static int64_t at(const char *text)
{
    int64_t us = 0;
    assert_int_equal(timestamp_parse_date_or_rfc3339(text, strlen(text), &us), TIMESTAMP_OK);
    return us;
}

static void test_days(void **state)
{
    (void)state;
    static const struct {
        const char *zone, *time, *day, *start, *end;
    } cases[] = {
        /* 23 and 25 hours */
        {"America/New_York", "2024-03-10T12:00:00Z", "2024-03-10", "2024-03-10T05:00:00Z",
         "2024-03-11T04:00:00Z"},
        {"America/New_York", "2024-11-04T04:59:59.999999Z", "2024-11-03", "2024-11-03T04:00:00Z",
         "2024-11-04T05:00:00Z"},
        {"Europe/Berlin", "2024-03-31T01:00:00Z", "2024-03-31", "2024-03-30T23:00:00Z",
         "2024-03-31T22:00:00Z"},
        {"Europe/Berlin", "2024-10-27T00:59:59Z", "2024-10-27", "2024-10-26T22:00:00Z",
         "2024-10-27T23:00:00Z"},
        /* by the rule behind the table, summer time in winter's name, and long after it */
        {"Europe/Dublin", "2050-03-27T12:00:00Z", "2050-03-27", "2050-03-27T00:00:00Z",
         "2050-03-27T23:00:00Z"},
        {"America/New_York", "9999-11-07T12:00:00Z", "9999-11-07", "9999-11-07T04:00:00Z",
         "9999-11-08T05:00:00Z"},
        {"Australia/Lord_Howe", "2050-04-03T00:00:00Z", "2050-04-03", "2050-04-02T13:00:00Z",
         "2050-04-03T13:30:00Z"},
        /* midnight left out */
        {"America/Sao_Paulo", "2018-11-04T03:00:00Z", "2018-11-04", "2018-11-04T03:00:00Z",
         "2018-11-05T02:00:00Z"},
        {"America/Sao_Paulo", "2018-11-04T02:59:59Z", "2018-11-03", "2018-11-03T03:00:00Z",
         "2018-11-04T03:00:00Z"},
        /* 23:30 became 00:30 */
        {"America/Toronto", "1919-03-31T04:30:00Z", "1919-03-31", "1919-03-31T04:30:00Z",
         "1919-04-01T04:00:00Z"},
        /* 24:00 became 23:00: the day before is 25 hours long */
        {"America/Sao_Paulo", "2018-02-18T02:30:00Z", "2018-02-17", "2018-02-17T02:00:00Z",
         "2018-02-18T03:00:00Z"},
        /* midnight twice: 01:00 became 00:00 */
        {"America/Havana", "2012-11-04T04:30:00Z", "2012-11-04", "2012-11-04T04:00:00Z",
         "2012-11-05T05:00:00Z"},
        {"America/Havana", "2012-11-04T05:30:00Z", "2012-11-04", "2012-11-04T04:00:00Z",
         "2012-11-05T05:00:00Z"},
        /* 00:01 became 23:01 of a day that was over */
        {"America/St_Johns", "2000-10-29T02:30:30Z", "2000-10-29", "2000-10-29T02:30:00Z",
         "2000-10-30T03:30:00Z"},
        {"America/St_Johns", "2000-10-29T03:00:00Z", "2000-10-29", "2000-10-29T02:30:00Z",
         "2000-10-30T03:30:00Z"},
        {"America/St_Johns", "2000-10-29T02:29:59Z", "2000-10-28", "2000-10-28T02:30:00Z",
         "2000-10-29T02:30:00Z"},
        /* a day that was left out: nothing is in it */
        {"Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29", "2011-12-29T10:00:00Z",
         "2011-12-30T10:00:00Z"},
        {"Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-31", "2011-12-30T10:00:00Z",
         "2011-12-31T10:00:00Z"},
        /* quarters of an hour */
        {"Asia/Kathmandu", "1985-12-31T18:29:59Z", "1985-12-31", "1985-12-30T18:30:00Z",
         "1985-12-31T18:30:00Z"},
        {"Asia/Kathmandu", "1986-01-01T12:00:00Z", "1986-01-01", "1985-12-31T18:30:00Z",
         "1986-01-01T18:15:00Z"},
        {"Asia/Kathmandu", "2024-01-01T00:00:00Z", "2024-01-01", "2023-12-31T18:15:00Z",
         "2024-01-01T18:15:00Z"},
        /* before 1970, and before there was standard time */
        {"America/New_York", "1969-12-31T12:00:00Z", "1969-12-31", "1969-12-31T05:00:00Z",
         "1970-01-01T05:00:00Z"},
        {"America/New_York", "1800-07-01T12:00:00Z", "1800-07-01", "1800-07-01T04:56:02Z",
         "1800-07-02T04:56:02Z"},
        {"Europe/Paris", "0001-01-02T12:00:00Z", "0001-01-02", "0001-01-01T23:50:39Z",
         "0001-01-02T23:50:39Z"},
        {"Etc/GMT+5", "2024-01-01T12:00:00Z", "2024-01-01", "2024-01-01T05:00:00Z",
         "2024-01-02T05:00:00Z"},
        {"UTC", "1969-12-31T23:59:59.999999Z", "1969-12-31", "1969-12-31T00:00:00Z",
         "1970-01-01T00:00:00Z"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char start[TIMESTAMP_TEXT_SIZE], end[TIMESTAMP_TEXT_SIZE];
        const struct time_zone *zone = load(cases[i].zone);
        int64_t day = time_zone_day(zone, at(cases[i].time));
        print_message("%s %s\n", cases[i].zone, cases[i].time);
        assert_int_equal(day, at(cases[i].day) / TIMESTAMP_US_PER_DAY -
                                  (at(cases[i].day) % TIMESTAMP_US_PER_DAY < 0));
        timestamp_format(time_zone_day_start_us(zone, day), start, sizeof start);
        timestamp_format(time_zone_day_start_us(zone, day + 1), end, sizeof end);
        assert_string_equal(start, cases[i].start);
        assert_string_equal(end, cases[i].end);
    }
    /* the day that was left out begins and ends where its neighbour begins */
    const struct time_zone *apia = load("Pacific/Apia");
    int64_t skipped = at("2011-12-30") / TIMESTAMP_US_PER_DAY;
    assert_int_equal(time_zone_day_start_us(apia, skipped),
                     time_zone_day_start_us(apia, skipped + 1));
}

/* Days follow each other without gaps, and every instant is in its day. */
static void test_days_are_a_partition(void **state)
{
    (void)state;
    static const char *const zones[] = {
        "America/St_Johns",     "Pacific/Apia",      "Asia/Manila",  "America/Juneau",
        "America/Scoresbysund", "Africa/Casablanca", "Europe/Lisbon"};
    for (size_t z = 0; z < sizeof zones / sizeof zones[0]; z++) {
        const struct time_zone *zone = load(zones[z]);
        for (size_t i = 0; i < zone->count; i++) {
            for (int64_t minute = -3000; minute <= 3000; minute += 7) {
                int64_t us = (zone->times_s[i] + minute * 60) * TIMESTAMP_US_PER_SECOND;
                if (zone->times_s[i] < at("1800-01-01") / TIMESTAMP_US_PER_SECOND)
                    break;
                int64_t day = time_zone_day(zone, us);
                assert_true(time_zone_day_start_us(zone, day) <= us);
                assert_true(time_zone_day_start_us(zone, day + 1) > us);
            }
        }
    }
}

static void test_offsets(void **state)
{
    (void)state;
    const struct time_zone *zone = load("America/New_York");
    assert_int_equal(time_zone_offset_s(zone, at("2024-07-01") / 1000000), -4 * 3600);
    assert_int_equal(time_zone_offset_s(zone, at("2024-01-01") / 1000000), -5 * 3600);
    assert_int_equal(time_zone_offset_s(zone, at("9876-07-01") / 1000000), -4 * 3600);
    assert_int_equal(time_zone_offset_s(zone, at("9876-12-01") / 1000000), -5 * 3600);
    assert_int_equal(time_zone_offset_s(zone, INT64_C(253402300800) + 86400 * 400), -5 * 3600);
    assert_int_equal(time_zone_offset_s(zone, at("1700-01-01") / 1000000), -17762);
}

static void test_bad_names(void **state)
{
    (void)state;
    static const char *const names[] = {"",
                                        "EST",
                                        "CET",
                                        "utc",
                                        "/etc/passwd",
                                        "../../etc/passwd",
                                        "America/",
                                        "America",
                                        "America/../UTC",
                                        "a b/c",
                                        "America/New_York\n"};
    static const char *const unknown[] = {"America/Gotham", "Europe/", "America/Argentina"};
    const struct time_zone *zone;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_int_equal(time_zone_load(names[i], &arena, &zone, &error), STATUS_REJECT);
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_int_equal(time_zone_load(unknown[i], &arena, &zone, &error), STATUS_REJECT);
        assert_non_null(strstr(error.text, "there is no time zone"));
    }
    assert_int_equal(time_zone_load("right/UTC", &arena, &zone, &error), STATUS_REJECT);
}

/* Whatever the bytes are, a file is read or refused. */
static void test_damaged_files(void **state)
{
    (void)state;
    static unsigned char data[20000], copy[20000];
    const struct time_zone *zone;
    FILE *file = fopen(TIME_ZONE_DIRECTORY "/America/New_York", "r");
    assert_non_null(file);
    size_t length = fread(data, 1, sizeof data, file);
    fclose(file);
    assert_int_equal(time_zone_parse("x/y", data, length, &arena, &zone, &error), STATUS_OK);
    for (size_t cut = 0; cut < length; cut++)
        assert_int_equal(time_zone_parse("x/y", data, cut, &arena, &zone, &error), STATUS_REJECT);
    for (size_t i = 0; i < length; i++) {
        memcpy(copy, data, length);
        copy[i] ^= (unsigned char)(1 + i * 37 % 255);
        if (time_zone_parse("x/y", copy, length, &arena, &zone, &error) == STATUS_OK) {
            int64_t day = time_zone_day(zone, at("2024-01-01"));
            (void)time_zone_day_start_us(zone, day);
        }
        arena_reset(&arena);
    }
}

/* A file that has the rule alone, and one in which it is written out up to 2037, are one zone. */
static void test_digest(void **state)
{
    (void)state;
    assert_true(time_zone_digest(load("US/Eastern")) == time_zone_digest(load("America/New_York")));
    assert_true(time_zone_digest(load("America/Toronto")) !=
                time_zone_digest(load("America/New_York")));
    static const unsigned char rules[] =
        "TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\4"
        "\0\0\0\0\0\0UTC\0"
        "TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\4"
        "\xff\xff\xab\xa0\0\0-06\0\n<-06>6<-05>,J60/2:30,300/-1\n";
    const struct time_zone *zone = NULL;
    if (time_zone_parse("x/y", rules, sizeof rules - 1, &arena, &zone, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    /* J60 is 1 March in every year; 300 is 27 or, in leap years, 28 October less one hour */
    assert_int_equal(time_zone_offset_s(zone, at("2024-03-01T08:29:59Z") / 1000000), -6 * 3600);
    assert_int_equal(time_zone_offset_s(zone, at("2024-03-01T08:30:00Z") / 1000000), -5 * 3600);
    assert_int_equal(time_zone_offset_s(zone, at("2023-03-01T08:30:00Z") / 1000000), -5 * 3600);
    assert_int_equal(time_zone_offset_s(zone, at("2024-10-27T03:59:59Z") / 1000000), -5 * 3600);
    assert_int_equal(time_zone_offset_s(zone, at("2024-10-27T04:00:00Z") / 1000000), -6 * 3600);
    assert_int_equal(time_zone_offset_s(zone, at("2023-10-28T03:59:59Z") / 1000000), -5 * 3600);
    assert_int_equal(time_zone_offset_s(zone, at("2023-10-28T04:00:00Z") / 1000000), -6 * 3600);
}

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_deinit(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_days),          cmocka_unit_test(test_days_are_a_partition),
        cmocka_unit_test(test_offsets),       cmocka_unit_test(test_bad_names),
        cmocka_unit_test(test_damaged_files), cmocka_unit_test(test_digest),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
