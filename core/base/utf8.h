/* UTF-8 as Dovetail takes it: well-formed (RFC 3629), and without U+0000, which PostgreSQL's text
 * cannot hold. Pure; any thread. */
#ifndef DOVETAIL_UTF8_H
#define DOVETAIL_UTF8_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

bool utf8_is_text(const char *data, size_t length) MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
