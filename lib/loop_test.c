#include "lib/loop.h"

#include "lib/env.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* Descriptors. */

struct pipe_world {
    struct world *world;
    struct fl_loop_fd *watched;
    int fds[2], reads, writes;
    bool unwatch;
};

static void on_pipe(void *user, unsigned what)
{
    struct pipe_world *pipes = user;
    char byte;

    pipes->writes += (what & FL_LOOP_WRITE) != 0;
    if (what & FL_LOOP_READ) {
        assert_int_equal(read(pipes->fds[0], &byte, 1), 1);
        pipes->reads++;
    }
    if (pipes->unwatch)
        fl_loop_unwatch_fd(FL_TAKE(pipes->watched));
    if (pipes->unwatch || pipes->reads == 3)
        fl_loop_stop(pipes->world->loop);
}

static void test_a_descriptor_is_told_of_while_it_is_ready(void **state)
{
    struct pipe_world pipes = {.world = create_world()};

    (void)state;
    assert_int_equal(pipe(pipes.fds), 0);
    assert_int_equal(fl_loop_watch_fd(pipes.world->loop, pipes.fds[0], FL_LOOP_READ, on_pipe,
                                      &pipes, &pipes.watched, NULL),
                     0);
    assert_int_equal(write(pipes.fds[1], "abc", 3), 3);
    fl_loop_run_for(pipes.world->loop, PATIENCE_MS); /* one byte a time */
    assert_int_equal(pipes.reads, 3);
    assert_int_equal(pipes.writes, 0);
    fl_loop_unwatch_fd(FL_TAKE(pipes.watched));
    pipes.unwatch = true;
    assert_int_equal(fl_loop_watch_fd(pipes.world->loop, pipes.fds[1], FL_LOOP_WRITE, on_pipe,
                                      &pipes, &pipes.watched, NULL),
                     0);
    fl_loop_run_for(pipes.world->loop, PATIENCE_MS);
    assert_int_equal(pipes.writes, 1);
    assert_null(pipes.watched);
    assert_int_equal(write(pipes.fds[1], "d", 1), 1);
    fl_loop_run_for(pipes.world->loop, 20); /* nobody hears of it */
    assert_int_equal(pipes.reads, 3);
    (void)close(pipes.fds[0]);
    (void)close(pipes.fds[1]);
    destroy_world(pipes.world);
}

static void test_what_cannot_be_waited_for_is_refused(void **state)
{
    struct world *world = create_world();
    struct fl_loop_fd *watched = NULL;
    struct fl_error err = {0};
    FILE *file = tmpfile();

    (void)state;
    assert_non_null(file);
    assert_true(fl_loop_watch_fd(world->loop, fileno(file), FL_LOOP_READ, on_pipe, NULL, &watched,
                                 &err) < 0);
    assert_non_null(strstr(err.msg, "watch descriptor"));
    assert_null(watched);
    (void)fclose(file);
    destroy_world(world);
}

static void note_thread(void *user)
{
    struct world *world = user;

    world->count += fl_loop_is_running_here(world->loop);
    fl_loop_stop(world->loop);
}

static void test_a_thread_knows_whether_it_runs_the_loop(void **state)
{
    struct world *world = create_world();

    (void)state;
    assert_false(fl_loop_is_running_here(world->loop));
    fl_loop_post(world->loop, note_thread, world);
    fl_loop_run(world->loop);
    assert_int_equal(world->count, 1);
    assert_false(fl_loop_is_running_here(world->loop));
    destroy_world(world);
}

static void test_a_fired_timer_runs_once_before_the_loop_sleeps(void **state)
{
    struct world *world = create_world();

    (void)state;
    world->timer = fl_timer_create(world->loop, count, world);
    world->other = fl_timer_create(world->loop, stop, world);
    fl_timer_arm(world->timer, PATIENCE_MS * 10);
    fl_timer_fire(world->timer);
    fl_timer_fire(world->timer);
    fl_timer_fire(world->other);
    fl_loop_run_for(world->loop, PATIENCE_MS);
    fl_loop_run_for(world->loop, 10);
    assert_int_equal(world->count, 1);
    fl_timer_fire(world->timer);
    fl_timer_cancel(world->timer);
    fl_loop_run_for(world->loop, 10);
    assert_int_equal(world->count, 1);
    destroy_world(world);
}

/* Simulated loops: each call notes a letter. */

struct sim {
    struct fl_fake_env fake;
    struct fl_loop *loop;
    struct fl_timer *timers[4];
    char story[64];
    struct note {
        struct sim *sim;
        char letter;
    } notes[8];
};

static void note(void *user)
{
    const struct note *made = user;
    size_t len = strlen(made->sim->story);

    assert_true(len + 1 < sizeof(made->sim->story));
    made->sim->story[len] = made->letter;
}

static struct sim *create_sim(void)
{
    struct sim *sim = fl_calloc(1, sizeof(*sim));

    fl_fake_env_init(&sim->fake, 1, NULL);
    assert_int_equal(fl_loop_create_simulated(&sim->fake, &sim->loop, NULL), 0);
    for (int i = 0; i < 8; i++)
        sim->notes[i] = (struct note){sim, (char)('a' + i)};
    for (int i = 0; i < 4; i++)
        sim->timers[i] = fl_timer_create(sim->loop, note, &sim->notes[i]);
    return sim;
}

static void destroy_sim(struct sim *sim)
{
    for (int i = 0; i < 4; i++)
        fl_timer_destroy(sim->timers[i]);
    fl_loop_destroy(sim->loop);
    free(sim);
}

static void test_virtual_time_fires_timers_in_order_of_due_time(void **state)
{
    struct sim *sim = create_sim();
    int64_t start = sim->fake.monotonic_ms;

    (void)state;
    assert_true(fl_loop_is_simulated(sim->loop));
    assert_true(fl_loop_next_due_ms(sim->loop) == INT64_MAX);
    fl_timer_arm(sim->timers[0], 50);
    fl_timer_arm(sim->timers[1], 20);
    fl_timer_arm(sim->timers[2], 20);
    fl_timer_arm(sim->timers[3], 10);
    fl_timer_arm(sim->timers[3], 30); /* moved */
    assert_int_equal(fl_loop_step(sim->loop), 0);
    assert_true(fl_loop_next_due_ms(sim->loop) == start + 20);
    assert_true(sim->fake.monotonic_ms == start);
    fl_fake_env_advance(&sim->fake, 35);
    assert_int_equal(fl_loop_step(sim->loop), 3);
    assert_string_equal(sim->story, "bcd");
    fl_timer_cancel(sim->timers[0]);
    assert_true(fl_loop_next_due_ms(sim->loop) == INT64_MAX);
    fl_fake_env_advance(&sim->fake, 100);
    assert_int_equal(fl_loop_step(sim->loop), 0);
    destroy_sim(sim);
}

static void test_virtual_time_repeats_and_fires(void **state)
{
    struct sim *sim = create_sim();

    (void)state;
    fl_timer_repeat(sim->timers[0], 10);
    for (int i = 0; i < 3; i++) {
        fl_fake_env_advance(&sim->fake, 10);
        assert_int_equal(fl_loop_step(sim->loop), 1);
        assert_int_equal(fl_loop_step(sim->loop), 0);
    }
    fl_timer_arm(sim->timers[1], 1000);
    fl_timer_fire(sim->timers[1]);
    fl_timer_fire(sim->timers[1]);
    assert_true(fl_loop_next_due_ms(sim->loop) == sim->fake.monotonic_ms);
    assert_int_equal(fl_loop_step(sim->loop), 1);
    assert_string_equal(sim->story, "aaab");
    destroy_sim(sim);
}

static void test_posts_run_first_and_in_order(void **state)
{
    struct sim *sim = create_sim();

    (void)state;
    fl_timer_arm(sim->timers[0], 0);
    for (int i = 1; i < 5; i++)
        fl_loop_post(sim->loop, note, &sim->notes[i]);
    assert_true(fl_loop_next_due_ms(sim->loop) == sim->fake.monotonic_ms);
    assert_int_equal(fl_loop_step(sim->loop), 5);
    assert_string_equal(sim->story, "bcdea");
    destroy_sim(sim);
}

/* What a step's calls post and arm is the next step's, also where a call arms itself for ever. */
static void again(void *user)
{
    struct sim *sim = user;

    note(&sim->notes[7]);
    fl_loop_post(sim->loop, note, &sim->notes[6]);
    fl_timer_arm(sim->timers[0], 0);
}

static void test_a_step_ends(void **state)
{
    struct sim *sim = create_sim();

    (void)state;
    fl_timer_destroy(sim->timers[0]);
    sim->timers[0] = fl_timer_create(sim->loop, again, sim);
    fl_timer_arm(sim->timers[0], 0);
    assert_int_equal(fl_loop_step(sim->loop), 1);
    assert_string_equal(sim->story, "h");
    assert_int_equal(fl_loop_step(sim->loop), 2);
    assert_string_equal(sim->story, "hgh");
    destroy_sim(sim);
}

static void step_within(void *user)
{
    struct sim *sim = user;

    note(&sim->notes[0]);
    assert_int_equal(fl_loop_step(sim->loop), 2);
    note(&sim->notes[1]);
}

static void test_a_step_within_a_step_keeps_the_order(void **state)
{
    struct sim *sim = create_sim();

    (void)state;
    fl_loop_post(sim->loop, step_within, sim);
    fl_loop_post(sim->loop, note, &sim->notes[4]);
    fl_loop_post(sim->loop, note, &sim->notes[5]);
    assert_int_equal(fl_loop_step(sim->loop), 1);
    assert_string_equal(sim->story, "aefb");
    assert_int_equal(fl_loop_step(sim->loop), 0);
    destroy_sim(sim);
}

static void test_offloaded_work_is_done_at_once_and_told_later(void **state)
{
    struct sim *sim = create_sim();

    (void)state;
    /* work and done get the same user: the note twice */
    assert_int_equal(fl_loop_offload(sim->loop, note, note, &sim->notes[3], NULL), 0);
    assert_string_equal(sim->story, "d");
    assert_int_equal(fl_loop_step(sim->loop), 1);
    assert_string_equal(sim->story, "dd");
    destroy_sim(sim);
}

static void test_a_simulated_loop_has_no_world(void **state)
{
    struct sim *sim = create_sim();
    struct fl_loop_fd *watched = NULL;

    (void)state;
    assert_int_equal(fl_loop_watch_fd(sim->loop, 0, FL_LOOP_READ, on_pipe, NULL, &watched, NULL),
                     FL_E_INTERNAL);
    assert_int_equal(fl_loop_on_signal(sim->loop, SIGUSR1, note, NULL, NULL), FL_E_INTERNAL);
    fl_loop_post(sim->loop, note, &sim->notes[0]); /* destroy runs it */
    destroy_sim(sim);
}

/* A chain of jobs, each begun by the end of the one before, while the loop is being destroyed. */
struct chain {
    struct fl_loop *loop;
    int left, worked, done;
};

static void chain_work(void *user)
{
    ((struct chain *)user)->worked++;
}

static void chain_done(void *user)
{
    struct chain *chain = user;

    chain->done++;
    if (--chain->left > 0)
        assert_int_equal(fl_loop_offload(chain->loop, chain_work, chain_done, chain, NULL), 0);
}

static void test_what_ends_begins_once_more_at_the_end(void **state)
{
    (void)state;
    for (int again = 0; again < 50; again++) {
        struct chain chain = {.left = 4};

        assert_int_equal(fl_loop_create(&chain.loop, NULL), 0);
        assert_int_equal(fl_loop_offload(chain.loop, chain_work, chain_done, &chain, NULL), 0);
        fl_loop_destroy(chain.loop);
        assert_int_equal(chain.worked, 4);
        assert_int_equal(chain.done, 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_ends_begins_once_more_at_the_end),
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
        cmocka_unit_test(test_a_descriptor_is_told_of_while_it_is_ready),
        cmocka_unit_test(test_what_cannot_be_waited_for_is_refused),
        cmocka_unit_test(test_a_thread_knows_whether_it_runs_the_loop),
        cmocka_unit_test(test_a_fired_timer_runs_once_before_the_loop_sleeps),
        cmocka_unit_test(test_virtual_time_fires_timers_in_order_of_due_time),
        cmocka_unit_test(test_virtual_time_repeats_and_fires),
        cmocka_unit_test(test_posts_run_first_and_in_order),
        cmocka_unit_test(test_a_step_ends),
        cmocka_unit_test(test_a_step_within_a_step_keeps_the_order),
        cmocka_unit_test(test_offloaded_work_is_done_at_once_and_told_later),
        cmocka_unit_test(test_a_simulated_loop_has_no_world),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
