/* Reading dovetail.<view> as text: see sql_rows.h.
 *
 * The receipt's parts come from Dovetail's own tables, as docs/ARCHITECTURE.md describes them, in
 * the same REPEATABLE READ transaction. */
#include "tests/support/sql_rows.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/database.h"
#include "tests/support/oracle_internal.h"

enum { OID_BOOL = 16, OID_INT8 = 20, OID_TEXT = 25, OID_TIMESTAMPTZ = 1184, OID_NUMERIC = 1700 };

struct sql_session {
    PGconn *connection;
    char conninfo[600];
    char topic[256];
};

/* Failures are told by what fails. */
static void ignore_notice(void *context, const char *text)
{
    (void)context;
    (void)text;
}

static void begin(struct sql_session *session)
{
    PQfinish(session->connection);
    session->connection = database_open(session->conninfo);
    PQsetNoticeProcessor(session->connection, ignore_notice, NULL);
    PQclear(database_ask(session->connection, "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'"));
}

struct sql_session *sql_session_create(const char *conninfo, const char *topic)
{
    struct sql_session *session = calloc(1, sizeof *session);
    if (session == NULL)
        abort();
    snprintf(session->conninfo, sizeof session->conninfo, "%s", conninfo);
    snprintf(session->topic, sizeof session->topic, "%s", topic);
    begin(session);
    return session;
}

void sql_session_destroy(struct sql_session *session)
{
    if (session == NULL)
        return;
    PQfinish(session->connection);
    free(session);
}

bool sql_session_is_lost(const struct sql_session *session)
{
    return PQstatus(session->connection) != CONNECTION_OK;
}

static PGresult *run(struct sql_session *session, const char *sql, char *problem, size_t size)
{
    PGresult *result = database_ask(session->connection, sql);
    if (PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK)
        return result;
    snprintf(problem, size, "%s: %s", sql, PQerrorMessage(session->connection));
    PQclear(result);
    return NULL;
}

static bool execute(struct sql_session *session, const char *sql, char *problem, size_t size)
{
    PGresult *result = run(session, sql, problem, size);
    PQclear(result);
    return result != NULL;
}

static bool read_receipt(struct sql_session *session, struct oracle_receipt *receipt, char *problem,
                         size_t size)
{
    char sql[1024];
    snprintf(sql, sizeof sql,
             "SELECT r.run, coalesce(c.next_offset, p.base_offset),"
             " greatest(p.next_offset, c.next_offset),"
             " (extract(epoch FROM dovetail_internal.watermark('%s')) * 1000000)::bigint"
             " FROM dovetail_internal.current_run r CROSS JOIN dovetail_internal.position p"
             " LEFT JOIN dovetail_internal.run_cutoff c ON c.run = r.run AND c.topic = p.topic"
             " AND c.partition = p.partition WHERE p.topic = '%s' ORDER BY p.partition",
             session->topic, session->topic);
    PGresult *result = run(session, sql, problem, size);
    if (result == NULL)
        return false;
    *receipt = (struct oracle_receipt){.partitions = PQntuples(result)};
    bool good = receipt->partitions <= ORACLE_PARTITIONS;
    if (!good)
        snprintf(problem, size, "%d partitions in position", receipt->partitions);
    for (int p = 0; good && p < receipt->partitions; p++) {
        receipt->run = strtoll(PQgetvalue(result, p, 0), NULL, 10);
        receipt->cutoffs[p] = strtoll(PQgetvalue(result, p, 1), NULL, 10);
        receipt->positions[p] = strtoll(PQgetvalue(result, p, 2), NULL, 10);
        receipt->has_watermark = !PQgetisnull(result, p, 3);
        receipt->watermark_us = strtoll(PQgetvalue(result, p, 3), NULL, 10);
    }
    PQclear(result);
    return good;
}

/* "2026-01-01 00:00:00.5+00" as RFC 3339. */
static void put_time(struct oracle_text *text, const char *time)
{
    char buffer[64];
    snprintf(buffer, sizeof buffer, "%s", time);
    char *blank = strchr(buffer, ' ');
    char *zone = strstr(buffer, "+00");
    if (blank != NULL && zone != NULL) {
        *blank = 'T';
        strcpy(zone, "Z");
    }
    /* PostgreSQL writes the year 10000 as such, the program in ISO 8601's expanded form. */
    if (strspn(buffer, "0123456789") == 5)
        oracle_put(text, "+0");
    oracle_put(text, buffer);
}

static void put_value(struct oracle_text *text, const PGresult *result, int row, int column)
{
    const char *value = PQgetvalue(result, row, column);
    if (PQgetisnull(result, row, column)) {
        oracle_put(text, "null");
        return;
    }
    switch (PQftype(result, column)) {
    case OID_BOOL:
        oracle_put(text, value[0] == 't' ? "true" : "false");
        return;
    case OID_TEXT:
        oracle_put(text, "\"");
        oracle_put_bytes(text, value, (size_t)PQgetlength(result, row, column));
        oracle_put(text, "\"");
        return;
    case OID_TIMESTAMPTZ:
        oracle_put(text, "\"");
        put_time(text, value);
        oracle_put(text, "\"");
        return;
    case OID_INT8:
    case OID_NUMERIC:
        oracle_put(text, value);
        return;
    default:
        oracle_put(text, "a type that no view has: ");
        oracle_put(text, value);
    }
}

static void put_row(struct oracle_text *text, const struct oracle_view *view,
                    const PGresult *result, int row)
{
    int keys = (int)view->key_count, last = PQnfields(result) - 1;
    for (int column = 0; column <= last; column++) {
        const char *name = PQfname(result, column);
        if (column < 2) {
            if (strcmp(name, column == 0 ? "window_start" : "window_end") != 0 ||
                PQftype(result, column) != OID_TIMESTAMPTZ)
                oracle_put(text, "not a window: ");
            if (PQgetisnull(result, row, column))
                oracle_put(text, "null");
            else
                put_time(text, PQgetvalue(result, row, column));
            oracle_put(text, " ");
        } else if (column == last) {
            bool provisional = PQgetvalue(result, row, column)[0] == 't';
            oracle_put(text, strcmp(name, "provisional") != 0 ? " not provisional\n"
                             : provisional                    ? " | provisional\n"
                                                              : " | final\n");
        } else {
            oracle_put(text, column == 2 + keys ? "| " : column > 2 + keys ? " " : "");
            oracle_put(text, name);
            oracle_put(text, "=");
            put_value(text, result, row, column);
            oracle_put(text, column < 2 + keys ? " " : "");
        }
    }
}

static bool read_rows(struct sql_session *session, const struct oracle_view *view, char **rows,
                      char *problem, size_t size)
{
    char sql[1024];
    struct oracle_text text = {0};
    int length =
        snprintf(sql, sizeof sql, "SELECT * FROM dovetail.%s ORDER BY window_start", view->name);
    for (size_t i = 0; i < view->key_count; i++)
        length += snprintf(sql + length, sizeof sql - (size_t)length, ", %s", view->keys[i].name);
    PGresult *result = run(session, sql, problem, size);
    if (result == NULL)
        return false;
    oracle_put(&text, "");
    for (int row = 0; row < PQntuples(result); row++)
        put_row(&text, view, result, row);
    PQclear(result);
    *rows = text.data;
    return true;
}

bool sql_read_view(struct sql_session *session, const struct oracle_view *view,
                   struct oracle_receipt *receipt, char **rows, char *problem, size_t problem_size)
{
    *rows = NULL;
    if (sql_session_is_lost(session))
        begin(session);
    bool good = execute(session, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", problem,
                        problem_size) &&
                read_receipt(session, receipt, problem, problem_size) &&
                read_rows(session, view, rows, problem, problem_size);
    PQclear(database_ask(session->connection, good ? "COMMIT" : "ROLLBACK"));
    return good;
}

bool sql_read_positions(struct sql_session *session, struct oracle_positions *out, char *problem,
                        size_t problem_size)
{
    char sql[512];
    snprintf(sql, sizeof sql,
             "SELECT next_offset, consumed, counted, filtered, duplicate, dead_lettered,"
             " coalesce(last_offset, -1) FROM dovetail_internal.position WHERE topic = '%s'"
             " ORDER BY partition",
             session->topic);
    if (sql_session_is_lost(session))
        begin(session);
    PGresult *result = run(session, sql, problem, problem_size);
    if (result == NULL)
        return false;
    *out = (struct oracle_positions){.partitions = PQntuples(result)};
    bool good = out->partitions <= ORACLE_PARTITIONS;
    for (int p = 0; good && p < out->partitions; p++) {
        int64_t values[7];
        for (int i = 0; i < 7; i++)
            values[i] = strtoll(PQgetvalue(result, p, i), NULL, 10);
        out->next_offset[p] = values[0];
        out->ledgers[p] = (struct oracle_ledger){.consumed = values[1],
                                                 .counted = values[2],
                                                 .filtered = values[3],
                                                 .duplicate = values[4],
                                                 .dead_lettered = values[5],
                                                 .last_offset = values[6]};
    }
    if (!good)
        snprintf(problem, problem_size, "%d partitions in position", out->partitions);
    PQclear(result);
    return good;
}
