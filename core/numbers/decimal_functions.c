/*
 * Rounding, whole quotients and powers of decimals. Pure; any thread.
 */
#include "core/numbers/decimal_functions.h"

#include <string.h>

#include "core/numbers/decimal_limbs.h"

#define POWER_WORDS (DECIMAL_POWER_BITS / 64)
#define MIN_POWER_SCALE 16 /* NUMERIC_MIN_SIG_DIGITS */

static enum decimal_status store(uint128 magnitude, bool negative, int32_t scale,
                                 struct decimal *result)
{
    if (magnitude >= decimal_power10[DECIMAL_MAX_DIGITS] || scale > DECIMAL_MAX_SCALE) {
        return DECIMAL_OVERFLOW;
    }
    *result = (struct decimal){.coefficient = decimal_signed(magnitude, negative), .scale = scale};
    return DECIMAL_OK;
}

/* value × 10^digits as the magnitude of a stored decimal. */
static enum decimal_status store_scaled(uint128 magnitude, int32_t digits, bool negative,
                                        int32_t scale, struct decimal *result)
{
    if (magnitude != 0 &&
        (digits > DECIMAL_MAX_DIGITS ||
         __builtin_mul_overflow(magnitude, decimal_power10[digits], &magnitude))) {
        return DECIMAL_OVERFLOW;
    }
    return store(magnitude, negative, scale, result);
}

static enum decimal_status to_digits(const struct decimal *value, int32_t digits, bool rounds,
                                     struct decimal *result)
{
    bool negative = value->coefficient < 0;
    uint128 magnitude = decimal_magnitude(value->coefficient);

    if (digits > DECIMAL_MAX_SCALE) {
        return DECIMAL_OVERFLOW;
    }
    if (digits >= value->scale) {
        return store_scaled(magnitude, digits - value->scale, negative, digits, result);
    }
    /* Digits to drop; more than 38 leave nothing, whatever they are. */
    int64_t dropped = (int64_t)value->scale - digits;
    uint128 kept = 0;
    if (dropped <= DECIMAL_MAX_DIGITS) {
        uint128 unit = decimal_power10[dropped], rest = magnitude % unit;
        kept = magnitude / unit + (rounds && rest >= unit - rest ? 1 : 0);
    }
    if (digits < 0) {
        int32_t zeros = kept == 0 ? 0 : -digits;
        return store_scaled(kept, zeros, negative, 0, result);
    }
    return store(kept, negative, digits, result);
}

enum decimal_status decimal_round(const struct decimal *value, int32_t digits,
                                  struct decimal *result)
{
    return to_digits(value, digits, true, result);
}

enum decimal_status decimal_truncate(const struct decimal *value, int32_t digits,
                                     struct decimal *result)
{
    return to_digits(value, digits, false, result);
}

struct decimal decimal_floor(const struct decimal *value)
{
    int128 unit = (int128)decimal_power10[value->scale];
    int128 whole = value->coefficient / unit;
    return (struct decimal){.coefficient = whole - (value->coefficient % unit < 0)};
}

struct decimal decimal_ceiling(const struct decimal *value)
{
    int128 unit = (int128)decimal_power10[value->scale];
    int128 whole = value->coefficient / unit;
    return (struct decimal){.coefficient = whole + (value->coefficient % unit > 0)};
}

struct decimal decimal_absolute(const struct decimal *value)
{
    return value->coefficient < 0 ? decimal_negate(value) : *value;
}

enum decimal_status decimal_quotient(const struct decimal *left, const struct decimal *right,
                                     struct decimal *result)
{
    if (right->coefficient == 0) {
        return DECIMAL_DIVISION_BY_ZERO;
    }
    bool negative = (left->coefficient < 0) != (right->coefficient < 0);
    uint128 dividend = decimal_magnitude(left->coefficient);
    uint128 divisor = decimal_magnitude(right->coefficient);
    int32_t shift = right->scale - left->scale;
    if (shift < 0) {
        bool larger = __builtin_mul_overflow(divisor, decimal_power10[-shift], &divisor);
        return store(larger ? 0 : dividend / divisor, negative, 0, result);
    }
    uint64_t word[4] = {(uint64_t)dividend, (uint64_t)(dividend >> 64)};
    (void)decimal_limbs_scale_up(word, 4, shift); /* below 10^38 × 10^38 < 2^256 */
    (void)decimal_limbs_divide_wide(word, 4, divisor);
    if (word[2] != 0 || word[3] != 0) {
        return DECIMAL_OVERFLOW;
    }
    return store((uint128)word[1] << 64 | word[0], negative, 0, result);
}

/* --- powers --- */

/* word[0..*used) × factor; false where it leaves POWER_WORDS. */
static bool multiply_by(uint64_t *word, size_t *used, uint128 factor)
{
    const uint64_t part[2] = {(uint64_t)factor, (uint64_t)(factor >> 64)};
    uint64_t product[POWER_WORDS + 2] = {0};

    if (*used + 2 > POWER_WORDS) {
        return false;
    }
    for (size_t k = 0; k < 2; k++) {
        uint64_t carry = 0;
        for (size_t i = 0; i < *used; i++) {
            uint128 sum = (uint128)word[i] * part[k] + product[i + k] + carry;
            product[i + k] = (uint64_t)sum;
            carry = (uint64_t)(sum >> 64);
        }
        product[*used + k] += carry; /* nothing has been added there but the other part's carry */
    }
    *used += 2;
    while (*used > 1 && product[*used - 1] == 0) {
        --*used;
    }
    memcpy(word, product, *used * sizeof *word);
    return true;
}

/* Divides by 10^digits, rounding half away from zero. */
static void divide_rounding(uint64_t *word, size_t used, int64_t digits)
{
    uint64_t last = 0; /* the digit behind the point: half and more rounds up whatever follows */

    while (digits > 0) {
        int64_t step = digits > 19 ? 18 : digits - 1;
        if (step > 0) {
            (void)decimal_limbs_divide(word, used, (uint64_t)decimal_power10[step]);
        }
        digits -= step;
        if (digits == 1) {
            last = decimal_limbs_divide(word, used, 10);
            digits = 0;
        }
    }
    if (last >= 5) {
        (void)decimal_limbs_multiply(word, used, 1, 1);
    }
}

/* 10^-(scale × exponent), for a base of 1 and zeros: exact or rounded to nothing. */
static enum decimal_status power_of_ten(int64_t exponent_of_ten, bool negative, int32_t scale,
                                        struct decimal *result)
{
    if (exponent_of_ten > DECIMAL_MAX_DIGITS) {
        return DECIMAL_OVERFLOW;
    }
    if (exponent_of_ten < -scale) {
        return store(0, false, scale, result);
    }
    return store_scaled(1, (int32_t)exponent_of_ten + scale, negative, scale, result);
}

enum decimal_status decimal_power(const struct decimal *base, int64_t exponent,
                                  struct decimal *result)
{
    int32_t scale = base->scale > MIN_POWER_SCALE ? base->scale : MIN_POWER_SCALE;
    uint128 factor = decimal_magnitude(base->coefficient);
    bool negative = base->coefficient < 0 && exponent % 2 != 0;
    int64_t unit = -base->scale; /* the base is factor × 10^unit */

    if (exponent < 0 || exponent > INT32_MAX) {
        return DECIMAL_OVERFLOW;
    }
    if (exponent == 0) {
        return store_scaled(1, scale, false, scale, result);
    }
    if (factor == 0) {
        return store(0, false, scale, result);
    }
    for (; factor % 10 == 0; factor /= 10) {
        unit++;
    }
    if (factor == 1) {
        return power_of_ten(unit * exponent, negative, scale, result);
    }
    /* Far below the last digit: factor < 10^38, so base^exponent < 10^((unit + 38) × exponent). */
    uint64_t word[POWER_WORDS] = {1};
    size_t used = 1;
    for (int64_t i = 0; i < exponent; i++) {
        if (!multiply_by(word, &used, factor)) {
            return DECIMAL_OVERFLOW;
        }
    }
    int64_t up = unit * exponent + scale; /* the result's coefficient is word × 10^up */
    if (up < 0) {
        divide_rounding(word, used, -up);
    } else if (up > DECIMAL_MAX_DIGITS || used + 2 > POWER_WORDS ||
               !multiply_by(word, &used, decimal_power10[up])) {
        return DECIMAL_OVERFLOW;
    }
    for (size_t i = 2; i < used; i++) {
        if (word[i] != 0) {
            return DECIMAL_OVERFLOW;
        }
    }
    return store((uint128)word[1] << 64 | word[0], negative, scale, result);
}
