/* A TCP proxy that breaks: what is behind it goes away for those who came through it, and for
 * nobody else. Bytes are passed on in a thread of its own. */
#ifndef DOVETAIL_TESTS_SUPPORT_PROXY_H
#define DOVETAIL_TESTS_SUPPORT_PROXY_H

#include <stdbool.h>

struct proxy;

/* Listens on a free port of 127.0.0.1 and connects to `host`:`port`. Fails the test otherwise. */
struct proxy *proxy_start(const char *host, int port);
void proxy_stop(struct proxy *proxy); /* accepts NULL */
int proxy_port(const struct proxy *proxy);

/* Every connection ends now, whatever is on its way. */
void proxy_cut(struct proxy *proxy);
/* True: new connections are ended at once; those that are there stay. */
void proxy_refuse(struct proxy *proxy, bool refuse);
/* Connections that were cut or refused so far. */
int proxy_broken(const struct proxy *proxy);

#endif
