/* What every builder promises, whatever its driver: the same table of tests for each. The process
 * driver starts this very program again, which plays the child then. */
#include "reconcilers/imagebuild/build_child.h"
#include "reconcilers/imagebuild/builder_fake.h"

#include "lib/file.h"
#include "lib/process.h"
#include "lib/str.h"
#include "lib/thread.h"

#include <dirent.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants the four above first */
#include <cmocka.h>

/* What becomes of a build is said by its repository. */
#define SUCCEEDS "succeeds" /* with a line of log */
#define REFUSES  "refuses"  /* INVALID in Check */
#define HANGS    "hangs"    /* in Base, for ever, after a line of log */

#define COMMIT   "0123456789abcdef0123456789abcdef01234567"
#define PLATFORM "linux/amd64"
#define LINE     "a line of log"

/* The child that the process driver starts. */

static void print(const char *line)
{
    (void)printf("%s\n", line);
    (void)fflush(stdout);
}

static void play_success(const struct fl_build *build, struct fl_arena *arena)
{
    char digest[FL_DIGEST_SIZE];
    FL_JSON answer = NULL;
    struct fl_builder_result result = {.commit = build->commit,
                                       .backend = "Compose",
                                       .digest = digest,
                                       .size = 1000,
                                       .platform_count = 1};

    fl_digest_of("made", 4, digest);
    result.platforms[0] = (struct fl_builder_platform){
        .platform = build->platforms[0], .digest = digest, .size = 1000, .layers = 1};
    answer = json_pack("{s:o}", "result", fl_builder_result_json(&result));
    print("{\"stage\":\"Base\",\"state\":\"Done\"}");
    print(fl_json_to_string(arena, answer));
}

/* Each that begins leaves a mark in the folder. */
static void mark(const struct fl_build *build)
{
    char path[128];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/%s-XXXXXX", build->folder, build->repository);
    fd = mkstemp(path);
    if (fd < 0 || dprintf(fd, "%ld", (long)getpid()) < 1)
        abort();
    (void)close(fd);
}

static int play_child(void)
{
    struct fl_arena *arena = fl_arena_create();
    struct fl_build build;
    struct fl_error err = {0};
    json_t *value = NULL;

    if (fl_json_read_secret(STDIN_FILENO, FL_BUILD_REQUEST_MAX, &value, &err) < 0 ||
        fl_build_decode(fl_json_in_arena(arena, value), arena, &build, &err) < 0)
        abort();
    mark(&build);
    if (strcmp(build.repository, REFUSES) == 0) {
        print("{\"stage\":\"Check\",\"state\":\"Failed\",\"message\":\"there is no code\"}");
        print("{\"error\":{\"code\":\"Invalid\",\"message\":\"there is no code\",\"stage\":"
              "\"Check\"}}");
    } else {
        print("{\"stage\":\"Base\",\"state\":\"Running\"}");
        print("{\"log\":\"" LINE "\"}");
        if (strcmp(build.repository, SUCCEEDS) == 0)
            play_success(&build, arena);
        else
            (void)pause();
    }
    fl_arena_destroy(arena);
    return 0;
}

/* Worlds. */

struct changes {
    struct fl_lock *lock;
    unsigned count;
    char key[64]; /* of the last */
};

struct fixture {
    const struct harness *harness;
    struct fl_arena *arena;
    struct changes changes;
    struct fl_builder *builder;
    char folder[64];
    struct fl_env env;
    struct fl_fake_env clock;
    struct fl_builder_fake *fake;
};

struct harness {
    const char *name;
    void (*open)(struct fixture *f);
    void (*close)(struct fixture *f);
    void (*let_pass)(struct fixture *f); /* a moment */
    size_t (*begun)(struct fixture *f);  /* builds */
    unsigned patience;                   /* how many moments anything may take */
};

static void on_changed(void *user, const char *key)
{
    struct changes *changes = user;
    FL_LOCKED(changes->lock);

    changes->count++;
    (void)snprintf(changes->key, sizeof(changes->key), "%s", key);
}

static void process_open(struct fixture *f)
{
    const struct fl_builder_options options = {
        .env = &f->env, .changed = on_changed, .user = &f->changes, .grace_ms = 1};

    f->env = fl_env_real(NULL);
    assert_int_equal(fl_builder_process_create(&options, &f->builder, NULL), 0);
}

static void process_close(struct fixture *f)
{
    f->builder->ops->destroy(f->builder);
}

static void process_let_pass(struct fixture *f)
{
    (void)f;
    (void)usleep(5000);
}

static size_t process_begun(struct fixture *f)
{
    DIR *list = opendir(f->folder);
    const struct dirent *item;
    size_t count = 0;

    assert_non_null(list);
    while ((item = readdir(list)))
        count += item->d_name[0] != '.';
    (void)closedir(list);
    return count;
}

static void plan(void *user, const char *key, const struct fl_build *build,
                 struct fl_builder_fake_plan *plan)
{
    (void)user, (void)key;
    if (strcmp(build->repository, REFUSES) == 0)
        *plan = (struct fl_builder_fake_plan){
            .code = FL_E_INVALID, .stage = "Check", .message = "there is no code"};
    else
        *plan = (struct fl_builder_fake_plan){
            .run_ms = strcmp(build->repository, SUCCEEDS) == 0 ? 5 : -1, .log_tail = LINE "\n"};
}

static void fake_open(struct fixture *f)
{
    if (!f->fake) {
        fl_fake_env_init(&f->clock, 1, NULL);
        f->fake = fl_builder_fake_create(&f->clock.env);
        fl_builder_fake_on_plan(f->fake, plan, NULL);
    }
    fl_builder_fake_on_change(f->fake, on_changed, &f->changes);
    f->builder = fl_builder_fake_builder(f->fake);
}

static void fake_close(struct fixture *f)
{
    f->builder->ops->destroy(f->builder);
    fl_builder_fake_crash(f->fake);
}

static void fake_let_pass(struct fixture *f)
{
    fl_fake_env_advance(&f->clock, 1);
    (void)fl_builder_fake_step(f->fake);
}

static size_t fake_begun(struct fixture *f)
{
    return fl_builder_fake_begun(f->fake);
}

static const struct harness harnesses[] = {
    {"process", process_open, process_close, process_let_pass, process_begun, 12000},
    {"fake", fake_open, fake_close, fake_let_pass, fake_begun, 1000},
};
static const struct harness *harness;

static int setup(void **state)
{
    struct fixture *f = fl_calloc(1, sizeof(*f));

    f->harness = harness;
    f->arena = fl_arena_create();
    f->changes.lock = fl_lock_create();
    (void)snprintf(f->folder, sizeof(f->folder), "/tmp/flops-builder-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    harness->open(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    harness->close(f);
    fl_builder_fake_destroy(f->fake);
    assert_int_equal(fl_dir_remove(f->folder, NULL), 0);
    fl_lock_destroy(f->changes.lock);
    fl_arena_destroy(f->arena);
    free(f);
    return 0;
}

/* Steps. */

static void start_with(struct fixture *f, const char *key, const char *repository,
                       int64_t timeout_ms)
{
    const struct fl_build build = {.folder = f->folder,
                                   .program = "/program",
                                   .url = "https://git.test/repo",
                                   .commit = COMMIT,
                                   .repository = repository,
                                   .platforms = {PLATFORM},
                                   .platform_count = 1,
                                   .timeout_ms = timeout_ms};

    assert_int_equal(f->builder->ops->start(f->builder, key, &build, NULL), 0);
}

static void start(struct fixture *f, const char *key, const char *repository)
{
    start_with(f, key, repository, 0);
}

static void forget(struct fixture *f, const char *key)
{
    assert_int_equal(f->builder->ops->forget(f->builder, key, NULL), 0);
}

static struct fl_builder_known look(struct fixture *f, const char *key)
{
    struct fl_builder_known known;

    memset(&known, 0xaa, sizeof(known)); /* all of it is to be said */
    assert_int_equal(f->builder->ops->observe(f->builder, key, f->arena, &known, NULL), 0);
    return known;
}

static struct fl_builder_known wait_for(struct fixture *f, const char *key,
                                        enum fl_builder_state state)
{
    for (unsigned i = 0; i < harness->patience; i++) {
        struct fl_builder_known known = look(f, key);

        if (known.state == state)
            return known;
        harness->let_pass(f);
    }
    fail_msg("%s is %d, not %d", key, (int)look(f, key).state, (int)state);
    return (struct fl_builder_known){0};
}

static struct fl_builder_known wait_for_log(struct fixture *f, const char *key)
{
    for (unsigned i = 0; i < harness->patience; i++) {
        struct fl_builder_known known = look(f, key);

        if (known.log_tail && known.stage_count > 0)
            return known;
        harness->let_pass(f);
    }
    fail_msg("%s says nothing", key);
    return (struct fl_builder_known){0};
}

/* The contract. */

static void knows_nothing_at_first(void **state)
{
    struct fixture *f = *state;
    struct fl_builder_known known = look(f, "a");

    assert_int_equal(known.state, FL_BUILDER_NONE);
    assert_int_equal(known.stage_count, 0);
    assert_null(known.log_tail);
    forget(f, "a");
}

static void tells_what_was_made(void **state)
{
    struct fixture *f = *state;
    struct fl_builder_known known;

    start(f, "a", SUCCEEDS);
    known = wait_for(f, "a", FL_BUILDER_DONE);
    assert_int_equal(known.err.code, 0);
    assert_null(known.failed_stage);
    assert_true(fl_digest_is_valid(known.result.digest));
    assert_string_equal(known.result.commit, COMMIT);
    assert_string_equal(known.result.backend, "Compose");
    assert_int_equal(known.result.size, 1000);
    assert_int_equal(known.result.platform_count, 1);
    assert_string_equal(known.result.platforms[0].platform, PLATFORM);
    assert_true(fl_digest_is_valid(known.result.platforms[0].digest));
    assert_int_equal(known.stage_count, 1);
    assert_string_equal(known.stages[0].name, "Base");
    assert_int_equal(known.stages[0].state, FL_STAGE_DONE);
    assert_true(known.started_us > 0 && known.ended_us >= known.started_us);
    assert_true(known.stages[0].started_us >= known.started_us);
    assert_string_equal(known.log_tail, LINE "\n");
}

static void tells_what_went_wrong(void **state)
{
    struct fixture *f = *state;
    struct fl_builder_known known;

    start(f, "a", REFUSES);
    known = wait_for(f, "a", FL_BUILDER_FAILED);
    assert_int_equal(known.err.code, FL_E_INVALID);
    assert_string_equal(known.err.msg, "there is no code");
    assert_string_equal(known.failed_stage, "Check");
    assert_int_equal(known.stage_count, 1);
    assert_int_equal(known.stages[0].state, FL_STAGE_FAILED);
    assert_string_equal(known.stages[0].message, "there is no code");
    assert_true(known.ended_us >= known.started_us);
    assert_null(known.result.digest);
}

static void tells_how_far_it_is(void **state)
{
    struct fixture *f = *state;
    struct fl_builder_known known;

    start(f, "a", HANGS);
    known = wait_for_log(f, "a");
    assert_int_equal(known.state, FL_BUILDER_RUNNING);
    assert_string_equal(known.stages[0].name, "Base");
    assert_int_equal(known.stages[0].state, FL_STAGE_RUNNING);
    assert_int_equal(known.ended_us, 0);
}

static void tells_of_changes(void **state)
{
    struct fixture *f = *state;
    FL_CLEANUP(fl_lock_releasep) struct fl_lock *lock = NULL;

    start(f, "a", SUCCEEDS);
    (void)wait_for(f, "a", FL_BUILDER_DONE);
    for (unsigned i = 0; i < harness->patience; i++) {
        FL_LOCKED(f->changes.lock);
        if (f->changes.count > 1)
            break;
        harness->let_pass(f);
    }
    lock = fl_lock_taken(f->changes.lock);
    assert_true(f->changes.count > 1); /* that it began, and that it ended */
    assert_string_equal(f->changes.key, "a");
}

static void builds_once_under_a_key(void **state)
{
    struct fixture *f = *state;
    struct fl_builder_known first, second;

    start(f, "a", SUCCEEDS);
    start(f, "a", SUCCEEDS);
    first = wait_for(f, "a", FL_BUILDER_DONE);
    start(f, "a", REFUSES);
    start(f, "b", SUCCEEDS);
    (void)wait_for(f, "b", FL_BUILDER_DONE);
    second = look(f, "a");
    assert_int_equal(second.state, FL_BUILDER_DONE);
    assert_int_equal(second.started_us, first.started_us);
    assert_string_equal(second.result.digest, first.result.digest);
    assert_int_equal(harness->begun(f), 2);
}

static void a_failure_stays(void **state)
{
    struct fixture *f = *state;

    start(f, "a", REFUSES);
    (void)wait_for(f, "a", FL_BUILDER_FAILED);
    start(f, "a", SUCCEEDS);
    start(f, "b", SUCCEEDS);
    (void)wait_for(f, "b", FL_BUILDER_DONE);
    assert_int_equal(look(f, "a").state, FL_BUILDER_FAILED);
    assert_int_equal(harness->begun(f), 2);
}

static void one_at_a_time(void **state)
{
    struct fixture *f = *state;

    start(f, "a", HANGS);
    (void)wait_for_log(f, "a");
    start(f, "b", SUCCEEDS);
    start(f, "c", SUCCEEDS);
    for (unsigned i = 0; i < 20; i++)
        harness->let_pass(f);
    assert_int_equal(look(f, "b").state, FL_BUILDER_WAITING);
    assert_int_equal(look(f, "c").state, FL_BUILDER_WAITING);
    assert_int_equal(harness->begun(f), 1);
    forget(f, "a");
    (void)wait_for(f, "c", FL_BUILDER_DONE);
    assert_int_equal(look(f, "b").state, FL_BUILDER_DONE);
    assert_true(look(f, "b").ended_us <= look(f, "c").started_us);
    assert_int_equal(look(f, "a").state, FL_BUILDER_NONE);
}

static void what_waits_can_be_forgotten(void **state)
{
    struct fixture *f = *state;

    start(f, "a", HANGS);
    (void)wait_for_log(f, "a");
    start(f, "b", HANGS);
    start(f, "c", HANGS);
    start(f, "d", SUCCEEDS);
    forget(f, "c"); /* in the middle, at the front, and what runs */
    forget(f, "b");
    forget(f, "a");
    (void)wait_for(f, "d", FL_BUILDER_DONE);
    start(f, "e", SUCCEEDS);
    (void)wait_for(f, "e", FL_BUILDER_DONE);
    assert_int_equal(look(f, "b").state, FL_BUILDER_NONE);
    assert_int_equal(harness->begun(f), 3);
}

/* The last that waits goes, and one comes: nobody is lost. */
static void the_last_that_waits_can_be_forgotten(void **state)
{
    struct fixture *f = *state;

    start(f, "a", HANGS);
    (void)wait_for_log(f, "a");
    start(f, "b", HANGS);
    forget(f, "b");
    start(f, "c", SUCCEEDS);
    forget(f, "a");
    (void)wait_for(f, "c", FL_BUILDER_DONE);
}

static void what_was_forgotten_is_built_anew(void **state)
{
    struct fixture *f = *state;

    start(f, "a", HANGS);
    (void)wait_for_log(f, "a");
    forget(f, "a");
    assert_int_equal(look(f, "a").state, FL_BUILDER_NONE);
    start(f, "a", SUCCEEDS);
    (void)wait_for(f, "a", FL_BUILDER_DONE);
    forget(f, "a");
    assert_int_equal(look(f, "a").state, FL_BUILDER_NONE);
    start(f, "a", REFUSES);
    (void)wait_for(f, "a", FL_BUILDER_FAILED);
    assert_int_equal(harness->begun(f), 3);
}

static void a_deadline_ends_it(void **state)
{
    struct fixture *f = *state;
    struct fl_builder_known known;

    start_with(f, "a", HANGS, 50);
    known = wait_for(f, "a", FL_BUILDER_FAILED);
    assert_int_equal(known.err.code, FL_E_TIMEOUT);
    assert_string_equal(known.err.msg, "the build took longer than it may");
    start(f, "b", SUCCEEDS);
    (void)wait_for(f, "b", FL_BUILDER_DONE);
}

/* Nobody lends it anything: what it was given may be gone when it begins, and what it gave is the
 * caller's when it has forgotten. */
static void lends_nothing(void **state)
{
    struct fixture *f = *state;
    char key[] = "b", repository[] = SUCCEEDS, folder[64], platform[] = PLATFORM;
    struct fl_build build = {.folder = folder,
                             .program = "/program",
                             .repository = repository,
                             .commit = COMMIT,
                             .platforms = {platform},
                             .platform_count = 1};
    struct fl_builder_known known;

    memcpy(folder, f->folder, sizeof(folder));
    start(f, "a", HANGS);
    assert_int_equal(f->builder->ops->start(f->builder, key, &build, NULL), 0);
    memset(key, 'x', strlen(key));
    memset(repository, 'x', strlen(repository));
    memset(folder, 'x', strlen(folder));
    memset(platform, 'x', strlen(platform));
    forget(f, "a");
    known = wait_for(f, "b", FL_BUILDER_DONE);
    forget(f, "b");
    assert_string_equal(known.stages[0].name, "Base");
    assert_string_equal(known.log_tail, LINE "\n");
    assert_string_equal(known.result.platforms[0].platform, PLATFORM);
    assert_string_equal(known.result.commit, COMMIT);
}

/* With its process all ends, and is unknown to the next. */
static void remembers_nothing(void **state)
{
    struct fixture *f = *state;

    start(f, "a", SUCCEEDS);
    (void)wait_for(f, "a", FL_BUILDER_DONE);
    start(f, "b", HANGS);
    (void)wait_for_log(f, "b");
    start(f, "c", HANGS);
    harness->close(f);
    harness->open(f);
    assert_int_equal(look(f, "a").state, FL_BUILDER_NONE);
    assert_int_equal(look(f, "b").state, FL_BUILDER_NONE);
    assert_int_equal(look(f, "c").state, FL_BUILDER_NONE);
    start(f, "b", SUCCEEDS);
    (void)wait_for(f, "b", FL_BUILDER_DONE);
    assert_int_equal(harness->begun(f), 3); /* never "c" */
}

static int run_contract(const struct harness *on)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(knows_nothing_at_first),
        TEST(tells_what_was_made),
        TEST(tells_what_went_wrong),
        TEST(tells_how_far_it_is),
        TEST(tells_of_changes),
        TEST(builds_once_under_a_key),
        TEST(a_failure_stays),
        TEST(one_at_a_time),
        TEST(what_waits_can_be_forgotten),
        TEST(the_last_that_waits_can_be_forgotten),
        TEST(what_was_forgotten_is_built_anew),
        TEST(a_deadline_ends_it),
        TEST(lends_nothing),
        TEST(remembers_nothing),
#undef TEST
    };

    harness = on;
    return cmocka_run_group_tests_name(on->name, tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    int failures = 0;

    if (fl_build_is_child(argc, argv))
        return play_child();
    for (size_t i = 0; i < FL_COUNT_OF(harnesses); i++)
        failures += run_contract(&harnesses[i]);
    return failures;
}
