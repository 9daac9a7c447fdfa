/* Choosing C, the cut-offs of a run: docs/ARCHITECTURE.md, "Cut".
 *
 * Invariant (Boundary): every offset chosen is the start of a slice, or the base, or lies at or
 * above P and is in planned_cut. So no slice of the speed layer will ever straddle it. */
#ifndef DOVETAIL_BATCH_CUT_H
#define DOVETAIL_BATCH_CUT_H

#include <stdint.h>

#include "core/program/config.h"
#include "core/postgres/postgres.h"

/* What became of the imported records: core/archive/archive.h, ARCHIVE_IMPORTED. */
struct cut_ledger {
    int64_t consumed;
    int64_t counted;
    int64_t filtered;
    int64_t duplicate;
    int64_t dead_lettered;
};

/* One partition's cut-off. */
struct cut {
    const char *topic; /* borrowed */
    int32_t partition;
    int64_t base_offset;
    int64_t archived_end; /* H */
    int64_t floor;        /* the current run's cut-off: an answer must not lose records again */
    int64_t offset;       /* C, once it is chosen */
    bool chosen;
    bool planned;             /* it was chosen without the owner */
    int64_t reused_offset;    /* C of the run whose rows are reused or compared; reuse.h */
    char fingerprint[33];     /* of the segments below C */
    char ledger_of[33];       /* of what the ledger depends on */
    struct cut_ledger ledger; /* of partition ARCHIVE_IMPORTED; filled by the recompute */
    bool has_as_of;
    int64_t as_of_us; /* C includes every record that was in the log then */
    bool has_watermark;
    int64_t watermark_us; /* greatest event time below C; filled by the recompute */
};

/* Asks the live owners to close their slices, waits for them (max(2 s, 20 flush intervals)), and
 * plans the cuts of partitions without one. Outside every transaction. C may lie above H where the
 * owner is ahead of the archive. STATUS_RETRY "stopped" when the program is stopping. */
enum status cut_choose(struct postgres *postgres, const struct config *config, struct cut *cuts,
                       size_t count, struct error *error) MUST_CHECK;

struct cut *cut_find(struct cut *cuts, size_t count, const char *topic, int32_t partition);

#endif
