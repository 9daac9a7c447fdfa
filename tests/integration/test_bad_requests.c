/* What a person can get wrong: definitions, configuration, queries. Each fault is refused by name,
 * by every program and interface that it can reach, and nothing is left behind by it.
 *
 * The same list of bad questions goes to HTTP and to the command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/deployment.h"
#include "tests/support/http.h"
#include "tests/support/stack.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct deployment *deployment;

static const char source_json[] =
    "{\"source\": \"orders\", \"event_time\": {\"field\": \"time\", \"format\": \"rfc3339\"},"
    " \"fields\": {\"time\": \"timestamp\", \"shop\": \"string\", \"item\": \"integer\","
    "  \"price\": {\"type\": \"decimal\", \"nullable\": true}, \"paid\": \"boolean\"}}";

static const char view_json[] =
    "{\"view\": \"sales\", \"source\": \"orders\", \"group_by\": [\"shop\", \"item\", \"paid\"],"
    " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"},"
    " \"measures\": {\"n\": \"count(*)\", \"turnover\": \"sum(price)\"}}";

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    deployment_define_source(deployment, source_json);
    deployment_define_view(deployment, view_json);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    deployment_destroy(deployment);
    deployment = NULL;
    return 0;
}

/* Words that a message must have, up to NULL. */
static void must_say(const char *what, const char *text, const char *const *words)
{
    for (; *words != NULL; words++)
        if (strstr(text, *words) == NULL)
            fail_msg("%s\nthe message does not name \"%s\": %s", what, *words, text);
}

static void must_be_silent(const char *what, struct child *child)
{
    if (child_output(child)[0] != '\0')
        fail_msg("%s: messages belong on stderr, not into the data: %s", what, child_output(child));
}

/* --- definitions --- */

#define SOURCE(rest) "{\"source\":\"bad\",\"topic\":\"bad-topic\"," rest "}"
#define TIME "\"event_time\":{\"field\":\"time\",\"format\":\"rfc3339\"}"
#define FIELDS(rest) "\"fields\":{\"time\":\"timestamp\"" rest "}"
#define VIEW(rest) "{\"view\":\"bad\",\"source\":\"orders\"," rest "}"
#define WINDOW "\"window\":{\"type\":\"tumbling\",\"size\":\"1h\"}"
#define MEASURE "\"measures\":{\"n\":\"count(*)\"}"

static const struct {
    const char *folder;
    const char *text;
    const char *words[5]; /* ended by NULL */
} definitions[] = {
    {"sources", "", {"bad.json", "line"}},
    {"sources", "{\"source\":\"bad\",}", {"bad.json", "line 1"}},
    {"sources", "[]", {"bad.json"}},
    {"sources", "{}", {"bad.json", "source"}},
    {"sources", "{\"source\":\"bad\",\"source\":\"bad\"}", {"bad.json"}},
    {"sources",
     "{\"source\":\"Bad\",\"topic\":\"t\"," TIME "," FIELDS("") "}",
     {"bad.json", "source"}},
    {"sources", "{\"source\":7,\"topic\":\"t\"," TIME "," FIELDS("") "}", {"bad.json", "source"}},
    {"sources", "{\"source\":\"bad\"," TIME "," FIELDS("") "}", {"bad.json", "topic"}},
    {"sources",
     "{\"source\":\"bad\",\"topic\":\"a b\"," TIME "," FIELDS("") "}",
     {"bad.json", "topic"}},
    {"sources",
     SOURCE(TIME "," FIELDS("") ",\"dead_letter_topic\":\"bad-topic\""),
     {"bad.json", "dead_letter_topic"}},
    {"sources", SOURCE(TIME "," FIELDS("") ",\"partitions\":0"), {"bad.json", "partitions"}},
    {"sources", SOURCE(TIME "," FIELDS("") ",\"partitions\":\"3\""), {"bad.json", "partitions"}},
    {"sources", SOURCE(TIME "," FIELDS("") ",\"colour\":1"), {"bad.json", "colour"}},
    {"sources", SOURCE(FIELDS("")), {"bad.json", "event_time"}},
    {"sources", SOURCE("\"event_time\":\"time\"," FIELDS("")), {"bad.json", "event_time"}},
    {"sources",
     SOURCE("\"event_time\":{\"field\":\"when\"}," FIELDS("")),
     {"bad.json", "event_time", "when"}},
    {"sources",
     SOURCE("\"event_time\":{\"field\":\"time\",\"format\":\"iso\"}," FIELDS("")),
     {"bad.json", "format"}},
    {"sources",
     SOURCE(
         "\"event_time\":{\"field\":\"b\",\"format\":\"epoch_s\"}," FIELDS(",\"b\":\"boolean\"")),
     {"bad.json", "event_time"}},
    {"sources", SOURCE(TIME), {"bad.json", "fields"}},
    {"sources", SOURCE(TIME ",\"fields\":{}"), {"bad.json", "fields"}},
    {"sources", SOURCE(TIME "," FIELDS(",\"x\":\"float\"")), {"bad.json", "x"}},
    {"sources", SOURCE(TIME "," FIELDS(",\"X\":\"string\"")), {"bad.json", "X"}},
    {"sources", SOURCE(TIME "," FIELDS(",\"x\":{\"path\":\"a.b\"}")), {"bad.json", "x", "type"}},
    {"sources",
     SOURCE(TIME "," FIELDS(",\"x\":{\"type\":\"string\",\"path\":\"a..b\"}")),
     {"bad.json", "x", "path"}},
    {"sources",
     SOURCE(TIME "," FIELDS(",\"x\":{\"type\":\"string\",\"nullable\":\"yes\"}")),
     {"bad.json", "x", "nullable"}},
    {"sources",
     SOURCE(TIME "," FIELDS(",\"x\":{\"type\":\"string\",\"nulable\":true}")),
     {"bad.json", "x", "nulable"}},
    {"sources",
     "{\"source\":\"orders\",\"topic\":\"t\"," TIME "," FIELDS("") "}",
     {"orders", "twice"}},

    {"views", "{\"view\":\"bad\"", {"bad.json", "line"}},
    {"views",
     "{\"view\":\"bad\",\"source\":\"nobody\"," WINDOW "," MEASURE "}",
     {"bad.json", "source", "nobody"}},
    {"views", "{\"view\":\"bad\"," WINDOW "," MEASURE "}", {"bad.json", "source"}},
    {"views",
     "{\"view\":\"1bad\",\"source\":\"orders\"," WINDOW "," MEASURE "}",
     {"bad.json", "view"}},
    {"views",
     "{\"view\":\"sales\",\"source\":\"orders\"," WINDOW "," MEASURE "}",
     {"sales", "twice"}},
    {"views", VIEW(MEASURE), {"bad.json", "window"}},
    {"views",
     VIEW(MEASURE ",\"window\":{\"type\":\"sliding\",\"size\":\"1h\"}"),
     {"bad.json", "window", "type"}},
    {"views",
     VIEW(MEASURE ",\"window\":{\"type\":\"tumbling\",\"size\":\"1 hour\"}"),
     {"bad.json", "window", "size"}},
    {"views",
     VIEW(MEASURE ",\"window\":{\"type\":\"tumbling\",\"size\":\"0s\"}"),
     {"bad.json", "window", "size"}},
    {"views",
     VIEW(MEASURE ",\"window\":{\"type\":\"tumbling\",\"size\":\"1h\",\"slid\":\"1m\"}"),
     {"bad.json", "window", "slid"}},
    {"views", VIEW(WINDOW), {"bad.json", "measures"}},
    {"views", VIEW(WINDOW ",\"measures\":{}"), {"bad.json", "measures"}},
    {"views",
     VIEW(WINDOW ",\"measures\":{\"n\":\"median(price)\"}"),
     {"bad.json", "measures.n", "column 1", "median"}},
    {"views",
     VIEW(WINDOW ",\"measures\":{\"n\":\"sum(shop)\"}"),
     {"bad.json", "measures.n", "column"}},
    {"views",
     VIEW(WINDOW ",\"measures\":{\"n\":\"sum(cost)\"}"),
     {"bad.json", "measures.n", "column 5", "cost"}},
    {"views",
     VIEW(WINDOW ",\"measures\":{\"n\":\"sum(price\"}"),
     {"bad.json", "measures.n", "column"}},
    {"views",
     VIEW(WINDOW ",\"measures\":{\"n\":\"sum(price) FILTER (WHERE item)\"}"),
     {"bad.json", "measures.n", "column"}},
    {"views",
     VIEW(WINDOW ",\"measures\":{\"n\":\"sum(price) extra\"}"),
     {"bad.json", "measures.n", "column 12"}},
    {"views", VIEW(WINDOW ",\"measures\":{\"n\":7}"), {"bad.json", "measures.n"}},
    {"views",
     VIEW(WINDOW ",\"measures\":{\"window_start\":\"count(*)\"}"),
     {"bad.json", "window_start"}},
    {"views",
     VIEW(WINDOW ",\"measures\":{\"shop\":\"count(*)\"},\"group_by\":[\"shop\"]"),
     {"bad.json", "measures.shop", "taken"}},
    {"views", VIEW(WINDOW "," MEASURE ",\"where\":\"price\""), {"bad.json", "where", "column"}},
    {"views",
     VIEW(WINDOW "," MEASURE ",\"where\":\"price > 'a'\""),
     {"bad.json", "where", "column"}},
    {"views", VIEW(WINDOW "," MEASURE ",\"where\":\"price >\""), {"bad.json", "where", "column"}},
    {"views",
     VIEW(WINDOW "," MEASURE ",\"where\":\"price > 1; DROP TABLE x\""),
     {"bad.json", "where", "column 10"}},
    {"views", VIEW(WINDOW "," MEASURE ",\"where\":\"\""), {"bad.json", "where"}},
    {"views", VIEW(WINDOW "," MEASURE ",\"group_by\":\"shop\""), {"bad.json", "group_by"}},
    {"views",
     VIEW(WINDOW "," MEASURE ",\"group_by\":[\"shop\",\"colour\"]"),
     {"bad.json", "group_by[1]", "colour"}},
    {"views",
     VIEW(WINDOW "," MEASURE ",\"group_by\":[\"shop\",\"shop\"]"),
     {"bad.json", "group_by[1]", "taken"}},
    {"views",
     VIEW(WINDOW "," MEASURE ",\"group_by\":[{\"name\":\"k\"}]"),
     {"bad.json", "group_by[0]", "expr"}},
    {"views",
     VIEW(WINDOW "," MEASURE ",\"group_by\":[{\"name\":\"k\",\"expr\":\"shop ||\"}]"),
     {"bad.json", "group_by[0]", "expr", "column"}},
    {"views", VIEW(WINDOW "," MEASURE ",\"grup_by\":[]"), {"bad.json", "grup_by"}},
};

static void a_bad_definition_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(definitions); i++) {
        static const char *const commands[] = {"validate", "init"};
        char path[64];
        snprintf(path, sizeof path, "schemas/%s/bad.json", definitions[i].folder);
        deployment_write(deployment, path, definitions[i].text);
        for (size_t c = 0; c < COUNT(commands); c++) {
            struct child *child = deployment_start(deployment, "dovetail", commands[c], NULL);
            int code = child_wait(child, STACK_WAIT_MS);
            if (code != 2)
                fail_msg("dovetail %s took %s: exit %d, %s", commands[c], definitions[i].text, code,
                         child_errors(child));
            must_say(definitions[i].text, child_errors(child), definitions[i].words);
            must_be_silent(commands[c], child);
        }
        deployment_remove(deployment, path);
    }
    /* Nothing of them is in the database. */
    assert_int_equal(deployment_number(deployment, "SELECT count(*) FROM dovetail_internal.source"),
                     1);
    assert_int_equal(
        deployment_number(deployment, "SELECT count(*) FROM dovetail_internal.view_version"), 1);
    deployment_run(deployment, 0, "dovetail", "validate", NULL);
}

/* One look tells every faulty file. */
static void all_bad_definitions_are_named_at_once(void **state)
{
    (void)state;
    static const char *const words[] = {"one.json", "two.json", "three.json", NULL};
    deployment_write(deployment, "schemas/sources/one.json", "{");
    deployment_write(deployment, "schemas/views/two.json", VIEW(WINDOW));
    deployment_write(deployment, "schemas/views/three.json", VIEW(MEASURE));
    struct child *child = deployment_run(deployment, 2, "dovetail", "validate", NULL);
    must_say("three faulty files", child_errors(child), words);
    deployment_remove(deployment, "schemas/sources/one.json");
    deployment_remove(deployment, "schemas/views/two.json");
    deployment_remove(deployment, "schemas/views/three.json");
}

/* --- configuration --- */

#define KAFKA "\"kafka\":{\"bootstrap.servers\":\"127.0.0.1:1\"}"
#define POSTGRES "\"postgres\":\"host=127.0.0.1 port=1 password=open-sesame\""
#define CONFIG(rest) "{" KAFKA "," POSTGRES "," rest "}"

static const struct {
    const char *text;
    const char *words[3];
} configurations[] = {
    {"", {"bad.json"}},
    {"{", {"bad.json"}},
    {"[]", {"bad.json"}},
    {"{" POSTGRES "}", {"bad.json", "kafka"}},
    {"{" KAFKA "}", {"bad.json", "postgres"}},
    {"{\"kafka\":{}," POSTGRES "}", {"bad.json", "bootstrap.servers"}},
    {"{\"kafka\":\"127.0.0.1:1\"," POSTGRES "}", {"bad.json", "kafka"}},
    {"{\"kafka\":{\"bootstrap.servers\":\"127.0.0.1:1\",\"auto.offset.reset\":\"latest\"}," POSTGRES
     "}",
     {"auto.offset.reset"}},
    {"{\"kafka\":{\"bootstrap.servers\":\"127.0.0.1:1\",\"isolation.level\":"
     "\"read_uncommitted\"}," POSTGRES "}",
     {"isolation.level"}},
    {"{" KAFKA ",\"postgres\":7}", {"bad.json", "postgres"}},
    {"{" KAFKA ",\"postgres\":\"host=127.0.0.1 password=open-sesame colour=red\"}", {"postgres"}},
    {CONFIG("\"speed\":{\"flush_interval_ms\":0}"), {"bad.json", "speed.flush_interval_ms"}},
    {CONFIG("\"speed\":{\"flush_interval_ms\":\"fast\"}"), {"bad.json", "speed.flush_interval_ms"}},
    {CONFIG("\"speed\":{\"flush_interval_ms\":1e3}"), {"bad.json", "speed.flush_interval_ms"}},
    {CONFIG("\"speed\":{\"flush_intervall_ms\":100}"), {"bad.json", "speed.flush_intervall_ms"}},
    {CONFIG("\"speed\":[]"), {"bad.json", "speed"}},
    {CONFIG("\"spead\":{}"), {"bad.json", "spead"}},
    {CONFIG("\"batch\":{\"schedule\":\"often\"}"), {"bad.json", "batch.schedule"}},
    {CONFIG("\"batch\":{\"threads\":-1}"), {"bad.json", "batch.threads"}},
    {CONFIG("\"batch\":{\"compression_level\":20}"), {"bad.json", "batch.compression_level"}},
    {CONFIG("\"batch\":{\"retained_runs\":0}"), {"bad.json", "batch.retained_runs"}},
    {CONFIG("\"serving\":{\"listen\":\"somewhere\"}"), {"bad.json", "serving.listen"}},
    {CONFIG("\"serving\":{\"listen\":\"127.0.0.1:99999\"}"), {"bad.json", "serving.listen"}},
    {CONFIG("\"serving\":{\"row_limit\":0}"), {"bad.json", "serving.row_limit"}},
    {CONFIG("\"schemas\":1"), {"bad.json", "schemas"}},
    {CONFIG("\"schemas\":\"${DOVETAIL_NO_SUCH_VARIABLE}\""),
     {"schemas", "DOVETAIL_NO_SUCH_VARIABLE"}},
    {CONFIG("\"schemas\":\"${file:/no/such/file}\""), {"schemas", "/no/such/file"}},
};

static const struct {
    const char *program;
    const char *command; /* NULL: none */
} programs[] = {
    {"dovetail-speed", NULL},   {"dovetail-batch", "run"}, {"dovetail-batch", "schedule"},
    {"dovetail-serving", NULL}, {"dovetail", "status"},    {"dovetail", "init"},
};

static struct child *start_with(const char *program, const char *config, const char *command)
{
    char path[PATH_MAX], config_path[PATH_MAX], logs[PATH_MAX];
    snprintf(config_path, sizeof config_path, "%s/%s", deployment->directory, config);
    snprintf(logs, sizeof logs, "%s/log", deployment->directory);
    const char *const argv[] = {stack_program(program, path, sizeof path), "--config", config_path,
                                command, NULL};
    return child_start(logs, program, argv);
}

static void check_refused(struct child *child, const char *text, const char *const *words)
{
    int code = child_wait(child, STACK_WAIT_MS);
    if (code != 2)
        fail_msg("%s with %s: exit %d, not 2: %s", child_name(child), text, code,
                 child_errors(child));
    must_say(text, child_errors(child), words);
    must_be_silent(child_name(child), child);
    if (strstr(child_errors(child), "open-sesame") != NULL)
        fail_msg("%s tells the password: %s", child_name(child), child_errors(child));
}

static void a_bad_configuration_is_named_by_every_program(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(configurations); i++) {
        deployment_write(deployment, "bad.json", configurations[i].text);
        for (size_t p = 0; p < COUNT(programs); p++)
            check_refused(start_with(programs[p].program, "bad.json", programs[p].command),
                          configurations[i].text, configurations[i].words);
    }
}

/* Whether a schedule ever comes is the scheduler's to say. */
static void a_schedule_that_never_comes_is_named(void **state)
{
    (void)state;
    static const char *const schedules[] = {"61 * * * *", "* 24 * * *", "* * 0 * *", "0 0 30 2 *"};
    static const char *const words[] = {"batch.schedule", NULL};
    for (size_t i = 0; i < COUNT(schedules); i++) {
        json_t *config = json_deep_copy(deployment->settings);
        json_object_set_new(json_object_get(config, "batch"), "schedule",
                            json_string(schedules[i]));
        char *text = json_dumps(config, 0);
        deployment_write(deployment, "bad.json", text);
        check_refused(start_with("dovetail-batch", "bad.json", "schedule"), schedules[i], words);
        free(text);
        json_decref(config);
    }
}

static void bad_arguments_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *program;
        const char *argument;
        const char *words[2];
    } cases[] = {
        {"dovetail", "conquer", {"conquer"}},       {"dovetail", "--colour", {"--colour"}},
        {"dovetail-speed", "fast", {"fast"}},       {"dovetail-speed", "--fast", {"--fast"}},
        {"dovetail-batch", "conquer", {"conquer"}}, {"dovetail-batch", "--full", {"--full"}},
        {"dovetail-serving", "dinner", {"dinner"}}, {"dovetail-serving", "--port", {"--port"}},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        check_refused(start_with(cases[i].program, "dovetail.json", cases[i].argument),
                      cases[i].argument, cases[i].words);
    const char *const words[] = {"no-such.json", NULL};
    for (size_t p = 0; p < COUNT(programs); p++)
        check_refused(start_with(programs[p].program, "no-such.json", programs[p].command),
                      "a file that is not there", words);
}

/* --- queries --- */

static const struct {
    const char *parameters;     /* of HTTP */
    const char *parameter;      /* that it names */
    const char *option, *value; /* the same on the command line; NULL: there is no such thing */
} queries[] = {
    {"from=yesterday", "from", "--from", "yesterday"},
    {"from=", "from", "--from", ""},
    {"from=2026-02-30", "from", "--from", "2026-02-30"},
    {"from=1767225600", "from", "--from", "1767225600"},
    {"from=0000-01-01", "from", "--from", "0000-01-01"},
    {"to=10000-01-01T00:00:00Z", "to", "--to", "10000-01-01T00:00:00Z"},
    {"to=2026-01-01T25:00:00Z", "to", "--to", "2026-01-01T25:00:00Z"},
    {"to=2026-01-01%2000:00", "to", "--to", "2026-01-01 00:00"},
    {"from=2026-01-02&to=2026-01-01", "to", NULL, NULL},
    {"limit=0", "limit", "--limit", "0"},
    {"limit=-1", "limit", "--limit", "-1"},
    {"limit=ten", "limit", "--limit", "ten"},
    {"limit=1.5", "limit", "--limit", "1.5"},
    {"limit=", "limit", "--limit", ""},
    {"limit=99999999999999999999", "limit", "--limit", "99999999999999999999"},
    {"layer=both", "layer", "--layer", "both"},
    {"layer=", "layer", "--layer", ""},
    {"granularity=2y", "granularity", "--granularity", "2y"},
    {"granularity=90m", "granularity", "--granularity", "90m"}, /* no multiple of an hour */
    {"granularity=1m", "granularity", "--granularity", "1m"},
    {"granularity=0", "granularity", "--granularity", "0"},
    {"granularity=-1h", "granularity", "--granularity", "-1h"},
    {"group_by=colour", "group_by", "--group-by", "colour"},
    {"group_by=shop,shop", "group_by", "--group-by", "shop,shop"},
    {"group_by=shop,,item", "group_by", "--group-by", "shop,,item"},
    {"group_by=n", "group_by", "--group-by", "n"},
    {"group_by=shop%3Bdrop", "group_by", "--group-by", "shop;drop"},
    {"measures=colour", "measures", "--measures", "colour"},
    {"measures=n,n", "measures", "--measures", "n,n"},
    {"measures=shop", "measures", "--measures", "shop"},
    {"order=colour", "order", "--order", "colour"},
    {"order=-", "order", "--order", "-"},
    {"order=--n", "order", "--order", "--n"},
    {"order=n%20desc", "order", "--order", "n desc"},
    {"group_by=shop&order=item", "order", NULL, NULL},
    {"item=seven", "item", "--where", "item=seven"},
    {"item=1.5", "item", "--where", "item=1.5"},
    {"item=9223372036854775808", "item", "--where", "item=9223372036854775808"},
    {"item=", "item", "--where", "item="},
    {"paid=maybe", "paid", "--where", "paid=maybe"},
    {"colour=red", "colour", "--where", "colour=red"},
    {"n=1", "n", "--where", "n=1"},
    {"shop%27%3B=1", "shop", NULL, NULL},
    {"shop=%ff%fe", "shop", "--where", "shop=\xff\xfe"},
    {"shop=%00", "shop", NULL, NULL},
    {"shop=%zz", "shop", NULL, NULL},
    {"shop.is=nothing", "shop.is", NULL, NULL},
    {"at_least=1", "at_least", NULL, NULL},
    {"at_least=%7B%22other%22:%5B1%5D%7D", "at_least", NULL, NULL},
    {"at_least=%7B%7D", "at_least", NULL, NULL},
    {"format=xml", "format", "--format", "xml"},
    {"from=2026-01-01&from=2026-01-02", "from", NULL, NULL},
};

/* RFC 9457: an object with type, title, status and detail. */
static void check_problem(const char *target, const struct http_reply *reply, int status,
                          const char *word)
{
    if (reply->status != status)
        fail_msg("%s: %d, not %d: %s", target, reply->status, status, reply->body);
    if (strcmp(reply->content_type, "application/problem+json") != 0)
        fail_msg("%s: %s", target, reply->content_type);
    json_t *json = http_reply_json(reply);
    const char *detail = json_string_value(json_object_get(json, "detail"));
    if (!json_is_string(json_object_get(json, "type")) ||
        !json_is_string(json_object_get(json, "title")) || detail == NULL || detail[0] == '\0' ||
        json_integer_value(json_object_get(json, "status")) != status)
        fail_msg("%s: not a whole problem document: %s", target, reply->body);
    if (word != NULL && strstr(reply->body, word) == NULL)
        fail_msg("%s: the problem does not name \"%s\": %s", target, word, reply->body);
    json_decref(json);
}

static void a_bad_query_is_named_over_http(void **state)
{
    (void)state;
    struct http_reply reply;
    struct http_session *session;
    deployment_serve(deployment);
    session = http_session_create(deployment->port);
    for (size_t i = 0; i < COUNT(queries); i++) {
        char target[400];
        snprintf(target, sizeof target, "/v1/views/sales/rows?%s", queries[i].parameters);
        http_get(session, target, &reply);
        check_problem(target, &reply, 400, queries[i].parameter);
        http_reply_free(&reply);
    }
    /* It still answers. */
    http_get(session, "/v1/views/sales/rows", &reply);
    assert_int_equal(reply.status, 200);
    http_reply_free(&reply);
    http_session_destroy(session);
}

static void what_is_not_there_is_not_found(void **state)
{
    (void)state;
    static const char *const targets[] = {
        "/v1/views/nothing",
        "/v1/views/nothing/rows",
        "/v1/views/Sales/rows",
        "/v1/views/sales%20/rows",
        "/v1/views//rows",
        "/v1/views/sales/row",
        "/v1/views/sales/rows/1",
        "/v1/view",
        "/v2/views",
        "/nothing",
        "/..%2f..%2fetc%2fpasswd",
        "/../../etc/passwd",
        "/v1/views/sales';--/rows",
        "/v1/views/pg_class/rows",
    };
    struct http_reply reply;
    struct http_session *session = http_session_create(deployment->port);
    for (size_t i = 0; i < COUNT(targets); i++) {
        http_get(session, targets[i], &reply);
        check_problem(targets[i], &reply, 404, NULL);
        http_reply_free(&reply);
    }
    static const char *const methods[] = {"POST", "PUT", "DELETE", "PATCH"};
    for (size_t i = 0; i < COUNT(methods); i++) {
        char allowed[64] = "";
        http_request(session, methods[i], "/v1/views/sales/rows", &reply);
        check_problem(methods[i], &reply, 405, NULL);
        assert_non_null(http_reply_header(&reply, "Allow", allowed, sizeof allowed));
        assert_non_null(strstr(allowed, "GET"));
        http_reply_free(&reply);
    }
    http_session_destroy(session);
    child_stop(deployment->serving);
}

static void a_bad_query_is_named_on_the_command_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(queries); i++) {
        const char *const words[] = {queries[i].option != NULL &&
                                             strcmp(queries[i].option, "--group-by") == 0
                                         ? "group"
                                         : queries[i].parameter,
                                     NULL};
        if (queries[i].option == NULL)
            continue;
        struct child *child = deployment_start(deployment, "dovetail", "query", "sales",
                                               queries[i].option, queries[i].value, NULL);
        check_refused(child, queries[i].parameters, words);
    }
    static const char *const words[] = {"nothing", NULL};
    static const char *const commands[] = {"query", "verify", "produce"};
    for (size_t i = 0; i < COUNT(commands); i++)
        check_refused(deployment_start(deployment, "dovetail", commands[i], "nothing", NULL),
                      commands[i], words);
    static const char *const usage[] = {"--help", NULL};
    for (size_t i = 0; i < COUNT(commands); i++) /* of what? */
        check_refused(deployment_start(deployment, "dovetail", commands[i], NULL), commands[i],
                      usage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bad_definition_is_named),
        cmocka_unit_test(all_bad_definitions_are_named_at_once),
        cmocka_unit_test(a_bad_configuration_is_named_by_every_program),
        cmocka_unit_test(a_schedule_that_never_comes_is_named),
        cmocka_unit_test(bad_arguments_are_named),
        cmocka_unit_test(a_bad_query_is_named_over_http),
        cmocka_unit_test(what_is_not_there_is_not_found),
        cmocka_unit_test(a_bad_query_is_named_on_the_command_line),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
