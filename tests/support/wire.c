/* A proxy that knows PostgreSQL's messages: see wire.h. */
#include "tests/support/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/outbox.h"
#include "tests/support/stack.h"

enum { PAIRS_MAX = 64, CHUNK_BYTES = 65536, HEADER_BYTES = 5, TEXT_BYTES = 100 };

/* One side: what came from it and is not a whole message yet, and what waits to go to it. */
struct stream {
    struct outbox out; /* its fd is the socket */
    char *data;
    size_t length;
};

struct pair {
    bool used;
    bool begun;           /* the start-up message, which has no type, has passed */
    bool deaf;            /* answers are thrown away, up to the end of the next */
    int swallowed;        /* answers to messages of ours that the client must not see */
    struct stream client; /* what it says goes to the server */
    struct stream server;
};

struct wire {
    pthread_t thread;
    struct sockaddr_in target;
    int listener, port, wake;
    struct pair pairs[PAIRS_MAX]; /* the thread's */
    pthread_mutex_t mutex;        /* guards what follows */
    bool stopping, happened;
    enum wire_fault fault;
    int at, count;
    char sqlstate[6], text[TEXT_BYTES];
};

/* --- sockets --- */

static void close_stream(struct stream *stream)
{
    /* Reset, not finished: what the peer has not read yet is lost too. */
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(stream->out.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(stream->out.fd);
    outbox_clear(&stream->out);
    free(stream->data);
    *stream = (struct stream){.out.fd = -1};
}

static void close_pair(struct pair *pair)
{
    close_stream(&pair->client);
    close_stream(&pair->server);
    *pair = (struct pair){0};
}

static void accept_one(struct wire *wire)
{
    int client = accept4(wire->listener, NULL, NULL, SOCK_CLOEXEC);
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    for (int i = 0; i < PAIRS_MAX; i++) {
        struct pair *pair = &wire->pairs[i];
        if (pair->used || client < 0 || server < 0 ||
            connect(server, (const struct sockaddr *)&wire->target, sizeof wire->target) != 0)
            continue;
        /* Message by message, each would wait for the acknowledgement of the one before. */
        const int yes = 1;
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        *pair = (struct pair){.used = true, .client.out.fd = client, .server.out.fd = server};
        return;
    }
    close(client);
    close(server);
}

static bool receive(struct stream *stream)
{
    char *grown = realloc(stream->data, stream->length + CHUNK_BYTES);
    if (grown == NULL)
        return false;
    stream->data = grown;
    ssize_t length = recv(stream->out.fd, grown + stream->length, CHUNK_BYTES, 0);
    if (length <= 0)
        return false;
    stream->length += (size_t)length;
    return true;
}

/* --- messages --- */

static uint32_t get_length(const char *data)
{
    uint32_t number;
    memcpy(&number, data, sizeof number);
    return ntohl(number);
}

/* The bytes of the first whole message; 0: there is none yet. */
static size_t whole_message(const struct stream *stream, bool has_type)
{
    size_t skipped = has_type ? 1 : 0;
    if (stream->length < 4 + skipped)
        return 0;
    size_t length = skipped + get_length(stream->data + skipped);
    return length <= stream->length ? length : 0;
}

static void take(struct stream *stream, size_t length)
{
    stream->length -= length;
    memmove(stream->data, stream->data + length, stream->length);
}

static bool send_message(struct outbox *out, char type, const char *body, size_t length)
{
    char header[HEADER_BYTES] = {type};
    uint32_t number = htonl((uint32_t)length + 4);
    memcpy(header + 1, &number, sizeof number);
    return outbox_send(out, header, sizeof header) && outbox_send(out, body, length);
}

/* The statement's text, for people. */
static void describe(const char *message, size_t length, char *out, size_t size)
{
    const char *text = message + HEADER_BYTES;
    if (message[0] == 'P' && length > HEADER_BYTES)
        text += strnlen(text, length - HEADER_BYTES) + 1; /* its name */
    int shown = message[0] == 'Q' || message[0] == 'P' ? 80 : 0;
    snprintf(out, size, "%c %.*s", message[0], shown, text);
}

/* --- faults --- */

static bool can_be_refused(char type)
{
    return type == 'Q' || type == 'P' || type == 'B';
}

/* The fault for this message, or WIRE_NOTHING. */
static enum wire_fault judge(struct wire *wire, const char *message, size_t length, char *sqlstate)
{
    enum wire_fault fault = WIRE_NOTHING;
    if (message[0] == 'X')
        return WIRE_NOTHING;
    pthread_mutex_lock(&wire->mutex);
    wire->count++;
    bool due = wire->fault == WIRE_ERROR ? wire->count >= wire->at && can_be_refused(message[0])
                                         : wire->count == wire->at;
    if (wire->fault != WIRE_NOTHING && due) {
        fault = wire->fault;
        wire->fault = WIRE_NOTHING;
        wire->happened = true;
        memcpy(sqlstate, wire->sqlstate, sizeof wire->sqlstate);
        describe(message, length, wire->text, sizeof wire->text);
    }
    pthread_mutex_unlock(&wire->mutex);
    return fault;
}

/* In the place of a simple query, or before what the client sends of an extended one, which the
 * server then skips. A COMMIT that fails leaves no transaction. */
static bool refuse(struct pair *pair, const char *message, size_t length, const char *sqlstate)
{
    char text[300], body[320];
    bool commits = message[0] == 'Q' && memmem(message, length, "COMMIT", 6) != NULL;
    int size =
        snprintf(text, sizeof text,
                 "%sDO $$BEGIN RAISE EXCEPTION 'made by the test' USING ERRCODE = '%s'; END$$",
                 commits ? "ROLLBACK; " : "", sqlstate);
    if (message[0] == 'Q')
        return send_message(&pair->server.out, 'Q', text, (size_t)size + 1);
    /* Parse: name, text, no parameters. Bind: portal, statement, no formats, parameters, results.
     */
    size_t parse = (size_t)snprintf(body, sizeof body, "%c%s%c%c%c", 0, text, 0, 0, 0);
    static const char bind[8], execute[5];
    pair->swallowed = 2;
    return send_message(&pair->server.out, 'P', body, parse) &&
           send_message(&pair->server.out, 'B', bind, sizeof bind) &&
           send_message(&pair->server.out, 'E', execute, sizeof execute) &&
           outbox_send(&pair->server.out, message, length);
}

/* False: the connection is to be ended. */
static bool pass_request(struct wire *wire, struct pair *pair, const char *message, size_t length)
{
    char sqlstate[6] = "";
    switch (judge(wire, message, length, sqlstate)) {
    case WIRE_LOSE_REQUEST:
        return false;
    case WIRE_LOSE_REPLY:
        pair->deaf = true;
        break;
    case WIRE_ERROR:
        return refuse(pair, message, length, sqlstate);
    case WIRE_NOTHING:
        break;
    }
    return outbox_send(&pair->server.out, message, length);
}

static bool pass_requests(struct wire *wire, struct pair *pair)
{
    if (!receive(&pair->client))
        return false;
    for (size_t length; (length = whole_message(&pair->client, pair->begun)) > 0;) {
        bool good = pair->begun ? pass_request(wire, pair, pair->client.data, length)
                                : outbox_send(&pair->server.out, pair->client.data, length);
        pair->begun = true;
        take(&pair->client, length);
        if (!good)
            return false;
    }
    return true;
}

static bool pass_replies(struct pair *pair)
{
    if (!receive(&pair->server))
        return false;
    for (size_t length; (length = whole_message(&pair->server, true)) > 0;) {
        char type = pair->server.data[0];
        /* ReadyForQuery, CopyInResponse: the server waits again. */
        if (pair->deaf && (type == 'Z' || type == 'G'))
            return false;
        bool hidden = pair->swallowed > 0 && (type == '1' || type == '2');
        pair->swallowed -= hidden;
        if (!pair->deaf && !hidden && !outbox_send(&pair->client.out, pair->server.data, length))
            return false;
        take(&pair->server, length);
    }
    return true;
}

/* --- the thread --- */

static void serve_side(struct wire *wire, struct pair *pair, int side, short revents)
{
    struct stream *stream = side == 0 ? &pair->client : &pair->server;
    bool good = (revents & POLLOUT) == 0 || outbox_flush(&stream->out);
    if (good && (revents & ~POLLOUT) != 0)
        good = side == 0 ? pass_requests(wire, pair) : pass_replies(pair);
    if (!good)
        close_pair(pair);
}

/* What is polled for a side, or a descriptor that poll() passes over. */
static struct pollfd side_to_poll(const struct pair *pair, int side)
{
    const struct outbox *own = side == 0 ? &pair->client.out : &pair->server.out;
    const struct outbox *other = side == 0 ? &pair->server.out : &pair->client.out;
    short events = pair->used ? outbox_events(own, other) : 0;
    return (struct pollfd){.fd = events != 0 ? own->fd : -1, .events = events};
}

static bool is_stopping(struct wire *wire)
{
    pthread_mutex_lock(&wire->mutex);
    bool stopping = wire->stopping;
    pthread_mutex_unlock(&wire->mutex);
    return stopping;
}

static void *run(void *context)
{
    struct wire *wire = context;
    while (!is_stopping(wire)) {
        struct pollfd polled[2 + 2 * PAIRS_MAX] = {{.fd = wire->wake, .events = POLLIN},
                                                   {.fd = wire->listener, .events = POLLIN}};
        for (int i = 0; i < 2 * PAIRS_MAX; i++)
            polled[2 + i] = side_to_poll(&wire->pairs[i / 2], i % 2);
        if (poll(polled, 2 + 2 * PAIRS_MAX, -1) < 0)
            continue;
        for (int i = 0; i < 2 * PAIRS_MAX; i++)
            if (polled[2 + i].revents != 0 && wire->pairs[i / 2].used)
                serve_side(wire, &wire->pairs[i / 2], i % 2, polled[2 + i].revents);
        if (polled[1].revents != 0)
            accept_one(wire);
    }
    for (int i = 0; i < PAIRS_MAX; i++)
        if (wire->pairs[i].used)
            close_pair(&wire->pairs[i]);
    return NULL;
}

struct wire *wire_start(const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    struct wire *wire = calloc(1, sizeof *wire);
    assert_non_null(wire);
    wire->target = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &wire->target.sin_addr) != 1)
        fail_msg("wire: %s is no address", host);
    pthread_mutex_init(&wire->mutex, NULL);
    wire->wake = eventfd(0, EFD_CLOEXEC);
    wire->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (wire->wake < 0 || wire->listener < 0 ||
        bind(wire->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(wire->listener, 64) != 0 ||
        getsockname(wire->listener, (struct sockaddr *)&address, &length) != 0)
        fail_msg("wire: %s", strerror(errno));
    wire->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&wire->thread, NULL, run, wire), 0);
    return wire;
}

void wire_stop(struct wire *wire)
{
    uint64_t one = 1;
    if (wire == NULL)
        return;
    pthread_mutex_lock(&wire->mutex);
    wire->stopping = true;
    pthread_mutex_unlock(&wire->mutex);
    if (write(wire->wake, &one, sizeof one) != sizeof one)
        fail_msg("wire: %s", strerror(errno));
    stack_join(wire->thread, "the proxy");
    close(wire->listener);
    close(wire->wake);
    pthread_mutex_destroy(&wire->mutex);
    free(wire);
}

void wire_conninfo(const struct wire *wire, const char *conninfo, char *out, size_t size)
{
    int length = snprintf(out, size, "%s host=127.0.0.1 port=%d sslmode=disable gssencmode=disable",
                          conninfo, wire->port);
    assert_true((size_t)length < size);
}

void wire_arm(struct wire *wire, enum wire_fault fault, int at, const char *sqlstate)
{
    pthread_mutex_lock(&wire->mutex);
    wire->fault = fault;
    wire->at = at;
    wire->count = 0;
    wire->happened = false;
    wire->text[0] = '\0';
    snprintf(wire->sqlstate, sizeof wire->sqlstate, "%s", sqlstate != NULL ? sqlstate : "");
    pthread_mutex_unlock(&wire->mutex);
}

bool wire_has_happened(struct wire *wire, char *text, size_t size)
{
    pthread_mutex_lock(&wire->mutex);
    bool happened = wire->happened;
    snprintf(text, size, "%s", wire->text);
    pthread_mutex_unlock(&wire->mutex);
    return happened;
}

int wire_count(struct wire *wire)
{
    pthread_mutex_lock(&wire->mutex);
    int count = wire->count;
    pthread_mutex_unlock(&wire->mutex);
    return count;
}
