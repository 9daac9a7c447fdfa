/* Gaps and halts in PostgreSQL: see core/archive/gap.h. */
#include "core/archive/gap.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { NUMBER_BYTES = 24 };

enum status gaps_list(struct postgres *postgres, const char *topic, struct gap **out, size_t *count,
                      struct error *error)
{
    *out = NULL;
    *count = 0;
    PGresult *result = NULL;
    enum status status =
        postgres_query(postgres,
                       "SELECT partition, from_offset, to_offset, speed_offset, reason = 'new log'"
                       " FROM dovetail_internal.gap WHERE topic = $1"
                       " ORDER BY partition, from_offset",
                       1, &topic, &result, error);
    size_t rows = status == STATUS_OK ? (size_t)PQntuples(result) : 0;
    struct gap *gaps = calloc(rows + 1, sizeof *gaps);
    if (status == STATUS_OK && gaps == NULL)
        status = error_no_memory(error);
    for (size_t i = 0; status == STATUS_OK && i < rows; i++)
        gaps[i] = (struct gap){.partition = (int32_t)postgres_int64(result, (int)i, 0),
                               .from_offset = postgres_int64(result, (int)i, 1),
                               .to_offset = postgres_int64(result, (int)i, 2),
                               .speed_offset = postgres_int64(result, (int)i, 3),
                               .new_log = postgres_bool(result, (int)i, 4)};
    PQclear(result);
    if (status != STATUS_OK) {
        free(gaps);
        return status;
    }
    *out = gaps;
    *count = rows;
    return STATUS_OK;
}

int64_t gaps_pass(const struct gap *gaps, size_t count, int32_t partition, int64_t offset)
{
    /* In the order of offsets: one may begin where another ends. */
    for (size_t i = 0; i < count; i++)
        if (gaps[i].partition == partition && gaps[i].from_offset <= offset &&
            offset < gaps[i].to_offset)
            offset = gaps[i].to_offset;
    return offset;
}

bool gaps_resume_at(const struct gap *gaps, size_t count, int32_t partition, int64_t offset)
{
    for (size_t i = 0; i < count; i++)
        if (gaps[i].partition == partition && gaps[i].to_offset == offset)
            return true;
    return false;
}

int64_t gaps_log_begins(const struct gap *gaps, size_t count, int32_t partition)
{
    int64_t begins = 0;
    for (size_t i = 0; i < count; i++)
        if (gaps[i].partition == partition && gaps[i].new_log && gaps[i].to_offset > begins)
            begins = gaps[i].to_offset;
    return begins;
}

/* --- halts --- */

enum status halt_note(struct postgres *postgres, const char *layer, const char *topic,
                      int32_t partition, int64_t next_offset, bool new_log, const char *message,
                      struct error *error)
{
    char numbers[2][NUMBER_BYTES];
    snprintf(numbers[0], NUMBER_BYTES, "%" PRId32, partition);
    snprintf(numbers[1], NUMBER_BYTES, "%" PRId64, next_offset);
    const char *parameters[] = {topic, numbers[0], layer, numbers[1], message, new_log ? "t" : "f"};
    PGresult *result = NULL;
    enum status status = postgres_query(
        postgres,
        "INSERT INTO dovetail_internal.halt (topic, partition, layer, next_offset, message, "
        "new_log)"
        " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (topic, partition, layer) DO UPDATE"
        " SET next_offset = EXCLUDED.next_offset, message = EXCLUDED.message,"
        " new_log = EXCLUDED.new_log",
        6, parameters, &result, error);
    PQclear(result);
    return status;
}

enum status halt_clear(struct postgres *postgres, const char *layer, const char *topic,
                       int32_t partition, struct error *error)
{
    char number[NUMBER_BYTES];
    snprintf(number, sizeof number, "%" PRId32, partition);
    const char *parameters[] = {topic, number, layer};
    PGresult *result = NULL;
    enum status status = postgres_query(postgres,
                                        "DELETE FROM dovetail_internal.halt WHERE topic = $1"
                                        " AND partition = $2 AND layer = $3",
                                        3, parameters, &result, error);
    PQclear(result);
    return status;
}

enum status halt_describe(struct error *error, const char *source, const char *topic,
                          int32_t partition, int64_t next, int64_t archived, int64_t low,
                          int64_t high)
{
    static const char hint[] = "`dovetail resume %s --partition %" PRId32 "` tells what to do";
    char advice[400];
    snprintf(advice, sizeof advice, hint, source, partition);
    if (next > high)
        return error_set(error, STATUS_FATAL,
                         "%s[%" PRId32 "]: the log ends at offset %" PRId64
                         ", below offset %" PRId64
                         ", which is next: the topic was made anew or has lost records; %s",
                         topic, partition, high, next, advice);
    return error_set(
        error, STATUS_FATAL,
        "%s[%" PRId32 "]: offsets %" PRId64 " to %" PRId64
        " were deleted from Kafka before they were archived: its log begins at %" PRId64
        ", the archive ends at %" PRId64 "; %s",
        topic, partition, archived > next ? archived : next, low, low, archived, advice);
}

enum status halt_describe_foreign(struct error *error, const char *source, const char *topic,
                                  int32_t partition, int64_t offset)
{
    return error_set(error, STATUS_FATAL,
                     "%s[%" PRId32 "]: the log has another record at offset %" PRId64
                     " than the one that was read there: the topic was made anew;"
                     " `dovetail resume %s --partition %" PRId32 "` tells what to do",
                     topic, partition, offset, source, partition);
}
