/* Rows on disk and in order: what is read is what was written, in its order; what was spoilt is
 * noticed; what other processes left is removed, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "batch_layer/row_sorter.h"

enum {
    ROWS = 3000,
    LARGE_BYTES = 300000,
    KEYS = 500,
    MERGED = 300,
    MERGED_BYTES = 20000,
    SHARED = 5000
};

static char directory[] = "/tmp/dovetail-spill-XXXXXX";
static struct error error;
static struct source *source;
static struct view *view;

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        if ((call) != STATUS_OK)                                                                   \
            fail_msg("%s: %s", #call, error.text);                                                 \
    } while (0)

static struct spill *make_spill(void)
{
    struct spill *spill;
    assert_ok(spill_create(directory, 1 << 20, &spill, &error));
    return spill;
}

/* Row number i, the same whenever it is made; some larger than a reader's buffer. */
static struct row make_row(int64_t i, unsigned char *key, unsigned char *fields)
{
    size_t length = i % 500 == 7 ? LARGE_BYTES + (size_t)i : (size_t)(i % 40);
    snprintf((char *)key, 20, "%06d", (int)(i * 7919 % KEYS));
    memset(fields, (int)(i % 251), length);
    return (struct row){.window_start_us = i * 31 % 5,
                        .id = i,
                        .key = key,
                        .key_length = 6,
                        .fields = fields,
                        .length = length};
}

static void check_row(const struct row *row, unsigned char *key, unsigned char *fields)
{
    struct row wanted = make_row(row->id, key, fields);
    assert_int_equal(row_compare(&wanted, row), 0);
    assert_int_equal(row->length, wanted.length);
    assert_memory_equal(row->fields, wanted.fields, wanted.length);
}

static unsigned char *make_room(void)
{
    unsigned char *room = malloc(LARGE_BYTES + ROWS);
    assert_non_null(room);
    return room;
}

/* With the fields of all rows, of some, or of none. */
static void test_a_run_is_read_as_it_was_written(void **state)
{
    (void)state;
    unsigned char key[20];
    unsigned char *fields = make_room();
    struct spill *spill = make_spill();
    struct spill_file *file;
    struct spill_run runs[2];
    assert_ok(spill_file_create(spill, &file, &error));
    for (int r = 0; r < 2; r++) {
        assert_ok(spill_begin(file, &error));
        for (int64_t i = r; i < ROWS; i++) {
            struct row row = make_row(i, key, fields);
            assert_ok(spill_add(file, &row, &error));
        }
        assert_ok(spill_end(file, &runs[r], &error));
    }
    assert_int_equal(spill_counts(spill).runs, 2);
    assert_int_equal(spill_counts(spill).bytes, runs[1].end);
    struct pgbinary_writer room;
    pgbinary_writer_init(&room);
    for (int every = 1; every <= ROWS; every += ROWS / 2 - 1) {
        struct spill_reader *reader;
        struct row row;
        bool end = false;
        assert_ok(spill_reader_open(&runs[1], &reader, &error));
        for (int64_t i = 1; i < ROWS; i++) {
            assert_ok(spill_reader_next(reader, &row, &end, &error));
            assert_false(end);
            assert_int_equal(row.id, i);
            if (i % every != 0)
                continue;
            assert_ok(spill_reader_fields(reader, &room, &row, &error));
            check_row(&row, key, fields);
        }
        assert_ok(spill_reader_next(reader, &row, &end, &error));
        assert_true(end);
        spill_reader_close(reader);
    }
    pgbinary_writer_deinit(&room);
    spill_file_destroy(file);
    spill_destroy(spill);
    free(fields);
}

/* The file of this process that has no name any more. */
static int find_file(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int found = -1;
    assert_non_null(folder);
    for (struct dirent *entry; found < 0 && (entry = readdir(folder)) != NULL;) {
        char path[300];
        char target[300] = "";
        snprintf(path, sizeof path, "/proc/self/fd/%.200s", entry->d_name);
        if (readlink(path, target, sizeof target - 1) > 0 && strstr(target, "dovetail-spill-") &&
            strstr(target, directory) != NULL)
            found = atoi(entry->d_name);
    }
    closedir(folder);
    return found;
}

/* The status of reading a run whose byte at `at` is another than was written. */
static enum status read_spoilt(int64_t at)
{
    unsigned char key[20];
    unsigned char *fields = make_room();
    struct spill *spill = make_spill();
    struct spill_file *file;
    struct spill_run run;
    assert_ok(spill_file_create(spill, &file, &error));
    assert_ok(spill_begin(file, &error));
    for (int64_t i = 0; i < 100; i++) {
        struct row row = make_row(i, key, fields);
        assert_ok(spill_add(file, &row, &error));
    }
    assert_ok(spill_end(file, &run, &error));
    int fd = find_file();
    char byte;
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at % run.end), 1);
    byte ^= 64;
    assert_int_equal(pwrite(fd, &byte, 1, at % run.end), 1);
    struct spill_reader *reader;
    struct row row;
    bool end = false;
    assert_ok(spill_reader_open(&run, &reader, &error));
    enum status status = STATUS_OK;
    while (status == STATUS_OK && !end)
        status = spill_reader_next(reader, &row, &end, &error);
    spill_reader_close(reader);
    spill_file_destroy(file);
    spill_destroy(spill);
    free(fields);
    return status;
}

static void test_what_is_spoilt_is_noticed(void **state)
{
    (void)state;
    for (int64_t at = 0; at < 400; at++) {
        assert_int_equal(read_spoilt(at * 7), STATUS_FATAL);
        assert_non_null(strstr(error.text, directory));
    }
}

static void test_what_was_left_is_removed(void **state)
{
    (void)state;
    char left[100];
    char other[100];
    snprintf(left, sizeof left, "%s/dovetail-spill-1-0", directory);
    snprintf(other, sizeof other, "%s/other", directory);
    fclose(fopen(left, "w"));
    fclose(fopen(other, "w"));
    struct spill *spill = make_spill();
    assert_int_equal(access(left, F_OK), -1);
    assert_int_equal(access(other, F_OK), 0);
    struct spill_file *file;
    assert_ok(spill_file_create(spill, &file, &error));
    unlink(other);
    assert_int_equal(rmdir(directory), 0); /* there is no file in it although one is open */
    spill_file_destroy(file);
    spill_destroy(spill);
    assert_int_equal(mkdir(directory, 0700), 0);
}

static void *remove_and_remove(void *argument)
{
    const atomic_bool *over = argument;
    while (!atomic_load(over)) {
        struct spill *spill;
        struct error own;
        if (spill_create(directory, 1 << 20, &spill, &own) != STATUS_OK)
            return strdup(own.text);
        spill_destroy(spill);
    }
    return NULL;
}

/* Runs of two deployments in one directory: each may take away the other's name for a file that is
 * about to lose it. */
static void test_two_runs_may_share_a_directory(void **state)
{
    (void)state;
    pthread_t other;
    void *trouble;
    atomic_bool over = false;
    struct spill *spill = make_spill();
    assert_int_equal(pthread_create(&other, NULL, remove_and_remove, &over), 0);
    for (int i = 0; i < SHARED; i++) {
        struct spill_file *file;
        assert_ok(spill_file_create(spill, &file, &error));
        spill_file_destroy(file);
    }
    atomic_store(&over, true);
    pthread_join(other, &trouble);
    if (trouble != NULL)
        fail_msg("%s", (char *)trouble);
    spill_destroy(spill);
}

/* In any order, within much or little memory: all of them, and of one key all together. */
static void sort_rows(size_t memory_bytes, bool spilled)
{
    unsigned char key[20];
    unsigned char *fields = make_room();
    struct spill *spill = make_spill();
    struct row_sorter *sorter;
    bool seen[ROWS] = {false};
    assert_ok(row_sorter_create(view, spill, memory_bytes, &sorter, &error));
    assert_true(row_sorter_is_empty(sorter));
    for (int64_t i = 0; i < ROWS; i++) {
        struct row row = make_row(i * 1009 % ROWS, key, fields);
        assert_ok(row_sorter_add(sorter, &row, &error));
    }
    assert_ok(row_sorter_finish(sorter, memory_bytes, &error));
    assert_false(row_sorter_is_empty(sorter));
    assert_true((spill_counts(spill).runs > 0) == spilled);
    for (int pass = 0; pass < 2; pass++) {
        struct row_stream *rows;
        struct row row;
        bool end;
        unsigned char last_key[20] = "";
        struct row last = {.window_start_us = INT64_MIN, .key = last_key, .key_length = 6};
        memset(seen, 0, sizeof seen);
        assert_ok(row_sorter_rows(sorter, &rows, &error));
        for (size_t i = 0; i < ROWS; i++) {
            assert_ok(row_stream_next(rows, &row, &end, &error));
            assert_false(end);
            assert_true(row_compare(&last, &row) <= 0);
            memcpy(last_key, row.key, row.key_length);
            last.window_start_us = row.window_start_us;
            check_row(&row, key, fields);
            assert_false(seen[row.id]);
            seen[row.id] = true;
        }
        assert_ok(row_stream_next(rows, &row, &end, &error));
        assert_true(end);
        row_stream_destroy(rows);
    }
    row_sorter_destroy(sorter);
    spill_destroy(spill);
    free(fields);
}

/* What the open files of the directory take on the disk. */
static int64_t disk_bytes(void)
{
    int64_t bytes = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char path[PATH_MAX] = "";
        struct stat stat;
        if (readlinkat(dirfd(folder), entry->d_name, path, sizeof path - 1) > 0 &&
            strncmp(path, directory, sizeof directory - 1) == 0 &&
            fstatat(dirfd(folder), entry->d_name, &stat, 0) == 0)
            bytes += stat.st_blocks * 512;
    }
    closedir(folder);
    return bytes;
}

/* Merging runs into longer ones, again and again, takes no more of the disk than the rows and the
 * longest of these. */
static void test_what_was_merged_is_free(void **state)
{
    (void)state;
    unsigned char key[20];
    unsigned char *fields = make_room();
    struct spill *spill = make_spill();
    struct spill_file *file;
    struct row_runs runs = {0};
    int64_t bytes = 0;
    assert_ok(spill_file_create(spill, &file, &error));
    for (int64_t i = 0; i < MERGED; i++) {
        struct row row = make_row(i, key, fields);
        struct spill_run run;
        row.length = MERGED_BYTES;
        assert_ok(spill_begin(file, &error));
        assert_ok(spill_add(file, &row, &error));
        assert_ok(spill_end(file, &run, &error));
        assert_ok(row_runs_add(&runs, &run, &error));
        bytes += run.end - run.begin;
    }
    assert_ok(row_runs_reduce(&runs, 4, view, false, file, &error));
    assert_true(runs.count <= 4);
    assert_true(spill_counts(spill).bytes > 3 * bytes);
    assert_true(disk_bytes() > 0);
    assert_true(disk_bytes() < 2 * bytes);
    row_runs_deinit(&runs);
    spill_file_destroy(file);
    spill_destroy(spill);
    free(fields);
}

static void test_rows_are_sorted(void **state)
{
    (void)state;
    sort_rows(100 << 20, false);
    sort_rows(1 << 20, true);
    sort_rows(0, true);
}

static int setup(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(directory));
    json_t *json = json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s, s:s}}", "source", "events", "topic",
                             "topic", "event_time", "field", "at", "format", "epoch_s", "fields",
                             "at", "timestamp", "k", "string");
    assert_ok(source_create(json, "test", &source, &error));
    json_decref(json);
    json = json_pack("{s:s, s:s, s:[s], s:{s:s, s:s}, s:{s:s}}", "view", "v", "source", "events",
                     "group_by", "k", "window", "type", "tumbling", "size", "1h", "measures", "c",
                     "count(*)");
    assert_ok(view_create(json, "test", source, &view, &error));
    json_decref(json);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    view_destroy(view);
    source_destroy(source);
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_run_is_read_as_it_was_written),
        cmocka_unit_test(test_what_is_spoilt_is_noticed),
        cmocka_unit_test(test_what_was_left_is_removed),
        cmocka_unit_test(test_two_runs_may_share_a_directory),
        cmocka_unit_test(test_rows_are_sorted),
        cmocka_unit_test(test_what_was_merged_is_free),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
