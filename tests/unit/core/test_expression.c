/* Expressions: every form, its value and its type; what is refused, and at which column. PostgreSQL
 * judges random texts in tests/integration/test_expression_oracle.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/definitions/definition.h"

static const char source_json[] =
    "{\"source\":\"s\",\"topic\":\"t\",\"event_time\":{\"field\":\"at\",\"format\":\"rfc3339\"},"
    "\"fields\":{\"at\":\"timestamp\",\"i\":\"integer\",\"j\":\"integer\",\"d\":\"decimal\","
    "\"s\":\"string\",\"t\":\"boolean\",\"f\":\"boolean\","
    "\"in_\":\"integer\",\"nd\":\"decimal\",\"ns\":\"string\",\"u\":\"boolean\",\"nt\":"
    "\"timestamp\","
    "\"order\":\"integer\",\"true\":\"string\"}}";

enum { FIELDS = 14 };

static struct source *source;
static struct value fields[FIELDS];
static struct arena scratch;
static struct error error;

static int set_up(void **state)
{
    (void)state;
    json_t *json = json_loads(source_json, 0, NULL);
    if (source_create(json, "source", &source, &error) != STATUS_OK) {
        print_error("%s\n", error.text);
        return -1;
    }
    json_decref(json);
    arena_init(&scratch);
    const struct value values[FIELDS] = {
        value_timestamp(978307200000000), /* 2001-01-01 */
        value_integer(7),
        value_integer(-2),
        value_decimal((struct decimal){.coefficient = 150, .scale = 2}),
        value_string("abc", 3),
        value_boolean(true),
        value_boolean(false),
        value_null(VALUE_INTEGER),
        value_null(VALUE_DECIMAL),
        value_null(VALUE_STRING),
        value_null(VALUE_BOOLEAN), /* unknown */
        value_null(VALUE_TIMESTAMP),
        value_integer(42),
        value_string("quoted", 6),
    };
    memcpy(fields, values, sizeof fields);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    source_destroy(source);
    arena_deinit(&scratch);
    return 0;
}

/* The value as "type text", or the error; good until the next call. Decimals keep their zeros. */
static const char *result_of(const char *text)
{
    static char result[2048];
    struct expression *expression;
    struct value value;
    char decimal[DECIMAL_TEXT_SIZE];

    arena_reset(&scratch);
    if (expression_create(text, source, &expression, &error) != STATUS_OK) {
        assert_int_equal(error.status, STATUS_REJECT);
        assert_null(expression);
        return error.text;
    }
    enum status status = expression_evaluate(expression, fields, &scratch, &value, &error);
    if (status != STATUS_OK) {
        assert_int_equal(status, STATUS_REJECT);
        expression_destroy(expression);
        snprintf(result, sizeof result, "error: %s", error.text);
        return result;
    }
    assert_int_equal(value.type, expression_type(expression));
    const char *shown = "NULL";
    if (!value.is_null && value.type == VALUE_DECIMAL) {
        decimal_format(&value.decimal, decimal, sizeof decimal);
        shown = decimal;
    } else if (!value.is_null) {
        shown = value_text(&value, &scratch, NULL);
    }
    snprintf(result, sizeof result, "%s %s", value_type_name(value.type), shown);
    expression_destroy(expression);
    return result;
}

struct expected {
    const char *text;
    const char *result;
};

static void check_all(const struct expected *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *result = result_of(cases[i].text);
        if (strcmp(result, cases[i].result) != 0) {
            fail_msg("%s\n  is     %s\n  wanted %s", cases[i].text, result, cases[i].result);
        }
    }
}

#define CHECK(cases) check_all(cases, sizeof(cases) / sizeof(cases)[0])

static void test_literals_and_fields(void **state)
{
    (void)state;
    static const struct expected cases[] = {
        {"0", "integer 0"},
        {"007", "integer 7"},
        {"9223372036854775807", "integer 9223372036854775807"},
        {"9223372036854775808", "decimal 9223372036854775808"},
        {"-9223372036854775808", "integer -9223372036854775808"},
        {"-(9223372036854775808)", "integer -9223372036854775808"},
        {"- -9223372036854775808", "decimal 9223372036854775808"},
        {"-9223372036854775809", "decimal -9223372036854775809"},
        {"-9223372036854775808.", "decimal -9223372036854775808"},
        {"1.50", "decimal 1.50"},
        {".5", "decimal 0.5"},
        {"5.", "decimal 5"},
        {"5.e2", "decimal 500"},
        {"00.50", "decimal 0.50"},
        {"1e3", "decimal 1000"},
        {"1E-3", "decimal 0.001"},
        {"1e+3", "decimal 1000"},
        {"12345678901234567890123456789012345678",
         "decimal 12345678901234567890123456789012345678"},
        {"''", "string "},
        {"'it''s'", "string it's"},
        {"''''", "string '"},
        {"'\\'", "string \\"},
        {"'a\nb'", "string a\nb"},
        {"'\xC3\xA9'", "string \xC3\xA9"},
        {"true", "boolean true"},
        {"FALSE", "boolean false"},
        {"NULL", "string NULL"},
        {"i", "integer 7"},
        {"I", "integer 7"},
        {"\"i\"", "integer 7"},
        {"\"order\"", "integer 42"},
        {"\"true\"", "string quoted"},
        {"in_", "integer NULL"},
        {"at", "timestamp 2001-01-01T00:00:00Z"},
        {"nt", "timestamp NULL"},
        {"( ( i ) )", "integer 7"},
        {"\t\r\n i \n", "integer 7"},
    };
    CHECK(cases);
}

static void test_arithmetic(void **state)
{
    (void)state;
    static const struct expected cases[] = {
        {"i + j", "integer 5"},
        {"i - j", "integer 9"},
        {"i * j", "integer -14"},
        {"i / j", "integer -3"}, /* truncates */
        {"-7 / 2", "integer -3"},
        {"i % j", "integer 1"},
        {"-7 % 2", "integer -1"},
        {"i / 2.0", "decimal 3.5000000000000000"},
        {"i / 2.", "decimal 3.5000000000000000"},
        {"d + 1", "decimal 2.50"},
        {"d - 0.001", "decimal 1.499"},
        {"d * d", "decimal 2.2500"},
        {"d / 3", "decimal 0.50000000000000000000"},
        {"d % 1", "decimal 0.50"},
        {"0.1 + 0.2", "decimal 0.3"},
        {"- d", "decimal -1.50"},
        {"+i", "integer 7"},
        {"- - i", "integer 7"},
        {"-+-i", "integer 7"},
        {"i*-1", "integer -7"},
        {"i + in_", "integer NULL"},
        {"in_ / 0", "integer NULL"},
        {"nd / 0", "decimal NULL"},
        {"i + NULL", "integer NULL"},
        {"NULL * d", "decimal NULL"},
        {"- in_", "integer NULL"},
        {"in_ + d", "decimal NULL"},
    };
    CHECK(cases);
}

static void test_overflow_and_division_by_zero(void **state)
{
    (void)state;
    static const char range[] = "error: integer out of range";
    static const char zero[] = "error: division by zero";
    static const char digits[] = "error: decimal out of range: more than 38 digits";
    static const struct expected cases[] = {
        {"9223372036854775807 + i", range},
        {"j - 9223372036854775807", range},
        {"9223372036854775807 * i", range},
        {"-9223372036854775808 / (i - 8)", range},
        {"-9223372036854775808 % (i - 8)", "integer 0"},
        {"-(-9223372036854775807 - 1 + i - 7)", range},
        {"i / 0", zero},
        {"i % 0", zero},
        {"d / 0", zero},
        {"d / 0.00", zero},
        {"d % 0", zero},
        {"99999999999999999999999999999999999999 + i", digits},
        {"99999999999999999999999999999999999999 * d", digits},
        {"1e-38 * d", digits},
        {"i / 3e30", digits}, /* PostgreSQL's scale is 48 */
    };
    CHECK(cases);
}

static void test_strings(void **state)
{
    (void)state;
    static const struct expected cases[] = {
        {"s || 'd'", "string abcd"},
        {"s || '-' || s", "string abc-abc"},
        {"'' || ''", "string "},
        {"s || ns", "string NULL"},
        {"s || NULL", "string NULL"},
        {"NULL || NULL", "string NULL"},
        {"s||\"true\"", "string abcquoted"},
    };
    CHECK(cases);
}

static void test_comparisons(void **state)
{
    (void)state;
    static const struct expected cases[] = {
        {"i = 7", "boolean true"},
        {"i <> 7", "boolean false"},
        {"i != 8", "boolean true"},
        {"i < 7", "boolean false"},
        {"i <= 7", "boolean true"},
        {"i > 7", "boolean false"},
        {"i >= 7", "boolean true"},
        {"i<-1", "boolean false"},
        {"i>=-1", "boolean true"},
        {"i = 7.00", "boolean true"},
        {"d = 1.5", "boolean true"},
        {"d < 1.49999999999999999999999999999999999", "boolean false"},
        {"s < 'abd'", "boolean true"},
        {"s > 'ABD'", "boolean true"}, /* bytes */
        {"s > 'ab'", "boolean true"},
        {"s = 'abc '", "boolean false"}, /* no padding */
        {"'\xC3\xA9' > 'z'", "boolean true"},
        {"f < t", "boolean true"},
        {"at = '2001-01-01'", "boolean true"},
        {"at < '2001-01-01T00:00:00.000001Z'", "boolean true"},
        {"at = '2001-01-01 02:00:00+02:00'", "boolean true"},
        {"'2000-12-31' < at", "boolean true"},
        {"in_ = in_", "boolean NULL"},
        {"i = NULL", "boolean NULL"},
        {"NULL = NULL", "boolean NULL"},
    };
    CHECK(cases);
}

/* Every pair of true, false and unknown. */
static void test_three_valued_logic(void **state)
{
    (void)state;
    static const char *const names[] = {"t", "f", "u"};
    static const char *const shown[] = {"true", "false", "NULL"};
    static const int both[3][3] = {{0, 1, 2}, {1, 1, 1}, {2, 1, 2}};
    static const int either[3][3] = {{0, 0, 0}, {0, 1, 2}, {0, 2, 2}};
    static const int negated[3] = {1, 0, 2};
    char text[64], wanted[32];

    for (int a = 0; a < 3; a++) {
        for (int b = 0; b < 3; b++) {
            snprintf(text, sizeof text, "%s AND %s", names[a], names[b]);
            snprintf(wanted, sizeof wanted, "boolean %s", shown[both[a][b]]);
            assert_string_equal(result_of(text), wanted);
            snprintf(text, sizeof text, "%s OR %s", names[a], names[b]);
            snprintf(wanted, sizeof wanted, "boolean %s", shown[either[a][b]]);
            assert_string_equal(result_of(text), wanted);
        }
        snprintf(text, sizeof text, "NOT %s", names[a]);
        snprintf(wanted, sizeof wanted, "boolean %s", shown[negated[a]]);
        assert_string_equal(result_of(text), wanted);
    }
}

static void test_tests(void **state)
{
    (void)state;
    static const struct expected cases[] = {
        {"in_ IS NULL", "boolean true"},
        {"i IS NULL", "boolean false"},
        {"i is not null", "boolean true"},
        {"NULL IS NULL", "boolean true"},
        {"t IS TRUE", "boolean true"},
        {"u IS TRUE", "boolean false"},
        {"u IS NOT TRUE", "boolean true"},
        {"f IS FALSE", "boolean true"},
        {"u IS NOT FALSE", "boolean true"},
        {"NULL IS TRUE", "boolean false"},
        {"u IS NULL IS TRUE", "boolean true"},
        {"i IS DISTINCT FROM 7", "boolean false"},
        {"i IS DISTINCT FROM in_", "boolean true"},
        {"in_ IS DISTINCT FROM NULL", "boolean false"},
        {"in_ IS NOT DISTINCT FROM nd", "boolean true"},
        {"d IS NOT DISTINCT FROM 1.5", "boolean true"},
        {"at IS DISTINCT FROM '2001-01-01'", "boolean false"},
        {"t IS DISTINCT FROM i = 7", "boolean false"},
        {"i IN (1, 7)", "boolean true"},
        {"i IN (1, 2)", "boolean false"},
        {"i IN (1, NULL)", "boolean NULL"},
        {"i IN (7, NULL)", "boolean true"},
        {"i NOT IN (1, 7)", "boolean false"},
        {"i NOT IN (1, 2)", "boolean true"},
        {"i NOT IN (1, NULL)", "boolean NULL"},
        {"in_ IN (1)", "boolean NULL"},
        {"i IN (6.5, 7.0)", "boolean true"},
        {"s IN ('x', s || '')", "boolean true"},
        {"at IN ('2000-01-01', '2001-01-01')", "boolean true"},
        {"i BETWEEN 7 AND 7", "boolean true"},
        {"i BETWEEN 8 AND 6", "boolean false"},
        {"i NOT BETWEEN 1 AND 6", "boolean true"},
        {"i BETWEEN 6.5 AND 8", "boolean true"},
        {"i BETWEEN NULL AND 6", "boolean false"},
        {"i BETWEEN NULL AND 8", "boolean NULL"},
        {"i BETWEEN 8 AND NULL", "boolean false"},
        {"i NOT BETWEEN 8 AND NULL", "boolean true"},
        {"in_ BETWEEN 1 AND 2", "boolean NULL"},
        {"at BETWEEN '2000-12-31' AND '2001-01-01'", "boolean true"},
    };
    CHECK(cases);
}

static void test_case_and_coalesce(void **state)
{
    (void)state;
    static const struct expected cases[] = {
        {"CASE WHEN i > 5 THEN 'big' ELSE 'small' END", "string big"},
        {"CASE WHEN u THEN 1 WHEN f THEN 2 WHEN t THEN 3 END", "integer 3"},
        {"CASE WHEN u THEN 1 END", "integer NULL"},
        {"CASE WHEN NULL THEN 1 ELSE 2 END", "integer 2"},
        {"CASE i WHEN 1 THEN 'a' WHEN 7 THEN 'b' END", "string b"},
        {"CASE in_ WHEN NULL THEN 1 ELSE 2 END", "integer 2"}, /* NULL = NULL is not true */
        {"CASE d WHEN 1 THEN 1 WHEN 1.5 THEN 2 END", "integer 2"},
        {"CASE t WHEN i = 7 THEN 1 END", "integer 1"},
        {"CASE WHEN t THEN 1 ELSE 2.5 END", "decimal 1"},
        {"CASE WHEN t THEN NULL ELSE i END", "integer NULL"},
        {"CASE WHEN f THEN at ELSE '1970-01-01' END", "timestamp 1970-01-01T00:00:00Z"},
        {"CASE WHEN t THEN CASE WHEN f THEN 1 ELSE 2 END END + 1", "integer 3"},
        {"COALESCE(in_, i)", "integer 7"},
        {"coalesce(in_, NULL)", "integer NULL"},
        {"COALESCE(in_, 2.5, i)", "decimal 2.5"},
        {"COALESCE(i, 2.5)", "decimal 7"},
        {"COALESCE(ns, 'none')", "string none"},
        {"COALESCE(nt, '1970-01-01T00:00:00.5Z')", "timestamp 1970-01-01T00:00:00.5Z"},
        {"COALESCE(NULL, NULL)", "string NULL"},
        {"COALESCE(i)", "integer 7"},
    };
    CHECK(cases);
}

/* What is not reached does not fail; what is reached does. */
static void test_short_circuits(void **state)
{
    (void)state;
    static const char zero[] = "error: division by zero";
    static const struct expected cases[] = {
        {"f AND i / 0 > 1", "boolean false"},
        {"t AND i / 0 > 1", zero},
        {"u AND i / 0 > 1", zero},
        {"i / 0 > 1 AND f", zero},
        {"t OR i / 0 > 1", "boolean true"},
        {"u OR i / 0 > 1", zero},
        {"i IN (7, i / 0)", "boolean true"},
        {"i IN (8, i / 0)", zero},
        {"in_ IN (i / 0)", zero},
        {"i BETWEEN 8 AND i / 0", "boolean false"},
        {"i BETWEEN 7 AND i / 0", zero},
        {"i BETWEEN NULL AND i / 0", zero},
        {"i NOT BETWEEN 8 AND i / 0", "boolean true"},
        {"CASE WHEN t THEN 1 ELSE i / 0 END", "integer 1"},
        {"CASE WHEN f THEN i / 0 ELSE 1 END", "integer 1"},
        {"CASE i WHEN 7 THEN 1 WHEN i / 0 THEN 2 END", "integer 1"},
        {"CASE i / 0 WHEN 7 THEN 1 END", zero},
        {"COALESCE(i, i / 0)", "integer 7"},
        {"COALESCE(in_, i / 0)", zero},
        {"in_ + i / 0", zero},
        {"i / 0 IS NULL", zero},
    };
    CHECK(cases);
}

static void test_precedence_and_associativity(void **state)
{
    (void)state;
    static const struct expected cases[] = {
        {"1 + 2 * 3", "integer 7"},
        {"(1 + 2) * 3", "integer 9"},
        {"10 - 2 - 3", "integer 5"},
        {"100 / 10 / 5", "integer 2"},
        {"100 / (10 / 5)", "integer 50"},
        {"7 % 4 * 2", "integer 6"},
        {"-7 % 4", "integer -3"},
        {"- i * 2 + 1", "integer -13"},
        {"1 + 1 = 2", "boolean true"},
        {"'a' || 'b' = 'ab'", "boolean true"},
        {"NOT f AND f", "boolean false"},
        {"NOT (f AND f)", "boolean true"},
        {"NOT NOT t", "boolean true"},
        {"NOT i = 8", "boolean true"},
        {"NOT u IS NULL", "boolean false"},
        {"t OR f AND f", "boolean true"},
        {"(t OR f) AND f", "boolean false"},
        {"i = 8 IS NULL", "boolean false"},
        {"t = i IN (7)", "boolean true"},
        {"i IN (7) = t", "boolean true"},
        {"i BETWEEN 1 AND 9 AND f", "boolean false"},
        {"f = i BETWEEN 1 AND 6", "boolean true"},
        {"i BETWEEN 1 + 1 AND 2 * 4", "boolean true"},
        {"NOT i BETWEEN 1 AND 9", "boolean false"},
        {"t IS DISTINCT FROM f AND f", "boolean false"},
    };
    CHECK(cases);
}

static void test_type_errors(void **state)
{
    (void)state;
    static const struct expected cases[] = {
        {"i + s", "column 3: + wants numbers, found type string"},
        {"t * 2", "column 3: * wants numbers, found type boolean"},
        {"at - at",
         "column 1: an interval is no result; EXTRACT(epoch FROM ...) gives its seconds"},
        {"NULL + NULL", "column 6: + wants numbers, found NULL"},
        {"'1' + i", "column 5: + wants numbers, found type string"},
        {"-s", "column 1: a sign wants a number, found type string"},
        {"1 + -NULL", "column 5: a sign wants a number, found NULL"},
        {"i || t", "column 3: || wants strings, found types integer and boolean"},
        {"5 || i", "column 3: || wants strings, found types integer and integer"},
        {"s = i", "column 3: comparison: the types string and integer do not go together"},
        {"i = '7'", "column 3: comparison: the types integer and string do not go together"},
        {"t = 1", "column 3: comparison: the types boolean and integer do not go together"},
        {"at > 5", "column 4: comparison: the types timestamp and integer do not go together"},
        {"at = 'noon'", "column 4: comparison: 'noon' is not a time such as '2001-01-01' or "
                        "'2001-01-01T00:00:00Z'"},
        {"at = '2001-02-29'", "column 4: comparison: '2001-02-29' is not a time such as "
                              "'2001-01-01' or '2001-01-01T00:00:00Z'"},
        /* read differently, or not at all, by PostgreSQL */
        {"at = '2001-01-01T00:00:00.1234567Z'",
         "column 4: comparison: '2001-01-01T00:00:00.1234567Z' is not a time such as "
         "'2001-01-01' or '2001-01-01T00:00:00Z'"},
        {"at = '2001-01-01T00:00:00+16:00'",
         "column 4: comparison: '2001-01-01T00:00:00+16:00' is not a time such as "
         "'2001-01-01' or '2001-01-01T00:00:00Z'"},
        {"at = s", "column 4: comparison: the types timestamp and string do not go together"},
        {"i AND t", "column 1: AND wants a boolean, found type integer"},
        {"t AND 'x'", "column 7: AND wants a boolean, found type string"},
        {"t OR f OR i", "column 11: OR wants a boolean, found type integer"},
        {"NOT i", "column 5: NOT wants a boolean, found type integer"},
        {"i IS TRUE", "column 1: IS TRUE/FALSE wants a boolean, found type integer"},
        {"i IS DISTINCT FROM s", "column 1: IS DISTINCT FROM: the types integer and string do not "
                                 "go together"},
        {"i IN (1, s)", "column 3: IN: the types integer and string do not go together"},
        {"i BETWEEN 1 AND t",
         "column 3: BETWEEN: the types integer and boolean do not go together"},
        {"CASE WHEN i THEN 1 END", "column 11: WHEN wants a boolean, found type integer"},
        {"CASE WHEN t THEN 1 ELSE s END", "column 1: CASE: the types integer and string do not go "
                                          "together"},
        {"CASE i WHEN s THEN 1 END", "column 1: CASE: the types integer and string do not go "
                                     "together"},
        {"1 + COALESCE(i, s)",
         "column 5: COALESCE: the types integer and string do not go together"},
        {"COALESCE(NULL, 'x', i)", "column 1: COALESCE: the types integer and string do not go "
                                   "together"},
    };
    CHECK(cases);
}

static void test_syntax_errors(void **state)
{
    (void)state;
    static const char one_operator[] = "SQL reads this as one operator; put a space in between";
    static const char comment[] = "SQL reads this as a comment; put a space in between";
    char text[200];
    static const struct expected cases[] = {
        {"", "column 1: wants a value, found the end"},
        {"   ", "column 4: wants a value, found the end"},
        {"i +", "column 4: wants a value, found the end"},
        {"i + *", "column 5: wants a value, found *"},
        {"i j", "column 3: the expression should end before \"j\""},
        {"(i", "column 3: wants ), found the end"},
        {"i)", "column 2: the expression should end before \")\""},
        {"()", "column 2: wants a value, found )"},
        {"(i, j)", "column 3: wants ), found \",\""},
        {"'abc", "column 1: the string does not end"},
        {"'abc''", "column 1: the string does not end"},
        {"'abc'''", "string abc'"},
        {"'''", "column 1: the string does not end"},
        {"'", "column 1: the string does not end"},
        {"i + \"j", "column 5: the quoted name does not end"},
        {"s || '\xC3\xA9\xC3\xA9' || 'x", "column 14: the string does not end"}, /* characters */
        {"E'x'", "column 1: strings with a prefix are not supported"},
        {"s || n'x'", "column 6: strings with a prefix are not supported"},
        {"'a' 'b'", "column 5: the expression should end before \"b\""},
        {"12x", "column 1: the number is followed by other characters"},
        {"i + 1e", "column 5: the number is followed by other characters"},
        {"1.2.3", "column 1: the number is followed by other characters"},
        {"0x10", "column 1: the number is followed by other characters"},
        {"123456789012345678901234567890123456789", "column 1: the number has more than 38 digits"},
        {"1e-39", "column 1: the number has more than 38 digits"},
        {"i ; j", "column 3: this character has no meaning here"},
        {"i & 2", "column 3: this character has no meaning here"},
        {"i:text", "column 2: this character has no meaning here"},
        {"\xC3\xA9", "column 1: this character has no meaning here"},
        {"i < j < 3", "column 7: comparisons cannot be chained; use AND"},
        {"i IS 5", "column 6: IS wants NULL, TRUE, FALSE or DISTINCT FROM"},
        {"i IS DISTINCT 5", "column 15: wants from, found \"5\""},
        {"i IS DISTINCT FROM j IS NULL", "column 22: IS DISTINCT FROM wants parentheses before IS"},
        {"i NOT 5", "column 7: wants IN, BETWEEN, LIKE or ILIKE after NOT"},
        {"i IN 5", "column 6: wants (, found \"5\""},
        {"i IN ()", "column 7: wants a value, found )"},
        {"i BETWEEN 1 OR 2", "column 13: wants and, found \"or\""},
        {"CASE END",
         "column 6: \"end\" is a reserved word of SQL; a field of that name is written in "
         "double quotes"},
        {"CASE WHEN t THEN 1", "column 19: wants end, found the end"},
        {"CASE WHEN t 1 END", "column 13: wants then, found \"1\""},
        {"CASE i ELSE 1 END", "column 8: wants when, found \"else\""},
        {"COALESCE i", "column 1: source \"s\" has no field \"coalesce\""},
        {"COALESCE()", "column 10: wants a value, found )"},
        {"order",
         "column 1: \"order\" is a reserved word of SQL; a field of that name is written in "
         "double quotes"},
        {"i + USER",
         "column 5: \"user\" is a reserved word of SQL; a field of that name is written "
         "in double quotes"},
        {"missing", "column 1: source \"s\" has no field \"missing\""},
        {"\"I\"", "column 1: source \"s\" has no field \"I\""},
        {"size(s)", "column 1: there is no function size"},
        {"i NOTNULL", "column 3: the expression should end before \"notnull\""},
        {"count(*)", "column 1: there is no function count"},
    };
    CHECK(cases);
    static const char *const joined[] = {"i %-1", "i !=-1", "s ||-i"};
    for (size_t k = 0; k < 3; k++) {
        snprintf(text, sizeof text, "column 3: %s", one_operator);
        assert_string_equal(result_of(joined[k]), text);
    }
    snprintf(text, sizeof text, "column 2: %s", comment);
    assert_string_equal(result_of("i--1"), text);
    assert_string_equal(result_of("i/*1*/"), text);
    snprintf(text, sizeof text, "column 2: %s", one_operator);
    assert_string_equal(result_of("i<=>1"), text);
    assert_string_equal(result_of("i=*1"), text);
}

/* Error texts are UTF-8, whatever is cut. */
static void test_long_names_are_cut_between_characters(void **state)
{
    (void)state;
    for (size_t length = 900; length < 1100; length++) {
        char text[1200];
        memset(text, 0, sizeof text);
        text[0] = '"';
        for (size_t i = 1; i + 1 < length; i += 2) {
            memcpy(text + i, "\xC3\xA9", 2);
        }
        text[strlen(text)] = '"';
        const char *result = result_of(text);
        json_t *json = json_string(result); /* refuses what is not UTF-8 */
        assert_non_null(json);
        json_decref(json);
    }
}

static char *repeated(const char *before, const char *middle, const char *after, size_t count)
{
    size_t a = strlen(before), b = strlen(after);
    char *text = malloc(count * (a + b) + strlen(middle) + 1), *next = text;

    assert_non_null(text);
    for (size_t i = 0; i < count; i++, next += a) {
        memcpy(next, before, a);
    }
    strcpy(next, middle);
    next += strlen(middle);
    for (size_t i = 0; i < count; i++, next += b) {
        memcpy(next, after, b);
    }
    *next = '\0';
    return text;
}

static void check_repeated(const char *before, const char *middle, const char *after, size_t count,
                           const char *wanted)
{
    char *text = repeated(before, middle, after, count);
    assert_string_equal(result_of(text), wanted);
    free(text);
}

static void test_nesting_is_bounded(void **state)
{
    (void)state;
    check_repeated("(", "i", ")", 199, "integer 7");
    check_repeated("(", "i", ")", 200, "column 201: nested more than 200 deep");
    check_repeated("(", "i", ")", 100000, "column 201: nested more than 200 deep");
    check_repeated("NOT ", "t", "", 198, "boolean true");
    check_repeated("NOT ", "t", "", 100000, "column 801: nested more than 200 deep");
    check_repeated("- ", "i", "", 198, "integer 7");
    check_repeated("- ", "i", "", 100000, "column 401: nested more than 200 deep");
    check_repeated("CASE WHEN t THEN ", "i", " END", 100000,
                   "column 3394: nested more than 200 deep");
    check_repeated("COALESCE(", "i", ")", 100000, "column 1801: nested more than 200 deep");
}

/* Chains nest without parentheses, as deep as they are long. */
static void test_chains_are_bounded(void **state)
{
    (void)state;
    static const char parts[] = "more than 5000 parts in one expression";
    check_repeated("", "i", " + 0", 2499, "integer 7");
    check_repeated("", "s", " || ''", 2499, "string abc");
    check_repeated("", "t", " IS TRUE", 4999, "boolean true");
    check_repeated("", "t", " AND t", 999, "boolean true");
    static const char *const chains[] = {" + 0", " * 1", " || ''", " IS TRUE"};
    static const char *const starts[] = {"i", "i", "s", "t"};
    for (size_t k = 0; k < 4; k++) {
        char *text = repeated("", starts[k], chains[k], 100000);
        const char *result = result_of(text);
        assert_non_null(strstr(result, parts));
        free(text);
    }
    char *text = repeated("", "t", " OR f", 1000);
    assert_non_null(strstr(result_of(text), "more than 1000 parts"));
    free(text);
}

/* Nesting and chains together: the deepest tree there can be is evaluated. */
static void test_the_deepest_tree(void **state)
{
    (void)state;
    char *text = malloc(40000), *next = text;
    for (int level = 0; level < 190; level++) {
        *next++ = '(';
    }
    *next++ = 'd';
    for (int level = 0; level < 190; level++) {
        for (int i = 0; i < 8; i++) {
            next = stpcpy(next, "+0");
        }
        *next++ = ')';
    }
    *next = '\0';
    assert_string_equal(result_of(text), "decimal 1.50");
    free(text);
}

static void test_long_texts_take_linear_time_and_memory(void **state)
{
    (void)state;
    char *text = repeated("", "i + 0", " ", 3000000);
    assert_string_equal(result_of(text), "integer 7");
    free(text);
    text = repeated("1 ", "", "", 1000000);
    assert_string_equal(result_of(text), "column 3: the expression should end before \"1\"");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_literals_and_fields),
        cmocka_unit_test(test_arithmetic),
        cmocka_unit_test(test_overflow_and_division_by_zero),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_comparisons),
        cmocka_unit_test(test_three_valued_logic),
        cmocka_unit_test(test_tests),
        cmocka_unit_test(test_case_and_coalesce),
        cmocka_unit_test(test_short_circuits),
        cmocka_unit_test(test_precedence_and_associativity),
        cmocka_unit_test(test_type_errors),
        cmocka_unit_test(test_syntax_errors),
        cmocka_unit_test(test_long_names_are_cut_between_characters),
        cmocka_unit_test(test_nesting_is_bounded),
        cmocka_unit_test(test_chains_are_bounded),
        cmocka_unit_test(test_the_deepest_tree),
        cmocka_unit_test(test_long_texts_take_linear_time_and_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
