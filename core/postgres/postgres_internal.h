/* What postgres.c and postgres_connect.c share. Internal to them. */
#ifndef DOVETAIL_POSTGRES_INTERNAL_H
#define DOVETAIL_POSTGRES_INTERNAL_H

#include <libpq-fe.h>

#include "core/base/error.h"

/* A session's process on the server, as texts; both together are never used twice. */
struct postgres_backend {
    char pid[16]; /* empty: not known */
    char start[48];
    char server[48]; /* when the server started; empty: snapshots of it cannot be compared */
};

/* Opens a connection and prepares its session. *out is NULL or a connection, good or bad, that the
 * caller finishes, also after a failure. */
enum status postgres_open(const char *conninfo, const char *application, PGconn **out,
                          struct postgres_backend *backend, struct error *error) MUST_CHECK;

/* Worth another try of the same transaction? */
bool postgres_sqlstate_is_transient(const char *sqlstate);
void postgres_keep_sqlstate(struct error *error, const char *sqlstate); /* either may be NULL */
void postgres_make_single_line(char *text);
/* For "%.*s": libpq's own messages have several lines, of which the first says what happened. */
int postgres_first_line_length(const char *text);

#endif
