/* Topics: see core/kafka/kafka.h.
 *
 * Each call makes a client of its own, so nothing is kept between calls and any thread may call.
 * The client is a consumer, because asking about a topic through a producer creates it where the
 * broker allows that. Bounded by timeout_ms; no broker is STATUS_RETRY. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/kafka/kafka.h"
#include "core/kafka/kafka_client.h"
#include "core/program/program.h"

enum { PROPAGATION_WAIT_MS = 20, STOP_POLL_MS = 100 };

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

/* --- settings --- */

/* Waits for the event, or until the program is stopping: NULL then. */
static rd_kafka_event_t *await_event(rd_kafka_queue_t *queue, int64_t end_us)
{
    rd_kafka_event_t *event = NULL;
    while (event == NULL && left_ms(end_us) > 0 && !program_stopping()) {
        int wait_ms = left_ms(end_us);
        event = rd_kafka_queue_poll(queue, wait_ms < STOP_POLL_MS ? wait_ms : STOP_POLL_MS);
    }
    return event;
}

static void read_settings(const rd_kafka_ConfigResource_t *resource,
                          struct kafka_topic_settings *out)
{
    size_t count = 0;
    const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(resource, &count);
    for (size_t i = 0; i < count; i++) {
        const char *name = rd_kafka_ConfigEntry_name(entries[i]);
        const char *value = rd_kafka_ConfigEntry_value(entries[i]);
        if (value == NULL)
            continue;
        if (strcmp(name, "cleanup.policy") == 0) {
            snprintf(out->cleanup_policy, sizeof out->cleanup_policy, "%s", value);
            out->is_compacted = strstr(value, "compact") != NULL;
            out->known = true;
        } else if (strcmp(name, "message.timestamp.type") == 0) {
            out->is_log_append_time = strcmp(value, "LogAppendTime") == 0;
        }
    }
    if (!out->known)
        snprintf(out->unknown_reason, sizeof out->unknown_reason,
                 "the cluster's answer has no cleanup.policy");
}

static void set_unknown(struct kafka_topic_settings *out, rd_kafka_resp_err_t code)
{
    bool forbidden = code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
                     code == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    snprintf(out->unknown_reason, sizeof out->unknown_reason, "%s%s", rd_kafka_err2str(code),
             forbidden ? "; the permission DescribeConfigs on the topic is missing" : "");
}

static void read_resource(const rd_kafka_ConfigResource_t *resource, const char *const *topics,
                          size_t count, struct kafka_topic_settings *out, bool *missing)
{
    rd_kafka_resp_err_t code = rd_kafka_ConfigResource_error(resource);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(topics[i], rd_kafka_ConfigResource_name(resource)) != 0)
            continue;
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
            read_settings(resource, &out[i]);
        else
            set_unknown(&out[i], code);
        *missing = *missing || code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    }
}

/* One question for all topics. *missing: there is one that the broker does not know. */
static rd_kafka_resp_err_t describe_topics(rd_kafka_t *rk, const char *const *topics, size_t count,
                                           rd_kafka_ConfigResource_t **resources, int64_t end_us,
                                           struct kafka_topic_settings *out, bool *missing)
{
    char reason[256];
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    /* Cannot fail but for a time-out that is out of range: then the default of 60 s stands. */
    (void)rd_kafka_AdminOptions_set_request_timeout(options, left_ms(end_us), reason,
                                                    sizeof reason);
    rd_kafka_DescribeConfigs(rk, resources, count, options, queue);
    rd_kafka_event_t *event = await_event(queue, end_us);
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR__TIMED_OUT;
    size_t answers = 0;
    const rd_kafka_ConfigResource_t **found = NULL;
    if (event != NULL)
        code = rd_kafka_event_error(event);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        found = rd_kafka_DescribeConfigs_result_resources(
            rd_kafka_event_DescribeConfigs_result(event), &answers);
    *missing = false;
    for (size_t i = 0; i < answers; i++)
        read_resource(found[i], topics, count, out, missing);
    if (event != NULL)
        rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_AdminOptions_destroy(options);
    return code;
}

/* Again while a topic is unknown: it may have been created a moment ago. */
static rd_kafka_resp_err_t read_topics(rd_kafka_t *rk, const char *const *topics, size_t count,
                                       rd_kafka_ConfigResource_t **resources, int timeout_ms,
                                       struct kafka_topic_settings *out)
{
    int64_t end_us = program_monotonic_us() + timeout_ms * INT64_C(1000);
    for (bool answered = false;; answered = true) {
        bool missing;
        rd_kafka_resp_err_t code =
            describe_topics(rk, topics, count, resources, end_us, out, &missing);
        if (code == RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE) {
            for (size_t i = 0; i < count; i++)
                set_unknown(&out[i], code);
            return RD_KAFKA_RESP_ERR_NO_ERROR;
        }
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
            return answered ? RD_KAFKA_RESP_ERR_NO_ERROR : code;
        if (!missing || left_ms(end_us) == 0 || program_wait_ms(PROPAGATION_WAIT_MS))
            return code;
    }
}

enum status kafka_topics_settings(const json_t *properties, const char *const *topics, size_t count,
                                  int timeout_ms, struct kafka_topic_settings *out,
                                  struct error *error)
{
    rd_kafka_t *rk = NULL;
    struct kafka_client client;
    if (count == 0)
        return STATUS_OK;
    rd_kafka_ConfigResource_t **resources = calloc(count, sizeof(rd_kafka_ConfigResource_t *));
    if (resources == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < count; i++) {
        out[i] = (struct kafka_topic_settings){.unknown_reason = "the cluster did not answer"};
        resources[i] = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topics[i]);
    }
    enum status status = open_client(&client, properties, &rk, error);
    if (status == STATUS_OK) {
        rd_kafka_resp_err_t code = read_topics(rk, topics, count, resources, timeout_ms, out);
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
            status = request_error(&client, code, "asking for the settings of", topics[0], error);
    }
    close_client(&client, rk);
    rd_kafka_ConfigResource_destroy_array(resources, count);
    free(resources);
    return status;
}

enum status kafka_topics_check_uncompacted(const json_t *properties, const char *const *topics,
                                           size_t count, int timeout_ms, struct error *error)
{
    struct kafka_topic_settings *settings = calloc(count + 1, sizeof *settings);
    if (settings == NULL)
        return error_no_memory(error);
    enum status status =
        kafka_topics_settings(properties, topics, count, timeout_ms, settings, error);
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        if (settings[i].is_compacted)
            status = error_set(
                error, STATUS_REJECT,
                "topic %s: cleanup.policy is \"%s\", and compaction deletes records that are part "
                "of answers: the same offsets would give other values later. Set "
                "cleanup.policy=delete on the topic, or read from one that is not compacted",
                topics[i], settings[i].cleanup_policy);
        else if (!settings[i].known)
            program_log(LOG_WARNING,
                        "topic %s: whether it is compacted is not known (%s); answers are exact "
                        "only if its cleanup.policy is \"delete\"",
                        topics[i], settings[i].unknown_reason);
    }
    free(settings);
    return status;
}
