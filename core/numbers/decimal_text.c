/*
 * Decimals from and to text: the JSON number grammar in, PostgreSQL's numeric output out.
 *
 * Runs for every number of every event, so the reader makes one pass and gathers digits in two
 * 64-bit integers. It never reads beyond `length`. Pure; any thread.
 */
#include "core/numbers/decimal_limbs.h"

#include <string.h>

#define DIGITS_PER_WORD 19 /* 10^19 < 2^64 */

/* An exponent beyond this cannot matter any more; it keeps the arithmetic on exponents in range. */
#define EXPONENT_LIMIT INT64_C(100000000000000000)

struct digit_run {
    uint64_t high; /* the first DIGITS_PER_WORD significant digits */
    uint64_t low;  /* the next ones */
    size_t count;  /* all significant digits, those beyond both words included */
};

static bool is_digit(char character)
{
    return character >= '0' && character <= '9';
}

/* Appends the digits at `text` to the run and returns where they end. */
static const char *read_digits(const char *text, const char *end, struct digit_run *run)
{
    for (; text < end && is_digit(*text); text++) {
        uint64_t digit = (uint64_t)(*text - '0');
        if (run->count == 0 && digit == 0) {
            continue;
        }
        if (run->count < DIGITS_PER_WORD) {
            run->high = run->high * 10 + digit;
        } else if (run->count < DECIMAL_MAX_DIGITS) {
            run->low = run->low * 10 + digit;
        }
        run->count++;
    }
    return text;
}

/* Reads what follows 'e' or 'E'; NULL where that is no exponent. */
static const char *read_exponent(const char *text, const char *end, int64_t *exponent)
{
    bool negative = false;
    if (text < end && (*text == '+' || *text == '-')) {
        negative = *text == '-';
        text++;
    }
    const char *digits = text;
    int64_t value = 0;
    for (; text < end && is_digit(*text); text++) {
        if (value < EXPONENT_LIMIT) {
            value = value * 10 + (*text - '0');
        }
    }
    *exponent = negative ? -value : value;
    return text == digits ? NULL : text;
}

/* The digits as an integer times 10^exponent. */
static enum decimal_status finish(const struct digit_run *run, bool negative, int64_t exponent,
                                  struct decimal *result)
{
    if (exponent < -DECIMAL_MAX_SCALE || run->count > DECIMAL_MAX_DIGITS) {
        return DECIMAL_OVERFLOW;
    }
    uint128 magnitude = run->high;
    if (run->count > DIGITS_PER_WORD) {
        magnitude = magnitude * decimal_power10[run->count - DIGITS_PER_WORD] + run->low;
    }
    if (exponent > 0 && run->count > 0) {
        if (exponent > DECIMAL_MAX_DIGITS - (int64_t)run->count) {
            return DECIMAL_OVERFLOW;
        }
        magnitude *= decimal_power10[exponent];
    }
    *result = (struct decimal){.coefficient = decimal_signed(magnitude, negative),
                               .scale = exponent < 0 ? (int32_t)-exponent : 0};
    return DECIMAL_OK;
}

enum decimal_status decimal_parse(const char *text, size_t length, struct decimal *result)
{
    const char *end = text + length;
    bool negative = length > 0 && *text == '-';
    if (negative) {
        text++;
    }

    struct digit_run run = {0};
    const char *whole = text;
    text = read_digits(text, end, &run);
    if (text == whole || (*whole == '0' && text - whole > 1)) {
        return DECIMAL_SYNTAX;
    }
    int64_t exponent = 0;
    int64_t fraction_digits = 0;
    if (text < end && *text == '.') {
        const char *fraction = ++text;
        text = read_digits(text, end, &run);
        fraction_digits = text - fraction;
        if (fraction_digits == 0) {
            return DECIMAL_SYNTAX;
        }
    }
    if (text < end && (*text == 'e' || *text == 'E')) {
        text = read_exponent(text + 1, end, &exponent);
    }
    if (text != end) { /* NULL included */
        return DECIMAL_SYNTAX;
    }
    return finish(&run, negative, exponent - fraction_digits, result);
}

char *decimal_text_digits(uint64_t value, int width, char *end)
{
    char *start = end;
    for (int written = 0; value != 0 || written < width; written++) {
        *--start = (char)('0' + value % 10);
        value /= 10;
    }
    return start;
}

size_t decimal_text_assemble(bool negative, const char *digits, size_t count, size_t scale,
                             char *buffer, size_t size)
{
    /* At least one digit stands before the point. */
    size_t zeros = count <= scale ? scale + 1 - count : 0;
    size_t length = (negative ? 1 : 0) + zeros + count + (scale > 0 ? 1 : 0);
    if (length >= size) {
        if (size > 0) {
            buffer[0] = '\0';
        }
        return 0;
    }
    char *out = buffer;
    if (negative) {
        *out++ = '-';
    }
    char *first = out;
    memset(out, '0', zeros);
    memcpy(out + zeros, digits, count);
    out += zeros + count;
    if (scale > 0) {
        char *point = first + zeros + count - scale;
        memmove(point + 1, point, scale);
        *point = '.';
        out++;
    }
    *out = '\0';
    return length;
}

/* The digits of an int128's magnitude, none for zero, ending before `end`. */
static char *magnitude_digits(uint128 magnitude, char *end)
{
    char *start = end;
    while (magnitude >> 64 != 0) {
        uint128 rest = magnitude / decimal_power10[DIGITS_PER_WORD];
        start = decimal_text_digits((uint64_t)(magnitude - rest * decimal_power10[DIGITS_PER_WORD]),
                                    DIGITS_PER_WORD, start);
        magnitude = rest;
    }
    return decimal_text_digits((uint64_t)magnitude, 0, start);
}

size_t decimal_format(const struct decimal *value, char *buffer, size_t size)
{
    char digits[DECIMAL_INT128_TEXT_SIZE];
    char *end = digits + sizeof(digits);
    char *start = magnitude_digits(decimal_magnitude(value->coefficient), end);
    return decimal_text_assemble(value->coefficient < 0, start, (size_t)(end - start),
                                 (size_t)value->scale, buffer, size);
}

size_t decimal_int128_format(int128 value, char *buffer, size_t size)
{
    char digits[DECIMAL_INT128_TEXT_SIZE];
    char *end = digits + sizeof(digits);
    char *start = magnitude_digits(decimal_magnitude(value), end);
    return decimal_text_assemble(value < 0, start, (size_t)(end - start), 0, buffer, size);
}
