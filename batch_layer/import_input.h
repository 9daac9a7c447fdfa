/* One file to be imported, read record by record: JSON lines or CSV, plain or compressed.
 *
 * It is read twice, first for its checksum and the number of its lines, then for its records; both
 * times from the same open file, so that another one that takes its name in between makes no
 * difference. What is no regular file (standard input, a pipe) is first copied to a file without a
 * name in the archive's directory, which vanishes with the process. One thread. */
#ifndef DOVETAIL_BATCH_IMPORT_INPUT_H
#define DOVETAIL_BATCH_IMPORT_INPUT_H

#include "batch_layer/csv.h"

enum import_format { IMPORT_BY_NAME, IMPORT_JSON, IMPORT_CSV };

struct import_input;

struct import_record {
    int64_t line; /* of the file, from 1 on */
    int64_t last_line;
    const char *value; /* the record as JSON says it; NULL: `text` is no record at all */
    size_t length;
    const char *text; /* as it is in the file */
    size_t text_length;
    const char *fault; /* why value is NULL */
};

/* Opens and reads it once. `path` "-": standard input. STATUS_REJECT: the file cannot be read, or
 * IMPORT_BY_NAME and the name tells no format. `spool_directory` is made where it is missing. */
enum status import_input_open(const char *path, enum import_format format,
                              const char *spool_directory, struct import_input **out,
                              struct error *error) MUST_CHECK;
void import_input_close(struct import_input *input); /* accepts NULL */

const char *import_input_name(const struct import_input *input);
enum import_format import_input_format(const struct import_input *input);
/* Of the decompressed content, hexadecimal. */
const char *import_input_checksum(const struct import_input *input);
/* Line feeds in it: about as many as there are records. */
int64_t import_input_line_count(const struct import_input *input);

/* Begins to read the records; a CSV's header is read here and checked against the source. */
enum status import_input_begin(struct import_input *input, const struct source *source,
                               const struct csv_mapping *mappings, size_t mapping_count,
                               struct error *error) MUST_CHECK;
/* The columns of the CSV that are no field's; empty: none. */
const char *import_input_left_out(const struct import_input *input);
/* *end: there is no other. Good until the next call. STATUS_RETRY "stopped" when the program is
 * stopping, or where the content is not what it was when it was opened. */
enum status import_input_next(struct import_input *input, struct import_record *out, bool *end,
                              struct error *error) MUST_CHECK;

#endif
