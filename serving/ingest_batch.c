/* One request's events: see serving/ingest_batch.h.
 *
 * Invariant: every event of the body is told of: it is counted as accepted, once Kafka has
 * acknowledged it, or stands in the answer's list with what became of it. "Accepted" is said of
 * nothing else. */
#include "serving/ingest_batch.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/program/program.h"
#include "core/records/event_parser.h"
#include "core/records/record_key.h"
#include "serving/problem.h"

/* --- the body --- */

/* The text to split, in memory that may be written. */
static bool unpack(struct ingest_batch *batch, char **text, size_t *length,
                   struct http_response *response)
{
    struct upload *body = &batch->request->body;
    const char *encoding = http_request_header(batch->request, "Content-Encoding");
    struct error error;
    *text = body->data;
    *length = body->length;
    if (encoding == NULL || strcasecmp(encoding, "identity") == 0)
        return true;
    if (strcasecmp(encoding, "gzip") != 0) {
        problem_respond(response, 415, NULL, "Content-Encoding: gzip or nothing is expected");
        return false;
    }
    size_t max = (size_t)batch->server->config->serving_ingest_body_bytes;
    enum status status =
        ingest_gunzip(body->data, body->length, max, &batch->unpacked, length, &error);
    upload_release(body);
    *text = batch->unpacked;
    if (status == STATUS_OK)
        return true;
    if (status == STATUS_REJECT)
        problem_respond(response, strstr(error.text, "larger") != NULL ? 413 : 400, NULL, "%s",
                        error.text);
    else
        problem_respond_error(response, &error);
    return false;
}

static bool take_pieces(struct ingest_batch *batch, const struct ingest_piece *pieces, size_t count)
{
    batch->events = calloc(count, sizeof *batch->events);
    if (batch->events == NULL)
        return false;
    batch->count = count;
    for (size_t i = 0; i < count; i++)
        batch->events[i] = (struct ingest_event){.batch = batch, .piece = pieces[i]};
    return true;
}

static bool has_body(const struct upload *body, struct http_response *response)
{
    if (body->fault == 413)
        problem_respond(response, 413, NULL, "the body is larger than %zu bytes", body->max);
    else if (body->fault != 0)
        problem_respond(response, 503, NULL, "too many bodies are being received");
    else if (body->length == 0)
        problem_respond(response, 400, NULL, "the request has no body");
    else
        return true;
    return false;
}

bool ingest_batch_read(struct ingest_batch *batch, struct http_response *response)
{
    bool is_lines = false;
    char *text = NULL;
    size_t length = 0;
    struct ingest_piece *pieces = NULL;
    struct error error;
    if (!has_body(&batch->request->body, response))
        return false;
    /* Asked for without exception: no page in a browser can send these without being allowed to. */
    if (!ingest_media(http_request_header(batch->request, "Content-Type"), &is_lines)) {
        problem_respond(response, 415, NULL,
                        "Content-Type: application/json or application/x-ndjson is expected");
        return false;
    }
    if (!unpack(batch, &text, &length, response))
        return false;
    enum status status =
        ingest_split(text, length, is_lines, (size_t)batch->server->config->serving_ingest_events,
                     &pieces, &batch->count, &batch->form, &error);
    if (status == STATUS_OK && !take_pieces(batch, pieces, batch->count))
        status = error_no_memory(&error);
    free(pieces);
    if (status == STATUS_OK)
        return true;
    batch->count = 0;
    if (status == STATUS_REJECT)
        problem_respond(response, strstr(error.text, "more than") != NULL ? 413 : 400, NULL, "%s",
                        error.text);
    else
        problem_respond_error(response, &error);
    return false;
}

bool ingest_batch_hash(const struct ingest_batch *batch, const char *key_field,
                       char out[2 * INGEST_HASH_BYTES + 1])
{
    char head[64];
    unsigned char hash[INGEST_HASH_BYTES];
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int length = snprintf(head, sizeof head, "%d %d %zu", batch->form, batch->is_whole,
                          key_field != NULL ? strlen(key_field) : SIZE_MAX);
    bool good = context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1 &&
                EVP_DigestUpdate(context, head, (size_t)length + 1) == 1 &&
                EVP_DigestUpdate(context, key_field != NULL ? key_field : "",
                                 key_field != NULL ? strlen(key_field) : 0) == 1;
    for (size_t i = 0; good && i < batch->count; i++) {
        const struct ingest_piece *piece = &batch->events[i].piece;
        const uint64_t place[2] = {piece->number, piece->length};
        good = EVP_DigestUpdate(context, place, sizeof place) == 1 &&
               EVP_DigestUpdate(context, piece->text, piece->length) == 1;
    }
    good = good && EVP_DigestFinal_ex(context, hash, NULL) == 1;
    EVP_MD_CTX_free(context);
    for (size_t i = 0; good && i < sizeof hash; i++)
        snprintf(out + 2 * i, 3, "%02x", hash[i]);
    return good;
}

/* --- judging --- */

static const char no_event[] = "this is no event of the source";

enum {
    REASONS_BYTES = 256 << 10, /* of one request; who is refused more has a fault of one kind */
    LISTED_BYTES = 1024,       /* about what an entry of the answer's list takes until it is sent */
};

static const char *keep_reason(struct ingest_batch *batch, const struct error *error)
{
    const char *kept = batch->arena.reserved_bytes < REASONS_BYTES
                           ? arena_copy(&batch->arena, error->text, strlen(error->text))
                           : NULL;
    return kept != NULL ? kept : no_event;
}

static enum status judge_event(struct ingest_batch *batch, struct ingest_event *event,
                               struct event_parser *parser, size_t key_field, struct error *error)
{
    struct event parsed;
    struct ingest_piece *piece = &event->piece;
    enum status status =
        event_parser_parse(parser, piece->text, piece->length, piece->length, &parsed, error);
    if (status == STATUS_REJECT) {
        event->outcome = INGEST_INVALID;
        event->reason = keep_reason(batch, error);
        batch->invalid_count++;
        return STATUS_OK;
    }
    if (status == STATUS_OK && key_field != SIZE_MAX)
        status = record_key_text(&parsed, key_field, &batch->arena, &event->key, &event->key_length,
                                 error);
    ingest_unbreak(piece);
    return status;
}

enum status ingest_batch_judge(struct ingest_batch *batch, const struct source *source,
                               size_t key_field, struct error *error)
{
    struct event_parser *parser = NULL;
    enum status status = event_parser_create(source, &parser, error);
    if (status == STATUS_OK)
        event_parser_unmask(parser); /* the record that is sent has the values, too */
    for (size_t i = 0; status == STATUS_OK && i < batch->count; i++)
        status = judge_event(batch, &batch->events[i], parser, key_field, error);
    event_parser_destroy(parser);
    return status;
}

/* --- sending --- */

static void leave(struct ingest_batch *batch)
{
    if (atomic_fetch_sub(&batch->left, 1) == 1)
        http_request_resume(batch->request);
}

static void reported(struct ingest_record *record, const struct kafka_report *report)
{
    struct ingest_event *event = (struct ingest_event *)record;
    static const enum ingest_outcome outcomes[] = {
        [KAFKA_WRITTEN] = INGEST_ACCEPTED,
        [KAFKA_REFUSED] = INGEST_INVALID,
        [KAFKA_NOT_WRITTEN] = INGEST_NOT_WRITTEN,
        [KAFKA_UNKNOWN] = INGEST_UNKNOWN,
    };
    event->outcome = outcomes[report->fate];
    event->reason = report->reason;
    event->partition = report->partition;
    event->offset = report->offset;
    leave(event->batch);
}

static void send_event(struct ingest_batch *batch, struct ingest_event *event)
{
    struct error error;
    event->record.reported = reported;
    event->is_sent = true;
    atomic_fetch_add(&batch->left, 1);
    enum status status =
        ingest_send(batch->server->ingest, batch->topic, event->key, event->key_length,
                    event->piece.text, event->piece.length, &event->record, &error);
    if (status == STATUS_OK)
        return;
    atomic_fetch_sub(&batch->left, 1); /* never the last one: ours is among them */
    event->outcome = status == STATUS_REJECT ? INGEST_INVALID : INGEST_NOT_WRITTEN;
    event->reason = keep_reason(batch, &error);
}

/* Room for so many bytes, until the answer is sent. */
static bool enter(struct ingest_batch *batch, size_t bytes)
{
    if (!ingest_enter(batch->server->ingest, bytes))
        return false;
    batch->entered_bytes += bytes;
    return true;
}

bool ingest_batch_enter_list(struct ingest_batch *batch, struct http_response *response)
{
    /* With one of them all are refused where it is all or nothing. */
    size_t listed =
        batch->is_whole && batch->invalid_count > 0 ? batch->count : batch->invalid_count;
    size_t bytes =
        batch->count * sizeof *batch->events + batch->arena.reserved_bytes + listed * LISTED_BYTES;
    if (enter(batch, bytes))
        return true;
    ingest_count(batch->server->ingest, INGEST_HTTP, INGEST_OVERFLOW, batch->count);
    if (bytes > (size_t)batch->server->config->serving_ingest_memory_bytes)
        problem_respond(response, 413, NULL,
                        "the answer on %zu events would take more than serving.ingest_memory; "
                        "send fewer at a time: nothing was written",
                        batch->count);
    else
        problem_respond(response, 503, NULL,
                        "too many events are being answered already; nothing was written");
    return false;
}

bool ingest_batch_send(struct ingest_batch *batch)
{
    size_t bytes = 0;
    for (size_t i = 0; i < batch->count; i++)
        bytes += batch->events[i].piece.length + batch->events[i].key_length;
    if (!enter(batch, bytes))
        return false;
    http_request_suspend(batch->request);
    atomic_store(&batch->left, 1);
    for (size_t i = 0; i < batch->count; i++)
        if (batch->events[i].outcome == INGEST_ACCEPTED)
            send_event(batch, &batch->events[i]);
    /* The producer has copies; nobody looks at the texts any more. */
    upload_release(&batch->request->body);
    free(batch->unpacked);
    batch->unpacked = NULL;
    leave(batch);
    return true;
}

/* --- the answer --- */

static const char *const outcome_names[] = {
    [INGEST_ACCEPTED] = "accepted",       [INGEST_INVALID] = "refused",
    [INGEST_NOT_WRITTEN] = "not_written", [INGEST_UNKNOWN] = "unknown",
    [INGEST_OVERFLOW] = "not_written",
};

/* {"topic": [offset behind the last event of partition 0, ...]}, null where none was written. */
static json_t *make_offsets(const struct ingest_batch *batch)
{
    json_t *list = json_array();
    for (size_t i = 0; i < batch->count; i++) {
        const struct ingest_event *event = &batch->events[i];
        if (event->outcome != INGEST_ACCEPTED)
            continue;
        while (json_array_size(list) <= (size_t)event->partition)
            if (json_array_append_new(list, json_null()) != 0)
                return list;
        json_t *known = json_array_get(list, (size_t)event->partition);
        if (json_is_null(known) || json_integer_value(known) <= event->offset)
            (void)json_array_set_new(list, (size_t)event->partition,
                                     json_integer(event->offset + 1));
    }
    return json_pack("{s:o}", batch->topic, list);
}

static json_t *make_result(const struct ingest_batch *batch, const struct ingest_event *event)
{
    json_t *reason = json_string(event->reason);
    return json_pack("{s:I, s:s, s:o}", batch->form == INGEST_LINES ? "line" : "index",
                     (json_int_t)event->piece.number, "outcome", outcome_names[event->outcome],
                     "reason", reason != NULL ? reason : json_string(no_event));
}

static json_t *make_answer(const struct ingest_batch *batch, const size_t counts[INGEST_OUTCOMES])
{
    json_t *events = json_array();
    for (size_t i = 0; i < batch->count; i++)
        if (batch->events[i].outcome != INGEST_ACCEPTED)
            (void)json_array_append_new(events, make_result(batch, &batch->events[i]));
    return json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:o, s:o}", "source", batch->source, "accepted",
        (json_int_t)counts[INGEST_ACCEPTED], "refused", (json_int_t)counts[INGEST_INVALID],
        "not_written", (json_int_t)counts[INGEST_NOT_WRITTEN], "unknown",
        (json_int_t)counts[INGEST_UNKNOWN], "offsets", make_offsets(batch), "events", events);
}

/* What is known of a reserved key goes to PostgreSQL. Where that fails it stays reserved, so that
 * nothing is written twice: the next one who uses it is told that nobody knows. */
static void settle(struct ingest_batch *batch, int status, const char *text,
                   const size_t counts[INGEST_OUTCOMES])
{
    struct postgres *postgres = NULL;
    struct error error;
    if (!batch->has_key)
        return;
    batch->has_key = false;
    enum status settled = pool_take(batch->server->pool, &postgres, &error);
    if (settled == STATUS_OK && text != NULL)
        settled = ingest_key_done(postgres, &batch->key, status, text, &error);
    else if (settled == STATUS_OK && counts[INGEST_ACCEPTED] + counts[INGEST_UNKNOWN] > 0)
        settled = ingest_key_unknown(postgres, &batch->key, &error);
    else if (settled == STATUS_OK)
        settled = ingest_key_release(postgres, &batch->key, &error);
    pool_give_back(batch->server->pool, postgres);
    if (settled != STATUS_OK)
        program_log(LOG_WARNING, "source %s: the answer to an idempotency key is not kept: %s",
                    batch->source, error.text);
}

void ingest_batch_release_key(struct ingest_batch *batch)
{
    const size_t counts[INGEST_OUTCOMES] = {0};
    settle(batch, 0, NULL, counts);
}

/* Counts the events by what became of them. One that is good and was not sent was held back for the
 * sake of the others. */
static void count(const struct ingest_batch *batch, size_t counts[INGEST_OUTCOMES])
{
    for (size_t i = 0; i < batch->count; i++) {
        struct ingest_event *event = &batch->events[i];
        if (event->outcome == INGEST_ACCEPTED && !event->is_sent) {
            event->outcome = INGEST_NOT_WRITTEN;
            event->reason = "others of the request were refused";
        }
        counts[event->outcome]++;
    }
    for (int outcome = 0; outcome < INGEST_OUTCOMES; outcome++)
        ingest_count(batch->server->ingest, INGEST_HTTP, (enum ingest_outcome)outcome,
                     counts[outcome]);
}

static void respond_written(struct ingest_batch *batch, int status, json_t *answer,
                            const size_t counts[INGEST_OUTCOMES], struct http_response *response)
{
    char *text = answer != NULL ? json_dumps(answer, JSON_COMPACT) : NULL;
    settle(batch, status, text, counts);
    respond_body(response, "application/json", text, text != NULL ? strlen(text) : 0);
    if (text != NULL)
        response->status = status;
    json_decref(answer);
}

void ingest_batch_answer(struct ingest_batch *batch, struct http_response *response)
{
    size_t counts[INGEST_OUTCOMES] = {0};
    count(batch, counts);
    json_t *answer = make_answer(batch, counts);
    if (counts[INGEST_UNKNOWN] > 0) {
        settle(batch, 504, NULL, counts);
        problem_respond_more(response, 504, "urn:dovetail:outcome-unknown", answer,
                             "Kafka did not answer in time: %zu events are written, %zu are not, "
                             "and %zu may be or not",
                             counts[INGEST_ACCEPTED],
                             counts[INGEST_INVALID] + counts[INGEST_NOT_WRITTEN],
                             counts[INGEST_UNKNOWN]);
    } else if (counts[INGEST_ACCEPTED] > 0) {
        respond_written(batch, counts[INGEST_ACCEPTED] == batch->count ? 200 : 207, answer, counts,
                        response);
    } else if (counts[INGEST_INVALID] > 0) {
        settle(batch, 422, NULL, counts);
        problem_respond_more(response, 422, NULL, answer,
                             "%zu of %zu events are refused; nothing was written",
                             counts[INGEST_INVALID], batch->count);
    } else {
        settle(batch, 503, NULL, counts);
        problem_respond_more(response, 503, NULL, answer,
                             "Kafka did not take the events in time; nothing was written");
    }
}

void ingest_batch_destroy(struct ingest_batch *batch)
{
    if (batch == NULL)
        return;
    if (batch->entered_bytes > 0)
        ingest_leave(batch->server->ingest, batch->entered_bytes);
    free(batch->unpacked);
    free(batch->events);
    arena_deinit(&batch->arena);
    free(batch);
}
