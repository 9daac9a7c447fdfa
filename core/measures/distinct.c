/* count(DISTINCT x), exact; count(DISTINCT x, limit) sets the bound, which is 10,000 otherwise.
 *
 * State: struct distinct, the set of values; or, beyond the bound, "overflowed". Monoid: union of
 * sets, with overflowed as its absorbing element. A set overflows when it has more than `limit`
 * values, or strings of more than STRING_BYTES_MAX together: both depend on the union alone, so
 * neither order nor split of the records shows. What a group of any size is refused is its count,
 * by finish, with the measure's name; nothing wrong is ever answered, and no memory is used beyond
 * it.
 *
 * In memory: open addressing with linear probing (Knuth, volume 3, 6.4, algorithm L), so that the
 * memory's order is any; stored: the values sorted, as an array of PostgreSQL, NULL for overflowed.
 * Timestamps are stored as microseconds, whose text has no time zone. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/measures/kinds.h"

enum {
    LIMIT_DEFAULT = 10000,
    LIMIT_MAX = 1000000,
    STRING_BYTES_MAX = 16777216, /* also in the text for SQL */
    SLOTS_AT_FIRST = 8,
};

struct entry {
    uint64_t hash;
    const void *data; /* NULL: free. A string's bytes, or value_key_encode's */
    size_t length;
};

struct distinct {
    struct entry *slots;
    size_t slot_count; /* 0 or a power of two */
    size_t count;
    size_t string_bytes;
    bool overflowed;
};

static int64_t limit_of(const struct measure *measure)
{
    return measure->parameter_count == 0 ? LIMIT_DEFAULT : measure->parameters[0].integer;
}

/* The element's type in PostgreSQL. */
static enum value_type stored_type(const struct measure *measure)
{
    return measure->argument_type == VALUE_TIMESTAMP ? VALUE_INTEGER : measure->argument_type;
}

static const char *distinct_sql(const struct measure *measure)
{
    return measure->sql_text;
}

static enum status distinct_bind(struct measure *measure, struct error *error)
{
    static const struct measure_column columns[] = {
        [VALUE_STRING] = {.oid = PG_OID_TEXT_ARRAY, .sql_type = "text[]"},
        [VALUE_INTEGER] = {.oid = PG_OID_INT8_ARRAY, .sql_type = "bigint[]"},
        [VALUE_DECIMAL] = {.oid = PG_OID_NUMERIC_ARRAY, .sql_type = "numeric[]"},
        [VALUE_BOOLEAN] = {.oid = PG_OID_BOOL_ARRAY, .sql_type = "boolean[]"},
    };
    const struct value *limit = &measure->parameters[0];

    if (measure->argument_count != 1 || measure->parameter_count > 1 || measure->has_array) {
        return error_set(error, STATUS_REJECT, "DISTINCT wants one argument, and may have a limit");
    }
    if (measure->parameter_count == 1 && (limit->type != VALUE_INTEGER || limit->is_null ||
                                          limit->integer < 1 || limit->integer > LIMIT_MAX)) {
        return error_set(error, STATUS_REJECT,
                         "the limit of DISTINCT is a whole number from 1 to %d", LIMIT_MAX);
    }
    measure->result_type = VALUE_INTEGER;
    measure->state_bytes = sizeof(struct distinct);
    measure->columns[0] = columns[stored_type(measure)];
    measure->column_count = 1;
    measure->sql_text = measure_text(
        measure, "dovetail_internal.distinct_count(array_agg({}::text), %lld, %s, {'})",
        (long long)limit_of(measure), measure->argument_type == VALUE_STRING ? "16777216" : "NULL");
    return measure->sql_text == NULL ? error_no_memory(error) : STATUS_OK;
}

static void distinct_init(const struct measure *measure, void *state)
{
    (void)measure;
    *(struct distinct *)state = (struct distinct){0};
}

/* The salt is an address, which the loader randomises: a producer cannot choose what collides. */
static uint64_t hash_of(const void *data, size_t length)
{
    static const char salt;
    return XXH3_64bits_withSeed(data, length, (uint64_t)(uintptr_t)&salt);
}

/* The slot that has the value, or the free one where it belongs. */
static struct entry *find(const struct distinct *set, uint64_t hash, const void *data,
                          size_t length)
{
    size_t mask = set->slot_count - 1;

    for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
        struct entry *entry = &set->slots[i];
        if (entry->data == NULL || (entry->hash == hash && entry->length == length &&
                                    memcmp(entry->data, data, length) == 0)) {
            return entry;
        }
    }
}

static enum status grow(struct distinct *set, struct arena *arena, struct error *error)
{
    struct distinct larger = *set;

    larger.slot_count = set->slot_count == 0 ? SLOTS_AT_FIRST : set->slot_count * 2;
    larger.slots = arena_alloc(arena, larger.slot_count * sizeof *larger.slots);
    if (larger.slots == NULL) {
        return error_no_memory(error);
    }
    memset(larger.slots, 0, larger.slot_count * sizeof *larger.slots);
    for (size_t i = 0; i < set->slot_count; i++) {
        const struct entry *entry = &set->slots[i];
        if (entry->data != NULL) {
            *find(&larger, entry->hash, entry->data, entry->length) = *entry;
        }
    }
    *set = larger;
    return STATUS_OK;
}

static enum status add(const struct measure *measure, struct distinct *set, const void *data,
                       size_t length, uint64_t hash, struct arena *arena, struct error *error)
{
    if (set->overflowed || (set->slot_count > 0 && find(set, hash, data, length)->data != NULL)) {
        return STATUS_OK;
    }
    size_t string_bytes = set->string_bytes + (measure->argument_type == VALUE_STRING ? length : 0);
    if ((int64_t)set->count == limit_of(measure) || string_bytes > STRING_BYTES_MAX) {
        *set = (struct distinct){.overflowed = true};
        return STATUS_OK;
    }
    if (set->count >= set->slot_count / 4 * 3) {
        enum status status = grow(set, arena, error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    const char *copy = arena_copy(arena, data, length);
    if (copy == NULL) {
        return error_no_memory(error);
    }
    *find(set, hash, data, length) = (struct entry){.hash = hash, .data = copy, .length = length};
    set->count++;
    set->string_bytes = string_bytes;
    return STATUS_OK;
}

static enum status add_value(const struct measure *measure, struct distinct *set,
                             const struct value *value, struct arena *arena, struct error *error)
{
    uint8_t bytes[VALUE_KEY_FIXED_BYTES];

    if (value->type == VALUE_STRING) {
        const char *data = value->string.length == 0 ? "" : value->string.data;
        return add(measure, set, data, value->string.length, hash_of(data, value->string.length),
                   arena, error);
    }
    size_t length = value_key_encode(value, bytes);
    return add(measure, set, bytes, length, hash_of(bytes, length), arena, error);
}

static enum status distinct_fold(const struct measure *measure, void *state,
                                 const struct value *arguments, const struct measure_origin *origin,
                                 struct arena *arena, struct error *error)
{
    (void)origin;
    return arguments[0].is_null ? STATUS_OK
                                : add_value(measure, state, &arguments[0], arena, error);
}

static enum status distinct_merge(const struct measure *measure, void *into, const void *from,
                                  struct arena *arena, struct error *error)
{
    struct distinct *set = into;
    const struct distinct *other = from;
    enum status status = STATUS_OK;

    if (other->overflowed) {
        *set = (struct distinct){.overflowed = true};
    }
    for (size_t i = 0; i < other->slot_count && status == STATUS_OK; i++) {
        const struct entry *entry = &other->slots[i];
        if (entry->data != NULL) {
            status = add(measure, set, entry->data, entry->length, entry->hash, arena, error);
        }
    }
    return status;
}

static struct value value_of(const struct measure *measure, const struct entry *entry)
{
    struct value value;

    if (measure->argument_type == VALUE_STRING) {
        return value_string(entry->data, entry->length);
    }
    (void)value_key_decode(stored_type(measure), entry->data, &value);
    return value;
}

static int compare_values(const void *a, const void *b)
{
    return value_compare(a, b);
}

static enum status distinct_encode(const struct measure *measure, const void *state,
                                   struct pgbinary_writer *writer, struct error *error)
{
    const struct distinct *set = state;
    size_t count = 0;

    if (set->overflowed) {
        pgbinary_put_null(writer);
        return STATUS_OK;
    }
    struct value *values = aligned_alloc(16, (set->count + 1) * sizeof *values);
    if (values == NULL) {
        return error_no_memory(error);
    }
    for (size_t i = 0; i < set->slot_count; i++) {
        if (set->slots[i].data != NULL) {
            values[count++] = value_of(measure, &set->slots[i]);
        }
    }
    qsort(values, count, sizeof *values, compare_values);
    size_t begun = pgbinary_array_begin(writer, value_type_oid(stored_type(measure)), count);
    for (size_t i = 0; i < count; i++) {
        pgbinary_put_value(writer, &values[i]);
    }
    pgbinary_array_end(writer, begun);
    free(values);
    return STATUS_OK;
}

/* A decimal that is not trimmed is not what encode writes. */
static bool is_canonical(const struct value *value)
{
    return value->type != VALUE_DECIMAL ||
           decimal_trim(&value->decimal).scale == value->decimal.scale;
}

static enum status distinct_decode(const struct measure *measure, void *state,
                                   const struct pgbinary_field *fields, struct arena *arena,
                                   struct error *error)
{
    enum value_type type = stored_type(measure);
    struct distinct *set = state;
    struct pgbinary_array array;
    struct pgbinary_field element;
    struct value previous = value_null(type), value;

    if (fields[0].data == NULL) {
        set->overflowed = true;
        return STATUS_OK;
    }
    enum status status = pgbinary_get_array(&fields[0], value_type_oid(type), &array, error);
    while (status == STATUS_OK && array.count > 0) {
        status = pgbinary_array_next(&array, &element, error);
        status =
            status == STATUS_OK ? pgbinary_get_event_value(&element, type, &value, error) : status;
        if (status == STATUS_OK && (!is_canonical(&value) ||
                                    (!previous.is_null && value_compare(&previous, &value) >= 0))) {
            return error_set(error, STATUS_FATAL, "stored state: a set that is not in order");
        }
        status = status == STATUS_OK ? add_value(measure, set, &value, arena, error) : status;
        previous = value;
    }
    if (status == STATUS_OK && set->overflowed) {
        return error_set(error, STATUS_FATAL, "stored state: a set beyond its limit");
    }
    return status;
}

static enum status distinct_finish(const struct measure *measure, const void *state,
                                   struct arena *arena, struct value *out, const char **wide_text,
                                   struct error *error)
{
    const struct distinct *set = state;

    (void)arena;
    *wide_text = NULL;
    if (set->overflowed) {
        return error_set(error, STATUS_REJECT,
                         "a group has more than %lld distinct values%s; leave the measure or the "
                         "group out, define it with a higher limit, count(DISTINCT x, limit), or "
                         "use approx_count_distinct(x)",
                         (long long)limit_of(measure),
                         measure->argument_type == VALUE_STRING ? ", or 16 MiB of them" : "");
    }
    *out = value_integer((int64_t)set->count);
    return STATUS_OK;
}

static const char *distinct_oracle_sql(const struct measure *measure)
{
    (void)measure;
    return "count(DISTINCT {1}) {filter}";
}

const struct measure_kind measure_count_distinct = {
    .name = "count",
    .help = "count(DISTINCT x): how many different values; exact, up to 10,000 or the limit that "
            "count(DISTINCT x, limit) sets",
    .distinct = true,
    .first_parameter = 1,
    .bind = distinct_bind,
    .init = distinct_init,
    .fold = distinct_fold,
    .merge = distinct_merge,
    .encode = distinct_encode,
    .decode = distinct_decode,
    .finish = distinct_finish,
    .sql = distinct_sql,
    .oracle_sql = distinct_oracle_sql,
};
