/* One live stream: see serving/live_internal.h. What is said there to be under the lock is; reading
 * and releasing take it, in the connection's thread. */
#include <stdlib.h>
#include <string.h>

#include "core/program/program.h"
#include "serving/live_internal.h"
#include "serving/problem.h"

void live_stream_free(struct stream *stream)
{
    query_budget_give_back(&stream->live->server->budget,
                           stream->told.bytes + (stream->pending != NULL ? stream->length : 0));
    live_rows_deinit(&stream->told);
    free(stream->strings);
    free(stream->pending);
    free(stream);
}

bool live_stream_leave(struct stream *stream)
{
    return --stream->users == 0;
}

void live_stream_put(struct stream *stream, char *event, size_t length)
{
    if (stream->pending != NULL)
        query_budget_give_back(&stream->live->server->budget, stream->length);
    free(stream->pending);
    stream->pending = event;
    stream->length = length;
    stream->taken = 0;
    stream->taken_us = program_monotonic_us();
}

void live_stream_wake(struct stream *stream)
{
    if (!stream->suspended)
        return;
    stream->suspended = false;
    http_request_resume(stream->request);
}

void live_stream_cut_if_stuck(struct stream *stream, int64_t now_us)
{
    if (stream->pending == NULL || now_us - stream->taken_us < LIVE_STUCK_MS * INT64_C(1000))
        return;
    stream->ending = true;
    http_request_cut(stream->request);
}

/* In the connection's thread. */
static ssize_t read_stream(void *context, char *buffer, size_t size)
{
    struct stream *stream = context;
    ssize_t count = -1;
    pthread_mutex_lock(&stream->live->lock);
    if (stream->pending != NULL) {
        size_t left = stream->length - stream->taken;
        size_t some = left < size ? left : size;
        memcpy(buffer, stream->pending + stream->taken, some);
        stream->taken += some;
        stream->taken_us = program_monotonic_us();
        count = (ssize_t)some;
        if (stream->taken == stream->length)
            live_stream_put(stream, NULL, 0);
    } else if (!stream->ending && !stream->live->closing) {
        stream->suspended = true;
        http_request_suspend(stream->request);
        count = 0;
    }
    pthread_mutex_unlock(&stream->live->lock);
    return count;
}

/* The connection has ended. */
static void release_stream(void *context)
{
    struct stream *stream = context;
    struct live *live = stream->live;
    pthread_mutex_lock(&live->lock);
    struct stream **link = &live->first;
    while (*link != NULL && *link != stream)
        link = &(*link)->next;
    if (*link != NULL) {
        *link = stream->next;
        live->count--;
    }
    stream->ending = true;
    bool last = live_stream_leave(stream);
    pthread_mutex_unlock(&live->lock);
    if (last)
        live_stream_free(stream);
}

void live_stream_respond(struct stream *stream, struct http_response *response)
{
    static const char type[] = "text/event-stream";
    response->status = 200;
    response->content_type = type;
    response->stream = (struct http_stream){stream, read_stream, release_stream};
    respond_header(response, "Cache-Control", "no-store");
    respond_header(response, "X-Accel-Buffering", "no"); /* nginx would hold events back */
}

static size_t string_bytes(const char *text)
{
    return strlen(text) + 1;
}

static const char *put_string(char **at, const char *text)
{
    const char *copy = *at;
    *at = stpcpy(*at, text) + 1;
    return copy;
}

struct stream *live_stream_create(struct live *live, struct http_request *request)
{
    struct stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL)
        return NULL;
    stream->live = live;
    stream->request = request;
    stream->users = 1;
    stream->asked = *request;
    stream->asked.state = NULL;
    http_request_address(request, stream->address);
    size_t bytes = string_bytes(request->segments[2]);
    for (size_t i = 0; i < request->parameter_count; i++)
        bytes +=
            string_bytes(request->parameters[i].name) + string_bytes(request->parameters[i].value);
    char *at = stream->strings = malloc(bytes);
    if (at == NULL) {
        free(stream);
        return NULL;
    }
    memset(stream->asked.segments, 0, sizeof stream->asked.segments);
    stream->asked.segments[2] = put_string(&at, request->segments[2]);
    for (size_t i = 0; i < request->parameter_count; i++) {
        stream->asked.parameters[i].name = put_string(&at, request->parameters[i].name);
        stream->asked.parameters[i].value = put_string(&at, request->parameters[i].value);
    }
    return stream;
}
