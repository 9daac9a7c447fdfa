/* One batch run: archive, choose the cut-offs, recompute, publish.
 *
 * Invariant: a run that fails at any point changes nothing that anybody reads; the archive it made
 * stays and serves the next one. A partition that is halted keeps the cut-off of the current run,
 * below which the archive has all of it, so that the run is exact without it. */
#ifndef DOVETAIL_BATCH_RUN_H
#define DOVETAIL_BATCH_RUN_H

#include "batch_layer/archiver.h"
#include "batch_layer/publish.h"

struct batch {
    const struct config *config;
    struct postgres *postgres; /* the session that holds the lock */
    struct archiver *archiver; /* NULL: made by the next run */
};

struct run_report {
    int64_t run;
    struct publish_stats stats;
    int64_t load_records;
    int64_t load_bytes;
    size_t segments;
    size_t halted; /* partitions whose cut-offs stay where they were */
    struct recompute_counts folded;
    struct store_counts stored;
};

/* `reason` is told in the table run: "command" or "schedule". After a failure, which the table then
 * tells too, the archiver is gone; the connection may be. */
enum status run_execute(struct batch *batch, const char *reason, struct run_report *report,
                        struct error *error) MUST_CHECK;

/* The stages and their costs, for people, on stdout. */
void run_print(const struct run_report *report);

#endif
