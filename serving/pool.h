/* Connections to PostgreSQL: one for each thread that may want one at a time, opened on first use
 * and opened anew when they are broken. Any thread. */
#ifndef DOVETAIL_SERVING_POOL_H
#define DOVETAIL_SERVING_POOL_H

#include "core/postgres/postgres.h"

struct pool;

/* Connects to nothing yet. `conninfo` must outlive the pool. A statement that takes longer than
 * `statement_ms` is ended by PostgreSQL. */
enum status pool_create(const char *conninfo, int size, int statement_ms, struct pool **out,
                        struct error *error) MUST_CHECK;
void pool_destroy(struct pool *pool); /* every connection was given back; accepts NULL */

/* A live connection that is the caller's until pool_give_back. STATUS_RETRY: the database is away;
 * for a moment after a failed attempt that is answered without another one. */
enum status pool_take(struct pool *pool, struct postgres **out, struct error *error) MUST_CHECK;
void pool_give_back(struct pool *pool, struct postgres *postgres); /* accepts NULL */

/* After a failure, *error, on this connection: if the connection was lost, connects anew, once.
 * False: it was not lost, and *error stays; or it stays lost, and *error says so. */
bool pool_renew(struct pool *pool, struct postgres *postgres, struct error *error) MUST_CHECK;

#endif
