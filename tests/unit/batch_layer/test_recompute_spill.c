/* Property: whatever a view is and however its records are split into threads, parts and runs on
 * disk, a recompute within little memory gives the rows, byte for byte, that one without a bound
 * gives. Views are random, over every kind of key, window and measure.
 *
 * DOVETAIL_SEED repeats a run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "batch_layer/recompute.h"
#include "tests/support/measure_texts.h"

enum {
    ROUNDS = 40,
    VERSIONS = 3,
    PARTITIONS = 2,
    SEGMENTS = 5,
    SEGMENT_RECORDS = 150,
    SEGMENT_COUNT = PARTITIONS * SEGMENTS,
    MEASURES_MAX = 5,
    TEXT_BYTES = 2000,
};

static char directory[] = "/tmp/dovetail-spill-XXXXXX";
static uint64_t random_state; /* splitmix64 (Steele, Lea, Flood, 2014) */
static struct error error;
static struct source *source;
static struct catalog_version versions[VERSIONS];
static struct catalog catalog;
static struct archive_segment segments[SEGMENT_COUNT];
static struct cut cuts[PARTITIONS];
static char topic[] = "t";
static char archive[80]; /* of the round */

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        if ((call) != STATUS_OK)                                                                   \
            fail_msg("%s: %s", #call, error.text);                                                 \
    } while (0)

static uint64_t next_random(void)
{
    uint64_t z = (random_state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static uint64_t below(uint64_t bound)
{
    return next_random() % bound;
}

/* --- views --- */

static json_t *random_window(void)
{
    switch (below(5)) {
    case 0:
        return json_pack("{s:s, s:s}", "type", "tumbling", "size", "1h");
    case 1:
        return json_pack("{s:s, s:s, s:s}", "type", "hopping", "size", "90m", "slide", "1h");
    case 2:
        return json_pack("{s:s, s:s}", "type", "session", "gap", "20m");
    case 3:
        return json_pack("{s:s, s:s, s:s}", "type", "tumbling", "size", "1d", "timezone",
                         "Europe/Berlin");
    default:
        return json_pack("{s:s}", "type", "none");
    }
}

static void random_version(size_t index)
{
    static const char *const keys[] = {"s", "i", "d", "b", "i % 7", "s || 'x'", "at"};
    json_t *group_by = json_array();
    json_t *measures = json_object();
    size_t key_count = below(4);
    for (size_t k = 0; k < key_count; k++) {
        char name[8];
        snprintf(name, sizeof name, "k%zu", k);
        json_array_append_new(group_by, json_pack("{s:s, s:s}", "name", name, "expr",
                                                  keys[below(sizeof keys / sizeof keys[0])]));
    }
    size_t count = 1 + below(MEASURES_MAX);
    for (size_t m = 0; m < count; m++) {
        char name[8];
        snprintf(name, sizeof name, "m%zu", m);
        json_object_set_new(
            measures, name,
            json_string(measure_texts[below(sizeof measure_texts / sizeof measure_texts[0])]));
    }
    json_t *view = json_pack("{s:s, s:s, s:o, s:o, s:o}", "view", "v", "source", "s", "group_by",
                             group_by, "measures", measures, "window", random_window());
    versions[index] = (struct catalog_version){.version = (int)index + 1, .source = source};
    assert_ok(view_create(view, "test", source, &versions[index].view, &error));
    json_decref(view);
}

/* --- records --- */

static void random_text(char *out, size_t size, bool large)
{
    size_t length = large ? 700 + below(300) : below(4);
    if (length >= size)
        length = size - 1;
    for (size_t i = 0; i < length; i++)
        out[i] = (char)('a' + below(large ? 26 : 3));
    out[length] = '\0';
}

static void random_record(char *out, size_t size, bool large)
{
    char text[1000];
    char i[30] = "null";
    char d[30] = "null";
    char s[1010] = "null";
    random_text(text, sizeof text, large);
    if (below(8) != 0)
        snprintf(i, sizeof i, "%" PRId64, (int64_t)below(40) - 20);
    if (below(8) != 0)
        snprintf(d, sizeof d, "%" PRId64 ".%02" PRIu64, (int64_t)below(30), below(100));
    if (below(8) != 0)
        snprintf(s, sizeof s, "\"%s\"", text);
    snprintf(out, size,
             "{\"at\":\"2024-03-%02" PRIu64 "T%02" PRIu64 ":%02" PRIu64
             ":00Z\",\"i\":%s,\"d\":%s,\"s\":%s,\"b\":%s}",
             30 + below(2), below(24), below(60), i, d, s,
             below(3) == 0 ? "null" : (below(2) == 0 ? "true" : "false"));
}

static void write_segment(int32_t partition, int64_t start, bool large,
                          struct archive_segment *segment)
{
    struct archive_writer *writer;
    assert_ok(archive_writer_create(archive, topic, partition, start, &writer, &error));
    for (int64_t offset = start; offset < start + SEGMENT_RECORDS; offset++) {
        char value[TEXT_BYTES];
        random_record(value, sizeof value, large);
        struct archive_record record = {.offset = offset,
                                        .timestamp_ms = 1711756800000,
                                        .value = value,
                                        .length = strlen(value),
                                        .readable = strlen(value)};
        assert_ok(archive_writer_add(writer, &record, &error));
    }
    assert_ok(archive_writer_finish(writer, start + SEGMENT_RECORDS, segment, &error));
    archive_writer_destroy(writer);
}

/* --- comparing --- */

static struct recompute *run(int threads, struct spill *spill, const struct reuse *reuse)
{
    struct segments list = {.items = segments, .count = SEGMENT_COUNT};
    struct config config = {.batch_archive = archive, .batch_threads = threads};
    struct cut copies[PARTITIONS];
    struct recompute *recompute;
    memcpy(copies, cuts, sizeof cuts);
    assert_ok(recompute_run(&config, &catalog, &list, copies, PARTITIONS, reuse, spill, &recompute,
                            &error));
    assert_true(recompute->counts.counted > 0);
    return recompute;
}

static void compare(const struct recompute *bounded, const struct recompute *whole, size_t version,
                    enum recompute_part part)
{
    struct row_stream *left;
    struct row_stream *right;
    struct row a;
    struct row b;
    assert_ok(recompute_rows(bounded, version, part, &left, &error));
    assert_ok(recompute_rows(whole, version, part, &right, &error));
    for (;;) {
        bool left_ended;
        bool right_ended;
        assert_ok(row_stream_next(left, &a, &left_ended, &error));
        assert_ok(row_stream_next(right, &b, &right_ended, &error));
        assert_int_equal(left_ended, right_ended);
        if (left_ended)
            break;
        assert_int_equal(row_compare(&a, &b), 0);
        assert_int_equal(a.length, b.length);
        assert_memory_equal(a.fields, b.fields, b.length);
    }
    row_stream_destroy(left);
    row_stream_destroy(right);
}

/* Whatever is folded into which part. */
static void one_bound(const struct reuse *reuse, int64_t memory_bytes, int64_t *runs)
{
    struct spill *none;
    struct spill *spill;
    assert_ok(spill_create(directory, (int64_t)1 << 40, &none, &error));
    assert_ok(spill_create(directory, memory_bytes, &spill, &error));
    struct recompute *whole = run(1, none, reuse);
    struct recompute *bounded = run(1 + (int)below(4), spill, reuse);
    for (size_t v = 0; v < VERSIONS; v++)
        for (enum recompute_part part = 0; part <= RECOMPUTE_PARTS; part++)
            compare(bounded, whole, v, part);
    assert_int_equal(spill_counts(none).runs, 0);
    *runs += spill_counts(spill).runs;
    recompute_destroy(bounded);
    recompute_destroy(whole);
    spill_destroy(spill);
    spill_destroy(none);
}

static void one_round(unsigned round, int64_t *runs)
{
    bool large = below(4) == 0;
    snprintf(archive, sizeof archive, "%s/%u", directory, round);
    for (size_t v = 0; v < VERSIONS; v++)
        random_version(v);
    catalog = (struct catalog){.versions = versions, .version_count = VERSIONS};
    for (int32_t p = 0; p < PARTITIONS; p++)
        cuts[p] = (struct cut){.topic = topic,
                               .partition = p,
                               .offset = SEGMENTS * SEGMENT_RECORDS - (int64_t)below(50),
                               .reused_offset = (int64_t)below(SEGMENTS * SEGMENT_RECORDS - 50),
                               .chosen = true};
    for (size_t i = 0; i < SEGMENT_COUNT; i++)
        write_segment((int32_t)(i % PARTITIONS), (int64_t)(i / PARTITIONS) * SEGMENT_RECORDS, large,
                      &segments[i]);
    struct reuse_version kinds[VERSIONS] = {0};
    bool covered[VERSIONS * PARTITIONS];
    bool recount[PARTITIONS] = {false};
    for (size_t v = 0; v < VERSIONS; v++)
        kinds[v].kind = (enum reuse_kind)below(3);
    for (size_t i = 0; i < VERSIONS * PARTITIONS; i++)
        covered[i] = below(2) == 0;
    const struct reuse reuse = {.base = 1,
                                .versions = kinds,
                                .version_count = VERSIONS,
                                .cut_count = PARTITIONS,
                                .covered = covered,
                                .recount = recount};
    one_bound(NULL, 1 + (int64_t)below(below(2) == 0 ? 30000 : 3000000), runs);
    one_bound(&reuse, 1 + (int64_t)below(below(2) == 0 ? 30000 : 3000000), runs);
    for (size_t v = 0; v < VERSIONS; v++)
        view_destroy(versions[v].view);
    for (size_t i = 0; i < SEGMENT_COUNT; i++)
        archive_segment_deinit(&segments[i]);
}

static void little_memory_gives_the_same_bytes(void **state)
{
    (void)state;
    int64_t runs = 0;
    for (unsigned round = 0; round < ROUNDS; round++)
        one_round(round, &runs);
    print_message("%" PRId64 " runs were spilled\n", runs);
    assert_true(runs > ROUNDS);
}

static int setup(void **state)
{
    (void)state;
    const char *given = getenv("DOVETAIL_SEED");
    random_state = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    printf("test_recompute_spill: DOVETAIL_SEED=%" PRIu64 "\n", random_state);
    assert_non_null(mkdtemp(directory));
    json_t *json = json_loads(measure_source_json, 0, NULL);
    assert_ok(source_create(json, "test", &source, &error));
    json_decref(json);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[80];
    source_destroy(source);
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(little_memory_gives_the_same_bytes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
