/* Dropping what no retained run needs: see docs/ARCHITECTURE.md, "Slices and runs are dropped". */
#ifndef DOVETAIL_BATCH_RETENTION_H
#define DOVETAIL_BATCH_RETENTION_H

#include "core/postgres/postgres.h"

/* Keeps the newest `retained_runs` published runs, and the current one. In one transaction of its
 * own: drops the others, their batch rows, the closed slices below every retained cut-off and the
 * planned cuts there. */
enum status retention_apply(struct postgres *postgres, int64_t retained_runs,
                            struct error *error) MUST_CHECK;

#endif
