/*
 * Inside the decimals only: unsigned integers of several 64-bit words, lowest word first, and what
 * decimal.c, decimal_text.c, decimal_pg.c, decimal_wide.c and decimal_moment.c share. Not for other
 * modules.
 */
#ifndef DOVETAIL_DECIMAL_LIMBS_H
#define DOVETAIL_DECIMAL_LIMBS_H

#include "core/numbers/decimal.h"

/* 10^0 .. 10^38. */
extern const uint128 decimal_power10[DECIMAL_MAX_DIGITS + 1];

static inline uint128 decimal_magnitude(int128 value)
{
    return value < 0 ? -(uint128)value : (uint128)value;
}

/* The inverse of decimal_magnitude, for magnitudes below 2^127. */
static inline int128 decimal_signed(uint128 magnitude, bool negative)
{
    return negative ? -(int128)magnitude : (int128)magnitude;
}

/* word = word × factor + addend; returns what does not fit into `count` words. */
uint64_t decimal_limbs_multiply(uint64_t *word, size_t count, uint64_t factor, uint64_t addend);

/* Sums in two's complement, modulo 2^(64 × count): in the header, because they run for every record
 * and `count` is a constant where they are called. */
static inline void decimal_limbs_add(uint64_t *word, const uint64_t *other, size_t count)
{
    uint128 carry = 0;
    for (size_t i = 0; i < count; i++) {
        carry += (uint128)word[i] + other[i];
        word[i] = (uint64_t)carry;
        carry >>= 64;
    }
}

/* Adds a sign-extended 128-bit integer to 2 words or more. Mostly the upper words do not change: a
 * carry comes out of the lower ones exactly as often as a negative number's sign bits would cancel
 * it. */
static inline void decimal_limbs_add_int128(uint64_t *word, size_t count, int128 value)
{
    uint128 low = (uint128)word[1] << 64 | word[0];
    uint128 sum = low + (uint128)value;
    word[0] = (uint64_t)sum;
    word[1] = (uint64_t)(sum >> 64);
    bool carry = sum < low;
    if (carry && value >= 0) {
        for (size_t i = 2; i < count && ++word[i] == 0; i++) {
        }
    } else if (!carry && value < 0) {
        for (size_t i = 2; i < count && word[i]-- == 0; i++) {
        }
    }
}

/*
 * word = word × 10^digits; false if it did not fit, and then word holds the product modulo
 * 2^(64 × count). In that modular sense it serves for two's complement too.
 */
bool decimal_limbs_scale_up(uint64_t *word, size_t count, int32_t digits);

/* word = word / divisor; returns the remainder. */
uint64_t decimal_limbs_divide(uint64_t *word, size_t count, uint64_t divisor);
uint128 decimal_limbs_divide_wide(uint64_t *word, size_t count, uint128 divisor);

/* word = 2^(64 × count) - word. */
void decimal_limbs_negate(uint64_t *word, size_t count);

int decimal_limbs_compare(const uint64_t *left, const uint64_t *right, size_t count);
bool decimal_limbs_is_zero(const uint64_t *word, size_t count);

/* The most words that the functions below take. */
#define DECIMAL_LIMBS_MAX 10

/* A number as PostgreSQL's numeric has it: digits of base 10000, without outer zero digits. */
#define DECIMAL_GROUPS_MAX 52 /* 2^640 × 10^3 < 10^196: thirteen times 16 digits */
struct decimal_groups {
    uint16_t digit[DECIMAL_GROUPS_MAX]; /* highest first */
    int32_t count;                      /* 0 for zero */
    int32_t weight;                     /* digit[0] stands for digit[0] × 10000^weight */
};
void decimal_groups_from_limbs(struct decimal_groups *groups, const uint64_t *word, size_t count,
                               int32_t scale);

/* The part of a number that select_div_scale looks at; both 0 for zero. */
struct decimal_lead {
    int32_t weight;
    int32_t first_digit;
};

/* The scale of a quotient, as select_div_scale in PostgreSQL's numeric.c has it. */
int32_t decimal_quotient_scale(struct decimal_lead dividend, int32_t dividend_scale,
                               struct decimal_lead divisor, int32_t divisor_scale);

/* Weight and first digit of coefficient × 10^-scale. */
struct decimal_lead decimal_lead_of(uint128 coefficient, int32_t scale);

/* The text of digits[0..count) with the point before the last `scale` of them. */
size_t decimal_text_assemble(bool negative, const char *digits, size_t count, size_t scale,
                             char *buffer, size_t size);

/* Digits of a word, at least `width` of them, ending before `end`; returns where they start. */
char *decimal_text_digits(uint64_t value, int width, char *end);

/* DECIMAL_OVERFLOW where `count` words or a scale of `max_scale` do not hold the number. */
size_t decimal_limbs_encode_pg(bool negative, const uint64_t *word, size_t count, int32_t scale,
                               uint8_t *buffer, size_t size);
enum decimal_status decimal_limbs_decode_pg(const uint8_t *bytes, size_t length, int32_t max_scale,
                                            uint64_t *word, size_t count, bool *negative,
                                            int32_t *scale) MUST_CHECK;

#endif
