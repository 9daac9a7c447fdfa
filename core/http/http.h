/* HTTP, behind one header: the only file that includes libmicrohttpd is http.c.
 *
 * A fixed number of threads serve all connections, each with an event loop of its own. A handler
 * runs in one of them and may block for a bounded time; a request that has to wait longer is
 * suspended, which costs no thread. Every request is bounded: address, headers, body, parameters,
 * connections, and the time it takes to come and to be answered (core/http/deadline.h). */
#ifndef DOVETAIL_HTTP_H
#define DOVETAIL_HTTP_H

#include <stdint.h>
#include <sys/types.h>

#include "core/base/error.h"
#include "core/http/upload.h"

enum {
    HTTP_URI_MAX_BYTES = 8192,
    HTTP_PARAMETER_MAX = 64,
    HTTP_SEGMENT_MAX = 8,
    HTTP_BODY_MAX_BYTES = 64 * 1024, /* that a request may have for nothing: a larger one is cut */
    HTTP_HEADER_MAX = 12,            /* a handler's own */
    HTTP_ADDRESS_SIZE = 64,
};

struct access_token; /* serving/access.h */

/* Percent-decoded, UTF-8 without U+0000. */
struct http_parameter {
    const char *name;
    const char *value;
};

/* Owned by http.c from its first to its last byte. */
struct http_request {
    bool is_read; /* GET or HEAD */
    bool is_post;
    struct upload body; /* of one that was admitted with a body */
    bool is_unknown;    /* clients need a certificate, and this one has shown none that holds */
    const char *segments[HTTP_SEGMENT_MAX]; /* of the path, decoded: "/v1/views" has 2 */
    size_t segment_count;                   /* HTTP_SEGMENT_MAX + 1 where there are more */
    struct http_parameter parameters[HTTP_PARAMETER_MAX];
    size_t parameter_count;
    /* What is wrong with the address: status 0 = nothing. */
    struct {
        int status;
        char parameter[64]; /* or empty */
        const char *detail;
    } fault;
    int64_t started_us; /* monotonic */
    int64_t waited_ms;  /* from its last byte's coming until a thread took it up, set before a
                         * handler runs */
    const struct access_token *caller; /* set before a handler runs: serving/access.h */
    void *state; /* the handler's, over suspensions; freed at the end of the request */
    void (*release)(void *state); /* does that, in the connection's thread; NULL: free() */
};

struct http_header {
    const char *name;
    const char *value;
};

/* A body without an end known beforehand. */
struct http_stream {
    void *context;
    /* In the thread of the connection. More bytes; 0 after http_request_suspend was called, which
     * is how one waits; -1: that was all. NULL: the body is no stream. */
    ssize_t (*read)(void *context, char *buffer, size_t size);
    void (*release)(void *context); /* once, in any thread; no read comes after it */
};

struct http_response {
    int status;
    const char *content_type;
    char *body; /* malloc'd, taken */
    size_t length;
    struct http_stream stream;                   /* instead of a body; taken */
    struct http_header headers[HTTP_HEADER_MAX]; /* values are copied when the handler returns */
    size_t header_count;
    char *owned[HTTP_HEADER_MAX]; /* values that are freed then */
    size_t owned_count;
};

/* Frees the body and what else it owns; nothing is left in it. */
void http_response_clear(struct http_response *response);

enum http_outcome {
    HTTP_RESPOND,   /* *response is filled */
    HTTP_SUSPENDED, /* http_request_suspend was called: the handler runs again after the resume */
};

typedef enum http_outcome (*http_handler)(struct http_request *request,
                                          struct http_response *response, void *context);

/* Asked when the headers of a request that is no GET are there: how many bytes of a body may come.
 * 0: none are waited for, the handler runs at once, and the connection ends with its response. */
typedef size_t (*http_admission)(struct http_request *request, void *context);

struct http_server;

struct http_options {
    const char *listen; /* host:port, [host]:port for IPv6; port 0 = any free one */
    const char *key;    /* of the configuration, that `listen` is from: for messages */
    int threads;
    const char *loopback_only; /* refuse any other address, and say how to permit it; or NULL */
    const struct tls *tls;     /* NULL: plain HTTP; outlives the server */
    int connections;
    int connections_per_address; /* 0: no such bound */
    int64_t receive_timeout_ms;
    int64_t respond_timeout_ms;
    http_handler handler;
    http_admission admit; /* NULL: no bodies are wanted */
    size_t body_memory_bytes;
    void *context;
};

/* STATUS_REJECT: `listen` is malformed, no address of this machine, or not allowed. STATUS_FATAL:
 * anything else. */
enum status http_server_start(const struct http_options *options, struct http_server **out,
                              struct error *error) MUST_CHECK;
/* "http://127.0.0.1:8080", with the port in use. */
const char *http_server_url(const struct http_server *server);
bool http_server_is_loopback(const struct http_server *server);

/* Stops accepting; what is being answered is finished, for `timeout_ms` at most. No request may be
 * suspended any more when this returns; http_server_destroy comes next. */
void http_server_drain(struct http_server *server, int64_t timeout_ms);
void http_server_destroy(struct http_server *server); /* accepts NULL */

/* Called by a handler, which then returns HTTP_SUSPENDED, or by a stream's read. Any thread may
 * resume it, once, as soon as suspend has returned. */
void http_request_suspend(struct http_request *request);
void http_request_resume(struct http_request *request);

/* Of a suspended request, whose end the library does not notice: the client has closed. */
bool http_request_is_closed(const struct http_request *request);
/* Ends the connection of a request whose stream has not been released. */
void http_request_cut(struct http_request *request);

/* The client's address, without the port; "" where it is not known. */
void http_request_address(const struct http_request *request, char out[HTTP_ADDRESS_SIZE]);
const char *http_request_parameter(const struct http_request *request, const char *name);
/* Of the request, as the client sent it; several lines of Accept, Accept-Encoding and If-None-Match
 * are one list, of any other header the first one counts. NULL: it did not. Valid until the request
 * ends; the request's thread alone. */
const char *http_request_header(const struct http_request *request, const char *name);

#endif
