/* Keys of builds, and what is found by them. */
#include "reconcilers/imagebuild/build_kept.h"

#include "lib/oci/registry_fake.h"

#define COMMIT  "0123456789abcdef0123456789abcdef01234567"
#define COMMIT2 "1123456789abcdef0123456789abcdef01234567"

struct test {
    struct store store;
    struct fl_arena *arena;
    struct fl_build build;
    struct fl_compose_program program;
    struct fl_composed_platform platform;
    struct fl_build_kept kept;
    char folder[64];
};

static const char *write_text(struct test *test, const char *name, const char *text)
{
    const char *path = fl_arena_printf(test->arena, "%s/%s", test->folder, name);

    assert_int_equal(fl_file_write(path, text, strlen(text), 0600, NULL), 0);
    return path;
}

static const char *key_of(struct test *test)
{
    struct fl_error err = {0};
    const char *key;

    if (fl_build_key(&test->build, &test->program, 1, test->arena, &key, &err) < 0)
        fail_msg("%s", err.msg);
    assert_true(fl_digest_is_valid(key));
    return key;
}

static int set_up(void **state)
{
    static struct fl_package package = {
        FL_PACKAGE_DEBIAN,
        "libc6",
        "2.36",
        "amd64",
        "libc6.deb",
        NULL,
        "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaa",
        1};
    struct test *test = fl_calloc(1, sizeof(*test));
    struct fl_oci_descriptor image;

    store_open(&test->store, 0);
    test->arena = fl_arena_create();
    (void)strcpy(test->folder, "/tmp/flops-kept-XXXXXX");
    assert_non_null(mkdtemp(test->folder));
    image = store_image(&test->store, test->arena, "amd64", 1000, NULL);
    test->build = (struct fl_build){.env = &test->store.env,
                                    .folder = test->folder,
                                    .target = FL_IMAGEBUILD_TARGET_LEARNER,
                                    .platforms = {"linux/amd64"},
                                    .platform_count = 1,
                                    .url = "https://host/x.git",
                                    .commit = COMMIT,
                                    .program = write_text(test, "flops", "program"),
                                    .version = "1"};
    test->program = (struct fl_compose_program){image.platform, test->build.program};
    test->platform = (struct fl_composed_platform){
        .platform = image.platform,
        .digest = image.digest,
        .size = 1100,
        .unpacked_size = 1100,
        .layers = 2,
        .base = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        .debian = {&package, 1},
    };
    test->kept = (struct fl_build_kept){
        .composed = {.root = store_index(&test->store, test->arena, &image, 1),
                     .size = 1100,
                     .platforms = &test->platform,
                     .platform_count = 1},
        .backend = "Compose",
        .lock_file = "pylock.toml",
        .epoch_s = 1700000000,
    };
    *state = test;
    return 0;
}

static int tear_down(void **state)
{
    struct test *test = *state;

    fl_arena_destroy(test->arena);
    store_close(&test->store);
    (void)fl_dir_remove(test->folder, NULL);
    free(test);
    return 0;
}

/* --- keys --- */

static void change_url(struct test *test)
{
    test->build.url = "https://host/y.git";
}

static void change_commit(struct test *test)
{
    test->build.commit = COMMIT2;
}

static void change_path(struct test *test)
{
    test->build.path = "sub";
}

static void change_platforms(struct test *test)
{
    test->build.platforms[test->build.platform_count++] = "linux/arm64";
}

static void change_policy(struct test *test)
{
    test->build.lock_policy = FL_IMAGEBUILD_LOCK_POLICY_SOLVE;
}

static void change_backend(struct test *test)
{
    test->build.backend = FL_IMAGEBUILD_BACKEND_BUILDAH;
}

static void change_builder(struct test *test)
{
    (void)write_text(test, "flops", "another program");
}

static void change_builder_version(struct test *test)
{
    test->build.builder_version = "2";
}

static void change_code(struct test *test)
{
    FL_CLEANUP(fl_freep) char *folder = fl_asprintf("%s/code", test->folder);

    assert_int_equal(fl_dir_ensure(folder, 0700, NULL), 0);
    (void)write_text(test, "code/trainer.py", "x");
    test->build.code = fl_arena_strdup(test->arena, folder);
}

static void change_file(struct test *test)
{
    change_code(test);
    (void)write_text(test, "code/trainer.py", "y");
}

static void change_model(struct test *test)
{
    test->build.model = write_text(test, "model", "x");
}

/* Whatever the result follows from makes another key; what it does not, does not. */
static void keys_follow_from_all(void **state)
{
    static void (*const changes[])(struct test *) = {
        change_url,    change_commit,  change_path,    change_platforms,
        change_policy, change_backend, change_builder, change_builder_version,
        change_code,   change_file,    change_model};
    struct test *test = *state;
    const struct fl_build before = test->build;
    const char *keys[FL_COUNT_OF(changes) + 1];

    keys[0] = key_of(test);
    for (size_t i = 0; i < FL_COUNT_OF(changes); i++) {
        changes[i](test);
        keys[i + 1] = key_of(test);
        for (size_t k = 0; k <= i; k++)
            if (fl_streq(keys[k], keys[i + 1]))
                fail_msg("change %zu has the key of %zu", i, k);
        test->build = before;
        (void)write_text(test, "flops", "program");
    }
    test->build.tags[test->build.tag_count++] = "x";
    test->build.registry = "host";
    test->build.password = "secret";
    test->build.timeout_ms = 1;
    assert_string_equal(key_of(test), keys[0]);
}

/* --- what is kept --- */

static bool get(struct test *test, struct fl_build_kept *ret_kept)
{
    return fl_build_kept_get(&test->build, key_of(test), test->store.blobs, test->arena, ret_kept);
}

static void put(struct test *test)
{
    assert_int_equal(
        fl_build_kept_put(&test->build, key_of(test), &test->kept, test->store.blobs, NULL), 0);
}

static void what_was_built_is_there(void **state)
{
    struct test *test = *state;
    struct fl_build_kept kept;

    assert_false(get(test, &kept));
    put(test);
    assert_true(get(test, &kept));
    assert_string_equal(kept.composed.root.digest, test->kept.composed.root.digest);
    assert_string_equal(kept.backend, "Compose");
    assert_string_equal(kept.lock_file, "pylock.toml");
    assert_int_equal(kept.epoch_s, 1700000000);
    assert_int_equal(kept.composed.platform_count, 1);
    assert_int_equal(kept.composed.platforms[0].cached_layers, 2);
    assert_string_equal(kept.composed.platforms[0].base, test->platform.base);
    assert_int_equal(kept.composed.platforms[0].debian.count, 1);
    assert_string_equal(kept.composed.platforms[0].debian.items[0].name, "libc6");
    assert_true(fl_blobs_stats(test->store.blobs).pinned > 0);
}

/* Whoever cannot fetch the code does not get it from here. */
static void only_for_the_same_credentials(void **state)
{
    struct test *test = *state;
    struct fl_build_kept kept;

    test->build.username = "me";
    test->build.password = "secret";
    put(test);
    assert_true(get(test, &kept));
    test->build.password = "guess";
    assert_false(get(test, &kept));
    test->build.username = test->build.password = NULL;
    assert_false(get(test, &kept));
    test->build.identity = "a key";
    assert_false(get(test, &kept));
    test->build.base_image = "host/base";
    test->build.registry_password = "secret";
    put(test);
    assert_true(get(test, &kept));
    test->build.registry_password = "guess";
    assert_false(get(test, &kept));
}

/* Content may have gone to make room. */
static void only_with_all_its_parts(void **state)
{
    struct test *test = *state;
    struct fl_blob_entry *entries;
    struct fl_build_kept kept;
    size_t count = fl_blobs_list(test->store.blobs, test->arena, &entries);

    put(test);
    assert_int_equal(count, 5); /* two layers, configuration, manifest, index */
    for (size_t i = 0; i < count; i++) {
        FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
        const char *path;

        assert_int_equal(
            fl_blobs_path(test->store.blobs, entries[i].digest, test->arena, &path, NULL), 0);
        assert_int_equal(fl_file_read(path, 1 << 20, &bytes, NULL), 0);
        assert_int_equal(fl_blobs_remove(test->store.blobs, entries[i].digest, NULL), 0);
        assert_false(get(test, &kept));
        assert_int_equal(fl_blobs_stats(test->store.blobs).pinned, 0);
        (void)store_put(&test->store, test->arena, "x", bytes->data, bytes->len);
    }
    assert_true(get(test, &kept));
}

static void damage_is_as_if_it_were_not_there(void **state)
{
    static const char *const texts[] = {"", "{", "{\"version\":1}",
                                        "{\"version\":1,\"backend\":\"x\",\"root\":{}}",
                                        "{\"version\":1,\"backend\":\"x\",\"platforms\":[1]}"};
    struct test *test = *state;
    struct fl_folder_list list;
    struct fl_build_kept kept;

    put(test);
    assert_int_equal(fl_folder_list(test->arena,
                                    fl_arena_printf(test->arena, "%s/images", test->folder), false,
                                    10, &list, NULL),
                     0);
    assert_int_equal(list.count, 1);
    for (size_t i = 0; i < FL_COUNT_OF(texts); i++) {
        (void)write_text(test, fl_arena_printf(test->arena, "images/%s", list.names[0]), texts[i]);
        assert_false(get(test, &kept));
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(keys_follow_from_all),
        TEST(what_was_built_is_there),
        TEST(only_for_the_same_credentials),
        TEST(only_with_all_its_parts),
        TEST(damage_is_as_if_it_were_not_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
