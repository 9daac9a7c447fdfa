/* Exact sums of powers and products: see moments.h. */
#include "core/measures/moments.h"

#include <stddef.h>

/* 192 bits in two's complement. */
struct integer_moment {
    uint128 low;
    int64_t high;
};

struct moments {
    int64_t count;
    bool is_decimal; /* which of the two is in use: fixed by the arguments' types */
    union {
        struct integer_moment integer[MOMENT_COUNT];
        struct decimal_moment decimal[MOMENT_COUNT];
    };
};

static const char *const suffixes[] = {
    [MOMENT_X] = "x", [MOMENT_XX] = "xx", [MOMENT_Y] = "y", [MOMENT_YY] = "yy", [MOMENT_XY] = "xy",
};

static const struct moment_kind *kind_of(const struct measure *measure)
{
    return (const struct moment_kind *)measure->kind;
}

static bool needs(const struct measure *measure, enum moment moment)
{
    return (kind_of(measure)->needs >> moment & 1) != 0;
}

static bool has_decimal(const struct measure *measure)
{
    for (size_t i = 0; i < measure->argument_count; i++) {
        if (expression_type(measure->arguments[i]) == VALUE_DECIMAL) {
            return true;
        }
    }
    return false;
}

enum status moments_bind(struct measure *measure, struct error *error)
{
    const struct moment_kind *kind = kind_of(measure);
    size_t used = 0;

    bool fits = measure->argument_count == kind->argument_count;
    for (size_t i = 0; fits && i < measure->argument_count; i++) {
        enum value_type type = expression_type(measure->arguments[i]);
        fits = type == VALUE_INTEGER || type == VALUE_DECIMAL;
    }
    if (!fits) {
        return error_set(error, STATUS_REJECT, "wants %s",
                         kind->argument_count == 1 ? "one argument, an integer or a decimal"
                                                   : "two arguments (y, x), integers or decimals");
    }
    measure->result_type = VALUE_DECIMAL;
    measure->columns[0] =
        (struct measure_column){.suffix = "n", .oid = PG_OID_INT8, .sql_type = "bigint"};
    measure->column_count = 1;
    for (enum moment m = 0; m < MOMENT_COUNT; m++) {
        if (needs(measure, m)) {
            measure->columns[measure->column_count++] = (struct measure_column){
                .suffix = suffixes[m], .oid = PG_OID_NUMERIC, .sql_type = "numeric"};
            used = m + 1;
        }
    }
    size_t bytes = has_decimal(measure)
                       ? offsetof(struct moments, decimal) + used * sizeof(struct decimal_moment)
                       : offsetof(struct moments, integer) + used * sizeof(struct integer_moment);
    const size_t alignment = _Alignof(struct moments);
    measure->state_bytes = (bytes + alignment - 1) / alignment * alignment;
    return STATUS_OK;
}

void moments_init(const struct measure *measure, void *state)
{
    struct moments *moments = state;

    moments->count = 0;
    moments->is_decimal = has_decimal(measure);
    for (enum moment m = 0; m < MOMENT_COUNT; m++) {
        if (needs(measure, m) && moments->is_decimal) {
            decimal_moment_init(&moments->decimal[m]);
        } else if (needs(measure, m)) {
            moments->integer[m] = (struct integer_moment){0};
        }
    }
}

/* --- folding --- */

static void integer_add(struct integer_moment *sum, int128 term)
{
    uint128 before = sum->low;

    sum->low += (uint128)term;
    sum->high += (sum->low < before) - (term < 0);
}

static void fold_integers(const struct measure *measure, struct integer_moment *sums, int64_t x,
                          int64_t y)
{
    const int128 terms[] = {
        [MOMENT_X] = x,
        [MOMENT_XX] = (int128)x * x,
        [MOMENT_Y] = y,
        [MOMENT_YY] = (int128)y * y,
        [MOMENT_XY] = (int128)x * y,
    };
    for (enum moment m = 0; m < MOMENT_COUNT; m++) {
        if (needs(measure, m)) {
            integer_add(&sums[m], terms[m]);
        }
    }
}

static void fold_decimals(const struct measure *measure, struct decimal_moment *sums,
                          const struct decimal *x, const struct decimal *y)
{
    if (needs(measure, MOMENT_X)) {
        decimal_moment_add(&sums[MOMENT_X], x);
    }
    if (needs(measure, MOMENT_XX)) {
        decimal_moment_add_product(&sums[MOMENT_XX], x, x);
    }
    if (needs(measure, MOMENT_Y)) {
        decimal_moment_add(&sums[MOMENT_Y], y);
    }
    if (needs(measure, MOMENT_YY)) {
        decimal_moment_add_product(&sums[MOMENT_YY], y, y);
    }
    if (needs(measure, MOMENT_XY)) {
        decimal_moment_add_product(&sums[MOMENT_XY], x, y);
    }
}

static struct decimal decimal_of(const struct value *value)
{
    return value->type == VALUE_DECIMAL ? value->decimal : decimal_from_int64(value->integer);
}

enum status moments_fold(const struct measure *measure, void *state, const struct value *arguments,
                         const struct measure_origin *origin, struct arena *arena,
                         struct error *error)
{
    struct moments *moments = state;
    const struct value *y = &arguments[0];
    const struct value *x = &arguments[measure->argument_count - 1];

    (void)origin, (void)arena, (void)error;
    if (x->is_null || y->is_null) {
        return STATUS_OK;
    }
    moments->count++;
    if (moments->is_decimal) {
        const struct decimal decimal_x = decimal_of(x);
        const struct decimal decimal_y = decimal_of(y);
        fold_decimals(measure, moments->decimal, &decimal_x, &decimal_y);
    } else {
        fold_integers(measure, moments->integer, x->integer, y->integer);
    }
    return STATUS_OK;
}

static bool integer_merge(struct integer_moment *sum, const struct integer_moment *other)
{
    uint128 before = sum->low;

    sum->low += other->low;
    bool overflow = __builtin_add_overflow(sum->high, other->high, &sum->high);
    /* A carry may bring back what overflowed below, but not in sums that encode can have written.
     */
    return !__builtin_add_overflow(sum->high, sum->low < before, &sum->high) && !overflow;
}

enum status moments_merge(const struct measure *measure, void *into, const void *from,
                          struct arena *arena, struct error *error)
{
    struct moments *moments = into;
    const struct moments *other = from;
    bool fits = !__builtin_add_overflow(moments->count, other->count, &moments->count);

    (void)arena;
    for (enum moment m = 0; m < MOMENT_COUNT; m++) {
        if (needs(measure, m) && moments->is_decimal) {
            decimal_moment_merge(&moments->decimal[m], &other->decimal[m]);
        } else if (needs(measure, m)) {
            fits = integer_merge(&moments->integer[m], &other->integer[m]) && fits;
        }
    }
    if (!fits) {
        return error_set(error, STATUS_FATAL, "stored states of %s add up to more than 2^63 values",
                         measure->kind->name);
    }
    return STATUS_OK;
}

/* --- stored states --- */

static void load(const struct moments *moments, enum moment moment, struct decimal_moment *out)
{
    if (moments->is_decimal) {
        *out = moments->decimal[moment];
    } else {
        decimal_moment_from_integer(out, moments->integer[moment].low,
                                    moments->integer[moment].high);
    }
}

enum status moments_encode(const struct measure *measure, const void *state,
                           struct pgbinary_writer *writer, struct error *error)
{
    const struct moments *moments = state;

    (void)error;
    pgbinary_put_int8(writer, moments->count);
    for (enum moment m = 0; m < MOMENT_COUNT; m++) {
        if (needs(measure, m)) {
            uint8_t bytes[DECIMAL_MOMENT_PG_SIZE];
            struct decimal_moment sum;
            load(moments, m, &sum);
            pgbinary_put_bytes(writer, bytes, decimal_moment_encode_pg(&sum, bytes, sizeof bytes));
        }
    }
    return STATUS_OK;
}

/* What no records can have given is refused. */
static bool is_plausible(int64_t count, enum moment moment, const struct decimal_moment *sum)
{
    bool is_square = moment == MOMENT_XX || moment == MOMENT_YY;

    return !(is_square && decimal_moment_is_negative(sum)) &&
           !(count == 0 && (!decimal_moment_is_zero(sum) || sum->scale != 0));
}

enum status moments_decode(const struct measure *measure, void *state,
                           const struct pgbinary_field *fields, struct arena *arena,
                           struct error *error)
{
    struct moments *moments = state;
    const struct pgbinary_field *field = fields;

    (void)arena;
    enum status status = pgbinary_get_int8(field++, &moments->count, error);
    if (status == STATUS_OK && moments->count < 0) {
        return error_set(error, STATUS_FATAL, "stored state: a count below zero");
    }
    for (enum moment m = 0; status == STATUS_OK && m < MOMENT_COUNT; m++) {
        struct decimal_moment sum;
        if (!needs(measure, m)) {
            continue;
        }
        bool good = field->data != NULL &&
                    decimal_moment_decode_pg(field->data, field->length, &sum) == DECIMAL_OK &&
                    is_plausible(moments->count, m, &sum);
        if (good && moments->is_decimal) {
            moments->decimal[m] = sum;
        } else if (good) {
            struct integer_moment *integer = &moments->integer[m];
            good = decimal_moment_to_integer(&sum, &integer->low, &integer->high);
        }
        if (!good) {
            return error_set(error, STATUS_FATAL, "stored state: no sum of %s",
                             measure->kind->name);
        }
        field++;
    }
    return status;
}

/* --- results --- */

void moments_spread(const struct moment_values *values, enum moment ab, enum moment a,
                    enum moment b, struct numeric *result)
{
    struct numeric product;

    numeric_init(&product);
    numeric_multiply(&product, &values->sum[a], &values->sum[b]);
    numeric_multiply(result, &values->n, &values->sum[ab]);
    numeric_subtract(result, result, &product);
    numeric_deinit(&product);
}

enum status moments_finish(const struct measure *measure, const void *state, struct arena *arena,
                           struct value *out, const char **wide_text, struct error *error)
{
    const struct moments *moments = state;
    struct moment_values values = {.count = moments->count};
    struct numeric result;
    enum status status = STATUS_OK;

    numeric_init(&result);
    numeric_init(&values.n);
    numeric_set_int64(&values.n, moments->count);
    for (enum moment m = 0; m < MOMENT_COUNT; m++) {
        numeric_init(&values.sum[m]);
        if (needs(measure, m)) {
            struct decimal_moment sum;
            load(moments, m, &sum);
            numeric_set_words(&values.sum[m], sum.word, DECIMAL_MOMENT_WORDS, sum.scale);
        }
    }
    if (kind_of(measure)->compute(&values, &result)) {
        status = numeric_result(&result, arena, out, wide_text, error);
    } else {
        *wide_text = NULL;
        *out = value_null(VALUE_DECIMAL);
    }
    for (enum moment m = 0; m < MOMENT_COUNT; m++) {
        numeric_deinit(&values.sum[m]);
    }
    numeric_deinit(&values.n);
    numeric_deinit(&result);
    return status;
}

int64_t moments_count(const void *state)
{
    return ((const struct moments *)state)->count;
}

const char *moments_sql(const struct measure *measure)
{
    return kind_of(measure)->sql;
}

const char *moments_oracle_sql(const struct measure *measure)
{
    return kind_of(measure)->oracle_sql;
}
