/* What the benchmarks' programs share: a clock, quantiles, records in memory.
 *
 * A benchmark that cannot go on says why and exits 1: there is nobody to hand an error to. */
#ifndef DOVETAIL_BENCH_SUPPORT_H
#define DOVETAIL_BENCH_SUPPORT_H

#include <stddef.h>

#include "core/base/error.h"

double bench_seconds(void);       /* since some moment; never goes back */
double bench_clock_seconds(void); /* since the Unix epoch */
/* User and system time of this process, all threads. */
double bench_cpu_seconds(void);

_Noreturn void bench_fail(const char *format, ...) PRINTF_LIKE(1, 2);
/* Fails unless the argument is a whole number in [least, most]. `name` is for the message. */
long bench_number(const char *text, const char *name, long least, long most);

/* The q-quantile (0..1, nearest rank); sorts the values. count > 0. */
double bench_quantile(double *values, size_t count, double q);

/* JSON lines in memory, with EVENT_PADDING_BYTES behind the last one. */
struct bench_records {
    char *data;
    size_t bytes;
    size_t readable;
    size_t *starts; /* count + 1; a record ends before the next one's line feed */
    size_t count;
};

void bench_records_read(const char *path, struct bench_records *out); /* "-": standard input */
void bench_records_free(struct bench_records *records);
size_t bench_record_length(const struct bench_records *records, size_t i);

#endif
