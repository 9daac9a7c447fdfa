/* PostgreSQL, as far as the protocol relies on it.
 *
 * READ COMMITTED: what a transaction writes is kept with its session and takes effect at COMMIT, at
 * once; a statement reads what was committed before it (world->db.now), behind the row locks that
 * it waited for. A snapshot is a copy of the small tables and the number of the last commit, which
 * says of every version of a row whether it is visible. A session outlives its connection: its
 * locks and a COMMIT that is under way stay until the server notices. A crash of the server ends
 * all of them, and loses what was not committed. */
#include <assert.h>
#include <string.h>

#include "tests/simulator/simulator.h"

void database_reset(struct world *world)
{
    struct database *db = &world->db;
    db->now = (struct tables){.run_count = 1};
    db->now.runs[0].state = RUN_PUBLISHED; /* schemas/sql/001_dovetail.sql: run 0 has no rows */
    db->commits = 0;
    db->row_count = 0;
    db->last_pid = 100;
    for (int i = 0; i < LOCK_COUNT; i++)
        db->lock_holder[i] = -1;
    for (int i = 0; i < SESSIONS_MAX; i++)
        db->sessions[i].alive = db->sessions[i].held = db->sessions[i].committing = false;
}

/* --- sessions and locks --- */

/* -1: too many connections; the client tries again. */
int session_open(struct world *world)
{
    for (int i = 0; i < SESSIONS_MAX; i++) {
        struct session *session = &world->db.sessions[i];
        if (session->alive || session->held)
            continue;
        session->alive = session->connected = session->held = true;
        session->committing = false;
        session->op_count = 0;
        session->pid = ++world->db.last_pid;
        return i;
    }
    return -1;
}

static void release(struct world *world, int session, bool advisory)
{
    for (int i = 0; i < LOCK_COUNT; i++)
        if (world->db.lock_holder[i] == session && (advisory || i != LOCK_BATCH))
            world->db.lock_holder[i] = -1;
}

void session_end(struct world *world, int session)
{
    release(world, session, true);
    world->db.sessions[session].alive = false;
    world->db.sessions[session].committing = false;
    world->db.sessions[session].op_count = 0;
}

void session_close(struct world *world, int *session)
{
    if (*session < 0)
        return;
    struct session *own = &world->db.sessions[*session];
    own->connected = own->held = false;
    if (own->alive && !own->committing && chance(world, 700))
        session_end(world, *session); /* else the server has yet to notice */
    *session = -1;
}

int session_reopen(struct world *world, int session)
{
    if (session >= 0)
        session_close(world, &session);
    return session_open(world);
}

bool session_works(struct world *world, int session)
{
    if (session < 0)
        return false;
    struct session *own = &world->db.sessions[session];
    if (!own->alive || !own->connected)
        return false;
    if (!chance(world, world->lost_rate))
        return true;
    say(world, "connection of session %d is cut", own->pid);
    own->connected = false;
    return false;
}

/* pg_stat_activity. */
bool session_lives(const struct world *world, int pid)
{
    for (int i = 0; i < SESSIONS_MAX; i++)
        if (world->db.sessions[i].alive && world->db.sessions[i].pid == pid)
            return true;
    return false;
}

bool lock_take(struct world *world, int session, int lock)
{
    int *holder = &world->db.lock_holder[lock];
    if (*holder >= 0 && *holder != session)
        return false;
    *holder = session;
    return true;
}

/* --- transactions --- */

/* ROLLBACK. Where the connection is lost the server has to find out. */
void transaction_abort(struct world *world, int session)
{
    if (session < 0 || !world->db.sessions[session].connected)
        return;
    world->db.sessions[session].op_count = 0;
    release(world, session, false);
}

struct op *transaction_add(struct world *world, int session, enum op_kind kind)
{
    struct session *own = &world->db.sessions[session];
    assert(own->op_count < OPS_MAX);
    struct op *op = &own->ops[own->op_count++];
    op->kind = kind;
    return op;
}

bool row_is_visible(const struct row *row, int64_t commit)
{
    return row->born <= commit && commit < row->died;
}

static struct row *find_address(struct database *db, const struct row *row)
{
    for (int i = 0; i < db->row_count; i++) {
        struct row *stored = &db->rows[i];
        if (!stored->batch && stored->died == INT64_MAX && row->address != 0 &&
            stored->partition == row->partition && stored->slice_start == row->slice_start &&
            stored->address == row->address)
            return stored;
    }
    return NULL;
}

static void add_row(struct world *world, const struct row *row)
{
    struct database *db = &world->db;
    assert(db->row_count < ROWS_MAX);
    /* The unique index of addresses: core/catalog/catalog_tables.c. */
    if (!row->batch && find_address(db, row) != NULL)
        violated(world, "two rows of p%d slice %d have the address %d", row->partition,
                 (int)row->slice_start, (int)row->address);
    struct row *stored = &db->rows[db->row_count++];
    *stored = *row;
    stored->born = db->commits;
    stored->died = INT64_MAX;
}

static void replace_row(struct world *world, const struct row *states)
{
    struct row *stored = find_address(&world->db, states);
    if (stored == NULL)
        return; /* an UPDATE that finds nothing is no error */
    struct row row = *stored;
    stored->died = world->db.commits;
    row_join(&row, states);
    add_row(world, &row);
}

static void drop_cuts(struct tables *now, int partition, int64_t below)
{
    int kept = 0;
    for (int i = 0; i < now->cut_count[partition]; i++)
        if (now->cuts[partition][i] >= below)
            now->cuts[partition][kept++] = now->cuts[partition][i];
    now->cut_count[partition] = kept;
}

static void apply(struct world *world, const struct op *op)
{
    struct database *db = &world->db;
    struct tables *now = &db->now;
    switch (op->kind) {
    case OP_POSITION:
        now->positions[op->index] = op->position;
        break;
    case OP_CUT:
        assert(now->cut_count[op->index] < CUTS_MAX);
        now->cuts[op->index][now->cut_count[op->index]++] = op->number;
        break;
    case OP_DROP_CUTS:
        drop_cuts(now, op->index, op->number);
        break;
    case OP_ROW:
        add_row(world, &op->row);
        break;
    case OP_REPLACE:
        replace_row(world, &op->row);
        break;
    case OP_KILL:
        if (db->rows[op->index].died == INT64_MAX)
            db->rows[op->index].died = db->commits;
        break;
    case OP_RUN:
        now->runs[op->index] = op->run;
        break;
    case OP_NEW_RUN:
        assert(now->run_count < RUNS_MAX);
        now->runs[now->run_count++] = (struct sim_run){.state = RUN_RUNNING};
        break;
    case OP_CURRENT:
        now->current_run = op->index;
        break;
    case OP_ROWS_RUN:
        now->rows_run = op->index;
        break;
    case OP_ARCHIVED:
        now->archived[op->index] = op->number;
        break;
    case OP_ROLLBACK:
        break;
    }
}

static void commit_now(struct world *world, int session)
{
    struct session *own = &world->db.sessions[session];
    bool went_back = false;
    world->db.commits++;
    for (int i = 0; i < own->op_count; i++) {
        apply(world, &own->ops[i]);
        went_back = went_back || own->ops[i].kind == OP_ROLLBACK;
    }
    own->op_count = 0;
    own->committing = false;
    release(world, session, false);
    check_state(world, went_back);
}

enum commit transaction_commit(struct world *world, int session)
{
    struct session *own = &world->db.sessions[session];
    if (!own->alive || !own->connected)
        return COMMIT_LOST;
    if (!chance(world, 4 * world->lost_rate)) {
        commit_now(world, session);
        return COMMIT_DONE;
    }
    own->connected = false;
    switch (pick(world, 3)) {
    case 0:
        say(world, "session %d: the answer to COMMIT is lost", own->pid);
        commit_now(world, session);
        break;
    case 1:
        say(world, "session %d: COMMIT does not arrive", own->pid);
        break;
    default:
        say(world, "session %d: COMMIT arrives, its client is gone", own->pid);
        own->committing = true;
    }
    return COMMIT_LOST;
}

/* --- the server --- */

static void crash(struct world *world)
{
    say(world, "PostgreSQL crashes");
    for (int i = 0; i < SESSIONS_MAX; i++) {
        struct session *session = &world->db.sessions[i];
        if (session->alive && session->committing && chance(world, 500))
            commit_now(world, i);
        if (session->alive)
            session_end(world, i);
        session->connected = false; /* its client will find out: session_works */
    }
}

/* Sees to a session whose client is gone. */
void server_step(struct world *world)
{
    if (chance(world, world->crash_rate)) {
        crash(world);
        return;
    }
    int first = pick(world, SESSIONS_MAX);
    for (int i = 0; i < SESSIONS_MAX; i++) {
        int number = (first + i) % SESSIONS_MAX;
        struct session *session = &world->db.sessions[number];
        if (!session->alive || session->connected)
            continue;
        if (session->committing && chance(world, 800)) {
            say(world, "session %d: the COMMIT that was under way takes place", session->pid);
            commit_now(world, number);
        }
        say(world, "session %d ends at the server", session->pid);
        session_end(world, number);
        return;
    }
}
