/* Who reads, and operators.
 *
 * An answer is core/query/query_snapshot.c: BEGIN REPEATABLE READ and three statements, of which
 * the receipt is query_receipt.c's with the view "progress" of schemas/sql/015_progress.sql, and
 * the others query_sql.c's. Its rows are merged by the real core/groups.c and compared, byte for
 * byte, with one fold over the records below P. `dovetail runs rollback` is cli/runs.c, switch_run;
 * `dovetail init` stands for all that adds one to every owner_epoch. */
#include <string.h>

#include "tests/simulator/simulator.h"

static const struct sim_run *run_of(const struct tables *tables)
{
    return &tables->runs[tables->current_run];
}

static int64_t answered_up_to(const struct tables *receipt, int p)
{
    int64_t next = receipt->positions[p].next;
    int64_t cutoff = run_of(receipt)->cutoff[p];
    return next > cutoff ? next : cutoff;
}

static void check_answer(struct world *world, const struct sim_reader *reader)
{
    struct row merged[GROUPS];
    struct row wanted[GROUPS];
    const int64_t starts[PARTITIONS_MAX] = {0};
    int64_t ends[PARTITIONS_MAX] = {0};
    for (int p = 0; p < world->partitions; p++)
        ends[p] = answered_up_to(&reader->receipt, p);
    int count = rows_merge(reader->rows, reader->row_count, merged);
    bool equal = rows_equal(merged, count, wanted, records_fold(world, starts, ends, wanted));
    world->answers++;
    if (!equal)
        violated(world, "an answer under run %d is not the records below its P (%d, %d, %d)",
                 reader->receipt.current_run, (int)ends[0], (int)ends[1], (int)ends[2]);
}

/* "progress".as_of: everything that was in the log then is below P. */
static void check_receipt(struct world *world, const struct tables *receipt)
{
    for (int p = 0; p < world->partitions; p++) {
        const struct sim_position *row = &receipt->positions[p];
        const struct sim_run *run = run_of(receipt);
        int64_t as_of_us = row->as_of_us;
        if (run->cutoff[p] >= row->next && run->as_of_us[p] > as_of_us)
            as_of_us = run->as_of_us[p];
        if (as_of_us == 0)
            continue;
        int64_t end = world->end_at[as_of_us / 1000000 - 1][p];
        if (answered_up_to(receipt, p) < end)
            violated(world, "the receipt has p%d as of step %d, when the log ended at %d; P is %d",
                     p, (int)(as_of_us / 1000000 - 1), (int)end, (int)answered_up_to(receipt, p));
    }
}

static void take_snapshot(const struct world *world, struct sim_reader *reader)
{
    reader->tables = world->db.now;
    reader->commit = world->db.commits;
}

static void read_batch(const struct world *world, struct sim_reader *reader)
{
    int run = reader->tables.current_run;
    for (int i = 0; i < world->db.row_count; i++) {
        const struct row *row = &world->db.rows[i];
        if (row->batch && row_is_visible(row, reader->commit) && row->run_from <= run &&
            run < row->run_to)
            reader->rows[reader->row_count++] = row;
    }
}

static void read_speed(const struct world *world, struct sim_reader *reader)
{
    for (int i = 0; i < world->db.row_count; i++) {
        const struct row *row = &world->db.rows[i];
        if (!row->batch && row_is_visible(row, reader->commit) &&
            row->slice_start >= run_of(&reader->tables)->cutoff[row->partition])
            reader->rows[reader->row_count++] = row;
    }
}

void reader_step(struct world *world, struct sim_reader *reader)
{
    bool torn = world->bug == BUG_TORN_READ;
    int *line = &reader->line;
    BEGIN_AT(line);
    while (!chance(world, 150))
        AWAIT(line);
    take_snapshot(world, reader);
    reader->receipt = reader->tables;
    reader->row_count = 0;
    AWAIT(line);
    if (torn)
        take_snapshot(world, reader);
    read_batch(world, reader);
    AWAIT(line);
    if (torn)
        take_snapshot(world, reader);
    read_speed(world, reader);
    check_answer(world, reader);
    check_receipt(world, &reader->receipt);
    END_AT(line);
}

/* --- dovetail runs rollback --- */

/* The planted bug: the slices that the run had made superfluous are taken for superfluous still. */
static void forget_slices(struct world *world, int from, int session)
{
    const struct tables *now = &world->db.now;
    for (int i = 0; i < world->db.row_count; i++) {
        const struct row *row = &world->db.rows[i];
        if (!row->batch && row->died == INT64_MAX &&
            row->slice_start < now->runs[from].cutoff[row->partition])
            transaction_add(world, session, OP_KILL)->index = i;
    }
}

void rollback_step(struct world *world)
{
    struct sim_operator *command = &world->rollback;
    int *line = &command->line;
    BEGIN_AT(line);
    while (!chance(world, world->rollback_rate))
        AWAIT(line);
    command->session = session_open(world);
    command->run = pick(world, world->db.now.run_count);
    SEND(line, world, command->session, over);
    TAKE_LOCK(line, world, command->session, LOCK_CURRENT_RUN, over);
    SEND(line, world, command->session, over); /* check_run */
    if (world->db.now.runs[command->run].state != RUN_PUBLISHED ||
        command->run == world->db.now.current_run)
        goto over;
    transaction_add(world, command->session, OP_CURRENT)->index = command->run;
    transaction_add(world, command->session, OP_ROLLBACK);
    if (world->bug == BUG_FORGET_SLICES)
        forget_slices(world, world->db.now.current_run, command->session);
    SEND(line, world, command->session, over);
    say(world, "an operator goes from run %d to run %d", world->db.now.current_run, command->run);
    if (transaction_commit(world, command->session) == COMMIT_DONE)
        world->rollbacks++;
over:
    transaction_abort(world, command->session);
    session_close(world, &command->session);
    END_AT(line);
}

/* --- dovetail init: core/catalog/catalog_register.c, owner_epoch + 1 on every partition --- */

void registration_step(struct world *world)
{
    struct sim_operator *command = &world->registration;
    int *line = &command->line;
    BEGIN_AT(line);
    while (!chance(world, 20))
        AWAIT(line);
    command->session = session_open(world);
    for (command->at = 0; command->at < world->partitions; command->at++) {
        SEND(line, world, command->session, over);
        TAKE_LOCK(line, world, command->session, LOCK_POSITION + command->at, over);
        struct op *op = transaction_add(world, command->session, OP_POSITION);
        op->index = command->at;
        op->position = world->db.now.positions[command->at];
        op->position.epoch++;
    }
    SEND(line, world, command->session, over);
    say(world, "a view is registered: every epoch grows");
    (void)transaction_commit(world, command->session);
over:
    transaction_abort(world, command->session);
    session_close(world, &command->session);
    END_AT(line);
}
