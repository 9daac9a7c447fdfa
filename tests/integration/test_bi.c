/* Every statement of docs/BI.md and docs/grafana/dashboard.json runs on the demonstration's views
 * and gives rows. Grafana's macros and variables are put in as Grafana does. Metabase's templates,
 * in indented text, are not SQL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/broker.h"
#include "tests/support/database.h"
#include "tests/support/deployment.h"

static struct deployment *deployment;
static PGconn *connection;
static char role[80];

static char *read_file(const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL || getdelim(&text, &size, '\0', file) <= 0)
        fail_msg("cannot read %s", path);
    fclose(file);
    return text;
}

static void define(const char *path, void (*define_it)(const struct deployment *, const char *))
{
    char *text = read_file(path);
    define_it(deployment, text);
    free(text);
}

static void execute(const char *before, const char *name)
{
    char sql[256];
    snprintf(sql, sizeof sql, "%s%s", before, name);
    PGresult *result = database_ask(connection, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    PQclear(result);
}

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    define("schemas/sources/flights.json", deployment_define_source);
    define("schemas/views/delay_by_origin.json", deployment_define_view);
    define("schemas/views/flights_by_route.json", deployment_define_view);
    define("schemas/views/flights_total.json", deployment_define_view);
    /* One partition: with several the watermark is of the one that got the earliest flights, and
     * whether any window lies below it is chance. */
    broker_create_topic(deployment_topic(deployment, "flights"), 1);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_run(deployment, 0, "dovetail", "produce", "flights",
                   "tests/data/flights-20k.jsonl.zst", NULL);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    connection = deployment_connect(deployment);
    snprintf(role, sizeof role, "bi_%s", deployment->database);
    execute("CREATE ROLE ", role);
    execute("GRANT USAGE ON SCHEMA dovetail TO ", role);
    execute("GRANT SELECT ON ALL TABLES IN SCHEMA dovetail TO ", role);
    execute("SET ROLE ", role);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    execute("RESET ROLE", "");
    execute("DROP OWNED BY ", role);
    execute("DROP ROLE ", role);
    PQfinish(connection);
    deployment_destroy(deployment);
    return 0;
}

static void assert_gives_rows(const char *where, const char *sql)
{
    PGresult *result = database_ask(connection, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s\n%s", where, sql, PQerrorMessage(connection));
    if (PQntuples(result) == 0 || PQgetisnull(result, 0, PQnfields(result) - 1))
        fail_msg("%s: no rows: %s", where, sql);
    PQclear(result);
}

static void test_document(void **state)
{
    (void)state;
    char *text = read_file("docs/BI.md");
    int count = 0;
    for (char *at = text; (at = strstr(at, "```sql\n")) != NULL;) {
        char *begin = at + strlen("```sql\n");
        char *end = strstr(begin, "```");
        assert_non_null(end);
        *end = '\0';
        assert_gives_rows("docs/BI.md", begin);
        at = end + 3;
        count++;
    }
    assert_true(count >= 4);
    free(text);
}

/* `text` with each `from` replaced; frees it. */
static char *replaced(char *text, const char *from, const char *to)
{
    char *found;
    while ((found = strstr(text, from)) != NULL) {
        char *longer = NULL;
        if (asprintf(&longer, "%.*s%s%s", (int)(found - text), text, to, found + strlen(from)) < 0)
            abort();
        free(text);
        text = longer;
    }
    return text;
}

static void run_as_grafana(const char *title, const char *sql)
{
    char *text = strdup(sql);
    text = replaced(text, "$__timeFilter(window_start)",
                    "window_start BETWEEN '2001-01-01T00:00:00Z' AND '2001-02-01T00:00:00Z'");
    text = replaced(text, "$__timeGroup(window_start, '1d')",
                    "floor(extract(epoch from window_start)/86400)*86400");
    text = replaced(text, "$origin", "'ATL','JFK','ORD','LAX'");
    if (strchr(text, '$') != NULL)
        fail_msg("%s: what is this: %s", title, text);
    assert_gives_rows(title, text);
    free(text);
}

static void test_grafana(void **state)
{
    (void)state;
    json_error_t error;
    size_t index, number;
    execute("RESET ROLE", "");
    execute("GRANT USAGE ON SCHEMA dovetail_internal TO ", role);
    execute("GRANT SELECT ON dovetail_internal.progress, dovetail_internal.current_run TO ", role);
    execute("SET ROLE ", role);
    json_t *panel, *target, *variable;
    json_t *json = json_load_file("docs/grafana/dashboard.json", JSON_REJECT_DUPLICATES, &error);
    if (json == NULL)
        fail_msg("%s", error.text);
    json_array_foreach (json_object_get(json, "panels"), index, panel)
        json_array_foreach (json_object_get(panel, "targets"), number, target)
            run_as_grafana(json_string_value(json_object_get(panel, "title")),
                           json_string_value(json_object_get(target, "rawSql")));
    assert_true(index >= 8);
    json_array_foreach (json_object_get(json_object_get(json, "templating"), "list"), index,
                        variable)
        if (strcmp(json_string_value(json_object_get(variable, "type")), "query") == 0)
            run_as_grafana("a variable", json_string_value(json_object_get(variable, "query")));
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_document),
        cmocka_unit_test(test_grafana),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
