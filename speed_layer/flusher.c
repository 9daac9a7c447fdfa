/* The flusher's thread: see flusher.h.
 *
 * The mutex guards job, done, abandoned and exiting; the notices to the main thread are atomics;
 * everything else belongs to the thread. `wake_fd` interrupts its waits, of which there are two:
 * for work or notifications, and between attempts. */
#include "speed_layer/flusher.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/catalog/lock_wait.h"
#include "core/program/program.h"

enum {
    FIRST_PAUSE_MS = 50,
    LONGEST_PAUSE_MS = 2000,
    ACKNOWLEDGE_STEP_MS = 200,    /* between looks at `abandoned` while letters are under way */
    COMPLAIN_EVERY_US = 10000000, /* one line about what is away */
};

struct flusher {
    const struct config *config;
    pthread_t thread;
    bool started;
    int wake_fd;

    pthread_mutex_t mutex;
    pthread_cond_t finished;
    struct flush *job;  /* with the thread */
    struct flush *done; /* written or given up, not yet taken */
    bool abandoned;
    bool exiting;

    atomic_bool cut_requested;
    atomic_bool catalog_changed;
    atomic_bool reconnected;

    /* The thread's own. */
    struct postgres *postgres;
    struct kafka_producer *producer;
    bool spoiled; /* the session is unfit for another transaction */
    struct flush_staging staging;
    int pause_ms;
    bool postgres_away;
    bool ever_connected;
    int64_t complained_us;
    int64_t withheld_us; /* the same about parts of letters */
};

/* --- waiting --- */

static void wake(struct flusher *flusher)
{
    uint64_t one = 1;
    if (write(flusher->wake_fd, &one, sizeof one) < 0)
        return; /* only when the counter is full, and then it is readable */
}

/* Waits for wake_fd or, unless -1, another descriptor. */
static void wait_for_wake(struct flusher *flusher, int other_fd, int timeout_ms)
{
    struct pollfd waits[2] = {{.fd = flusher->wake_fd, .events = POLLIN},
                              {.fd = other_fd, .events = POLLIN}};
    uint64_t count;
    if (poll(waits, 2, timeout_ms) > 0 && waits[0].revents != 0 &&
        read(flusher->wake_fd, &count, sizeof count) < 0)
        return;
}

static bool is_abandoned(struct flusher *flusher)
{
    pthread_mutex_lock(&flusher->mutex);
    bool abandoned = flusher->abandoned || flusher->exiting;
    pthread_mutex_unlock(&flusher->mutex);
    return abandoned;
}

static void pause_before_retry(struct flusher *flusher)
{
    wait_for_wake(flusher, -1, flusher->pause_ms);
    flusher->pause_ms =
        flusher->pause_ms * 2 > LONGEST_PAUSE_MS ? LONGEST_PAUSE_MS : flusher->pause_ms * 2;
}

static bool may_complain(int64_t *last_us)
{
    int64_t now_us = program_monotonic_us();
    if (*last_us != 0 && now_us - *last_us < COMPLAIN_EVERY_US)
        return false;
    *last_us = now_us;
    return true;
}

static void complain(struct flusher *flusher, const char *what, const struct error *error)
{
    if (may_complain(&flusher->complained_us))
        program_log(LOG_WARNING, "%s; waiting: %s", what, error->text);
}

/* Errors without an SQLSTATE are the connection's own; class 57 is a server that goes or comes. */
static void complain_about_postgres(struct flusher *flusher, const struct error *error)
{
    bool away = error->sqlstate[0] == '\0' || strncmp(error->sqlstate, "57", 2) == 0 ||
                strncmp(error->sqlstate, "08", 2) == 0;
    complain(flusher, away ? "PostgreSQL is away" : "the flush will be tried again", error);
    flusher->postgres_away = flusher->postgres_away || away;
}

static void note_success(struct flusher *flusher)
{
    flusher->pause_ms = FIRST_PAUSE_MS;
    flusher->complained_us = 0;
    if (flusher->postgres_away)
        program_log(LOG_INFO, "PostgreSQL is back");
    flusher->postgres_away = false;
}

/* --- PostgreSQL --- */

/* Settings: rows of the staging table find theirs through the unique index. The staging table has
 * no statistics, so the planner is not asked. A lock is not waited for without end, because a flush
 * must be able to see that it was abandoned; what was rolled back is tried again. */
static const char session_sql[] = "SET enable_hashjoin = off; SET enable_mergejoin = off; "
                                  "SET lock_timeout = '2s'; "
                                  "LISTEN dovetail_cut; LISTEN dovetail_catalog";

static enum status ensure_connected(struct flusher *flusher, struct error *error)
{
    if (flusher->postgres != NULL && postgres_is_connected(flusher->postgres) && !flusher->spoiled)
        return STATUS_OK;
    flusher->staging.count = 0;
    enum status status = flusher->postgres == NULL
                             ? postgres_connect(flusher->config->postgres, "dovetail-speed flush",
                                                &flusher->postgres, error)
                             : postgres_reconnect(flusher->postgres, error);
    if (status == STATUS_OK) {
        flusher->spoiled = true; /* until it has its settings */
        status = postgres_execute(flusher->postgres, session_sql, error);
    }
    if (status != STATUS_OK)
        return status;
    flusher->spoiled = false;
    if (flusher->ever_connected)
        atomic_store(&flusher->reconnected, true);
    flusher->ever_connected = true;
    return STATUS_OK;
}

/* Troubles of the server that pass, beyond those that core/postgres/postgres.h knows: here there is
 * nothing better to do than to wait for the operator. */
static bool may_pass(const struct error *error)
{
    return strncmp(error->sqlstate, "57", 2) == 0; /* cancelled by an operator */
}

static void listen_for_notices(struct flusher *flusher)
{
    bool cut = false;
    bool catalog = false;
    if (flusher->postgres == NULL || flusher->spoiled || !postgres_is_connected(flusher->postgres))
        return;
    /* A lost connection is noticed by the next ensure_connected. */
    if (postgres_poll_notification(flusher->postgres, "dovetail_cut", &cut, NULL) != STATUS_OK ||
        postgres_poll_notification(flusher->postgres, "dovetail_catalog", &catalog, NULL) !=
            STATUS_OK)
        return;
    if (cut)
        atomic_store(&flusher->cut_requested, true);
    if (catalog)
        atomic_store(&flusher->catalog_changed, true);
}

/* --- one flush --- */

/* Until nothing is under way. STATUS_REJECT: a letter was refused, `error` has the first reason;
 * STATUS_RETRY: abandoned. */
static enum status await_letters(struct flusher *flusher, struct error *error)
{
    struct error refusal = {0};
    for (;;) {
        enum status status = kafka_producer_flush(flusher->producer, ACKNOWLEDGE_STEP_MS, error);
        if (status == STATUS_OK && refusal.status == STATUS_REJECT) {
            *error = refusal;
            return STATUS_REJECT;
        }
        if (status == STATUS_OK || status == STATUS_FATAL)
            return status;
        if (is_abandoned(flusher))
            return STATUS_RETRY;
        if (status == STATUS_REJECT && refusal.status != STATUS_REJECT)
            refusal = *error;
        if (status == STATUS_RETRY)
            complain(flusher, "dead letters are not acknowledged yet", error);
    }
}

static bool is_too_large(enum status status, const struct error *error)
{
    return status == STATUS_REJECT &&
           (error->kafka_code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ||
            error->kafka_code == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE);
}

/* Sends some letters and waits for them. A broker refuses a whole batch for its size, so halves are
 * sent until it takes them, or one letter is left that is too large by itself. */
static enum status send_range(struct flusher *flusher, struct dead_letters *letters, size_t first,
                              size_t count, struct error *error)
{
    enum status status;
    for (;;) {
        struct error sending;
        enum status queued = dead_letters_send(letters, first, count, flusher->producer, &sending);
        status = await_letters(flusher, error); /* those that were queued before a failure, too */
        if (queued != STATUS_OK && status != STATUS_RETRY) {
            status = queued;
            *error = sending;
        }
        if (!is_too_large(status, error))
            return status;
        if (count > 1)
            break;
        if (!dead_letters_withhold(letters, first))
            return status;
        if (may_complain(&flusher->withheld_us))
            program_log(LOG_WARNING, "dead letters are sent without what is too large: %s",
                        error->text);
    }
    status = send_range(flusher, letters, first, count / 2, error);
    if (status == STATUS_OK)
        status = send_range(flusher, letters, first + count / 2, count - count / 2, error);
    return status;
}

/* Until every letter is acknowledged. A producer that refused one is made anew, and all are sent
 * again: a letter may come twice, never not at all. */
static enum status send_letters(struct flusher *flusher, struct dead_letters *letters)
{
    while (!is_abandoned(flusher)) {
        struct error error = {0};
        enum status status = STATUS_OK;
        if (flusher->producer == NULL)
            status = kafka_producer_create(flusher->config->kafka, &flusher->producer, &error);
        if (status == STATUS_OK)
            status = send_range(flusher, letters, 0, letters->count, &error);
        if (status == STATUS_OK)
            return STATUS_OK;
        complain(flusher, "dead letters were not taken", &error);
        kafka_producer_destroy(flusher->producer);
        flusher->producer = NULL;
        pause_before_retry(flusher);
    }
    return STATUS_RETRY;
}

/* Leaves the connection fit for the next transaction, or says that it is not. */
static void clean_up(struct flusher *flusher, enum status status, const struct error *error,
                     size_t staged_before)
{
    struct error ignored;
    bool refused = status == STATUS_FENCED || strcmp(error->sqlstate, "55P03") == 0;
    flusher->staging.count = staged_before; /* the others went with their transaction */
    if (refused && postgres_is_connected(flusher->postgres) &&
        postgres_execute(flusher->postgres, "ROLLBACK", &ignored) == STATUS_OK)
        return;
    /* A COPY may have broken off in the middle: a new session is the simple way out of all that.
     * postgres_reconnect ends this one, so that its locks are not in our way. */
    flusher->spoiled = true;
}

/* One attempt to learn whether the letters are still ours to send. */
static enum status try_fence(struct flusher *flusher, struct flush *flush, struct error *error)
{
    enum status status = ensure_connected(flusher, error);
    if (status == STATUS_OK)
        status = flush_check_fence(flush, flusher->postgres, error);
    return status == STATUS_FATAL && may_pass(error) ? STATUS_RETRY : status;
}

/* One attempt. */
static enum status try_flush(struct flusher *flusher, struct flush *flush, struct error *error)
{
    enum status status = ensure_connected(flusher, error);
    if (status != STATUS_OK)
        return status;
    size_t staged = flusher->staging.count;
    bool written = false;
    if (flush->commit_in_doubt)
        status = flush_resolve_doubt(flush, flusher->postgres, &written, error);
    if (status == STATUS_OK && !written)
        status = flush_write(flush, flusher->postgres, &flusher->staging, error);
    if (status == STATUS_OK)
        return STATUS_OK;
    clean_up(flusher, status, error, staged);
    if (!flusher->spoiled)
        lock_wait_resolve(flusher->postgres, error);
    return status == STATUS_FATAL && may_pass(error) ? STATUS_RETRY : status;
}

/* Attempts until one ends otherwise than with STATUS_RETRY, or the flush is abandoned. */
static enum status repeat(struct flusher *flusher, struct flush *flush,
                          enum status (*attempt)(struct flusher *flusher, struct flush *flush,
                                                 struct error *error))
{
    for (;;) {
        enum status status = attempt(flusher, flush, &flush->error);
        if (status != STATUS_RETRY)
            return status;
        complain_about_postgres(flusher, &flush->error);
        pause_before_retry(flusher);
        if (is_abandoned(flusher))
            return status;
    }
}

static void run_flush(struct flusher *flusher, struct flush *flush)
{
    enum status status = STATUS_OK;
    if (flush->letters.count > 0)
        status = repeat(flusher, flush, try_fence);
    if (status == STATUS_OK && flush->letters.count > 0)
        status = send_letters(flusher, &flush->letters);
    if (status == STATUS_OK)
        status = repeat(flusher, flush, try_flush);
    if (status == STATUS_OK)
        note_success(flusher);
    flush->status = status;
}

/* --- the thread --- */

/* Keeps the connection up while idle, too, for the sake of notifications. */
static void wait_idle(struct flusher *flusher)
{
    struct error error;
    int socket = -1;
    int timeout_ms = -1;
    enum status status = ensure_connected(flusher, &error);
    if (status == STATUS_OK) {
        note_success(flusher);
        listen_for_notices(flusher);
        socket = PQsocket(postgres_handle(flusher->postgres));
        if (!postgres_is_connected(flusher->postgres))
            return;
    } else {
        complain_about_postgres(flusher, &error);
        timeout_ms = flusher->pause_ms;
        flusher->pause_ms = timeout_ms * 2 > LONGEST_PAUSE_MS ? LONGEST_PAUSE_MS : timeout_ms * 2;
    }
    wait_for_wake(flusher, socket, timeout_ms);
}

static void *run(void *context)
{
    struct flusher *flusher = context;
    pthread_mutex_lock(&flusher->mutex);
    while (!flusher->exiting) {
        struct flush *job = flusher->job;
        pthread_mutex_unlock(&flusher->mutex);
        if (job != NULL) {
            run_flush(flusher, job);
            listen_for_notices(flusher);
        } else {
            wait_idle(flusher);
        }
        pthread_mutex_lock(&flusher->mutex);
        if (job != NULL) {
            flusher->job = NULL;
            flusher->done = job;
            pthread_cond_broadcast(&flusher->finished);
        }
    }
    pthread_mutex_unlock(&flusher->mutex);
    return NULL;
}

/* --- for the main thread --- */

enum status flusher_create(const struct config *config, struct flusher **out, struct error *error)
{
    *out = NULL;
    struct flusher *flusher = calloc(1, sizeof *flusher);
    if (flusher == NULL)
        return error_no_memory(error);
    flusher->config = config;
    flusher->pause_ms = FIRST_PAUSE_MS;
    flusher->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&flusher->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&flusher->finished, &attributes);
    pthread_condattr_destroy(&attributes);
    int failure = flusher->wake_fd < 0 ? errno : 0;
    if (failure == 0)
        failure = pthread_create(&flusher->thread, NULL, run, flusher);
    if (failure != 0) {
        flusher_destroy(flusher);
        return error_set(error, STATUS_FATAL, "starting the flusher: %s", strerror(failure));
    }
    flusher->started = true;
    *out = flusher;
    return STATUS_OK;
}

void flusher_destroy(struct flusher *flusher)
{
    if (flusher == NULL)
        return;
    if (flusher->started) {
        pthread_mutex_lock(&flusher->mutex);
        flusher->exiting = true;
        pthread_mutex_unlock(&flusher->mutex);
        wake(flusher);
        pthread_join(flusher->thread, NULL);
    }
    kafka_producer_destroy(flusher->producer);
    postgres_close(flusher->postgres);
    free(flusher->staging.versions);
    pthread_cond_destroy(&flusher->finished);
    pthread_mutex_destroy(&flusher->mutex);
    if (flusher->wake_fd >= 0)
        close(flusher->wake_fd);
    free(flusher);
}

void flusher_submit(struct flusher *flusher, struct flush *flush)
{
    pthread_mutex_lock(&flusher->mutex);
    flusher->job = flush;
    flusher->abandoned = false;
    pthread_mutex_unlock(&flusher->mutex);
    wake(flusher);
}

struct flush *flusher_take(struct flusher *flusher, int timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&flusher->mutex);
    while (flusher->done == NULL && timeout_ms > 0)
        if (pthread_cond_timedwait(&flusher->finished, &flusher->mutex, &until) != 0)
            break;
    struct flush *done = flusher->done;
    flusher->done = NULL;
    pthread_mutex_unlock(&flusher->mutex);
    return done;
}

void flusher_abandon(struct flusher *flusher)
{
    pthread_mutex_lock(&flusher->mutex);
    flusher->abandoned = flusher->job != NULL;
    pthread_mutex_unlock(&flusher->mutex);
    wake(flusher);
}

static bool take_flag(atomic_bool *flag)
{
    return atomic_load_explicit(flag, memory_order_relaxed) && atomic_exchange(flag, false);
}

bool flusher_cut_was_requested(struct flusher *flusher)
{
    return take_flag(&flusher->cut_requested);
}

bool flusher_catalog_has_changed(struct flusher *flusher)
{
    return take_flag(&flusher->catalog_changed);
}

bool flusher_has_reconnected(struct flusher *flusher)
{
    return take_flag(&flusher->reconnected);
}
