/* A reader of server-sent events, over a plain socket: header-only, for one test program each.
 *
 * Knows chunked bodies and the fields event, id and data. */
#ifndef DOVETAIL_TESTS_SUPPORT_SSE_H
#define DOVETAIL_TESTS_SUPPORT_SSE_H

#include <arpa/inet.h>
#include <jansson.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/stack.h"

struct sse {
    int fd;
    char *text; /* what was received: the head, then the body without its chunks' sizes */
    size_t length, capacity;
    size_t raw;  /* where what is still chunked begins */
    size_t read; /* where the next event begins */
    bool ended;
};

struct sse_event {
    char name[32];
    char id[64];
    json_t *data;
};

static inline void sse_fill(struct sse *sse)
{
    if (sse->capacity - sse->length < 65536)
        sse->text = realloc(sse->text, sse->capacity = 2 * sse->capacity + 131072);
    struct pollfd readable = {.fd = sse->fd, .events = POLLIN};
    bool comes = poll(&readable, 1, 2 * STACK_WAIT_MS) == 1;
    if (!comes)
        fprintf(stderr, "a stream said nothing for %d ms\n", 2 * STACK_WAIT_MS);
    ssize_t got = comes ? recv(sse->fd, sse->text + sse->length, 65535, 0) : 0;
    if (got <= 0)
        sse->ended = true;
    else
        sse->length += (size_t)got;
    sse->text[sse->length] = '\0';
}

/* The status; -1: no answer. The head is at sse->text. */
static inline int sse_open(struct sse *sse, int tcp_port, const char *target, const char *headers)
{
    char request[2048];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)tcp_port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *sse = (struct sse){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n",
                          target, headers);
    if (connect(sse->fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        send(sse->fd, request, (size_t)length, MSG_NOSIGNAL) != length)
        return -1;
    char *end = NULL;
    while (!sse->ended && end == NULL) {
        sse_fill(sse);
        end = strstr(sse->text, "\r\n\r\n");
    }
    if (end == NULL)
        return -1;
    sse->raw = sse->read = (size_t)(end + 4 - sse->text);
    return atoi(sse->text + 9);
}

static inline void sse_close(struct sse *sse)
{
    close(sse->fd);
    free(sse->text);
    *sse = (struct sse){.fd = -1};
}

/* Takes the size off the next chunk; false: it is not whole yet. */
static inline bool sse_take_chunk(struct sse *sse)
{
    char *begin = sse->text + sse->raw;
    char *line = strstr(begin, "\r\n");
    if (line == NULL)
        return false;
    size_t size = strtoul(begin, NULL, 16);
    size_t head = (size_t)(line + 2 - begin);
    if (sse->length - sse->raw < head + size + 2)
        return false;
    memmove(begin, begin + head, size);
    memmove(begin + size, begin + head + size + 2, sse->length - sse->raw - head - size - 2 + 1);
    sse->length -= head + 2;
    sse->raw += size;
    if (size == 0)
        sse->ended = true;
    return size > 0;
}

static inline void sse_field(const char *event, const char *name, char *out, size_t size)
{
    const char *at = strstr(event, name);
    out[0] = '\0';
    if (at != NULL)
        snprintf(out, size, "%.*s", (int)strcspn(at + strlen(name), "\n"), at + strlen(name));
}

/* The next event, waited for; false: the stream has ended. The caller releases data. */
static inline bool sse_next(struct sse *sse, struct sse_event *out)
{
    for (;;) {
        while (sse_take_chunk(sse))
            continue;
        char *begin = sse->text + sse->read;
        char *end = memmem(begin, sse->raw - sse->read, "\n\n", 2);
        if (end != NULL) {
            *end = '\0';
            sse_field(begin, "event: ", out->name, sizeof out->name);
            sse_field(begin, "id: ", out->id, sizeof out->id);
            const char *data = strstr(begin, "data: ");
            out->data = data != NULL ? json_loads(data + 6, JSON_REJECT_DUPLICATES, NULL) : NULL;
            sse->read = (size_t)(end + 2 - sse->text);
            return true;
        }
        if (sse->ended)
            return false;
        sse_fill(sse);
    }
}

/* The name of a row: its window and its first `keys` other members; malloc'd. */
static inline char *sse_identity(json_t *row, size_t keys)
{
    json_t *names = json_array();
    const char *name;
    json_t *value;
    json_object_foreach (row, name, value)
        if (json_array_size(names) < keys + 2)
            json_array_append(names, value);
    char *text = json_dumps(names, 0);
    json_decref(names);
    return text;
}

/* Applies an event to `rows`, an object of rows by identity. */
static inline void sse_apply(json_t *rows, const struct sse_event *event, size_t keys)
{
    size_t index;
    json_t *row;
    if (strcmp(event->name, "snapshot") == 0)
        json_object_clear(rows);
    json_array_foreach (json_object_get(event->data, "removed"), index, row) {
        char *identity = sse_identity(row, keys);
        json_object_del(rows, identity);
        free(identity);
    }
    json_array_foreach (json_object_get(event->data, "rows"), index, row) {
        char *identity = sse_identity(row, keys);
        json_object_set(rows, identity, row);
        free(identity);
    }
}

#endif
