/* Events by UDP: see serving/udp.h.
 *
 * Invariant: memory is bounded by DATAGRAMS buffers and by the room that `ingest` gives for records
 * on their way, of which datagrams get half, so that they cannot take the HTTP door's. Every event
 * of a datagram that was received is counted once, by what became of it.
 *
 * One thread receives; it waits for nothing but datagrams. Another keeps the catalogue new, because
 * asking PostgreSQL may take long. Neither ends before udp_stop. */
#include "serving/udp.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/http/listen.h"
#include "core/program/program.h"
#include "core/records/event_parser.h"
#include "core/records/record_key.h"
#include "serving/ingest_body.h"

enum {
    DATAGRAMS = 32, /* received at once */
    DATAGRAM_BYTES = 65536,
    EVENTS_MAX = 4096, /* of one datagram */
    RECEIVE_BUFFER_BYTES = 4 << 20,
    REFRESH_MS = 2000,
    TELL_EVERY_US = 10000000,
    DRAIN_ROUNDS = 4096, /* of DATAGRAMS each: what may lie in the kernel's queue */
    SETTLE_MS = 2000,    /* behind the producer's own time-out */
};

/* A record on its way. */
struct udp_record {
    struct ingest_record record; /* first: the report casts back */
    struct udp *udp;
    size_t bytes;
};

struct udp {
    const struct config *config;
    struct pool *pool;
    struct catalogue_holder *catalogues;
    struct ingest *ingest;
    struct listener listener;
    int wake_fd;
    pthread_t receiver, refresher;
    bool receiving, refreshing;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* closing, known, or pending fell to 0 */
    bool closing;
    bool known;           /* the catalogue has been read once */
    bool tried;           /* or that was tried */
    size_t pending_bytes; /* under the lock, as are these three */
    size_t pending_count;
    size_t limit_bytes;
    /* The receiver's own. */
    char (*buffers)[DATAGRAM_BYTES + 1];
    struct catalogue *catalogue;
    const struct source *source;
    struct event_parser *parser;
    size_t key_field;
    struct arena arena;
    uint32_t lost_in_kernel; /* as the kernel counts */
    uint64_t untold;         /* refused events since the log was told */
    int64_t told_us;
    char reason[ERROR_TEXT_BYTES];
    atomic_uint_fast64_t datagrams, lost, without_source;
};

/* --- the source --- */

static void forget_source(struct udp *udp)
{
    event_parser_destroy(udp->parser);
    udp->parser = NULL;
    udp->source = NULL;
    catalogue_release(udp->catalogues, udp->catalogue);
    udp->catalogue = NULL;
}

/* Takes up the newest catalogue. False: the source is not there, or not known yet. */
static bool know_source(struct udp *udp)
{
    struct error error;
    const char *key = udp->config->serving_udp_key;
    struct catalogue *newest = catalogue_take(udp->catalogues);
    if (newest == NULL || newest == udp->catalogue) { /* NULL: it stops before one was known */
        catalogue_release(udp->catalogues, newest);
        return udp->source != NULL;
    }
    forget_source(udp);
    udp->catalogue = newest;
    const struct source *source = catalog_source(newest->catalog, udp->config->serving_udp_source);
    udp->key_field = SIZE_MAX;
    if (source == NULL)
        program_log(LOG_WARNING, "serving.udp_source: there is no source %s",
                    udp->config->serving_udp_source);
    else if (key != NULL && !record_key_field(source, key, &udp->key_field))
        program_log(LOG_WARNING, "serving.udp_key: source %s has no field %s", source->name, key);
    else if (event_parser_create(source, &udp->parser, &error) != STATUS_OK)
        program_log(LOG_ERR, "%s", error.text);
    else
        udp->source = source;
    if (udp->source != NULL)
        event_parser_unmask(udp->parser); /* the record that is sent has the values, too */
    return udp->source != NULL;
}

/* One attempt is made in any case, also where the end comes at once. */
static void *refresh(void *context)
{
    struct udp *udp = context;
    bool closing;
    do {
        struct postgres *postgres = NULL;
        struct error ignored; /* the pool tells why; the source stays as it was */
        struct timespec until;
        bool known = pool_take(udp->pool, &postgres, &ignored) == STATUS_OK &&
                     catalogue_refresh(udp->catalogues, postgres, &ignored) == STATUS_OK;
        pool_give_back(udp->pool, postgres);
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += REFRESH_MS / 1000;
        pthread_mutex_lock(&udp->lock);
        udp->known = udp->known || known;
        udp->tried = true;
        pthread_cond_broadcast(&udp->changed);
        while (!udp->closing &&
               pthread_cond_timedwait(&udp->changed, &udp->lock, &until) != ETIMEDOUT)
            ;
        closing = udp->closing;
        pthread_mutex_unlock(&udp->lock);
    } while (!closing);
    return NULL;
}

/* --- events --- */

static bool enter(struct udp *udp, size_t bytes)
{
    pthread_mutex_lock(&udp->lock);
    bool room = udp->pending_bytes + bytes <= udp->limit_bytes;
    if (room) {
        udp->pending_bytes += bytes;
        udp->pending_count++;
    }
    pthread_mutex_unlock(&udp->lock);
    return room;
}

static void leave(struct udp *udp, size_t bytes)
{
    pthread_mutex_lock(&udp->lock);
    udp->pending_bytes -= bytes;
    if (--udp->pending_count == 0)
        pthread_cond_broadcast(&udp->changed);
    pthread_mutex_unlock(&udp->lock);
}

static void finish(struct udp_record *record, enum ingest_outcome outcome)
{
    struct udp *udp = record->udp;
    size_t bytes = record->bytes;
    ingest_count(udp->ingest, INGEST_UDP, outcome, 1);
    ingest_leave(udp->ingest, bytes);
    free(record);
    leave(udp, bytes); /* the last: nothing of ours may be used behind it */
}

static void reported(struct ingest_record *record, const struct kafka_report *report)
{
    static const enum ingest_outcome outcomes[] = {
        [KAFKA_WRITTEN] = INGEST_ACCEPTED,
        [KAFKA_REFUSED] = INGEST_INVALID,
        [KAFKA_NOT_WRITTEN] = INGEST_NOT_WRITTEN,
        [KAFKA_UNKNOWN] = INGEST_UNKNOWN,
    };
    finish((struct udp_record *)record, outcomes[report->fate]);
}

/* What is refused is told now and then, in numbers. Reasons may quote values, which a mask hides.
 */
static void note_refusal(struct udp *udp, const char *reason)
{
    ingest_count(udp->ingest, INGEST_UDP, INGEST_INVALID, 1);
    udp->untold++;
    snprintf(udp->reason, sizeof udp->reason, "%s",
             udp->source->mask_count > 0 ? "not told of a source with a mask" : reason);
}

static void tell_refusals(struct udp *udp)
{
    int64_t now_us = program_monotonic_us();
    if (udp->untold == 0 || (udp->told_us != 0 && now_us - udp->told_us < TELL_EVERY_US))
        return;
    program_log(LOG_WARNING, "UDP: %" PRIu64 " events of source %s were refused; the last: %s",
                udp->untold, udp->config->serving_udp_source, udp->reason);
    udp->untold = 0;
    udp->told_us = now_us;
}

static void send_piece(struct udp *udp, const struct ingest_piece *piece, const char *key,
                       size_t key_length)
{
    struct error error;
    size_t bytes = piece->length + key_length + sizeof(struct udp_record);
    struct udp_record *record = malloc(sizeof *record);
    bool entered = record != NULL && ingest_enter(udp->ingest, bytes);
    if (!entered || !enter(udp, bytes)) {
        if (entered)
            ingest_leave(udp->ingest, bytes);
        free(record);
        ingest_count(udp->ingest, INGEST_UDP, INGEST_OVERFLOW, 1);
        return;
    }
    *record = (struct udp_record){.record.reported = reported, .udp = udp, .bytes = bytes};
    enum status status = ingest_send(udp->ingest, udp->source->topic, key, key_length, piece->text,
                                     piece->length, &record->record, &error);
    if (status != STATUS_OK)
        finish(record, status == STATUS_REJECT ? INGEST_INVALID : INGEST_OVERFLOW);
}

static void take_piece(struct udp *udp, struct ingest_piece *piece)
{
    struct event event;
    struct error error;
    const char *key = NULL;
    size_t key_length = 0;
    enum status status =
        event_parser_parse(udp->parser, piece->text, piece->length, piece->length, &event, &error);
    arena_reset(&udp->arena);
    if (status == STATUS_OK && udp->key_field != SIZE_MAX)
        status = record_key_text(&event, udp->key_field, &udp->arena, &key, &key_length, &error);
    if (status == STATUS_OK) {
        ingest_unbreak(piece);
        send_piece(udp, piece, key, key_length);
    } else if (status == STATUS_REJECT) {
        note_refusal(udp, error.text);
    } else {
        ingest_count(udp->ingest, INGEST_UDP, INGEST_OVERFLOW, 1); /* out of memory */
    }
}

static void take_datagram(struct udp *udp, char *text, size_t length)
{
    struct ingest_piece *pieces = NULL;
    size_t count = 0;
    enum ingest_form form;
    struct error error;
    atomic_fetch_add(&udp->datagrams, 1);
    if (!know_source(udp)) {
        atomic_fetch_add(&udp->without_source, 1);
        return;
    }
    if (ingest_split(text, length, true, EVENTS_MAX, &pieces, &count, &form, &error) != STATUS_OK)
        note_refusal(udp, error.text);
    for (size_t i = 0; i < count; i++)
        take_piece(udp, &pieces[i]);
    free(pieces);
}

/* --- receiving --- */

/* The kernel tells with a datagram how many it has dropped so far. */
static void note_lost(struct udp *udp, struct msghdr *header)
{
    uint32_t lost;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SO_RXQ_OVFL)
            continue;
        memcpy(&lost, CMSG_DATA(c), sizeof lost);
        atomic_fetch_add(&udp->lost, lost - udp->lost_in_kernel);
        udp->lost_in_kernel = lost;
    }
}

/* The number of datagrams that were there. */
static int receive_some(struct udp *udp)
{
    struct mmsghdr messages[DATAGRAMS];
    struct iovec places[DATAGRAMS];
    union {
        char bytes[CMSG_SPACE(sizeof(uint32_t))];
        struct cmsghdr aligned;
    } controls[DATAGRAMS];
    for (int i = 0; i < DATAGRAMS; i++) {
        places[i] = (struct iovec){udp->buffers[i], DATAGRAM_BYTES};
        messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &places[i],
                                                   .msg_iovlen = 1,
                                                   .msg_control = &controls[i],
                                                   .msg_controllen = sizeof controls[i]}};
    }
    int count = recvmmsg(udp->listener.fd, messages, DATAGRAMS, MSG_DONTWAIT, NULL);
    for (int i = 0; i < count; i++) {
        note_lost(udp, &messages[i].msg_hdr);
        udp->buffers[i][messages[i].msg_len] = '\0';
        take_datagram(udp, udp->buffers[i], messages[i].msg_len);
    }
    return count > 0 ? count : 0;
}

/* Until then what comes waits in the kernel's queue. */
static void await_catalogue(struct udp *udp)
{
    pthread_mutex_lock(&udp->lock);
    while (!udp->known && !(udp->closing && udp->tried))
        pthread_cond_wait(&udp->changed, &udp->lock);
    pthread_mutex_unlock(&udp->lock);
}

static void *receive(void *context)
{
    struct udp *udp = context;
    await_catalogue(udp);
    struct pollfd waits[2] = {{.fd = udp->listener.fd, .events = POLLIN},
                              {.fd = udp->wake_fd, .events = POLLIN}};
    while (waits[1].revents == 0) {
        if (poll(waits, 2, udp->untold > 0 ? TELL_EVERY_US / 1000 : -1) < 0)
            continue;
        (void)receive_some(udp);
        tell_refusals(udp);
    }
    /* What has come by now was sent before the stop. */
    for (int i = 0; i < DRAIN_ROUNDS && receive_some(udp) > 0; i++)
        ;
    udp->told_us = 0;
    tell_refusals(udp);
    forget_source(udp);
    return NULL;
}

/* --- life --- */

static enum status start(struct udp *udp, struct error *error)
{
    const struct listen_options options = {
        .key = "serving.udp_listen",
        .address = udp->config->serving_udp_listen,
        .is_datagram = true,
        .loopback_only =
            udp->config->serving_udp_allow_remote
                ? NULL
                : "whoever reaches it could send events without saying who he is: say that this "
                  "is meant with serving.udp_allow_remote",
    };
    const int size = RECEIVE_BUFFER_BYTES;
    const int one = 1;
    if (udp->config->serving_udp_source == NULL)
        return error_set(error, STATUS_REJECT,
                         "serving.udp_source: is required with serving.udp_listen");
    udp->buffers = malloc(DATAGRAMS * sizeof *udp->buffers);
    udp->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (udp->buffers == NULL || udp->wake_fd < 0)
        return error_no_memory(error);
    enum status status = listen_open(&options, &udp->listener, error);
    if (status != STATUS_OK)
        return status;
    /* Where the kernel gives less, more is lost, and counted. */
    (void)setsockopt(udp->listener.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    (void)setsockopt(udp->listener.fd, SOL_SOCKET, SO_RXQ_OVFL, &one, sizeof one);
    udp->refreshing = pthread_create(&udp->refresher, NULL, refresh, udp) == 0;
    udp->receiving = udp->refreshing && pthread_create(&udp->receiver, NULL, receive, udp) == 0;
    return udp->receiving ? STATUS_OK : error_set(error, STATUS_FATAL, "cannot start a thread");
}

enum status udp_create(const struct config *config, struct pool *pool,
                       struct catalogue_holder *catalogues, struct ingest *ingest, struct udp **out,
                       struct error *error)
{
    struct udp *udp = calloc(1, sizeof *udp);
    *out = NULL;
    if (udp == NULL)
        return error_no_memory(error);
    udp->config = config;
    udp->pool = pool;
    udp->catalogues = catalogues;
    udp->ingest = ingest;
    udp->limit_bytes = (size_t)config->serving_ingest_memory_bytes / 2;
    udp->listener.fd = -1;
    udp->wake_fd = -1;
    arena_init(&udp->arena);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&udp->lock, NULL);
    pthread_cond_init(&udp->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    enum status status = start(udp, error);
    if (status != STATUS_OK) {
        udp_stop(udp);
        udp_destroy(udp);
        return status;
    }
    *out = udp;
    return STATUS_OK;
}

/* The producer reports every record within its time-out. */
static void await_records(struct udp *udp)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (udp->config->serving_ingest_timeout_ms + SETTLE_MS) / 1000;
    pthread_mutex_lock(&udp->lock);
    while (udp->pending_count > 0 &&
           pthread_cond_timedwait(&udp->changed, &udp->lock, &until) != ETIMEDOUT)
        ;
    if (udp->pending_count > 0)
        program_log(LOG_WARNING, "UDP: %zu events are not acknowledged", udp->pending_count);
    pthread_mutex_unlock(&udp->lock);
}

void udp_stop(struct udp *udp)
{
    const uint64_t one = 1;
    if (udp == NULL)
        return;
    pthread_mutex_lock(&udp->lock);
    udp->closing = true;
    pthread_cond_broadcast(&udp->changed);
    pthread_mutex_unlock(&udp->lock);
    if (udp->receiving && write(udp->wake_fd, &one, sizeof one) == (ssize_t)sizeof one)
        pthread_join(udp->receiver, NULL);
    if (udp->refreshing)
        pthread_join(udp->refresher, NULL);
    udp->receiving = udp->refreshing = false;
    await_records(udp);
}

void udp_destroy(struct udp *udp)
{
    if (udp == NULL)
        return;
    if (udp->listener.fd >= 0)
        close(udp->listener.fd);
    if (udp->wake_fd >= 0)
        close(udp->wake_fd);
    free(udp->buffers);
    arena_deinit(&udp->arena);
    pthread_cond_destroy(&udp->changed);
    pthread_mutex_destroy(&udp->lock);
    free(udp);
}

const char *udp_address(const struct udp *udp)
{
    return udp->listener.address;
}

void udp_write_metrics(const struct udp *udp, FILE *out)
{
    if (udp == NULL)
        return;
    fprintf(out,
            "# HELP dovetail_udp_datagrams_total Datagrams that were received.\n"
            "# TYPE dovetail_udp_datagrams_total counter\n"
            "dovetail_udp_datagrams_total %" PRIuFAST64 "\n"
            "# HELP dovetail_udp_lost_datagrams_total Datagrams that nothing came of: the kernel's "
            "queue was full, or the source is not known.\n"
            "# TYPE dovetail_udp_lost_datagrams_total counter\n"
            "dovetail_udp_lost_datagrams_total{reason=\"queue\"} %" PRIuFAST64 "\n"
            "dovetail_udp_lost_datagrams_total{reason=\"source\"} %" PRIuFAST64 "\n",
            atomic_load(&udp->datagrams), atomic_load(&udp->lost),
            atomic_load(&udp->without_source));
}
