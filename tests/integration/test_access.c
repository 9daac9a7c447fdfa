/* Who may ask what: bearer tokens, their views, roles and rows, in every way that an answer can be
 * asked for; and where the server refuses to listen.
 *
 * Expected rows come from SQL with the scope written out as a condition, so a path that forgets the
 * scope gives rows too many. */
#define EVERYTHING "dvt_everything-01234567890123456789012345678901"
#define OPERATOR "dvt_operator-0123456789012345678901234567890123"
#define AIRPORTS "dvt_airports-0123456789012345678901234567890123"
#define JAPAN "dvt_japan-0123456789012345678901234567890123456"
#define DELAYS "dvt_delays-012345678901234567890123456789012345"
#define BROKEN "dvt_broken-012345678901234567890123456789012345"
#define SETTINGS                                                                                   \
    "{\"tokens\":["                                                                                \
    "{\"name\":\"everything\",\"sha256\":"                                                         \
    "\"680e6ef1174a41c5482e4e86f3230f7d3fcc8aae2e50d2846ff8fe6107bfb7f7\",\"views\":\"*\"},"       \
    "{\"name\":\"operator\",\"sha256\":"                                                           \
    "\"9a1d684d16ba3863834ef6a0227d5d954ab19aff766aca076e8365e17f679590\",\"views\":[],\"role\":"  \
    "\"admin\"},"                                                                                  \
    "{\"name\":\"airports\",\"sha256\":"                                                           \
    "\"698b8938cc4a1371530292334909950662e913a0e92812ee7e6299a8f5dbd8a6\",\"views\":[\"by_"        \
    "route\"],\"rows\":{\"origin\":[\"JFK\",\"O'Hare\"]}},"                                        \
    "{\"name\":\"japan\",\"sha256\":"                                                              \
    "\"a33f0512958b7fd18b1281357c4704f6d16a966015ff726a03036391eaa1ac73\",\"views\":\"*\","        \
    "\"rows\":{\"origin\":[\"日本\"]}},"                                                         \
    "{\"name\":\"delays\",\"sha256\":"                                                             \
    "\"a2c99a22d08435e82945d0676a2fae408b6193e3129e8bd9fcc56c102d3dda89\",\"views\":[\"typed\"],"  \
    "\"rows\":{\"delay\":[3,4],\"late\":[true]}},"                                                 \
    "{\"name\":\"broken\",\"sha256\":"                                                             \
    "\"8457681baef4ce9d840aa4b9445052e8e3f38cccb33f98587561dfef04234061\",\"views\":[\"typed\"],"  \
    "\"rows\":{\"delay\":[\"soon\"]}}"                                                             \
    "],\"live_streams_per_token\":2}"

#include "tests/support/trips_fixture.h"

#include "tests/support/sse.h"

#include <openssl/evp.h>

#define IN_AIRPORTS "(origin = 'JFK' OR origin = 'O''Hare')"

static void as(const char *token)
{
    static char line[256];
    snprintf(line, sizeof line, "Authorization: Bearer %s\r\n", token);
    more_headers = line;
}

static void as_nobody(void)
{
    more_headers = "";
}

static int status_of(const char *target)
{
    struct reply reply = get(target);
    free(reply.text);
    return reply.status;
}

/* --- who --- */

static void assert_unknown(const char *target, const char *challenge)
{
    struct reply reply = get(target);
    if (reply.status != 401 || !has_header(&reply, "Content-Type: application/problem+json\r\n") ||
        !has_header(&reply, challenge))
        fail_msg("%s with %s: %s", target, more_headers, reply.text);
    free(reply.text);
}

static const char *const guarded[] = {
    "/v1/views",
    "/v1/views/by_route",
    "/v1/views/by_route/rows?limit=1",
    "/v1/views/none/rows",
    "/v1/status",
    "/metrics",
    "/nothing/here",
    "/%zz",
    "/v1/views/by_route/rows?limit=1&limit=2",
};

static void test_a_token_is_needed(void **state)
{
    (void)state;
    as_nobody();
    for (size_t i = 0; i < sizeof guarded / sizeof guarded[0]; i++)
        assert_unknown(guarded[i], "WWW-Authenticate: Bearer realm=\"dovetail\"\r\n");
    static const char *const open[] = {"/livez", "/readyz", "/", "/dashboard/main.js",
                                       "/openapi.json"};
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++)
        assert_int_equal(status_of(open[i]), 200);
    more_headers = "Authorization: Basic dXNlcjpwYXNzd29yZA==\r\n";
    assert_unknown("/v1/views", "WWW-Authenticate: Bearer realm=\"dovetail\"\r\n");
}

static void test_a_wrong_token_is_none(void **state)
{
    (void)state;
    static const char invalid[] =
        "WWW-Authenticate: Bearer realm=\"dovetail\", error=\"invalid_token\"\r\n";
    char token[] = EVERYTHING;
    for (size_t i = 0; i < strlen(token); i++) {
        token[i] ^= 1;
        as(token);
        assert_unknown("/v1/views", invalid);
        token[i] ^= 1;
    }
    static const char *const wrong[] = {
        EVERYTHING "0",
        EVERYTHING " x",
        "",
        "x",
        /* the hash is no token */
        "680e6ef1174a41c5482e4e86f3230f7d3fcc8aae2e50d2846ff8fe6107bfb7f7",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        as(wrong[i]);
        struct reply reply = get("/v1/views");
        assert_int_equal(reply.status, 401);
        free(reply.text);
    }
    more_headers = "Authorization: bearer  " EVERYTHING "\r\n"; /* the scheme in any letters */
    assert_int_equal(status_of("/v1/views"), 200);
}

/* --- what --- */

static void assert_forbidden(const char *target)
{
    struct reply reply = get(target);
    if (reply.status != 403 || !has_header(&reply, "Content-Type: application/problem+json\r\n") ||
        !has_header(&reply, "error=\"insufficient_scope\""))
        fail_msg("%s with %s: %s", target, more_headers, reply.text);
    free(reply.text);
}

static void test_roles(void **state)
{
    (void)state;
    as(EVERYTHING);
    assert_forbidden("/v1/status");
    assert_forbidden("/metrics");
    assert_int_equal(status_of("/nothing/here"), 404);
    as(OPERATOR);
    assert_int_equal(status_of("/v1/status"), 200);
    assert_int_equal(status_of("/metrics"), 200);
    assert_forbidden("/v1/views/by_route");
    assert_forbidden("/v1/views/by_route/rows");
}

static void assert_listed(const char *token, const char *expected)
{
    char names[256] = "";
    as(token);
    json_t *json = get_json("/v1/views");
    json_t *view;
    size_t i;
    json_array_foreach (json_object_get(json, "views"), i, view) {
        size_t length = strlen(names);
        snprintf(names + length, sizeof names - length, "%s ", text_at(view, "view"));
    }
    json_decref(json);
    assert_string_equal(names, expected);
}

/* A view that lacks a key of the scope is none of the caller's: it could not be restricted. */
static void test_views(void **state)
{
    (void)state;
    assert_listed(EVERYTHING, "by_route odd_names typed ");
    assert_listed(OPERATOR, "");
    assert_listed(AIRPORTS, "by_route ");
    assert_listed(JAPAN, "by_route ");
    assert_listed(DELAYS, "typed ");
    as(AIRPORTS);
    assert_int_equal(status_of("/v1/views/by_route"), 200);
    assert_forbidden("/v1/views/typed");
    assert_forbidden("/v1/views/typed/rows");
    assert_forbidden("/v1/views/none"); /* whether there is one or not */
    assert_forbidden("/v1/views/none/rows");
    as(JAPAN);
    assert_forbidden("/v1/views/typed");
    assert_forbidden("/v1/views/typed/rows");
    assert_forbidden("/v1/views/none"); /* or it would be told apart from one without his keys */
    assert_forbidden("/v1/views/none/rows");
    assert_forbidden("/v1/views/none/live");
    as(EVERYTHING);
    assert_int_equal(status_of("/v1/views/none"), 404);
    assert_int_equal(status_of("/v1/views/none/rows"), 404);
}

static void test_rows(void **state)
{
    (void)state;
    as(AIRPORTS);
    assert_rows("/v1/views/by_route/rows", ROUTE_SQL "WHERE " IN_AIRPORTS ROUTE_ORDER, 10);
    assert_rows("/v1/views/by_route/rows?destination=SFO",
                ROUTE_SQL "WHERE destination = 'SFO' AND " IN_AIRPORTS ROUTE_ORDER, 2);
    as(DELAYS); /* typed values, and two keys at once */
    assert_rows("/v1/views/typed/rows",
                "SELECT " WINDOW_SQL ", delay, trim_scale(fare) AS fare, late, " TIME_SQL(
                    "booked") " AS booked, trips, provisional FROM dovetail.typed t"
                              " WHERE delay IN (3, 4) AND late"
                              " ORDER BY t.window_start, delay, t.fare, late, t.booked",
                1);
}

/* A live stream's first event has his rows, and no others. */
static void test_live(void **state)
{
    (void)state;
    struct sse sse;
    struct sse_event event;
    char header[256];
    snprintf(header, sizeof header, "Authorization: Bearer %s\r\n", AIRPORTS);
    as(AIRPORTS);
    assert_forbidden("/v1/views/typed/live");
    assert_int_equal(sse_open(&sse, port, "/v1/views/by_route/live", ""), 401);
    sse_close(&sse);
    assert_int_equal(sse_open(&sse, port, "/v1/views/by_route/live", header), 200);
    assert_true(sse_next(&sse, &event));
    assert_string_equal(event.name, "snapshot");
    json_t *answer = get_json("/v1/views/by_route/rows");
    assert_true(json_array_size(json_object_get(answer, "rows")) > 5);
    assert_true(json_equal(json_object_get(answer, "rows"), json_object_get(event.data, "rows")));
    json_decref(answer);
    json_decref(event.data);
    sse_close(&sse);
}

/* One token's streams are bounded, and those of others are not its. */
static void test_live_streams_of_one_token(void **state)
{
    (void)state;
    struct sse streams[3];
    char header[256];
    snprintf(header, sizeof header, "Authorization: Bearer %s\r\n", AIRPORTS);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(sse_open(&streams[i], port, "/v1/views/by_route/live?limit=1", header),
                         200);
    assert_int_equal(sse_open(&streams[2], port, "/v1/views/by_route/live?limit=1", header), 429);
    assert_non_null(strstr(streams[2].text, "this token has 2 live streams already"));
    sse_close(&streams[2]);
    snprintf(header, sizeof header, "Authorization: Bearer %s\r\n", EVERYTHING);
    assert_int_equal(sse_open(&streams[2], port, "/v1/views/by_route/live?limit=1", header), 200);
    for (size_t i = 0; i < 3; i++)
        sse_close(&streams[i]);
}

/* The client's own restrictions come on top; none of them opens anything. */
static void test_rows_cannot_be_widened(void **state)
{
    (void)state;
    static const char *const outside[] = {
        "origin=%E6%97%A5%E6%9C%AC",
        "origin.in=M%C3%BCnchen,a%2Cb",
        "origin.is=null",
        "origin.prefix=M",
        "key.origin=",
        "origin.prefix=quoted",
        "origin=JFK%27%20OR%20%271%27%3D%271",
    };
    char target[256];
    as(AIRPORTS);
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) {
        snprintf(target, sizeof target, "/v1/views/by_route/rows?%s", outside[i]);
        assert_rows(target, ROUTE_SQL "WHERE false", 0);
    }
    assert_rows("/v1/views/by_route/rows?origin.in=JFK,M%C3%BCnchen",
                ROUTE_SQL "WHERE origin = 'JFK' " ROUTE_ORDER, 5);
    assert_rows("/v1/views/by_route/rows?origin.is=not_null",
                ROUTE_SQL "WHERE " IN_AIRPORTS ROUTE_ORDER, 10);
    assert_rows(
        "/v1/views/by_route/rows?origin.prefix=", ROUTE_SQL "WHERE " IN_AIRPORTS ROUTE_ORDER, 10);
    /* Without the key in the answer it still chooses what is summed up. */
    assert_rows("/v1/views/by_route/rows?group_by=&granularity=all&measures=trips",
                "SELECT NULL AS window_start, NULL AS window_end, sum(trips)::bigint AS trips, "
                "bool_or(provisional) AS provisional"
                " FROM dovetail.by_route WHERE " IN_AIRPORTS,
                0);
    assert_rows(
        "/v1/views/by_route/rows?group_by=destination&granularity=all&measures=trips",
        "SELECT NULL AS window_start, NULL AS window_end, destination, sum(trips)::bigint AS trips,"
        " bool_or(provisional) AS provisional FROM dovetail.by_route WHERE " IN_AIRPORTS
        " GROUP BY destination ORDER BY destination COLLATE \"C\"",
        0);
    assert_rows("/v1/views/by_route/rows?group_by=origin&granularity=all&measures=trips"
                "&order=-trips,origin&limit=5&having=trips%3E0",
                "SELECT NULL AS window_start, NULL AS window_end, origin, sum(trips)::bigint AS "
                "trips, bool_or(provisional) AS provisional"
                " FROM dovetail.by_route WHERE " IN_AIRPORTS
                " GROUP BY origin ORDER BY sum(trips) DESC, origin COLLATE \"C\"",
                0);
}

static int64_t number_of(const char *sql)
{
    PGresult *result = NULL;
    assert_status(STATUS_OK, postgres_query(postgres, sql, 0, NULL, &result, &error));
    int64_t number = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return number;
}

/* What the layers have is theirs, too; and what explain tells was counted behind the scope. */
static void test_layers_and_explain(void **state)
{
    (void)state;
    as(AIRPORTS);
    int64_t batch = 0;
    int64_t speed = 0;
    static const char *const layers[] = {"batch", "speed"};
    for (size_t i = 0; i < 2; i++) {
        char target[160];
        snprintf(target, sizeof target,
                 "/v1/views/by_route/rows?layer=%s&group_by=&granularity=all&measures=trips",
                 layers[i]);
        json_t *json = get_json(target);
        json_t *row = json_array_get(json_object_get(json, "rows"), 0);
        *(i == 0 ? &batch : &speed) = json_integer_value(json_object_get(row, "trips"));
        json_decref(json);
    }
    assert_int_equal(batch + speed,
                     number_of("SELECT sum(trips) FROM dovetail.by_route WHERE " IN_AIRPORTS));
    json_t *json = get_json("/v1/views/by_route/rows?explain=1&group_by=&granularity=all");
    json_t *explain = json_object_get(json, "explain");
    assert_non_null(explain);
    int64_t read = 0;
    const char *name;
    json_t *value;
    json_t *layers_read = json_object_get(explain, "rows_read");
    assert_int_equal(json_object_size(layers_read), 2);
    json_object_foreach (layers_read, name, value)
        read += json_integer_value(value);
    int64_t visible =
        number_of("SELECT (SELECT count(*) FROM dovetail_internal.batch_1 WHERE _run_from <= 1"
                  " AND _run_to > 1 AND " IN_AIRPORTS ") + (SELECT count(*) FROM"
                  " dovetail_internal.speed_1 WHERE _slice_start >="
                  " CASE _partition WHEN 0 THEN 150 ELSE 1100 END AND " IN_AIRPORTS ")");
    assert_int_equal(read, visible);
    json_decref(json);
}

static void assert_only_airports(const char *accept)
{
    char headers[256];
    snprintf(headers, sizeof headers, "Accept: %s\r\nAuthorization: Bearer " AIRPORTS "\r\n",
             accept);
    more_headers = headers;
    struct reply reply = get("/v1/views/by_route/rows");
    assert_int_equal(reply.status, 200);
    assert_non_null(strstr(reply.body, "JFK"));
    static const char *const others[] = {"日本", "München", "quoted", "back"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strstr(reply.body, others[i]) != NULL)
            fail_msg("%s: %s is in %s", accept, others[i], reply.body);
    free(reply.text);
    as_nobody();
}

static void test_formats(void **state)
{
    (void)state;
    assert_only_airports("application/json");
    assert_only_airports("application/x-ndjson");
    assert_only_airports("text/csv");
}

static void test_cursors(void **state)
{
    (void)state;
    char target[4096] = "/v1/views/by_route/rows?limit=3";
    int64_t seen = 0;
    as(AIRPORTS);
    for (bool more = true; more;) {
        json_t *json = get_json(target);
        json_t *row;
        size_t i;
        json_array_foreach (json_object_get(json, "rows"), i, row) {
            const char *origin = text_at(row, "origin");
            assert_true(strcmp(origin, "JFK") == 0 || strcmp(origin, "O'Hare") == 0);
            seen++;
        }
        json_t *next = json_object_get(json_object_get(json, "page"), "next");
        more = json_is_string(next);
        if (more)
            snprintf(target, sizeof target, "/v1/views/by_route/rows?limit=3&cursor=%s",
                     json_string_value(next));
        json_decref(json);
    }
    assert_int_equal(seen, number_of("SELECT count(*) FROM dovetail.by_route WHERE " IN_AIRPORTS));
    /* One of another scope is another question's. */
    as(EVERYTHING);
    assert_problem(target, 400, "cursor", "another question");
}

static void test_etags(void **state)
{
    (void)state;
    static const char target[] = "/v1/views/by_route/rows?origin=JFK";
    char tags[2][64];
    static const char *const tokens[] = {AIRPORTS, JAPAN};
    for (size_t i = 0; i < 2; i++) {
        as(tokens[i]);
        struct reply reply = get(target);
        assert_int_equal(reply.status, 200);
        assert_true(has_header(&reply, "Vary: Accept, Accept-Encoding, Authorization\r\n"));
        /* Nor is an answer that is kept for the one given to the other. */
        assert_int_equal(strstr(reply.body, "JFK") != NULL, i == 0);
        const char *tag = strcasestr(reply.text, "ETag: ");
        assert_non_null(tag);
        snprintf(tags[i], sizeof tags[i], "%.*s", (int)strcspn(tag + 6, "\r"), tag + 6);
        free(reply.text);
    }
    assert_string_not_equal(tags[0], tags[1]);
    for (size_t i = 0; i < 2; i++) {
        char headers[256];
        snprintf(headers, sizeof headers,
                 "Authorization: Bearer " JAPAN "\r\nIf-None-Match: %s\r\n", tags[i]);
        more_headers = headers;
        assert_int_equal(status_of(target), i == 0 ? 200 : 304);
    }
    as_nobody();
}

/* A scope that does not fit is the operator's mistake: nothing is answered, and nothing shown. */
static void test_a_scope_that_does_not_fit(void **state)
{
    (void)state;
    as(BROKEN);
    struct reply reply = get("/v1/views/typed/rows");
    assert_int_equal(reply.status, 500);
    assert_null(strstr(reply.body, "soon"));
    free(reply.text);
}

/* --- programs --- */

/* Runs a program to its end; what it writes to stdout and stderr is in *output. */
static int run_program(const char *name, const char *const *arguments, char *output, size_t size)
{
    char program[512];
    int pipes[2];
    const char *build = getenv("DOVETAIL_BUILD");
    const char *argv[8] = {program};
    snprintf(program, sizeof program, "%s/%s", build != NULL ? build : "build", name);
    for (size_t i = 0; arguments[i] != NULL; i++)
        argv[i + 1] = arguments[i];
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(pipes[1], STDOUT_FILENO);
        dup2(pipes[1], STDERR_FILENO);
        close(pipes[0]);
        close(pipes[1]);
        execv(program, (char *const *)argv);
        _exit(127);
    }
    close(pipes[1]);
    size_t length = 0;
    for (ssize_t got; (got = stack_read(pipes[0], output + length, size - 1 - length)) > 0;) {
        length += (size_t)got;
        output[length] = '\0';
        if (strstr(output, "listening on") != NULL)
            kill(child, SIGTERM); /* a server that has come so far */
    }
    output[length] = '\0';
    close(pipes[0]);
    int exit_status = stack_reap(child, name);
    return WIFEXITED(exit_status) ? WEXITSTATUS(exit_status) : -1;
}

/* Starts a server of its own with these settings. */
static int try_server(const char *settings, char *output, size_t size)
{
    char path[128];
    snprintf(path, sizeof path, "%s/other.json", directory);
    json_t *json = json_pack("{s:{s:s}, s:s, s:s, s:o}", "kafka", "bootstrap.servers",
                             "127.0.0.1:1", "postgres", conninfo, "schemas", directory, "serving",
                             json_loads(settings, 0, NULL));
    assert_int_equal(json_dump_file(json, path, 0), 0);
    json_decref(json);
    const char *const arguments[] = {"--config", path, NULL};
    int code = run_program("dovetail-serving", arguments, output, size);
    unlink(path);
    return code;
}

static void test_addresses_that_are_not_loopback(void **state)
{
    (void)state;
    static const char *const wide[] = {"0.0.0.0:0", "[::]:0"};
    char settings[2048];
    char output[8192];
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++) {
        snprintf(settings, sizeof settings, "{\"listen\":\"%s\"}", wide[i]);
        int code = try_server(settings, output, sizeof output);
        if (code != 2 || strstr(output, "serving.listen") == NULL ||
            strstr(output, "serving.tokens") == NULL ||
            strstr(output, "serving.allow_unauthenticated") == NULL ||
            strstr(output, "listening") != NULL)
            fail_msg("%s: %d %s", wide[i], code, output);
    }
    assert_int_equal(try_server("{\"listen\":\"0.0.0.0:0\",\"allow_unauthenticated\":true}", output,
                                sizeof output),
                     0);
    assert_non_null(strstr(output, "serving.allow_unauthenticated: whoever reaches"));
    snprintf(settings, sizeof settings, "{\"listen\":\"0.0.0.0:0\",%s", SETTINGS + 1);
    assert_int_equal(try_server(settings, output, sizeof output), 0);
    assert_non_null(strstr(output, "plain text"));
    assert_int_equal(try_server("{\"listen\":\"127.0.0.1:0\"}", output, sizeof output), 0);
    assert_null(strstr(output, "warning"));
    assert_int_equal(
        try_server("{\"listen\":\"127.0.0.1:0\",\"tokens\":[]}", output, sizeof output), 2);
    assert_non_null(strstr(output, "serving.tokens"));
}

static void test_new_tokens(void **state)
{
    (void)state;
    char first[128] = "";
    static const char *const arguments[] = {"token", "new", "grafana", "--admin", NULL};
    for (int i = 0; i < 2; i++) {
        char output[1024];
        char token[128];
        unsigned char hash[32];
        char hex[65];
        assert_int_equal(run_program("dovetail", arguments, output, sizeof output), 0);
        assert_int_equal(sscanf(output, "token: %127s\n", token), 1);
        assert_int_equal(strlen(token), strlen(EVERYTHING));
        assert_string_not_equal(token, first);
        snprintf(first, sizeof first, "%s", token);
        json_t *entry = json_loads(strstr(output, "entry: ") + 7, 0, NULL);
        assert_int_equal(EVP_Digest(token, strlen(token), hash, NULL, EVP_sha256(), NULL), 1);
        for (size_t b = 0; b < sizeof hash; b++)
            snprintf(hex + 2 * b, 3, "%02x", hash[b]);
        assert_string_equal(text_at(entry, "sha256"), hex);
        assert_string_equal(text_at(entry, "name"), "grafana");
        assert_string_equal(text_at(entry, "role"), "admin");
        json_decref(entry);
    }
    static const char *const bad[][6] = {{"token", "new", "a b", NULL},
                                         {"token", "new", "a", "--write", "Or ders", NULL},
                                         {"token", "new", "a", "--write", "", NULL}};
    char output[1024];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(run_program("dovetail", bad[i], output, sizeof output), 2);
    /* One that sends sees nothing. */
    static const char *const sender[] = {"token", "new", "shop", "--write", "orders", NULL};
    assert_int_equal(run_program("dovetail", sender, output, sizeof output), 0);
    assert_non_null(strstr(output, "\"views\":[]"));
    assert_non_null(strstr(output, "\"write\":[\"orders\"]"));
}

static int set_up_with_tokens(void **state)
{
    more_settings = SETTINGS;
    return set_up(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_token_is_needed),
        cmocka_unit_test(test_a_wrong_token_is_none),
        cmocka_unit_test(test_roles),
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_live),
        cmocka_unit_test(test_rows_cannot_be_widened),
        cmocka_unit_test(test_layers_and_explain),
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_cursors),
        cmocka_unit_test(test_etags),
        cmocka_unit_test(test_a_scope_that_does_not_fit),
        cmocka_unit_test(test_addresses_that_are_not_loopback),
        cmocka_unit_test(test_new_tokens),
        cmocka_unit_test(test_live_streams_of_one_token), /* the last: its ends come late */
    };
    return cmocka_run_group_tests(tests, set_up_with_tokens, tear_down);
}
