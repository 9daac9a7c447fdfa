/* A bump allocator: see core/base/arena.h.
 *
 * Invariant: [next, end) is the unused rest of the newest block, and every pointer handed out lies
 * in some block of the list until the next reset. One thread at a time. When malloc fails the call
 * answers NULL and the arena stays as it was.
 *
 * Under AddressSanitizer unused and forgotten bytes are poisoned, so that reading past one
 * allocation into the next, or after a reset, is found as it would be with malloc. */
#include "core/base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/pages.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISON(address, bytes) ASAN_POISON_MEMORY_REGION(address, bytes)
#define UNPOISON(address, bytes) ASAN_UNPOISON_MEMORY_REGION(address, bytes)
#else
#define POISON(address, bytes) ((void)(address), (void)(bytes))
#define UNPOISON(address, bytes) ((void)(address), (void)(bytes))
#endif

enum {
    ALIGNMENT = 16,
    FIRST_BLOCK_BYTES = 4 * 1024,
    LARGEST_GROWN_BLOCK_BYTES = 1024 * 1024, /* bigger ones only for one big allocation, */
    MANY_BYTES = 16 * 1024 * 1024, /* or where there is as much: then of PAGES_HUGE_BYTES */
};

struct arena_block {
    struct arena_block *older;
    size_t bytes; /* usable, behind this header */
};

_Static_assert(sizeof(struct arena_block) % ALIGNMENT == 0, "the memory behind it is aligned");
_Static_assert(_Alignof(max_align_t) >= ALIGNMENT, "malloc's memory is aligned");

static char *block_memory(struct arena_block *block)
{
    return (char *)block + sizeof *block;
}

static void use_block(struct arena *arena, struct arena_block *block)
{
    arena->next = block_memory(block);
    arena->end = arena->next + block->bytes;
    POISON(arena->next, block->bytes);
}

static void free_block(struct arena *arena, struct arena_block *block)
{
    arena->reserved_bytes -= sizeof *block + block->bytes;
    UNPOISON(block_memory(block), block->bytes);
    free(block);
}

void arena_init(struct arena *arena)
{
    *arena = (struct arena){0};
}

void arena_deinit(struct arena *arena)
{
    while (arena->blocks != NULL) {
        struct arena_block *block = arena->blocks;
        arena->blocks = block->older;
        free_block(arena, block);
    }
    *arena = (struct arena){0};
}

static bool add_block(struct arena *arena, size_t needed)
{
    size_t bytes = FIRST_BLOCK_BYTES;
    if (arena->blocks != NULL && arena->blocks->bytes >= FIRST_BLOCK_BYTES / 2)
        bytes = 2 * (sizeof(struct arena_block) + arena->blocks->bytes);
    if (bytes > LARGEST_GROWN_BLOCK_BYTES)
        bytes = LARGEST_GROWN_BLOCK_BYTES;
    if (arena->reserved_bytes >= MANY_BYTES)
        bytes = PAGES_HUGE_BYTES;
    bytes -= sizeof(struct arena_block);
    if (bytes < needed)
        bytes = needed;
    struct arena_block *block = pages_alloc(sizeof *block + bytes);
    if (block == NULL)
        return false;
    *block = (struct arena_block){.older = arena->blocks, .bytes = bytes};
    arena->blocks = block;
    arena->reserved_bytes += sizeof *block + bytes;
    use_block(arena, block);
    return true;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    if (bytes > PTRDIFF_MAX / 2)
        return NULL;
    /* Nothing at all also gets an address of its own. */
    size_t rounded = bytes == 0 ? ALIGNMENT : (bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    if (rounded > (size_t)(arena->end - arena->next) && !add_block(arena, rounded))
        return NULL;
    void *memory = arena->next;
    arena->next += rounded;
    UNPOISON(memory, bytes);
    return memory;
}

char *arena_copy(struct arena *arena, const void *data, size_t bytes)
{
    if (bytes >= PTRDIFF_MAX / 2)
        return NULL;
    char *copy = arena_alloc(arena, bytes + 1);
    if (copy == NULL)
        return NULL;
    if (bytes > 0)
        memcpy(copy, data, bytes);
    copy[bytes] = '\0';
    return copy;
}

void arena_reset(struct arena *arena)
{
    struct arena_block *kept = arena->blocks;
    if (kept == NULL)
        return;
    for (struct arena_block *block = kept->older; block != NULL; block = block->older)
        if (block->bytes > kept->bytes)
            kept = block;
    struct arena_block *block = arena->blocks;
    while (block != NULL) {
        struct arena_block *older = block->older;
        if (block != kept)
            free_block(arena, block);
        block = older;
    }
    kept->older = NULL;
    arena->blocks = kept;
    use_block(arena, kept);
}
