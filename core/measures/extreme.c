/* min(x) and max(x), over every type but boolean, as in SQL; NULL where no value was there.
 *
 * State: the winning value, of integers and timestamps a struct extreme_number, else a struct
 * kept_value. Monoid: the smaller (larger) of two under value_compare, a total order; decimals are
 * trimmed first, so that equal values (1.0 and 1.00) are equal bytes and no result depends on which
 * came first. */
#include "core/measures/kinds.h"

/* A quarter of what a kept_value takes: groups are many. */
struct extreme_number {
    int64_t number;
    bool is_set;
};

static bool is_number(const struct measure *measure)
{
    return measure->argument_type == VALUE_INTEGER || measure->argument_type == VALUE_TIMESTAMP;
}

/* The winning value, or NULL. */
static struct value winner(const struct measure *measure, const void *state)
{
    const struct extreme_number *extreme = state;

    if (!is_number(measure)) {
        return ((const struct kept_value *)state)->value;
    }
    if (!extreme->is_set) {
        return value_null(measure->argument_type);
    }
    return measure->argument_type == VALUE_INTEGER ? value_integer(extreme->number)
                                                   : value_timestamp(extreme->number);
}

static enum status extreme_bind(struct measure *measure, struct error *error)
{
    if (measure->argument_count != 1) {
        return error_set(error, STATUS_REJECT, "wants one argument");
    }
    if (measure->argument_type == VALUE_BOOLEAN) {
        return error_set(error, STATUS_REJECT, "has no meaning for booleans, as in SQL");
    }
    measure->result_type = measure->argument_type;
    measure->state_bytes =
        is_number(measure) ? sizeof(struct extreme_number) : sizeof(struct kept_value);
    measure->columns[0] =
        (struct measure_column){.oid = value_type_oid(measure->argument_type),
                                .sql_type = value_type_sql(measure->argument_type)};
    measure->column_count = 1;
    return STATUS_OK;
}

static void extreme_init(const struct measure *measure, void *state)
{
    if (is_number(measure)) {
        *(struct extreme_number *)state = (struct extreme_number){0};
    } else {
        *(struct kept_value *)state =
            (struct kept_value){.value = value_null(measure->argument_type)};
    }
}

static inline void offer_number(struct extreme_number *extreme, int64_t number, int sign)
{
    bool wins = sign > 0 ? number > extreme->number : number < extreme->number;
    if (wins || !extreme->is_set) {
        *extreme = (struct extreme_number){.number = number, .is_set = true};
    }
}

/* `sign` is 1 for max, -1 for min. */
static inline enum status offer(const struct measure *measure, void *state,
                                const struct value *value, int sign, struct arena *arena,
                                struct error *error)
{
    if (value->is_null) {
        return STATUS_OK;
    }
    if (is_number(measure)) {
        offer_number(state, value->integer, sign); /* a timestamp lies in the same place */
        return STATUS_OK;
    }
    struct kept_value *extreme = state;
    if (!extreme->value.is_null) {
        int order = value_compare(value, &extreme->value);
        if (sign > 0 ? order <= 0 : order >= 0) {
            return STATUS_OK;
        }
    }
    return kept_value_set(extreme, value, arena, error);
}

static inline enum status merge(const struct measure *measure, void *into, const void *from,
                                int sign, struct arena *arena, struct error *error)
{
    const struct value value = winner(measure, from);
    return offer(measure, into, &value, sign, arena, error);
}

static enum status min_fold(const struct measure *measure, void *state,
                            const struct value *arguments, const struct measure_origin *origin,
                            struct arena *arena, struct error *error)
{
    (void)origin;
    return offer(measure, state, &arguments[0], -1, arena, error);
}

static enum status max_fold(const struct measure *measure, void *state,
                            const struct value *arguments, const struct measure_origin *origin,
                            struct arena *arena, struct error *error)
{
    (void)origin;
    return offer(measure, state, &arguments[0], 1, arena, error);
}

static enum status min_merge(const struct measure *measure, void *into, const void *from,
                             struct arena *arena, struct error *error)
{
    return merge(measure, into, from, -1, arena, error);
}

static enum status max_merge(const struct measure *measure, void *into, const void *from,
                             struct arena *arena, struct error *error)
{
    return merge(measure, into, from, 1, arena, error);
}

static enum status extreme_encode(const struct measure *measure, const void *state,
                                  struct pgbinary_writer *writer, struct error *error)
{
    const struct value value = winner(measure, state);

    (void)error;
    pgbinary_put_value(writer, &value);
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
    if (is_number(measure)) {
        *(struct extreme_number *)state =
            (struct extreme_number){.number = value.integer, .is_set = true};
        return STATUS_OK;
    }
    return kept_value_set(state, &value, arena, error);
}

static enum status extreme_finish(const struct measure *measure, const void *state,
                                  struct arena *arena, struct value *out, const char **wide_text,
                                  struct error *error)
{
    (void)arena, (void)error;
    *wide_text = NULL;
    *out = winner(measure, state);
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
