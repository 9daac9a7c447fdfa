/*
 * Exact decimal numbers with the results and the result scales of PostgreSQL's `numeric`.
 *
 * A decimal is coefficient × 10^-scale. The scale is PostgreSQL's "dscale", the number of fraction
 * digits shown: 1.50 and 1.5 are equal in value and differ in scale. Every result here is the one
 * PostgreSQL prints for the same operands, or a status; nothing is ever rounded, wrapped or clipped
 * to make it fit.
 *
 * Pure functions: no I/O, no allocation, no shared state; any thread. Where a status is returned,
 * *result is written only with DECIMAL_OK. A result may be the same object as an operand.
 */
#ifndef DOVETAIL_DECIMAL_H
#define DOVETAIL_DECIMAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

__extension__ typedef __int128 int128;
__extension__ typedef unsigned __int128 uint128;

#define DECIMAL_MAX_DIGITS 38 /* |coefficient| < 10^38 */
#define DECIMAL_MAX_SCALE 38  /* 0 <= scale <= 38 */

#define DECIMAL_TEXT_SIZE 42        /* bytes for any decimal_format result, its NUL included */
#define DECIMAL_INT128_TEXT_SIZE 41 /* bytes for any int128 as text, its NUL included */
#define DECIMAL_PG_SIZE 30          /* bytes for any decimal_encode_pg result */

struct decimal {
    int128 coefficient; /* |coefficient| < 10^DECIMAL_MAX_DIGITS */
    int32_t scale;      /* fraction digits, 0 .. DECIMAL_MAX_SCALE */
};

enum decimal_status {
    DECIMAL_OK,
    DECIMAL_OVERFLOW,         /* the exact result needs more than 38 digits, or a scale above 38 */
    DECIMAL_DIVISION_BY_ZERO, /* the divisor is zero */
    DECIMAL_SYNTAX,           /* the input is not a number in the format that is read */
};

/* A word for a message, such as "numeric overflow"; static storage. */
const char *decimal_status_text(enum decimal_status status);

struct decimal decimal_from_int64(int64_t value);

/*
 * True, with *result written, when the value is a whole number (5, 5.0) that int64_t holds. *result
 * is left alone otherwise.
 */
bool decimal_to_int64(const struct decimal *value, int64_t *result) MUST_CHECK;

/*
 * Reads exactly the JSON number grammar (RFC 8259, section 6) over all `length` bytes: no '+', no
 * leading zeros, no white space. The scale is what PostgreSQL gives the same text: 1.50 has 2,
 * 1.5e3 is 1500 with 0, 1e-3 has 3, -0.0 is 0 with 1.
 * DECIMAL_SYNTAX for any other text; DECIMAL_OVERFLOW for a number with more than 38 digits once
 * the exponent is applied, or a scale above 38. Time is linear in `length`, whatever the exponent.
 */
enum decimal_status decimal_parse(const char *text, size_t length,
                                  struct decimal *result) MUST_CHECK;

/*
 * Writes the text PostgreSQL prints, all `scale` fraction digits included, and a NUL. Returns the
 * length without the NUL. Where `size` does not suffice (DECIMAL_TEXT_SIZE always does), it returns
 * 0 and writes an empty string.
 */
size_t decimal_format(const struct decimal *value, char *buffer, size_t size);

/* The decimal digits of an int128, by the same rules as decimal_format. */
size_t decimal_int128_format(int128 value, char *buffer, size_t size);

/*
 * PostgreSQL's trim_scale(): the same value with the smallest scale that holds it. Equal values
 * have one trimmed form, so the trimmed fields are what to hash or to group by. Hash the two
 * fields, not the bytes of the struct, which has padding.
 */
struct decimal decimal_trim(const struct decimal *value);

struct decimal decimal_negate(const struct decimal *value);
bool decimal_is_zero(const struct decimal *value);

/* By value, whatever the scales: negative, zero or positive as left is below, at or above right. */
int decimal_compare(const struct decimal *left, const struct decimal *right);
bool decimal_equal(const struct decimal *left, const struct decimal *right);

/* Scale of the result: the larger of the two. */
enum decimal_status decimal_add(const struct decimal *left, const struct decimal *right,
                                struct decimal *result) MUST_CHECK;
enum decimal_status decimal_subtract(const struct decimal *left, const struct decimal *right,
                                     struct decimal *result) MUST_CHECK;

/* Scale of the result: the sum of the two; above 38 it is DECIMAL_OVERFLOW, even for a zero. */
enum decimal_status decimal_multiply(const struct decimal *left, const struct decimal *right,
                                     struct decimal *result) MUST_CHECK;

/*
 * Rounds half away from zero to the scale PostgreSQL selects: at least 16 significant digits and at
 * least either operand's scale (select_div_scale in src/backend/utils/adt/numeric.c). Where that
 * scale is above 38, as in 1 / 3e30, the quotient is DECIMAL_OVERFLOW.
 */
enum decimal_status decimal_divide(const struct decimal *left, const struct decimal *right,
                                   struct decimal *result) MUST_CHECK;

/*
 * The remainder of the truncated quotient: it has the dividend's sign and the larger scale. It
 * always fits, so the only failure is DECIMAL_DIVISION_BY_ZERO.
 */
enum decimal_status decimal_modulo(const struct decimal *left, const struct decimal *right,
                                   struct decimal *result) MUST_CHECK;

/*
 * PostgreSQL's binary format of numeric, as numeric_send writes it: int16 ndigits, weight, sign and
 * dscale, then base-10000 digits, all in network order. Returns the size, or 0 where `size` does
 * not suffice (DECIMAL_PG_SIZE always does).
 */
size_t decimal_encode_pg(const struct decimal *value, uint8_t *buffer, size_t size);

/*
 * Reads that format and trusts nothing in it. Leading and trailing zero digits are tolerated.
 * DECIMAL_SYNTAX: NaN, an infinity, a wrong length, a digit above 9999, non-zero digits beyond the
 * dscale. DECIMAL_OVERFLOW: a dscale above 38 or more than 38 digits.
 */
enum decimal_status decimal_decode_pg(const uint8_t *bytes, size_t length,
                                      struct decimal *result) MUST_CHECK;

#ifdef __cplusplus
}
#endif

/* Sums of decimals belong to the same interface. */
#include "core/numbers/decimal_wide.h"
#endif
