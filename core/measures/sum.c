/* sum(x): the exact sum of integers or decimals, NULL where no value was there; and the exact sum
 * that avg shares.
 *
 * State: struct exact_sum. Monoid: addition of integers, and of (integer, scale) pairs with the
 * larger scale, both exact, so no result depends on the order of the terms. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "core/measures/kinds.h"

size_t exact_sum_bytes(const struct measure *measure)
{
    return measure->argument_type == VALUE_INTEGER
               ? offsetof(struct exact_sum, integer) + sizeof(int128)
               : sizeof(struct exact_sum);
}

void exact_sum_init(const struct measure *measure, void *state)
{
    struct exact_sum *sum = state;

    sum->count = 0;
    sum->is_wide = measure->argument_type == VALUE_DECIMAL;
    if (sum->is_wide) {
        decimal_wide_init(&sum->decimal);
    } else {
        sum->integer = 0;
    }
}

enum status exact_sum_fold(const struct measure *measure, void *state,
                           const struct value *arguments, const struct measure_origin *origin,
                           struct arena *arena, struct error *error)
{
    struct exact_sum *sum = state;

    (void)measure, (void)origin, (void)arena, (void)error;
    if (arguments[0].is_null) {
        return STATUS_OK;
    }
    sum->count++;
    if (sum->is_wide) {
        decimal_wide_add(&sum->decimal, &arguments[0].decimal);
    } else {
        sum->integer += arguments[0].integer;
    }
    return STATUS_OK;
}

enum status exact_sum_merge(const struct measure *measure, void *into, const void *from,
                            struct arena *arena, struct error *error)
{
    struct exact_sum *sum = into;
    const struct exact_sum *other = from;

    (void)measure, (void)arena;
    if (__builtin_add_overflow(sum->count, other->count, &sum->count)) {
        return error_set(error, STATUS_FATAL, "sum: stored counts add up to more than 2^63");
    }
    if (sum->is_wide) {
        decimal_wide_merge(&sum->decimal, &other->decimal);
    } else if (__builtin_add_overflow(sum->integer, other->integer, &sum->integer)) {
        return error_set(error, STATUS_FATAL, "sum: stored sums add up to more than 2^127");
    }
    return STATUS_OK;
}

void exact_sum_widen(const struct exact_sum *sum, struct decimal_wide *out)
{
    if (sum->is_wide) {
        *out = sum->decimal;
    } else {
        decimal_wide_from_int128(out, sum->integer);
    }
}

enum status exact_sum_decode(const struct measure *measure, struct exact_sum *sum,
                             const struct pgbinary_field *field, struct error *error)
{
    struct decimal_wide wide;
    struct decimal decimal;

    enum status status = pgbinary_get_decimal_wide(field, &wide, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (measure->argument_type == VALUE_DECIMAL) {
        sum->decimal = wide;
        return STATUS_OK;
    }
    if (wide.scale != 0 || decimal_wide_to_decimal(&wide, &decimal) != DECIMAL_OK) {
        return error_set(error, STATUS_FATAL, "stored state: not a sum of integers");
    }
    sum->integer = decimal.coefficient;
    return STATUS_OK;
}

enum status exact_sum_result(struct decimal_wide *wide, struct arena *arena, struct value *out,
                             const char **wide_text, struct error *error)
{
    char text[DECIMAL_WIDE_TEXT_SIZE];
    struct decimal decimal;

    *wide_text = NULL;
    decimal_wide_trim(wide);
    if (decimal_wide_to_decimal(wide, &decimal) == DECIMAL_OK) {
        *out = value_decimal(decimal);
        return STATUS_OK;
    }
    *out = value_null(VALUE_DECIMAL);
    *wide_text = arena_copy(arena, text, decimal_wide_format(wide, text, sizeof text));
    return *wide_text == NULL ? error_no_memory(error) : STATUS_OK;
}

static enum status sum_bind(struct measure *measure, struct error *error)
{
    if (measure->argument_count != 1 ||
        (measure->argument_type != VALUE_INTEGER && measure->argument_type != VALUE_DECIMAL)) {
        return error_set(error, STATUS_REJECT, "wants one argument, an integer or a decimal");
    }
    measure->result_type = VALUE_DECIMAL;
    measure->state_bytes = exact_sum_bytes(measure);
    measure->columns[0] = (struct measure_column){.oid = PG_OID_NUMERIC, .sql_type = "numeric"};
    measure->column_count = 1;
    return STATUS_OK;
}

static enum status sum_encode(const struct measure *measure, const void *state,
                              struct pgbinary_writer *writer, struct error *error)
{
    const struct exact_sum *sum = state;
    struct decimal_wide wide;

    (void)measure, (void)error;
    if (sum->count == 0) {
        pgbinary_put_null(writer);
        return STATUS_OK;
    }
    exact_sum_widen(sum, &wide);
    pgbinary_put_decimal_wide(writer, &wide);
    return STATUS_OK;
}

static enum status sum_decode(const struct measure *measure, void *state,
                              const struct pgbinary_field *fields, struct arena *arena,
                              struct error *error)
{
    struct exact_sum *sum = state;

    (void)arena;
    if (fields[0].data == NULL) {
        return STATUS_OK;
    }
    sum->count = 1; /* only "none" and "some" matter to sum */
    return exact_sum_decode(measure, sum, &fields[0], error);
}

static enum status sum_finish(const struct measure *measure, const void *state, struct arena *arena,
                              struct value *out, const char **wide_text, struct error *error)
{
    const struct exact_sum *sum = state;
    struct decimal_wide wide;

    (void)measure;
    if (sum->count == 0) {
        *wide_text = NULL;
        *out = value_null(VALUE_DECIMAL);
        return STATUS_OK;
    }
    exact_sum_widen(sum, &wide);
    return exact_sum_result(&wide, arena, out, wide_text, error);
}

static const char *sum_sql(const struct measure *measure)
{
    (void)measure;
    return "trim_scale(sum({}))";
}

const struct measure_kind measure_sum = {
    .name = "sum",
    .help = "sum(x): exact sum of integers or decimals; NULL where there is no value",
    .bind = sum_bind,
    .init = exact_sum_init,
    .fold = exact_sum_fold,
    .merge = exact_sum_merge,
    .encode = sum_encode,
    .decode = sum_decode,
    .finish = sum_finish,
    .sql = sum_sql,
};
