/* The ingest door where something goes wrong: a request with an Idempotency-Key writes its events
 * once at the most, whatever becomes of client, server and Kafka; and what is said of events that
 * Kafka did not acknowledge is true.
 *
 * Kafka's faults are those of librdkafka's mock broker, which does what it is told. */
#include "tests/support/ingest_fixture.h"

#include <arpa/inet.h>
#include <librdkafka/rdkafka_mock.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TIMEOUT_MS = 2000 };

static json_t *post_keyed(const char *key, const char *body, int status)
{
    char line[320];
    snprintf(line, sizeof line, "Idempotency-Key: %s", key);
    const char *const headers[] = {LINES, line, NULL};
    return post_with(DOOR, headers, body, strlen(body), status);
}

static void execute(const char *sql)
{
    PGconn *connection = deployment_connect(deployment);
    PGresult *result = PQexec(connection, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(connection));
    PQclear(result);
    PQfinish(connection);
}

/* --- with a Kafka that works --- */

static void test_the_same_again(void **state)
{
    (void)state;
    char body[1024];
    snprintf(body, sizeof body, "%s\n{}\n%s\n", order("again", "1"), order("again", "2"));
    int64_t before = topic_size();
    json_t *first = post_keyed("again-1", body, 207);
    assert_number(first, "accepted", 2);
    json_t *second = post_keyed("again-1", body, 207);
    assert_true(json_equal(first, second));
    json_decref(second);
    assert_int_equal(topic_size(), before + 2);
    /* After a restart, too. */
    serve_anew();
    second = post_keyed("again-1", body, 207);
    assert_true(json_equal(first, second));
    json_decref(second);
    json_decref(first);
    assert_int_equal(topic_size(), before + 2);
    /* Another request: other events, another field as the key, all or nothing. */
    assert_problem(post_keyed("again-1", order("again", "3"), 422), "Idempotency-Key", "another");
    const char *const headers[] = {LINES, "Idempotency-Key: again-1", NULL};
    assert_problem(post_with(DOOR "?key=shop", headers, body, strlen(body), 422), "Idempotency-Key",
                   "another");
    assert_problem(post_with(DOOR "?whole=1", headers, body, strlen(body), 422), "Idempotency-Key",
                   "another");
    assert_int_equal(topic_size(), before + 2);
    /* Another key, or none, is another request. */
    json_decref(post_keyed("again-2", body, 207));
    json_decref(post(DOOR, LINES, body, 207));
    assert_int_equal(topic_size(), before + 6);
    /* What wrote nothing leaves the key free. */
    json_decref(post_keyed("again-3", "{}", 422));
    json_decref(post_keyed("again-3", order("again", "3"), 200));
    assert_int_equal(topic_size(), before + 7);
    /* After a day it is forgotten, and not before. */
    execute("UPDATE dovetail_internal.ingest_key SET reserved_at = now() - interval '23 h 59 min'");
    json_decref(post_keyed("again-3", order("again", "3"), 200));
    assert_int_equal(topic_size(), before + 7);
    execute("UPDATE dovetail_internal.ingest_key SET reserved_at = now() - interval '24 h 1 min'");
    json_decref(post_keyed("again-3", order("again", "3"), 200));
    assert_int_equal(topic_size(), before + 8);
}

static void test_old_keys_go(void **state)
{
    (void)state;
    execute("INSERT INTO dovetail_internal.ingest_key (caller, source, key, request, attempt,"
            " state, reserved_at) SELECT '', 'orders', 'old' || n, '', '', 'unknown',"
            " now() - interval '25 h' FROM generate_series(1, 2500) n");
    serve_anew();
    /* Not all at once, but faster than new ones come. */
    json_decref(post_keyed("new", order("old", "1"), 200));
    json_decref(post_keyed("newer", order("old", "2"), 200));
    json_decref(post_keyed("newest", order("old", "3"), 200));
    assert_int_equal(deployment_number(deployment, "SELECT count(*) FROM "
                                                   "dovetail_internal.ingest_key"
                                                   " WHERE key LIKE 'old%'"),
                     0);
    assert_int_equal(deployment_number(deployment, "SELECT count(*) FROM "
                                                   "dovetail_internal.ingest_key"
                                                   " WHERE key = 'new'"),
                     1);
}

static void test_keys_that_are_none(void **state)
{
    (void)state;
    char key[300];
    int64_t before = topic_size();
    memset(key, 'k', sizeof key);
    key[256] = '\0';
    assert_problem(post_keyed(key, order("x", "1"), 400), "Idempotency-Key", "255");
    assert_problem(post_keyed("two words", order("x", "1"), 400), "Idempotency-Key", "visible");
    assert_problem(post_keyed("gr\xc3\xbc\xc3\x9f", order("x", "1"), 400), "Idempotency-Key",
                   "visible");
    assert_int_equal(topic_size(), before);
    key[255] = '\0';
    json_decref(post_keyed(key, order("x", "1"), 200));
    assert_int_equal(topic_size(), before + 1);
}

enum { CALLERS = 8, ROUNDS = 5 };

struct caller {
    pthread_t thread;
    int port;
    int written; /* answers 200 */
    int busy;    /* 409 */
    int other;
};

static void *call(void *context)
{
    struct caller *caller = context;
    struct http_session *own = http_session_create(caller->port);
    const char *text = "{\"at\":\"2026-01-05T10:20:00Z\",\"shop\":\"all\",\"amount\":1}";
    for (int round = 0; own != NULL && round < ROUNDS; round++) {
        char line[64];
        struct http_reply reply;
        snprintf(line, sizeof line, "Idempotency-Key: round-%d", round);
        const char *const headers[] = {JSON, line, NULL};
        do {
            http_post(own, DOOR, headers, text, strlen(text), &reply);
            caller->written += reply.status == 200;
            caller->busy += reply.status == 409;
            caller->other += reply.status != 200 && reply.status != 409;
            http_reply_free(&reply);
        } while (reply.status == 409);
    }
    http_session_destroy(own);
    return NULL;
}

/* Everybody sends the same at once, and asks again where he is told to. */
static void test_all_at_once(void **state)
{
    (void)state;
    struct caller callers[CALLERS];
    int64_t before = topic_size();
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){.port = deployment->port};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].other, 0);
        assert_in_range(callers[i].written, 1, ROUNDS);
    }
    assert_int_equal(topic_size(), before + ROUNDS);
}

/* What a process leaves behind that ended between Kafka's acknowledgement and its note of it. */
static void test_nobody_knows(void **state)
{
    (void)state;
    const char *text = order("lost", "1");
    json_t *first = post_keyed("lost", text, 200);
    json_decref(first);
    int64_t before = topic_size();
    execute("UPDATE dovetail_internal.ingest_key SET state = 'sending', status = NULL,"
            " answer = NULL WHERE key = 'lost'");
    /* It may still be at it. */
    struct http_reply reply;
    char wait[16];
    const char *const headers[] = {LINES, "Idempotency-Key: lost", NULL};
    http_post(session, DOOR, headers, text, strlen(text), &reply);
    assert_int_equal(reply.status, 409);
    assert_non_null(http_reply_header(&reply, "Retry-After", wait, sizeof wait));
    assert_non_null(strstr(reply.body, "is being answered"));
    http_reply_free(&reply);
    execute("UPDATE dovetail_internal.ingest_key SET reserved_at = now() - interval '1 h'"
            " WHERE key = 'lost'");
    json_t *problem = post_keyed("lost", text, 409);
    assert_string_equal(json_string_value(json_object_get(problem, "type")),
                        "urn:dovetail:outcome-unknown");
    assert_problem(problem, NULL, "may be written or not");
    assert_int_equal(topic_size(), before);
    execute("DELETE FROM dovetail_internal.ingest_key WHERE key = 'lost'");
}

/* --- with one that does not --- */

static rd_kafka_t *mock_client;
static rd_kafka_mock_cluster_t *mock;

static void serve_on(const char *brokers)
{
    json_object_set_new(json_object_get(deployment->settings, "kafka"), "bootstrap.servers",
                        json_string(brokers));
    deployment_set(deployment, "serving", "ingest_timeout_ms", json_integer(TIMEOUT_MS));
    serve_anew();
}

static int mock_up(void **state)
{
    (void)state;
    char problem[256];
    mock_client = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), problem, sizeof problem);
    assert_non_null(mock_client);
    mock = rd_kafka_mock_cluster_new(mock_client, 1);
    assert_non_null(mock);
    rd_kafka_mock_topic_create(mock, deployment_topic(deployment, "orders"), 1, 1);
    serve_on(rd_kafka_mock_cluster_bootstraps(mock));
    return 0;
}

static int mock_down(void **state)
{
    (void)state;
    serve_on(stack_kafka());
    rd_kafka_mock_cluster_destroy(mock);
    rd_kafka_destroy(mock_client);
    return 0;
}

static void test_kafka_is_away(void **state)
{
    (void)state;
    const char *text = order("away", "1");
    json_decref(post_keyed("away-0", text, 200));
    rd_kafka_mock_broker_set_down(mock, 1);
    struct http_reply reply;
    char wait[16];
    const char *const headers[] = {LINES, "Idempotency-Key: away-1", NULL};
    http_post(session, DOOR, headers, text, strlen(text), &reply);
    if (reply.status != 503)
        fail_msg("%d %s", reply.status, reply.body);
    assert_string_equal(reply.content_type, "application/problem+json");
    assert_non_null(http_reply_header(&reply, "Retry-After", wait, sizeof wait));
    assert_non_null(strstr(reply.body, "nothing was written"));
    json_t *problem = http_reply_json(&reply);
    assert_number(problem, "not_written", 1);
    json_decref(problem);
    http_reply_free(&reply);
    /* What was answered is answered, and what was not may be tried again. */
    json_decref(post_keyed("away-0", text, 200));
    rd_kafka_mock_broker_set_up(mock, 1);
    json_t *answer = post_keyed("away-1", text, 200);
    assert_number(answer, "accepted", 1);
    json_decref(answer);
}

/* The broker takes the events, and its word comes too late. */
static void test_kafka_does_not_answer(void **state)
{
    (void)state;
    const char *text = order("late", "1");
    json_decref(post_keyed("late-0", text, 200)); /* everything is connected */
    rd_kafka_mock_broker_set_rtt(mock, 1, 4 * TIMEOUT_MS);
    json_t *problem = post_keyed("late-1", text, 504);
    assert_number(problem, "unknown", 1);
    assert_number(problem, "accepted", 0);
    assert_string_equal(json_string_value(json_object_get(problem, "type")),
                        "urn:dovetail:outcome-unknown");
    json_t *event = json_array_get(json_object_get(problem, "events"), 0);
    assert_string_equal(json_string_value(json_object_get(event, "outcome")), "unknown");
    assert_problem(problem, NULL, "may be or not");
    rd_kafka_mock_broker_set_rtt(mock, 1, -1);
    problem = post_keyed("late-1", text, 409);
    assert_string_equal(json_string_value(json_object_get(problem, "type")),
                        "urn:dovetail:outcome-unknown");
    json_decref(problem);
    /* And goes on. */
    json_decref(post_keyed("late-2", text, 200));
}

static bool is_sending(void)
{
    return deployment_number(deployment, "SELECT count(*) FROM dovetail_internal.ingest_key WHERE "
                                         "state = 'sending'") == 1;
}

struct sender {
    pthread_t thread;
    const char *key;
    const char *body; /* NULL: some order */
    int status;
};

static void *send_one(void *context)
{
    struct sender *sender = context;
    struct http_session *own = http_session_create(deployment->port);
    struct http_reply reply;
    char line[64];
    const char *text = sender->body;
    if (text == NULL)
        text = "{\"at\":\"2026-01-05T10:20:00Z\",\"shop\":\"one\",\"amount\":1}";
    snprintf(line, sizeof line, "Idempotency-Key: %s", sender->key);
    const char *const headers[] = {JSON, line, NULL};
    http_post(own, DOOR, headers, text, strlen(text), &reply);
    sender->status = reply.status;
    http_reply_free(&reply);
    http_session_destroy(own);
    return NULL;
}

/* kill -9 while Kafka has the events and has not answered. */
static void test_a_crash_in_between(void **state)
{
    (void)state;
    struct sender sender = {.key = "crash"};
    json_decref(post(DOOR, JSON, order("crash", "1"), 200)); /* everything is connected */
    rd_kafka_mock_broker_set_rtt(mock, 1, 1000);
    assert_int_equal(pthread_create(&sender.thread, NULL, send_one, &sender), 0);
    while (!is_sending())
        stack_sleep_ms(10);
    child_kill(deployment->serving);
    pthread_join(sender.thread, NULL);
    assert_int_equal(sender.status, 0);
    rd_kafka_mock_broker_set_rtt(mock, 1, -1);
    serve_on(rd_kafka_mock_cluster_bootstraps(mock));
    execute("UPDATE dovetail_internal.ingest_key SET reserved_at = now() - interval '1 min'"
            " WHERE key = 'crash'"); /* instead of waiting */
    sender.status = 0;
    send_one(&sender);
    assert_int_equal(sender.status, 409);
    assert_true(is_sending());
    execute("DELETE FROM dovetail_internal.ingest_key WHERE key = 'crash'");
}

/* SIGTERM: what is on its way is acknowledged, noted and answered first. */
static void test_a_stop_in_between(void **state)
{
    (void)state;
    struct sender sender = {.key = "stop"};
    json_decref(post(DOOR, JSON, order("stop", "1"), 200));
    rd_kafka_mock_broker_set_rtt(mock, 1, 500);
    assert_int_equal(pthread_create(&sender.thread, NULL, send_one, &sender), 0);
    while (!is_sending())
        stack_sleep_ms(10);
    child_stop(deployment->serving);
    pthread_join(sender.thread, NULL);
    assert_int_equal(sender.status, 200);
    assert_int_equal(deployment_number(deployment, "SELECT status FROM dovetail_internal.ingest_key"
                                                   " WHERE key = 'stop'"),
                     200);
    rd_kafka_mock_broker_set_rtt(mock, 1, -1);
    serve_on(rd_kafka_mock_cluster_bootstraps(mock));
}

static bool is_listening(void)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)deployment->port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool connects = connect(fd, (const struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return connects;
}

/* While it stops nothing new is taken on connections that are open still: it would not be answered
 * before the end. */
static void test_what_comes_during_a_stop(void **state)
{
    (void)state;
    enum { WAITED_FOR_MS = 5000 }; /* by the stop: the test has to come in between */
    struct sender sender = {.key = "stopping"};
    deployment_set(deployment, "serving", "ingest_timeout_ms", json_integer(2 * WAITED_FOR_MS));
    serve_anew();
    json_decref(post(DOOR, JSON, order("stop", "1"), 200)); /* this connection stays open */
    rd_kafka_mock_broker_set_rtt(mock, 1, WAITED_FOR_MS);
    assert_int_equal(pthread_create(&sender.thread, NULL, send_one, &sender), 0);
    while (!is_sending())
        stack_sleep_ms(10);
    child_signal(deployment->serving, SIGTERM);
    while (is_listening())
        stack_sleep_ms(10);
    assert_problem(post_keyed("too-late", order("stop", "2"), 503), NULL, "stopping");
    child_expect(deployment->serving, 0);
    pthread_join(sender.thread, NULL);
    assert_int_equal(sender.status, 200);
    assert_int_equal(deployment_number(deployment, "SELECT count(*) FROM "
                                                   "dovetail_internal.ingest_key"
                                                   " WHERE key = 'too-late'"),
                     0);
    rd_kafka_mock_broker_set_rtt(mock, 1, -1);
    serve_on(rd_kafka_mock_cluster_bootstraps(mock));
}

/* A client that does not wait, and closes its connection or resets it: its key is settled all the
 * same. */
static void leave(const char *key, bool resets)
{
    struct http_reply reply;
    const char *text = order("left", "1");
    json_decref(post(DOOR, JSON, text, 200)); /* everything is connected */
    rd_kafka_mock_broker_set_rtt(mock, 1, 1000);
    char raw[1024];
    char line[64];
    const struct linger reset = {.l_onoff = resets, .l_linger = 0};
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)deployment->port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    snprintf(line, sizeof line, "Idempotency-Key: %s", key);
    int length = snprintf(raw, sizeof raw,
                          "POST " DOOR " HTTP/1.1\r\nHost: x\r\n%s\r\n"
                          "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                          line, strlen(text), text);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    assert_int_equal(send(fd, raw, (size_t)length, 0), length);
    while (!is_sending())
        stack_sleep_ms(10);
    close(fd);
    int64_t end_ms = stack_now_ms() + STACK_WAIT_MS;
    while (is_sending() && stack_now_ms() < end_ms)
        stack_sleep_ms(20);
    rd_kafka_mock_broker_set_rtt(mock, 1, -1);
    const char *const headers[] = {JSON, line, NULL};
    http_post(session, DOOR, headers, text, strlen(text), &reply);
    char replayed[16];
    assert_int_equal(reply.status, 200);
    assert_non_null(http_reply_header(&reply, "Idempotent-Replayed", replayed, sizeof replayed));
    http_reply_free(&reply);
}

static void test_clients_that_leave(void **state)
{
    (void)state;
    leave("closed", false);
    leave("reset", true);
}

/* What waits for Kafka is bounded: who comes beyond it is told so at once, and writes nothing. */
static void test_no_room(void **state)
{
    (void)state;
    enum { SIZE = 700000 };
    static char text[SIZE + 256];
    struct sender sender = {.key = "room"};
    int length = snprintf(text, sizeof text, "%s", order("room", "1"));
    memset(text + length, ' ', SIZE); /* within the event, whose end comes last */
    text[length - 1] = ' ';
    strcpy(text + length + SIZE, "}");
    sender.body = text;
    deployment_set(deployment, "serving", "ingest_memory", json_integer(1 << 20));
    serve_on(rd_kafka_mock_cluster_bootstraps(mock));
    json_decref(post(DOOR, JSON, text, 200)); /* alone it has room */
    rd_kafka_mock_broker_set_rtt(mock, 1, 1000);
    assert_int_equal(pthread_create(&sender.thread, NULL, send_one, &sender), 0);
    while (!is_sending())
        stack_sleep_ms(10);
    struct http_reply reply;
    char wait[16];
    const char *const headers[] = {JSON, "Idempotency-Key: no-room", NULL};
    http_post(session, DOOR, headers, text, strlen(text), &reply);
    if (reply.status != 503 ||
        http_reply_header(&reply, "Retry-After", wait, sizeof wait) == NULL ||
        strstr(reply.body, "too many events wait") == NULL)
        fail_msg("%d %s", reply.status, reply.body);
    http_reply_free(&reply);
    json_decref(post(DOOR, JSON, order("room", "2"), 200)); /* a small one has */
    pthread_join(sender.thread, NULL);
    assert_int_equal(sender.status, 200);
    rd_kafka_mock_broker_set_rtt(mock, 1, -1);
    http_post(session, DOOR, headers, text, strlen(text), &reply); /* the key is free */
    assert_int_equal(reply.status, 200);
    http_reply_free(&reply);
    json_object_del(json_object_get(deployment->settings, "serving"), "ingest_memory");
}

#define ON_MOCK(test) cmocka_unit_test_setup_teardown(test, mock_up, mock_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_same_again),     cmocka_unit_test(test_old_keys_go),
        cmocka_unit_test(test_keys_that_are_none), cmocka_unit_test(test_all_at_once),
        cmocka_unit_test(test_nobody_knows),       ON_MOCK(test_kafka_is_away),
        ON_MOCK(test_kafka_does_not_answer),       ON_MOCK(test_a_crash_in_between),
        ON_MOCK(test_a_stop_in_between),           ON_MOCK(test_what_comes_during_a_stop),
        ON_MOCK(test_clients_that_leave),          ON_MOCK(test_no_room),
    };
    return cmocka_run_group_tests(tests, ingest_set_up, ingest_tear_down);
}
