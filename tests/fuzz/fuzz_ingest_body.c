/* Bodies of the ingest door: an array is taken apart into the elements that jansson finds; where
 * all elements are JSON the whole is, too; lines are what stands between line feeds; and what is
 * unpacked is never longer than it may be.
 *
 * Input: a byte that says which, then the body. */
#include "tests/fuzz/fuzz.h"

#include <jansson.h>

#include "serving/ingest_body.h"

enum { PIECES_MAX = 64, UNPACKED_MAX = 4096 };

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    return 0;
}

static json_t *parse(const char *text, size_t length)
{
    return json_loadb(text, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
}

static void check_array(const struct ingest_piece *pieces, size_t count, const char *body,
                        size_t length)
{
    json_t *whole = json_loadb(body, length, JSON_ALLOW_NUL, NULL);
    bool all = true;
    for (size_t i = 0; i < count; i++) {
        json_t *piece = parse(pieces[i].text, pieces[i].length);
        FUZZ_CHECK(pieces[i].number == i, "element %zu has number %zu", i, pieces[i].number);
        FUZZ_CHECK(whole == NULL || json_equal(piece, json_array_get(whole, i)),
                   "element %zu is another", i);
        all = all && piece != NULL;
        json_decref(piece);
    }
    FUZZ_CHECK(whole == NULL || json_array_size(whole) == count, "%zu elements of %zu", count,
               json_array_size(whole));
    FUZZ_CHECK(whole != NULL || !all, "all elements are JSON, and the body is not");
    json_decref(whole);
}

static void check_lines(const struct ingest_piece *pieces, size_t count, const char *body,
                        size_t length)
{
    size_t number = 1;
    const char *line = body;
    for (size_t i = 0; i < count; i++) {
        for (; number < pieces[i].number; number++)
            line = (const char *)memchr(line, '\n', length - (size_t)(line - body)) + 1;
        FUZZ_CHECK(pieces[i].length > 0 && memchr(pieces[i].text, '\n', pieces[i].length) == NULL,
                   "line %zu", number);
        FUZZ_CHECK(pieces[i].text >= line &&
                       memchr(line, '\n', (size_t)(pieces[i].text - line)) == NULL,
                   "the text of line %zu is elsewhere", number);
    }
}

static void split(char *body, size_t length, bool is_lines)
{
    struct ingest_piece *pieces = NULL;
    size_t count = 0;
    enum ingest_form form;
    struct error error = {0};
    enum status status =
        ingest_split(body, length, is_lines, PIECES_MAX, &pieces, &count, &form, &error);
    if (status != STATUS_OK) {
        fuzz_check_refusal(status, &error);
        json_t *whole = is_lines ? NULL : parse(body, length);
        size_t size = json_array_size(whole);
        FUZZ_CHECK(whole == NULL || (json_is_array(whole) && (size == 0 || size > PIECES_MAX)),
                   "refused: %s", error.text);
        json_decref(whole);
        return;
    }
    FUZZ_CHECK(count >= 1 && count <= PIECES_MAX, "%zu pieces", count);
    if (form == INGEST_ARRAY)
        check_array(pieces, count, body, length);
    else if (form == INGEST_LINES)
        check_lines(pieces, count, body, length);
    else
        FUZZ_CHECK(count == 1, "%zu objects", count);
    for (size_t i = 0; i < count; i++)
        ingest_unbreak(&pieces[i]);
    free(pieces);
}

static void unpack(const char *body, size_t length)
{
    char *out = NULL;
    size_t out_length = 0;
    struct error error = {0};
    enum status status = ingest_gunzip(body, length, UNPACKED_MAX, &out, &out_length, &error);
    if (status != STATUS_OK)
        fuzz_check_refusal(status, &error);
    else
        FUZZ_CHECK(out_length <= UNPACKED_MAX, "%zu bytes", out_length);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    uint8_t kind = fuzz_byte(&input) % 3;
    char *body = malloc(input.length + 1); /* of its exact size, but for a 0 that nobody reads */
    memcpy(body, input.data, input.length);
    char *exact = realloc(body, input.length > 0 ? input.length : 1);
    if (kind == 2)
        unpack(exact, input.length);
    else
        split(exact, input.length, kind == 1);
    free(exact);
    return 0;
}
