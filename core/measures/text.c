/* Texts that depend on a measure's parameters. */
#include <stdarg.h>
#include <stdio.h>

#include "core/measures/kinds.h"

const char *measure_text(struct measure *measure, const char *format, ...)
{
    va_list arguments, again;

    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = length < 0 ? NULL : arena_alloc(&measure->arena, (size_t)length + 1);
    if (text != NULL) {
        vsnprintf(text, (size_t)length + 1, format, again);
    }
    va_end(again);
    return text;
}
