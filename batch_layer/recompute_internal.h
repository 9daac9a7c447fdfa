/* What the files of the recompute share: recompute_plan.c says who reads what, recompute_fold.c
 * folds, recompute_merge.c brings the threads' groups together, recompute.c runs the threads.
 *
 * A job is set up by the main thread before the workers start, and only its atomics change after
 * that. What belongs to a worker is its thread's, but for its groups and lists between the steps
 * (recompute_merge.c). */
#ifndef DOVETAIL_BATCH_RECOMPUTE_INTERNAL_H
#define DOVETAIL_BATCH_RECOMPUTE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "batch_layer/recompute.h"
#include "batch_layer/row_stream.h"
#include "core/records/event_parser.h"
#include "core/records/mask.h"
#include "core/records/recent_ids.h"

/* Versions that read the same events. */
struct reading {
    const struct source *source;
    size_t *versions; /* indexes into the catalogue's */
    size_t version_count;
    bool newest;        /* the source's own definition, which decides what a record is */
    bool imported_only; /* no version has it: it is for the ledger of imported records */
    int64_t *starts;    /* [cut]: below, a record is read for its id alone */
};

/* Where the records of one partition go for one version. */
struct route {
    int64_t from; /* C_B */
    bool skips;   /* below, nothing is folded, or for the ledger only */
    enum recompute_part below;
    enum recompute_part above;
};

/* Segments of one partition that one thread folds, one after the other. */
struct stretch {
    const struct archive_segment **segments; /* into the job's list */
    size_t count;
    size_t before; /* segments of the partition below, which are at segments[-1], [-2], ... */
    int64_t raw_bytes;
    double place; /* of its middle in what is folded of the partition, 0 to 1 */
};

/* Stretches that one thread has before it: [next, end) of the job's. */
struct queue {
    size_t next;
    size_t end;
};

struct group_list {
    struct group **items;
    size_t count;
    size_t capacity;
};

struct worker;

struct job {
    const struct config *config;
    const struct catalog *catalog;
    const struct segments *segments;
    const struct reuse *reuse; /* NULL: everything in full */
    struct spill *spill;
    bool merged; /* the threads' groups are, by shard */
    struct cut *cuts;
    size_t cut_count;
    struct route *routes; /* [version * cut_count + cut] */
    struct reading *readings;
    size_t reading_count;
    struct worker *workers;
    size_t worker_count;
    const struct archive_segment **order; /* all segments by partition and offset */
    struct stretch *stretches;            /* by place */
    size_t stretch_count;
    size_t wanted_segments; /* in stretches */
    int64_t wanted_records; /* in them */
    struct queue *queues;   /* one for each worker */
    atomic_bool failed;     /* some worker has; the others stop soon */
    atomic_llong folded;    /* records, for the progress bar */
    pthread_mutex_t lock;   /* guards `running` and `queues` */
    pthread_cond_t ended;
    size_t running;
};

struct worker {
    struct job *job;
    size_t index;
    enum status (*step)(struct worker *worker, struct error *error);
    pthread_t thread;
    struct event_parser **parsers; /* one for each reading */
    struct mask **masks;           /* one for each reading whose source has a mask */
    struct recent_ids **ids;       /* one for each reading that compares ids, in a stretch */
    struct groups **groups;        /* [version * RECOMPUTE_PARTS + part]; NULL: none yet */
    struct groups **scratch;       /* [version]: what is folded for the ledger only; NULL: none */
    size_t *slot_bytes;            /* of these groups: recompute_spill.c */
    size_t memory_bytes;           /* all of them */
    size_t share_bytes;            /* bound of that */
    struct spill_file *file;       /* NULL: nothing was spilled */
    struct recompute_source *sources; /* for each slot of `groups`: runs, and these sorted */
    struct group_list *lists;         /* [(version * RECOMPUTE_PARTS + part) * workers + table] */
    int64_t *watermarks;              /* one for each cut */
    struct cut_ledger *ledgers;       /* one for each cut; of imported records */
    struct recompute_counts counts;
    enum status status;
    struct error error;
};

/* recompute_plan.c: readings, routes and stretches of the job. */
enum status recompute_plan(struct job *job, struct error *error) MUST_CHECK;
void recompute_plan_deinit(struct job *job);
/* How far back the definitions of a topic compare ids; 0: none does. */
int64_t recompute_reach(const struct job *job, const char *topic);
/* Once the workers are known: what a thread takes at a time. */
enum status recompute_divide(struct job *job, struct error *error) MUST_CHECK;
/* The next stretch for a worker to fold; NULL: none is left. */
const struct stretch *recompute_take(struct job *job, size_t worker);

/* Steps of the workers. */
enum status recompute_step_fold(struct worker *worker, struct error *error) MUST_CHECK;
enum status recompute_step_split(struct worker *worker, struct error *error) MUST_CHECK;
enum status recompute_step_merge(struct worker *worker, struct error *error) MUST_CHECK;
enum status recompute_step_spill(struct worker *worker, struct error *error) MUST_CHECK;
enum status recompute_step_sort(struct worker *worker, struct error *error) MUST_CHECK;

/* recompute_spill.c: after a record was folded into worker->groups[slot], which may be NULL then.
 */
enum status recompute_note_growth(struct worker *worker, size_t slot,
                                  struct error *error) MUST_CHECK;

/* recompute_merge.c */
/* Whether another thread's table of the slot has groups of this pane, too. The answer is the same
 * before and after `merge`. */
bool recompute_shares_pane(const struct worker *worker, size_t slot, int64_t start_us);
/* The table that a group of a shared pane belongs to, by its hash. */
size_t recompute_shard(size_t table_count, uint64_t hash);

#endif
