/* Connections: see serving/pool.h.
 *
 * Invariant: a connection is either in `idle` or with exactly one caller. The lock guards the list
 * and the memory of the last failure, and is not held while connecting. Why connecting fails is
 * written to the log, once for each different reason; callers, whose texts reach clients, are only
 * told that PostgreSQL is away: libpq's messages name host, port, user and database. */
#include "serving/pool.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/program/program.h"

enum { PAUSE_AFTER_FAILURE_MS = 250 };

struct pool {
    const char *conninfo;
    pthread_mutex_t lock;
    int idle_count;
    int size;
    int statement_ms;
    int64_t failed_us;              /* monotonic, when connecting last failed; 0 = it did not */
    char failure[ERROR_TEXT_BYTES]; /* why, as the log has it; empty: it did not fail last */
    char sqlstate[6];
    struct postgres *idle[]; /* some may be broken, or NULL: not opened yet */
};

enum status pool_create(const char *conninfo, int size, int statement_ms, struct pool **out,
                        struct error *error)
{
    struct pool *pool = calloc(1, sizeof *pool + (size_t)size * sizeof pool->idle[0]);
    *out = pool;
    if (pool == NULL)
        return error_no_memory(error);
    pool->conninfo = conninfo;
    pool->size = size;
    pool->statement_ms = statement_ms;
    pool->idle_count = size;
    pthread_mutex_init(&pool->lock, NULL);
    return STATUS_OK;
}

void pool_destroy(struct pool *pool)
{
    if (pool == NULL)
        return;
    for (int i = 0; i < pool->idle_count; i++)
        postgres_close(pool->idle[i]);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

/* Answers may take long only where a person asked for much. */
static enum status open_connection(struct pool *pool, struct postgres **postgres,
                                   struct error *error)
{
    enum status status = *postgres == NULL
                             ? postgres_connect(pool->conninfo, "dovetail-serving", postgres, error)
                             : postgres_reconnect(*postgres, error);
    if (status == STATUS_OK)
        status = postgres_executef(*postgres, error,
                                   "SET statement_timeout = %d;"
                                   " SET default_transaction_read_only = on;"
                                   " SET idle_in_transaction_session_timeout = '60s';"
                                   /* Statements differ by which conditions they have, so one plan
                                    * serves each; planning anew was half of a point query. */
                                   " SET plan_cache_mode = force_generic_plan",
                                   pool->statement_ms);
    return status;
}

/* What a caller is told. */
static enum status is_away(const char *sqlstate, struct error *error)
{
    (void)error_set(error, STATUS_RETRY, "PostgreSQL is away");
    snprintf(error->sqlstate, sizeof error->sqlstate, "%s",
             sqlstate[0] != '\0' ? sqlstate : "08006");
    return STATUS_RETRY;
}

static bool failed_just_now(struct pool *pool, struct error *error)
{
    bool recent = pool->failed_us != 0 &&
                  program_monotonic_us() - pool->failed_us < PAUSE_AFTER_FAILURE_MS * INT64_C(1000);
    if (recent)
        (void)is_away(pool->sqlstate, error);
    return recent;
}

static void note_success(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    bool was_away = pool->failure[0] != '\0';
    pool->failed_us = 0;
    pool->failure[0] = '\0';
    pthread_mutex_unlock(&pool->lock);
    if (was_away)
        program_log(LOG_INFO, "PostgreSQL is back");
}

static void note_failure(struct pool *pool, const struct error *cause)
{
    pthread_mutex_lock(&pool->lock);
    bool is_news = strcmp(pool->failure, cause->text) != 0;
    pool->failed_us = program_monotonic_us();
    snprintf(pool->failure, sizeof pool->failure, "%s", cause->text);
    snprintf(pool->sqlstate, sizeof pool->sqlstate, "%s", cause->sqlstate);
    pthread_mutex_unlock(&pool->lock);
    if (is_news)
        program_log(LOG_WARNING, "PostgreSQL is away: %s", cause->text);
}

/* A refused password or a missing database may be put right while we run: worth another try. */
static enum status connect_now(struct pool *pool, struct postgres **postgres, struct error *error)
{
    struct error cause = {0};
    if (open_connection(pool, postgres, &cause) == STATUS_OK) {
        note_success(pool);
        return STATUS_OK;
    }
    note_failure(pool, &cause);
    return is_away(cause.sqlstate, error);
}

enum status pool_take(struct pool *pool, struct postgres **out, struct error *error)
{
    struct postgres *postgres = NULL;
    bool live = false;
    *out = NULL;
    pthread_mutex_lock(&pool->lock);
    if (pool->idle_count == 0) {
        pthread_mutex_unlock(&pool->lock);
        return error_set(error, STATUS_RETRY, "every connection to PostgreSQL is in use");
    }
    /* The newest that is whole, else any. */
    int chosen = pool->idle_count - 1;
    for (int i = pool->idle_count - 1; i >= 0 && !live; i--) {
        live = pool->idle[i] != NULL && postgres_is_connected(pool->idle[i]);
        if (live)
            chosen = i;
    }
    bool refused = !live && failed_just_now(pool, error);
    if (!refused) {
        postgres = pool->idle[chosen];
        pool->idle[chosen] = pool->idle[--pool->idle_count];
    }
    pthread_mutex_unlock(&pool->lock);
    if (refused)
        return STATUS_RETRY;
    enum status status = live ? STATUS_OK : connect_now(pool, &postgres, error);
    if (status != STATUS_OK) {
        /* Its place goes back, with or without an object. */
        pthread_mutex_lock(&pool->lock);
        pool->idle[pool->idle_count++] = postgres;
        pthread_mutex_unlock(&pool->lock);
        return status;
    }
    *out = postgres;
    return STATUS_OK;
}

void pool_give_back(struct pool *pool, struct postgres *postgres)
{
    if (postgres == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->idle[pool->idle_count++] = postgres;
    pthread_mutex_unlock(&pool->lock);
}

bool pool_renew(struct pool *pool, struct postgres *postgres, struct error *error)
{
    return !postgres_is_connected(postgres) && connect_now(pool, &postgres, error) == STATUS_OK;
}
