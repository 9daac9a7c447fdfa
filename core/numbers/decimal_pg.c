/*
 * PostgreSQL's binary format of numeric: numeric_send and numeric_recv in
 * src/backend/utils/adt/numeric.c.
 *
 *     int16 ndigits | int16 weight | uint16 sign | uint16 dscale | int16 digit × ndigits
 *
 * in network order; digit[i] stands for digit[i] × 10000^(weight - i). Pure; any thread.
 *
 * Bytes that come in may be anything: every length, digit and exponent is checked before it is
 * used, and the work is bounded by the size of the result.
 */
#include "core/numbers/decimal_limbs.h"

#include <string.h>

enum {
    HEADER_SIZE = 8,
    SIGN_POSITIVE = 0x0000,
    SIGN_NEGATIVE = 0x4000, /* others are NaN, Infinity and -Infinity */
    GROUP_BASE = 10000,
};

static uint8_t *put_uint16(uint8_t *out, uint32_t value)
{
    out[0] = (uint8_t)(value >> 8);
    out[1] = (uint8_t)value;
    return out + 2;
}

static uint32_t get_uint16(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 8 | bytes[1];
}

size_t decimal_limbs_encode_pg(bool negative, const uint64_t *word, size_t count, int32_t scale,
                               uint8_t *buffer, size_t size)
{
    struct decimal_groups groups;
    decimal_groups_from_limbs(&groups, word, count, scale);
    size_t length = HEADER_SIZE + 2 * (size_t)groups.count;
    if (length > size) {
        return 0;
    }
    uint8_t *out = put_uint16(buffer, (uint32_t)groups.count);
    out = put_uint16(out, (uint32_t)groups.weight);
    out = put_uint16(out, negative ? SIGN_NEGATIVE : SIGN_POSITIVE);
    out = put_uint16(out, (uint32_t)scale);
    for (int32_t i = 0; i < groups.count; i++) {
        out = put_uint16(out, groups.digit[i]);
    }
    return length;
}

size_t decimal_encode_pg(const struct decimal *value, uint8_t *buffer, size_t size)
{
    uint128 magnitude = decimal_magnitude(value->coefficient);
    const uint64_t word[2] = {(uint64_t)magnitude, (uint64_t)(magnitude >> 64)};
    return decimal_limbs_encode_pg(value->coefficient < 0, word, 2, value->scale, buffer, size);
}

/*
 * The digits [first, last) times 10^exponent, which is the unit of the last one. Some of the last
 * digit's four may lie beyond the scale (exponent -1 to -3) and must then be zero.
 */
static enum decimal_status gather(const uint8_t *digits, size_t first, size_t last,
                                  int32_t exponent, uint64_t *word, size_t word_count)
{
    memset(word, 0, word_count * sizeof(word[0]));
    bool fits = true;
    for (size_t i = first; i + 1 < last; i++) {
        fits &=
            decimal_limbs_multiply(word, word_count, GROUP_BASE, get_uint16(digits + 2 * i)) == 0;
    }
    uint32_t group = get_uint16(digits + 2 * (last - 1));
    uint32_t cut = exponent < 0 ? (uint32_t)decimal_power10[-exponent] : 1;
    if (group % cut != 0) {
        return DECIMAL_SYNTAX;
    }
    fits &= decimal_limbs_multiply(word, word_count, GROUP_BASE / cut, group / cut) == 0;
    if (exponent > 0) {
        fits &= decimal_limbs_scale_up(word, word_count, exponent);
    }
    return fits ? DECIMAL_OK : DECIMAL_OVERFLOW;
}

/* A digit of this weight is beyond `count` words: 10000^limit > 2^(64 × count). 1233 / 4096 is just
 * below log10(2). */
static int32_t weight_limit(size_t count)
{
    return (int32_t)(64 * count * 1233 / 4096 / 4) + 1;
}

enum decimal_status decimal_limbs_decode_pg(const uint8_t *bytes, size_t length, int32_t max_scale,
                                            uint64_t *word, size_t word_count, bool *negative,
                                            int32_t *scale)
{
    if (length < HEADER_SIZE) {
        return DECIMAL_SYNTAX;
    }
    size_t count = get_uint16(bytes);
    int32_t weight = (int16_t)get_uint16(bytes + 2);
    uint32_t sign = get_uint16(bytes + 4);
    uint32_t dscale = get_uint16(bytes + 6);
    const uint8_t *digits = bytes + HEADER_SIZE;
    if (length != HEADER_SIZE + 2 * count || (sign != SIGN_POSITIVE && sign != SIGN_NEGATIVE)) {
        return DECIMAL_SYNTAX;
    }
    for (size_t i = 0; i < count; i++) {
        if (get_uint16(digits + 2 * i) >= GROUP_BASE) {
            return DECIMAL_SYNTAX;
        }
    }
    if (dscale > (uint32_t)max_scale) {
        return DECIMAL_OVERFLOW;
    }

    size_t first = 0;
    size_t last = count;
    while (first < last && get_uint16(digits + 2 * first) == 0) {
        first++;
    }
    while (last > first && get_uint16(digits + 2 * (last - 1)) == 0) {
        last--;
    }
    *negative = sign == SIGN_NEGATIVE && first < last;
    *scale = (int32_t)dscale;
    if (first == last) {
        memset(word, 0, word_count * sizeof(word[0]));
        return DECIMAL_OK;
    }
    if (weight - (int32_t)first >= weight_limit(word_count)) {
        return DECIMAL_OVERFLOW;
    }
    /* The unit of the last digit, as a power of ten of the coefficient's unit. It is a non-zero
     * digit, so at -4 and below it lies beyond the scale; that bounds the number of digits too. */
    int32_t exponent = 4 * (weight - (int32_t)(last - 1)) + (int32_t)dscale;
    if (exponent < -3) {
        return DECIMAL_SYNTAX;
    }
    return gather(digits, first, last, exponent, word, word_count);
}

enum decimal_status decimal_decode_pg(const uint8_t *bytes, size_t length, struct decimal *result)
{
    uint64_t word[DECIMAL_WIDE_WORDS];
    bool negative;
    int32_t scale;
    enum decimal_status status = decimal_limbs_decode_pg(bytes, length, DECIMAL_MAX_SCALE, word,
                                                         DECIMAL_WIDE_WORDS, &negative, &scale);
    if (status != DECIMAL_OK) {
        return status;
    }
    uint128 magnitude = (uint128)word[1] << 64 | word[0];
    if (!decimal_limbs_is_zero(word + 2, DECIMAL_WIDE_WORDS - 2) ||
        magnitude >= decimal_power10[DECIMAL_MAX_DIGITS]) {
        return DECIMAL_OVERFLOW;
    }
    *result = (struct decimal){.coefficient = decimal_signed(magnitude, negative), .scale = scale};
    return DECIMAL_OK;
}
