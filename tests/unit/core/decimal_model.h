/*
 * A second opinion on decimals for the tests: integers as arrays of decimal digits, with the
 * methods of primary school. Slow, simple and written without a look at the code under test. Also
 * the random numbers that the tests use.
 */
#ifndef DOVETAIL_TESTS_DECIMAL_MODEL_H
#define DOVETAIL_TESTS_DECIMAL_MODEL_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/numbers/decimal.h"

/* --- random numbers: splitmix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number
 * Generators", 2014) --- */

static uint64_t model_random_state;

/* Takes the seed from DOVETAIL_TEST_SEED, or from the clock, and prints it. */
static inline void model_random_start(const char *program)
{
    const char *given = getenv("DOVETAIL_TEST_SEED");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    model_random_state = given != NULL ? strtoull(given, NULL, 0)
                                       : (uint64_t)now.tv_sec * 1000000007u + (uint64_t)now.tv_nsec;
    printf("%s: DOVETAIL_TEST_SEED=%llu\n", program, (unsigned long long)model_random_state);
    fflush(stdout);
}

static inline uint64_t model_random(void)
{
    uint64_t z = model_random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* 0 .. limit - 1. */
static inline int model_below(int limit)
{
    return (int)(model_random() % (uint64_t)limit);
}

/* --- magnitudes: digits, lowest first --- */

#define MODEL_DIGITS 600

struct model {
    bool negative;
    int count; /* without leading zeros; 0 for zero */
    int scale;
    uint8_t digit[MODEL_DIGITS];
};

static inline void model_strip(struct model *a)
{
    while (a->count > 0 && a->digit[a->count - 1] == 0) {
        a->count--;
    }
    if (a->count == 0) {
        a->negative = false;
    }
}

/* Reads what decimal_format writes: an optional sign, digits, an optional point. */
static inline struct model model_from_text(const char *text)
{
    struct model a = {0};
    if (*text == '-') {
        a.negative = true;
        text++;
    }
    const char *point = strchr(text, '.');
    a.scale = point != NULL ? (int)strlen(point + 1) : 0;
    for (int i = (int)strlen(text); i-- > 0;) {
        if (text[i] != '.') {
            a.digit[a.count++] = (uint8_t)(text[i] - '0');
        }
    }
    model_strip(&a);
    return a;
}

static inline const char *model_text(const struct model *a, char *buffer)
{
    char *out = buffer;
    if (a->negative) {
        *out++ = '-';
    }
    int digits = a->count > a->scale ? a->count : a->scale + 1;
    for (int i = digits; i-- > 0;) {
        *out++ = (char)('0' + (i < a->count ? a->digit[i] : 0));
        if (i == a->scale && i > 0) {
            *out++ = '.';
        }
    }
    *out = '\0';
    return buffer;
}

/* Whether struct decimal can hold it. */
static inline bool model_fits(const struct model *a)
{
    return a->count <= DECIMAL_MAX_DIGITS && a->scale <= DECIMAL_MAX_SCALE;
}

/* The same value with `digits` more zeros. */
static inline struct model model_shift(const struct model *a, int digits)
{
    struct model r = *a;
    assert(a->count + digits <= MODEL_DIGITS);
    memmove(r.digit + digits, a->digit, (size_t)a->count);
    memset(r.digit, 0, (size_t)digits);
    r.count = a->count + digits;
    r.scale = a->scale + digits;
    model_strip(&r);
    return r;
}

static inline int model_compare_magnitude(const struct model *a, const struct model *b)
{
    if (a->count != b->count) {
        return a->count < b->count ? -1 : 1;
    }
    for (int i = a->count; i-- > 0;) {
        if (a->digit[i] != b->digit[i]) {
            return a->digit[i] < b->digit[i] ? -1 : 1;
        }
    }
    return 0;
}

static inline void model_align(struct model *a, struct model *b)
{
    if (a->scale < b->scale) {
        *a = model_shift(a, b->scale - a->scale);
    } else if (b->scale < a->scale) {
        *b = model_shift(b, a->scale - b->scale);
    }
}

static inline struct model model_add(struct model a, struct model b)
{
    model_align(&a, &b);
    bool subtract = a.negative != b.negative;
    if (subtract && model_compare_magnitude(&a, &b) < 0) {
        struct model swap = a;
        a = b;
        b = swap;
    }
    int carry = 0;
    int count = (a.count > b.count ? a.count : b.count) + 1;
    for (int i = 0; i < count; i++) {
        int left = i < a.count ? a.digit[i] : 0;
        int right = i < b.count ? b.digit[i] : 0;
        int sum = left + (subtract ? -right : right) + carry;
        carry = sum < 0 ? -1 : sum / 10;
        a.digit[i] = (uint8_t)((sum + 10) % 10);
    }
    a.count = count;
    model_strip(&a);
    return a;
}

static inline struct model model_negate(struct model a)
{
    a.negative = !a.negative && a.count > 0;
    return a;
}

static inline struct model model_multiply(const struct model *a, const struct model *b)
{
    struct model r = {.negative = a->negative != b->negative, .scale = a->scale + b->scale};
    int column[MODEL_DIGITS] = {0};
    r.count = a->count + b->count;
    assert(r.count <= MODEL_DIGITS);
    for (int i = 0; i < a->count; i++) {
        for (int j = 0; j < b->count; j++) {
            column[i + j] += a->digit[i] * b->digit[j];
        }
    }
    int carry = 0;
    for (int i = 0; i < r.count; i++) {
        carry += column[i];
        r.digit[i] = (uint8_t)(carry % 10);
        carry /= 10;
    }
    model_strip(&r);
    return r;
}

/* Truncated quotient and remainder of the magnitudes as integers; the signs are set to positive. */
static inline struct model model_long_division(const struct model *a, const struct model *b,
                                               struct model *remainder)
{
    struct model quotient = {.count = a->count};
    struct model rest = {0};
    struct model divisor = *b;
    divisor.negative = true;
    divisor.scale = 0;
    for (int i = a->count; i-- > 0;) {
        rest = model_shift(&rest, 1);
        rest.scale = 0;
        if (a->digit[i] != 0) {
            struct model next = {.count = 1, .digit = {a->digit[i]}};
            rest = model_add(rest, next);
        }
        while (model_compare_magnitude(&rest, &divisor) >= 0) {
            rest = model_add(rest, divisor);
            quotient.digit[i]++;
        }
    }
    model_strip(&quotient);
    *remainder = rest;
    return quotient;
}

/* Weight and value of the first non-zero base-10000 digit. */
static inline void model_lead(const struct model *a, int *weight, int *first)
{
    *weight = 0;
    *first = 0;
    if (a->count == 0) {
        return;
    }
    /* Fill up to whole groups, cut the digits into fours from the point, look at the top one. */
    struct model filled = model_shift(a, (4 - a->scale % 4) % 4);
    int groups = (filled.count + 3) / 4;
    *weight = groups - 1 - filled.scale / 4;
    for (int i = filled.count; i-- > (groups - 1) * 4;) {
        *first = *first * 10 + filled.digit[i];
    }
}

/* numeric_div: the quotient rounded half away from zero at the scale of select_div_scale. */
static inline struct model model_divide(const struct model *a, const struct model *b)
{
    int weight_a, weight_b, first_a, first_b;
    model_lead(a, &weight_a, &first_a);
    model_lead(b, &weight_b, &first_b);
    int weight = weight_a - weight_b - (first_a <= first_b ? 1 : 0);
    int scale = 16 - 4 * weight;
    scale = scale < a->scale ? a->scale : scale;
    scale = scale < b->scale ? b->scale : scale;

    struct model dividend = model_shift(a, scale + b->scale - a->scale);
    struct model rest;
    struct model quotient = model_long_division(&dividend, b, &rest);
    quotient.scale = 0;
    struct model twice = model_add(rest, rest);
    if (model_compare_magnitude(&twice, b) >= 0) {
        struct model one = {.count = 1, .digit = {1}};
        quotient = model_add(quotient, one);
    }
    quotient.scale = scale;
    quotient.negative = a->negative != b->negative;
    model_strip(&quotient);
    return quotient;
}

static inline struct model model_modulo(struct model a, struct model b)
{
    model_align(&a, &b);
    struct model rest;
    (void)model_long_division(&a, &b, &rest);
    rest.scale = a.scale;
    rest.negative = a.negative;
    model_strip(&rest);
    return rest;
}

/* --- random decimals, with a liking for edges --- */

static inline struct decimal model_random_decimal(int max_digits, int max_scale)
{
    uint128 magnitude = 0;
    int digits = model_below(max_digits + 1);
    int kind = model_below(8);
    for (int i = 0; i < digits; i++) {
        unsigned digit = (unsigned)model_below(10);
        if (kind == 0) {
            digit = 9; /* 99…9 */
        } else if (kind == 1) {
            digit = i == 0; /* 10…0 */
        } else if (kind == 2 && i > digits / 2) {
            digit = 0; /* trailing zeros */
        }
        magnitude = magnitude * 10 + digit;
    }
    int128 coefficient = (int128)magnitude;
    return (struct decimal){.coefficient = model_below(2) ? -coefficient : coefficient,
                            .scale = model_below(max_scale + 1)};
}

static inline struct decimal model_random_mixed(void)
{
    switch (model_below(4)) {
    case 0:
        return model_random_decimal(6, 4);
    case 1:
        return model_random_decimal(18, 10);
    default:
        return model_random_decimal(DECIMAL_MAX_DIGITS, DECIMAL_MAX_SCALE);
    }
}

static inline struct model model_of(const struct decimal *value)
{
    char text[DECIMAL_TEXT_SIZE];
    decimal_format(value, text, sizeof(text));
    return model_from_text(text);
}

#endif
