/* dovetail-serving while things change: PostgreSQL goes away and comes back, versions of views
 * come, and the program is told to stop. */
#include "tests/support/trips_fixture.h"

/* --- PostgreSQL away and back --- */

static void terminate_backends(void)
{
    assert_status(STATUS_OK,
                  postgres_executef(admin, &error,
                                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                                    " WHERE datname = '%s' AND application_name ="
                                    " 'dovetail-serving'",
                                    database));
    usleep(100 * 1000);
}

static void test_lost_connections_are_renewed(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        terminate_backends();
        json_decref(get_json("/v1/views/by_route/rows?limit=1"));
        terminate_backends();
        json_decref(get_json("/v1/views"));
        terminate_backends();
        json_decref(get_json("/v1/status"));
    }
}

static void test_postgres_away_and_back(void **state)
{
    (void)state;
    assert_status(
        STATUS_OK,
        postgres_executef(admin, &error, "ALTER DATABASE %s ALLOW_CONNECTIONS false", database));
    terminate_backends();
    assert_problem("/v1/views/by_route/rows?limit=1", 503, NULL, "PostgreSQL is away");
    assert_problem("/v1/views", 503, NULL, "PostgreSQL is away");
    assert_problem("/v1/status", 503, NULL, "PostgreSQL is away");
    assert_problem("/readyz", 503, NULL, "PostgreSQL is away");
    struct reply reply = get("/readyz");
    assert_true(has_header(&reply, "Retry-After: 1\r\n"));
    free(reply.text);
    reply = get("/livez");
    assert_int_equal(reply.status, 200);
    free(reply.text);
    reply = get("/metrics");
    assert_non_null(strstr(reply.body, "\ndovetail_postgres_up 0\n"));
    free(reply.text);
    reply = get("/");
    assert_int_equal(reply.status, 200);
    free(reply.text);
    assert_status(
        STATUS_OK,
        postgres_executef(admin, &error, "ALTER DATABASE %s ALLOW_CONNECTIONS true", database));
    usleep(300 * 1000);
    json_decref(get_json("/v1/views/by_route/rows?limit=1"));
    reply = get("/readyz");
    assert_int_equal(reply.status, 200);
    free(reply.text);
}

/* Where the database is and who we are to it is the operator's to know. */
static void assert_secret(const char *target)
{
    char port_text[16];
    const char *at = strstr(conninfo, "port=");
    assert_non_null(at);
    snprintf(port_text, sizeof port_text, "%d", atoi(at + 5));
    struct reply reply = get(target);
    assert_int_equal(reply.status, 503);
    const char *const secrets[] = {port_text, "127.0.0.1", "host", "user", "FATAL", database};
    for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++)
        if (strstr(reply.body, secrets[i]) != NULL)
            fail_msg("%s tells \"%s\": %s", target, secrets[i], reply.body);
    free(reply.text);
}

/* The program's messages until one has `text`. */
static void assert_logged(const char *text)
{
    char messages[16384];
    size_t length = 0;
    messages[0] = '\0';
    while (strstr(messages, text) == NULL) {
        struct pollfd wait = {.fd = server_messages, .events = POLLIN};
        if (length + 1 == sizeof messages || poll(&wait, 1, STACK_WAIT_MS) != 1)
            fail_msg("not logged: %s\n%s", text, messages);
        ssize_t got = read(server_messages, messages + length, sizeof messages - 1 - length);
        assert_true(got > 0);
        length += (size_t)got;
        messages[length] = '\0';
    }
}

static void test_connection_details_stay_in_the_log(void **state)
{
    (void)state;
    assert_status(
        STATUS_OK,
        postgres_executef(admin, &error, "ALTER DATABASE %s ALLOW_CONNECTIONS false", database));
    terminate_backends();
    assert_secret("/v1/views/by_route/rows?limit=1");
    assert_secret("/v1/views");
    assert_secret("/v1/status");
    assert_secret("/readyz");
    assert_logged("is not currently accepting connections");
    assert_status(
        STATUS_OK,
        postgres_executef(admin, &error, "ALTER DATABASE %s ALLOW_CONNECTIONS true", database));
    usleep(300 * 1000);
    json_decref(get_json("/v1/views"));
    assert_logged("PostgreSQL is back");
}

/* --- new versions --- */

static void register_view(const char *text)
{
    struct catalog *catalog = NULL;
    struct view *view = NULL;
    enum catalog_change change;
    assert_status(STATUS_OK, catalog_load(postgres, &catalog, &error));
    json_t *json = json_loads(text, 0, NULL);
    assert_status(STATUS_OK,
                  view_create(json, "test", catalog_source(catalog, "trips"), &view, &error));
    execute("BEGIN");
    assert_status(STATUS_OK, catalog_register_view(postgres, view, &change, &error));
    assert_status(STATUS_OK, catalog_promote(postgres, &error));
    execute("COMMIT");
    json_decref(json);
    view_destroy(view);
    catalog_destroy(catalog);
}

static const char young_json[] = "{\"view\": \"young\", \"source\": \"trips\","
                                 " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"},"
                                 " \"measures\": {\"trips\": \"count(*)\"}}";
static const char changed_json[] = "{\"view\": \"typed\", \"source\": \"trips\","
                                   " \"group_by\": [\"late\"],"
                                   " \"window\": {\"type\": \"tumbling\", \"size\": \"1d\"},"
                                   " \"measures\": {\"how_many\": \"count(*)\"}}";

/* A view without keys, and a changed one: both are built by the next run. */
static void test_building_versions(void **state)
{
    (void)state;
    register_view(young_json);
    register_view(changed_json);
    assert_problem("/v1/views/young/rows", 503, NULL, "being built");
    json_t *json = get_json("/v1/views/young");
    assert_string_equal(text_at(json, "state"), "building");
    assert_true(json_is_false(json_object_get(json, "readable")));
    json_decref(json);
    json = get_json("/v1/views/typed/rows?limit=1"); /* the old version */
    assert_non_null(json_object_get(json_array_get(json_object_get(json, "rows"), 0), "trips"));
    json_decref(json);
}

/* The request after the publication has the new version, without a restart. */
static void test_published_versions(void **state)
{
    (void)state;
    struct catalog *catalog = NULL;
    execute("BEGIN;"
            "INSERT INTO dovetail_internal.run (run, state, reason) VALUES (2, 'published', 'x');"
            "INSERT INTO dovetail_internal.run_cutoff VALUES"
            " (2, 'trips', 0, 250, now(), '2001-01-03 07:30Z'),"
            " (2, 'trips', 1, 1250, now(), '2001-01-03 08:30Z');"
            "UPDATE dovetail_internal.current_run SET run = 2");
    assert_status(STATUS_OK, catalog_load(postgres, &catalog, &error));
    for (size_t i = 0; i < catalog->version_count; i++) {
        const struct catalog_version *version = &catalog->versions[i];
        assert_status(STATUS_OK, catalog_mark_built(postgres, version->version, 2, &error));
        if (version->state == CATALOG_BUILDING) {
            char table[CATALOG_NAME_BYTES];
            catalog_batch_table(version->version, table);
            assert_status(STATUS_OK,
                          postgres_executef(postgres, &error,
                                            "INSERT INTO %s (_run_from, window_start, %s)"
                                            " VALUES (2, '2001-01-01Z', 7)",
                                            table, version->view->measures[0].name));
        }
    }
    assert_status(STATUS_OK, catalog_promote(postgres, &error));
    execute("COMMIT");
    assert_rows("/v1/views/typed/rows",
                "SELECT '2001-01-01T00:00:00Z' AS window_start,"
                " '2001-01-02T00:00:00Z' AS window_end, NULL AS late, 7 AS how_many,"
                " false AS provisional",
                1);
    assert_rows("/v1/views/young/rows",
                "SELECT '2001-01-01T00:00:00Z' AS window_start,"
                " '2001-01-01T01:00:00Z' AS window_end, 7 AS trips, false AS provisional",
                1);
    assert_problem("/v1/views/typed/rows?measures=trips", 400, "measures", "how_many");
    /* Back to run 1: the new versions have no rows for it. */
    execute("UPDATE dovetail_internal.current_run SET run = 1");
    assert_problem("/v1/views/young/rows", 503, NULL, "being built");
    json_t *json = get_json("/v1/views/young");
    assert_true(json_is_false(json_object_get(json, "readable")));
    json_decref(json);
    catalog_destroy(catalog);
}

/* --- the end --- */

static void test_stop_finishes_requests(void **state)
{
    (void)state;
    int status = 0;
    int fd = send_request(
        "GET", "/v1/views/by_route/rows?limit=1&wait_ms=30000&at_least={%22trips%22:[251]}");
    usleep(100 * 1000);
    assert_int_equal(kill(server_pid, SIGTERM), 0);
    struct reply reply = receive(fd);
    assert_int_equal(reply.status, 503);
    assert_non_null(strstr(reply.body, "stopping"));
    free(reply.text);
    status = stack_reap(server_pid, "dovetail-serving");
    server_pid = 0;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lost_connections_are_renewed),
        cmocka_unit_test(test_postgres_away_and_back),
        cmocka_unit_test(test_connection_details_stay_in_the_log),
        cmocka_unit_test(test_building_versions),
        cmocka_unit_test(test_published_versions),
        cmocka_unit_test(test_stop_finishes_requests),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
