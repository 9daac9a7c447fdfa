/* Dead letters of an import: see import_letters.h. */
#include "batch_layer/import_letters.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/archive/archive.h"
#include "core/kafka/kafka.h"
#include "core/program/program.h"

enum {
    LETTERS_MAX = 500,
    BYTES_MAX = 4 << 20,
    FLUSH_MS = 1000,
    SILENCE_US = 60 * 1000 * 1000,
};

struct letter {
    char *value; /* owned; NULL: none */
    size_t length;
    rd_kafka_headers_t *headers; /* owned; sending takes a copy */
};

struct import_letters {
    const struct source *source;
    const char *file;
    struct kafka_producer *producer;
    struct letter letters[LETTERS_MAX];
    size_t count;
    size_t bytes;
};

enum status import_letters_create(const struct config *config, const struct source *source,
                                  const char *file, struct import_letters **out,
                                  struct error *error)
{
    struct import_letters *letters = calloc(1, sizeof *letters);
    *out = NULL;
    if (letters == NULL)
        return error_no_memory(error);
    letters->source = source;
    letters->file = file;
    enum status status = kafka_producer_create(config->kafka, &letters->producer, error);
    if (status == STATUS_OK)
        *out = letters;
    else
        import_letters_destroy(letters);
    return status;
}

static void clear(struct import_letters *letters)
{
    for (size_t i = 0; i < letters->count; i++) {
        free(letters->letters[i].value);
        if (letters->letters[i].headers != NULL)
            rd_kafka_headers_destroy(letters->letters[i].headers);
    }
    letters->count = 0;
    letters->bytes = 0;
}

void import_letters_destroy(struct import_letters *letters)
{
    if (letters == NULL)
        return;
    clear(letters);
    kafka_producer_destroy(letters->producer);
    free(letters);
}

/* --- headers --- */

static bool put(rd_kafka_headers_t *headers, const char *name, const char *text)
{
    return rd_kafka_header_add(headers, name, -1, text, -1) == RD_KAFKA_RESP_ERR_NO_ERROR;
}

static bool put_number(rd_kafka_headers_t *headers, const char *name, int64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, number);
    return put(headers, name, text);
}

static rd_kafka_headers_t *build_headers(const struct import_letters *letters,
                                         const struct import_record *record, int64_t offset,
                                         const struct import_fault *fault, bool is_text,
                                         bool withheld)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(12);
    bool good = headers != NULL && put(headers, "dovetail.topic", letters->source->topic) &&
                put_number(headers, "dovetail.partition", ARCHIVE_IMPORTED) &&
                put_number(headers, "dovetail.offset", offset) &&
                put(headers, "dovetail.import", letters->file) &&
                put_number(headers, "dovetail.line", record->line) &&
                put(headers, "dovetail.reason", fault->reason);
    if (good && record->last_line > record->line)
        good = put_number(headers, "dovetail.last_line", record->last_line);
    if (good && is_text)
        good = put(headers, "dovetail.content", "text"); /* a line that is no record */
    if (good && withheld)
        good = put(headers, "dovetail.withheld", "value");
    for (size_t i = 0; good && i < fault->view_count; i++)
        good = put(headers, "dovetail.view", fault->views[i]);
    if (good)
        return headers;
    if (headers != NULL)
        rd_kafka_headers_destroy(headers);
    return NULL;
}

/* --- sending --- */

static enum status send_letter(struct import_letters *letters, const struct letter *letter,
                               struct error *error)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_copy(letter->headers);
    if (headers == NULL)
        return error_no_memory(error);
    enum status status = kafka_producer_send(letters->producer, letters->source->dead_letter_topic,
                                             RD_KAFKA_PARTITION_UA, NULL, 0, letter->value,
                                             letter->length, headers, error);
    if (status != STATUS_OK)
        rd_kafka_headers_destroy(headers);
    return status;
}

static enum status await(struct import_letters *letters, struct error *error)
{
    int64_t until_us = program_monotonic_us() + SILENCE_US;
    for (;;) {
        enum status status = kafka_producer_flush(letters->producer, FLUSH_MS, error);
        if (status != STATUS_RETRY)
            return status;
        if (program_stopping())
            return error_set(error, STATUS_RETRY, "stopped");
        if (program_monotonic_us() >= until_us)
            return error_set(error, STATUS_RETRY,
                             "Kafka has not acknowledged dead letters for a minute");
    }
}

static enum status send_alone(struct import_letters *letters, const struct letter *letter,
                              struct error *error)
{
    enum status status = send_letter(letters, letter, error);
    struct error ignored;
    enum status arrived = await(letters, status == STATUS_OK ? error : &ignored);
    return status == STATUS_OK ? arrived : status;
}

/* One that the topic does not take goes without its value, and says so. */
static enum status send_smaller(struct import_letters *letters, struct letter *letter,
                                struct error *error)
{
    enum status status = send_alone(letters, letter, error);
    if (status != STATUS_REJECT || letter->value == NULL)
        return status;
    free(letter->value);
    letter->value = NULL;
    letter->length = 0;
    if (!put(letter->headers, "dovetail.withheld", "value: too large for the dead-letter topic"))
        return error_no_memory(error);
    return send_alone(letters, letter, error);
}

enum status import_letters_flush(struct import_letters *letters, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < letters->count; i++)
        status = send_letter(letters, &letters->letters[i], error);
    struct error ignored;
    enum status arrived = await(letters, status == STATUS_OK ? error : &ignored);
    status = status == STATUS_OK ? arrived : status;
    if (status == STATUS_REJECT) { /* some were refused: which? Those that were not come twice. */
        status = STATUS_OK;
        for (size_t i = 0; status == STATUS_OK && i < letters->count; i++)
            status = send_smaller(letters, &letters->letters[i], error);
    }
    clear(letters);
    return status == STATUS_OK ? STATUS_OK
                               : error_wrap(error, "topic %s", letters->source->dead_letter_topic);
}

enum status import_letters_add(struct import_letters *letters, const struct import_record *record,
                               const char *value, size_t length, int64_t offset,
                               const struct import_fault *fault, struct error *error)
{
    bool masked = letters->source->mask_count > 0;
    bool is_text = record->value == NULL;
    if (is_text && !masked) {
        value = record->text;
        length = record->text_length;
    }
    struct letter *letter = &letters->letters[letters->count];
    *letter = (struct letter){.length = length};
    letter->headers =
        build_headers(letters, record, offset, fault, is_text, masked && value == NULL);
    if (value != NULL)
        letter->value = malloc(length + 1);
    letters->count++;
    if (letter->headers == NULL || (value != NULL && letter->value == NULL))
        return error_no_memory(error);
    if (value != NULL)
        memcpy(letter->value, value, length);
    letters->bytes += length;
    if (letters->count < LETTERS_MAX && letters->bytes < BYTES_MAX)
        return STATUS_OK;
    return import_letters_flush(letters, error);
}
