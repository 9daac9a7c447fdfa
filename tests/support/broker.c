/* librdkafka for the tests: see broker.h. */
#include "tests/support/broker.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/stack.h"

enum {
    STEP_MS = 100,
    TRY_MS = 2000, /* one question: it may go to a broker that is dead */
    REQUEST_MS = 30000,
    AWAY_MS = 240000, /* for which brokers may be away */
    TOPICS_MAX = 256,
};

struct broker_producer {
    rd_kafka_t *client;
    broker_delivered *delivered;
    int64_t timestamp_ms; /* 0: now */
    bool transactional;
    char problem[512];
};

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char reason[256];
    if (rd_kafka_conf_set(conf, name, value, reason, sizeof reason) != RD_KAFKA_CONF_OK)
        fail_msg("librdkafka: %s", reason);
}

static rd_kafka_conf_t *new_conf(void)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", stack_kafka());
    set(conf, "log_level", "2"); /* brokers go away on purpose */
    return conf;
}

static rd_kafka_t *new_client(rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
    char reason[256];
    rd_kafka_t *client = rd_kafka_new(type, conf, reason, sizeof reason);
    if (client == NULL)
        fail_msg("librdkafka: %s", reason);
    return client;
}

/* --- producing --- */

static void on_delivery(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque)
{
    struct broker_producer *producer = opaque;
    const char *error =
        message->err == RD_KAFKA_RESP_ERR_NO_ERROR ? NULL : rd_kafka_err2str(message->err);
    (void)client;
    /* In a transaction the end tells. */
    if (error != NULL && producer->problem[0] == '\0' && !producer->transactional &&
        message->err != RD_KAFKA_RESP_ERR__PURGE_QUEUE &&
        message->err != RD_KAFKA_RESP_ERR__PURGE_INFLIGHT)
        snprintf(producer->problem, sizeof producer->problem, "delivery: %s", error);
    if (producer->delivered != NULL)
        producer->delivered(message->_private, message->partition, message->offset, error);
}

static bool took(struct broker_producer *producer, rd_kafka_error_t *error, const char *what)
{
    if (error == NULL)
        return true;
    if (producer->problem[0] == '\0')
        snprintf(producer->problem, sizeof producer->problem, "%s: %s", what,
                 rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    return false;
}

struct broker_producer *broker_producer_create(const char *transactional_id,
                                               broker_delivered *delivered)
{
    struct broker_producer *producer = calloc(1, sizeof *producer);
    assert_non_null(producer);
    producer->delivered = delivered;
    rd_kafka_conf_t *conf = new_conf();
    set(conf, "enable.idempotence", "true");
    set(conf, "linger.ms", "2");
    set(conf, "message.max.bytes", "16000000");
    producer->transactional = transactional_id != NULL;
    if (transactional_id != NULL) {
        set(conf, "transactional.id", transactional_id);
        /* Else a broker that was away fences whom it did not hear of for a minute. */
        set(conf, "transaction.timeout.ms", "600000");
    }
    rd_kafka_conf_set_opaque(conf, producer);
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    producer->client = new_client(RD_KAFKA_PRODUCER, conf);
    if (transactional_id != NULL &&
        !took(producer, rd_kafka_init_transactions(producer->client, REQUEST_MS), "transactions"))
        fail_msg("%s", producer->problem);
    return producer;
}

void broker_producer_destroy(struct broker_producer *producer)
{
    if (producer == NULL)
        return;
    rd_kafka_purge(producer->client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_poll(producer->client, 0);
    rd_kafka_destroy(producer->client);
    free(producer);
}

void broker_producer_set_time(struct broker_producer *producer, int64_t timestamp_ms)
{
    producer->timestamp_ms = timestamp_ms;
}

bool broker_produce(struct broker_producer *producer, const char *topic, int32_t partition,
                    const void *key, size_t key_length, const void *value, size_t value_length,
                    rd_kafka_headers_t *headers, void *opaque)
{
    for (;;) {
        rd_kafka_vu_t arguments[] = {
            {.vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = topic},
            {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = partition},
            {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {.ptr = (void *)key, .size = key_length}},
            {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {.ptr = (void *)value, .size = value_length}},
            {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
            {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = opaque},
            {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = producer->timestamp_ms},
            {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers},
        };
        size_t count = sizeof arguments / sizeof arguments[0] - (headers == NULL ? 1 : 0);
        rd_kafka_error_t *error = rd_kafka_produceva(producer->client, arguments, count);
        if (error != NULL && rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR__QUEUE_FULL) {
            rd_kafka_error_destroy(error);
            rd_kafka_poll(producer->client, STEP_MS);
            continue;
        }
        if (error != NULL && producer->transactional) { /* it must be aborted: its end tells */
            rd_kafka_error_destroy(error);
            return false;
        }
        return took(producer, error, "produce");
    }
}

void broker_poll(struct broker_producer *producer, int timeout_ms)
{
    rd_kafka_poll(producer->client, timeout_ms);
}

bool broker_flush(struct broker_producer *producer)
{
    if (rd_kafka_flush(producer->client, AWAY_MS) == RD_KAFKA_RESP_ERR_NO_ERROR)
        return producer->problem[0] == '\0';
    if (producer->problem[0] == '\0')
        snprintf(producer->problem, sizeof producer->problem, "flush: not acknowledged in time");
    return false;
}

bool broker_transaction_begin(struct broker_producer *producer)
{
    return took(producer, rd_kafka_begin_transaction(producer->client), "begin");
}

/* True: done. False: *aborts where it must be aborted now, else there is a problem. */
static bool end_transaction(struct broker_producer *producer, bool commit, bool *aborts)
{
    int64_t deadline = stack_now_ms() + AWAY_MS;
    *aborts = false;
    for (;;) {
        rd_kafka_error_t *error = commit ? rd_kafka_commit_transaction(producer->client, REQUEST_MS)
                                         : rd_kafka_abort_transaction(producer->client, REQUEST_MS);
        if (error != NULL && rd_kafka_error_is_retriable(error) && stack_now_ms() < deadline) {
            rd_kafka_error_destroy(error);
            rd_kafka_poll(producer->client, STEP_MS);
            continue;
        }
        *aborts = error != NULL && commit && rd_kafka_error_txn_requires_abort(error);
        if (*aborts)
            rd_kafka_error_destroy(error);
        else if (took(producer, error, commit ? "commit" : "abort"))
            return true;
        return false;
    }
}

enum broker_outcome broker_transaction_end(struct broker_producer *producer, bool commit)
{
    bool aborts;
    /* What is aborted must be in the log first: Kafka 4 refuses to abort a transaction that it has
     * heard nothing of. */
    if (!broker_flush(producer))
        return BROKER_IN_DOUBT;
    if (end_transaction(producer, commit, &aborts)) {
        rd_kafka_poll(producer->client, 0);
        return commit ? BROKER_COMMITTED : BROKER_ABORTED;
    }
    if (aborts && end_transaction(producer, false, &aborts)) {
        rd_kafka_poll(producer->client, 0);
        return BROKER_ABORTED;
    }
    return BROKER_IN_DOUBT;
}

const char *broker_problem(const struct broker_producer *producer)
{
    return producer->problem;
}

/* --- reading --- */

static rd_kafka_t *new_reader(void)
{
    rd_kafka_conf_t *conf = new_conf();
    set(conf, "group.id", "dovetail-test-reader");
    set(conf, "enable.auto.commit", "false");
    set(conf, "enable.partition.eof", "true");
    set(conf, "isolation.level", "read_committed");
    set(conf, "auto.offset.reset", "error");
    rd_kafka_t *client = new_client(RD_KAFKA_CONSUMER, conf);
    rd_kafka_poll_set_consumer(client);
    return client;
}

static int partition_count(rd_kafka_t *client, const char *topic)
{
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_topic_t *handle = rd_kafka_topic_new(client, topic, NULL);
    rd_kafka_resp_err_t code = rd_kafka_metadata(client, 0, handle, &metadata, REQUEST_MS);
    int count = code == RD_KAFKA_RESP_ERR_NO_ERROR && metadata->topic_cnt == 1 &&
                        metadata->topics[0].err == RD_KAFKA_RESP_ERR_NO_ERROR
                    ? metadata->topics[0].partition_cnt
                    : -1;
    if (metadata != NULL)
        rd_kafka_metadata_destroy(metadata);
    rd_kafka_topic_destroy(handle);
    return count;
}

void broker_read(const char *topic, struct broker_records *out)
{
    *out = (struct broker_records){.client = new_reader()};
    int partitions = partition_count(out->client, topic);
    if (partitions < 1)
        fail_msg("there is no topic %s", topic);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    for (int i = 0; i < partitions; i++)
        rd_kafka_topic_partition_list_add(list, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_resp_err_t code = rd_kafka_assign(out->client, list);
    rd_kafka_topic_partition_list_destroy(list);
    assert_int_equal(code, RD_KAFKA_RESP_ERR_NO_ERROR);
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    size_t capacity = 0;
    for (int ended = 0; ended < partitions;) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(out->client, STEP_MS);
        if (stack_now_ms() > deadline)
            fail_msg("topic %s cannot be read", topic);
        if (message == NULL)
            continue;
        if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            ended += message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
            rd_kafka_message_destroy(message);
            continue;
        }
        if (out->count == capacity) {
            capacity = capacity == 0 ? 64 : 2 * capacity;
            out->items = realloc(out->items, capacity * sizeof *out->items);
            assert_non_null(out->items);
        }
        out->items[out->count++] = message;
    }
}

void broker_records_free(struct broker_records *records)
{
    for (size_t i = 0; i < records->count; i++)
        rd_kafka_message_destroy(records->items[i]);
    free(records->items);
    if (records->client != NULL) {
        rd_kafka_consumer_close(records->client);
        rd_kafka_destroy(records->client);
    }
    *records = (struct broker_records){0};
}

/* rd_kafka_query_watermark_offsets would wait without end, whatever time it is given, while the
 * broker that it takes for the leader is away. "Latest" is a time of the protocol. */
static int64_t ask_end(rd_kafka_t *client, const char *topic, int32_t partition)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *asked = rd_kafka_topic_partition_list_add(list, topic, partition);
    asked->offset = RD_KAFKA_OFFSET_END;
    rd_kafka_resp_err_t code = rd_kafka_offsets_for_times(client, list, TRY_MS);
    bool known = code == RD_KAFKA_RESP_ERR_NO_ERROR && asked->err == RD_KAFKA_RESP_ERR_NO_ERROR;
    int64_t end = known ? asked->offset : -1;
    rd_kafka_topic_partition_list_destroy(list);
    return end;
}

int64_t broker_end(const char *topic, int32_t partition)
{
    rd_kafka_t *client = new_reader();
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS, end;
    while ((end = ask_end(client, topic, partition)) < 0 && stack_now_ms() < deadline) {
        (void)partition_count(client, topic); /* the leader may be another one by now */
        stack_sleep_ms(STEP_MS);
    }
    rd_kafka_consumer_close(client);
    rd_kafka_destroy(client);
    if (end < 0)
        fail_msg("%s/%d: where the log ends is not known", topic, partition);
    return end;
}

/* --- topics --- */

/* What the controller has done a broker knows a moment later, and may not answer by it before. */
static void await_partitions(rd_kafka_t *client, const char *topic, int partitions)
{
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    int count;
    while ((count = partition_count(client, topic)) != partitions && stack_now_ms() < end_ms)
        stack_sleep_ms(STEP_MS);
    if (count != partitions)
        fail_msg("topic %s has %d partitions, not %d", topic, count, partitions);
}

void broker_create_topic(const char *topic, int partitions)
{
    char reason[128];
    rd_kafka_t *client = new_client(RD_KAFKA_PRODUCER, new_conf());
    rd_kafka_NewTopic_t *request =
        rd_kafka_NewTopic_new(topic, partitions, 1, reason, sizeof reason);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_CreateTopics(client, &request, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, REQUEST_MS);
    rd_kafka_event_destroy(event);
    rd_kafka_NewTopic_destroy(request);
    rd_kafka_queue_destroy(queue);
    if (event == NULL)
        fail_msg("topic %s was not created", topic);
    await_partitions(client, topic, partitions);
    rd_kafka_destroy(client);
}

void broker_delete_below(const char *topic, int32_t partition, int64_t offset)
{
    rd_kafka_t *client = new_client(RD_KAFKA_PRODUCER, new_conf());
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, partition)->offset = offset;
    rd_kafka_DeleteRecords_t *request = rd_kafka_DeleteRecords_new(list);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_DeleteRecords(client, &request, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, REQUEST_MS);
    bool good = event != NULL && rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_DeleteRecords_destroy(request);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(client);
    if (!good)
        fail_msg("%s/%d: records below %lld were not deleted", topic, (int)partition,
                 (long long)offset);
}

static bool topic_is_known(rd_kafka_t *client, const char *topic)
{
    const struct rd_kafka_metadata *metadata = NULL;
    bool known = false;
    if (rd_kafka_metadata(client, 1, NULL, &metadata, REQUEST_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return true;
    for (int i = 0; i < metadata->topic_cnt; i++)
        known = known || strcmp(metadata->topics[i].topic, topic) == 0;
    rd_kafka_metadata_destroy(metadata);
    return known;
}

void broker_delete_topic(const char *topic)
{
    rd_kafka_t *client = new_client(RD_KAFKA_PRODUCER, new_conf());
    rd_kafka_DeleteTopic_t *request = rd_kafka_DeleteTopic_new(topic);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_DeleteTopics(client, &request, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, REQUEST_MS);
    int64_t until = stack_now_ms() + STACK_WAIT_MS;
    while (topic_is_known(client, topic) && stack_now_ms() < until)
        stack_sleep_ms(50);
    bool good = event != NULL && !topic_is_known(client, topic);
    if (event != NULL)
        rd_kafka_event_destroy(event);
    rd_kafka_DeleteTopic_destroy(request);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(client);
    if (!good)
        fail_msg("topic %s was not deleted", topic);
}

void broker_producer_learn(struct broker_producer *producer, const char *topic, int partitions)
{
    await_partitions(producer->client, topic, partitions);
}

void broker_add_partitions(const char *topic, int count)
{
    char reason[128];
    rd_kafka_t *client = new_client(RD_KAFKA_PRODUCER, new_conf());
    rd_kafka_NewPartitions_t *request =
        rd_kafka_NewPartitions_new(topic, (size_t)count, reason, sizeof reason);
    if (request == NULL)
        fail_msg("topic %s: %s", topic, reason);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_CreatePartitions(client, &request, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, REQUEST_MS);
    if (event == NULL || rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR)
        fail_msg("topic %s did not get %d partitions", topic, count);
    rd_kafka_event_destroy(event);
    rd_kafka_NewPartitions_destroy(request);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(client);
}

void broker_set_topic(const char *topic, const char *name, const char *value)
{
    rd_kafka_t *client = new_client(RD_KAFKA_PRODUCER, new_conf());
    rd_kafka_ConfigResource_t *resource =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
    rd_kafka_ConfigResource_set_config(resource, name, value);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_AlterConfigs(client, &resource, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, REQUEST_MS);
    if (event == NULL || rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR)
        fail_msg("topic %s: %s was not altered", topic, name);
    size_t count;
    const rd_kafka_ConfigResource_t **resources =
        rd_kafka_AlterConfigs_result_resources(rd_kafka_event_AlterConfigs_result(event), &count);
    if (count != 1 || rd_kafka_ConfigResource_error(resources[0]) != RD_KAFKA_RESP_ERR_NO_ERROR)
        fail_msg("topic %s: %s cannot be %s", topic, name, value);
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_ConfigResource_destroy(resource);
    rd_kafka_destroy(client);
}

/* One rule about everybody and the topic. */
static rd_kafka_AclBinding_t *new_rule(const char *topic, rd_kafka_AclOperation_t operation,
                                       rd_kafka_AclPermissionType_t permission)
{
    char reason[256];
    rd_kafka_AclBinding_t *rule =
        rd_kafka_AclBinding_new(RD_KAFKA_RESOURCE_TOPIC, topic, RD_KAFKA_RESOURCE_PATTERN_LITERAL,
                                "User:*", "*", operation, permission, reason, sizeof reason);
    if (rule == NULL)
        fail_msg("topic %s: %s", topic, reason);
    return rule;
}

void broker_forbid_settings(const char *topic)
{
    rd_kafka_t *client = new_client(RD_KAFKA_PRODUCER, new_conf());
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    /* A topic with a rule has no other rights than its rules give. */
    rd_kafka_AclBinding_t *rules[] = {
        new_rule(topic, RD_KAFKA_ACL_OPERATION_ALL, RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW),
        new_rule(topic, RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS,
                 RD_KAFKA_ACL_PERMISSION_TYPE_DENY)};
    rd_kafka_CreateAcls(client, rules, 2, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, REQUEST_MS);
    if (event == NULL || rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR)
        fail_msg("topic %s: the settings cannot be forbidden: %s", topic,
                 event != NULL ? rd_kafka_event_error_string(event) : "no answer");
    size_t count;
    const rd_kafka_acl_result_t **results =
        rd_kafka_CreateAcls_result_acls(rd_kafka_event_CreateAcls_result(event), &count);
    for (size_t i = 0; i < count; i++)
        if (rd_kafka_acl_result_error(results[i]) != NULL)
            fail_msg("topic %s: the settings cannot be forbidden: %s", topic,
                     rd_kafka_error_string(rd_kafka_acl_result_error(results[i])));
    rd_kafka_event_destroy(event);
    rd_kafka_AclBinding_destroy_array(rules, 2);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(client);
}

void broker_permit_settings(const char *topic)
{
    char reason[256];
    rd_kafka_t *client = new_client(RD_KAFKA_PRODUCER, new_conf());
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_AclBindingFilter_t *filter = rd_kafka_AclBindingFilter_new(
        RD_KAFKA_RESOURCE_TOPIC, topic, RD_KAFKA_RESOURCE_PATTERN_LITERAL, NULL, NULL,
        RD_KAFKA_ACL_OPERATION_ANY, RD_KAFKA_ACL_PERMISSION_TYPE_ANY, reason, sizeof reason);
    rd_kafka_DeleteAcls(client, &filter, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, REQUEST_MS);
    if (event != NULL)
        rd_kafka_event_destroy(event);
    rd_kafka_AclBinding_destroy(filter);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(client);
}

void broker_grow_topic(const char *topic, int partitions)
{
    char reason[128];
    rd_kafka_t *client = new_client(RD_KAFKA_PRODUCER, new_conf());
    rd_kafka_NewPartitions_t *request =
        rd_kafka_NewPartitions_new(topic, (size_t)partitions, reason, sizeof reason);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_CreatePartitions(client, &request, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, REQUEST_MS);
    rd_kafka_event_destroy(event);
    rd_kafka_NewPartitions_destroy(request);
    rd_kafka_queue_destroy(queue);
    await_partitions(client, topic, partitions);
    rd_kafka_destroy(client);
}

static bool ends_with(const char *text, size_t length, const char *suffix)
{
    size_t suffix_length = strlen(suffix);
    return length >= suffix_length &&
           memcmp(text + length - suffix_length, suffix, suffix_length) == 0;
}

static bool is_ours(const char *topic, const char *suffix)
{
    size_t length = strlen(topic);
    if (ends_with(topic, length, ".dead"))
        length -= strlen(".dead");
    return ends_with(topic, length, suffix);
}

void broker_delete_topics(const char *suffix)
{
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_DeleteTopic_t *requests[TOPICS_MAX];
    size_t count = 0;
    rd_kafka_t *client = new_client(RD_KAFKA_PRODUCER, new_conf());
    if (rd_kafka_metadata(client, 1, NULL, &metadata, REQUEST_MS) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        for (int i = 0; i < metadata->topic_cnt && count < TOPICS_MAX; i++)
            if (is_ours(metadata->topics[i].topic, suffix))
                requests[count++] = rd_kafka_DeleteTopic_new(metadata->topics[i].topic);
        rd_kafka_metadata_destroy(metadata);
    }
    if (count > 0) {
        rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
        rd_kafka_DeleteTopics(client, requests, count, NULL, queue);
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, REQUEST_MS);
        if (event != NULL)
            rd_kafka_event_destroy(event);
        rd_kafka_DeleteTopic_destroy_array(requests, count);
        rd_kafka_queue_destroy(queue);
    }
    rd_kafka_destroy(client);
}
