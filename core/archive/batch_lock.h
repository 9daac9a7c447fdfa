/* The lock that one batch process at a time holds, for as long as its session lives: it alone
 * writes to the archive. Whoever holds it knows that nobody has records of an open segment in
 * memory.
 *
 * A scheduler archives all the time and so holds the lock all the time; somebody who asks for it
 * notifies the channel dovetail_batch, and a scheduler that is not in the middle of a run closes
 * its segments and lets go. Any thread, with a connection of its own. */
#ifndef DOVETAIL_BATCH_LOCK_H
#define DOVETAIL_BATCH_LOCK_H

#include "core/base/error.h"
#include "core/postgres/postgres.h"

/* Waits a few seconds: a process that was killed may linger in the server for as long.
 * STATUS_FENCED: another one keeps it; STATUS_RETRY "stopped" when the program is stopping. */
enum status batch_lock_take(struct postgres *postgres, struct error *error) MUST_CHECK;

/* A second lock beside it, for schedulers. STATUS_FENCED: there is another. */
enum status batch_lock_take_schedule(struct postgres *postgres, struct error *error) MUST_CHECK;

/* The lock of imports into one source, which write to a folder of their own; without waiting.
 * *locked false: another session has it. */
enum status batch_lock_try_import(struct postgres *postgres, const char *source, bool *locked,
                                  struct error *error) MUST_CHECK;
enum status batch_lock_end_import(struct postgres *postgres, const char *source,
                                  struct error *error) MUST_CHECK;

#endif
