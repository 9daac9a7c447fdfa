/* Stopping, waiting, clocks and log lines of every program: see core/program/program.h.
 *
 * Invariant: once a stop was asked for, `stopping` is set and the event descriptor stays readable
 * for ever, so nobody who waits can miss it. Any thread; the signal handler only stores an atomic
 * and writes to the descriptor. A log line that cannot be written is dropped. */
#include "core/program/program.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { LOG_LINE_BYTES = 2048 };

static atomic_bool stopping;
static atomic_int stop_fd = -1;

/* --- stopping --- */

void program_stop(void)
{
    int saved_errno = errno;
    atomic_store(&stopping, true);
    int fd = atomic_load(&stop_fd);
    uint64_t one = 1;
    /* Cannot block or fail but for an overflow, and then it is readable already. */
    if (fd >= 0 && write(fd, &one, sizeof one) < 0)
        errno = saved_errno;
    errno = saved_errno;
}

static void handle_signal(int number)
{
    /* Somebody at a terminal does not want to wait. It is safe, as a crash is. */
    if (number == SIGINT && atomic_load(&stopping))
        _exit(128 + SIGINT);
    program_stop();
}

bool program_install_signals(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return false;
    atomic_store(&stop_fd, fd);
    /* SA_RESTART: waits have the descriptor; nothing else needs to be interrupted. */
    struct sigaction action = {.sa_handler = handle_signal, .sa_flags = SA_RESTART};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigemptyset(&action.sa_mask);
    sigemptyset(&ignore.sa_mask);
    return sigaction(SIGTERM, &action, NULL) == 0 && sigaction(SIGINT, &action, NULL) == 0 &&
           sigaction(SIGPIPE, &ignore, NULL) == 0;
}

bool program_stopping(void)
{
    return atomic_load_explicit(&stopping, memory_order_relaxed);
}

int program_stop_fd(void)
{
    return atomic_load(&stop_fd);
}

void program_return_memory(void)
{
    (void)malloc_trim(0);
}

/* --- waiting --- */

int program_wait_fd(int fd, int64_t ms)
{
    int64_t end_us = program_monotonic_us() + (ms < 0 ? 0 : ms) * 1000;
    while (!program_stopping()) {
        int64_t left_us = end_us - program_monotonic_us();
        if (left_us < 0)
            left_us = 0;
        int64_t left_ms = (left_us + 999) / 1000;
        int timeout_ms = ms < 0 ? -1 : left_ms > INT_MAX ? INT_MAX : (int)left_ms;
        struct pollfd waits[2] = {{.fd = program_stop_fd(), .events = POLLIN},
                                  {.fd = fd, .events = POLLIN}}; /* poll ignores negative ones */
        int ready = poll(waits, 2, timeout_ms);
        if (ready > 0 && waits[1].revents != 0)
            return 1;
        if (ready == 0 && timeout_ms < INT_MAX)
            return 0;
        if (ready < 0 && errno != EINTR)
            return 0;
    }
    return 0;
}

bool program_wait_ms(int64_t ms)
{
    (void)program_wait_fd(-1, ms < 0 ? 0 : ms);
    return program_stopping();
}

/* --- clocks and log lines --- */

static int64_t read_clock_us(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t program_clock_us(void)
{
    return read_clock_us(CLOCK_REALTIME);
}

int64_t program_monotonic_us(void)
{
    return read_clock_us(CLOCK_MONOTONIC);
}

static const char *level_name(int level)
{
    static const char *const names[] = {"emergency", "alert",  "critical", "error",
                                        "warning",   "notice", "info",     "debug"};
    return level >= 0 && level <= LOG_DEBUG ? names[level] : "info";
}

/* One write(2), so that lines of several threads and processes do not mix. */
static void write_line(const char *line, size_t length)
{
    while (length > 0) {
        ssize_t written = write(STDERR_FILENO, line, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return;
        line += written;
        length -= (size_t)written;
    }
}

void program_log(int level, const char *format, ...)
{
    char line[LOG_LINE_BYTES];
    int64_t now_us = program_clock_us();
    time_t seconds = (time_t)(now_us / 1000000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t length = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
    length += (size_t)snprintf(line + length, sizeof line - length, ".%03dZ %s ",
                               (int)(now_us / 1000 % 1000), level_name(level));
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(line + length, sizeof line - length, format, arguments);
    va_end(arguments);
    if (wanted > 0) {
        size_t room = sizeof line - length - 1;
        length += (size_t)wanted < room ? (size_t)wanted : room;
    }
    for (size_t i = 0; i < length; i++)
        if (line[i] == '\n' || line[i] == '\r')
            line[i] = ' ';
    line[length] = '\n'; /* over the 0 */
    write_line(line, length + 1);
}
