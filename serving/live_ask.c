/* The questions of live streams: see serving/live_internal.h.
 *
 * PostgreSQL being away ends no stream: its reader is told so at each heartbeat, and when it is
 * back gets what has changed since. What a question cannot be any more (its view is gone, a new
 * version has not its columns, it has too many rows or takes too long) is told as a problem, and
 * ends the stream; so is any other failure, once it is sure that the catalogue is not behind. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/program/program.h"
#include "serving/access.h"
#include "serving/live_internal.h"
#include "serving/problem.h"
#include "serving/rows_request.h"

static const char not_his[] = "the view is not of this token";

bool live_is_due(const struct stream *stream, int64_t now_us)
{
    return now_us - stream->event_us >= LIVE_HEARTBEAT_MS * INT64_C(1000);
}

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
                 query_state_of(&(*answer)->receipt).low);
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

/* --- events --- */

/* Of serving.memory, for as long as the stream has it. */
static enum status take_memory(struct stream *stream, size_t bytes, struct error *error)
{
    if (query_budget_take(&stream->live->server->budget, bytes))
        return STATUS_OK;
    (void)error_set(error, STATUS_RETRY,
                    "other queries and streams use the memory for answers (serving.memory)");
    snprintf(error->sqlstate, sizeof error->sqlstate, "54000");
    return STATUS_RETRY;
}

/* Rows become the stream's; *event may be NULL. */
static enum status hold(struct stream *stream, struct live_rows *now, int version, char **event,
                        size_t length, struct error *error)
{
    size_t event_bytes = *event != NULL ? length : 0;
    enum status status = take_memory(stream, now->bytes + event_bytes, error);
    if (status != STATUS_OK) {
        live_rows_deinit(now);
        free(*event);
        *event = NULL;
        return status;
    }
    query_budget_give_back(&stream->live->server->budget, stream->told.bytes);
    live_rows_deinit(&stream->told);
    stream->told = *now;
    stream->version = version;
    return STATUS_OK;
}

/* What has changed since the last event, or nothing; then the receipt, where one is due. */
static enum status make_event(struct stream *stream, const struct query_answer *answer,
                              const char *id, bool is_known, bool heartbeat, char **event,
                              size_t *length, struct error *error)
{
    static const struct live_rows nothing;
    struct live_rows now;
    /* Of another version they are other rows altogether. */
    const struct live_rows *told = stream->version == answer->version ? &stream->told : &nothing;
    *event = NULL;
    enum status status = live_rows_make(answer, &now, error);
    if (status == STATUS_OK && !is_known)
        status = live_rows_event(told, &now, &answer->receipt, id, event, length, error);
    if (status == STATUS_OK && *event == NULL && heartbeat) {
        *event = live_receipt_event(&answer->receipt, id, length);
        if (*event == NULL)
            status = error_no_memory(error);
    }
    if (status != STATUS_OK) {
        live_rows_deinit(&now);
        return status;
    }
    return hold(stream, &now, answer->version, event, *length, error);
}

void live_respond_problem(const struct error *error, struct http_response *response)
{
    if (error->status == STATUS_REJECT && strcmp(error->text, not_his) == 0)
        access_refuse_view(response);
    else
        problem_respond_query(response, error);
}

/* However little memory is left, a reader is told why. */
static void put_problem(struct stream *stream, struct http_response *response,
                        struct live_outcome *out)
{
    int written = asprintf(&out->event, "event: problem\ndata: %.*s\n\n",
                           (int)strcspn(response->body, "\n"), response->body);
    http_response_clear(response);
    if (written < 0)
        out->event = NULL;
    out->length = written < 0 ? 0 : (size_t)written;
    atomic_fetch_add(&stream->live->server->budget.used_bytes, out->length);
}

void live_tell_problem(struct stream *stream, const struct error *error, bool ends,
                       struct live_outcome *out)
{
    struct http_response response = {0};
    live_respond_problem(error, &response);
    put_problem(stream, &response, out);
    out->ends = ends;
}

enum status live_begin(struct stream *stream, struct postgres *postgres,
                       const struct catalog_version *version, struct error *error)
{
    struct query_answer *answer = NULL;
    char id[LIVE_ID_SIZE];
    char *event = NULL;
    size_t length = 0;
    const char *last = http_request_header(stream->request, "Last-Event-ID");
    enum status status = ask(stream, postgres, version, false, &answer, id, error);
    if (status != STATUS_OK)
        return status;
    /* One who had everything when the connection broke has everything now. */
    bool is_known = last != NULL && strcmp(last, id) == 0 && !answer->has_lookups;
    status = make_event(stream, answer, id, is_known, true, &event, &length, error);
    if (status == STATUS_OK)
        live_stream_put(stream, event, length);
    stream->event_us = program_monotonic_us();
    query_answer_destroy(answer);
    return status;
}

/* --- one look --- */

static enum status ask_by(struct stream *stream, struct postgres *postgres,
                          const struct catalogue *catalogue, bool heartbeat,
                          struct live_outcome *out, struct error *error)
{
    struct query_answer *answer = NULL;
    char id[LIVE_ID_SIZE];
    const struct catalog_version *version =
        catalogue == NULL ? NULL : catalog_current(catalogue->catalog, stream->asked.segments[2]);
    if (version == NULL)
        return error_set(error, STATUS_FENCED, "there is no such view any more");
    enum status status = ask(stream, postgres, version, !stream->moved, &answer, id, error);
    if (status == STATUS_OK && stream->moved) {
        status = make_event(stream, answer, id, false, heartbeat, &out->event, &out->length, error);
    } else if (status == STATUS_OK) {
        out->event = live_receipt_event(&answer->receipt, id, &out->length);
        status =
            out->event == NULL ? error_no_memory(error) : take_memory(stream, out->length, error);
        if (status != STATUS_OK) {
            free(out->event);
            out->event = NULL;
        }
    }
    query_answer_destroy(answer);
    return status;
}

/* After a failure that a newer catalogue may mend; true: there is a newer one than `used`. */
static bool refresh(struct stream *stream, struct postgres *postgres, const struct catalogue *used,
                    struct live_outcome *out)
{
    struct server *server = stream->live->server;
    const char *view = stream->asked.segments[2];
    struct error error;
    if (catalogue_refresh(server->catalogues, postgres, &error) != STATUS_OK)
        return false;
    struct catalogue *newest = catalogue_take(server->catalogues);
    bool changed = newest != used;
    if (!catalogue_has_view(newest, view)) {
        struct http_response response = {0};
        problem_respond(&response, 404, NULL, "the view is gone");
        put_problem(stream, &response, out);
        out->ends = true;
    }
    catalogue_release(server->catalogues, newest);
    return changed;
}

void live_ask(struct stream *stream, struct postgres *postgres, struct live_outcome *out)
{
    struct server *server = stream->live->server;
    struct error error = {0};
    int64_t now_us = program_monotonic_us();
    bool heartbeat = live_is_due(stream, now_us);
    struct catalogue *catalogue = catalogue_take(server->catalogues);
    enum status status = ask_by(stream, postgres, catalogue, heartbeat, out, &error);
    bool changed = status != STATUS_OK && status != STATUS_REJECT &&
                   postgres_is_connected(postgres) && refresh(stream, postgres, catalogue, out);
    catalogue_release(server->catalogues, catalogue);
    if (status == STATUS_OK && stream->moved)
        stream->seen = stream->now_seen;
    /* With a newer catalogue the next look may succeed, and it comes soon. */
    if (status == STATUS_OK || changed || out->ends)
        return;
    /* One that takes too long would do so again and again. */
    bool lasts = status == STATUS_REJECT || status == STATUS_FATAL || problem_is_timeout(&error);
    if (lasts || heartbeat)
        live_tell_problem(stream, &error, lasts, out);
    stream->again_us = program_monotonic_us() + LIVE_AGAIN_MS * INT64_C(1000);
}
