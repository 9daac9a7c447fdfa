/* CSV as RFC 4180 says it, record by record, and the JSON that a source's fields make of one.
 *
 * A field that begins with a quote ends with one, and two quotes within it are one; such a field
 * may have commas and line breaks. Lines end with LF or CRLF. Beyond the RFC, so that one bad
 * record does not take its neighbours along: a quote that is not closed within CSV_RECORD_BYTES, or
 * at all, spoils its own line alone, and what follows that line is read again.
 *
 * One thread. */
#ifndef DOVETAIL_BATCH_CSV_H
#define DOVETAIL_BATCH_CSV_H

#include <stdio.h>

#include "core/definitions/definition.h"
#include "core/input/lines.h"

enum { CSV_COLUMNS_MAX = 4096, CSV_RECORD_BYTES = 1 << 20 };

/* --- records --- */

struct csv_field {
    const char *data;
    size_t length;
    bool quoted;
};

struct csv_record {
    int64_t line; /* its first one; the file's first line is 1 */
    int64_t last_line;
    const char *text; /* as it is in the file, without the last line break */
    size_t length;
    const struct csv_field *fields;
    size_t field_count;
    const char *fault; /* NULL: it is a record */
};

struct csv_reader;

/* `lines` is borrowed. Empty lines are no records. */
enum status csv_reader_create(struct lines *lines, struct csv_reader **out,
                              struct error *error) MUST_CHECK;
void csv_reader_destroy(struct csv_reader *reader); /* accepts NULL */
/* *end: there is no other, or the program is stopping. Good until the next call. */
enum status csv_reader_next(struct csv_reader *reader, struct csv_record *out, bool *end,
                            struct error *error) MUST_CHECK;

/* --- from columns to fields --- */

/* "column=field", as --map gives it. */
struct csv_mapping {
    const char *column;
    const char *field;
};

struct csv_layout;

/* The columns of `header` by the source's fields: those that are mapped, then those that are called
 * like a field, or like its path with dots. Others are left out. STATUS_REJECT names the column or
 * field: unknown, there twice, a required one without a column, or two of which one would lie
 * within the other. The source is borrowed. */
enum status csv_layout_create(const struct source *source, const struct csv_record *header,
                              const struct csv_mapping *mappings, size_t mapping_count,
                              struct csv_layout **out, struct error *error) MUST_CHECK;
void csv_layout_destroy(struct csv_layout *layout); /* accepts NULL */
/* The names of the columns that are left out, comma-separated; empty: none. */
const char *csv_layout_left_out(const struct csv_layout *layout);

/* Writes the record as a JSON object. An empty field is null; but "" in quotes is the empty string
 * where the field is a string. STATUS_REJECT names the column whose text is none of the field's
 * type; the text itself is never told. */
enum status csv_layout_write(const struct csv_layout *layout, const struct csv_record *record,
                             FILE *out, struct error *error) MUST_CHECK;

#endif
