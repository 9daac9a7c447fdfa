/* Measures whose states are sets and sketches, where they are large: the monoid to the byte across
 * every change of representation and beyond limits, the stated errors against exact answers, stored
 * bytes that other programs read, and damage. (test_measures.c has the same measures over few
 * records, with every type.)
 *
 * DOVETAIL_SEED repeats a run. Errors are measured over fixed data: a bound that chance may exceed
 * would fail some day. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/definitions/definition.h"
#include "core/base/murmur3.h"

enum { STATES_MAX = 7, MUTATIONS = 400 };

static const char source_json[] =
    "{\"source\":\"s\",\"topic\":\"t\",\"event_time\":{\"field\":\"at\",\"format\":\"rfc3339\"},"
    "\"fields\":{\"at\":\"timestamp\",\"i\":\"integer\",\"d\":\"decimal\",\"s\":\"string\"}}";

enum { FIELD_AT, FIELD_I, FIELD_D, FIELD_S, FIELDS };

static uint64_t random_state; /* splitmix64 (Steele, Lea, Flood, 2014) */
static struct source *source;
static struct arena scratch, memory;
static struct error error;

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
    json_t *json = json_loads(source_json, 0, NULL);
    must(source_create(json, "source", &source, &error));
    json_decref(json);
    arena_init(&scratch);
    arena_init(&memory);
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

/* --- states --- */

static struct measure *measure_of(const char *text)
{
    struct measure *measure;
    must(measure_create(text, source, &measure, &error));
    return measure;
}

static void *new_state(const struct measure *measure)
{
    void *state = arena_alloc(&memory, measure->state_bytes);
    assert_non_null(state);
    measure->kind->init(measure, state);
    return state;
}

static void fold(const struct measure *measure, void *state, const struct value *fields)
{
    const struct measure_origin origin = {0};
    struct measure_input input;

    must(measure_prepare(measure, fields, &scratch, &input, &error));
    must(measure->kind->fold(measure, state, input.arguments, &origin, &memory, &error));
}

static void merge(const struct measure *measure, void *into, const void *from)
{
    must(measure->kind->merge(measure, into, from, &memory, &error));
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
    uint8_t *copy = malloc(bytes.length + (bytes.length == 0)); /* so that no byte beyond is read */
    void *state = new_state(measure);

    assert_non_null(copy);
    memcpy(copy, bytes.data, bytes.length);
    enum status status =
        pgbinary_split_row(copy, bytes.length, fields, measure->column_count, &error);
    status = status == STATUS_OK ? measure->kind->decode(measure, state, fields, &memory, &error)
                                 : status;
    memset(copy, 0xAA, bytes.length);
    free(copy);
    assert_true(status == STATUS_OK || status == STATUS_FATAL);
    return status == STATUS_OK ? state : NULL;
}

static void same_bytes(const char *what, struct bytes a, struct bytes b, const char *text)
{
    if (a.length != b.length || memcmp(a.data, b.data, a.length) != 0) {
        fail_msg("%s: %s gives another state", text, what);
    }
}

/* The result as text; "refused: ..." where there is none. */
static const char *finished(const struct measure *measure, const void *state)
{
    const char *wide = NULL;
    struct value value;

    enum status status = measure->kind->finish(measure, state, &memory, &value, &wide, &error);
    if (status != STATUS_OK) {
        assert_int_equal(status, STATUS_REJECT);
        char text[ERROR_TEXT_BYTES + 16];
        int length = snprintf(text, sizeof text, "refused: %s", error.text);
        return arena_copy(&memory, text, (size_t)length);
    }
    return wide != NULL ? wide : value.is_null ? "NULL" : value_text(&value, &memory, NULL);
}

/* --- values --- */

static struct decimal random_decimal(void)
{
    struct decimal decimal = {.coefficient = (int128)(next_random() % 1000000000),
                              .scale = (int32_t)below(39)};
    if (below(3) == 0) {
        decimal.coefficient *= (int128)10000000000000000 * (int128)(1 + below(1000000));
    }
    decimal.coefficient = below(2) ? decimal.coefficient : -decimal.coefficient;
    return decimal;
}

/* Record `number` of a stream in which every number means its own values. */
static void make_record(uint64_t number, struct value *fields)
{
    static char text[32];
    uint64_t saved = random_state;

    random_state = number * 0x2545F4914F6CDD1Du;
    int length = snprintf(text, sizeof text, "v%" PRIu64, number);
    fields[FIELD_AT] = value_timestamp((int64_t)(number * 1000));
    fields[FIELD_I] = value_integer((int64_t)(next_random() >> below(64)) * (below(2) ? 1 : -1));
    fields[FIELD_D] = value_decimal(random_decimal());
    fields[FIELD_S] = value_string(text, (size_t)length);
    random_state = saved;
}

/* --- the monoid --- */

static void fold_parts(const struct measure *measure, size_t distinct, void *whole, void **states,
                       size_t state_count)
{
    struct value fields[FIELDS];

    for (size_t n = 0; n < distinct; n++) {
        for (size_t copies = 1 + (below(4) == 0); copies > 0; copies--) {
            make_record(n, fields);
            fold(measure, whole, fields);
            fold(measure, states[below(state_count)], fields);
        }
    }
}

/* Merges all into one, any two at a time, some of them through their bytes. */
static void *merge_all(const struct measure *measure, void **states, size_t count)
{
    while (count > 1) {
        size_t from = below(count);
        void *part = states[from];
        states[from] = states[--count];
        if (below(2)) {
            part = try_decode(measure, encode(measure, part));
            assert_non_null(part);
        }
        void *into = states[below(count)];
        merge(measure, into, part);
    }
    return states[0];
}

static void check_monoid(const char *text, size_t distinct)
{
    struct measure *measure = measure_of(text);
    size_t count = 1 + below(STATES_MAX);
    void *whole = new_state(measure), *states[STATES_MAX];
    struct value fields[FIELDS];

    for (size_t i = 0; i < count; i++) {
        states[i] = new_state(measure);
    }
    fold_parts(measure, distinct, whole, states, count);
    struct bytes expected = encode(measure, whole);
    void *total = merge_all(measure, states, count);
    same_bytes("another split", encode(measure, total), expected, text);
    assert_string_equal(finished(measure, total), finished(measure, whole));

    void *again = try_decode(measure, expected);
    assert_non_null(again);
    same_bytes("encode, decode", encode(measure, again), expected, text);
    assert_string_equal(finished(measure, again), finished(measure, whole));

    void *none = new_state(measure);
    merge(measure, again, none);
    same_bytes("a+0", encode(measure, again), expected, text);
    merge(measure, none, again);
    same_bytes("0+a", encode(measure, none), expected, text);
    make_record(distinct, fields);
    fold(measure, none, fields);
    fold(measure, again, fields);
    same_bytes("one more", encode(measure, none), encode(measure, again), text);
    measure_destroy(measure);
    arena_reset(&memory);
}

static const char *const texts[] = {
    "count(DISTINCT i, 300)",
    "count(DISTINCT d)",
    "count(DISTINCT s, 300)",
    "count(DISTINCT at, 1)",
    "approx_count_distinct(i)",
    "approx_count_distinct(s)",
    "approx_percentile(i, 0.5)",
    "approx_percentile(i, 0.95, 0.1)",
    "approx_percentile(d, 0.123456789)",
    "approx_percentile(d, 1, 0.0001)",
    "histogram(i, [-1000000, -1, 0, 1, 1000000])",
    "histogram(d, [-0.5, 0, 1e20])",
};

static void test_monoid(void **state)
{
    /* around the changes of representation and the limits */
    static const size_t sizes[] = {0, 1, 2, 127, 128, 129, 299, 300, 301, 1000, 4900, 6500, 20000};
    (void)state;
    for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++) {
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            for (int round = 0; round < (sizes[s] < 500 ? 10 : 1); round++) {
                check_monoid(texts[t], sizes[s]);
            }
        }
    }
}

static void test_damage(void **state)
{
    static const size_t sizes[] = {0, 1, 5, 128, 200, 3000, 9000};
    (void)state;
    for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++) {
        struct measure *measure = measure_of(texts[t]);
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            struct value fields[FIELDS];
            void *good_state = new_state(measure);
            for (size_t n = 0; n < sizes[s]; n++) {
                make_record(n, fields);
                fold(measure, good_state, fields);
            }
            struct bytes good = encode(measure, good_state);
            for (int i = 0; i < MUTATIONS / (sizes[s] > 1000 ? 10 : 1); i++) {
                struct bytes bad = {.data = arena_copy(&scratch, good.data, good.length),
                                    .length = good.length};
                bad.length -= below(4) == 0 ? below(good.length < 20 ? good.length : 20) : 0;
                for (size_t changes = below(3); changes > 0 && bad.length > 0; changes--) {
                    size_t near = bad.length < 40 ? bad.length : 40;
                    bad.data[below(2) ? below(near) : below(bad.length)] ^= (char)(1u << below(8));
                }
                void *other = try_decode(measure, bad);
                if (other != NULL) {
                    struct bytes once = encode(measure, other);
                    void *again = try_decode(measure, once);
                    assert_non_null(again);
                    same_bytes("a damaged state", encode(measure, again), once, texts[t]);
                    (void)finished(measure, other);
                    (void)measure->kind->merge(measure, other, again, &memory, &error);
                    (void)finished(measure, other);
                }
                arena_reset(&scratch);
            }
            arena_reset(&memory);
        }
        measure_destroy(measure);
    }
}

/* --- count(DISTINCT x) --- */

static void test_distinct_is_exact_up_to_its_limit(void **state)
{
    (void)state;
    struct measure *measure = measure_of("count(DISTINCT i, 10)");
    struct value fields[FIELDS] = {0};
    void *ten = new_state(measure), *one = new_state(measure);

    for (int i = 0; i < 30; i++) {
        fields[FIELD_I] = value_integer(i % 10);
        fold(measure, ten, fields);
    }
    assert_string_equal(finished(measure, ten), "10");
    fold(measure, one, fields);
    merge(measure, ten, one);
    assert_string_equal(finished(measure, ten), "10");
    fields[FIELD_I] = value_integer(10);
    fold(measure, one, fields);
    assert_string_equal(finished(measure, one), "2");
    merge(measure, ten, one);
    assert_string_equal(
        finished(measure, ten),
        "refused: a group has more than 10 distinct values; leave the measure or the group out, "
        "define it with a higher limit, count(DISTINCT x, limit), or use approx_count_distinct(x)");
    /* absorbing, and stored as NULL */
    merge(measure, one, ten);
    static const char null_row[] = "\0\1\377\377\377\377";
    same_bytes("overflow", encode(measure, one), (struct bytes){(char *)null_row, 6}, "NULL");
    fold(measure, one, fields);
    same_bytes("overflow", encode(measure, one), encode(measure, ten), "again");
    measure_destroy(measure);
    arena_reset(&memory);
}

static void test_distinct_bounds_the_bytes_of_strings(void **state)
{
    enum { LONG_BYTES = 5 << 20 };
    (void)state;
    struct measure *measure = measure_of("count(DISTINCT s)");
    void *set = new_state(measure);
    char *text = calloc(1, LONG_BYTES);

    assert_non_null(text);
    memset(text, 'x', LONG_BYTES);
    for (int i = 0; i < 8; i++) {
        text[0] = (char)('a' + i / 2);
        const struct value fields[FIELDS] = {[FIELD_S] = value_string(text, LONG_BYTES)};
        fold(measure, set, fields);
        assert_true((strncmp(finished(measure, set), "refused", 7) == 0) == (i >= 6));
    }
    assert_non_null(strstr(finished(measure, set), "10000 distinct values, or 16 MiB of them"));
    free(text);
    measure_destroy(measure);
    arena_reset(&memory);
}

static void test_equal_decimals_are_one(void **state)
{
    static const struct decimal equal[] = {{10, 1}, {1, 0}, {10000, 4}};
    (void)state;
    static const char *const counts[] = {"count(DISTINCT d)", "approx_count_distinct(d)"};
    for (size_t c = 0; c < 2; c++) {
        struct measure *measure = measure_of(counts[c]);
        void *set = new_state(measure);
        for (size_t i = 0; i < 3; i++) {
            const struct value fields[FIELDS] = {[FIELD_D] = value_decimal(equal[i])};
            fold(measure, set, fields);
        }
        assert_string_equal(finished(measure, set), "1");
        measure_destroy(measure);
    }
}

/* --- approx_count_distinct(x) --- */

/* What the extension's hll_hash_text and hll_hash_bigint say. */
static void test_murmur3(void **state)
{
    static const struct {
        const char *text;
        int64_t hash;
    } cases[] = {
        {"", 0},
        {"a", -8839064797231613815},
        {"fifteen letters", -305398039148442198},
        {"sixteen letters!", 1058247055210408546},
        {"seventeen letters", 6910053224999325935},
        {"thirty-one letters, no, it is 32", -7218623270197219960},
        {"Gr\xC3\xB6\xC3\x9F"
         "e",
         8073944454381048696},
    };
    static const uint8_t minus_one[8] = {255, 255, 255, 255, 255, 255, 255, 255};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal((int64_t)murmur3_hash64(cases[i].text, strlen(cases[i].text)),
                         cases[i].hash);
    }
    assert_int_equal((int64_t)murmur3_hash64(minus_one, 8), -6853156495446839949);
    assert_int_equal((int64_t)murmur3_hash64("\1", 1), 8849112093580131862);
}

static void test_stored_hyperloglog(void **state)
{
    static const char empty[] = "\0\1\0\0\0\3\x11\x8e\x48";
    static const char three[] = "\0\1\0\0\0\x1b\x12\x8e\x48"
                                "\x85\x55\x55\x65\xf6\x59\x78\x89\0\0\0\0\0\0\0\0"
                                "\x7a\x98\xa9\x57\xb1\xd3\xd1\xee";
    static const char *const letters[] = {"b", "", "a", "b"};
    (void)state;
    struct measure *measure = measure_of("approx_count_distinct(s)");
    void *set = new_state(measure);

    same_bytes("EMPTY", encode(measure, set), (struct bytes){(char *)empty, 9}, "");
    for (size_t i = 0; i < 4; i++) {
        const struct value fields[FIELDS] = {[FIELD_S] =
                                                 value_string(letters[i], strlen(letters[i]))};
        fold(measure, set, fields);
    }
    same_bytes("EXPLICIT", encode(measure, set), (struct bytes){(char *)three, 33}, "");
    assert_string_equal(finished(measure, set), "3");
    measure_destroy(measure);
}

/* Relative errors of many sets: their mean is near 0, their standard deviation is the stated one.
 */
static void test_distinct_estimates(void **state)
{
    static const size_t sizes[] = {129, 1000, 5000, 16384, 40960, 60000, 100000, 300000};
    enum { TRIALS = 60 };
    (void)state;
    struct measure *measure = measure_of("approx_count_distinct(i)");
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        int trials = sizes[s] > 50000 ? TRIALS / 4 : TRIALS;
        double sum = 0, squares = 0;
        for (int trial = 0; trial < trials; trial++) {
            struct value fields[FIELDS] = {0};
            void *set = new_state(measure);
            for (size_t i = 0; i < sizes[s]; i++) {
                fields[FIELD_I] = value_integer((int64_t)i + (int64_t)trial * 1000000000);
                fold(measure, set, fields);
            }
            double error_of = strtod(finished(measure, set), NULL) / (double)sizes[s] - 1;
            sum += error_of;
            squares += error_of * error_of;
            arena_reset(&memory);
        }
        double mean = sum / trials, deviation = sqrt(squares / trials);
        print_message("%7zu values: mean error %+.3f %%, standard error %.3f %%\n", sizes[s],
                      mean * 100, deviation * 100);
        assert_true(deviation < 0.0081 * 1.35);
        assert_true(fabs(mean) < 4 * 0.0081 / sqrt(trials));
    }
    measure_destroy(measure);
}

static void test_few_distinct_values_are_exact(void **state)
{
    (void)state;
    struct measure *measure = measure_of("approx_count_distinct(i)");
    struct value fields[FIELDS] = {0};
    void *set = new_state(measure);
    for (int i = 0; i < 128; i++) {
        fields[FIELD_I] = value_integer(i * 7);
        fold(measure, set, fields);
        fold(measure, set, fields);
        assert_int_equal(strtol(finished(measure, set), NULL, 10), i + 1);
    }
    measure_destroy(measure);
    arena_reset(&memory);
}

/* --- approx_percentile(x, q) --- */

static const char *percentile_of(const char *text, const char *number)
{
    struct measure *measure = measure_of(text);
    struct value fields[FIELDS] = {0};
    void *sketch = new_state(measure);
    enum value_type type = measure->argument_type;

    must(value_parse(type, number, strlen(number),
                     &fields[type == VALUE_INTEGER ? FIELD_I : FIELD_D], &error));
    fold(measure, sketch, fields);
    const char *result = finished(measure, sketch);
    measure_destroy(measure);
    return result;
}

static void test_representatives(void **state)
{
    static const char *const integers[][2] = {
        {"0", "0"},
        {"1", "1"},
        {"-47", "-47"},
        {"127", "127"},
        {"128", "128"},
        {"129", "128"},
        {"1000", "1003"},
        {"-1007", "-1003"},
        {"9223372036854775807", "9187343239835811839"},
        {"-9223372036854775808", "-9223372036854775808"},
        {"-9223372036854775807", "-9187343239835811839"},
    };
    static const char nines[] = "99999999999999999999999999999999999999",
                      least[] = "0.00000000000000000000000000000000000001";
    static const char *const decimals[][4] = {
        {"1.5", "1.50781", "1.50006", "1.75"},
        {"0.1", "0.100098", "0.100002", "0.109375"},
        {"-0.1000", "-0.100098", "-0.100002", "-0.109375"},
        {"3", "3.01563", "3.00012", "3.5"},
        {"100.0", "100.5", "100.004", "112"},
        {nines, "100357000000000000000000000000000000000", "99998400000000000000000000000000000000",
         "106338000000000000000000000000000000000"},
        {least, "0.00000000000000000000000000000000000000996415",
         "0.00000000000000000000000000000000000000999967",
         "0.0000000000000000000000000000000000000102856"},
        {"12345.678", "12352", "12345.5", "14336"},
        {"0.999", "0.996094", "0.998993", "0.875"},
        {"1000000", "1003520", "1000030", "917504"},
        {"-7.25", "-7.28125", "-7.25024", "-7"},
        {"0.00", "0", "0", "0"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++) {
        assert_string_equal(percentile_of("approx_percentile(i, 0.5)", integers[i][0]),
                            integers[i][1]);
    }
    for (size_t i = 0; i < sizeof decimals / sizeof decimals[0]; i++) {
        assert_string_equal(percentile_of("approx_percentile(d, 0.5)", decimals[i][0]),
                            decimals[i][1]);
        assert_string_equal(percentile_of("approx_percentile(d, 0.5, 0.0001)", decimals[i][0]),
                            decimals[i][2]);
        assert_string_equal(percentile_of("approx_percentile(d, 0.5, 0.5)", decimals[i][0]),
                            decimals[i][3]);
    }
    arena_reset(&memory);
}

static int compare_values(const void *a, const void *b)
{
    return value_compare(a, b);
}

/* A number of one of several distributions. */
static struct value random_number(enum value_type type, int distribution)
{
    struct decimal decimal = random_decimal();
    switch (distribution) {
    case 0: /* of one size */
        decimal = (struct decimal){.coefficient = (int128)below(100000), .scale = 2};
        break;
    case 1: /* of all sizes and both signs */
        break;
    case 2: /* few, with many zeros */
        decimal = (struct decimal){.coefficient = (int128)below(5) - 2, .scale = (int32_t)below(3)};
        break;
    default: /* a long tail */
        decimal =
            (struct decimal){.coefficient = (int128)(next_random() >> (1 + below(60))), .scale = 6};
    }
    if (type == VALUE_DECIMAL) {
        return value_decimal(decimal);
    }
    return value_integer(distribution == 1 ? (int64_t)next_random() : (int64_t)decimal.coefficient);
}

/* The result is within the stated error of what percentile_disc finds in the sorted values. */
static void check_percentile(const char *text, int64_t share, double relative, int distribution)
{
    enum { NUMBERS_MAX = 3000, UNIT = 1000 };
    static struct value numbers[NUMBERS_MAX];
    struct measure *measure = measure_of(text);
    void *sketch = new_state(measure);
    size_t count = 1 + below(NUMBERS_MAX);

    for (size_t i = 0; i < count; i++) {
        struct value fields[FIELDS] = {0};
        numbers[i] = random_number(measure->argument_type, distribution);
        fields[measure->argument_type == VALUE_INTEGER ? FIELD_I : FIELD_D] = numbers[i];
        fold(measure, sketch, fields);
    }
    qsort(numbers, count, sizeof numbers[0], compare_values);
    size_t rank = ((size_t)share * count + UNIT - 1) / UNIT;
    const struct value *exact = &numbers[rank == 0 ? 0 : rank - 1];
    long double wanted = strtold(value_text(exact, &memory, NULL), NULL);
    long double found = strtold(finished(measure, sketch), NULL);
    if (fabsl(found - wanted) > relative * fabsl(wanted) * (1 + 1e-15L)) {
        fail_msg("%s of %zu values: %Lg, exactly it is %Lg", text, count, found, wanted);
    }
    measure_destroy(measure);
    arena_reset(&memory);
}

static void test_percentiles_are_within_the_error(void **state)
{
    static const struct {
        const char *parameter;
        double relative;
    } errors[] = {{"", 0.01},         {", 0.01", 0.01},   {", 0.5", 0.5},      {", 0.1", 0.1},
                  {", 0.007", 0.007}, {", 0.001", 0.001}, {", 0.0001", 0.0001}};
    static const int shares[] = {0, 1, 50, 333, 500, 950, 990, 999, 1000};
    char text[80];
    (void)state;
    for (size_t e = 0; e < sizeof errors / sizeof errors[0]; e++) {
        for (size_t s = 0; s < sizeof shares / sizeof shares[0]; s++) {
            for (int distribution = 0; distribution < 4; distribution++) {
                for (int type = 0; type < 2; type++) {
                    snprintf(text, sizeof text, "approx_percentile(%c, %d.%03d%s)", "id"[type],
                             shares[s] / 1000, shares[s] % 1000, errors[e].parameter);
                    check_percentile(text, shares[s], errors[e].relative, distribution);
                }
            }
        }
    }
}

/* As documented: at 1 % no more than 32,513 buckets, and 1,280 within a factor of a million. */
static void test_buckets_are_bounded(void **state)
{
    (void)state;
    struct measure *measure = measure_of("approx_percentile(d, 0.5)");
    void *sketch = new_state(measure);
    for (int i = 0; i < 200000; i++) {
        const struct value fields[FIELDS] = {
            [FIELD_D] = value_decimal((struct decimal){1000 + (int128)below(999999001), 3})};
        fold(measure, sketch, fields);
    }
    assert_true((encode(measure, sketch).length - 26) / 24 <= 1280);
    for (int i = 0; i < 200000; i++) {
        const struct value fields[FIELDS] = {[FIELD_D] = value_decimal(random_decimal())};
        fold(measure, sketch, fields);
    }
    assert_true((encode(measure, sketch).length - 26) / 24 <= 32513);
    measure_destroy(measure);
    arena_reset(&memory);
}

/* --- histogram(x, [...]) --- */

static void test_histogram(void **state)
{
    static const char *const numbers[] = {"-5",  "-0.001", "0",  "0.99", "1",
                                          "1.0", "9.99",   "10", "1e30"};
    (void)state;
    struct measure *measure = measure_of("histogram(d, [0, 1, 2 * 5])");
    void *histogram = new_state(measure);
    struct value fields[FIELDS] = {0};
    assert_string_equal(finished(measure, histogram), "{0,0,0,0}");
    fields[FIELD_D] = value_null(VALUE_DECIMAL);
    fold(measure, histogram, fields);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        must(value_parse(VALUE_DECIMAL, numbers[i], strlen(numbers[i]), &fields[FIELD_D], &error));
        fold(measure, histogram, fields);
    }
    assert_string_equal(finished(measure, histogram), "{2,2,3,2}");
    merge(measure, histogram, histogram);
    assert_string_equal(finished(measure, histogram), "{4,4,6,4}");
    measure_destroy(measure);
}

/* --- calls --- */

static void test_calls_that_are_refused(void **state)
{
    (void)state;
    static const char *const refused[][2] = {
        {"count(DISTINCT i, 0)",
         "column 1: count: the limit of DISTINCT is a whole number from 1 to 1000000"},
        {"count(DISTINCT i, 1.5)",
         "column 1: count: the limit of DISTINCT is a whole number from 1 to 1000000"},
        {"count(DISTINCT i, i)", "column 19: wants a constant"},
        {"count(DISTINCT i, 1, 2)",
         "column 1: count: DISTINCT wants one argument, and may have a limit"},
        {"approx_count_distinct(*)", "column 1: approx_count_distinct: wants one argument"},
        {"approx_count_distinct(i, d)", "column 1: approx_count_distinct: wants one argument"},
        {"approx_percentile(i)",
         "column 1: approx_percentile: wants a number, a share and perhaps a relative error"},
        {"approx_percentile(i, [0.5])",
         "column 1: approx_percentile: wants a number, a share and perhaps a relative error"},
        {"approx_percentile(s, 0.5)",
         "column 1: approx_percentile: wants an integer or decimal, found type string"},
        {"approx_percentile(i, 1.01)", "column 1: approx_percentile: the share is a number from 0 "
                                       "to 1 with at most 9 digits behind the point"},
        {"approx_percentile(i, -0.1)", "column 1: approx_percentile: the share is a number from 0 "
                                       "to 1 with at most 9 digits behind the point"},
        {"approx_percentile(i, 0.1234567891)",
         "column 1: approx_percentile: the share is a number from 0 to 1 with at most 9 digits "
         "behind the point"},
        {"approx_percentile(i, 'x')",
         "column 1: approx_percentile: the share wants a number from 0 to 1"},
        {"approx_percentile(i, d)", "column 22: wants a constant"},
        {"approx_percentile(i, 0.5, 0)",
         "column 1: approx_percentile: the relative error is a number from 0.0001 to 0.5 with at "
         "most 9 digits behind the point"},
        {"histogram(i)", "column 1: histogram: wants a number and its bounds, [1, 10, 100]"},
        {"histogram(i, 1, 2)", "column 1: histogram: wants a number and its bounds, [1, 10, 100]"},
        {"histogram(i, 1, [2])",
         "column 17: an array [...] stands alone: nothing before or after it"},
        {"histogram(i, [1], 2)",
         "column 19: an array [...] stands alone: nothing before or after it"},
        {"histogram(i, [])", "column 15: wants a value, found ]"},
        {"histogram(i, [1, 2", "column 19: wants ], found the end"},
        {"histogram(i, [1, 1.0])", "column 1: histogram: bound 2 is not above the one before"},
        {"histogram(i, [1, 'x'])", "column 1: histogram: bound 2 is not a number"},
        {"histogram(s, [1])",
         "column 1: histogram: wants an integer or decimal, found type string"},
        {"approx_top_k(s, 10)",
         "column 1: approx_top_k is not supported: no bounded state of it is the same in every "
         "order "
         "of records; make a view grouped by the value, with count(*), and query it with order and "
         "limit: its top k are exact"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct measure *measure = NULL;
        assert_int_equal(measure_create(refused[i][0], source, &measure, &error), STATUS_REJECT);
        assert_null(measure);
        assert_string_equal(error.text, refused[i][1]);
    }
}

int main(void)
{
    const char *given = getenv("DOVETAIL_SEED");
    random_state = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    printf("test_sketches: DOVETAIL_SEED=%" PRIu64 "\n", random_state);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_monoid),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_distinct_is_exact_up_to_its_limit),
        cmocka_unit_test(test_distinct_bounds_the_bytes_of_strings),
        cmocka_unit_test(test_equal_decimals_are_one),
        cmocka_unit_test(test_murmur3),
        cmocka_unit_test(test_stored_hyperloglog),
        cmocka_unit_test(test_distinct_estimates),
        cmocka_unit_test(test_few_distinct_values_are_exact),
        cmocka_unit_test(test_representatives),
        cmocka_unit_test(test_percentiles_are_within_the_error),
        cmocka_unit_test(test_buckets_are_bounded),
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_calls_that_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
