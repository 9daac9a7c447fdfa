/* What each measure costs beside count(*): one thread, parsed records in memory.
 *
 *     measures SCHEMAS SOURCE FILE [ROUNDS]
 *
 * A view for each measure, grouped by origin, without windows, so that the few groups stay in the
 * processor's caches and the measure itself is what is timed. In each round every view folds all
 * records once, count(*) first; times are the processor's, and a ratio is that of one round. One
 * line each on stdout, with tabs: the measure, events a second (median), the ratio of its rate to
 * that of count(*) (median, least, greatest), bytes of its state in a group, bytes of memory for a
 * group beyond those with count(*) (its values, and what allocation rounds up), bytes of its stored
 * columns. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/support.h"
#include "core/definitions/definition.h"
#include "core/groups.h"
#include "core/records/event_parser.h"

static const char *const measures[] = {
    "count(*)",
    "count(delay)",
    "count(*) FILTER (WHERE delay > 15)",
    "sum(delay)",
    "avg(delay)",
    "min(delay)",
    "max(destination)",
    "bool_and(delay < 60)",
    "var_pop(delay)",
    "stddev_samp(delay)",
    "covar_pop(delay, distance)",
    "corr(delay, distance)",
    "regr_count(delay, distance)",
    "regr_slope(delay, distance)",
    "first(destination)",
    "last(delay)",
    "arg_max(destination, delay)",
    "count(DISTINCT destination)",
    "approx_count_distinct(destination)",
    "approx_count_distinct(time)",
    "approx_percentile(delay, 0.95)",
    "histogram(delay, [0, 15, 60, 180])",
};
enum { MEASURES = sizeof measures / sizeof measures[0], ROUNDS_MAX = 101 };

struct bench {
    struct definitions definitions;
    const struct source *source;
    struct view *views[MEASURES];
    size_t count; /* of records */
    struct value *fields;
    int64_t *times_us;
    struct arena strings;
    double seconds[MEASURES][ROUNDS_MAX];
    double memory_bytes[MEASURES], row_bytes[MEASURES];
};

static void load(struct bench *bench, const char *schemas, const char *source)
{
    struct error error;
    if (definitions_load(schemas, &bench->definitions, NULL, NULL, &error) != STATUS_OK)
        bench_fail("measures: %s", error.text);
    for (size_t i = 0; i < bench->definitions.source_count; i++)
        if (strcmp(bench->definitions.sources[i]->name, source) == 0)
            bench->source = bench->definitions.sources[i];
    if (bench->source == NULL)
        bench_fail("measures: there is no source %s in %s", source, schemas);
    for (size_t i = 0; i < MEASURES; i++) {
        json_t *json =
            json_pack("{s:s, s:s, s:[s], s:{s:s}, s:{s:s}}", "view", "v", "source", source,
                      "group_by", "origin", "window", "type", "none", "measures", "m", measures[i]);
        if (view_create(json, "measures", bench->source, &bench->views[i], &error) != STATUS_OK)
            bench_fail("%s", error.text);
        json_decref(json);
    }
}

/* Parses all records and keeps their values. */
static void parse(struct bench *bench, const char *path)
{
    struct bench_records records;
    struct event_parser *parser;
    struct error error;
    size_t width = bench->source->field_count;
    bench_records_read(path, &records);
    bench->count = records.count;
    bench->fields = calloc(records.count * width + 1, sizeof *bench->fields);
    bench->times_us = calloc(records.count + 1, sizeof *bench->times_us);
    if (bench->fields == NULL || bench->times_us == NULL ||
        event_parser_create(bench->source, &parser, &error) != STATUS_OK)
        bench_fail("out of memory");
    arena_init(&bench->strings);
    for (size_t i = 0; i < records.count; i++) {
        struct event event;
        size_t length = bench_record_length(&records, i);
        if (event_parser_parse(parser, records.data + records.starts[i], length, length, &event,
                               &error) != STATUS_OK)
            bench_fail("measures: record %zu: %s", i, error.text);
        bench->times_us[i] = event.time_us;
        for (size_t f = 0; f < width; f++) {
            struct value *value = &bench->fields[i * width + f];
            *value = event.fields[f];
            if (value->type == VALUE_STRING && !value->is_null)
                value->string.data =
                    arena_copy(&bench->strings, value->string.data, value->string.length);
        }
    }
    event_parser_destroy(parser);
    bench_records_free(&records);
}

/* Of the measure's columns, each with its length of four bytes. */
static double row_bytes(const struct view *view, const struct groups *groups)
{
    struct pgbinary_field fields[2 + MEASURE_COLUMN_MAX];
    struct pgbinary_writer writer;
    struct error error;
    struct group *group;
    size_t columns = view_row_columns(view);
    double bytes = 0;
    pgbinary_writer_init(&writer);
    for (struct groups_cursor cursor = {0}; (group = groups_next(groups, &cursor)) != NULL;) {
        pgbinary_writer_clear(&writer);
        pgbinary_put_row(&writer, (int16_t)columns);
        if (group_encode_row(view, group, &writer, &error) != STATUS_OK ||
            pgbinary_split_row((const uint8_t *)writer.data, writer.length, fields, columns,
                               &error) != STATUS_OK)
            bench_fail("measures: %s", error.text);
        for (size_t i = 2; i < columns; i++)
            bytes += 4 + (double)fields[i].length;
    }
    pgbinary_writer_deinit(&writer);
    return bytes / (double)groups_count(groups);
}

static double fold(struct bench *bench, size_t measure)
{
    const struct view *view = bench->views[measure];
    struct groups *groups;
    struct error error;
    size_t width = bench->source->field_count;
    if (groups_create(view, &groups, &error) != STATUS_OK)
        bench_fail("measures: %s", error.text);
    size_t empty_bytes = groups_memory_bytes(groups);
    double start = bench_cpu_seconds();
    for (size_t i = 0; i < bench->count; i++) {
        const struct event event = {.fields = &bench->fields[i * width],
                                    .time_us = bench->times_us[i]};
        const struct measure_origin origin = {.time_us = event.time_us, .offset = (int64_t)i};
        enum fold_outcome outcome;
        if (groups_fold(groups, &event, &origin, &outcome, &error) != STATUS_OK)
            bench_fail("measures: record %zu: %s", i, error.text);
    }
    double seconds = bench_cpu_seconds() - start;
    bench->memory_bytes[measure] =
        (double)(groups_memory_bytes(groups) - empty_bytes) / (double)groups_count(groups);
    bench->row_bytes[measure] = row_bytes(view, groups);
    groups_destroy(groups);
    return seconds;
}

static void show(struct bench *bench, size_t rounds)
{
    for (size_t m = 0; m < MEASURES; m++) {
        double ratios[ROUNDS_MAX], rates[ROUNDS_MAX];
        for (size_t r = 0; r < rounds; r++) {
            ratios[r] = bench->seconds[0][r] / bench->seconds[m][r];
            rates[r] = (double)bench->count / bench->seconds[m][r];
        }
        printf("%s\t%.0f\t%.2f\t%.2f\t%.2f\t%zu\t%.0f\t%.0f\n", measures[m],
               bench_quantile(rates, rounds, 0.5), bench_quantile(ratios, rounds, 0.5),
               bench_quantile(ratios, rounds, 0), bench_quantile(ratios, rounds, 1),
               bench->views[m]->state_bytes, bench->memory_bytes[m] - bench->memory_bytes[0],
               bench->row_bytes[m]);
    }
}

int main(int argc, char **argv)
{
    static struct bench bench;
    if (argc < 4 || argc > 5)
        bench_fail("usage: measures SCHEMAS SOURCE FILE [ROUNDS]");
    size_t rounds = (size_t)(argc == 5 ? bench_number(argv[4], "ROUNDS", 1, ROUNDS_MAX) : 5);
    load(&bench, argv[1], argv[2]);
    parse(&bench, argv[3]);
    for (size_t r = 0; r < rounds; r++)
        for (size_t m = 0; m < MEASURES; m++)
            bench.seconds[m][r] = fold(&bench, m);
    show(&bench, rounds);
    for (size_t m = 0; m < MEASURES; m++)
        view_destroy(bench.views[m]);
    arena_deinit(&bench.strings);
    free(bench.fields);
    free(bench.times_us);
    definitions_deinit(&bench.definitions);
    return 0;
}
