/* The recompute's memory: each thread folds within its share of batch.memory, and what does not fit
 * becomes sorted runs on disk.
 *
 * Invariant: of every slot (a part of a version) a thread's groups and its runs together are the
 * fold of what it has folded. A table's bytes are counted with what sorting its groups will take
 * and with the larger table that the next group may need, so a thread keeps to its share at any
 * moment, but for the growth of one state by one record.
 *
 *   spill   what is in memory in the end and too much to be kept while rows are stored
 *   sort    what stays in memory, and runs are merged until they can be read all at a time
 *
 * How the memory is divided, and what is not in it: docs/ARCHITECTURE.md. */
#include "batch_layer/recompute_internal.h"

#include <stdlib.h>

static size_t slot_count(const struct job *job)
{
    return job->catalog->version_count * RECOMPUTE_PARTS;
}

/* Panes in order, and the groups of each: what is sorted at a time is small. */
static enum status make_entries(const struct worker *worker, size_t slot, struct row_entry **out,
                                size_t *count, struct error *error)
{
    const struct job *job = worker->job;
    const struct group_pane **panes = NULL;
    size_t pane_count = 0;
    *count = 0;
    *out = calloc(groups_count(worker->groups[slot]) + 1, sizeof **out);
    enum status status =
        *out == NULL ? error_no_memory(error)
                     : groups_panes_sorted(worker->groups[slot], &panes, &pane_count, error);
    for (size_t i = 0; i < pane_count; i++) {
        bool shared = job->merged && recompute_shares_pane(worker, slot, panes[i]->start_us);
        struct row_entry *first = *out + *count;
        struct group *group;
        uint64_t hash;
        for (size_t cursor = 0; (group = group_pane_next(panes[i], &cursor, &hash)) != NULL;)
            if (!shared || recompute_shard(job->worker_count, hash) == worker->index)
                (*out)[(*count)++] =
                    (struct row_entry){.window_start_us = panes[i]->start_us,
                                       .key_prefix = row_key_prefix(group->key, group->key_length),
                                       .item = group};
        row_entries_sort_groups(first, (size_t)(*out + *count - first));
    }
    free(panes);
    return status;
}

static enum status write_groups(struct worker *worker, size_t slot, struct error *error)
{
    const struct view *view = worker->job->catalog->versions[slot / RECOMPUTE_PARTS].view;
    struct row_stream *stream = NULL;
    struct row_entry *entries = NULL;
    size_t count;
    enum status status = make_entries(worker, slot, &entries, &count, error);
    if (status == STATUS_OK)
        status = row_stream_create(view, false, &stream, error);
    if (status == STATUS_OK)
        status = row_stream_add_groups(stream, entries, count, error);
    if (status == STATUS_OK)
        status = row_stream_spill(stream, worker->file, &worker->sources[slot].runs, error);
    row_stream_destroy(stream);
    free(entries);
    return status;
}

/* A slot's groups become one more run. */
static enum status spill_slot(struct worker *worker, size_t slot, struct error *error)
{
    enum status status = STATUS_OK;
    if (worker->file == NULL)
        status = spill_file_create(worker->job->spill, &worker->file, error);
    if (status == STATUS_OK)
        status = write_groups(worker, slot, error);
    groups_destroy(worker->groups[slot]);
    worker->groups[slot] = NULL;
    worker->memory_bytes -= worker->slot_bytes[slot];
    worker->slot_bytes[slot] = 0;
    return status;
}

static size_t largest_slot(const struct worker *worker)
{
    size_t largest = 0;
    for (size_t slot = 1; slot < slot_count(worker->job); slot++)
        if (worker->slot_bytes[slot] > worker->slot_bytes[largest])
            largest = slot;
    return largest;
}

/* What is folded for the ledger only is not needed any more. */
static void forget_scratch(struct worker *worker)
{
    for (size_t version = 0; version < worker->job->catalog->version_count; version++) {
        groups_destroy(worker->scratch[version]);
        worker->scratch[version] = NULL;
    }
}

enum status recompute_note_growth(struct worker *worker, size_t slot, struct error *error)
{
    const struct groups *groups = worker->groups[slot];
    size_t bytes = groups_peak_bytes(groups) + groups_count(groups) * ROW_ENTRY_BYTES;
    worker->memory_bytes += bytes - worker->slot_bytes[slot];
    worker->slot_bytes[slot] = bytes;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && worker->memory_bytes > worker->share_bytes)
        status = spill_slot(worker, largest_slot(worker), error);
    return status;
}

enum status recompute_step_spill(struct worker *worker, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t slot = 0; status == STATUS_OK && slot < slot_count(worker->job); slot++)
        if (worker->groups[slot] != NULL)
            status = spill_slot(worker, slot, error);
    return status;
}

enum status recompute_step_sort(struct worker *worker, struct error *error)
{
    const struct job *job = worker->job;
    size_t most = row_runs_most(spill_memory(job->spill) / 16 / job->worker_count);
    enum status status = STATUS_OK;
    forget_scratch(worker);
    for (size_t slot = 0; status == STATUS_OK && slot < slot_count(job); slot++) {
        struct recompute_source *source = &worker->sources[slot];
        if (worker->groups[slot] != NULL)
            status = make_entries(worker, slot, &source->sorted, &source->count, error);
        if (status == STATUS_OK)
            status = row_runs_reduce(&source->runs, most,
                                     job->catalog->versions[slot / RECOMPUTE_PARTS].view, true,
                                     worker->file, error);
    }
    return status;
}
