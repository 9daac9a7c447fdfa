/*
 * Sums of decimals: a 384-bit two's complement integer with a scale, the larger of all the scales
 * that were added. Addition of such pairs is exact, associative and commutative, and each value and
 * scale has exactly one representation. So a sum is the same bytes in whatever order and
 * however split its terms came.
 *
 * Why nothing can overflow. A decimal is |c| × 10^-s with |c| < 10^38; at scale 38, the finest, its
 * coefficient is below 10^76 < 2^253. A sum of 2^63 of them is below 2^316, far from the 2^383 at
 * which 384 bits end. decimal_wide_decode_pg admits coefficients below 2^319 at scale 38, so even
 * 2^63 merged states from a damaged table stay below 2^382. No function here needs to check.
 *
 * Pure functions: no I/O, no allocation, no shared state; any thread that owns the object.
 */
#ifndef DOVETAIL_DECIMAL_WIDE_H
#define DOVETAIL_DECIMAL_WIDE_H

#include "core/numbers/decimal.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DECIMAL_WIDE_WORDS 6

/*
 * The largest scale of an average: a sum of 10^-38 has PostgreSQL weight -10, a count of 2^63 has
 * weight 4, so select_div_scale asks for at most 16 + 4 × 15 digits.
 */
#define DECIMAL_WIDE_MAX_SCALE 76

#define DECIMAL_WIDE_TEXT_SIZE 128 /* bytes for any decimal_wide_format result, NUL included */
#define DECIMAL_WIDE_PG_SIZE 80    /* bytes for any decimal_wide_encode_pg result */

struct decimal_wide {
    uint64_t word[DECIMAL_WIDE_WORDS]; /* the coefficient, two's complement, word[0] lowest */
    int32_t scale; /* 0 .. DECIMAL_MAX_SCALE in a sum, .. DECIMAL_WIDE_MAX_SCALE in a quotient */
};

/* Zero with scale 0: the neutral element of add and merge. */
void decimal_wide_init(struct decimal_wide *sum);

/* A finished integer sum, with scale 0. */
void decimal_wide_from_int128(struct decimal_wide *sum, int128 value);

void decimal_wide_add(struct decimal_wide *sum, const struct decimal *value);

/* Adds `other`, which must be a sum, not a quotient. `sum` and `other` may be the same object. */
void decimal_wide_merge(struct decimal_wide *sum, const struct decimal_wide *other);

/* The same value and the same scale: two sums are equal if and only if they print the same. */
bool decimal_wide_equal(const struct decimal_wide *left, const struct decimal_wide *right);

/* By value, whatever the scales: negative, zero or positive as left is below, at or above right. */
int decimal_wide_compare(const struct decimal_wide *left, const struct decimal_wide *right);

bool decimal_wide_is_zero(const struct decimal_wide *value);

/*
 * PostgreSQL's numeric_div(sum, count), which is what avg() prints: rounded half away from zero to
 * the scale select_div_scale chooses, at most DECIMAL_WIDE_MAX_SCALE. It always fits: where that
 * scale exceeds the sum's, the quotient has at most 24 digits; otherwise it is no larger than
 * the sum. DECIMAL_DIVISION_BY_ZERO is the only failure. `sum` must be a sum; `quotient` may be the
 * same object. A quotient is for decimal_wide_format, _trim, _compare and _encode_pg, not for
 * add, merge or divide.
 */
enum decimal_status decimal_wide_divide(const struct decimal_wide *sum, int64_t count,
                                        struct decimal_wide *quotient) MUST_CHECK;

/* PostgreSQL's trim_scale(): the same value with the smallest scale that holds it. */
void decimal_wide_trim(struct decimal_wide *value);

/* The same value and scale as a decimal; DECIMAL_OVERFLOW where it has more than 38 digits. */
enum decimal_status decimal_wide_to_decimal(const struct decimal_wide *value,
                                            struct decimal *result) MUST_CHECK;

/* As decimal_format: all `scale` fraction digits; trim first for the shortest exact text. */
size_t decimal_wide_format(const struct decimal_wide *value, char *buffer, size_t size);

/* As decimal_encode_pg, for sums and quotients. */
size_t decimal_wide_encode_pg(const struct decimal_wide *value, uint8_t *buffer, size_t size);

/*
 * As decimal_decode_pg, for the states of sums: DECIMAL_OVERFLOW for a dscale above 38 (so a
 * stored quotient is not taken for a sum) and for a value beyond the bound proved above.
 */
enum decimal_status decimal_wide_decode_pg(const uint8_t *bytes, size_t length,
                                           struct decimal_wide *sum) MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
