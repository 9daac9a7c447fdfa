/* The walk over a record's tokens: is it JSON, and which tokens stand on the fields' paths?
 *
 * The walk goes over every token once. It checks their order, every scalar and every escape, and
 * notes for each leaf of the field trie which token was the last to stand at its path. Where a
 * member name occurs twice in one object the last one counts, and forgets what an earlier one had
 * inside. Nothing is converted here and nothing allocated. One thread. */
#ifndef DOVETAIL_EVENT_WALK_H
#define DOVETAIL_EVENT_WALK_H

#include <stdint.h>

#include "core/base/error.h"
#include "core/records/event_parser.h"
#include "core/records/field_trie.h"

enum token_kind {
    TOKEN_MISSING,
    TOKEN_NULL,
    TOKEN_TRUE,
    TOKEN_FALSE,
    TOKEN_INTEGER, /* a number without fraction and exponent */
    TOKEN_NUMBER,
    TOKEN_STRING, /* without a backslash */
    TOKEN_ESCAPED_STRING,
    TOKEN_OBJECT,
    TOKEN_ARRAY,
};

/* A token's bytes in the record; a string's without the quotes. */
struct token_text {
    const char *text;
    size_t length;
};

/* An object or array that the walk is inside of. */
struct event_frame {
    struct field_trie *node;   /* of an object on some field's path, else NULL */
    struct field_trie **guess; /* see field_trie_find */
    bool is_array;
};

/* What a parser keeps from record to record. The owner fills root, kinds and tokens. */
struct event_walk {
    struct field_trie *root; /* NULL: only check */
    uint32_t leaf_count;
    uint8_t *kinds;            /* enum token_kind, one for each leaf */
    struct token_text *tokens; /* one for each leaf; set where the kind is a string or number */
    struct event_frame frames[EVENT_DEPTH_MAX];
};

/* Walks `length` bytes with the tokens that json_index_build found there, count > 0, and sets kinds
 * and tokens. `scratch` has room for `length` bytes and FIELD_TRIE_KEY_PADDING_BYTES;
 * EVENT_PADDING_BYTES are readable behind the record. STATUS_REJECT with what is wrong and where;
 * kinds and tokens then mean nothing. */
enum status event_walk_record(struct event_walk *state, const char *json, size_t length,
                              const uint32_t *starts, size_t count, char *scratch,
                              struct error *error) MUST_CHECK;

#endif
