/* What folding costs: one thread, records in memory, no Kafka and no PostgreSQL.
 *
 *     fold SCHEMAS SOURCE FILE [PASSES]
 *
 * Reads JSON lines of the source ("-": standard input), then measures the parser alone, parser and
 * each view alone, and parser and all views together, as the speed layer does it; and encoding
 * every group as a row. The best of the passes counts, because other processes can only make one
 * slower. One line each on stdout: name, nanoseconds per record (per row for encode:), nanoseconds
 * without the parser's, groups, result's checksum.
 *
 * Precondition, checked: all passes of a view give the same rows, whichever pass it is in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "bench/support.h"
#include "core/definitions/definition.h"
#include "core/groups.h"

enum { PASSES_MAX = 100 };

struct bench {
    struct definitions definitions;
    const struct source *source;
    const struct view **views; /* of the source */
    size_t view_count;
    struct groups **groups; /* one for each view */
    uint64_t *checksums;    /* of each view's rows; 0 = not known yet */
    struct event_parser *parser;
    struct bench_records records;
    size_t passes;
    double encode_ns[PASSES_MAX];
};

static void on_fault(const char *text, void *context)
{
    (void)context;
    fprintf(stderr, "%s\n", text);
}

static void load(struct bench *bench, const char *schemas, const char *source)
{
    struct error error;
    struct definitions *definitions = &bench->definitions;
    if (definitions_load(schemas, definitions, on_fault, NULL, &error) != STATUS_OK)
        bench_fail("fold: %s", error.text);
    for (size_t i = 0; i < definitions->source_count; i++)
        if (strcmp(definitions->sources[i]->name, source) == 0)
            bench->source = definitions->sources[i];
    if (bench->source == NULL)
        bench_fail("fold: there is no source %s in %s", source, schemas);
    bench->views = calloc(definitions->view_count + 1, sizeof *bench->views);
    bench->groups = calloc(definitions->view_count + 1, sizeof *bench->groups);
    bench->checksums = calloc(definitions->view_count + 1, sizeof *bench->checksums);
    if (bench->views == NULL || bench->groups == NULL || bench->checksums == NULL)
        bench_fail("out of memory");
    for (size_t i = 0; i < definitions->view_count; i++)
        if (definitions->views[i]->source == bench->source)
            bench->views[bench->view_count++] = definitions->views[i];
    if (event_parser_create(bench->source, &bench->parser, &error) != STATUS_OK)
        bench_fail("fold: %s", error.text);
}

/* Parses every record and folds it into views [first, end). Nanoseconds per record. */
static double run_pass(struct bench *bench, size_t first, size_t end)
{
    const struct bench_records *records = &bench->records;
    struct error error;
    for (size_t v = first; v < end; v++)
        if (groups_create(bench->views[v], &bench->groups[v], &error) != STATUS_OK)
            bench_fail("fold: %s", error.text);
    double start = bench_seconds();
    for (size_t i = 0; i < records->count; i++) {
        struct event event;
        enum fold_outcome outcome;
        /* Readable only as far as the record goes, as in a message of Kafka's. */
        size_t length = bench_record_length(records, i);
        if (event_parser_parse(bench->parser, records->data + records->starts[i], length, length,
                               &event, &error) != STATUS_OK)
            bench_fail("fold: record %zu: %s", i, error.text);
        const struct measure_origin origin = {.time_us = event.time_us, .offset = (int64_t)i};
        for (size_t v = first; v < end; v++)
            if (groups_fold(bench->groups[v], &event, &origin, &outcome, &error) != STATUS_OK)
                bench_fail("fold: record %zu: %s", i, error.text);
    }
    return (bench_seconds() - start) / (double)records->count * 1e9;
}

/* Encodes every group of a view; the sum of the rows' hashes does not depend on their order. */
static double encode_view(struct bench *bench, size_t v, uint64_t *checksum)
{
    struct pgbinary_writer writer;
    struct error error;
    struct group *group;
    pgbinary_writer_init(&writer);
    *checksum = 0;
    double spent = 0;
    for (struct groups_cursor cursor = {0};
         (group = groups_next(bench->groups[v], &cursor)) != NULL;) {
        pgbinary_writer_clear(&writer);
        double start = bench_seconds();
        if (group_encode_row(bench->views[v], group, &writer, &error) != STATUS_OK)
            bench_fail("fold: %s", error.text);
        spent += bench_seconds() - start;
        *checksum += XXH3_64bits(writer.data, writer.length);
    }
    pgbinary_writer_deinit(&writer);
    return spent / (double)(groups_count(bench->groups[v]) + 1) * 1e9;
}

static void check_and_free(struct bench *bench, size_t first, size_t end, size_t pass)
{
    for (size_t v = first; v < end; v++) {
        uint64_t checksum;
        bench->encode_ns[pass] = encode_view(bench, v, &checksum);
        if (bench->checksums[v] != 0 && bench->checksums[v] != checksum)
            bench_fail("fold: two passes of view %s gave different rows", bench->views[v]->name);
        bench->checksums[v] = checksum;
        groups_destroy(bench->groups[v]);
        bench->groups[v] = NULL;
    }
}

/* The best pass over views [first, end); *group_count is of the last view. */
static double measure(struct bench *bench, size_t first, size_t end, size_t *group_count)
{
    double ns[PASSES_MAX];
    for (size_t pass = 0; pass < bench->passes; pass++) {
        ns[pass] = run_pass(bench, first, end);
        *group_count = end > first ? groups_count(bench->groups[end - 1]) : 0;
        check_and_free(bench, first, end, pass);
    }
    return bench_quantile(ns, bench->passes, 0);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    if (argc < 4 || argc > 5)
        bench_fail("usage: fold SCHEMAS SOURCE FILE [PASSES]");
    bench.passes = (size_t)(argc == 5 ? bench_number(argv[4], "PASSES", 1, PASSES_MAX) : 5);
    load(&bench, argv[1], argv[2]);
    bench_records_read(argv[3], &bench.records);
    size_t group_count;
    double parse = measure(&bench, 0, 0, &group_count);
    printf("parse %.1f 0 0 0\n", parse);
    for (size_t v = 0; v < bench.view_count; v++) {
        double both = measure(&bench, v, v + 1, &group_count);
        printf("fold:%s %.1f %.1f %zu %016llx\n", bench.views[v]->name, both, both - parse,
               group_count, (unsigned long long)bench.checksums[v]);
        printf("encode:%s %.1f 0 %zu 0\n", bench.views[v]->name,
               bench_quantile(bench.encode_ns, bench.passes, 0), group_count);
    }
    double all = measure(&bench, 0, bench.view_count, &group_count);
    printf("fold:all %.1f %.1f 0 0\n", all, all - parse);
    bench_records_free(&bench.records);
    event_parser_destroy(bench.parser);
    definitions_deinit(&bench.definitions);
    free(bench.views);
    free(bench.groups);
    free(bench.checksums);
    return 0;
}
