/* Events by UDP, for senders that do not wait for an answer: one datagram is one event or JSON
 * lines. Off unless `serving.udp_listen` is set.
 *
 * Nothing is acknowledged to anybody: a datagram may be lost on its way, in the kernel, here for
 * want of room, or in Kafka's absence. What is lost from the kernel's queue on is counted. */
#ifndef DOVETAIL_SERVING_UDP_H
#define DOVETAIL_SERVING_UDP_H

#include <stdio.h>

#include "serving/catalogue.h"
#include "serving/ingest.h"
#include "serving/pool.h"

struct udp;

/* Listens, and starts the threads. STATUS_REJECT: the address is not allowed, or the key to no
 * source is missing. What it is given outlives it. */
enum status udp_create(const struct config *config, struct pool *pool,
                       struct catalogue_holder *catalogues, struct ingest *ingest, struct udp **out,
                       struct error *error) MUST_CHECK;
/* What has come is taken, and awaited until Kafka has it, or its time is over. Accepts NULL. */
void udp_stop(struct udp *udp);
void udp_destroy(struct udp *udp); /* behind ingest_destroy; accepts NULL */

/* "127.0.0.1:8125" */
const char *udp_address(const struct udp *udp);

/* In Prometheus's text format; nothing where `udp` is NULL. */
void udp_write_metrics(const struct udp *udp, FILE *out);

#endif
