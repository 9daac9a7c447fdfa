/* The SQL view dovetail.<view>, read in one snapshot together with where it stands.
 *
 * A session belongs to one thread, and connects anew when its connection is gone. Nothing here
 * fails the test: texts say what went wrong. */
#ifndef DOVETAIL_TESTS_SUPPORT_SQL_ROWS_H
#define DOVETAIL_TESTS_SUPPORT_SQL_ROWS_H

#include "tests/support/oracle.h"

struct sql_session;

struct sql_session *sql_session_create(const char *conninfo, const char *topic);
void sql_session_destroy(struct sql_session *session); /* accepts NULL */

/* The connection is gone: what failed may be asked again. */
bool sql_session_is_lost(const struct sql_session *session);

/* Every row, as oracle_rows writes them; *rows is malloc'd. */
bool sql_read_view(struct sql_session *session, const struct oracle_view *view,
                   struct oracle_receipt *receipt, char **rows, char *problem, size_t problem_size);

/* P and the ledger of every partition, as one statement sees them. */
bool sql_read_positions(struct sql_session *session, struct oracle_positions *out, char *problem,
                        size_t problem_size);

#endif
