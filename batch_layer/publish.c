/* Publishing a run: see publish.h.
 *
 * The version rows are locked first, in SHARE mode: a version that is being retired, and whose
 * tables may be dropped, waits for us or is left out. A version that was registered after the
 * catalogue was read has not been folded; it is not marked as built and so does not become current.
 */
#include "batch_layer/publish.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

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

static enum status store_versions(struct postgres *postgres, const struct recompute *recompute,
                                  int64_t run, struct progress *progress,
                                  struct store_counts *counts, struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_query(postgres,
                                        "SELECT version FROM dovetail_internal.view_version"
                                        " WHERE state IN ('building', 'current')"
                                        " ORDER BY version FOR SHARE",
                                        0, NULL, &result, error);
    for (size_t i = 0; status == STATUS_OK && i < recompute->catalog->version_count; i++) {
        int version = recompute->catalog->versions[i].version;
        if (!is_listed(result, version))
            continue;
        status = store_version(postgres, recompute, i, run, progress, counts, error);
        if (status == STATUS_OK)
            status = catalog_mark_built(postgres, version, run, error);
    }
    PQclear(result);
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
                                cut->has_watermark ? watermark : NULL};
    enum status status = postgres_run(postgres,
                                      "INSERT INTO dovetail_internal.run_cutoff"
                                      " (run, topic, partition, next_offset, as_of, watermark)"
                                      " VALUES ($1, $2, $3, $4, $5, $6)",
                                      6, parameters, error);
    if (status == STATUS_OK && cut->partition == ARCHIVE_IMPORTED)
        status = insert_ledger(postgres, cut, run_text, error);
    return status;
}

static enum status finish_run(struct postgres *postgres, const struct recompute *recompute,
                              int64_t run, const struct publish_stats *stats,
                              const struct store_counts *counts, struct error *error)
{
    char texts[7][NUMBER_BYTES];
    snprintf(texts[0], NUMBER_BYTES, "%" PRId64, run);
    snprintf(texts[1], NUMBER_BYTES, "%" PRId64, recompute->counts.read);
    snprintf(texts[2], NUMBER_BYTES, "%" PRId64, counts->closed + counts->inserted);
    snprintf(texts[3], NUMBER_BYTES, "%.3f", stats->load_ms);
    snprintf(texts[4], NUMBER_BYTES, "%.3f", stats->prepare_ms);
    snprintf(texts[5], NUMBER_BYTES, "%.3f", stats->process_ms);
    snprintf(texts[6], NUMBER_BYTES, "%.3f", stats->store_ms);
    const char *parameters[7];
    for (size_t i = 0; i < 7; i++)
        parameters[i] = texts[i];
    return postgres_run(postgres,
                        "UPDATE dovetail_internal.run SET state = 'published',"
                        " finished_at = clock_timestamp(), records = $2, rows_changed = $3,"
                        " load_ms = $4, prepare_ms = $5, process_ms = $6, store_ms = $7"
                        " WHERE run = $1",
                        7, parameters, error);
}

static enum status publish(struct postgres *postgres, const struct recompute *recompute,
                           const struct cut *cuts, size_t cut_count, int64_t run,
                           struct publish_stats *stats, struct store_counts *counts,
                           struct progress *progress, struct error *error)
{
    enum status status = store_versions(postgres, recompute, run, progress, counts, error);
    for (size_t i = 0; status == STATUS_OK && i < cut_count; i++)
        status = insert_cutoff(postgres, &cuts[i], run, error);
    stats->store_ms = (double)(program_monotonic_us() - progress->begun_us) / 1e3;
    if (status == STATUS_OK)
        status = finish_run(postgres, recompute, run, stats, counts, error);
    if (status == STATUS_OK)
        status = postgres_executef(postgres, error,
                                   "UPDATE dovetail_internal.current_run SET run = %" PRId64, run);
    if (status == STATUS_OK)
        status = catalog_promote(postgres, error);
    if (status == STATUS_OK && program_stopping())
        status = error_set(error, STATUS_RETRY, "stopped");
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "NOTIFY dovetail_run", error);
    return status;
}

enum status publish_run(struct postgres *postgres, const struct recompute *recompute,
                        const struct cut *cuts, size_t cut_count, int64_t run,
                        struct publish_stats *stats, struct store_counts *counts,
                        struct error *error)
{
    struct progress progress;
    struct error ignored;
    progress_begin(&progress, "store", "rows", 0);
    *counts = (struct store_counts){0};
    enum status status = postgres_execute(postgres, "BEGIN", error);
    if (status == STATUS_OK)
        status =
            publish(postgres, recompute, cuts, cut_count, run, stats, counts, &progress, error);
    if (status == STATUS_OK)
        status = postgres_execute(postgres, "COMMIT", error);
    else
        (void)!postgres_execute(postgres, "ROLLBACK", &ignored);
    stats->store_ms = progress_end(&progress, counts->closed + counts->inserted);
    return status;
}
