/* bool_and(x) and bool_or(x): whether all values, or any, are true; NULL where no value was there.
 *
 * State: struct all_or_any. Monoid: conjunction (disjunction) of truth values, with "none yet" as
 * the neutral element. */
#include "core/measures/kinds.h"

struct all_or_any {
    bool has_value;
    bool value;
};

static enum status boolean_bind(struct measure *measure, struct error *error)
{
    if (measure->argument_count != 1 || measure->argument_type != VALUE_BOOLEAN) {
        return error_set(error, STATUS_REJECT, "wants one argument, a boolean");
    }
    measure->result_type = VALUE_BOOLEAN;
    measure->state_bytes = sizeof(struct all_or_any);
    measure->columns[0] = (struct measure_column){.oid = PG_OID_BOOL, .sql_type = "boolean"};
    measure->column_count = 1;
    return STATUS_OK;
}

static void boolean_init(const struct measure *measure, void *state)
{
    (void)measure;
    *(struct all_or_any *)state = (struct all_or_any){0};
}

/* `decisive` is the value that one occurrence makes the result: false for and, true for or. */
static void offer(struct all_or_any *state, bool value, bool decisive)
{
    if (!state->has_value || value == decisive) {
        *state = (struct all_or_any){.has_value = true, .value = value};
    }
}

static enum status and_fold(const struct measure *measure, void *state,
                            const struct value *arguments, const struct measure_origin *origin,
                            struct arena *arena, struct error *error)
{
    (void)measure, (void)origin, (void)arena, (void)error;
    if (!arguments[0].is_null) {
        offer(state, arguments[0].boolean, false);
    }
    return STATUS_OK;
}

static enum status or_fold(const struct measure *measure, void *state,
                           const struct value *arguments, const struct measure_origin *origin,
                           struct arena *arena, struct error *error)
{
    (void)measure, (void)origin, (void)arena, (void)error;
    if (!arguments[0].is_null) {
        offer(state, arguments[0].boolean, true);
    }
    return STATUS_OK;
}

static enum status and_merge(const struct measure *measure, void *into, const void *from,
                             struct arena *arena, struct error *error)
{
    const struct all_or_any *other = from;

    (void)measure, (void)arena, (void)error;
    if (other->has_value) {
        offer(into, other->value, false);
    }
    return STATUS_OK;
}

static enum status or_merge(const struct measure *measure, void *into, const void *from,
                            struct arena *arena, struct error *error)
{
    const struct all_or_any *other = from;

    (void)measure, (void)arena, (void)error;
    if (other->has_value) {
        offer(into, other->value, true);
    }
    return STATUS_OK;
}

static enum status boolean_encode(const struct measure *measure, const void *state,
                                  struct pgbinary_writer *writer, struct error *error)
{
    const struct all_or_any *boolean = state;

    (void)measure, (void)error;
    if (boolean->has_value) {
        pgbinary_put_bool(writer, boolean->value);
    } else {
        pgbinary_put_null(writer);
    }
    return STATUS_OK;
}

static enum status boolean_decode(const struct measure *measure, void *state,
                                  const struct pgbinary_field *fields, struct arena *arena,
                                  struct error *error)
{
    struct all_or_any *boolean = state;

    (void)measure, (void)arena;
    boolean->has_value = fields[0].data != NULL;
    return boolean->has_value ? pgbinary_get_bool(&fields[0], &boolean->value, error) : STATUS_OK;
}

static enum status boolean_finish(const struct measure *measure, const void *state,
                                  struct arena *arena, struct value *out, const char **wide_text,
                                  struct error *error)
{
    const struct all_or_any *boolean = state;

    (void)measure, (void)arena, (void)error;
    *wide_text = NULL;
    *out = boolean->has_value ? value_boolean(boolean->value) : value_null(VALUE_BOOLEAN);
    return STATUS_OK;
}

static const char *and_sql(const struct measure *measure)
{
    (void)measure;
    return "bool_and({})";
}

static const char *or_sql(const struct measure *measure)
{
    (void)measure;
    return "bool_or({})";
}

const struct measure_kind measure_bool_and = {
    .name = "bool_and",
    .help = "bool_and(x): whether every value is true; NULL where there is none",
    .bind = boolean_bind,
    .init = boolean_init,
    .fold = and_fold,
    .merge = and_merge,
    .encode = boolean_encode,
    .decode = boolean_decode,
    .finish = boolean_finish,
    .sql = and_sql,
};

const struct measure_kind measure_bool_or = {
    .name = "bool_or",
    .help = "bool_or(x): whether any value is true; NULL where there is none",
    .bind = boolean_bind,
    .init = boolean_init,
    .fold = or_fold,
    .merge = or_merge,
    .encode = boolean_encode,
    .decode = boolean_decode,
    .finish = boolean_finish,
    .sql = or_sql,
};
