/* The groups of one view: from (pane of its window, keys) to the states of its measures.
 *
 * Speed keeps one for each open slice, batch one for each thread, serving one for each query.
 * Groups, keys and states live in an arena and never move, so a struct group pointer is good until
 * the table is cleared. How they are found: core/group_table.h. One thread at a time. */
#ifndef DOVETAIL_GROUPS_H
#define DOVETAIL_GROUPS_H

#include <stddef.h>

#include "core/definitions/definition.h"
#include "core/records/event_parser.h"

#ifdef __cplusplus
extern "C" {
#endif

struct group {
    int64_t window_start_us; /* of the pane */
    uint64_t hash;           /* the same in all tables of the process, and in no other process */
    uint64_t id; /* 1, 2, ... in the order of creation since the table was last cleared */
    struct group *next_changed; /* list of changed groups, see groups_changed */
    uint32_t key_length;
    bool changed;        /* on the list */
    bool stored;         /* for the owner: a row of it is in the database */
    unsigned char key[]; /* value_key_encode of each key in turn, and behind it group_state */
};

/* Where the states of a group with keys of that length begin. */
static inline size_t group_state_at(size_t key_length)
{
    return (offsetof(struct group, key) + key_length + STATE_ALIGNMENT - 1) &
           ~(size_t)(STATE_ALIGNMENT - 1);
}

/* view->state_bytes, aligned to STATE_ALIGNMENT; measure i's are at view->state_offsets[i]. */
static inline unsigned char *group_state(const struct group *group)
{
    return (unsigned char *)group + group_state_at(group->key_length);
}

/* The groups that one pane has. */
struct group_pane {
    int64_t start_us;
    struct group_slot *slots; /* core/group_table.h */
    size_t slot_count;
    size_t group_count;
};

struct groups;

enum status groups_create(const struct view *view, struct groups **out,
                          struct error *error) MUST_CHECK;
void groups_destroy(struct groups *groups);
void groups_clear(struct groups *groups);

size_t groups_count(const struct groups *groups);
size_t groups_memory_bytes(const struct groups *groups);
/* What they take at the most while one more group is added: growing keeps two tables for a while.
 */
size_t groups_peak_bytes(const struct groups *groups);

/* The group of (window, key), made with initial states where it is new. */
enum status groups_find_or_add(struct groups *groups, int64_t window_start_us,
                               const unsigned char *key, size_t key_length, struct group **out,
                               struct error *error) MUST_CHECK;
/* Room for so many groups of a pane before they come one by one. Those of another table come in the
 * order of their hashes, which would crowd the beginning of a table that is still to grow. */
enum status groups_reserve(struct groups *groups, int64_t window_start_us, size_t count,
                           struct error *error) MUST_CHECK;
struct group *groups_find(const struct groups *groups, int64_t window_start_us,
                          const unsigned char *key, size_t key_length);

/* What one record did to one view. */
enum fold_outcome { FOLD_COUNTED, FOLD_FILTERED };

/* Folds one event in: where, keys, window, measures. All or nothing: STATUS_REJECT (an expression
 * failed, a key is too long) leaves every state as it was. The group is put on the changed list. */
enum status groups_fold(struct groups *groups, const struct event *event,
                        const struct measure_origin *origin, enum fold_outcome *outcome,
                        struct error *error) MUST_CHECK;

/* Merges states of `view->state_count` measures into a group's (same view). Marks it changed. */
enum status groups_merge_states(struct groups *groups, struct group *into,
                                const unsigned char *state, struct error *error) MUST_CHECK;
/* Merges groups of another table of the same view, which become new ones where there were none. */
enum status groups_add(struct groups *into, struct group *const *from, size_t count,
                       struct error *error) MUST_CHECK;
/* Merges every group of `from` into `into`. */
enum status groups_merge(struct groups *into, const struct groups *from,
                         struct error *error) MUST_CHECK;

/* Groups changed since the last groups_changed_reset, newest first, linked by next_changed. */
struct group *groups_changed(const struct groups *groups);
void groups_changed_reset(struct groups *groups);
/* About what they take here, which is about what their rows will take. */
size_t groups_changed_bytes(const struct groups *groups);

/* Every group, in no particular order; the cursor begins as {0}. */
struct groups_cursor {
    size_t pane;
    size_t slot;
};
struct group *groups_next(const struct groups *groups, struct groups_cursor *cursor);
/* The same by panes: each, in no particular order, or NULL; each group of one. Cursors begin as 0,
 * and stay good while groups are only looked at. */
const struct group_pane *groups_next_pane(const struct groups *groups, size_t *cursor);
struct group *group_pane_next(const struct group_pane *pane, size_t *cursor, uint64_t *hash);
/* Any number of threads may ask at a time, while nobody adds. */
bool groups_have_pane(const struct groups *groups, int64_t start_us);
/* Every pane ordered by its start. Caller frees the array. */
enum status groups_panes_sorted(const struct groups *groups, const struct group_pane ***out,
                                size_t *count, struct error *error) MUST_CHECK;
/* Every group ordered by window, then key values (NULL last). Caller frees the array. */
enum status groups_sorted(const struct groups *groups, struct group ***out,
                          struct error *error) MUST_CHECK;

struct arena *groups_arena(struct groups *groups);
const struct view *groups_view(const struct groups *groups);

/* The keys of a group as values (strings borrowed from it): `out` has view->key_count. */
void group_keys(const struct view *view, const struct group *group, struct value *out);
void group_key_values(const struct view *view, const unsigned char *key, struct value *out);

/* --- rows of states, as the tables of speed and batch have them ---
 *
 * Columns in order: window_start, the keys, each measure's columns. */
size_t view_row_columns(const struct view *view);
enum status group_encode_row(const struct view *view, const struct group *group,
                             struct pgbinary_writer *writer, struct error *error) MUST_CHECK;
/* Merges one received row into `groups`. Where `group` is not NULL it receives the group. */
enum status groups_merge_row(struct groups *groups, const struct pgbinary_field *fields,
                             struct group **group, struct error *error) MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
