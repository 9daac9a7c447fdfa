/* Moving the watermark, with times from broken clocks at the edge of what there is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/time/timestamp.h"
#include "core/time/watermark.h"

static int64_t moved(int64_t from_us, int64_t event_us, int64_t record_ms)
{
    watermark_note(&from_us, event_us, record_ms);
    return from_us;
}

static void test_it_only_rises(void **state)
{
    (void)state;
    assert_int_equal(moved(WATERMARK_NONE, 5, -1), 5);
    assert_int_equal(moved(5, 4, -1), 5);
    assert_int_equal(moved(5, 6, 0), 6);
    assert_int_equal(moved(WATERMARK_NONE, -TIMESTAMP_US_PER_DAY, 0), -TIMESTAMP_US_PER_DAY);
}

static void test_a_day_ahead_of_the_broker(void **state)
{
    (void)state;
    assert_int_equal(moved(7, TIMESTAMP_US_PER_DAY, 0), TIMESTAMP_US_PER_DAY);
    assert_int_equal(moved(7, TIMESTAMP_US_PER_DAY + 1000, 0), 7);
    assert_int_equal(moved(7, TIMESTAMP_US_PER_DAY + 1000, 1), TIMESTAMP_US_PER_DAY + 1000);
    assert_int_equal(moved(7, INT64_MAX, -1), INT64_MAX); /* the broker has no time for it */
}

static void test_extremes(void **state)
{
    (void)state;
    assert_int_equal(moved(WATERMARK_NONE, INT64_MIN + 1, INT64_MAX), INT64_MIN + 1);
    assert_int_equal(moved(WATERMARK_NONE, INT64_MIN + 1, 0), INT64_MIN + 1);
    assert_int_equal(moved(0, INT64_MAX, INT64_MAX), INT64_MAX);
    assert_int_equal(moved(0, INT64_MAX, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_only_rises),
        cmocka_unit_test(test_a_day_ahead_of_the_broker),
        cmocka_unit_test(test_extremes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
