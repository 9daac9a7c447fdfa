/* The whole query interface, against SQL: random questions with filters, roll-ups, having, order,
 * limit and pages, over HTTP and in `dovetail query`, compared text by text with what PostgreSQL
 * computes from the raw events (a naive model: no states, no layers, no windows of ours), and where
 * nothing is rolled up with the view dovetail.by_route, too. Nothing flows meanwhile. */
#include "tests/integration/question_generator.h"

enum { QUESTIONS = 250 };

/* --- asking --- */

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
        cmocka_unit_test(test_random_questions),    cmocka_unit_test(test_having_of_every_type),
        cmocka_unit_test(test_pages_of_every_kind), cmocka_unit_test(test_cursors_are_checked),
        cmocka_unit_test(test_bad_filters),         cmocka_unit_test(test_explain),
        cmocka_unit_test(test_moved_between_pages),
    };
    return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
