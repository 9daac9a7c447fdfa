/* Where a page ends and the next one begins.
 *
 * A cursor is the last row's place in the order: its window, its keys, and what the order compares
 * besides. The next page has the rows behind that place, in the state that it is read in. So:
 *
 * - While run and P do not move, the pages together are the answer without a limit.
 * - While they do, an order by window and keys alone gives no row twice and leaves none out that
 *   was there throughout, each with the values of its own page's receipt. In an order by measures a
 *   row whose measure moves over the place meanwhile comes twice or not at all. `has_moved` tells.
 *   Nothing could keep the state of the first page: the layers have overwritten it.
 *
 * A cursor is bound to the version of the view and to the question (all but limit, measures and
 * layout); it is no secret and is checked like any parameter. Text: base64url of a JSON array
 * [version, question, state, start, end, [results], [keys]]. Pure; any thread. */
#include "core/query/query_internal.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum {
    CURSOR_MAX_BYTES = 6000, /* of an address of 8,192 */
    NUMBER_MAX_BYTES = 400,
    HASH_TEXT_SIZE = 17,
};

enum { PART_VERSION, PART_QUESTION, PART_STATE, PART_START, PART_END, PART_RESULTS, PART_KEYS };
enum { PART_COUNT = PART_KEYS + 1 };

/* --- what a cursor is bound to --- */

static void hash_number(uint64_t *state, uint64_t number)
{
    *state = XXH3_64bits_withSeed(&number, sizeof number, *state);
}

static void hash_text(uint64_t *state, const char *text)
{
    hash_number(state, text != NULL ? strlen(text) : UINT64_MAX);
    if (text != NULL)
        *state = XXH3_64bits_withSeed(text, strlen(text), *state);
}

static void hash_filters(uint64_t *state, const struct query_filter *filters, size_t count)
{
    hash_number(state, count);
    for (size_t i = 0; i < count; i++) {
        const struct query_filter *filter = &filters[i];
        hash_text(state, filter->key);
        hash_number(state, (uint64_t)filter->kind);
        hash_number(state, filter->text_count);
        for (size_t t = 0; t < filter->text_count; t++)
            hash_text(state, filter->texts[t]);
    }
}

static uint64_t question_hash(const struct catalog_version *version,
                              const struct query_request *request)
{
    uint64_t state = 0;
    hash_text(&state, version->view->name);
    hash_text(&state, request->from);
    hash_text(&state, request->to);
    hash_text(&state, request->granularity);
    hash_text(&state, request->timezone);
    hash_number(&state, (uint64_t)request->layer);
    hash_filters(&state, request->filters, request->filter_count);
    hash_filters(&state, request->scope, request->scope_count);
    hash_number(&state, request->group_by != NULL ? request->group_by_count : UINT64_MAX);
    for (size_t i = 0; request->group_by != NULL && i < request->group_by_count; i++)
        hash_text(&state, request->group_by[i]);
    hash_number(&state, request->having_count);
    for (size_t i = 0; i < request->having_count; i++) {
        hash_text(&state, request->having[i].measure);
        hash_number(&state, (uint64_t)request->having[i].comparison);
        hash_text(&state, request->having[i].text);
    }
    hash_number(&state, request->order_count);
    for (size_t i = 0; i < request->order_count; i++) {
        hash_text(&state, request->order[i].column);
        hash_number(&state, request->order[i].descending);
    }
    return state;
}

struct query_state query_state_of(const struct query_receipt *receipt)
{
    const uint64_t whole[] = {(uint64_t)receipt->run, (uint64_t)receipt->imported,
                              receipt->has_watermark,
                              receipt->has_watermark ? (uint64_t)receipt->watermark_us : 0};
    XXH128_hash_t hash = XXH3_128bits(whole, sizeof whole);
    for (size_t i = 0; i < receipt->partition_count; i++) {
        const struct query_partition *partition = &receipt->partitions[i];
        const uint64_t numbers[] = {hash.low64, hash.high64, (uint64_t)partition->partition,
                                    (uint64_t)partition->cutoff, (uint64_t)partition->position};
        hash = XXH3_128bits(numbers, sizeof numbers);
    }
    return (struct query_state){.high = hash.high64, .low = hash.low64};
}

bool query_states_are_equal(struct query_state a, struct query_state b)
{
    return a.high == b.high && a.low == b.low;
}

static void hash_format(uint64_t hash, char text[HASH_TEXT_SIZE])
{
    snprintf(text, HASH_TEXT_SIZE, "%016" PRIx64, hash);
}

/* --- base64url, RFC 4648 section 5, without padding --- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static char *base64_encode(const char *data, size_t length, struct arena *arena)
{
    char *out = arena_alloc(arena, (length + 2) / 3 * 4 + 1);
    size_t written = 0;
    for (size_t i = 0; out != NULL && i < length; i += 3) {
        size_t left = length - i;
        uint32_t bits = (uint32_t)(unsigned char)data[i] << 16;
        bits |= left > 1 ? (uint32_t)(unsigned char)data[i + 1] << 8 : 0;
        bits |= left > 2 ? (uint32_t)(unsigned char)data[i + 2] : 0;
        for (size_t d = 0; d < (left > 2 ? 4 : left + 1); d++)
            out[written++] = digits[bits >> (18 - 6 * d) & 63];
    }
    if (out != NULL)
        out[written] = '\0';
    return out;
}

/* NULL where it is none, or out of memory. */
static char *base64_decode(const char *text, struct arena *arena, size_t *length)
{
    size_t count = strlen(text);
    char *out = arena_alloc(arena, count + 1);
    uint32_t bits = 0;
    *length = 0;
    for (size_t i = 0; out != NULL && i < count; i++) {
        const char *digit = strchr(digits, text[i]);
        if (digit == NULL)
            return NULL;
        bits = bits << 6 | (uint32_t)(digit - digits);
        if (i % 4 != 0)
            out[(*length)++] = (char)(bits >> (6 - 2 * (i % 4)));
    }
    return count % 4 == 1 ? NULL : out;
}

/* --- writing --- */

static json_t *value_json(const struct value *value, const char *wide_text, struct arena *arena)
{
    size_t length = 0;
    if (wide_text != NULL)
        return json_string(wide_text);
    if (value->is_null)
        return json_null();
    const char *text = value_text(value, arena, &length);
    return text != NULL ? json_stringn(text, length) : NULL;
}

static json_t *row_json(const struct query_reader *reader, const struct query_row *row)
{
    const struct query_plan *plan = reader->plan;
    struct arena *arena = &reader->answer->arena;
    char question[HASH_TEXT_SIZE];
    char state[HASH_TEXT_SIZE];
    json_t *results = json_array();
    json_t *keys = json_array();
    hash_format(question_hash(reader->version, reader->request), question);
    hash_format(query_state_of(&reader->answer->receipt).low, state);
    for (size_t i = 0; i < plan->order_count; i++) {
        size_t index = plan->order[i].index;
        if (plan->order[i].column == QUERY_MEASURE)
            json_array_append_new(results,
                                  value_json(&row->results[index], row->wide_texts[index], arena));
    }
    for (size_t i = 0; i < plan->shape.key_count; i++)
        json_array_append_new(keys, value_json(&row->keys[i], NULL, arena));
    return json_pack("[i, s, s, I, I, o, o]", reader->version->version, question, state,
                     (json_int_t)row->window_start_us, (json_int_t)row->window_end_us, results,
                     keys);
}

enum status query_cursor_write(const struct query_reader *reader, const struct query_row *last,
                               const char **out, struct error *error)
{
    json_t *json = row_json(reader, last);
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    char *cursor = text != NULL ? base64_encode(text, strlen(text), &reader->answer->arena) : NULL;
    free(text);
    json_decref(json);
    *out = cursor;
    if (cursor == NULL)
        return error_no_memory(error);
    if (strlen(cursor) > CURSOR_MAX_BYTES)
        *out = NULL;
    return STATUS_OK;
}

/* --- reading: nothing is taken for granted --- */

static enum status broken(struct error *error)
{
    return error_set(error, STATUS_REJECT, "cursor: is none that an answer to this view gave");
}

/* {1,2,3}, as value_text writes it. */
static enum status parse_integers(const char *text, size_t length, struct arena *arena,
                                  struct value *out, struct error *error)
{
    size_t count = 0;
    int64_t *data = arena_alloc(arena, length * sizeof *data);
    if (data == NULL)
        return error_no_memory(error);
    if (length < 2 || text[0] != '{' || text[length - 1] != '}')
        return broken(error);
    for (const char *at = text + 1; *at != '}' || at != text + length - 1;) {
        size_t digit_count = strcspn(at, ",}");
        struct value element;
        if (value_parse(VALUE_INTEGER, at, digit_count, &element, error) != STATUS_OK)
            return broken(error);
        data[count++] = element.integer;
        at += digit_count;
        at += *at == ',' ? 1 : 0;
    }
    *out = value_integers(data, count);
    return STATUS_OK;
}

/* Decimals stay texts: a result may be wider than struct value. */
static bool is_decimal(const char *text)
{
    size_t whole = strspn(text += *text == '-' ? 1 : 0, "0123456789");
    size_t length = strlen(text);
    if (whole == 0 || length > NUMBER_MAX_BYTES)
        return false;
    if (text[whole] != '.')
        return whole == length;
    return whole + 1 < length && strspn(text + whole + 1, "0123456789") == length - whole - 1;
}

static enum status parse_value(enum value_type type, const json_t *json, struct arena *arena,
                               struct value *out, const char **wide_text, struct error *error)
{
    if (wide_text != NULL)
        *wide_text = NULL;
    *out = value_null(type);
    if (json_is_null(json))
        return STATUS_OK;
    if (!json_is_string(json))
        return broken(error);
    size_t length = json_string_length(json);
    const char *text = arena_copy(arena, json_string_value(json), length);
    if (text == NULL)
        return error_no_memory(error);
    if (type == VALUE_INTEGERS)
        return parse_integers(text, length, arena, out, error);
    if (type == VALUE_DECIMAL && wide_text != NULL) {
        out->is_null = false;
        *wide_text = text;
        return is_decimal(text) ? STATUS_OK : broken(error);
    }
    enum status status = value_parse(type, text, length, out, error);
    return status == STATUS_REJECT ? broken(error) : status;
}

static enum status read_results(const json_t *results, struct arena *arena, struct query_plan *plan,
                                struct error *error)
{
    const struct view *shape = &plan->shape;
    struct query_row *row = &plan->after;
    size_t next = 0;
    row->results = arena_alloc(arena, shape->measure_count * sizeof *row->results);
    row->wide_texts = arena_alloc(arena, shape->measure_count * sizeof *row->wide_texts);
    if (row->results == NULL || row->wide_texts == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < plan->order_count; i++) {
        size_t index = plan->order[i].index;
        if (plan->order[i].column != QUERY_MEASURE)
            continue;
        enum status status = parse_value(shape->measures[index].measure->result_type,
                                         json_array_get(results, next++), arena,
                                         &row->results[index], &row->wide_texts[index], error);
        if (status != STATUS_OK)
            return status;
    }
    return next == json_array_size(results) ? STATUS_OK : broken(error);
}

static enum status read_keys(const json_t *keys, struct arena *arena, struct query_plan *plan,
                             struct error *error)
{
    size_t count = plan->shape.key_count;
    plan->after.keys = arena_alloc(arena, count * sizeof *plan->after.keys);
    if (plan->after.keys == NULL)
        return error_no_memory(error);
    if (!json_is_array(keys) || json_array_size(keys) != count)
        return broken(error);
    for (size_t i = 0; i < count; i++) {
        enum status status = parse_value(plan->shape.keys[i].type, json_array_get(keys, i), arena,
                                         &plan->after.keys[i], NULL, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status check_binding(const json_t *json, const struct catalog_version *version,
                                 const struct query_request *request, struct error *error)
{
    char question[HASH_TEXT_SIZE];
    const char *asked = json_string_value(json_array_get(json, PART_QUESTION));
    if (json_array_size(json) != PART_COUNT || asked == NULL ||
        !json_is_integer(json_array_get(json, PART_VERSION)) ||
        !json_is_string(json_array_get(json, PART_STATE)) ||
        !json_is_integer(json_array_get(json, PART_START)) ||
        !json_is_integer(json_array_get(json, PART_END)) ||
        !json_is_array(json_array_get(json, PART_RESULTS)))
        return broken(error);
    if (json_integer_value(json_array_get(json, PART_VERSION)) != version->version)
        return error_set(error, STATUS_REJECT,
                         "cursor: the view has another version now; begin with the first page");
    hash_format(question_hash(version, request), question);
    if (strcmp(asked, question) != 0)
        return error_set(error, STATUS_REJECT,
                         "cursor: belongs to another question; only limit and measures may differ "
                         "from page to page");
    return STATUS_OK;
}

enum status query_cursor_read(const struct catalog_version *version,
                              const struct query_request *request, struct arena *arena,
                              struct query_plan *plan, struct error *error)
{
    size_t length = 0;
    char *text = strlen(request->cursor) <= CURSOR_MAX_BYTES
                     ? base64_decode(request->cursor, arena, &length)
                     : NULL;
    json_t *json = text != NULL ? json_loadb(text, length, 0, NULL) : NULL;
    enum status status = check_binding(json, version, request, error);
    if (status == STATUS_OK)
        status = read_results(json_array_get(json, PART_RESULTS), arena, plan, error);
    if (status == STATUS_OK)
        status = read_keys(json_array_get(json, PART_KEYS), arena, plan, error);
    if (status == STATUS_OK) {
        plan->has_after = true;
        plan->after.window_start_us = json_integer_value(json_array_get(json, PART_START));
        plan->after.window_end_us = json_integer_value(json_array_get(json, PART_END));
        plan->after_state = strtoull(json_string_value(json_array_get(json, PART_STATE)), NULL, 16);
        if (!window_may_start(plan->after.window_start_us)) /* nor would PostgreSQL take any time */
            status = broken(error);
    }
    json_decref(json);
    return status;
}
