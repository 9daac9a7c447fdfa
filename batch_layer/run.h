/* One batch run: archive, choose the cut-offs, recompute, publish.
 *
 * Invariant: a run that fails at any point changes nothing that anybody reads; the archive it made
 * stays and serves the next one. A partition that is halted keeps the cut-off of the current run,
 * below which the archive has all of it, so that the run is exact without it. So does a topic with
 * a definition that this program refuses; its records are archived all the same, where its source
 * is not what is refused. */
#ifndef DOVETAIL_BATCH_RUN_H
#define DOVETAIL_BATCH_RUN_H

#include "batch_layer/archiver.h"
#include "batch_layer/publish.h"

enum { RUN_WHY_BYTES = 1024 };

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
    size_t halted;  /* partitions whose cut-offs stay where they were */
    size_t refused; /* definitions, whose topics' cut-offs stay as well */
    bool incremental;
    char why[RUN_WHY_BYTES]; /* not everything is; or "" */
    struct recompute_counts folded;
    struct store_counts stored;
    struct audit audit;
};

struct run_request {
    const char *reason; /* told in the table run: "command" or "schedule" */
    const char *full;   /* why nothing shall be reused; or NULL */
    bool accept;        /* publish whatever differs, whatever batch.on_mismatch says */
};

/* After a failure, which the table run then tells, the archiver is gone; the connection may be.
 * The report is to be given to run_report_deinit, also after a failure. */
enum status run_execute(struct batch *batch, const struct run_request *request,
                        struct run_report *report, struct error *error) MUST_CHECK;
void run_report_deinit(struct run_report *report);

/* The stages and their costs, for people, on stdout. */
void run_print(const struct run_report *report);

#endif
