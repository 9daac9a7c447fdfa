/* Producing and checking at once: see traffic.h.
 *
 * An answer can hold records whose acknowledgement the producer has not seen yet. So every record
 * gets a number before it is sent, and counts as resolved when the model knows it (or its
 * transaction was aborted); an answer remembers the newest number at its arrival, and waits until
 * all up to that are resolved. */
#include "tests/support/traffic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/broker.h"
#include "tests/support/orders.h"
#include "tests/support/stack.h"
#include "tests/support/traffic_internal.h"

enum { TRANSACTION_MAX = 24 };

/* A record on its way. */
struct pending {
    struct traffic *traffic;
    int64_t number;
    struct oracle_record record;
    bool in_transaction;
    /* of a delivered one */
    bool delivered;
    int partition;
    int64_t offset;
};

/* --- trouble --- */

void traffic_note(struct traffic *traffic, const char *format, ...)
{
    va_list arguments;
    pthread_mutex_lock(&traffic->lock);
    if (traffic->problem[0] == '\0') {
        va_start(arguments, format);
        vsnprintf(traffic->problem, sizeof traffic->problem, format, arguments);
        va_end(arguments);
    }
    pthread_cond_broadcast(&traffic->changed);
    pthread_mutex_unlock(&traffic->lock);
}

bool traffic_has_problem(struct traffic *traffic)
{
    pthread_mutex_lock(&traffic->lock);
    bool has = traffic->problem[0] != '\0';
    pthread_mutex_unlock(&traffic->lock);
    return has;
}

void traffic_must_be_well(struct traffic *traffic)
{
    if (traffic_has_problem(traffic)) {
        children_show();
        fail_msg("%s", traffic->problem);
    }
}

/* --- producing --- */

static int64_t take_number(struct traffic *traffic)
{
    pthread_mutex_lock(&traffic->lock);
    if (traffic->sent == traffic->capacity) {
        traffic->capacity = 2 * traffic->capacity + 4096;
        traffic->is_resolved =
            realloc(traffic->is_resolved, (size_t)traffic->capacity * sizeof(bool));
        if (traffic->is_resolved == NULL)
            abort();
    }
    int64_t number = traffic->sent++;
    traffic->is_resolved[number] = false;
    pthread_mutex_unlock(&traffic->lock);
    return number;
}

static void resolve(struct traffic *traffic, int64_t number)
{
    pthread_mutex_lock(&traffic->lock);
    traffic->is_resolved[number] = true;
    while (traffic->resolved < traffic->sent && traffic->is_resolved[traffic->resolved])
        traffic->resolved++;
    pthread_cond_broadcast(&traffic->changed);
    pthread_mutex_unlock(&traffic->lock);
}

/* Its record is in the log for good, or (`exists` false) is not. */
static void settle(struct pending *pending, bool exists)
{
    if (exists)
        oracle_add(pending->traffic->oracle, pending->partition, pending->offset, &pending->record);
    else
        free((void *)pending->record.event);
    resolve(pending->traffic, pending->number);
    free(pending);
}

static void on_delivered(void *opaque, int32_t partition, int64_t offset, const char *error)
{
    struct pending *pending = opaque;
    pending->delivered = true;
    pending->partition = partition;
    pending->offset = offset;
    if (pending->in_transaction)
        return; /* settled at the transaction's end */
    if (error != NULL)
        traffic_note(pending->traffic, "a record was not delivered: %s", error);
    settle(pending, error == NULL);
}

static struct pending *send_one(struct traffic *traffic, struct broker_producer *producer,
                                struct orders_generator *generator, bool in_transaction)
{
    struct orders_record record;
    struct pending *pending = calloc(1, sizeof *pending);
    if (pending == NULL)
        abort();
    orders_next(generator, &record);
    *pending = (struct pending){.traffic = traffic,
                                .number = take_number(traffic),
                                .record = record.model,
                                .in_transaction = in_transaction};
    int32_t partition =
        (int32_t)orders_below(&generator->random, (size_t)atomic_load(&traffic->partitions));
    if (record.partition >= 0)
        partition = record.partition;
    else
        orders_sent(generator, &record, partition);
    if (!broker_produce(producer, traffic->topic, partition,
                        record.key_length > 0 ? record.key : NULL, record.key_length,
                        record.has_value ? record.value : NULL, record.length, NULL, pending)) {
        if (!in_transaction)
            traffic_note(traffic, "%s", broker_problem(producer));
        settle(pending, false);
        return NULL;
    }
    return pending;
}

/* A few records that all count or all do not, with others between them. One that the producer does
 * not take, because its transaction must be aborted, is settled by the end of that. */
static void send_transaction(struct traffic *traffic, struct orders_generator *generator)
{
    struct broker_producer *transactional = traffic->transactional;
    struct pending *pendings[TRANSACTION_MAX];
    size_t count = 0, wanted = orders_below(&generator->random, TRANSACTION_MAX) + 1;
    bool commit = orders_below(&generator->random, 5) > 1;
    bool good = broker_transaction_begin(transactional);
    for (size_t i = 0; good && i < wanted; i++) {
        pendings[count] = send_one(traffic, transactional, generator, true);
        if (pendings[count] != NULL)
            count++;
        if (i % 3 == 0)
            (void)send_one(traffic, traffic->plain, generator, false);
    }
    enum broker_outcome outcome =
        good ? broker_transaction_end(transactional, commit) : BROKER_IN_DOUBT;
    if (outcome == BROKER_IN_DOUBT)
        traffic_note(traffic, "%s", broker_problem(transactional));
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    for (size_t i = 0; i < count; i++) {
        while (outcome != BROKER_IN_DOUBT && !pendings[i]->delivered) {
            broker_poll(transactional, 10);
            if (stack_now_ms() < deadline)
                continue;
            traffic_note(traffic, "nothing is said of a record whose transaction has ended");
            outcome = BROKER_IN_DOUBT;
        }
        if (outcome != BROKER_IN_DOUBT)
            settle(pendings[i], outcome == BROKER_COMMITTED);
    }
}

static void *produce(void *context)
{
    struct traffic *traffic = context;
    struct orders_generator generator;
    orders_generator_init(&generator, traffic->options.seed, traffic->options.views,
                          traffic->options.view_count);
    generator.period_us = traffic->options.period_us;
    generator.has_ids = traffic->options.dedupe_within > 0;
    int64_t begun_ms = stack_now_ms(), sent = 0;
    while (!atomic_load(&traffic->stop_producing) && !traffic_has_problem(traffic)) {
        int64_t due = (stack_now_ms() - begun_ms) * traffic->options.rate / 1000;
        bool paused = atomic_load(&traffic->pause);
        for (; sent < due && !paused; sent++)
            (void)send_one(traffic, traffic->plain, &generator, false);
        if (!paused && traffic->transactional != NULL && orders_below(&generator.random, 30) == 0)
            send_transaction(traffic, &generator);
        broker_poll(traffic->plain, 10);
    }
    if (!broker_flush(traffic->plain))
        traffic_note(traffic, "%s", broker_problem(traffic->plain));
    return NULL;
}

/* --- life --- */

void traffic_define(const struct deployment *deployment, const struct oracle_view *views,
                    size_t view_count)
{
    deployment_define_source(deployment, orders_source);
    for (size_t i = 0; i < view_count; i++)
        deployment_define_view(deployment, views[i].json);
}

void traffic_define_with(const struct deployment *deployment, const struct traffic_options *options)
{
    bool own = options->views != NULL;
    traffic_define(deployment, own ? options->views : orders_views,
                   own ? options->view_count : ORDERS_VIEWS);
    char *source = orders_source_with(options->partitions, options->dedupe_within);
    deployment_define_source(deployment, source);
    free(source);
}

struct traffic *traffic_start(const struct deployment *deployment,
                              const struct traffic_options *options)
{
    struct traffic *traffic = calloc(1, sizeof *traffic);
    assert_non_null(traffic);
    assert_true(options->readers <= READERS_MAX && options->partitions <= ORACLE_PARTITIONS);
    traffic->deployment = deployment;
    traffic->options = *options;
    if (options->views == NULL) {
        traffic->options.views = orders_views;
        traffic->options.view_count = ORDERS_VIEWS;
    }
    traffic->last = &traffic->first;
    snprintf(traffic->topic, sizeof traffic->topic, "%s", deployment_topic(deployment, "orders"));
    traffic->oracle = oracle_create(traffic->topic, options->partitions, free);
    assert_non_null(traffic->oracle);
    oracle_dedupe(traffic->oracle, options->dedupe_within);
    atomic_store(&traffic->partitions, options->partitions);
    traffic->plain = broker_producer_create(NULL, on_delivered);
    if (options->transactions)
        traffic->transactional = broker_producer_create(traffic->topic, on_delivered);
    pthread_mutex_init(&traffic->lock, NULL);
    pthread_cond_init(&traffic->changed, NULL);
    traffic->has_producer = pthread_create(&traffic->producer, NULL, produce, traffic) == 0;
    traffic->has_checker =
        pthread_create(&traffic->checker, NULL, traffic_check_answers, traffic) == 0;
    if (options->readers > 0)
        traffic->has_sql = pthread_create(&traffic->sql, NULL, traffic_read_sql, traffic) == 0;
    for (int i = 0; i < options->readers; i++) {
        struct reader *reader = calloc(1, sizeof *reader);
        assert_non_null(reader);
        *reader = (struct reader){.traffic = traffic, .random = options->seed + (uint64_t)i + 1};
        if (pthread_create(&traffic->readers[i], NULL, traffic_read_http, reader) == 0)
            traffic->reader_count++;
    }
    assert_true(traffic->has_producer && traffic->has_checker);
    assert_int_equal(traffic->reader_count, options->readers);
    return traffic;
}

void traffic_pause(struct traffic *traffic, bool pause)
{
    atomic_store(&traffic->pause, pause);
}

void traffic_stop_producing(struct traffic *traffic)
{
    atomic_store(&traffic->stop_producing, true);
    if (traffic->has_producer)
        stack_join(traffic->producer, "the producer");
    traffic->has_producer = false;
}

static void wake(struct traffic *traffic)
{
    pthread_mutex_lock(&traffic->lock);
    pthread_cond_broadcast(&traffic->changed);
    pthread_mutex_unlock(&traffic->lock);
}

void traffic_stop_reading(struct traffic *traffic)
{
    atomic_store(&traffic->stop_reading, true);
    wake(traffic);
    for (int i = 0; i < traffic->reader_count; i++)
        stack_join(traffic->readers[i], "a reader");
    traffic->reader_count = 0;
    if (traffic->has_sql)
        stack_join(traffic->sql, "the reader of SQL");
    traffic->has_sql = false;
    atomic_store(&traffic->stop_checking, true);
    wake(traffic);
    if (traffic->has_checker)
        stack_join(traffic->checker, "the checker");
    traffic->has_checker = false;
}

void traffic_destroy(struct traffic *traffic)
{
    if (traffic == NULL)
        return;
    /* Whoever waits for records that will never be resolved must stop. */
    if (traffic->has_producer || traffic->has_checker)
        traffic_note(traffic, "the test ends");
    traffic_stop_producing(traffic);
    traffic_stop_reading(traffic);
    broker_producer_destroy(traffic->plain);
    broker_producer_destroy(traffic->transactional);
    for (struct answer *answer = traffic->first; answer != NULL;) {
        struct answer *next = answer->next;
        traffic_free_answer(answer);
        answer = next;
    }
    oracle_destroy(traffic->oracle);
    free(traffic->is_resolved);
    pthread_cond_destroy(&traffic->changed);
    pthread_mutex_destroy(&traffic->lock);
    free(traffic);
}

void traffic_grow(struct traffic *traffic, int partitions)
{
    oracle_grow(traffic->oracle, partitions);
    broker_grow_topic(traffic->topic, partitions);
    broker_producer_learn(traffic->plain, traffic->topic, partitions);
    if (traffic->transactional != NULL)
        broker_producer_learn(traffic->transactional, traffic->topic, partitions);
    atomic_store(&traffic->partitions, partitions);
}

struct oracle *traffic_oracle(struct traffic *traffic)
{
    return traffic->oracle;
}

const char *traffic_topic(const struct traffic *traffic)
{
    return traffic->topic;
}

struct traffic_counts traffic_counts(struct traffic *traffic)
{
    pthread_mutex_lock(&traffic->lock);
    struct traffic_counts counts = traffic->counts;
    pthread_mutex_unlock(&traffic->lock);
    counts.records = oracle_count(traffic->oracle);
    return counts;
}
