/* Publishing a run: the one transaction after which its rows are what everybody reads.
 *
 * Invariant: batch rows of every version, the run, its cut-offs, current_run and the promotion of
 * new versions change together or not at all. It touches no position row. */
#ifndef DOVETAIL_BATCH_PUBLISH_H
#define DOVETAIL_BATCH_PUBLISH_H

#include "batch_layer/cut.h"
#include "batch_layer/recompute.h"
#include "batch_layer/store.h"

struct publish_stats {
    double load_ms;
    double prepare_ms;
    double process_ms;
    double store_ms; /* filled by publish_run */
};

/* After a failure the transaction is rolled back. STATUS_RETRY with a lost connection leaves open
 * whether it was committed: run.state says so. */
enum status publish_run(struct postgres *postgres, const struct recompute *recompute,
                        const struct cut *cuts, size_t cut_count, int64_t run,
                        struct publish_stats *stats, struct store_counts *counts,
                        struct error *error) MUST_CHECK;

#endif
