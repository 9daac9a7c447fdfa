/* Dead letters: bad records, kept whole, on their way to the source's dead-letter topic.
 *
 * A letter has the record's key, value and headers, and tells by further headers where it stood and
 * why it was refused:
 *   dovetail.topic, dovetail.partition, dovetail.offset   its place, which identifies it
 *   dovetail.timestamp                                    the broker's, RFC 3339
 *   dovetail.reason                                       why
 *   dovetail.withheld                                     "value", "key": not told, see below
 *   dovetail.archive                                      "without key and headers": the record was
 *                                                         read from the archive, which has neither
 *   dovetail.view                                         one for each view that refused it; absent
 *                                                         where the record is bad for every view
 *
 * Where the source has a mask the value is the masked one; that of a record without the source's
 * fields is withheld, and so is the key where the definition says so.
 *
 * Where the dead-letter topic takes no letter of that size, the value is left out, or what else is
 * too large of the record's headers, key and value: "dovetail.withheld" says "value: too large for
 * the dead-letter topic". The record is in the source's topic and in the archive, at its place.
 *
 * Invariant: P never passes a bad record whose letter is not acknowledged. Letters are collected by
 * the main thread and sent by the flusher, before the transaction that moves P; a crash in between
 * sends them again. */
#ifndef DOVETAIL_SPEED_DEAD_LETTER_H
#define DOVETAIL_SPEED_DEAD_LETTER_H

#include "core/kafka/kafka.h"

enum { REJECTION_VIEWS_MAX = 16 };

/* Why a record was refused. */
struct rejection {
    const char *views[REJECTION_VIEWS_MAX]; /* borrowed from the catalogue */
    size_t view_count;                      /* 0: bad for every view */
    char reason[ERROR_TEXT_BYTES];
};

/* Kinds of reasons, few and stable: for counting. */
enum dead_letter_kind {
    DEAD_LETTER_NOT_JSON,
    DEAD_LETTER_TOO_LARGE,
    DEAD_LETTER_MISSING, /* a field that is needed is not there, or null */
    DEAD_LETTER_TYPE,    /* a field has another type */
    DEAD_LETTER_VALUE,   /* a field's value is out of range, or a derived field fails */
    DEAD_LETTER_VIEW,    /* good, but an expression of a view fails */
    DEAD_LETTER_KINDS
};

enum dead_letter_kind dead_letter_kind(const struct rejection *rejection);
/* "not_json" and so on. */
const char *dead_letter_kind_name(enum dead_letter_kind kind);

struct dead_letter;

struct dead_letters {
    struct dead_letter *letters;
    size_t count;
    size_t capacity;
    size_t bytes; /* of keys, values and headers */
};

void dead_letters_clear(struct dead_letters *letters); /* keeps the array */
void dead_letters_deinit(struct dead_letters *letters);

/* What a letter may tell of a record. */
struct disclosure {
    const char *value; /* NULL: there is none, or it is withheld */
    size_t length;
    bool value_withheld;
    bool key_withheld;
    bool masked; /* the value is not the original one: it was masked */
};

/* Where a record comes from, and what of it is not in its value. */
struct letter_origin {
    const char *topic;
    int32_t partition;
    int64_t offset;
    int64_t timestamp_ms; /* the broker's, -1 = none */
    const void *key;      /* NULL: there is none */
    size_t key_length;
    const rd_kafka_headers_t *headers; /* NULL: there are none */
    bool archived;                     /* read from the archive, which has neither */
};

/* Copies the record. `topic` (where to) is borrowed until the letters are cleared. */
enum status dead_letters_add(struct dead_letters *letters, const char *topic,
                             const struct letter_origin *origin,
                             const struct disclosure *disclosure, const struct rejection *rejection,
                             struct error *error) MUST_CHECK;

/* Queues `count` of them; kafka_producer_flush tells when they have arrived. */
enum status dead_letters_send(const struct dead_letters *letters, size_t first, size_t count,
                              struct kafka_producer *producer, struct error *error) MUST_CHECK;

/* Leaves something else of the record out, from now on, because the letter is too large; false
 * where nothing smaller is left to try. */
bool dead_letters_withhold(struct dead_letters *letters, size_t index) MUST_CHECK;

#endif
