/* Binding lookups to tables: see core/catalog/catalog_lookup.h.
 *
 * Everything is read from PostgreSQL's catalogue in the caller's transaction, by names that are
 * plain identifiers (core/definitions/definition_lookup.c). */
#include "core/catalog/catalog_lookup.h"

#include <stdlib.h>
#include <string.h>

#include "core/catalog/catalog.h"

/* One row: the relation, if there is one. */
static const char relation_sql[] =
    "SELECT c.oid, c.relkind, pg_catalog.has_schema_privilege(n.oid, 'USAGE')"
    " FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
    " WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'm', 'v', 'f')";

enum { RELATION_OID, RELATION_KIND, RELATION_IS_USABLE };

/* One row for each column. Domains count as what they are over. */
static const char columns_sql[] =
    "SELECT a.attname, a.attnum, pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT'),"
    " CASE b.type"
    "  WHEN 'text'::pg_catalog.regtype THEN 'string'"
    "  WHEN 'varchar'::pg_catalog.regtype THEN 'string'"
    "  WHEN 'bpchar'::pg_catalog.regtype THEN 'string'"
    "  WHEN 'int2'::pg_catalog.regtype THEN 'integer'"
    "  WHEN 'int4'::pg_catalog.regtype THEN 'integer'"
    "  WHEN 'int8'::pg_catalog.regtype THEN 'integer'"
    "  WHEN 'numeric'::pg_catalog.regtype THEN 'decimal'"
    "  WHEN 'bool'::pg_catalog.regtype THEN 'boolean'"
    "  WHEN 'timestamptz'::pg_catalog.regtype THEN 'timestamp' ELSE '' END,"
    " pg_catalog.format_type(a.atttypid, a.atttypmod),"
    " (SELECT pg_catalog.format('%I.%I', n.nspname, l.collname) FROM pg_catalog.pg_collation AS l"
    "  JOIN pg_catalog.pg_namespace AS n ON n.oid = l.collnamespace"
    "  WHERE l.oid = a.attcollation AND b.type <> 'bpchar'::pg_catalog.regtype),"
    " EXISTS (SELECT FROM pg_catalog.pg_index AS i"
    "  WHERE i.indrelid = a.attrelid AND i.indkey[0] = a.attnum AND i.indnkeyatts = 1"
    "   AND i.indisunique AND i.indisvalid AND i.indpred IS NULL)"
    " FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid,"
    " LATERAL (SELECT CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END) AS b (type)"
    " WHERE a.attrelid = $1::pg_catalog.oid AND a.attnum > 0 AND NOT a.attisdropped";

enum {
    COLUMN_NAME,
    COLUMN_NUMBER,
    COLUMN_IS_READABLE,
    COLUMN_TYPE, /* as definitions spell it; empty: shown as text, and no key */
    COLUMN_SQL_TYPE,
    COLUMN_COLLATION,
    COLUMN_IS_UNIQUE,
};

void catalog_lookup_view(int version, const struct view_lookup *lookup, char *out)
{
    snprintf(out, CATALOG_NAME_BYTES, "dovetail_internal.lookup_%d_%zu", version, lookup->number);
}

/* --- resolving --- */

static enum status find_relation(struct postgres *postgres, const struct view_lookup *lookup,
                                 char oid[16], struct error *error)
{
    const char *parameters[] = {lookup->schema, lookup->table};
    PGresult *result = NULL;
    enum status status = postgres_query(postgres, relation_sql, 2, parameters, &result, error);
    if (status != STATUS_OK)
        goto cleanup;
    if (PQntuples(result) == 0)
        status = error_set(error, STATUS_REJECT, "table: there is no table %s.%s", lookup->schema,
                           lookup->table);
    else if (!postgres_bool(result, 0, RELATION_IS_USABLE))
        status =
            error_set(error, STATUS_REJECT, "table: no right to use the schema %s", lookup->schema);
    else if (strchr("vf", PQgetvalue(result, 0, RELATION_KIND)[0]) != NULL)
        status =
            error_set(error, STATUS_REJECT,
                      "table: %s.%s is a %s, which cannot have a unique index; a table or a "
                      "materialized view can",
                      lookup->schema, lookup->table,
                      PQgetvalue(result, 0, RELATION_KIND)[0] == 'v' ? "view" : "foreign table");
    else
        snprintf(oid, 16, "%s", PQgetvalue(result, 0, RELATION_OID));
cleanup:
    PQclear(result);
    return status;
}

/* The row of a column that may be read. */
static enum status find_column(const PGresult *columns, const struct view_lookup *lookup,
                               const char *name, int *row, struct error *error)
{
    for (*row = 0; *row < PQntuples(columns); ++*row)
        if (strcmp(PQgetvalue(columns, *row, COLUMN_NAME), name) == 0)
            break;
    if (*row == PQntuples(columns))
        return error_set(error, STATUS_REJECT, "table %s.%s has no column \"%s\"", lookup->schema,
                         lookup->table, name);
    if (!postgres_bool(columns, *row, COLUMN_IS_READABLE))
        return error_set(error, STATUS_REJECT, "no right to read column \"%s\" of table %s.%s",
                         name, lookup->schema, lookup->table);
    return STATUS_OK;
}

static bool is_number(const char *type)
{
    return strcmp(type, value_type_name(VALUE_INTEGER)) == 0 ||
           strcmp(type, value_type_name(VALUE_DECIMAL)) == 0;
}

static enum status check_key(const struct view *view, const struct view_lookup *lookup,
                             const PGresult *columns, int row, struct error *error)
{
    const struct view_key *key = &view->keys[lookup->key];
    const char *wanted = value_type_name(key->type);
    const char *type = PQgetvalue(columns, row, COLUMN_TYPE);
    if (strcmp(type, wanted) != 0 && !(is_number(type) && is_number(wanted)))
        return error_set(error, STATUS_REJECT,
                         "column \"%s\" of table %s.%s has type %s, the key \"%s\" %s", lookup->on,
                         lookup->schema, lookup->table, PQgetvalue(columns, row, COLUMN_SQL_TYPE),
                         key->name, wanted);
    if (!postgres_bool(columns, row, COLUMN_IS_UNIQUE))
        return error_set(error, STATUS_REJECT,
                         "column \"%s\" of table %s.%s has no unique index; without one a lookup "
                         "could count records twice",
                         lookup->on, lookup->schema, lookup->table);
    return STATUS_OK;
}

/* [[name, column, its number, type], ...]. */
static enum status resolve_columns(const struct view *view, const struct view_lookup *lookup,
                                   const PGresult *columns, json_t *out, struct error *error)
{
    for (size_t i = 0; i < lookup->column_count; i++) {
        const struct view_key *column = &view->keys[lookup->first + i];
        int row;
        enum status status = find_column(columns, lookup, column->column, &row, error);
        if (status != STATUS_OK)
            return error_wrap(error, "columns");
        const char *type = PQgetvalue(columns, row, COLUMN_TYPE);
        json_t *item = json_pack("[s, s, s, s]", column->name, column->column,
                                 PQgetvalue(columns, row, COLUMN_NUMBER),
                                 type[0] != '\0' ? type : value_type_name(VALUE_STRING));
        if (json_array_append_new(out, item) != 0)
            return error_no_memory(error);
    }
    return STATUS_OK;
}

static enum status resolve_lookup(struct postgres *postgres, const struct view *view,
                                  const struct view_lookup *lookup, json_t *out,
                                  struct error *error)
{
    char oid[16] = "";
    PGresult *columns = NULL;
    json_t *resolved = json_array();
    int row = 0;
    enum status status = find_relation(postgres, lookup, oid, error);
    if (status == STATUS_OK)
        status = postgres_query(postgres, columns_sql, 1, (const char *[]){oid}, &columns, error);
    if (status == STATUS_OK) {
        status = find_column(columns, lookup, lookup->on, &row, error);
        if (status == STATUS_OK)
            status = check_key(view, lookup, columns, row, error);
        if (status == STATUS_REJECT)
            (void)error_wrap(error, "on");
    }
    if (status == STATUS_OK)
        status = resolve_columns(view, lookup, columns, resolved, error);
    if (status == STATUS_OK) {
        const char *collation = PQgetisnull(columns, row, COLUMN_COLLATION)
                                    ? NULL
                                    : PQgetvalue(columns, row, COLUMN_COLLATION);
        json_t *item = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s?, s:O?}", "table", lookup->shown,
                                 "oid", oid, "key", view->keys[lookup->key].name, "on", lookup->on,
                                 "number", PQgetvalue(columns, row, COLUMN_NUMBER), "collation",
                                 collation, "columns", resolved);
        if (json_array_append_new(out, item) != 0)
            status = error_no_memory(error);
    }
    json_decref(resolved);
    PQclear(columns);
    return status;
}

enum status catalog_lookups_resolve(struct postgres *postgres, const struct view *view,
                                    char **binding, struct error *error)
{
    enum status status = STATUS_OK;
    *binding = NULL;
    if (view->lookup_count == 0)
        return STATUS_OK;
    json_t *json = json_array();
    for (size_t i = 0; status == STATUS_OK && i < view->lookup_count; i++) {
        status = resolve_lookup(postgres, view, &view->lookups[i], json, error);
        if (status == STATUS_REJECT)
            (void)error_wrap(error, "lookup[%zu]", i);
    }
    if (status == STATUS_OK) {
        *binding = json_dumps(json, JSON_COMPACT);
        if (*binding == NULL)
            status = error_no_memory(error);
    }
    json_decref(json);
    return status;
}

/* --- binding --- */

static bool bind_lookup(struct view *view, struct view_lookup *lookup, const json_t *json)
{
    const char *collation = json_string_value(json_object_get(json, "collation"));
    const json_t *columns = json_object_get(json, "columns");
    bool good = json_array_size(columns) == lookup->column_count;
    if (collation != NULL) {
        lookup->collation = arena_copy(&view->arena, collation, strlen(collation));
        good = good && lookup->collation != NULL;
    }
    for (size_t i = 0; good && i < lookup->column_count; i++) {
        struct view_key *column = &view->keys[lookup->first + i];
        const json_t *item = json_array_get(columns, i);
        const char *name = json_string_value(json_array_get(item, 0));
        const char *type = json_string_value(json_array_get(item, 3));
        good = name != NULL && strcmp(name, column->name) == 0 && type != NULL &&
               value_type_from_name(type, &column->type);
    }
    return good;
}

enum status catalog_lookups_bind(struct view *view, const char *binding, struct error *error)
{
    if (view->lookup_count == 0)
        return STATUS_OK;
    json_t *json = json_loads(binding != NULL ? binding : "[]", 0, NULL);
    bool good = json_array_size(json) == view->lookup_count;
    for (size_t i = 0; good && i < view->lookup_count; i++)
        good = bind_lookup(view, &view->lookups[i], json_array_get(json, i));
    json_decref(json);
    if (good)
        return STATUS_OK;
    return error_set(error, STATUS_REJECT, "view_version.lookups does not fit the definition");
}

/* --- SQL --- */

/* A one-time filter asks for the index; the planner sees through the rest. */
static void put_view(FILE *out, const struct view *view, const struct view_lookup *lookup,
                     int version)
{
    char name[CATALOG_NAME_BYTES];
    catalog_lookup_view(version, lookup, name);
    /* What has no collation here and is a string is char(n): as text, without its blanks. */
    bool blank_padded = view->keys[lookup->key].type == VALUE_STRING && lookup->collation == NULL;
    fprintf(out, "CREATE VIEW %s AS\nSELECT r.\"%s\"%s AS \"_key\"", name, lookup->on,
            blank_padded ? "::pg_catalog.text" : "");
    for (size_t i = 0; i < lookup->column_count; i++) {
        const struct view_key *column = &view->keys[lookup->first + i];
        fprintf(out, ",\n       r.\"%s\"::%s%s AS \"%s\"", column->column,
                value_type_sql(column->type), column->type == VALUE_STRING ? " COLLATE \"C\"" : "",
                column->name);
    }
    fprintf(out,
            "\nFROM \"%s\".\"%s\" AS r\n"
            "WHERE (SELECT dovetail_internal.lookup_is_unique('\"%s\".\"%s\"', '%s'));\n",
            lookup->schema, lookup->table, lookup->schema, lookup->table, lookup->on);
}

char *catalog_lookups_sql(const struct view *view, int version)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL)
        return NULL;
    for (size_t i = 0; i < view->lookup_count; i++)
        put_view(out, view, &view->lookups[i], version);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* In the collation of the table's column: so its index can be used, and its uniqueness is what
 * counts. */
void catalog_lookup_put_join(FILE *out, const struct view *view, const struct view_lookup *lookup,
                             int version, const char *row)
{
    char name[CATALOG_NAME_BYTES];
    catalog_lookup_view(version, lookup, name);
    fprintf(out, " LEFT JOIN %s AS l%zu ON l%zu.\"_key\" = %s.\"%s\"", name, lookup->number,
            lookup->number, row, view->keys[lookup->key].name);
    if (lookup->collation != NULL)
        fprintf(out, " COLLATE %s", lookup->collation);
}
