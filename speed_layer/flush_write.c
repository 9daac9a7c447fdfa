/* Writing a flush: one fenced transaction.
 *
 * Order matters. The fence comes first: an owner that lost its partition must not touch a row,
 * since the new owner may have begun a slice at the same offset and numbers its groups as we do.
 * From the fence on we hold the position rows, so a claim of these partitions waits for our COMMIT.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/program/program.h"
#include "speed_layer/flush.h"
#include "speed_layer/sql_array.h"

/* --- the fence --- */

/* Rows are locked in the order of partitions, as everybody does who takes several of them. */
static const char fence_sql[] =
    "WITH n AS ("
    "    SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[],"
    "        $6::bigint[], $7::boolean[], $8::timestamptz[], $9::bigint[], $10::bigint[],"
    "        $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[],"
    "        $16::bigint[]) AS n (topic, partition, "
    "expected, epoch,"
    "        next_offset, slice_start, cut_answered, watermark, age_us, consumed, counted,"
    "        filtered, duplicate, dead_lettered, last_offset, last_timestamp_ms)), "
    "locked AS MATERIALIZED ("
    "    SELECT topic, partition FROM dovetail_internal.position"
    "    WHERE (topic, partition) IN (SELECT n.topic, n.partition FROM n)"
    "    ORDER BY topic, partition FOR UPDATE) "
    "UPDATE dovetail_internal.position AS p SET "
    "    next_offset = n.next_offset, slice_start = n.slice_start,"
    "    cut_requested = p.cut_requested AND NOT n.cut_answered,"
    "    owner_pid = pg_backend_pid(),"
    "    watermark = GREATEST(p.watermark, n.watermark),"
    "    as_of = GREATEST(CASE WHEN p.as_of <= now() THEN p.as_of END,"
    "        CASE WHEN n.age_us >= 0 THEN now() - n.age_us * interval '1 microsecond' END),"
    "    consumed = p.consumed + n.consumed, counted = p.counted + n.counted,"
    "    filtered = p.filtered + n.filtered, duplicate = p.duplicate + n.duplicate,"
    "    dead_lettered = p.dead_lettered + n.dead_lettered,"
    "    last_offset = CASE WHEN n.last_offset < 0 THEN p.last_offset ELSE n.last_offset END,"
    "    last_timestamp_ms = CASE WHEN n.last_offset < 0 THEN p.last_timestamp_ms"
    "        ELSE n.last_timestamp_ms END,"
    "    updated_at = now() "
    "FROM n JOIN locked USING (topic, partition) "
    "WHERE p.topic = n.topic AND p.partition = n.partition AND p.next_offset = n.expected AND"
    "    p.owner_epoch = n.epoch "
    "RETURNING p.topic, p.partition, p.cut_requested";

enum { FENCE_COLUMNS = 16, LEDGER_COLUMNS = 6 };

/* as_of goes as its age, from which PostgreSQL makes a time of its own clock, which is the one that
 * freshness is told by: the clocks of this and other hosts may be wrong. Its transaction has begun
 * before `now_us`, of the monotonic clock, so the age is not too small. */
static void add_to_fence(struct sql_array *arrays, const struct flush_partition *partition,
                         int64_t now_us)
{
    sql_array_add_text(&arrays[0], partition->topic);
    sql_array_add_int64(&arrays[1], partition->partition);
    sql_array_add_int64(&arrays[2], partition->expected_offset);
    sql_array_add_int64(&arrays[3], partition->epoch);
    sql_array_add_int64(&arrays[4], partition->next_offset);
    sql_array_add_int64(&arrays[5], partition->slice_start);
    sql_array_add_bool(&arrays[6], partition->cut_answered);
    sql_array_add_timestamp(&arrays[7], partition->has_watermark, partition->watermark_us);
    sql_array_add_int64(&arrays[8], partition->has_as_of ? now_us - partition->as_of_us : -1);
    sql_array_add_int64(&arrays[9], partition->consumed);
    sql_array_add_int64(&arrays[10], partition->counted);
    sql_array_add_int64(&arrays[11], partition->filtered);
    sql_array_add_int64(&arrays[12], partition->duplicate);
    sql_array_add_int64(&arrays[13], partition->dead_lettered);
    sql_array_add_int64(&arrays[14], partition->last_offset);
    sql_array_add_int64(&arrays[15], partition->last_timestamp_ms);
}

/* One statement with `count` arrays as parameters. */
static enum status query_with_arrays(struct postgres *postgres, const char *sql,
                                     struct sql_array *arrays, size_t count, PGresult **out,
                                     struct error *error)
{
    const char *parameters[FENCE_COLUMNS];
    enum status status = sql_arrays_end(arrays, count, error);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        parameters[i] = arrays[i].text;
    return postgres_query(postgres, sql, (int)count, parameters, out, error);
}

static struct flush_partition *find_partition(struct flush *flush, const char *topic,
                                              int64_t partition)
{
    for (size_t i = 0; i < flush->partition_count; i++) {
        struct flush_partition *entry = &flush->partitions[i];
        if (entry->partition == partition && strcmp(entry->topic, topic) == 0)
            return entry;
    }
    return NULL;
}

/* Which partition matched no row. */
static enum status fenced(const struct flush *flush, const bool *matched, struct error *error)
{
    for (size_t i = 0; i < flush->partition_count; i++) {
        const struct flush_partition *entry = &flush->partitions[i];
        if (!matched[i])
            return error_set(error, STATUS_FENCED,
                             "%s[%" PRId32 "]: the position was not %" PRId64
                             " under owner epoch %" PRId64 " any more",
                             entry->topic, entry->partition, entry->expected_offset, entry->epoch);
    }
    return error_set(error, STATUS_FENCED, "the fence matched other rows than its own");
}

static enum status read_fence(struct flush *flush, const PGresult *result, struct error *error)
{
    bool *matched = calloc(flush->partition_count, sizeof *matched);
    if (matched == NULL)
        return error_no_memory(error);
    size_t count = 0;
    for (int row = 0; row < PQntuples(result); row++) {
        struct flush_partition *entry =
            find_partition(flush, PQgetvalue(result, row, 0), postgres_int64(result, row, 1));
        if (entry == NULL)
            continue;
        entry->cut_requested = postgres_bool(result, row, 2);
        matched[entry - flush->partitions] = true;
        count++;
    }
    enum status status =
        count == flush->partition_count ? STATUS_OK : fenced(flush, matched, error);
    free(matched);
    return status;
}

static enum status write_fence(struct flush *flush, struct postgres *postgres, struct error *error)
{
    struct sql_array arrays[FENCE_COLUMNS];
    int64_t now_us = program_monotonic_us();
    for (size_t i = 0; i < FENCE_COLUMNS; i++)
        sql_array_begin(&arrays[i]);
    for (size_t i = 0; i < flush->partition_count; i++)
        add_to_fence(arrays, &flush->partitions[i], now_us);
    PGresult *result = NULL;
    enum status status =
        query_with_arrays(postgres, fence_sql, arrays, FENCE_COLUMNS, &result, error);
    if (status == STATUS_OK)
        status = read_fence(flush, result, error);
    PQclear(result);
    sql_arrays_deinit(arrays, FENCE_COLUMNS);
    return status;
}

enum status flush_check_fence(struct flush *flush, struct postgres *postgres, struct error *error)
{
    enum { COLUMNS = 4 };
    struct sql_array arrays[COLUMNS];
    for (size_t i = 0; i < COLUMNS; i++)
        sql_array_begin(&arrays[i]);
    for (size_t i = 0; i < flush->partition_count; i++) {
        const struct flush_partition *partition = &flush->partitions[i];
        sql_array_add_text(&arrays[0], partition->topic);
        sql_array_add_int64(&arrays[1], partition->partition);
        sql_array_add_int64(&arrays[2], partition->expected_offset);
        sql_array_add_int64(&arrays[3], partition->epoch);
    }
    PGresult *result = NULL;
    enum status status =
        query_with_arrays(postgres,
                          "SELECT p.topic, p.partition, false FROM dovetail_internal.position AS p"
                          " JOIN unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[])"
                          "   AS n (topic, partition, expected, epoch)"
                          " ON p.topic = n.topic AND p.partition = n.partition"
                          " WHERE p.next_offset = n.expected AND p.owner_epoch = n.epoch",
                          arrays, COLUMNS, &result, error);
    if (status == STATUS_OK)
        status = read_fence(flush, result, error);
    PQclear(result);
    sql_arrays_deinit(arrays, COLUMNS);
    return status;
}

/* --- rows and ledgers --- */

static enum status copy_rows(struct postgres *postgres, const char *sql,
                             const struct pgbinary_writer *rows, struct error *error)
{
    static const char trailer[2] = {'\377', '\377'};
    enum status status = postgres_copy_in_begin(postgres, sql, error);
    if (status != STATUS_OK)
        return status;
    status = postgres_copy_in_data(postgres, rows->data, rows->length, error);
    /* Not appended to the rows, which may be written again. */
    if (status == STATUS_OK)
        status = postgres_copy_in_data(postgres, trailer, sizeof trailer, error);
    return status == STATUS_OK ? postgres_copy_in_end(postgres, error) : status;
}

static bool is_staged(const struct flush_staging *staging, int version)
{
    for (size_t i = 0; i < staging->count; i++)
        if (staging->versions[i] == version)
            return true;
    return false;
}

/* A temporary table lives as long as its session, if the transaction that made it commits: it is
 * noted before that is known, and a failed flush makes the flusher forget them all. */
static enum status make_staging(struct flush_staging *staging, const struct flush_version *entry,
                                struct postgres *postgres, struct error *error)
{
    if (is_staged(staging, entry->version->version))
        return STATUS_OK;
    int *grown = reallocarray(staging->versions, staging->count + 1, sizeof *grown);
    if (grown == NULL)
        return error_no_memory(error);
    staging->versions = grown;
    enum status status = postgres_execute(postgres, entry->stage_sql, error);
    if (status == STATUS_OK)
        staging->versions[staging->count++] = entry->version->version;
    return status;
}

static enum status write_version(const struct flush_version *entry, struct postgres *postgres,
                                 struct flush_staging *staging, struct error *error)
{
    enum status status = STATUS_OK;
    if (entry->insert_count > 0)
        status = copy_rows(postgres, entry->copy_sql, &entry->inserts, error);
    if (status != STATUS_OK || entry->update_count == 0)
        return status;
    status = make_staging(staging, entry, postgres, error);
    if (status == STATUS_OK)
        status = copy_rows(postgres, entry->stage_copy_sql, &entry->updates, error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, entry->update_sql, error);
    return status;
}

static enum status write_ledgers(const struct flush *flush, struct postgres *postgres,
                                 struct error *error)
{
    if (flush->ledger_count == 0)
        return STATUS_OK;
    struct sql_array arrays[LEDGER_COLUMNS];
    for (size_t i = 0; i < LEDGER_COLUMNS; i++)
        sql_array_begin(&arrays[i]);
    for (size_t i = 0; i < flush->ledger_count; i++) {
        const struct flush_ledger *ledger = &flush->ledgers[i];
        sql_array_add_int64(&arrays[0], ledger->version);
        sql_array_add_text(&arrays[1], ledger->topic);
        sql_array_add_int64(&arrays[2], ledger->partition);
        sql_array_add_int64(&arrays[3], ledger->counted);
        sql_array_add_int64(&arrays[4], ledger->filtered);
        sql_array_add_int64(&arrays[5], ledger->rejected);
    }
    PGresult *result = NULL;
    enum status status = query_with_arrays(
        postgres,
        "INSERT INTO dovetail_internal.view_ledger AS l "
        "(version, topic, partition, counted, filtered, rejected) "
        "SELECT * FROM unnest($1::integer[], $2::text[], $3::integer[], $4::bigint[], "
        "$5::bigint[], $6::bigint[]) "
        "ON CONFLICT (version, topic, partition) DO UPDATE SET "
        "counted = l.counted + excluded.counted, filtered = l.filtered + excluded.filtered, "
        "rejected = l.rejected + excluded.rejected",
        arrays, LEDGER_COLUMNS, &result, error);
    PQclear(result);
    sql_arrays_deinit(arrays, LEDGER_COLUMNS);
    return status;
}

/* A version that was retired since we read the catalogue may have lost its table. */
static enum status catalogue_changed(enum status status, struct error *error)
{
    bool gone = status == STATUS_FATAL &&
                (strcmp(error->sqlstate, "42P01") == 0 || strcmp(error->sqlstate, "23503") == 0);
    if (!gone)
        return status;
    error->status = STATUS_FENCED;
    return STATUS_FENCED;
}

enum status flush_write(struct flush *flush, struct postgres *postgres,
                        struct flush_staging *staging, struct error *error)
{
    flush->commit_in_doubt = false;
    enum status status = postgres_execute(postgres, "BEGIN", error);
    if (status == STATUS_OK)
        status = write_fence(flush, postgres, error);
    for (size_t i = 0; status == STATUS_OK && i < flush->version_count; i++)
        status = write_version(&flush->versions[i], postgres, staging, error);
    if (status == STATUS_OK)
        status = write_ledgers(flush, postgres, error);
    if (status != STATUS_OK)
        return catalogue_changed(status, error);
    status = postgres_execute(postgres, "COMMIT", error);
    if (status != STATUS_OK && !postgres_is_connected(postgres)) {
        flush->commit_in_doubt = true;
        status = STATUS_RETRY;
    }
    return status;
}

enum status flush_resolve_doubt(struct flush *flush, struct postgres *postgres, bool *written,
                                struct error *error)
{
    *written = false;
    for (size_t i = 0; i < flush->partition_count; i++) {
        const struct flush_partition *entry = &flush->partitions[i];
        if (entry->next_offset == entry->expected_offset)
            continue; /* tells nothing, and writing it twice does no harm */
        char number[16];
        snprintf(number, sizeof number, "%" PRId32, entry->partition);
        const char *parameters[] = {entry->topic, number};
        PGresult *result = NULL;
        /* FOR UPDATE waits until the transaction in doubt has ended, but not longer than the
         * session's lock_timeout; and reconnecting has told the server to end its session. */
        enum status status = postgres_query(postgres,
                                            "SELECT next_offset FROM dovetail_internal.position "
                                            "WHERE topic = $1 AND partition = $2 FOR UPDATE",
                                            2, parameters, &result, error);
        bool found = status == STATUS_OK && PQntuples(result) == 1;
        int64_t next_offset = found ? postgres_int64(result, 0, 0) : -1;
        PQclear(result);
        if (status != STATUS_OK)
            return status;
        flush->commit_in_doubt = false;
        *written = next_offset == entry->next_offset;
        if (*written || next_offset == entry->expected_offset)
            return STATUS_OK; /* the others went the same way: it is one transaction */
        return error_set(error, STATUS_FENCED,
                         "%s[%" PRId32 "]: the position is %" PRId64 ", neither %" PRId64
                         " nor %" PRId64,
                         entry->topic, entry->partition, next_offset, entry->expected_offset,
                         entry->next_offset);
    }
    flush->commit_in_doubt = false;
    return STATUS_OK;
}
