/* The table of kinds of windows, and what they share: see core/windows/window.h. */
#include "core/windows/window.h"

#include <string.h>

#include "core/definitions/definition_json.h"
#include "core/groups.h"
#include "core/time/duration.h"
#include "core/time/timestamp.h"
#include "core/windows/kinds.h"

/* --- for the kinds --- */

int64_t window_floor(int64_t time_us, int64_t step_us)
{
    int64_t into = time_us % step_us;
    return time_us - (into < 0 ? into + step_us : into);
}

void window_bounds_of_pane(const struct view *view, const struct group *group, int64_t *start_us,
                           int64_t *end_us)
{
    *start_us = group->window_start_us;
    *end_us = window_pane_end(&view->window, group->window_start_us);
}

bool window_may_start(int64_t start_us)
{
    return start_us >= TIMESTAMP_MIN_US - WINDOW_MAX_US && start_us < TIMESTAMP_END_US;
}

enum status window_read_start(const struct pgbinary_field *field, int64_t *start_us,
                              struct error *error)
{
    enum status status = pgbinary_get_timestamp(field, start_us, error);
    if (status == STATUS_OK && !window_may_start(*start_us))
        return error_set(error, STATUS_FATAL, "stored state: a window that no event is in");
    return status;
}

/* --- from JSON --- */

enum { SIZE_TEXT_MAX = 32, HOPPING_PANES_MAX = 10000 };

static enum status get_duration(const json_t *json, const char *key, int64_t *out,
                                struct error *error)
{
    const json_t *value = json_object_get(json, key);
    if (!json_is_string(value) ||
        duration_parse(json_string_value(value), json_string_length(value), out) != DURATION_OK)
        return error_set(error, STATUS_REJECT,
                         "%s: wants a duration such as \"15m\", \"1h\" or \"1d\"", key);
    if (*out > WINDOW_MAX_US) /* window starts must be valid timestamptz */
        return error_set(error, STATUS_REJECT, "%s: longer than 365,000 days", key);
    return STATUS_OK;
}

static enum status get_zone(const json_t *json, struct arena *arena, const struct time_zone **out,
                            struct error *error)
{
    const json_t *zone = json_object_get(json, "timezone");
    if (zone == NULL) {
        *out = time_zone_utc();
        return STATUS_OK;
    }
    const char *name = json_string_value(zone);
    if (name == NULL || strlen(name) != json_string_length(zone))
        return error_set(error, STATUS_REJECT,
                         "timezone: wants a name such as \"America/New_York\"");
    if (time_zone_load(name, arena, out, error) != STATUS_OK)
        return error_wrap(error, "timezone");
    return STATUS_OK;
}

/* Months and years are calendar windows always, days and weeks where there is a time zone. */
static enum status tumbling_from_json(const json_t *json, struct arena *arena, struct window *out,
                                      struct error *error)
{
    const char *size = json_string_value(json_object_get(json, "size"));
    bool has_zone = json_object_get(json, "timezone") != NULL;
    bool is_calendar = size != NULL && calendar_parse_size(size, out);
    if (is_calendar && (has_zone || out->months > 0))
        return get_zone(json, arena, &out->zone, error);
    *out = (struct window){.kind = &window_tumbling};
    enum status status = get_duration(json, "size", &out->size_us, error);
    if (status == STATUS_OK && has_zone)
        status = error_set(error, STATUS_REJECT,
                           "timezone: only windows of whole days have one: \"1d\", \"1w\", \"1mo\" "
                           "or \"1y\"");
    return status;
}

static int64_t greatest_common_divisor(int64_t a, int64_t b)
{
    while (b != 0) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static enum status hopping_from_json(const json_t *json, struct arena *arena, struct window *out,
                                     struct error *error)
{
    (void)arena;
    enum status status = get_duration(json, "size", &out->size_us, error);
    if (status == STATUS_OK)
        status = get_duration(json, "slide", &out->slide_us, error);
    if (status != STATUS_OK)
        return status;
    if (out->slide_us > out->size_us)
        return error_set(error, STATUS_REJECT,
                         "slide: longer than the size: events between two windows would be lost");
    out->pane_us = greatest_common_divisor(out->size_us, out->slide_us);
    if (out->size_us / out->pane_us > HOPPING_PANES_MAX)
        return error_set(error, STATUS_REJECT,
                         "slide: with this size a window has more than %d panes, the greatest "
                         "common divisor of both",
                         HOPPING_PANES_MAX);
    out->kind = &window_hopping;
    return STATUS_OK;
}

static enum status session_from_json(const json_t *json, struct arena *arena, struct window *out,
                                     struct error *error)
{
    (void)arena;
    out->kind = &window_session;
    return get_duration(json, "gap", &out->size_us, error);
}

static enum status none_from_json(const json_t *json, struct arena *arena, struct window *out,
                                  struct error *error)
{
    (void)json, (void)arena, (void)error;
    out->kind = &window_none;
    return STATUS_OK;
}

static const struct {
    const char *name;
    const char *known[4];
    enum status (*from_json)(const json_t *, struct arena *, struct window *, struct error *);
} types[] = {
    {"tumbling", {"type", "size", "timezone", NULL}, tumbling_from_json},
    {"hopping", {"type", "size", "slide", NULL}, hopping_from_json},
    {"session", {"type", "gap", NULL}, session_from_json},
    {"none", {"type", NULL}, none_from_json},
};

enum status window_from_json(const json_t *json, struct arena *arena, struct window *out,
                             struct error *error)
{
    const char *type = json_string_value(json_object_get(json, "type"));

    *out = (struct window){0};
    if (!json_is_object(json))
        return error_set(error, STATUS_REJECT,
                         "wants an object such as {\"type\": \"tumbling\", \"size\": \"1h\"}");
    for (size_t i = 0; type != NULL && i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(type, types[i].name) != 0)
            continue;
        enum status status = definition_check_keys(json, types[i].known, error);
        return status == STATUS_OK ? types[i].from_json(json, arena, out, error) : status;
    }
    return error_set(error, STATUS_REJECT,
                     "type: wants \"tumbling\", \"hopping\", \"session\" or \"none\"");
}

/* --- panes --- */

int64_t window_pane_start(const struct window *window, int64_t time_us)
{
    return window->kind->pane_start(window, time_us);
}

int64_t window_pane_end(const struct window *window, int64_t start_us)
{
    return window->kind->pane_end(window, start_us);
}

/* --- roll-ups --- */

enum status window_check_rollup(const struct window *own, struct error *error)
{
    switch (own->kind->type) {
    case WINDOW_TUMBLING:
    case WINDOW_CALENDAR:
        return STATUS_OK;
    case WINDOW_HOPPING:
        return error_set(error, STATUS_REJECT,
                         "granularity: hopping windows overlap, and rolled up they would count "
                         "events several times; ask for the windows themselves");
    case WINDOW_SESSION:
        return error_set(error, STATUS_REJECT,
                         "granularity: sessions have no coarser windows; ask for the sessions "
                         "themselves");
    case WINDOW_NONE:
        break;
    }
    return error_set(error, STATUS_REJECT,
                     "granularity: the view has no windows, so there are no coarser ones");
}

/* What the view's own windows are, for people. */
static const char *describe(const struct window *own, char *text, size_t size)
{
    if (own->kind->type == WINDOW_TUMBLING) {
        duration_format(own->size_us, text, size);
        return text;
    }
    bool months = own->months > 0;
    snprintf(text, size, "%d%s in %.64s", months ? own->months : own->days, months ? "mo" : "d",
             own->zone->name);
    return text;
}

enum status window_coarser(const struct window *own, const char *granularity, const char *timezone,
                           struct arena *arena, struct window *out, enum window_nesting *nesting,
                           struct error *error)
{
    char text[DURATION_TEXT_SIZE + TIME_ZONE_NAME_MAX + 8];
    bool own_calendar = own->kind->type == WINDOW_CALENDAR;
    *out = (struct window){0};
    *nesting = WINDOW_NESTS_ALWAYS;
    if (timezone != NULL && own_calendar && strcmp(timezone, own->zone->name) != 0)
        return error_set(error, STATUS_REJECT, "timezone: the view's windows are those of %s",
                         own->zone->name);
    bool is_calendar = calendar_parse_size(granularity, out);
    if (is_calendar && (timezone != NULL || own_calendar || out->months > 0)) {
        out->zone = own_calendar ? own->zone : time_zone_utc();
        if (timezone != NULL && !own_calendar &&
            time_zone_load(timezone, arena, &out->zone, error) != STATUS_OK)
            return error_wrap(error, "timezone");
        if (!own_calendar)
            *nesting = WINDOW_NESTS_SOMETIMES;
        else if (!calendar_is_rollup(own, out))
            return error_set(error, STATUS_REJECT,
                             "granularity: has to be made of the view's windows, %s",
                             describe(own, text, sizeof text));
        return STATUS_OK;
    }
    *out = (struct window){.kind = &window_tumbling};
    if (duration_parse(granularity, strlen(granularity), &out->size_us) != DURATION_OK)
        return error_set(error, STATUS_REJECT,
                         "granularity: \"all\" or a duration such as 1h is expected, a multiple of "
                         "the view's %s",
                         describe(own, text, sizeof text));
    if (timezone != NULL || own_calendar)
        return error_set(error, STATUS_REJECT,
                         "granularity: with a time zone it is days, weeks, months or a year, such "
                         "as 1d, 1w, 1mo or 1y");
    if (out->size_us > WINDOW_MAX_US || out->size_us % own->size_us != 0)
        return error_set(error, STATUS_REJECT,
                         "granularity: has to be a multiple of the view's window, %s",
                         describe(own, text, sizeof text));
    return STATUS_OK;
}

bool window_is_within(const struct window *fine, const struct window *coarse, int64_t start_us)
{
    return window_pane_end(fine, start_us) <=
           window_pane_end(coarse, window_pane_start(coarse, start_us));
}
