/*
 * Arithmetic on unsigned integers of several 64-bit words, for decimals that leave 128 bits.
 *
 * Every function works in place on the caller's words, takes time in proportion to their number and
 * cannot fail; what does not fit is returned to the caller. Any thread.
 */
#include "core/numbers/decimal_limbs.h"

#include <assert.h>

#define E19 ((uint128)10000000000000000000u)

const uint128 decimal_power10[DECIMAL_MAX_DIGITS + 1] = {
    1u,
    10u,
    100u,
    1000u,
    10000u,
    100000u,
    1000000u,
    10000000u,
    100000000u,
    1000000000u,
    10000000000u,
    100000000000u,
    1000000000000u,
    10000000000000u,
    100000000000000u,
    1000000000000000u,
    10000000000000000u,
    100000000000000000u,
    1000000000000000000u,
    E19,
    E19 * 10u,
    E19 * 100u,
    E19 * 1000u,
    E19 * 10000u,
    E19 * 100000u,
    E19 * 1000000u,
    E19 * 10000000u,
    E19 * 100000000u,
    E19 * 1000000000u,
    E19 * 10000000000u,
    E19 * 100000000000u,
    E19 * 1000000000000u,
    E19 * 10000000000000u,
    E19 * 100000000000000u,
    E19 * 1000000000000000u,
    E19 * 10000000000000000u,
    E19 * 100000000000000000u,
    E19 * 1000000000000000000u,
    E19 *E19,
};

uint64_t decimal_limbs_multiply(uint64_t *word, size_t count, uint64_t factor, uint64_t addend)
{
    uint64_t carry = addend;
    for (size_t i = 0; i < count; i++) {
        uint128 product = (uint128)word[i] * factor + carry;
        word[i] = (uint64_t)product;
        carry = (uint64_t)(product >> 64);
    }
    return carry;
}

bool decimal_limbs_scale_up(uint64_t *word, size_t count, int32_t digits)
{
    bool fits = true;
    while (digits > 0) {
        int32_t step = digits < 19 ? digits : 19; /* 10^19 is the largest power in 64 bits */
        if (decimal_limbs_multiply(word, count, (uint64_t)decimal_power10[step], 0) != 0) {
            fits = false;
        }
        digits -= step;
    }
    return fits;
}

uint64_t decimal_limbs_divide(uint64_t *word, size_t count, uint64_t divisor)
{
    uint64_t remainder = 0;
    for (size_t i = count; i-- > 0;) {
        if (remainder == 0) {
            /* Leading zeros and short numbers are the rule: spare them the 128-bit division. */
            remainder = word[i] % divisor;
            word[i] /= divisor;
            continue;
        }
        uint128 part = (uint128)remainder << 64 | word[i];
        word[i] = (uint64_t)(part / divisor);
        remainder = (uint64_t)(part % divisor);
    }
    return remainder;
}

/*
 * One digit of algorithm D for a divisor of two words whose top bit is set: divides
 * (remainder, next), with remainder < divisor, and leaves the new remainder in *remainder.
 */
static uint64_t divide_step(uint128 *remainder, uint64_t next, uint128 divisor)
{
    uint64_t divisor_high = (uint64_t)(divisor >> 64);
    uint64_t divisor_low = (uint64_t)divisor;

    /* D3: estimate the digit from the leading word, then correct it with the second. A divisor of
     * two words has no third, so the corrected digit is exact, and step D6 has nothing to mend. */
    uint128 digit = *remainder / divisor_high;
    uint128 rest = *remainder - digit * divisor_high;
    while (digit >> 64 != 0 || digit * divisor_low > (rest << 64 | next)) {
        digit--; /* at most twice */
        rest += divisor_high;
        if (rest >> 64 != 0) {
            break;
        }
    }
    /* D4. The result is below 2^128, so arithmetic modulo 2^128 gives it. */
    *remainder = (rest << 64 | next) - digit * divisor_low;
    return (uint64_t)digit;
}

/* Knuth, The Art of Computer Programming, volume 2, section 4.3.1, algorithm D. */
uint128 decimal_limbs_divide_wide(uint64_t *word, size_t count, uint128 divisor)
{
    assert(divisor != 0);
    if (divisor >> 64 == 0) {
        return decimal_limbs_divide(word, count, (uint64_t)divisor);
    }
    /* D1: shift both until the divisor's top bit is set; the quotient stays the same. */
    int shift = __builtin_clzll((uint64_t)(divisor >> 64));
    uint128 normal = divisor << shift;
    uint128 remainder = shift == 0 ? 0 : word[count - 1] >> (64 - shift);
    for (size_t i = count; i-- > 0;) {
        uint64_t next = word[i] << shift;
        if (shift != 0 && i > 0) {
            next |= word[i - 1] >> (64 - shift);
        }
        word[i] = divide_step(&remainder, next, normal);
    }
    return remainder >> shift;
}

void decimal_limbs_negate(uint64_t *word, size_t count)
{
    uint64_t carry = 1;
    for (size_t i = 0; i < count; i++) {
        word[i] = ~word[i] + carry;
        carry = carry != 0 && word[i] == 0;
    }
}

int decimal_limbs_compare(const uint64_t *left, const uint64_t *right, size_t count)
{
    for (size_t i = count; i-- > 0;) {
        if (left[i] != right[i]) {
            return left[i] < right[i] ? -1 : 1;
        }
    }
    return 0;
}

bool decimal_limbs_is_zero(const uint64_t *word, size_t count)
{
    uint64_t any = 0;
    for (size_t i = 0; i < count; i++) {
        any |= word[i];
    }
    return any == 0;
}

/* The common case: an integer of one word, at the decimal point. */
static void groups_from_word(struct decimal_groups *groups, uint64_t word)
{
    uint16_t reversed[5]; /* 2^64 has 20 digits */
    int32_t count = 0;
    int32_t skip = 0;
    for (; word != 0; word /= 10000) {
        reversed[count++] = (uint16_t)(word % 10000);
    }
    while (skip < count && reversed[skip] == 0) {
        skip++;
    }
    groups->count = count - skip;
    groups->weight = count == 0 ? 0 : count - 1;
    for (int32_t i = 0; i < groups->count; i++) {
        /* cppcheck-suppress uninitvar ; below count they are all set */
        groups->digit[i] = reversed[count - 1 - i];
    }
}

void decimal_groups_from_limbs(struct decimal_groups *groups, const uint64_t *word,
                               size_t word_count, int32_t scale)
{
    assert(word_count <= DECIMAL_LIMBS_MAX);
    if (scale == 0 && decimal_limbs_is_zero(word + 1, word_count - 1)) {
        groups_from_word(groups, word[0]);
        return;
    }
    /* Groups are aligned at the decimal point: fill the last one up. One more word takes that. */
    int32_t fill = (4 - scale % 4) % 4;
    uint64_t rest[DECIMAL_LIMBS_MAX + 1] = {0};
    size_t used = 0;
    for (size_t i = 0; i < word_count; i++) {
        rest[i] = word[i];
        if (word[i] != 0) {
            used = i + 1;
        }
    }
    (void)decimal_limbs_scale_up(rest, ++used, fill);

    uint16_t reversed[DECIMAL_GROUPS_MAX] = {0};
    int32_t count = 0;
    while (used > 0) {
        if (rest[used - 1] == 0) {
            used--;
            continue;
        }
        uint64_t part = decimal_limbs_divide(rest, used, 10000000000000000u);
        for (int i = 0; i < 4; i++) {
            reversed[count++] = (uint16_t)(part % 10000);
            part /= 10000;
        }
    }
    while (count > 0 && reversed[count - 1] == 0) {
        count--;
    }
    int32_t skip = 0;
    while (skip < count && reversed[skip] == 0) {
        skip++;
    }
    groups->count = count - skip;
    groups->weight = count == 0 ? 0 : count - 1 - (scale + fill) / 4;
    for (int32_t i = 0; i < groups->count; i++) {
        groups->digit[i] = reversed[count - 1 - i];
    }
}
