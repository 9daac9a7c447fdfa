/* Recent ids against a naive model that looks back over the whole log: random ids, distances and
 * holes, sets that begin anywhere, and the table's growth. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/records/recent_ids.h"

enum { RECORDS_MAX = 30000 };

static struct error error;
static unsigned char secret[RECENT_IDS_SECRET_BYTES];

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        if ((call) != STATUS_OK)                                                                   \
            fail_msg("%s: %s", #call, error.text);                                                 \
    } while (0)

struct model {
    int64_t offsets[RECORDS_MAX];
    int64_t ids[RECORDS_MAX]; /* -1: NULL */
    size_t count;
};

static struct model model;

static void make_model(size_t count, int64_t id_count)
{
    int64_t offset = random() % 5;
    model.count = count;
    for (size_t i = 0; i < count; i++) {
        model.offsets[i] = offset;
        model.ids[i] = random() % 20 == 0 ? -1 : random() % id_count;
        offset += random() % 10 == 0 ? 1 + random() % 40 : 1;
    }
}

static bool model_duplicate(size_t index, int64_t within)
{
    for (size_t i = index; i-- > 0 && model.offsets[index] - model.offsets[i] <= within;)
        if (model.ids[i] == model.ids[index] && model.ids[index] >= 0)
            return true;
    return false;
}

static struct value id_value(int64_t id, bool text, char *buffer, size_t size)
{
    if (id < 0)
        return value_null(text ? VALUE_STRING : VALUE_INTEGER);
    if (!text)
        return value_integer(id);
    int length = snprintf(buffer, size, "%s-%ld", id % 3 == 0 ? "a longer prefix" : "", (long)id);
    return value_string(buffer, (size_t)length);
}

/* From the record at `first`, as after a restart: records before the reach are not needed. */
static void compare(size_t first, int64_t within, bool text)
{
    struct recent_ids *ids;
    assert_ok(recent_ids_create(within, secret, &ids, &error));
    for (size_t i = 0; i < model.count; i++) {
        if (model.offsets[i] < model.offsets[first] - within)
            continue;
        char buffer[64];
        struct value id = id_value(model.ids[i], text, buffer, sizeof buffer);
        bool duplicate;
        assert_ok(recent_ids_add(ids, &id, model.offsets[i], &duplicate, &error));
        if (i >= first)
            assert_int_equal(duplicate, model_duplicate(i, within));
    }
    recent_ids_destroy(ids);
}

static void test_like_the_model(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 60; seed++) {
        srandom(seed);
        make_model(200 + (size_t)random() % 3000, 1 + random() % 400);
        for (int i = 0; i < 4; i++) {
            int64_t within = 1 + random() % (random() % 2 == 0 ? 20 : 2000);
            compare(i == 0 ? 0 : (size_t)random() % model.count, within, i % 2 == 0);
        }
    }
}

/* Every id only once: the ring fills, wraps and expires, and its memory stays bounded. */
static void test_memory(void **state)
{
    (void)state;
    enum { WITHIN = 100000 };
    struct recent_ids *ids;
    assert_ok(recent_ids_create(WITHIN, secret, &ids, &error));
    for (int64_t offset = 0; offset < 4 * WITHIN; offset++) {
        struct value id = value_integer(offset);
        bool duplicate;
        assert_ok(recent_ids_add(ids, &id, offset, &duplicate, &error));
        assert_false(duplicate);
    }
    assert_true(recent_ids_memory_bytes(ids) < (size_t)WITHIN * 35);
    struct value gone = value_integer(3 * WITHIN - 1);
    struct value last = value_integer(3 * WITHIN + 1);
    bool duplicate;
    assert_ok(recent_ids_add(ids, &gone, 4 * WITHIN, &duplicate, &error));
    assert_false(duplicate);
    assert_ok(recent_ids_add(ids, &last, 4 * WITHIN + 1, &duplicate, &error));
    assert_true(duplicate);
    recent_ids_destroy(ids);
    recent_ids_destroy(NULL);
}

static int setup(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof secret; i++)
        secret[i] = (unsigned char)(i * 37 + 11);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_like_the_model),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests_name("recent ids", tests, setup, NULL);
}
