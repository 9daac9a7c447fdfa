/* States of measures that somebody may have damaged: each one is refused, or it is a state like any
 * other: it can be finished, it is stored again as the same bytes, and merging stays commutative.
 *
 * Input: the measure; how many records are folded, and these; how many bytes of their encoded state
 * are damaged, and where and how; then the columns of a second state, as they come. So mutations
 * reach deep even where lengths and checks would make most random bytes be refused at once. */
#include "tests/fuzz/state.h"

#include "core/definitions/definition.h"

enum { MEASURES_MAX = 200, RECORDS_MAX = 160, DAMAGES_MAX = 4 };

static struct source *source;
static struct measure *measures[MEASURES_MAX];
static size_t measure_count;
static struct arena memory, scratch;
static struct error error;

void state_init(const char *const *texts, size_t count)
{
    source = fuzz_source(fuzz_source_json);
    FUZZ_CHECK(count <= MEASURES_MAX, "too many measures");
    for (size_t i = 0; i < count; i++)
        FUZZ_CHECK(measure_create(texts[i], source, &measures[i], &error) == STATUS_OK, "%s: %s",
                   texts[i], error.text);
    measure_count = count;
    arena_init(&memory);
    arena_init(&scratch);
}

static void *new_state(const struct measure *measure)
{
    void *state = arena_alloc(&memory, measure->state_bytes);
    if (state == NULL)
        abort();
    measure->kind->init(measure, state);
    return state;
}

/* --- bytes --- */

struct bytes {
    uint8_t *data;
    size_t length;
};

static struct bytes encode(const struct measure *measure, const void *state)
{
    struct pgbinary_writer writer;
    struct bytes bytes;
    pgbinary_writer_init(&writer);
    pgbinary_put_row(&writer, (int16_t)measure->column_count);
    FUZZ_CHECK(measure->kind->encode(measure, state, &writer, &error) == STATUS_OK &&
                   pgbinary_writer_check(&writer, &error) == STATUS_OK,
               "encode: %s", error.text);
    bytes.data = (uint8_t *)arena_copy(&memory, writer.data, writer.length);
    bytes.length = writer.length;
    pgbinary_writer_deinit(&writer);
    return bytes;
}

/* NULL where the fields are refused. */
static void *decode_fields(const struct measure *measure, const struct pgbinary_field *fields)
{
    void *state = new_state(measure);
    error = (struct error){0};
    enum status status = measure->kind->decode(measure, state, fields, &memory, &error);
    if (status == STATUS_OK)
        return state;
    FUZZ_CHECK(status == STATUS_FATAL, "a damaged state is refused with status %d", (int)status);
    fuzz_check_refusal(status, &error);
    return NULL;
}

static void *decode(const struct measure *measure, struct bytes bytes)
{
    struct pgbinary_field fields[MEASURE_COLUMN_MAX];
    uint8_t *copy = malloc(bytes.length + 1); /* on its own, so that reading beyond it is found */
    void *state = NULL;
    if (copy == NULL)
        abort();
    memcpy(copy, bytes.data, bytes.length);
    error = (struct error){0};
    enum status status =
        pgbinary_split_row(copy, bytes.length, fields, measure->column_count, &error);
    if (status == STATUS_OK)
        state = decode_fields(measure, fields);
    else
        fuzz_check_refusal(status, &error);
    memset(copy, 0xAA, bytes.length); /* what is kept must have been copied */
    free(copy);
    return state;
}

static bool same(struct bytes a, struct bytes b)
{
    return a.length == b.length && memcmp(a.data, b.data, a.length) == 0;
}

/* --- the properties --- */

static void finish(const struct measure *measure, const void *state)
{
    const char *wide = NULL;
    struct value value;
    error = (struct error){0};
    enum status status = measure->kind->finish(measure, state, &memory, &value, &wide, &error);
    if (status == STATUS_REJECT) { /* a set beyond its limit has no count */
        fuzz_check_refusal(status, &error);
        return;
    }
    FUZZ_CHECK(status == STATUS_OK, "finish: %s", error.text);
    if (wide == NULL && measure->result_type != VALUE_INTEGERS)
        fuzz_check_value(&value, measure->result_type);
}

/* NULL where merging is refused. */
static void *merge(const struct measure *measure, const void *a, const void *b)
{
    void *state = new_state(measure);
    error = (struct error){0};
    enum status status = measure->kind->merge(measure, state, a, &memory, &error);
    if (status == STATUS_OK)
        status = measure->kind->merge(measure, state, b, &memory, &error);
    if (status == STATUS_OK)
        return state;
    fuzz_check_refusal(status, &error);
    return NULL;
}

static void check_state(const struct measure *measure, const void *state)
{
    if (state == NULL)
        return;
    struct bytes once = encode(measure, state);
    void *again = decode(measure, once);
    FUZZ_CHECK(again != NULL, "%s refuses what it encoded: %s", measure->kind->name, error.text);
    FUZZ_CHECK(same(encode(measure, again), once), "%s: other bytes the second time",
               measure->kind->name);
    void *neutral = merge(measure, state, new_state(measure));
    FUZZ_CHECK(neutral != NULL && same(encode(measure, neutral), once),
               "%s: the empty state changes another", measure->kind->name);
    finish(measure, state);
}

static void check_merge(const struct measure *measure, const void *a, const void *b)
{
    if (a == NULL || b == NULL)
        return;
    void *forwards = merge(measure, a, b), *backwards = merge(measure, b, a);
    FUZZ_CHECK((forwards == NULL) == (backwards == NULL), "%s: one order is refused, one is not",
               measure->kind->name);
    if (forwards == NULL)
        return;
    /* Of two records at one offset neither comes first; no two states have one record, but what is
     * damaged may claim to. */
    const char *last = measure->columns[measure->column_count - 1].suffix;
    bool goes_by_offset = last != NULL && strcmp(last, "offset") == 0;
    FUZZ_CHECK(goes_by_offset || same(encode(measure, forwards), encode(measure, backwards)),
               "%s: merging is not commutative", measure->kind->name);
    check_state(measure, forwards);
}

/* --- from an input --- */

/* Where the input ends numbers go on that begin with `first`, so that few bytes give many records.
 */
static void *folded(const struct measure *measure, struct fuzz_input *input, size_t count,
                    int64_t first)
{
    void *state = new_state(measure);
    for (size_t i = 0; i < count; i++) {
        struct value fields[FUZZ_FIELDS];
        struct measure_input prepared;
        struct measure_origin origin = {.offset = first + (int64_t)i};
        if (input->length == 0) {
            for (size_t f = 0; f < FUZZ_FIELDS; f++)
                fields[f] = value_null(source->fields[f].type);
            fields[1] = value_integer((first + (int64_t)i) * 1000003);
            fields[2] = value_decimal(
                (struct decimal){.coefficient = (int128)(first + (int64_t)i) * 77, .scale = 2});
        } else {
            origin.time_us = fuzz_byte(input);
            for (size_t f = 0; f < FUZZ_FIELDS; f++)
                fields[f] = fuzz_value(input, source->fields[f].type, &memory);
        }
        error = (struct error){0};
        enum status status = measure_prepare(measure, fields, &scratch, &prepared, &error);
        if (status != STATUS_OK)
            fuzz_check_refusal(status, &error);
        else if (!prepared.skip)
            FUZZ_CHECK(measure->kind->fold(measure, state, prepared.arguments, &origin, &memory,
                                           &error) == STATUS_OK,
                       "fold: %s", error.text);
        arena_reset(&scratch);
    }
    return state;
}

static void *damaged(const struct measure *measure, const void *state, struct fuzz_input *input)
{
    struct bytes bytes = encode(measure, state);
    size_t count = fuzz_below(input, DAMAGES_MAX + 1);
    for (size_t i = 0; i < count; i++) {
        size_t at = fuzz_below(input, bytes.length);
        bytes.data[at] = (uint8_t)(bytes.data[at] + fuzz_byte(input));
    }
    return decode(measure, bytes);
}

/* A length (255: NULL, 254: the rest) before each column's bytes. */
static void *from_columns(const struct measure *measure, struct fuzz_input *input)
{
    struct pgbinary_field fields[MEASURE_COLUMN_MAX];
    for (size_t i = 0; i < measure->column_count; i++) {
        size_t length = fuzz_byte(input);
        struct fuzz_input column = fuzz_take(input, length == 255   ? 0
                                                    : length == 254 ? SIZE_MAX
                                                                    : length);
        char *copy = length == 255 ? NULL : malloc(column.length == 0 ? 1 : column.length);
        if (copy != NULL && column.length > 0)
            memcpy(copy, column.data, column.length);
        fields[i] = (struct pgbinary_field){.data = (uint8_t *)copy, .length = column.length};
    }
    void *state = decode_fields(measure, fields);
    for (size_t i = 0; i < measure->column_count; i++)
        free((void *)fields[i].data);
    return state;
}

void state_check_input(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    const struct measure *measure = measures[fuzz_below(&input, measure_count)];
    struct fuzz_input nothing = {NULL, 0};
    size_t count = fuzz_below(&input, RECORDS_MAX);
    void *whole = folded(measure, &input, count, 0);
    void *disjoint = folded(measure, &nothing, count, RECORDS_MAX);
    void *other = damaged(measure, whole, &input);
    void *made = from_columns(measure, &input);
    check_state(measure, whole);
    check_state(measure, other);
    check_state(measure, made);
    check_merge(measure, whole, disjoint);
    check_merge(measure, whole, other);
    check_merge(measure, whole, made);
    check_merge(measure, other, made);
    check_merge(measure, made, made);
    arena_reset(&memory);
}
