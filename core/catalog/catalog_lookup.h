/* Lookups in the database: which tables and columns a view's lookups mean.
 *
 * A lookup is bound when its view version becomes current, or when `dovetail init` finds that it
 * means something else than before: the names are looked up, and the view
 * dovetail_internal.lookup_<version>_<number> is made over what they mean then. dovetail.<view> and
 * core/query/query both join that view, so they read the same table and the same columns even where
 * somebody has renamed them since. The binding is kept as text in view_version.lookups: equal
 * texts are equal bindings.
 *
 * Rights: the views belong to whoever ran `dovetail init`, and PostgreSQL checks that role's rights
 * on the reference tables, not the reader's. */
#ifndef DOVETAIL_CATALOG_LOOKUP_H
#define DOVETAIL_CATALOG_LOOKUP_H

#include <stdio.h>

#include "core/definitions/definition.h"
#include "core/postgres/postgres.h"

/* What the lookups mean now. *binding is the caller's (free); NULL where the view has none.
 * STATUS_REJECT names the lookup and what is wrong with the table: it is missing, or a column is,
 * or the right to read one, or a unique index on the column of the key. */
enum status catalog_lookups_resolve(struct postgres *postgres, const struct view *view,
                                    char **binding, struct error *error) MUST_CHECK;

/* Takes types and collations from a binding into a view with the same lookups. Pure. */
enum status catalog_lookups_bind(struct view *view, const char *binding,
                                 struct error *error) MUST_CHECK;

/* CREATE VIEW for every lookup of a bound view. Caller frees; NULL when out of memory. */
char *catalog_lookups_sql(const struct view *view, int version) MUST_CHECK;

/* dovetail_internal.lookup_<version>_<number>; `out` has CATALOG_NAME_BYTES. */
void catalog_lookup_view(int version, const struct view_lookup *lookup, char *out);

/* " LEFT JOIN dovetail_internal.lookup_... AS l<number> ON ..." of a bound lookup; the keys are
 * columns of `row`. */
void catalog_lookup_put_join(FILE *out, const struct view *view, const struct view_lookup *lookup,
                             int version, const char *row);

#endif
