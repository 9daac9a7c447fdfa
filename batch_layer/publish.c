/* Publishing a run: see publish.h.
 *
 * The version rows are locked first, in SHARE mode: a version that is being retired, and whose
 * tables may be dropped, waits for us or is left out. A version that was registered after the
 * catalogue was read has not been folded; it is not marked as built and so does not become current.
 * Where the tables were migrated since the run began, by a newer program, nothing is published. */
#include "batch_layer/publish.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch_layer/memory.h"
#include "core/catalog/migrations.h"
#include "core/program/program.h"
#include "core/time/timestamp.h"

enum { NUMBER_BYTES = 32 };

static bool is_listed(const PGresult *result, int version)
{
    for (int row = 0; row < PQntuples(result); row++)
        if (postgres_int64(result, row, 0) == version)
            return true;
    return false;
}

static enum status list_versions(struct postgres *postgres, PGresult **versions,
                                 struct error *error)
{
    return postgres_query(postgres,
                          "SELECT version FROM dovetail_internal.view_version"
                          " WHERE state IN ('building', 'current')"
                          " ORDER BY version FOR SHARE",
                          0, NULL, versions, error);
}

static enum status audit_versions(struct postgres *postgres, const PGresult *versions,
                                  const struct publish_request *request, struct audit *audit,
                                  struct row_sorter **rows, bool *held, struct error *error)
{
    const struct recompute *recompute = request->recompute;
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < recompute->catalog->version_count; i++)
        if (is_listed(versions, recompute->catalog->versions[i].version))
            status = audit_version(audit, postgres, recompute, request->reuse, request->cuts, i,
                                   &rows[i], error);
    if (status != STATUS_OK || audit->mismatches == 0)
        return status;
    program_log(LOG_ERR,
                "MISMATCH: in run %" PRId64 " %" PRId64 " of %" PRId64
                " groups differ from what the rows or the speed layer say of the same records: %s",
                request->run, audit->mismatches, audit->compared,
                request->hold ? "it is held" : "what was recomputed is published");
    if (!request->hold)
        return STATUS_OK;
    *held = true;
    return error_set(error, STATUS_FATAL,
                     "held: %" PRId64 " of %" PRId64
                     " groups differ (see `dovetail runs`); what was served is served still",
                     audit->mismatches, audit->compared);
}

/* The open rows are this run's, and were computed so. */
static enum status note_rows(struct postgres *postgres, int version, int64_t run,
                             const char *rows_of, struct error *error)
{
    return postgres_executef(postgres, error,
                             "UPDATE dovetail_internal.view_version SET rows_run = %" PRId64
                             ", rows_of = '%s' WHERE version = %d",
                             run, rows_of, version);
}

static enum status store_versions(struct postgres *postgres, const PGresult *versions,
                                  const struct publish_request *request, struct row_sorter **rows,
                                  struct progress *progress, struct store_counts *counts,
                                  struct error *error)
{
    const struct recompute *recompute = request->recompute;
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < recompute->catalog->version_count; i++) {
        int version = recompute->catalog->versions[i].version;
        const struct reuse_version *reuse = &request->reuse->versions[i];
        if (!is_listed(versions, version))
            continue;
        status = store_version(postgres, recompute, i, reuse->kind == REUSE_ROWS, &rows[i],
                               request->run, progress, counts, error);
        row_sorter_destroy(rows[i]);
        rows[i] = NULL;
        if (status == STATUS_OK)
            status = catalog_mark_built(postgres, version, request->run, error);
        if (status == STATUS_OK)
            status = note_rows(postgres, version, request->run, reuse->rows_of, error);
    }
    return status;
}

static enum status insert_ledger(struct postgres *postgres, const struct cut *cut,
                                 const char *run_text, struct error *error)
{
    const struct cut_ledger *ledger = &cut->ledger;
    const int64_t numbers[] = {ledger->consumed, ledger->counted, ledger->filtered,
                               ledger->duplicate, ledger->dead_lettered};
    enum { NUMBERS = sizeof numbers / sizeof numbers[0] };
    char texts[NUMBERS][NUMBER_BYTES];
    const char *parameters[2 + NUMBERS] = {run_text, cut->topic};
    for (size_t i = 0; i < NUMBERS; i++) {
        snprintf(texts[i], NUMBER_BYTES, "%" PRId64, numbers[i]);
        parameters[2 + i] = texts[i];
    }
    return postgres_run(postgres,
                        "UPDATE dovetail_internal.run_cutoff SET consumed = $3, counted = $4,"
                        " filtered = $5, duplicate = $6, dead_lettered = $7"
                        " WHERE run = $1 AND topic = $2 AND partition = -1",
                        2 + NUMBERS, parameters, error);
}

static enum status insert_cutoff(struct postgres *postgres, const struct cut *cut, int64_t run,
                                 struct error *error)
{
    char run_text[NUMBER_BYTES];
    char partition[NUMBER_BYTES];
    char offset[NUMBER_BYTES];
    char as_of[TIMESTAMP_TEXT_SIZE];
    char watermark[TIMESTAMP_TEXT_SIZE];
    snprintf(run_text, sizeof run_text, "%" PRId64, run);
    snprintf(partition, sizeof partition, "%" PRId32, cut->partition);
    snprintf(offset, sizeof offset, "%" PRId64, cut->offset);
    timestamp_format(cut->as_of_us, as_of, sizeof as_of);
    timestamp_format(cut->watermark_us, watermark, sizeof watermark);
    const char *parameters[] = {run_text,
                                cut->topic,
                                partition,
                                offset,
                                cut->has_as_of ? as_of : NULL,
                                cut->has_watermark ? watermark : NULL,
                                cut->fingerprint,
                                cut->ledger_of};
    enum status status =
        postgres_run(postgres,
                     "INSERT INTO dovetail_internal.run_cutoff"
                     " (run, topic, partition, next_offset, as_of, watermark,"
                     "  segments, ledger_of) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                     8, parameters, error);
    if (status == STATUS_OK && cut->partition == ARCHIVE_IMPORTED)
        status = insert_ledger(postgres, cut, run_text, error);
    return status;
}

static enum status finish_run(struct postgres *postgres, const struct recompute *recompute,
                              int64_t run, const struct publish_stats *stats,
                              const struct store_counts *counts, struct error *error)
{
    enum { PARAMETERS = 10 };
    char texts[PARAMETERS][NUMBER_BYTES];
    snprintf(texts[0], NUMBER_BYTES, "%" PRId64, run);
    snprintf(texts[1], NUMBER_BYTES, "%" PRId64, recompute->counts.read);
    snprintf(texts[2], NUMBER_BYTES, "%" PRId64, counts->closed + counts->inserted);
    snprintf(texts[3], NUMBER_BYTES, "%.3f", stats->load_ms);
    snprintf(texts[4], NUMBER_BYTES, "%.3f", stats->prepare_ms);
    snprintf(texts[5], NUMBER_BYTES, "%.3f", stats->process_ms);
    snprintf(texts[6], NUMBER_BYTES, "%.3f", stats->store_ms);
    snprintf(texts[7], NUMBER_BYTES, "%" PRId64, stats->spilled.bytes);
    snprintf(texts[8], NUMBER_BYTES, "%" PRId64, stats->spilled.runs);
    snprintf(texts[9], NUMBER_BYTES, "%" PRId64, stats->peak_bytes);
    const char *parameters[PARAMETERS];
    for (size_t i = 0; i < PARAMETERS; i++)
        parameters[i] = texts[i];
    return postgres_run(
        postgres,
        "UPDATE dovetail_internal.run SET state = 'published',"
        " finished_at = clock_timestamp(), records = $2, rows_changed = $3,"
        " load_ms = $4, prepare_ms = $5, process_ms = $6, store_ms = $7,"
        " spilled_bytes = $8, spilled_runs = $9, peak_bytes = nullif($10, 0::bigint)"
        " WHERE run = $1",
        PARAMETERS, parameters, error);
}

enum status publish_note_audit(struct postgres *postgres, int64_t run, const struct audit *audit,
                               struct error *error)
{
    char texts[4][NUMBER_BYTES];
    char *examples = json_dumps(audit->examples, JSON_COMPACT);
    if (examples == NULL)
        return error_no_memory(error);
    snprintf(texts[0], NUMBER_BYTES, "%" PRId64, run);
    snprintf(texts[1], NUMBER_BYTES, "%.3f", audit->ms);
    snprintf(texts[2], NUMBER_BYTES, "%" PRId64, audit->compared);
    snprintf(texts[3], NUMBER_BYTES, "%" PRId64, audit->mismatches);
    const char *parameters[] = {texts[0], texts[1], texts[2], texts[3],
                                audit->mismatches > 0 ? examples : NULL};
    enum status status =
        postgres_run(postgres,
                     "UPDATE dovetail_internal.run SET audit_ms = $2, audited = $3,"
                     " mismatched = $4, mismatches = $5 WHERE run = $1",
                     5, parameters, error);
    free(examples);
    return status;
}

/* --- topics that are held --- */

/* Their versions' rows are those of the base run, and with its cut-offs they are the new run's,
 * too. Rows of another run, as after a rollback, would be seen under the new one and are not of
 * these cut-offs: then no run can be exact. A version that nobody reads yet is to be folded again.
 */
static enum status hold_topic(struct postgres *postgres, const struct catalog_refusal *refusal,
                              const struct publish_request *request, struct error *error)
{
    char run[NUMBER_BYTES];
    char base[NUMBER_BYTES];
    snprintf(run, sizeof run, "%" PRId64, request->run);
    snprintf(base, sizeof base, "%" PRId64, request->reuse->base);
    const char *parameters[] = {refusal->topic, run, base};
    PGresult *result = NULL;
    enum status status =
        postgres_query(postgres,
                       "WITH held AS (UPDATE dovetail_internal.view_version AS v SET"
                       "  rows_run = CASE WHEN rows_run = $3::bigint THEN $2::bigint"
                       "   ELSE rows_run END,"
                       "  built_run = CASE WHEN state = 'current' OR rows_run = $3::bigint"
                       "   THEN built_run END"
                       " FROM dovetail_internal.source AS s"
                       " WHERE s.source = v.source AND s.topic = $1 AND v.state <> 'retired'"
                       " RETURNING v.view, v.version, v.state, v.rows_run, v.built_run)"
                       " SELECT view, version, rows_run FROM held WHERE state = 'current'"
                       "  AND built_run IS NOT NULL AND rows_run IS DISTINCT FROM $2::bigint"
                       " ORDER BY view LIMIT 1",
                       3, parameters, &result, error);
    if (status == STATUS_OK && PQntuples(result) > 0) {
        char text[ERROR_TEXT_BYTES];
        catalog_refusal_describe(refusal, text, sizeof text);
        status =
            error_set(error, STATUS_FATAL,
                      "%s; its topic can keep its cut-offs only while the newest rows are those"
                      " of the run that is served, %s, and those of view %s, version %s, are"
                      " of run %s",
                      text, base, PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 1),
                      PQgetisnull(result, 0, 2) ? "unknown" : PQgetvalue(result, 0, 2));
    }
    PQclear(result);
    if (status != STATUS_OK)
        return status;
    return postgres_run(postgres,
                        "INSERT INTO dovetail_internal.run_cutoff"
                        " (run, topic, partition, next_offset, as_of, watermark, segments,"
                        "  ledger_of, consumed, counted, filtered, duplicate, dead_lettered)"
                        " SELECT $2, topic, partition, next_offset, as_of, watermark, segments,"
                        "  ledger_of, consumed, counted, filtered, duplicate, dead_lettered"
                        " FROM dovetail_internal.run_cutoff WHERE run = $3 AND topic = $1",
                        3, parameters, error);
}

static enum status hold_topics(struct postgres *postgres, const struct publish_request *request,
                               struct error *error)
{
    const struct catalog *catalog = request->recompute->catalog;
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < catalog->refusal_count; i++) {
        const struct catalog_refusal *refusal = &catalog->refusals[i];
        if (catalog_holds_topic(catalog, refusal->topic) == refusal) /* each topic once */
            status = hold_topic(postgres, refusal, request, error);
    }
    return status;
}

/* --- the whole --- */

/* Somebody may have rolled back, or gone on again, since the run began. Where rows were reused, the
 * run that they are of must be served still. And no cut-off of the run that is served may lie above
 * ours: the floors were those of the run that was served then, and where the speed layer is behind,
 * answers would lose what lies between. The UPDATE waits for a rollback that is under way and then
 * looks again. */
static enum status switch_run(struct postgres *postgres, const struct publish_request *request,
                              struct error *error)
{
    char run[NUMBER_BYTES];
    char base[NUMBER_BYTES];
    bool reused =
        reuse_is_incremental(request->reuse) || request->recompute->catalog->refusal_count > 0;
    snprintf(run, sizeof run, "%" PRId64, request->run);
    snprintf(base, sizeof base, "%" PRId64, request->reuse->base);
    const char *parameters[] = {run, reused ? base : NULL};
    PGresult *result = NULL;
    enum status status =
        postgres_query(postgres,
                       "UPDATE dovetail_internal.current_run AS r SET run = $1"
                       " WHERE r.run = COALESCE($2::bigint, r.run) AND NOT EXISTS ("
                       "  SELECT FROM dovetail_internal.run_cutoff AS served"
                       "  JOIN dovetail_internal.run_cutoff AS own USING (topic, partition)"
                       "  WHERE served.run = r.run AND own.run = $1"
                       "    AND served.next_offset > own.next_offset) RETURNING r.run",
                       2, parameters, &result, error);
    if (status == STATUS_OK && PQntuples(result) != 1)
        status = error_set(error, STATUS_RETRY,
                           "another run is served than when this one began, and this one cannot"
                           " follow it: somebody rolled back meanwhile, or went on again");
    PQclear(result);
    return status;
}

static enum status store(struct postgres *postgres, const PGresult *versions,
                         const struct publish_request *request, struct row_sorter **rows,
                         struct publish_stats *stats, struct store_counts *counts,
                         const struct audit *audit, struct error *error)
{
    struct progress progress;
    progress_begin(&progress, "store", "rows", 0);
    enum status status =
        store_versions(postgres, versions, request, rows, &progress, counts, error);
    for (size_t i = 0; status == STATUS_OK && i < request->cut_count; i++)
        status = insert_cutoff(postgres, &request->cuts[i], request->run, error);
    if (status == STATUS_OK)
        status = hold_topics(postgres, request, error);
    stats->store_ms = (double)(program_monotonic_us() - progress.begun_us) / 1e3;
    stats->spilled = spill_counts(request->recompute->spill);
    stats->peak_bytes = memory_peak_bytes();
    if (status == STATUS_OK)
        status = finish_run(postgres, request->recompute, request->run, stats, counts, error);
    if (status == STATUS_OK)
        status = publish_note_audit(postgres, request->run, audit, error);
    if (status == STATUS_OK)
        status = switch_run(postgres, request, error);
    if (status == STATUS_OK)
        status = catalog_promote(postgres, error);
    if (status == STATUS_OK)
        status = catalog_check_replaced(postgres, request->recompute->catalog, error);
    if (status == STATUS_OK && program_stopping())
        status = error_set(error, STATUS_RETRY, "stopped");
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "NOTIFY dovetail_run; COMMIT", error);
    stats->store_ms = progress_end(&progress, counts->closed + counts->inserted);
    return status;
}

enum status publish_run(struct postgres *postgres, const struct publish_request *request,
                        struct publish_stats *stats, struct store_counts *counts,
                        struct audit *audit, bool *held, struct error *error)
{
    struct error ignored;
    PGresult *versions = NULL;
    *counts = (struct store_counts){0};
    *held = false;
    const size_t count = request->recompute->catalog->version_count;
    struct row_sorter **rows = calloc(count + 1, sizeof(struct row_sorter *));
    if (rows == NULL)
        return error_no_memory(error);
    enum status status = postgres_execute(postgres, "BEGIN", error);
    if (status == STATUS_OK)
        status = list_versions(postgres, &versions, error);
    if (status == STATUS_OK)
        status = migrations_check(postgres, error);
    if (status == STATUS_OK)
        status = audit_versions(postgres, versions, request, audit, rows, held, error);
    if (status == STATUS_OK)
        status = store(postgres, versions, request, rows, stats, counts, audit, error);
    if (status != STATUS_OK)
        (void)!postgres_execute(postgres, "ROLLBACK", &ignored);
    for (size_t i = 0; i < count; i++)
        row_sorter_destroy(rows[i]);
    free(rows);
    PQclear(versions);
    return status;
}
