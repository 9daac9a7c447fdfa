/* PostgreSQL's binary formats, written and read.
 *
 * The writer never fails in the middle: an append that finds no memory sets `failed` and every
 * later one does nothing, until pgbinary_writer_check tells. The reader checks every length before
 * it reads. One thread for each writer. */
#include "core/postgres/pgbinary.h"

#include <endian.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/utf8.h"
#include "core/time/timestamp.h"

static const char copy_header[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0";
enum { COPY_HEADER_BYTES = 19 };

void pgbinary_writer_init(struct pgbinary_writer *writer)
{
    *writer = (struct pgbinary_writer){0};
}

void pgbinary_writer_deinit(struct pgbinary_writer *writer)
{
    free(writer->data);
    *writer = (struct pgbinary_writer){0};
}

void pgbinary_writer_clear(struct pgbinary_writer *writer)
{
    writer->length = 0;
    writer->failed = false;
}

enum status pgbinary_writer_check(const struct pgbinary_writer *writer, struct error *error)
{
    return writer->failed ? error_no_memory(error) : STATUS_OK;
}

/* Room for `bytes` more, or NULL. */
static char *reserve(struct pgbinary_writer *writer, size_t bytes)
{
    if (writer->failed) {
        return NULL;
    }
    if (writer->capacity - writer->length < bytes) {
        size_t capacity = writer->capacity < 4096 ? 4096 : writer->capacity;
        while (capacity - writer->length < bytes) {
            if (capacity > SIZE_MAX / 2) {
                writer->failed = true;
                return NULL;
            }
            capacity *= 2;
        }
        char *data = realloc(writer->data, capacity);
        if (data == NULL) {
            writer->failed = true;
            return NULL;
        }
        writer->data = data;
        writer->capacity = capacity;
    }
    char *place = writer->data + writer->length;
    writer->length += bytes;
    return place;
}

static void put(struct pgbinary_writer *writer, const void *data, size_t bytes)
{
    char *place = reserve(writer, bytes);
    if (place != NULL && bytes != 0) {
        memcpy(place, data, bytes);
    }
}

static void put_int16(struct pgbinary_writer *writer, int16_t integer)
{
    uint16_t network = htobe16((uint16_t)integer);
    put(writer, &network, sizeof network);
}

static void put_int32(struct pgbinary_writer *writer, int32_t integer)
{
    uint32_t network = htobe32((uint32_t)integer);
    put(writer, &network, sizeof network);
}

void pgbinary_put_copy_header(struct pgbinary_writer *writer)
{
    put(writer, copy_header, COPY_HEADER_BYTES);
}

void pgbinary_put_row(struct pgbinary_writer *writer, int16_t field_count)
{
    put_int16(writer, field_count);
}

void pgbinary_put_copy_trailer(struct pgbinary_writer *writer)
{
    put_int16(writer, -1);
}

void pgbinary_put_fields(struct pgbinary_writer *writer, const void *data, size_t length)
{
    put(writer, data, length);
}

char *pgbinary_put_room(struct pgbinary_writer *writer, size_t length)
{
    return reserve(writer, length);
}

void pgbinary_put_null(struct pgbinary_writer *writer)
{
    put_int32(writer, -1);
}

void pgbinary_put_bool(struct pgbinary_writer *writer, bool boolean)
{
    char byte = boolean ? 1 : 0;
    pgbinary_put_bytes(writer, &byte, 1);
}

void pgbinary_put_int4(struct pgbinary_writer *writer, int32_t integer)
{
    put_int32(writer, 4);
    put_int32(writer, integer);
}

void pgbinary_put_int8(struct pgbinary_writer *writer, int64_t integer)
{
    struct {
        uint32_t length;
        uint64_t integer;
    } __attribute__((packed)) field = {htobe32(8), htobe64((uint64_t)integer)};
    put(writer, &field, sizeof field);
}

void pgbinary_put_bytes(struct pgbinary_writer *writer, const void *data, size_t length)
{
    if (length > INT32_MAX) {
        writer->failed = true;
        return;
    }
    put_int32(writer, (int32_t)length);
    put(writer, data, length);
}

void pgbinary_put_timestamp(struct pgbinary_writer *writer, int64_t timestamp_us)
{
    pgbinary_put_int8(writer, timestamp_to_postgres(timestamp_us));
}

void pgbinary_put_decimal(struct pgbinary_writer *writer, const struct decimal *decimal)
{
    uint8_t bytes[DECIMAL_PG_SIZE];
    pgbinary_put_bytes(writer, bytes, decimal_encode_pg(decimal, bytes, sizeof bytes));
}

void pgbinary_put_decimal_wide(struct pgbinary_writer *writer, const struct decimal_wide *decimal)
{
    uint8_t bytes[DECIMAL_WIDE_PG_SIZE];
    pgbinary_put_bytes(writer, bytes, decimal_wide_encode_pg(decimal, bytes, sizeof bytes));
}

enum { ARRAY_HEADER_BYTES = 12, ARRAY_DIMENSION_BYTES = 8 };

size_t pgbinary_array_begin(struct pgbinary_writer *writer, uint32_t element_oid, size_t count)
{
    put_int32(writer, 0); /* the length: known at the end */
    size_t begun = writer->length;
    if (count > INT32_MAX) {
        writer->failed = true;
        return begun;
    }
    put_int32(writer, count > 0 ? 1 : 0); /* dimensions */
    put_int32(writer, 0);                 /* no NULLs */
    put_int32(writer, (int32_t)element_oid);
    if (count > 0) {
        put_int32(writer, (int32_t)count);
        put_int32(writer, 1); /* the first subscript */
    }
    return begun;
}

void pgbinary_array_end(struct pgbinary_writer *writer, size_t begun)
{
    if (writer->failed || writer->length - begun > INT32_MAX) {
        writer->failed = true;
        return;
    }
    uint32_t network = htobe32((uint32_t)(writer->length - begun));
    memcpy(writer->data + begun - sizeof network, &network, sizeof network);
}

void pgbinary_put_value(struct pgbinary_writer *writer, const struct value *value)
{
    if (value->is_null) {
        pgbinary_put_null(writer);
        return;
    }
    switch (value->type) {
    case VALUE_STRING:
        pgbinary_put_bytes(writer, value->string.data, value->string.length);
        break;
    case VALUE_INTEGER:
        pgbinary_put_int8(writer, value->integer);
        break;
    case VALUE_DECIMAL:
        pgbinary_put_decimal(writer, &value->decimal);
        break;
    case VALUE_BOOLEAN:
        pgbinary_put_bool(writer, value->boolean);
        break;
    case VALUE_TIMESTAMP:
        pgbinary_put_timestamp(writer, value->timestamp_us);
        break;
    case VALUE_INTEGERS: {
        size_t begun = pgbinary_array_begin(writer, PG_OID_INT8, value->integers.count);
        for (size_t i = 0; i < value->integers.count; i++) {
            pgbinary_put_int8(writer, value->integers.data[i]);
        }
        pgbinary_array_end(writer, begun);
        break;
    }
    }
}

/* --- reading --- */

static uint32_t load32(const uint8_t *bytes)
{
    uint32_t network;
    memcpy(&network, bytes, sizeof network);
    return be32toh(network);
}

static uint64_t load64(const uint8_t *bytes)
{
    uint64_t network;
    memcpy(&network, bytes, sizeof network);
    return be64toh(network);
}

enum status pgbinary_split_row(const uint8_t *row, size_t length, struct pgbinary_field *fields,
                               size_t count, struct error *error)
{
    if (length < 2 || ((size_t)row[0] << 8 | row[1]) != count) {
        return error_set(error, STATUS_FATAL, "a row from PostgreSQL has not %zu columns", count);
    }
    return pgbinary_split_fields(row + 2, length - 2, fields, count, error);
}

enum status pgbinary_split_fields(const uint8_t *data, size_t length, struct pgbinary_field *fields,
                                  size_t count, struct error *error)
{
    const uint8_t *next = data;
    const uint8_t *end = data + length;

    for (size_t i = 0; i < count; i++) {
        if (end - next < 4) {
            return error_set(error, STATUS_FATAL, "a row from PostgreSQL ends in column %zu",
                             i + 1);
        }
        int32_t size = (int32_t)load32(next);
        next += 4;
        if (size < -1 || (size > 0 && end - next < size)) {
            return error_set(error, STATUS_FATAL, "a row from PostgreSQL ends in column %zu",
                             i + 1);
        }
        fields[i].data = size < 0 ? NULL : next;
        fields[i].length = size < 0 ? 0 : (size_t)size;
        next += fields[i].length;
    }
    if (next != end) {
        return error_set(error, STATUS_FATAL, "a row from PostgreSQL has bytes behind its columns");
    }
    return STATUS_OK;
}

static enum status wrong_field(const char *wanted, const struct pgbinary_field *field,
                               struct error *error)
{
    if (field->data == NULL) {
        return error_set(error, STATUS_FATAL, "stored state: NULL where %s belongs", wanted);
    }
    return error_set(error, STATUS_FATAL, "stored state: %zu bytes are not %s", field->length,
                     wanted);
}

enum status pgbinary_get_int8(const struct pgbinary_field *field, int64_t *out, struct error *error)
{
    if (field->data == NULL || field->length != 8) {
        return wrong_field("a bigint", field, error);
    }
    *out = (int64_t)load64(field->data);
    return STATUS_OK;
}

enum status pgbinary_get_int4(const struct pgbinary_field *field, int32_t *out, struct error *error)
{
    if (field->data == NULL || field->length != 4) {
        return wrong_field("an integer", field, error);
    }
    *out = (int32_t)load32(field->data);
    return STATUS_OK;
}

enum status pgbinary_get_bool(const struct pgbinary_field *field, bool *out, struct error *error)
{
    if (field->data == NULL || field->length != 1 || field->data[0] > 1) {
        return wrong_field("a boolean", field, error);
    }
    *out = field->data[0] == 1;
    return STATUS_OK;
}

enum status pgbinary_get_timestamp(const struct pgbinary_field *field, int64_t *out_us,
                                   struct error *error)
{
    int64_t postgres_us;

    if (field->data == NULL || field->length != 8) {
        return wrong_field("a timestamptz", field, error);
    }
    postgres_us = (int64_t)load64(field->data);
    if (timestamp_from_postgres(postgres_us, out_us) != TIMESTAMP_OK) {
        return wrong_field("a finite timestamptz", field, error);
    }
    return STATUS_OK;
}

enum status pgbinary_get_event_time(const struct pgbinary_field *field, int64_t *out_us,
                                    struct error *error)
{
    enum status status = pgbinary_get_timestamp(field, out_us, error);

    if (status == STATUS_OK && !timestamp_in_range(*out_us)) {
        return wrong_field("a time of the years 1 to 9999", field, error);
    }
    return status;
}

enum status pgbinary_get_decimal_wide(const struct pgbinary_field *field, struct decimal_wide *out,
                                      struct error *error)
{
    if (field->data == NULL ||
        decimal_wide_decode_pg(field->data, field->length, out) != DECIMAL_OK) {
        return wrong_field("a numeric in range", field, error);
    }
    return STATUS_OK;
}

enum status pgbinary_get_array(const struct pgbinary_field *field, uint32_t element_oid,
                               struct pgbinary_array *out, struct error *error)
{
    const uint8_t *data = field->data;

    if (data == NULL || field->length < ARRAY_HEADER_BYTES || load32(data) > 1 ||
        load32(data + 4) != 0 || load32(data + 8) != element_oid) {
        return wrong_field("an array of its type", field, error);
    }
    *out = (struct pgbinary_array){.next = data + ARRAY_HEADER_BYTES, .end = data + field->length};
    if (load32(data) == 1) {
        if (field->length < ARRAY_HEADER_BYTES + ARRAY_DIMENSION_BYTES ||
            load32(out->next) > (size_t)(out->end - out->next) / 4) { /* 4: an element's length */
            return wrong_field("an array of its size", field, error);
        }
        out->count = load32(out->next);
        out->next += ARRAY_DIMENSION_BYTES;
    }
    if (out->count == 0 && out->next != out->end) {
        return wrong_field("an empty array", field, error);
    }
    return STATUS_OK;
}

enum status pgbinary_array_next(struct pgbinary_array *array, struct pgbinary_field *out,
                                struct error *error)
{
    size_t left = (size_t)(array->end - array->next);
    uint32_t length = left < 4 ? UINT32_MAX : load32(array->next); /* NULL is 2^32 - 1, too */

    if (length > INT32_MAX || length > left - 4) {
        return error_set(error, STATUS_FATAL, "stored state: an array ends in an element");
    }
    *out = (struct pgbinary_field){.data = array->next + 4, .length = length};
    array->next += 4 + (size_t)length;
    array->count--;
    if (array->count == 0 && array->next != array->end) {
        return error_set(error, STATUS_FATAL, "stored state: bytes behind an array's elements");
    }
    return STATUS_OK;
}

enum status pgbinary_get_value(const struct pgbinary_field *field, enum value_type type,
                               struct value *out, struct error *error)
{
    *out = value_null(type);
    if (field->data == NULL) {
        return STATUS_OK;
    }
    out->is_null = false;
    switch (type) {
    case VALUE_STRING:
        if (!utf8_is_text((const char *)field->data, field->length)) {
            return wrong_field("a text in UTF-8", field, error);
        }
        out->string.data = (const char *)field->data;
        out->string.length = field->length;
        return STATUS_OK;
    case VALUE_INTEGER:
        return pgbinary_get_int8(field, &out->integer, error);
    case VALUE_DECIMAL:
        if (decimal_decode_pg(field->data, field->length, &out->decimal) != DECIMAL_OK) {
            return wrong_field("a numeric in range", field, error);
        }
        return STATUS_OK;
    case VALUE_BOOLEAN:
        return pgbinary_get_bool(field, &out->boolean, error);
    case VALUE_TIMESTAMP:
        return pgbinary_get_timestamp(field, &out->timestamp_us, error);
    case VALUE_INTEGERS:
        break;
    }
    return error_set(error, STATUS_FATAL, "unknown value type %d", (int)type);
}

enum status pgbinary_get_event_value(const struct pgbinary_field *field, enum value_type type,
                                     struct value *out, struct error *error)
{
    if (type != VALUE_TIMESTAMP || field->data == NULL) {
        return pgbinary_get_value(field, type, out, error);
    }
    *out = value_timestamp(0);
    return pgbinary_get_event_time(field, &out->timestamp_us, error);
}
