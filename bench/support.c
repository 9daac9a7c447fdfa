/* What the benchmarks' programs share: see support.h. */
#include "bench/support.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/records/event_parser.h"

static double read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double bench_seconds(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

double bench_clock_seconds(void)
{
    return read_clock(CLOCK_REALTIME);
}

double bench_cpu_seconds(void)
{
    return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

void bench_fail(const char *format, ...)
{
    va_list arguments;
    fputs("bench: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

long bench_number(const char *text, const char *name, long least, long most)
{
    char *end;
    long number = strtol(text, &end, 10);
    if (end == text || *end != '\0' || number < least || number > most)
        bench_fail("%s: a number from %ld to %ld, not \"%s\"", name, least, most, text);
    return number;
}

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

double bench_quantile(double *values, size_t count, double q)
{
    qsort(values, count, sizeof *values, compare);
    double rank = ceil(q * (double)count);
    return values[rank < 1 ? 0 : (size_t)rank - 1];
}

/* --- records --- */

static void read_all(FILE *file, const char *path, struct bench_records *out)
{
    size_t room = 0;
    size_t got;
    do {
        if (room - out->bytes < 1 << 20) {
            room = room == 0 ? 1 << 24 : room * 2;
            out->data = realloc(out->data, room);
            if (out->data == NULL)
                bench_fail("out of memory");
        }
        got = fread(out->data + out->bytes, 1, room - out->bytes - EVENT_PADDING_BYTES - 1, file);
        out->bytes += got;
    } while (got > 0);
    if (ferror(file))
        bench_fail("%s cannot be read", path);
    memset(out->data + out->bytes, 0, EVENT_PADDING_BYTES + 1);
    out->readable = out->bytes + EVENT_PADDING_BYTES;
}

void bench_records_read(const char *path, struct bench_records *out)
{
    *out = (struct bench_records){0};
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (file == NULL)
        bench_fail("%s cannot be opened", path);
    read_all(file, path, out);
    if (file != stdin)
        fclose(file);
    size_t lines = 1;
    for (const char *at = out->data; at < out->data + out->bytes; at++)
        lines += *at == '\n';
    out->starts = malloc((lines + 1) * sizeof *out->starts);
    if (out->starts == NULL)
        bench_fail("out of memory");
    size_t start = 0;
    while (start < out->bytes) {
        const char *end = memchr(out->data + start, '\n', out->bytes - start);
        out->starts[out->count++] = start;
        start = end != NULL ? (size_t)(end - out->data) + 1 : out->bytes + 1;
    }
    out->starts[out->count] = start;
    if (out->count == 0)
        bench_fail("%s has no records", path);
}

void bench_records_free(struct bench_records *records)
{
    free(records->data);
    free(records->starts);
    *records = (struct bench_records){0};
}

size_t bench_record_length(const struct bench_records *records, size_t i)
{
    return records->starts[i + 1] - records->starts[i] - 1;
}
