/* Sockets on an address of the configuration: host:port, [host]:port for IPv6; port 0 = any free
 * one. */
#ifndef DOVETAIL_LISTEN_H
#define DOVETAIL_LISTEN_H

#include "core/base/error.h"

enum { LISTEN_ADDRESS_SIZE = 96 };

struct listen_options {
    const char *key;           /* of the configuration, for messages */
    const char *address;       /* what it says */
    bool is_datagram;          /* UDP; else TCP, and it listens */
    const char *loopback_only; /* refuse any other address, for this reason; NULL: take any */
};

struct listener {
    int fd; /* non-blocking */
    bool is_loopback;
    char address[LISTEN_ADDRESS_SIZE]; /* with the port in use */
};

/* STATUS_REJECT: the address is malformed, none of this machine, or not allowed. STATUS_FATAL:
 * anything else. */
enum status listen_open(const struct listen_options *options, struct listener *out,
                        struct error *error) MUST_CHECK;

#endif
