/* dovetail resume: what is lost of a source's log, and going on without it.
 *
 * Invariant: nothing is given up without --accept-gap, and never more than what neither Kafka nor
 * the archive has: the batch lock is held, so nobody has records in memory that are not archived
 * yet, and the positions are locked while the gaps are written. Each gap adds one to owner_epoch,
 * so that whoever owns the partition begins anew behind it and forgets the ids in it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "core/archive/batch_lock.h"
#include "core/archive/gap.h"
#include "core/catalog/lock_wait.h"
#include "core/kafka/kafka.h"

enum { KAFKA_TIMEOUT_MS = 10000, NUMBER_BYTES = 24 };

/* What is lost of one partition. */
struct loss {
    int32_t partition;
    int64_t low; /* the log has [low, high) */
    int64_t high;
    int64_t position; /* P */
    int64_t archived; /* end of the archive, and of the gaps that follow it */
    int64_t to;       /* where both layers would go on; [archived, to) is given up */
    bool foreign;     /* a layer found another record than the one that it had read */
    bool new_log;     /* the same, or the log ends below what is next */
    bool lost;
};

struct resume {
    const struct session *session;
    const struct source *source;
    int64_t partition; /* -1: all */
    bool accept;
    struct kafka_consumer *consumer;
    struct loss *losses;
    size_t count;
};

/* --- finding out --- */

static void judge(struct loss *loss)
{
    int64_t next = loss->position > loss->archived ? loss->position : loss->archived;
    loss->new_log = loss->foreign || loss->high < next;
    loss->to = loss->new_log ? next : loss->low;
    loss->lost = loss->new_log || loss->archived < loss->low;
}

static enum status find_losses(struct resume *resume, const struct gap *gaps, size_t gap_count,
                               const PGresult *rows, struct error *error)
{
    const char *topic = resume->source->topic;
    int partitions;
    enum status status = kafka_topic_partitions(resume->session->config->kafka, topic,
                                                KAFKA_TIMEOUT_MS, &partitions, error);
    resume->losses = calloc((size_t)PQntuples(rows) + 1, sizeof *resume->losses);
    if (status == STATUS_OK && resume->losses == NULL)
        status = error_no_memory(error);
    for (int row = 0; status == STATUS_OK && row < PQntuples(rows); row++) {
        struct loss loss = {.partition = (int32_t)postgres_int64(rows, row, 0),
                            .position = postgres_int64(rows, row, 1),
                            .archived = postgres_int64(rows, row, 2),
                            .foreign = postgres_bool(rows, row, 3)};
        if (resume->partition >= 0 && resume->partition != loss.partition)
            continue;
        if (loss.partition >= partitions) {
            status = error_set(error, STATUS_REJECT,
                               "%s[%" PRId32 "]: Kafka has no such partition: there is nothing to"
                               " go on with",
                               topic, loss.partition);
            break;
        }
        status = kafka_consumer_watermarks(resume->consumer, topic, loss.partition,
                                           KAFKA_TIMEOUT_MS, &loss.low, &loss.high, error);
        loss.archived = gaps_pass(gaps, gap_count, loss.partition, loss.archived);
        loss.position = gaps_pass(gaps, gap_count, loss.partition, loss.position);
        judge(&loss);
        if (loss.new_log && gaps_resume_at(gaps, gap_count, loss.partition, loss.to))
            loss.lost = false; /* accepted before: both wait for the log to grow */
        resume->losses[resume->count++] = loss;
    }
    return status;
}

/* In the order in which flushes lock them. */
static enum status lock_positions(const struct resume *resume, struct error *error)
{
    return postgres_run(resume->session->postgres,
                        "SELECT FROM dovetail_internal.position WHERE topic = $1"
                        " ORDER BY partition FOR UPDATE",
                        1, &resume->source->topic, error);
}

/* Begins the transaction. Without --accept-gap nothing is locked: no flush has to wait while Kafka
 * is asked. */
static enum status begin(const struct resume *resume, struct error *error)
{
    struct postgres *postgres = resume->session->postgres;
    struct lock_wait wait = lock_wait_begin();
    enum status status;
    do {
        status = postgres_execute(postgres, "BEGIN; " LOCK_WAIT_SQL, error);
        if (status == STATUS_OK && resume->accept)
            status = lock_positions(resume, error);
        if (status != STATUS_OK)
            (void)!postgres_execute(postgres, "ROLLBACK", NULL);
    } while (lock_wait_again(&wait, postgres, status, error));
    return status;
}

static enum status look(struct resume *resume, struct error *error)
{
    struct postgres *postgres = resume->session->postgres;
    struct gap *gaps = NULL;
    size_t gap_count = 0;
    PGresult *rows = NULL;
    const char *topic = resume->source->topic;
    enum status status = postgres_query(
        postgres,
        "SELECT p.partition, p.next_offset, COALESCE((SELECT max(s.end_offset)"
        "   FROM dovetail_internal.segment AS s"
        "   WHERE s.topic = p.topic AND s.partition = p.partition), p.base_offset),"
        " EXISTS (SELECT FROM dovetail_internal.halt AS h WHERE h.topic = p.topic"
        "   AND h.partition = p.partition AND h.new_log)"
        " FROM dovetail_internal.position AS p WHERE p.topic = $1 ORDER BY p.partition",
        1, &topic, &rows, error);
    if (status == STATUS_OK)
        status = gaps_list(postgres, topic, &gaps, &gap_count, error);
    if (status == STATUS_OK)
        status = find_losses(resume, gaps, gap_count, rows, error);
    free(gaps);
    PQclear(rows);
    if (status == STATUS_OK && resume->count == 0)
        status = error_set(error, STATUS_REJECT, "source %s has no partition %" PRId64,
                           resume->source->name, resume->partition);
    return status;
}

/* --- giving up --- */

static enum status accept_loss(struct resume *resume, const struct loss *loss, struct error *error)
{
    char numbers[4][NUMBER_BYTES];
    const int64_t values[] = {loss->partition, loss->archived, loss->to, loss->position};
    for (size_t i = 0; i < 4; i++)
        snprintf(numbers[i], NUMBER_BYTES, "%" PRId64, values[i]);
    const char *parameters[] = {resume->source->name,
                                resume->source->topic,
                                numbers[0],
                                numbers[1],
                                numbers[2],
                                numbers[3],
                                loss->new_log ? "new log" : "retention"};
    PGresult *result = NULL;
    enum status status = postgres_query(
        resume->session->postgres,
        "WITH fenced AS (UPDATE dovetail_internal.position SET owner_epoch = owner_epoch + 1"
        "   WHERE topic = $2 AND partition = $3),"
        " told AS (DELETE FROM dovetail_internal.halt WHERE topic = $2 AND partition = $3)"
        " INSERT INTO dovetail_internal.gap"
        "   (source, topic, partition, from_offset, to_offset, speed_offset, reason)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)"
        " ON CONFLICT (topic, partition, from_offset) DO UPDATE SET"
        "   to_offset = EXCLUDED.to_offset, speed_offset = EXCLUDED.speed_offset,"
        "   reason = EXCLUDED.reason, accepted_by = EXCLUDED.accepted_by,"
        "   accepted_at = EXCLUDED.accepted_at",
        7, parameters, &result, error);
    PQclear(result);
    return status;
}

/* Also where nothing is lost: whoever is halted looks again. */
static enum status accept_all(struct resume *resume, struct error *error)
{
    struct postgres *postgres = resume->session->postgres;
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < resume->count; i++)
        if (resume->losses[i].lost)
            status = accept_loss(resume, &resume->losses[i], error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "NOTIFY dovetail_catalog", error);
    return status;
}

/* --- telling --- */

static void tell_counted(const struct loss *loss)
{
    int64_t end = loss->position < loss->to ? loss->position : loss->to;
    if (end > loss->archived)
        printf("  offsets %" PRId64 " to %" PRId64 " of them were counted by the speed layer: they"
               " leave the answers with the next batch run\n",
               loss->archived, end);
}

static void tell(const struct resume *resume, const struct loss *loss)
{
    const char *topic = resume->source->topic;
    printf("%s[%" PRId32 "]: ", topic, loss->partition);
    if (!loss->lost) {
        printf("nothing is lost%s; P %" PRId64 ", archive up to %" PRId64 ", log %" PRId64
               " to %" PRId64 "\n",
               loss->new_log ? "that was not given up: the log has to grow" : "", loss->position,
               loss->archived, loss->low, loss->high);
        return;
    }
    if (loss->new_log) {
        if (loss->foreign)
            printf("the topic was made anew: the log has other records than those that were"
                   " read; it ends at offset %" PRId64 "\n",
                   loss->high);
        else
            printf("the log ends at offset %" PRId64 ", below offset %" PRId64
                   ", which is next: the topic was made anew or has lost records\n",
                   loss->high, loss->to);
        printf("  both layers would go on at offset %" PRId64 ", once the log has grown there;"
               " whatever it has below that is never counted\n",
               loss->to);
        if (loss->archived < loss->to)
            printf("  offsets %" PRId64 " to %" PRId64 " of the log before are not archived\n",
                   loss->archived, loss->to);
    } else {
        printf("%" PRId64 " offsets are lost, %" PRId64 " to %" PRId64
               ": the log begins at %" PRId64 ", the archive ends at %" PRId64 "\n",
               loss->to - loss->archived, loss->archived, loss->to, loss->low, loss->archived);
    }
    tell_counted(loss);
}

static int tell_all(const struct resume *resume)
{
    size_t lost = 0;
    for (size_t i = 0; i < resume->count; i++) {
        tell(resume, &resume->losses[i]);
        lost += resume->losses[i].lost;
    }
    int code = command_finish_output();
    if (lost == 0 || code != PROGRAM_OK)
        return code;
    if (resume->accept) {
        printf("given up; a running speed layer goes on now, a batch layer with its next run\n");
        return command_finish_output();
    }
    command_complain("nothing was changed; with --accept-gap these offsets are given up, for ever");
    return PROGRAM_FAILURE;
}

/* --- the command --- */

static int resume_source(struct resume *resume)
{
    struct postgres *postgres = resume->session->postgres;
    struct error error = {0};
    enum status status =
        kafka_consumer_assign(resume->session->config->kafka, NULL, 0, &resume->consumer, &error);
    if (status == STATUS_OK && resume->accept)
        status = batch_lock_take(postgres, &error);
    if (status == STATUS_OK)
        status = begin(resume, &error);
    if (status == STATUS_OK)
        status = look(resume, &error);
    if (status == STATUS_OK && resume->accept)
        status = accept_all(resume, &error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, resume->accept ? "COMMIT" : "ROLLBACK", &error);
    kafka_consumer_close(resume->consumer);
    int code = status == STATUS_OK ? tell_all(resume) : command_fail(&error);
    free(resume->losses);
    return code;
}

static bool parse(const struct program_arguments *program, const char **source,
                  struct resume *resume)
{
    static const struct option_spec specs[] = {
        {"--partition", true}, {"--accept-gap", false}, {NULL, false}};
    struct option_reader reader = {.next = program->rest, .specs = specs};
    size_t index;
    const char *value = NULL;
    enum option_result result;
    while ((result = option_next(&reader, &index, &value)) != OPTION_END) {
        if (result == OPTION_FAULT)
            return false;
        if (result == OPTION_POSITIONAL && *source != NULL) {
            command_complain("%s: unexpected argument (see --help)", value);
            return false;
        }
        if (result == OPTION_POSITIONAL)
            *source = value;
        else if (index == 1)
            resume->accept = true;
        else if (!option_int64("--partition", value, 0, INT32_MAX, &resume->partition))
            return false;
    }
    if (*source == NULL)
        command_complain("resume: wants a source (see --help)");
    return *source != NULL;
}

static int run(const struct program_arguments *program)
{
    struct session session = {0};
    struct resume resume = {.session = &session, .partition = -1};
    const char *name = NULL;
    if (!parse(program, &name, &resume))
        return PROGRAM_USAGE;
    int code = session_open(&session, program);
    if (code == PROGRAM_OK) {
        resume.source = catalog_source(session.catalog, name);
        if (resume.source == NULL) {
            command_complain("source %s is not registered", name);
            code = PROGRAM_USAGE;
        } else {
            code = resume_source(&resume);
        }
    }
    session_close(&session);
    return code;
}

const struct command command_resume = {
    .name = "resume",
    .summary = "what Kafka and the archive have lost of a source, and going on without it",
    .help =
        "usage: dovetail resume SOURCE [--partition N] [--accept-gap]\n"
        "\n"
        "A partition is halted where neither Kafka nor the archive has the next record: Kafka's\n"
        "retention was faster than the layers, or the topic was made anew. Tells, for each\n"
        "partition, which offsets are lost; changes nothing and exits with 1 where any are.\n"
        "\n"
        "--partition N  this one alone\n"
        "--accept-gap   gives these offsets up, for ever: they are written down (dovetail status\n"
        "               shows them), both layers pass over them, and dovetail verify leaves them\n"
        "               out. A running speed layer goes on at once, a batch layer with its next\n"
        "               run; nothing needs a restart. Waits for the batch lock.\n"
        "\n"
        "Where the log ends below what is next, both layers go on once it has grown there, and "
        "its\n"
        "records below that are not counted. A new source with another topic counts them all.\n"
        "\n"
        "options of all commands:",
    .run = run,
};
