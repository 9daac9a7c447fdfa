/* Masking: keys and their faults, the hash against RFC 4231, and whole records: what is replaced,
 * what stays byte for byte, and that a masked record parses to what the original parses to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/archive/archive.h"
#include "core/records/event_parser.h"
#include "core/records/mask.h"

static struct error error;
static char directory[] = "/tmp/dovetail-mask-XXXXXX";
static char key_file[64];

/* RFC 4231, test case 1: the key is 20 bytes of 0x0b. */
static const char hi_there[] = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        if ((call) != STATUS_OK)                                                                   \
            fail_msg("%s: %s", #call, error.text);                                                 \
    } while (0)

static void write_key(const void *bytes, size_t length)
{
    FILE *file = fopen(key_file, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(key_file, 0600), 0);
}

static void write_rfc_key(const char *end)
{
    char key[32];
    memset(key, 0x0b, 20);
    strcpy(key + 20, end);
    write_key(key, 20 + strlen(end));
}

static struct source *make_source(void)
{
    struct source *source;
    json_t *json = json_pack(
        "{s:s, s:s, s:{s:s, s:s}, s:{s:s, s:s, s:{s:s, s:b, s:s}, s:{s:s, s:b}}, s:{s:s, s:s},"
        " s:{s:[s, s], s:s}}",
        "source", "s", "topic", "t", "event_time", "field", "at", "format", "epoch_s", "fields",
        "at", "integer", "name", "string", "mail", "type", "string", "nullable", 1, "path",
        "user.e-mail", "n", "type", "integer", "nullable", 1, "derive", "ratio", "10 / n", "both",
        "name || mail", "mask", "fields", "name", "mail", "key_file", key_file);
    assert_non_null(json);
    assert_ok(source_create(json, "test", &source, &error));
    json_decref(json);
    return source;
}

/* --- keys --- */

static void test_hash(void **state)
{
    (void)state;
    static const char *const ends[] = {"", "\n", "\r\n"};
    struct source *source = make_source();
    char fingerprints[3][MASK_BYTES + 1];
    for (size_t i = 0; i < 3; i++) {
        struct mask *mask;
        char out[MASK_BYTES + 1] = "";
        write_rfc_key(ends[i]);
        assert_ok(mask_create(source, &mask, &error));
        for (int again = 0; again < 3; again++) {
            assert_ok(mask_value(mask, "Hi There", 8, out, &error));
            assert_string_equal(out, hi_there);
            assert_ok(mask_value(mask, "", 0, out, &error));
            assert_string_not_equal(out, hi_there);
        }
        assert_ok(mask_fingerprint(mask, fingerprints[i], &error));
        mask_destroy(mask);
    }
    assert_string_equal(fingerprints[0], fingerprints[1]);
    assert_string_equal(fingerprints[0], fingerprints[2]);
    source_destroy(source);
    mask_destroy(NULL);
    record_mask_destroy(NULL);
}

static void expect_fault(const struct source *source, const char *fault)
{
    struct mask *mask;
    char text[300];
    snprintf(text, sizeof text, "source s: mask.key_file: %s: %s", key_file, fault);
    assert_int_equal(mask_create(source, &mask, &error), STATUS_REJECT);
    assert_null(mask);
    assert_string_equal(error.text, text);
}

static void test_key_faults(void **state)
{
    (void)state;
    struct source *source = make_source();
    char large[MASK_KEY_MAX_BYTES + 1];
    memset(large, 'k', sizeof large);
    unlink(key_file);
    expect_fault(source, "cannot be read: No such file or directory");
    write_key("", 0);
    expect_fault(source, "has 0 bytes; a key has at least 16");
    write_key("fifteen bytes!!\n", 16);
    expect_fault(source, "has 15 bytes; a key has at least 16");
    write_key(large, sizeof large);
    expect_fault(source, "is longer than 1024 bytes");
    write_rfc_key("");
    strcpy(source->mask_fingerprint, hi_there);
    expect_fault(source, "is not the key that was registered; hashes of another key would not be "
                         "equal to those that are stored");
    source_destroy(source);
}

/* A parser that was told nothing must not give a value away. */
static void test_parser_without_key(void **state)
{
    (void)state;
    static const char record[] = "{\"at\":1,\"name\":\"Hi There\",\"n\":2}";
    struct source *source = make_source();
    struct event_parser *parser;
    struct event event;
    assert_ok(event_parser_create(source, &parser, &error));
    assert_int_equal(
        event_parser_parse(parser, record, strlen(record), strlen(record), &event, &error),
        STATUS_FATAL);
    assert_null(event.fields);
    event_parser_unmask(parser);
    assert_ok(event_parser_parse(parser, record, strlen(record), strlen(record), &event, &error));
    assert_int_equal(event.fields[1].string.length, 8);
    event_parser_destroy(parser);
    source_destroy(source);
}

/* --- records --- */

#define HI "Hi There"
#define HASH "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"

static const struct {
    const char *value;
    const char *masked; /* NULL: withheld */
} records[] = {
    {"{\"at\":1,\"name\":\"" HI "\"}", "{\"at\":1,\"name\":\"" HASH "\"}"},
    /* white space, order, unused members and numbers stay */
    {" {\n\"x\" : [1.50e1,{\"name\":\"" HI "\"}] ,\t\"name\" : \"" HI "\" , \"at\":1}\r\n",
     " {\n\"x\" : [1.50e1,{\"name\":\"" HI "\"}] ,\t\"name\" : \"" HASH "\" , \"at\":1}\r\n"},
    /* a path of two names, and names in escapes */
    {"{\"at\":1,\"name\":\"" HI "\",\"user\":{\"a\":{},\"e-mail\":\"" HI "\",\"name\":\"x\"}}",
     "{\"at\":1,\"name\":\"" HASH "\",\"user\":{\"a\":{},\"e-mail\":\"" HASH "\",\"name\":\"x\"}}"},
    {"{\"at\":1,\"n\\u0061me\":\"\\u0048i\\u0020There\"}",
     "{\"at\":1,\"n\\u0061me\":\"" HASH "\"}"},
    {"{\"at\":1,\"q\":\"\\\"name\\\":\",\"name\":\"" HI "\",\"z\":\"}\\\\\"}",
     "{\"at\":1,\"q\":\"\\\"name\\\":\",\"name\":\"" HASH "\",\"z\":\"}\\\\\"}"},
    /* null stays; what a later member overrides is masked as well */
    {"{\"at\":1,\"name\":\"" HI "\",\"user\":{\"e-mail\":null}}",
     "{\"at\":1,\"name\":\"" HASH "\",\"user\":{\"e-mail\":null}}"},
    {"{\"at\":1,\"name\":\"" HI "\",\"name\":{\"s\":[\"secret\"]},\"name\":5,\"name\":\"" HI "\"}",
     "{\"at\":1,\"name\":\"" HASH "\",\"name\":null,\"name\":null,\"name\":\"" HASH "\"}"},
    {"{\"user\":{\"e-mail\":\"" HI "\"},\"user\":7,\"at\":1,\"name\":\"" HI "\"}",
     "{\"user\":{\"e-mail\":\"" HASH "\"},\"user\":7,\"at\":1,\"name\":\"" HASH "\"}"},
    {"{\"user\":[{\"e-mail\":\"x\"}],\"at\":1,\"name\":\"" HI "\"}",
     "{\"user\":[{\"e-mail\":\"x\"}],\"at\":1,\"name\":\"" HASH "\"}"},
    /* a derived field that fails does not hide the fields */
    {"{\"at\":1,\"name\":\"" HI "\",\"n\":0}", "{\"at\":1,\"name\":\"" HASH "\",\"n\":0}"},
    /* no event of the source */
    {"{\"at\":1,\"name\":\"" HI "\"", NULL},
    {"{\"at\":1,\"Name\":\"" HI "\"}", NULL},
    {"{\"at\":1,\"name\":7}", NULL},
    {"{\"at\":\"1\",\"name\":\"" HI "\"}", NULL},
    {"[\"" HI "\"]", NULL},
    {HI, NULL},
    {"", NULL},
};

static void test_records(void **state)
{
    (void)state;
    struct source *source = make_source();
    struct record_mask *masker;
    write_rfc_key("");
    assert_ok(record_mask_create(source, &masker, &error));
    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
        const char *out;
        size_t length;
        assert_ok(record_mask_apply(masker, records[i].value, strlen(records[i].value), &out,
                                    &length, &error));
        if (records[i].masked == NULL) {
            assert_null(out);
            assert_int_equal(length, 0);
            continue;
        }
        assert_non_null(out);
        if (length != strlen(records[i].masked) || memcmp(out, records[i].masked, length) != 0)
            fail_msg("%.*s, not %s", (int)length, out, records[i].masked);
    }
    record_mask_destroy(masker);
    source_destroy(source);
}

/* Parsing the masked record gives what parsing the original with the key gives. */
static void test_masked_twice_never(void **state)
{
    (void)state;
    struct source *source = make_source();
    struct record_mask *masker;
    struct event_parser *parsers[2];
    struct mask *mask;
    write_rfc_key("");
    assert_ok(mask_create(source, &mask, &error));
    assert_ok(record_mask_create(source, &masker, &error));
    char *paths = mask_paths_text(source);
    assert_string_equal(paths, "[[\"name\"],[\"user\",\"e-mail\"]]");
    assert_int_equal(mask_fields_in(source, paths), 3);
    assert_int_equal(mask_fields_in(source, "[[\"user\",\"e-mail\"],[\"other\"]]"), 2);
    assert_int_equal(mask_fields_in(source, NULL), 0);
    for (int i = 0; i < 2; i++)
        assert_ok(event_parser_create(source, &parsers[i], &error));
    event_parser_mask(parsers[0], mask, 0);
    event_parser_mask(parsers[1], mask, mask_fields_in(source, paths));
    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
        const char *value = records[i].value;
        const char *masked;
        size_t length;
        struct event a;
        struct event b;
        assert_ok(record_mask_apply(masker, value, strlen(value), &masked, &length, &error));
        enum status original =
            event_parser_parse(parsers[0], value, strlen(value), strlen(value), &a, &error);
        if (masked == NULL) {
            assert_int_equal(original, STATUS_REJECT);
            assert_null(a.fields);
            continue;
        }
        assert_int_equal(event_parser_parse(parsers[1], masked, length, length, &b, &error),
                         original);
        if (original != STATUS_OK)
            continue;
        for (size_t f = 0; f < source->field_count; f++) {
            assert_int_equal(a.fields[f].is_null, b.fields[f].is_null);
            assert_int_equal(value_compare(&a.fields[f], &b.fields[f]), 0);
        }
        assert_int_equal(a.fields[1].string.length, MASK_BYTES);
        assert_memory_equal(a.fields[1].string.data, hi_there, MASK_BYTES);
    }
    free(paths);
    event_parser_destroy(parsers[0]);
    event_parser_destroy(parsers[1]);
    record_mask_destroy(masker);
    mask_destroy(mask);
    source_destroy(source);
}

/* A segment tells what was masked in it. */
static void test_segment(void **state)
{
    (void)state;
    static const char paths[] = "[[\"name\"]]";
    for (int masked = 0; masked < 2; masked++) {
        struct archive_writer *writer;
        struct archive_reader *reader;
        struct archive_segment segment;
        struct archive_record record = {.offset = 7, .value = "{}", .length = 2, .readable = 2};
        bool end;
        assert_ok(archive_writer_create(directory, masked ? "a" : "b", 0, 7, &writer, &error));
        if (masked)
            assert_ok(archive_writer_set_masked(writer, paths, &error));
        assert_ok(archive_writer_add(writer, &record, &error));
        assert_ok(archive_writer_finish(writer, 8, &segment, &error));
        archive_writer_destroy(writer);
        assert_ok(archive_reader_open(directory, &segment, &reader, &error));
        if (masked)
            assert_string_equal(archive_reader_masked(reader), paths);
        else
            assert_null(archive_reader_masked(reader));
        assert_ok(archive_reader_next(reader, &record, &end, &error));
        assert_false(end);
        assert_ok(archive_reader_next(reader, &record, &end, &error));
        assert_true(end);
        archive_reader_close(reader);
        archive_segment_deinit(&segment);
    }
}

static int setup(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(key_file, sizeof key_file, "%s/key", directory);
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_key_faults),
        cmocka_unit_test(test_parser_without_key),
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_masked_twice_never),
        cmocka_unit_test(test_segment),
    };
    return cmocka_run_group_tests_name("masks", tests, setup, teardown);
}
