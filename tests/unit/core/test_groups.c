/* The table of groups: folding all or nothing, keys, order, the changed list, growth, stored rows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/groups.h"
#include "core/time/timestamp.h"

enum { AT, KEY, OTHER, AMOUNT, PRICE, LATE, FIELDS };

static const char source_json[] =
    "{\"source\":\"s\",\"topic\":\"t\",\"event_time\":{\"field\":\"at\",\"format\":\"rfc3339\"},"
    "\"fields\":{\"at\":\"timestamp\",\"key\":{\"type\":\"string\",\"nullable\":true},"
    "\"other\":{\"type\":\"string\",\"nullable\":true},"
    "\"amount\":{\"type\":\"integer\",\"nullable\":true},"
    "\"price\":{\"type\":\"decimal\",\"nullable\":true},"
    "\"late\":{\"type\":\"boolean\",\"nullable\":true}}}";

static struct source *source;
static struct view *view;
static struct groups *groups;
static struct error error;
static struct arena memory;
static const struct measure_origin origin;

static void must(enum status status)
{
    if (status != STATUS_OK) {
        fail_msg("%s", error.text);
    }
}

static int set_up(void **state)
{
    (void)state;
    json_t *json = json_loads(source_json, 0, NULL);
    must(source_create(json, "source", &source, &error));
    json_decref(json);
    arena_init(&memory);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    groups_destroy(groups);
    view_destroy(view);
    source_destroy(source);
    arena_deinit(&memory);
    groups = NULL;
    view = NULL;
    return 0;
}

/* A view with these parts and a window of an hour. */
static void make_view(const char *parts)
{
    char text[2000];
    snprintf(
        text, sizeof text,
        "{\"view\":\"v\",\"source\":\"s\",\"window\":{\"type\":\"tumbling\",\"size\":\"1h\"},%s}",
        parts);
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    must(view_create(json, "view", source, &view, &error));
    json_decref(json);
    must(groups_create(view, &groups, &error));
}

struct event_values {
    struct value fields[FIELDS];
};

static struct event_values values_at(int64_t time_us)
{
    struct event_values values;
    for (size_t i = 0; i < FIELDS; i++) {
        values.fields[i] = value_null(source->fields[i].type);
    }
    values.fields[AT] = value_timestamp(time_us);
    return values;
}

static enum status fold(const struct event_values *values, enum fold_outcome *outcome)
{
    struct event event = {.fields = values->fields, .time_us = values->fields[AT].timestamp_us};
    return groups_fold(groups, &event, &origin, outcome, &error);
}

static void fold_counted(const struct event_values *values)
{
    enum fold_outcome outcome;
    must(fold(values, &outcome));
    assert_int_equal(outcome, FOLD_COUNTED);
}

static struct value text_value(const char *text)
{
    return value_string(text, strlen(text));
}

/* All results of a group, separated by blanks. */
static const char *results(const struct group *group)
{
    static char text[1000];
    size_t length = 0;
    for (size_t i = 0; i < view->measure_count; i++) {
        const struct measure *measure = view->measures[i].measure;
        const char *wide = NULL;
        struct value value;
        must(measure->kind->finish(measure, group_state(group) + view->state_offsets[i], &memory,
                                   &value, &wide, &error));
        const char *shown = wide != NULL    ? wide
                            : value.is_null ? "NULL"
                                            : value_text(&value, &memory, NULL);
        length +=
            (size_t)snprintf(text + length, sizeof text - length, "%s%s", i == 0 ? "" : " ", shown);
    }
    return text;
}

static struct group *only_group(void)
{
    struct groups_cursor cursor = {0};
    assert_int_equal(groups_count(groups), 1);
    return groups_next(groups, &cursor);
}

static void test_one_group(void **state)
{
    (void)state;
    make_view("\"measures\":{\"n\":\"count(*)\",\"total\":\"sum(amount)\",\"most\":\"max(key)\"}");
    struct event_values values = values_at(1);
    for (int i = 1; i <= 3; i++) {
        values.fields[AMOUNT] = value_integer(i);
        values.fields[KEY] = text_value(i == 2 ? "zz" : "a");
        fold_counted(&values);
    }
    struct group *group = only_group();
    assert_int_equal(group->window_start_us, 0);
    assert_int_equal(group->key_length, 0);
    assert_int_equal(group->id, 1);
    assert_string_equal(results(group), "3 6 zz");
}

/* Whatever of a record fails, wherever it stands, no group appears and no state changes. */
static void test_rejected_records_leave_nothing(void **state)
{
    (void)state;
    static const char *const parts[][2] = {
        {"\"where\":\"10 / amount > 0\",\"measures\":{\"n\":\"count(*)\"}",
         "view \"v\": where: division by zero"},
        {"\"group_by\":[\"key\",{\"name\":\"share\",\"expr\":\"10 / amount\"}],"
         "\"measures\":{\"n\":\"count(*)\"}",
         "view \"v\": key \"share\": division by zero"},
        {"\"measures\":{\"n\":\"count(*)\",\"m\":\"max(amount)\",\"bad\":\"sum(1 / amount)\"}",
         "view \"v\": measure \"bad\": division by zero"},
        {"\"measures\":{\"n\":\"count(*)\",\"bad\":\"count(*) FILTER (WHERE 1 / amount = 0)\"}",
         "view \"v\": measure \"bad\": division by zero"},
    };
    for (size_t i = 0; i < 4; i++) {
        enum fold_outcome outcome = FOLD_COUNTED;
        make_view(parts[i][0]);
        struct event_values values = values_at(5);
        values.fields[AMOUNT] = value_integer(0);
        assert_int_equal(fold(&values, &outcome), STATUS_REJECT);
        assert_string_equal(error.text, parts[i][1]);
        assert_int_equal(groups_count(groups), 0);
        assert_null(groups_changed(groups));

        values.fields[AMOUNT] = value_integer(5);
        fold_counted(&values);
        char *before = strdup(results(only_group()));
        groups_changed_reset(groups);
        values.fields[AMOUNT] = value_integer(0);
        assert_int_equal(fold(&values, &outcome), STATUS_REJECT);
        assert_string_equal(results(only_group()), before);
        assert_null(groups_changed(groups));
        free(before);
        groups_destroy(groups);
        view_destroy(view);
        groups = NULL;
        view = NULL;
    }
}

static void test_where(void **state)
{
    (void)state;
    make_view("\"where\":\"late\",\"measures\":{\"n\":\"count(*)\",\"bad\":\"sum(1 / amount)\"}");
    struct event_values values = values_at(5);
    enum fold_outcome outcome;
    values.fields[AMOUNT] = value_integer(0); /* of what is filtered nothing is evaluated */
    must(fold(&values, &outcome));
    assert_int_equal(outcome, FOLD_FILTERED); /* NULL is not true */
    values.fields[LATE] = value_boolean(false);
    must(fold(&values, &outcome));
    assert_int_equal(outcome, FOLD_FILTERED);
    assert_int_equal(groups_count(groups), 0);
    values.fields[LATE] = value_boolean(true);
    values.fields[AMOUNT] = value_integer(1);
    fold_counted(&values);
    assert_string_equal(results(only_group()), "1 1");
}

/* A filter keeps the argument from being evaluated, but the group is there all the same. */
static void test_filters(void **state)
{
    (void)state;
    make_view("\"measures\":{\"n\":\"count(*)\","
              "\"ok\":\"sum(10 / amount) FILTER (WHERE amount <> 0)\","
              "\"none\":\"max(amount) FILTER (WHERE FALSE)\"}");
    struct event_values values = values_at(5);
    values.fields[AMOUNT] = value_integer(0);
    fold_counted(&values);
    assert_string_equal(results(only_group()), "1 NULL NULL");
    values.fields[AMOUNT] = value_integer(5);
    fold_counted(&values);
    values.fields[AMOUNT] = value_null(VALUE_INTEGER);
    fold_counted(&values);
    assert_string_equal(results(only_group()), "3 2 NULL");
}

static void test_key_length_is_bounded(void **state)
{
    (void)state;
    char text[KEY_BYTES_MAX + 2];
    enum fold_outcome outcome;
    make_view("\"group_by\":[\"key\",\"other\",\"amount\"],\"measures\":{\"n\":\"count(*)\"}");
    memset(text, 'x', sizeof text);
    struct event_values values = values_at(5);
    values.fields[KEY] = value_string(text, KEY_BYTES_MAX);
    fold_counted(&values);
    values.fields[OTHER] = value_string(text, 0);
    fold_counted(&values);
    values.fields[OTHER] = value_string(text, 1);
    assert_int_equal(fold(&values, &outcome), STATUS_REJECT);
    assert_string_equal(error.text,
                        "view \"v\": key \"other\": the keys are longer than 2000 bytes");
    values.fields[KEY] = value_string(text, KEY_BYTES_MAX + 1);
    values.fields[OTHER] = value_null(VALUE_STRING);
    assert_int_equal(fold(&values, &outcome), STATUS_REJECT);
    assert_string_equal(error.text, "view \"v\": key \"key\": the keys are longer than 2000 bytes");
    assert_int_equal(groups_count(groups), 2);
}

/* As many keys as there can be, of the types with the longest encodings. */
static void test_the_longest_key(void **state)
{
    (void)state;
    char parts[1500] = "\"group_by\":[\"key\"", text[KEY_BYTES_MAX];
    for (int i = 1; i < VIEW_KEY_MAX; i++) {
        snprintf(parts + strlen(parts), sizeof parts - strlen(parts),
                 ",{\"name\":\"k%d\",\"expr\":\"price + %d\"}", i, i);
    }
    strcat(parts, "],\"measures\":{\"n\":\"count(*)\"}");
    make_view(parts);
    memset(text, 'x', sizeof text);
    struct event_values values = values_at(5);
    values.fields[KEY] = value_string(text, sizeof text);
    must(value_parse(VALUE_DECIMAL, "-9999999999999999999999999999999999.9999", 40,
                     &values.fields[PRICE], &error));
    fold_counted(&values);
    struct value keys[VIEW_KEY_MAX];
    group_keys(view, only_group(), keys);
    assert_int_equal(keys[0].string.length, KEY_BYTES_MAX);
    assert_string_equal(value_text(&keys[15], &memory, NULL),
                        "-9999999999999999999999999999999984.9999");
}

/* NULL is a key of its own; equal decimals are one; an empty string is not NULL. */
static void test_which_keys_are_equal(void **state)
{
    (void)state;
    static const char *const prices[] = {"1", "1.0", "1.00", NULL, "0.00", "0", NULL};
    static const char *const texts[] = {NULL, "", "a"};
    make_view("\"group_by\":[\"price\",\"key\"],\"measures\":{\"n\":\"count(*)\"}");
    for (size_t i = 0; i < 7; i++) {
        for (size_t t = 0; t < 3; t++) {
            struct event_values values = values_at(5);
            if (prices[i] != NULL) {
                must(value_parse(VALUE_DECIMAL, prices[i], strlen(prices[i]), &values.fields[PRICE],
                                 &error));
            }
            if (texts[t] != NULL) {
                values.fields[KEY] = text_value(texts[t]);
            }
            fold_counted(&values);
        }
    }
    assert_int_equal(groups_count(groups), 9);
    struct group **sorted;
    must(groups_sorted(groups, &sorted, &error));
    static const char *const wanted[] = {"0 '' 2",    "0 'a' 2",    "0 NULL 2",
                                         "1 '' 3",    "1 'a' 3",    "1 NULL 3",
                                         "NULL '' 2", "NULL 'a' 2", "NULL NULL 2"};
    for (size_t i = 0; i < 9; i++) {
        struct value keys[2];
        char text[100];
        group_keys(view, sorted[i], keys);
        snprintf(text, sizeof text, "%s %s%.*s%s %s",
                 keys[0].is_null ? "NULL" : value_text(&keys[0], &memory, NULL),
                 keys[1].is_null ? "" : "'", keys[1].is_null ? 4 : (int)keys[1].string.length,
                 keys[1].is_null ? "NULL" : keys[1].string.data, keys[1].is_null ? "" : "'",
                 results(sorted[i]));
        assert_string_equal(text, wanted[i]);
    }
    free(sorted);
}

static void test_windows(void **state)
{
    (void)state;
    static const int64_t times[] = {
        -1, 0, 3599999999, 3600000000, -3600000001, TIMESTAMP_MIN_US, TIMESTAMP_END_US - 1};
    static const int64_t starts[] = {
        TIMESTAMP_MIN_US, -7200000000, -3600000000, 0, 3600000000, TIMESTAMP_END_US - 3600000000};
    make_view("\"measures\":{\"n\":\"count(*)\"}");
    for (size_t i = 0; i < 7; i++) {
        struct event_values values = values_at(times[i]);
        fold_counted(&values);
    }
    struct group **sorted;
    must(groups_sorted(groups, &sorted, &error));
    assert_int_equal(groups_count(groups), 6);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(sorted[i]->window_start_us, starts[i]);
        assert_string_equal(results(sorted[i]), starts[i] == 0 ? "2" : "1");
    }
    free(sorted);
}

static size_t count_changed(void)
{
    size_t count = 0;
    for (struct group *group = groups_changed(groups); group != NULL; group = group->next_changed) {
        assert_true(group->changed);
        count++;
    }
    return count;
}

static void test_changed_list(void **state)
{
    (void)state;
    make_view("\"group_by\":[\"amount\"],\"measures\":{\"n\":\"count(*)\"}");
    struct event_values values = values_at(5);
    assert_null(groups_changed(groups));
    for (int i = 0; i < 30; i++) {
        values.fields[AMOUNT] = value_integer(i % 10);
        fold_counted(&values);
    }
    assert_int_equal(count_changed(), 10);
    assert_int_equal(groups_changed(groups)->id, 10); /* newest first */
    groups_changed_reset(groups);
    assert_null(groups_changed(groups));
    assert_int_equal(groups_count(groups), 10);
    values.fields[AMOUNT] = value_integer(3);
    fold_counted(&values);
    fold_counted(&values);
    assert_int_equal(count_changed(), 1);
    assert_int_equal(groups_changed(groups)->id, 4);
    groups_clear(groups);
    assert_null(groups_changed(groups));
    assert_int_equal(groups_count(groups), 0);
    fold_counted(&values);
    assert_int_equal(only_group()->id, 1);
    assert_string_equal(results(only_group()), "1");
}

/* Pointers to groups stay good while the table doubles many times. */
static void test_growth(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    struct group **seen = calloc(COUNT, sizeof *seen);
    assert_non_null(seen);
    make_view("\"group_by\":[\"amount\",\"key\"],\"measures\":{\"n\":\"count(*)\","
              "\"most\":\"max(key)\"}");
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < COUNT; i++) {
            char text[16];
            snprintf(text, sizeof text, "k%d", i % 7);
            struct event_values values = values_at((int64_t)(i % 5) * 3600000000);
            values.fields[AMOUNT] = value_integer(i);
            values.fields[KEY] = text_value(text);
            fold_counted(&values);
            if (round == 0) {
                seen[i] = groups_changed(groups);
                assert_int_equal(seen[i]->id, i + 1);
            }
        }
    }
    assert_int_equal(groups_count(groups), COUNT);
    assert_int_equal(count_changed(), COUNT);
    assert_true(groups_memory_bytes(groups) > COUNT * sizeof(struct group));
    for (int i = 0; i < COUNT; i++) {
        assert_ptr_equal(
            groups_find(groups, seen[i]->window_start_us, seen[i]->key, seen[i]->key_length),
            seen[i]);
        struct value keys[2];
        group_keys(view, seen[i], keys);
        assert_int_equal(keys[0].integer, i);
        assert_int_equal(*(const int64_t *)(const void *)group_state(seen[i]), 2);
        assert_int_equal((uintptr_t)group_state(seen[i]) % 16, 0);
    }
    assert_null(groups_find(groups, 1, seen[0]->key, seen[0]->key_length));
    struct groups_cursor cursor = {0};
    size_t walked = 0;
    while (groups_next(groups, &cursor) != NULL) {
        walked++;
    }
    assert_int_equal(walked, COUNT);
    free(seen);
}

/* Panes of one group and a large one; none is left after clearing. */
static void test_panes(void **state)
{
    (void)state;
    enum { PANES = 1000, KEYS = 500 };
    make_view("\"group_by\":[\"amount\"],\"measures\":{\"n\":\"count(*)\"}");
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < PANES + KEYS; i++) {
            struct event_values values = values_at((int64_t)((i * 7) % PANES) * 3600000000);
            if (i >= PANES) {
                values = values_at((int64_t)PANES * 3600000000);
            }
            values.fields[AMOUNT] = value_integer(i);
            fold_counted(&values);
        }
        assert_int_equal(groups_count(groups), PANES + KEYS);
        const struct group_pane **panes;
        size_t count;
        must(groups_panes_sorted(groups, &panes, &count, &error));
        assert_int_equal(count, PANES + 1);
        for (size_t i = 0; i < count; i++) {
            size_t walked = 0, cursor = 0;
            uint64_t hash;
            const struct group *group;
            while ((group = group_pane_next(panes[i], &cursor, &hash)) != NULL) {
                assert_int_equal(group->window_start_us, panes[i]->start_us);
                assert_int_equal(group->hash, hash);
                walked++;
            }
            assert_int_equal(panes[i]->start_us, (int64_t)i * 3600000000);
            assert_int_equal(panes[i]->group_count, walked);
            assert_int_equal(walked, i < PANES ? 1 : KEYS);
            assert_true(groups_have_pane(groups, panes[i]->start_us));
        }
        free(panes);
        assert_false(groups_have_pane(groups, -3600000000));
        groups_clear(groups);
        assert_false(groups_have_pane(groups, 0));
        assert_null(groups_next(groups, &(struct groups_cursor){0}));
    }
}

/* What is promised before a group is added is what adding it takes at the most. */
static void test_peak_bytes(void **state)
{
    (void)state;
    make_view("\"group_by\":[\"amount\"],\"measures\":{\"n\":\"count(*)\"}");
    struct event_values values = values_at(5);
    size_t grown = 0;
    for (int i = 0; i < 100000; i++) {
        size_t before = groups_memory_bytes(groups), peak = groups_peak_bytes(groups);
        size_t arena_before = groups_arena(groups)->reserved_bytes;
        values.fields[AMOUNT] = value_integer(i);
        fold_counted(&values);
        size_t added = groups_memory_bytes(groups) - before;
        if (added >= 4096 && groups_arena(groups)->reserved_bytes == arena_before) {
            /* Slots doubled: the old ones, as many bytes as were added, were there meanwhile. */
            assert_int_equal(peak, before + 2 * added);
            grown++;
        }
    }
    assert_true(grown >= 8);
}

static size_t slot_bytes(void)
{
    return groups_memory_bytes(groups) - groups_arena(groups)->reserved_bytes;
}

/* Room is made once, for new panes and for those that have groups. */
static void test_reserve(void **state)
{
    (void)state;
    enum { GROUPS = 5000 };
    make_view("\"group_by\":[\"amount\"],\"measures\":{\"n\":\"count(*)\"}");
    struct group *group;
    size_t reserved = 0;
    for (int pane = 0; pane < 3; pane++) {
        int had = pane * 100; /* some, in slots of their own and in the arena */
        for (int i = 0; i < GROUPS; i++) {
            unsigned char key[8] = {(unsigned char)(i & 255), (unsigned char)(i >> 8)};
            if (i == had) {
                must(groups_reserve(groups, pane, GROUPS, &error));
                reserved = slot_bytes();
                assert_int_equal(groups_peak_bytes(groups), groups_memory_bytes(groups));
            }
            must(groups_find_or_add(groups, pane, key, sizeof key, &group, &error));
            assert_true(i < had || slot_bytes() == reserved);
        }
    }
    assert_int_equal(groups_count(groups), 3 * GROUPS);
    must(groups_reserve(groups, 0, 10, &error)); /* there is more than that */
    assert_int_equal(slot_bytes(), reserved);
}

/* --- stored rows --- */

static void encode(const struct group *group, struct pgbinary_writer *writer)
{
    pgbinary_writer_clear(writer);
    pgbinary_put_row(writer, (int16_t)view_row_columns(view));
    must(group_encode_row(view, group, writer, &error));
}

static enum status merge_bytes(struct groups *into, const char *bytes, size_t length,
                               struct group **group)
{
    struct pgbinary_field fields[64];
    must(
        pgbinary_split_row((const uint8_t *)bytes, length, fields, view_row_columns(view), &error));
    return groups_merge_row(into, fields, group, &error);
}

static const char all_measures[] =
    "\"group_by\":[\"key\",\"late\"],\"measures\":{\"n\":\"count(*)\",\"total\":\"sum(amount)\","
    "\"mean\":\"avg(price)\",\"least\":\"min(other)\",\"last\":\"max(at)\"}";

static void test_merge_row(void **state)
{
    (void)state;
    struct pgbinary_writer writer;
    struct groups *merged;
    struct group *group, *again;

    make_view(all_measures);
    assert_int_equal(view_row_columns(view), 1 + 2 + 1 + 1 + 2 + 1 + 1);
    struct event_values values = values_at(7);
    values.fields[AMOUNT] = value_integer(5);
    values.fields[OTHER] = text_value("b");
    must(value_parse(VALUE_DECIMAL, "0.10", 4, &values.fields[PRICE], &error));
    fold_counted(&values);
    struct group *first = only_group();
    assert_string_equal(results(first), "1 5 0.1 b 1970-01-01T00:00:00.000007Z");
    must(groups_create(view, &merged, &error));
    pgbinary_writer_init(&writer);
    encode(first, &writer);
    must(merge_bytes(merged, writer.data, writer.length, &group));
    assert_int_equal(group->window_start_us, 0);
    assert_true(group->changed);
    assert_string_equal(results(group), "1 5 0.1 b 1970-01-01T00:00:00.000007Z");
    /* once more, into the same group; what the bytes held is copied */
    must(merge_bytes(merged, writer.data, writer.length, &again));
    memset(writer.data, 0xAA, writer.length);
    assert_ptr_equal(again, group);
    assert_int_equal(groups_count(merged), 1);
    assert_string_equal(results(group), "2 10 0.1 b 1970-01-01T00:00:00.000007Z");
    /* and without asking which group it was */
    values.fields[OTHER] = text_value("a, which is longer than the buffer of thirty-two bytes");
    values.fields[PRICE] = value_null(VALUE_DECIMAL);
    fold_counted(&values);
    encode(first, &writer);
    must(merge_bytes(merged, writer.data, writer.length, NULL));
    assert_string_equal(results(group), "4 20 0.1 a, which is longer than the buffer of thirty-two "
                                        "bytes 1970-01-01T00:00:00.000007Z");
    pgbinary_writer_deinit(&writer);
    groups_destroy(merged);
}

static void test_damaged_rows_are_refused(void **state)
{
    (void)state;
    char text[KEY_BYTES_MAX + 1];
    struct pgbinary_field fields[16] = {{0}};
    struct group *group;
    make_view(all_measures);
    memset(text, 'x', sizeof text);

    /* a window of NULL */
    assert_int_equal(groups_merge_row(groups, fields, &group, &error), STATUS_FATAL);
    assert_string_equal(error.text, "stored state: NULL where a timestamptz belongs");
    /* a key that is too long */
    fields[0] = (struct pgbinary_field){.data = (const uint8_t *)"\0\0\0\0\0\0\0\0", .length = 8};
    fields[1] = (struct pgbinary_field){.data = (const uint8_t *)text, .length = sizeof text};
    assert_int_equal(groups_merge_row(groups, fields, &group, &error), STATUS_FATAL);
    assert_string_equal(error.text, "stored state: keys longer than 2000 bytes");
    fields[1].length = KEY_BYTES_MAX;
    /* a boolean of two bytes */
    fields[2] = (struct pgbinary_field){.data = (const uint8_t *)"\1\1", .length = 2};
    assert_int_equal(groups_merge_row(groups, fields, &group, &error), STATUS_FATAL);
    assert_string_equal(error.text, "stored state: 2 bytes are not a boolean");
    assert_int_equal(groups_count(groups), 0);
    /* a count of NULL */
    fields[2].length = 1;
    assert_int_equal(groups_merge_row(groups, fields, &group, &error), STATUS_FATAL);
    assert_string_equal(error.text,
                        "view \"v\": measure \"n\": stored state: NULL where a bigint belongs");
}

static void test_merge(void **state)
{
    (void)state;
    struct groups *other;
    make_view(all_measures);
    must(groups_create(view, &other, &error));
    for (int i = 0; i < 1000; i++) {
        struct event_values values = values_at((int64_t)(i % 3) * 3600000000);
        char text[16];
        snprintf(text, sizeof text, "k%d", i % 11);
        values.fields[KEY] = text_value(text);
        values.fields[AMOUNT] = value_integer(i);
        struct event event = {.fields = values.fields, .time_us = values.fields[AT].timestamp_us};
        enum fold_outcome outcome;
        must(groups_fold(i % 2 ? groups : other, &event, &origin, &outcome, &error));
    }
    must(groups_merge(groups, other, &error));
    groups_destroy(other);
    assert_int_equal(groups_count(groups), 33);
    int64_t count = 0;
    struct groups_cursor cursor = {0};
    const struct group *group;
    while ((group = groups_next(groups, &cursor)) != NULL) {
        count += *(const int64_t *)(const void *)group_state(group);
    }
    assert_int_equal(count, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_group, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rejected_records_leave_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_where, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_filters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_key_length_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_longest_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_which_keys_are_equal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_windows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changed_list, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_growth, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_panes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_peak_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reserve, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_merge_row, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_rows_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_merge, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
