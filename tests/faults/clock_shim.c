/* A shared object, preloaded into a program under test: its wall clock is wrong by what the file
 * CLOCK_OFFSET_FILE says (a 64-bit number of microseconds that may change at any time), and steps
 * when that changes. Waits until a time of the wall clock follow it, as they do in a kernel whose
 * clock is set: a step back makes them longer. The monotonic clock is as it was. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

enum { STEP_NS = 20000000 /* how soon a wait notices a step */ };

static _Atomic int64_t *offset_us; /* NULL: the clock is right */

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("CLOCK_OFFSET_FILE");
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *shared = mmap(NULL, sizeof *offset_us, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (shared != MAP_FAILED)
        offset_us = shared;
}

static void *next(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    if (function == NULL)
        abort();
    return function;
}

#define NEXT(result, name, ...)                                                                    \
    static result (*real)(__VA_ARGS__);                                                            \
    if (real == NULL)                                                                              \
    real = (result(*)(__VA_ARGS__))next(name)

static void move(struct timespec *time, int64_t us)
{
    int64_t ns = time->tv_nsec + us % 1000000 * 1000;
    time->tv_sec += us / 1000000 + (ns < 0 ? -1 : ns / 1000000000);
    time->tv_nsec = ns < 0 ? ns + 1000000000 : ns % 1000000000;
}

static int64_t wrong_by(void)
{
    return offset_us != NULL ? atomic_load(offset_us) : 0;
}

/* --- reading --- */

int clock_gettime(clockid_t clock, struct timespec *out)
{
    NEXT(int, "clock_gettime", clockid_t, struct timespec *);
    int code = real(clock, out);
    if (code == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        move(out, wrong_by());
    return code;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL)
        *out = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *out, int base)
{
    (void)clock_gettime(CLOCK_REALTIME, out);
    return base;
}

/* --- waiting --- */

/* Until `until`, or for a moment: the true time of whichever is first. False: it is over. */
static int slice_of(const struct timespec *until, struct timespec *out)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    int64_t left_ns =
        (until->tv_sec - now.tv_sec) * INT64_C(1000000000) + until->tv_nsec - now.tv_nsec;
    if (left_ns <= 0)
        return 0;
    *out = now;
    move(out, -wrong_by());
    move(out, (left_ns < STEP_NS ? left_ns : STEP_NS) / 1000 + 1);
    return 1;
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex,
                  const struct timespec *restrict until)
{
    NEXT(int, "cnd_timedwait", cnd_t *, mtx_t *, const struct timespec *);
    struct timespec slice;
    while (slice_of(until, &slice)) {
        int code = real(condition, mutex, &slice);
        if (code != thrd_timedout)
            return code;
    }
    return thrd_timedout;
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until)
{
    NEXT(int, "pthread_cond_timedwait", pthread_cond_t *, pthread_mutex_t *,
         const struct timespec *);
    struct timespec slice;
    if (until->tv_sec < 1000000000) /* of the monotonic clock */
        return real(condition, mutex, until);
    while (slice_of(until, &slice)) {
        int code = real(condition, mutex, &slice);
        if (code != ETIMEDOUT)
            return code;
    }
    return ETIMEDOUT;
}
