/* A deterministic simulator of the seam's protocol.
 *
 * One history is one seed: which processes, faults and records there are, and at every await point
 * who goes on. Processes are state machines that stop where the real ones wait for a server; the
 * servers are models with the guarantees that the protocol relies on and no others. After every
 * commit check.c counts anew, from the log alone, what every retained run must answer.
 *
 *   records.c    records, their definition, and the states' bytes (the real core/)
 *   world.c      Kafka, its group, faults, and who goes next
 *   database.c   PostgreSQL: transactions, row locks, sessions that outlive their connections
 *   speed.c      the speed layer's main thread (around the real speed_layer/partition.c, flush.c)
 *   flusher.c    its flusher
 *   batch.c      batch runs
 *   readers.c    answers; operators that roll back and register
 *   check.c      the invariants
 *   simulate.c   histories one after the other; bugs that are planted, so that each can be found
 *
 * One thread. Nothing reads a clock or any other source of chance than world.state. */
#ifndef DOVETAIL_SIMULATOR_H
#define DOVETAIL_SIMULATOR_H

#include "speed_layer/partition.h"

typedef unsigned __int128 bits_t;

enum {
    PARTITIONS_MAX = 3,
    LOG_MAX = 40, /* PARTITIONS_MAX * LOG_MAX bits fit a sum of 38 digits */
    SPEEDS_MAX = 3,
    READERS = 2,
    SESSIONS_MAX = 16,
    OPS_MAX = 256,
    ROWS_MAX = 4096,
    RUNS_MAX = 32,
    CUTS_MAX = 32,
    STEPS_MAX = 4000,
    WINDOWS = 2,
    KEYS = 3,
    GROUPS = WINDOWS * KEYS,
    ROW_BYTES = 96,
    DEDUPE_WITHIN = 5,
};

/* Faults of the protocol that can be planted. */
enum bug {
    BUG_NONE,
    BUG_NO_FENCE,
    BUG_ZOMBIE_FLUSH,
    BUG_CUT_ANYWHERE,
    BUG_P_BEFORE_ROWS,
    BUG_TORN_READ,
    BUG_PUBLISH_MOVES_P,
    BUG_EARLY_DROP,
    BUG_APPEND_ON_RETRY,
    BUG_FORGET_SLICES,
    BUG_PLAN_WITHOUT_EPOCH,
    BUG_CLAIM_WITHOUT_CUTS,
    BUG_UNLOCKED_RETENTION,
    BUG_STALE_FLOOR,
    BUG_COMPARE_DROPPED,
    BUG_LATE_LETTERS,
    BUG_COUNT,
};

struct bug_name {
    const char *name;
    const char *help;
};
extern const struct bug_name bug_names[BUG_COUNT];

/* --- records --- */

struct sim_record {
    bool present; /* false: a hole, such as a transaction's marker */
    bool dead;
    bool filtered;
    bool duplicate; /* the same id within the DEDUPE_WITHIN offsets before */
    int group;
    int64_t id; /* -1: none */
    char text[128];
    size_t length;
};

/* --- the database --- */

struct sim_position {
    int64_t base, next, slice_start, epoch;
    bool cut_requested;
    int owner; /* 0: none */
    int owner_pid;
    bool lone; /* nobody has touched it for long */
    int64_t as_of_us;
    int64_t consumed, counted, filtered, duplicate, dead;
};

enum run_state { RUN_RUNNING, RUN_PUBLISHED, RUN_FAILED, RUN_DROPPED };

struct sim_run {
    enum run_state state;
    int64_t cutoff[PARTITIONS_MAX];
    int64_t as_of_us[PARTITIONS_MAX];
};

/* The small tables; a snapshot is a copy. */
struct tables {
    struct sim_position positions[PARTITIONS_MAX];
    struct sim_run runs[RUNS_MAX];
    int run_count;
    int current_run;
    int rows_run;                           /* the run that the open rows are the result of */
    int64_t cuts[PARTITIONS_MAX][CUTS_MAX]; /* planned */
    int cut_count[PARTITIONS_MAX];
    int64_t archived[PARTITIONS_MAX]; /* end of the manifest */
};

/* A version of a row of states: visible from the commit `born` on and before the commit `died`. */
struct row {
    bool batch;
    int partition;
    int64_t slice_start;
    int64_t address;          /* 0: NULL */
    int64_t run_from, run_to; /* batch */
    int group;
    int64_t count;
    bits_t bits;
    unsigned char bytes[ROW_BYTES]; /* as stored: window, key, states */
    size_t length;
    int64_t born, died;
};

enum op_kind {
    OP_POSITION,
    OP_CUT,
    OP_DROP_CUTS,
    OP_ROW,
    OP_REPLACE,
    OP_KILL,
    OP_RUN,
    OP_NEW_RUN,
    OP_CURRENT,
    OP_ROWS_RUN,
    OP_ARCHIVED,
    OP_ROLLBACK, /* tells the checks that an operator went back */
};

struct op {
    enum op_kind kind;
    int index;
    int64_t number;
    union {
        struct sim_position position;
        struct row row;
        struct sim_run run;
    };
};

enum lock {
    LOCK_POSITION, /* + partition */
    LOCK_CURRENT_RUN = PARTITIONS_MAX,
    LOCK_RUN_ROW,
    LOCK_BATCH, /* advisory: the session's, not the transaction's */
    LOCK_COUNT,
};

struct session {
    bool alive;      /* at the server */
    bool connected;  /* the client can use it */
    bool held;       /* a client has not given it up yet */
    bool committing; /* the COMMIT arrived, nobody waits for its answer */
    int pid;
    int op_count;
    struct op ops[OPS_MAX];
};

struct database {
    struct tables now;
    int64_t commits;
    struct row rows[ROWS_MAX];
    int row_count;
    int lock_holder[LOCK_COUNT]; /* session, or -1 */
    struct session sessions[SESSIONS_MAX];
    int last_pid;
};

/* --- processes --- */

struct sim_flusher {
    int line;
    int session; /* -1: none */
    struct flush *job;
    bool done;
    bool abandoned;
    bool reconnected;
    bool ever_connected;
    int at; /* loops */
};

struct sim_speed {
    bool up;
    int owner; /* which process this is; every start has another number */
    int generation_known;
    bool assigned[PARTITIONS_MAX];
    struct partition partitions[PARTITIONS_MAX];
    int64_t fetch[PARTITIONS_MAX];    /* next offset to read */
    int64_t walk_end[PARTITIONS_MAX]; /* the archive is read up to here; 0: the log is read */
    struct flush flushes[2];
    bits_t letters[2]; /* dead letters of each flush, as bits of offsets */
    int open;
    bool in_flight;
    bool touch;
    bool draining;
    bool reclaim;
    bool backlog;
    bool notified; /* dovetail_cut */
    uint64_t generation;
    /* the claim that is under way */
    int claim_line;
    bool only_mine;
    int session;
    int at;
    struct claim claims[PARTITIONS_MAX];
    struct sim_flusher flusher;
};

struct sim_cut {
    int64_t archived_end, floor, offset, log_end, log_end_at_us, as_of_us;
    bool chosen, halted;
};

struct sim_batch {
    int line;
    int session;
    int run;
    int at;
    int polls;
    bool again; /* the second load */
    bool waiting;
    bool in_doubt;
    struct sim_cut cuts[PARTITIONS_MAX];
    int base;                       /* the run that was served when this one was planned */
    bool incremental;               /* its rows are reused, */
    bool compares;                  /* or compared */
    int64_t reused[PARTITIONS_MAX]; /* C_B */
    bool covered[PARTITIONS_MAX];   /* the slices between C_B and C are compared */
    struct row computed[GROUPS];
    int computed_count;
};

struct sim_reader {
    int line;
    struct tables tables;
    int64_t commit;
    struct tables receipt;
    int64_t batch_commit;
    struct row const *rows[ROWS_MAX];
    int row_count;
};

struct sim_operator {
    int line;
    int session;
    int run;
    int at;
};

struct world {
    uint64_t seed;
    uint64_t state; /* of the random numbers */
    enum bug bug;
    FILE *trace;
    bool failed;
    char failure[400];
    int step;
    int steps;
    /* what this history is like */
    int partitions, speeds, retained_runs, slowness;
    int lost_rate, crash_rate, retention_rate, rebalance_rate, rollback_rate;
    /* Kafka */
    struct sim_record log[PARTITIONS_MAX][LOG_MAX];
    int64_t low[PARTITIONS_MAX], end[PARTITIONS_MAX];
    int8_t end_at[STEPS_MAX + 1][PARTITIONS_MAX];
    int generation;
    int assigned_to[PARTITIONS_MAX];
    bits_t letters; /* that have arrived */
    int last_owner;
    struct sim_speed speed[SPEEDS_MAX];
    struct sim_batch batch;
    struct sim_reader readers[READERS];
    struct sim_operator rollback, registration;
    /* what was seen, for checks that compare two states */
    int64_t seen[PARTITIONS_MAX];
    int64_t checked;
    int64_t answers, publications, rollbacks;
    struct database db;
};

/* --- chance --- */

uint64_t next_random(struct world *world);
int pick(struct world *world, int bound);
bool chance(struct world *world, int per_thousand);

static inline bits_t bit_of(int partition, int64_t offset)
{
    return (bits_t)1 << (partition * LOG_MAX + (int)offset);
}

static inline int64_t time_us(const struct world *world)
{
    return (int64_t)(world->step + 1) * 1000000;
}

/* --- state machines ---
 *
 * A function with `int *line` goes on behind the AWAIT that it stopped at. Locals do not survive.
 */
#define BEGIN_AT(line)                                                                             \
    switch (*(line)) {                                                                             \
    case 0:
#define AWAIT(line)                                                                                \
    do {                                                                                           \
        *(line) = __LINE__;                                                                        \
        return;                                                                                    \
    case __LINE__:;                                                                                \
    } while (0)
#define END_AT(line)                                                                               \
    }                                                                                              \
    *(line) = 0

/* One statement: others go first, and the connection may be lost there. */
#define SEND(line, world, session, lost)                                                           \
    do {                                                                                           \
        AWAIT(line);                                                                               \
        if (!session_works(world, session))                                                        \
            goto lost;                                                                             \
    } while (0)
/* A row lock: waited for, but not for ever (lock_timeout). */
#define TAKE_LOCK(line, world, session, lock, lost)                                                \
    while (!lock_take(world, session, lock)) {                                                     \
        AWAIT(line);                                                                               \
        if (!session_works(world, session) || chance(world, 20))                                   \
            goto lost;                                                                             \
    }

/* --- records.c --- */

extern struct feeds *sim_feeds;
void records_set_up(void);
void records_tear_down(void);
void records_make(struct world *world, int partition, struct sim_record *out);
/* Reads a stored row from `data` on; `updates`: states alone. The bytes it took. */
size_t row_read(const unsigned char *data, bool update, struct row *out);
void row_join(struct row *stored, const struct row *states);
/* What one fold over the records in [starts, ends) gives, as rows by window and key. The real fold
 * and encoding. */
int records_fold(const struct world *world, const int64_t *starts, const int64_t *ends,
                 struct row *out);
/* The same of rows, merged. */
int rows_merge(const struct row *const *rows, int count, struct row *out);
bool rows_equal(const struct row *left, int left_count, const struct row *right, int right_count);

/* --- world.c --- */

void say(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
void violated(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Runs the history of a seed; false: an invariant was violated, world->failure says which. */
bool history_run(struct world *world, uint64_t seed, enum bug bug, FILE *trace);

/* --- database.c --- */

void database_reset(struct world *world);
int session_open(struct world *world);
bool session_works(struct world *world, int session);
void session_close(struct world *world, int *session); /* by its client */
void session_end(struct world *world, int session);    /* by the server */
/* The client gives the session up and tells the server to end it: postgres_reconnect. */
int session_reopen(struct world *world, int session);
bool session_lives(const struct world *world, int pid);
bool lock_take(struct world *world, int session, int lock);
void transaction_abort(struct world *world, int session);
struct op *transaction_add(struct world *world, int session, enum op_kind kind);
enum commit { COMMIT_DONE, COMMIT_LOST };
/* COMMIT_LOST: the connection is lost; nobody knows whether it took place. */
enum commit transaction_commit(struct world *world, int session);
bool row_is_visible(const struct row *row, int64_t commit);
void server_step(struct world *world);

/* --- the processes --- */

void speed_step(struct world *world, struct sim_speed *speed);
void speed_kill(struct world *world, struct sim_speed *speed);
bool speed_is_claiming(const struct sim_speed *speed);
void flusher_step(struct world *world, struct sim_speed *speed);
void batch_step(struct world *world);
void batch_kill(struct world *world);
void reader_step(struct world *world, struct sim_reader *reader);
void rollback_step(struct world *world);
void registration_step(struct world *world);

/* --- check.c --- */

void check_state(struct world *world, bool went_back);

#endif
