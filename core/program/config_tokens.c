/* Reading `serving.tokens`: see core/program/config_tokens.h.
 *
 * Invariant: what a token may see, and where it may write, is written out. A missing `views` is a
 * fault, not "everything"; so is an empty list of rows, or a name that is not known; a missing
 * `write` is none. Pure. */
#include "core/program/config_tokens.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { PLACE_BYTES = 128, NAME_MAX_BYTES = 64 };

/* One token that is being read. */
struct reading {
    size_t index;
    struct arena *arena;
    struct error *error;
};

static enum status fault(const struct reading *in, const char *member, const char *format, ...)
    PRINTF_LIKE(3, 4);

static enum status fault(const struct reading *in, const char *member, const char *format, ...)
{
    char text[ERROR_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return error_set(in->error, STATUS_REJECT, "serving.tokens[%zu]%s%s: %s", in->index,
                     member[0] != '\0' ? "." : "", member, text);
}

/* Names of definitions are [a-z][a-z0-9_]*, but a name of the configuration may be anything: it is
 * shown only where it is harmless. */
static bool is_name(const char *text, const char *allowed)
{
    size_t length = strlen(text);
    return length > 0 && length <= NAME_MAX_BYTES && text[strspn(text, allowed)] == '\0';
}

#define DIGITS "0123456789"
#define SMALL "abcdefghijklmnopqrstuvwxyz"
#define LARGE "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

static enum status check_members(const struct reading *in, const json_t *token)
{
    static const char *const known[] = {"name", "sha256", "views", "role", "rows", "write"};
    const char *member;
    json_t *value;
    json_object_foreach ((json_t *)token, member, value) {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
            found = found || strcmp(member, known[i]) == 0;
        if (!found)
            return fault(in, "",
                         "there are name, sha256, views, role, rows and write, and nothing else");
    }
    return STATUS_OK;
}

static enum status read_name(const struct reading *in, const json_t *token,
                             struct config_token *out)
{
    const char *name = json_string_value(json_object_get(token, "name"));
    if (name == NULL || !is_name(name, SMALL LARGE DIGITS "._-"))
        return fault(in, "name", "1 to %d letters, digits, '.', '_' and '-' are expected",
                     NAME_MAX_BYTES);
    out->name = name;
    return STATUS_OK;
}

static int digit_value(char c)
{
    const char *at = c != '\0' ? strchr(DIGITS "abcdef", c) : NULL;
    return at != NULL ? (int)(at - (DIGITS "abcdef")) : -1;
}

static enum status read_hash(const struct reading *in, const json_t *token,
                             struct config_token *out)
{
    const char *text = json_string_value(json_object_get(token, "sha256"));
    bool good = text != NULL && strlen(text) == 2 * TOKEN_HASH_BYTES;
    for (size_t i = 0; good && i < TOKEN_HASH_BYTES; i++) {
        int high = digit_value(text[2 * i]);
        int low = digit_value(text[2 * i + 1]);
        good = high >= 0 && low >= 0;
        out->sha256[i] = (unsigned char)(high * 16 + low);
    }
    return good ? STATUS_OK
                : fault(in, "sha256",
                        "the %d hexadecimal digits (0-9, a-f) that `dovetail token "
                        "new` prints are expected",
                        2 * TOKEN_HASH_BYTES);
}

static enum status read_role(const struct reading *in, const json_t *token,
                             struct config_token *out)
{
    const json_t *role = json_object_get(token, "role");
    const char *text = role != NULL ? json_string_value(role) : "read";
    if (text == NULL || (strcmp(text, "read") != 0 && strcmp(text, "admin") != 0))
        return fault(in, "role", "\"read\" or \"admin\" is expected");
    out->is_admin = strcmp(text, "admin") == 0;
    return STATUS_OK;
}

/* "*", or a list of names. */
static enum status read_names(const struct reading *in, const char *member, const char *kind,
                              const json_t *json, bool *all, const char *const **out, size_t *count)
{
    const char *text = json_string_value(json);
    *all = text != NULL && strcmp(text, "*") == 0;
    if (*all)
        return STATUS_OK;
    if (!json_is_array(json))
        return fault(in, member, "\"*\" or a list of %ss' names is expected", kind);
    *count = json_array_size(json);
    const char **names = arena_alloc(in->arena, (*count + 1) * sizeof *names);
    if (names == NULL)
        return error_no_memory(in->error);
    for (size_t i = 0; i < *count; i++) {
        names[i] = json_string_value(json_array_get(json, i));
        if (names[i] == NULL || !is_name(names[i], SMALL DIGITS "_"))
            return fault(in, member, "number %zu is no %s's name", i + 1, kind);
    }
    *out = names;
    return STATUS_OK;
}

static enum status read_views(const struct reading *in, const json_t *token,
                              struct config_token *out)
{
    return read_names(in, "views", "view", json_object_get(token, "views"), &out->all_views,
                      &out->views, &out->view_count);
}

static enum status read_sources(const struct reading *in, const json_t *token,
                                struct config_token *out)
{
    const json_t *sources = json_object_get(token, "write");
    if (sources == NULL)
        return STATUS_OK;
    return read_names(in, "write", "source", sources, &out->all_sources, &out->sources,
                      &out->source_count);
}

/* The text of a key's value, as a request would have it; NULL for what is none. */
static const char *value_text(const struct reading *in, const json_t *value)
{
    char number[32];
    if (json_is_string(value))
        return strlen(json_string_value(value)) == json_string_length(value)
                   ? json_string_value(value)
                   : NULL;
    if (json_is_boolean(value))
        return json_is_true(value) ? "true" : "false";
    if (!json_is_integer(value))
        return NULL;
    int length = snprintf(number, sizeof number, "%" PRId64, (int64_t)json_integer_value(value));
    return arena_copy(in->arena, number, (size_t)length);
}

static enum status read_scope(const struct reading *in, const char *key, const json_t *values,
                              struct config_row_scope *out)
{
    size_t count = json_array_size(values);
    if (!is_name(key, SMALL DIGITS "_"))
        return fault(in, "rows", "has a name that no key can have");
    const char **texts = arena_alloc(in->arena, (count + 1) * sizeof *texts);
    if (texts == NULL)
        return error_no_memory(in->error);
    for (size_t i = 0; i < count; i++) {
        texts[i] = value_text(in, json_array_get(values, i));
        if (texts[i] == NULL)
            count = 0;
    }
    if (count == 0)
        return fault(in, "rows",
                     "%s: a list of texts, integers or booleans is expected, and not "
                     "an empty one",
                     key);
    *out = (struct config_row_scope){.key = key, .values = texts, .value_count = count};
    return STATUS_OK;
}

static enum status read_rows(const struct reading *in, const json_t *token,
                             struct config_token *out)
{
    json_t *rows = json_object_get(token, "rows");
    const char *key;
    json_t *values;
    if (rows == NULL)
        return STATUS_OK;
    if (!json_is_object(rows) || json_object_size(rows) == 0)
        return fault(in, "rows", "{\"KEY\": [VALUE, ...]} is expected");
    struct config_row_scope *scopes =
        arena_alloc(in->arena, json_object_size(rows) * sizeof *scopes);
    if (scopes == NULL)
        return error_no_memory(in->error);
    json_object_foreach (rows, key, values) {
        enum status status = read_scope(in, key, values, &scopes[out->row_count]);
        if (status != STATUS_OK)
            return status;
        out->row_count++;
    }
    out->rows = scopes;
    return STATUS_OK;
}

static enum status read_token(const struct reading *in, const json_t *json,
                              struct config_token *tokens)
{
    struct config_token *out = &tokens[in->index];
    *out = (struct config_token){0};
    if (!json_is_object(json))
        return fault(in, "", "must be an object");
    enum status status = check_members(in, json);
    if (status == STATUS_OK)
        status = read_name(in, json, out);
    if (status == STATUS_OK)
        status = read_hash(in, json, out);
    if (status == STATUS_OK)
        status = read_role(in, json, out);
    if (status == STATUS_OK)
        status = read_views(in, json, out);
    if (status == STATUS_OK)
        status = read_rows(in, json, out);
    if (status == STATUS_OK)
        status = read_sources(in, json, out);
    for (size_t i = 0; status == STATUS_OK && i < in->index; i++) {
        if (strcmp(tokens[i].name, out->name) == 0)
            status = fault(in, "name", "number %zu of the list has the same", i);
        else if (memcmp(tokens[i].sha256, out->sha256, TOKEN_HASH_BYTES) == 0)
            status = fault(in, "sha256", "number %zu of the list has the same", i);
    }
    return status;
}

enum status config_tokens_read(const json_t *json, struct arena *arena, struct config_token **out,
                               size_t *count, struct error *error)
{
    size_t size = json_array_size(json);
    *count = 0;
    if (size == 0 || size > TOKEN_MAX)
        return error_set(error, STATUS_REJECT,
                         "serving.tokens: a list of 1 to %d tokens is expected", (int)TOKEN_MAX);
    *out = arena_alloc(arena, size * sizeof **out);
    if (*out == NULL)
        return error_no_memory(error);
    for (; *count < size; ++*count) {
        const struct reading in = {.index = *count, .arena = arena, .error = error};
        enum status status = read_token(&in, json_array_get(json, *count), *out);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}
