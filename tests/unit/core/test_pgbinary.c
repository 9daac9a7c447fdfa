/* PostgreSQL's binary formats: the bytes of each type, round trips, and damaged rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/postgres/pgbinary.h"
#include "core/time/timestamp.h"

static struct error error;
static struct pgbinary_writer writer;

static int set_up(void **state)
{
    (void)state;
    pgbinary_writer_init(&writer);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pgbinary_writer_deinit(&writer);
    return 0;
}

static void wrote(const char *bytes, size_t length)
{
    assert_int_equal(pgbinary_writer_check(&writer, &error), STATUS_OK);
    assert_int_equal(writer.length, length);
    assert_memory_equal(writer.data, bytes, length);
    pgbinary_writer_clear(&writer);
}

#define WROTE(literal) wrote(literal, sizeof(literal) - 1)

/* As the documentation of COPY and the types' send functions say. */
static void test_bytes(void **state)
{
    (void)state;
    pgbinary_put_copy_header(&writer);
    WROTE("PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0");
    pgbinary_put_row(&writer, 3);
    WROTE("\0\3");
    pgbinary_put_copy_trailer(&writer);
    WROTE("\377\377");
    pgbinary_put_null(&writer);
    WROTE("\377\377\377\377");
    pgbinary_put_bool(&writer, true);
    WROTE("\0\0\0\1\1");
    pgbinary_put_int4(&writer, -2);
    WROTE("\0\0\0\4\377\377\377\376");
    pgbinary_put_int8(&writer, 258);
    WROTE("\0\0\0\10\0\0\0\0\0\0\1\2");
    pgbinary_put_bytes(&writer, "ab", 2);
    WROTE("\0\0\0\2ab");
    pgbinary_put_bytes(&writer, NULL, 0);
    WROTE("\0\0\0\0");
    pgbinary_put_timestamp(&writer, TIMESTAMP_POSTGRES_EPOCH_US + 1);
    WROTE("\0\0\0\10\0\0\0\0\0\0\0\1");
    const struct decimal decimal = {.coefficient = -12345, .scale = 1};
    pgbinary_put_decimal(&writer, &decimal); /* -1234.5: 1234, 5000 */
    WROTE("\0\0\0\14\0\2\0\0\100\0\0\1\4\322\23\210");
}

static void test_round_trips(void **state)
{
    (void)state;
    const struct value values[] = {
        value_string("", 0),
        value_string("\xC3\xA9", 2),
        value_integer(INT64_MIN),
        value_integer(INT64_MAX),
        value_decimal((struct decimal){.coefficient = 0, .scale = 3}),
        value_decimal((struct decimal){.coefficient = -150, .scale = 2}),
        value_boolean(true),
        value_boolean(false),
        value_timestamp(TIMESTAMP_MIN_US),
        value_timestamp(TIMESTAMP_END_US - 1),
        value_null(VALUE_STRING),
        value_null(VALUE_INTEGER),
        value_null(VALUE_DECIMAL),
        value_null(VALUE_BOOLEAN),
        value_null(VALUE_TIMESTAMP),
    };
    enum { COUNT = sizeof values / sizeof values[0] };
    struct pgbinary_field fields[COUNT];

    pgbinary_put_row(&writer, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        pgbinary_put_value(&writer, &values[i]);
    }
    assert_int_equal(
        pgbinary_split_row((const uint8_t *)writer.data, writer.length, fields, COUNT, &error),
        STATUS_OK);
    for (size_t i = 0; i < COUNT; i++) {
        struct value again;
        assert_int_equal(pgbinary_get_value(&fields[i], values[i].type, &again, &error), STATUS_OK);
        assert_int_equal(again.type, values[i].type);
        assert_int_equal(again.is_null, values[i].is_null);
        assert_int_equal(value_compare(&again, &values[i]), 0);
        if (again.type == VALUE_DECIMAL && !again.is_null) {
            assert_int_equal(again.decimal.scale, values[i].decimal.scale);
        }
    }
}

static void test_arrays(void **state)
{
    (void)state;
    static const int64_t numbers[] = {5, -1};
    const struct value array = value_integers(numbers, 2), none = value_integers(NULL, 0);
    struct pgbinary_field element;
    struct pgbinary_array read;
    int64_t number;

    pgbinary_put_value(&writer, &none);
    WROTE("\0\0\0\14\0\0\0\0\0\0\0\0\0\0\0\24");
    size_t begun = pgbinary_array_begin(&writer, PG_OID_TEXT, 1);
    pgbinary_put_bytes(&writer, "ab", 2);
    pgbinary_array_end(&writer, begun);
    WROTE("\0\0\0\32\0\0\0\1\0\0\0\0\0\0\0\31\0\0\0\1\0\0\0\1\0\0\0\2ab");

    pgbinary_put_value(&writer, &array);
    const uint8_t *data = (const uint8_t *)writer.data + 4;
    struct pgbinary_field field = {.data = data, .length = writer.length - 4};
    assert_int_equal(pgbinary_get_array(&field, PG_OID_INT8, &read, &error), STATUS_OK);
    assert_int_equal(read.count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pgbinary_array_next(&read, &element, &error), STATUS_OK);
        assert_int_equal(pgbinary_get_int8(&element, &number, &error), STATUS_OK);
        assert_int_equal(number, numbers[i]);
    }
    assert_int_equal(pgbinary_get_array(&field, PG_OID_TEXT, &read, &error), STATUS_FATAL);
    /* cut off anywhere it is refused, at the head or at an element */
    for (; field.length > 0; field.length--) {
        uint8_t *cut = malloc(field.length - 1 + (field.length == 1));
        assert_non_null(cut);
        memcpy(cut, data, field.length - 1);
        struct pgbinary_field shorter = {.data = cut, .length = field.length - 1};
        enum status status = pgbinary_get_array(&shorter, PG_OID_INT8, &read, &error);
        for (size_t i = 0; i < 2 && status == STATUS_OK; i++) {
            status = pgbinary_array_next(&read, &element, &error);
        }
        assert_int_equal(status, STATUS_FATAL);
        free(cut);
    }
}

/* Every shorter row, every wrong count and bytes behind the last column are refused. */
static void test_damaged_rows(void **state)
{
    (void)state;
    struct pgbinary_field fields[4];

    pgbinary_put_row(&writer, 3);
    pgbinary_put_int8(&writer, 1);
    pgbinary_put_null(&writer);
    pgbinary_put_bytes(&writer, "abc", 3);
    for (size_t length = 0; length < writer.length; length++) {
        uint8_t *copy = malloc(length + (length == 0)); /* exact, for the address sanitizer */
        assert_non_null(copy);
        memcpy(copy, writer.data, length);
        assert_int_equal(pgbinary_split_row(copy, length, fields, 3, &error), STATUS_FATAL);
        free(copy);
    }
    const uint8_t *row = (const uint8_t *)writer.data;
    assert_int_equal(pgbinary_split_row(row, writer.length, fields, 3, &error), STATUS_OK);
    assert_int_equal(pgbinary_split_row(row, writer.length, fields, 2, &error), STATUS_FATAL);
    assert_string_equal(error.text, "a row from PostgreSQL has not 2 columns");
    assert_int_equal(pgbinary_split_row(row, writer.length, fields, 4, &error), STATUS_FATAL);
    pgbinary_put_bool(&writer, true);
    row = (const uint8_t *)writer.data;
    assert_int_equal(pgbinary_split_row(row, writer.length, fields, 3, &error), STATUS_FATAL);
    assert_string_equal(error.text, "a row from PostgreSQL has bytes behind its columns");
    static const char *const bad[] = {"\0\1\377\377\377\376", "\0\1\200\0\0\0",
                                      "\0\1\177\377\377\377"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pgbinary_split_row((const uint8_t *)bad[i], 6, fields, 1, &error),
                         STATUS_FATAL);
        assert_string_equal(error.text, "a row from PostgreSQL ends in column 1");
    }
}

static struct pgbinary_field field_of(const char *bytes, size_t length)
{
    return (struct pgbinary_field){.data = (const uint8_t *)bytes, .length = length};
}

static void test_damaged_fields(void **state)
{
    (void)state;
    const struct pgbinary_field null = {0}, seven = field_of("\0\0\0\0\0\0\0", 7);
    int64_t int8;
    int32_t int4;
    bool boolean;
    struct decimal_wide wide;
    struct value value;

    assert_int_equal(pgbinary_get_int8(&null, &int8, &error), STATUS_FATAL);
    assert_string_equal(error.text, "stored state: NULL where a bigint belongs");
    assert_int_equal(pgbinary_get_int8(&seven, &int8, &error), STATUS_FATAL);
    assert_string_equal(error.text, "stored state: 7 bytes are not a bigint");
    assert_int_equal(pgbinary_get_int4(&seven, &int4, &error), STATUS_FATAL);
    assert_int_equal(pgbinary_get_bool(&seven, &boolean, &error), STATUS_FATAL);
    const struct pgbinary_field two = field_of("\2", 1);
    assert_int_equal(pgbinary_get_bool(&two, &boolean, &error), STATUS_FATAL);
    assert_int_equal(pgbinary_get_timestamp(&seven, &int8, &error), STATUS_FATAL);
    /* the infinities */
    const struct pgbinary_field later = field_of("\177\377\377\377\377\377\377\377", 8);
    const struct pgbinary_field earlier = field_of("\200\0\0\0\0\0\0\0", 8);
    assert_int_equal(pgbinary_get_timestamp(&later, &int8, &error), STATUS_FATAL);
    assert_int_equal(pgbinary_get_timestamp(&earlier, &int8, &error), STATUS_FATAL);
    assert_string_equal(error.text, "stored state: 8 bytes are not a finite timestamptz");
    /* NaN, a digit above 9999, digits beyond the scale */
    const struct pgbinary_field bad[] = {
        seven,
        field_of("\0\0\0\0\300\0\0\0", 8),
        field_of("\0\1\0\0\0\0\0\0\47\20", 10),
        field_of("\0\1\377\377\0\0\0\1\0\1", 10),
        field_of("\0\2\0\0\0\0\0\0\0\1", 10),
    };
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(pgbinary_get_value(&bad[i], VALUE_DECIMAL, &value, &error), STATUS_FATAL);
        assert_int_equal(pgbinary_get_decimal_wide(&bad[i], &wide, &error), STATUS_FATAL);
        assert_non_null(strstr(error.text, "are not a numeric in range"));
    }
    assert_int_equal(pgbinary_get_decimal_wide(&null, &wide, &error), STATUS_FATAL);
    for (int type = VALUE_INTEGER; type <= VALUE_TIMESTAMP; type++) {
        assert_int_equal(pgbinary_get_value(&seven, (enum value_type)type, &value, &error),
                         STATUS_FATAL);
    }
}

static void test_writer_grows_and_is_reused(void **state)
{
    (void)state;
    char *bytes = calloc(1, 100000);
    assert_non_null(bytes);
    pgbinary_put_bytes(&writer, bytes, 100000);
    for (int64_t i = 0; i < 10000; i++) {
        pgbinary_put_int8(&writer, i);
    }
    assert_int_equal(writer.length, 4 + 100000 + 10000 * 12);
    pgbinary_writer_clear(&writer);
    assert_int_equal(writer.length, 0);
    pgbinary_put_bool(&writer, false);
    WROTE("\0\0\0\1\0");
    /* what no field can hold is told at the end, and forgotten by the next clear */
    pgbinary_put_bytes(&writer, bytes, (size_t)INT32_MAX + 1);
    pgbinary_put_bool(&writer, false);
    assert_int_equal(pgbinary_writer_check(&writer, &error), STATUS_FATAL);
    pgbinary_writer_clear(&writer);
    assert_int_equal(pgbinary_writer_check(&writer, &error), STATUS_OK);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_round_trips, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_arrays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_rows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_writer_grows_and_is_reused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
