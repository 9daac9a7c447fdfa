/* The texts of a question, as a person types them or a client sends them, into a query request:
 * what HTTP's parameters and the options of `dovetail query` have in common.
 *
 * Only the form is checked here; names and values are the plan's to check. Errors begin with the
 * parameter's name. Strings are borrowed from the caller or allocated in the arena. Pure. */
#ifndef DOVETAIL_QUERY_PARSE_H
#define DOVETAIL_QUERY_PARSE_H

#include "core/query/query.h"

enum {
    QUERY_NAME_MAX = 2 + VIEW_KEY_MAX + VIEW_LOOKED_UP_MAX + VIEW_MEASURE_MAX,
    QUERY_FILTER_MAX = VIEW_KEY_MAX + VIEW_LOOKED_UP_MAX,
    QUERY_IN_MAX = 1000, /* values of one list */
};

/* A request with the storage behind its arrays. */
struct query_question {
    struct query_request request;
    struct query_filter filters[QUERY_FILTER_MAX];
    const char *group_by[QUERY_NAME_MAX];
    const char *measures[QUERY_NAME_MAX];
    struct query_order order[QUERY_NAME_MAX];
    struct query_having having[QUERY_NAME_MAX];
    struct arena arena;
};

void query_question_init(struct query_question *question);
void query_question_deinit(struct query_question *question);

/* from, to, group_by, granularity, timezone, measures, having, order, limit, cursor, explain,
 * layer: what is not about one key. */
bool query_is_parameter(const char *name);
/* Takes one of these. *known: it is one. */
enum status query_question_take(struct query_question *question, const char *name,
                                const char *value, bool *known, struct error *error) MUST_CHECK;

/* The restriction of a key:
 *
 *     KEY = value          equal
 *     KEY.in = a,b         one of; a value with a comma or a quotation mark goes in quotation
 *                          marks, those inside doubled: "a,b"
 *     KEY.prefix = a       strings that begin so
 *     KEY.is = null        or not_null
 *
 * Names of keys have no dot, so nothing of this is ambiguous. The key is the first `key_length`
 * bytes of `key`, and the rest of it says which of these it is. Refusals, those of the query too,
 * begin with `parameter`: what the asker calls all of it. Nothing is borrowed but the value. */
enum status query_question_restrict(struct query_question *question, const char *parameter,
                                    const char *key, size_t key_length, const char *value,
                                    struct error *error) MUST_CHECK;

#endif
