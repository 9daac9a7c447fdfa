/* Sockets of the configuration: see core/http/listen.h. */
#include "core/http/listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 511 };

/* "host:port" or "[host]:port" in two. */
static bool split(char *text, const char **host, const char **port)
{
    char *colon = strrchr(text, ':');
    if (colon == NULL || colon[1] == '\0' || colon == text)
        return false;
    *colon = '\0';
    *port = colon + 1;
    *host = text;
    if (text[0] == '[') {
        size_t length = strlen(text);
        if (text[length - 1] != ']')
            return false;
        text[length - 1] = '\0';
        *host = text + 1;
    } else if (strchr(text, ':') != NULL) {
        return false; /* an IPv6 address without brackets */
    }
    return true;
}

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    return address->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

static enum status fault(const struct listen_options *options, int cause, struct error *error)
{
    return error_set(error, cause == EADDRNOTAVAIL ? STATUS_REJECT : STATUS_FATAL,
                     "%s: cannot listen on %s: %s", options->key, options->address,
                     strerror(cause));
}

static enum status open_socket(const struct listen_options *options, const struct addrinfo *address,
                               struct listener *out, struct error *error)
{
    const int one = 1;
    struct sockaddr_storage bound;
    socklen_t length = sizeof bound;
    char host[80];
    char port[8];
    int fd = socket(address->ai_family, address->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* Two sockets for datagrams that share a port would each get some of them. */
    bool good =
        fd >= 0 &&
        (options->is_datagram || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0) &&
        bind(fd, address->ai_addr, address->ai_addrlen) == 0 &&
        getsockname(fd, (struct sockaddr *)&bound, &length) == 0;
    if (!good || getnameinfo((struct sockaddr *)&bound, length, host, sizeof host, port,
                             sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        int cause = errno;
        if (fd >= 0)
            close(fd);
        return fault(options, cause, error);
    }
    out->is_loopback = is_loopback((struct sockaddr *)&bound);
    if (options->loopback_only != NULL && !out->is_loopback) {
        close(fd);
        return error_set(error, STATUS_REJECT, "%s: %s is no loopback address, and %s",
                         options->key, options->address, options->loopback_only);
    }
    if (!options->is_datagram && listen(fd, BACKLOG) != 0) {
        int cause = errno;
        close(fd);
        return fault(options, cause, error);
    }
    snprintf(out->address, sizeof out->address, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host,
             port);
    out->fd = fd;
    return STATUS_OK;
}

enum status listen_open(const struct listen_options *options, struct listener *out,
                        struct error *error)
{
    char copy[256];
    const char *host;
    const char *port;
    const struct addrinfo hints = {.ai_socktype = options->is_datagram ? SOCK_DGRAM : SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    *out = (struct listener){.fd = -1};
    if (strlen(options->address) >= sizeof copy)
        return error_set(error, STATUS_REJECT, "%s: is too long", options->key);
    snprintf(copy, sizeof copy, "%s", options->address);
    if (!split(copy, &host, &port) || port[strspn(port, "0123456789")] != '\0' ||
        strlen(port) > 5 || atoi(port) > 65535)
        return error_set(error, STATUS_REJECT, "%s: host:port is expected", options->key);
    int code = getaddrinfo(host, port, &hints, &found);
    if (code != 0)
        return error_set(error, STATUS_REJECT, "%s: %s: %s", options->key, host,
                         gai_strerror(code));
    enum status status = open_socket(options, found, out, error);
    freeaddrinfo(found);
    return status;
}
