/* Files to import, plain or compressed, as CSV or JSON lines: whatever they hold, reading comes to
 * an end, a CSV record becomes a JSON object or is refused, and records have their lines in order.
 *
 * Input: 0 for CSV or 1 for lines, then the file. */
#include "tests/fuzz/fuzz.h"

#include <unistd.h>

#include "batch_layer/csv.h"
#include "core/records/event_parser.h"

enum { RECORDS_MAX = 20000 };

static const char source_text[] =
    "{\"source\":\"s\",\"topic\":\"t\",\"event_time\":{\"field\":\"at\",\"format\":\"epoch_ms\"},"
    "\"fields\":{\"at\":\"integer\",\"s\":{\"type\":\"string\",\"nullable\":true},"
    "\"d\":{\"type\":\"decimal\",\"nullable\":true,\"path\":\"a.d\"},"
    "\"t\":{\"type\":\"timestamp\",\"nullable\":true,\"path\":\"a.t\"},"
    "\"b\":{\"type\":\"boolean\",\"nullable\":true}}}";

static struct source *source;
static struct event_parser *parser, *checker;
static int file;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct error error = {0};
    (void)argc, (void)argv;
    source = fuzz_source(source_text);
    FUZZ_CHECK(event_parser_create(source, &parser, &error) == STATUS_OK &&
                   event_parser_create(NULL, &checker, &error) == STATUS_OK,
               "%s", error.text);
    file = fuzz_file_create();
    return 0;
}

static void check_record(const struct csv_layout *layout, const struct csv_record *record)
{
    struct error error = {0};
    struct event event;
    char *json = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&json, &length);
    if (out == NULL)
        abort();
    enum status status = csv_layout_write(layout, record, out, &error);
    fclose(out);
    if (status != STATUS_OK) {
        FUZZ_CHECK(status == STATUS_REJECT, "status %d: %s", (int)status, error.text);
        fuzz_check_refusal(status, &error);
    } else {
        /* an event is for the parser of the source to judge, valid JSON is for us to write */
        status = event_parser_parse(checker, json, length, length, &event, &error);
        FUZZ_CHECK(status == STATUS_OK, "%s\n%s", error.text, json);
        status = event_parser_parse(parser, json, length, length, &event, &error);
        FUZZ_CHECK(status == STATUS_OK || status == STATUS_REJECT, "%s", error.text);
    }
    free(json);
}

static enum status read_csv(struct lines *lines, struct error *error)
{
    static const struct csv_mapping mapping = {.column = "mapped", .field = "s"};
    struct csv_reader *reader = NULL;
    struct csv_layout *layout = NULL;
    struct csv_record record;
    bool end = false;
    int64_t last_line = 0;
    enum status status = csv_reader_create(lines, &reader, error);
    for (int count = 0; status == STATUS_OK; count++) {
        status = csv_reader_next(reader, &record, &end, error);
        if (status != STATUS_OK || end)
            break;
        FUZZ_CHECK(count < RECORDS_MAX, "more records than bytes");
        FUZZ_CHECK(record.line > last_line && record.last_line >= record.line, "lines %lld to %lld",
                   (long long)record.line, (long long)record.last_line);
        last_line = record.last_line;
        if (record.fault != NULL)
            continue;
        size_t bytes = 0;
        for (size_t i = 0; i < record.field_count; i++)
            bytes += strnlen(record.fields[i].data, record.fields[i].length);
        FUZZ_CHECK(bytes <= record.length, "fields are longer than their record");
        if (layout != NULL) {
            check_record(layout, &record);
            continue;
        }
        status =
            csv_layout_create(source, &record, &mapping, record.field_count % 2, &layout, error);
    }
    csv_layout_destroy(layout);
    csv_reader_destroy(reader);
    return status;
}

static enum status read_lines(struct lines *lines, struct error *error)
{
    static volatile size_t sink;
    char checksum[LINES_CHECKSUM_BYTES];
    const char *line = NULL;
    size_t length;
    enum status status;
    while ((status = lines_next(lines, &line, &length, error)) == STATUS_OK && line != NULL) {
        FUZZ_CHECK(memchr(line, '\n', length) == NULL, "a line with a line feed");
        sink += strnlen(line, length);
    }
    lines_checksum(lines, checksum);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    struct lines *lines = NULL;
    struct error error = {0};
    bool is_csv = fuzz_byte(&input) % 2 == 0;
    fuzz_file_write(file, input.data == NULL ? (const uint8_t *)"" : input.data, input.length);
    if (lseek(file, 0, SEEK_SET) != 0)
        abort();
    enum status status = lines_open_fd(file, "input", &lines, &error);
    if (status == STATUS_OK)
        status = is_csv ? read_csv(lines, &error) : read_lines(lines, &error);
    if (status != STATUS_OK)
        FUZZ_CHECK(error.text[0] != '\0', "no text");
    lines_close(lines);
    return 0;
}
