/* Answers of GET /v1/views/{view}/rows as they go out: body, receipt, page, ETag; and what is kept
 * of them for the next one who asks. Used by handle_rows.c alone. Runs in the request's thread. */
#ifndef DOVETAIL_SERVING_ROWS_ANSWER_H
#define DOVETAIL_SERVING_ROWS_ANSWER_H

#include "serving/rows_request.h"

/* One attempt to answer. */
struct rows_attempt {
    struct server *server;
    struct http_request *request;
    struct http_response *response;
    struct postgres *postgres; /* NULL: not needed yet */
    const struct catalogue *catalogue;
    const struct catalog_version *version;
    struct rows_request rows;
    char *key; /* the question in canonical form, owned; NULL: its answers are not kept */
    size_t key_length;
    int64_t read_us; /* when PostgreSQL was asked last */
    enum http_outcome outcome;
};

/* An answer that was read just now; it is kept, too. */
void rows_respond_new(const struct rows_attempt *attempt, const struct query_answer *answer);
/* One that was kept, with the receipt of now. */
void rows_respond_kept(const struct rows_attempt *attempt, const struct kept_answer *kept,
                       const struct query_receipt *receipt);
/* True: the client has these rows; the response says so. The receipt of now goes along. */
bool rows_respond_unchanged(const struct rows_attempt *attempt,
                            const struct query_receipt *receipt);

#endif
