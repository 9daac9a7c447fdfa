/* Asking about topics: see core/kafka/kafka_observer.h. */
#include "core/kafka/kafka_observer.h"

#include <stdlib.h>
#include <string.h>

#include "core/kafka/kafka_client.h"
#include "core/kafka/kafka_offsets.h"
#include "core/program/program.h"

struct kafka_observer {
    struct kafka_client client;
    rd_kafka_t *rk;
    /* librdkafka's objects for the topics asked about, kept because making one asks by itself. */
    rd_kafka_topic_t **topics;
    size_t topic_count;
};

static const struct kafka_property observer_defaults[] = {
    {"client.id", "dovetail"},
    {"reconnect.backoff.max.ms", "1000"},
    {"socket.nagle.disable", "true"},
    {"socket.keepalive.enable", "true"},
    {NULL, NULL},
};

/* The end of a log is the last stable offset only for who reads what is committed. */
static const struct kafka_property observer_fixed[] = {
    {"allow.auto.create.topics", "false"},
    {"isolation.level", "read_committed"},
    {NULL, NULL},
};

enum status kafka_observer_create(const json_t *properties, struct kafka_observer **out,
                                  struct error *error)
{
    *out = NULL;
    struct kafka_observer *observer = calloc(1, sizeof *observer);
    if (observer == NULL)
        return error_no_memory(error);
    kafka_client_init(&observer->client);
    rd_kafka_conf_t *conf = NULL;
    enum status status = kafka_client_configure(&observer->client, properties, observer_defaults,
                                                observer_fixed, &conf, error);
    if (status == STATUS_OK)
        status = kafka_client_create(RD_KAFKA_CONSUMER, &conf, &observer->rk, error);
    if (status != STATUS_OK) {
        kafka_observer_destroy(observer);
        return status;
    }
    *out = observer;
    return STATUS_OK;
}

void kafka_observer_destroy(struct kafka_observer *observer)
{
    if (observer == NULL)
        return;
    for (size_t i = 0; i < observer->topic_count; i++)
        rd_kafka_topic_destroy(observer->topics[i]);
    free(observer->topics);
    if (observer->rk != NULL && !kafka_client_end(observer->rk))
        return;
    kafka_client_deinit(&observer->client);
    free(observer);
}

static enum status find_topic(struct kafka_observer *observer, const char *name,
                              rd_kafka_topic_t **out, struct error *error)
{
    for (size_t i = 0; i < observer->topic_count; i++)
        if (strcmp(rd_kafka_topic_name(observer->topics[i]), name) == 0) {
            *out = observer->topics[i];
            return STATUS_OK;
        }
    rd_kafka_topic_t **grown =
        reallocarray(observer->topics, observer->topic_count + 1, sizeof *grown);
    if (grown == NULL)
        return error_no_memory(error);
    observer->topics = grown;
    *out = rd_kafka_topic_new(observer->rk, name, NULL);
    if (*out == NULL) {
        rd_kafka_resp_err_t code = rd_kafka_last_error();
        return kafka_client_error(error, STATUS_FATAL, code, "Kafka: topic %s: %s", name,
                                  rd_kafka_err2str(code));
    }
    observer->topics[observer->topic_count++] = *out;
    return STATUS_OK;
}

static int left_ms(int64_t end_us)
{
    int64_t left = (end_us - program_monotonic_us()) / 1000;
    return left > 0 ? (int)left : 0;
}

enum status kafka_observer_partitions(struct kafka_observer *observer, const char *const *topics,
                                      size_t count, int timeout_ms, int *partitions,
                                      struct error *error)
{
    int64_t end_us = program_monotonic_us() + timeout_ms * INT64_C(1000);
    (void)rd_kafka_poll(observer->rk, 0); /* serves what librdkafka has to tell (receive_error) */
    for (size_t i = 0; i < count; i++) {
        rd_kafka_topic_t *topic;
        enum status status = find_topic(observer, topics[i], &topic, error);
        if (status != STATUS_OK)
            return status;
        const struct rd_kafka_metadata *metadata = NULL;
        rd_kafka_resp_err_t code =
            rd_kafka_metadata(observer->rk, 0, topic, &metadata, left_ms(end_us));
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
            return kafka_client_error(error, STATUS_RETRY, code, "Kafka: asking about topic %s: %s",
                                      topics[i], rd_kafka_err2str(code));
        bool known = metadata->topic_cnt == 1 && metadata->topics[0].partition_cnt > 0 &&
                     metadata->topics[0].err == RD_KAFKA_RESP_ERR_NO_ERROR;
        partitions[i] = known ? metadata->topics[0].partition_cnt : -1;
        rd_kafka_metadata_destroy(metadata);
    }
    return STATUS_OK;
}

enum status kafka_observer_ends(struct kafka_observer *observer, struct kafka_position *positions,
                                size_t count, int timeout_ms, struct error *error)
{
    return kafka_offsets_ask(observer->rk, RD_KAFKA_OFFSET_END, positions, count, timeout_ms,
                             error);
}

enum status kafka_observer_starts(struct kafka_observer *observer, struct kafka_position *positions,
                                  size_t count, int timeout_ms, struct error *error)
{
    return kafka_offsets_ask(observer->rk, RD_KAFKA_OFFSET_BEGINNING, positions, count, timeout_ms,
                             error);
}
