/* dovetail generate: what it makes fits the source, but for what is asked to be bad; the same seed
 * makes the same; and what it says it sent is in the topic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/broker.h"
#include "tests/support/deployment.h"
#include "tests/support/stack.h"

static struct deployment *deployment;

/* Every type, nested paths, an id, a field that is computed, and two fields that read one path. */
static const char source_json[] =
    "{\"source\": \"readings\", \"partitions\": 2,"
    " \"event_time\": {\"field\": \"at\", \"format\": \"epoch_ms\"},"
    " \"fields\": {\"at\": {\"type\": \"integer\", \"path\": \"meta.at\"},"
    "  \"instant\": {\"type\": \"timestamp\", \"format\": \"epoch_ms\", \"path\": \"meta.at\"},"
    "  \"id\": {\"type\": \"string\", \"path\": \"meta.id\"}, \"sensor\": \"string\","
    "  \"value\": \"decimal\", \"steps\": \"integer\", \"ok\": \"boolean\","
    "  \"label\": {\"type\": \"string\", \"nullable\": true, \"path\": [\"a.b\", \"c\"]},"
    "  \"seen\": {\"type\": \"timestamp\", \"nullable\": true}},"
    " \"derive\": {\"ratio\": \"value / steps\"},"
    " \"dedupe\": {\"field\": \"id\", \"within\": 100000}}";

static const char view_json[] =
    "{\"view\": \"by_sensor\", \"source\": \"readings\", \"group_by\": [\"sensor\"],"
    " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}, \"measures\": {\"n\": \"count(*)\"}}";

static int64_t topic_size(void)
{
    const char *topic = deployment_topic(deployment, "readings");
    return broker_end(topic, 0) + broker_end(topic, 1);
}

static const char *generate_print(const char *seed, const char *count, const char *bad)
{
    struct child *child = deployment_run(
        deployment, 0, "dovetail", "generate", "readings", "--print", "--start", "2026-01-05",
        "--seed", seed, "--count", count, "--bad", bad, "--late", "20%", "--keys", "5", NULL);
    return child_output(child);
}

static void test_the_same_seed_makes_the_same(void **state)
{
    (void)state;
    const char *first = generate_print("17", "300", "10");
    const char *second = generate_print("17", "300", "10");
    const char *other = generate_print("18", "300", "10");
    assert_true(strlen(first) > 300 * 50);
    assert_string_equal(first, second);
    assert_string_not_equal(first, other);
}

static void test_values_are_of_their_fields(void **state)
{
    (void)state;
    const int64_t start_ms = INT64_C(1767571200000);
    bool seen[6] = {false};
    bool was_null = false;
    int late = 0;
    int count = 0;
    for (const char *line = generate_print("19", "2000", "0"); *line != '\0'; count++) {
        size_t length = strcspn(line, "\n");
        json_t *event = json_loadb(line, length, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(event);
        json_t *meta = json_object_get(event, "meta");
        int64_t at_ms = json_integer_value(json_object_get(meta, "at"));
        const char *sensor = json_string_value(json_object_get(event, "sensor"));
        int number = 0;
        assert_int_equal(sscanf(sensor, "sensor-%d", &number), 1);
        assert_in_range(number, 1, 5);
        seen[number] = true;
        assert_true(json_is_real(json_object_get(event, "value")));
        assert_true(json_is_integer(json_object_get(event, "steps")));
        assert_true(json_is_boolean(json_object_get(event, "ok")));
        was_null = was_null || json_is_null(json_object_get(event, "seen"));
        assert_in_range(at_ms, start_ms - 3601000, start_ms + 20000); /* 100 a second */
        late += at_ms < start_ms + count * 10;
        json_decref(event);
        line += length + 1;
    }
    assert_int_equal(count, 2000);
    for (int i = 1; i <= 5; i++)
        assert_true(seen[i]);
    assert_true(was_null);
    assert_in_range(late, 300, 500); /* 20 %, of a fixed seed */
}

/* The summary's numbers are the ledger's. */
static void test_what_is_sent(void **state)
{
    (void)state;
    long long made, acknowledged, late, bad, repeated;
    int64_t before = topic_size();
    struct child *child = deployment_run(
        deployment, 0, "dovetail", "generate", "readings", "--rate", "0", "--count", "3000",
        "--bad", "5", "--late", "10", "--duplicates", "7.5%", "--key", "sensor", "--offsets", NULL);
    if (sscanf(child_output(child),
               "generated %lld events, %lld acknowledged: %lld late, %lld bad, %lld repeated; seed",
               &made, &acknowledged, &late, &bad, &repeated) != 5)
        fail_msg("%s", child_output(child));
    assert_non_null(strstr(child_output(child), "{\""));
    assert_int_equal(made, 3000);
    assert_int_equal(acknowledged, 3000);
    assert_int_equal(topic_size(), before + 3000);
    assert_true(bad > 0 && late > 0 && repeated > 0);
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    while (deployment_number(deployment,
                             "SELECT sum(next_offset)::bigint FROM dovetail_internal.position") <
           topic_size()) {
        assert_true(stack_now_ms() < end_ms);
        stack_sleep_ms(50);
    }
    assert_int_equal(deployment_number(deployment, "SELECT sum(dead_lettered)::bigint FROM "
                                                   "dovetail_internal.position"),
                     bad);
    assert_int_equal(deployment_number(deployment, "SELECT sum(duplicate)::bigint FROM "
                                                   "dovetail_internal.position"),
                     repeated);
    child_stop(speed);
}

static void test_ends(void **state)
{
    (void)state;
    long long made, acknowledged;
    int64_t before = topic_size();
    struct child *child = deployment_run(deployment, 0, "dovetail", "generate", "readings",
                                         "--rate", "40", "--duration", "500ms", NULL);
    assert_int_equal(sscanf(child_output(child), "generated %lld events, %lld acknowledged", &made,
                            &acknowledged),
                     2);
    assert_in_range(made, 1, 21);
    assert_int_equal(topic_size(), before + made);
    /* And on SIGTERM, with all that was made. */
    before = topic_size();
    child = deployment_start(deployment, "dovetail", "generate", "readings", "--rate", "200", NULL);
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    while (topic_size() < before + 10 && stack_now_ms() < end_ms)
        stack_sleep_ms(20);
    child_stop(child);
    assert_int_equal(sscanf(child_output(child), "generated %lld events, %lld acknowledged", &made,
                            &acknowledged),
                     2);
    assert_int_equal(made, acknowledged);
    assert_int_equal(topic_size(), before + made);
}

static void test_arguments(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"--rate", "-1"},    {"--rate", "x"},        {"--count", "0"}, {"--late", "101"},
        {"--late", "5%%"},   {"--bad", "-1"},        {"--bad", "1e1"}, {"--keys", "0"},
        {"--duration", "5"}, {"--start", "tuesday"}, {"--seed", "-1"}, {"--key", "nothing"},
        {"extra", "extra"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        deployment_run(deployment, 2, "dovetail", "generate", "readings", bad[i][0], bad[i][1],
                       NULL);
    deployment_run(deployment, 2, "dovetail", "generate", NULL);
    deployment_run(deployment, 2, "dovetail", "generate", "nothing", NULL);
    deployment_run(deployment, 2, "dovetail", "generate", "readings", "--print", "--offsets", NULL);
    /* A source that no record fits. */
    deployment_write(deployment, "schemas/sources/odd.json",
                     "{\"source\": \"odd\", \"topic\": \"odd\", \"event_time\": {\"field\": "
                     "\"at\", \"format\": \"rfc3339\"}, \"fields\": {\"at\": \"timestamp\", \"a\": "
                     "\"string\", \"b\": {\"type\": \"string\", \"path\": \"a.b\"}}}");
    struct child *child = deployment_run(deployment, 2, "dovetail", "generate", "odd", "--print",
                                         "--count", "1", NULL);
    assert_non_null(strstr(child_errors(child), "no record can have field"));
    deployment_write(deployment, "schemas/sources/odd.json",
                     "{\"source\": \"odd\", \"topic\": \"odd\", \"event_time\": {\"field\": "
                     "\"at\", \"format\": \"rfc3339\"}, \"fields\": {\"at\": \"timestamp\", \"a\": "
                     "\"integer\"}, \"derive\": {\"b\": \"a / 0\"}}");
    child = deployment_run(deployment, 2, "dovetail", "generate", "odd", "--print", "--count", "1",
                           NULL);
    assert_non_null(strstr(child_errors(child), "refuses what is made for it"));
    deployment_remove(deployment, "schemas/sources/odd.json");
}

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_same_seed_makes_the_same),
        cmocka_unit_test(test_values_are_of_their_fields),
        cmocka_unit_test(test_what_is_sent),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_arguments),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
