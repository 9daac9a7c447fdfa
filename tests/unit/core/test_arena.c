/* The bump allocator: alignment, stability of pointers, reset, refusal of absurd sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/arena.h"
#include "core/base/pages.h"

static void test_pointers_are_aligned_and_distinct(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena);
    char *previous = NULL;
    for (size_t bytes = 0; bytes < 200; bytes++) {
        char *memory = arena_alloc(&arena, bytes);
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % 16, 0);
        assert_ptr_not_equal(memory, previous);
        memset(memory, 0xAB, bytes);
        previous = memory;
    }
    arena_deinit(&arena);
}

static void test_memory_never_moves_nor_overlaps(void **state)
{
    (void)state;
    enum { COUNT = 2000 };
    static unsigned char *memory[COUNT];
    struct arena arena;
    arena_init(&arena);
    for (size_t i = 0; i < COUNT; i++) {
        memory[i] = arena_alloc(&arena, i + 1);
        assert_non_null(memory[i]);
        memset(memory[i], (int)(i & 0xFF), i + 1);
    }
    for (size_t i = 0; i < COUNT; i++)
        for (size_t byte = 0; byte <= i; byte++)
            assert_int_equal(memory[i][byte], i & 0xFF);
    arena_deinit(&arena);
}

static void test_copy_is_terminated(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena);
    const char data[] = {'a', '\0', 'b'};
    char *copy = arena_copy(&arena, data, sizeof data);
    assert_non_null(copy);
    assert_memory_equal(copy, "a\0b", 4);
    char *nothing = arena_copy(&arena, NULL, 0);
    assert_non_null(nothing);
    assert_string_equal(nothing, "");
    arena_deinit(&arena);
}

static void test_reset_keeps_the_largest_block(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena);
    assert_non_null(arena_alloc(&arena, 100));
    assert_non_null(arena_alloc(&arena, 5000000));
    for (int i = 0; i < 100; i++)
        assert_non_null(arena_alloc(&arena, 10000));
    arena_reset(&arena);
    size_t kept = arena.reserved_bytes;
    assert_true(kept >= 5000000);
    assert_true(kept < 5100000);
    for (int round = 0; round < 10; round++) {
        assert_non_null(arena_alloc(&arena, 4000000));
        arena_reset(&arena);
        assert_int_equal(arena.reserved_bytes, kept);
    }
    arena_deinit(&arena);
    assert_int_equal(arena.reserved_bytes, 0);
}

/* Where an arena has become large its blocks are huge pages. */
static void test_large_arenas(void **state)
{
    (void)state;
    enum { PIECES = 4000, PIECE_BYTES = 10000 };
    static unsigned char *pieces[PIECES];
    struct arena arena;
    arena_init(&arena);
    for (int i = 0; i < PIECES; i++) {
        pieces[i] = arena_alloc(&arena, PIECE_BYTES);
        assert_non_null(pieces[i]);
        memset(pieces[i], i % 251, PIECE_BYTES);
    }
    for (int i = 0; i < PIECES; i++)
        assert_true(pieces[i][0] == i % 251 && pieces[i][PIECE_BYTES - 1] == i % 251);
    assert_true(arena.reserved_bytes >= (size_t)PIECES * PIECE_BYTES);
    assert_true(arena.reserved_bytes < (size_t)PIECES * PIECE_BYTES * 11 / 10);
    arena_reset(&arena);
    assert_true(arena.reserved_bytes <= PAGES_HUGE_BYTES);
    arena_deinit(&arena);
}

static void test_empty_arenas_are_accepted(void **state)
{
    (void)state;
    struct arena arena = {0};
    arena_reset(&arena);
    arena_deinit(&arena);
    arena_deinit(&arena);
}

static void test_absurd_sizes_are_refused(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena);
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_alloc(&arena, SIZE_MAX - 15));
    assert_null(arena_copy(&arena, "", SIZE_MAX));
    assert_non_null(arena_alloc(&arena, 1));
    arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pointers_are_aligned_and_distinct),
        cmocka_unit_test(test_memory_never_moves_nor_overlaps),
        cmocka_unit_test(test_copy_is_terminated),
        cmocka_unit_test(test_reset_keeps_the_largest_block),
        cmocka_unit_test(test_large_arenas),
        cmocka_unit_test(test_empty_arenas_are_accepted),
        cmocka_unit_test(test_absurd_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
