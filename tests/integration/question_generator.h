/* Random questions about the trips' routes, each said in three languages: as the parameters of a
 * request, as options of `dovetail query`, and in SQL over the raw events. For test programs that
 * include tests/support/query_fixture.h. */
#ifndef DOVETAIL_TESTS_INTEGRATION_QUESTION_GENERATOR_H
#define DOVETAIL_TESTS_INTEGRATION_QUESTION_GENERATOR_H

#include "tests/support/query_fixture.h"

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

static inline void say(struct question *question, const char *name, const char *option,
                       const char *value)
{
    char *escaped = http_escape(value, strlen(value));
    add(&question->target, "%c%s=%s", question->target.text[0] == '\0' ? '?' : '&', name, escaped);
    free(escaped);
    assert_true(question->argument_count + 2 < ARGUMENT_MAX);
    question->arguments[question->argument_count++] = strdup(option);
    question->arguments[question->argument_count++] = strdup(value);
}

static inline void say_where(struct question *question, const char *name, const char *value)
{
    char *escaped = http_escape(value, strlen(value));
    char text[512];
    add(&question->target, "%c%s=%s", question->target.text[0] == '\0' ? '?' : '&', name, escaped);
    free(escaped);
    snprintf(text, sizeof text, "%s=%s", name, value);
    question->arguments[question->argument_count++] = strdup("--where");
    question->arguments[question->argument_count++] = strdup(text);
}

static inline bool chance(uint32_t percent)
{
    return random_below(100) < percent;
}

static inline char *sql_literal(const char *text)
{
    return PQescapeLiteral(postgres_handle(postgres), text, strlen(text));
}

static inline const char *a_text(const char *key)
{
    static const char *const origins[] = {"",    "JFK", "O'Hare",    "\"quoted\"",  "München",
                                          "a,b", "x",   "new\nline", "back\\slash", "日本"};
    static const char *const destinations[] = {"SFO", "LAX", "50% + 1", "a&b=c#d", ""};
    return key[0] == 'o' ? origins[random_below(10)] : destinations[random_below(5)];
}

static inline void choose_in(struct question *question, const char *key)
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

static inline void choose_filter(struct question *question, const char *key)
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
static inline void choose_range(struct question *question, bool all)
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

static inline void choose_windows(struct question *question)
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
static inline size_t choose_columns(struct question *question, const char *columns[12],
                                    size_t *count)
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

static inline void choose_having(struct question *question)
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

static inline void choose_order(struct question *question, const char *const *columns, size_t count)
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

static inline void choose_question(struct question *question)
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

static inline void forget_question(struct question *question)
{
    for (size_t i = 0; i < question->argument_count; i++)
        free(question->arguments[i]);
}

/* The answer's rows, of what PostgreSQL makes of the raw events. */
static inline void write_sql(const struct question *question, const char *limit,
                             struct growing *out)
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
static inline void write_view_sql(const struct question *question, struct growing *out)
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

#endif
