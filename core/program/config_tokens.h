/* `serving.tokens`: who may ask, of what, in which rows. Part of struct config.
 *
 * A token is a random secret of 256 bits that `dovetail token new` makes; the configuration has its
 * SHA-256 alone. A salted, slow hash defends secrets that can be guessed: nobody guesses this one,
 * and every request would pay for it. serving/access.c takes nothing that does not look like one,
 * so that a weaker secret cannot be used even where its hash is configured. */
#ifndef DOVETAIL_CONFIG_TOKENS_H
#define DOVETAIL_CONFIG_TOKENS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/base/arena.h"

#define TOKEN_PREFIX "dvt_"
enum {
    TOKEN_RANDOM_BYTES = 32,
    TOKEN_LENGTH = 4 + 43, /* the prefix, then base64url without padding */
    TOKEN_HASH_BYTES = 32,
    TOKEN_MAX = 1000, /* of one configuration */
};

/* Rows whose `key` is one of the values, as texts. */
struct config_row_scope {
    const char *key;
    const char *const *values;
    size_t value_count; /* at least 1 */
};

struct config_token {
    const char *name; /* for logs; unique */
    unsigned char sha256[TOKEN_HASH_BYTES];
    bool all_views;
    const char *const *views; /* where not all_views; may be none */
    size_t view_count;
    bool is_admin;
    bool all_sources;           /* may send events to every source */
    const char *const *sources; /* where not all_sources: to these; mostly none */
    size_t source_count;
    const struct config_row_scope *rows; /* all of them hold at once */
    size_t row_count;
};

/* Reads the value of `serving.tokens`. STATUS_REJECT: the text begins with the place at fault
 * ("serving.tokens[0].views: ..."), and has nothing of the value in it. Everything is in `arena`;
 * strings are borrowed from `json` or in the arena. */
enum status config_tokens_read(const json_t *json, struct arena *arena, struct config_token **out,
                               size_t *count, struct error *error) MUST_CHECK;

#endif
