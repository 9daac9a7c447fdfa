/* Bytes that wait for their socket: see outbox.h. */
#include "tests/support/outbox.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { FULL_BYTES = 1 << 18 };

bool outbox_flush(struct outbox *outbox)
{
    size_t sent = 0;
    while (sent < outbox->length) {
        ssize_t now = send(outbox->fd, outbox->data + sent, outbox->length - sent,
                           MSG_NOSIGNAL | MSG_DONTWAIT);
        if (now < 0 && errno == EINTR)
            continue;
        if (now < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (now <= 0)
            return false;
        sent += (size_t)now;
    }
    outbox->length -= sent;
    if (sent > 0)
        memmove(outbox->data, outbox->data + sent, outbox->length);
    return true;
}

bool outbox_send(struct outbox *outbox, const void *data, size_t length)
{
    if (outbox->length + length > outbox->size) {
        size_t size = 2 * (outbox->length + length);
        char *grown = realloc(outbox->data, size);
        if (grown == NULL)
            return false;
        outbox->data = grown;
        outbox->size = size;
    }
    memcpy(outbox->data + outbox->length, data, length);
    outbox->length += length;
    return outbox_flush(outbox);
}

bool outbox_is_full(const struct outbox *outbox)
{
    return outbox->length >= FULL_BYTES;
}

bool outbox_is_empty(const struct outbox *outbox)
{
    return outbox->length == 0;
}

void outbox_clear(struct outbox *outbox)
{
    free(outbox->data);
    *outbox = (struct outbox){.fd = -1};
}

short outbox_events(const struct outbox *own, const struct outbox *other)
{
    return (short)((outbox_is_full(other) ? 0 : POLLIN) | (outbox_is_empty(own) ? 0 : POLLOUT));
}
