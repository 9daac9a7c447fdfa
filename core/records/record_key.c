/* Keys of records: see core/records/record_key.h. */
#include "core/records/record_key.h"

#include <string.h>

bool record_key_field(const struct source *source, const char *name, size_t *out)
{
    for (size_t i = 0; i < source->field_count; i++) {
        if (strcmp(source->fields[i].name, name) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

enum status record_key_text(const struct event *event, size_t field, struct arena *arena,
                            const char **key, size_t *length, struct error *error)
{
    *key = NULL;
    *length = 0;
    if (event->fields[field].is_null)
        return STATUS_OK;
    *key = value_text(&event->fields[field], arena, length);
    return *key != NULL ? STATUS_OK : error_no_memory(error);
}
