/* The claiming transaction: see claim.h. Main thread. */
#include "speed_layer/claim.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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

/* Runs `sql` with $1 = topics, $2 = partitions and further parameters. */
static enum status query_claims(struct postgres *postgres, const char *sql,
                                const struct claim *claims, size_t count, const char *third,
                                const char *fourth, PGresult **out, struct error *error)
{
    struct sql_array arrays[2];
    add_addresses(arrays, claims, count);
    enum status status = sql_arrays_end(arrays, 2, error);
    if (status == STATUS_OK) {
        const char *parameters[] = {arrays[0].text, arrays[1].text, third, fourth};
        int parameter_count = fourth != NULL ? 4 : third != NULL ? 3 : 2;
        status = postgres_query(postgres, sql, parameter_count, parameters, out, error);
    }
    sql_arrays_deinit(arrays, 2);
    return status;
}

/* --- partitions that have no position yet --- */

static enum status insert_missing(struct postgres *postgres, const struct claim *missing,
                                  size_t count, const int64_t *bases, struct error *error)
{
    struct sql_array base_array;
    sql_array_begin(&base_array);
    for (size_t i = 0; i < count; i++)
        sql_array_add_int64(&base_array, bases[i]);
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
            missing, count, base_array.text, NULL, &result, error);
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
                     claims, count, NULL, NULL, &result, error);
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

static enum status add_missing(struct claim *claims, size_t count, struct postgres *postgres,
                               struct kafka_consumer *consumer, struct error *error)
{
    struct claim *missing = calloc(count + 1, sizeof *missing);
    int64_t *bases = calloc(count + 1, sizeof *bases);
    size_t missing_count = 0;
    enum status status =
        missing == NULL || bases == NULL
            ? error_no_memory(error)
            : find_missing(claims, count, postgres, missing, &missing_count, error);
    for (size_t i = 0; status == STATUS_OK && i < missing_count; i++) {
        int64_t high;
        status = kafka_consumer_watermarks(consumer, missing[i].topic, missing[i].partition,
                                           WATERMARKS_TIMEOUT_MS, &bases[i], &high, error);
    }
    if (status == STATUS_OK && missing_count > 0)
        status = postgres_execute(postgres, "BEGIN", error);
    if (status == STATUS_OK && missing_count > 0) {
        status = insert_missing(postgres, missing, missing_count, bases, error);
        if (status == STATUS_OK)
            status = postgres_execute(postgres, "COMMIT", error);
    }
    free(missing);
    free(bases);
    return status;
}

/* --- the claim --- */

static enum status update_owner(struct claim *claims, size_t count, struct postgres *postgres,
                                const char *owner, bool only_mine, struct error *error)
{
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
        "    AND (NOT $4::boolean OR p.owner = $3) "
        "RETURNING p.topic, p.partition, p.next_offset, p.owner_epoch, p.base_offset",
        claims, count, owner, only_mine ? "t" : "f", &result, error);
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
        claims, count, NULL, NULL, &result, error);
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
                        struct kafka_consumer *consumer, const char *owner, bool only_mine,
                        struct catalog **catalog, struct error *error)
{
    *catalog = NULL;
    enum status status = add_missing(claims, count, postgres, consumer, error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "BEGIN", error);
    if (status == STATUS_OK)
        status = update_owner(claims, count, postgres, owner, only_mine, error);
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
    struct error ignored;
    if (postgres_is_connected(postgres) &&
        postgres_execute(postgres, "ROLLBACK", &ignored) != STATUS_OK)
        error_wrap(error, "%s", ignored.text);
    catalog_destroy(*catalog);
    *catalog = NULL;
    claims_deinit(claims, count);
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
