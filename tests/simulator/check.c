/* The invariants of docs/ARCHITECTURE.md ("Invariants"), after every commit.
 *
 * The count is independent: it goes over the log's records, in whose making it was decided what
 * each is, and adds. It knows nothing of slices, runs, folding or states; of the database it takes
 * the rows that a reader would take, as plain numbers. */
#include <string.h>

#include "tests/simulator/simulator.h"

struct total {
    int64_t count[GROUPS];
    bits_t bits[GROUPS];
};

static void count_log(const struct world *world, const int64_t *ends, struct total *total)
{
    memset(total, 0, sizeof *total);
    for (int p = 0; p < world->partitions; p++) {
        for (int64_t o = 0; o < ends[p]; o++) {
            const struct sim_record *record = &world->log[p][o];
            if (!record->present || record->dead || record->filtered || record->duplicate)
                continue;
            total->count[record->group]++;
            total->bits[record->group] += bit_of(p, o);
        }
    }
}

static void count_rows(const struct world *world, int run, struct total *total)
{
    const struct database *db = &world->db;
    memset(total, 0, sizeof *total);
    for (int i = 0; i < db->row_count; i++) {
        const struct row *row = &db->rows[i];
        if (row->died != INT64_MAX)
            continue;
        bool taken = row->batch ? row->run_from <= run && run < row->run_to
                                : row->slice_start >= db->now.runs[run].cutoff[row->partition];
        if (!taken)
            continue;
        total->count[row->group] += row->count;
        total->bits[row->group] += row->bits;
    }
}

/* The first offset that one has otherwise than the other. */
static void tell_difference(struct world *world, int run, const int64_t *ends,
                            const struct total *wanted, const struct total *stored)
{
    for (int g = 0; g < GROUPS; g++) {
        if (wanted->bits[g] == stored->bits[g] && wanted->count[g] == stored->count[g])
            continue;
        bits_t difference = wanted->bits[g] ^ stored->bits[g];
        int at = 0;
        while (at < 127 && !(difference >> at & 1))
            at++;
        violated(world,
                 "under run %d%s group %d has %d records instead of %d; the least that differs is "
                 "p%d offset %d (C %d, P %d there)",
                 run, run == world->db.now.current_run ? ", the current one," : "", g,
                 (int)stored->count[g], (int)wanted->count[g], at / LOG_MAX, at % LOG_MAX,
                 (int)world->db.now.runs[run].cutoff[at / LOG_MAX % PARTITIONS_MAX],
                 (int)ends[at / LOG_MAX % PARTITIONS_MAX]);
        return;
    }
}

/* Exactly once, under every run that an answer or a rollback may take. */
static void check_runs(struct world *world)
{
    const struct tables *now = &world->db.now;
    for (int run = 0; run < now->run_count && !world->failed; run++) {
        struct total wanted, stored;
        int64_t ends[PARTITIONS_MAX] = {0};
        if (now->runs[run].state != RUN_PUBLISHED)
            continue;
        for (int p = 0; p < world->partitions; p++)
            ends[p] = now->positions[p].next > now->runs[run].cutoff[p] ? now->positions[p].next
                                                                        : now->runs[run].cutoff[p];
        count_log(world, ends, &wanted);
        count_rows(world, run, &stored);
        if (memcmp(&wanted, &stored, sizeof wanted) != 0)
            tell_difference(world, run, ends, &wanted, &stored);
    }
}

static void check_ledger(struct world *world, int p)
{
    const struct sim_position *row = &world->db.now.positions[p];
    int64_t consumed = 0, counted = 0, filtered = 0, duplicate = 0, dead = 0;
    for (int64_t o = row->base; o < row->next; o++) {
        const struct sim_record *record = &world->log[p][o];
        consumed += record->present;
        dead += record->dead;
        duplicate += record->duplicate;
        filtered += record->filtered && !record->duplicate;
        counted += record->present && !record->dead && !record->duplicate && !record->filtered;
        if (record->dead && (world->letters & bit_of(p, o)) == 0)
            violated(world, "P of p%d is %d, and the dead letter of offset %d has not arrived", p,
                     (int)row->next, (int)o);
    }
    if (row->consumed != consumed || row->counted != counted || row->filtered != filtered ||
        row->duplicate != duplicate || row->dead != dead)
        violated(world,
                 "the ledger of p%d at %d: %d = %d + %d + %d + %d instead of "
                 "%d = %d + %d + %d + %d",
                 p, (int)row->next, (int)row->consumed, (int)row->counted, (int)row->filtered,
                 (int)row->duplicate, (int)row->dead, (int)consumed, (int)counted, (int)filtered,
                 (int)duplicate, (int)dead);
}

/* What an answer has stays in it, unless an operator goes back. */
static void check_progress(struct world *world, int p, bool went_back)
{
    const struct tables *now = &world->db.now;
    int64_t seen = now->runs[now->current_run].cutoff[p];
    if (now->positions[p].next > seen)
        seen = now->positions[p].next;
    if (seen < world->seen[p] && !went_back)
        violated(world, "answers had p%d up to %d, and have it up to %d", p, (int)world->seen[p],
                 (int)seen);
    world->seen[p] = seen;
}

void check_state(struct world *world, bool went_back)
{
    const struct tables *now = &world->db.now;
    world->checked++;
    for (int p = 0; p < world->partitions && !world->failed; p++) {
        const struct sim_position *row = &now->positions[p];
        if (row->slice_start > row->next || row->slice_start < row->base)
            violated(world, "p%d: slice start %d, P %d", p, (int)row->slice_start, (int)row->next);
        if (row->next > world->end[p])
            violated(world, "P of p%d is %d, the log ends at %d", p, (int)row->next,
                     (int)world->end[p]);
        check_ledger(world, p);
        check_progress(world, p, went_back);
    }
    check_runs(world);
}
