/* The speed layer's main thread.
 *
 * speed_layer/partition.c, flush.c and feed.c are the real ones: claims begin real partitions,
 * records are folded by partition_fold, slices closed by partition_cut, flushes filled by
 * partition_hand_over. What is modelled is what calls them and waits: claim.c, ownership.c,
 * handover.c, recovery.c, watch.c and speed.c, each step below with the function that it follows.
 * The order in which a real tick does these things is one of those that chance makes here. */
#include <assert.h>
#include <stdlib.h>

#include "tests/simulator/simulator.h"

static void must(struct world *world, enum status status, const struct error *error)
{
    if (status != STATUS_OK)
        violated(world, "the speed layer fails: %s", error->text);
}

static struct flush *open_flush(struct sim_speed *speed)
{
    return &speed->flushes[speed->open];
}

/* ownership.c, discard_work */
static void discard_work(struct world *world, struct sim_speed *speed)
{
    for (int p = 0; p < world->partitions; p++) {
        partition_discard(&speed->partitions[p]);
        speed->walk_end[p] = 0;
    }
    flush_clear(open_flush(speed));
    speed->letters[speed->open] = 0;
    speed->generation++;
}

/* ownership.c, ownership_lose */
static void lose(struct world *world, struct sim_speed *speed)
{
    discard_work(world, speed);
    speed->reclaim = true;
}

/* ownership.c, ownership_drop_partitions */
static void drop_partitions(struct world *world, struct sim_speed *speed)
{
    discard_work(world, speed);
    for (int p = 0; p < world->partitions; p++)
        speed->assigned[p] = false;
    speed->reclaim = false;
    speed->draining = false;
}

void speed_kill(struct world *world, struct sim_speed *speed)
{
    for (int p = 0; p < world->partitions; p++) {
        free(speed->claims[p].cuts);
        speed->claims[p] = (struct claim){0};
    }
    drop_partitions(world, speed);
    flush_clear(&speed->flushes[0]);
    flush_clear(&speed->flushes[1]);
    speed->letters[0] = speed->letters[1] = 0;
    session_close(world, &speed->session);
    session_close(world, &speed->flusher.session);
    speed->flusher = (struct sim_flusher){.session = -1};
    speed->claim_line = 0;
    speed->up = speed->in_flight = speed->touch = speed->backlog = speed->notified = false;
}

/* --- the claim: claim.c, claims_take --- */

/* One row's part of update_owner. */
static bool take_over(struct world *world, struct sim_speed *speed, int partition)
{
    const struct sim_position *row = &world->db.now.positions[partition];
    bool lone = row->lone && !session_lives(world, row->owner_pid);
    if (speed->only_mine && row->owner != speed->owner && !lone)
        return false;
    struct sim_position taken = *row;
    taken.epoch++;
    taken.owner = speed->owner;
    taken.owner_pid = world->db.sessions[speed->session].pid;
    taken.slice_start = taken.next;
    taken.cut_requested = false;
    taken.lone = false;
    struct op *op = transaction_add(world, speed->session, OP_POSITION);
    op->index = partition;
    op->position = taken;
    speed->claims[partition] = (struct claim){.topic = "t",
                                              .partition = partition,
                                              .claimed = true,
                                              .base_offset = taken.base,
                                              .next_offset = taken.next,
                                              .epoch = taken.epoch};
    return true;
}

/* read_cuts */
static void read_cuts(const struct world *world, struct claim *claim)
{
    const struct tables *now = &world->db.now;
    int p = claim->partition;
    if (world->bug == BUG_CLAIM_WITHOUT_CUTS)
        return;
    claim->cuts = calloc(CUTS_MAX, sizeof *claim->cuts);
    for (int i = 0; i < now->cut_count[p]; i++) {
        if (now->cuts[p][i] <= claim->next_offset)
            continue;
        size_t at = claim->cut_count++;
        for (; at > 0 && claim->cuts[at - 1] > now->cuts[p][i]; at--)
            claim->cuts[at] = claim->cuts[at - 1];
        claim->cuts[at] = now->cuts[p][i];
    }
}

/* ownership.c, install_claims; recovery.c, recovery_claimed (no log is made anew here) */
static void install_claims(struct world *world, struct sim_speed *speed)
{
    struct error error;
    for (int p = 0; p < world->partitions; p++) {
        struct claim *claim = &speed->claims[p];
        if (!claim->claimed)
            continue;
        struct partition *partition = &speed->partitions[p];
        say(world, "process %d claims p%d: P %d, epoch %d, %d planned cuts", speed->owner, p,
            (int)claim->next_offset, (int)claim->epoch, (int)claim->cut_count);
        must(world,
             partition_begin(partition, claim, feeds_find(sim_feeds, "t"), time_us(world), &error),
             &error);
        speed->fetch[p] = partition_read_offset(partition);
        speed->walk_end[p] = 0;
    }
}

static void forget_claims(struct sim_speed *speed)
{
    for (int p = 0; p < PARTITIONS_MAX; p++) {
        free(speed->claims[p].cuts);
        speed->claims[p] = (struct claim){0};
    }
}

/* ownership.c, claim_all. No flush is under way, and nothing is in memory. */
static void claim_step(struct world *world, struct sim_speed *speed)
{
    int *line = &speed->claim_line;
    BEGIN_AT(line);
    AWAIT(line); /* ownership_ensure_session */
    if (speed->session < 0 || !world->db.sessions[speed->session].connected)
        speed->session = session_reopen(world, speed->session);
    forget_claims(speed);
    /* "WITH locked AS (SELECT ... ORDER BY topic, partition FOR UPDATE)" */
    for (speed->at = 0; speed->at < world->partitions; speed->at++) {
        if (!speed->assigned[speed->at])
            continue;
        SEND(line, world, speed->session, lost);
        TAKE_LOCK(line, world, speed->session, LOCK_POSITION + speed->at, lost);
    }
    for (int p = 0; p < world->partitions; p++)
        if (speed->assigned[p] && !take_over(world, speed, p))
            say(world, "process %d: p%d belongs to another process", speed->owner, p);
    SEND(line, world, speed->session, lost); /* catalog_load, read_cuts */
    for (int p = 0; p < world->partitions; p++)
        if (speed->claims[p].claimed)
            read_cuts(world, &speed->claims[p]);
    SEND(line, world, speed->session, lost);
    if (transaction_commit(world, speed->session) == COMMIT_LOST)
        goto lost;
    install_claims(world, speed);
    forget_claims(speed);
    speed->reclaim = false;
    speed->claim_line = 0;
    return;
lost: /* "claiming again is right either way" */
    transaction_abort(world, speed->session);
    forget_claims(speed);
    speed->reclaim = true;
    END_AT(line);
}

static void begin_claim(struct world *world, struct sim_speed *speed, bool only_mine)
{
    speed->only_mine = only_mine;
    claim_step(world, speed);
}

bool speed_is_claiming(const struct sim_speed *speed)
{
    return speed->claim_line != 0;
}

/* --- between folding and writing: handover.c --- */

static void cut(struct world *world, struct sim_speed *speed, int p)
{
    struct error error;
    must(world, partition_cut(&speed->partitions[p], open_flush(speed), time_us(world), &error),
         &error);
}

/* handover_begin, with close_backlog */
static void hand_over(struct world *world, struct sim_speed *speed)
{
    struct error error;
    if (speed->in_flight)
        return;
    bool behind = chance(world, 150);
    for (int p = 0; p < world->partitions; p++)
        if (speed->partitions[p].claimed && (behind || speed->backlog))
            cut(world, speed, p);
    speed->backlog = behind;
    for (int p = 0; p < world->partitions; p++) {
        struct partition *partition = &speed->partitions[p];
        if (!partition_has_news(partition) && !(speed->touch && partition->claimed))
            continue;
        must(world, partition_hand_over(partition, open_flush(speed), time_us(world), &error),
             &error);
        /* Borrowed from the claim's catalogue; here there is one. */
        say(world, "process %d flushes p%d: P %d to %d, slice %d%s", speed->owner, p,
            (int)open_flush(speed)
                ->partitions[open_flush(speed)->partition_count - 1]
                .expected_offset,
            (int)partition->handed_offset, (int)partition->slice_start, behind ? ", backlog" : "");
    }
    speed->touch = false;
    if (flush_is_empty(open_flush(speed)))
        return;
    open_flush(speed)->generation = speed->generation;
    speed->flusher.job = open_flush(speed);
    speed->flusher.done = speed->flusher.abandoned = false;
    speed->in_flight = true;
    speed->open = 1 - speed->open;
}

/* handover_finish, handle_outcome, answer_cuts */
static void take_outcome(struct world *world, struct sim_speed *speed)
{
    struct flush *flush = speed->flusher.job;
    if (!speed->in_flight || !speed->flusher.done)
        return;
    speed->in_flight = false;
    speed->flusher.job = NULL;
    if (flush->generation != speed->generation) {
        say(world, "process %d ignores the outcome of an older flush", speed->owner);
    } else if (flush->status == STATUS_OK) {
        for (size_t i = 0; i < flush->partition_count; i++) {
            int p = flush->partitions[i].partition;
            if (!flush->partitions[i].cut_requested || !speed->partitions[p].claimed)
                continue;
            cut(world, speed, p);
            speed->partitions[p].cut_answered = true;
        }
    } else if (flush->status == STATUS_FENCED || flush->status == STATUS_RETRY) {
        say(world, "process %d: %s", speed->owner,
            flush->status == STATUS_FENCED ? "fenced" : "the flush was given up");
        lose(world, speed);
    } else {
        must(world, flush->status, &flush->error);
    }
    flush_clear(flush);
    speed->letters[1 - speed->open] = 0;
}

/* handover_cut_all */
static void cut_all(struct world *world, struct sim_speed *speed, bool answer)
{
    for (int p = 0; p < world->partitions; p++) {
        struct partition *partition = &speed->partitions[p];
        if (!partition->claimed)
            continue;
        cut(world, speed, p);
        partition->cut_answered = partition->cut_answered || answer;
    }
}

static bool has_news(const struct world *world, const struct sim_speed *speed)
{
    for (int p = 0; p < world->partitions; p++)
        if (partition_has_news(&speed->partitions[p]))
            return true;
    return false;
}

/* --- records: speed.c, handle_message; recovery.c, look, decide, recovery_step --- */

/* Where the log does not have the next offset: from the archive, or not at all. */
static bool look(struct world *world, struct sim_speed *speed, int p)
{
    struct partition *partition = &speed->partitions[p];
    int64_t archived = world->db.now.archived[p];
    int64_t next = speed->fetch[p];
    int64_t low = world->low[p];
    speed->walk_end[p] = 0;
    if (next >= low) {
        partition->supply = SUPPLY_KAFKA;
    } else if (next < archived) {
        say(world, "process %d reads p%d from the archive, from %d on", speed->owner, p, (int)next);
        partition->supply = SUPPLY_ARCHIVE;
        speed->walk_end[p] = archived < low ? archived : low;
    } else {
        partition->supply = SUPPLY_HALTED;
    }
    return partition->supply != SUPPLY_HALTED;
}

static void fold(struct world *world, struct sim_speed *speed, int p, int64_t offset)
{
    struct error error;
    const struct sim_record *from = &world->log[p][offset];
    enum record_outcome outcome;
    struct rejection rejection;
    const struct record record = {.offset = offset,
                                  .timestamp_ms = offset,
                                  .value = from->length > 0 ? from->text : NULL,
                                  .length = from->length};
    must(world,
         partition_fold(&speed->partitions[p], &record, open_flush(speed), &outcome, &rejection,
                        &error),
         &error);
    if (outcome == RECORD_DEAD) /* add_dead_letter */
        speed->letters[speed->open] |= bit_of(p, offset);
}

/* One message, or the end of what there is to read. */
static void poll(struct world *world, struct sim_speed *speed, int p)
{
    struct error error;
    struct partition *partition = &speed->partitions[p];
    if (!partition->claimed)
        return;
    if ((speed->walk_end[p] == 0 || speed->fetch[p] >= speed->walk_end[p]) &&
        (speed->walk_end[p] != 0 || speed->fetch[p] < world->low[p] || partition->supply != 0) &&
        !look(world, speed, p))
        return;
    int64_t end = speed->walk_end[p] != 0 ? speed->walk_end[p] : world->end[p];
    int64_t next = speed->fetch[p];
    while (next < end && !world->log[p][next].present)
        next++;
    if (next < end) {
        fold(world, speed, p, next);
        speed->fetch[p] = next + 1;
        return;
    }
    speed->fetch[p] = end;
    must(world,
         speed->walk_end[p] != 0 ? partition_pass(partition, end, open_flush(speed), &error)
                                 : partition_reach_end(partition, end, open_flush(speed), &error),
         &error);
}

/* --- the group's callbacks: ownership.c, on_revoke, on_assign --- */

static void give_back(struct world *world, struct sim_speed *speed)
{
    say(world, "process %d gives its partitions back", speed->owner);
    speed->flusher.abandoned = speed->in_flight;
    drop_partitions(world, speed);
}

static void rebalance(struct world *world, struct sim_speed *speed)
{
    bool has_any = false;
    for (int p = 0; p < world->partitions; p++)
        has_any = has_any || speed->assigned[p];
    if (has_any) {
        /* Lost, or handover_drain until it is clean or time is up. */
        bool lost = chance(world, 300);
        if (!lost && (speed->in_flight || has_news(world, speed)) && !chance(world, 100)) {
            speed->draining = true;
            return;
        }
        give_back(world, speed);
        return;
    }
    if (speed->in_flight)
        return; /* "an earlier flush is still under way" */
    speed->generation_known = world->generation;
    int me = (int)(speed - world->speed);
    for (int p = 0; p < world->partitions; p++)
        speed->assigned[p] = world->assigned_to[p] == me;
    begin_claim(world, speed, false);
}

/* --- one step --- */

static void start(struct world *world, struct sim_speed *speed)
{
    speed->up = true;
    speed->owner = ++world->last_owner;
    speed->generation_known = -1;
    say(world, "process %d starts as instance %d", speed->owner, (int)(speed - world->speed));
}

static void fold_some(struct world *world, struct sim_speed *speed)
{
    int p = pick(world, world->partitions);
    for (int i = 1 + pick(world, 4); i > 0; i--)
        poll(world, speed, p);
}

/* watch.c, note_ends: an answer that was asked for a moment ago. */
static void note_end(struct world *world, struct sim_speed *speed)
{
    int p = pick(world, world->partitions);
    int back = pick(world, 10);
    int asked = world->step > back ? world->step - back : 0;
    struct partition *partition = &speed->partitions[p];
    if (partition->claimed && partition_follows_log(partition))
        partition_note_end(partition, world->end_at[world->step][p],
                           (int64_t)(asked + 1) * 1000000);
}

void speed_step(struct world *world, struct sim_speed *speed)
{
    if (!speed->up) {
        if (chance(world, 200))
            start(world, speed);
        return;
    }
    if (speed_is_claiming(speed)) {
        claim_step(world, speed);
        return;
    }
    take_outcome(world, speed);
    if (speed->flusher.reconnected) { /* speed.c, handle_notices: requests may have been missed */
        speed->flusher.reconnected = false;
        speed->touch = true;
    }
    if (speed->draining) {
        hand_over(world, speed);
        if (speed->generation_known != world->generation)
            rebalance(world, speed);
        return;
    }
    if (speed->generation_known != world->generation && chance(world, 150)) {
        rebalance(world, speed);
        return;
    }
    if (speed->reclaim) { /* ownership_reclaim */
        if (!speed->in_flight && chance(world, 400))
            begin_claim(world, speed, true);
        return;
    }
    if (speed->notified && chance(world, 500)) {
        speed->notified = false;
        cut_all(world, speed, true);
    }
    switch (pick(world, 10)) {
    case 0: { /* close_old_slices */
        int p = pick(world, world->partitions);
        if (speed->partitions[p].claimed)
            cut(world, speed, p);
        break;
    }
    case 1:
        note_end(world, speed);
        break;
    case 2:
    case 3:
        hand_over(world, speed);
        break;
    case 4: /* watch.c, act_on_lone */
        for (int p = 0; p < world->partitions; p++)
            if (speed->assigned[p] && !speed->partitions[p].claimed && chance(world, 100))
                speed->reclaim = true;
        if (speed->reclaim)
            lose(world, speed);
        break;
    default:
        fold_some(world, speed);
    }
}
