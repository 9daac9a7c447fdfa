/* Waiting requests: see serving/wait.h.
 *
 * Invariant: a request on the list is suspended, and is resumed exactly once, by whoever takes it
 * off. The lock guards the list and `closing`; it is not held during I/O. The thread sleeps while
 * nobody waits; while PostgreSQL is away it goes on trying, and deadlines still hold. */
#include "serving/wait.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/program/program.h"

struct waiter {
    struct waiter *next;
    struct http_request *request;
    bool batch;
    bool reached; /* for the pass that is under way */
    int64_t deadline_us;
    char *topic;
    size_t count;
    int64_t offsets[];
};

struct waiters {
    struct pool *pool;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct waiter *first;
    size_t count;
    bool closing;
    bool joined;
};

static const char positions_sql[] =
    "SELECT p.topic, p.partition, coalesce(c.next_offset, p.base_offset),"
    " greatest(p.next_offset, c.next_offset)"
    " FROM dovetail_internal.position p LEFT JOIN dovetail_internal.run_cutoff c"
    "  ON c.run = (SELECT run FROM dovetail_internal.current_run)"
    " AND c.topic = p.topic AND c.partition = p.partition";

static void resume(struct waiter *waiter)
{
    http_request_resume(waiter->request);
    free(waiter->topic);
    free(waiter);
}

/* Takes those off whose time has come, and resumes them. Under the lock. */
static void resume_ready(struct waiters *waiters, int64_t now_us)
{
    struct waiter **link = &waiters->first;
    while (*link != NULL) {
        struct waiter *waiter = *link;
        if (waiter->reached || waiters->closing || waiter->deadline_us <= now_us) {
            *link = waiter->next;
            waiters->count--;
            resume(waiter);
        } else {
            link = &waiter->next;
        }
    }
}

static bool has_reached(const struct waiter *waiter, const PGresult *positions)
{
    for (size_t partition = 0; partition < waiter->count; partition++) {
        bool reached = waiter->offsets[partition] <= 0;
        for (int row = 0; row < PQntuples(positions) && !reached; row++)
            reached =
                strcmp(PQgetvalue(positions, row, 0), waiter->topic) == 0 &&
                postgres_int64(positions, row, 1) == (int64_t)partition &&
                postgres_int64(positions, row, waiter->batch ? 2 : 3) >= waiter->offsets[partition];
        if (!reached)
            return false;
    }
    return true;
}

static PGresult *read_positions(struct pool *pool)
{
    struct postgres *postgres = NULL;
    struct error ignored;
    PGresult *result = NULL;
    if (pool_take(pool, &postgres, &ignored) != STATUS_OK)
        return NULL;
    if (postgres_query(postgres, positions_sql, 0, NULL, &result, &ignored) != STATUS_OK) {
        PQclear(result);
        result = NULL;
    }
    pool_give_back(pool, postgres);
    return result;
}

static void pause_for_interval(struct waiters *waiters)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += WAIT_INTERVAL_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&waiters->changed, &waiters->lock, &until);
}

static void *run(void *context)
{
    struct waiters *waiters = context;
    pthread_mutex_lock(&waiters->lock);
    while (!waiters->closing) {
        if (waiters->first == NULL) {
            pthread_cond_wait(&waiters->changed, &waiters->lock);
            continue;
        }
        pthread_mutex_unlock(&waiters->lock);
        PGresult *positions = read_positions(waiters->pool);
        pthread_mutex_lock(&waiters->lock);
        for (struct waiter *waiter = waiters->first; positions != NULL && waiter != NULL;
             waiter = waiter->next)
            waiter->reached = has_reached(waiter, positions);
        PQclear(positions);
        resume_ready(waiters, program_monotonic_us());
        if (!waiters->closing && waiters->first != NULL)
            pause_for_interval(waiters);
    }
    resume_ready(waiters, INT64_MAX);
    pthread_mutex_unlock(&waiters->lock);
    return NULL;
}

enum status waiters_create(struct pool *pool, struct waiters **out, struct error *error)
{
    struct waiters *waiters = calloc(1, sizeof *waiters);
    *out = waiters;
    if (waiters == NULL)
        return error_no_memory(error);
    waiters->pool = pool;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&waiters->lock, NULL);
    pthread_cond_init(&waiters->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&waiters->thread, NULL, run, waiters) == 0)
        return STATUS_OK;
    waiters->joined = true;
    waiters_destroy(waiters);
    *out = NULL;
    return error_set(error, STATUS_FATAL, "cannot start a thread");
}

void waiters_close(struct waiters *waiters)
{
    pthread_mutex_lock(&waiters->lock);
    waiters->closing = true;
    pthread_cond_broadcast(&waiters->changed);
    pthread_mutex_unlock(&waiters->lock);
    if (!waiters->joined)
        pthread_join(waiters->thread, NULL);
    waiters->joined = true;
}

void waiters_destroy(struct waiters *waiters)
{
    if (waiters == NULL)
        return;
    waiters_close(waiters);
    pthread_cond_destroy(&waiters->changed);
    pthread_mutex_destroy(&waiters->lock);
    free(waiters);
}

bool waiters_add(struct waiters *waiters, struct http_request *request, const char *topic,
                 const int64_t *offsets, size_t count, bool batch, int64_t deadline_us)
{
    struct waiter *waiter = calloc(1, sizeof *waiter + count * sizeof waiter->offsets[0]);
    char *copy = strdup(topic);
    bool added = false;
    if (waiter != NULL && copy != NULL) {
        *waiter = (struct waiter){.request = request,
                                  .batch = batch,
                                  .deadline_us = deadline_us,
                                  .topic = copy,
                                  .count = count};
        memcpy(waiter->offsets, offsets, count * sizeof offsets[0]);
        pthread_mutex_lock(&waiters->lock);
        added = !waiters->closing && waiters->count < WAIT_REQUEST_MAX;
        if (added) {
            http_request_suspend(request); /* before the thread can resume it */
            waiter->next = waiters->first;
            waiters->first = waiter;
            waiters->count++;
            pthread_cond_signal(&waiters->changed);
        }
        pthread_mutex_unlock(&waiters->lock);
    }
    if (!added) {
        free(copy);
        free(waiter);
    }
    return added;
}
