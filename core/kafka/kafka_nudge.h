/* Keeps a consumer's queue filled: see kafka_nudge.c. Internal to core/kafka/kafka.c; its thread.
 */
#ifndef DOVETAIL_KAFKA_NUDGE_H
#define DOVETAIL_KAFKA_NUDGE_H

#include <jansson.h>
#include <librdkafka/rdkafka.h>

#include "core/base/error.h"

struct kafka_nudge {
    bool needed;
    char *username;     /* secret */
    char *password;     /* secret */
    size_t taken_bytes; /* out of the queue since the last nudge */
};

/* Before the client is created from `conf`. */
enum status kafka_nudge_init(struct kafka_nudge *nudge, const json_t *properties,
                             rd_kafka_conf_t *conf, struct error *error) MUST_CHECK;
void kafka_nudge_deinit(struct kafka_nudge *nudge); /* accepts a zeroed one */

/* A message with `bytes` of value was taken out of the queue. */
void kafka_nudge_taken(struct kafka_nudge *nudge, rd_kafka_t *rk, size_t bytes);
/* The queue was found empty. */
void kafka_nudge_empty(struct kafka_nudge *nudge, rd_kafka_t *rk);

#endif
