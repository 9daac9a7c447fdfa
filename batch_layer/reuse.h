/* What of an earlier run's rows a run may take as they are.
 *
 * Invariant: a version's open rows (_run_to open) are reused only where they are the fold of
 * exactly the records that are archived below the cut-offs of the base run now:
 *
 *   1. the base run B is the one that is served, and it wrote the open rows (view_version.rows_run
 *      = B). After a rollback the open rows are of a later run, one that somebody mistrusted, and
 *      nothing is reused until a run has folded everything again. (Going forward to that run again
 *      makes it the served one, and its rows are the open ones still.)
 *   2. the version computed the same then: its canonical text, which has the engine's version and
 *      the rules of its time zone, is the one that those rows were made by.
 *   3. for each partition of the topic, the segments and accepted gaps below B's cut-off have the
 *      fingerprint that B noted, and the new cut-off is not below B's.
 *   4. no run was held since (audit.h): until one is published, each folds everything.
 *
 * Then rows(B) ⊕ fold of [C_B, C) is the fold of everything below C, because states are
 * commutative monoids. Nobody but the holder of the batch lock changes rows, segments or gaps
 * below C_B meanwhile; that nobody has rolled back is checked by the transaction that publishes.
 *
 * Imported records have a ledger, which depends on the source's newest definition and on all
 * versions that read it. Where those are not what they were, or some version is folded in full,
 * the ledger is counted anew, and imported records are folded once more, for nothing else. */
#ifndef DOVETAIL_BATCH_REUSE_H
#define DOVETAIL_BATCH_REUSE_H

#include "batch_layer/cut.h"
#include "batch_layer/segments.h"
#include "core/catalog/catalog.h"
#include "core/postgres/postgres.h"

enum { REUSE_WHY_BYTES = 256 };

enum reuse_kind {
    REUSE_NOTHING, /* folded in full */
    REUSE_COMPARE, /* the same, but the rows should be what is folded below C_B */
    REUSE_ROWS,    /* folded from C_B on */
};

struct reuse_version {
    enum reuse_kind kind;
    char why[REUSE_WHY_BYTES];                /* it is not REUSE_ROWS */
    char rows_of[SEGMENTS_FINGERPRINT_BYTES]; /* of the canonical text */
};

struct reuse {
    int64_t base; /* run; 0: none */
    struct reuse_version *versions;
    size_t version_count;
    size_t cut_count;
    bool *covered; /* [version * cut_count + cut]: the speed rows have exactly [C_B, C) */
    bool *recount; /* [cut]: of imported records, the ledger is counted from the base on */
};

/* Fills cuts[].reused_offset, fingerprint and ledger_of; and watermark and ledger with what B had
 * where the run goes on from there. `full`: why nothing shall be reused, or NULL. */
enum status reuse_plan(struct postgres *postgres, const struct catalog *catalog,
                       const struct segments *segments, struct cut *cuts, size_t cut_count,
                       const char *full, struct reuse **out, struct error *error) MUST_CHECK;
void reuse_destroy(struct reuse *reuse); /* accepts NULL */

/* Some version's rows are reused. */
bool reuse_is_incremental(const struct reuse *reuse);
/* Why not everything is, for people; "" where everything is. */
void reuse_why(const struct reuse *reuse, const struct catalog *catalog, char *out, size_t size);

#endif
