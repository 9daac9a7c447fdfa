/* What a live stream has told its reader, and the events that tell what is new.
 *
 * Invariant: whoever applies the events in order (a snapshot replaces everything; of "rows" each of
 * `rows` replaces or adds the row of its window and keys, each of `removed` takes one away) has
 * exactly the rows of the answer whose receipt came last. Pure; one thread at a time. */
#ifndef DOVETAIL_SERVING_LIVE_ROWS_H
#define DOVETAIL_SERVING_LIVE_ROWS_H

#include "core/query/query.h"

enum { LIVE_ID_SIZE = 33 }; /* question and state, 16 hexadecimal digits each */

/* The rows of one answer, as text. Zeroed: none were told yet. */
struct live_rows {
    bool known;
    char *text;
    struct query_row_text *rows;
    size_t *order; /* indexes into rows, by identity */
    size_t count;
    size_t bytes; /* of memory */
};

void live_rows_deinit(struct live_rows *rows);
/* STATUS_FATAL: out of memory. */
enum status live_rows_make(const struct query_answer *answer, struct live_rows *out,
                           struct error *error) MUST_CHECK;

/* From `told` to `now`, as the text of an event: "snapshot" where nothing was told, else "rows";
 * NULL in *event where no row is other. */
enum status live_rows_event(const struct live_rows *told, const struct live_rows *now,
                            const struct query_receipt *receipt, const char *id, char **event,
                            size_t *length, struct error *error) MUST_CHECK;
/* An event "receipt": nothing but where the answer stands. NULL: out of memory. */
char *live_receipt_event(const struct query_receipt *receipt, const char *id,
                         size_t *length) MUST_CHECK;

#endif
