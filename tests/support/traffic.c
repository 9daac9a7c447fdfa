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
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/broker.h"
#include "tests/support/http.h"
#include "tests/support/orders.h"
#include "tests/support/sql_rows.h"
#include "tests/support/stack.h"

enum { READERS_MAX = 4, QUEUE_MAX = 256, TRANSACTION_MAX = 24, PROBLEM_BYTES = 4096 };

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

/* --- trouble --- */

static void note_problem(struct traffic *traffic, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void note_problem(struct traffic *traffic, const char *format, ...)
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

static bool has_problem(struct traffic *traffic)
{
    pthread_mutex_lock(&traffic->lock);
    bool has = traffic->problem[0] != '\0';
    pthread_mutex_unlock(&traffic->lock);
    return has;
}

void traffic_must_be_well(struct traffic *traffic)
{
    if (has_problem(traffic)) {
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
        note_problem(pending->traffic, "a record was not delivered: %s", error);
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
            note_problem(traffic, "%s", broker_problem(producer));
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
        note_problem(traffic, "%s", broker_problem(transactional));
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    for (size_t i = 0; i < count; i++) {
        while (outcome != BROKER_IN_DOUBT && !pendings[i]->delivered) {
            broker_poll(transactional, 10);
            if (stack_now_ms() < deadline)
                continue;
            note_problem(traffic, "nothing is said of a record whose transaction has ended");
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
    while (!atomic_load(&traffic->stop_producing) && !has_problem(traffic)) {
        int64_t due = (stack_now_ms() - begun_ms) * traffic->options.rate / 1000;
        bool paused = atomic_load(&traffic->pause);
        for (; sent < due && !paused; sent++)
            (void)send_one(traffic, traffic->plain, &generator, false);
        if (!paused && traffic->transactional != NULL && orders_below(&generator.random, 30) == 0)
            send_transaction(traffic, &generator);
        broker_poll(traffic->plain, 10);
    }
    if (!broker_flush(traffic->plain))
        note_problem(traffic, "%s", broker_problem(traffic->plain));
    return NULL;
}

/* --- queueing --- */

/* Takes `answer`. Waits for room, so that memory is bounded. */
static void enqueue(struct traffic *traffic, struct answer *answer)
{
    pthread_mutex_lock(&traffic->lock);
    while (traffic->queued >= QUEUE_MAX && traffic->problem[0] == '\0' &&
           !atomic_load(&traffic->stop_reading))
        pthread_cond_wait(&traffic->changed, &traffic->lock);
    answer->next = NULL;
    *traffic->last = answer;
    traffic->last = &answer->next;
    traffic->queued++;
    pthread_cond_broadcast(&traffic->changed);
    pthread_mutex_unlock(&traffic->lock);
}

static int64_t newest_number(struct traffic *traffic)
{
    pthread_mutex_lock(&traffic->lock);
    int64_t number = traffic->sent;
    pthread_mutex_unlock(&traffic->lock);
    return number;
}

static void free_answer(struct answer *answer)
{
    free(answer->body);
    free(answer->rows);
    free(answer->ledgers);
    free(answer);
}

/* The next answer all of whose records are known; NULL at the end. */
static struct answer *dequeue(struct traffic *traffic)
{
    struct answer *answer = NULL;
    pthread_mutex_lock(&traffic->lock);
    while (traffic->problem[0] == '\0') {
        bool ready = traffic->first != NULL && traffic->first->number <= traffic->resolved;
        if (ready || (traffic->first == NULL && atomic_load(&traffic->stop_checking)))
            break;
        pthread_cond_wait(&traffic->changed, &traffic->lock);
    }
    if (traffic->problem[0] == '\0' && traffic->first != NULL) {
        answer = traffic->first;
        traffic->first = answer->next;
        if (traffic->first == NULL)
            traffic->last = &traffic->first;
        traffic->queued--;
        pthread_cond_broadcast(&traffic->changed);
    }
    pthread_mutex_unlock(&traffic->lock);
    return answer;
}

/* --- checking --- */

static void count_answer(struct traffic *traffic, const struct answer *answer,
                         const struct oracle_receipt *receipt)
{
    pthread_mutex_lock(&traffic->lock);
    bool first = traffic->counts.http_answers + traffic->counts.sql_answers == 0;
    if (answer->body != NULL)
        traffic->counts.http_answers++;
    else
        traffic->counts.sql_answers++;
    if (first ||
        memcmp(traffic->newest.positions, receipt->positions, sizeof receipt->positions) != 0)
        traffic->counts.positions++;
    if (first || traffic->newest.run != receipt->run)
        traffic->counts.runs++;
    traffic->newest = *receipt;
    pthread_cond_broadcast(&traffic->changed);
    pthread_mutex_unlock(&traffic->lock);
}

static bool check_http(struct traffic *traffic, struct answer *answer, char *problem, size_t size)
{
    struct oracle_answer read;
    if (!oracle_check(traffic->oracle, &answer->query, answer->body, problem, size))
        return false;
    bool good =
        oracle_read_answer(traffic->oracle, &answer->query, answer->body, &read, problem, size);
    answer->receipt = read.receipt;
    free(read.rows);
    return good;
}

static bool check_sql(struct traffic *traffic, const struct answer *answer, char *problem,
                      size_t size)
{
    char text[3000];
    size_t count;
    char *expected = oracle_rows(traffic->oracle, &answer->query, &answer->receipt, &count);
    bool good = !oracle_difference(expected, answer->rows, text, sizeof text);
    if (!good)
        snprintf(problem, size, "SELECT * FROM dovetail.%s\nrun %" PRId64 "\n%s",
                 answer->query.view->name, answer->receipt.run, text);
    free(expected);
    return good;
}

static bool check_ledgers(struct traffic *traffic, const struct answer *answer, char *problem,
                          size_t size)
{
    bool good = oracle_check_positions(traffic->oracle, answer->ledgers, problem, size);
    pthread_mutex_lock(&traffic->lock);
    traffic->counts.ledgers += good;
    pthread_mutex_unlock(&traffic->lock);
    return good;
}

static void *check(void *context)
{
    struct traffic *traffic = context;
    struct answer *answer;
    char problem[PROBLEM_BYTES];
    while ((answer = dequeue(traffic)) != NULL) {
        bool good = answer->ledgers != NULL
                        ? check_ledgers(traffic, answer, problem, sizeof problem)
                    : answer->body != NULL ? check_http(traffic, answer, problem, sizeof problem)
                                           : check_sql(traffic, answer, problem, sizeof problem);
        if (good && answer->ledgers == NULL)
            count_answer(traffic, answer, &answer->receipt);
        if (!good)
            note_problem(traffic, "%s\n(DOVETAIL_SEED=%" PRIu64 ")", problem,
                         traffic->options.seed);
        free_answer(answer);
    }
    return NULL;
}

/* --- reading over HTTP --- */

struct reader {
    struct traffic *traffic;
    uint64_t random;
    struct oracle_query query; /* the one that is asked */
    int left;                  /* times */
};

/* "&at_least=..." with what is known to be in the log now. */
static char *demand(struct traffic *traffic, char *target, int64_t *ends)
{
    char text[512] = "";
    char *whole = NULL;
    oracle_ends(traffic->oracle, ends);
    size_t length = (size_t)snprintf(text, sizeof text, "{\"%s\":[", traffic->topic);
    for (int p = 0; p < traffic->options.partitions; p++)
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%" PRId64,
                                   p > 0 ? "," : "", ends[p]);
    snprintf(text + length, sizeof text - length, "]}");
    char *escaped = http_escape(text, strlen(text));
    if (asprintf(&whole, "%s%cat_least=%s", target, strchr(target, '?') == NULL ? '?' : '&',
                 escaped) < 0)
        abort();
    free(escaped);
    free(target);
    return whole;
}

/* False: the answer does not have what `at_least` demanded. */
static bool has_demanded(struct traffic *traffic, const struct oracle_query *query,
                         const char *body, const int64_t *ends)
{
    struct oracle_answer answer;
    char problem[256];
    bool good = oracle_read_answer(traffic->oracle, query, body, &answer, problem, sizeof problem);
    for (int p = 0; good && p < traffic->options.partitions; p++)
        good = answer.receipt.positions[p] >= ends[p];
    free(answer.rows);
    return good;
}

static bool is_away(const struct traffic *traffic, const struct http_reply *reply)
{
    return (traffic->options.may_be_unavailable && reply->status == 503) ||
           (traffic->options.may_be_gone && reply->status == 0);
}

static void count_refusal(struct traffic *traffic, bool in_time)
{
    pthread_mutex_lock(&traffic->lock);
    if (in_time)
        traffic->counts.unavailable++;
    else
        traffic->counts.not_in_time++;
    pthread_mutex_unlock(&traffic->lock);
}

static void read_once(struct reader *reader, struct http_session *session)
{
    struct traffic *traffic = reader->traffic;
    struct http_reply reply;
    int64_t ends[ORACLE_PARTITIONS];
    struct answer *answer = calloc(1, sizeof *answer);
    if (answer == NULL)
        abort();
    if (reader->left-- <= 0) {
        orders_random_query(&reader->random, traffic->options.views, traffic->options.view_count,
                            &reader->query);
        reader->left = traffic->options.repeats - 1;
    }
    answer->query = reader->query;
    bool demanding = answer->query.layer != ORACLE_BATCH && orders_below(&reader->random, 10) == 0;
    char *target = oracle_target(&answer->query);
    if (demanding)
        target = demand(traffic, target, ends);
    http_get(session, target, &reply);
    answer->number = newest_number(traffic);
    if (reply.status == 200) {
        if (demanding && !has_demanded(traffic, &answer->query, reply.body, ends))
            note_problem(traffic, "%s: the answer is older than at_least", target);
        answer->body = reply.body;
        reply.body = NULL;
        enqueue(traffic, answer);
        answer = NULL;
    } else if (is_away(traffic, &reply) || (demanding && reply.status == 504)) {
        count_refusal(traffic, reply.status != 504);
        stack_sleep_ms(20);
    } else if (!atomic_load(&traffic->stop_reading)) {
        note_problem(traffic, "%s: %d %s %s", target, reply.status, reply.problem, reply.body);
    }
    if (answer != NULL)
        free_answer(answer);
    free(target);
    http_reply_free(&reply);
}

static void *read_http(void *context)
{
    struct reader *reader = context;
    struct http_session *session = http_session_create(reader->traffic->deployment->port);
    while (!atomic_load(&reader->traffic->stop_reading) && !has_problem(reader->traffic))
        read_once(reader, session);
    http_session_destroy(session);
    free(reader);
    return NULL;
}

/* --- reading SQL --- */

/* One view, or the ledgers. */
static void read_sql_once(struct traffic *traffic, struct sql_session *session, uint64_t *random)
{
    char problem[1024];
    struct answer *answer = calloc(1, sizeof *answer);
    if (answer == NULL)
        abort();
    size_t which = orders_below(random, traffic->options.view_count + 1);
    bool good;
    if (which < traffic->options.view_count) {
        answer->query.view = &traffic->options.views[which];
        good = sql_read_view(session, answer->query.view, &answer->receipt, &answer->rows, problem,
                             sizeof problem);
    } else {
        answer->ledgers = calloc(1, sizeof *answer->ledgers);
        if (answer->ledgers == NULL)
            abort();
        good = sql_read_positions(session, answer->ledgers, problem, sizeof problem);
    }
    answer->number = newest_number(traffic);
    if (good) {
        enqueue(traffic, answer);
        return;
    }
    free_answer(answer);
    if (traffic->options.may_be_unavailable && sql_session_is_lost(session))
        count_refusal(traffic, true);
    else
        note_problem(traffic, "%s", problem);
}

static void *read_sql(void *context)
{
    struct traffic *traffic = context;
    uint64_t random = traffic->options.seed;
    struct sql_session *session = sql_session_create(traffic->deployment->postgres, traffic->topic);
    while (!atomic_load(&traffic->stop_reading) && !has_problem(traffic)) {
        read_sql_once(traffic, session, &random);
        stack_sleep_ms((int)orders_below(&random, 100));
    }
    sql_session_destroy(session);
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
    traffic->has_checker = pthread_create(&traffic->checker, NULL, check, traffic) == 0;
    if (options->readers > 0)
        traffic->has_sql = pthread_create(&traffic->sql, NULL, read_sql, traffic) == 0;
    for (int i = 0; i < options->readers; i++) {
        struct reader *reader = calloc(1, sizeof *reader);
        assert_non_null(reader);
        *reader = (struct reader){.traffic = traffic, .random = options->seed + (uint64_t)i + 1};
        if (pthread_create(&traffic->readers[i], NULL, read_http, reader) == 0)
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
        note_problem(traffic, "the test ends");
    traffic_stop_producing(traffic);
    traffic_stop_reading(traffic);
    broker_producer_destroy(traffic->plain);
    broker_producer_destroy(traffic->transactional);
    for (struct answer *answer = traffic->first; answer != NULL;) {
        struct answer *next = answer->next;
        free_answer(answer);
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

/* --- waiting and the last word --- */

void traffic_await(struct traffic *traffic, const char *what, const char *sql, int64_t wanted,
                   struct child *const *children, int child_count)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS, number;
    while ((number = deployment_number(traffic->deployment, sql)) < wanted) {
        traffic_must_be_well(traffic);
        children_must_run(children, child_count);
        if (stack_now_ms() > deadline) {
            children_show();
            fail_msg("%s: %" PRId64 ", still below %" PRId64 " after %d ms", what, number, wanted,
                     STACK_WAIT_MS);
        }
        stack_sleep_ms(20);
    }
}

void traffic_await_answers(struct traffic *traffic, int64_t count, struct child *const *children,
                           int child_count)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    int64_t wanted = traffic_counts(traffic).http_answers + count;
    while (traffic_counts(traffic).http_answers < wanted) {
        traffic_must_be_well(traffic);
        children_must_run(children, child_count);
        if (stack_now_ms() > deadline) {
            children_show();
            fail_msg("%" PRId64 " answers are still missing after %d ms",
                     wanted - traffic_counts(traffic).http_answers, STACK_WAIT_MS);
        }
        stack_sleep_ms(10);
    }
}

void traffic_await_end(struct traffic *traffic, struct child *const *children, int child_count)
{
    int64_t ends[ORACLE_PARTITIONS];
    oracle_ends(traffic->oracle, ends);
    for (int p = 0; p < oracle_partitions(traffic->oracle); p++) {
        char sql[512], what[64];
        snprintf(sql, sizeof sql,
                 "SELECT next_offset FROM dovetail_internal.position"
                 " WHERE topic = '%s' AND partition = %d",
                 traffic->topic, p);
        snprintf(what, sizeof what, "P of partition %d", p);
        traffic_await(traffic, what, sql, ends[p], children, child_count);
    }
}

void traffic_check_view(struct traffic *traffic, const struct deployment *deployment,
                        const struct oracle_view *view)
{
    struct oracle_query query = {.view = view};
    struct oracle_answer answer;
    struct http_reply reply;
    int64_t ends[ORACLE_PARTITIONS];
    char problem[PROBLEM_BYTES];
    size_t count;
    struct http_session *session = http_session_create(deployment->port);
    char *target = oracle_target(&query);
    http_get(session, target, &reply);
    if (reply.status != 200)
        fail_msg("%s: %d %s", target, reply.status, reply.body);
    if (!oracle_check(traffic->oracle, &query, reply.body, problem, sizeof problem) ||
        !oracle_read_answer(traffic->oracle, &query, reply.body, &answer, problem, sizeof problem))
        fail_msg("%s", problem);
    oracle_ends(traffic->oracle, ends);
    for (int p = 0; p < oracle_partitions(traffic->oracle); p++)
        assert_true(answer.receipt.positions[p] >= ends[p]);
    free(answer.rows);
    free(target);
    http_reply_free(&reply);
    http_session_destroy(session);

    struct oracle_receipt receipt;
    char *rows = NULL;
    struct sql_session *sql = sql_session_create(deployment->postgres, traffic->topic);
    if (!sql_read_view(sql, view, &receipt, &rows, problem, sizeof problem))
        fail_msg("%s", problem);
    char *expected = oracle_rows(traffic->oracle, &query, &receipt, &count);
    if (oracle_difference(expected, rows, problem, sizeof problem))
        fail_msg("SQL, %s: %s", view->name, problem);
    free(expected);
    free(rows);
    sql_session_destroy(sql);
}

static void check_ledger(struct traffic *traffic, const struct deployment *deployment)
{
    struct oracle_positions positions;
    char problem[PROBLEM_BYTES];
    struct sql_session *sql = sql_session_create(deployment->postgres, traffic->topic);
    if (!sql_read_positions(sql, &positions, problem, sizeof problem) ||
        !oracle_check_positions(traffic->oracle, &positions, problem, sizeof problem))
        fail_msg("%s", problem);
    sql_session_destroy(sql);
    assert_int_equal(positions.partitions, oracle_partitions(traffic->oracle));
    for (int p = 0; p < positions.partitions; p++) {
        struct oracle_ledger all = oracle_ledger(traffic->oracle, p, INT64_MAX);
        assert_int_equal(positions.ledgers[p].consumed, all.consumed);
    }
}

void traffic_check_all(struct traffic *traffic, const struct deployment *deployment)
{
    traffic_must_be_well(traffic);
    for (size_t i = 0; i < traffic->options.view_count; i++)
        traffic_check_view(traffic, deployment, &traffic->options.views[i]);
    check_ledger(traffic, deployment);
}

/* Everything of a view by one layer: the rows, and where they stand. */
static char *ask_layer(struct traffic *traffic, const struct deployment *deployment,
                       const struct oracle_view *view, enum oracle_layer layer,
                       struct oracle_receipt *receipt)
{
    const struct oracle_query query = {.view = view, .layer = layer};
    struct oracle_answer answer;
    struct http_reply reply;
    char problem[PROBLEM_BYTES];
    struct http_session *session = http_session_create(deployment->port);
    char *target = oracle_target(&query);
    http_get(session, target, &reply);
    if (reply.status != 200)
        fail_msg("%s: %d %s", target, reply.status, reply.body);
    if (!oracle_check(traffic->oracle, &query, reply.body, problem, sizeof problem) ||
        !oracle_read_answer(traffic->oracle, &query, reply.body, &answer, problem, sizeof problem))
        fail_msg("%s", problem);
    free(target);
    http_reply_free(&reply);
    http_session_destroy(session);
    *receipt = answer.receipt;
    return answer.rows;
}

enum { VIEWS_MAX = 16, VERIFY_MS = 10 * STACK_WAIT_MS /* it reads every record again */ };

void traffic_prove(struct traffic *traffic, const struct deployment *deployment,
                   struct child *const *children, int child_count)
{
    struct oracle_receipt before[VIEWS_MAX], after;
    char *merged[VIEWS_MAX], problem[PROBLEM_BYTES];
    int64_t ends[ORACLE_PARTITIONS];
    size_t count = traffic->options.view_count;
    assert_true(count <= VIEWS_MAX);
    traffic_stop_producing(traffic);
    traffic_must_be_well(traffic);
    traffic_await_end(traffic, children, child_count);
    oracle_ends(traffic->oracle, ends);
    if (traffic->reader_count > 0)
        traffic_await_answers(traffic, 20, children, child_count);
    for (size_t i = 0; i < count; i++)
        merged[i] =
            ask_layer(traffic, deployment, &traffic->options.views[i], ORACLE_MERGED, &before[i]);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    for (size_t i = 0; i < count; i++) {
        char *batch =
            ask_layer(traffic, deployment, &traffic->options.views[i], ORACLE_BATCH, &after);
        /* Behind the last record is nothing but the marks of transactions, which P may or may not
         * have passed yet. */
        for (int p = 0; p < after.partitions; p++) {
            assert_true(before[i].positions[p] >= ends[p]);
            assert_true(after.cutoffs[p] >= before[i].positions[p]);
        }
        if (oracle_difference(merged[i], batch, problem, sizeof problem))
            fail_msg("%s: before and after the run that covers it: %s",
                     traffic->options.views[i].name, problem);
        free(batch);
        free(merged[i]);
    }
    if (traffic->reader_count > 0)
        traffic_await_answers(traffic, 20, children, child_count);
    traffic_stop_reading(traffic);
    traffic_check_all(traffic, deployment);
    for (size_t i = 0; i < count; i++) {
        struct child *verify = deployment_start(deployment, "dovetail", "verify",
                                                traffic->options.views[i].name, NULL);
        if (child_wait(verify, VERIFY_MS) != 0)
            fail_msg("dovetail verify: %s%s", child_output(verify), child_errors(verify));
    }
    struct traffic_counts counts = traffic_counts(traffic);
    print_message("%" PRId64 " records; %" PRId64 " answers over HTTP, %" PRId64
                  " over SQL and %" PRId64 " times all ledgers checked, at %" PRId64
                  " positions and %" PRId64 " changes of the run; %" PRId64
                  " refused meanwhile; %zu views verified\n",
                  counts.records, counts.http_answers, counts.sql_answers, counts.ledgers,
                  counts.positions, counts.runs, counts.unavailable, count);
}
