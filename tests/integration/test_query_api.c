/* The whole query interface, against SQL: random questions with filters, roll-ups, having, order,
 * limit and pages, over HTTP and in `dovetail query`, compared text by text with what PostgreSQL
 * computes from the raw events (a naive model: no states, no layers, no windows of ours), and where
 * nothing is rolled up with the view dovetail.by_route, too. Nothing flows meanwhile. Every kind of
 * response is as schemas/openapi.json describes it.
 *
 * Needs Debian's python3-jsonschema. The program runs in the repository's root, as make does. */
#define TRIPS_MORE_VIEWS                                                                           \
    "{\"view\": \"many\", \"source\": \"trips\", \"group_by\": [\"delay\"],"                       \
    " \"window\": {\"type\": \"tumbling\", \"size\": \"1d\"},"                                     \
    " \"measures\": {\"trips\": \"count(*)\"}}",                                                   \
        "{\"view\": \"kinds\", \"source\": \"trips\", \"group_by\": [\"late\"],"                   \
        " \"window\": {\"type\": \"tumbling\", \"size\": \"1d\"},"                                 \
        " \"measures\": {\"trips\": \"count(*)\", \"first\": \"min(destination)\","                \
        "  \"booked\": \"max(booked)\", \"all_late\": \"bool_and(late)\","                         \
        "  \"delays\": \"histogram(delay, [0, 10, 20])\", \"spread\": \"var_samp(fare)\"}}",       \
        "{\"view\": \"hops\", \"source\": \"trips\", \"group_by\": [\"destination\"],"             \
        " \"window\": {\"type\": \"hopping\", \"size\": \"6h\", \"slide\": \"2h\"},"               \
        " \"measures\": {\"trips\": \"count(*)\", \"total\": \"sum(delay)\"}}",                    \
        "{\"view\": \"visits\", \"source\": \"trips\", \"group_by\": [\"origin\"],"                \
        " \"window\": {\"type\": \"session\", \"gap\": \"3h\"},"                                   \
        " \"measures\": {\"trips\": \"count(*)\", \"total\": \"sum(delay)\"}}",                    \
        "{\"view\": \"forever\", \"source\": \"trips\", \"group_by\": [\"origin\", \"late\"],"     \
        " \"window\": {\"type\": \"none\"}, \"measures\": {\"trips\": \"count(*)\"}}",             \
        "{\"view\": \"named\", \"source\": \"trips\","                                             \
        " \"group_by\": [{\"name\": \"from\", \"expr\": \"delay\"}],"                              \
        " \"window\": {\"type\": \"tumbling\", \"size\": \"1d\"},"                                 \
        " \"measures\": {\"trips\": \"count(*)\"}}",

#include "tests/support/database.h"
#include "tests/support/trips_fixture.h"

#include <pthread.h>
#include <zlib.h>

#include "tests/support/http.h"

static struct http_session *session;

enum { MANY = 300000, QUESTIONS = 250 };

/* --- the raw events, for PostgreSQL --- */

static void put_literal(FILE *out, const struct value *value, struct arena *arena)
{
    if (value->is_null) {
        fputs(", NULL", out);
        return;
    }
    size_t length = 0;
    const char *text = value_text(value, arena, &length);
    char *literal = PQescapeLiteral(postgres_handle(postgres), text, length);
    fprintf(out, ", %s", literal);
    PQfreemem(literal);
}

static void store_raw(void)
{
    static const char *const fields[] = {"time", "destination", "origin", "delay",
                                         "fare", "late",        "booked"};
    struct catalog *catalog = NULL;
    struct arena arena;
    char *text = NULL;
    size_t length = 0;
    arena_init(&arena);
    execute("CREATE TABLE raw (n integer, time timestamptz, destination text COLLATE \"C\","
            " origin text COLLATE \"C\", delay bigint, fare numeric, late boolean,"
            " booked timestamptz)");
    assert_status(STATUS_OK, catalog_load(postgres, &catalog, &error));
    const struct source *source = catalog_source(catalog, "trips");
    FILE *out = open_memstream(&text, &length);
    for (size_t i = 0; i < EVENTS; i++) {
        fprintf(out, "%s(%zu", i > 0 ? ", " : "INSERT INTO raw VALUES ", i);
        for (size_t f = 0; f < sizeof fields / sizeof fields[0]; f++)
            for (size_t at = 0; at < source->field_count; at++)
                if (strcmp(source->fields[at].name, fields[f]) == 0)
                    put_literal(out, &trips[i].fields[at], &arena);
        fputc(')', out);
    }
    assert_int_equal(fclose(out), 0);
    execute(text);
    free(text);
    catalog_destroy(catalog);
    arena_deinit(&arena);
}

/* Far more groups of one view than an answer may have. */
static void store_many(void)
{
    struct catalog *catalog = NULL;
    char table[CATALOG_NAME_BYTES];
    assert_status(STATUS_OK, catalog_load(postgres, &catalog, &error));
    catalog_batch_table(catalog_current(catalog, "many")->version, table);
    assert_status(STATUS_OK,
                  postgres_executef(postgres, &error,
                                    "INSERT INTO %s (_run_from, window_start, delay, trips)"
                                    " SELECT 1, '2002-01-01Z', i, 1 FROM generate_series(1, %d) i;"
                                    " ANALYZE %s",
                                    table, MANY, table));
    catalog_destroy(catalog);
}

static int set_up_all(void **state)
{
    if (set_up(state) != 0)
        return -1;
    store_raw();
    store_many();
    session = http_session_create(port);
    return session != NULL ? 0 : -1;
}

static int tear_down_all(void **state)
{
    http_session_destroy(session);
    return tear_down(state);
}

/* --- random questions --- */

struct growing {
    char text[16384];
};

static void add(struct growing *to, const char *format, ...) PRINTF_LIKE(2, 3);

static void add(struct growing *to, const char *format, ...)
{
    size_t length = strlen(to->text);
    va_list arguments;
    va_start(arguments, format);
    int written = vsnprintf(to->text + length, sizeof to->text - length, format, arguments);
    va_end(arguments);
    assert_true(written >= 0 && (size_t)written < sizeof to->text - length);
}

enum { ARGUMENT_MAX = 40 };

/* One question, said in three languages. */
struct question {
    struct growing target;         /* HTTP, without limit and cursor */
    char *arguments[ARGUMENT_MAX]; /* of `dovetail query` */
    size_t argument_count;
    struct growing inner;  /* SQL: conditions on raw events */
    struct growing having; /* on finished rows "q" */
    struct growing order;
    struct growing keys; /* ", origin, destination" */
    struct growing measures;
    const char *start; /* of a window, from time "time" */
    const char *end;   /* from "w" */
    bool is_plain;     /* nothing is rolled up: dovetail.by_route says the same */
};

static void say(struct question *question, const char *name, const char *option, const char *value)
{
    char *escaped = http_escape(value, strlen(value));
    add(&question->target, "%c%s=%s", question->target.text[0] == '\0' ? '?' : '&', name, escaped);
    free(escaped);
    assert_true(question->argument_count + 2 < ARGUMENT_MAX);
    question->arguments[question->argument_count++] = strdup(option);
    question->arguments[question->argument_count++] = strdup(value);
}

static void say_where(struct question *question, const char *name, const char *value)
{
    char *escaped = http_escape(value, strlen(value));
    char text[512];
    add(&question->target, "%c%s=%s", question->target.text[0] == '\0' ? '?' : '&', name, escaped);
    free(escaped);
    snprintf(text, sizeof text, "%s=%s", name, value);
    question->arguments[question->argument_count++] = strdup("--where");
    question->arguments[question->argument_count++] = strdup(text);
}

static bool chance(uint32_t percent)
{
    return random_below(100) < percent;
}

static char *sql_literal(const char *text)
{
    return PQescapeLiteral(postgres_handle(postgres), text, strlen(text));
}

static const char *a_text(const char *key)
{
    static const char *const origins[] = {"",    "JFK", "O'Hare",    "\"quoted\"",  "München",
                                          "a,b", "x",   "new\nline", "back\\slash", "日本"};
    static const char *const destinations[] = {"SFO", "LAX", "50% + 1", "a&b=c#d", ""};
    return key[0] == 'o' ? origins[random_below(10)] : destinations[random_below(5)];
}

static void choose_in(struct question *question, const char *key)
{
    char list[512] = "";
    char name[64];
    uint32_t count = 1 + random_below(4);
    add(&question->inner, " AND %s IN (", key);
    for (uint32_t i = 0; i < count; i++) {
        const char *text = a_text(key);
        bool quote = strpbrk(text, ",\"") != NULL || chance(20);
        size_t length = strlen(list);
        length += (size_t)snprintf(list + length, sizeof list - length, "%s%s", i > 0 ? "," : "",
                                   quote ? "\"" : "");
        for (const char *c = text; *c != '\0'; c++)
            length += (size_t)snprintf(list + length, sizeof list - length, "%s%c",
                                       *c == '"' ? "\"" : "", *c);
        snprintf(list + length, sizeof list - length, "%s", quote ? "\"" : "");
        char *literal = sql_literal(text);
        add(&question->inner, "%s%s", i > 0 ? ", " : "", literal);
        PQfreemem(literal);
    }
    add(&question->inner, ")");
    snprintf(name, sizeof name, "%s.in", key);
    say_where(question, name, list);
}

static void choose_filter(struct question *question, const char *key)
{
    const char *text = a_text(key);
    char *literal = sql_literal(text);
    char name[64];
    char prefix[16];
    switch (random_below(5)) {
    case 0:
        say_where(question, key, text);
        add(&question->inner, " AND %s = %s", key, literal);
        break;
    case 1:
        choose_in(question, key);
        break;
    case 2:
        snprintf(prefix, sizeof prefix, "%.*s",
                 text[0] == 'M' ? 3
                 : chance(20)   ? 0
                                : 1,
                 (unsigned char)text[0] < 0x80 ? text : "");
        PQfreemem(literal);
        literal = sql_literal(prefix);
        snprintf(name, sizeof name, "%s.prefix", key);
        say_where(question, name, prefix);
        add(&question->inner, " AND starts_with(%s, %s)", key, literal);
        break;
    default:
        snprintf(name, sizeof name, "%s.is", key);
        bool is_null = chance(50);
        say_where(question, name, is_null ? "null" : "not_null");
        add(&question->inner, " AND %s IS %sNULL", key, is_null ? "" : "NOT ");
    }
    PQfreemem(literal);
}

static const struct {
    const char *name;
    const char *sql;
} measures[] = {
    {"trips", "count(*)"},
    {"delayed", "count(*) FILTER (WHERE delay > 5)"},
    {"total", "sum(delay)"},
    {"fares", "trim_scale(sum(fare))"},
    {"mean_fare", "trim_scale(avg(fare))"},
    {"best", "min(delay)"},
    {"worst", "max(delay)"},
    {"cheapest", "trim_scale(min(fare))"},
};

enum { MEASURE_COUNT = sizeof measures / sizeof measures[0] };

#define LOCAL(interval) "((w AT TIME ZONE 'America/New_York') + interval '" interval "')"

static const struct {
    const char *name; /* NULL: the view's own */
    const char *timezone;
    const char *start;
    const char *end;
} granularities[] = {
    {NULL, NULL, "date_bin('1 hour', time, '1970-01-01Z')", "w + interval '1 hour'"},
    {"2h", NULL, "date_bin('2 hours', time, '1970-01-01Z')", "w + interval '2 hours'"},
    {"6h", NULL, "date_bin('6 hours', time, '1970-01-01Z')", "w + interval '6 hours'"},
    {"1d", NULL, "date_bin('1 day', time, '1970-01-01Z')", "w + interval '24 hours'"},
    {"1d", "America/New_York", "date_trunc('day', time, 'America/New_York')",
     LOCAL("1 day") " AT TIME ZONE 'America/New_York'"},
    {"1w", "America/New_York", "date_trunc('week', time, 'America/New_York')",
     LOCAL("7 days") " AT TIME ZONE 'America/New_York'"},
    {"1mo", "America/New_York", "date_trunc('month', time, 'America/New_York')",
     LOCAL("1 month") " AT TIME ZONE 'America/New_York'"},
    {"1y", NULL, "date_trunc('year', time, 'UTC')",
     "((w AT TIME ZONE 'UTC') + interval '1 year') AT TIME ZONE 'UTC'"},
};

static char all_start[80];
static char all_end[80];

/* Bounds on an hour, as the windows are, or anywhere within one. */
static void choose_range(struct question *question, bool all)
{
    const char *const names[] = {"from", "to"};
    const char *const options[] = {"--from", "--to"};
    uint32_t first = random_below(60);
    uint32_t hours[] = {first, first + 1 + random_below(40)};
    snprintf(all_start, sizeof all_start, "NULL::timestamptz");
    snprintf(all_end, sizeof all_end, "NULL::timestamptz");
    for (int i = 0; i < 2; i++) {
        char text[40];
        if (!chance(60))
            continue;
        snprintf(text, sizeof text, "2001-01-%02uT%02u:00:00Z", 1 + hours[i] / 24, hours[i] % 24);
        say(question, names[i], options[i], text);
        add(&question->inner, " AND date_bin('1 hour', time, '1970-01-01Z') %s '%s'",
            i == 0 ? ">=" : "<", text);
        snprintf(i == 0 ? all_start : all_end, 80, "'%s'::timestamptz", text);
    }
    if (all) {
        question->start = all_start;
        question->end = all_end;
    }
}

static void choose_windows(struct question *question)
{
    bool all = chance(15);
    size_t choice = chance(40) ? 0 : random_below(sizeof granularities / sizeof granularities[0]);
    question->start = granularities[choice].start;
    question->end = granularities[choice].end;
    question->is_plain = !all && choice == 0;
    choose_range(question, all);
    if (all)
        say(question, "granularity", "--granularity", "all");
    else if (granularities[choice].name != NULL)
        say(question, "granularity", "--granularity", granularities[choice].name);
    if (!all && granularities[choice].timezone != NULL)
        say(question, "timezone", "--timezone", granularities[choice].timezone);
}

/* Names of the answer's keys and measures, in order; the number of keys. */
static size_t choose_columns(struct question *question, const char *columns[12], size_t *count)
{
    static const char *const keys[][2] = {{"origin", "destination"},
                                          {"destination", "origin"},
                                          {"origin", NULL},
                                          {"destination", NULL},
                                          {NULL, NULL}};
    size_t choice = chance(50) ? 0 : random_below(5);
    char list[200] = "";
    *count = 0;
    for (size_t i = 0; i < 2 && keys[choice][i] != NULL; i++) {
        columns[(*count)++] = keys[choice][i];
        add(&question->keys, ", %s", keys[choice][i]);
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i > 0 ? "," : "",
                 keys[choice][i]);
    }
    if (choice > 0)
        say(question, "group_by", "--group-by", list);
    question->is_plain = question->is_plain && *count == 2;
    size_t key_count = *count;
    bool some = chance(50);
    list[0] = '\0';
    for (size_t i = 0; i < MEASURE_COUNT; i++) {
        if (some && !chance(40) && i > 0)
            continue;
        columns[(*count)++] = measures[i].name;
        add(&question->measures, ", %s", measures[i].name);
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i > 0 ? "," : "",
                 measures[i].name);
    }
    if (some)
        say(question, "measures", "--measures", list);
    return key_count;
}

static void choose_having(struct question *question)
{
    static const char *const comparisons[] = {"=", "<>", "!=", "<", "<=", ">", ">="};
    char text[300] = "";
    uint32_t count = 1 + random_below(2);
    for (uint32_t i = 0; i < count; i++) {
        const char *measure = measures[random_below(MEASURE_COUNT)].name;
        const char *comparison = comparisons[random_below(7)];
        char operand[64];
        size_t length = strlen(text);
        if (chance(15)) {
            bool is_null = chance(50);
            snprintf(text + length, sizeof text - length, "%s%s is %snull", i > 0 ? "," : "",
                     measure, is_null ? "" : "not ");
            add(&question->having, " AND q.%s IS %sNULL", measure, is_null ? "" : "NOT ");
            continue;
        }
        if (chance(70))
            snprintf(operand, sizeof operand, "%d", (int)random_below(30) - 5);
        else
            snprintf(operand, sizeof operand, "%d.%05u", (int)random_below(40) - 3,
                     random_below(100000));
        snprintf(text + length, sizeof text - length, "%s%s%s%s", i > 0 ? " , " : "", measure,
                 comparison, operand);
        add(&question->having, " AND q.%s %s %s", measure, comparison, operand);
    }
    say(question, "having", "--having", text);
}

static void choose_order(struct question *question, const char *const *columns, size_t count)
{
    char text[300] = "";
    uint32_t columns_of_order = 1 + random_below(3);
    for (uint32_t i = 0; i < columns_of_order; i++) {
        bool descending = chance(50);
        uint32_t choice = random_below((uint32_t)count + 2);
        const char *name = choice < count    ? columns[choice]
                           : choice == count ? "window_start"
                                             : "window_end";
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s%s", i > 0 ? "," : "",
                 descending ? "-" : "", name);
        add(&question->order, "q.%s%s, ",
            choice < count    ? name
            : choice == count ? "w"
                              : "e",
            descending ? " DESC" : "");
    }
    say(question, "order", "--order", text);
}

static void choose_question(struct question *question)
{
    const char *columns[12];
    size_t count = 0;
    *question = (struct question){0};
    choose_windows(question);
    (void)choose_columns(question, columns, &count);
    if (chance(35))
        choose_filter(question, "origin");
    if (chance(35))
        choose_filter(question, "destination");
    if (chance(35))
        choose_having(question);
    if (chance(55))
        choose_order(question, columns, count);
}

static void forget_question(struct question *question)
{
    for (size_t i = 0; i < question->argument_count; i++)
        free(question->arguments[i]);
}

/* The answer's rows, of what PostgreSQL makes of the raw events. */
static void write_sql(const struct question *question, const char *limit, struct growing *out)
{
    *out = (struct growing){0};
    add(out,
        "SELECT " TIME_SQL("q.w") " AS window_start, " TIME_SQL(
            "q.e") " AS window_end%s%s,"
                   " coalesce(q.e > '2001-01-02 12:00Z', true) AS provisional FROM (SELECT w, e%s",
        question->keys.text, question->measures.text, question->keys.text);
    for (size_t i = 0; i < MEASURE_COUNT; i++)
        add(out, ", %s AS %s", measures[i].sql, measures[i].name);
    add(out,
        " FROM (SELECT *, %s AS e FROM (SELECT *, %s AS w FROM raw) r) r WHERE true%s"
        " GROUP BY w, e%s) q WHERE true%s ORDER BY %sq.w%s%s",
        question->end, question->start, question->inner.text, question->keys.text,
        question->having.text, question->order.text, question->keys.text, limit);
}

/* The same of the SQL view. */
static void write_view_sql(const struct question *question, struct growing *out)
{
    struct growing inner = question->inner;
    *out = (struct growing){0};
    /* Conditions on the window's start are said of the events' time. */
    for (char *at; (at = strstr(inner.text, "date_bin('1 hour', time, '1970-01-01Z')")) != NULL;) {
        size_t length = strlen("date_bin('1 hour', time, '1970-01-01Z')");
        memset(at, ' ', length);
        memcpy(at, "window_start", strlen("window_start"));
    }
    add(out,
        "SELECT " TIME_SQL("q.w") " AS window_start, " TIME_SQL(
            "q.e") " AS window_end%s%s,"
                   " provisional FROM (SELECT *, window_start AS w, window_end AS e FROM "
                   "dovetail.by_route"
                   " WHERE true%s) q WHERE true%s ORDER BY %sq.w",
        question->keys.text, question->measures.text, inner.text, question->having.text,
        question->order.text);
    add(out, "%s", question->keys.text);
}

/* --- asking --- */

/* The text of the rows, between the brackets; malloc'd. */
static char *rows_of(const char *body)
{
    const char *begin = strstr(body, "\"rows\":[");
    const char *end = strstr(body, "],\"receipt\":");
    assert_non_null(begin);
    assert_non_null(end);
    begin += strlen("\"rows\":[");
    return strndup(begin, (size_t)(end - begin));
}

static void assert_same(const struct question *question, const char *what, const char *expected,
                        const char *got)
{
    if (strcmp(expected, got) == 0)
        return;
    size_t at = 0;
    while (expected[at] == got[at])
        at++;
    at = at > 120 ? at - 120 : 0;
    fail_msg("%s: /v1/views/by_route/rows%s\nexpected ...%.600s\ngot ...%.600s", what,
             question->target.text, expected + at, got + at);
}

static char *ask(const struct question *question, const char *more, int status, char **body)
{
    struct growing target = {0};
    struct http_reply reply;
    add(&target, "/v1/views/by_route/rows%s", question->target.text);
    if (more[0] != '\0')
        add(&target, "%c%s", question->target.text[0] == '\0' ? '?' : '&', more);
    http_get(session, target.text, &reply);
    if (reply.status != status)
        fail_msg("%s: %d instead of %d: %s%s", target.text, reply.status, status,
                 reply.body != NULL ? reply.body : "", reply.problem);
    char *rows = status == 200 ? rows_of(reply.body) : NULL;
    if (body != NULL)
        *body = strdup(reply.body);
    http_reply_free(&reply);
    return rows;
}

/* All pages of `size` rows, joined. */
static char *ask_pages(const struct question *question, size_t size)
{
    char *joined = strdup("");
    char cursor[6200] = "";
    for (int page = 0;; page++) {
        char more[6300];
        char *body = NULL;
        snprintf(more, sizeof more, "limit=%zu%s%s", size, page > 0 ? "&cursor=" : "", cursor);
        char *rows = ask(question, more, 200, &body);
        char *longer = NULL;
        assert_true(asprintf(&longer, "%s%s%s", joined, page > 0 ? ",\n" : "", rows) >= 0);
        free(joined);
        free(rows);
        joined = longer;
        json_t *json = json_loads(body, 0, NULL);
        json_t *about = json_object_get(json, "page");
        const char *next = json_string_value(json_object_get(about, "next"));
        assert_true(json_is_false(json_object_get(about, "moved")));
        assert_int_equal(json_is_true(json_object_get(about, "more")), next != NULL);
        snprintf(cursor, sizeof cursor, "%s", next != NULL ? next : "");
        json_decref(json);
        free(body);
        if (cursor[0] == '\0')
            return joined;
        assert_true(page < 1000);
    }
}

/* Runs `dovetail query` with arguments up to NULL; its stdout, malloc'd. */
static char *run_query(char *const *arguments, size_t count, int expected)
{
    char program[512];
    char config[128];
    const char *argv[ARGUMENT_MAX + 8];
    size_t argc = 0;
    int pipes[2];
    const char *build = getenv("DOVETAIL_BUILD");
    snprintf(program, sizeof program, "%s/dovetail", build != NULL ? build : "build");
    snprintf(config, sizeof config, "%s/dovetail.json", directory);
    argv[argc++] = program;
    argv[argc++] = "query";
    argv[argc++] = "--config";
    argv[argc++] = config;
    for (size_t i = 0; i < count; i++)
        argv[argc++] = arguments[i];
    argv[argc] = NULL;
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pipes[1], STDOUT_FILENO);
        close(pipes[0]);
        close(pipes[1]);
        execv(program, (char *const *)argv);
        _exit(127);
    }
    close(pipes[1]);
    size_t length = 0;
    size_t capacity = 1 << 20;
    char *text = malloc(capacity);
    for (ssize_t got; (got = stack_read(pipes[0], text + length, capacity - 1 - length)) > 0;)
        length += (size_t)got;
    close(pipes[0]);
    text[length] = '\0';
    int status = stack_reap(pid, "dovetail query");
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), expected);
    return text;
}

static char *ask_command(struct question *question)
{
    char *arguments[ARGUMENT_MAX + 4] = {"by_route", "--format", "json"};
    size_t count = 3;
    for (size_t i = 0; i < question->argument_count; i++)
        arguments[count++] = question->arguments[i];
    char *text = run_query(arguments, count, 0);
    char *rows = rows_of(text);
    free(text);
    return rows;
}

static void check_question(struct question *question, int number, size_t *most_rows)
{
    struct growing sql;
    char limit[32] = "";
    char more[32] = "";
    write_sql(question, "", &sql);
    char *text = rows_text(sql.text);
    char *expected = rows_of(text);
    free(text);
    size_t count = (size_t)count_of(expected, "\"window_start\"");
    *most_rows = count > *most_rows ? count : *most_rows;
    char *got = ask(question, "", count > ROW_LIMIT ? 400 : 200, NULL);
    if (got != NULL)
        assert_same(question, "whole", expected, got);
    free(got);
    size_t size = 1 + count / (1 + random_below(12));
    got = ask_pages(question, size < ROW_LIMIT ? size : ROW_LIMIT);
    assert_same(question, "pages", expected, got);
    free(got);
    if (number % 8 == 0) {
        got = ask_command(question);
        assert_same(question, "dovetail query", expected, got);
        free(got);
    }
    if (question->is_plain) {
        write_view_sql(question, &sql);
        text = rows_text(sql.text);
        got = rows_of(text);
        assert_same(question, "dovetail.by_route", got, expected);
        free(got);
        free(text);
    }
    free(expected);
    uint32_t rows = 1 + random_below(20);
    snprintf(limit, sizeof limit, " LIMIT %u", rows);
    snprintf(more, sizeof more, "limit=%u", rows);
    write_sql(question, limit, &sql);
    text = rows_text(sql.text);
    expected = rows_of(text);
    got = ask(question, more, 200, NULL);
    assert_same(question, "limit", expected, got);
    free(got);
    free(expected);
    free(text);
}

static void test_random_questions(void **state)
{
    (void)state;
    size_t most_rows = 0;
    for (int i = 0; i < QUESTIONS; i++) {
        static struct question question;
        choose_question(&question);
        check_question(&question, i, &most_rows);
        forget_question(&question);
    }
    assert_true(most_rows > ROW_LIMIT); /* else the bound was never met */
}

/* --- single behaviours --- */

/* Measures that are no numbers, compared and paged. */
static void test_having_of_every_type(void **state)
{
    (void)state;
#define KINDS_SQL                                                                                  \
    "SELECT " WINDOW_SQL ", late, trips, first, " TIME_SQL(                                        \
        "booked") " AS booked, all_late, provisional FROM dovetail.kinds t WHERE "
#define KINDS_TARGET "/v1/views/kinds/rows?measures=trips,first,booked,all_late&having="
#define KINDS_ORDER " ORDER BY t.window_start, late"
    assert_rows(KINDS_TARGET "first=SFO", KINDS_SQL "first = 'SFO'" KINDS_ORDER, 0);
    assert_rows(KINDS_TARGET "first%3E%3D%2750%25%20%2B%201%27,trips%3E1",
                KINDS_SQL "first >= '50% + 1' AND trips > 1" KINDS_ORDER, 5);
    assert_rows(KINDS_TARGET "all_late=true", KINDS_SQL "all_late" KINDS_ORDER, 3);
    assert_rows(KINDS_TARGET "all_late%20is%20null", KINDS_SQL "all_late IS NULL" KINDS_ORDER, 3);
    assert_rows(KINDS_TARGET "booked%3E2001-01-01", KINDS_SQL "booked > '2001-01-01Z'" KINDS_ORDER,
                1);
    assert_rows(KINDS_TARGET "spread%3E=1.5,delays%20is%20not%20null",
                KINDS_SQL "spread >= 1.5" KINDS_ORDER, 3);
    assert_problem("/v1/views/kinds/rows?having=delays%3E1", 400, "having", "is a list");
    assert_problem("/v1/views/kinds/rows?having=trips%3Emany", 400, "having", "is a number");
    assert_problem("/v1/views/kinds/rows?having=trips%3E1e3", 400, "having", "is a number");
    assert_problem("/v1/views/kinds/rows?having=all_late=2", 400, "having", "all_late");
    assert_problem("/v1/views/kinds/rows?having=trip%3E1", 400, "having", "no measure \"trip\"");
    assert_problem("/v1/views/kinds/rows?having=trips", 400, "having", "flights>10");
    assert_problem("/v1/views/kinds/rows?having=", 400, "having", "flights>10");
    assert_problem("/v1/views/kinds/rows?having=trips%3E1,", 400, "having", "flights>10");
    assert_problem("/v1/views/kinds/rows?having=first='a", 400, "having", "flights>10");
    assert_problem("/v1/views/kinds/rows?having=trips%3E1;drop", 400, "having", "is a number");
}

/* Pages joined are the whole, whatever the view's windows and the measure that orders. */
static void assert_pages(const char *view, const char *order)
{
    struct growing target = {0};
    struct http_reply reply;
    json_t *joined = json_array();
    char cursor[6200] = "";
    add(&target, "/v1/views/%s/rows%s%s", view, order[0] != '\0' ? "?order=" : "", order);
    json_t *whole = get_json(target.text);
    do {
        struct growing page = {0};
        add(&page, "/v1/views/%s/rows?limit=3%s%s%s%s", view, order[0] != '\0' ? "&order=" : "",
            order, cursor[0] != '\0' ? "&cursor=" : "", cursor);
        http_get(session, page.text, &reply);
        if (reply.status != 200)
            fail_msg("%s: %d %s", page.text, reply.status, reply.body);
        json_t *json = json_loads(reply.body, 0, NULL);
        json_array_extend(joined, json_object_get(json, "rows"));
        const char *next =
            json_string_value(json_object_get(json_object_get(json, "page"), "next"));
        snprintf(cursor, sizeof cursor, "%s", next != NULL ? next : "");
        json_decref(json);
        http_reply_free(&reply);
        assert_true(json_array_size(joined) <= 2 * ROW_LIMIT);
    } while (cursor[0] != '\0');
    if (!json_equal(joined, json_object_get(whole, "rows")))
        fail_msg("%s by %s: the pages are not the whole", view, order);
    assert_true(json_array_size(joined) > 6);
    json_decref(joined);
    json_decref(whole);
}

static void test_pages_of_every_kind(void **state)
{
    (void)state;
    static const char *const kinds[] = {"",         "trips",      "-first",  "booked,-trips",
                                        "all_late", "delays",     "-delays", "-spread,late",
                                        "-late",    "-window_end"};
    static const char *const others[] = {"", "-trips", "total,-window_end", "-window_start"};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        assert_pages("kinds", kinds[i]);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_pages("hops", others[i]);
        assert_pages("visits", others[i]);
    }
    assert_pages("forever", "");
    assert_pages("forever", "-trips");
    assert_pages("forever", "-late,origin");
}

static void test_cursors_are_checked(void **state)
{
    (void)state;
    char target[7000];
    json_t *json = get_json("/v1/views/by_route/rows?limit=2");
    char *cursor = strdup(text_at(json_object_get(json, "page"), "next"));
    json_decref(json);
    snprintf(target, sizeof target, "/v1/views/by_route/rows?limit=2&order=-trips&cursor=%s",
             cursor);
    assert_problem(target, 400, "cursor", "another question");
    snprintf(target, sizeof target, "/v1/views/by_route/rows?to=2001-01-09&cursor=%s", cursor);
    assert_problem(target, 400, "cursor", "another question");
    snprintf(target, sizeof target, "/v1/views/kinds/rows?limit=2&cursor=%s", cursor);
    assert_problem(target, 400, "cursor", "another version");
    snprintf(target, sizeof target, "/v1/views/by_route/rows?limit=5&measures=trips&cursor=%s",
             cursor);
    json_decref(get_json(target)); /* these may differ */
    assert_problem("/v1/views/by_route/rows?cursor=", 400, "cursor", "none that an answer");
    assert_problem("/v1/views/by_route/rows?cursor=%2A%2A", 400, "cursor", "none that an answer");
    assert_problem("/v1/views/by_route/rows?cursor=W10", 400, "cursor", "none that an answer");
    for (size_t i = 0; i < strlen(cursor); i++) {
        char kept = cursor[i];
        struct http_reply reply;
        cursor[i] = (char)("Ab9-"[i % 4]);
        snprintf(target, sizeof target, "/v1/views/by_route/rows?limit=2&cursor=%s", cursor);
        http_get(session, target, &reply);
        if (reply.status != 200 && reply.status != 400)
            fail_msg("%s: %d %s", target, reply.status, reply.body);
        http_reply_free(&reply);
        cursor[i] = kept;
    }
    free(cursor);
}

static void test_bad_filters(void **state)
{
    (void)state;
    assert_problem("/v1/views/by_route/rows?origin.like=a", 400, "origin.like", "KEY.prefix");
    assert_problem("/v1/views/by_route/rows?origin.is=maybe", 400, "origin.is", "not_null");
    assert_problem("/v1/views/by_route/rows?origin.in=a,%22b", 400, "origin.in", "commas");
    assert_problem("/v1/views/by_route/rows?origin.in=a%22b", 400, "origin.in", "commas");
    assert_problem("/v1/views/typed/rows?delay.in=1,x", 400, "delay.in", "integer");
    assert_problem("/v1/views/typed/rows?delay.in=", 400, "delay.in", "integer");
    assert_problem("/v1/views/typed/rows?delay.prefix=1", 400, "delay.prefix", "no string");
    assert_problem("/v1/views/by_route/rows?nowhere.in=a", 400, "nowhere.in", "unknown");
    assert_problem("/v1/views/by_route/rows?origin=a&origin.in=b", 400, "origin", "twice");
    assert_problem("/v1/views/by_route/rows?explain=yes", 400, "explain", "1 or 0");
    assert_problem("/v1/views/by_route/rows?order=trips,", 400, "order", "name is missing");
    assert_rows("/v1/views/typed/rows?delay.in=1,2,3&limit=300&group_by=delay",
                "SELECT " WINDOW_SQL ", delay, trips, window_end > '2001-01-02 12:00Z'"
                " AS provisional FROM (SELECT w AS window_start, w + interval '1 day' AS"
                " window_end, delay, count(*) AS trips FROM (SELECT"
                " date_bin('1 day', time, '1970-01-01Z') AS w, delay FROM raw"
                " WHERE delay IN (1, 2, 3)) r GROUP BY w, delay) q ORDER BY q.window_start, delay",
                3);
    /* "key.is" is the key "is" where there is one. */
    assert_rows("/v1/views/odd_names/rows?key.limit.in=SFO,LAX&key.is=true&key.key.prefix=J"
                "&granularity=all&group_by=limit",
                "SELECT NULL AS window_start, NULL AS window_end, destination AS limit,"
                " count(*) AS trips, true AS provisional FROM raw WHERE destination IN"
                " ('SFO', 'LAX') AND late AND origin ^@ 'J' GROUP BY destination"
                " ORDER BY destination",
                1);
    assert_problem("/v1/views/odd_names/rows?key.limit.prefix=S&key.key.is=x", 400, "key.key.is",
                   "not_null");
    /* A refusal names what was asked, not the parameter that is named like the key. */
    assert_problem("/v1/views/named/rows?key.from=x", 400, "key.from", "not an integer");
    assert_problem("/v1/views/named/rows?from=2001-01-01&key.from.in=1,x", 400, "key.from.in",
                   "not an integer");
    assert_problem("/v1/views/named/rows?key.from.prefix=1", 400, "key.from.prefix", "no string");
    assert_problem("/v1/views/named/rows?key.from=1&from=x", 400, "from", "a date such as");
}

/* The layers' parts of a count add up to it, and those of a least value contain it. */
static void test_explain(void **state)
{
    (void)state;
    size_t index;
    json_t *row;
    int both = 0;
    json_t *json = get_json("/v1/views/by_route/rows?granularity=all&explain=1&order=-trips");
    json_t *explain = json_object_get(json, "explain");
    json_t *shares = json_object_get(explain, "shares");
    json_t *read = json_object_get(explain, "rows_read");
    assert_true(json_integer_value(json_object_get(read, "batch")) > 0);
    assert_true(json_integer_value(json_object_get(read, "speed")) > 0);
    json_array_foreach (json_object_get(json, "rows"), index, row) {
        json_t *share = json_array_get(shares, index);
        json_int_t sum = 0;
        bool found = false;
        const char *const layers[] = {"batch", "speed"};
        for (int i = 0; i < 2; i++) {
            json_t *part = json_object_get(share, layers[i]);
            assert_non_null(part);
            sum += json_integer_value(json_object_get(part, "trips"));
            found =
                found || json_equal(json_object_get(part, "best"), json_object_get(row, "best"));
        }
        both += json_is_object(json_object_get(share, "batch")) &&
                json_is_object(json_object_get(share, "speed"));
        assert_int_equal(sum, json_integer_value(json_object_get(row, "trips")));
        assert_true(found);
    }
    assert_true(both > 5);
    json_decref(json);
    json = get_json("/v1/views/visits/rows?explain=1");
    explain = json_object_get(json, "explain");
    assert_true(json_is_null(json_object_get(explain, "shares")));
    json_decref(json);
    /* Kept groups only, and the shares of them: the order is one of keys. */
    json = get_json("/v1/views/by_route/rows?explain=1&limit=2&measures=trips");
    assert_int_equal(json_array_size(json_object_get(json_object_get(json, "explain"), "shares")),
                     2);
    json_decref(json);
}

/* --- representations --- */

/* A request with headers of its own ("Accept: text/csv\r\n"). */
static struct reply get_with(const char *target, const char *headers)
{
    char text[8000];
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n",
             target, headers);
    return receive(send_text(text));
}

static void assert_media(const char *accept, int status, const char *type)
{
    char headers[256];
    char line[128];
    snprintf(headers, sizeof headers, "Accept: %s\r\n", accept);
    struct reply reply = get_with("/v1/views/kinds/rows?limit=2", headers);
    snprintf(line, sizeof line, "Content-Type: %s", type);
    if (reply.status != status || !has_header(&reply, line))
        fail_msg("Accept: %s gives %s", accept, reply.text);
    assert_true(status != 200 ||
                has_header(&reply, "Vary: Accept, Accept-Encoding, Authorization\r\n"));
    free(reply.text);
}

static void test_accept(void **state)
{
    (void)state;
    static const char json[] = "application/json\r\n";
    static const char lines[] = "application/x-ndjson\r\n";
    static const char csv[] = "text/csv; charset=utf-8; header=present\r\n";
    static const char problem[] = "application/problem+json\r\n";
    assert_media("", 200, json);
    assert_media("*/*", 200, json);
    assert_media("application/*", 200, json);
    assert_media("text/*", 200, csv);
    assert_media("text/csv", 200, csv);
    assert_media("TEXT/CSV; header=present", 200, csv);
    assert_media("application/x-ndjson, application/json", 200, json);
    assert_media("application/x-ndjson, application/json;q=0.9", 200, lines);
    assert_media("application/json;q=0, */*", 200, lines);
    assert_media("text/html, application/xhtml+xml, */*;q=0.8", 200, json);
    assert_media("*/*;q=0.1, text/csv;q=0.2", 200, csv);
    assert_media("text/html", 406, problem);
    assert_media("application/json;q=0", 406, problem);
    assert_media("application/json;q=2", 406, problem); /* no weight at all */
    assert_media("applicatio", 406, problem);
}

/* What PostgreSQL's COPY writes. */
static char *copy_csv(const char *sql)
{
    PGconn *connection = postgres_handle(postgres);
    struct growing copy = {0};
    char *text = strdup("");
    char *line;
    int length;
    add(&copy, "COPY (%s) TO STDOUT (FORMAT csv, HEADER)", sql);
    PGresult *result = database_ask(connection, copy.text);
    assert_int_equal(PQresultStatus(result), PGRES_COPY_OUT);
    PQclear(result);
    while ((length = PQgetCopyData(connection, &line, 0)) > 0) {
        char *longer = NULL;
        assert_true(asprintf(&longer, "%s%.*s", text, length, line) >= 0);
        free(text);
        PQfreemem(line);
        text = longer;
    }
    while ((result = PQgetResult(connection)) != NULL)
        PQclear(result);
    return text;
}

static void test_csv(void **state)
{
    (void)state;
    static const char target[] = "/v1/views/by_route/rows?measures=trips,fares&limit=200";
    struct reply reply = get_with(target, "Accept: text/csv\r\n");
    assert_int_equal(reply.status, 200);
    char *expected =
        copy_csv("SELECT " WINDOW_SQL ", origin, destination, trips, fares, provisional::text"
                 " FROM dovetail.by_route t " ROUTE_ORDER " LIMIT 200");
    char *out = reply.body; /* RFC 4180 ends lines with CR LF, COPY with LF */
    for (const char *in = reply.body; *in != '\0'; in++)
        if (in[0] != '\r' || in[1] != '\n')
            *out++ = *in;
    *out = '\0';
    assert_string_equal(reply.body, expected);
    /* The receipt and the page are in headers. */
    json_t *json = get_json(target);
    const char *names[] = {"Dovetail-Page", "Dovetail-Receipt"};
    const char *members[] = {"page", "receipt"};
    for (int i = 0; i < 2; i++) {
        char *begin = strcasestr(reply.text, names[i]);
        assert_true(begin != NULL && begin < reply.body);
        begin += strlen(names[i]) + 2;
        *strchr(begin, '\r') = ' ';
        json_t *header = json_loads(begin, JSON_DISABLE_EOF_CHECK, NULL);
        json_t *member = json_object_get(json, members[i]);
        json_object_set_new(header, "freshness_ms", json_null()); /* of the moment */
        json_object_set_new(member, "freshness_ms", json_null());
        assert_true(json_equal(header, member));
        json_decref(header);
    }
    json_decref(json);
    free(expected);
    free(reply.text);
    reply = get_with("/v1/views/by_route/rows?explain=1&limit=1", "Accept: text/csv\r\n");
    assert_int_equal(reply.status, 400);
    free(reply.text);
}

static void test_ndjson(void **state)
{
    (void)state;
    static const char target[] = "/v1/views/by_route/rows?limit=20&explain=1";
    struct reply reply = get_with(target, "Accept: application/x-ndjson\r\n");
    json_t *whole = get_json(target);
    json_t *rows = json_object_get(whole, "rows");
    assert_int_equal(reply.status, 200);
    size_t index = 0;
    char *next = reply.body;
    for (char *line; (line = strsep(&next, "\n")) != NULL && next != NULL;) {
        json_t *json = json_loads(line, 0, NULL);
        assert_non_null(json);
        if (index < json_array_size(rows)) {
            assert_true(json_equal(json, json_array_get(rows, index)));
        } else {
            assert_non_null(json_object_get(json, "receipt"));
            assert_true(json_equal(json_object_get(json, "page"), json_object_get(whole, "page")));
            assert_non_null(json_object_get(json, "explain"));
        }
        index++;
        json_decref(json);
    }
    assert_int_equal(index, json_array_size(rows) + 1);
    json_decref(whole);
    free(reply.text);
}

/* The body of a reply, whose length its header tells. */
static char *gunzip(const struct reply *reply)
{
    static char out[4 << 20];
    const char *length = strcasestr(reply->text, "Content-Length: ");
    assert_non_null(length);
    z_stream stream = {.next_in = (unsigned char *)reply->body,
                       .avail_in = (unsigned int)atoi(length + strlen("Content-Length: ")),
                       .next_out = (unsigned char *)out,
                       .avail_out = sizeof out - 1};
    assert_int_equal(inflateInit2(&stream, 15 + 16), Z_OK);
    assert_int_equal(inflate(&stream, Z_FINISH), Z_STREAM_END);
    out[stream.total_out] = '\0';
    inflateEnd(&stream);
    return out;
}

static void test_gzip(void **state)
{
    (void)state;
    static const char target[] = "/v1/views/by_route/rows?limit=200";
    struct reply plain = get(target);
    assert_false(has_header(&plain, "Content-Encoding"));
    static const char *const taken[] = {"gzip", "br, GZIP;q=0.5", "*",
                                        "deflate, gzip;q=1.0, *;q=0"};
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
        char headers[128];
        snprintf(headers, sizeof headers, "Accept-Encoding: %s\r\n", taken[i]);
        struct reply reply = get_with(target, headers);
        assert_int_equal(reply.status, 200);
        assert_true(has_header(&reply, "Content-Encoding: gzip\r\n"));
        char *expected = rows_of(plain.body);
        char *got = rows_of(gunzip(&reply));
        assert_string_equal(got, expected);
        free(got);
        free(expected);
        free(reply.text);
    }
    static const char *const refused[] = {"identity", "gzip;q=0", "*;q=0", "br", "gzip;q=0, *"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        char headers[128];
        snprintf(headers, sizeof headers, "Accept-Encoding: %s\r\n", refused[i]);
        struct reply reply = get_with(target, headers);
        assert_false(has_header(&reply, "Content-Encoding"));
        free(reply.text);
    }
    /* What is short is not worth it; a problem neither. */
    struct reply reply =
        get_with("/v1/views/by_route/rows?limit=1&measures=trips", "Accept-Encoding: gzip\r\n");
    assert_false(has_header(&reply, "Content-Encoding"));
    free(reply.text);
    reply = get_with("/v1/status", "Accept-Encoding: gzip\r\n");
    assert_true(has_header(&reply, "Content-Encoding: gzip\r\n"));
    assert_true(has_header(&reply, "Vary: Accept-Encoding\r\n"));
    assert_true(has_header(&reply, "Cache-Control: no-store\r\n"));
    free(reply.text);
    free(plain.text);
}

static void read_etag(const struct reply *reply, char etag[80])
{
    const char *begin = strcasestr(reply->text, "ETag: ");
    assert_true(begin != NULL && begin < reply->body);
    assert_int_equal(sscanf(begin, "%*[^ ] %70[^\r]", etag), 1);
}

static int status_with_etag(const char *target, const char *etag, const char *more)
{
    char headers[300];
    snprintf(headers, sizeof headers, "If-None-Match: %s\r\n%s", etag, more);
    struct reply reply = get_with(target, headers);
    int status = reply.status;
    if (status == 304) {
        assert_string_equal(reply.body, "");
        assert_true(has_header(&reply, "Dovetail-Receipt: {\"run\":"));
        assert_true(has_header(&reply, "ETag: W/\""));
    } else {
        assert_int_equal(status, 200);
    }
    free(reply.text);
    return status;
}

static void test_etag(void **state)
{
    (void)state;
    static const char target[] = "/v1/views/by_route/rows?limit=200";
    char etag[80];
    char many[200];
    struct reply reply = get(target);
    read_etag(&reply, etag);
    /* A browser must not revalidate by itself: it would show the freshness of long ago. */
    assert_true(has_header(&reply, "Cache-Control: no-store\r\n"));
    free(reply.text);
    assert_int_equal(strncmp(etag, "W/\"", 3), 0);
    assert_int_equal(status_with_etag(target, etag, ""), 304);
    assert_int_equal(status_with_etag(target, etag + 2, ""), 304);
    snprintf(many, sizeof many, "\"a\", W/\"b\", %s", etag);
    assert_int_equal(status_with_etag(target, many, ""), 304);
    assert_int_equal(status_with_etag(target, "*", ""), 304);
    assert_int_equal(status_with_etag(target, "\"other\"", ""), 200);
    assert_int_equal(status_with_etag(target, "nonsense", ""), 200);
    /* Another question, layout or state is another answer. */
    assert_int_equal(status_with_etag("/v1/views/by_route/rows?limit=199", etag, ""), 200);
    assert_int_equal(status_with_etag("/v1/views/kinds/rows?limit=200", etag, ""), 200);
    assert_int_equal(status_with_etag(target, etag, "Accept: text/csv\r\n"), 200);
#define POSITION "UPDATE dovetail_internal.position SET "
#define CUTOFF "UPDATE dovetail_internal.run_cutoff SET "
    static const char *const moves[][2] = {
        {POSITION "next_offset = next_offset + 1 WHERE partition = 0",
         POSITION "next_offset = next_offset - 1 WHERE partition = 0"},
        {CUTOFF "next_offset = next_offset + 1 WHERE partition = 1",
         CUTOFF "next_offset = next_offset - 1 WHERE partition = 1"},
        {POSITION "watermark = watermark + interval '1 s' WHERE partition = 1",
         POSITION "watermark = watermark - interval '1 s' WHERE partition = 1"},
    };
    for (size_t i = 0; i < sizeof moves / sizeof moves[0]; i++) {
        execute(moves[i][0]);
        assert_int_equal(status_with_etag(target, etag, ""), 200);
        execute(moves[i][1]);
        assert_int_equal(status_with_etag(target, etag, ""), 304);
    }
    /* Freshness is of the moment and no part of it. */
    execute("UPDATE dovetail_internal.position SET as_of = as_of + interval '1 s'");
    assert_int_equal(status_with_etag(target, etag, ""), 304);
    /* Times of explain are of one request: such an answer has no tag. */
    reply = get("/v1/views/by_route/rows?limit=2&explain=1");
    assert_false(has_header(&reply, "ETag"));
    assert_true(has_header(&reply, "Cache-Control: no-store\r\n"));
    free(reply.text);
    assert_int_equal(status_with_etag("/v1/views/by_route/rows?limit=2&explain=1", "*", ""), 200);
}

/* --- the description --- */

/* A response for openapi_verdicts.py. */
static void record(FILE *out, const char *route, const struct reply *reply)
{
    char type[128] = "";
    const char *begin = strcasestr(reply->text, "Content-Type: ");
    assert_non_null(begin);
    assert_int_equal(sscanf(begin, "%*[^ ] %100[^\r]", type), 1);
    json_t *json = json_pack("{s:s, s:i, s:s, s:s}", "route", route, "status", reply->status,
                             "type", type, "body", reply->body);
    char *line = json_dumps(json, JSON_COMPACT);
    assert_non_null(line);
    fprintf(out, "%s\n", line);
    free(line);
    json_decref(json);
}

/* What the script prints; malloc'd. */
static char *verdicts(const char *path)
{
    char command[300];
    char text[8192] = "";
    snprintf(command, sizeof command, "python3 tests/openapi/verdicts.py < %s", path);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t length = fread(text, 1, sizeof text - 1, pipe);
    text[length] = '\0';
    if (pclose(pipe) != 0)
        fail_msg(
            "the description could not be asked: Debian's package python3-jsonschema is needed");
    return strdup(text);
}

#define ROWS_ROUTE "/v1/views/{view}/rows"
#define LIVE_ROUTE "/v1/views/{view}/live"

static void test_responses_are_as_described(void **state)
{
    (void)state;
    static const struct {
        const char *route, *target, *headers;
        int status;
    } requests[] = {
        {"/v1/views", "/v1/views", "", 200},
        {"/v1/views", "/v1/views?a=b", "", 400},
        {"/v1/views/{view}", "/v1/views/by_route", "", 200},
        {"/v1/views/{view}", "/v1/views/nothing", "", 404},
        {"/v1/status", "/v1/status", "", 200},
        {"/openapi.json", "/openapi.json", "", 200},
        {"/livez", "/livez", "", 200},
        {"/readyz", "/readyz", "", 200},
        {"/metrics", "/metrics", "", 200},
        {LIVE_ROUTE, "/v1/views/nothing/live", "", 404},
        {LIVE_ROUTE, "/v1/views/kinds/live?explain=1", "", 400},
        {LIVE_ROUTE, "/v1/views/kinds/live", "Accept: text/html\r\n", 406},
        {ROWS_ROUTE, "/v1/views/nothing/rows", "", 404},
        {ROWS_ROUTE, "/v1/views/many/rows", "", 400},
        {ROWS_ROUTE, "/v1/views/kinds/rows", "Accept: text/html\r\n", 406},
        {ROWS_ROUTE, "/v1/views/kinds/rows", "Accept: text/csv\r\n", 200},
        {ROWS_ROUTE, "/v1/views/kinds/rows", "Accept: application/x-ndjson\r\n", 200},
        {ROWS_ROUTE, "/v1/views/kinds/rows?explain=1&limit=3", "", 200},
        {ROWS_ROUTE, "/v1/views/visits/rows?explain=1", "", 200},
        {ROWS_ROUTE, "/v1/views/hops/rows", "", 200},
        {ROWS_ROUTE, "/v1/views/forever/rows?explain=1", "", 200},
        {ROWS_ROUTE, "/v1/views/typed/rows?limit=100", "", 200},
        {ROWS_ROUTE, "/v1/views/odd_names/rows?layer=batch", "", 200},
        {ROWS_ROUTE, "/v1/views/kinds/rows?wait_ms=1&at_least=%7B%22trips%22:%5B9999%5D%7D", "",
         504},
    };
    char path[128];
    snprintf(path, sizeof path, "%s/responses", directory);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        struct reply reply = get_with(requests[i].target, requests[i].headers);
        if (reply.status != requests[i].status)
            fail_msg("%s: %s", requests[i].target, reply.text);
        record(out, requests[i].route, &reply);
        free(reply.text);
    }
    for (int i = 0; i < 60; i++) {
        static struct question question;
        struct growing target = {0};
        choose_question(&question);
        add(&target, "/v1/views/by_route/rows%s%climit=%u&explain=%d", question.target.text,
            question.target.text[0] == '\0' ? '?' : '&', 1 + random_below(300), i % 2);
        struct reply reply = get(target.text);
        record(out, ROWS_ROUTE, &reply);
        free(reply.text);
        forget_question(&question);
    }
    fclose(out);
    char *faults = verdicts(path);
    if (faults[0] != '\0')
        fail_msg("not as described:\n%s", faults);
    free(faults);
    /* And the judge does judge. */
    struct reply reply = get("/v1/views/kinds/rows?limit=1");
    memcpy(strstr(reply.body, "\"watermark\""), "\"watermork\"", strlen("\"watermark\""));
    out = fopen(path, "w");
    assert_non_null(out);
    record(out, ROWS_ROUTE, &reply);
    reply.status = 418;
    record(out, ROWS_ROUTE, &reply);
    fclose(out);
    faults = verdicts(path);
    assert_non_null(strstr(faults, "1: 'watermark' is a required property"));
    assert_non_null(strstr(faults, "2: status 418 is not described"));
    free(faults);
    free(reply.text);
    unlink(path);
}

/* --- memory --- */

static long peak_kilobytes(void)
{
    char path[64];
    char line[256];
    long peak = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)server_pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "VmHWM:", 6) == 0)
            peak = atol(line + 6);
    fclose(file);
    assert_true(peak > 0);
    return peak;
}

struct heavy {
    const char *target;
    int status;
    char body[300];
};

static void *ask_heavy(void *context)
{
    struct heavy *heavy = context;
    struct http_reply reply;
    struct http_session *own = http_session_create(port);
    http_get(own, heavy->target, &reply);
    heavy->status = reply.status;
    snprintf(heavy->body, sizeof heavy->body, "%s", reply.body != NULL ? reply.body : "");
    http_reply_free(&reply);
    http_session_destroy(own);
    return NULL;
}

/* AddressSanitizer holds 256 MB back before it reuses anything. */
#ifdef __SANITIZE_ADDRESS__
enum { GROWTH_MAX_KB = (16 + 256) * 1024 };
#else
enum { GROWTH_MAX_KB = 16 * 1024 };
#endif

/* Eight at once, of 300,000 groups each, which took some 45 MB apiece: memory stays where it was,
 * whether they are refused or have a limit. */
static void assert_bounded(const char *target, int status, const char *part)
{
    struct heavy heavy[8];
    pthread_t threads[8];
    long before = peak_kilobytes();
    for (int i = 0; i < 8; i++) {
        heavy[i] = (struct heavy){.target = target};
        assert_int_equal(pthread_create(&threads[i], NULL, ask_heavy, &heavy[i]), 0);
    }
    for (int i = 0; i < 8; i++)
        stack_join(threads[i], "a question");
    for (int i = 0; i < 8; i++)
        if (heavy[i].status != status || strstr(heavy[i].body, part) == NULL)
            fail_msg("%s: %d %s", target, heavy[i].status, heavy[i].body);
    long grown = peak_kilobytes() - before;
    if (grown > GROWTH_MAX_KB)
        fail_msg("%s: memory grew by %ld kB", target, grown);
}

/* Eight at once, of which 48 MiB have room for one: the others come again. */
static void assert_shared(const char *target)
{
    struct heavy heavy[8];
    pthread_t threads[8];
    int answered = 0;
    long before = peak_kilobytes();
    for (int i = 0; i < 8; i++) {
        heavy[i] = (struct heavy){.target = target};
        assert_int_equal(pthread_create(&threads[i], NULL, ask_heavy, &heavy[i]), 0);
    }
    for (int i = 0; i < 8; i++)
        stack_join(threads[i], "a question");
    for (int i = 0; i < 8; i++) {
        bool shared = heavy[i].status == 503 && strstr(heavy[i].body, "other queries use") != NULL;
        answered += heavy[i].status == 200;
        if (heavy[i].status != 200 && !shared)
            fail_msg("%s: %d %s", target, heavy[i].status, heavy[i].body);
    }
    printf("%d of 8 answered at once\n", answered);
    long grown = peak_kilobytes() - before;
    if (grown > 48 * 1024)
        fail_msg("%s: memory grew by %ld kB", target, grown);
}

static void test_memory_is_bounded(void **state)
{
    (void)state;
    assert_bounded("/v1/views/many/rows", 400, "more than 300 rows");
    assert_bounded("/v1/views/many/rows?limit=1000", 400, "more than 300 rows");
    assert_bounded("/v1/views/many/rows?order=-trips", 400, "more than 300 rows");
    assert_bounded("/v1/views/many/rows?from=2002-01-01&limit=2", 200, "\"delay\":1,");
    assert_bounded("/v1/views/many/rows?from=2002-01-01&order=-delay&limit=2", 200,
                   "\"delay\":300000,");
    assert_bounded("/v1/views/many/rows?granularity=all&order=delay&limit=2&from=2002-01-01", 200,
                   "\"delay\":2,");
    /* An order by a measure needs all groups: one at a time has room, eight share it. */
    json_decref(get_json("/v1/views/many/rows?from=2002-01-01&order=-trips&limit=2"));
    assert_shared("/v1/views/many/rows?from=2002-01-01&order=-trips&limit=2");
    assert_problem("/v1/views/many/rows?from=2002-01-01&order=-trips&limit=2&explain=1", 400,
                   "limit", "more than 48 MiB");
    for (int i = 0; i < 3; i++) /* all of it was given back */
        json_decref(get_json("/v1/views/many/rows?from=2002-01-01&order=-trips&limit=2"));
    /* What is held is counted, too. */
    json_t *json = get_json("/v1/views/many/rows?from=2002-01-01&order=-delay&limit=2&explain=1");
    json_t *explain = json_object_get(json, "explain");
    assert_true(json_integer_value(json_object_get(explain, "groups_held")) < 2000);
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(explain, "rows_read"), "batch")), MANY);
    json_decref(json);
    /* In the order of the index PostgreSQL ends early as well. */
    json = get_json("/v1/views/many/rows?from=2002-01-01&limit=2&explain=1");
    explain = json_object_get(json, "explain");
    assert_true(
        json_integer_value(json_object_get(json_object_get(explain, "rows_read"), "batch")) <= 3);
    json_decref(json);
}

/* --- a state that moves --- */

static void test_moved_between_pages(void **state)
{
    (void)state;
    char target[7000];
    json_t *json = get_json("/v1/views/by_route/rows?limit=2");
    snprintf(target, sizeof target, "/v1/views/by_route/rows?limit=2&cursor=%s",
             text_at(json_object_get(json, "page"), "next"));
    json_decref(json);
    json = get_json(target);
    assert_true(json_is_false(json_object_get(json_object_get(json, "page"), "moved")));
    json_decref(json);
    execute("UPDATE dovetail_internal.position SET next_offset = next_offset + 1"
            " WHERE partition = 1");
    json = get_json(target);
    assert_true(json_is_true(json_object_get(json_object_get(json, "page"), "moved")));
    json_decref(json);
    execute("UPDATE dovetail_internal.position SET next_offset = next_offset - 1"
            " WHERE partition = 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_questions),
        cmocka_unit_test(test_having_of_every_type),
        cmocka_unit_test(test_pages_of_every_kind),
        cmocka_unit_test(test_cursors_are_checked),
        cmocka_unit_test(test_bad_filters),
        cmocka_unit_test(test_explain),
        cmocka_unit_test(test_accept),
        cmocka_unit_test(test_csv),
        cmocka_unit_test(test_ndjson),
        cmocka_unit_test(test_gzip),
        cmocka_unit_test(test_etag),
        cmocka_unit_test(test_responses_are_as_described),
        cmocka_unit_test(test_memory_is_bounded),
        cmocka_unit_test(test_moved_between_pages),
    };
    return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
