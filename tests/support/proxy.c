/* A TCP proxy for faults: see proxy.h. The thread alone touches the sockets. */
#include "tests/support/proxy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PAIRS_MAX = 128, CHUNK_BYTES = 65536 };

/* Two sockets; what one says the other hears. */
struct pair {
    int fds[2]; /* -1: free */
};

struct proxy {
    pthread_t thread;
    struct sockaddr_storage target;
    socklen_t target_length;
    int listener, port, wake;
    struct pair pairs[PAIRS_MAX];
    atomic_bool stopping, cutting, refusing;
    atomic_int broken;
};

static void close_pair(struct pair *pair)
{
    if (pair->fds[0] < 0)
        return;
    /* Reset, not finished: what the peer has not read yet is lost too. */
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    for (int i = 0; i < 2; i++) {
        setsockopt(pair->fds[i], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(pair->fds[i]);
        pair->fds[i] = -1;
    }
}

static void accept_one(struct proxy *proxy)
{
    int client = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0)
        return;
    for (int i = 0; i < PAIRS_MAX && !atomic_load(&proxy->refusing); i++) {
        struct pair *pair = &proxy->pairs[i];
        if (pair->fds[0] >= 0)
            continue;
        int server = socket(proxy->target.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (server >= 0 &&
            connect(server, (const struct sockaddr *)&proxy->target, proxy->target_length) == 0) {
            *pair = (struct pair){{client, server}};
            return;
        }
        if (server >= 0)
            close(server);
        break;
    }
    atomic_fetch_add(&proxy->broken, 1);
    close(client);
}

static bool send_all(int fd, const char *data, ssize_t length)
{
    while (length > 0) {
        ssize_t sent = send(fd, data, (size_t)length, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        data += sent;
        length -= sent;
    }
    return true;
}

/* False: one of the two has ended. */
static bool pass_on(const struct pair *pair, int from)
{
    static char buffer[CHUNK_BYTES]; /* the thread's */
    ssize_t length = recv(pair->fds[from], buffer, sizeof buffer, 0);
    return length > 0 && send_all(pair->fds[1 - from], buffer, length);
}

static void cut_all(struct proxy *proxy)
{
    for (int i = 0; i < PAIRS_MAX; i++) {
        atomic_fetch_add(&proxy->broken, proxy->pairs[i].fds[0] >= 0 ? 1 : 0);
        close_pair(&proxy->pairs[i]);
    }
}

static void serve_pairs(struct proxy *proxy, const struct pollfd *polled, const int *owners,
                        nfds_t count)
{
    for (nfds_t i = 2; i < count; i++) {
        struct pair *pair = &proxy->pairs[owners[i] / 2];
        if (polled[i].revents != 0 && pair->fds[0] >= 0 && !pass_on(pair, owners[i] % 2))
            close_pair(pair);
    }
}

static void *run(void *context)
{
    struct proxy *proxy = context;
    while (!atomic_load(&proxy->stopping)) {
        struct pollfd polled[2 + 2 * PAIRS_MAX] = {{.fd = proxy->wake, .events = POLLIN},
                                                   {.fd = proxy->listener, .events = POLLIN}};
        int owners[2 + 2 * PAIRS_MAX];
        nfds_t count = 2;
        for (int i = 0; i < 2 * PAIRS_MAX; i++) {
            if (proxy->pairs[i / 2].fds[0] < 0)
                continue;
            owners[count] = i;
            polled[count++] =
                (struct pollfd){.fd = proxy->pairs[i / 2].fds[i % 2], .events = POLLIN};
        }
        if (poll(polled, count, -1) < 0)
            continue;
        uint64_t ignored;
        if (polled[0].revents != 0 && read(proxy->wake, &ignored, sizeof ignored) < 0)
            continue;
        if (atomic_exchange(&proxy->cutting, false)) {
            cut_all(proxy);
            continue;
        }
        if (polled[1].revents != 0)
            accept_one(proxy);
        serve_pairs(proxy, polled, owners, count);
    }
    cut_all(proxy);
    return NULL;
}

static void resolve(struct proxy *proxy, const char *host, int port)
{
    char service[16];
    struct addrinfo *list = NULL;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET};
    snprintf(service, sizeof service, "%d", port);
    if (getaddrinfo(host, service, &hints, &list) != 0)
        fail_msg("proxy: there is no host %s", host);
    memcpy(&proxy->target, list->ai_addr, list->ai_addrlen);
    proxy->target_length = list->ai_addrlen;
    freeaddrinfo(list);
}

struct proxy *proxy_start(const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    struct proxy *proxy = calloc(1, sizeof *proxy);
    assert_non_null(proxy);
    resolve(proxy, host, port);
    for (int i = 0; i < PAIRS_MAX; i++)
        proxy->pairs[i] = (struct pair){{-1, -1}};
    proxy->wake = eventfd(0, EFD_CLOEXEC);
    proxy->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (proxy->wake < 0 || proxy->listener < 0 ||
        bind(proxy->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(proxy->listener, 64) != 0 ||
        getsockname(proxy->listener, (struct sockaddr *)&address, &length) != 0)
        fail_msg("proxy: %s", strerror(errno));
    proxy->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&proxy->thread, NULL, run, proxy), 0);
    return proxy;
}

static void wake(struct proxy *proxy)
{
    uint64_t one = 1;
    if (write(proxy->wake, &one, sizeof one) != sizeof one)
        fail_msg("proxy: %s", strerror(errno));
}

void proxy_stop(struct proxy *proxy)
{
    if (proxy == NULL)
        return;
    atomic_store(&proxy->stopping, true);
    wake(proxy);
    pthread_join(proxy->thread, NULL);
    close(proxy->listener);
    close(proxy->wake);
    free(proxy);
}

int proxy_port(const struct proxy *proxy)
{
    return proxy->port;
}

void proxy_cut(struct proxy *proxy)
{
    atomic_store(&proxy->cutting, true);
    wake(proxy);
}

void proxy_refuse(struct proxy *proxy, bool refuse)
{
    atomic_store(&proxy->refusing, refuse);
}

int proxy_broken(const struct proxy *proxy)
{
    return atomic_load(&proxy->broken);
}
