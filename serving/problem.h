/* Failures as RFC 9457 problem documents: application/problem+json. Any thread. */
#ifndef DOVETAIL_SERVING_PROBLEM_H
#define DOVETAIL_SERVING_PROBLEM_H

#include <jansson.h>

#include "core/http/http.h"

/* Fills *response. `parameter` (may be NULL) names the parameter at fault. A 429 or 503 gets
 * Retry-After.
 */
void problem_respond(struct http_response *response, int status, const char *parameter,
                     const char *format, ...) PRINTF_LIKE(4, 5);

/* The same of a certain type ("urn:dovetail:..."), NULL: the status's, with more members, which are
 * taken and may be NULL. */
void problem_respond_more(struct http_response *response, int status, const char *type,
                          json_t *members, const char *format, ...) PRINTF_LIKE(5, 6);

/* The usual meaning of a failed call: REJECT is 400 and names the parameter that begins the text
 * ("limit: ..."), RETRY 503, anything else 500, whose text goes to the log only. */
void problem_respond_error(struct http_response *response, const struct error *error);

/* Of a query's rows: besides, 504 where it took too long, and 503 where versions have changed. */
void problem_respond_query(struct http_response *response, const struct error *error);
bool problem_is_timeout(const struct error *error);

/* A 200 with a body that is taken; a NULL body is 500. */
void respond_body(struct http_response *response, const char *content_type, char *body,
                  size_t length);
/* In the place of one of that name, if there is one. */
void respond_header(struct http_response *response, const char *name, const char *value);
/* The same with a malloc'd value, which is taken; NULL (out of memory) is 500. */
void respond_header_take(struct http_response *response, const char *name, char *value);
/* What was set, or NULL. */
const char *response_header(const struct http_response *response, const char *name);

#endif
