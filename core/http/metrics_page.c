/* The page of metrics: see core/http/metrics_page.h. The lock guards the text that is told; what is
 * being written is the writer's alone. */
#include "core/http/metrics_page.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/http/http.h"
#include "core/program/metrics.h"
#include "core/program/program.h"

enum { CONNECTIONS = 16, RECEIVE_MS = 10000, RESPOND_MS = 10000, DRAIN_MS = 1000 };

struct metrics_page {
    struct http_server *http;
    pthread_mutex_t lock;
    char *text; /* told; NULL: none yet */
    size_t length;
    FILE *out; /* being written */
    char *next;
    size_t next_length;
};

static void respond(struct http_response *response, int status, char *body, size_t length)
{
    response->status = body != NULL ? status : 500;
    response->content_type = "text/plain; version=0.0.4; charset=utf-8";
    response->body = body;
    response->length = body != NULL ? length : 0;
}

static enum http_outcome handle(struct http_request *request, struct http_response *response,
                                void *context)
{
    struct metrics_page *page = context;
    static const char nothing[] = "there is /metrics\n";
    static const char only[] = "only GET and HEAD are answered\n";
    if (request->segment_count != 1 || strcmp(request->segments[0], "metrics") != 0) {
        respond(response, 404, strdup(nothing), strlen(nothing));
    } else if (!request->is_read) {
        respond(response, 405, strdup(only), strlen(only));
    } else {
        pthread_mutex_lock(&page->lock);
        char *copy = malloc(page->length + 1);
        if (copy != NULL && page->text != NULL)
            memcpy(copy, page->text, page->length);
        respond(response, 200, copy, page->text != NULL ? page->length : 0);
        pthread_mutex_unlock(&page->lock);
    }
    return HTTP_RESPOND;
}

enum status metrics_page_start(const char *listen, const char *key, bool anywhere,
                               struct metrics_page **out, struct error *error)
{
    char refusal[160];
    *out = NULL;
    if (listen == NULL)
        return STATUS_OK;
    struct metrics_page *page = calloc(1, sizeof *page);
    if (page == NULL)
        return error_no_memory(error);
    pthread_mutex_init(&page->lock, NULL);
    snprintf(refusal, sizeof refusal,
             "whoever reaches it could read it: say that this is meant with "
             "%s_allow_unauthenticated",
             key);
    const struct http_options options = {
        .listen = listen,
        .key = key,
        .threads = 1,
        .loopback_only = anywhere ? NULL : refusal,
        .connections = CONNECTIONS,
        .receive_timeout_ms = RECEIVE_MS,
        .respond_timeout_ms = RESPOND_MS,
        .handler = handle,
        .context = page,
    };
    enum status status = http_server_start(&options, &page->http, error);
    if (status != STATUS_OK) {
        metrics_page_destroy(page);
        return status;
    }
    program_log(LOG_INFO, "metrics at %s/metrics", http_server_url(page->http));
    *out = page;
    return STATUS_OK;
}

void metrics_page_destroy(struct metrics_page *page)
{
    if (page == NULL)
        return;
    if (page->http != NULL)
        http_server_drain(page->http, DRAIN_MS);
    http_server_destroy(page->http);
    if (page->out != NULL)
        fclose(page->out);
    free(page->next);
    free(page->text);
    pthread_mutex_destroy(&page->lock);
    free(page);
}

FILE *metrics_page_begin(struct metrics_page *page)
{
    if (page == NULL)
        return NULL;
    page->out = open_memstream(&page->next, &page->next_length);
    if (page->out == NULL)
        return NULL;
    metrics_write_build(page->out);
    metrics_put(page->out, "dovetail_metrics_timestamp_seconds", "gauge",
                "When this page was written.", (double)program_clock_us() / 1e6);
    return page->out;
}

void metrics_page_end(struct metrics_page *page)
{
    bool good = fclose(page->out) == 0;
    page->out = NULL;
    if (good) {
        pthread_mutex_lock(&page->lock);
        free(page->text);
        page->text = page->next;
        page->length = page->next_length;
        pthread_mutex_unlock(&page->lock);
    } else {
        free(page->next);
    }
    page->next = NULL;
}
