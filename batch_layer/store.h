/* Writes one version's result into batch_<version>, where it differs from what is there.
 *
 * Invariant (Batch): after it, in the caller's transaction, the rows visible under `run` are
 * exactly the computed groups: rows that did not change stay as they are, those that changed or
 * vanished are closed with _run_to = run, new and changed ones are inserted with _run_from = run.
 * Where rows are reused (reuse.h) the computed groups are what is new, and the rows of these groups
 * alone are read, merged with them, closed and written anew; all others stay as they are. */
#ifndef DOVETAIL_BATCH_STORE_H
#define DOVETAIL_BATCH_STORE_H

#include "batch_layer/progress.h"
#include "batch_layer/recompute.h"
#include "batch_layer/row_sorter.h"
#include "core/postgres/postgres.h"

struct store_counts {
    int64_t rows; /* of the result; of versions whose rows are reused, those that were touched */
    int64_t unchanged;
    int64_t closed;
    int64_t inserted;
    int64_t bytes; /* sent */
};

/* The open rows of a version. Where it fails *out may be there; the caller destroys it. */
enum status store_read_rows(struct postgres *postgres, const struct recompute *recompute,
                            size_t index, struct row_sorter **out, struct error *error) MUST_CHECK;

/* In the caller's transaction. *rows is what store_read_rows gave, or NULL: then what is wanted of
 * them is read; either way it is the caller's. Adds to *counts. */
enum status store_version(struct postgres *postgres, const struct recompute *recompute,
                          size_t index, bool reuses_rows, struct row_sorter **rows, int64_t run,
                          struct progress *progress, struct store_counts *counts,
                          struct error *error) MUST_CHECK;

#endif
