/* The flusher: speed_layer/flusher.c, run_flush, and flush_write.c.
 *
 * What it writes is in a real struct flush, and its rows are the bytes that the real COPY would
 * send. Each attempt is one transaction: fence, rows, COMMIT. */
#include <string.h>

#include "tests/simulator/simulator.h"

enum { COPY_HEADER_BYTES = 19 };

static bool is_ours(const struct world *world, const struct flush_partition *entry)
{
    const struct sim_position *row = &world->db.now.positions[entry->partition];
    if (world->bug == BUG_NO_FENCE)
        return true;
    return row->next == entry->expected_offset &&
           (world->bug == BUG_ZOMBIE_FLUSH || row->epoch == entry->epoch);
}

/* The UPDATE of fence_sql for one row, and its RETURNING. */
static void move_position(struct world *world, struct sim_flusher *flusher,
                          struct flush_partition *entry)
{
    struct sim_position row = world->db.now.positions[entry->partition];
    entry->cut_requested = row.cut_requested && !entry->cut_answered;
    row.next = entry->next_offset;
    row.slice_start = entry->slice_start;
    row.cut_requested = entry->cut_requested;
    row.owner_pid = world->db.sessions[flusher->session].pid;
    row.lone = false;
    if (entry->has_as_of && entry->as_of_us > row.as_of_us)
        row.as_of_us = entry->as_of_us;
    row.consumed += entry->consumed;
    row.counted += entry->counted;
    row.filtered += entry->filtered;
    row.duplicate += entry->duplicate;
    row.dead += entry->dead_lettered;
    struct op *op = transaction_add(world, flusher->session, OP_POSITION);
    op->index = entry->partition;
    op->position = row;
}

/* flush_write.c, write_version: COPY of new groups, UPDATE of stored ones. */
static void write_rows(struct world *world, struct sim_flusher *flusher, bool append)
{
    const struct flush_version *version = &flusher->job->versions[0];
    const struct pgbinary_writer *writers[] = {&version->inserts, &version->updates};
    for (int i = 0; i < 2; i++) {
        const unsigned char *data = (const unsigned char *)writers[i]->data;
        size_t at = COPY_HEADER_BYTES;
        while (at < writers[i]->length) {
            struct op *op = transaction_add(world, flusher->session, i == 0 ? OP_ROW : OP_REPLACE);
            at += row_read(data + at, i == 1, &op->row);
            if (append)
                op->row.address = 0;
        }
    }
}

/* flush_write.c, flush_resolve_doubt, behind the lock: the first partition that moves decides. */
static struct flush_partition *doubtful(struct flush *flush)
{
    for (size_t i = 0; i < flush->partition_count; i++)
        if (flush->partitions[i].next_offset != flush->partitions[i].expected_offset)
            return &flush->partitions[i];
    return NULL;
}

static void finish(struct sim_flusher *flusher, enum status status)
{
    flusher->job->status = status;
    flusher->done = true;
    flusher->line = 0;
}

static void run_flush(struct world *world, struct sim_speed *speed)
{
    struct sim_flusher *flusher = &speed->flusher;
    struct flush *flush = flusher->job;
    bits_t letters = speed->letters[flush - speed->flushes];
    int *line = &flusher->line;
    BEGIN_AT(line);
    if (letters != 0 && world->bug != BUG_LATE_LETTERS) {
        /* try_fence, without a lock; then send_letters until each is acknowledged */
        AWAIT(line);
        for (size_t i = 0; i < flush->partition_count; i++) {
            if (!is_ours(world, &flush->partitions[i])) {
                finish(flusher, STATUS_FENCED);
                return;
            }
        }
        AWAIT(line);
        if (flusher->abandoned) {
            finish(flusher, STATUS_RETRY);
            return;
        }
        world->letters |= letters;
    }
again:
    AWAIT(line);
    if (flusher->abandoned) {
        finish(flusher, STATUS_RETRY);
        return;
    }
    if (flusher->session < 0 || !world->db.sessions[flusher->session].connected) {
        flusher->session = session_reopen(world, flusher->session); /* ensure_connected */
        flusher->reconnected = flusher->ever_connected;
        flusher->ever_connected = true;
    }
    if (flush->commit_in_doubt && world->bug != BUG_APPEND_ON_RETRY && doubtful(flush) != NULL) {
        SEND(line, world, flusher->session, again);
        TAKE_LOCK(line, world, flusher->session, LOCK_POSITION + doubtful(flush)->partition,
                  timeout);
        const struct flush_partition *entry = doubtful(flush);
        int64_t next = world->db.now.positions[entry->partition].next;
        transaction_abort(world, flusher->session); /* a statement of its own */
        flush->commit_in_doubt = false;
        say(world, "process %d resolves its doubt: p%d is at %d", speed->owner, entry->partition,
            (int)next);
        if (next == entry->next_offset) {
            finish(flusher, STATUS_OK);
            return;
        }
        if (next != entry->expected_offset) {
            finish(flusher, STATUS_FENCED);
            return;
        }
    }
    /* flush_write */
    if (world->bug != BUG_APPEND_ON_RETRY)
        flush->commit_in_doubt = false;
    for (flusher->at = 0; flusher->at < (int)flush->partition_count; flusher->at++) {
        SEND(line, world, flusher->session, again);
        TAKE_LOCK(line, world, flusher->session,
                  LOCK_POSITION + flush->partitions[flusher->at].partition, timeout);
    }
    for (size_t i = 0; i < flush->partition_count; i++) {
        if (!is_ours(world, &flush->partitions[i]) && !flush->commit_in_doubt) {
            transaction_abort(world, flusher->session);
            finish(flusher, STATUS_FENCED);
            return;
        }
        move_position(world, flusher, &flush->partitions[i]);
    }
    if (world->bug == BUG_P_BEFORE_ROWS) {
        SEND(line, world, flusher->session, again);
        if (transaction_commit(world, flusher->session) == COMMIT_LOST)
            goto again;
    }
    SEND(line, world, flusher->session, again);
    write_rows(world, flusher, flush->commit_in_doubt);
    SEND(line, world, flusher->session, again);
    if (transaction_commit(world, flusher->session) == COMMIT_LOST) {
        flush->commit_in_doubt = true;
        goto again;
    }
    world->letters |= letters;
    finish(flusher, STATUS_OK);
    return;
timeout: /* clean_up: 55P03, or the connection */
    transaction_abort(world, flusher->session);
    goto again;
    END_AT(line);
}

void flusher_step(struct world *world, struct sim_speed *speed)
{
    if (speed->up && speed->flusher.job != NULL && !speed->flusher.done)
        run_flush(world, speed);
}
