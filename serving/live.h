/* Streams of changed rows: GET /v1/views/{view}/live.
 *
 * One thread looks where the topics stand, asks again for the rows of those streams whose topic has
 * moved, and gives each at most one event at a time: a reader that is slow gets fewer events with
 * larger steps, and costs no more memory. One that takes nothing for LIVE_STUCK_MS is cut off. */
#ifndef DOVETAIL_SERVING_LIVE_H
#define DOVETAIL_SERVING_LIVE_H

#include "serving/http.h"

enum {
    LIVE_INTERVAL_MS = 100,   /* between two looks */
    LIVE_HEARTBEAT_MS = 5000, /* without an event; then there is one with the receipt alone */
    LIVE_STUCK_MS = 10000,
    LIVE_ROWS_MAX = 10000, /* of one stream */
};

struct live;
struct server;

/* Starts the thread. `server` is used until live_close. */
enum status live_create(struct server *server, struct live **out, struct error *error) MUST_CHECK;
/* Every stream ends behind the event that it is sending; from then on there are no new ones. The
 * pool must still be there. */
void live_close(struct live *live);
void live_destroy(
    struct live *live); /* closes first; accepts NULL; no stream may be open any more */

/* Fills *response with a stream of what the request asks, or with a problem. */
void live_open(struct live *live, struct http_request *request, struct http_response *response);

size_t live_count(struct live *live);

#endif
