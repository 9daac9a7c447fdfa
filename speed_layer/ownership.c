/* Which partitions are ours: see speed.h.
 *
 * Kafka's group says who should work on a partition; the claim in PostgreSQL says who may. The two
 * can differ for a while (a process that was stopped, a session that timed out), and then the claim
 * decides: a flush whose fence matches no row is thrown away with everything in memory, and what is
 * still ours is claimed again. Assignment and fence take the same way through claim_all. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/program/program.h"
#include "speed_layer/recovery.h"
#include "speed_layer/speed.h"

enum {
    REVOKE_TIMEOUT_MS = 10000, /* well below max.poll.interval.ms */
    RECLAIM_FIRST_PAUSE_US = 50000,
    RECLAIM_LONGEST_PAUSE_US = 2000000,
};

/* --- the session --- */

/* A claim waits for position rows and for registrations, but not while polls are due. */
static const char session_sql[] = "SET lock_timeout = '5s'";

void ownership_name_owner(struct speed *speed)
{
    uint64_t number = 0;
    if (getrandom(&number, sizeof number, 0) != sizeof number)
        number = (uint64_t)program_clock_us();
    snprintf(speed->owner, sizeof speed->owner, "%s/%016" PRIx64, speed->instance.name, number);
}

/* Somebody else has our name: the slot was free while our session was not there, or an operator
 * gave the name away. Who has it gets our partitions, claims them, and so fences whatever we hold:
 * nothing depends on being quick. */
static enum status take_other_instance(struct speed *speed, struct error *error)
{
    if (speed->instance_name != NULL)
        return error_set(error, STATUS_FATAL,
                         "another process runs as instance \"%s\" (--instance): the names of "
                         "processes must differ",
                         speed->instance_name);
    struct instance instance;
    enum status status = instance_take_other(speed->postgres, &speed->instance, &instance, error);
    if (status != STATUS_OK)
        return status;
    program_log(LOG_NOTICE, "another process took over instance %s; this one goes on as %s",
                speed->instance.name, instance.name);
    speed->instance = instance;
    speed->instance_held = true;
    speed->instance_lost = false;
    speed->must_subscribe = true;
    ownership_name_owner(speed);
    return STATUS_OK;
}

static enum status connect_session(struct speed *speed, struct error *error)
{
    if (speed->postgres != NULL && postgres_is_connected(speed->postgres) &&
        postgres_execute(speed->postgres, session_sql, error) == STATUS_OK)
        return STATUS_OK;
    speed->instance_held = false;
    enum status status =
        speed->postgres == NULL
            ? postgres_connect(speed->config->postgres, "dovetail-speed", &speed->postgres, error)
            : postgres_reconnect(speed->postgres, error);
    return status == STATUS_OK ? postgres_execute(speed->postgres, session_sql, error) : status;
}

enum status ownership_ensure_session(struct speed *speed, struct error *error)
{
    enum status status = connect_session(speed, error);
    if (status != STATUS_OK || speed->instance_held || speed->instance.name[0] == '\0')
        return status;
    status = instance_take_again(speed->postgres, &speed->instance, error);
    speed->instance_held = status == STATUS_OK;
    if (status == STATUS_REJECT)
        status = take_other_instance(speed, error);
    return status == STATUS_REJECT ? error_set(error, STATUS_FATAL, "%s", error->text) : status;
}

enum status ownership_replace_instance(struct speed *speed, struct error *error)
{
    enum status status = ownership_ensure_session(speed, error);
    /* Where the lock was ours all the time the name is lost all the same. */
    if (status == STATUS_OK && speed->instance_lost)
        status = take_other_instance(speed, error);
    return status == STATUS_REJECT ? error_set(error, STATUS_FATAL, "%s", error->text) : status;
}

/* --- partitions --- */

struct partition *ownership_find(struct speed *speed, const char *topic, int32_t partition)
{
    for (size_t i = 0; i < speed->partition_count; i++)
        if (speed->partitions[i].partition == partition &&
            strcmp(speed->partitions[i].topic, topic) == 0)
            return &speed->partitions[i];
    return NULL;
}

static void discard_work(struct speed *speed)
{
    for (size_t i = 0; i < speed->partition_count; i++) {
        recovery_forget(&speed->partitions[i]);
        partition_discard(&speed->partitions[i]);
    }
    flush_clear(speed->open);
    speed->generation++;
}

void ownership_drop_partitions(struct speed *speed)
{
    discard_work(speed);
    for (size_t i = 0; i < speed->partition_count; i++)
        partition_deinit(&speed->partitions[i]);
    free(speed->partitions);
    speed->partitions = NULL;
    speed->partition_count = 0;
    speed->newest = 0;
    speed->reclaim_us = 0;
}

static int compare_partitions(const void *left, const void *right)
{
    const struct partition *a = left;
    const struct partition *b = right;
    int order = strcmp(a->topic, b->topic);
    return order != 0 ? order : (a->partition > b->partition) - (a->partition < b->partition);
}

static enum status set_partitions(struct speed *speed, const struct kafka_position *positions,
                                  size_t count, struct error *error)
{
    ownership_drop_partitions(speed);
    speed->partitions = calloc(count + 1, sizeof *speed->partitions);
    if (speed->partitions == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < count; i++) {
        enum status status = partition_init(&speed->partitions[speed->partition_count],
                                            positions[i].topic, positions[i].partition, error);
        if (status != STATUS_OK)
            return status;
        speed->partition_count++;
    }
    qsort(speed->partitions, count, sizeof *speed->partitions, compare_partitions);
    return STATUS_OK;
}

/* --- claiming --- */

int ownership_lone_ms(const struct speed *speed)
{
    int timeout_ms = kafka_consumer_session_timeout_ms(speed->consumer);
    return timeout_ms + timeout_ms / 2;
}

/* Replaces the feeds; nothing refers to the old ones: all work was discarded, no flush is away. */
static enum status install_catalog(struct speed *speed, struct catalog *catalog,
                                   struct error *error)
{
    struct feeds *feeds = NULL;
    enum status status = feeds_create(catalog, &feeds, error);
    for (size_t i = 0; status == STATUS_OK && i < 2; i++)
        status = flush_prepare(&speed->flushes[i], feeds->catalog, error);
    if (status != STATUS_OK) { /* STATUS_REJECT: a key, which somebody has to put right */
        feeds_destroy(feeds);
        return status == STATUS_REJECT ? status : error_set(error, STATUS_FATAL, "%s", error->text);
    }
    feeds_destroy(speed->feeds);
    speed->feeds = feeds;
    return STATUS_OK;
}

static enum status install_claims(struct speed *speed, struct claim *claims, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < speed->partition_count; i++) {
        struct partition *partition = &speed->partitions[i];
        struct feed *feed = feeds_find(speed->feeds, partition->topic);
        if (!claims[i].claimed || feed == NULL) {
            program_log(LOG_NOTICE, "%s[%" PRId32 "] belongs to another process", partition->topic,
                        partition->partition);
            continue;
        }
        status = partition_begin(partition, &claims[i], feed, speed->now_us, error);
        program_log(LOG_INFO, "%s[%" PRId32 "] from offset %" PRId64 ", owner epoch %" PRId64,
                    partition->topic, partition->partition, partition->next_offset,
                    partition->epoch);
    }
    return status;
}

/* Claims all partitions in speed->partitions, which have no work in memory. */
static enum status claim_all(struct speed *speed, bool only_mine, struct error *error)
{
    enum status status = handover_finish(speed, 0, error);
    if (status != STATUS_OK)
        return status;
    if (speed->in_flight)
        return error_set(error, STATUS_RETRY, "an earlier flush is still under way");
    status = ownership_ensure_session(speed, error);
    if (status == STATUS_OK && speed->must_subscribe)
        status = error_set(error, STATUS_RETRY, "the group is to be joined under a new name");
    if (status != STATUS_OK)
        return status;
    struct claim *claims = calloc(speed->partition_count + 1, sizeof *claims);
    if (claims == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < speed->partition_count; i++) {
        claims[i].topic = speed->partitions[i].topic;
        claims[i].partition = speed->partitions[i].partition;
    }
    struct catalog *catalog = NULL;
    const struct claimant claimant = {
        .owner = speed->owner, .only_mine = only_mine, .lone_ms = ownership_lone_ms(speed)};
    status = claims_take(claims, speed->partition_count, speed->postgres, speed->consumer,
                         &claimant, &catalog, error);
    if (status == STATUS_OK)
        status = install_catalog(speed, catalog, error);
    if (status == STATUS_OK)
        status = install_claims(speed, claims, error);
    if (status == STATUS_OK)
        status = recovery_claimed(speed, error);
    if (status == STATUS_OK)
        status = watch_begin(speed, error);
    if (status != STATUS_OK)
        discard_work(speed); /* some may have begun: the next attempt begins all */
    claims_deinit(claims, speed->partition_count);
    free(claims);
    return status;
}

/* --- the group's callbacks --- */

static enum status on_assign(struct kafka_position *positions, size_t count, void *context,
                             struct error *error)
{
    struct speed *speed = context;
    speed->now_us = program_monotonic_us();
    enum status status = set_partitions(speed, positions, count, error);
    if (status == STATUS_OK)
        status = claim_all(speed, false, error);
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        const struct partition *partition =
            ownership_find(speed, positions[i].topic, positions[i].partition);
        /* Of one that is not to be read from Kafka yet nothing is taken: handle_message. */
        positions[i].offset = partition_read_offset(partition);
    }
    /* On failure nothing is assigned, and the next poll asks again. */
    return status;
}

static enum status on_revoke(const struct kafka_position *positions, size_t count, bool lost,
                             void *context, struct error *error)
{
    (void)positions; /* always all of them: the protocol is eager */
    struct speed *speed = context;
    enum status status = STATUS_OK;
    bool clean = false;
    speed->now_us = program_monotonic_us();
    if (!lost)
        status = handover_drain(speed, REVOKE_TIMEOUT_MS, &clean, error);
    else if (speed->in_flight)
        flusher_abandon(speed->flusher);
    if (status == STATUS_OK && clean)
        handover_commit_hint(speed);
    program_log(LOG_INFO, "%zu partitions %s%s", count, lost ? "lost" : "given back",
                clean || lost ? "" : "; what was not written will be read again");
    ownership_drop_partitions(speed);
    return status;
}

struct kafka_group_callbacks ownership_callbacks(struct speed *speed)
{
    return (struct kafka_group_callbacks){
        .on_assign = on_assign, .on_revoke = on_revoke, .context = speed};
}

/* --- after a fence --- */

void ownership_lose(struct speed *speed)
{
    discard_work(speed);
    /* At once the first time: `dovetail init` or a batch run wants us to look again. */
    speed->reclaim_us = speed->now_us + speed->reclaim_pause_us;
    if (speed->reclaim_us == 0)
        speed->reclaim_us = 1;
    int64_t pause_us = speed->reclaim_pause_us * 2;
    if (pause_us < RECLAIM_FIRST_PAUSE_US)
        pause_us = RECLAIM_FIRST_PAUSE_US;
    speed->reclaim_pause_us =
        pause_us > RECLAIM_LONGEST_PAUSE_US ? RECLAIM_LONGEST_PAUSE_US : pause_us;
}

enum status ownership_reclaim(struct speed *speed, struct error *error)
{
    if (speed->reclaim_us == 0 || speed->now_us < speed->reclaim_us)
        return STATUS_OK;
    enum status status = claim_all(speed, true, error);
    if (status == STATUS_RETRY) {
        speed_complain(speed, "partitions cannot be claimed", error);
        speed->reclaim_us = speed->now_us + RECLAIM_LONGEST_PAUSE_US / 4;
        return STATUS_OK;
    }
    if (status != STATUS_OK)
        return status;
    speed->reclaim_us = 0;
    return ownership_restart_consumer(speed, error);
}

enum status ownership_restart_consumer(struct speed *speed, struct error *error)
{
    struct kafka_position *positions = calloc(speed->partition_count + 1, sizeof *positions);
    size_t count = 0;
    if (positions == NULL)
        return error_no_memory(error);
    /* What belongs to somebody else is not read; the group will take it from us, or watch.c finds
     * that nobody is there. */
    for (size_t i = 0; i < speed->partition_count; i++)
        if (speed->partitions[i].claimed && speed->partitions[i].supply == SUPPLY_KAFKA)
            positions[count++] =
                (struct kafka_position){.topic = speed->partitions[i].topic,
                                        .partition = speed->partitions[i].partition,
                                        .offset = partition_read_offset(&speed->partitions[i])};
    enum status status = kafka_consumer_restart(speed->consumer, positions, count, error);
    free(positions);
    return status;
}
