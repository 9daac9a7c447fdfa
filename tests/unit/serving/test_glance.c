/* A look that is shared: nobody is given one that began before he asked. Looks are held by the
 * test, so nothing here depends on time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>

#include "serving/glance.h"

enum { ASKERS = 8 };

/* The world that is looked at. A look sees it when it begins, and ends when it is let go. */
struct world {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int state;
    int begun;
    int let_go;
    enum status status; /* of every look */
};

struct asker {
    pthread_t thread;
    struct glance *glance;
    enum status status;
    struct error error;
    int saw;
};

static enum status look(void *context, struct query_mark *out, struct error *error)
{
    struct world *world = context;
    pthread_mutex_lock(&world->lock);
    int number = ++world->begun;
    *out = (struct query_mark){.server = "s"};
    snprintf(out->snapshot, sizeof out->snapshot, "%d", world->state);
    pthread_cond_broadcast(&world->changed);
    while (world->let_go < number)
        pthread_cond_wait(&world->changed, &world->lock);
    enum status status = world->status;
    pthread_mutex_unlock(&world->lock);
    return status == STATUS_OK ? STATUS_OK : error_set(error, status, "look %d", number);
}

static void world_init(struct world *world)
{
    *world = (struct world){.status = STATUS_OK};
    pthread_mutex_init(&world->lock, NULL);
    pthread_cond_init(&world->changed, NULL);
}

static void await_begun(struct world *world, int number)
{
    pthread_mutex_lock(&world->lock);
    while (world->begun < number)
        pthread_cond_wait(&world->changed, &world->lock);
    pthread_mutex_unlock(&world->lock);
}

static void let_go(struct world *world, int number)
{
    pthread_mutex_lock(&world->lock);
    world->let_go = number;
    pthread_cond_broadcast(&world->changed);
    pthread_mutex_unlock(&world->lock);
}

static void move(struct world *world)
{
    pthread_mutex_lock(&world->lock);
    world->state++;
    pthread_mutex_unlock(&world->lock);
}

static void await_waiting(struct glance *glance, size_t count)
{
    while (glance_waiting(glance) < count)
        sched_yield();
}

static void *ask(void *context)
{
    struct asker *asker = context;
    struct query_mark mark = {0};
    asker->status = glance_take(asker->glance, &mark, &asker->error);
    asker->saw = atoi(mark.snapshot);
    return NULL;
}

static void start(struct asker *asker, struct glance *glance)
{
    *asker = (struct asker){.glance = glance};
    assert_int_equal(pthread_create(&asker->thread, NULL, ask, asker), 0);
}

static void finish(struct asker *asker)
{
    assert_int_equal(pthread_join(asker->thread, NULL), 0);
}

/* Moved while a look was under way: who asks after that must see it, and one look is enough for all
 * of them. */
static void test_not_the_look_of_before(void **state)
{
    (void)state;
    struct world world;
    struct asker first;
    struct asker later[ASKERS];
    world_init(&world);
    struct glance *glance = glance_create(look, &world);
    start(&first, glance);
    await_begun(&world, 1);
    move(&world);
    for (size_t i = 0; i < ASKERS; i++)
        start(&later[i], glance);
    await_waiting(glance, ASKERS);
    let_go(&world, 1);
    finish(&first);
    assert_int_equal(first.saw, 0);
    let_go(&world, 2);
    for (size_t i = 0; i < ASKERS; i++) {
        finish(&later[i]);
        assert_int_equal(later[i].status, STATUS_OK);
        assert_int_equal(later[i].saw, 1);
    }
    assert_int_equal(glance_looks(glance), 2);
    let_go(&world, 3);
    start(&first, glance);
    finish(&first);
    assert_int_equal(first.saw, 1);
    assert_int_equal(glance_looks(glance), 3);
    glance_destroy(glance);
}

/* A failure is told to those who waited for it, and to nobody else. */
static void test_failures(void **state)
{
    (void)state;
    struct world world;
    struct asker first;
    struct asker later[ASKERS];
    world_init(&world);
    struct glance *glance = glance_create(look, &world);
    start(&first, glance);
    await_begun(&world, 1);
    for (size_t i = 0; i < ASKERS; i++)
        start(&later[i], glance);
    await_waiting(glance, ASKERS);
    let_go(&world, 1);
    finish(&first);
    assert_int_equal(first.status, STATUS_OK);
    pthread_mutex_lock(&world.lock);
    world.status = STATUS_RETRY;
    pthread_mutex_unlock(&world.lock);
    let_go(&world, 2);
    for (size_t i = 0; i < ASKERS; i++) {
        finish(&later[i]);
        assert_int_equal(later[i].status, STATUS_RETRY);
        assert_string_equal(later[i].error.text, "look 2");
    }
    world.status = STATUS_OK;
    let_go(&world, 3);
    start(&first, glance);
    finish(&first);
    assert_int_equal(first.status, STATUS_OK);
    glance_destroy(glance);
}

/* Many at once, without a hand to hold them: each sees at least what was there when he asked. */
struct crowd {
    struct glance *glance;
    _Atomic int *world;
};

static enum status look_freely(void *context, struct query_mark *out, struct error *error)
{
    (void)error;
    *out = (struct query_mark){.server = "s"};
    snprintf(out->snapshot, sizeof out->snapshot, "%d", *(_Atomic int *)context);
    return STATUS_OK;
}

static void *ask_often(void *context)
{
    const struct crowd *crowd = context;
    intptr_t bad = 0;
    for (int i = 0; i < 2000; i++) {
        struct query_mark mark;
        int before = ++*crowd->world;
        bad += glance_take(crowd->glance, &mark, NULL) != STATUS_OK || atoi(mark.snapshot) < before;
    }
    return (void *)bad;
}

static void test_crowd(void **state)
{
    (void)state;
    _Atomic int world = 0;
    pthread_t threads[ASKERS];
    struct crowd crowd = {glance_create(look_freely, &world), &world};
    for (size_t i = 0; i < ASKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_often, &crowd), 0);
    for (size_t i = 0; i < ASKERS; i++) {
        void *bad;
        assert_int_equal(pthread_join(threads[i], &bad), 0);
        assert_null(bad);
    }
    assert_in_range(glance_looks(crowd.glance), 2000, ASKERS * 2000);
    assert_int_equal(glance_waiting(crowd.glance), 0);
    glance_destroy(crowd.glance);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_not_the_look_of_before),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_crowd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
