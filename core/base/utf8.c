/* UTF-8: see core/base/utf8.h. The bounds of each second byte are table 3-7 of the Unicode standard
 * ("Well-Formed UTF-8 Byte Sequences"): they exclude overlong forms, surrogates and code points
 * above U+10FFFF. No state, any thread, nothing here can fail. */
#include "core/base/utf8.h"

#include <stdint.h>

/* Bytes of the character at `at`, 0 where it is not well-formed. */
static size_t character_length(const uint8_t *at, size_t left)
{
    uint8_t first = at[0];
    if (first < 0x80)
        return 1;
    size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || left < length)
        return 0;
    uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((at[i] & 0xC0) != 0x80)
            return 0;
    return length;
}

bool utf8_is_text(const char *data, size_t length)
{
    const uint8_t *bytes = (const uint8_t *)data;
    size_t i = 0;
    while (i < length) {
        size_t step = bytes[i] == 0 ? 0 : character_length(bytes + i, length - i);
        if (step == 0)
            return false;
        i += step;
    }
    return true;
}
