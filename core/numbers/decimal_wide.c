/*
 * Sums of decimals in 384 bits. The bounds are proved at the head of decimal_wide.h.
 *
 * Invariant: the coefficient of a sum, brought to scale 38, stays below 2^383 in magnitude, so
 * arithmetic modulo 2^384 on the two's complement words is exact arithmetic. Multiplication by a
 * power of ten needs no sign handling for the same reason. Pure; any thread that owns the object.
 */
#include "core/numbers/decimal_limbs.h"

#include <assert.h>
#include <string.h>

#define WORDS DECIMAL_WIDE_WORDS

/* 2^384 × 10^76 < 2^640: enough to compare at different scales. */
#define COMPARE_WORDS 10

#define DIGITS_PER_WORD 19

static bool is_negative(const struct decimal_wide *value)
{
    return value->word[WORDS - 1] >> 63 != 0;
}

/* The magnitude of the coefficient; returns whether the value is negative. */
static bool split_sign(const struct decimal_wide *value, uint64_t magnitude[WORDS])
{
    memcpy(magnitude, value->word, sizeof(value->word));
    if (is_negative(value)) {
        decimal_limbs_negate(magnitude, WORDS);
        return true;
    }
    return false;
}

static void join_sign(struct decimal_wide *value, bool negative, const uint64_t magnitude[WORDS])
{
    memcpy(value->word, magnitude, sizeof(value->word));
    if (negative) {
        decimal_limbs_negate(value->word, WORDS);
    }
}

static void set_int128(uint64_t word[WORDS], int128 value)
{
    uint64_t sign = value < 0 ? UINT64_MAX : 0;
    word[0] = (uint64_t)value;
    word[1] = (uint64_t)((uint128)value >> 64);
    for (size_t i = 2; i < WORDS; i++) {
        word[i] = sign;
    }
}

/* Brings a sum to a scale that is at least its own. */
static void rescale(struct decimal_wide *sum, int32_t scale)
{
    assert(sum->scale <= DECIMAL_MAX_SCALE && scale <= DECIMAL_MAX_SCALE);
    /* Modular: what it returns only says that a negative number's sign bits were multiplied too. */
    (void)decimal_limbs_scale_up(sum->word, WORDS, scale - sum->scale);
    sum->scale = scale;
}

void decimal_wide_init(struct decimal_wide *sum)
{
    memset(sum, 0, sizeof(*sum));
}

void decimal_wide_from_int128(struct decimal_wide *sum, int128 value)
{
    memset(sum, 0, sizeof(*sum));
    set_int128(sum->word, value);
}

void decimal_wide_add(struct decimal_wide *sum, const struct decimal *value)
{
    int128 coefficient = value->coefficient;
    if (value->scale > sum->scale) {
        rescale(sum, value->scale);
    } else if (value->scale < sum->scale) {
        int32_t digits = sum->scale - value->scale;
        if (__builtin_mul_overflow(coefficient, (int128)decimal_power10[digits], &coefficient)) {
            uint64_t scaled[WORDS];
            set_int128(scaled, value->coefficient);
            (void)decimal_limbs_scale_up(scaled, WORDS, digits);
            decimal_limbs_add(sum->word, scaled, WORDS);
            return;
        }
    }
    decimal_limbs_add_int128(sum->word, WORDS, coefficient);
}

void decimal_wide_merge(struct decimal_wide *sum, const struct decimal_wide *other)
{
    struct decimal_wide term = *other;
    if (term.scale > sum->scale) {
        rescale(sum, term.scale);
    } else if (term.scale < sum->scale) {
        rescale(&term, sum->scale);
    }
    decimal_limbs_add(sum->word, term.word, WORDS);
}

bool decimal_wide_equal(const struct decimal_wide *left, const struct decimal_wide *right)
{
    return left->scale == right->scale && memcmp(left->word, right->word, sizeof(left->word)) == 0;
}

int decimal_wide_compare(const struct decimal_wide *left, const struct decimal_wide *right)
{
    uint64_t left_magnitude[COMPARE_WORDS] = {0};
    uint64_t right_magnitude[COMPARE_WORDS] = {0};
    bool negative = split_sign(left, left_magnitude);
    if (negative != split_sign(right, right_magnitude)) {
        return negative ? -1 : 1;
    }
    if (left->scale < right->scale) {
        (void)decimal_limbs_scale_up(left_magnitude, COMPARE_WORDS, right->scale - left->scale);
    } else if (left->scale > right->scale) {
        (void)decimal_limbs_scale_up(right_magnitude, COMPARE_WORDS, left->scale - right->scale);
    }
    int order = decimal_limbs_compare(left_magnitude, right_magnitude, COMPARE_WORDS);
    return negative ? -order : order;
}

bool decimal_wide_is_zero(const struct decimal_wide *value)
{
    return decimal_limbs_is_zero(value->word, WORDS);
}

static struct decimal_lead lead_of(const uint64_t magnitude[WORDS], int32_t scale)
{
    struct decimal_groups groups;
    decimal_groups_from_limbs(&groups, magnitude, WORDS, scale);
    return (struct decimal_lead){.weight = groups.weight,
                                 .first_digit = groups.count > 0 ? groups.digit[0] : 0};
}

enum decimal_status decimal_wide_divide(const struct decimal_wide *sum, int64_t count,
                                        struct decimal_wide *quotient)
{
    if (count == 0) {
        return DECIMAL_DIVISION_BY_ZERO;
    }
    assert(sum->scale <= DECIMAL_MAX_SCALE);
    uint64_t magnitude[WORDS];
    bool negative = split_sign(sum, magnitude) != (count < 0);
    uint64_t divisor = (uint64_t)decimal_magnitude(count);
    int32_t scale = decimal_quotient_scale(lead_of(magnitude, sum->scale), sum->scale,
                                           decimal_lead_of(divisor, 0), 0);

    /* Where this widens at all, the quotient is below 10^24, so the dividend is below 2^144. */
    (void)decimal_limbs_scale_up(magnitude, WORDS, scale - sum->scale);
    uint64_t remainder = decimal_limbs_divide(magnitude, WORDS, divisor);
    if (remainder >= divisor - remainder) { /* half away from zero */
        (void)decimal_limbs_multiply(magnitude, WORDS, 1, 1);
    }
    join_sign(quotient, negative, magnitude);
    quotient->scale = scale;
    return DECIMAL_OK;
}

void decimal_wide_trim(struct decimal_wide *value)
{
    uint64_t magnitude[WORDS];
    bool negative = split_sign(value, magnitude);
    if (decimal_limbs_is_zero(magnitude, WORDS)) {
        value->scale = 0;
        return;
    }
    /* Sixteen zeros at a time, then the number of the rest in binary. */
    for (int32_t step = 16; step > 0 && value->scale > 0;) {
        uint64_t shorter[WORDS];
        memcpy(shorter, magnitude, sizeof(shorter));
        if (value->scale >= step &&
            decimal_limbs_divide(shorter, WORDS, (uint64_t)decimal_power10[step]) == 0) {
            memcpy(magnitude, shorter, sizeof(shorter));
            value->scale -= step;
        } else {
            step /= 2;
        }
    }
    join_sign(value, negative, magnitude);
}

enum decimal_status decimal_wide_to_decimal(const struct decimal_wide *value,
                                            struct decimal *result)
{
    uint64_t word[WORDS];
    bool negative = split_sign(value, word);
    uint128 magnitude = (uint128)word[1] << 64 | word[0];
    if (value->scale > DECIMAL_MAX_SCALE || !decimal_limbs_is_zero(word + 2, WORDS - 2) ||
        magnitude >= decimal_power10[DECIMAL_MAX_DIGITS]) {
        return DECIMAL_OVERFLOW;
    }
    *result =
        (struct decimal){.coefficient = decimal_signed(magnitude, negative), .scale = value->scale};
    return DECIMAL_OK;
}

size_t decimal_wide_format(const struct decimal_wide *value, char *buffer, size_t size)
{
    uint64_t magnitude[WORDS];
    bool negative = split_sign(value, magnitude);
    char digits[(WORDS + 1) * DIGITS_PER_WORD]; /* 2^384 < 10^116 */
    char *end = digits + sizeof(digits);
    char *start = end;
    size_t used = WORDS;
    while (used > 0) {
        if (magnitude[used - 1] == 0) {
            used--;
            continue;
        }
        uint64_t part =
            decimal_limbs_divide(magnitude, used, (uint64_t)decimal_power10[DIGITS_PER_WORD]);
        bool last = decimal_limbs_is_zero(magnitude, used);
        start = decimal_text_digits(part, last ? 0 : DIGITS_PER_WORD, start);
    }
    return decimal_text_assemble(negative, start, (size_t)(end - start), (size_t)value->scale,
                                 buffer, size);
}

size_t decimal_wide_encode_pg(const struct decimal_wide *value, uint8_t *buffer, size_t size)
{
    uint64_t magnitude[WORDS];
    bool negative = split_sign(value, magnitude);
    return decimal_limbs_encode_pg(negative, magnitude, WORDS, value->scale, buffer, size);
}

enum decimal_status decimal_wide_decode_pg(const uint8_t *bytes, size_t length,
                                           struct decimal_wide *sum)
{
    uint64_t magnitude[WORDS];
    uint64_t finest[WORDS];
    bool negative;
    int32_t scale;
    enum decimal_status status = decimal_limbs_decode_pg(bytes, length, DECIMAL_MAX_SCALE,
                                                         magnitude, WORDS, &negative, &scale);
    if (status != DECIMAL_OK) {
        return status;
    }
    /* The bound that keeps 2^63 merges in range: below 2^319 at the finest scale. */
    memcpy(finest, magnitude, sizeof(finest));
    if (!decimal_limbs_scale_up(finest, WORDS, DECIMAL_MAX_SCALE - scale) || finest[5] != 0 ||
        finest[4] >> 63 != 0) {
        return DECIMAL_OVERFLOW;
    }
    memset(sum, 0, sizeof(*sum));
    join_sign(sum, negative, magnitude);
    sum->scale = scale;
    return DECIMAL_OK;
}
