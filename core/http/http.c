/* libmicrohttpd, wrapped: see core/http/http.h.
 *
 * Invariant: a request object lives from the moment its address is known (on_uri) until
 * libmicrohttpd has sent the response or lost the connection (on_completed); both are always called
 * in pairs. The response is queued on the second call of the access handler: on the first one the
 * library would close the connection after each response. */
#include "core/http/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/program/program.h"
#include "core/http/address.h"
#include "core/http/deadline.h"
#include "core/http/listen.h"
#include "core/http/tls.h"

enum {
    CONNECTION_MEMORY_BYTES = 32 * 1024, /* address, headers and their bookkeeping */
    STREAM_SEND_BYTES = 32 * 1024,
    STREAM_BLOCK_BYTES = 16 * 1024,
};

struct http_server {
    struct MHD_Daemon *daemon;
    struct deadlines *deadlines;
    struct http_options options;
    char url[128];
    bool loopback;
    int quiesced_fd; /* -1 until draining: the library closes its own */
    atomic_bool draining;
    atomic_int active; /* requests begun and not completed */
    struct upload_budget bodies;
};

/* What it keeps for each connection. */
struct connection {
    struct deadline *deadline;
    bool is_judged; /* its certificate has been looked at */
    bool is_known;
};

/* Headers that are lists: several lines of one mean the same as one line with commas (RFC 9110,
 * 5.3). */
static const char *const list_headers[] = {"Accept", "Accept-Encoding", "If-None-Match"};

enum { LIST_HEADERS = sizeof list_headers / sizeof list_headers[0] };

/* What libmicrohttpd keeps for each request. */
struct exchange {
    struct http_request request; /* first: http_request_suspend casts back */
    struct MHD_Connection *connection;
    bool seen;  /* the access handler was called before */
    bool begun; /* it is being answered */
    size_t body_bytes;
    char *text;                /* the address, decoded in place; owns every string of the request */
    char *lists[LIST_HEADERS]; /* lines that were joined because somebody asked; else NULL */
};

/* --- one request --- */

static void *on_uri(void *context, const char *uri, struct MHD_Connection *connection)
{
    struct http_server *server = context;
    struct exchange *exchange = calloc(1, sizeof *exchange);
    if (exchange == NULL)
        return NULL;
    exchange->connection = connection;
    exchange->request.started_us = program_monotonic_us();
    exchange->text = strdup(uri);
    if (exchange->text == NULL) {
        free(exchange);
        return NULL;
    }
    http_address_parse(&exchange->request, exchange->text);
    atomic_fetch_add(&server->active, 1);
    return exchange;
}

/* --- connections --- */

static void on_connection(void *context, struct MHD_Connection *connection, void **slot,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_server *server = context;
    struct connection *own = *slot;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) { /* before the library closes the descriptor */
        if (own != NULL)
            deadline_close(server->deadlines, own->deadline);
        free(own);
        *slot = NULL;
        return;
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    own = calloc(1, sizeof *own);
    if (own != NULL && info != NULL)
        own->deadline = deadline_open(server->deadlines, info->connect_fd);
    if (own == NULL || own->deadline == NULL) {
        free(own); /* its requests are refused */
        own = NULL;
    }
    *slot = own;
}

static struct connection *connection_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info != NULL ? info->socket_context : NULL;
}

/* The handshake is over by now. */
static bool is_unknown(const struct http_server *server, struct MHD_Connection *connection,
                       struct connection *own)
{
    if (server->options.tls == NULL || server->options.tls->client_ca == NULL)
        return false;
    if (!own->is_judged) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
        own->is_known = info != NULL && tls_client_is_known(info->tls_session);
        own->is_judged = true;
    }
    return !own->is_known;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **slot,
                         enum MHD_RequestTerminationCode code)
{
    (void)code;
    struct http_server *server = context;
    struct exchange *exchange = *slot;
    struct connection *own = connection_of(connection);
    if (own != NULL)
        deadline_receive(server->deadlines, own->deadline);
    if (exchange == NULL)
        return;
    *slot = NULL;
    if (exchange->request.release != NULL)
        exchange->request.release(exchange->request.state);
    else
        free(exchange->request.state);
    upload_release(&exchange->request.body);
    for (size_t i = 0; i < LIST_HEADERS; i++)
        free(exchange->lists[i]);
    free(exchange->text);
    free(exchange);
    atomic_fetch_sub(&server->active, 1);
}

void http_response_clear(struct http_response *response)
{
    for (size_t i = 0; i < response->owned_count; i++)
        free(response->owned[i]);
    free(response->body);
    if (response->stream.read != NULL)
        response->stream.release(response->stream.context);
    *response = (struct http_response){0};
}

/* --- streams --- */

/* Open until on_completed, and until its stream was released. */
static int descriptor_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info != NULL ? info->connect_fd : -1;
}

static ssize_t read_stream(void *context, uint64_t position, char *buffer, size_t size)
{
    struct http_stream *stream = context;
    (void)position;
    ssize_t count = stream->read(stream->context, buffer, size);
    return count < 0 ? MHD_CONTENT_READER_END_OF_STREAM : count;
}

static void release_stream(void *context)
{
    struct http_stream *stream = context;
    stream->release(stream->context);
    free(stream);
}

/* Little is on its way to a slow reader, so that what it gets is not old. */
static struct MHD_Response *create_stream(struct MHD_Connection *connection,
                                          struct http_response *response)
{
    struct http_stream *stream = malloc(sizeof *stream);
    if (stream == NULL)
        return NULL;
    *stream = response->stream;
    struct MHD_Response *out = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, read_stream, stream, release_stream);
    if (out == NULL) {
        free(stream);
        return NULL;
    }
    response->stream.read = NULL; /* the library has it */
    const int send_bytes = STREAM_SEND_BYTES;
    (void)setsockopt(descriptor_of(connection), SOL_SOCKET, SO_SNDBUF, &send_bytes,
                     sizeof send_bytes);
    return out;
}

/* Of every answer that does not say otherwise itself: nothing in it is to run, to be framed, to be
 * taken for another type or to be read by pages of other origins. */
static const struct http_header protections[] = {
    {"X-Content-Type-Options", "nosniff"},
    {"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
    {"X-Frame-Options", "DENY"},
    {"Referrer-Policy", "no-referrer"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
};

static enum MHD_Result add_protections(struct MHD_Response *out)
{
    enum MHD_Result result = MHD_YES;
    for (size_t i = 0; i < sizeof protections / sizeof protections[0] && result == MHD_YES; i++)
        if (MHD_get_response_header(out, protections[i].name) == NULL)
            result = MHD_add_response_header(out, protections[i].name, protections[i].value);
    return result;
}

static enum MHD_Result queue_response(struct http_server *server, struct MHD_Connection *connection,
                                      struct http_response *response)
{
    struct connection *own = connection_of(connection);
    if (response->stream.read != NULL)
        deadline_lift(own->deadline); /* it goes on until somebody ends it */
    struct MHD_Response *out = response->stream.read != NULL
                                   ? create_stream(connection, response)
                                   : MHD_create_response_from_buffer(
                                         response->length, response->body, MHD_RESPMEM_MUST_FREE);
    if (out == NULL) {
        http_response_clear(response);
        return MHD_NO;
    }
    enum MHD_Result result = MHD_add_response_header(out, "Content-Type", response->content_type);
    for (size_t i = 0; i < response->header_count && result == MHD_YES; i++)
        result =
            MHD_add_response_header(out, response->headers[i].name, response->headers[i].value);
    if (result == MHD_YES)
        result = add_protections(out);
    if (atomic_load(&server->draining) && result == MHD_YES)
        result = MHD_add_response_header(out, "Connection", "close");
    if (result == MHD_YES)
        result = MHD_queue_response(connection, (unsigned int)response->status, out);
    MHD_destroy_response(out);
    response->body = NULL; /* the library has it */
    http_response_clear(response);
    return result;
}

/* The headers are there. True: the rest is waited for. */
static bool begin_request(struct http_server *server, struct exchange *exchange, const char *method)
{
    struct http_request *request = &exchange->request;
    request->is_read = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    request->is_post = strcmp(method, "POST") == 0;
    if (request->is_read)
        return true;
    /* A body that nobody wants is not waited for: the refusal closes the connection. */
    if (server->options.admit == NULL)
        return false;
    request->is_unknown =
        is_unknown(server, exchange->connection, connection_of(exchange->connection));
    request->body.budget = &server->bodies;
    request->body.max = server->options.admit(request, server->options.context);
    const char *announced = http_request_header(request, "Content-Length");
    if (announced != NULL && strtoull(announced, NULL, 10) > request->body.max)
        request->body.fault = 413;
    return request->body.max > 0 && request->body.fault == 0;
}

static bool take_body(struct exchange *exchange, const char *bytes, size_t count)
{
    if (exchange->request.body.max > 0)
        return upload_add(&exchange->request.body, bytes, count);
    exchange->body_bytes += count;
    return exchange->body_bytes <= HTTP_BODY_MAX_BYTES;
}

/* How long it lay there before a thread was free for it, as the kernel knows. */
static int64_t waited_ms(struct MHD_Connection *connection)
{
    struct tcp_info info;
    socklen_t length = sizeof info;
    if (getsockopt(descriptor_of(connection), IPPROTO_TCP, TCP_INFO, &info, &length) != 0 ||
        length < offsetof(struct tcp_info, tcpi_last_data_recv) + sizeof info.tcpi_last_data_recv)
        return 0;
    return info.tcpi_last_data_recv;
}

static enum MHD_Result on_access(void *context, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *upload,
                                 size_t *upload_bytes, void **slot)
{
    (void)url;
    (void)version;
    struct http_server *server = context;
    struct exchange *exchange = *slot;
    struct connection *own = connection_of(connection);
    if (exchange == NULL || own == NULL)
        return MHD_NO; /* out of memory: the connection is closed */
    if (!exchange->seen) {
        exchange->seen = true;
        if (begin_request(server, exchange, method))
            return MHD_YES;
    }
    if (*upload_bytes > 0) {
        size_t count = *upload_bytes;
        *upload_bytes = 0;
        return take_body(exchange, upload, count) ? MHD_YES : MHD_NO;
    }
    if (!exchange->begun) { /* the request is there; what is suspended comes here again */
        exchange->begun = true;
        exchange->request.is_unknown = is_unknown(server, connection, own);
        exchange->request.waited_ms = waited_ms(connection);
        deadline_respond(server->deadlines, own->deadline);
    }
    struct http_response response = {0};
    if (server->options.handler(&exchange->request, &response, server->options.context) ==
        HTTP_SUSPENDED)
        return MHD_YES;
    return queue_response(server, connection, &response);
}

void http_request_suspend(struct http_request *request)
{
    MHD_suspend_connection(((struct exchange *)request)->connection);
}

void http_request_resume(struct http_request *request)
{
    MHD_resume_connection(((struct exchange *)request)->connection);
}

bool http_request_is_closed(const struct http_request *request)
{
    char byte;
    int fd = descriptor_of(((const struct exchange *)request)->connection);
    ssize_t got = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

void http_request_cut(struct http_request *request)
{
    (void)shutdown(descriptor_of(((struct exchange *)request)->connection), SHUT_RDWR);
}

/* The lines of one header, while they are joined. Nothing is written without `out`. */
struct joined {
    const char *name;
    char *out;
    size_t length;
    size_t count;
};

static enum MHD_Result join_line(void *context, enum MHD_ValueKind kind, const char *name,
                                 const char *value)
{
    (void)kind;
    struct joined *joined = context;
    if (value == NULL || strcasecmp(name, joined->name) != 0)
        return MHD_YES;
    size_t length = strlen(value);
    if (joined->out != NULL) {
        memcpy(joined->out + joined->length, value, length);
        joined->out[joined->length + length] = ',';
    }
    joined->length += length + 1;
    joined->count++;
    return MHD_YES;
}

/* All lines of a header as one, kept until the request ends; NULL: there are less than two, or no
 * memory. */
static char *join_lines(struct MHD_Connection *connection, const char *name)
{
    struct joined joined = {.name = name};
    (void)MHD_get_connection_values(connection, MHD_HEADER_KIND, join_line, &joined);
    joined.out = joined.count > 1 ? malloc(joined.length) : NULL;
    if (joined.out == NULL)
        return NULL;
    joined.length = 0;
    (void)MHD_get_connection_values(connection, MHD_HEADER_KIND, join_line, &joined);
    joined.out[joined.length - 1] = '\0';
    return joined.out;
}

const char *http_request_header(const struct http_request *request, const char *name)
{
    struct exchange *exchange = (struct exchange *)(uintptr_t)request;
    for (size_t i = 0; i < LIST_HEADERS; i++) {
        if (strcmp(name, list_headers[i]) != 0)
            continue;
        if (exchange->lists[i] == NULL)
            exchange->lists[i] = join_lines(exchange->connection, name);
        if (exchange->lists[i] != NULL)
            return exchange->lists[i];
    }
    return MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, name);
}

void http_request_address(const struct http_request *request, char out[HTTP_ADDRESS_SIZE])
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(
        ((const struct exchange *)request)->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *address = info != NULL ? info->client_addr : NULL;
    socklen_t length = 0;
    out[0] = '\0';
    if (address != NULL && address->sa_family == AF_INET)
        length = sizeof(struct sockaddr_in);
    else if (address != NULL && address->sa_family == AF_INET6)
        length = sizeof(struct sockaddr_in6);
    if (length == 0 ||
        getnameinfo(address, length, out, HTTP_ADDRESS_SIZE, NULL, 0, NI_NUMERICHOST) != 0)
        out[0] = '\0';
}

/* --- the server --- */

static void on_library_log(void *context, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

/* The library talks of connections that clients broke; those are not ours to report. */
static void on_library_log(void *context, const char *format, va_list arguments)
{
    (void)context;
    (void)format;
    (void)arguments;
}

/* What depends on the configuration; ends with MHD_OPTION_END. */
static void choose_options(const struct http_options *options, struct MHD_OptionItem out[8])
{
    const struct tls *tls = options->tls;
    size_t count = 0;
    if (options->threads > 1)
        out[count++] =
            (struct MHD_OptionItem){MHD_OPTION_THREAD_POOL_SIZE, (intptr_t)options->threads, NULL};
    if (tls != NULL) {
        out[count++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, tls->certificate};
        out[count++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, tls->key};
        out[count++] =
            (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)TLS_PRIORITIES};
        if (tls->client_ca != NULL)
            out[count++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_TRUST, 0, tls->client_ca};
    }
    out[count] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
}

static struct MHD_Daemon *start_daemon(struct http_server *server, int fd)
{
    const struct http_options *options = &server->options;
    struct MHD_OptionItem more[8];
    unsigned int flags =
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    flags |= options->tls != NULL ? (unsigned int)MHD_USE_TLS : 0;
    choose_options(options, more);
    return MHD_start_daemon(
        flags, 0, NULL, NULL, on_access, server,             /* the handler */
        MHD_OPTION_EXTERNAL_LOGGER, on_library_log, NULL,    /* first, says the manual */
        MHD_OPTION_LISTEN_SOCKET, fd,                        /* ours */
        MHD_OPTION_URI_LOG_CALLBACK, on_uri, server,         /* begin */
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, server,   /* end */
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, /* both of connections */
        MHD_OPTION_CONNECTION_LIMIT, (unsigned int)options->connections, /* of all threads */
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned int)options->connections_per_address,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY_BYTES, /* each */
        MHD_OPTION_CONNECTION_TIMEOUT, 0u, /* deadlines see to it */
        MHD_OPTION_ARRAY, more, MHD_OPTION_END);
}

static enum status open_listener(struct http_server *server, int *fd, struct error *error)
{
    const struct http_options *options = &server->options;
    struct listener listener;
    enum status status =
        listen_open(&(struct listen_options){.key = options->key,
                                             .address = options->listen,
                                             .loopback_only = options->loopback_only},
                    &listener, error);
    server->loopback = listener.is_loopback;
    snprintf(server->url, sizeof server->url, "%s://%s", options->tls != NULL ? "https" : "http",
             listener.address);
    *fd = listener.fd;
    return status;
}

enum status http_server_start(const struct http_options *options, struct http_server **out,
                              struct error *error)
{
    struct http_server *server = calloc(1, sizeof *server);
    int fd = -1;
    *out = NULL;
    if (server == NULL)
        return error_no_memory(error);
    server->options = *options;
    server->bodies.limit_bytes = options->body_memory_bytes;
    server->quiesced_fd = -1;
    enum status status = deadlines_create(options->receive_timeout_ms, options->respond_timeout_ms,
                                          &server->deadlines, error);
    if (status == STATUS_OK)
        status = open_listener(server, &fd, error);
    if (status == STATUS_OK) {
        server->daemon = start_daemon(server, fd);
        if (server->daemon == NULL) {
            close(fd);
            status = error_set(error, STATUS_FATAL, "the HTTP server does not start");
        }
    }
    if (status != STATUS_OK) {
        deadlines_destroy(server->deadlines);
        free(server);
        return status;
    }
    *out = server;
    return STATUS_OK;
}

const char *http_server_url(const struct http_server *server)
{
    return server->url;
}

bool http_server_is_loopback(const struct http_server *server)
{
    return server->loopback;
}

void http_server_drain(struct http_server *server, int64_t timeout_ms)
{
    atomic_store(&server->draining, true);
    /* The descriptor stays until the library's threads have ended; only its port is given up. */
    server->quiesced_fd = MHD_quiesce_daemon(server->daemon);
    if (server->quiesced_fd >= 0)
        (void)shutdown(server->quiesced_fd, SHUT_RDWR);
    int64_t deadline_us = program_monotonic_us() + timeout_ms * 1000;
    while (atomic_load(&server->active) > 0 && program_monotonic_us() < deadline_us)
        usleep(2000);
}

void http_server_destroy(struct http_server *server)
{
    if (server == NULL)
        return;
    MHD_stop_daemon(server->daemon);
    if (server->quiesced_fd >= 0)
        close(server->quiesced_fd);
    deadlines_destroy(server->deadlines);
    free(server);
}
