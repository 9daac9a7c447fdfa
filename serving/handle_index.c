/* GET /: a page of links, for whoever opens the address in a browser. It loads nothing, from here
 * or elsewhere, and the policy in its header forbids it, too. */
#include <stdio.h>
#include <stdlib.h>

#include "serving/problem.h"
#include "serving/server.h"

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width\">\n<title>Dovetail</title>\n</head>\n"
    "<body>\n<h1>Dovetail</h1>\n<p><a href=\"/v1/status\">Status</a>, "
    "<a href=\"/v1/views\">views</a>, <a href=\"/metrics\">metrics</a>, "
    "<a href=\"/openapi.json\">OpenAPI</a></p>\n<h2>Views</h2>\n";

/* Names of views are [a-z][a-z0-9_]*: nothing to escape. */
static void write_views(const struct catalog *catalog, FILE *out)
{
    fputs("<ul>\n", out);
    for (size_t i = 0; i < catalog->version_count; i++) {
        const struct catalog_version *version = &catalog->versions[i];
        const char *name = version->view->name;
        if (version->state == CATALOG_CURRENT)
            fprintf(out,
                    "<li><a href=\"/v1/views/%s\">%s</a>: "
                    "<a href=\"/v1/views/%s/rows?limit=100\">rows</a></li>\n",
                    name, name, name);
        else
            fprintf(out, "<li>%s, version %d: being built</li>\n", name, version->version);
    }
    fputs("</ul>\n", out);
}

enum http_outcome handle_index(struct server *server, struct http_request *request,
                               struct http_response *response)
{
    (void)request;
    struct postgres *postgres;
    struct catalogue *catalogue;
    struct http_response problem = {0};
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    bool known = server_take_catalogue(server, &postgres, &catalogue, &problem);
    free(problem.body);
    if (known)
        pool_give_back(server->pool, postgres);
    if (out != NULL) {
        fputs(head, out);
        if (known)
            write_views(catalogue->catalog, out);
        else
            fputs("<p>The database is away; see <a href=\"/readyz\">readiness</a>.</p>\n", out);
        fputs("</body>\n</html>\n", out);
        if (fclose(out) != 0) {
            free(text);
            text = NULL;
        }
    }
    if (known)
        catalogue_release(server->catalogues, catalogue);
    respond_body(response, "text/html; charset=utf-8", text, length);
    respond_header(response, "Content-Security-Policy",
                   "default-src 'none'; base-uri 'none'; form-action 'none'; "
                   "frame-ancestors 'none'");
    return HTTP_RESPOND;
}
