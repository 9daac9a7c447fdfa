/* Dead letters of dovetail-speed: what is bad goes there whole, with where it was and why, also
 * where it is larger than the topic takes, or where there is no topic. */
#include "tests/support/speed_fixture.h"

/* Dead letters: what each must look like. */
struct bad_record {
    const char *key;
    const char *value;
    const char *reason; /* part of it */
    const char *view;
};

static const struct bad_record bad_records[] = {
    {"k1", "{\"time\":978307200000,", "", NULL},
    {"k2", "[1]", "", NULL},
    {"k3", "{\"time\":978307200000,\"delay\":1,\"distance\":5}", "origin", NULL},
    {"k4", "{\"time\":978307200000,\"delay\":\"x\",\"distance\":5,\"origin\":\"A\"}", "delay",
     NULL},
    {"k5", "{\"time\":978307200000000000,\"delay\":1,\"distance\":5,\"origin\":\"A\"}", "time",
     NULL},
    {"k6", NULL, "no value", NULL},
    {NULL, "", "", NULL},
    {"k8", "{\"time\":978307200000,\"delay\":null,\"distance\":13,\"origin\":\"A\"}", "", "ratio"},
};
enum { BAD_RECORDS = sizeof bad_records / sizeof bad_records[0] };

static const char *header(const rd_kafka_message_t *message, const char *name)
{
    rd_kafka_headers_t *headers = NULL;
    const void *value = NULL;
    size_t length;
    if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR ||
        rd_kafka_header_get_last(headers, name, &value, &length) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return NULL;
    return value; /* librdkafka ends it with a 0 */
}

static void assert_bytes(const void *data, size_t length, const char *expected)
{
    if (expected == NULL) {
        assert_null(data);
        return;
    }
    assert_int_equal(length, strlen(expected));
    assert_memory_equal(data, expected, length);
}

static void check_letter(const rd_kafka_message_t *message)
{
    char number[24];
    int64_t offset = strtoll(header(message, "dovetail.offset"), NULL, 10);
    const struct bad_record *bad = &bad_records[(offset - 100) / 2];
    assert_bytes(message->key, message->key_len, bad->key);
    assert_bytes(message->payload, message->len, bad->value);
    assert_string_equal(header(message, "dovetail.topic"), topic);
    assert_string_equal(header(message, "dovetail.partition"), "1");
    assert_non_null(header(message, "dovetail.timestamp"));
    assert_non_null(strstr(header(message, "dovetail.reason"), bad->reason));
    assert_true(header(message, "dovetail.reason")[0] != '\0');
    if (bad->view == NULL)
        assert_null(header(message, "dovetail.view"));
    else
        assert_string_equal(header(message, "dovetail.view"), bad->view);
    snprintf(number, sizeof number, "%lld", (long long)((offset - 100) / 2));
    assert_string_equal(header(message, "trace"), number);
}

/* Reads the dead-letter topic to its end. */
static void check_letters(void)
{
    struct kafka_consumer *consumer = NULL;
    const struct kafka_position position = {.topic = dead_topic};
    assert_ok(kafka_consumer_assign(properties, &position, 1, &consumer, &error));
    int count = 0;
    for (bool end = false; !end;) {
        rd_kafka_message_t *message = NULL;
        assert_ok(kafka_consumer_poll(consumer, WAIT_MS, &message, &error));
        assert_non_null(message);
        end = message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
        if (!end) {
            check_letter(message);
            count++;
        }
        rd_kafka_message_destroy(message);
    }
    kafka_consumer_close(consumer);
    assert_int_equal(count, BAD_RECORDS);
}

static void test_dead_letters(void **state)
{
    (void)state;
    register_view(ratio_json());
    produce_everywhere(100);
    for (int i = 0; i < BAD_RECORDS; i++) {
        char number[16];
        rd_kafka_headers_t *headers = rd_kafka_headers_new(1);
        snprintf(number, sizeof number, "%d", i);
        rd_kafka_header_add(headers, "trace", -1, number, -1);
        produce_raw(1, bad_records[i].key, bad_records[i].value, headers);
        produce(1, 1);
    }
    /* The record that only one view refuses is counted by the other. */
    execute("INSERT INTO model VALUES (1, -1, 978307200000, NULL, 13, 'A')");
    start_process(0);
    assert_exact();
    assert_int_equal(query_int64("SELECT sum(dead_lettered) FROM dovetail_internal.position"),
                     BAD_RECORDS);
    assert_int_equal(query_int64("SELECT sum(rejected) FROM dovetail_internal.view_ledger "
                                 "WHERE version = 2"),
                     1);
    check_letters();
    stop_process(0);
}

/* --- dead letters that the topic does not take --- */

enum { LARGE = 5000, LETTERS_TOGETHER = 60 };

static void limit_dead_letters(const char *bytes)
{
    char reason[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", getenv("DOVETAIL_KAFKA"), reason, sizeof reason);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof reason);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_ConfigResource_t *resource =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, dead_topic);
    rd_kafka_ConfigResource_set_config(resource, "max.message.bytes", bytes);
    rd_kafka_AlterConfigs(rk, &resource, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, WAIT_MS);
    assert_non_null(event);
    assert_int_equal(rd_kafka_event_error(event), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_event_destroy(event);
    rd_kafka_ConfigResource_destroy(resource);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
}

/* Text that no compression makes small. */
static const char *large_text(void)
{
    static char text[LARGE + 1];
    for (int i = 0; i < LARGE; i++)
        text[i] = (char)('!' + draw(90));
    text[0] = '?'; /* bad in any case */
    return text;
}

/* A bad record, of which the parts in `large` ("vhk") are. */
static void produce_bad(const char *large)
{
    char key[LARGE + 1] = "small";
    rd_kafka_headers_t *headers = rd_kafka_headers_new(1);
    rd_kafka_header_add(headers, "trace", -1, strchr(large, 'h') ? large_text() : "small", -1);
    if (strchr(large, 'k') != NULL)
        memcpy(key, large_text(), sizeof key);
    produce_raw(1, key, strchr(large, 'v') != NULL ? large_text() : "small", headers);
}

/* Counts the letters of which exactly the parts in `withheld` are left out. */
static int count_letters(const char *withheld)
{
    static const struct {
        char part;
        const char *text;
    } parts[] = {{'v', "value: too large for the dead-letter topic"},
                 {'h', "headers: too large for the dead-letter topic"},
                 {'k', "key: too large for the dead-letter topic"}};
    struct kafka_consumer *consumer = NULL;
    const struct kafka_position position = {.topic = dead_topic};
    assert_ok(kafka_consumer_assign(properties, &position, 1, &consumer, &error));
    int count = 0;
    char seen[PARTITIONS * 1000] = {0}; /* letters may come twice */
    for (bool end = false; !end;) {
        rd_kafka_message_t *message = NULL;
        assert_ok(kafka_consumer_poll(consumer, WAIT_MS, &message, &error));
        assert_non_null(message);
        end = message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
        rd_kafka_headers_t *headers = NULL;
        bool matches = !end;
        if (!end)
            assert_int_equal(rd_kafka_message_headers(message, &headers), 0);
        for (size_t i = 0, at = 0; i < 3 && !end; i++) {
            const void *text = NULL;
            size_t length;
            bool wanted = strchr(withheld, parts[i].part) != NULL;
            bool found =
                rd_kafka_header_get(headers, at, "dovetail.withheld", &text, &length) == 0 &&
                strcmp(text, parts[i].text) == 0;
            at += found;
            matches = matches && found == wanted;
        }
        if (matches) {
            assert_bytes(message->payload, message->len,
                         strchr(withheld, 'v') != NULL ? NULL : "small");
            assert_bytes(message->key, message->key_len,
                         strchr(withheld, 'k') != NULL ? NULL : "small");
            if (strchr(withheld, 'h') != NULL)
                assert_null(header(message, "trace"));
            else
                assert_string_equal(header(message, "trace"), "small");
            assert_non_null(header(message, "dovetail.reason"));
            int64_t offset = strtoll(header(message, "dovetail.offset"), NULL, 10);
            count += seen[offset]++ == 0;
        }
        rd_kafka_message_destroy(message);
    }
    kafka_consumer_close(consumer);
    return count;
}

static void test_dead_letters_too_large(void **state)
{
    (void)state;
    static const char *const larges[] = {"v", "h", "k", "vh", "vhk"};
    limit_dead_letters("2000");
    produce_everywhere(100);
    /* Together they are too large, too, and each of them is not. */
    for (int i = 0; i < LETTERS_TOGETHER; i++)
        produce_bad("");
    for (size_t i = 0; i < sizeof larges / sizeof larges[0]; i++) {
        produce_bad(larges[i]);
        produce(1, 5);
    }
    start_process(0);
    assert_exact();
    assert_int_equal(count_letters(""), LETTERS_TOGETHER);
    for (size_t i = 0; i < sizeof larges / sizeof larges[0]; i++)
        assert_int_equal(count_letters(larges[i]), 1);
    assert_true(log_has(0, "dead letters are sent without what is too large"));
    stop_process(0);
}

/* P waits where a letter cannot be delivered. */
static void test_dead_letter_topic_missing(void **state)
{
    (void)state;
    int partitions = 1;
    bool created;
    delete_topics(true);
    while (partitions >= 0)
        assert_ok(kafka_topic_partitions(properties, dead_topic, WAIT_MS, &partitions, &error));
    produce_everywhere(100);
    produce_raw(1, NULL, "{", NULL);
    produce(1, 10);
    start_process(0);
    wait_until("it says so", log_has_line, "dead letters");
    assert_int_equal(query_int64("SELECT count(*) FROM dovetail_internal.position "
                                 "WHERE partition = 1 AND next_offset > 100"),
                     0);
    assert_ok(kafka_topic_create(properties, dead_topic, 1, WAIT_MS, &created, &error));
    assert_exact();
    stop_process(0);
}

int main(int argc, char **argv)
{
    if (argc > 1) /* a pattern for the names of tests */
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_dead_letters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dead_letter_topic_missing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dead_letters_too_large, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
