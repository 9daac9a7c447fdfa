/* Watching the topics: see speed.h.
 *
 * Two things would make an answer claim what nobody knows. The end of a log: see partition.h. And a
 * partition that was added to a topic: its records are missing, whatever the others say. So a time
 * is noted for a topic only where every partition that it had then has a position row, which has no
 * as_of until somebody has read the partition.
 *
 * And a partition may be nobody's. A static member that comes back after kill -9 gets its old
 * assignment, without whatever was added meanwhile; and one whose claim came too late, from a
 * process that was stopped, can die with it. The group knows of neither. Where a position row says
 * that nobody has been there for longer than the session time-out, the group is made to assign
 * anew, or, where the partition is assigned to us, it is claimed. Not so for what Kafka does not
 * have, as a topic that was made anew with fewer partitions: nobody can be given that. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/program/program.h"
#include "speed_layer/speed.h"

enum {
    LOOKS_IN_A_TIMEOUT = 4,
    DOUBLINGS_MAX = 6, /* of the time between two resubscriptions */
};

enum status watch_begin(struct speed *speed, struct error *error)
{
    struct kafka_position *positions = calloc(speed->partition_count + 1, sizeof *positions);
    size_t count = 0;
    if (positions == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < speed->partition_count; i++)
        if (speed->partitions[i].claimed)
            positions[count++] = (struct kafka_position){
                .topic = speed->partitions[i].topic, .partition = speed->partitions[i].partition};
    enum status status = log_ends_ask(speed->log_ends, (const char *const *)speed->topics,
                                      speed->known, speed->topic_count, positions, count, error);
    free(positions);
    return status;
}

/* --- answers --- */

/* Partitions that are new in Kafka get position rows; one whose beginning is not known has to wait,
 * with those behind it. */
static enum status add_rows(struct speed *speed, struct log_answer *answer, struct error *error)
{
    struct claim *claims = calloc(answer->start_count + 1, sizeof *claims);
    size_t count = 0;
    const char *waiting = NULL;
    if (claims == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < answer->start_count; i++) {
        const struct kafka_position *start = &answer->starts[i];
        if (start->offset < 0)
            waiting = start->topic;
        if (start->topic != waiting)
            claims[count++] = (struct claim){
                .topic = start->topic, .partition = start->partition, .base_offset = start->offset};
    }
    enum status status = count > 0 ? ownership_ensure_session(speed, error) : STATUS_OK;
    if (status == STATUS_OK && count > 0)
        status = claims_add_rows(claims, count, speed->postgres, error);
    for (size_t i = 0, t = 0; status == STATUS_OK && i < count; i++) {
        while (answer->topics[t] != claims[i].topic)
            t++;
        speed->known[t] = answer->known[t] = claims[i].partition + 1;
    }
    free(claims);
    return status;
}

/* The answer's topics are speed->topics, in their order: see log_ends_ask. */
static void note_counts(struct speed *speed, const struct log_answer *answer)
{
    for (size_t t = 0; t < answer->topic_count; t++)
        speed->existing[t] = answer->partitions[t];
}

static void note_ends(struct speed *speed, const struct log_answer *answer)
{
    size_t topic = 0;
    for (size_t i = 0; i < answer->end_count; i++) {
        const struct kafka_position *end = &answer->ends[i];
        /* A position's topic is one of answer->topics; they come in runs. */
        while (answer->topics[topic] != end->topic)
            topic = (topic + 1) % answer->topic_count;
        if (end->offset < 0 || answer->partitions[topic] < 0 ||
            answer->partitions[topic] > speed->known[topic])
            continue;
        struct partition *partition = ownership_find(speed, end->topic, end->partition);
        if (partition != NULL && partition_follows_log(partition))
            partition_note_end(partition, end->offset, answer->asked_us);
    }
}

static enum status take_answer(struct speed *speed, struct error *error)
{
    struct log_answer *answer = log_ends_take(speed->log_ends);
    if (answer == NULL)
        return STATUS_OK;
    note_counts(speed, answer);
    enum status status = add_rows(speed, answer, error);
    if (status == STATUS_OK)
        note_ends(speed, answer);
    log_ends_give_back(speed->log_ends, answer);
    if (status != STATUS_RETRY)
        return status;
    speed_complain(speed, "new partitions cannot be noted", error);
    return STATUS_OK;
}

/* --- partitions that nobody reads --- */

static int64_t timeout_us(const struct speed *speed)
{
    return kafka_consumer_session_timeout_ms(speed->consumer) * INT64_C(1000);
}

void watch_wait(struct speed *speed)
{
    if (speed->consumer != NULL)
        speed->next_lone_us = program_monotonic_us() + ownership_lone_ms(speed) * INT64_C(1000);
}

/* Each time in vain the next one is later: where it does not help it must not disturb. */
static enum status resubscribe(struct speed *speed, const char *topic, int partition,
                               struct error *error)
{
    if (speed->now_us < speed->resubscribe_us)
        return STATUS_OK;
    program_log(LOG_NOTICE, "nobody reads %s[%d]; the group is asked to assign anew", topic,
                partition);
    speed->resubscribe_us = speed->now_us + (timeout_us(speed) << speed->resubscriptions);
    if (speed->resubscriptions < DOUBLINGS_MAX)
        speed->resubscriptions++;
    return kafka_consumer_resubscribe(speed->consumer, (const char *const *)speed->topics,
                                      speed->topic_count, error);
}

static bool exists(const struct speed *speed, const char *topic, int partition)
{
    for (size_t t = 0; t < speed->topic_count; t++)
        if (strcmp(speed->topics[t], topic) == 0)
            return partition < speed->existing[t];
    return false;
}

static enum status act_on_lone(struct speed *speed, const PGresult *result, struct error *error)
{
    int stranger = -1;
    bool found = false;
    for (int row = 0; row < PQntuples(result); row++) {
        const char *topic = PQgetvalue(result, row, 0);
        int number = (int)postgres_int64(result, row, 1);
        if (!exists(speed, topic, number))
            continue;
        found = true;
        const struct partition *partition = ownership_find(speed, topic, number);
        if (partition == NULL) {
            stranger = row;
        } else if (!partition->claimed && speed->reclaim_us == 0) {
            program_log(LOG_NOTICE, "%s[%d] is assigned to us and its owner is gone", topic,
                        number);
            ownership_lose(speed); /* claims whatever is ours or nobody's */
        }
    }
    if (!found) {
        speed->resubscriptions = 0;
        speed->resubscribe_us = 0;
    }
    if (stranger < 0)
        return STATUS_OK;
    return resubscribe(speed, PQgetvalue(result, stranger, 0),
                       (int)postgres_int64(result, stranger, 1), error);
}

static enum status look_for_lone(struct speed *speed, struct error *error)
{
    /* A flush that does not end is PostgreSQL being away, and waiting for a connection is not the
     * main thread's business then. */
    if (speed->now_us < speed->next_lone_us || speed->in_flight)
        return STATUS_OK;
    speed->next_lone_us = speed->now_us + timeout_us(speed) / LOOKS_IN_A_TIMEOUT;
    PGresult *result = NULL;
    enum status status = ownership_ensure_session(speed, error);
    if (status == STATUS_OK)
        status = claims_find_lone((const char *const *)speed->topics, speed->topic_count,
                                  ownership_lone_ms(speed), speed->postgres, &result, error);
    if (status == STATUS_OK)
        status = act_on_lone(speed, result, error);
    PQclear(result);
    return status == STATUS_RETRY ? STATUS_OK : status; /* whoever claims will complain */
}

enum status watch_tick(struct speed *speed, struct error *error)
{
    bool wanted = false;
    for (size_t i = 0; i < speed->partition_count && !wanted; i++)
        wanted = partition_wants_end(&speed->partitions[i]);
    log_ends_hurry(speed->log_ends, wanted);
    enum status status = take_answer(speed, error);
    return status == STATUS_OK ? look_for_lone(speed, error) : status;
}
