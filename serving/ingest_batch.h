/* One request's events, from the body to the answer: what handle_ingest.c works on. */
#ifndef DOVETAIL_SERVING_INGEST_BATCH_H
#define DOVETAIL_SERVING_INGEST_BATCH_H

#include "serving/ingest.h"
#include "serving/ingest_body.h"
#include "serving/ingest_key.h"
#include "serving/server.h"

struct ingest_batch;

struct ingest_event {
    struct ingest_record record; /* first: the report casts back */
    struct ingest_batch *batch;
    struct ingest_piece piece;
    const char *key; /* NULL: none */
    size_t key_length;
    bool is_sent;
    enum ingest_outcome outcome; /* INGEST_ACCEPTED until something else is known */
    const char *reason;          /* of the others */
    int32_t partition;           /* where it was written */
    int64_t offset;
};

/* Belongs to the request's thread; while events are on their way, each to the producer's thread. */
struct ingest_batch {
    struct server *server;
    struct http_request *request;
    struct arena arena; /* names, keys, reasons */
    const char *source;
    const char *topic;
    enum ingest_form form;
    bool is_whole;  /* all or nothing */
    char *unpacked; /* of a compressed body; owned */
    struct ingest_event *events;
    size_t count;
    size_t invalid_count; /* found before anything was sent */
    size_t entered_bytes;
    atomic_size_t left; /* events that are not reported yet, and one for whoever sends */
    bool has_key;       /* which is reserved, and has to be settled */
    struct ingest_key key;
};

/* Takes the body apart. False: *response says what is wrong with it. */
bool ingest_batch_read(struct ingest_batch *batch, struct http_response *response) MUST_CHECK;

/* Judges each event as the layers will; key_field SIZE_MAX: records have no keys. */
enum status ingest_batch_judge(struct ingest_batch *batch, const struct source *source,
                               size_t key_field, struct error *error) MUST_CHECK;

/* Takes room for the events and the list of those that are refused, which the answer will have.
 * False: there is none, *response says so, and nothing is written. */
bool ingest_batch_enter_list(struct ingest_batch *batch, struct http_response *response) MUST_CHECK;

/* SHA-256 of what decides what is written. */
bool ingest_batch_hash(const struct ingest_batch *batch, const char *key_field,
                       char out[2 * INGEST_HASH_BYTES + 1]) MUST_CHECK;

/* Suspends the request and gives the valid events to Kafka; it is resumed when the fate of each is
 * known. False: there is no room for them; nothing happened. */
bool ingest_batch_send(struct ingest_batch *batch) MUST_CHECK;

/* The answer, by the fates; settles the key, so that it is needed once even where nobody waits for
 * the answer any more. */
void ingest_batch_answer(struct ingest_batch *batch, struct http_response *response);

/* Frees a key that was reserved and whose request wrote nothing. */
void ingest_batch_release_key(struct ingest_batch *batch);

void ingest_batch_destroy(struct ingest_batch *batch); /* accepts NULL */

#endif
