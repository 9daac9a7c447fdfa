/* Taking a body apart: see serving/ingest_body.h.
 *
 * An array is walked by brackets and strings alone. That finds the same elements as a JSON parser
 * in every valid array; in one that is not valid either the walk does not end with the body, and
 * all of it is refused, or some element is no valid JSON, and the event parser refuses that. */
#include "serving/ingest_body.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

enum { GZIP_WINDOW_BITS = 15 + 16, FIRST_BYTES = 16 * 1024, FIRST_PIECES = 64 };

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

bool ingest_media(const char *content_type, bool *is_lines)
{
    static const struct {
        const char *name;
        bool is_lines;
    } known[] = {
        {"application/json", false},
        {"application/x-ndjson", true},
        {"application/ndjson", true},
        {"application/jsonl", true},
    };
    if (content_type == NULL)
        return false;
    content_type += strspn(content_type, " \t");
    size_t length = strcspn(content_type, "; \t");
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strlen(known[i].name) == length &&
            strncasecmp(known[i].name, content_type, length) == 0) {
            *is_lines = known[i].is_lines;
            return true;
        }
    }
    return false;
}

/* --- gzip --- */

enum status ingest_gunzip(const char *data, size_t length, size_t max, char **out,
                          size_t *out_length, struct error *error)
{
    z_stream stream = {.next_in = (unsigned char *)(uintptr_t)data,
                       .avail_in = (unsigned int)length};
    size_t capacity = max < FIRST_BYTES ? max : FIRST_BYTES;
    size_t used = 0;
    int code = Z_OK;
    *out = NULL;
    if (length > UINT32_MAX || inflateInit2(&stream, GZIP_WINDOW_BITS) != Z_OK)
        return error_no_memory(error);
    char *text = malloc(capacity + 1);
    while (text != NULL && code == Z_OK) {
        if (used == capacity && capacity < max) {
            capacity = capacity > max / 2 ? max : 2 * capacity;
            char *grown = realloc(text, capacity + 1);
            if (grown == NULL)
                free(text);
            text = grown;
            continue;
        }
        /* One byte more than may come tells that there is more. */
        stream.next_out = (unsigned char *)text + used;
        stream.avail_out = (unsigned int)(capacity - used + (capacity == max));
        code = inflate(&stream, Z_NO_FLUSH);
        used = (size_t)((char *)stream.next_out - text);
        if (used > max)
            break;
    }
    bool whole = code == Z_STREAM_END && stream.avail_in == 0;
    (void)inflateEnd(&stream);
    if (text == NULL)
        return error_no_memory(error);
    if (used <= max && whole) {
        *out = text;
        *out_length = used;
        return STATUS_OK;
    }
    free(text);
    if (used > max)
        return error_set(error, STATUS_REJECT, "the body is larger than %zu bytes, unpacked", max);
    return error_set(error, STATUS_REJECT, "the body is no whole gzip stream");
}

/* --- pieces --- */

struct pieces {
    struct ingest_piece *list;
    size_t count;
    size_t capacity;
    size_t max;
};

static enum status add(struct pieces *pieces, char *text, size_t length, size_t number,
                       struct error *error)
{
    if (pieces->count == pieces->max)
        return error_set(error, STATUS_REJECT, "the body has more than %zu events", pieces->max);
    if (pieces->count == pieces->capacity) {
        size_t capacity = pieces->capacity == 0 ? FIRST_PIECES : 2 * pieces->capacity;
        struct ingest_piece *grown = realloc(pieces->list, capacity * sizeof *grown);
        if (grown == NULL)
            return error_no_memory(error);
        pieces->list = grown;
        pieces->capacity = capacity;
    }
    while (length > 0 && is_blank(text[0])) {
        text++;
        length--;
    }
    while (length > 0 && is_blank(text[length - 1]))
        length--;
    pieces->list[pieces->count++] = (struct ingest_piece){text, length, number};
    return STATUS_OK;
}

static bool is_empty(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!is_blank(text[i]))
            return false;
    return true;
}

static enum status split_lines(struct pieces *pieces, char *body, size_t length,
                               struct error *error)
{
    char *end = body + length;
    size_t number = 1;
    enum status status = STATUS_OK;
    for (char *line = body; status == STATUS_OK && line < end; number++) {
        char *feed = memchr(line, '\n', (size_t)(end - line));
        char *after = feed != NULL ? feed : end;
        if (!is_empty(line, (size_t)(after - line)))
            status = add(pieces, line, (size_t)(after - line), number, error);
        line = after + 1;
    }
    return status;
}

/* Behind the string that begins at `at`; NULL where it does not end. */
static char *pass_string(char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++)
        if (*at == '\\')
            at++;
    return at < end ? at + 1 : NULL;
}

/* `body` begins with '['. */
static enum status split_array(struct pieces *pieces, char *body, const char *end,
                               struct error *error)
{
    size_t depth = 1;
    size_t number = 0;
    char *element = body + 1;
    char *at = element;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && at < end && depth > 0) {
        char c = *at;
        if (c == '"') {
            at = pass_string(at, end);
            if (at == NULL)
                break;
            continue;
        }
        if (c == '[' || c == '{')
            depth++;
        else if (c == ']' || c == '}')
            depth--;
        bool ends = depth == 0 || (depth == 1 && c == ',');
        bool is_none = depth == 0 && number == 0 && is_empty(element, (size_t)(at - element));
        if (ends && !is_none)
            status = add(pieces, element, (size_t)(at - element), number++, error);
        at++;
        if (ends)
            element = at;
    }
    if (status != STATUS_OK)
        return status;
    if (at == NULL || depth > 0)
        return error_set(error, STATUS_REJECT, "the array does not end");
    if (at[-1] != ']' || !is_empty(at, (size_t)(end - at)))
        return error_set(error, STATUS_REJECT, "the body is no whole JSON array");
    return STATUS_OK;
}

enum status ingest_split(char *body, size_t length, bool is_lines, size_t max,
                         struct ingest_piece **out, size_t *count, enum ingest_form *form,
                         struct error *error)
{
    struct pieces pieces = {.max = max};
    size_t blank = 0;
    enum status status;
    *out = NULL;
    *count = 0;
    while (blank < length && is_blank(body[blank]))
        blank++;
    *form = is_lines                               ? INGEST_LINES
            : blank < length && body[blank] == '[' ? INGEST_ARRAY
                                                   : INGEST_OBJECT;
    if (*form == INGEST_LINES)
        status = split_lines(&pieces, body, length, error);
    else if (*form == INGEST_ARRAY)
        status = split_array(&pieces, body + blank, body + length, error);
    else if (blank < length)
        status = add(&pieces, body, length, 0, error);
    else
        status = STATUS_OK;
    if (status == STATUS_OK && pieces.count == 0)
        status = error_set(error, STATUS_REJECT, "the body has no event");
    if (status != STATUS_OK) {
        free(pieces.list);
        return status;
    }
    *out = pieces.list;
    *count = pieces.count;
    return STATUS_OK;
}

void ingest_unbreak(struct ingest_piece *piece)
{
    for (size_t i = 0; i < piece->length; i++)
        if (piece->text[i] == '\n' || piece->text[i] == '\r')
            piece->text[i] = ' ';
}
