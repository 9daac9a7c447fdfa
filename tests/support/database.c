/* libpq with bounds: see database.h. */
#include "tests/support/database.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>

#include "tests/support/stack.h"

PGconn *database_open(const char *conninfo)
{
    char seconds[16];
    snprintf(seconds, sizeof seconds, "%d", DATABASE_CONNECT_S);
    /* The later ones count: a conninfo may have another bound. */
    const char *const names[] = {"connect_timeout", "dbname", NULL};
    const char *const values[] = {seconds, conninfo, NULL};
    return PQconnectdbParams(names, values, 1);
}

PGconn *database_connect(const char *conninfo)
{
    PGconn *connection = database_open(conninfo);
    if (PQstatus(connection) != CONNECTION_OK) {
        char reason[256];
        snprintf(reason, sizeof reason, "%s", PQerrorMessage(connection));
        PQfinish(connection);
        fail_msg("PostgreSQL: %s", reason);
    }
    return connection;
}

/* Until PQgetResult would not wait. After the end of the time the connection is cut, which the next
 * result tells. */
static void await_result(PGconn *connection, const char *sql, int64_t deadline)
{
    while (PQisBusy(connection)) {
        struct pollfd socket = {.fd = PQsocket(connection), .events = POLLIN};
        int64_t left_ms = deadline - stack_now_ms();
        if (left_ms <= 0) {
            fprintf(stderr, "PostgreSQL gave no answer in %d ms: %s\n", DATABASE_WAIT_MS, sql);
            shutdown(socket.fd, SHUT_RDWR);
        }
        (void)poll(&socket, 1, left_ms > 0 ? (int)left_ms : 0);
        if (PQconsumeInput(connection) != 1)
            return;
    }
}

/* The last result, as PQexec has it. */
static PGresult *take_results(PGconn *connection, const char *sql, bool sent)
{
    int64_t deadline = stack_now_ms() + DATABASE_WAIT_MS;
    PGresult *last = NULL;
    while (sent) {
        await_result(connection, sql, deadline);
        PGresult *next = PQgetResult(connection);
        if (next == NULL)
            break;
        PQclear(last);
        last = next;
        ExecStatusType status = PQresultStatus(last);
        if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || PQsocket(connection) < 0)
            break;
    }
    return last != NULL ? last : PQmakeEmptyPGresult(connection, PGRES_FATAL_ERROR);
}

/* What is left of the statement before, such as the end of a COPY. */
static void clear_results(PGconn *connection)
{
    bool copies = false;
    for (PGresult *left; !copies && (left = PQgetResult(connection)) != NULL; PQclear(left))
        copies = PQresultStatus(left) == PGRES_COPY_IN || PQresultStatus(left) == PGRES_COPY_OUT;
}

PGresult *database_ask(PGconn *connection, const char *sql)
{
    clear_results(connection);
    return take_results(connection, sql, PQsendQuery(connection, sql) == 1);
}

PGresult *database_ask_with(PGconn *connection, const char *sql, int count,
                            const char *const *values)
{
    clear_results(connection);
    return take_results(connection, sql,
                        PQsendQueryParams(connection, sql, count, NULL, values, NULL, NULL, 0) ==
                            1);
}
