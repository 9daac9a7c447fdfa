/* Expressions against a real PostgreSQL: thousands of random texts, each over random rows, by
 * core/expressions/expression and by PostgreSQL. Type, value, NULL and error must be the same, and
 * decimals the same digits.
 *
 * The differences that docs/VIEWS.md names are allowed for, and only they: a decimal that does not
 * fit 38 digits is refused here and goes on there; PostgreSQL evaluates constants when it plans, so
 * each expression runs there a second time with columns in place of its literals, and that is what
 * must agree. What the first text gave is compared wherever it is not an error.
 *
 * Needs no schema: temporary tables only. DOVETAIL_POSTGRES is the libpq conninfo; without it the
 * tests are skipped. DOVETAIL_SEED repeats. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <libpq-fe.h>

#include "core/definitions/definition.h"
#include "core/expressions/expression_node.h"
#include "tests/integration/expression_generator.h"

#include "tests/support/database.h"

enum { EXPRESSIONS = 4000, BATCH = 250, ROWS = 24, DEPTH = 4 };

/* Each of `texts`, shown as a text by `shown` and evaluated for every row of facts: first all rows
 * at once, and where one of them fails, each row by itself, so that one error costs one row. OFFSET
 * keeps the expression from being evaluated for other rows. */
static const char judge[] =
    "CREATE FUNCTION pg_temp.judge(texts text[], shown text[])\n"
    "RETURNS TABLE (expression integer, id integer, kind text, result text)\n"
    "LANGUAGE plpgsql AS $$\n"
    "DECLARE\n"
    "    n integer; row_id integer; results text[]; one text; type text;\n"
    "BEGIN\n"
    "    FOR n IN 1 .. cardinality(texts) LOOP\n"
    "        BEGIN\n"
    "            EXECUTE format('SELECT array_agg(%s ORDER BY id), min(pg_typeof(%s)::text)'\n"
    "                           ' FROM facts', shown[n], texts[n]) INTO results, type;\n"
    "            RETURN QUERY SELECT n, r.i::integer, type, r.v\n"
    "                         FROM unnest(results) WITH ORDINALITY AS r (v, i);\n"
    "        EXCEPTION WHEN OTHERS THEN\n"
    "            FOR row_id IN SELECT f.id FROM facts AS f ORDER BY f.id LOOP\n"
    "                BEGIN\n"
    "                    EXECUTE format('SELECT %s, pg_typeof(%s)::text FROM (SELECT * FROM "
    "facts'\n"
    "                                   ' WHERE id = $1 OFFSET 0) AS f', shown[n], texts[n])\n"
    "                    INTO one, type USING row_id;\n"
    "                EXCEPTION WHEN OTHERS THEN\n"
    "                    one := SQLSTATE || ' ' || SQLERRM; type := 'error';\n"
    "                END;\n"
    "                RETURN QUERY SELECT n, row_id, type, one;\n"
    "            END LOOP;\n"
    "        END;\n"
    "    END LOOP;\n"
    "END $$";

static PGconn *connection;
static struct source *source;
static struct arena arena, scratch;
static struct value rows[ROWS][GENERATOR_FIELDS];
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

static void make_rows(void)
{
    char sql[1000] = "INSERT INTO facts (id";
    size_t length = strlen(sql);

    for (size_t i = 0; i < GENERATOR_FIELDS; i++) {
        length += (size_t)snprintf(sql + length, sizeof sql - length, ", \"%s\"",
                                   generator_fields[i].name);
    }
    length += (size_t)snprintf(sql + length, sizeof sql - length, ") VALUES ($1");
    for (size_t i = 0; i < GENERATOR_FIELDS; i++) {
        length += (size_t)snprintf(sql + length, sizeof sql - length, ", $%zu", i + 2);
    }
    snprintf(sql + length, sizeof sql - length, ")");
    for (size_t row = 0; row < ROWS; row++) {
        const char *values[GENERATOR_FIELDS + 1];
        char id[16];
        snprintf(id, sizeof id, "%zu", row + 1);
        values[0] = id;
        for (size_t i = 0; i < GENERATOR_FIELDS; i++) {
            enum value_type type = generator_fields[i].type;
            const char *text = generator_value(type, row % 2 == 0, &arena);
            values[i + 1] = text;
            rows[row][i] = value_null(type);
            if (text != NULL) {
                must(value_parse(type, text, strlen(text), &rows[row][i], &error));
            }
        }
        PQclear(run(sql, GENERATOR_FIELDS + 1, values));
    }
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
    PQclear(run(judge, 0, NULL));
    free(table);
    arena_init(&arena);
    arena_init(&scratch);
    make_rows();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    source_destroy(source);
    arena_deinit(&arena);
    arena_deinit(&scratch);
    PQfinish(connection);
    return 0;
}

#define NEEDS_POSTGRES()                                                                           \
    do {                                                                                           \
        if (connection == NULL) {                                                                  \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

/* --- what PostgreSQL says --- */

/* A PostgreSQL array literal that grows. */
static void array_add(FILE *out, const char *element)
{
    fputs(ftell(out) == 0 ? "{\"" : ",\"", out);
    for (; *element != '\0'; element++) {
        if (*element == '"' || *element == '\\') {
            fputc('\\', out);
        }
        fputc(*element, out);
    }
    fputc('"', out);
}

/* As our values are written below: times in microseconds, the rest as PostgreSQL's text. */
static const char *shown(const char *text, enum value_type type)
{
    return generator_format(&arena,
                            type == VALUE_TIMESTAMP
                                ? "((extract(epoch FROM (%s)) * 1000000)::bigint::text)"
                                : "((%s)::text)",
                            text);
}

/* ROWS results for each of `count` texts, in order. */
static PGresult *judge_all(const char *const *texts, const enum value_type *types, size_t count)
{
    char *arrays[2] = {NULL, NULL};
    size_t lengths[2];
    FILE *out[2] = {open_memstream(&arrays[0], &lengths[0]),
                    open_memstream(&arrays[1], &lengths[1])};

    for (size_t i = 0; i < count; i++) {
        array_add(out[0], generator_format(&arena, "(%s)", texts[i]));
        array_add(out[1], shown(texts[i], types[i]));
    }
    for (int i = 0; i < 2; i++) {
        fputc('}', out[i]);
        fclose(out[i]);
    }
    const char *const values[2] = {arrays[0], arrays[1]};
    PGresult *result =
        run("SELECT kind, result FROM pg_temp.judge($1, $2) ORDER BY expression, id", 2, values);
    assert_int_equal(PQntuples(result), count * ROWS);
    free(arrays[0]);
    free(arrays[1]);
    return result;
}

struct verdict {
    const char *kind; /* of pg_typeof, or "error" */
    const char *text; /* NULL for NULL; of an error SQLSTATE and message */
};

static struct verdict verdict_of(const PGresult *result, size_t row)
{
    return (struct verdict){
        .kind = PQgetvalue(result, (int)row, 0),
        .text = PQgetisnull(result, (int)row, 1) ? NULL : PQgetvalue(result, (int)row, 1)};
}

static bool is_error(struct verdict verdict)
{
    return strcmp(verdict.kind, "error") == 0;
}

/* --- what we say --- */

struct answer {
    bool is_error, is_limit;
    const char *text;
};

static struct answer answer_of(const struct expression *expression, const struct value *row)
{
    struct answer answer = {0};
    struct value value;
    char text[64];

    arena_reset(&scratch);
    if (expression_evaluate(expression, row, &scratch, &value, &error) != STATUS_OK) {
        assert_int_equal(error.status, STATUS_REJECT);
        answer.is_error = true;
        answer.is_limit = error.sqlstate[0] == '\0';
        answer.text = generator_format(&arena, "%s %s", error.sqlstate, error.text);
        return answer;
    }
    assert_int_equal(value.type, expression_type(expression));
    if (value.is_null) {
        return answer;
    }
    if (value.type == VALUE_DECIMAL) { /* with its zeros, which value_text would trim */
        answer.text = arena_copy(&arena, text, decimal_format(&value.decimal, text, sizeof text));
    } else if (value.type == VALUE_TIMESTAMP) {
        answer.text = generator_format(&arena, "%" PRId64, value.timestamp_us);
    } else {
        size_t length;
        const char *copy = value_text(&value, &arena, &length);
        assert_int_equal(strlen(copy), length);
        answer.text = copy;
    }
    return answer;
}

static bool agrees(struct answer ours, struct verdict theirs)
{
    if (ours.is_limit) {
        return true;
    }
    if (ours.is_error != is_error(theirs)) {
        return false;
    }
    if (ours.is_error) {
        return strncmp(ours.text, theirs.text, 5) == 0;
    }
    if (ours.text == NULL || theirs.text == NULL) {
        return ours.text == theirs.text;
    }
    return strcmp(ours.text, theirs.text) == 0;
}

static bool type_agrees(const struct expression *expression, struct verdict theirs)
{
    static const char *const names[] = {
        [VALUE_STRING] = "text",
        [VALUE_INTEGER] = "bigint",
        [VALUE_DECIMAL] = "numeric",
        [VALUE_BOOLEAN] = "boolean",
        [VALUE_TIMESTAMP] = "timestamp with time zone",
    };
    if (expression->type == VALUE_STRING && strcmp(theirs.kind, "unknown") == 0) {
        return true;
    }
    return strcmp(theirs.kind, expression->is_int4 ? "integer" : names[expression->type]) == 0;
}

static void complain(const char *text, size_t row, struct answer ours, struct verdict theirs)
{
    for (size_t i = 0; i < GENERATOR_FIELDS; i++) {
        print_error("  %s = %s\n", generator_fields[i].name,
                    rows[row][i].is_null ? "NULL" : value_text(&rows[row][i], &arena, NULL));
    }
    fail_msg("%s: %s%s, PostgreSQL says %s %s", text, ours.is_error ? "error " : "",
             ours.text == NULL ? "NULL" : ours.text, theirs.kind,
             theirs.text == NULL ? "NULL" : theirs.text);
}

struct tally {
    size_t compared, values, nulls, errors, limits, planned;
};

/* Compares one expression over all rows. `folded` is the text as written, `plain` the one with
 * columns for literals (or the same again). */
static void compare(const char *text, const PGresult *folded, const PGresult *plain, size_t index,
                    struct tally *tally)
{
    struct expression *expression;

    if (expression_create(text, source, &expression, &error) != STATUS_OK) {
        fail_msg("%s: %s", text, error.text);
    }
    for (size_t row = 0; row < ROWS; row++) {
        struct answer ours = answer_of(expression, rows[row]);
        struct verdict theirs = verdict_of(plain, index * ROWS + row);
        struct verdict planned = verdict_of(folded, index * ROWS + row);
        tally->compared++;
        tally->values += !ours.is_error && ours.text != NULL;
        tally->nulls += !ours.is_error && ours.text == NULL;
        tally->errors += ours.is_error && !ours.is_limit;
        tally->limits += ours.is_limit;
        if (!agrees(ours, theirs)) {
            complain(text, row, ours, theirs);
        }
        if (is_error(planned) != is_error(theirs)) {
            tally->planned++;
        } else if (!agrees(ours, planned) && !is_error(planned)) {
            complain(text, row, ours, planned);
        }
        if (!is_error(planned) && !type_agrees(expression, planned)) {
            complain(text, row, ours, planned);
        }
    }
    expression_destroy(expression);
}

static void test_random_expressions(void **state)
{
    (void)state;
    NEEDS_POSTGRES();
    struct tally tally = {0};

    for (size_t done = 0; done < EXPRESSIONS; done += BATCH) {
        struct generated expressions[BATCH];
        const char *texts[BATCH], *unfolded[BATCH];
        enum value_type types[BATCH];
        for (size_t i = 0; i < BATCH; i++) {
            types[i] = generate_type();
            expressions[i] = generate(&arena, types[i], 1 + (int)below(DEPTH), true);
            texts[i] = expressions[i].text;
            unfolded[i] = expressions[i].unfolded;
        }
        PGresult *folded = judge_all(texts, types, BATCH);
        PGresult *plain = judge_all(unfolded, types, BATCH);
        for (size_t i = 0; i < BATCH; i++) {
            compare(texts[i], folded, plain, i, &tally);
        }
        PQclear(folded);
        PQclear(plain);
        arena_reset(&arena);
    }
    print_message("%zu evaluations: %zu values, %zu NULL, %zu errors, %zu beyond our limits, %zu "
                  "errors that only planning makes or avoids\n",
                  tally.compared, tally.values, tally.nulls, tally.errors, tally.limits,
                  tally.planned);
    /* the allowances must stay exceptions */
    assert_true(tally.limits * 20 < tally.compared);
    assert_true(tally.planned * 20 < tally.compared);
    assert_true(tally.errors * 100 > tally.compared);
}

/* Texts that say something about splitting into tokens, precedence or typing, each evaluated over
 * the same rows. The first part once gave something else than PostgreSQL. */
static const struct {
    const char *text;
    enum value_type type;
} fixed[] = {
    {"5. / 2", VALUE_DECIMAL},
    {"i1 / 2.", VALUE_DECIMAL},
    {"-9223372036854775808", VALUE_INTEGER},
    {"-(9223372036854775808) / 2", VALUE_INTEGER},
    {"- -9223372036854775808", VALUE_DECIMAL},
    {"- +9223372036854775808", VALUE_DECIMAL},
    {"t1 > '2001-01-01T01:00:00+15:59'", VALUE_BOOLEAN},
    {"(s1 || '1e9223372036854775808x')::numeric", VALUE_DECIMAL},
    {"btrim(s1 || s1)::int8",
     VALUE_INTEGER}, /* 9223372036854775808x: no number before out of range */
    {"('9223372036854775808' || s1)::bigint", VALUE_INTEGER},
    {"\"order\" NOT LIKE s1 || 'x' ESCAPE s1", VALUE_BOOLEAN}, /* a bad escape fails beside NULL */
    {"-2147483648 - 1", VALUE_INTEGER},
    {"CAST(- -2147483648 AS bigint)", VALUE_INTEGER},
    {"s1 LIKE s1 || '%\\'", VALUE_BOOLEAN}, /* the escape at the end is not reached */
    {"s1 LIKE '%_\\'", VALUE_BOOLEAN},
    {"s1 LIKE '%\\'", VALUE_BOOLEAN},
    /* tokens */
    {"i1-i2", VALUE_INTEGER},
    {"i1*-1", VALUE_INTEGER},
    {"i1<-1", VALUE_BOOLEAN},
    {"i1<=-1", VALUE_BOOLEAN},
    {"i1>=+1", VALUE_BOOLEAN},
    {"i1<>-1", VALUE_BOOLEAN},
    {"i1=-1", VALUE_BOOLEAN},
    {"i1-+1", VALUE_INTEGER},
    {"i1 % -1", VALUE_INTEGER},
    {"i1/-1", VALUE_INTEGER},
    {"s1||\"order\"", VALUE_STRING},
    {"S1||'a'||\"s1\"", VALUE_STRING},
    {"(1)", VALUE_INTEGER},
    {".5+d1", VALUE_DECIMAL},
    {"00.50 + D1", VALUE_DECIMAL},
    {"1e2+0e0", VALUE_DECIMAL},
    {"1E+2*1e-2", VALUE_DECIMAL},
    {"'a''b' || ''''", VALUE_STRING},
    {"'\\n'", VALUE_STRING},
    {"\ti1\n+\r1", VALUE_INTEGER},
    {"9223372036854775808 + i1", VALUE_DECIMAL},
    /* precedence and associativity */
    {"i1 - i2 - 3", VALUE_INTEGER},
    {"100 / i2 / 3", VALUE_INTEGER},
    {"100 % 7 * i1", VALUE_INTEGER},
    {"2 + 3 * i1 - 4 / 2", VALUE_INTEGER},
    {"-i1 % 3", VALUE_INTEGER},
    {"- i1 * - 2", VALUE_INTEGER},
    {"not b1 and b2", VALUE_BOOLEAN},
    {"not b1 = b2", VALUE_BOOLEAN},
    {"not b1 is null", VALUE_BOOLEAN},
    {"b1 or b2 and b1", VALUE_BOOLEAN},
    {"b1 = b2 is null", VALUE_BOOLEAN},
    {"b1 = i2 in (1, 2)", VALUE_BOOLEAN},
    {"b1 = i1 between 1 and 7", VALUE_BOOLEAN},
    {"i1 between 1 and 7 = b1", VALUE_BOOLEAN},
    {"i1 between i2 and i2 + 10 and b1", VALUE_BOOLEAN},
    {"i1 not between 1 and 7 or b2", VALUE_BOOLEAN},
    {"not i1 in (1, 2)", VALUE_BOOLEAN},
    {"b1 is true is null is false", VALUE_BOOLEAN},
    {"b1 is distinct from i1 = i2", VALUE_BOOLEAN},
    {"b1 is distinct from b2 and b2", VALUE_BOOLEAN},
    {"s1 || 'a' = 'aa' or s1 || 'b' > 'b'", VALUE_BOOLEAN},
    {"s1 between 'a' and 'a' || 'z'", VALUE_BOOLEAN},
    {"case i1 when 1 then 2 else 3 end + 1", VALUE_INTEGER},
    {"case when b1 then i1 end between 0 and 5", VALUE_BOOLEAN},
    /* types */
    {"i1 + 0.5", VALUE_DECIMAL},
    {"i1 + NULL", VALUE_INTEGER},
    {"NULL * d1", VALUE_DECIMAL},
    {"coalesce(NULL, i1, 2.5)", VALUE_DECIMAL},
    {"coalesce(NULL, NULL)", VALUE_STRING},
    {"case when b1 then NULL else 'x' end || 'y'", VALUE_STRING},
    {"case when b1 then '2001-01-01' else t1 end", VALUE_TIMESTAMP},
    {"coalesce(t1, '2001-01-01 00:00:00z')", VALUE_TIMESTAMP},
    {"t1 < '2016-12-31T23:59:60.000Z'", VALUE_BOOLEAN},
    {"case NULL when s1 then 1 else 2 end", VALUE_INTEGER},
    {"case t1 when '2001-01-01' then 1 else 2 end", VALUE_INTEGER},
    {"t1 in ('2001-01-01', '1970-01-01T00:00:00.5-00:30', NULL)", VALUE_BOOLEAN},
    {"'2001-01-01t23:59:60z' = t1", VALUE_BOOLEAN},
    {"'2001-02-28' between '2001-01-01' and time", VALUE_BOOLEAN},
    {"i1 in (1, 2.5, d1, NULL)", VALUE_BOOLEAN},
    {"NULL in (i1, NULL)", VALUE_BOOLEAN},
    {"NULL is null", VALUE_BOOLEAN},
    {"NULL is not distinct from NULL", VALUE_BOOLEAN},
    {"(NULL) is true", VALUE_BOOLEAN},
    {"NULL and b1", VALUE_BOOLEAN},
    {"i1 = d1", VALUE_BOOLEAN},
    {"false < b1", VALUE_BOOLEAN},
    /* numbers */
    {"i1 % i2", VALUE_INTEGER},
    {"i1 / i2", VALUE_INTEGER},
    {"d1 % d2", VALUE_DECIMAL},
    {"d1 / d2", VALUE_DECIMAL},
    {"d1 * 0 + d2", VALUE_DECIMAL},
    {"1 / 3.0", VALUE_DECIMAL},
    {"2 / 3.00000000000000000000", VALUE_DECIMAL},
    {"2147483647 + 1", VALUE_INTEGER},
    {"2147483647 + i1", VALUE_INTEGER},
    {"1000000 * 1000000", VALUE_INTEGER},
    {"coalesce(1, NULL) * 2147483648", VALUE_INTEGER},
    {"case when b1 then 1 end + 2147483647", VALUE_INTEGER},
    {"case when b1 then 1 else i1 end + 2147483647", VALUE_INTEGER},
    {"nullif(2147483647, i1) + 1", VALUE_INTEGER},
    {"greatest(2147483647, i1) + 1", VALUE_INTEGER},
    {"abs(-2147483647 - 1)", VALUE_INTEGER},
    {"mod(2147483647, 7) * 2147483647", VALUE_INTEGER},
    {"length(s1) * 2147483647", VALUE_INTEGER},
    /* functions of numbers */
    {"round(d1)", VALUE_DECIMAL},
    {"round(i1, 2)", VALUE_DECIMAL},
    {"round(i1, -2)", VALUE_DECIMAL},
    {"round(i1, NULL)", VALUE_DECIMAL},
    {"round(99999999999999999999999999999999999999., -1)", VALUE_DECIMAL},
    {"round(d2, -2147483648)", VALUE_DECIMAL},
    {"trunc(d1, 1)", VALUE_DECIMAL},
    {"trunc(d1, -37)", VALUE_DECIMAL},
    {"round(d1, -38)", VALUE_DECIMAL},
    {"floor(-0.5 + d1 * 0)", VALUE_DECIMAL},
    {"ceiling(-0.5 + d1 * 0)", VALUE_DECIMAL},
    {"sign(d1) || ''", VALUE_STRING},
    {"div(i1, i2)", VALUE_DECIMAL},
    {"div(d1, 0.00000000000000000000000000000000000001)", VALUE_DECIMAL},
    {"div(d1, d2)", VALUE_DECIMAL},
    {"mod(i1, d1)", VALUE_DECIMAL},
    {"mod(-9223372036854775808, -1)", VALUE_INTEGER},
    {"power(d1, 0)", VALUE_DECIMAL},
    {"power(d1, 3)", VALUE_DECIMAL},
    {"power(0.00, 0)", VALUE_DECIMAL},
    {"power(1.05, 100)", VALUE_DECIMAL},
    {"power(1.0000001, 365)", VALUE_DECIMAL},
    {"power(0.5, 60)", VALUE_DECIMAL},
    {"power(0.1, 30)", VALUE_DECIMAL},
    {"power(10.00, 21)", VALUE_DECIMAL},
    {"power(-1.000000000000000000000, 2147483647)", VALUE_DECIMAL},
    {"1.5 ^ 2 ^ 3", VALUE_DECIMAL},
    {"-2.5 ^ 2", VALUE_DECIMAL},
    {"2 * 1.5 ^ 2", VALUE_DECIMAL},
    {"d1 ^ i1 is null", VALUE_BOOLEAN},
    {"least(d1, i1, d2)", VALUE_DECIMAL},
    {"greatest(1.0, 1.00, NULL)", VALUE_DECIMAL},
    {"least(b1, b2)", VALUE_BOOLEAN},
    {"greatest(s1, 'b', NULL)", VALUE_STRING},
    {"least(t1, '2001-01-01')", VALUE_TIMESTAMP},
    {"least(NULL, NULL)", VALUE_STRING},
    {"nullif(1, 2.2)", VALUE_DECIMAL},
    {"nullif(NULL, i1)", VALUE_INTEGER},
    {"nullif(t1, '2001-01-01')", VALUE_TIMESTAMP},
    {"nullif(s1, '')", VALUE_STRING},
    /* functions of strings */
    {"lower(s1) || upper(s1) || initcap(s1)", VALUE_STRING},
    {"left(s1, -2147483648)", VALUE_STRING},
    {"right(s1, -2147483648)", VALUE_STRING},
    {"right(s1, -1)", VALUE_STRING},
    {"left(NULL, 1)", VALUE_STRING},
    {"substr(s1, -2147483648, 2147483647)", VALUE_STRING},
    {"substr(s1, 2147483647, 2147483647)", VALUE_STRING},
    {"substr(s1, -1, 3)", VALUE_STRING},
    {"substring(s1 for 2 from 2)", VALUE_STRING},
    {"substring(s1 from 2)", VALUE_STRING},
    {"substring(s1, i1::integer)", VALUE_STRING},
    {"substr(s1, 1, -1)", VALUE_STRING},
    {"split_part('a,b,c', ',', length(s1))", VALUE_STRING},
    {"split_part('a,b,c', ',', -length(s1))", VALUE_STRING},
    {"split_part(s1, '', -1)", VALUE_STRING},
    {"split_part(s1, ',', 0)", VALUE_STRING},
    {"trim(s1)", VALUE_STRING},
    {"trim(both from s1)", VALUE_STRING},
    {"trim(from s1)", VALUE_STRING},
    {"trim(leading ' -+' from s1)", VALUE_STRING},
    {"trim(trailing s1 from s1 || 'x')", VALUE_STRING},
    {"trim(s1, 'aZ\xC3\xA9')", VALUE_STRING},
    {"replace(s1, 'a', '')", VALUE_STRING},
    {"replace(s1, '', 'x')", VALUE_STRING},
    {"replace('aaa', 'aa', s1)", VALUE_STRING},
    {"translate(s1, 'ab\xC3\xA9', '1')", VALUE_STRING},
    {"translate(s1, 'aba', '123')", VALUE_STRING},
    {"lpad(s1, 5, 'xy') || rpad(s1, 5, '\xE2\x98\x83-')", VALUE_STRING},
    {"lpad(s1, 2)", VALUE_STRING},
    {"rpad(s1, 3, '')", VALUE_STRING},
    {"lpad('', -1, s1)", VALUE_STRING},
    {"repeat(s1, 3)", VALUE_STRING},
    {"repeat(s1, -1)", VALUE_STRING},
    {"repeat('', 2147483647)", VALUE_STRING},
    {"reverse(s1)", VALUE_STRING},
    {"position('' in s1)", VALUE_INTEGER},
    {"position('a' || 'b' in s1)", VALUE_INTEGER},
    {"strpos(s1, s1)", VALUE_INTEGER},
    {"starts_with(s1, '')", VALUE_BOOLEAN},
    {"concat(s1, NULL, i1, d1, b1, t1)", VALUE_STRING},
    {"concat(NULL)", VALUE_STRING},
    {"concat_ws(NULL, s1)", VALUE_STRING},
    {"concat_ws(',', NULL, s1, '', i1)", VALUE_STRING},
    {"chr(i1::int4)", VALUE_STRING},
    {"ascii(s1)", VALUE_INTEGER},
    {"octet_length(s1) - char_length(s1)", VALUE_INTEGER},
    {"s1 || i1 || d1 || b1 || t1", VALUE_STRING},
    {"i1 || NULL", VALUE_STRING},
    {"1 || 'x'", VALUE_STRING},
    {"1 || 'x' || b1", VALUE_STRING},
    /* patterns */
    {"s1 like 'a%' and s1 not like '_'", VALUE_BOOLEAN},
    {"s1 || 'b' like 'a' || '%'", VALUE_BOOLEAN},
    {"s1 like '%a%b%'", VALUE_BOOLEAN},
    {"s1 like '%%__%'", VALUE_BOOLEAN},
    {"s1 like 'a!_b!%c' escape '!'", VALUE_BOOLEAN},
    {"s1 like '\\%' escape ''", VALUE_BOOLEAN},
    {"s1 ilike '%A%' or s1 ilike '\xC3\x89%'", VALUE_BOOLEAN},
    {"not s1 like 'a' is null", VALUE_BOOLEAN},
    {"NULL like s1", VALUE_BOOLEAN},
    {"s1 ~ 'a' || 'b'", VALUE_STRING},
    {"s1 || 'b' ~ 'ab'", VALUE_BOOLEAN},
    {"s1 ~ ''", VALUE_BOOLEAN},
    {"s1 ~ '()'", VALUE_BOOLEAN},
    {"s1 ~ 'a|'", VALUE_BOOLEAN},
    {"s1 ~ '^|z'", VALUE_BOOLEAN},
    {"s1 ~ 'x^'", VALUE_BOOLEAN},
    {"s1 ~ '(^a)*b$'", VALUE_BOOLEAN},
    {"s1 ~ '^(a|b){2,4}$'", VALUE_BOOLEAN},
    {"s1 ~ '^((a?)*)*$'", VALUE_BOOLEAN},
    {"s1 ~ '^[]a-b-]+$'", VALUE_BOOLEAN},
    {"s1 ~ '[-+]?\\d+'", VALUE_BOOLEAN},
    {"s1 ~ '^[\\w\\s]*$'", VALUE_BOOLEAN},
    {"s1 ~ '[\xC3\xA0-\xC3\xBF]'", VALUE_BOOLEAN},
    {"s1 ~ '^\\D*$'", VALUE_BOOLEAN},
    {"s1 ~ '[[:punct:]]'", VALUE_BOOLEAN},
    {"s1 ~ '[[:space:]]'", VALUE_BOOLEAN},
    {"s1 ~ '^[^[:digit:]]$'", VALUE_BOOLEAN},
    {"s1 ~ '\\n'", VALUE_BOOLEAN},
    {"s1 ~ 'a]|b}'", VALUE_BOOLEAN},
    {"s1 !~ '.'", VALUE_BOOLEAN},
    {"case when s1 ~ '^[0-9]{1,18}$' then s1::bigint end", VALUE_INTEGER},
    /* casts */
    {"i1::text || d1::text || b1::text || t1::text || s1::text", VALUE_STRING},
    {"d1::bigint", VALUE_INTEGER},
    {"d1::int", VALUE_INTEGER},
    {"d1::numeric(3)", VALUE_DECIMAL},
    {"d1::numeric(5, 2)", VALUE_DECIMAL},
    {"d1::numeric(2, 4)", VALUE_DECIMAL},
    {"d2::numeric(38, 38)", VALUE_DECIMAL},
    {"i1::dec(10, 1)", VALUE_DECIMAL},
    {"'1.005'::numeric(3, 2)", VALUE_DECIMAL},
    {"- 5::numeric", VALUE_DECIMAL},
    {"i1::int8::text::int8", VALUE_INTEGER},
    {"b1::int + 1", VALUE_INTEGER},
    {"5::boolean", VALUE_BOOLEAN},
    {"s1::boolean", VALUE_BOOLEAN},
    {"s1::numeric", VALUE_DECIMAL},
    {"s1::timestamptz", VALUE_TIMESTAMP},
    {"cast(s1 as timestamp with time zone)", VALUE_TIMESTAMP},
    {"timestamptz '2001-01-01 10:00:00.1234567+05:30' - interval '1 day'", VALUE_TIMESTAMP},
    {"timestamp with time zone '2001-01-01 24:00'", VALUE_TIMESTAMP},
    {"bigint ' 12 ' + numeric '.5'", VALUE_DECIMAL},
    {"bool 'of' or boolean 't'", VALUE_BOOLEAN},
    {"text 'a' || NULL::text", VALUE_STRING},
    {"coalesce(NULL::numeric, 1)", VALUE_DECIMAL},
    {"coalesce(NULL::bigint, 1) * 2147483648", VALUE_INTEGER},
    {"int '7' * 2147483647", VALUE_INTEGER},
    {"'7'::bigint * 2147483647", VALUE_INTEGER},
    {"s1 || chr(11) ~ '\\s$'", VALUE_BOOLEAN},
    {"s1 || chr(12) ~ '\\s$'", VALUE_BOOLEAN},
    {"s1 || chr(13) ~ '[[:space:]]$'", VALUE_BOOLEAN},
    {"s1 || chr(28) ~ '\\s$'", VALUE_BOOLEAN},
    {"s1 || chr(133) ~ '\\s$'", VALUE_BOOLEAN},
    {"s1 || chr(160) ~ '\\s$'", VALUE_BOOLEAN},
    {"s1 || chr(233) ~ '\\w$'", VALUE_BOOLEAN},
    {"(d1 * 0 + 2147483647.5)::int", VALUE_INTEGER},
    {"(d1 * 0 - 2147483648.4)::int", VALUE_INTEGER},
    {"(d1 * 0 + 9223372036854775807.5)::bigint", VALUE_INTEGER},
    {"('2001-01-01 23:59:60' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 00:00:60.5' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 24:00:00.1' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 24:01' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 25:00' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 10:60' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 10:00:61' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 1:00' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01T10' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 10:00+15:59' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 10:00+16' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 10:00-15:60' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 10:00:00.0000005' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 10:00:00.0000015' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 10:00:59.9999999' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 10:00:00.' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 10:00:00.123456789012345678901234567890' || left(\"order\", 0))::timestamptz",
     VALUE_TIMESTAMP},
    {"('2001-01-01Z' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01+02' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01T' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01  10:00' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 10:00 Z' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 10:00z' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 10:00+0' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 10:00+023' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 10:00+02:3' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 10:00+02:30:00' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('0000-01-01' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('0001-01-01 00:00+01' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('9999-12-31 23:59:59.9999999' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-02-30 10:00' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-00-01' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-00' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('1900-02-29' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2000-02-29' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01 10:00 UTC' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('20010101' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('2001-01-01x' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('infinity' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('now' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    {"('' || left(\"order\", 0))::timestamptz", VALUE_TIMESTAMP},
    /* times */
    {"t1 + interval '1 month'", VALUE_TIMESTAMP},
    {"t1 - interval '1 month 1 day'", VALUE_TIMESTAMP},
    {"interval '-1 month' + t1", VALUE_TIMESTAMP},
    {"timestamptz '2000-02-29' + interval '1 year'", VALUE_TIMESTAMP},
    {"timestamptz '2001-03-31' - interval '1' month + interval '36:30'", VALUE_TIMESTAMP},
    {"t1 + (t1 - time)", VALUE_TIMESTAMP},
    {"t1 - time > interval '30 days'", VALUE_BOOLEAN},
    {"t1 - '2001-01-01' = interval '0 days'", VALUE_BOOLEAN},
    {"t1 - time in (interval '1 month', interval '30 days')", VALUE_BOOLEAN},
    {"interval '1 month' = interval '30 days'", VALUE_BOOLEAN},
    {"(t1 - time) is distinct from interval '1 day'", VALUE_BOOLEAN},
    {"t1 - time is null", VALUE_BOOLEAN},
    {"extract(epoch from t1 - time)", VALUE_DECIMAL},
    {"extract(hour from time - t1)", VALUE_DECIMAL},
    {"extract(second from time - t1)", VALUE_DECIMAL},
    {"extract(day from '2001-01-01' - t1)", VALUE_DECIMAL},
    {"extract(epoch from t1)", VALUE_DECIMAL},
    {"extract(\"week\" from t1) + extract('ISOYEAR' from t1)", VALUE_DECIMAL},
    {"extract(century from timestamptz '2000-12-31')", VALUE_DECIMAL},
    {"extract(decade from timestamptz '0009-12-31')", VALUE_DECIMAL},
    {"extract(isoyear from timestamptz '0001-01-01')", VALUE_DECIMAL},
    {"extract(week from timestamptz '9999-12-31')", VALUE_DECIMAL},
    {"extract(millennium from timestamptz '2001-01-01')", VALUE_DECIMAL},
    {"date_trunc('week', timestamptz '0001-01-01 10:00')", VALUE_TIMESTAMP},
    {"date_trunc('century', timestamptz '2000-12-31')", VALUE_TIMESTAMP},
    {"date_trunc('millennium', t1)", VALUE_TIMESTAMP},
    {"date_trunc('decade', timestamptz '1999-12-31')", VALUE_TIMESTAMP},
    {"date_trunc('QUARTER', t1)", VALUE_TIMESTAMP},
    {"date_trunc('milliseconds', t1)", VALUE_TIMESTAMP},
    {"extract(year from date_trunc('year', t1))::int4 % 4", VALUE_INTEGER},
    {"date_trunc('day', t1, 'America/New_York')", VALUE_TIMESTAMP},
    {"date_trunc('hour', t1, 'Asia/Kathmandu')", VALUE_TIMESTAMP},
    {"date_trunc('second', t1, 'America/St_Johns')", VALUE_TIMESTAMP},
    {"date_trunc('week', time, 'UTC')", VALUE_TIMESTAMP},
    {"date_trunc('century', timestamptz '2000-12-31 23:30Z', 'Europe/Berlin')", VALUE_TIMESTAMP},
    {"date_trunc('day', timestamptz '2018-11-04 12:00Z', 'America/Sao_Paulo')", VALUE_TIMESTAMP},
    {"date_trunc('day', timestamptz '2012-11-04 12:00Z', 'America/Havana')", VALUE_TIMESTAMP},
    {"date_trunc('month', timestamptz '2001-01-01' + (t1 - time), 'Pacific/Apia')",
     VALUE_TIMESTAMP},
    {"extract(hour from t1 at time zone 'Asia/Kolkata')", VALUE_DECIMAL},
    {"extract(epoch from t1 AT TIME ZONE 'America/New_York')", VALUE_DECIMAL},
    {"extract(doy from (t1 + interval '1 day') at time zone 'Australia/Lord_Howe')", VALUE_DECIMAL},
    {"extract(isodow from coalesce(t1, time) at time zone 'UTC')", VALUE_DECIMAL},
    {"extract(week from t1::timestamptz at time zone 'Europe/Berlin')", VALUE_DECIMAL},
};

static void test_fixed_expressions(void **state)
{
    (void)state;
    NEEDS_POSTGRES();
    enum { COUNT = sizeof fixed / sizeof fixed[0] };
    const char *texts[COUNT];
    enum value_type types[COUNT];
    struct tally tally = {0};

    for (size_t i = 0; i < COUNT; i++) {
        texts[i] = fixed[i].text;
        types[i] = fixed[i].type;
    }
    PGresult *result = judge_all(texts, types, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        struct expression *expression;
        if (expression_create(texts[i], source, &expression, &error) != STATUS_OK) {
            fail_msg("%s: %s", texts[i], error.text);
        }
        if (expression_type(expression) != types[i]) {
            fail_msg("%s is a %s", texts[i], value_type_name(expression_type(expression)));
        }
        expression_destroy(expression);
        compare(texts[i], result, result, i, &tally);
    }
    PQclear(result);
}

/* What PostgreSQL refuses as syntax or type must not be accepted here. */
static void test_refused_by_both(void **state)
{
    (void)state;
    NEEDS_POSTGRES();
    static const char *const refused[] = {
        "i1 is distinct from i2 is null",
        "t1 > '2001-01-01T00:00:00+16:00'",
        "i1 = i2 in (true, false)",
        "i1 < i2 < 3",
        "i1 = i2 = b1",
        "i1 between 1 and 2 between 3 and 4",
        "i1 --1",
        "i1 %-%1",
        "i1 %-1",
        "i1 <=> i2",
        "i1 !=-1",
        "s1 ||- i1",
        "12abc",
        "1..2",
        "1.2.3",
        "'a' 'b'",
        "order",
        "user + 1",
        "i1 + ",
        "(i1",
        "i1)",
        "i1 in ()",
        "coalesce()",
        "case end",
        "case when b1 then 1",
        "case else 1 end",
        "i1 and b1",
        "not i1",
        "s1 + 1",
        "- s1",
        "b1 + b1",
        "t1 = 'yesterday or so'",
        "t1 = '2001-02-29'",
        "t1 = '2016-12-31T23:59:60.5Z'",
        "case NULL when 7 then 1 end",
        "case '2001-01-01' when t1 then 1 end",
        "i1 = b1",
        "s1 = i1",
        "coalesce(i1, s1)",
        "case when b1 then 1 else s1 end",
        "i1 is true",
        "nothing",
        "\"S1\"",
        "substr(s1, i1)",
        "substr(s1, 1.5)",
        "left(s1, 'x')",
        "length(i1)",
        "length()",
        "lower(s1, s1)",
        "nonsense(s1)",
        "concat()",
        "trim(both 'a' from s1, 'b')",
        "substring(s1 from 1 from 2)",
        "position(s1, s1)",
        "s1 like 'a' like 'b'",
        "s1 like i1",
        "i1 like '1'",
        "s1 ~ i1",
        "i1 ~ 'x'",
        "s1 ~ '('",
        "s1 ~ ')'",
        "s1 ~ '*a'",
        "s1 ~ 'a**'",
        "s1 ~ '^*'",
        "s1 ~ '[z-a]'",
        "s1 ~ '[a-c-e]'",
        "s1 ~ 'a{2,1}'",
        "s1 ~ 'a{256}'",
        "s1 ~ '[[:nothing:]]'",
        "s1 ~ '[a'",
        "i1 || i2",
        "b1 || i1",
        "b1::bigint",
        "i1::boolean",
        "d1::boolean",
        "t1::bigint",
        "i1::timestamptz",
        "'x'::bigint",
        "'2001-02-30'::timestamptz",
        "'maybe'::boolean",
        "'1e'::numeric",
        "'123.4'::numeric(4, 2)",
        "bigint 'x'",
        "i1::nothing",
        "i1::numeric(0)",
        "i1::text(5)",
        "cast(i1, text)",
        "- 'x'::text",
        "extract(nothing from t1)",
        "extract(year from i1)",
        "extract(year from '2001-01-01')",
        "extract(week from t1 - time)",
        "date_trunc('nothing', t1)",
        "date_trunc('day', i1)",
        "date_trunc('day', '2001-01-01')",
        "date_trunc('dow', t1)",
        "date_trunc('day', t1, 'Europe/Nowhere')",
        "date_trunc('day', t1, 'CET')",
        "date_trunc('day', t1, s1)",
        "date_trunc('day', t1, 'UTC', 'UTC')",
        "extract(hour from t1 + interval '1 day' at time zone 'UTC')",
        "extract(hour from t1 - time at time zone 'UTC')",
        "extract(hour from i1 at time zone 'UTC')",
        "extract(hour from t1 at time 'UTC')",
        "extract(hour from t1 at time zone i1)",
        "extract(timezone from t1 at time zone 'UTC')",
        "t1 at time zone 'UTC'",
        "t1 + 1",
        "t1 + t1",
        "interval '1 day' - t1",
        "t1 * 2",
        "t1 - time > 5",
        "interval '1 day 1 day' = interval '1 day'",
        "t1 + interval '1 nothing'",
        "t1 + interval 'x'",
        "nullif(i1)",
        "nullif(i1, s1)",
        "greatest(i1, s1)",
        "mod(i1)",
        "div(s1, 1)",
        "round(s1)",
        "d1 ^ s1",
    };
    struct expression *expression;

    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        const char *sql = generator_format(&arena, "SELECT %s\n FROM facts", refused[i]);
        PGresult *result = database_ask(connection, sql);
        /* 'user' alone is a value there, and a comment ends nothing */
        bool theirs = PQresultStatus(result) == PGRES_FATAL_ERROR;
        PQclear(result);
        if (expression_create(refused[i], source, &expression, &error) != STATUS_REJECT) {
            fail_msg("%s: accepted; PostgreSQL %s it", refused[i], theirs ? "refuses" : "accepts");
        }
        if (!theirs && strcmp(refused[i], "i1 --1") != 0) {
            print_message("only we refuse: %s: %s\n", refused[i], error.text);
        }
    }
}

int main(void)
{
    generator_start("test_expression_oracle");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixed_expressions),
        cmocka_unit_test(test_refused_by_both),
        cmocka_unit_test(test_random_expressions),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
