/* The tree of member names: see core/records/field_trie.h. */
#include "core/records/field_trie.h"

#include <assert.h>

static const int32_t NO_LEAF = -1;

static struct field_trie *node_create(struct arena *arena, const char *name)
{
    struct field_trie *node = arena_alloc(arena, sizeof *node);
    if (node == NULL)
        return NULL;
    *node = (struct field_trie){
        .name = name,
        .name_length = strlen(name),
        .leaf = NO_LEAF,
    };
    char padded[sizeof node->head] = {0};
    memcpy(padded, name, node->name_length < sizeof padded ? node->name_length : sizeof padded);
    node->head = field_trie_head(padded, node->name_length);
    return node;
}

static struct field_trie *child_of(struct field_trie *node, struct arena *arena, const char *name)
{
    struct field_trie **end = &node->children;
    for (; *end != NULL; end = &(*end)->sibling) {
        if (strcmp((*end)->name, name) == 0)
            return *end;
    }
    *end = node_create(arena, name);
    node->child_count += *end != NULL;
    return *end;
}

static uint32_t hash(uint64_t head, size_t length)
{
    return (uint32_t)(((head ^ length) * UINT64_C(0x9E3779B97F4A7C15)) >> 32);
}

struct field_trie *field_trie_lookup(const struct field_trie *node, uint64_t head, const char *key,
                                     size_t length)
{
    if (node->table == NULL)
        return NULL;
    for (uint32_t slot = hash(head, length);; slot++) {
        struct field_trie *child = node->table[slot & node->table_mask];
        if (child == NULL || (child->name_length == length && child->head == head &&
                              memcmp(child->name, key, length) == 0))
            return child;
    }
}

/* At most half full, so that a search ends. */
static bool table_create(struct field_trie *node, struct arena *arena)
{
    uint32_t slots = 2;
    while (slots < 2 * node->child_count)
        slots *= 2;
    node->table = arena_alloc(arena, slots * sizeof *node->table);
    if (node->table == NULL)
        return false;
    memset(node->table, 0, slots * sizeof *node->table);
    node->table_mask = slots - 1;
    for (struct field_trie *child = node->children; child != NULL; child = child->sibling) {
        uint32_t slot = hash(child->head, child->name_length);
        while (node->table[slot & node->table_mask] != NULL)
            slot++;
        node->table[slot & node->table_mask] = child;
    }
    return true;
}

/* Numbers the leaves in pre-order, as `below` ranges need, and builds the tables. The recursion is
 * as deep as the longest path of a definition. */
static bool finish(struct field_trie *node, struct arena *arena, uint32_t *leaf_count)
{
    if (node->leaf != NO_LEAF)
        node->leaf = (int32_t)(*leaf_count)++;
    node->below_begin = *leaf_count;
    for (struct field_trie *child = node->children; child != NULL; child = child->sibling) {
        if (!finish(child, arena, leaf_count))
            return false;
    }
    node->below_end = *leaf_count;
    return node->children == NULL || table_create(node, arena);
}

struct field_trie *field_trie_create(const struct source *source, struct arena *arena,
                                     uint32_t *leaf_of_field, uint32_t *leaf_count)
{
    *leaf_count = 0;
    struct field_trie *root = node_create(arena, "");
    struct field_trie **ends = arena_alloc(arena, (source->field_count + 1) * sizeof *ends);
    if (root == NULL || ends == NULL)
        return NULL;
    size_t count = source->field_count - source->derived_count;
    for (size_t i = 0; i < count; i++) {
        const struct source_field *field = &source->fields[i];
        assert(field->path_count > 0);
        ends[i] = root;
        for (size_t step = 0; step < field->path_count; step++) {
            ends[i] = child_of(ends[i], arena, field->path[step]);
            if (ends[i] == NULL)
                return NULL;
        }
        ends[i]->leaf = 0; /* some field ends here; finish() gives the number */
    }
    if (!finish(root, arena, leaf_count))
        return NULL;
    for (size_t i = 0; i < count; i++)
        leaf_of_field[i] = (uint32_t)ends[i]->leaf;
    return root;
}
