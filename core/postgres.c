/* libpq, wrapped: see core/postgres.h.
 *
 * Invariant: every failure leaves with a status that says what to do, the SQLSTATE where the server
 * gave one, and a one-line text that holds neither the connection string nor parameter values.
 * A connection is used by one thread at a time. A broken one stays broken, and every call on it
 * answers STATUS_RETRY, until postgres_reconnect. */
#include "core/postgres.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/program.h"

enum {
    CONNECT_TIMEOUT_S = 10, /* for each host of the conninfo */
    PARAMETERS_MAX = 96,    /* libpq 15 knows 44 keywords */
    PENDING_CHANNELS_MAX = 8,
    CHANNEL_BYTES = 64, /* PostgreSQL's NAMEDATALEN */
    COPY_CHUNK_BYTES = 1 << 20,
};

struct postgres {
    PGconn *connection; /* NULL only when out of memory */
    char *conninfo;     /* secret: for reconnecting */
    char *application;
    /* Notifications read while another channel was asked for. */
    char pending[PENDING_CHANNELS_MAX][CHANNEL_BYTES];
    size_t pending_count;
};

/* --- what an error means --- */

/* Passing troubles of the server: worth another try of the same transaction. */
static bool sqlstate_is_transient(const char *sqlstate)
{
    static const char *const transient[] = {
        "40001", /* serialization_failure */
        "40P01", /* deadlock_detected */
        "53300", /* too_many_connections */
        "55P03", /* lock_not_available */
        "57P01", /* admin_shutdown */
        "57P02", /* crash_shutdown */
        "57P03", /* cannot_connect_now: starting up, recovering */
    };
    if (strncmp(sqlstate, "08", 2) == 0) /* connection exceptions */
        return true;
    for (size_t i = 0; i < sizeof transient / sizeof transient[0]; i++)
        if (strcmp(sqlstate, transient[i]) == 0)
            return true;
    return false;
}

static void keep_sqlstate(struct error *error, const char *sqlstate)
{
    if (error != NULL && sqlstate != NULL)
        snprintf(error->sqlstate, sizeof error->sqlstate, "%s", sqlstate);
}

static void make_single_line(char *text)
{
    for (; *text != '\0'; text++)
        if (iscntrl((unsigned char)*text))
            *text = ' ';
}

/* libpq's own troubles come as several lines, of which the first says what happened. */
static int first_line_length(const char *text)
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
    bool retry = lost || (sqlstate != NULL && sqlstate_is_transient(sqlstate));
    enum status status = retry ? STATUS_RETRY : STATUS_FATAL;
    if (primary == NULL) {
        primary = result != NULL ? PQresultErrorMessage(result) : "";
        if (primary[0] == '\0')
            primary = PQerrorMessage(connection);
    }
    if (primary[0] == '\0')
        primary = lost ? "connection lost" : "unexpected kind of result";
    int length =
        sqlstate != NULL ? (int)strnlen(primary, ERROR_TEXT_BYTES) : first_line_length(primary);
    error_set(error, status, "%s: %.*s%s%s%s", doing, length, primary, detail != NULL ? " (" : "",
              detail != NULL ? detail : "", detail != NULL ? ")" : "");
    keep_sqlstate(error, sqlstate);
    if (error != NULL)
        make_single_line(error->text);
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

struct parameters {
    const char *keywords[PARAMETERS_MAX + 1];
    const char *values[PARAMETERS_MAX + 1];
    size_t count;
};

static const char *parameter(const struct parameters *parameters, const char *keyword)
{
    for (size_t i = 0; i < parameters->count; i++)
        if (strcmp(parameters->keywords[i], keyword) == 0)
            return parameters->values[i];
    return NULL;
}

static void add_parameter(struct parameters *parameters, const char *keyword, const char *value)
{
    if (parameters->count == PARAMETERS_MAX)
        return;
    parameters->keywords[parameters->count] = keyword;
    parameters->values[parameters->count] = value;
    parameters->count++;
}

static void add_default(struct parameters *parameters, const char *keyword, const char *value)
{
    if (parameter(parameters, keyword) == NULL)
        add_parameter(parameters, keyword, value);
}

/* libpq's complaint quotes pieces of the string, a password among them: the quoted part goes. */
static enum status parse_error(char *message, struct error *error)
{
    if (message == NULL)
        return error_no_memory(error);
    int length = first_line_length(message);
    const char *first = memchr(message, '"', (size_t)length);
    int kept = first != NULL ? (int)(first - message) : length;
    while (kept > 0 && strchr(" :", message[kept - 1]) != NULL)
        kept--;
    error_set(error, STATUS_FATAL, "the PostgreSQL connection string is malformed: %.*s", kept,
              message);
    PQfreemem(message);
    return STATUS_FATAL;
}

/* A password with '@' or '/' that is not percent-encoded makes libpq take a part of it for the
 * host, the port or the database, and print that. Better refused without an echo. */
static enum status check_parameters(const struct parameters *parameters, struct error *error)
{
    const char *host = parameter(parameters, "host");
    const char *port = parameter(parameters, "port");
    const char *dbname = parameter(parameters, "dbname");
    bool anonymous = parameter(parameters, "user") == NULL;
    if ((host != NULL && strchr(host, '@') != NULL && host[0] != '@') ||
        (anonymous && dbname != NULL && strchr(dbname, '@') != NULL))
        return error_set(error, STATUS_FATAL,
                         "the PostgreSQL connection string is malformed: special characters of "
                         "the password must be percent-encoded");
    if (port != NULL && port[strspn(port, "0123456789,")] != '\0')
        return error_set(error, STATUS_FATAL,
                         "the PostgreSQL connection string is malformed: the port is not a number");
    return STATUS_OK;
}

/* The values point into *options. A dead server is noticed by keepalives after 15 + 6 * 5 seconds
 * where nothing is in flight, and by tcp_user_timeout where something is. */
static enum status collect_parameters(const char *conninfo, const char *application,
                                      PQconninfoOption **options, struct parameters *out,
                                      struct error *error)
{
    char *message = NULL;
    *options = PQconninfoParse(conninfo, &message);
    if (*options == NULL)
        return parse_error(message, error);
    *out = (struct parameters){0};
    for (const PQconninfoOption *option = *options; option->keyword != NULL; option++)
        if (option->val != NULL && option->val[0] != '\0' &&
            strcmp(option->keyword, "client_encoding") != 0)
            add_parameter(out, option->keyword, option->val);
    enum status status = check_parameters(out, error);
    if (status != STATUS_OK)
        return status;
    add_default(out, "application_name", application);
    add_default(out, "keepalives_idle", "15");
    add_default(out, "keepalives_interval", "5");
    add_default(out, "keepalives_count", "6");
    add_default(out, "tcp_user_timeout", "45000");
    add_parameter(out, "client_encoding", "UTF8");
    return STATUS_OK;
}

static int64_t connect_timeout_ms(const struct parameters *parameters)
{
    const char *given = parameter(parameters, "connect_timeout");
    int64_t seconds = given != NULL ? strtol(given, NULL, 10) : 0;
    if (seconds <= 0 || seconds > 600)
        seconds = CONNECT_TIMEOUT_S;
    const char *hosts = parameter(parameters, "hostaddr");
    if (hosts == NULL)
        hosts = parameter(parameters, "host");
    int64_t count = 1;
    for (; hosts != NULL && *hosts != '\0'; hosts++)
        count += *hosts == ',';
    return seconds * 1000 * count;
}

/* Drives the connection until it stands or failed; false when the time is over. */
static bool complete_connection(PGconn *connection, int64_t timeout_ms)
{
    int64_t deadline_us = program_monotonic_us() + timeout_ms * 1000;
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;
    while (state != PGRES_POLLING_OK && state != PGRES_POLLING_FAILED) {
        int64_t left_us = deadline_us - program_monotonic_us();
        if (left_us <= 0)
            return false;
        struct pollfd wait = {.fd = PQsocket(connection),
                              .events = state == PGRES_POLLING_READING ? POLLIN : POLLOUT};
        int ready = poll(&wait, 1, (int)(left_us / 1000) + 1);
        if (ready < 0 && errno != EINTR)
            return true; /* libpq will find the same fault */
        if (ready > 0)
            state = PQconnectPoll(connection);
    }
    return true;
}

/* The newest SQLSTATE in a verbose message: libpq has no other way to tell the one of a refused
 * connection. */
static const char *sqlstate_in_message(const char *message, char *buffer)
{
    static const char before[] = ":  "; /* behind the severity, which may be translated */
    const char *found = NULL;
    for (const char *at = message; (at = strstr(at, before)) != NULL;) {
        at += sizeof before - 1;
        if (strspn(at, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && at[5] == ':')
            found = at;
    }
    if (found == NULL)
        return NULL;
    memcpy(buffer, found, 5);
    buffer[5] = '\0';
    return buffer;
}

/* Without a SQLSTATE nobody answered, and somebody may later; unless libpq itself says that it
 * cannot work. (The programs call no setlocale, so its messages are English.) */
static bool message_is_final(const char *message)
{
    static const char *const final[] = {
        "invalid ",
        "could not match",
        "no password supplied",
        "does not support SSL",
        "SSL support is not compiled in",
        "root certificate file",
    };
    for (size_t i = 0; i < sizeof final / sizeof final[0]; i++)
        if (strstr(message, final[i]) != NULL)
            return true;
    return false;
}

static enum status connect_error(PGconn *connection, struct error *error)
{
    const char *message = PQerrorMessage(connection);
    char buffer[6];
    const char *sqlstate = sqlstate_in_message(message, buffer);
    bool final = sqlstate != NULL ? !sqlstate_is_transient(sqlstate) : message_is_final(message);
    enum status status = final ? STATUS_FATAL : STATUS_RETRY;
    /* One line for each host that was tried; the newest attempt is the last of them. */
    const char *shown = message;
    for (const char *line = message; line != NULL && *line != '\0';) {
        if (strncmp(line, "connection to ", 14) == 0 || strncmp(line, "could not ", 10) == 0)
            shown = line;
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    error_set(error, status, "connecting to PostgreSQL: %.*s", first_line_length(shown), shown);
    keep_sqlstate(error, sqlstate);
    if (error != NULL)
        make_single_line(error->text);
    return status;
}

/* NOTICEs ("relation exists, skipping") are of no use to operators; warnings are, but for that of a
 * ROLLBACK without a transaction, which clean-up code says to be sure. */
static void receive_notice(void *context, const PGresult *notice)
{
    (void)context;
    const char *severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *primary = PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY);
    const char *sqlstate = PQresultErrorField(notice, PG_DIAG_SQLSTATE);
    bool idle_rollback = sqlstate != NULL && strcmp(sqlstate, "25P01") == 0;
    if (severity != NULL && primary != NULL && strcmp(severity, "WARNING") == 0 && !idle_rollback)
        program_log(LOG_WARNING, "PostgreSQL: %s", primary);
}

/* Values that text results depend on, whatever the role's or database's defaults are. Not as
 * start-up options, because a connection pooler refuses those it does not know. */
static enum status prepare_session(PGconn *connection, struct error *error)
{
    PGresult *result = PQexec(connection, "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'");
    enum status status = STATUS_OK;
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        status = postgres_error(connection, result, "preparing the session", error);
    PQclear(result);
    return status;
}

/* Leaves a connection, good or bad, in postgres->connection. */
static enum status open_connection(struct postgres *postgres, struct error *error)
{
    struct parameters parameters;
    PQconninfoOption *options = NULL;
    enum status status =
        collect_parameters(postgres->conninfo, postgres->application, &options, &parameters, error);
    if (status != STATUS_OK)
        goto cleanup;
    PGconn *connection = PQconnectStartParams(parameters.keywords, parameters.values, 0);
    postgres->connection = connection;
    if (connection == NULL) {
        status = error_no_memory(error);
        goto cleanup;
    }
    PQsetNoticeReceiver(connection, receive_notice, NULL);
    PQsetErrorVerbosity(connection, PQERRORS_VERBOSE); /* see sqlstate_in_message */
    int64_t timeout_ms = connect_timeout_ms(&parameters);
    if (PQstatus(connection) != CONNECTION_BAD && !complete_connection(connection, timeout_ms)) {
        PQfinish(connection);
        postgres->connection = NULL;
        status = error_set(error, STATUS_RETRY, "connecting to PostgreSQL: no answer within %d s",
                           (int)(timeout_ms / 1000));
    } else if (PQstatus(connection) != CONNECTION_OK) {
        status = connect_error(connection, error);
    } else {
        PQsetErrorVerbosity(connection, PQERRORS_DEFAULT);
        status = prepare_session(connection, error);
    }
cleanup:
    PQconninfoFree(options);
    return status;
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
    return open_connection(postgres, error);
}

bool postgres_is_connected(const struct postgres *postgres)
{
    return PQstatus(postgres->connection) == CONNECTION_OK;
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
