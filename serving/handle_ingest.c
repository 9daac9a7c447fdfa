/* POST /v1/sources/{source}/events: events for a source's topic, acknowledged by Kafka.
 *
 * The handler runs twice. First: who may, what was sent, which of it is an event of the source, is
 * the idempotency key new; then the events go to Kafka and the request is suspended, which costs no
 * thread. Second, when the fate of each is known: the answer. Where the client has gone meanwhile
 * there is no second time, and the end of the request settles the key (release_batch).
 *
 * The order of three things is what idempotency rests on (schemas/sql/018_ingest.sql has the
 * invariant): the key is reserved, and that is committed; then events are sent; then the outcome is
 * noted, and only then told. */
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/program/program.h"
#include "core/records/record_key.h"
#include "serving/ingest_batch.h"
#include "serving/problem.h"

enum {
    SOURCE_SEGMENT = 2, /* /v1/sources/{source}/events */
    SETTLING_MS = 5000, /* that noting an outcome may take, behind the producer's time-out */
    CLEAN_EVERY_US = 60000000,
};

/* --- who --- */

static bool may_write(const struct server *server, const struct http_request *request,
                      struct http_response *response)
{
    const char *source = request->segments[SOURCE_SEGMENT];
    if (server->config->serving_token_count == 0 && !server->config->serving_ingest) {
        problem_respond(response, 403, NULL,
                        "this server takes no events: see serving.ingest and serving.tokens");
        return false;
    }
    if (server->config->serving_token_count > 0 && !access_may_write(request->caller, source)) {
        access_refuse(response, "the token may not send events to this source");
        return false;
    }
    /* A browser says so with every POST. A page of another origin, or one whose name was made to
     * lead here, must not write with the rights of whoever looks at it. */
    if (http_request_header(request, "Origin") != NULL) {
        problem_respond(response, 403, NULL, "events are not taken from pages in a browser");
        return false;
    }
    return true;
}

size_t ingest_admit(const struct server *server, const struct http_request *request)
{
    struct http_response ignored = {0};
    bool may = may_write(server, request, &ignored);
    http_response_clear(&ignored);
    return may ? (size_t)server->config->serving_ingest_body_bytes : 0;
}

/* --- what --- */

static bool read_parameters(struct ingest_batch *batch, const char **key,
                            struct http_response *response)
{
    const struct http_request *request = batch->request;
    *key = http_request_parameter(request, "key");
    for (size_t i = 0; i < request->parameter_count; i++) {
        const char *name = request->parameters[i].name;
        const char *value = request->parameters[i].value;
        if (strcmp(name, "whole") == 0) {
            batch->is_whole = strcmp(value, "1") == 0;
            if (batch->is_whole || strcmp(value, "0") == 0)
                continue;
            problem_respond(response, 400, "whole", "whole: 0 or 1 is expected");
            return false;
        }
        if (strcmp(name, "key") != 0) {
            problem_respond(response, 400, name, "%s: unknown parameter; there are: key, whole",
                            name);
            return false;
        }
    }
    return true;
}

static bool find_source(struct ingest_batch *batch, const struct catalogue *catalogue,
                        const char *key, const struct source **source, size_t *key_field,
                        struct http_response *response)
{
    const char *name = batch->request->segments[SOURCE_SEGMENT];
    *key_field = SIZE_MAX;
    *source = catalog_source(catalogue->catalog, name);
    if (*source == NULL) {
        problem_respond(response, 404, NULL, "there is no source of this name");
        return false;
    }
    if (key != NULL && !record_key_field(*source, key, key_field)) {
        problem_respond(response, 400, "key", "key: source %s has no field of this name",
                        (*source)->name);
        return false;
    }
    batch->source = arena_copy(&batch->arena, name, strlen(name));
    batch->topic = arena_copy(&batch->arena, (*source)->topic, strlen((*source)->topic));
    if (batch->source != NULL && batch->topic != NULL)
        return true;
    problem_respond(response, 500, NULL, "out of memory");
    return false;
}

/* --- once --- */

/* Now and then, and with the next key where there are more than are removed at once, or they would
 * become ever more. What cannot be removed now is removed later. */
static void clean_keys(struct postgres *postgres)
{
    static _Atomic int64_t cleaned_us;
    struct error error;
    bool more = false;
    int64_t last_us = atomic_load(&cleaned_us);
    int64_t now_us = program_monotonic_us();
    if (last_us != 0 && now_us - last_us < CLEAN_EVERY_US)
        return;
    if (!atomic_compare_exchange_strong(&cleaned_us, &last_us, now_us))
        return;
    if (ingest_key_clean(postgres, &more, &error) != STATUS_OK)
        program_log(LOG_WARNING, "old idempotency keys are not removed: %s", error.text);
    else if (more)
        atomic_store(&cleaned_us, 0);
}

static void respond_found(const struct ingest_key_found *found, struct http_response *response)
{
    static const char busy[] = "a request with this Idempotency-Key is being answered";
    switch (found->state) {
    case INGEST_KEY_DONE: {
        char *text = strdup(found->answer);
        respond_body(response, "application/json", text, text != NULL ? strlen(text) : 0);
        if (text != NULL)
            response->status = found->status;
        respond_header(response, "Idempotent-Replayed", "true");
        return;
    }
    case INGEST_KEY_OTHER:
        problem_respond(response, 422, "Idempotency-Key",
                        "Idempotency-Key: it was used for another request");
        return;
    case INGEST_KEY_BUSY:
        problem_respond_more(response, 409, NULL, NULL, "%s", busy);
        respond_header(response, "Retry-After", "1");
        return;
    default:
        problem_respond_more(response, 409, "urn:dovetail:outcome-unknown", NULL,
                             "the first request with this Idempotency-Key did not come to its end: "
                             "its events may be written or not, and are not written again");
    }
}

/* True: there is no key, or it is ours. */
static bool reserve_key(struct ingest_batch *batch, struct postgres *postgres,
                        const char *key_field, struct http_response *response)
{
    struct ingest_key_found found;
    struct error error;
    const char *header = http_request_header(batch->request, "Idempotency-Key");
    if (header == NULL)
        return true;
    if (!ingest_key_is_valid(header)) {
        problem_respond(response, 400, "Idempotency-Key",
                        "Idempotency-Key: 1 to %d visible ASCII characters are expected",
                        INGEST_KEY_MAX_BYTES);
        return false;
    }
    batch->key = (struct ingest_key){
        .caller = access_name(batch->request->caller),
        .source = batch->source,
        .key = arena_copy(&batch->arena, header, strlen(header)),
    };
    if (batch->key.key == NULL || !ingest_key_begin(&batch->key) ||
        !ingest_batch_hash(batch, key_field, batch->key.request)) {
        problem_respond(response, 500, NULL, "out of memory, or of random numbers");
        return false;
    }
    clean_keys(postgres);
    enum status status = ingest_key_reserve(
        postgres, &batch->key, batch->server->config->serving_ingest_timeout_ms + SETTLING_MS,
        &found, &error);
    if (status != STATUS_OK)
        problem_respond_error(response, &error);
    else if (found.state != INGEST_KEY_RESERVED)
        respond_found(&found, response);
    else
        batch->has_key = true;
    free(found.answer);
    return batch->has_key;
}

/* --- the two times --- */

static void release_batch(void *state)
{
    struct ingest_batch *batch = state;
    if (batch->has_key) { /* nobody waits for the answer any more, but the key has one */
        struct http_response ignored = {0};
        ingest_batch_answer(batch, &ignored);
        http_response_clear(&ignored);
    }
    ingest_batch_destroy(batch);
}

/* Up to where events may be sent. False: *response is filled. */
static bool prepare(struct ingest_batch *batch, struct http_response *response)
{
    struct postgres *postgres = NULL;
    struct catalogue *catalogue = NULL;
    const struct source *source = NULL;
    const char *key = NULL;
    size_t key_field;
    struct error error;
    if (!read_parameters(batch, &key, response) || !ingest_batch_read(batch, response) ||
        !server_take_catalogue(batch->server, &postgres, &catalogue, response))
        return false;
    bool good = find_source(batch, catalogue, key, &source, &key_field, response) &&
                reserve_key(batch, postgres, key, response);
    pool_give_back(batch->server->pool, postgres);
    if (good && ingest_batch_judge(batch, source, key_field, &error) != STATUS_OK) {
        ingest_batch_release_key(batch);
        problem_respond_error(response, &error);
        good = false;
    }
    if (good && !ingest_batch_enter_list(batch, response)) {
        ingest_batch_release_key(batch);
        good = false;
    }
    catalogue_release(batch->server->catalogues, catalogue);
    return good;
}

static enum http_outcome begin(struct server *server, struct http_request *request,
                               struct http_response *response)
{
    struct ingest_batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL) {
        problem_respond(response, 500, NULL, "out of memory");
        return HTTP_RESPOND;
    }
    batch->server = server;
    batch->request = request;
    arena_init(&batch->arena);
    request->state = batch;
    request->release = release_batch;
    if (!prepare(batch, response))
        return HTTP_RESPOND;
    if (batch->invalid_count == batch->count || (batch->is_whole && batch->invalid_count > 0)) {
        ingest_batch_answer(batch, response);
        return HTTP_RESPOND;
    }
    /* Connections stay open while the server stops. What were suspended late would be so when the
     * time to stop is over, and libmicrohttpd cannot stop then. */
    bool is_stopping = ingest_is_closed(server->ingest);
    if (!is_stopping && ingest_batch_send(batch))
        return HTTP_SUSPENDED;
    ingest_count(server->ingest, INGEST_HTTP, INGEST_OVERFLOW, batch->count);
    ingest_batch_release_key(batch);
    problem_respond(response, 503, NULL, "%s; nothing was written",
                    is_stopping ? "the server is stopping"
                                : "too many events wait for Kafka already");
    return HTTP_RESPOND;
}

enum http_outcome handle_ingest(struct server *server, struct http_request *request,
                                struct http_response *response)
{
    if (request->state != NULL) {
        ingest_batch_answer(request->state, response);
        return HTTP_RESPOND;
    }
    if (!may_write(server, request, response))
        return HTTP_RESPOND;
    return begin(server, request, response);
}
