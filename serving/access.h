/* Who asks, and what he may see: bearer tokens of `serving.tokens`.
 *
 * Without tokens in the configuration everybody may everything, and the functions say so. Any
 * thread; nothing changes after access_create. */
#ifndef DOVETAIL_SERVING_ACCESS_H
#define DOVETAIL_SERVING_ACCESS_H

#include "core/program/config.h"
#include "core/query/query.h"
#include "core/http/http.h"

/* What a route asks for. */
enum access_need {
    ACCESS_OPEN,  /* nothing: health checks, the dashboard's files, /openapi.json */
    ACCESS_TOKEN, /* any token; the handler looks at views and rows */
    ACCESS_ADMIN, /* one with the role "admin" */
};

struct access;
struct access_token; /* who asks; NULL where there are no tokens: everybody */

enum status access_create(const struct config *config, struct access **out,
                          struct error *error) MUST_CHECK;
void access_destroy(struct access *access); /* accepts NULL */

/* True: the request may go on, and request->caller is set. False: *response says why not. */
bool access_check(const struct access *access, enum access_need need, struct http_request *request,
                  struct http_response *response) MUST_CHECK;

/* May he see the view of this name? */
bool access_has_view(const struct access_token *caller, const char *view);
/* The same, and has it every key that his rows are restricted by? One without them is not his. */
bool access_fits_view(const struct access_token *caller, const struct view *view);
/* Is what he sees restricted by keys? Then whether there is a view that lacks them is none of his
 * business. */
bool access_has_rows(const struct access_token *caller);
/* 403: not this view, whether there is one or not. */
void access_refuse_view(struct http_response *response);

/* May he send events to the source of this name? Not asked where there are no tokens. */
bool access_may_write(const struct access_token *caller, const char *source);
/* 403 with what he lacks. */
void access_refuse(struct http_response *response, const char *detail);
/* The name of his token in the configuration; "" where there are none. */
const char *access_name(const struct access_token *caller);

/* Restricts a query to his rows. */
void access_restrict(const struct access_token *caller, struct query_request *request);

#endif
