/* Recompute: folds the archive below C into the states of every view version, on several threads.
 *
 * Invariant: for every version the result is exactly the fold of the records in [base, C) of its
 * topic's partitions. The manifest is checked to cover that range without a gap, and the records
 * read from each segment are counted against it; anything else is STATUS_FATAL.
 *
 * The result of a version is split over `table_count` tables by shards: a group belongs to the
 * table recompute_table names. (Merging so runs on all threads without a lock.) */
#ifndef DOVETAIL_BATCH_RECOMPUTE_H
#define DOVETAIL_BATCH_RECOMPUTE_H

#include "batch_layer/cut.h"
#include "core/archive/archive.h"
#include "core/catalog/catalog.h"
#include "core/program/config.h"
#include "core/groups.h"

/* The segments of all topics; archive_segments_free. */
struct recompute_segments {
    struct archive_segment *items;
    size_t count;
};

struct recompute_counts {
    int64_t read;      /* records below C, over all topics */
    int64_t raw_bytes; /* of their values */
    int64_t dead;      /* of them: no event of their source, counted once for each definition */
    int64_t counted;   /* over all versions */
    int64_t filtered;
    int64_t rejected;   /* by a version's expressions */
    int64_t duplicates; /* counted once for each definition */
};

struct recompute {
    const struct catalog *catalog; /* borrowed */
    size_t table_count;
    struct groups ***tables; /* [version index][table] */
    struct recompute_counts counts;
};

/* The segments that hold records below the cut-offs; checks that they cover [base, C). */
enum status recompute_list_segments(struct postgres *postgres, const struct catalog *catalog,
                                    const struct cut *cuts, size_t cut_count,
                                    struct recompute_segments *out, struct error *error) MUST_CHECK;

/* Fills cuts[].watermark_us too. STATUS_RETRY "stopped" when the program is stopping. */
enum status recompute_run(const struct config *config, const struct catalog *catalog,
                          const struct recompute_segments *segments, struct cut *cuts,
                          size_t cut_count, struct recompute **out, struct error *error) MUST_CHECK;
void recompute_destroy(struct recompute *recompute); /* accepts NULL */

/* The table that a group of these bytes belongs to. */
size_t recompute_table(const struct recompute *recompute, int64_t window_start_us,
                       const unsigned char *key, size_t key_length);

/* Every group of version `index`: begin with *table = *cursor = 0. */
struct group *recompute_next(const struct recompute *recompute, size_t index, size_t *table,
                             size_t *cursor);
/* NULL: there is none. */
struct group *recompute_find(const struct recompute *recompute, size_t index,
                             int64_t window_start_us, const unsigned char *key, size_t key_length);

#endif
