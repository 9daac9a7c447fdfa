/* What goes out: see serving/rows_answer.h. */
#include "serving/rows_answer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/program/program.h"
#include "serving/negotiate.h"
#include "serving/problem.h"

enum {
    RECEIPT_HEADER_MAX_BYTES = 8192, /* of what a connection has for its headers */
    ETAG_SIZE = 40,
};

/* One hash of 128 bits over question and state: see struct query_state. */
static char *make_etag(const struct rows_attempt *attempt, struct query_state state)
{
    char etag[ETAG_SIZE];
    uint64_t release = XXH3_64bits(DOVETAIL_VERSION, strlen(DOVETAIL_VERSION));
    XXH128_hash_t question = XXH3_128bits_withSeed(attempt->key, attempt->key_length, release);
    const uint64_t both[] = {question.high64, question.low64, state.high, state.low};
    XXH128_hash_t hash = XXH3_128bits(both, sizeof both);
    snprintf(etag, ETAG_SIZE, "W/\"%016" PRIx64 "%016" PRIx64 "\"", hash.high64, hash.low64);
    return strdup(etag);
}

/* The receipt, where the body has no place for it. */
static void respond_receipt(const struct query_receipt *receipt, struct http_response *response)
{
    size_t length = 0;
    char *text = query_receipt_json(receipt, &length);
    if (length <= RECEIPT_HEADER_MAX_BYTES) {
        respond_header_take(response, "Dovetail-Receipt", text);
        return;
    }
    free(text);
    problem_respond(response, 406, NULL,
                    "the receipt of %zu partitions is too long for a header, and CSV has no other "
                    "place for it: ask for application/json or application/x-ndjson",
                    receipt->partition_count);
}

/* The body is taken. What of it is a receipt's place is filled. */
static void respond_rows(const struct rows_attempt *attempt, char *body, size_t length,
                         const char *page, const struct query_receipt *receipt)
{
    struct http_response *response = attempt->response;
    bool is_csv = attempt->rows.representation == AS_CSV;
    respond_body(response,
                 is_csv ? "text/csv; charset=utf-8; header=present"
                        : rows_media_types[attempt->rows.representation],
                 body, length);
    if (response->status == 200 && page != NULL)
        respond_header_take(response, "Dovetail-Page", strdup(page));
    if (response->status == 200 && is_csv)
        respond_receipt(receipt, response);
    if (response->status != 200)
        return;
    respond_header(response, "Vary", "Accept, Accept-Encoding, Authorization");
    if (attempt->key != NULL)
        respond_header_take(response, "ETag", make_etag(attempt, query_state_of(receipt)));
}

static char *copy(const char *data, size_t length)
{
    char *out = malloc(length + 1);
    if (out != NULL)
        memcpy(out, data, length);
    return out;
}

/* For the next one who asks. */
static void keep(const struct rows_attempt *attempt, const struct query_answer *answer,
                 const char *body, size_t length, const struct query_span *receipt,
                 const char *page)
{
    struct cache *cache = attempt->server->cache;
    if (attempt->key == NULL || !cache_is_on(cache) || attempt->response->status != 200)
        return;
    size_t end = receipt->at + receipt->length;
    struct kept_answer kept = {
        .state = query_state_of(&answer->receipt),
        .read_us = attempt->read_us,
        .head_length = receipt->length > 0 ? receipt->at : length,
        .tail_length = receipt->length > 0 ? length - end : 0,
        .page = page != NULL ? strdup(page) : NULL,
    };
    kept.head = copy(body, kept.head_length);
    kept.tail = receipt->length > 0 ? copy(body + end, kept.tail_length) : NULL;
    if (kept.head != NULL && (kept.tail != NULL) == (receipt->length > 0) &&
        (kept.page != NULL) == (page != NULL)) {
        cache_keep(cache, attempt->key, attempt->key_length, &kept);
        return;
    }
    free(kept.head);
    free(kept.tail);
    free(kept.page);
}

void rows_respond_new(const struct rows_attempt *attempt, const struct query_answer *answer)
{
    size_t length = 0;
    size_t page_length = 0;
    struct query_span receipt = {0};
    enum representation representation = attempt->rows.representation;
    char *body = representation == AS_CSV    ? query_answer_csv(answer, &length)
                 : representation == AS_JSON ? query_answer_json(answer, &length, &receipt)
                                             : query_answer_ndjson(answer, &length, &receipt);
    char *page =
        answer->is_page && representation == AS_CSV ? query_page_json(answer, &page_length) : NULL;
    respond_rows(attempt, body, length, page, &answer->receipt);
    if (attempt->response->status == 200)
        keep(attempt, answer, attempt->response->body, length, &receipt, page);
    free(page);
}

/* The kept answer with the receipt of now in its place. */
void rows_respond_kept(const struct rows_attempt *attempt, const struct kept_answer *kept,
                       const struct query_receipt *receipt)
{
    size_t length = 0;
    size_t receipt_length = 0;
    char *text = kept->tail != NULL ? query_receipt_json(receipt, &receipt_length) : NULL;
    char *body = NULL;
    if (kept->tail == NULL || text != NULL)
        body = malloc(kept->head_length + receipt_length + kept->tail_length + 1);
    if (body != NULL) {
        memcpy(body, kept->head, kept->head_length);
        length = kept->head_length;
        if (text != NULL) {
            memcpy(body + length, text, receipt_length);
            memcpy(body + length + receipt_length, kept->tail, kept->tail_length);
            length += receipt_length + kept->tail_length;
        }
    }
    free(text);
    respond_rows(attempt, body, length, kept->page, receipt);
}

/* True: the client has these rows; the response says so. The receipt of now goes along. */
bool rows_respond_unchanged(const struct rows_attempt *attempt, const struct query_receipt *receipt)
{
    size_t length = 0;
    const char *tags = http_request_header(attempt->request, "If-None-Match");
    char *etag = tags != NULL ? make_etag(attempt, query_state_of(receipt)) : NULL;
    bool has = etag != NULL && negotiate_has_etag(tags, etag);
    char *text = has ? query_receipt_json(receipt, &length) : NULL;
    if (text == NULL || length > RECEIPT_HEADER_MAX_BYTES) {
        free(text);
        free(etag);
        return false;
    }
    *attempt->response = (struct http_response){
        .status = 304,
        .content_type = rows_media_types[attempt->rows.representation],
    };
    respond_header_take(attempt->response, "Dovetail-Receipt", text);
    respond_header_take(attempt->response, "ETag", etag);
    respond_header(attempt->response, "Vary", "Accept, Accept-Encoding, Authorization");
    respond_header(attempt->response, "Cache-Control", "no-store");
    return true;
}
