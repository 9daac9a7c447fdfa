/* The description of the HTTP interface, tested both ways: random requests by what /openapi.json
 * says may be sent, and by what it says may not, to a real server over real views; and every reply
 * judged by it (tests/openapi/requests.py). That the judge finds disagreements is shown with
 * planted ones. */
#include "tests/support/ingest_fixture.h"

#include <inttypes.h>

static const char rich_json[] =
    "{\"source\": \"orders\", \"partitions\": 3,"
    " \"event_time\": {\"field\": \"at\", \"format\": \"rfc3339\"},"
    " \"fields\": {\"at\": \"timestamp\", \"shop\": \"string\", \"amount\": \"decimal\","
    "  \"items\": {\"type\": \"integer\", \"nullable\": true}, \"ok\": \"boolean\"}}";

#define KEYS "\"group_by\": [\"shop\", \"ok\", {\"name\": \"size\", \"expr\": \"items / 100\"}],"
#define MEASURES                                                                                   \
    "\"measures\": {\"n\": \"count(*)\", \"total\": \"sum(amount)\", \"most\": \"max(items)\","    \
    " \"first\": \"min(shop)\", \"middle\": \"approx_percentile(amount, 0.5)\"}"

static const char *const views[] = {
    "{\"view\": \"sales\", \"source\": \"orders\"," KEYS
    " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}," MEASURES "}",
    "{\"view\": \"moving\", \"source\": \"orders\"," KEYS
    " \"window\": {\"type\": \"hopping\", \"size\": \"2h\", \"slide\": \"1h\"}," MEASURES "}",
    "{\"view\": \"visits\", \"source\": \"orders\"," KEYS
    " \"window\": {\"type\": \"session\", \"gap\": \"10m\"}," MEASURES "}",
};

/* Runs it with the exit code that is expected; shows what it found where that is another one. */
static void run_requests(uint64_t seed, int count, const char *plant, int expected)
{
    char port[16], number[32], many[16], source[128], events[128], logs[128];
    snprintf(port, sizeof port, "%d", deployment->port);
    snprintf(number, sizeof number, "%" PRIu64, seed);
    snprintf(many, sizeof many, "%d", count);
    snprintf(source, sizeof source, "%s/schemas/sources/orders.json", deployment->directory);
    snprintf(events, sizeof events, "%s/events", deployment->directory);
    snprintf(logs, sizeof logs, "%s/log", deployment->directory);
    const char *const argv[] = {"/usr/bin/python3",
                                "tests/openapi/requests.py",
                                "--port",
                                port,
                                "--seed",
                                number,
                                "--count",
                                many,
                                "--source",
                                source,
                                "--events",
                                events,
                                plant != NULL ? "--plant" : NULL,
                                plant,
                                NULL};
    struct child *child = child_start(logs, "requests", argv);
    int code = child_wait(child, 4 * STACK_WAIT_MS);
    if (code != expected || plant == NULL)
        printf("%s%s", child_output(child), child_errors(child)); /* however long it is */
    if (code != expected)
        fail_msg("%s: exit code %d, expected %d", plant != NULL ? plant : "", code, expected);
}

static void test_requests_and_replies(void **state)
{
    (void)state;
    run_requests(stack_seed() & INT64_MAX, 1500, NULL, 0);
}

static void test_planted_disagreements(void **state)
{
    (void)state;
    static const char *const plants[] = {"status", "type",      "required", "maximum",
                                         "enum",   "parameter", "media",    "method"};
    for (size_t i = 0; i < sizeof plants / sizeof plants[0]; i++)
        run_requests(1, 1500, plants[i], 3);
}

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    deployment_define_source(deployment, rich_json);
    for (size_t i = 0; i < sizeof views / sizeof views[0]; i++)
        deployment_define_view(deployment, views[i]);
    deployment_set(deployment, "serving", "ingest", json_true());
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    struct child *made = deployment_run(deployment, 0, "dovetail", "generate", "orders", "--print",
                                        "--count", "300", "--start", "2026-01-05", "--late", "50",
                                        "--lateness", "30h", "--keys", "3", "--seed", "5", NULL);
    deployment_write(deployment, "events", child_output(made));
    char path[128];
    snprintf(path, sizeof path, "%s/events", deployment->directory);
    deployment_run(deployment, 0, "dovetail", "produce", "orders", path, NULL);
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    deployment_run(deployment, 0, "dovetail", "produce", "orders", path, NULL);
    serve_anew();
    (void)speed; /* goes on: answers move while they are judged */
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_and_replies),
        cmocka_unit_test(test_planted_disagreements),
    };
    return cmocka_run_group_tests(tests, set_up, ingest_tear_down);
}
