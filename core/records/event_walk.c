/* The walk over a record's tokens. Contract: core/records/event_walk.h.
 *
 * Invariant: walk->next never passes the last token, which is a '}' (walk_tokens says why), and
 * what json_index.h promises about strings is relied upon. Faults are texts without a byte of the
 * record. */
#include "core/records/event_walk.h"

#include <string.h>

#include "core/records/json_text.h"

_Static_assert((int)EVENT_PADDING_BYTES >= (int)FIELD_TRIE_KEY_PADDING_BYTES,
               "keys are read past their end");

struct walk {
    struct event_walk *state;
    char *scratch; /* the last string that had an escape, without it */
    const char *scratch_end;
    const char *json;
    const uint32_t *next; /* the token that is looked at; *next is its offset */
    const uint32_t *end;  /* *end is the record's length */
    bool has_escapes;     /* there is a backslash somewhere */
    const char *fault;    /* set by whoever returns false */
};

static bool walk_fault(struct walk *walk, const char *fault)
{
    walk->fault = fault;
    return false;
}

static bool is_white_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Where the token that begins at walk->next ends. It must not be the last one. */
static inline const char *token_end(const struct walk *walk)
{
    const char *end = walk->json + walk->next[1];
    while (is_white_space(end[-1]))
        end--;
    return end;
}

/* The string at walk->next, checked; *kind says whether it needs unescaping. */
static inline bool walk_string(struct walk *walk, struct token_text *token, enum token_kind *kind)
{
    const char *text = walk->json + *walk->next + 1;
    const char *end = token_end(walk) - 1;
    if (end < text || *end != '"')
        return walk_fault(walk, "a string does not end"); /* stage 1 says this cannot be */
    *token = (struct token_text){text, (size_t)(end - text)};
    *kind = TOKEN_STRING;
    if (walk->has_escapes && memchr(text, '\\', token->length) != NULL) {
        *kind = TOKEN_ESCAPED_STRING;
        walk->scratch_end = json_unescape(text, end, walk->scratch);
        if (walk->scratch_end == NULL)
            return walk_fault(walk, "a bad escape in a string");
    }
    return true;
}

static inline bool walk_literal(struct walk *walk, const struct token_text *token,
                                const char *literal, size_t length)
{
    if (token->length != length || memcmp(token->text, literal, length) != 0)
        return walk_fault(walk, "not a JSON value");
    return true;
}

/* The scalar at walk->next, checked and passed. */
static inline bool walk_scalar(struct walk *walk, const struct field_trie *node)
{
    const char *text = walk->json + *walk->next;
    const char *end = token_end(walk);
    struct token_text token = {text, (size_t)(end - text)};
    enum token_kind kind;
    bool is_valid;
    switch (*text) {
    case '"':
        is_valid = walk_string(walk, &token, &kind);
        break;
    case 't':
        kind = TOKEN_TRUE;
        is_valid = walk_literal(walk, &token, "true", 4);
        break;
    case 'f':
        kind = TOKEN_FALSE;
        is_valid = walk_literal(walk, &token, "false", 5);
        break;
    case 'n':
        kind = TOKEN_NULL;
        is_valid = walk_literal(walk, &token, "null", 4);
        break;
    default: {
        bool is_integral;
        is_valid =
            json_number_end(text, &is_integral) == end || walk_fault(walk, "not a JSON value");
        kind = is_integral ? TOKEN_INTEGER : TOKEN_NUMBER;
    }
    }
    if (!is_valid)
        return false;
    if (node != NULL && node->leaf >= 0) {
        walk->state->kinds[node->leaf] = (uint8_t)kind;
        walk->state->tokens[node->leaf] = token;
    }
    walk->next++;
    return true;
}

/* The member name at walk->next and the colon; *member is what the trie knows of it, or NULL. */
static inline bool walk_key(struct walk *walk, struct event_frame *frame,
                            struct field_trie **member)
{
    struct token_text key;
    enum token_kind kind;
    *member = NULL;
    if (walk->json[*walk->next] != '"')
        return walk_fault(walk, "a member name was expected");
    if (!walk_string(walk, &key, &kind))
        return false;
    walk->next++;
    if (walk->json[*walk->next] != ':')
        return walk_fault(walk, "a colon was expected");
    walk->next++;
    if (frame->node == NULL)
        return true;
    if (kind == TOKEN_ESCAPED_STRING)
        key = (struct token_text){walk->scratch, (size_t)(walk->scratch_end - walk->scratch)};
    struct field_trie *found = field_trie_find(frame->node, frame->guess, key.text, key.length);
    if (found == NULL)
        return true;
    /* The last of several equal names counts, so what an earlier one had inside is forgotten. */
    if (found->below_begin < found->below_end)
        memset(walk->state->kinds + found->below_begin, TOKEN_MISSING,
               found->below_end - found->below_begin);
    frame->guess = &found->follower;
    *member = found;
    return true;
}

static inline void frame_enter(struct event_frame *frame, struct field_trie *node, bool is_array)
{
    frame->node = is_array || node == NULL || node->children == NULL ? NULL : node;
    frame->guess = frame->node != NULL ? &node->first_member : NULL;
    frame->is_array = is_array;
}

/* Leaves the containers that end at walk->next; *frame is then the one that goes on, or NULL when
 * the root has ended. */
static inline bool walk_behind_value(struct walk *walk, struct event_frame **frame)
{
    for (;;) {
        char c = walk->json[*walk->next];
        if (c == ',') {
            walk->next++;
            return true;
        }
        if (c != ((*frame)->is_array ? ']' : '}'))
            return walk_fault(walk, "a comma or a closing bracket was expected");
        walk->next++;
        if (*frame == walk->state->frames) {
            *frame = NULL;
            return true;
        }
        if (walk->next == walk->end)
            return walk_fault(walk, "the record is cut off");
        (*frame)--;
    }
}

/* Checks the whole record and fills kinds and tokens.
 *
 * Only the closing bracket of an object is compared with the end of the tokens. That suffices,
 * because the last token is a '}': wherever the walk meets it as anything else it stops there. */
static bool walk_tokens(struct walk *walk)
{
    if (walk->json[walk->end[-1]] != '}') {
        walk->next = walk->end - 1;
        return walk_fault(walk, "the record is cut off or something follows it");
    }
    struct event_frame *frame = walk->state->frames;
    frame_enter(frame, walk->state->root, false);
    walk->next++;
    bool is_empty = walk->json[*walk->next] == '}';
    for (;;) {
        struct field_trie *member = NULL;
        if (!is_empty) {
            if (!frame->is_array && !walk_key(walk, frame, &member))
                return false;
            char c = walk->json[*walk->next];
            if (c == '{' || c == '[') {
                if (member != NULL && member->leaf >= 0)
                    walk->state->kinds[member->leaf] = c == '{' ? TOKEN_OBJECT : TOKEN_ARRAY;
                if (++frame == walk->state->frames + EVENT_DEPTH_MAX)
                    return walk_fault(walk, "nested too deeply");
                frame_enter(frame, member, c == '[');
                walk->next++;
                is_empty = walk->json[*walk->next] == (c == '{' ? '}' : ']');
                continue;
            }
            if (!walk_scalar(walk, member))
                return false;
        }
        is_empty = false;
        if (!walk_behind_value(walk, &frame))
            return false;
        if (frame == NULL)
            return walk->next == walk->end || walk_fault(walk, "something follows the object");
    }
}

enum status event_walk_record(struct event_walk *state, const char *json, size_t length,
                              const uint32_t *starts, size_t count, char *scratch,
                              struct error *error)
{
    if (json[starts[0]] != '{')
        return error_set(error, STATUS_REJECT, "not a JSON object");
    struct walk walk = {
        .state = state,
        .scratch = scratch,
        .json = json,
        .next = starts,
        .end = starts + count,
        .has_escapes = memchr(json, '\\', length) != NULL,
    };
    if (state->leaf_count > 0)
        memset(state->kinds, TOKEN_MISSING, state->leaf_count);
    if (!walk_tokens(&walk))
        return error_set(error, STATUS_REJECT, "not valid JSON: %s at byte %u", walk.fault,
                         (unsigned)*walk.next);
    return STATUS_OK;
}
