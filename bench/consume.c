/* Consume and discard: the most that any consumer built on librdkafka can reach.
 *
 *     consume BOOTSTRAP TOPIC PARTITIONS
 *
 * Reads the topic from offset 0 to its end with rd_kafka_consumer_poll and throws every message
 * away. One line on stdout: records, bytes, seconds from the first message to the last end of
 * partition, seconds with start-up, CPU seconds of the process. */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/support.h"

enum { PATIENCE_MS = 30000 };

/* The properties of core/kafka/kafka.c, so that the same fetches are compared, but with a queue
 * that is never full: librdkafka 2.0 would pause a second then, and the base must be the best there
 * is. */
static const char *const properties[][2] = {
    {"session.timeout.ms", "10000"},
    {"heartbeat.interval.ms", "1000"},
    {"topic.metadata.refresh.interval.ms", "10000"},
    {"check.crcs", "true"},
    {"queued.min.messages", "10000000"},
    {"queued.max.messages.kbytes", "2097151"},
    {"fetch.wait.max.ms", "100"},
    {"fetch.error.backoff.ms", "100"},
    {"fetch.message.max.bytes", "1048576"},
    {"fetch.max.bytes", "16777216"},
    {"reconnect.backoff.max.ms", "1000"},
    {"socket.nagle.disable", "true"},
    {"socket.keepalive.enable", "true"},
    {"auto.offset.reset", "error"},
    {"enable.auto.commit", "false"},
    {"enable.auto.offset.store", "false"},
    {"enable.partition.eof", "true"},
    {"isolation.level", "read_committed"},
    {"group.id", "dovetail-bench"},
};

struct outcome {
    long long records;
    long long bytes;
    double first;
    double last;
};

static rd_kafka_t *create_consumer(const char *bootstrap)
{
    char reason[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    for (size_t i = 0; i < sizeof properties / sizeof properties[0]; i++)
        if (rd_kafka_conf_set(conf, properties[i][0], properties[i][1], reason, sizeof reason) !=
            RD_KAFKA_CONF_OK)
            bench_fail("consume: %s", reason);
    if (rd_kafka_conf_set(conf, "bootstrap.servers", bootstrap, reason, sizeof reason) !=
        RD_KAFKA_CONF_OK)
        bench_fail("consume: %s", reason);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, reason, sizeof reason);
    if (rk == NULL)
        bench_fail("consume: %s", reason);
    (void)rd_kafka_poll_set_consumer(rk);
    return rk;
}

static void assign(rd_kafka_t *rk, const char *topic, long partitions)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)partitions);
    for (int32_t i = 0; i < partitions; i++)
        rd_kafka_topic_partition_list_add(list, topic, i)->offset = 0;
    if (rd_kafka_assign(rk, list) != RD_KAFKA_RESP_ERR_NO_ERROR)
        bench_fail("consume: the partitions cannot be assigned");
    rd_kafka_topic_partition_list_destroy(list);
}

static void consume(rd_kafka_t *rk, long partitions, struct outcome *out)
{
    long ended = 0;
    while (ended < partitions) {
        /* A poll that may wait reads the clock, which costs as much as the message. */
        rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, 0);
        if (message == NULL)
            message = rd_kafka_consumer_poll(rk, PATIENCE_MS);
        if (message == NULL)
            bench_fail("consume: nothing came for %d ms", PATIENCE_MS);
        if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            ended++;
        } else if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            bench_fail("consume: %s", rd_kafka_message_errstr(message));
        } else {
            if (out->records++ == 0)
                out->first = bench_seconds();
            out->bytes += (long long)message->len;
        }
        rd_kafka_message_destroy(message);
    }
    out->last = bench_seconds();
}

int main(int argc, char **argv)
{
    if (argc != 4)
        bench_fail("usage: consume BOOTSTRAP TOPIC PARTITIONS");
    long partitions = bench_number(argv[3], "PARTITIONS", 1, 10000);
    double start = bench_seconds();
    struct outcome outcome = {0};
    rd_kafka_t *rk = create_consumer(argv[1]);
    assign(rk, argv[2], partitions);
    consume(rk, partitions, &outcome);
    printf("%lld %lld %.6f %.6f %.3f\n", outcome.records, outcome.bytes,
           outcome.last - outcome.first, outcome.last - start, bench_cpu_seconds());
    fflush(stdout);
    /* Leaving costs up to a second and is no part of this. */
    _Exit(0);
}
