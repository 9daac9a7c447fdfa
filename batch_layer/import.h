/* `dovetail-batch import`: files of historical records into the archive, as history from before the
 * topic. docs/ARCHITECTURE.md, "Imports", says how they meet the rest.
 *
 * Invariant: the import row of a file and the manifest rows of its segments are committed together,
 * after the segments are durable and the dead letters acknowledged. So a file is imported as a
 * whole or not at all, whatever is killed when; what an interrupted import left behind is removed
 * by the next one. A file whose content (decompressed) was imported before is not imported again.
 *
 * One import of a source at a time, by a lock that lives as long as the session; batch runs go on
 * meanwhile. Main thread. */
#ifndef DOVETAIL_BATCH_IMPORT_H
#define DOVETAIL_BATCH_IMPORT_H

#include "batch_layer/import_input.h"
#include "core/program/config.h"

struct import_options {
    const char *source;
    const char *const *files;
    size_t file_count;
    struct csv_mapping *mappings;
    size_t mapping_count;
    enum import_format format;
    bool dry_run; /* check every line, write nothing */
};

/* Imports the files one by one, telling the outcome of each on stdout. After a failure the files
 * before stay imported. STATUS_REJECT: the caller is at fault. */
enum status import_run(const struct config *config, const struct import_options *options,
                       struct error *error) MUST_CHECK;

/* The command: parses `arguments` (ends with NULL); returns the exit code. */
int import_command(const struct config *config, char *const *arguments);

#endif
