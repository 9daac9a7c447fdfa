/* min(x) and max(x), over every type but boolean, as in SQL; NULL where no value was there.
 *
 * State: struct kept_value, the winning value. Monoid: the smaller (larger) of two under
 * value_compare, a total order; decimals are trimmed first, so that equal values (1.0 and 1.00) are
 * equal bytes and no result depends on which came first. */
#include "core/measures/kinds.h"

static enum status extreme_bind(struct measure *measure, struct error *error)
{
    if (measure->argument_count != 1) {
        return error_set(error, STATUS_REJECT, "wants one argument");
    }
    if (measure->argument_type == VALUE_BOOLEAN) {
        return error_set(error, STATUS_REJECT, "has no meaning for booleans, as in SQL");
    }
    measure->result_type = measure->argument_type;
    measure->state_bytes = sizeof(struct kept_value);
    measure->columns[0] =
        (struct measure_column){.oid = value_type_oid(measure->argument_type),
                                .sql_type = value_type_sql(measure->argument_type)};
    measure->column_count = 1;
    return STATUS_OK;
}

static void extreme_init(const struct measure *measure, void *state)
{
    *(struct kept_value *)state = (struct kept_value){.value = value_null(measure->argument_type)};
}

/* `sign` is 1 for max, -1 for min. */
static enum status offer(struct kept_value *extreme, const struct value *value, int sign,
                         struct arena *arena, struct error *error)
{
    if (value->is_null) {
        return STATUS_OK;
    }
    if (!extreme->value.is_null) {
        int order = value_compare(value, &extreme->value);
        if (sign > 0 ? order <= 0 : order >= 0) {
            return STATUS_OK;
        }
    }
    return kept_value_set(extreme, value, arena, error);
}

static enum status min_fold(const struct measure *measure, void *state,
                            const struct value *arguments, const struct measure_origin *origin,
                            struct arena *arena, struct error *error)
{
    (void)measure, (void)origin;
    return offer(state, &arguments[0], -1, arena, error);
}

static enum status max_fold(const struct measure *measure, void *state,
                            const struct value *arguments, const struct measure_origin *origin,
                            struct arena *arena, struct error *error)
{
    (void)measure, (void)origin;
    return offer(state, &arguments[0], 1, arena, error);
}

static enum status min_merge(const struct measure *measure, void *into, const void *from,
                             struct arena *arena, struct error *error)
{
    (void)measure;
    return offer(into, &((const struct kept_value *)from)->value, -1, arena, error);
}

static enum status max_merge(const struct measure *measure, void *into, const void *from,
                             struct arena *arena, struct error *error)
{
    (void)measure;
    return offer(into, &((const struct kept_value *)from)->value, 1, arena, error);
}

static enum status extreme_encode(const struct measure *measure, const void *state,
                                  struct pgbinary_writer *writer, struct error *error)
{
    (void)measure, (void)error;
    pgbinary_put_value(writer, &((const struct kept_value *)state)->value);
    return STATUS_OK;
}

static enum status extreme_decode(const struct measure *measure, void *state,
                                  const struct pgbinary_field *fields, struct arena *arena,
                                  struct error *error)
{
    struct value value;

    enum status status =
        pgbinary_get_event_value(&fields[0], measure->argument_type, &value, error);
    if (status != STATUS_OK || value.is_null) {
        return status;
    }
    return kept_value_set(state, &value, arena, error);
}

static enum status extreme_finish(const struct measure *measure, const void *state,
                                  struct arena *arena, struct value *out, const char **wide_text,
                                  struct error *error)
{
    (void)measure, (void)arena, (void)error;
    *wide_text = NULL;
    *out = ((const struct kept_value *)state)->value;
    return STATUS_OK;
}

static const char *min_sql(const struct measure *measure)
{
    return measure->argument_type == VALUE_DECIMAL ? "trim_scale(min({}))" : "min({})";
}

static const char *max_sql(const struct measure *measure)
{
    return measure->argument_type == VALUE_DECIMAL ? "trim_scale(max({}))" : "max({})";
}

const struct measure_kind measure_min = {
    .name = "min",
    .help = "min(x): the least value; NULL where there is none",
    .bind = extreme_bind,
    .init = extreme_init,
    .fold = min_fold,
    .merge = min_merge,
    .encode = extreme_encode,
    .decode = extreme_decode,
    .finish = extreme_finish,
    .sql = min_sql,
};

const struct measure_kind measure_max = {
    .name = "max",
    .help = "max(x): the greatest value; NULL where there is none",
    .bind = extreme_bind,
    .init = extreme_init,
    .fold = max_fold,
    .merge = max_merge,
    .encode = extreme_encode,
    .decode = extreme_decode,
    .finish = extreme_finish,
    .sql = max_sql,
};
