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
 * moment. A client that has a tag, and a question whose answer is kept, cost a look alone where
 * nothing moved, which all requests of the moment share (serving/glance.h); not even that for
 * serving.cache_age_ms after one. Rows are read by one statement where nothing moved.
 * Caches in between may not store an answer (no-store): one that they revalidate would show the
 * freshness of long ago where a layer has stopped. */
#include <stdlib.h>
#include <string.h>

#include "core/program/program.h"
#include "serving/negotiate.h"
#include "serving/problem.h"
#include "serving/rows_answer.h"

/* Kept over suspensions; the request's state. */
struct rows_wait {
    int64_t deadline_us; /* of at_least; 0: that does not wait */
    /* The glance. */
    bool is_asked; /* an answer to `question` is on its way, or has come */
    bool is_told;  /* this request has asked, and was told; it does not ask again */
    int64_t asked_us;
    struct glance_question question;
    struct http_response response; /* what goes out if nothing has moved */
    struct kept_receipt *known;    /* since that was read; borrowed */
    struct cache *cache;           /* whose it is */
};

static void forget_question(struct rows_wait *wait)
{
    cache_release_receipt(wait->cache, wait->known);
    wait->known = NULL;
    wait->is_asked = false;
    http_response_clear(&wait->response);
}

static void release_wait(void *state)
{
    if (state != NULL)
        forget_question(state);
    free(state);
}

/* NULL: out of memory. */
static struct rows_wait *wait_of(struct http_request *request, struct cache *cache)
{
    struct rows_wait *wait = request->state;
    if (wait != NULL)
        return wait;
    wait = calloc(1, sizeof *wait);
    if (wait == NULL)
        return NULL;
    wait->cache = cache;
    request->state = wait;
    request->release = release_wait;
    return wait;
}

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
static enum http_outcome wait_or_give_up(const struct rows_attempt *attempt,
                                         const struct query_receipt *receipt, const json_t *offsets)
{
    char positions[512];
    int64_t wanted[AT_LEAST_MAX];
    struct http_request *request = attempt->request;
    struct rows_wait *wait = wait_of(request, attempt->server->cache);
    const struct rows_request *rows = &attempt->rows;
    size_t count = json_array_size(offsets);
    for (size_t i = 0; i < count; i++)
        wanted[i] = demanded(offsets, i);
    if (wait == NULL) {
        problem_respond(attempt->response, 500, NULL, "out of memory");
        return HTTP_RESPOND;
    }
    wait->deadline_us = request->started_us + rows->wait_ms * 1000;
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

static const json_t *demanded_offsets(const struct rows_attempt *attempt)
{
    return json_object_get(attempt->rows.at_least, attempt->version->view->source->topic);
}

static size_t topic_partitions(const struct query_receipt *receipt)
{
    size_t count = receipt->partition_count;
    return count == 0 ? 0 : (size_t)receipt->partitions[count - 1].partition + 1;
}

/* True: the answer has come as far as `at_least` demands, if it does. */
static bool is_late_enough(const struct rows_attempt *attempt, const struct query_receipt *receipt)
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

static enum http_outcome respond_answer(const struct rows_attempt *attempt,
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
    rows_respond_new(attempt, answer);
    return HTTP_RESPOND;
}

/* --- without reading rows --- */

/* True: answered by what the client or the cache has. */
static bool respond_at(const struct rows_attempt *attempt, const struct kept_answer *kept,
                       const struct query_receipt *receipt)
{
    if (!is_late_enough(attempt, receipt))
        return false;
    if (rows_respond_unchanged(attempt, receipt))
        return true;
    if (kept == NULL || !query_states_are_equal(kept->state, query_state_of(receipt)))
        return false;
    rows_respond_kept(attempt, kept, receipt);
    return true;
}

/* What is known from before; to be released. */
static struct kept_receipt *find_known(const struct rows_attempt *attempt, int64_t since_us)
{
    return cache_find_receipt(attempt->server->cache, attempt->version->version,
                              attempt->rows.question.request.layer, since_us);
}

/* What was true of the log then is true of it now, only longer ago. */
static struct query_receipt receipt_of_now(const struct kept_receipt *known)
{
    struct query_receipt receipt = known->receipt;
    receipt.freshness_ms += (program_monotonic_us() - known->read_us) / 1000;
    return receipt;
}

/* A 304 is no answer that was kept. */
static void count_hit(struct cache *cache, const struct http_response *response)
{
    if (response->status == 200)
        cache_count(cache, true);
}

static void suspend(void *request)
{
    http_request_suspend(request);
}

static void resume(void *request)
{
    http_request_resume(request);
}

/* What the look says of the response that is ready. True: it goes out. */
static bool take_held(struct rows_wait *wait, struct http_response *response)
{
    bool holds = wait->question.status == STATUS_OK &&
                 query_marks_are_equal(&wait->question.mark, &wait->known->receipt.mark);
    if (wait->question.status == STATUS_OK)
        cache_note_hold(wait->cache, holds, true);
    if (holds) {
        cache_confirm_receipt(wait->cache, wait->known, wait->asked_us);
        count_hit(wait->cache, &wait->response);
        *response = wait->response;
        wait->response = (struct http_response){0};
    }
    forget_question(wait);
    wait->is_told = true;
    return holds;
}

/* The response is ready, if PostgreSQL says, after this was called, that nothing has moved since
 * `known` was read; which is taken. */
static bool respond_if_it_holds(struct rows_attempt *attempt, struct kept_receipt *known)
{
    struct http_request *request = attempt->request;
    struct rows_wait *wait = wait_of(request, attempt->server->cache);
    if (wait == NULL) {
        cache_release_receipt(attempt->server->cache, known);
        http_response_clear(attempt->response);
        return false;
    }
    wait->known = known;
    wait->response = *attempt->response;
    *attempt->response = (struct http_response){0};
    wait->is_asked = true;
    wait->asked_us = program_monotonic_us();
    wait->question = (struct glance_question){.wait = suspend, .told = resume, .context = request};
    if (glance_ask(attempt->server->glance, &wait->question))
        return take_held(wait, attempt->response);
    attempt->outcome = HTTP_SUSPENDED; /* this thread alone goes on with it, later */
    return true;
}

/* By a receipt that was read a moment ago, or that holds still. */
static bool respond_from_memory(struct rows_attempt *attempt, const struct kept_answer *kept)
{
    struct cache *cache = attempt->server->cache;
    const struct rows_wait *wait = attempt->request->state;
    int64_t age_us = attempt->server->config->serving_cache_age_ms * 1000;
    int64_t recent_us = age_us > 0 ? program_monotonic_us() - age_us : INT64_MAX;
    struct kept_receipt *known = find_known(attempt, recent_us);
    bool is_recent = known != NULL;
    if (!is_recent && ((wait != NULL && wait->is_told) || !cache_expects_hold(cache)))
        return false;
    if (!is_recent)
        known = find_known(attempt, INT64_MIN);
    if (known == NULL)
        return false;
    struct query_receipt receipt = receipt_of_now(known);
    bool is_ready = respond_at(attempt, kept, &receipt);
    if (is_ready && !is_recent)
        return respond_if_it_holds(attempt, known);
    if (is_ready)
        count_hit(cache, attempt->response);
    cache_release_receipt(cache, known);
    return is_ready;
}

/* True: the view has moved since the answer was kept, so there is no need to ask whether. */
static bool has_moved(const struct rows_attempt *attempt, const struct kept_answer *kept)
{
    struct cache *cache = attempt->server->cache;
    struct kept_receipt *known = find_known(attempt, kept->read_us + 1);
    bool moved = known != NULL && !query_states_are_equal(known->state, kept->state);
    cache_release_receipt(cache, known);
    return moved;
}

/* What a receipt says of the one before it. True: they are of the same snapshot. */
static bool note_hold(const struct rows_attempt *attempt, const struct kept_receipt *known,
                      const struct query_receipt *receipt, bool was_asked)
{
    if (known == NULL)
        return false;
    bool held = query_marks_are_equal(&receipt->mark, &known->receipt.mark);
    cache_note_hold(attempt->server->cache, held, was_asked);
    return held;
}

/* By a receipt that is read now. */
static enum status respond_after_asking(struct rows_attempt *attempt,
                                        const struct kept_answer *kept, bool *answered,
                                        struct error *error)
{
    struct query_request *question = &attempt->rows.question.request;
    struct query_answer *answer = NULL;
    attempt->read_us = program_monotonic_us();
    struct kept_receipt *known = find_known(attempt, INT64_MIN);
    question->receipt_only = true;
    enum status status = query_run(attempt->postgres, attempt->version, question, &answer, error);
    question->receipt_only = false;
    if (status == STATUS_OK)
        note_hold(attempt, known, &answer->receipt, false);
    cache_release_receipt(attempt->server->cache, known);
    if (status != STATUS_OK)
        return status;
    cache_keep_receipt(attempt->server->cache, attempt->version->version, question->layer,
                       &answer->receipt, attempt->read_us);
    *answered = !answer->has_lookups && respond_at(attempt, kept, &answer->receipt);
    if (*answered)
        count_hit(attempt->server->cache, attempt->response);
    query_answer_destroy(answer);
    return STATUS_OK;
}

/* Every attempt keeps the connection that one before it took. */
static enum status connect(struct rows_attempt *attempt, struct error *error)
{
    if (attempt->postgres != NULL)
        return STATUS_OK;
    return pool_take(attempt->server->pool, &attempt->postgres, error);
}

/* An answer that is there already, at the client or here. */
static enum status try_without_rows(struct rows_attempt *attempt, bool *answered,
                                    struct error *error)
{
    struct cache *cache = attempt->server->cache;
    enum status status = STATUS_OK;
    *answered = false;
    if (attempt->key == NULL)
        return STATUS_OK;
    struct kept_answer *kept = cache_find(cache, attempt->key, attempt->key_length);
    bool has_tag = http_request_header(attempt->request, "If-None-Match") != NULL;
    if (kept != NULL || has_tag)
        *answered = respond_from_memory(attempt, kept);
    if (!*answered && (has_tag || (kept != NULL && !has_moved(attempt, kept)))) {
        status = connect(attempt, error);
        if (status == STATUS_OK)
            status = respond_after_asking(attempt, kept, answered, error);
    }
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
static bool is_behind(struct rows_attempt *attempt)
{
    struct error ignored;
    struct catalogue_holder *catalogues = attempt->server->catalogues;
    if (connect(attempt, &ignored) != STATUS_OK ||
        catalogue_refresh(catalogues, attempt->postgres, &ignored) != STATUS_OK)
        return false;
    struct catalogue *newest = catalogue_take(catalogues);
    catalogue_release(catalogues, newest);
    return newest != attempt->catalogue;
}

/* Reads the rows. */
static enum status answer_from_postgres(struct rows_attempt *attempt, struct error *error)
{
    struct query_answer *answer = NULL;
    struct cache *cache = attempt->server->cache;
    struct query_request *question = &attempt->rows.question.request;
    enum status status = connect(attempt, error);
    if (status != STATUS_OK)
        return status;
    struct kept_receipt *known = find_known(attempt, INT64_MIN);
    struct query_receipt receipt;
    const bool asks = known != NULL && cache_expects_hold(cache);
    if (asks) {
        receipt = receipt_of_now(known);
        question->known = &receipt;
    }
    attempt->read_us = program_monotonic_us();
    status = query_run(attempt->postgres, attempt->version, question, &answer, error);
    question->known = NULL;
    if (status == STATUS_OK && note_hold(attempt, known, &answer->receipt, asks))
        cache_confirm_receipt(cache, known, attempt->read_us);
    else if (status == STATUS_OK)
        cache_keep_receipt(cache, attempt->version->version, question->layer, &answer->receipt,
                           attempt->read_us);
    cache_release_receipt(cache, known);
    if (status != STATUS_OK)
        return status;
    if (answer->has_lookups) { /* rows do not follow from what the key is made of */
        free(attempt->key);
        attempt->key = NULL;
    }
    if (attempt->key != NULL)
        cache_count(cache, false);
    attempt->outcome = respond_answer(attempt, answer);
    query_answer_destroy(answer);
    return STATUS_OK;
}

/* With the catalogue that is in memory. Anything but STATUS_OK and STATUS_REJECT is left for the
 * caller to repair or to tell; for those two outcome and response say what to do. */
static enum status try(struct rows_attempt *attempt, enum representation representation, bool last,
                       struct error *error)
{
    bool answered = false;
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
    if (status == STATUS_OK && !answered)
        status = answer_from_postgres(attempt, error);
    if (status == STATUS_REJECT && !last && is_behind(attempt))
        status = error_set(error, STATUS_FENCED, "the catalogue has changed");
    else if (status == STATUS_REJECT)
        problem_respond_error(attempt->response, error);
    free(attempt->key);
    attempt->key = NULL;
    rows_request_deinit(&attempt->rows);
    return status;
}

/* Makes a second attempt worth while; false: it is not, *error is what to tell. */
static bool repair(struct rows_attempt *attempt, struct error *error)
{
    struct pool *pool = attempt->server->pool;
    struct catalogue_holder *catalogues = attempt->server->catalogues;
    bool outdated = is_outdated(error);
    if (attempt->postgres == NULL && connect(attempt, error) != STATUS_OK)
        return false;
    if (!postgres_is_connected(attempt->postgres))
        return pool_renew(pool, attempt->postgres, error);
    if (!outdated)
        return false;
    enum status status = catalogue_refresh(catalogues, attempt->postgres, error);
    if (status == STATUS_RETRY && pool_renew(pool, attempt->postgres, error))
        status = catalogue_refresh(catalogues, attempt->postgres, error);
    if (status == STATUS_REJECT)
        error->status = STATUS_RETRY; /* the database is at fault, not the request */
    return status == STATUS_OK;
}

/* True: answered, in one way or another. False: worth a second attempt if repair() succeeds. */
static bool attempt_newest(struct rows_attempt *attempt, enum representation representation,
                           bool last, struct error *error)
{
    struct catalogue_holder *catalogues = attempt->server->catalogues;
    const char *view = attempt->request->segments[2];
    struct catalogue *catalogue = catalogue_take(catalogues);
    enum status status;
    attempt->catalogue = catalogue;
    attempt->version = find_version(catalogue, view);
    attempt->outcome = HTTP_RESPOND;
    if (attempt->version != NULL)
        status = try(attempt, representation, last, error);
    else
        status = error_set(error, STATUS_FENCED, "the view \"%s\" is not in the catalogue", view);
    bool missing = attempt->version == NULL && last && catalogue != NULL;
    if (missing)
        catalogue_respond_no_version(catalogue, view, attempt->request->caller, attempt->response);
    catalogue_release(catalogues, catalogue);
    return missing || status == STATUS_OK || status == STATUS_REJECT;
}

enum http_outcome handle_rows(struct server *server, struct http_request *request,
                              struct http_response *response)
{
    struct rows_attempt attempt = {.server = server, .request = request, .response = response};
    struct rows_wait *wait = request->state;
    struct error error = {0};
    if (wait != NULL && wait->is_asked && take_held(wait, response))
        return HTTP_RESPOND;
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
    bool answered = attempt_newest(&attempt, representation, false, &error);
    if (!answered && repair(&attempt, &error))
        answered = attempt_newest(&attempt, representation, true, &error);
    if (!answered)
        problem_respond_query(response, &error);
    pool_give_back(server->pool, attempt.postgres);
    return attempt.outcome;
}
