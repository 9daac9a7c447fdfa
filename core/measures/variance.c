/* var_pop(x), var_samp(x) = variance(x), stddev_pop(x), stddev_samp(x) = stddev(x) over integers
 * and decimals, with the digits that PostgreSQL gives for numeric.
 *
 * State: struct moments with n, Σx and Σx², see moments.h. Formula, rounding and scale are those of
 * numeric_stddev_internal in src/backend/utils/adt/numeric.c: (n Σx² - (Σx)²) / n² or / (n (n -
 * 1)), and the square root of that rounded quotient, to its scale. */
#include "core/measures/kinds.h"
#include "core/measures/moments.h"

static bool variance(const struct moment_values *values, bool is_sample, struct numeric *result)
{
    struct numeric divisor;

    if (values->count <= (is_sample ? 1 : 0)) {
        return false;
    }
    numeric_init(&divisor);
    numeric_set_int64(&divisor, values->count - (is_sample ? 1 : 0));
    numeric_multiply(&divisor, &divisor, &values->n);
    moments_spread(values, MOMENT_XX, MOMENT_X, MOMENT_X, result);
    numeric_divide(result, result, &divisor);
    numeric_deinit(&divisor);
    return true;
}

static bool deviation(const struct moment_values *values, bool is_sample, struct numeric *result)
{
    if (!variance(values, is_sample, result)) {
        return false;
    }
    if (numeric_sign(result) > 0) { /* below zero only in a damaged state */
        numeric_square_root(result, result, result->scale);
    }
    return true;
}

static bool var_pop(const struct moment_values *values, struct numeric *result)
{
    return variance(values, false, result);
}

static bool var_samp(const struct moment_values *values, struct numeric *result)
{
    return variance(values, true, result);
}

static bool stddev_pop(const struct moment_values *values, struct numeric *result)
{
    return deviation(values, false, result);
}

static bool stddev_samp(const struct moment_values *values, struct numeric *result)
{
    return deviation(values, true, result);
}

#define N "sum({n})"
#define SPREAD SQL_SPREAD(N, "sum({xx})", "sum({x})", "sum({x})")
#define VAR_POP SQL_QUOTIENT(SPREAD, SQL_PRODUCT(N, N))
#define VAR_SAMP SQL_QUOTIENT(SPREAD, SQL_PRODUCT(N, SQL_DIFFERENCE(N, "1")))

/* PostgreSQL's sqrt() chooses a scale of its own. So the root of v is taken with many digits and
 * rounded to v's scale s. Rounding twice does no harm: v × 10^2s is an integer, so the root is at
 * least 10^-s / (8k + 4) from the middle between two neighbours k and k + 1 in units of 10^-s; and
 * a root is below 10^39, so 2s + 42 digits tell on which side it is. */
#define SQL_ROOT(variance)                                                                         \
    "(SELECT trim_scale(round(sqrt(round(q.v, 2 * scale(q.v) + 42)), scale(q.v))) FROM "           \
    "(SELECT " variance " AS v) AS q)"

#define DEVIATION_KIND(NAME, COMPUTE, HELP, SQL)                                                   \
    {                                                                                              \
        .base = {.name = NAME, .help = HELP, MOMENT_FUNCTIONS}, .argument_count = 1,               \
        .needs = NEEDS_X | NEEDS_XX, .compute = COMPUTE, .sql = SQL                                \
    }

const struct moment_kind measure_var_pop =
    DEVIATION_KIND("var_pop", var_pop, "var_pop(x): population variance, exact sums underneath",
                   "trim_scale(" VAR_POP ")");
const struct moment_kind measure_var_samp =
    DEVIATION_KIND("var_samp", var_samp, "var_samp(x): sample variance; NULL for a single value",
                   "trim_scale(" VAR_SAMP ")");
const struct moment_kind measure_variance = DEVIATION_KIND(
    "variance", var_samp, "variance(x): the same as var_samp(x)", "trim_scale(" VAR_SAMP ")");
const struct moment_kind measure_stddev_pop = DEVIATION_KIND(
    "stddev_pop", stddev_pop, "stddev_pop(x): population standard deviation", SQL_ROOT(VAR_POP));
const struct moment_kind measure_stddev_samp = DEVIATION_KIND(
    "stddev_samp", stddev_samp,
    "stddev_samp(x): sample standard deviation; NULL for a single value", SQL_ROOT(VAR_SAMP));
const struct moment_kind measure_stddev = DEVIATION_KIND(
    "stddev", stddev_samp, "stddev(x): the same as stddev_samp(x)", SQL_ROOT(VAR_SAMP));
