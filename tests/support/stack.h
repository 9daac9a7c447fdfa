/* Where the tests find the servers and the programs.
 *
 * A missing address fails the calling test with a text that says how to get one. */
#ifndef DOVETAIL_TESTS_SUPPORT_STACK_H
#define DOVETAIL_TESTS_SUPPORT_STACK_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

const char *stack_kafka(void); /* DOVETAIL_KAFKA, host:port */
const char *
stack_postgres(void); /* DOVETAIL_POSTGRES, a conninfo of somebody who may create databases */

/* The absolute path of a program in the directory DOVETAIL_BUILD (default: build). */
const char *stack_program(const char *name, char *out, unsigned size);

/* DOVETAIL_SEED, or a random number. Printed, so that a failure can be repeated. */
uint64_t stack_seed(void);

int64_t stack_now_ms(void); /* monotonic */
void stack_sleep_ms(int ms);

/* Bound of every wait for a condition. Generous: it is no assertion about speed. */
enum { STACK_WAIT_MS = 60000 };

/* pthread_join with a bound, behind those of whatever a thread of a test may wait for: after it the
 * program says where it stands, and ends (tests/support/standstill.c). */
enum { STACK_JOIN_S = 300 };
void stack_join(pthread_t thread, const char *what);

/* waitpid with a bound: the wait status. One that does not end in STACK_WAIT_MS is killed, and
 * fails the test. */
int stack_reap(pid_t pid, const char *what);

/* read() that fails the test where nothing comes, and no end, in STACK_WAIT_MS. */
ssize_t stack_read(int fd, void *data, size_t size);

#endif
