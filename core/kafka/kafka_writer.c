/* Writing from many threads: see core/kafka/kafka_writer.h.
 *
 * Invariant: each record that was queued is reported exactly once, by librdkafka's delivery report,
 * which also comes for what is purged at the end. A fate is KAFKA_NOT_WRITTEN or KAFKA_REFUSED only
 * where librdkafka is sure that no broker has the record (it was never on its way, or a broker said
 * no); all else that is no acknowledgement is KAFKA_UNKNOWN.
 *
 * An idempotent producer that has had a fatal error takes nothing any more (a broker lost what it
 * knew of the producer, or refused it the right to be idempotent). Another one takes its place, at
 * most every RETRY_MAX_MS where that does not help. Records of the old one are reported, and never
 * given to the new one: whether brokers have them is not known, and a number that tells brokers of
 * a repetition is the old one's. The old one ends when all of its reports are served, and is not
 * waited for meanwhile. */
#include "core/kafka/kafka_writer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/kafka/kafka_client.h"
#include "core/program/program.h"

enum {
    POLL_MS = 200,       /* of one wait: a report ends it early */
    ENDING_POLL_MS = 10, /* while there are two */
    END_MS = 1000,       /* for the reports of a producer that ends */
    RETRY_MIN_MS = 100,
    RETRY_MAX_MS = 10000,
};

struct kafka_writer {
    struct kafka_client client; /* first: it is the opaque of all callbacks */
    json_t *properties;
    int timeout_ms;
    kafka_reported *reported;
    pthread_rwlock_t lock; /* held for reading while rk is used, for writing when it changes */
    rd_kafka_t *rk;        /* changed by the thread alone */
    pthread_t thread;
    bool started;
    atomic_bool closing;
    /* Of the thread. */
    rd_kafka_t *ending;    /* the one before, or NULL */
    int64_t replace_at_us; /* not before */
    int retry_ms;
    bool left_behind; /* a client that does not end uses ours */
};

static const struct kafka_property defaults[] = {
    {"client.id", "dovetail"},
    {"enable.idempotence", "true"},
    {"acks", "all"},
    {"linger.ms", "2"}, /* somebody waits for each acknowledgement */
    {"message.max.bytes", "16777216"},
    {"queue.buffering.max.kbytes", "131072"},
    {"queue.buffering.max.messages", "1000000"},
    {"reconnect.backoff.max.ms", "1000"},
    {"socket.keepalive.enable", "true"},
    {NULL, NULL},
};

/* A record that is at fault itself. */
static bool is_refusal(rd_kafka_resp_err_t code)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
    case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
        return true;
    default:
        return false;
    }
}

static void receive_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
    (void)rk;
    struct kafka_writer *writer = opaque;
    struct kafka_report report = {.fate = KAFKA_UNKNOWN,
                                  .partition = message->partition,
                                  .offset = message->offset,
                                  .reason = rd_kafka_err2str(message->err)};
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR && message->offset >= 0) {
        report.fate = KAFKA_WRITTEN;
        writer->retry_ms = RETRY_MIN_MS;
        kafka_client_clear_problem(&writer->client);
    } else if (rd_kafka_message_status(message) == RD_KAFKA_MSG_STATUS_NOT_PERSISTED) {
        report.fate = is_refusal(message->err) ? KAFKA_REFUSED : KAFKA_NOT_WRITTEN;
    }
    writer->reported(message->_private, &report);
}

/* --- the producer --- */

static enum status make_producer(struct kafka_writer *writer, rd_kafka_t **out, struct error *error)
{
    char timeout[16];
    snprintf(timeout, sizeof timeout, "%d", writer->timeout_ms);
    const struct kafka_property fixed[] = {{"message.timeout.ms", timeout}, {NULL, NULL}};
    rd_kafka_conf_t *conf = NULL;
    enum status status =
        kafka_client_configure(&writer->client, writer->properties, defaults, fixed, &conf, error);
    if (status != STATUS_OK)
        return status;
    rd_kafka_conf_set_dr_msg_cb(conf, receive_report);
    return kafka_client_create(RD_KAFKA_PRODUCER, &conf, out, error);
}

/* Nobody sends to it any more. What is not acknowledged is given up, and reported. */
static void end_producer(struct kafka_writer *writer, rd_kafka_t *rk)
{
    (void)rd_kafka_purge(rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    (void)rd_kafka_flush(rk, END_MS); /* serves the reports of what was purged */
    if (!kafka_client_end(rk))
        writer->left_behind = true;
}

/* Of the one before: its reports, and its end after the last of them. */
static void serve_ending(struct kafka_writer *writer)
{
    (void)rd_kafka_poll(writer->ending, 0);
    if (rd_kafka_outq_len(writer->ending) > 0)
        return;
    if (!kafka_client_end(writer->ending))
        writer->left_behind = true;
    writer->ending = NULL;
}

/* In the place of one that has had a fatal error. */
static void replace_producer(struct kafka_writer *writer, const char *reason)
{
    struct error error;
    rd_kafka_t *made = NULL;
    rd_kafka_t *old = writer->rk;
    if (writer->ending != NULL || program_monotonic_us() < writer->replace_at_us)
        return;
    program_log(LOG_WARNING, "%s: the producer is made anew", reason);
    enum status status = make_producer(writer, &made, &error);
    writer->replace_at_us = program_monotonic_us() + writer->retry_ms * INT64_C(1000);
    writer->retry_ms = writer->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : writer->retry_ms * 2;
    if (status != STATUS_OK) {
        program_log(LOG_WARNING, "%s", error.text);
        return;
    }
    pthread_rwlock_wrlock(&writer->lock);
    writer->rk = made;
    pthread_rwlock_unlock(&writer->lock);
    (void)rd_kafka_purge(old, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                                  RD_KAFKA_PURGE_F_NON_BLOCKING);
    writer->ending = old;
}

static void *run(void *context)
{
    struct kafka_writer *writer = context;
    struct error error;
    while (!atomic_load(&writer->closing)) {
        (void)rd_kafka_poll(writer->rk, writer->ending != NULL ? ENDING_POLL_MS : POLL_MS);
        if (writer->ending != NULL)
            serve_ending(writer);
        if (kafka_client_check_fatal(writer->rk, &error) != STATUS_OK)
            replace_producer(writer, error.text);
    }
    return NULL;
}

enum status kafka_writer_create(const json_t *properties, int timeout_ms, kafka_reported *reported,
                                struct kafka_writer **out, struct error *error)
{
    struct kafka_writer *writer = calloc(1, sizeof *writer);
    *out = NULL;
    if (writer == NULL)
        return error_no_memory(error);
    kafka_client_init(&writer->client);
    pthread_rwlock_init(&writer->lock, NULL);
    writer->properties = json_deep_copy(properties);
    writer->timeout_ms = timeout_ms;
    writer->reported = reported;
    writer->retry_ms = RETRY_MIN_MS;
    enum status status = writer->properties == NULL ? error_no_memory(error)
                                                    : make_producer(writer, &writer->rk, error);
    if (status == STATUS_OK && pthread_create(&writer->thread, NULL, run, writer) != 0)
        status = error_set(error, STATUS_FATAL, "cannot start a thread");
    writer->started = status == STATUS_OK;
    if (status != STATUS_OK) {
        kafka_writer_destroy(writer);
        return status;
    }
    *out = writer;
    return STATUS_OK;
}

enum status kafka_writer_send(struct kafka_writer *writer, const char *topic, const char *key,
                              size_t key_length, const char *value, size_t value_length,
                              void *opaque, struct error *error)
{
    rd_kafka_vu_t arguments[5] = {
        {.vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = topic},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {.ptr = (void *)(uintptr_t)key, .size = key_length}},
        {.vtype = RD_KAFKA_VTYPE_VALUE,
         .u.mem = {.ptr = (void *)(uintptr_t)value, .size = value_length}},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = opaque},
    };
    pthread_rwlock_rdlock(&writer->lock);
    rd_kafka_error_t *failure = rd_kafka_produceva(writer->rk, arguments, 5);
    pthread_rwlock_unlock(&writer->lock);
    if (failure == NULL)
        return STATUS_OK;
    rd_kafka_resp_err_t code = rd_kafka_error_code(failure);
    rd_kafka_error_destroy(failure);
    return kafka_client_error(error, is_refusal(code) ? STATUS_REJECT : STATUS_RETRY, code,
                              "Kafka: %s", rd_kafka_err2str(code));
}

void kafka_writer_destroy(struct kafka_writer *writer)
{
    if (writer == NULL)
        return;
    atomic_store(&writer->closing, true);
    if (writer->started)
        pthread_join(writer->thread, NULL);
    if (writer->ending != NULL)
        end_producer(writer, writer->ending);
    if (writer->rk != NULL)
        end_producer(writer, writer->rk);
    if (writer->left_behind)
        return; /* its callbacks have the writer */
    pthread_rwlock_destroy(&writer->lock);
    json_decref(writer->properties);
    kafka_client_deinit(&writer->client);
    free(writer);
}
