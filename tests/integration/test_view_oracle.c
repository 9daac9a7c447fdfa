/* Whole views against a real PostgreSQL: random definitions over random events, folded by
 * core/groups in random splits and merged again through stored rows, and computed by PostgreSQL
 * from the same texts with date_bin and GROUP BY. Windows, keys, measures and which records are
 * rejected must be the same.
 *
 * A record that makes an expression fail would fail PostgreSQL's whole statement. So each record is
 * first tried alone there, with columns for literals (see expression_generator.h); what fails must
 * be what we rejected, and is left out. A decimal beyond 38 digits is our limit alone.
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

enum { VIEWS = 150, VIEWS_PER_FACTS = 10, EVENTS = 120, PARTS = 3, KEYS_MAX = 3, MEASURES_MAX = 6 };

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
    "            EXCEPTION WHEN division_by_zero OR numeric_value_out_of_range THEN\n"
    "                INSERT INTO rejected VALUES (row_id);\n"
    "            END;\n"
    "        END LOOP;\n"
    "    END;\n"
    "    RETURN QUERY SELECT r.id FROM rejected AS r;\n"
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
    PGresult *result = PQexecParams(connection, sql, count, NULL, values, NULL, NULL, 0);
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
    connection = PQconnectdb(conninfo);
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

struct measure_texts {
    const char *name; /* count, sum, ... */
    bool is_star, is_filtered;
    struct generated argument, filter;
};

struct definition {
    bool has_where;
    struct generated where;
    size_t key_count, measure_count;
    struct generated keys[KEYS_MAX];
    struct measure_texts measures[MEASURES_MAX];
    const char *size;     /* of the window, as the definition has it */
    const char *size_sql; /* as an interval */
};

static void make_measure(struct measure_texts *measure)
{
    static const char *const names[] = {"count", "sum", "avg", "min", "max"};
    enum value_type type;

    measure->name = names[below(5)];
    measure->is_star = strcmp(measure->name, "count") == 0 && chance(50);
    measure->is_filtered = chance(40);
    do {
        type = measure->name[0] == 's' || measure->name[0] == 'a' ? generate_numeric_type()
                                                                  : generate_type();
    } while (type == VALUE_BOOLEAN && measure->name[0] == 'm');
    measure->argument = generate(&arena, type, (int)below(4), true);
    measure->filter = generate(&arena, VALUE_BOOLEAN, (int)below(4), false);
}

static void make_definition(struct definition *definition)
{
    static const char *const sizes[][2] = {{"1h", "1 hour"},
                                           {"15m", "15 minutes"},
                                           {"1d", "1 day"},
                                           {"1w", "7 days"},
                                           {"90m", "90 minutes"},
                                           {"7s", "7 seconds"},
                                           {"250ms", "250 milliseconds"},
                                           {"365d", "365 days"}};
    size_t size = below(8);

    *definition = (struct definition){.size = sizes[size][0], .size_sql = sizes[size][1]};
    definition->has_where = chance(50);
    definition->where = generate(&arena, VALUE_BOOLEAN, (int)below(4), true);
    definition->key_count = below(KEYS_MAX + 1);
    for (size_t i = 0; i < definition->key_count; i++) {
        definition->keys[i] = generate(&arena, generate_type(), (int)below(3), true);
    }
    definition->measure_count = 1 + below(MEASURES_MAX);
    for (size_t i = 0; i < definition->measure_count; i++) {
        make_measure(&definition->measures[i]);
    }
}

static const char *measure_text(const struct measure_texts *measure, bool unfolded)
{
    const char *argument = unfolded ? measure->argument.unfolded : measure->argument.text;
    const char *filter = unfolded ? measure->filter.unfolded : measure->filter.text;

    return generator_format(&arena, measure->is_filtered ? "%s(%s) FILTER (WHERE %s)" : "%s(%s)",
                            measure->name, measure->is_star ? "*" : argument, filter);
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
    json_t *json = json_pack("{s:s, s:s, s:o, s:{s:s, s:s}, s:o}", "view", "v", "source", "facts",
                             "group_by", keys, "window", "type", "tumbling", "size",
                             definition->size, "measures", measures);
    if (definition->has_where) {
        json_object_set_new(json, "where", json_string(definition->where.text));
    }
    must(view_create(json, "view", source, &view, &error));
    json_decref(json);
    return view;
}

/* --- what we say --- */

enum fate { COUNTED, FILTERED, REJECTED, BEYOND_LIMIT };

/* Folds every event into one of several tables, and merges them through rows of stored states. */
static struct groups *fold_all(const struct view *view, enum fate *fates)
{
    struct groups *parts[PARTS], *merged;
    struct pgbinary_writer writer;
    size_t columns = view_row_columns(view);
    struct pgbinary_field fields[1 + KEYS_MAX + 2 * MEASURES_MAX];

    for (size_t i = 0; i < PARTS; i++) {
        must(groups_create(view, &parts[i], &error));
    }
    must(groups_create(view, &merged, &error));
    for (size_t i = 0; i < EVENTS; i++) {
        struct event event = {.fields = facts[i],
                              .time_us = facts[i][source->event_time_field].timestamp_us};
        struct measure_origin origin = {.time_us = event.time_us, .offset = (int64_t)i};
        enum fold_outcome outcome;
        enum status status = groups_fold(parts[below(PARTS)], &event, &origin, &outcome, &error);
        if (status == STATUS_OK) {
            fates[i] = outcome == FOLD_COUNTED ? COUNTED : FILTERED;
        } else {
            assert_int_equal(status, STATUS_REJECT);
            assert_memory_equal(error.text, "view \"v\": ", 10);
            fates[i] = strstr(error.text, "decimal out of range") == NULL ? REJECTED : BEYOND_LIMIT;
        }
    }
    pgbinary_writer_init(&writer);
    for (size_t i = 0; i < PARTS; i++) {
        size_t cursor = 0;
        const struct group *group;
        while ((group = groups_next(parts[i], &cursor)) != NULL) {
            pgbinary_writer_clear(&writer);
            pgbinary_put_row(&writer, (int16_t)columns);
            must(group_encode_row(view, group, &writer, &error));
            must(pgbinary_split_row((const uint8_t *)writer.data, writer.length, fields, columns,
                                    &error));
            must(groups_merge_row(merged, fields, NULL, &error));
        }
        groups_destroy(parts[i]);
    }
    pgbinary_writer_deinit(&writer);
    return merged;
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

    must(measure->kind->finish(measure, group->state + view->state_offsets[index], &arena, &value,
                               &wide, &error));
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
        const char *argument = measure->is_star ? "1" : measure->argument.unfolded;
        fprintf(out, ", CASE WHEN (%s) THEN (%s) END",
                measure->is_filtered ? measure->filter.unfolded : "id >= 0", argument);
    }
    fprintf(out,
            ")) FROM (SELECT * FROM facts WHERE $1 IS NULL OR id = $1 OFFSET 0) AS f"
            " WHERE (%s) IS TRUE",
            definition->has_where ? definition->where.unfolded : "id >= 0");
    fclose(out);
    return sql;
}

static char *group_by_sql(const struct definition *definition, const struct view *view,
                          bool unfolded)
{
    char *sql = NULL, name[24];
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
    fprintf(out, " FROM (SELECT date_bin('%s', \"time\", '1970-01-01T00:00:00Z') AS w",
            definition->size_sql);
    for (size_t i = 0; i < view->key_count; i++) {
        fprintf(out, ", (%s) AS k%zu",
                unfolded ? definition->keys[i].unfolded : definition->keys[i].text, i);
    }
    for (size_t i = 0; i < view->measure_count; i++) {
        fprintf(out, ", %s AS m%zu", measure_text(&definition->measures[i], unfolded), i);
    }
    /* IS TRUE keeps the planner from reordering the parts of an AND */
    fprintf(out,
            " FROM (SELECT * FROM facts WHERE id NOT IN (SELECT id FROM rejected) OFFSET 0) AS f"
            " WHERE (%s) IS TRUE GROUP BY 1",
            !definition->has_where ? "true"
            : unfolded             ? definition->where.unfolded
                                   : definition->where.text);
    for (size_t i = 0; i < view->key_count; i++) {
        fprintf(out, ", %zu", i + 2);
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

static void compare_rows(const struct view *view, const struct groups *groups,
                         const PGresult *result, const char *sql)
{
    struct group **sorted;

    must(groups_sorted(groups, &sorted, &error));
    if ((size_t)PQntuples(result) != groups_count(groups)) {
        fail_msg("%zu groups, PostgreSQL has %d: %s", groups_count(groups), PQntuples(result), sql);
    }
    for (size_t row = 0; row < groups_count(groups); row++) {
        const char *ours[1 + KEYS_MAX + MEASURES_MAX];
        struct value keys[KEYS_MAX];
        size_t columns = 0;
        group_keys(view, sorted[row], keys);
        ours[columns++] = generator_format(&arena, "%" PRId64, sorted[row]->window_start_us);
        for (size_t i = 0; i < view->key_count; i++) {
            ours[columns++] = value_shown(&keys[i]);
        }
        for (size_t i = 0; i < view->measure_count; i++) {
            ours[columns++] = measure_shown(view, sorted[row], i);
        }
        for (size_t i = 0; i < columns; i++) {
            const char *theirs = PQgetvalue(result, (int)row, (int)i);
            if (strcmp(ours[i], theirs) != 0) {
                fail_msg("row %zu, column %zu: %s, PostgreSQL says %s: %s", row, i, ours[i], theirs,
                         sql);
            }
        }
    }
    free(sorted);
}

static void compare_view(struct tally *tally)
{
    struct definition definition;
    enum fate fates[EVENTS];

    make_definition(&definition);
    struct view *view = make_view(&definition);
    struct groups *groups = fold_all(view, fates);
    compare_rejected(&definition, fates, tally);
    /* The definition's own texts, unless a constant of theirs fails when PostgreSQL plans. */
    char *sql = group_by_sql(&definition, view, false);
    PGresult *result = PQexec(connection, sql);
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (state != NULL && (strcmp(state, "22012") == 0 || strcmp(state, "22003") == 0)) {
        PQclear(result);
        free(sql);
        sql = group_by_sql(&definition, view, true);
        result = PQexec(connection, sql);
    } else {
        tally->literal_texts++;
    }
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    }
    compare_rows(view, groups, result, sql);
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
    assert_true(tally.literal_texts * 2 > VIEWS);
    assert_true(tally.limits * 10 < (size_t)VIEWS * EVENTS);
}

int main(void)
{
    generator_start("test_view_oracle");
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_views)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
