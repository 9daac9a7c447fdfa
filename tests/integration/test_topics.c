/* What a topic's settings in Kafka must be: every program refuses a compacted one, because the same
 * offsets would have other records later. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/broker.h"
#include "tests/support/deployment.h"
#include "tests/support/stack.h"

static struct deployment *deployment;

static int set_up(void **state)
{
    (void)state;
    deployment = deployment_create();
    deployment_define_source(deployment,
                             "{\"source\": \"orders\", \"event_time\": {\"field\": \"t\","
                             " \"format\": \"epoch_s\"}, \"fields\": {\"t\": \"integer\"}}");
    deployment_define_view(deployment, "{\"view\": \"orders_by_hour\", \"source\": \"orders\","
                                       " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"},"
                                       " \"measures\": {\"n\": \"count(*)\"}}");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    deployment_destroy(deployment);
    deployment = NULL;
    return 0;
}

static const char *topic(void)
{
    return deployment_topic(deployment, "orders");
}

static void expect_refusal(struct child *child, const char *name, const char *policy)
{
    const char *errors = child_errors(child);
    if (strstr(errors, name) == NULL || strstr(errors, "cleanup.policy") == NULL ||
        strstr(errors, policy) == NULL || strstr(errors, "cleanup.policy=delete") == NULL)
        fail_msg("not the refusal of %s: %s", name, errors);
}

static void test_init_refuses_compacted_topics(void **state)
{
    (void)state;
    static const char *const policies[] = {"compact", "compact,delete"};
    char dead[160];
    broker_create_topic(topic(), 1);
    for (size_t i = 0; i < 2; i++) {
        broker_set_topic(topic(), "cleanup.policy", policies[i]);
        expect_refusal(deployment_run(deployment, 2, "dovetail", "init", NULL), topic(), "compact");
    }
    assert_int_equal(deployment_number(deployment, "SELECT count(*) FROM dovetail_internal.source"),
                     0);
    broker_set_topic(topic(), "cleanup.policy", "delete");
    snprintf(dead, sizeof dead, "%s.dead", topic());
    broker_set_topic(dead, "cleanup.policy", "compact");
    expect_refusal(deployment_run(deployment, 2, "dovetail", "init", NULL), dead, "compact");
    broker_set_topic(dead, "cleanup.policy", "delete");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
}

/* Somebody changes the setting later. */
static void test_layers_refuse_compacted_topics(void **state)
{
    (void)state;
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    broker_set_topic(topic(), "cleanup.policy", "compact");
    expect_refusal(deployment_run(deployment, 2, "dovetail-batch", "run", NULL), topic(),
                   "compact");
    expect_refusal(deployment_run(deployment, 2, "dovetail-speed", NULL), topic(), "compact");
    broker_set_topic(topic(), "cleanup.policy", "delete");
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
}

/* Who may not know goes on, and is told which permission would tell. */
static void test_settings_that_may_not_be_read(void **state)
{
    (void)state;
    struct child *children[3];
    broker_create_topic(topic(), 1);
    broker_forbid_settings(topic());
    children[0] = deployment_run(deployment, 0, "dovetail", "init", NULL);
    children[1] = deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    children[2] = deployment_start(deployment, "dovetail-speed", NULL);
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    while (deployment_number(deployment, "SELECT count(*) FROM dovetail_internal.position"
                                         " WHERE owner IS NOT NULL") != 1) {
        assert_true(stack_now_ms() < end_ms);
        children_must_run(&children[2], 1);
        stack_sleep_ms(20);
    }
    child_stop(children[2]);
    for (int i = 0; i < 3; i++) {
        const char *errors = child_errors(children[i]);
        if (strstr(errors, "warning") == NULL || strstr(errors, topic()) == NULL ||
            strstr(errors, "DescribeConfigs") == NULL || strstr(errors, "cleanup.policy") == NULL)
            fail_msg("no warning: %s", errors);
    }
}

static int tear_down_permissions(void **state)
{
    broker_permit_settings(topic());
    return tear_down(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_init_refuses_compacted_topics, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_layers_refuse_compacted_topics, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_settings_that_may_not_be_read, set_up,
                                        tear_down_permissions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
