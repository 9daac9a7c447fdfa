/* The memory of core/groups.c: a table of panes, each with a table of its groups.
 *
 * Records mostly come in the order of their time, so one after the other is of the same pane or of
 * a few: their groups' slots and states lie close to each other, in a cache, however many panes
 * there are. It knows neither views nor measures. One thread at a time; const functions write
 * nothing, so any number of threads may call them while nobody writes. */
#ifndef DOVETAIL_GROUP_TABLE_H
#define DOVETAIL_GROUP_TABLE_H

#include "core/base/arena.h"
#include "core/groups.h"

#ifdef __cplusplus
extern "C" {
#endif

struct group_slot {
    uint64_t hash;
    struct group *group; /* NULL: free */
};

struct group_table {
    struct group_pane *panes;
    size_t pane_capacity; /* a power of two */
    size_t pane_count;
    size_t group_count;
    struct group_pane *last; /* one of `panes`: the last that was asked for */
    size_t slot_bytes;       /* of all panes' slots that are not in the arena */
    size_t growth_bytes;     /* what all full ones of these would take anew */
    struct arena arena;      /* groups, keys, states, few slots */
    size_t state_bytes;
    const unsigned char *initial; /* states of a new group; borrowed */
};

bool group_table_init(struct group_table *table, size_t state_bytes,
                      const unsigned char *initial) MUST_CHECK; /* false: out of memory */
void group_table_deinit(struct group_table *table);             /* accepts a zeroed one */
void group_table_clear(struct group_table *table);

size_t group_table_bytes(const struct group_table *table);
/* What they take at the most while one more group is added. Slots within the arena, a few hundred
 * bytes, are not worth counting. */
size_t group_table_peak_bytes(const struct group_table *table);

uint64_t group_hash(int64_t window_start_us, const unsigned char *key, size_t key_length);

/* The pane, or the free place where it belongs (slots NULL), which is good until the next one is
 * added. */
struct group_pane *group_table_pane(struct group_table *table, int64_t start_us);
const struct group_pane *group_table_find_pane(const struct group_table *table, int64_t start_us);

/* Where a group of that hash is looked for first; NULL: the pane is not there. */
static inline const struct group_slot *group_pane_slot(const struct group_pane *pane, uint64_t hash)
{
    return pane->slots == NULL ? NULL : &pane->slots[hash & (pane->slot_count - 1)];
}

/* Fetches the group from memory. */
static inline void group_prefetch(const struct group_table *table, const struct group *group)
{
    enum { LINE_BYTES = 64, LINES_MAX = 5 };
    size_t bytes = sizeof *group + table->state_bytes;
    for (size_t line = 0; line < LINES_MAX && line * LINE_BYTES < bytes; line++)
        __builtin_prefetch((const char *)group + line * LINE_BYTES);
}

/* NULL: there is none. */
struct group *group_pane_find(const struct group_table *table, const struct group_pane *pane,
                              uint64_t hash, const unsigned char *key, size_t key_length);
/* The group of (start_us, key), made with initial states where it is new. `pane` is what
 * group_table_pane has given for start_us. */
enum status group_table_add(struct group_table *table, struct group_pane *pane, int64_t start_us,
                            uint64_t hash, const unsigned char *key, size_t key_length,
                            struct group **out, struct error *error) MUST_CHECK;

/* See groups_reserve. */
enum status group_table_reserve(struct group_table *table, int64_t start_us, size_t count,
                                struct error *error) MUST_CHECK;

/* See groups_next_pane. */
const struct group_pane *group_table_next_pane(const struct group_table *table, size_t *cursor);

#ifdef __cplusplus
}
#endif
#endif
