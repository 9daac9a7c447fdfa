/* Opening a connection to PostgreSQL: see core/postgres/postgres_internal.h.
 *
 * Invariant: no message holds a piece of the connection string that could be a password, and a
 * connection that stands has the session settings results depend on. Waits at most connect_timeout
 * for each host; never tries again by itself. Any thread; nothing is shared. */
#include "core/postgres/postgres_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/postgres/postgres.h"
#include "core/program/program.h"

enum {
    CONNECT_TIMEOUT_S = 10, /* for each host of the conninfo */
    PARAMETERS_MAX = 96,    /* libpq 15 knows 44 keywords */
};

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
    int length = postgres_first_line_length(message);
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

enum status postgres_conninfo_check(const char *conninfo, struct error *error)
{
    PQconninfoOption *options = NULL;
    struct parameters parameters;
    enum status status = collect_parameters(conninfo, "", &options, &parameters, error);
    PQconninfoFree(options);
    if (status == STATUS_FATAL && error != NULL)
        error->status = STATUS_REJECT;
    return status == STATUS_OK ? STATUS_OK : STATUS_REJECT;
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

/* 55000: the database takes no connections now, because it is being restored, renamed or moved. In
 * a statement the same code means a mistake. */
static bool connecting_may_help(const char *sqlstate)
{
    return postgres_sqlstate_is_transient(sqlstate) || strcmp(sqlstate, "55000") == 0;
}

static enum status connect_error(PGconn *connection, struct error *error)
{
    const char *message = PQerrorMessage(connection);
    char buffer[6];
    const char *sqlstate = sqlstate_in_message(message, buffer);
    bool final = sqlstate != NULL ? !connecting_may_help(sqlstate) : message_is_final(message);
    enum status status = final ? STATUS_FATAL : STATUS_RETRY;
    /* One line for each host that was tried; the newest attempt is the last of them. */
    const char *shown = message;
    for (const char *line = message; line != NULL && *line != '\0';) {
        if (strncmp(line, "connection to ", 14) == 0 || strncmp(line, "could not ", 10) == 0)
            shown = line;
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    error_set(error, status, "connecting to PostgreSQL: %.*s", postgres_first_line_length(shown),
              shown);
    postgres_keep_sqlstate(error, sqlstate);
    if (error != NULL)
        postgres_make_single_line(error->text);
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

/* Values that text results depend on, whatever the role's or database's defaults are; and the
 * keepalives of the server's end, so that it ends our session, with its locks, within a minute of
 * losing sight of us. No lock is waited for without a bound: who holds it may stand still for ever.
 * Nothing is compiled: where a table was not analyzed yet short statements may seem long, and each
 * new session would spend a second on that. Not as start-up options, because a connection pooler
 * refuses those it does not know. */
static const char session_sql[] =
    "SET lock_timeout = '30s'; SET jit = off; "
    "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET tcp_keepalives_idle = 15; "
    "SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 6; SET tcp_user_timeout = 45000; "
    "SELECT pid, backend_start, pg_postmaster_start_time(), pg_is_in_recovery()"
    " FROM pg_stat_get_activity(pg_backend_pid())";

static atomic_uint_fast64_t sessions;

uint64_t postgres_session_count(void)
{
    return atomic_load(&sessions);
}

static enum status prepare_session(PGconn *connection, struct postgres_backend *backend,
                                   struct error *error)
{
    (void)atomic_fetch_add(&sessions, 1); /* before anything is read in it */
    PGresult *result = PQexec(connection, session_sql);
    enum status status = STATUS_OK;
    *backend = (struct postgres_backend){0};
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        status = postgres_error(connection, result, "preparing the session", error);
    } else if (PQntuples(result) == 1 &&
               atoi(PQgetvalue(result, 0, 0)) == PQbackendPID(connection)) {
        /* Otherwise a pooler stands between, and may give the process to somebody else. */
        snprintf(backend->pid, sizeof backend->pid, "%s", PQgetvalue(result, 0, 0));
        snprintf(backend->start, sizeof backend->start, "%s", PQgetvalue(result, 0, 1));
        /* A standby's snapshots do not list all that runs. */
        if (!postgres_bool(result, 0, 3))
            snprintf(backend->server, sizeof backend->server, "%s", PQgetvalue(result, 0, 2));
    }
    PQclear(result);
    return status;
}

enum status postgres_open(const char *conninfo, const char *application, PGconn **out,
                          struct postgres_backend *backend, struct error *error)
{
    struct parameters parameters;
    PQconninfoOption *options = NULL;
    *out = NULL;
    enum status status = collect_parameters(conninfo, application, &options, &parameters, error);
    if (status != STATUS_OK)
        goto cleanup;
    PGconn *connection = PQconnectStartParams(parameters.keywords, parameters.values, 0);
    *out = connection;
    if (connection == NULL) {
        status = error_no_memory(error);
        goto cleanup;
    }
    PQsetNoticeReceiver(connection, receive_notice, NULL);
    PQsetErrorVerbosity(connection, PQERRORS_VERBOSE); /* see sqlstate_in_message */
    int64_t timeout_ms = connect_timeout_ms(&parameters);
    if (PQstatus(connection) != CONNECTION_BAD && !complete_connection(connection, timeout_ms)) {
        PQfinish(connection);
        *out = NULL;
        status = error_set(error, STATUS_RETRY, "connecting to PostgreSQL: no answer within %d s",
                           (int)(timeout_ms / 1000));
    } else if (PQstatus(connection) != CONNECTION_OK) {
        status = connect_error(connection, error);
    } else {
        PQsetErrorVerbosity(connection, PQERRORS_DEFAULT);
        status = prepare_session(connection, backend, error);
    }
cleanup:
    PQconninfoFree(options);
    return status;
}
