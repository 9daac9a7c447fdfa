/* The flusher: a thread that writes flushes to PostgreSQL while the main thread goes on folding.
 *
 * It has its own connection and dead-letter producer. One flush is with it at a time, from
 * flusher_submit until flusher_take gives it back with its outcome in flush->status:
 *   STATUS_OK      written
 *   STATUS_FENCED  not written; somebody else owns a partition or changed the catalogue
 *   STATUS_FATAL   not written, and waiting would not help
 *   STATUS_RETRY   abandoned: it is not known whether it was written
 * PostgreSQL or Kafka being away is waited out inside, with growing pauses, for as long as it
 * takes. All functions are the main thread's. */
#ifndef DOVETAIL_SPEED_FLUSHER_H
#define DOVETAIL_SPEED_FLUSHER_H

#include "core/program/config.h"
#include "speed_layer/flush.h"

struct flusher;

/* Starts the thread. `config` outlives it. */
enum status flusher_create(const struct config *config, struct flusher **out,
                           struct error *error) MUST_CHECK;
/* Ends the thread; what it has is abandoned. Accepts NULL. */
void flusher_destroy(struct flusher *flusher);

/* Hands a flush over; the flusher must be idle. */
void flusher_submit(struct flusher *flusher, struct flush *flush);
/* Waits up to timeout_ms (0: not at all) for the flush to come back; NULL when it has not. */
struct flush *flusher_take(struct flusher *flusher, int timeout_ms);
/* Tells the flusher to give up what it has: it comes back soon, with whatever outcome. */
void flusher_abandon(struct flusher *flusher);

/* True once after a batch run asked for cuts (NOTIFY dovetail_cut). */
bool flusher_cut_was_requested(struct flusher *flusher);
/* True once after the catalogue changed (NOTIFY dovetail_catalog). */
bool flusher_catalog_has_changed(struct flusher *flusher);
/* True once after a new connection: notifications may have been missed, sessions were lost. */
bool flusher_has_reconnected(struct flusher *flusher);

#endif
