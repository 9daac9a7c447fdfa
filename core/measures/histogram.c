/* histogram(x, [b1, b2, ...]): how many values are below b1, in [b1, b2), ..., and at or above the
 * last bound; an array with one number more than there are bounds. Values that are NULL are in
 * none.
 *
 * State: a count for each bucket. Monoid: addition, element by element; 2^63 cannot be reached by
 * folding. Stored: the array. */
#include <string.h>

#include "core/measures/kinds.h"

static size_t bucket_count(const struct measure *measure)
{
    return measure->parameter_count + 1;
}

/* Makes decimals of the bounds. */
static enum status bind_bounds(struct measure *measure, struct error *error)
{
    struct value *bounds = measure->parameters;

    for (size_t i = 0; i < measure->parameter_count; i++) {
        if (bounds[i].is_null ||
            (bounds[i].type != VALUE_INTEGER && bounds[i].type != VALUE_DECIMAL)) {
            return error_set(error, STATUS_REJECT, "bound %zu is not a number", i + 1);
        }
        if (bounds[i].type == VALUE_INTEGER) {
            bounds[i] = value_decimal(decimal_from_int64(bounds[i].integer));
        }
        if (i > 0 && decimal_compare(&bounds[i - 1].decimal, &bounds[i].decimal) >= 0) {
            return error_set(error, STATUS_REJECT, "bound %zu is not above the one before", i + 1);
        }
    }
    return STATUS_OK;
}

/* "ARRAY[sum({}[1]), sum({}[2]), ...]" */
static enum status make_sql(struct measure *measure, struct error *error)
{
    const char *sums = "";

    for (size_t i = 1; i <= bucket_count(measure) && sums != NULL; i++) {
        sums = measure_text(measure, "%s%ssum({}[%zu])::bigint", sums, i > 1 ? ", " : "", i);
    }
    measure->sql_text = sums == NULL ? NULL : measure_text(measure, "ARRAY[%s]", sums);
    return measure->sql_text == NULL ? error_no_memory(error) : STATUS_OK;
}

static enum status make_oracle_sql(struct measure *measure, struct error *error)
{
    char number[DECIMAL_TEXT_SIZE];
    const char *bounds = "";

    for (size_t i = 0; i < measure->parameter_count && bounds != NULL; i++) {
        decimal_format(&measure->parameters[i].decimal, number, sizeof number);
        bounds = measure_text(measure, "%s%s%s", bounds, i > 0 ? ", " : "", number);
    }
    measure->oracle_text =
        bounds == NULL
            ? NULL
            : measure_text(measure,
                           "pg_temp.verify_histogram(array_agg(width_bucket(({1}\n)::numeric, "
                           "ARRAY[%s]::numeric[])) {filter}, %zu)",
                           bounds, bucket_count(measure));
    return measure->oracle_text == NULL ? error_no_memory(error) : STATUS_OK;
}

static enum status histogram_bind(struct measure *measure, struct error *error)
{
    if (measure->argument_count != 1 || measure->parameter_count == 0 || !measure->has_array) {
        return error_set(error, STATUS_REJECT, "wants a number and its bounds, [1, 10, 100]");
    }
    if (measure->argument_type != VALUE_INTEGER && measure->argument_type != VALUE_DECIMAL) {
        return error_set(error, STATUS_REJECT, "wants an integer or decimal, found type %s",
                         value_type_name(measure->argument_type));
    }
    enum status status = bind_bounds(measure, error);
    measure->result_type = VALUE_INTEGERS;
    measure->state_bytes = bucket_count(measure) * sizeof(int64_t);
    measure->columns[0] = (struct measure_column){.oid = PG_OID_INT8_ARRAY, .sql_type = "bigint[]"};
    measure->column_count = 1;
    status = status == STATUS_OK ? make_sql(measure, error) : status;
    return status == STATUS_OK ? make_oracle_sql(measure, error) : status;
}

static void histogram_init(const struct measure *measure, void *state)
{
    memset(state, 0, measure->state_bytes);
}

static enum status histogram_fold(const struct measure *measure, void *state,
                                  const struct value *arguments,
                                  const struct measure_origin *origin, struct arena *arena,
                                  struct error *error)
{
    int64_t *counts = state;
    size_t low = 0, high = measure->parameter_count;

    (void)origin, (void)arena, (void)error;
    if (arguments[0].is_null) {
        return STATUS_OK;
    }
    struct decimal number = arguments[0].type == VALUE_INTEGER
                                ? decimal_from_int64(arguments[0].integer)
                                : arguments[0].decimal;
    while (low < high) { /* the first bound above the number */
        size_t middle = (low + high) / 2;
        if (decimal_compare(&measure->parameters[middle].decimal, &number) <= 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    counts[low]++;
    return STATUS_OK;
}

static enum status histogram_merge(const struct measure *measure, void *into, const void *from,
                                   struct arena *arena, struct error *error)
{
    int64_t *counts = into;
    const int64_t *other = from;

    (void)arena;
    for (size_t i = 0; i < bucket_count(measure); i++) {
        if (__builtin_add_overflow(counts[i], other[i], &counts[i])) {
            return error_set(error, STATUS_FATAL, "stored counts add up to more than 2^63");
        }
    }
    return STATUS_OK;
}

static enum status histogram_encode(const struct measure *measure, const void *state,
                                    struct pgbinary_writer *writer, struct error *error)
{
    const struct value counts = value_integers(state, bucket_count(measure));

    (void)error;
    pgbinary_put_value(writer, &counts);
    return STATUS_OK;
}

static enum status histogram_decode(const struct measure *measure, void *state,
                                    const struct pgbinary_field *fields, struct arena *arena,
                                    struct error *error)
{
    int64_t *counts = state;
    struct pgbinary_array array;
    struct pgbinary_field element;

    (void)arena;
    enum status status = pgbinary_get_array(&fields[0], PG_OID_INT8, &array, error);
    if (status == STATUS_OK && array.count != bucket_count(measure)) {
        return error_set(error, STATUS_FATAL, "stored state: a histogram of %zu buckets",
                         array.count);
    }
    for (size_t i = 0; i < bucket_count(measure) && status == STATUS_OK; i++) {
        status = pgbinary_array_next(&array, &element, error);
        status = status == STATUS_OK ? pgbinary_get_int8(&element, &counts[i], error) : status;
        if (status == STATUS_OK && counts[i] < 0) {
            return error_set(error, STATUS_FATAL, "stored state: a count below zero");
        }
    }
    return status;
}

static enum status histogram_finish(const struct measure *measure, const void *state,
                                    struct arena *arena, struct value *out, const char **wide_text,
                                    struct error *error)
{
    (void)arena, (void)error;
    *wide_text = NULL;
    *out = value_integers(state, bucket_count(measure));
    return STATUS_OK;
}

static const char *histogram_sql(const struct measure *measure)
{
    return measure->sql_text;
}

static const char *histogram_oracle_sql(const struct measure *measure)
{
    return measure->oracle_text;
}

const struct measure_kind measure_histogram = {
    .name = "histogram",
    .help =
        "histogram(x, [b1, b2, ...]): how many values are below b1, in [b1, b2), ..., at or above "
        "the last bound",
    .first_parameter = 1,
    .bind = histogram_bind,
    .init = histogram_init,
    .fold = histogram_fold,
    .merge = histogram_merge,
    .encode = histogram_encode,
    .decode = histogram_decode,
    .finish = histogram_finish,
    .sql = histogram_sql,
    .oracle_sql = histogram_oracle_sql,
};
