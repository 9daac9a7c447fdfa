/* Absolute deadlines of connections: however slowly bytes come or go, an end is put to it.
 *
 * libmicrohttpd's time-out is of idleness alone, so a byte a minute would hold a connection for
 * ever. Here each connection is either receiving a request (or waiting for one) or responding, and
 * has until a fixed moment for it. One that is late is shut down; the library then sees its end and
 * closes it. Any thread. */
#ifndef DOVETAIL_DEADLINE_H
#define DOVETAIL_DEADLINE_H

#include <stdint.h>

#include "core/base/error.h"

struct deadlines;
struct deadline; /* of one connection */

enum status deadlines_create(int64_t receive_ms, int64_t respond_ms, struct deadlines **out,
                             struct error *error) MUST_CHECK;
/* Every deadline has been closed. Accepts NULL. */
void deadlines_destroy(struct deadlines *deadlines);

/* A connection that begins to receive; NULL: out of memory. `fd` stays open until deadline_close
 * has returned. */
struct deadline *deadline_open(struct deadlines *deadlines, int fd) MUST_CHECK;
void deadline_close(struct deadlines *deadlines, struct deadline *deadline); /* accepts NULL */

void deadline_receive(struct deadlines *deadlines, struct deadline *deadline);
void deadline_respond(struct deadlines *deadlines, struct deadline *deadline);
/* None until the next of the two above: for an answer that is not meant to end. */
void deadline_lift(struct deadline *deadline);

#endif
