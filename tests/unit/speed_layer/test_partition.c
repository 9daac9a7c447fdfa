/* One partition without servers: what records do to positions, slices, ledgers and flushes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/time/timestamp.h"
#include "speed_layer/partition.h"
#include "speed_layer/sql_array.h"

static struct error error;

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        if ((call) != STATUS_OK)                                                                   \
            fail_msg("%s: %s", #call, error.text);                                                 \
    } while (0)

/* --- a catalogue and one claimed partition --- */

static const char source_text[] =
    "{ \"source\": \"flights\", \"topic\": \"flights\","
    "  \"event_time\": { \"field\": \"time\", \"format\": \"epoch_ms\" },"
    "  \"fields\": { \"time\": \"timestamp\", \"delay\": \"integer\", \"origin\": \"string\" } }";

/* The same source before "delay" was required. */
static const char older_source_text[] =
    "{ \"source\": \"flights\", \"topic\": \"flights\","
    "  \"event_time\": { \"field\": \"time\", \"format\": \"epoch_ms\" },"
    "  \"fields\": { \"time\": \"timestamp\", \"origin\": \"string\" } }";

static const char count_text[] =
    "{ \"view\": \"by_origin\", \"source\": \"flights\", \"where\": \"origin <> 'NOWHERE'\","
    "  \"group_by\": [\"origin\"], \"window\": { \"type\": \"tumbling\", \"size\": \"1h\" },"
    "  \"measures\": { \"flights\": \"count(*)\" } }";

static const char ratio_text[] = "{ \"view\": \"ratio\", \"source\": \"flights\","
                                 "  \"window\": { \"type\": \"tumbling\", \"size\": \"1h\" },"
                                 "  \"measures\": { \"total\": \"sum(100 / delay)\" } }";

struct fixture {
    struct feeds *feeds;
    struct flush flush;
    struct partition partition;
    struct rejection rejection;
    enum record_outcome outcome;
};

static struct source *make_source(const char *text)
{
    struct source *source = NULL;
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    assert_ok(source_create(json, "test", &source, &error));
    json_decref(json);
    return source;
}

static void add_version(struct catalog *catalog, const char *source, const char *view)
{
    struct catalog_version *version = &catalog->versions[catalog->version_count];
    json_t *json = json_loads(view, 0, NULL);
    assert_non_null(json);
    version->source = make_source(source);
    assert_ok(view_create(json, "test", version->source, &version->view, &error));
    json_decref(json);
    version->version = (int)++catalog->version_count;
}

enum { BASE = 100 };

static void claim_partition(struct fixture *fixture, const int64_t *cuts, size_t cut_count)
{
    struct claim claim = {.topic = "flights", .claimed = true, .next_offset = BASE, .epoch = 7};
    if (cut_count > 0) {
        claim.cuts = malloc(cut_count * sizeof *cuts);
        memcpy(claim.cuts, cuts, cut_count * sizeof *cuts);
        claim.cut_count = cut_count;
    }
    assert_ok(partition_begin(&fixture->partition, &claim, feeds_find(fixture->feeds, "flights"), 0,
                              &error));
}

static void start(struct fixture *fixture, const char *second_source, const char *second_view)
{
    *fixture = (struct fixture){0};
    struct catalog *catalog = calloc(1, sizeof *catalog);
    catalog->sources = calloc(1, sizeof *catalog->sources);
    catalog->versions = calloc(2, sizeof *catalog->versions);
    catalog->sources[catalog->source_count++] = make_source(source_text);
    add_version(catalog, source_text, count_text);
    if (second_view != NULL)
        add_version(catalog, second_source, second_view);
    assert_ok(feeds_create(catalog, &fixture->feeds, &error));
    assert_ok(flush_prepare(&fixture->flush, fixture->feeds->catalog, &error));
    assert_ok(partition_init(&fixture->partition, "flights", 3, &error));
}

static void stop(struct fixture *fixture)
{
    partition_deinit(&fixture->partition);
    flush_deinit(&fixture->flush);
    feeds_destroy(fixture->feeds);
}

static enum record_outcome fold_at(struct fixture *fixture, int64_t offset, int64_t timestamp_ms,
                                   const char *value)
{
    const struct record record = {.offset = offset,
                                  .timestamp_ms = timestamp_ms,
                                  .value = value,
                                  .length = value != NULL ? strlen(value) : 0};
    assert_ok(partition_fold(&fixture->partition, &record, &fixture->flush, &fixture->outcome,
                             &fixture->rejection, &error));
    return fixture->outcome;
}

static enum record_outcome fold(struct fixture *fixture, int64_t offset, const char *value)
{
    return fold_at(fixture, offset, 1000, value);
}

static const char good[] = "{\"time\": 1000, \"delay\": 4, \"origin\": \"AAA\"}";

/* Field `field` of row `row` of COPY data, as an integer; NULL is 0. */
static int64_t copied_or_null(const struct pgbinary_writer *writer, size_t row, size_t field,
                              bool *is_null)
{
    const unsigned char *at = (const unsigned char *)writer->data + 19;
    for (size_t r = 0;; r++) {
        size_t fields = (size_t)at[0] << 8 | at[1];
        at += 2;
        for (size_t f = 0; f < fields; f++) {
            uint32_t length =
                (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
            int64_t integer = 0;
            at += 4;
            for (uint32_t i = 0; length != UINT32_MAX && i < length; i++)
                integer = (int64_t)((uint64_t)integer << 8 | at[i]);
            *is_null = length == UINT32_MAX;
            if (r == row && f == field)
                return integer;
            at += length != UINT32_MAX ? length : 0;
        }
        assert_true((const char *)at < writer->data + writer->length);
    }
}

static int64_t copied(const struct pgbinary_writer *writer, size_t row, size_t field)
{
    bool is_null;
    int64_t integer = copied_or_null(writer, row, field, &is_null);
    assert_false(is_null);
    return integer;
}

static bool copied_null(const struct pgbinary_writer *writer, size_t row, size_t field)
{
    bool is_null;
    (void)copied_or_null(writer, row, field, &is_null);
    return is_null;
}

/* --- tests --- */

static void test_pending_bytes(void **state)
{
    (void)state;
    enum { GROUPS = 10000 };
    struct fixture f;
    start(&f, NULL, NULL);
    claim_partition(&f, NULL, 0);
    assert_int_equal(partition_pending_bytes(&f.partition), 0);
    for (int i = 0; i < GROUPS; i++) {
        char value[80];
        snprintf(value, sizeof value, "{\"time\": 1000, \"delay\": 4, \"origin\": \"A%d\"}", i);
        assert_int_equal(fold(&f, BASE + i, value), RECORD_COUNTED);
    }
    size_t pending = partition_pending_bytes(&f.partition);
    assert_ok(partition_hand_over(&f.partition, &f.flush, 0, &error));
    size_t rows = flush_bytes(&f.flush);
    assert_true(pending >= rows / 2 && pending <= rows * 8);
    assert_int_equal(partition_pending_bytes(&f.partition), 0);
    /* What changes again is a small part of what is there. */
    assert_int_equal(fold(&f, BASE + GROUPS, "{\"time\": 1000, \"delay\": 4, \"origin\": \"A7\"}"),
                     RECORD_COUNTED);
    assert_in_range(partition_pending_bytes(&f.partition), 1, pending / (GROUPS / 2));
    flush_clear(&f.flush);
    assert_ok(partition_cut(&f.partition, &f.flush, 0, &error));
    assert_int_equal(partition_pending_bytes(&f.partition), 0);
    assert_true(partition_memory_bytes(&f.partition) < 1 << 16);
    stop(&f);
}

static void test_offsets_and_ledger(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, NULL, NULL);
    claim_partition(&f, NULL, 0);
    assert_false(partition_has_news(&f.partition));
    assert_int_equal(fold(&f, BASE - 1, good), RECORD_STALE);
    assert_false(partition_has_news(&f.partition));
    assert_int_equal(fold(&f, BASE, good), RECORD_COUNTED);
    assert_int_equal(fold(&f, BASE, good), RECORD_STALE);
    /* A hole is normal and not consumed. */
    assert_int_equal(fold(&f, BASE + 9, "{\"time\": 1, \"delay\": 1, \"origin\": \"NOWHERE\"}"),
                     RECORD_FILTERED);
    assert_int_equal(fold(&f, BASE + 10, "{"), RECORD_DEAD);
    assert_int_equal(f.rejection.view_count, 0);
    assert_true(f.rejection.reason[0] != '\0');
    assert_int_equal(fold(&f, BASE + 11, NULL), RECORD_DEAD);
    assert_true(partition_has_news(&f.partition));

    assert_ok(partition_hand_over(&f.partition, &f.flush, 5000000, &error));
    const struct flush_partition *entry = &f.flush.partitions[0];
    assert_int_equal(entry->epoch, 7);
    assert_int_equal(entry->expected_offset, BASE);
    assert_int_equal(entry->next_offset, BASE + 12);
    assert_int_equal(entry->slice_start, BASE);
    assert_int_equal(entry->consumed, 4);
    assert_int_equal(entry->counted, 1);
    assert_int_equal(entry->filtered, 1);
    assert_int_equal(entry->dead_lettered, 2);
    assert_int_equal(f.flush.ledgers[0].counted, 1);
    assert_int_equal(f.flush.ledgers[0].filtered, 1);
    assert_int_equal(f.flush.ledgers[0].rejected, 0);
    assert_false(partition_has_news(&f.partition));
    stop(&f);
}

static void test_rows_are_inserted_once_then_updated(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, NULL, NULL);
    claim_partition(&f, NULL, 0);
    fold(&f, BASE, good);
    fold(&f, BASE + 1, "{\"time\": 1, \"delay\": 1, \"origin\": \"BBB\"}");
    assert_ok(partition_hand_over(&f.partition, &f.flush, 0, &error));
    assert_int_equal(f.flush.versions[0].insert_count, 2);
    assert_int_equal(f.flush.versions[0].update_count, 0);
    assert_int_equal(copied(&f.flush.versions[0].inserts, 0, 0), 3); /* partition */
    assert_int_equal(copied(&f.flush.versions[0].inserts, 0, 1), BASE);

    flush_clear(&f.flush);
    fold(&f, BASE + 2, good);
    assert_ok(partition_hand_over(&f.partition, &f.flush, 0, &error));
    assert_int_equal(f.flush.versions[0].insert_count, 0);
    assert_int_equal(f.flush.versions[0].update_count, 1);
    assert_int_equal(copied(&f.flush.versions[0].updates, 0, 1), BASE);
    assert_int_equal(copied(&f.flush.versions[0].updates, 0, 3), 2); /* absolute: two flights */
    assert_int_equal(f.flush.partitions[0].expected_offset, BASE + 2);
    assert_int_equal(f.flush.partitions[0].consumed, 1);
    stop(&f);
}

static void test_cut_begins_a_slice(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, NULL, NULL);
    claim_partition(&f, NULL, 0);
    assert_ok(partition_cut(&f.partition, &f.flush, 1, &error));
    assert_false(partition_has_news(&f.partition)); /* an empty slice is new already */
    fold(&f, BASE, good);
    assert_ok(partition_cut(&f.partition, &f.flush, 2, &error));
    fold(&f, BASE + 1, good);
    assert_ok(partition_hand_over(&f.partition, &f.flush, 0, &error));
    assert_int_equal(f.flush.versions[0].insert_count, 2);
    assert_int_equal(copied(&f.flush.versions[0].inserts, 0, 1), BASE);
    assert_int_equal(copied(&f.flush.versions[0].inserts, 0, 5), 1);
    assert_int_equal(copied(&f.flush.versions[0].inserts, 1, 1), BASE + 1);
    assert_int_equal(f.flush.partitions[0].slice_start, BASE + 1);
    assert_int_equal(f.flush.partitions[0].next_offset, BASE + 2);
    stop(&f);
}

/* Only a row that may be updated has an address. */
static void test_rows_of_closed_slices_have_no_address(void **state)
{
    (void)state;
    enum { GROUP_ID = 2, FLIGHTS = 5 };
    struct fixture f;
    start(&f, NULL, NULL);
    claim_partition(&f, NULL, 0);
    fold(&f, BASE, good);
    assert_ok(partition_hand_over(&f.partition, &f.flush, 0, &error));
    assert_int_equal(copied(&f.flush.versions[0].inserts, 0, GROUP_ID), 1);

    /* A group that is stored is updated once more, a new one is inserted for good. */
    flush_clear(&f.flush);
    fold(&f, BASE + 1, good);
    fold(&f, BASE + 2, "{\"time\": 1, \"delay\": 1, \"origin\": \"BBB\"}");
    assert_ok(partition_cut(&f.partition, &f.flush, 1, &error));
    assert_int_equal(f.flush.versions[0].update_count, 1);
    assert_int_equal(copied(&f.flush.versions[0].updates, 0, GROUP_ID), 1);
    assert_int_equal(f.flush.versions[0].insert_count, 1);
    assert_true(copied_null(&f.flush.versions[0].inserts, 0, GROUP_ID));
    assert_int_equal(copied(&f.flush.versions[0].inserts, 0, FLIGHTS), 1);
    stop(&f);
}

static void test_planned_cuts(void **state)
{
    (void)state;
    const int64_t cuts[] = {BASE + 1, BASE + 20, BASE + 30, BASE + 50, BASE + 60};
    struct fixture f;
    start(&f, NULL, NULL);
    claim_partition(&f, cuts, 5);
    fold(&f, BASE, good);
    assert_int_equal(f.partition.slice_start, BASE);
    fold(&f, BASE + 1, good); /* exactly at the cut */
    assert_int_equal(f.partition.slice_start, BASE + 1);
    fold(&f, BASE + 40, good); /* two cuts lie in the hole before it */
    assert_int_equal(f.partition.slice_start, BASE + 30);
    /* The end of the log at a cut: P is the cut. */
    assert_ok(partition_reach_end(&f.partition, BASE + 50, &f.flush, &error));
    assert_int_equal(f.partition.slice_start, BASE + 50);
    assert_int_equal(f.partition.next_offset, BASE + 50);
    fold(&f, BASE + 59, good);
    assert_int_equal(f.partition.slice_start, BASE + 50);
    assert_ok(partition_hand_over(&f.partition, &f.flush, 0, &error));
    const struct pgbinary_writer *rows = &f.flush.versions[0].inserts;
    assert_int_equal(f.flush.versions[0].insert_count, 4);
    assert_int_equal(copied(rows, 0, 1), BASE);
    assert_int_equal(copied(rows, 1, 1), BASE + 1);
    assert_int_equal(copied(rows, 2, 1), BASE + 30);
    assert_int_equal(copied(rows, 3, 1), BASE + 50);
    assert_int_equal(f.flush.partitions[0].consumed, 4);
    stop(&f);
}

static void test_a_view_rejects_alone(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, source_text, ratio_text);
    claim_partition(&f, NULL, 0);
    assert_int_equal(f.partition.feed->parser_count, 1);
    assert_int_equal(fold(&f, BASE, "{\"time\": 1, \"delay\": 0, \"origin\": \"AAA\"}"),
                     RECORD_DEAD);
    assert_int_equal(f.rejection.view_count, 1);
    assert_string_equal(f.rejection.views[0], "ratio");
    assert_int_equal(fold(&f, BASE + 1, good), RECORD_COUNTED);
    /* Not the views' fault: bad for all. */
    assert_int_equal(fold(&f, BASE + 2, "[]"), RECORD_DEAD);
    assert_int_equal(f.rejection.view_count, 0);
    assert_ok(partition_hand_over(&f.partition, &f.flush, 0, &error));
    assert_int_equal(f.flush.partitions[0].dead_lettered, 2);
    assert_int_equal(f.flush.partitions[0].counted, 1);
    assert_int_equal(f.flush.ledgers[0].counted, 2);
    assert_int_equal(f.flush.ledgers[1].counted, 1);
    assert_int_equal(f.flush.ledgers[1].rejected, 1);
    stop(&f);
}

/* A version goes on counting by the definition it was registered with; the newest one decides what
 * is a dead letter. */
static void test_older_definition(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, older_source_text, count_text);
    claim_partition(&f, NULL, 0);
    assert_int_equal(f.partition.feed->parser_count, 2);
    assert_int_equal(fold(&f, BASE, "{\"time\": 1, \"origin\": \"AAA\"}"), RECORD_DEAD);
    assert_int_equal(f.rejection.view_count, 0);
    assert_int_equal(fold(&f, BASE + 1, good), RECORD_COUNTED);
    assert_ok(partition_hand_over(&f.partition, &f.flush, 0, &error));
    assert_int_equal(f.flush.ledgers[0].counted, 1);
    assert_int_equal(f.flush.ledgers[1].counted, 2);
    stop(&f);
}

/* The same fields in another order: one event must not serve the views of both. */
static void test_field_order(void **state)
{
    (void)state;
    static const char reordered[] =
        "{ \"source\": \"flights\", \"topic\": \"flights\","
        "  \"event_time\": { \"field\": \"time\", \"format\": \"epoch_ms\" },"
        "  \"fields\": { \"origin\": \"string\", \"delay\": \"integer\", \"time\": \"timestamp\" } "
        "}";
    struct fixture f;
    start(&f, reordered, count_text);
    claim_partition(&f, NULL, 0);
    assert_int_equal(f.partition.feed->parser_count, 2);
    assert_int_equal(fold(&f, BASE, good), RECORD_COUNTED);
    assert_int_equal(f.partition.views[1].counted, 1);
    stop(&f);
}

/* --- duplicates --- */

enum { WITHIN = 10 };
static const char dedupe_text[] =
    "{ \"source\": \"flights\", \"topic\": \"flights\","
    "  \"event_time\": { \"field\": \"time\", \"format\": \"epoch_ms\" },"
    "  \"fields\": { \"time\": \"timestamp\", \"delay\": \"integer\", \"origin\": \"string\","
    "               \"id\": { \"type\": \"integer\", \"nullable\": true } },"
    "  \"dedupe\": { \"field\": \"id\", \"within\": 10 } }";

/* The newest definition compares ids; the second version has the older one, which does not. */
static void start_dedupe(struct fixture *fixture)
{
    *fixture = (struct fixture){0};
    struct catalog *catalog = calloc(1, sizeof *catalog);
    catalog->sources = calloc(1, sizeof *catalog->sources);
    catalog->versions = calloc(3, sizeof *catalog->versions);
    catalog->sources[catalog->source_count++] = make_source(dedupe_text);
    add_version(catalog, dedupe_text, count_text);
    add_version(catalog, source_text, count_text);
    add_version(catalog, source_text, ratio_text);
    assert_ok(feeds_create(catalog, &fixture->feeds, &error));
    assert_ok(flush_prepare(&fixture->flush, fixture->feeds->catalog, &error));
    assert_ok(partition_init(&fixture->partition, "flights", 3, &error));
}

static enum record_outcome fold_id(struct fixture *fixture, int64_t offset, const char *origin,
                                   const char *id)
{
    char value[120];
    snprintf(value, sizeof value, "{\"time\": 1000, \"delay\": 0, \"origin\": \"%s\", \"id\": %s}",
             origin, id);
    return fold(fixture, offset, value);
}

static void test_duplicates(void **state)
{
    (void)state;
    struct fixture f;
    start_dedupe(&f);
    claim_partition(&f, NULL, 0);
    assert_int_equal(partition_read_offset(&f.partition), BASE - WITHIN);
    /* Below P only the ids count, one of a record that is out of order not even that. */
    assert_int_equal(fold_id(&f, BASE - 9, "AAA", "1"), RECORD_LEARNED);
    assert_int_equal(fold_id(&f, BASE - 9, "AAA", "2"), RECORD_STALE);
    assert_int_equal(partition_read_offset(&f.partition), BASE - 8);
    assert_false(partition_has_news(&f.partition));
    assert_int_equal(fold_id(&f, BASE, "AAA", "2"), RECORD_DEAD); /* ratio divides by zero */
    assert_int_equal(fold_id(&f, BASE + 1, "AAA", "1"), RECORD_DUPLICATE); /* exactly WITHIN */
    assert_int_equal(fold_id(&f, BASE + 1, "AAA", "1"), RECORD_STALE);
    assert_int_equal(fold_id(&f, BASE + 11, "NOWHERE", "1"), RECORD_DUPLICATE); /* of a duplicate */
    assert_int_equal(fold_id(&f, BASE + 12, "AAA", "2"), RECORD_DEAD);          /* too far */
    assert_int_equal(fold_id(&f, BASE + 13, "NOWHERE", "3"), RECORD_DEAD);
    assert_int_equal(fold_id(&f, BASE + 14, "AAA", "3"), RECORD_DUPLICATE); /* of a filtered one */
    assert_int_equal(fold_id(&f, BASE + 15, "AAA", "null"), RECORD_DEAD);
    assert_int_equal(fold_id(&f, BASE + 16, "AAA", "null"), RECORD_DEAD); /* NULL is no id */
    assert_int_equal(fold_id(&f, BASE + 17, "AAA", "4,"), RECORD_DEAD); /* does not parse: no id */
    assert_int_equal(f.rejection.view_count, 0);
    assert_int_equal(fold_id(&f, BASE + 18, "AAA", "4"), RECORD_DEAD);
    assert_int_equal(f.rejection.view_count, 1);
    assert_ok(partition_hand_over(&f.partition, &f.flush, 0, &error));
    const struct flush_partition *entry = &f.flush.partitions[0];
    assert_int_equal(entry->consumed, 10);
    assert_int_equal(entry->duplicate, 3);
    assert_int_equal(entry->dead_lettered, 7);
    assert_int_equal(f.flush.ledgers[0].counted, 5); /* five are no duplicates of AAA */
    assert_int_equal(f.flush.ledgers[0].filtered, 1);
    assert_int_equal(f.flush.ledgers[1].counted, 7); /* by its own definition */
    assert_int_equal(f.flush.ledgers[1].filtered, 2);
    stop(&f);
}

static void test_watermark(void **state)
{
    (void)state;
    struct fixture f;
    int64_t day_ms = TIMESTAMP_US_PER_DAY / 1000;
    char value[96];
    start(&f, NULL, NULL);
    claim_partition(&f, NULL, 0);
    fold_at(&f, BASE, day_ms, good);
    assert_int_equal(f.partition.watermark_us, 1000000);
    snprintf(value, sizeof value, "{\"time\": %lld, \"delay\": 1, \"origin\": \"A\"}",
             (long long)(2 * day_ms + 1));
    fold_at(&f, BASE + 1, day_ms, value);
    assert_int_equal(f.partition.watermark_us, 1000000);
    fold_at(&f, BASE + 2, day_ms + 1, value);
    assert_int_equal(f.partition.watermark_us, 2 * TIMESTAMP_US_PER_DAY + 1000);
    fold_at(&f, BASE + 3, day_ms, good);
    assert_int_equal(f.partition.watermark_us, 2 * TIMESTAMP_US_PER_DAY + 1000);
    stop(&f);
}

/* A second and more are told apart from less. */
static const int64_t second_us = 1000000;

static int64_t handed_as_of(struct fixture *f, int64_t clock_us)
{
    assert_ok(partition_hand_over(&f->partition, &f->flush, clock_us, &error));
    const struct flush_partition *entry = &f->flush.partitions[f->flush.partition_count - 1];
    return entry->has_as_of ? entry->as_of_us : -1;
}

static void test_freshness(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, NULL, NULL);
    claim_partition(&f, NULL, 0);
    /* Whatever a producer's clock says: nothing is known of the log's end. */
    fold_at(&f, BASE, 99 * second_us / 1000, good);
    assert_int_equal(handed_as_of(&f, 9 * second_us), -1);
    assert_ok(partition_reach_end(&f.partition, BASE + 1, &f.flush, &error));
    assert_int_equal(handed_as_of(&f, 9 * second_us), -1);
    /* The end that was told has yet to be reached. */
    assert_true(partition_wants_end(&f.partition));
    partition_note_end(&f.partition, BASE + 2, 8 * second_us);
    assert_false(partition_has_news(&f.partition));
    assert_int_equal(handed_as_of(&f, 9 * second_us), -1);
    fold_at(&f, BASE + 1, 1000, good);
    assert_int_equal(handed_as_of(&f, 10 * second_us), 8 * second_us);
    /* The first end that is asked for after P moved is news, the next ones are once a second. */
    assert_true(partition_wants_end(&f.partition));
    partition_note_end(&f.partition, BASE + 2, 10 * second_us + 1);
    assert_true(partition_has_news(&f.partition));
    assert_int_equal(handed_as_of(&f, 10 * second_us + 2), 10 * second_us + 1);
    assert_false(partition_wants_end(&f.partition));
    partition_note_end(&f.partition, BASE + 2, 11 * second_us);
    assert_false(partition_has_news(&f.partition));
    partition_note_end(&f.partition, BASE + 2, 11 * second_us + 1);
    assert_true(partition_has_news(&f.partition));
    assert_int_equal(handed_as_of(&f, 12 * second_us), 11 * second_us + 1);
    /* An end below P is of an earlier assignment. */
    assert_ok(partition_reach_end(&f.partition, BASE, &f.flush, &error));
    assert_int_equal(f.partition.next_offset, BASE + 2);
    assert_false(partition_has_news(&f.partition));
    stop(&f);
}

/* The log grows by a record each second, and P follows `lag` seconds behind. What P has reached is
 * never claimed to be newer than it is, nor older by more than a quarter of the lag.
 */
static void test_freshness_far_behind(void **state)
{
    (void)state;
    for (int64_t lag = 0; lag < 3000; lag = lag * 2 + 1) {
        struct fixture f;
        start(&f, NULL, NULL);
        claim_partition(&f, NULL, 0);
        for (int64_t second = 1; second < 4 * lag + 100; second++) {
            partition_note_end(&f.partition, BASE + second, second * second_us);
            assert_true(f.partition.end_count <= PARTITION_ENDS_MAX);
            if (second <= lag)
                continue;
            assert_ok(partition_reach_end(&f.partition, BASE + second - lag, &f.flush, &error));
            int64_t as_of_us = handed_as_of(&f, second * second_us);
            f.flush.partition_count = 0;
            assert_true(as_of_us <= (second - lag) * second_us);
            if (second > 2 * lag)
                assert_true(as_of_us >= (second - lag - lag / 4 - 1) * second_us);
        }
        stop(&f);
    }
}

static void test_discard(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, NULL, NULL);
    claim_partition(&f, NULL, 0);
    fold(&f, BASE, good);
    partition_discard(&f.partition);
    assert_false(partition_has_news(&f.partition));
    claim_partition(&f, NULL, 0);
    assert_int_equal(fold(&f, BASE, good), RECORD_COUNTED);
    assert_ok(partition_hand_over(&f.partition, &f.flush, 0, &error));
    assert_int_equal(copied(&f.flush.versions[0].inserts, 0, 5), 1);
    stop(&f);
}

static void test_sql_array(void **state)
{
    (void)state;
    struct sql_array arrays[2];
    sql_array_begin(&arrays[0]);
    sql_array_begin(&arrays[1]);
    sql_array_add_text(&arrays[0], "a\"\\,b");
    sql_array_add_text(&arrays[0], NULL);
    sql_array_add_int64(&arrays[0], -5);
    sql_array_add_bool(&arrays[0], true);
    sql_array_add_timestamp(&arrays[0], true, 0);
    sql_array_add_timestamp(&arrays[0], false, 0);
    assert_ok(sql_arrays_end(arrays, 2, &error));
    assert_string_equal(arrays[0].text,
                        "{\"a\\\"\\\\,b\",NULL,-5,t,\"1970-01-01T00:00:00Z\",NULL}");
    assert_string_equal(arrays[1].text, "{}");
    sql_arrays_deinit(arrays, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offsets_and_ledger),
        cmocka_unit_test(test_pending_bytes),
        cmocka_unit_test(test_rows_are_inserted_once_then_updated),
        cmocka_unit_test(test_cut_begins_a_slice),
        cmocka_unit_test(test_rows_of_closed_slices_have_no_address),
        cmocka_unit_test(test_planned_cuts),
        cmocka_unit_test(test_a_view_rejects_alone),
        cmocka_unit_test(test_older_definition),
        cmocka_unit_test(test_field_order),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_watermark),
        cmocka_unit_test(test_freshness),
        cmocka_unit_test(test_freshness_far_behind),
        cmocka_unit_test(test_discard),
        cmocka_unit_test(test_sql_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
