/* The wall clock of programs under test, which a test may set (tests/faults/clock_shim.c). Belongs
 * to the test's main thread; what goes wrong fails the test. */
#ifndef DOVETAIL_TESTS_SUPPORT_CLOCK_H
#define DOVETAIL_TESTS_SUPPORT_CLOCK_H

#include <stdint.h>

#include "tests/support/child.h"

struct clock;

/* Keeps its offset in a file of this directory, under this name; right to begin with. */
struct clock *clock_create(const char *directory, const char *name);
void clock_destroy(struct clock *clock); /* accepts NULL; its programs must have ended */
/* From now on it is so many seconds ahead of the true time. */
void clock_set(struct clock *clock, int64_t seconds);

/* Runs a program by this clock, with --config; `argument` may be NULL. */
struct child *clock_start(const struct clock *clock, const char *program, const char *config,
                          const char *argument);

#endif
