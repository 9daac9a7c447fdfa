/* Which partitions there are, and where each begins and has come to: see archiver_internal.h.
 *
 * An end of the log is taken down with a time from before it was asked for, so that "every record
 * that was in the log then is below it" holds. */
#include <stdlib.h>
#include <string.h>

#include "batch_layer/archiver_internal.h"
#include "core/catalog/lock_wait.h"

void archiver_free_partitions(struct archiver_partition *partitions, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        archive_writer_destroy(partitions[i].writer);
        free(partitions[i].topic);
        free(partitions[i].source);
    }
    free(partitions);
}

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
enum status archiver_list_partitions(const struct archiver *archiver, const struct catalog *catalog,
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
                                                    ARCHIVER_KAFKA_TIMEOUT_MS, &partitions, error);
        if (status != STATUS_OK)
            return status;
        if (partitions > 0)
            status = kafka_topics_check_uncompacted(archiver->config->kafka, &topic, 1,
                                                    ARCHIVER_KAFKA_TIMEOUT_MS, error);
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
bool archiver_same_partitions(const struct archiver *archiver,
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
enum status archiver_ask_logs(struct archiver *archiver, int64_t *lows, struct error *error)
{
    for (size_t i = 0; i < archiver->count; i++) {
        struct archiver_partition *partition = &archiver->partitions[i];
        int64_t low;
        int64_t high;
        if (partition->missing)
            continue;
        enum status status =
            kafka_consumer_watermarks(archiver->asker, partition->topic, partition->partition,
                                      ARCHIVER_KAFKA_TIMEOUT_MS, &low, &high, error);
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
enum status archiver_add_positions(struct archiver *archiver, const int64_t *lows,
                                   struct error *error)
{
    struct lock_wait wait = lock_wait_begin();
    enum status status;
    do {
        status = postgres_execute(archiver->postgres, "BEGIN; " LOCK_WAIT_SQL, error);
        if (status == STATUS_OK)
            status = add_all_positions(archiver, lows, error);
        if (status == STATUS_OK)
            status = postgres_execute(archiver->postgres, "COMMIT", error);
        if (status != STATUS_OK)
            (void)!postgres_execute(archiver->postgres, "ROLLBACK", NULL);
    } while (lock_wait_again(&wait, archiver->postgres, status, error));
    return status;
}

enum status archiver_read_positions(struct archiver *archiver, struct error *error)
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
