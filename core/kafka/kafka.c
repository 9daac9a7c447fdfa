/* Kafka consumers: see core/kafka/kafka.h.
 *
 * Invariant: every record from an assigned offset on comes out exactly once and in order, or an
 * error does. Therefore where to read is decided by offsets of delivered messages alone:
 * librdkafka's own position is not trusted when delivery resumes, an offset outside the log is an
 * error, and so is every error of a partition that is not known to be transient.
 *
 * One thread calls all functions of a consumer, and the group callbacks run in it, inside
 * kafka_consumer_poll and kafka_consumer_close. A failing on_assign leaves the member in the group
 * with nothing assigned; the next poll calls it again. */
#include "core/kafka/kafka.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/kafka/kafka_client.h"
#include "core/kafka/kafka_offsets.h"
#include "core/kafka/kafka_nudge.h"
#include "core/program/program.h"

enum {
    CLOSE_TIMEOUT_MS = 5000,
    LEAVE_TIMEOUT_MS = 5000,
    WATERMARK_TIMEOUT_MS = 2000, /* only to make an error text better */
};

/* Where an assigned partition goes on: behind the last message that came out. */
struct track {
    char *topic;
    int32_t partition;
    int64_t next;
};

struct kafka_consumer {
    struct kafka_client client;
    rd_kafka_t *rk;
    struct kafka_group_callbacks callbacks;
    bool given;    /* the group gave partitions and has not taken them back */
    bool answered; /* and on_assign said where they begin */

    struct track *tracks; /* the current assignment */
    size_t track_count;
    size_t newest; /* the track of the last message */
    const rd_kafka_topic_t *newest_rkt;
    bool paused;
    bool closing;    /* no assignment will follow */
    bool ending;     /* nobody answers for one that is under way */
    bool tells_gone; /* see kafka_consumer_tell_gone */

    struct kafka_nudge nudge;

    rd_kafka_topic_partition_list_t *unanswered; /* given by the group, on_assign failed */
    enum status callback_status;                 /* what the callbacks in this poll said */
    struct error callback_error;
    char problem[512]; /* what kafka_consumer_problem returned */
};

/* Fetching: a queue bounded by bytes, and by messages, because a small one takes librdkafka ten
 * times its size (100,000 are as fast as a million, with 60 MB instead of 200); kept filled by
 * kafka_nudge; a long poll that the first record ends, so that it costs no latency. A partition's
 * part of a reply is small, because 16 MiB instead of 1 MiB took three times the memory and was no
 * faster; a larger record comes in a reply of its own, whatever these limits are (KIP-74). */
static const struct kafka_property consumer_defaults[] = {
    {"client.id", "dovetail"},
    {"session.timeout.ms", "10000"},
    {"heartbeat.interval.ms", "1000"},
    {"topic.metadata.refresh.interval.ms", "10000"},
    {"check.crcs", "true"},
    {"queued.min.messages", "100000"},
    {"queued.max.messages.kbytes", "32768"},
    {"fetch.wait.max.ms", "100"},
    {"fetch.error.backoff.ms", "100"},
    {"fetch.message.max.bytes", "1048576"},
    {"fetch.max.bytes", "16777216"},
    {"reconnect.backoff.max.ms", "1000"},
    {"socket.nagle.disable", "true"},
    {"socket.keepalive.enable", "true"},
    {NULL, NULL},
};

/* --- the assignment --- */

static void clear_tracks(struct kafka_consumer *consumer)
{
    for (size_t i = 0; i < consumer->track_count; i++)
        free(consumer->tracks[i].topic);
    free(consumer->tracks);
    consumer->tracks = NULL;
    consumer->track_count = 0;
    consumer->newest = 0;
    consumer->newest_rkt = NULL;
}

static enum status set_tracks(struct kafka_consumer *consumer,
                              const rd_kafka_topic_partition_list_t *list, struct error *error)
{
    clear_tracks(consumer);
    if (list->cnt == 0)
        return STATUS_OK;
    consumer->tracks = calloc((size_t)list->cnt, sizeof *consumer->tracks);
    if (consumer->tracks == NULL)
        return error_no_memory(error);
    for (int i = 0; i < list->cnt; i++) {
        struct track *track = &consumer->tracks[i];
        track->topic = strdup(list->elems[i].topic);
        if (track->topic == NULL)
            return error_no_memory(error);
        track->partition = list->elems[i].partition;
        track->next = list->elems[i].offset;
        consumer->track_count++;
    }
    return STATUS_OK;
}

static void track_message(struct kafka_consumer *consumer, const rd_kafka_message_t *message)
{
    if (consumer->newest_rkt == message->rkt &&
        consumer->tracks[consumer->newest].partition == message->partition) {
        consumer->tracks[consumer->newest].next = message->offset + 1;
        return;
    }
    const char *topic = rd_kafka_topic_name(message->rkt);
    for (size_t i = 0; i < consumer->track_count; i++) {
        struct track *track = &consumer->tracks[i];
        if (track->partition == message->partition && strcmp(track->topic, topic) == 0) {
            track->next = message->offset + 1;
            consumer->newest = i;
            consumer->newest_rkt = message->rkt;
            return;
        }
    }
    consumer->newest_rkt = NULL;
}

static rd_kafka_topic_partition_list_t *list_of_tracks(const struct kafka_consumer *consumer)
{
    rd_kafka_topic_partition_list_t *list =
        rd_kafka_topic_partition_list_new((int)consumer->track_count);
    for (size_t i = 0; i < consumer->track_count; i++)
        rd_kafka_topic_partition_list_add(list, consumer->tracks[i].topic,
                                          consumer->tracks[i].partition)
            ->offset = consumer->tracks[i].next;
    return list;
}

static rd_kafka_topic_partition_list_t *list_of_positions(const struct kafka_position *positions,
                                                          size_t count)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)count);
    for (size_t i = 0; i < count; i++)
        rd_kafka_topic_partition_list_add(list, positions[i].topic, positions[i].partition)
            ->offset = positions[i].offset;
    return list;
}

/* Waits until librdkafka's main thread has stopped the partitions of the assignment before. While
 * one is stopping, another assignment makes librdkafka 2.0 stop it twice and abort the process. The
 * stop and its answer stand in the same queue as these two requests, each before one of them. */
static void await_stops(struct kafka_consumer *consumer)
{
    for (int i = 0; i < 2; i++) {
        rd_kafka_topic_partition_list_t *list = NULL;
        if (rd_kafka_assignment(consumer->rk, &list) == RD_KAFKA_RESP_ERR_NO_ERROR)
            rd_kafka_topic_partition_list_destroy(list);
    }
}

static enum status assign_now(struct kafka_consumer *consumer,
                              const rd_kafka_topic_partition_list_t *list, struct error *error)
{
    rd_kafka_resp_err_t code = rd_kafka_assign(consumer->rk, list);
    await_stops(consumer);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        return STATUS_OK;
    return kafka_client_error(error, STATUS_FATAL, code, "Kafka: assigning partitions: %s",
                              rd_kafka_err2str(code));
}

/* Reads nothing but stays a member: an empty assignment, not none, which would mean to rejoin. */
static enum status assign_nothing(struct kafka_consumer *consumer, struct error *error)
{
    rd_kafka_topic_partition_list_t *nothing = rd_kafka_topic_partition_list_new(0);
    enum status status = assign_now(consumer, nothing, error);
    rd_kafka_topic_partition_list_destroy(nothing);
    return status;
}

/* Makes `list` the assignment. What was fetched for an older one is dropped by librdkafka. */
static enum status assign(struct kafka_consumer *consumer,
                          const rd_kafka_topic_partition_list_t *list, struct error *error)
{
    enum status status = set_tracks(consumer, list, error);
    if (status != STATUS_OK)
        return status;
    return consumer->paused ? assign_nothing(consumer, error) : assign_now(consumer, list, error);
}

enum status kafka_consumer_restart(struct kafka_consumer *consumer,
                                   const struct kafka_position *positions, size_t count,
                                   struct error *error)
{
    rd_kafka_topic_partition_list_t *list = list_of_positions(positions, count);
    enum status status = assign(consumer, list, error);
    rd_kafka_topic_partition_list_destroy(list);
    return status;
}

/* Not rd_kafka_pause_partitions: resuming from it relies on librdkafka's idea of the application's
 * position, which an earlier assignment may have left behind, and it keeps what was fetched. */
enum status kafka_consumer_pause(struct kafka_consumer *consumer, bool pause, struct error *error)
{
    if (consumer->paused == pause)
        return STATUS_OK;
    consumer->paused = pause;
    if (consumer->track_count == 0)
        return STATUS_OK;
    if (pause)
        return assign_nothing(consumer, error);
    rd_kafka_topic_partition_list_t *list = list_of_tracks(consumer);
    enum status status = assign_now(consumer, list, error);
    rd_kafka_topic_partition_list_destroy(list);
    return status;
}

/* --- the group --- */

static struct kafka_position *positions_of_list(const rd_kafka_topic_partition_list_t *list)
{
    struct kafka_position *positions = calloc((size_t)list->cnt + 1, sizeof *positions);
    for (int i = 0; positions != NULL && i < list->cnt; i++)
        positions[i] = (struct kafka_position){.topic = list->elems[i].topic,
                                               .partition = list->elems[i].partition,
                                               .offset = RD_KAFKA_OFFSET_INVALID};
    return positions;
}

/* Asks where to start and starts there. */
static enum status answer_assignment(struct kafka_consumer *consumer,
                                     rd_kafka_topic_partition_list_t *list, struct error *error)
{
    struct kafka_position *positions = positions_of_list(list);
    if (positions == NULL)
        return error_no_memory(error);
    size_t count = (size_t)list->cnt;
    enum status status =
        consumer->callbacks.on_assign(positions, count, consumer->callbacks.context, error);
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        assert(positions[i].offset >= 0 || positions[i].offset == RD_KAFKA_OFFSET_BEGINNING);
        list->elems[i].offset = positions[i].offset;
    }
    free(positions);
    consumer->answered = status == STATUS_OK;
    return status == STATUS_OK ? assign(consumer, list, error) : status;
}

static void forget_unanswered(struct kafka_consumer *consumer)
{
    if (consumer->unanswered != NULL)
        rd_kafka_topic_partition_list_destroy(consumer->unanswered);
    consumer->unanswered = NULL;
}

static enum status handle_assign(struct kafka_consumer *consumer,
                                 rd_kafka_topic_partition_list_t *list, struct error *error)
{
    forget_unanswered(consumer);
    if (consumer->ending) { /* nor is anything asked of a member that goes: see handle_revoke */
        clear_tracks(consumer);
        (void)rd_kafka_assign(consumer->rk, NULL);
        return STATUS_OK;
    }
    enum status status = answer_assignment(consumer, list, error);
    if (status == STATUS_OK)
        return STATUS_OK;
    consumer->unanswered = rd_kafka_topic_partition_list_copy(list);
    clear_tracks(consumer);
    (void)assign_nothing(consumer, NULL); /* the first error is the one to tell */
    return status;
}

static enum status handle_revoke(struct kafka_consumer *consumer,
                                 const rd_kafka_topic_partition_list_t *list, struct error *error)
{
    enum status status = STATUS_OK;
    bool answered = consumer->unanswered == NULL && consumer->answered;
    consumer->answered = false;
    forget_unanswered(consumer);
    if (answered) {
        bool lost = rd_kafka_assignment_lost(consumer->rk) != 0;
        struct kafka_position *positions = positions_of_list(list);
        if (positions == NULL)
            status = error_no_memory(error);
        else
            status = consumer->callbacks.on_revoke(positions, (size_t)list->cnt, lost,
                                                   consumer->callbacks.context, error);
        free(positions);
    }
    clear_tracks(consumer);
    rd_kafka_resp_err_t code = rd_kafka_assign(consumer->rk, NULL);
    /* A member that leaves is gone with its last partition, and then nobody would answer. */
    if (!consumer->closing)
        await_stops(consumer);
    if (status == STATUS_OK && code != RD_KAFKA_RESP_ERR_NO_ERROR)
        status = kafka_client_error(error, STATUS_FATAL, code, "Kafka: giving up partitions: %s",
                                    rd_kafka_err2str(code));
    return status;
}

static void receive_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code,
                              rd_kafka_topic_partition_list_t *partitions, void *opaque)
{
    /* The client's opaque is its first member. */
    struct kafka_consumer *consumer = opaque;
    enum status status;
    struct error *error = &consumer->callback_error;
    consumer->given = code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS && partitions->cnt > 0;
    if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS)
        status = handle_assign(consumer, partitions, error);
    else
        status = handle_revoke(consumer, partitions, error);
    if (status != STATUS_OK && consumer->callback_status == STATUS_OK)
        consumer->callback_status = status;
    /* No message shall come out of the poll that has to tell the failure. */
    if (status != STATUS_OK)
        rd_kafka_yield(rk);
}

_Static_assert(offsetof(struct kafka_consumer, client) == 0, "see receive_rebalance");

/* --- creating --- */

static enum status create(const json_t *properties, const char *group_id, const char *instance,
                          const struct kafka_group_callbacks *callbacks,
                          struct kafka_consumer **out, struct error *error)
{
    *out = NULL;
    struct kafka_consumer *consumer = calloc(1, sizeof *consumer);
    if (consumer == NULL)
        return error_no_memory(error);
    kafka_client_init(&consumer->client);
    const struct kafka_property fixed[] = {
        {"auto.offset.reset", "error"},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"enable.partition.eof", "true"},
        {"group.id", json_object_get(properties, "group.id") == NULL ? group_id : NULL},
        {"group.instance.id", instance},
        {"isolation.level", "read_committed"},
        {"partition.assignment.strategy", "range,roundrobin"},
        {NULL, NULL},
    };
    rd_kafka_conf_t *conf = NULL;
    enum status status = kafka_client_configure(&consumer->client, properties, consumer_defaults,
                                                fixed, &conf, error);
    if (status == STATUS_OK && callbacks != NULL) {
        consumer->callbacks = *callbacks;
        rd_kafka_conf_set_rebalance_cb(conf, receive_rebalance);
    }
    if (status == STATUS_OK)
        status = kafka_nudge_init(&consumer->nudge, properties, conf, error);
    if (status == STATUS_OK)
        status = kafka_client_create(RD_KAFKA_CONSUMER, &conf, &consumer->rk, error);
    if (status != STATUS_OK) {
        kafka_consumer_close(consumer);
        return status;
    }
    (void)rd_kafka_poll_set_consumer(consumer->rk); /* fails only without a group.id */
    *out = consumer;
    return STATUS_OK;
}

enum status kafka_consumer_resubscribe(struct kafka_consumer *consumer, const char *const *topics,
                                       size_t topic_count, struct error *error)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)topic_count);
    for (size_t i = 0; i < topic_count; i++)
        rd_kafka_topic_partition_list_add(list, topics[i], RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t code = rd_kafka_subscribe(consumer->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        return STATUS_OK;
    return kafka_client_error(error, STATUS_FATAL, code, "Kafka: subscribing: %s",
                              rd_kafka_err2str(code));
}

enum status kafka_consumer_subscribe(const json_t *properties, const char *group_id,
                                     const char *instance, const char *const *topics,
                                     size_t topic_count,
                                     const struct kafka_group_callbacks *callbacks,
                                     struct kafka_consumer **out, struct error *error)
{
    enum status status = create(properties, group_id, instance, callbacks, out, error);
    if (status != STATUS_OK)
        return status;
    status = kafka_consumer_resubscribe(*out, topics, topic_count, error);
    if (status != STATUS_OK) {
        kafka_consumer_close(*out);
        *out = NULL;
    }
    return status;
}

enum status kafka_consumer_assign(const json_t *properties, const struct kafka_position *positions,
                                  size_t count, struct kafka_consumer **out, struct error *error)
{
    enum status status = create(properties, "dovetail-reader", NULL, NULL, out, error);
    if (status != STATUS_OK)
        return status;
    status = kafka_consumer_restart(*out, positions, count, error);
    if (status != STATUS_OK) {
        kafka_consumer_close(*out);
        *out = NULL;
    }
    return status;
}

/* Serves the revocation while the member leaves; what is still fetched goes. */
static void leave(struct kafka_consumer *consumer)
{
    rd_kafka_queue_t *queue = rd_kafka_queue_new(consumer->rk);
    consumer->closing = true;
    consumer->ending = true;
    rd_kafka_error_t *refused = rd_kafka_consumer_close_queue(consumer->rk, queue);
    int64_t end_us = program_monotonic_us() + CLOSE_TIMEOUT_MS * INT64_C(1000);
    while (refused == NULL && !rd_kafka_consumer_closed(consumer->rk) &&
           program_monotonic_us() < end_us) {
        rd_kafka_message_t *message = rd_kafka_consume_queue(queue, 100);
        if (message != NULL)
            rd_kafka_message_destroy(message);
    }
    if (refused != NULL) /* after a fatal error: there is nothing to leave */
        rd_kafka_error_destroy(refused);
    rd_kafka_queue_destroy(queue);
}

/* librdkafka has no request to remove a static member, and none is sent when one is closed; but one
 * that gives up its subscription leaves by its member id, which takes the static name along. The
 * request is sent when the revocation was answered, and closing waits for the reply. */
void kafka_consumer_leave_group(struct kafka_consumer *consumer)
{
    consumer->ending = true;
    if (kafka_client_check_fatal(consumer->rk, NULL) != STATUS_OK ||
        rd_kafka_unsubscribe(consumer->rk) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    int64_t end_us = program_monotonic_us() + LEAVE_TIMEOUT_MS * INT64_C(1000);
    while (consumer->given && program_monotonic_us() < end_us) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer->rk, 100);
        if (message != NULL)
            rd_kafka_message_destroy(message);
    }
}

void kafka_consumer_close(struct kafka_consumer *consumer)
{
    if (consumer == NULL)
        return;
    if (consumer->rk != NULL) {
        leave(consumer);
        if (!kafka_client_end(consumer->rk))
            return;
    }
    forget_unanswered(consumer);
    clear_tracks(consumer);
    kafka_nudge_deinit(&consumer->nudge);
    kafka_client_deinit(&consumer->client);
    free(consumer);
}

/* --- reading --- */

enum status kafka_consumer_watermarks(struct kafka_consumer *consumer, const char *topic,
                                      int32_t partition, int timeout_ms, int64_t *low,
                                      int64_t *high, struct error *error)
{
    return kafka_offsets_of_log(consumer->rk, topic, partition, timeout_ms, low, high, error);
}

int64_t kafka_consumer_known_end(struct kafka_consumer *consumer, const char *topic,
                                 int32_t partition)
{
    int64_t low, high;
    if (rd_kafka_get_watermark_offsets(consumer->rk, topic, partition, &low, &high) !=
        RD_KAFKA_RESP_ERR_NO_ERROR)
        return -1;
    return high < 0 ? -1 : high;
}

static enum status offset_gone(struct kafka_consumer *consumer, const rd_kafka_message_t *message,
                               struct error *error)
{
    const char *topic = rd_kafka_topic_name(message->rkt);
    int64_t low, high;
    char range[96] = "";
    if (kafka_consumer_watermarks(consumer, topic, message->partition, WATERMARK_TIMEOUT_MS, &low,
                                  &high, NULL) == STATUS_OK)
        snprintf(range, sizeof range, ", which has offsets from %lld to %lld", (long long)low,
                 (long long)high);
    return kafka_client_error(error, STATUS_FATAL, message->err,
                              "Kafka: offset %lld is not in topic %s partition %d%s",
                              (long long)message->offset, topic, (int)message->partition, range);
}

static enum status message_error(struct kafka_consumer *consumer, const rd_kafka_message_t *message,
                                 struct error *error)
{
    const char *topic = message->rkt != NULL ? rd_kafka_topic_name(message->rkt) : NULL;
    const char *text = rd_kafka_message_errstr(message);
    switch (message->err) {
    case RD_KAFKA_RESP_ERR__FATAL:
        return kafka_client_check_fatal(consumer->rk, error);
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
        return offset_gone(consumer, message, error);
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
        return kafka_client_error(error, STATUS_RETRY, message->err, "Kafka: topic %s: %s",
                                  topic != NULL ? topic : "", text);
    default:
        break;
    }
    if (kafka_client_is_transient(message->err)) {
        kafka_client_set_problem(&consumer->client, text);
        return STATUS_OK;
    }
    if (topic == NULL)
        return kafka_client_error(error, STATUS_FATAL, message->err, "Kafka: %s", text);
    return kafka_client_error(error, STATUS_FATAL, message->err,
                              "Kafka: topic %s partition %d offset %lld: %s", topic,
                              (int)message->partition, (long long)message->offset, text);
}

static enum status retry_assignment(struct kafka_consumer *consumer, struct error *error)
{
    rd_kafka_topic_partition_list_t *list =
        rd_kafka_topic_partition_list_copy(consumer->unanswered);
    enum status status = answer_assignment(consumer, list, error);
    rd_kafka_topic_partition_list_destroy(list);
    if (status == STATUS_OK)
        forget_unanswered(consumer);
    return status;
}

enum status kafka_consumer_poll(struct kafka_consumer *consumer, int timeout_ms,
                                rd_kafka_message_t **out, struct error *error)
{
    *out = NULL;
    if (consumer->unanswered != NULL)
        timeout_ms = 0; /* asked again below, unless the group takes back what it gave */
    consumer->callback_status = STATUS_OK;
    rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer->rk, timeout_ms);
    if (consumer->callback_status != STATUS_OK) {
        assert(message == NULL); /* receive_rebalance yields */
        if (error != NULL)
            *error = consumer->callback_error;
        return consumer->callback_status;
    }
    if (message == NULL && consumer->unanswered != NULL)
        return retry_assignment(consumer, error);
    if (message == NULL) {
        kafka_nudge_empty(&consumer->nudge, consumer->rk);
        return kafka_client_check_fatal(consumer->rk, error);
    }
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        track_message(consumer, message);
        kafka_client_clear_problem(&consumer->client);
        kafka_nudge_taken(&consumer->nudge, consumer->rk, message->len);
        *out = message;
        return STATUS_OK;
    }
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF ||
        (message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET && consumer->tells_gone)) {
        *out = message;
        return STATUS_OK;
    }
    enum status status = message_error(consumer, message, error);
    rd_kafka_message_destroy(message);
    return status;
}

void kafka_consumer_tell_gone(struct kafka_consumer *consumer)
{
    consumer->tells_gone = true;
}

int kafka_consumer_session_timeout_ms(const struct kafka_consumer *consumer)
{
    char text[32];
    size_t size = sizeof text;
    rd_kafka_conf_res_t found =
        rd_kafka_conf_get(rd_kafka_conf(consumer->rk), "session.timeout.ms", text, &size);
    assert(found == RD_KAFKA_CONF_OK);
    (void)found;
    return atoi(text);
}

const char *kafka_consumer_problem(struct kafka_consumer *consumer)
{
    return kafka_client_problem(&consumer->client, consumer->problem, sizeof consumer->problem)
               ? consumer->problem
               : NULL;
}

void kafka_consumer_commit_hint(struct kafka_consumer *consumer,
                                const struct kafka_position *positions, size_t count)
{
    rd_kafka_topic_partition_list_t *list = list_of_positions(positions, count);
    (void)rd_kafka_commit(consumer->rk, list, 1 /* asynchronous */);
    rd_kafka_topic_partition_list_destroy(list);
}
