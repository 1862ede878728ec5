#include "controller/client/client_testing.h"

#include "lib/str.h"

#include <assert.h>
#include <stdlib.h>

#define STEPS_MAX 100000
#define DRAIN_MS  2000

/* Planes. */

static void run_loop(void *user)
{
    fl_loop_run(user);
}

static int open_loop(struct fl_plane *plane, const struct fl_plane_options *options,
                     struct fl_error *err)
{
    if (!options->simulated) {
        plane->env = fl_env_real(options->log);
        return fl_loop_create(&plane->loop, err);
    }
    fl_fake_env_init(&plane->fake, options->seed, options->log);
    plane->env = plane->fake.env;
    return fl_loop_create_simulated(&plane->fake, &plane->loop, err);
}

static int open_plane(struct fl_plane *plane, const struct fl_plane_options *options,
                      struct fl_error *err)
{
    struct fl_store_options storing = {
        .env = &plane->env,
        .driver = fl_str_or(options->driver, "memory"),
        .path = options->path,
    };
    struct fl_apiserver_options serving = {
        .env = &plane->env,
        .version = "test",
        .definitions = options->definitions,
        .definition_count = options->definition_count,
    };
    int r = open_loop(plane, options, err);

    if (r == 0)
        r = fl_store_open(&storing, &plane->store, err);
    if (r < 0)
        return r;
    serving.loop = plane->loop;
    serving.store = plane->store;
    r = fl_apiserver_create(&serving, &plane->server, err);
    if (r < 0)
        return r;
    plane->client =
        fl_apiclient_create_local(&plane->env, plane->loop, plane->store, plane->server);
    if (options->simulated)
        return 0;
    return fl_thread_start("plane", run_loop, plane->loop, &plane->thread, err);
}

int fl_plane_create(const struct fl_plane_options *options, struct fl_plane **ret_plane,
                    struct fl_error *err)
{
    FL_CLEANUP(fl_plane_destroyp) struct fl_plane *plane = fl_calloc(1, sizeof(*plane));
    int r = open_plane(plane, options, err);

    if (r < 0)
        return fl_error_wrap(err, "open a control plane");
    *ret_plane = FL_TAKE(plane);
    return 0;
}

static void stop_loop(void *user)
{
    fl_loop_stop(user);
}

static void drain(void *user)
{
    struct fl_plane *plane = user;

    fl_apiserver_drain(plane->server, DRAIN_MS, stop_loop, plane->loop);
}

static void turn(struct fl_plane *plane)
{
    if (fl_loop_is_simulated(plane->loop))
        (void)fl_plane_settle(plane);
    else
        fl_loop_run_for(plane->loop, 1);
}

void fl_plane_destroy(struct fl_plane *plane)
{
    if (!plane)
        return;
    fl_apiclient_destroy(plane->client);
    if (plane->thread) {
        fl_loop_post(plane->loop, drain, plane);
        fl_thread_join(plane->thread);
    } else if (plane->server) {
        fl_apiserver_hang_up(plane->server);
    }
    fl_store_close(plane->store);
    if (plane->loop)
        turn(plane); /* what the last commits posted is for the server */
    fl_apiserver_destroy(plane->server);
    fl_loop_destroy(plane->loop);
    free(plane);
}

bool fl_plane_settle(struct fl_plane *plane)
{
    for (int i = 0; i < STEPS_MAX; i++)
        if (fl_loop_step(plane->loop) == 0)
            return true;
    return false;
}

bool fl_plane_advance(struct fl_plane *plane, int64_t ms)
{
    int64_t end_ms = plane->fake.monotonic_ms + ms, due_ms;
    bool quiet = fl_plane_settle(plane);

    while (quiet && (due_ms = fl_loop_next_due_ms(plane->loop)) <= end_ms) {
        fl_fake_env_advance(&plane->fake, due_ms - plane->fake.monotonic_ms);
        quiet = fl_plane_settle(plane);
    }
    if (quiet && plane->fake.monotonic_ms < end_ms)
        fl_fake_env_advance(&plane->fake, end_ms - plane->fake.monotonic_ms);
    return quiet;
}
