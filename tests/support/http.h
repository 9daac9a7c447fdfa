/* Requests over libcurl. A session is one keep-alive connection and belongs to one thread. */
#ifndef DOVETAIL_TESTS_SUPPORT_HTTP_H
#define DOVETAIL_TESTS_SUPPORT_HTTP_H

#include <jansson.h>
#include <stddef.h>

struct http_session;

struct http_reply {
    int status;        /* 0: no reply */
    char problem[256]; /* why there was none */
    char content_type[128];
    char *headers; /* the status line and the headers as they came */
    char *body;    /* 0-terminated */
    size_t length;
};

struct http_session *http_session_create(int port);      /* on 127.0.0.1; NULL when out of memory */
void http_session_destroy(struct http_session *session); /* accepts NULL */

/* `target` is path and query as they go over the wire. */
void http_get(struct http_session *session, const char *target, struct http_reply *reply);
/* Another method, for what must be refused. */
void http_request(struct http_session *session, const char *method, const char *target,
                  struct http_reply *reply);
/* A POST; `headers` are lines of "Name: value", ended by NULL. Without a Content-Type among them
 * none is sent. */
void http_post(struct http_session *session, const char *target, const char *const *headers,
               const void *body, size_t length, struct http_reply *reply);
void http_reply_free(struct http_reply *reply);

/* The value of a header, or NULL; good until the next call with the same buffer. */
const char *http_reply_header(const struct http_reply *reply, const char *name, char *out,
                              size_t size);

/* The body as JSON; NULL where it is none. The caller releases it. */
json_t *http_reply_json(const struct http_reply *reply);

/* Percent-encodes all but unreserved characters; malloc'd. */
char *http_escape(const char *text, size_t length);

/* A port on 127.0.0.1 that nobody listens on now. */
int http_free_port(void);

#endif
