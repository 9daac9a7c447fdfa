/* A clock shared with a preloaded program: see clock.h. */
#include "tests/support/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/stack.h"

enum { PATH_BYTES = 400 };

struct clock {
    _Atomic int64_t *offset_us;
    char directory[PATH_BYTES];
    char path[2 * PATH_BYTES];
};

struct clock *clock_create(const char *directory, const char *name)
{
    struct clock *clock = calloc(1, sizeof *clock);
    assert_non_null(clock);
    snprintf(clock->directory, sizeof clock->directory, "%s", directory);
    snprintf(clock->path, sizeof clock->path, "%s/%s", clock->directory, name);
    int fd = open(clock->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(int64_t)) != 0)
        fail_msg("%s: %s", clock->path, strerror(errno));
    void *shared = mmap(NULL, sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(shared != MAP_FAILED);
    close(fd);
    clock->offset_us = shared;
    return clock;
}

void clock_destroy(struct clock *clock)
{
    if (clock == NULL)
        return;
    munmap((void *)clock->offset_us, sizeof(int64_t));
    free(clock);
}

void clock_set(struct clock *clock, int64_t seconds)
{
    atomic_store(clock->offset_us, seconds * 1000000);
}

struct child *clock_start(const struct clock *clock, const char *program, const char *config,
                          const char *argument)
{
    char preload[PATH_MAX + 16], offset[2 * PATH_BYTES + 32], shim[PATH_MAX], path[PATH_MAX];
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s",
             stack_program("tests/faults/clock_shim.so", shim, sizeof shim));
    snprintf(offset, sizeof offset, "CLOCK_OFFSET_FILE=%s", clock->path);
    const char *argv[] = {"/usr/bin/env",
                          preload,
                          offset,
                          "ASAN_OPTIONS=verify_asan_link_order=0",
                          stack_program(program, path, sizeof path),
                          "--config",
                          config,
                          argument,
                          NULL};
    return child_start(clock->directory, program, argv);
}
