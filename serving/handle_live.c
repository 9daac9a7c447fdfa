/* GET /v1/views/{view}/live: the rows of a question, and what changes of them. See serving/live.h.
 */
#include "serving/server.h"

enum http_outcome handle_live(struct server *server, struct http_request *request,
                              struct http_response *response)
{
    live_open(server->live, request, response);
    return HTTP_RESPOND;
}
