/* dovetail dead-letters: list and replay.
 *
 * list: the newest records that could not be counted, from the dead-letter topics of one source or
 * of all. Reads Kafka only; a letter that was written twice (a crash between writing and
 * committing) shows twice. replay is in cli/replay.c. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/letter.h"
#include "cli/replay.h"
#include "cli/table.h"
#include "core/base/utf8.h"
#include "core/time/timestamp.h"

enum { VALUE_SHOWN_BYTES = 80, TEXT_BYTES = 400 };

struct arguments {
    bool has_verb; /* without one it is list */
    bool is_replay;
    const char *source; /* NULL: all */
    int64_t limit;      /* of each partition of each topic */
    bool as_json;
    struct replay_options replay;
    const char *lists_option;   /* one that was given and is of list alone, or NULL */
    const char *replays_option; /* the same, of replay */
};

/* Either a table or an array, filled letter by letter. */
struct output {
    struct table *table;
    json_t *letters;
};

static const char *const columns[] = {">letter", "topic",  ">partition", ">offset",
                                      "view",    "reason", "value",      NULL};

/* The value as far as it is text; a table shows its beginning. */
static json_t *value_json(const rd_kafka_message_t *message)
{
    if (message->payload == NULL)
        return json_null();
    if (utf8_is_text(message->payload, message->len))
        return json_stringn(message->payload, message->len);
    char *hexadecimal = malloc(message->len * 2 + 1);
    if (hexadecimal == NULL)
        return json_null();
    for (size_t i = 0; i < message->len; i++)
        sprintf(hexadecimal + 2 * i, "%02x", ((const unsigned char *)message->payload)[i]);
    json_t *value = json_pack("{s:s}", "hex", hexadecimal);
    free(hexadecimal);
    return value;
}

/* When the letter was written. */
static json_t *time_json(const rd_kafka_message_t *message)
{
    char text[TIMESTAMP_TEXT_SIZE];
    int64_t us;
    int64_t ms = rd_kafka_message_timestamp(message, NULL);
    if (ms < 0 || __builtin_mul_overflow(ms, INT64_C(1000), &us))
        return json_null();
    timestamp_format(us, text, sizeof text);
    return json_string(text);
}

static enum status add_letter(const struct letter *letter, void *context, struct error *error)
{
    enum { PARTITION = 1, OFFSET, REASON = 4, WITHHELD, IMPORT, LINE, REPLAYS, NAMES };
    static const char *const names[NAMES] = {
        "dovetail.topic",  "dovetail.partition", "dovetail.offset",
        "dovetail.view",   "dovetail.reason",    "dovetail.withheld",
        "dovetail.import", "dovetail.line",      "dovetail.replays"};
    (void)error;
    struct output *output = context;
    const rd_kafka_message_t *message = letter->message;
    char texts[NAMES][TEXT_BYTES];
    bool present[NAMES];
    for (size_t i = 0; i < NAMES; i++)
        present[i] = i == REPLAYS ? letter_record_text(letter, names[i], texts[i], TEXT_BYTES)
                                  : letter_text(letter, names[i], texts[i], TEXT_BYTES);
    if (output->letters != NULL) {
        json_t *object = json_object();
        json_object_set_new(object, "letter",
                            json_pack("{s:s, s:i, s:I, s:o}", "topic",
                                      rd_kafka_topic_name(message->rkt), "partition",
                                      (int)message->partition, "offset",
                                      (json_int_t)message->offset, "at", time_json(message)));
        for (size_t i = 0; i < NAMES; i++) {
            bool is_number = i == PARTITION || i == OFFSET || i == LINE || i == REPLAYS;
            json_object_set_new(object, names[i] + strlen("dovetail."),
                                !present[i] ? json_null()
                                : is_number ? json_integer(strtoll(texts[i], NULL, 10))
                                            : json_string(texts[i]));
        }
        json_object_set_new(object, "value", value_json(message));
        json_array_append_new(output->letters, object);
        return STATUS_OK;
    }
    table_addf(output->table, "%d:%" PRId64, (int)message->partition, message->offset);
    for (size_t i = 0; i <= REASON; i++)
        table_add(output->table, present[i] ? texts[i] : NULL);
    if (message->payload == NULL && present[WITHHELD])
        table_addf(output->table, "(withheld: %s)", texts[WITHHELD]);
    else if (message->payload == NULL)
        table_add(output->table, NULL);
    else if (!utf8_is_text(message->payload, message->len))
        table_addf(output->table, "(%zu bytes that are no text)", message->len);
    else
        table_addf(output->table, "%.*s%s",
                   (int)(message->len < VALUE_SHOWN_BYTES ? message->len : VALUE_SHOWN_BYTES),
                   (const char *)message->payload, message->len > VALUE_SHOWN_BYTES ? "..." : "");
    return STATUS_OK;
}

static int print_output(const struct output *output)
{
    bool good = true;
    if (output->letters != NULL) {
        char *text = json_dumps(output->letters, JSON_INDENT(2));
        good = text != NULL && puts(text) >= 0;
        free(text);
    } else {
        good = table_print(output->table, stdout);
    }
    if (!good) {
        command_complain("out of memory");
        return PROGRAM_FAILURE;
    }
    return command_finish_output();
}

static int list(const struct config *config, const struct definitions *definitions,
                const struct arguments *arguments)
{
    struct error error = {0};
    struct output output = {0};
    enum status status = STATUS_OK;
    bool found = arguments->source == NULL;
    if (arguments->as_json)
        output.letters = json_array();
    else
        output.table = table_create(columns);
    for (size_t i = 0; status == STATUS_OK && i < definitions->source_count; i++) {
        const struct source *source = definitions->sources[i];
        if (arguments->source != NULL && strcmp(source->name, arguments->source) != 0)
            continue;
        found = true;
        status = letters_read(config, source->dead_letter_topic, arguments->limit, add_letter,
                              &output, &error);
    }
    if (status == STATUS_OK && !found)
        status = error_set(&error, STATUS_REJECT, "there is no source %s", arguments->source);
    int code = status == STATUS_OK ? print_output(&output) : command_fail(&error);
    json_decref(output.letters);
    table_destroy(output.table);
    return code;
}

enum option {
    OPTION_LIMIT,
    OPTION_FORMAT,
    OPTION_PARTITION,
    OPTION_OFFSET,
    OPTION_SINCE,
    OPTION_STILL_BAD,
    OPTION_DRY_RUN,
};

static const struct option_spec specs[] = {
    [OPTION_LIMIT] = {"--limit", true},         [OPTION_FORMAT] = {"--format", true},
    [OPTION_PARTITION] = {"--partition", true}, [OPTION_OFFSET] = {"--offset", true},
    [OPTION_SINCE] = {"--since", true},         [OPTION_STILL_BAD] = {"--still-bad", false},
    [OPTION_DRY_RUN] = {"--dry-run", false},    {NULL, false}};

static bool take_since(struct replay_options *out, const char *value)
{
    struct value time;
    struct error error;
    if (value_parse(VALUE_TIMESTAMP, value, strlen(value), &time, &error) != STATUS_OK) {
        command_complain("--since: %s", error.text);
        return false;
    }
    out->has_since = true;
    out->since_us = time.timestamp_us;
    return true;
}

static bool take_option(struct arguments *out, enum option option, const char *value)
{
    const char **kind = option >= OPTION_PARTITION ? &out->replays_option : &out->lists_option;
    *kind = specs[option].name; /* list or replay may come behind it */
    switch (option) {
    case OPTION_LIMIT:
        return option_int64("--limit", value, 1, 1000000, &out->limit);
    case OPTION_PARTITION:
        return option_int64("--partition", value, 0, INT32_MAX, &out->replay.partition);
    case OPTION_OFFSET:
        return option_int64("--offset", value, 0, INT64_MAX, &out->replay.offset);
    case OPTION_SINCE:
        return take_since(&out->replay, value);
    case OPTION_STILL_BAD:
        out->replay.still_bad = true;
        return true;
    case OPTION_DRY_RUN:
        out->replay.dry_run = true;
        return true;
    case OPTION_FORMAT:
        return option_format(value, &out->as_json);
    }
    return false;
}

static bool take_word(struct arguments *out, const char *value)
{
    bool is_replay = strcmp(value, "replay") == 0;
    if (!out->has_verb && (is_replay || strcmp(value, "list") == 0)) {
        out->has_verb = true;
        out->is_replay = is_replay;
        return true;
    }
    if (out->has_verb && out->source == NULL) {
        out->source = value;
        return true;
    }
    command_complain("%s: unexpected argument (see --help)", value);
    return false;
}

static bool parse(const struct program_arguments *program, struct arguments *out)
{
    struct option_reader reader = {.next = program->rest, .specs = specs};
    size_t index;
    const char *value = NULL;
    enum option_result result;
    while ((result = option_next(&reader, &index, &value)) != OPTION_END) {
        if (result == OPTION_FAULT)
            return false;
        if (result == OPTION_FOUND ? !take_option(out, (enum option)index, value)
                                   : !take_word(out, value))
            return false;
    }
    const char *unfit = out->is_replay ? out->lists_option : out->replays_option;
    if (unfit != NULL) {
        command_complain("%s: only of dead-letters %s (see --help)", unfit,
                         out->is_replay ? "list" : "replay");
        return false;
    }
    if (out->replay.offset >= 0 && out->replay.partition < 0) {
        command_complain("--offset: wants --partition, too");
        return false;
    }
    return true;
}

static int run(const struct program_arguments *program)
{
    struct arguments arguments = {.limit = 100, .replay = {.partition = -1, .offset = -1}};
    struct session session = {0};
    struct definitions definitions = {0};
    int code;
    if (!parse(program, &arguments))
        return PROGRAM_USAGE;
    if (arguments.is_replay) {
        arguments.replay.source = arguments.source;
        code = session_open(&session, program);
        if (code == PROGRAM_OK)
            code = replay_letters(&session, &arguments.replay);
    } else {
        code = session_load_config(&session, program);
        if (code == PROGRAM_OK)
            code = command_load_definitions(session.config, &definitions);
        if (code == PROGRAM_OK)
            code = list(session.config, &definitions, &arguments);
    }
    definitions_deinit(&definitions);
    session_close(&session);
    return code;
}

const struct command command_dead_letters = {
    .name = "dead-letters",
    .summary = "the records that could not be counted",
    .help =
        "usage: dovetail dead-letters list [SOURCE] [--limit N] [--format table|json]\n"
        "       dovetail dead-letters replay [SOURCE] [OPTION]...\n"
        "\n"
        "list: the newest records that could not be counted: the letter's place in its topic\n"
        "(partition:offset), where the record stood, which view refused it (none: it was bad for\n"
        "all), why, and its value.\n"
        "\n"
        "  --limit N        at most N of each partition (default 100)\n"
        "  --format F       table (default) or json\n"
        "\n"
        "replay: produces the records of dead letters into their topic again, with key, value and\n"
        "headers, each exactly once, however often this is repeated or interrupted. It is for\n"
        "records that the history does not have, such as those from before this deployment.\n"
        "Left alone, with the reason, are\n"
        "  - records of the history that a corrected definition accepts: the next batch run\n"
        "    counts them where they are, and a replay would count them twice\n"
        "  - records that no definition accepts, unless --still-bad is given\n"
        "  - records that one view refused: the others have counted them\n"
        "  - imported lines: correct them in a file of their own and import that\n"
        "  - letters without the whole record: masked, withheld, or read from the archive\n"
        "\n"
        "  --partition N    only records that stood in this partition of the source's topic\n"
        "  --offset N       only the one at this offset of it\n"
        "  --since T        only letters written at T or later: 2026-01-31, 2026-01-31T10:00:00Z\n"
        "  --still-bad      also records that no definition accepts: they are dead-lettered "
        "again,\n"
        "                   with the header dovetail.replays counting how often; where they lie "
        "in\n"
        "                   the history both copies will count once a definition accepts them\n"
        "  --dry-run        say for each letter what would be done; change nothing\n"
        "\n"
        "options of all commands:",
    .run = run,
};
