/* PostgreSQL as an outsider sees it: libpq, with a bound for every wait, because the server may be
 * stopped, full or behind a proxy that says nothing, and what is asked for may be locked by a
 * process that stands still.
 *
 * A connection belongs to one thread. */
#ifndef DOVETAIL_TESTS_SUPPORT_DATABASE_H
#define DOVETAIL_TESTS_SUPPORT_DATABASE_H

#include <libpq-fe.h>
#include <stdint.h>

/* For a connection, and for one statement. Generous: it is no assertion about speed. */
enum { DATABASE_CONNECT_S = 60, DATABASE_WAIT_MS = 240000 };

/* As PQconnectdb: the caller looks at PQstatus, and ends it with PQfinish. */
PGconn *database_open(const char *conninfo);
/* Fails the test where there is no connection. */
PGconn *database_connect(const char *conninfo);

/* As PQexec and PQexecParams (all texts). Where no answer comes the connection is lost, and stderr
 * has the statement. */
PGresult *database_ask(PGconn *connection, const char *sql);
PGresult *database_ask_with(PGconn *connection, const char *sql, int count,
                            const char *const *values);

#endif
