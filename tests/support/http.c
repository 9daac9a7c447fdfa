/* libcurl for the tests: see http.h. */
#include "tests/support/http.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TIMEOUT_MS = 60000 };

struct http_session {
    CURL *curl;
    int port;
};

struct buffer {
    char *data;
    size_t length;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

struct http_session *http_session_create(int port)
{
    pthread_once(&once, init_curl);
    struct http_session *session = calloc(1, sizeof *session);
    if (session == NULL)
        return NULL;
    session->curl = curl_easy_init();
    session->port = port;
    if (session->curl == NULL) {
        free(session);
        return NULL;
    }
    return session;
}

void http_session_destroy(struct http_session *session)
{
    if (session == NULL)
        return;
    curl_easy_cleanup(session->curl);
    free(session);
}

static size_t append(char *data, size_t size, size_t count, void *context)
{
    struct buffer *buffer = context;
    size_t more = size * count;
    char *grown = realloc(buffer->data, buffer->length + more + 1);
    if (grown == NULL)
        return 0;
    memcpy(grown + buffer->length, data, more);
    buffer->data = grown;
    buffer->length += more;
    grown[buffer->length] = '\0';
    return more;
}

/* What every request has. */
static bool prepare(struct http_session *session, const char *target, struct buffer *body,
                    struct buffer *headers)
{
    char *url = NULL;
    CURL *curl = session->curl;
    if (asprintf(&url, "http://127.0.0.1:%d%s", session->port, target) < 0)
        return false;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url); /* copied */
    free(url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, append);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, append);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, headers);
    return true;
}

static void perform(struct http_session *session, struct buffer *body, struct buffer *headers,
                    struct http_reply *reply)
{
    CURLcode code = curl_easy_perform(session->curl);
    reply->body = body->data != NULL ? body->data : strdup("");
    reply->length = body->length;
    reply->headers = headers->data != NULL ? headers->data : strdup("");
    if (code != CURLE_OK) {
        snprintf(reply->problem, sizeof reply->problem, "%s", curl_easy_strerror(code));
        return;
    }
    long status = 0;
    char *type = NULL;
    curl_easy_getinfo(session->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(session->curl, CURLINFO_CONTENT_TYPE, &type);
    reply->status = (int)status;
    snprintf(reply->content_type, sizeof reply->content_type, "%s", type != NULL ? type : "");
}

void http_request(struct http_session *session, const char *method, const char *target,
                  struct http_reply *reply)
{
    struct buffer body = {0}, headers = {0};
    *reply = (struct http_reply){0};
    if (!prepare(session, target, &body, &headers))
        return;
    if (strcmp(method, "GET") != 0)
        curl_easy_setopt(session->curl, CURLOPT_CUSTOMREQUEST, method);
    if (strcmp(method, "HEAD") == 0)
        curl_easy_setopt(session->curl, CURLOPT_NOBODY, 1L);
    perform(session, &body, &headers, reply);
}

void http_post(struct http_session *session, const char *target, const char *const *headers,
               const void *body, size_t length, struct http_reply *reply)
{
    struct buffer received = {0}, received_headers = {0};
    struct curl_slist *list = curl_slist_append(NULL, "Content-Type:"); /* curl's own is left out */
    *reply = (struct http_reply){0};
    list = curl_slist_append(list, "Expect:");
    for (; headers != NULL && *headers != NULL; headers++)
        list = curl_slist_append(list, *headers);
    if (prepare(session, target, &received, &received_headers)) {
        curl_easy_setopt(session->curl, CURLOPT_POST, 1L);
        curl_easy_setopt(session->curl, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(session->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)length);
        curl_easy_setopt(session->curl, CURLOPT_HTTPHEADER, list);
        perform(session, &received, &received_headers, reply);
        curl_easy_setopt(session->curl, CURLOPT_HTTPHEADER, NULL);
    }
    curl_slist_free_all(list);
}

void http_get(struct http_session *session, const char *target, struct http_reply *reply)
{
    http_request(session, "GET", target, reply);
}

void http_reply_free(struct http_reply *reply)
{
    free(reply->headers);
    free(reply->body);
    *reply = (struct http_reply){0};
}

const char *http_reply_header(const struct http_reply *reply, const char *name, char *out,
                              size_t size)
{
    size_t length = strlen(name);
    for (const char *line = reply->headers; line != NULL && *line != '\0';) {
        if (strncasecmp(line, name, length) == 0 && line[length] == ':') {
            const char *value = line + length + 1;
            value += strspn(value, " \t");
            snprintf(out, size, "%.*s", (int)strcspn(value, "\r\n"), value);
            return out;
        }
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return NULL;
}

json_t *http_reply_json(const struct http_reply *reply)
{
    return json_loadb(reply->body, reply->length, JSON_REJECT_DUPLICATES, NULL);
}

char *http_escape(const char *text, size_t length)
{
    static const char digits[] = "0123456789ABCDEF";
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
    char *out = malloc(3 * length + 1);
    char *next = out;
    for (size_t i = 0; out != NULL && i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c != '\0' && strchr(plain, c) != NULL) {
            *next++ = (char)c;
        } else {
            *next++ = '%';
            *next++ = digits[c >> 4];
            *next++ = digits[c & 15];
        }
    }
    if (out != NULL)
        *next = '\0';
    return out;
}

int http_free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int port = -1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
        getsockname(fd, (struct sockaddr *)&address, &length) == 0)
        port = ntohs(address.sin_port);
    if (fd >= 0)
        close(fd);
    return port;
}
