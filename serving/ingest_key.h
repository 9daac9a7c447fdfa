/* Idempotency keys, kept in PostgreSQL: the table and its invariant are in
 * schemas/sql/018_ingest.sql. Any thread, with a connection of its own. */
#ifndef DOVETAIL_SERVING_INGEST_KEY_H
#define DOVETAIL_SERVING_INGEST_KEY_H

#include "core/postgres/postgres.h"

enum {
    INGEST_KEY_MAX_BYTES = 255,
    INGEST_KEY_HOURS = 24,
    INGEST_HASH_BYTES = 32,
    INGEST_ATTEMPT_BYTES = 33, /* 0-terminated */
};

/* One use of a key. Texts are borrowed. */
struct ingest_key {
    const char *caller;
    const char *source;
    const char *key;
    char request[2 * INGEST_HASH_BYTES + 1]; /* hexadecimal */
    char attempt[INGEST_ATTEMPT_BYTES];
};

enum ingest_key_state {
    INGEST_KEY_RESERVED,   /* it is ours: events may be written */
    INGEST_KEY_DONE,       /* answered before: `status` and `answer` */
    INGEST_KEY_OTHER,      /* used for another request */
    INGEST_KEY_BUSY,       /* being answered now */
    INGEST_KEY_UNRESOLVED, /* whoever began it has not said what became of it */
};

struct ingest_key_found {
    enum ingest_key_state state;
    int status;
    char *answer; /* malloc'd */
};

/* 1 to 255 visible ASCII characters. */
bool ingest_key_is_valid(const char *text) MUST_CHECK;

/* Makes the attempt's name. False: there are no random numbers. */
bool ingest_key_begin(struct ingest_key *key) MUST_CHECK;

/* Reserves the key, or finds out about it; committed when this returns. An attempt that is older
 * than `sending_ms` does not come to its end any more. */
enum status ingest_key_reserve(struct postgres *postgres, const struct ingest_key *key,
                               int64_t sending_ms, struct ingest_key_found *out,
                               struct error *error) MUST_CHECK;

/* What became of a reserved key: an answer; nothing was written, so that it is free again; it is
 * not known. */
enum status ingest_key_done(struct postgres *postgres, const struct ingest_key *key, int status,
                            const char *answer, struct error *error) MUST_CHECK;
enum status ingest_key_release(struct postgres *postgres, const struct ingest_key *key,
                               struct error *error) MUST_CHECK;
enum status ingest_key_unknown(struct postgres *postgres, const struct ingest_key *key,
                               struct error *error) MUST_CHECK;

/* Removes keys that are too old to be good for anything; bounded. *more: there may be others. */
enum status ingest_key_clean(struct postgres *postgres, bool *more, struct error *error) MUST_CHECK;

#endif
