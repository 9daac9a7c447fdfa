/* Shared by the files of the catalogue. */
#ifndef DOVETAIL_CATALOG_INTERNAL_H
#define DOVETAIL_CATALOG_INTERNAL_H

#include "core/catalog/catalog.h"

/* Definitions as the database has them. On failure *out, *source and *view are NULL. */
enum status catalog_parse_source(const char *text, struct source **out,
                                 struct error *error) MUST_CHECK;
enum status catalog_parse_version(const char *view_text, const char *source_text,
                                  struct source **source, struct view **view,
                                  struct error *error) MUST_CHECK;

/* Does the view compute here what it was registered for? STATUS_REJECT with what to do. */
enum status catalog_check_engine(const struct view *view, const char *registered,
                                 struct error *error) MUST_CHECK;

/* In a transaction: makes dovetail.<view> and the lookups' views anew for a version that is
 * current, bound to `binding`. */
enum status catalog_rebind(struct postgres *postgres, int version, struct view *view,
                           const char *binding, struct error *error) MUST_CHECK;

/* Retires the version of a view that is in this state ("current" or "building"), if there is one.
 * From the commit on the layers stop folding it: whoever still does finds out by a notification,
 * which the caller sends, or by its tables being gone. */
enum status catalog_retire(struct postgres *postgres, const char *view, const char *state,
                           struct error *error) MUST_CHECK;

enum status catalog_drop_sql_view(struct postgres *postgres, const char *view,
                                  struct error *error) MUST_CHECK;
/* The views that a view's lookups were made into: of every version, or of all but `kept`. */
enum status catalog_drop_lookups(struct postgres *postgres, const char *view, int kept,
                                 struct error *error) MUST_CHECK;

#endif
