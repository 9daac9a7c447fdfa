/* Parameters of /rows and /live: see serving/rows_request.h. */
#include "serving/rows_request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
                         "at_least: {\"%s\": [offset, ...]} is expected, with offsets of the "
                         "partitions from 0",
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
    if (!has_key(view, name, length))
        return unknown_parameter(view, parameter, error);
    return query_question_restrict(&rows->question, parameter, name, length, value, error);
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

/* Numbers, and texts with their terminators. Nothing is written without `out`. */
struct key_writer {
    char *out;
    size_t length;
};

static void put_bytes(struct key_writer *writer, const void *data, size_t length)
{
    if (writer->out != NULL)
        memcpy(writer->out + writer->length, data, length);
    writer->length += length;
}

static void put_number(struct key_writer *writer, uint64_t number)
{
    put_bytes(writer, &number, sizeof number);
}

static void put_text(struct key_writer *writer, const char *text)
{
    put_bytes(writer, text, strlen(text) + 1);
}

/* All of it, not a hash: what one scope may see is never another's answer. */
static void put_scope(struct key_writer *writer, const struct query_request *request)
{
    put_number(writer, request->scope_count);
    for (size_t i = 0; i < request->scope_count; i++) {
        const struct query_filter *filter = &request->scope[i];
        put_text(writer, filter->key);
        put_number(writer, filter->kind);
        put_number(writer, filter->text_count);
        for (size_t t = 0; t < filter->text_count; t++)
            put_text(writer, filter->texts[t]);
    }
}

static void put_key(struct key_writer *writer, const struct rows_request *rows,
                    const struct catalog_version *version,
                    const struct http_parameter *const *parameters, size_t count)
{
    put_number(writer, (uint64_t)version->version);
    put_number(writer, rows->representation);
    put_scope(writer, &rows->question.request);
    for (size_t i = 0; i < count; i++) {
        put_text(writer, parameters[i]->name);
        put_text(writer, parameters[i]->value);
    }
}

char *rows_request_key(const struct rows_request *rows, const struct catalog_version *version,
                       const struct http_request *request, size_t *length)
{
    const struct http_parameter *sorted[HTTP_PARAMETER_MAX] = {NULL};
    size_t count = 0;
    for (size_t i = 0; i < request->parameter_count; i++)
        if (is_about_rows(&request->parameters[i]))
            sorted[count++] = &request->parameters[i];
    qsort(sorted, count, sizeof sorted[0], compare_names); /* each name occurs once */
    struct key_writer writer = {0};
    put_key(&writer, rows, version, sorted, count);
    writer.out = malloc(writer.length);
    if (writer.out == NULL)
        return NULL;
    writer.length = 0;
    put_key(&writer, rows, version, sorted, count);
    *length = writer.length;
    return writer.out;
}
