/*
 * Decimals against a real PostgreSQL, to the character: texts, + - * / %, order, trim_scale, sum
 * and avg of random lists, and the binary format in both directions.
 *
 * Reads only; needs no schema. DOVETAIL_POSTGRES is the libpq conninfo; without it the tests are
 * skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <libpq-fe.h>

#include "tests/unit/core/decimal_model.h"

#include "tests/support/database.h"

#define PAIRS 20000
#define LISTS 2000
#define BINARY_ROUNDS 2000
#define TEXT_SIZE 160 /* bytes for one random number's text */

static PGconn *connection;

static int connect_once(void **state)
{
    (void)state;
    const char *conninfo = getenv("DOVETAIL_POSTGRES");
    if (conninfo == NULL) {
        print_message("DOVETAIL_POSTGRES is not set: skipped\n");
        return 0;
    }
    connection = database_open(conninfo);
    if (PQstatus(connection) != CONNECTION_OK) {
        print_error("%s", PQerrorMessage(connection));
        return -1;
    }
    return 0;
}

static int disconnect(void **state)
{
    (void)state;
    PQfinish(connection);
    return 0;
}

#define NEEDS_POSTGRES()                                                                           \
    do {                                                                                           \
        if (connection == NULL) {                                                                  \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

/* A PostgreSQL array literal that grows. */
struct array {
    char *text;
    size_t length;
    size_t capacity;
};

static void array_add(struct array *array, const char *element)
{
    size_t length = strlen(element);
    if (array->length + length + 3 > array->capacity) {
        array->capacity = 2 * (array->capacity + length + 64);
        array->text = realloc(array->text, array->capacity);
        assert_non_null(array->text);
    }
    array->text[array->length] = array->length == 0 ? '{' : ',';
    memcpy(array->text + array->length + 1, element, length);
    array->length += length + 1;
    memcpy(array->text + array->length, "}", 2);
}

static PGresult *query(const char *sql, const struct array *first, const struct array *second)
{
    const char *values[2] = {first->text, second != NULL ? second->text : NULL};
    PGresult *result = database_ask_with(connection, sql, second != NULL ? 2 : 1, values);
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        fail_msg("%s", PQerrorMessage(connection));
    }
    return result;
}

/* What we say must be PostgreSQL's text, or a refusal of a number that does not fit. */
static void check(const char *what, enum decimal_status status, const struct decimal *ours,
                  const char *theirs)
{
    char text[DECIMAL_TEXT_SIZE] = "";
    if (status == DECIMAL_OK) {
        decimal_format(ours, text, sizeof(text));
        if (strcmp(text, theirs) != 0) {
            fail_msg("%s: %s, PostgreSQL says %s", what, text, theirs);
        }
        return;
    }
    struct model expected = {0};
    if (strlen(theirs) < MODEL_DIGITS) {
        expected = model_from_text(theirs);
    } else {
        expected.count = MODEL_DIGITS;
    }
    if (status != DECIMAL_OVERFLOW || model_fits(&expected)) {
        fail_msg("%s: status %d, PostgreSQL says %s", what, (int)status, theirs);
    }
}

static void check_pair(const PGresult *result, int row, const struct decimal *a,
                       const struct decimal *b)
{
    char what[2 * DECIMAL_TEXT_SIZE + 8];
    char left[DECIMAL_TEXT_SIZE];
    char right[DECIMAL_TEXT_SIZE];
    decimal_format(a, left, sizeof(left));
    decimal_format(b, right, sizeof(right));
    static const struct {
        const char *name;
        enum decimal_status (*operation)(const struct decimal *, const struct decimal *,
                                         struct decimal *);
    } columns[] = {{"+", decimal_add},
                   {"-", decimal_subtract},
                   {"*", decimal_multiply},
                   {"/", decimal_divide},
                   {"%", decimal_modulo}};
    for (int column = 0; column < 5; column++) {
        struct decimal ours = {0};
        enum decimal_status status = columns[column].operation(a, b, &ours);
        snprintf(what, sizeof(what), "%s %s %s", left, columns[column].name, right);
        if (PQgetisnull(result, row, column)) {
            assert_int_equal(status, DECIMAL_DIVISION_BY_ZERO);
            continue;
        }
        check(what, status, &ours, PQgetvalue(result, row, column));
    }
    assert_int_equal(decimal_compare(a, b), atoi(PQgetvalue(result, row, 5)));
    struct decimal trimmed = decimal_trim(a);
    check(left, DECIMAL_OK, &trimmed, PQgetvalue(result, row, 6));
    assert_string_equal(left, PQgetvalue(result, row, 7));
}

static void operations(void **state)
{
    (void)state;
    NEEDS_POSTGRES();
    static struct decimal pair[PAIRS][2];
    struct array arrays[2] = {{0}, {0}};
    for (int i = 0; i < PAIRS; i++) {
        for (int side = 0; side < 2; side++) {
            char text[DECIMAL_TEXT_SIZE];
            pair[i][side] = model_random_mixed();
            decimal_format(&pair[i][side], text, sizeof(text));
            array_add(&arrays[side], text);
        }
    }
    PGresult *result =
        query("SELECT a + b, a - b, a * b, CASE WHEN b <> 0 THEN a / b END,"
              " CASE WHEN b <> 0 THEN a % b END, CASE WHEN a < b THEN -1 WHEN a = b THEN 0 ELSE 1"
              " END, trim_scale(a), a"
              " FROM unnest($1::numeric[], $2::numeric[]) WITH ORDINALITY AS t (a, b, i)"
              " ORDER BY i",
              &arrays[0], &arrays[1]);
    assert_int_equal(PQntuples(result), PAIRS);
    for (int i = 0; i < PAIRS; i++) {
        check_pair(result, i, &pair[i][0], &pair[i][1]);
    }
    PQclear(result);
    free(arrays[0].text);
    free(arrays[1].text);
}

/* A random JSON number: sign, digits, fraction, exponent. */
static void random_number_text(char text[TEXT_SIZE])
{
    char *out = text;
    if (model_below(2)) {
        *out++ = '-';
    }
    int whole = 1 + model_below(model_below(4) == 0 ? 45 : 12);
    *out++ = (char)(whole == 1 ? '0' + model_below(10) : '1' + model_below(9));
    for (int i = 1; i < whole; i++) {
        *out++ = (char)(model_below(3) == 0 ? '0' : '0' + model_below(10));
    }
    int fraction = model_below(3) == 0 ? 0 : model_below(model_below(4) == 0 ? 45 : 8);
    if (fraction > 0) {
        *out++ = '.';
    }
    for (int i = 0; i < fraction; i++) {
        *out++ = (char)(model_below(3) == 0 ? '0' : '0' + model_below(10));
    }
    *out = '\0';
    if (model_below(3) == 0) {
        static const char *const signs[] = {"e", "E+", "e-", "e0", "E-00"};
        snprintf(out, 16, "%s%d", signs[model_below(5)], model_below(50));
    }
}

static void texts(void **state)
{
    (void)state;
    NEEDS_POSTGRES();
    static char text[PAIRS][TEXT_SIZE];
    struct array array = {0};
    for (int i = 0; i < PAIRS; i++) {
        random_number_text(text[i]);
        array_add(&array, text[i]);
    }
    PGresult *result = query("SELECT x::numeric FROM unnest($1::text[]) WITH ORDINALITY AS t (x, i)"
                             " ORDER BY i",
                             &array, NULL);
    for (int i = 0; i < PAIRS; i++) {
        struct decimal ours = {0};
        enum decimal_status status = decimal_parse(text[i], strlen(text[i]), &ours);
        check(text[i], status, &ours, PQgetvalue(result, i, 0));
    }
    PQclear(result);
    free(array.text);
}

static void check_wide(const struct decimal_wide *ours, const char *theirs)
{
    char text[DECIMAL_WIDE_TEXT_SIZE];
    decimal_wide_format(ours, text, sizeof(text));
    assert_string_equal(text, theirs);
}

static void check_sum_and_average(const PGresult *result, int row, int column,
                                  const struct decimal_wide *sum, int64_t count)
{
    check_wide(sum, PQgetvalue(result, row, column));
    struct decimal_wide average;
    assert_int_equal(decimal_wide_divide(sum, count, &average), DECIMAL_OK);
    check_wide(&average, PQgetvalue(result, row, column + 1));
    decimal_wide_trim(&average);
    check_wide(&average, PQgetvalue(result, row, column + 2));
}

static void sums_and_averages(void **state)
{
    (void)state;
    NEEDS_POSTGRES();
    static struct decimal_wide sums[LISTS];
    static int64_t counts[LISTS];
    struct array values = {0};
    struct array lists = {0};
    for (int list = 0; list < LISTS; list++) {
        char group[16];
        snprintf(group, sizeof(group), "%d", list);
        decimal_wide_init(&sums[list]);
        counts[list] = 1 + model_below(30);
        int digits = model_below(3) == 0 ? 5 : 38;
        int scale = model_below(3) == 0 ? 2 : 38;
        for (int64_t i = 0; i < counts[list]; i++) {
            char text[DECIMAL_TEXT_SIZE];
            struct decimal value = model_random_decimal(digits, scale);
            decimal_wide_add(&sums[list], &value);
            decimal_format(&value, text, sizeof(text));
            array_add(&values, text);
            array_add(&lists, group);
        }
    }
    PGresult *result = query("SELECT sum(x), avg(x), trim_scale(avg(x))"
                             " FROM unnest($1::numeric[], $2::int[]) AS t (x, list)"
                             " GROUP BY list ORDER BY list",
                             &values, &lists);
    for (int list = 0; list < LISTS; list++) {
        check_sum_and_average(result, list, 0, &sums[list], counts[list]);
    }
    PQclear(result);
    free(values.text);
    free(lists.text);
}

static void integer_sums_and_averages(void **state)
{
    (void)state;
    NEEDS_POSTGRES();
    static int128 sums[LISTS];
    static int64_t counts[LISTS];
    struct array values = {0};
    struct array lists = {0};
    for (int list = 0; list < LISTS; list++) {
        char group[16];
        snprintf(group, sizeof(group), "%d", list);
        sums[list] = 0;
        counts[list] = 1 + model_below(30);
        int shift = model_below(63);
        for (int64_t i = 0; i < counts[list]; i++) {
            char text[DECIMAL_INT128_TEXT_SIZE];
            int64_t value = (int64_t)model_random() >> shift;
            sums[list] += value;
            decimal_int128_format(value, text, sizeof(text));
            array_add(&values, text);
            array_add(&lists, group);
        }
    }
    PGresult *result = query("SELECT sum(x), avg(x), trim_scale(avg(x))"
                             " FROM unnest($1::bigint[], $2::int[]) AS t (x, list)"
                             " GROUP BY list ORDER BY list",
                             &values, &lists);
    for (int list = 0; list < LISTS; list++) {
        struct decimal_wide sum;
        decimal_wide_from_int128(&sum, sums[list]);
        check_sum_and_average(result, list, 0, &sum, counts[list]);
    }
    PQclear(result);
    free(values.text);
    free(lists.text);
}

/* Sums as large and counts as high as no list in a test can make them. */
static void averages_of_many(void **state)
{
    (void)state;
    NEEDS_POSTGRES();
    static struct decimal_wide sums[LISTS];
    static int64_t counts[LISTS];
    struct array values = {0};
    struct array divisors = {0};
    for (int i = 0; i < LISTS; i++) {
        char text[DECIMAL_WIDE_TEXT_SIZE];
        struct decimal first = model_random_mixed();
        struct decimal second = model_random_mixed();
        decimal_wide_init(&sums[i]);
        decimal_wide_add(&sums[i], &first);
        if (model_below(2)) {
            decimal_wide_add(&sums[i], &second);
        }
        for (int doublings = model_below(2) * model_below(63); doublings > 0; doublings--) {
            decimal_wide_merge(&sums[i], &sums[i]);
        }
        counts[i] = (int64_t)(model_random() >> (1 + model_below(63)));
        counts[i] += counts[i] == 0;
        decimal_wide_format(&sums[i], text, sizeof(text));
        array_add(&values, text);
        decimal_int128_format(counts[i], text, sizeof(text));
        array_add(&divisors, text);
    }
    PGresult *result = query("SELECT x, x / c, trim_scale(x / c)"
                             " FROM unnest($1::numeric[], $2::bigint[])"
                             " WITH ORDINALITY AS t (x, c, i) ORDER BY i",
                             &values, &divisors);
    for (int i = 0; i < LISTS; i++) {
        check_sum_and_average(result, i, 0, &sums[i], counts[i]);
    }
    PQclear(result);
    free(values.text);
    free(divisors.text);
}

/* Sends bytes as a numeric; PostgreSQL must read the text in them and send the same bytes back. */
static void check_binary(const uint8_t *bytes, size_t length, const char *text)
{
    static const Oid numeric = 1700;
    const char *values[1] = {(const char *)bytes};
    int lengths[1] = {(int)length};
    int formats[1] = {1};
    PGresult *result =
        PQexecParams(connection, "SELECT $1::numeric, convert_to($1::numeric::text, 'UTF8')", 1,
                     &numeric, values, lengths, formats, 1);
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        fail_msg("%s: %s", text, PQerrorMessage(connection));
    }
    assert_int_equal(PQgetlength(result, 0, 0), length);
    assert_memory_equal(PQgetvalue(result, 0, 0), bytes, length);
    assert_int_equal(PQgetlength(result, 0, 1), strlen(text));
    assert_memory_equal(PQgetvalue(result, 0, 1), text, strlen(text));
    PQclear(result);
}

static void binary_format(void **state)
{
    (void)state;
    NEEDS_POSTGRES();
    for (int round = 0; round < BINARY_ROUNDS; round++) {
        uint8_t bytes[DECIMAL_WIDE_PG_SIZE];
        char text[DECIMAL_WIDE_TEXT_SIZE];
        struct decimal value = model_random_mixed();
        decimal_format(&value, text, sizeof(text));
        size_t length = decimal_encode_pg(&value, bytes, DECIMAL_PG_SIZE);
        check_binary(bytes, length, text);

        struct decimal other = model_random_mixed();
        struct decimal_wide wide;
        decimal_wide_init(&wide);
        decimal_wide_add(&wide, &value);
        decimal_wide_add(&wide, &other);
        decimal_wide_merge(&wide, &wide);
        if (model_below(2)) {
            int64_t count = 1 + (int64_t)(model_random() >> (1 + model_below(63)));
            assert_int_equal(decimal_wide_divide(&wide, count, &wide), DECIMAL_OK);
        }
        decimal_wide_format(&wide, text, sizeof(text));
        length = decimal_wide_encode_pg(&wide, bytes, sizeof(bytes));
        check_binary(bytes, length, text);
    }
}

int main(void)
{
    model_random_start("test_decimal_oracle");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operations),        cmocka_unit_test(texts),
        cmocka_unit_test(sums_and_averages), cmocka_unit_test(integer_sums_and_averages),
        cmocka_unit_test(averages_of_many),  cmocka_unit_test(binary_format),
    };
    return cmocka_run_group_tests(tests, connect_once, disconnect);
}
