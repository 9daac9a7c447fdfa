/* GET /v1/views/{view}/rows: a merged query.
 *
 * Parameters become a struct query_request; whatever core/query/query.h refuses is told as 400. One
 * attempt is the whole of it in the common case; a second one follows where the connection was lost
 * or another version of the view has become current meanwhile. `at_least` compares with the receipt
 * of the answer itself: only an answer that is too old makes the request wait.
 *
 * Rows are a function of question, scope of the caller, version of the view, run, C, P and
 * watermark, but for what is looked up in reference tables; of these the ETag is made, and by these
 * answers are kept (serving/cache.h). The tag is a weak one: freshness_ms in the receipt is of the
 * moment. A client that has a tag, and a question whose answer is kept, cost the receipt's
 * statement alone where nothing moved; not even that for serving.cache_age_ms after it was read.
 * Caches in between may not store an answer (no-store): one that they revalidate would show the
 * freshness of long ago where a layer has stopped. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/program/program.h"
#include "serving/negotiate.h"
#include "serving/problem.h"
#include "serving/rows_request.h"

enum {
    RECEIPT_HEADER_MAX_BYTES = 8192, /* of what a connection has for its headers */
    ETAG_SIZE = 40,
};

/* Kept over suspensions. */
struct rows_wait {
    int64_t deadline_us;
};

/* One attempt to answer. */
struct attempt {
    struct server *server;
    struct http_request *request;
    struct http_response *response;
    struct postgres *postgres; /* NULL: to be answered without, or not at all */
    const struct catalogue *catalogue;
    const struct catalog_version *version;
    struct rows_request rows;
    char *key; /* the question in canonical form, owned; NULL: its answers are not kept */
    size_t key_length;
    int64_t read_us; /* when PostgreSQL was asked last */
    enum http_outcome outcome;
};

/* --- answering --- */

static int64_t demanded(const json_t *offsets, size_t index)
{
    return json_integer_value(json_array_get(offsets, index)); /* 0 for null */
}

/* The P of an answer that has not come far enough, for people. */
static void describe_positions(const struct query_receipt *receipt, char *text, size_t size)
{
    text[0] = '\0';
    for (size_t i = 0; i < receipt->partition_count; i++) {
        size_t length = strlen(text);
        snprintf(text + length, size - length, "%s%lld", i > 0 ? ", " : "",
                 (long long)receipt->partitions[i].position);
    }
}

/* Waits, or says that waiting is over. */
static enum http_outcome wait_or_give_up(const struct attempt *attempt,
                                         const struct query_receipt *receipt, const json_t *offsets)
{
    char positions[512];
    int64_t wanted[AT_LEAST_MAX];
    struct http_request *request = attempt->request;
    struct rows_wait *wait = request->state;
    const struct rows_request *rows = &attempt->rows;
    size_t count = json_array_size(offsets);
    for (size_t i = 0; i < count; i++)
        wanted[i] = demanded(offsets, i);
    if (wait == NULL) {
        wait = calloc(1, sizeof *wait);
        if (wait == NULL) {
            problem_respond(attempt->response, 500, NULL, "out of memory");
            return HTTP_RESPOND;
        }
        wait->deadline_us = request->started_us + rows->wait_ms * 1000;
        request->state = wait;
    }
    if (program_monotonic_us() >= wait->deadline_us) {
        describe_positions(receipt, positions, sizeof positions);
        problem_respond(attempt->response, 504, NULL,
                        "at_least: not reached within %lld ms; the positions are [%s]",
                        (long long)rows->wait_ms, positions);
        return HTTP_RESPOND;
    }
    if (waiters_add(attempt->server->waiters, request, attempt->version->view->source->topic,
                    wanted, count, rows->question.request.layer == QUERY_BATCH, wait->deadline_us))
        return HTTP_SUSPENDED;
    problem_respond(attempt->response, 503, NULL,
                    "at_least: too many requests wait already, or the server is stopping");
    return HTTP_RESPOND;
}

static const json_t *demanded_offsets(const struct attempt *attempt)
{
    return json_object_get(attempt->rows.at_least, attempt->version->view->source->topic);
}

static size_t topic_partitions(const struct query_receipt *receipt)
{
    size_t count = receipt->partition_count;
    return count == 0 ? 0 : (size_t)receipt->partitions[count - 1].partition + 1;
}

/* True: the answer has come as far as `at_least` demands, if it does. */
static bool is_late_enough(const struct attempt *attempt, const struct query_receipt *receipt)
{
    const json_t *offsets = demanded_offsets(attempt);
    if (json_array_size(offsets) > topic_partitions(receipt))
        return false;
    for (size_t i = 0; i < receipt->partition_count; i++) {
        const struct query_partition *partition = &receipt->partitions[i];
        if (partition->position < demanded(offsets, (size_t)partition->partition))
            return false;
    }
    return true;
}

/* --- the answer --- */

static char *make_etag(const struct attempt *attempt, uint64_t state)
{
    char etag[ETAG_SIZE];
    uint64_t question = XXH3_64bits(DOVETAIL_VERSION, strlen(DOVETAIL_VERSION));
    question = XXH3_64bits_withSeed(attempt->key, attempt->key_length, question);
    snprintf(etag, ETAG_SIZE, "W/\"%016" PRIx64 "%016" PRIx64 "\"", question, state);
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
static void respond_rows(const struct attempt *attempt, char *body, size_t length, const char *page,
                         const struct query_receipt *receipt)
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
        respond_header_take(response, "ETag", make_etag(attempt, query_state_hash(receipt)));
}

static char *copy(const char *data, size_t length)
{
    char *out = malloc(length + 1);
    if (out != NULL)
        memcpy(out, data, length);
    return out;
}

/* For the next one who asks. */
static void keep(const struct attempt *attempt, const struct query_answer *answer, const char *body,
                 size_t length, const struct query_span *receipt, const char *page)
{
    struct cache *cache = attempt->server->cache;
    if (attempt->key == NULL || !cache_is_on(cache) || attempt->response->status != 200)
        return;
    size_t end = receipt->at + receipt->length;
    struct kept_answer kept = {
        .state = query_state_hash(&answer->receipt),
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

static void respond_new(const struct attempt *attempt, const struct query_answer *answer)
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

static enum http_outcome respond_answer(const struct attempt *attempt,
                                        const struct query_answer *answer)
{
    const struct query_receipt *receipt = &answer->receipt;
    const json_t *offsets = demanded_offsets(attempt);
    if (json_array_size(offsets) > topic_partitions(receipt)) {
        problem_respond(attempt->response, 400, "at_least",
                        "at_least: the topic has %zu partitions", topic_partitions(receipt));
        return HTTP_RESPOND;
    }
    if (!is_late_enough(attempt, receipt))
        return wait_or_give_up(attempt, receipt, offsets);
    respond_new(attempt, answer);
    return HTTP_RESPOND;
}

/* --- without reading rows --- */

/* The kept answer with the receipt of now in its place. */
static void respond_kept(const struct attempt *attempt, const struct kept_answer *kept,
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
static bool respond_unchanged(const struct attempt *attempt, const struct query_receipt *receipt)
{
    size_t length = 0;
    char *etag = make_etag(attempt, query_state_hash(receipt));
    bool has = etag != NULL &&
               negotiate_has_etag(http_request_header(attempt->request, "If-None-Match"), etag);
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

/* True: answered by what the client or the cache has. */
static bool respond_at(const struct attempt *attempt, const struct kept_answer *kept,
                       const struct query_receipt *receipt)
{
    if (!is_late_enough(attempt, receipt))
        return false;
    if (respond_unchanged(attempt, receipt))
        return true;
    if (kept == NULL || kept->state != query_state_hash(receipt))
        return false;
    respond_kept(attempt, kept, receipt);
    cache_count(attempt->server->cache, true);
    return true;
}

/* By a receipt that was read a moment ago. */
static bool respond_from_memory(const struct attempt *attempt, const struct kept_answer *kept)
{
    int64_t now_us = program_monotonic_us();
    struct cache *cache = attempt->server->cache;
    struct kept_receipt *known =
        cache_find_receipt(cache, attempt->version->version, attempt->rows.question.request.layer,
                           now_us - attempt->server->config->serving_cache_age_ms * 1000);
    if (known == NULL)
        return false;
    /* What was true of the log then is true of it now, only longer ago. */
    struct query_receipt receipt = known->receipt;
    receipt.freshness_ms += (now_us - known->read_us) / 1000;
    bool answered = respond_at(attempt, kept, &receipt);
    cache_release_receipt(cache, known);
    return answered;
}

/* True: the view has moved since the answer was kept, so there is no need to ask whether. */
static bool has_moved(const struct attempt *attempt, const struct kept_answer *kept)
{
    struct cache *cache = attempt->server->cache;
    struct kept_receipt *known = cache_find_receipt(
        cache, attempt->version->version, attempt->rows.question.request.layer, kept->read_us + 1);
    bool moved = known != NULL && known->state != kept->state;
    cache_release_receipt(cache, known);
    return moved;
}

/* By a receipt that is read now. */
static enum status respond_after_asking(struct attempt *attempt, const struct kept_answer *kept,
                                        bool *answered, struct error *error)
{
    struct query_request *question = &attempt->rows.question.request;
    struct query_answer *answer = NULL;
    attempt->read_us = program_monotonic_us();
    question->receipt_only = true;
    enum status status = query_run(attempt->postgres, attempt->version, question, &answer, error);
    question->receipt_only = false;
    if (status != STATUS_OK)
        return status;
    cache_keep_receipt(attempt->server->cache, attempt->version->version, question->layer,
                       &answer->receipt, attempt->read_us);
    *answered = !answer->has_lookups && respond_at(attempt, kept, &answer->receipt);
    query_answer_destroy(answer);
    return STATUS_OK;
}

/* An answer that is there already, at the client or here. */
static enum status try_without_rows(struct attempt *attempt, bool *answered, struct error *error)
{
    struct cache *cache = attempt->server->cache;
    enum status status = STATUS_OK;
    *answered = false;
    if (attempt->key == NULL)
        return STATUS_OK;
    struct kept_answer *kept = cache_find(cache, attempt->key, attempt->key_length);
    bool has_tag = http_request_header(attempt->request, "If-None-Match") != NULL;
    if (attempt->postgres == NULL)
        *answered = kept != NULL && respond_from_memory(attempt, kept);
    else if (has_tag || (kept != NULL && !has_moved(attempt, kept)))
        status = respond_after_asking(attempt, kept, answered, error);
    cache_release_answer(cache, kept);
    return status;
}

/* --- attempts --- */

static const struct catalog_version *find_version(const struct catalogue *catalogue,
                                                  const char *view)
{
    return catalogue == NULL ? NULL : catalog_current(catalogue->catalog, view);
}

/* Versions change at any moment: the catalogue in memory may be behind the database. */
static bool is_outdated(const struct error *error)
{
    return error->status == STATUS_FENCED ||
           strcmp(error->sqlstate, "42P01") == 0 || /* tables of a version that is gone */
           (error->status == STATUS_RETRY && error->sqlstate[0] == '\0');
}

/* A request may name what has been registered since the catalogue was loaded. */
static bool is_behind(struct server *server, struct postgres *postgres,
                      const struct catalogue *catalogue)
{
    struct error ignored;
    if (catalogue_refresh(server->catalogues, postgres, &ignored) != STATUS_OK)
        return false;
    struct catalogue *newest = catalogue_take(server->catalogues);
    catalogue_release(server->catalogues, newest);
    return newest != catalogue;
}

/* Reads the rows. */
static enum status answer_from_postgres(struct attempt *attempt, struct error *error)
{
    struct query_answer *answer = NULL;
    const struct query_request *question = &attempt->rows.question.request;
    attempt->read_us = program_monotonic_us();
    enum status status = query_run(attempt->postgres, attempt->version, question, &answer, error);
    if (status != STATUS_OK)
        return status;
    cache_keep_receipt(attempt->server->cache, attempt->version->version, question->layer,
                       &answer->receipt, attempt->read_us);
    if (answer->has_lookups) { /* rows do not follow from what the key is made of */
        free(attempt->key);
        attempt->key = NULL;
    }
    if (attempt->key != NULL)
        cache_count(attempt->server->cache, false);
    attempt->outcome = respond_answer(attempt, answer);
    query_answer_destroy(answer);
    return STATUS_OK;
}

/* With the catalogue that is in memory. Anything but STATUS_OK and STATUS_REJECT is left for the
 * caller to repair or to tell; for those two outcome and response say what to do. */
static enum status try(struct attempt *attempt, enum representation representation, bool last,
                       struct error *error)
{
    bool answered = false;
    attempt->outcome = HTTP_RESPOND;
    if (!access_fits_view(attempt->request->caller, attempt->version->view)) {
        access_refuse_view(attempt->response);
        return STATUS_OK;
    }
    rows_request_init(&attempt->rows, attempt->server, attempt->request, representation);
    enum status status =
        rows_request_take(&attempt->rows, attempt->version->view, attempt->request, error);
    if (status == STATUS_OK && !attempt->rows.question.request.explain) {
        attempt->key = rows_request_key(&attempt->rows, attempt->version, attempt->request,
                                        &attempt->key_length);
        if (attempt->key == NULL)
            status = error_no_memory(error);
    }
    if (status == STATUS_OK)
        status = try_without_rows(attempt, &answered, error);
    if (status == STATUS_OK && !answered && attempt->postgres != NULL)
        status = answer_from_postgres(attempt, error);
    else if (status == STATUS_OK && !answered)
        status = error_set(error, STATUS_RETRY, "the answer is not kept");
    if (status == STATUS_REJECT && !last &&
        (attempt->postgres == NULL ||
         is_behind(attempt->server, attempt->postgres, attempt->catalogue)))
        status = error_set(error, STATUS_FENCED, "the catalogue has changed");
    else if (status == STATUS_REJECT)
        rows_request_refuse(&attempt->rows, attempt->response, error);
    free(attempt->key);
    rows_request_deinit(&attempt->rows);
    return status;
}

/* Makes a second attempt worth while; false: it is not, *error is what to tell. */
static bool repair(struct server *server, struct postgres *postgres, struct error *error)
{
    if (!postgres_is_connected(postgres))
        return pool_renew(server->pool, postgres, error);
    if (!is_outdated(error))
        return false;
    enum status status = catalogue_refresh(server->catalogues, postgres, error);
    if (status == STATUS_RETRY && pool_renew(server->pool, postgres, error))
        status = catalogue_refresh(server->catalogues, postgres, error);
    if (status == STATUS_REJECT)
        error->status = STATUS_RETRY; /* the database is at fault, not the request */
    return status == STATUS_OK;
}

/* True: answered, in one way or another. False: worth a second attempt if repair() succeeds, or
 * with PostgreSQL where this one was without. */
static bool attempt_newest(struct server *server, struct http_request *request,
                           struct postgres *postgres, enum representation representation, bool last,
                           enum http_outcome *outcome, struct http_response *response,
                           struct error *error)
{
    const char *view = request->segments[2];
    struct catalogue *catalogue = catalogue_take(server->catalogues);
    const struct catalog_version *version = find_version(catalogue, view);
    struct attempt attempt = {.server = server,
                              .request = request,
                              .response = response,
                              .postgres = postgres,
                              .catalogue = catalogue,
                              .version = version};
    enum status status;
    if (version != NULL)
        status = try(&attempt, representation, last, error);
    else
        status = error_set(error, STATUS_FENCED, "the view \"%s\" is not in the catalogue", view);
    *outcome = attempt.outcome;
    bool missing = version == NULL && last && catalogue != NULL;
    if (missing)
        catalogue_respond_no_version(catalogue, view, response);
    catalogue_release(server->catalogues, catalogue);
    return missing || status == STATUS_OK || status == STATUS_REJECT;
}

enum http_outcome handle_rows(struct server *server, struct http_request *request,
                              struct http_response *response)
{
    struct postgres *postgres = NULL;
    struct error error = {0};
    enum http_outcome outcome = HTTP_RESPOND;
    int chosen =
        negotiate_media(http_request_header(request, "Accept"), rows_media_types, REPRESENTATIONS);
    if (!access_has_view(request->caller, request->segments[2])) {
        access_refuse_view(response);
        return HTTP_RESPOND;
    }
    if (chosen < 0) {
        problem_respond(response, 406, NULL, "there are %s, %s and %s", rows_media_types[AS_JSON],
                        rows_media_types[AS_NDJSON], rows_media_types[AS_CSV]);
        return HTTP_RESPOND;
    }
    enum representation representation = (enum representation)chosen;
    if (server->config->serving_cache_age_ms > 0 && cache_is_on(server->cache) &&
        attempt_newest(server, request, NULL, representation, false, &outcome, response, &error))
        return outcome;
    if (pool_take(server->pool, &postgres, &error) != STATUS_OK) {
        problem_respond_error(response, &error);
        return HTTP_RESPOND;
    }
    bool answered = attempt_newest(server, request, postgres, representation, false, &outcome,
                                   response, &error);
    if (!answered && repair(server, postgres, &error))
        answered = attempt_newest(server, request, postgres, representation, true, &outcome,
                                  response, &error);
    if (!answered)
        problem_respond_query(response, &error);
    pool_give_back(server->pool, postgres);
    return outcome;
}
