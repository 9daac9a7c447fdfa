/* Recompute without servers: the same archive gives the same states on any number of threads and
 * with any bound of memory, equal to folding the records below C one after the other.
 * ThreadSanitizer runs this too. */
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

enum { PARTITIONS = 3, SEGMENTS = 4, SEGMENT_RECORDS = 500, VERSIONS = 3 };
enum { SEGMENT_COUNT = PARTITIONS * SEGMENTS };

static char directory[] = "/tmp/dovetail-recompute-XXXXXX";
static struct error error;
static struct archive_segment segments[SEGMENT_COUNT];
static struct catalog catalog;
static struct catalog_version versions[VERSIONS];
static struct groups *expected[VERSIONS];
static struct cut cuts[PARTITIONS];
static struct event_parser *parsers[VERSIONS];
static int64_t below_c; /* records */
static int64_t counted; /* over all versions */
static int64_t rejected;

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        if ((call) != STATUS_OK)                                                                   \
            fail_msg("%s: %s", #call, error.text);                                                 \
    } while (0)

/* --- the catalogue: two versions of one definition of the source, one of another --- */

static void make_version(size_t index, const char *k_type, const char *measure)
{
    json_t *source = json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s, s:s, s:s}}", "source", "events",
                               "topic", "topic", "event_time", "field", "at", "format", "epoch_s",
                               "fields", "at", "timestamp", "k", k_type, "n", "integer");
    json_t *view = json_pack("{s:s, s:s, s:[s], s:{s:s, s:s}, s:{s:s, s:s}}", "view", "v", "source",
                             "events", "group_by", "k", "window", "type", "tumbling", "size", "1h",
                             "measures", "c", "count(*)", "m", measure);
    versions[index].version = (int)index + 1;
    assert_ok(source_create(source, "test", &versions[index].source, &error));
    assert_ok(view_create(view, "test", versions[index].source, &versions[index].view, &error));
    assert_ok(groups_create(versions[index].view, &expected[index], &error));
    assert_ok(event_parser_create(versions[index].source, &parsers[index], &error));
    json_decref(source);
    json_decref(view);
}

/* --- the archive, and what it should give --- */

static void fold_expected(const char *value, size_t length, const struct measure_origin *place)
{
    for (size_t v = 0; v < VERSIONS; v++) {
        struct event event;
        enum fold_outcome outcome;
        if (event_parser_parse(parsers[v], value, length, length, &event, &error) != STATUS_OK)
            continue;
        struct measure_origin origin = *place;
        origin.time_us = event.time_us;
        enum status status = groups_fold(expected[v], &event, &origin, &outcome, &error);
        counted += status == STATUS_OK;
        rejected += status == STATUS_REJECT;
    }
}

static void write_segment(int32_t partition, int64_t start, struct archive_segment *segment)
{
    struct archive_writer *writer;
    assert_ok(archive_writer_create(directory, "topic", partition, start, &writer, &error));
    for (int64_t offset = start; offset < start + SEGMENT_RECORDS; offset++) {
        char value[120] = "no event";
        if (random() % 20 != 0) /* a string or a number as key: half of them fit each definition */
            snprintf(value, sizeof value, "{\"at\":%ld,%s\"k\":%s%ld%s,\"n\":%ld}",
                     978307200 + random() % 36000, random() % 9 == 0 ? "\n" : "",
                     offset % 2 == 0 ? "\"" : "", random() % 50, offset % 2 == 0 ? "\"" : "",
                     random() % 1000 - 500);
        size_t length = strlen(value);
        struct archive_record record = {.offset = offset,
                                        .timestamp_ms = 978307200000,
                                        .value = value,
                                        .length = length,
                                        .readable = length};
        assert_ok(archive_writer_add(writer, &record, &error));
        struct measure_origin origin = {.partition = partition, .offset = offset};
        if (offset < cuts[partition].offset) {
            fold_expected(value, length, &origin);
            below_c++;
        }
    }
    assert_ok(archive_writer_finish(writer, start + SEGMENT_RECORDS, segment, &error));
    archive_writer_destroy(writer);
}

static int setup(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(directory));
    make_version(0, "string", "sum(n)");
    make_version(1, "string", "sum(1000 / n)"); /* rejects n = 0 */
    make_version(2, "integer", "min(n)");
    catalog = (struct catalog){.versions = versions, .version_count = VERSIONS};
    for (int32_t p = 0; p < PARTITIONS; p++)
        cuts[p] = (struct cut){.topic = "topic",
                               .partition = p,
                               .offset = SEGMENTS * SEGMENT_RECORDS - 700 * p - 1,
                               .chosen = true};
    for (size_t i = 0; i < SEGMENT_COUNT; i++)
        write_segment((int32_t)(i % PARTITIONS), (int64_t)(i / PARTITIONS) * SEGMENT_RECORDS,
                      &segments[i]);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < SEGMENT_COUNT; i++)
        archive_segment_deinit(&segments[i]);
    for (size_t v = 0; v < VERSIONS; v++) {
        event_parser_destroy(parsers[v]);
        groups_destroy(expected[v]);
        view_destroy(versions[v].view);
        source_destroy(versions[v].source);
    }
    char command[80];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command);
}

/* Of all parts together, every group once, in order, and none else. */
static void check_rows(const struct recompute *recompute, size_t index, struct groups *wanted)
{
    struct pgbinary_writer encoded;
    struct row_stream *rows;
    struct row row;
    bool end;
    size_t count = 0;
    int64_t window_start_us = INT64_MIN;
    unsigned char key[ROW_KEY_MAX];
    size_t key_length = 0;
    pgbinary_writer_init(&encoded);
    assert_ok(recompute_rows(recompute, index, RECOMPUTE_PARTS, &rows, &error));
    for (;;) {
        assert_ok(row_stream_next(rows, &row, &end, &error));
        if (end)
            break;
        struct row last = {
            .window_start_us = window_start_us, .key = key, .key_length = key_length};
        assert_true(row_compare(&last, &row) < 0);
        window_start_us = row.window_start_us;
        memcpy(key, row.key, row.key_length);
        key_length = row.key_length;
        const struct group *same =
            groups_find(wanted, row.window_start_us, row.key, row.key_length);
        assert_non_null(same);
        pgbinary_writer_clear(&encoded);
        assert_ok(group_encode_row(versions[index].view, same, &encoded, &error));
        assert_int_equal(row.length, encoded.length);
        assert_memory_equal(row.fields, encoded.data, encoded.length);
        count++;
    }
    assert_int_equal(count, groups_count(wanted));
    assert_true(count > 100);
    assert_false(recompute_is_empty(recompute, index));
    row_stream_destroy(rows);
    pgbinary_writer_deinit(&encoded);
}

/* Twice: a stream leaves its sources as they were. */
static void check_version(const struct recompute *recompute, size_t index)
{
    check_rows(recompute, index, expected[index]);
    check_rows(recompute, index, expected[index]);
}

static int64_t spill_files(void)
{
    char path[100];
    char line[20] = "";
    snprintf(path, sizeof path, "ls %s/spill 2>/dev/null | wc -l", directory);
    FILE *in = popen(path, "r");
    assert_non_null(in);
    assert_non_null(fgets(line, sizeof line, in));
    pclose(in);
    return atoll(line);
}

static struct spill *make_spill(int64_t memory_bytes)
{
    struct spill *spill;
    char path[100];
    snprintf(path, sizeof path, "%s/spill", directory);
    assert_ok(spill_create(path, memory_bytes, &spill, &error));
    return spill;
}

static const int64_t memories[] = {1 << 30, 200 << 10, 40 << 10, 0};
enum { MEMORIES = sizeof memories / sizeof memories[0] };

static void test_any_number_of_threads(void **state)
{
    (void)state;
    static const int threads[] = {1, 2, 3, 5, 12, 40};
    struct segments list = {.items = segments, .count = SEGMENT_COUNT};
    for (size_t i = 0; i < sizeof threads / sizeof threads[0] * MEMORIES; i++) {
        int64_t memory_bytes = memories[i % MEMORIES];
        struct config config = {.batch_archive = directory, .batch_threads = threads[i / MEMORIES]};
        struct spill *spill = make_spill(memory_bytes);
        struct recompute *recompute;
        assert_ok(recompute_run(&config, &catalog, &list, cuts, PARTITIONS, NULL, spill, &recompute,
                                &error));
        assert_int_equal(recompute->counts.read, below_c);
        assert_int_equal(recompute->counts.counted, counted);
        assert_int_equal(recompute->counts.rejected, rejected);
        for (size_t v = 0; v < VERSIONS; v++)
            check_version(recompute, v);
        assert_int_equal(spill_files(), 0);
        assert_true((spill_counts(spill).runs > 0) == (memory_bytes < 1 << 30));
        recompute_destroy(recompute);
        spill_destroy(spill);
    }
    for (size_t p = 0; p < PARTITIONS; p++)
        assert_true(cuts[p].has_watermark);
}

/* A third of the way, in the middle of segments. */
static void set_base(struct cut *base)
{
    memcpy(base, cuts, sizeof cuts);
    for (size_t p = 0; p < PARTITIONS; p++)
        base[p].reused_offset = base[p].offset / 3;
}

static size_t part_count(const struct recompute *recompute, size_t index, enum recompute_part part)
{
    struct row_stream *rows;
    struct row row;
    bool end = false;
    size_t count = 0;
    assert_ok(recompute_rows(recompute, index, part, &rows, &error));
    for (;; count++) {
        assert_ok(row_stream_next(rows, &row, &end, &error));
        if (end)
            break;
    }
    row_stream_destroy(rows);
    return count;
}

/* What is compared in parts is the same in the end, whatever the parts are. */
static void test_parts(void **state)
{
    (void)state;
    struct segments list = {.items = segments, .count = SEGMENT_COUNT};
    struct cut base[PARTITIONS];
    struct reuse_version kinds[VERSIONS] = {
        {.kind = REUSE_COMPARE}, {.kind = REUSE_NOTHING}, {.kind = REUSE_COMPARE}};
    bool covered[VERSIONS * PARTITIONS] = {true, false, true, true, true, true};
    bool recount[PARTITIONS] = {false};
    struct reuse reuse = {.base = 1,
                          .versions = kinds,
                          .version_count = VERSIONS,
                          .cut_count = PARTITIONS,
                          .covered = covered,
                          .recount = recount};
    for (size_t i = 0; i < 2 * MEMORIES; i++) {
        struct config config = {.batch_archive = directory, .batch_threads = i % 2 == 0 ? 1 : 4};
        struct spill *spill = make_spill(memories[i / 2]);
        struct recompute *recompute;
        set_base(base);
        assert_ok(recompute_run(&config, &catalog, &list, base, PARTITIONS, &reuse, spill,
                                &recompute, &error));
        assert_int_equal(recompute->counts.read, below_c);
        assert_true(part_count(recompute, 0, RECOMPUTE_OLD) > 0);
        assert_true(part_count(recompute, 0, RECOMPUTE_SPEED) > 0);
        assert_true(part_count(recompute, 0, RECOMPUTE_REST) > 0);
        assert_int_equal(part_count(recompute, 1, RECOMPUTE_OLD), 0);
        assert_int_equal(part_count(recompute, 2, RECOMPUTE_SPEED), 0);
        for (size_t v = 0; v < VERSIONS; v++)
            check_version(recompute, v);
        recompute_destroy(recompute);
        spill_destroy(spill);
    }
}

static void merge_rows(const struct recompute *recompute, size_t index, struct groups *into)
{
    struct pgbinary_field fields[16];
    struct row_stream *rows;
    struct row row;
    bool end;
    assert_true(view_row_columns(versions[index].view) <= 16);
    assert_ok(recompute_rows(recompute, index, RECOMPUTE_PARTS, &rows, &error));
    for (;;) {
        assert_ok(row_stream_next(rows, &row, &end, &error));
        if (end)
            break;
        assert_ok(pgbinary_split_fields(row.fields, row.length, fields,
                                        view_row_columns(versions[index].view), &error));
        assert_ok(groups_merge_row(into, fields, NULL, &error));
    }
    row_stream_destroy(rows);
}

/* What was folded below C_B and what is folded from there on is everything, each record once. */
static void test_only_what_is_new(void **state)
{
    (void)state;
    struct segments list = {.items = segments, .count = SEGMENT_COUNT};
    struct config config = {.batch_archive = directory, .batch_threads = 3};
    struct spill *spill = make_spill(100 << 10);
    struct cut base[PARTITIONS];
    struct reuse_version kinds[VERSIONS] = {
        {.kind = REUSE_ROWS}, {.kind = REUSE_ROWS}, {.kind = REUSE_ROWS}};
    bool covered[VERSIONS * PARTITIONS] = {false};
    bool recount[PARTITIONS] = {false};
    struct reuse reuse = {.base = 1,
                          .versions = kinds,
                          .version_count = VERSIONS,
                          .cut_count = PARTITIONS,
                          .covered = covered,
                          .recount = recount};
    struct recompute *delta;
    struct recompute *whole;
    set_base(base);
    int64_t reused = 0;
    for (size_t p = 0; p < PARTITIONS; p++)
        reused += base[p].reused_offset;
    assert_ok(
        recompute_run(&config, &catalog, &list, base, PARTITIONS, &reuse, spill, &delta, &error));
    assert_int_equal(delta->counts.read, below_c - reused);
    for (size_t p = 0; p < PARTITIONS; p++)
        base[p].offset = base[p].reused_offset;
    assert_ok(
        recompute_run(&config, &catalog, &list, base, PARTITIONS, NULL, spill, &whole, &error));
    assert_int_equal(whole->counts.read, reused);
    for (size_t v = 0; v < VERSIONS; v++) {
        struct groups *groups;
        assert_ok(groups_create(versions[v].view, &groups, &error));
        merge_rows(delta, v, groups);
        merge_rows(whole, v, groups);
        struct pgbinary_writer got;
        struct pgbinary_writer wanted;
        pgbinary_writer_init(&got);
        pgbinary_writer_init(&wanted);
        assert_int_equal(groups_count(groups), groups_count(expected[v]));
        struct group *group;
        for (struct groups_cursor cursor = {0}; (group = groups_next(groups, &cursor)) != NULL;) {
            const struct group *same =
                groups_find(expected[v], group->window_start_us, group->key, group->key_length);
            assert_non_null(same);
            pgbinary_writer_clear(&got);
            pgbinary_writer_clear(&wanted);
            assert_ok(group_encode_row(versions[v].view, group, &got, &error));
            assert_ok(group_encode_row(versions[v].view, same, &wanted, &error));
            assert_int_equal(got.length, wanted.length);
            assert_memory_equal(got.data, wanted.data, got.length);
        }
        pgbinary_writer_deinit(&got);
        pgbinary_writer_deinit(&wanted);
        groups_destroy(groups);
    }
    recompute_destroy(delta);
    recompute_destroy(whole);
    spill_destroy(spill);
}

/* The segments that somebody else would have folded have another fingerprint. */
static void test_fingerprints(void **state)
{
    (void)state;
    struct segments list = {.items = segments, .count = SEGMENT_COUNT};
    struct gap gap = {.partition = 1, .from_offset = 900, .to_offset = 910};
    char first[SEGMENTS_FINGERPRINT_BYTES];
    char other[SEGMENTS_FINGERPRINT_BYTES];
    assert_ok(segments_fingerprint(&list, NULL, 0, &cuts[1], 800, first, &error));
    assert_ok(segments_fingerprint(&list, &gap, 1, &cuts[1], 800, other, &error));
    assert_string_equal(first, other); /* the gap is above */
    assert_ok(segments_fingerprint(&list, NULL, 0, &cuts[1], 801, other, &error));
    assert_string_not_equal(first, other);
    assert_ok(segments_fingerprint(&list, NULL, 0, &cuts[0], 800, other, &error));
    assert_string_not_equal(first, other);
    gap.from_offset = 700;
    assert_ok(segments_fingerprint(&list, &gap, 1, &cuts[1], 800, other, &error));
    assert_string_not_equal(first, other);
    struct archive_segment *straddled = &segments[PARTITIONS + 1]; /* [500, 1000) */
    assert_int_equal(straddled->start_offset, SEGMENT_RECORDS);
    straddled->checksum[3] ^= 1;
    assert_ok(segments_fingerprint(&list, NULL, 0, &cuts[1], 800, other, &error));
    assert_string_not_equal(first, other);
    assert_ok(segments_fingerprint(&list, NULL, 0, &cuts[1], SEGMENT_RECORDS, first, &error));
    straddled->checksum[3] ^= 1;
    assert_ok(segments_fingerprint(&list, NULL, 0, &cuts[1], SEGMENT_RECORDS, other, &error));
    assert_string_equal(first, other); /* that segment is above */
}

static void test_failures(void **state)
{
    (void)state;
    struct config config = {.batch_archive = directory, .batch_threads = 4};
    struct segments list = {.items = segments, .count = SEGMENT_COUNT};
    struct spill *spill = make_spill(40 << 10);
    struct recompute *recompute;
    segments[5].checksum[0] = segments[5].checksum[0] == '0' ? '1' : '0';
    assert_int_equal(
        recompute_run(&config, &catalog, &list, cuts, PARTITIONS, NULL, spill, &recompute, &error),
        STATUS_FATAL);
    assert_non_null(strstr(error.text, segments[5].file));
    assert_null(recompute);
    spill_destroy(spill);
    segments[5].checksum[0] = segments[5].checksum[0] == '0' ? '1' : '0';
}

/* A directory that cannot be made: the error names it. */
static void test_no_directory(void **state)
{
    (void)state;
    struct config config = {.batch_archive = directory, .batch_threads = 4};
    struct segments list = {.items = segments, .count = SEGMENT_COUNT};
    struct recompute *recompute;
    struct spill *spill;
    char path[100];
    snprintf(path, sizeof path, "%s/missing/spill", directory);
    assert_ok(spill_create(path, 40 << 10, &spill, &error));
    assert_int_equal(
        recompute_run(&config, &catalog, &list, cuts, PARTITIONS, NULL, spill, &recompute, &error),
        STATUS_FATAL);
    assert_non_null(strstr(error.text, path));
    assert_non_null(strstr(error.text, "batch.spill"));
    spill_destroy(spill);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_number_of_threads),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_only_what_is_new),
        cmocka_unit_test(test_fingerprints),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_no_directory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
