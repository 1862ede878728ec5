#include "lib/loop.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#define PATIENCE_MS 20000

struct world {
    struct fl_loop *loop;
    struct fl_timer *timer, *other;
    pthread_t loop_thread;
    int count, order[64];
    atomic_int worked;
};

static struct world *create_world(void)
{
    struct world *world = fl_calloc(1, sizeof(*world));

    assert_int_equal(fl_loop_create(&world->loop, NULL), 0);
    return world;
}

static void destroy_world(struct world *world)
{
    fl_timer_destroy(world->timer);
    fl_timer_destroy(world->other);
    fl_loop_destroy(world->loop);
    free(world);
}

static int64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static void stop(void *user)
{
    fl_loop_stop(((struct world *)user)->loop);
}

static void count(void *user)
{
    ((struct world *)user)->count++;
}

static void test_a_stop_before_the_run_ends_it(void **state)
{
    struct world *world = create_world();
    int64_t start = now_ms();

    (void)state;
    fl_loop_stop(world->loop);
    fl_loop_run(world->loop);
    /* and that one only */
    fl_loop_run_for(world->loop, 50);
    assert_true(now_ms() - start >= 40 && now_ms() - start < PATIENCE_MS);
    fl_loop_post(world->loop, stop, world);
    fl_loop_run(world->loop);
    destroy_world(world);
}

/* Posts from many threads. */

struct poster {
    struct world *world;
    int id, next;
};

static void check_order(void *user)
{
    int *slot = user;

    (*slot)++;
}

static void *post_many(void *user)
{
    struct poster *poster = user;

    for (int i = 0; i < 5000; i++)
        fl_loop_post(poster->world->loop, check_order, &poster->next);
    fl_loop_post(poster->world->loop, count, poster->world);
    return NULL;
}

static void stop_after_four(void *user)
{
    struct world *world = user;

    if (world->count == 4)
        fl_loop_stop(world->loop);
    else
        fl_loop_post(world->loop, stop_after_four, world);
}

static void test_posts_from_threads_all_run(void **state)
{
    struct world *world = create_world();
    struct poster posters[4];
    pthread_t threads[4];

    (void)state;
    for (int i = 0; i < 4; i++) {
        posters[i] = (struct poster){.world = world, .id = i};
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, &posters[i]), 0);
    }
    fl_loop_post(world->loop, stop_after_four, world);
    fl_loop_run(world->loop);
    for (int i = 0; i < 4; i++) {
        (void)pthread_join(threads[i], NULL);
        assert_int_equal(posters[i].next, 5000);
    }
    destroy_world(world);
}

struct numbered {
    struct world *world;
    int number;
};

static void note_number(void *user)
{
    struct numbered *numbered = user;
    struct world *world = numbered->world;

    world->order[world->count++] = numbered->number;
}

static void test_posts_keep_their_order(void **state)
{
    struct world *world = create_world();
    struct numbered numbered[40];

    (void)state;
    for (int i = 0; i < 40; i++) {
        numbered[i] = (struct numbered){world, i};
        fl_loop_post(world->loop, note_number, &numbered[i]);
    }
    fl_loop_run_for(world->loop, 20);
    assert_int_equal(world->count, 40);
    for (int i = 0; i < 40; i++)
        assert_int_equal(world->order[i], i);
    destroy_world(world);
}

static void post_again(void *user)
{
    struct world *world = user;

    if (++world->count < 10)
        fl_loop_post(world->loop, post_again, world);
}

static void test_destroy_runs_what_was_posted(void **state)
{
    struct world *world = create_world();

    (void)state;
    fl_loop_post(world->loop, post_again, world);
    fl_loop_destroy(world->loop);
    world->loop = NULL;
    assert_int_equal(world->count, 10);
    destroy_world(world);
}

/* Slow work. */

static void work(void *user)
{
    struct world *world = user;

    assert_false(pthread_equal(pthread_self(), world->loop_thread));
    (void)usleep(1000);
    atomic_fetch_add(&world->worked, 1);
}

static void done(void *user)
{
    struct world *world = user;

    assert_true(pthread_equal(pthread_self(), world->loop_thread));
    assert_true(atomic_load(&world->worked) > world->count);
    if (++world->count == 100)
        fl_loop_stop(world->loop);
}

static void test_slow_work_runs_elsewhere_and_is_done_here(void **state)
{
    struct world *world = create_world();

    (void)state;
    world->loop_thread = pthread_self();
    for (int i = 0; i < 100; i++)
        assert_int_equal(fl_loop_offload(world->loop, work, done, world, NULL), 0);
    fl_loop_run_for(world->loop, PATIENCE_MS);
    assert_int_equal(world->count, 100);
    destroy_world(world);
}

static void wait_for_release(void *user)
{
    while (atomic_load(&((struct world *)user)->worked) == 0)
        (void)usleep(1000);
}

static void test_slow_work_is_bounded_and_finished(void **state)
{
    struct world *world = create_world();
    struct fl_error err = {0};
    int accepted = 0, r;

    (void)state;
    while ((r = fl_loop_offload(world->loop, wait_for_release, count, world, &err)) == 0)
        accepted++;
    assert_int_equal(r, FL_E_UNAVAILABLE);
    assert_in_range(accepted, 1024, 1026); /* those in work do not wait */
    atomic_store(&world->worked, 1);
    fl_loop_destroy(world->loop);
    world->loop = NULL;
    assert_int_equal(world->count, accepted);
    destroy_world(world);
}

/* Timers. */

static void test_a_timer_fires_once_and_can_be_moved(void **state)
{
    struct world *world = create_world();

    (void)state;
    world->timer = fl_timer_create(world->loop, count, world);
    fl_loop_run_for(world->loop, 20);
    assert_int_equal(world->count, 0); /* not armed at first */
    fl_timer_arm(world->timer, 10);
    fl_loop_run_for(world->loop, 100);
    assert_int_equal(world->count, 1);
    fl_timer_arm(world->timer, 10);
    fl_timer_arm(world->timer, 100000);
    fl_loop_run_for(world->loop, 50);
    assert_int_equal(world->count, 1);
    fl_timer_arm(world->timer, 10);
    fl_timer_cancel(world->timer);
    fl_loop_run_for(world->loop, 50);
    assert_int_equal(world->count, 1);
    fl_timer_arm(world->timer, -5); /* a deadline that has passed */
    fl_loop_run_for(world->loop, 50);
    assert_int_equal(world->count, 2);
    destroy_world(world);
}

static void count_to_five(void *user)
{
    struct world *world = user;

    if (++world->count == 5) {
        fl_timer_destroy(world->timer);
        world->timer = NULL;
        fl_loop_stop(world->loop);
    }
}

static void test_a_repeating_timer_may_destroy_itself(void **state)
{
    struct world *world = create_world();
    int64_t start = now_ms();

    (void)state;
    world->timer = fl_timer_create(world->loop, count_to_five, world);
    fl_timer_repeat(world->timer, 10);
    fl_loop_run_for(world->loop, PATIENCE_MS);
    assert_int_equal(world->count, 5);
    assert_true(now_ms() - start >= 40);
    destroy_world(world);
}

static void test_timers_fire_in_order(void **state)
{
    struct world *world = create_world();
    struct numbered late = {world, 2}, early = {world, 1};

    (void)state;
    world->timer = fl_timer_create(world->loop, note_number, &late);
    world->other = fl_timer_create(world->loop, note_number, &early);
    fl_timer_arm(world->timer, 60);
    fl_timer_arm(world->other, 20);
    fl_loop_run_for(world->loop, 150);
    assert_int_equal(world->count, 2);
    assert_int_equal(world->order[0], 1);
    assert_int_equal(world->order[1], 2);
    destroy_world(world);
}

/* Signals. */

static void test_signals_arrive_on_the_loop(void **state)
{
    struct world *world = create_world();

    (void)state;
    assert_int_equal(fl_loop_on_signal(world->loop, SIGUSR1, stop, world, NULL), 0);
    assert_int_equal(fl_loop_on_signal(world->loop, SIGUSR2, count, world, NULL), 0);
    assert_int_equal(kill(getpid(), SIGUSR2), 0);
    fl_loop_run_for(world->loop, 50);
    assert_int_equal(world->count, 1);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    fl_loop_run(world->loop);
    destroy_world(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stop_before_the_run_ends_it),
        cmocka_unit_test(test_posts_from_threads_all_run),
        cmocka_unit_test(test_posts_keep_their_order),
        cmocka_unit_test(test_destroy_runs_what_was_posted),
        cmocka_unit_test(test_slow_work_runs_elsewhere_and_is_done_here),
        cmocka_unit_test(test_slow_work_is_bounded_and_finished),
        cmocka_unit_test(test_a_timer_fires_once_and_can_be_moved),
        cmocka_unit_test(test_a_repeating_timer_may_destroy_itself),
        cmocka_unit_test(test_timers_fire_in_order),
        cmocka_unit_test(test_signals_arrive_on_the_loop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
