/* Where an answer stands: run, C, P, watermark, freshness; and whether the view can be read there.
 *
 * Invariant: everything here is one row set of one statement of the answer's snapshot. Pure but for
 * the result it reads; any thread. */
#include "core/query/query_internal.h"

#include <string.h>

/* $1 topic, $2 view, $3 version, $4 what its lookups are bound to. Every row repeats what is not of
 * one partition. */
const char query_receipt_sql[] =
    "SELECT r.run, v.version, v.lookups IS NOT DISTINCT FROM $4, v.built_run, pg_catalog.now(), "
    "p.partition, p.base_offset, p.cutoff, p.position,"
    " s.speed_from, p.watermark, p.run_watermark, p.as_of, p.run_as_of,"
    " dovetail_internal.imported_below(r.run, $1), pg_catalog.pg_current_snapshot()::text"
    " FROM dovetail_internal.current_run r"
    " LEFT JOIN dovetail_internal.view_version v ON v.view = $2 AND v.state = 'current'"
    " LEFT JOIN dovetail_internal.progress p ON p.topic = $1"
    " LEFT JOIN dovetail_internal.coverage s"
    "  ON s.topic = p.topic AND s.partition = p.partition AND s.version = $3"
    " ORDER BY p.partition";

enum {
    RECEIPT_RUN,
    RECEIPT_VERSION,
    RECEIPT_LOOKUPS_ARE_EQUAL,
    RECEIPT_BUILT_RUN,
    RECEIPT_NOW,
    RECEIPT_PARTITION,
    RECEIPT_BASE,
    RECEIPT_CUTOFF,
    RECEIPT_POSITION,
    RECEIPT_SPEED_FROM,
    RECEIPT_WATERMARK,
    RECEIPT_RUN_WATERMARK,
    RECEIPT_AS_OF,
    RECEIPT_RUN_AS_OF,
    RECEIPT_IMPORTED,
    RECEIPT_SNAPSHOT,
    RECEIPT_COLUMNS,
};

void query_receipt_parameters(const struct query_reader *reader, uint8_t version[4],
                              struct query_parameters *out)
{
    const struct view *view = reader->plan->view;
    const char *lookups = reader->version->lookups;
    uint32_t number = (uint32_t)reader->version->version;
    for (int i = 0; i < 4; i++)
        version[i] = (uint8_t)(number >> (24 - 8 * i));
    *out = (struct query_parameters){
        .types = {PG_OID_TEXT, PG_OID_TEXT, PG_OID_INT4, PG_OID_TEXT},
        .values = {view->source->topic, view->name, (const char *)version, lookups},
        .lengths = {(int)strlen(view->source->topic), (int)strlen(view->name), 4,
                    lookups != NULL ? (int)strlen(lookups) : 0},
        .formats = {1, 1, 1, 1},
        .count = 4,
    };
}

struct times {
    bool has_watermark;
    int64_t watermark_us;
    bool has_as_of;
    int64_t as_of_us;
};

static enum status read_time(const PGresult *result, int row, int column, bool *has, int64_t *us,
                             struct error *error)
{
    struct pgbinary_field field = postgres_field(result, row, column);
    *has = field.data != NULL;
    return *has ? pgbinary_get_timestamp(&field, us, error) : STATUS_OK;
}

/* What is known of the records this answer has of one partition. */
static enum status read_times(const PGresult *result, int row, bool batch_only, struct times *out,
                              struct error *error)
{
    *out = (struct times){0};
    enum status status =
        read_time(result, row, batch_only ? RECEIPT_RUN_WATERMARK : RECEIPT_WATERMARK,
                  &out->has_watermark, &out->watermark_us, error);
    return status == STATUS_OK
               ? read_time(result, row, batch_only ? RECEIPT_RUN_AS_OF : RECEIPT_AS_OF,
                           &out->has_as_of, &out->as_of_us, error)
               : status;
}

static enum status read_int8(const PGresult *result, int row, int column, int64_t *out,
                             struct error *error)
{
    struct pgbinary_field field = postgres_field(result, row, column);
    return pgbinary_get_int8(&field, out, error);
}

static enum status still_building(const struct view *view, struct error *error)
{
    return error_set(error, STATUS_RETRY,
                     "the view \"%s\" is still being built: no published batch run covers it yet",
                     view->name);
}

/* Readability, as dovetail_internal.version_reached() defines it. */
struct reach {
    bool covered; /* C has come to where the speed rows begin, in every partition */
    bool whole;   /* the speed rows have the whole history, and nothing is in the batch rows or
                     imported */
};

static enum status read_reach(const PGresult *result, int row, int64_t cutoff, struct reach *reach,
                              struct error *error)
{
    int64_t speed_from;
    int64_t base;
    if (PQgetisnull(result, row, RECEIPT_SPEED_FROM))
        return STATUS_OK; /* a partition that came later: from its base on */
    enum status status = read_int8(result, row, RECEIPT_SPEED_FROM, &speed_from, error);
    if (status == STATUS_OK)
        status = read_int8(result, row, RECEIPT_BASE, &base, error);
    if (status != STATUS_OK)
        return status;
    reach->covered = reach->covered && speed_from <= cutoff;
    reach->whole = reach->whole && speed_from <= base && cutoff <= base;
    return STATUS_OK;
}

/* The version's batch rows are those of a run it was folded in, the current one or an earlier one.
 */
static enum status check_reach(const struct query_reader *reader, const PGresult *result,
                               struct reach reach, struct error *error)
{
    int64_t built_run;
    if (reach.whole)
        return STATUS_OK;
    if (!reach.covered || PQgetisnull(result, 0, RECEIPT_BUILT_RUN))
        return still_building(reader->plan->view, error);
    enum status status = read_int8(result, 0, RECEIPT_BUILT_RUN, &built_run, error);
    if (status == STATUS_OK && built_run > reader->answer->receipt.run)
        status = still_building(reader->plan->view, error);
    return status;
}

/* One partition. `times` gathers the least of all partitions. */
static enum status read_partition(struct query_reader *reader, const PGresult *result, int row,
                                  struct times *times, struct reach *reach, struct error *error)
{
    struct query_receipt *receipt = &reader->answer->receipt;
    struct query_partition *partition = &receipt->partitions[receipt->partition_count];
    bool batch_only = reader->request->layer == QUERY_BATCH;
    struct pgbinary_field field = postgres_field(result, row, RECEIPT_PARTITION);
    partition->topic = reader->plan->view->source->topic;
    enum status status = pgbinary_get_int4(&field, &partition->partition, error);
    if (status == STATUS_OK)
        status = read_int8(result, row, RECEIPT_CUTOFF, &partition->cutoff, error);
    if (status == STATUS_OK)
        status = read_int8(result, row, batch_only ? RECEIPT_CUTOFF : RECEIPT_POSITION,
                           &partition->position, error);
    if (status != STATUS_OK)
        return status;
    receipt->partition_count++;
    status = read_reach(result, row, partition->cutoff, reach, error);
    if (status != STATUS_OK)
        return status;
    struct times own;
    status = read_times(result, row, batch_only, &own, error);
    if (own.has_watermark && (!times->has_watermark || own.watermark_us < times->watermark_us)) {
        times->has_watermark = true;
        times->watermark_us = own.watermark_us;
    }
    times->has_as_of = times->has_as_of && own.has_as_of;
    if (own.has_as_of && own.as_of_us < times->as_of_us)
        times->as_of_us = own.as_of_us;
    return status;
}

static enum status check_version(const struct query_reader *reader, const PGresult *result,
                                 struct error *error)
{
    const struct view *view = reader->plan->view;
    if (PQgetisnull(result, 0, RECEIPT_VERSION))
        return still_building(view, error);
    struct pgbinary_field field = postgres_field(result, 0, RECEIPT_VERSION);
    int32_t version;
    enum status status = pgbinary_get_int4(&field, &version, error);
    if (status == STATUS_OK && version != reader->version->version)
        status = error_set(error, STATUS_FENCED, "another version of the view \"%s\" is current",
                           view->name);
    bool same_lookups = true;
    field = postgres_field(result, 0, RECEIPT_LOOKUPS_ARE_EQUAL);
    if (status == STATUS_OK)
        status = pgbinary_get_bool(&field, &same_lookups, error);
    if (status == STATUS_OK && !same_lookups)
        status =
            error_set(error, STATUS_FENCED, "the view \"%s\" has other lookups now", view->name);
    return status;
}

enum status query_receipt_read(struct query_reader *reader, const PGresult *result,
                               struct error *error)
{
    struct query_receipt *receipt = &reader->answer->receipt;
    int rows = PQntuples(result);
    if (rows < 1 || PQnfields(result) != RECEIPT_COLUMNS)
        return error_set(error, STATUS_FATAL, "the table current_run is empty");
    enum status status = check_version(reader, result, error);
    if (status == STATUS_OK)
        status = read_int8(result, 0, RECEIPT_RUN, &receipt->run, error);
    if (status != STATUS_OK)
        return status;
    receipt->partitions =
        arena_alloc(&reader->answer->arena, (size_t)rows * sizeof *receipt->partitions);
    if (receipt->partitions == NULL)
        return error_no_memory(error);
    struct times times = {.has_as_of = true, .as_of_us = INT64_MAX};
    int64_t imported;
    status = read_int8(result, 0, RECEIPT_IMPORTED, &imported, error);
    struct reach reach = {.covered = true, .whole = status == STATUS_OK && imported == 0};
    if (status == STATUS_OK && reader->request->layer != QUERY_SPEED && rows > 0 &&
        !PQgetisnull(result, 0, RECEIPT_PARTITION))
        receipt->imported = imported;
    for (int row = 0; row < rows && status == STATUS_OK; row++)
        if (!PQgetisnull(result, row, RECEIPT_PARTITION))
            status = read_partition(reader, result, row, &times, &reach, error);
    if (status == STATUS_OK)
        status = check_reach(reader, result, reach, error);
    struct pgbinary_field field = postgres_field(result, 0, RECEIPT_NOW);
    int64_t now_us = 0;
    if (status == STATUS_OK)
        status = pgbinary_get_timestamp(&field, &now_us, error);
    receipt->has_watermark = times.has_watermark;
    receipt->watermark_us = times.watermark_us;
    receipt->has_freshness = times.has_as_of && receipt->partition_count > 0;
    query_mark_take(&receipt->mark, result, 0, RECEIPT_SNAPSHOT);
    if (status == STATUS_OK && receipt->has_freshness && now_us > times.as_of_us)
        receipt->freshness_ms = (now_us - times.as_of_us) / 1000;
    return status;
}
