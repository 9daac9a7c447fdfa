/* What a source says about its records beyond their fields: which are duplicates.
 *
 * Pure. A fault names the key; the caller adds the file. */
#include <string.h>

#include "core/definition.h"
#include "core/definition_json.h"
#include "core/recent_ids.h"

static bool find_field(const struct source *source, const char *name, size_t *index)
{
    for (size_t i = 0; i < source->field_count; i++) {
        if (strcmp(source->fields[i].name, name) == 0) {
            *index = i;
            return true;
        }
    }
    return false;
}

/* --- dedupe --- */

static enum status load_id(struct source *source, const json_t *json, struct error *error)
{
    const char *name = NULL;
    enum status status = definition_get_string(json, "field", "a field's name", &name, error);
    if (status != STATUS_OK)
        return status;
    if (!find_field(source, name, &source->dedupe_field))
        return error_set(error, STATUS_REJECT, "field: there is no field \"%.60s\"", name);
    enum value_type type = source->fields[source->dedupe_field].type;
    if (type != VALUE_STRING && type != VALUE_INTEGER)
        return error_set(error, STATUS_REJECT,
                         "field: \"%s\" is of type %s; an id is a string or an integer", name,
                         value_type_name(type));
    return STATUS_OK;
}

static enum status load_dedupe(struct source *source, const json_t *json, struct error *error)
{
    static const char *const known[] = {"field", "within", NULL};
    if (!json_is_object(json))
        return error_set(error, STATUS_REJECT, "wants an object with \"field\" and \"within\"");
    enum status status = definition_check_keys(json, known, error);
    if (status == STATUS_OK)
        status = load_id(source, json, error);
    if (status != STATUS_OK)
        return status;
    const json_t *within = json_object_get(json, "within");
    json_int_t offsets = json_integer_value(within);
    if (!json_is_integer(within) || offsets < 1 || offsets > RECENT_IDS_WITHIN_MAX)
        return error_set(error, STATUS_REJECT,
                         "within: wants a number of offsets, an integer from 1 to %d",
                         (int)RECENT_IDS_WITHIN_MAX);
    source->dedupe_within = offsets;
    return STATUS_OK;
}

/* --- all of them --- */

enum status definition_load_rules(struct source *source, struct error *error)
{
    const json_t *dedupe = json_object_get(source->json, "dedupe");
    if (dedupe != NULL && load_dedupe(source, dedupe, error) != STATUS_OK)
        return error_wrap(error, "dedupe");
    return STATUS_OK;
}
