/* An independent reading of the definitions: see cli/verify_sql.h.
 *
 * PostgreSQL does the work, with its own JSON parser, numerics, expressions and aggregates; none of
 * the engine's code for these takes part. The view's texts are used as they were written, over
 * columns that are named as the fields are. What the definitions say beyond SQL is written a second
 * time here, in PL/pgSQL:
 *
 * - A record is good when it is valid JSON in UTF-8, an object, nested at most EVENT_DEPTH_MAX
 * deep, and every field has a value of its type or may be NULL. PostgreSQL's json keeps texts as
 * they are and takes the last of several equal names. It refuses half of a surrogate pair anywhere,
 * as the engine does, and also \u0000 anywhere, where the engine refuses it in fields only: so it
 * is replaced by a character that the record does not have, which fields then must not contain.
 * - Numbers are read as numeric and checked for the engine's limits on digits and scale; so are the
 *   results of arithmetic, by operators of the schema dovetail_verify that mask PostgreSQL's own.
 * - Times are computed from their digits; PostgreSQL contributes the calendar.
 * - A record is rejected by a view when one of its expressions fails, or its keys are too long.
 *
 * Names of ours begin with an underscore, which those of definitions cannot. */
#include "cli/verify_sql.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/verify_measures.h"
#include "core/records/event_parser.h"
#include "core/time/timestamp.h"
#include "core/postgres/sql_text.h"

/* --- what does not depend on the source --- */

/* JIT makes none of this faster. A custom plan would compute expressions over one record while
 * planning, those behind a false condition too, and fail for them. */
static const char settings_sql[] =
    "SET search_path = pg_catalog, pg_temp;\n"
    "SET standard_conforming_strings = on;\n"
    "SET statement_timeout = 0;\n"
    "SET jit = off;\n"
    "SET plan_cache_mode = force_generic_plan;\n"
    "SET work_mem = '128MB';\n"
    "CREATE TEMP TABLE verify_raw (_partition integer, _offset bigint, _value bytea);\n";

/* Years 0001 to 9999. The year 0, which an offset may lead out of, is computed four years later. */
static const char time_functions_sql[] =
    "CREATE FUNCTION pg_temp.verify_range(_us numeric) RETURNS bigint LANGUAGE plpgsql AS $f$\n"
    "BEGIN\n"
    "  IF _us < -62135596800000000 OR _us >= 253402300800000000 THEN RAISE data_exception; END "
    "IF;\n"
    "  RETURN _us::bigint;\n"
    "END $f$;\n"
    "CREATE FUNCTION pg_temp.verify_rfc3339(_text text) RETURNS bigint LANGUAGE plpgsql AS $f$\n"
    "DECLARE\n"
    "  _m text[] := regexp_match(_text, '^([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt "
    "]([0-9]{2}):([0-9]{2})'\n"
    "    ':([0-9]{2})(?:[.]([0-9]+))?(?:[Zz]|([-+])([0-9]{2}):([0-9]{2}))$');\n"
    "  _year integer := _m[1]::integer;\n"
    "  _days bigint;\n"
    "  _seconds bigint;\n"
    "BEGIN\n"
    "  IF _m IS NULL OR _m[4] > '23' OR _m[5] > '59' OR _m[6] > '60' OR _m[9] > '23' OR _m[10] > "
    "'59'\n"
    "  THEN RAISE data_exception; END IF;\n"
    "  _days := make_date(CASE _year WHEN 0 THEN 4 ELSE _year END, _m[2]::integer, "
    "_m[3]::integer)\n"
    "    - date '1970-01-01' - CASE _year WHEN 0 THEN 1461 ELSE 0 END;\n"
    "  _seconds := _m[4]::bigint * 3600 + _m[5]::bigint * 60 + _m[6]::bigint;\n"
    "  IF _m[8] IS NOT NULL THEN\n"
    "    _seconds := _seconds - (_m[8] || '1')::bigint * (_m[9]::bigint * 3600 + _m[10]::bigint * "
    "60);\n"
    "  END IF;\n"
    "  RETURN pg_temp.verify_range((_days * 86400 + _seconds) * 1000000::numeric\n"
    "    + rpad(left(COALESCE(_m[7], ''), 6), 6, '0')::bigint);\n"
    "END $f$;\n"
    "CREATE FUNCTION pg_temp.verify_epoch(_number numeric, _us_per_unit bigint) RETURNS bigint\n"
    "LANGUAGE plpgsql AS $f$\n"
    "BEGIN\n"
    "  RETURN pg_temp.verify_range(floor(_number * _us_per_unit));\n"
    "END $f$;\n"
    /* Days and microseconds of a day apart, because interval is multiplied in floating point. */
    "CREATE FUNCTION pg_temp.verify_timestamp(_us bigint) RETURNS timestamptz LANGUAGE plpgsql AS "
    "$f$\n"
    "DECLARE _rest bigint := ((_us % 86400000000) + 86400000000) % 86400000000;\n"
    "BEGIN\n"
    "  RETURN ((date '1970-01-01' + ((_us - _rest) / 86400000000)::integer)::timestamp\n"
    "    + _rest * interval '1 microsecond') AT TIME ZONE 'UTC';\n"
    "END $f$;\n";

/* The start of a calendar window, or, with _next 1, its end. Its days are those that calendars in
 * the zone show, and one that they have begun to show is not left for the day before: clocks that
 * were put back over midnight do that. The search_path is named, because the view's masks operators
 * by some that refuse times in other years than events have. */
static const char calendar_function_sql[] =
    "CREATE FUNCTION pg_temp.verify_calendar(_us bigint, _zone text, _days integer,\n"
    "  _origin integer, _months integer, _next integer) RETURNS bigint LANGUAGE plpgsql\n"
    "SET search_path = pg_catalog, pg_temp AS $f$\n"
    "DECLARE\n"
    "  _time timestamptz := pg_temp.verify_timestamp(_us);\n"
    "  _day date := _time AT TIME ZONE _zone;\n"
    "  _into integer;\n"
    "BEGIN\n"
    "  IF dovetail_internal.zone_offset(_time, _zone)\n"
    "      < dovetail_internal.zone_offset(_time - interval '26 hours', _zone)\n"
    "     AND dovetail_internal.day_start(_day + 1, _zone) <= _time THEN _day := _day + 1; END "
    "IF;\n"
    "  IF _days > 0 THEN\n"
    "    _into := (_day - date '1970-01-01' - _origin) % _days;\n"
    "    _day := _day - CASE WHEN _into < 0 THEN _into + _days ELSE _into END + _next * _days;\n"
    "  ELSE\n"
    "    _into := (extract(month FROM _day)::integer - 1) % _months;\n"
    "    _day := date_trunc('month', _day::timestamp)\n"
    "      + make_interval(months => _next * _months - _into);\n"
    "  END IF;\n"
    "  RETURN extract(epoch FROM dovetail_internal.day_start(_day, _zone)) * 1000000;\n"
    "END $f$;\n";

/* 38 digits, 38 of them behind the point: core/numbers/decimal.h. An exponent that numeric cannot
 * read makes no difference to a zero. */
static const char number_functions_sql[] =
    "CREATE FUNCTION pg_temp.verify_decimal(_token text) RETURNS numeric LANGUAGE plpgsql AS $f$\n"
    "DECLARE\n"
    "  _exponent text[] := regexp_match(_token, '[eE]([-+]?)0*([0-9]*)$');\n"
    "  _number numeric;\n"
    "BEGIN\n"
    "  IF length(_exponent[2]) > 4 THEN\n"
    "    IF _exponent[1] = '-' OR _token ~ '^-?[0-9.]*[1-9][0-9.]*[eE]' THEN\n"
    "      RAISE data_exception; END IF;\n"
    "    RETURN 0;\n"
    "  END IF;\n"
    "  _number := _token::numeric;\n"
    "  IF scale(_number) > 38 THEN RAISE data_exception; END IF;\n"
    "  IF abs(_number) >= ('1e' || (38 - scale(_number)))::numeric THEN RAISE data_exception; END "
    "IF;\n"
    "  RETURN _number;\n"
    "END $f$;\n";

static const char text_functions_sql[] =
    "CREATE FUNCTION pg_temp.verify_depth(_text text) RETURNS integer LANGUAGE plpgsql AS $f$\n"
    "DECLARE\n"
    "  _character text;\n"
    "  _depth integer := 0;\n"
    "  _deepest integer := 0;\n"
    "BEGIN\n"
    "  _text := regexp_replace(_text, '\"(?:[^\"\\\\]|\\\\.)*\"', '', 'g');\n"
    "  _text := regexp_replace(_text, '[^][{}]', '', 'g');\n"
    "  FOREACH _character IN ARRAY string_to_array(_text, NULL) LOOP\n"
    "    _depth := _depth + CASE WHEN _character IN ('[', '{') THEN 1 ELSE -1 END;\n"
    "    _deepest := GREATEST(_deepest, _depth);\n"
    "  END LOOP;\n"
    "  RETURN _deepest;\n"
    "END $f$;\n"
    /* A character of the private use area that the text has neither as such nor escaped. */
    "CREATE FUNCTION pg_temp.verify_marker(_text text) RETURNS text LANGUAGE plpgsql AS $f$\n"
    "BEGIN\n"
    "  FOR _code IN 57344 .. 63743 LOOP\n"
    "    IF strpos(_text, chr(_code)) = 0 AND strpos(lower(_text), '\\u' || to_hex(_code)) = 0 "
    "THEN\n"
    "      RETURN chr(_code); END IF;\n"
    "  END LOOP;\n"
    "  RAISE 'no character is free for \\u0000' USING ERRCODE = 'internal_error';\n"
    "END $f$;\n";

/* --- the source's fields --- */

static void put_event_type(FILE *out, const struct source *source)
{
    fputs("CREATE TYPE pg_temp.verify_event AS (_time_us bigint", out);
    for (size_t i = 0; i < source->field_count; i++)
        fprintf(out, ", \"%s\" %s%s", source->fields[i].name,
                value_type_sql(source->fields[i].type),
                source->fields[i].type == VALUE_STRING ? " COLLATE \"C\"" : "");
    fputs(");\n", out);
}

static int us_per_unit(enum time_format format)
{
    return format == TIME_EPOCH_S ? 1000000 : format == TIME_EPOCH_MS ? 1000 : 1;
}

static void put_type_check(FILE *out, const char *json_type)
{
    fprintf(out, "    IF json_typeof(_json) <> '%s' THEN RETURN NULL; END IF;\n", json_type);
}

/* Sets the field from _json, which is neither missing nor null. */
static void put_conversion(FILE *out, const struct source_field *field)
{
    switch (field->type) {
    case VALUE_STRING:
        put_type_check(out, "string");
        fprintf(out,
                "    _event.\"%s\" := _json #>> '{}';\n"
                "    IF strpos(_event.\"%s\", _marker) > 0 THEN RETURN NULL; END IF;\n",
                field->name, field->name);
        return;
    case VALUE_INTEGER:
        put_type_check(out, "number");
        fprintf(out,
                "    IF _json::text !~ '^-?[0-9]+$' THEN RETURN NULL; END IF;\n"
                "    _event.\"%s\" := _json::text::bigint;\n",
                field->name);
        return;
    case VALUE_DECIMAL:
        put_type_check(out, "number");
        fprintf(out, "    _event.\"%s\" := pg_temp.verify_decimal(_json::text);\n", field->name);
        return;
    case VALUE_BOOLEAN:
        put_type_check(out, "boolean");
        fprintf(out, "    _event.\"%s\" := _json::text = 'true';\n", field->name);
        return;
    case VALUE_INTEGERS:
        return; /* never a field's type */
    case VALUE_TIMESTAMP:
        put_type_check(out, field->format == TIME_RFC3339 ? "string" : "number");
        if (field->format == TIME_RFC3339)
            fputs("    _us := pg_temp.verify_rfc3339(_json #>> '{}');\n", out);
        else
            fprintf(out,
                    "    _us := pg_temp.verify_epoch(pg_temp.verify_decimal(_json::text), %d);\n",
                    us_per_unit(field->format));
        fprintf(out, "    _event.\"%s\" := pg_temp.verify_timestamp(_us);\n", field->name);
        return;
    }
}

static void put_event_time(FILE *out, const struct source *source)
{
    const struct source_field *field = &source->fields[source->event_time_field];
    enum time_format format = source->event_time_format;
    if (field->type == VALUE_TIMESTAMP)
        fputs("    _event._time_us := _us;\n", out);
    else if (format == TIME_RFC3339)
        fprintf(out, "    _event._time_us := pg_temp.verify_rfc3339(_event.\"%s\");\n",
                field->name);
    else
        fprintf(out, "    _event._time_us := pg_temp.verify_epoch(_event.\"%s\", %d);\n",
                field->name, us_per_unit(format));
}

static void put_field(FILE *out, const struct source *source, size_t index)
{
    const struct source_field *field = &source->fields[index];
    bool is_time = index == source->event_time_field;
    fputs("  _json := _record", out);
    for (size_t i = 0; i < field->path_count; i++) {
        fputs(" -> ", out);
        sql_put_literal(out, field->path[i]);
    }
    fputs(";\n  IF _json IS NULL OR json_typeof(_json) = 'null' THEN\n", out);
    fprintf(out, "    %s;\n  ELSE\n", field->nullable && !is_time ? "NULL" : "RETURN NULL");
    put_conversion(out, field);
    if (is_time)
        put_event_time(out, source);
    fputs("  END IF;\n", out);
}

static char *close_text(FILE *out, char **text)
{
    bool failed = ferror(out) != 0;
    failed = fclose(out) != 0 || failed;
    if (failed) {
        free(*text);
        *text = NULL;
    }
    return *text;
}

static char *finish_text(FILE *out, bool good, char **text)
{
    if (close_text(out, text) != NULL && !good) {
        free(*text);
        *text = NULL;
    }
    return *text;
}

/* A function whose body has texts of definitions in it, in which any quoting may occur: so the body
 * is a literal. */
static bool put_function(FILE *out, const char *head, void (*put_body)(FILE *, const void *),
                         const void *definition)
{
    char *body = NULL;
    size_t length;
    FILE *text = open_memstream(&body, &length);
    if (text == NULL)
        return false;
    put_body(text, definition);
    if (close_text(text, &body) == NULL)
        return false;
    fputs(head, out);
    sql_put_literal(out, body);
    free(body);
    return true;
}

/* The derived fields of a parsed record, in their order; fails where one of them does. */
static void put_derive_body(FILE *out, const void *definition)
{
    const struct source *source = definition;
    fputs("#variable_conflict use_column\n"
          "BEGIN\n",
          out);
    const struct source_field *fields =
        source->fields + source->field_count - source->derived_count;
    for (size_t i = 0; i < source->derived_count; i++)
        fprintf(out, "  _event.\"%s\" := (SELECT (%s\n)::%s FROM (SELECT (_event).*) AS _e);\n",
                fields[i].name, source->derived[i].text, value_type_sql(fields[i].type));
    fputs("  RETURN _event;\n"
          "END",
          out);
}

static void put_parse_body(FILE *out, const void *definition)
{
    const struct source *source = definition;
    fprintf(out,
            "DECLARE\n"
            "  _text text;\n"
            "  _record json;\n"
            "  _json json;\n"
            "  _us bigint;\n"
            "  _marker text;\n"
            "  _event pg_temp.verify_event;\n"
            "BEGIN\n"
            "  IF _value IS NULL OR octet_length(_value) > 67108864 THEN RETURN NULL; END IF;\n"
            "  _text := convert_from(_value, 'UTF8');\n"
            "  IF length(_text) - length(translate(_text, '[{', '')) > %d\n"
            "     AND pg_temp.verify_depth(_text) > %d THEN RETURN NULL; END IF;\n"
            "  IF strpos(_text, '\\u0000') > 0 THEN\n"
            "    _marker := pg_temp.verify_marker(_text);\n"
            "    _text := regexp_replace(_text, '(?<!\\\\)((?:\\\\\\\\)*)\\\\u0000',\n"
            "                            '\\1' || _marker, 'g');\n"
            "  END IF;\n"
            "  _record := _text::json;\n"
            "  IF json_typeof(_record) <> 'object' THEN RETURN NULL; END IF;\n",
            EVENT_DEPTH_MAX, EVENT_DEPTH_MAX);
    for (size_t i = 0; i < source->field_count - source->derived_count; i++)
        put_field(out, source, i);
    if (source->derived_count > 0)
        fputs("  _event := pg_temp.verify_derive(_event);\n", out);
    fputs("  RETURN _event;\n"
          "EXCEPTION WHEN data_exception THEN RETURN NULL;\n"
          "END",
          out);
}

char *verify_setup_sql(const struct source *source)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL)
        return NULL;
    fputs(settings_sql, out);
    fputs(time_functions_sql, out);
    fputs(number_functions_sql, out);
    fputs(text_functions_sql, out);
    fputs(calendar_function_sql, out);
    fputs(verify_measure_functions_sql, out);
    put_event_type(out, source);
    bool good = put_function(out,
                             "CREATE FUNCTION pg_temp.verify_derive(_event pg_temp.verify_event)\n"
                             "RETURNS pg_temp.verify_event LANGUAGE plpgsql\n"
                             "SET search_path = dovetail_verify, pg_catalog, pg_temp AS ",
                             put_derive_body, source);
    fputs(";\n", out);
    good = put_function(out,
                        "CREATE FUNCTION pg_temp.verify_parse(_value bytea)\n"
                        "RETURNS pg_temp.verify_event LANGUAGE plpgsql AS ",
                        put_parse_body, source) &&
           good;
    return finish_text(out, good, &text);
}

/* A duplicate follows a record with the same id in its partition at a distance of at most `within`
 * offsets: that is the nearest one before it, whatever became of that, records with a NULL that
 * drop_if_null forbids included. */
char *verify_parse_sql(const struct source *source)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL)
        return NULL;
    fputs("CREATE TEMP TABLE verify_parsed AS SELECT _partition, _offset, _event FROM (SELECT *",
          out);
    if (source->dedupe_within > 0)
        fprintf(out,
                ", _offset - lag(_offset) OVER (PARTITION BY _partition, (_event).\"%s\""
                " ORDER BY _offset) AS _distance",
                source->fields[source->dedupe_field].name);
    fputs(" FROM (SELECT _partition, _offset, pg_temp.verify_parse(_value) AS _event"
          " FROM verify_raw OFFSET 0) AS _all WHERE (_event)._time_us IS NOT NULL) AS _good"
          " WHERE true",
          out);
    if (source->dedupe_within > 0)
        fprintf(out,
                " AND ((_event).\"%s\" IS NULL OR _distance IS NULL OR _distance > %" PRId64 ")",
                source->fields[source->dedupe_field].name, source->dedupe_within);
    for (size_t i = 0; i < source->drop_if_null_count; i++)
        fprintf(out, " AND (_event).\"%s\" IS NOT NULL",
                source->fields[source->drop_if_null[i]].name);
    return close_text(out, &text);
}

/* --- the view --- */

struct as_text {
    const char *before;
    const char *after;
};

/* What stands around an expression of the type. */
static struct as_text as_text(enum value_type type)
{
    static const char *const before[] = {
        [VALUE_STRING] = "(",
        [VALUE_INTEGER] = "(",
        [VALUE_DECIMAL] = "trim_scale(",
        [VALUE_BOOLEAN] = "(",
        [VALUE_TIMESTAMP] = "(extract(epoch FROM ",
        [VALUE_INTEGERS] = "(",
    };
    static const char *const after[] = {
        [VALUE_STRING] = ")::text",
        [VALUE_INTEGER] = ")::bigint::text",
        [VALUE_DECIMAL] = ")::text",
        [VALUE_BOOLEAN] = ")::text",
        [VALUE_TIMESTAMP] = ") * 1000000)::bigint::text",
        [VALUE_INTEGERS] = ")::bigint[]::text",
    };
    return (struct as_text){before[type], after[type]};
}

/* The measure's own text; where PostgreSQL has no such aggregate, what stands for it: a template in
 * which {1} is the text of the first argument and {filter} that of the FILTER clause. */
static void put_measure(FILE *out, const struct view_measure *view_measure)
{
    const struct measure *measure = view_measure->measure;
    const struct measure_kind *kind = measure->kind;
    const char *at = kind->oracle_sql != NULL ? kind->oracle_sql(measure) : NULL;
    if (at == NULL) {
        fputs(view_measure->text, out);
        return;
    }
    while (*at != '\0') {
        if (strncmp(at, "{filter}", 8) == 0) {
            fputs(measure->filter_text, out);
            at += 8;
        } else if (*at == '{' && at[1] >= '1' && at[1] < '1' + MEASURE_ARGUMENT_MAX &&
                   at[2] == '}') {
            fputs(measure->argument_texts[at[1] - '1'], out);
            at += 3;
        } else {
            fputc(*at++, out);
        }
    }
}

/* The records that `events` gives and the view counts, with their keys, as _r. */
static void put_records(FILE *out, const struct view *view, const char *events)
{
    fputs("(SELECT * FROM (SELECT _e.*", out);
    for (size_t i = 0; i < view->key_count; i++)
        fprintf(out, ", (%s\n)::%s AS _k%zu", view->keys[i].text,
                value_type_sql(expression_type(view->keys[i].expression)), i);
    fprintf(out, " FROM (%s) AS _e", events);
    if (view->where_text != NULL)
        fprintf(out, " WHERE (%s\n)", view->where_text);
    fputs(") AS _q WHERE 0", out);
    for (size_t i = 0; i < view->key_count; i++)
        if (expression_type(view->keys[i].expression) == VALUE_STRING)
            fprintf(out, " + COALESCE(octet_length(_k%zu), 0)", i);
    fprintf(out, " <= %d) AS _r", KEY_BYTES_MAX);
}

/* PARTITION BY the keys and, where it is not NULL, `more`. */
static void put_partition(FILE *out, const struct view *view, const char *more)
{
    const char *separator = " PARTITION BY ";
    for (size_t i = 0; i < view->key_count; i++, separator = ", ")
        fprintf(out, "%s_k%zu", separator, i);
    if (more != NULL)
        fprintf(out, "%s%s", separator, more);
}

/* The greatest multiple of `step_us` that is not above `time`. */
static void put_floor(FILE *out, const char *time, int64_t step_us)
{
    fprintf(out, "(%s) - (((%s) %% %" PRId64 ") + %" PRId64 ") %% %" PRId64, time, time, step_us,
            step_us, step_us);
}

/* One row for each record and window that it is in, with the window's start as _window: from the
 * records alone, without panes. */
static void put_windows(FILE *out, const struct view *view, const char *events)
{
    const struct window *window = &view->window;
    switch (window->kind->type) {
    case WINDOW_TUMBLING:
        fputs("SELECT _r.*, ", out);
        put_floor(out, "_time_us", window->size_us);
        break;
    case WINDOW_CALENDAR:
        fprintf(out, "SELECT _r.*, pg_temp.verify_calendar(_time_us, '%s', %d, %d, %d, 0)",
                window->zone->name, window->days, window->origin_day, window->months);
        break;
    case WINDOW_HOPPING:
        fputs("SELECT _r.*, _starts._start", out);
        break;
    case WINDOW_SESSION:
        fputs("SELECT _s.*, min(_time_us) OVER (", out);
        put_partition(out, view, "_session");
        fputs(") AS _window FROM (SELECT _b.*, sum(_begins) OVER (", out);
        put_partition(out, view, NULL);
        fputs(
            " ORDER BY _time_us) AS _session FROM (SELECT _r.*, CASE WHEN _time_us - lag(_time_us)"
            " OVER (",
            out);
        put_partition(out, view, NULL);
        fprintf(out, " ORDER BY _time_us) < %" PRId64 " THEN 0 ELSE 1 END AS _begins FROM ",
                window->size_us);
        put_records(out, view, events);
        fputs(") AS _b) AS _s", out);
        return;
    case WINDOW_NONE:
        fputs("SELECT _r.*, 0::bigint", out);
        break;
    }
    fputs(" AS _window FROM ", out);
    put_records(out, view, events);
    if (window->kind->type == WINDOW_HOPPING) { /* the multiples of slide in (time - size, time] */
        fputs(" CROSS JOIN LATERAL generate_series(", out);
        char after[80];
        snprintf(after, sizeof after, "_time_us - %" PRId64, window->size_us);
        put_floor(out, after, window->slide_us);
        fprintf(out, " + %" PRId64 ", _time_us, %" PRId64 ") AS _starts (_start)", window->slide_us,
                window->slide_us);
    }
}

/* The end of the window of a group. */
static void put_window_end(FILE *out, const struct view *view)
{
    const struct window *window = &view->window;
    switch (window->kind->type) {
    case WINDOW_TUMBLING:
    case WINDOW_HOPPING:
        fprintf(out, "_window + %" PRId64, window->size_us);
        return;
    case WINDOW_CALENDAR:
        fprintf(out, "pg_temp.verify_calendar(_window, '%s', %d, %d, %d, 1)", window->zone->name,
                window->days, window->origin_day, window->months);
        return;
    case WINDOW_SESSION:
        fprintf(out, "max(_time_us) + %" PRId64, window->size_us);
        return;
    case WINDOW_NONE:
        fputs("0", out);
        return;
    }
}

/* FROM ... WHERE ... GROUP BY over the records that `events` gives. Without a range, which is for
 * one record, windows do not matter. */
static void put_groups(FILE *out, const struct view *view, const char *events,
                       const struct verify_range *range)
{
    fputs(" FROM (", out);
    if (range == NULL) {
        fputs("SELECT _r.*, 0 AS _window FROM ", out);
        put_records(out, view, events);
    } else {
        put_windows(out, view, events);
    }
    fputs(") AS _w", out);
    if (range != NULL)
        fprintf(out, " WHERE _window >= %" PRId64 " AND _window < %" PRId64, range->from_us,
                range->to_us);
    fputs(" GROUP BY _window", out);
    for (size_t i = 0; i < view->key_count; i++)
        fprintf(out, ", _k%zu", i);
}

const char verify_view_settings_sql[] = "SET search_path = dovetail_verify, pg_catalog, pg_temp";

char *verify_rows_sql(const struct view *view, const struct verify_range *range)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL)
        return NULL;
    fputs("SELECT _window::text, (", out);
    put_window_end(out, view);
    fputs(")::text", out);
    for (size_t i = 0; i < view->key_count; i++) {
        struct as_text around = as_text(expression_type(view->keys[i].expression));
        fprintf(out, ", %s_k%zu%s", around.before, i, around.after);
    }
    for (size_t i = 0; i < view->measure_count; i++) {
        struct as_text around = as_text(view->measures[i].measure->result_type);
        fprintf(out, ",\n%s", around.before);
        put_measure(out, &view->measures[i]);
        fprintf(out, "\n%s", around.after);
    }
    put_groups(out, view, "SELECT (_event).*, _partition, _offset FROM verify_parsed", range);
    return close_text(out, &text);
}

static void put_counts_body(FILE *out, const void *definition)
{
    const struct view *view = definition;
    fputs("#variable_conflict use_column\n"
          "BEGIN\n"
          "  PERFORM ",
          out);
    for (size_t i = 0; i < view->measure_count; i++) {
        fputs(i > 0 ? ", (" : "(", out);
        put_measure(out, &view->measures[i]);
        fputs("\n)", out);
    }
    put_groups(out, view, "SELECT (_event).*, 0 AS _partition, 0::bigint AS _offset", NULL);
    fputs(";\n"
          "  RETURN true;\n"
          "EXCEPTION WHEN data_exception OR program_limit_exceeded THEN RETURN false;\n"
          "END",
          out);
}

/* The same statement over a single record: if it fails, the view does not count the record. */
char *verify_reject_sql(const struct view *view)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL)
        return NULL;
    bool good = put_function(out,
                             "CREATE FUNCTION pg_temp.verify_counts(_event pg_temp.verify_event)\n"
                             "RETURNS boolean LANGUAGE plpgsql AS ",
                             put_counts_body, view);
    fputs(";\nDELETE FROM verify_parsed WHERE NOT pg_temp.verify_counts(_event)", out);
    return finish_text(out, good, &text);
}
