/* What a full recompute costs without servers: segments of the archive into the groups of one view.
 *
 *     recompute archive DIRECTORY TOPIC PARTITIONS SEGMENT_BYTES FILE
 *     recompute fold DIRECTORY SCHEMAS VIEW THREADS [ROWS]
 *
 * `archive` writes JSON lines, in turn to each partition, as the segments that the archiver would
 * write, and DIRECTORY/manifest for `fold`. That folds them with recompute_run, the very function
 * of a batch run, and prints one line: seconds (from the first byte read until all groups are in
 * their tables and sorted, ready to be compared and stored), CPU seconds, records, groups. ROWS is
 * a file for the result as CSV, in no order: window, keys, measures. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch_layer/recompute.h"
#include "bench/support.h"
#include "core/time/timestamp.h"

enum {
    PARTITIONS_MAX = 1000,
    SEGMENTS_MAX = 100000,
    PATH_BYTES = 4096,
    MEMORY_BYTES = 1 << 30, /* batch.memory's default */
};

static FILE *open_manifest(const char *directory, const char *mode)
{
    char path[PATH_BYTES];
    int length = snprintf(path, sizeof path, "%s/manifest", directory);
    if (length < 0 || (size_t)length >= sizeof path)
        bench_fail("recompute: %s is too long a path", directory);
    FILE *file = fopen(path, mode);
    if (file == NULL)
        bench_fail("recompute: %s cannot be opened", path);
    return file;
}

/* --- archive --- */

struct writing {
    const char *directory;
    const char *topic;
    FILE *manifest;
    struct archive_writer **writers; /* one for each partition; NULL: none is open */
    int64_t *offsets;                /* next ones */
};

static void finish_segment(struct writing *writing, size_t partition)
{
    struct archive_segment segment;
    struct error error;
    if (writing->writers[partition] == NULL)
        return;
    if (archive_writer_finish(writing->writers[partition], writing->offsets[partition], &segment,
                              &error) != STATUS_OK)
        bench_fail("recompute: %s", error.text);
    fprintf(writing->manifest,
            "%s %" PRId32 " %" PRId64 " %" PRId64 " %s %" PRId64 " %" PRId64 " %" PRId64 " %s\n",
            segment.topic, segment.partition, segment.start_offset, segment.end_offset,
            segment.file, segment.record_count, segment.file_bytes, segment.raw_bytes,
            segment.checksum);
    archive_segment_deinit(&segment);
    archive_writer_destroy(writing->writers[partition]);
    writing->writers[partition] = NULL;
}

static void add_record(struct writing *writing, size_t partition, const char *value, size_t length,
                       int64_t segment_bytes)
{
    struct error error;
    struct archive_writer **writer = &writing->writers[partition];
    enum status status = STATUS_OK;
    if (*writer == NULL)
        status = archive_writer_create(writing->directory, writing->topic, (int32_t)partition,
                                       writing->offsets[partition], writer, &error);
    const struct archive_record record = {.offset = writing->offsets[partition]++,
                                          .timestamp_ms = 978307200000,
                                          .value = value,
                                          .length = length,
                                          .readable = length};
    if (status == STATUS_OK)
        status = archive_writer_add(*writer, &record, &error);
    if (status != STATUS_OK)
        bench_fail("recompute: %s", error.text);
    if (archive_writer_raw_bytes(*writer) >= segment_bytes)
        finish_segment(writing, partition);
}

static void write_archive(char **argv)
{
    size_t partitions = (size_t)bench_number(argv[4], "PARTITIONS", 1, PARTITIONS_MAX);
    int64_t segment_bytes = bench_number(argv[5], "SEGMENT_BYTES", 1, 1L << 40);
    struct writing writing = {.directory = argv[2],
                              .topic = argv[3],
                              .manifest = open_manifest(argv[2], "w"),
                              .writers = calloc(partitions, sizeof *writing.writers),
                              .offsets = calloc(partitions, sizeof *writing.offsets)};
    struct bench_records records;
    if (writing.writers == NULL || writing.offsets == NULL)
        bench_fail("out of memory");
    bench_records_read(argv[6], &records);
    for (size_t i = 0; i < records.count; i++)
        add_record(&writing, i % partitions, records.data + records.starts[i],
                   bench_record_length(&records, i), segment_bytes);
    for (size_t p = 0; p < partitions; p++)
        finish_segment(&writing, p);
    if (fclose(writing.manifest) != 0)
        bench_fail("recompute: the manifest cannot be written");
    bench_records_free(&records);
    free(writing.writers);
    free(writing.offsets);
}

/* --- fold --- */

struct folding {
    struct definitions definitions;
    struct catalog_version version;
    struct catalog catalog;
    struct archive_segment items[SEGMENTS_MAX];
    struct segments segments;
    struct cut cuts[PARTITIONS_MAX];
    size_t cut_count;
};

static void on_fault(const char *text, void *context)
{
    (void)context;
    fprintf(stderr, "%s\n", text);
}

static void load_view(struct folding *folding, const char *schemas, const char *name)
{
    struct error error;
    struct definitions *definitions = &folding->definitions;
    if (definitions_load(schemas, definitions, on_fault, NULL, &error) != STATUS_OK)
        bench_fail("recompute: %s", error.text);
    for (size_t i = 0; i < definitions->view_count; i++)
        if (strcmp(definitions->views[i]->name, name) == 0)
            folding->version.view = definitions->views[i];
    if (folding->version.view == NULL)
        bench_fail("recompute: there is no view %s in %s", name, schemas);
    for (size_t i = 0; i < definitions->source_count; i++)
        if (definitions->sources[i] == folding->version.view->source)
            folding->version.source = definitions->sources[i];
    folding->catalog = (struct catalog){.versions = &folding->version, .version_count = 1};
}

static void add_cut(struct folding *folding, const struct archive_segment *segment)
{
    struct cut *cut =
        cut_find(folding->cuts, folding->cut_count, segment->topic, segment->partition);
    if (cut == NULL) {
        if (folding->cut_count == PARTITIONS_MAX)
            bench_fail("recompute: too many partitions");
        cut = &folding->cuts[folding->cut_count++];
        *cut =
            (struct cut){.topic = segment->topic, .partition = segment->partition, .chosen = true};
    }
    if (segment->end_offset > cut->offset)
        cut->offset = segment->end_offset;
}

static void read_manifest(struct folding *folding, const char *directory)
{
    FILE *manifest = open_manifest(directory, "r");
    struct archive_segment segment = {0};
    folding->segments.items = folding->items;
    while (fscanf(manifest,
                  "%ms %" SCNd32 " %" SCNd64 " %" SCNd64 " %ms %" SCNd64 " %" SCNd64 " %" SCNd64
                  " %32s",
                  &segment.topic, &segment.partition, &segment.start_offset, &segment.end_offset,
                  &segment.file, &segment.record_count, &segment.file_bytes, &segment.raw_bytes,
                  segment.checksum) == 9) {
        if (folding->segments.count == SEGMENTS_MAX)
            bench_fail("recompute: too many segments");
        folding->items[folding->segments.count++] = segment;
        add_cut(folding, &segment);
        segment = (struct archive_segment){0};
    }
    if (!feof(manifest) || folding->segments.count == 0)
        bench_fail("recompute: the manifest in %s cannot be read", directory);
    fclose(manifest);
}

static void put_text(FILE *out, char before, const char *text, size_t length)
{
    putc(before, out);
    fwrite(text, 1, length, out);
}

static void put_row(FILE *out, const struct view *view, const struct group *group,
                    struct arena *arena)
{
    struct value keys[VIEW_KEY_MAX + VIEW_LOOKED_UP_MAX];
    struct error error;
    size_t length;
    arena_reset(arena);
    struct value value = value_timestamp(group->window_start_us);
    const char *text = value_text(&value, arena, &length);
    fwrite(text, 1, length, out);
    group_keys(view, group, keys);
    for (size_t i = 0; i < view->key_count; i++) {
        text = keys[i].is_null ? "" : value_text(&keys[i], arena, &length);
        put_text(out, ',', text, keys[i].is_null ? 0 : length);
    }
    for (size_t i = 0; i < view->measure_count; i++) {
        const struct measure *measure = view->measures[i].measure;
        const char *wide;
        if (measure->kind->finish(measure, group_state(group) + view->state_offsets[i], arena,
                                  &value, &wide, &error) != STATUS_OK)
            bench_fail("recompute: %s", error.text);
        if (wide != NULL)
            text = wide, length = strlen(wide);
        else if (!value.is_null)
            text = value_text(&value, arena, &length);
        put_text(out, ',', text, wide == NULL && value.is_null ? 0 : length);
    }
    putc('\n', out);
}

/* Reads the rows as storing them does, into groups that have results. */
static struct groups *read_rows(const struct recompute *recompute, const struct view *view)
{
    struct error error;
    struct groups *groups = NULL;
    struct row_stream *stream = NULL;
    size_t columns = view_row_columns(view);
    struct pgbinary_field *fields = calloc(columns, sizeof *fields);
    if (fields == NULL)
        bench_fail("out of memory");
    enum status status = groups_create(view, &groups, &error);
    if (status == STATUS_OK)
        status = recompute_rows(recompute, 0, RECOMPUTE_PARTS, &stream, &error);
    for (;;) {
        struct row row;
        bool end = false;
        if (status == STATUS_OK)
            status = row_stream_next(stream, &row, &end, &error);
        if (status == STATUS_OK && !end)
            status = pgbinary_split_fields(row.fields, row.length, fields, columns, &error);
        if (status == STATUS_OK && !end)
            status = groups_merge_row(groups, fields, NULL, &error);
        if (status != STATUS_OK)
            bench_fail("recompute: %s", error.text);
        if (end)
            break;
    }
    row_stream_destroy(stream);
    free(fields);
    return groups;
}

static void write_rows(const struct groups *groups, const char *path)
{
    FILE *out = fopen(path, "w");
    if (out == NULL)
        bench_fail("recompute: %s cannot be written", path);
    struct arena arena;
    const struct group *group;
    arena_init(&arena);
    for (struct groups_cursor cursor = {0}; (group = groups_next(groups, &cursor)) != NULL;)
        put_row(out, groups_view(groups), group, &arena);
    arena_deinit(&arena);
    if (fclose(out) != 0)
        bench_fail("recompute: %s cannot be written", path);
}

static void fold(char **argv, const char *rows)
{
    static struct folding folding;
    struct error error;
    const struct config config = {.batch_archive = argv[2],
                                  .batch_threads = bench_number(argv[5], "THREADS", 1, 256)};
    char directory[PATH_BYTES];
    struct spill *spill;
    struct recompute *recompute;
    load_view(&folding, argv[3], argv[4]);
    read_manifest(&folding, argv[2]);
    if (snprintf(directory, sizeof directory, "%s/~spill", argv[2]) >= (int)sizeof directory)
        bench_fail("recompute: %s is too long a path", argv[2]);
    double cpu = bench_cpu_seconds();
    double start = bench_seconds();
    if (spill_create(directory, MEMORY_BYTES, &spill, &error) != STATUS_OK ||
        recompute_run(&config, &folding.catalog, &folding.segments, folding.cuts, folding.cut_count,
                      NULL, spill, &recompute, &error) != STATUS_OK)
        bench_fail("recompute: %s", error.text);
    double seconds = bench_seconds() - start;
    cpu = bench_cpu_seconds() - cpu;
    struct groups *groups = read_rows(recompute, folding.version.view);
    printf("%.6f %.3f %" PRId64 " %zu\n", seconds, cpu, recompute->counts.read,
           groups_count(groups));
    if (rows != NULL)
        write_rows(groups, rows);
    groups_destroy(groups);
    recompute_destroy(recompute);
    spill_destroy(spill);
    for (size_t i = 0; i < folding.segments.count; i++)
        archive_segment_deinit(&folding.items[i]);
    definitions_deinit(&folding.definitions);
}

int main(int argc, char **argv)
{
    if (argc == 7 && strcmp(argv[1], "archive") == 0)
        write_archive(argv);
    else if ((argc == 6 || argc == 7) && strcmp(argv[1], "fold") == 0)
        fold(argv, argc == 7 ? argv[6] : NULL);
    else
        bench_fail("usage: recompute archive DIRECTORY TOPIC PARTITIONS SEGMENT_BYTES FILE\n"
                   "       recompute fold DIRECTORY SCHEMAS VIEW THREADS [ROWS]");
    return 0;
}
