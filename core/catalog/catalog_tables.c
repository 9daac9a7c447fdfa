/* The SQL of a view version: two tables of states, and the view that merges them.
 *
 *   dovetail_internal.batch_<version>                    dovetail_internal.speed_<version>
 *     _row_id      bigint identity, primary key            _partition   integer  ┐
 *     _run_from    bigint                                  _slice_start bigint   ├ unique
 *     _run_to      bigint, open: 9223372036854775807       _group_id    bigint   ┘ where not NULL
 *     window_start timestamptz, of the pane                window_start timestamptz
 *     <keys>       one column each                         <keys>
 *     <states>     the columns of each measure             <states>
 *
 * - A batch row is visible under run R if _run_from <= R < _run_to.
 * - A speed row belongs to the slice of _partition that starts at _slice_start. _group_id numbers
 * the groups of one slice: whoever writes the slice chooses it, and addresses the row by it. (The
 * keys may be NULL and are wide, which makes them a poor address for an update.) It is NULL in rows
 * that are never updated, which keeps them out of that index: only the writer uses it.
 * - From window_start on, the columns of both are catalog_state_columns in this order, and the
 *   fields of group_encode_row. Keys may be NULL; so may states (the minimum of nothing).
 * - A measure's column is named after it, or <measure>$<suffix>. Names of definitions begin with a
 *   letter, so those that begin with an underscore are ours; definitions cannot use the names
 *   window_start, window_end and provisional. The measure that a kind of window keeps for itself is
 *   ours: _session$least and _session$greatest.
 * - Text is COLLATE "C", so that PostgreSQL's order and equality are the engine's.
 * - Both have a plain index (window_start, keys). The strings of a group's keys are at most
 *   KEY_BYTES_MAX together, which with 16 keys stays below the 2,704 bytes a btree entry may have.
 *
 * dovetail.<view> reads both in one statement, hence in one snapshot; panes become windows there as
 * core/windows/window.h says. A window is provisional while
 * it ends after dovetail_internal.watermark(topic). Every name is qualified, so the reader's
 * search_path has no say. Looked-up columns are joined to the finished rows
 * (core/catalog/catalog_lookup.h). */
#include "core/catalog/catalog_tables.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/catalog/catalog.h"
#include "core/catalog/catalog_lookup.h"
#include "core/postgres/sql_text.h"

/* Text is built in memory streams: only closing one can fail, for want of memory. */
static FILE *text_open(char **text, size_t *length)
{
    *text = NULL;
    return open_memstream(text, length);
}

static char *text_close(FILE *out, char **text)
{
    bool failed = ferror(out) != 0;
    failed = fclose(out) != 0 || failed;
    if (failed) {
        free(*text);
        *text = NULL;
    }
    return *text;
}

static void put_type(FILE *out, const char *sql_type)
{
    fputs(sql_type, out);
    if (strcmp(sql_type, "text") == 0) {
        fputs(" COLLATE \"C\"", out);
    }
}

/* The quoted name of a measure's column. */
static void put_column(FILE *out, const struct view_measure *measure, size_t column)
{
    const char *suffix = measure->measure->columns[column].suffix;
    if (suffix == NULL) {
        fprintf(out, "\"%s\"", measure->name);
    } else {
        fprintf(out, "\"%s$%s\"", measure->name, suffix);
    }
}

void catalog_speed_table(int version, char *out)
{
    snprintf(out, CATALOG_NAME_BYTES, "dovetail_internal.speed_%d", version);
}

void catalog_batch_table(int version, char *out)
{
    snprintf(out, CATALOG_NAME_BYTES, "dovetail_internal.batch_%d", version);
}

static void put_key_columns(FILE *out, const struct view *view, const char *prefix)
{
    fprintf(out, "%s\"window_start\"", prefix);
    for (size_t i = 0; i < view->key_count; i++) {
        const struct view_key *key = &view->keys[i];
        if (key->lookup != NULL) { /* the cast keeps the type that the reader was prepared for */
            fprintf(out, ", l%zu.\"%s\"::%s", key->lookup->number, key->name,
                    value_type_sql(key->type));
        } else {
            fprintf(out, ", %s\"%s\"", prefix, key->name);
        }
    }
}

static void put_state_columns(FILE *out, const struct view *view, const char *prefix)
{
    put_key_columns(out, view, prefix);
    for (size_t i = 0; i < view->state_count; i++) {
        for (size_t c = 0; c < view->measures[i].measure->column_count; c++) {
            fprintf(out, ", %s", prefix);
            put_column(out, &view->measures[i], c);
        }
    }
}

char *catalog_state_columns(const struct view *view, const char *prefix)
{
    char *text;
    size_t length;
    FILE *out = text_open(&text, &length);
    if (out == NULL) {
        return NULL;
    }
    put_state_columns(out, view, prefix);
    return text_close(out, &text);
}

/* --- tables --- */

static void put_state_definitions(FILE *out, const struct view *view)
{
    fputs("    \"window_start\" timestamptz NOT NULL", out);
    for (size_t i = 0; i < view->key_count; i++) {
        fprintf(out, ",\n    \"%s\" ", view->keys[i].name);
        put_type(out, value_type_sql(expression_type(view->keys[i].expression)));
    }
    for (size_t i = 0; i < view->state_count; i++) {
        const struct measure *measure = view->measures[i].measure;
        for (size_t c = 0; c < measure->column_count; c++) {
            fputs(",\n    ", out);
            put_column(out, &view->measures[i], c);
            fputc(' ', out);
            put_type(out, measure->columns[c].sql_type);
        }
    }
}

static void put_batch_table(FILE *out, const struct view *view, int version)
{
    char table[CATALOG_NAME_BYTES];
    catalog_batch_table(version, table);
    fprintf(out,
            "CREATE TABLE %s (\n"
            "    _row_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,\n"
            "    _run_from bigint NOT NULL,\n"
            "    _run_to bigint NOT NULL DEFAULT 9223372036854775807,\n",
            table);
    put_state_definitions(out, view);
    fprintf(out, "\n);\nCREATE INDEX batch_%d_window ON %s (window_start);\n", version, table);
    /* One key over any range of windows, and a range of windows over all keys, are both common. */
    if (view->key_count > 0) {
        fprintf(out, "CREATE INDEX batch_%d_key ON %s (", version, table);
        for (size_t i = 0; i < view->key_count; i++) {
            fprintf(out, "\"%s\", ", view->keys[i].name);
        }
        fputs("window_start);\n", out);
    }
    /* Few rows are closed; retention finds them without reading the table. */
    fprintf(out,
            "CREATE INDEX batch_%d_closed ON %s (_run_to) WHERE _run_to < 9223372036854775807;\n",
            version, table);
}

static void put_speed_table(FILE *out, const struct view *view, int version)
{
    char table[CATALOG_NAME_BYTES];
    catalog_speed_table(version, table);
    fprintf(out,
            "CREATE TABLE %s (\n"
            "    _partition integer NOT NULL,\n"
            "    _slice_start bigint NOT NULL,\n"
            "    _group_id bigint,\n",
            table);
    put_state_definitions(out, view);
    fprintf(out,
            "\n);\n"
            "CREATE UNIQUE INDEX speed_%d_address ON %s (_partition, _slice_start, _group_id)\n"
            "    WHERE _group_id IS NOT NULL;\n"
            "CREATE INDEX speed_%d_key ON %s (",
            version, table, version, table);
    put_key_columns(out, view, "");
    fputs(");\n", out);
}

char *catalog_tables_sql(const struct view *view, int version)
{
    char *text;
    size_t length;
    FILE *out = text_open(&text, &length);
    if (out == NULL) {
        return NULL;
    }
    put_batch_table(out, view, version);
    put_speed_table(out, view, version);
    return text_close(out, &text);
}

char *catalog_tables_drop_sql(int version)
{
    char *text = NULL;
    if (asprintf(&text,
                 "DROP TABLE IF EXISTS dovetail_internal.batch_%d, dovetail_internal.speed_%d",
                 version, version) < 0) {
        return NULL;
    }
    return text;
}

/* --- the SQL view --- */

/* Writes a measure kind's template (measure_kind.sql): "{}" is the measure's column without suffix,
 * "{n}" the one with suffix "n", "{'}" the measure's name as a literal. */
static void put_template(FILE *out, const struct view_measure *measure)
{
    for (const char *at = measure->measure->kind->sql(measure->measure); *at != '\0'; at++) {
        if (*at != '{') {
            fputc(*at, out);
            continue;
        }
        size_t length = strcspn(++at, "}");
        if (*at == '\'') {
            sql_put_literal(out, measure->name);
            at += length;
            continue;
        }
        fprintf(out, "u.\"%s%s%.*s\"", measure->name, length == 0 ? "" : "$", (int)length, at);
        at += length;
    }
}

/* The states visible under the current run. readable_run() fails where the version cannot be read;
 * the first condition depends on no row, so it is asked where a table is empty, too. */
static void put_visible_states(FILE *out, const struct view *view, int version)
{
    fputs("        SELECT ", out);
    put_state_columns(out, view, "b.");
    fprintf(out,
            "\n        FROM dovetail_internal.batch_%d AS b\n"
            "        WHERE (SELECT dovetail_internal.readable_run(%d)) IS NOT NULL\n"
            "          AND b._run_from <= (SELECT dovetail_internal.readable_run(%d))\n"
            "          AND b._run_to > (SELECT dovetail_internal.readable_run(%d))\n"
            "        UNION ALL\n        SELECT ",
            version, version, version, version);
    put_state_columns(out, view, "s.");
    fprintf(out,
            "\n        FROM dovetail_internal.position AS p\n"
            "        LEFT JOIN dovetail_internal.run_cutoff AS c\n"
            "          ON c.run = (SELECT dovetail_internal.readable_run(%d))\n"
            "         AND c.topic = p.topic AND c.partition = p.partition\n"
            "        JOIN dovetail_internal.speed_%d AS s\n"
            "          ON s._partition = p.partition\n"
            "         AND s._slice_start >= COALESCE(c.next_offset, p.base_offset)\n"
            "        WHERE p.topic = ",
            version, version);
    sql_put_literal(out, view->source->topic);
    fputc('\n', out);
}

static void put_results(FILE *out, const struct view *view)
{
    for (size_t i = 0; i < view->measure_count; i++) {
        fputs(",\n       (", out);
        put_template(out, &view->measures[i]);
        fprintf(out, ")::%s AS \"%s\"", value_type_sql(view->measures[i].measure->result_type),
                view->measures[i].name);
    }
}

static enum status put_rows(FILE *out, const struct view *view, int version)
{
    char *visible;
    size_t length;
    FILE *stream = text_open(&visible, &length);
    if (stream == NULL) {
        return STATUS_FATAL;
    }
    put_visible_states(stream, view, version);
    if (text_close(stream, &visible) == NULL) {
        return STATUS_FATAL;
    }
    if (view->window.kind->put_rows != NULL) {
        view->window.kind->put_rows(view, visible, out);
    } else {
        fputs(visible, out);
    }
    free(visible);
    return STATUS_OK;
}

/* The columns of the view, the looked-up ones among them, over the rows that follow as "g". */
static void begin_lookups(FILE *out, const struct view *view)
{
    fputs("SELECT g.window_start, g.window_end", out);
    for (size_t i = 0; i < view->key_count; i++) {
        fprintf(out, ", g.\"%s\"", view->keys[i].name);
    }
    for (size_t i = 0; i < view->looked_up_count; i++) {
        const struct view_key *column = &view->keys[view->key_count + i];
        fprintf(out, ",\n       l%zu.\"%s\"", column->lookup->number, column->name);
    }
    for (size_t i = 0; i < view->measure_count; i++) {
        fprintf(out, ",\n       g.\"%s\"", view->measures[i].name);
    }
    fputs(", g.provisional\nFROM (\n", out);
}

static void end_lookups(FILE *out, const struct view *view, int version)
{
    fputs("\n) AS g", out);
    for (size_t i = 0; i < view->lookup_count; i++) {
        fputc('\n', out);
        catalog_lookup_put_join(out, view, &view->lookups[i], version, "g");
    }
}

char *catalog_view_sql(const struct view *view, int version)
{
    const struct window_kind *kind = view->window.kind;
    char *text;
    size_t length;
    FILE *out = text_open(&text, &length);
    if (out == NULL) {
        return NULL;
    }
    fprintf(out, "CREATE OR REPLACE VIEW dovetail.\"%s\" AS\n", view->name);
    if (view->lookup_count > 0) {
        begin_lookups(out, view);
    }
    fprintf(out, "SELECT %s AS window_start,\n       ", kind->sql_start);
    kind->put_end(&view->window, out);
    fputs(" AS window_end", out);
    for (size_t i = 0; i < view->key_count; i++) {
        fprintf(out, ",\n       u.\"%s\"", view->keys[i].name);
    }
    put_results(out, view);
    /* NULL where there is no watermark, or where windows have no end. */
    fputs(",\n       COALESCE(", out);
    kind->put_end(&view->window, out);
    fputs(" > (SELECT dovetail_internal.watermark(", out);
    sql_put_literal(out, view->source->topic);
    fputs(")), true) AS provisional\nFROM (\n", out);
    enum status status = put_rows(out, view, version);
    fprintf(out, ") AS u\nGROUP BY %s", kind->sql_group);
    for (size_t i = 0; i < view->key_count; i++) {
        fprintf(out, ", u.\"%s\"", view->keys[i].name);
    }
    if (view->lookup_count > 0) {
        end_lookups(out, view, version);
    }
    if (text_close(out, &text) != NULL && status != STATUS_OK) {
        free(text);
        text = NULL;
    }
    return text;
}

static void put_comment(FILE *out, const struct view *view, const char *column, const char *text)
{
    fprintf(out, "COMMENT ON COLUMN dovetail.\"%s\".\"%s\" IS ", view->name, column);
    sql_put_literal(out, text);
    fputs(";\n", out);
}

char *catalog_view_comments_sql(const struct view *view)
{
    char *text;
    size_t length;
    FILE *out = text_open(&text, &length);
    if (out == NULL) {
        return NULL;
    }
    const char *description = json_string_value(json_object_get(view->json, "description"));
    fprintf(out, "COMMENT ON VIEW dovetail.\"%s\" IS ", view->name);
    sql_put_literal(out,
                    description != NULL ? description : "Dovetail: batch and speed layer, merged");
    fputs(";\n", out);
    bool timeless = view->window.kind->is_timeless;
    put_comment(out, view, "window_start",
                timeless ? "NULL: there are no windows" : "start of the window, inclusive");
    put_comment(out, view, "window_end",
                timeless ? "NULL: there are no windows" : "end of the window, exclusive");
    for (size_t i = 0; i < view->key_count + view->looked_up_count; i++) {
        put_comment(out, view, view->keys[i].name, view->keys[i].text);
    }
    for (size_t i = 0; i < view->measure_count; i++) {
        put_comment(out, view, view->measures[i].name, view->measures[i].text);
    }
    put_comment(out, view, "provisional",
                "the window ends after the watermark: more of its events are to be expected");
    return text_close(out, &text);
}

char *catalog_view_signature(const struct view *view)
{
    char *text;
    size_t length;
    FILE *out = text_open(&text, &length);
    if (out == NULL) {
        return NULL;
    }
    fputs("window_start timestamptz,window_end timestamptz", out);
    for (size_t i = 0; i < view->key_count + view->looked_up_count; i++) {
        fprintf(out, ",%s %s", view->keys[i].name, value_type_sql(view->keys[i].type));
    }
    for (size_t i = 0; i < view->measure_count; i++) {
        fprintf(out, ",%s %s", view->measures[i].name,
                value_type_sql(view->measures[i].measure->result_type));
    }
    fputs(",provisional boolean", out);
    return text_close(out, &text);
}
