/*
 * Sums of decimals: independence of order and grouping to the byte, averages against the
 * digit-array model, and the limits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "decimal_model.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define RANDOM_ROUNDS 3000
#define TERMS_MAX 40

#define NINES_38 "99999999999999999999999999999999999999"

static struct decimal number(const char *text)
{
    struct decimal value;
    if (decimal_parse(text, strlen(text), &value) != DECIMAL_OK) {
        fail_msg("cannot parse %s", text);
    }
    return value;
}

static const char *text_of(const struct decimal_wide *value)
{
    static char text[4][DECIMAL_WIDE_TEXT_SIZE];
    static int next;
    char *out = text[next++ % 4];
    size_t length = decimal_wide_format(value, out, DECIMAL_WIDE_TEXT_SIZE);
    assert_true(length > 0);
    assert_int_equal(length, strlen(out));
    return out;
}

static struct decimal_wide sum_of(const char *const *terms, size_t count)
{
    struct decimal_wide sum;
    decimal_wide_init(&sum);
    for (size_t i = 0; i < count; i++) {
        struct decimal value = number(terms[i]);
        decimal_wide_add(&sum, &value);
    }
    return sum;
}

static void sums_keep_the_largest_scale(void **state)
{
    (void)state;
    static const char *const cents[] = {"0.1", "0.2", "-0.30", "100"};
    struct decimal_wide sum = sum_of(cents, 0);
    assert_string_equal(text_of(&sum), "0");
    assert_true(decimal_wide_is_zero(&sum));
    sum = sum_of(cents, 2);
    assert_string_equal(text_of(&sum), "0.3");
    sum = sum_of(cents, 3);
    assert_string_equal(text_of(&sum), "0.00");
    assert_true(decimal_wide_is_zero(&sum));
    sum = sum_of(cents, 4);
    assert_string_equal(text_of(&sum), "100.00");
    decimal_wide_trim(&sum);
    assert_string_equal(text_of(&sum), "100");

    static const char *const extremes[] = {NINES_38, "1e-38", NINES_38, "-1e-38"};
    sum = sum_of(extremes, 3);
    assert_string_equal(text_of(&sum), "199999999999999999999999999999999999998."
                                       "00000000000000000000000000000000000001");
    sum = sum_of(extremes, 4);
    decimal_wide_trim(&sum);
    assert_string_equal(text_of(&sum), "199999999999999999999999999999999999998");

    char small[4];
    assert_int_equal(decimal_wide_format(&sum, small, sizeof(small)), 0);
    assert_string_equal(small, "");
}

static void integer_sums_convert(void **state)
{
    (void)state;
    int128 most = (int128)(~(uint128)0 >> 1);
    const int128 values[] = {0, 1, -1, INT64_MAX, INT64_MIN, most, -most - 1, (int128)1 << 64};
    for (size_t i = 0; i < COUNT(values); i++) {
        char expected[DECIMAL_INT128_TEXT_SIZE];
        decimal_int128_format(values[i], expected, sizeof(expected));
        struct decimal_wide sum;
        decimal_wide_from_int128(&sum, values[i]);
        assert_string_equal(text_of(&sum), expected);
        struct decimal value;
        bool fits = strlen(expected) - (values[i] < 0) <= 38;
        assert_int_equal(decimal_wide_to_decimal(&sum, &value),
                         fits ? DECIMAL_OK : DECIMAL_OVERFLOW);
        if (fits) {
            assert_true(value.coefficient == values[i] && value.scale == 0);
        }
    }
}

/* 2^63 terms, reached by doubling, at the finest scale and the largest magnitude. */
static void nothing_overflows(void **state)
{
    (void)state;
    for (int sign = 0; sign < 2; sign++) {
        struct decimal largest = number(sign ? "-" NINES_38 : NINES_38);
        struct decimal finest = number("1e-38");
        struct decimal_wide sum;
        decimal_wide_init(&sum);
        decimal_wide_add(&sum, &finest);
        decimal_wide_add(&sum, &largest);
        struct model expected = model_add(model_of(&largest), model_of(&finest));
        for (int i = 0; i < 63; i++) {
            decimal_wide_merge(&sum, &sum);
            expected = model_add(expected, expected);
        }
        char text[MODEL_DIGITS + 3];
        assert_string_equal(text_of(&sum), model_text(&expected, text));

        uint8_t bytes[DECIMAL_WIDE_PG_SIZE];
        struct decimal_wide again;
        size_t length = decimal_wide_encode_pg(&sum, bytes, sizeof(bytes));
        assert_true(length > 0);
        assert_int_equal(decimal_wide_decode_pg(bytes, length, &again), DECIMAL_OK);
        assert_true(decimal_wide_equal(&again, &sum));

        struct decimal_wide average;
        assert_int_equal(decimal_wide_divide(&sum, INT64_MAX, &average), DECIMAL_OK);
        struct decimal count = decimal_from_int64(INT64_MAX);
        struct model divisor = model_of(&count);
        expected = model_divide(&expected, &divisor);
        assert_string_equal(text_of(&average), model_text(&expected, text));
    }
}

/* Splits terms[0..count) at random into partial sums, in random order, and merges them at random.
 */
static struct decimal_wide sum_somehow(struct decimal *terms, int count)
{
    for (int i = count; i > 1; i--) {
        int other = model_below(i);
        struct decimal swap = terms[i - 1];
        terms[i - 1] = terms[other];
        terms[other] = swap;
    }
    struct decimal_wide part[5];
    for (size_t i = 0; i < COUNT(part); i++) {
        decimal_wide_init(&part[i]);
    }
    for (int i = 0; i < count; i++) {
        decimal_wide_add(&part[model_below(COUNT(part))], &terms[i]);
    }
    for (int left = COUNT(part); left > 1; left--) {
        int into = model_below(left - 1);
        decimal_wide_merge(&part[into], &part[left - 1]);
    }
    return part[0];
}

static void order_and_grouping_do_not_matter(void **state)
{
    (void)state;
    for (int round = 0; round < RANDOM_ROUNDS; round++) {
        struct decimal terms[TERMS_MAX];
        int count = 1 + model_below(TERMS_MAX);
        struct model expected = {0};
        for (int i = 0; i < count; i++) {
            terms[i] = model_random_mixed();
            expected = model_add(expected, model_of(&terms[i]));
        }
        struct decimal_wide first = sum_somehow(terms, count);
        struct decimal_wide second = sum_somehow(terms, count);
        assert_true(decimal_wide_equal(&first, &second));
        assert_memory_equal(first.word, second.word, sizeof(first.word));
        char text[MODEL_DIGITS + 3];
        assert_string_equal(text_of(&first), model_text(&expected, text));

        uint8_t first_bytes[DECIMAL_WIDE_PG_SIZE];
        uint8_t second_bytes[DECIMAL_WIDE_PG_SIZE];
        size_t length = decimal_wide_encode_pg(&first, first_bytes, sizeof(first_bytes));
        assert_int_equal(decimal_wide_encode_pg(&second, second_bytes, sizeof(second_bytes)),
                         length);
        assert_memory_equal(first_bytes, second_bytes, length);
        struct decimal_wide again;
        assert_int_equal(decimal_wide_decode_pg(first_bytes, length, &again), DECIMAL_OK);
        assert_true(decimal_wide_equal(&again, &first));
    }
}

static void averages_match_model(void **state)
{
    (void)state;
    for (int round = 0; round < RANDOM_ROUNDS; round++) {
        struct decimal_wide sum;
        decimal_wide_init(&sum);
        struct model dividend = {0};
        for (int i = model_below(4); i >= 0; i--) {
            struct decimal term = model_random_mixed();
            decimal_wide_add(&sum, &term);
            dividend = model_add(dividend, model_of(&term));
        }
        int64_t count = (int64_t)(model_random() >> (1 + model_below(63)));
        count += count == 0;
        struct decimal divisor = decimal_from_int64(count);
        struct model b = model_of(&divisor);
        struct model expected = model_divide(&dividend, &b);
        struct decimal_wide average;
        assert_int_equal(decimal_wide_divide(&sum, count, &average), DECIMAL_OK);
        assert_true(average.scale <= DECIMAL_WIDE_MAX_SCALE);
        char text[MODEL_DIGITS + 3];
        assert_string_equal(text_of(&average), model_text(&expected, text));

        struct decimal_wide trimmed = average;
        decimal_wide_trim(&trimmed);
        assert_int_equal(decimal_wide_compare(&trimmed, &average), 0);
        const char *printed = text_of(&trimmed);
        assert_true(trimmed.scale == 0 || printed[strlen(printed) - 1] != '0');

        uint8_t bytes[DECIMAL_WIDE_PG_SIZE];
        assert_true(decimal_wide_encode_pg(&average, bytes, sizeof(bytes)) > 0);
    }
}

static void average_edges(void **state)
{
    (void)state;
    static const char *const tiny[] = {"1e-38"};
    struct decimal_wide sum = sum_of(tiny, 1);
    struct decimal_wide average;
    assert_int_equal(decimal_wide_divide(&sum, 0, &average), DECIMAL_DIVISION_BY_ZERO);
    assert_int_equal(decimal_wide_divide(&sum, INT64_MAX, &average), DECIMAL_OK);
    assert_int_equal(average.scale, DECIMAL_WIDE_MAX_SCALE);
    assert_string_equal(text_of(&average), "0.0000000000000000000000000000000000000000000000000000"
                                           "000010842021724855044341");
    uint8_t bytes[DECIMAL_WIDE_PG_SIZE];
    size_t length = decimal_wide_encode_pg(&average, bytes, sizeof(bytes));
    assert_int_equal(decimal_wide_decode_pg(bytes, length, &sum), DECIMAL_OVERFLOW);
    struct decimal narrow;
    assert_int_equal(decimal_wide_to_decimal(&average, &narrow), DECIMAL_OVERFLOW);

    decimal_wide_init(&sum);
    assert_int_equal(decimal_wide_divide(&sum, 1, &average), DECIMAL_OK);
    assert_string_equal(text_of(&average), "0.00000000000000000000");
    decimal_wide_from_int128(&sum, -5);
    assert_int_equal(decimal_wide_divide(&sum, 2, &sum), DECIMAL_OK);
    assert_string_equal(text_of(&sum), "-2.5000000000000000");
    decimal_wide_from_int128(&sum, 1);
    assert_int_equal(decimal_wide_divide(&sum, -3, &sum), DECIMAL_OK);
    assert_string_equal(text_of(&sum), "-0.33333333333333333333");
    decimal_wide_from_int128(&sum, 1);
    assert_int_equal(decimal_wide_divide(&sum, INT64_MIN, &sum), DECIMAL_OK);
}

static void compares_by_value(void **state)
{
    (void)state;
    for (int round = 0; round < RANDOM_ROUNDS; round++) {
        struct decimal left = model_random_mixed();
        struct decimal right = model_below(3) == 0 ? decimal_trim(&left) : model_random_mixed();
        struct decimal_wide a, b;
        decimal_wide_init(&a);
        decimal_wide_init(&b);
        decimal_wide_add(&a, &left);
        decimal_wide_add(&b, &right);
        int order = decimal_compare(&left, &right);
        assert_int_equal(decimal_wide_compare(&a, &b), order);
        assert_int_equal(decimal_wide_equal(&a, &b), order == 0 && left.scale == right.scale);
        struct decimal again;
        assert_int_equal(decimal_wide_to_decimal(&a, &again), DECIMAL_OK);
        assert_true(again.coefficient == left.coefficient && again.scale == left.scale);
    }
}

/* What comes from a table may be anything; what is let in must stay addable 2^63 times. */
static void decoding_is_bounded(void **state)
{
    (void)state;
    uint8_t bytes[8 + 2 * 40] = {0};
    for (int groups = 0; groups <= 40; groups++) {
        bytes[1] = (uint8_t)groups;
        bytes[3] = (uint8_t)(groups - 1);
        for (int i = 0; i < groups; i++) {
            bytes[8 + 2 * i] = 0x27;
            bytes[9 + 2 * i] = 0x0f;
        }
        for (int scale = 0; scale <= 38; scale += 38) {
            bytes[7] = (uint8_t)scale;
            struct decimal_wide sum;
            enum decimal_status status =
                decimal_wide_decode_pg(bytes, 8 + 2 * (size_t)groups, &sum);
            /* 10^56 at scale 38 is 10^94 < 2^319; 10^60 is above at any scale. */
            assert_int_equal(status, groups <= 14 ? DECIMAL_OK : DECIMAL_OVERFLOW);
            if (status != DECIMAL_OK) {
                continue;
            }
            struct decimal finest = number("1e-38");
            decimal_wide_add(&sum, &finest);
            struct model expected = model_from_text(text_of(&sum));
            for (int i = 0; i < 63; i++) {
                decimal_wide_merge(&sum, &sum);
                expected = model_add(expected, expected);
            }
            char text[MODEL_DIGITS + 3];
            assert_string_equal(text_of(&sum), model_text(&expected, text));
        }
    }
    static const uint8_t not_a_number[] = {0, 0, 0, 0, 0xc0, 0, 0, 0};
    struct decimal_wide sum;
    assert_int_equal(decimal_wide_decode_pg(not_a_number, 8, &sum), DECIMAL_SYNTAX);
    assert_int_equal(decimal_wide_decode_pg(not_a_number, 7, &sum), DECIMAL_SYNTAX);
}

int main(void)
{
    model_random_start("test_decimal_wide");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_keep_the_largest_scale),
        cmocka_unit_test(integer_sums_convert),
        cmocka_unit_test(nothing_overflows),
        cmocka_unit_test(order_and_grouping_do_not_matter),
        cmocka_unit_test(averages_match_model),
        cmocka_unit_test(average_edges),
        cmocka_unit_test(compares_by_value),
        cmocka_unit_test(decoding_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
