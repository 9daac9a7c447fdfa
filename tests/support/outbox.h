/* Bytes on their way out of a proxy: they wait here while the socket takes no more, so that a
 * proxy's thread waits for no single peer. Who waits for one could stand still for ever: the peer
 * may in turn wait for another connection of the same proxy. */
#ifndef DOVETAIL_TESTS_SUPPORT_OUTBOX_H
#define DOVETAIL_TESTS_SUPPORT_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>

struct outbox {
    int fd; /* borrowed */
    char *data;
    size_t length, size;
};

/* Sends what the socket takes now and keeps a copy of the rest. False: the connection has ended, or
 * memory is out. */
bool outbox_send(struct outbox *outbox, const void *data, size_t length);
/* The rest, once the socket can be written to. */
bool outbox_flush(struct outbox *outbox);
/* Enough waits: whoever fills it should not be read from now. */
bool outbox_is_full(const struct outbox *outbox);
bool outbox_is_empty(const struct outbox *outbox);
/* Frees what waits; the socket stays. */
void outbox_clear(struct outbox *outbox);

/* What to poll the socket of `own` for, from which bytes go to `other`; 0: nothing, which poll()
 * is to be told by a negative descriptor, or it would report the end again and again. */
short outbox_events(const struct outbox *own, const struct outbox *other);

#endif
