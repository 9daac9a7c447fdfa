/* Masking raw records for verify: see cli/verify_mask.h.
 *
 * One pass over the text keeps the names that lead to where it is on a stack; a string at a masked
 * path is unescaped by jansson and replaced. jansson then says whether the whole is a JSON object,
 * numbers left out, which PostgreSQL judges. Where a name occurs several times every string is
 * masked; what is not a string stays, for nothing here is kept. */
#include "cli/verify_mask.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

enum { DEPTH_MAX = 600, KEY_MAX = 1024, HEX_BYTES = 64 };

struct verify_mask {
    const struct source *source;
    unsigned char key[KEY_MAX + 1];
    size_t key_length;
    bool done[SOURCE_MASK_MAX]; /* masked already */
    FILE *out;
    FILE *check;
    char *text; /* of the last record */
    size_t text_length;
};

/* A container that the pass is in: the name of the member at hand. */
struct level {
    json_t *name; /* a string; NULL in an array */
    bool is_array;
};

struct stack {
    struct level levels[DEPTH_MAX];
    size_t depth;
    bool is_name; /* the next string is a member's name */
};

/* --- the key --- */

static void hash(const struct verify_mask *mask, const char *data, size_t length, char *out)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_length = 0;
    HMAC(EVP_sha256(), mask->key, (int)mask->key_length, (const unsigned char *)data, length,
         digest, &digest_length);
    for (unsigned i = 0; i < digest_length && i < HEX_BYTES / 2; i++)
        sprintf(out + 2 * (size_t)i, "%02x", digest[i]);
}

static enum status read_key(struct verify_mask *mask, struct error *error)
{
    const struct source *source = mask->source;
    static const char constant[] = "dovetail: fingerprint of the key that masks values";
    char fingerprint[HEX_BYTES + 1] = "";
    FILE *file = fopen(source->mask_key_file, "rb");
    if (file == NULL)
        return error_set(error, STATUS_REJECT, "source %s: mask.key_file: %s: cannot be read: %s",
                         source->name, source->mask_key_file, strerror(errno));
    mask->key_length = fread(mask->key, 1, KEY_MAX, file);
    fclose(file);
    if (mask->key_length > 0 && mask->key[mask->key_length - 1] == '\n')
        mask->key_length--;
    if (mask->key_length > 0 && mask->key[mask->key_length - 1] == '\r')
        mask->key_length--;
    hash(mask, constant, sizeof constant - 1, fingerprint);
    if (strcmp(fingerprint, source->mask_fingerprint) != 0)
        return error_set(error, STATUS_REJECT,
                         "source %s: mask.key_file: %s: is not the key that was registered",
                         source->name, source->mask_key_file);
    return STATUS_OK;
}

enum status verify_mask_create(const struct source *source, struct verify_mask **out,
                               struct error *error)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return error_no_memory(error);
    (*out)->source = source;
    enum status status = read_key(*out, error);
    if (status != STATUS_OK) {
        verify_mask_destroy(*out);
        *out = NULL;
    }
    return status;
}

void verify_mask_destroy(struct verify_mask *mask)
{
    if (mask == NULL)
        return;
    memset(mask->key, 0, sizeof mask->key);
    free(mask->text);
    free(mask);
}

/* --- which paths --- */

static const struct source_field *masked_field(const struct verify_mask *mask, size_t index)
{
    return &mask->source->fields[mask->source->mask_fields[index]];
}

void verify_mask_already(struct verify_mask *mask, const char *paths_text)
{
    json_t *paths = paths_text == NULL ? NULL : json_loads(paths_text, 0, NULL);
    for (size_t i = 0; i < mask->source->mask_count; i++) {
        const struct source_field *field = masked_field(mask, i);
        mask->done[i] = false;
        for (size_t p = 0; p < json_array_size(paths); p++) {
            const json_t *path = json_array_get(paths, p);
            bool same = json_array_size(path) == field->path_count;
            for (size_t s = 0; same && s < field->path_count; s++)
                same = strcmp(json_string_value(json_array_get(path, s)), field->path[s]) == 0;
            mask->done[i] = mask->done[i] || same;
        }
    }
    json_decref(paths);
}

/* Does the stack of names lead to a path that is to be masked? */
static bool is_wanted(const struct verify_mask *mask, const struct level *levels, size_t depth)
{
    for (size_t i = 0; i < mask->source->mask_count; i++) {
        const struct source_field *field = masked_field(mask, i);
        bool same = !mask->done[i] && field->path_count == depth;
        for (size_t s = 0; same && s < depth; s++)
            same = !levels[s].is_array && levels[s].name != NULL &&
                   strcmp(json_string_value(levels[s].name), field->path[s]) == 0 &&
                   json_string_length(levels[s].name) == strlen(field->path[s]);
        if (same)
            return true;
    }
    return false;
}

/* --- the pass --- */

/* The length of the string token at `text`, quotes included. */
static size_t string_length(const char *text, const char *end)
{
    const char *at = text + 1;
    while (at < end && *at != '"')
        at += *at == '\\' ? 2 : 1;
    return (size_t)(at - text) + 1;
}

/* To the output and to the text that jansson is asked about. */
static void put(struct verify_mask *mask, const char *text, size_t length)
{
    fwrite(text, 1, length, mask->out);
    fwrite(text, 1, length, mask->check);
}

/* A string token at a place where a value stands. */
static void put_string(struct verify_mask *mask, const char *token, size_t length, bool wanted)
{
    char hex[HEX_BYTES + 3] = "\"";
    json_t *string =
        wanted ? json_loadb(token, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
    if (string == NULL) {
        put(mask, token, length);
        return;
    }
    /* A field with U+0000 makes its record a dead letter, which PostgreSQL shall find out. */
    if (strlen(json_string_value(string)) != json_string_length(string))
        strcat(hex, "\\u0000");
    else
        hash(mask, json_string_value(string), json_string_length(string), hex + 1);
    strcat(hex, "\"");
    put(mask, hex, strlen(hex));
    json_decref(string);
}

/* A name or a value. False: the string does not end. */
static bool take_string(struct verify_mask *mask, struct stack *stack, const char **at,
                        const char *end)
{
    size_t length = string_length(*at, end);
    if (length > (size_t)(end - *at))
        return false;
    struct level *level = stack->depth > 0 ? &stack->levels[stack->depth - 1] : NULL;
    if (stack->is_name && level != NULL) {
        json_decref(level->name);
        level->name = json_loadb(*at, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        put(mask, *at, length);
    } else {
        put_string(mask, *at, length, is_wanted(mask, stack->levels, stack->depth));
    }
    *at += length;
    return true;
}

/* A bracket, comma or colon, or any other character. False: it cannot stand here. */
static bool take_character(struct verify_mask *mask, struct stack *stack, char c)
{
    struct level *level = stack->depth > 0 ? &stack->levels[stack->depth - 1] : NULL;
    if (c == '{' || c == '[') {
        if (stack->depth == DEPTH_MAX)
            return false;
        stack->levels[stack->depth++] = (struct level){.is_array = c == '['};
        stack->is_name = c == '{';
    } else if (strchr("}],:", c) != NULL) {
        if (level == NULL)
            return false;
        stack->is_name = c == ',' && !level->is_array;
        if (c == '}' || c == ']') {
            json_decref(level->name);
            level->name = NULL;
            stack->depth--;
        }
    }
    put(mask, &c, 1);
    return true;
}

static bool rewrite(struct verify_mask *mask, const char *at, const char *end)
{
    static const char number[] = "+-.0123456789eE";
    struct stack stack = {0};
    bool good = true;
    while (good && at < end) {
        if (*at == '"') {
            good = take_string(mask, &stack, &at, end);
        } else if (*at == '-' || (*at >= '0' && *at <= '9')) {
            const char *begin = at;
            while (at < end && *at != '\0' && strchr(number, *at) != NULL)
                at++;
            fwrite(begin, 1, (size_t)(at - begin), mask->out);
            fputc('0', mask->check); /* jansson knows no numbers beyond a double's range */
        } else {
            good = *at != '\0' && take_character(mask, &stack, *at++);
        }
    }
    for (size_t i = 0; i < stack.depth; i++)
        json_decref(stack.levels[i].name);
    return good;
}

static bool is_object(const char *text, size_t length)
{
    json_t *json = json_loadb(text, length, JSON_ALLOW_NUL, NULL);
    bool object = json_is_object(json);
    json_decref(json);
    return object;
}

enum status verify_mask_apply(struct verify_mask *mask, const char *value, size_t length,
                              const char **out, size_t *out_length, struct error *error)
{
    char *check = NULL;
    size_t check_length = 0;
    *out = NULL;
    *out_length = 0;
    if (value == NULL || length == 0)
        return STATUS_OK;
    free(mask->text);
    mask->text = NULL;
    mask->out = open_memstream(&mask->text, &mask->text_length);
    mask->check = open_memstream(&check, &check_length);
    bool good = mask->out != NULL && mask->check != NULL && rewrite(mask, value, value + length);
    bool failed = mask->out == NULL || mask->check == NULL;
    failed = (mask->out != NULL && fclose(mask->out) != 0) || failed;
    failed = (mask->check != NULL && fclose(mask->check) != 0) || failed;
    if (!failed && good && is_object(check, check_length)) {
        *out = mask->text;
        *out_length = mask->text_length;
    }
    free(check);
    return failed ? error_no_memory(error) : STATUS_OK;
}
