/* Publishing a run: the one transaction after which its rows are what everybody reads.
 *
 * Invariant: batch rows of every version, the run, its cut-offs, current_run and the promotion of
 * new versions change together or not at all. It touches no position row. Before it writes, the
 * run is compared with what others say of the same records (audit.h), and where `hold` is set and
 * something differs it changes nothing. Rows are reused only while the run that they are of is the
 * one that is served: where somebody rolls back meanwhile, the transaction fails. Topics that the
 * catalogue holds (a definition that this program refuses) keep cut-offs and rows. */
#ifndef DOVETAIL_BATCH_PUBLISH_H
#define DOVETAIL_BATCH_PUBLISH_H

#include "batch_layer/audit.h"
#include "batch_layer/cut.h"
#include "batch_layer/recompute.h"
#include "batch_layer/store.h"

struct publish_stats {
    double load_ms;
    double prepare_ms;
    double process_ms;
    /* Filled by publish_run. */
    double store_ms;
    struct spill_counts spilled;
    int64_t peak_bytes;
};

struct publish_request {
    const struct recompute *recompute;
    const struct reuse *reuse;
    const struct cut *cuts;
    size_t cut_count;
    int64_t run;
    bool hold; /* where something differs */
};

/* After a failure the transaction is rolled back. STATUS_RETRY with a lost connection leaves open
 * whether it was committed: run.state says so. STATUS_FATAL with *held: something differs. */
enum status publish_run(struct postgres *postgres, const struct publish_request *request,
                        struct publish_stats *stats, struct store_counts *counts,
                        struct audit *audit, bool *held, struct error *error) MUST_CHECK;

/* Writes down what was compared; in a transaction of its own where the run was held. */
enum status publish_note_audit(struct postgres *postgres, int64_t run, const struct audit *audit,
                               struct error *error) MUST_CHECK;

#endif
