/* Merged queries: batch(offsets < C) + speed(C <= offsets < P) from one snapshot of PostgreSQL.
 *
 * Invariant: run, C, P, batch rows and speed rows of one answer come from one REPEATABLE READ
 * snapshot, so the answer is exact for its receipt whatever is published meanwhile. Serving and the
 * command line both answer with this; dovetail.<view> says the same in SQL. */
#ifndef DOVETAIL_QUERY_H
#define DOVETAIL_QUERY_H

#include "core/catalog.h"
#include "core/groups.h"
#include "core/postgres.h"

enum query_layer { QUERY_MERGED, QUERY_BATCH, QUERY_SPEED };

struct query_filter {
    const char *key;
    const char *text; /* NULL: the key is NULL */
};

struct query_order {
    const char *column; /* window_start, window_end, a key or a measure */
    bool descending;
};

/* Texts as a person or an HTTP client gave them; all borrowed; zeroed = no restriction. */
struct query_request {
    const char *from; /* inclusive, on window start: RFC 3339 or a date */
    const char *to;   /* exclusive */
    const struct query_filter *filters;
    size_t filter_count;
    const char *const *group_by; /* NULL: every key of the view; count 0 with non-NULL: none */
    size_t group_by_count;
    const char *granularity; /* NULL: the view's window; "all": one row over all windows */
    const char *const *measures; /* NULL: all */
    size_t measure_count;
    const struct query_order *order;
    size_t order_count;
    int64_t limit; /* 0 = row_limit */
    int64_t row_limit; /* an answer with more rows is refused, unless limit cuts it */
    enum query_layer layer;
};

struct query_partition {
    const char *topic;
    int32_t partition;
    int64_t cutoff;   /* C */
    int64_t position; /* P, never below C */
};

struct query_receipt {
    int64_t run;
    struct query_partition *partitions; /* by partition */
    size_t partition_count;
    bool has_watermark;
    int64_t watermark_us;
    bool has_freshness;
    int64_t freshness_ms;
};

struct query_row {
    int64_t window_start_us; /* without meaning when window_is_all */
    int64_t window_end_us;
    bool provisional;
    struct value *keys;     /* answer->key_count */
    struct value *results;  /* answer->measure_count */
    const char **wide_texts;/* for each result: NULL, or the decimal as text (see measure_kind.finish) */
};

struct query_answer {
    const struct view *view;
    size_t *keys; /* indexes into view->keys, in the order of the answer */
    size_t key_count;
    size_t *measures;
    size_t measure_count;
    bool window_is_all;
    struct query_row *rows;
    size_t row_count;
    size_t batch_rows_read;
    size_t speed_rows_read;
    struct query_receipt receipt;
    struct arena arena; /* owns everything above but view */
};

/* Runs one query. STATUS_REJECT: a parameter is at fault; the text begins with its name ("granularity:
 * ..."). STATUS_RETRY: the view is still being built, or the database is away (sqlstate set then). */
enum status query_run(struct postgres *postgres, const struct catalog_version *version,
                      const struct query_request *request, struct query_answer **out,
                      struct error *error) MUST_CHECK;
void query_answer_destroy(struct query_answer *answer);

/* The answer as JSON text (the format of GET /v1/views/{view}/rows), CSV, or a table for people.
 * malloc'd, caller frees; NULL when out of memory. */
char *query_answer_json(const struct query_answer *answer, size_t *length) MUST_CHECK;
char *query_answer_csv(const struct query_answer *answer, size_t *length) MUST_CHECK;
char *query_answer_table(const struct query_answer *answer, size_t *length) MUST_CHECK;

#endif
