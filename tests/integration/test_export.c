/* dovetail export says what dovetail query says, byte for byte and in its order, and its rows
 * belong to its receipt, whatever arrives and is published meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/deployment.h"
#include "tests/support/stack.h"

enum { PATH_BYTES = 200 };

static struct deployment *deployment;
static struct child *speed;

static const char *const views[] = {
    "{\"view\": \"by_name\", \"source\": \"orders\", \"group_by\": [\"name\", \"item\", \"paid\"],"
    " \"measures\": {\"c\": \"count(*)\", \"s\": \"sum(price)\", \"mean\": \"avg(price)\","
    " \"first\": \"min(name)\", \"seen\": \"max(at)\", \"some\": \"sum(item) FILTER (WHERE paid)\","
    " \"names\": \"approx_count_distinct(name)\", \"prices\": \"histogram(price, [0, 10])\"},"
    " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}}",
    "{\"view\": \"visits\", \"source\": \"orders\", \"group_by\": [\"name\"],"
    " \"measures\": {\"c\": \"count(*)\"}, \"window\": {\"type\": \"session\", \"gap\": \"5m\"}}",
    "{\"view\": \"ever\", \"source\": \"orders\", \"group_by\": [\"price\", \"at\"],"
    " \"measures\": {\"c\": \"count(*)\"}, \"window\": {\"type\": \"none\"}}",
    "{\"view\": \"all\", \"source\": \"orders\", \"measures\": {\"c\": \"count(*)\"},"
    " \"window\": {\"type\": \"tumbling\", \"size\": \"1m\"}}",
};

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    deployment_define_source(
        deployment,
        "{\"source\": \"orders\", \"partitions\": 1, \"event_time\": {\"field\": \"at\"},"
        " \"fields\": {\"at\": \"timestamp\", \"name\": {\"type\": \"string\", \"nullable\": true},"
        " \"item\": {\"type\": \"integer\", \"nullable\": true},"
        " \"price\": {\"type\": \"decimal\", \"nullable\": true},"
        " \"paid\": {\"type\": \"boolean\", \"nullable\": true}}}");
    for (size_t i = 0; i < sizeof views / sizeof views[0]; i++)
        deployment_define_view(deployment, views[i]);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    deployment_destroy(deployment);
    deployment = NULL;
    return 0;
}

static char *path_of(const char *name, char *out)
{
    snprintf(out, PATH_BYTES, "%s/%s", deployment->directory, name);
    return out;
}

static void await_position(int64_t wanted)
{
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    while (deployment_number(deployment, "SELECT next_offset FROM dovetail_internal.position") <
           wanted) {
        assert_true(stack_now_ms() < end_ms);
        children_must_run(&speed, 1);
        stack_sleep_ms(20);
    }
}

/* Strings that need quotes, are empty or NULL; numbers of every length; times with fractions. */
static void produce(int count)
{
    static int64_t produced;
    static const char *const names[] = {"\"plain\"",
                                        "\"\"",
                                        "null",
                                        "\"a,b\"",
                                        "\"say \\\"x\\\"\"",
                                        "\"two\\nlines\"",
                                        "\"\\\\ \\u0001\"",
                                        "\"N\\u00fcrnberg\"",
                                        "\"{}\""};
    static const char *const prices[] = {"0.10", "-3",       "null", "1234567890123456789.5",
                                         "1e3",  "0.000001", "9"};
    char path[PATH_BYTES];
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    if (deployment_number(deployment, "SELECT next_offset FROM dovetail_internal.position") <= 0)
        produced = 0;
    for (int i = 0; i < count; i++, produced++)
        fprintf(out,
                "{\"at\": \"2026-01-%02dT%02d:%02d:%02d.%03dZ\", \"name\": %s, \"item\": %s,"
                " \"price\": %s, \"paid\": %s}\n",
                1 + i % 28, i % 24, i % 60, i % 59, i % 3 == 0 ? 0 : i % 1000, names[i % 9],
                i % 5 == 0   ? "null"
                : i % 3 == 0 ? "10"
                : i % 2 == 0 ? "7"
                             : "-9007199254740993",
                prices[i % 7],
                i % 4 == 0   ? "null"
                : i % 4 == 1 ? "true"
                             : "false");
    /* Sessions that begin at one time, and end in another order than that of their keys. */
    for (int i = 0; i < 3; i++, produced++)
        fprintf(out, "{\"at\": \"2026-02-01T00:0%d:00Z\", \"name\": \"%s\"}\n", i == 1,
                i == 2 ? "b" : "a");
    fclose(out);
    deployment_write(deployment, "events", text);
    free(text);
    deployment_run(deployment, 0, "dovetail", "produce", "orders", path_of("events", path), NULL);
    await_position(produced);
}

/* The lines without those that are no row. */
static char *rows_of(const char *text)
{
    char *result = NULL;
    size_t length;
    FILE *out = open_memstream(&result, &length);
    for (const char *line = text, *end; *line != '\0'; line = end + 1) {
        end = strchr(line, '\n');
        assert_non_null(end);
        if (strncmp(line, "{\"receipt\"", 10) != 0)
            fprintf(out, "%.*s\n", (int)(end - line), line);
    }
    fclose(out);
    return result;
}

static void expect_same(struct child *query, struct child *export)
{
    char *left = rows_of(child_output(query));
    char *right = rows_of(child_output(export));
    assert_true(strlen(left) > 100);
    size_t at = 0;
    while (left[at] != '\0' && left[at] == right[at])
        at++;
    if (left[at] != right[at]) {
        while (at > 0 && left[at - 1] != '\n')
            at--;
        fail_msg("query: %.300s\nexport: %.300s", left + at, right + at);
    }
    free(left);
    free(right);
}

static void compare_view(const char *view)
{
    expect_same(deployment_run(deployment, 0, "dovetail", "query", view, "--format", "csv", NULL),
                deployment_run(deployment, 0, "dovetail", "export", view, "--format", "csv", NULL));
    expect_same(
        deployment_run(deployment, 0, "dovetail", "query", view, "--format", "ndjson", NULL),
        deployment_run(deployment, 0, "dovetail", "export", view, "--format", "json", NULL));
}

static void compare_where(const char *where)
{
    expect_same(deployment_run(deployment, 0, "dovetail", "query", "by_name", "--format", "csv",
                               "--where", where, "--from", "2026-01-05", "--to",
                               "2026-01-22T10:00:00Z", NULL),
                deployment_run(deployment, 0, "dovetail", "export", "by_name", "--where", where,
                               "--from", "2026-01-05", "--to", "2026-01-22T10:00:00Z", NULL));
}

static void test_same_as_query(void **state)
{
    (void)state;
    static const char *const names[] = {"by_name", "visits", "ever", "all"};
    static const char *const wheres[] = {
        "name=plain",
        "name=say \"x\"",
        "name.in=plain,\"a,b\"",
        "name.prefix=a",
        "name.is=null",
        "name.is=not_null",
        "item=7",
        "item.in=7,-9007199254740993",
        "paid=true",
    };
    produce(400);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    produce(300);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        compare_view(names[i]);
    for (size_t i = 0; i < sizeof wheres / sizeof wheres[0]; i++)
        compare_where(wheres[i]);
}

static void test_refusals(void **state)
{
    (void)state;
    char path[PATH_BYTES];
    char part[PATH_BYTES + 10];
    produce(10);
    deployment_run(deployment, 2, "dovetail", "export", NULL);
    deployment_run(deployment, 2, "dovetail", "export", "nothing", NULL);
    deployment_run(deployment, 2, "dovetail", "export", "by_name", "--where", "item=seven", NULL);
    deployment_run(deployment, 2, "dovetail", "export", "by_name", "--where", "colour=red", NULL);
    deployment_run(deployment, 2, "dovetail", "export", "by_name", "--from", "yesterday", NULL);
    deployment_run(deployment, 2, "dovetail", "export", "by_name", "--format", "xml", NULL);
    struct child *child = deployment_run(deployment, 1, "dovetail", "export", "by_name", "-o",
                                         "/nowhere/at/all", NULL);
    assert_non_null(strstr(child_errors(child), "/nowhere/at/all.part: No such file"));
    child =
        deployment_run(deployment, 1, "dovetail", "export", "by_name", "-o", "/dev/full/x", NULL);
    deployment_run(deployment, 0, "dovetail", "export", "by_name", "-o", path_of("rows", path),
                   NULL);
    snprintf(part, sizeof part, "%s.part", path);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(access(part, F_OK), -1);
}

/* Every row is counted once, at exactly the receipt's position. */
static void expect_whole(const char *rows, const char *receipt)
{
    json_error_t fault;
    json_t *json = json_load_file(receipt, 0, &fault);
    assert_non_null(json);
    const json_t *positions =
        json_object_iter_value(json_object_iter(json_object_get(json, "positions")));
    int64_t position = json_integer_value(json_array_get(positions, 0));
    FILE *in = fopen(rows, "r");
    char line[1000];
    int64_t sum = 0;
    assert_non_null(in);
    while (fgets(line, sizeof line, in) != NULL) {
        json_t *row = json_loads(line, 0, &fault);
        assert_non_null(row);
        sum += json_integer_value(json_object_get(row, "c"));
        json_decref(row);
    }
    fclose(in);
    json_decref(json);
    assert_int_equal(sum, position);
}

static void test_one_snapshot(void **state)
{
    (void)state;
    char rows[PATH_BYTES];
    char receipt[PATH_BYTES];
    char events[PATH_BYTES];
    path_of("rows", rows);
    path_of("receipt", receipt);
    produce(3000);
    for (int round = 0; round < 8; round++) {
        struct child *producing =
            deployment_start(deployment, "dovetail", "produce", "orders", path_of("events", events),
                             "--rate", "3000", NULL);
        struct child *batch = deployment_start(deployment, "dovetail-batch", "run", NULL);
        for (int i = 0; i < 4; i++) {
            deployment_run(deployment, 0, "dovetail", "export", "all", "--format", "json", "-o",
                           rows, "--receipt", receipt, NULL);
            expect_whole(rows, receipt);
        }
        child_expect(batch, 0);
        child_expect(producing, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_same_as_query, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refusals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_snapshot, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
