/*
 * PostgreSQL's numeric arithmetic on GMP's integers. The rules of scale are those of
 * select_div_scale and numeric_sqrt in src/backend/utils/adt/numeric.c. Pure but for memory; any
 * thread.
 */
#include "core/numbers/numeric.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/numbers/decimal.h"

enum { GROUP_DIGITS = 4, MIN_SIGNIFICANT_DIGITS = 16, MAX_DISPLAY_SCALE = 1000 };

static int32_t larger(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

void numeric_init(struct numeric *numeric)
{
    mpz_init(numeric->coefficient);
    numeric->scale = 0;
}

void numeric_deinit(struct numeric *numeric)
{
    mpz_clear(numeric->coefficient);
}

void numeric_set(struct numeric *numeric, const struct numeric *value)
{
    mpz_set(numeric->coefficient, value->coefficient);
    numeric->scale = value->scale;
}

void numeric_set_int64(struct numeric *numeric, int64_t value)
{
    uint64_t word = (uint64_t)value;
    numeric_set_words(numeric, &word, 1, 0);
}

void numeric_set_words(struct numeric *numeric, const uint64_t *word, size_t count, int32_t scale)
{
    mpz_import(numeric->coefficient, count, -1, sizeof *word, 0, 0, word);
    if (word[count - 1] >> 63 != 0) {
        mpz_t modulus;
        mpz_init(modulus);
        mpz_setbit(modulus, 64 * count);
        mpz_sub(numeric->coefficient, numeric->coefficient, modulus);
        mpz_clear(modulus);
    }
    numeric->scale = scale;
}

int numeric_sign(const struct numeric *numeric)
{
    return mpz_sgn(numeric->coefficient);
}

/* out = coefficient × 10^digits, where digits is 0 or more. */
static void shift_up(mpz_t out, const mpz_t coefficient, int32_t digits)
{
    mpz_t power;
    assert(digits >= 0);
    mpz_init(power);
    mpz_ui_pow_ui(power, 10, (unsigned long)digits);
    mpz_mul(out, coefficient, power);
    mpz_clear(power);
}

void numeric_subtract(struct numeric *result, const struct numeric *left,
                      const struct numeric *right)
{
    int32_t scale = larger(left->scale, right->scale);
    mpz_t aligned;
    mpz_init(aligned);
    shift_up(aligned, right->coefficient, scale - right->scale);
    shift_up(result->coefficient, left->coefficient, scale - left->scale);
    mpz_sub(result->coefficient, result->coefficient, aligned);
    result->scale = scale;
    mpz_clear(aligned);
}

void numeric_multiply(struct numeric *result, const struct numeric *left,
                      const struct numeric *right)
{
    mpz_mul(result->coefficient, left->coefficient, right->coefficient);
    result->scale = left->scale + right->scale;
}

/* The number of decimal digits; 1 for zero. */
static int32_t digit_count(const mpz_t value)
{
    size_t digits = mpz_sizeinbase(value, 10); /* exact, or one too big */
    mpz_t power;
    mpz_init(power);
    mpz_ui_pow_ui(power, 10, digits - 1);
    if (digits > 1 && mpz_cmpabs(value, power) < 0) {
        digits--;
    }
    mpz_clear(power);
    return (int32_t)digits;
}

/* The first digit of base 10000, and the power of 10000 that it stands for; both 0 for zero. */
static int32_t lead_of(const struct numeric *numeric, int32_t *weight)
{
    *weight = 0;
    if (numeric_sign(numeric) == 0) {
        return 0;
    }
    int32_t exponent = digit_count(numeric->coefficient) - 1 - numeric->scale;
    *weight = exponent >= 0 ? exponent / GROUP_DIGITS : -((3 - exponent) / GROUP_DIGITS);
    int32_t below =
        numeric->scale + GROUP_DIGITS * *weight; /* decimal digits right of that group */
    mpz_t first;
    mpz_t power;
    mpz_init(first);
    mpz_init(power);
    mpz_ui_pow_ui(power, 10, (unsigned long)abs(below));
    if (below >= 0) {
        mpz_tdiv_q(first, numeric->coefficient, power);
    } else {
        mpz_mul(first, numeric->coefficient, power);
    }
    int32_t digit = (int32_t)mpz_get_ui(first); /* of the magnitude */
    mpz_clear(first);
    mpz_clear(power);
    return digit;
}

static int32_t quotient_scale(const struct numeric *left, const struct numeric *right)
{
    int32_t left_weight;
    int32_t right_weight;
    int32_t left_digit = lead_of(left, &left_weight);
    int32_t right_digit = lead_of(right, &right_weight);
    /* Equal first digits count as "smaller": PostgreSQL does not look at the second ones. */
    int32_t weight = left_weight - right_weight - (left_digit <= right_digit);
    int32_t scale = MIN_SIGNIFICANT_DIGITS - weight * GROUP_DIGITS;
    scale = larger(larger(scale, 0), larger(left->scale, right->scale));
    return smaller(scale, MAX_DISPLAY_SCALE);
}

void numeric_divide(struct numeric *result, const struct numeric *left, const struct numeric *right)
{
    assert(numeric_sign(right) != 0);
    int32_t scale = quotient_scale(left, right);
    int sign = numeric_sign(left) * numeric_sign(right);
    mpz_t dividend;
    mpz_t divisor;
    mpz_t remainder;
    mpz_init(dividend);
    mpz_init(divisor);
    mpz_init(remainder);
    /* Only operands with more than MAX_DISPLAY_SCALE digits could make the shift negative. */
    shift_up(dividend, left->coefficient, scale + right->scale - left->scale);
    mpz_abs(dividend, dividend);
    mpz_abs(divisor, right->coefficient);
    mpz_tdiv_qr(result->coefficient, remainder, dividend, divisor);
    mpz_mul_2exp(remainder, remainder, 1);
    if (mpz_cmp(remainder, divisor) >= 0) { /* half away from zero */
        mpz_add_ui(result->coefficient, result->coefficient, 1);
    }
    if (sign < 0) {
        mpz_neg(result->coefficient, result->coefficient);
    }
    result->scale = scale;
    mpz_clear(dividend);
    mpz_clear(divisor);
    mpz_clear(remainder);
}

int32_t numeric_square_root_scale(const struct numeric *value)
{
    int32_t weight;
    (void)lead_of(value, &weight);
    int32_t scale = MIN_SIGNIFICANT_DIGITS - (weight * GROUP_DIGITS / 2 + 1);
    return smaller(larger(larger(scale, 0), value->scale), MAX_DISPLAY_SCALE);
}

void numeric_square_root(struct numeric *result, const struct numeric *value, int32_t scale)
{
    mpz_t square;
    mpz_t remainder;
    mpz_init(square);
    mpz_init(remainder);
    shift_up(square, value->coefficient, 2 * scale - value->scale);
    mpz_sqrtrem(result->coefficient, remainder, square);
    /* (root + 1/2)^2 = root^2 + root + 1/4 is no integer, so there is no tie. */
    if (mpz_cmp(remainder, result->coefficient) > 0) {
        mpz_add_ui(result->coefficient, result->coefficient, 1);
    }
    result->scale = scale;
    mpz_clear(square);
    mpz_clear(remainder);
}

static void trim(struct numeric *numeric)
{
    mpz_t ten;
    mpz_t rest;
    if (numeric_sign(numeric) == 0) {
        numeric->scale = 0;
        return;
    }
    mpz_init_set_ui(ten, 10);
    mpz_init(rest);
    mp_bitcnt_t zeros = mpz_remove(rest, numeric->coefficient, ten);
    if (zeros > (mp_bitcnt_t)numeric->scale) { /* zeros before the point stay */
        shift_up(rest, rest, (int32_t)zeros - numeric->scale);
        numeric->scale = 0;
    } else {
        numeric->scale -= (int32_t)zeros;
    }
    mpz_swap(numeric->coefficient, rest);
    mpz_clear(ten);
    mpz_clear(rest);
}

static bool to_decimal(const struct numeric *numeric, struct decimal *out)
{
    uint64_t word[2] = {0, 0};
    if (numeric->scale > DECIMAL_MAX_SCALE ||
        digit_count(numeric->coefficient) > DECIMAL_MAX_DIGITS) {
        return false;
    }
    mpz_export(word, NULL, -1, sizeof word[0], 0, 0, numeric->coefficient); /* the magnitude */
    int128 magnitude = (int128)((uint128)word[1] << 64 | word[0]);
    out->coefficient = numeric_sign(numeric) < 0 ? -magnitude : magnitude;
    out->scale = numeric->scale;
    return true;
}

/* Digits with the point before the last `scale` of them. */
static const char *to_text(const struct numeric *numeric, struct arena *arena)
{
    size_t scale = (size_t)numeric->scale;
    size_t size = mpz_sizeinbase(numeric->coefficient, 10) + 2;
    char *digits = arena_alloc(arena, size);
    char *text = arena_alloc(arena, size + scale + 3);
    if (digits == NULL || text == NULL) {
        return NULL;
    }
    mpz_get_str(digits, 10, numeric->coefficient);
    char *out = text;
    if (*digits == '-') {
        *out++ = *digits++;
    }
    size_t count = strlen(digits);
    size_t zeros = count <= scale ? scale + 1 - count : 0; /* one digit stands before the point */
    memset(out, '0', zeros);
    memcpy(out + zeros, digits, count);
    size_t whole = zeros + count - scale;
    if (scale > 0) {
        memmove(out + whole + 1, out + whole, scale);
        out[whole] = '.';
    }
    out[whole + scale + (scale > 0)] = '\0';
    return text;
}

enum status numeric_result(struct numeric *numeric, struct arena *arena, struct value *out,
                           const char **wide_text, struct error *error)
{
    struct decimal decimal;
    *wide_text = NULL;
    trim(numeric);
    if (to_decimal(numeric, &decimal)) {
        *out = value_decimal(decimal);
        return STATUS_OK;
    }
    *out = value_null(VALUE_DECIMAL);
    *wide_text = to_text(numeric, arena);
    return *wide_text == NULL ? error_no_memory(error) : STATUS_OK;
}
