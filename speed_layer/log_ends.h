/* What Kafka says of the topics: partition counts and ends of the logs, asked for again and again
 * by a thread with a client of its own, so that neither folding nor fetching waits for an answer.
 *
 * An answer carries the time before it was asked for: every record that was in a log then lies
 * below the log's end, and every partition that was there then is counted. Kafka being away means
 * no answer. All functions are the main thread's. */
#ifndef DOVETAIL_SPEED_LOG_ENDS_H
#define DOVETAIL_SPEED_LOG_ENDS_H

#include "core/kafka/kafka.h"
#include "core/program/config.h"

struct log_ends;

struct log_answer {
    char **topics;
    int *known;      /* of each topic: so many partitions need no look at where they begin */
    int *partitions; /* of each topic: so many there are; -1 = not known */
    size_t topic_count;
    struct kafka_position *starts; /* of those that are not known; offset -1 = not known */
    size_t start_count;
    struct kafka_position *ends; /* offset: the end, or -1 = not known */
    size_t end_count;
    int64_t asked_us; /* monotonic clock, before asking */
    uint64_t question;
};

/* Starts the thread. `config` outlives it. */
enum status log_ends_create(const struct config *config, struct log_ends **out,
                            struct error *error) MUST_CHECK;
/* Ends the thread, within seconds even where no broker answers. Accepts NULL. */
void log_ends_destroy(struct log_ends *ends);

/* What to ask about from now on; answers about anything else do not come out any more. Copies.
 * known[t] of the partitions of topics[t] are not new. */
enum status log_ends_ask(struct log_ends *ends, const char *const *topics, const int *known,
                         size_t topic_count, const struct kafka_position *positions, size_t count,
                         struct error *error) MUST_CHECK;

/* Whether answers are wanted as often as flushes, or else once a second. */
void log_ends_hurry(struct log_ends *ends, bool hurry);

/* An answer that was not taken yet, or NULL. Nothing is asked until it is given back. */
struct log_answer *log_ends_take(struct log_ends *ends);
void log_ends_give_back(struct log_ends *ends, struct log_answer *answer);

#endif
