/* What `dovetail-batch schedule` tells of itself: batch.metrics, GET /metrics.
 *
 * It is written anew between two looks at the log, and before and after a run; so while a run is at
 * work it says how things stood when it began. Main thread. */
#ifndef DOVETAIL_BATCH_TELEMETRY_H
#define DOVETAIL_BATCH_TELEMETRY_H

#include "batch_layer/run.h"
#include "core/http/metrics_page.h"
#include "core/program/metrics.h"

enum { TELEMETRY_STAGES = 5 };

struct telemetry {
    struct metrics_page *page; /* NULL: nobody asks */
    struct metrics_histogram stages[TELEMETRY_STAGES];
    int64_t published;
    int64_t failed;
    int64_t folded;
    int64_t written;
    int64_t spilled_bytes;
    int64_t mismatched;
    size_t refused; /* definitions, by the last run */
    int64_t archived_records;
    int64_t archived_bytes;
    int64_t seen_records; /* of these, by the archiver that there is */
    int64_t seen_bytes;
    bool running;
};

/* STATUS_REJECT: the address. */
enum status telemetry_start(struct telemetry *telemetry, const struct config *config,
                            struct error *error) MUST_CHECK;
void telemetry_stop(struct telemetry *telemetry);

void telemetry_note_run(struct telemetry *telemetry, const struct run_report *report,
                        enum status status);
/* `archiver` may be NULL; next_run_us: INT64_MAX = never. */
void telemetry_write(struct telemetry *telemetry, struct archiver *archiver, int64_t next_run_us);
/* The archiver is about to be destroyed: the next one counts from 0. */
void telemetry_forget_archiver(struct telemetry *telemetry, const struct archiver *archiver);

#endif
