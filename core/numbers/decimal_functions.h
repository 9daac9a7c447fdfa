/*
 * Functions of decimals, with PostgreSQL's results and scales; like those of decimal.h in every
 * other respect.
 */
#ifndef DOVETAIL_DECIMAL_FUNCTIONS_H
#define DOVETAIL_DECIMAL_FUNCTIONS_H

#include "core/numbers/decimal.h"

/*
 * To `digits` behind the point, or with a negative number to tens, hundreds, ...; the scale is
 * `digits` or 0. Rounds half away from zero; truncating cuts off. DECIMAL_OVERFLOW: more than 38
 * digits, which appending zeros can lead to.
 */
enum decimal_status decimal_round(const struct decimal *value, int32_t digits,
                                  struct decimal *result) MUST_CHECK;
enum decimal_status decimal_truncate(const struct decimal *value, int32_t digits,
                                     struct decimal *result) MUST_CHECK;

/* The next whole number at or below, at or above the value; scale 0. */
struct decimal decimal_floor(const struct decimal *value);
struct decimal decimal_ceiling(const struct decimal *value);

struct decimal decimal_absolute(const struct decimal *value);

/* PostgreSQL's div(): the truncated quotient, scale 0. */
enum decimal_status decimal_quotient(const struct decimal *left, const struct decimal *right,
                                     struct decimal *result) MUST_CHECK;

/*
 * base to a whole power of 0 or more. The scale is that of the base, at least 16, and the result is
 * rounded half away from zero to it (numeric_power and power_var_int in PostgreSQL 15's numeric.c).
 * Computed exactly first: DECIMAL_OVERFLOW also where that takes more than DECIMAL_POWER_BITS.
 */
#define DECIMAL_POWER_BITS 16384
enum decimal_status decimal_power(const struct decimal *base, int64_t exponent,
                                  struct decimal *result) MUST_CHECK;

#endif
