/* Which dead letters are replayed: see cli/replay.h; how, in cli/replay_batch.c.
 *
 * What keeps the answers exact: a record that lies in the history (at or above the base of its
 * partition, and in no gap) is judged by every version's definition where it lies. Where one
 * accepts it, it counts there already, or will with the next batch run; it must not come twice.
 * And where none accepts it yet, its copy would be as bad as it is, and once a definition is
 * corrected both would count: so that is done only where it is asked for. */
#include "cli/replay.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/letter.h"
#include "cli/replay_batch.h"
#include "core/records/event_parser.h"

enum fate {
    FATE_REPLAY,
    FATE_BAD_REPLAY,
    FATE_STILL_BAD,
    FATE_KNOWN,
    FATE_OTHER,
    FATE_VIEW,
    FATE_HISTORY,
    FATE_IMPORTED,
    FATE_MASKED,
    FATE_WITHHELD,
    FATE_ARCHIVED,
    FATE_COUNT,
};

static const char *const fates[FATE_COUNT] = {
    [FATE_REPLAY] = "replayed",
    [FATE_BAD_REPLAY] = "replayed, though no definition accepts them: they will come back",
    [FATE_STILL_BAD] = "left alone: no definition accepts them; correct it and run `dovetail init`",
    [FATE_KNOWN] = "left alone: replayed before",
    [FATE_OTHER] = "left alone: no dead letter of this source",
    [FATE_VIEW] = "left alone: refused by a view, while the others have counted them",
    [FATE_HISTORY] = "left alone: good by a definition of today, and counted where they are by"
                     " the next batch run",
    [FATE_IMPORTED] = "left alone: imported lines; correct them in a file of their own and import"
                      " that",
    [FATE_MASKED] = "left alone: masked, the original is not in the letter",
    [FATE_WITHHELD] = "left alone: something of the record was withheld",
    [FATE_ARCHIVED] = "left alone: read from the archive, without key and headers",
};

/* Where a partition's history begins, and what of it is lost. */
struct history {
    PGresult *bases;
    PGresult *gaps;
};

struct replayer {
    const struct session *session;
    const struct replay_options *options;
    const struct source *source;
    struct event_parser **parsers; /* one for each definition that is in use */
    size_t parser_count;
    struct history history;
    struct replay_batch *batch; /* NULL: a dry run */
    int64_t counts[FATE_COUNT];
};

/* --- definitions --- */

static enum status add_parser(struct replayer *replayer, const struct source *source,
                              struct error *error)
{
    struct event_parser **parser = &replayer->parsers[replayer->parser_count];
    enum status status = event_parser_create(source, parser, error);
    if (status != STATUS_OK)
        return status;
    event_parser_unmask(*parser); /* nothing of it is stored */
    replayer->parser_count++;
    return STATUS_OK;
}

static enum status make_parsers(struct replayer *replayer, struct error *error)
{
    const struct catalog *catalog = replayer->session->catalog;
    replayer->parsers = calloc(catalog->version_count + 1, sizeof(struct event_parser *));
    if (replayer->parsers == NULL)
        return error_no_memory(error);
    enum status status = add_parser(replayer, replayer->source, error);
    for (size_t i = 0; status == STATUS_OK && i < catalog->version_count; i++)
        if (strcmp(catalog->versions[i].source->topic, replayer->source->topic) == 0)
            status = add_parser(replayer, catalog->versions[i].source, error);
    return status;
}

static enum status is_accepted(struct replayer *replayer, const rd_kafka_message_t *message,
                               bool *accepted, struct error *error)
{
    *accepted = false;
    for (size_t i = 0; message->payload != NULL && !*accepted && i < replayer->parser_count; i++) {
        struct event event;
        enum status status = event_parser_parse(replayer->parsers[i], message->payload,
                                                message->len, message->len, &event, error);
        if (status != STATUS_OK && status != STATUS_REJECT)
            return status;
        *accepted = status == STATUS_OK;
    }
    return STATUS_OK;
}

/* --- history --- */

static enum status read_history(struct replayer *replayer, struct error *error)
{
    const char *parameters[] = {replayer->source->topic};
    struct postgres *postgres = replayer->session->postgres;
    enum status status = postgres_query(
        postgres, "SELECT partition, base_offset FROM dovetail_internal.position WHERE topic = $1",
        1, parameters, &replayer->history.bases, error);
    if (status == STATUS_OK)
        status = postgres_query(
            postgres,
            "SELECT partition, from_offset, to_offset FROM dovetail_internal.gap WHERE topic = $1",
            1, parameters, &replayer->history.gaps, error);
    return status;
}

static bool is_in_history(const struct history *history, const struct letter *letter)
{
    bool within = false;
    for (int row = 0; row < PQntuples(history->bases); row++)
        if (postgres_int64(history->bases, row, 0) == letter->partition)
            within = letter->offset >= postgres_int64(history->bases, row, 1);
    for (int row = 0; within && row < PQntuples(history->gaps); row++)
        if (postgres_int64(history->gaps, row, 0) == letter->partition &&
            letter->offset >= postgres_int64(history->gaps, row, 1) &&
            letter->offset < postgres_int64(history->gaps, row, 2))
            within = false;
    return within;
}

/* --- letters --- */

static bool has(const struct letter *letter, const char *name)
{
    char text[8];
    return letter_text(letter, name, text, sizeof text);
}

static enum status choose_fate(struct replayer *replayer, const struct letter *letter,
                               enum fate *fate, struct error *error)
{
    bool known, accepted;
    if (!letter->is_ours || strcmp(letter->topic, replayer->source->topic) != 0)
        *fate = FATE_OTHER;
    else if (letter->partition < 0)
        *fate = FATE_IMPORTED;
    else if (has(letter, "dovetail.view"))
        *fate = FATE_VIEW;
    else if (has(letter, "dovetail.archive"))
        *fate = FATE_ARCHIVED;
    else if (has(letter, "dovetail.withheld"))
        *fate = FATE_WITHHELD;
    else if (has(letter, "dovetail.masked") || replayer->source->mask_count > 0)
        *fate = FATE_MASKED;
    else
        *fate = FATE_REPLAY;
    if (*fate != FATE_REPLAY)
        return STATUS_OK;
    enum status status = replay_is_known(replayer->session->postgres, letter, &known, error);
    if (status == STATUS_OK)
        status = is_accepted(replayer, letter->message, &accepted, error);
    if (status != STATUS_OK)
        return status;
    if (known)
        *fate = FATE_KNOWN;
    else if (!accepted)
        *fate = replayer->options->still_bad ? FATE_BAD_REPLAY : FATE_STILL_BAD;
    else if (is_in_history(&replayer->history, letter))
        *fate = FATE_HISTORY;
    return STATUS_OK;
}

static bool is_wanted(const struct replay_options *options, const struct letter *letter)
{
    if (options->has_since &&
        (letter->written_ms < 0 || letter->written_ms < options->since_us / 1000))
        return false;
    if (options->partition >= 0 && (!letter->is_ours || letter->partition != options->partition))
        return false;
    return options->offset < 0 || letter->offset == options->offset;
}

static enum status take_letter(const struct letter *letter, void *context, struct error *error)
{
    struct replayer *replayer = context;
    enum fate fate;
    if (!is_wanted(replayer->options, letter))
        return STATUS_OK;
    enum status status = choose_fate(replayer, letter, &fate, error);
    if (status != STATUS_OK)
        return status;
    replayer->counts[fate]++;
    if (replayer->options->dry_run)
        printf("letter %d:%" PRId64 ", record %" PRId32 ":%" PRId64 ": %s\n",
               (int)letter->message->partition, letter->message->offset, letter->partition,
               letter->offset, fates[fate]);
    bool send = fate == FATE_REPLAY || fate == FATE_BAD_REPLAY;
    return send && replayer->batch != NULL ? replay_batch_add(replayer->batch, letter, error)
                                           : STATUS_OK;
}

/* --- one source --- */

static void print_counts(const struct replayer *replayer)
{
    printf("source %s:%s", replayer->source->name, replayer->options->dry_run ? " dry run," : "");
    if (replayer->batch != NULL)
        printf(" %" PRId64 " records produced into topic %s\n", replay_batch_sent(replayer->batch),
               replayer->source->topic);
    else
        puts(" nothing is produced");
    for (size_t i = 0; i < FATE_COUNT; i++)
        if (replayer->counts[i] > 0)
            printf("  %" PRId64 " letters %s\n", replayer->counts[i], fates[i]);
}

static enum status replay_source(const struct session *session,
                                 const struct replay_options *options, const struct source *source,
                                 struct error *error)
{
    struct replayer replayer = {.session = session, .options = options, .source = source};
    enum status status = make_parsers(&replayer, error);
    if (status == STATUS_OK && !options->dry_run)
        status =
            replay_batch_create(session->config, session->postgres, session->catalog->deployment_id,
                                source->topic, &replayer.batch, error);
    if (status == STATUS_OK)
        status = read_history(&replayer, error);
    if (status == STATUS_OK)
        status = letters_read(session->config, source->dead_letter_topic, INT64_MAX, take_letter,
                              &replayer, error);
    if (status == STATUS_OK && replayer.batch != NULL)
        status = replay_batch_send(replayer.batch, error);
    if (status == STATUS_OK)
        print_counts(&replayer);
    for (size_t i = 0; i < replayer.parser_count; i++)
        event_parser_destroy(replayer.parsers[i]);
    free(replayer.parsers);
    PQclear(replayer.history.bases);
    PQclear(replayer.history.gaps);
    replay_batch_destroy(replayer.batch);
    return status;
}

int replay_letters(const struct session *session, const struct replay_options *options)
{
    const struct catalog *catalog = session->catalog;
    struct error error = {0};
    enum status status = STATUS_OK;
    bool found = options->source == NULL;
    if (found && options->partition >= 0 && catalog->source_count > 1) {
        command_complain("--partition: of which source? (see --help)");
        return PROGRAM_USAGE;
    }
    for (size_t i = 0; status == STATUS_OK && i < catalog->source_count; i++) {
        if (options->source != NULL && strcmp(catalog->sources[i]->name, options->source) != 0)
            continue;
        found = true;
        if (options->partition >= 0) {
            int code = session_partition(session, catalog->sources[i], options->partition);
            if (code != PROGRAM_OK)
                return code;
        }
        status = replay_source(session, options, catalog->sources[i], &error);
    }
    if (status == STATUS_OK && !found)
        status = error_set(&error, STATUS_REJECT, "there is no source %s", options->source);
    return status == STATUS_OK ? command_finish_output() : command_fail(&error);
}
