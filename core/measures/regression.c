/* covar_pop, covar_samp, corr and the regr_ family, of (y, x) as in SQL: over the pairs in which
 * neither is NULL.
 *
 * State: struct moments, see moments.h. PostgreSQL computes these in floating point, with results
 * that depend on the order of rows. Here they are exact sums and one formula in numeric arithmetic.
 * With D(a,b) = n Σab - Σa Σb and "/" PostgreSQL's division of numerics:
 *
 *     regr_avgx        Σx / n                              regr_avgy in the same way
 *     regr_sxx         D(x,x) / n                          regr_syy, regr_sxy in the same way
 *     covar_pop        D(x,y) / n²
 *     covar_samp       D(x,y) / (n (n - 1))
 *     regr_slope       D(x,y) / D(x,x)
 *     regr_intercept   (Σy Σx² - Σx Σxy) / D(x,x)
 *     regr_r2          D(x,y)² / (D(x,x) D(y,y)), 1 where D(y,y) = 0
 *     corr             sign(D(x,y)) sqrt(D(x,y)² / (D(x,x) D(y,y)))
 *
 * NULL where a divisor is zero, which is where PostgreSQL has NULL: src/backend/utils/adt/float.c.
 */
#include "core/measures/kinds.h"
#include "core/measures/moments.h"

static bool over_count(const struct moment_values *values, const struct numeric *dividend,
                       struct numeric *result)
{
    if (values->count == 0) {
        return false;
    }
    numeric_divide(result, dividend, &values->n);
    return true;
}

static bool average(const struct moment_values *values, enum moment moment, struct numeric *result)
{
    return over_count(values, &values->sum[moment], result);
}

static bool regr_avgx(const struct moment_values *values, struct numeric *result)
{
    return average(values, MOMENT_X, result);
}

static bool regr_avgy(const struct moment_values *values, struct numeric *result)
{
    return average(values, MOMENT_Y, result);
}

/* D(x,x), D(y,y) and D(x,y), in place. */
static void spread_x(const struct moment_values *values, struct numeric *result)
{
    moments_spread(values, MOMENT_XX, MOMENT_X, MOMENT_X, result);
}

static void spread_y(const struct moment_values *values, struct numeric *result)
{
    moments_spread(values, MOMENT_YY, MOMENT_Y, MOMENT_Y, result);
}

static void spread_xy(const struct moment_values *values, struct numeric *result)
{
    moments_spread(values, MOMENT_XY, MOMENT_X, MOMENT_Y, result);
}

static bool regr_sxx(const struct moment_values *values, struct numeric *result)
{
    spread_x(values, result);
    return over_count(values, result, result);
}

static bool regr_syy(const struct moment_values *values, struct numeric *result)
{
    spread_y(values, result);
    return over_count(values, result, result);
}

static bool regr_sxy(const struct moment_values *values, struct numeric *result)
{
    spread_xy(values, result);
    return over_count(values, result, result);
}

static bool covariance(const struct moment_values *values, bool is_sample, struct numeric *result)
{
    struct numeric divisor;

    if (values->count <= (is_sample ? 1 : 0)) {
        return false;
    }
    numeric_init(&divisor);
    numeric_set_int64(&divisor, values->count - (is_sample ? 1 : 0));
    numeric_multiply(&divisor, &divisor, &values->n);
    spread_xy(values, result);
    numeric_divide(result, result, &divisor);
    numeric_deinit(&divisor);
    return true;
}

static bool covar_pop(const struct moment_values *values, struct numeric *result)
{
    return covariance(values, false, result);
}

static bool covar_samp(const struct moment_values *values, struct numeric *result)
{
    return covariance(values, true, result);
}

/* result = result / D(x,x) */
static bool over_spread_x(const struct moment_values *values, struct numeric *result)
{
    struct numeric divisor;

    numeric_init(&divisor);
    spread_x(values, &divisor);
    bool is_defined = numeric_sign(&divisor) > 0; /* below zero only in a damaged state */
    if (is_defined) {
        numeric_divide(result, result, &divisor);
    }
    numeric_deinit(&divisor);
    return is_defined;
}

static bool regr_slope(const struct moment_values *values, struct numeric *result)
{
    spread_xy(values, result);
    return over_spread_x(values, result);
}

static bool regr_intercept(const struct moment_values *values, struct numeric *result)
{
    struct numeric product;

    numeric_init(&product);
    numeric_multiply(&product, &values->sum[MOMENT_X], &values->sum[MOMENT_XY]);
    numeric_multiply(result, &values->sum[MOMENT_Y], &values->sum[MOMENT_XX]);
    numeric_subtract(result, result, &product);
    numeric_deinit(&product);
    return over_spread_x(values, result);
}

/* D(x,y)² / (D(x,x) D(y,y)); *sign becomes that of D(x,y). False where a divisor is zero: *is_flat
 * says that it is D(y,y) alone. */
static bool determination(const struct moment_values *values, struct numeric *result, int *sign,
                          bool *is_flat)
{
    struct numeric x;
    struct numeric y;

    numeric_init(&x);
    numeric_init(&y);
    spread_x(values, &x);
    spread_y(values, &y);
    spread_xy(values, result);
    *sign = numeric_sign(result);
    *is_flat = numeric_sign(&x) > 0 && numeric_sign(&y) <= 0;
    bool is_defined = numeric_sign(&x) > 0 && numeric_sign(&y) > 0;
    if (is_defined) {
        numeric_multiply(result, result, result);
        numeric_multiply(&x, &x, &y);
        numeric_divide(result, result, &x);
    }
    numeric_deinit(&x);
    numeric_deinit(&y);
    return is_defined;
}

static bool regr_r2(const struct moment_values *values, struct numeric *result)
{
    int sign;
    bool is_flat;

    bool is_defined = determination(values, result, &sign, &is_flat);
    if (is_flat) {
        numeric_set_int64(result, 1);
    }
    return is_defined || is_flat;
}

static bool corr(const struct moment_values *values, struct numeric *result)
{
    int sign;
    bool is_flat;
    struct numeric factor;

    if (!determination(values, result, &sign, &is_flat)) {
        return false;
    }
    numeric_square_root(result, result, numeric_square_root_scale(result));
    numeric_init(&factor);
    numeric_set_int64(&factor, sign);
    numeric_multiply(result, result, &factor);
    numeric_deinit(&factor);
    return true;
}

/* --- in SQL: over the sums of stored states, and over raw records --- */

#define N "sum({n})"
#define X "sum({x})"
#define XX "sum({xx})"
#define Y "sum({y})"
#define YY "sum({yy})"
#define XY "sum({xy})"

/* num_nulls evaluates both, as the engine does: one that fails is found beside a NULL, too. */
#define RAW(aggregate, term)                                                                       \
    "(" aggregate "(CASE WHEN num_nulls(({1}\n), ({2}\n)) = 0 THEN " term " END) {filter}\n)"
#define RAW_N "(" RAW("count", "1") "::numeric)"
#define RAW_X RAW("sum", "({2}\n)::numeric")
#define RAW_XX RAW("sum", "numeric_mul(({2}\n)::numeric, ({2}\n)::numeric)")
#define RAW_Y RAW("sum", "({1}\n)::numeric")
#define RAW_YY RAW("sum", "numeric_mul(({1}\n)::numeric, ({1}\n)::numeric)")
#define RAW_XY RAW("sum", "numeric_mul(({2}\n)::numeric, ({1}\n)::numeric)")

#define COVAR_SAMP(n, xy, x, y)                                                                    \
    SQL_QUOTIENT(SQL_SPREAD(n, xy, x, y), SQL_PRODUCT(n, SQL_DIFFERENCE(n, "1")))
#define COVAR_POP(n, xy, x, y) SQL_QUOTIENT(SQL_SPREAD(n, xy, x, y), SQL_PRODUCT(n, n))
#define SLOPE(n, xy, x, y, xx) SQL_QUOTIENT(SQL_SPREAD(n, xy, x, y), SQL_SPREAD(n, xx, x, x))
#define INTERCEPT(n, xy, x, y, xx)                                                                 \
    SQL_QUOTIENT(SQL_DIFFERENCE(SQL_PRODUCT(y, xx), SQL_PRODUCT(x, xy)), SQL_SPREAD(n, xx, x, x))
#define DETERMINATION(n, xy, x, y, xx, yy)                                                         \
    SQL_QUOTIENT("(" SQL_SPREAD(n, xy, x, y) SQL_TIMES SQL_SPREAD(n, xy, x, y) ")",                \
                 "(" SQL_SPREAD(n, xx, x, x) SQL_TIMES SQL_SPREAD(n, yy, y, y) ")")
#define R2(n, xy, x, y, xx, yy)                                                                    \
    "CASE WHEN " SQL_SPREAD(n, xx, x, x) " <> 0 AND " SQL_SPREAD(                                  \
        n, yy, y, y) " = 0 THEN 1 ELSE " DETERMINATION(n, xy, x, y, xx, yy) " END"
#define CORR(n, xy, x, y, xx, yy)                                                                  \
    "sign(" SQL_SPREAD(n, xy, x, y) ")" SQL_TIMES "sqrt(" DETERMINATION(n, xy, x, y, xx, yy) ")"

#define PAIR_KIND(NAME, HELP, NEEDS, COMPUTE, SQL, ORACLE)                                         \
    {                                                                                              \
        .base = {.name = NAME, .help = HELP, MOMENT_FUNCTIONS}, .argument_count = 2,               \
        .needs = (NEEDS), .compute = (COMPUTE), .sql = "trim_scale(" SQL ")",                      \
        .oracle_sql = "trim_scale(" ORACLE ")"                                                     \
    }

enum {
    NEEDS_COVARIANCE = NEEDS_X | NEEDS_Y | NEEDS_XY,
    NEEDS_LINE = NEEDS_COVARIANCE | NEEDS_XX,
    NEEDS_ALL = NEEDS_LINE | NEEDS_YY,
};

const struct moment_kind measure_regr_avgx =
    PAIR_KIND("regr_avgx", "regr_avgx(y, x): average of x over the pairs", NEEDS_X, regr_avgx,
              SQL_QUOTIENT(X, N), SQL_QUOTIENT(RAW_X, RAW_N));
const struct moment_kind measure_regr_avgy =
    PAIR_KIND("regr_avgy", "regr_avgy(y, x): average of y over the pairs", NEEDS_Y, regr_avgy,
              SQL_QUOTIENT(Y, N), SQL_QUOTIENT(RAW_Y, RAW_N));
const struct moment_kind measure_regr_sxx =
    PAIR_KIND("regr_sxx", "regr_sxx(y, x): sum of squared deviations of x", NEEDS_X | NEEDS_XX,
              regr_sxx, SQL_QUOTIENT(SQL_SPREAD(N, XX, X, X), N),
              SQL_QUOTIENT(SQL_SPREAD(RAW_N, RAW_XX, RAW_X, RAW_X), RAW_N));
const struct moment_kind measure_regr_syy =
    PAIR_KIND("regr_syy", "regr_syy(y, x): sum of squared deviations of y", NEEDS_Y | NEEDS_YY,
              regr_syy, SQL_QUOTIENT(SQL_SPREAD(N, YY, Y, Y), N),
              SQL_QUOTIENT(SQL_SPREAD(RAW_N, RAW_YY, RAW_Y, RAW_Y), RAW_N));
const struct moment_kind measure_regr_sxy =
    PAIR_KIND("regr_sxy", "regr_sxy(y, x): sum of products of the deviations", NEEDS_COVARIANCE,
              regr_sxy, SQL_QUOTIENT(SQL_SPREAD(N, XY, X, Y), N),
              SQL_QUOTIENT(SQL_SPREAD(RAW_N, RAW_XY, RAW_X, RAW_Y), RAW_N));
const struct moment_kind measure_covar_pop =
    PAIR_KIND("covar_pop", "covar_pop(y, x): population covariance", NEEDS_COVARIANCE, covar_pop,
              COVAR_POP(N, XY, X, Y), COVAR_POP(RAW_N, RAW_XY, RAW_X, RAW_Y));
const struct moment_kind measure_covar_samp = PAIR_KIND(
    "covar_samp", "covar_samp(y, x): sample covariance; NULL for a single pair", NEEDS_COVARIANCE,
    covar_samp, COVAR_SAMP(N, XY, X, Y), COVAR_SAMP(RAW_N, RAW_XY, RAW_X, RAW_Y));
const struct moment_kind measure_regr_slope =
    PAIR_KIND("regr_slope", "regr_slope(y, x): slope of the line that fits best", NEEDS_LINE,
              regr_slope, SLOPE(N, XY, X, Y, XX), SLOPE(RAW_N, RAW_XY, RAW_X, RAW_Y, RAW_XX));
const struct moment_kind measure_regr_intercept = PAIR_KIND(
    "regr_intercept", "regr_intercept(y, x): where that line meets x = 0", NEEDS_LINE,
    regr_intercept, INTERCEPT(N, XY, X, Y, XX), INTERCEPT(RAW_N, RAW_XY, RAW_X, RAW_Y, RAW_XX));
const struct moment_kind measure_regr_r2 =
    PAIR_KIND("regr_r2", "regr_r2(y, x): square of the correlation", NEEDS_ALL, regr_r2,
              R2(N, XY, X, Y, XX, YY), R2(RAW_N, RAW_XY, RAW_X, RAW_Y, RAW_XX, RAW_YY));
const struct moment_kind measure_corr =
    PAIR_KIND("corr", "corr(y, x): coefficient of correlation", NEEDS_ALL, corr,
              CORR(N, XY, X, Y, XX, YY), CORR(RAW_N, RAW_XY, RAW_X, RAW_Y, RAW_XX, RAW_YY));

/* --- regr_count --- */

static enum status regr_count_bind(struct measure *measure, struct error *error)
{
    enum status status = moments_bind(measure, error);

    measure->result_type = VALUE_INTEGER;
    return status;
}

static enum status regr_count_finish(const struct measure *measure, const void *state,
                                     struct arena *arena, struct value *out, const char **wide_text,
                                     struct error *error)
{
    (void)measure, (void)arena, (void)error;
    *wide_text = NULL;
    *out = value_integer(moments_count(state));
    return STATUS_OK;
}

const struct moment_kind measure_regr_count = {
    .base = {.name = "regr_count",
             .help = "regr_count(y, x): pairs in which neither is NULL",
             .bind = regr_count_bind,
             .init = moments_init,
             .fold = moments_fold,
             .merge = moments_merge,
             .encode = moments_encode,
             .decode = moments_decode,
             .finish = regr_count_finish,
             .sql = moments_sql,
             .oracle_sql = moments_oracle_sql},
    .argument_count = 2,
    .sql = "sum({n})::bigint",
    .oracle_sql = RAW("count", "1"),
};
