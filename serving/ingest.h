/* Events on their way to Kafka, for whoever takes them in: HTTP (serving/handle_ingest.c) and UDP
 * (serving/udp.c) share one producer, one bound of memory, and counters. Any thread. */
#ifndef DOVETAIL_SERVING_INGEST_H
#define DOVETAIL_SERVING_INGEST_H

#include <stdint.h>
#include <stdio.h>

#include "core/kafka/kafka_writer.h"
#include "core/program/config.h"

struct ingest;

/* Does the configuration let anybody send events? */
bool ingest_is_configured(const struct config *config);

enum status ingest_create(const struct config *config, struct ingest **out,
                          struct error *error) MUST_CHECK;
/* What Kafka has not acknowledged is given up, and reported. Accepts NULL. */
void ingest_destroy(struct ingest *ingest);

/* The program stops: no request of HTTP may be suspended for the sake of events any more. */
void ingest_close(struct ingest *ingest);
bool ingest_is_closed(const struct ingest *ingest);

/* --- records --- */

/* Part of what the sender keeps until the record is reported. */
struct ingest_record {
    /* In the producer's thread; must not block. */
    void (*reported)(struct ingest_record *record, const struct kafka_report *report);
};

/* Room for that many bytes of records, until ingest_leave; false where there is none. */
bool ingest_enter(struct ingest *ingest, size_t bytes) MUST_CHECK;
void ingest_leave(struct ingest *ingest, size_t bytes);

/* As kafka_writer_send; the bytes are copied. */
enum status ingest_send(struct ingest *ingest, const char *topic, const char *key,
                        size_t key_length, const char *value, size_t value_length,
                        struct ingest_record *record, struct error *error) MUST_CHECK;

/* --- counters --- */

enum ingest_door { INGEST_HTTP, INGEST_UDP, INGEST_DOORS };
enum ingest_outcome {
    INGEST_ACCEPTED,    /* acknowledged by Kafka */
    INGEST_INVALID,     /* no event of the source, or not one that Kafka takes */
    INGEST_NOT_WRITTEN, /* Kafka did not take it in time */
    INGEST_UNKNOWN,     /* it may have been written or not */
    INGEST_OVERFLOW,    /* there was no room for it */
    INGEST_OUTCOMES
};

void ingest_count(struct ingest *ingest, enum ingest_door door, enum ingest_outcome outcome,
                  uint64_t events);
/* In Prometheus's text format; nothing where `ingest` is NULL. */
void ingest_write_metrics(const struct ingest *ingest, FILE *out);

#endif
