/* libpq, wrapped: see core/postgres/postgres.h.
 *
 * Invariant: every failure leaves with a status that says what to do, the SQLSTATE where the server
 * gave one, and a one-line text: the statement's first words and the server's message, never the
 * connection string.
 * A connection is used by one thread at a time. A broken one stays broken, and every call on it
 * answers STATUS_RETRY, until postgres_reconnect. */
#include "core/postgres/postgres.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/postgres/postgres_internal.h"

enum {
    PENDING_CHANNELS_MAX = 8,
    CHANNEL_BYTES = 64, /* PostgreSQL's NAMEDATALEN */
    COPY_CHUNK_BYTES = 1 << 20,
};

struct postgres {
    PGconn *connection; /* NULL when out of memory or timed out; libpq then says BAD */
    char *conninfo;     /* secret: for reconnecting */
    char *application;
    struct postgres_backend backend; /* of the newest session that stood */
    struct postgres_backend former;  /* of one before, which may be there yet; pid empty: none */
    /* Notifications read while another channel was asked for. */
    char pending[PENDING_CHANNELS_MAX][CHANNEL_BYTES];
    size_t pending_count;
};

/* --- what an error means --- */

/* Passing troubles of the server: worth another try of the same transaction. */
bool postgres_sqlstate_is_transient(const char *sqlstate)
{
    static const char *const transient[] = {
        "25006", /* read_only_sql_transaction: a replica, before it is promoted */
        "40001", /* serialization_failure */
        "40P01", /* deadlock_detected */
        "55P03", /* lock_not_available */
        "57P01", /* admin_shutdown */
        "57P02", /* crash_shutdown */
        "57P03", /* cannot_connect_now: starting up, recovering */
    };
    static const char *const classes[] = {
        "08", /* connection exceptions */
        "53", /* insufficient resources: disk, memory, connections */
        "58", /* system errors, such as of I/O */
    };
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
        if (strncmp(sqlstate, classes[i], 2) == 0)
            return true;
    for (size_t i = 0; i < sizeof transient / sizeof transient[0]; i++)
        if (strcmp(sqlstate, transient[i]) == 0)
            return true;
    return false;
}

void postgres_keep_sqlstate(struct error *error, const char *sqlstate)
{
    if (error != NULL && sqlstate != NULL)
        snprintf(error->sqlstate, sizeof error->sqlstate, "%s", sqlstate);
}

void postgres_make_single_line(char *text)
{
    for (; *text != '\0'; text++)
        if (iscntrl((unsigned char)*text))
            *text = ' ';
}

int postgres_first_line_length(const char *text)
{
    size_t length = strcspn(text, "\n");
    return length > ERROR_TEXT_BYTES ? ERROR_TEXT_BYTES : (int)length;
}

enum status postgres_error(PGconn *connection, const PGresult *result, const char *doing,
                           struct error *error)
{
    bool lost = PQstatus(connection) == CONNECTION_BAD;
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
    bool retry = lost || (sqlstate != NULL && postgres_sqlstate_is_transient(sqlstate));
    enum status status = retry ? STATUS_RETRY : STATUS_FATAL;
    if (primary == NULL) {
        primary = result != NULL ? PQresultErrorMessage(result) : "";
        if (primary[0] == '\0')
            primary = PQerrorMessage(connection);
    }
    if (primary[0] == '\0')
        primary = lost ? "connection lost" : "unexpected kind of result";
    int length = sqlstate != NULL ? (int)strnlen(primary, ERROR_TEXT_BYTES)
                                  : postgres_first_line_length(primary);
    error_set(error, status, "%s: %.*s%s%s%s", doing, length, primary, detail != NULL ? " (" : "",
              detail != NULL ? detail : "", detail != NULL ? ")" : "");
    postgres_keep_sqlstate(error, sqlstate == NULL && lost ? "08006" : sqlstate);
    if (error != NULL)
        postgres_make_single_line(error->text);
    return status;
}

/* The leading words of a statement, such as "UPDATE dovetail.position SET": enough to find it, and
 * never a literal. */
static const char *summarize(const char *sql, char *buffer, size_t size)
{
    size_t length = 0;
    while (isspace((unsigned char)*sql))
        sql++;
    for (; *sql != '\0' && length + 1 < size && length < 48; sql++) {
        unsigned char byte = (unsigned char)*sql;
        if (isspace(byte))
            byte = ' ';
        else if (!isalnum(byte) && strchr("_.\"*", byte) == NULL)
            break;
        if (byte != ' ' || (length > 0 && buffer[length - 1] != ' '))
            buffer[length++] = (char)byte;
    }
    while (length > 0 && buffer[length - 1] == ' ')
        length--;
    buffer[length] = '\0';
    return length > 0 ? buffer : "statement";
}

static enum status statement_error(struct postgres *postgres, const PGresult *result,
                                   const char *sql, struct error *error)
{
    char buffer[64];
    return postgres_error(postgres->connection, result, summarize(sql, buffer, sizeof buffer),
                          error);
}

/* --- connecting --- */

static enum status open_connection(struct postgres *postgres, struct error *error)
{
    return postgres_open(postgres->conninfo, postgres->application, &postgres->connection,
                         &postgres->backend, error);
}

/* Best effort: where the server refuses, its keepalive ends the session. What the session was doing
 * is done or undone as a whole, since a COMMIT in progress is not interrupted. */
static enum status end_former_session(struct postgres *postgres, struct error *error)
{
    if (postgres->former.pid[0] == '\0')
        return STATUS_OK;
    const char *parameters[] = {postgres->former.pid, postgres->former.start};
    PGresult *result = NULL;
    enum status status =
        postgres_query(postgres,
                       "SELECT pg_terminate_backend(pid) FROM pg_stat_get_activity($1::integer) "
                       "WHERE backend_start = $2::timestamptz",
                       2, parameters, &result, error);
    PQclear(result);
    if (status != STATUS_OK && !postgres_is_connected(postgres))
        return STATUS_RETRY;
    postgres->former.pid[0] = '\0';
    return STATUS_OK;
}

enum status postgres_connect(const char *conninfo, const char *application, struct postgres **out,
                             struct error *error)
{
    *out = NULL;
    struct postgres *postgres = calloc(1, sizeof *postgres);
    if (postgres == NULL)
        return error_no_memory(error);
    enum status status;
    postgres->conninfo = strdup(conninfo);
    postgres->application = strdup(application);
    if (postgres->conninfo == NULL || postgres->application == NULL)
        status = error_no_memory(error);
    else
        status = open_connection(postgres, error);
    if (status != STATUS_OK) {
        postgres_close(postgres);
        return status;
    }
    *out = postgres;
    return STATUS_OK;
}

void postgres_close(struct postgres *postgres)
{
    if (postgres == NULL)
        return;
    PQfinish(postgres->connection);
    free(postgres->conninfo);
    free(postgres->application);
    free(postgres);
}

enum status postgres_reconnect(struct postgres *postgres, struct error *error)
{
    PQfinish(postgres->connection);
    postgres->connection = NULL;
    postgres->pending_count = 0;
    if (postgres->backend.pid[0] != '\0') /* or the attempt before came to nothing */
        postgres->former = postgres->backend;
    postgres->backend.pid[0] = '\0';
    enum status status = open_connection(postgres, error);
    return status == STATUS_OK ? end_former_session(postgres, error) : status;
}

bool postgres_is_connected(const struct postgres *postgres)
{
    return PQstatus(postgres->connection) == CONNECTION_OK;
}

const char *postgres_server(const struct postgres *postgres)
{
    return postgres->backend.server;
}

PGconn *postgres_handle(struct postgres *postgres)
{
    return postgres->connection;
}

/* --- statements --- */

static bool result_is_good(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

enum status postgres_execute(struct postgres *postgres, const char *sql, struct error *error)
{
    PGresult *result = PQexec(postgres->connection, sql);
    enum status status = STATUS_OK;
    if (!result_is_good(result) && PQresultStatus(result) != PGRES_EMPTY_QUERY)
        status = statement_error(postgres, result, sql, error);
    PQclear(result);
    return status;
}

enum status postgres_executef(struct postgres *postgres, struct error *error, const char *format,
                              ...)
{
    char *sql = NULL;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&sql, format, arguments);
    va_end(arguments);
    if (length < 0)
        return error_no_memory(error);
    enum status status = postgres_execute(postgres, sql, error);
    free(sql);
    return status;
}

static enum status query(struct postgres *postgres, const char *sql, int parameter_count,
                         const char *const *parameters, int result_format, PGresult **out,
                         struct error *error)
{
    *out = PQexecParams(postgres->connection, sql, parameter_count, NULL, parameters, NULL, NULL,
                        result_format);
    if (result_is_good(*out))
        return STATUS_OK;
    return statement_error(postgres, *out, sql, error);
}

enum status postgres_query(struct postgres *postgres, const char *sql, int parameter_count,
                           const char *const *parameters, PGresult **out, struct error *error)
{
    return query(postgres, sql, parameter_count, parameters, 0, out, error);
}

enum status postgres_run(struct postgres *postgres, const char *sql, int parameter_count,
                         const char *const *parameters, struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_query(postgres, sql, parameter_count, parameters, &result, error);
    PQclear(result);
    return status;
}

enum status postgres_query_binary(struct postgres *postgres, const char *sql, int parameter_count,
                                  const char *const *parameters, PGresult **out,
                                  struct error *error)
{
    return query(postgres, sql, parameter_count, parameters, 1, out, error);
}

struct pgbinary_field postgres_field(const PGresult *result, int row, int column)
{
    if (PQgetisnull(result, row, column))
        return (struct pgbinary_field){0};
    return (struct pgbinary_field){.data = (const uint8_t *)PQgetvalue(result, row, column),
                                   .length = (size_t)PQgetlength(result, row, column)};
}

int64_t postgres_int64(const PGresult *result, int row, int column)
{
    return strtoll(PQgetvalue(result, row, column), NULL, 10);
}

bool postgres_bool(const PGresult *result, int row, int column)
{
    return PQgetvalue(result, row, column)[0] == 't';
}

/* --- COPY --- */

/* Reads results until the command is over; the first failure is the one to tell. */
static enum status finish_command(struct postgres *postgres, const char *doing, struct error *error)
{
    enum status status = STATUS_OK;
    for (PGresult *result; (result = PQgetResult(postgres->connection)) != NULL;) {
        ExecStatusType kind = PQresultStatus(result);
        if (status == STATUS_OK && !result_is_good(result))
            status = postgres_error(postgres->connection, result, doing, error);
        PQclear(result);
        if (kind == PGRES_COPY_IN || kind == PGRES_COPY_OUT || kind == PGRES_COPY_BOTH)
            break; /* would come again for ever */
    }
    if (status == STATUS_OK && !postgres_is_connected(postgres))
        status = postgres_error(postgres->connection, NULL, doing, error);
    return status;
}

static enum status copy_begin(struct postgres *postgres, const char *sql, ExecStatusType expected,
                              struct error *error)
{
    PGresult *result = PQexec(postgres->connection, sql);
    enum status status = STATUS_OK;
    if (PQresultStatus(result) != expected)
        status = statement_error(postgres, result, sql, error);
    PQclear(result);
    return status;
}

enum status postgres_copy_in_begin(struct postgres *postgres, const char *sql, struct error *error)
{
    return copy_begin(postgres, sql, PGRES_COPY_IN, error);
}

enum status postgres_copy_in_data(struct postgres *postgres, const char *data, size_t length,
                                  struct error *error)
{
    /* In pieces: libpq's buffer grows to the largest piece and never shrinks. */
    while (length > 0) {
        int piece = length > COPY_CHUNK_BYTES ? COPY_CHUNK_BYTES : (int)length;
        if (PQputCopyData(postgres->connection, data, piece) != 1)
            return postgres_error(postgres->connection, NULL, "COPY", error);
        data += piece;
        length -= (size_t)piece;
    }
    return STATUS_OK;
}

enum status postgres_copy_in_end(struct postgres *postgres, struct error *error)
{
    if (PQputCopyEnd(postgres->connection, NULL) != 1)
        return postgres_error(postgres->connection, NULL, "COPY", error);
    return finish_command(postgres, "COPY", error);
}

enum {
    COPY_SIGNATURE_BYTES = 11,
    COPY_HEADER_BYTES = COPY_SIGNATURE_BYTES + 4 + 4, /* flags, length of the extension */
};

/* Length of the header that the first message starts with; 0 when it is none. */
static size_t copy_header_length(const uint8_t *data, size_t length)
{
    if (length < COPY_HEADER_BYTES || memcmp(data, "PGCOPY\n\377\r\n\0", COPY_SIGNATURE_BYTES) != 0)
        return 0;
    const uint8_t *word = data + COPY_HEADER_BYTES - 4;
    size_t extension =
        (size_t)word[0] << 24 | (size_t)word[1] << 16 | (size_t)word[2] << 8 | (size_t)word[3];
    return extension <= length - COPY_HEADER_BYTES ? COPY_HEADER_BYTES + extension : 0;
}

/* Ends a COPY whose rows nobody wants any more. The transaction is aborted by it. */
static void cancel_copy_out(struct postgres *postgres)
{
    char message[256];
    PGcancel *cancel = PQgetCancel(postgres->connection);
    if (cancel != NULL)
        (void)PQcancel(cancel, message, (int)sizeof message); /* else everything is read */
    PQfreeCancel(cancel);
    char *buffer = NULL;
    while (PQgetCopyData(postgres->connection, &buffer, 0) > 0) {
        PQfreemem(buffer);
        buffer = NULL;
    }
    (void)finish_command(postgres, "COPY", NULL);
}

/* One message of COPY data: the header stands before the first row, -1 as field count ends. */
static enum status copy_out_message(const uint8_t *data, size_t length, bool *header_seen,
                                    enum status (*on_row)(const uint8_t *row, size_t length,
                                                          void *context, struct error *error),
                                    void *context, struct error *error)
{
    if (!*header_seen) {
        size_t header = copy_header_length(data, length);
        if (header == 0)
            return error_set(error, STATUS_FATAL, "COPY: the data has no binary header");
        *header_seen = true;
        data += header;
        length -= header;
    }
    if (length == 0 || (length == 2 && data[0] == 0xFF && data[1] == 0xFF))
        return STATUS_OK;
    return on_row(data, length, context, error);
}

enum status postgres_copy_out(struct postgres *postgres, const char *sql,
                              enum status (*on_row)(const uint8_t *row, size_t length,
                                                    void *context, struct error *error),
                              void *context, struct error *error)
{
    enum status status = copy_begin(postgres, sql, PGRES_COPY_OUT, error);
    if (status != STATUS_OK)
        return status;
    bool header_seen = false;
    for (;;) {
        char *message = NULL;
        int length = PQgetCopyData(postgres->connection, &message, 0);
        if (length < 0) /* the end, or a failure that finish_command tells */
            return finish_command(postgres, "COPY", error);
        status = copy_out_message((const uint8_t *)message, (size_t)length, &header_seen, on_row,
                                  context, error);
        PQfreemem(message);
        if (status != STATUS_OK) {
            cancel_copy_out(postgres);
            return status;
        }
    }
}

/* --- notifications --- */

static bool take_pending(struct postgres *postgres, const char *channel)
{
    for (size_t i = 0; i < postgres->pending_count; i++) {
        if (strcmp(postgres->pending[i], channel) != 0)
            continue;
        postgres->pending_count--;
        memmove(postgres->pending[i], postgres->pending[postgres->pending_count], CHANNEL_BYTES);
        return true;
    }
    return false;
}

static void add_pending(struct postgres *postgres, const char *channel)
{
    for (size_t i = 0; i < postgres->pending_count; i++)
        if (strcmp(postgres->pending[i], channel) == 0)
            return;
    if (postgres->pending_count < PENDING_CHANNELS_MAX)
        snprintf(postgres->pending[postgres->pending_count++], CHANNEL_BYTES, "%s", channel);
}

enum status postgres_poll_notification(struct postgres *postgres, const char *channel,
                                       bool *arrived, struct error *error)
{
    *arrived = false;
    bool good = PQconsumeInput(postgres->connection) == 1;
    for (PGnotify *notify; (notify = PQnotifies(postgres->connection)) != NULL;) {
        add_pending(postgres, notify->relname);
        PQfreemem(notify);
    }
    *arrived = take_pending(postgres, channel);
    if (good)
        return STATUS_OK;
    return postgres_error(postgres->connection, NULL, "waiting for notifications", error);
}

/* --- quoting --- */

char *postgres_identifier(struct postgres *postgres, const char *name)
{
    return PQescapeIdentifier(postgres->connection, name, strlen(name));
}

char *postgres_literal(struct postgres *postgres, const char *text)
{
    return PQescapeLiteral(postgres->connection, text, strlen(text));
}
