/* Tumbling windows of whole local days, weeks, months or years.
 *
 * Days of a zone follow each other without gaps (core/time/timezone.h), and a window is a number of
 * them, so windows do, too: a day is 23 or 25 hours long where clocks change. Windows of n days
 * begin on each n-th day from 1970-01-01, those of n weeks on each n-th Monday from 1969-12-29,
 * those of n months in the months 1, 1 + n, ... of every year. */
#include "core/time/timestamp.h"
#include "core/windows/kinds.h"

#include <stdlib.h>
#include <string.h>

enum { MONDAY = -3 /* 1969-12-29 */, CALENDAR_DAYS_MAX = 365000 };

bool calendar_parse_size(const char *text, struct window *out)
{
    char *unit;
    if (text[0] < '1' || text[0] > '9')
        return false;
    long count = strtol(text, &unit, 10);
    if (count > CALENDAR_DAYS_MAX)
        return false;
    out->days = out->months = out->origin_day = 0;
    if (strcmp(unit, "d") == 0) {
        out->days = (int32_t)count;
    } else if (strcmp(unit, "w") == 0 && count <= CALENDAR_DAYS_MAX / 7) {
        out->days = (int32_t)count * 7;
        out->origin_day = MONDAY;
    } else if (strcmp(unit, "mo") == 0 && count <= 12 && 12 % count == 0) {
        out->months = (int32_t)count;
    } else if (strcmp(unit, "y") == 0 && count == 1) {
        out->months = 12;
    } else {
        return false;
    }
    out->kind = &window_calendar;
    return true;
}

bool calendar_is_rollup(const struct window *fine, const struct window *coarse)
{
    if (fine->months > 0)
        return coarse->months > 0 && coarse->months % fine->months == 0;
    if (coarse->months > 0)
        return fine->days == 1;
    return coarse->days % fine->days == 0 &&
           (coarse->origin_day - fine->origin_day) % fine->days == 0;
}

/* The day on which the window of `day` begins, or, `next` windows on, another one. */
static int64_t first_day(const struct window *window, int64_t day, int next)
{
    if (window->days > 0) {
        int64_t into = (day - window->origin_day) % window->days;
        return day - (into < 0 ? into + window->days : into) + (int64_t)next * window->days;
    }
    struct timestamp_date date = timestamp_date_from_days(day);
    int64_t month = (int64_t)date.month - 1;
    month += next * window->months - month % window->months;
    return timestamp_days_from_date(date.year + month / 12, (uint32_t)(month % 12) + 1, 1);
}

static int64_t calendar_boundary(const struct window *window, int64_t time_us, int next)
{
    int64_t day = time_zone_day(window->zone, time_us);
    return time_zone_day_start_us(window->zone, first_day(window, day, next));
}

static int64_t calendar_start(const struct window *window, int64_t time_us)
{
    return calendar_boundary(window, time_us, 0);
}

static int64_t calendar_end(const struct window *window, int64_t start_us)
{
    return calendar_boundary(window, start_us, 1);
}

/* dovetail_internal.calendar_end says the same: schemas/sql. Names of zones need no quoting. */
static void calendar_put_end(const struct window *window, FILE *out)
{
    fprintf(out, "dovetail_internal.calendar_end(u.window_start, '%s', %d, %d, %d)",
            window->zone->name, window->days, window->origin_day, window->months);
}

const struct window_kind window_calendar = {
    .type = WINDOW_CALENDAR,
    .pane_start = calendar_start,
    .pane_end = calendar_end,
    .bounds = window_bounds_of_pane,
    .sql_group = "u.window_start",
    .sql_start = "u.window_start",
    .put_end = calendar_put_end,
};
