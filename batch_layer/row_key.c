/* Window and keys of a row: see row_key.h. Pure. */
#include "batch_layer/row_key.h"

enum status row_key_read(const struct view *view, const struct pgbinary_field *fields,
                         struct row_key *out, struct error *error)
{
    out->length = 0;
    enum status status = pgbinary_get_timestamp(&fields[0], &out->window_start_us, error);
    for (size_t i = 0; status == STATUS_OK && i < view->key_count; i++) {
        struct value value;
        status = pgbinary_get_value(&fields[1 + i], expression_type(view->keys[i].expression),
                                    &value, error);
        if (status != STATUS_OK)
            break;
        if (value_key_size(&value) > sizeof out->bytes - out->length) {
            out->length = SIZE_MAX;
            break;
        }
        out->length += value_key_encode(&value, out->bytes + out->length);
    }
    return status;
}
