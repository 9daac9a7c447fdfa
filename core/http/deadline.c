/* Absolute deadlines: see core/http/deadline.h.
 *
 * Invariant: the thread is awake no later than the earliest deadline: it sleeps until `wake_us`,
 * and whoever sets an earlier one wakes it. The lock guards the list and `closing`; moments are
 * atomic, because each request sets two. Deadlines mostly move to later, so hardly any request
 * takes the lock. */
#include "core/http/deadline.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "core/program/program.h"

struct deadline {
    struct deadline *next;
    struct deadline **link; /* what points here */
    int fd;
    _Atomic int64_t at_us; /* monotonic; INT64_MAX: none, or it has been shut down */
};

struct deadlines {
    int64_t receive_us;
    int64_t respond_us;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct deadline *first;
    _Atomic int64_t wake_us;
    bool closing;
};

/* Shuts down what is late; the earliest of the others. Under the lock. */
static int64_t end_late_ones(struct deadlines *deadlines)
{
    int64_t now_us = program_monotonic_us();
    int64_t earliest_us = INT64_MAX;
    for (struct deadline *deadline = deadlines->first; deadline != NULL;
         deadline = deadline->next) {
        int64_t at_us = atomic_load(&deadline->at_us);
        if (at_us <= now_us && atomic_compare_exchange_strong(&deadline->at_us, &at_us, INT64_MAX))
            (void)shutdown(deadline->fd, SHUT_RDWR);
        else if (at_us < earliest_us)
            earliest_us = at_us;
    }
    return earliest_us;
}

static void wait_until(struct deadlines *deadlines, int64_t us)
{
    const struct timespec until = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    if (us == INT64_MAX)
        pthread_cond_wait(&deadlines->changed, &deadlines->lock);
    else
        pthread_cond_timedwait(&deadlines->changed, &deadlines->lock, &until);
}

static void *run(void *context)
{
    struct deadlines *deadlines = context;
    pthread_mutex_lock(&deadlines->lock);
    while (!deadlines->closing) {
        /* Before the look at the list: one that is set meanwhile is either seen or wakes. */
        atomic_store(&deadlines->wake_us, INT64_MAX);
        int64_t earliest_us = end_late_ones(deadlines);
        int64_t expected = INT64_MAX;
        /* Not where somebody has set an earlier one meanwhile, who waits for the lock to tell. */
        atomic_compare_exchange_strong(&deadlines->wake_us, &expected, earliest_us);
        wait_until(deadlines, earliest_us);
    }
    pthread_mutex_unlock(&deadlines->lock);
    return NULL;
}

static void set(struct deadlines *deadlines, struct deadline *deadline, int64_t length_us)
{
    int64_t at_us = program_monotonic_us() + length_us;
    atomic_store(&deadline->at_us, at_us);
    int64_t wake_us = atomic_load(&deadlines->wake_us);
    while (at_us < wake_us && !atomic_compare_exchange_weak(&deadlines->wake_us, &wake_us, at_us))
        ;
    if (at_us >= wake_us)
        return;
    pthread_mutex_lock(&deadlines->lock);
    pthread_cond_signal(&deadlines->changed);
    pthread_mutex_unlock(&deadlines->lock);
}

enum status deadlines_create(int64_t receive_ms, int64_t respond_ms, struct deadlines **out,
                             struct error *error)
{
    struct deadlines *deadlines = calloc(1, sizeof *deadlines);
    *out = deadlines;
    if (deadlines == NULL)
        return error_no_memory(error);
    deadlines->receive_us = receive_ms * 1000;
    deadlines->respond_us = respond_ms * 1000;
    atomic_init(&deadlines->wake_us, INT64_MAX);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&deadlines->lock, NULL);
    pthread_cond_init(&deadlines->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&deadlines->thread, NULL, run, deadlines) == 0)
        return STATUS_OK;
    pthread_cond_destroy(&deadlines->changed);
    pthread_mutex_destroy(&deadlines->lock);
    free(deadlines);
    *out = NULL;
    return error_set(error, STATUS_FATAL, "cannot start a thread");
}

void deadlines_destroy(struct deadlines *deadlines)
{
    if (deadlines == NULL)
        return;
    pthread_mutex_lock(&deadlines->lock);
    deadlines->closing = true;
    pthread_cond_signal(&deadlines->changed);
    pthread_mutex_unlock(&deadlines->lock);
    pthread_join(deadlines->thread, NULL);
    pthread_cond_destroy(&deadlines->changed);
    pthread_mutex_destroy(&deadlines->lock);
    free(deadlines);
}

struct deadline *deadline_open(struct deadlines *deadlines, int fd)
{
    struct deadline *deadline = calloc(1, sizeof *deadline);
    if (deadline == NULL)
        return NULL;
    deadline->fd = fd;
    atomic_init(&deadline->at_us, INT64_MAX);
    pthread_mutex_lock(&deadlines->lock);
    deadline->next = deadlines->first;
    deadline->link = &deadlines->first;
    if (deadline->next != NULL)
        deadline->next->link = &deadline->next;
    deadlines->first = deadline;
    pthread_mutex_unlock(&deadlines->lock);
    set(deadlines, deadline, deadlines->receive_us);
    return deadline;
}

void deadline_close(struct deadlines *deadlines, struct deadline *deadline)
{
    if (deadline == NULL)
        return;
    pthread_mutex_lock(&deadlines->lock);
    *deadline->link = deadline->next;
    if (deadline->next != NULL)
        deadline->next->link = deadline->link;
    pthread_mutex_unlock(&deadlines->lock);
    free(deadline);
}

void deadline_receive(struct deadlines *deadlines, struct deadline *deadline)
{
    set(deadlines, deadline, deadlines->receive_us);
}

void deadline_respond(struct deadlines *deadlines, struct deadline *deadline)
{
    set(deadlines, deadline, deadlines->respond_us);
}

void deadline_lift(struct deadline *deadline)
{
    atomic_store(&deadline->at_us, INT64_MAX);
}
