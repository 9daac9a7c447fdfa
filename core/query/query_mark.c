/* Which snapshot something was read from.
 *
 * Invariant: of two equal marks, every transaction that is finished for one is finished for the
 * other. A transaction that ends between two snapshots was running for the first, so either it was
 * in that one's list and is not in the other's, or it is not below the first one's xmax and is
 * below the other's (PostgreSQL documentation, "Transaction ID and Snapshot Information Functions";
 * GetSnapshotData in src/backend/storage/ipc/procarray.c). What changes without a transaction
 * number changes no row. A server that crashes may give numbers to other transactions, and a
 * standby's snapshots do not list what runs: postgres_session_count() and postgres_server() see to
 * these. */
#include "core/query/query_internal.h"

#include <stdio.h>
#include <string.h>

static const char mark_sql[] = "SELECT pg_catalog.pg_current_snapshot()::text";

void query_mark_begin(const struct postgres *postgres, struct query_mark *out)
{
    out->sessions = postgres_session_count();
    snprintf(out->server, sizeof out->server, "%s", postgres_server(postgres));
    out->snapshot[0] = '\0';
}

/* One with very many transactions in it is not kept. */
void query_mark_take(struct query_mark *mark, const PGresult *result, int row, int column)
{
    struct pgbinary_field field = postgres_field(result, row, column);
    mark->snapshot[0] = '\0';
    if (field.data == NULL || field.length >= sizeof mark->snapshot)
        return;
    memcpy(mark->snapshot, field.data, field.length);
    mark->snapshot[field.length] = '\0';
}

bool query_mark_may_hold(const struct query_mark *mark, const struct postgres *postgres)
{
    return mark->server[0] != '\0' && mark->snapshot[0] != '\0' &&
           mark->sessions == postgres_session_count() &&
           strcmp(mark->server, postgres_server(postgres)) == 0;
}

bool query_marks_are_equal(const struct query_mark *a, const struct query_mark *b)
{
    return a->server[0] != '\0' && a->snapshot[0] != '\0' && a->sessions == b->sessions &&
           strcmp(a->server, b->server) == 0 && strcmp(a->snapshot, b->snapshot) == 0;
}

enum status query_mark_read(struct postgres *postgres, struct query_mark *out, struct error *error)
{
    static const struct query_parameters none;
    PGresult *result = NULL;
    query_mark_begin(postgres, out);
    enum status status = query_statement_run(postgres, mark_sql, &none, &result, error);
    if (status == STATUS_OK)
        query_mark_take(out, result, 0, 0);
    PQclear(result);
    return status;
}
