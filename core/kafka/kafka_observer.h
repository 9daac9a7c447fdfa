/* Asking about topics without reading them: how many partitions there are and where their logs end.
 *
 * A client of its own, so that a question does not wait behind a consumer's fetch. One thread at a
 * time. An answer is about a moment between asking and answering: whoever says "then" about it
 * takes the time before asking. */
#ifndef DOVETAIL_KAFKA_OBSERVER_H
#define DOVETAIL_KAFKA_OBSERVER_H

#include "core/kafka/kafka.h"

#ifdef __cplusplus
extern "C" {
#endif

struct kafka_observer;

/* Waits for no broker. */
enum status kafka_observer_create(const json_t *properties, struct kafka_observer **out,
                                  struct error *error) MUST_CHECK;
void kafka_observer_destroy(struct kafka_observer *observer); /* accepts NULL */

/* Partition count of each topic; -1 where it is not known, as of one that does not exist.
 * STATUS_RETRY when no broker answers in time. */
enum status kafka_observer_partitions(struct kafka_observer *observer, const char *const *topics,
                                      size_t count, int timeout_ms, int *partitions,
                                      struct error *error) MUST_CHECK;

/* Sets the offset of each position to the end of its log (the last stable one), or its first one,
 * or -1 where it is not known: one question for each broker. STATUS_RETRY when there is no answer
 * in time. */
enum status kafka_observer_ends(struct kafka_observer *observer, struct kafka_position *positions,
                                size_t count, int timeout_ms, struct error *error) MUST_CHECK;
enum status kafka_observer_starts(struct kafka_observer *observer, struct kafka_position *positions,
                                  size_t count, int timeout_ms, struct error *error) MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
