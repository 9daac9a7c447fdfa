/* How the recompute's work is divided among threads: every segment once, the same part of each
 * partition to one thread, and nobody idle while another has work before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "batch_layer/recompute_internal.h"

enum { PARTITIONS = 3, SEGMENTS_MAX = 100, WORKERS_MAX = 8, SEGMENT_RECORDS = 1000 };

static struct error error;
static struct source *source;
static struct view *view;
static struct catalog_version version;
static struct catalog catalog;
static struct archive_segment items[SEGMENTS_MAX];
static struct segments segments;
static struct cut cuts[PARTITIONS];

static int setup(void **state)
{
    (void)state;
    json_t *json =
        json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s}}", "source", "events", "topic", "topic",
                  "event_time", "field", "at", "format", "epoch_s", "fields", "at", "timestamp");
    assert_int_equal(source_create(json, "test", &source, &error), STATUS_OK);
    json_decref(json);
    json = json_pack("{s:s, s:s, s:[], s:{s:s, s:s}, s:{s:s}}", "view", "v", "source", "events",
                     "group_by", "window", "type", "tumbling", "size", "1h", "measures", "c",
                     "count(*)");
    assert_int_equal(view_create(json, "test", source, &view, &error), STATUS_OK);
    json_decref(json);
    version = (struct catalog_version){.version = 1, .source = source, .view = view};
    catalog = (struct catalog){.versions = &version, .version_count = 1};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    view_destroy(view);
    source_destroy(source);
    return 0;
}

/* A history of `counts` segments for each partition, all of one size, divided. */
static void divide(struct job *job, const size_t counts[PARTITIONS], size_t workers)
{
    segments = (struct segments){.items = items};
    for (int32_t p = 0; p < PARTITIONS; p++) {
        cuts[p] = (struct cut){.topic = "topic",
                               .partition = p,
                               .offset = (int64_t)counts[p] * SEGMENT_RECORDS,
                               .chosen = true};
        for (size_t i = 0; i < counts[p]; i++)
            items[segments.count++] =
                (struct archive_segment){.topic = (char *)(uintptr_t) "topic",
                                         .partition = p,
                                         .start_offset = (int64_t)i * SEGMENT_RECORDS,
                                         .end_offset = (int64_t)(i + 1) * SEGMENT_RECORDS,
                                         .record_count = SEGMENT_RECORDS,
                                         .raw_bytes = 100 * SEGMENT_RECORDS};
    }
    *job = (struct job){.catalog = &catalog,
                        .segments = &segments,
                        .cuts = cuts,
                        .cut_count = PARTITIONS,
                        .worker_count = workers};
    pthread_mutex_init(&job->lock, NULL);
    assert_int_equal(recompute_plan(job, &error), STATUS_OK);
    assert_int_equal(recompute_divide(job, &error), STATUS_OK);
}

static void undo(struct job *job)
{
    recompute_plan_deinit(job);
    pthread_mutex_destroy(&job->lock);
}

/* Workers in turn take what there is, but for the idle ones, who take nothing. */
static void take_all(struct job *job, const bool idle[WORKERS_MAX], int taken[SEGMENTS_MAX])
{
    for (size_t w = 0, empty = 0; empty < job->worker_count; w = (w + 1) % job->worker_count) {
        const struct stretch *stretch = idle[w] ? NULL : recompute_take(job, w);
        empty = stretch == NULL ? empty + 1 : 0;
        for (size_t i = 0; stretch != NULL && i < stretch->count; i++)
            taken[stretch->segments[i] - items]++;
    }
}

static void test_every_segment_once(void **state)
{
    (void)state;
    static const size_t histories[][PARTITIONS] = {{8, 8, 8}, {1, 1, 1}, {20, 3, 1},
                                                   {0, 0, 5}, {1, 0, 0}, {0, 0, 0}};
    static const bool idlers[][WORKERS_MAX] = {{false}, {true}, {false, true, true, true}};
    for (size_t h = 0; h < sizeof histories / sizeof *histories; h++)
        for (size_t workers = 1; workers <= WORKERS_MAX; workers++)
            for (size_t i = 0; i < sizeof idlers / sizeof *idlers; i++) {
                struct job job;
                int taken[SEGMENTS_MAX] = {0};
                divide(&job, histories[h], workers);
                take_all(&job, idlers[workers > 1 ? i : 0], taken);
                for (size_t s = 0; s < segments.count; s++)
                    assert_int_equal(taken[s], 1);
                undo(&job);
            }
}

static void test_a_part_of_each_partition(void **state)
{
    (void)state;
    struct job job;
    divide(&job, (const size_t[]){8, 16, 4}, 4);
    for (size_t w = 0; w < 4; w++) {
        int64_t folded[PARTITIONS] = {0};
        for (size_t i = job.queues[w].next; i < job.queues[w].end; i++) {
            const struct archive_segment *segment = job.stretches[i].segments[0];
            int64_t quarter = cuts[segment->partition].offset / 4;
            assert_in_range(segment->start_offset, (int64_t)w * quarter,
                            (int64_t)(w + 1) * quarter - 1);
            folded[segment->partition] += segment->record_count;
        }
        for (size_t p = 0; p < PARTITIONS; p++)
            assert_int_equal(folded[p], cuts[p].offset / 4);
    }
    undo(&job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_segment_once),
        cmocka_unit_test(test_a_part_of_each_partition),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
