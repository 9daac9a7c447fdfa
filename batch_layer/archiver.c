/* Copies topics from Kafka into the archive: see archiver.h.
 *
 * Order matters twice. The manifest row comes after the file is durable (core/archive/archive.h).
 * And an end of the log is taken down with a time from before it was asked for, so that "every
 * record that was in the log then is below it" holds. */
#include "batch_layer/archiver.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch_layer/leftovers.h"
#include "core/archive/gap.h"
#include "core/kafka/kafka.h"
#include "core/records/mask.h"
#include "core/program/program.h"

enum {
    KAFKA_TIMEOUT_MS = 10000,
    KAFKA_SILENCE_US = 60 * 1000 * 1000, /* records are due and none came: give up */
    POLL_MS = 100,
    SEGMENT_RECORDS_MAX = 1 << 24, /* bounds the segments of records without bytes */
};

/* The mask of one topic. */
struct archiver_mask {
    char *topic;
    json_t *json; /* the member "mask" of the definition */
    char *paths;
    struct record_mask *masker;
};

struct archiver {
    const struct config *config;
    struct postgres *postgres;
    struct kafka_consumer *consumer;
    struct kafka_consumer *asker; /* reads nothing: its questions do not wait behind a fetch */
    struct archiver_partition *partitions;
    size_t count;
    int64_t listed_us;           /* wall clock: before Kafka was asked which there are */
    size_t last;                 /* where the last message belonged: they come in runs */
    struct archiver_mask *masks; /* of the topics that have one */
    size_t mask_count;
    char *definitions; /* what the masks were made from */
    int64_t record_count;
    int64_t raw_bytes;
};

enum status archiver_create(const struct config *config, struct postgres *postgres,
                            struct archiver **out, struct error *error)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return error_no_memory(error);
    (*out)->config = config;
    (*out)->postgres = postgres;
    return STATUS_OK;
}

/* --- masks --- */

static void free_masks(struct archiver *archiver)
{
    for (size_t i = 0; i < archiver->mask_count; i++) {
        free(archiver->masks[i].topic);
        free(archiver->masks[i].paths);
        json_decref(archiver->masks[i].json);
        record_mask_destroy(archiver->masks[i].masker);
    }
    free(archiver->masks);
    free(archiver->definitions);
    archiver->masks = NULL;
    archiver->mask_count = 0;
    archiver->definitions = NULL;
}

static struct archiver_mask *find_mask(struct archiver *archiver, const char *topic)
{
    for (size_t i = 0; i < archiver->mask_count; i++)
        if (strcmp(archiver->masks[i].topic, topic) == 0)
            return &archiver->masks[i];
    return NULL;
}

static enum status add_mask(struct archiver *archiver, const struct source *source,
                            struct error *error)
{
    struct archiver_mask *mask = &archiver->masks[archiver->mask_count++];
    mask->topic = strdup(source->topic);
    mask->json = json_deep_copy(json_object_get(source->json, "mask"));
    mask->paths = mask_paths_text(source);
    if (mask->topic == NULL || mask->json == NULL || mask->paths == NULL)
        return error_no_memory(error);
    return record_mask_create(source, &mask->masker, error);
}

/* The definitions of the sources that have a mask, to know when one changes. */
static char *definitions_text(const struct catalog *catalog)
{
    json_t *all = json_array();
    bool failed = all == NULL;
    for (size_t i = 0; !failed && i < catalog->source_count; i++)
        if (catalog->sources[i]->mask_count > 0)
            failed = json_array_append(all, catalog->sources[i]->json) != 0;
    char *text = failed ? NULL : json_dumps(all, JSON_COMPACT);
    json_decref(all);
    return text;
}

/* Takes the catalogue's masks up; *changed where they are others than before. */
static enum status update_masks(struct archiver *archiver, const struct catalog *catalog,
                                bool *changed, struct error *error)
{
    char *definitions = definitions_text(catalog);
    *changed = false;
    if (definitions == NULL)
        return error_no_memory(error);
    if (archiver->definitions != NULL && strcmp(archiver->definitions, definitions) == 0) {
        free(definitions);
        return STATUS_OK;
    }
    *changed = true;
    enum status status = STATUS_OK;
    free_masks(archiver);
    archiver->definitions = definitions;
    archiver->masks = calloc(catalog->source_count + 1, sizeof *archiver->masks);
    if (archiver->masks == NULL)
        return error_no_memory(error);
    for (size_t i = 0; status == STATUS_OK && i < catalog->source_count; i++)
        if (catalog->sources[i]->mask_count > 0)
            status = add_mask(archiver, catalog->sources[i], error);
    return status;
}

static void free_partitions(struct archiver_partition *partitions, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        archive_writer_destroy(partitions[i].writer);
        free(partitions[i].topic);
        free(partitions[i].source);
    }
    free(partitions);
}

void archiver_destroy(struct archiver *archiver)
{
    if (archiver == NULL)
        return;
    kafka_consumer_close(archiver->consumer);
    kafka_consumer_close(archiver->asker);
    free_partitions(archiver->partitions, archiver->count);
    free_masks(archiver);
    free(archiver);
}

int64_t archiver_record_count(const struct archiver *archiver)
{
    return archiver->record_count;
}

int64_t archiver_raw_bytes(const struct archiver *archiver)
{
    return archiver->raw_bytes;
}

struct archiver_partition *archiver_partitions(struct archiver *archiver, size_t *count)
{
    *count = archiver->count;
    return archiver->partitions;
}

struct archiver_partition *archiver_find(struct archiver *archiver, const char *topic,
                                         int32_t partition)
{
    for (size_t i = 0; i < archiver->count; i++)
        if (archiver->partitions[i].partition == partition &&
            strcmp(archiver->partitions[i].topic, topic) == 0)
            return &archiver->partitions[i];
    return NULL;
}

/* --- which partitions there are --- */

static int compare_partitions(const void *a, const void *b)
{
    const struct archiver_partition *left = a;
    const struct archiver_partition *right = b;
    int order = strcmp(left->topic, right->topic);
    if (order != 0)
        return order;
    return left->partition < right->partition ? -1 : left->partition > right->partition;
}

static enum status add_partition(struct archiver_partition **out, size_t *count,
                                 const struct source *source, int32_t number, bool missing,
                                 struct error *error)
{
    struct archiver_partition *grown = realloc(*out, (*count + 1) * sizeof *grown);
    if (grown == NULL)
        return error_no_memory(error);
    *out = grown;
    struct archiver_partition *entry = &grown[(*count)++];
    *entry = (struct archiver_partition){.topic = strdup(source->topic),
                                         .source = strdup(source->name),
                                         .partition = number,
                                         .missing = missing,
                                         .halted = missing,
                                         .check_offset = -1,
                                         .last_offset = -1,
                                         .log_end = -1};
    return entry->topic != NULL && entry->source != NULL ? STATUS_OK : error_no_memory(error);
}

/* Partitions that had records once and that Kafka does not know any more, because the topic was
 * deleted or made anew with fewer: what is archived of them stays in the answers. */
static enum status add_missing(const struct archiver *archiver, const struct source *source,
                               int32_t known, struct archiver_partition **out, size_t *count,
                               struct error *error)
{
    PGresult *result = NULL;
    const char *parameters[] = {source->topic};
    bool any = known > 0;
    enum status status = postgres_query(archiver->postgres,
                                        "SELECT partition FROM dovetail_internal.position"
                                        " WHERE topic = $1 ORDER BY partition",
                                        1, parameters, &result, error);
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++) {
        int32_t number = (int32_t)postgres_int64(result, row, 0);
        any = true;
        if (number >= known)
            status = add_partition(out, count, source, number, true, error);
    }
    PQclear(result);
    if (status == STATUS_OK && !any)
        status = error_set(error, STATUS_FATAL,
                           "topic %s does not exist; `dovetail init` creates it", source->topic);
    return status;
}

/* Asks Kafka for the partitions of every source's topic. *out is the caller's in every case. */
static enum status list_partitions(const struct archiver *archiver, const struct catalog *catalog,
                                   struct archiver_partition **out, size_t *count,
                                   struct error *error)
{
    *out = NULL;
    *count = 0;
    for (size_t i = 0; i < catalog->source_count; i++) {
        const char *topic = catalog->sources[i]->topic;
        if (!archive_topic_is_valid(topic))
            return error_set(error, STATUS_REJECT, "\"%s\" is not a topic's name", topic);
        int partitions;
        enum status status = kafka_topic_partitions(archiver->config->kafka, topic,
                                                    KAFKA_TIMEOUT_MS, &partitions, error);
        if (status != STATUS_OK)
            return status;
        if (partitions > 0)
            status = kafka_topics_check_uncompacted(archiver->config->kafka, &topic, 1,
                                                    KAFKA_TIMEOUT_MS, error);
        for (int32_t p = 0; status == STATUS_OK && p < partitions; p++)
            status = add_partition(out, count, catalog->sources[i], p, false, error);
        if (status == STATUS_OK)
            status = add_missing(archiver, catalog->sources[i], partitions > 0 ? partitions : 0,
                                 out, count, error);
        if (status != STATUS_OK)
            return status;
    }
    if (*count > 0)
        qsort(*out, *count, sizeof **out, compare_partitions);
    return STATUS_OK;
}

/* The same, and nothing stands still that may go on by now. */
static bool same_partitions(const struct archiver *archiver,
                            const struct archiver_partition *partitions, size_t count)
{
    if (archiver->consumer == NULL || archiver->count != count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (archiver->partitions[i].halted || partitions[i].missing ||
            compare_partitions(&archiver->partitions[i], &partitions[i]) != 0)
            return false;
    return true;
}

/* --- position rows and the manifest's end --- */

/* First and end offset of every partition's log; *lows has one for each. The time is from before,
 * and not later than that of the list: nothing is known of a partition that was added since. */
static enum status ask_logs(struct archiver *archiver, int64_t *lows, struct error *error)
{
    for (size_t i = 0; i < archiver->count; i++) {
        struct archiver_partition *partition = &archiver->partitions[i];
        int64_t low;
        int64_t high;
        if (partition->missing)
            continue;
        enum status status =
            kafka_consumer_watermarks(archiver->asker, partition->topic, partition->partition,
                                      KAFKA_TIMEOUT_MS, &low, &high, error);
        if (status != STATUS_OK)
            return status;
        partition->log_end = high;
        partition->log_end_at_us = archiver->listed_us;
        if (lows != NULL)
            lows[i] = low;
    }
    return STATUS_OK;
}

static enum status add_all_positions(struct archiver *archiver, const int64_t *lows,
                                     struct error *error)
{
    enum status status = catalog_lock(archiver->postgres, error);
    for (size_t first = 0, end; status == STATUS_OK && first < archiver->count; first = end) {
        const char *topic = archiver->partitions[first].topic;
        for (end = first + 1; end < archiver->count; end++)
            if (strcmp(archiver->partitions[end].topic, topic) != 0)
                break;
        status = catalog_add_partitions(archiver->postgres, topic, lows + first, (int)(end - first),
                                        error);
    }
    return status;
}

/* Makes missing position rows: a partition's history begins where its log begins now. */
static enum status add_positions(struct archiver *archiver, const int64_t *lows,
                                 struct error *error)
{
    struct error ignored;
    enum status status = postgres_execute(archiver->postgres, "BEGIN", error);
    if (status == STATUS_OK)
        status = add_all_positions(archiver, lows, error);
    if (status == STATUS_OK)
        status = postgres_execute(archiver->postgres, "COMMIT", error);
    else
        (void)!postgres_execute(archiver->postgres, "ROLLBACK", &ignored);
    return status;
}

static enum status read_positions(struct archiver *archiver, struct error *error)
{
    PGresult *result = NULL;
    enum status status =
        postgres_query(archiver->postgres,
                       "SELECT p.topic, p.partition, p.base_offset,"
                       " COALESCE((SELECT max(s.end_offset) FROM dovetail_internal.segment s"
                       "   WHERE s.topic = p.topic AND s.partition = p.partition), p.base_offset),"
                       " COALESCE(l.last_offset, -1), COALESCE(l.last_timestamp_ms, -1)"
                       " FROM dovetail_internal.position p"
                       " LEFT JOIN dovetail_internal.archived_last l USING (topic, partition)",
                       0, NULL, &result, error);
    size_t found = 0;
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++) {
        struct archiver_partition *partition = archiver_find(
            archiver, PQgetvalue(result, row, 0), (int32_t)postgres_int64(result, row, 1));
        if (partition == NULL)
            continue;
        partition->base_offset = postgres_int64(result, row, 2);
        partition->archived_end = partition->next_offset = postgres_int64(result, row, 3);
        partition->check_offset = postgres_int64(result, row, 4);
        partition->check_timestamp_ms = postgres_int64(result, row, 5);
        if (partition->check_timestamp_ms < 0)
            partition->check_offset = -1;
        found++;
    }
    PQclear(result);
    if (status == STATUS_OK && found != archiver->count)
        status = error_set(error, STATUS_FATAL, "%zu of %zu partitions have no position row",
                           archiver->count - found, archiver->count);
    return status;
}

/* --- partitions that stand still --- */

static enum status halt(struct archiver *archiver, struct archiver_partition *partition,
                        bool new_log, const struct error *why, struct error *error)
{
    partition->halted = true;
    program_log(LOG_ERR, "halted: %s", why->text);
    return halt_note(archiver->postgres, "batch", partition->topic, partition->partition,
                     partition->next_offset, new_log, why->text, error);
}

static enum status halt_missing(struct archiver *archiver, struct archiver_partition *partition,
                                struct error *error)
{
    struct error why;
    (void)!error_set(&why, STATUS_FATAL,
                     "%s[%" PRId32 "]: Kafka has no such partition any more; offset %" PRId64
                     " would be next",
                     partition->topic, partition->partition, partition->next_offset);
    return halt(archiver, partition, false, &why, error);
}

/* Is the next offset in the log, which begins at `low` and ends at log_end? If not it is halted. */
static enum status check_log(struct archiver *archiver, struct archiver_partition *partition,
                             int64_t low, const struct gap *gaps, size_t gap_count,
                             struct error *error)
{
    struct error why;
    if (partition->missing)
        return halt_missing(archiver, partition, error);
    int64_t next = gaps_pass(gaps, gap_count, partition->partition, partition->next_offset);
    if (next > partition->next_offset)
        program_log(LOG_NOTICE,
                    "%s[%" PRId32 "]: the gap from offset %" PRId64 " to %" PRId64
                    " is archived as a hole",
                    partition->topic, partition->partition, partition->next_offset, next);
    partition->next_offset = next;
    partition->halted = next < low || next > partition->log_end;
    if (partition->halted && next > partition->log_end &&
        gaps_resume_at(gaps, gap_count, partition->partition, next))
        program_log(LOG_NOTICE,
                    "%s[%" PRId32 "]: waiting until the new log has grown to offset %" PRId64,
                    partition->topic, partition->partition, next);
    else if (partition->halted) {
        (void)!halt_describe(&why, partition->source, partition->topic, partition->partition, next,
                             next, low, partition->log_end);
        return halt(archiver, partition, false, &why, error);
    }
    if (partition->check_offset < low ||
        partition->check_offset < gaps_log_begins(gaps, gap_count, partition->partition))
        partition->check_offset = -1;
    return halt_clear(archiver->postgres, "batch", partition->topic, partition->partition, error);
}

static enum status check_logs(struct archiver *archiver, const int64_t *lows, struct error *error)
{
    struct gap *gaps = NULL;
    size_t gap_count = 0;
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < archiver->count; i++) {
        struct archiver_partition *partition = &archiver->partitions[i];
        if (i == 0 || strcmp(partition->topic, archiver->partitions[i - 1].topic) != 0) {
            free(gaps);
            gaps = NULL;
            status = gaps_list(archiver->postgres, partition->topic, &gaps, &gap_count, error);
        }
        if (status == STATUS_OK)
            status = check_log(archiver, partition, lows[i], gaps, gap_count, error);
    }
    free(gaps);
    return status;
}

static enum status assign(struct archiver *archiver, struct error *error)
{
    struct kafka_position *positions = calloc(archiver->count + 1, sizeof *positions);
    if (positions == NULL)
        return error_no_memory(error);
    size_t count = 0;
    for (size_t i = 0; i < archiver->count; i++)
        if (!archiver->partitions[i].halted)
            positions[count++] =
                (struct kafka_position){.topic = archiver->partitions[i].topic,
                                        .partition = archiver->partitions[i].partition,
                                        .offset = archiver->partitions[i].check_offset >= 0
                                                      ? archiver->partitions[i].check_offset
                                                      : archiver->partitions[i].next_offset};
    enum status status = STATUS_OK;
    if (archiver->consumer == NULL)
        status = kafka_consumer_assign(archiver->config->kafka, positions, count,
                                       &archiver->consumer, error);
    else
        status = kafka_consumer_restart(archiver->consumer, positions, count, error);
    if (status == STATUS_OK)
        kafka_consumer_tell_gone(archiver->consumer);
    free(positions);
    return status;
}

static enum status clear_leftovers(struct archiver *archiver, const struct catalog *catalog,
                                   const int64_t *lows, struct error *error)
{
    bool adopted;
    enum status status =
        leftovers_clear(archiver->config, archiver->postgres, catalog, archiver->partitions,
                        archiver->count, lows, &adopted, error);
    return status == STATUS_OK && adopted ? read_positions(archiver, error) : status;
}

static enum status begin(struct archiver *archiver, const struct catalog *catalog,
                         struct error *error)
{
    int64_t *lows = calloc(archiver->count + 1, sizeof *lows);
    enum status status = lows == NULL ? error_no_memory(error) : STATUS_OK;
    if (status == STATUS_OK && archiver->asker == NULL)
        status = kafka_consumer_assign(archiver->config->kafka, NULL, 0, &archiver->asker, error);
    if (status == STATUS_OK)
        status = ask_logs(archiver, lows, error);
    if (status == STATUS_OK)
        status = add_positions(archiver, lows, error);
    if (status == STATUS_OK)
        status = read_positions(archiver, error);
    if (status == STATUS_OK)
        status = clear_leftovers(archiver, catalog, lows, error);
    if (status == STATUS_OK)
        status = check_logs(archiver, lows, error);
    if (status == STATUS_OK)
        status = assign(archiver, error);
    free(lows);
    return status;
}

enum status archiver_prepare(struct archiver *archiver, const struct catalog *catalog,
                             struct error *error)
{
    struct archiver_partition *partitions;
    size_t count;
    bool masks_changed;
    enum status status = update_masks(archiver, catalog, &masks_changed, error);
    if (status != STATUS_OK)
        return status;
    int64_t listing_us = program_clock_us();
    status = list_partitions(archiver, catalog, &partitions, &count, error);
    if (status == STATUS_OK && (masks_changed || !same_partitions(archiver, partitions, count))) {
        /* Under another mask the open segments are thrown away and read again. */
        if (!masks_changed)
            status = archiver_flush(archiver, error);
        if (status == STATUS_OK) {
            free_partitions(archiver->partitions, archiver->count);
            archiver->partitions = partitions;
            archiver->count = count;
            archiver->last = 0;
            archiver->listed_us = listing_us;
            return begin(archiver, catalog, error);
        }
    } else if (status == STATUS_OK) {
        archiver->listed_us = listing_us;
    }
    free_partitions(partitions, count);
    return status;
}

/* --- segments --- */

static enum status create_writer(struct archiver *archiver, struct archiver_partition *partition,
                                 struct error *error)
{
    const struct archiver_mask *mask = find_mask(archiver, partition->topic);
    enum status status = archive_writer_create(archiver->config->batch_archive, partition->topic,
                                               partition->partition, partition->archived_end,
                                               &partition->writer, error);
    if (status == STATUS_OK)
        archive_writer_set_level(partition->writer, (int)archiver->config->batch_compression_level);
    if (status == STATUS_OK && mask != NULL)
        status = archive_writer_set_masked(partition->writer, mask->paths, error);
    return status;
}

/* Nothing is archived by a mask that is no longer the registered one: the segment is thrown away
 * and read again. */
static enum status check_mask(struct archiver *archiver, const struct archiver_partition *partition,
                              struct error *error)
{
    const struct archiver_mask *mask = find_mask(archiver, partition->topic);
    const char *parameters[] = {partition->topic};
    PGresult *result = NULL;
    enum status status = postgres_query(archiver->postgres,
                                        "SELECT definition -> 'mask' FROM dovetail_internal.source"
                                        " WHERE topic = $1",
                                        1, parameters, &result, error);
    json_t *now = NULL;
    if (status == STATUS_OK && PQntuples(result) == 1 && !PQgetisnull(result, 0, 0))
        now = json_loads(PQgetvalue(result, 0, 0), 0, NULL);
    bool same = mask == NULL ? now == NULL : now != NULL && json_equal(mask->json, now);
    json_decref(now);
    PQclear(result);
    if (status == STATUS_OK && !same)
        status = error_set(error, STATUS_RETRY,
                           "%s[%" PRId32 "]: the mask has changed; what is not archived yet is read"
                           " again",
                           partition->topic, partition->partition);
    return status;
}

enum status archiver_note_last(struct postgres *postgres, const char *topic, int32_t partition,
                               int64_t offset, int64_t timestamp_ms, struct error *error)
{
    char numbers[3][24];
    snprintf(numbers[0], sizeof numbers[0], "%" PRId32, partition);
    snprintf(numbers[1], sizeof numbers[1], "%" PRId64, offset);
    snprintf(numbers[2], sizeof numbers[2], "%" PRId64, timestamp_ms);
    const char *parameters[] = {topic, numbers[0], numbers[1], numbers[2]};
    PGresult *result = NULL;
    enum status status = postgres_query(
        postgres,
        "INSERT INTO dovetail_internal.archived_last AS l VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (topic, partition) DO UPDATE SET last_offset = EXCLUDED.last_offset,"
        " last_timestamp_ms = EXCLUDED.last_timestamp_ms",
        4, parameters, &result, error);
    PQclear(result);
    return status;
}

static enum status close_segment(struct archiver *archiver, struct archiver_partition *partition,
                                 struct error *error)
{
    if (partition->next_offset == partition->archived_end)
        return STATUS_OK;
    enum status status = STATUS_OK;
    if (partition->writer == NULL) /* nothing but a hole, such as the marker of a transaction */
        status = create_writer(archiver, partition, error);
    if (status == STATUS_OK)
        status = check_mask(archiver, partition, error);
    struct archive_segment segment = {0};
    if (status == STATUS_OK)
        status = archive_writer_finish(partition->writer, partition->next_offset, &segment, error);
    if (status == STATUS_OK)
        status = archive_manifest_add(archiver->postgres, &segment, error);
    archive_segment_deinit(&segment);
    if (status == STATUS_OK && partition->last_offset >= 0)
        status = archiver_note_last(archiver->postgres, partition->topic, partition->partition,
                                    partition->last_offset, partition->last_timestamp_ms, error);
    if (status != STATUS_OK)
        return status;
    archive_writer_destroy(partition->writer);
    partition->writer = NULL;
    partition->archived_end = partition->next_offset;
    return STATUS_OK;
}

enum status archiver_flush(struct archiver *archiver, struct error *error)
{
    for (size_t i = 0; i < archiver->count; i++) {
        enum status status = close_segment(archiver, &archiver->partitions[i], error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status add_record(struct archiver *archiver, struct archiver_partition *partition,
                              const rd_kafka_message_t *message, struct error *error)
{
    enum status status = STATUS_OK;
    if (partition->writer == NULL)
        status = create_writer(archiver, partition, error);
    if (status != STATUS_OK)
        return status;
    rd_kafka_timestamp_type_t type;
    struct archive_record record = {.offset = message->offset,
                                    .timestamp_ms = rd_kafka_message_timestamp(message, &type),
                                    .value = message->payload,
                                    .length = message->payload == NULL ? 0 : message->len,
                                    .readable = message->payload == NULL ? 0 : message->len};
    const struct archiver_mask *mask = find_mask(archiver, partition->topic);
    if (mask != NULL)
        status = record_mask_apply(mask->masker, record.value, record.length, &record.value,
                                   &record.length, error);
    record.readable = record.length;
    if (status == STATUS_OK)
        status = archive_writer_add(partition->writer, &record, error);
    if (status != STATUS_OK)
        return status;
    partition->next_offset = message->offset + 1;
    partition->last_offset = record.offset;
    partition->last_timestamp_ms = record.timestamp_ms;
    archiver->record_count++;
    archiver->raw_bytes += (int64_t)record.length;
    bool full =
        archive_writer_raw_bytes(partition->writer) >= archiver->config->batch_segment_bytes ||
        archive_writer_record_count(partition->writer) >= SEGMENT_RECORDS_MAX;
    return full ? close_segment(archiver, partition, error) : STATUS_OK;
}

static struct archiver_partition *partition_of(struct archiver *archiver,
                                               const rd_kafka_message_t *message)
{
    const char *topic = rd_kafka_topic_name(message->rkt);
    struct archiver_partition *last = &archiver->partitions[archiver->last];
    if (last->partition == message->partition && strcmp(last->topic, topic) == 0)
        return last;
    struct archiver_partition *found = archiver_find(archiver, topic, message->partition);
    if (found != NULL)
        archiver->last = (size_t)(found - archiver->partitions);
    return found;
}

/* The log does not have the next offset any more: retention was faster than this process. */
static enum status take_gone(struct archiver *archiver, struct archiver_partition *partition,
                             struct error *error)
{
    int64_t low;
    enum status status =
        kafka_consumer_watermarks(archiver->asker, partition->topic, partition->partition,
                                  KAFKA_TIMEOUT_MS, &low, &partition->log_end, error);
    if (status == STATUS_OK)
        status = check_log(archiver, partition, low, NULL, 0, error);
    /* What is in the open segment needs no more records to be archived. */
    if (status == STATUS_OK && partition->halted)
        return close_segment(archiver, partition, error);
    return status == STATUS_OK ? assign(archiver, error) : status;
}

/* The first record that comes: is it the last one of the archive, where it has its offset? */
static bool is_known(struct archiver_partition *partition, const rd_kafka_message_t *message)
{
    bool known = message->offset != partition->check_offset ||
                 rd_kafka_message_timestamp(message, NULL) == partition->check_timestamp_ms;
    partition->check_offset = -1;
    return known;
}

static enum status take_foreign(struct archiver *archiver, struct archiver_partition *partition,
                                int64_t offset, struct error *error)
{
    struct error why;
    (void)!halt_describe_foreign(&why, partition->source, partition->topic, partition->partition,
                                 offset);
    return halt(archiver, partition, true, &why, error);
}

static enum status take_message(struct archiver *archiver, const rd_kafka_message_t *message,
                                struct error *error)
{
    struct archiver_partition *partition = partition_of(archiver, message);
    if (partition == NULL || partition->halted)
        return STATUS_OK;
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR && partition->check_offset >= 0 &&
        !is_known(partition, message))
        return take_foreign(archiver, partition, message->offset, error);
    if (message->offset < partition->next_offset)
        return STATUS_OK; /* fetched before the last assignment, or to be checked */
    if (message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET)
        return take_gone(archiver, partition, error);
    if (message->err != RD_KAFKA_RESP_ERR__PARTITION_EOF)
        return add_record(archiver, partition, message, error);
    partition->next_offset = message->offset; /* whatever lies between is no record */
    return STATUS_OK;
}

/* --- reading --- */

/* Polls once; *progressed where there was something. */
static enum status poll_once(struct archiver *archiver, int timeout_ms, bool *progressed,
                             struct error *error)
{
    rd_kafka_message_t *message = NULL;
    enum status status = kafka_consumer_poll(archiver->consumer, timeout_ms, &message, error);
    *progressed = status == STATUS_OK && message != NULL;
    if (!*progressed)
        return status;
    status = take_message(archiver, message, error);
    rd_kafka_message_destroy(message);
    return status;
}

/* The first partition that has not reached the end its log had; NULL: none. */
static const struct archiver_partition *first_behind(const struct archiver *archiver)
{
    for (size_t i = 0; i < archiver->count; i++)
        if (!archiver->partitions[i].halted &&
            archiver->partitions[i].next_offset < archiver->partitions[i].log_end)
            return &archiver->partitions[i];
    return NULL;
}

/* Has the partition of the last message reached its end? */
static bool last_reached(const struct archiver *archiver)
{
    const struct archiver_partition *last = &archiver->partitions[archiver->last];
    return last->halted || last->next_offset >= last->log_end;
}

static int64_t records_due(const struct archiver *archiver)
{
    int64_t due = 0;
    for (size_t i = 0; i < archiver->count; i++)
        if (!archiver->partitions[i].halted &&
            archiver->partitions[i].log_end > archiver->partitions[i].next_offset)
            due += archiver->partitions[i].log_end - archiver->partitions[i].next_offset;
    return due;
}

static enum status read_to_log_ends(struct archiver *archiver, struct progress *progress,
                                    struct error *error)
{
    int64_t begun_count = archiver->record_count;
    int64_t heard_us = program_monotonic_us();
    for (int64_t round = 0;; round++) {
        /* The list is short but asked for each record it would cost; hence now and then. */
        bool look = round % 256 == 0;
        bool progressed;
        enum status status = poll_once(archiver, look ? 0 : POLL_MS, &progressed, error);
        if (status != STATUS_OK)
            return status;
        if (progressed && !look && !last_reached(archiver))
            continue;
        const struct archiver_partition *behind = first_behind(archiver);
        if (behind == NULL)
            return STATUS_OK;
        if (program_stopping())
            return error_set(error, STATUS_RETRY, "stopped");
        int64_t now_us = program_monotonic_us();
        if (progressed)
            heard_us = now_us;
        else if (now_us - heard_us > KAFKA_SILENCE_US)
            return error_set(error, STATUS_RETRY,
                             "Kafka has been silent for %d s; %s[%" PRId32 "] has records up to"
                             " offset %" PRId64 " and was read up to %" PRId64,
                             KAFKA_SILENCE_US / 1000000, behind->topic, behind->partition,
                             behind->log_end, behind->next_offset);
        progress_update(progress, archiver->record_count - begun_count);
    }
}

enum status archiver_catch_up(struct archiver *archiver, struct error *error)
{
    enum status status = ask_logs(archiver, NULL, error);
    if (status != STATUS_OK)
        return status;
    struct progress progress;
    int64_t begun_count = archiver->record_count;
    progress_begin(&progress, "load", "records", records_due(archiver));
    status = read_to_log_ends(archiver, &progress, error);
    if (status == STATUS_OK)
        status = archiver_flush(archiver, error);
    progress_end(&progress, archiver->record_count - begun_count);
    return status;
}

enum status archiver_follow(struct archiver *archiver, int64_t until_us, struct error *error)
{
    enum status status = STATUS_OK;
    while (status == STATUS_OK && !program_stopping()) {
        int64_t left_ms = (until_us - program_monotonic_us()) / 1000;
        if (left_ms <= 0)
            break;
        bool progressed;
        status =
            poll_once(archiver, (int)(left_ms < POLL_MS ? left_ms : POLL_MS), &progressed, error);
    }
    return status;
}
