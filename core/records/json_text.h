/* The two lexical rules of JSON that an index of tokens does not check: numbers and escapes.
 *
 * Pure functions; any thread. Source: RFC 8259, sections 6 and 7. */
#ifndef DOVETAIL_JSON_TEXT_H
#define DOVETAIL_JSON_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The end of the number that begins at `text`, or NULL when none does; *is_integral tells that it
 * has neither fraction nor exponent. There must be a readable byte behind the number that is no
 * part of one; the function reads up to it. */
const char *json_number_end(const char *text, bool *is_integral) MUST_CHECK;

/* Writes the bytes that the string content [text, end), without its quotes, stands for, to `out`,
 * which must have room for end - text bytes, and returns where they end. NULL for an escape that is
 * none, \u without four hexadecimal digits and half of a surrogate pair. Other bytes are copied
 * unchecked. The result may contain U+0000. */
char *json_unescape(const char *text, const char *end, char *out) MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
