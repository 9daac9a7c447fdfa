/*
 * Instants: int64_t microseconds since 1970-01-01T00:00:00Z, UTC, without leap seconds.
 *
 * An event's time lies in [TIMESTAMP_MIN_US, TIMESTAMP_END_US), the years 0001 to 9999. Bounds of
 * windows may lie a little outside; the functions that format or convert them take any int64_t.
 *
 * Pure functions: no I/O, no time zone database, no libc time functions, no clock; any thread.
 * Where a status is returned, *us is written only with TIMESTAMP_OK.
 */
#ifndef DOVETAIL_TIMESTAMP_H
#define DOVETAIL_TIMESTAMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/numbers/decimal.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TIMESTAMP_US_PER_SECOND INT64_C(1000000)
#define TIMESTAMP_US_PER_DAY INT64_C(86400000000)
#define TIMESTAMP_MIN_US INT64_C(-62135596800000000) /* 0001-01-01T00:00:00Z, inclusive */
#define TIMESTAMP_END_US INT64_C(253402300800000000) /* 10000-01-01T00:00:00Z, exclusive */

/* 2000-01-01T00:00:00Z, where PostgreSQL's timestamptz counts its microseconds from. */
#define TIMESTAMP_POSTGRES_EPOCH_US INT64_C(946684800000000)

#define TIMESTAMP_TEXT_SIZE 32 /* bytes for any timestamp_format result, its NUL included */

enum timestamp_status {
    TIMESTAMP_OK,
    TIMESTAMP_SYNTAX, /* not the format, or no day of the calendar */
    TIMESTAMP_RANGE,  /* well-formed, but outside the range of event times */
};

/*
 * Reads an RFC 3339 date-time over all `length` bytes. Between date and time stands 'T', 't' or one
 * space; the offset is 'Z', 'z' or ±hh:mm with hh <= 23. Second 60 is accepted in any minute and is
 * the first of the next one, as in PostgreSQL. There may be any number of fraction digits; those
 * beyond the sixth are cut off, towards the past.
 */
enum timestamp_status timestamp_parse_rfc3339(const char *text, size_t length,
                                              int64_t *us) MUST_CHECK;

/* For parameters that people type: also `2001-01-01`, which is midnight UTC. */
enum timestamp_status timestamp_parse_date_or_rfc3339(const char *text, size_t length,
                                                      int64_t *us) MUST_CHECK;

/*
 * A number of units since the Unix epoch, floored to microseconds. `units_per_second` is 1, 1000 or
 * 1000000. TIMESTAMP_OK or TIMESTAMP_RANGE.
 */
enum timestamp_status timestamp_from_epoch(const struct decimal *value, int64_t units_per_second,
                                           int64_t *us) MUST_CHECK;
enum timestamp_status timestamp_from_epoch_int64(int64_t value, int64_t units_per_second,
                                                 int64_t *us) MUST_CHECK;

bool timestamp_in_range(int64_t us);

/* A day of the proleptic Gregorian calendar, from and to days since 1970-01-01; any year whose days
 * int32_t counts. */
struct timestamp_date {
    int64_t year;
    uint32_t month; /* 1 .. 12 */
    uint32_t day;   /* 1 .. 31 */
};
struct timestamp_date timestamp_date_from_days(int64_t days);
int64_t timestamp_days_from_date(int64_t year, uint32_t month, uint32_t day);
uint32_t timestamp_days_in_month(int64_t year, uint32_t month);

/*
 * Writes `2001-01-01T00:47:00Z` and a NUL, with a fraction, free of trailing zeros, only where it
 * is not zero. Years outside 0000 to 9999 get ISO 8601's expanded form, +010000 or -000001. Returns
 * the length without the NUL; where `size` does not suffice (TIMESTAMP_TEXT_SIZE always does), it
 * returns 0 and writes an empty string.
 */
size_t timestamp_format(int64_t us, char *buffer, size_t size);

/*
 * Microseconds since 2000-01-01, as timestamptz has them in binary. `us` must be at least
 * TIMESTAMP_POSTGRES_EPOCH_US above INT64_MIN, as every window bound is.
 */
int64_t timestamp_to_postgres(int64_t us);

/*
 * The way back. TIMESTAMP_RANGE for 'infinity', '-infinity' and what int64_t cannot hold; the range
 * of event times is not applied, because window bounds may pass it.
 */
enum timestamp_status timestamp_from_postgres(int64_t pg_us, int64_t *us) MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
