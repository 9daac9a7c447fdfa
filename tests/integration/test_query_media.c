/* In which forms an answer comes: media types, CSV, lines of JSON, gzip, ETag; and every kind of
 * response is as schemas/openapi.json describes it. Nothing flows meanwhile.
 *
 * Needs Debian's python3-jsonschema. The program runs in the repository's root, as make does. */
#include "tests/integration/question_generator.h"

#include <zlib.h>

/* --- representations --- */

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
    /* Lines of one header are one list. */
    assert_media("text/html\r\naccept: text/csv", 200, csv);
    assert_media("text/csv;q=0.1\r\nAccept: application/json;q=0\r\nAccept: */*;q=0.5", 200, lines);
    assert_media("text/html\r\nAccept: image/png", 406, problem);
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
    snprintf(many, sizeof many, "If-None-Match: %s\r\n", etag);
    assert_int_equal(status_with_etag(target, "\"other\"", many), 304);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accept), cmocka_unit_test(test_csv),
        cmocka_unit_test(test_ndjson), cmocka_unit_test(test_gzip),
        cmocka_unit_test(test_etag),   cmocka_unit_test(test_responses_are_as_described),
    };
    return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
