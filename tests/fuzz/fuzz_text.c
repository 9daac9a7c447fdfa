/* Numbers, times, durations and values in text: refused, or they come back from what is written of
 * them; and what is cut out of a longer text is read no further than it goes.
 *
 * Input: the kind, then the text. */
#include "tests/fuzz/fuzz.h"

#include "core/functions/time_text.h"
#include "core/numbers/decimal.h"
#include "core/program/config_options.h"
#include "core/time/duration.h"
#include "core/time/timestamp.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    return 0;
}

static void check_decimal(const char *text, size_t length)
{
    struct decimal decimal, again;
    char shown[DECIMAL_TEXT_SIZE];
    if (decimal_parse(text, length, &decimal) != DECIMAL_OK)
        return;
    struct value value = value_decimal(decimal);
    fuzz_check_value(&value, VALUE_DECIMAL);
    size_t shown_length = decimal_format(&decimal, shown, sizeof shown);
    FUZZ_CHECK(decimal_parse(shown, shown_length, &again) == DECIMAL_OK &&
                   again.coefficient == decimal.coefficient && again.scale == decimal.scale,
               "%s does not come back", shown);
    again = decimal_trim(&decimal);
    FUZZ_CHECK(decimal_equal(&decimal, &again) && again.scale <= decimal.scale, "trimmed: %s",
               shown);
    for (int64_t units = 1; units <= 1000000; units *= 1000) {
        int64_t us;
        if (timestamp_from_epoch(&decimal, units, &us) == TIMESTAMP_OK)
            FUZZ_CHECK(timestamp_in_range(us), "%s is a time out of range", shown);
    }
}

static void check_time(int64_t us, bool in_range)
{
    char shown[TIMESTAMP_TEXT_SIZE];
    int64_t again;
    FUZZ_CHECK(!in_range || timestamp_in_range(us), "a time out of range");
    size_t length = timestamp_format(us, shown, sizeof shown);
    FUZZ_CHECK(timestamp_parse_rfc3339(shown, length, &again) == TIMESTAMP_OK && again == us,
               "%s does not come back", shown);
}

static void check_times(const char *text, size_t length)
{
    int64_t us, other;
    enum timestamp_status strict = timestamp_parse_rfc3339(text, length, &us);
    if (strict == TIMESTAMP_OK) {
        check_time(us, true);
        FUZZ_CHECK(timestamp_parse_date_or_rfc3339(text, length, &other) == TIMESTAMP_OK &&
                       other == us,
                   "the more tolerant form reads another time");
    } else if (timestamp_parse_date_or_rfc3339(text, length, &us) == TIMESTAMP_OK) {
        check_time(us, true);
        FUZZ_CHECK(us % TIMESTAMP_US_PER_DAY == 0, "a date is no midnight");
    }
    if (time_text_parse(text, length, &us) == TIME_TEXT_OK)
        check_time(us, true);
}

static void check_durations(const char *text, size_t length)
{
    static const char *const units[] = {NULL, "second", "day", "month", "year"};
    int64_t us, again, bytes;
    char shown[DURATION_TEXT_SIZE];
    struct interval interval;
    if (duration_parse(text, length, &us) == DURATION_OK) {
        size_t shown_length = duration_format(us, shown, sizeof shown);
        FUZZ_CHECK(us > 0 && duration_parse(shown, shown_length, &again) == DURATION_OK &&
                       again == us,
                   "%s does not come back", shown);
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (time_text_parse_interval(text, length, units[i], &interval))
            (void)interval_span_us(&interval);
    if (config_parse_size(text, &bytes)) {
        FUZZ_CHECK(bytes >= 0, "a negative size");
        FUZZ_CHECK(config_parse_size(config_format_size(bytes, shown, sizeof shown), &again) &&
                       again == bytes,
                   "%s does not come back", shown);
    }
}

static void check_values(const char *text, size_t length)
{
    for (enum value_type type = VALUE_STRING; type <= VALUE_TIMESTAMP; type++) {
        struct value value, again;
        struct error error = {0};
        struct arena arena;
        enum status status = value_parse(type, text, length, &value, &error);
        if (status != STATUS_OK) {
            fuzz_check_refusal(status, &error);
            continue;
        }
        arena_init(&arena);
        fuzz_check_value(&value, type);
        size_t shown_length;
        const char *shown = value_text(&value, &arena, &shown_length);
        FUZZ_CHECK(shown != NULL &&
                       value_parse(type, shown, shown_length, &again, &error) == STATUS_OK &&
                       value_compare(&value, &again) == 0,
                   "\"%s\" does not come back as %s", shown, value_type_name(type));
        arena_deinit(&arena);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    size_t kind = fuzz_below(&input, 4);
    /* with a 0 behind it, for those that read to the 0; the others stop before it */
    char *text = fuzz_string(input);
    size_t length = input.length;
    switch (kind) {
    case 0:
        check_decimal(text, length);
        break;
    case 1:
        check_times(text, length);
        break;
    case 2:
        check_durations(text, strlen(text));
        break;
    default:
        if (fuzz_is_text(text, length)) /* as whoever asks has made sure */
            check_values(text, length);
    }
    free(text);
    return 0;
}
