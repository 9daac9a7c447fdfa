/* One look at PostgreSQL for many requests: did anything move?
 *
 * Invariant: what a request is told was looked at after it had asked. Those that ask while a look
 * is under way get the next one, and share it, as commits share one flush of a log. Who asks alone
 * looks himself; the others are told by a thread of the glance. */
#ifndef DOVETAIL_SERVING_GLANCE_H
#define DOVETAIL_SERVING_GLANCE_H

#include "core/query/query.h"

struct glance;

/* A look: the mark of a snapshot that is taken between call and return. One at a time. */
typedef enum status (*glance_look)(void *context, struct query_mark *out, struct error *error);

/* Who asked. Kept by the caller until `told` is called. */
struct glance_question {
    void (*wait)(void *context); /* before anybody may call `told`; under a lock: it does little */
    void (*told)(void *context); /* once, in any thread; mark and status are filled */
    void *context;
    enum status status; /* of the look; STATUS_OK: `mark` is what it saw */
    struct query_mark mark;
    /* private */
    struct glance_question *next;
};

enum status glance_create(glance_look look, void *context, struct glance **out,
                          struct error *error) MUST_CHECK;
/* Everybody who waits is told; from then on all look themselves. */
void glance_close(struct glance *glance);
void glance_destroy(struct glance *glance); /* closes; accepts NULL */

/* True: answered, neither `wait` nor `told` was or will be called. False: `wait` was called, and
 * `told` will be. */
bool glance_ask(struct glance *glance, struct glance_question *question) MUST_CHECK;

/* How many wait for a look that has not begun; and how many looks have begun. */
size_t glance_waiting(struct glance *glance);
uint64_t glance_looks(struct glance *glance);

#endif
