/* A flush: what one transaction writes, and writing it.
 *
 * The main thread fills a flush and hands it to the flusher, which writes it as often as needed:
 * all values are absolute but the ledgers' deltas, and the fence lets the whole take effect only
 * once. It belongs to one thread at a time.
 *
 *   partitions   how each partition moves: expected P and epoch (the fence), new P, ledger deltas
 *   versions     rows of states, encoded: new groups for COPY, stored ones for UPDATE
 *   ledgers      what each view version did
 *   letters      dead letters that must have arrived before */
#ifndef DOVETAIL_SPEED_FLUSH_H
#define DOVETAIL_SPEED_FLUSH_H

#include "core/catalog/catalog.h"
#include "core/groups.h"
#include "speed_layer/dead_letter.h"

struct flush_partition {
    const char *topic; /* borrowed from the catalogue */
    int32_t partition;
    int64_t epoch;           /* the fence: owner_epoch ... */
    int64_t expected_offset; /* ... and next_offset before */
    int64_t next_offset;     /* P afterwards */
    int64_t slice_start;
    bool cut_answered; /* slice_start answers the cut that was asked for */
    bool has_watermark;
    int64_t watermark_us;
    bool has_as_of;
    int64_t as_of_us; /* monotonic clock */
    int64_t consumed; /* since the flush before */
    int64_t counted;
    int64_t filtered;
    int64_t duplicate;
    int64_t dead_lettered;
    int64_t last_offset; /* of the last record that was folded; -1 = none */
    int64_t last_timestamp_ms;

    bool cut_requested; /* result: a batch run asks for a new slice */
};

struct flush_ledger {
    int version;
    const char *topic;
    int32_t partition;
    int64_t counted;
    int64_t filtered;
    int64_t rejected;
};

/* The rows of one view version. */
struct flush_version {
    const struct catalog_version *version;
    char *copy_sql;  /* new groups into speed_<version> */
    char *stage_sql; /* CREATE TEMP TABLE stage_<version> */
    char *stage_copy_sql;
    char *update_sql; /* stored groups from the staging table */
    struct pgbinary_writer inserts;
    struct pgbinary_writer updates;
    size_t insert_count;
    size_t update_count;
};

struct flush {
    struct flush_version *versions; /* as in the catalogue */
    size_t version_count;
    struct flush_partition *partitions;
    size_t partition_count;
    size_t partition_capacity;
    struct flush_ledger *ledgers;
    size_t ledger_count;
    size_t ledger_capacity;
    struct dead_letters letters;
    int64_t dead[DEAD_LETTER_KINDS]; /* of these, by kind */
    int64_t slices;                  /* that it closes */
    struct group **scratch;          /* of flush_add_groups */
    size_t scratch_capacity;
    uint64_t generation;  /* the main thread's: outcomes of another one are ignored */
    bool commit_in_doubt; /* the connection was lost during COMMIT */
    enum status status;   /* the outcome, with `error` */
    struct error error;
};

/* Makes an empty flush for a catalogue, which must outlive it. A zeroed flush is ready for this. */
enum status flush_prepare(struct flush *flush, const struct catalog *catalog,
                          struct error *error) MUST_CHECK;
void flush_clear(struct flush *flush); /* forgets the content, keeps the memory */
void flush_deinit(struct flush *flush);

bool flush_is_empty(const struct flush *flush);
/* Memory of what was collected so far. */
size_t flush_bytes(const struct flush *flush);

/* Encodes the groups that changed since the last time, as rows of the slice that begins at
 * `slice_start`, and marks them unchanged and stored. `closing`: the groups will not be added
 * again, so new ones go without an address. `version` indexes the catalogue's. */
enum status flush_add_groups(struct flush *flush, size_t version, int32_t partition,
                             int64_t slice_start, struct groups *groups, bool closing,
                             struct error *error) MUST_CHECK;
enum status flush_add_partition(struct flush *flush, const struct flush_partition *partition,
                                struct error *error) MUST_CHECK;
enum status flush_add_ledger(struct flush *flush, const struct flush_ledger *ledger,
                             struct error *error) MUST_CHECK;

/* The staging tables that exist on a connection. Zero it for a new connection. */
struct flush_staging {
    int *versions;
    size_t count;
};

/* Asks whether the fence still holds, without a lock: STATUS_FENCED where it does not. For dead
 * letters, which no transaction takes back: nobody sends any by a definition after another was
 * registered. */
enum status flush_check_fence(struct flush *flush, struct postgres *postgres,
                              struct error *error) MUST_CHECK;

/* Writes the flush in one transaction. STATUS_FENCED: a partition is no longer ours, or the
 * catalogue changed; nothing was written. STATUS_RETRY: try again, after flush_resolve_doubt where
 * flush->commit_in_doubt. The transaction is left open on failure; a ROLLBACK is the caller's. */
enum status flush_write(struct flush *flush, struct postgres *postgres,
                        struct flush_staging *staging, struct error *error) MUST_CHECK;

/* After a COMMIT whose answer was lost: *written tells whether it took place. */
enum status flush_resolve_doubt(struct flush *flush, struct postgres *postgres, bool *written,
                                struct error *error) MUST_CHECK;

#endif
