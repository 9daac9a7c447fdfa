/* Windows of event time: see window.h. Pure; any thread. */
#include "core/window.h"

#include <string.h>

#include "core/duration.h"
#include "core/timestamp.h"

static enum status unknown_member(const json_t *json, const char *const *known, struct error *error)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)json, key, value)
    {
        bool found = strcmp(key, "description") == 0; /* known everywhere */
        for (size_t i = 0; known[i] != NULL; i++) {
            found = found || strcmp(known[i], key) == 0;
        }
        if (!found) {
            return error_set(error, STATUS_REJECT, "%s: unknown key", key);
        }
    }
    return STATUS_OK;
}

static enum status tumbling_from_json(const json_t *json, struct window *out, struct error *error)
{
    static const char *const known[] = {"type", "size", NULL};
    const json_t *size = json_object_get(json, "size");

    enum status status = unknown_member(json, known, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (!json_is_string(size) ||
        duration_parse(json_string_value(size), json_string_length(size), &out->size_us) !=
            DURATION_OK) {
        return error_set(error, STATUS_REJECT,
                         "size: wants a duration such as \"15m\", \"1h\" or \"1d\"");
    }
    if (out->size_us > 365000 * TIMESTAMP_US_PER_DAY) { /* window starts must be valid timestamptz */
        return error_set(error, STATUS_REJECT, "size: longer than 365,000 days");
    }
    out->kind = WINDOW_TUMBLING;
    return STATUS_OK;
}

enum status window_from_json(const json_t *json, struct window *out, struct error *error)
{
    static const struct {
        const char *name;
        enum status (*from_json)(const json_t *, struct window *, struct error *);
    } kinds[] = {{"tumbling", tumbling_from_json}};
    const char *type = json_string_value(json_object_get(json, "type"));

    if (!json_is_object(json)) {
        return error_set(error, STATUS_REJECT, "wants an object such as {\"type\": \"tumbling\", "
                                               "\"size\": \"1h\"}");
    }
    for (size_t i = 0; type != NULL && i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(type, kinds[i].name) == 0) {
            return kinds[i].from_json(json, out, error);
        }
    }
    return error_set(error, STATUS_REJECT, "type: wants \"tumbling\"");
}

int64_t window_start(const struct window *window, int64_t time_us)
{
    int64_t into = time_us % window->size_us;
    return time_us - (into < 0 ? into + window->size_us : into);
}

int64_t window_end(const struct window *window, int64_t start_us)
{
    return start_us + window->size_us;
}

bool window_is_rollup(const struct window *fine, const struct window *coarse)
{
    return coarse->size_us % fine->size_us == 0;
}
