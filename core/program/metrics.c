/* Metrics as text: see core/program/metrics.h. */
#include "core/program/metrics.h"

#include <inttypes.h>

void metrics_observe(struct metrics_histogram *histogram, double seconds)
{
    size_t bound = 0;
    while (bound < histogram->bound_count && seconds > histogram->bounds[bound])
        bound++;
    histogram->counts[bound]++;
    histogram->sum_seconds += seconds > 0 ? seconds : 0;
}

void metrics_describe(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_write_histogram(FILE *out, const char *name, const char *labels,
                             const struct metrics_histogram *histogram)
{
    const char *comma = labels[0] != '\0' ? "," : "";
    const char *open = labels[0] != '\0' ? "{" : "";
    const char *close = labels[0] != '\0' ? "}" : "";
    uint64_t below = 0;
    for (size_t i = 0; i < histogram->bound_count; i++) {
        below += histogram->counts[i];
        fprintf(out, "%s_bucket{%s%sle=\"%g\"} %" PRIu64 "\n", name, labels, comma,
                histogram->bounds[i], below);
    }
    below += histogram->counts[histogram->bound_count];
    fprintf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma, below);
    fprintf(out, "%s_sum%s%s%s %.6f\n", name, open, labels, close, histogram->sum_seconds);
    fprintf(out, "%s_count%s%s%s %" PRIu64 "\n", name, open, labels, close, below);
}

/* Up to 2^53 whole numbers are told to the digit. */
void metrics_put(FILE *out, const char *name, const char *type, const char *help, double value)
{
    metrics_describe(out, name, type, help);
    fprintf(out, "%s %.17g\n", name, value);
}

void metrics_write_build(FILE *out)
{
    metrics_describe(out, "dovetail_build_info", "gauge", "1; the release is a label.");
    fprintf(out, "dovetail_build_info{version=\"%s\"} 1\n", DOVETAIL_VERSION);
}
