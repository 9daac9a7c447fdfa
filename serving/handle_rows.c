/* GET /v1/views/{view}/rows: a merged query.
 *
 * Parameters become a struct query_request; whatever core/query/query.h refuses is told as 400. One
 * attempt is the whole of it in the common case; a second one follows where the connection was lost
 * or another version of the view has become current meanwhile. `at_least` compares with the receipt
 * of the answer itself: only an answer that is too old makes the request wait. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/program/program.h"
#include "core/query/query.h"
#include "serving/problem.h"
#include "serving/server.h"

enum {
    WAIT_DEFAULT_MS = 5000,
    WAIT_MAX_MS = 30000,
    NAME_LIST_MAX = 2 + VIEW_KEY_MAX + VIEW_LOOKED_UP_MAX + VIEW_MEASURE_MAX,
    AT_LEAST_MAX = 4096, /* partitions */
};

static const char *const reserved[] = {"from",     "to",      "group_by", "granularity",
                                       "timezone", "order",   "limit",    "layer",
                                       "at_least", "wait_ms", "measures"};

/* A request's parameters, taken apart. Strings are the HTTP request's, or in `arena`. */
struct rows_request {
    struct query_request query;
    struct query_filter filters[HTTP_PARAMETER_MAX];
    const char *filter_parameters[HTTP_PARAMETER_MAX]; /* as the client spelt them */
    const char *group_by[NAME_LIST_MAX];
    const char *measures[NAME_LIST_MAX];
    struct query_order order[NAME_LIST_MAX];
    json_t *at_least; /* object, or NULL; owned */
    int64_t wait_ms;
    struct arena arena;
};

/* Kept over suspensions. */
struct rows_wait {
    int64_t deadline_us;
};

/* --- parameters --- */

static bool is_reserved(const char *name)
{
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++)
        if (strcmp(reserved[i], name) == 0)
            return true;
    return false;
}

/* Of a key or a looked-up column. */
static const char *view_key_name(const struct view *view, const char *name, size_t length)
{
    for (size_t i = 0; i < view->key_count + view->looked_up_count; i++)
        if (strlen(view->keys[i].name) == length && memcmp(view->keys[i].name, name, length) == 0)
            return view->keys[i].name;
    return NULL;
}

/* "a,b" in pieces; nothing at all is no piece. */
static enum status split_names(struct rows_request *rows, const char *parameter, const char *text,
                               const char **names, size_t *count, struct error *error)
{
    *count = 0;
    if (text[0] == '\0')
        return STATUS_OK;
    char *rest = arena_copy(&rows->arena, text, strlen(text));
    if (rest == NULL)
        return error_no_memory(error);
    for (char *name; (name = strsep(&rest, ",")) != NULL;) {
        if (*count == NAME_LIST_MAX)
            return error_set(error, STATUS_REJECT, "%s: has too many names", parameter);
        names[(*count)++] = name;
    }
    return STATUS_OK;
}

static enum status take_order(struct rows_request *rows, const char *text, struct error *error)
{
    const char *names[NAME_LIST_MAX];
    enum status status = split_names(rows, "order", text, names, &rows->query.order_count, error);
    for (size_t i = 0; status == STATUS_OK && i < rows->query.order_count; i++) {
        bool descending = names[i][0] == '-';
        rows->order[i] = (struct query_order){.column = names[i] + (descending ? 1 : 0),
                                              .descending = descending};
    }
    return status;
}

static enum status take_integer(const char *parameter, const char *text, int64_t low, int64_t high,
                                int64_t *out, struct error *error)
{
    char *end = NULL;
    errno = 0;
    *out = strtoll(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || *out < low || *out > high)
        return error_set(error, STATUS_REJECT, "%s: a whole number from %lld to %lld is expected",
                         parameter, (long long)low, (long long)high);
    return STATUS_OK;
}

static enum status take_layer(const char *text, enum query_layer *out, struct error *error)
{
    if (strcmp(text, "merged") == 0)
        *out = QUERY_MERGED;
    else if (strcmp(text, "batch") == 0)
        *out = QUERY_BATCH;
    else if (strcmp(text, "speed") == 0)
        *out = QUERY_SPEED;
    else
        return error_set(error, STATUS_REJECT, "layer: merged, batch or speed is expected");
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

static enum status take_reserved(struct rows_request *rows, const struct view *view,
                                 const char *name, const char *value, struct error *error)
{
    struct query_request *query = &rows->query;
    if (strcmp(name, "from") == 0)
        query->from = value;
    else if (strcmp(name, "to") == 0)
        query->to = value;
    else if (strcmp(name, "granularity") == 0)
        query->granularity = value;
    else if (strcmp(name, "timezone") == 0)
        query->timezone = value;
    else if (strcmp(name, "order") == 0)
        return take_order(rows, value, error);
    else if (strcmp(name, "layer") == 0)
        return take_layer(value, &query->layer, error);
    else if (strcmp(name, "at_least") == 0)
        return take_at_least(rows, view->source->topic, value, error);
    else if (strcmp(name, "limit") == 0)
        return take_integer(name, value, 1, INT64_MAX, &query->limit, error);
    else if (strcmp(name, "wait_ms") == 0)
        return take_integer(name, value, 0, WAIT_MAX_MS, &rows->wait_ms, error);
    else if (strcmp(name, "group_by") == 0) {
        query->group_by = rows->group_by;
        return split_names(rows, name, value, rows->group_by, &query->group_by_count, error);
    } else {
        query->measures = rows->measures;
        return split_names(rows, name, value, rows->measures, &query->measure_count, error);
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
                     "measures, order, limit, layer, at_least, wait_ms%s",
                     shown, keys);
}

/* KEY=value, or KEY.is=null; "key." before it where the key is named like another parameter. Names
 * of keys have no dot, so these cannot be confused, but for keys that are named "key" and "is". */
static enum status take_filter(struct rows_request *rows, const struct view *view,
                               const char *parameter, const char *value, struct error *error)
{
    const char *name = parameter;
    if (strncmp(name, "key.", 4) == 0 &&
        (strcmp(name, "key.is") != 0 || view_key_name(view, "is", 2) != NULL))
        name += 4;
    const char *key = view_key_name(view, name, strlen(name));
    size_t length = strlen(name);
    if (key == NULL && length > 3 && strcmp(name + length - 3, ".is") == 0) {
        key = view_key_name(view, name, length - 3);
        if (key != NULL && strcmp(value, "null") != 0)
            return error_set(error, STATUS_REJECT, "%s: only null is possible", parameter);
        value = NULL;
    }
    if (key == NULL)
        return unknown_parameter(view, parameter, error);
    size_t index = rows->query.filter_count++;
    rows->filters[index] = (struct query_filter){.key = key, .text = value};
    rows->filter_parameters[index] = parameter;
    return STATUS_OK;
}

static enum status take_parameters(struct rows_request *rows, const struct view *view,
                                   const struct http_request *request, struct error *error)
{
    enum status status = STATUS_OK;
    rows->query.filters = rows->filters;
    rows->query.order = rows->order;
    for (size_t i = 0; i < request->parameter_count && status == STATUS_OK; i++) {
        const char *name = request->parameters[i].name;
        const char *value = request->parameters[i].value;
        status = is_reserved(name) ? take_reserved(rows, view, name, value, error)
                                   : take_filter(rows, view, name, value, error);
    }
    return status;
}

static void rows_request_init(struct rows_request *rows, const struct server *server)
{
    *rows = (struct rows_request){
        .query = {.row_limit = server->config->serving_row_limit},
        .wait_ms = WAIT_DEFAULT_MS,
    };
    arena_init(&rows->arena);
}

static void rows_request_deinit(struct rows_request *rows)
{
    json_decref(rows->at_least);
    arena_deinit(&rows->arena);
}

/* --- answering --- */

/* A refusal of core/query/query.h names the key; the client may have spelt it otherwise. */
static void respond_refusal(const struct rows_request *rows, struct http_response *response,
                            const struct error *error)
{
    size_t length = strcspn(error->text, ":");
    for (size_t i = 0; i < rows->query.filter_count; i++) {
        const char *parameter = rows->filter_parameters[i];
        if (strlen(rows->filters[i].key) == length &&
            memcmp(rows->filters[i].key, error->text, length) == 0 &&
            !is_reserved(rows->filters[i].key)) {
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
                    rows->query.layer == QUERY_BATCH, wait->deadline_us))
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
    size_t length = 0;
    char *body = query_answer_json(answer, &length);
    respond_body(response, "application/json", body, length);
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

/* One attempt with the catalogue that is in memory. Anything but STATUS_OK and STATUS_REJECT is
 * left for the caller to repair or to tell; for those two *outcome and *response say what to do. */
static enum status attempt(struct server *server, struct http_request *request,
                           struct postgres *postgres, const struct catalogue *catalogue,
                           const struct catalog_version *version, bool last,
                           enum http_outcome *outcome, struct http_response *response,
                           struct error *error)
{
    struct rows_request rows;
    struct query_answer *answer = NULL;
    rows_request_init(&rows, server);
    enum status status = take_parameters(&rows, version->view, request, error);
    if (status == STATUS_OK)
        status = query_run(postgres, version, &rows.query, &answer, error);
    *outcome = HTTP_RESPOND;
    if (status == STATUS_OK)
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
                           struct postgres *postgres, bool last, enum http_outcome *outcome,
                           struct http_response *response, struct error *error)
{
    const char *view = request->segments[2];
    struct catalogue *catalogue = catalogue_take(server->catalogues);
    const struct catalog_version *version = find_version(catalogue, view);
    enum status status;
    if (version != NULL)
        status =
            attempt(server, request, postgres, catalogue, version, last, outcome, response, error);
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
    if (pool_take(server->pool, &postgres, &error) != STATUS_OK) {
        problem_respond_error(response, &error);
        return HTTP_RESPOND;
    }
    bool answered = attempt_newest(server, request, postgres, false, &outcome, response, &error);
    if (!answered && repair(server, postgres, &error))
        answered = attempt_newest(server, request, postgres, true, &outcome, response, &error);
    if (!answered)
        respond_failure(response, &error);
    pool_give_back(server->pool, postgres);
    return outcome;
}
