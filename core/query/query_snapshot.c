/* The statements of one query, to PostgreSQL and back in one pipeline. (For a receipt alone the
 * second one, which is a snapshot by itself.)
 *
 *   BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY
 *   run, and for each partition C, P, watermark, as_of, coverage    (query_receipt)
 *   batch rows visible under that run                                records below C
 *   speed rows of the slices that begin at or above C                records in [C, P)
 *   COMMIT
 *
 * Invariant: all five results come from one snapshot. The statements find run and C by themselves,
 * so nothing read earlier can disagree with them. Rows are handed on as they arrive, one by one.
 *
 * A failure leaves the connection outside of pipeline mode and of any transaction, or broken, for
 * the caller to reconnect. One thread at a time for each connection. */
#include "core/query/query_internal.h"

#include <string.h>

#include "core/catalog/catalog_lookup.h"

static const char begin_sql[] = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
static const char commit_sql[] = "COMMIT";

/* --- sending --- */

static enum status find_statements(struct query_reader *reader, struct error *error)
{
    bool alone = reader->request->receipt_only;
    const char *const texts[QUERY_STEP_COUNT] = {
        [QUERY_STEP_BEGIN] = alone ? NULL : begin_sql,
        [QUERY_STEP_RECEIPT] = query_receipt_sql,
        [QUERY_STEP_BATCH] = reader->plan->batch_sql,
        [QUERY_STEP_SPEED] = reader->plan->speed_sql,
        [QUERY_STEP_COMMIT] = alone ? NULL : commit_sql,
    };
    for (int step = 0; step < QUERY_STEP_COUNT; step++) {
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

static bool send_step(struct query_reader *reader, enum query_step step,
                      const struct query_parameters *parameters)
{
    PGconn *connection = postgres_handle(reader->postgres);
    const struct query_statement *statement = reader->statements[step];
    if (statement == NULL)
        return true; /* not part of this query */
    if (!reader->was_prepared[step] && !PQsendPrepare(connection, statement->name, statement->text,
                                                      parameters->count, parameters->types))
        return false;
    return PQsendQueryPrepared(connection, statement->name, parameters->count, parameters->values,
                               parameters->lengths, parameters->formats, 1) == 1;
}

static bool send_all(struct query_reader *reader)
{
    static const struct query_parameters none;
    const struct query_parameters *batch = &reader->plan->batch_parameters;
    const struct query_parameters *speed = &reader->plan->speed_parameters;
    struct query_parameters receipt;
    uint8_t version[4];
    query_receipt_parameters(reader, version, &receipt);
    PGconn *connection = postgres_handle(reader->postgres);
    return PQenterPipelineMode(connection) == 1 && send_step(reader, QUERY_STEP_BEGIN, &none) &&
           send_step(reader, QUERY_STEP_RECEIPT, &receipt) &&
           send_step(reader, QUERY_STEP_BATCH, batch) &&
           send_step(reader, QUERY_STEP_SPEED, speed) &&
           send_step(reader, QUERY_STEP_COMMIT, &none) && PQpipelineSync(connection) == 1;
}

/* --- receiving --- */

/* The reference tables of the query, or the one that a message of PostgreSQL names. */
static void list_lookups(const struct query_reader *reader, const char *message, char *out,
                         size_t size)
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
static enum status refused(const struct query_reader *reader, const PGresult *result,
                           enum query_step step, struct error *error)
{
    char tables[VIEW_LOOKUP_MAX * 132];
    enum status status = postgres_error(postgres_handle(reader->postgres), result, "query", error);
    bool timeout = strcmp(error->sqlstate, "57014") == 0;
    if ((step != QUERY_STEP_BATCH && step != QUERY_STEP_SPEED) || status != STATUS_FATAL || timeout)
        return status;
    list_lookups(reader, error->text, tables, sizeof tables);
    if (tables[0] == '\0')
        return status;
    (void)error_wrap(error, "lookup: cannot read the reference table %s", tables);
    return error->status = STATUS_RETRY;
}

static enum status take_result(struct query_reader *reader, enum query_step step,
                               const PGresult *result, struct error *error)
{
    enum query_layer layer = step == QUERY_STEP_BATCH ? QUERY_BATCH : QUERY_SPEED;
    switch (PQresultStatus(result)) {
    case PGRES_COMMAND_OK:
        return STATUS_OK;
    case PGRES_TUPLES_OK:
    case PGRES_SINGLE_TUPLE:
        return step == QUERY_STEP_RECEIPT ? query_receipt_read(reader, result, error)
                                          : query_merge_rows(reader, result, layer, error);
    default:
        return refused(reader, result, step, error);
    }
}

/* Results of one command, up to the NULL that ends them. After a failure the rest is read and
 * thrown away. `status` is what has happened so far. */
static enum status take_command(struct query_reader *reader, enum query_step step,
                                enum status status, struct error *error)
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
static enum status take_prepared(struct query_reader *reader, enum query_step step,
                                 enum status status, struct error *error)
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
static enum status take_step(struct query_reader *reader, enum query_step step, enum status status,
                             struct error *error)
{
    if (reader->statements[step] == NULL)
        return status;
    if (!reader->was_prepared[step])
        status = take_prepared(reader, step, status, error);
    /* Row by row, so that a large scan is never held as a whole. */
    if (step == QUERY_STEP_BATCH || step == QUERY_STEP_SPEED)
        (void)PQsetSingleRowMode(postgres_handle(reader->postgres));
    return take_command(reader, step, status, error);
}

static void note_time(struct query_reader *reader, enum query_step step)
{
    struct query_explain *explain = &reader->answer->explain;
    if (step == QUERY_STEP_RECEIPT)
        explain->receipt_us = query_lap_us(reader);
    else if (step == QUERY_STEP_BATCH)
        explain->batch_us = query_lap_us(reader);
    else if (step == QUERY_STEP_SPEED)
        explain->speed_us = query_lap_us(reader);
}

static enum status receive_all(struct query_reader *reader, struct error *error)
{
    PGconn *connection = postgres_handle(reader->postgres);
    enum status status = STATUS_OK;
    for (enum query_step step = QUERY_STEP_BEGIN; step < QUERY_STEP_COUNT; step++) {
        if (PQstatus(connection) == CONNECTION_OK)
            status = take_step(reader, step, status, error);
        note_time(reader, step);
    }
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

enum status query_snapshot_read(struct query_reader *reader, struct error *error)
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
