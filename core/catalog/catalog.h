/* The catalogue: what `dovetail init` registered in PostgreSQL, and the tables of each view
 * version.
 *
 * The layers work from the registered definitions, not from the files, so that every process folds
 * exactly the same versions from the same offset on. Invariant: a version is registered in one
 * transaction with its tables, its coverage (P at that moment) and owner_epoch + 1 on every
 * partition of its topic; so whoever moves P afterwards has read a catalogue that has the version.
 *
 * A struct catalog is immutable once loaded and may be read from any thread. */
#ifndef DOVETAIL_CATALOG_H
#define DOVETAIL_CATALOG_H

#include "core/program/config.h"
#include "core/definitions/definition.h"
#include "core/postgres/postgres.h"
#include "core/records/recent_ids.h"

enum catalog_state { CATALOG_BUILDING, CATALOG_CURRENT };

struct catalog_version {
    int version;
    enum catalog_state state;
    struct source *source; /* owned: as it was when this version was registered */
    struct view *view;     /* owned; the lookups of a current version are bound */
    char *lookups;         /* owned: what they are bound to, NULL without any; catalog_lookup.h */
    bool readable;         /* current, and the current run's cut-offs have reached its coverage */
};

/* A registered definition that this program does not accept, because another release registered it:
 * a version that is building or current, or the newest definition of a source, and then each of
 * its versions. Or a version that this program would compute otherwise (ENGINE_VERSION, rules of
 * time zones), so that it must not touch its states. P and C are of a whole topic, so nobody who
 * cannot fold one of its versions may move them: catalog_holds_topic. */
struct catalog_refusal {
    char *topic;
    char *source;
    char *view;  /* NULL: the source's newest definition */
    int version; /* 0 then */
    enum catalog_state state;
    bool by_engine; /* the definition is accepted, and would be computed otherwise */
    char *reason;
};

struct catalog {
    char deployment_id[40];
    unsigned char id_secret[RECENT_IDS_SECRET_BYTES]; /* keys the hashes of ids */
    struct source **sources;                          /* newest definitions, by name; owned */
    size_t source_count;
    struct catalog_version *versions; /* building and current ones, by view name, version */
    size_t version_count;
    struct catalog_refusal *refusals; /* what is missing from both; owned */
    size_t refusal_count;
    struct catalog_refusal *replaced; /* what catalog_leave_replaced took out of these; owned */
    size_t replaced_count;
};

/* Reads it in the caller's transaction, if there is one. STATUS_REJECT "run `dovetail init`" where
 * the tables are missing or of another schema version. */
enum status catalog_load(struct postgres *postgres, struct catalog **out,
                         struct error *error) MUST_CHECK;
void catalog_destroy(struct catalog *catalog);

const struct source *catalog_source(const struct catalog *catalog, const char *name);
const struct catalog_version *catalog_current(const struct catalog *catalog, const char *view);

/* Why a view cannot be asked: its current version is refused, or the only one. NULL: it is not. */
const struct catalog_refusal *catalog_refused_view(const struct catalog *catalog, const char *view);
/* The first refusal of a topic: who moves its P or C waits. NULL: there is none. */
const struct catalog_refusal *catalog_holds_topic(const struct catalog *catalog, const char *topic);
/* "view sums, version 3, of topic orders is refused: …", without an end to the sentence. */
void catalog_refusal_describe(const struct catalog_refusal *refusal, char *out, size_t size);
/* True where there are refusals, and each is of a version that a batch run of ours replaces. */
bool catalog_waits_for_run(const struct catalog *catalog);
/* For such a run: these versions do not hold their topics. */
enum status catalog_leave_replaced(struct catalog *catalog, struct error *error) MUST_CHECK;
/* In the transaction that publishes, behind catalog_promote: they are retired, for the run has no
 * rows of them. STATUS_FATAL otherwise. */
enum status catalog_check_replaced(struct postgres *postgres, const struct catalog *catalog,
                                   struct error *error) MUST_CHECK;
/* Takes the versions of held topics out, for a process that must not fold part of them. */
void catalog_leave_held(struct catalog *catalog);
/* An array of {"view", "version", "source", "topic", "state", "reason"}, for status pages; NULL:
 * out of memory. The caller frees it. */
char *catalog_refusals_json(const struct catalog *catalog) MUST_CHECK;

/* Creates or migrates Dovetail's own tables from `schemas_directory`/sql, each file once. The files
 * are compiled into the program (core/catalog/migrations), so an installation needs no path. */
enum status catalog_migrate(struct postgres *postgres, bool *changed,
                            struct error *error) MUST_CHECK;

enum catalog_change { CATALOG_UNCHANGED, CATALOG_ADDED, CATALOG_CHANGED };

/* First in a transaction that registers, or that makes position rows: these exclude each other, so
 * that a version has its coverage for every partition, and a new partition every version. They wait
 * here, before they hold anything that a flush needs, while a run is published. Readers do not. */
enum status catalog_lock(struct postgres *postgres, struct error *error) MUST_CHECK;

/* Registers a source or view in the caller's transaction. Where the source has a mask its key is
 * read, and must be the one that was registered first. */
enum status catalog_register_source(struct postgres *postgres, struct source *source,
                                    enum catalog_change *change, struct error *error) MUST_CHECK;
/* Changed lookups of a view take effect with the commit, without a new version. STATUS_REJECT for
 * lookups of what is not there. */
enum status catalog_register_view(struct postgres *postgres, const struct view *view,
                                  enum catalog_change *change, struct error *error) MUST_CHECK;

/* Makes missing position rows of a topic's partitions, with `base_offsets` (one for each). */
enum status catalog_add_partitions(struct postgres *postgres, const char *topic,
                                   const int64_t *base_offsets, int count,
                                   struct error *error) MUST_CHECK;

/* In the transaction that publishes `run`: says that the run folded this version, so that its batch
 * rows are complete for the run's cut-offs. A version is readable only from such a run on. For
 * every version that was folded, building or current, before catalog_promote. */
enum status catalog_mark_built(struct postgres *postgres, int version, int64_t run,
                               struct error *error) MUST_CHECK;

/* In the caller's transaction: makes every building version current whose coverage the current run
 * has reached, retires the one it replaces and (re)creates the SQL view dovetail.<view>. A version
 * whose lookups cannot be bound, or whose SQL view somebody reads for long, goes on building, and a
 * warning is logged. */
enum status catalog_promote(struct postgres *postgres, struct error *error) MUST_CHECK;

/* Removes a view, in the caller's transaction, which has catalog_lock: its versions are retired and
 * dovetail.<view> is dropped. STATUS_REJECT where there is no such view; STATUS_FATAL names the
 * objects that depend on it. */
enum status catalog_drop_view(struct postgres *postgres, const char *view,
                              struct error *error) MUST_CHECK;

/* Registers the definition that a version had as the view's newest, in the caller's transaction,
 * which has catalog_lock: it is built beside the one that is served, and replaces it, as every
 * changed definition. STATUS_REJECT where there is no such version, or the source has changed since
 * in what it computes. */
enum status catalog_switch_version(struct postgres *postgres, const char *view, int version,
                                   enum catalog_change *change, struct error *error) MUST_CHECK;

/* Drops what retired versions leave behind: their tables, as soon as no snapshot is older than the
 * retirement; their definitions, where `retained` later ones of the view that were current are
 * retired, too. Transactions of its own; the batch layer calls it, after a run. */
enum status catalog_drop_retired(struct postgres *postgres, int64_t retained,
                                 struct error *error) MUST_CHECK;

/* Names and SQL of a version's tables. Buffers are CATALOG_NAME_BYTES. */
enum { CATALOG_NAME_BYTES = 64 };
void catalog_speed_table(int version, char *out); /* dovetail_internal.speed_<version> */
void catalog_batch_table(int version, char *out); /* dovetail_internal.batch_<version> */

/* The columns of a row of states, quoted and comma-separated: "window_start", the keys, the
 * measures' columns. `prefix` ("s." or "") goes before each name; "l<number>." before a looked-up
 * column, which core/query/query has among the keys. Caller frees. */
char *catalog_state_columns(const struct view *view, const char *prefix) MUST_CHECK;

#endif
