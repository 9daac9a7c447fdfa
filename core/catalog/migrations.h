/* Dovetail's own tables: the files of schemas/sql, compiled in, and which of them a database has.
 *
 * Invariant: a file that ran once is never changed; its checksum is kept in the table
 * dovetail_internal.migration and compared every time. */
#ifndef DOVETAIL_MIGRATIONS_H
#define DOVETAIL_MIGRATIONS_H

#include <stddef.h>

#include "core/postgres/postgres.h"

struct migration {
    const char *name; /* of the file, which sorts by it */
    const char *sql;  /* its text */
    size_t length;
};

/* Made by make/migrations.sh; in the order in which they run. */
extern const struct migration migrations[];
extern const size_t migration_count;

/* STATUS_OK when the database has exactly these migrations; STATUS_REJECT with what to do when some
 * are missing, were changed, or are unknown because a newer program made them. */
enum status migrations_check(struct postgres *postgres, struct error *error) MUST_CHECK;

/* Runs what is missing, all of it in one transaction or none. Several programs may do so at once.
 * STATUS_REJECT as above, and where the database cannot hold Dovetail. */
enum status migrations_run(struct postgres *postgres, bool *changed,
                           struct error *error) MUST_CHECK;

#endif
