/* Window and keys of a received row of states, as the bytes by which groups are found. */
#ifndef DOVETAIL_BATCH_ROW_KEY_H
#define DOVETAIL_BATCH_ROW_KEY_H

#include "core/groups.h"

struct row_key {
    int64_t window_start_us;
    size_t length; /* SIZE_MAX: no group that was folded has such a key */
    unsigned char bytes[VIEW_KEY_MAX * VALUE_KEY_FIXED_BYTES + KEY_BYTES_MAX];
};

/* `fields` begin with window_start. */
enum status row_key_read(const struct view *view, const struct pgbinary_field *fields,
                         struct row_key *out, struct error *error) MUST_CHECK;

#endif
