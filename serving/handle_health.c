/* /livez: the process answers. /readyz: it can answer queries, so PostgreSQL does and has our
 * tables. */
#include <string.h>

#include "serving/problem.h"
#include "serving/server.h"

enum http_outcome handle_livez(struct server *server, struct http_request *request,
                               struct http_response *response)
{
    (void)server;
    (void)request;
    respond_body(response, "text/plain; charset=utf-8", strdup("ok\n"), 3);
    return HTTP_RESPOND;
}

enum http_outcome handle_readyz(struct server *server, struct http_request *request,
                                struct http_response *response)
{
    (void)request;
    PGresult *result = NULL;
    if (server_query(server, "SELECT run FROM dovetail_internal.current_run", &result, response))
        respond_body(response, "text/plain; charset=utf-8", strdup("ready\n"), 6);
    PQclear(result);
    return HTTP_RESPOND;
}
