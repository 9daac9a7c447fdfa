/* Kafka at the end of a bad line: one packet in twenty is lost, each needs a quarter of a second
 * there and as long back. PostgreSQL and the questions are near. Every answer is exact, and all
 * that was sent is counted in the end; also when the speed layer is killed, and a run copies the
 * log. DOVETAIL_SEED repeats events and questions. Skipped where no network namespaces are
 * permitted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/bad_link.h"
#include "tests/support/cluster.h"
#include "tests/support/orders.h"
#include "tests/support/stack.h"
#include "tests/support/traffic.h"

enum { DELAY_MS = 250, LOSS_PERMILLE = 50 };

static char directory[] = "/tmp/dovetail-badlink-XXXXXX";
static struct bad_link *line;
static struct cluster *cluster;
static struct deployment *deployment;
static struct traffic *traffic;
static struct traffic_options options = {.partitions = 2,
                                         .rate = 100,
                                         .readers = 1,
                                         .views = orders_views,
                                         .view_count = 1,
                                         .transactions = true,
                                         .dedupe_within = 50};

static int tear_down(void **state)
{
    (void)state;
    char command[100];
    traffic_destroy(traffic);
    deployment_destroy(deployment);
    cluster_stop(cluster);
    bad_link_destroy(line);
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command) == 0 ? 0 : -1;
}

static void a_line_that_loses_packets(void **state)
{
    (void)state;
    char reason[300];
    options.seed = stack_seed();
    line = bad_link_create(DELAY_MS, LOSS_PERMILLE, options.seed, reason, sizeof reason);
    if (line == NULL) {
        print_message("skipped: no network namespace can be made here: %s\n", reason);
        skip();
    }
    assert_non_null(mkdtemp(directory));
    const struct cluster_options far = {.nodes = 1,
                                        .protocol = "PLAINTEXT",
                                        .client_address = bad_link_address(line),
                                        .name_space = bad_link_name_space(line),
                                        .address = bad_link_good_address(line)};
    cluster = cluster_start(&far, directory);
    deployment = deployment_create();
    deployment_set(deployment, "kafka", "bootstrap.servers", json_string(cluster_clients(cluster)));
    traffic_define_with(deployment, &options);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_serve(deployment);
    traffic = traffic_start(deployment, &options);
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    traffic_await_answers(traffic, 50, &speed, 1);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    child_kill(speed);
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    traffic_await_end(traffic, &speed, 1);
    traffic_prove(traffic, deployment, &speed, 1);
    child_stop(speed);
    print_message("%" PRId64 " packets arrived, %" PRId64 " were lost\n", bad_link_passed(line),
                  bad_link_lost(line));
    assert_true(bad_link_lost(line) > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_line_that_loses_packets, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
