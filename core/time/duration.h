/*
 * Lengths of time as definitions and configurations write them: `15m`, `1h`, `250ms`.
 *
 * A duration is a positive number of microseconds. Pure functions; any thread.
 */
#ifndef DOVETAIL_DURATION_H
#define DOVETAIL_DURATION_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DURATION_TEXT_SIZE 24 /* bytes for any duration_format result, its NUL included */

enum duration_status {
    DURATION_OK,
    DURATION_SYNTAX, /* not an integer followed by ms, s, m, h, d or w */
    DURATION_RANGE,  /* zero, or more microseconds than int64_t holds */
};

/*
 * Reads digits and one unit, `ms`, `s`, `m`, `h`, `d` (24 hours) or `w` (7 days), over all `length`
 * bytes: no sign, no white space, no leading zero. *us is written only with DURATION_OK.
 */
enum duration_status duration_parse(const char *text, size_t length, int64_t *us) MUST_CHECK;

/*
 * Writes the duration in the largest unit that leaves no remainder, and a NUL: 5400 seconds are
 * `90m`. What is no whole number of milliseconds is written in `us`, for messages; duration_parse
 * does not take that. `us` must not be negative. Returns the length without the NUL; where `size`
 * does not suffice (DURATION_TEXT_SIZE always does), it returns 0 and writes an empty string.
 */
size_t duration_format(int64_t us, char *buffer, size_t size);

#ifdef __cplusplus
}
#endif
#endif
