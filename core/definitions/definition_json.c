/* Reading definitions from JSON: names, strings and unknown keys. Pure; any thread. */
#include "core/definitions/definition_json.h"

#include <string.h>

#include "core/definitions/definition.h"

bool definition_name_is_valid(const char *name)
{
    size_t length = strlen(name);

    if (length == 0 || length > NAME_MAX_BYTES || name[0] < 'a' || name[0] > 'z') {
        return false;
    }
    return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == length;
}

enum status definition_check_keys(const json_t *json, const char *const *known, struct error *error)
{
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)json, key, value) {
        bool is_text = strcmp(key, "$schema") == 0 || strcmp(key, "description") == 0;
        bool found = strcmp(key, "description") == 0;
        for (size_t i = 0; known[i] != NULL && !found; i++) {
            found = strcmp(known[i], key) == 0;
        }
        if (!found) {
            return error_set(error, STATUS_REJECT, "%s: unknown key", key);
        }
        if (is_text && !json_is_string(value)) {
            return error_set(error, STATUS_REJECT, "%s: wants a text", key);
        }
    }
    return STATUS_OK;
}

enum status definition_get_string(const json_t *json, const char *key, const char *wanted,
                                  const char **out, struct error *error)
{
    const json_t *value = json_object_get(json, key);

    if (value == NULL) {
        return error_set(error, STATUS_REJECT, "%s: missing; wants %s", key, wanted);
    }
    if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value)) {
        return error_set(error, STATUS_REJECT, "%s: wants %s", key, wanted);
    }
    *out = json_string_value(value);
    return STATUS_OK;
}

enum status definition_get_name(const json_t *json, const char *key, struct arena *arena,
                                const char **out, struct error *error)
{
    const char *name = NULL;

    enum status status = definition_get_string(json, key, "a name", &name, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (!definition_name_is_valid(name)) {
        return error_set(
            error, STATUS_REJECT,
            "%s: \"%.60s\" is not a name: a lower-case letter, then up to 47 lower-case "
            "letters, digits and _",
            key, name);
    }
    *out = arena_copy(arena, name, strlen(name));
    return *out == NULL ? error_no_memory(error) : STATUS_OK;
}
