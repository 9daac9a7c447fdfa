/* first(x), last(x), arg_min(x, by), arg_max(x, by): the value of x in one chosen record, of any
 * type. first and last take the first and the last record by event time, then partition, then
 * offset; arg_min and arg_max the one with the least and the greatest `by`, of several the first.
 * The chosen record's x may be NULL, and then so is the result: FILTER (WHERE x IS NOT NULL) looks
 * at the others only. Records in which `by` is NULL are left out.
 *
 * State: struct chosen. Monoid: the least of two records in a total order, which no two records
 * share a place in, for their origins differ. Decimals are trimmed, as in extreme.c. */
#include "core/measures/kinds.h"

struct chosen {
    bool has_record;
    struct kept_value value;
    struct kept_value by; /* of arg_min and arg_max */
    struct measure_origin origin;
};

/* How a candidate comes before what was chosen so far. */
enum choice { CHOICE_FIRST, CHOICE_LAST, CHOICE_LEAST, CHOICE_GREATEST };

static bool has_by(enum choice choice)
{
    return choice == CHOICE_LEAST || choice == CHOICE_GREATEST;
}

static enum choice choice_of(const struct measure *measure)
{
    if (measure->kind == &measure_first) {
        return CHOICE_FIRST;
    }
    if (measure->kind == &measure_last) {
        return CHOICE_LAST;
    }
    return measure->kind == &measure_arg_min ? CHOICE_LEAST : CHOICE_GREATEST;
}

static enum status chosen_bind(struct measure *measure, struct error *error)
{
    bool by = has_by(choice_of(measure));
    struct measure_column *column = measure->columns;

    if (measure->argument_count != (by ? 2 : 1)) {
        return error_set(error, STATUS_REJECT, "wants %s",
                         by ? "two arguments (x, by)" : "one argument");
    }
    measure->result_type = measure->argument_type;
    measure->state_bytes = sizeof(struct chosen);
    *column++ = (struct measure_column){.oid = value_type_oid(measure->argument_type),
                                        .sql_type = value_type_sql(measure->argument_type)};
    if (by) {
        enum value_type type = expression_type(measure->arguments[1]);
        *column++ = (struct measure_column){
            .suffix = "by", .oid = value_type_oid(type), .sql_type = value_type_sql(type)};
    }
    *column++ = (struct measure_column){
        .suffix = "time", .oid = PG_OID_TIMESTAMPTZ, .sql_type = "timestamptz"};
    *column++ =
        (struct measure_column){.suffix = "partition", .oid = PG_OID_INT4, .sql_type = "integer"};
    *column++ =
        (struct measure_column){.suffix = "offset", .oid = PG_OID_INT8, .sql_type = "bigint"};
    measure->column_count = (size_t)(column - measure->columns);
    return STATUS_OK;
}

static void chosen_init(const struct measure *measure, void *state)
{
    struct chosen *chosen = state;

    *chosen = (struct chosen){.value.value = value_null(measure->argument_type)};
    if (measure->argument_count > 1) {
        chosen->by.value = value_null(expression_type(measure->arguments[1]));
    }
}

static int compare_origins(const struct measure_origin *a, const struct measure_origin *b)
{
    if (a->time_us != b->time_us) {
        return a->time_us < b->time_us ? -1 : 1;
    }
    if (a->partition != b->partition) {
        return a->partition < b->partition ? -1 : 1;
    }
    return (a->offset > b->offset) - (a->offset < b->offset);
}

static bool comes_before(enum choice choice, const struct value *by,
                         const struct measure_origin *origin, const struct chosen *chosen)
{
    if (has_by(choice)) {
        int order = value_compare(by, &chosen->by.value);
        if (order != 0) {
            return choice == CHOICE_LEAST ? order < 0 : order > 0;
        }
    }
    int order = compare_origins(origin, &chosen->origin);
    return choice == CHOICE_LAST ? order > 0 : order < 0;
}

static enum status offer(enum choice choice, struct chosen *chosen, const struct value *value,
                         const struct value *by, const struct measure_origin *origin,
                         struct arena *arena, struct error *error)
{
    if (chosen->has_record && !comes_before(choice, by, origin, chosen)) {
        return STATUS_OK;
    }
    enum status status = kept_value_set(&chosen->value, value, arena, error);
    if (status == STATUS_OK && has_by(choice)) {
        status = kept_value_set(&chosen->by, by, arena, error);
    }
    chosen->origin = *origin;
    chosen->has_record = true;
    return status;
}

static enum status chosen_fold(const struct measure *measure, void *state,
                               const struct value *arguments, const struct measure_origin *origin,
                               struct arena *arena, struct error *error)
{
    enum choice choice = choice_of(measure);

    if (has_by(choice) && arguments[1].is_null) {
        return STATUS_OK;
    }
    return offer(choice, state, &arguments[0], &arguments[1], origin, arena, error);
}

static enum status chosen_merge(const struct measure *measure, void *into, const void *from,
                                struct arena *arena, struct error *error)
{
    const struct chosen *other = from;

    if (!other->has_record) {
        return STATUS_OK;
    }
    return offer(choice_of(measure), into, &other->value.value, &other->by.value, &other->origin,
                 arena, error);
}

static enum status chosen_encode(const struct measure *measure, const void *state,
                                 struct pgbinary_writer *writer, struct error *error)
{
    const struct chosen *chosen = state;

    (void)error;
    if (!chosen->has_record) {
        for (size_t i = 0; i < measure->column_count; i++) {
            pgbinary_put_null(writer);
        }
        return STATUS_OK;
    }
    pgbinary_put_value(writer, &chosen->value.value);
    if (has_by(choice_of(measure))) {
        pgbinary_put_value(writer, &chosen->by.value);
    }
    pgbinary_put_timestamp(writer, chosen->origin.time_us);
    pgbinary_put_int4(writer, chosen->origin.partition);
    pgbinary_put_int8(writer, chosen->origin.offset);
    return STATUS_OK;
}

static enum status decode_record(const struct measure *measure, struct chosen *chosen,
                                 const struct pgbinary_field *fields, struct arena *arena,
                                 struct error *error)
{
    const struct pgbinary_field *field = fields;
    enum choice choice = choice_of(measure);
    struct measure_origin origin;
    struct value value;
    struct value by = {.is_null = true};

    enum status status = pgbinary_get_event_value(field++, measure->argument_type, &value, error);
    if (status == STATUS_OK && has_by(choice)) {
        status =
            pgbinary_get_event_value(field++, expression_type(measure->arguments[1]), &by, error);
        if (status == STATUS_OK && by.is_null) {
            return error_set(error, STATUS_FATAL, "stored state: a record chosen by NULL");
        }
    }
    status =
        status == STATUS_OK ? pgbinary_get_event_time(field++, &origin.time_us, error) : status;
    status = status == STATUS_OK ? pgbinary_get_int4(field++, &origin.partition, error) : status;
    status = status == STATUS_OK ? pgbinary_get_int8(field++, &origin.offset, error) : status;
    return status == STATUS_OK ? offer(choice, chosen, &value, &by, &origin, arena, error) : status;
}

static enum status chosen_decode(const struct measure *measure, void *state,
                                 const struct pgbinary_field *fields, struct arena *arena,
                                 struct error *error)
{
    size_t nulls = 0;

    for (size_t i = 0; i < measure->column_count; i++) {
        nulls += fields[i].data == NULL;
    }
    if (nulls == measure->column_count) {
        return STATUS_OK;
    }
    return decode_record(measure, state, fields, arena, error);
}

static enum status chosen_finish(const struct measure *measure, const void *state,
                                 struct arena *arena, struct value *out, const char **wide_text,
                                 struct error *error)
{
    (void)measure, (void)arena, (void)error;
    *wide_text = NULL;
    *out = ((const struct chosen *)state)->value.value;
    return STATUS_OK;
}

/* --- in SQL --- */

/* A state without a record has NULL everywhere; NULL comes last in each of these orders. */
#define FIRST_SQL "(array_agg({} ORDER BY {time}, {partition}, {offset}))[1]"
#define LAST_SQL                                                                                   \
    "(array_agg({} ORDER BY {time} DESC NULLS LAST, {partition} DESC, {offset} DESC))[1]"
#define LEAST_SQL "(array_agg({} ORDER BY {by}, {time}, {partition}, {offset}))[1]"
#define GREATEST_SQL                                                                               \
    "(array_agg({} ORDER BY {by} DESC NULLS LAST, {time}, {partition}, {offset}))[1]"

static const char *chosen_sql(const struct measure *measure)
{
    static const char *const texts[] = {
        [CHOICE_FIRST] = FIRST_SQL,
        [CHOICE_LAST] = LAST_SQL,
        [CHOICE_LEAST] = LEAST_SQL,
        [CHOICE_GREATEST] = GREATEST_SQL,
    };
    static const char *const of_decimals[] = {
        [CHOICE_FIRST] = "trim_scale(" FIRST_SQL ")",
        [CHOICE_LAST] = "trim_scale(" LAST_SQL ")",
        [CHOICE_LEAST] = "trim_scale(" LEAST_SQL ")",
        [CHOICE_GREATEST] = "trim_scale(" GREATEST_SQL ")",
    };
    bool is_decimal = measure->argument_type == VALUE_DECIMAL;
    return (is_decimal ? of_decimals : texts)[choice_of(measure)];
}

/* In a CASE a string literal has a type. Without a record whose `by` is not NULL the first of all
 * would be taken. */
static const char *chosen_oracle_sql(const struct measure *measure)
{
    static const char *const texts[] = {
        [CHOICE_FIRST] = "(array_agg(CASE WHEN true THEN {1}\n END ORDER BY _time_us, _partition, "
                         "_offset) {filter}\n)[1]",
        [CHOICE_LAST] = "(array_agg(CASE WHEN true THEN {1}\n END ORDER BY _time_us DESC, "
                        "_partition DESC, _offset DESC) {filter}\n)"
                        "[1]",
        [CHOICE_LEAST] = "CASE WHEN count(({2}\n)) {filter}\n > 0 THEN (array_agg(CASE WHEN true "
                         "THEN {1}\n END ORDER BY ({2}\n),"
                         " _time_us, _partition, _offset) {filter}\n)[1] END",
        [CHOICE_GREATEST] = "CASE WHEN count(({2}\n)) {filter}\n > 0 THEN (array_agg(CASE WHEN "
                            "true THEN {1}\n END ORDER BY ({2}\n)"
                            " DESC NULLS LAST, _time_us, _partition, _offset) {filter}\n)[1] END",
    };
    return texts[choice_of(measure)];
}

#define CHOSEN_FUNCTIONS                                                                           \
    .bind = chosen_bind, .init = chosen_init, .fold = chosen_fold, .merge = chosen_merge,          \
    .encode = chosen_encode, .decode = chosen_decode, .finish = chosen_finish, .sql = chosen_sql,  \
    .oracle_sql = chosen_oracle_sql

const struct measure_kind measure_first = {
    .name = "first",
    .help = "first(x): x of the first record by event time, even where it is NULL",
    CHOSEN_FUNCTIONS,
};

const struct measure_kind measure_last = {
    .name = "last",
    .help = "last(x): x of the last record by event time, even where it is NULL",
    CHOSEN_FUNCTIONS,
};

const struct measure_kind measure_arg_min = {
    .name = "arg_min",
    .help = "arg_min(x, by): x of the record with the least `by`, of several the first",
    CHOSEN_FUNCTIONS,
};

const struct measure_kind measure_arg_max = {
    .name = "arg_max",
    .help = "arg_max(x, by): x of the record with the greatest `by`, of several the first",
    CHOSEN_FUNCTIONS,
};
