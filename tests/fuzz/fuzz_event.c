/* Events: the verdict of core/records/event_parser and jansson's on the same bytes, and the same
 * fields; then a source with every type, a derived field and all that a definition can ask.
 *
 * Input: the record. */
#include "tests/fuzz/fuzz.h"
#include "tests/support/event_parser_jansson.h"

static const char all_json[] =
    "{\"source\":\"s\",\"topic\":\"t\",\"event_time\":{\"field\":\"t\",\"format\":\"rfc3339\"},"
    "\"fields\":{\"t\":\"timestamp\",\"ms\":{\"type\":\"timestamp\",\"nullable\":true,"
    "\"format\":\"epoch_ms\",\"path\":\"e\"},\"a\":{\"type\":\"decimal\",\"nullable\":true},"
    "\"b\":{\"type\":\"integer\",\"nullable\":true,\"path\":\"b.a\"},"
    "\"c\":{\"type\":\"boolean\",\"nullable\":true},\"d\":{\"type\":\"string\",\"nullable\":true}},"
    "\"derive\":{\"x\":\"a / b\",\"y\":\"d || '!'\"},\"drop_if_null\":[\"c\"]}";

static struct event_parser *checker, *parsers[RANDOM_SOURCES], *all;
static struct source *source;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    setenv("CMOCKA_TEST_ABORT", "1", 1); /* a failed assertion is a fault */
    source = fuzz_source(all_json);
    checker = parser_for(NULL);
    all = parser_for(source);
    for (size_t i = 0; i < RANDOM_SOURCES; i++)
        parsers[i] = parser_for(&random_sources[i]);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tally tally = {0};
    struct event event;
    struct error error;
    const char *record = size == 0 ? "" : (const char *)data;
    compare_record(parsers, checker, record, size, &tally);
    enum status status = parse_bytes(all, record, size, &event, &error);
    if (status != STATUS_OK) {
        FUZZ_CHECK(status == STATUS_REJECT, "status %d: %s", (int)status, error.text);
        fuzz_check_refusal(status, &error);
        return 0;
    }
    for (size_t i = 0; i < source->field_count; i++) {
        fuzz_check_value(&event.fields[i], source->fields[i].type);
        FUZZ_CHECK(!event.fields[i].is_null || source->fields[i].nullable, "%s is NULL",
                   source->fields[i].name);
    }
    struct value time = value_timestamp(event.time_us);
    fuzz_check_value(&time, VALUE_TIMESTAMP);
    return 0;
}
