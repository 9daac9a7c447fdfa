/*
 * Sums of products of two decimals, as variances and regressions need them: a 640-bit two's
 * complement integer with a scale, the largest of all the scales that were added. As with
 * decimal_wide.h, addition is exact, associative and commutative, and each value and scale has
 * exactly one representation.
 *
 * Why nothing can overflow. A decimal is |c| × 10^-s with |c| < 10^38 and s <= 38, so a product has
 * a coefficient below 10^76 and a scale of at most 76; at that scale, the finest, its coefficient
 * is below 10^152 < 2^505. A sum of 2^63 of them is below 2^568, far from the 2^639 at which 640
 * bits end. decimal_moment_decode_pg admits coefficients below 2^575 at scale 76, so even 2^63
 * merged states from a damaged table stay below 2^638. No function here needs to check.
 *
 * Pure functions: no I/O, no allocation, no shared state; any thread that owns the object.
 */
#ifndef DOVETAIL_DECIMAL_MOMENT_H
#define DOVETAIL_DECIMAL_MOMENT_H

#include "core/numbers/decimal.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DECIMAL_MOMENT_WORDS 10
#define DECIMAL_MOMENT_MAX_SCALE 76
#define DECIMAL_MOMENT_PG_SIZE 112 /* bytes for any decimal_moment_encode_pg result */

struct decimal_moment {
    uint64_t word[DECIMAL_MOMENT_WORDS]; /* the coefficient, two's complement, word[0] lowest */
    int32_t scale;                       /* 0 .. DECIMAL_MOMENT_MAX_SCALE */
};

/* Zero with scale 0: the neutral element. */
void decimal_moment_init(struct decimal_moment *sum);

/* An integer of 192 bits in two's complement, with scale 0. */
void decimal_moment_from_integer(struct decimal_moment *sum, uint128 low, int64_t high);
/* The reverse; false where the value is no integer of 192 bits or its scale is not 0. */
bool decimal_moment_to_integer(const struct decimal_moment *sum, uint128 *low, int64_t *high);

void decimal_moment_add(struct decimal_moment *sum, const struct decimal *value);
void decimal_moment_add_product(struct decimal_moment *sum, const struct decimal *left,
                                const struct decimal *right);
/* `sum` and `other` may be the same object. */
void decimal_moment_merge(struct decimal_moment *sum, const struct decimal_moment *other);

bool decimal_moment_is_zero(const struct decimal_moment *sum);
bool decimal_moment_is_negative(const struct decimal_moment *sum);

/* As decimal_encode_pg and decimal_decode_pg. DECIMAL_OVERFLOW: a dscale above 76, or a value
 * beyond the bound proved above. */
size_t decimal_moment_encode_pg(const struct decimal_moment *sum, uint8_t *buffer, size_t size);
enum decimal_status decimal_moment_decode_pg(const uint8_t *bytes, size_t length,
                                             struct decimal_moment *sum) MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
