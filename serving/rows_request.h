/* The parameters of a question about rows, as a request has them: what /rows and /live take.
 *
 * Parameters become a struct query_request, whose strings borrow from the HTTP request. Any thread.
 */
#ifndef DOVETAIL_SERVING_ROWS_REQUEST_H
#define DOVETAIL_SERVING_ROWS_REQUEST_H

#include <jansson.h>

#include "core/query/query_parse.h"
#include "serving/server.h"

enum { AT_LEAST_MAX = 4096 }; /* partitions */

enum representation { AS_JSON, AS_NDJSON, AS_CSV, REPRESENTATIONS };

/* In the order of preference. */
extern const char *const rows_media_types[REPRESENTATIONS];

/* A request's parameters, taken apart. */
struct rows_request {
    struct query_question question;
    json_t *at_least; /* object, or NULL; owned */
    int64_t wait_ms;
    enum representation representation;
};

/* Restricted to the rows of the caller. */
void rows_request_init(struct rows_request *rows, struct server *server,
                       const struct http_request *request, enum representation representation);
void rows_request_deinit(struct rows_request *rows);
/* STATUS_REJECT: the text begins with the parameter's name. */
enum status rows_request_take(struct rows_request *rows, const struct view *view,
                              const struct http_request *request, struct error *error) MUST_CHECK;
/* The question in canonical form: equal for requests that differ in the order of their parameters
 * or in how long they would wait, and for nothing else. The caller's scope is part of it. malloc'd;
 * NULL: out of memory. */
char *rows_request_key(const struct rows_request *rows, const struct catalog_version *version,
                       const struct http_request *request, size_t *length) MUST_CHECK;

#endif
