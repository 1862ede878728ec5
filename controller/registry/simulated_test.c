/* The registry on a simulated loop, asked by the process itself: no sockets, no threads, and time
 * that stands still until it is moved. */
#include "controller/registry/registry.h"

#include "controller/apiserver/apiserver.h"
#include "controller/apiserver/auth.h"
#include "lib/digest.h"
#include "lib/file.h"
#include "lib/folder.h"
#include "lib/loop.h"
#include "lib/oci/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define IDLE_MS 30000

struct plane {
    struct fl_fake_env fake;
    char path[64];
    struct fl_arena *arena;
    struct fl_loop *loop;
    struct fl_store *store;
    struct fl_contents *contents;
    struct fl_repositories *repositories;
    struct fl_apiserver_raw raw;
    struct fl_apiserver *server;
    int status; /* of the last answer; 0: there is none */
    const char *location, *body;
};

static void open_registry(struct plane *plane)
{
    const struct fl_contents_options contents = {
        .env = &plane->fake.env, .path = fl_arena_printf(plane->arena, "%s/content", plane->path)};
    struct fl_repositories_options options = {
        .env = &plane->fake.env,
        .path = fl_arena_printf(plane->arena, "%s/registry.db", plane->path),
        .upload_idle_ms = IDLE_MS};

    assert_int_equal(fl_contents_open(&contents, &plane->contents, NULL), 0);
    options.contents = plane->contents;
    assert_int_equal(fl_repositories_open(&options, &plane->repositories, NULL), 0);
    plane->raw = fl_repositories_raw(plane->repositories);
}

static int set_up(void **state)
{
    struct plane *plane = fl_calloc(1, sizeof(*plane));
    struct fl_store_options store = {.env = &plane->fake.env, .driver = "memory"};
    struct fl_apiserver_options server = {
        .env = &plane->fake.env, .version = "test", .raws = &plane->raw, .raw_count = 1};

    fl_fake_env_init(&plane->fake, 1, NULL);
    plane->arena = fl_arena_create();
    (void)snprintf(plane->path, sizeof(plane->path), "/tmp/flops-registry-XXXXXX");
    assert_non_null(mkdtemp(plane->path));
    open_registry(plane);
    assert_int_equal(fl_loop_create_simulated(&plane->fake, &plane->loop, NULL), 0);
    assert_int_equal(fl_store_open(&store, &plane->store, NULL), 0);
    server.loop = plane->loop;
    server.store = plane->store;
    assert_int_equal(fl_apiserver_create(&server, &plane->server, NULL), 0);
    *state = plane;
    return 0;
}

static void settle(struct plane *plane)
{
    while (fl_loop_step(plane->loop) > 0)
        ;
}

static int tear_down(void **state)
{
    struct plane *plane = *state;

    fl_apiserver_hang_up(plane->server);
    settle(plane);
    fl_repositories_close(plane->repositories);
    fl_contents_close(plane->contents);
    fl_store_close(plane->store);
    settle(plane);
    fl_apiserver_destroy(plane->server);
    fl_loop_destroy(plane->loop);
    assert_int_equal(fl_dir_remove(plane->path, NULL), 0);
    fl_arena_destroy(plane->arena);
    free(plane);
    return 0;
}

static void answered(void *user, const struct fl_http_answer *answer, const struct fl_error *err)
{
    struct plane *plane = user;
    const char *location;

    if (!answer)
        fail_msg("%s", err->msg);
    location = fl_http_answer_header(answer, "Location");
    plane->status = answer->status;
    plane->location = location ? fl_arena_strdup(plane->arena, location) : NULL;
    plane->body = fl_arena_strndup(plane->arena, answer->body->data, answer->body->len);
}

static int ask(struct plane *plane, const char *method, const char *target, const char *text)
{
    static const char *const groups[] = {FL_GROUP_MASTERS};
    FL_CLEANUP(fl_bytes_unrefp)
    struct fl_bytes *body = text ? fl_bytes_new(text, strlen(text)) : NULL;
    const struct fl_apiserver_ask how = {.method = method,
                                         .target = target,
                                         .user = "test",
                                         .groups = groups,
                                         .group_count = 1,
                                         .content_type = text ? "application/json" : NULL,
                                         .accept = "*/*",
                                         .body = body};

    plane->status = 0;
    (void)fl_apiserver_ask(plane->server, &how, answered, plane);
    settle(plane);
    return plane->status;
}

static const char *push(struct plane *plane, const char *text)
{
    char digest[FL_DIGEST_SIZE];

    fl_digest_of(text, strlen(text), digest);
    assert_int_equal(ask(plane, "POST",
                         fl_arena_printf(plane->arena, "/v2/a/blobs/uploads/?digest=%s", digest),
                         text),
                     201);
    return fl_arena_strdup(plane->arena, digest);
}

static void the_process_itself_pushes(void **state)
{
    struct plane *plane = *state;
    const char *config = push(plane, "{}"), *text;

    text = fl_arena_printf(plane->arena,
                           "{\"schemaVersion\":2,\"mediaType\":\"" FL_OCI_MANIFEST
                           "\",\"config\":{\"mediaType\":\"" FL_OCI_CONFIG
                           "\",\"digest\":\"%s\",\"size\":2},\"layers\":[]}",
                           config);
    assert_int_equal(ask(plane, "PUT", "/v2/a/manifests/v", text), 201);
    assert_int_equal(ask(plane, "GET", "/v2/a/manifests/v", NULL), 200);
    assert_string_equal(plane->body, text);
    assert_int_equal(
        ask(plane, "DELETE", fl_arena_printf(plane->arena, "/v2/a/blobs/%s", config), NULL), 405);
    assert_int_equal(ask(plane, "DELETE", "/v2/a/manifests/v", NULL), 202);
}

static size_t count_files(struct plane *plane)
{
    struct fl_folder_list list;

    assert_int_equal(fl_folder_list(plane->arena,
                                    fl_arena_printf(plane->arena, "%s/content/new", plane->path),
                                    false, 100, &list, NULL),
                     0);
    return list.count;
}

/* A session ends by the clock, whether anybody asks for it or not. */
static void a_session_ends_by_itself(void **state)
{
    struct plane *plane = *state;
    const char *location;

    assert_int_equal(ask(plane, "POST", "/v2/a/blobs/uploads/", NULL), 202);
    location = plane->location;
    assert_int_equal(ask(plane, "PATCH", location, "abc"), 202);
    assert_int_equal(count_files(plane), 1);
    fl_fake_env_advance(&plane->fake, IDLE_MS - 1);
    settle(plane);
    assert_int_equal(ask(plane, "GET", location, NULL), 204);
    fl_fake_env_advance(&plane->fake, IDLE_MS - 1);
    settle(plane);
    assert_int_equal(ask(plane, "GET", location, NULL), 204); /* that was a use */
    for (int i = 0; i < 3; i++) {
        fl_fake_env_advance(&plane->fake, IDLE_MS);
        settle(plane);
    }
    assert_int_equal(count_files(plane), 0);
    assert_int_equal(ask(plane, "GET", location, NULL), 404);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_process_itself_pushes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_session_ends_by_itself, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
