/* What is kept, for how long, and in how much memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "serving/cache.h"

static void keep(struct cache *cache, const char *key, uint64_t state, size_t length)
{
    struct kept_answer answer = {
        .state = {.low = state}, .head = calloc(1, length), .head_length = length};
    assert_non_null(answer.head);
    cache_keep(cache, key, strlen(key), &answer);
}

/* The state of what is kept under that key, or -1. */
static int64_t state_of(struct cache *cache, const char *key)
{
    struct kept_answer *answer = cache_find(cache, key, strlen(key));
    int64_t state = answer != NULL ? (int64_t)answer->state.low : -1;
    cache_release_answer(cache, answer);
    return state;
}

static struct cache_counts counts_of(struct cache *cache)
{
    struct cache_counts counts;
    cache_read_counts(cache, &counts);
    return counts;
}

static void test_newer_takes_the_place(void **state)
{
    (void)state;
    struct cache *cache = cache_create(1 << 20);
    assert_int_equal(state_of(cache, "a"), -1);
    keep(cache, "a", 1, 100);
    keep(cache, "b", 2, 100);
    assert_int_equal(state_of(cache, "a"), 1);
    assert_int_equal(state_of(cache, "b"), 2);
    uint64_t bytes = counts_of(cache).bytes;
    keep(cache, "a", 3, 100);
    assert_int_equal(state_of(cache, "a"), 3);
    assert_int_equal(counts_of(cache).answers, 2);
    assert_int_equal(counts_of(cache).bytes, bytes);
    assert_int_equal(counts_of(cache).evictions, 0);
    cache_destroy(cache);
}

static void test_least_recently_used_goes(void **state)
{
    (void)state;
    enum { LIMIT = 100000, LENGTH = 20000 };
    struct cache *cache = cache_create(LIMIT);
    char key[16];
    for (int i = 0; i < 4; i++) {
        snprintf(key, sizeof key, "%d", i);
        keep(cache, key, (uint64_t)i, LENGTH);
    }
    assert_int_equal(state_of(cache, "0"), 0); /* now "1" is the oldest */
    keep(cache, "4", 4, LENGTH);
    assert_int_equal(state_of(cache, "1"), -1);
    assert_int_equal(state_of(cache, "0"), 0);
    assert_int_equal(state_of(cache, "4"), 4);
    assert_int_equal(counts_of(cache).evictions, 1);
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "%d", i);
        keep(cache, key, 0, (size_t)(i * 37 % LENGTH) + 1);
        assert_true(counts_of(cache).bytes <= LIMIT);
    }
    cache_destroy(cache);
}

/* Larger than a quarter, or no room at all. */
static void test_too_large_is_not_kept(void **state)
{
    (void)state;
    struct cache *cache = cache_create(100000);
    keep(cache, "a", 1, 26000);
    assert_int_equal(state_of(cache, "a"), -1);
    assert_int_equal(counts_of(cache).bytes, 0);
    cache_destroy(cache);
    cache = cache_create(0);
    assert_false(cache_is_on(cache));
    keep(cache, "a", 1, 1);
    assert_int_equal(state_of(cache, "a"), -1);
    cache_destroy(cache);
}

static void test_borrowed_outlives_its_eviction(void **state)
{
    (void)state;
    struct cache *cache = cache_create(1000);
    keep(cache, "a", 1, 50);
    struct kept_answer *answer = cache_find(cache, "a", 1);
    keep(cache, "a", 2, 60);
    assert_int_equal(answer->state.low, 1);
    assert_int_equal(answer->head_length, 50);
    assert_int_equal(answer->head[49], 0);
    cache_release_answer(cache, answer);
    assert_int_equal(state_of(cache, "a"), 2);
    cache_destroy(cache);
}

static void test_receipts_by_age(void **state)
{
    (void)state;
    struct cache *cache = cache_create(1000);
    struct query_partition partitions[] = {{"topic", 0, 10, 20}, {"topic", 1, 30, 40}};
    struct query_receipt receipt = {.run = 7, .partitions = partitions, .partition_count = 2};
    assert_null(cache_find_receipt(cache, 1, QUERY_MERGED, 0));
    cache_keep_receipt(cache, 1, QUERY_MERGED, &receipt, 1000);
    struct query_state first = query_state_of(&receipt);
    partitions[1].position = 41;
    cache_keep_receipt(cache, 1, QUERY_MERGED, &receipt, 900); /* came late */
    struct kept_receipt *kept = cache_find_receipt(cache, 1, QUERY_MERGED, 1000);
    assert_non_null(kept);
    assert_true(query_states_are_equal(kept->state, first));
    assert_int_equal(kept->receipt.run, 7);
    assert_int_equal(kept->receipt.partitions[1].position, 40);
    assert_string_equal(kept->receipt.partitions[1].topic, "topic");
    cache_keep_receipt(cache, 1, QUERY_MERGED, &receipt, 2000);
    assert_int_equal(kept->receipt.partitions[1].position, 40); /* borrowed */
    cache_release_receipt(cache, kept);
    kept = cache_find_receipt(cache, 1, QUERY_MERGED, 2000);
    assert_int_equal(kept->receipt.partitions[1].position, 41);
    cache_release_receipt(cache, kept);
    assert_null(cache_find_receipt(cache, 1, QUERY_MERGED, 2001));
    assert_null(cache_find_receipt(cache, 1, QUERY_BATCH, 0));
    assert_null(cache_find_receipt(cache, 2, QUERY_MERGED, 0));
    cache_destroy(cache);
}

static void test_what_was_found_last_decides(void **state)
{
    (void)state;
    struct cache *cache = cache_create(0);
    assert_true(cache_expects_hold(cache));
    cache_note_hold(cache, false, true);
    assert_false(cache_expects_hold(cache));
    cache_note_hold(cache, true, false);
    assert_true(cache_expects_hold(cache));
    cache_note_hold(cache, true, true);
    cache_note_hold(cache, false, false);
    assert_false(cache_expects_hold(cache));
    assert_int_equal(counts_of(cache).held, 1);
    assert_int_equal(counts_of(cache).moved, 1);
    cache_destroy(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_newer_takes_the_place),
        cmocka_unit_test(test_least_recently_used_goes),
        cmocka_unit_test(test_too_large_is_not_kept),
        cmocka_unit_test(test_borrowed_outlives_its_eviction),
        cmocka_unit_test(test_receipts_by_age),
        cmocka_unit_test(test_what_was_found_last_decides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
