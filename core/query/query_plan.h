/* What one query asks for, checked: used in core/query/ only.
 *
 * The plan holds a view of its own, `shape`: the chosen keys and measures under the asked window.
 * Looked-up columns are keys of it like any other. Rows of states that are selected in its columns
 * merge into groups over it, so that a roll-up is the same code as a plain query. */
#ifndef DOVETAIL_QUERY_PLAN_H
#define DOVETAIL_QUERY_PLAN_H

#include "core/query/query.h"

enum query_column { QUERY_WINDOW_START, QUERY_WINDOW_END, QUERY_KEY, QUERY_MEASURE };

struct query_sort {
    enum query_column column;
    size_t index; /* of the key or measure in the shape */
    bool descending;
};

/* One comparison of `having`. */
struct query_condition {
    size_t measure; /* of the shape */
    enum query_comparison comparison;
    struct value value; /* of strings, booleans and times */
    const char *number; /* of numbers: the text, compared digit by digit; else NULL */
};

/* A range has two, a key one, and one in the scope, the cursor one for itself and each key; then
 * those of the statements. */
enum { QUERY_PARAMETER_MAX = 10 + 3 * (VIEW_KEY_MAX + VIEW_LOOKED_UP_MAX) };

/* Parameters in PostgreSQL's binary formats. */
struct query_parameters {
    uint32_t types[QUERY_PARAMETER_MAX];
    const char *values[QUERY_PARAMETER_MAX];
    int lengths[QUERY_PARAMETER_MAX];
    int formats[QUERY_PARAMETER_MAX];
    int count;
};

struct query_plan {
    const struct view *view;
    struct view shape;           /* measures: those of the answer, then what only `having` needs */
    size_t *keys;                /* indexes into view->keys, looked-up columns included */
    bool joins[VIEW_LOOKUP_MAX]; /* the lookups that the query has a column of */
    size_t *measures;            /* indexes into view->measures */
    size_t answer_measure_count; /* of the shape's, those that are answered */
    bool window_is_all;
    bool window_is_coarser;    /* window starts have to be mapped to shape.window's */
    bool window_may_straddle;  /* and may turn out not to lie within one of them */
    struct window_range range; /* of the view's windows */
    struct query_sort *order;
    size_t order_count;
    bool order_is_of_groups; /* by window and keys alone: known before anything is merged */
    struct query_condition *having;
    size_t having_count;
    bool has_after;         /* a cursor was given: only rows behind this one */
    struct query_row after; /* window, keys, and the measures that the order has */
    uint64_t after_state;   /* where the page before stood: half of query_state_of */

    /* How memory is bounded. At most one of the two is set. */
    size_t keep_first;   /* while merging, groups behind the first so many may be forgotten */
    size_t refuse_above; /* while merging, more groups than these are more rows than allowed */

    /* What rows of states have to fulfil: " AND ..." */
    const char *conditions;
    struct query_parameters parameters; /* of these; every statement has them, and more behind */
    bool batch_is_limited;              /* of the batch rows the first keep_first are enough */
};

/* A statement of a plan. */
struct query_sql {
    const char *text; /* NULL: not part of the query */
    struct query_parameters parameters;
};

/* Everything is allocated in `arena`, strings of filters are borrowed from the request. */
enum status query_plan_make(const struct catalog_version *version,
                            const struct query_request *request, struct arena *arena,
                            struct query_plan *out, struct error *error) MUST_CHECK;

/* --- parts of it --- */

/* A key or a looked-up column of `view`. */
bool query_find_key(const struct view *view, const char *name, size_t *index);
/* "origin, destination", cut where it is long. */
void query_list_keys(const struct view *view, char *text, size_t size);
/* A name from a request, short enough and printable enough for an error text. */
const char *query_shown(const char *name, char *buffer, size_t size);
/* Notes the reference table of a looked-up column. */
void query_join(struct query_plan *plan, const struct view_key *key);

/* query_filter.c: " AND ..." with "$n"s, into the arena; the values into *parameters. */
enum status query_make_conditions(struct query_plan *plan, const struct query_request *request,
                                  struct arena *arena, struct query_parameters *parameters,
                                  const char **out, struct error *error) MUST_CHECK;
/* The starts of all windows of the range as one more parameter, where few rows are wanted of each:
 * an index on (window, keys) then has a place for each of them, where a range of windows would be
 * all keys of these. *added false: there are too many, or it would be of no use. */
enum { QUERY_WINDOWS_MAX = 256 };
enum status query_add_windows(const struct query_plan *plan, const struct query_request *request,
                              struct query_parameters *parameters, struct arena *arena, bool *added,
                              struct error *error) MUST_CHECK;
enum status query_add_parameter(struct query_parameters *parameters, const struct value *value,
                                struct arena *arena, struct error *error) MUST_CHECK;

/* query_sql.c: the statements, allocated in `arena`. */
bool query_batch_may_be_limited(const struct query_plan *plan);
/* Batch rows and speed rows, for a transaction of one snapshot. */
enum status query_make_statements(const struct query_plan *plan,
                                  const struct catalog_version *version, enum query_layer layer,
                                  struct arena *arena, struct query_sql *batch,
                                  struct query_sql *speed, struct error *error) MUST_CHECK;
/* Both in one, with a column in front that says which layer a row is of (enum query_layer). All of
 * it is empty where the snapshot is not that of request->known; where it is, there is one row more,
 * of NULLs, that has QUERY_MERGED there. *is_short: few rows are expected, all of them small, and
 * there are no more than QUERY_SHORT_ROWS; with as many it may have been cut off. */
enum { QUERY_SHORT_ROWS = 1000 };
enum status query_make_known_statement(const struct query_plan *plan,
                                       const struct catalog_version *version,
                                       const struct query_request *request, struct arena *arena,
                                       struct query_sql *out, bool *is_short,
                                       struct error *error) MUST_CHECK;

/* query_having.c */
enum status query_choose_having(struct query_plan *plan, const struct query_request *request,
                                struct arena *arena, struct error *error) MUST_CHECK;
/* True where every comparison is; one with NULL is not. */
bool query_passes_having(const struct query_plan *plan, const struct query_row *row);

#endif
