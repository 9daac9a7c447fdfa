/* Memory for large tables: see core/base/pages.h. Any thread. */
#include "core/base/pages.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void *pages_alloc(size_t bytes)
{
    void *memory;
    if (bytes < PAGES_HUGE_BYTES)
        return malloc(bytes);
    if (posix_memalign(&memory, PAGES_HUGE_BYTES, bytes) != 0)
        return NULL;
    /* Advice: a system without huge pages has other ones. A page in part would be there in full. */
    (void)madvise(memory, bytes & ~((size_t)PAGES_HUGE_BYTES - 1), MADV_HUGEPAGE);
    return memory;
}

void *pages_alloc_zeroed(size_t bytes)
{
    if (bytes < PAGES_HUGE_BYTES)
        return calloc(1, bytes);
    void *memory = pages_alloc(bytes);
    if (memory != NULL)
        memset(memory, 0, bytes);
    return memory;
}
