/* Memory for large tables that are read and written here and there.
 *
 * Where the system has huge pages, they are asked for: a table of many megabytes is met in as many
 * places as it has entries, and with small pages most of the time goes into finding them. */
#ifndef DOVETAIL_PAGES_H
#define DOVETAIL_PAGES_H

#include <stddef.h>

#include "core/base/error.h"

enum { PAGES_HUGE_BYTES = 2 * 1024 * 1024 };

/* malloc; of PAGES_HUGE_BYTES and more begins on such a page, and is written to large pages where
 * the system grants them. NULL: out of memory. Freed by free(). */
void *pages_alloc(size_t bytes) MUST_CHECK;
/* The same, all zero. */
void *pages_alloc_zeroed(size_t bytes) MUST_CHECK;

#endif
