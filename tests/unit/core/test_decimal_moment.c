/* Sums of squares and products (core/numbers/decimal_moment.h), and the decimals of any size that
 * finish them (core/numbers/numeric.h), against exact rational arithmetic by GMP and against cases
 * worked out by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/definitions/definition.h"
#include "core/measures/measure.h"
#include "core/numbers/decimal_moment.h"
#include "core/numbers/numeric.h"
#include "decimal_model.h"

enum { RANDOM_ROUNDS = 2000, TERMS_MAX = 30 };

#define NINES_38 "99999999999999999999999999999999999999"

static struct error error;

static struct decimal number(const char *text)
{
    struct decimal value;
    if (decimal_parse(text, strlen(text), &value) != DECIMAL_OK)
        fail_msg("cannot parse %s", text);
    return value;
}

/* coefficient × 10^-scale, exactly. */
static void set_rational(mpq_t out, const mpz_t coefficient, int32_t scale)
{
    mpz_set(mpq_numref(out), coefficient);
    mpz_ui_pow_ui(mpq_denref(out), 10, (unsigned long)scale);
    mpq_canonicalize(out);
}

static void rational_of_decimal(mpq_t out, const struct decimal *value)
{
    char text[DECIMAL_TEXT_SIZE], digits[DECIMAL_TEXT_SIZE];
    size_t count = 0;
    mpz_t coefficient;
    assert_true(decimal_format(value, text, sizeof text) > 0);
    for (const char *c = text; *c != '\0'; c++)
        if (*c != '.')
            digits[count++] = *c;
    digits[count] = '\0';
    assert_int_equal(mpz_init_set_str(coefficient, digits, 10), 0);
    set_rational(out, coefficient, value->scale);
    mpz_clear(coefficient);
}

static void rational_of_moment(mpq_t out, const struct decimal_moment *sum)
{
    struct numeric numeric;
    numeric_init(&numeric);
    numeric_set_words(&numeric, sum->word, DECIMAL_MOMENT_WORDS, sum->scale);
    set_rational(out, numeric.coefficient, numeric.scale);
    numeric_deinit(&numeric);
}

static void assert_same_sum(const struct decimal_moment *a, const struct decimal_moment *b)
{
    assert_memory_equal(a->word, b->word, sizeof a->word);
    assert_int_equal(a->scale, b->scale);
}

/* --- moments --- */

static void random_sums_are_exact_in_any_grouping(void **state)
{
    (void)state;
    mpq_t exact, left, right, ours;
    mpq_inits(exact, left, right, ours, NULL);
    for (int round = 0; round < RANDOM_ROUNDS; round++) {
        struct decimal_moment whole, parts[3];
        decimal_moment_init(&whole);
        for (int i = 0; i < 3; i++)
            decimal_moment_init(&parts[i]);
        mpq_set_ui(exact, 0, 1);
        for (int i = model_below(TERMS_MAX); i > 0; i--) {
            struct decimal a = model_random_mixed(), b = model_random_mixed();
            struct decimal_moment *part = &parts[model_below(3)];
            rational_of_decimal(left, &a);
            rational_of_decimal(right, &b);
            if (model_below(4) == 0) {
                decimal_moment_add(&whole, &a);
                decimal_moment_add(part, &a);
            } else {
                decimal_moment_add_product(&whole, &a, &b);
                decimal_moment_add_product(part, &b, &a);
                mpq_mul(left, left, right);
            }
            mpq_add(exact, exact, left);
        }
        rational_of_moment(ours, &whole);
        assert_true(mpq_equal(ours, exact));
        assert_int_equal(decimal_moment_is_zero(&whole), mpq_sgn(exact) == 0);
        assert_int_equal(decimal_moment_is_negative(&whole), mpq_sgn(exact) < 0);
        decimal_moment_merge(&parts[2], &parts[0]);
        decimal_moment_merge(&parts[2], &parts[1]);
        assert_same_sum(&parts[2], &whole);
        uint8_t bytes[DECIMAL_MOMENT_PG_SIZE];
        struct decimal_moment back;
        size_t length = decimal_moment_encode_pg(&whole, bytes, sizeof bytes);
        assert_true(length > 0);
        assert_int_equal(decimal_moment_decode_pg(bytes, length, &back), DECIMAL_OK);
        assert_same_sum(&back, &whole);
        assert_int_equal(decimal_moment_encode_pg(&whole, bytes, length - 1), 0);
    }
    mpq_clears(exact, left, right, ours, NULL);
}

static void squares_of_the_largest_do_not_overflow(void **state)
{
    (void)state;
    struct decimal most = number(NINES_38), least = number("-" NINES_38), fine = number("1e-38");
    struct decimal_moment sum, negative;
    mpq_t exact, ours;
    mpq_inits(exact, ours, NULL);
    decimal_moment_init(&sum);
    decimal_moment_add_product(&sum, &most, &most);
    decimal_moment_add_product(&sum, &fine, &fine); /* both at scale 76 */
    for (int i = 0; i < 62; i++)
        decimal_moment_merge(&sum, &sum); /* with itself: 2^62 times as much */
    rational_of_decimal(exact, &most);
    mpq_mul(exact, exact, exact);
    rational_of_decimal(ours, &fine);
    mpq_mul(ours, ours, ours);
    mpq_add(exact, exact, ours);
    mpq_mul_2exp(exact, exact, 62);
    rational_of_moment(ours, &sum);
    assert_true(mpq_equal(ours, exact));
    decimal_moment_init(&negative);
    decimal_moment_add_product(&negative, &most, &least);
    decimal_moment_add_product(&negative, &most, &most);
    assert_true(decimal_moment_is_zero(&negative));
    assert_false(decimal_moment_is_negative(&negative));
    mpq_clears(exact, ours, NULL);
}

static void zero_keeps_the_largest_scale(void **state)
{
    (void)state;
    struct decimal_moment sum;
    struct decimal a = number("1.50"), b = number("-1.500"), zero = number("0.0000");
    decimal_moment_init(&sum);
    assert_int_equal(sum.scale, 0);
    assert_true(decimal_moment_is_zero(&sum));
    decimal_moment_add(&sum, &a);
    decimal_moment_add(&sum, &b);
    assert_true(decimal_moment_is_zero(&sum));
    assert_int_equal(sum.scale, 3);
    decimal_moment_add_product(&sum, &zero, &zero);
    assert_int_equal(sum.scale, 8);
    assert_true(decimal_moment_is_zero(&sum));
}

static void integers_of_192_bits(void **state)
{
    (void)state;
    static const struct {
        uint64_t low, middle;
        int64_t high;
    } cases[] = {{0, 0, 0},
                 {UINT64_MAX, UINT64_MAX, -1}, /* -1 */
                 {UINT64_MAX, UINT64_MAX, INT64_MAX},
                 {0, 0, INT64_MIN},
                 {1, 2, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct decimal_moment sum;
        uint128 low = (uint128)cases[i].middle << 64 | cases[i].low, low_back;
        int64_t high_back;
        decimal_moment_from_integer(&sum, low, cases[i].high);
        assert_int_equal(decimal_moment_is_negative(&sum), cases[i].high < 0);
        assert_true(decimal_moment_to_integer(&sum, &low_back, &high_back));
        assert_true(low_back == low && high_back == cases[i].high);
    }
    struct decimal_moment sum;
    struct decimal one = number("1"), tenth = number("1.0");
    uint128 low;
    int64_t high;
    decimal_moment_from_integer(&sum, ~(uint128)0, INT64_MAX);
    decimal_moment_add(&sum, &one); /* 2^191 */
    assert_false(decimal_moment_to_integer(&sum, &low, &high));
    decimal_moment_from_integer(&sum, 0, INT64_MIN);
    assert_true(decimal_moment_to_integer(&sum, &low, &high));
    decimal_moment_add(&sum, &tenth); /* a scale */
    assert_false(decimal_moment_to_integer(&sum, &low, &high));
}

/* --- numerics --- */

static void set(struct numeric *out, const char *text)
{
    char digits[400];
    const char *point = strchr(text, '.');
    size_t count = 0;
    for (const char *c = text; *c != '\0'; c++)
        if (*c != '.')
            digits[count++] = *c;
    digits[count] = '\0';
    assert_int_equal(mpz_set_str(out->coefficient, digits, 10), 0);
    out->scale = point == NULL ? 0 : (int32_t)strlen(point + 1);
}

static void expect(const struct numeric *value, const char *text)
{
    struct numeric wanted;
    numeric_init(&wanted);
    set(&wanted, text);
    if (mpz_cmp(value->coefficient, wanted.coefficient) != 0 || value->scale != wanted.scale) {
        char *ours = mpz_get_str(NULL, 10, value->coefficient);
        print_error("%s with scale %d, not %s\n", ours, (int)value->scale, text);
        free(ours);
        fail();
    }
    numeric_deinit(&wanted);
}

/* As PostgreSQL's numeric has them. */
static void quotients_worked_out_by_hand(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"1", "3", "0.33333333333333333333"},
        {"2", "3", "0.66666666666666666667"},
        {"-2", "3", "-0.66666666666666666667"},
        {"2", "-3", "-0.66666666666666666667"},
        {"10", "2", "5.0000000000000000"},
        {"0", "7", "0.00000000000000000000"},
        {"1", "131072", "0.000007629394531250000000"},
        {"1", "2097152", "0.000000476837158203125000"},
        {"1.0000000000000000000000000000000000001", "2", "0.5000000000000000000000000000000000001"},
        {"-1.0000000000000000000000000000000000001", "2",
         "-0.5000000000000000000000000000000000001"},
        {"1.00000000000000000000", "8", "0.12500000000000000000"},
        {"1.0000000000000001", "2", "0.50000000000000005000"},
        {"-10000000000000001", "20000000000", "-500000.000000000050"},
        /* a half behind the last digit goes away from zero */
        {"100000000000000000000000001", "2", "50000000000000000000000001"},
        {"100000000000000000000000003", "-2", "-50000000000000000000000002"},
        {NINES_38 NINES_38, "1", NINES_38 NINES_38},
    };
    struct numeric a, b, quotient;
    numeric_init(&a), numeric_init(&b), numeric_init(&quotient);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        set(&a, cases[i][0]);
        set(&b, cases[i][1]);
        numeric_divide(&quotient, &a, &b);
        expect(&quotient, cases[i][2]);
        numeric_divide(&a, &a, &b); /* into an operand */
        expect(&a, cases[i][2]);
    }
    numeric_deinit(&a), numeric_deinit(&b), numeric_deinit(&quotient);
}

static void random_numeric(struct numeric *out)
{
    uint64_t words[6];
    for (int i = 0; i < 6; i++)
        words[i] = model_random();
    size_t count = (size_t)model_below(6) + 1;
    numeric_set_words(out, words, count, model_below(77));
    if (model_below(10) == 0)
        mpz_set_ui(out->coefficient, (unsigned long)model_below(3));
}

/* |quotient - a / b| is at most half a unit of the last place, and a tie went away from zero. */
static void check_rounding(const struct numeric *rounded, const mpq_t exact)
{
    mpq_t ours, unit, twice;
    mpq_inits(ours, unit, twice, NULL);
    set_rational(ours, rounded->coefficient, rounded->scale);
    mpq_sub(twice, ours, exact);
    int away = mpq_sgn(twice) * mpq_sgn(exact);
    mpq_abs(twice, twice);
    mpq_mul_2exp(twice, twice, 1);
    mpz_set_ui(mpq_numref(unit), 1);
    mpz_ui_pow_ui(mpq_denref(unit), 10, (unsigned long)rounded->scale);
    int against_half = mpq_cmp(twice, unit);
    assert_true(against_half < 0 || (against_half == 0 && away > 0));
    mpq_clears(ours, unit, twice, NULL);
}

static void random_results_are_exact_or_rounded_once(void **state)
{
    (void)state;
    struct numeric a, b, result;
    mpq_t left, right, exact, ours;
    numeric_init(&a), numeric_init(&b), numeric_init(&result);
    mpq_inits(left, right, exact, ours, NULL);
    for (int round = 0; round < RANDOM_ROUNDS; round++) {
        random_numeric(&a);
        random_numeric(&b);
        set_rational(left, a.coefficient, a.scale);
        set_rational(right, b.coefficient, b.scale);
        numeric_multiply(&result, &a, &b);
        set_rational(ours, result.coefficient, result.scale);
        mpq_mul(exact, left, right);
        assert_true(mpq_equal(ours, exact) && result.scale == a.scale + b.scale);
        numeric_subtract(&result, &a, &b);
        set_rational(ours, result.coefficient, result.scale);
        mpq_sub(exact, left, right);
        assert_true(mpq_equal(ours, exact));
        assert_int_equal(result.scale, a.scale > b.scale ? a.scale : b.scale);
        assert_int_equal(numeric_sign(&result), mpq_sgn(exact));
        if (numeric_sign(&b) != 0) {
            numeric_divide(&result, &a, &b);
            mpq_div(exact, left, right);
            check_rounding(&result, exact);
            assert_true(result.scale >= a.scale && result.scale >= b.scale);
        }
        mpz_abs(a.coefficient, a.coefficient);
        numeric_square_root(&result, &a, numeric_square_root_scale(&a));
        /* root - 1/2 unit <= sqrt(a) <= root + 1/2 unit, by squares */
        struct numeric bound;
        numeric_init(&bound);
        set_rational(left, a.coefficient, a.scale);
        for (int side = -1; side <= 1; side += 2) {
            mpz_mul_ui(bound.coefficient, result.coefficient, 10);
            if (side < 0)
                mpz_sub_ui(bound.coefficient, bound.coefficient, 5);
            else
                mpz_add_ui(bound.coefficient, bound.coefficient, 5);
            bound.scale = result.scale + 1;
            set_rational(ours, bound.coefficient, bound.scale);
            bool is_negative = mpq_sgn(ours) < 0;
            mpq_mul(ours, ours, ours);
            assert_true(side > 0 ? mpq_cmp(ours, left) >= 0
                                 : is_negative || mpq_cmp(ours, left) <= 0);
        }
        numeric_deinit(&bound);
    }
    mpq_clears(left, right, exact, ours, NULL);
    numeric_deinit(&a), numeric_deinit(&b), numeric_deinit(&result);
}

static void roots_worked_out_by_hand(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"0", "0.000000000000000"},    {"1", "1.000000000000000"},
        {"2", "1.414213562373095"},    {"0.25", "0.50000000000000000"},
        {"4.00", "2.000000000000000"}, {"99999999", "9999.9999499999999"},
    };
    struct numeric a, root;
    numeric_init(&a), numeric_init(&root);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        set(&a, cases[i][0]);
        numeric_square_root(&root, &a, numeric_square_root_scale(&a));
        expect(&root, cases[i][1]);
    }
    numeric_deinit(&a), numeric_deinit(&root);
}

static void results_are_trimmed_and_as_long_as_they_are(void **state)
{
    (void)state;
    static const struct {
        const char *numeric, *text;
        bool is_wide;
    } cases[] = {
        {"0.000", "0", false},
        {"-1.500", "-1.5", false},
        {"1200", "1200", false},
        {"1200.00", "1200", false},
        {"-0.050", "-0.05", false},
        {NINES_38, NINES_38, false},
        {"-" NINES_38 ".0000", "-" NINES_38, false},
        {NINES_38 "9", NINES_38 "9", true},
        {"-" NINES_38 "9.50", "-" NINES_38 "9.5", true},
        {"0.00000000000000000000000000000000000001", "0.00000000000000000000000000000000000001",
         false},
        {"-0.000000000000000000000000000000000000001", "-0.000000000000000000000000000000000000001",
         true},
    };
    struct arena arena;
    struct numeric numeric;
    arena_init(&arena);
    numeric_init(&numeric);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct value value;
        const char *wide;
        set(&numeric, cases[i].numeric);
        assert_int_equal(numeric_result(&numeric, &arena, &value, &wide, &error), STATUS_OK);
        assert_int_equal(wide != NULL, cases[i].is_wide);
        assert_int_equal(value.is_null, cases[i].is_wide);
        assert_string_equal(wide != NULL ? wide : value_text(&value, &arena, NULL), cases[i].text);
    }
    numeric_deinit(&numeric);
    arena_deinit(&arena);
}

static void words_are_twos_complement(void **state)
{
    (void)state;
    struct numeric numeric;
    numeric_init(&numeric);
    numeric_set_words(&numeric, (const uint64_t[]){5, 0}, 2, 1);
    expect(&numeric, "0.5");
    numeric_set_words(&numeric, (const uint64_t[]){UINT64_MAX, UINT64_MAX}, 2, 2);
    expect(&numeric, "-0.01");
    numeric_set_words(&numeric, (const uint64_t[]){0, UINT64_C(1) << 63}, 2, 0);
    expect(&numeric, "-170141183460469231731687303715884105728");
    numeric_set_int64(&numeric, INT64_MIN);
    expect(&numeric, "-9223372036854775808");
    numeric_deinit(&numeric);
}

/* --- both together: what PostgreSQL 15 gives over numeric --- */

static void expect_variance(const struct source *source, const char *name,
                            const char *const *values, const char *expected)
{
    char text[40];
    struct measure *measure;
    struct arena arena;
    struct value result;
    const char *wide = NULL;
    arena_init(&arena);
    snprintf(text, sizeof text, "%s(x)", name);
    assert_int_equal(measure_create(text, source, &measure, &error), STATUS_OK);
    void *state = aligned_alloc(16, (measure->state_bytes + 15) & ~(size_t)15);
    measure->kind->init(measure, state);
    for (size_t i = 0; values[i] != NULL; i++) {
        struct value argument = value_decimal(number(values[i]));
        const struct measure_origin origin = {.offset = (int64_t)i};
        assert_int_equal(measure->kind->fold(measure, state, &argument, &origin, &arena, &error),
                         STATUS_OK);
    }
    assert_int_equal(measure->kind->finish(measure, state, &arena, &result, &wide, &error),
                     STATUS_OK);
    const char *ours = wide != NULL     ? wide
                       : result.is_null ? "NULL"
                                        : value_text(&result, &arena, NULL);
    assert_string_equal(ours, expected);
    free(state);
    measure_destroy(measure);
    arena_deinit(&arena);
}

static void variances_are_those_of_postgresql(void **state)
{
    (void)state;
    static const char *const names[] = {"var_pop", "var_samp", "stddev_pop", "stddev_samp"};
    static const struct {
        const char *values[6], *expected[4];
    } cases[] = {
        {{NULL}, {"NULL", "NULL", "NULL", "NULL"}},
        {{"5"}, {"0", "NULL", "0", "NULL"}},
        {{"2", "2.0", "2.00"}, {"0", "0", "0", "0"}},
        {{"1", "2", "3", "4"},
         {"1.25", "1.6666666666666667", "1.1180339887498948", "1.2909944487358056"}},
        {{"-1", "-2", "-3", "-4"},
         {"1.25", "1.6666666666666667", "1.1180339887498948", "1.2909944487358056"}},
        {{NINES_38, "-" NINES_38},
         {"9999999999999999999999999999999999999800000000000000000000000000000000000001",
          "19999999999999999999999999999999999999600000000000000000000000000000000000002", NINES_38,
          "141421356237309504880168872420969807856"}},
        {{"1e-38", "-1e-38"},
         {"0.0000000000000000000000000000000000000000000000000000000000000000000000000001",
          "0.0000000000000000000000000000000000000000000000000000000000000000000000000002",
          "0.00000000000000000000000000000000000001",
          "0.00000000000000000000000000000000000001414213562373095048801688724209698078569671875376"
          "948073"}},
        {{"1000000000000000.1", "1000000000000000.2"},
         {"0.0025", "0.005", "0.05", "0.07071067811865475244"}},
        {{"0", "0", "0", "0.5"}, {"0.046875", "0.0625", "0.21650635094610966169", "0.25"}},
    };
    struct source *source;
    json_t *json = json_loads("{\"source\":\"s\",\"topic\":\"s\",\"event_time\":{\"field\":\"t\"},"
                              "\"fields\":{\"t\":\"timestamp\",\"x\":\"decimal\"}}",
                              0, NULL);
    assert_int_equal(source_create(json, "s", &source, &error), STATUS_OK);
    json_decref(json);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t n = 0; n < 4; n++)
            expect_variance(source, names[n], cases[i].values, cases[i].expected[n]);
    source_destroy(source);
}

int main(void)
{
    model_random_start("test_decimal_moment");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_sums_are_exact_in_any_grouping),
        cmocka_unit_test(squares_of_the_largest_do_not_overflow),
        cmocka_unit_test(zero_keeps_the_largest_scale),
        cmocka_unit_test(integers_of_192_bits),
        cmocka_unit_test(quotients_worked_out_by_hand),
        cmocka_unit_test(random_results_are_exact_or_rounded_once),
        cmocka_unit_test(roots_worked_out_by_hand),
        cmocka_unit_test(results_are_trimmed_and_as_long_as_they_are),
        cmocka_unit_test(words_are_twos_complement),
        cmocka_unit_test(variances_are_those_of_postgresql),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
