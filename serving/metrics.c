/* Request metrics: see serving/metrics.h.
 *
 * Invariant: counters only grow. A scrape that reads while requests are counted may see a request
 * in one counter and not yet in another, which Prometheus expects of counters. */
#include "serving/metrics.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

static const int statuses[] = {200, 304, 400, 404, 405, 406, 414, 500, 503, 504};
static const int64_t bounds_us[] = {100,     250,     500,     1000,     2500,    5000,
                                    10000,   25000,   50000,   100000,   250000,  500000,
                                    1000000, 2500000, 5000000, 10000000, 30000000};

enum {
    STATUS_COUNT = sizeof statuses / sizeof statuses[0],
    BOUND_COUNT = sizeof bounds_us / sizeof bounds_us[0],
};

struct route_metrics {
    atomic_uint_fast64_t by_status[STATUS_COUNT];
    atomic_uint_fast64_t by_bound[BOUND_COUNT + 1]; /* the last: beyond every bound */
    atomic_uint_fast64_t sum_us;
};

struct metrics {
    size_t route_count;
    struct route_metrics routes[];
};

struct metrics *metrics_create(size_t route_count)
{
    struct metrics *metrics = calloc(1, sizeof *metrics + route_count * sizeof metrics->routes[0]);
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
    struct route_metrics *counters = &metrics->routes[route];
    size_t bound = 0;
    while (bound < BOUND_COUNT && duration_us > bounds_us[bound])
        bound++;
    for (size_t i = 0; i < STATUS_COUNT; i++)
        if (statuses[i] == status)
            add(&counters->by_status[i], 1);
    add(&counters->by_bound[bound], 1);
    add(&counters->sum_us, duration_us > 0 ? (uint64_t)duration_us : 0);
}

static uint64_t get(const atomic_uint_fast64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void write_route(const struct route_metrics *counters, const char *name, FILE *out)
{
    uint64_t total = 0;
    for (size_t i = 0; i < BOUND_COUNT; i++) {
        total += get(&counters->by_bound[i]);
        fprintf(out,
                "dovetail_http_request_duration_seconds_bucket{route=\"%s\",le=\"%g\"} %" PRIu64
                "\n",
                name, (double)bounds_us[i] / 1e6, total);
    }
    total += get(&counters->by_bound[BOUND_COUNT]);
    fprintf(out,
            "dovetail_http_request_duration_seconds_bucket{route=\"%s\",le=\"+Inf\"} %" PRIu64
            "\ndovetail_http_request_duration_seconds_sum{route=\"%s\"} %.6f"
            "\ndovetail_http_request_duration_seconds_count{route=\"%s\"} %" PRIu64 "\n",
            name, total, name, (double)get(&counters->sum_us) / 1e6, name, total);
}

void metrics_write(const struct metrics *metrics, const char *const *names, FILE *out)
{
    fputs("# HELP dovetail_http_requests_total Requests answered, by route and status.\n"
          "# TYPE dovetail_http_requests_total counter\n",
          out);
    for (size_t r = 0; r < metrics->route_count; r++)
        for (size_t i = 0; i < STATUS_COUNT; i++)
            if (i == 0 || get(&metrics->routes[r].by_status[i]) > 0)
                fprintf(out, "dovetail_http_requests_total{route=\"%s\",code=\"%d\"} %" PRIu64 "\n",
                        names[r], statuses[i], (uint64_t)get(&metrics->routes[r].by_status[i]));
    fputs("# HELP dovetail_http_request_duration_seconds Time from the request to its response.\n"
          "# TYPE dovetail_http_request_duration_seconds histogram\n",
          out);
    for (size_t r = 0; r < metrics->route_count; r++)
        write_route(&metrics->routes[r], names[r], out);
}
