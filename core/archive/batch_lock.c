/* The batch lock: see core/archive/batch_lock.h. */
#include "core/archive/batch_lock.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/program/program.h"

/* "dovetail" in ASCII, and the number after it. Advisory locks are per database. */
#define BATCH_LOCK INT64_C(0x646f76657461696c)
#define SCHEDULE_LOCK (BATCH_LOCK + 1)

/* The first of two numbers, of which the second is the hash of a source's name: two sources with
 * one hash wait for each other, which does no harm. */
#define IMPORT_LOCK "1684631414"

enum { LOCK_WAIT_US = 3000000, LOCK_POLL_MS = 100 };

static enum status try_lock(struct postgres *postgres, int64_t lock, bool *locked,
                            struct error *error)
{
    char sql[80];
    snprintf(sql, sizeof sql, "SELECT pg_try_advisory_lock(%" PRId64 ")", lock);
    PGresult *result = NULL;
    enum status status = postgres_query(postgres, sql, 0, NULL, &result, error);
    *locked = status == STATUS_OK && postgres_bool(result, 0, 0);
    PQclear(result);
    return status;
}

enum status batch_lock_take(struct postgres *postgres, struct error *error)
{
    int64_t until_us = program_monotonic_us() + LOCK_WAIT_US;
    bool asked = false;
    for (;;) {
        bool locked;
        enum status status = try_lock(postgres, BATCH_LOCK, &locked, error);
        if (status != STATUS_OK || locked)
            return status;
        if (!asked)
            status = postgres_execute(postgres, "NOTIFY dovetail_batch", error);
        asked = true;
        if (status != STATUS_OK)
            return status;
        if (program_wait_ms(LOCK_POLL_MS))
            return error_set(error, STATUS_RETRY, "stopped");
        if (program_monotonic_us() >= until_us)
            return error_set(error, STATUS_FENCED,
                             "another dovetail-batch is at work on this database");
    }
}

enum status batch_lock_take_schedule(struct postgres *postgres, struct error *error)
{
    bool locked;
    enum status status = try_lock(postgres, SCHEDULE_LOCK, &locked, error);
    if (status == STATUS_OK && !locked)
        status = error_set(error, STATUS_FENCED, "another scheduler is at work on this database");
    return status;
}

enum status batch_lock_try_import(struct postgres *postgres, const char *source, bool *locked,
                                  struct error *error)
{
    PGresult *result = NULL;
    enum status status =
        postgres_query(postgres, "SELECT pg_try_advisory_lock(" IMPORT_LOCK ", hashtext($1))", 1,
                       &source, &result, error);
    *locked = status == STATUS_OK && postgres_bool(result, 0, 0);
    PQclear(result);
    return status;
}

enum status batch_lock_end_import(struct postgres *postgres, const char *source,
                                  struct error *error)
{
    PGresult *result = NULL;
    enum status status =
        postgres_query(postgres, "SELECT pg_advisory_unlock(" IMPORT_LOCK ", hashtext($1))", 1,
                       &source, &result, error);
    PQclear(result);
    return status;
}
