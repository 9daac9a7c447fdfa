/* Functions, casts and patterns of expressions: their values, their errors, their limits, and what
 * is refused at which column. PostgreSQL judges many more in
 * tests/integration/test_expression_oracle.c; the values here are its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/numbers/decimal_functions.h"
#include "core/definitions/definition.h"
#include "core/functions/functions.h"
#include "core/functions/regex.h"

static const char source_json[] =
    "{\"source\":\"s\",\"topic\":\"t\",\"event_time\":{\"field\":\"at\",\"format\":\"rfc3339\"},"
    "\"fields\":{\"at\":\"timestamp\",\"i\":\"integer\",\"d\":\"decimal\",\"s\":\"string\","
    "\"b\":\"boolean\",\"ns\":\"string\",\"length\":\"integer\",\"interval\":\"string\"}}";

enum { FIELDS = 8, LONG_BYTES = 1 << 20 };

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
        value_timestamp(983403296500000), /* 2001-02-28T23:34:56.5Z, a Wednesday */
        value_integer(-7),
        value_decimal((struct decimal){.coefficient = -2550, .scale = 3}),
        value_string("\xC3\x89t\xC3\xA9 12", 8),
        value_boolean(true),
        value_null(VALUE_STRING),
        value_integer(42),
        value_string("x", 1),
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

/* The value as "type text", or the error with its SQLSTATE; good until the next call. */
static const char *result_of(const char *text)
{
    static char result[2048];
    struct expression *expression;
    struct value value;
    char decimal[DECIMAL_TEXT_SIZE];

    arena_reset(&scratch);
    if (expression_create(text, source, &expression, &error) != STATUS_OK) {
        assert_int_equal(error.status, STATUS_REJECT);
        return error.text;
    }
    enum status status = expression_evaluate(expression, fields, &scratch, &value, &error);
    if (status != STATUS_OK) {
        assert_int_equal(status, STATUS_REJECT);
        snprintf(result, sizeof result, "error %s: %s", error.sqlstate, error.text);
    } else {
        const char *shown = "NULL";
        assert_int_equal(value.type, expression_type(expression));
        if (!value.is_null && value.type == VALUE_DECIMAL) {
            decimal_format(&value.decimal, decimal, sizeof decimal);
            shown = decimal;
        } else if (!value.is_null) {
            shown = value_text(&value, &scratch, NULL);
        }
        snprintf(result, sizeof result, "%s %.1000s", value_type_name(value.type), shown);
    }
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

static void test_numbers(void **state)
{
    (void)state;
    static const struct expected cases[] = {
        {"abs(i)", "integer 7"},
        {"abs(d)", "decimal 2.550"},
        {"abs(-9223372036854775808)", "error 22003: integer out of range"},
        {"abs(-2147483648)", "error 22003: integer out of range"},
        {"sign(d)", "decimal -1"},
        {"round(d)", "decimal -3"},
        {"round(d, 1)", "decimal -2.6"},
        {"round(d, 5)", "decimal -2.55000"},
        {"round(i, 1)", "decimal -7.0"},
        {"round(15.5, -1)", "decimal 20"},
        {"round(d, 39)", "error : decimal out of range: more than 38 digits"},
        {"trunc(d, 1)", "decimal -2.5"},
        {"trunc(d)", "decimal -2"},
        {"floor(d)", "decimal -3"},
        {"ceil(d)", "decimal -2"},
        {"mod(i, 4)", "integer -3"},
        {"mod(d, 2)", "decimal -0.550"},
        {"mod(i, 0)", "error 22012: division by zero"},
        {"div(i, 2)", "decimal -3"},
        {"div(d, 0.1)", "decimal -25"},
        {"div(d, 0)", "error 22012: division by zero"},
        {"power(d, 2)", "decimal 6.5025000000000000"},
        {"1.05 ^ 10", "decimal 1.6288946267774414"},
        {"2.0 ^ 3 ^ 2", "decimal 64.0000000000000000"},
        {"power(2.0, -1)", "error : power of a negative exponent is not supported"},
        {"power(2.0, 100)", "error : decimal out of range: more than 38 digits"},
        {"least(i, d, NULL)", "decimal -7"},
        {"greatest(ns, 'a', 'b')", "string b"},
        {"nullif(i, -7)", "integer NULL"},
        {"nullif(i, 7)", "integer -7"},
        {"2147483647 + 1", "error 22003: integer out of range"},
        {"2147483647 + length", "integer 2147483689"},
    };
    CHECK(cases);
}

static void test_strings(void **state)
{
    (void)state;
    static const struct expected cases[] = {
        {"length(s)", "integer 6"},
        {"octet_length(s)", "integer 8"},
        {"lower(s)", "string \xC3\x89t\xC3\xA9 12"},
        {"upper(s)", "string \xC3\x89T\xC3\xA9 12"},
        {"initcap('hELLO wORLD-2nd')", "string Hello World-2nd"},
        {"substr(s, 2, 2)", "string t\xC3\xA9"},
        {"substr(s, -1, 3)", "string \xC3\x89"},
        {"substr(s, 1, -1)", "error 22011: negative substring length not allowed"},
        {"SUBSTRING(s FROM 5 FOR 1)", "string 1"},
        {"substring(s for 1)", "string \xC3\x89"},
        {"left(s, 2)", "string \xC3\x89t"},
        {"left(s, -2)", "string \xC3\x89t\xC3\xA9 "},
        {"right(s, 2)", "string 12"},
        {"right(s, -2)", "string \xC3\xA9 12"},
        {"TRIM(both '\xC3\x89\xC3\xA9t 1' FROM s)", "string 2"},
        {"trim('  x  ')", "string x"},
        {"ltrim('  x')", "string x"},
        {"rtrim('xyy', 'y')", "string x"},
        {"position('\xC3\xA9' in s)", "integer 3"},
        {"strpos(s, 'x')", "integer 0"},
        {"starts_with(s, '\xC3\x89t')", "boolean true"},
        {"replace(s, '1', 'one')", "string \xC3\x89t\xC3\xA9 one2"},
        {"translate(s, '\xC3\x89\xC3\xA9 ', 'Ee')", "string Ete12"},
        {"split_part('a,b,c', ',', 2)", "string b"},
        {"split_part('a,b,c', ',', -1)", "string c"},
        {"split_part('a', ',', 0)", "error 22023: split_part: the field position must not be zero"},
        {"reverse(s)", "string 21 \xC3\xA9t\xC3\x89"},
        {"repeat('ab', 3)", "string ababab"},
        {"lpad('5', 3, '0')", "string 005"},
        {"rpad(s, 2)", "string \xC3\x89t"},
        {"concat(i, NULL, b, s)", "string -7t\xC3\x89t\xC3\xA9 12"},
        {"concat_ws('-', 'a', ns, 'b')", "string a-b"},
        {"ascii(s)", "integer 201"},
        {"chr(128512)", "string \xF0\x9F\x98\x80"},
        {"chr(0)", "error 54000: chr: 0 is no character"},
        {"s || i", "string \xC3\x89t\xC3\xA9 12-7"},
        {"lower(ns)", "string NULL"},
        {"left(s, NULL)", "string NULL"},
    };
    CHECK(cases);
}

static void test_patterns(void **state)
{
    (void)state;
    static const struct expected cases[] = {
        {"s LIKE '_t%2'", "boolean true"},
        {"s NOT LIKE '%3'", "boolean true"},
        {"s LIKE '%'", "boolean true"},
        {"'a%c' LIKE 'a\\%c'", "boolean true"},
        {"'abc' LIKE 'a\\%c'", "boolean false"},
        {"'a%c' LIKE 'a!%c' ESCAPE '!'", "boolean true"},
        {"'a' LIKE 'a' ESCAPE 'xy'", "error 22025: an escape string is empty or one character"},
        {"'a' LIKE '%\\'", "error 22025: LIKE pattern must not end with escape character"},
        {"'a' LIKE 'b\\'", "boolean false"},
        {"'ABC' ILIKE 'a%'", "boolean true"},
        {"ns LIKE '%'", "boolean NULL"},
        {"s ~ '^[^0-9]+ [0-9]{2}$'", "boolean true"},
        {"s ~ '^..\xC3\xA9'", "boolean true"},
        {"s !~ '\\d\\d'", "boolean false"},
        {"'' ~ '^$'", "boolean true"},
        {"ns ~ 'x'", "boolean NULL"},
        {"s ~ '(a'", "column 3: regular expression: ( without )"},
        {"s ~ 'a)'", "column 3: regular expression: ) without ("},
        {"s ~ '(a)\\1'", "column 3: regular expression: of \\ and a letter or digit there are \\d "
                         "\\w \\s \\D \\W \\S \\n \\r \\t \\f \\v"},
        {"s ~ '(?=a)'", "column 3: regular expression: of (? there is (?: only"},
        {"s ~ ns", "column 3: ~ wants a string literal as its pattern"},
        {"s ~ '((a{200}){200})'",
         "column 3: regular expression: it is too long, repetitions written out"},
    };
    CHECK(cases);
}

static void test_casts(void **state)
{
    (void)state;
    static const struct expected cases[] = {
        {"CAST(i AS text)", "string -7"},
        {"d::text", "string -2.550"},
        {"b::text", "string true"},
        {"at::text", "string 2001-02-28 23:34:56.5+00"},
        {"right(s, 2)::bigint", "integer 12"},
        {"s::bigint", "error 22P02: invalid input for type bigint: \"\xC3\x89t\xC3\xA9 12\""},
        {"btrim(' +5 ')::integer", "integer 5"},
        {"btrim('2147483648')::integer", "error 22003: value out of range for type integer"},
        {"btrim(' 1.50e1 ')::numeric", "decimal 15.0"},
        {"btrim('NaN')::numeric",
         "error : decimal out of range: NaN and infinity are not supported"},
        {"btrim('yE')::boolean", "boolean true"},
        {"btrim('o')::boolean", "error 22P02: invalid input for type boolean: \"o\""},
        {"btrim('2001-02-28T24:00+01:30')::timestamptz", "timestamp 2001-02-28T22:30:00Z"},
        {"btrim('2001-02-29')::timestamptz", "error 22008: there is no such time"},
        {"btrim('Feb 28 2001')::timestamptz",
         "error : the text is not a time such as 2001-01-01 or 2001-01-01T00:00:00Z"},
        {"d::bigint", "integer -3"},
        {"d::numeric(3, 1)", "decimal -2.6"},
        {"d::numeric(2, 2)", "error 22003: numeric field overflow"},
        {"1e20::bigint", "error 22003: integer out of range"},
        {"b::integer", "integer 1"},
        {"CAST(NULL AS bigint)", "integer NULL"},
        {"numeric '1.50' + 1", "decimal 2.50"},
        {"timestamptz '2001-01-01'", "timestamp 2001-01-01T00:00:00Z"},
        {"'x'::bigint", "column 1: invalid input for type bigint: \"x\""},
        {"s || bigint 'y'", "column 6: invalid input for type bigint: \"y\""},
        {"i::date", "column 4: \"date\" is no type that is supported: text, bigint, integer, "
                    "numeric, boolean, timestamptz"},
        {"i::timestamp", "column 4: timestamps are with time zone: write timestamptz"},
        {"b::bigint", "column 1: there is no cast from boolean to integer"},
        {"i::numeric(39)", "column 12: numeric wants a number of digits from 1 to 38"},
    };
    CHECK(cases);
}

static void test_times(void **state)
{
    (void)state;
    static const struct expected cases[] = {
        {"EXTRACT(year FROM at)", "decimal 2001"},
        {"extract('doy' from at)", "decimal 59"},
        {"extract(isodow from at)", "decimal 3"},
        {"extract(week from at)", "decimal 9"},
        {"extract(second from at)", "decimal 56.500000"},
        {"extract(milliseconds from at)", "decimal 56500.000"},
        {"extract(epoch from at)", "decimal 983403296.500000"},
        {"extract(epoch from at - timestamptz '2001-02-28')", "decimal 84896.500000"},
        {"extract(hour from timestamptz '2001-02-28' - at)", "decimal -23"},
        {"date_trunc('hour', at)", "timestamp 2001-02-28T23:00:00Z"},
        {"date_trunc('week', at)", "timestamp 2001-02-26T00:00:00Z"},
        {"date_trunc('quarter', at)", "timestamp 2001-01-01T00:00:00Z"},
        {"date_trunc('century', at)", "timestamp 2001-01-01T00:00:00Z"},
        {"date_trunc('day', at, 'Australia/Lord_Howe')", "timestamp 2001-02-28T13:00:00Z"},
        {"date_trunc('hour', at, 'Asia/Kathmandu')", "timestamp 2001-02-28T23:15:00Z"},
        {"date_trunc('month', at, 'UTC')", "timestamp 2001-02-01T00:00:00Z"},
        /* clocks jumped over midnight; midnight came twice */
        {"date_trunc('day', timestamptz '2018-11-04 12:00Z', 'America/Sao_Paulo')",
         "timestamp 2018-11-04T03:00:00Z"},
        {"date_trunc('day', timestamptz '2012-11-04 04:30Z', 'America/Havana')",
         "timestamp 2012-11-04T05:00:00Z"},
        {"extract(day from at at time zone 'Europe/Berlin')", "decimal 1"},
        {"extract(minute from (at + interval '1 minute') at time zone 'Asia/Kathmandu')",
         "decimal 20"},
        {"extract(hour from timestamptz '9999-12-31 23:00Z' AT TIME ZONE 'Asia/Tokyo')",
         "error : local time out of range: years 0001 to 9999"},
        {"extract(hour from at + interval '1 day' at time zone 'UTC')",
         "column 44: AT TIME ZONE stands behind a timestamp: a field, a call, or an expression in "
         "parentheses"},
        {"date_trunc('day', at, 'Europe/Atlantis')",
         "column 23: there is no time zone \"Europe/Atlantis\" in /usr/share/zoneinfo (package "
         "tzdata)"},
        {"date_trunc('day', at, s)",
         "column 23: wants a time zone as a string literal, such as 'America/New_York'"},
        {"date_trunc('decade', timestamptz '0009-01-01')",
         "error : timestamp out of range: years 0001 to 9999"},
        {"at + interval '1 day'", "timestamp 2001-03-01T23:34:56.5Z"},
        {"timestamptz '2001-01-31' + interval '1' month", "timestamp 2001-02-28T00:00:00Z"},
        {"at - interval '01:00:00.25'", "timestamp 2001-02-28T22:34:56.25Z"},
        {"at + interval '200 years' > at", "boolean true"},
        {"timestamptz '9999-12-31' + interval '1 day'",
         "error : timestamp out of range: years 0001 to 9999"},
        {"at - '2001-02-28' < interval '1 day'", "boolean true"},
        {"interval || 'y'", "string xy"}, /* a field of that name */
        {"interval '1 day'", "column 1: an interval is no result; EXTRACT(epoch FROM ...) gives "
                             "its seconds"},
        {"at + interval '201 years'",
         "column 6: '201 years' is no interval such as '1 day', '-90 minutes' or '2 hours 30 "
         "seconds'"},
        {"greatest(at - at, at - at) = interval '1 day'",
         "column 1: GREATEST: intervals are not supported here"},
        {"extract(nothing from at)", "column 9: EXTRACT: there is no unit \"nothing\""},
        {"date_trunc(s, at)", "column 12: date_trunc wants its unit as a string literal"},
    };
    CHECK(cases);
}

static void test_calls_that_are_refused(void **state)
{
    (void)state;
    static const struct expected cases[] = {
        {"size(s)", "column 1: there is no function size"},
        {"1 + length", "integer 43"}, /* a field of that name */
        {"1 + length(i)", "column 5: there is no length(integer)"},
        {"left(s, i)", "column 1: there is no left(string, integer); where it wants an integer of "
                       "32 bits, write CAST(x AS integer)"},
        {"left(s)", "column 1: there is no left(string)"},
        {"abs(NULL)", "column 1: there is no abs(NULL)"},
        {"round(i)", "column 1: round: of integers PostgreSQL computes it with double precision, "
                     "which is not exact; write CAST(x AS numeric) for x"},
        {"now()", "column 5: wants a value, found )"},
        {"date_part('year', at)", "column 1: date_part: it is double precision in PostgreSQL; use "
                                  "EXTRACT, which is exact"},
        {"substring(s from 1 from 2)", "column 25: SUBSTRING has FROM and FOR once each"},
        {"nullif(i)", "column 1: NULLIF wants two arguments"},
        {"s LIKE 'a' LIKE 'b'", "column 12: the expression should end before \"like\""},
        {"ESCAPE(s, s)", "column 1: there is no function escape"},
    };
    CHECK(cases);
}

/* Strings that functions make end at 16 MiB, whatever they are made of. */
static void test_long_strings(void **state)
{
    (void)state;
    static const char beyond[] = "error : string out of range: more than 16777216 bytes";
    static char text[LONG_BYTES];
    struct value before = fields[3];

    memset(text, 'a', sizeof text);
    fields[3] = value_string(text, sizeof text);
    static const struct expected cases[] = {
        {"length(repeat(s, 16))", "integer 16777216"},
        {"repeat(s, 17)", beyond},
        {"repeat(s, 2147483647)", beyond},
        {"lpad('', 2147483647, '\xF0\x9F\x98\x80')", beyond},
        {"rpad(s, 16777217)", beyond},
        {"replace(s, 'a', repeat('b', 17))", beyond},
        {"replace(s, 'a', s)", beyond},
        {"repeat(s, 16) || 'a'", beyond},
        {"concat(repeat(s, 16), 'a')", beyond},
        {"translate(repeat(s, 8), 'a', '\xE2\x82\xAC')", beyond},
        {"length(translate(repeat(s, 16), 'a', 'b'))", "integer 16777216"},
        /* in time that grows with the string only */
        {"s LIKE '%a%a%a%a%a%a%a%a%b'", "boolean false"},
        {"s ~ '(a*)*b'", "boolean false"},
        {"s ~ '^(a|aa)+$'", "boolean true"},
    };
    CHECK(cases);
    fields[3] = before;
}

static void test_powers_are_exact(void **state)
{
    (void)state;
    struct decimal base = {.coefficient = 1, .scale = 0}, result;

    assert_int_equal(decimal_power(&base, INT32_MAX, &result), DECIMAL_OK);
    base = (struct decimal){.coefficient = 10000001, .scale = 7};
    assert_int_equal(decimal_power(&base, 100000, &result), DECIMAL_OVERFLOW); /* in bits */
    base = (struct decimal){.coefficient = -1, .scale = 1};
    assert_int_equal(decimal_power(&base, 15, &result), DECIMAL_OK);
    assert_true(result.coefficient == -10 && result.scale == 16);
    assert_int_equal(decimal_power(&base, 17, &result), DECIMAL_OK);
    assert_true(result.coefficient == 0 && result.scale == 16);
    base = (struct decimal){.coefficient = 5, .scale = 1};
    assert_int_equal(decimal_power(&base, 53, &result), DECIMAL_OK); /* 1.1102...e-16 */
    assert_true(result.coefficient == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),      cmocka_unit_test(test_strings),
        cmocka_unit_test(test_patterns),     cmocka_unit_test(test_casts),
        cmocka_unit_test(test_times),        cmocka_unit_test(test_calls_that_are_refused),
        cmocka_unit_test(test_long_strings), cmocka_unit_test(test_powers_are_exact),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
