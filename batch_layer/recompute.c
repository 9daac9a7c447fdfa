/* Recompute: see recompute.h.
 *
 * Three steps, each on all threads, with a join between them: fold (recompute_fold.c), split and
 * merge (recompute_merge.c). */
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
    worker->lists = calloc(slots * job->worker_count + 1, sizeof *worker->lists);
    worker->watermarks = calloc(job->cut_count + 1, sizeof *worker->watermarks);
    worker->ledgers = calloc(job->cut_count + 1, sizeof *worker->ledgers);
    if (worker->parsers == NULL || worker->masks == NULL || worker->ids == NULL ||
        worker->groups == NULL || worker->scratch == NULL || worker->lists == NULL ||
        worker->watermarks == NULL || worker->ledgers == NULL)
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
    recompute_divide(job);
    job->workers = calloc(job->worker_count, sizeof *job->workers);
    if (job->workers == NULL)
        return error_no_memory(error);
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

/* Takes the workers' tables over as the result. */
static enum status take_tables(struct job *job, struct recompute **out, struct error *error)
{
    size_t slots = job->catalog->version_count * RECOMPUTE_PARTS;
    struct recompute *recompute = calloc(1, sizeof *recompute);
    if (recompute == NULL)
        return error_no_memory(error);
    recompute->catalog = job->catalog;
    recompute->table_count = job->worker_count;
    recompute->tables = calloc(slots + 1, sizeof *recompute->tables);
    recompute->joined = calloc(job->catalog->version_count + 1, sizeof *recompute->joined);
    bool failed = recompute->tables == NULL || recompute->joined == NULL;
    for (size_t s = 0; !failed && s < slots; s++) {
        recompute->tables[s] = calloc(job->worker_count, sizeof **recompute->tables);
        failed = recompute->tables[s] == NULL;
        for (size_t w = 0; !failed && w < job->worker_count; w++) {
            recompute->tables[s][w] = job->workers[w].groups[s];
            job->workers[w].groups[s] = NULL;
        }
    }
    if (failed) {
        recompute_destroy(recompute);
        return error_no_memory(error);
    }
    for (size_t v = 0; v < job->catalog->version_count; v++)
        recompute->joined[v] = RECOMPUTE_REST;
    collect(job, &recompute->counts);
    *out = recompute;
    return STATUS_OK;
}

enum status recompute_run(const struct config *config, const struct catalog *catalog,
                          const struct segments *segments, struct cut *cuts, size_t cut_count,
                          const struct reuse *reuse, struct recompute **out, struct error *error)
{
    *out = NULL;
    struct job job = {.config = config,
                      .catalog = catalog,
                      .segments = segments,
                      .reuse = reuse,
                      .cuts = cuts,
                      .cut_count = cut_count};
    struct progress progress;
    enum status status = job_init(&job, error);
    progress_begin(&progress, "process", "records", job.wanted_records);
    if (status == STATUS_OK)
        status = run_step(&job, recompute_step_fold, &progress, error);
    if (status == STATUS_OK && job.worker_count > 1)
        status = run_step(&job, recompute_step_split, &progress, error);
    if (status == STATUS_OK && job.worker_count > 1)
        status = run_step(&job, recompute_step_merge, &progress, error);
    if (status == STATUS_OK)
        status = take_tables(&job, out, error);
    progress_end(&progress, status == STATUS_OK ? (*out)->counts.read : 0);
    job_deinit(&job);
    return status;
}

void recompute_destroy(struct recompute *recompute)
{
    if (recompute == NULL)
        return;
    size_t slots = recompute->catalog->version_count * RECOMPUTE_PARTS;
    for (size_t s = 0; recompute->tables != NULL && s < slots; s++) {
        for (size_t t = 0; recompute->tables[s] != NULL && t < recompute->table_count; t++)
            groups_destroy(recompute->tables[s][t]);
        free(recompute->tables[s]);
    }
    free(recompute->tables);
    free(recompute->joined);
    free(recompute);
}

/* --- the result --- */

size_t recompute_table(const struct recompute *recompute, int64_t window_start_us,
                       const unsigned char *key, size_t key_length)
{
    return recompute_shard(recompute->table_count, window_start_us, key, key_length);
}

static struct groups **tables_of(const struct recompute *recompute, size_t index,
                                 enum recompute_part part)
{
    return recompute->tables[index * RECOMPUTE_PARTS + part];
}

struct group *recompute_part_next(const struct recompute *recompute, size_t index,
                                  enum recompute_part part, size_t *table, size_t *cursor)
{
    for (; *table < recompute->table_count; (*table)++, *cursor = 0) {
        const struct groups *groups = tables_of(recompute, index, part)[*table];
        struct group *group;
        while (groups != NULL && (group = groups_next(groups, cursor)) != NULL)
            if (recompute_table(recompute, group->window_start_us, group->key, group->key_length) ==
                *table)
                return group;
    }
    return NULL;
}

struct group *recompute_part_find(const struct recompute *recompute, size_t index,
                                  enum recompute_part part, int64_t window_start_us,
                                  const unsigned char *key, size_t key_length)
{
    size_t table = recompute_table(recompute, window_start_us, key, key_length);
    const struct groups *groups = tables_of(recompute, index, part)[table];
    return groups == NULL ? NULL : groups_find(groups, window_start_us, key, key_length);
}

struct group *recompute_next(const struct recompute *recompute, size_t index, size_t *table,
                             size_t *cursor)
{
    return recompute_part_next(recompute, index, recompute->joined[index], table, cursor);
}

struct group *recompute_find(const struct recompute *recompute, size_t index,
                             int64_t window_start_us, const unsigned char *key, size_t key_length)
{
    return recompute_part_find(recompute, index, recompute->joined[index], window_start_us, key,
                               key_length);
}

struct groups *recompute_groups(const struct recompute *recompute, size_t index,
                                const struct group *group)
{
    return tables_of(recompute, index, recompute->joined[index])[recompute_table(
        recompute, group->window_start_us, group->key, group->key_length)];
}

/* --- joining --- */

static size_t part_size(const struct recompute *recompute, size_t index, enum recompute_part part)
{
    size_t size = 0;
    for (size_t t = 0; t < recompute->table_count; t++)
        if (tables_of(recompute, index, part)[t] != NULL)
            size += groups_count(tables_of(recompute, index, part)[t]);
    return size;
}

static enum status join_part(struct recompute *recompute, size_t index, enum recompute_part part,
                             struct error *error)
{
    struct groups **into = tables_of(recompute, index, recompute->joined[index]);
    size_t table = 0;
    size_t cursor = 0;
    struct group *group;
    enum status status = STATUS_OK;
    while (status == STATUS_OK &&
           (group = recompute_part_next(recompute, index, part, &table, &cursor)) != NULL) {
        if (into[table] == NULL)
            status = groups_create(recompute->catalog->versions[index].view, &into[table], error);
        if (status == STATUS_OK)
            status = recompute_add_states(into[table], group, error);
    }
    return status;
}

enum status recompute_join(struct recompute *recompute, size_t index, struct error *error)
{
    /* Into the largest: as a rule the others are what is new. */
    enum recompute_part largest = RECOMPUTE_REST;
    for (enum recompute_part part = 0; part < RECOMPUTE_PARTS; part++)
        if (part_size(recompute, index, part) > part_size(recompute, index, largest))
            largest = part;
    recompute->joined[index] = largest;
    enum status status = STATUS_OK;
    for (enum recompute_part part = 0; status == STATUS_OK && part < RECOMPUTE_PARTS; part++) {
        if (part == largest)
            continue;
        status = join_part(recompute, index, part, error);
        for (size_t t = 0; status == STATUS_OK && t < recompute->table_count; t++) {
            groups_destroy(tables_of(recompute, index, part)[t]);
            tables_of(recompute, index, part)[t] = NULL;
        }
    }
    return status;
}
