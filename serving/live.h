/* Streams of changed rows: GET /v1/views/{view}/live.
 *
 * One thread looks where the topics stand, and a few ask again for the rows of those streams whose
 * topic has moved. Each stream gets at most one event at a time: a reader that is slow gets fewer
 * events with larger steps, and costs no more memory, which is counted in serving.memory. One that
 * takes nothing for LIVE_STUCK_MS is cut off; a question that takes longer than LIVE_ASK_MS is
 * ended.
 */
#ifndef DOVETAIL_SERVING_LIVE_H
#define DOVETAIL_SERVING_LIVE_H

#include "core/http/http.h"

enum {
    LIVE_INTERVAL_MS = 100,   /* between two looks */
    LIVE_HEARTBEAT_MS = 5000, /* without an event; then there is one with the receipt alone */
    LIVE_STUCK_MS = 10000,
    LIVE_ASK_MS = 5000,    /* most that one question may take */
    LIVE_AGAIN_MS = 1000,  /* after one that could not be answered */
    LIVE_THREADS = 3,      /* that ask */
    LIVE_ROWS_MAX = 10000, /* of one stream */
};

struct live;
struct server;

/* Starts the threads. `server` is used until live_destroy; up to `openers` threads call live_open
 * at a time. */
enum status live_create(struct server *server, int openers, struct live **out,
                        struct error *error) MUST_CHECK;
/* Questions that are being asked are cancelled, and every stream ends behind the event that it is
 * sending; from then on there are no new ones. */
void live_close(struct live *live);
void live_destroy(
    struct live *live); /* closes first; accepts NULL; no stream may be open any more */

/* Fills *response with a stream of what the request asks, or with a problem. */
void live_open(struct live *live, struct http_request *request, struct http_response *response);

size_t live_count(struct live *live);

#endif
