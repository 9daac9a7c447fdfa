/* How fast records become typed fields, beside jansson in the same run.
 *
 *     event_parser FILE    JSON lines of flights, e.g. from zstdcat
 *
 * Both read every record from memory, check all of it and take the five fields of a flight; jansson
 * keeps its usual flags and converts the time with the same function. The best of several passes
 * counts, because other processes can only make a pass slower. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/support.h"
#include "core/records/event_parser.h"
#include "core/time/timestamp.h"

enum { PASSES = 5, JANSSON_PASSES = 2, JANSSON_RECORDS = 400000 };

#define FIELD(its_name, its_type, its_format, may_be_null, its_path)                               \
    {                                                                                              \
        .name = (its_name), .type = (its_type), .format = (its_format), .nullable = (may_be_null), \
        .path = (const char *const[]){its_path}, .path_count = 1                                   \
    }
static const struct source_field fields[] = {
    FIELD("time", VALUE_TIMESTAMP, TIME_RFC3339, false, "time"),
    FIELD("delay", VALUE_INTEGER, TIME_RFC3339, true, "delay"),
    FIELD("distance", VALUE_INTEGER, TIME_RFC3339, false, "distance"),
    FIELD("origin", VALUE_STRING, TIME_RFC3339, false, "origin"),
    FIELD("destination", VALUE_STRING, TIME_RFC3339, false, "destination"),
};
static const struct source flights = {.name = "flights", .fields = fields, .field_count = 5};

static uint64_t pass_parser(struct event_parser *parser, const struct bench_records *records,
                            bool has_padding)
{
    uint64_t checksum = 0;
    struct error error;
    for (size_t i = 0; i < records->count; i++) {
        struct event event;
        size_t length = bench_record_length(records, i);
        size_t readable = has_padding ? records->readable - records->starts[i] : length;
        if (event_parser_parse(parser, records->data + records->starts[i], length, readable, &event,
                               &error) != STATUS_OK)
            bench_fail("event_parser: %s", error.text);
        checksum += (uint64_t)event.time_us + (uint64_t)event.fields[2].integer;
    }
    return checksum;
}

static uint64_t pass_jansson(const struct bench_records *records, size_t count)
{
    uint64_t checksum = 0;
    for (size_t i = 0; i < count; i++) {
        json_error_t error;
        json_t *root = json_loadb(records->data + records->starts[i],
                                  bench_record_length(records, i), 0, &error);
        json_t *time = json_object_get(root, "time");
        json_t *distance = json_object_get(root, "distance");
        int64_t us;
        if (timestamp_parse_rfc3339(json_string_value(time), json_string_length(time), &us) !=
                TIMESTAMP_OK ||
            !json_is_integer(distance) || !json_is_string(json_object_get(root, "origin")) ||
            !json_is_string(json_object_get(root, "destination")) ||
            json_object_get(root, "delay") == NULL)
            bench_fail("event_parser: jansson: not a flight");
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

static double best_parser_pass(const struct bench_records *records, bool has_padding)
{
    struct error error;
    struct event_parser *parser = NULL;
    if (event_parser_create(&flights, &parser, &error) != STATUS_OK)
        bench_fail("event_parser: %s", error.text);
    double best = HUGE_VAL;
    uint64_t checksum = 0;
    for (int i = 0; i < PASSES; i++) {
        double start = bench_seconds();
        uint64_t pass_checksum = pass_parser(parser, records, has_padding);
        double took = bench_seconds() - start;
        best = took < best ? took : best;
        if (i > 0 && pass_checksum != checksum)
            bench_fail("event_parser: two passes gave different results");
        checksum = pass_checksum;
    }
    event_parser_destroy(parser);
    return best;
}

/* jansson reads a part of a long file; it must agree with the parser about that part. */
static double best_jansson_pass(struct bench_records *records, size_t sample)
{
    struct error error;
    struct event_parser *parser = NULL;
    if (event_parser_create(&flights, &parser, &error) != STATUS_OK)
        bench_fail("event_parser: %s", error.text);
    size_t count = records->count;
    records->count = sample;
    uint64_t checksum = pass_parser(parser, records, true);
    records->count = count;
    event_parser_destroy(parser);
    double best = HUGE_VAL;
    for (int i = 0; i < JANSSON_PASSES; i++) {
        double start = bench_seconds();
        if (pass_jansson(records, sample) != checksum)
            bench_fail("event_parser: jansson reads other values");
        double took = bench_seconds() - start;
        best = took < best ? took : best;
    }
    return best;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        bench_fail("usage: event_parser FILE");
    struct bench_records records = {0};
    bench_records_read(argv[1], &records);
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
    bench_records_free(&records);
    return 0;
}
