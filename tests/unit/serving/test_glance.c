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
    struct world *world;
    struct glance *glance;
    struct glance_question question;
    pthread_t thread; /* of the first one, whose look is held */
    bool waits;
    bool is_told;
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

static void wait_for_it(void *context)
{
    struct asker *asker = context;
    assert_false(asker->waits);
    asker->waits = true;
}

static void told(void *context)
{
    struct asker *asker = context;
    pthread_mutex_lock(&asker->world->lock);
    assert_false(asker->is_told);
    asker->is_told = true;
    pthread_cond_broadcast(&asker->world->changed);
    pthread_mutex_unlock(&asker->world->lock);
}

static bool put(struct asker *asker)
{
    asker->question = (struct glance_question){.wait = wait_for_it, .told = told, .context = asker};
    return glance_ask(asker->glance, &asker->question);
}

static bool ask(struct asker *asker, struct world *world, struct glance *glance)
{
    *asker = (struct asker){.world = world, .glance = glance};
    return put(asker);
}

static void *ask_alone(void *context)
{
    return (void *)(intptr_t)put(context);
}

/* He looks himself, in a thread of his own. */
static void start(struct asker *asker, struct world *world, struct glance *glance)
{
    *asker = (struct asker){.world = world, .glance = glance};
    assert_int_equal(pthread_create(&asker->thread, NULL, ask_alone, asker), 0);
}

static void finish(struct asker *asker)
{
    void *answered;
    assert_int_equal(pthread_join(asker->thread, &answered), 0);
    assert_non_null(answered);
    assert_false(asker->waits);
    assert_false(asker->is_told);
}

static void await_told(struct asker *asker)
{
    pthread_mutex_lock(&asker->world->lock);
    while (!asker->is_told)
        pthread_cond_wait(&asker->world->changed, &asker->world->lock);
    pthread_mutex_unlock(&asker->world->lock);
}

static int saw(const struct asker *asker)
{
    return atoi(asker->question.mark.snapshot);
}

static struct glance *create(glance_look how, void *context)
{
    struct glance *glance = NULL;
    struct error error;
    assert_int_equal(glance_create(how, context, &glance, &error), STATUS_OK);
    return glance;
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
    struct glance *glance = create(look, &world);
    start(&first, &world, glance);
    await_begun(&world, 1);
    move(&world);
    for (size_t i = 0; i < ASKERS; i++) {
        assert_false(ask(&later[i], &world, glance));
        assert_true(later[i].waits);
        assert_false(later[i].is_told);
    }
    assert_int_equal(glance_waiting(glance), ASKERS);
    let_go(&world, 2);
    finish(&first);
    assert_int_equal(saw(&first), 0);
    for (size_t i = 0; i < ASKERS; i++) {
        await_told(&later[i]);
        assert_int_equal(later[i].question.status, STATUS_OK);
        assert_int_equal(saw(&later[i]), 1);
    }
    assert_int_equal(glance_looks(glance), 2);
    glance_destroy(glance);
}

/* A failure is told to those who waited for that look, and to nobody else. */
static void test_failures(void **state)
{
    (void)state;
    struct world world;
    struct asker first;
    struct asker later[ASKERS];
    world_init(&world);
    struct glance *glance = create(look, &world);
    start(&first, &world, glance);
    await_begun(&world, 1);
    for (size_t i = 0; i < ASKERS; i++)
        assert_false(ask(&later[i], &world, glance));
    let_go(&world, 1);
    finish(&first);
    assert_int_equal(first.question.status, STATUS_OK);
    pthread_mutex_lock(&world.lock);
    world.status = STATUS_RETRY;
    pthread_mutex_unlock(&world.lock);
    let_go(&world, 2);
    for (size_t i = 0; i < ASKERS; i++) {
        await_told(&later[i]);
        assert_int_equal(later[i].question.status, STATUS_RETRY);
    }
    glance_destroy(glance);
}

/* Nobody is left waiting, and after that everybody looks himself. */
static void test_close(void **state)
{
    (void)state;
    struct world world;
    struct asker first;
    struct asker later;
    world_init(&world);
    struct glance *glance = create(look, &world);
    start(&first, &world, glance);
    await_begun(&world, 1);
    assert_false(ask(&later, &world, glance));
    let_go(&world, 100);
    glance_close(glance);
    assert_true(later.is_told);
    finish(&first);
    assert_true(ask(&later, &world, glance));
    assert_false(later.waits);
    assert_int_equal(later.question.status, STATUS_OK);
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
    struct world own; /* to wait with */
    intptr_t bad = 0;
    world_init(&own);
    for (int i = 0; i < 2000; i++) {
        struct asker asker;
        int before = ++*crowd->world;
        if (!ask(&asker, &own, crowd->glance))
            await_told(&asker);
        bad += asker.question.status != STATUS_OK || saw(&asker) < before;
    }
    return (void *)bad;
}

static void test_crowd(void **state)
{
    (void)state;
    _Atomic int world = 0;
    pthread_t threads[ASKERS];
    struct crowd crowd = {create(look_freely, &world), &world};
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
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_crowd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
