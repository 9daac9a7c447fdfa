/* Time zones from TZif files: see core/time/timezone.h.
 *
 * A file has the changes of the offset up to some year, and a rule in the manner of POSIX's TZ
 * variable for all later ones. The rule is written out, year by year, up to the year 2500; the
 * Gregorian calendar with its weekdays repeats every 400 years, so any later time is looked up that
 * many years earlier. What is left is one sorted table, and every question a search in it. */
#include "core/time/timezone.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/time/timestamp.h"

enum {
    DAY_S = 86400,
    HEADER_BYTES = 44,
    FILE_BYTES_MAX = 1 << 20,
    TRANSITIONS_MAX = 10000,
    OFFSET_MAX_S = 26 * 3600, /* RFC 8536, section 3.2: none is larger */
    AROUND_S = 2 * DAY_S,     /* more than any offset */
    RULE_YEARS = 402,         /* a whole cycle, and what begins before it and ends after it */
    CYCLE_END_YEAR = 2490,
    LAST_YEAR = 2500,
};

#define CYCLE_S (INT64_C(146097) * DAY_S) /* 400 years */

static const int32_t utc_offset;
static const struct time_zone utc = {
    .name = "UTC", .offsets_s = &utc_offset, .cycle_end_s = INT64_MAX};

const struct time_zone *time_zone_utc(void)
{
    return &utc;
}

/* --- building the table --- */

struct builder {
    int64_t *times_s;
    int32_t *offsets_s;
    size_t count;
    size_t room;
    int64_t last_s; /* the last change of the file, whether it changed the offset or not */
};

/* A change to `offset_s`. One that changes nothing is left out, so that equal rules make equal
 * tables. */
static void add_change(struct builder *builder, int64_t time_s, int32_t offset_s)
{
    while (builder->count > 0 && builder->times_s[builder->count - 1] >= time_s)
        builder->count--;
    if (builder->offsets_s[builder->count] == offset_s || builder->count == builder->room)
        return;
    builder->times_s[builder->count++] = time_s;
    builder->offsets_s[builder->count] = offset_s;
}

/* --- the rule for years to come: POSIX.1, section 8.3, extended by RFC 8536, section 3.3.1 --- */

struct rule_date {
    char kind; /* 'M': week and weekday of a month; 'J': day 1 to 365; 0: day 0 to 365 */
    int month, week, day;
    int32_t time_s;
};

struct rule {
    int32_t standard_s, summer_s; /* east of UTC */
    bool has_summer;
    struct rule_date start, end;
};

static bool take_char(const char **at, char c)
{
    if (**at != c)
        return false;
    (*at)++;
    return true;
}

static bool take_number(const char **at, int low, int high, int *out)
{
    int number = 0, digits = 0;
    for (; **at >= '0' && **at <= '9' && digits < 4; digits++)
        number = number * 10 + *(*at)++ - '0';
    *out = number;
    return digits > 0 && number >= low && number <= high;
}

/* An abbreviation: letters, or anything in <>. Which one does not matter. */
static bool take_abbreviation(const char **at)
{
    const char *end = **at == '<' ? strchr(*at, '>') : NULL;
    if (end != NULL) {
        *at = end + 1;
        return true;
    }
    size_t length = strspn(*at, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
    *at += length;
    return length >= 3;
}

/* [+-]hh[:mm[:ss]] */
static bool take_time(const char **at, int hours_max, int32_t *seconds)
{
    int hours, minutes = 0, rest = 0;
    bool negative = take_char(at, '-');
    if (!negative)
        (void)take_char(at, '+');
    if (!take_number(at, 0, hours_max, &hours))
        return false;
    if (take_char(at, ':') && !take_number(at, 0, 59, &minutes))
        return false;
    if (take_char(at, ':') && !take_number(at, 0, 59, &rest))
        return false;
    *seconds = (hours * 60 + minutes) * 60 + rest;
    if (negative)
        *seconds = -*seconds;
    return true;
}

static bool take_rule_date(const char **at, struct rule_date *date)
{
    bool good;
    *date = (struct rule_date){.time_s = 2 * 3600};
    if (!take_char(at, ','))
        return false;
    if (take_char(at, 'M')) {
        date->kind = 'M';
        good = take_number(at, 1, 12, &date->month) && take_char(at, '.') &&
               take_number(at, 1, 5, &date->week) && take_char(at, '.') &&
               take_number(at, 0, 6, &date->day);
    } else if (take_char(at, 'J')) {
        date->kind = 'J';
        good = take_number(at, 1, 365, &date->day);
    } else {
        good = take_number(at, 0, 365, &date->day);
    }
    return good && (!take_char(at, '/') || take_time(at, 167, &date->time_s));
}

/* The whole of `text`. Offsets are written west of UTC there. */
static bool parse_rule(const char *text, struct rule *rule)
{
    int32_t west_s;
    *rule = (struct rule){0};
    if (!take_abbreviation(&text) || !take_time(&text, 24, &west_s))
        return false;
    rule->standard_s = -west_s;
    if (*text == '\0')
        return true;
    rule->has_summer = true;
    rule->summer_s = rule->standard_s + 3600;
    if (!take_abbreviation(&text))
        return false;
    if (*text != ',') {
        if (!take_time(&text, 24, &west_s))
            return false;
        rule->summer_s = -west_s;
    }
    return take_rule_date(&text, &rule->start) && take_rule_date(&text, &rule->end) &&
           *text == '\0';
}

/* Seconds from the epoch to the date's time of day, as clocks of the zone count them. */
static int64_t rule_date_in(const struct rule_date *date, int64_t year)
{
    int64_t first = timestamp_days_from_date(year, 1, 1);
    int64_t march = timestamp_days_from_date(year, 3, 1);
    int64_t days = first + date->day;
    if (date->kind == 'J') { /* as if there were no leap days */
        days--;
        days += march - first == 60 && date->day >= 60;
    } else if (date->kind == 'M') {
        int64_t month = timestamp_days_from_date(year, (uint32_t)date->month, 1);
        int64_t next = date->month == 12
                           ? timestamp_days_from_date(year + 1, 1, 1)
                           : timestamp_days_from_date(year, (uint32_t)date->month + 1, 1);
        int64_t weekday = ((month + 4) % 7 + 7) % 7; /* of the first; 1970-01-01 was a Thursday */
        days = month + (date->day - weekday + 7) % 7 + (int64_t)(date->week - 1) * 7;
        while (days >= next)
            days -= 7;
    }
    return days * DAY_S + date->time_s;
}

/* The changes of a year that come after the last one that the file has. */
static void add_year(struct builder *builder, const struct rule *rule, int64_t year,
                     int64_t after_s)
{
    int64_t start_s = rule_date_in(&rule->start, year) - rule->standard_s;
    int64_t end_s = rule_date_in(&rule->end, year) - rule->summer_s;
    bool start_first = start_s < end_s;
    int64_t first_s = start_first ? start_s : end_s;
    int64_t second_s = start_first ? end_s : start_s;
    if (first_s > after_s)
        add_change(builder, first_s, start_first ? rule->summer_s : rule->standard_s);
    if (second_s > after_s)
        add_change(builder, second_s, start_first ? rule->standard_s : rule->summer_s);
}

/* Returns the end of the first cycle. */
static int64_t add_rule(struct builder *builder, const struct rule *rule)
{
    int64_t after_s = builder->last_s;
    int64_t year = 1970;
    if (after_s > 0)
        year = timestamp_date_from_days(after_s / DAY_S).year;
    if (!rule->has_summer) {
        /* The file ends where the rule begins to hold; this only repairs one that does not. */
        if (builder->offsets_s[builder->count] != rule->standard_s)
            add_change(builder, after_s > INT64_MIN ? after_s : 0, rule->standard_s);
        return INT64_MAX;
    }
    int64_t cycle_end = year + RULE_YEARS > CYCLE_END_YEAR ? year + RULE_YEARS : CYCLE_END_YEAR;
    int64_t last = cycle_end + LAST_YEAR - CYCLE_END_YEAR;
    for (; year <= last; year++)
        add_year(builder, rule, year, after_s);
    return timestamp_days_from_date(cycle_end, 1, 1) * DAY_S;
}

/* --- the file: RFC 8536, section 3 --- */

struct tzif {
    const unsigned char *at, *end;
    char version;
    uint32_t isutcnt, isstdcnt, leapcnt, timecnt, typecnt, charcnt;
};

static uint64_t big_endian(const unsigned char *bytes, size_t count)
{
    uint64_t number = 0;
    for (size_t i = 0; i < count; i++)
        number = number << 8 | bytes[i];
    return number;
}

static size_t body_bytes(const struct tzif *file, size_t time_bytes)
{
    return file->timecnt * (time_bytes + 1) + (size_t)file->typecnt * 6 + file->charcnt +
           file->leapcnt * (time_bytes + 4) + file->isstdcnt + file->isutcnt;
}

/* Leaves file->at at the body behind the header. */
static bool read_header(struct tzif *file, size_t time_bytes)
{
    if (file->end - file->at < HEADER_BYTES || memcmp(file->at, "TZif", 4) != 0)
        return false;
    file->version = (char)file->at[4];
    uint32_t *const counts[] = {&file->isutcnt, &file->isstdcnt, &file->leapcnt,
                                &file->timecnt, &file->typecnt,  &file->charcnt};
    for (size_t i = 0; i < 6; i++) {
        *counts[i] = (uint32_t)big_endian(file->at + 20 + 4 * i, 4);
        if (*counts[i] > TRANSITIONS_MAX)
            return false;
    }
    file->at += HEADER_BYTES;
    return file->typecnt > 0 && (size_t)(file->end - file->at) >= body_bytes(file, time_bytes);
}

static bool read_changes(const struct tzif *file, size_t time_bytes, struct builder *builder)
{
    const unsigned char *times = file->at;
    const unsigned char *indexes = times + file->timecnt * time_bytes;
    const unsigned char *types = indexes + file->timecnt;
    for (uint32_t i = 0; i < file->typecnt; i++) {
        int32_t offset_s = (int32_t)big_endian(types + (size_t)i * 6, 4);
        if (offset_s < -OFFSET_MAX_S || offset_s > OFFSET_MAX_S)
            return false;
    }
    builder->offsets_s[0] = (int32_t)big_endian(types, 4);
    for (uint32_t i = 0; i < file->timecnt; i++) {
        uint64_t raw = big_endian(times + i * time_bytes, time_bytes);
        int64_t time_s = time_bytes == 4 ? (int32_t)raw : (int64_t)raw;
        if (indexes[i] >= file->typecnt || (i > 0 && time_s <= builder->last_s))
            return false;
        builder->last_s = time_s;
        add_change(builder, time_s, (int32_t)big_endian(types + (size_t)indexes[i] * 6, 4));
    }
    return true;
}

/* The rule between two line ends; an empty one says that there is none. */
static bool read_footer(const unsigned char *at, const unsigned char *end, struct rule *rule,
                        bool *has_rule)
{
    char text[128];
    *has_rule = false;
    if (end - at < 2 || *at != '\n')
        return false;
    const unsigned char *close = memchr(at + 1, '\n', (size_t)(end - at - 1));
    size_t length = close != NULL ? (size_t)(close - at - 1) : sizeof text;
    if (length >= sizeof text)
        return false;
    memcpy(text, at + 1, length);
    text[length] = '\0';
    *has_rule = length > 0;
    return length == 0 || parse_rule(text, rule);
}

static bool builder_init(struct builder *builder, struct arena *arena, size_t room)
{
    *builder = (struct builder){
        .times_s = arena_alloc(arena, (room + 1) * sizeof *builder->times_s),
        .offsets_s = arena_alloc(arena, (room + 1) * sizeof *builder->offsets_s),
        .room = room,
        .last_s = INT64_MIN,
    };
    return builder->times_s != NULL && builder->offsets_s != NULL;
}

enum status time_zone_parse(const char *name, const void *data, size_t length, struct arena *arena,
                            const struct time_zone **out, struct error *error)
{
    struct tzif file = {.at = data, .end = (const unsigned char *)data + length};
    struct builder builder;
    struct rule rule = {0};
    bool has_rule = false;
    size_t time_bytes = 4;
    bool good = read_header(&file, time_bytes);
    if (good && file.version >= '2') { /* the same again, with wider times */
        file.at += body_bytes(&file, time_bytes);
        time_bytes = 8;
        good = read_header(&file, time_bytes);
    }
    if (good && file.leapcnt > 0)
        return error_set(error, STATUS_REJECT, "\"%s\" counts leap seconds", name);
    size_t years = LAST_YEAR - 1970 + RULE_YEARS;
    if (good && !builder_init(&builder, arena, file.timecnt + 2 * years))
        return error_no_memory(error);
    good = good && read_changes(&file, time_bytes, &builder);
    if (good && time_bytes == 8)
        good = read_footer(file.at + body_bytes(&file, 8), file.end, &rule, &has_rule);
    if (!good)
        return error_set(error, STATUS_REJECT, "the rules of \"%s\" cannot be read", name);
    int64_t cycle_end_s = has_rule ? add_rule(&builder, &rule) : INT64_MAX;
    struct time_zone *zone = arena_alloc(arena, sizeof *zone);
    char *copy = arena_copy(arena, name, strlen(name));
    if (zone == NULL || copy == NULL)
        return error_no_memory(error);
    *zone = (struct time_zone){.name = copy,
                               .count = builder.count,
                               .times_s = builder.times_s,
                               .offsets_s = builder.offsets_s,
                               .cycle_end_s = cycle_end_s};
    *out = zone;
    return STATUS_OK;
}

static bool name_is_good(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length <= TIME_ZONE_NAME_MAX && strchr(name, '/') != NULL &&
           ((name[0] >= 'A' && name[0] <= 'Z') || (name[0] >= 'a' && name[0] <= 'z')) &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-/") ==
               length;
}

/* *length is 0 where there is no such file. */
static enum status read_file(const char *name, unsigned char **data, size_t *length,
                             struct error *error)
{
    char path[sizeof TIME_ZONE_DIRECTORY + TIME_ZONE_NAME_MAX + 2];
    snprintf(path, sizeof path, "%s/%s", TIME_ZONE_DIRECTORY, name);
    *length = 0;
    *data = malloc(FILE_BYTES_MAX);
    if (*data == NULL)
        return error_no_memory(error);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        *length = fread(*data, 1, FILE_BYTES_MAX, file); /* nothing of a directory */
        fclose(file);
    }
    return STATUS_OK;
}

enum status time_zone_load(const char *name, struct arena *arena, const struct time_zone **out,
                           struct error *error)
{
    unsigned char *data = NULL;
    size_t length = 0;
    if (strcmp(name, "UTC") == 0) {
        *out = &utc;
        return STATUS_OK;
    }
    if (!name_is_good(name))
        return error_set(
            error, STATUS_REJECT,
            "\"%.64s\" is not the name of a time zone such as \"America/New_York\", or "
            "\"UTC\"",
            name);
    enum status status = read_file(name, &data, &length, error);
    if (status == STATUS_OK && length == 0)
        status =
            error_set(error, STATUS_REJECT, "there is no time zone \"%s\" in %s (package tzdata)",
                      name, TIME_ZONE_DIRECTORY);
    if (status == STATUS_OK)
        status = time_zone_parse(name, data, length, arena, out, error);
    free(data);
    return status;
}

/* --- questions --- */

/* Moves a time beyond the first cycle into it; returns by how much. */
static int64_t into_cycle(const struct time_zone *zone, int64_t *time_s)
{
    if (*time_s < zone->cycle_end_s)
        return 0;
    int64_t shift_s = ((*time_s - zone->cycle_end_s) / CYCLE_S + 1) * CYCLE_S;
    *time_s -= shift_s;
    return shift_s;
}

/* The number of changes at or before a time: the index of the offset in force. */
static size_t changes_until(const struct time_zone *zone, int64_t time_s)
{
    size_t low = 0, high = zone->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (zone->times_s[middle] <= time_s)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int32_t time_zone_offset_s(const struct time_zone *zone, int64_t time_s)
{
    (void)into_cycle(zone, &time_s);
    return zone->offsets_s[changes_until(zone, time_s)];
}

/* The first instant at which clocks show `day` or later. Offsets are smaller than AROUND_S, so it
 * is not before the first stretch looked at. */
static int64_t day_start_s(const struct time_zone *zone, int64_t day)
{
    int64_t local_s = day * DAY_S;
    int64_t shift_s = into_cycle(zone, &local_s);
    size_t i = changes_until(zone, local_s - AROUND_S);
    while (i < zone->count && zone->times_s[i] + zone->offsets_s[i] <= local_s)
        i++;
    int64_t start_s = local_s - zone->offsets_s[i];
    if (i > 0 && start_s < zone->times_s[i - 1])
        start_s = zone->times_s[i - 1]; /* clocks jumped over midnight */
    return start_s + shift_s;
}

static int64_t floor_divide(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

int64_t time_zone_day(const struct time_zone *zone, int64_t time_us)
{
    int64_t time_s = floor_divide(time_us, TIMESTAMP_US_PER_SECOND);
    int64_t shift_s = into_cycle(zone, &time_s);
    size_t i = changes_until(zone, time_s);
    int64_t day = floor_divide(time_s + zone->offsets_s[i], DAY_S);
    /* Clocks that were put back over midnight show a day that is over. */
    if (i > 0 && time_s - zone->times_s[i - 1] < AROUND_S)
        while (day_start_s(zone, day + 1) <= time_s)
            day++;
    return day + shift_s / DAY_S;
}

int64_t time_zone_day_start_us(const struct time_zone *zone, int64_t day)
{
    return day_start_s(zone, day) * TIMESTAMP_US_PER_SECOND;
}

/* PostgreSQL looks at the first change after the day before, taking that as UTC. */
int64_t time_zone_from_local_us(const struct time_zone *zone, int64_t local_us)
{
    int64_t local_s = floor_divide(local_us, TIMESTAMP_US_PER_SECOND);
    int64_t day_before_s = local_s - DAY_S;
    int64_t shift_s = into_cycle(zone, &day_before_s);
    size_t i = changes_until(zone, day_before_s);
    int32_t offset_s = zone->offsets_s[i];
    if (i < zone->count && local_s - shift_s - zone->offsets_s[i + 1] >= zone->times_s[i])
        offset_s = zone->offsets_s[i + 1];
    return local_us - offset_s * TIMESTAMP_US_PER_SECOND;
}

uint64_t time_zone_digest(const struct time_zone *zone)
{
    int64_t end_s = timestamp_days_from_date(CYCLE_END_YEAR, 1, 1) * DAY_S;
    size_t count = changes_until(zone, end_s);
    uint64_t hash = XXH3_64bits(zone->times_s, count * sizeof *zone->times_s);
    return XXH3_64bits_withSeed(zone->offsets_s, (count + 1) * sizeof *zone->offsets_s, hash);
}
