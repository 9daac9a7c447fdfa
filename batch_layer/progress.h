/* How far a stage of a run is, for people: a bar on stderr where that is a terminal, one log line
 * at the stage's end otherwise. One thread at a time. */
#ifndef DOVETAIL_BATCH_PROGRESS_H
#define DOVETAIL_BATCH_PROGRESS_H

#include <stdint.h>

#include "core/base/error.h"

struct progress {
    const char *stage; /* borrowed */
    const char *unit;  /* what is counted: "records", "rows" */
    int64_t total;     /* 0: not known */
    int64_t begun_us;  /* monotonic */
    int64_t drawn_us;
    bool terminal;
    bool drawn; /* a bar stands on the terminal's line */
};

void progress_begin(struct progress *progress, const char *stage, const char *unit, int64_t total);
/* Draws at most ten times a second. */
void progress_update(struct progress *progress, int64_t done);
/* Removes the bar, or logs the line. Returns the stage's milliseconds. */
double progress_end(struct progress *progress, int64_t done);

#endif
