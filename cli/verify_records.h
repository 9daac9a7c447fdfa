/* The raw records behind an answer, from archive and Kafka into the temporary table verify_raw. */
#ifndef DOVETAIL_CLI_VERIFY_RECORDS_H
#define DOVETAIL_CLI_VERIFY_RECORDS_H

#include "core/program/config.h"
#include "core/query/query.h"

/* Where the source has a mask, records are masked before they are copied (cli/verify_mask.h).
 * Copies every record from each partition's base up to the receipt's position: below the archive's
 * end from its segments, the rest from Kafka. *count is their number. */
enum status verify_load_records(struct postgres *postgres, const struct config *config,
                                const struct source *source, const struct query_receipt *receipt,
                                int64_t *count, struct error *error) MUST_CHECK;

#endif
