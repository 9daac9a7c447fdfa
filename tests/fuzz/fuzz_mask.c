/* Masked records: what is stored of a record has the hashes, is JSON like it, and gives the same
 * event as the record itself does under the mask.
 *
 * Input: the record. */
#include "tests/fuzz/fuzz.h"

#include "core/records/event_parser.h"
#include "core/records/mask.h"

static struct source *source;
static struct event_parser *parser, *reader;
static struct mask *mask;
static struct record_mask *masker;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char key[] = "0123456789abcdef0123456789abcdef";
    char json[1000];
    struct error error;
    int file = fuzz_file_create();
    (void)argc, (void)argv;
    fuzz_file_write(file, key, strlen(key));
    snprintf(json, sizeof json,
             "{\"source\":\"s\",\"topic\":\"t\",\"event_time\":{\"field\":\"t\",\"format\":"
             "\"epoch_us\"},\"fields\":{\"t\":\"integer\",\"a\":\"string\",\"b\":{\"type\":"
             "\"string\",\"path\":\"c.b\",\"nullable\":true},\"d\":{\"type\":\"decimal\","
             "\"nullable\":true}},\"mask\":{\"fields\":[\"a\",\"b\"],\"key_file\":\"" FUZZ_FILES
             "/%d\"}}",
             file);
    source = fuzz_source(json);
    FUZZ_CHECK(mask_create(source, &mask, &error) == STATUS_OK &&
                   record_mask_create(source, &masker, &error) == STATUS_OK &&
                   event_parser_create(source, &parser, &error) == STATUS_OK &&
                   event_parser_create(source, &reader, &error) == STATUS_OK,
               "%s", error.text);
    event_parser_mask(parser, mask, 0);
    event_parser_mask(reader, mask, UINT64_MAX);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct event event, masked;
    struct error error = {0};
    const char *stored = NULL, *record = size == 0 ? "" : (const char *)data;
    size_t length = 0;
    FUZZ_CHECK(record_mask_apply(masker, record, size, &stored, &length, &error) == STATUS_OK, "%s",
               error.text);
    enum status status = event_parser_parse(parser, record, size, size, &event, &error);
    if (stored == NULL) {
        FUZZ_CHECK(status == STATUS_REJECT, "an event, but its record cannot be masked");
        return 0;
    }
    FUZZ_CHECK(status == event_parser_parse(reader, stored, length, length, &masked, &error),
               "other verdicts on record and stored record: %s", error.text);
    if (status != STATUS_OK)
        return 0;
    FUZZ_CHECK(event.time_us == masked.time_us, "another time");
    for (size_t i = 0; i < source->field_count; i++)
        FUZZ_CHECK(value_compare(&event.fields[i], &masked.fields[i]) == 0, "another %s",
                   source->fields[i].name);
    for (size_t i = 0; i < source->mask_count; i++) {
        const struct value *value = &masked.fields[source->mask_fields[i]];
        FUZZ_CHECK(value->is_null || (value->string.length == MASK_BYTES &&
                                      strspn(value->string.data, "0123456789abcdef") >= MASK_BYTES),
                   "%s is not masked", source->fields[source->mask_fields[i]].name);
    }
    return 0;
}
