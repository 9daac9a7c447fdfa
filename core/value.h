/* A typed value, as fields, expressions, keys and results have it.
 *
 * Strings are UTF-8 without U+0000, borrowed from whoever made the value. Order and equality are
 * PostgreSQL's with the collation "C": bytes for strings, false < true. */
#ifndef DOVETAIL_VALUE_H
#define DOVETAIL_VALUE_H

#include <stdint.h>

#include "core/base/arena.h"
#include "core/numbers/decimal.h"
#include "core/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum value_type {
    VALUE_STRING = 1,
    VALUE_INTEGER,
    VALUE_DECIMAL,
    VALUE_BOOLEAN,
    VALUE_TIMESTAMP, /* microseconds since the Unix epoch, UTC */
    VALUE_INTEGERS,  /* an array of integers without NULL: a measure's result, never a field's type
                      */
};

struct value {
    enum value_type type;
    bool is_null;
    union {
        int64_t integer;
        int64_t timestamp_us;
        bool boolean;
        struct {
            const char *data;
            size_t length;
        } string;
        struct decimal decimal;
        struct {
            const int64_t *data; /* borrowed, as a string's bytes */
            size_t count;
        } integers;
    };
};

/* "string", "integer", ... as definitions spell them. */
const char *value_type_name(enum value_type type);
bool value_type_from_name(const char *name, enum value_type *out);

/* PostgreSQL's name of the type, and its oid: text, bigint, numeric, boolean, timestamptz,
 * bigint[]. */
const char *value_type_sql(enum value_type type);
uint32_t value_type_oid(enum value_type type);

struct value value_null(enum value_type type);
struct value value_integer(int64_t integer);
struct value value_boolean(bool boolean);
struct value value_timestamp(int64_t timestamp_us);
struct value value_string(const char *data, size_t length);
struct value value_decimal(struct decimal decimal);
struct value value_integers(const int64_t *data, size_t count);

/* <0, 0, >0. Both of one type; two NULLs are equal and NULL sorts after every value. */
int value_compare(const struct value *a, const struct value *b);

/* The text that query results, CSV and comparisons use: decimals without trailing zeros, times as
 * RFC 3339 UTC, booleans as true and false, arrays as {1,2}, strings as they are. Allocated in
 * `arena`, 0-terminated; NULL for out of memory. The value must not be NULL. */
const char *value_text(const struct value *value, struct arena *arena,
                       size_t *length_out) MUST_CHECK;

/* The value of a text, as query parameters have it. Timestamps also accept a date alone.
 * STATUS_REJECT names what is wrong; strings are borrowed. */
enum status value_parse(enum value_type type, const char *text, size_t length, struct value *out,
                        struct error *error) MUST_CHECK;

/* --- canonical bytes: group keys in memory; not for arrays ---
 *
 * Equal values have equal bytes (decimals are trimmed first), and only they do. */
enum { VALUE_KEY_FIXED_BYTES = 24 }; /* upper bound of one encoded value without its string bytes */

/* Bytes that value_key_encode will write. */
size_t value_key_size(const struct value *value);
/* Writes them and returns their number. */
size_t value_key_encode(const struct value *value, uint8_t *out);
/* Reads one value of `type` back from bytes that value_key_encode wrote; returns the bytes read.
 * Strings are borrowed from `bytes`. */
size_t value_key_decode(enum value_type type, const uint8_t *bytes, struct value *out);

#ifdef __cplusplus
}
#endif
#endif
