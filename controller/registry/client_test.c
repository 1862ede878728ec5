/* The registry as our own client meets it (lib/oci/registry.h): there and back, over its API. */
#include "controller/registry/registry_testing.h"

#include "lib/oci/closure.h"
#include "lib/oci/registry.h"

#define LAYER_BYTES 3000000

struct client {
    struct fixture *f;
    struct fl_arena *arena;
    struct fl_env env;
    struct fl_registry *registry;
    struct fl_blobs *blobs; /* the client's own */
    char path[96];
};

static struct fl_registry *open_as(struct client *c, const char *password)
{
    const struct fl_registry_options options = {
        .env = &c->env,
        .host = format(c->f->rig, "127.0.0.1:%u", fl_apiserver_port(c->f->rig->server)),
        .plain_http = true,
        .username = "anybody",
        .password = password,
        .chunk_bytes = 1000000,
        .total_ms = TEST_TIMEOUT_MS,
    };
    struct fl_registry *registry;
    struct fl_error err = {0};

    if (fl_registry_open(&options, &registry, &err) < 0)
        fail_msg("%s", err.msg);
    return registry;
}

static void open_blobs(struct client *c)
{
    const struct fl_blobs_options options = {.env = &c->env, .path = c->path};
    struct fl_error err = {0};

    if (fl_blobs_open(&options, &c->blobs, &err) < 0)
        fail_msg("%s", err.msg);
}

static int set_up(void **state)
{
    struct client *c = fl_calloc(1, sizeof(*c));
    void *f;

    (void)fixture_set_up(&f);
    c->f = f;
    c->arena = c->f->rig->arena;
    c->env = fl_env_real(NULL);
    (void)snprintf(c->path, sizeof(c->path), "%s/own", c->f->rig->folder);
    open_blobs(c);
    c->registry = open_as(c, "admin-token");
    *state = c;
    return 0;
}

static int tear_down(void **state)
{
    struct client *c = *state;
    void *f = c->f;

    fl_registry_close(c->registry);
    fl_blobs_close(c->blobs);
    assert_int_equal(fl_dir_remove(c->path, NULL), 0);
    free(c);
    return fixture_tear_down(&f);
}

static struct fl_oci_descriptor keep(struct client *c, const char *type, const void *data,
                                     size_t len)
{
    struct fl_oci_descriptor descriptor = {.media_type = type, .size = (int64_t)len};
    char digest[FL_DIGEST_SIZE];

    assert_int_equal(fl_blobs_put(c->blobs, data, len, false, digest, NULL), 0);
    descriptor.digest = fl_arena_strdup(c->arena, digest);
    return descriptor;
}

static struct fl_oci_descriptor keep_document(struct client *c,
                                              const struct fl_oci_manifest *manifest)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_oci_manifest_encode(manifest);

    return keep(c, manifest->media_type, text->data, text->len);
}

/* One of a few layers that take more than one chunk. */
static struct fl_oci_descriptor make_image(struct client *c, char fill,
                                           const struct fl_oci_descriptor *subject)
{
    char *data = fl_alloc(c->arena, LAYER_BYTES);
    struct fl_oci_manifest manifest = {.media_type = FL_OCI_MANIFEST};
    struct fl_oci_descriptor layer;

    memset(data, fill, LAYER_BYTES);
    layer = keep(c, FL_OCI_LAYER_TAR, data, LAYER_BYTES);
    manifest.config = keep(c, FL_OCI_CONFIG, &fill, 1);
    manifest.layers = (struct fl_oci_descriptors){&layer, 1};
    if (subject) {
        manifest.artifact_type = "application/spdx+json";
        manifest.has_subject = true;
        manifest.subject = *subject;
    }
    return keep_document(c, &manifest);
}

static struct fl_registry_pushed push(struct client *c, const char *repository, const char *from,
                                      const struct fl_oci_descriptor *root, const char *tag)
{
    struct fl_registry_pushed pushed;
    struct fl_error err = {0};

    if (fl_registry_push(c->registry, repository, from, root, &tag, tag ? 1 : 0, c->blobs, NULL,
                         &pushed, &err) < 0)
        fail_msg("%s", err.msg);
    return pushed;
}

/* Into an empty folder. */
static void assert_pulls(struct client *c, const char *repository, const char *tag,
                         const struct fl_oci_descriptor *root, size_t parts)
{
    const struct fl_image_reference reference = {.repository = repository, .tag = tag};
    struct fl_oci_taken taken;
    struct fl_error err = {0};

    fl_blobs_close(c->blobs);
    assert_int_equal(fl_dir_remove(c->path, NULL), 0);
    open_blobs(c);
    if (fl_registry_pull(c->registry, &reference, NULL, 0, c->blobs, NULL, c->arena, &taken, &err) <
        0)
        fail_msg("%s", err.msg);
    assert_string_equal(taken.root.digest, root->digest);
    assert_int_equal(taken.parts_taken, parts);
    for (size_t i = 0; i < taken.pinned.count; i++)
        assert_int_equal(fl_blobs_verify(c->blobs, taken.pinned.items[i], NULL), 0);
    fl_oci_unpin(c->blobs, &taken);
}

static void an_image_goes_there_and_back(void **state)
{
    struct client *c = *state;
    struct fl_oci_descriptor parts[2] = {make_image(c, 'a', NULL), make_image(c, 'b', NULL)};
    struct fl_oci_manifest index = {.is_index = true, .media_type = FL_OCI_INDEX};
    struct fl_oci_descriptor root;
    struct fl_registry_pushed pushed;

    index.layers = (struct fl_oci_descriptors){parts, 2};
    root = keep_document(c, &index);
    pushed = push(c, "team/app", NULL, &root, "v1");
    assert_int_equal(pushed.blobs_sent, 7);
    pushed = push(c, "team/app", NULL, &root, "v2"); /* all is there */
    assert_int_equal(pushed.bytes_sent, 0);
    pushed = push(c, "team/copy", "team/app", &root, "v1");
    assert_int_equal(pushed.blobs_mounted, 4);
    assert_pulls(c, "team/copy", "v1", &root, 7);
}

static void lists_and_referrers_are_understood(void **state)
{
    struct client *c = *state;
    struct fl_oci_descriptor root = make_image(c, 'a', NULL), sbom = make_image(c, 'b', &root);
    struct fl_oci_descriptors referrers;
    struct fl_oci_texts names;
    struct fl_error err = {0};

    (void)push(c, "a", NULL, &root, "v1");
    (void)push(c, "a", NULL, &sbom, NULL);
    assert_int_equal(fl_registry_referrers(c->registry, "a", root.digest, "application/spdx+json",
                                           c->arena, &referrers, &err),
                     0);
    assert_int_equal(referrers.count, 1);
    assert_string_equal(referrers.items[0].digest, sbom.digest);
    assert_int_equal(fl_registry_tags(c->registry, "a", c->arena, &names, &err), 0);
    assert_int_equal(names.count, 1); /* no tag takes the place of the API */
    assert_int_equal(fl_registry_repositories(c->registry, c->arena, &names, &err), 0);
    assert_int_equal(names.count, 1);
    assert_int_equal(fl_registry_delete(c->registry, "a", "v1", &err), 0);
    assert_int_equal(fl_registry_tags(c->registry, "a", c->arena, &names, &err), 0);
    assert_int_equal(names.count, 0);
}

static void who_may_not_is_told(void **state)
{
    struct client *c = *state;
    struct fl_oci_descriptor root = make_image(c, 'a', NULL);
    char token[FL_CAPABILITY_TOKEN_SIZE];
    struct fl_registry_pushed pushed;
    struct fl_error err = {0};

    fl_registry_close(c->registry);
    c->registry = open_as(c, "wrong");
    assert_int_equal(fl_registry_push(c->registry, "team/app", NULL, &root, NULL, 0, c->blobs, NULL,
                                      &pushed, &err),
                     FL_E_UNAUTHORIZED);
    fl_registry_close(c->registry);
    fl_capability_make_writer(c->f->key, "/v2/team/app/", token);
    c->registry = open_as(c, token);
    (void)push(c, "team/app", NULL, &root, "v");
    fl_registry_close(c->registry);
    fl_capability_make(c->f->key, "/v2/team/app/", token);
    c->registry = open_as(c, token);
    assert_pulls(c, "team/app", "v", &root, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_image_goes_there_and_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lists_and_referrers_are_understood, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_may_not_is_told, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
