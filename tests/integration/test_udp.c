/* Events by UDP: good ones come to the topic, bad ones are counted, what finds no room is counted,
 * and SIGTERM loses nothing that had come. */
#include "tests/support/ingest_fixture.h"

#include <arpa/inet.h>
#include <librdkafka/rdkafka_mock.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static int udp_port;
static int udp_fd = -1;

static int free_udp_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void send_text(const char *text, size_t length)
{
    assert_int_equal(send(udp_fd, text, length, 0), (ssize_t)length);
}

/* A counter of /metrics; `name` with its labels. */
static int64_t counter(const char *name)
{
    struct http_reply reply;
    char line[160];
    http_get(session, "/metrics", &reply);
    snprintf(line, sizeof line, "\n%s ", name);
    const char *found = strstr(reply.body, line);
    if (found == NULL)
        fail_msg("%s is not in /metrics: %d", name, reply.status);
    int64_t value = strtoll(found + strlen(line), NULL, 10);
    http_reply_free(&reply);
    return value;
}

#define OUTCOME(name) "dovetail_ingest_events_total{door=\"udp\",outcome=\"" name "\"}"

static void wait_for(const char *name, int64_t wanted)
{
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    int64_t value;
    while ((value = counter(name)) != wanted) {
        if (stack_now_ms() > end_ms || value > wanted)
            fail_msg("%s is %lld and not %lld", name, (long long)value, (long long)wanted);
        stack_sleep_ms(20);
    }
}

static void serve_udp(void)
{
    char address[32];
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)(udp_port = free_udp_port())),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    snprintf(address, sizeof address, "127.0.0.1:%d", udp_port);
    deployment_set(deployment, "serving", "udp_listen", json_string(address));
    deployment_set(deployment, "serving", "udp_source", json_string("orders"));
    serve_anew();
    if (udp_fd >= 0)
        close(udp_fd);
    udp_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(udp_fd, (const struct sockaddr *)&to, sizeof to), 0);
}

static void test_events_come(void **state)
{
    (void)state;
    char text[1024];
    serve_udp();
    int64_t before = topic_size();
    const char *one = order("udp", "1");
    send_text(one, strlen(one));
    int length = snprintf(text, sizeof text, "%s\n\n{}\n%s\r\n%s\n", order("udp", "2"),
                          order("udp", "3"), order("udp", "4"));
    send_text(text, (size_t)length);
    send_text("", 0);
    send_text("\xff\0x", 3);
    wait_for(OUTCOME("accepted"), 4);
    wait_for(OUTCOME("invalid"), 3);
    assert_int_equal(counter("dovetail_udp_datagrams_total"), 4);
    assert_int_equal(topic_size(), before + 4);
    /* Told once, although there were three. */
    const char *told = strstr(child_errors(deployment->serving), "were refused");
    assert_non_null(told);
    assert_null(strstr(told + 1, "were refused"));
}

/* As large as a datagram can be. */
static void test_large_datagrams(void **state)
{
    (void)state;
    char text[65507];
    size_t length = 0;
    int64_t lines = 0;
    const char *one = order("large", "1");
    while (length + strlen(one) + 1 <= sizeof text) {
        length += (size_t)snprintf(text + length, sizeof text - length + 1, "%s\n", one);
        lines++;
    }
    memset(text + length, ' ', sizeof text - length);
    int64_t before = counter(OUTCOME("accepted"));
    send_text(text, sizeof text);
    wait_for(OUTCOME("accepted"), before + lines);
}

static void test_a_stop_loses_nothing(void **state)
{
    (void)state;
    int64_t before = topic_size();
    serve_udp();
    const char *one = order("last", "1");
    for (int i = 0; i < 200; i++)
        send_text(one, strlen(one));
    child_stop(deployment->serving);
    assert_int_equal(topic_size(), before + 200);
}

/* Kafka's faults are those of librdkafka's mock broker: room for a megabyte, half of it for UDP. */
static void test_no_room(void **state)
{
    (void)state;
    char problem[256];
    enum { SENT = 8000 };
    rd_kafka_t *client =
        rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), problem, sizeof problem);
    assert_non_null(client);
    rd_kafka_mock_cluster_t *mock = rd_kafka_mock_cluster_new(client, 1);
    rd_kafka_mock_topic_create(mock, deployment_topic(deployment, "orders"), 1, 1);
    json_object_set_new(json_object_get(deployment->settings, "kafka"), "bootstrap.servers",
                        json_string(rd_kafka_mock_cluster_bootstraps(mock)));
    deployment_set(deployment, "serving", "ingest_timeout_ms", json_integer(2000));
    deployment_set(deployment, "serving", "ingest_memory", json_integer(1 << 20));
    serve_udp();
    const char *one = order("room", "1");
    send_text(one, strlen(one));
    wait_for(OUTCOME("accepted"), 1);
    rd_kafka_mock_broker_set_down(mock, 1);
    for (int i = 0; i < SENT; i++) {
        send_text(one, strlen(one));
        if (i % 100 == 99) /* the kernel's queue is not what is tried here */
            wait_for("dovetail_udp_datagrams_total", i + 2);
    }
    int64_t overflow = counter(OUTCOME("overflow"));
    assert_in_range(overflow, 1, SENT - 1);
    /* HTTP has room all the same; and what Kafka does not take is told. */
    json_decref(post(DOOR, JSON, order("room", "2"), 503));
    wait_for(OUTCOME("not_written"), SENT - overflow);
    rd_kafka_mock_broker_set_up(mock, 1);
    one = order("room", "3");
    send_text(one, strlen(one));
    wait_for(OUTCOME("accepted"), 2);
    child_stop(deployment->serving);
    rd_kafka_mock_cluster_destroy(mock);
    rd_kafka_destroy(client);
    json_object_set_new(json_object_get(deployment->settings, "kafka"), "bootstrap.servers",
                        json_string(stack_kafka()));
}

static void refuse(const char *key, const char *words)
{
    deployment_set(deployment, "serving", "listen", json_string("127.0.0.1:0"));
    struct child *child = deployment_run(deployment, 2, "dovetail-serving", NULL);
    if (strstr(child_errors(child), key) == NULL || strstr(child_errors(child), words) == NULL)
        fail_msg("%s", child_errors(child));
}

static void test_addresses(void **state)
{
    (void)state;
    deployment_set(deployment, "serving", "udp_listen", json_string("0.0.0.0:0"));
    refuse("serving.udp_listen", "serving.udp_allow_remote");
    deployment_set(deployment, "serving", "udp_listen", json_string("nowhere.invalid:0"));
    refuse("serving.udp_listen", "nowhere.invalid");
    deployment_set(deployment, "serving", "udp_listen", json_string("127.0.0.1:0"));
    json_object_del(json_object_get(deployment->settings, "serving"), "udp_source");
    refuse("serving.udp_source", "required");
    deployment_set(deployment, "serving", "udp_allow_remote", json_true());
    deployment_set(deployment, "serving", "udp_source", json_string("nothing"));
    deployment_set(deployment, "serving", "udp_listen", json_string("0.0.0.0:0"));
    serve_anew(); /* the source may come later; until then what comes is counted */
    assert_int_equal(counter("dovetail_udp_lost_datagrams_total{reason=\"source\"}"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_come),
        cmocka_unit_test(test_large_datagrams),
        cmocka_unit_test(test_a_stop_loses_nothing),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, ingest_set_up, ingest_tear_down);
}
