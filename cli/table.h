/* A small table of texts for people: columns as wide as their widest cell. */
#ifndef DOVETAIL_CLI_TABLE_H
#define DOVETAIL_CLI_TABLE_H

#include <stddef.h>
#include <stdio.h>

#include "core/base/error.h"

enum { TABLE_COLUMN_MAX = 20 };

struct table;

/* `columns` are the heads, ended by NULL; one that begins with '>' is set flush right. NULL when
 * out of memory. */
struct table *table_create(const char *const *columns) MUST_CHECK;
void table_destroy(struct table *table); /* accepts NULL */

/* Adds a cell, row by row; the text is copied, NULL shows as "-". Memory is not checked here:
 * table_print does. */
void table_add(struct table *table, const char *text);
void table_addf(struct table *table, const char *format, ...) PRINTF_LIKE(2, 3);

/* False when memory ran out on the way. */
bool table_print(const struct table *table, FILE *out);

#endif
