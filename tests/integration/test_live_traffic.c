/* Live streams while flushes and publications go on: after each event, the rows that a reader has
 * by applying the events so far must be exactly what the records below that event's receipt give.
 * One reader breaks off again and again and goes on with Last-Event-ID. DOVETAIL_SEED repeats
 * events.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/orders.h"
#include "tests/support/sse.h"
#include "tests/support/stack.h"
#include "tests/support/traffic.h"

enum { PARTITIONS = 4, STATES_MAX = 400, READERS = 2 };

static struct deployment *deployment;
static struct traffic *traffic;

struct reader {
    pthread_t thread;
    int port;
    const char *target;
    bool breaks_off;
    char *states[STATES_MAX]; /* documents, as /rows would answer */
    int count;
    int snapshots, changes, reconnects;
    char problem[256];
};

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Rows of windows alone sort as the texts of their identities do. */
static char *document(json_t *rows, json_t *receipt)
{
    size_t count = 0;
    const char *names[4096];
    const char *name;
    json_t *row;
    json_t *sorted = json_array();
    json_object_foreach (rows, name, row)
        if (count < 4096)
            names[count++] = name;
    qsort(names, count, sizeof names[0], compare_texts);
    for (size_t i = 0; i < count; i++)
        json_array_append(sorted, json_object_get(rows, names[i]));
    json_t *json = json_pack("{s:s, s:o, s:O}", "view", orders_views[0].name, "rows", sorted,
                             "receipt", receipt);
    char *text = json_dumps(json, 0);
    json_decref(json);
    return text;
}

static void *follow(void *context)
{
    struct reader *reader = context;
    json_t *rows = json_object();
    struct sse sse;
    struct sse_event event;
    char header[128] = "";
    int since = 0;
    int status = sse_open(&sse, reader->port, reader->target, header);
    while (status == 200 && sse_next(&sse, &event)) {
        if (strcmp(event.name, "problem") == 0)
            snprintf(reader->problem, sizeof reader->problem, "a problem: %s",
                     json_string_value(json_object_get(event.data, "detail")));
        reader->snapshots += strcmp(event.name, "snapshot") == 0;
        reader->changes += strcmp(event.name, "rows") == 0;
        sse_apply(rows, &event, 0);
        json_t *receipt = json_object_get(event.data, "receipt");
        if (receipt != NULL && reader->count < STATES_MAX)
            reader->states[reader->count++] = document(rows, receipt);
        snprintf(header, sizeof header, "Last-Event-ID: %s\r\n", event.id);
        json_decref(event.data);
        if (reader->breaks_off && ++since == 5) {
            since = 0;
            reader->reconnects++;
            sse_close(&sse);
            status = sse_open(&sse, reader->port, reader->target, header);
        }
    }
    if (status != 200)
        snprintf(reader->problem, sizeof reader->problem, "status %d", status);
    sse_close(&sse);
    json_decref(rows);
    return NULL;
}

static int tear_down(void **state)
{
    (void)state;
    traffic_destroy(traffic);
    deployment_destroy(deployment);
    traffic = NULL;
    deployment = NULL;
    return 0;
}

static void test_every_event(void **state)
{
    (void)state;
    char targets[READERS][256];
    char problem[4096];
    struct reader readers[READERS] = {0};
    const struct oracle_view *view = &orders_views[0];
    const struct traffic_options options = {
        .seed = stack_seed(), .partitions = PARTITIONS, .rate = 200, .transactions = true};
    const struct oracle_query query = {.view = view,
                                       .has_group_by = true,
                                       .has_measures = true,
                                       .measures = {0, 3}, /* integers: jansson keeps them */
                                       .measure_count = 2};
    deployment = deployment_create();
    traffic_define(deployment, orders_views, ORDERS_VIEWS);
    deployment_run(deployment, 0, "dovetail", "init", NULL);
    deployment_serve(deployment);
    struct child *speed = deployment_start(deployment, "dovetail-speed", NULL);
    traffic = traffic_start(deployment, &options);
    for (int i = 0; i < READERS; i++) {
        snprintf(targets[i], sizeof targets[i], "/v1/views/%s/live?group_by=&measures=%s,%s",
                 view->name, view->measures[0].name, view->measures[3].name);
        readers[i].port = deployment->port;
        readers[i].target = targets[i];
        readers[i].breaks_off = i == 1;
        assert_int_equal(pthread_create(&readers[i].thread, NULL, follow, &readers[i]), 0);
    }
    for (int run = 0; run < 3; run++) {
        char sql[128];
        int64_t wanted =
            deployment_number(deployment,
                              "SELECT sum(next_offset) FROM dovetail_internal.position") +
            400;
        snprintf(sql, sizeof sql, "SELECT sum(next_offset) FROM dovetail_internal.position");
        traffic_await(traffic, "records", sql, wanted, &speed, 1);
        if (run == 2)
            deployment_run(deployment, 0, "dovetail", "runs", "rollback", "1", NULL);
        else
            deployment_run(deployment, 0, "dovetail-batch", "run", NULL);
    }
    traffic_stop_producing(traffic);
    traffic_await_end(traffic, &speed, 1);
    child_stop(deployment->serving); /* ends the streams */
    child_stop(speed);
    for (int i = 0; i < READERS; i++) {
        struct reader *reader = &readers[i];
        stack_join(reader->thread, "a reader of a stream");
        if (reader->problem[0] != '\0' && !reader->breaks_off)
            fail_msg("%s", reader->problem);
        print_message("%d events checked: %d snapshots, %d with changes; %d reconnects\n",
                      reader->count, reader->snapshots, reader->changes, reader->reconnects);
        for (int s = 0; s < reader->count; s++) {
            if (!oracle_check(traffic_oracle(traffic), &query, reader->states[s], problem,
                              sizeof problem))
                fail_msg("event %d of reader %d: %s", s, i, problem);
            free(reader->states[s]);
        }
        assert_true(reader->count > 10);
    }
    assert_int_equal(readers[0].snapshots, 1);
    assert_true(readers[0].changes > 10);
    assert_true(readers[1].reconnects > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(test_every_event, tear_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
