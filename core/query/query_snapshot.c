/* The statements of one query, to PostgreSQL and back: rows in one statement where it turns out
 * that the database has not moved since a receipt was read; else all in one pipeline. (For a
 * receipt alone its statement, which is a snapshot by itself.)
 *
 *   BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY
 *   run, and for each partition C, P, watermark, as_of, coverage    (query_receipt)
 *   batch rows visible under that run                                records below C
 *   speed rows of the slices that begin at or above C                records in [C, P)
 *   COMMIT
 *
 * Invariant: all five results come from one snapshot. The statements find run and C by themselves,
 * so nothing read earlier can disagree with them. The one statement is told run and C of the
 * receipt and gives rows only if its own snapshot is the receipt's (query_mark.c): then they are
 * what it would find itself. Rows are handed on as they arrive, one by one; libpq takes longer for
 * that than for all of them at once, so a statement that cannot have many is received as a whole.
 *
 * A failure leaves the connection outside of pipeline mode and of any transaction, or broken, for
 * the caller to reconnect. One thread at a time for each connection. */
#include "core/query/query_internal.h"

#include <string.h>
#include <sys/socket.h>

#include "core/catalog/catalog_lookup.h"

/* Also because libpq (15) lets the first statement of a pipeline inherit the row by row mode of
 * what was sent before the pipeline: here that is a statement without rows. */
static const char begin_sql[] = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
static const char commit_sql[] = "COMMIT";

/* --- sending --- */

static enum status find_statements(struct query_reader *reader, struct error *error)
{
    struct query_sql *sql = reader->sql;
    sql[QUERY_STEP_BEGIN].text = begin_sql;
    sql[QUERY_STEP_RECEIPT].text = query_receipt_sql;
    sql[QUERY_STEP_COMMIT].text = commit_sql;
    enum status status = query_make_statements(
        reader->plan, reader->version, reader->request->layer, &reader->answer->arena,
        &sql[QUERY_STEP_BATCH], &sql[QUERY_STEP_SPEED], error);
    for (int step = 0; step < QUERY_STEP_COUNT && status == STATUS_OK; step++) {
        reader->statements[step] = NULL;
        if (sql[step].text == NULL)
            continue;
        status = query_statement_find(reader->postgres, sql[step].text, &reader->statements[step],
                                      error);
        if (status == STATUS_OK)
            reader->was_prepared[step] = reader->statements[step]->prepared;
    }
    return status;
}

static bool send_step(struct query_reader *reader, enum query_step step)
{
    PGconn *connection = postgres_handle(reader->postgres);
    const struct query_parameters *parameters = &reader->sql[step].parameters;
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
    uint8_t version[4];
    query_receipt_parameters(reader, version, &reader->sql[QUERY_STEP_RECEIPT].parameters);
    PGconn *connection = postgres_handle(reader->postgres);
    bool sent = PQenterPipelineMode(connection) == 1;
    for (enum query_step step = QUERY_STEP_BEGIN; step < QUERY_STEP_COUNT; step++)
        sent = sent && send_step(reader, step);
    return sent && PQpipelineSync(connection) == 1;
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

/* libpq itself has failed, for want of memory: it does not know any more what the server answers to
 * what, or whether it will answer at all, and whoever waited for it might wait for ever. So the
 * connection ends, and with it what was to be read. */
static enum status give_up(PGconn *connection, const PGresult *result, struct error *error)
{
    enum status status = postgres_error(connection, result, "query", error);
    (void)shutdown(PQsocket(connection), SHUT_RDWR);
    return status;
}

/* Rows that PostgreSQL refuses, as `error` says. Where they read reference tables the reason is
 * most likely there, for those are not ours: anybody can drop one, or take the right to it away. */
static enum status blame_lookups(const struct query_reader *reader, enum query_step step,
                                 enum status status, struct error *error)
{
    char tables[VIEW_LOOKUP_MAX * 132];
    bool timeout = strcmp(error->sqlstate, "57014") == 0;
    if ((step != QUERY_STEP_BATCH && step != QUERY_STEP_SPEED) || status != STATUS_FATAL || timeout)
        return status;
    list_lookups(reader, error->text, tables, sizeof tables);
    if (tables[0] == '\0')
        return status;
    (void)error_wrap(error, "lookup: cannot read the reference table %s", tables);
    return error->status = STATUS_RETRY;
}

static enum status refused(const struct query_reader *reader, const PGresult *result,
                           enum query_step step, struct error *error)
{
    if (PQresultErrorField(result, PG_DIAG_SQLSTATE) == NULL)
        return give_up(postgres_handle(reader->postgres), result, error);
    enum status status = postgres_error(postgres_handle(reader->postgres), result, "query", error);
    return blame_lookups(reader, step, status, error);
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
    bool is_whole = false; /* rows alone are no answer: the last result says that they are all */
    while ((result = PQgetResult(connection)) != NULL) {
        is_whole = is_whole || PQresultStatus(result) != PGRES_SINGLE_TUPLE;
        if (status == STATUS_OK)
            status = take_result(reader, step, result, error);
        PQclear(result);
    }
    if (status == STATUS_OK && (!is_whole || PQstatus(connection) == CONNECTION_BAD))
        status = give_up(connection, NULL, error);
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

/* A statement is a snapshot by itself. */
static enum status read_receipt_alone(struct query_reader *reader, struct error *error)
{
    struct query_parameters parameters;
    PGresult *result = NULL;
    uint8_t version[4];
    query_receipt_parameters(reader, version, &parameters);
    query_mark_begin(reader->postgres, &reader->answer->receipt.mark);
    enum status status =
        query_statement_run(reader->postgres, query_receipt_sql, &parameters, &result, error);
    if (status == STATUS_OK)
        status = query_receipt_read(reader, result, error);
    PQclear(result);
    return status;
}

enum status query_snapshot_read(struct query_reader *reader, struct error *error)
{
    if (reader->request->receipt_only)
        return read_receipt_alone(reader, error);
    enum status status = find_statements(reader, error);
    if (status != STATUS_OK)
        return status;
    PGconn *connection = postgres_handle(reader->postgres);
    query_mark_begin(reader->postgres, &reader->answer->receipt.mark);
    if (send_all(reader))
        status = receive_all(reader, error);
    else
        status = give_up(connection, NULL, error);
    leave_pipeline(connection);
    return status;
}

/* --- at a snapshot that is known --- */

/* Rows of both layers, and the one that says that this is that snapshot. */
static enum status take_known(struct query_reader *reader, const PGresult *result, bool *held,
                              struct error *error)
{
    if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_SINGLE_TUPLE)
        return refused(reader, result, QUERY_STEP_BATCH, error);
    if ((size_t)PQnfields(result) != reader->field_count + 1)
        return error_set(error, STATUS_FATAL, "a table of states has other columns than its view");
    enum status status = STATUS_OK;
    for (int row = 0; row < PQntuples(result) && status == STATUS_OK; row++) {
        struct pgbinary_field field = postgres_field(result, row, 0);
        int32_t layer;
        status = pgbinary_get_int4(&field, &layer, error);
        if (status == STATUS_OK && layer == QUERY_MERGED)
            *held = true;
        else if (status == STATUS_OK)
            status = query_merge_row(reader, result, row, 1, (enum query_layer)layer, error);
    }
    return status;
}

static enum status copy_receipt(struct query_answer *answer, const struct query_receipt *known,
                                struct error *error)
{
    size_t bytes = known->partition_count * sizeof known->partitions[0];
    struct query_partition *partitions = arena_alloc(&answer->arena, bytes);
    if (partitions == NULL)
        return error_no_memory(error);
    memcpy(partitions, known->partitions, bytes);
    answer->receipt = *known;
    answer->receipt.partitions = partitions;
    for (size_t i = 0; i < known->partition_count; i++)
        partitions[i].topic = answer->view->source->topic;
    return STATUS_OK;
}

enum status query_known_read(struct query_reader *reader, bool *held, struct error *error)
{
    const struct query_receipt *known = reader->request->known;
    PGconn *connection = postgres_handle(reader->postgres);
    struct query_sql *sql = &reader->sql[QUERY_STEP_BATCH];
    struct query_statement *statement = NULL;
    bool is_whole = false; /* as in take_command */
    bool is_short = false;
    *held = false;
    if (known == NULL || !query_mark_may_hold(&known->mark, reader->postgres))
        return STATUS_OK;
    enum status status = query_make_known_statement(reader->plan, reader->version, reader->request,
                                                    &reader->answer->arena, sql, &is_short, error);
    if (status == STATUS_OK)
        status = query_statement_prepare(reader->postgres, sql->text, &sql->parameters, &statement,
                                         error);
    if (status != STATUS_OK)
        return blame_lookups(reader, QUERY_STEP_BATCH, status, error);
    if (PQsendQueryPrepared(connection, statement->name, sql->parameters.count,
                            sql->parameters.values, sql->parameters.lengths,
                            sql->parameters.formats, 1) != 1)
        return postgres_error(connection, NULL, "query", error);
    if (!is_short)
        (void)PQsetSingleRowMode(connection);
    for (PGresult *result; (result = PQgetResult(connection)) != NULL; PQclear(result)) {
        is_whole = is_whole || PQresultStatus(result) != PGRES_SINGLE_TUPLE;
        bool is_cut = is_short && PQntuples(result) == QUERY_SHORT_ROWS;
        if (status == STATUS_OK && !is_cut) /* else it is read row by row after all */
            status = take_known(reader, result, held, error);
    }
    if (status == STATUS_OK && (!is_whole || PQstatus(connection) == CONNECTION_BAD))
        status = give_up(connection, NULL, error);
    if (status == STATUS_OK && *held)
        status = copy_receipt(reader->answer, known, error);
    return status;
}
