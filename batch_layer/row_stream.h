/* Rows of states from several sorted sources, as one sorted stream: groups in memory, rows in
 * memory, runs on disk (spill.h).
 *
 * Invariant: rows come by window, then by the bytes of their keys, and each row of each source
 * exactly once. A stream that combines gives one row for each group: the merge of what the sources
 * have of it, to the byte what one fold would have given, because states are commutative monoids
 * whose encoding is decoded to the same state.
 *
 * Memory: one buffer for each run, the row that is given, and where several sources have a group,
 * its state. A stream belongs to one thread; the sources stay as they are and may be read again. */
#ifndef DOVETAIL_BATCH_ROW_STREAM_H
#define DOVETAIL_BATCH_ROW_STREAM_H

#include "batch_layer/spill.h"
#include "core/groups.h"

/* A row that is kept in memory. */
struct stored_row {
    int64_t id;
    uint32_t key_length;
    uint32_t length;
    unsigned char bytes[]; /* the key, the fields */
};

/* To be sorted. The first bytes of the key spare most comparisons a look at it. */
struct row_entry {
    int64_t window_start_us;
    uint64_t key_prefix;
    const void *item; /* struct group or struct stored_row */
};

enum { ROW_ENTRY_BYTES = 2 * sizeof(struct row_entry) }; /* qsort takes as much again */

uint64_t row_key_prefix(const unsigned char *key, size_t length);
void row_entries_sort_groups(struct row_entry *entries, size_t count);
void row_entries_sort_rows(struct row_entry *entries, size_t count);

/* <0, 0, >0: the order of their windows and keys. */
int row_compare(const struct row *a, const struct row *b);

/* Runs that belong together, each sorted. */
struct row_runs {
    struct spill_run *items; /* owned */
    size_t count;
    size_t capacity;
};

enum status row_runs_add(struct row_runs *runs, const struct spill_run *run,
                         struct error *error) MUST_CHECK;
void row_runs_deinit(struct row_runs *runs);
/* Merges runs into longer ones in `file` until there are no more than `most`. */
enum status row_runs_reduce(struct row_runs *runs, size_t most, const struct view *view,
                            bool combine, struct spill_file *file, struct error *error) MUST_CHECK;
/* How many runs may be read at a time within `bytes`. */
size_t row_runs_most(size_t bytes);

struct row_stream;

enum status row_stream_create(const struct view *view, bool combine, struct row_stream **out,
                              struct error *error) MUST_CHECK;
void row_stream_destroy(struct row_stream *stream); /* accepts NULL */

/* Sources, before the first row is asked for. What they point to outlives the stream. */
enum status row_stream_add_groups(struct row_stream *stream, const struct row_entry *sorted,
                                  size_t count, struct error *error) MUST_CHECK;
enum status row_stream_add_rows(struct row_stream *stream, const struct row_entry *sorted,
                                size_t count, struct error *error) MUST_CHECK;
enum status row_stream_add_runs(struct row_stream *stream, const struct row_runs *runs,
                                struct error *error) MUST_CHECK;

/* The next row; all of it is good until the next call. */
enum status row_stream_next(struct row_stream *stream, struct row *row, bool *end,
                            struct error *error) MUST_CHECK;

/* All rows, as one more run. */
enum status row_stream_spill(struct row_stream *stream, struct spill_file *file,
                             struct row_runs *runs, struct error *error) MUST_CHECK;

#endif
