/* Waiting for locks with a bound: see lock_wait.h. Any thread that has a connection of its own. */
#include "core/catalog/lock_wait.h"

#include <stdio.h>
#include <string.h>

#include "core/program/program.h"

enum { WAIT_MS = 30000, PUBLICATION_MS = 3600000, LOOK_AGAIN_MS = 1000 };

/* Sessions that stand still, each as `look`: what changes when they do anything. A COPY is one
 * statement, so its progress is a part of that. */
#define STALLED                                                                                    \
    " FROM (SELECT a.pid, a.application_name, format('%s %s %s %s', a.pid, a.backend_start,"       \
    "        a.state_change, (SELECT c.bytes_processed"                                            \
    "            FROM pg_catalog.pg_stat_progress_copy AS c WHERE c.pid = a.pid)) AS look"         \
    "    FROM pg_catalog.pg_stat_activity AS a"                                                    \
    "    WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()"                       \
    "        AND pg_has_role(a.usesysid, 'USAGE')"                                                 \
    "        AND a.application_name ~ '^dovetail-(speed|batch)'"                                   \
    "        AND a.wait_event_type = 'Client'"                                                     \
    "        AND a.state_change < clock_timestamp() - interval '5 s'"                              \
    "        AND EXISTS (SELECT FROM pg_catalog.pg_locks AS l WHERE l.pid = a.pid AND l.granted"   \
    "            AND l.relation = to_regclass('dovetail_internal.position')"                       \
    "            AND l.mode <> 'AccessShareLock')) AS s"

/* A run that is being published holds the versions while it is compared and stored, for as long as
 * that takes: not one that has said nothing for long. */
static const char publication_sql[] =
    "SELECT a.pid, to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    " FROM pg_catalog.pg_stat_activity AS a JOIN pg_catalog.pg_locks AS l USING (pid)"
    " WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()"
    "    AND a.application_name ~ '^dovetail-batch' AND l.granted AND l.mode = 'RowShareLock'"
    "    AND l.relation = to_regclass('dovetail_internal.view_version')"
    "    AND (a.wait_event_type IS DISTINCT FROM 'Client'"
    "        OR a.state_change > clock_timestamp() - interval '30 s'"
    "        OR EXISTS (SELECT FROM pg_catalog.pg_stat_progress_copy AS c WHERE c.pid = a.pid))"
    " LIMIT 1";

/* Who holds our tables, for longer than a flush takes, the likeliest first: not one that
 * waits for a lock itself, more than a reader, standing still, the oldest. Of other roles' sessions
 * PostgreSQL may hide all but the process and the role. */
static const char holder_sql[] =
    "SELECT a.pid, a.usename, COALESCE(nullif(a.application_name, ''), 'a session'),"
    "    to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),"
    "    CASE WHEN a.wait_event_type = 'Client' THEN round(extract(epoch FROM"
    "        clock_timestamp() - a.state_change))::bigint END"
    " FROM pg_catalog.pg_stat_activity AS a JOIN ("
    "    SELECT l.pid, bool_or(l.mode <> 'AccessShareLock') AS writes"
    "    FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_class AS c ON c.oid = l.relation"
    "    WHERE l.granted AND c.relnamespace IN (SELECT n.oid FROM pg_catalog.pg_namespace AS n"
    "        WHERE n.nspname IN ('dovetail', 'dovetail_internal'))"
    "    GROUP BY l.pid) AS held USING (pid)"
    " WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()"
    "    AND COALESCE(a.xact_start < clock_timestamp() - interval '1 s', true)"
    " ORDER BY COALESCE(a.wait_event_type = 'Lock', false), held.writes DESC,"
    "    COALESCE(a.wait_event_type = 'Client', false) DESC, a.xact_start LIMIT 1";

bool lock_wait_was_in_vain(const struct error *error)
{
    return strcmp(error->sqlstate, "55P03") == 0;
}

/* Two looks: one that only computes has moved on by the second. True if one was ended. */
static bool end_stalled(struct postgres *postgres)
{
    struct error error;
    PGresult *seen = NULL;
    PGresult *ended = NULL;
    enum status status =
        postgres_query(postgres, "SELECT array_agg(look)" STALLED, 0, NULL, &seen, &error);
    bool any = status == STATUS_OK && !PQgetisnull(seen, 0, 0) && !program_wait_ms(LOOK_AGAIN_MS);
    if (any) {
        const char *looks = PQgetvalue(seen, 0, 0);
        status = postgres_query(postgres,
                                "SELECT pid, application_name, pg_terminate_backend(pid)" STALLED
                                " WHERE look = ANY ($1::text[])",
                                1, &looks, &ended, &error);
    }
    if (status != STATUS_OK)
        program_log(LOG_WARNING, "sessions that stand still: %s", error.text);
    int count = any && status == STATUS_OK ? PQntuples(ended) : 0;
    for (int row = 0; row < count; row++)
        program_log(LOG_WARNING,
                    "%s stands still in the middle of a transaction, with position rows locked: its"
                    " session %s is ended, nothing of that transaction was written",
                    PQgetvalue(ended, row, 1), PQgetvalue(ended, row, 0));
    PQclear(seen);
    PQclear(ended);
    return count > 0;
}

void lock_wait_explain(struct postgres *postgres, struct error *error)
{
    struct error trouble;
    PGresult *result = NULL;
    if (!lock_wait_was_in_vain(error) || !postgres_is_connected(postgres))
        return;
    enum status status = postgres_query(postgres, holder_sql, 0, NULL, &result, &trouble);
    if (status == STATUS_OK && PQntuples(result) == 1) {
        struct error before = *error;
        const char *pid = PQgetvalue(result, 0, 0);
        char idle[64] = "";
        if (!PQgetisnull(result, 0, 4))
            snprintf(idle, sizeof idle, ", and has said nothing for %s s",
                     PQgetvalue(result, 0, 4));
        (void)error_set(error, before.status,
                        "%s; held, it seems, by %s (process %s at the server, role %s), which is in"
                        " a transaction since %s%s: wait until that has ended, or end it with"
                        " SELECT pg_terminate_backend(%s)",
                        before.text, PQgetvalue(result, 0, 2), pid, PQgetvalue(result, 0, 1),
                        PQgetisnull(result, 0, 3) ? "an unknown time" : PQgetvalue(result, 0, 3),
                        idle, pid);
        memcpy(error->sqlstate, before.sqlstate, sizeof error->sqlstate);
    } else if (status != STATUS_OK) {
        program_log(LOG_WARNING, "who holds the lock: %s", trouble.text);
    }
    PQclear(result);
}

void lock_wait_resolve(struct postgres *postgres, struct error *error)
{
    if (lock_wait_was_in_vain(error) && postgres_is_connected(postgres) && !end_stalled(postgres))
        lock_wait_explain(postgres, error);
}

struct lock_wait lock_wait_begin(void)
{
    return (struct lock_wait){.until_us = program_monotonic_us() + WAIT_MS * INT64_C(1000)};
}

/* Tells of it, once for each wait. */
static bool is_publishing(struct lock_wait *wait, struct postgres *postgres)
{
    struct error error;
    PGresult *result = NULL;
    if (postgres_query(postgres, publication_sql, 0, NULL, &result, &error) != STATUS_OK)
        program_log(LOG_WARNING, "whether a run is being published: %s", error.text);
    bool any = PQntuples(result) == 1;
    if (any && !wait->has_told)
        program_log(LOG_INFO,
                    "waits for a run that is being published (process %s at the server, since %s)",
                    PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 1));
    wait->has_told = wait->has_told || any;
    PQclear(result);
    return any;
}

bool lock_wait_again(struct lock_wait *wait, struct postgres *postgres, enum status status,
                     struct error *error)
{
    if (status == STATUS_OK || !lock_wait_was_in_vain(error) || !postgres_is_connected(postgres))
        return false;
    (void)end_stalled(postgres);
    if (program_stopping())
        return false;
    int64_t over_us = program_monotonic_us() - wait->until_us;
    if (over_us < 0 || (over_us < PUBLICATION_MS * INT64_C(1000) && is_publishing(wait, postgres)))
        return true;
    lock_wait_explain(postgres, error);
    return false;
}
