/* Error texts: cutting, wrapping, and that nothing of an earlier error stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/error.h"

static void test_set_replaces_everything(void **state)
{
    (void)state;
    struct error error = {.sqlstate = "40001", .kafka_code = 7, .text = "old"};
    assert_int_equal(error_set(&error, STATUS_REJECT, "field %s", "delay"), STATUS_REJECT);
    assert_int_equal(error.status, STATUS_REJECT);
    assert_string_equal(error.text, "field delay");
    assert_string_equal(error.sqlstate, "");
    assert_int_equal(error.kafka_code, 0);
}

static void test_null_is_accepted(void **state)
{
    (void)state;
    assert_int_equal(error_set(NULL, STATUS_RETRY, "x"), STATUS_RETRY);
    assert_int_equal(error_no_memory(NULL), STATUS_FATAL);
}

static void test_wrap_keeps_codes(void **state)
{
    (void)state;
    struct error error;
    error_set(&error, STATUS_RETRY, "connection lost");
    memcpy(error.sqlstate, "08006", 6);
    assert_int_equal(error_wrap(&error, "flush %d", 3), STATUS_RETRY);
    assert_string_equal(error.text, "flush 3: connection lost");
    assert_string_equal(error.sqlstate, "08006");
}

static void test_own_text_may_be_an_argument(void **state)
{
    (void)state;
    struct error error;
    error_set(&error, STATUS_RETRY, "inner");
    error_set(&error, STATUS_FATAL, "outer: %s", error.text);
    assert_string_equal(error.text, "outer: inner");
}

/* For each alignment of a three-byte character against the end of the text. */
static void test_long_texts_are_cut_between_characters(void **state)
{
    (void)state;
    for (size_t lead = 0; lead < 3; lead++) {
        char long_text[3000] = "";
        for (size_t i = 0; i < lead; i++)
            strcat(long_text, "x");
        while (strlen(long_text) < 2000)
            strcat(long_text, "\xE2\x8A\x95");
        struct error error;
        error_set(&error, STATUS_FATAL, "%s", long_text);
        assert_int_equal((strlen(error.text) - lead) % 3, 0);
        assert_true(strlen(error.text) > ERROR_TEXT_BYTES - 5);
        error_wrap(&error, "y");
        assert_int_equal((strlen(error.text) - lead - 3) % 3, 0);
        assert_true(strlen(error.text) < ERROR_TEXT_BYTES);
    }
}

static void test_cut_keeps_a_complete_last_character(void **state)
{
    (void)state;
    char text[2 * ERROR_TEXT_BYTES];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct error error;
    error_set(&error, STATUS_FATAL, "%s", text);
    assert_int_equal(strlen(error.text), ERROR_TEXT_BYTES - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_replaces_everything),
        cmocka_unit_test(test_null_is_accepted),
        cmocka_unit_test(test_wrap_keeps_codes),
        cmocka_unit_test(test_own_text_may_be_an_argument),
        cmocka_unit_test(test_long_texts_are_cut_between_characters),
        cmocka_unit_test(test_cut_keeps_a_complete_last_character),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
