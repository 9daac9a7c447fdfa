/* dovetail generate: made-up events of a source, for trials and for load.
 *
 * What is sent follows from the seed alone but for the times, which are those of now unless --start
 * names another beginning. Success means that every record is acknowledged by all in-sync replicas.
 * Ends at --count, after --duration, or on SIGTERM, and then delivers what was made. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "cli/event_maker.h"
#include "cli/sending.h"
#include "core/records/record_key.h"
#include "core/time/duration.h"
#include "core/time/timestamp.h"

enum {
    RATE_DEFAULT = 100,
    RATE_MAX = 10000000,
    KEYS_DEFAULT = 100,
    KEYS_MAX = 1000000000,
    PRINTED_RATE = 1000, /* events a second that their times tell where there is no rate */
};

struct arguments {
    const char *source;
    const char *key;
    int64_t rate; /* 0: as fast as can be */
    int64_t count;
    int64_t duration_us;
    int64_t start_us; /* of event times; INT64_MIN: now */
    int64_t seed;
    bool has_seed;
    bool print;
    bool offsets;
    struct event_maker_options maker;
};

struct generating {
    const struct arguments *arguments;
    struct sending sending;
    struct event_maker *maker;
    size_t key_field; /* SIZE_MAX: records have no keys */
    struct arena arena;
    int64_t made, late, bad, repeated;
};

enum option {
    OPTION_RATE,
    OPTION_COUNT,
    OPTION_DURATION,
    OPTION_KEYS,
    OPTION_KEY,
    OPTION_LATE,
    OPTION_LATENESS,
    OPTION_BAD,
    OPTION_DUPLICATES,
    OPTION_SEED,
    OPTION_START,
    OPTION_PRINT,
    OPTION_OFFSETS,
};

static const struct option_spec specs[] = {
    [OPTION_RATE] = {"--rate", true},
    [OPTION_COUNT] = {"--count", true},
    [OPTION_DURATION] = {"--duration", true},
    [OPTION_KEYS] = {"--keys", true},
    [OPTION_KEY] = {"--key", true},
    [OPTION_LATE] = {"--late", true},
    [OPTION_LATENESS] = {"--lateness", true},
    [OPTION_BAD] = {"--bad", true},
    [OPTION_DUPLICATES] = {"--duplicates", true},
    [OPTION_SEED] = {"--seed", true},
    [OPTION_START] = {"--start", true},
    [OPTION_PRINT] = {"--print", false},
    [OPTION_OFFSETS] = {"--offsets", false},
    {NULL, false},
};

/* --- arguments --- */

/* "5", "0.5" or "5%". */
static bool take_percent(const char *name, const char *text, double *out)
{
    char *end = NULL;
    double value = strtod(text, &end);
    bool good = text[0] >= '0' && text[0] <= '9' && text[strspn(text, "0123456789.%")] == '\0';
    if (good && *end == '%')
        end++;
    if (!good || *end != '\0' || value > 100) {
        command_complain("%s: a percentage from 0 to 100 is expected", name);
        return false;
    }
    *out = value / 100;
    return true;
}

static bool take_duration(const char *name, const char *text, int64_t *out)
{
    if (duration_parse(text, strlen(text), out) == DURATION_OK)
        return true;
    command_complain("%s: a length of time such as 30s, 5m or 2h is expected", name);
    return false;
}

static bool take_start(const char *text, int64_t *out)
{
    if (timestamp_parse_date_or_rfc3339(text, strlen(text), out) == TIMESTAMP_OK)
        return true;
    command_complain("--start: a time such as 2026-01-05T00:00:00Z is expected");
    return false;
}

static bool take_option(struct arguments *out, enum option option, const char *value)
{
    switch (option) {
    case OPTION_RATE:
        return option_int64("--rate", value, 0, RATE_MAX, &out->rate);
    case OPTION_COUNT:
        return option_int64("--count", value, 1, INT64_MAX, &out->count);
    case OPTION_DURATION:
        return take_duration("--duration", value, &out->duration_us);
    case OPTION_KEYS:
        return option_int64("--keys", value, 1, KEYS_MAX, &out->maker.keys);
    case OPTION_KEY:
        out->key = value;
        return true;
    case OPTION_LATE:
        return take_percent("--late", value, &out->maker.late);
    case OPTION_LATENESS:
        return take_duration("--lateness", value, &out->maker.lateness_us);
    case OPTION_BAD:
        return take_percent("--bad", value, &out->maker.bad);
    case OPTION_DUPLICATES:
        return take_percent("--duplicates", value, &out->maker.repeat);
    case OPTION_SEED:
        out->has_seed = true;
        return option_int64("--seed", value, 0, INT64_MAX, &out->seed);
    case OPTION_START:
        return take_start(value, &out->start_us);
    case OPTION_PRINT:
        out->print = true;
        return true;
    case OPTION_OFFSETS:
        out->offsets = true;
        return true;
    }
    return false;
}

static bool check(struct arguments *out)
{
    if (out->source == NULL) {
        command_complain("which source? (see --help)");
        return false;
    }
    if (out->print && (out->key != NULL || out->offsets)) {
        command_complain("--print sends nothing: --key and --offsets make no sense with it");
        return false;
    }
    if (!out->has_seed) {
        if (getrandom(&out->seed, sizeof out->seed, 0) != (ssize_t)sizeof out->seed) {
            command_complain("the system gives no random numbers");
            return false;
        }
        out->seed &= INT64_MAX;
    }
    out->maker.seed = (uint64_t)out->seed;
    return true;
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
            if (out->source != NULL) {
                command_complain("%s: unexpected argument (see --help)", value);
                return false;
            }
            out->source = value;
            break;
        case OPTION_FAULT:
            return false;
        case OPTION_END:
            return check(out);
        }
    }
}

/* --- events --- */

static int64_t time_of_next(const struct generating *generating)
{
    const struct arguments *arguments = generating->arguments;
    if (arguments->start_us == INT64_MIN)
        return program_clock_us();
    int64_t rate = arguments->rate > 0 ? arguments->rate : PRINTED_RATE;
    return arguments->start_us + generating->made / rate * 1000000 +
           generating->made % rate * 1000000 / rate;
}

static bool is_over(const struct generating *generating)
{
    const struct arguments *arguments = generating->arguments;
    return program_stopping() || (arguments->count > 0 && generating->made == arguments->count) ||
           (arguments->duration_us > 0 &&
            program_monotonic_us() - generating->sending.start_us >= arguments->duration_us);
}

static enum status send_event(struct generating *generating, const struct made_event *made,
                              struct error *error)
{
    const char *key = NULL;
    size_t key_length = 0;
    enum status status = STATUS_OK;
    if (generating->arguments->print) {
        fwrite(made->text, 1, made->length, stdout);
        return putchar('\n') != EOF
                   ? STATUS_OK
                   : error_set(error, STATUS_FATAL, "standard output cannot be written");
    }
    arena_reset(&generating->arena);
    if (generating->key_field != SIZE_MAX && made->event != NULL)
        status = record_key_text(made->event, generating->key_field, &generating->arena, &key,
                                 &key_length, error);
    return status == STATUS_OK ? sending_send(&generating->sending, -1, key, key_length, made->text,
                                              made->length, error)
                               : status;
}

static enum status make_events(struct generating *generating, struct error *error)
{
    enum status status = STATUS_OK;
    while (status == STATUS_OK && !is_over(generating)) {
        struct made_event made;
        if (!generating->arguments->print)
            sending_keep_rate(&generating->sending);
        if (is_over(generating)) /* the wait may have been the last */
            break;
        status = event_maker_next(generating->maker, time_of_next(generating), &made, error);
        if (status == STATUS_OK)
            status = send_event(generating, &made, error);
        if (status != STATUS_OK)
            break;
        generating->made++;
        generating->late += made.is_late;
        generating->bad += made.is_bad;
        generating->repeated += made.is_repeat;
    }
    return status;
}

static void print_summary(const struct generating *generating, int64_t acknowledged)
{
    printf("generated %" PRId64 " events, %" PRId64 " acknowledged: %" PRId64 " late, %" PRId64
           " bad, %" PRId64 " repeated; seed %" PRId64 "\n",
           generating->made, acknowledged, generating->late, generating->bad, generating->repeated,
           generating->arguments->seed);
}

static enum status generate(struct generating *generating, const struct source *source,
                            struct error *error)
{
    const struct arguments *arguments = generating->arguments;
    struct sending *sending = &generating->sending;
    enum status status = event_maker_create(source, &arguments->maker, &generating->maker, error);
    if (status != STATUS_OK)
        return status;
    if (arguments->print) {
        sending->start_us = program_monotonic_us();
        return make_events(generating, error);
    }
    status = sending_start(sending, error);
    if (status != STATUS_OK)
        return status;
    status = sending_finish(sending, make_events(generating, error), error);
    print_summary(generating, kafka_producer_acknowledged(sending->producer));
    return status == STATUS_OK && arguments->offsets ? sending_print_offsets(sending, error)
                                                     : status;
}

static int run_with(const void *its_arguments, const struct config *config,
                    const struct source *source)
{
    const struct arguments *arguments = its_arguments;
    struct error error = {0};
    struct generating generating = {
        .arguments = arguments,
        .sending = {.config = config, .topic = source->topic, .rate = arguments->rate},
        .key_field = SIZE_MAX,
    };
    if (arguments->key != NULL &&
        !record_key_field(source, arguments->key, &generating.key_field)) {
        command_complain("--key: source %s has no field %s", source->name, arguments->key);
        return PROGRAM_USAGE;
    }
    arena_init(&generating.arena);
    enum status status = generate(&generating, source, &error);
    sending_end(&generating.sending);
    event_maker_destroy(generating.maker);
    arena_deinit(&generating.arena);
    int written = command_finish_output();
    return status == STATUS_OK ? written : command_fail(&error);
}

static int run(const struct program_arguments *program)
{
    struct arguments arguments = {
        .rate = RATE_DEFAULT,
        .start_us = INT64_MIN,
        .maker = {.keys = KEYS_DEFAULT, .lateness_us = INT64_C(3600000000)},
    };
    if (!parse(program, &arguments))
        return PROGRAM_USAGE;
    return sending_command(program, arguments.source, run_with, &arguments);
}

const struct command command_generate = {
    .name = "generate",
    .summary = "send made-up events of a source, at a rate",
    .help =
        "usage: dovetail generate SOURCE [OPTION]...\n"
        "\n"
        "Makes events that fit the source's definition, values by the types of its fields, and\n"
        "sends them to its topic: for trials and for load. Event times are now. Ends at --count,\n"
        "after --duration, or on SIGTERM; exit code 0 means that all records are acknowledged.\n"
        "The same seed makes the same events, but for their times.\n"
        "\n"
        "  --rate N          events a second (100); 0: as fast as can be\n"
        "  --count N         this many, and then end\n"
        "  --duration T      for this long: 30s, 5m, 2h\n"
        "  --keys K          different values of each string field (100), few of them often\n"
        "  --key FIELD       this field's text is the record's key\n"
        "  --late P%         this share has event times that lie behind\n"
        "  --lateness T      by up to this much (1h)\n"
        "  --bad P%          this share is dead-lettered: broken JSON, missing or wrong values\n"
        "  --duplicates P%   this share repeats an earlier event, its id too\n"
        "  --seed S          of the random numbers; without it another one each time\n"
        "  --start T         event times begin here, and go on by the rate\n"
        "  --print           to standard output instead of Kafka\n"
        "  --offsets         print the topic's end offsets afterwards, for at_least\n"
        "\n"
        "options of all commands:",
    .run = run,
};
