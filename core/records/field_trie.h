/* The member names that a source's fields are reached by, as a tree from the record's root.
 *
 * A node that ends a field's path has a leaf number; leaves below a node are a contiguous range, so
 * that a repeated member resets all of them at once. A node can have both a leaf and children:
 * fields "a" and "a.b".
 *
 * Lookup guesses first: members of a record mostly come in the order they came in the record
 * before, so each node remembers which sibling followed it. One compare of length and first eight
 * bytes then finds the member; only a wrong guess goes through the hash table.
 *
 * A trie belongs to one thread, because lookups learn. */
#ifndef DOVETAIL_FIELD_TRIE_H
#define DOVETAIL_FIELD_TRIE_H

#include <stdint.h>
#include <string.h>

#include "core/base/arena.h"
#include "core/definitions/definition.h"
#include "core/base/error.h"

enum { FIELD_TRIE_KEY_PADDING_BYTES = 8 }; /* readable behind the key that is looked up */

struct field_trie {
    const char *name; /* of the member that leads here; borrowed */
    size_t name_length;
    uint64_t head;                   /* see field_trie_head */
    struct field_trie *follower;     /* the sibling that came next last time; NULL: not known */
    struct field_trie *first_member; /* the child that came first last time; NULL: not known */
    struct field_trie *sibling;      /* list of the parent's children */
    struct field_trie *children;
    struct field_trie **table; /* open addressing, table_mask + 1 slots; NULL: no children */
    uint32_t table_mask;
    uint32_t child_count;
    int32_t leaf;                    /* -1: no field's path ends here */
    uint32_t below_begin, below_end; /* leaves of the descendants, without its own */
};

/* Builds the tree of the source's paths in `arena`. leaf_of_field[i] is where field i's path ends,
 * fields with the same path share one; it is not set for derived fields. NULL when out of memory.
 */
struct field_trie *field_trie_create(const struct source *source, struct arena *arena,
                                     uint32_t *leaf_of_field, uint32_t *leaf_count) MUST_CHECK;

/* The first eight bytes of a key, in memory order, with zeros in place of what lies behind it.
 * Eight bytes are readable at `key`. */
static inline uint64_t field_trie_head(const char *key, size_t length)
{
    uint64_t head;
    memcpy(&head, key, sizeof head);
    if (length >= sizeof head)
        return head;
    if (length == 0)
        return 0;
    unsigned unused_bits = 64 - 8 * (unsigned)length;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return head << unused_bits >> unused_bits;
#else
    return head >> unused_bits << unused_bits;
#endif
}

/* field_trie_find's way when its guess was wrong. `head` is field_trie_head of the key. */
struct field_trie *field_trie_lookup(const struct field_trie *node, uint64_t head, const char *key,
                                     size_t length);

/* The child of `node` with that name, or NULL. *guess is the follower or first_member that belongs
 * to the place in the record; it is corrected. FIELD_TRIE_KEY_PADDING_BYTES are readable behind
 * the key. */
static inline struct field_trie *field_trie_find(const struct field_trie *node,
                                                 struct field_trie **guess, const char *key,
                                                 size_t length)
{
    struct field_trie *child = *guess;
    uint64_t head = field_trie_head(key, length);
    if (child != NULL && child->name_length == length && child->head == head &&
        (length <= sizeof head ||
         memcmp(child->name + sizeof head, key + sizeof head, length - sizeof head) == 0))
        return child;
    child = field_trie_lookup(node, head, key, length);
    if (child != NULL)
        *guess = child;
    return child;
}

#endif
