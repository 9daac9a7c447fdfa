/* Shared looks: see serving/glance.h.
 *
 * Looks are numbered. Who calls needs the result of the next one to begin, or of any after it. It
 * begins that look itself if none is under way; otherwise it sleeps until the one under way is
 * over, when one of those that need the next is woken to begin it, and the rest when that is over.
 * So nobody is woken for nothing, and a request that comes alone pays for no hand-over. The lock
 * guards everything and is not held while looking. */
#include "serving/glance.h"

#include <pthread.h>
#include <stdlib.h>

struct glance {
    glance_look look;
    void *context;
    pthread_mutex_t lock;
    pthread_cond_t over[2]; /* for those that need a look with an even, an odd number */
    uint64_t begun;         /* the number of the newest look */
    uint64_t done;          /* of the newest that is over; begun, or one less */
    size_t waiting;         /* need number begun + 1 while number begun is under way */
    /* Of number done. */
    enum status status;
    struct query_mark mark;
    struct error error;
};

struct glance *glance_create(glance_look look, void *context)
{
    struct glance *glance = calloc(1, sizeof *glance);
    if (glance == NULL)
        return NULL;
    glance->look = look;
    glance->context = context;
    pthread_mutex_init(&glance->lock, NULL);
    pthread_cond_init(&glance->over[0], NULL);
    pthread_cond_init(&glance->over[1], NULL);
    return glance;
}

void glance_destroy(struct glance *glance)
{
    if (glance == NULL)
        return;
    pthread_cond_destroy(&glance->over[0]);
    pthread_cond_destroy(&glance->over[1]);
    pthread_mutex_destroy(&glance->lock);
    free(glance);
}

/* Under the lock, which is given up meanwhile; none is under way. */
static void look(struct glance *glance)
{
    struct query_mark mark;
    struct error error = {0};
    uint64_t number = ++glance->begun;
    glance->waiting = 0; /* this is the look that they waited for */
    pthread_mutex_unlock(&glance->lock);
    enum status status = glance->look(glance->context, &mark, &error);
    pthread_mutex_lock(&glance->lock);
    glance->done = number;
    glance->status = status;
    glance->error = error;
    if (status == STATUS_OK)
        glance->mark = mark;
    pthread_cond_broadcast(&glance->over[number % 2]);
    if (glance->waiting > 0)
        pthread_cond_signal(&glance->over[(number + 1) % 2]);
}

enum status glance_take(struct glance *glance, struct query_mark *out, struct error *error)
{
    pthread_mutex_lock(&glance->lock);
    const uint64_t needed = glance->begun + 1; /* one under way began before the call */
    if (glance->begun > glance->done)
        glance->waiting++;
    while (glance->done < needed) {
        if (glance->begun == glance->done)
            look(glance);
        else
            pthread_cond_wait(&glance->over[needed % 2], &glance->lock);
    }
    enum status status = glance->status;
    if (status == STATUS_OK)
        *out = glance->mark;
    else if (error != NULL)
        *error = glance->error;
    pthread_mutex_unlock(&glance->lock);
    return status;
}

size_t glance_waiting(struct glance *glance)
{
    pthread_mutex_lock(&glance->lock);
    size_t count = glance->waiting;
    pthread_mutex_unlock(&glance->lock);
    return count;
}

uint64_t glance_looks(struct glance *glance)
{
    pthread_mutex_lock(&glance->lock);
    uint64_t count = glance->begun;
    pthread_mutex_unlock(&glance->lock);
    return count;
}
