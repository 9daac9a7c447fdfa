/* The SQL that recomputes a view from raw records, for `dovetail verify`.
 *
 * Texts only. Everything it creates is temporary: table verify_raw for the records, type
 * verify_event for one record's fields, and functions from the one to the other. */
#ifndef DOVETAIL_CLI_VERIFY_SQL_H
#define DOVETAIL_CLI_VERIFY_SQL_H

#include "core/definitions/definition.h"

/* Windows that start in [from_us, to_us) count. */
struct verify_range {
    int64_t from_us;
    int64_t to_us;
};

/* Settings, verify_raw (partition, offset, value) and the parsing functions. Caller frees each of
 * these texts; NULL when out of memory. */
char *verify_setup_sql(const struct source *source) MUST_CHECK;

/* verify_raw into verify_parsed: one row for each record that is neither for the dead-letter topic
 * nor a duplicate nor left out by drop_if_null. */
char *verify_parse_sql(const struct source *source) MUST_CHECK;

/* To be set once the records are parsed, for the statements below: arithmetic with the engine's
 * limits. */
extern const char verify_view_settings_sql[];

/* Drops from verify_parsed the records on which one of the view's expressions fails. */
char *verify_reject_sql(const struct view *view) MUST_CHECK;

/* The rows of the view as text: start and end of the window in microseconds (0 where there are no
 * windows), keys, measures. */
char *verify_rows_sql(const struct view *view, const struct verify_range *range) MUST_CHECK;

#endif
