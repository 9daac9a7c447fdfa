/* Addresses, programs, seed and clock of the tests: see stack.h. */
#include "tests/support/stack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Whoever reads a test's output sees where it stands, also through a pipe. */
__attribute__((constructor)) static void show_lines(void)
{
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
}

static const char *address(const char *name)
{
    const char *value = getenv(name);
    if (value == NULL || value[0] == '\0')
        fail_msg("%s is not set: run `make stack-up`, then `. .run/env`", name);
    return value;
}

const char *stack_kafka(void)
{
    return address("DOVETAIL_KAFKA");
}

const char *stack_postgres(void)
{
    return address("DOVETAIL_POSTGRES");
}

const char *stack_program(const char *name, char *out, unsigned size)
{
    const char *build = getenv("DOVETAIL_BUILD");
    char relative[PATH_MAX], absolute[PATH_MAX];
    snprintf(relative, sizeof relative, "%s/%s", build != NULL ? build : "build", name);
    if (realpath(relative, absolute) == NULL || access(absolute, X_OK) != 0)
        fail_msg("there is no program %s: run `make`, from the repository root", relative);
    if ((size_t)snprintf(out, size, "%s", absolute) >= size)
        fail_msg("the path of %s is too long", name);
    return out;
}

uint64_t stack_seed(void)
{
    uint64_t seed = 0;
    const char *text = getenv("DOVETAIL_SEED");
    if (text != NULL)
        seed = strtoull(text, NULL, 0);
    else if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
        fail_msg("no random numbers");
    print_message("DOVETAIL_SEED=%" PRIu64 "\n", seed);
    return seed;
}

int64_t stack_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void stack_sleep_ms(int ms)
{
    usleep((useconds_t)ms * 1000);
}

int stack_reap(pid_t pid, const char *what)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    int status = -1;
    pid_t ended;
    while ((ended = waitpid(pid, &status, WNOHANG)) == 0 && stack_now_ms() < deadline)
        stack_sleep_ms(5);
    if (ended == 0) {
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        fail_msg("%s (process %d) did not end in %d ms", what, (int)pid, STACK_WAIT_MS);
    }
    if (ended < 0)
        fail_msg("%s (process %d): %s", what, (int)pid, strerror(errno));
    return status;
}

ssize_t stack_read(int fd, void *data, size_t size)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    int count = poll(&readable, 1, STACK_WAIT_MS);
    if (count <= 0)
        fail_msg("nothing more came in %d ms", STACK_WAIT_MS);
    return read(fd, data, size);
}
