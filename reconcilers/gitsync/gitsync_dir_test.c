/* A watched folder, a GitSync and the API server with all their threads: what is written into the
 * folder becomes an object, and goes with its file. */
#include "reconcilers/gitsync/gitsync.h"

#include "api/gen/crds_embedded.h"
#include "controller/client/client_testing.h"
#include "lib/file.h"
#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#define PATIENCE_MS 60000

struct world {
    struct fl_plane *plane;
    struct fl_arena *arena;
    char folder[64];
    const char *directories[1];
    struct fl_gitsyncs *syncs;
    struct fl_source *source;
    struct fl_manager *manager;
};

static const struct fl_gvr gitsyncs = {"flops.dev", "v1alpha1", "gitsyncs", true};

#define OK(call)                                                                                   \
    do {                                                                                           \
        struct fl_error err = {0};                                                                 \
        if ((call) < 0)                                                                            \
            fail_msg("%s: %s", #call, err.msg);                                                    \
    } while (0)

static void start_manager(struct world *w)
{
    const struct fl_source_options sources = {.env = &w->plane->env,
                                              .directories = w->directories,
                                              .directory_count = 1,
                                              .changed = fl_gitsync_source_changed,
                                              .user = w->syncs};
    const struct fl_manager_options options = {.env = &w->plane->env, .client = w->plane->client};

    OK(fl_source_dir_create(&sources, &w->source, &err));
    OK(fl_manager_create(&options, &w->manager, &err));
    fl_gitsyncs_attach(w->syncs, w->manager, w->source);
    OK(fl_manager_add(w->manager, &fl_gitsync_ops, w->syncs, &err));
    OK(fl_manager_start(w->manager, &err));
}

static int setup(void **state)
{
    struct world *w = fl_calloc(1, sizeof(*w));
    const char *definitions[FL_EMBEDDED_CRD_COUNT];

    for (size_t i = 0; i < FL_EMBEDDED_CRD_COUNT; i++)
        definitions[i] = fl_embedded_crds[i].json;
    OK(fl_plane_create(&(struct fl_plane_options){.definitions = definitions,
                                                  .definition_count = FL_EMBEDDED_CRD_COUNT},
                       &w->plane, &err));
    w->arena = fl_arena_create();
    (void)snprintf(w->folder, sizeof(w->folder), "/tmp/flops-gitsync-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    w->directories[0] = w->folder;
    w->syncs = fl_gitsyncs_create(&(struct fl_gitsync_options){.local_everywhere = true});
    start_manager(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    fl_manager_stop(w->manager);
    w->source->ops->destroy(w->source);
    fl_manager_destroy(w->manager);
    fl_gitsyncs_destroy(w->syncs);
    fl_plane_destroy(w->plane);
    assert_int_equal(rmdir(w->folder), 0);
    fl_arena_destroy(w->arena);
    free(w);
    return 0;
}

static const char *path_of(struct world *w, const char *name)
{
    return fl_arena_printf(w->arena, "%s/%s", w->folder, name);
}

static void write_map(struct world *w, const char *name, const char *value)
{
    const char *text = fl_arena_printf(
        w->arena, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\ndata:\n  key: '%s'\n",
        name, value);

    OK(fl_file_write(path_of(w, fl_arena_printf(w->arena, "%s.yaml", name)), text, strlen(text),
                     0600, &err));
}

/* The value of a ConfigMap becomes that; NULL: it goes. */
static void await_value(struct world *w, const char *name, const char *value)
{
    int64_t end = fl_machine_monotonic_us() + PATIENCE_MS * 1000;

    for (;;) {
        FL_JSON map = NULL;
        int r = fl_apiclient_get(w->plane->client, &fl_gvr_configmaps, "default", name, &map, NULL);

        if (r == 0 ? fl_streq(fl_json_str(map, "data.key"), value) : r == FL_E_NOT_FOUND && !value)
            return;
        if (fl_machine_monotonic_us() > end)
            fail_msg("%s never became %s", name, fl_str_or(value, "nothing"));
        (void)usleep(5000);
    }
}

static bool is_ready(const json_t *sync, const char *status, const char *reason)
{
    const json_t *condition;
    size_t i;

    json_array_foreach(fl_json_path(sync, "status.conditions"), i, condition)
        if (fl_streq(fl_json_str(condition, "type"), "Ready"))
            return fl_streq(fl_json_str(condition, "status"), status) &&
                   fl_streq(fl_json_str(condition, "reason"), reason);
    return false;
}

static void await_ready(struct world *w, const char *status, const char *reason)
{
    int64_t end = fl_machine_monotonic_us() + PATIENCE_MS * 1000;

    for (;;) {
        FL_JSON sync = NULL;

        OK(fl_apiclient_get(w->plane->client, &gitsyncs, "default", "folder", &sync, &err));
        if (is_ready(sync, status, reason))
            return;
        if (fl_machine_monotonic_us() > end)
            fail_msg("Ready never became %s for %s", status, reason);
        (void)usleep(5000);
    }
}

static void await_end(struct world *w)
{
    int64_t end = fl_machine_monotonic_us() + PATIENCE_MS * 1000;

    while (fl_apiclient_get(w->plane->client, &gitsyncs, "default", "folder", NULL, NULL) !=
           FL_E_NOT_FOUND) {
        assert_true(fl_machine_monotonic_us() < end);
        (void)usleep(5000);
    }
}

static void test_a_folder_is_followed(void **state)
{
    struct world *w = *state;
    const char *url = fl_arena_printf(w->arena, "dir://%s", w->folder);
    FL_JSON sync =
        json_pack("{s:s, s:s, s:{s:s}, s:{s:s, s:s}}", "apiVersion", "flops.dev/v1alpha1", "kind",
                  "GitSync", "metadata", "name", "folder", "spec", "url", url, "interval", "10h");

    write_map(w, "a", "1");
    OK(fl_apiclient_create_object(w->plane->client, &gitsyncs, "default", sync, NULL, &err));
    await_value(w, "a", "1");
    for (int i = 2; i < 6; i++) {
        const char *value = fl_arena_printf(w->arena, "%d", i);

        write_map(w, "a", value);
        write_map(w, "b", value);
        await_value(w, "b", value);
        await_value(w, "a", value);
        assert_int_equal(unlink(path_of(w, "b.yaml")), 0);
        await_value(w, "b", NULL);
    }
    OK(fl_apiclient_delete(w->plane->client, &gitsyncs, "default", "folder", NULL, &err));
    await_end(w);
    await_value(w, "a", NULL);
    assert_int_equal(unlink(path_of(w, "a.yaml")), 0);
}

/* What is not mounted looks like this; a file that wants nothing says that nothing is wanted. */
static void test_an_empty_folder_prunes_nothing(void **state)
{
    struct world *w = *state;
    FL_JSON sync = json_pack("{s:s, s:s, s:{s:s}, s:{s:o, s:s}}", "apiVersion",
                             "flops.dev/v1alpha1", "kind", "GitSync", "metadata", "name", "folder",
                             "spec", "url", json_sprintf("dir://%s", w->folder), "interval", "10h");

    write_map(w, "a", "1");
    OK(fl_apiclient_create_object(w->plane->client, &gitsyncs, "default", sync, NULL, &err));
    await_value(w, "a", "1");
    assert_int_equal(unlink(path_of(w, "a.yaml")), 0);
    await_ready(w, "False", "PruneFailed");
    await_value(w, "a", "1");
    OK(fl_file_write(path_of(w, "README"), "", 0, 0600, &err));
    await_value(w, "a", NULL);
    await_ready(w, "True", "Applied");
    assert_int_equal(unlink(path_of(w, "README")), 0);
    OK(fl_apiclient_delete(w->plane->client, &gitsyncs, "default", "folder", NULL, &err));
    await_end(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_folder_is_followed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_empty_folder_prunes_nothing, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
