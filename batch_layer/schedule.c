/* The scheduler: see schedule.h.
 *
 * Between two runs it holds the batch lock and copies what comes into open segments, which are
 * closed when they are full and before every run. When another dovetail-batch asks for the lock, it
 * closes its segments and lets go for a while. After a failure everything is made anew. Main
 * thread. */
#include "batch_layer/schedule.h"

#include <inttypes.h>
#include <string.h>

#include "batch_layer/run.h"
#include "batch_layer/session.h"
#include "batch_layer/telemetry.h"
#include "core/program/program.h"
#include "core/time/timestamp.h"

enum {
    RETRY_MS = 5000,    /* after a failure */
    YIELD_MS = 2000,    /* the lock is left alone for so long */
    FOLLOW_US = 250000, /* between looks at the clock and the notifications */
};

struct scheduler {
    const struct config *config;
    const struct cron *cron;
    const struct cron *full_cron; /* NULL: off */
    struct batch batch;
    struct telemetry telemetry;
    int64_t next_us;                /* when the next run is due */
    int64_t next_full_us;           /* when the next full one is, which stands in for both */
    char trouble[ERROR_TEXT_BYTES]; /* the last one that was logged */
};

static void log_trouble(struct scheduler *scheduler, const char *doing, const struct error *error)
{
    if (program_stopping() || strcmp(scheduler->trouble, error->text) == 0)
        return; /* once is enough until something changes */
    snprintf(scheduler->trouble, sizeof scheduler->trouble, "%s", error->text);
    program_log(LOG_WARNING, "%s: %s", doing, error->text);
}

/* INT64_MAX: never; that was refused at the start, but for the last one of all. */
static int64_t next_of(const struct cron *cron)
{
    int64_t next_us;
    return cron != NULL && cron_next(cron, program_clock_us(), &next_us) ? next_us : INT64_MAX;
}

/* A full run that is due stays due until one has been made. */
static void plan_next(struct scheduler *scheduler)
{
    char text[TIMESTAMP_TEXT_SIZE];
    scheduler->next_us = next_of(scheduler->cron);
    int64_t due_us =
        scheduler->next_full_us < scheduler->next_us ? scheduler->next_full_us : scheduler->next_us;
    timestamp_format(due_us, text, sizeof text);
    if (due_us != INT64_MAX)
        program_log(LOG_INFO, "next run at %s%s", text,
                    due_us == scheduler->next_full_us ? ", a full one" : "");
}

static int64_t due_us(const struct scheduler *scheduler)
{
    return scheduler->next_full_us < scheduler->next_us ? scheduler->next_full_us
                                                        : scheduler->next_us;
}

static void close_batch(struct scheduler *scheduler)
{
    telemetry_forget_archiver(&scheduler->telemetry, scheduler->batch.archiver);
    archiver_destroy(scheduler->batch.archiver);
    scheduler->batch.archiver = NULL;
    postgres_close(scheduler->batch.postgres);
    scheduler->batch.postgres = NULL;
}

static enum status begin_archiving(struct batch *batch, struct error *error)
{
    struct catalog *catalog = NULL;
    enum status status = catalog_load(batch->postgres, &catalog, error);
    if (status == STATUS_OK && batch->archiver == NULL)
        status = archiver_create(batch->config, batch->postgres, &batch->archiver, error);
    if (status == STATUS_OK)
        status = archiver_prepare(batch->archiver, catalog, error);
    catalog_destroy(catalog);
    return status;
}

static enum status open_batch(struct scheduler *scheduler, struct error *error)
{
    struct batch *batch = &scheduler->batch;
    enum status status = session_open(batch->config, true, &batch->postgres, error);
    if (status == STATUS_OK)
        status = session_listen(batch->postgres, error);
    return status;
}

/* Lets somebody else have the lock. */
static enum status yield_lock(struct scheduler *scheduler, struct error *error)
{
    enum status status = archiver_flush(scheduler->batch.archiver, error);
    close_batch(scheduler);
    if (status == STATUS_OK)
        program_log(LOG_INFO, "another dovetail-batch wants to work: waiting");
    program_wait_ms(YIELD_MS);
    return status;
}

/* Archives what comes until the next run is due. */
static enum status follow(struct scheduler *scheduler, struct error *error)
{
    struct batch *batch = &scheduler->batch;
    enum status status = batch->archiver == NULL ? begin_archiving(batch, error) : STATUS_OK;
    if (status == STATUS_OK)
        scheduler->trouble[0] = '\0';
    while (status == STATUS_OK && !program_stopping()) {
        telemetry_write(&scheduler->telemetry, batch->archiver, due_us(scheduler));
        int64_t left_us = due_us(scheduler) - program_clock_us();
        if (left_us <= 0)
            return STATUS_OK;
        bool wanted;
        status = session_is_wanted(batch->postgres, &wanted, error);
        if (status == STATUS_OK && wanted)
            return yield_lock(scheduler, error);
        if (status == STATUS_OK)
            status = archiver_follow(
                batch->archiver,
                program_monotonic_us() + (left_us < FOLLOW_US ? left_us : FOLLOW_US), error);
    }
    return status;
}

static void run_once(struct scheduler *scheduler)
{
    struct run_report report = {0};
    struct error error;
    bool full = scheduler->next_full_us <= program_clock_us();
    struct run_request request = {.reason = "schedule",
                                  .full = full ? "batch.full_schedule" : NULL};
    struct telemetry *telemetry = &scheduler->telemetry;
    telemetry->running = true;
    telemetry_write(telemetry, scheduler->batch.archiver, due_us(scheduler));
    enum status status = run_execute(&scheduler->batch, &request, &report, &error);
    telemetry->running = false;
    telemetry_note_run(telemetry, &report, status);
    if (scheduler->batch.archiver == NULL) /* it went with the run that failed */
        telemetry_forget_archiver(telemetry, NULL);
    if (status == STATUS_OK)
        program_log(LOG_INFO,
                    "run %" PRId64
                    " published (%s): load %.0f ms, prepare %.0f ms, process %.0f ms,"
                    " audit %.0f ms, store %.0f ms; %" PRId64 " records, %" PRId64
                    " rows written; %.0f MiB at the most, %" PRId64 " bytes spilled",
                    report.run, report.incremental ? "incremental" : "full", report.stats.load_ms,
                    report.stats.prepare_ms, report.stats.process_ms, report.audit.ms,
                    report.stats.store_ms, report.folded.read, report.stored.inserted,
                    (double)report.stats.peak_bytes / (1 << 20), report.stats.spilled.bytes);
    else if (!program_stopping())
        program_log(LOG_ERR, "run %" PRId64 " failed: %s", report.run, error.text);
    if (full)
        scheduler->next_full_us = next_of(scheduler->full_cron);
    telemetry_write(telemetry, scheduler->batch.archiver, due_us(scheduler));
    run_report_deinit(&report);
    if (status != STATUS_OK)
        close_batch(scheduler);
    program_return_memory(); /* what a run had is not needed until the next one */
}

/* One turn: follow until a run is due, and run. */
static void turn(struct scheduler *scheduler)
{
    struct error error;
    enum status status = STATUS_OK;
    if (scheduler->batch.postgres == NULL)
        status = open_batch(scheduler, &error);
    if (status == STATUS_OK)
        status = follow(scheduler, &error);
    bool due = due_us(scheduler) <= program_clock_us();
    if (status != STATUS_OK) {
        log_trouble(scheduler, due ? "the run that is due cannot begin" : "archiving", &error);
        close_batch(scheduler);
    }
    if (program_stopping())
        return;
    /* Without a session and without a failure the lock was yielded just now: take it back first. */
    bool yielded = scheduler->batch.postgres == NULL && status == STATUS_OK;
    if (due && scheduler->batch.postgres != NULL)
        run_once(scheduler);
    if (due && !yielded)
        plan_next(scheduler);
    if (status != STATUS_OK)
        program_wait_ms(RETRY_MS);
}

int schedule_run(const struct config *config, const struct cron *cron, const struct cron *full_cron)
{
    struct scheduler scheduler = {.config = config,
                                  .cron = cron,
                                  .full_cron = full_cron,
                                  .batch = {.config = config},
                                  .next_full_us = next_of(full_cron)};
    struct error error;
    enum status status = telemetry_start(&scheduler.telemetry, config, &error);
    if (status != STATUS_OK) {
        program_log(LOG_ERR, "%s", error.text);
        return status == STATUS_REJECT ? PROGRAM_USAGE : PROGRAM_FAILURE;
    }
    plan_next(&scheduler);
    while (!program_stopping())
        turn(&scheduler);
    if (scheduler.batch.archiver != NULL &&
        archiver_flush(scheduler.batch.archiver, &error) != STATUS_OK)
        program_log(LOG_WARNING, "archiving: %s", error.text);
    close_batch(&scheduler);
    telemetry_stop(&scheduler.telemetry);
    program_log(LOG_INFO, "stopped");
    return PROGRAM_OK;
}
