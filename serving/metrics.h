/* Counts of requests by route and status, and their latencies. Any thread; counting takes no lock.
 */
#ifndef DOVETAIL_SERVING_METRICS_H
#define DOVETAIL_SERVING_METRICS_H

#include <stdint.h>
#include <stdio.h>

#include "core/base/error.h"

struct metrics;

struct metrics *metrics_create(size_t route_count) MUST_CHECK; /* NULL: out of memory */
void metrics_destroy(struct metrics *metrics);

void metrics_count(struct metrics *metrics, size_t route, int status, int64_t duration_us);

/* In Prometheus's text format; `names` has the label of each route. */
void metrics_write(const struct metrics *metrics, const char *const *names, FILE *out);

#endif
