/* Questions over HTTP and SQL, and the thread that checks their answers: see traffic.h. Nothing
 * here fails the test: the first difference is noted. */
#include "tests/support/traffic_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/http.h"
#include "tests/support/orders.h"
#include "tests/support/sql_rows.h"
#include "tests/support/stack.h"

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

void traffic_free_answer(struct answer *answer)
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

void *traffic_check_answers(void *context)
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
            traffic_note(traffic, "%s\n(DOVETAIL_SEED=%" PRIu64 ")", problem,
                         traffic->options.seed);
        traffic_free_answer(answer);
    }
    return NULL;
}

/* --- reading over HTTP --- */

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
            traffic_note(traffic, "%s: the answer is older than at_least", target);
        answer->body = reply.body;
        reply.body = NULL;
        enqueue(traffic, answer);
        answer = NULL;
    } else if (is_away(traffic, &reply) || (demanding && reply.status == 504)) {
        count_refusal(traffic, reply.status != 504);
        stack_sleep_ms(20);
    } else if (!atomic_load(&traffic->stop_reading)) {
        traffic_note(traffic, "%s: %d %s %s", target, reply.status, reply.problem, reply.body);
    }
    if (answer != NULL)
        traffic_free_answer(answer);
    free(target);
    http_reply_free(&reply);
}

void *traffic_read_http(void *context)
{
    struct reader *reader = context;
    struct http_session *session = http_session_create(reader->traffic->deployment->port);
    while (!atomic_load(&reader->traffic->stop_reading) && !traffic_has_problem(reader->traffic))
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
    traffic_free_answer(answer);
    if (traffic->options.may_be_unavailable && sql_session_is_lost(session))
        count_refusal(traffic, true);
    else
        traffic_note(traffic, "%s", problem);
}

void *traffic_read_sql(void *context)
{
    struct traffic *traffic = context;
    uint64_t random = traffic->options.seed;
    struct sql_session *session = sql_session_create(traffic->deployment->postgres, traffic->topic);
    while (!atomic_load(&traffic->stop_reading) && !traffic_has_problem(traffic)) {
        read_sql_once(traffic, session, &random);
        stack_sleep_ms((int)orders_below(&random, 100));
    }
    sql_session_destroy(session);
    return NULL;
}
