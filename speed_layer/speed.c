/* Start, run loop and stop of the speed layer: see speed.h.
 *
 * The loop polls Kafka without waiting while there are records, and reads the clock only now and
 * then: between two ticks it does nothing but fold. All that takes a while is elsewhere, in
 * librdkafka's threads (fetching) and the flusher's (writing). */
#include "speed_layer/speed.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/program/program.h"
#include "speed_layer/recovery.h"

enum {
    RECORDS_PER_CLOCK = 128,
    TICK_US = 2000,
    IDLE_POLL_MS = 20,
    BUSY_POLL_MS = 2, /* a flush is under way or due */
    PROGRESS_US = 10000000,
    HINT_US = 5000000,
    LOOK_AGAIN_US = 1000000,
    COMPLAIN_US = 10000000,
    START_PAUSE_MS = 500,
    RETRY_PAUSE_MS = 100,
    SETTINGS_TIMEOUT_MS = 5000,
    STOP_TIMEOUT_MS = 15000,
};

void speed_complain(struct speed *speed, const char *what, const struct error *error)
{
    int64_t now_us = program_monotonic_us();
    if (speed->complained_us != 0 && now_us - speed->complained_us < COMPLAIN_US)
        return;
    speed->complained_us = now_us;
    program_log(LOG_WARNING, "%s; waiting: %s", what, error->text);
}

/* --- messages --- */

/* Messages come in runs of one partition, so the last one is nearly always right. The topic object
 * is librdkafka's, one for each topic while it is assigned. */
static struct partition *find_partition(struct speed *speed, const rd_kafka_message_t *message)
{
    if (speed->newest < speed->partition_count) {
        struct partition *newest = &speed->partitions[speed->newest];
        if (newest->topic_tag == message->rkt && newest->partition == message->partition)
            return newest;
    }
    struct partition *partition =
        ownership_find(speed, rd_kafka_topic_name(message->rkt), message->partition);
    if (partition != NULL) {
        partition->topic_tag = message->rkt;
        speed->newest = (size_t)(partition - speed->partitions);
    }
    return partition;
}

static enum status add_dead_letter(struct speed *speed, const struct partition *partition,
                                   const struct record *record, const rd_kafka_message_t *message,
                                   const struct rejection *rejection, struct error *error)
{
    const struct feed *feed = partition->feed;
    struct letter_origin origin = {.topic = partition->topic,
                                   .partition = partition->partition,
                                   .offset = record->offset,
                                   .timestamp_ms = record->timestamp_ms,
                                   .archived = message == NULL};
    rd_kafka_headers_t *headers = NULL;
    if (message != NULL) {
        origin.key = message->key;
        origin.key_length = message->key_len;
        if (rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR)
            origin.headers = headers;
    }
    struct disclosure disclosure = {.value = record->value, .length = record->length};
    enum status status = STATUS_OK;
    if (feed->masker != NULL) {
        status = record_mask_apply(feed->masker, record->value, record->length, &disclosure.value,
                                   &disclosure.length, error);
        /* The archive has nothing either of a value whose fields could not be found. */
        disclosure.value_withheld =
            disclosure.value == NULL && (record->value != NULL || origin.archived);
        disclosure.masked = disclosure.value != NULL;
        disclosure.key_withheld = origin.key != NULL && feed->source->mask_key;
    }
    if (status != STATUS_OK)
        return status;
    speed->open->dead[dead_letter_kind(rejection)]++;
    return dead_letters_add(&speed->open->letters, feed->source->dead_letter_topic, &origin,
                            &disclosure, rejection, error);
}

/* `message`: where it came from; NULL: the archive. */
static enum status fold_record(struct speed *speed, struct partition *partition,
                               const struct record *record, const rd_kafka_message_t *message,
                               struct error *error)
{
    enum record_outcome outcome;
    struct rejection rejection;
    enum status status =
        partition_fold(partition, record, speed->open, &outcome, &rejection, error);
    if (status != STATUS_OK)
        return error_wrap(error, "%s[%" PRId32 "] offset %" PRId64, partition->topic,
                          partition->partition, record->offset);
    if (outcome == RECORD_FOREIGN) {
        recovery_foreign(speed, partition, record->offset);
        return STATUS_OK;
    }
    speed->learned += outcome == RECORD_LEARNED;
    if (outcome == RECORD_STALE || outcome == RECORD_LEARNED)
        return STATUS_OK;
    speed->records++;
    speed->telemetry.bytes += (int64_t)record->length;
    if (outcome != RECORD_DEAD)
        return STATUS_OK;
    return add_dead_letter(speed, partition, record, message, &rejection, error);
}

enum status speed_fold_archived(struct speed *speed, struct partition *partition,
                                const struct record *record, struct error *error)
{
    return fold_record(speed, partition, record, NULL, error);
}

static enum status handle_message(struct speed *speed, const rd_kafka_message_t *message,
                                  struct error *error)
{
    struct partition *partition = find_partition(speed, message);
    if (partition == NULL || !partition->claimed || partition->supply != SUPPLY_KAFKA)
        return STATUS_OK;
    bool at_end = message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
    if (message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET ||
        (at_end && message->offset < partition->next_offset))
        return recovery_begin(speed, partition, error);
    if (at_end)
        return partition_reach_end(partition, message->offset, speed->open, error);
    const struct record record = {.offset = message->offset,
                                  .timestamp_ms = rd_kafka_message_timestamp(message, NULL),
                                  .value = message->payload,
                                  .length = message->len};
    return fold_record(speed, partition, &record, message, error);
}

/* --- ticks --- */

static enum status close_old_slices(struct speed *speed, struct error *error)
{
    int64_t interval_us = speed->config->speed_slice_interval_ms * 1000;
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < speed->partition_count; i++) {
        struct partition *partition = &speed->partitions[i];
        if (partition->claimed && speed->now_us - partition->slice_began_us >= interval_us)
            status = partition_cut(partition, speed->open, speed->now_us, error);
    }
    return status;
}

static void tell_progress(struct speed *speed)
{
    if (speed->now_us < speed->next_progress_us)
        return;
    double seconds = (double)(speed->now_us - speed->last_progress_us) / 1e6;
    if (speed->records > 0)
        program_log(LOG_INFO, "%" PRId64 " records, %.0f a second", speed->records,
                    (double)speed->records / seconds);
    if (speed->learned > 0)
        program_log(LOG_INFO, "%" PRId64 " records read again for their ids, %.0f a second",
                    speed->learned, (double)speed->learned / seconds);
    speed->records_total += speed->records;
    speed->records = 0;
    speed->learned = 0;
    speed->last_progress_us = speed->now_us;
    speed->next_progress_us = speed->now_us + PROGRESS_US;
    program_return_memory(); /* a backlog, or PostgreSQL being away, took more than goes on */
}

static enum status look_at_catalog(struct speed *speed, struct error *error);
static enum status change_name(struct speed *speed, struct error *error);
static void drop_retired(struct speed *speed);

static enum status handle_notices(struct speed *speed, struct error *error)
{
    enum status status = STATUS_OK;
    if (flusher_has_reconnected(speed->flusher)) {
        speed->look_us = speed->now_us; /* a notification may have been missed */
        watch_wait(speed);
        /* The server may have been restarted under the instance's lock, too. */
        status = ownership_ensure_session(speed, error);
        if (status == STATUS_RETRY)
            status = STATUS_OK; /* the next claim needs it, and waits for it */
        if (status == STATUS_OK)
            status = handover_begin(speed, true, error); /* requests may have been missed */
    }
    if (status == STATUS_OK && flusher_cut_was_requested(speed->flusher))
        status = handover_cut_all(speed, true, error);
    if (flusher_catalog_has_changed(speed->flusher)) {
        speed->look_us = speed->now_us;
        recovery_look_again(speed);
    }
    if (status == STATUS_OK && speed->look_us != 0 && speed->now_us >= speed->look_us)
        status = look_at_catalog(speed, error);
    return status;
}

static enum status tick(struct speed *speed, struct error *error)
{
    int64_t now_us = program_monotonic_us();
    if (!speed->idle && now_us - speed->now_us < TICK_US)
        return STATUS_OK;
    speed->now_us = now_us;
    enum status status = handover_finish(speed, 0, error);
    if (status == STATUS_OK)
        drop_retired(speed);
    if (status == STATUS_OK)
        status = ownership_reclaim(speed, error);
    if (status == STATUS_OK)
        status = handle_notices(speed, error);
    if (status == STATUS_OK)
        status = recovery_tick(speed, error);
    if (status == STATUS_OK)
        status = close_old_slices(speed, error);
    if (status == STATUS_OK)
        status = watch_tick(speed, error);
    if (status == STATUS_OK && now_us >= speed->next_flush_us)
        status = handover_begin(speed, false, error);
    if (status == STATUS_OK)
        status = handover_apply_limits(speed, error);
    if (now_us >= speed->next_hint_us) {
        handover_commit_hint(speed);
        speed->next_hint_us = now_us + HINT_US;
    }
    tell_progress(speed);
    telemetry_tick(speed);
    return status;
}

/* --- the loop --- */

/* Without waiting while messages come: a poll that may wait reads the clock. */
static int poll_timeout_ms(const struct speed *speed)
{
    if (!speed->idle || speed->walking)
        return 0;
    return speed->in_flight || speed->reclaim_us != 0 ? BUSY_POLL_MS : IDLE_POLL_MS;
}

static enum status run_once(struct speed *speed, struct error *error)
{
    if (speed->instance_lost || speed->must_subscribe)
        return change_name(speed, error);
    for (int i = 0; i < RECORDS_PER_CLOCK; i++) {
        rd_kafka_message_t *message = NULL;
        enum status status =
            kafka_consumer_poll(speed->consumer, poll_timeout_ms(speed), &message, error);
        if (status == STATUS_RETRY) {
            speed_complain(speed, "the consumer", error);
            (void)program_wait_ms(RETRY_PAUSE_MS);
            break;
        }
        if (status == STATUS_FENCED && speed->instance_name != NULL)
            return error_wrap(error, "--instance %s: the names of processes must differ",
                              speed->instance_name);
        if (status == STATUS_FENCED) {
            speed->instance_lost = true;
            return STATUS_OK;
        }
        if (status != STATUS_OK)
            return status;
        speed->idle = message == NULL;
        if (message == NULL)
            break;
        status = handle_message(speed, message, error);
        rd_kafka_message_destroy(message);
        if (status != STATUS_OK)
            return status;
    }
    enum status status = recovery_step(speed, &speed->walking, error);
    return status == STATUS_OK ? tick(speed, error) : status;
}

/* --- start --- */

static void free_topics(struct speed *speed)
{
    for (size_t i = 0; i < speed->topic_count; i++)
        free(speed->topics[i]);
    free(speed->topics);
    free(speed->known);
    free(speed->existing);
    speed->topics = NULL;
    speed->known = NULL;
    speed->existing = NULL;
    speed->topic_count = 0;
}

static bool is_folded(const struct catalog *catalog, const struct source *source)
{
    return catalog_holds_topic(catalog, source->topic) == NULL;
}

/* P is that of all versions of a topic. Where this program refuses one of them it leaves the topic
 * to another process that does not, or to nobody. */
static enum status check_topics(const struct catalog *catalog, struct error *error)
{
    char text[ERROR_TEXT_BYTES] = "";
    bool any = false;
    for (size_t i = 0; i < catalog->source_count && !any; i++)
        any = is_folded(catalog, catalog->sources[i]);
    bool waits = !any && catalog_waits_for_run(catalog);
    for (size_t i = 0; i < catalog->refusal_count; i++) {
        catalog_refusal_describe(&catalog->refusals[i], text, sizeof text);
        if (!waits) /* else the caller tells it, again and again */
            program_log(LOG_ERR, "%s; its topic is left alone", text);
    }
    if (any)
        return STATUS_OK;
    if (waits)
        return error_set(error, STATUS_RETRY, "%s", text);
    if (catalog->refusal_count > 0)
        return error_set(error, STATUS_FATAL, "no topic is left to read: %s", text);
    return error_set(error, STATUS_REJECT,
                     "no source is registered: write one and run `dovetail init`");
}

static enum status name_topics(struct speed *speed, const struct catalog *catalog,
                               struct error *error)
{
    free_topics(speed);
    speed->topics = calloc(catalog->source_count + 1, sizeof *speed->topics);
    speed->known = calloc(catalog->source_count + 1, sizeof *speed->known);
    speed->existing = calloc(catalog->source_count + 1, sizeof *speed->existing);
    if (speed->topics == NULL || speed->known == NULL || speed->existing == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < catalog->source_count; i++) {
        if (!is_folded(catalog, catalog->sources[i]))
            continue;
        speed->topics[speed->topic_count] = strdup(catalog->sources[i]->topic);
        if (speed->topics[speed->topic_count] == NULL)
            return error_no_memory(error);
        speed->existing[speed->topic_count++] = -1;
    }
    return STATUS_OK;
}

static enum status subscribe(struct speed *speed, const struct catalog *catalog,
                             struct error *error)
{
    struct kafka_group_callbacks callbacks = ownership_callbacks(speed);
    enum status status = name_topics(speed, catalog, error);
    if (status != STATUS_OK)
        return status;
    status = kafka_consumer_subscribe(speed->config->kafka, speed->group, speed->instance.name,
                                      (const char *const *)speed->topics, speed->topic_count,
                                      &callbacks, &speed->consumer, error);
    if (status == STATUS_OK)
        kafka_consumer_tell_gone(speed->consumer);
    watch_wait(speed);
    return status == STATUS_OK ? watch_begin(speed, error) : status;
}

static bool topics_are_subscribed(const struct speed *speed, const struct catalog *catalog)
{
    size_t folded = 0;
    for (size_t i = 0; i < catalog->source_count; i++) {
        if (!is_folded(catalog, catalog->sources[i]))
            continue;
        bool found = false;
        for (size_t t = 0; t < speed->topic_count && !found; t++)
            found = strcmp(speed->topics[t], catalog->sources[i]->topic) == 0;
        if (!found)
            return false;
        folded++;
    }
    return folded == speed->topic_count;
}

static bool has_retired(const struct feeds *feeds, const struct catalog *catalog)
{
    for (size_t i = 0; feeds != NULL && i < feeds->catalog->version_count; i++) {
        bool found = false;
        for (size_t v = 0; v < catalog->version_count && !found; v++)
            found = catalog->versions[v].version == feeds->catalog->versions[i].version;
        if (!found)
            return true;
    }
    return false;
}

/* New versions fence us; that one is retired, nobody has to wait for. */
static void drop_retired(struct speed *speed)
{
    if (!speed->has_retired || speed->in_flight || speed->reclaim_us != 0)
        return;
    speed->has_retired = false;
    if (speed->partition_count == 0)
        return;
    program_log(LOG_INFO, "a view's version was retired: it is folded no more");
    ownership_lose(speed);
}

/* The revocation, in one of the next polls, drains what is in memory. */
static enum status look_at_catalog(struct speed *speed, struct error *error)
{
    struct catalog *catalog = NULL;
    speed->look_us = 0;
    enum status status = ownership_ensure_session(speed, error);
    if (status == STATUS_OK)
        status = catalog_load(speed->postgres, &catalog, error);
    if (status == STATUS_OK)
        speed->has_retired = has_retired(speed->feeds, catalog);
    if (status == STATUS_OK && !topics_are_subscribed(speed, catalog)) {
        program_log(LOG_INFO, "other topics than before are to be read");
        status = check_topics(catalog, error);
        if (status == STATUS_OK)
            status = name_topics(speed, catalog, error);
        if (status == STATUS_OK)
            status = kafka_consumer_resubscribe(speed->consumer, (const char *const *)speed->topics,
                                                speed->topic_count, error);
        if (status == STATUS_OK)
            status = watch_begin(speed, error);
    }
    catalog_destroy(catalog);
    if (status != STATUS_RETRY)
        return status;
    speed->look_us = speed->now_us + LOOK_AGAIN_US;
    return STATUS_OK;
}

/* Our name in the group is another process's, or is going to be: goes on under another one. */
static enum status change_name(struct speed *speed, struct error *error)
{
    struct catalog *catalog = NULL;
    enum status status = STATUS_OK;
    if (speed->instance_lost) {
        ownership_drop_partitions(speed); /* whoever has the name has them */
        if (speed->in_flight)
            flusher_abandon(speed->flusher);
        status = ownership_replace_instance(speed, error);
    }
    if (status == STATUS_OK)
        status = ownership_ensure_session(speed, error);
    if (status == STATUS_OK)
        status = catalog_load(speed->postgres, &catalog, error);
    if (status == STATUS_OK) {
        kafka_consumer_close(speed->consumer); /* drains, by giving back what was not lost */
        speed->consumer = NULL;
        ownership_drop_partitions(speed);
        speed->paused = false;
        speed->must_subscribe = false;
        status = subscribe(speed, catalog, error);
    }
    catalog_destroy(catalog);
    if (status != STATUS_RETRY)
        return status;
    speed_complain(speed, "the group cannot be joined under a new name", error);
    (void)program_wait_ms(START_PAUSE_MS);
    return STATUS_OK;
}

/* A missing key shall be told now, and not when partitions are assigned. */
static enum status check_keys(const struct catalog *catalog, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < catalog->source_count; i++) {
        struct mask *mask = NULL;
        if (catalog->sources[i]->mask_count > 0)
            status = mask_create(catalog->sources[i], &mask, error);
        mask_destroy(mask);
    }
    return status;
}

/* One attempt: session, catalogue, instance. */
static enum status connect_all(struct speed *speed, struct catalog **catalog, struct error *error)
{
    enum status status = ownership_ensure_session(speed, error);
    if (status == STATUS_OK)
        status = catalog_load(speed->postgres, catalog, error);
    if (status == STATUS_OK)
        status = check_topics(*catalog, error);
    if (status == STATUS_OK)
        status = check_keys(*catalog, error);
    if (status != STATUS_OK) {
        catalog_destroy(*catalog);
        *catalog = NULL;
        return status;
    }
    snprintf(speed->group, sizeof speed->group, "dovetail-%s", (*catalog)->deployment_id);
    struct instance instance;
    status = instance_take(speed->postgres, speed->group, speed->instance_name, &instance, error);
    if (status == STATUS_OK) {
        speed->instance = instance;
        speed->instance_held = true;
        ownership_name_owner(speed);
    } else {
        catalog_destroy(*catalog);
        *catalog = NULL;
    }
    return status == STATUS_REJECT ? error_set(error, STATUS_FATAL, "%s", error->text) : status;
}

/* Waits for a session, then for Kafka's word that the topics keep what is written to them. */
static enum status find_servers(struct speed *speed, struct catalog **catalog, struct error *error)
{
    enum status status;
    while ((status = connect_all(speed, catalog, error)) == STATUS_RETRY) {
        speed_complain(speed, "the catalogue cannot be had", error);
        if (program_wait_ms(START_PAUSE_MS))
            return STATUS_RETRY;
    }
    if (status == STATUS_OK)
        status = name_topics(speed, *catalog, error);
    if (status != STATUS_OK)
        return status;
    while ((status = kafka_topics_check_uncompacted(
                speed->config->kafka, (const char *const *)speed->topics, speed->topic_count,
                SETTINGS_TIMEOUT_MS, error)) == STATUS_RETRY) {
        if (program_wait_ms(START_PAUSE_MS))
            return STATUS_RETRY;
        speed_complain(speed, "Kafka is away", error);
    }
    return status;
}

static enum status start(struct speed *speed, struct error *error)
{
    struct catalog *catalog = NULL;
    enum status status = find_servers(speed, &catalog, error);
    if (status != STATUS_OK) {
        catalog_destroy(catalog);
        return status;
    }
    speed->open = &speed->flushes[0];
    speed->now_us = program_monotonic_us();
    speed->last_progress_us = speed->now_us;
    speed->next_progress_us = speed->now_us + PROGRESS_US;
    program_log(LOG_INFO,
                "dovetail-speed %s: instance %s, group %s, %zu sources, %zu view versions",
                DOVETAIL_VERSION, speed->instance.name, speed->group, catalog->source_count,
                catalog->version_count);
    status = flusher_create(speed->config, &speed->flusher, error);
    if (status == STATUS_OK)
        status = log_ends_create(speed->config, &speed->log_ends, error);
    if (status == STATUS_OK)
        status = subscribe(speed, catalog, error);
    catalog_destroy(catalog);
    return status;
}

/* --- stop --- */

/* Everything folded is written, unless PostgreSQL is away: then it is read again next time. */
static enum status stop(struct speed *speed, struct error *error)
{
    bool clean = false;
    enum status status = handover_drain(speed, STOP_TIMEOUT_MS, &clean, error);
    if (status == STATUS_OK && clean)
        handover_commit_hint(speed);
    /* A name that the operator gave comes back, as a rule; the next process with an automatic one
     * takes whichever is free. */
    if (speed->instance_name == NULL)
        kafka_consumer_leave_group(speed->consumer);
    program_log(LOG_INFO, "stopped after %" PRId64 " records%s",
                speed->records_total + speed->records,
                clean ? "" : "; those not written will be read again");
    return status;
}

static void deinit(struct speed *speed)
{
    /* The flusher first: it may have a flush that refers to the feeds. Partitions next, so that the
     * revocation of kafka_consumer_close finds nothing to do. */
    flusher_destroy(speed->flusher);
    log_ends_destroy(speed->log_ends);
    speed->flusher = NULL;
    speed->in_flight = false;
    if (speed->open != NULL)
        ownership_drop_partitions(speed);
    kafka_consumer_close(speed->consumer);
    for (size_t i = 0; i < 2; i++)
        flush_deinit(&speed->flushes[i]);
    feeds_destroy(speed->feeds);
    free_topics(speed);
    postgres_close(speed->postgres); /* last: frees the instance's name */
}

int speed_run(const struct config *config, const char *instance_name)
{
    struct speed speed = {.config = config, .instance_name = instance_name, .idle = true};
    struct error error = {0};
    enum status status = telemetry_start(&speed, &error);
    if (status == STATUS_OK)
        status = start(&speed, &error);
    while (status == STATUS_OK && !program_stopping())
        status = run_once(&speed, &error);
    if (status == STATUS_OK)
        status = stop(&speed, &error);
    if (status == STATUS_RETRY) /* stopped before it had begun */
        status = STATUS_OK;
    if (status != STATUS_OK)
        program_log(LOG_ERR, "%s", error.text);
    telemetry_stop(&speed);
    deinit(&speed);
    return status == STATUS_OK       ? PROGRAM_OK
           : status == STATUS_REJECT ? PROGRAM_USAGE
                                     : PROGRAM_FAILURE;
}
