/* Comparing what a run computed with what others say of the same records, group by group.
 *
 *   rows    below C_B: the rows of the base run with the run's own fold, where it is a full one
 *           that could have reused them (REUSE_COMPARE)
 *   speed   from C_B to C: the merged slices of the speed layer with the run's own fold, where
 *           they cover it. C falls on slice boundaries, so both are of the same records.
 *
 * Either is compared before anything is merged, so equal parts give equal answers: of a full run,
 * full(C) = old ⊕ new is compared with rows(C_B) ⊕ slices, each side of the ⊕ by itself; of an
 * incremental one, rows(C_B) ⊕ new with rows(C_B) ⊕ slices. Both are stricter than comparing the
 * sums, where a maximum, say, can hide a difference. Equal states have equal bytes.
 *
 * In the transaction that publishes, before it writes. What PostgreSQL has is sorted as the run's
 * groups are, on disk where it is much (row_sorter.h), and both go side by side: memory does not
 * grow with what is compared. */
#ifndef DOVETAIL_BATCH_AUDIT_H
#define DOVETAIL_BATCH_AUDIT_H

#include <jansson.h>

#include "batch_layer/recompute.h"
#include "batch_layer/row_sorter.h"

enum { AUDIT_EXAMPLES = 10 };

struct audit {
    int64_t compared;   /* groups */
    int64_t mismatches; /* of them */
    json_t *examples;   /* array of the first AUDIT_EXAMPLES; owned */
    double ms;
};

/* STATUS_FATAL: no memory. */
enum status audit_init(struct audit *audit, struct error *error) MUST_CHECK;
void audit_deinit(struct audit *audit);

/* One version. Logs each example. Where its rows are compared, *rows receives them, for
 * store_version, so that they are read once; the caller destroys them, also after a failure. */
enum status audit_version(struct audit *audit, struct postgres *postgres,
                          const struct recompute *recompute, const struct reuse *reuse,
                          const struct cut *cuts, size_t index, struct row_sorter **rows,
                          struct error *error) MUST_CHECK;

#endif
