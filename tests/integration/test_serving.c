/* What dovetail-serving refuses, and what it tells of itself: bad parameters, paths, methods and
 * bounds; views, status, metrics, its description and its page. */
#include "tests/support/trips_fixture.h"

#include "tests/support/promtool.h"

/* --- refusals --- */

static void test_bad_parameters(void **state)
{
    (void)state;
    static const struct {
        const char *query;
        const char *parameter;
        const char *detail;
    } cases[] = {
        {"from=yesterday", "from", "2024-05-01"},
        {"to=2001-13-01", "to", "2024-05-01"},
        {"from=2001-01-01+00:00", "from", ""},
        {"from=", "from", ""},
        {"from=2001-01-02&to=2001-01-01", "to", "before"},
        {"from=10000-01-01", "from", ""},
        {"group_by=origin,nothing", "group_by", "origin, destination"},
        {"group_by=origin,origin", "group_by", "twice"},
        {"group_by=,", "group_by", ""},
        {"group_by=trips", "group_by", "no key"},
        {"granularity=90m", "granularity", "1h"},
        {"granularity=30m", "granularity", "1h"},
        {"granularity=day", "granularity", "all"},
        {"granularity=0h", "granularity", ""},
        {"granularity=9999999d", "granularity", ""},
        {"measures=nothing", "measures", "trips, delayed"},
        {"measures=trips,trips", "measures", "twice"},
        {"order=nothing", "order", "window_start"},
        {"order=-", "order", ""},
        {"order=total&measures=trips", "order", "total"},
        {"order=origin&group_by=", "order", "origin"},
        {"limit=0", "limit", "from 1"},
        {"limit=-1", "limit", ""},
        {"limit=1.5", "limit", ""},
        {"limit=99999999999999999999", "limit", ""},
        {"limit=+5", "limit", ""},
        {"", "limit", "more than 300"},
        {"limit=301", "limit", "more than 300"},
        {"layer=both", "layer", "merged"},
        {"nothing=1", "nothing", "origin"},
        {"Origin=JFK", "Origin", "origin"},
        {"origin.is=JFK", "origin.is", "null"},
        {"nothing.is=null", "nothing.is", "unknown"},
        {"key.from=1", "key.from", "unknown"},
        {"origin=JFK&key.origin=SFO", "origin", "twice"},
        {"origin=JFK&origin.is=null", "origin", "twice"},
        {"origin=JFK&origin=SFO", "origin", "twice"},
        {"limit=1&limit=1", "limit", "twice"},
        {"origin=%zz", "origin", "UTF-8"},
        {"origin=%4", "origin", "UTF-8"},
        {"origin=%", "origin", "UTF-8"},
        {"origin=a%00b", "origin", "UTF-8"},
        {"origin=%ff", "origin", "UTF-8"},
        {"origin=%C0%80", "origin", "UTF-8"},
        {"origin=%ED%A0%80", "origin", "UTF-8"},
        {"%ff=1", "?", "UTF-8"},
        {"a%0Ab=1", "a?b", "unknown"},
        {"at_least=1", "at_least", "trips"},
        {"at_least={\"other\":[1]}", "at_least", "trips"},
        {"at_least={\"trips\":[-1]}", "at_least", "offset"},
        {"at_least={\"trips\":[1.5]}", "at_least", "offset"},
        {"at_least={\"trips\":[1,1,1]}&limit=1", "at_least", "2 partitions"},
        {"at_least={\"trips\":[1],\"b\":[1]}", "at_least", "trips"},
        {"wait_ms=30001", "wait_ms", "30000"},
    };
    char target[512];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(target, sizeof target, "/v1/views/by_route/rows?%s", cases[i].query);
        assert_problem(target, 400, cases[i].parameter, cases[i].detail);
    }
    assert_problem("/v1/views/typed/rows?delay=x", 400, "delay", "delay: ");
    assert_problem("/v1/views/typed/rows?delay=99999999999999999999", 400, "delay", "delay: ");
    assert_problem("/v1/views/typed/rows?late=maybe", 400, "late", "late: ");
    assert_problem("/v1/views/typed/rows?booked=today", 400, "booked", "booked: ");
    assert_problem("/v1/views/typed/rows?fare=NaN", 400, "fare", "fare: ");
    assert_problem("/v1/views/typed/rows?fare=", 400, "fare", "fare: ");
    assert_problem("/v1/views?x=1", 400, "x", "no parameters");
    assert_problem("/v1/views/typed?x=1", 400, "x", "no parameters");
    assert_problem("/v1/status?x=1", 400, "x", "no parameters");
}

static void test_unknown_paths(void **state)
{
    (void)state;
    assert_problem("/v1/views/nothing", 404, NULL, "/v1/views");
    assert_problem("/v1/views/nothing/rows", 404, NULL, "/v1/views");
    assert_problem("/v1/views/by_route%27/rows", 404, NULL, "");
    assert_problem("/v1", 404, NULL, "");
    assert_problem("/v2/views", 404, NULL, "");
    assert_problem("/v1/views/by_route/rows/x", 404, NULL, "");
    assert_problem("/v1//views", 404, NULL, "");
    assert_problem("/a/b/c/d/e/f/g/h/i/j/k", 404, NULL, "");
    assert_problem("/v1/views/%ff/rows", 400, NULL, "UTF-8");
    assert_problem("/v1/views/a%00/rows", 400, NULL, "UTF-8");
    assert_problem("/v1/views/by_route%2Frows", 404, NULL, "");
    /* A percent-encoded letter is the letter, and a trailing slash is nothing. */
    struct reply reply = get("/v1/views/%62y_route/rows?limit=1");
    assert_int_equal(reply.status, 200);
    free(reply.text);
    reply = get("/v1/views/");
    assert_int_equal(reply.status, 200);
    free(reply.text);
}

static void test_methods(void **state)
{
    (void)state;
    static const char *const refused[] = {"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct reply reply = receive(send_request(refused[i], "/v1/views"));
        assert_int_equal(reply.status, 405);
        assert_true(has_header(&reply, "Allow: GET, HEAD\r\n"));
        free(reply.text);
    }
    struct reply full = get("/v1/views/by_route/rows?limit=3");
    struct reply head = receive(send_request("HEAD", "/v1/views/by_route/rows?limit=3"));
    assert_int_equal(head.status, 200);
    assert_string_equal(head.body, "");
    assert_true(has_header(&head, "Content-Type: application/json\r\n"));
    assert_true(has_header(&head, "Content-Length: "));
    free(full.text);
    free(head.text);
    /* A body is no reason to fail, and is not taken for the next request. */
    full = receive(send_text("GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
                             "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    assert_int_equal(count_of(full.text, "200 OK"), 2);
    free(full.text);
}

static void test_limits_of_requests(void **state)
{
    (void)state;
    char *text = malloc(100000);
    assert_non_null(text);
    /* Longer than we take. */
    int length = snprintf(text, 100000, "/v1/views/by_route/rows?origin=");
    memset(text + length, 'x', 9000);
    text[length + 9000] = '\0';
    assert_problem(text, 414, NULL, "8,192");
    /* Longer than the library takes: refused, whatever the words. */
    memset(text + length, 'x', 90000);
    text[length + 90000] = '\0';
    struct reply reply = get(text);
    assert_true(reply.status == 414 || reply.status == 431 || reply.status == 0);
    free(reply.text);
    /* More parameters than we take. */
    length = snprintf(text, 100000, "/v1/views/by_route/rows?");
    for (int i = 0; i < 70; i++)
        length += snprintf(text + length, 32, "p%d=1&", i);
    assert_problem(text, 400, "p64", "64 parameters");
    /* A large header. */
    length = snprintf(text, 100000, "GET /livez HTTP/1.1\r\nHost: x\r\nX-Large: ");
    memset(text + length, 'x', 80000);
    snprintf(text + length + 80000, 64, "\r\nConnection: close\r\n\r\n");
    reply = receive(send_text(text));
    assert_true(reply.status == 431 || reply.status == 413 || reply.status == 0);
    free(reply.text);
    free(text);
    /* And it still answers. */
    reply = get("/livez");
    assert_int_equal(reply.status, 200);
    free(reply.text);
    reply = receive(send_text("rubbish\r\n\r\n"));
    free(reply.text);
    reply = get("/livez");
    assert_string_equal(reply.body, "ok\n");
    free(reply.text);
}

/* More different statements than a connection keeps, over one connection after the other. */
static void test_many_different_statements(void **state)
{
    (void)state;
    static const char *const measures[] = {"trips",     "delayed", "total", "fares",
                                           "mean_fare", "best",    "worst", "cheapest"};
    char target[256];
    for (size_t i = 0; i < 8 * 8 * 8; i++) {
        size_t a = i % 8, b = i / 8 % 8, c = i / 64;
        if (a == b || b == c || a == c)
            continue;
        snprintf(target, sizeof target,
                 "/v1/views/by_route/rows?limit=1&origin=JFK&destination=SFO&measures=%s,%s,%s",
                 measures[a], measures[b], measures[c]);
        json_decref(get_json(target));
    }
}

/* --- the other paths --- */

static void test_views(void **state)
{
    (void)state;
    json_t *json = get_json("/v1/views");
    json_t *views = json_object_get(json, "views");
    assert_int_equal(json_array_size(views), 3);
    json_t *view = json_array_get(views, 0);
    assert_string_equal(text_at(view, "view"), "by_route");
    assert_string_equal(text_at(view, "source"), "trips");
    assert_string_equal(text_at(view, "topic"), "trips");
    assert_string_equal(text_at(view, "state"), "current");
    assert_string_equal(text_at(view, "description"), "Trips by route");
    assert_true(json_is_true(json_object_get(view, "readable")));
    assert_int_equal(json_integer_value(json_object_get(view, "run")), 1);
    assert_string_equal(text_at(json_object_get(view, "window"), "size"), "1h");
    json_t *keys = json_object_get(view, "keys");
    assert_int_equal(json_array_size(keys), 2);
    assert_string_equal(text_at(json_array_get(keys, 0), "name"), "origin");
    assert_string_equal(text_at(json_array_get(keys, 0), "type"), "string");
    json_t *measures = json_object_get(view, "measures");
    assert_int_equal(json_array_size(measures), 8);
    assert_string_equal(text_at(json_array_get(measures, 4), "name"), "mean_fare");
    assert_string_equal(text_at(json_array_get(measures, 4), "type"), "decimal");
    assert_string_equal(text_at(json_array_get(measures, 4), "expression"), "avg(fare)");
    json_t *links = json_object_get(view, "links");
    json_t *own = get_json(text_at(links, "self"));
    assert_true(json_equal(own, view));
    json_decref(own);
    assert_string_equal(text_at(links, "rows"), "/v1/views/by_route/rows");
    json_decref(json);
}

static void test_status(void **state)
{
    (void)state;
    json_t *json = get_json("/v1/status");
    assert_int_equal(json_integer_value(json_object_get(json, "run")), 1);
    json_t *source = json_array_get(json_object_get(json, "sources"), 0);
    assert_string_equal(text_at(source, "source"), "trips");
    json_t *partitions = json_object_get(source, "partitions");
    assert_int_equal(json_array_size(partitions), PARTITIONS);
    json_t *first = json_array_get(partitions, 0);
    assert_int_equal(json_integer_value(json_object_get(first, "cutoff")), 150);
    assert_int_equal(json_integer_value(json_object_get(first, "position")), 250);
    json_t *ledger = json_object_get(first, "ledger");
    assert_int_equal(json_integer_value(json_object_get(ledger, "counted")), 240);
    json_t *view = json_array_get(json_object_get(json, "views"), 0);
    json_t *version = json_array_get(json_object_get(view, "versions"), 0);
    assert_true(json_is_true(json_object_get(version, "readable")));
    assert_int_equal(json_array_size(json_object_get(json, "runs")), 2);
    json_decref(json);
}

static void test_metrics(void **state)
{
    (void)state;
    struct reply reply = get("/metrics");
    assert_int_equal(reply.status, 200);
    static const char *const lines[] = {
        "\ndovetail_postgres_up 1\n",
        "\ndovetail_current_run 1\n",
        "\ndovetail_cutoff_offset{topic=\"trips\",partition=\"1\"} 1100\n",
        "\ndovetail_position_offset{topic=\"trips\",partition=\"0\"} 250\n",
        "\ndovetail_records_total{topic=\"trips\",partition=\"0\",outcome=\"filtered\"} 6\n",
        "\ndovetail_http_requests_total{route=\"/v1/views/{view}/rows\",code=\"400\"} ",
        "\ndovetail_http_requests_total{route=\"other\",code=\"404\"} ",
        "\ndovetail_http_request_duration_seconds_bucket{route=\"/"
        "livez\",code=\"200\",le=\"+Inf\"} ",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (strstr(reply.body, lines[i]) == NULL)
            fail_msg("%s is not in %s", lines[i], reply.body);
    free(reply.text);
}

/* By the conventions of Prometheus, as its own tool judges them. */
static void test_metrics_by_promtool(void **state)
{
    (void)state;
    if (!promtool_is_there()) {
        print_message("skipped: promtool is missing (Debian's package prometheus)\n");
        skip();
    }
    struct reply reply = get("/metrics");
    promtool_check(reply.body);
    free(reply.text);
}

/* The description has exactly the routes that the metrics, hence the server, know. */
static void test_openapi_is_true(void **state)
{
    (void)state;
    json_t *json = get_json("/openapi.json");
    json_t *paths = json_object_get(json, "paths");
    const char *path;
    json_t *item;
    char line[160];
    assert_string_equal(text_at(json, "openapi"), "3.1.0");
    struct reply reply = get("/metrics");
    int described = 0;
    json_object_foreach (paths, path, item) {
        snprintf(line, sizeof line, "_count{route=\"%s\",code=\"200\"}", path);
        if (strstr(reply.body, line) == NULL)
            fail_msg("%s is described, but no route", path);
        assert_true(json_object_get(item, "get") != NULL || json_object_get(item, "post") != NULL);
        described++;
    }
    /* Requests, sum and count of each route, and of "other". */
    assert_int_equal(count_of(reply.body, ",code=\"200\"} "), 3 * (described + 1));
    /* And exactly the parameters that the refusal of an unknown one lists. */
    json_t *rows = json_object_get(json_object_get(paths, "/v1/views/{view}/rows"), "get");
    size_t index;
    json_t *parameter;
    free(reply.text);
    reply = get("/v1/views/by_route/rows?nothing=1");
    json_array_foreach (json_object_get(rows, "parameters"), index, parameter) {
        const char *name = strrchr(text_at(parameter, "$ref"), '/') + 1;
        assert_non_null(json_object_get(
            json_object_get(json_object_get(json, "components"), "parameters"), name));
        snprintf(line, sizeof line, "%s, ", name);
        assert_non_null(strstr(reply.body, line));
    }
    assert_int_equal(index, 14);
    free(reply.text);
    json_decref(json);
}

static void test_index(void **state)
{
    (void)state;
    struct reply reply = get("/?any=thing");
    assert_int_equal(reply.status, 200);
    assert_true(has_header(&reply, "Content-Type: text/html; charset=utf-8\r\n"));
    assert_true(has_header(&reply, "Content-Security-Policy: default-src 'none'"));
    assert_true(has_header(&reply, "Cache-Control: no-cache\r\n"));
    assert_non_null(strstr(reply.body, "/dashboard/main.js"));
    assert_null(strstr(reply.body, "http://"));
    assert_null(strstr(reply.body, "https://"));
    free(reply.text);
    reply = get("/dashboard/vendor/LICENSE.uPlot");
    assert_int_equal(reply.status, 200);
    assert_true(has_header(&reply, "Content-Type: text/plain; charset=utf-8\r\n"));
    free(reply.text);
    assert_problem("/dashboard/nothing.js", 404, NULL, "no such file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_parameters),
        cmocka_unit_test(test_unknown_paths),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_limits_of_requests),
        cmocka_unit_test(test_many_different_statements),
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_metrics_by_promtool),
        cmocka_unit_test(test_openapi_is_true),
        cmocka_unit_test(test_index),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
