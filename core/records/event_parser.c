/* One record's JSON, checked everywhere, turned into typed fields. Contract:
 * core/records/event_parser.h.
 *
 * Three steps: json_index.h finds where the tokens begin, event_walk.h checks all of them and notes
 * which ones stand on the fields' paths; for records that look like an earlier one event_shape.h
 * does both at once. Only when the whole record has proved valid are the noted tokens converted
 * here, in the order of the source's fields, so that a value which a later duplicate replaces can
 * do no harm and the same record always gets the same reason.
 *
 * Numbers keep their text until then; no double is involved. Strings are unescaped into a buffer of
 * the parser. Nothing is allocated but for a record longer than all before it.
 *
 * One thread; when something fails the parser is as good as before. No text quotes the record. */
#include "core/records/event_parser.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/records/event_shape.h"
#include "core/records/event_walk.h"
#include "core/records/json_index.h"
#include "core/records/json_text.h"
#include "core/records/mask.h"
#include "core/time/timestamp.h"

enum {
    RECORD_MAX_BYTES = 64 * 1024 * 1024,
    INITIAL_CAPACITY_BYTES = 16 * 1024,
    SHORT_STRING_BYTES = 16, /* copied whole, whatever the length: cheaper than a call */
    LAST_TIME_BYTES = 32,
};

_Static_assert((int)EVENT_PADDING_BYTES >= (int)SHORT_STRING_BYTES,
               "strings are read past their end");

/* What the time of a field was last: those of neighbours are often the same text. */
struct last_time {
    char text[LAST_TIME_BYTES];
    size_t length; /* 0: there was none */
    int64_t us;
};

struct event_parser {
    const struct source *source; /* borrowed; NULL: only check */
    struct json_index *index;
    struct event_shapes *shapes;
    struct arena arena; /* owns the trie and all arrays but the buffers */
    uint32_t *leaf_of_field;
    struct value *values;         /* one for each field */
    struct last_time *last_times; /* one for each field */
    struct arena scratch;         /* strings of derived fields */
    struct mask *mask;            /* borrowed; NULL: none */
    uint64_t to_mask;             /* bits: which of the source's mask_fields */
    bool mask_is_settled;         /* it was said what to do about the source's mask */
    char *masked;                 /* MASK_BYTES for each of the source's mask_fields */
    size_t fields_of_leaf_max;

    size_t capacity; /* longest record that the buffers hold */
    char *text;      /* unescaped strings */
    char *text_next; /* free from here */
    char *record;    /* copy of a record without enough readable bytes behind it */
    size_t record_capacity;

    struct event_walk walk;
};

/* --- conversion --- */

static enum status reject(const struct source_field *field, const char *reason, struct error *error)
{
    return error_set(error, STATUS_REJECT, "field \"%s\": %s", field->name, reason);
}

static const char *wanted(const struct source_field *field)
{
    switch (field->type) {
    case VALUE_STRING:
        return "a string";
    case VALUE_INTEGER:
        return "an integer";
    case VALUE_DECIMAL:
        return "a number";
    case VALUE_BOOLEAN:
        return "a boolean";
    case VALUE_TIMESTAMP:
        return field->format == TIME_RFC3339 ? "an RFC 3339 time in a string"
                                             : "a number of units since 1970";
    case VALUE_INTEGERS:
        break; /* never a field's type */
    }
    return "another type";
}

static enum status reject_type(const struct source_field *field, enum token_kind kind,
                               struct error *error)
{
    static const char *const got[] = {
        [TOKEN_MISSING] = "nothing",  [TOKEN_NULL] = "null",
        [TOKEN_TRUE] = "a boolean",   [TOKEN_FALSE] = "a boolean",
        [TOKEN_INTEGER] = "a number", [TOKEN_NUMBER] = "a number",
        [TOKEN_STRING] = "a string",  [TOKEN_ESCAPED_STRING] = "a string",
        [TOKEN_OBJECT] = "an object", [TOKEN_ARRAY] = "an array",
    };
    const char *what = field->type == VALUE_INTEGER && kind == TOKEN_NUMBER
                           ? "a number with a fraction or an exponent"
                           : got[kind];
    return error_set(error, STATUS_REJECT, "field \"%s\": wants %s, got %s", field->name,
                     wanted(field), what);
}

/* The string without escapes, in parser->text. */
static inline struct token_text string_text(struct event_parser *parser, enum token_kind kind,
                                            struct token_text token)
{
    char *text = parser->text_next;
    if (kind == TOKEN_ESCAPED_STRING) {
        char *end = json_unescape(token.text, token.text + token.length, text);
        token.length = (size_t)(end - text);
    } else if (token.length <= SHORT_STRING_BYTES) {
        memcpy(text, token.text, SHORT_STRING_BYTES);
    } else {
        memcpy(text, token.text, token.length);
    }
    token.text = text;
    parser->text_next = text + token.length;
    return token;
}

static enum status convert_string(struct event_parser *parser, const struct source_field *field,
                                  enum token_kind kind, const struct token_text *token,
                                  struct value *value, struct error *error)
{
    if (kind != TOKEN_STRING && kind != TOKEN_ESCAPED_STRING)
        return reject_type(field, kind, error);
    struct token_text text = string_text(parser, kind, *token);
    if (kind == TOKEN_ESCAPED_STRING && memchr(text.text, '\0', text.length) != NULL)
        return reject(field, "contains U+0000, which PostgreSQL's text cannot hold", error);
    value->string.data = text.text;
    value->string.length = text.length;
    return STATUS_OK;
}

/* False when it does not fit. `text` is a JSON number without fraction and exponent. */
static inline bool parse_int64(const struct token_text *token, int64_t *out)
{
    const char *text = token->text;
    const char *end = text + token->length;
    bool is_negative = *text == '-';
    text += is_negative;
    if (end - text > 19) /* no leading zeros, so it is above 2^63; 19 digits fit uint64_t */
        return false;
    uint64_t magnitude = 0;
    for (; text < end; text++)
        magnitude = magnitude * 10 + (uint64_t)(*text - '0');
    if (magnitude > (uint64_t)INT64_MAX + is_negative)
        return false;
    *out = is_negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}

static enum status convert_integer(const struct source_field *field, enum token_kind kind,
                                   const struct token_text *token, struct value *value,
                                   struct error *error)
{
    if (kind != TOKEN_INTEGER)
        return reject_type(field, kind, error);
    if (!parse_int64(token, &value->integer))
        return reject(field, "out of range of a 64-bit integer", error);
    return STATUS_OK;
}

static enum status convert_decimal(const struct source_field *field, enum token_kind kind,
                                   const struct token_text *token, struct decimal *out,
                                   struct error *error)
{
    if (kind != TOKEN_INTEGER && kind != TOKEN_NUMBER)
        return reject_type(field, kind, error);
    enum decimal_status status = decimal_parse(token->text, token->length, out);
    if (status != DECIMAL_OK)
        return reject(field, decimal_status_text(status), error);
    return STATUS_OK;
}

static enum status check_time(const struct source_field *field, enum timestamp_status status,
                              struct error *error)
{
    if (status == TIMESTAMP_OK)
        return STATUS_OK;
    return reject(field,
                  status == TIMESTAMP_SYNTAX ? "not an RFC 3339 time"
                                             : "a time outside the years 0001 to 9999",
                  error);
}

static int64_t units_per_second(enum time_format format)
{
    switch (format) {
    case TIME_EPOCH_MS:
        return 1000;
    case TIME_EPOCH_US:
        return 1000000;
    case TIME_EPOCH_S:
    case TIME_RFC3339: /* has none */
        break;
    }
    return 1;
}

static enum status parse_time(struct last_time *last, const struct source_field *field,
                              const struct token_text *token, int64_t *us, struct error *error)
{
    if (token->length == last->length && token->length > 0 &&
        memcmp(token->text, last->text, token->length) == 0) {
        *us = last->us;
        return STATUS_OK;
    }
    enum status status =
        check_time(field, timestamp_parse_rfc3339(token->text, token->length, us), error);
    if (status == STATUS_OK && token->length <= LAST_TIME_BYTES) {
        memcpy(last->text, token->text, token->length);
        last->length = token->length;
        last->us = *us;
    }
    return status;
}

static enum status convert_timestamp(struct event_parser *parser, size_t index,
                                     enum token_kind kind, const struct token_text *token,
                                     struct error *error)
{
    const struct source_field *field = &parser->source->fields[index];
    int64_t *us = &parser->values[index].timestamp_us;
    if (field->format == TIME_RFC3339) {
        if (kind != TOKEN_STRING && kind != TOKEN_ESCAPED_STRING)
            return reject_type(field, kind, error);
        struct token_text text = kind == TOKEN_STRING ? *token : string_text(parser, kind, *token);
        return parse_time(&parser->last_times[index], field, &text, us, error);
    }
    int64_t units = units_per_second(field->format);
    int64_t integer;
    if (kind == TOKEN_INTEGER && parse_int64(token, &integer))
        return check_time(field, timestamp_from_epoch_int64(integer, units, us), error);
    struct decimal decimal;
    enum status status = convert_decimal(field, kind, token, &decimal, error);
    if (status != STATUS_OK)
        return status;
    return check_time(field, timestamp_from_epoch(&decimal, units, us), error);
}

static enum status convert_field(struct event_parser *parser, size_t index, struct error *error)
{
    const struct source_field *field = &parser->source->fields[index];
    uint32_t leaf = parser->leaf_of_field[index];
    enum token_kind kind = (enum token_kind)parser->walk.kinds[leaf];
    const struct token_text *token = &parser->walk.tokens[leaf];
    struct value *value = &parser->values[index];
    value->is_null = false;
    if (kind <= TOKEN_NULL) {
        value->is_null = true;
        if (field->nullable)
            return STATUS_OK;
        return reject(field, kind == TOKEN_MISSING ? "missing" : "null, but not nullable", error);
    }
    switch (field->type) {
    case VALUE_STRING:
        return convert_string(parser, field, kind, token, value, error);
    case VALUE_INTEGER:
        return convert_integer(field, kind, token, value, error);
    case VALUE_DECIMAL:
        return convert_decimal(field, kind, token, &value->decimal, error);
    case VALUE_BOOLEAN:
        if (kind != TOKEN_TRUE && kind != TOKEN_FALSE)
            return reject_type(field, kind, error);
        value->boolean = kind == TOKEN_TRUE;
        return STATUS_OK;
    case VALUE_TIMESTAMP:
        return convert_timestamp(parser, index, kind, token, error);
    case VALUE_INTEGERS:
        break;
    }
    return reject(field, "has a type that nobody can parse", error);
}

/* The event time, once all fields are converted. */
static enum status event_time(const struct event_parser *parser, int64_t *us, struct error *error)
{
    const struct source *source = parser->source;
    const struct source_field *field = &source->fields[source->event_time_field];
    const struct value *value = &parser->values[source->event_time_field];
    int64_t units = units_per_second(source->event_time_format);
    if (value->is_null)
        return reject(field, "null, but the event's time", error);
    switch (value->type) {
    case VALUE_TIMESTAMP:
        *us = value->timestamp_us;
        return STATUS_OK;
    case VALUE_INTEGER:
        return check_time(field, timestamp_from_epoch_int64(value->integer, units, us), error);
    case VALUE_DECIMAL:
        return check_time(field, timestamp_from_epoch(&value->decimal, units, us), error);
    case VALUE_STRING:
        return check_time(
            field, timestamp_parse_rfc3339(value->string.data, value->string.length, us), error);
    case VALUE_BOOLEAN:
    case VALUE_INTEGERS:
        break;
    }
    return reject(field, "not a type that holds a time", error);
}

static enum status mask_fields(struct event_parser *parser, struct error *error)
{
    const struct source *source = parser->source;
    if (!parser->mask_is_settled)
        return error_set(error, STATUS_FATAL, "source %s has a mask, and no key was read",
                         source->name);
    for (size_t i = 0; i < source->mask_count; i++) {
        struct value *value = &parser->values[source->mask_fields[i]];
        if (value->is_null || (parser->to_mask >> i & 1) == 0)
            continue;
        char *masked = parser->masked + i * MASK_BYTES;
        enum status status =
            mask_value(parser->mask, value->string.data, value->string.length, masked, error);
        if (status != STATUS_OK)
            return status;
        value->string.data = masked;
        value->string.length = MASK_BYTES;
    }
    return STATUS_OK;
}

/* In their order: each may use those before it. */
static enum status derive_fields(struct event_parser *parser, struct error *error)
{
    const struct source *source = parser->source;
    arena_reset(&parser->scratch);
    size_t first = source->field_count - source->derived_count;
    for (size_t i = 0; i < source->derived_count; i++) {
        enum status status =
            expression_evaluate(source->derived[i].expression, parser->values, &parser->scratch,
                                &parser->values[first + i], error);
        if (status != STATUS_OK)
            return error_wrap(error, "derive.%s", source->fields[first + i].name);
    }
    return STATUS_OK;
}

static enum status convert_record(struct event_parser *parser, struct event *out,
                                  struct error *error)
{
    const struct source *source = parser->source;
    parser->text_next = parser->text;
    for (size_t i = 0; i < source->field_count - source->derived_count; i++) {
        enum status status = convert_field(parser, i, error);
        if (status != STATUS_OK)
            return status;
    }
    enum status status = event_time(parser, &out->time_us, error);
    if (status == STATUS_OK && source->mask_count > 0)
        status = mask_fields(parser, error);
    if (status != STATUS_OK)
        return status;
    out->fields = parser->values;
    return source->derived_count > 0 ? derive_fields(parser, error) : STATUS_OK;
}

static bool is_dropped(const struct source *source, const struct value *fields)
{
    for (size_t i = 0; i < source->drop_if_null_count; i++)
        if (fields[source->drop_if_null[i]].is_null)
            return true;
    return false;
}

/* --- buffers --- */

static enum status reserve_text(struct event_parser *parser, size_t length, struct error *error)
{
    if (length <= parser->capacity)
        return STATUS_OK;
    size_t capacity = INITIAL_CAPACITY_BYTES;
    while (capacity < length)
        capacity *= 2;
    /* Fields on one path each get a copy. Contents need not survive, so no realloc. */
    char *text = malloc(capacity * parser->fields_of_leaf_max + EVENT_PADDING_BYTES);
    if (text == NULL)
        return error_no_memory(error);
    free(parser->text);
    parser->text = text;
    parser->capacity = capacity;
    return STATUS_OK;
}

/* A copy of the record that can be read past its end. */
static enum status copy_record(struct event_parser *parser, const char *json, size_t length,
                               struct error *error)
{
    if (length > parser->record_capacity || parser->record == NULL) {
        char *record = malloc(parser->capacity + EVENT_PADDING_BYTES);
        if (record == NULL)
            return error_no_memory(error);
        free(parser->record);
        parser->record = record;
        parser->record_capacity = parser->capacity;
    }
    memcpy(parser->record, json, length);
    memset(parser->record + length, ' ', EVENT_PADDING_BYTES);
    return STATUS_OK;
}

/* --- interface --- */

static enum status check_event_time(const struct source *source, struct error *error)
{
    assert(source->event_time_field < source->field_count);
    const struct source_field *field = &source->fields[source->event_time_field];
    bool is_epoch = source->event_time_format != TIME_RFC3339;
    if (field->type == VALUE_TIMESTAMP || (field->type == VALUE_STRING && !is_epoch) ||
        ((field->type == VALUE_INTEGER || field->type == VALUE_DECIMAL) && is_epoch))
        return STATUS_OK;
    return reject(field, "no event time of this format can be read from this type", error);
}

static enum status create_fields(struct event_parser *parser, const struct source *source,
                                 struct error *error)
{
    enum status status = check_event_time(source, error);
    if (status != STATUS_OK)
        return status;
    struct arena *arena = &parser->arena;
    size_t count = source->field_count;
    parser->source = source;
    parser->leaf_of_field = arena_alloc(arena, count * sizeof *parser->leaf_of_field);
    parser->values = arena_alloc(arena, count * sizeof *parser->values);
    parser->last_times = arena_alloc(arena, count * sizeof *parser->last_times);
    parser->masked = arena_alloc(arena, source->mask_count * MASK_BYTES + 1);
    size_t *uses = arena_alloc(arena, count * sizeof *uses);
    if (parser->leaf_of_field == NULL || parser->values == NULL || parser->masked == NULL ||
        uses == NULL || parser->last_times == NULL)
        return error_no_memory(error);
    memset(parser->last_times, 0, count * sizeof *parser->last_times);
    parser->walk.root =
        field_trie_create(source, arena, parser->leaf_of_field, &parser->walk.leaf_count);
    parser->walk.kinds = arena_alloc(arena, parser->walk.leaf_count);
    parser->walk.tokens = arena_alloc(arena, parser->walk.leaf_count * sizeof *parser->walk.tokens);
    if (parser->walk.root == NULL || parser->walk.kinds == NULL || parser->walk.tokens == NULL)
        return error_no_memory(error);
    memset(uses, 0, count * sizeof *uses);
    for (size_t i = 0; i < count; i++) {
        parser->values[i] = (struct value){.type = source->fields[i].type, .is_null = true};
        if (i >= count - source->derived_count)
            continue;
        size_t leaf_uses = ++uses[parser->leaf_of_field[i]];
        if (leaf_uses > parser->fields_of_leaf_max)
            parser->fields_of_leaf_max = leaf_uses;
    }
    return STATUS_OK;
}

enum status event_parser_create(const struct source *source, struct event_parser **out,
                                struct error *error)
{
    *out = NULL;
    struct event_parser *parser = calloc(1, sizeof *parser);
    if (parser == NULL)
        return error_no_memory(error);
    arena_init(&parser->arena);
    arena_init(&parser->scratch);
    parser->fields_of_leaf_max = 1;
    enum status status = json_index_create(&parser->index, error);
    if (status == STATUS_OK && source != NULL)
        status = create_fields(parser, source, error);
    if (status == STATUS_OK &&
        (parser->shapes = event_shapes_create(parser->walk.leaf_count)) == NULL)
        status = error_no_memory(error);
    if (status == STATUS_OK)
        status = reserve_text(parser, INITIAL_CAPACITY_BYTES, error);
    if (status != STATUS_OK) {
        event_parser_destroy(parser);
        return status;
    }
    *out = parser;
    return STATUS_OK;
}

void event_parser_destroy(struct event_parser *parser)
{
    if (parser == NULL)
        return;
    json_index_destroy(parser->index);
    event_shapes_destroy(parser->shapes);
    arena_deinit(&parser->arena);
    arena_deinit(&parser->scratch);
    free(parser->text);
    free(parser->record);
    free(parser);
}

void event_parser_mask(struct event_parser *parser, struct mask *mask, uint64_t masked_already)
{
    assert(mask != NULL);
    parser->mask = mask;
    parser->to_mask = ~masked_already;
    parser->mask_is_settled = true;
}

void event_parser_unmask(struct event_parser *parser)
{
    parser->mask = NULL;
    parser->to_mask = 0;
    parser->mask_is_settled = true;
}

/* Checks a record that has none of the shapes. */
static enum status walk_record(struct event_parser *parser, const char *json, size_t length,
                               struct error *error)
{
    const uint32_t *starts;
    size_t count;
    enum status status = json_index_build(parser->index, json, length, &starts, &count, error);
    if (status == STATUS_OK)
        status = event_walk_record(&parser->walk, json, length, starts, count, parser->text, error);
    if (status == STATUS_OK)
        event_shapes_learn(parser->shapes, &parser->walk, json, length, starts, count);
    return status;
}

enum status event_parser_parse(struct event_parser *parser, const char *json, size_t length,
                               size_t readable, struct event *out, struct error *error)
{
    assert(readable >= length);
    *out = (struct event){0};
    if (length == 0)
        return error_set(error, STATUS_REJECT, "not a JSON object: empty");
    if (length > RECORD_MAX_BYTES)
        return error_set(error, STATUS_REJECT, "record too large: %zu bytes, at most %d", length,
                         (int)RECORD_MAX_BYTES);
    enum status status = reserve_text(parser, length, error);
    if (status == STATUS_OK && readable - length < EVENT_PADDING_BYTES) {
        status = copy_record(parser, json, length, error);
        json = parser->record;
    }
    if (status == STATUS_OK && !event_shapes_match(parser->shapes, &parser->walk, json, length))
        status = walk_record(parser, json, length, error);
    if (status == STATUS_OK && parser->source != NULL)
        status = convert_record(parser, out, error);
    if (status == STATUS_OK && parser->source != NULL)
        out->is_dropped = is_dropped(parser->source, out->fields);
    return status;
}

const char *event_parser_target(void)
{
    return json_index_target();
}
