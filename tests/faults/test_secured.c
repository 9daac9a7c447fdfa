/* A broker that speaks TLS, and asks who is there (SASL): the whole pipeline with librdkafka's
 * properties from dovetail.json, their secrets from the environment and from files. A wrong
 * password, or a certificate of somebody else, is an error that says so, in bounded time, and no
 * secret is in it. Needs the program openssl. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <librdkafka/rdkafka.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/cluster.h"
#include "tests/support/orders.h"
#include "tests/support/stack.h"
#include "tests/support/traffic.h"

#define PASSWORD "plain-secret-canary"
#define SCRAM_PASSWORD "scram-secret-canary"

static char directory[] = "/tmp/dovetail-secured-XXXXXX";
static struct cluster *cluster;
static struct deployment *deployment;
static struct traffic *traffic;
static struct child *speed;
static struct traffic_options options = {
    .partitions = 2, .rate = 200, .readers = 1, .transactions = true, .dedupe_within = 50};

/* An authority, a strange one, and the broker's key and certificate in one file. */
static void make_certificates(void)
{
    static const char script[] =
        "set -e; cd %s; exec > openssl.log 2>&1\n"
        "authority() { openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout $1.key -out $1.pem"
        " -subj /CN=$1; }\n"
        "authority ours; authority theirs\n"
        "openssl req -newkey rsa:2048 -nodes -keyout broker.key -out broker.csr -subj /CN=broker\n"
        "echo subjectAltName=IP:127.0.0.1 > broker.ext\n"
        "openssl x509 -req -in broker.csr -CA ours.pem -CAkey ours.key -CAcreateserial -days 2"
        " -extfile broker.ext -out broker.pem\n"
        "openssl pkcs8 -topk8 -nocrypt -in broker.key -out broker.pk8\n"
        "cat broker.pk8 broker.pem > store.pem\n"
        "printf %%s " SCRAM_PASSWORD " > password; printf %%s " PASSWORD " > plain\n";
    char command[2048];
    snprintf(command, sizeof command, script, directory);
    FILE *shell = popen("/bin/sh", "w");
    assert_non_null(shell);
    fputs(command, shell);
    if (pclose(shell) != 0)
        fail_msg("openssl could not make certificates: see %s/openssl.log", directory);
}

static int start_cluster(void **state)
{
    (void)state;
    static char properties[2000];
    if (mkdtemp(directory) == NULL)
        return -1;
    make_certificates();
    snprintf(properties, sizeof properties,
             "ssl.keystore.type=PEM\nssl.keystore.location=%s/store.pem\n"
             "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512\n"
             "listener.name.client.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512\n"
             "listener.name.client.plain.sasl.jaas.config="
             "org.apache.kafka.common.security.plain.PlainLoginModule required"
             " user_alice=\"" PASSWORD "\";\n"
             "listener.name.client.scram-sha-512.sasl.jaas.config="
             "org.apache.kafka.common.security.scram.ScramLoginModule required;\n",
             directory);
    const struct cluster_options secured = {
        .nodes = 1,
        .properties = properties,
        .protocol = "SASL_SSL",
        .scram = "SCRAM-SHA-512=[name=bob,password=" SCRAM_PASSWORD "]",
    };
    cluster = cluster_start(&secured, directory);
    setenv("DOVETAIL_TEST_PASSWORD", PASSWORD, 1);
    return 0;
}

static int stop_cluster(void **state)
{
    (void)state;
    char command[100];
    cluster_stop(cluster);
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command) == 0 ? 0 : -1;
}

static void set_kafka(const char *name, const char *value)
{
    deployment_set(deployment, "kafka", name, json_string(value));
}

static int set_up(void **state)
{
    (void)state;
    char path[100];
    deployment = deployment_create();
    set_kafka("bootstrap.servers", cluster_clients(cluster));
    set_kafka("security.protocol", "SASL_SSL");
    snprintf(path, sizeof path, "%s/ours.pem", directory);
    set_kafka("ssl.ca.location", path);
    set_kafka("sasl.mechanism", "PLAIN");
    set_kafka("sasl.username", "alice");
    set_kafka("sasl.password", "${DOVETAIL_TEST_PASSWORD}");
    traffic_define_with(deployment, &options);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    traffic_destroy(traffic);
    deployment_destroy(deployment);
    traffic = NULL;
    deployment = NULL;
    speed = NULL;
    return 0;
}

static void expect_no_secret(struct child *child)
{
    assert_null(strstr(child_errors(child), "secret-canary"));
    assert_null(strstr(child_output(child), "secret-canary"));
}

static void pipeline(void)
{
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_serve(deployment);
    options.seed = stack_seed();
    traffic = traffic_start(deployment, &options);
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    traffic_await_answers(traffic, 20, &speed, 1);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    traffic_prove(traffic, deployment, &speed, 1);
    child_stop(speed);
    expect_no_secret(speed);
}

static void plain_with_a_password_of_the_environment(void **state)
{
    (void)state;
    pipeline();
}

/* librdkafka sends a nonce in SCRAM that brokers from Kafka 4.0 on refuse, until 2.6.1 (its pull
 * request 4895): with an older one the file has the password for PLAIN. */
static void scram_with_a_password_of_a_file(void **state)
{
    (void)state;
    char text[100];
    bool scram = rd_kafka_version() >= 0x020601ff;
    if (scram) {
        set_kafka("sasl.mechanism", "SCRAM-SHA-512");
        set_kafka("sasl.username", "bob");
    } else {
        print_message("librdkafka %s cannot do SCRAM with Kafka 4: PLAIN instead\n",
                      rd_kafka_version_str());
    }
    snprintf(text, sizeof text, "${file:%s/%s}", directory, scram ? "password" : "plain");
    set_kafka("sasl.password", text);
    pipeline();
}

/* A program that ends by itself does, and says why. The speed layer waits for better days, and
 * says so too. */
static void expect_refusal(const char *reason, const char *program, const char *argument)
{
    struct child *ended = deployment_run(deployment, 1, program, argument, NULL);
    if (strstr(child_errors(ended), reason) == NULL)
        fail_msg("no \"%s\" in %s", reason, child_errors(ended));
    speed = deployment_start(deployment, "dovetail-speed", NULL);
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    while (strstr(child_errors(speed), reason) == NULL) {
        if (!child_is_running(speed) || stack_now_ms() > deadline)
            fail_msg("no \"%s\" in %s", reason, child_errors(speed));
        stack_sleep_ms(50);
    }
    child_signal(speed, SIGTERM);
    int code = child_wait(speed, STACK_WAIT_MS);
    if (code != 0)
        fail_msg("dovetail-speed ended with %d: %s", code, child_errors(speed));
    expect_no_secret(ended);
    expect_no_secret(speed);
}

static void a_wrong_password_is_told(void **state)
{
    (void)state;
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    set_kafka("sasl.password", "wrong-secret-canary");
    expect_refusal("uthentication failed", "dovetail-batch", "run");
}

static void a_strange_certificate_is_told(void **state)
{
    (void)state;
    char path[100];
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    snprintf(path, sizeof path, "%s/theirs.pem", directory);
    set_kafka("ssl.ca.location", path);
    expect_refusal("certificate verify failed", "dovetail", "init");
}

int main(int argc, char **argv)
{
    if (argc > 1) /* a pattern for the names of tests */
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(plain_with_a_password_of_the_environment, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(scram_with_a_password_of_a_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_wrong_password_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_strange_certificate_is_told, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, start_cluster, stop_cluster);
}
