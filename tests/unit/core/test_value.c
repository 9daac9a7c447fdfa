/* Values: order, texts both ways, and the bytes of keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "core/time/timestamp.h"
#include "core/base/utf8.h"
#include "core/value.h"

static struct error error;

static struct value parsed(enum value_type type, const char *text)
{
    struct value value;
    if (value_parse(type, text, strlen(text), &value, &error) != STATUS_OK) {
        fail_msg("%s", error.text);
    }
    return value;
}

static void test_types(void **state)
{
    (void)state;
    static const char *const names[][2] = {{"string", "text"},
                                           {"integer", "bigint"},
                                           {"decimal", "numeric"},
                                           {"boolean", "boolean"},
                                           {"timestamp", "timestamptz"}};
    for (size_t i = 0; i < 5; i++) {
        enum value_type type;
        assert_true(value_type_from_name(names[i][0], &type));
        assert_int_equal(type, VALUE_STRING + (int)i);
        assert_string_equal(value_type_name(type), names[i][0]);
        assert_string_equal(value_type_sql(type), names[i][1]);
        assert_true(value_null(type).is_null);
        assert_int_equal(value_null(type).type, type);
    }
    enum value_type type;
    assert_false(value_type_from_name("float", &type));
    assert_false(value_type_from_name("", &type));
    assert_false(value_type_from_name("String", &type));
}

/* Ascending; NULL is last. */
static void test_order(void **state)
{
    (void)state;
    static const struct {
        enum value_type type;
        const char *texts[6];
    } lists[] = {
        {VALUE_STRING, {"", "A", "a", "ab", "b", "\xC3\xA9"}},
        {VALUE_INTEGER, {"-9223372036854775808", "-1", "0", "1", "2", "9223372036854775807"}},
        {VALUE_DECIMAL, {"-10", "-0.5", "0.00", "0.01", "1.5", "12345678901234567890123456789"}},
        {VALUE_TIMESTAMP,
         {"0001-01-01T00:00:00Z", "1969-12-31", "1970-01-01", "1970-01-01T00:00:00.000001Z",
          "2001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"}},
    };
    for (size_t l = 0; l < 4; l++) {
        struct value null = value_null(lists[l].type);
        for (size_t i = 0; i < 6; i++) {
            struct value a = parsed(lists[l].type, lists[l].texts[i]);
            for (size_t j = 0; j < 6; j++) {
                struct value b = parsed(lists[l].type, lists[l].texts[j]);
                int order = value_compare(&a, &b);
                assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
            }
            assert_true(value_compare(&a, &null) < 0);
            assert_true(value_compare(&null, &a) > 0);
        }
        assert_int_equal(value_compare(&null, &null), 0);
    }
    struct value no = value_boolean(false), yes = value_boolean(true);
    assert_true(value_compare(&no, &yes) < 0);
    assert_int_equal(value_compare(&yes, &yes), 0);
}

static void test_texts(void **state)
{
    (void)state;
    struct arena arena;
    static const struct {
        enum value_type type;
        const char *in, *out;
    } cases[] = {
        {VALUE_STRING, "", ""},
        {VALUE_STRING, " x ", " x "},
        {VALUE_INTEGER, "-9223372036854775808", "-9223372036854775808"},
        {VALUE_INTEGER, "0", "0"},
        {VALUE_DECIMAL, "1.500", "1.5"},
        {VALUE_DECIMAL, "100", "100"},
        {VALUE_DECIMAL, "0.00", "0"},
        {VALUE_DECIMAL, "1e3", "1000"},
        {VALUE_BOOLEAN, "true", "true"},
        {VALUE_BOOLEAN, "false", "false"},
        {VALUE_TIMESTAMP, "2001-01-01", "2001-01-01T00:00:00Z"},
        {VALUE_TIMESTAMP, "2001-01-01T02:00:00.500+02:00", "2001-01-01T00:00:00.5Z"},
    };
    arena_init(&arena);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct value value = parsed(cases[i].type, cases[i].in);
        size_t length;
        assert_string_equal(value_text(&value, &arena, &length), cases[i].out);
        assert_int_equal(length, strlen(cases[i].out));
        struct value again = parsed(cases[i].type, cases[i].out);
        assert_int_equal(value_compare(&value, &again), 0);
        assert_string_equal(value_text(&again, &arena, NULL), cases[i].out);
    }
    arena_deinit(&arena);
}

/* Arrays are results only: they have a text and PostgreSQL's order. */
static void test_arrays(void **state)
{
    (void)state;
    static const int64_t numbers[] = {INT64_MIN, 0, 7, INT64_MAX};
    struct arena arena;
    size_t length;
    arena_init(&arena);
    struct value all = value_integers(numbers, 4), some = value_integers(numbers, 3),
                 none = value_integers(NULL, 0), greater = value_integers(numbers + 1, 1);
    assert_string_equal(value_text(&all, &arena, &length),
                        "{-9223372036854775808,0,7,9223372036854775807}");
    assert_int_equal(length, 46);
    assert_string_equal(value_text(&none, &arena, NULL), "{}");
    assert_true(value_compare(&some, &all) < 0);
    assert_true(value_compare(&all, &greater) < 0);
    assert_true(value_compare(&none, &some) < 0);
    assert_int_equal(value_compare(&all, &all), 0);
    assert_string_equal(value_type_sql(VALUE_INTEGERS), "bigint[]");
    enum value_type type;
    assert_false(value_type_from_name("integers", &type)); /* no field's type */
    arena_deinit(&arena);
}

static void test_refused_texts(void **state)
{
    (void)state;
    static const struct {
        enum value_type type;
        const char *text, *fault;
    } cases[] = {
        {VALUE_INTEGER, "", "\"\" is not an integer"},
        {VALUE_INTEGER, "1.0", "\"1.0\" is not an integer"},
        {VALUE_INTEGER, "9223372036854775808", "\"9223372036854775808\" is not an integer"},
        {VALUE_INTEGER, " 1", "\" 1\" is not an integer"},
        {VALUE_INTEGER, "+1", "\"+1\" is not an integer"},
        {VALUE_DECIMAL, "1,5", "\"1,5\" is not a decimal"},
        {VALUE_DECIMAL, "NaN", "\"NaN\" is not a decimal"},
        {VALUE_DECIMAL, "1e99", "\"1e99\" is not a decimal"},
        {VALUE_BOOLEAN, "TRUE", "\"TRUE\" is not a boolean"},
        {VALUE_BOOLEAN, "1", "\"1\" is not a boolean"},
        {VALUE_TIMESTAMP, "2001-02-29", "\"2001-02-29\" is not a timestamp"},
        {VALUE_TIMESTAMP, "0000-01-01", "\"0000-01-01\" is not a timestamp"},
        {VALUE_TIMESTAMP, "now", "\"now\" is not a timestamp"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct value value;
        assert_int_equal(
            value_parse(cases[i].type, cases[i].text, strlen(cases[i].text), &value, &error),
            STATUS_REJECT);
        assert_string_equal(error.text, cases[i].fault);
    }
}

/* Wherever a long text is cut, it is cut between two characters. */
static void test_long_texts_are_cut_between_characters(void **state)
{
    (void)state;
    for (size_t start = 0; start < 4; start++) {
        char text[200] = "";
        struct value value;
        memset(text, 'x', start);
        for (size_t i = start; i + 4 < sizeof text; i += 4) {
            memcpy(text + i, "\xF0\x9F\x98\x80", 4);
        }
        assert_int_equal(value_parse(VALUE_INTEGER, text, strlen(text), &value, &error),
                         STATUS_REJECT);
        assert_true(utf8_is_text(error.text, strlen(error.text)));
        assert_non_null(strstr(error.text, "\" is not an integer"));
    }
}

static void check_key(const struct value *value)
{
    uint8_t bytes[256];
    struct value again;

    size_t length = value_key_encode(value, bytes);
    assert_int_equal(length, value_key_size(value));
    assert_int_equal(value_key_decode(value->type, bytes, &again), length);
    assert_int_equal(again.type, value->type);
    assert_int_equal(again.is_null, value->is_null);
    assert_int_equal(value_compare(&again, value), 0);
}

static void test_key_bytes(void **state)
{
    (void)state;
    static const struct {
        enum value_type type;
        const char *text;
    } cases[] = {
        {VALUE_STRING, ""},
        {VALUE_STRING, "abc"},
        {VALUE_INTEGER, "-9223372036854775808"},
        {VALUE_DECIMAL, "-99999999999999999999999999999999999999"},
        {VALUE_DECIMAL, "0.00000000000000000000000000000000000001"},
        {VALUE_BOOLEAN, "true"},
        {VALUE_BOOLEAN, "false"},
        {VALUE_TIMESTAMP, "1969-12-31T23:59:59.999999Z"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct value value = parsed(cases[i].type, cases[i].text);
        check_key(&value);
        if (value.type != VALUE_STRING) {
            assert_true(value_key_size(&value) <= VALUE_KEY_FIXED_BYTES);
        }
        value = value_null(cases[i].type);
        check_key(&value);
    }
}

/* Equal values have equal bytes, and only they do. */
static void test_equal_decimals_are_equal_keys(void **state)
{
    (void)state;
    static const char *const texts[] = {"0",  "0.00", "-0.0", "1",  "1.0",  "1.000",
                                        "10", "1e1",  "0.1",  "-1", "-1.0", "100"};
    for (size_t i = 0; i < 12; i++) {
        for (size_t j = 0; j < 12; j++) {
            uint8_t a[32], b[32];
            struct value left = parsed(VALUE_DECIMAL, texts[i]);
            struct value right = parsed(VALUE_DECIMAL, texts[j]);
            size_t length = value_key_encode(&left, a);
            bool same = value_key_encode(&right, b) == length && memcmp(a, b, length) == 0;
            assert_int_equal(same, value_compare(&left, &right) == 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_refused_texts),
        cmocka_unit_test(test_long_texts_are_cut_between_characters),
        cmocka_unit_test(test_key_bytes),
        cmocka_unit_test(test_equal_decimals_are_equal_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
