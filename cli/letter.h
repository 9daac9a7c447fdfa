/* Dead letters as the layers write them: reading a dead-letter topic, and telling what a letter has
 * of the record from what it says about it.
 *
 * A letter's headers are the record's, and behind them ours, which begin with the last
 * "dovetail.topic" (speed_layer/dead_letter.c, batch_layer/import_letters.c). One thread. */
#ifndef DOVETAIL_CLI_LETTER_H
#define DOVETAIL_CLI_LETTER_H

#include <librdkafka/rdkafka.h>
#include <stdint.h>

#include "core/program/config.h"

/* Everything is borrowed from the message. */
struct letter {
    const rd_kafka_message_t *message;
    int64_t written_ms; /* -1: not known */
    const rd_kafka_headers_t *headers;
    size_t first; /* index of our first header; all headers before are the record's */
    size_t count;
    bool is_ours; /* it has the headers that every dead letter has */
    char topic[256];
    int32_t partition; /* -1: imported */
    int64_t offset;
};

/* Reads at most `limit` newest letters of each partition, in the order of offsets, up to where the
 * topic ends now. Every letter is the callback's until it returns. */
enum status letters_read(const struct config *config, const char *topic, int64_t limit,
                         enum status (*take)(const struct letter *letter, void *context,
                                             struct error *error),
                         void *context, struct error *error) MUST_CHECK;

/* All values of one of our headers, joined by commas and cut to `size`; false: there is none. */
bool letter_text(const struct letter *letter, const char *name, char *out, size_t size);
/* The same of the record's own headers. */
bool letter_record_text(const struct letter *letter, const char *name, char *out, size_t size);

#endif
