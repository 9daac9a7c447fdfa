/* The monoid of every measure, as a property: whatever records there are, however they are split
 * among states, in whatever order these are merged, directly or through stored bytes, the state is
 * the same to the encoded byte. And what is stored may be damaged: it is refused, or it is a state
 * that encodes again.
 *
 * DOVETAIL_SEED repeats a run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/definitions/definition.h"
#include "tests/support/measure_texts.h"

enum { FIELDS = 5 };
enum { ROUNDS = 300, RECORDS_MAX = 40, STATES_MAX = 8, MUTATIONS = 60, LONG_TEXT = 5000 };

static uint64_t random_state; /* splitmix64 (Steele, Lea, Flood, 2014) */
static struct source *source;
static struct arena scratch, memory;
static struct error error;
static char long_text[LONG_TEXT];

static uint64_t next_random(void)
{
    uint64_t z = random_state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static size_t below(size_t bound)
{
    return (size_t)(next_random() % bound);
}

static void must(enum status status)
{
    if (status != STATUS_OK) {
        fail_msg("%s", error.text);
    }
}

static int set_up(void **state)
{
    (void)state;
    json_t *json = json_loads(measure_source_json, 0, NULL);
    must(source_create(json, "source", &source, &error));
    json_decref(json);
    arena_init(&scratch);
    arena_init(&memory);
    memset(long_text, 'z', sizeof long_text);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    source_destroy(source);
    arena_deinit(&scratch);
    arena_deinit(&memory);
    return 0;
}

/* --- records --- */

static struct decimal random_decimal(void)
{
    static const int128 ten = 10;
    int128 coefficient = (int128)(int64_t)next_random();
    struct decimal decimal = {.scale = (int32_t)below(39)};

    if (below(4) == 0) { /* up to 38 digits */
        coefficient *= 1000000000000000000;
        for (int i = 0; i < 20; i++) {
            coefficient += below(2) ? 0 : (int128)below(1000);
        }
    } else if (below(2)) { /* few digits at few scales: equal values of unequal scales */
        coefficient %= 20;
        decimal.scale = (int32_t)below(4);
        for (int32_t i = 0; i < decimal.scale; i++) {
            coefficient *= below(2) ? ten : 1;
        }
    }
    decimal.coefficient = coefficient;
    return decimal;
}

static struct value random_value(enum value_type type)
{
    static const char *const strings[] = {"",
                                          "a",
                                          "b",
                                          "ab",
                                          "\xC3\xA9",
                                          "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                          "aaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    static const int64_t integers[] = {INT64_MAX, INT64_MIN, 0, 1, -1};

    if (below(6) == 0) {
        return value_null(type);
    }
    switch (type) {
    case VALUE_STRING: {
        if (below(5) == 0) {
            return value_string(long_text, below(sizeof long_text));
        }
        const char *text = strings[below(6)];
        return value_string(text, strlen(text));
    }
    case VALUE_INTEGER:
        return value_integer(below(2) ? integers[below(5)] : (int64_t)next_random());
    case VALUE_DECIMAL:
        return value_decimal(random_decimal());
    case VALUE_BOOLEAN:
        return value_boolean(below(2));
    case VALUE_TIMESTAMP:
        return value_timestamp((int64_t)(next_random() % 2000000000000000u) - 1000000000000000);
    case VALUE_INTEGERS:
        break;
    }
    return value_null(type);
}

/* --- states --- */

struct record {
    struct value fields[FIELDS];
    struct measure_origin origin;
};

/* Few times and partitions, so that ties go to partition and offset. */
static void random_record(struct record *record, int64_t offset)
{
    for (size_t f = 0; f < FIELDS; f++) {
        record->fields[f] = random_value(source->fields[f].type);
    }
    record->origin = (struct measure_origin){
        .time_us = (int64_t)below(3) - 1, .partition = (int32_t)below(3), .offset = offset};
}

static void *new_state(const struct measure *measure)
{
    void *state = arena_alloc(&memory, measure->state_bytes);
    assert_non_null(state);
    measure->kind->init(measure, state);
    return state;
}

/* False where an expression fails on the record: then it belongs to no state. */
static bool fold(const struct measure *measure, void *state, const struct record *record)
{
    struct measure_input input;

    arena_reset(&scratch);
    enum status status = measure_prepare(measure, record->fields, &scratch, &input, &error);
    if (status == STATUS_OK && !input.skip) {
        must(
            measure->kind->fold(measure, state, input.arguments, &record->origin, &memory, &error));
    }
    assert_true(status == STATUS_OK || status == STATUS_REJECT);
    return status == STATUS_OK;
}

struct bytes {
    char *data;
    size_t length;
};

static struct bytes encode(const struct measure *measure, const void *state)
{
    struct pgbinary_writer writer;
    struct bytes bytes;

    pgbinary_writer_init(&writer);
    pgbinary_put_row(&writer, (int16_t)measure->column_count);
    must(measure->kind->encode(measure, state, &writer, &error));
    must(pgbinary_writer_check(&writer, &error));
    bytes.data = arena_copy(&memory, writer.data, writer.length);
    bytes.length = writer.length;
    assert_non_null(bytes.data);
    pgbinary_writer_deinit(&writer);
    return bytes;
}

/* NULL where the bytes are refused. */
static void *try_decode(const struct measure *measure, struct bytes bytes)
{
    struct pgbinary_field fields[MEASURE_COLUMN_MAX];
    /* of its exact size, so that a byte read beyond its end is found */
    uint8_t *copy = malloc(bytes.length == 0 ? 1 : bytes.length);
    void *state = new_state(measure);

    assert_non_null(copy);
    memcpy(copy, bytes.data, bytes.length);
    enum status status =
        pgbinary_split_row(copy, bytes.length, fields, measure->column_count, &error);
    if (status == STATUS_OK) {
        status = measure->kind->decode(measure, state, fields, &memory, &error);
    }
    memset(copy, 0xAA, bytes.length); /* strings must have been copied */
    free(copy);
    if (status != STATUS_OK) {
        assert_int_equal(status, STATUS_FATAL);
        assert_true(strlen(error.text) > 0);
        return NULL;
    }
    return state;
}

static void same_bytes(const struct measure *measure, const char *what, struct bytes a,
                       struct bytes b, const char *text)
{
    (void)measure;
    if (a.length != b.length || memcmp(a.data, b.data, a.length) != 0) {
        fail_msg("%s: %s gives another state", text, what);
    }
}

static void *merged(const struct measure *measure, const void *a, const void *b)
{
    void *state = new_state(measure);
    must(measure->kind->merge(measure, state, a, &memory, &error));
    must(measure->kind->merge(measure, state, b, &memory, &error));
    return state;
}

/* The result as text. */
static const char *finished(const struct measure *measure, const void *state)
{
    const char *wide = NULL;
    struct value value;

    enum status status = measure->kind->finish(measure, state, &memory, &value, &wide, &error);
    if (status == STATUS_REJECT) { /* a set beyond its limit has no count */
        return "refused";
    }
    must(status);
    if (wide != NULL) {
        return wide;
    }
    assert_int_equal(value.type, measure->result_type);
    return value.is_null ? "NULL" : value_text(&value, &memory, NULL);
}

/* --- the properties --- */

static void check_monoid(const struct measure *measure, const char *text)
{
    struct record records[RECORDS_MAX];
    size_t count = below(RECORDS_MAX + 1), state_count = 1 + below(STATES_MAX);
    void *states[STATES_MAX], *whole = new_state(measure);

    for (size_t i = 0; i < state_count; i++) {
        states[i] = new_state(measure);
    }
    for (size_t i = 0; i < count; i++) {
        random_record(&records[i], (int64_t)i);
        if (fold(measure, whole, &records[i])) {
            assert_true(fold(measure, states[below(state_count)], &records[i]));
        }
    }
    struct bytes expected = encode(measure, whole);

    /* folding backwards */
    void *backwards = new_state(measure);
    for (size_t i = count; i-- > 0;) {
        (void)fold(measure, backwards, &records[i]);
    }
    same_bytes(measure, "another order of records", encode(measure, backwards), expected, text);

    /* associative, commutative, neutral */
    const void *a = states[0], *b = states[below(state_count)], *c = states[below(state_count)];
    const void *none = new_state(measure);
    same_bytes(measure, "a+b against b+a", encode(measure, merged(measure, a, b)),
               encode(measure, merged(measure, b, a)), text);
    same_bytes(measure, "(a+b)+c against a+(b+c)",
               encode(measure, merged(measure, merged(measure, a, b), c)),
               encode(measure, merged(measure, a, merged(measure, b, c))), text);
    same_bytes(measure, "0+a", encode(measure, merged(measure, none, a)), encode(measure, a), text);
    same_bytes(measure, "a+0", encode(measure, merged(measure, a, none)), encode(measure, a), text);

    /* all parts, in random order, some of them through their stored bytes */
    void *total = new_state(measure);
    for (size_t left = state_count; left > 0; left--) {
        size_t i = below(left);
        void *part = states[i];
        states[i] = states[left - 1];
        if (below(2)) {
            part = try_decode(measure, encode(measure, part));
            assert_non_null(part);
        }
        must(measure->kind->merge(measure, total, part, &memory, &error));
    }
    same_bytes(measure, "another split", encode(measure, total), expected, text);
    assert_string_equal(finished(measure, total), finished(measure, whole));

    /* round trip */
    void *again = try_decode(measure, expected);
    assert_non_null(again);
    same_bytes(measure, "encode, decode", encode(measure, again), expected, text);
    assert_string_equal(finished(measure, again), finished(measure, whole));
}

/* Damaged bytes are refused, or they are a state: it encodes, and what it encodes is stable. */
static void check_damage(const struct measure *measure, const char *text)
{
    void *state = new_state(measure);
    struct record record;

    for (int i = 0; i < 5; i++) {
        random_record(&record, i);
        (void)fold(measure, state, &record);
    }
    struct bytes good = encode(measure, state);
    for (int i = 0; i < MUTATIONS; i++) {
        struct bytes bad = {.data = arena_copy(&memory, good.data, good.length),
                            .length = good.length};
        size_t changes = 1 + below(3);
        if (below(3) == 0) {
            bad.length = below(good.length);
        }
        for (size_t c = 0; c < changes && bad.length > 0 && below(4) != 0; c++) {
            /* mostly at the beginning, where lengths and headers are */
            size_t at = below(2) ? below(bad.length) : below(bad.length < 24 ? bad.length : 24);
            bad.data[at] =
                (char)(below(2) ? next_random() : (uint64_t)bad.data[at] ^ 1u << below(8));
        }
        void *other = try_decode(measure, bad);
        if (other != NULL) {
            struct bytes once = encode(measure, other);
            void *again = try_decode(measure, once);
            assert_non_null(again);
            same_bytes(measure, "a damaged state", encode(measure, again), once, text);
            (void)finished(measure, other);
            /* merging may refuse (a sum that overflows), but must not crash */
            if (measure->kind->merge(measure, other, again, &memory, &error) == STATUS_OK) {
                (void)encode(measure, other);
                (void)finished(measure, other);
            }
        }
    }
}

static void each_measure(void (*check)(const struct measure *, const char *))
{
    for (size_t i = 0; i < MEASURE_TEXTS; i++) {
        struct measure *measure;
        must(measure_create(measure_texts[i], source, &measure, &error));
        for (int round = 0; round < ROUNDS; round++) {
            check(measure, measure_texts[i]);
            arena_reset(&memory);
        }
        measure_destroy(measure);
    }
}

static void test_states_are_commutative_monoids(void **state)
{
    (void)state;
    each_measure(check_monoid);
}

static void test_damaged_states(void **state)
{
    (void)state;
    each_measure(check_damage);
}

/* A kind that is added without being put into measure_texts would not be tested. */
static void test_every_kind_is_tested(void **state)
{
    (void)state;
    for (size_t k = 0; measure_kinds()[k] != NULL; k++) {
        const char *name = measure_kinds()[k]->name;
        bool found = false;
        for (size_t i = 0; i < MEASURE_TEXTS; i++) {
            size_t length = strlen(name);
            found = found || (strncmp(measure_texts[i], name, length) == 0 &&
                              measure_texts[i][length] == '(');
        }
        if (!found) {
            fail_msg("no text of \"%s\"", name);
        }
        assert_true(strlen(measure_kinds()[k]->help) > 0);
    }
}

/* --- fixed cases --- */

static const char *result_of(const char *text, const struct record *records, size_t count)
{
    struct measure *measure;

    must(measure_create(text, source, &measure, &error));
    void *state = new_state(measure);
    for (size_t i = 0; i < count; i++) {
        assert_true(fold(measure, state, &records[i]));
    }
    const char *result = finished(measure, state);
    result = arena_copy(&memory, result, strlen(result));
    measure_destroy(measure);
    return result;
}

static struct record decimal_record(const char *text)
{
    struct record record = {.fields = {value_null(VALUE_TIMESTAMP), value_null(VALUE_INTEGER),
                                       value_null(VALUE_DECIMAL), value_null(VALUE_STRING),
                                       value_null(VALUE_BOOLEAN)}};
    if (text != NULL) {
        must(value_parse(VALUE_DECIMAL, text, strlen(text), &record.fields[2], &error));
    }
    return record;
}

static void test_results(void **state)
{
    (void)state;
    const struct record records[] = {decimal_record("0.1"), decimal_record(NULL),
                                     decimal_record("0.20"), decimal_record("0.3000")};
    assert_string_equal(result_of("count(*)", records, 4), "4");
    assert_string_equal(result_of("count(d)", records, 4), "3");
    assert_string_equal(result_of("sum(d)", records, 4), "0.6");
    assert_string_equal(result_of("avg(d)", records, 4), "0.2");
    assert_string_equal(result_of("min(d)", records, 4), "0.1");
    assert_string_equal(result_of("max(d)", records, 4), "0.3");
    assert_string_equal(result_of("avg(d) FILTER (WHERE d > 0.1)", records, 4), "0.25");
    assert_string_equal(result_of("count(*)", records, 0), "0");
    assert_string_equal(result_of("sum(d)", records, 0), "NULL");
    assert_string_equal(result_of("avg(d)", records + 1, 1), "NULL");
    assert_string_equal(result_of("min(s)", records, 4), "NULL");
    assert_string_equal(result_of("sum(i)", records, 4), "NULL");
}

/* Over integers and over decimals of scale 0 a sum takes different ways to the same bytes. */
static void test_integers_and_decimals_agree(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"var_pop(i)", "var_pop(i * 1e0)"},
        {"var_samp(i % 10)", "var_samp((i % 10) * 1e0)"},
        {"stddev_pop(i % 1000)", "stddev_pop((i % 1000) * 1e0)"},
        {"stddev(i)", "stddev(i * 1e0)"},
        {"covar_pop(i, i % 1000)", "covar_pop(i * 1e0, i % 1000)"},
        {"covar_samp(i, i % 7)", "covar_samp(i, (i % 7) * 1e0)"},
        {"corr(i % 5, i % 7)", "corr(i % 5, (i % 7) * 1e0)"},
        {"regr_r2(i % 5, i % 3)", "regr_r2((i % 5) * 1e0, i % 3)"},
        {"regr_slope(i, i % 100)", "regr_slope(i * 1e0, i % 100)"},
        {"regr_intercept(i, i % 100)", "regr_intercept(i * 1e0, i % 100)"},
        {"regr_syy(i, i % 100)", "regr_syy(i * 1e0, i % 100)"},
    };
    for (size_t p = 0; p < sizeof pairs / sizeof pairs[0]; p++) {
        struct measure *narrow;
        struct measure *wide;
        must(measure_create(pairs[p][0], source, &narrow, &error));
        must(measure_create(pairs[p][1], source, &wide, &error));
        for (int round = 0; round < ROUNDS; round++) {
            void *a = new_state(narrow);
            void *b = new_state(wide);
            for (size_t i = below(RECORDS_MAX); i > 0; i--) {
                struct record record;
                random_record(&record, (int64_t)i);
                assert_true(fold(narrow, a, &record));
                assert_true(fold(wide, b, &record));
            }
            same_bytes(narrow, "the way over decimals", encode(wide, b), encode(narrow, a),
                       pairs[p][0]);
            assert_string_equal(finished(wide, b), finished(narrow, a));
            arena_reset(&memory);
        }
        measure_destroy(narrow);
        measure_destroy(wide);
    }
}

static struct record pair_record(int64_t i, const char *d)
{
    struct record record = decimal_record(d);
    record.fields[1] = value_integer(i);
    return record;
}

static void test_variances(void **state)
{
    (void)state;
    const struct record records[] = {decimal_record("1"), decimal_record("2"), decimal_record(NULL),
                                     decimal_record("3"), decimal_record("4.0")};
    assert_string_equal(result_of("var_pop(d)", records, 5), "1.25");
    assert_string_equal(result_of("var_samp(d)", records, 5), "1.6666666666666667");
    assert_string_equal(result_of("variance(d)", records, 5), "1.6666666666666667");
    assert_string_equal(result_of("stddev_pop(d)", records, 5), "1.1180339887498948");
    assert_string_equal(result_of("stddev_samp(d)", records, 5), "1.2909944487358056");
    assert_string_equal(result_of("stddev(d)", records, 5), "1.2909944487358056");
    assert_string_equal(result_of("var_pop(d)", records, 1), "0");
    assert_string_equal(result_of("var_samp(d)", records, 1), "NULL");
    assert_string_equal(result_of("stddev(d)", records, 1), "NULL");
    assert_string_equal(result_of("stddev_pop(d)", records, 1), "0");
    assert_string_equal(result_of("var_pop(d)", records + 2, 1), "NULL");
}

/* Where sums of squares are widest. */
static void test_variances_of_the_widest(void **state)
{
    (void)state;
    static const char nines[] = "99999999999999999999999999999999999999";
    const struct record records[] = {
        pair_record(INT64_MIN, nines),
        pair_record(INT64_MAX, "-99999999999999999999999999999999999999"),
        pair_record(0, "0.00000000000000000000000000000000000001")};
    assert_string_equal(result_of("var_pop(i)", records, 2),
                        "85070591730234615856620279821087277056");
    assert_string_equal(result_of("stddev_pop(i)", records, 2), "9223372036854775807");
    assert_string_equal(
        result_of("var_pop(d)", records, 2),
        "9999999999999999999999999999999999999800000000000000000000000000000000000001");
    assert_string_equal(result_of("regr_sxx(i, d)", records + 2, 1), "0");
    assert_string_equal(
        result_of("var_pop(d)", records, 3),
        "6666666666666666666666666666666666666533333333333333333333333333333333333334");
}

static void test_regressions(void **state)
{
    (void)state;
    /* y = 2x + 1 but for the last; a pair with a NULL counts nowhere */
    const struct record records[] = {pair_record(1, "3"), pair_record(2, "5"), pair_record(9, NULL),
                                     pair_record(3, "7"), pair_record(4, "9.5")};
    assert_string_equal(result_of("regr_count(d, i)", records, 5), "4");
    assert_string_equal(result_of("regr_avgx(d, i)", records, 5), "2.5");
    assert_string_equal(result_of("regr_avgy(d, i)", records, 5), "6.125");
    assert_string_equal(result_of("regr_sxx(d, i)", records, 5), "5");
    assert_string_equal(result_of("regr_syy(d, i)", records, 5), "23.1875");
    assert_string_equal(result_of("regr_sxy(d, i)", records, 5), "10.75");
    assert_string_equal(result_of("covar_pop(d, i)", records, 5), "2.6875");
    assert_string_equal(result_of("covar_samp(d, i)", records, 5), "3.5833333333333333");
    assert_string_equal(result_of("regr_slope(d, i)", records, 5), "2.15");
    assert_string_equal(result_of("regr_intercept(d, i)", records, 5), "0.75");
    assert_string_equal(result_of("regr_slope(d, i)", records, 4), "2");
    assert_string_equal(result_of("regr_intercept(d, i)", records, 4), "1");
    assert_string_equal(result_of("regr_r2(d, i)", records, 4), "1");
    assert_string_equal(result_of("corr(d, i)", records, 4), "1");
    assert_string_equal(result_of("corr(-d, i)", records, 4), "-1");
    assert_memory_equal(result_of("corr(d, i)", records, 5), "0.998381", 8);
    /* flat in y: PostgreSQL says 1 and NULL; flat in x: NULL */
    assert_string_equal(result_of("regr_r2(i % 1, i)", records, 5), "1");
    assert_string_equal(result_of("corr(i % 1, i)", records, 5), "NULL");
    assert_string_equal(result_of("regr_slope(i % 1, i)", records, 5), "0");
    assert_string_equal(result_of("regr_r2(i, i % 1)", records, 5), "NULL");
    assert_string_equal(result_of("regr_slope(i, i % 1)", records, 5), "NULL");
    assert_string_equal(result_of("regr_intercept(i, i % 1)", records, 5), "NULL");
    /* one pair, none */
    assert_string_equal(result_of("covar_samp(d, i)", records, 1), "NULL");
    assert_string_equal(result_of("covar_pop(d, i)", records, 1), "0");
    assert_string_equal(result_of("regr_sxy(d, i)", records, 1), "0");
    assert_string_equal(result_of("regr_count(d, i)", records + 2, 1), "0");
    assert_string_equal(result_of("regr_avgx(d, i)", records + 2, 1), "NULL");
    assert_string_equal(result_of("regr_sxx(d, i)", records + 2, 1), "NULL");
}

static void test_chosen_records(void **state)
{
    (void)state;
    struct record records[] = {pair_record(5, "1.50"), pair_record(2, NULL), pair_record(7, "1.5"),
                               pair_record(2, "0.1"), pair_record(9, NULL)};
    const struct measure_origin origins[] = {{.time_us = 20, .partition = 1, .offset = 0},
                                             {.time_us = 10, .partition = 2, .offset = 7},
                                             {.time_us = 20, .partition = 0, .offset = 9},
                                             {.time_us = 10, .partition = 2, .offset = 8},
                                             {.time_us = 20, .partition = 1, .offset = 1}};
    for (size_t i = 0; i < 5; i++) {
        records[i].origin = origins[i];
    }
    assert_string_equal(result_of("first(i)", records, 5), "2");
    assert_string_equal(result_of("first(d)", records, 5), "NULL"); /* of the first record */
    assert_string_equal(result_of("first(d) FILTER (WHERE d IS NOT NULL)", records, 5), "0.1");
    assert_string_equal(result_of("last(i)", records, 5), "9"); /* by offset */
    assert_string_equal(result_of("last(d)", records, 5), "NULL");
    assert_string_equal(result_of("last(d) FILTER (WHERE d IS NOT NULL)", records, 5), "1.5");
    assert_string_equal(result_of("last(i)", records, 3), "5");          /* by partition */
    assert_string_equal(result_of("arg_max(i, d)", records, 5), "7");    /* 1.50 and 1.5 tie */
    assert_string_equal(result_of("arg_min(d, i)", records, 5), "NULL"); /* ties: the first */
    assert_string_equal(result_of("arg_min(i, d)", records, 5), "2");
    assert_string_equal(result_of("arg_max(d, i)", records, 4), "1.5");
    assert_string_equal(result_of("arg_max(i, d)", records + 4, 1), "NULL");
    assert_string_equal(result_of("first(i)", records, 0), "NULL");
}

/* A sum has room for more digits than a value has. */
static void test_wide_sum(void **state)
{
    (void)state;
    static const char nines[] = "99999999999999999999999999999999999999";
    const struct record records[] = {decimal_record(nines), decimal_record(nines),
                                     decimal_record("0.00000000000000000000000000000000000001")};
    assert_string_equal(result_of("sum(d)", records, 3), "199999999999999999999999999999999999998."
                                                         "00000000000000000000000000000000000001");
    assert_string_equal(result_of("max(d)", records, 3), nines);
}

static void test_sum_of_the_largest_integers(void **state)
{
    (void)state;
    struct record records[3];
    for (int i = 0; i < 3; i++) {
        records[i] = decimal_record(NULL);
        records[i].fields[1] = value_integer(INT64_MIN);
    }
    assert_string_equal(result_of("sum(i)", records, 3), "-27670116110564327424");
    assert_string_equal(result_of("avg(i)", records, 3), "-9223372036854775808");
}

static void test_calls_that_are_refused(void **state)
{
    (void)state;
    static const char *const refused[][2] = {
        {"sum(*)", "column 1: sum: wants one argument, an integer or a decimal"},
        {"sum(s)", "column 1: sum: wants one argument, an integer or a decimal"},
        {"avg(i, d)", "column 1: avg: wants one argument, an integer or a decimal"},
        {"count(i, d)", "column 1: count: wants * or one argument"},
        {"min(b)", "column 1: min: has no meaning for booleans, as in SQL"},
        {"max(*)", "column 1: max: wants one argument"},
        {"count(", "column 7: wants a value, found the end"},
        {"count()", "column 7: wants a value, found )"},
        {"count(*", "column 8: wants ), found the end"},
        {"sum(DISTINCT i)", "column 5: sum(DISTINCT ...) is not supported"},
        {"sum(i) + 1", "column 8: the expression should end before \"+\""},
        {"sum(i) FILTER (b)", "column 16: wants where, found \"b\""},
        {"sum(i) FILTER (WHERE i)", "column 22: WHERE wants a boolean, found type integer"},
        {"sum(i) FILTER (WHERE b", "column 23: wants ), found the end"},
        {"bool_and(i)", "column 1: bool_and: wants one argument, a boolean"},
        {"bool_or(*)", "column 1: bool_or: wants one argument, a boolean"},
        {"var_pop(s)", "column 1: var_pop: wants one argument, an integer or a decimal"},
        {"stddev(i, d)", "column 1: stddev: wants one argument, an integer or a decimal"},
        {"corr(i)", "column 1: corr: wants two arguments (y, x), integers or decimals"},
        {"regr_count(i, s)",
         "column 1: regr_count: wants two arguments (y, x), integers or decimals"},
        {"first(*)", "column 1: first: wants one argument"},
        {"arg_min(s)", "column 1: arg_min: wants two arguments (x, by)"},
        {"max(i, i, i, i, i)", "column 17: more than 4 arguments"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct measure *measure = NULL;
        assert_int_equal(measure_create(refused[i][0], source, &measure, &error), STATUS_REJECT);
        assert_null(measure);
        assert_string_equal(error.text, refused[i][1]);
    }
}

static void test_unknown_measure_lists_the_known(void **state)
{
    (void)state;
    struct measure *measure;
    assert_int_equal(measure_create("median(i)", source, &measure, &error), STATUS_REJECT);
    assert_memory_equal(error.text, "column 1: wants a measure (count, sum, avg, ", 44);
    assert_non_null(strstr(error.text, "), found \"median\""));
    assert_int_equal(measure_create("", source, &measure, &error), STATUS_REJECT);
    assert_non_null(strstr(error.text, "), found \"\""));
}

int main(void)
{
    const char *given = getenv("DOVETAIL_SEED");
    random_state = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    printf("test_measures: DOVETAIL_SEED=%" PRIu64 "\n", random_state);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_states_are_commutative_monoids),
        cmocka_unit_test(test_damaged_states),
        cmocka_unit_test(test_every_kind_is_tested),
        cmocka_unit_test(test_results),
        cmocka_unit_test(test_integers_and_decimals_agree),
        cmocka_unit_test(test_variances),
        cmocka_unit_test(test_variances_of_the_widest),
        cmocka_unit_test(test_regressions),
        cmocka_unit_test(test_chosen_records),
        cmocka_unit_test(test_wide_sum),
        cmocka_unit_test(test_sum_of_the_largest_integers),
        cmocka_unit_test(test_calls_that_are_refused),
        cmocka_unit_test(test_unknown_measure_lists_the_known),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
