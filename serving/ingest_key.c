/* Idempotency keys: see serving/ingest_key.h.
 *
 * Each function is one short transaction. Its commit must be durable before anything is sent, so
 * synchronous_commit is asked for whatever the database's default is. */
#include "serving/ingest_key.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AGE "interval '24 hours'" /* INGEST_KEY_HOURS */

enum { CLEANED_AT_ONCE = 1000 };

static const char begin_sql[] = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;"
                                " SET LOCAL synchronous_commit = on";

static const char reserve_sql[] =
    "INSERT INTO dovetail_internal.ingest_key AS k"
    " (caller, source, key, request, attempt, state)"
    " VALUES ($1, $2, $3, pg_catalog.decode($4, 'hex'), $5, 'sending')"
    " ON CONFLICT (caller, source, key) DO UPDATE SET request = excluded.request,"
    "  attempt = excluded.attempt, state = 'sending', status = NULL, answer = NULL,"
    "  reserved_at = pg_catalog.now()"
    "  WHERE k.reserved_at < pg_catalog.now() - " AGE " RETURNING 1";

static const char find_sql[] =
    "SELECT request = pg_catalog.decode($4, 'hex'), state, status, answer,"
    " state = 'sending'"
    " AND reserved_at > pg_catalog.now() - $5::bigint * interval '1 millisecond'"
    " FROM dovetail_internal.ingest_key WHERE caller = $1 AND source = $2 AND key = $3";

#define MINE                                                                                       \
    " WHERE caller = $1 AND source = $2 AND key = $3 AND attempt = $4 AND state = 'sending'"

static const char clean_sql[] =
    "DELETE FROM dovetail_internal.ingest_key WHERE ctid IN"
    " (SELECT ctid FROM dovetail_internal.ingest_key"
    "  WHERE reserved_at < pg_catalog.now() - " AGE
    "  LIMIT 1000 FOR UPDATE SKIP LOCKED) RETURNING 1"; /* CLEANED_AT_ONCE */

bool ingest_key_is_valid(const char *text)
{
    size_t length = strlen(text);
    if (length == 0 || length > INGEST_KEY_MAX_BYTES)
        return false;
    for (size_t i = 0; i < length; i++)
        if (text[i] < 0x21 || text[i] > 0x7E)
            return false;
    return true;
}

bool ingest_key_begin(struct ingest_key *key)
{
    unsigned char bytes[(INGEST_ATTEMPT_BYTES - 1) / 2];
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return false;
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(key->attempt + 2 * i, 3, "%02x", bytes[i]);
    return true;
}

/* Ends the transaction; *error is of its first failure. */
static enum status end(struct postgres *postgres, enum status status, struct error *error)
{
    if (status == STATUS_OK)
        return postgres_execute(postgres, "COMMIT", error);
    struct error ignored;
    (void)!postgres_execute(postgres, "ROLLBACK", &ignored);
    return status;
}

static enum status read_found(const PGresult *result, struct ingest_key_found *out,
                              struct error *error)
{
    out->state = INGEST_KEY_BUSY; /* of no row: it was released this moment */
    if (PQntuples(result) == 0)
        return STATUS_OK;
    if (!postgres_bool(result, 0, 0)) {
        out->state = INGEST_KEY_OTHER;
    } else if (strcmp(PQgetvalue(result, 0, 1), "done") == 0) {
        out->state = INGEST_KEY_DONE;
        out->status = (int)postgres_int64(result, 0, 2);
        out->answer = strdup(PQgetvalue(result, 0, 3));
        if (out->answer == NULL)
            return error_no_memory(error);
    } else {
        out->state = postgres_bool(result, 0, 4) ? INGEST_KEY_BUSY : INGEST_KEY_UNRESOLVED;
    }
    return STATUS_OK;
}

enum status ingest_key_reserve(struct postgres *postgres, const struct ingest_key *key,
                               int64_t sending_ms, struct ingest_key_found *out,
                               struct error *error)
{
    char age[24];
    PGresult *result = NULL;
    const char *parameters[] = {key->caller, key->source, key->key, key->request, key->attempt};
    *out = (struct ingest_key_found){.state = INGEST_KEY_RESERVED};
    enum status status = postgres_execute(postgres, begin_sql, error);
    if (status != STATUS_OK)
        return status;
    status = postgres_query(postgres, reserve_sql, 5, parameters, &result, error);
    if (status == STATUS_OK && PQntuples(result) == 0) {
        PQclear(result);
        result = NULL;
        snprintf(age, sizeof age, "%lld", (long long)sending_ms);
        parameters[4] = age;
        status = postgres_query(postgres, find_sql, 5, parameters, &result, error);
        if (status == STATUS_OK)
            status = read_found(result, out, error);
    }
    PQclear(result);
    status = end(postgres, status, error);
    if (status != STATUS_OK) {
        free(out->answer);
        out->answer = NULL;
    }
    return status;
}

static enum status change(struct postgres *postgres, const struct ingest_key *key, const char *sql,
                          const char *status_text, const char *answer, struct error *error)
{
    const char *parameters[] = {key->caller,  key->source, key->key,
                                key->attempt, status_text, answer};
    enum status status = postgres_execute(postgres, begin_sql, error);
    if (status == STATUS_OK)
        status =
            end(postgres,
                postgres_run(postgres, sql, status_text != NULL ? 6 : 4, parameters, error), error);
    return status;
}

enum status ingest_key_done(struct postgres *postgres, const struct ingest_key *key, int status,
                            const char *answer, struct error *error)
{
    char text[16];
    snprintf(text, sizeof text, "%d", status);
    return change(postgres, key,
                  "UPDATE dovetail_internal.ingest_key SET state = 'done', status = $5::integer,"
                  " answer = $6" MINE,
                  text, answer, error);
}

enum status ingest_key_release(struct postgres *postgres, const struct ingest_key *key,
                               struct error *error)
{
    return change(postgres, key, "DELETE FROM dovetail_internal.ingest_key" MINE, NULL, NULL,
                  error);
}

enum status ingest_key_unknown(struct postgres *postgres, const struct ingest_key *key,
                               struct error *error)
{
    return change(postgres, key, "UPDATE dovetail_internal.ingest_key SET state = 'unknown'" MINE,
                  NULL, NULL, error);
}

enum status ingest_key_clean(struct postgres *postgres, bool *more, struct error *error)
{
    PGresult *result = NULL;
    *more = false;
    enum status status = postgres_execute(postgres, begin_sql, error);
    if (status != STATUS_OK)
        return status;
    status = postgres_query(postgres, clean_sql, 0, NULL, &result, error);
    *more = status == STATUS_OK && PQntuples(result) == CLEANED_AT_ONCE;
    PQclear(result);
    return end(postgres, status, error);
}
