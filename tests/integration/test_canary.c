/* Secrets of the configuration are in nothing that a program says: its output, its messages, its
 * answers, its command line. Each of these secrets has the same word in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/deployment.h"
#include "tests/support/http.h"
#include "tests/support/stack.h"

#define WORD "canarysecret"
/* Of a token. */
#define HASH "1da9a7f4fc0120eb4ff4ad34ff69797b74013a0db4837290ad49be44e754eb3e"

static struct deployment *deployment;

static void must_not_tell(const char *what, const char *text)
{
    if (strstr(text, WORD) != NULL || strstr(text, HASH) != NULL)
        fail_msg("%s tells a secret: %s", what, text);
}

static void check_child(struct child *child)
{
    must_not_tell(child_name(child), child_output(child));
    must_not_tell(child_name(child), child_errors(child));
}

static void check_arguments(struct child *child)
{
    char path[64];
    char text[4096];
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)child_pid(child));
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    for (size_t i = 0; i < length; i++)
        text[i] = text[i] == '\0' ? ' ' : text[i];
    text[length] = '\0';
    assert_non_null(strstr(text, "--config"));
    must_not_tell("the command line", text);
}

static const char *const commands[][4] = {
    {"dovetail", "init"},
    {"dovetail", "validate"},
    {"dovetail", "status"},
    {"dovetail", "runs"},
    {"dovetail", "query", "sales"},
    {"dovetail", "verify", "sales"},
    {"dovetail", "versions"},
    {"dovetail", "produce", "orders", "/dev/null"},
    {"dovetail-batch", "run"},
    {"dovetail", "dead-letters"},
    {"dovetail", "query", "nothing"},
    {"dovetail-speed", "junk"},
    {"dovetail-serving", "junk"},
};

/* Runs each to its end, whatever that is. */
static void run_all(void)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        struct child *child = deployment_start(deployment, commands[i][0], commands[i][1],
                                               commands[i][2], commands[i][3], NULL);
        (void)child_wait(child, STACK_WAIT_MS * 2);
        check_child(child);
    }
}

static void set_postgres(const char *more)
{
    static char base[512];
    char conninfo[700];
    if (base[0] == '\0')
        snprintf(base, sizeof base, "%s", deployment->postgres);
    snprintf(conninfo, sizeof conninfo, "%s password='" WORD "' %s", base, more);
    deployment_set(deployment, NULL, "postgres", json_string(conninfo));
}

static void test_while_all_is_well(void **state)
{
    (void)state;
    run_all();
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    deployment_serve(deployment);
    check_arguments(speed);
    check_arguments(deployment->serving);
    struct http_session *session = http_session_create(deployment->port);
    static const char *const targets[] = {
        "/v1/status", "/metrics", "/v1/views", "/v1/views/sales/rows",         "/openapi.json",
        "/",          "/readyz",  "/nothing",  "/v1/views/sales/rows?limit=z",
    };
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        struct http_reply reply;
        http_get(session, targets[i], &reply);
        must_not_tell(targets[i], reply.body);
        must_not_tell(targets[i], reply.headers);
        http_reply_free(&reply);
    }
    http_session_destroy(session);
    child_stop(deployment->serving);
    child_stop(speed);
    check_child(deployment->serving);
    check_child(speed);
}

/* A server that listens and has no database: it connects when it is asked, and logs why it cannot.
 */
static void ask_in_vain(struct child *serving)
{
    const char *url = NULL;
    while (url == NULL && child_is_running(serving)) {
        url = strstr(child_errors(serving), "http://127.0.0.1:");
        if (url == NULL)
            stack_sleep_ms(20);
    }
    if (url == NULL)
        return; /* refused at once */
    struct http_reply reply;
    struct http_session *session = http_session_create(atoi(url + strlen("http://127.0.0.1:")));
    http_get(session, "/readyz", &reply);
    assert_int_equal(reply.status, 503);
    must_not_tell("/readyz", reply.body);
    http_reply_free(&reply);
    http_session_destroy(session);
    assert_non_null(strstr(child_errors(serving), "PostgreSQL is away"));
    child_signal(serving, SIGTERM);
}

/* Errors are where secrets get out. */
static void test_while_all_goes_wrong(void **state)
{
    (void)state;
    static const char *const conninfos[] = {
        "port=1",
        "host=nowhere.invalid",
        "user=nobody",
        "dbname=nothing",
        "sslmode=nonsense",
        "unknown" WORD "=1",
        "application_name='" WORD,
        "sslmode=verify-full sslrootcert=/nothing",
    };
    for (size_t i = 0; i < sizeof conninfos / sizeof conninfos[0]; i++) {
        set_postgres(conninfos[i]);
        static const char *const names[] = {"dovetail", "dovetail-serving"};
        for (size_t n = 0; n < 2; n++) {
            struct child *child =
                deployment_start(deployment, names[n], n == 0 ? "status" : NULL, NULL);
            if (n == 1)
                ask_in_vain(child);
            (void)child_wait(child, STACK_WAIT_MS);
            check_child(child);
        }
    }
    set_postgres("");
    deployment_set(deployment, "kafka", "sasl.mechanism", json_string("NONSENSE"));
    run_all();
    deployment_set(deployment, "kafka", "sasl.mechanism", json_string("PLAIN"));
    deployment_set(deployment, "serving", "tls_key", json_string("${file:secret}"));
    deployment_set(deployment, "serving", "tls_certificate", json_string("${file:secret}"));
    struct child *child = deployment_start(deployment, "dovetail-serving", NULL);
    assert_int_equal(child_wait(child, STACK_WAIT_MS), 2);
    check_child(child);
    deployment_set(deployment, "serving", "tokens",
                   json_loads("[{\"name\":\"" WORD " \",\"sha256\":\"" WORD "\"}]", 0, NULL));
    run_all();
    deployment_set(
        deployment, "serving", "tokens",
        json_loads("[{\"name\":\"a\",\"sha256\":\"" WORD "\",\"views\":\"*\"}]", 0, NULL));
    run_all();
}

static int set_up(void **state)
{
    (void)state;
    char entry[512];
    deployment = deployment_create();
    deployment_define_source(
        deployment, "{\"source\": \"orders\", \"event_time\": {\"field\": \"time\", \"format\":"
                    " \"rfc3339\"}, \"fields\": {\"time\": \"timestamp\", \"shop\": \"string\"}}");
    deployment_define_view(deployment,
                           "{\"view\": \"sales\", \"source\": \"orders\", \"group_by\": [\"shop\"],"
                           " \"window\": {\"type\": \"tumbling\", \"size\": \"1h\"},"
                           " \"measures\": {\"n\": \"count(*)\"}}");
    deployment_write(deployment, "secret", "-----BEGIN " WORD "\n");
    set_postgres("");
    deployment_set(deployment, "kafka", "sasl.username", json_string("somebody"));
    deployment_set(deployment, "kafka", "sasl.password", json_string(WORD));
    snprintf(entry, sizeof entry,
             "[{\"name\":\"one\",\"sha256\":\"%s\",\"views\":\"*\",\"role\":\"admin\"}]", HASH);
    deployment_set(deployment, "serving", "tokens", json_loads(entry, 0, NULL));
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
        cmocka_unit_test(test_while_all_is_well),
        cmocka_unit_test(test_while_all_goes_wrong),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
