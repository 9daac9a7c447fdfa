/* PostgreSQL's binary formats: COPY BINARY rows and single fields.
 *
 * A writer appends to one growing buffer; a failed allocation is remembered and told by
 * pgbinary_finish, so that the many small appends need no check each. A reader walks bytes that a
 * server sent and trusts none of them. Formats: PostgreSQL documentation, "COPY", and the typsend /
 * typreceive functions of each type. */
#ifndef DOVETAIL_PGBINARY_H
#define DOVETAIL_PGBINARY_H

#include <stdint.h>

#include "core/numbers/decimal.h"
#include "core/base/error.h"
#include "core/value.h"

#ifdef __cplusplus
extern "C" {
#endif

enum pg_oid {
    PG_OID_BOOL = 16,
    PG_OID_BYTEA = 17,
    PG_OID_INT8 = 20,
    PG_OID_INT4 = 23,
    PG_OID_TEXT = 25,
    PG_OID_BOOL_ARRAY = 1000,
    PG_OID_TEXT_ARRAY = 1009,
    PG_OID_INT8_ARRAY = 1016,
    PG_OID_TIMESTAMPTZ = 1184,
    PG_OID_TIMESTAMPTZ_ARRAY = 1185,
    PG_OID_NUMERIC_ARRAY = 1231,
    PG_OID_NUMERIC = 1700,
};

struct pgbinary_writer {
    char *data; /* malloc'd, owned by the writer */
    size_t length;
    size_t capacity;
    bool failed; /* out of memory at some append */
};

void pgbinary_writer_init(struct pgbinary_writer *writer);
void pgbinary_writer_deinit(struct pgbinary_writer *writer);
void pgbinary_writer_clear(struct pgbinary_writer *writer); /* keeps the memory */
/* STATUS_FATAL when an append failed since the last clear. */
enum status pgbinary_writer_check(const struct pgbinary_writer *writer,
                                  struct error *error) MUST_CHECK;

/* COPY BINARY framing. */
void pgbinary_put_copy_header(struct pgbinary_writer *writer);
void pgbinary_put_row(struct pgbinary_writer *writer, int16_t field_count);
void pgbinary_put_copy_trailer(struct pgbinary_writer *writer);

/* Fields: a length word, then the bytes. */
void pgbinary_put_null(struct pgbinary_writer *writer);
void pgbinary_put_bool(struct pgbinary_writer *writer, bool boolean);
void pgbinary_put_int4(struct pgbinary_writer *writer, int32_t integer);
void pgbinary_put_int8(struct pgbinary_writer *writer, int64_t integer);
void pgbinary_put_bytes(struct pgbinary_writer *writer, const void *data, size_t length);
void pgbinary_put_timestamp(struct pgbinary_writer *writer, int64_t timestamp_us /* Unix epoch */);
void pgbinary_put_decimal(struct pgbinary_writer *writer, const struct decimal *decimal);
void pgbinary_put_decimal_wide(struct pgbinary_writer *writer, const struct decimal_wide *decimal);
void pgbinary_put_value(struct pgbinary_writer *writer, const struct value *value);
/* Fields that were written so before. */
void pgbinary_put_fields(struct pgbinary_writer *writer, const void *data, size_t length);
/* Their place, which the caller fills; NULL: no memory. */
char *pgbinary_put_room(struct pgbinary_writer *writer, size_t length);

/* A field that is an array of one dimension without NULLs: begin, `count` elements as above, end.
 * begin returns what end wants. (array_send in src/backend/utils/adt/arrayfuncs.c) */
size_t pgbinary_array_begin(struct pgbinary_writer *writer, uint32_t element_oid, size_t count);
void pgbinary_array_end(struct pgbinary_writer *writer, size_t begun);

/* A received field; data is NULL for SQL NULL. Borrowed from the result or COPY buffer. */
struct pgbinary_field {
    const uint8_t *data;
    size_t length;
};

/* One row of COPY BINARY data: splits it into `count` fields. STATUS_FATAL when it is malformed. */
enum status pgbinary_split_row(const uint8_t *row, size_t length, struct pgbinary_field *fields,
                               size_t count, struct error *error) MUST_CHECK;

/* The same without the count before the fields. */
enum status pgbinary_split_fields(const uint8_t *data, size_t length, struct pgbinary_field *fields,
                                  size_t count, struct error *error) MUST_CHECK;

/* STATUS_FATAL when the field is NULL or has the wrong size or content. */
enum status pgbinary_get_int8(const struct pgbinary_field *field, int64_t *out,
                              struct error *error) MUST_CHECK;
enum status pgbinary_get_int4(const struct pgbinary_field *field, int32_t *out,
                              struct error *error) MUST_CHECK;
enum status pgbinary_get_bool(const struct pgbinary_field *field, bool *out,
                              struct error *error) MUST_CHECK;
enum status pgbinary_get_timestamp(const struct pgbinary_field *field, int64_t *out_us,
                                   struct error *error) MUST_CHECK;
/* An event's time: within the years that timestamp.h says. */
enum status pgbinary_get_event_time(const struct pgbinary_field *field, int64_t *out_us,
                                    struct error *error) MUST_CHECK;
enum status pgbinary_get_decimal_wide(const struct pgbinary_field *field, struct decimal_wide *out,
                                      struct error *error) MUST_CHECK;

/* The elements of such an array, not yet read. */
struct pgbinary_array {
    size_t count;
    const uint8_t *next;
    const uint8_t *end;
};

/* STATUS_FATAL for NULL, for anything but an array of one dimension, or of none, of the type, and
 * for a NULL among its elements. */
enum status pgbinary_get_array(const struct pgbinary_field *field, uint32_t element_oid,
                               struct pgbinary_array *out, struct error *error) MUST_CHECK;
/* The next element; to be called array.count times. */
enum status pgbinary_array_next(struct pgbinary_array *array, struct pgbinary_field *out,
                                struct error *error) MUST_CHECK;
/* A value of `type`, NULL included; strings are UTF-8 without U+0000 and borrowed from the field.
 */
enum status pgbinary_get_value(const struct pgbinary_field *field, enum value_type type,
                               struct value *out, struct error *error) MUST_CHECK;
/* The same, of a value that came from an event: times as above. */
enum status pgbinary_get_event_value(const struct pgbinary_field *field, enum value_type type,
                                     struct value *out, struct error *error) MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
