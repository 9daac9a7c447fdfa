/* Events that keep coming, and readers that check every answer they get.
 *
 * One thread produces random orders, some of them in transactions that commit or abort, and tells
 * the model where each record came to lie. Readers ask random questions over HTTP as fast as they
 * can; another one reads the SQL views. Every single answer is compared with the model at exactly
 * the positions of its receipt, by a thread of its own: an answer is checked once every record that
 * had been sent before it came is known to the model.
 *
 * The threads never fail the test themselves: they note the first difference, and the main thread
 * asks traffic_must_be_well.
 *
 * At random moments the ledger of every partition is compared with the model, too: see
 * oracle_check_positions. */
#ifndef DOVETAIL_TESTS_SUPPORT_TRAFFIC_H
#define DOVETAIL_TESTS_SUPPORT_TRAFFIC_H

#include "tests/support/deployment.h"
#include "tests/support/oracle.h"

struct traffic;

/* The same traffic for the same seed, up to which record comes when. */
struct traffic_options {
    uint64_t seed;
    const struct oracle_view *views; /* all of the deployment; NULL: orders_views */
    size_t view_count;
    int partitions; /* of the topic */
    int rate;       /* records a second, about */
    int readers;    /* over HTTP */
    int repeats;    /* each question is asked so often in a row; 0: once */
    bool transactions;
    int64_t dedupe_within; /* ids come again, within so many offsets and beyond; 0: no ids */
    /* 503 is allowed as well as 200: the programs' database is away on purpose. */
    bool may_be_unavailable;
    bool may_be_gone;  /* and no answer at all: the serving process is killed on purpose */
    int64_t period_us; /* event times begin again after so long, so that answers stay as large as
                          they are; 0: they go up */
};

/* Writes the definitions of the orders' source and of views into the deployment. */
void traffic_define(const struct deployment *deployment, const struct oracle_view *views,
                    size_t view_count);
/* The same with the partitions and the ids of the options. */
void traffic_define_with(const struct deployment *deployment,
                         const struct traffic_options *options);

/* The deployment must be initialised, and serving for readers > 0. */
struct traffic *traffic_start(const struct deployment *deployment,
                              const struct traffic_options *options);
/* Fails where a thread has noted a difference or trouble. */
void traffic_must_be_well(struct traffic *traffic);

/* No records until it is false again. */
void traffic_pause(struct traffic *traffic, bool pause);
/* Ends the producer once everything is acknowledged. */
void traffic_stop_producing(struct traffic *traffic);
/* Ends the readers, and the checker once everything is checked. */
void traffic_stop_reading(struct traffic *traffic);
void traffic_destroy(struct traffic *traffic); /* accepts NULL */

/* Partitions are added to the topic, and get records from now on. */
void traffic_grow(struct traffic *traffic, int partitions);

struct oracle *traffic_oracle(struct traffic *traffic);
const char *traffic_topic(const struct traffic *traffic);

struct traffic_counts {
    int64_t records;
    int64_t http_answers; /* checked */
    int64_t sql_answers;  /* checked */
    int64_t ledgers;      /* of all partitions, checked */
    int64_t not_in_time;  /* 504 for at_least */
    int64_t unavailable;
    int64_t positions; /* different receipts among the answers */
    int64_t runs;      /* different runs among them */
};
struct traffic_counts traffic_counts(struct traffic *traffic);

/* Waits until a number of the database is at least `wanted`; meanwhile all must be well and the
 * children (`child_count`) must run. */
void traffic_await(struct traffic *traffic, const char *what, const char *sql, int64_t wanted,
                   struct child *const *children, int child_count);

/* Waits until `count` more answers have been checked. */
void traffic_await_answers(struct traffic *traffic, int64_t count, struct child *const *children,
                           int child_count);
/* Waits until P has reached every record that was sent. */
void traffic_await_end(struct traffic *traffic, struct child *const *children, int child_count);

/* Checks that the whole of a view, over HTTP and over SQL, is the model's over all records. The
 * producer must have ended and P reached the end. */
void traffic_check_view(struct traffic *traffic, const struct deployment *deployment,
                        const struct oracle_view *view);
/* The same for every view of the traffic, and the ledger of every partition. */
void traffic_check_all(struct traffic *traffic, const struct deployment *deployment);

/* The last word of a case with faults, when they are over: ends the producer, waits for P, and
 * checks that nothing is missing and nothing double: every view and ledger; the same answers from
 * the speed layer and from a batch run at the same offsets; and an independent recompute
 * (`dovetail verify`). Prints the figures. */
void traffic_prove(struct traffic *traffic, const struct deployment *deployment,
                   struct child *const *children, int child_count);

#endif
