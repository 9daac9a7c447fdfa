/* Files of the archive that a process left which did not live to finish them.
 *
 * Invariant: no file that a manifest row names is touched, and none that may be the only copy of
 * its records is removed. Unfinished files go. A finished one without a manifest row goes where
 * the manifest or Kafka has all its offsets; where Kafka has lost the next offset by its retention
 * and the file begins there, it gets its row, if it is sound and masked as the source says now; any
 * other stays and is named in a warning. Then a tool that reads the whole folder counts every
 * record once.
 *
 * Under the batch lock, over the connection that holds it, while no segment is open. */
#ifndef DOVETAIL_BATCH_LEFTOVERS_H
#define DOVETAIL_BATCH_LEFTOVERS_H

#include "batch_layer/archiver.h"

/* Each partition's archived_end and log_end are known, and lows has where its log begins. *adopted:
 * the manifest has grown. */
enum status leftovers_clear(const struct config *config, struct postgres *postgres,
                            const struct catalog *catalog,
                            const struct archiver_partition *partitions, size_t count,
                            const int64_t *lows, bool *adopted, struct error *error) MUST_CHECK;

#endif
