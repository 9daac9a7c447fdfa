/* Records of dead letters on their way back into the topic, in batches.
 *
 * Invariant: a record for which the table replay has a row in a batch that is 'sent' is in the
 * topic, once; one without a row is not. In between, the batch is written down as 'sending' with
 * the ends of the topic's logs (PostgreSQL), sent as one transaction whose records name the batch
 * in the header dovetail.replay (Kafka), and then marked 'sent' (PostgreSQL). Whoever comes next
 * after a crash first takes the transactional id over, by which the broker aborts what was open and
 * fences whatever is under way, and then looks for the batch in the topic from those ends on: it is
 * there as a whole or not at all. One process for each topic, by an advisory lock. One thread. */
#ifndef DOVETAIL_CLI_REPLAY_BATCH_H
#define DOVETAIL_CLI_REPLAY_BATCH_H

#include "cli/letter.h"
#include "core/postgres/postgres.h"

struct replay_batch;

/* Takes the lock and the transactional id, and settles what an interrupted replay left behind.
 * STATUS_FENCED: another replay of the topic is at work. */
enum status replay_batch_create(const struct config *config, struct postgres *postgres,
                                const char *deployment_id, const char *topic,
                                struct replay_batch **out, struct error *error) MUST_CHECK;
void replay_batch_destroy(struct replay_batch *batch); /* accepts NULL; what was added is dropped */

/* Copies the letter's record. It is sent when the batch is full, or by replay_batch_send. */
enum status replay_batch_add(struct replay_batch *batch, const struct letter *letter,
                             struct error *error) MUST_CHECK;
enum status replay_batch_send(struct replay_batch *batch, struct error *error) MUST_CHECK;

/* Records that were committed to the topic, by this object. */
int64_t replay_batch_sent(const struct replay_batch *batch);

/* Was the letter's record replayed before? A record is known by its place and the broker's time,
 * because a topic may be made anew. */
enum status replay_is_known(struct postgres *postgres, const struct letter *letter, bool *known,
                            struct error *error) MUST_CHECK;

#endif
