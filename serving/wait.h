/* Requests that wait until the layers have come to given offsets (`at_least`): suspended, so that
 * they cost no thread, and bounded in number and time. One thread looks at the positions for all.
 */
#ifndef DOVETAIL_SERVING_WAIT_H
#define DOVETAIL_SERVING_WAIT_H

#include "core/http/http.h"
#include "serving/pool.h"

enum { WAIT_REQUEST_MAX = 256, WAIT_INTERVAL_MS = 20 };

struct waiters;

/* Starts the thread. */
enum status waiters_create(struct pool *pool, struct waiters **out, struct error *error) MUST_CHECK;
/* Resumes every request; from then on nobody may wait. The pool must still be there. */
void waiters_close(struct waiters *waiters);
void waiters_destroy(struct waiters *waiters); /* closes first; accepts NULL */

/* Suspends `request` until every partition of `topic` has reached its offset, or the monotonic time
 * `deadline_us`; `batch` looks at C instead of P. The caller asks again after the resume. Offsets
 * are copied. False: too many wait already, or the server is stopping; nothing happened. */
bool waiters_add(struct waiters *waiters, struct http_request *request, const char *topic,
                 const int64_t *offsets, size_t count, bool batch, int64_t deadline_us) MUST_CHECK;

#endif
