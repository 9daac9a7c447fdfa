/* Recent ids: see core/records/recent_ids.h.
 *
 * A ring of (hash, offset) in the order of offsets, and a table of indexes into it: open addressing
 * with linear probing, where an id's slot points to its newest entry. Entries leave the ring when
 * their offset is out of reach; one that a newer entry has replaced leaves no slot behind.
 * Deletion moves later slots of the cluster back (Knuth, The Art of Computer Programming, volume 3,
 * section 6.4, algorithm R), so there are no tombstones.
 *
 * Invariant: every entry's offset is at least the newest one's minus `within`, and each id among
 * them has exactly one slot. Ring and table grow together and never shrink. */
#include "core/records/recent_ids.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

_Static_assert((int)RECENT_IDS_SECRET_BYTES >= (int)XXH3_SECRET_SIZE_MIN, "a secret for XXH3");

enum { INITIAL_CAPACITY = 1024 };

struct entry {
    uint64_t high;
    uint64_t low;
    int64_t offset;
};

struct recent_ids {
    int64_t within;
    const unsigned char *secret; /* borrowed */
    struct entry *entries;       /* the ring */
    size_t capacity;
    size_t oldest;
    size_t count;
    uint32_t *slots; /* index into entries + 1; 0 = empty */
    size_t mask;     /* number of slots - 1, a power of two */
};

enum status recent_ids_create(int64_t within, const unsigned char *secret, struct recent_ids **out,
                              struct error *error)
{
    assert(within >= 1 && within <= RECENT_IDS_WITHIN_MAX);
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return error_no_memory(error);
    (*out)->within = within;
    (*out)->secret = secret;
    return STATUS_OK;
}

void recent_ids_destroy(struct recent_ids *ids)
{
    if (ids == NULL)
        return;
    free(ids->entries);
    free(ids->slots);
    free(ids);
}

size_t recent_ids_memory_bytes(const struct recent_ids *ids)
{
    size_t slots = ids->slots == NULL ? 0 : ids->mask + 1;
    return sizeof *ids + ids->capacity * sizeof *ids->entries + slots * sizeof *ids->slots;
}

/* --- the table --- */

static size_t home_of(const struct recent_ids *ids, const struct entry *entry)
{
    return (size_t)entry->low & ids->mask;
}

/* The slot of the entry's id, or the empty one where it would be. */
static size_t find_slot(const struct recent_ids *ids, const struct entry *entry)
{
    size_t at = home_of(ids, entry);
    for (; ids->slots[at] != 0; at = (at + 1) & ids->mask) {
        const struct entry *there = &ids->entries[ids->slots[at] - 1];
        if (there->low == entry->low && there->high == entry->high)
            break;
    }
    return at;
}

static void empty_slot(struct recent_ids *ids, size_t hole)
{
    for (size_t at = (hole + 1) & ids->mask; ids->slots[at] != 0; at = (at + 1) & ids->mask) {
        size_t home = home_of(ids, &ids->entries[ids->slots[at] - 1]);
        /* It may move back unless its home lies behind the hole, up to where it is. */
        if (((at - home) & ids->mask) < ((at - hole) & ids->mask))
            continue;
        ids->slots[hole] = ids->slots[at];
        hole = at;
    }
    ids->slots[hole] = 0;
}

/* --- the ring --- */

static void expire(struct recent_ids *ids, int64_t least)
{
    while (ids->count > 0 && ids->entries[ids->oldest].offset < least) {
        size_t slot = find_slot(ids, &ids->entries[ids->oldest]);
        if (ids->slots[slot] == ids->oldest + 1)
            empty_slot(ids, slot);
        ids->oldest = ids->oldest + 1 == ids->capacity ? 0 : ids->oldest + 1;
        ids->count--;
    }
}

static size_t slots_for(size_t capacity)
{
    size_t slots = 1;
    while (slots < capacity + capacity / 3 + 1)
        slots *= 2;
    return slots;
}

static enum status grow(struct recent_ids *ids, struct error *error)
{
    size_t most = (size_t)ids->within + 1; /* offsets within reach, and the newest */
    assert(ids->capacity < most);
    size_t capacity = ids->capacity == 0 ? INITIAL_CAPACITY : ids->capacity * 2;
    if (capacity > most)
        capacity = most;
    size_t slot_count = slots_for(capacity);
    struct entry *entries = malloc(capacity * sizeof *entries);
    uint32_t *slots = calloc(slot_count, sizeof *slots);
    if (entries == NULL || slots == NULL) {
        free(entries);
        free(slots);
        return error_no_memory(error);
    }
    size_t front = ids->capacity - ids->oldest; /* up to the ring's end */
    if (front > ids->count)
        front = ids->count;
    if (ids->count > 0) {
        memcpy(entries, ids->entries + ids->oldest, front * sizeof *entries);
        memcpy(entries + front, ids->entries, (ids->count - front) * sizeof *entries);
    }
    free(ids->entries);
    free(ids->slots);
    ids->entries = entries;
    ids->capacity = capacity;
    ids->oldest = 0;
    ids->slots = slots;
    ids->mask = slot_count - 1;
    for (size_t i = 0; i < ids->count; i++) /* ascending: the newest of each id stays */
        slots[find_slot(ids, &entries[i])] = (uint32_t)(i + 1);
    return STATUS_OK;
}

static struct entry make_entry(const struct recent_ids *ids, const struct value *id, int64_t offset)
{
    const void *data = &id->integer;
    size_t length = sizeof id->integer;
    if (id->type == VALUE_STRING) {
        data = id->string.data;
        length = id->string.length;
    }
    XXH128_hash_t hash =
        XXH3_128bits_withSecret(data, length, ids->secret, RECENT_IDS_SECRET_BYTES);
    return (struct entry){.high = hash.high64, .low = hash.low64, .offset = offset};
}

enum status recent_ids_add(struct recent_ids *ids, const struct value *id, int64_t offset,
                           bool *duplicate, struct error *error)
{
    *duplicate = false;
    if (id->is_null)
        return STATUS_OK;
    assert(id->type == VALUE_STRING || id->type == VALUE_INTEGER);
    expire(ids, offset - ids->within);
    if (ids->count == ids->capacity) {
        enum status status = grow(ids, error);
        if (status != STATUS_OK)
            return status;
    }
    size_t index = ids->oldest + ids->count;
    if (index >= ids->capacity)
        index -= ids->capacity;
    ids->entries[index] = make_entry(ids, id, offset);
    size_t slot = find_slot(ids, &ids->entries[index]);
    *duplicate = ids->slots[slot] != 0;
    ids->slots[slot] = (uint32_t)(index + 1);
    ids->count++;
    return STATUS_OK;
}
