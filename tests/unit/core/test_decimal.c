/*
 * Decimals: tables of cases, and random operands against the digit-array model. The tables' results
 * are PostgreSQL's; tests/integration/test_decimal_oracle.c asks a real one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "decimal_model.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define RANDOM_ROUNDS 20000

#define NINES_38 "99999999999999999999999999999999999999"
#define ZEROS_38 "00000000000000000000000000000000000000"

static struct decimal number(const char *text)
{
    struct decimal value;
    if (decimal_parse(text, strlen(text), &value) != DECIMAL_OK) {
        fail_msg("cannot parse %s", text);
    }
    return value;
}

static const char *text_of(const struct decimal *value)
{
    static char text[4][DECIMAL_TEXT_SIZE];
    static int next;
    char *out = text[next++ % 4];
    size_t length = decimal_format(value, out, DECIMAL_TEXT_SIZE);
    assert_int_equal(length, strlen(out));
    return out;
}

static void parse_follows_postgres(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *printed;
        int scale;
    } cases[] = {
        {"0", "0", 0},
        {"-0", "0", 0},
        {"-0.0", "0.0", 1},
        {"1.50", "1.50", 2},
        {"1.5e3", "1500", 0},
        {"1.50e1", "15.0", 1},
        {"1e-3", "0.001", 3},
        {"1E+3", "1000", 0},
        {"-12.5", "-12.5", 1},
        {"0e999999", "0", 0},
        {"0.00e999999999999999999999999999", "0", 0},
        {"0e-5", "0.00000", 5},
        {"1e0", "1", 0},
        {"1e-0", "1", 0},
        {"1e00000000000000000000000000000000002", "100", 0},
        {"1e37",
         "1"
         "0000000000000000000000000000000000000",
         0},
        {"0.00000000000000000000000000000000000000000000000001e20",
         "0.000000000000000000000000000001", 30},
        {"1e-38", "0.00000000000000000000000000000000000001", 38},
        {"0." NINES_38, "0." NINES_38, 38},
        {NINES_38, NINES_38, 0},
        {"-" NINES_38, "-" NINES_38, 0},
        {"-0." ZEROS_38, "0." ZEROS_38, 38},
        {"9223372036854775807", "9223372036854775807", 0},
        {"18446744073709551616.5", "18446744073709551616.5", 1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct decimal value = number(cases[i].text);
        assert_string_equal(text_of(&value), cases[i].printed);
        assert_int_equal(value.scale, cases[i].scale);
    }
}

static void parse_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum decimal_status status;
    } cases[] = {
        {"", DECIMAL_SYNTAX},
        {"-", DECIMAL_SYNTAX},
        {"+1", DECIMAL_SYNTAX},
        {"01", DECIMAL_SYNTAX},
        {"-01", DECIMAL_SYNTAX},
        {"00", DECIMAL_SYNTAX},
        {".5", DECIMAL_SYNTAX},
        {"5.", DECIMAL_SYNTAX},
        {"5.e3", DECIMAL_SYNTAX},
        {"1e", DECIMAL_SYNTAX},
        {"1e+", DECIMAL_SYNTAX},
        {"1e-", DECIMAL_SYNTAX},
        {"1e1.5", DECIMAL_SYNTAX},
        {"1 ", DECIMAL_SYNTAX},
        {" 1", DECIMAL_SYNTAX},
        {"1_000", DECIMAL_SYNTAX},
        {"0x10", DECIMAL_SYNTAX},
        {"NaN", DECIMAL_SYNTAX},
        {"Infinity", DECIMAL_SYNTAX},
        {"1..2", DECIMAL_SYNTAX},
        {"--1", DECIMAL_SYNTAX},
        {"1-1", DECIMAL_SYNTAX},
        {NINES_38 "9x", DECIMAL_SYNTAX},
        {"1e999999999999x", DECIMAL_SYNTAX},
        {NINES_38 "9", DECIMAL_OVERFLOW},
        {"1e38", DECIMAL_OVERFLOW},
        {"10e37", DECIMAL_OVERFLOW},
        {"1e-39", DECIMAL_OVERFLOW},
        {"1e999999999999", DECIMAL_OVERFLOW},
        {"-1e99999999999999999999999999999999999999", DECIMAL_OVERFLOW},
        {"1e-99999999999999999999999999999999999999", DECIMAL_OVERFLOW},
        {"1e9223372036854775808", DECIMAL_OVERFLOW},
        {"1e18446744073709551616", DECIMAL_OVERFLOW},
        {"0e-39", DECIMAL_OVERFLOW},
        {"1.0" ZEROS_38, DECIMAL_OVERFLOW},
        {"1." ZEROS_38, DECIMAL_OVERFLOW}, /* 39 digits */
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct decimal value = {.coefficient = 42, .scale = 7};
        assert_int_equal(decimal_parse(cases[i].text, strlen(cases[i].text), &value),
                         cases[i].status);
        assert_true(value.coefficient == 42 && value.scale == 7);
    }
    /* The length counts, not a NUL. */
    struct decimal value;
    assert_int_equal(decimal_parse("1\0002", 3, &value), DECIMAL_SYNTAX);
    assert_int_equal(decimal_parse("12345", 2, &value), DECIMAL_OK);
    assert_string_equal(text_of(&value), "12");
}

static void format_respects_size(void **state)
{
    (void)state;
    char small[6] = "xxxxx";
    struct decimal value = number("-1.25");
    assert_int_equal(decimal_format(&value, small, 5), 0);
    assert_string_equal(small, "");
    assert_int_equal(decimal_format(&value, small, 6), 5);
    assert_string_equal(small, "-1.25");
    assert_int_equal(decimal_format(&value, small, 0), 0);

    char text[DECIMAL_INT128_TEXT_SIZE];
    int128 most = (int128)(~(uint128)0 >> 1);
    assert_int_equal(decimal_int128_format(most, text, sizeof(text)), 39);
    assert_string_equal(text, "170141183460469231731687303715884105727");
    assert_int_equal(decimal_int128_format(-most - 1, text, sizeof(text)), 40);
    assert_string_equal(text, "-170141183460469231731687303715884105728");
    decimal_int128_format(0, text, sizeof(text));
    assert_string_equal(text, "0");
    decimal_int128_format((int128)1 << 64, text, sizeof(text));
    assert_string_equal(text, "18446744073709551616");
}

static void trim_and_integers(void **state)
{
    (void)state;
    static const char *const trims[][2] = {
        {"1.500", "1.5"},
        {"0.000", "0"},
        {"100", "100"},
        {"100.00", "100"},
        {"-7.10", "-7.1"},
        {"-3.00", "-3"},
        {"0.00000000010", "0.0000000001"},
        {"1.0000000000000000000000000000000000000", "1"},
        {"2.0000000000000000000000000000000000002", "2.0000000000000000000000000000000000002"},
    };
    for (size_t i = 0; i < COUNT(trims); i++) {
        struct decimal value = number(trims[i][0]);
        struct decimal trimmed = decimal_trim(&value);
        assert_string_equal(text_of(&trimmed), trims[i][1]);
        assert_true(decimal_equal(&value, &trimmed));
    }
    static const struct {
        const char *text;
        bool whole;
        int64_t value;
    } integers[] = {
        {"5", true, 5},
        {"-5.000", true, -5},
        {"5.5", false, 0},
        {"9223372036854775807", true, INT64_MAX},
        {"9223372036854775808", false, 0},
        {"-9223372036854775808.0", true, INT64_MIN},
        {"-9223372036854775809", false, 0},
        {NINES_38, false, 0},
        {"0." ZEROS_38, true, 0},
    };
    for (size_t i = 0; i < COUNT(integers); i++) {
        struct decimal value = number(integers[i].text);
        int64_t result = 99;
        assert_int_equal(decimal_to_int64(&value, &result), integers[i].whole);
        assert_true(result == (integers[i].whole ? integers[i].value : 99));
    }
    struct decimal least = decimal_from_int64(INT64_MIN);
    assert_string_equal(text_of(&least), "-9223372036854775808");
}

typedef enum decimal_status (*operation)(const struct decimal *, const struct decimal *,
                                         struct decimal *);

struct operation_case {
    operation operation;
    const char *left;
    const char *right;
    const char *result; /* NULL: the status */
    enum decimal_status status;
};

static void operations_follow_postgres(void **state)
{
    (void)state;
    static const struct operation_case cases[] = {
        {decimal_add, "0.1", "0.2", "0.3", DECIMAL_OK},
        {decimal_add, "1.50", "0.5", "2.00", DECIMAL_OK},
        {decimal_add, NINES_38, "1", NULL, DECIMAL_OVERFLOW},
        {decimal_add, NINES_38, NINES_38, NULL, DECIMAL_OVERFLOW},
        {decimal_add, "-" NINES_38, "-" NINES_38, NULL, DECIMAL_OVERFLOW},
        {decimal_add, NINES_38, "-" NINES_38, "0", DECIMAL_OK},
        {decimal_add, NINES_38, "0.0", NULL, DECIMAL_OVERFLOW},
        /* One operand leaves 38 digits on the way to the common scale, the sum does not. */
        {decimal_subtract, "10000000000000000000000000000000000000", "0.1",
         "9999999999999999999999999999999999999.9", DECIMAL_OK},
        {decimal_subtract, "17000000000000000000000000000000000000",
         "9000000000000000000000000000000000000.0", "8000000000000000000000000000000000000.0",
         DECIMAL_OK},
        {decimal_subtract, "-10000000000000000000000000000000000000", "-0.1",
         "-9999999999999999999999999999999999999.9", DECIMAL_OK},
        {decimal_subtract, "1", "1.000", "0.000", DECIMAL_OK},
        {decimal_multiply, "1.50", "2.0", "3.000", DECIMAL_OK},
        {decimal_multiply, "-0.0", "5.00", "0.000", DECIMAL_OK},
        {decimal_multiply, "1e-20", "1e-19", NULL, DECIMAL_OVERFLOW},
        {decimal_multiply, "1e-20", "0e-19", NULL, DECIMAL_OVERFLOW},
        {decimal_multiply, "1e-19", "1e-19", "0.00000000000000000000000000000000000001",
         DECIMAL_OK},
        {decimal_multiply, "9999999999999999999", "9999999999999999999",
         "99999999999999999980000000000000000001", DECIMAL_OK},
        {decimal_multiply, "10000000000000000000", "10000000000000000000", NULL, DECIMAL_OVERFLOW},
        {decimal_multiply, NINES_38, NINES_38, NULL, DECIMAL_OVERFLOW},
        {decimal_divide, "1", "3", "0.33333333333333333333", DECIMAL_OK},
        {decimal_divide, "2", "3", "0.66666666666666666667", DECIMAL_OK},
        {decimal_divide, "-2", "3", "-0.66666666666666666667", DECIMAL_OK},
        {decimal_divide, "10", "3", "3.3333333333333333", DECIMAL_OK},
        {decimal_divide, "0", "1", "0.00000000000000000000", DECIMAL_OK},
        {decimal_divide, "1", "1", "1.00000000000000000000", DECIMAL_OK},
        {decimal_divide, "10000", "3", "3333.3333333333333333", DECIMAL_OK},
        {decimal_divide, "30000", "1", "30000.000000000000", DECIMAL_OK},
        {decimal_divide, "1e37", "1", "10000000000000000000000000000000000000", DECIMAL_OK},
        {decimal_divide, "1e37", "0.01", NULL, DECIMAL_OVERFLOW},
        {decimal_divide, NINES_38, "0.1", NULL, DECIMAL_OVERFLOW},
        {decimal_divide, "1", "3e30", NULL, DECIMAL_OVERFLOW},
        {decimal_divide, "1", "0", NULL, DECIMAL_DIVISION_BY_ZERO},
        {decimal_divide, "0", "0.00", NULL, DECIMAL_DIVISION_BY_ZERO},
        {decimal_modulo, "7", "3", "1", DECIMAL_OK},
        {decimal_modulo, "-7", "3", "-1", DECIMAL_OK},
        {decimal_modulo, "7", "-3", "1", DECIMAL_OK},
        {decimal_modulo, "7.5", "2", "1.5", DECIMAL_OK},
        {decimal_modulo, "6", "0.25", "0.00", DECIMAL_OK},
        {decimal_modulo, NINES_38, "0." NINES_38, NULL, DECIMAL_OK},
        {decimal_modulo, "1e-38", NINES_38, "0.00000000000000000000000000000000000001", DECIMAL_OK},
        {decimal_modulo, "1", "0.0", NULL, DECIMAL_DIVISION_BY_ZERO},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct decimal left = number(cases[i].left);
        struct decimal right = number(cases[i].right);
        struct decimal result = {.coefficient = 42, .scale = 7};
        assert_int_equal(cases[i].operation(&left, &right, &result), cases[i].status);
        if (cases[i].status != DECIMAL_OK) {
            assert_true(result.coefficient == 42 && result.scale == 7);
        } else if (cases[i].result != NULL) {
            assert_string_equal(text_of(&result), cases[i].result);
        }
    }
}

static void compares_by_value(void **state)
{
    (void)state;
    static const struct {
        const char *left;
        const char *right;
        int order;
    } cases[] = {
        {"1.0", "1.00", 0},
        {"0", "0.000", 0},
        {"1", "1.01", -1},
        {"-1", "-1.01", 1},
        {"-1", "0.0", -1},
        {NINES_38, "0." NINES_38, 1},
        {"-" NINES_38, "-0." NINES_38, -1},
        {NINES_38, "-0." NINES_38, 1},
        {"0." NINES_38, "1", -1},
        {"1e37", "1e-38", 1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct decimal left = number(cases[i].left);
        struct decimal right = number(cases[i].right);
        assert_int_equal(decimal_compare(&left, &right), cases[i].order);
        assert_int_equal(decimal_compare(&right, &left), -cases[i].order);
        assert_int_equal(decimal_equal(&left, &right), cases[i].order == 0);
    }
}

/* The result must print as the model's, or be refused exactly where the model's does not fit. */
static void check(const char *name, enum decimal_status status, const struct decimal *result,
                  const struct model *expected, const struct decimal *left,
                  const struct decimal *right)
{
    char text[MODEL_DIGITS + 3];
    model_text(expected, text);
    bool fits = model_fits(expected);
    if (status != (fits ? DECIMAL_OK : DECIMAL_OVERFLOW) ||
        (fits && strcmp(text, text_of(result)) != 0)) {
        fail_msg("%s %s %s: status %d, got %s, expected %s", text_of(left), name, text_of(right),
                 (int)status, text_of(result), text);
    }
}

static void random_operations_match_model(void **state)
{
    (void)state;
    for (int round = 0; round < RANDOM_ROUNDS; round++) {
        struct decimal left = model_random_mixed();
        struct decimal right = model_random_mixed();
        struct model a = model_of(&left);
        struct model b = model_of(&right);
        struct decimal result = {0};
        struct model expected = model_add(a, b);
        enum decimal_status status = decimal_add(&left, &right, &result);
        check("+", status, &result, &expected, &left, &right);

        expected = model_add(a, model_negate(b));
        status = decimal_subtract(&left, &right, &result);
        check("-", status, &result, &expected, &left, &right);
        assert_int_equal(decimal_compare(&left, &right),
                         expected.count == 0 ? 0 : (expected.negative ? -1 : 1));

        expected = model_multiply(&a, &b);
        status = decimal_multiply(&left, &right, &result);
        check("*", status, &result, &expected, &left, &right);

        if (decimal_is_zero(&right)) {
            assert_int_equal(decimal_divide(&left, &right, &result), DECIMAL_DIVISION_BY_ZERO);
            assert_int_equal(decimal_modulo(&left, &right, &result), DECIMAL_DIVISION_BY_ZERO);
            continue;
        }
        expected = model_divide(&a, &b);
        status = decimal_divide(&left, &right, &result);
        check("/", status, &result, &expected, &left, &right);

        expected = model_modulo(a, b);
        status = decimal_modulo(&left, &right, &result);
        check("%", status, &result, &expected, &left, &right);
    }
}

/* Long dividends and divisors of more than 64 bits, which take the two-word division. */
static void random_long_divisions_match_model(void **state)
{
    (void)state;
    for (int round = 0; round < RANDOM_ROUNDS; round++) {
        struct decimal left = model_random_decimal(DECIMAL_MAX_DIGITS, 4);
        struct decimal right = model_random_decimal(DECIMAL_MAX_DIGITS, 38);
        if (model_below(2) == 0) {
            /* All ones and zeros in binary provoke the rare corrections of the estimate. */
            uint128 mask = ~(uint128)0 << model_below(120);
            right.coefficient = (int128)(mask % ((uint128)1 << 126));
            right.scale = 38;
        }
        if (right.coefficient == 0) {
            continue;
        }
        struct model a = model_of(&left);
        struct model b = model_of(&right);
        struct decimal result = {0};
        struct model expected = model_divide(&a, &b);
        enum decimal_status status = decimal_divide(&left, &right, &result);
        check("/", status, &result, &expected, &left, &right);
        expected = model_modulo(a, b);
        status = decimal_modulo(&left, &right, &result);
        check("%", status, &result, &expected, &left, &right);
    }
}

static void random_texts_round_trip(void **state)
{
    (void)state;
    for (int round = 0; round < RANDOM_ROUNDS; round++) {
        struct decimal value = model_random_mixed();
        struct decimal again = number(text_of(&value));
        assert_true(again.coefficient == value.coefficient && again.scale == value.scale);

        struct model model = model_of(&value);
        char text[MODEL_DIGITS + 3];
        assert_string_equal(text_of(&value), model_text(&model, text));

        /* With an exponent: the same digits, the point elsewhere. */
        char digits[DECIMAL_INT128_TEXT_SIZE];
        char exponential[DECIMAL_INT128_TEXT_SIZE + 16];
        decimal_int128_format(value.coefficient, digits, sizeof(digits));
        snprintf(exponential, sizeof(exponential), "%se-%d", digits, (int)value.scale);
        again = number(exponential);
        assert_true(again.coefficient == value.coefficient && again.scale == value.scale);

        struct decimal trimmed = decimal_trim(&value);
        assert_true(decimal_equal(&trimmed, &value));
        assert_true(trimmed.scale == 0 || trimmed.coefficient % 10 != 0);
    }
}

static void powers_of_ten_and_two(void **state)
{
    (void)state;
    /* Every length of a number, from both sides: the estimate of the digit count has no gap. */
    int128 power = 1;
    struct decimal one = decimal_from_int64(1);
    for (int digits = 0; digits < 38; digits++, power *= 10) {
        for (int less = 0; less < 2; less++) {
            struct decimal value = {.coefficient = power - less, .scale = 0};
            struct decimal result = {0};
            struct model a = model_of(&value);
            struct model b = model_of(&one);
            struct model expected = model_divide(&a, &b);
            check("/", decimal_divide(&value, &one, &result), &result, &expected, &value, &one);
        }
    }
    for (int bit = 0; bit < 126; bit++) {
        struct decimal value = {.coefficient = (int128)1 << bit, .scale = 0};
        struct decimal result = {0};
        struct model a = model_of(&value);
        struct model b = model_of(&one);
        struct model expected = model_divide(&a, &b);
        check("/", decimal_divide(&value, &one, &result), &result, &expected, &value, &one);
    }
}

static void statuses_have_words(void **state)
{
    (void)state;
    for (int status = DECIMAL_OK; status <= DECIMAL_SYNTAX; status++) {
        assert_true(strlen(decimal_status_text((enum decimal_status)status)) > 0);
    }
}

static void results_may_be_operands(void **state)
{
    (void)state;
    struct decimal value = number("1.25");
    assert_int_equal(decimal_add(&value, &value, &value), DECIMAL_OK);
    assert_string_equal(text_of(&value), "2.50");
    assert_int_equal(decimal_multiply(&value, &value, &value), DECIMAL_OK);
    assert_string_equal(text_of(&value), "6.2500");
    assert_int_equal(decimal_divide(&value, &value, &value), DECIMAL_OK);
    assert_string_equal(text_of(&value), "1.00000000000000000000");
    assert_int_equal(decimal_modulo(&value, &value, &value), DECIMAL_OK);
    assert_string_equal(text_of(&value), "0.00000000000000000000");
}

static void binary_format(void **state)
{
    (void)state;
    /* numeric_send of -12345.6700 */
    static const uint8_t expected[] = {0, 3, 0, 1, 0x40, 0, 0, 4, 0, 1, 0x09, 0x29, 0x1a, 0x2c};
    uint8_t bytes[DECIMAL_PG_SIZE];
    struct decimal value = number("-12345.6700");
    assert_int_equal(decimal_encode_pg(&value, bytes, sizeof(bytes)), sizeof(expected));
    assert_memory_equal(bytes, expected, sizeof(expected));
    assert_int_equal(decimal_encode_pg(&value, bytes, sizeof(expected) - 1), 0);

    for (int round = 0; round < RANDOM_ROUNDS; round++) {
        value = model_random_mixed();
        struct decimal again = {0};
        size_t length = decimal_encode_pg(&value, bytes, sizeof(bytes));
        assert_true(length >= 8);
        assert_int_equal(decimal_decode_pg(bytes, length, &again), DECIMAL_OK);
        assert_true(again.coefficient == value.coefficient && again.scale == value.scale);
        for (size_t cut = 0; cut < length; cut++) {
            assert_int_equal(decimal_decode_pg(bytes, cut, &again), DECIMAL_SYNTAX);
        }
    }
}

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

static void binary_format_is_not_trusted(void **state)
{
    (void)state;
    const struct {
        const uint8_t *bytes;
        size_t length;
        enum decimal_status status;
        const char *text;
    } cases[] = {
        {BYTES(0, 0, 0, 0, 0, 0, 0, 0), DECIMAL_OK, "0"},
        {BYTES(0, 0, 0, 0, 0x40, 0, 0, 2), DECIMAL_OK, "0.00"},             /* minus zero */
        {BYTES(0, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0), DECIMAL_OK, "5"}, /* outer zeros */
        {BYTES(0, 1, 0x7f, 0xff, 0, 0, 0, 0, 0, 0), DECIMAL_OK, "0"},
        {BYTES(0, 1, 0, 0, 0, 0, 0, 0, 0x27, 0x0f), DECIMAL_OK, "9999"},
        {BYTES(0, 1, 0, 0, 0, 0, 0, 0, 0x27, 0x10), DECIMAL_SYNTAX, NULL}, /* digit 10000 */
        {BYTES(0, 1, 0, 0, 0, 0, 0, 0, 0xff, 0xff), DECIMAL_SYNTAX, NULL},
        {BYTES(0, 0, 0, 0, 0xc0, 0, 0, 0), DECIMAL_SYNTAX, NULL}, /* NaN */
        {BYTES(0, 0, 0, 0, 0xd0, 0, 0, 0), DECIMAL_SYNTAX, NULL}, /* Infinity */
        {BYTES(0, 0, 0, 0, 0xf0, 0, 0, 0), DECIMAL_SYNTAX, NULL}, /* -Infinity */
        {BYTES(0, 0, 0, 0, 0, 1, 0, 0), DECIMAL_SYNTAX, NULL},    /* no such sign */
        {BYTES(0, 0, 0, 0, 0, 0, 0, 0, 0, 0), DECIMAL_SYNTAX, NULL},
        {BYTES(0, 1, 0, 0, 0, 0, 0, 0), DECIMAL_SYNTAX, NULL},
        {BYTES(0xff, 0xff, 0, 0, 0, 0, 0, 0), DECIMAL_SYNTAX, NULL},
        {BYTES(0, 0, 0, 0, 0, 0, 0, 38), DECIMAL_OK, "0." ZEROS_38},
        {BYTES(0, 0, 0, 0, 0, 0, 0, 39), DECIMAL_OVERFLOW, NULL},
        {BYTES(0, 0, 0, 0, 0, 0, 0xff, 0xff), DECIMAL_OVERFLOW, NULL},
        {BYTES(0, 1, 0, 9, 0, 0, 0, 0, 0, 99), DECIMAL_OK,
         "99000000000000000000000000000000000000"},
        {BYTES(0, 1, 0, 9, 0, 0, 0, 0, 0, 100), DECIMAL_OVERFLOW, NULL},
        {BYTES(0, 1, 0, 28, 0, 0, 0, 0, 0, 1), DECIMAL_OVERFLOW, NULL},
        {BYTES(0, 1, 0, 29, 0, 0, 0, 0, 0, 1), DECIMAL_OVERFLOW, NULL},
        {BYTES(0, 1, 0x7f, 0xff, 0, 0, 0, 0, 0, 1), DECIMAL_OVERFLOW, NULL},
        {BYTES(0, 1, 0x80, 0, 0, 0, 0, 0, 0, 1), DECIMAL_SYNTAX, NULL}, /* beyond the dscale */
        {BYTES(0, 1, 0xff, 0xff, 0, 0, 0, 2, 0x13, 0x88), DECIMAL_OK, "0.50"},
        {BYTES(0, 1, 0xff, 0xff, 0, 0, 0, 2, 0x13, 0x89), DECIMAL_SYNTAX, NULL}, /* 0.5001 */
        {BYTES(0, 1, 0xff, 0xff, 0, 0, 0, 0, 0x13, 0x88), DECIMAL_SYNTAX, NULL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct decimal value = {0};
        assert_int_equal(decimal_decode_pg(cases[i].bytes, cases[i].length, &value),
                         cases[i].status);
        if (cases[i].text != NULL) {
            assert_string_equal(text_of(&value), cases[i].text);
        }
    }
    for (int round = 0; round < RANDOM_ROUNDS; round++) {
        uint8_t bytes[64];
        int count = model_below(20);
        for (int i = 0; i < 8 + 2 * count; i++) {
            bytes[i] = i % 2 == 0 ? (uint8_t)model_below(2) : (uint8_t)model_random();
        }
        bytes[0] = 0;
        bytes[1] = (uint8_t)count;
        bytes[2] = model_below(2) ? 0 : 0xff;
        bytes[4] = model_below(2) ? 0 : 0x40;
        bytes[5] = 0;
        bytes[7] = (uint8_t)model_below(40);
        struct decimal value;
        if (decimal_decode_pg(bytes, 8 + 2 * (size_t)count, &value) == DECIMAL_OK) {
            struct decimal again = number(text_of(&value));
            assert_true(decimal_equal(&value, &again));
        }
    }
}

int main(void)
{
    model_random_start("test_decimal");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_follows_postgres),
        cmocka_unit_test(parse_refuses),
        cmocka_unit_test(format_respects_size),
        cmocka_unit_test(trim_and_integers),
        cmocka_unit_test(operations_follow_postgres),
        cmocka_unit_test(compares_by_value),
        cmocka_unit_test(random_operations_match_model),
        cmocka_unit_test(random_long_divisions_match_model),
        cmocka_unit_test(random_texts_round_trip),
        cmocka_unit_test(powers_of_ten_and_two),
        cmocka_unit_test(statuses_have_words),
        cmocka_unit_test(results_may_be_operands),
        cmocka_unit_test(binary_format),
        cmocka_unit_test(binary_format_is_not_trusted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
