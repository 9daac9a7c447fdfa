/* The archive's segments that a run reads, and what they were when an earlier run read them.
 *
 * Invariant: the segments below a cut-off that have the same fingerprint hold the same records:
 * it is over the place and checksum of each, in order, and over the accepted gaps. */
#ifndef DOVETAIL_BATCH_SEGMENTS_H
#define DOVETAIL_BATCH_SEGMENTS_H

#include "batch_layer/cut.h"
#include "core/archive/archive.h"
#include "core/archive/gap.h"
#include "core/catalog/catalog.h"

enum { SEGMENTS_FINGERPRINT_BYTES = 33 };

/* The segments of all topics; archive_segments_free. */
struct segments {
    struct archive_segment *items;
    size_t count;
};

/* Some version reads the topic. */
bool segments_are_read(const struct catalog *catalog, const char *topic);

/* The segments that hold records below the cut-offs; checks that they cover [base, C). */
enum status segments_list(struct postgres *postgres, const struct catalog *catalog,
                          const struct cut *cuts, size_t cut_count, struct segments *out,
                          struct error *error) MUST_CHECK;

/* Of the cut's partition below the offset `below`, as hexadecimal digits: XXH3-128. `gaps` are the
 * topic's. */
enum status segments_fingerprint(const struct segments *segments, const struct gap *gaps,
                                 size_t gap_count, const struct cut *cut, int64_t below,
                                 char out[SEGMENTS_FINGERPRINT_BYTES],
                                 struct error *error) MUST_CHECK;

#endif
