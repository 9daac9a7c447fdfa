/* Five-field cron expressions: see cron.h. Pure; no clock, no time zone. */
#include "core/time/cron.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/time/timestamp.h"

struct cron_field {
    const char *name;
    unsigned low;
    unsigned high;
    const char *const *names; /* of low, low + 1, ...; ended by NULL; may be NULL */
};

static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul",
                                          "aug", "sep", "oct", "nov", "dec", NULL};
static const char *const weekday_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL};

enum { MINUTE, HOUR, DAY, MONTH, WEEKDAY, FIELD_COUNT };

static const struct cron_field fields[FIELD_COUNT] = {
    [MINUTE] = {"minute", 0, 59, NULL},
    [HOUR] = {"hour", 0, 23, NULL},
    [DAY] = {"day of month", 1, 31, NULL},
    [MONTH] = {"month", 1, 12, month_names},
    [WEEKDAY] = {"day of week", 0, 7, weekday_names},
};

/* --- parsing --- */

static bool parse_number(const char **at, unsigned *out)
{
    if (!isdigit((unsigned char)**at))
        return false;
    unsigned number = 0;
    for (; isdigit((unsigned char)**at); (*at)++)
        if (number < 1000) /* beyond every field already */
            number = number * 10 + (unsigned)(**at - '0');
    *out = number;
    return true;
}

static bool parse_name(const struct cron_field *field, const char **at, unsigned *out)
{
    for (unsigned i = 0; field->names != NULL && field->names[i] != NULL; i++) {
        if (strncasecmp(*at, field->names[i], 3) != 0 || isalnum((unsigned char)(*at)[3]))
            continue;
        *at += 3;
        *out = field->low + i;
        return true;
    }
    return false;
}

static enum status parse_value(const struct cron_field *field, const char **at, unsigned *out,
                               struct error *error)
{
    if (!parse_number(at, out) && !parse_name(field, at, out))
        return error_set(error, STATUS_REJECT, "%s: \"%s\" is not a number%s", field->name, *at,
                         field->names != NULL ? " or a name" : "");
    if (*out < field->low || *out > field->high)
        return error_set(error, STATUS_REJECT, "%s: %u is not between %u and %u", field->name, *out,
                         field->low, field->high);
    return STATUS_OK;
}

/* "*" or a number or a range, with its step. */
static enum status parse_item(const struct cron_field *field, const char **at, uint64_t *bits,
                              struct error *error)
{
    unsigned first = field->low;
    unsigned last = field->high;
    unsigned step = 1;
    bool single = false;
    enum status status = STATUS_OK;
    if (**at == '*') {
        (*at)++;
    } else {
        status = parse_value(field, at, &first, error);
        last = first;
        single = status == STATUS_OK && **at != '-';
        if (status == STATUS_OK && !single) {
            (*at)++;
            status = parse_value(field, at, &last, error);
            if (field->high == 7 && last == 0 && first > 0)
                last = 7; /* fri-sun */
        }
    }
    if (status != STATUS_OK)
        return status;
    if (last < first)
        return error_set(error, STATUS_REJECT, "%s: the range %u-%u goes backwards", field->name,
                         first, last);
    if (**at == '/') {
        (*at)++;
        if (single)
            return error_set(error, STATUS_REJECT, "%s: a step needs a range or *", field->name);
        if (!parse_number(at, &step) || step == 0 || step > field->high)
            return error_set(error, STATUS_REJECT, "%s: a step is a number from 1 to %u",
                             field->name, field->high);
    }
    for (unsigned value = first; value <= last; value += step)
        *bits |= UINT64_C(1) << value;
    return STATUS_OK;
}

static enum status parse_field(const struct cron_field *field, const char *text, uint64_t *bits,
                               struct error *error)
{
    const char *at = text;
    *bits = 0;
    for (;;) {
        enum status status = parse_item(field, &at, bits, error);
        if (status != STATUS_OK)
            return status;
        if (*at == '\0')
            return STATUS_OK;
        if (*at != ',')
            return error_set(error, STATUS_REJECT, "%s: \"%s\" is not a list of numbers and ranges",
                             field->name, text);
        at++;
    }
}

enum status cron_parse(const char *text, struct cron *out, struct error *error)
{
    char copy[256];
    if (strlen(text) >= sizeof copy)
        return error_set(error, STATUS_REJECT, "a schedule has at most %zu characters",
                         sizeof copy - 1);
    memcpy(copy, text, strlen(text) + 1);
    char *words[FIELD_COUNT];
    size_t count = 0;
    char *rest;
    for (char *word = strtok_r(copy, " \t", &rest); word != NULL;
         word = strtok_r(NULL, " \t", &rest)) {
        if (count < FIELD_COUNT)
            words[count] = word;
        count++;
    }
    if (count != FIELD_COUNT)
        return error_set(error, STATUS_REJECT,
                         "\"%s\" has %zu fields; wanted are minute, hour, day of month, month and "
                         "day of week",
                         text, count);
    uint64_t bits[FIELD_COUNT];
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        enum status status = parse_field(&fields[i], words[i], &bits[i], error);
        if (status != STATUS_OK)
            return status;
    }
    uint64_t weekdays = (bits[WEEKDAY] | bits[WEEKDAY] >> 7) & 0x7F; /* 7 is 0 */
    *out = (struct cron){.minutes = bits[MINUTE],
                         .hours = bits[HOUR],
                         .days = bits[DAY],
                         .months = bits[MONTH],
                         .weekdays = weekdays,
                         .both_days = words[DAY][0] == '*' || words[WEEKDAY][0] == '*'};
    return STATUS_OK;
}

/* --- the next time --- */

static bool has(uint64_t bits, int64_t value)
{
    return (bits >> value & 1) != 0;
}

static bool day_matches(const struct cron *cron, int64_t days)
{
    struct timestamp_date date = timestamp_date_from_days(days);
    if (!has(cron->months, date.month))
        return false;
    bool by_day = has(cron->days, date.day);
    /* 1970-01-01 was a Thursday */
    bool by_weekday = has(cron->weekdays, ((days + 4) % 7 + 7) % 7);
    return cron->both_days ? by_day && by_weekday : by_day || by_weekday;
}

bool cron_next(const struct cron *cron, int64_t after_us, int64_t *out_us)
{
    const int64_t minute_us = 60 * TIMESTAMP_US_PER_SECOND;
    const int64_t day_minutes = 24 * 60;
    const int64_t horizon_days = 40 * 366;
    int64_t day = after_us / TIMESTAMP_US_PER_DAY - (after_us % TIMESTAMP_US_PER_DAY < 0);
    int64_t last_day = day + horizon_days;
    int64_t minute = (after_us - day * TIMESTAMP_US_PER_DAY) / minute_us + 1; /* of the day */
    while (day + minute / day_minutes <= last_day) {
        day += minute / day_minutes;
        minute %= day_minutes;
        if (!day_matches(cron, day)) {
            minute = day_minutes;
        } else if (!has(cron->hours, minute / 60)) {
            minute = (minute / 60 + 1) * 60;
        } else if (!has(cron->minutes, minute % 60)) {
            minute++;
        } else {
            *out_us = day * TIMESTAMP_US_PER_DAY + minute * minute_us;
            return true;
        }
    }
    return false;
}
