/*
 * Decimal arithmetic with PostgreSQL's results, in 128 bits wherever that suffices.
 *
 * Invariant: every struct decimal that leaves this file has |coefficient| < 10^38 and a scale of 0
 * to 38. Pure; any thread. What does not fit is refused with a status and changes nothing.
 *
 * Operands of different scales are brought to the larger one as magnitudes in an unsigned 128-bit
 * integer, which ends at 3.4 × 10^38. A magnitude that does not fit there is so far above the other
 * operand, which is below 10^38, that the result is known without it.
 */
#include "core/numbers/decimal_limbs.h"

#include <assert.h>

/* src/include/utils/numeric.h and numeric.c of PostgreSQL. */
#define NUMERIC_MIN_SIG_DIGITS 16
#define DIGITS_PER_GROUP 4

const char *decimal_status_text(enum decimal_status status)
{
    switch (status) {
    case DECIMAL_OK:
        return "ok";
    case DECIMAL_OVERFLOW:
        return "number needs more than 38 digits";
    case DECIMAL_DIVISION_BY_ZERO:
        return "division by zero";
    case DECIMAL_SYNTAX:
        return "not a number";
    }
    return "unknown";
}

static bool fits(int128 coefficient)
{
    int128 limit = (int128)decimal_power10[DECIMAL_MAX_DIGITS];
    return coefficient > -limit && coefficient < limit;
}

/* False, with the magnitude unchanged, when the product leaves 128 bits. */
static bool scale_up(uint128 *magnitude, int32_t digits)
{
    uint128 product;
    if (__builtin_mul_overflow(*magnitude, decimal_power10[digits], &product)) {
        return false;
    }
    *magnitude = product;
    return true;
}

static int32_t larger(int32_t left, int32_t right)
{
    return left > right ? left : right;
}

struct decimal decimal_from_int64(int64_t value)
{
    return (struct decimal){.coefficient = value, .scale = 0};
}

bool decimal_to_int64(const struct decimal *value, int64_t *result)
{
    int128 whole = value->coefficient;
    if (value->scale > 0) {
        int128 power = (int128)decimal_power10[value->scale];
        if (whole % power != 0) {
            return false;
        }
        whole /= power;
    }
    if (whole < INT64_MIN || whole > INT64_MAX) {
        return false;
    }
    *result = (int64_t)whole;
    return true;
}

struct decimal decimal_trim(const struct decimal *value)
{
    struct decimal trimmed = *value;
    if (trimmed.coefficient == 0) {
        trimmed.scale = 0;
        return trimmed;
    }
    /* The number of zeros in binary, from 32 down. An odd coefficient has none. */
    for (int32_t step = 32; step > 0 && trimmed.scale > 0; step /= 2) {
        if ((trimmed.coefficient & 1) != 0) {
            break;
        }
        int128 power = (int128)decimal_power10[step];
        if (trimmed.scale >= step && trimmed.coefficient % power == 0) {
            trimmed.coefficient /= power;
            trimmed.scale -= step;
        }
    }
    return trimmed;
}

struct decimal decimal_negate(const struct decimal *value)
{
    return (struct decimal){.coefficient = -value->coefficient, .scale = value->scale};
}

bool decimal_is_zero(const struct decimal *value)
{
    return value->coefficient == 0;
}

int decimal_compare(const struct decimal *left, const struct decimal *right)
{
    bool negative = left->coefficient < 0;
    if (left->scale == right->scale || negative != (right->coefficient < 0)) {
        return (left->coefficient > right->coefficient) - (left->coefficient < right->coefficient);
    }
    uint128 left_magnitude = decimal_magnitude(left->coefficient);
    uint128 right_magnitude = decimal_magnitude(right->coefficient);
    int order;
    if (left->scale < right->scale && !scale_up(&left_magnitude, right->scale - left->scale)) {
        order = 1;
    } else if (left->scale > right->scale &&
               !scale_up(&right_magnitude, left->scale - right->scale)) {
        order = -1;
    } else {
        order = (left_magnitude > right_magnitude) - (left_magnitude < right_magnitude);
    }
    return negative ? -order : order;
}

bool decimal_equal(const struct decimal *left, const struct decimal *right)
{
    return decimal_compare(left, right) == 0;
}

/* left + right for different scales, where the operand of the smaller scale has to be widened. */
static enum decimal_status add_scaled(const struct decimal *left, const struct decimal *right,
                                      struct decimal *result)
{
    const struct decimal *coarse = left->scale < right->scale ? left : right;
    const struct decimal *fine = coarse == left ? right : left;
    uint128 coarse_magnitude = decimal_magnitude(coarse->coefficient);
    uint128 fine_magnitude = decimal_magnitude(fine->coefficient);
    bool coarse_negative = coarse->coefficient < 0;

    if (!scale_up(&coarse_magnitude, fine->scale - coarse->scale)) {
        return DECIMAL_OVERFLOW; /* above 3.4 × 10^38, and the other takes off less than 10^38 */
    }
    uint128 magnitude;
    bool negative = coarse_negative;
    if (coarse_negative == (fine->coefficient < 0)) {
        if (coarse_magnitude >= decimal_power10[DECIMAL_MAX_DIGITS]) {
            return DECIMAL_OVERFLOW;
        }
        magnitude = coarse_magnitude + fine_magnitude; /* below 2 × 10^38 */
    } else if (coarse_magnitude >= fine_magnitude) {
        magnitude = coarse_magnitude - fine_magnitude;
    } else {
        magnitude = fine_magnitude - coarse_magnitude;
        negative = !negative;
    }
    if (magnitude >= decimal_power10[DECIMAL_MAX_DIGITS]) {
        return DECIMAL_OVERFLOW;
    }
    *result =
        (struct decimal){.coefficient = decimal_signed(magnitude, negative), .scale = fine->scale};
    return DECIMAL_OK;
}

enum decimal_status decimal_add(const struct decimal *left, const struct decimal *right,
                                struct decimal *result)
{
    if (left->scale != right->scale) {
        return add_scaled(left, right, result);
    }
    int128 sum;
    if (__builtin_add_overflow(left->coefficient, right->coefficient, &sum) || !fits(sum)) {
        return DECIMAL_OVERFLOW;
    }
    *result = (struct decimal){.coefficient = sum, .scale = left->scale};
    return DECIMAL_OK;
}

enum decimal_status decimal_subtract(const struct decimal *left, const struct decimal *right,
                                     struct decimal *result)
{
    struct decimal negated = decimal_negate(right);
    return decimal_add(left, &negated, result);
}

enum decimal_status decimal_multiply(const struct decimal *left, const struct decimal *right,
                                     struct decimal *result)
{
    int32_t scale = left->scale + right->scale;
    int128 product;
    if (scale > DECIMAL_MAX_SCALE ||
        __builtin_mul_overflow(left->coefficient, right->coefficient, &product) || !fits(product)) {
        return DECIMAL_OVERFLOW;
    }
    *result = (struct decimal){.coefficient = product, .scale = scale};
    return DECIMAL_OK;
}

/* How many decimal digits, for 0 < value < 10^38. */
static int32_t digit_count(uint128 value)
{
    uint64_t high = (uint64_t)(value >> 64);
    int bits = high != 0 ? 128 - __builtin_clzll(high) : 64 - __builtin_clzll((uint64_t)value);
    /* 1233 / 4096 is log10(2) closely enough for 128 bits (Sean Anderson, Bit Twiddling Hacks). */
    int32_t estimate = (int32_t)(bits * 1233 / 4096);
    return estimate + (value >= decimal_power10[estimate]);
}

struct decimal_lead decimal_lead_of(uint128 coefficient, int32_t scale)
{
    if (coefficient == 0) {
        return (struct decimal_lead){.weight = 0, .first_digit = 0};
    }
    int32_t exponent = digit_count(coefficient) - 1 - scale; /* of the leading decimal digit */
    int32_t weight = (exponent + DIGITS_PER_GROUP * DECIMAL_MAX_SCALE) / DIGITS_PER_GROUP -
                     DECIMAL_MAX_SCALE;                /* exponent / 4, rounded down */
    int32_t below = scale + DIGITS_PER_GROUP * weight; /* digits right of the leading group */
    uint128 first =
        below >= 0 ? coefficient / decimal_power10[below] : coefficient * decimal_power10[-below];
    return (struct decimal_lead){.weight = weight, .first_digit = (int32_t)first};
}

int32_t decimal_quotient_scale(struct decimal_lead dividend, int32_t dividend_scale,
                               struct decimal_lead divisor, int32_t divisor_scale)
{
    /* Equal first digits count as "smaller": PostgreSQL does not look at the second ones. */
    int32_t weight = dividend.weight - divisor.weight;
    if (dividend.first_digit <= divisor.first_digit) {
        weight--;
    }
    int32_t scale = NUMERIC_MIN_SIG_DIGITS - weight * DIGITS_PER_GROUP;
    return larger(larger(scale, 0), larger(dividend_scale, divisor_scale));
}

enum decimal_status decimal_divide(const struct decimal *left, const struct decimal *right,
                                   struct decimal *result)
{
    if (right->coefficient == 0) {
        return DECIMAL_DIVISION_BY_ZERO;
    }
    bool negative = (left->coefficient < 0) != (right->coefficient < 0);
    uint128 dividend = decimal_magnitude(left->coefficient);
    uint128 divisor = decimal_magnitude(right->coefficient);
    int32_t scale = decimal_quotient_scale(decimal_lead_of(dividend, left->scale), left->scale,
                                           decimal_lead_of(divisor, right->scale), right->scale);
    if (scale > DECIMAL_MAX_SCALE) {
        return DECIMAL_OVERFLOW;
    }

    /* The dividend times 10^shift: below 10^38 × 10^76 < 2^384. */
    int32_t shift = scale + right->scale - left->scale;
    uint128 quotient;
    uint128 remainder;
    if (shift <= DECIMAL_MAX_DIGITS && scale_up(&dividend, shift)) {
        quotient = dividend / divisor;
        remainder = dividend % divisor;
    } else {
        uint64_t word[DECIMAL_WIDE_WORDS] = {(uint64_t)dividend, (uint64_t)(dividend >> 64)};
        (void)decimal_limbs_scale_up(word, DECIMAL_WIDE_WORDS, shift);
        remainder = decimal_limbs_divide_wide(word, DECIMAL_WIDE_WORDS, divisor);
        if (!decimal_limbs_is_zero(word + 2, DECIMAL_WIDE_WORDS - 2)) {
            return DECIMAL_OVERFLOW;
        }
        quotient = (uint128)word[1] << 64 | word[0];
    }
    unsigned up = remainder >= divisor - remainder; /* half away from zero */
    if (quotient >= decimal_power10[DECIMAL_MAX_DIGITS] - up) {
        return DECIMAL_OVERFLOW;
    }
    quotient += up;
    *result = (struct decimal){.coefficient = decimal_signed(quotient, negative), .scale = scale};
    return DECIMAL_OK;
}

enum decimal_status decimal_modulo(const struct decimal *left, const struct decimal *right,
                                   struct decimal *result)
{
    if (right->coefficient == 0) {
        return DECIMAL_DIVISION_BY_ZERO;
    }
    int32_t scale = larger(left->scale, right->scale);
    uint128 dividend = decimal_magnitude(left->coefficient);
    uint128 divisor = decimal_magnitude(right->coefficient);
    uint128 remainder;
    if (!scale_up(&divisor, scale - right->scale)) {
        remainder = dividend; /* the divisor is larger */
    } else if (scale_up(&dividend, scale - left->scale)) {
        remainder = dividend % divisor;
    } else {
        /* dividend × 10^shift < 10^76 < 2^256; here the divisor was not widened. */
        uint64_t word[4] = {(uint64_t)dividend, (uint64_t)(dividend >> 64)};
        (void)decimal_limbs_scale_up(word, 4, scale - left->scale);
        remainder = decimal_limbs_divide_wide(word, 4, divisor);
    }
    *result = (struct decimal){.coefficient = decimal_signed(remainder, left->coefficient < 0),
                               .scale = scale};
    return DECIMAL_OK;
}
