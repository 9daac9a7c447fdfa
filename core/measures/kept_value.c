/* One value that a state keeps: see kinds.h. */
#include <string.h>

#include "core/measures/kinds.h"

static enum status keep_string(struct kept_value *kept, const struct value *value,
                               struct arena *arena, struct error *error)
{
    size_t length = value->string.length;

    if (length > kept->capacity || kept->buffer == NULL) {
        size_t capacity = length < 32 ? 32 : length * 2;
        kept->buffer = arena_alloc(arena, capacity);
        kept->capacity = kept->buffer == NULL ? 0 : capacity;
        if (kept->buffer == NULL) {
            return error_no_memory(error);
        }
    }
    if (length != 0) {
        memcpy(kept->buffer, value->string.data, length);
    }
    kept->value = value_string(kept->buffer, length);
    return STATUS_OK;
}

enum status kept_value_set(struct kept_value *kept, const struct value *value, struct arena *arena,
                           struct error *error)
{
    if (value->type == VALUE_STRING && !value->is_null) {
        return keep_string(kept, value, arena, error);
    }
    kept->value = *value;
    if (value->type == VALUE_DECIMAL && !value->is_null) {
        kept->value.decimal = decimal_trim(&value->decimal);
    }
    return STATUS_OK;
}
