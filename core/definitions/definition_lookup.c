/* Lookups of a view: which columns of which reference tables stand beside its keys.
 *
 * Invariant: every name that comes from here is a plain identifier, so that it may stand between
 * double quotes in SQL. Whether the table is there, and what types its columns have, only the
 * database knows (core/catalog/catalog_lookup.h); until then they count as strings. Pure; any
 * thread. */
#include <stdio.h>
#include <string.h>

#include "core/definitions/definition.h"
#include "core/definitions/definition_json.h"

enum { IDENTIFIER_MAX_BYTES = 63 }; /* PostgreSQL's NAMEDATALEN - 1 */

static bool is_identifier(const char *name, size_t length)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    return length > 0 && length <= IDENTIFIER_MAX_BYTES && strspn(name, letters) >= length &&
           (name[0] < '0' || name[0] > '9');
}

/* Schemas whose tables are no reference data: PostgreSQL's and our own. */
static bool is_private(const char *schema)
{
    return strncmp(schema, "pg_", 3) == 0 || strcmp(schema, "information_schema") == 0 ||
           strcmp(schema, "dovetail") == 0 || strncmp(schema, "dovetail_", 9) == 0;
}

/* "airports" or "ref.airports". */
static enum status load_table(struct view *view, struct view_lookup *lookup, const json_t *json,
                              struct error *error)
{
    const char *text = NULL;
    enum status status = definition_get_string(json, "table", "a table's name", &text, error);
    if (status != STATUS_OK)
        return status;
    const char *dot = strchr(text, '.');
    size_t schema_length = dot == NULL ? 0 : (size_t)(dot - text);
    const char *table = dot == NULL ? text : dot + 1;
    if (!is_identifier(table, strlen(table)) ||
        (dot != NULL && !is_identifier(text, schema_length)))
        return error_set(error, STATUS_REJECT,
                         "table: \"%.140s\" is not the name of a table, such as airports or "
                         "ref.airports: letters, digits and _, as PostgreSQL has it, each part at "
                         "most %d",
                         text, IDENTIFIER_MAX_BYTES);
    lookup->shown = arena_copy(&view->arena, text, strlen(text));
    lookup->table = arena_copy(&view->arena, table, strlen(table));
    lookup->schema = dot == NULL ? "public" : arena_copy(&view->arena, text, schema_length);
    if (lookup->shown == NULL || lookup->table == NULL || lookup->schema == NULL)
        return error_no_memory(error);
    if (is_private(lookup->schema))
        return error_set(error, STATUS_REJECT, "table: the schema \"%s\" has no reference tables",
                         lookup->schema);
    return STATUS_OK;
}

static enum status load_key(struct view *view, struct view_lookup *lookup, const json_t *json,
                            struct error *error)
{
    const char *key = NULL;
    enum status status = definition_get_string(json, "key", "a key of the view", &key, error);
    if (status != STATUS_OK)
        return status;
    for (lookup->key = 0; lookup->key < view->key_count; lookup->key++)
        if (strcmp(view->keys[lookup->key].name, key) == 0)
            break;
    if (lookup->key == view->key_count)
        return error_set(error, STATUS_REJECT, "key: the view has no key \"%.60s\"", key);
    const char *on = key;
    if (json_object_get(json, "on") != NULL)
        status = definition_get_string(json, "on", "a column of the table", &on, error);
    if (status != STATUS_OK)
        return status;
    if (!is_identifier(on, strlen(on)))
        return error_set(error, STATUS_REJECT,
                         "on: \"%.80s\" is not a column's name: letters, digits and _, at most %d",
                         on, IDENTIFIER_MAX_BYTES);
    lookup->on = arena_copy(&view->arena, on, strlen(on));
    return lookup->on == NULL ? error_no_memory(error) : STATUS_OK;
}

/* --- columns --- */

static enum status add_column(struct view *view, struct view_lookup *lookup, const char *column,
                              const char *name, struct error *error)
{
    char text[2 * IDENTIFIER_MAX_BYTES + IDENTIFIER_MAX_BYTES + 4];
    if (!is_identifier(column, strlen(column)))
        return error_set(error, STATUS_REJECT,
                         "\"%.80s\" is not a column's name: letters, digits and _, at most %d",
                         column, IDENTIFIER_MAX_BYTES);
    if (definition_check_column(view, name, error) != STATUS_OK)
        return error_wrap(error, "%.80s", name);
    if (view->looked_up_count == VIEW_LOOKED_UP_MAX)
        return error_set(error, STATUS_REJECT, "more than %d looked-up columns",
                         VIEW_LOOKED_UP_MAX);
    snprintf(text, sizeof text, "%s.%s", lookup->shown, column);
    struct view_key *out = &view->keys[view->key_count + view->looked_up_count];
    *out = (struct view_key){
        .name = arena_copy(&view->arena, name, strlen(name)),
        .text = arena_copy(&view->arena, text, strlen(text)),
        .type = VALUE_STRING,
        .lookup = lookup,
        .column = arena_copy(&view->arena, column, strlen(column)),
    };
    if (out->name == NULL || out->text == NULL || out->column == NULL)
        return error_no_memory(error);
    view->looked_up_count++;
    lookup->column_count++;
    return STATUS_OK;
}

/* "city", or {"city": "origin_city"}. */
static enum status load_columns(struct view *view, struct view_lookup *lookup, json_t *json,
                                struct error *error)
{
    const char *column;
    json_t *name;
    if (json_is_string(json) && strlen(json_string_value(json)) == json_string_length(json))
        return add_column(view, lookup, json_string_value(json), json_string_value(json), error);
    if (!json_is_object(json) || json_object_size(json) == 0)
        return error_set(error, STATUS_REJECT,
                         "wants a column's name, or {\"column\": \"another name\"}");
    json_object_foreach (json, column, name) {
        if (!json_is_string(name) || strlen(json_string_value(name)) != json_string_length(name))
            return error_set(error, STATUS_REJECT, "%.80s: wants a name", column);
        enum status status = add_column(view, lookup, column, json_string_value(name), error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status load_all_columns(struct view *view, struct view_lookup *lookup, json_t *json,
                                    struct error *error)
{
    size_t index;
    json_t *item;
    lookup->first = view->key_count + view->looked_up_count;
    if (json_is_object(json)) {
        enum status status = load_columns(view, lookup, json, error);
        return status == STATUS_OK ? status : error_wrap(error, "columns");
    }
    if (!json_is_array(json) || json_array_size(json) == 0)
        return error_set(error, STATUS_REJECT, "columns: wants an array of columns");
    json_array_foreach (json, index, item)
        if (load_columns(view, lookup, item, error) != STATUS_OK)
            return error_wrap(error, "columns[%zu]", index);
    return STATUS_OK;
}

/* --- all of them --- */

static enum status load_lookup(struct view *view, const json_t *json, struct error *error)
{
    static const char *const known[] = {"table", "key", "on", "columns", NULL};
    struct view_lookup *lookup = &view->lookups[view->lookup_count];
    if (!json_is_object(json))
        return error_set(error, STATUS_REJECT,
                         "wants an object with \"table\", \"key\" and \"columns\"");
    *lookup = (struct view_lookup){.number = view->lookup_count + 1};
    enum status status = definition_check_keys(json, known, error);
    if (status == STATUS_OK)
        status = load_table(view, lookup, json, error);
    if (status == STATUS_OK)
        status = load_key(view, lookup, json, error);
    if (status == STATUS_OK)
        status = load_all_columns(view, lookup, json_object_get(json, "columns"), error);
    if (status == STATUS_OK)
        view->lookup_count++;
    return status;
}

enum status definition_load_lookups(struct view *view, struct error *error)
{
    const json_t *json = json_object_get(view->json, "lookup");
    size_t count = json_array_size(json);
    if (json == NULL)
        return STATUS_OK;
    if (!json_is_array(json) || count > VIEW_LOOKUP_MAX)
        return error_set(error, STATUS_REJECT, "lookup: wants an array of at most %d lookups",
                         VIEW_LOOKUP_MAX);
    view->lookups = arena_alloc(&view->arena, (count + 1) * sizeof *view->lookups);
    if (view->lookups == NULL)
        return error_no_memory(error);
    for (size_t i = 0; i < count; i++)
        if (load_lookup(view, json_array_get(json, i), error) != STATUS_OK)
            return error_wrap(error, "lookup[%zu]", i);
    return STATUS_OK;
}
