/* A bump allocator: many small allocations that die together.
 *
 * Owner: whoever created it; one thread at a time. Memory is never moved, so pointers stay good
 * until arena_reset or arena_deinit. */
#ifndef DOVETAIL_ARENA_H
#define DOVETAIL_ARENA_H

#include "core/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first */
    char *next;
    char *end;
    size_t reserved_bytes; /* of all blocks together */
};

void arena_init(struct arena *arena);
void arena_deinit(struct arena *arena); /* accepts a zeroed or already deinitialised arena */

/* `bytes` of uninitialised memory, aligned to 16; NULL when out of memory. */
void *arena_alloc(struct arena *arena, size_t bytes) MUST_CHECK;

/* A copy of `bytes` bytes, with a terminating 0 behind it; NULL when out of memory. */
char *arena_copy(struct arena *arena, const void *data, size_t bytes) MUST_CHECK;

/* Forgets every allocation, keeps the largest block for reuse. */
void arena_reset(struct arena *arena);

#ifdef __cplusplus
}
#endif
#endif
