/* What a source may say about its records beyond their fields, with a real Kafka and a real
 * PostgreSQL: duplicates, derived fields, records left out for a NULL, masks. Records are produced
 * to known partitions, so their offsets are known, and a naive model looks back over them. Whatever
 * happens to the processes, the ledger, the views and the model agree, and `dovetail verify` finds
 * every answer identical. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/archive/archive.h"
#include "tests/support/broker.h"
#include "tests/support/database.h"
#include "tests/support/deployment.h"
#include "tests/support/orders.h"
#include "tests/support/stack.h"

enum { PARTITIONS = 2, LOG_MAX = 20000, LINE_BYTES = 160, WITHIN = 300 };

static struct deployment *deployment;
static struct child *speed;
static uint64_t chaos;

static int set_up(void **state)
{
    (void)state;
    chaos = stack_seed();
    deployment = deployment_create();
    deployment_set(deployment, "batch", "segment_size", json_string("8 KiB"));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    deployment_destroy(deployment);
    deployment = NULL;
    speed = NULL;
    return 0;
}

static size_t below(size_t bound)
{
    return orders_below(&chaos, bound);
}

/* Writes lines into a file and produces it to one partition. */
static void produce(const char *source, int partition, const char *lines)
{
    char path[160];
    char number[8];
    deployment_write(deployment, "lines.jsonl", lines);
    snprintf(path, sizeof path, "%s/lines.jsonl", deployment->directory);
    snprintf(number, sizeof number, "%d", partition);
    deployment_run(deployment, 0, "dovetail", "produce", source, path, "--partition", number, NULL);
}

static void start_speed(void)
{
    speed = deployment_start(deployment, "dovetail-speed", NULL);
}

static void await_number(const char *sql, int64_t wanted)
{
    int64_t deadline = stack_now_ms() + STACK_WAIT_MS;
    int64_t number;
    while ((number = deployment_number(deployment, sql)) != wanted) {
        if (stack_now_ms() > deadline || !child_is_running(speed)) {
            children_show();
            fail_msg("%s: %lld, not %lld", sql, (long long)number, (long long)wanted);
        }
        stack_sleep_ms(20);
    }
}

static void expect_number(const char *sql, int64_t wanted)
{
    int64_t number = deployment_number(deployment, sql);
    if (number != wanted)
        fail_msg("%s: %lld, not %lld", sql, (long long)number, (long long)wanted);
}

/* --- duplicates --- */

struct event {
    int64_t id; /* -1: NULL, -2: no event */
    int64_t n;
};

static struct event logs[PARTITIONS][LOG_MAX];
static size_t ends[PARTITIONS];

static void define_events(int within)
{
    char source[600];
    snprintf(source, sizeof source,
             "{\"source\":\"events\",\"topic\":\"\",\"partitions\":2,"
             "\"event_time\":{\"field\":\"at\",\"format\":\"epoch_s\"},"
             "\"fields\":{\"at\":\"integer\",\"id\":{\"type\":\"string\",\"nullable\":true},"
             "\"n\":\"integer\"},\"dedupe\":{\"field\":\"id\",\"within\":%d}}",
             within);
    deployment_define_source(deployment, source);
    deployment_define_view(deployment,
                           "{\"view\":\"sums\",\"source\":\"events\",\"where\":\"n > 10\","
                           "\"window\":{\"type\":\"tumbling\",\"size\":\"1h\"},\"measures\":{"
                           "\"c\":\"count(*)\",\"total\":\"sum(n)\"}}");
}

static void produce_events(int partition, size_t count)
{
    char *lines = malloc(count * LINE_BYTES);
    size_t length = 0;
    assert_non_null(lines);
    assert_true(ends[partition] + count <= LOG_MAX);
    for (size_t i = 0; i < count; i++) {
        struct event *event = &logs[partition][ends[partition]++];
        char id[24] = "null";
        *event = (struct event){.id = (int64_t)below(600), .n = (int64_t)below(100)};
        if (below(20) == 0)
            event->id = -1;
        if (below(30) == 0)
            event->id = -2;
        if (event->id >= 0)
            snprintf(id, sizeof id, "\"e-%lld\"", (long long)event->id);
        length +=
            (size_t)snprintf(lines + length, LINE_BYTES, "{\"at\":%zu,\"id\":%s,\"n\":%lld%s\n",
                             below(100000), id, (long long)event->n, event->id == -2 ? "" : "}");
    }
    produce("events", partition, lines);
    free(lines);
}

struct tally {
    int64_t counted, filtered, duplicate, dead, total;
};

static struct tally tally(int partition, int64_t within)
{
    struct tally tally = {0};
    const struct event *log = logs[partition];
    for (int64_t i = 0; i < (int64_t)ends[partition]; i++) {
        bool duplicate = false;
        for (int64_t j = i - 1; log[i].id >= 0 && !duplicate && j >= 0 && j >= i - within; j--)
            duplicate = log[j].id == log[i].id;
        if (log[i].id == -2) {
            tally.dead++;
        } else if (duplicate) {
            tally.duplicate++;
        } else if (log[i].n > 10) {
            tally.counted++;
            tally.total += log[i].n;
        } else {
            tally.filtered++;
        }
    }
    return tally;
}

static void await_end(void)
{
    await_number("SELECT sum(next_offset) FROM dovetail_internal.position",
                 (int64_t)(ends[0] + ends[1]));
}

static void check_view(int64_t within)
{
    struct tally a = tally(0, within);
    struct tally b = tally(1, within);
    expect_number("SELECT sum(c) FROM dovetail.sums", a.counted + b.counted);
    expect_number("SELECT sum(total) FROM dovetail.sums", a.total + b.total);
    deployment_run(deployment, 0, "dovetail", "verify", "sums", NULL);
}

static void check_ledger(void)
{
    for (int p = 0; p < PARTITIONS; p++) {
        struct tally wanted = tally(p, WITHIN);
        char sql[300];
        snprintf(sql, sizeof sql,
                 "SELECT count(*) FROM dovetail_internal.position WHERE partition = %d"
                 " AND counted = %lld AND filtered = %lld AND duplicate = %lld"
                 " AND dead_lettered = %lld AND consumed = %zu",
                 p, (long long)wanted.counted, (long long)wanted.filtered,
                 (long long)wanted.duplicate, (long long)wanted.dead, ends[p]);
        assert_true(wanted.duplicate > 0);
        expect_number(sql, 1);
    }
}

static void delete_below(const char *topic, int64_t offset)
{
    int partitions = strstr(topic, "people") != NULL ? 1 : PARTITIONS;
    for (int p = 0; p < partitions; p++)
        broker_delete_below(topic, p, offset);
}

static void test_duplicates(void **state)
{
    (void)state;
    memset(ends, 0, sizeof ends);
    define_events(WITHIN);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    start_speed();
    for (int round = 0; round < 10; round++) {
        produce_events(0, 100 + below(500));
        produce_events(1, 100 + below(500));
        if (below(2) == 0) {
            stack_sleep_ms((int)below(300));
            child_kill(speed);
            start_speed();
        }
        if (below(2) == 0)
            deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
        if (below(3) == 0)
            deployment_run(deployment, 0, "dovetail", "verify", "sums", NULL);
    }
    await_end();
    check_ledger();
    check_view(WITHIN);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    check_view(WITHIN);
    assert_true(deployment_number(deployment, "SELECT count(*) FROM dovetail_internal.segment") >
                20);

    /* A clean stop and start in the middle, ids from the log. */
    child_stop(speed);
    produce_events(0, 300);
    start_speed();
    await_end();
    check_ledger();
    check_view(WITHIN);

    /* Kafka has forgotten what is archived: ids from the archive, then from the log. */
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    child_stop(speed);
    int64_t gone = (int64_t)(ends[0] < ends[1] ? ends[0] : ends[1]) - 100;
    delete_below(deployment_topic(deployment, "events"), gone);
    produce_events(0, 300);
    produce_events(1, 300);
    start_speed();
    await_end();
    assert_non_null(strstr(child_errors(speed), "from the archive"));
    check_ledger();
    check_view(WITHIN);

    /* Another reach is another version of the view; the ledger goes on as it was. */
    define_events(20);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    check_view(WITHIN);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    expect_number("SELECT max(version) FROM dovetail_internal.view_version WHERE state = 'current'",
                  2);
    check_view(20);
    child_stop(speed);
}

/* The ids are neither in Kafka nor in the archive: nobody can say what is a duplicate. */
static void test_ids_are_gone(void **state)
{
    (void)state;
    memset(ends, 0, sizeof ends);
    define_events(WITHIN);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    start_speed();
    produce_events(0, 400);
    produce_events(1, 400);
    await_end();
    child_stop(speed);
    delete_below(deployment_topic(deployment, "events"), 200);
    start_speed();
    await_number("SELECT count(*) FROM dovetail_internal.halted WHERE message LIKE"
                 " 'the ids below offset 400, for dedupe: %offsets 100 to 200 were deleted%'",
                 PARTITIONS);
    child_stop(speed);
}

/* Years that start before 0001 or end after 9999, where a time of a record cannot be. */
static void test_calendar_at_the_ends_of_time(void **state)
{
    (void)state;
    deployment_define_source(deployment, "{\"source\":\"ends\",\"topic\":\"\",\"partitions\":1,"
                                         "\"event_time\":{\"field\":\"at\",\"format\":\"rfc3339\"},"
                                         "\"fields\":{\"at\":\"timestamp\"}}");
    deployment_define_view(deployment,
                           "{\"view\":\"tokyo\",\"source\":\"ends\",\"window\":{\"type\":"
                           "\"tumbling\",\"size\":\"1y\",\"timezone\":\"Asia/Tokyo\"},"
                           "\"measures\":{\"c\":\"count(*)\"}}");
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    start_speed();
    produce("ends", 0, "{\"at\":\"0001-01-01T00:00:00Z\"}\n{\"at\":\"9999-12-31T23:59:59Z\"}\n");
    await_number("SELECT next_offset FROM dovetail_internal.position", 2);
    deployment_run(deployment, 0, "dovetail", "verify", "tokyo", NULL);
    child_stop(speed);
}

/* --- derived fields, drop_if_null --- */

static void define_orders(void)
{
    deployment_define_source(
        deployment,
        "{\"source\":\"orders\",\"topic\":\"\",\"partitions\":1,"
        "\"event_time\":{\"field\":\"at\",\"format\":\"epoch_s\"},"
        "\"fields\":{\"at\":\"timestamp\",\"price\":\"decimal\",\"quantity\":\"integer\","
        "\"parts\":{\"type\":\"integer\",\"nullable\":true},"
        "\"shop\":{\"type\":\"string\",\"nullable\":true},"
        "\"never\":{\"type\":\"string\",\"path\":\"$f$.it's\",\"nullable\":true}},"
        "\"derive\":{\"revenue\":\"price * quantity\",\"each\":\"revenue / parts\","
        "\"order\":\"shop || '-' || CASE WHEN quantity > 5 THEN 'big' ELSE 'small' END\","
        "\"late\":\"at > '2001-01-01'\",\"quoted\":\"\\\"order\\\" || '!$f$'\"},"
        "\"drop_if_null\":[\"parts\",\"order\"]}");
    deployment_define_view(
        deployment, "{\"view\":\"revenues\",\"source\":\"orders\","
                    "\"where\":\"late AND never IS DISTINCT FROM '$f$'\","
                    "\"group_by\":[\"order\",\"quoted\"],"
                    "\"window\":{\"type\":\"tumbling\",\"size\":\"1d\"},\"measures\":{"
                    "\"c\":\"count(*)\",\"total\":\"sum(revenue)\",\"most\":\"max(each)\"}}");
    deployment_define_view(deployment,
                           "{\"view\":\"counts\",\"source\":\"orders\","
                           "\"window\":{\"type\":\"tumbling\",\"size\":\"1d\"},\"measures\":{"
                           "\"c\":\"count(*)\",\"cents\":\"sum(100 * revenue)\"}}");
}

static void test_derived_fields(void **state)
{
    (void)state;
    enum { RECORDS = 3000 };
    char *lines = malloc(RECORDS * LINE_BYTES);
    size_t length = 0;
    int64_t dead = 0;
    int64_t dropped = 0;
    int64_t cents = 0;
    assert_non_null(lines);
    for (int i = 0; i < RECORDS; i++) {
        int64_t price = (int64_t)below(10000);
        int64_t quantity = (int64_t)below(10);
        char parts[8] = "null";
        size_t part_count = below(8);
        if (part_count < 7)
            snprintf(parts, sizeof parts, "%zu", part_count);
        const char *shop = below(10) == 0 ? "null" : below(2) == 0 ? "\"a\"" : "\"b\"";
        length += (size_t)snprintf(
            lines + length, LINE_BYTES,
            "{\"at\":%zu,\"price\":%lld.%02lld,\"quantity\":%lld,\"parts\":%s,\"shop\":%s}\n",
            978307200 - 100000 + below(200000), (long long)price / 100, (long long)price % 100,
            (long long)quantity, parts, shop);
        if (part_count == 0)
            dead++;
        else if (part_count == 7 || shop[0] == 'n')
            dropped++;
        else
            cents += price * quantity;
    }
    define_orders();
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    start_speed();
    produce("orders", 0, lines);
    await_number("SELECT next_offset FROM dovetail_internal.position", RECORDS);
    deployment_run(deployment, 0, "dovetail", "verify", "revenues", NULL);
    expect_number("SELECT dead_lettered FROM dovetail_internal.position", dead);
    expect_number("SELECT filtered FROM dovetail_internal.position", dropped);
    expect_number("SELECT counted FROM dovetail_internal.position", RECORDS - dead - dropped);
    expect_number("SELECT sum(cents) FROM dovetail.counts", cents);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    produce("orders", 0, lines);
    await_number("SELECT next_offset FROM dovetail_internal.position", 2 * RECORDS);
    expect_number("SELECT sum(cents) FROM dovetail.counts", 2 * cents);
    deployment_run(deployment, 0, "dovetail", "verify", "revenues", NULL);
    deployment_run(deployment, 0, "dovetail", "verify", "counts", NULL);
    struct child *letters = deployment_run(deployment, 0, "dovetail", "dead-letters", "list",
                                           "orders", "--limit", "5", "--format", "json", NULL);
    assert_non_null(strstr(child_output(letters), "derive.each: division by zero"));
    child_stop(speed);
    free(lines);
}

/* --- masks --- */

static const char key[] = "a key for the test of masks";
static char key_file[160];

/* HMAC-SHA-256 of "SECRET-1" with that key, by PostgreSQL's sha256. */
static const char secret_hash_sql[] =
    "SELECT encode(sha256(opad || sha256(ipad || 'SECRET-1')), 'hex') FROM ("
    " SELECT string_agg(set_byte('\\x00', 0, b # 54), '' ORDER BY i) AS ipad,"
    "        string_agg(set_byte('\\x00', 0, b # 92), '' ORDER BY i) AS opad"
    " FROM (SELECT i, CASE WHEN i < length('%s') THEN ascii(substr('%s', i + 1, 1)) ELSE 0 END AS b"
    "       FROM generate_series(0, 63) AS i) AS bytes) AS pads";

static void define_people(bool masked)
{
    char source[900];
    char mask[300] = "";
    if (masked)
        snprintf(mask, sizeof mask,
                 ",\"mask\":{\"fields\":[\"email\",\"name\"],\"key_file\":\"%s\",\"key\":true}",
                 key_file);
    snprintf(
        source, sizeof source,
        "{\"source\":\"people\",\"topic\":\"\",\"partitions\":1,"
        "\"event_time\":{\"field\":\"at\",\"format\":\"epoch_s\"},"
        "\"fields\":{\"at\":\"integer\",\"email\":{\"type\":\"string\",\"path\":\"user.email\"},"
        "\"name\":{\"type\":\"string\",\"nullable\":true},\"n\":\"integer\"},"
        "\"derive\":{\"whole\":\"email || '/' || COALESCE(name, '-')\",\"share\":\"100 / n\"},"
        "\"dedupe\":{\"field\":\"whole\",\"within\":20}%s}",
        mask);
    deployment_define_source(deployment, source);
    deployment_define_view(deployment,
                           "{\"view\":\"by_email\",\"source\":\"people\",\"group_by\":[\"email\"],"
                           "\"window\":{\"type\":\"tumbling\",\"size\":\"1d\"},\"measures\":{"
                           "\"c\":\"count(*)\",\"total\":\"sum(n)\",\"last\":\"max(whole)\"}}");
    deployment_define_view(deployment,
                           "{\"view\":\"fails\",\"source\":\"people\","
                           "\"window\":{\"type\":\"tumbling\",\"size\":\"1d\"},\"measures\":{"
                           "\"total\":\"sum(10 / (n - 3))\"}}");
}

static int64_t people;

/* Good ones, and bad ones of every kind: each has something that must not be seen. */
static void produce_people(size_t count)
{
    char *lines = malloc(count * LINE_BYTES + 1);
    size_t length = 0;
    assert_non_null(lines);
    for (size_t i = 0; i < count; i++) {
        size_t who = below(40);
        static const char *const shapes[] = {
            "{\"at\":%zu,\"user\":{\"email\":\"SECRET-%zu\"},\"name\":\"SECRET "
            "\\u0041\",\"n\":%zu}\n",
            "{\"at\":%zu,\"user\":{\"email\":\"\\u0053ECRET-%zu\"},\"n\":%zu}\n",
            "{\"at\":%zu,\"name\":\"SECRET\",\"name\":null,\"user\":{\"email\":\"SECRET-%zu\"},"
            "\"n\":%zu}"
            "\n",
            "{\"at\":%zu,\"user\":{\"e-mail\":\"SECRET-%zu\"},\"n\":%zu}\n",
            "{\"at\":%zu,\"user\":{\"email\":\"SECRET-%zu\"},\"n\":%zu\n",
            "[\"%zu\",\"SECRET-%zu\",%zu]\n",
            "{\"at\":%zu,\"user\":{\"email\":\"SECRET-%zu\\u0000\"},\"n\":%zu}\n",
        };
        size_t shape = below(4) == 0 ? 3 + below(4) : below(3);
        char line[LINE_BYTES];
        /* The formats differ in nothing but what stands around the same three numbers. */
        const char *rest = shapes[shape];
        size_t numbers[] = {below(100000), who, below(6)};
        size_t used = 0;
        for (size_t k = 0; *rest != '\0';) {
            if (strncmp(rest, "%zu", 3) == 0) {
                used += (size_t)snprintf(line + used, sizeof line - used, "%zu", numbers[k++]);
                rest += 3;
            } else {
                line[used++] = *rest++;
            }
        }
        memcpy(lines + length, line, used);
        length += used;
    }
    lines[length] = '\0';
    produce("people", 0, lines);
    people += (int64_t)count;
    free(lines);
}

static void await_people(void)
{
    await_number("SELECT next_offset FROM dovetail_internal.position", people);
}

static bool tells(const void *data, size_t length)
{
    return data != NULL && memmem(data, length, "SECRET", 6) != NULL;
}

/* No record from `first` on shows anything in the archive. */
static void check_archive(int64_t first)
{
    char sql[200];
    char archive[100];
    int64_t seen = 0;
    int64_t withheld = 0;
    struct error error;
    snprintf(archive, sizeof archive, "%s/archive", deployment->directory);
    snprintf(sql, sizeof sql,
             "SELECT topic, partition, start_offset, end_offset, file, record_count, file_bytes,"
             " raw_bytes, checksum FROM dovetail_internal.segment WHERE start_offset >= %lld",
             (long long)first);
    PGconn *connection = deployment_connect(deployment);
    PGresult *result = database_ask(connection, sql);
    assert_int_equal(PQresultStatus(result), PGRES_TUPLES_OK);
    for (int row = 0; row < PQntuples(result); row++) {
        struct archive_segment segment = {
            .topic = PQgetvalue(result, row, 0),
            .start_offset = strtoll(PQgetvalue(result, row, 2), NULL, 10),
            .end_offset = strtoll(PQgetvalue(result, row, 3), NULL, 10),
            .file = PQgetvalue(result, row, 4),
            .record_count = strtoll(PQgetvalue(result, row, 5), NULL, 10),
            .file_bytes = strtoll(PQgetvalue(result, row, 6), NULL, 10),
            .raw_bytes = strtoll(PQgetvalue(result, row, 7), NULL, 10),
        };
        snprintf(segment.checksum, sizeof segment.checksum, "%s", PQgetvalue(result, row, 8));
        struct archive_reader *reader;
        assert_int_equal(archive_reader_open(archive, &segment, &reader, &error), STATUS_OK);
        assert_non_null(archive_reader_masked(reader));
        for (bool end = false; !end;) {
            struct archive_record record;
            assert_int_equal(archive_reader_next(reader, &record, &end, &error), STATUS_OK);
            if (end)
                break;
            assert_false(tells(record.value, record.length));
            seen++;
            withheld += record.value == NULL;
        }
        archive_reader_close(reader);
    }
    PQclear(result);
    PQfinish(connection);
    assert_int_equal(seen, people - first);
    assert_true(withheld > 0);
}

static void check_letters(int64_t first)
{
    char topic[160];
    struct broker_records letters;
    size_t masked = 0;
    size_t withheld = 0;
    snprintf(topic, sizeof topic, "%s.dead", deployment_topic(deployment, "people"));
    broker_read(topic, &letters);
    for (size_t i = 0; i < letters.count; i++) {
        const rd_kafka_message_t *letter = letters.items[i];
        rd_kafka_headers_t *headers = NULL;
        const void *text;
        size_t length;
        assert_int_equal(rd_kafka_message_headers((rd_kafka_message_t *)letter, &headers), 0);
        assert_int_equal(rd_kafka_header_get_last(headers, "dovetail.offset", &text, &length), 0);
        if (strtoll(text, NULL, 10) < first)
            continue;
        assert_false(tells(letter->payload, letter->len));
        assert_false(tells(letter->key, letter->key_len));
        bool told = rd_kafka_header_get(headers, 0, "dovetail.withheld", &text, &length) == 0;
        assert_int_equal(told, letter->payload == NULL);
        assert_int_equal(rd_kafka_header_get_last(headers, "dovetail.reason", &text, &length), 0);
        assert_false(tells(text, length));
        withheld += told;
        masked += !told;
    }
    broker_records_free(&letters);
    assert_true(masked > 0 && withheld > 0);
}

static void write_key(const char *text)
{
    deployment_write(deployment, "mask.key", text);
}

static void test_masks(void **state)
{
    (void)state;
    char sql[1000];
    people = 0;
    snprintf(key_file, sizeof key_file, "%s/mask.key", deployment->directory);

    /* Without a mask first: the archive has values of that time, and is masked when it is read. */
    define_people(false);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    start_speed();
    produce_people(400);
    await_people();
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    int64_t first = people;

    define_people(true);
    struct child *init = deployment_run(deployment, 2, "dovetail", "init", NULL);
    assert_non_null(strstr(child_errors(init), "mask.key_file"));
    write_key("too short");
    deployment_run(deployment, 2, "dovetail", "init", NULL);
    write_key(key);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    for (int round = 0; round < 4; round++) {
        produce_people(300);
        if (round == 1) {
            child_kill(speed);
            start_speed();
        }
        if (round != 0) {
            /* The first one has a version from before the mask, whose keys must not be told. */
            struct child *run = deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
            assert_null(strstr(child_errors(run), "SECRET"));
            deployment_run(deployment, 0, "dovetail", "verify", "by_email", NULL);
            deployment_run(deployment, 0, "dovetail", "verify", "fails", NULL);
        }
    }
    produce_people(300);
    await_people();
    deployment_run(deployment, 0, "dovetail", "verify", "by_email", NULL);
    deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    deployment_run(deployment, 0, "dovetail", "verify", "by_email", NULL);
    check_archive(first);
    check_letters(first);
    expect_number("SELECT count(*) FROM dovetail.by_email WHERE email !~ '^[0-9a-f]{64}$'"
                  " OR last !~ '^[0-9a-f]{64}/(-|[0-9a-f]{64})$'",
                  0);
    snprintf(sql, sizeof sql, secret_hash_sql, key, key);
    char count_sql[1200];
    snprintf(count_sql, sizeof count_sql,
             "SELECT count(DISTINCT email) FROM dovetail.by_email WHERE email = (%s)", sql);
    expect_number(count_sql, 1);
    child_stop(speed);

    /* The ids of masked records from Kafka and of archived ones are the same. */
    delete_below(deployment_topic(deployment, "people"), people - 5);
    produce_people(200);
    start_speed();
    await_people();
    deployment_run(deployment, 0, "dovetail", "verify", "by_email", NULL);

    /* Nobody goes on with another key. */
    child_stop(speed);
    write_key("another key for the test of masks");
    start_speed();
    child_expect(speed, 2);
    assert_non_null(strstr(child_errors(speed), "is not the key that was registered"));
    deployment_run(deployment, 2, "dovetail-batch", "run", NULL);
    deployment_run(deployment, 2, "dovetail", "verify", "by_email", NULL);
    deployment_run(deployment, 2, "dovetail", "init", NULL);
    deployment_remove(deployment, "mask.key");
    start_speed();
    child_expect(speed, 2);
    assert_non_null(strstr(child_errors(speed), "mask.key_file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_duplicates, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ids_are_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_calendar_at_the_ends_of_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_derived_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_masks, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("sources", tests, NULL, NULL);
}
