/* Masking whole records: see core/records/mask.h.
 *
 * The event parser decides whether the record has the source's fields; only then is it rewritten
 * here, so the walk below goes over text that is valid JSON, nested no deeper than the parser
 * allows. It follows every member whose name fits a masked path, not only the last of several equal
 * names: what a later one overrides must not be stored either. Such an overridden value that is no
 * string becomes null. */
#include <stdlib.h>
#include <string.h>

#include "core/records/event_parser.h"
#include "core/records/json_text.h"
#include "core/records/mask.h"

struct record_mask {
    struct source *source; /* owned */
    struct mask *mask;
    struct event_parser *parser;
    uint64_t already; /* mask_fields whose values are masked in the records that come */
    char *output;
    size_t length;
    size_t capacity;
    char *scratch; /* one string without escapes */
    size_t scratch_capacity;
};

/* The walk over one record. */
struct walk {
    struct record_mask *masker;
    const char *at;
    const char *end;
    const char *copied; /* everything before is in the output */
    struct error *error;
};

/* --- output --- */

static bool reserve(char **buffer, size_t *capacity, size_t wanted)
{
    if (wanted <= *capacity)
        return true;
    size_t grown = *capacity == 0 ? 4096 : *capacity;
    while (grown < wanted)
        grown *= 2;
    char *moved = realloc(*buffer, grown);
    if (moved == NULL)
        return false;
    *buffer = moved;
    *capacity = grown;
    return true;
}

static enum status append(struct walk *walk, const char *data, size_t length)
{
    struct record_mask *masker = walk->masker;
    if (!reserve(&masker->output, &masker->capacity, masker->length + length))
        return error_no_memory(walk->error);
    memcpy(masker->output + masker->length, data, length);
    masker->length += length;
    return STATUS_OK;
}

/* --- tokens --- */

static void skip_space(struct walk *walk)
{
    while (walk->at < walk->end && strchr(" \t\r\n", *walk->at) != NULL && *walk->at != '\0')
        walk->at++;
}

/* Passes the string at walk->at and gives its content without the quotes. */
static void take_string(struct walk *walk, const char **content, size_t *length)
{
    *content = ++walk->at;
    while (walk->at < walk->end && *walk->at != '"')
        walk->at += *walk->at == '\\' ? 2 : 1;
    *length = (size_t)(walk->at - *content);
    walk->at++;
}

/* What the string's content stands for; borrowed from the record or the scratch buffer. */
static enum status unescape(struct walk *walk, const char **content, size_t *length)
{
    struct record_mask *masker = walk->masker;
    if (memchr(*content, '\\', *length) == NULL)
        return STATUS_OK;
    if (!reserve(&masker->scratch, &masker->scratch_capacity, *length))
        return error_no_memory(walk->error);
    char *end = json_unescape(*content, *content + *length, masker->scratch);
    if (end == NULL)
        return error_set(walk->error, STATUS_FATAL, "a record changed while it was masked");
    *content = masker->scratch;
    *length = (size_t)(end - masker->scratch);
    return STATUS_OK;
}

/* Passes any value. */
static void skip_value(struct walk *walk)
{
    size_t depth = 0;
    const char *content;
    size_t length;
    do {
        skip_space(walk);
        if (walk->at >= walk->end)
            return;
        switch (*walk->at) {
        case '"':
            take_string(walk, &content, &length);
            break;
        case '{':
        case '[':
            depth++;
            walk->at++;
            break;
        case '}':
        case ']':
            depth--;
            walk->at++;
            break;
        case ',':
        case ':':
            walk->at++;
            break;
        default:
            walk->at += strcspn(walk->at, " \t\r\n,:]}\"");
        }
    } while (depth > 0);
}

/* --- the walk --- */

static enum status replace_value(struct walk *walk)
{
    const char *begin = walk->at;
    char masked[MASK_BYTES + 2];
    size_t masked_length = 4;
    if (*begin == '"') {
        const char *content;
        size_t length;
        take_string(walk, &content, &length);
        enum status status = unescape(walk, &content, &length);
        if (status == STATUS_OK)
            status = mask_value(walk->masker->mask, content, length, masked + 1, walk->error);
        if (status != STATUS_OK)
            return status;
        masked[0] = masked[MASK_BYTES + 1] = '"';
        masked_length = sizeof masked;
    } else {
        memcpy(masked, "null", 4);
        skip_value(walk);
    }
    enum status status = append(walk, walk->copied, (size_t)(begin - walk->copied));
    if (status == STATUS_OK)
        status = append(walk, masked, masked_length);
    walk->copied = walk->at;
    return status;
}

/* Of the masked paths in `live`, whose first `depth` names led here, those that go on with `name`;
 * *is_end where one of them ends with it. */
static uint64_t follow(const struct source *source, uint64_t live, size_t depth, const char *name,
                       size_t length, bool *is_end)
{
    uint64_t next = 0;
    *is_end = false;
    for (size_t i = 0; i < source->mask_count; i++) {
        const struct source_field *field = &source->fields[source->mask_fields[i]];
        if ((live >> i & 1) == 0 || depth >= field->path_count ||
            strlen(field->path[depth]) != length || memcmp(field->path[depth], name, length) != 0)
            continue;
        next |= UINT64_C(1) << i;
        *is_end = *is_end || depth + 1 == field->path_count;
    }
    return next;
}

/* The object at walk->at. */
static enum status walk_object(struct walk *walk, uint64_t live, size_t depth)
{
    walk->at++;
    for (;;) {
        const char *name;
        size_t length;
        bool is_end;
        skip_space(walk);
        if (walk->at < walk->end && *walk->at == ',') {
            walk->at++;
            continue;
        }
        if (walk->at >= walk->end || *walk->at != '"')
            break;
        take_string(walk, &name, &length);
        enum status status = unescape(walk, &name, &length);
        if (status != STATUS_OK)
            return status;
        uint64_t next = follow(walk->masker->source, live, depth, name, length, &is_end);
        skip_space(walk);
        walk->at++; /* the colon */
        skip_space(walk);
        if (is_end)
            status = replace_value(walk);
        else if (next != 0 && walk->at < walk->end && *walk->at == '{')
            status = walk_object(walk, next, depth + 1);
        else
            skip_value(walk);
        if (status != STATUS_OK)
            return status;
    }
    walk->at++; /* the bracket */
    return STATUS_OK;
}

enum status record_mask_apply(struct record_mask *masker, const char *value, size_t length,
                              const char **out, size_t *out_length, struct error *error)
{
    struct event event = {0};
    *out = NULL;
    *out_length = 0;
    if (value == NULL)
        return STATUS_OK;
    enum status status = event_parser_parse(masker->parser, value, length, length, &event, error);
    if (status != STATUS_OK && status != STATUS_REJECT)
        return status;
    if (event.fields == NULL)
        return STATUS_OK; /* a derived field may have failed: the others are known all the same */
    struct walk walk = {
        .masker = masker, .at = value, .end = value + length, .copied = value, .error = error};
    masker->length = 0;
    skip_space(&walk);
    status = walk_object(&walk, ~masker->already, 0);
    if (status == STATUS_OK)
        status = append(&walk, walk.copied, (size_t)(walk.end - walk.copied));
    if (status != STATUS_OK)
        return status;
    *out = masker->output;
    *out_length = masker->length;
    return STATUS_OK;
}

void record_mask_note(struct record_mask *masker, const char *paths_text)
{
    masker->already = mask_fields_in(masker->source, paths_text);
    event_parser_mask(masker->parser, masker->mask, masker->already);
}

/* --- life --- */

enum status record_mask_create(const struct source *source, struct record_mask **out,
                               struct error *error)
{
    struct record_mask *masker = calloc(1, sizeof *masker);
    *out = NULL;
    if (masker == NULL)
        return error_no_memory(error);
    enum status status = source_create(source->json, "source", &masker->source, error);
    if (status == STATUS_OK) {
        memcpy(masker->source->mask_fingerprint, source->mask_fingerprint,
               sizeof source->mask_fingerprint);
        status = mask_create(masker->source, &masker->mask, error);
    }
    if (status == STATUS_OK)
        status = event_parser_create(masker->source, &masker->parser, error);
    if (status != STATUS_OK) {
        record_mask_destroy(masker);
        return status;
    }
    event_parser_mask(masker->parser, masker->mask, 0);
    *out = masker;
    return STATUS_OK;
}

void record_mask_destroy(struct record_mask *masker)
{
    if (masker == NULL)
        return;
    event_parser_destroy(masker->parser);
    mask_destroy(masker->mask);
    source_destroy(masker->source);
    free(masker->output);
    free(masker->scratch);
    free(masker);
}
