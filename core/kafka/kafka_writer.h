/* A producer for many threads that never waits: each record's fate is told to whoever sent it.
 *
 * Idempotent, acks=all, as core/kafka/kafka.h's producers are. Other than theirs, a record that
 * Kafka does not take within `timeout_ms` is given up, and what became of it is said as exactly as
 * can be known: an acknowledgement that does not come may have been lost on its way. After an error
 * that librdkafka's producer does not survive the writer goes on with a new one. One thread of the
 * writer's own serves the reports. */
#ifndef DOVETAIL_KAFKA_WRITER_H
#define DOVETAIL_KAFKA_WRITER_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

struct kafka_writer;

enum kafka_fate {
    KAFKA_WRITTEN,     /* all in-sync replicas have it, at the offset that is told */
    KAFKA_REFUSED,     /* it is not in the log, and sending it again would end the same */
    KAFKA_NOT_WRITTEN, /* it is not in the log; another attempt may succeed */
    KAFKA_UNKNOWN,     /* it may be in the log or not */
};

struct kafka_report {
    enum kafka_fate fate;
    int32_t partition; /* of KAFKA_WRITTEN */
    int64_t offset;
    const char *reason; /* of the others; static */
};

/* In the writer's thread; must not block. */
typedef void kafka_reported(void *opaque, const struct kafka_report *report);

/* Starts the thread; asks no broker. */
enum status kafka_writer_create(const json_t *properties, int timeout_ms, kafka_reported *reported,
                                struct kafka_writer **out, struct error *error) MUST_CHECK;
/* Queues one record, whose bytes are copied; key may be NULL. Any thread. STATUS_OK: `opaque` is
 * reported once. Else nothing is reported: STATUS_REJECT, Kafka will not have this record;
 * STATUS_RETRY, the queue is full, or the producer is about to be replaced. */
enum status kafka_writer_send(struct kafka_writer *writer, const char *topic, const char *key,
                              size_t key_length, const char *value, size_t value_length,
                              void *opaque, struct error *error) MUST_CHECK;
/* What is not acknowledged is given up, and reported. Nobody may send any more. Accepts NULL. */
void kafka_writer_destroy(struct kafka_writer *writer);

#endif
