/* GET /openapi.json: schemas/openapi.json, compiled in (make/serving.mk knows of the dependency).
 */
#include <stdlib.h>
#include <string.h>

#include "serving/problem.h"
#include "serving/server.h"

/* The assembler includes the file as it is: C has no way to before #embed. */
__asm__(".pushsection .rodata\n"
        "dovetail_openapi_begin:\n"
        ".incbin \"schemas/openapi.json\"\n"
        "dovetail_openapi_end:\n"
        ".byte 0\n"
        ".popsection\n");

extern const char dovetail_openapi_begin[];
extern const char dovetail_openapi_end[];

enum http_outcome handle_openapi(struct server *server, struct http_request *request,
                                 struct http_response *response)
{
    (void)server;
    (void)request;
    size_t length = (size_t)(dovetail_openapi_end - dovetail_openapi_begin);
    char *body = malloc(length + 1);
    if (body != NULL)
        memcpy(body, dovetail_openapi_begin, length);
    respond_body(response, "application/json", body, length);
    return HTTP_RESPOND;
}
