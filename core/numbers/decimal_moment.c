/*
 * Sums of products of decimals in 640 bits. The bounds are proved at the head of decimal_moment.h.
 *
 * Invariant: the coefficient of a sum, brought to scale 76, stays below 2^639 in magnitude, so
 * arithmetic modulo 2^640 on the two's complement words is exact arithmetic. Multiplication by a
 * power of ten needs no sign handling for the same reason. Pure; any thread that owns the object.
 */
#include "core/numbers/decimal_moment.h"

#include <assert.h>
#include <string.h>

#include "core/numbers/decimal_limbs.h"

#define WORDS DECIMAL_MOMENT_WORDS

_Static_assert(WORDS <= DECIMAL_LIMBS_MAX, "the limbs' functions take that many words");
_Static_assert(DECIMAL_MOMENT_PG_SIZE >= 8 + 2 * DECIMAL_GROUPS_MAX, "every number fits");

/* Brings a sum to a scale that is at least its own. */
static void rescale(struct decimal_moment *sum, int32_t scale)
{
    assert(sum->scale <= scale && scale <= DECIMAL_MOMENT_MAX_SCALE);
    /* Modular: what it returns only says that a negative number's sign bits were multiplied too. */
    (void)decimal_limbs_scale_up(sum->word, WORDS, scale - sum->scale);
    sum->scale = scale;
}

/* left × right, below 2^256. */
static void multiply(uint128 left, uint128 right, uint64_t product[WORDS])
{
    uint64_t upper[WORDS] = {0, (uint64_t)left, (uint64_t)(left >> 64)};
    memset(product, 0, WORDS * sizeof(product[0]));
    product[0] = (uint64_t)left;
    product[1] = (uint64_t)(left >> 64);
    (void)decimal_limbs_multiply(product, WORDS, (uint64_t)right, 0);
    (void)decimal_limbs_multiply(upper, WORDS, (uint64_t)(right >> 64), 0);
    decimal_limbs_add(product, upper, WORDS);
}

/* Adds coefficient × factor × 10^-scale. */
static void add_term(struct decimal_moment *sum, int128 coefficient, int128 factor, int32_t scale)
{
    int128 product;
    if (scale > sum->scale) {
        rescale(sum, scale);
    }
    int32_t digits = sum->scale - scale;
    if (digits <= DECIMAL_MAX_DIGITS && !__builtin_mul_overflow(coefficient, factor, &product) &&
        (digits == 0 ||
         !__builtin_mul_overflow(product, (int128)decimal_power10[digits], &product))) {
        decimal_limbs_add_int128(sum->word, WORDS, product);
        return;
    }
    uint64_t wide[WORDS];
    multiply(decimal_magnitude(coefficient), decimal_magnitude(factor), wide);
    (void)decimal_limbs_scale_up(wide, WORDS, digits);
    if ((coefficient < 0) != (factor < 0)) {
        decimal_limbs_negate(wide, WORDS);
    }
    decimal_limbs_add(sum->word, wide, WORDS);
}

void decimal_moment_init(struct decimal_moment *sum)
{
    memset(sum, 0, sizeof(*sum));
}

void decimal_moment_from_integer(struct decimal_moment *sum, uint128 low, int64_t high)
{
    memset(sum, high < 0 ? 0xFF : 0, sizeof(*sum));
    sum->word[0] = (uint64_t)low;
    sum->word[1] = (uint64_t)(low >> 64);
    sum->word[2] = (uint64_t)high;
    sum->scale = 0;
}

bool decimal_moment_to_integer(const struct decimal_moment *sum, uint128 *low, int64_t *high)
{
    uint64_t sign = (int64_t)sum->word[2] < 0 ? UINT64_MAX : 0;
    bool fits = sum->scale == 0;
    for (size_t i = 3; i < WORDS; i++) {
        fits = fits && sum->word[i] == sign;
    }
    *low = (uint128)sum->word[1] << 64 | sum->word[0];
    *high = (int64_t)sum->word[2];
    return fits;
}

void decimal_moment_add(struct decimal_moment *sum, const struct decimal *value)
{
    add_term(sum, value->coefficient, 1, value->scale);
}

void decimal_moment_add_product(struct decimal_moment *sum, const struct decimal *left,
                                const struct decimal *right)
{
    add_term(sum, left->coefficient, right->coefficient, left->scale + right->scale);
}

void decimal_moment_merge(struct decimal_moment *sum, const struct decimal_moment *other)
{
    struct decimal_moment term = *other;
    if (term.scale > sum->scale) {
        rescale(sum, term.scale);
    } else if (term.scale < sum->scale) {
        rescale(&term, sum->scale);
    }
    decimal_limbs_add(sum->word, term.word, WORDS);
}

bool decimal_moment_is_zero(const struct decimal_moment *sum)
{
    return decimal_limbs_is_zero(sum->word, WORDS);
}

bool decimal_moment_is_negative(const struct decimal_moment *sum)
{
    return sum->word[WORDS - 1] >> 63 != 0;
}

size_t decimal_moment_encode_pg(const struct decimal_moment *sum, uint8_t *buffer, size_t size)
{
    uint64_t magnitude[WORDS];
    bool negative = decimal_moment_is_negative(sum);
    memcpy(magnitude, sum->word, sizeof(magnitude));
    if (negative) {
        decimal_limbs_negate(magnitude, WORDS);
    }
    return decimal_limbs_encode_pg(negative, magnitude, WORDS, sum->scale, buffer, size);
}

enum decimal_status decimal_moment_decode_pg(const uint8_t *bytes, size_t length,
                                             struct decimal_moment *sum)
{
    uint64_t magnitude[WORDS];
    uint64_t finest[WORDS];
    bool negative;
    int32_t scale;
    enum decimal_status status = decimal_limbs_decode_pg(bytes, length, DECIMAL_MOMENT_MAX_SCALE,
                                                         magnitude, WORDS, &negative, &scale);
    if (status != DECIMAL_OK) {
        return status;
    }
    /* The bound that keeps 2^63 merges in range: below 2^575 at the finest scale. */
    memcpy(finest, magnitude, sizeof(finest));
    if (!decimal_limbs_scale_up(finest, WORDS, DECIMAL_MOMENT_MAX_SCALE - scale) ||
        finest[WORDS - 1] != 0 || finest[WORDS - 2] >> 63 != 0) {
        return DECIMAL_OVERFLOW;
    }
    if (negative) {
        decimal_limbs_negate(magnitude, WORDS);
    }
    memset(sum, 0, sizeof(*sum));
    memcpy(sum->word, magnitude, sizeof(magnitude));
    sum->scale = scale;
    return DECIMAL_OK;
}
