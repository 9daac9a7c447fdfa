/* Times: EXTRACT, date_trunc, and adding intervals, in UTC where no zone is named. Any thread.
 *
 * The fields are those of timestamptz_part_common and timestamptz_trunc_internal in PostgreSQL's
 * timestamp.c, for the years 0001 to 9999. */
#include "core/functions/times.h"

#include <string.h>

#include "core/functions/time_text.h"
#include "core/time/timestamp.h"
#include "core/time/timezone.h"

static const struct {
    const char *name;
    enum time_unit unit;
} unit_names[] = {
    {"microsecond", UNIT_MICROSECOND},
    {"microseconds", UNIT_MICROSECOND},
    {"millisecond", UNIT_MILLISECOND},
    {"milliseconds", UNIT_MILLISECOND},
    {"second", UNIT_SECOND},
    {"minute", UNIT_MINUTE},
    {"hour", UNIT_HOUR},
    {"day", UNIT_DAY},
    {"week", UNIT_WEEK},
    {"month", UNIT_MONTH},
    {"quarter", UNIT_QUARTER},
    {"year", UNIT_YEAR},
    {"decade", UNIT_DECADE},
    {"century", UNIT_CENTURY},
    {"millennium", UNIT_MILLENNIUM},
    {"dow", UNIT_DOW},
    {"isodow", UNIT_ISODOW},
    {"doy", UNIT_DOY},
    {"isoyear", UNIT_ISOYEAR},
    {"epoch", UNIT_EPOCH},
};

bool time_unit_from_name(const char *name, size_t length, enum time_unit *out)
{
    for (size_t i = 0; i < sizeof unit_names / sizeof unit_names[0]; i++) {
        if (strlen(unit_names[i].name) == length &&
            strncasecmp(unit_names[i].name, name, length) == 0) {
            *out = unit_names[i].unit;
            return true;
        }
    }
    return false;
}

bool time_unit_is_of_interval(enum time_unit unit)
{
    return unit <= UNIT_DAY || unit == UNIT_EPOCH;
}

static int64_t floor_divide(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* A time taken apart. */
struct moment {
    int64_t days; /* since 1970-01-01 */
    int64_t us;   /* of the day */
    struct timestamp_date date;
};

static struct moment moment_of(int64_t us)
{
    int64_t days = floor_divide(us, TIMESTAMP_US_PER_DAY);
    return (struct moment){.days = days,
                           .us = us - days * TIMESTAMP_US_PER_DAY,
                           .date = timestamp_date_from_days(days)};
}

/* Monday is 0; 1970-01-01 was a Thursday. */
static int64_t weekday(int64_t days)
{
    return ((days + 3) % 7 + 7) % 7;
}

static int64_t january_first(int64_t year)
{
    return timestamp_days_from_date(year, 1, 1);
}

/* The year of ISO 8601, which has the Thursday of the week. */
static int64_t iso_year(int64_t days)
{
    return timestamp_date_from_days(days - weekday(days) + 3).year;
}

static int64_t iso_week(int64_t days)
{
    int64_t thursday = days - weekday(days) + 3;
    return (thursday - january_first(iso_year(days))) / 7 + 1;
}

static struct value number(int128 coefficient, int32_t scale)
{
    return value_decimal((struct decimal){.coefficient = coefficient, .scale = scale});
}

static int64_t date_field(enum time_unit unit, const struct moment *moment)
{
    const struct timestamp_date *date = &moment->date;

    switch (unit) {
    case UNIT_DAY:
        return date->day;
    case UNIT_WEEK:
        return iso_week(moment->days);
    case UNIT_MONTH:
        return date->month;
    case UNIT_QUARTER:
        return (date->month + 2) / 3;
    case UNIT_YEAR:
        return date->year;
    case UNIT_DECADE:
        return date->year / 10;
    case UNIT_CENTURY:
        return (date->year + 99) / 100;
    case UNIT_MILLENNIUM:
        return (date->year + 999) / 1000;
    case UNIT_DOW: /* Sunday is 0 */
        return (weekday(moment->days) + 1) % 7;
    case UNIT_ISODOW:
        return weekday(moment->days) + 1;
    case UNIT_DOY:
        return moment->days - january_first(date->year) + 1;
    default:
        return iso_year(moment->days);
    }
}

/* A field of the time of day; false where the unit is none. `us` may be negative. */
static bool clock_field(enum time_unit unit, int64_t us, struct value *out)
{
    int64_t us_of_minute = us % 60000000;

    switch (unit) {
    case UNIT_MICROSECOND:
        *out = number(us_of_minute, 0);
        return true;
    case UNIT_MILLISECOND:
        *out = number(us_of_minute, 3);
        return true;
    case UNIT_SECOND:
        *out = number(us_of_minute, 6);
        return true;
    case UNIT_MINUTE:
        *out = number(us / 60000000 % 60, 0);
        return true;
    case UNIT_HOUR:
        *out = number(us / 3600000000, 0);
        return true;
    default:
        return false;
    }
}

/* How far clocks of a zone are ahead of UTC; NULL is UTC. */
static int64_t offset_us(const struct time_zone *zone, int64_t us)
{
    int64_t second = floor_divide(us, TIMESTAMP_US_PER_SECOND);
    return zone == NULL ? 0 : time_zone_offset_s(zone, second) * TIMESTAMP_US_PER_SECOND;
}

static enum status extract_timestamp(const struct expression *node, const struct value *arguments,
                                     struct evaluation *in, struct value *out)
{
    enum time_unit unit = (enum time_unit)node->unit;
    int64_t us = arguments[0].timestamp_us + offset_us(node->zone, arguments[0].timestamp_us);

    if (!timestamp_in_range(us)) {
        return expression_fail(in, "", "local time out of range: years 0001 to 9999");
    }
    if (unit == UNIT_EPOCH) {
        *out = number(us, 6);
        return STATUS_OK;
    }
    struct moment moment = moment_of(us);
    if (!clock_field(unit, moment.us, out)) {
        *out = number(date_field(unit, &moment), 0);
    }
    return STATUS_OK;
}

/* Of the difference of two timestamps, which has days and a time, both of its sign. */
static enum status extract_interval(const struct expression *node, const struct value *arguments,
                                    struct evaluation *in, struct value *out)
{
    enum time_unit unit = (enum time_unit)node->unit;
    int64_t us = arguments[0].integer;
    (void)in;

    if (unit == UNIT_EPOCH) {
        *out = number(us, 6);
    } else if (!clock_field(unit, us % TIMESTAMP_US_PER_DAY, out)) {
        *out = number(us / TIMESTAMP_US_PER_DAY, 0);
    }
    return STATUS_OK;
}

const struct function time_extract_timestamp = {"EXTRACT", "t", 'd', .evaluate = extract_timestamp};
const struct function time_extract_interval = {"EXTRACT", "v", 'd', .evaluate = extract_interval};

static enum status set_timestamp(struct evaluation *in, int64_t us, struct value *out)
{
    if (!timestamp_in_range(us)) {
        return expression_fail(in, "", "timestamp out of range: years 0001 to 9999");
    }
    *out = value_timestamp(us);
    return STATUS_OK;
}

static int64_t us_of_unit(enum time_unit unit)
{
    static const int64_t sizes[] = {[UNIT_MICROSECOND] = 1,
                                    [UNIT_MILLISECOND] = 1000,
                                    [UNIT_SECOND] = 1000000,
                                    [UNIT_MINUTE] = 60000000,
                                    [UNIT_HOUR] = INT64_C(3600000000)};
    return sizes[unit];
}

/* Where the unit that the date is in begins. */
static int64_t first_day(enum time_unit unit, const struct moment *moment)
{
    struct timestamp_date date = {.year = moment->date.year, .month = 1, .day = 1};

    switch (unit) {
    case UNIT_WEEK:
        return moment->days - weekday(moment->days);
    case UNIT_MONTH:
        date.month = moment->date.month;
        break;
    case UNIT_QUARTER:
        date.month = (moment->date.month - 1) / 3 * 3 + 1;
        break;
    case UNIT_DECADE:
        date.year = date.year / 10 * 10;
        break;
    case UNIT_CENTURY: /* the first began in the year 1 */
        date.year = (date.year - 1) / 100 * 100 + 1;
        break;
    case UNIT_MILLENNIUM:
        date.year = (date.year - 1) / 1000 * 1000 + 1;
        break;
    default:
        break;
    }
    return timestamp_days_from_date(date.year, date.month, date.day);
}

/* Local fields are cut off; below a day the offset stays, from a day on it is that of the result.
 */
static enum status truncate(const struct expression *node, const struct value *arguments,
                            struct evaluation *in, struct value *out)
{
    enum time_unit unit = (enum time_unit)node->unit;
    int64_t ahead_us = offset_us(node->zone, arguments[0].timestamp_us);
    int64_t us = arguments[0].timestamp_us + ahead_us;

    if (unit < UNIT_DAY) {
        int64_t size = us_of_unit(unit);
        return set_timestamp(in, floor_divide(us, size) * size - ahead_us, out);
    }
    struct moment moment = moment_of(us);
    us = (unit == UNIT_DAY ? moment.days : first_day(unit, &moment)) * TIMESTAMP_US_PER_DAY;
    return set_timestamp(in, node->zone == NULL ? us : time_zone_from_local_us(node->zone, us),
                         out);
}

const struct function time_truncate = {"date_trunc", "t", 't', .evaluate = truncate};

/* --- intervals --- */

/* Months first, on the last day of a shorter month; then days, then the rest. */
static int64_t add(int64_t us, const struct interval *interval)
{
    if (interval->months != 0) {
        struct moment moment = moment_of(us);
        int64_t month = moment.date.year * 12 + moment.date.month - 1 + interval->months;
        struct timestamp_date date = {.year = floor_divide(month, 12), .day = moment.date.day};
        date.month = (uint32_t)(month - date.year * 12) + 1;
        uint32_t last = timestamp_days_in_month(date.year, date.month);
        date.day = date.day > last ? last : date.day;
        us = timestamp_days_from_date(date.year, date.month, date.day) * TIMESTAMP_US_PER_DAY +
             moment.us;
    }
    return us + interval->days * TIMESTAMP_US_PER_DAY + interval->us;
}

enum status time_add_interval(const struct expression *node, struct evaluation *in,
                              struct value *out)
{
    enum status status = expression_run(node->children[0], in, out);
    if (status != STATUS_OK || out->is_null) {
        return status;
    }
    return set_timestamp(in, add(out->timestamp_us, &node->interval), out);
}

enum status time_add_difference(const struct expression *node, struct evaluation *in,
                                struct value *out)
{
    struct value time, difference;

    enum status status = expression_run(node->children[0], in, &time);
    status = status == STATUS_OK ? expression_run(node->children[1], in, &difference) : status;
    if (status != STATUS_OK) {
        return status;
    }
    if (time.is_null || difference.is_null) {
        *out = value_null(VALUE_TIMESTAMP);
        return STATUS_OK;
    }
    int64_t us = node->test.negated ? -difference.integer : difference.integer;
    return set_timestamp(in, time.timestamp_us + us, out);
}

enum status time_subtract(const struct expression *node, struct evaluation *in, struct value *out)
{
    struct value left, right;

    enum status status = expression_run(node->children[0], in, &left);
    status = status == STATUS_OK ? expression_run(node->children[1], in, &right) : status;
    if (status == STATUS_OK) {
        *out = left.is_null || right.is_null
                   ? value_null(VALUE_INTEGER)
                   : value_integer(left.timestamp_us - right.timestamp_us);
    }
    return status;
}

enum status time_interval_literal(const struct expression *node, struct evaluation *in,
                                  struct value *out)
{
    (void)in;
    *out = value_integer(interval_span_us(&node->interval));
    return STATUS_OK;
}

const struct function time_functions[] = {
    {"EXTRACT", .result = 'd', .form = "EXTRACT(field FROM t)",
     .meaning = "the field `microseconds`, `milliseconds`, `second` (all three with the fraction "
                "and the seconds), `minute`, `hour`, `day`, `week`, `month`, `quarter`, `year`, "
                "`decade`, `century`, `millennium`, `dow` (Sunday is 0), `isodow` (Sunday is 7), "
                "`doy`, `isoyear`, `epoch`"},
    {"EXTRACT", .result = 'd', .form = "EXTRACT(field FROM t AT TIME ZONE 'zone')",
     .meaning = "the same, as clocks and calendars of a time zone show it"},
    {"EXTRACT", .result = 'd', .form = "EXTRACT(field FROM t - u)",
     .meaning = "of the time from `u` to `t`: `epoch`, or `day` and the units below it"},
    {"DATE_TRUNC", .result = 't', .form = "date_trunc('unit', t)",
     .meaning = "the beginning of the `microseconds`, `milliseconds`, `second`, `minute`, `hour`, "
                "`day`, `week` (Monday), `month`, `quarter`, `year`, `decade`, `century` or "
                "`millennium`"},
    {"DATE_TRUNC", .result = 't', .form = "date_trunc('unit', t, 'zone')",
     .meaning = "the same in a time zone"},
    {"+", .result = 't', .form = "t + interval '...'",
     .meaning = "a time later, or with `-` sooner; also `t + (u - v)`"},
    {"-", .gives = "interval", .form = "t - u",
     .meaning = "an interval, to be compared, extracted from, or added"},
    {"date_part", .meaning = "it is double precision in PostgreSQL; use EXTRACT, which is exact"},
    {"age", .meaning = "use EXTRACT(epoch FROM t - u)"},
    {"to_timestamp", .meaning = "it is double precision in PostgreSQL; let the source's field be a "
                                "timestamp in epoch_s, epoch_ms or epoch_us"},
    {.name = NULL},
};
