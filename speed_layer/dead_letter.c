/* Collecting and sending bad records: see dead_letter.h. */
#include "speed_layer/dead_letter.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/time/timestamp.h"

/* What of a record can be left out, where the dead-letter topic takes no letter of its size. */
enum part { PART_VALUE = 1, PART_HEADERS = 2, PART_KEY = 4 };

/* In this order: as little as possible, and what is of least use first. */
static const unsigned omissions[] = {
    0,
    PART_VALUE,
    PART_HEADERS,
    PART_KEY,
    PART_VALUE | PART_HEADERS,
    PART_VALUE | PART_KEY,
    PART_HEADERS | PART_KEY,
    PART_VALUE | PART_HEADERS | PART_KEY,
};

struct dead_letter {
    const char *topic;
    char *bytes; /* key, then value; owned */
    size_t key_length;
    size_t value_length;
    bool has_key;
    bool has_value;
    rd_kafka_headers_t *headers; /* owned; sending takes a copy, so that it can be repeated */
    size_t original_headers;     /* the first ones are the record's */
    size_t omission;             /* index into omissions */
};

/* --- kinds --- */

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* By what core/records/event_parser.c writes. */
enum dead_letter_kind dead_letter_kind(const struct rejection *rejection)
{
    const char *reason = rejection->reason;
    if (rejection->view_count > 0)
        return DEAD_LETTER_VIEW;
    if (begins(reason, "not "))
        return DEAD_LETTER_NOT_JSON;
    if (begins(reason, "record too large"))
        return DEAD_LETTER_TOO_LARGE;
    const char *said = strstr(reason, "\": ");
    if (said == NULL)
        return DEAD_LETTER_VALUE;
    said += strlen("\": ");
    if (strcmp(said, "missing") == 0 || begins(said, "null, but "))
        return DEAD_LETTER_MISSING;
    return begins(said, "wants ") ? DEAD_LETTER_TYPE : DEAD_LETTER_VALUE;
}

const char *dead_letter_kind_name(enum dead_letter_kind kind)
{
    static const char *const names[DEAD_LETTER_KINDS] = {
        [DEAD_LETTER_NOT_JSON] = "not_json", [DEAD_LETTER_TOO_LARGE] = "too_large",
        [DEAD_LETTER_MISSING] = "missing",   [DEAD_LETTER_TYPE] = "type",
        [DEAD_LETTER_VALUE] = "value",       [DEAD_LETTER_VIEW] = "view",
    };
    return names[kind];
}

/* --- collecting --- */

void dead_letters_clear(struct dead_letters *letters)
{
    for (size_t i = 0; i < letters->count; i++) {
        free(letters->letters[i].bytes);
        if (letters->letters[i].headers != NULL)
            rd_kafka_headers_destroy(letters->letters[i].headers);
    }
    letters->count = 0;
    letters->bytes = 0;
}

void dead_letters_deinit(struct dead_letters *letters)
{
    dead_letters_clear(letters);
    free(letters->letters);
    *letters = (struct dead_letters){0};
}

static bool add_header(rd_kafka_headers_t *headers, const char *name, const char *text)
{
    return rd_kafka_header_add(headers, name, -1, text, -1) == RD_KAFKA_RESP_ERR_NO_ERROR;
}

static bool add_number_header(rd_kafka_headers_t *headers, const char *name, int64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, number);
    return add_header(headers, name, text);
}

static bool add_timestamp_header(rd_kafka_headers_t *headers, int64_t timestamp_ms)
{
    if (timestamp_ms < 0)
        return true;
    char text[TIMESTAMP_TEXT_SIZE];
    int64_t timestamp_us;
    if (__builtin_mul_overflow(timestamp_ms, INT64_C(1000), &timestamp_us))
        return true; /* a producer wrote nonsense; the record keeps it */
    timestamp_format(timestamp_us, text, sizeof text);
    return add_header(headers, "dovetail.timestamp", text);
}

/* The record's headers, then ours. */
static rd_kafka_headers_t *build_headers(const struct letter_origin *origin,
                                         const struct disclosure *disclosure,
                                         const struct rejection *rejection, size_t *original_count)
{
    rd_kafka_headers_t *headers =
        origin->headers != NULL ? rd_kafka_headers_copy(origin->headers) : rd_kafka_headers_new(8);
    if (headers == NULL)
        return NULL;
    *original_count = rd_kafka_header_cnt(headers);
    bool good = add_header(headers, "dovetail.topic", origin->topic) &&
                add_number_header(headers, "dovetail.partition", origin->partition) &&
                add_number_header(headers, "dovetail.offset", origin->offset) &&
                add_timestamp_header(headers, origin->timestamp_ms) &&
                add_header(headers, "dovetail.reason", rejection->reason);
    if (good && disclosure->value_withheld)
        good = add_header(headers, "dovetail.withheld", "value");
    if (good && disclosure->key_withheld)
        good = add_header(headers, "dovetail.withheld", "key");
    if (good && disclosure->masked)
        good = add_header(headers, "dovetail.masked", "true");
    if (good && origin->archived)
        good = add_header(headers, "dovetail.archive", "without key and headers");
    for (size_t i = 0; good && i < rejection->view_count; i++)
        good = add_header(headers, "dovetail.view", rejection->views[i]);
    if (!good) {
        rd_kafka_headers_destroy(headers);
        return NULL;
    }
    return headers;
}

/* Those from index `first` on, copied; NULL for want of memory. */
static rd_kafka_headers_t *copy_headers(const rd_kafka_headers_t *headers, size_t first)
{
    if (first == 0)
        return rd_kafka_headers_copy(headers);
    rd_kafka_headers_t *copy = rd_kafka_headers_new(8);
    const char *name;
    const void *value;
    size_t length;
    bool good = copy != NULL;
    for (size_t i = first; good && rd_kafka_header_get_all(headers, i, &name, &value, &length) ==
                                       RD_KAFKA_RESP_ERR_NO_ERROR;
         i++)
        good = rd_kafka_header_add(copy, name, -1, value, (ssize_t)length) ==
               RD_KAFKA_RESP_ERR_NO_ERROR;
    if (good)
        return copy;
    if (copy != NULL)
        rd_kafka_headers_destroy(copy);
    return NULL;
}

static rd_kafka_headers_t *headers_to_send(const struct dead_letter *letter)
{
    static const struct {
        enum part part;
        const char *text;
    } texts[] = {
        {PART_VALUE, "value: too large for the dead-letter topic"},
        {PART_HEADERS, "headers: too large for the dead-letter topic"},
        {PART_KEY, "key: too large for the dead-letter topic"},
    };
    unsigned omitted = omissions[letter->omission];
    rd_kafka_headers_t *headers =
        copy_headers(letter->headers, (omitted & PART_HEADERS) != 0 ? letter->original_headers : 0);
    bool good = headers != NULL;
    for (size_t i = 0; good && i < sizeof texts / sizeof texts[0]; i++)
        if ((omitted & texts[i].part) != 0)
            good = add_header(headers, "dovetail.withheld", texts[i].text);
    if (good)
        return headers;
    if (headers != NULL)
        rd_kafka_headers_destroy(headers);
    return NULL;
}

static size_t header_bytes(const rd_kafka_headers_t *headers)
{
    size_t bytes = 0;
    const char *name;
    const void *value;
    size_t length;
    for (size_t i = 0;
         rd_kafka_header_get_all(headers, i, &name, &value, &length) == RD_KAFKA_RESP_ERR_NO_ERROR;
         i++)
        bytes += strlen(name) + length;
    return bytes;
}

static bool make_room(struct dead_letters *letters)
{
    if (letters->count < letters->capacity)
        return true;
    size_t capacity = letters->capacity == 0 ? 16 : letters->capacity * 2;
    struct dead_letter *grown = reallocarray(letters->letters, capacity, sizeof *grown);
    if (grown == NULL)
        return false;
    letters->letters = grown;
    letters->capacity = capacity;
    return true;
}

enum status dead_letters_add(struct dead_letters *letters, const char *topic,
                             const struct letter_origin *origin,
                             const struct disclosure *disclosure, const struct rejection *rejection,
                             struct error *error)
{
    if (!make_room(letters))
        return error_no_memory(error);
    bool has_key = origin->key != NULL && !disclosure->key_withheld;
    struct dead_letter letter = {
        .topic = topic,
        .has_key = has_key,
        .has_value = disclosure->value != NULL,
        .key_length = has_key ? origin->key_length : 0,
        .value_length = disclosure->value != NULL ? disclosure->length : 0,
    };
    letter.bytes = malloc(letter.key_length + letter.value_length + 1);
    letter.headers = build_headers(origin, disclosure, rejection, &letter.original_headers);
    if (letter.bytes == NULL || letter.headers == NULL) {
        free(letter.bytes);
        if (letter.headers != NULL)
            rd_kafka_headers_destroy(letter.headers);
        return error_no_memory(error);
    }
    if (letter.has_key)
        memcpy(letter.bytes, origin->key, letter.key_length);
    if (letter.has_value)
        memcpy(letter.bytes + letter.key_length, disclosure->value, letter.value_length);
    letters->letters[letters->count++] = letter;
    letters->bytes +=
        sizeof letter + letter.key_length + letter.value_length + header_bytes(letter.headers);
    return STATUS_OK;
}

static enum status send_letter(const struct dead_letter *letter, struct kafka_producer *producer,
                               struct error *error)
{
    unsigned omitted = omissions[letter->omission];
    bool has_key = letter->has_key && (omitted & PART_KEY) == 0;
    bool has_value = letter->has_value && (omitted & PART_VALUE) == 0;
    rd_kafka_headers_t *headers = headers_to_send(letter);
    if (headers == NULL)
        return error_no_memory(error);
    enum status status = kafka_producer_send(
        producer, letter->topic, RD_KAFKA_PARTITION_UA, has_key ? letter->bytes : NULL,
        has_key ? letter->key_length : 0, has_value ? letter->bytes + letter->key_length : NULL,
        has_value ? letter->value_length : 0, headers, error);
    if (status != STATUS_OK)
        rd_kafka_headers_destroy(headers);
    return status;
}

enum status dead_letters_send(const struct dead_letters *letters, size_t first, size_t count,
                              struct kafka_producer *producer, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = first; status == STATUS_OK && i < first + count; i++)
        status = send_letter(&letters->letters[i], producer, error);
    return status;
}

bool dead_letters_withhold(struct dead_letters *letters, size_t index)
{
    struct dead_letter *letter = &letters->letters[index];
    unsigned present = (letter->value_length > 0 ? PART_VALUE : 0) |
                       (letter->original_headers > 0 ? PART_HEADERS : 0) |
                       (letter->key_length > 0 ? PART_KEY : 0);
    size_t next = letter->omission + 1;
    while (next < sizeof omissions / sizeof omissions[0] && (omissions[next] & ~present) != 0)
        next++;
    if (next == sizeof omissions / sizeof omissions[0])
        return false;
    letter->omission = next;
    return true;
}
