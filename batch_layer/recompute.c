/* Recompute: see recompute.h.
 *
 * Steps, each on all threads, with a join between them: fold (recompute_fold.c); split and merge
 * (recompute_merge.c), where there is memory for it; or spill, where little is left
 * (recompute_spill.c); and sort. */
#include "batch_layer/recompute_internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "batch_layer/progress.h"
#include "core/time/watermark.h"

enum { THREADS_MAX = 256, WAIT_MS = 100 };

/* --- threads --- */

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    struct job *job = worker->job;
    worker->status = worker->step(worker, &worker->error);
    if (worker->status != STATUS_OK)
        atomic_store(&job->failed, true);
    pthread_mutex_lock(&job->lock);
    job->running--;
    pthread_cond_signal(&job->ended);
    pthread_mutex_unlock(&job->lock);
    return NULL;
}

/* Waits until every worker has ended, and shows how far they are. */
static void watch_workers(struct job *job, struct progress *progress)
{
    pthread_mutex_lock(&job->lock);
    while (job->running > 0) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += WAIT_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&job->ended, &job->lock, &until);
        progress_update(progress, atomic_load(&job->folded));
    }
    pthread_mutex_unlock(&job->lock);
}

/* The reason of the failure, not the "stopped" of those that stopped because of it. */
static enum status first_failure(const struct job *job, struct error *error)
{
    const struct worker *found = NULL;
    for (size_t i = 0; i < job->worker_count; i++) {
        const struct worker *worker = &job->workers[i];
        if (worker->status == STATUS_OK)
            continue;
        if (found == NULL || (found->status == STATUS_RETRY && worker->status != STATUS_RETRY))
            found = worker;
    }
    if (found == NULL)
        return STATUS_OK;
    *error = found->error;
    return found->status;
}

static enum status run_step(struct job *job,
                            enum status (*step)(struct worker *worker, struct error *error),
                            struct progress *progress, struct error *error)
{
    size_t started = 0;
    job->running = job->worker_count;
    for (; started < job->worker_count; started++) {
        job->workers[started].step = step;
        if (pthread_create(&job->workers[started].thread, NULL, worker_main,
                           &job->workers[started]) != 0)
            break;
    }
    if (started < job->worker_count) {
        atomic_store(&job->failed, true);
        pthread_mutex_lock(&job->lock);
        job->running -= job->worker_count - started;
        pthread_mutex_unlock(&job->lock);
    }
    watch_workers(job, progress);
    for (size_t i = 0; i < started; i++)
        pthread_join(job->workers[i].thread, NULL);
    if (started < job->worker_count)
        return error_set(error, STATUS_FATAL, "cannot start a thread");
    return first_failure(job, error);
}

static size_t thread_count(const struct config *config, size_t segments)
{
    int64_t threads = config->batch_threads;
    if (threads <= 0)
        threads = sysconf(_SC_NPROCESSORS_ONLN);
    if (threads > THREADS_MAX)
        threads = THREADS_MAX;
    if (threads > (int64_t)segments)
        threads = (int64_t)segments;
    return threads < 1 ? 1 : (size_t)threads;
}

/* --- the whole --- */

static enum status worker_init(struct job *job, size_t index, struct error *error)
{
    struct worker *worker = &job->workers[index];
    size_t slots = job->catalog->version_count * RECOMPUTE_PARTS;
    worker->job = job;
    worker->index = index;
    worker->parsers = calloc(job->reading_count + 1, sizeof *worker->parsers);
    worker->masks = calloc(job->reading_count + 1, sizeof *worker->masks);
    worker->ids = calloc(job->reading_count + 1, sizeof *worker->ids);
    worker->groups = calloc(slots + 1, sizeof *worker->groups);
    worker->scratch = calloc(slots + 1, sizeof *worker->scratch);
    worker->slot_bytes = calloc(slots + 1, sizeof *worker->slot_bytes);
    worker->sources = calloc(slots + 1, sizeof *worker->sources);
    worker->share_bytes = spill_memory(job->spill) / 4 * 3 / job->worker_count;
    worker->lists = calloc(slots * job->worker_count + 1, sizeof *worker->lists);
    worker->watermarks = calloc(job->cut_count + 1, sizeof *worker->watermarks);
    worker->ledgers = calloc(job->cut_count + 1, sizeof *worker->ledgers);
    if (worker->parsers == NULL || worker->masks == NULL || worker->ids == NULL ||
        worker->groups == NULL || worker->scratch == NULL || worker->lists == NULL ||
        worker->slot_bytes == NULL || worker->sources == NULL || worker->watermarks == NULL ||
        worker->ledgers == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < job->cut_count; i++)
        worker->watermarks[i] = WATERMARK_NONE;
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < job->reading_count; i++)
        status = event_parser_create(job->readings[i].source, &worker->parsers[i], error);
    for (size_t i = 0; status == STATUS_OK && i < job->reading_count; i++)
        if (job->readings[i].source->mask_count > 0)
            status = mask_create(job->readings[i].source, &worker->masks[i], error);
    return status;
}

static void source_deinit(struct recompute_source *source)
{
    groups_destroy(source->groups);
    free(source->sorted);
    row_runs_deinit(&source->runs);
}

static void worker_deinit(struct worker *worker)
{
    if (worker->job == NULL)
        return;
    for (size_t i = 0; worker->parsers != NULL && i < worker->job->reading_count; i++)
        event_parser_destroy(worker->parsers[i]);
    for (size_t i = 0; worker->masks != NULL && i < worker->job->reading_count; i++)
        mask_destroy(worker->masks[i]);
    size_t slots = worker->job->catalog->version_count * RECOMPUTE_PARTS;
    for (size_t i = 0; worker->groups != NULL && i < slots; i++)
        groups_destroy(worker->groups[i]);
    for (size_t i = 0; worker->scratch != NULL && i < slots; i++)
        groups_destroy(worker->scratch[i]);
    for (size_t i = 0; worker->lists != NULL && i < slots * worker->job->worker_count; i++)
        free(worker->lists[i].items);
    for (size_t i = 0; worker->sources != NULL && i < slots; i++)
        source_deinit(&worker->sources[i]);
    spill_file_destroy(worker->file);
    free(worker->slot_bytes);
    free(worker->sources);
    free(worker->parsers);
    free(worker->masks);
    free(worker->ids);
    free(worker->groups);
    free(worker->scratch);
    free(worker->lists);
    free(worker->watermarks);
    free(worker->ledgers);
}

static enum status job_init(struct job *job, struct error *error)
{
    pthread_mutex_init(&job->lock, NULL);
    pthread_cond_init(&job->ended, NULL);
    enum status status = recompute_plan(job, error);
    if (status != STATUS_OK)
        return status;
    job->worker_count = thread_count(job->config, job->wanted_segments);
    job->workers = calloc(job->worker_count, sizeof *job->workers);
    if (job->workers == NULL)
        return error_no_memory(error);
    status = recompute_divide(job, error);
    for (size_t i = 0; status == STATUS_OK && i < job->worker_count; i++)
        status = worker_init(job, i, error);
    return status;
}

static void job_deinit(struct job *job)
{
    for (size_t i = 0; job->workers != NULL && i < job->worker_count; i++)
        worker_deinit(&job->workers[i]);
    free(job->workers);
    recompute_plan_deinit(job);
    pthread_cond_destroy(&job->ended);
    pthread_mutex_destroy(&job->lock);
}

static void collect(const struct job *job, struct recompute_counts *counts)
{
    for (size_t w = 0; w < job->worker_count; w++) {
        const struct worker *worker = &job->workers[w];
        counts->read += worker->counts.read;
        counts->raw_bytes += worker->counts.raw_bytes;
        counts->dead += worker->counts.dead;
        counts->counted += worker->counts.counted;
        counts->filtered += worker->counts.filtered;
        counts->rejected += worker->counts.rejected;
        counts->duplicates += worker->counts.duplicates;
        for (size_t i = 0; i < job->cut_count; i++) {
            struct cut *cut = &job->cuts[i];
            cut->ledger.consumed += worker->ledgers[i].consumed;
            cut->ledger.counted += worker->ledgers[i].counted;
            cut->ledger.filtered += worker->ledgers[i].filtered;
            cut->ledger.duplicate += worker->ledgers[i].duplicate;
            cut->ledger.dead_lettered += worker->ledgers[i].dead_lettered;
            if (worker->watermarks[i] == WATERMARK_NONE ||
                (cut->has_watermark && cut->watermark_us >= worker->watermarks[i]))
                continue;
            cut->has_watermark = true;
            cut->watermark_us = worker->watermarks[i];
        }
    }
}

/* Takes over as the result what the workers have. */
static enum status take_sources(struct job *job, struct recompute **out, struct error *error)
{
    size_t slots = job->catalog->version_count * RECOMPUTE_PARTS;
    struct recompute *recompute = calloc(1, sizeof *recompute);
    if (recompute == NULL)
        return error_no_memory(error);
    recompute->catalog = job->catalog;
    recompute->spill = job->spill;
    recompute->worker_count = job->worker_count;
    recompute->sources = calloc(slots * job->worker_count + 1, sizeof *recompute->sources);
    recompute->files = calloc(job->worker_count, sizeof(struct spill_file *));
    if (recompute->sources == NULL || recompute->files == NULL) {
        recompute_destroy(recompute);
        return error_no_memory(error);
    }
    for (size_t w = 0; w < job->worker_count; w++) {
        struct worker *worker = &job->workers[w];
        for (size_t s = 0; s < slots; s++) {
            struct recompute_source *source = &recompute->sources[s * job->worker_count + w];
            *source = worker->sources[s];
            source->groups = worker->groups[s];
            worker->sources[s] = (struct recompute_source){0};
            worker->groups[s] = NULL;
        }
        recompute->files[w] = worker->file;
        worker->file = NULL;
    }
    collect(job, &recompute->counts);
    *out = recompute;
    return STATUS_OK;
}

/* What the workers have folded is kept in memory where that is half of what there is, because
 * storing needs some, too; and where it is a quarter, and all of it, they merge it among
 * themselves, for which each copies what the others have of its shard. */
static enum status arrange(struct job *job, struct progress *progress, struct error *error)
{
    size_t bytes = 0;
    bool spilled = false;
    for (size_t w = 0; w < job->worker_count; w++) {
        bytes += job->workers[w].memory_bytes;
        spilled = spilled || job->workers[w].file != NULL;
    }
    enum status status = STATUS_OK;
    if (bytes > spill_memory(job->spill) / 2) {
        status = run_step(job, recompute_step_spill, progress, error);
    } else if (!spilled && bytes <= spill_memory(job->spill) / 4 && job->worker_count > 1) {
        status = run_step(job, recompute_step_split, progress, error);
        if (status == STATUS_OK)
            status = run_step(job, recompute_step_merge, progress, error);
        job->merged = true;
    }
    return status == STATUS_OK ? run_step(job, recompute_step_sort, progress, error) : status;
}

enum status recompute_run(const struct config *config, const struct catalog *catalog,
                          const struct segments *segments, struct cut *cuts, size_t cut_count,
                          const struct reuse *reuse, struct spill *spill, struct recompute **out,
                          struct error *error)
{
    *out = NULL;
    struct job job = {.config = config,
                      .catalog = catalog,
                      .segments = segments,
                      .reuse = reuse,
                      .spill = spill,
                      .cuts = cuts,
                      .cut_count = cut_count};
    struct progress progress;
    enum status status = job_init(&job, error);
    progress_begin(&progress, "process", "records", job.wanted_records);
    if (status == STATUS_OK)
        status = run_step(&job, recompute_step_fold, &progress, error);
    if (status == STATUS_OK)
        status = arrange(&job, &progress, error);
    if (status == STATUS_OK)
        status = take_sources(&job, out, error);
    progress_end(&progress, status == STATUS_OK ? (*out)->counts.read : 0);
    job_deinit(&job);
    return status;
}

void recompute_destroy(struct recompute *recompute)
{
    if (recompute == NULL)
        return;
    size_t count = recompute->catalog->version_count * RECOMPUTE_PARTS * recompute->worker_count;
    for (size_t i = 0; recompute->sources != NULL && i < count; i++)
        source_deinit(&recompute->sources[i]);
    for (size_t w = 0; recompute->files != NULL && w < recompute->worker_count; w++)
        spill_file_destroy(recompute->files[w]);
    free(recompute->sources);
    free(recompute->files);
    free(recompute);
}

/* --- the result --- */

/* What the threads have of a part follows each other, and so do the parts. */
static const struct recompute_source *sources_of(const struct recompute *recompute, size_t index,
                                                 enum recompute_part part, size_t *count)
{
    bool all = part == RECOMPUTE_PARTS;
    size_t slot = index * RECOMPUTE_PARTS + (all ? 0 : part);
    *count = recompute->worker_count * (all ? RECOMPUTE_PARTS : 1);
    return &recompute->sources[slot * recompute->worker_count];
}

static enum status add_source(struct row_stream *stream, const struct recompute_source *source,
                              struct error *error)
{
    enum status status = row_stream_add_groups(stream, source->sorted, source->count, error);
    return status == STATUS_OK ? row_stream_add_runs(stream, &source->runs, error) : status;
}

enum status recompute_rows(const struct recompute *recompute, size_t index,
                           enum recompute_part part, struct row_stream **out, struct error *error)
{
    size_t count;
    const struct recompute_source *sources = sources_of(recompute, index, part, &count);
    enum status status =
        row_stream_create(recompute->catalog->versions[index].view, true, out, error);
    for (size_t i = 0; status == STATUS_OK && i < count; i++)
        status = add_source(*out, &sources[i], error);
    if (status != STATUS_OK) {
        row_stream_destroy(*out);
        *out = NULL;
    }
    return status;
}

bool recompute_is_empty(const struct recompute *recompute, size_t index)
{
    size_t count;
    const struct recompute_source *sources = sources_of(recompute, index, RECOMPUTE_PARTS, &count);
    for (size_t i = 0; i < count; i++)
        if (sources[i].count > 0 || sources[i].runs.count > 0)
            return false;
    return true;
}
