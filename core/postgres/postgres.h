/* PostgreSQL, behind one header: connections, statements, COPY and notifications over libpq.
 *
 * A connection belongs to one thread at a time. Failures say what to do: STATUS_RETRY (connection
 * lost, serialization failure, deadlock, a server that starts up, is full, too busy or a replica),
 * STATUS_FATAL (everything else), with the SQLSTATE kept. After STATUS_RETRY because of a lost
 * connection the outcome of a COMMIT is unknown: read the state back. A failure inside a
 * transaction leaves it open and aborted: the caller says ROLLBACK. A text holds the first words of
 * the statement and the server's message; the conninfo never appears in one. */
#ifndef DOVETAIL_POSTGRES_H
#define DOVETAIL_POSTGRES_H

#include <libpq-fe.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/postgres/pgbinary.h"

#ifdef __cplusplus
extern "C" {
#endif

struct postgres;

/* STATUS_REJECT where libpq cannot read the string; asks no server. */
enum status postgres_conninfo_check(const char *conninfo, struct error *error) MUST_CHECK;

/* Opens a connection named `application` (seen in pg_stat_activity, unless the conninfo names one)
 * with TimeZone UTC, and keepalives by which either end notices within a minute that the other is
 * dead. `conninfo` is a
 * keyword/value string or a URI. Does not retry; waits 10 s for each host, or connect_timeout.
 * STATUS_RETRY also where no server answered, STATUS_FATAL where one refused for good. */
enum status postgres_connect(const char *conninfo, const char *application, struct postgres **out,
                             struct error *error) MUST_CHECK;
void postgres_close(struct postgres *postgres); /* accepts NULL */
/* The same object connected anew (prepared statements, LISTENs and session locks are gone). The
 * server is told to end the session before, which it may take for alive where the network broke:
 * its locks would last until then. After a failure every call answers STATUS_RETRY until it
 * succeeds. */
enum status postgres_reconnect(struct postgres *postgres, struct error *error) MUST_CHECK;
bool postgres_is_connected(const struct postgres *postgres);
PGconn *postgres_handle(struct postgres *postgres); /* for pipeline mode in core/ */

/* When snapshots of different sessions can be compared: both of the same server, and no session was
 * opened between the two. (A server that crashed gives transaction numbers that it lost to others;
 * but it ends every session first.) */
/* Names the server; empty: a standby, or what a pooler chooses. Changes when connecting anew. */
const char *postgres_server(const struct postgres *postgres);
/* How many sessions this process has opened until now, in any thread. */
uint64_t postgres_session_count(void);

/* Statements without result rows; several may be given in one text. */
enum status postgres_execute(struct postgres *postgres, const char *sql,
                             struct error *error) MUST_CHECK;
enum status postgres_executef(struct postgres *postgres, struct error *error, const char *format,
                              ...) MUST_CHECK PRINTF_LIKE(3, 4);

/* One statement with text parameters ($1...), NULL pointers being SQL NULL; text results.
 * *out is cleared by the caller (PQclear), also on failure (may be NULL). */
enum status postgres_query(struct postgres *postgres, const char *sql, int parameter_count,
                           const char *const *parameters, PGresult **out,
                           struct error *error) MUST_CHECK;
/* The same for a statement whose rows are not wanted. */
enum status postgres_run(struct postgres *postgres, const char *sql, int parameter_count,
                         const char *const *parameters, struct error *error) MUST_CHECK;
/* The same with binary results. */
enum status postgres_query_binary(struct postgres *postgres, const char *sql, int parameter_count,
                                  const char *const *parameters, PGresult **out,
                                  struct error *error) MUST_CHECK;
struct pgbinary_field postgres_field(const PGresult *result, int row, int column);

/* Column values of a text result; the caller knows their types. *_or where NULL has a meaning. */
int64_t postgres_int64(const PGresult *result, int row, int column);
bool postgres_bool(const PGresult *result, int row, int column);

/* COPY table FROM STDIN (FORMAT binary): `sql` is the whole COPY statement. The next statement,
 * such as ROLLBACK, gives up a copy that was begun and not ended. */
enum status postgres_copy_in_begin(struct postgres *postgres, const char *sql,
                                   struct error *error) MUST_CHECK;
enum status postgres_copy_in_data(struct postgres *postgres, const char *data, size_t length,
                                  struct error *error) MUST_CHECK;
enum status postgres_copy_in_end(struct postgres *postgres, struct error *error) MUST_CHECK;

/* COPY (query) TO STDOUT (FORMAT binary): calls `on_row` with each row's bytes (after the header;
 * see pgbinary_split_row). A failing on_row cancels the copy, and so aborts the transaction. */
enum status postgres_copy_out(struct postgres *postgres, const char *sql,
                              enum status (*on_row)(const uint8_t *row, size_t length,
                                                    void *context, struct error *error),
                              void *context, struct error *error) MUST_CHECK;

/* True once if a notification on `channel` (LISTEN was executed before) came since the last call;
 * never blocks. To wait, poll the socket of postgres_handle first. */
enum status postgres_poll_notification(struct postgres *postgres, const char *channel,
                                       bool *arrived, struct error *error) MUST_CHECK;

/* Quotes for SQL text that is built from validated names; caller frees with PQfreemem. */
char *postgres_identifier(struct postgres *postgres, const char *name) MUST_CHECK;
char *postgres_literal(struct postgres *postgres, const char *text) MUST_CHECK;

/* Classifies the last error of a handle whose result was `result` (may be NULL). */
enum status postgres_error(PGconn *connection, const PGresult *result, const char *doing,
                           struct error *error);

#ifdef __cplusplus
}
#endif
#endif
