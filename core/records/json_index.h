/* Where a JSON text's tokens begin: simdjson's first stage, behind a C header.
 *
 * This is the part of JSON that wants vector instructions. simdjson's library holds it once for
 * each instruction set and picks one when the process starts, so nothing of ours is compiled for
 * more than the baseline. SIMDJSON_FORCE_IMPLEMENTATION in the environment overrides the choice.
 *
 * What stage 1 has checked when it accepts a text, and event_parser.c relies on:
 *   - every string ends, and holds neither a control character nor malformed UTF-8;
 *   - a token begins at each of { } [ ] : , outside strings, at each opening quote, and at the
 * first byte of everything else that is not white space ("scalars": numbers, literals, rubbish);
 *   - between a string's closing quote and the next token there is nothing but white space.
 * All else is the caller's to check: the order of tokens, escapes, numbers, literals.
 *
 * Source: Langdale and Lemire, "Parsing Gigabytes of JSON per Second", VLDB Journal 28 (2019),
 * section 3.1. An index belongs to one thread. */
#ifndef DOVETAIL_JSON_INDEX_H
#define DOVETAIL_JSON_INDEX_H

#include <stdint.h>

#include "core/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct json_index;

enum status json_index_create(struct json_index **out, struct error *error) MUST_CHECK;
void json_index_destroy(struct json_index *index); /* accepts NULL */

/* Indexes `length` bytes, 1 .. 2^32 - 65, behind which EVENT_PADDING_BYTES more are readable.
 * (*starts)[0 .. *count) are the tokens' offsets, ascending, and (*starts)[*count] is `length`;
 * good until the next call. STATUS_REJECT with the reason, or STATUS_FATAL when out of memory.
 * Allocates only for a text longer than all before it. */
enum status json_index_build(struct json_index *index, const char *json, size_t length,
                             const uint32_t **starts, size_t *count,
                             struct error *error) MUST_CHECK;

/* "icelake", "haswell", "westmere", "fallback", "arm64", ...; static storage. */
const char *json_index_target(void);

#ifdef __cplusplus
}
#endif
#endif
