/* A batch run: batch_layer/run.c (run_execute), archiver.c, cut.c, reuse.c, audit.c, publish.c,
 * store.c and retention.c, statement by statement, and what batch_lock.c and session.c do for it.
 *
 * The fold and the rows are the real core/groups.c; the archive is the log's own records below the
 * end of the manifest, for a manifest row is written only when its file is durable. */
#include <string.h>

#include "tests/simulator/simulator.h"

void batch_kill(struct world *world)
{
    session_close(world, &world->batch.session);
    world->batch = (struct sim_batch){.session = -1};
}

static const struct sim_run *current_run(const struct world *world)
{
    return &world->db.now.runs[world->db.now.current_run];
}

/* --- load: archiver.c --- */

/* ask_logs, check_log */
static void ask_log(struct world *world, struct sim_cut *cut, int p)
{
    cut->archived_end = world->db.now.archived[p];
    cut->log_end = world->end[p];
    cut->log_end_at_us = time_us(world);
    cut->halted = cut->archived_end < world->low[p];
}

/* --- prepare: run.c --- */

/* hold_halted: C stays where it is, unless the archive reaches what was chosen. */
static void hold_halted(struct world *world)
{
    for (int p = 0; p < world->partitions; p++) {
        struct sim_cut *cut = &world->batch.cuts[p];
        if (!cut->halted || (cut->chosen && cut->offset <= cut->archived_end))
            continue;
        say(world, "run %d: p%d is halted and keeps C %d", world->batch.run, p, (int)cut->floor);
        cut->offset = cut->floor;
        cut->chosen = true;
        cut->as_of_us = 0;
    }
}

/* note_log_ends */
static void note_log_ends(struct world *world)
{
    for (int p = 0; p < world->partitions; p++) {
        struct sim_cut *cut = &world->batch.cuts[p];
        if (!cut->halted && cut->log_end <= cut->offset && cut->as_of_us < cut->log_end_at_us)
            cut->as_of_us = cut->log_end_at_us;
    }
}

/* cut.c, choose */
static void choose(struct sim_cut *cut, const struct sim_position *position, int64_t offset)
{
    cut->offset = offset;
    cut->chosen = true;
    if (position->as_of_us > 0 && offset >= position->next)
        cut->as_of_us = position->as_of_us;
}

/* cut.c, request_cuts, for one row; it is locked. */
static void request_cut(struct world *world, int p)
{
    struct op *op = transaction_add(world, world->batch.session, OP_POSITION);
    op->index = p;
    op->position = world->db.now.positions[p];
    op->position.cut_requested = true;
}

/* cut.c, take_answers */
static void take_answers(struct world *world)
{
    world->batch.waiting = false;
    for (int p = 0; p < world->partitions; p++) {
        struct sim_cut *cut = &world->batch.cuts[p];
        const struct sim_position *row = &world->db.now.positions[p];
        if (cut->chosen || !session_lives(world, row->owner_pid))
            continue;
        if (row->cut_requested)
            world->batch.waiting = true;
        else if (row->slice_start >= cut->floor) {
            choose(cut, row, world->bug == BUG_CUT_ANYWHERE ? row->next : row->slice_start);
            say(world, "run %d: C of p%d is %d, answered", world->batch.run, p, (int)cut->offset);
        }
    }
}

/* cut.c, plan_locked */
static void plan(struct world *world, int p)
{
    struct sim_cut *cut = &world->batch.cuts[p];
    struct sim_position row = world->db.now.positions[p];
    int session = world->batch.session;
    struct op *op;
    if (cut->archived_end > row.next) {
        choose(cut, &row, cut->archived_end);
        if (world->bug != BUG_PUBLISH_MOVES_P) {
            op = transaction_add(world, session, OP_CUT);
            op->index = p;
            op->number = cut->archived_end;
        }
    } else {
        choose(cut, &row, row.next);
        if (row.slice_start == row.next)
            return;
        row.slice_start = row.next;
    }
    say(world, "run %d: C of p%d is %d, planned at P %d", world->batch.run, p, (int)cut->offset,
        (int)row.next);
    if (world->bug == BUG_PUBLISH_MOVES_P)
        return;
    if (world->bug != BUG_PLAN_WITHOUT_EPOCH)
        row.epoch++;
    row.cut_requested = false;
    op = transaction_add(world, session, OP_POSITION);
    op->index = p;
    op->position = row;
}

/* reuse.c, reuse_plan: whose rows are reused (look_at_cut, look_at_version), and where the speed
 * layer has the same records (read_covered). Definitions and segments never change here. */
static void plan_reuse(struct world *world)
{
    struct sim_batch *batch = &world->batch;
    const struct tables *now = &world->db.now;
    bool below = false;
    bool full = chance(world, 250); /* --full */
    batch->base = now->current_run;
    for (int p = 0; p < world->partitions; p++) {
        int64_t offset = batch->cuts[p].offset;
        int64_t reused = now->runs[batch->base].cutoff[p];
        bool back = offset < reused;
        below = below || back;
        batch->reused[p] = back ? 0 : reused;
        batch->covered[p] = (!back || world->bug == BUG_COMPARE_DROPPED) &&
                            now->positions[p].next >= offset && batch->reused[p] < offset;
    }
    bool known = batch->base != 0 && now->rows_run == batch->base && !below;
    batch->incremental = known && !full;
    batch->compares = known && full;
    say(world, "run %d is %s, its base is run %d", batch->run,
        batch->incremental ? "incremental" : "full", batch->base);
}

/* --- process: recompute.c --- */

static void recompute(struct world *world)
{
    struct sim_batch *batch = &world->batch;
    int64_t starts[PARTITIONS_MAX] = {0};
    int64_t ends[PARTITIONS_MAX];
    for (int p = 0; p < world->partitions; p++) {
        ends[p] = batch->cuts[p].offset;
        if (batch->incremental)
            starts[p] = batch->reused[p];
        if (ends[p] > world->db.now.archived[p])
            violated(world, "run %d folds p%d up to %d, the archive ends at %d", batch->run, p,
                     (int)ends[p], (int)world->db.now.archived[p]);
    }
    batch->computed_count = records_fold(world, starts, ends, batch->computed);
}

/* --- the comparison: audit.c --- */

static void audit_part(struct world *world, const char *what, const int64_t *starts,
                       const int64_t *ends, const struct row *const *rows, int count)
{
    struct row folded[GROUPS];
    struct row merged[GROUPS];
    int merged_count = rows_merge(rows, count, merged);
    if (!rows_equal(merged, merged_count, folded, records_fold(world, starts, ends, folded)))
        violated(world, "run %d: %s differ from the records below its cut-offs", world->batch.run,
                 what);
}

/* The parts "old" and "speed". */
static void audit(struct world *world)
{
    const struct sim_batch *batch = &world->batch;
    const struct row *old[ROWS_MAX];
    const struct row *speed[ROWS_MAX];
    const int64_t starts[PARTITIONS_MAX] = {0};
    int64_t ends[PARTITIONS_MAX];
    int old_count = 0, speed_count = 0;
    for (int p = 0; p < world->partitions; p++)
        ends[p] = batch->covered[p] ? batch->cuts[p].offset : batch->reused[p];
    for (int i = 0; i < world->db.row_count; i++) {
        const struct row *row = &world->db.rows[i];
        if (row->died != INT64_MAX)
            continue;
        if (row->batch && row->run_from <= batch->base && batch->base < row->run_to)
            old[old_count++] = row;
        if (!row->batch && row->slice_start >= batch->reused[row->partition] &&
            row->slice_start < ends[row->partition])
            speed[speed_count++] = row;
    }
    if (batch->compares)
        audit_part(world, "the rows of the base run", starts, batch->reused, old, old_count);
    audit_part(world, "the speed layer's rows", batch->reused, ends, speed, speed_count);
}

/* --- store and publish: store.c, publish.c --- */

static void insert_row(struct world *world, const struct row *row)
{
    struct op *op = transaction_add(world, world->batch.session, OP_ROW);
    op->row = *row;
    op->row.batch = true;
    op->row.run_from = world->batch.run;
    op->row.run_to = INT64_MAX;
}

static void close_row(struct world *world, int index)
{
    transaction_add(world, world->batch.session, OP_KILL)->index = index;
    struct op *op = transaction_add(world, world->batch.session, OP_ROW);
    op->row = world->db.rows[index];
    op->row.run_to = world->batch.run;
}

/* merge_row: what the open row has is added to what is new. */
static void join(struct row *computed, const struct row *open)
{
    const struct row *both[] = {computed, open};
    struct row merged[GROUPS];
    (void)rows_merge(both, 2, merged);
    *computed = merged[0];
}

/* compare, close_rows, insert_rows: by the bytes. */
static void store(struct world *world)
{
    struct sim_batch *batch = &world->batch;
    bool stored[GROUPS] = {false};
    for (int i = 0; i < world->db.row_count; i++) {
        const struct row *row = &world->db.rows[i];
        if (!row->batch || row->died != INT64_MAX || row->run_to != INT64_MAX)
            continue;
        int c = 0;
        while (c < batch->computed_count && batch->computed[c].group != row->group)
            c++;
        bool found = c < batch->computed_count;
        if (batch->incremental && !found)
            continue;
        if (batch->incremental)
            join(&batch->computed[c], row);
        if (found && !stored[c])
            stored[c] = rows_equal(row, 1, &batch->computed[c], 1);
        if (!found || !stored[c])
            close_row(world, i);
    }
    for (int c = 0; c < batch->computed_count; c++)
        if (!stored[c])
            insert_row(world, &batch->computed[c]);
    transaction_add(world, batch->session, OP_ROWS_RUN)->index = batch->run;
}

/* insert_cutoff, finish_run */
static void finish_run(struct world *world)
{
    struct sim_batch *batch = &world->batch;
    struct op *op = transaction_add(world, batch->session, OP_RUN);
    op->index = batch->run;
    op->run = (struct sim_run){.state = RUN_PUBLISHED};
    for (int p = 0; p < world->partitions; p++) {
        op->run.cutoff[p] = batch->cuts[p].offset;
        op->run.as_of_us[p] = batch->cuts[p].as_of_us;
    }
}

/* The first design, without its fence: publishing moves P up to C. */
static void move_positions(struct world *world)
{
    for (int p = 0; p < world->partitions; p++) {
        struct sim_position row = world->db.now.positions[p];
        if (row.next >= world->batch.cuts[p].offset)
            continue;
        row.next = row.slice_start = world->batch.cuts[p].offset;
        struct op *op = transaction_add(world, world->batch.session, OP_POSITION);
        op->index = p;
        op->position = row;
    }
}

/* publish.c, switch_run, behind the lock: where rows were reused the run that they are of must be
 * served still; and where an operator went on to another run meanwhile, its cut-offs may lie above
 * ours. */
static bool may_switch(const struct world *world)
{
    const struct sim_batch *batch = &world->batch;
    if (batch->incremental && world->db.now.current_run != batch->base)
        return false;
    for (int p = 0; p < world->partitions; p++)
        if (world->bug != BUG_STALE_FLOOR && current_run(world)->cutoff[p] > batch->cuts[p].offset)
            return false;
    return true;
}

/* --- retention.c --- */

static bool is_retained(const struct world *world, const bool *dropped, int run)
{
    return world->db.now.runs[run].state == RUN_PUBLISHED && !dropped[run];
}

static void drop_runs(struct world *world, bool *dropped)
{
    const struct tables *now = &world->db.now;
    int kept = 0;
    memset(dropped, 0, RUNS_MAX * sizeof *dropped);
    for (int run = now->run_count - 1; run >= 0; run--) {
        if (now->runs[run].state != RUN_PUBLISHED || kept++ < world->retained_runs ||
            run == now->current_run)
            continue;
        dropped[run] = true;
        struct op *op = transaction_add(world, world->batch.session, OP_RUN);
        op->index = run;
        op->run = now->runs[run];
        op->run.state = RUN_DROPPED;
    }
}

/* LOWEST_CUTOFFS */
static int64_t lowest_cutoff(const struct world *world, const bool *dropped, int p)
{
    const struct tables *now = &world->db.now;
    int64_t lowest = INT64_MAX;
    if (world->bug == BUG_EARLY_DROP)
        return now->runs[now->current_run].cutoff[p];
    for (int run = 0; run < now->run_count; run++)
        if (is_retained(world, dropped, run) && now->runs[run].cutoff[p] < lowest)
            lowest = now->runs[run].cutoff[p];
    return lowest;
}

/* drop_rows */
static void drop_rows(struct world *world, const bool *dropped)
{
    int64_t oldest = 0;
    while (!is_retained(world, dropped, (int)oldest))
        oldest++;
    for (int i = 0; i < world->db.row_count; i++) {
        const struct row *row = &world->db.rows[i];
        if (row->died != INT64_MAX)
            continue;
        bool drop;
        if (row->batch) {
            drop = row->run_to < INT64_MAX && row->run_to <= oldest;
        } else {
            int64_t lowest = lowest_cutoff(world, dropped, row->partition);
            int64_t open = world->db.now.positions[row->partition].slice_start;
            drop = row->slice_start < (lowest < open ? lowest : open);
        }
        if (drop)
            transaction_add(world, world->batch.session, OP_KILL)->index = i;
    }
}

/* drop_planned_cuts */
static void drop_cuts(struct world *world, const bool *dropped)
{
    for (int p = 0; p < world->partitions; p++) {
        struct op *op = transaction_add(world, world->batch.session, OP_DROP_CUTS);
        op->index = p;
        op->number = lowest_cutoff(world, dropped, p);
    }
}

/* --- the run --- */

void batch_step(struct world *world)
{
    struct sim_batch *batch = &world->batch;
    int *line = &batch->line;
    bool dropped[RUNS_MAX];
    BEGIN_AT(line);
    while (!chance(world, 200) || world->db.now.run_count == RUNS_MAX)
        AWAIT(line);
    /* session.c: the lock is the session's */
    if (batch->session < 0 || !world->db.sessions[batch->session].connected)
        batch->session = session_reopen(world, batch->session);
    SEND(line, world, batch->session, lost);
    TAKE_LOCK(line, world, batch->session, LOCK_BATCH, lost);
    SEND(line, world, batch->session, lost); /* begin_run */
    for (int run = 0; run < world->db.now.run_count; run++) {
        if (world->db.now.runs[run].state != RUN_RUNNING)
            continue;
        struct op *op = transaction_add(world, batch->session, OP_RUN);
        op->index = run;
        op->run = world->db.now.runs[run];
        op->run.state = RUN_FAILED;
    }
    transaction_add(world, batch->session, OP_NEW_RUN);
    batch->run = world->db.now.run_count;
    if (transaction_commit(world, batch->session) == COMMIT_LOST)
        goto lost;
    say(world, "run %d begins", batch->run);
    for (int p = 0; p < world->partitions; p++)
        batch->cuts[p] = (struct sim_cut){.floor = 0};
    batch->again = false;
load: /* archiver_catch_up: each segment is a manifest row of its own */
    for (batch->at = 0; batch->at < world->partitions; batch->at++) {
        SEND(line, world, batch->session, lost);
        ask_log(world, &batch->cuts[batch->at], batch->at);
        SEND(line, world, batch->session, lost);
        struct sim_cut *cut = &batch->cuts[batch->at];
        if (cut->halted || cut->log_end <= cut->archived_end)
            continue;
        struct op *op = transaction_add(world, batch->session, OP_ARCHIVED);
        op->index = batch->at;
        op->number = cut->archived_end = cut->log_end;
        if (transaction_commit(world, batch->session) == COMMIT_LOST)
            goto lost;
    }
    if (batch->again)
        goto loaded;
    SEND(line, world, batch->session, lost); /* read_floors */
    for (int p = 0; p < world->partitions; p++)
        batch->cuts[p].floor = current_run(world)->cutoff[p];
    hold_halted(world);
    /* cut_choose: request_cuts, one statement that locks row after row */
    SEND(line, world, batch->session, lost);
    for (batch->at = 0; batch->at < world->partitions; batch->at++) {
        if (!session_lives(world, world->db.now.positions[batch->at].owner_pid))
            continue;
        TAKE_LOCK(line, world, batch->session, LOCK_POSITION + batch->at, lost);
        request_cut(world, batch->at);
    }
    if (transaction_commit(world, batch->session) == COMMIT_LOST)
        goto lost;
    for (int i = 0; i < world->speeds; i++)
        world->speed[i].notified = world->speed[i].up;
    for (batch->polls = 1 + pick(world, 20); batch->polls > 0; batch->polls--) {
        SEND(line, world, batch->session, lost);
        take_answers(world);
        if (!batch->waiting)
            break;
    }
    for (batch->at = 0; batch->at < world->partitions; batch->at++) {
        if (batch->cuts[batch->at].chosen)
            continue;
        SEND(line, world, batch->session, lost);
        TAKE_LOCK(line, world, batch->session, LOCK_POSITION + batch->at, lost);
        plan(world, batch->at);
        SEND(line, world, batch->session, lost);
        if (transaction_commit(world, batch->session) == COMMIT_LOST)
            goto lost;
    }
    note_log_ends(world);
    for (int p = 0; p < world->partitions; p++) /* archive_up_to_cuts */
        batch->again = batch->again || batch->cuts[p].offset > batch->cuts[p].archived_end;
    if (batch->again)
        goto load;
loaded:
    if (batch->again)
        note_log_ends(world);
    hold_halted(world);
    SEND(line, world, batch->session, lost);
    plan_reuse(world);
    AWAIT(line);
    recompute(world);
    /* publish_run */
    SEND(line, world, batch->session, lost);
    audit(world);
    SEND(line, world, batch->session, lost);
    store(world);
    SEND(line, world, batch->session, lost);
    TAKE_LOCK(line, world, batch->session, LOCK_RUN_ROW, lost);
    finish_run(world);
    SEND(line, world, batch->session, lost);
    TAKE_LOCK(line, world, batch->session, LOCK_CURRENT_RUN, lost);
    if (!may_switch(world)) {
        say(world, "run %d: an operator went to another run meanwhile", batch->run);
        goto lost;
    }
    transaction_add(world, batch->session, OP_CURRENT)->index = batch->run;
    if (world->bug == BUG_PUBLISH_MOVES_P)
        move_positions(world);
    SEND(line, world, batch->session, lost);
    if (transaction_commit(world, batch->session) == COMMIT_LOST)
        goto lost;
    world->publications++;
    say(world, "run %d is published", batch->run);
    /* retention_apply: READ COMMITTED, each statement sees what was committed before it */
    SEND(line, world, batch->session, lost);
    if (world->bug != BUG_UNLOCKED_RETENTION)
        TAKE_LOCK(line, world, batch->session, LOCK_CURRENT_RUN, lost);
    drop_runs(world, dropped);
    drop_rows(world, dropped);
    drop_cuts(world, dropped);
    SEND(line, world, batch->session, lost);
    if (transaction_commit(world, batch->session) == COMMIT_LOST)
        goto lost;
    if (chance(world, 500))
        goto over; /* the scheduler keeps its session */
    session_close(world, &batch->session);
    goto over;
lost: /* the run fails; fail_run's note of it changes nothing that anybody reads */
    say(world, "run %d ends early", batch->run);
    transaction_abort(world, batch->session);
    session_close(world, &batch->session);
over:
    END_AT(line);
}
