/* Sending records of dead letters: see cli/replay_batch.h. */
#include "cli/replay_batch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/kafka/kafka.h"
#include "core/program/program.h"

enum {
    ITEMS_MAX = 500,
    BYTES_MAX = 8 << 20,
    KAFKA_TIMEOUT_MS = 15000,
    COMMIT_MS = 60000,
    POLL_MS = 500,
    POLL_LIMIT = 60,
    NUMBER_BYTES = 24,
    TIME_BYTES = 40,
    ID_BYTES = 100,
};

struct item {
    int32_t partition;
    int64_t offset;
    char recorded_at[TIME_BYTES];
    int32_t letter_partition;
    int64_t letter_offset;
    char *bytes; /* key, then value; owned */
    size_t key_length;
    size_t value_length;
    bool has_key;
    bool has_value;
    rd_kafka_headers_t *headers; /* owned; the record's own, and how often it was replayed */
};

struct replay_batch {
    const struct config *config;
    struct postgres *postgres;
    const char *deployment_id;
    const char *topic;
    int partition_count;
    char letter_topic[256];
    struct kafka_producer *producer;
    struct kafka_consumer *asker;
    struct item items[ITEMS_MAX];
    size_t count;
    size_t bytes;
    int64_t sent;
};

static void recorded_at(const struct letter *letter, char out[TIME_BYTES])
{
    (void)!letter_text(letter, "dovetail.timestamp", out, TIME_BYTES);
}

/* --- what is known --- */

enum status replay_is_known(struct postgres *postgres, const struct letter *letter, bool *known,
                            struct error *error)
{
    char partition[NUMBER_BYTES], offset[NUMBER_BYTES], at[TIME_BYTES];
    snprintf(partition, sizeof partition, "%" PRId32, letter->partition);
    snprintf(offset, sizeof offset, "%" PRId64, letter->offset);
    recorded_at(letter, at);
    const char *parameters[] = {letter->topic, partition, offset, at};
    PGresult *result = NULL;
    enum status status =
        postgres_query(postgres,
                       "SELECT count(*) FROM dovetail_internal.replay"
                       " WHERE topic = $1 AND partition = $2 AND record_offset = $3"
                       " AND recorded_at = $4",
                       4, parameters, &result, error);
    *known = status == STATUS_OK && postgres_int64(result, 0, 0) > 0;
    PQclear(result);
    return status;
}

static void batch_name(const struct replay_batch *batch, int64_t number, char out[ID_BYTES])
{
    snprintf(out, ID_BYTES, "%s/%" PRId64, batch->deployment_id, number);
}

/* --- after a crash --- */

static bool names_batch(const rd_kafka_message_t *message, const char *name)
{
    rd_kafka_headers_t *headers = NULL;
    const void *value;
    size_t length;
    return rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR &&
           rd_kafka_header_get_last(headers, "dovetail.replay", &value, &length) ==
               RD_KAFKA_RESP_ERR_NO_ERROR &&
           length == strlen(name) && memcmp(value, name, length) == 0;
}

static enum status look_into_partition(const struct replay_batch *batch,
                                       const struct kafka_position *from, const char *name,
                                       bool *found, struct error *error)
{
    struct kafka_consumer *consumer = NULL;
    enum status status = kafka_consumer_assign(batch->config->kafka, from, 1, &consumer, error);
    bool end = false;
    for (int idle = 0; status == STATUS_OK && !end && !*found;) {
        rd_kafka_message_t *message = NULL;
        if (program_stopping()) {
            status = error_set(error, STATUS_RETRY, "interrupted");
            break;
        }
        status = kafka_consumer_poll(consumer, POLL_MS, &message, error);
        if (status == STATUS_OK && message == NULL && ++idle > POLL_LIMIT)
            status = error_set(error, STATUS_RETRY, "Kafka: no answer for topic %s", from->topic);
        if (message == NULL)
            continue;
        idle = 0;
        end = message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
        *found = !end && names_batch(message, name);
        rd_kafka_message_destroy(message);
    }
    kafka_consumer_close(consumer);
    if (status == STATUS_FATAL) /* the offset is gone */
        status = error_wrap(error,
                            "an earlier replay was interrupted, and whether its records (%s) came"
                            " into the topic cannot be seen any more; set the state of its row in"
                            " dovetail_internal.replay_batch, or delete the row",
                            name);
    return status;
}

/* `offsets` is PostgreSQL's text of an array, {1,2,3}. */
static enum status find_in_topic(const struct replay_batch *batch, const char *offsets,
                                 const char *name, bool *found, struct error *error)
{
    enum status status = STATUS_OK;
    const char *at = offsets + 1;
    *found = false;
    for (int32_t i = 0; status == STATUS_OK && !*found && i < batch->partition_count; i++) {
        struct kafka_position position = {.topic = batch->topic, .partition = i};
        if (*at != '\0' && *at != '}') { /* else the partition is a new one */
            char *end;
            position.offset = strtoll(at, &end, 10);
            at = *end == ',' ? end + 1 : end;
        }
        status = look_into_partition(batch, &position, name, found, error);
    }
    return status;
}

static enum status settle(struct replay_batch *batch, struct error *error)
{
    PGresult *result = NULL;
    enum status status =
        postgres_query(batch->postgres,
                       "SELECT batch, from_offsets FROM dovetail_internal.replay_batch"
                       " WHERE topic = $1 AND state = 'sending' ORDER BY batch",
                       1, &batch->topic, &result, error);
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++) {
        char name[ID_BYTES];
        bool found;
        int64_t number = postgres_int64(result, row, 0);
        batch_name(batch, number, name);
        status = find_in_topic(batch, PQgetvalue(result, row, 1), name, &found, error);
        if (status == STATUS_OK)
            status = postgres_executef(
                batch->postgres, error,
                found ? "UPDATE dovetail_internal.replay_batch SET state = 'sent'"
                        " WHERE batch = %" PRId64
                      : "DELETE FROM dovetail_internal.replay_batch WHERE batch = %" PRId64,
                number);
    }
    PQclear(result);
    return status;
}

/* --- making --- */

static enum status lock(struct replay_batch *batch, struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_query(
        batch->postgres, "SELECT pg_try_advisory_lock(hashtext('dovetail replay'), hashtext($1))",
        1, &batch->topic, &result, error);
    if (status == STATUS_OK && !postgres_bool(result, 0, 0))
        status = error_set(error, STATUS_FENCED, "another replay into topic %s is at work",
                           batch->topic);
    PQclear(result);
    return status;
}

enum status replay_batch_create(const struct config *config, struct postgres *postgres,
                                const char *deployment_id, const char *topic,
                                struct replay_batch **out, struct error *error)
{
    char id[400];
    struct replay_batch *batch = calloc(1, sizeof *batch);
    *out = NULL;
    if (batch == NULL)
        return error_no_memory(error);
    batch->config = config;
    batch->postgres = postgres;
    batch->deployment_id = deployment_id;
    batch->topic = topic;
    snprintf(id, sizeof id, "dovetail-replay-%s-%s", deployment_id, topic);
    enum status status = lock(batch, error);
    if (status == STATUS_OK)
        status = kafka_topic_partitions(config->kafka, topic, KAFKA_TIMEOUT_MS,
                                        &batch->partition_count, error);
    if (status == STATUS_OK && batch->partition_count <= 0)
        status = error_set(error, STATUS_REJECT, "topic %s does not exist", topic);
    if (status == STATUS_OK)
        status = kafka_producer_create_transactional(config->kafka, id, KAFKA_TIMEOUT_MS,
                                                     &batch->producer, error);
    if (status == STATUS_OK)
        status = kafka_consumer_assign(config->kafka, NULL, 0, &batch->asker, error);
    if (status == STATUS_OK)
        status = settle(batch, error);
    if (status == STATUS_OK)
        *out = batch;
    else
        replay_batch_destroy(batch);
    return status;
}

static void clear(struct replay_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        free(batch->items[i].bytes);
        if (batch->items[i].headers != NULL)
            rd_kafka_headers_destroy(batch->items[i].headers);
    }
    batch->count = 0;
    batch->bytes = 0;
}

void replay_batch_destroy(struct replay_batch *batch)
{
    if (batch == NULL)
        return;
    clear(batch);
    kafka_producer_destroy(batch->producer);
    kafka_consumer_close(batch->asker);
    free(batch);
}

int64_t replay_batch_sent(const struct replay_batch *batch)
{
    return batch->sent;
}

/* --- adding --- */

static bool is_of_replay(const char *name)
{
    return strcmp(name, "dovetail.replay") == 0 || strcmp(name, "dovetail.replays") == 0;
}

/* The record's own headers, but for those of a replay before, and how often it was replayed. */
static rd_kafka_headers_t *build_headers(const struct letter *letter)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(letter->first + 2);
    bool good = headers != NULL;
    int64_t replays = 0;
    for (size_t i = 0; good && i < letter->first; i++) {
        const char *name;
        const void *value;
        size_t length;
        good = rd_kafka_header_get_all(letter->headers, i, &name, &value, &length) ==
               RD_KAFKA_RESP_ERR_NO_ERROR;
        if (good && strcmp(name, "dovetail.replays") == 0 && length < NUMBER_BYTES) {
            char text[NUMBER_BYTES] = "";
            memcpy(text, value, length);
            replays = strtoll(text, NULL, 10);
        }
        if (good && !is_of_replay(name))
            good = rd_kafka_header_add(headers, name, -1, value, (ssize_t)length) ==
                   RD_KAFKA_RESP_ERR_NO_ERROR;
    }
    char text[NUMBER_BYTES];
    snprintf(text, sizeof text, "%" PRId64,
             replays < 0 || replays == INT64_MAX ? INT64_C(1) : replays + 1);
    if (good)
        good = rd_kafka_header_add(headers, "dovetail.replays", -1, text, -1) ==
               RD_KAFKA_RESP_ERR_NO_ERROR;
    if (good)
        return headers;
    if (headers != NULL)
        rd_kafka_headers_destroy(headers);
    return NULL;
}

static bool is_added(const struct replay_batch *batch, const struct item *item)
{
    for (size_t i = 0; i < batch->count; i++)
        if (batch->items[i].partition == item->partition &&
            batch->items[i].offset == item->offset &&
            strcmp(batch->items[i].recorded_at, item->recorded_at) == 0)
            return true;
    return false;
}

enum status replay_batch_add(struct replay_batch *batch, const struct letter *letter,
                             struct error *error)
{
    const rd_kafka_message_t *message = letter->message;
    struct item item = {.partition = letter->partition,
                        .offset = letter->offset,
                        .letter_partition = message->partition,
                        .letter_offset = message->offset,
                        .has_key = message->key != NULL,
                        .has_value = message->payload != NULL,
                        .key_length = message->key == NULL ? 0 : message->key_len,
                        .value_length = message->payload == NULL ? 0 : message->len};
    recorded_at(letter, item.recorded_at);
    if (is_added(batch, &item)) /* the letter was written twice */
        return STATUS_OK;
    snprintf(batch->letter_topic, sizeof batch->letter_topic, "%s",
             rd_kafka_topic_name(message->rkt));
    item.bytes = malloc(item.key_length + item.value_length + 1);
    item.headers = build_headers(letter);
    batch->items[batch->count++] = item;
    if (item.bytes == NULL || item.headers == NULL)
        return error_no_memory(error);
    if (item.has_key)
        memcpy(item.bytes, message->key, item.key_length);
    if (item.has_value)
        memcpy(item.bytes + item.key_length, message->payload, item.value_length);
    batch->bytes += item.key_length + item.value_length;
    if (batch->count < ITEMS_MAX && batch->bytes < BYTES_MAX)
        return STATUS_OK;
    return replay_batch_send(batch, error);
}

/* --- sending --- */

/* {1,2,3}: the ends of the topic's partitions. Caller frees. */
static enum status ask_ends(const struct replay_batch *batch, char **out, struct error *error)
{
    size_t length;
    FILE *text = open_memstream(out, &length);
    if (text == NULL)
        return error_no_memory(error);
    enum status status = STATUS_OK;
    putc('{', text);
    for (int32_t i = 0; status == STATUS_OK && i < batch->partition_count; i++) {
        int64_t low, high = 0;
        status = kafka_consumer_watermarks(batch->asker, batch->topic, i, KAFKA_TIMEOUT_MS, &low,
                                           &high, error);
        fprintf(text, "%s%" PRId64, i > 0 ? "," : "", high);
    }
    putc('}', text);
    return fclose(text) == 0 ? status : error_no_memory(error);
}

static enum status insert_item(const struct replay_batch *batch, const struct item *item,
                               const char *number, struct error *error)
{
    const int64_t numbers[] = {item->partition, item->offset, item->letter_partition,
                               item->letter_offset};
    char texts[4][NUMBER_BYTES];
    for (size_t i = 0; i < 4; i++)
        snprintf(texts[i], NUMBER_BYTES, "%" PRId64, numbers[i]);
    const char *parameters[] = {batch->topic,        texts[0], texts[1], item->recorded_at, number,
                                batch->letter_topic, texts[2], texts[3]};
    PGresult *result = NULL;
    enum status status =
        postgres_query(batch->postgres,
                       "INSERT INTO dovetail_internal.replay (topic, partition, record_offset,"
                       " recorded_at, batch, letter_topic, letter_partition, letter_offset)"
                       " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                       8, parameters, &result, error);
    PQclear(result);
    return status;
}

static enum status insert_batch(const struct replay_batch *batch, const char *ends, int64_t *number,
                                struct error *error)
{
    const char *parameters[] = {batch->topic, ends};
    PGresult *result = NULL;
    char text[NUMBER_BYTES];
    enum status status = postgres_query(batch->postgres,
                                        "INSERT INTO dovetail_internal.replay_batch"
                                        " (topic, from_offsets, state) VALUES ($1, $2, 'sending')"
                                        " RETURNING batch",
                                        2, parameters, &result, error);
    *number = status == STATUS_OK ? postgres_int64(result, 0, 0) : 0;
    PQclear(result);
    snprintf(text, sizeof text, "%" PRId64, *number);
    for (size_t i = 0; status == STATUS_OK && i < batch->count; i++)
        status = insert_item(batch, &batch->items[i], text, error);
    return status;
}

/* Before anything is produced. */
static enum status write_down(const struct replay_batch *batch, int64_t *number,
                              struct error *error)
{
    char *ends = NULL;
    struct error ignored;
    enum status status = ask_ends(batch, &ends, error);
    if (status == STATUS_OK)
        status = postgres_execute(batch->postgres, "BEGIN", error);
    if (status == STATUS_OK)
        status = insert_batch(batch, ends, number, error);
    if (status == STATUS_OK)
        status = postgres_execute(batch->postgres, "COMMIT", error);
    else
        (void)!postgres_execute(batch->postgres, "ROLLBACK", &ignored);
    free(ends);
    return status;
}

static enum status produce(const struct replay_batch *batch, const struct item *item,
                           const char *name, struct error *error)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_copy(item->headers);
    if (headers == NULL || rd_kafka_header_add(headers, "dovetail.replay", -1, name, -1) !=
                               RD_KAFKA_RESP_ERR_NO_ERROR) {
        if (headers != NULL)
            rd_kafka_headers_destroy(headers);
        return error_no_memory(error);
    }
    /* Where it stood, whatever partitioner its producer had. */
    int32_t partition =
        item->partition < batch->partition_count ? item->partition : RD_KAFKA_PARTITION_UA;
    enum status status = kafka_producer_send(
        batch->producer, batch->topic, partition, item->has_key ? item->bytes : NULL,
        item->key_length, item->has_value ? item->bytes + item->key_length : NULL,
        item->value_length, headers, error);
    if (status != STATUS_OK)
        rd_kafka_headers_destroy(headers);
    return status;
}

enum status replay_batch_send(struct replay_batch *batch, struct error *error)
{
    int64_t number = 0;
    char name[ID_BYTES];
    if (batch->count == 0)
        return STATUS_OK;
    enum status status = write_down(batch, &number, error);
    batch_name(batch, number, name);
    if (status == STATUS_OK)
        status = kafka_producer_begin(batch->producer, error);
    for (size_t i = 0; status == STATUS_OK && i < batch->count; i++)
        status = produce(batch, &batch->items[i], name, error);
    if (status == STATUS_OK)
        status = kafka_producer_commit(batch->producer, COMMIT_MS, error);
    if (status == STATUS_OK)
        batch->sent += (int64_t)batch->count;
    if (status == STATUS_OK)
        status = postgres_executef(batch->postgres, error,
                                   "UPDATE dovetail_internal.replay_batch SET state = 'sent'"
                                   " WHERE batch = %" PRId64,
                                   number);
    clear(batch);
    return status;
}
