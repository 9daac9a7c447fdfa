/* How fast records become typed fields, beside jansson in the same run.
 *
 *     bench_event_parser FILE     JSON lines of flights, e.g. from zstdcat
 *
 * Both read every record from memory, check all of it and take the five fields of a flight; jansson
 * keeps its usual flags and converts the time with the same function. The best of several passes
 * counts, because other processes can only make a pass slower. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/event_parser.h"
#include "core/timestamp.h"

enum { PASSES = 5, JANSSON_PASSES = 2, JANSSON_RECORDS = 400000 };

struct records {
    char *data; /* EVENT_PADDING_BYTES behind the last record */
    size_t bytes;
    size_t readable;
    size_t *starts; /* count + 1; a record ends before the next one's line feed */
    size_t count;
};

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void fail(const char *what)
{
    fprintf(stderr, "bench_event_parser: %s\n", what);
    exit(1);
}

static void read_file(const char *path, struct records *records)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0)
        fail("cannot read the file");
    records->bytes = (size_t)ftell(file);
    rewind(file);
    records->readable = records->bytes + EVENT_PADDING_BYTES;
    records->data = calloc(1, records->readable + 1);
    records->starts = malloc((records->bytes + 2) * sizeof *records->starts);
    if (records->data == NULL || records->starts == NULL ||
        fread(records->data, 1, records->bytes, file) != records->bytes)
        fail("cannot read the file into memory");
    fclose(file);
    size_t start = 0;
    while (start < records->bytes) {
        const char *end = memchr(records->data + start, '\n', records->bytes - start);
        size_t next = end != NULL ? (size_t)(end - records->data) + 1 : records->bytes + 1;
        records->starts[records->count++] = start;
        start = next;
    }
    records->starts[records->count] = start;
    if (records->count == 0)
        fail("no records");
}

static size_t record_length(const struct records *records, size_t i)
{
    return records->starts[i + 1] - records->starts[i] - 1;
}

#define PATH(name) (const char *const[]){name}, 1
static const struct source_field fields[] = {
    {"time", VALUE_TIMESTAMP, TIME_RFC3339, false, PATH("time")},
    {"delay", VALUE_INTEGER, TIME_RFC3339, true, PATH("delay")},
    {"distance", VALUE_INTEGER, TIME_RFC3339, false, PATH("distance")},
    {"origin", VALUE_STRING, TIME_RFC3339, false, PATH("origin")},
    {"destination", VALUE_STRING, TIME_RFC3339, false, PATH("destination")},
};
static const struct source flights = {.name = "flights", .fields = fields, .field_count = 5};

static uint64_t pass_parser(struct event_parser *parser, const struct records *records,
                            bool has_padding)
{
    uint64_t checksum = 0;
    struct error error;
    for (size_t i = 0; i < records->count; i++) {
        struct event event;
        size_t length = record_length(records, i);
        size_t readable = has_padding ? records->readable - records->starts[i] : length;
        if (event_parser_parse(parser, records->data + records->starts[i], length, readable, &event,
                               &error) != STATUS_OK)
            fail(error.text);
        checksum += (uint64_t)event.time_us + (uint64_t)event.fields[2].integer;
    }
    return checksum;
}

static uint64_t pass_jansson(const struct records *records, size_t count)
{
    uint64_t checksum = 0;
    for (size_t i = 0; i < count; i++) {
        json_error_t error;
        json_t *root =
            json_loadb(records->data + records->starts[i], record_length(records, i), 0, &error);
        json_t *time = json_object_get(root, "time");
        json_t *distance = json_object_get(root, "distance");
        int64_t us;
        if (timestamp_parse_rfc3339(json_string_value(time), json_string_length(time), &us) !=
                TIMESTAMP_OK ||
            !json_is_integer(distance) || !json_is_string(json_object_get(root, "origin")) ||
            !json_is_string(json_object_get(root, "destination")) ||
            json_object_get(root, "delay") == NULL)
            fail("jansson: not a flight");
        checksum += (uint64_t)us + (uint64_t)json_integer_value(distance);
        json_decref(root);
    }
    return checksum;
}

static void report(const char *name, size_t count, size_t bytes, double best, double reference)
{
    double rate = (double)count / best;
    printf("%-28s %8.2f M records/s %8.0f MB/s %7.1f ns/record", name, rate * 1e-6,
           (double)bytes / best * 1e-6, best / (double)count * 1e9);
    if (reference > 0)
        printf("   %.1f × jansson", rate / reference);
    printf("\n");
}

static double best_parser_pass(const struct records *records, bool has_padding)
{
    struct error error;
    struct event_parser *parser = NULL;
    if (event_parser_create(&flights, &parser, &error) != STATUS_OK)
        fail(error.text);
    double best = HUGE_VAL;
    uint64_t checksum = 0;
    for (int i = 0; i < PASSES; i++) {
        double start = seconds();
        uint64_t pass_checksum = pass_parser(parser, records, has_padding);
        double took = seconds() - start;
        best = took < best ? took : best;
        if (i > 0 && pass_checksum != checksum)
            fail("two passes gave different results");
        checksum = pass_checksum;
    }
    event_parser_destroy(parser);
    return best;
}

/* jansson reads a part of a long file; it must agree with the parser about that part. */
static double best_jansson_pass(struct records *records, size_t sample)
{
    struct error error;
    struct event_parser *parser = NULL;
    if (event_parser_create(&flights, &parser, &error) != STATUS_OK)
        fail(error.text);
    size_t count = records->count;
    records->count = sample;
    uint64_t checksum = pass_parser(parser, records, true);
    records->count = count;
    event_parser_destroy(parser);
    double best = HUGE_VAL;
    for (int i = 0; i < JANSSON_PASSES; i++) {
        double start = seconds();
        if (pass_jansson(records, sample) != checksum)
            fail("jansson reads other values");
        double took = seconds() - start;
        best = took < best ? took : best;
    }
    return best;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        fail("usage: bench_event_parser FILE");
    struct records records = {0};
    read_file(argv[1], &records);
    printf("%zu records of %.1f bytes, target %s, one thread, best of %d passes\n", records.count,
           (double)records.bytes / (double)records.count, event_parser_target(), PASSES);

    size_t sample = records.count < JANSSON_RECORDS ? records.count : JANSSON_RECORDS;
    double jansson = best_jansson_pass(&records, sample);
    double jansson_rate = (double)sample / jansson;
    report("jansson", sample, records.starts[sample], jansson, 0);
    report("event_parser", records.count, records.bytes, best_parser_pass(&records, true),
           jansson_rate);
    report("event_parser, record copied", records.count, records.bytes,
           best_parser_pass(&records, false), jansson_rate);
    free(records.data);
    free(records.starts);
    return 0;
}
