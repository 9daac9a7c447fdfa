/* avg(x): the exact sum divided by the number of values, with the digits that PostgreSQL's
 * avg(numeric) gives; NULL where no value was there.
 *
 * State: struct exact_sum. Monoid: sums and counts add; the division happens once, in finish. */
#include "core/measures/kinds.h"

static enum status avg_bind(struct measure *measure, struct error *error)
{
    enum status status = measure_sum.bind(measure, error);
    if (status == STATUS_OK) {
        measure->columns[0] =
            (struct measure_column){.suffix = "sum", .oid = PG_OID_NUMERIC, .sql_type = "numeric"};
        measure->columns[1] =
            (struct measure_column){.suffix = "n", .oid = PG_OID_INT8, .sql_type = "bigint"};
        measure->column_count = 2;
    }
    return status;
}

static enum status avg_encode(const struct measure *measure, const void *state,
                              struct pgbinary_writer *writer, struct error *error)
{
    const struct exact_sum *sum = state;
    struct decimal_wide wide;

    (void)measure, (void)error;
    exact_sum_widen(sum, &wide);
    pgbinary_put_decimal_wide(writer, &wide);
    pgbinary_put_int8(writer, sum->count);
    return STATUS_OK;
}

static enum status avg_decode(const struct measure *measure, void *state,
                              const struct pgbinary_field *fields, struct arena *arena,
                              struct error *error)
{
    struct exact_sum *sum = state;

    (void)arena;
    enum status status = exact_sum_decode(measure, sum, &fields[0], error);
    status = status == STATUS_OK ? pgbinary_get_int8(&fields[1], &sum->count, error) : status;
    if (status == STATUS_OK && sum->count < 0) {
        return error_set(error, STATUS_FATAL, "stored state: an average of %lld values",
                         (long long)sum->count);
    }
    if (status == STATUS_OK && sum->count == 0) {
        struct decimal_wide wide;
        exact_sum_widen(sum, &wide);
        if (!decimal_wide_is_zero(&wide)) {
            return error_set(error, STATUS_FATAL, "stored state: a sum of no values is not zero");
        }
    }
    return status;
}

static enum status avg_finish(const struct measure *measure, const void *state, struct arena *arena,
                              struct value *out, const char **wide_text, struct error *error)
{
    const struct exact_sum *sum = state;
    struct decimal_wide wide;

    (void)measure;
    exact_sum_widen(sum, &wide);
    if (decimal_wide_divide(&wide, sum->count, &wide) == DECIMAL_DIVISION_BY_ZERO) {
        *wide_text = NULL;
        *out = value_null(VALUE_DECIMAL);
        return STATUS_OK;
    }
    return exact_sum_result(&wide, arena, out, wide_text, error);
}

static const char *avg_sql(const struct measure *measure)
{
    (void)measure;
    return "trim_scale(sum({sum}) / nullif(sum({n}), 0))";
}

const struct measure_kind measure_avg = {
    .name = "avg",
    .help = "avg(x): exact sum over count, with PostgreSQL's digits; NULL where there is no value",
    .bind = avg_bind,
    .init = exact_sum_init,
    .fold = exact_sum_fold,
    .merge = exact_sum_merge,
    .encode = avg_encode,
    .decode = avg_decode,
    .finish = avg_finish,
    .sql = avg_sql,
};
