/* Shared looks: see serving/glance.h.
 *
 * While no look is under way, who asks begins one, in his own thread: a question that comes alone
 * pays for no hand-over. All that come meanwhile are put on a list. The thread takes the whole list
 * when the look is over, looks once for all of it, and tells them; it goes on while there is a
 * list, and sleeps while there is none. The lock guards everything and is not held while looking or
 * telling. */
#include "serving/glance.h"

#include <pthread.h>
#include <stdlib.h>

struct glance {
    glance_look look;
    void *context;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* the list, with no look under way; or closing */
    bool is_looking;
    bool is_closing;
    bool is_joined;
    uint64_t begun;
    struct glance_question *first; /* for the next look */
    size_t waiting;
};

/* The look may begin: all that are on the list, or the one that begins it, asked before. */
static void begin(struct glance *glance)
{
    glance->is_looking = true;
    glance->begun++;
}

/* Under the lock, when a look is over. */
static void end(struct glance *glance)
{
    glance->is_looking = false;
    if (glance->first != NULL || glance->is_closing)
        pthread_cond_signal(&glance->changed);
}

static void tell(struct glance_question *question, enum status status,
                 const struct query_mark *mark)
{
    while (question != NULL) {
        struct glance_question *next = question->next; /* it is gone when it is told */
        question->status = status;
        question->mark = *mark;
        question->told(question->context);
        question = next;
    }
}

static void *run(void *context)
{
    struct glance *glance = context;
    pthread_mutex_lock(&glance->lock);
    for (;;) {
        while (glance->is_looking || (glance->first == NULL && !glance->is_closing))
            pthread_cond_wait(&glance->changed, &glance->lock);
        if (glance->first == NULL)
            break;
        struct glance_question *all = glance->first;
        glance->first = NULL;
        glance->waiting = 0;
        begin(glance);
        pthread_mutex_unlock(&glance->lock);
        struct query_mark mark = {0};
        struct error ignored; /* it is found again by who asks for rows */
        enum status status = glance->look(glance->context, &mark, &ignored);
        tell(all, status, &mark);
        pthread_mutex_lock(&glance->lock);
        glance->is_looking = false;
    }
    pthread_mutex_unlock(&glance->lock);
    return NULL;
}

enum status glance_create(glance_look look, void *context, struct glance **out, struct error *error)
{
    struct glance *glance = calloc(1, sizeof *glance);
    *out = NULL;
    if (glance == NULL)
        return error_no_memory(error);
    glance->look = look;
    glance->context = context;
    pthread_mutex_init(&glance->lock, NULL);
    pthread_cond_init(&glance->changed, NULL);
    if (pthread_create(&glance->thread, NULL, run, glance) == 0) {
        *out = glance;
        return STATUS_OK;
    }
    glance->is_joined = true;
    glance_destroy(glance);
    return error_set(error, STATUS_FATAL, "cannot start a thread");
}

void glance_close(struct glance *glance)
{
    pthread_mutex_lock(&glance->lock);
    glance->is_closing = true;
    pthread_cond_signal(&glance->changed);
    pthread_mutex_unlock(&glance->lock);
    if (!glance->is_joined)
        pthread_join(glance->thread, NULL);
    glance->is_joined = true;
}

void glance_destroy(struct glance *glance)
{
    if (glance == NULL)
        return;
    glance_close(glance);
    pthread_cond_destroy(&glance->changed);
    pthread_mutex_destroy(&glance->lock);
    free(glance);
}

bool glance_ask(struct glance *glance, struct glance_question *question)
{
    struct error ignored;
    pthread_mutex_lock(&glance->lock);
    if (!glance->is_closing && (glance->is_looking || glance->first != NULL)) {
        question->wait(question->context);
        question->next = glance->first;
        glance->first = question;
        glance->waiting++;
        pthread_mutex_unlock(&glance->lock);
        return false;
    }
    bool is_shared = !glance->is_closing; /* the thread may have ended, and then nobody waits */
    if (is_shared)
        begin(glance);
    pthread_mutex_unlock(&glance->lock);
    question->status = glance->look(glance->context, &question->mark, &ignored);
    if (is_shared) {
        pthread_mutex_lock(&glance->lock);
        end(glance);
        pthread_mutex_unlock(&glance->lock);
    }
    return true;
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
