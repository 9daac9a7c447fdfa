/* PostgreSQL array literals, '{1,2,NULL}', as text parameters for unnest().
 *
 * Out of memory is remembered and told by sql_array_end, so that appends need no check each.
 * One thread at a time. */
#ifndef DOVETAIL_SPEED_SQL_ARRAY_H
#define DOVETAIL_SPEED_SQL_ARRAY_H

#include <stdint.h>
#include <stdio.h>

#include "core/base/error.h"

struct sql_array {
    char *text; /* good after sql_array_end */
    size_t length;
    FILE *stream;
    bool empty;
};

void sql_array_begin(struct sql_array *array);
void sql_array_add_text(struct sql_array *array, const char *text); /* NULL: SQL NULL */
void sql_array_add_int64(struct sql_array *array, int64_t integer);
void sql_array_add_bool(struct sql_array *array, bool boolean);
/* Microseconds since the Unix epoch, or NULL where `present` is false. */
void sql_array_add_timestamp(struct sql_array *array, bool present, int64_t timestamp_us);

/* Completes every array; STATUS_FATAL when memory was short. Call sql_arrays_deinit in any case. */
enum status sql_arrays_end(struct sql_array *arrays, size_t count, struct error *error) MUST_CHECK;
void sql_arrays_deinit(struct sql_array *arrays, size_t count);

#endif
