/* Between the files of the naive model. */
#ifndef DOVETAIL_TESTS_SUPPORT_ORACLE_INTERNAL_H
#define DOVETAIL_TESTS_SUPPORT_ORACLE_INTERNAL_H

#include "tests/support/oracle.h"

struct oracle_state {
    int64_t count; /* of values */
    oracle_number sum;
    struct oracle_value extreme;
};

struct oracle_group {
    int64_t window_us; /* its start; of sessions that are not joined yet, the records' time */
    int64_t last_us;   /* of a session: its last record */
    struct oracle_value keys[ORACLE_KEYS];
    struct oracle_state states[ORACLE_MEASURES];
};

/* Sorted by window, then keys, NULL last. Each group is one allocation. */
struct oracle_groups {
    struct oracle_group **items;
    size_t count, capacity;
};

struct oracle_text {
    char *data;
    size_t length, capacity;
};

void oracle_put(struct oracle_text *text, const char *more);
void oracle_put_bytes(struct oracle_text *text, const char *data, size_t length);

void oracle_groups_clear(struct oracle_groups *groups);
void oracle_fold_record(const struct oracle_view *view, struct oracle_groups *groups,
                        const struct oracle_record *record);
char *oracle_render(const struct oracle_query *query, const struct oracle_receipt *receipt,
                    const struct oracle_groups *own, size_t *count);

#endif
