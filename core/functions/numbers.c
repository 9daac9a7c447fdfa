/* Functions of numbers, with the results and scales of PostgreSQL's. Any thread.
 *
 * Where PostgreSQL would compute with double precision, as it does for round, floor, power and so
 * on of integers alone, the call is refused: that would not be exact. */
#include <string.h>

#include "core/numbers/decimal_functions.h"
#include "core/functions/functions.h"

static enum status decimal_result(struct evaluation *in, enum decimal_status status,
                                  const struct decimal *decimal, struct value *out)
{
    if (status != DECIMAL_OK) {
        return expression_fail_decimal(in, status);
    }
    *out = value_decimal(*decimal);
    return STATUS_OK;
}

static enum status absolute_integer(const struct expression *node, const struct value *arguments,
                                    struct evaluation *in, struct value *out)
{
    int64_t lowest = node->is_int4 ? INT32_MIN : INT64_MIN;

    if (arguments[0].integer == lowest) {
        return expression_fail_integer(in);
    }
    *out = value_integer(arguments[0].integer < 0 ? -arguments[0].integer : arguments[0].integer);
    return STATUS_OK;
}

static enum status absolute_decimal(const struct expression *node, const struct value *arguments,
                                    struct evaluation *in, struct value *out)
{
    (void)node, (void)in;
    *out = value_decimal(decimal_absolute(&arguments[0].decimal));
    return STATUS_OK;
}

static enum status modulo_integer(const struct expression *node, const struct value *arguments,
                                  struct evaluation *in, struct value *out)
{
    int64_t divisor = arguments[1].integer;

    (void)node;
    if (divisor == 0) {
        return expression_fail_decimal(in, DECIMAL_DIVISION_BY_ZERO);
    }
    *out = value_integer(divisor == -1 ? 0 : arguments[0].integer % divisor);
    return STATUS_OK;
}

static enum status modulo_decimal(const struct expression *node, const struct value *arguments,
                                  struct evaluation *in, struct value *out)
{
    struct decimal result;
    (void)node;
    enum decimal_status status =
        decimal_modulo(&arguments[0].decimal, &arguments[1].decimal, &result);
    return decimal_result(in, status, &result, out);
}

static enum status whole_quotient(const struct expression *node, const struct value *arguments,
                                  struct evaluation *in, struct value *out)
{
    struct decimal result;
    (void)node;
    enum decimal_status status =
        decimal_quotient(&arguments[0].decimal, &arguments[1].decimal, &result);
    return decimal_result(in, status, &result, out);
}

/* The digits argument of round and trunc, 0 where it is missing. */
static int32_t digits_of(const struct expression *node, const struct value *arguments)
{
    return node->child_count == 1 ? 0 : (int32_t)arguments[1].integer;
}

static enum status round_decimal(const struct expression *node, const struct value *arguments,
                                 struct evaluation *in, struct value *out)
{
    struct decimal result;
    enum decimal_status status =
        decimal_round(&arguments[0].decimal, digits_of(node, arguments), &result);
    return decimal_result(in, status, &result, out);
}

static enum status truncate_decimal(const struct expression *node, const struct value *arguments,
                                    struct evaluation *in, struct value *out)
{
    struct decimal result;
    enum decimal_status status =
        decimal_truncate(&arguments[0].decimal, digits_of(node, arguments), &result);
    return decimal_result(in, status, &result, out);
}

static enum status floor_decimal(const struct expression *node, const struct value *arguments,
                                 struct evaluation *in, struct value *out)
{
    (void)node, (void)in;
    *out = value_decimal(decimal_floor(&arguments[0].decimal));
    return STATUS_OK;
}

static enum status ceiling_decimal(const struct expression *node, const struct value *arguments,
                                   struct evaluation *in, struct value *out)
{
    (void)node, (void)in;
    *out = value_decimal(decimal_ceiling(&arguments[0].decimal));
    return STATUS_OK;
}

static enum status sign_decimal(const struct expression *node, const struct value *arguments,
                                struct evaluation *in, struct value *out)
{
    int128 coefficient = arguments[0].decimal.coefficient;
    (void)node, (void)in;
    *out = value_decimal(decimal_from_int64((coefficient > 0) - (coefficient < 0)));
    return STATUS_OK;
}

static enum status power_decimal(const struct expression *node, const struct value *arguments,
                                 struct evaluation *in, struct value *out)
{
    struct decimal result;

    (void)node;
    if (arguments[1].integer < 0) {
        return expression_fail(in, "", "power of a negative exponent is not supported");
    }
    enum decimal_status status =
        decimal_power(&arguments[0].decimal, arguments[1].integer, &result);
    return decimal_result(in, status, &result, out);
}

static const char inexact[] = "of integers PostgreSQL computes it with double precision, which is "
                              "not exact; write CAST(x AS numeric) for x";
static const char whole_exponent[] = "the base must be a decimal and the exponent an integer: "
                                     "anything else is not exact";

const struct function number_functions[] = {
    {"abs", "j", 'j', .evaluate = absolute_integer, .form = "abs(x)", .gives = "type of `x`",
     .meaning = "`x` without its sign"},
    {"abs", "i", 'i', .evaluate = absolute_integer},
    {"abs", "d", 'd', .evaluate = absolute_decimal},
    {"sign", "d", 'd', .evaluate = sign_decimal, .form = "sign(d)", .meaning = "-1, 0 or 1"},
    {"sign", NULL, .meaning = inexact},
    {"round", "d", 'd', .evaluate = round_decimal, .form = "round(d)",
     .meaning = "to a whole number, halves away from zero"},
    {"round", "nk", 'd', .evaluate = round_decimal, .form = "round(x, n)",
     .meaning = "to `n` digits behind the point; to tens, hundreds, ... where `n` is negative"},
    {"round", NULL, .meaning = inexact},
    {"trunc", "d", 'd', .evaluate = truncate_decimal, .form = "trunc(d)",
     .meaning = "cuts the fraction off"},
    {"trunc", "nk", 'd', .evaluate = truncate_decimal, .form = "trunc(x, n)",
     .meaning = "cuts off what is behind the `n`th digit"},
    {"trunc", NULL, .meaning = inexact},
    {"floor", "d", 'd', .evaluate = floor_decimal, .form = "floor(d)",
     .meaning = "the next whole number at or below"},
    {"floor", NULL, .meaning = inexact},
    {"ceil", "d", 'd', .evaluate = ceiling_decimal, .form = "ceil(d)",
     .meaning = "the next whole number at or above; also `ceiling`"},
    {"ceil", NULL, .meaning = inexact},
    {"ceiling", "d", 'd', .evaluate = ceiling_decimal},
    {"ceiling", NULL, .meaning = inexact},
    {"mod", "jj", 'j', .evaluate = modulo_integer, .form = "mod(x, y)", .gives = "as `x % y`",
     .meaning = "the remainder of the division"},
    {"mod", "ii", 'i', .evaluate = modulo_integer},
    {"mod", "nn", 'd', .evaluate = modulo_decimal},
    {"div", "nn", 'd', .evaluate = whole_quotient, .form = "div(x, y)",
     .meaning = "the quotient without its fraction, a decimal"},
    {"power", "di", 'd', .evaluate = power_decimal, .form = "power(d, n)",
     .meaning = "`d ^ n`, for a whole `n` of 0 or more: with as many digits behind the point as "
                "`d` has, at least 16"},
    {"power", NULL, .meaning = whole_exponent},
    {"pow", "di", 'd', .evaluate = power_decimal},
    {"pow", NULL, .meaning = whole_exponent},
    {"^", "di", 'd', .evaluate = power_decimal},
    {"^", NULL, .meaning = whole_exponent},
    {.name = NULL},
};
