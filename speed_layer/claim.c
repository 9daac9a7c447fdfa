/* The claiming transaction: see claim.h. Main thread. */
#include "speed_layer/claim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/catalog/lock_wait.h"
#include "core/program/program.h"
#include "speed_layer/sql_array.h"

enum { WATERMARKS_TIMEOUT_MS = 5000 };

static struct claim *find_claim(struct claim *claims, size_t count, const char *topic,
                                int64_t partition)
{
    for (size_t i = 0; i < count; i++)
        if (claims[i].partition == partition && strcmp(claims[i].topic, topic) == 0)
            return &claims[i];
    return NULL;
}

/* Topics and partitions as two arrays. */
static void add_addresses(struct sql_array *arrays, const struct claim *claims, size_t count)
{
    sql_array_begin(&arrays[0]);
    sql_array_begin(&arrays[1]);
    for (size_t i = 0; i < count; i++) {
        sql_array_add_text(&arrays[0], claims[i].topic);
        sql_array_add_int64(&arrays[1], claims[i].partition);
    }
}

/* Runs `sql` with $1 = topics, $2 = partitions and up to three further parameters. */
static enum status query_claims(struct postgres *postgres, const char *sql,
                                const struct claim *claims, size_t count, const char *third,
                                const char *fourth, const char *fifth, PGresult **out,
                                struct error *error)
{
    struct sql_array arrays[2];
    add_addresses(arrays, claims, count);
    enum status status = sql_arrays_end(arrays, 2, error);
    if (status == STATUS_OK) {
        const char *parameters[] = {arrays[0].text, arrays[1].text, third, fourth, fifth};
        int parameter_count = fifth != NULL ? 5 : fourth != NULL ? 4 : third != NULL ? 3 : 2;
        status = postgres_query(postgres, sql, parameter_count, parameters, out, error);
    }
    sql_arrays_deinit(arrays, 2);
    return status;
}

static void roll_back(struct postgres *postgres, struct error *error)
{
    struct error ignored;
    if (postgres_is_connected(postgres) &&
        postgres_execute(postgres, "ROLLBACK", &ignored) != STATUS_OK)
        error_wrap(error, "%s", ignored.text);
}

/* --- partitions that have no position yet --- */

static enum status insert_missing(struct postgres *postgres, const struct claim *missing,
                                  size_t count, struct error *error)
{
    struct sql_array base_array;
    sql_array_begin(&base_array);
    for (size_t i = 0; i < count; i++)
        sql_array_add_int64(&base_array, missing[i].base_offset);
    PGresult *result = NULL;
    enum status status = sql_arrays_end(&base_array, 1, error);
    /* Views that exist already have seen nothing of a new partition, so their speed rows begin at
     * its base. */
    if (status == STATUS_OK)
        status = catalog_lock(postgres, error);
    if (status == STATUS_OK)
        status = query_claims(
            postgres,
            "WITH made AS ("
            "    INSERT INTO dovetail_internal.position"
            "        (topic, partition, base_offset, next_offset, slice_start)"
            "    SELECT g.topic, g.partition, g.base, g.base, g.base"
            "    FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS g (topic, partition, base)"
            "    ON CONFLICT DO NOTHING RETURNING topic, partition, base_offset), "
            "seen AS ("
            "    SELECT v.version, made.topic, made.partition, made.base_offset"
            "    FROM made JOIN dovetail_internal.source AS s USING (topic)"
            "    JOIN dovetail_internal.view_version AS v USING (source)"
            "    WHERE v.state <> 'retired'), "
            "covered AS ("
            "    INSERT INTO dovetail_internal.coverage (version, topic, partition, speed_from)"
            "    SELECT version, topic, partition, base_offset FROM seen ON CONFLICT DO NOTHING) "
            "INSERT INTO dovetail_internal.view_ledger (version, topic, partition) "
            "SELECT version, topic, partition FROM seen ON CONFLICT DO NOTHING",
            missing, count, base_array.text, NULL, NULL, &result, error);
    PQclear(result);
    sql_arrays_deinit(&base_array, 1);
    return status;
}

/* Copies the claims without a position row to `missing`. */
static enum status find_missing(struct claim *claims, size_t count, struct postgres *postgres,
                                struct claim *missing, size_t *missing_count, struct error *error)
{
    PGresult *result = NULL;
    enum status status =
        query_claims(postgres,
                     "SELECT g.topic, g.partition FROM unnest($1::text[], $2::integer[]) AS g "
                     "(topic, partition) "
                     "WHERE NOT EXISTS (SELECT FROM dovetail_internal.position AS p "
                     "    WHERE p.topic = g.topic AND p.partition = g.partition)",
                     claims, count, NULL, NULL, NULL, &result, error);
    *missing_count = 0;
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++) {
        const struct claim *claim =
            find_claim(claims, count, PQgetvalue(result, row, 0), postgres_int64(result, row, 1));
        if (claim != NULL)
            missing[(*missing_count)++] = *claim;
    }
    PQclear(result);
    return status;
}

static enum status insert_rows(struct postgres *postgres, const struct claim *missing, size_t count,
                               struct error *error)
{
    if (count == 0)
        return STATUS_OK;
    enum status status = postgres_execute(postgres, "BEGIN", error);
    if (status == STATUS_OK)
        status = insert_missing(postgres, missing, count, error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "COMMIT", error);
    if (status != STATUS_OK)
        roll_back(postgres, error);
    return status;
}

/* `consumer` NULL: the claims say where the partitions begin. */
static enum status add_missing(struct claim *claims, size_t count, struct postgres *postgres,
                               struct kafka_consumer *consumer, struct error *error)
{
    struct claim *missing = calloc(count + 1, sizeof *missing);
    size_t missing_count = 0;
    enum status status =
        missing == NULL ? error_no_memory(error)
                        : find_missing(claims, count, postgres, missing, &missing_count, error);
    for (size_t i = 0; consumer != NULL && status == STATUS_OK && i < missing_count; i++) {
        int64_t high;
        status =
            kafka_consumer_watermarks(consumer, missing[i].topic, missing[i].partition,
                                      WATERMARKS_TIMEOUT_MS, &missing[i].base_offset, &high, error);
    }
    if (status == STATUS_OK)
        status = insert_rows(postgres, missing, missing_count, error);
    free(missing);
    return status;
}

enum status claims_add_rows(struct claim *claims, size_t count, struct postgres *postgres,
                            struct error *error)
{
    return add_missing(claims, count, postgres, NULL, error);
}

/* --- the claim --- */

/* Nobody's: not written by its owner for $5 milliseconds, and the owner's session is gone. Another
 * one that has its number by now began later. */
#define IS_LONE(milliseconds)                                                                      \
    "(p.updated_at < now() - make_interval(secs => " milliseconds "::bigint / 1000.0) "            \
    "AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity AS a WHERE a.pid = p.owner_pid "      \
    "    AND a.datname = current_database() "                                                      \
    "    AND COALESCE(a.backend_start <= p.updated_at, true)))"

static enum status update_owner(struct claim *claims, size_t count, struct postgres *postgres,
                                const struct claimant *claimant, struct error *error)
{
    char lone_ms[24];
    snprintf(lone_ms, sizeof lone_ms, "%d", claimant->lone_ms);
    PGresult *result = NULL;
    enum status status = query_claims(
        postgres,
        "WITH locked AS MATERIALIZED ("
        "    SELECT topic, partition FROM dovetail_internal.position"
        "    WHERE (topic, partition) IN (SELECT * FROM unnest($1::text[], $2::integer[]))"
        "    ORDER BY topic, partition FOR UPDATE) "
        "UPDATE dovetail_internal.position AS p SET "
        "    owner_epoch = p.owner_epoch + 1, owner = $3, owner_pid = pg_backend_pid(),"
        "    slice_start = p.next_offset, cut_requested = false, updated_at = now() "
        "FROM locked AS l WHERE p.topic = l.topic AND p.partition = l.partition "
        "    AND (NOT $4::boolean OR p.owner = $3 OR " IS_LONE(
            "$5") ") "
                  "RETURNING p.topic, p.partition, p.next_offset, p.owner_epoch, p.base_offset",
        claims, count, claimant->owner, claimant->only_mine ? "t" : "f", lone_ms, &result, error);
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++) {
        struct claim *claim =
            find_claim(claims, count, PQgetvalue(result, row, 0), postgres_int64(result, row, 1));
        if (claim == NULL)
            continue;
        claim->claimed = true;
        claim->next_offset = postgres_int64(result, row, 2);
        claim->epoch = postgres_int64(result, row, 3);
        claim->base_offset = postgres_int64(result, row, 4);
    }
    PQclear(result);
    return status;
}

static enum status add_cut(struct claim *claim, int64_t offset, struct error *error)
{
    int64_t *grown = reallocarray(claim->cuts, claim->cut_count + 1, sizeof *grown);
    if (grown == NULL)
        return error_no_memory(error);
    claim->cuts = grown;
    claim->cuts[claim->cut_count++] = offset;
    return STATUS_OK;
}

/* A planned cut at P itself needs nothing: the slice that the claim began starts there. */
static enum status read_cuts(struct claim *claims, size_t count, struct postgres *postgres,
                             struct error *error)
{
    PGresult *result = NULL;
    enum status status = query_claims(
        postgres,
        "SELECT c.topic, c.partition, c.at_offset FROM dovetail_internal.planned_cut AS c "
        "JOIN dovetail_internal.position AS p USING (topic, partition) "
        "WHERE (c.topic, c.partition) IN (SELECT * FROM unnest($1::text[], $2::integer[])) "
        "    AND c.at_offset > p.next_offset ORDER BY c.at_offset",
        claims, count, NULL, NULL, NULL, &result, error);
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++) {
        struct claim *claim =
            find_claim(claims, count, PQgetvalue(result, row, 0), postgres_int64(result, row, 1));
        if (claim != NULL)
            status = add_cut(claim, postgres_int64(result, row, 2), error);
    }
    PQclear(result);
    return status;
}

enum status claims_take(struct claim *claims, size_t count, struct postgres *postgres,
                        struct kafka_consumer *consumer, const struct claimant *claimant,
                        struct catalog **catalog, struct error *error)
{
    *catalog = NULL;
    enum status status = add_missing(claims, count, postgres, consumer, error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "BEGIN", error);
    if (status == STATUS_OK)
        status = update_owner(claims, count, postgres, claimant, error);
    /* Read only now: each statement has a snapshot of its own, and these are behind our locks. */
    if (status == STATUS_OK)
        status = catalog_load(postgres, catalog, error);
    if (status == STATUS_OK)
        status = read_cuts(claims, count, postgres, error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "COMMIT", error);
    if (status == STATUS_OK)
        return STATUS_OK;
    /* A COMMIT whose answer was lost may have claimed: claiming again is right either way. */
    roll_back(postgres, error);
    lock_wait_resolve(postgres, error);
    catalog_destroy(*catalog);
    *catalog = NULL;
    claims_deinit(claims, count);
    return status;
}

enum status claims_find_lone(const char *const *topics, size_t topic_count, int lone_ms,
                             struct postgres *postgres, PGresult **out, struct error *error)
{
    struct sql_array array;
    char milliseconds[24];
    snprintf(milliseconds, sizeof milliseconds, "%d", lone_ms);
    sql_array_begin(&array);
    for (size_t i = 0; i < topic_count; i++)
        sql_array_add_text(&array, topics[i]);
    enum status status = sql_arrays_end(&array, 1, error);
    if (status == STATUS_OK) {
        const char *parameters[] = {array.text, milliseconds};
        status = postgres_query(postgres,
                                "SELECT p.topic, p.partition FROM dovetail_internal.position AS p "
                                "WHERE p.topic = ANY ($1::text[]) AND " IS_LONE("$2"),
                                2, parameters, out, error);
    }
    sql_arrays_deinit(&array, 1);
    return status;
}

void claims_deinit(struct claim *claims, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(claims[i].cuts);
        claims[i].cuts = NULL;
        claims[i].cut_count = 0;
        claims[i].claimed = false;
    }
}
