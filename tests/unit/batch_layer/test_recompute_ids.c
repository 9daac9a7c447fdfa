/* Recompute with duplicates, without servers: segments of random lengths, cut-offs anywhere, any
 * number of threads and two definitions with different reaches give the states that one pass over
 * the log gives, where a record is judged by looking back at every record before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "batch_layer/recompute.h"

enum { PARTITIONS = 2, RECORDS = 3000, SEGMENTS_MAX = 400, VERSIONS = 2, ROUNDS = 6 };

static const int reaches[VERSIONS] = {37, 700};

struct line {
    int64_t offset;
    int64_t id; /* -1: NULL, -2: no event */
    int64_t n;
    char value[80];
};

static char directory[] = "/tmp/dovetail-recompute-ids-XXXXXX";
static struct error error;
static struct line lines[PARTITIONS][RECORDS];
static struct archive_segment segments[SEGMENTS_MAX];
static size_t segment_count;
static struct catalog catalog;
static struct catalog_version versions[VERSIONS];
static struct cut cuts[PARTITIONS];
static char topic[32];

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        if ((call) != STATUS_OK)                                                                   \
            fail_msg("%s: %s", #call, error.text);                                                 \
    } while (0)

static void make_version(size_t index)
{
    json_t *source =
        json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s, s:{s:s, s:b}, s:s}, s:{s:s, s:i}}", "source",
                  "events", "topic", topic, "event_time", "field", "at", "format", "epoch_s",
                  "fields", "at", "timestamp", "id", "type", "string", "nullable", 1, "n",
                  "integer", "dedupe", "field", "id", "within", reaches[index]);
    json_t *view = json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s, s:s}}", "view", "v", "source",
                             "events", "window", "type", "tumbling", "size", "1h", "measures", "c",
                             "count(*)", "total", "sum(n)");
    versions[index].version = (int)index + 1;
    assert_ok(source_create(source, "test", &versions[index].source, &error));
    assert_ok(view_create(view, "test", versions[index].source, &versions[index].view, &error));
    json_decref(source);
    json_decref(view);
}

static void make_line(struct line *line, int64_t offset)
{
    *line = (struct line){.offset = offset, .id = random() % 300, .n = random() % 1000};
    if (random() % 30 == 0)
        line->id = -1;
    if (random() % 30 == 0)
        line->id = -2;
    char id[24] = "null";
    if (line->id >= 0)
        snprintf(id, sizeof id, "\"%ld\"", (long)line->id);
    /* Those with a line break stand elsewhere in the segment, and are judged in their place. */
    snprintf(line->value, sizeof line->value, "{\"at\":0,%s\"id\":%s,\"n\":%ld%s",
             random() % 3 == 0 ? "\n" : "", id, (long)line->n, line->id == -2 ? "" : "}");
}

static void write_partition(int32_t partition)
{
    int64_t offset = random() % 100;
    int64_t start = offset;
    struct archive_writer *writer = NULL;
    for (size_t i = 0; i < RECORDS; i++) {
        struct line *line = &lines[partition][i];
        make_line(line, offset);
        if (writer == NULL)
            assert_ok(archive_writer_create(directory, topic, partition, start, &writer, &error));
        size_t length = strlen(line->value);
        struct archive_record record = {
            .offset = offset, .value = line->value, .length = length, .readable = length};
        assert_ok(archive_writer_add(writer, &record, &error));
        offset += random() % 10 == 0 ? 1 + random() % 9 : 1;
        if (random() % 40 == 0 || i + 1 == RECORDS) {
            assert_true(segment_count < SEGMENTS_MAX);
            assert_ok(archive_writer_finish(writer, offset, &segments[segment_count++], &error));
            archive_writer_destroy(writer);
            writer = NULL;
            start = offset;
        }
    }
    cuts[partition] = (struct cut){.topic = topic,
                                   .partition = partition,
                                   .offset = offset - random() % (offset / 2),
                                   .chosen = true};
}

struct sums {
    int64_t count, total, duplicates;
};

static struct sums model(int64_t reach)
{
    struct sums sums = {0};
    for (size_t p = 0; p < PARTITIONS; p++) {
        for (size_t i = 0; i < RECORDS; i++) {
            const struct line *line = &lines[p][i];
            bool duplicate = false;
            if (line->id == -2 || line->offset >= cuts[p].offset)
                continue;
            for (size_t j = i; line->id >= 0 && j-- > 0 && !duplicate;)
                duplicate =
                    lines[p][j].id == line->id && line->offset - lines[p][j].offset <= reach;
            sums.duplicates += duplicate;
            sums.count += !duplicate;
            sums.total += duplicate ? 0 : line->n;
        }
    }
    return sums;
}

static int64_t result(const struct recompute *recompute, size_t version, size_t measure)
{
    const struct view *view = versions[version].view;
    const struct measure *m = view->measures[measure].measure;
    struct pgbinary_field fields[16];
    struct row_stream *rows;
    struct groups *groups;
    struct group *group;
    struct row row;
    bool end;
    assert_ok(groups_create(view, &groups, &error));
    assert_ok(recompute_rows(recompute, version, RECOMPUTE_PARTS, &rows, &error));
    assert_ok(row_stream_next(rows, &row, &end, &error));
    assert_false(end);
    assert_ok(
        pgbinary_split_fields(row.fields, row.length, fields, view_row_columns(view), &error));
    assert_ok(groups_merge_row(groups, fields, &group, &error));
    struct arena arena;
    struct value value;
    const char *wide;
    arena_init(&arena);
    assert_ok(m->kind->finish(m, group_state(group) + view->state_offsets[measure], &arena, &value,
                              &wide, &error));
    int64_t number =
        value.type == VALUE_INTEGER ? value.integer : (int64_t)value.decimal.coefficient;
    arena_deinit(&arena);
    groups_destroy(groups);
    row_stream_destroy(rows);
    return number;
}

static void one_round(void)
{
    segment_count = 0;
    for (int32_t p = 0; p < PARTITIONS; p++)
        write_partition(p);
    static const int threads[] = {1, 2, 3, 8};
    struct segments list = {.items = segments, .count = segment_count};
    struct sums wanted[VERSIONS] = {model(reaches[0]), model(reaches[1])};
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++) {
        struct config config = {.batch_archive = directory, .batch_threads = threads[i]};
        struct recompute *recompute;
        struct spill *spill;
        assert_ok(spill_create(directory, 1 << 20, &spill, &error));
        assert_ok(recompute_run(&config, &catalog, &list, cuts, PARTITIONS, NULL, spill, &recompute,
                                &error));
        for (size_t v = 0; v < VERSIONS; v++) {
            assert_int_equal(result(recompute, v, 0), wanted[v].count);
            assert_int_equal(result(recompute, v, 1), wanted[v].total);
        }
        assert_int_equal(recompute->counts.duplicates, wanted[0].duplicates + wanted[1].duplicates);
        assert_true(wanted[1].duplicates > wanted[0].duplicates && wanted[0].duplicates > 0);
        recompute_destroy(recompute);
        spill_destroy(spill);
    }
    for (size_t i = 0; i < segment_count; i++)
        archive_segment_deinit(&segments[i]);
}

static void test_like_one_pass(void **state)
{
    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        srandom(round + 1);
        snprintf(topic, sizeof topic, "topic-%u", round);
        for (size_t v = 0; v < VERSIONS; v++)
            make_version(v);
        catalog = (struct catalog){.versions = versions, .version_count = VERSIONS};
        memset(catalog.id_secret, (int)round, sizeof catalog.id_secret);
        one_round();
        for (size_t v = 0; v < VERSIONS; v++) {
            view_destroy(versions[v].view);
            source_destroy(versions[v].source);
        }
    }
}

static int setup(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(directory));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[80];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_like_one_pass)};
    return cmocka_run_group_tests_name("recompute with ids", tests, setup, teardown);
}
