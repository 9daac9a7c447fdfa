/* Problem documents: see serving/problem.h.
 *
 * Types are stable words for programs, titles and details for people. Nothing of an internal
 * failure is told to clients beyond that there was one: its text may hold names or values; nor of
 * why the database is away, which would tell where it is and who we are to it. */
#include "serving/problem.h"

#include <assert.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/program/program.h"

static const struct {
    int status;
    const char *type;
    const char *title;
} problems[] = {
    {400, "urn:dovetail:bad-request", "Bad request"},
    {401, "urn:dovetail:unauthorized", "Unauthorized"},
    {403, "urn:dovetail:forbidden", "Forbidden"},
    {404, "urn:dovetail:not-found", "Not found"},
    {405, "urn:dovetail:method-not-allowed", "Method not allowed"},
    {406, "urn:dovetail:not-acceptable", "Not acceptable"},
    {409, "urn:dovetail:conflict", "Conflict"},
    {413, "urn:dovetail:too-large", "Too large"},
    {414, "urn:dovetail:uri-too-long", "URI too long"},
    {415, "urn:dovetail:unsupported-media-type", "Unsupported media type"},
    {422, "urn:dovetail:unprocessable", "Not as described"},
    {429, "urn:dovetail:too-many", "Too many at a time"},
    {500, "urn:dovetail:internal", "Internal error"},
    {503, "urn:dovetail:unavailable", "Unavailable"},
    {504, "urn:dovetail:timeout", "Not in time"},
};

const char *response_header(const struct http_response *response, const char *name)
{
    for (size_t i = 0; i < response->header_count; i++)
        if (strcmp(response->headers[i].name, name) == 0)
            return response->headers[i].value;
    return NULL;
}

void respond_header(struct http_response *response, const char *name, const char *value)
{
    size_t at = 0;
    while (at < response->header_count && strcmp(response->headers[at].name, name) != 0)
        at++;
    assert(at < HTTP_HEADER_MAX);
    response->headers[at] = (struct http_header){.name = name, .value = value};
    if (at == response->header_count)
        response->header_count++;
}

void respond_header_take(struct http_response *response, const char *name, char *value)
{
    if (value == NULL) {
        problem_respond(response, 500, NULL, "out of memory");
        return;
    }
    assert(response->owned_count < HTTP_HEADER_MAX);
    response->owned[response->owned_count++] = value;
    respond_header(response, name, value);
}

void respond_body(struct http_response *response, const char *content_type, char *body,
                  size_t length)
{
    if (body == NULL) {
        problem_respond(response, 500, NULL, "out of memory");
        return;
    }
    response->status = 200;
    response->content_type = content_type;
    response->body = body;
    response->length = length;
    respond_header(response, "Cache-Control", "no-store");
}

static void fill(struct http_response *response, int status, char *body)
{
    static const char fallback[] = "{\"type\":\"about:blank\",\"status\":500}";
    http_response_clear(response);
    *response = (struct http_response){
        .status = status,
        .content_type = "application/problem+json",
        .body = body != NULL ? body : strdup(fallback),
    };
    response->length = response->body != NULL ? strlen(response->body) : 0;
    respond_header(response, "Cache-Control", "no-store");
    if (status == 429 || status == 503)
        respond_header(response, "Retry-After", "1");
}

static size_t kind_of(int status)
{
    size_t kind = 0;
    while (problems[kind].status != status && kind + 1 < sizeof problems / sizeof problems[0])
        kind++;
    return kind;
}

void problem_respond(struct http_response *response, int status, const char *parameter,
                     const char *format, ...)
{
    char detail[ERROR_TEXT_BYTES + 128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    const char *type = problems[kind_of(status)].type;
    const char *title = problems[kind_of(status)].title;
    if (parameter != NULL) {
        type = "urn:dovetail:bad-parameter";
        title = "Bad parameter";
    }
    json_t *json = json_pack("{s:s, s:s, s:i, s:s, s:s*}", "type", type, "title", title, "status",
                             status, "detail", detail, "parameter", parameter);
    char *body = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    fill(response, status, body);
}

void problem_respond_more(struct http_response *response, int status, const char *type,
                          json_t *members, const char *format, ...)
{
    char detail[ERROR_TEXT_BYTES + 128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    const size_t kind = kind_of(status);
    json_t *json =
        json_pack("{s:s, s:s, s:i, s:s}", "type", type != NULL ? type : problems[kind].type,
                  "title", problems[kind].title, "status", status, "detail", detail);
    char *body = NULL;
    if (json != NULL && (members == NULL || json_object_update(json, members) == 0))
        body = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    json_decref(members);
    fill(response, status, body);
}

/* SQLSTATE classes of a connection that failed, was refused or was ended by the server. */
static bool is_about_connection(const char *sqlstate)
{
    static const char *const classes[] = {"08", "28", "3D", "53", "57"};
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
        if (strncmp(sqlstate, classes[i], 2) == 0)
            return true;
    return false;
}

static void respond_unavailable(struct http_response *response, const struct error *error)
{
    static const char away[] = "PostgreSQL is away";
    if (!is_about_connection(error->sqlstate)) {
        problem_respond(response, 503, NULL, "%s", error->text);
        return;
    }
    if (strcmp(error->text, away) != 0) /* else the pool has written why */
        program_log(LOG_WARNING, "%s: %s", away, error->text);
    problem_respond(response, 503, NULL, away);
}

void problem_respond_error(struct http_response *response, const struct error *error)
{
    char parameter[64];
    const char *colon = strstr(error->text, ": ");
    size_t length = colon != NULL ? (size_t)(colon - error->text) : sizeof parameter;
    switch (error->status) {
    case STATUS_REJECT:
        /* `measure "x": ...` is about what was found, not about a parameter. */
        if (length >= sizeof parameter || memchr(error->text, '"', length) != NULL) {
            problem_respond(response, 400, NULL, "%s", error->text);
            return;
        }
        snprintf(parameter, sizeof parameter, "%.*s", (int)length, error->text);
        problem_respond(response, 400, parameter, "%s", error->text);
        return;
    case STATUS_RETRY:
        respond_unavailable(response, error);
        return;
    default:
        program_log(LOG_ERR, "%s", error->text);
        problem_respond(response, 500, NULL, "an internal error; the server's log has the reason");
    }
}

bool problem_is_timeout(const struct error *error)
{
    return strcmp(error->sqlstate, "57014") == 0;
}

void problem_respond_query(struct http_response *response, const struct error *error)
{
    if (problem_is_timeout(error))
        problem_respond(response, 504, NULL,
                        "the query took longer than 30 s; restrict it by time or key");
    else if (error->status == STATUS_FENCED)
        problem_respond(response, 503, NULL, "%s", error->text);
    else
        problem_respond_error(response, error);
}
