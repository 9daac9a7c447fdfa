/* What one query asks for, checked: used by core/query/query.c only.
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
    size_t index; /* of the key or measure in the answer */
    bool descending;
};

enum { QUERY_PARAMETER_MAX = 3 + VIEW_KEY_MAX + VIEW_LOOKED_UP_MAX };

/* Parameters in PostgreSQL's binary formats. The statement of the speed rows has one more than that
 * of the batch rows: the topic, last. */
struct query_parameters {
    uint32_t types[QUERY_PARAMETER_MAX];
    const char *values[QUERY_PARAMETER_MAX];
    int lengths[QUERY_PARAMETER_MAX];
    int formats[QUERY_PARAMETER_MAX];
    int count;
};

struct query_plan {
    const struct view *view;
    struct view shape;
    size_t *keys;                /* indexes into view->keys, looked-up columns included */
    bool joins[VIEW_LOOKUP_MAX]; /* the lookups that the query has a column of */
    size_t *measures;
    bool window_is_all;
    bool window_is_coarser;    /* window starts have to be mapped to shape.window's */
    bool window_may_straddle;  /* and may turn out not to lie within one of them */
    struct window_range range; /* of the view's windows */
    struct query_sort *order;
    size_t order_count;
    struct query_parameters parameters; /* the topic is at [count] */
    const char *batch_sql;              /* NULL: that layer is not asked for */
    const char *speed_sql;
};

/* Everything is allocated in `arena`, strings of filters are borrowed from the request. */
enum status query_plan_make(const struct catalog_version *version,
                            const struct query_request *request, struct arena *arena,
                            struct query_plan *out, struct error *error) MUST_CHECK;

#endif
