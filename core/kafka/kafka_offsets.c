/* Asking where logs begin and end: see core/kafka/kafka_offsets.h.
 *
 * rd_kafka_query_watermark_offsets is not used: librdkafka 2.0 waits in it without end, whatever
 * the time given, while the broker that it takes for the leader is away. And a client that has not
 * been connected to that broker is not told by anything that there is a new leader, so after an
 * answer that did not come metadata are asked for. */
#include "core/kafka/kafka_offsets.h"

#include <stdbool.h>

#include "core/kafka/kafka_client.h"
#include "core/program/program.h"

enum {
    TRY_MS = 2000,  /* one question: it may go to a broker that is dead */
    AGAIN_MS = 100, /* after an answer that was no use */
};

static int left_ms(int64_t end_us)
{
    int64_t left = (end_us - program_monotonic_us()) / 1000;
    return left > 0 ? (int)left : 0;
}

/* rd_kafka_offsets_for_times passes a time on as it is, and the protocol's "latest" and "earliest"
 * are such. */
enum status kafka_offsets_ask(rd_kafka_t *rk, int64_t which, struct kafka_position *positions,
                              size_t count, int timeout_ms, struct error *error)
{
    if (count == 0)
        return STATUS_OK;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)count);
    for (size_t i = 0; i < count; i++)
        rd_kafka_topic_partition_list_add(list, positions[i].topic, positions[i].partition)
            ->offset = which;
    rd_kafka_resp_err_t code = rd_kafka_offsets_for_times(rk, list, timeout_ms);
    for (size_t i = 0; i < count; i++) {
        const rd_kafka_topic_partition_t *answer = &list->elems[i];
        bool known = code == RD_KAFKA_RESP_ERR_NO_ERROR &&
                     answer->err == RD_KAFKA_RESP_ERR_NO_ERROR && answer->offset >= 0;
        positions[i].offset = known ? answer->offset : -1;
    }
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR && count == 1)
        code = list->elems[0].err;
    rd_kafka_topic_partition_list_destroy(list);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        return STATUS_OK;
    return kafka_client_error(error, STATUS_RETRY, code,
                              "Kafka: asking where logs begin or end: %s", rd_kafka_err2str(code));
}

/* Who leads the partitions of a topic now; librdkafka keeps it. */
static void refresh_leaders(rd_kafka_t *rk, const char *topic, int timeout_ms)
{
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_topic_t *handle = rd_kafka_topic_new(rk, topic, NULL);
    if (handle == NULL)
        return; /* the next question fails as this one did */
    if (rd_kafka_metadata(rk, 0, handle, &metadata, timeout_ms) == RD_KAFKA_RESP_ERR_NO_ERROR)
        rd_kafka_metadata_destroy(metadata);
    rd_kafka_topic_destroy(handle);
}

enum status kafka_offsets_of_log(rd_kafka_t *rk, const char *topic, int32_t partition,
                                 int timeout_ms, int64_t *low, int64_t *high, struct error *error)
{
    int64_t end_us = program_monotonic_us() + timeout_ms * INT64_C(1000);
    struct kafka_position begin = {.topic = topic, .partition = partition};
    struct kafka_position end = begin;
    struct error why;
    for (;;) {
        int try_ms = left_ms(end_us) < TRY_MS ? left_ms(end_us) : TRY_MS;
        enum status status =
            kafka_offsets_ask(rk, RD_KAFKA_OFFSET_BEGINNING, &begin, 1, try_ms, &why);
        if (status == STATUS_OK)
            status = kafka_offsets_ask(rk, RD_KAFKA_OFFSET_END, &end, 1, try_ms, &why);
        if (status == STATUS_OK && begin.offset >= 0 && end.offset >= 0)
            break;
        bool over = left_ms(end_us) == 0 ||
                    program_wait_ms(left_ms(end_us) < AGAIN_MS ? left_ms(end_us) : AGAIN_MS);
        if (over)
            return kafka_client_error(error, STATUS_RETRY, status == STATUS_OK ? 0 : why.kafka_code,
                                      "Kafka: offsets of topic %s partition %d: %s", topic,
                                      (int)partition, status == STATUS_OK ? "not known" : why.text);
        refresh_leaders(rk, topic, left_ms(end_us) < TRY_MS ? left_ms(end_us) : TRY_MS);
    }
    *low = begin.offset;
    *high = end.offset;
    return STATUS_OK;
}
