/* Programs as child processes of a test.
 *
 * Each has its own files for stdout and stderr and is signalled by its own pid only. Whatever still
 * runs is killed by children_end, at exit, and by the kernel when the test dies. Every function
 * belongs to the test's main thread; what goes wrong fails the test and shows the child's stderr.
 */
#ifndef DOVETAIL_TESTS_SUPPORT_CHILD_H
#define DOVETAIL_TESTS_SUPPORT_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

struct child;

/* Runs argv[0] with argv; its output goes to <directory>/<name>.<number>.out and .err. The child is
 * owned here and stays readable until children_end. */
struct child *child_start(const char *directory, const char *name, const char *const *argv);

bool child_is_running(struct child *child);
pid_t child_pid(const struct child *child);
const char *child_name(const struct child *child);

/* Waits for the end, at most timeout_ms: the exit code, or minus the number of the signal. */
int child_wait(struct child *child, int timeout_ms);
/* SIGTERM waits until the program handles it. */
void child_signal(struct child *child, int signal);
/* kill -9, and waits until it is gone. */
void child_kill(struct child *child);
/* SIGTERM; the exit code must be 0. */
void child_stop(struct child *child);
/* The exit code must be `expected`. */
void child_expect(struct child *child, int expected);

/* All that it has written so far, 0-terminated, good until children_end. */
const char *child_output(struct child *child);
const char *child_errors(struct child *child);

/* Fails where one of the children that should run has ended by itself. */
void children_must_run(struct child *const *children, int count);

/* Prints the last lines of every child's stderr: for tests that are about to fail. */
void children_show(void);

/* Kills what still runs and forgets everything; safe to repeat. */
void children_end(void);

#endif
