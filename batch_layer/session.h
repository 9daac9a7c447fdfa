/* One batch process at a time: the connection that holds the batch lock.
 *
 * Invariant: whatever the batch layer writes goes over this connection. Its advisory lock lives as
 * long as the session, so a process that has lost the lock has lost the means to write as well.
 *
 * A scheduler that is not in the middle of a run lets go of it for whoever asks
 * (core/archive/batch_lock.h). */
#ifndef DOVETAIL_BATCH_SESSION_H
#define DOVETAIL_BATCH_SESSION_H

#include "core/program/config.h"
#include "core/postgres/postgres.h"

/* Connects and takes the lock, for which it waits a few seconds: a process that was killed may
 * linger in the server for as long. STATUS_FENCED: another one keeps it.
 * A scheduler takes the schedulers' lock first: where another one has it, nobody is asked to let go
 * of the batch lock, or the two would take it from each other for ever. */
enum status session_open(const struct config *config, bool schedules, struct postgres **out,
                         struct error *error) MUST_CHECK;

/* Has somebody asked for the lock since the last call? Only the scheduler listens. */
enum status session_listen(struct postgres *postgres, struct error *error) MUST_CHECK;
enum status session_is_wanted(struct postgres *postgres, bool *wanted,
                              struct error *error) MUST_CHECK;

/* Instead of the batch lock: one import of a source at a time. Waits for as long as another one is
 * at work, after saying so. STATUS_RETRY: the program is stopping. */
enum status session_lock_import(struct postgres *postgres, const char *source,
                                struct error *error) MUST_CHECK;

#endif
