/* Which statements a connection has prepared: used by core/query/query.c only.
 *
 * The table belongs to the connection itself (libpq's instance data), so that it is gone when the
 * connection is, and a new connection begins with an empty one. One thread at a time, as the
 * connection. */
#ifndef DOVETAIL_QUERY_STATEMENTS_H
#define DOVETAIL_QUERY_STATEMENTS_H

#include "core/postgres/postgres.h"

enum { QUERY_STATEMENT_NAME_BYTES = 32, QUERY_STATEMENT_MAX = 256 };

struct query_parameters;

struct query_statement {
    uint64_t hash;
    char *text;
    char name[QUERY_STATEMENT_NAME_BYTES];
    bool prepared; /* the server has it */
    uint64_t used; /* when it was last asked for */
};

/* The entry of `text`, made where there is none; the caller prepares it where `prepared` is false,
 * and says so. May drop the statement that was not used for longest, outside of any transaction.
 * Good until QUERY_STATEMENT_MAX - 1 others were asked for, or the connection ends. */
enum status query_statement_find(struct postgres *postgres, const char *text,
                                 struct query_statement **out, struct error *error) MUST_CHECK;

/* The same, and prepared, for parameters of these types. */
enum status query_statement_prepare(struct postgres *postgres, const char *text,
                                    const struct query_parameters *parameters,
                                    struct query_statement **out, struct error *error) MUST_CHECK;
/* Prepares it where it is not, and runs it; binary results. The caller clears *result, also after a
 * failure. */
enum status query_statement_run(struct postgres *postgres, const char *text,
                                const struct query_parameters *parameters, PGresult **result,
                                struct error *error) MUST_CHECK;

#endif
