/* dovetail dead-letters list: the newest records that could not be counted, from the dead-letter
 * topics of one source or of all. Reads Kafka only; a letter that was written twice (a crash
 * between writing and committing) shows twice. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/table.h"
#include "core/kafka/kafka.h"
#include "core/base/utf8.h"
#include "core/time/timestamp.h"

enum {
    KAFKA_TIMEOUT_MS = 15000,
    POLL_MS = 500,
    POLL_LIMIT = 60,
    VALUE_SHOWN_BYTES = 80,
    TEXT_BYTES = 400
};

struct arguments {
    const char *source; /* NULL: all */
    int64_t limit;      /* of each partition of each topic */
    bool as_json;
};

/* Either a table or an array, filled letter by letter. */
struct output {
    struct table *table;
    json_t *letters;
};

static const char *const columns[] = {">letter", "topic",  ">partition", ">offset",
                                      "view",    "reason", "value",      NULL};

/* All values of a header, joined by commas; false where there is none. */
static bool join_headers(const rd_kafka_headers_t *headers, const char *name, char *out,
                         size_t size)
{
    const void *value;
    size_t length;
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0;
         headers != NULL && rd_kafka_header_get(headers, i, name, &value, &length) == 0; i++) {
        int written = snprintf(out + used, size - used, "%s%.*s", i > 0 ? "," : "", (int)length,
                               value != NULL ? (const char *)value : "");
        if (written < 0 || (size_t)written >= size - used)
            break;
        used += (size_t)written;
    }
    return used > 0;
}

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

static void add_letter(struct output *output, const rd_kafka_message_t *message)
{
    enum { PARTITION = 1, OFFSET, REASON = 4, WITHHELD, IMPORT, LINE, REPLAYS, NAMES };
    static const char *const names[NAMES] = {
        "dovetail.topic",  "dovetail.partition", "dovetail.offset",
        "dovetail.view",   "dovetail.reason",    "dovetail.withheld",
        "dovetail.import", "dovetail.line",      "dovetail.replays"};
    char texts[NAMES][TEXT_BYTES];
    bool present[NAMES];
    rd_kafka_headers_t *headers = NULL;
    if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
        headers = NULL;
    for (size_t i = 0; i < NAMES; i++)
        present[i] = join_headers(headers, names[i], texts[i], TEXT_BYTES);
    if (output->letters != NULL) {
        json_t *letter = json_object();
        json_object_set_new(letter, "letter",
                            json_pack("{s:s, s:i, s:I, s:o}", "topic",
                                      rd_kafka_topic_name(message->rkt), "partition",
                                      (int)message->partition, "offset",
                                      (json_int_t)message->offset, "at", time_json(message)));
        for (size_t i = 0; i < NAMES; i++) {
            bool is_number = i == PARTITION || i == OFFSET || i == LINE || i == REPLAYS;
            json_object_set_new(letter, names[i] + strlen("dovetail."),
                                !present[i] ? json_null()
                                : is_number ? json_integer(strtoll(texts[i], NULL, 10))
                                            : json_string(texts[i]));
        }
        json_object_set_new(letter, "value", value_json(message));
        json_array_append_new(output->letters, letter);
        return;
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
}

/* Reads [start, end) of one partition. */
static enum status read_letters(const struct config *config, const char *topic, int32_t partition,
                                int64_t start, int64_t end, struct output *output,
                                struct error *error)
{
    struct kafka_position position = {.topic = topic, .partition = partition, .offset = start};
    struct kafka_consumer *consumer = NULL;
    enum status status = kafka_consumer_assign(config->kafka, &position, 1, &consumer, error);
    bool done = false;
    for (int idle = 0; status == STATUS_OK && !done;) {
        rd_kafka_message_t *message = NULL;
        status = kafka_consumer_poll(consumer, POLL_MS, &message, error);
        if (status == STATUS_OK && message == NULL && (++idle > POLL_LIMIT || program_stopping()))
            status = error_set(error, STATUS_RETRY, "Kafka: no answer for topic %s", topic);
        if (message == NULL)
            continue;
        idle = 0;
        done = message->err != RD_KAFKA_RESP_ERR_NO_ERROR || message->offset + 1 >= end;
        if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR && message->offset < end)
            add_letter(output, message);
        rd_kafka_message_destroy(message);
    }
    kafka_consumer_close(consumer);
    return status;
}

static enum status list_topic(const struct config *config, const char *topic, int64_t limit,
                              struct output *output, struct error *error)
{
    int count = 0;
    struct kafka_consumer *consumer = NULL;
    enum status status =
        kafka_topic_partitions(config->kafka, topic, KAFKA_TIMEOUT_MS, &count, error);
    if (status == STATUS_OK)
        status = kafka_consumer_assign(config->kafka, NULL, 0, &consumer, error);
    for (int32_t i = 0; status == STATUS_OK && i < count; i++) {
        int64_t low;
        int64_t high;
        status =
            kafka_consumer_watermarks(consumer, topic, i, KAFKA_TIMEOUT_MS, &low, &high, error);
        if (status == STATUS_OK && high > low)
            status = read_letters(config, topic, i, high - low > limit ? high - limit : low, high,
                                  output, error);
    }
    kafka_consumer_close(consumer);
    return status;
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
        status = list_topic(config, source->dead_letter_topic, arguments->limit, &output, &error);
    }
    if (status == STATUS_OK && !found)
        status = error_set(&error, STATUS_REJECT, "there is no source %s", arguments->source);
    int code = status == STATUS_OK ? print_output(&output) : command_fail(&error);
    json_decref(output.letters);
    table_destroy(output.table);
    return code;
}

enum option { OPTION_LIMIT, OPTION_FORMAT };

static bool take_option(struct arguments *out, enum option option, const char *value)
{
    if (option == OPTION_LIMIT)
        return option_int64("--limit", value, 1, 1000000, &out->limit);
    out->as_json = strcmp(value, "json") == 0;
    if (out->as_json || strcmp(value, "table") == 0)
        return true;
    command_complain("--format: \"%s\" is neither table nor json", value);
    return false;
}

static bool parse(const struct program_arguments *program, struct arguments *out)
{
    static const struct option_spec specs[] = {
        [OPTION_LIMIT] = {"--limit", true}, [OPTION_FORMAT] = {"--format", true}, {NULL, false}};
    struct option_reader reader = {.next = program->rest, .specs = specs};
    bool listed = false;
    size_t index;
    const char *value = NULL;
    enum option_result result;
    while ((result = option_next(&reader, &index, &value)) != OPTION_END) {
        if (result == OPTION_FAULT)
            return false;
        if (result == OPTION_FOUND) {
            if (!take_option(out, (enum option)index, value))
                return false;
        } else if (!listed && strcmp(value, "list") == 0) {
            listed = true;
        } else if (listed && out->source == NULL) {
            out->source = value;
        } else {
            command_complain("%s: unexpected argument (see --help)", value);
            return false;
        }
    }
    return true;
}

static int run(const struct program_arguments *program)
{
    struct arguments arguments = {.limit = 100};
    struct session session = {0};
    struct definitions definitions = {0};
    if (!parse(program, &arguments))
        return PROGRAM_USAGE;
    int code = session_load_config(&session, program);
    if (code == PROGRAM_OK)
        code = command_load_definitions(session.config, &definitions);
    if (code == PROGRAM_OK)
        code = list(session.config, &definitions, &arguments);
    definitions_deinit(&definitions);
    session_close(&session);
    return code;
}

const struct command command_dead_letters = {
    .name = "dead-letters",
    .summary = "the records that could not be counted",
    .help = "usage: dovetail dead-letters list [SOURCE] [OPTION]...\n"
            "\n"
            "Lists the newest records that could not be counted: where each stood, which view\n"
            "refused it (none: it was bad for all), why, and its value.\n"
            "\n"
            "  --limit N     at most N of each partition (default 100)\n"
            "  --format F    table (default) or json\n"
            "\n"
            "options of all commands:",
    .run = run,
};
