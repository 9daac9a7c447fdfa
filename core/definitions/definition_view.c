/* Views: what to compute over a source.
 *
 * Invariant: a struct view that exists has been type-checked throughout: `where` is boolean, keys
 * and measures have distinct names, every expression fits the source. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/definitions/definition.h"
#include "core/definitions/definition_json.h"
#include "core/expressions/expression_node.h"

static const char *copy(struct arena *arena, const char *text)
{
    return arena_copy(arena, text, strlen(text));
}

enum status definition_check_column(const struct view *view, const char *name, struct error *error)
{
    /* columns of every row, and PostgreSQL's system columns */
    static const char *const taken[] = {"window_start", "window_end", "provisional",
                                        "tableoid",     "xmin",       "cmin",
                                        "xmax",         "cmax",       "ctid"};

    if (!definition_name_is_valid(name)) {
        return error_set(
            error, STATUS_REJECT,
            "not a name: a lower-case letter, then up to 47 lower-case letters, digits "
            "and _");
    }
    bool used = false;
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
        used = used || strcmp(taken[i], name) == 0;
    }
    for (size_t i = 0; i < view->key_count + view->looked_up_count; i++) {
        used = used || strcmp(view->keys[i].name, name) == 0;
    }
    for (size_t i = 0; i < view->measure_count; i++) {
        used = used || strcmp(view->measures[i].name, name) == 0;
    }
    return used ? error_set(error, STATUS_REJECT, "the name \"%s\" is taken", name) : STATUS_OK;
}

static enum status load_where(struct view *view, struct error *error)
{
    const char *text = NULL;

    if (json_object_get(view->json, "where") == NULL) {
        return STATUS_OK;
    }
    enum status status =
        definition_get_string(view->json, "where", "an SQL condition", &text, error);
    if (status != STATUS_OK) {
        return status;
    }
    view->where_text = copy(&view->arena, text);
    if (view->where_text == NULL) {
        return error_no_memory(error);
    }
    status = expression_create(text, view->source, &view->where, error);
    if (status == STATUS_OK && expression_type(view->where) != VALUE_BOOLEAN) {
        status = error_set(error, STATUS_REJECT, "column 1: wants a condition, found type %s",
                           value_type_name(expression_type(view->where)));
    }
    return status == STATUS_OK ? STATUS_OK : error_wrap(error, "where");
}

/* A field's name, which may be a reserved word: its text is the quoted name. */
static enum status load_plain_key(struct view *view, struct view_key *key, const char *field,
                                  struct error *error)
{
    char quoted[NAME_MAX_BYTES + 3];
    size_t length = strlen(field);

    if (!definition_name_is_valid(field)) {
        return error_set(error, STATUS_REJECT,
                         "\"%.60s\" is not a field's name; for an expression write {\"name\": ..., "
                         "\"expr\": ...}",
                         field);
    }
    quoted[0] = '"';
    memcpy(quoted + 1, field, length);
    memcpy(quoted + 1 + length, "\"", 2);
    key->name = copy(&view->arena, field);
    key->text = copy(&view->arena, quoted);
    return key->name == NULL || key->text == NULL ? error_no_memory(error) : STATUS_OK;
}

static enum status load_named_key(struct view *view, struct view_key *key, const json_t *json,
                                  struct error *error)
{
    static const char *const known[] = {"name", "expr", NULL};
    const char *text = NULL;

    if (!json_is_object(json)) {
        return error_set(error, STATUS_REJECT,
                         "wants a field's name or an object with \"name\" and \"expr\"");
    }
    enum status status = definition_check_keys(json, known, error);
    status = status == STATUS_OK
                 ? definition_get_name(json, "name", &view->arena, &key->name, error)
                 : status;
    status = status == STATUS_OK
                 ? definition_get_string(json, "expr", "an SQL expression", &text, error)
                 : status;
    if (status != STATUS_OK) {
        return status;
    }
    key->text = copy(&view->arena, text);
    return key->text == NULL ? error_no_memory(error) : STATUS_OK;
}

static enum status load_key(struct view *view, const json_t *json, struct error *error)
{
    struct view_key key = {0};

    bool plain = json_is_string(json);
    enum status status = plain ? load_plain_key(view, &key, json_string_value(json), error)
                               : load_named_key(view, &key, json, error);
    status = status == STATUS_OK ? definition_check_column(view, key.name, error) : status;
    if (status != STATUS_OK) {
        return status;
    }
    if (expression_create(key.text, view->source, &key.expression, error) != STATUS_OK) {
        return plain ? error->status : error_wrap(error, "expr");
    }
    key.type = expression_type(key.expression);
    view->keys[view->key_count++] = key;
    return STATUS_OK;
}

static enum status load_keys(struct view *view, struct error *error)
{
    const json_t *json = json_object_get(view->json, "group_by");
    size_t count = json_array_size(json);

    if (json != NULL && !json_is_array(json)) {
        return error_set(error, STATUS_REJECT, "group_by: wants an array");
    }
    if (count > VIEW_KEY_MAX) {
        return error_set(error, STATUS_REJECT, "group_by: more than %d keys", VIEW_KEY_MAX);
    }
    view->keys = arena_alloc(&view->arena, (count + VIEW_LOOKED_UP_MAX) * sizeof *view->keys);
    if (view->keys == NULL) {
        return error_no_memory(error);
    }
    for (size_t i = 0; i < count; i++) {
        if (load_key(view, json_array_get(json, i), error) != STATUS_OK) {
            return error_wrap(error, "group_by[%zu]", i);
        }
    }
    return STATUS_OK;
}

static enum status load_measure(struct view *view, const char *name, const json_t *json,
                                struct error *error)
{
    struct view_measure *measure = &view->measures[view->measure_count];

    enum status status = definition_check_column(view, name, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (!json_is_string(json) || strlen(json_string_value(json)) != json_string_length(json)) {
        return error_set(error, STATUS_REJECT, "wants a measure such as \"sum(delay)\"");
    }
    measure->name = copy(&view->arena, name);
    measure->text = copy(&view->arena, json_string_value(json));
    if (measure->name == NULL || measure->text == NULL) {
        return error_no_memory(error);
    }
    status = measure_create(measure->text, view->source, &measure->measure, error);
    if (status == STATUS_OK) {
        view_place_state(view, view->measure_count++);
    }
    return status;
}

static enum status load_measures(struct view *view, struct error *error)
{
    json_t *measures = json_object_get(view->json, "measures");
    size_t count = json_object_size(measures);
    const char *name;
    json_t *json;

    if (!json_is_object(measures) || count == 0) {
        return error_set(error, STATUS_REJECT,
                         "measures: wants an object with at least one measure");
    }
    if (count > VIEW_MEASURE_MAX) {
        return error_set(error, STATUS_REJECT, "measures: more than %d", VIEW_MEASURE_MAX);
    }
    view->measures = arena_alloc(&view->arena, (count + 1) * sizeof *view->measures);
    view->state_offsets = arena_alloc(&view->arena, (count + 1) * sizeof *view->state_offsets);
    if (view->measures == NULL || view->state_offsets == NULL) {
        return error_no_memory(error);
    }
    json_object_foreach (measures, name, json) {
        if (load_measure(view, name, json, error) != STATUS_OK) {
            return error_wrap(error, "measures.%.60s", name);
        }
    }
    view_add_hidden_measure(view);
    return STATUS_OK;
}

/* A size is a multiple of its type's alignment, so no state has to be known here. */
void view_place_state(struct view *view, size_t index)
{
    size_t bytes = view->measures[index].measure->state_bytes;
    size_t alignment = bytes & -bytes;
    if (alignment > STATE_ALIGNMENT) {
        alignment = STATE_ALIGNMENT;
    }
    view->state_offsets[index] = (view->state_bytes + alignment - 1) & ~(alignment - 1);
    view->state_bytes = view->state_offsets[index] + bytes;
}

void view_add_hidden_measure(struct view *view)
{
    const struct measure *hidden = view->window.kind->hidden;

    view->state_count = view->measure_count;
    if (hidden != NULL) {
        /* immutable like every measure, and nobody's to destroy */
        view->measures[view->state_count] =
            (struct view_measure){.name = hidden->kind->name, .measure = (struct measure *)hidden};
        view_place_state(view, view->state_count++);
    }
}

static enum status load(struct view *view, struct error *error)
{
    static const char *const known[] = {"$schema", "view",     "source", "where", "group_by",
                                        "window",  "measures", "lookup", NULL};
    const char *source = NULL;

    if (!json_is_object(view->json)) {
        return error_set(error, STATUS_REJECT, "wants an object");
    }
    enum status status = definition_check_keys(view->json, known, error);
    status = status == STATUS_OK
                 ? definition_get_name(view->json, "view", &view->arena, &view->name, error)
                 : status;
    status = status == STATUS_OK
                 ? definition_get_name(view->json, "source", &view->arena, &source, error)
                 : status;
    if (status == STATUS_OK && (view->source == NULL || strcmp(source, view->source->name) != 0)) {
        return error_set(error, STATUS_REJECT, "source: \"%s\" is not \"%s\"", source,
                         view->source == NULL ? "" : view->source->name);
    }
    status = status == STATUS_OK ? load_where(view, error) : status;
    status = status == STATUS_OK ? load_keys(view, error) : status;
    if (status == STATUS_OK && window_from_json(json_object_get(view->json, "window"), &view->arena,
                                                &view->window, error) != STATUS_OK) {
        return error_wrap(error, "window");
    }
    status = status == STATUS_OK ? load_measures(view, error) : status;
    return status == STATUS_OK ? definition_load_lookups(view, error) : status;
}

enum status view_create(json_t *json, const char *place, const struct source *source,
                        struct view **out, struct error *error)
{
    struct view *view = calloc(1, sizeof *view);

    *out = NULL;
    if (view == NULL) {
        return error_no_memory(error);
    }
    arena_init(&view->arena);
    view->json = json_incref(json);
    view->source = source;
    if (load(view, error) != STATUS_OK) {
        view_destroy(view);
        return error_wrap(error, "%s", place);
    }
    *out = view;
    return STATUS_OK;
}

void view_destroy(struct view *view)
{
    if (view == NULL) {
        return;
    }
    expression_destroy(view->where);
    for (size_t i = 0; i < view->key_count; i++) {
        expression_destroy(view->keys[i].expression);
    }
    for (size_t i = 0; i < view->measure_count; i++) {
        measure_destroy(view->measures[i].measure);
    }
    json_decref(view->json);
    arena_deinit(&view->arena);
    free(view);
}

static void add_digest(uint64_t *digest, const struct expression *expression)
{
    if (expression != NULL) {
        *digest = *digest * 31 + expression_zone_digest(expression);
    }
}

/* Of the rules of all time zones that expressions of the view and its source name, or 0. */
static uint64_t expressions_zone_digest(const struct view *view)
{
    uint64_t digest = 0;

    for (size_t i = 0; i < view->source->derived_count; i++) {
        add_digest(&digest, view->source->derived[i].expression);
    }
    add_digest(&digest, view->where);
    for (size_t i = 0; i < view->key_count; i++) {
        add_digest(&digest, view->keys[i].expression);
    }
    for (size_t i = 0; i < view->measure_count; i++) {
        const struct measure *measure = view->measures[i].measure;
        add_digest(&digest, measure->filter);
        for (size_t k = 0; k < measure->argument_count; k++) {
            add_digest(&digest, measure->arguments[k]);
        }
    }
    return digest;
}

static int put_digest(json_t *what, const char *key, uint64_t digest)
{
    char text[24];

    snprintf(text, sizeof text, "%016" PRIx64, digest);
    return json_object_set_new(what, key, json_string(text));
}

/* Time zones' rules are part of what a view computes: when they change, so do its windows, keys and
 * measures. */
static int put_zones(const struct view *view, json_t *what)
{
    const struct time_zone *zone = view->window.zone;
    uint64_t expressions = expressions_zone_digest(view);
    int failed = 0;

    if (zone != NULL && zone != time_zone_utc()) {
        failed = put_digest(what, "timezone_rules", time_zone_digest(zone));
    }
    return failed != 0 || expressions == 0
               ? failed
               : put_digest(what, "expression_timezone_rules", expressions);
}

char *view_canonical_text(const struct view *view)
{
    static const char *const source_keys[] = {"source", "topic",        "event_time", "fields",
                                              "derive", "drop_if_null", "dedupe",     "mask"};
    static const char *const view_keys[] = {"view", "where", "group_by", "window", "measures"};
    json_t *source = json_object(), *what = json_object();
    json_t *all =
        json_pack("{s:i, s:o, s:o}", "engine", ENGINE_VERSION, "source", source, "view", what);
    char *text = NULL;
    int failed = all == NULL;

    for (size_t i = 0; !failed && i < sizeof source_keys / sizeof source_keys[0]; i++) {
        json_t *member = json_object_get(view->source->json, source_keys[i]);
        failed = member != NULL && json_object_set(source, source_keys[i], member) != 0;
    }
    for (size_t i = 0; !failed && i < sizeof view_keys / sizeof view_keys[0]; i++) {
        json_t *member = json_object_get(view->json, view_keys[i]);
        failed = member != NULL && json_object_set(what, view_keys[i], member) != 0;
    }
    failed = failed || put_zones(view, what) != 0;
    if (!failed) {
        text = json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS);
    }
    json_decref(all);
    return text;
}
