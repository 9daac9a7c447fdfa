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

#include "tests/support/outbox.h"
#include "tests/support/stack.h"

enum { PAIRS_MAX = 128, CHUNK_BYTES = 65536 };

/* Two sockets; what one says the other hears. After the end of one nothing more is read, and both
 * are closed as soon as all is said. */
struct pair {
    struct outbox sides[2]; /* fd -1: free */
    bool ending;
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
    for (int i = 0; i < 2 && pair->sides[i].fd >= 0; i++) {
        close(pair->sides[i].fd);
        outbox_clear(&pair->sides[i]);
    }
}

/* Reset, not finished: what the peer has not read yet is lost too. */
static void cut_pair(struct pair *pair)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    for (int i = 0; i < 2; i++)
        setsockopt(pair->sides[i].fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close_pair(pair);
}

static void accept_one(struct proxy *proxy)
{
    int client = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0)
        return;
    for (int i = 0; i < PAIRS_MAX && !atomic_load(&proxy->refusing); i++) {
        struct pair *pair = &proxy->pairs[i];
        if (pair->sides[0].fd >= 0)
            continue;
        int server = socket(proxy->target.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (server >= 0 &&
            connect(server, (const struct sockaddr *)&proxy->target, proxy->target_length) == 0) {
            *pair = (struct pair){.sides = {{.fd = client}, {.fd = server}}};
            return;
        }
        if (server >= 0)
            close(server);
        break;
    }
    atomic_fetch_add(&proxy->broken, 1);
    close(client);
}

/* False: one of the two has ended. */
static bool pass_on(struct pair *pair, int from)
{
    static char buffer[CHUNK_BYTES]; /* the thread's */
    ssize_t length = recv(pair->sides[from].fd, buffer, sizeof buffer, 0);
    return length > 0 && outbox_send(&pair->sides[1 - from], buffer, (size_t)length);
}

static void cut_all(struct proxy *proxy)
{
    for (int i = 0; i < PAIRS_MAX; i++) {
        if (proxy->pairs[i].sides[0].fd < 0)
            continue;
        atomic_fetch_add(&proxy->broken, 1);
        cut_pair(&proxy->pairs[i]);
    }
}

static void serve_side(struct pair *pair, int side, short revents)
{
    if (pair->sides[side].fd < 0)
        return;
    if ((revents & POLLOUT) != 0 && !outbox_flush(&pair->sides[side])) {
        close_pair(pair);
        return;
    }
    if ((revents & ~POLLOUT) != 0 && !pair->ending && !pass_on(pair, side))
        pair->ending = true;
    if (pair->ending && outbox_is_empty(&pair->sides[0]) && outbox_is_empty(&pair->sides[1]))
        close_pair(pair);
}

/* What is polled for a side, or a descriptor that poll() passes over. */
static struct pollfd side_to_poll(const struct pair *pair, int side)
{
    const struct outbox *own = &pair->sides[side];
    short events = outbox_events(own, &pair->sides[1 - side]);
    if (pair->ending)
        events = outbox_is_empty(own) ? 0 : POLLOUT;
    return (struct pollfd){.fd = events != 0 ? own->fd : -1, .events = events};
}

static void *run(void *context)
{
    struct proxy *proxy = context;
    while (!atomic_load(&proxy->stopping)) {
        struct pollfd polled[2 + 2 * PAIRS_MAX] = {{.fd = proxy->wake, .events = POLLIN},
                                                   {.fd = proxy->listener, .events = POLLIN}};
        for (int i = 0; i < 2 * PAIRS_MAX; i++)
            polled[2 + i] = side_to_poll(&proxy->pairs[i / 2], i % 2);
        if (poll(polled, 2 + 2 * PAIRS_MAX, -1) < 0)
            continue;
        uint64_t ignored;
        if (polled[0].revents != 0 && read(proxy->wake, &ignored, sizeof ignored) < 0)
            continue;
        if (atomic_exchange(&proxy->cutting, false)) {
            cut_all(proxy);
            continue;
        }
        for (int i = 0; i < 2 * PAIRS_MAX; i++)
            if (polled[2 + i].revents != 0)
                serve_side(&proxy->pairs[i / 2], i % 2, polled[2 + i].revents);
        if (polled[1].revents != 0)
            accept_one(proxy);
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
        proxy->pairs[i] = (struct pair){.sides = {{.fd = -1}, {.fd = -1}}};
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
    stack_join(proxy->thread, "the proxy");
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
