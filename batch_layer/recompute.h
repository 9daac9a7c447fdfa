/* Recompute: folds the archive below C into the states of every view version, on several threads.
 *
 * Invariant: for every version the parts of the result merge to exactly the fold of the records in
 * [start, C) of its topic's partitions, where start is the base of a version that is folded in
 * full, and the base run's cut-off of one whose rows are reused (reuse.h). The manifest is checked
 * to cover that range without a gap, and the records read from each segment are counted against
 * it; anything else is STATUS_FATAL.
 *
 * A version's states are in parts first, so that each can be compared with what somebody else says
 * of the same records (audit.h). Each part is what every thread has of it, in memory or on disk
 * (recompute_spill.c); reading a part, or all of them, merges that group by group. */
#ifndef DOVETAIL_BATCH_RECOMPUTE_H
#define DOVETAIL_BATCH_RECOMPUTE_H

#include "batch_layer/cut.h"
#include "batch_layer/reuse.h"
#include "batch_layer/row_stream.h"
#include "batch_layer/segments.h"
#include "core/archive/archive.h"
#include "core/catalog/catalog.h"
#include "core/groups.h"
#include "core/program/config.h"

struct recompute_counts {
    int64_t read;      /* records that were folded, over all topics */
    int64_t raw_bytes; /* of their values */
    int64_t dead;      /* of them: no event of their source, counted once for each definition */
    int64_t counted;   /* over all versions */
    int64_t filtered;
    int64_t rejected;   /* by a version's expressions */
    int64_t duplicates; /* counted once for each definition */
};

enum recompute_part {
    RECOMPUTE_OLD,   /* below the base run's cut-offs, to be compared with its rows */
    RECOMPUTE_SPEED, /* from there on, where the speed layer has rows of the same records */
    RECOMPUTE_REST,  /* everything else */
    RECOMPUTE_PARTS  /* also: all of them, merged */
};

/* What one thread has of one part of a version. */
struct recompute_source {
    struct groups *groups; /* NULL: none in memory */
    struct row_entry *sorted;
    size_t count;
    struct row_runs runs;
};

struct recompute {
    const struct catalog *catalog; /* borrowed */
    struct spill *spill;           /* borrowed */
    size_t worker_count;
    struct recompute_source *sources; /* [(version * RECOMPUTE_PARTS + part) * worker_count + w] */
    struct spill_file **files;        /* [worker]; NULL: nothing was spilled */
    struct recompute_counts counts;
};

/* Fills cuts[].watermark_us and ledger too. STATUS_RETRY "stopped" when the program is stopping.
 * `reuse` NULL: everything in full, as RECOMPUTE_REST. */
enum status recompute_run(const struct config *config, const struct catalog *catalog,
                          const struct segments *segments, struct cut *cuts, size_t cut_count,
                          const struct reuse *reuse, struct spill *spill, struct recompute **out,
                          struct error *error) MUST_CHECK;
void recompute_destroy(struct recompute *recompute); /* accepts NULL */

/* The rows of version `index`, sorted: one for each group of a part, or of all parts together. Any
 * number of times, also at a time; the memory of one stream is a part of batch.memory. */
enum status recompute_rows(const struct recompute *recompute, size_t index,
                           enum recompute_part part, struct row_stream **out,
                           struct error *error) MUST_CHECK;
bool recompute_is_empty(const struct recompute *recompute, size_t index);

#endif
