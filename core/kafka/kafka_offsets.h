/* Where logs begin and end, asked of the brokers, always in bounded time. Internal to core/kafka.
 */
#ifndef DOVETAIL_KAFKA_OFFSETS_H
#define DOVETAIL_KAFKA_OFFSETS_H

#include <librdkafka/rdkafka.h>

#include "core/kafka/kafka.h"

/* Sets the offset of each position to what `which` asks for, RD_KAFKA_OFFSET_BEGINNING or _END (the
 * last stable one where the client reads what is committed), or to -1 where that is not known: one
 * question for each broker. STATUS_RETRY when there is no answer in time. */
enum status kafka_offsets_ask(rd_kafka_t *rk, int64_t which, struct kafka_position *positions,
                              size_t count, int timeout_ms, struct error *error) MUST_CHECK;

/* First and end offset of one partition's log. Asks again, and who leads the partition, until the
 * time is over: a leader that died has a successor a few seconds later. */
enum status kafka_offsets_of_log(rd_kafka_t *rk, const char *topic, int32_t partition,
                                 int timeout_ms, int64_t *low, int64_t *high,
                                 struct error *error) MUST_CHECK;

#endif
