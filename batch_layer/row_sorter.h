/* Rows that come in any order, to be read in theirs (row_stream.h), within a bound of memory:
 * beyond it they are sorted and spilled. What PostgreSQL has of a version is brought beside the
 * run's groups so, whatever order it comes in.
 *
 * One thread. After a failure the sorter can only be destroyed. */
#ifndef DOVETAIL_BATCH_ROW_SORTER_H
#define DOVETAIL_BATCH_ROW_SORTER_H

#include "batch_layer/row_stream.h"
#include "core/postgres/postgres.h"

struct row_sorter;

enum status row_sorter_create(const struct view *view, struct spill *spill, size_t memory_bytes,
                              struct row_sorter **out, struct error *error) MUST_CHECK;
void row_sorter_destroy(struct row_sorter *sorter); /* accepts NULL */

/* Copies the row. */
enum status row_sorter_add(struct row_sorter *sorter, const struct row *row,
                           struct error *error) MUST_CHECK;
/* Rows of states by COPY: window_start and what follows, behind the row's id where `with_id`.
 * STATUS_RETRY "stopped" when the program is stopping. A row whose keys no group can have gets
 * none. */
enum status row_sorter_read(struct row_sorter *sorter, struct postgres *postgres, const char *sql,
                            bool with_id, struct error *error) MUST_CHECK;
/* No more rows. What is kept in memory from now on is at the most `memory_bytes`. */
enum status row_sorter_finish(struct row_sorter *sorter, size_t memory_bytes,
                              struct error *error) MUST_CHECK;

bool row_sorter_is_empty(const struct row_sorter *sorter);
/* A stream of all rows, none of them merged; any number of times, one after the other. */
enum status row_sorter_rows(const struct row_sorter *sorter, struct row_stream **out,
                            struct error *error) MUST_CHECK;

#endif
