/* Recompute: folds the archive below C into the states of every view version, on several threads.
 *
 * Invariant: for every version the parts of the result merge to exactly the fold of the records in
 * [start, C) of its topic's partitions, where start is the base of a version that is folded in
 * full, and the base run's cut-off of one whose rows are reused (reuse.h). The manifest is checked
 * to cover that range without a gap, and the records read from each segment are counted against
 * it; anything else is STATUS_FATAL.
 *
 * A version's states are in parts first, so that each can be compared with what somebody else says
 * of the same records (audit.h); recompute_join makes them one. Each part is split over
 * `table_count` tables by shards: a group belongs to the table recompute_table names. (Merging so
 * runs on all threads without a lock.) */
#ifndef DOVETAIL_BATCH_RECOMPUTE_H
#define DOVETAIL_BATCH_RECOMPUTE_H

#include "batch_layer/cut.h"
#include "batch_layer/reuse.h"
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
    RECOMPUTE_PARTS
};

struct recompute {
    const struct catalog *catalog; /* borrowed */
    size_t table_count;
    struct groups ***tables;     /* [version * RECOMPUTE_PARTS + part][table]; NULL: empty */
    enum recompute_part *joined; /* [version]: the part that has it all after recompute_join */
    struct recompute_counts counts;
};

/* Fills cuts[].watermark_us and ledger too. STATUS_RETRY "stopped" when the program is stopping.
 * `reuse` NULL: everything in full, as RECOMPUTE_REST. */
enum status recompute_run(const struct config *config, const struct catalog *catalog,
                          const struct segments *segments, struct cut *cuts, size_t cut_count,
                          const struct reuse *reuse, struct recompute **out,
                          struct error *error) MUST_CHECK;
void recompute_destroy(struct recompute *recompute); /* accepts NULL */

/* Merges the parts of version `index`; until then the functions below know RECOMPUTE_REST only. */
enum status recompute_join(struct recompute *recompute, size_t index,
                           struct error *error) MUST_CHECK;

/* The table that a group of these bytes belongs to. */
size_t recompute_table(const struct recompute *recompute, int64_t window_start_us,
                       const unsigned char *key, size_t key_length);

/* Every group of version `index`: begin with *table = *cursor = 0. */
struct group *recompute_next(const struct recompute *recompute, size_t index, size_t *table,
                             size_t *cursor);
/* NULL: there is none. */
struct group *recompute_find(const struct recompute *recompute, size_t index,
                             int64_t window_start_us, const unsigned char *key, size_t key_length);
/* The groups that hold one of recompute_find. */
struct groups *recompute_groups(const struct recompute *recompute, size_t index,
                                const struct group *group);

/* The same for one part. */
struct group *recompute_part_next(const struct recompute *recompute, size_t index,
                                  enum recompute_part part, size_t *table, size_t *cursor);
struct group *recompute_part_find(const struct recompute *recompute, size_t index,
                                  enum recompute_part part, int64_t window_start_us,
                                  const unsigned char *key, size_t key_length);

#endif
