/* The thread that asks Kafka about the topics: see log_ends.h.
 *
 * One struct log_answer goes round: `waiting` to be asked, with the thread, `answered`, with the
 * main thread, and back. The mutex guards all fields but the observer, which is the thread's. */
#include "speed_layer/log_ends.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/kafka/kafka_observer.h"
#include "core/program/program.h"

enum {
    TIMEOUT_MS = 1000,
    SHORTEST_PACE_US = 10000,
    LONGEST_PACE_US = 1000000,
    ANSWERS_IN_A_FLUSH = 2,
    SHARE =
        10, /* asking takes a tenth of the time at the most, however many partitions there are */
    COMPLAIN_US = 60000000,
};

struct log_ends {
    struct kafka_observer *observer;
    pthread_t thread;
    bool started;
    int64_t pace_us; /* of hurrying */

    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct log_answer *waiting;
    struct log_answer *answered;
    uint64_t question; /* the newest */
    bool hurry;
    bool exiting;
    int64_t complained_us;
};

static void answer_free(struct log_answer *answer)
{
    if (answer == NULL)
        return;
    for (size_t i = 0; answer->topics != NULL && i < answer->topic_count; i++)
        free(answer->topics[i]);
    free(answer->topics);
    free(answer->known);
    free(answer->partitions);
    free(answer->starts);
    free(answer->ends);
    free(answer);
}

/* --- the thread --- */

/* The partitions beyond those that are known. */
static enum status list_new(struct log_answer *answer, struct error *error)
{
    size_t count = 0;
    free(answer->starts);
    answer->starts = NULL;
    answer->start_count = 0;
    for (size_t t = 0; t < answer->topic_count; t++)
        if (answer->partitions[t] > answer->known[t])
            count += (size_t)(answer->partitions[t] - answer->known[t]);
    if (count == 0)
        return STATUS_OK;
    answer->starts = calloc(count, sizeof *answer->starts);
    if (answer->starts == NULL)
        return error_no_memory(error);
    for (size_t t = 0; t < answer->topic_count; t++)
        for (int p = answer->known[t]; p < answer->partitions[t]; p++)
            answer->starts[answer->start_count++] =
                (struct kafka_position){.topic = answer->topics[t], .partition = p};
    return STATUS_OK;
}

static enum status ask(struct log_ends *ends, struct log_answer *answer, struct error *error)
{
    answer->asked_us = program_monotonic_us();
    enum status status =
        kafka_observer_partitions(ends->observer, (const char *const *)answer->topics,
                                  answer->topic_count, TIMEOUT_MS, answer->partitions, error);
    if (status == STATUS_OK)
        status = list_new(answer, error);
    if (status == STATUS_OK)
        status = kafka_observer_starts(ends->observer, answer->starts, answer->start_count,
                                       TIMEOUT_MS, error);
    return status == STATUS_OK ? kafka_observer_ends(ends->observer, answer->ends,
                                                     answer->end_count, TIMEOUT_MS, error)
                               : status;
}

static void complain(struct log_ends *ends, const struct error *error)
{
    int64_t now_us = program_monotonic_us();
    if (ends->complained_us != 0 && now_us - ends->complained_us < COMPLAIN_US)
        return;
    ends->complained_us = now_us;
    program_log(LOG_WARNING, "freshness is not known while Kafka does not say where logs end: %s",
                error->text);
}

static void wait_until(struct log_ends *ends, int64_t until_us)
{
    struct timespec until = {.tv_sec = until_us / 1000000, .tv_nsec = until_us % 1000000 * 1000};
    pthread_cond_timedwait(&ends->wake, &ends->mutex, &until);
}

/* Asks what waits, with the mutex given up meanwhile; how long it took. */
static int64_t ask_waiting(struct log_ends *ends)
{
    struct log_answer *answer = ends->waiting;
    struct error error;
    ends->waiting = NULL;
    pthread_mutex_unlock(&ends->mutex);
    int64_t begun_us = program_monotonic_us();
    enum status status = ask(ends, answer, &error);
    int64_t took_us = program_monotonic_us() - begun_us;
    pthread_mutex_lock(&ends->mutex);
    if (status != STATUS_OK) {
        complain(ends, &error);
        took_us = 0; /* of waiting in vain: the pace is not the answers' then */
    }
    if (answer->question != ends->question)
        answer_free(answer);
    else if (status == STATUS_OK)
        ends->answered = answer;
    else
        ends->waiting = answer;
    return took_us;
}

static void *run(void *context)
{
    struct log_ends *ends = context;
    int64_t asked_us = 0;
    int64_t took_us = 0;
    pthread_mutex_lock(&ends->mutex);
    while (!ends->exiting) {
        int64_t pace_us = ends->hurry ? ends->pace_us : LONGEST_PACE_US;
        if (pace_us < took_us * SHARE)
            pace_us = took_us * SHARE;
        if (ends->waiting == NULL) {
            pthread_cond_wait(&ends->wake, &ends->mutex);
        } else if (program_monotonic_us() < asked_us + pace_us) {
            wait_until(ends, asked_us + pace_us);
        } else {
            asked_us = program_monotonic_us();
            took_us = ask_waiting(ends);
        }
    }
    pthread_mutex_unlock(&ends->mutex);
    return NULL;
}

/* --- the main thread's --- */

static void init_locks(struct log_ends *ends)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&ends->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&ends->mutex, NULL);
}

enum status log_ends_create(const struct config *config, struct log_ends **out, struct error *error)
{
    *out = NULL;
    struct log_ends *ends = calloc(1, sizeof *ends);
    if (ends == NULL)
        return error_no_memory(error);
    init_locks(ends);
    ends->pace_us = config->speed_flush_interval_ms * 1000 / ANSWERS_IN_A_FLUSH;
    if (ends->pace_us < SHORTEST_PACE_US)
        ends->pace_us = SHORTEST_PACE_US;
    if (ends->pace_us > LONGEST_PACE_US)
        ends->pace_us = LONGEST_PACE_US;
    enum status status = kafka_observer_create(config->kafka, &ends->observer, error);
    if (status == STATUS_OK) {
        ends->started = pthread_create(&ends->thread, NULL, run, ends) == 0;
        if (!ends->started)
            status = error_set(error, STATUS_FATAL, "no thread can be started");
    }
    if (status != STATUS_OK) {
        log_ends_destroy(ends);
        return status;
    }
    *out = ends;
    return STATUS_OK;
}

void log_ends_destroy(struct log_ends *ends)
{
    if (ends == NULL)
        return;
    if (ends->started) {
        pthread_mutex_lock(&ends->mutex);
        ends->exiting = true;
        pthread_cond_signal(&ends->wake);
        pthread_mutex_unlock(&ends->mutex);
        pthread_join(ends->thread, NULL);
    }
    kafka_observer_destroy(ends->observer);
    answer_free(ends->waiting);
    answer_free(ends->answered);
    pthread_cond_destroy(&ends->wake);
    pthread_mutex_destroy(&ends->mutex);
    free(ends);
}

/* The topics of `ends` are those of `topics`. */
static const char *find_name(const struct log_answer *answer, const char *name)
{
    for (size_t i = 0; i < answer->topic_count; i++)
        if (strcmp(answer->topics[i], name) == 0)
            return answer->topics[i];
    return NULL;
}

static struct log_answer *make_question(const char *const *topics, const int *known,
                                        size_t topic_count, const struct kafka_position *positions,
                                        size_t count)
{
    struct log_answer *answer = calloc(1, sizeof *answer);
    if (answer == NULL)
        return NULL;
    answer->topics = calloc(topic_count + 1, sizeof *answer->topics);
    answer->known = calloc(topic_count + 1, sizeof *answer->known);
    answer->partitions = calloc(topic_count + 1, sizeof *answer->partitions);
    answer->ends = calloc(count + 1, sizeof *answer->ends);
    bool good = answer->topics != NULL && answer->known != NULL && answer->partitions != NULL &&
                answer->ends != NULL;
    for (size_t i = 0; good && i < topic_count; i++) {
        answer->topics[i] = strdup(topics[i]);
        answer->known[i] = known[i];
        good = answer->topics[i] != NULL;
        answer->topic_count += good;
    }
    for (size_t i = 0; good && i < count; i++) {
        const char *name = find_name(answer, positions[i].topic);
        if (name != NULL)
            answer->ends[answer->end_count++] =
                (struct kafka_position){.topic = name, .partition = positions[i].partition};
    }
    if (good)
        return answer;
    answer_free(answer);
    return NULL;
}

enum status log_ends_ask(struct log_ends *ends, const char *const *topics, const int *known,
                         size_t topic_count, const struct kafka_position *positions, size_t count,
                         struct error *error)
{
    struct log_answer *question = make_question(topics, known, topic_count, positions, count);
    if (question == NULL)
        return error_no_memory(error);
    pthread_mutex_lock(&ends->mutex);
    answer_free(ends->waiting);
    answer_free(ends->answered);
    ends->answered = NULL;
    ends->waiting = question;
    question->question = ++ends->question;
    pthread_cond_signal(&ends->wake);
    pthread_mutex_unlock(&ends->mutex);
    return STATUS_OK;
}

void log_ends_hurry(struct log_ends *ends, bool hurry)
{
    pthread_mutex_lock(&ends->mutex);
    if (hurry && !ends->hurry)
        pthread_cond_signal(&ends->wake);
    ends->hurry = hurry;
    pthread_mutex_unlock(&ends->mutex);
}

struct log_answer *log_ends_take(struct log_ends *ends)
{
    pthread_mutex_lock(&ends->mutex);
    struct log_answer *answer = ends->answered;
    ends->answered = NULL;
    pthread_mutex_unlock(&ends->mutex);
    return answer;
}

void log_ends_give_back(struct log_ends *ends, struct log_answer *answer)
{
    pthread_mutex_lock(&ends->mutex);
    if (answer->question == ends->question) {
        ends->waiting = answer;
        pthread_cond_signal(&ends->wake);
        answer = NULL;
    }
    pthread_mutex_unlock(&ends->mutex);
    answer_free(answer);
}
