/* What the files of core/query/ share while one query runs; used by nobody else.
 *
 * A query goes through them in this order:
 *
 *     query_parse      texts of a person or a client       -> struct query_request
 *     query_plan       names, windows, order, having       -> struct query_plan
 *     query_filter     keys and ranges                     -> conditions and their parameters
 *     query_sql        plan and conditions                 -> statements
 *     query_snapshot   to PostgreSQL and back (query_statements: prepared ones; query_mark: which
 *                      snapshot that was)
 *     query_receipt    run, C, P, watermark, freshness
 *     query_merge      rows of states                      -> groups, bounded
 *     query_rows       groups                              -> rows: results, having, limit
 *     query_order      which row comes first
 *     query_cursor     where a page ends and the next begins
 *     query_json, query_csv, query_table                   -> texts (query_text: their buffer) */
#ifndef DOVETAIL_QUERY_INTERNAL_H
#define DOVETAIL_QUERY_INTERNAL_H

#include "core/query/query.h"
#include "core/query/query_plan.h"
#include "core/query/query_statements.h"

enum query_step {
    QUERY_STEP_BEGIN,
    QUERY_STEP_RECEIPT,
    QUERY_STEP_BATCH,
    QUERY_STEP_SPEED,
    QUERY_STEP_COMMIT,
    QUERY_STEP_COUNT
};

/* One query that is being answered. */
struct query_reader {
    struct postgres *postgres;
    const struct catalog_version *version;
    const struct query_request *request;
    const struct query_plan *plan;
    struct query_answer *answer;
    struct query_sql sql[QUERY_STEP_COUNT];
    struct query_statement *statements[QUERY_STEP_COUNT]; /* NULL: not part of this query */
    bool was_prepared[QUERY_STEP_COUNT];                  /* before this query */
    struct pgbinary_field *fields;                        /* one row of states */
    size_t field_count;
    struct groups *shares[QUERY_LAYERS]; /* explain: what each layer gave; else NULL */
    int64_t mark_us;                     /* when the stage that runs began */
};

/* The microseconds since the last call. */
int64_t query_lap_us(struct query_reader *reader);

/* --- query_snapshot.c --- */

enum status query_snapshot_read(struct query_reader *reader, struct error *error) MUST_CHECK;
/* Reads rows at the snapshot of request->known. *held false: the database has moved, nothing was
 * read. */
enum status query_known_read(struct query_reader *reader, bool *held,
                             struct error *error) MUST_CHECK;

/* --- query_mark.c --- */

/* All but the snapshot itself; before a statement is sent. */
void query_mark_begin(const struct postgres *postgres, struct query_mark *out);
/* The snapshot, as a statement told it. */
void query_mark_take(struct query_mark *mark, const PGresult *result, int row, int column);
/* True: what the next statement reads on this connection can be compared with it. */
bool query_mark_may_hold(const struct query_mark *mark, const struct postgres *postgres);

/* --- query_receipt.c --- */

extern const char query_receipt_sql[];
/* Its parameters; `version` is storage for one of them. */
void query_receipt_parameters(const struct query_reader *reader, uint8_t version[4],
                              struct query_parameters *out);
enum status query_receipt_read(struct query_reader *reader, const PGresult *result,
                               struct error *error) MUST_CHECK;

/* --- query_merge.c --- */

/* Merges received rows of one layer into the answer's groups. */
enum status query_merge_rows(struct query_reader *reader, const PGresult *result,
                             enum query_layer layer, struct error *error) MUST_CHECK;
/* One row, whose states begin at `column`. */
enum status query_merge_row(struct query_reader *reader, const PGresult *result, int row,
                            int column, enum query_layer layer, struct error *error) MUST_CHECK;
/* Panes into windows, where they are not the same; after the last row. */
enum status query_merge_finish(struct query_reader *reader, struct error *error) MUST_CHECK;
enum status query_too_many_rows(const struct query_request *request,
                                struct error *error) MUST_CHECK;

/* --- query_order.c --- */

/* By the plan's order, then window, then keys. */
int query_compare_rows(const struct query_plan *plan, const struct query_row *a,
                       const struct query_row *b);
void query_sort_rows(const struct query_plan *plan, struct query_row *rows, size_t count);
/* <0, 0, >0; `text` is a number's. Neither may be NULL. */
int query_compare_number(const struct value *result, const char *wide_text, const char *text);

/* A group with its window and keys, but no results. */
struct query_candidate {
    struct group *group;
    struct query_row row;
};

/* The groups behind the plan's cursor, in order, the first `most` of them (0: all). Only where the
 * order needs no results. Everything is in `arena`. */
enum status query_first_groups(const struct query_plan *plan, const struct groups *groups,
                               size_t most, struct arena *arena, struct query_candidate **out,
                               size_t *count, struct error *error) MUST_CHECK;
/* Start and end of a group's window as the answer has it. */
void query_group_window(const struct query_plan *plan, const struct group *group, int64_t *start_us,
                        int64_t *end_us);

/* --- query_rows.c --- */

enum status query_rows_make(struct query_reader *reader, struct error *error) MUST_CHECK;

/* --- query_cursor.c --- */

/* A page that begins behind a row of another one. Fills plan->has_after and plan->after. */
enum status query_cursor_read(const struct catalog_version *version,
                              const struct query_request *request, struct arena *arena,
                              struct query_plan *plan, struct error *error) MUST_CHECK;
/* The cursor behind `last`; NULL in *out where it would be longer than an address may be. */
enum status query_cursor_write(const struct query_reader *reader, const struct query_row *last,
                               const char **out, struct error *error) MUST_CHECK;

#endif
