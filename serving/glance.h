/* One look at PostgreSQL for many requests: did anything move?
 *
 * Invariant: what a request is given was looked at after it had called. Those that call while a
 * look is under way wait for the next one, and share it, as commits share one flush of a log. Any
 * thread; a look is made by one of the threads that wait for it. */
#ifndef DOVETAIL_SERVING_GLANCE_H
#define DOVETAIL_SERVING_GLANCE_H

#include "core/query/query.h"

struct glance;

/* A look: the mark of a snapshot that is taken between call and return. */
typedef enum status (*glance_look)(void *context, struct query_mark *out, struct error *error);

/* NULL: out of memory. */
struct glance *glance_create(glance_look look, void *context) MUST_CHECK;
void glance_destroy(struct glance *glance); /* nobody may wait any more; accepts NULL */

/* Fails as the look did. */
enum status glance_take(struct glance *glance, struct query_mark *out,
                        struct error *error) MUST_CHECK;

/* How many wait for a look that has not begun; and how many looks have begun. */
size_t glance_waiting(struct glance *glance);
uint64_t glance_looks(struct glance *glance);

#endif
