/*
 * Timestamps from and to text and numbers, without libc's time functions, which are slow, depend on
 * the locale or the zone, and accept too much.
 *
 * The calendar is the proleptic Gregorian one, as in RFC 3339 and PostgreSQL. Both conversions
 * between days and dates are days_from_civil and civil_from_days of Howard Hinnant,
 * "chrono-Compatible Low-Level Date Algorithms", howardhinnant.github.io/date_algorithms.html.
 * Pure; any thread.
 */
#include "core/time/timestamp.h"

#include <assert.h>
#include <string.h>

#define DAYS_PER_ERA 146097       /* 400 years */
#define DAYS_TO_UNIX_EPOCH 719468 /* from 0000-03-01, where eras start */

/* Days since 1970-01-01 of a date in the years 0 to 9999. */
static int64_t days_from_civil(uint32_t year, uint32_t month, uint32_t day)
{
    /* The year begins in March, so that the leap day is its last. One era more keeps it positive.
     */
    uint32_t shifted = year + 400 - (month <= 2);
    uint32_t era = shifted / 400;
    uint32_t year_of_era = shifted % 400;
    uint32_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    uint32_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return ((int64_t)era - 1) * DAYS_PER_ERA + day_of_era - DAYS_TO_UNIX_EPOCH;
}

struct timestamp_date timestamp_date_from_days(int64_t days)
{
    days += DAYS_TO_UNIX_EPOCH;
    int64_t era = (days >= 0 ? days : days - (DAYS_PER_ERA - 1)) / DAYS_PER_ERA;
    uint32_t day_of_era = (uint32_t)(days - era * DAYS_PER_ERA);
    uint32_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    uint32_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint32_t shifted_month = (5 * day_of_year + 2) / 153; /* March is 0 */
    struct timestamp_date date = {
        .year = (int64_t)year_of_era + era * 400,
        .month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9,
        .day = day_of_year - (153 * shifted_month + 2) / 5 + 1,
    };
    date.year += date.month <= 2;
    return date;
}

int64_t timestamp_days_from_date(int64_t year, uint32_t month, uint32_t day)
{
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    return days_from_civil((uint32_t)(year - era * 400), month, day) + era * DAYS_PER_ERA;
}

uint32_t timestamp_days_in_month(int64_t year, uint32_t month)
{
    static const uint8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap ? 1u : 0u);
}

/* The value of one digit; *bad collects what is none, so that a run of digits is checked once. */
static uint32_t digit_at(const char *text, bool *bad)
{
    uint32_t digit = (uint32_t)(unsigned char)*text - '0';
    *bad |= digit > 9;
    return digit;
}

static uint32_t two_digits(const char *text, bool *bad)
{
    return digit_at(text, bad) * 10 + digit_at(text + 1, bad);
}

/* Reads the ten bytes of YYYY-MM-DD into days since the epoch. */
static bool read_date(const char *text, int64_t *days)
{
    bool bad = text[4] != '-' || text[7] != '-';
    uint32_t year = two_digits(text, &bad) * 100 + two_digits(text + 2, &bad);
    uint32_t month = two_digits(text + 5, &bad);
    uint32_t day = two_digits(text + 8, &bad);
    if (bad || month - 1 > 11 || day == 0 || day > 28) {
        /* The rare cases: a fault, or the end of a month. */
        if (bad || month - 1 > 11 || day == 0 || day > timestamp_days_in_month(year, month)) {
            return false;
        }
    }
    *days = days_from_civil(year, month, day);
    return true;
}

/* Reads the eight bytes of hh:mm:ss into seconds; second 60 runs over into the next minute. */
static bool read_time(const char *text, int64_t *seconds)
{
    bool bad = text[2] != ':' || text[5] != ':';
    uint32_t hour = two_digits(text, &bad);
    uint32_t minute = two_digits(text + 3, &bad);
    uint32_t second = two_digits(text + 6, &bad);
    *seconds = (int64_t)(hour * 3600 + minute * 60 + second);
    return !bad && hour <= 23 && minute <= 59 && second <= 60;
}

/* Reads a fraction after its point and returns where it ends; NULL where there is no digit. */
static const char *read_fraction(const char *text, const char *end, int64_t *us)
{
    const char *start = text;
    int64_t unit = TIMESTAMP_US_PER_SECOND / 10;
    int64_t value = 0;
    for (; text < end && *text >= '0' && *text <= '9'; text++) {
        value += (*text - '0') * unit; /* the seventh digit and later ones meet a unit of 0 */
        unit /= 10;
    }
    *us = value;
    return text == start ? NULL : text;
}

/* Reads Z or ±hh:mm, which must be all that is left. */
static bool read_offset(const char *text, const char *end, int64_t *seconds)
{
    if (end - text == 1) {
        *seconds = 0;
        return *text == 'Z' || *text == 'z';
    }
    if (end - text != 6 || (*text != '+' && *text != '-')) {
        return false;
    }
    bool bad = text[3] != ':';
    uint32_t hour = two_digits(text + 1, &bad);
    uint32_t minute = two_digits(text + 4, &bad);
    int64_t offset = (int64_t)(hour * 3600 + minute * 60);
    *seconds = *text == '-' ? -offset : offset;
    return !bad && hour <= 23 && minute <= 59;
}

bool timestamp_in_range(int64_t us)
{
    return us >= TIMESTAMP_MIN_US && us < TIMESTAMP_END_US;
}

static enum timestamp_status store(int64_t us, int64_t *result)
{
    if (!timestamp_in_range(us)) {
        return TIMESTAMP_RANGE;
    }
    *result = us;
    return TIMESTAMP_OK;
}

enum timestamp_status timestamp_parse_rfc3339(const char *text, size_t length, int64_t *us)
{
    enum { DATE_LENGTH = 10, TIME_START = 11, TIME_END = 19 };
    int64_t days;
    int64_t seconds;
    int64_t fraction_us = 0;
    int64_t offset_seconds;

    if (length <= TIME_END || !read_date(text, &days) || !read_time(text + TIME_START, &seconds)) {
        return TIMESTAMP_SYNTAX;
    }
    char separator = text[DATE_LENGTH];
    if (separator != 'T' && separator != 't' && separator != ' ') {
        return TIMESTAMP_SYNTAX;
    }
    const char *end = text + length;
    const char *rest = text + TIME_END;
    if (*rest == '.') {
        rest = read_fraction(rest + 1, end, &fraction_us);
    }
    if (rest == NULL || !read_offset(rest, end, &offset_seconds)) {
        return TIMESTAMP_SYNTAX;
    }
    seconds += days * 86400 - offset_seconds;
    return store(seconds * TIMESTAMP_US_PER_SECOND + fraction_us, us);
}

enum timestamp_status timestamp_parse_date_or_rfc3339(const char *text, size_t length, int64_t *us)
{
    if (length != 10) {
        return timestamp_parse_rfc3339(text, length, us);
    }
    int64_t days;
    if (!read_date(text, &days)) {
        return TIMESTAMP_SYNTAX;
    }
    return store(days * TIMESTAMP_US_PER_DAY, us);
}

enum timestamp_status timestamp_from_epoch_int64(int64_t value, int64_t units_per_second,
                                                 int64_t *us)
{
    int64_t scaled;
    assert(units_per_second == 1 || units_per_second == 1000 || units_per_second == 1000000);
    if (__builtin_mul_overflow(value, TIMESTAMP_US_PER_SECOND / units_per_second, &scaled)) {
        return TIMESTAMP_RANGE;
    }
    return store(scaled, us);
}

enum timestamp_status timestamp_from_epoch(const struct decimal *value, int64_t units_per_second,
                                           int64_t *us)
{
    assert(units_per_second == 1 || units_per_second == 1000 || units_per_second == 1000000);
    /* Microseconds are the coefficient × 10^-shift. */
    int32_t shift = value->scale;
    for (int64_t unit = units_per_second; unit < TIMESTAMP_US_PER_SECOND; unit *= 10) {
        shift--;
    }
    int128 power = 1;
    for (int32_t i = shift < 0 ? -shift : shift; i > 0; i--) {
        power *= 10; /* at most 10^38, which 127 bits hold */
    }
    int128 result;
    if (shift < 0) {
        if (__builtin_mul_overflow(value->coefficient, power, &result)) {
            return TIMESTAMP_RANGE;
        }
    } else {
        result = value->coefficient / power;
        result -= value->coefficient % power < 0;
    }
    if (result < INT64_MIN || result > INT64_MAX) {
        return TIMESTAMP_RANGE;
    }
    return store((int64_t)result, us);
}

/* Writes `width` decimal digits and returns where they end. */
static char *put_digits(char *out, uint32_t value, int width)
{
    for (int i = width; i-- > 0;) {
        out[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return out + width;
}

static char *put_year(char *out, int64_t year)
{
    if (year >= 0 && year <= 9999) {
        return put_digits(out, (uint32_t)year, 4);
    }
    *out++ = year < 0 ? '-' : '+';
    return put_digits(out, (uint32_t)(year < 0 ? -year : year), 6);
}

size_t timestamp_format(int64_t us, char *buffer, size_t size)
{
    int64_t days = us / TIMESTAMP_US_PER_DAY;
    int64_t us_of_day = us % TIMESTAMP_US_PER_DAY;
    if (us_of_day < 0) {
        us_of_day += TIMESTAMP_US_PER_DAY;
        days--;
    }
    uint32_t second = (uint32_t)(us_of_day / TIMESTAMP_US_PER_SECOND);
    uint32_t fraction = (uint32_t)(us_of_day % TIMESTAMP_US_PER_SECOND);
    struct timestamp_date date = timestamp_date_from_days(days);

    char text[TIMESTAMP_TEXT_SIZE];
    char *out = put_year(text, date.year);
    *out++ = '-';
    out = put_digits(out, date.month, 2);
    *out++ = '-';
    out = put_digits(out, date.day, 2);
    *out++ = 'T';
    out = put_digits(out, second / 3600, 2);
    *out++ = ':';
    out = put_digits(out, second / 60 % 60, 2);
    *out++ = ':';
    out = put_digits(out, second % 60, 2);
    if (fraction != 0) {
        *out++ = '.';
        out = put_digits(out, fraction, 6);
        while (out[-1] == '0') {
            out--;
        }
    }
    *out++ = 'Z';
    *out = '\0';

    size_t length = (size_t)(out - text);
    if (length >= size) {
        if (size > 0) {
            buffer[0] = '\0';
        }
        return 0;
    }
    memcpy(buffer, text, length + 1);
    return length;
}

int64_t timestamp_to_postgres(int64_t us)
{
    assert(us >= INT64_MIN + TIMESTAMP_POSTGRES_EPOCH_US);
    return us - TIMESTAMP_POSTGRES_EPOCH_US;
}

enum timestamp_status timestamp_from_postgres(int64_t pg_us, int64_t *us)
{
    int64_t result;
    /* INT64_MIN and INT64_MAX stand for the infinities; the latter overflows here by itself. */
    if (pg_us == INT64_MIN || __builtin_add_overflow(pg_us, TIMESTAMP_POSTGRES_EPOCH_US, &result)) {
        return TIMESTAMP_RANGE;
    }
    *us = result;
    return TIMESTAMP_OK;
}
