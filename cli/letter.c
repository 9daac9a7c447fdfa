/* Reading dead letters: see cli/letter.h. */
#include "cli/letter.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/kafka/kafka.h"
#include "core/program/program.h"

enum { KAFKA_TIMEOUT_MS = 15000, POLL_MS = 500, POLL_LIMIT = 60, NUMBER_BYTES = 24 };

static bool join_headers(const struct letter *letter, size_t first, size_t end, const char *name,
                         char *out, size_t size)
{
    size_t used = 0;
    bool found = false;
    out[0] = '\0';
    for (size_t i = first; i < end; i++) {
        const char *header;
        const void *value;
        size_t length;
        if (rd_kafka_header_get_all(letter->headers, i, &header, &value, &length) !=
                RD_KAFKA_RESP_ERR_NO_ERROR ||
            strcmp(header, name) != 0)
            continue;
        int written = snprintf(out + used, size - used, "%s%.*s", found ? "," : "", (int)length,
                               value != NULL ? (const char *)value : "");
        found = true;
        if (written < 0 || (size_t)written >= size - used)
            break;
        used += (size_t)written;
    }
    return found;
}

bool letter_text(const struct letter *letter, const char *name, char *out, size_t size)
{
    return join_headers(letter, letter->first, letter->count, name, out, size);
}

bool letter_record_text(const struct letter *letter, const char *name, char *out, size_t size)
{
    return join_headers(letter, 0, letter->first, name, out, size);
}

static bool letter_number(const struct letter *letter, const char *name, int64_t *out)
{
    char text[NUMBER_BYTES];
    char *end = NULL;
    if (!letter_text(letter, name, text, sizeof text) || text[0] == '\0')
        return false;
    *out = strtoll(text, &end, 10);
    return *end == '\0';
}

static void read_headers(struct letter *letter, const rd_kafka_message_t *message)
{
    rd_kafka_headers_t *headers = NULL;
    int64_t partition;
    *letter = (struct letter){.message = message,
                              .written_ms = rd_kafka_message_timestamp(message, NULL)};
    if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    letter->headers = headers;
    letter->count = rd_kafka_header_cnt(headers);
    for (size_t i = 0; i < letter->count; i++) {
        const char *name;
        const void *value;
        size_t length;
        if (rd_kafka_header_get_all(headers, i, &name, &value, &length) ==
                RD_KAFKA_RESP_ERR_NO_ERROR &&
            strcmp(name, "dovetail.topic") == 0) {
            letter->first = i;
            letter->is_ours = true;
        }
    }
    letter->is_ours = letter->is_ours &&
                      letter_text(letter, "dovetail.topic", letter->topic, sizeof letter->topic) &&
                      letter_number(letter, "dovetail.partition", &partition) && partition >= -1 &&
                      partition <= INT32_MAX &&
                      letter_number(letter, "dovetail.offset", &letter->offset);
    letter->partition = letter->is_ours ? (int32_t)partition : 0;
}

/* Reads [start, end) of one partition. */
static enum status
read_partition(const struct config *config, const struct kafka_position *position, int64_t end,
               enum status (*take)(const struct letter *letter, void *context, struct error *error),
               void *context, struct error *error)
{
    struct kafka_consumer *consumer = NULL;
    enum status status = kafka_consumer_assign(config->kafka, position, 1, &consumer, error);
    bool done = false;
    for (int idle = 0; status == STATUS_OK && !done;) {
        rd_kafka_message_t *message = NULL;
        if (program_stopping()) {
            status = error_set(error, STATUS_RETRY, "interrupted");
            break;
        }
        status = kafka_consumer_poll(consumer, POLL_MS, &message, error);
        if (status == STATUS_OK && message == NULL && ++idle > POLL_LIMIT)
            status =
                error_set(error, STATUS_RETRY, "Kafka: no answer for topic %s", position->topic);
        if (message == NULL)
            continue;
        idle = 0;
        done = message->err != RD_KAFKA_RESP_ERR_NO_ERROR || message->offset + 1 >= end;
        if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR && message->offset < end) {
            struct letter letter;
            read_headers(&letter, message);
            status = take(&letter, context, error);
        }
        rd_kafka_message_destroy(message);
    }
    kafka_consumer_close(consumer);
    return status;
}

enum status letters_read(const struct config *config, const char *topic, int64_t limit,
                         enum status (*take)(const struct letter *letter, void *context,
                                             struct error *error),
                         void *context, struct error *error)
{
    int count = 0;
    struct kafka_consumer *consumer = NULL;
    enum status status =
        kafka_topic_partitions(config->kafka, topic, KAFKA_TIMEOUT_MS, &count, error);
    if (status == STATUS_OK)
        status = kafka_consumer_assign(config->kafka, NULL, 0, &consumer, error);
    for (int32_t i = 0; status == STATUS_OK && i < count; i++) {
        int64_t low;
        int64_t high;
        status =
            kafka_consumer_watermarks(consumer, topic, i, KAFKA_TIMEOUT_MS, &low, &high, error);
        if (status != STATUS_OK || high <= low)
            continue;
        struct kafka_position position = {
            .topic = topic, .partition = i, .offset = high - low > limit ? high - limit : low};
        status = read_partition(config, &position, high, take, context, error);
    }
    kafka_consumer_close(consumer);
    return status;
}
