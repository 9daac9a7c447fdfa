/* Typed values: names, order, texts and canonical key bytes.
 *
 * Invariant: value_compare, value_key_encode and PostgreSQL agree on which values are equal:
 * decimals by value whatever their scale, strings byte by byte. Pure; any thread. */
#include "core/value.h"

#include <string.h>

#include "core/postgres/pgbinary.h"
#include "core/time/timestamp.h"

static const struct {
    const char *name;
    const char *sql;
    uint32_t oid;
} types[] = {
    [VALUE_STRING] = {"string", "text", PG_OID_TEXT},
    [VALUE_INTEGER] = {"integer", "bigint", PG_OID_INT8},
    [VALUE_DECIMAL] = {"decimal", "numeric", PG_OID_NUMERIC},
    [VALUE_BOOLEAN] = {"boolean", "boolean", PG_OID_BOOL},
    [VALUE_TIMESTAMP] = {"timestamp", "timestamptz", PG_OID_TIMESTAMPTZ},
    [VALUE_INTEGERS] = {"integers", "bigint[]", PG_OID_INT8_ARRAY},
};

const char *value_type_name(enum value_type type)
{
    return types[type].name;
}

const char *value_type_sql(enum value_type type)
{
    return types[type].sql;
}

uint32_t value_type_oid(enum value_type type)
{
    return types[type].oid;
}

bool value_type_from_name(const char *name, enum value_type *out)
{
    for (int type = VALUE_STRING; type <= VALUE_TIMESTAMP; type++) {
        if (strcmp(types[type].name, name) == 0) {
            *out = (enum value_type)type;
            return true;
        }
    }
    return false;
}

struct value value_null(enum value_type type)
{
    return (struct value){.type = type, .is_null = true};
}

struct value value_integer(int64_t integer)
{
    return (struct value){.type = VALUE_INTEGER, .integer = integer};
}

struct value value_boolean(bool boolean)
{
    return (struct value){.type = VALUE_BOOLEAN, .boolean = boolean};
}

struct value value_timestamp(int64_t timestamp_us)
{
    return (struct value){.type = VALUE_TIMESTAMP, .timestamp_us = timestamp_us};
}

struct value value_string(const char *data, size_t length)
{
    return (struct value){.type = VALUE_STRING, .string = {.data = data, .length = length}};
}

struct value value_decimal(struct decimal decimal)
{
    return (struct value){.type = VALUE_DECIMAL, .decimal = decimal};
}

struct value value_integers(const int64_t *data, size_t count)
{
    return (struct value){.type = VALUE_INTEGERS, .integers = {.data = data, .count = count}};
}

static int compare_int64(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int compare_strings(const struct value *a, const struct value *b)
{
    size_t common = a->string.length < b->string.length ? a->string.length : b->string.length;
    int order = common == 0 ? 0 : memcmp(a->string.data, b->string.data, common);
    if (order != 0) {
        return order;
    }
    return (a->string.length > b->string.length) - (a->string.length < b->string.length);
}

/* As PostgreSQL does: the first unequal element decides, then the length. */
static int compare_integers(const struct value *a, const struct value *b)
{
    for (size_t i = 0; i < a->integers.count && i < b->integers.count; i++) {
        int order = compare_int64(a->integers.data[i], b->integers.data[i]);
        if (order != 0) {
            return order;
        }
    }
    return (a->integers.count > b->integers.count) - (a->integers.count < b->integers.count);
}

int value_compare(const struct value *a, const struct value *b)
{
    if (a->is_null || b->is_null) {
        return (int)a->is_null - (int)b->is_null;
    }
    switch (a->type) {
    case VALUE_STRING:
        return compare_strings(a, b);
    case VALUE_INTEGER:
        return compare_int64(a->integer, b->integer);
    case VALUE_DECIMAL:
        return decimal_compare(&a->decimal, &b->decimal);
    case VALUE_BOOLEAN:
        return (int)a->boolean - (int)b->boolean;
    case VALUE_TIMESTAMP:
        return compare_int64(a->timestamp_us, b->timestamp_us);
    case VALUE_INTEGERS:
        return compare_integers(a, b);
    }
    return 0;
}

enum { INT64_TEXT_BYTES = 20 }; /* of any, without an end */

/* {1,2,3}, as PostgreSQL prints arrays. */
static const char *integers_text(const struct value *value, struct arena *arena, size_t *length_out)
{
    size_t size = value->integers.count * (INT64_TEXT_BYTES + 1) + sizeof "{}" + 1, length = 0;
    char *text = arena_alloc(arena, size);

    if (text == NULL) {
        return NULL;
    }
    text[length++] = '{';
    for (size_t i = 0; i < value->integers.count; i++) {
        if (i > 0) {
            text[length++] = ',';
        }
        length += decimal_int128_format(value->integers.data[i], text + length, size - length);
    }
    text[length++] = '}';
    text[length] = '\0';
    if (length_out != NULL) {
        *length_out = length;
    }
    return text;
}

const char *value_text(const struct value *value, struct arena *arena, size_t *length_out)
{
    char buffer[64];
    size_t length = 0;
    const char *text = buffer;
    struct decimal decimal;

    switch (value->type) {
    case VALUE_STRING:
        text = value->string.data;
        length = value->string.length;
        break;
    case VALUE_INTEGER:
        length = decimal_int128_format(value->integer, buffer, sizeof buffer);
        break;
    case VALUE_DECIMAL:
        decimal = decimal_trim(&value->decimal);
        length = decimal_format(&decimal, buffer, sizeof buffer);
        break;
    case VALUE_BOOLEAN:
        text = value->boolean ? "true" : "false";
        length = strlen(text);
        break;
    case VALUE_TIMESTAMP:
        length = timestamp_format(value->timestamp_us, buffer, sizeof buffer);
        break;
    case VALUE_INTEGERS:
        return integers_text(value, arena, length_out);
    }
    if (length_out != NULL) {
        *length_out = length;
    }
    return arena_copy(arena, text, length);
}

static enum status wrong_text(enum value_type type, const char *text, size_t length,
                              struct error *error)
{
    size_t shown = length > 60 ? 60 : length;
    while (shown > 0 && shown < length && ((unsigned char)text[shown] & 0xC0) == 0x80) {
        shown--; /* not in the middle of a UTF-8 character */
    }
    return error_set(error, STATUS_REJECT, "\"%.*s\" is not a%s %s", (int)shown, text,
                     type == VALUE_INTEGER ? "n" : "", value_type_name(type));
}

enum status value_parse(enum value_type type, const char *text, size_t length, struct value *out,
                        struct error *error)
{
    struct decimal decimal;
    int64_t integer;

    switch (type) {
    case VALUE_STRING:
        *out = value_string(text, length);
        return STATUS_OK;
    case VALUE_INTEGER:
        if (decimal_parse(text, length, &decimal) != DECIMAL_OK || decimal.scale != 0 ||
            !decimal_to_int64(&decimal, &integer)) {
            return wrong_text(type, text, length, error);
        }
        *out = value_integer(integer);
        return STATUS_OK;
    case VALUE_DECIMAL:
        if (decimal_parse(text, length, &decimal) != DECIMAL_OK) {
            return wrong_text(type, text, length, error);
        }
        *out = value_decimal(decimal);
        return STATUS_OK;
    case VALUE_BOOLEAN:
        if (length == 4 && memcmp(text, "true", 4) == 0) {
            *out = value_boolean(true);
        } else if (length == 5 && memcmp(text, "false", 5) == 0) {
            *out = value_boolean(false);
        } else {
            return wrong_text(type, text, length, error);
        }
        return STATUS_OK;
    case VALUE_TIMESTAMP:
        if (timestamp_parse_date_or_rfc3339(text, length, &integer) != TIMESTAMP_OK) {
            return wrong_text(type, text, length, error);
        }
        *out = value_timestamp(integer);
        return STATUS_OK;
    case VALUE_INTEGERS:
        break;
    }
    return error_set(error, STATUS_FATAL, "unknown value type %d", (int)type);
}

/* --- canonical key bytes: 1 tag byte (0 = NULL), then 8 bytes, 1 byte, 17 bytes or length + bytes
 */

size_t value_key_size(const struct value *value)
{
    if (value->is_null) {
        return 1;
    }
    switch (value->type) {
    case VALUE_STRING:
        return 1 + sizeof(uint32_t) + value->string.length;
    case VALUE_INTEGER:
    case VALUE_TIMESTAMP:
        return 1 + sizeof(int64_t);
    case VALUE_DECIMAL:
        return 1 + sizeof(int128) + 1;
    case VALUE_BOOLEAN:
        return 2;
    case VALUE_INTEGERS:
        break;
    }
    return 1;
}

size_t value_key_encode(const struct value *value, uint8_t *out)
{
    uint8_t *next = out;

    *next++ = value->is_null ? 0 : 1;
    if (value->is_null) {
        return 1;
    }
    switch (value->type) {
    case VALUE_STRING: {
        uint32_t length = (uint32_t)value->string.length;
        memcpy(next, &length, sizeof length);
        next += sizeof length;
        if (length != 0) {
            memcpy(next, value->string.data, length);
        }
        next += length;
        break;
    }
    case VALUE_INTEGER:
    case VALUE_TIMESTAMP:
        memcpy(next, &value->integer, sizeof value->integer);
        next += sizeof value->integer;
        break;
    case VALUE_DECIMAL: {
        struct decimal trimmed = decimal_trim(&value->decimal);
        memcpy(next, &trimmed.coefficient, sizeof trimmed.coefficient);
        next += sizeof trimmed.coefficient;
        *next++ = (uint8_t)trimmed.scale;
        break;
    }
    case VALUE_BOOLEAN:
        *next++ = value->boolean ? 1 : 0;
        break;
    case VALUE_INTEGERS:
        break;
    }
    return (size_t)(next - out);
}

size_t value_key_decode(enum value_type type, const uint8_t *bytes, struct value *out)
{
    const uint8_t *next = bytes + 1;

    *out = value_null(type);
    if (bytes[0] == 0) {
        return 1;
    }
    out->is_null = false;
    switch (type) {
    case VALUE_STRING: {
        uint32_t length;
        memcpy(&length, next, sizeof length);
        next += sizeof length;
        out->string.data = (const char *)next;
        out->string.length = length;
        next += length;
        break;
    }
    case VALUE_INTEGER:
    case VALUE_TIMESTAMP:
        memcpy(&out->integer, next, sizeof out->integer);
        next += sizeof out->integer;
        break;
    case VALUE_DECIMAL:
        memcpy(&out->decimal.coefficient, next, sizeof out->decimal.coefficient);
        next += sizeof out->decimal.coefficient;
        out->decimal.scale = *next++;
        break;
    case VALUE_BOOLEAN:
        out->boolean = *next++ != 0;
        break;
    case VALUE_INTEGERS:
        break;
    }
    return (size_t)(next - bytes);
}
