/* The SQL view dovetail.<view>, read in one snapshot together with where it stands.
 *
 * A session belongs to one thread. Nothing here fails the test: texts say what went wrong. */
#ifndef DOVETAIL_TESTS_SUPPORT_SQL_ROWS_H
#define DOVETAIL_TESTS_SUPPORT_SQL_ROWS_H

#include "tests/support/oracle.h"

struct sql_session;

struct sql_session *sql_session_create(const char *conninfo, const char *topic, int partitions);
void sql_session_destroy(struct sql_session *session); /* accepts NULL */

/* Every row, as oracle_rows writes them; *rows is malloc'd. */
bool sql_read_view(struct sql_session *session, const struct oracle_view *view,
                   struct oracle_receipt *receipt, char **rows, char *problem, size_t problem_size);

#endif
