/* Merged queries: batch(offsets < C) + speed(C <= offsets < P) from one snapshot of PostgreSQL.
 *
 * Invariant: run, C, P, batch rows and speed rows of one answer come from one REPEATABLE READ
 * snapshot, so the answer is exact for its receipt whatever is published meanwhile. So do the rows
 * of reference tables that are looked up; the receipt does not cover them, so an answer with
 * lookups may not be kept for a later request. Serving and the command line both answer with this;
 * dovetail.<view> says the same in SQL. */
#ifndef DOVETAIL_QUERY_H
#define DOVETAIL_QUERY_H

#include <stdatomic.h>

#include "core/catalog/catalog.h"
#include "core/groups.h"
#include "core/postgres/postgres.h"

enum query_layer { QUERY_MERGED, QUERY_BATCH, QUERY_SPEED };
enum { QUERY_LAYERS = 2 }; /* that rows come from; [layer - QUERY_BATCH] */

enum query_filter_kind {
    QUERY_IS,     /* equal to the text; the empty one, too */
    QUERY_IN,     /* to one of the texts */
    QUERY_PREFIX, /* begins with the text; strings only */
    QUERY_IS_NULL,
    QUERY_IS_NOT_NULL,
};

struct query_filter {
    const char *key;  /* or a looked-up column, as wherever keys are meant here */
    const char *name; /* what the asker calls the restriction, in refusals; NULL: as the key */
    enum query_filter_kind kind;
    const char *const *texts;
    size_t text_count; /* 1 but for QUERY_IN (any number) and the NULLs (none) */
};

enum query_comparison {
    QUERY_EQUAL,
    QUERY_UNEQUAL,
    QUERY_LESS,
    QUERY_LESS_OR_EQUAL,
    QUERY_GREATER,
    QUERY_GREATER_OR_EQUAL,
    QUERY_NULL,
    QUERY_NOT_NULL,
};

/* Of a finished row. A comparison with NULL is not true, as in SQL. */
struct query_having {
    const char *measure; /* of the view; need not be among those of the answer */
    enum query_comparison comparison;
    const char *text; /* NULL for QUERY_NULL and QUERY_NOT_NULL */
};

struct query_order {
    const char *column; /* window_start, window_end, a key or a measure */
    bool descending;
};

/* Memory for the groups of answers, shared by the queries of any threads that are given it. */
struct query_budget {
    size_t limit_bytes;
    atomic_size_t used_bytes;
};

/* For what else is held in the same bound. False: there is not so much left. */
bool query_budget_take(struct query_budget *budget, size_t bytes) MUST_CHECK;
void query_budget_give_back(struct query_budget *budget, size_t bytes);

/* Texts as a person or an HTTP client gave them; all borrowed; zeroed = no restriction.
 *
 * from and to choose among the view's own windows by their start, at every granularity: a coarser
 * window at the edge holds only those of its windows that were chosen. */
struct query_request {
    const char *from; /* inclusive, on window start: RFC 3339 or a date */
    const char *to;   /* exclusive; not before `from` */
    const struct query_filter *filters;
    size_t filter_count;
    /* What the asker may see at most, whatever else the request says: restrictions that come on top
     * of `filters`, of the same keys or of others, in every layer and at every roll-up. They are
     * not the asker's, so a fault in them is STATUS_FATAL. */
    const struct query_filter *scope;
    size_t scope_count;
    const char *const
        *group_by; /* NULL: every key and looked-up column; count 0 and not NULL: none */
    size_t group_by_count;
    const char
        *granularity;     /* NULL: the view's window; a multiple of it; "all": one row over all */
    const char *timezone; /* NULL: the view's, or UTC; of a granularity in days or longer */
    const char *const *measures; /* NULL: all */
    size_t measure_count;
    const struct query_having *having; /* all of them must hold */
    size_t having_count;
    const struct query_order *order;
    size_t order_count;
    int64_t limit;               /* 0 = row_limit */
    int64_t row_limit;           /* an answer with more rows is refused; 0 = no bound */
    struct query_budget *budget; /* of the groups held; NULL: 512 MiB of its own */
    const char *cursor;          /* answer->next of the page before, of the same question */
    bool explain;
    bool receipt_only; /* where the answer would stand; no rows are read, in one statement */
    enum query_layer layer;
    /* A receipt of before, of this version and layer, with the freshness it would have now; or
     * NULL. Where the database has not moved since, rows alone are read, in one statement. */
    const struct query_receipt *known;
};

struct query_partition {
    const char *topic;
    int32_t partition;
    int64_t cutoff;   /* C */
    int64_t position; /* P, never below C */
};

enum { QUERY_SNAPSHOT_BYTES = 256 };

/* Which snapshot of the database something was read from. Two that are equal saw the same
 * transactions, so all that can be read in one is what can be read in the other, of every view. */
struct query_mark {
    uint64_t sessions;                   /* postgres_session_count() before it was read */
    char server[48];                     /* postgres_server(); empty: equal to none */
    char snapshot[QUERY_SNAPSHOT_BYTES]; /* pg_current_snapshot(); empty: equal to none */
};

/* The receipt of layer "batch" has P = C, and watermark and freshness of the run alone. */
struct query_receipt {
    int64_t run;
    struct query_partition *partitions; /* by partition */
    size_t partition_count;
    int64_t imported;   /* below it the imported records are in the answer; 0 of layer "speed", and
                           where no partition is known */
    bool has_watermark; /* some partition has had an event */
    int64_t watermark_us;   /* the least of the partitions' greatest event times */
    bool has_freshness;     /* it is known of every partition */
    int64_t freshness_ms;   /* every record that was in the log this long ago is in the answer */
    struct query_mark mark; /* where all of this was read */
};

/* explain: the results of one layer's records alone; results NULL where it has none. */
struct query_share {
    struct value *results;
    const char **wide_texts;
};

struct query_row {
    int64_t window_start_us; /* where answer->has_start */
    int64_t window_end_us;   /* where answer->has_end */
    bool provisional;        /* the window ends after the watermark: more may come */
    struct value *keys;      /* answer->key_count */
    struct value *results;   /* answer->measure_count */
    const char *
        *wide_texts; /* for each result: NULL, or the decimal as text (see measure_kind.finish) */
    struct query_share *shares; /* explain: [QUERY_LAYERS]; else NULL */
    const struct group *group;  /* what it was finished from */
};

/* Where an answer's numbers and its time came from. */
struct query_explain {
    bool asked;
    bool has_shares;    /* sessions have none: a session may have panes of both layers */
    size_t groups_held; /* most at any moment */
    int64_t receipt_us; /* from sending all statements to the first one's result */
    int64_t batch_us;   /* receiving and merging */
    int64_t speed_us;
    int64_t rows_us; /* windows, results, order */
};

struct query_answer {
    const struct view *view; /* borrowed from the catalogue, which must outlive the answer */
    int32_t version;         /* of the view */
    size_t *keys; /* indexes into view->keys, in the order of the answer; looked-up columns
             are there behind the keys */
    size_t key_count;
    size_t *measures;
    size_t measure_count;
    bool has_start; /* false with granularity "all" and no `from`, and without windows */
    bool has_end;   /* the same with `to` */
    struct query_row *rows;
    size_t row_count;
    bool is_page;     /* `limit` or `cursor` was asked for */
    bool has_more;    /* rows were left out because of `limit` */
    bool has_moved;   /* run, C or P are not those of the page that the cursor came from */
    const char *next; /* the cursor of the next page; NULL where there is none, or its keys are too
                         long for an address */
    size_t batch_rows_read;
    size_t speed_rows_read;
    struct query_explain explain;
    struct query_receipt receipt;
    bool has_lookups;      /* something in it is from reference tables, or chosen by them */
    struct groups *groups; /* owns the strings of keys and results */
    struct groups *shares[QUERY_LAYERS]; /* explain: of the shares; else NULL */
    struct arena arena;                  /* owns everything else but view */
    struct query_budget *budget;         /* borrowed; NULL: none */
    size_t reserved_bytes;               /* of it, until the answer is destroyed */
};

/* Runs one query, in one network round trip (two, when a statement is new to the connection, or
 * when request->known turns out to be of the past).
 * STATUS_REJECT: a parameter is at fault; the text begins with its name ("granularity: ...").
 * STATUS_FENCED: another version of the view is current now; load the catalogue again.
 * STATUS_RETRY: the view is still being built (sqlstate empty), the budget is in use (54000), or
 * the database is away. The
 * connection must not be inside a transaction. The statements it prepares are kept with the
 * connection, and their number is bounded. */
enum status query_run(struct postgres *postgres, const struct catalog_version *version,
                      const struct query_request *request, struct query_answer **out,
                      struct error *error) MUST_CHECK;
/* The receipt of what the caller's transaction reads, which has one snapshot (REPEATABLE READ); the
 * answer has nothing else. Fails as query_run does, also for the request's texts. */
enum status query_receipt_here(struct postgres *postgres, const struct catalog_version *version,
                               const struct query_request *request, struct query_answer **out,
                               struct error *error) MUST_CHECK;
void query_answer_destroy(struct query_answer *answer);

/* The mark of a snapshot that is taken between call and return: one small statement, which reads no
 * table. Fails as postgres_query does. */
enum status query_mark_read(struct postgres *postgres, struct query_mark *out,
                            struct error *error) MUST_CHECK;
bool query_marks_are_equal(const struct query_mark *a, const struct query_mark *b);

/* Where an answer stands: run, C, P, what is imported, watermark. What depends on the records of an
 * answer alone, and not on lookups, is equal where this is. XXH3's 128 bits of the numbers: no
 * client chooses them, and among 2^40 different ones the chance of any two alike is 2^-49. */
struct query_state {
    uint64_t high;
    uint64_t low;
};
struct query_state query_state_of(const struct query_receipt *receipt);
bool query_states_are_equal(struct query_state a, struct query_state b);

/* A part of a text. */
struct query_span {
    size_t at;
    size_t length;
};

/* The answer as JSON text (the format of GET /v1/views/{view}/rows), as lines of JSON (a row each,
 * the receipt last), CSV, or a table for people. malloc'd, caller frees; NULL when out of memory.
 * *receipt (may be NULL): where query_receipt_json's text is in it. */
char *query_answer_json(const struct query_answer *answer, size_t *length,
                        struct query_span *receipt) MUST_CHECK;
char *query_answer_ndjson(const struct query_answer *answer, size_t *length,
                          struct query_span *receipt) MUST_CHECK;
char *query_answer_csv(const struct query_answer *answer, size_t *length) MUST_CHECK;
char *query_answer_table(const struct query_answer *answer, size_t *length) MUST_CHECK;
/* The rows alone, one behind the other as the JSON has them: what is in `rows` (row_count of them)
 * is filled. A row's first identity_length bytes name it among those of its question: window and
 * keys, without the closing brace. */
struct query_row_text {
    size_t at;
    size_t length;
    size_t identity_length;
};
char *query_rows_json(const struct query_answer *answer, struct query_row_text *rows,
                      size_t *length) MUST_CHECK;
/* The receipt alone, as the JSON has it, on one line. */
char *query_receipt_json(const struct query_receipt *receipt, size_t *length) MUST_CHECK;
/* So for what the JSON has as "page". */
char *query_page_json(const struct query_answer *answer, size_t *length) MUST_CHECK;

#endif
