/* dovetail produce: JSON lines into a source's topic.
 *
 * Lines are sent as they are, bad ones too: judging them is the layers' business. Success means
 * that every record is acknowledged by all in-sync replicas. On SIGTERM reading stops and what was
 * read is delivered. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/sending.h"
#include "core/input/lines.h"
#include "core/records/event_parser.h"
#include "core/records/record_key.h"

struct arguments {
    const char *source;
    const char *file;
    const char *key;
    int64_t rate;      /* records a second, 0 = no limit */
    int64_t partition; /* -1: by key, or spread */
    bool offsets;
};

struct producing {
    const struct arguments *arguments;
    const struct source *source;
    struct sending sending;
    struct lines *lines;
    struct event_parser *parser; /* only for --key */
    size_t key_field;
    struct arena arena; /* the key's text */
};

enum option { OPTION_KEY, OPTION_RATE, OPTION_PARTITION, OPTION_OFFSETS };

static const struct option_spec specs[] = {
    [OPTION_KEY] = {"--key", true},
    [OPTION_RATE] = {"--rate", true},
    [OPTION_PARTITION] = {"--partition", true},
    [OPTION_OFFSETS] = {"--offsets", false},
    {NULL, false},
};

static bool take_option(struct arguments *out, enum option option, const char *value)
{
    switch (option) {
    case OPTION_KEY:
        out->key = value;
        return true;
    case OPTION_RATE:
        return option_int64("--rate", value, 1, 1000000000, &out->rate);
    case OPTION_PARTITION:
        return option_int64("--partition", value, 0, INT32_MAX, &out->partition);
    case OPTION_OFFSETS:
        out->offsets = true;
        return true;
    }
    return false;
}

static bool parse(const struct program_arguments *program, struct arguments *out)
{
    struct option_reader reader = {.next = program->rest, .specs = specs};
    for (;;) {
        size_t index = 0;
        const char *value = NULL;
        switch (option_next(&reader, &index, &value)) {
        case OPTION_FOUND:
            if (!take_option(out, (enum option)index, value))
                return false;
            break;
        case OPTION_POSITIONAL:
            if (out->source == NULL) {
                out->source = value;
            } else if (out->file == NULL) {
                out->file = value;
            } else {
                command_complain("%s: unexpected argument (see --help)", value);
                return false;
            }
            break;
        case OPTION_FAULT:
            return false;
        case OPTION_END:
            if (out->source == NULL)
                command_complain("which source? (see --help)");
            return out->source != NULL;
        }
    }
}

/* The key field's text; none for NULL and for lines that are no records. */
static enum status find_key(struct producing *producing, const char *line, size_t length,
                            const char **key, size_t *key_length, struct error *error)
{
    struct event event;
    *key = NULL;
    *key_length = 0;
    if (producing->parser == NULL)
        return STATUS_OK;
    enum status status = event_parser_parse(producing->parser, line, length, length, &event, error);
    if (status == STATUS_REJECT)
        return STATUS_OK;
    if (status != STATUS_OK)
        return status;
    arena_reset(&producing->arena);
    return record_key_text(&event, producing->key_field, &producing->arena, key, key_length, error);
}

static enum status send_lines(struct producing *producing, struct error *error)
{
    for (;;) {
        const char *line;
        const char *key;
        size_t length;
        size_t key_length;
        sending_keep_rate(&producing->sending);
        enum status status = lines_next(producing->lines, &line, &length, error);
        if (status != STATUS_OK || line == NULL)
            return status;
        if (length == 0)
            continue;
        status = find_key(producing, line, length, &key, &key_length, error);
        if (status == STATUS_OK)
            status = sending_send(&producing->sending, (int32_t)producing->arguments->partition,
                                  key, key_length, line, length, error);
        if (status != STATUS_OK)
            return status;
    }
}

static enum status produce(struct producing *producing, struct error *error)
{
    const struct arguments *arguments = producing->arguments;
    struct sending *sending = &producing->sending;
    enum status status = lines_open(arguments->file, &producing->lines, error);
    if (status == STATUS_OK && arguments->key != NULL)
        status = event_parser_create(producing->source, &producing->parser, error);
    if (status == STATUS_OK && producing->parser != NULL)
        event_parser_unmask(producing->parser); /* the record that is sent has the value, too */
    if (status == STATUS_OK)
        status = sending_start(sending, error);
    if (status != STATUS_OK)
        return status;
    status = sending_finish(sending, send_lines(producing, error), error);
    printf("produced %" PRId64 " records\n", kafka_producer_acknowledged(sending->producer));
    return status == STATUS_OK && arguments->offsets ? sending_print_offsets(sending, error)
                                                     : status;
}

static int run_with(const void *its_arguments, const struct config *config,
                    const struct source *source)
{
    const struct arguments *arguments = its_arguments;
    struct error error = {0};
    struct producing producing = {
        .arguments = arguments,
        .source = source,
        .sending = {.config = config, .topic = source->topic, .rate = arguments->rate},
    };
    if (arguments->key != NULL && !record_key_field(source, arguments->key, &producing.key_field)) {
        command_complain("--key: source %s has no field %s", source->name, arguments->key);
        return PROGRAM_USAGE;
    }
    arena_init(&producing.arena);
    enum status status = produce(&producing, &error);
    sending_end(&producing.sending);
    event_parser_destroy(producing.parser);
    lines_close(producing.lines);
    arena_deinit(&producing.arena);
    int written = command_finish_output();
    return status == STATUS_OK ? written : command_fail(&error);
}

static int run(const struct program_arguments *program)
{
    struct arguments arguments = {.partition = -1};
    if (!parse(program, &arguments))
        return PROGRAM_USAGE;
    return sending_command(program, arguments.source, run_with, &arguments);
}

const struct command command_produce = {
    .name = "produce",
    .summary = "send JSON lines to a source's topic",
    .help = "usage: dovetail produce SOURCE [FILE] [OPTION]...\n"
            "\n"
            "Sends the lines of FILE, or of standard input, to the source's topic: each as it is,\n"
            "empty lines left out. FILE may be compressed with zstd or gzip.\n"
            "Exit code 0 means that all records are acknowledged.\n"
            "\n"
            "  --key FIELD     this field's text is the record's key\n"
            "  --partition N   all to this partition; else by key, or spread\n"
            "  --rate N        at most N records a second\n"
            "  --offsets       print the topic's end offsets afterwards, for at_least\n"
            "\n"
            "options of all commands:",
    .run = run,
};
