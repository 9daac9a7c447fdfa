/* What a speed process tells of itself: speed.metrics, GET /metrics.
 *
 * Counters are of what was written: they are taken from a flush when it comes back, so that the
 * ledger's equation holds in them, too. Main thread. */
#ifndef DOVETAIL_SPEED_TELEMETRY_H
#define DOVETAIL_SPEED_TELEMETRY_H

#include "core/http/metrics_page.h"
#include "core/program/metrics.h"
#include "speed_layer/flush.h"

struct speed;

struct telemetry {
    struct metrics_page *page; /* NULL: nobody asks */
    int64_t next_us;           /* when it is written anew */
    int64_t submitted_us;      /* when the flush under way was handed over */
    struct metrics_histogram flushes;
    int64_t bytes; /* of records' values */
    int64_t fenced;
    int64_t abandoned;
    int64_t inserted;
    int64_t updated;
    int64_t slices;
    int64_t consumed;
    int64_t counted;
    int64_t filtered;
    int64_t duplicate;
    int64_t dead[DEAD_LETTER_KINDS];
};

/* STATUS_REJECT: the address. */
enum status telemetry_start(struct speed *speed, struct error *error) MUST_CHECK;
void telemetry_stop(struct speed *speed);

void telemetry_note_submitted(struct speed *speed);
/* Before the flush is cleared. */
void telemetry_note_flush(struct speed *speed, const struct flush *flush);
/* Writes the page anew, where it is time. */
void telemetry_tick(struct speed *speed);

#endif
