/* Panes and their groups in memory: see core/group_table.h.
 *
 * Both tables are open addressing with linear probing, as in Knuth, The Art of Computer
 * Programming, volume 3, 6.4, algorithm L; they double at three quarters full. The hash (XXH3) is
 * salted with an address, which the loader randomises, so that a producer cannot choose keys that
 * collide.
 *
 * Invariant: a place in `panes` with slots is a pane, any other is free and zero;
 * slots of up to ARENA_SLOTS are in the arena, more are of pages_alloc and counted in slot_bytes,
 * and in growth_bytes while the next group makes them double. */
#include "core/group_table.h"

#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/base/pages.h"

enum { PANES_AT_FIRST = 8, SLOTS_AT_FIRST = 2, ARENA_SLOTS = 64 };

bool group_table_init(struct group_table *table, size_t state_bytes, const unsigned char *initial)
{
    *table = (struct group_table){
        .pane_capacity = PANES_AT_FIRST, .state_bytes = state_bytes, .initial = initial};
    arena_init(&table->arena);
    table->panes = pages_alloc_zeroed(table->pane_capacity * sizeof *table->panes);
    table->last = table->panes;
    return table->panes != NULL;
}

static void free_slots(struct group_table *table)
{
    if (table->slot_bytes == 0)
        return;
    for (size_t i = 0; i < table->pane_capacity; i++)
        if (table->panes[i].slot_count > ARENA_SLOTS)
            free(table->panes[i].slots);
    table->slot_bytes = 0;
    table->growth_bytes = 0;
}

void group_table_deinit(struct group_table *table)
{
    free_slots(table);
    free(table->panes);
    arena_deinit(&table->arena);
}

void group_table_clear(struct group_table *table)
{
    free_slots(table);
    memset(table->panes, 0, table->pane_capacity * sizeof *table->panes);
    table->pane_count = 0;
    table->group_count = 0;
    arena_reset(&table->arena);
}

/* Whether one more makes a table double. */
static bool is_full(size_t count, size_t capacity)
{
    return count >= capacity * 3 / 4;
}

size_t group_table_bytes(const struct group_table *table)
{
    return table->arena.reserved_bytes + table->slot_bytes +
           table->pane_capacity * sizeof *table->panes;
}

size_t group_table_peak_bytes(const struct group_table *table)
{
    size_t panes = is_full(table->pane_count, table->pane_capacity)
                       ? 2 * table->pane_capacity * sizeof *table->panes
                       : 0;
    return group_table_bytes(table) + table->growth_bytes + panes;
}

uint64_t group_hash(int64_t window_start_us, const unsigned char *key, size_t key_length)
{
    static const char salt;
    uint64_t seed = (uint64_t)(uintptr_t)&salt ^ (uint64_t)window_start_us;
    return XXH3_64bits_withSeed(key, key_length, seed);
}

/* --- panes --- */

static struct group_pane *find_pane(struct group_pane *panes, size_t capacity, int64_t start_us)
{
    size_t mask = capacity - 1;
    size_t i = (size_t)group_hash(start_us, NULL, 0) & mask;
    while (panes[i].slots != NULL && panes[i].start_us != start_us)
        i = (i + 1) & mask;
    return &panes[i];
}

const struct group_pane *group_table_find_pane(const struct group_table *table, int64_t start_us)
{
    return find_pane(table->panes, table->pane_capacity, start_us);
}

struct group_pane *group_table_pane(struct group_table *table, int64_t start_us)
{
    if (table->last->slots == NULL || table->last->start_us != start_us)
        table->last = find_pane(table->panes, table->pane_capacity, start_us);
    return table->last;
}

static enum status grow_panes(struct group_table *table, struct error *error)
{
    size_t capacity = table->pane_capacity * 2;
    struct group_pane *panes = pages_alloc_zeroed(capacity * sizeof *panes);
    if (panes == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < table->pane_capacity; i++)
        if (table->panes[i].slots != NULL)
            *find_pane(panes, capacity, table->panes[i].start_us) = table->panes[i];
    free(table->panes);
    table->panes = panes;
    table->pane_capacity = capacity;
    table->last = panes;
    return STATUS_OK;
}

/* --- groups --- */

static struct group_slot *free_slot(const struct group_pane *pane, uint64_t hash)
{
    size_t mask = pane->slot_count - 1;
    size_t i = (size_t)hash & mask;
    while (pane->slots[i].group != NULL)
        i = (i + 1) & mask;
    return &pane->slots[i];
}

static struct group_slot *alloc_slots(struct group_table *table, size_t count)
{
    size_t bytes = count * sizeof(struct group_slot);
    struct group_slot *slots =
        count <= ARENA_SLOTS ? arena_alloc(&table->arena, bytes) : pages_alloc_zeroed(bytes);
    if (slots != NULL && count <= ARENA_SLOTS)
        memset(slots, 0, bytes);
    if (slots != NULL && count > ARENA_SLOTS)
        table->slot_bytes += bytes;
    return slots;
}

static enum status grow_pane(struct group_table *table, struct group_pane *pane,
                             struct error *error)
{
    struct group_pane grown = *pane;
    grown.slot_count = pane->slot_count == 0 ? SLOTS_AT_FIRST : pane->slot_count * 2;
    grown.slots = alloc_slots(table, grown.slot_count);
    if (grown.slots == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < pane->slot_count; i++)
        if (pane->slots[i].group != NULL)
            *free_slot(&grown, pane->slots[i].hash) = pane->slots[i];
    if (pane->slot_count > ARENA_SLOTS) {
        free(pane->slots);
        table->slot_bytes -= pane->slot_count * sizeof *pane->slots;
        if (is_full(pane->group_count, pane->slot_count))
            table->growth_bytes -= grown.slot_count * sizeof *pane->slots;
    }
    *pane = grown;
    return STATUS_OK;
}

struct group *group_pane_find(const struct group_table *table, const struct group_pane *pane,
                              uint64_t hash, const unsigned char *key, size_t key_length)
{
    size_t mask = pane->slot_count - 1;
    if (pane->slots == NULL)
        return NULL;
    for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
        struct group *group = pane->slots[i].group;
        if (group == NULL)
            return NULL;
        if (pane->slots[i].hash != hash)
            continue;
        group_prefetch(table, group);
        if (group->key_length == key_length && memcmp(group->key, key, key_length) == 0)
            return group;
    }
}

static struct group *new_group(struct group_table *table, int64_t start_us, uint64_t hash,
                               const unsigned char *key, size_t key_length)
{
    size_t bytes = group_state_at(key_length) + table->state_bytes;
    struct group *group = arena_alloc(&table->arena, bytes);
    if (group == NULL)
        return NULL;
    *group = (struct group){.window_start_us = start_us,
                            .hash = hash,
                            .id = ++table->group_count,
                            .key_length = (uint32_t)key_length};
    memcpy(group->key, key, key_length);
    memcpy(group_state(group), table->initial, table->state_bytes);
    return group;
}

/* The place of a pane that is new, with slots. */
static enum status open_pane(struct group_table *table, int64_t start_us, struct group_pane **pane,
                             struct error *error)
{
    enum status status = STATUS_OK;
    if (is_full(table->pane_count, table->pane_capacity)) {
        status = grow_panes(table, error);
        *pane = group_table_pane(table, start_us);
    }
    if (status == STATUS_OK)
        status = grow_pane(table, *pane, error);
    if (status == STATUS_OK) {
        (*pane)->start_us = start_us;
        table->pane_count++;
    }
    return status;
}

enum status group_table_add(struct group_table *table, struct group_pane *pane, int64_t start_us,
                            uint64_t hash, const unsigned char *key, size_t key_length,
                            struct group **out, struct error *error)
{
    enum status status = STATUS_OK;
    *out = group_pane_find(table, pane, hash, key, key_length);
    if (*out != NULL)
        return STATUS_OK;
    if (pane->slots == NULL)
        status = open_pane(table, start_us, &pane, error);
    else if (is_full(pane->group_count, pane->slot_count))
        status = grow_pane(table, pane, error);
    if (status != STATUS_OK)
        return status;
    *out = new_group(table, start_us, hash, key, key_length);
    if (*out == NULL)
        return error_no_memory(error);
    *free_slot(pane, hash) = (struct group_slot){.hash = hash, .group = *out};
    pane->group_count++;
    if (pane->slot_count > ARENA_SLOTS && is_full(pane->group_count, pane->slot_count))
        table->growth_bytes += 2 * pane->slot_count * sizeof *pane->slots;
    return STATUS_OK;
}

enum status group_table_reserve(struct group_table *table, int64_t start_us, size_t count,
                                struct error *error)
{
    struct group_pane *pane = group_table_pane(table, start_us);
    enum status status = pane->slots == NULL ? open_pane(table, start_us, &pane, error) : STATUS_OK;
    while (status == STATUS_OK && is_full(count, pane->slot_count))
        status = grow_pane(table, pane, error);
    return status;
}

/* --- walking --- */

const struct group_pane *group_table_next_pane(const struct group_table *table, size_t *cursor)
{
    while (*cursor < table->pane_capacity) {
        const struct group_pane *pane = &table->panes[(*cursor)++];
        if (pane->slots != NULL)
            return pane;
    }
    return NULL;
}

struct group *group_pane_next(const struct group_pane *pane, size_t *cursor, uint64_t *hash)
{
    while (*cursor < pane->slot_count) {
        const struct group_slot *slot = &pane->slots[(*cursor)++];
        if (slot->group != NULL) {
            *hash = slot->hash;
            return slot->group;
        }
    }
    return NULL;
}
