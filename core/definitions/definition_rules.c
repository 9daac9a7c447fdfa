/* What a source says about its records beyond their fields: which are masked, what is derived from
 * them, which are left out, which are duplicates.
 *
 * Pure. A fault names the key; the caller adds the file. */
#include <string.h>

#include "core/definitions/definition.h"
#include "core/definitions/definition_json.h"
#include "core/records/recent_ids.h"

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

/* --- mask --- */

static bool is_masked(const struct source *source, size_t index)
{
    for (size_t i = 0; i < source->mask_count; i++)
        if (source->mask_fields[i] == index)
            return true;
    return false;
}

static enum status load_masked(const struct source *source, const json_t *json, size_t *index,
                               struct error *error)
{
    const char *name = json_string_value(json);
    if (name == NULL)
        return error_set(error, STATUS_REJECT, "wants a field's name");
    if (!find_field(source, name, index))
        return error_set(error, STATUS_REJECT, "there is no field \"%.60s\" in \"fields\"", name);
    const struct source_field *field = &source->fields[*index];
    if (field->type != VALUE_STRING)
        return error_set(error, STATUS_REJECT, "field \"%s\" is of type %s; strings are masked",
                         name, value_type_name(field->type));
    if (*index == source->event_time_field)
        return error_set(error, STATUS_REJECT, "field \"%s\" is the event's time", name);
    if (is_masked(source, *index))
        return error_set(error, STATUS_REJECT, "field \"%s\" is named twice", name);
    return STATUS_OK;
}

static bool same_path(const struct source_field *a, const struct source_field *b)
{
    bool same = a->path_count == b->path_count;
    for (size_t i = 0; same && i < a->path_count; i++)
        same = strcmp(a->path[i], b->path[i]) == 0;
    return same;
}

/* What is masked under one name must not be read under another. */
static enum status check_paths(const struct source *source, struct error *error)
{
    for (size_t m = 0; m < source->mask_count; m++) {
        const struct source_field *masked = &source->fields[source->mask_fields[m]];
        for (size_t i = 0; i < source->field_count; i++) {
            const struct source_field *field = &source->fields[i];
            if (!is_masked(source, i) && same_path(field, masked))
                return error_set(error, STATUS_REJECT,
                                 "fields: field \"%s\" has the path of \"%s\" and is not masked",
                                 field->name, masked->name);
        }
    }
    return STATUS_OK;
}

static enum status load_masked_fields(struct source *source, const json_t *json,
                                      struct error *error)
{
    size_t count = json_array_size(json);
    if (!json_is_array(json) || count == 0 || count > SOURCE_MASK_MAX)
        return error_set(error, STATUS_REJECT, "fields: wants an array of 1 to %d fields' names",
                         SOURCE_MASK_MAX);
    size_t *indexes = arena_alloc(&source->arena, count * sizeof *indexes);
    if (indexes == NULL)
        return error_no_memory(error);
    source->mask_fields = indexes;
    for (size_t i = 0; i < count; i++, source->mask_count++)
        if (load_masked(source, json_array_get(json, i), &indexes[i], error) != STATUS_OK)
            return error_wrap(error, "fields[%zu]", i);
    return check_paths(source, error);
}

static enum status load_mask(struct source *source, const json_t *json, struct error *error)
{
    static const char *const known[] = {"fields", "key_file", "key", NULL};
    const json_t *key = json_object_get(json, "key");
    const char *path = NULL;
    if (!json_is_object(json))
        return error_set(error, STATUS_REJECT, "wants an object with \"fields\" and \"key_file\"");
    enum status status = definition_check_keys(json, known, error);
    if (status == STATUS_OK)
        status = load_masked_fields(source, json_object_get(json, "fields"), error);
    if (status == STATUS_OK)
        status = definition_get_string(json, "key_file", "the path of a file", &path, error);
    if (status != STATUS_OK)
        return status;
    if (path[0] != '/')
        return error_set(error, STATUS_REJECT, "key_file: wants a path that begins with /");
    if (key != NULL && !json_is_boolean(key))
        return error_set(error, STATUS_REJECT, "key: wants true or false");
    source->mask_key = json_is_true(key);
    source->mask_key_file = arena_copy(&source->arena, path, strlen(path));
    return source->mask_key_file == NULL ? error_no_memory(error) : STATUS_OK;
}

/* --- derive --- */

static enum status load_derived(struct source *source, const char *name, const json_t *json,
                                struct error *error)
{
    size_t index;
    if (!definition_name_is_valid(name))
        return error_set(
            error, STATUS_REJECT,
            "not a name: a lower-case letter, then up to 47 lower-case letters, digits "
            "and _");
    if (find_field(source, name, &index))
        return error_set(error, STATUS_REJECT, "there is a field of that name already");
    if (!json_is_string(json) || strlen(json_string_value(json)) != json_string_length(json))
        return error_set(error, STATUS_REJECT, "wants an SQL expression");
    struct source_derived *derived = &source->derived[source->derived_count];
    struct source_field field = {.name = arena_copy(&source->arena, name, strlen(name))};
    derived->text = arena_copy(&source->arena, json_string_value(json), json_string_length(json));
    if (field.name == NULL || derived->text == NULL)
        return error_no_memory(error);
    enum status status = expression_create(derived->text, source, &derived->expression, error);
    if (status != STATUS_OK)
        return status;
    field.type = expression_type(derived->expression);
    field.nullable = expression_is_nullable(derived->expression, source);
    ((struct source_field *)source->fields)[source->field_count++] = field;
    source->derived_count++;
    return STATUS_OK;
}

static enum status load_derive(struct source *source, json_t *json, struct error *error)
{
    const char *name;
    json_t *text;
    if (!json_is_object(json))
        return error_set(error, STATUS_REJECT,
                         "derive: wants an object with names and SQL expressions");
    if (source->field_count + json_object_size(json) > SOURCE_FIELD_MAX)
        return error_set(error, STATUS_REJECT, "derive: more than %d fields", SOURCE_FIELD_MAX);
    source->derived =
        arena_alloc(&source->arena, (json_object_size(json) + 1) * sizeof *source->derived);
    if (source->derived == NULL)
        return error_no_memory(error);
    json_object_foreach (json, name, text)
        if (load_derived(source, name, text, error) != STATUS_OK)
            return error_wrap(error, "derive.%.60s", name);
    return STATUS_OK;
}

/* --- drop_if_null --- */

static enum status load_dropped(struct source *source, const json_t *json, size_t *index,
                                struct error *error)
{
    const char *name = json_string_value(json);
    if (name == NULL)
        return error_set(error, STATUS_REJECT, "wants a field's name");
    if (!find_field(source, name, index))
        return error_set(error, STATUS_REJECT, "there is no field \"%.60s\"", name);
    if (!source->fields[*index].nullable)
        return error_set(error, STATUS_REJECT, "field \"%s\" is never NULL", name);
    return STATUS_OK;
}

static enum status load_drop_if_null(struct source *source, const json_t *json, struct error *error)
{
    size_t count = json_array_size(json);
    if (!json_is_array(json) || count == 0 || count > SOURCE_FIELD_MAX)
        return error_set(error, STATUS_REJECT, "drop_if_null: wants an array of fields' names");
    size_t *indexes = arena_alloc(&source->arena, count * sizeof *indexes);
    if (indexes == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < count; i++)
        if (load_dropped(source, json_array_get(json, i), &indexes[i], error) != STATUS_OK)
            return error_wrap(error, "drop_if_null[%zu]", i);
    source->drop_if_null = indexes;
    source->drop_if_null_count = count;
    return STATUS_OK;
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
    json_t *derive = json_object_get(source->json, "derive");
    const json_t *drop_if_null = json_object_get(source->json, "drop_if_null");
    const json_t *dedupe = json_object_get(source->json, "dedupe");
    const json_t *mask = json_object_get(source->json, "mask");
    if (mask != NULL && load_mask(source, mask, error) != STATUS_OK)
        return error_wrap(error, "mask");
    enum status status = derive == NULL ? STATUS_OK : load_derive(source, derive, error);
    if (status == STATUS_OK && drop_if_null != NULL)
        status = load_drop_if_null(source, drop_if_null, error);
    if (status == STATUS_OK && dedupe != NULL && load_dedupe(source, dedupe, error) != STATUS_OK)
        return error_wrap(error, "dedupe");
    return status;
}
