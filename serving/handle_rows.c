/* GET /v1/views/{view}/rows: a merged query.
 *
 * Parameters become a struct query_request; whatever core/query/query.h refuses is told as 400. One
 * attempt is the whole of it in the common case; a second one follows where the connection was lost
 * or another version of the view has become current meanwhile. `at_least` compares with the receipt
 * of the answer itself: only an answer that is too old makes the request wait.
 *
 * Rows are a function of question, version of the view, run, C, P and watermark, but for what is
 * looked up in reference tables; of these the ETag is made. It is a weak one: freshness_ms in the
 * receipt is of the moment. A client that has a tag costs the receipt's statement alone where
 * nothing moved. Caches in between may not store an answer (no-store): one that they revalidate
 * would show the freshness of long ago where a layer has stopped. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/program/program.h"
#include "core/query/query.h"
#include "core/query/query_parse.h"
#include "serving/negotiate.h"
#include "serving/problem.h"
#include "serving/server.h"

enum {
    WAIT_DEFAULT_MS = 5000,
    WAIT_MAX_MS = 30000,
    AT_LEAST_MAX = 4096,             /* partitions */
    RECEIPT_HEADER_MAX_BYTES = 8192, /* of what a connection has for its headers */
    ETAG_SIZE = 40,
};

/* In the order of preference. */
static const char *const media_types[] = {"application/json", "application/x-ndjson", "text/csv"};

enum representation { AS_JSON, AS_NDJSON, AS_CSV, REPRESENTATIONS };

/* A request's parameters, taken apart. */
struct rows_request {
    struct query_question question;
    const char *filter_parameters[QUERY_FILTER_MAX]; /* as the client spelt them */
    json_t *at_least;                                /* object, or NULL; owned */
    int64_t wait_ms;
    enum representation representation;
};

/* Kept over suspensions. */
struct rows_wait {
    int64_t deadline_us;
};

/* --- parameters --- */

/* Of a key or a looked-up column. */
static bool has_key(const struct view *view, const char *name, size_t length)
{
    for (size_t i = 0; i < view->key_count + view->looked_up_count; i++)
        if (strlen(view->keys[i].name) == length && memcmp(view->keys[i].name, name, length) == 0)
            return true;
    return false;
}

static enum status take_wait(const char *text, int64_t *out, struct error *error)
{
    char *end = NULL;
    errno = 0;
    *out = strtoll(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || *out > WAIT_MAX_MS)
        return error_set(error, STATUS_REJECT, "wait_ms: a whole number from 0 to %d is expected",
                         (int)WAIT_MAX_MS);
    return STATUS_OK;
}

/* {"topic": [offset of partition 0, of 1, ...]}; null is no demand. */
static enum status take_at_least(struct rows_request *rows, const char *topic, const char *text,
                                 struct error *error)
{
    json_t *offset;
    size_t index;
    rows->at_least = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    json_t *offsets = json_object_get(rows->at_least, topic);
    if (!json_is_array(offsets) || json_object_size(rows->at_least) != 1 ||
        json_array_size(offsets) > AT_LEAST_MAX)
        return error_set(error, STATUS_REJECT,
                         "at_least: {\"%s\": [offset, ...]} is expected, an offset for each "
                         "partition",
                         topic);
    json_array_foreach (offsets, index, offset) {
        bool good =
            json_is_null(offset) || (json_is_integer(offset) && json_integer_value(offset) >= 0);
        if (!good)
            return error_set(error, STATUS_REJECT,
                             "at_least: an offset is a whole number from 0, or null");
    }
    return STATUS_OK;
}

static enum status unknown_parameter(const struct view *view, const char *name, struct error *error)
{
    char shown[64];
    char keys[700] = "";
    snprintf(shown, sizeof shown, "%s", name);
    for (char *c = shown; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7E || *c == ':')
            *c = '?';
    for (size_t i = 0; i < view->key_count + view->looked_up_count; i++) {
        size_t length = strlen(keys);
        snprintf(keys + length, sizeof keys - length, ", %s", view->keys[i].name);
    }
    return error_set(error, STATUS_REJECT,
                     "%s: unknown parameter; there are: from, to, group_by, granularity, timezone, "
                     "measures, having, order, limit, cursor, layer, explain, at_least, wait_ms%s",
                     shown, keys);
}

/* The key's name with its suffix, without the "key." that stands before a key that is named like
 * another parameter. "key.in" is a list for the key "key", unless there is a key "in". */
static const char *without_prefix(const struct view *view, const char *parameter)
{
    static const char *const suffixes[] = {"is", "in", "prefix"};
    const char *rest = parameter + strlen("key.");
    if (strncmp(parameter, "key.", strlen("key.")) != 0)
        return parameter;
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++)
        if (strcmp(rest, suffixes[i]) == 0 && !has_key(view, rest, strlen(rest)))
            return parameter;
    return rest;
}

static enum status take_filter(struct rows_request *rows, const struct view *view,
                               const char *parameter, const char *value, struct error *error)
{
    const char *name = without_prefix(view, parameter);
    size_t length = strcspn(name, ".");
    size_t index = rows->question.request.filter_count;
    if (!has_key(view, name, length))
        return unknown_parameter(view, parameter, error);
    if (index < QUERY_FILTER_MAX)
        rows->filter_parameters[index] = parameter;
    return query_question_restrict(&rows->question, name, length, value, error);
}

static enum status take_parameter(struct rows_request *rows, const struct view *view,
                                  const char *name, const char *value, struct error *error)
{
    bool known;
    if (strcmp(name, "at_least") == 0)
        return take_at_least(rows, view->source->topic, value, error);
    if (strcmp(name, "wait_ms") == 0)
        return take_wait(value, &rows->wait_ms, error);
    enum status status = query_question_take(&rows->question, name, value, &known, error);
    return known ? status : take_filter(rows, view, name, value, error);
}

static enum status take_parameters(struct rows_request *rows, const struct view *view,
                                   const struct http_request *request, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < request->parameter_count && status == STATUS_OK; i++)
        status = take_parameter(rows, view, request->parameters[i].name,
                                request->parameters[i].value, error);
    if (status == STATUS_OK && rows->question.request.explain && rows->representation == AS_CSV)
        status = error_set(error, STATUS_REJECT, "explain: CSV has no place for it");
    return status;
}

static void rows_request_init(struct rows_request *rows, struct server *server)
{
    query_question_init(&rows->question);
    rows->question.request.row_limit = server->config->serving_row_limit;
    rows->question.request.budget = &server->budget;
    rows->at_least = NULL;
    rows->wait_ms = WAIT_DEFAULT_MS;
}

static void rows_request_deinit(struct rows_request *rows)
{
    json_decref(rows->at_least);
    query_question_deinit(&rows->question);
}

/* --- answering --- */

/* True where a refusal that begins with `length` bytes of `text` is about this filter. "limit: ..."
 * is about the parameter of that name, not about a key that is named so. */
static bool is_about(const struct query_filter *filter, const char *parameter, const char *text,
                     size_t length)
{
    const char *name = strncmp(parameter, "key.", 4) == 0 ? parameter + 4 : parameter;
    if (strlen(filter->key) == length && memcmp(filter->key, text, length) == 0)
        return !query_is_parameter(filter->key);
    return strlen(name) == length && memcmp(name, text, length) == 0;
}

/* A refusal of core/query/query.h names the key; the client may have spelt it otherwise. */
static void respond_refusal(const struct rows_request *rows, struct http_response *response,
                            const struct error *error)
{
    size_t length = strcspn(error->text, ":");
    for (size_t i = 0; i < rows->question.request.filter_count; i++) {
        const char *parameter = rows->filter_parameters[i];
        if (is_about(&rows->question.filters[i], parameter, error->text, length)) {
            problem_respond(response, 400, parameter, "%s", error->text);
            return;
        }
    }
    problem_respond_error(response, error);
}

static void respond_failure(struct http_response *response, const struct error *error)
{
    if (strcmp(error->sqlstate, "57014") == 0)
        problem_respond(response, 504, NULL,
                        "the query took longer than 30 s; restrict it by time or key");
    else if (error->status == STATUS_FENCED)
        problem_respond(response, 503, NULL, "%s", error->text);
    else
        problem_respond_error(response, error);
}

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
static enum http_outcome wait_or_give_up(struct server *server, struct http_request *request,
                                         const struct rows_request *rows,
                                         const struct query_answer *answer, const json_t *offsets,
                                         struct http_response *response)
{
    char positions[512];
    int64_t wanted[AT_LEAST_MAX];
    struct rows_wait *wait = request->state;
    size_t count = json_array_size(offsets);
    for (size_t i = 0; i < count; i++)
        wanted[i] = demanded(offsets, i);
    if (wait == NULL) {
        wait = calloc(1, sizeof *wait);
        if (wait == NULL) {
            problem_respond(response, 500, NULL, "out of memory");
            return HTTP_RESPOND;
        }
        wait->deadline_us = request->started_us + rows->wait_ms * 1000;
        request->state = wait;
    }
    if (program_monotonic_us() >= wait->deadline_us) {
        describe_positions(&answer->receipt, positions, sizeof positions);
        problem_respond(response, 504, NULL,
                        "at_least: not reached within %lld ms; the positions are [%s]",
                        (long long)rows->wait_ms, positions);
        return HTTP_RESPOND;
    }
    if (waiters_add(server->waiters, request, answer->view->source->topic, wanted, count,
                    rows->question.request.layer == QUERY_BATCH, wait->deadline_us))
        return HTTP_SUSPENDED;
    problem_respond(response, 503, NULL,
                    "at_least: too many requests wait already, or the server is stopping");
    return HTTP_RESPOND;
}

/* True: the answer has come as far as `at_least` demands. */
static bool is_late_enough(const struct query_answer *answer, const json_t *offsets)
{
    for (size_t i = 0; i < answer->receipt.partition_count; i++) {
        const struct query_partition *partition = &answer->receipt.partitions[i];
        if (partition->position < demanded(offsets, (size_t)partition->partition))
            return false;
    }
    return true;
}

/* --- the answer --- */

/* False where the rows do not follow from what the tag is made of. */
static bool make_etag(const struct http_request *request, const struct rows_request *rows,
                      const struct query_answer *answer, char etag[ETAG_SIZE])
{
    uint64_t question = XXH3_64bits(DOVETAIL_VERSION, strlen(DOVETAIL_VERSION));
    int32_t numbers[] = {answer->version, (int32_t)rows->representation};
    if (answer->has_lookups || rows->question.request.explain)
        return false;
    question = XXH3_64bits_withSeed(numbers, sizeof numbers, question);
    for (size_t i = 0; i < request->parameter_count; i++) {
        const struct http_parameter *parameter = &request->parameters[i];
        question = XXH3_64bits_withSeed(parameter->name, strlen(parameter->name) + 1, question);
        question = XXH3_64bits_withSeed(parameter->value, strlen(parameter->value) + 1, question);
    }
    snprintf(etag, ETAG_SIZE, "W/\"%016" PRIx64 "%016" PRIx64 "\"", question,
             query_state_hash(&answer->receipt));
    return true;
}

/* The receipt, where the body has no place for it. */
static void respond_receipt(const struct query_answer *answer, struct http_response *response)
{
    size_t length = 0;
    char *receipt = query_receipt_json(&answer->receipt, &length);
    if (length <= RECEIPT_HEADER_MAX_BYTES) {
        respond_header_take(response, "Dovetail-Receipt", receipt);
        return;
    }
    free(receipt);
    problem_respond(response, 406, NULL,
                    "the receipt of %zu partitions is too long for a header, and CSV has no other "
                    "place for it: ask for application/json or application/x-ndjson",
                    answer->receipt.partition_count);
}

static void respond_csv(const struct query_answer *answer, struct http_response *response)
{
    size_t length = 0;
    char *body = query_answer_csv(answer, &length);
    respond_body(response, "text/csv; charset=utf-8; header=present", body, length);
    if (answer->is_page && response->status == 200)
        respond_header_take(response, "Dovetail-Page", query_page_json(answer, &length));
    if (response->status == 200)
        respond_receipt(answer, response);
}

static void respond_rows(const struct http_request *request, const struct rows_request *rows,
                         const struct query_answer *answer, struct http_response *response)
{
    size_t length = 0;
    char etag[ETAG_SIZE];
    if (rows->representation == AS_CSV) {
        respond_csv(answer, response);
    } else {
        char *body = rows->representation == AS_JSON ? query_answer_json(answer, &length)
                                                     : query_answer_ndjson(answer, &length);
        respond_body(response, media_types[rows->representation], body, length);
    }
    if (response->status != 200)
        return;
    respond_header(response, "Vary", "Accept, Accept-Encoding");
    if (make_etag(request, rows, answer, etag))
        respond_header_take(response, "ETag", strdup(etag));
}

/* True: the client has these rows; *response says so. The receipt of now goes along. */
static bool respond_unchanged(const struct http_request *request, const struct rows_request *rows,
                              const struct query_answer *answer, struct http_response *response)
{
    char etag[ETAG_SIZE];
    size_t length = 0;
    if (!make_etag(request, rows, answer, etag) ||
        !negotiate_has_etag(http_request_header(request, "If-None-Match"), etag))
        return false;
    char *receipt = query_receipt_json(&answer->receipt, &length);
    if (receipt == NULL || length > RECEIPT_HEADER_MAX_BYTES) {
        free(receipt);
        return false;
    }
    *response = (struct http_response){
        .status = 304,
        .content_type = media_types[rows->representation],
    };
    respond_header_take(response, "Dovetail-Receipt", receipt);
    respond_header_take(response, "ETag", strdup(etag));
    respond_header(response, "Vary", "Accept, Accept-Encoding");
    respond_header(response, "Cache-Control", "no-store");
    return true;
}

static enum http_outcome respond_answer(struct server *server, struct http_request *request,
                                        const struct rows_request *rows,
                                        const struct query_answer *answer,
                                        struct http_response *response)
{
    const struct query_receipt *receipt = &answer->receipt;
    if (rows->at_least != NULL) {
        const json_t *offsets = json_object_get(rows->at_least, answer->view->source->topic);
        size_t partitions =
            receipt->partition_count == 0
                ? 0
                : (size_t)receipt->partitions[receipt->partition_count - 1].partition + 1;
        if (json_array_size(offsets) > partitions) {
            problem_respond(response, 400, "at_least", "at_least: the topic has %zu partitions",
                            partitions);
            return HTTP_RESPOND;
        }
        if (!is_late_enough(answer, offsets))
            return wait_or_give_up(server, request, rows, answer, offsets, response);
    }
    respond_rows(request, rows, answer, response);
    return HTTP_RESPOND;
}

/* --- attempts --- */

static const struct catalog_version *find_version(const struct catalogue *catalogue,
                                                  const char *view)
{
    return catalogue == NULL ? NULL : catalog_current(catalogue->catalog, view);
}

static bool has_building(const struct catalogue *catalogue, const char *view)
{
    for (size_t i = 0; i < catalogue->catalog->version_count; i++)
        if (strcmp(catalogue->catalog->versions[i].view->name, view) == 0)
            return true;
    return false;
}

/* 404, or 503 for a view whose first version is not published yet. */
static void respond_no_version(const struct catalogue *catalogue, const char *view,
                               struct http_response *response)
{
    if (has_building(catalogue, view))
        problem_respond(response, 503, NULL,
                        "the view \"%s\" is still being built: no batch run covers it yet", view);
    else
        problem_respond(response, 404, NULL, "there is no view of this name; see /v1/views");
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

/* A client that has an answer: whether it is still the one. */
static enum status try_unchanged(struct http_request *request, struct rows_request *rows,
                                 struct postgres *postgres, const struct catalog_version *version,
                                 struct http_response *response, bool *unchanged,
                                 struct error *error)
{
    struct query_answer *answer = NULL;
    *unchanged = false;
    if (http_request_header(request, "If-None-Match") == NULL || rows->question.request.explain)
        return STATUS_OK;
    rows->question.request.receipt_only = true;
    enum status status = query_run(postgres, version, &rows->question.request, &answer, error);
    rows->question.request.receipt_only = false;
    if (status == STATUS_OK &&
        (rows->at_least == NULL ||
         is_late_enough(answer, json_object_get(rows->at_least, version->view->source->topic))))
        *unchanged = respond_unchanged(request, rows, answer, response);
    query_answer_destroy(answer);
    return status;
}

/* One attempt with the catalogue that is in memory. Anything but STATUS_OK and STATUS_REJECT is
 * left for the caller to repair or to tell; for those two *outcome and *response say what to do. */
static enum status attempt(struct server *server, struct http_request *request,
                           struct postgres *postgres, const struct catalogue *catalogue,
                           const struct catalog_version *version,
                           enum representation representation, bool last,
                           enum http_outcome *outcome, struct http_response *response,
                           struct error *error)
{
    struct rows_request rows;
    struct query_answer *answer = NULL;
    rows_request_init(&rows, server);
    rows.representation = representation;
    bool unchanged = false;
    enum status status = take_parameters(&rows, version->view, request, error);
    if (status == STATUS_OK)
        status = try_unchanged(request, &rows, postgres, version, response, &unchanged, error);
    if (status == STATUS_OK && !unchanged)
        status = query_run(postgres, version, &rows.question.request, &answer, error);
    *outcome = HTTP_RESPOND;
    if (status == STATUS_OK && !unchanged)
        *outcome = respond_answer(server, request, &rows, answer, response);
    else if (status == STATUS_REJECT && !last && is_behind(server, postgres, catalogue))
        status = error_set(error, STATUS_FENCED, "the catalogue has changed");
    else if (status == STATUS_REJECT)
        respond_refusal(&rows, response, error);
    query_answer_destroy(answer);
    rows_request_deinit(&rows);
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

/* True: answered, in one way or another. False: worth a second attempt if repair() succeeds. */
static bool attempt_newest(struct server *server, struct http_request *request,
                           struct postgres *postgres, enum representation representation, bool last,
                           enum http_outcome *outcome, struct http_response *response,
                           struct error *error)
{
    const char *view = request->segments[2];
    struct catalogue *catalogue = catalogue_take(server->catalogues);
    const struct catalog_version *version = find_version(catalogue, view);
    enum status status;
    if (version != NULL)
        status = attempt(server, request, postgres, catalogue, version, representation, last,
                         outcome, response, error);
    else
        status = error_set(error, STATUS_FENCED, "the view \"%s\" is not in the catalogue", view);
    bool missing = version == NULL && last && catalogue != NULL;
    if (missing)
        respond_no_version(catalogue, view, response);
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
        negotiate_media(http_request_header(request, "Accept"), media_types, REPRESENTATIONS);
    if (chosen < 0) {
        problem_respond(response, 406, NULL, "there are %s, %s and %s", media_types[AS_JSON],
                        media_types[AS_NDJSON], media_types[AS_CSV]);
        return HTTP_RESPOND;
    }
    enum representation representation = (enum representation)chosen;
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
        respond_failure(response, &error);
    pool_give_back(server->pool, postgres);
    return outcome;
}
