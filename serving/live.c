/* When live streams are asked for: see serving/live.h, and serving/live_internal.h for who may
 * touch what.
 *
 * One thread looks where the topics stand and queues the streams that are to be asked for; a few
 * workers ask. So a question that takes long delays the others only where there are as many of its
 * kind, and each for LIVE_ASK_MS at the most. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#include "core/program/program.h"
#include "serving/access.h"
#include "serving/live_internal.h"
#include "serving/negotiate.h"
#include "serving/problem.h"

/* All that rows follow from, topic by topic. */
static const char topics_sql[] =
    "SELECT p.topic, pg_catalog.concat(r.run, '/', dovetail_internal.imported_below(r.run, "
    "p.topic),"
    " '/', pg_catalog.string_agg(pg_catalog.concat_ws(',', p.partition, p.cutoff, p.position,"
    "  p.watermark), ';' ORDER BY p.partition), '/',"
    " (SELECT pg_catalog.string_agg(pg_catalog.concat(v.version, v.state), ',' ORDER BY v.version)"
    "  FROM dovetail_internal.view_version v WHERE v.state <> 'retired'))"
    " FROM dovetail_internal.current_run r CROSS JOIN dovetail_internal.progress p"
    " GROUP BY r.run, p.topic";

/* --- opening --- */

/* How many of them have this token, and this address. Under the lock. */
static void count_alike(const struct live *live, const struct stream *stream, int64_t *of_token,
                        int64_t *of_address)
{
    *of_token = *of_address = 0;
    for (const struct stream *other = live->first; other != NULL; other = other->next) {
        *of_token += stream->asked.caller != NULL && other->asked.caller == stream->asked.caller;
        *of_address += strcmp(other->address, stream->address) == 0;
    }
}

/* On the list, unless there are too many: then *response says so. */
static bool enter(struct live *live, struct stream *stream, struct http_response *response)
{
    const struct config *config = live->server->config;
    int64_t of_token;
    int64_t of_address;
    pthread_mutex_lock(&live->lock);
    count_alike(live, stream, &of_token, &of_address);
    bool has_place = !live->closing && live->count < live->limit;
    bool token_has = config->serving_live_streams_per_token == 0 ||
                     of_token < config->serving_live_streams_per_token;
    bool address_has = config->serving_live_streams_per_address == 0 ||
                       of_address < config->serving_live_streams_per_address;
    if (has_place && token_has && address_has) {
        stream->next = live->first;
        live->first = stream;
        live->count++;
        pthread_cond_signal(&live->changed);
    }
    pthread_mutex_unlock(&live->lock);
    if (!has_place)
        problem_respond(response, 503, NULL,
                        "there are %zu live streams already, or the server is stopping",
                        live->limit);
    else if (!token_has)
        problem_respond(response, 429, NULL, "this token has %lld live streams already",
                        (long long)of_token);
    else if (!address_has)
        problem_respond(response, 429, NULL, "this address has %lld live streams already",
                        (long long)of_address);
    return has_place && token_has && address_has;
}

/* The first event. */
static enum status begin(struct live *live, struct stream *stream,
                         const struct catalog_version *version, struct error *error)
{
    struct postgres *postgres;
    enum status status = pool_take(live->pool, &postgres, error);
    if (status != STATUS_OK)
        return status;
    status = live_begin(stream, postgres, version, error);
    if (status == STATUS_RETRY && pool_renew(live->pool, postgres, error))
        status = live_begin(stream, postgres, version, error);
    pool_give_back(live->pool, postgres);
    return status;
}

static void open_with(struct live *live, struct http_request *request,
                      const struct catalogue *catalogue, struct http_response *response)
{
    const char *view = request->segments[2];
    const struct catalog_version *version = catalog_current(catalogue->catalog, view);
    struct error error;
    if (version == NULL) {
        catalogue_respond_no_version(catalogue, view, request->caller, response);
        return;
    }
    struct stream *stream = live_stream_create(live, request);
    enum status status =
        stream == NULL ? error_no_memory(&error) : begin(live, stream, version, &error);
    if (status != STATUS_OK)
        live_respond_problem(&error, response);
    else if (enter(live, stream, response)) {
        live_stream_respond(stream, response);
        stream = NULL;
    }
    if (stream != NULL)
        live_stream_free(stream);
}

void live_open(struct live *live, struct http_request *request, struct http_response *response)
{
    static const char *const offered[] = {"text/event-stream"};
    struct postgres *postgres;
    struct catalogue *catalogue;
    if (live->limit == 0) {
        problem_respond(response, 404, NULL, "live streams are turned off (serving.live_streams)");
        return;
    }
    if (!access_has_view(request->caller, request->segments[2])) {
        access_refuse_view(response);
        return;
    }
    if (negotiate_media(http_request_header(request, "Accept"), offered, 1) < 0) {
        problem_respond(response, 406, NULL, "there is %s", offered[0]);
        return;
    }
    if (!server_take_catalogue(live->server, &postgres, &catalogue, response))
        return;
    pool_give_back(live->server->pool, postgres);
    open_with(live, request, catalogue, response);
    catalogue_release(live->server->catalogues, catalogue);
}

/* --- the workers --- */

/* Takes what came of it, and the user that it was borrowed with. */
static void deliver(struct stream *stream, struct live_outcome *outcome)
{
    pthread_mutex_lock(&stream->live->lock);
    if (outcome->event != NULL) {
        live_stream_put(stream, outcome->event, outcome->length);
        stream->event_us = program_monotonic_us();
    }
    stream->ending = stream->ending || outcome->ends;
    stream->working = false;
    if (outcome->event != NULL || outcome->ends)
        live_stream_wake(stream);
    bool last = live_stream_leave(stream);
    pthread_mutex_unlock(&stream->live->lock);
    if (last)
        live_stream_free(stream);
}

/* NULL: the server is stopping. */
static struct stream *take_due(struct live *live)
{
    pthread_mutex_lock(&live->lock);
    while (live->first_due == NULL && !live->closing)
        pthread_cond_wait(&live->due, &live->lock);
    struct stream *stream = live->closing ? NULL : live->first_due;
    if (stream != NULL && (live->first_due = stream->next_due) == NULL)
        live->last_due = &live->first_due;
    pthread_mutex_unlock(&live->lock);
    return stream;
}

/* So that live_close can end the statement. False: it has begun to. */
static bool announce(struct live_worker *worker, struct postgres *postgres)
{
    PGcancel *cancel = postgres != NULL ? PQgetCancel(postgres_handle(postgres)) : NULL;
    pthread_mutex_lock(&worker->live->lock);
    PGcancel *before = worker->asking;
    worker->asking = cancel;
    bool closing = worker->live->closing;
    pthread_mutex_unlock(&worker->live->lock);
    PQfreeCancel(before);
    return !closing;
}

static void *work(void *context)
{
    struct live_worker *worker = context;
    struct pool *pool = worker->live->pool;
    struct stream *stream;
    while ((stream = take_due(worker->live)) != NULL) {
        struct live_outcome outcome = {0};
        struct postgres *postgres;
        struct error error = {0};
        enum status status = pool_take(pool, &postgres, &error);
        if (status == STATUS_OK && announce(worker, postgres))
            live_ask(stream, postgres, &outcome);
        else if (status != STATUS_OK && live_is_due(stream, program_monotonic_us()))
            live_tell_problem(stream, &error, false, &outcome);
        if (!announce(worker, NULL) && outcome.event != NULL) {
            /* Cancelled, as like as not: that is no problem of his. */
            query_budget_give_back(&worker->live->server->budget, outcome.length);
            free(outcome.event);
            outcome.event = NULL;
        }
        if (postgres != NULL)
            pool_give_back(pool, postgres);
        deliver(stream, &outcome);
    }
    return NULL;
}

/* --- the thread that looks --- */

/* Of the topic that a view reads; 0: it is not known. */
static uint64_t topic_state(struct server *server, const PGresult *topics, const char *view)
{
    uint64_t state = 0;
    struct catalogue *catalogue = catalogue_take(server->catalogues);
    const struct catalog_version *version =
        catalogue == NULL ? NULL : catalog_current(catalogue->catalog, view);
    for (int row = 0; version != NULL && row < PQntuples(topics); row++)
        if (strcmp(PQgetvalue(topics, row, 0), version->view->source->topic) == 0)
            state = XXH3_64bits(PQgetvalue(topics, row, 1), (size_t)PQgetlength(topics, row, 1));
    catalogue_release(server->catalogues, catalogue);
    return state;
}

/* Those that may get an event, each with one more user; whose reader has gone ends. */
static size_t borrow_idle(struct live *live, struct stream **out)
{
    size_t count = 0;
    int64_t now_us = program_monotonic_us();
    for (struct stream *stream = live->first; stream != NULL; stream = stream->next) {
        live_stream_cut_if_stuck(stream, now_us);
        if (stream->pending != NULL || stream->ending || stream->working ||
            stream->again_us > now_us)
            continue;
        if (stream->suspended && http_request_is_closed(stream->request)) {
            stream->ending = true;
            live_stream_wake(stream);
            continue;
        }
        stream->users++;
        stream->working = true;
        out[count++] = stream;
    }
    return count;
}

static enum status read_topics(struct live *live, PGresult **topics, struct error *error)
{
    struct pool *pool = live->pool;
    struct postgres *postgres;
    enum status status = pool_take(pool, &postgres, error);
    if (status != STATUS_OK)
        return status;
    status = postgres_query(postgres, topics_sql, 0, NULL, topics, error);
    if (status == STATUS_RETRY && pool_renew(pool, postgres, error)) {
        PQclear(*topics);
        *topics = NULL;
        status = postgres_query(postgres, topics_sql, 0, NULL, topics, error);
    }
    pool_give_back(pool, postgres);
    return status;
}

static void enqueue(struct live *live, struct stream *stream)
{
    pthread_mutex_lock(&live->lock);
    stream->next_due = NULL;
    *live->last_due = stream;
    live->last_due = &stream->next_due;
    pthread_cond_signal(&live->due);
    pthread_mutex_unlock(&live->lock);
}

/* The end does not wait for every stream's question: what is queued then nobody asks. */
static void look_at_all(struct live *live, struct stream **streams, size_t count)
{
    PGresult *topics = NULL;
    struct error error = {0};
    enum status status = read_topics(live, &topics, &error);
    for (size_t i = 0; i < count; i++) {
        struct live_outcome outcome = {0};
        struct stream *stream = streams[i];
        bool due = live_is_due(stream, program_monotonic_us());
        if (status == STATUS_OK) {
            stream->now_seen = topic_state(live->server, topics, stream->asked.segments[2]);
            stream->moved = stream->now_seen == 0 || stream->now_seen != stream->seen;
        } else if (due) {
            live_tell_problem(stream, &error, false, &outcome);
        }
        if (status == STATUS_OK && (stream->moved || due))
            enqueue(live, stream);
        else
            deliver(stream, &outcome);
    }
    PQclear(topics);
}

static void pause_for_interval(struct live *live)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += LIVE_INTERVAL_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    while (!live->closing && pthread_cond_timedwait(&live->changed, &live->lock, &until) == 0)
        continue;
}

static void *run(void *context)
{
    struct live *live = context;
    struct stream **streams = calloc(live->limit + 1, sizeof(struct stream *));
    pthread_mutex_lock(&live->lock);
    while (!live->closing && streams != NULL) {
        if (live->first == NULL) {
            pthread_cond_wait(&live->changed, &live->lock);
            continue;
        }
        size_t count = borrow_idle(live, streams);
        pthread_mutex_unlock(&live->lock);
        if (count > 0)
            look_at_all(live, streams, count);
        pthread_mutex_lock(&live->lock);
        pause_for_interval(live);
    }
    pthread_mutex_unlock(&live->lock);
    free(streams);
    return NULL;
}

/* --- life --- */

static bool start_threads(struct live *live)
{
    for (; live->started < LIVE_THREADS; live->started++) {
        struct live_worker *worker = &live->workers[live->started];
        worker->live = live;
        if (pthread_create(&worker->thread, NULL, work, worker) != 0)
            return false;
    }
    if (pthread_create(&live->thread, NULL, run, live) != 0)
        return false;
    live->started++;
    return true;
}

enum status live_create(struct server *server, int openers, struct live **out, struct error *error)
{
    struct live *live = calloc(1, sizeof *live);
    *out = live;
    if (live == NULL)
        return error_no_memory(error);
    live->server = server;
    live->limit = (size_t)server->config->serving_live_streams;
    live->last_due = &live->first_due;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&live->lock, NULL);
    pthread_cond_init(&live->changed, &attributes);
    pthread_cond_init(&live->due, NULL);
    pthread_condattr_destroy(&attributes);
    /* Of its own, so that a cancellation which comes late hits no other's statement. */
    enum status status = pool_create(server->config->postgres, LIVE_THREADS + 1 + openers,
                                     LIVE_ASK_MS, &live->pool, error);
    if (status == STATUS_OK && !start_threads(live))
        status = error_set(error, STATUS_FATAL, "cannot start a thread");
    if (status != STATUS_OK) {
        live_destroy(live);
        *out = NULL;
    }
    return status;
}

static void cancel_questions(struct live *live)
{
    char ignored[256];
    for (size_t i = 0; i < LIVE_THREADS; i++)
        if (live->workers[i].asking != NULL)
            (void)PQcancel(live->workers[i].asking, ignored, sizeof ignored);
}

/* What was queued, or is open. No thread is left. */
static void end_streams(struct live *live)
{
    while (live->first_due != NULL) {
        struct live_outcome nothing = {0};
        struct stream *stream = live->first_due;
        live->first_due = stream->next_due;
        deliver(stream, &nothing);
    }
    live->last_due = &live->first_due;
    pthread_mutex_lock(&live->lock);
    for (struct stream *stream = live->first; stream != NULL; stream = stream->next)
        live_stream_wake(stream);
    pthread_mutex_unlock(&live->lock);
}

void live_close(struct live *live)
{
    pthread_mutex_lock(&live->lock);
    live->closing = true;
    cancel_questions(live);
    pthread_cond_broadcast(&live->changed);
    pthread_cond_broadcast(&live->due);
    pthread_mutex_unlock(&live->lock);
    for (int i = 0; i < live->started; i++)
        pthread_join(i < LIVE_THREADS ? live->workers[i].thread : live->thread, NULL);
    live->started = 0;
    end_streams(live);
}

void live_destroy(struct live *live)
{
    if (live == NULL)
        return;
    live_close(live);
    pool_destroy(live->pool);
    pthread_cond_destroy(&live->changed);
    pthread_cond_destroy(&live->due);
    pthread_mutex_destroy(&live->lock);
    free(live);
}

size_t live_count(struct live *live)
{
    pthread_mutex_lock(&live->lock);
    size_t count = live->count;
    pthread_mutex_unlock(&live->lock);
    return count;
}
