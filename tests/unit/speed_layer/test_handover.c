/* Handing over without servers: what is asked for while a flush is under way is not forgotten. The
 * flusher is a real one that never reaches PostgreSQL, and so is the consumer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "speed_layer/speed.h"

static struct error error;

static void test_touch_waits_for_the_flusher(void **state)
{
    (void)state;
    const struct config config = {.postgres = "host=127.0.0.1 port=1 connect_timeout=2",
                                  .speed_flush_interval_ms = 100};
    struct source source = {.topic = (char *)"flights"};
    struct feed feed = {.source = &source};
    struct partition partition = {.topic = (char *)"flights", .claimed = true, .feed = &feed};
    struct speed speed = {.config = &config, .partitions = &partition, .partition_count = 1};
    speed.open = &speed.flushes[0];
    json_t *properties = json_pack("{s:s}", "bootstrap.servers", "127.0.0.1:1");
    assert_int_equal(kafka_consumer_assign(properties, NULL, 0, &speed.consumer, &error),
                     STATUS_OK);
    json_decref(properties);
    assert_int_equal(flusher_create(&config, &speed.flusher, &error), STATUS_OK);

    /* Nothing is new, so nothing goes. */
    assert_int_equal(handover_begin(&speed, false, &error), STATUS_OK);
    assert_false(speed.in_flight);
    speed.in_flight = true;
    assert_int_equal(handover_begin(&speed, true, &error), STATUS_OK);
    assert_ptr_equal(speed.open, &speed.flushes[0]);
    speed.in_flight = false;
    assert_int_equal(handover_begin(&speed, false, &error), STATUS_OK);
    assert_true(speed.in_flight);
    assert_int_equal(speed.flushes[0].partition_count, 1);
    /* Once is enough. */
    flusher_abandon(speed.flusher);
    assert_ptr_equal(flusher_take(speed.flusher, 60000), &speed.flushes[0]);
    speed.in_flight = false;
    assert_int_equal(handover_begin(&speed, false, &error), STATUS_OK);
    assert_false(speed.in_flight);

    flusher_destroy(speed.flusher);
    kafka_consumer_close(speed.consumer);
    flush_deinit(&speed.flushes[0]);
    flush_deinit(&speed.flushes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_touch_waits_for_the_flusher)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
