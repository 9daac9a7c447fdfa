/* The pages of metrics of the speed and the batch layer: what they say of records that the test
 * knows, by the conventions of Prometheus, on loopback unless told otherwise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/clock.h"
#include "tests/support/deployment.h"
#include "tests/support/http.h"
#include "tests/support/promtool.h"
#include "tests/support/stack.h"

static struct deployment *deployment;

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    deployment_define_source(
        deployment, "{\"source\": \"orders\", \"partitions\": 1, \"event_time\":"
                    " {\"field\": \"t\", \"format\": \"epoch_s\"}, \"dedupe\": {\"field\": \"id\","
                    " \"within\": 100}, \"fields\": {\"t\": \"integer\", \"id\": \"string\","
                    " \"shop\": \"string\", \"n\": {\"type\": \"integer\", \"nullable\": true}}}");
    deployment_define_view(deployment,
                           "{\"view\": \"sums\", \"source\": \"orders\", \"group_by\": [\"shop\"],"
                           " \"where\": \"shop <> 'none'\", \"measures\": {\"v\": \"sum(10 / n)\"},"
                           " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"}}");
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

/* Where its log says that the page is. */
static struct http_session *open_page(struct child *child)
{
    static const char told[] = "metrics at http://127.0.0.1:";
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    const char *at;
    while ((at = strstr(child_errors(child), told)) == NULL) {
        assert_true(stack_now_ms() < end_ms);
        children_must_run(&child, 1);
        stack_sleep_ms(20);
    }
    return http_session_create(atoi(at + sizeof told - 1));
}

/* Waits until the page has all of the lines; "%s" in one is the topic. The caller frees it. */
static char *await_lines(struct http_session *http, const char *const *lines, size_t count)
{
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    for (;;) {
        struct http_reply reply;
        http_get(http, "/metrics", &reply);
        assert_int_equal(reply.status, 200);
        const char *missing = NULL;
        char line[300];
        for (size_t i = 0; i < count && missing == NULL; i++) {
            char *with = line;
            with += sprintf(with, "\n");
            for (const char *c = lines[i]; *c != '\0'; c++)
                with += *c == '@' ? sprintf(with, "%s", deployment_topic(deployment, "orders"))
                                  : sprintf(with, "%c", *c);
            sprintf(with, "\n");
            if (strstr(reply.body, line) == NULL)
                missing = line;
        }
        if (missing == NULL) {
            char *copy = strdup(reply.body);
            http_reply_free(&reply);
            return copy;
        }
        if (stack_now_ms() > end_ms) {
            children_show();
            fail_msg("no line \"%s\" in %s", missing + 1, reply.body);
        }
        http_reply_free(&reply);
        stack_sleep_ms(50);
    }
}

static double value_of(const char *page, const char *name)
{
    char begin[120];
    snprintf(begin, sizeof begin, "\n%s ", name);
    const char *at = strstr(page, begin);
    if (at == NULL)
        fail_msg("no %s in %s", name, page);
    return atof(at + strlen(begin));
}

static void produce(const char *events)
{
    char path[100];
    snprintf(path, sizeof path, "%s/events", deployment->directory);
    deployment_write(deployment, "events", events);
    deployment_run(deployment, 0, "dovetail", "produce", "orders", path, NULL);
}

static const char events[] = "{\"t\": 1, \"id\": \"a\", \"shop\": \"x\", \"n\": 2}\n"
                             "{\"t\": 1, \"id\": \"b\", \"shop\": \"x\", \"n\": 5}\n"
                             "{\"t\": 1, \"id\": \"c\", \"shop\": \"y\"}\n"
                             "{\"t\": 1, \"id\": \"d\", \"shop\": \"none\", \"n\": 5}\n"
                             "{\"t\": 1, \"id\": \"a\", \"shop\": \"x\", \"n\": 2}\n" /* again */
                             "{\"t\": 1, \"id\": \"e\", \"shop\": \"x\", \"n\": 0}\n" /* 10 / 0 */
                             "{\"t\": 1, \"id\": \"f\"}\n"                            /* no shop */
                             "{\"t\": 1, \"id\": \"g\", \"shop\": null}\n"
                             "{\"t\": 1, \"id\": \"h\", \"shop\": 7}\n"
                             "{\"t\": 1, \"id\": \"i\", \"shop\": \"x\", \"n\": 1e99}\n"
                             "{\"t\": 9223372036854775807, \"id\": \"j\", \"shop\": \"x\"}\n"
                             "[1]\n";

static void test_speed(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "dovetail_speed_records_total{outcome=\"consumed\"} 12",
        "dovetail_speed_records_total{outcome=\"counted\"} 3",
        "dovetail_speed_records_total{outcome=\"filtered\"} 1",
        "dovetail_speed_records_total{outcome=\"duplicate\"} 1",
        "dovetail_speed_records_total{outcome=\"dead_lettered\"} 7",
        "dovetail_dead_letters_total{reason=\"not_json\"} 1",
        "dovetail_dead_letters_total{reason=\"missing\"} 2",
        "dovetail_dead_letters_total{reason=\"type\"} 2",
        "dovetail_dead_letters_total{reason=\"value\"} 1",
        "dovetail_dead_letters_total{reason=\"view\"} 1",
        "dovetail_dead_letters_total{reason=\"too_large\"} 0",
        "dovetail_speed_read_offset{topic=\"@\",partition=\"0\"} 12",
        "dovetail_log_end_offset{topic=\"@\",partition=\"0\"} 12",
        "dovetail_consumer_lag_records{topic=\"@\",partition=\"0\"} 0",
        "dovetail_speed_halted{topic=\"@\",partition=\"0\"} 0",
        "dovetail_speed_read_records_total 12",
        "dovetail_flush_failures_total{reason=\"fenced\"} 0",
        "dovetail_speed_paused 0",
    };
    deployment_set(deployment, "speed", "metrics", json_string("127.0.0.1:0"));
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    struct http_session *http = open_page(speed);
    produce(events);
    char *page = await_lines(http, lines, sizeof lines / sizeof lines[0]);
    assert_true(value_of(page, "dovetail_speed_read_bytes_total") > 300);
    assert_true(value_of(page, "dovetail_flush_duration_seconds_count") >= 1);
    assert_true(value_of(page, "dovetail_flush_duration_seconds_sum") > 0);
    assert_true(value_of(page, "dovetail_flush_duration_seconds_bucket{le=\"+Inf\"}") >= 1);
    assert_true(value_of(page, "dovetail_flush_rows_total{kind=\"new\"}") >= 2);
    assert_non_null(strstr(page, "dovetail_speed_freshness_seconds{topic="));
    if (promtool_is_there())
        promtool_check(page);
    free(page);
    struct http_reply reply;
    http_get(http, "/", &reply);
    assert_int_equal(reply.status, 404);
    http_reply_free(&reply);
    http_session_destroy(http);
    child_stop(speed);
}

static void test_batch(void **state)
{
    (void)state;
    static const char *const archived[] = {
        "dovetail_archived_records_total 12",
        "dovetail_archive_read_offset{topic=\"@\",partition=\"0\"} 12",
        "dovetail_archive_halted{topic=\"@\",partition=\"0\"} 0",
        "dovetail_runs_total{result=\"failed\"} 0",
        "dovetail_refused_definitions 0",
        "dovetail_run_in_progress 0",
    };
    static const char *const published[] = {"dovetail_run_records_total 12"};
    deployment_set(deployment, "batch", "metrics", json_string("127.0.0.1:0"));
    deployment_set(deployment, "batch", "schedule", json_string("* * * * *"));
    produce(events);
    struct clock *clock = clock_create(deployment->directory, "clock");
    struct child *batch = clock_start(clock, "dovetail-batch", deployment->config, "schedule");
    struct http_session *http = open_page(batch);
    free(await_lines(http, archived, sizeof archived / sizeof archived[0]));
    clock_set(clock, 60); /* the next run is due */
    char *page = await_lines(http, published, 1);
    assert_true(value_of(page, "dovetail_runs_total{result=\"published\"}") >= 1);
    assert_true(value_of(page, "dovetail_run_stage_duration_seconds_count{stage=\"store\"}") >= 1);
    assert_true(value_of(page, "dovetail_archived_bytes_total") > 300);
    assert_true(value_of(page, "dovetail_next_run_timestamp_seconds") > 1e9);
    if (promtool_is_there())
        promtool_check(page);
    free(page);
    http_session_destroy(http);
    child_stop(batch);
    clock_destroy(clock);
}

static void expect_refusal(const char *section, const char *program, const char *command)
{
    char text[100];
    snprintf(text, sizeof text, "%s.metrics: 0.0.0.0:0 is no loopback address", section);
    deployment_set(deployment, section, "metrics", json_string("0.0.0.0:0"));
    struct child *child = deployment_run(deployment, 2, program, command, NULL);
    if (strstr(child_errors(child), text) == NULL)
        fail_msg("no \"%s\": %s", text, child_errors(child));
}

static void test_only_loopback(void **state)
{
    (void)state;
    expect_refusal("speed", "dovetail-speed", NULL);
    expect_refusal("batch", "dovetail-batch", "schedule");
    deployment_set(deployment, "speed", "metrics_allow_unauthenticated", json_true());
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    while (strstr(child_errors(speed), "metrics at http://0.0.0.0:") == NULL) {
        assert_true(stack_now_ms() < end_ms);
        children_must_run(&speed, 1);
        stack_sleep_ms(20);
    }
    child_stop(speed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_speed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_batch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_only_loopback, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
