/* Error texts: see core/base/error.h.
 *
 * Invariant: a text is always 0-terminated, and where it was cut it was cut between two UTF-8
 * characters, because texts end up in PostgreSQL columns and in JSON replies that refuse half of
 * one. No state, any thread, nothing here can fail. */
#include "core/base/error.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Cuts `text` where its last UTF-8 character is incomplete. */
static void drop_partial_character(char *text, size_t length)
{
    size_t start = length;
    while (start > 0 && length - start < 4) {
        start--;
        unsigned char byte = (unsigned char)text[start];
        if ((byte & 0xC0) == 0x80)
            continue; /* a continuation byte: its first byte is further left */
        size_t needed = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
        if (needed > length - start)
            text[start] = '\0';
        return;
    }
}

static void format_text(char *text, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

static void format_text(char *text, const char *format, va_list arguments)
{
    int length = vsnprintf(text, ERROR_TEXT_BYTES, format, arguments);
    if (length < 0)
        text[0] = '\0';
    else if (length >= ERROR_TEXT_BYTES)
        drop_partial_character(text, ERROR_TEXT_BYTES - 1);
}

enum status error_set(struct error *error, enum status status, const char *format, ...)
{
    if (error == NULL)
        return status;
    char text[ERROR_TEXT_BYTES]; /* an argument may be error->text itself */
    va_list arguments;
    va_start(arguments, format);
    format_text(text, format, arguments);
    va_end(arguments);
    *error = (struct error){.status = status};
    memcpy(error->text, text, strlen(text) + 1);
    return status;
}

enum status error_wrap(struct error *error, const char *format, ...)
{
    assert(error != NULL);
    char context[ERROR_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    format_text(context, format, arguments);
    va_end(arguments);
    char text[2 * ERROR_TEXT_BYTES];
    int length = snprintf(text, sizeof text, "%s: %s", context, error->text);
    if (length >= ERROR_TEXT_BYTES) {
        text[ERROR_TEXT_BYTES - 1] = '\0';
        drop_partial_character(text, ERROR_TEXT_BYTES - 1);
    }
    memcpy(error->text, text, strlen(text) + 1);
    return error->status;
}

enum status error_no_memory(struct error *error)
{
    return error_set(error, STATUS_FATAL, "out of memory");
}
