/* Whole views against a real PostgreSQL: random definitions over random events, folded by
 * core/groups in random splits, merged again through stored rows and made windows of, and computed
 * by PostgreSQL from the same texts with GROUP BY over date_bin, date_trunc in a time zone, hopping
 * windows generated for each record, and sessions by lag(). Windows, keys, measures and which
 * records are rejected must be the same; an approximate percentile must keep its bound.
 *
 * A record that makes an expression fail would fail PostgreSQL's whole statement. So each record is
 * first tried alone there, with columns for literals (see expression_generator.h); what fails must
 * be what we rejected, and is left out. A failure without an SQLSTATE, such as a decimal
 * beyond 38 digits, is a limit of ours alone.
 *
 * The same stored rows are also merged by PostgreSQL, with the measures' templates for the SQL
 * view, where rows are windows.
 *
 * Where PostgreSQL has no such aggregate, or one in floating point, the formula of docs/VIEWS.md is
 * written here a second time, as temporary aggregates over numeric; in a test of its own the
 * results are held against the floating point ones, too.
 *
 * Needs no schema: temporary tables only. DOVETAIL_POSTGRES is the libpq conninfo; without it the
 * test is skipped. DOVETAIL_SEED repeats. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <libpq-fe.h>

#include "core/groups.h"
#include "tests/integration/expression_generator.h"

#include "tests/support/database.h"

enum { VIEWS = 400, VIEWS_PER_FACTS = 10, EVENTS = 120, PARTS = 3, KEYS_MAX = 3, MEASURES_MAX = 6 };

/* Tries `checked` for each record of facts and notes those that fail. */
static const char find_rejected[] =
    "CREATE FUNCTION pg_temp.find_rejected(checked text) RETURNS SETOF integer\n"
    "LANGUAGE plpgsql AS $$\n"
    "DECLARE\n"
    "    row_id integer;\n"
    "BEGIN\n"
    "    TRUNCATE rejected;\n"
    "    BEGIN\n"
    "        EXECUTE checked USING NULL::integer;\n"
    "    EXCEPTION WHEN OTHERS THEN\n"
    "        FOR row_id IN SELECT f.id FROM facts AS f LOOP\n"
    "            BEGIN\n"
    "                EXECUTE checked USING row_id;\n"
    "            EXCEPTION WHEN data_exception OR program_limit_exceeded THEN\n"
    "                INSERT INTO rejected VALUES (row_id);\n"
    "            END;\n"
    "        END LOOP;\n"
    "    END;\n"
    "    RETURN QUERY SELECT r.id FROM rejected AS r;\n"
    "END $$";

/* Over pairs (y, x) of which neither is NULL: n, Σx, Σx², Σy, Σy², Σxy. */
static const char pair_aggregates[] =
    "CREATE FUNCTION pg_temp.pair_add(s numeric[], y numeric, x numeric) RETURNS numeric[]\n"
    "LANGUAGE sql IMMUTABLE STRICT\n"
    "RETURN ARRAY[s[1] + 1, s[2] + x, s[3] + x * x, s[4] + y, s[5] + y * y, s[6] + x * y];\n"
    "CREATE FUNCTION pg_temp.pair_result(name text, s numeric[]) RETURNS numeric\n"
    "LANGUAGE plpgsql IMMUTABLE AS $$\n"
    "DECLARE\n"
    "    n numeric := s[1];\n"
    "    dxx numeric := n * s[3] - s[2] * s[2];\n"
    "    dyy numeric := n * s[5] - s[4] * s[4];\n"
    "    dxy numeric := n * s[6] - s[2] * s[4];\n"
    "BEGIN\n"
    "    RETURN CASE\n"
    "        WHEN name = 'regr_count' THEN n\n"
    "        WHEN n = 0 THEN NULL\n"
    "        WHEN name = 'regr_avgx' THEN s[2] / n\n"
    "        WHEN name = 'regr_avgy' THEN s[4] / n\n"
    "        WHEN name = 'regr_sxx' THEN dxx / n\n"
    "        WHEN name = 'regr_syy' THEN dyy / n\n"
    "        WHEN name = 'regr_sxy' THEN dxy / n\n"
    "        WHEN name = 'covar_pop' THEN dxy / (n * n)\n"
    "        WHEN name = 'covar_samp' THEN CASE WHEN n > 1 THEN dxy / (n * (n - 1)) END\n"
    "        WHEN dxx = 0 THEN NULL\n"
    "        WHEN name = 'regr_slope' THEN dxy / dxx\n"
    "        WHEN name = 'regr_intercept' THEN (s[4] * s[3] - s[2] * s[6]) / dxx\n"
    "        WHEN dyy = 0 THEN CASE WHEN name = 'regr_r2' THEN 1 END\n"
    "        WHEN name = 'regr_r2' THEN dxy * dxy / (dxx * dyy)\n"
    "        WHEN name = 'corr' THEN sign(dxy) * sqrt(dxy * dxy / (dxx * dyy))\n"
    "    END;\n"
    "END $$;\n"
    "DO $$\n"
    "DECLARE name text;\n"
    "BEGIN\n"
    "    FOREACH name IN ARRAY '{regr_count,regr_avgx,regr_avgy,regr_sxx,regr_syy,regr_sxy,"
    "covar_pop,covar_samp,regr_slope,regr_intercept,regr_r2,corr}'::text[] LOOP\n"
    "        EXECUTE format('CREATE FUNCTION pg_temp.end_%1$s(s numeric[]) RETURNS numeric"
    " LANGUAGE sql IMMUTABLE RETURN pg_temp.pair_result(%1$L, s)', name);\n"
    "        EXECUTE format('CREATE AGGREGATE pg_temp.%1$I(numeric, numeric) (sfunc ="
    " pg_temp.pair_add, stype = numeric[], initcond = ''{0,0,0,0,0,0}'', finalfunc ="
    " pg_temp.end_%1$s)', name);\n"
    "    END LOOP;\n"
    "END $$";

static PGconn *connection;
static struct source *source;
static struct arena arena;
static struct value facts[EVENTS][GENERATOR_FIELDS];
static struct error error;

static void must(enum status status)
{
    if (status != STATUS_OK) {
        fail_msg("%s", error.text);
    }
}

static PGresult *run(const char *sql, int count, const char *const *values)
{
    PGresult *result = database_ask_with(connection, sql, count, values);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    }
    return result;
}

static int set_up(void **state)
{
    (void)state;
    const char *conninfo = getenv("DOVETAIL_POSTGRES");
    if (conninfo == NULL) {
        print_message("DOVETAIL_POSTGRES is not set: skipped\n");
        return 0;
    }
    connection = database_open(conninfo);
    if (PQstatus(connection) != CONNECTION_OK) {
        print_error("%s", PQerrorMessage(connection));
        return -1;
    }
    json_t *json = json_loads(generator_source(), 0, NULL);
    must(source_create(json, "source", &source, &error));
    json_decref(json);
    char *table = generator_table();
    PQclear(run("SET timezone = 'UTC'", 0, NULL));
    PQclear(run(table, 0, NULL));
    PQclear(run("CREATE TEMPORARY TABLE rejected (id integer)", 0, NULL));
    PQclear(run(find_rejected, 0, NULL));
    PQclear(database_ask(connection, pair_aggregates));
    free(table);
    arena_init(&arena);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    source_destroy(source);
    arena_deinit(&arena);
    PQfinish(connection);
    return 0;
}

/* --- events --- */

static void make_facts(struct arena *memory)
{
    char *sql = NULL;
    size_t length;
    FILE *out = open_memstream(&sql, &length);

    fputs("INSERT INTO facts (id", out);
    for (size_t i = 0; i < GENERATOR_FIELDS; i++) {
        fprintf(out, ", \"%s\"", generator_fields[i].name);
    }
    fputs(") VALUES", out);
    for (size_t row = 0; row < EVENTS; row++) {
        fprintf(out, "%s (%zu", row == 0 ? "" : ",", row);
        for (size_t i = 0; i < GENERATOR_FIELDS; i++) {
            enum value_type type = generator_fields[i].type;
            bool is_time = i == source->event_time_field;
            const char *text;
            do {
                text = generator_value(type, true, memory);
            } while (text == NULL && is_time);
            facts[row][i] = value_null(type);
            if (text != NULL) {
                must(value_parse(type, text, strlen(text), &facts[row][i], &error));
            }
            char *literal = text == NULL ? NULL : PQescapeLiteral(connection, text, strlen(text));
            fprintf(out, ", %s", literal == NULL ? "NULL" : literal);
            PQfreemem(literal);
        }
        fputc(')', out);
    }
    fclose(out);
    PQclear(run("TRUNCATE facts", 0, NULL));
    PQclear(run(sql, 0, NULL));
    free(sql);
}

/* --- definitions --- */

enum wanted_type { WANTS_ANY, WANTS_NUMBER, WANTS_ORDERED, WANTS_BOOLEAN };

struct measured_kind {
    const char *name;
    size_t argument_count;
    enum wanted_type wants;
    /* What PostgreSQL has instead: {1} and {2} are the arguments, {filter} the condition. NULL: the
     * same. */
    const char *sql;
    const char *prefix, *suffix; /* of the arguments in the call */
    bool is_near;                /* the result is within 1 % of PostgreSQL's */
};

#define PAIRS_SQL(name) "pg_temp." name "(({1})::numeric, ({2})::numeric) FILTER (WHERE {filter})"
/* In an array a string literal has a type. */
#define CHOSEN_SQL(order)                                                                          \
    "(array_agg((ARRAY[{1}])[1] ORDER BY " order ") FILTER (WHERE {filter}))[1]"
#define CHOSEN_BY_SQL(direction)                                                                   \
    "(array_agg((ARRAY[{1}])[1] ORDER BY ({2}) " direction ", \"time\", id % 2, id)"               \
    " FILTER (WHERE CASE WHEN {filter} THEN ({2}) IS NOT NULL END))[1]"

static const struct measured_kind measured_kinds[] = {
    {"count", 1, WANTS_ANY, .sql = NULL},
    {"sum", 1, WANTS_NUMBER, .sql = NULL},
    {"avg", 1, WANTS_NUMBER, .sql = NULL},
    {"min", 1, WANTS_ORDERED, .sql = NULL},
    {"max", 1, WANTS_ORDERED, .sql = NULL},
    {"bool_and", 1, WANTS_BOOLEAN, .sql = NULL},
    {"bool_or", 1, WANTS_BOOLEAN, .sql = NULL},
    {"var_pop", 1, WANTS_NUMBER, .sql = NULL},
    {"var_samp", 1, WANTS_NUMBER, .sql = NULL},
    {"variance", 1, WANTS_NUMBER, .sql = NULL},
    {"stddev_pop", 1, WANTS_NUMBER, .sql = NULL},
    {"stddev_samp", 1, WANTS_NUMBER, .sql = NULL},
    {"stddev", 1, WANTS_NUMBER, .sql = NULL},
    {"regr_count", 2, WANTS_NUMBER, .sql = PAIRS_SQL("regr_count")},
    {"regr_avgx", 2, WANTS_NUMBER, .sql = PAIRS_SQL("regr_avgx")},
    {"regr_avgy", 2, WANTS_NUMBER, .sql = PAIRS_SQL("regr_avgy")},
    {"regr_sxx", 2, WANTS_NUMBER, .sql = PAIRS_SQL("regr_sxx")},
    {"regr_syy", 2, WANTS_NUMBER, .sql = PAIRS_SQL("regr_syy")},
    {"regr_sxy", 2, WANTS_NUMBER, .sql = PAIRS_SQL("regr_sxy")},
    {"covar_pop", 2, WANTS_NUMBER, .sql = PAIRS_SQL("covar_pop")},
    {"covar_samp", 2, WANTS_NUMBER, .sql = PAIRS_SQL("covar_samp")},
    {"regr_slope", 2, WANTS_NUMBER, .sql = PAIRS_SQL("regr_slope")},
    {"regr_intercept", 2, WANTS_NUMBER, .sql = PAIRS_SQL("regr_intercept")},
    {"regr_r2", 2, WANTS_NUMBER, .sql = PAIRS_SQL("regr_r2")},
    {"corr", 2, WANTS_NUMBER, .sql = PAIRS_SQL("corr")},
    {"first", 1, WANTS_ANY, .sql = CHOSEN_SQL("\"time\", id % 2, id")},
    {"last", 1, WANTS_ANY, .sql = CHOSEN_SQL("\"time\" DESC, id % 2 DESC, id DESC")},
    {"arg_min", 2, WANTS_ANY, .sql = CHOSEN_BY_SQL("")},
    {"arg_max", 2, WANTS_ANY, .sql = CHOSEN_BY_SQL("DESC NULLS LAST")},
    {"count", 1, WANTS_ANY, NULL, .prefix = "DISTINCT "},
    {"count", 1, WANTS_ANY, "count(DISTINCT {1}) FILTER (WHERE {filter})", .prefix = "DISTINCT ",
     .suffix = ", 500"},
    /* exact up to 128 values, and there are not more events */
    {"approx_count_distinct", 1, WANTS_ANY, .sql = "count(DISTINCT {1}) FILTER (WHERE {filter})"},
    {"histogram", 1, WANTS_NUMBER,
     "ARRAY[count(*) FILTER (WHERE CASE WHEN {filter} THEN ({1}) < -2.5 END),"
     " count(*) FILTER (WHERE CASE WHEN {filter} THEN ({1}) >= -2.5 AND ({1}) < 0 END),"
     " count(*) FILTER (WHERE CASE WHEN {filter} THEN ({1}) >= 0 AND ({1}) < 40 END),"
     " count(*) FILTER (WHERE CASE WHEN {filter} THEN ({1}) >= 40 END)]",
     .suffix = ", [-2.5, 0, 40]"},
    {"approx_percentile", 1, WANTS_NUMBER,
     "percentile_disc(0.3) WITHIN GROUP (ORDER BY ({1})::numeric) FILTER (WHERE {filter})",
     .suffix = ", 0.3", .is_near = true},
};

enum { KINDS = sizeof measured_kinds / sizeof measured_kinds[0], ARGUMENTS_MAX = 2 };

struct measure_texts {
    const struct measured_kind *kind;
    bool is_star, is_filtered;
    struct generated arguments[ARGUMENTS_MAX], filter;
};

/* The windows of a view, and what PostgreSQL makes them of: rows with a start w and an end e, or,
 * where `gap` says so, sessions. */
struct windowing {
    const char *json;
    const char *starts; /* the start, or a set of them, of a record at "time" */
    const char *end;    /* of the window from w on */
    const char *gap;
};

#define ORIGIN "'1970-01-01T00:00:00Z'"
#define TUMBLING(size, interval)                                                                   \
    {                                                                                              \
        "{\"type\":\"tumbling\",\"size\":\"" size "\"}",                                           \
            "date_bin('" interval "', \"time\", " ORIGIN ")", "w + interval '" interval "'", NULL  \
    }
#define CALENDAR(size, unit, zone, step)                                                           \
    {                                                                                              \
        "{\"type\":\"tumbling\",\"size\":\"" size "\",\"timezone\":\"" zone "\"}",                 \
            "date_trunc('" unit "', \"time\", '" zone "')",                                        \
            "(w AT TIME ZONE '" zone "' + interval '" step "') AT TIME ZONE '" zone "'", NULL      \
    }
/* from an origin before all times, because before it versions of date_bin differ */
#define HOPPING(size, slide, size_sql, slide_sql)                                                  \
    {                                                                                              \
        "{\"type\":\"hopping\",\"size\":\"" size "\",\"slide\":\"" slide "\"}",                    \
            "generate_series(date_bin('" slide_sql "', \"time\" - interval '" size_sql             \
            "', timestamptz 'epoch' - interval '970900 days') + interval '" slide_sql              \
            "', \"time\", interval '" slide_sql "')",                                              \
            "w + interval '" size_sql "'", NULL                                                    \
    }
#define SESSION(gap, interval)                                                                     \
    {                                                                                              \
        "{\"type\":\"session\",\"gap\":\"" gap "\"}", NULL, NULL, interval                         \
    }

static const struct windowing windowings[] = {
    TUMBLING("1h", "1 hour"),
    TUMBLING("15m", "15 minutes"),
    TUMBLING("1d", "1 day"),
    TUMBLING("1w", "7 days"),
    TUMBLING("90m", "90 minutes"),
    TUMBLING("7s", "7 seconds"),
    TUMBLING("250ms", "250 milliseconds"),
    TUMBLING("36500d", "36500 days"),
    CALENDAR("1d", "day", "Europe/Berlin", "1 day"),
    CALENDAR("1d", "day", "Australia/Lord_Howe", "1 day"),
    CALENDAR("1w", "week", "America/New_York", "7 days"),
    CALENDAR("1mo", "month", "Asia/Kathmandu", "1 month"),
    CALENDAR("3mo", "quarter", "UTC", "3 months"),
    CALENDAR("1y", "year", "America/New_York", "1 year"),
    HOPPING("1h", "20m", "1 hour", "20 minutes"),
    HOPPING("50m", "15m", "50 minutes", "15 minutes"),
    HOPPING("3d", "8h", "3 days", "8 hours"),
    HOPPING("2w", "1w", "14 days", "7 days"),
    HOPPING("36500d", "7300d", "36500 days", "7300 days"),
    SESSION("15m", "15 minutes"),
    SESSION("1d", "1 day"),
    SESSION("3650d", "3650 days"),
    {"{\"type\":\"none\"}", "NULL::timestamptz", "NULL::timestamptz", NULL},
};
enum { WINDOWINGS = sizeof windowings / sizeof windowings[0] };

struct definition {
    bool has_where;
    struct generated where;
    size_t key_count, measure_count;
    struct generated keys[KEYS_MAX];
    struct measure_texts measures[MEASURES_MAX];
    const struct windowing *windowing;
};

static enum value_type argument_type(enum wanted_type wants)
{
    enum value_type type = generate_type();

    while (wants == WANTS_ORDERED && type == VALUE_BOOLEAN) {
        type = generate_type();
    }
    return wants == WANTS_NUMBER    ? generate_numeric_type()
           : wants == WANTS_BOOLEAN ? VALUE_BOOLEAN
                                    : type;
}

static void make_measure(struct measure_texts *measure)
{
    const struct measured_kind *kind = &measured_kinds[below(KINDS)];

    measure->kind = kind;
    measure->is_star = strcmp(kind->name, "count") == 0 && kind->prefix == NULL && chance(50);
    measure->is_filtered = chance(40);
    for (size_t i = 0; i < kind->argument_count; i++) {
        measure->arguments[i] = generate(&arena, argument_type(kind->wants), (int)below(4), true);
    }
    measure->filter = generate(&arena, VALUE_BOOLEAN, (int)below(4), false);
}

static void make_definition(struct definition *definition)
{
    /* one in three of great windows, so that groups have many records */
    static const size_t great[] = {7, 18, 21, 22};
    size_t window = chance(33) ? great[below(4)] : below(WINDOWINGS);

    *definition = (struct definition){.windowing = &windowings[window]};
    definition->has_where = chance(50);
    definition->where = generate(&arena, VALUE_BOOLEAN, (int)below(4), true);
    definition->key_count = chance(40) ? 0 : below(KEYS_MAX + 1);
    for (size_t i = 0; i < definition->key_count; i++) {
        definition->keys[i] = generate(&arena, generate_type(), (int)below(3), true);
    }
    definition->measure_count = 1 + below(MEASURES_MAX);
    for (size_t i = 0; i < definition->measure_count; i++) {
        make_measure(&definition->measures[i]);
    }
}

static const char *argument_text(const struct measure_texts *measure, size_t index, bool unfolded)
{
    const struct generated *argument = &measure->arguments[index];
    return unfolded ? argument->unfolded : argument->text;
}

/* As the definition has it. */
static const char *measure_text(const struct measure_texts *measure, bool unfolded)
{
    const char *arguments = measure->is_star ? "*" : argument_text(measure, 0, unfolded);
    const char *filter = unfolded ? measure->filter.unfolded : measure->filter.text;

    if (measure->kind->argument_count == 2) {
        arguments =
            generator_format(&arena, "%s, %s", arguments, argument_text(measure, 1, unfolded));
    }
    const char *prefix = measure->kind->prefix, *suffix = measure->kind->suffix;
    const char *call =
        generator_format(&arena, "%s(%s%s%s)", measure->kind->name, prefix == NULL ? "" : prefix,
                         arguments, suffix == NULL ? "" : suffix);
    return measure->is_filtered ? generator_format(&arena, "%s FILTER (WHERE %s)", call, filter)
                                : call;
}

/* As PostgreSQL can compute it. */
static void put_measure_sql(FILE *out, const struct measure_texts *measure, bool unfolded)
{
    const char *filter = unfolded ? measure->filter.unfolded : measure->filter.text;

    if (measure->kind->sql == NULL) {
        fputs(measure_text(measure, unfolded), out);
        return;
    }
    for (const char *at = measure->kind->sql; *at != '\0'; at++) {
        if (*at != '{') {
            fputc(*at, out);
        } else if (at[1] == 'f') {
            fprintf(out, "(%s)", measure->is_filtered ? filter : "id >= 0");
            at += strlen("{filter");
        } else {
            fputs(argument_text(measure, (size_t)(at[1] - '1'), unfolded), out);
            at += strlen("{1");
        }
    }
}

static struct view *make_view(const struct definition *definition)
{
    json_t *keys = json_array(), *measures = json_object();
    struct view *view;
    char name[24];

    for (size_t i = 0; i < definition->key_count; i++) {
        snprintf(name, sizeof name, "k%zu", i);
        json_array_append_new(
            keys, json_pack("{s:s, s:s}", "name", name, "expr", definition->keys[i].text));
    }
    for (size_t i = 0; i < definition->measure_count; i++) {
        snprintf(name, sizeof name, "m%zu", i);
        json_object_set_new(measures, name,
                            json_string(measure_text(&definition->measures[i], false)));
    }
    json_t *json =
        json_pack("{s:s, s:s, s:o, s:o, s:o}", "view", "v", "source", "facts", "group_by", keys,
                  "window", json_loads(definition->windowing->json, 0, NULL), "measures", measures);
    if (definition->has_where) {
        json_object_set_new(json, "where", json_string(definition->where.text));
    }
    must(view_create(json, "view", source, &view, &error));
    json_decref(json);
    return view;
}

/* --- what we say --- */

enum fate { COUNTED, FILTERED, REJECTED, BEYOND_LIMIT };

/* Folds every event into one of several tables, and merges them through rows of stored states,
 * which `copy` receives, too. */
static struct groups *fold_all(const struct view *view, enum fate *fates,
                               struct pgbinary_writer *copy)
{
    struct groups *parts[PARTS], *merged;
    struct pgbinary_writer writer;
    size_t columns = view_row_columns(view);
    struct pgbinary_field fields[1 + KEYS_MAX + MEASURE_COLUMN_MAX * (MEASURES_MAX + 1)];

    for (size_t i = 0; i < PARTS; i++) {
        must(groups_create(view, &parts[i], &error));
    }
    must(groups_create(view, &merged, &error));
    for (size_t i = 0; i < EVENTS; i++) {
        struct event event = {.fields = facts[i],
                              .time_us = facts[i][source->event_time_field].timestamp_us};
        struct measure_origin origin = {
            .time_us = event.time_us, .partition = (int32_t)(i % 2), .offset = (int64_t)i};
        enum fold_outcome outcome;
        enum status status = groups_fold(parts[below(PARTS)], &event, &origin, &outcome, &error);
        if (status == STATUS_OK) {
            fates[i] = outcome == FOLD_COUNTED ? COUNTED : FILTERED;
        } else {
            assert_int_equal(status, STATUS_REJECT);
            assert_memory_equal(error.text, "view \"v\": ", 10);
            fates[i] = error.sqlstate[0] != '\0' ? REJECTED : BEYOND_LIMIT;
        }
    }
    pgbinary_writer_init(&writer);
    pgbinary_put_copy_header(copy);
    for (size_t i = 0; i < PARTS; i++) {
        struct groups_cursor cursor = {0};
        const struct group *group;
        while ((group = groups_next(parts[i], &cursor)) != NULL) {
            pgbinary_writer_clear(&writer);
            pgbinary_put_row(&writer, (int16_t)columns);
            must(group_encode_row(view, group, &writer, &error));
            must(pgbinary_split_row((const uint8_t *)writer.data, writer.length, fields, columns,
                                    &error));
            must(groups_merge_row(merged, fields, NULL, &error));
            pgbinary_put_row(copy, (int16_t)columns);
            must(group_encode_row(view, group, copy, &error));
        }
        groups_destroy(parts[i]);
    }
    pgbinary_put_copy_trailer(copy);
    pgbinary_writer_deinit(&writer);
    return merged;
}

/* The windows that the panes make. Takes `panes`. */
static struct groups *make_windows(const struct view *view, struct groups *panes)
{
    const struct window_range everything = {0};
    struct groups *windows;

    if (view->window.kind->combine == NULL) {
        return panes;
    }
    must(groups_create(view, &windows, &error));
    must(view->window.kind->combine(view, &everything, panes, SIZE_MAX, windows, &error));
    groups_destroy(panes);
    return windows;
}

/* As output_sql below shows them. */
static const char *value_shown(const struct value *value)
{
    if (value->is_null) {
        return "NULL";
    }
    return value->type == VALUE_TIMESTAMP
               ? generator_format(&arena, "%" PRId64, value->timestamp_us)
               : value_text(value, &arena, NULL);
}

static const char *measure_shown(const struct view *view, const struct group *group, size_t index)
{
    const struct measure *measure = view->measures[index].measure;
    const char *wide = NULL;
    struct value value;

    must(measure->kind->finish(measure, group_state(group) + view->state_offsets[index], &arena,
                               &value, &wide, &error));
    return wide != NULL ? wide : value_shown(&value);
}

/* --- what PostgreSQL says --- */

static const char *output_sql(const char *name, enum value_type type)
{
    switch (type) {
    case VALUE_DECIMAL:
        return generator_format(&arena, "coalesce(trim_scale(%s::numeric)::text, 'NULL')", name);
    case VALUE_TIMESTAMP:
        return generator_format(
            &arena, "coalesce((extract(epoch FROM %s) * 1000000)::bigint::text, 'NULL')", name);
    default:
        return generator_format(&arena, "coalesce(%s::text, 'NULL')", name);
    }
}

/* One record's where, keys and arguments, evaluated as the fold would. */
static char *check_sql(const struct definition *definition)
{
    char *sql = NULL;
    size_t length;
    FILE *out = open_memstream(&sql, &length);

    fputs("SELECT count(ROW(1", out);
    for (size_t i = 0; i < definition->key_count; i++) {
        fprintf(out, ", (%s)", definition->keys[i].unfolded);
    }
    for (size_t i = 0; i < definition->measure_count; i++) {
        const struct measure_texts *measure = &definition->measures[i];
        for (size_t a = 0; a < measure->kind->argument_count; a++) {
            fprintf(out, ", CASE WHEN (%s) THEN (%s) END",
                    measure->is_filtered ? measure->filter.unfolded : "id >= 0",
                    measure->is_star ? "1" : measure->arguments[a].unfolded);
        }
    }
    fprintf(out,
            ")) FROM (SELECT * FROM facts WHERE $1 IS NULL OR id = $1 OFFSET 0) AS f"
            " WHERE (%s) IS TRUE",
            definition->has_where ? definition->where.unfolded : "id >= 0");
    fclose(out);
    return sql;
}

/* The records that are counted, with their keys, and either w and e or the number of a session. A
 * record is there once for each of its windows. */
static void put_windowed_sql(FILE *out, const struct definition *definition, bool unfolded)
{
    const struct windowing *windowing = definition->windowing;
    char keys[64] = "";

    for (size_t i = 0; i < definition->key_count; i++) {
        size_t used = strlen(keys);
        snprintf(keys + used, sizeof keys - used, "%sk%zu", i == 0 ? "PARTITION BY " : ", ", i);
    }
    if (windowing->gap != NULL) {
        fprintf(out,
                "SELECT *, count(*) FILTER (WHERE begins) OVER (%s ORDER BY \"time\") AS session"
                " FROM (SELECT *, (\"time\" - lag(\"time\") OVER (%s ORDER BY \"time\")"
                " < interval '%s') IS NOT TRUE AS begins FROM (",
                keys, keys, windowing->gap);
    } else {
        fprintf(out, "SELECT *, %s AS e FROM (SELECT *, %s AS w FROM (", windowing->end,
                windowing->starts);
    }
    fputs("SELECT *", out);
    for (size_t i = 0; i < definition->key_count; i++) {
        fprintf(out, ", (%s) AS k%zu",
                unfolded ? definition->keys[i].unfolded : definition->keys[i].text, i);
    }
    /* IS TRUE keeps the planner from reordering the parts of an AND */
    fprintf(out,
            " FROM (SELECT * FROM facts WHERE id NOT IN (SELECT id FROM rejected) OFFSET 0) AS f"
            " WHERE (%s) IS TRUE OFFSET 0) AS keyed OFFSET 0) AS windowed",
            !definition->has_where ? "true"
            : unfolded             ? definition->where.unfolded
                                   : definition->where.text);
}

static char *group_by_sql(const struct definition *definition, const struct view *view,
                          bool unfolded)
{
    char *sql = NULL, name[24];
    const char *gap = definition->windowing->gap;
    size_t length;
    FILE *out = open_memstream(&sql, &length);

    fprintf(out, "SELECT %s", output_sql("w", VALUE_TIMESTAMP));
    for (size_t i = 0; i < view->key_count; i++) {
        snprintf(name, sizeof name, "k%zu", i);
        fprintf(out, ", %s", output_sql(name, expression_type(view->keys[i].expression)));
    }
    for (size_t i = 0; i < view->measure_count; i++) {
        snprintf(name, sizeof name, "m%zu", i);
        fprintf(out, ", %s", output_sql(name, view->measures[i].measure->result_type));
    }
    fprintf(out, ", %s FROM (SELECT %s", output_sql("e", VALUE_TIMESTAMP),
            gap == NULL ? "w, e"
                        : generator_format(&arena,
                                           "min(\"time\") AS w, max(\"time\") + interval"
                                           " '%s' AS e",
                                           gap));
    for (size_t i = 0; i < view->key_count; i++) {
        fprintf(out, ", k%zu", i);
    }
    for (size_t i = 0; i < view->measure_count; i++) {
        fputs(", ", out);
        put_measure_sql(out, &definition->measures[i], unfolded);
        fprintf(out, " AS m%zu", i);
    }
    fputs(" FROM (", out);
    put_windowed_sql(out, definition, unfolded);
    fprintf(out, " OFFSET 0) AS r GROUP BY %s", gap == NULL ? "w, e" : "session");
    for (size_t i = 0; i < view->key_count; i++) {
        fprintf(out, ", k%zu", i);
    }
    fputs(") AS v ORDER BY w", out);
    for (size_t i = 0; i < view->key_count; i++) {
        bool is_string = expression_type(view->keys[i].expression) == VALUE_STRING;
        fprintf(out, ", k%zu%s", i, is_string ? " COLLATE \"C\"" : "");
    }
    fclose(out);
    return sql;
}

/* --- comparing --- */

struct tally {
    size_t counted, filtered, rejected, limits, groups, literal_texts;
    size_t windowings[WINDOWINGS], kinds[KINDS];
};

static void compare_rejected(const struct definition *definition, const enum fate *fates,
                             struct tally *tally)
{
    bool theirs[EVENTS] = {false};
    char *sql = check_sql(definition), limit[128];

    PGresult *result = run("SELECT pg_temp.find_rejected($1)", 1, (const char *const[]){sql});
    for (int i = 0; i < PQntuples(result); i++) {
        theirs[atoi(PQgetvalue(result, i, 0))] = true;
    }
    PQclear(result);
    for (size_t i = 0; i < EVENTS; i++) {
        if (fates[i] == BEYOND_LIMIT && !theirs[i]) {
            snprintf(limit, sizeof limit, "INSERT INTO rejected VALUES (%zu)", i);
            PQclear(run(limit, 0, NULL));
        } else if (fates[i] != BEYOND_LIMIT && (fates[i] == REJECTED) != theirs[i]) {
            fail_msg("record %zu: %s, PostgreSQL %s: %s", i,
                     fates[i] == REJECTED ? "rejected" : "not rejected",
                     theirs[i] ? "fails" : "does not fail", sql);
        }
        tally->counted += fates[i] == COUNTED;
        tally->filtered += fates[i] == FILTERED;
        tally->rejected += fates[i] == REJECTED;
        tally->limits += fates[i] == BEYOND_LIMIT;
    }
    free(sql);
}

/* Its template calls functions of the migrations; tests/integration/test_sketches.c has these. */
static bool needs_schema(const struct measure *measure)
{
    return strstr(measure->kind->sql(measure), "dovetail_internal") != NULL;
}

static bool is_near(const char *ours, const char *theirs)
{
    double a = strtod(ours, NULL), b = strtod(theirs, NULL), difference = a > b ? a - b : b - a;
    bool is_null = strcmp(ours, "NULL") == 0;
    return is_null == (strcmp(theirs, "NULL") == 0) &&
           difference <= 0.01 * (b < 0 ? -b : b) + 1e-30;
}

/* `definition` is NULL where the result is of the stored rows: panes, and equal to the last digit.
 */
static void compare_rows(const struct view *view, const struct definition *definition,
                         const struct groups *groups, const PGresult *result, const char *sql)
{
    struct group **sorted;

    must(groups_sorted(groups, &sorted, &error));
    if ((size_t)PQntuples(result) != groups_count(groups)) {
        fail_msg("%zu groups, PostgreSQL has %d: %s", groups_count(groups), PQntuples(result), sql);
    }
    for (size_t row = 0; row < groups_count(groups); row++) {
        const char *ours[2 + KEYS_MAX + MEASURES_MAX];
        struct value keys[KEYS_MAX];
        int64_t start_us, end_us;
        size_t columns = 0;
        group_keys(view, sorted[row], keys);
        view->window.kind->bounds(view, sorted[row], &start_us, &end_us);
        bool is_timeless = definition != NULL && view->window.kind->is_timeless;
        start_us = definition == NULL ? sorted[row]->window_start_us : start_us;
        ours[columns++] = is_timeless ? "NULL" : generator_format(&arena, "%" PRId64, start_us);
        for (size_t i = 0; i < view->key_count; i++) {
            ours[columns++] = value_shown(&keys[i]);
        }
        size_t first_measure = columns;
        for (size_t i = 0; i < view->measure_count; i++) {
            ours[columns++] = measure_shown(view, sorted[row], i);
        }
        if (definition != NULL) {
            ours[columns++] = is_timeless ? "NULL" : generator_format(&arena, "%" PRId64, end_us);
        }
        for (size_t i = 0; i < columns; i++) {
            const char *theirs = PQgetvalue(result, (int)row, (int)i);
            bool near = definition != NULL && i >= first_measure &&
                        i - first_measure < definition->measure_count &&
                        definition->measures[i - first_measure].kind->is_near;
            if (definition == NULL && i >= first_measure &&
                needs_schema(view->measures[i - first_measure].measure)) {
                continue;
            }
            if (near ? !is_near(ours[i], theirs) : strcmp(ours[i], theirs) != 0) {
                fail_msg("row %zu, column %zu: %s, PostgreSQL says %s: %s", row, i, ours[i], theirs,
                         sql);
            }
        }
    }
    free(sorted);
}

/* --- the rows of states, merged by PostgreSQL --- */

static void load_states(const struct view *view, const struct pgbinary_writer *copy)
{
    char *sql = NULL;
    size_t length;
    FILE *out = open_memstream(&sql, &length);

    fputs("DROP TABLE IF EXISTS states; CREATE TEMPORARY TABLE states (w timestamptz", out);
    for (size_t i = 0; i < view->key_count; i++) {
        enum value_type type = expression_type(view->keys[i].expression);
        fprintf(out, ", k%zu %s%s", i, value_type_sql(type),
                type == VALUE_STRING ? " COLLATE \"C\"" : "");
    }
    for (size_t i = 0; i < view->measure_count; i++) {
        const struct measure *measure = view->measures[i].measure;
        for (size_t c = 0; c < measure->column_count; c++) {
            const struct measure_column *column = &measure->columns[c];
            fprintf(out, ", \"m%zu$%s\" %s%s", i, column->suffix != NULL ? column->suffix : "",
                    column->sql_type,
                    strcmp(column->sql_type, "text") == 0 ? " COLLATE \"C\"" : "");
        }
    }
    fputs("); COPY states FROM STDIN (FORMAT binary)", out);
    fclose(out);
    PGresult *result = database_ask(connection, sql);
    if (PQresultStatus(result) != PGRES_COPY_IN ||
        PQputCopyData(connection, copy->data, (int)copy->length) != 1 ||
        PQputCopyEnd(connection, NULL) != 1) {
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    }
    PQclear(result);
    while ((result = PQgetResult(connection)) != NULL) {
        if (PQresultStatus(result) != PGRES_COMMAND_OK) {
            fail_msg("%s: %s", sql, PQerrorMessage(connection));
        }
        PQclear(result);
    }
    free(sql);
}

static void put_view_template(FILE *out, const struct measure *measure, size_t index)
{
    for (const char *at = measure->kind->sql(measure); *at != '\0'; at++) {
        if (*at != '{') {
            fputc(*at, out);
            continue;
        }
        int suffix = (int)strcspn(++at, "}");
        fprintf(out, "\"m%zu$%.*s\"", index, suffix, at);
        at += suffix;
    }
}

static void compare_states(const struct view *view, const struct groups *groups,
                           const struct pgbinary_writer *copy)
{
    char *sql = NULL, name[24];
    size_t length;

    load_states(view, copy);
    FILE *out = open_memstream(&sql, &length);
    fprintf(out, "SELECT %s", output_sql("w", VALUE_TIMESTAMP));
    for (size_t i = 0; i < view->key_count; i++) {
        snprintf(name, sizeof name, "k%zu", i);
        fprintf(out, ", %s", output_sql(name, expression_type(view->keys[i].expression)));
    }
    for (size_t i = 0; i < view->measure_count; i++) {
        snprintf(name, sizeof name, "m%zu", i);
        fprintf(out, ", %s", output_sql(name, view->measures[i].measure->result_type));
    }
    fputs(" FROM (SELECT w", out);
    for (size_t i = 0; i < view->key_count; i++) {
        fprintf(out, ", k%zu", i);
    }
    for (size_t i = 0; i < view->measure_count; i++) {
        fputs(", (", out);
        if (needs_schema(view->measures[i].measure)) {
            fputs("NULL", out);
        } else {
            put_view_template(out, view->measures[i].measure, i);
        }
        fprintf(out, ") AS m%zu", i);
    }
    for (size_t i = 0; i <= view->key_count; i++) {
        fprintf(out, "%s%zu", i == 0 ? " FROM states GROUP BY " : ", ", i + 1);
    }
    fputs(") AS v ORDER BY v.w", out);
    for (size_t i = 0; i < view->key_count; i++) {
        fprintf(out, ", v.k%zu", i);
    }
    fclose(out);
    PGresult *result = run(sql, 0, NULL);
    compare_rows(view, NULL, groups, result, sql);
    PQclear(result);
    free(sql);
}

static void compare_view(struct tally *tally)
{
    struct definition definition;
    enum fate fates[EVENTS];
    struct pgbinary_writer copy;

    pgbinary_writer_init(&copy);
    make_definition(&definition);
    for (size_t i = 0; i < definition.measure_count; i++) {
        tally->kinds[definition.measures[i].kind - measured_kinds]++;
    }
    struct view *view = make_view(&definition);
    struct groups *groups = fold_all(view, fates, &copy);
    if (view->window.kind->combine == NULL) {
        compare_states(view, groups, &copy);
    }
    pgbinary_writer_deinit(&copy);
    groups = make_windows(view, groups);
    tally->windowings[definition.windowing - windowings]++;
    compare_rejected(&definition, fates, tally);
    /* The definition's own texts, unless a constant of theirs fails when PostgreSQL plans. */
    char *sql = group_by_sql(&definition, view, false);
    PGresult *result = database_ask(connection, sql);
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (state != NULL && (strncmp(state, "22", 2) == 0 || strncmp(state, "54", 2) == 0)) {
        PQclear(result);
        free(sql);
        sql = group_by_sql(&definition, view, true);
        result = database_ask(connection, sql);
    } else {
        tally->literal_texts++;
    }
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    }
    compare_rows(view, &definition, groups, result, sql);
    tally->groups += groups_count(groups);
    PQclear(result);
    free(sql);
    groups_destroy(groups);
    view_destroy(view);
}

static void test_random_views(void **state)
{
    (void)state;
    if (connection == NULL) {
        skip();
    }
    struct tally tally = {0};
    struct arena memory;

    arena_init(&memory);
    for (size_t i = 0; i < VIEWS; i++) {
        if (i % VIEWS_PER_FACTS == 0) {
            arena_reset(&memory);
            make_facts(&memory);
        }
        compare_view(&tally);
        arena_reset(&arena);
    }
    arena_deinit(&memory);
    print_message("%d views, %zu from their own texts; records: %zu counted, %zu filtered, %zu "
                  "rejected, %zu beyond 38 digits; %zu groups\n",
                  VIEWS, tally.literal_texts, tally.counted, tally.filtered, tally.rejected,
                  tally.limits, tally.groups);
    for (size_t i = 0; i < WINDOWINGS; i++) {
        assert_true(tally.windowings[i] > 0);
    }
    for (size_t i = 0; i < KINDS; i++) {
        assert_true(tally.kinds[i] > 0);
    }
    assert_true(tally.literal_texts * 2 > VIEWS);
    assert_true(tally.limits * 10 < (size_t)VIEWS * EVENTS);
}

/* --- against floating point --- */

enum { PAIRS = 1000 };

/* y is about 3 x + 7. One value in ten is NULL. */
static void fold_pairs(void *const *states, struct measure *const *measures, size_t count)
{
    PGresult *result =
        run("INSERT INTO pairs SELECT CASE WHEN random() > 0.1 THEN x END,"
            " CASE WHEN random() > 0.1 THEN round((3 * x + 7 + 50 * random())::numeric,"
            " 2) END FROM (SELECT floor(random() * 2000 - 500)::bigint AS x"
            " FROM generate_series(1, 1000)) AS r RETURNING x, y",
            0, NULL);
    assert_int_equal(PQntuples(result), PAIRS);
    for (int row = 0; row < PAIRS; row++) {
        struct value arguments[2] = {value_null(VALUE_DECIMAL), value_null(VALUE_INTEGER)};
        const struct measure_origin origin = {.offset = row};
        for (int i = 0; i < 2; i++) {
            const char *text = PQgetvalue(result, row, 1 - i);
            if (!PQgetisnull(result, row, 1 - i)) {
                must(value_parse(arguments[i].type, text, strlen(text), &arguments[i], &error));
            }
        }
        for (size_t i = 0; i < count; i++) {
            must(measures[i]->kind->fold(measures[i], states[i], arguments, &origin, &arena,
                                         &error));
        }
    }
    PQclear(result);
}

static void test_floating_point_is_near(void **state)
{
    (void)state;
    static const char *const names[] = {"var_pop",    "var_samp",       "stddev_pop", "stddev_samp",
                                        "covar_pop",  "covar_samp",     "corr",       "regr_avgx",
                                        "regr_avgy",  "regr_sxx",       "regr_syy",   "regr_sxy",
                                        "regr_slope", "regr_intercept", "regr_r2"};
    enum { COUNT = sizeof names / sizeof names[0], VARIANCES = 4 };
    struct measure *measures[COUNT];
    void *states[COUNT];

    if (connection == NULL) {
        skip();
    }
    for (size_t i = 0; i < COUNT; i++) {
        const char *arguments = i < VARIANCES ? "d1" : "d1, i1";
        const char *text = generator_format(&arena, "%s(%s)", names[i], arguments);
        must(measure_create(text, source, &measures[i], &error));
        states[i] = arena_alloc(&arena, measures[i]->state_bytes);
        measures[i]->kind->init(measures[i], states[i]);
    }
    PQclear(run("CREATE TEMPORARY TABLE pairs (x bigint, y numeric)", 0, NULL));
    fold_pairs(states, measures, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        struct value value;
        const char *wide = NULL;
        must(measures[i]->kind->finish(measures[i], states[i], &arena, &value, &wide, &error));
        double ours = strtod(wide != NULL ? wide : value_shown(&value), NULL);
        const char *arguments = i < VARIANCES ? "y::double precision" : "y, x";
        const char *sql = generator_format(&arena, "SELECT %s(%s) FROM pairs", names[i], arguments);
        PGresult *result = run(sql, 0, NULL);
        double theirs = strtod(PQgetvalue(result, 0, 0), NULL);
        double difference = ours > theirs ? ours - theirs : theirs - ours;
        if (!(difference <= 1e-9 * (theirs < 0 ? -theirs : theirs))) {
            fail_msg("%s: %.17g, PostgreSQL says %.17g", names[i], ours, theirs);
        }
        PQclear(result);
        measure_destroy(measures[i]);
    }
    arena_reset(&arena);
}

/* PostgreSQL's sqrt() has other digits than its stddev(), which the SQL view has to round to: over
 * enough numbers of all sizes, rounding twice would show. */
static void test_roots_are_rounded_once(void **state)
{
    (void)state;
    static const char *const names[] = {"stddev_pop", "stddev_samp"};
    if (connection == NULL) {
        skip();
    }
    PQclear(
        run("CREATE TEMPORARY TABLE samples AS SELECT g, round((random() * 10 ^ (g % 12))::numeric,"
            " g % 4) AS x FROM generate_series(1, 20000) AS g, generate_series(1, 3)",
            0, NULL));
    PQclear(run("CREATE TEMPORARY TABLE sums AS SELECT g, count(*) AS \"m0$n\", sum(x) AS \"m0$x\","
                " sum(x * x) AS \"m0$xx\" FROM samples GROUP BY g",
                0, NULL));
    for (size_t i = 0; i < 2; i++) {
        struct measure *measure;
        char *sql = NULL;
        size_t length;
        FILE *out = open_memstream(&sql, &length);
        must(
            measure_create(generator_format(&arena, "%s(d1)", names[i]), source, &measure, &error));
        fputs("SELECT count(*) FROM (SELECT g, ", out);
        put_view_template(out, measure, 0);
        fprintf(out,
                " AS ours FROM sums GROUP BY g) AS a JOIN (SELECT g, %s(x) AS theirs FROM samples"
                " GROUP BY g) AS b USING (g) WHERE ours IS DISTINCT FROM theirs",
                names[i]);
        fclose(out);
        PGresult *result = run(sql, 0, NULL);
        assert_string_equal(PQgetvalue(result, 0, 0), "0");
        PQclear(result);
        free(sql);
        measure_destroy(measure);
    }
    arena_reset(&arena);
}

int main(void)
{
    generator_start("test_view_oracle");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_views),
        cmocka_unit_test(test_floating_point_is_near),
        cmocka_unit_test(test_roots_are_rounded_once),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
