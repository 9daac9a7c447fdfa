/* The text that answers are written into: see core/query/query_text.h. */
#include "core/query/query_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/time/timestamp.h"

static bool reserve(struct query_text *text, size_t more)
{
    if (text->failed)
        return false;
    if (text->capacity - text->length >= more)
        return true;
    size_t capacity = text->capacity == 0 ? 4096 : 2 * text->capacity;
    while (capacity - text->length < more)
        capacity *= 2;
    char *data = realloc(text->data, capacity);
    if (data == NULL) {
        text->failed = true;
        return false;
    }
    text->data = data;
    text->capacity = capacity;
    return true;
}

void query_put(struct query_text *text, const char *data, size_t length)
{
    if (length > 0 && reserve(text, length)) {
        memcpy(text->data + text->length, data, length);
        text->length += length;
    }
}

void query_put_text(struct query_text *text, const char *string)
{
    query_put(text, string, strlen(string));
}

void query_put_format(struct query_text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    va_list again;
    va_copy(again, arguments);
    size_t room = reserve(text, 128) ? text->capacity - text->length : 0;
    int length = vsnprintf(room > 0 ? text->data + text->length : NULL, room, format, arguments);
    if (length >= 0 && (size_t)length >= room && reserve(text, (size_t)length + 1))
        length = vsnprintf(text->data + text->length, (size_t)length + 1, format, again);
    if (length < 0)
        text->failed = true;
    else if (!text->failed)
        text->length += (size_t)length;
    va_end(again);
    va_end(arguments);
}

void query_put_char(struct query_text *text, char c)
{
    query_put(text, &c, 1);
}

void query_put_spaces(struct query_text *text, size_t count)
{
    for (; count > 0; count--)
        query_put_char(text, ' ');
}

void query_put_integer(struct query_text *text, int64_t integer)
{
    char digits[24];
    char *at = digits + sizeof digits;
    uint64_t rest = integer < 0 ? 0 - (uint64_t)integer : (uint64_t)integer;
    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (integer < 0)
        *--at = '-';
    query_put(text, at, (size_t)(digits + sizeof digits - at));
}

void query_put_time(struct query_text *text, int64_t us)
{
    char buffer[TIMESTAMP_TEXT_SIZE];
    query_put(text, buffer, timestamp_format(us, buffer, sizeof buffer));
}

/* Terminates the text and gives it away; NULL when memory was short. */
char *query_text_take(struct query_text *text, size_t *length)
{
    *length = text->length;
    query_put_char(text, '\0');
    if (text->failed) {
        free(text->data);
        text->data = NULL;
    }
    return text->data;
}

const char *query_text_keep(struct query_text *text, struct arena *arena)
{
    const char *copy = NULL;
    if (!text->failed)
        copy = arena_copy(arena, text->data != NULL ? text->data : "", text->length);
    free(text->data);
    *text = (struct query_text){0};
    return copy;
}

void query_put_array(struct query_text *text, const struct value *value, char open, char close)
{
    query_put_char(text, open);
    for (size_t i = 0; i < value->integers.count; i++) {
        if (i > 0)
            query_put_char(text, ',');
        query_put_integer(text, value->integers.data[i]);
    }
    query_put_char(text, close);
}

/* Anything but a string, which needs its format's quoting. */
void query_put_plain(struct query_text *text, const struct value *value)
{
    char buffer[DECIMAL_TEXT_SIZE];
    switch (value->type) {
    case VALUE_INTEGER:
        query_put_integer(text, value->integer);
        break;
    case VALUE_DECIMAL: {
        struct decimal trimmed = decimal_trim(&value->decimal);
        query_put(text, buffer, decimal_format(&trimmed, buffer, sizeof buffer));
        break;
    }
    case VALUE_BOOLEAN:
        query_put_text(text, value->boolean ? "true" : "false");
        break;
    case VALUE_TIMESTAMP:
        query_put_time(text, value->timestamp_us);
        break;
    case VALUE_STRING:
        query_put(text, value->string.data, value->string.length);
        break;
    case VALUE_INTEGERS:
        query_put_array(text, value, '{', '}');
        break;
    }
}

void query_put_escape(struct query_text *text, unsigned char c)
{
    static const char digits[] = "0123456789abcdef";
    char escape[] = "\\u00__";
    switch (c) {
    case '"':
        query_put(text, "\\\"", 2);
        return;
    case '\\':
        query_put(text, "\\\\", 2);
        return;
    case '\n':
        query_put(text, "\\n", 2);
        return;
    case '\r':
        query_put(text, "\\r", 2);
        return;
    case '\t':
        query_put(text, "\\t", 2);
        return;
    default:
        escape[4] = digits[c >> 4];
        escape[5] = digits[c & 15];
        query_put(text, escape, 6);
    }
}

const char *query_key_name(const struct query_answer *answer, size_t index)
{
    return answer->view->keys[answer->keys[index]].name;
}

const char *query_measure_name(const struct query_answer *answer, size_t index)
{
    return answer->view->measures[answer->measures[index]].name;
}

/* RFC 8259, section 7: quotation mark, reverse solidus and controls must be escaped. */
void query_put_json_string(struct query_text *text, const char *data, size_t length)
{
    query_put_char(text, '"');
    size_t start = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)data[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        query_put(text, data + start, i - start);
        query_put_escape(text, c);
        start = i + 1;
    }
    query_put(text, data + start, length - start);
    query_put_char(text, '"');
}

void query_put_csv_string(struct query_text *text, const char *data, size_t length)
{
    bool plain = length > 0;
    for (size_t i = 0; i < length && plain; i++)
        plain = strchr(",\"\r\n", data[i]) == NULL;
    if (plain) {
        query_put(text, data, length);
        return;
    }
    query_put_char(text, '"');
    for (size_t i = 0; i < length; i++) {
        if (data[i] == '"')
            query_put_char(text, '"');
        query_put_char(text, data[i]);
    }
    query_put_char(text, '"');
}
