/*
 * Decimals of any size, for results alone: the arithmetic of PostgreSQL's `numeric`, digit for
 * digit, on GMP's integers. Where decimal.h refuses what has more than 38 digits, here everything
 * has room; in exchange it allocates, so it is for finishing a measure, not for folding records.
 *
 * GMP ends the process where memory runs out; what is asked of it here is a few kilobytes. A
 * numeric belongs to its caller, any thread. A result may be the same object as an operand.
 */
#ifndef DOVETAIL_NUMERIC_H
#define DOVETAIL_NUMERIC_H

#include <gmp.h>

#include "core/base/arena.h"
#include "core/value.h"

struct numeric {
    mpz_t coefficient; /* the value is coefficient × 10^-scale */
    int32_t scale;     /* 0 or more: PostgreSQL's dscale */
};

void numeric_init(struct numeric *numeric); /* zero */
void numeric_deinit(struct numeric *numeric);

void numeric_set(struct numeric *numeric, const struct numeric *value);
void numeric_set_int64(struct numeric *numeric, int64_t value);
/* From a two's complement coefficient of `count` words, lowest first. */
void numeric_set_words(struct numeric *numeric, const uint64_t *word, size_t count, int32_t scale);

/* -1, 0 or 1. */
int numeric_sign(const struct numeric *numeric);

/* Exact; the larger scale. */
void numeric_subtract(struct numeric *result, const struct numeric *left,
                      const struct numeric *right);
/* Exact; the sum of the scales. */
void numeric_multiply(struct numeric *result, const struct numeric *left,
                      const struct numeric *right);
/* The divisor must not be zero. Rounds half away from zero to the scale that select_div_scale in
 * PostgreSQL's numeric.c selects. */
void numeric_divide(struct numeric *result, const struct numeric *left,
                    const struct numeric *right);
/* The square root of what is not negative, rounded to `scale`, which must be at least half of the
 * value's. */
void numeric_square_root(struct numeric *result, const struct numeric *value, int32_t scale);
/* The scale of PostgreSQL's sqrt(value): numeric_sqrt in numeric.c. */
int32_t numeric_square_root_scale(const struct numeric *value);

/* Trimmed, as measure_kind.finish wants it: a value, or a text in the arena where struct decimal
 * does not hold it. Trims `numeric` itself. */
enum status numeric_result(struct numeric *numeric, struct arena *arena, struct value *out,
                           const char **wide_text, struct error *error) MUST_CHECK;

#endif
