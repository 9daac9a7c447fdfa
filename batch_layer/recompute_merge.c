/* Steps 2 and 3 of the recompute. A pane that one thread alone has is where it belongs, which is
 * most of them, as threads take records of different times.
 *
 *   split   each thread lists its groups of shared panes by the table they belong to in the end
 *   merge   thread t merges every other thread's listed groups of shard t into its own table
 *
 * In `merge` a thread writes to groups of its shard only, and groups never move, so what others
 * read stands still. States are commutative monoids: which thread folded what makes no difference.
 */
#include "batch_layer/recompute_internal.h"

#include <stdlib.h>

/* By the upper bits: a table finds its slots by the lower ones. */
size_t recompute_shard(size_t table_count, uint64_t hash)
{
    return (size_t)(hash >> 32) % table_count;
}

static enum status list_add(struct group_list *list, struct group *group, struct error *error)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 1024 : list->capacity * 2;
        struct group **items = reallocarray(list->items, capacity, sizeof *items);
        if (items == NULL)
            return error_no_memory(error);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = group;
    return STATUS_OK;
}

bool recompute_shares_pane(const struct worker *worker, size_t slot, int64_t start_us)
{
    const struct job *job = worker->job;
    for (size_t other = 0; other < job->worker_count; other++) {
        const struct groups *groups = job->workers[other].groups[slot];
        if (other != worker->index && groups != NULL && groups_have_pane(groups, start_us))
            return true;
    }
    return false;
}

static enum status split_pane(struct worker *worker, size_t slot, const struct group_pane *pane,
                              struct error *error)
{
    size_t tables = worker->job->worker_count;
    enum status status = STATUS_OK;
    struct group *group;
    uint64_t hash;
    for (size_t cursor = 0;
         status == STATUS_OK && (group = group_pane_next(pane, &cursor, &hash)) != NULL;) {
        size_t table = recompute_shard(tables, hash);
        if (table != worker->index)
            status = list_add(&worker->lists[slot * tables + table], group, error);
    }
    return status;
}

enum status recompute_step_split(struct worker *worker, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t slot = 0; slot < worker->job->catalog->version_count * RECOMPUTE_PARTS; slot++) {
        const struct group_pane *pane;
        if (worker->groups[slot] == NULL)
            continue;
        for (size_t cursor = 0; status == STATUS_OK &&
                                (pane = groups_next_pane(worker->groups[slot], &cursor)) != NULL;)
            if (recompute_shares_pane(worker, slot, pane->start_us))
                status = split_pane(worker, slot, pane, error);
    }
    return status;
}

static enum status merge_list(struct worker *worker, size_t slot, const struct group_list *list,
                              struct error *error)
{
    const struct view *view = worker->job->catalog->versions[slot / RECOMPUTE_PARTS].view;
    enum status status = STATUS_OK;
    if (list->count > 0 && worker->groups[slot] == NULL)
        status = groups_create(view, &worker->groups[slot], error);
    return status == STATUS_OK && list->count > 0
               ? groups_add(worker->groups[slot], list->items, list->count, error)
               : status;
}

enum status recompute_step_merge(struct worker *worker, struct error *error)
{
    struct job *job = worker->job;
    enum status status = STATUS_OK;
    for (size_t slot = 0; slot < job->catalog->version_count * RECOMPUTE_PARTS; slot++)
        for (size_t other = 0; status == STATUS_OK && other < job->worker_count; other++)
            if (other != worker->index)
                status = merge_list(
                    worker, slot,
                    &job->workers[other].lists[slot * job->worker_count + worker->index], error);
    return status;
}
