/* A shared object, preloaded into a program under test: numbers each of its steps, which are the
 * calls that change files below a directory, or read them, and those that send something to
 * PostgreSQL; and lets one of them fail or be the last thing that the program comes to.
 *
 *   STEPS_KIND       writes (files), reads (files), changes (writes and PostgreSQL)
 *   STEPS_DIRECTORY  absolute; files elsewhere are no steps
 *   STEPS_MATCH      only steps whose name or detail begins with it are counted
 *   STEPS_AT         the number of the step, from 1 on
 *   STEPS_ACTION     kill, stop: SIGKILL or SIGSTOP before the step; an errno: the step fails with
 *                    it; +errno: and every later step of its kind, too
 *   STEPS_LOG        a file that gets the name of the step
 *
 * One call after the other is counted, whichever thread makes it. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum kind { WRITES, READS, STATEMENTS };
enum { FILES_MAX = 4096 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards all below */
static bool known;
static bool counts[STATEMENTS + 1];
static const char *directory;
static long at;
static const char *action;
static const char *match;
static long count;
static bool ours[FILES_MAX]; /* descriptors of files in the directory */

static void learn(void)
{
    const char *kind = getenv("STEPS_KIND");
    known = true;
    directory = getenv("STEPS_DIRECTORY");
    action = getenv("STEPS_ACTION");
    match = getenv("STEPS_MATCH");
    if (kind == NULL || directory == NULL || action == NULL || getenv("STEPS_AT") == NULL)
        return;
    at = strtol(getenv("STEPS_AT"), NULL, 10);
    counts[READS] = strcmp(kind, "reads") == 0;
    counts[STATEMENTS] = strcmp(kind, "changes") == 0;
    counts[WRITES] = counts[STATEMENTS] || strcmp(kind, "writes") == 0;
}

static void note(const char *name, const char *detail)
{
    FILE *out = getenv("STEPS_LOG") == NULL ? NULL : fopen(getenv("STEPS_LOG"), "a");
    if (out == NULL)
        return;
    fprintf(out, "%ld %s %.60s\n", count, name, detail);
    fclose(out);
}

static bool is_counted(enum kind kind, const char *name, const char *detail)
{
    return counts[kind] && (match == NULL || strncmp(name, match, strlen(match)) == 0 ||
                            strncmp(detail, match, strlen(match)) == 0);
}

/* The process ends, or stands still until somebody sends it SIGCONT. */
static bool signal_ourselves(void)
{
    if (strcmp(action, "kill") != 0 && strcmp(action, "stop") != 0)
        return false;
    raise(action[0] == 'k' ? SIGKILL : SIGSTOP); /* to this thread: it does not go one step on */
    return true;
}

/* True where the step shall fail; errno is set then. */
static bool step(enum kind kind, const char *name, const char *detail)
{
    bool fails = false;
    pthread_mutex_lock(&mutex);
    if (!known)
        learn();
    if (is_counted(kind, name, detail)) {
        count++;
        bool repeated = action[0] == '+';
        if (count == at)
            note(name, detail);
        fails = (count == at && !signal_ourselves()) || (repeated && count > at);
        if (fails)
            errno = (int)strtol(action + repeated, NULL, 10);
    }
    pthread_mutex_unlock(&mutex);
    return fails;
}

static bool is_below(const char *path)
{
    pthread_mutex_lock(&mutex);
    if (!known)
        learn();
    pthread_mutex_unlock(&mutex);
    return directory != NULL && strncmp(path, directory, strlen(directory)) == 0;
}

static bool is_ours(int fd)
{
    return fd >= 0 && fd < FILES_MAX && ours[fd];
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

/* --- files --- */

static int open_step(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode)
{
    bool below = is_below(path);
    bool writes = (flags & O_ACCMODE) != O_RDONLY;
    if (below && step(writes || (flags & O_DIRECTORY) != 0 ? WRITES : READS, "open", path))
        return -1;
    int fd = real(path, flags, mode);
    if (fd >= 0 && fd < FILES_MAX)
        ours[fd] = below;
    return fd;
}

int open(const char *path, int flags, ...)
{
    NEXT(int, "open", const char *, int, ...);
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return open_step(real, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    NEXT(int, "open64", const char *, int, ...);
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return open_step(real, path, flags, mode);
}

int close(int fd)
{
    NEXT(int, "close", int);
    if (fd >= 0 && fd < FILES_MAX)
        ours[fd] = false;
    return real(fd);
}

ssize_t read(int fd, void *data, size_t length)
{
    NEXT(ssize_t, "read", int, void *, size_t);
    return is_ours(fd) && step(READS, "read", "") ? -1 : real(fd, data, length);
}

ssize_t pread(int fd, void *data, size_t length, off_t offset)
{
    NEXT(ssize_t, "pread", int, void *, size_t, off_t);
    return is_ours(fd) && step(READS, "pread", "") ? -1 : real(fd, data, length, offset);
}

ssize_t pread64(int fd, void *data, size_t length, off_t offset)
{
    NEXT(ssize_t, "pread64", int, void *, size_t, off_t);
    return is_ours(fd) && step(READS, "pread", "") ? -1 : real(fd, data, length, offset);
}

ssize_t write(int fd, const void *data, size_t length)
{
    NEXT(ssize_t, "write", int, const void *, size_t);
    return is_ours(fd) && step(WRITES, "write", "") ? -1 : real(fd, data, length);
}

int fsync(int fd)
{
    NEXT(int, "fsync", int);
    return is_ours(fd) && step(WRITES, "fsync", "") ? -1 : real(fd);
}

int rename(const char *from, const char *to)
{
    NEXT(int, "rename", const char *, const char *);
    return is_below(to) && step(WRITES, "rename", to) ? -1 : real(from, to);
}

int unlink(const char *path)
{
    NEXT(int, "unlink", const char *);
    return is_below(path) && step(WRITES, "unlink", path) ? -1 : real(path);
}

int unlinkat(int fd, const char *path, int flags)
{
    NEXT(int, "unlinkat", int, const char *, int);
    return step(WRITES, "unlinkat", path) ? -1 : real(fd, path, flags);
}

int mkdir(const char *path, mode_t mode)
{
    NEXT(int, "mkdir", const char *, mode_t);
    return is_below(path) && step(WRITES, "mkdir", path) ? -1 : real(path, mode);
}

/* --- PostgreSQL: only kill and stop --- */

PGresult *PQexec(PGconn *connection, const char *sql)
{
    NEXT(PGresult *, "PQexec", PGconn *, const char *);
    (void)step(STATEMENTS, "PQexec", sql);
    return real(connection, sql);
}

PGresult *PQexecParams(PGconn *connection, const char *sql, int parameters, const Oid *types,
                       const char *const *values, const int *lengths, const int *formats,
                       int result)
{
    NEXT(PGresult *, "PQexecParams", PGconn *, const char *, int, const Oid *, const char *const *,
         const int *, const int *, int);
    (void)step(STATEMENTS, "PQexecParams", sql);
    return real(connection, sql, parameters, types, values, lengths, formats, result);
}

int PQputCopyData(PGconn *connection, const char *data, int length)
{
    NEXT(int, "PQputCopyData", PGconn *, const char *, int);
    (void)step(STATEMENTS, "PQputCopyData", "");
    return real(connection, data, length);
}

int PQputCopyEnd(PGconn *connection, const char *message)
{
    NEXT(int, "PQputCopyEnd", PGconn *, const char *);
    (void)step(STATEMENTS, "PQputCopyEnd", "");
    return real(connection, message);
}

PGconn *PQconnectStartParams(const char *const *keywords, const char *const *values, int expand)
{
    NEXT(PGconn *, "PQconnectStartParams", const char *const *, const char *const *, int);
    (void)step(STATEMENTS, "PQconnectStartParams", "");
    return real(keywords, values, expand);
}

void PQfinish(PGconn *connection)
{
    NEXT(void, "PQfinish", PGconn *);
    (void)step(STATEMENTS, "PQfinish", "");
    real(connection);
}
