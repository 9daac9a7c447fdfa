/* Numbers and escapes of JSON: see core/records/json_text.h. */
#include "core/records/json_text.h"

#include <stdint.h>
#include <string.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

const char *json_number_end(const char *text, bool *is_integral)
{
    *is_integral = true;
    if (*text == '-')
        text++;
    if (!is_digit(*text))
        return NULL;
    if (*text++ != '0') {
        while (is_digit(*text))
            text++;
    }
    if (*text == '.') {
        *is_integral = false;
        text++;
        if (!is_digit(*text))
            return NULL;
        while (is_digit(*text))
            text++;
    }
    if (*text == 'e' || *text == 'E') {
        *is_integral = false;
        text++;
        if (*text == '+' || *text == '-')
            text++;
        if (!is_digit(*text))
            return NULL;
        while (is_digit(*text))
            text++;
    }
    return text;
}

/* The value of the four hexadecimal digits at `text`, or -1. */
static int32_t hex4(const char *text, const char *end)
{
    if (end - text < 4)
        return -1;
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = text[i];
        int32_t digit;
        if (is_digit(c))
            digit = c - '0';
        else if (c >= 'a' && c <= 'f')
            digit = c - 'a' + 10;
        else if (c >= 'A' && c <= 'F')
            digit = c - 'A' + 10;
        else
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

static char *write_utf8(uint32_t code_point, char *out)
{
    if (code_point < 0x80) {
        *out++ = (char)code_point;
    } else if (code_point < 0x800) {
        *out++ = (char)(0xC0 | code_point >> 6);
        *out++ = (char)(0x80 | (code_point & 0x3F));
    } else if (code_point < 0x10000) {
        *out++ = (char)(0xE0 | code_point >> 12);
        *out++ = (char)(0x80 | (code_point >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code_point & 0x3F));
    } else {
        *out++ = (char)(0xF0 | code_point >> 18);
        *out++ = (char)(0x80 | (code_point >> 12 & 0x3F));
        *out++ = (char)(0x80 | (code_point >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code_point & 0x3F));
    }
    return out;
}

/* Reads what follows "\u" at *text, including the second half of a pair, and moves *text behind. */
static char *unescape_unicode(const char **text, const char *end, char *out)
{
    int32_t unit = hex4(*text, end);
    if (unit < 0 || (unit >= 0xDC00 && unit <= 0xDFFF))
        return NULL;
    *text += 4;
    uint32_t code_point = (uint32_t)unit;
    if (unit >= 0xD800 && unit <= 0xDBFF) {
        if (end - *text < 6 || (*text)[0] != '\\' || (*text)[1] != 'u')
            return NULL;
        int32_t low = hex4(*text + 2, end);
        if (low < 0xDC00 || low > 0xDFFF)
            return NULL;
        *text += 6;
        code_point = 0x10000 + ((uint32_t)(unit - 0xD800) << 10 | (uint32_t)(low - 0xDC00));
    }
    return write_utf8(code_point, out);
}

static char simple_escape(char c)
{
    switch (c) {
    case '"':
    case '\\':
    case '/':
        return c;
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return '\0';
    }
}

char *json_unescape(const char *text, const char *end, char *out)
{
    for (;;) {
        const char *escape = memchr(text, '\\', (size_t)(end - text));
        size_t plain = (size_t)((escape != NULL ? escape : end) - text);
        memcpy(out, text, plain);
        out += plain;
        if (escape == NULL)
            return out;
        text = escape + 1;
        if (text == end)
            return NULL;
        char c = *text++;
        if (c == 'u') {
            out = unescape_unicode(&text, end, out);
            if (out == NULL)
                return NULL;
        } else {
            *out = simple_escape(c);
            if (*out++ == '\0')
                return NULL;
        }
    }
}
