/* Choosing the cut-offs of a run: see cut.h.
 *
 * Why waiting is safe: any slice start that a committed position row shows is a boundary, whoever
 * made it and whenever; the request only makes a fresh one appear soon. Why planning is safe: it
 * happens under the row's lock and adds one to owner_epoch, so a flush that was under way is
 * fenced, and whoever claims the partition next reads the planned cut before it folds a record.
 *
 * Runs in the batch process's main thread. A process that dies here leaves a request (answered by
 * the owner all the same) or a planned cut that no run takes, which costs a slice and nothing else.
 */
#include "batch_layer/cut.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/catalog/lock_wait.h"
#include "core/program/program.h"
#include "core/time/timestamp.h"

enum { WAIT_MIN_MS = 2000, WAIT_FLUSHES = 20, POLL_MS = 20, NUMBER_BYTES = 24 };

/* What a position row says. */
struct position {
    int64_t slice_start;
    int64_t next_offset;
    bool cut_requested;
    bool alive; /* its owner's session is there */
    bool has_as_of;
    int64_t as_of_us; /* goes with next_offset */
};

/* Sessions of this database but ours. owner_pid is the claim's session or the flusher's, whichever
 * wrote last. A number that somebody else has by now only costs the wait. */
#define LIVE_SESSIONS                                                                              \
    "(SELECT a.pid FROM pg_catalog.pg_stat_activity a"                                             \
    " WHERE a.datname = current_database() AND a.pid <> pg_backend_pid())"

#define POSITION_COLUMNS                                                                           \
    "slice_start, next_offset, cut_requested, COALESCE(owner_pid IN " LIVE_SESSIONS ", false),"    \
    " (extract(epoch FROM as_of) * 1000000)::bigint"

struct cut *cut_find(struct cut *cuts, size_t count, const char *topic, int32_t partition)
{
    for (size_t i = 0; i < count; i++)
        if (cuts[i].partition == partition && strcmp(cuts[i].topic, topic) == 0)
            return &cuts[i];
    return NULL;
}

/* Reads POSITION_COLUMNS from column `first` on. */
static struct position read_position(const PGresult *result, int row, int first)
{
    struct position position = {
        .slice_start = postgres_int64(result, row, first),
        .next_offset = postgres_int64(result, row, first + 1),
        .cut_requested = postgres_bool(result, row, first + 2),
        .alive = postgres_bool(result, row, first + 3),
        .has_as_of = !PQgetisnull(result, row, first + 4),
    };
    if (position.has_as_of)
        position.as_of_us = postgres_int64(result, row, first + 4);
    return position;
}

static void choose(struct cut *cut, const struct position *position, int64_t offset)
{
    cut->offset = offset;
    cut->chosen = true;
    if (position->has_as_of && offset >= position->next_offset) {
        cut->has_as_of = true;
        cut->as_of_us = position->as_of_us;
    }
}

/* --- with the owner --- */

static enum status request_once(struct postgres *postgres, struct error *error)
{
    /* In the order in which flushes lock the rows, so that the two cannot deadlock. */
    enum status status = postgres_execute(
        postgres,
        "BEGIN; " LOCK_WAIT_SQL ";"
        " WITH asked AS (SELECT topic, partition FROM dovetail_internal.position"
        "   WHERE owner_pid IN " LIVE_SESSIONS " ORDER BY topic, partition FOR UPDATE)"
        " UPDATE dovetail_internal.position p SET cut_requested = true FROM asked"
        " WHERE p.topic = asked.topic AND p.partition = asked.partition;"
        " NOTIFY dovetail_cut; COMMIT",
        error);
    if (status != STATUS_OK)
        (void)!postgres_execute(postgres, "ROLLBACK", NULL);
    return status;
}

static enum status request_cuts(struct postgres *postgres, struct error *error)
{
    struct lock_wait wait = lock_wait_begin();
    enum status status;
    do
        status = request_once(postgres, error);
    while (lock_wait_again(&wait, postgres, status, error));
    return status;
}

/* Takes the answers that are there; *waiting where an owner has yet to answer. */
static enum status take_answers(struct postgres *postgres, struct cut *cuts, size_t count,
                                bool *waiting, struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_query(
        postgres, "SELECT topic, partition, " POSITION_COLUMNS " FROM dovetail_internal.position",
        0, NULL, &result, error);
    *waiting = false;
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++) {
        struct cut *cut = cut_find(cuts, count, PQgetvalue(result, row, 0),
                                   (int32_t)postgres_int64(result, row, 1));
        if (cut == NULL || cut->chosen)
            continue;
        struct position position = read_position(result, row, 2);
        if (!position.alive)
            continue; /* will be planned */
        if (position.cut_requested)
            *waiting = true;
        else if (position.slice_start >= cut->floor)
            choose(cut, &position, position.slice_start);
    }
    PQclear(result);
    return status;
}

static enum status wait_for_owners(struct postgres *postgres, const struct config *config,
                                   struct cut *cuts, size_t count, struct error *error)
{
    int64_t wait_ms = config->speed_flush_interval_ms * WAIT_FLUSHES;
    if (wait_ms < WAIT_MIN_MS)
        wait_ms = WAIT_MIN_MS;
    int64_t until_us = program_monotonic_us() + wait_ms * 1000;
    for (;;) {
        bool waiting;
        enum status status = take_answers(postgres, cuts, count, &waiting, error);
        if (status != STATUS_OK || !waiting || program_monotonic_us() >= until_us)
            return status;
        if (program_wait_ms(POLL_MS))
            return error_set(error, STATUS_RETRY, "stopped");
    }
}

/* --- without --- */

static enum status lock_position(struct postgres *postgres, const char *const *parameters,
                                 struct position *out, struct error *error)
{
    PGresult *result = NULL;
    enum status status =
        postgres_query(postgres,
                       "SELECT " POSITION_COLUMNS " FROM dovetail_internal.position"
                       " WHERE topic = $1 AND partition = $2 FOR UPDATE",
                       2, parameters, &result, error);
    if (status == STATUS_OK && PQntuples(result) != 1)
        status = error_set(error, STATUS_FATAL, "%s[%s] has no position row", parameters[0],
                           parameters[1]);
    if (status == STATUS_OK)
        *out = read_position(result, 0, 0);
    PQclear(result);
    return status;
}

/* In the transaction that holds the row's lock. */
static enum status plan_locked(struct postgres *postgres, struct cut *cut, struct error *error)
{
    char partition[NUMBER_BYTES];
    char offset[NUMBER_BYTES];
    snprintf(partition, sizeof partition, "%" PRId32, cut->partition);
    snprintf(offset, sizeof offset, "%" PRId64, cut->archived_end);
    const char *parameters[] = {cut->topic, partition, offset};
    struct position position;
    enum status status = lock_position(postgres, parameters, &position, error);
    if (status != STATUS_OK)
        return status;
    if (cut->archived_end > position.next_offset) {
        choose(cut, &position, cut->archived_end);
        return postgres_run(
            postgres,
            "WITH planned AS (INSERT INTO dovetail_internal.planned_cut"
            "   (topic, partition, at_offset) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING)"
            " UPDATE dovetail_internal.position SET owner_epoch = owner_epoch + 1,"
            " cut_requested = false WHERE topic = $1 AND partition = $2",
            3, parameters, error);
    }
    choose(cut, &position, position.next_offset);
    if (position.slice_start == position.next_offset)
        return STATUS_OK; /* the open slice is empty and begins here already */
    return postgres_run(postgres,
                        "UPDATE dovetail_internal.position SET slice_start = next_offset,"
                        " owner_epoch = owner_epoch + 1, cut_requested = false"
                        " WHERE topic = $1 AND partition = $2",
                        2, parameters, error);
}

static enum status plan_once(struct postgres *postgres, struct cut *cut, struct error *error)
{
    enum status status = postgres_execute(postgres, "BEGIN; " LOCK_WAIT_SQL, error);
    if (status == STATUS_OK)
        status = plan_locked(postgres, cut, error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "COMMIT", error);
    if (status != STATUS_OK)
        (void)!postgres_execute(postgres, "ROLLBACK", NULL); /* a lost connection did it already */
    return status;
}

static enum status plan(struct postgres *postgres, struct cut *cut, struct error *error)
{
    struct lock_wait wait = lock_wait_begin();
    enum status status;
    do
        status = plan_once(postgres, cut, error);
    while (lock_wait_again(&wait, postgres, status, error));
    cut->planned = true;
    return status;
}

enum status cut_choose(struct postgres *postgres, const struct config *config, struct cut *cuts,
                       size_t count, struct error *error)
{
    enum status status = request_cuts(postgres, error);
    if (status == STATUS_OK)
        status = wait_for_owners(postgres, config, cuts, count, error);
    for (size_t i = 0; status == STATUS_OK && i < count; i++)
        if (!cuts[i].chosen)
            status = plan(postgres, &cuts[i], error);
    return status;
}
