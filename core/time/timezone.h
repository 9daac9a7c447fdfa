/* Time zones: which day local calendars show, and when each day begins.
 *
 * The rules come from the TZif files of the package tzdata (RFC 8536), read once when a definition
 * is loaded. After that everything is pure: no I/O, no clock, no environment; any thread. */
#ifndef DOVETAIL_TIMEZONE_H
#define DOVETAIL_TIMEZONE_H

#include <stdint.h>

#include "core/base/arena.h"
#include "core/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where the files are. */
#define TIME_ZONE_DIRECTORY "/usr/share/zoneinfo"

enum { TIME_ZONE_NAME_MAX = 64 };

struct time_zone {
    const char *name;
    size_t count;             /* of changes of the offset from UTC */
    const int64_t *times_s;   /* of each change, since the Unix epoch, ascending */
    const int32_t *offsets_s; /* count + 1: before the first change, then from each one on */
    int64_t cycle_end_s; /* from here on the rules repeat every 400 years; INT64_MAX: no change */
};

/* UTC, which needs no file. */
const struct time_zone *time_zone_utc(void);

/* Loads a zone such as "America/New_York", or "UTC". Names without a slash are refused: PostgreSQL
 * takes "EST" or "CET" for an abbreviation with a fixed offset. Everything is allocated in `arena`.
 * STATUS_REJECT: there is no such zone, or its file is none. */
enum status time_zone_load(const char *name, struct arena *arena, const struct time_zone **out,
                           struct error *error) MUST_CHECK;

/* As time_zone_load, from the bytes of a TZif file. */
enum status time_zone_parse(const char *name, const void *data, size_t length, struct arena *arena,
                            const struct time_zone **out, struct error *error) MUST_CHECK;

/* Seconds east of UTC at an instant. */
int32_t time_zone_offset_s(const struct time_zone *zone, int64_t time_s);

/* Days are counted from 1970-01-01. A local day begins at the first instant at which calendars of
 * the zone show it or a later day, and lasts until the next one begins. So days follow each other
 * without gaps whatever clocks do around midnight: where midnight is left out, the day begins with
 * what clocks show instead; where it occurs twice, with the first; a day that the zone left out
 * altogether is empty. */
int64_t time_zone_day(const struct time_zone *zone, int64_t time_us);
int64_t time_zone_day_start_us(const struct time_zone *zone, int64_t day);

/* The instant at which clocks show a local time, given as microseconds from 1970-01-01 00:00 local,
 * as PostgreSQL decides it: one that clocks left out is that of the offset before the change, one
 * that they ran through twice the second. */
int64_t time_zone_from_local_us(const struct time_zone *zone, int64_t local_us);

/* Equal for equal rules, however they were written down. */
uint64_t time_zone_digest(const struct time_zone *zone);

#ifdef __cplusplus
}
#endif
#endif
