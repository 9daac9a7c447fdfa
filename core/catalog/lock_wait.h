/* Waiting for what other transactions hold: never without a bound, and not at all for one that
 * stands still where ending it is safe.
 *
 * Which one that is: a session of the speed or the batch layer that has position rows locked and
 * waits for its own process, within a transaction, though these transactions are never long: the
 * process, or its machine, was stopped. Ending the session undoes the transaction as a whole; if
 * the process ever goes on it finds its connection lost, reads the position again, and the fence
 * (position, owner_epoch) decides what is left of its work. Any other holder is named and left to
 * the operator. */
#ifndef DOVETAIL_LOCK_WAIT_H
#define DOVETAIL_LOCK_WAIT_H

#include "core/postgres/postgres.h"

/* First in a transaction that is repeated with lock_wait_again. */
#define LOCK_WAIT_SQL "SET LOCAL lock_timeout = '5s'"

struct lock_wait {
    int64_t until_us;
    bool has_told; /* that a run is being published */
};

struct lock_wait lock_wait_begin(void);

/* *error is of a lock that was not had in time. */
bool lock_wait_was_in_vain(const struct error *error);

/* After an attempt that ended with `status`, its transaction rolled back: whether to try again.
 * True only where it waited in vain for a lock, the bound is not over, and nobody stops the
 * program. The bound is half a minute, and an hour while a run is being published, which is told.
 * False with the holder added to *error where it is over. */
bool lock_wait_again(struct lock_wait *wait, struct postgres *postgres, enum status status,
                     struct error *error) MUST_CHECK;

/* For those that repeat by themselves: where *error is of a lock that was waited for in vain, ends
 * what stands still, or adds to *error who holds what. Best effort, within the rights of our own
 * role; takes up to a second. No transaction may be open. */
void lock_wait_resolve(struct postgres *postgres, struct error *error);

/* Adds the holder to such an *error, and ends nothing. */
void lock_wait_explain(struct postgres *postgres, struct error *error);

#endif
