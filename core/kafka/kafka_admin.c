/* Topics: see core/kafka/kafka.h.
 *
 * Each call makes a client of its own, so nothing is kept between calls and any thread may call.
 * The client is a consumer, because asking about a topic through a producer creates it where the
 * broker allows that. Bounded by timeout_ms; no broker is STATUS_RETRY. */
#include <stdio.h>
#include <string.h>

#include "core/kafka/kafka.h"
#include "core/kafka/kafka_client.h"
#include "core/program/program.h"

enum { PROPAGATION_WAIT_MS = 20 };

static const struct kafka_property admin_defaults[] = {
    {"client.id", "dovetail"},
    {"reconnect.backoff.max.ms", "1000"},
    {NULL, NULL},
};

static enum status open_client(struct kafka_client *client, const json_t *properties,
                               rd_kafka_t **out, struct error *error)
{
    static const struct kafka_property fixed[] = {{"allow.auto.create.topics", "false"},
                                                  {NULL, NULL}};
    rd_kafka_conf_t *conf = NULL;
    *out = NULL;
    kafka_client_init(client);
    enum status status =
        kafka_client_configure(client, properties, admin_defaults, fixed, &conf, error);
    if (status == STATUS_OK)
        status = kafka_client_create(RD_KAFKA_CONSUMER, &conf, out, error);
    return status;
}

static void close_client(struct kafka_client *client, rd_kafka_t *rk)
{
    if (rk != NULL)
        rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    kafka_client_deinit(client);
}

/* A request that failed, with the reason librdkafka logged where it only says "timed out". */
static enum status request_error(struct kafka_client *client, rd_kafka_resp_err_t code,
                                 const char *doing, const char *topic, struct error *error)
{
    char problem[512];
    bool known = kafka_client_problem(client, problem, sizeof problem);
    enum status status = kafka_client_is_transient(code) ? STATUS_RETRY : STATUS_FATAL;
    return kafka_client_error(error, status, code, "Kafka: %s topic %s: %s%s%s", doing, topic,
                              rd_kafka_err2str(code), known ? ": " : "", known ? problem : "");
}

/* -1: there is no such topic; 0: it is being created, some partitions have no leader yet. */
static rd_kafka_resp_err_t count_partitions(rd_kafka_t *rk, const char *topic, int timeout_ms,
                                            int *count)
{
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, topic, NULL);
    if (rkt == NULL)
        return rd_kafka_last_error();
    rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 0, rkt, &metadata, timeout_ms);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR && metadata->topic_cnt == 1) {
        const struct rd_kafka_metadata_topic *found = &metadata->topics[0];
        *count = found->partition_cnt;
        for (int i = 0; i < found->partition_cnt; i++)
            if (found->partitions[i].leader < 0)
                *count = 0;
        if (found->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
            *count = -1;
        else if (found->err != RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)
            code = found->err;
    } else if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
        *count = -1;
    }
    if (metadata != NULL)
        rd_kafka_metadata_destroy(metadata);
    rd_kafka_topic_destroy(rkt);
    return code;
}

static int left_ms(int64_t end_us)
{
    int64_t left = (end_us - program_monotonic_us()) / 1000;
    return left > 0 ? (int)left : 0;
}

/* Waits until all partitions have leaders; `expected`: wait also while the topic is unknown. */
static enum status wait_for_partitions(struct kafka_client *client, rd_kafka_t *rk,
                                       const char *topic, bool expected, int64_t end_us, int *count,
                                       struct error *error)
{
    for (;;) {
        rd_kafka_resp_err_t code = count_partitions(rk, topic, left_ms(end_us), count);
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR &&
            !(kafka_client_is_transient(code) && left_ms(end_us) > 0))
            return request_error(client, code, "asking about", topic, error);
        bool wanted = *count > 0 || (*count < 0 && !expected);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR && wanted)
            return STATUS_OK;
        if (left_ms(end_us) == 0 || program_wait_ms(PROPAGATION_WAIT_MS))
            return request_error(client, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, "asking about",
                                 topic, error);
    }
}

enum status kafka_topic_partitions(const json_t *properties, const char *topic, int timeout_ms,
                                   int *count, struct error *error)
{
    *count = 0;
    int64_t end_us = program_monotonic_us() + timeout_ms * INT64_C(1000);
    struct kafka_client client;
    rd_kafka_t *rk = NULL;
    enum status status = open_client(&client, properties, &rk, error);
    if (status == STATUS_OK)
        status = wait_for_partitions(&client, rk, topic, false, end_us, count, error);
    close_client(&client, rk);
    return status;
}

/* The answer of the event: RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS is one of them. */
static rd_kafka_resp_err_t creation_result(rd_kafka_event_t *event)
{
    const rd_kafka_CreateTopics_result_t *result = rd_kafka_event_CreateTopics_result(event);
    if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR || result == NULL)
        return rd_kafka_event_error(event);
    size_t count = 0;
    const rd_kafka_topic_result_t **topics = rd_kafka_CreateTopics_result_topics(result, &count);
    return count == 1 ? rd_kafka_topic_result_error(topics[0]) : RD_KAFKA_RESP_ERR_UNKNOWN;
}

static enum status create_topic(struct kafka_client *client, rd_kafka_t *rk, const char *topic,
                                int partitions, int timeout_ms, bool *created, struct error *error)
{
    char reason[256];
    rd_kafka_NewTopic_t *request = rd_kafka_NewTopic_new(
        topic, partitions, -1 /* the broker's replication */, reason, sizeof reason);
    if (request == NULL)
        return error_set(error, STATUS_FATAL, "Kafka: creating topic %s: %s", topic, reason);
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    /* Cannot fail but for a time-out that is out of range: then the default of 60 s stands. */
    (void)rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, reason, sizeof reason);
    rd_kafka_CreateTopics(rk, &request, 1, options, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, timeout_ms + 1000);
    rd_kafka_resp_err_t code =
        event != NULL ? creation_result(event) : RD_KAFKA_RESP_ERR__TIMED_OUT;
    if (event != NULL)
        rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_NewTopic_destroy(request);
    *created = code == RD_KAFKA_RESP_ERR_NO_ERROR;
    if (*created || code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
        return STATUS_OK;
    return request_error(client, code, "creating", topic, error);
}

enum status kafka_topic_create(const json_t *properties, const char *topic, int partitions,
                               int timeout_ms, bool *created, struct error *error)
{
    *created = false;
    int64_t end_us = program_monotonic_us() + timeout_ms * INT64_C(1000);
    int count;
    struct kafka_client client;
    rd_kafka_t *rk = NULL;
    enum status status = open_client(&client, properties, &rk, error);
    if (status == STATUS_OK)
        status = wait_for_partitions(&client, rk, topic, false, end_us, &count, error);
    if (status == STATUS_OK && count < 0) {
        status = create_topic(&client, rk, topic, partitions, left_ms(end_us), created, error);
        if (status == STATUS_OK)
            status = wait_for_partitions(&client, rk, topic, true, end_us, &count, error);
    }
    close_client(&client, rk);
    return status;
}
