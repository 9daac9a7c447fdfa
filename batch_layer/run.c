/* One batch run: see run.h, and docs/ARCHITECTURE.md for why its steps come in this order.
 *
 * The catalogue is read before the cut-offs are chosen. A version registered later is not folded by
 * this run, and publishing does not make it current. */
#include "batch_layer/run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch_layer/memory.h"
#include "batch_layer/retention.h"
#include "core/catalog/lock_wait.h"
#include "core/program/program.h"

enum { NUMBER_BYTES = 24, ANALYZE_ROWS = 10000 };

/* What one run works with. */
struct attempt {
    struct batch *batch;
    struct run_report *report;
    struct catalog *catalog;
    struct cut *cuts;
    size_t cut_count;
    const struct run_request *request;
    struct segments segments;
    struct reuse *reuse;
    struct spill *spill;
    struct recompute *recompute;
};

static double elapsed_ms(int64_t since_us)
{
    return (double)(program_monotonic_us() - since_us) / 1e3;
}

/* --- the row in table run --- */

static enum status begin_run(struct postgres *postgres, const char *reason, int64_t *run,
                             struct error *error)
{
    /* We hold the lock: whoever is still "running" has died. */
    enum status status = postgres_execute(
        postgres,
        "UPDATE dovetail_internal.run SET state = 'failed', message = 'interrupted',"
        " finished_at = now() WHERE state = 'running'",
        error);
    if (status != STATUS_OK)
        return status;
    PGresult *result = NULL;
    status = postgres_query(postgres,
                            "INSERT INTO dovetail_internal.run (state, reason)"
                            " VALUES ('running', $1) RETURNING run",
                            1, &reason, &result, error);
    if (status == STATUS_OK)
        *run = postgres_int64(result, 0, 0);
    PQclear(result);
    return status;
}

static enum status note_kind(const struct attempt *attempt, struct error *error)
{
    const struct run_report *report = attempt->report;
    char number[NUMBER_BYTES];
    snprintf(number, sizeof number, "%" PRId64, report->run);
    const char *parameters[] = {number, report->incremental ? "incremental" : "full",
                                report->why[0] != '\0' ? report->why : NULL};
    PGresult *result = NULL;
    enum status status =
        postgres_query(attempt->batch->postgres,
                       "UPDATE dovetail_internal.run SET kind = $2, why = $3 WHERE run = $1", 3,
                       parameters, &result, error);
    PQclear(result);
    return status;
}

/* Writes the failure down, as `state`; *published where the run had been published after all: its
 * COMMIT arrived and the answer did not. */
static void record_failure(struct postgres *postgres, int64_t run, const char *state,
                           const char *message, bool *published)
{
    char number[NUMBER_BYTES];
    snprintf(number, sizeof number, "%" PRId64, run);
    const char *parameters[] = {number, message, state};
    PGresult *result = NULL;
    struct error error;
    enum status status = postgres_query(
        postgres,
        "UPDATE dovetail_internal.run SET state = CASE state WHEN 'running' THEN $3"
        " ELSE state END, message = $2, finished_at = COALESCE(finished_at, clock_timestamp())"
        " WHERE run = $1 RETURNING state",
        3, parameters, &result, &error);
    *published = status == STATUS_OK && PQntuples(result) == 1 &&
                 strcmp(PQgetvalue(result, 0, 0), "published") == 0;
    PQclear(result);
    if (status != STATUS_OK)
        program_log(LOG_WARNING, "run %" PRId64 " could not be marked as failed: %s", run,
                    error.text);
}

static void fail_run(const struct batch *batch, int64_t run, const char *state, const char *message,
                     bool *published)
{
    *published = false;
    if (postgres_is_connected(batch->postgres)) {
        record_failure(batch->postgres, run, state, message, published);
        return;
    }
    struct postgres *postgres = NULL;
    struct error error;
    if (postgres_connect(batch->config->postgres, "dovetail-batch", &postgres, &error) == STATUS_OK)
        record_failure(postgres, run, state, message, published);
    postgres_close(postgres);
}

/* --- load --- */

static enum status load(struct attempt *attempt, struct error *error)
{
    struct batch *batch = attempt->batch;
    struct run_report *report = attempt->report;
    int64_t begun_us = program_monotonic_us();
    enum status status = STATUS_OK;
    if (batch->archiver == NULL)
        status = archiver_create(batch->config, batch->postgres, &batch->archiver, error);
    if (status != STATUS_OK)
        return status;
    int64_t records = archiver_record_count(batch->archiver);
    int64_t bytes = archiver_raw_bytes(batch->archiver);
    status = archiver_prepare(batch->archiver, attempt->catalog, error);
    if (status == STATUS_OK)
        status = archiver_catch_up(batch->archiver, error);
    report->load_records += archiver_record_count(batch->archiver) - records;
    report->load_bytes += archiver_raw_bytes(batch->archiver) - bytes;
    report->stats.load_ms += elapsed_ms(begun_us);
    return status;
}

/* --- prepare --- */

static enum status make_cuts(struct attempt *attempt, struct error *error)
{
    size_t count;
    const struct archiver_partition *partitions =
        archiver_partitions(attempt->batch->archiver, &count);
    attempt->cuts = calloc(count + attempt->catalog->source_count + 1, sizeof *attempt->cuts);
    if (attempt->cuts == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < count; i++)
        if (catalog_holds_topic(attempt->catalog, partitions[i].topic) == NULL)
            attempt->cuts[attempt->cut_count++] =
                (struct cut){.topic = partitions[i].topic,
                             .partition = partitions[i].partition,
                             .base_offset = partitions[i].base_offset,
                             .archived_end = partitions[i].archived_end,
                             .floor = partitions[i].base_offset};
    return STATUS_OK;
}

/* Imported records are in no log and of no slice: what is archived is the cut-off. A failed import
 * left nothing, and one that is at work is not there yet. */
static enum status add_imports(struct attempt *attempt, struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_query(
        attempt->batch->postgres,
        "SELECT topic, max(end_offset) FROM dovetail_internal.segment WHERE partition = -1"
        " GROUP BY topic",
        0, NULL, &result, error);
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++) {
        for (size_t i = 0; i < attempt->catalog->source_count; i++) {
            const char *topic = attempt->catalog->sources[i]->topic;
            int64_t end = postgres_int64(result, row, 1);
            if (strcmp(topic, PQgetvalue(result, row, 0)) == 0 &&
                catalog_holds_topic(attempt->catalog, topic) == NULL)
                attempt->cuts[attempt->cut_count++] = (struct cut){.topic = topic,
                                                                   .partition = ARCHIVE_IMPORTED,
                                                                   .archived_end = end,
                                                                   .offset = end,
                                                                   .chosen = true};
        }
    }
    PQclear(result);
    return status;
}

static enum status read_floors(struct attempt *attempt, struct error *error)
{
    PGresult *result = NULL;
    enum status status = postgres_query(attempt->batch->postgres,
                                        "SELECT topic, partition, next_offset"
                                        " FROM dovetail_internal.run_cutoff"
                                        " JOIN dovetail_internal.current_run USING (run)",
                                        0, NULL, &result, error);
    for (int row = 0; status == STATUS_OK && row < PQntuples(result); row++) {
        struct cut *cut = cut_find(attempt->cuts, attempt->cut_count, PQgetvalue(result, row, 0),
                                   (int32_t)postgres_int64(result, row, 1));
        if (cut != NULL)
            cut->floor = postgres_int64(result, row, 2);
    }
    PQclear(result);
    return status;
}

/* A partition that is halted keeps its C, or falls back to it where the archive does not reach what
 * its owner answered: a boundary of the current run, up to which the archive has everything. */
static void hold_halted(struct attempt *attempt)
{
    attempt->report->halted = 0;
    for (size_t i = 0; i < attempt->cut_count; i++) {
        struct cut *cut = &attempt->cuts[i];
        const struct archiver_partition *partition =
            archiver_find(attempt->batch->archiver, cut->topic, cut->partition);
        if (partition == NULL)
            continue; /* imported: no log */
        attempt->report->halted += partition->halted;
        if (!partition->halted || (cut->chosen && cut->offset <= partition->archived_end))
            continue;
        cut->offset = cut->floor;
        cut->chosen = true;
        cut->has_as_of = false;
    }
}

/* C includes what was in the log when its end was seen at or below C. */
static void note_log_ends(struct attempt *attempt)
{
    for (size_t i = 0; i < attempt->cut_count; i++) {
        struct cut *cut = &attempt->cuts[i];
        const struct archiver_partition *partition =
            archiver_find(attempt->batch->archiver, cut->topic, cut->partition);
        if (partition == NULL)
            continue; /* imported: no log */
        if (partition->halted || partition->log_end > cut->offset ||
            (cut->has_as_of && cut->as_of_us >= partition->log_end_at_us))
            continue;
        cut->has_as_of = true;
        cut->as_of_us = partition->log_end_at_us;
    }
}

/* Where an owner was ahead of the archive, its slice ends beyond what is archived. */
static enum status archive_up_to_cuts(struct attempt *attempt, double *load_ms, struct error *error)
{
    bool behind = false;
    for (size_t i = 0; i < attempt->cut_count; i++)
        behind = behind || attempt->cuts[i].offset > attempt->cuts[i].archived_end;
    if (!behind)
        return STATUS_OK;
    struct archiver *archiver = attempt->batch->archiver;
    int64_t records = archiver_record_count(archiver);
    int64_t bytes = archiver_raw_bytes(archiver);
    int64_t begun_us = program_monotonic_us();
    enum status status = archiver_catch_up(archiver, error);
    attempt->report->load_records += archiver_record_count(archiver) - records;
    attempt->report->load_bytes += archiver_raw_bytes(archiver) - bytes;
    *load_ms = elapsed_ms(begun_us);
    if (status == STATUS_OK)
        note_log_ends(attempt);
    return status;
}

static enum status plan_reuse(struct attempt *attempt, struct error *error)
{
    struct run_report *report = attempt->report;
    enum status status =
        reuse_plan(attempt->batch->postgres, attempt->catalog, &attempt->segments, attempt->cuts,
                   attempt->cut_count, attempt->request->full, &attempt->reuse, error);
    if (status != STATUS_OK)
        return status;
    report->incremental = reuse_is_incremental(attempt->reuse);
    reuse_why(attempt->reuse, attempt->catalog, report->why, sizeof report->why);
    if (report->why[0] != '\0')
        program_log(LOG_INFO, "run %" PRId64 ": %s: %s", report->run,
                    report->incremental ? "not all rows can be reused" : "everything is recomputed",
                    report->why);
    return note_kind(attempt, error);
}

static enum status prepare(struct attempt *attempt, struct error *error)
{
    struct batch *batch = attempt->batch;
    int64_t begun_us = program_monotonic_us();
    double load_ms = 0;
    enum status status = make_cuts(attempt, error);
    if (status == STATUS_OK)
        status = add_imports(attempt, error);
    if (status == STATUS_OK)
        status = read_floors(attempt, error);
    if (status == STATUS_OK) {
        hold_halted(attempt);
        status =
            cut_choose(batch->postgres, batch->config, attempt->cuts, attempt->cut_count, error);
    }
    if (status == STATUS_OK) {
        note_log_ends(attempt);
        status = archive_up_to_cuts(attempt, &load_ms, error);
        hold_halted(attempt);
    }
    if (status == STATUS_OK)
        status = segments_list(batch->postgres, attempt->catalog, attempt->cuts, attempt->cut_count,
                               &attempt->segments, error);
    if (status == STATUS_OK)
        status = plan_reuse(attempt, error);
    attempt->report->segments = attempt->segments.count;
    attempt->report->stats.load_ms += load_ms;
    attempt->report->stats.prepare_ms = elapsed_ms(begun_us) - load_ms;
    return status;
}

/* --- process, store --- */

/* "~" is in no topic's name. */
static enum status make_spill(struct attempt *attempt, struct error *error)
{
    const struct config *config = attempt->batch->config;
    char *path = NULL;
    if (config->batch_spill == NULL && asprintf(&path, "%s/~spill", config->batch_archive) < 0)
        return error_no_memory(error);
    enum status status = spill_create(path != NULL ? path : config->batch_spill,
                                      config->batch_memory_bytes, &attempt->spill, error);
    free(path);
    return status;
}

static enum status process(struct attempt *attempt, struct error *error)
{
    struct batch *batch = attempt->batch;
    int64_t begun_us = program_monotonic_us();
    enum status status = make_spill(attempt, error);
    if (status == STATUS_OK)
        status = recompute_run(batch->config, attempt->catalog, &attempt->segments, attempt->cuts,
                               attempt->cut_count, attempt->reuse, attempt->spill,
                               &attempt->recompute, error);
    attempt->report->stats.process_ms = elapsed_ms(begun_us);
    if (status == STATUS_OK)
        attempt->report->folded = attempt->recompute->counts;
    return status;
}

/* After many changes the planner's statistics are of another table. Nothing depends on it. */
static void analyze(const struct attempt *attempt)
{
    const struct store_counts *stored = &attempt->report->stored;
    if (stored->inserted + stored->closed < ANALYZE_ROWS)
        return;
    for (size_t i = 0; i < attempt->catalog->version_count; i++) {
        char table[CATALOG_NAME_BYTES];
        struct error error;
        catalog_batch_table(attempt->catalog->versions[i].version, table);
        if (postgres_executef(attempt->batch->postgres, &error, "ANALYZE %s", table) != STATUS_OK)
            program_log(LOG_WARNING, "after the run: %s", error.text);
    }
}

/* What differs is written down also where the run is held. */
static enum status publish(struct attempt *attempt, bool *held, struct error *error)
{
    struct batch *batch = attempt->batch;
    struct run_report *report = attempt->report;
    struct publish_request request = {
        .recompute = attempt->recompute,
        .reuse = attempt->reuse,
        .cuts = attempt->cuts,
        .cut_count = attempt->cut_count,
        .run = report->run,
        .hold = !attempt->request->accept && strcmp(batch->config->batch_on_mismatch, "hold") == 0,
    };
    enum status status = publish_run(batch->postgres, &request, &report->stats, &report->stored,
                                     &report->audit, held, error);
    if (status != STATUS_OK)
        lock_wait_explain(batch->postgres, error);
    struct error trouble;
    if (*held &&
        publish_note_audit(batch->postgres, report->run, &report->audit, &trouble) != STATUS_OK)
        program_log(LOG_WARNING, "run %" PRId64 ": what differs was not written down: %s",
                    report->run, trouble.text);
    return status;
}

/* A topic that not all of can be folded is left as it is: publish.c. */
static void leave_held(struct attempt *attempt)
{
    struct catalog *catalog = attempt->catalog;
    attempt->report->refused = catalog->refusal_count;
    for (size_t i = 0; i < catalog->refusal_count; i++) {
        char text[ERROR_TEXT_BYTES];
        catalog_refusal_describe(&catalog->refusals[i], text, sizeof text);
        program_log(LOG_ERR, "%s; the topic keeps its cut-offs", text);
    }
    catalog_leave_held(catalog);
}

static enum status execute(struct attempt *attempt, bool *held, struct error *error)
{
    enum status status = audit_init(&attempt->report->audit, error);
    if (status == STATUS_OK)
        status = catalog_load(attempt->batch->postgres, &attempt->catalog, error);
    if (status == STATUS_OK)
        status = catalog_leave_replaced(attempt->catalog, error);
    if (status == STATUS_OK)
        leave_held(attempt);
    if (status == STATUS_OK)
        status = load(attempt, error);
    if (status == STATUS_OK)
        status = prepare(attempt, error);
    if (status == STATUS_OK)
        status = process(attempt, error);
    if (status == STATUS_OK)
        status = publish(attempt, held, error);
    return status;
}

static void attempt_deinit(struct attempt *attempt)
{
    recompute_destroy(attempt->recompute);
    spill_destroy(attempt->spill);
    reuse_destroy(attempt->reuse);
    archive_segments_free(attempt->segments.items, attempt->segments.count);
    free(attempt->cuts);
    catalog_destroy(attempt->catalog);
}

enum status run_execute(struct batch *batch, const struct run_request *request,
                        struct run_report *report, struct error *error)
{
    *report = (struct run_report){0};
    bool held = false;
    struct attempt attempt = {.batch = batch, .request = request, .report = report};
    memory_begin_peak();
    enum status status = begin_run(batch->postgres, request->reason, &report->run, error);
    if (status != STATUS_OK)
        return status;
    status = execute(&attempt, &held, error);
    if (status != STATUS_OK) {
        bool published;
        archiver_destroy(batch->archiver);
        batch->archiver = NULL;
        fail_run(batch, report->run, held ? "held" : "failed", error->text, &published);
        if (published)
            status = STATUS_OK;
    } else {
        struct error trouble; /* published is published */
        analyze(&attempt);
        if (retention_apply(batch->postgres, batch->config->batch_retained_runs, &trouble) !=
            STATUS_OK)
            program_log(LOG_WARNING, "retention: %s", trouble.text);
    }
    attempt_deinit(&attempt);
    return status;
}

void run_report_deinit(struct run_report *report)
{
    audit_deinit(&report->audit);
}

/* --- the table --- */

static void print_stage(const char *stage, double ms, int64_t count, const char *unit,
                        int64_t bytes)
{
    double seconds = ms / 1e3;
    printf("%-8s %10.1f %12" PRId64 " %-8s %14" PRId64, stage, ms, count, unit, bytes);
    if (count > 0 && seconds > 0)
        printf(" %14.0f %10.1f", (double)count / seconds, (double)bytes / 1e6 / seconds);
    putchar('\n');
}

void run_print(const struct run_report *report)
{
    const struct publish_stats *stats = &report->stats;
    const struct store_counts *stored = &report->stored;
    printf("run %" PRId64 " published (%s): %" PRId64 " %s, %" PRId64 " written, %" PRId64
           " closed, %" PRId64 " unchanged\n",
           report->run, report->incremental ? "incremental" : "full", stored->rows,
           report->incremental ? "rows touched" : "rows", stored->inserted, stored->closed,
           stored->unchanged);
    if (report->why[0] != '\0')
        printf("recomputed: %s\n", report->why);
    printf("%-8s %10s %12s %-8s %14s %14s %10s\n", "stage", "ms", "count", "", "bytes", "count/s",
           "MB/s");
    print_stage("load", stats->load_ms, report->load_records, "records", report->load_bytes);
    print_stage("prepare", stats->prepare_ms, (int64_t)report->segments, "segments", 0);
    print_stage("process", stats->process_ms, report->folded.read, "records",
                report->folded.raw_bytes);
    print_stage("audit", report->audit.ms, report->audit.compared, "groups", 0);
    print_stage("store", stats->store_ms, stored->inserted + stored->closed, "rows", stored->bytes);
    printf("memory   %10.1f MiB at the most", (double)stats->peak_bytes / (1 << 20));
    if (stats->spilled.runs > 0)
        printf(", %" PRId64 " bytes spilled in %" PRId64 " runs", stats->spilled.bytes,
               stats->spilled.runs);
    putchar('\n');
    if (report->folded.dead + report->folded.rejected > 0)
        printf("%" PRId64 " records are no events, %" PRId64 " were rejected by a view\n",
               report->folded.dead, report->folded.rejected);
    if (report->audit.mismatches > 0)
        printf("MISMATCH: %" PRId64 " of %" PRId64
               " groups differ from what was said of the same records before\n",
               report->audit.mismatches, report->audit.compared);
    if (report->halted > 0)
        printf("%zu partitions are halted and keep the cut-off they had (see `dovetail status`)\n",
               report->halted);
    if (report->refused > 0)
        printf(
            "%zu definitions are refused; their topics keep the cut-offs they had (see `dovetail "
            "status`)\n",
            report->refused);
    if (report->folded.duplicates > 0)
        printf("%" PRId64 " records are duplicates\n", report->folded.duplicates);
}
