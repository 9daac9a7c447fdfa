/* Shared by the files of live streams.
 *
 *   live.c         the list, the threads: when is who asked
 *   live_stream.c  one stream: what is being sent, and the connection's end
 *   live_ask.c     one question, and what comes of it
 *
 * Invariant: the lock guards the list, the queue, `closing`, `asking` and of each stream what is
 * named so below; the rest of a stream belongs to whoever made it until it is on the list, then to
 * the thread that looks, and while it is queued or asked to a worker. A connection is suspended
 * only by the stream's own read, and is resumed once, under the lock, while the stream is open; so
 * it cannot have ended. The lock is not held while PostgreSQL is asked: a stream that is being
 * worked on has one more user, and is freed by the last. */
#ifndef DOVETAIL_SERVING_LIVE_INTERNAL_H
#define DOVETAIL_SERVING_LIVE_INTERNAL_H

#include <pthread.h>

#include "serving/live.h"
#include "serving/live_rows.h"
#include "serving/pool.h"
#include "serving/server.h"

struct stream {
    struct live *live;
    struct http_request *request; /* whose connection it is */
    struct http_request asked;    /* the question, with strings of its own */
    char *strings;
    char address[HTTP_ADDRESS_SIZE]; /* of the client */
    struct live_rows told;
    int32_t version;  /* of the view, that `told` is of */
    uint64_t seen;    /* of its topic, when it was asked for */
    int64_t event_us; /* monotonic, of the last event */
    int64_t again_us; /* not before: it could not be answered just now */

    /* What to ask. */
    bool moved;        /* the topic has, so for rows; else for the receipt */
    uint64_t now_seen; /* of the topic */

    /* Under the lock. */
    struct stream *next;
    struct stream *next_due;
    char *pending; /* what is being sent */
    size_t length, taken;
    int64_t taken_us; /* monotonic, when some of it was taken last, or it came */
    bool suspended;
    bool ending;  /* nothing comes behind `pending` */
    bool working; /* somebody looks at it */
    int users;    /* the connection, and whoever works on it */
};

/* A thread that asks. */
struct live_worker {
    struct live *live;
    pthread_t thread;
    PGcancel *asking; /* under the lock: ends its statement */
};

struct live {
    struct server *server;
    struct pool *pool; /* whose statements end soon */
    size_t limit;
    pthread_t thread;
    struct live_worker workers[LIVE_THREADS];
    int started; /* of these, and behind them of the thread that looks */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* the list, or `closing` */
    pthread_cond_t due;     /* the queue, or `closing` */
    struct stream *first;
    size_t count;
    struct stream *first_due;
    struct stream **last_due;
    bool closing;
};

/* --- live_stream.c --- */

/* One that outlives the request's own strings. NULL: out of memory. */
struct stream *live_stream_create(struct live *live, struct http_request *request) MUST_CHECK;
void live_stream_free(struct stream *stream);

/* Takes the text, whose bytes have been taken from the budget; NULL: nothing is being sent. Under
 * the lock, or before the stream is on the list. */
void live_stream_put(struct stream *stream, char *event, size_t length);
/* Has its connection's thread read again. Under the lock. */
void live_stream_wake(struct stream *stream);
/* One user less. Under the lock; true: nobody has it, and the caller frees it without the lock. */
bool live_stream_leave(struct stream *stream) MUST_CHECK;
/* A reader that takes nothing is cut off. Under the lock; its connection is there: the stream is on
 * the list. */
void live_stream_cut_if_stuck(struct stream *stream, int64_t now_us);

void live_stream_respond(struct stream *stream, struct http_response *response);

/* --- live_ask.c --- */

/* What came of looking at one stream. */
struct live_outcome {
    char *event; /* or NULL; its bytes are taken from the budget */
    size_t length;
    bool ends;
};

/* The first event of a stream that is not on the list yet. */
enum status live_begin(struct stream *stream, struct postgres *postgres,
                       const struct catalog_version *version, struct error *error) MUST_CHECK;
/* Asks what stream->moved says. */
void live_ask(struct stream *stream, struct postgres *postgres, struct live_outcome *out);
/* An event "problem" whose data is what the HTTP interface would answer. */
void live_tell_problem(struct stream *stream, const struct error *error, bool ends,
                       struct live_outcome *out);
/* The refusal of a question, or why it cannot be answered now. */
void live_respond_problem(const struct error *error, struct http_response *response);
bool live_is_due(const struct stream *stream, int64_t now_us);

#endif
