/* Between the files of the traffic: traffic.c produces and holds all together, traffic_read.c asks
 * and checks every answer, traffic_prove.c waits and has the last word. */
#ifndef DOVETAIL_TESTS_SUPPORT_TRAFFIC_INTERNAL_H
#define DOVETAIL_TESTS_SUPPORT_TRAFFIC_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "tests/support/traffic.h"

enum { READERS_MAX = 4, QUEUE_MAX = 256, PROBLEM_BYTES = 4096 };

/* An answer that waits for being checked. */
struct answer {
    struct answer *next;
    struct oracle_query query;
    char *body; /* of HTTP */
    char *rows; /* of SQL, with its receipt */
    struct oracle_receipt receipt;
    struct oracle_positions *ledgers; /* of no view */
    int64_t number;                   /* the newest record that had been sent when it arrived */
};

struct traffic {
    const struct deployment *deployment;
    struct traffic_options options;
    char topic[256];
    struct oracle *oracle;
    struct broker_producer *plain, *transactional; /* the producer thread's */
    pthread_t producer, checker, sql, readers[READERS_MAX];
    bool has_producer, has_checker, has_sql;
    int reader_count;
    atomic_int partitions;
    atomic_bool pause, stop_producing, stop_reading, stop_checking;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    int64_t sent;     /* numbers given */
    int64_t resolved; /* all below are */
    bool *is_resolved;
    int64_t capacity;
    struct answer *first, **last;
    int queued;
    struct traffic_counts counts;
    struct oracle_receipt newest; /* of the last answer counted */
    char problem[PROBLEM_BYTES];
};

struct reader {
    struct traffic *traffic;
    uint64_t random;
    struct oracle_query query; /* the one that is asked */
    int left;                  /* times */
};

/* The first trouble counts; everybody stops then. Any thread. */
void traffic_note(struct traffic *traffic, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
bool traffic_has_problem(struct traffic *traffic);

/* Threads: the checker's and the SQL reader's context is the traffic, that of readers over HTTP a
 * struct reader, which they free. */
void *traffic_check_answers(void *context);
void *traffic_read_http(void *context);
void *traffic_read_sql(void *context);

void traffic_free_answer(struct answer *answer);

#endif
