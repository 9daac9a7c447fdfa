/* Kafka producers: see core/kafka/kafka.h.
 *
 * Invariant: a record counts as acknowledged only when all in-sync replicas have it; the first one
 * that was refused is remembered until kafka_producer_flush has told it. One thread; delivery
 * reports are served in it, by send and flush. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/kafka/kafka.h"
#include "core/kafka/kafka_client.h"
#include "core/program/program.h"

enum { WAIT_MS = 100, ABORT_MS = 5000 }; /* of one wait; an acknowledgement ends it early */

#define TRANSACTION_MS "60000"

struct kafka_producer {
    struct kafka_client client; /* first: it is the opaque of all callbacks */
    rd_kafka_t *rk;
    int64_t acknowledged_count;
    rd_kafka_resp_err_t refusal; /* of the first refused record since the last flush */
    char refused_topic[256];
};

/* The queue is bounded by 64 MiB; kafka_producer_send waits when it is full. */
static const struct kafka_property producer_defaults[] = {
    {"client.id", "dovetail"},
    {"enable.idempotence", "true"},
    {"acks", "all"},
    {"linger.ms", "5"},
    {"message.max.bytes", "16777216"},
    {"message.timeout.ms", "0"}, /* no limit */
    {"queue.buffering.max.kbytes", "65536"},
    {"queue.buffering.max.messages", "500000"},
    {"reconnect.backoff.max.ms", "1000"},
    {"socket.keepalive.enable", "true"},
    {NULL, NULL},
};

/* lz4 costs producers and consumers least; a librdkafka built without it sends plain batches. */
static const char *usable_compression(const json_t *properties)
{
    char features[512];
    size_t size = sizeof features;
    if (json_object_get(properties, "compression.codec") != NULL ||
        json_object_get(properties, "compression.type") != NULL)
        return NULL;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_res_t result = rd_kafka_conf_get(conf, "builtin.features", features, &size);
    rd_kafka_conf_destroy(conf);
    return result == RD_KAFKA_CONF_OK && strstr(features, "lz4") != NULL ? "lz4" : NULL;
}

static void receive_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
    (void)rk;
    struct kafka_producer *producer = opaque;
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        producer->acknowledged_count++;
        kafka_client_clear_problem(&producer->client);
    } else if (producer->refusal == RD_KAFKA_RESP_ERR_NO_ERROR) {
        producer->refusal = message->err;
        snprintf(producer->refused_topic, sizeof producer->refused_topic, "%s",
                 rd_kafka_topic_name(message->rkt));
    }
}

static enum status create(const json_t *properties, const char *transactional_id,
                          struct kafka_producer **out, struct error *error)
{
    /* librdkafka wants records to time out before their transaction does. */
    const char *timeout_ms = transactional_id == NULL ? NULL : TRANSACTION_MS;
    *out = NULL;
    struct kafka_producer *producer = calloc(1, sizeof *producer);
    if (producer == NULL)
        return error_no_memory(error);
    kafka_client_init(&producer->client);
    const struct kafka_property fixed[] = {
        {"compression.codec", usable_compression(properties)},
        {"transactional.id", transactional_id},
        {"transaction.timeout.ms", timeout_ms},
        {"message.timeout.ms", timeout_ms},
        {NULL, NULL},
    };
    rd_kafka_conf_t *conf = NULL;
    enum status status = kafka_client_configure(&producer->client, properties, producer_defaults,
                                                fixed, &conf, error);
    if (status == STATUS_OK) {
        rd_kafka_conf_set_dr_msg_cb(conf, receive_report);
        status = kafka_client_create(RD_KAFKA_PRODUCER, &conf, &producer->rk, error);
    }
    if (status != STATUS_OK) {
        kafka_producer_destroy(producer);
        return status;
    }
    *out = producer;
    return STATUS_OK;
}

enum status kafka_producer_create(const json_t *properties, struct kafka_producer **out,
                                  struct error *error)
{
    return create(properties, NULL, out, error);
}

/* --- transactions --- */

/* Takes the failure, which may be NULL. */
static enum status transaction_error(const char *doing, rd_kafka_error_t *failure,
                                     struct error *error)
{
    if (failure == NULL)
        return STATUS_OK;
    rd_kafka_resp_err_t code = rd_kafka_error_code(failure);
    enum status status = code == RD_KAFKA_RESP_ERR__FENCED  ? STATUS_FENCED
                         : rd_kafka_error_is_fatal(failure) ? STATUS_FATAL
                                                            : STATUS_RETRY;
    status = kafka_client_error(error, status, code, "Kafka: %s: %s", doing,
                                rd_kafka_error_string(failure));
    rd_kafka_error_destroy(failure);
    return status;
}

enum status kafka_producer_create_transactional(const json_t *properties,
                                                const char *transactional_id, int timeout_ms,
                                                struct kafka_producer **out, struct error *error)
{
    enum status status = create(properties, transactional_id, out, error);
    if (status == STATUS_OK)
        status = transaction_error("the transactions cannot begin",
                                   rd_kafka_init_transactions((*out)->rk, timeout_ms), error);
    if (status != STATUS_OK) {
        kafka_producer_destroy(*out);
        *out = NULL;
    }
    return status;
}

enum status kafka_producer_begin(struct kafka_producer *producer, struct error *error)
{
    return transaction_error("a transaction cannot begin", rd_kafka_begin_transaction(producer->rk),
                             error);
}

enum status kafka_producer_commit(struct kafka_producer *producer, int timeout_ms,
                                  struct error *error)
{
    enum status status =
        transaction_error("the transaction cannot be committed",
                          rd_kafka_commit_transaction(producer->rk, timeout_ms), error);
    if (status == STATUS_OK)
        return STATUS_OK;
    rd_kafka_error_t *ignored = rd_kafka_abort_transaction(producer->rk, ABORT_MS);
    if (ignored != NULL)
        rd_kafka_error_destroy(ignored);
    return status;
}

static rd_kafka_resp_err_t produce(struct kafka_producer *producer, const char *topic,
                                   int32_t partition, const void *key, size_t key_length,
                                   const void *value, size_t value_length,
                                   rd_kafka_headers_t *headers)
{
    rd_kafka_vu_t arguments[6] = {
        {.vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = topic},
        {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = partition},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {.ptr = (void *)key, .size = key_length}},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {.ptr = (void *)value, .size = value_length}},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers},
    };
    rd_kafka_error_t *failure =
        rd_kafka_produceva(producer->rk, arguments, headers != NULL ? 6 : 5);
    if (failure == NULL)
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_resp_err_t code = rd_kafka_error_code(failure);
    rd_kafka_error_destroy(failure);
    return code;
}

static enum status refusal_status(rd_kafka_resp_err_t code)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
        return STATUS_REJECT;
    default:
        return STATUS_FATAL;
    }
}

enum status kafka_producer_send(struct kafka_producer *producer, const char *topic,
                                int32_t partition, const void *key, size_t key_length,
                                const void *value, size_t value_length, rd_kafka_headers_t *headers,
                                struct error *error)
{
    rd_kafka_resp_err_t code;
    while ((code = produce(producer, topic, partition, key, key_length, value, value_length,
                           headers)) == RD_KAFKA_RESP_ERR__QUEUE_FULL) {
        if (program_stopping())
            return kafka_client_error(error, STATUS_RETRY, code,
                                      "Kafka: stopped while waiting for room in the queue");
        (void)rd_kafka_poll(producer->rk, WAIT_MS);
    }
    (void)rd_kafka_poll(producer->rk, 0); /* reports hold memory until they are served */
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        return STATUS_OK;
    enum status status = kafka_client_check_fatal(producer->rk, error);
    if (status != STATUS_OK)
        return status;
    return kafka_client_error(error, refusal_status(code), code, "Kafka: record for topic %s: %s",
                              topic, rd_kafka_err2str(code));
}

static enum status outstanding_error(struct kafka_producer *producer, struct error *error)
{
    char problem[512];
    bool known = kafka_client_problem(&producer->client, problem, sizeof problem);
    return kafka_client_error(error, STATUS_RETRY, RD_KAFKA_RESP_ERR__TIMED_OUT,
                              "Kafka: %d records are not acknowledged yet%s%s",
                              rd_kafka_outq_len(producer->rk), known ? ": " : "",
                              known ? problem : "");
}

enum status kafka_producer_flush(struct kafka_producer *producer, int timeout_ms,
                                 struct error *error)
{
    int64_t end_us = program_monotonic_us() + timeout_ms * INT64_C(1000);
    rd_kafka_resp_err_t code;
    do { /* librdkafka's own wait may be longer than asked for */
        int64_t left_ms = (end_us - program_monotonic_us()) / 1000;
        int wait_ms = left_ms > WAIT_MS ? WAIT_MS : left_ms < 0 ? 0 : (int)left_ms;
        code = rd_kafka_flush(producer->rk, wait_ms);
    } while (code == RD_KAFKA_RESP_ERR__TIMED_OUT && program_monotonic_us() < end_us);
    enum status status = kafka_client_check_fatal(producer->rk, error);
    if (status != STATUS_OK)
        return status;
    if (producer->refusal != RD_KAFKA_RESP_ERR_NO_ERROR) {
        rd_kafka_resp_err_t refusal = producer->refusal;
        producer->refusal = RD_KAFKA_RESP_ERR_NO_ERROR;
        return kafka_client_error(error, refusal_status(refusal), refusal,
                                  "Kafka: a record for topic %s was refused: %s",
                                  producer->refused_topic, rd_kafka_err2str(refusal));
    }
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ? STATUS_OK : outstanding_error(producer, error);
}

int64_t kafka_producer_acknowledged(const struct kafka_producer *producer)
{
    return producer->acknowledged_count;
}

void kafka_producer_destroy(struct kafka_producer *producer)
{
    if (producer == NULL)
        return;
    if (producer->rk != NULL) {
        (void)rd_kafka_purge(producer->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        (void)rd_kafka_flush(producer->rk, 0); /* serves the reports of what was purged */
        rd_kafka_destroy(producer->rk);
    }
    kafka_client_deinit(&producer->client);
    free(producer);
}
