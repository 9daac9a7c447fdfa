/* Segment files: what was written comes back byte for byte, other tools read the lines, and a file
 * that was damaged anywhere is refused. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include <cmocka.h>

#include "core/archive/archive.h"
#include "core/records/event_parser.h"

enum { RECORDS_MAX = 400, BIG_BYTES = 1 << 20 };

struct record {
    int64_t offset;
    int64_t timestamp_ms;
    char *value; /* NULL: tombstone */
    size_t length;
    bool line;
    bool seen;
};

static unsigned seed;
static char directory[] = "/tmp/dovetail-archive-XXXXXX";

static size_t below(size_t bound)
{
    return (size_t)random() % bound;
}

static int remove_tree(const char *path)
{
    char command[4200];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    return system(command);
}

static int setup(void **state)
{
    (void)state;
    seed = (unsigned)time(NULL) ^ (unsigned)getpid();
    if (getenv("DOVETAIL_SEED") != NULL)
        seed = (unsigned)strtoul(getenv("DOVETAIL_SEED"), NULL, 10);
    print_message("seed %u\n", seed);
    srandom(seed);
    return mkdtemp(directory) == NULL;
}

static int teardown(void **state)
{
    (void)state;
    return remove_tree(directory);
}

/* --- random records --- */

static void set_value(struct record *record, const char *text, bool line)
{
    record->length = strlen(text);
    record->value = strdup(text);
    assert_non_null(record->value);
    record->line = line;
}

static void make_big(struct record *record)
{
    record->length = BIG_BYTES;
    record->value = malloc(record->length);
    assert_non_null(record->value);
    memset(record->value, 'x', record->length);
    memcpy(record->value, "{\"big\":\"", 8);
    memcpy(record->value + record->length - 2, "\"}", 2);
    for (size_t i = 8; i < record->length - 2; i += 1 + below(50))
        record->value[i] = (char)('a' + below(26));
    record->line = true;
}

static void make_binary(struct record *record)
{
    record->length = below(300);
    record->value = malloc(record->length + 1);
    assert_non_null(record->value);
    for (size_t i = 0; i < record->length; i++)
        record->value[i] = (char)random();
    if (record->length > 0)
        record->value[0] = '\x01'; /* not JSON, whatever follows */
}

static void make_record(struct record *record)
{
    static const char *const others[] = {
        "",   "null", "[1]",        "{\"a\":1",       "{\"a\":\n1}",      "{\"a\":1}\r",
        "\n", "7",    "{\"a\":01}", "\xEF\xBB\xBF{}", "{\"a\":\"\xff\"}", "{} {}",
    };
    char text[200];
    record->timestamp_ms = (int64_t)random() * 1000 + random();
    switch (below(20)) {
    case 0:
        break; /* null */
    case 1:
        make_binary(record);
        break;
    case 2:
    case 3:
        set_value(record, others[below(sizeof others / sizeof others[0])], false);
        break;
    case 4:
        record->timestamp_ms = below(2) == 0 ? -1 : INT64_MIN + (int64_t)below(3);
        set_value(record, " { \"a\" : [1, {\"b\": null}] }\t", true);
        break;
    case 5:
        if (below(10) == 0) {
            make_big(record);
            break;
        }
        record->timestamp_ms = INT64_MAX;
        set_value(record, "{}", true);
        break;
    default:
        snprintf(text, sizeof text, "{\"id\":%ld,\"name\":\"h\\u00e9\xc3\xa9\\n%ld\"}", random(),
                 random());
        set_value(record, text, true);
    }
}

static size_t make_records(struct record *records, int64_t start, bool holes)
{
    size_t count = below(RECORDS_MAX);
    int64_t offset = start;
    for (size_t i = 0; i < count; i++) {
        records[i] = (struct record){0};
        if (holes)
            offset += (int64_t)(below(4) == 0 ? below(1000) : 0);
        records[i].offset = offset++;
        make_record(&records[i]);
    }
    return count;
}

static void free_records(struct record *records, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(records[i].value);
}

/* --- writing and reading --- */

static void write_segment(const struct record *records, size_t count, int64_t start, int64_t end,
                          struct archive_segment *segment)
{
    struct archive_writer *writer;
    struct error error = {0};
    if (archive_writer_create(directory, "a.topic-1", 7, start, &writer, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    int64_t raw_bytes = 0;
    for (size_t i = 0; i < count; i++) {
        struct archive_record record = {.offset = records[i].offset,
                                        .timestamp_ms = records[i].timestamp_ms,
                                        .value = records[i].value,
                                        .length = records[i].length,
                                        .readable = records[i].length};
        if (archive_writer_add(writer, &record, &error) != STATUS_OK)
            fail_msg("seed %u: %s", seed, error.text);
        raw_bytes += (int64_t)records[i].length;
    }
    assert_int_equal(archive_writer_raw_bytes(writer), raw_bytes);
    assert_int_equal(archive_writer_record_count(writer), count);
    if (archive_writer_finish(writer, end, segment, &error) != STATUS_OK)
        fail_msg("seed %u: %s", seed, error.text);
    archive_writer_destroy(writer);
    assert_int_equal(segment->start_offset, start);
    assert_int_equal(segment->end_offset, end);
    assert_int_equal(segment->record_count, count);
    assert_int_equal(segment->raw_bytes, raw_bytes);
}

static struct record *find(struct record *records, size_t count, int64_t offset)
{
    for (size_t i = 0; i < count; i++)
        if (records[i].offset == offset)
            return &records[i];
    fail_msg("seed %u: offset %ld was never written", seed, (long)offset);
    return NULL;
}

static void check_record(struct record *records, size_t count, const struct archive_record *got)
{
    struct record *record = find(records, count, got->offset);
    assert_false(record->seen);
    record->seen = true;
    assert_int_equal(got->timestamp_ms, record->timestamp_ms);
    assert_int_equal(got->length, record->length);
    assert_true((got->value == NULL) == (record->value == NULL));
    if (got->length > 0)
        assert_memory_equal(got->value, record->value, got->length);
    assert_true(got->readable >= got->length);
    if (record->line)
        assert_true(got->readable >= got->length + EVENT_PADDING_BYTES);
    /* What may be read can be read. */
    volatile char last = 0;
    if (got->readable > 0)
        last = got->value[got->readable - 1];
    (void)last;
}

static void read_segment(struct record *records, size_t count,
                         const struct archive_segment *segment)
{
    struct archive_reader *reader;
    struct error error = {0};
    if (archive_reader_open(directory, segment, &reader, &error) != STATUS_OK)
        fail_msg("seed %u: %s", seed, error.text);
    size_t seen = 0;
    int64_t last = -1;
    for (;; seen++) {
        struct archive_record record;
        bool end;
        if (archive_reader_next(reader, &record, &end, &error) != STATUS_OK)
            fail_msg("seed %u: %s", seed, error.text);
        if (end)
            break;
        assert_true(record.offset > last); /* lines and other records in one order */
        last = record.offset;
        check_record(records, count, &record);
    }
    assert_int_equal(seen, count);
    archive_reader_close(reader);
}

static void path_of(const struct archive_segment *segment, char *out, size_t size)
{
    snprintf(out, size, "%s/%s", directory, segment->file);
}

/* Does `zstdcat` print exactly the lines? */
static void check_zstdcat(const struct record *records, size_t count,
                          const struct archive_segment *segment)
{
    char command[4200];
    snprintf(command, sizeof command, "zstdcat -- '%s/%s'", directory, segment->file);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    char *buffer = malloc(BIG_BYTES + 2);
    assert_non_null(buffer);
    for (size_t i = 0; i < count; i++) {
        if (!records[i].line)
            continue;
        size_t length = records[i].length;
        if (fread(buffer, 1, length + 1, pipe) != length + 1)
            fail_msg("seed %u: zstdcat printed too little", seed);
        assert_memory_equal(buffer, records[i].value, length);
        assert_int_equal(buffer[length], '\n');
    }
    assert_int_equal(fgetc(pipe), EOF);
    free(buffer);
    if (pclose(pipe) != 0)
        fail_msg("seed %u: zstdcat refused the file", seed);
}

static void test_round_trip(void **state)
{
    (void)state;
    static struct record records[RECORDS_MAX];
    for (int round = 0; round < 60; round++) {
        int64_t start = (int64_t)below(3) * random();
        size_t count = round == 0 ? 0 : make_records(records, start, round % 2 == 1);
        int64_t last = count == 0 ? start : records[count - 1].offset;
        struct archive_segment segment;
        write_segment(records, count, start, last + 1 + (int64_t)below(3), &segment);
        read_segment(records, count, &segment);
        check_zstdcat(records, count, &segment);
        archive_segment_deinit(&segment);
        free_records(records, count);
    }
}

/* Written twice, a segment is the same file: what a crash left may be replaced. */
static void test_same_bytes(void **state)
{
    (void)state;
    static struct record records[RECORDS_MAX];
    size_t count = make_records(records, 5, true);
    int64_t end = count == 0 ? 6 : records[count - 1].offset + 1;
    struct archive_segment first;
    struct archive_segment second;
    write_segment(records, count, 5, end, &first);
    write_segment(records, count, 5, end, &second);
    assert_string_equal(first.checksum, second.checksum);
    assert_string_equal(first.file, second.file);
    assert_memory_equal(first.file, "a.topic-1/7/00000000000000000005-", 33);
    archive_segment_deinit(&first);
    archive_segment_deinit(&second);
    free_records(records, count);
}

/* --- damage --- */

static char *read_bytes(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    struct stat stat;
    assert_int_equal(fstat(fileno(file), &stat), 0);
    *length = (size_t)stat.st_size;
    char *bytes = malloc(*length + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *length, file), *length);
    fclose(file);
    return bytes;
}

static void write_bytes(const char *path, const char *bytes, size_t length)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

/* Reads all; STATUS_OK when nothing was found wrong. */
static enum status read_all(const struct archive_segment *segment, struct error *error)
{
    struct archive_reader *reader;
    enum status status = archive_reader_open(directory, segment, &reader, error);
    bool end = false;
    while (status == STATUS_OK && !end) {
        struct archive_record record;
        status = archive_reader_next(reader, &record, &end, error);
    }
    archive_reader_close(reader);
    return status;
}

static void expect_refused(const struct archive_segment *segment, const char *what, size_t where)
{
    struct error error = {0};
    if (read_all(segment, &error) != STATUS_FATAL)
        fail_msg("seed %u: %s at %zu was not noticed", seed, what, where);
    if (strstr(error.text, segment->file) == NULL)
        fail_msg("seed %u: \"%s\" does not name the file", seed, error.text);
}

static void test_damage(void **state)
{
    (void)state;
    static struct record records[RECORDS_MAX];
    size_t count = make_records(records, 100, true);
    int64_t end = count == 0 ? 101 : records[count - 1].offset + 1;
    struct archive_segment segment;
    write_segment(records, count, 100, end, &segment);
    char path[4200];
    path_of(&segment, path, sizeof path);
    size_t length;
    char *bytes = read_bytes(path, &length);
    for (int round = 0; round < 300; round++) {
        size_t at = below(length);
        unsigned bit = (unsigned)below(8);
        bytes[at] = (char)(bytes[at] ^ (1 << bit));
        write_bytes(path, bytes, length);
        expect_refused(&segment, "a flipped bit", at);
        bytes[at] = (char)(bytes[at] ^ (1 << bit));
        write_bytes(path, bytes, at);
        expect_refused(&segment, "a cut", at);
    }
    bytes[length] = 'x';
    write_bytes(path, bytes, length + 1);
    expect_refused(&segment, "a byte too many", length);
    write_bytes(path, bytes, length);
    read_segment(records, count, &segment);
    assert_int_equal(unlink(path), 0);
    expect_refused(&segment, "a missing file", 0);
    free(bytes);
    archive_segment_deinit(&segment);
    free_records(records, count);
}

/* Damage that the manifest agrees with, as an attacker or a bug could make it: whatever happens,
 * the reader stays within its bounds (the sanitizers watch) and ends. */
static void test_damage_with_checksum(void **state)
{
    (void)state;
    static struct record records[RECORDS_MAX];
    for (int round = 0; round < 20; round++) {
        size_t count = make_records(records, 0, true);
        int64_t end = count == 0 ? 1 : records[count - 1].offset + 1;
        struct archive_segment segment;
        write_segment(records, count, 0, end, &segment);
        char path[4200];
        path_of(&segment, path, sizeof path);
        size_t length;
        char *bytes = read_bytes(path, &length);
        for (int flip = 0; flip < 40; flip++) {
            size_t at =
                below(2) == 0 ? below(length) : length - 1 - below(length < 200 ? length : 200);
            char before = bytes[at];
            bytes[at] = (char)random();
            size_t kept = below(4) == 0 ? 1 + below(length) : length;
            write_bytes(path, bytes, kept);
            struct archive_segment claimed = segment;
            XXH128_hash_t hash = XXH3_128bits(bytes, kept);
            snprintf(claimed.checksum, sizeof claimed.checksum, "%016" PRIx64 "%016" PRIx64,
                     (uint64_t)hash.high64, (uint64_t)hash.low64);
            claimed.file_bytes = (int64_t)kept;
            struct error error = {0};
            enum status status = read_all(&claimed, &error);
            assert_true(status == STATUS_OK || status == STATUS_FATAL);
            bytes[at] = before;
        }
        free(bytes);
        archive_segment_deinit(&segment);
        free_records(records, count);
    }
}

/* --- names and leftovers --- */

static void test_names(void **state)
{
    (void)state;
    static const char *const bad[] = {"",     ".",        "..",  "a/b",  "../a", "a b",
                                      "a\\b", "\xc3\xa9", "a\n", "/etc", "a:b"};
    char longest[251];
    memset(longest, 'a', 250);
    longest[250] = '\0';
    assert_false(archive_topic_is_valid(longest));
    longest[249] = '\0';
    assert_true(archive_topic_is_valid(longest));
    assert_true(archive_topic_is_valid("A.b_c-9"));
    assert_true(archive_topic_is_valid("..."));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct archive_writer *writer = NULL;
        struct error error = {0};
        assert_false(archive_topic_is_valid(bad[i]));
        assert_int_equal(archive_writer_create(directory, bad[i], 0, 0, &writer, &error),
                         STATUS_REJECT);
        assert_null(writer);
    }
}

static void test_reader_stays_inside(void **state)
{
    (void)state;
    static const char *const bad[] = {"../x", "/etc/passwd", "a/../../x", "", "a//b", "./x", ".."};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct archive_segment segment = {
            .topic = (char *)"t", .file = (char *)bad[i], .end_offset = 1, .file_bytes = 1};
        struct archive_reader *reader = NULL;
        struct error error = {0};
        assert_int_equal(archive_reader_open(directory, &segment, &reader, &error), STATUS_FATAL);
        assert_non_null(strstr(error.text, "is not a segment's name"));
        assert_null(reader);
    }
}

static size_t count_files(const char *pattern)
{
    char command[4200];
    snprintf(command, sizeof command, "find '%s' -type f -name '%s' | wc -l", directory, pattern);
    FILE *pipe = popen(command, "r");
    size_t count = SIZE_MAX;
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%zu", &count), 1);
    pclose(pipe);
    return count;
}

static void test_leftovers(void **state)
{
    (void)state;
    struct error error = {0};
    struct archive_writer *writer;
    size_t before = count_files("*.jsonl.zst");
    assert_int_equal(archive_writer_create(directory, "a.topic-1", 3, 9, &writer, &error),
                     STATUS_OK);
    assert_int_equal(count_files("*.tmp"), 1);
    archive_writer_destroy(writer);
    assert_int_equal(count_files("*.tmp"), 0);
    char path[4200];
    snprintf(path, sizeof path, "%s/a.topic-1/3/.00000000000000000009.tmp", directory);
    write_bytes(path, "x", 1);
    assert_int_equal(archive_remove_temporary(directory, "a.topic-1", &error), STATUS_OK);
    assert_int_equal(archive_remove_temporary(directory, "no-such-topic", &error), STATUS_OK);
    assert_int_equal(count_files("*.tmp"), 0);
    assert_int_equal(count_files("*.jsonl.zst"), before);
}

static void test_wrong_use(void **state)
{
    (void)state;
    struct error error = {0};
    struct archive_writer *writer;
    struct archive_segment segment;
    assert_int_equal(archive_writer_create(directory, "a.topic-1", 4, 10, &writer, &error),
                     STATUS_OK);
    struct archive_record record = {.offset = 9, .value = "{}", .length = 2, .readable = 2};
    assert_int_equal(archive_writer_add(writer, &record, &error), STATUS_FATAL);
    record.offset = 12;
    assert_int_equal(archive_writer_add(writer, &record, &error), STATUS_OK);
    assert_int_equal(archive_writer_add(writer, &record, &error), STATUS_FATAL);
    assert_int_equal(archive_writer_finish(writer, 12, &segment, &error), STATUS_FATAL);
    archive_writer_destroy(writer);
    /* A directory that cannot be made. */
    assert_int_equal(archive_writer_create("/proc/nowhere", "t", 0, 0, &writer, &error),
                     STATUS_RETRY);
    assert_non_null(strstr(error.text, "/proc/nowhere"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_damage),     cmocka_unit_test(test_damage_with_checksum),
        cmocka_unit_test(test_names),      cmocka_unit_test(test_reader_stays_inside),
        cmocka_unit_test(test_leftovers),  cmocka_unit_test(test_wrong_use),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
