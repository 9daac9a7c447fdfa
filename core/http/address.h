/* The address of a request, taken apart. */
#ifndef DOVETAIL_HTTP_ADDRESS_H
#define DOVETAIL_HTTP_ADDRESS_H

#include "core/http/http.h"

/* Fills the request's segments and parameters, which point into `uri`, decoded in place. What is
 * wrong with it is in the request's fault. Any thread, with requests of its own. */
void http_address_parse(struct http_request *request, char *uri);

#endif
