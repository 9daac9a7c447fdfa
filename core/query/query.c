/* One query: one snapshot, one merge.
 *
 *   BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY
 *   run, and for each partition C, P, watermark, as_of, coverage    (the receipt)
 *   batch rows visible under that run                                records below C
 *   speed rows of the slices that begin at or above C                records in [C, P)
 *   COMMIT
 *
 * Invariant: all five go to the server in one pipeline and their results come from one snapshot.
 * The statements find run and C by themselves, so nothing read earlier can disagree with them. Rows
 * are merged as they arrive; what is held is the groups of the answer, bounded by
 * QUERY_MEMORY_BYTES, not the rows.
 *
 * A failure leaves the connection outside of pipeline mode and of any transaction, or broken, for
 * the caller to reconnect. One thread at a time for each connection. */
#include "core/query/query.h"

#include <stdlib.h>
#include <string.h>

#include "core/catalog/catalog_lookup.h"
#include "core/query/query_plan.h"
#include "core/query/query_statements.h"
#include "core/time/timestamp.h"

/* Bound of one query's groups. Reached only by answers that nobody reads. */
#define QUERY_MEMORY_BYTES (INT64_C(512) << 20)

static const char begin_sql[] = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
static const char commit_sql[] = "COMMIT";

/* $1 topic, $2 view, $3 version, $4 what its lookups are bound to. Every row repeats what is not of
 * one partition. */
static const char receipt_sql[] =
    "SELECT r.run, v.version, v.lookups IS NOT DISTINCT FROM $4, v.built_run, pg_catalog.now(), "
    "p.partition, p.base_offset,"
    " coalesce(c.next_offset, p.base_offset), p.next_offset,"
    " s.speed_from, p.watermark, c.watermark, p.as_of, c.as_of,"
    " dovetail_internal.imported_below(r.run, $1)"
    " FROM dovetail_internal.current_run r"
    " LEFT JOIN dovetail_internal.view_version v ON v.view = $2 AND v.state = 'current'"
    " LEFT JOIN dovetail_internal.position p ON p.topic = $1"
    " LEFT JOIN dovetail_internal.run_cutoff c"
    "  ON c.run = r.run AND c.topic = p.topic AND c.partition = p.partition"
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
    RECEIPT_NEXT_OFFSET,
    RECEIPT_SPEED_FROM,
    RECEIPT_WATERMARK,
    RECEIPT_RUN_WATERMARK,
    RECEIPT_AS_OF,
    RECEIPT_RUN_AS_OF,
    RECEIPT_IMPORTED,
    RECEIPT_COLUMNS,
};

enum step { STEP_BEGIN, STEP_RECEIPT, STEP_BATCH, STEP_SPEED, STEP_COMMIT, STEP_COUNT };

struct reader {
    struct postgres *postgres;
    const struct catalog_version *version;
    const struct query_request *request;
    const struct query_plan *plan;
    struct query_answer *answer;
    struct query_statement *statements[STEP_COUNT]; /* NULL: not part of this query */
    bool was_prepared[STEP_COUNT];                  /* before this query */
    struct pgbinary_field *fields;                  /* one row of states */
    size_t field_count;
};

/* --- sending --- */

static enum status find_statements(struct reader *reader, struct error *error)
{
    const char *const texts[STEP_COUNT] = {
        [STEP_BEGIN] = begin_sql,
        [STEP_RECEIPT] = receipt_sql,
        [STEP_BATCH] = reader->plan->batch_sql,
        [STEP_SPEED] = reader->plan->speed_sql,
        [STEP_COMMIT] = commit_sql,
    };
    for (int step = 0; step < STEP_COUNT; step++) {
        if (texts[step] == NULL)
            continue;
        enum status status =
            query_statement_find(reader->postgres, texts[step], &reader->statements[step], error);
        if (status != STATUS_OK)
            return status;
        reader->was_prepared[step] = reader->statements[step]->prepared;
    }
    return STATUS_OK;
}

/* The parameters of the receipt's statement. `version` is storage for one of them. */
static void receipt_parameters(const struct reader *reader, uint8_t version[4],
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

static bool send_step(struct reader *reader, enum step step,
                      const struct query_parameters *parameters, int count)
{
    PGconn *connection = postgres_handle(reader->postgres);
    const struct query_statement *statement = reader->statements[step];
    if (!reader->was_prepared[step] &&
        !PQsendPrepare(connection, statement->name, statement->text, count, parameters->types))
        return false;
    return PQsendQueryPrepared(connection, statement->name, count, parameters->values,
                               parameters->lengths, parameters->formats, 1) == 1;
}

static bool send_all(struct reader *reader)
{
    static const struct query_parameters none;
    const struct query_parameters *parameters = &reader->plan->parameters;
    struct query_parameters receipt;
    uint8_t version[4];
    receipt_parameters(reader, version, &receipt);
    PGconn *connection = postgres_handle(reader->postgres);
    return PQenterPipelineMode(connection) == 1 && send_step(reader, STEP_BEGIN, &none, 0) &&
           send_step(reader, STEP_RECEIPT, &receipt, receipt.count) &&
           (reader->statements[STEP_BATCH] == NULL ||
            send_step(reader, STEP_BATCH, parameters, parameters->count)) &&
           (reader->statements[STEP_SPEED] == NULL ||
            send_step(reader, STEP_SPEED, parameters, parameters->count + 1)) &&
           send_step(reader, STEP_COMMIT, &none, 0) && PQpipelineSync(connection) == 1;
}

/* --- the receipt --- */

struct times {
    bool has_watermark;
    int64_t watermark_us;
    bool has_as_of;
    int64_t as_of_us;
};

/* The greater of a time so far and a column that may be NULL. */
static enum status take_greatest(const PGresult *result, int row, int column, bool *has,
                                 int64_t *us, struct error *error)
{
    struct pgbinary_field field = postgres_field(result, row, column);
    int64_t time;
    if (field.data == NULL)
        return STATUS_OK;
    enum status status = pgbinary_get_timestamp(&field, &time, error);
    if (status == STATUS_OK && (!*has || time > *us)) {
        *has = true;
        *us = time;
    }
    return status;
}

/* What is known of the records this answer has of one partition. The run's as_of is about the
 * records below C, so it says something of the answer only where nothing beyond C is in it. */
static enum status read_times(const PGresult *result, int row, bool batch_only, bool behind_run,
                              struct times *out, struct error *error)
{
    *out = (struct times){0};
    enum status status = take_greatest(result, row, RECEIPT_RUN_WATERMARK, &out->has_watermark,
                                       &out->watermark_us, error);
    if (status == STATUS_OK && (batch_only || behind_run))
        status =
            take_greatest(result, row, RECEIPT_RUN_AS_OF, &out->has_as_of, &out->as_of_us, error);
    if (status == STATUS_OK && !batch_only)
        status = take_greatest(result, row, RECEIPT_WATERMARK, &out->has_watermark,
                               &out->watermark_us, error);
    if (status == STATUS_OK && !batch_only)
        status = take_greatest(result, row, RECEIPT_AS_OF, &out->has_as_of, &out->as_of_us, error);
    return status;
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
static enum status check_reach(const struct reader *reader, const PGresult *result,
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
static enum status read_partition(struct reader *reader, const PGresult *result, int row,
                                  struct times *times, struct reach *reach, struct error *error)
{
    struct query_receipt *receipt = &reader->answer->receipt;
    struct query_partition *partition = &receipt->partitions[receipt->partition_count];
    bool batch_only = reader->request->layer == QUERY_BATCH;
    struct pgbinary_field field = postgres_field(result, row, RECEIPT_PARTITION);
    int64_t position;
    partition->topic = reader->plan->view->source->topic;
    enum status status = pgbinary_get_int4(&field, &partition->partition, error);
    if (status == STATUS_OK)
        status = read_int8(result, row, RECEIPT_CUTOFF, &partition->cutoff, error);
    if (status == STATUS_OK)
        status = read_int8(result, row, RECEIPT_NEXT_OFFSET, &position, error);
    if (status != STATUS_OK)
        return status;
    receipt->partition_count++;
    bool behind_run = partition->cutoff >= position;
    partition->position = batch_only || behind_run ? partition->cutoff : position;
    status = read_reach(result, row, partition->cutoff, reach, error);
    if (status != STATUS_OK)
        return status;
    struct times own;
    status = read_times(result, row, batch_only, behind_run, &own, error);
    if (own.has_watermark && (!times->has_watermark || own.watermark_us < times->watermark_us)) {
        times->has_watermark = true;
        times->watermark_us = own.watermark_us;
    }
    times->has_as_of = times->has_as_of && own.has_as_of;
    if (own.as_of_us < times->as_of_us)
        times->as_of_us = own.as_of_us;
    return status;
}

static enum status check_version(const struct reader *reader, const PGresult *result,
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

static enum status read_receipt(struct reader *reader, const PGresult *result, struct error *error)
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
    if (status == STATUS_OK && receipt->has_freshness && now_us > times.as_of_us)
        receipt->freshness_ms = (now_us - times.as_of_us) / 1000;
    return status;
}

/* --- rows of states --- */

static enum status straddles(const struct query_plan *plan, int64_t start_us, struct error *error)
{
    char start[TIMESTAMP_TEXT_SIZE];
    timestamp_format(start_us, start, sizeof start);
    return error_set(error, STATUS_REJECT,
                     "granularity: the view's window from %s does not lie within one of these in "
                     "%s; restrict the query by time, or ask for a granularity that fits",
                     start, plan->shape.window.zone->name);
}

/* Puts the start of the answer's window in the place of the row's own. `start` is its storage. */
static enum status map_window(const struct query_plan *plan, struct pgbinary_field *field,
                              uint8_t start[8], struct error *error)
{
    int64_t us = 0;
    if (!plan->window_is_all) {
        enum status status = pgbinary_get_timestamp(field, &us, error);
        if (status != STATUS_OK)
            return status;
        if (plan->window_may_straddle &&
            !window_is_within(&plan->view->window, &plan->shape.window, us))
            return straddles(plan, us, error);
        us = window_pane_start(&plan->shape.window, us);
    }
    uint64_t postgres_us = (uint64_t)timestamp_to_postgres(us);
    for (int i = 0; i < 8; i++)
        start[i] = (uint8_t)(postgres_us >> (56 - 8 * i));
    *field = (struct pgbinary_field){.data = start, .length = 8};
    return STATUS_OK;
}

static enum status merge_row(struct reader *reader, const PGresult *result, int row,
                             struct error *error)
{
    const struct query_plan *plan = reader->plan;
    uint8_t start[8];
    for (size_t i = 0; i < reader->field_count; i++)
        reader->fields[i] = postgres_field(result, row, (int)i);
    if (plan->window_is_all || plan->window_is_coarser) {
        enum status status = map_window(plan, &reader->fields[0], start, error);
        if (status != STATUS_OK)
            return status;
    }
    return groups_merge_row(reader->answer->groups, reader->fields, NULL, error);
}

static enum status check_memory(const struct groups *groups, struct error *error)
{
    if (groups_memory_bytes(groups) <= QUERY_MEMORY_BYTES)
        return STATUS_OK;
    return error_set(error, STATUS_REJECT,
                     "limit: the query needs more than %lld MiB for its groups; restrict it "
                     "by time or key, or ask for a coarser granularity",
                     (long long)(QUERY_MEMORY_BYTES >> 20));
}

static enum status merge_rows(struct reader *reader, const PGresult *result, enum step step,
                              struct error *error)
{
    int rows = PQntuples(result);
    if ((size_t)PQnfields(result) != reader->field_count)
        return error_set(error, STATUS_FATAL, "a table of states has other columns than its view");
    if (step == STEP_BATCH)
        reader->answer->batch_rows_read += (size_t)rows;
    else
        reader->answer->speed_rows_read += (size_t)rows;
    for (int row = 0; row < rows; row++) {
        enum status status = merge_row(reader, result, row, error);
        if (status != STATUS_OK)
            return status;
    }
    return check_memory(reader->answer->groups, error);
}

/* Panes into windows, where they are not the same. */
static enum status combine_panes(struct reader *reader, struct error *error)
{
    const struct view *shape = &reader->plan->shape;
    struct query_answer *answer = reader->answer;
    struct groups *windows = NULL;
    if (shape->window.kind->combine == NULL)
        return STATUS_OK;
    enum status status = groups_create(shape, &windows, error);
    if (status == STATUS_OK)
        status = shape->window.kind->combine(shape, &reader->plan->range, answer->groups,
                                             QUERY_MEMORY_BYTES, windows, error);
    if (status == STATUS_OK)
        status = check_memory(windows, error);
    if (status != STATUS_OK) {
        groups_destroy(windows);
        return status;
    }
    groups_destroy(answer->groups);
    answer->groups = windows;
    return STATUS_OK;
}

/* --- receiving --- */

/* The reference tables of the query, or the one that a message of PostgreSQL names. */
static void list_lookups(const struct reader *reader, const char *message, char *out, size_t size)
{
    const struct view *view = reader->plan->view;
    char name[CATALOG_NAME_BYTES];
    out[0] = '\0';
    for (size_t i = 0; i < view->lookup_count; i++) {
        const struct view_lookup *lookup = &view->lookups[i];
        if (!reader->plan->joins[i])
            continue;
        catalog_lookup_view(reader->version->version, lookup, name);
        const char *found = strstr(message, name);
        if (found != NULL && (found[strlen(name)] < '0' || found[strlen(name)] > '9')) {
            snprintf(out, size, "%s", lookup->shown);
            return;
        }
        size_t length = strlen(out);
        snprintf(out + length, size - length, "%s%s", length > 0 ? ", " : "", lookup->shown);
    }
}

/* A statement that PostgreSQL refuses. Where it reads reference tables the reason is most likely
 * there, for those are not ours: anybody can drop one, or take the right to it away. */
static enum status refused(const struct reader *reader, const PGresult *result, enum step step,
                           struct error *error)
{
    char tables[VIEW_LOOKUP_MAX * 132];
    enum status status = postgres_error(postgres_handle(reader->postgres), result, "query", error);
    bool timeout = strcmp(error->sqlstate, "57014") == 0;
    if ((step != STEP_BATCH && step != STEP_SPEED) || status != STATUS_FATAL || timeout)
        return status;
    list_lookups(reader, error->text, tables, sizeof tables);
    if (tables[0] == '\0')
        return status;
    (void)error_wrap(error, "lookup: cannot read the reference table %s", tables);
    return error->status = STATUS_RETRY;
}

static enum status take_result(struct reader *reader, enum step step, const PGresult *result,
                               struct error *error)
{
    switch (PQresultStatus(result)) {
    case PGRES_COMMAND_OK:
        return STATUS_OK;
    case PGRES_TUPLES_OK:
    case PGRES_SINGLE_TUPLE:
        return step == STEP_RECEIPT ? read_receipt(reader, result, error)
                                    : merge_rows(reader, result, step, error);
    default:
        return refused(reader, result, step, error);
    }
}

/* Results of one command, up to the NULL that ends them. After a failure the rest is read and
 * thrown away. `status` is what has happened so far. */
static enum status take_command(struct reader *reader, enum step step, enum status status,
                                struct error *error)
{
    PGconn *connection = postgres_handle(reader->postgres);
    PGresult *result;
    while ((result = PQgetResult(connection)) != NULL) {
        if (status == STATUS_OK)
            status = take_result(reader, step, result, error);
        PQclear(result);
    }
    if (PQstatus(connection) == CONNECTION_BAD && status == STATUS_OK)
        status = postgres_error(connection, NULL, "query", error);
    return status;
}

/* The result of preparing. What the server has is noted even where the query failed before. */
static enum status take_prepared(struct reader *reader, enum step step, enum status status,
                                 struct error *error)
{
    PGconn *connection = postgres_handle(reader->postgres);
    PGresult *result;
    while ((result = PQgetResult(connection)) != NULL) {
        if (PQresultStatus(result) == PGRES_COMMAND_OK)
            reader->statements[step]->prepared = true;
        else if (status == STATUS_OK)
            status = refused(reader, result, step, error);
        PQclear(result);
    }
    return status;
}

/* After a refusal in the middle of a scan the rest is read, not cancelled: a cancellation that
 * arrives late would hit the connection's next query. */
static enum status take_step(struct reader *reader, enum step step, enum status status,
                             struct error *error)
{
    if (reader->statements[step] == NULL)
        return status;
    if (!reader->was_prepared[step])
        status = take_prepared(reader, step, status, error);
    /* Row by row, so that a large scan is never held as a whole. */
    if (step == STEP_BATCH || step == STEP_SPEED)
        (void)PQsetSingleRowMode(postgres_handle(reader->postgres));
    return take_command(reader, step, status, error);
}

static enum status receive_all(struct reader *reader, struct error *error)
{
    PGconn *connection = postgres_handle(reader->postgres);
    enum status status = STATUS_OK;
    for (enum step step = STEP_BEGIN; step < STEP_COUNT; step++)
        if (PQstatus(connection) == CONNECTION_OK)
            status = take_step(reader, step, status, error);
    PGresult *sync = PQgetResult(connection);
    if (PQresultStatus(sync) != PGRES_PIPELINE_SYNC && status == STATUS_OK)
        status = postgres_error(connection, sync, "query", error);
    PQclear(sync);
    return status;
}

/* Out of pipeline mode and of the transaction; a connection for which that fails is no good. */
static void leave_pipeline(PGconn *connection)
{
    PGresult *result;
    int silence = 0;
    while (PQpipelineStatus(connection) != PQ_PIPELINE_OFF && !PQexitPipelineMode(connection) &&
           PQstatus(connection) == CONNECTION_OK && silence < 2) {
        result = PQgetResult(connection);
        silence = result == NULL ? silence + 1 : 0;
        PQclear(result);
    }
    if (PQstatus(connection) == CONNECTION_OK && PQtransactionStatus(connection) != PQTRANS_IDLE)
        PQclear(PQexec(connection, "ROLLBACK"));
}

static enum status read_snapshot(struct reader *reader, struct error *error)
{
    enum status status = find_statements(reader, error);
    if (status != STATUS_OK)
        return status;
    PGconn *connection = postgres_handle(reader->postgres);
    if (send_all(reader))
        status = receive_all(reader, error);
    else
        status = postgres_error(connection, NULL, "query", error);
    leave_pipeline(connection);
    return status;
}

/* --- from groups to rows --- */

/* The answer's window of a row, and whether more may come into it. */
static void set_window(const struct query_plan *plan, const struct query_answer *answer,
                       const struct group *group, struct query_row *row)
{
    const struct query_receipt *receipt = &answer->receipt;
    const struct window_range *range = &plan->range;
    int64_t closed_us = 0; /* from here on nothing of this row is to be expected */
    if (!plan->window_is_all) {
        plan->shape.window.kind->bounds(&plan->shape, group, &row->window_start_us,
                                        &row->window_end_us);
        closed_us = row->window_end_us;
    } else {
        row->window_start_us = range->from_us;
        row->window_end_us = range->to_us;
        if (range->has_to) {
            /* The last window that starts before `to`. */
            const struct window *own = &plan->view->window;
            closed_us = window_pane_end(own, window_pane_start(own, range->to_us - 1));
        }
    }
    bool open = !answer->has_end;
    row->provisional = open || !receipt->has_watermark || closed_us > receipt->watermark_us;
}

static enum status finish_row(const struct query_plan *plan, struct query_answer *answer,
                              const struct group *group, struct query_row *row, struct error *error)
{
    const struct view *shape = &plan->shape;
    row->keys = arena_alloc(&answer->arena, shape->key_count * sizeof *row->keys);
    row->results = arena_alloc(&answer->arena, shape->measure_count * sizeof *row->results);
    row->wide_texts = arena_alloc(&answer->arena, shape->measure_count * sizeof *row->wide_texts);
    if (row->keys == NULL || row->results == NULL || row->wide_texts == NULL)
        return error_no_memory(error);
    set_window(plan, answer, group, row);
    group_keys(shape, group, row->keys);
    for (size_t i = 0; i < shape->measure_count; i++) {
        const struct measure *measure = shape->measures[i].measure;
        row->wide_texts[i] = NULL;
        enum status status =
            measure->kind->finish(measure, group->state + shape->state_offsets[i], &answer->arena,
                                  &row->results[i], &row->wide_texts[i], error);
        if (status != STATUS_OK)
            return error_wrap(error, "measure \"%s\"", shape->measures[i].name);
    }
    return STATUS_OK;
}

/* A decimal's text in pieces, for comparing by value. */
struct number {
    bool negative;
    const char *whole; /* without leading zeros */
    size_t whole_length;
    const char *fraction; /* without trailing zeros */
    size_t fraction_length;
};

static struct number split_number(const char *text)
{
    struct number number = {.negative = *text == '-'};
    text += number.negative ? 1 : 0;
    text += strspn(text, "0");
    number.whole = text;
    number.whole_length = strspn(text, "0123456789");
    number.fraction = text + number.whole_length;
    if (*number.fraction == '.')
        number.fraction++;
    number.fraction_length = strlen(number.fraction);
    while (number.fraction_length > 0 && number.fraction[number.fraction_length - 1] == '0')
        number.fraction_length--;
    if (number.whole_length == 0 && number.fraction_length == 0)
        number.negative = false;
    return number;
}

static int compare_magnitudes(const struct number *a, const struct number *b)
{
    if (a->whole_length != b->whole_length)
        return a->whole_length < b->whole_length ? -1 : 1;
    int order = memcmp(a->whole, b->whole, a->whole_length);
    if (order != 0)
        return order;
    bool shorter = a->fraction_length < b->fraction_length;
    order = memcmp(a->fraction, b->fraction, shorter ? a->fraction_length : b->fraction_length);
    if (order != 0)
        return order;
    return shorter ? -1 : a->fraction_length > b->fraction_length;
}

static int compare_number_texts(const char *a, const char *b)
{
    struct number left = split_number(a);
    struct number right = split_number(b);
    if (left.negative != right.negative)
        return left.negative ? -1 : 1;
    int order = compare_magnitudes(&left, &right);
    return left.negative ? -order : order;
}

/* Results, of which decimals that are too wide for struct value are given as text. */
static int compare_results(const struct query_row *a, const struct query_row *b, size_t index)
{
    const struct value *left = &a->results[index];
    const struct value *right = &b->results[index];
    const char *left_text = a->wide_texts[index];
    const char *right_text = b->wide_texts[index];
    if (left_text == NULL && right_text == NULL)
        return value_compare(left, right);
    char left_buffer[DECIMAL_TEXT_SIZE];
    char right_buffer[DECIMAL_TEXT_SIZE];
    if (left_text == NULL) {
        if (left->is_null)
            return 1;
        decimal_format(&left->decimal, left_buffer, sizeof left_buffer);
        left_text = left_buffer;
    }
    if (right_text == NULL) {
        if (right->is_null)
            return -1;
        decimal_format(&right->decimal, right_buffer, sizeof right_buffer);
        right_text = right_buffer;
    }
    return compare_number_texts(left_text, right_text);
}

static int compare_column(const struct query_row *a, const struct query_row *b,
                          const struct query_sort *sort)
{
    switch (sort->column) {
    case QUERY_WINDOW_START:
        return (a->window_start_us > b->window_start_us) -
               (a->window_start_us < b->window_start_us);
    case QUERY_WINDOW_END:
        return (a->window_end_us > b->window_end_us) - (a->window_end_us < b->window_end_us);
    case QUERY_KEY:
        return value_compare(&a->keys[sort->index], &b->keys[sort->index]);
    case QUERY_MEASURE:
        return compare_results(a, b, sort->index);
    }
    return 0;
}

struct sorted_row {
    struct query_row row;
    size_t rank; /* in the default order: it breaks ties */
};

static int compare_rows(const void *left, const void *right, void *context)
{
    const struct sorted_row *a = left;
    const struct sorted_row *b = right;
    const struct query_plan *plan = context;
    for (size_t i = 0; i < plan->order_count; i++) {
        int order = compare_column(&a->row, &b->row, &plan->order[i]);
        if (order != 0)
            return plan->order[i].descending ? -order : order; /* NULLs first, as in PostgreSQL */
    }
    return (a->rank > b->rank) - (a->rank < b->rank);
}

static enum status sort_rows(const struct query_plan *plan, struct query_row *rows, size_t count,
                             struct error *error)
{
    struct sorted_row *sorted = malloc((count + 1) * sizeof *sorted);
    if (sorted == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < count; i++)
        sorted[i] = (struct sorted_row){.row = rows[i], .rank = i};
    qsort_r(sorted, count, sizeof *sorted, compare_rows, (void *)plan);
    for (size_t i = 0; i < count; i++)
        rows[i] = sorted[i].row;
    free(sorted);
    return STATUS_OK;
}

static enum status check_size(const struct query_request *request, size_t count,
                              struct error *error)
{
    if (request->row_limit <= 0 || (uint64_t)count <= (uint64_t)request->row_limit)
        return STATUS_OK;
    return error_set(error, STATUS_REJECT,
                     "limit: the answer has %zu rows, more than %lld; restrict it by time or key, "
                     "ask for a coarser granularity, or set a limit",
                     count, (long long)request->row_limit);
}

static enum status make_rows(const struct query_plan *plan, const struct query_request *request,
                             struct query_answer *answer, struct error *error)
{
    size_t group_count = groups_count(answer->groups);
    size_t count = group_count;
    if (request->limit > 0 && (uint64_t)request->limit < count)
        count = (size_t)request->limit;
    enum status status = check_size(request, count, error);
    if (status != STATUS_OK)
        return status;
    /* In the default order the rows beyond the limit need not be finished. */
    size_t finished = plan->order_count == 0 ? count : group_count;
    struct group **groups = NULL;
    status = groups_sorted(answer->groups, &groups, error);
    if (status != STATUS_OK)
        return status;
    answer->rows = arena_alloc(&answer->arena, finished * sizeof *answer->rows);
    if (answer->rows == NULL)
        status = error_no_memory(error);
    for (size_t i = 0; i < finished && status == STATUS_OK; i++)
        status = finish_row(plan, answer, groups[i], &answer->rows[i], error);
    free(groups);
    if (status == STATUS_OK && plan->order_count > 0)
        status = sort_rows(plan, answer->rows, finished, error);
    answer->row_count = count;
    return status;
}

/* --- the whole --- */

static struct query_answer *answer_create(const struct view *view)
{
    struct query_answer *answer = calloc(1, sizeof *answer);
    if (answer == NULL)
        return NULL;
    answer->view = view;
    arena_init(&answer->arena);
    return answer;
}

void query_answer_destroy(struct query_answer *answer)
{
    if (answer == NULL)
        return;
    groups_destroy(answer->groups);
    arena_deinit(&answer->arena);
    free(answer);
}

static enum status answer_query(struct reader *reader, struct query_plan *plan, struct error *error)
{
    struct query_answer *answer = reader->answer;
    enum status status =
        query_plan_make(reader->version, reader->request, &answer->arena, plan, error);
    if (status == STATUS_OK)
        status = groups_create(&plan->shape, &answer->groups, error);
    if (status != STATUS_OK)
        return status;
    answer->keys = plan->keys;
    answer->key_count = plan->shape.key_count;
    answer->measures = plan->measures;
    answer->measure_count = plan->shape.measure_count;
    bool has_windows = !plan->view->window.kind->is_timeless;
    answer->has_start = plan->window_is_all ? plan->range.has_from : has_windows;
    answer->has_end = plan->window_is_all ? plan->range.has_to : has_windows;
    reader->field_count = view_row_columns(&plan->shape);
    reader->fields = arena_alloc(&answer->arena, reader->field_count * sizeof *reader->fields);
    if (reader->fields == NULL)
        return error_no_memory(error);
    status = read_snapshot(reader, error);
    if (status == STATUS_OK)
        status = combine_panes(reader, error);
    if (status == STATUS_OK)
        status = make_rows(plan, reader->request, answer, error);
    return status;
}

enum status query_run(struct postgres *postgres, const struct catalog_version *version,
                      const struct query_request *request, struct query_answer **out,
                      struct error *error)
{
    *out = NULL;
    struct query_answer *answer = answer_create(version->view);
    if (answer == NULL)
        return error_no_memory(error);
    /* The groups refer to the plan's shape, so the plan lives as long as the answer. */
    struct query_plan *plan = arena_alloc(&answer->arena, sizeof *plan);
    if (plan == NULL) {
        query_answer_destroy(answer);
        return error_no_memory(error);
    }
    struct reader reader = {
        .postgres = postgres,
        .version = version,
        .request = request,
        .plan = plan,
        .answer = answer,
    };
    enum status status = answer_query(&reader, plan, error);
    if (status != STATUS_OK) {
        query_answer_destroy(answer);
        return status;
    }
    *out = answer;
    return STATUS_OK;
}
