/* The client and a registry that means well, in all the ways in which registries differ. */
#include "lib/oci/registry_fake.h"

struct test {
    struct fake fake;
    struct store here, there;
    struct fl_arena *arena;
    struct fl_registry *registry;
    struct fl_env env;
};

static struct fl_registry *open_registry(struct test *test, struct fl_registry_options options)
{
    struct fl_registry *registry = NULL;
    struct fl_error err = {0};
    char host[64];

    fake_host(&test->fake, host);
    options.env = &test->env;
    options.host = host;
    options.plain_http = true;
    options.backoff_ms = 1;
    if (options.chunk_bytes == 0)
        options.chunk_bytes = 1000;
    if (fl_registry_open(&options, &registry, &err) < 0)
        fail_msg("%s", err.msg);
    return registry;
}

static int set_up(void **state)
{
    struct test *test = fl_calloc(1, sizeof(*test));

    test->env = fl_env_real(NULL);
    fake_start(&test->fake, false);
    store_open(&test->here, 0);
    store_open(&test->there, 0);
    test->arena = fl_arena_create();
    test->registry = open_registry(test, (struct fl_registry_options){0});
    *state = test;
    return 0;
}

static int tear_down(void **state)
{
    struct test *test = *state;

    fl_registry_close(test->registry);
    fl_arena_destroy(test->arena);
    store_check_clean(&test->there);
    store_close(&test->here);
    store_close(&test->there);
    fake_stop(&test->fake);
    free(test);
    return 0;
}

static const char *const latest[] = {"latest"};

static struct fl_registry_pushed push(struct test *test, const char *repository, const char *from,
                                      const struct fl_oci_descriptor *root)
{
    struct fl_registry_pushed pushed = {0};
    struct fl_error err = {0};

    if (fl_registry_push(test->registry, repository, from, root, latest, 1, test->here.blobs, NULL,
                         &pushed, &err) < 0)
        fail_msg("%s", err.msg);
    return pushed;
}

static struct fl_oci_taken pull(struct test *test, const char *repository,
                                const struct fl_platform *platforms, size_t count)
{
    const struct fl_image_reference reference = {.repository = repository, .tag = "latest"};
    struct fl_oci_taken taken = {0};
    struct fl_error err = {0};

    if (fl_registry_pull(test->registry, &reference, platforms, count, test->there.blobs, NULL,
                         test->arena, &taken, &err) < 0)
        fail_msg("%s", err.msg);
    return taken;
}

static struct fl_oci_descriptor make_index(struct test *test, size_t len)
{
    struct fl_oci_descriptor images[] = {
        store_image(&test->here, test->arena, "amd64", len, NULL),
        store_image(&test->here, test->arena, "arm64", len, NULL),
    };

    return store_index(&test->here, test->arena, images, 2);
}

static void test_index_there_and_back(void **state)
{
    struct test *test = *state;
    const struct fl_oci_descriptor index = make_index(test, 4500);
    struct fl_registry_pushed pushed = push(test, "a/b", NULL, &index);
    struct fl_oci_taken taken;

    /* Two configurations, two layers of their own, one in common, two manifests, the index. */
    assert_int_equal(pushed.blobs_sent, 8);
    assert_int_equal(pushed.blobs_there, 0);
    assert_int_equal(test->fake.patches, 2 * 5); /* the small ones go in one piece */
    taken = pull(test, "a/b", NULL, 0);
    assert_string_equal(taken.root.digest, index.digest);
    assert_string_equal(taken.root.media_type, FL_OCI_INDEX);
    assert_int_equal(taken.pinned.count, 8);
    assert_int_equal(taken.parts_taken, 8);
    assert_int_equal(taken.bytes_taken, pushed.bytes_sent);
    assert_int_equal(fl_blobs_stats(test->there.blobs).pinned, 8);
    fl_oci_unpin(test->there.blobs, &taken);

    taken = pull(test, "a/b", NULL, 0);
    assert_int_equal(taken.parts_there, 8);
    assert_int_equal(taken.bytes_taken, 0);
    fl_oci_unpin(test->there.blobs, &taken);
}

static void test_what_is_there_is_not_sent(void **state)
{
    struct test *test = *state;
    const struct fl_oci_descriptor index = make_index(test, 4500);
    struct fl_registry_pushed pushed = push(test, "a/b", NULL, &index);
    const int patches = test->fake.patches, puts = test->fake.puts;

    pushed = push(test, "a/b", NULL, &index);
    assert_int_equal(pushed.blobs_sent, 0);
    assert_int_equal(pushed.bytes_sent, 0);
    assert_int_equal(pushed.blobs_there, 1);
    assert_int_equal(test->fake.patches, patches);
    assert_int_equal(test->fake.puts, puts);
}

static void test_one_platform_of_an_index(void **state)
{
    struct test *test = *state;
    const struct fl_oci_descriptor index = make_index(test, 500);
    const struct fl_platform arm = {"linux", "arm64", "v8"}, sparc = {"linux", "sparc", NULL};
    const struct fl_image_reference reference = {.repository = "a", .tag = "latest"};
    struct fl_oci_taken taken;
    struct fl_error err = {0};

    (void)push(test, "a", NULL, &index);
    taken = pull(test, "a", &arm, 1);
    assert_int_equal(taken.pinned.count, 5); /* configuration, two layers, manifest, index */
    fl_oci_unpin(test->there.blobs, &taken);
    assert_int_equal(fl_registry_pull(test->registry, &reference, &sparc, 1, test->there.blobs,
                                      NULL, test->arena, &taken, &err),
                     FL_E_NOT_FOUND);
    assert_non_null(strstr(err.msg, "linux/arm64"));
}

static void test_mounting(void **state)
{
    struct test *test = *state;
    const struct fl_oci_descriptor image =
        store_image(&test->here, test->arena, "amd64", 2000, NULL);
    struct fl_registry_pushed pushed;

    (void)push(test, "a", NULL, &image);
    (void)pthread_mutex_lock(&test->fake.lock);
    test->fake.mounts = true;
    (void)pthread_mutex_unlock(&test->fake.lock);
    pushed = push(test, "b", "a", &image);
    /* This registry says of every blob that each repository has it: it is there before. */
    assert_int_equal(pushed.blobs_there + pushed.blobs_mounted, 3);
    assert_int_equal(pushed.blobs_sent, 1);
}

/* It says that it has no blob, so that each is mounted. */
static bool denies_blobs(struct fake *fake, struct fl_http_request *request)
{
    (void)fake;
    if (strcmp(fl_http_method(request), "HEAD") != 0)
        return false;
    fake_error(request, 404, "BLOB_UNKNOWN");
    return true;
}

static void test_mounted_or_sent(void **state)
{
    struct test *test = *state;
    const struct fl_oci_descriptor image =
        store_image(&test->here, test->arena, "amd64", 2000, NULL);
    struct fl_registry_pushed pushed;

    (void)push(test, "a", NULL, &image);
    fake_misbehave(&test->fake, denies_blobs, 0);
    (void)pthread_mutex_lock(&test->fake.lock);
    test->fake.mounts = true;
    (void)pthread_mutex_unlock(&test->fake.lock);
    pushed = push(test, "b", "a", &image);
    assert_int_equal(pushed.blobs_mounted, 3);
    assert_int_equal(fake_count(&test->fake, &test->fake.mounted), 3);
    assert_int_equal(fake_count(&test->fake, &test->fake.puts), 0);

    (void)pthread_mutex_lock(&test->fake.lock);
    test->fake.mounts = false; /* it opens a session in place of a mount */
    (void)pthread_mutex_unlock(&test->fake.lock);
    pushed = push(test, "c", "a", &image);
    assert_int_equal(pushed.blobs_mounted, 0);
    assert_int_equal(pushed.blobs_sent, 4);
}

static void test_smallest_chunk(void **state)
{
    struct test *test = *state;
    const struct fl_oci_descriptor image =
        store_image(&test->here, test->arena, "amd64", 10000, NULL);

    (void)pthread_mutex_lock(&test->fake.lock);
    test->fake.chunk_min = 4000;
    (void)pthread_mutex_unlock(&test->fake.lock);
    (void)push(test, "a", NULL, &image);
    assert_int_equal(fake_count(&test->fake, &test->fake.patches), 3);
    assert_int_equal(fake_count(&test->fake, &test->fake.refused), 1); /* the last one */
}

static void test_resolving_listing_deleting(void **state)
{
    struct test *test = *state;
    const struct fl_oci_descriptor image = store_image(&test->here, test->arena, "amd64", 10, NULL);
    struct fl_image_reference reference = {.repository = "a", .tag = "latest"};
    struct fl_oci_descriptor found;
    struct fl_oci_texts tags;

    assert_int_equal(fl_registry_resolve(test->registry, &reference, test->arena, &found, NULL),
                     FL_E_NOT_FOUND);
    (void)push(test, "a", NULL, &image);
    assert_int_equal(fl_registry_resolve(test->registry, &reference, test->arena, &found, NULL), 0);
    assert_string_equal(found.digest, image.digest);
    assert_int_equal(found.size, image.size);
    assert_string_equal(found.media_type, FL_OCI_MANIFEST);
    reference.digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    assert_int_equal(fl_registry_resolve(test->registry, &reference, test->arena, &found, NULL),
                     FL_E_NOT_FOUND);
    assert_int_equal(fl_registry_tags(test->registry, "a", test->arena, &tags, NULL), 0);
    assert_int_equal(tags.count, 1);
    assert_string_equal(tags.items[0], "latest");
    assert_int_equal(fl_registry_delete(test->registry, "nobody", "latest", NULL), 0);
}

static void test_referrers_by_tag(void **state)
{
    struct test *test = *state;
    const struct fl_oci_descriptor image = store_image(&test->here, test->arena, "amd64", 10, NULL);
    const struct fl_oci_descriptor one = store_image(&test->here, test->arena, "sig", 20, &image);
    const struct fl_oci_descriptor two = store_image(&test->here, test->arena, "sbom", 30, &image);
    struct fl_oci_descriptors found;

    (void)push(test, "a", NULL, &image);
    assert_int_equal(
        fl_registry_referrers(test->registry, "a", image.digest, NULL, test->arena, &found, NULL),
        0);
    assert_int_equal(found.count, 0);
    (void)push(test, "a", NULL, &one);
    (void)push(test, "a", NULL, &two);
    (void)push(test, "a", NULL, &one); /* is listed once */
    assert_int_equal(
        fl_registry_referrers(test->registry, "a", image.digest, NULL, test->arena, &found, NULL),
        0);
    assert_int_equal(found.count, 2);
    assert_string_equal(found.items[0].digest, one.digest);
    assert_string_equal(found.items[0].artifact_type, "application/x.test");
    assert_int_equal(fl_registry_referrers(test->registry, "a", image.digest, "other/type",
                                           test->arena, &found, NULL),
                     0);
    assert_int_equal(found.count, 0);
}

static void test_a_registry_that_keeps_referrers_itself(void **state)
{
    struct test *test = *state;
    const struct fl_oci_descriptor image = store_image(&test->here, test->arena, "amd64", 10, NULL);
    const struct fl_oci_descriptor one = store_image(&test->here, test->arena, "sig", 20, &image);
    struct fl_oci_texts tags;

    (void)pthread_mutex_lock(&test->fake.lock);
    test->fake.says_subject = true;
    (void)pthread_mutex_unlock(&test->fake.lock);
    (void)push(test, "a", NULL, &one);
    assert_int_equal(fl_registry_tags(test->registry, "a", test->arena, &tags, NULL), 0);
    assert_int_equal(tags.count, 1); /* latest, and none for the subject */
}

/* --- credentials --- */

static bool wants_any_token(struct fake *fake, struct fl_http_request *request)
{
    const char *authorization = fl_http_header(request, "Authorization");

    if (strcmp(fl_http_path(request), "/token") == 0 ||
        (authorization && fl_str_has_prefix(authorization, "Bearer t")))
        return false;
    fl_http_set_header(request, "WWW-Authenticate", fake->challenge);
    fake_error(request, 401, "UNAUTHORIZED");
    return true;
}

static void challenge_with_realm(struct test *test, const char *realm_host)
{
    test->fake.challenge = fl_arena_printf(
        test->arena, "Bearer realm=\"http://%s/token?a=b\",service=\"the registry\"", realm_host);
}

static void reopen(struct test *test, struct fl_registry_options options)
{
    fl_registry_close(test->registry);
    test->registry = open_registry(test, options);
}

static void test_tokens_are_kept(void **state)
{
    struct test *test = *state;
    const struct fl_oci_descriptor index = make_index(test, 3000);
    struct fl_oci_taken taken;
    char host[64];

    fake_host(&test->fake, host);
    challenge_with_realm(test, host);
    fake_misbehave(&test->fake, wants_any_token, 0);
    reopen(test, (struct fl_registry_options){.username = "me", .password = "secret:word"});
    (void)push(test, "a", NULL, &index);
    assert_int_equal(fake_count(&test->fake, &test->fake.tokens), 1);
    taken = pull(test, "a", NULL, 0);
    assert_int_equal(fake_count(&test->fake, &test->fake.tokens), 2); /* another scope */
    fl_oci_unpin(test->there.blobs, &taken);
}

/* Good for three requests only. */
static bool wants_fresh_tokens(struct fake *fake, struct fl_http_request *request)
{
    const char *authorization = fl_http_header(request, "Authorization");
    const char *wanted = fl_arena_printf(fl_http_arena(request), "Bearer t%d", fake->tokens);

    if (strcmp(fl_http_path(request), "/token") == 0) {
        fake->times = 3;
        return false;
    }
    if (authorization && strcmp(authorization, wanted) == 0 && fake->times-- > 0)
        return false;
    fl_http_set_header(request, "WWW-Authenticate", fake->challenge);
    fake_error(request, 401, "UNAUTHORIZED");
    return true;
}

static void test_tokens_that_end(void **state)
{
    struct test *test = *state;
    const struct fl_oci_descriptor index = make_index(test, 3000);
    char host[64];

    fake_host(&test->fake, host);
    challenge_with_realm(test, host);
    fake_misbehave(&test->fake, wants_fresh_tokens, 0);
    (void)push(test, "a", NULL, &index);
    assert_true(fake_count(&test->fake, &test->fake.tokens) > 3);
}

static void test_name_and_password(void **state)
{
    struct test *test = *state;
    const struct fl_oci_descriptor image = store_image(&test->here, test->arena, "amd64", 10, NULL);
    struct fl_error err = {0};

    (void)pthread_mutex_lock(&test->fake.lock);
    test->fake.expects = "Basic bWU6c2VjcmV0OndvcmQ=";
    test->fake.challenge = "Basic realm=\"x\"";
    (void)pthread_mutex_unlock(&test->fake.lock);
    assert_int_equal(fl_registry_push(test->registry, "a", NULL, &image, latest, 1,
                                      test->here.blobs, NULL, NULL, &err),
                     FL_E_UNAUTHORIZED);
    reopen(test, (struct fl_registry_options){.username = "me", .password = "wrong"});
    assert_int_equal(fl_registry_push(test->registry, "a", NULL, &image, latest, 1,
                                      test->here.blobs, NULL, NULL, &err),
                     FL_E_UNAUTHORIZED);
    assert_null(strstr(err.msg, "wrong"));
    reopen(test, (struct fl_registry_options){.username = "me", .password = "secret:word"});
    (void)push(test, "a", NULL, &image);

    (void)pthread_mutex_lock(&test->fake.lock);
    test->fake.expects = "Bearer abc";
    (void)pthread_mutex_unlock(&test->fake.lock);
    reopen(test, (struct fl_registry_options){.bearer_token = "abc"});
    (void)push(test, "b", NULL, &image);
}

/* --- copying --- */

static void test_copying(void **state)
{
    struct test *test = *state;
    const struct fl_oci_descriptor index = make_index(test, 3000);
    const struct fl_image_reference reference = {.repository = "a", .tag = "latest"};
    FL_CLEANUP(fl_registry_closep) struct fl_registry *other = NULL;
    struct fl_registry_pushed pushed;
    struct fl_oci_descriptor root;
    struct fl_error err = {0};
    struct fake fake;
    char host[64];

    (void)push(test, "a", NULL, &index);
    fake_start(&fake, false);
    fake_host(&fake, host);
    assert_int_equal(
        fl_registry_open(
            &(struct fl_registry_options){.env = &test->env, .host = host, .plain_http = true},
            &other, NULL),
        0);
    for (int i = 0; i < 2; i++) {
        int r = fl_registry_copy(test->registry, &reference, other, "b/c", latest, 1,
                                 test->there.blobs, NULL, test->arena, &root, &pushed, &err);

        if (r < 0)
            fail_msg("%s", err.msg);
        assert_string_equal(root.digest, index.digest);
        assert_int_equal(pushed.blobs_sent, i == 0 ? 8 : 0);
    }
    assert_int_equal(fl_blobs_stats(test->there.blobs).count, 0); /* nothing stays */
    assert_int_equal(fl_map_count(fake.blobs), 5);
    fl_registry_close(FL_TAKE(other));
    fake_stop(&fake);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_index_there_and_back),
        TEST(test_what_is_there_is_not_sent),
        TEST(test_one_platform_of_an_index),
        TEST(test_mounting),
        TEST(test_mounted_or_sent),
        TEST(test_smallest_chunk),
        TEST(test_resolving_listing_deleting),
        TEST(test_referrers_by_tag),
        TEST(test_a_registry_that_keeps_referrers_itself),
        TEST(test_tokens_are_kept),
        TEST(test_tokens_that_end),
        TEST(test_name_and_password),
        TEST(test_copying),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
