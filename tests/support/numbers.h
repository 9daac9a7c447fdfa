/* Numbered records and all that must be said of them: for tests that break something and then ask
 * whether every record still counts exactly once.
 *
 * The record at offset n of a partition has n in it; every thirtieth is bad, every fifth is
 * filtered. So what the ledgers, the answers and the speed layer's position must be follows from
 * how many were produced. Main thread; what goes wrong fails the test. */
#ifndef DOVETAIL_TESTS_SUPPORT_NUMBERS_H
#define DOVETAIL_TESTS_SUPPORT_NUMBERS_H

#include <stdbool.h>

#include "tests/support/deployment.h"

enum { NUMBERS_PARTITIONS = 2 };

struct numbers {
    struct deployment *deployment;
    int64_t ends[NUMBERS_PARTITIONS]; /* produced */
    bool other_engine; /* computes otherwise (tests/faults/next_engine.c): not to be verified */
};

/* Source "numbers" and view "sums" (by n % 7 and hour: c, total), without `init`. */
void numbers_define(struct numbers *numbers, struct deployment *deployment);
void numbers_produce(struct numbers *numbers, int partition, int count);
/* Some to each partition. */
void numbers_produce_all(struct numbers *numbers, int count);

/* Waits until a number of the database is `wanted`; meanwhile the child (may be NULL) must run. A
 * database that is away is asked again. */
void numbers_await(const struct numbers *numbers, struct child *child, const char *sql,
                   int64_t wanted);
/* Until P has come to the end. */
void numbers_await_end(const struct numbers *numbers, struct child *child);
/* Until a child has said `text` on stderr. */
void numbers_await_text(struct child *child, const char *text);
/* Fails unless it is in what the child has written. */
void numbers_expect_text(struct child *child, const char *text);

/* At any moment: the answer, in one snapshot, is what the records below the greater of P and C
 * give, and the ledgers balance. */
void numbers_check_now(const struct numbers *numbers);
/* The same at the end of everything that was produced; and `dovetail verify` says identical. */
void numbers_check(const struct numbers *numbers);

#endif
