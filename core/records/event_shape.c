/* Shapes of records: see core/records/event_shape.h.
 *
 * Invariant: a shape is made of the bytes of one record that event_walk_record accepted. Its parts
 * in turn cover the record: the bytes before a scalar, the scalar, and so on; the last part has no
 * scalar behind it. The bytes of a part begin with a delimiter (but for the first one's, at the
 * record's beginning), so a scalar that ends where they begin ends as the grammar wants it. */
#include "core/records/event_shape.h"

#include <stdlib.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "core/records/json_text.h"

enum {
    SHAPES = 4,
    PARTS_MAX = 128,
    BYTES_MAX = 4096,  /* of one shape, without the scalars */
    HEAD_BYTES = 16,   /* of a part are compared at once */
    PATIENCE = 64,     /* misses, one after the other, until records are tried less often */
    TRY_EVERY = 32,    /* then one of these is tried */
    LEARN_EVERY = 8,   /* of the misses one is learned */
    STRING_BLOCK = 16, /* bytes of a string that are looked at together */
};

_Static_assert((int)EVENT_PADDING_BYTES >= (int)HEAD_BYTES + (int)STRING_BLOCK,
               "records are read past their end");

/* Bytes that are the same in every record of the shape, and the scalar behind them. */
struct part {
    uint64_t head[2]; /* the first 16, with zeros in place of what lies behind the part */
    uint64_t mask[2];
    uint32_t at; /* in the shape's bytes */
    uint32_t length;
    int32_t leaf; /* that the scalar stands on; -1: on none */
};

struct shape {
    size_t part_count; /* 0: none was learned yet */
    struct part parts[PARTS_MAX];
    char bytes[BYTES_MAX];
    uint8_t *kinds; /* of every leaf before the scalars are known: missing, object or array */
    bool is_filled; /* every leaf has a scalar */
};

struct event_shapes {
    uint32_t leaf_count;
    size_t current;  /* the shape that matched last */
    size_t next;     /* the one that is given up for another */
    uint64_t misses; /* since the last match */
    uint64_t missed; /* ever */
    uint64_t passed; /* records after so many misses */
    bool tried;      /* the last record was */
    struct shape shapes[SHAPES];
    uint8_t kinds[]; /* of all shapes */
};

struct event_shapes *event_shapes_create(uint32_t leaf_count)
{
    struct event_shapes *shapes = calloc(1, sizeof *shapes + (size_t)leaf_count * SHAPES);
    if (shapes == NULL)
        return NULL;
    shapes->leaf_count = leaf_count;
    for (size_t i = 0; i < SHAPES; i++)
        shapes->shapes[i].kinds = shapes->kinds + i * leaf_count;
    return shapes;
}

void event_shapes_destroy(struct event_shapes *shapes)
{
    free(shapes);
}

/* --- matching --- */

/* The first byte at or behind `text` that is no plain character of a string: a quote, a backslash,
 * a control character or no ASCII. Looks at no block that begins at or behind `end`. */
static inline const char *plain_end(const char *text, const char *end)
{
    for (; text < end; text += STRING_BLOCK) {
#if defined(__SSE2__)
        __m128i block = _mm_loadu_si128((const __m128i *)(const void *)text);
        /* As signed numbers, control characters and what is beyond ASCII are below the space. */
        __m128i special = _mm_or_si128(_mm_cmplt_epi8(block, _mm_set1_epi8(' ')),
                                       _mm_or_si128(_mm_cmpeq_epi8(block, _mm_set1_epi8('"')),
                                                    _mm_cmpeq_epi8(block, _mm_set1_epi8('\\'))));
        unsigned found = (unsigned)_mm_movemask_epi8(special);
        if (found != 0)
            return text + __builtin_ctz(found);
#else
        for (size_t i = 0; i < STRING_BLOCK; i++)
            if ((signed char)text[i] < ' ' || text[i] == '"' || text[i] == '\\')
                return text + i;
#endif
    }
    return end;
}

static inline bool part_matches(const struct shape *shape, const struct part *part,
                                const char *text, const char *end)
{
    uint64_t head[2];
    if (part->length > (size_t)(end - text))
        return false;
    memcpy(head, text, sizeof head);
    if ((((head[0] & part->mask[0]) ^ part->head[0]) |
         ((head[1] & part->mask[1]) ^ part->head[1])) != 0)
        return false;
    return part->length <= HEAD_BYTES ||
           memcmp(text + HEAD_BYTES, shape->bytes + part->at + HEAD_BYTES,
                  part->length - HEAD_BYTES) == 0;
}

/* The end of the scalar at `text`, with its kind and what its token is; NULL: it is none, or one
 * that the walk has to look at. The record ends with a bracket, so numbers end within it. */
static inline const char *scalar_end(const char *text, const char *end, enum token_kind *kind,
                                     struct token_text *token)
{
    const char *behind;
    bool is_integral;
    switch (*text) {
    case '"':
        behind = plain_end(text + 1, end);
        if (behind >= end || *behind != '"')
            return NULL;
        *kind = TOKEN_STRING;
        *token = (struct token_text){text + 1, (size_t)(behind - text - 1)};
        return behind + 1;
    case 't':
        *kind = TOKEN_TRUE;
        behind = memcmp(text, "true", 4) == 0 ? text + 4 : NULL;
        break;
    case 'f':
        *kind = TOKEN_FALSE;
        behind = memcmp(text, "false", 5) == 0 ? text + 5 : NULL;
        break;
    case 'n':
        *kind = TOKEN_NULL;
        behind = memcmp(text, "null", 4) == 0 ? text + 4 : NULL;
        break;
    default:
        behind = json_number_end(text, &is_integral);
        *kind = is_integral ? TOKEN_INTEGER : TOKEN_NUMBER;
    }
    *token = (struct token_text){text, behind == NULL ? 0 : (size_t)(behind - text)};
    return behind;
}

static bool shape_matches(const struct shape *shape, struct event_walk *state, const char *json,
                          const char *end)
{
    const struct part *part = shape->parts;
    const struct part *last = part + shape->part_count - 1;
    const char *at = json;
    for (;; part++) {
        if (!part_matches(shape, part, at, end))
            return false;
        at += part->length;
        if (part == last)
            return at == end;
        enum token_kind kind;
        struct token_text token;
        if (at == end || (at = scalar_end(at, end, &kind, &token)) == NULL)
            return false;
        if (part->leaf >= 0) {
            state->kinds[part->leaf] = (uint8_t)kind;
            state->tokens[part->leaf] = token;
        }
    }
}

static bool try_shape(const struct event_shapes *shapes, size_t index, struct event_walk *state,
                      const char *json, size_t length)
{
    const struct shape *shape = &shapes->shapes[index];
    if (shape->part_count == 0)
        return false;
    if (!shape->is_filled)
        memcpy(state->kinds, shape->kinds, shapes->leaf_count);
    return shape_matches(shape, state, json, json + length);
}

bool event_shapes_match(struct event_shapes *shapes, struct event_walk *state, const char *json,
                        size_t length)
{
    shapes->tried = shapes->misses < PATIENCE || ++shapes->passed % TRY_EVERY == 0;
    if (!shapes->tried)
        return false;
    size_t first = shapes->current;
    for (size_t i = 0; json[length - 1] == '}' && i < SHAPES; i++) {
        size_t index = (first + i) % SHAPES;
        if (try_shape(shapes, index, state, json, length)) {
            shapes->current = index;
            shapes->misses = 0;
            return true;
        }
    }
    shapes->misses++;
    shapes->missed++;
    return false;
}

/* --- learning --- */

static bool is_white_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* A scalar that is a value. A string before a colon is a name; the last token is a bracket. */
static bool is_scalar(const char *json, const uint32_t *start)
{
    switch (json[*start]) {
    case '{':
    case '}':
    case '[':
    case ']':
    case ':':
    case ',':
        return false;
    case '"':
        return json[start[1]] != ':';
    default:
        return true;
    }
}

static bool is_container(uint8_t kind)
{
    return kind == TOKEN_OBJECT || kind == TOKEN_ARRAY;
}

/* The leaf whose last value is the scalar at `text`; -1: it is no field's. */
static int32_t leaf_at(const struct event_walk *state, const char *text)
{
    const char *token = *text == '"' ? text + 1 : text;
    for (uint32_t i = 0; i < state->leaf_count; i++)
        if (state->kinds[i] != TOKEN_MISSING && !is_container(state->kinds[i]) &&
            state->tokens[i].text == token)
            return (int32_t)i;
    return -1;
}

static bool add_part(struct shape *shape, size_t *used, const char *text, const char *end,
                     int32_t leaf)
{
    size_t length = (size_t)(end - text);
    if (shape->part_count == PARTS_MAX || length > BYTES_MAX - *used)
        return false;
    struct part *part = &shape->parts[shape->part_count++];
    size_t head = length < HEAD_BYTES ? length : HEAD_BYTES;
    unsigned char mask[HEAD_BYTES] = {0};
    *part = (struct part){.at = (uint32_t)*used, .length = (uint32_t)length, .leaf = leaf};
    memset(mask, 0xFF, head);
    memcpy(part->mask, mask, sizeof mask);
    memcpy(part->head, text, head);
    memcpy(shape->bytes + *used, text, length);
    *used += length;
    return true;
}

static bool shape_learn(struct shape *shape, const struct event_walk *state, const char *json,
                        size_t length, const uint32_t *starts, size_t count)
{
    const char *behind = json; /* of the last scalar */
    size_t used = 0;
    shape->part_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (!is_scalar(json, &starts[i]))
            continue;
        const char *text = json + starts[i];
        if (!add_part(shape, &used, behind, text, leaf_at(state, text)))
            return false;
        behind = json + starts[i + 1];
        while (is_white_space(behind[-1]))
            behind--;
    }
    shape->is_filled = true;
    for (uint32_t i = 0; i < state->leaf_count; i++) {
        bool is_scalar_leaf = state->kinds[i] != TOKEN_MISSING && !is_container(state->kinds[i]);
        shape->is_filled = shape->is_filled && is_scalar_leaf;
        shape->kinds[i] = is_container(state->kinds[i]) ? state->kinds[i] : TOKEN_MISSING;
    }
    return add_part(shape, &used, behind, json + length, -1);
}

void event_shapes_learn(struct event_shapes *shapes, const struct event_walk *state,
                        const char *json, size_t length, const uint32_t *starts, size_t count)
{
    if (!shapes->tried || json[length - 1] != '}' || shapes->missed % LEARN_EVERY != 1)
        return;
    size_t index = shapes->next++ % SHAPES;
    if (index == shapes->current && shapes->shapes[index].part_count > 0)
        index = shapes->next++ % SHAPES;
    if (!shape_learn(&shapes->shapes[index], state, json, length, starts, count))
        shapes->shapes[index].part_count = 0;
}
