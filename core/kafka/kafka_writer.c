/* Writing from many threads: see core/kafka/kafka_writer.h.
 *
 * Invariant: each record that was queued is reported exactly once, by librdkafka's delivery report,
 * which also comes for what is purged at the end. A fate is KAFKA_NOT_WRITTEN or KAFKA_REFUSED only
 * where librdkafka is sure that no broker has the record (it was never on its way, or a broker said
 * no); all else that is no acknowledgement is KAFKA_UNKNOWN. */
#include "core/kafka/kafka_writer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/kafka/kafka_client.h"

enum { POLL_MS = 200 }; /* of one wait: a report ends it early */

struct kafka_writer {
    struct kafka_client client; /* first: it is the opaque of all callbacks */
    rd_kafka_t *rk;
    kafka_reported *reported;
    pthread_t thread;
    bool started;
    atomic_bool closing;
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
        kafka_client_clear_problem(&writer->client);
    } else if (rd_kafka_message_status(message) == RD_KAFKA_MSG_STATUS_NOT_PERSISTED) {
        report.fate = is_refusal(message->err) ? KAFKA_REFUSED : KAFKA_NOT_WRITTEN;
    }
    writer->reported(message->_private, &report);
}

static void *run(void *context)
{
    struct kafka_writer *writer = context;
    while (!atomic_load(&writer->closing))
        (void)rd_kafka_poll(writer->rk, POLL_MS);
    return NULL;
}

enum status kafka_writer_create(const json_t *properties, int timeout_ms, kafka_reported *reported,
                                struct kafka_writer **out, struct error *error)
{
    char timeout[16];
    struct kafka_writer *writer = calloc(1, sizeof *writer);
    *out = NULL;
    if (writer == NULL)
        return error_no_memory(error);
    kafka_client_init(&writer->client);
    writer->reported = reported;
    snprintf(timeout, sizeof timeout, "%d", timeout_ms);
    const struct kafka_property fixed[] = {{"message.timeout.ms", timeout}, {NULL, NULL}};
    rd_kafka_conf_t *conf = NULL;
    enum status status =
        kafka_client_configure(&writer->client, properties, defaults, fixed, &conf, error);
    if (status == STATUS_OK) {
        rd_kafka_conf_set_dr_msg_cb(conf, receive_report);
        status = kafka_client_create(RD_KAFKA_PRODUCER, &conf, &writer->rk, error);
    }
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
    rd_kafka_error_t *failure = rd_kafka_produceva(writer->rk, arguments, 5);
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
    if (writer->rk != NULL) {
        (void)rd_kafka_purge(writer->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        (void)rd_kafka_flush(writer->rk, 0); /* serves the reports of what was purged */
        rd_kafka_destroy(writer->rk);
    }
    kafka_client_deinit(&writer->client);
    free(writer);
}
