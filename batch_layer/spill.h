/* What a run keeps on disk because batch.memory does not hold it: sorted runs of rows.
 *
 * Invariant: a run is read as it was written, every row once, or reading fails; nothing is given
 * out as complete before its checksum has come true. Nothing outlives the process: a file loses its
 * name as soon as it is open, so the system frees it, however the process ends. What a process left
 * that was killed in between is an empty file, which spill_create removes.
 *
 * Ownership: a struct spill is the batch run's, and outlives its files; a file belongs to the
 * thread that writes it, and its runs may be read by any, each with a reader of its own, once they
 * are complete. Nothing is synced: what is here is worth nothing after the process.
 *
 * Failures are STATUS_FATAL and name the directory: a disk that is full ends the run, before it has
 * changed anything that anybody reads. */
#ifndef DOVETAIL_BATCH_SPILL_H
#define DOVETAIL_BATCH_SPILL_H

#include <stdint.h>

#include "core/definitions/definition.h"
#include "core/postgres/pgbinary.h"

enum { ROW_KEY_MAX = VIEW_KEY_MAX * VALUE_KEY_FIXED_BYTES + KEY_BYTES_MAX };

/* The states of one group, or a part of them. */
struct row {
    int64_t window_start_us;
    int64_t id;               /* the row's in its table; 0: it is in none */
    const unsigned char *key; /* as struct group has it */
    size_t key_length;        /* 0 although there are keys: no group can have them */
    const uint8_t *fields;    /* as group_encode_row writes them */
    size_t length;
};

struct spill;
struct spill_file;
struct spill_reader;

struct spill_run {
    const struct spill_file *file; /* borrowed */
    int64_t begin;
    int64_t end;
    uint64_t checksum;
};

struct spill_counts {
    int64_t bytes; /* written, those that were written again in a merge included */
    int64_t runs;
};

enum { SPILL_BUFFER_BYTES = 64 << 10 }; /* of each file that is written, and each reader */

/* `memory_bytes` is kept for the users (spill_memory). Under the batch lock: removes what other
 * processes left in the directory, and makes it when the first file needs it. */
enum status spill_create(const char *directory, int64_t memory_bytes, struct spill **out,
                         struct error *error) MUST_CHECK;
void spill_destroy(struct spill *spill); /* accepts NULL; after all files */
size_t spill_memory(const struct spill *spill);
struct spill_counts spill_counts(const struct spill *spill); /* any thread */

/* Any thread. */
enum status spill_file_create(struct spill *spill, struct spill_file **out,
                              struct error *error) MUST_CHECK;
void spill_file_destroy(struct spill_file *file); /* accepts NULL */

/* One run at a time in a file: rows in the order in which they are to be read. */
enum status spill_begin(struct spill_file *file, struct error *error) MUST_CHECK;
enum status spill_add(struct spill_file *file, const struct row *row,
                      struct error *error) MUST_CHECK;
enum status spill_end(struct spill_file *file, struct spill_run *out,
                      struct error *error) MUST_CHECK;

/* Nobody reads the run any more: its place on the disk is free, where the file system can do that.
 */
enum status spill_run_free(const struct spill_run *run, struct error *error) MUST_CHECK;

enum status spill_reader_open(const struct spill_run *run, struct spill_reader **out,
                              struct error *error) MUST_CHECK;
void spill_reader_close(struct spill_reader *reader); /* accepts NULL */
/* The next row without its fields; its key is good until the next call for this reader. */
enum status spill_reader_next(struct spill_reader *reader, struct row *row, bool *end,
                              struct error *error) MUST_CHECK;
/* Adds the fields of that row, and sets its key anew. They are in `room` where they are too many
 * for the reader's buffer. */
enum status spill_reader_fields(struct spill_reader *reader, struct pgbinary_writer *room,
                                struct row *row, struct error *error) MUST_CHECK;

#endif
