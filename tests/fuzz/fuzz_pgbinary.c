/* PostgreSQL's binary formats: numbers, times, arrays and rows that a server may send. What is read
 * is written again and must come back.
 *
 * Input: the kind, then the field's bytes. */
#include "tests/fuzz/fuzz.h"

#include "core/postgres/pgbinary.h"

enum { COLUMNS = 5 };

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    return 0;
}

static void check_decimal(const struct pgbinary_field *field)
{
    struct decimal decimal, again;
    uint8_t bytes[DECIMAL_PG_SIZE];
    char text[DECIMAL_TEXT_SIZE];
    enum decimal_status status = decimal_decode_pg(field->data, field->length, &decimal);
    if (status != DECIMAL_OK) {
        FUZZ_CHECK(status == DECIMAL_SYNTAX || status == DECIMAL_OVERFLOW, "%d", (int)status);
        return;
    }
    struct value value = value_decimal(decimal);
    fuzz_check_value(&value, VALUE_DECIMAL);
    size_t length = decimal_encode_pg(&decimal, bytes, sizeof bytes);
    FUZZ_CHECK(length > 0, "it cannot be encoded again");
    FUZZ_CHECK(decimal_decode_pg(bytes, length, &again) == DECIMAL_OK &&
                   again.coefficient == decimal.coefficient && again.scale == decimal.scale,
               "it does not come back from binary");
    length = decimal_format(&decimal, text, sizeof text);
    FUZZ_CHECK(length > 0 && decimal_parse(text, length, &again) == DECIMAL_OK &&
                   again.coefficient == decimal.coefficient && again.scale == decimal.scale,
               "%s does not come back from text", text);
}

static void check_decimal_wide(const struct pgbinary_field *field)
{
    struct decimal_wide decimal, again;
    struct pgbinary_writer writer;
    struct pgbinary_field fields[1];
    struct error error = {0};
    enum status status = pgbinary_get_decimal_wide(field, &decimal, &error);
    if (status != STATUS_OK) {
        fuzz_check_refusal(status, &error);
        return;
    }
    pgbinary_writer_init(&writer);
    pgbinary_put_row(&writer, 1);
    pgbinary_put_decimal_wide(&writer, &decimal);
    FUZZ_CHECK(pgbinary_split_row((const uint8_t *)writer.data, writer.length, fields, 1, &error) ==
                       STATUS_OK &&
                   pgbinary_get_decimal_wide(&fields[0], &again, &error) == STATUS_OK,
               "%s", error.text);
    FUZZ_CHECK(decimal_wide_equal(&decimal, &again) && decimal_wide_compare(&decimal, &again) == 0,
               "it does not come back");
    pgbinary_writer_deinit(&writer);
}

static void check_value(const struct pgbinary_field *field, enum value_type type)
{
    struct value value, again;
    struct pgbinary_writer writer;
    struct pgbinary_field fields[1];
    struct error error = {0};
    struct arena arena;
    enum status status = pgbinary_get_value(field, type, &value, &error);
    if (status != STATUS_OK) {
        fuzz_check_refusal(status, &error);
        return;
    }
    arena_init(&arena);
    if (type != VALUE_TIMESTAMP) /* bounds of windows may pass the range of event times */
        fuzz_check_value(&value, type);
    if (!value.is_null)
        FUZZ_CHECK(value_text(&value, &arena, NULL) != NULL, "it has no text");
    pgbinary_writer_init(&writer);
    pgbinary_put_row(&writer, 1);
    pgbinary_put_value(&writer, &value);
    FUZZ_CHECK(pgbinary_split_row((const uint8_t *)writer.data, writer.length, fields, 1, &error) ==
                       STATUS_OK &&
                   pgbinary_get_value(&fields[0], type, &again, &error) == STATUS_OK,
               "%s", error.text);
    FUZZ_CHECK(value.is_null == again.is_null &&
                   (value.is_null || value_compare(&value, &again) == 0),
               "it does not come back");
    if (!value.is_null) {
        size_t size = value_key_size(&value);
        uint8_t *key = malloc(size + 1);
        FUZZ_CHECK(key != NULL && value_key_encode(&value, key) == size &&
                       value_key_decode(type, key, &again) == size &&
                       value_compare(&value, &again) == 0,
                   "it does not come back from a key");
        free(key);
    }
    pgbinary_writer_deinit(&writer);
    arena_deinit(&arena);
}

static void check_array(const struct pgbinary_field *field, uint32_t oid)
{
    struct pgbinary_array array;
    struct pgbinary_field element;
    struct error error = {0};
    enum status status = pgbinary_get_array(field, oid, &array, &error);
    for (size_t i = 0; status == STATUS_OK && i < array.count; i++) {
        status = pgbinary_array_next(&array, &element, &error);
        FUZZ_CHECK(status != STATUS_OK ||
                       (element.data >= field->data &&
                        element.length <= (size_t)(field->data + field->length - element.data)),
                   "an element outside its array");
    }
    if (status != STATUS_OK)
        fuzz_check_refusal(status, &error);
}

static void check_row(const struct pgbinary_field *field)
{
    struct pgbinary_field fields[COLUMNS];
    struct error error = {0};
    enum status status = pgbinary_split_row(field->data, field->length, fields, COLUMNS, &error);
    if (status != STATUS_OK)
        fuzz_check_refusal(status, &error);
    for (size_t i = 0; status == STATUS_OK && i < COLUMNS; i++)
        check_value(&fields[i], VALUE_STRING + (enum value_type)i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t elements[] = {PG_OID_BOOL, PG_OID_INT8, PG_OID_TEXT, PG_OID_NUMERIC};
    struct fuzz_input input = {data, size};
    size_t kind = fuzz_below(&input, 12);
    struct pgbinary_field field = {input.data, input.length};
    if (field.data == NULL)
        return 0;
    if (kind == 0)
        check_decimal(&field);
    else if (kind == 1)
        check_decimal_wide(&field);
    else if (kind == 2)
        check_row(&field);
    else if (kind < 7)
        check_array(&field, elements[kind - 3]);
    else
        check_value(&field, VALUE_STRING + (enum value_type)(kind - 7));
    return 0;
}
