/* The SQL of a view version: its two tables of states and the view people read.
 *
 * Texts only: nothing here does I/O. The layout of the tables is described in catalog_tables.c. */
#ifndef DOVETAIL_CATALOG_TABLES_H
#define DOVETAIL_CATALOG_TABLES_H

#include "core/definitions/definition.h"

/* CREATE TABLE and CREATE INDEX for batch_<version> and speed_<version>. Caller frees; NULL when
 * out of memory. */
char *catalog_tables_sql(const struct view *view, int version) MUST_CHECK;

/* DROP TABLE for both. */
char *catalog_tables_drop_sql(int version) MUST_CHECK;

/* CREATE OR REPLACE VIEW dovetail.<view>, which reads `version`'s tables; lookups must be bound. */
char *catalog_view_sql(const struct view *view, int version) MUST_CHECK;

/* COMMENT ON the view and its columns. */
char *catalog_view_comments_sql(const struct view *view) MUST_CHECK;

/* The columns of dovetail.<view> in order, "name type" each, comma-separated: two versions with
 * equal text can replace each other without dropping the SQL view. */
char *catalog_view_signature(const struct view *view) MUST_CHECK;

#endif
