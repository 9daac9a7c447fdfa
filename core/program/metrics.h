/* Prometheus's text format, as every process writes it: base units, counters that end in _total.
 *
 * A histogram belongs to one thread at a time. */
#ifndef DOVETAIL_METRICS_TEXT_H
#define DOVETAIL_METRICS_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { METRICS_BOUNDS_MAX = 20 };

/* Durations, by upper bounds in seconds, ascending. */
struct metrics_histogram {
    const double *bounds; /* up to METRICS_BOUNDS_MAX; borrowed */
    size_t bound_count;
    uint64_t counts[METRICS_BOUNDS_MAX + 1]; /* the last used: beyond every bound */
    double sum_seconds;
};

void metrics_observe(struct metrics_histogram *histogram, double seconds);

/* The lines before a family. `type`: "counter", "gauge", "histogram". */
void metrics_describe(FILE *out, const char *name, const char *type, const char *help);
/* `labels`: `a="b",c="d"`, or "". */
void metrics_write_histogram(FILE *out, const char *name, const char *labels,
                             const struct metrics_histogram *histogram);
/* A family of one line. */
void metrics_put(FILE *out, const char *name, const char *type, const char *help, double value);

/* dovetail_build_info, which every process has. */
void metrics_write_build(FILE *out);

#endif
