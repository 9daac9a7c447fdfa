/* gzip for response bodies; the only file that includes zlib is compress.c. Any thread. */
#ifndef DOVETAIL_SERVING_COMPRESS_H
#define DOVETAIL_SERVING_COMPRESS_H

#include "core/http/http.h"

/* Compresses the body of a 200 where the client takes gzip and it is worth while, and says in Vary
 * that this depends on the client. Leaves alone what is short, coded already, or has a strong ETag,
 * which stands for its very bytes. */
void compress_response(const struct http_request *request, struct http_response *response);

#endif
