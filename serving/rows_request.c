/* Parameters of /rows and /live: see serving/rows_request.h. */
#include "serving/rows_request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "serving/problem.h"

enum { WAIT_DEFAULT_MS = 5000, WAIT_MAX_MS = 30000 };

const char *const rows_media_types[REPRESENTATIONS] = {"application/json", "application/x-ndjson",
                                                       "text/csv"};

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

enum status rows_request_take(struct rows_request *rows, const struct view *view,
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

void rows_request_init(struct rows_request *rows, struct server *server,
                       const struct http_request *request, enum representation representation)
{
    rows->representation = representation;
    query_question_init(&rows->question);
    rows->question.request.row_limit = server->config->serving_row_limit;
    rows->question.request.budget = &server->budget;
    access_restrict(request->caller, &rows->question.request);
    rows->at_least = NULL;
    rows->wait_ms = WAIT_DEFAULT_MS;
}

void rows_request_deinit(struct rows_request *rows)
{
    json_decref(rows->at_least);
    query_question_deinit(&rows->question);
}

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
void rows_request_refuse(const struct rows_request *rows, struct http_response *response,
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

/* --- the canonical form --- */

static int compare_names(const void *a, const void *b)
{
    const struct http_parameter *const *left = a;
    const struct http_parameter *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

static bool is_about_rows(const struct http_parameter *parameter)
{
    return strcmp(parameter->name, "at_least") != 0 && strcmp(parameter->name, "wait_ms") != 0;
}

char *rows_request_key(const struct rows_request *rows, const struct catalog_version *version,
                       const struct http_request *request, size_t *length)
{
    const struct http_parameter *sorted[HTTP_PARAMETER_MAX] = {NULL};
    const uint64_t scope = query_scope_hash(&rows->question.request);
    const uint64_t numbers[] = {(uint64_t)version->version, (uint64_t)rows->representation, scope};
    size_t count = 0;
    size_t size = sizeof numbers;
    for (size_t i = 0; i < request->parameter_count; i++) {
        const struct http_parameter *parameter = &request->parameters[i];
        if (!is_about_rows(parameter))
            continue;
        sorted[count++] = parameter;
        size += strlen(parameter->name) + strlen(parameter->value) + 2;
    }
    qsort(sorted, count, sizeof sorted[0], compare_names); /* each name occurs once */
    char *key = malloc(size);
    if (key == NULL)
        return NULL;
    memcpy(key, numbers, sizeof numbers);
    char *out = key + sizeof numbers;
    for (size_t i = 0; i < count; i++) {
        out = stpcpy(out, sorted[i]->name) + 1;
        out = stpcpy(out, sorted[i]->value) + 1;
    }
    *length = size;
    return key;
}
