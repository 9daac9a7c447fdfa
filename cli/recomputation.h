/* A view as it is answered, and as its definition, or another one, is recomputed from the same
 * records: what `dovetail verify` and `dovetail diff` compare.
 *
 * Order matters: the answer is read first, then the records below exactly the positions of its
 * receipt. Whatever is published or flushed meanwhile changes neither. The recomputation is
 * PostgreSQL's (verify_sql.h) and shares no folding, parsing or evaluating code with the engine.
 * Only temporary tables and functions are made, which end with the connection. */
#ifndef DOVETAIL_CLI_RECOMPUTATION_H
#define DOVETAIL_CLI_RECOMPUTATION_H

#include "cli/command.h"
#include "cli/verify_sql.h"
#include "core/query/query.h"

/* One row of either side. Texts are canonical, so equal values have equal texts; NULL is NULL. */
struct row {
    int64_t window_us, end_us;
    const char **texts; /* keys, then measures */
};

struct rows {
    struct row *rows; /* sorted by window and keys; in the arena, as all of it */
    size_t count;
    size_t key_count;
    size_t text_count;
    struct arena arena;
};

struct recomputation {
    const char *view_name;
    struct query_request request;
    const char *keys[VIEW_KEY_MAX]; /* of the view, for the request */
    struct verify_range range;
    struct query_answer *answer; /* owned */
    PGresult *recomputed;        /* owned */
    int64_t record_count;
    bool differs;
};

/* The whole command: VIEW, --from and --to, a session, and `compare`, which sets `differs` where
 * something does and gives the exit code. `failure`: what to exit with where it is not known
 * whether something differs. */
int recomputation_command(const struct program_arguments *program, int failure,
                          int (*compare)(const struct session *session,
                                         struct recomputation *recomputation));

/* Asks the served version and recomputes `view` over `source`, which has the same topic. */
enum status recomputation_make(struct recomputation *recomputation, const struct session *session,
                               const struct catalog_version *served, const struct source *source,
                               const struct view *view, struct error *error) MUST_CHECK;
void recomputation_deinit(struct recomputation *recomputation);

/* Both sides as sorted texts; arenas are the caller's, and what they were made from must outlive
 * the rows. */
enum status rows_from_answer(struct rows *rows, const struct query_answer *answer,
                             struct error *error) MUST_CHECK;
enum status rows_from_result(struct rows *rows, const PGresult *result, const struct view *view,
                             struct error *error) MUST_CHECK;

int row_compare_texts(const char *a, const char *b); /* NULL comes last */
int row_compare_keys(const struct row *a, const struct row *b, size_t key_count);
/* "origin=JFK day=NULL" */
void row_describe_keys(const struct view *view, const struct row *row, char *out, size_t size);

/* "run 3, positions orders [1, 2]" and a line feed. */
void recomputation_print_receipt(const struct query_receipt *receipt);
const char *plural(int64_t count); /* "s" or "" */

#endif
