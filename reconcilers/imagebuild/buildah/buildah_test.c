/* Against the program itself; images hold a busybox. */
#include "reconcilers/imagebuild/buildah/buildah.h"

#include "lib/file.h"
#include "lib/folder.h"
#include "lib/process.h"
#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LONG_MS   300000
#define BUSYBOX   "FROM scratch\nCOPY busybox /bin/busybox\n"
#define RUN(text) "RUN [\"/bin/busybox\", \"sh\", \"-c\", \"" text "\"]\n"

struct rig {
    char folder[64];
    struct fl_env env;
    struct fl_arena *arena;
    struct fl_blobs *blobs;
    struct fl_buf said;
    const char *wait_for; /* once this was said it is broken off */
    bool is_over;
};

static void on_line(void *user, const char *line)
{
    struct rig *rig = user;

    fl_buf_printf(&rig->said, "%s\n", line);
    rig->is_over |= rig->wait_for && strstr(line, rig->wait_for) == line;
}

static bool keep_going(void *user)
{
    const struct rig *rig = user;

    return !rig->is_over;
}

static void copy_busybox(const char *to)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;

    assert_int_equal(fl_file_read("/bin/busybox", (size_t)64 * 1024 * 1024, &bytes, NULL), 0);
    assert_int_equal(fl_file_write(to, bytes->data, bytes->len, 0755, NULL), 0);
}

static int set_up(void **state)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));
    struct fl_blobs_options options;

    (void)snprintf(rig->folder, sizeof(rig->folder), "/tmp/flops-buildah-XXXXXX");
    assert_non_null(mkdtemp(rig->folder));
    rig->env = fl_env_real(NULL);
    rig->arena = fl_arena_create();
    fl_buf_init(&rig->said, 0);
    options = (struct fl_blobs_options){
        .env = &rig->env, .path = fl_arena_printf(rig->arena, "%s/blobs", rig->folder)};
    assert_int_equal(fl_blobs_open(&options, &rig->blobs, NULL), 0);
    assert_int_equal(fl_dir_ensure(fl_arena_printf(rig->arena, "%s/code", rig->folder), 0755, NULL),
                     0);
    copy_busybox(fl_arena_printf(rig->arena, "%s/code/busybox", rig->folder));
    *state = rig;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    fl_blobs_close(rig->blobs);
    fl_buf_finish(&rig->said);
    assert_int_equal(fl_dir_remove(rig->folder, NULL), 0);
    fl_arena_destroy(rig->arena);
    free(rig);
    return 0;
}

static struct fl_buildah_options options_of(struct rig *rig, const char *state, int64_t timeout_ms)
{
    return (struct fl_buildah_options){
        .env = &rig->env,
        .folder = fl_arena_printf(rig->arena, "%s/%s", rig->folder, state),
        .blobs = rig->blobs,
        .deadline_ms = fl_monotonic_ms(&rig->env) + timeout_ms,
        .line = on_line,
        .keep_going = keep_going,
        .user = rig,
    };
}

/* With a state of that name. */
static int build(struct rig *rig, const char *state, const char *text, const char *const *args,
                 int64_t timeout_ms, struct fl_oci_taken *ret_taken, struct fl_error *err)
{
    const struct fl_buildah_options options = options_of(rig, state, timeout_ms);
    const struct fl_platform here = fl_platform_of_machine();
    const struct fl_buildah_build job = {
        .context = fl_arena_printf(rig->arena, "%s/code", rig->folder),
        .containerfile = fl_arena_printf(rig->arena, "%s/code/Containerfile", rig->folder),
        .args = args,
        .platform = &here,
        .name = "test",
    };
    FL_CLEANUP(fl_buildah_closep) struct fl_buildah *buildah = NULL;
    int r = fl_file_write(job.containerfile, text, strlen(text), 0644, err);

    fl_buf_clear(&rig->said);
    if (r == 0)
        r = fl_buildah_open(&options, &buildah, err);
    return r < 0 ? r : fl_buildah_build(buildah, &job, rig->arena, ret_taken, err);
}

static void skip_without_root(void)
{
    if (!fl_process_is_root())
        skip();
}

static void the_same_is_the_same_image(void **state)
{
    static const char text[] = BUSYBOX "ARG WHO=nobody\n" RUN("echo it is $WHO; echo $WHO > /who");
    static const char *const args[] = {"WHO=me; touch /oops", NULL};
    struct fl_oci_taken one, two, other;
    struct rig *rig = *state;
    struct fl_error err = {0};

    skip_without_root();
    if (build(rig, "one", text, args, LONG_MS, &one, &err) < 0)
        fail_msg("%s", err.msg);
    assert_non_null(strstr(fl_buf_text(&rig->said), "\nit is me; touch /oops\n"));
    assert_true(fl_blobs_has(rig->blobs, one.root.digest));
    assert_int_equal(build(rig, "two", text, args, LONG_MS, &two, NULL), 0);
    assert_string_equal(one.root.digest, two.root.digest);
    assert_int_equal(build(rig, "two", text, NULL, LONG_MS, &other, NULL), 0);
    assert_string_not_equal(one.root.digest, other.root.digest);
}

static void what_stands_unchanged_is_not_run_again(void **state)
{
    static const char text[] = BUSYBOX RUN("echo worked");
    struct fl_oci_taken taken;
    struct rig *rig = *state;

    skip_without_root();
    assert_int_equal(build(rig, "state", text, NULL, LONG_MS, &taken, NULL), 0);
    assert_non_null(strstr(fl_buf_text(&rig->said), "\nworked\n"));
    assert_int_equal(build(rig, "state", text, NULL, LONG_MS, &taken, NULL), 0);
    assert_null(strstr(fl_buf_text(&rig->said), "\nworked\n"));
}

static void a_step_that_fails_says_why(void **state)
{
    struct rig *rig = *state;
    struct fl_oci_taken taken;
    struct fl_error err = {0};

    skip_without_root();
    assert_int_equal(build(rig, "state", BUSYBOX RUN("echo the disk is blue >&2; exit 7"), NULL,
                           LONG_MS, &taken, &err),
                     FL_E_INVALID);
    assert_non_null(strstr(err.msg, "the disk is blue"));
    assert_non_null(strstr(err.msg, "exit status 7"));
    assert_null(strstr(err.msg, "STEP 1"));
    assert_int_equal(build(rig, "state", "FROM oci:/etc\n", NULL, LONG_MS, &taken, &err),
                     FL_E_INVALID);
    assert_non_null(strstr(err.msg, "Containerfile: line 1"));
}

/* It flees into a session of its own, as daemons do. */
#define HANGING                                                                                    \
    BUSYBOX "ENV FLOPS_TEST_MARK=%s\n" RUN("/bin/busybox setsid /bin/busybox sleep 10000 & echo "  \
                                           "begun; /bin/busybox sleep 10000")

static size_t left(const char *mark)
{
    char entry[128];
    pid_t pids[8];

    (void)snprintf(entry, sizeof(entry), "FLOPS_TEST_MARK=%s", mark);
    return fl_process_marked(entry, pids, FL_COUNT_OF(pids));
}

static void ends_without_leaving_anything(struct rig *rig, int64_t timeout_ms, int code)
{
    const char *mark = strrchr(rig->folder, '-') + 1;
    const char *text = fl_arena_printf(rig->arena, HANGING, mark);
    int64_t give_up_ms = fl_monotonic_ms(&rig->env) + LONG_MS;
    struct fl_oci_taken taken;
    struct fl_error err = {0};

    assert_int_equal(build(rig, "state", text, NULL, timeout_ms, &taken, &err), code);
    rig->wait_for = NULL;
    rig->is_over = false;
    while (left(mark) > 0) /* the kernel takes its time to end a namespace */
        assert_true(fl_monotonic_ms(&rig->env) < give_up_ms);
    assert_int_equal(build(rig, "state", BUSYBOX RUN("echo again"), NULL, LONG_MS, &taken, &err),
                     0);
    assert_false(fl_path_exists(fl_arena_printf(rig->arena, "%s/state/under-way", rig->folder)));
    assert_false(fl_path_exists(fl_arena_printf(rig->arena, "%s/state/scratch", rig->folder)));
}

static void a_deadline_ends_all_of_it(void **state)
{
    skip_without_root();
    ends_without_leaving_anything(*state, 8000, FL_E_TIMEOUT);
}

static void it_can_be_broken_off(void **state)
{
    struct rig *rig = *state;

    skip_without_root();
    rig->wait_for = "begun";
    ends_without_leaving_anything(rig, LONG_MS, FL_E_UNAVAILABLE);
}

static void a_program_that_is_missing_is_named(void **state)
{
    struct rig *rig = *state;
    struct fl_buildah_options options = options_of(rig, "state", LONG_MS);
    struct fl_buildah *buildah = NULL;
    struct fl_error err = {0};

    options.path = rig->folder;
    assert_int_equal(fl_buildah_open(&options, &buildah, &err), FL_E_UNAVAILABLE);
    assert_non_null(strstr(err.msg, "install Debian's package buildah"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_same_is_the_same_image), TEST(what_stands_unchanged_is_not_run_again),
        TEST(a_step_that_fails_says_why), TEST(a_deadline_ends_all_of_it),
        TEST(it_can_be_broken_off),       TEST(a_program_that_is_missing_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
