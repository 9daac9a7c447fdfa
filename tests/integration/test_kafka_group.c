/* Members of a consumer group against a real broker: who gets which partitions and from where, what
 * becomes of members that fail, pause, come back or have a double, and that nothing hangs without a
 * broker. */
#include <unistd.h>

#include "tests/support/kafka_fixture.h"

/* --- groups --- */

struct member {
    struct kafka_consumer *consumer;
    enum status answer; /* of the callbacks */
    size_t assigned;    /* partitions held now */
    int assign_calls;
    int revoke_calls;
    bool lost;
    int64_t next[8]; /* by partition */
};

static enum status member_assign(struct kafka_position *positions, size_t count, void *context,
                                 struct error *failure)
{
    struct member *member = context;
    member->assign_calls++;
    if (member->answer != STATUS_OK)
        return error_set(failure, member->answer, "not now");
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(positions[i].offset, RD_KAFKA_OFFSET_INVALID);
        positions[i].offset = member->next[positions[i].partition];
    }
    member->assigned = count;
    return STATUS_OK;
}

static enum status member_revoke(const struct kafka_position *positions, size_t count, bool lost,
                                 void *context, struct error *failure)
{
    (void)positions;
    struct member *member = context;
    member->revoke_calls++;
    member->lost = lost;
    assert_int_equal(count, member->assigned);
    member->assigned = 0;
    return member->answer == STATUS_OK ? STATUS_OK
                                       : error_set(failure, member->answer, "no revoke");
}

static void join(struct member *member, const char *topic, const char *instance)
{
    struct kafka_group_callbacks callbacks = {member_assign, member_revoke, member};
    assert_status(STATUS_OK,
                  kafka_consumer_subscribe(properties, topic /* also the group */, instance, &topic,
                                           1, &callbacks, &member->consumer, &error));
}

/* Checks a message of a member, which may be NULL, against the order of its partition. */
static bool take(struct member *member, rd_kafka_message_t *message)
{
    bool is_record = message != NULL && message->err == 0;
    if (is_record)
        assert_int_equal(message->offset, member->next[message->partition]++);
    if (message != NULL)
        rd_kafka_message_destroy(message);
    return is_record;
}

static void expect_member_record(struct member *member)
{
    while (!take(member, next_message(member->consumer)))
        continue;
}

/* Polls both until each holds what it shall; records must be in order. */
static void poll_until_assigned(struct member *a, size_t wanted_a, struct member *b,
                                size_t wanted_b)
{
    int64_t end = now_ms() + WAIT_MS;
    while ((a->assigned != wanted_a || (b != NULL && b->assigned != wanted_b)) && now_ms() < end) {
        rd_kafka_message_t *message = NULL;
        assert_status(STATUS_OK, kafka_consumer_poll(a->consumer, 50, &message, &error));
        take(a, message);
        if (b == NULL)
            continue;
        assert_status(STATUS_OK, kafka_consumer_poll(b->consumer, 50, &message, &error));
        take(b, message);
    }
    assert_int_equal(a->assigned, wanted_a);
    if (b != NULL)
        assert_int_equal(b->assigned, wanted_b);
}

static void test_group_shares_partitions_and_reads_from_given_offsets(void **state)
{
    (void)state;
    const char *topic = new_topic("group", 2);
    produce(topic, 0, 0, 50);
    produce(topic, 1, 0, 50);
    struct member a = {.next = {30, 30}}, b = {.next = {10, 10}};
    join(&a, topic, NULL);
    poll_until_assigned(&a, 2, NULL, 0);
    expect_member_record(&a);
    join(&b, topic, NULL);
    poll_until_assigned(&a, 1, &b, 1);
    assert_int_equal(a.revoke_calls, 1);
    assert_false(a.lost);
    expect_member_record(&b);
    kafka_consumer_close(a.consumer);
    assert_int_equal(a.revoke_calls, 2); /* closing gives the partitions back */
    poll_until_assigned(&b, 2, NULL, 0);
    kafka_consumer_close(b.consumer);
}

static void test_failing_callbacks_surface_and_are_asked_again(void **state)
{
    (void)state;
    const char *topic = new_topic("callbacks", 1);
    produce(topic, 0, 0, 5);
    struct member a = {.answer = STATUS_RETRY, .next = {2}}, b = {0};
    join(&a, topic, NULL);
    assert_status(STATUS_RETRY, poll_status(a.consumer));
    assert_string_equal(error.text, "not now");
    rd_kafka_message_t *message = NULL;
    assert_status(STATUS_RETRY, kafka_consumer_poll(a.consumer, 100, &message, &error));
    assert_null(message);
    assert_int_equal(a.assign_calls, 2);
    a.answer = STATUS_OK;
    assert_status(STATUS_OK, kafka_consumer_poll(a.consumer, 100, &message, &error));
    take(&a, message);
    assert_int_equal(a.assign_calls, 3);
    expect_member_record(&a);

    a.answer = STATUS_FENCED;
    join(&b, topic, NULL);
    int64_t end = now_ms() + WAIT_MS;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && now_ms() < end) {
        status = kafka_consumer_poll(a.consumer, 50, &message, &error);
        assert_true(status != STATUS_OK || message == NULL || message->err != 0 ||
                    message->offset > 2);
        if (message != NULL)
            rd_kafka_message_destroy(message);
        assert_int_equal(kafka_consumer_poll(b.consumer, 50, &message, NULL), STATUS_OK);
        if (message != NULL)
            rd_kafka_message_destroy(message);
    }
    assert_int_equal(status, STATUS_FENCED);
    assert_string_equal(error.text, "no revoke");
    kafka_consumer_close(a.consumer);
    kafka_consumer_close(b.consumer);
}

/* While a member's on_assign fails the group goes on: another member's arrival takes back what was
 * given, without a call of on_revoke for it. */
/* The broker has told the only member what is its own. */
static void await_stable(const char *group)
{
    int64_t end = now_ms() + WAIT_MS;
    rd_kafka_t *rk = raw_client(RD_KAFKA_PRODUCER, NULL, NULL);
    for (bool stable = false; !stable; usleep(20000)) {
        const struct rd_kafka_group_list *list = NULL;
        if (rd_kafka_list_groups(rk, group, &list, WAIT_MS) == RD_KAFKA_RESP_ERR_NO_ERROR &&
            list->group_cnt == 1)
            stable = strcmp(list->groups[0].state, "Stable") == 0;
        if (list != NULL)
            rd_kafka_group_list_destroy(list);
        assert_true(now_ms() < end);
    }
    rd_kafka_destroy(rk);
    usleep(300000); /* until the member has heard it; nothing else tells */
}

/* An assignment that is on its way when a member ends, whose callbacks have nothing to work with
 * any more. */
static void test_who_ends_is_not_asked_about_assignments(void **state)
{
    (void)state;
    for (int leaves = 0; leaves < 2; leaves++) {
        const char *topic = new_topic(leaves ? "leaving" : "ending", 1);
        struct member a = {0};
        join(&a, topic, leaves ? "ending" : NULL);
        await_stable(topic);
        assert_int_equal(a.assign_calls, 0);
        if (leaves)
            kafka_consumer_leave_group(a.consumer);
        kafka_consumer_close(a.consumer);
        assert_int_equal(a.assign_calls, 0);
        assert_int_equal(a.revoke_calls, 0);
    }
}

static void test_unanswered_assignment_can_be_taken_back(void **state)
{
    (void)state;
    const char *topic = new_topic("unanswered", 2);
    struct member a = {.answer = STATUS_RETRY}, b = {0};
    join(&a, topic, NULL);
    assert_status(STATUS_RETRY, poll_status(a.consumer));
    join(&b, topic, NULL);
    int64_t end = now_ms() + WAIT_MS;
    while (b.assigned != 1 && now_ms() < end) {
        rd_kafka_message_t *message = NULL;
        (void)(kafka_consumer_poll(a.consumer, 20, &message, NULL) == STATUS_OK);
        assert_null(message);
        assert_status(STATUS_OK, kafka_consumer_poll(b.consumer, 20, &message, &error));
        if (message != NULL)
            rd_kafka_message_destroy(message);
    }
    assert_int_equal(b.assigned, 1);
    assert_int_equal(a.revoke_calls, 0);
    a.answer = STATUS_OK;
    poll_until_assigned(&a, 1, &b, 1);
    kafka_consumer_close(a.consumer);
    kafka_consumer_close(b.consumer);
}

static void test_paused_member_stays_and_rebalances(void **state)
{
    (void)state;
    const char *topic = new_topic("paused", 2);
    produce(topic, 0, 0, 20);
    produce(topic, 1, 0, 20);
    struct member a = {0}, b = {0};
    join(&a, topic, NULL);
    poll_until_assigned(&a, 2, NULL, 0);
    assert_status(STATUS_OK, kafka_consumer_pause(a.consumer, true, &error));
    join(&b, topic, NULL);
    a.next[0] = a.next[1] = 7;
    poll_until_assigned(&a, 1, &b, 1);
    assert_int_equal(a.revoke_calls, 1);
    rd_kafka_message_t *message = NULL;
    assert_status(STATUS_OK, kafka_consumer_poll(a.consumer, 500, &message, &error));
    assert_null(message); /* the new assignment is paused too */
    assert_status(STATUS_OK, kafka_consumer_pause(a.consumer, false, &error));
    expect_member_record(&a);
    kafka_consumer_close(a.consumer);
    kafka_consumer_close(b.consumer);
}

static void test_static_member_comes_back_at_once_and_fences_its_double(void **state)
{
    (void)state;
    const char *topic = new_topic("static", 1);
    produce(topic, 0, 0, 5);
    struct member a = {0}, b = {0};
    join(&a, topic, "slot-1");
    poll_until_assigned(&a, 1, NULL, 0);
    int64_t start = now_ms();
    join(&b, topic, "slot-1");
    poll_until_assigned(&b, 1, NULL, 0);
    assert_true(now_ms() - start < 9000); /* not the session time-out */
    assert_status(STATUS_FENCED, poll_status(a.consumer));
    assert_non_null(strstr(error.text, "instance name"));
    expect_member_record(&b);
    kafka_consumer_close(a.consumer);
    kafka_consumer_close(b.consumer);
}

static void test_commit_hint_reaches_the_group(void **state)
{
    (void)state;
    const char *topic = new_topic("hint", 1);
    produce(topic, 0, 0, 5);
    struct member a = {0};
    join(&a, topic, NULL);
    poll_until_assigned(&a, 1, NULL, 0);
    struct kafka_position position = {.topic = topic, .partition = 0, .offset = 3};
    kafka_consumer_commit_hint(a.consumer, &position, 1);
    rd_kafka_t *rk = raw_client(RD_KAFKA_CONSUMER, "group.id", topic);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, 0);
    int64_t end = now_ms() + WAIT_MS;
    while (list->elems[0].offset != 3 && now_ms() < end)
        assert_int_equal(rd_kafka_committed(rk, list, WAIT_MS), 0);
    assert_int_equal(list->elems[0].offset, 3);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(rk);
    kafka_consumer_close(a.consumer);
}

static void test_topic_that_comes_later(void **state)
{
    (void)state;
    const char *topic = unused_topic("later");
    struct member a = {0};
    join(&a, topic, NULL);
    assert_status(STATUS_RETRY, poll_status(a.consumer));
    assert_non_null(strstr(error.text, topic));
    bool created;
    assert_status(STATUS_OK, kafka_topic_create(properties, topic, 1, WAIT_MS, &created, &error));
    produce(topic, 0, 0, 3);
    int64_t end = now_ms() + WAIT_MS;
    while (a.assigned == 0 && now_ms() < end) {
        rd_kafka_message_t *message = NULL;
        enum status status = kafka_consumer_poll(a.consumer, 100, &message, &error);
        assert_true(status == STATUS_OK || status == STATUS_RETRY);
        take(&a, message);
    }
    expect_member_record(&a);
    kafka_consumer_close(a.consumer);
}

/* --- faults --- */

static void test_without_a_broker_nothing_hangs(void **state)
{
    (void)state;
    json_t *nowhere = json_pack("{s:s}", "bootstrap.servers", "127.0.0.1:1");
    struct kafka_position position = {.topic = "t", .partition = 0, .offset = 0};
    struct kafka_consumer *consumer = NULL;
    int64_t start = now_ms();
    assert_status(STATUS_OK, kafka_consumer_assign(nowhere, &position, 1, &consumer, &error));
    rd_kafka_message_t *message = NULL;
    const char *problem = NULL;
    while ((problem = kafka_consumer_problem(consumer)) == NULL && now_ms() - start < WAIT_MS) {
        assert_status(STATUS_OK, kafka_consumer_poll(consumer, 100, &message, &error));
        assert_null(message);
    }
    assert_non_null(problem);
    assert_non_null(strstr(problem, "refused"));
    start = now_ms();
    kafka_consumer_close(consumer);
    kafka_consumer_close(NULL);

    struct member a = {0};
    const char *topic = "t";
    struct kafka_group_callbacks callbacks = {member_assign, member_revoke, &a};
    assert_status(STATUS_OK, kafka_consumer_subscribe(nowhere, "g", "i", &topic, 1, &callbacks,
                                                      &a.consumer, &error));
    assert_status(STATUS_OK, kafka_consumer_poll(a.consumer, 300, &message, &error));
    kafka_consumer_close(a.consumer);

    struct kafka_producer *producer = NULL;
    assert_status(STATUS_OK, kafka_producer_create(nowhere, &producer, &error));
    assert_status(STATUS_OK, kafka_producer_send(producer, "t", 0, NULL, 0, "x", 1, NULL, &error));
    assert_status(STATUS_RETRY, kafka_producer_flush(producer, 500, &error));
    assert_non_null(strstr(error.text, "1 records"));
    kafka_producer_destroy(producer);
    kafka_producer_destroy(NULL);

    int count;
    bool created;
    assert_status(STATUS_RETRY, kafka_topic_partitions(nowhere, "t", 500, &count, &error));
    assert_status(STATUS_RETRY, kafka_topic_create(nowhere, "t", 1, 500, &created, &error));
    assert_true(now_ms() - start < 15000);
    json_decref(nowhere);
}

/* A member whose broker vanishes: polls stay quiet, records go on when it is back, and closing is
 * bounded. librdkafka's mock cluster stands for the broker, because a shared one cannot be stopped.
 */
static void test_broker_that_dies(void **state)
{
    (void)state;
    rd_kafka_t *owner = raw_client(RD_KAFKA_PRODUCER, NULL, NULL);
    rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(owner, 1);
    const char *topic = "mocked";
    assert_int_equal(rd_kafka_mock_topic_create(cluster, topic, 1, 1), 0);
    json_t *saved = properties;
    properties = json_pack("{s:s, s:i}", "bootstrap.servers",
                           rd_kafka_mock_cluster_bootstraps(cluster), "session.timeout.ms", 6000);
    produce(topic, 0, 0, 10);
    struct member a = {0};
    join(&a, topic, NULL);
    poll_until_assigned(&a, 1, NULL, 0);
    expect_member_record(&a);

    rd_kafka_mock_broker_set_down(cluster, 1);
    int64_t end = now_ms() + 2000;
    while (now_ms() < end) {
        rd_kafka_message_t *message = NULL;
        assert_status(STATUS_OK, kafka_consumer_poll(a.consumer, 100, &message, &error));
        take(&a, message);
    }
    assert_non_null(kafka_consumer_problem(a.consumer));
    rd_kafka_mock_broker_set_up(cluster, 1);
    produce(topic, 0, 10, 15);
    while (a.next[0] < 15)
        expect_member_record(&a);
    assert_null(kafka_consumer_problem(a.consumer));

    rd_kafka_mock_broker_set_down(cluster, 1);
    int64_t start = now_ms();
    kafka_consumer_close(a.consumer);
    assert_true(now_ms() - start < 8000);
    assert_int_equal(a.assigned, 0);
    json_decref(properties);
    properties = saved;
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(owner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_group_shares_partitions_and_reads_from_given_offsets),
        cmocka_unit_test(test_failing_callbacks_surface_and_are_asked_again),
        cmocka_unit_test(test_who_ends_is_not_asked_about_assignments),
        cmocka_unit_test(test_unanswered_assignment_can_be_taken_back),
        cmocka_unit_test(test_paused_member_stays_and_rebalances),
        cmocka_unit_test(test_static_member_comes_back_at_once_and_fences_its_double),
        cmocka_unit_test(test_commit_hint_reaches_the_group),
        cmocka_unit_test(test_topic_that_comes_later),
        cmocka_unit_test(test_without_a_broker_nothing_hangs),
        cmocka_unit_test(test_broker_that_dies),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
