/* Request metrics: see serving/metrics.h.
 *
 * Invariant: counters only grow. A scrape that reads while requests are counted may see a request
 * in one counter and not yet in another, which Prometheus expects of counters. */
#include "serving/metrics.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/program/metrics.h"

static const int statuses[] = {200, 207, 304, 400, 401, 403, 404, 405, 406, 409,
                               413, 414, 415, 422, 429, 500, 503, 504, 0};
static const double bounds[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                0.1,    0.25,    0.5,    1,     2.5,    5,     10,   30};

enum {
    STATUS_COUNT = sizeof statuses / sizeof statuses[0], /* the last: any other */
    BOUND_COUNT = sizeof bounds / sizeof bounds[0],
    LABELS_SIZE = 160,
};

struct histogram {
    atomic_uint_fast64_t by_bound[BOUND_COUNT + 1]; /* the last: beyond every bound */
    atomic_uint_fast64_t sum_us;
};

struct metrics {
    size_t route_count;
    struct histogram histograms[][STATUS_COUNT]; /* by route */
};

struct metrics *metrics_create(size_t route_count)
{
    struct metrics *metrics =
        calloc(1, sizeof *metrics + route_count * sizeof metrics->histograms[0]);
    if (metrics != NULL)
        metrics->route_count = route_count;
    return metrics;
}

void metrics_destroy(struct metrics *metrics)
{
    free(metrics);
}

static void add(atomic_uint_fast64_t *counter, uint64_t count)
{
    atomic_fetch_add_explicit(counter, count, memory_order_relaxed);
}

void metrics_count(struct metrics *metrics, size_t route, int status, int64_t duration_us)
{
    size_t bound = 0;
    size_t code = 0;
    while (bound < BOUND_COUNT && (double)duration_us / 1e6 > bounds[bound])
        bound++;
    while (code + 1 < STATUS_COUNT && statuses[code] != status)
        code++;
    struct histogram *histogram = &metrics->histograms[route][code];
    add(&histogram->by_bound[bound], 1);
    add(&histogram->sum_us, duration_us > 0 ? (uint64_t)duration_us : 0);
}

static uint64_t get(const atomic_uint_fast64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* A snapshot, so that the lines of one histogram agree with each other. */
static uint64_t read_counts(const struct histogram *histogram, uint64_t *counts)
{
    uint64_t total = 0;
    for (size_t i = 0; i <= BOUND_COUNT; i++)
        total += counts[i] = get(&histogram->by_bound[i]);
    return total;
}

/* route="...",code="..." */
static void put_labels(char labels[LABELS_SIZE], const char *route, size_t code)
{
    if (code + 1 < STATUS_COUNT)
        snprintf(labels, LABELS_SIZE, "route=\"%s\",code=\"%d\"", route, statuses[code]);
    else
        snprintf(labels, LABELS_SIZE, "route=\"%s\",code=\"other\"", route);
}

static void write_histogram(const struct histogram *histogram, const char *labels, FILE *out)
{
    struct metrics_histogram copy = {.bounds = bounds,
                                     .bound_count = BOUND_COUNT,
                                     .sum_seconds = (double)get(&histogram->sum_us) / 1e6};
    (void)read_counts(histogram, copy.counts);
    metrics_write_histogram(out, "dovetail_http_request_duration_seconds", labels, &copy);
}

/* Each route has its line for 200, so that rates begin at zero; other statuses once they came. */
static bool is_told(const struct histogram *histogram, size_t code)
{
    uint64_t counts[BOUND_COUNT + 1];
    return code == 0 || read_counts(histogram, counts) > 0;
}

void metrics_write(const struct metrics *metrics, const char *const *names, FILE *out)
{
    char labels[LABELS_SIZE];
    uint64_t counts[BOUND_COUNT + 1];
    fputs("# HELP dovetail_http_requests_total Requests answered, by route and status.\n"
          "# TYPE dovetail_http_requests_total counter\n",
          out);
    for (size_t r = 0; r < metrics->route_count; r++)
        for (size_t i = 0; i < STATUS_COUNT; i++) {
            const struct histogram *histogram = &metrics->histograms[r][i];
            put_labels(labels, names[r], i);
            if (is_told(histogram, i))
                fprintf(out, "dovetail_http_requests_total{%s} %" PRIu64 "\n", labels,
                        read_counts(histogram, counts));
        }
    fputs("# HELP dovetail_http_request_duration_seconds Time from the request to its response, by"
          " route and status; of a live stream to its first event.\n"
          "# TYPE dovetail_http_request_duration_seconds histogram\n",
          out);
    for (size_t r = 0; r < metrics->route_count; r++)
        for (size_t i = 0; i < STATUS_COUNT; i++) {
            put_labels(labels, names[r], i);
            if (is_told(&metrics->histograms[r][i], i))
                write_histogram(&metrics->histograms[r][i], labels, out);
        }
}
