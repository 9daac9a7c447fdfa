/* Streams of changed rows: see serving/live.h.
 *
 * Invariant: the lock guards the list, `closing` and of each stream what is named so below; the
 * rest of a stream belongs to whoever made it until it is on the list, then to the thread. A
 * connection is suspended only by the stream's own read, and is resumed once, under the lock, while
 * the stream is open; so it cannot have ended. The lock is not held while PostgreSQL is asked: a
 * stream that is being worked on has one more user, and is freed by the last.
 *
 * PostgreSQL being away ends no stream: its reader is told so at each heartbeat, and when it is
 * back gets what has changed since. What a question cannot be any more (its view is gone, a new
 * version has not its columns, it has too many rows or takes too long) is told as a problem, and
 * ends the stream. */
#include "serving/live.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#include "core/program/program.h"
#include "serving/access.h"
#include "serving/live_rows.h"
#include "serving/negotiate.h"
#include "serving/problem.h"
#include "serving/rows_request.h"

struct stream {
    struct live *live;
    struct http_request *request; /* whose connection it is */
    struct http_request asked;    /* the question, with strings of its own */
    char *strings;
    struct live_rows told;
    int32_t version;  /* of the view, that `told` is of */
    uint64_t seen;    /* of its topic, when it was asked for */
    int64_t event_us; /* monotonic, of the last event */

    /* Under the lock. */
    struct stream *next;
    char *pending; /* what is being sent */
    size_t length, taken;
    int64_t taken_us; /* monotonic, when some of it was taken last, or it came */
    bool suspended;
    bool ending; /* nothing comes behind `pending` */
    int users;   /* the connection, and the thread */
};

struct live {
    struct server *server;
    size_t limit;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct stream *first;
    size_t count;
    bool closing;
    bool joined;
};

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

/* --- one stream --- */

static void free_stream(struct stream *stream)
{
    live_rows_deinit(&stream->told);
    free(stream->strings);
    free(stream->pending);
    free(stream);
}

/* One user less. Under the lock; true: nobody has it, and the caller frees it without the lock. */
static bool leave(struct stream *stream)
{
    return --stream->users == 0;
}

/* Takes the text. Under the lock. */
static void put_pending(struct stream *stream, char *event, size_t length)
{
    free(stream->pending);
    stream->pending = event;
    stream->length = length;
    stream->taken = 0;
    stream->taken_us = program_monotonic_us();
}

static void wake(struct stream *stream)
{
    if (!stream->suspended)
        return;
    stream->suspended = false;
    http_request_resume(stream->request);
}

/* In the connection's thread. */
static ssize_t read_stream(void *context, char *buffer, size_t size)
{
    struct stream *stream = context;
    ssize_t count = -1;
    pthread_mutex_lock(&stream->live->lock);
    if (stream->pending != NULL) {
        size_t left = stream->length - stream->taken;
        size_t some = left < size ? left : size;
        memcpy(buffer, stream->pending + stream->taken, some);
        stream->taken += some;
        stream->taken_us = program_monotonic_us();
        count = (ssize_t)some;
        if (stream->taken == stream->length)
            put_pending(stream, NULL, 0);
    } else if (!stream->ending && !stream->live->closing) {
        stream->suspended = true;
        http_request_suspend(stream->request);
        count = 0;
    }
    pthread_mutex_unlock(&stream->live->lock);
    return count;
}

/* The connection has ended. */
static void release_stream(void *context)
{
    struct stream *stream = context;
    struct live *live = stream->live;
    pthread_mutex_lock(&live->lock);
    struct stream **link = &live->first;
    while (*link != NULL && *link != stream)
        link = &(*link)->next;
    if (*link != NULL) {
        *link = stream->next;
        live->count--;
    }
    stream->ending = true;
    bool last = leave(stream);
    pthread_mutex_unlock(&live->lock);
    if (last)
        free_stream(stream);
}

static size_t string_bytes(const char *text)
{
    return strlen(text) + 1;
}

static const char *put_string(char **at, const char *text)
{
    const char *copy = *at;
    *at = stpcpy(*at, text) + 1;
    return copy;
}

/* A stream that outlives the request's own strings. */
static struct stream *create_stream(struct live *live, struct http_request *request)
{
    struct stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL)
        return NULL;
    stream->live = live;
    stream->request = request;
    stream->users = 1;
    stream->asked = *request;
    stream->asked.state = NULL;
    size_t bytes = string_bytes(request->segments[2]);
    for (size_t i = 0; i < request->parameter_count; i++)
        bytes +=
            string_bytes(request->parameters[i].name) + string_bytes(request->parameters[i].value);
    char *at = stream->strings = malloc(bytes);
    if (at == NULL) {
        free(stream);
        return NULL;
    }
    memset(stream->asked.segments, 0, sizeof stream->asked.segments);
    stream->asked.segments[2] = put_string(&at, request->segments[2]);
    for (size_t i = 0; i < request->parameter_count; i++) {
        stream->asked.parameters[i].name = put_string(&at, request->parameters[i].name);
        stream->asked.parameters[i].value = put_string(&at, request->parameters[i].value);
    }
    return stream;
}

/* --- asking --- */

static const char not_his[] = "the view is not of this token";

static enum status check_parameters(const struct http_request *asked, struct error *error)
{
    static const char *const unfit[] = {"at_least", "wait_ms", "cursor", "explain"};
    for (size_t i = 0; i < sizeof unfit / sizeof unfit[0]; i++)
        if (http_request_parameter(asked, unfit[i]) != NULL)
            return error_set(error, STATUS_REJECT, "%s: a live stream does not take it", unfit[i]);
    return STATUS_OK;
}

/* The answer of now, and its id. */
static enum status ask(struct stream *stream, struct postgres *postgres,
                       const struct catalog_version *version, bool receipt_only,
                       struct query_answer **answer, char id[LIVE_ID_SIZE], struct error *error)
{
    struct rows_request rows;
    struct server *server = stream->live->server;
    size_t key_length = 0;
    char *key = NULL;
    *answer = NULL;
    /* A new version may lack a key that his rows are restricted by. */
    if (!access_fits_view(stream->asked.caller, version->view))
        return error_set(error, STATUS_REJECT, "%s", not_his);
    rows_request_init(&rows, server, &stream->asked, AS_JSON);
    enum status status = check_parameters(&stream->asked, error);
    if (status == STATUS_OK)
        status = rows_request_take(&rows, version->view, &stream->asked, error);
    if (rows.question.request.row_limit > LIVE_ROWS_MAX)
        rows.question.request.row_limit = LIVE_ROWS_MAX;
    rows.question.request.receipt_only = receipt_only;
    if (status == STATUS_OK)
        status = query_run(postgres, version, &rows.question.request, answer, error);
    if (status == STATUS_OK)
        key = rows_request_key(&rows, version, &stream->asked, &key_length);
    if (key != NULL)
        snprintf(id, LIVE_ID_SIZE, "%016" PRIx64 "%016" PRIx64, XXH3_64bits(key, key_length),
                 query_state_hash(&(*answer)->receipt));
    else if (status == STATUS_OK)
        status = error_no_memory(error);
    if (status != STATUS_OK) {
        query_answer_destroy(*answer);
        *answer = NULL;
    }
    free(key);
    rows_request_deinit(&rows);
    return status;
}

/* What has changed since the last event, or nothing; then the receipt, where one is due. */
static enum status make_event(struct stream *stream, const struct query_answer *answer,
                              const char *id, bool is_known, bool heartbeat, char **event,
                              size_t *length, struct error *error)
{
    struct live_rows now;
    *event = NULL;
    if (stream->version != answer->version)
        live_rows_deinit(&stream->told); /* other rows altogether */
    enum status status = live_rows_make(answer, &now, error);
    if (status == STATUS_OK && !is_known)
        status = live_rows_event(&stream->told, &now, &answer->receipt, id, event, length, error);
    if (status == STATUS_OK && *event == NULL && heartbeat) {
        *event = live_receipt_event(&answer->receipt, id, length);
        if (*event == NULL)
            status = error_no_memory(error);
    }
    if (status != STATUS_OK) {
        live_rows_deinit(&now);
        return status;
    }
    live_rows_deinit(&stream->told);
    stream->told = now;
    stream->version = answer->version;
    return STATUS_OK;
}

/* --- opening --- */

static void respond_stream(struct stream *stream, struct http_response *response)
{
    static const char type[] = "text/event-stream";
    response->status = 200;
    response->content_type = type;
    response->stream = (struct http_stream){stream, read_stream, release_stream};
    respond_header(response, "Cache-Control", "no-store");
    respond_header(response, "X-Accel-Buffering", "no"); /* nginx would hold events back */
}

/* On the list, unless there are too many. */
static bool enter(struct live *live, struct stream *stream)
{
    pthread_mutex_lock(&live->lock);
    bool good = !live->closing && live->count < live->limit;
    if (good) {
        stream->next = live->first;
        live->first = stream;
        live->count++;
        pthread_cond_signal(&live->changed);
    }
    pthread_mutex_unlock(&live->lock);
    return good;
}

static enum status begin(struct stream *stream, struct postgres *postgres,
                         const struct catalog_version *version, struct error *error)
{
    struct query_answer *answer = NULL;
    char id[LIVE_ID_SIZE];
    const char *last = http_request_header(stream->request, "Last-Event-ID");
    enum status status = ask(stream, postgres, version, false, &answer, id, error);
    if (status != STATUS_OK)
        return status;
    /* One who had everything when the connection broke has everything now. */
    bool is_known = last != NULL && strcmp(last, id) == 0 && !answer->has_lookups;
    status =
        make_event(stream, answer, id, is_known, true, &stream->pending, &stream->length, error);
    stream->event_us = stream->taken_us = program_monotonic_us();
    query_answer_destroy(answer);
    return status;
}

/* A refusal of a question, or why it cannot be answered now. */
static void respond_problem(const struct error *error, struct http_response *response)
{
    if (error->status == STATUS_REJECT && strcmp(error->text, not_his) == 0)
        access_refuse_view(response);
    else
        problem_respond_query(response, error);
}

void live_open(struct live *live, struct http_request *request, struct http_response *response)
{
    static const char *const offered[] = {"text/event-stream"};
    struct postgres *postgres;
    struct catalogue *catalogue;
    struct error error;
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
    struct stream *stream = create_stream(live, request);
    const struct catalog_version *version =
        catalog_current(catalogue->catalog, request->segments[2]);
    enum status status = stream == NULL ? error_no_memory(&error) : STATUS_OK;
    if (status == STATUS_OK && version != NULL)
        status = begin(stream, postgres, version, &error);
    pool_give_back(live->server->pool, postgres);
    if (status != STATUS_OK)
        respond_problem(&error, response);
    else if (version == NULL)
        catalogue_respond_no_version(catalogue, request->segments[2], response);
    else if (!enter(live, stream))
        problem_respond(response, 503, NULL,
                        "there are %zu live streams already, or the server is stopping",
                        live->limit);
    else
        respond_stream(stream, response);
    catalogue_release(live->server->catalogues, catalogue);
    if (response->status != 200 && stream != NULL)
        free_stream(stream);
}

/* --- the thread --- */

/* An event "problem" whose data is what the HTTP interface would answer. */
static char *problem_event(struct http_response *response, size_t *length)
{
    char *event = NULL;
    int written = asprintf(&event, "event: problem\ndata: %.*s\n\n",
                           (int)strcspn(response->body, "\n"), response->body);
    http_response_clear(response);
    *length = written < 0 ? 0 : (size_t)written;
    return written < 0 ? NULL : event;
}

/* What came of looking at one stream. */
struct outcome {
    char *event; /* or NULL */
    size_t length;
    bool ends;
};

static void tell_problem(const struct error *error, bool ends, struct outcome *out)
{
    struct http_response response = {0};
    respond_problem(error, &response);
    out->event = problem_event(&response, &out->length);
    out->ends = ends;
}

static bool is_due(const struct stream *stream, int64_t now_us)
{
    return now_us - stream->event_us >= LIVE_HEARTBEAT_MS * INT64_C(1000);
}

/* Asks for one stream. */
static void look(struct stream *stream, struct postgres *postgres, bool moved, uint64_t seen,
                 struct outcome *out)
{
    struct server *server = stream->live->server;
    struct query_answer *answer = NULL;
    struct error error = {0};
    char id[LIVE_ID_SIZE];
    bool heartbeat = is_due(stream, program_monotonic_us());
    struct catalogue *catalogue = catalogue_take(server->catalogues);
    const struct catalog_version *version =
        catalogue == NULL ? NULL : catalog_current(catalogue->catalog, stream->asked.segments[2]);
    enum status status = STATUS_OK;
    if (version == NULL)
        status = error_set(&error, STATUS_FENCED, "there is no such view any more");
    if (status == STATUS_OK)
        status = ask(stream, postgres, version, !moved, &answer, id, &error);
    if (status == STATUS_OK && moved)
        status =
            make_event(stream, answer, id, false, heartbeat, &out->event, &out->length, &error);
    else if (status == STATUS_OK)
        out->event = live_receipt_event(&answer->receipt, id, &out->length);
    if (status == STATUS_OK && moved)
        stream->seen = seen;
    query_answer_destroy(answer);
    catalogue_release(server->catalogues, catalogue);
    struct error refreshing;
    if (status == STATUS_FENCED &&
        catalogue_refresh(server->catalogues, postgres, &refreshing) == STATUS_OK) {
        catalogue = catalogue_take(server->catalogues);
        bool is_gone = !catalogue_has_view(catalogue, stream->asked.segments[2]);
        catalogue_release(server->catalogues, catalogue);
        if (is_gone) {
            struct http_response response = {0};
            problem_respond(&response, 404, NULL, "the view is gone");
            out->event = problem_event(&response, &out->length);
            out->ends = true;
            return;
        }
    }
    /* One that takes too long would keep every other stream waiting, again and again. */
    if (status == STATUS_REJECT || (status != STATUS_OK && problem_is_timeout(&error)))
        tell_problem(&error, true, out);
    else if (status != STATUS_OK && heartbeat)
        tell_problem(&error, false, out);
}

/* Takes what came of it. */
static void deliver(struct stream *stream, struct outcome *outcome)
{
    pthread_mutex_lock(&stream->live->lock);
    if (outcome->event != NULL) {
        put_pending(stream, outcome->event, outcome->length);
        stream->event_us = program_monotonic_us();
    }
    stream->ending = stream->ending || outcome->ends;
    if (outcome->event != NULL || outcome->ends)
        wake(stream);
    bool last = leave(stream);
    pthread_mutex_unlock(&stream->live->lock);
    if (last)
        free_stream(stream);
}

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

/* A reader that takes nothing. Its connection is there: the stream is on the list. */
static void cut_if_stuck(struct stream *stream, int64_t now_us)
{
    if (stream->pending == NULL || now_us - stream->taken_us < LIVE_STUCK_MS * INT64_C(1000))
        return;
    stream->ending = true;
    http_request_cut(stream->request);
}

/* Those that may get an event, each with one more user; whose reader has gone ends. */
static size_t borrow_idle(struct live *live, struct stream **out)
{
    size_t count = 0;
    int64_t now_us = program_monotonic_us();
    for (struct stream *stream = live->first; stream != NULL; stream = stream->next) {
        cut_if_stuck(stream, now_us);
        if (stream->pending != NULL || stream->ending)
            continue;
        if (stream->suspended && http_request_is_closed(stream->request)) {
            stream->ending = true;
            wake(stream);
            continue;
        }
        stream->users++;
        out[count++] = stream;
    }
    return count;
}

static enum status read_topics(struct live *live, struct postgres **postgres, PGresult **topics,
                               struct error *error)
{
    struct pool *pool = live->server->pool;
    enum status status = pool_take(pool, postgres, error);
    if (status != STATUS_OK)
        return status;
    status = postgres_query(*postgres, topics_sql, 0, NULL, topics, error);
    if (status == STATUS_RETRY && pool_renew(pool, *postgres, error)) {
        PQclear(*topics);
        *topics = NULL;
        status = postgres_query(*postgres, topics_sql, 0, NULL, topics, error);
    }
    return status;
}

static bool is_closing(struct live *live)
{
    pthread_mutex_lock(&live->lock);
    bool closing = live->closing;
    pthread_mutex_unlock(&live->lock);
    return closing;
}

static void look_at_all(struct live *live, struct stream **streams, size_t count)
{
    struct postgres *postgres = NULL;
    PGresult *topics = NULL;
    struct error error = {0};
    enum status status = read_topics(live, &postgres, &topics, &error);
    for (size_t i = 0; i < count; i++) {
        struct outcome outcome = {0};
        struct stream *stream = streams[i];
        bool due = is_due(stream, program_monotonic_us());
        uint64_t seen = 0;
        if (status == STATUS_OK)
            seen = topic_state(live->server, topics, stream->asked.segments[2]);
        bool moved = seen == 0 || seen != stream->seen;
        if (is_closing(live))
            due = false; /* the end does not wait for every stream's question */
        else if (status == STATUS_OK && (moved || due))
            look(stream, postgres, moved, seen, &outcome);
        else if (status != STATUS_OK && due)
            tell_problem(&error, false, &outcome);
        deliver(stream, &outcome);
    }
    PQclear(topics);
    if (postgres != NULL)
        pool_give_back(live->server->pool, postgres);
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
    for (struct stream *stream = live->first; stream != NULL; stream = stream->next)
        wake(stream);
    pthread_mutex_unlock(&live->lock);
    free(streams);
    return NULL;
}

/* --- life --- */

enum status live_create(struct server *server, struct live **out, struct error *error)
{
    struct live *live = calloc(1, sizeof *live);
    *out = live;
    if (live == NULL)
        return error_no_memory(error);
    live->server = server;
    live->limit = (size_t)server->config->serving_live_streams;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&live->lock, NULL);
    pthread_cond_init(&live->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&live->thread, NULL, run, live) == 0)
        return STATUS_OK;
    live->joined = true;
    live_destroy(live);
    *out = NULL;
    return error_set(error, STATUS_FATAL, "cannot start a thread");
}

void live_close(struct live *live)
{
    pthread_mutex_lock(&live->lock);
    live->closing = true;
    pthread_cond_broadcast(&live->changed);
    pthread_mutex_unlock(&live->lock);
    if (!live->joined)
        pthread_join(live->thread, NULL);
    live->joined = true;
}

void live_destroy(struct live *live)
{
    if (live == NULL)
        return;
    live_close(live);
    pthread_cond_destroy(&live->changed);
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
