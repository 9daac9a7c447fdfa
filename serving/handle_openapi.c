/* GET /openapi.json: schemas/openapi.json, compiled in (make/serving.mk knows of the dependency).
 */
#include <stdlib.h>
#include <string.h>

#include "serving/problem.h"
#include "serving/server.h"

/* The assembler includes the file as it is: C has no way to before #embed. */
__asm__(".pushsection .rodata\n"
        ".balign 8\n"
        "dovetail_openapi_bytes: .quad 2f - 1f\n"
        "dovetail_openapi:\n"
        "1: .incbin \"schemas/openapi.json\"\n"
        "2: .byte 0\n"
        ".popsection\n");

extern const char dovetail_openapi[];
extern const uint64_t dovetail_openapi_bytes;

enum http_outcome handle_openapi(struct server *server, struct http_request *request,
                                 struct http_response *response)
{
    (void)server;
    (void)request;
    size_t length = dovetail_openapi_bytes;
    char *body = malloc(length + 1);
    if (body != NULL)
        memcpy(body, dovetail_openapi, length);
    respond_body(response, "application/json", body, length);
    return HTTP_RESPOND;
}
