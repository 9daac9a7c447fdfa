/* Dead letters of an import: lines that are no records, or that a view fails on.
 *
 * Invariant: after import_letters_flush every letter that was added is acknowledged. They go out
 * before the import is committed, so one that is interrupted writes them again when it is repeated:
 * a letter occurs at least once, and is known by its headers dovetail.topic, dovetail.partition
 * (-1) and dovetail.offset, as others are. dovetail.import and dovetail.line say file and line.
 * Where the source has a mask the value is masked, or withheld where that cannot be done. One
 * thread. */
#ifndef DOVETAIL_BATCH_IMPORT_LETTERS_H
#define DOVETAIL_BATCH_IMPORT_LETTERS_H

#include "batch_layer/import_check.h"
#include "core/program/config.h"

struct import_letters;

/* Everything is borrowed. */
enum status import_letters_create(const struct config *config, const struct source *source,
                                  const char *file, struct import_letters **out,
                                  struct error *error) MUST_CHECK;
void import_letters_destroy(struct import_letters *letters); /* accepts NULL */

/* `value` is the record as it is archived: masked, or NULL where it has not the masked fields, or
 * is no record. */
enum status import_letters_add(struct import_letters *letters, const struct import_record *record,
                               const char *value, size_t length, int64_t offset,
                               const struct import_fault *fault, struct error *error) MUST_CHECK;
/* STATUS_RETRY: no broker has acknowledged them for a minute, or the program is stopping. */
enum status import_letters_flush(struct import_letters *letters, struct error *error) MUST_CHECK;

#endif
