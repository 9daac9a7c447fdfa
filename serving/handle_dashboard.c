/* GET / and /dashboard/...: the dashboard, from files that are compiled in.
 *
 * Nothing here touches PostgreSQL, so the page comes while that is away, and says so by itself. The
 * policy lets the page load scripts, styles and data from this server alone; texts cannot become
 * markup or code in it (no inline scripts, no inline styles, no trusted types). Browsers ask again
 * each time and get 304 while nothing has changed, so that versions are never mixed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "serving/dashboard.h"
#include "serving/problem.h"
#include "serving/server.h"

static const char policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'";

static const struct dashboard_file *find_file(const char *path)
{
    for (size_t i = 0; i < dashboard_file_count; i++)
        if (strcmp(dashboard_files[i].path, path) == 0)
            return &dashboard_files[i];
    return NULL;
}

/* If-None-Match is "*" or a list of tags, W/ before some. Ours are hexadecimal digits in quotes, so
 * one is in the list if it is in the text. */
static bool client_has(const struct http_request *request, const struct dashboard_file *file)
{
    const char *tags = http_request_header(request, "If-None-Match");
    return tags != NULL && (strcmp(tags, "*") == 0 || strstr(tags, file->etag) != NULL);
}

static void respond_file(const struct http_request *request, const struct dashboard_file *file,
                         struct http_response *response)
{
    bool unchanged = client_has(request, file);
    size_t length = unchanged ? 0 : file->length;
    char *body = malloc(length + 1);
    if (body != NULL)
        memcpy(body, file->bytes, length);
    respond_body(response, file->content_type, body, length);
    if (body == NULL)
        return;
    if (unchanged)
        response->status = 304;
    respond_header(response, "ETag", file->etag);
    respond_header(response, "Cache-Control", "no-cache");
    respond_header(response, "Content-Security-Policy", policy);
    respond_header(response, "Cross-Origin-Opener-Policy", "same-origin");
}

enum http_outcome handle_dashboard(struct server *server, struct http_request *request,
                                   struct http_response *response)
{
    (void)server;
    char path[128] = "index.html";
    if (request->segment_count == 2)
        snprintf(path, sizeof path, "%s", request->segments[1]);
    else if (request->segment_count == 3)
        snprintf(path, sizeof path, "%s/%s", request->segments[1], request->segments[2]);
    const struct dashboard_file *file = find_file(path);
    if (file != NULL)
        respond_file(request, file, response);
    else
        problem_respond(response, 404, NULL, "the dashboard has no such file");
    return HTTP_RESPOND;
}
