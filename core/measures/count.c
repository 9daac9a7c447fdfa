/* count(*) and count(x): how many records, or how many values that are not NULL.
 *
 * State: int64_t. Monoid: addition of natural numbers; 2^63 records cannot be reached. */
#include "core/measures/kinds.h"

static enum status count_bind(struct measure *measure, struct error *error)
{
    if (measure->argument_count > 1) {
        return error_set(error, STATUS_REJECT, "wants * or one argument");
    }
    measure->result_type = VALUE_INTEGER;
    measure->state_bytes = sizeof(int64_t);
    measure->columns[0] = (struct measure_column){.oid = PG_OID_INT8, .sql_type = "bigint"};
    measure->column_count = 1;
    return STATUS_OK;
}

static void count_init(const struct measure *measure, void *state)
{
    (void)measure;
    *(int64_t *)state = 0;
}

static enum status count_fold(const struct measure *measure, void *state,
                              const struct value *arguments, const struct measure_origin *origin,
                              struct arena *arena, struct error *error)
{
    (void)origin, (void)arena, (void)error;
    *(int64_t *)state += measure->argument_count == 0 || !arguments[0].is_null;
    return STATUS_OK;
}

static enum status count_merge(const struct measure *measure, void *into, const void *from,
                               struct arena *arena, struct error *error)
{
    (void)measure, (void)arena;
    if (__builtin_add_overflow(*(int64_t *)into, *(const int64_t *)from, (int64_t *)into)) {
        return error_set(error, STATUS_FATAL, "count: stored states add up to more than 2^63");
    }
    return STATUS_OK;
}

static enum status count_encode(const struct measure *measure, const void *state,
                                struct pgbinary_writer *writer, struct error *error)
{
    (void)measure, (void)error;
    pgbinary_put_int8(writer, *(const int64_t *)state);
    return STATUS_OK;
}

static enum status count_decode(const struct measure *measure, void *state,
                                const struct pgbinary_field *fields, struct arena *arena,
                                struct error *error)
{
    (void)measure, (void)arena;
    enum status status = pgbinary_get_int8(&fields[0], state, error);
    if (status == STATUS_OK && *(int64_t *)state < 0) {
        return error_set(error, STATUS_FATAL, "stored state: a count below zero");
    }
    return status;
}

static enum status count_finish(const struct measure *measure, const void *state,
                                struct arena *arena, struct value *out, const char **wide_text,
                                struct error *error)
{
    (void)measure, (void)arena, (void)error;
    *wide_text = NULL;
    *out = value_integer(*(const int64_t *)state);
    return STATUS_OK;
}

static const char *count_sql(const struct measure *measure)
{
    (void)measure;
    return "sum({})::bigint";
}

const struct measure_kind measure_count = {
    .name = "count",
    .help = "count(*): records; count(x): values that are not NULL",
    .bind = count_bind,
    .init = count_init,
    .fold = count_fold,
    .merge = count_merge,
    .encode = count_encode,
    .decode = count_decode,
    .finish = count_finish,
    .sql = count_sql,
};
