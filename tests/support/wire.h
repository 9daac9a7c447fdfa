/* A proxy that knows PostgreSQL's messages: it counts what clients send, from 1 on, and lets one
 * message fail: lost with its connection, passed on with its answer lost, or answered by an error
 * of the server's own.
 *
 * Clients must not encrypt (wire_conninfo says so). Bytes are passed on in a thread of its own; the
 * functions are the main thread's. Protocol: PostgreSQL's documentation, "Frontend/Backend
 * Protocol", version 3. */
#ifndef DOVETAIL_TESTS_SUPPORT_WIRE_H
#define DOVETAIL_TESTS_SUPPORT_WIRE_H

#include <stdbool.h>
#include <stddef.h>

struct wire;

enum wire_fault {
    WIRE_NOTHING,
    WIRE_LOSE_REQUEST, /* the server never sees the message */
    WIRE_LOSE_REPLY,   /* it does what it is told, and nobody hears of it */
    WIRE_ERROR,        /* it answers with an SQLSTATE, as if the statement had met it */
};

struct wire *wire_start(const char *host, int port);
void wire_stop(struct wire *wire); /* accepts NULL */
/* `conninfo` by way of the proxy. */
void wire_conninfo(const struct wire *wire, const char *conninfo, char *out, size_t size);

/* From now on messages are counted anew, and the fault happens at number `at`; once. With
 * WIRE_ERROR at the first message from there on that a server could answer so. `sqlstate` is for
 * that. */
void wire_arm(struct wire *wire, enum wire_fault fault, int at, const char *sqlstate);
/* Whether it has happened; `text` gets what the message was. */
bool wire_has_happened(struct wire *wire, char *text, size_t size);
/* Messages since the last wire_arm. */
int wire_count(struct wire *wire);

#endif
