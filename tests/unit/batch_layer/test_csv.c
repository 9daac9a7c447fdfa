/* CSV: records, faults that must not take their neighbours along, and the JSON of a source's
 * fields. The file goes through core/input/lines, as in the program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "batch_layer/csv.h"

static struct error error;
static struct lines *lines;
static struct csv_reader *reader;
static FILE *file;
static struct source *source;

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        if ((call) != STATUS_OK)                                                                   \
            fail_msg("%s: %s", #call, error.text);                                                 \
    } while (0)

static void close_text(void)
{
    csv_reader_destroy(reader);
    lines_close(lines);
    if (file != NULL)
        fclose(file);
    reader = NULL;
    lines = NULL;
    file = NULL;
}

static void open_bytes(const char *text, size_t length)
{
    close_text();
    file = tmpfile();
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, length, file), length);
    fflush(file);
    assert_int_equal(lseek(fileno(file), 0, SEEK_SET), 0);
    assert_ok(lines_open_fd(fileno(file), "test", &lines, &error));
    assert_ok(csv_reader_create(lines, &reader, &error));
}

/* Each record as "line:a|b" or "line-last:!text" where it is at fault. */
static void assert_records(const char *text, size_t length, const char *const *expected)
{
    open_bytes(text, length);
    for (;;) {
        struct csv_record record;
        bool end;
        char *shown = NULL;
        size_t size = 0;
        assert_ok(csv_reader_next(reader, &record, &end, &error));
        if (end)
            break;
        FILE *out = open_memstream(&shown, &size);
        fprintf(out, "%d", (int)record.line);
        if (record.last_line != record.line)
            fprintf(out, "-%d", (int)record.last_line);
        if (record.fault != NULL)
            fprintf(out, ":!%.*s", (int)record.length, record.text);
        for (size_t i = 0; record.fault == NULL && i < record.field_count; i++)
            fprintf(out, "%s%s%.*s", i == 0 ? ":" : "|", record.fields[i].quoted ? "'" : "",
                    (int)record.fields[i].length, record.fields[i].data);
        fclose(out);
        assert_non_null(*expected);
        assert_string_equal(shown, *expected++);
        free(shown);
    }
    assert_null(*expected);
}

#define RECORDS(text, ...)                                                                         \
    assert_records(text, sizeof(text) - 1, (const char *const[]){__VA_ARGS__, NULL})

static void test_records(void **state)
{
    (void)state;
    RECORDS("a,b\n1,2\n", "1:a|b", "2:1|2");
    RECORDS("a,b\r\n1,\r\n\r\n,\r\n", "1:a|b", "2:1|", "4:|");
    RECORDS("\"a\",\"b\"\"c\"\n\"\",x", "1:'a|'b\"c", "2:'|x");
    RECORDS("\"1,2\",\"3\r\n4\n\n5\"\r\nx,y\n", "1-4:'1,2|'3\r\n4\n\n5", "5:x|y");
    RECORDS(" a , b \n", "1: a | b ");
    RECORDS("a,\"\"\"\"\n", "1:a|'\"");
}

static void test_faults_keep_to_themselves(void **state)
{
    (void)state;
    RECORDS("1,2\na\"b,3\n4,5\n", "1:1|2", "2:!a\"b,3", "3:4|5");
    RECORDS("1,\"2\"x\n4,5\n", "1:!1,\"2\"x", "2:4|5");
    RECORDS("1,\"2\n3,4\n5,6\n", "1:!1,\"2", "2:3|4", "3:5|6");
    RECORDS("1,\"2\n3,\"4\n5,\"6\"\n", "1-2:!1,\"2\n3,\"4", "3:5|'6");
    RECORDS("1,a\0b\n2,3\n", "1:!1,a", "2:2|3");
    RECORDS("\"", "1:!\"");
}

/* A quote that is never closed: everything behind its line is still there. */
static void test_an_open_quote_takes_one_line(void **state)
{
    (void)state;
    enum { LINES = 200000 };
    size_t size = 0;
    char *text = NULL;
    FILE *out = open_memstream(&text, &size);
    fputs("1,\"open\n", out);
    for (int i = 0; i < LINES; i++)
        fprintf(out, "%d,good line\n", i);
    fclose(out);
    open_bytes(text, size);
    int good = 0;
    for (bool end = false; !end;) {
        struct csv_record record;
        assert_ok(csv_reader_next(reader, &record, &end, &error));
        if (end)
            break;
        if (record.fault != NULL)
            assert_int_equal(record.line, 1);
        else
            assert_int_equal(record.line, good++ + 2);
    }
    assert_int_equal(good, LINES);
    free(text);
}

/* --- JSON --- */

static int set_up(void **state)
{
    (void)state;
    const char *text = "{\"source\":\"s\",\"topic\":\"s\","
                       " \"event_time\":{\"field\":\"at\",\"format\":\"epoch_ms\"},"
                       " \"fields\":{\"at\":\"timestamp\",\"name\":\"string\","
                       "  \"n\":{\"type\":\"integer\",\"path\":\"x.n\",\"nullable\":true},"
                       "  \"d\":{\"type\":\"decimal\",\"path\":\"x.y.d\",\"nullable\":true},"
                       "  \"b\":{\"type\":\"boolean\",\"nullable\":true},"
                       "  \"seen\":{\"type\":\"timestamp\",\"format\":\"rfc3339\","
                       "            \"path\":\"x.seen\",\"nullable\":true}}}";
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    assert_ok(source_create(json, "test", &source, &error));
    json_decref(json);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    close_text();
    source_destroy(source);
    source = NULL;
    return 0;
}

/* The status of the layout, or of the only record behind the header; *out is its JSON. */
static enum status convert(const char *text, const struct csv_mapping *mappings, size_t count,
                           char **out)
{
    struct csv_record record;
    struct csv_layout *layout = NULL;
    bool end;
    size_t size;
    *out = NULL;
    open_bytes(text, strlen(text));
    assert_ok(csv_reader_next(reader, &record, &end, &error));
    enum status status = csv_layout_create(source, &record, mappings, count, &layout, &error);
    if (status != STATUS_OK)
        return status;
    assert_ok(csv_reader_next(reader, &record, &end, &error));
    FILE *json = open_memstream(out, &size);
    status = csv_layout_write(layout, &record, json, &error);
    fclose(json);
    csv_layout_destroy(layout);
    return status;
}

static void assert_json(const char *text, const char *expected)
{
    char *json;
    assert_ok(convert(text, NULL, 0, &json));
    assert_string_equal(json, expected);
    json_t *parsed = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(parsed);
    json_decref(parsed);
    free(json);
}

static void assert_refused(const char *text, const struct csv_mapping *mappings, size_t count,
                           const char *reason)
{
    char *json;
    assert_int_equal(convert(text, mappings, count, &json), STATUS_REJECT);
    if (strstr(error.text, reason) == NULL)
        fail_msg("\"%s\" is not about %s", error.text, reason);
    free(json);
}

static void test_values(void **state)
{
    (void)state;
    assert_json("at,name\n1,a\n", "{\"at\":1,\"name\":\"a\"}");
    assert_json("name,at,n,d,b,seen\n\"a \"\"b\"\"\t\\\",0012,-7,+00.50,YES,2026-01-01T00:00:00Z\n",
                "{\"at\":12,\"b\":true,\"name\":\"a \\\"b\\\"\\u0009\\\\\","
                "\"x\":{\"n\":-7,\"seen\":\"2026-01-01T00:00:00Z\",\"y\":{\"d\":0.50}}}");
    /* Digit for digit, whatever a double could hold. */
    assert_json("at,name,d\n1,a,12345678901234567890.000000000000000010\n",
                "{\"at\":1,\"name\":\"a\","
                "\"x\":{\"y\":{\"d\":12345678901234567890.000000000000000010}}}");
    assert_json("at,name,d,n\n1,a,.5,5.\n",
                "{\"at\":1,\"name\":\"a\",\"x\":{\"n\":5,\"y\":{\"d\":0.5}}}");
    assert_json("at,name,d\n1,a,-1E+3\n", "{\"at\":1,\"name\":\"a\",\"x\":{\"y\":{\"d\":-1E+3}}}");
    /* Empty is null; in quotes it is an empty string, where the field is one. */
    assert_json("at,name,n,b\n1,,,\n", "{\"at\":1,\"b\":null,\"name\":null,\"x\":{\"n\":null}}");
    assert_json("at,name,n,b\n1,\"\",\"\",\"\"\n",
                "{\"at\":1,\"b\":null,\"name\":\"\",\"x\":{\"n\":null}}");
    /* A column may be called like the path; others are left out. */
    assert_json("x.y.d,at,other,name\n3,1,z,a\n",
                "{\"at\":1,\"name\":\"a\",\"x\":{\"y\":{\"d\":3}}}");
}

static void test_bad_values(void **state)
{
    (void)state;
    assert_refused("at,name\n1\n", NULL, 0, "1 columns, and the header 2");
    assert_refused("at,name\nx,a\n", NULL, 0, "column at: is not a number");
    assert_refused("at,name\n1 ,a\n", NULL, 0, "column at");
    assert_refused("at,name,d\n1,a,1e\n", NULL, 0, "column d");
    assert_refused("at,name,d\n1,a,.\n", NULL, 0, "column d");
    assert_refused("at,name,d\n1,a,NaN\n", NULL, 0, "column d");
    assert_refused("at,name,b\n1,a,maybe\n", NULL, 0, "column b: is not a boolean");
    assert_refused("at,name\n1,\xff\n", NULL, 0, "column name: is not valid UTF-8");
}

static void test_mappings(void **state)
{
    (void)state;
    const struct csv_mapping mappings[] = {{"when", "at"}, {"name", "n"}, {"a=b", "name"}};
    char *json;
    /* The column `name` is for another field by --map, and `at` is not needed any more. */
    assert_ok(convert("when,name,a=b,at\n5,7,c,9\n", mappings, 3, &json));
    assert_string_equal(json, "{\"at\":5,\"name\":\"c\",\"x\":{\"n\":7}}");
    free(json);
    assert_refused("name\na\n", NULL, 0, "field at: is required");
    assert_refused("at,at,name\n1,1,a\n", NULL, 0, "field at: two columns");
    assert_refused("at,name\n1,a\n", mappings, 1, "no column when");
    assert_refused("when,when,name\n1,1,a\n", mappings, 1, "two columns have this name");
    const struct csv_mapping unknown = {"at", "nothing"};
    assert_refused("at,name\n1,a\n", &unknown, 1, "has no field nothing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_records, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_faults_keep_to_themselves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_open_quote_takes_one_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_values, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_values, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_mappings, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
