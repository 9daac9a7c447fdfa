/* What fuzz targets share: see fuzz.h. */
#include "tests/fuzz/fuzz.h"

#include <jansson.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/definitions/definition.h"
#include "core/time/timestamp.h"
#include "tests/support/measure_texts.h"

const char *const fuzz_source_json = measure_source_json;

/* --- faults --- */

/* Well-formed UTF-8 without U+0000, by The Unicode Standard, table 3-7. */
bool fuzz_is_text(const char *data, size_t length)
{
    const unsigned char *at = (const unsigned char *)data, *end = at + length;
    while (at < end) {
        unsigned char lead = *at++;
        if (lead >= 0x01 && lead <= 0x7F)
            continue;
        int more = lead >= 0xC2 && lead <= 0xDF   ? 1
                   : lead >= 0xE0 && lead <= 0xEF ? 2
                   : lead >= 0xF0 && lead <= 0xF4 ? 3
                                                  : 0;
        unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        if (more == 0 || end - at < more || *at < low || *at > high)
            return false;
        for (at++; --more > 0; at++)
            if (*at < 0x80 || *at > 0xBF)
                return false;
    }
    return true;
}

void fuzz_fail(const char *file, int line, const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "%s:%d: ", file, line);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

void fuzz_check_refusal(enum status status, const struct error *error)
{
    FUZZ_CHECK(status == STATUS_REJECT || status == STATUS_FATAL, "status %d", (int)status);
    FUZZ_CHECK(error->status == status, "status %d, but the error's is %d", (int)status,
               (int)error->status);
    size_t length = strnlen(error->text, sizeof error->text);
    FUZZ_CHECK(length > 0 && length < sizeof error->text, "a text of %zu bytes", length);
    FUZZ_CHECK(strcmp(error->text, "out of memory") != 0, "out of memory");
}

void fuzz_check_value(const struct value *value, enum value_type type)
{
    static const int128 limit = (int128)1000000000000000000 * 1000000000000000000 * 100;
    FUZZ_CHECK(value->type == type, "a value of type %d, not %d", (int)value->type, (int)type);
    if (value->is_null)
        return;
    if (type == VALUE_STRING) {
        const char *data = value->string.data;
        size_t length = value->string.length;
        FUZZ_CHECK(fuzz_is_text(data, length), "a string that is not UTF-8 without U+0000");
    } else if (type == VALUE_DECIMAL) {
        int128 coefficient = value->decimal.coefficient;
        FUZZ_CHECK(coefficient > -limit && coefficient < limit && value->decimal.scale >= 0 &&
                       value->decimal.scale <= DECIMAL_MAX_SCALE,
                   "a decimal that is too long");
    } else if (type == VALUE_TIMESTAMP) {
        FUZZ_CHECK(timestamp_in_range(value->timestamp_us), "a time out of range");
    }
}

/* --- inputs --- */

uint8_t fuzz_byte(struct fuzz_input *input)
{
    if (input->length == 0)
        return 0;
    input->length--;
    return *input->data++;
}

uint64_t fuzz_number(struct fuzz_input *input, size_t bytes)
{
    uint64_t number = 0;
    for (size_t i = 0; i < bytes; i++)
        number |= (uint64_t)fuzz_byte(input) << (8 * i);
    return number;
}

size_t fuzz_below(struct fuzz_input *input, size_t bound)
{
    return (size_t)fuzz_number(input, bound > 256 ? 2 : 1) % bound;
}

struct fuzz_input fuzz_take(struct fuzz_input *input, size_t length)
{
    struct fuzz_input taken = {input->data, length < input->length ? length : input->length};
    if (taken.length > 0)
        input->data += taken.length;
    input->length -= taken.length;
    return taken;
}

struct fuzz_input fuzz_take_text(struct fuzz_input *input)
{
    const uint8_t *end = input->length == 0 ? NULL : memchr(input->data, '\0', input->length);
    struct fuzz_input taken =
        fuzz_take(input, end == NULL ? input->length : (size_t)(end - input->data));
    (void)fuzz_byte(input);
    return taken;
}

char *fuzz_string(struct fuzz_input text)
{
    char *copy = malloc(text.length + 1);
    if (copy == NULL)
        abort();
    if (text.length > 0)
        memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';
    return copy;
}

char *fuzz_rest(struct fuzz_input *input)
{
    return fuzz_string(fuzz_take_text(input));
}

static struct value string_value(struct fuzz_input *input, struct arena *arena)
{
    static const char *const strings[] = {"", "a", "ab", "\xC3\xA9", "2024-02-29", "12.50", "%_\\"};
    size_t kind = fuzz_below(input, 16);
    if (kind < sizeof strings / sizeof strings[0])
        return value_string(strings[kind], strlen(strings[kind]));
    struct fuzz_input text = fuzz_take(input, kind == 15 ? fuzz_byte(input) : kind);
    bool good = text.length > 0 && fuzz_is_text((const char *)text.data, text.length);
    char *copy = arena_copy(arena, good ? (const char *)text.data : "?", good ? text.length : 1);
    if (copy == NULL)
        abort();
    return value_string(copy, good ? text.length : 1);
}

static struct value decimal_value(struct fuzz_input *input)
{
    static const int128 limit = (int128)1000000000000000000 * 1000000000000000000 * 100;
    struct decimal decimal = {.scale = (int32_t)fuzz_below(input, DECIMAL_MAX_SCALE + 1)};
    size_t kind = fuzz_below(input, 4);
    if (kind == 0)
        decimal.coefficient = (int8_t)fuzz_byte(input);
    else if (kind == 1)
        decimal.coefficient = (int64_t)fuzz_number(input, 8);
    else if (kind == 2)
        decimal.coefficient = (int128)(int64_t)fuzz_number(input, 8) * 1000000000000000000;
    else
        decimal.coefficient = limit - 1;
    return value_decimal(decimal);
}

struct value fuzz_value(struct fuzz_input *input, enum value_type type, struct arena *arena)
{
    static const int64_t integers[] = {0, 1, -1, INT64_MAX, INT64_MIN, INT64_MIN + 1, 100, 1000000};
    uint8_t kind = fuzz_byte(input);
    if (kind % 8 == 7)
        return value_null(type);
    switch (type) {
    case VALUE_STRING:
        return string_value(input, arena);
    case VALUE_INTEGER:
        return value_integer(kind % 2 == 0 ? integers[kind / 2 % 8]
                                           : (int64_t)fuzz_number(input, 8));
    case VALUE_DECIMAL:
        return decimal_value(input);
    case VALUE_BOOLEAN:
        return value_boolean(kind % 2 == 0);
    case VALUE_TIMESTAMP: {
        if (kind % 4 == 0)
            return value_timestamp(kind % 16 == 0 ? TIMESTAMP_MIN_US : TIMESTAMP_END_US - 1);
        uint64_t span = (uint64_t)(TIMESTAMP_END_US - TIMESTAMP_MIN_US);
        return value_timestamp(TIMESTAMP_MIN_US + (int64_t)(fuzz_number(input, 8) % span));
    }
    case VALUE_INTEGERS:
        break;
    }
    return value_null(type);
}

/* --- definitions --- */

struct source *fuzz_source(const char *text)
{
    struct source *source = NULL;
    struct error error = {0};
    json_t *json = json_loads(text, 0, NULL);
    FUZZ_CHECK(source_create(json, "source", &source, &error) == STATUS_OK, "%s", error.text);
    json_decref(json);
    return source;
}

struct view *fuzz_view(const char *text, const struct source *source)
{
    struct view *view = NULL;
    struct error error = {0};
    json_t *json = json_loads(text, 0, NULL);
    FUZZ_CHECK(view_create(json, "view", source, &view, &error) == STATUS_OK, "%s", error.text);
    json_decref(json);
    return view;
}

/* --- files --- */

int fuzz_file_create(void)
{
    int file = memfd_create("fuzz", MFD_CLOEXEC);
    if (file < 0)
        abort();
    return file;
}

void fuzz_file_write(int file, const void *data, size_t length)
{
    if (ftruncate(file, 0) != 0 || pwrite(file, data, length, 0) != (ssize_t)length)
        abort();
}
