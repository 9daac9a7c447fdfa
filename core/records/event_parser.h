/* One record's JSON, checked everywhere, turned into the source's typed fields.
 *
 * A record is rejected when it is not a valid JSON object anywhere (not only in the fields in use),
 * misses a required field, has a value of the wrong type, or a time out of range, or where an
 * expression of a derived field fails: STATUS_REJECT with the reason. Where a member name occurs
 * twice in one object the last one counts, as in PostgreSQL's json. The only file that knows
 * simdjson is json_index.cc.
 *
 * A parser belongs to one thread. */
#ifndef DOVETAIL_EVENT_PARSER_H
#define DOVETAIL_EVENT_PARSER_H

#include "core/definitions/definition.h"
#include "core/base/error.h"
#include "core/value.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    EVENT_PADDING_BYTES = 64, /* readable bytes wanted behind a record (their content is ignored) */
    EVENT_DEPTH_MAX = 512,    /* nesting beyond this is rejected */
};

struct event {
    const struct value *fields; /* one for each of the source's fields, derived ones too */
    int64_t time_us;
    bool is_dropped; /* a field of drop_if_null is NULL: filtered for every view */
};

struct event_parser;
struct mask; /* core/records/mask.h */

/* `source` must outlive the parser; NULL makes a parser that only checks that a record is a valid
 * JSON object. */
enum status event_parser_create(const struct source *source, struct event_parser **out,
                                struct error *error) MUST_CHECK;
void event_parser_destroy(struct event_parser *parser);

/* A parser of a source with a mask gives masked values, from what `mask` (borrowed) makes of them.
 * The fields in `masked_already`, bits by their place in source->mask_fields, have them in the
 * record: it comes from the archive. Without this, and without event_parser_unmask, the parser
 * refuses to parse: STATUS_FATAL. May be called again at any time. */
void event_parser_mask(struct event_parser *parser, struct mask *mask, uint64_t masked_already);
/* Gives all values as they are: for who stores nothing. */
void event_parser_unmask(struct event_parser *parser);

/* Parses `length` bytes at `json`, of which `readable` >= length may be read; where readable is
 * less than length + EVENT_PADDING_BYTES the record is copied first. *out and its strings are good
 * until the next call. Where
 * STATUS_REJECT is for a derived field, out->fields has the others all the same; else it is NULL.
 */
enum status event_parser_parse(struct event_parser *parser, const char *json, size_t length,
                               size_t readable, struct event *out, struct error *error) MUST_CHECK;

/* The instruction set in use, for --version and benchmarks: "haswell", "westmere", "fallback", ...
 */
const char *event_parser_target(void);

#ifdef __cplusplus
}
#endif
#endif
