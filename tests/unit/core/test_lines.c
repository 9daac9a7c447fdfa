/* Lines: the same text plain, in zstd and in gzip gives the same lines and the same checksum. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "core/input/lines.h"

enum { LINES = 100000 };

static struct error error;
static char *text;
static size_t text_length;
static char *packed;
static size_t packed_length;

static int make_text(void **state)
{
    (void)state;
    FILE *out = open_memstream(&text, &text_length);
    for (int i = 0; i < LINES; i++)
        fprintf(out, "line %d of many%s\n", i, i % 7 == 0 ? "\r" : "");
    fprintf(out, "the last one");
    fclose(out);
    packed = malloc(text_length * 2);
    return packed == NULL;
}

static int free_text(void **state)
{
    (void)state;
    free(text);
    free(packed);
    return 0;
}

/* Appends a member to `packed`. */
static void gzip(const char *data, size_t length)
{
    z_stream stream = {0};
    assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = (Bytef *)data;
    stream.avail_in = (uInt)length;
    stream.next_out = (Bytef *)packed + packed_length;
    stream.avail_out = (uInt)(text_length * 2 - packed_length);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    packed_length += stream.total_out;
    deflateEnd(&stream);
}

static enum status read_all(const char *data, size_t length, int *count, char *checksum)
{
    FILE *file = tmpfile();
    struct lines *lines = NULL;
    const char *line = "";
    size_t size;
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, length, file), length);
    fflush(file);
    assert_int_equal(lseek(fileno(file), 0, SEEK_SET), 0);
    assert_int_equal(lines_open_fd(fileno(file), "test", &lines, &error), STATUS_OK);
    enum status status = STATUS_OK;
    size_t at = 0;
    *count = 0;
    while (status == STATUS_OK && line != NULL) {
        status = lines_next(lines, &line, &size, &error);
        if (status != STATUS_OK || line == NULL)
            break;
        assert_true(at + size <= text_length);
        assert_memory_equal(line, text + at, size);
        at += size + 1;
        (*count)++;
    }
    lines_checksum(lines, checksum);
    lines_close(lines);
    fclose(file);
    return status;
}

static void test_all_compressions(void **state)
{
    (void)state;
    char plain[LINES_CHECKSUM_BYTES], other[LINES_CHECKSUM_BYTES];
    int count;
    assert_int_equal(read_all(text, text_length, &count, plain), STATUS_OK);
    assert_int_equal(count, LINES + 1);
    packed_length = ZSTD_compress(packed, text_length * 2, text, text_length, 3);
    assert_int_equal(read_all(packed, packed_length, &count, other), STATUS_OK);
    assert_int_equal(count, LINES + 1);
    assert_string_equal(plain, other);
    /* gzip: two members are one text. */
    packed_length = 0;
    gzip(text, 12345);
    gzip(text + 12345, text_length - 12345);
    assert_int_equal(read_all(packed, packed_length, &count, other), STATUS_OK);
    assert_int_equal(count, LINES + 1);
    assert_string_equal(plain, other);
}

static void test_what_is_cut_off_is_refused(void **state)
{
    (void)state;
    char checksum[LINES_CHECKSUM_BYTES];
    int count;
    packed_length = ZSTD_compress(packed, text_length * 2, text, text_length, 3);
    assert_int_equal(read_all(packed, packed_length - 5, &count, checksum), STATUS_REJECT);
    assert_non_null(strstr(error.text, "cut off"));
    packed_length = 0;
    gzip(text, text_length);
    assert_int_equal(read_all(packed, packed_length - 5, &count, checksum), STATUS_REJECT);
    assert_non_null(strstr(error.text, "cut off"));
    packed[packed_length - 6] ^= 1; /* its own checksum */
    assert_int_equal(read_all(packed, packed_length, &count, checksum), STATUS_REJECT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_compressions),
        cmocka_unit_test(test_what_is_cut_off_is_refused),
    };
    return cmocka_run_group_tests(tests, make_text, free_text);
}
