/* What the registered definitions say of an imported record, so that a bad one can be dead-lettered
 * with the reason, as the speed layer does for the records of the topic.
 *
 * It decides nothing: a batch run folds whatever is archived by each version's own definition. (A
 * duplicate is not known as one here, so one that a view fails on is dead-lettered all the same.)
 * One thread. */
#ifndef DOVETAIL_BATCH_IMPORT_CHECK_H
#define DOVETAIL_BATCH_IMPORT_CHECK_H

#include "batch_layer/import_input.h"
#include "core/catalog/catalog.h"

enum { IMPORT_VIEWS_MAX = 16 };

struct import_fault {
    char reason[ERROR_TEXT_BYTES];
    const char *views[IMPORT_VIEWS_MAX]; /* those that refuse it; none: it is bad for all */
    size_t view_count;
};

struct import_check;

/* The source and the catalogue are borrowed. */
enum status import_check_create(const struct catalog *catalog, const struct source *source,
                                struct import_check **out, struct error *error) MUST_CHECK;
void import_check_destroy(struct import_check *check); /* accepts NULL */

/* *good, or why not. */
enum status import_check_record(struct import_check *check, const struct import_record *record,
                                bool *good, struct import_fault *fault,
                                struct error *error) MUST_CHECK;

#endif
