/* Reading times and intervals: src/backend/utils/adt/datetime.c of PostgreSQL knows many more
 * forms. Pure; any thread. */
#include "core/functions/time_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/time/timestamp.h"

/* What is left to be read. */
struct cursor {
    const char *at;
    const char *end;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool skip(struct cursor *cursor, char c)
{
    if (cursor->at < cursor->end && *cursor->at == c) {
        cursor->at++;
        return true;
    }
    return false;
}

/* Exactly two digits, after which no third stands. */
static bool two_digits(struct cursor *cursor, int64_t *value)
{
    if (cursor->end - cursor->at < 2 || !is_digit(cursor->at[0]) || !is_digit(cursor->at[1])) {
        return false;
    }
    *value = (cursor->at[0] - '0') * 10 + (cursor->at[1] - '0');
    cursor->at += 2;
    return true;
}

/* The digits behind a point, in microseconds. PostgreSQL rounds a double, so this does. */
static bool fraction(struct cursor *cursor, int64_t *us)
{
    char text[64] = ".";
    size_t length = 1;

    while (cursor->at < cursor->end && is_digit(*cursor->at)) {
        if (length + 1 < sizeof text) {
            text[length++] = *cursor->at;
        }
        cursor->at++;
    }
    *us = (int64_t)rint(strtod(text, NULL) * 1000000);
    return length > 1;
}

struct clock {
    int64_t hour, minute, second, us;
};

/* hh:mm[:ss[.f]] */
static bool read_clock(struct cursor *cursor, struct clock *clock)
{
    *clock = (struct clock){0};
    if (!two_digits(cursor, &clock->hour) || !skip(cursor, ':') ||
        !two_digits(cursor, &clock->minute)) {
        return false;
    }
    if (!skip(cursor, ':')) {
        return true;
    }
    return two_digits(cursor, &clock->second) &&
           (!skip(cursor, '.') || fraction(cursor, &clock->us));
}

static int64_t clock_us(const struct clock *clock)
{
    return ((clock->hour * 60 + clock->minute) * 60 + clock->second) * TIMESTAMP_US_PER_SECOND +
           clock->us;
}

/* Second 60, whatever its fraction, and 24:00:00 run over, but none beyond the day's end. */
static bool clock_is_good(const struct clock *clock)
{
    return clock->minute < 60 && clock->second <= 60 && clock_us(clock) <= TIMESTAMP_US_PER_DAY;
}

/* Z, ±hh, ±hhmm, ±hh:mm. */
static bool read_offset(struct cursor *cursor, int64_t *seconds, bool *good)
{
    int64_t hours, minutes = 0;

    *seconds = 0;
    if (cursor->at == cursor->end || skip(cursor, 'Z') || skip(cursor, 'z')) {
        return true;
    }
    bool negative = skip(cursor, '-');
    if ((!negative && !skip(cursor, '+')) || !two_digits(cursor, &hours)) {
        return false;
    }
    if (cursor->at != cursor->end) {
        (void)skip(cursor, ':');
        if (!two_digits(cursor, &minutes)) {
            return false;
        }
    }
    *good = hours < 16 && minutes < 60;
    *seconds = (hours * 3600 + minutes * 60) * (negative ? -1 : 1);
    return true;
}

enum time_text time_text_parse(const char *text, size_t length, int64_t *us)
{
    enum { DATE_LENGTH = 10 };
    struct cursor cursor = {text + DATE_LENGTH, text + length};
    struct clock clock = {0};
    int64_t date_us, offset = 0;
    bool good = true;

    if (length < DATE_LENGTH) {
        return TIME_TEXT_UNKNOWN_FORM;
    }
    for (size_t i = 0; i < DATE_LENGTH; i++) {
        if (i == 4 || i == 7 ? text[i] != '-' : !is_digit(text[i])) {
            return TIME_TEXT_UNKNOWN_FORM;
        }
    }
    if (length > DATE_LENGTH) {
        if (!skip(&cursor, 'T') && !skip(&cursor, 't') && !skip(&cursor, ' ')) {
            return TIME_TEXT_UNKNOWN_FORM;
        }
        if (!read_clock(&cursor, &clock) || !read_offset(&cursor, &offset, &good) ||
            cursor.at != cursor.end) {
            return TIME_TEXT_UNKNOWN_FORM;
        }
    }
    if (clock_is_good(&clock) && !good) {
        return TIME_TEXT_NO_SUCH_OFFSET;
    }
    if (!clock_is_good(&clock) ||
        timestamp_parse_date_or_rfc3339(text, DATE_LENGTH, &date_us) != TIMESTAMP_OK) {
        return TIME_TEXT_NO_SUCH_TIME;
    }
    *us = date_us + clock_us(&clock) - offset * TIMESTAMP_US_PER_SECOND;
    return timestamp_in_range(*us) ? TIME_TEXT_OK : TIME_TEXT_OUT_OF_RANGE;
}

/* --- intervals --- */

enum part { PART_MONTHS, PART_DAYS, PART_US };

static const struct {
    const char *name;
    enum part part;
    int64_t size;
} units[] = {
    {"microsecond", PART_US, 1},
    {"millisecond", PART_US, 1000},
    {"second", PART_US, 1000000},
    {"minute", PART_US, 60000000},
    {"hour", PART_US, INT64_C(3600000000)},
    {"day", PART_DAYS, 1},
    {"week", PART_DAYS, 7},
    {"month", PART_MONTHS, 1},
    {"year", PART_MONTHS, 12},
};

enum { UNITS = sizeof units / sizeof units[0], HOUR_UNIT = 4 };

static void skip_spaces(struct cursor *cursor)
{
    while (skip(cursor, ' ')) {
    }
}

/* A unit in the singular or the plural; UNITS for any other word. */
static size_t unit_of(const char *word, size_t length)
{
    for (size_t i = 0; i < UNITS; i++) {
        size_t size = strlen(units[i].name);
        if ((length == size || (length == size + 1 && (word[size] | 32) == 's')) &&
            strncasecmp(word, units[i].name, size) == 0) {
            return i;
        }
    }
    return UNITS;
}

/* Adds `quantity` of the unit; false where it was there before, or is more than 200 years. */
static bool add_part(struct interval *interval, size_t unit, int64_t quantity, unsigned *seen)
{
    static const int64_t most[] = {
        [PART_MONTHS] = 200 * 12, [PART_DAYS] = 200 * 366, [PART_US] = INT64_C(6324480000000000)};
    int64_t amount;

    if (unit == UNITS || (*seen & 1u << unit) != 0 ||
        __builtin_mul_overflow(quantity, units[unit].size, &amount) ||
        amount > most[units[unit].part] || amount < -most[units[unit].part]) {
        return false;
    }
    *seen |= 1u << unit;
    switch (units[unit].part) {
    case PART_MONTHS:
        interval->months += (int32_t)amount;
        break;
    case PART_DAYS:
        interval->days += (int32_t)amount;
        break;
    case PART_US:
        interval->us += amount;
        break;
    }
    return true;
}

/* hh:mm[:ss[.f]], which takes the place of hours, minutes and seconds. */
static bool add_clock(struct interval *interval, struct cursor *cursor, bool negative,
                      unsigned *seen)
{
    const unsigned all = (1u << (HOUR_UNIT + 1)) - 1; /* microseconds to hours */
    struct clock clock;

    if (!read_clock(cursor, &clock) || clock.minute >= 60 || clock.second >= 60 ||
        (*seen & all) != 0) {
        return false;
    }
    *seen |= all;
    int64_t us = clock_us(&clock);
    interval->us += negative ? -us : us;
    return true;
}

bool time_text_parse_interval(const char *text, size_t length, const char *unit,
                              struct interval *out)
{
    struct cursor cursor = {text, text + length};
    unsigned seen = 0;

    *out = (struct interval){0};
    for (skip_spaces(&cursor); cursor.at < cursor.end; skip_spaces(&cursor)) {
        bool negative = skip(&cursor, '-');
        if (!negative) {
            (void)skip(&cursor, '+');
        }
        const char *digits = cursor.at;
        int64_t quantity = 0;
        while (cursor.at < cursor.end && is_digit(*cursor.at) && cursor.at - digits < 10) {
            quantity = quantity * 10 + (*cursor.at++ - '0');
        }
        if (cursor.at == digits || quantity > INT32_MAX) {
            return false;
        }
        quantity = negative ? -quantity : quantity;
        if (unit != NULL) { /* interval '5' day */
            return cursor.at == cursor.end &&
                   add_part(out, unit_of(unit, strlen(unit)), quantity, &seen);
        }
        if (cursor.at < cursor.end && *cursor.at == ':') {
            cursor.at = digits;
            if (!add_clock(out, &cursor, negative, &seen)) {
                return false;
            }
            continue;
        }
        skip_spaces(&cursor);
        const char *word = cursor.at;
        while (cursor.at < cursor.end && *cursor.at != ' ') {
            cursor.at++;
        }
        if (!add_part(out, unit_of(word, (size_t)(cursor.at - word)), quantity, &seen)) {
            return false;
        }
    }
    return seen != 0;
}

int64_t interval_span_us(const struct interval *interval)
{
    return ((int64_t)interval->months * 30 + interval->days) * TIMESTAMP_US_PER_DAY + interval->us;
}
