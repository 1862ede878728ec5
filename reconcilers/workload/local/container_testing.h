/* Containers in tests: an image with busybox and nothing else, from a source in memory. */
#ifndef FL_RECONCILERS_CONTAINER_TESTING_H
#define FL_RECONCILERS_CONTAINER_TESTING_H

#include "reconcilers/workload/local/local_testing.h"

#include "lib/folder.h"
#include "lib/oci/closure.h"
#include "lib/oci/tree.h"

#define BUSYBOX "/bin/busybox"

struct image_world {
    struct local_world local; /* first */
    struct fl_image_source source;
    struct fl_lock *lock;
    const char *platform; /* of what is given */
    int fails;            /* so many pulls; < 0: all */
    int code;             /* with this */
    bool stuck;           /* comes only when it is broken off */
    unsigned pulls;
    char username[64], password[64], first[1200];
};

static inline const char *container_why_not(void)
{
    if (!fl_process_is_root())
        return "the tests' containers need root";
    if (!fl_path_is_executable("/usr/sbin/runc") && !fl_path_is_executable("/usr/bin/runc"))
        return "runc is not installed";
    return fl_path_is_executable(BUSYBOX) ? NULL : "busybox-static is not installed";
}

static inline void image_put_layer(struct fl_blobs *blobs, struct fl_arena *arena,
                                   struct fl_layer *layer)
{
    static const char *const links[] = {"sh",    "sleep", "touch", "test", "echo", "kill",
                                        "cat",   "id",    "mount", "dd",   "true", "unshare",
                                        "nproc", "grep",  "ls",    "rm"};
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *tree = fl_tree_create();
    struct fl_error err = {0};

    assert_int_equal(fl_tree_add_file(tree, "bin/busybox", BUSYBOX, true, &err), 0);
    for (size_t i = 0; i < FL_COUNT_OF(links); i++)
        assert_int_equal(
            fl_tree_add_link(tree, fl_arena_printf(arena, "bin/%s", links[i]), "busybox", &err), 0);
    assert_int_equal(
        fl_tree_add_text(tree, "etc/passwd", "app:x:1000:1000::/home:/bin/sh\n", 31, false, &err),
        0);
    if (fl_tree_write_layer(tree, FL_LAYER_GZIP, 0, blobs, NULL, NULL, arena, layer, &err) < 0)
        fail_msg("layer: %s", err.msg);
}

static inline void image_put_document(struct fl_blobs *blobs, struct fl_bytes *bytes)
{
    char digest[FL_DIGEST_SIZE];

    assert_int_equal(fl_blobs_put(blobs, bytes->data, bytes->len, true, digest, NULL), 0);
}

/* A whole image, each part pinned once. */
static inline struct fl_oci_taken image_put(struct fl_blobs *blobs, struct fl_arena *arena,
                                            const char *platform)
{
    static const char *shell[] = {"/bin/sh"};
    struct fl_oci_config config = {.entrypoint = {shell, 1}, .working_folder = "/tmp"};
    struct fl_oci_manifest manifest = {.media_type = FL_OCI_MANIFEST};
    struct fl_oci_taken taken = {0};
    struct fl_layer layer = {0};

    image_put_layer(blobs, arena, &layer);
    assert_int_equal(fl_platform_parse(arena, platform, &config.platform, NULL), 0);
    config.diff_ids = (struct fl_oci_texts){&layer.diff_id, 1};
    {
        FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_oci_config_encode(&config);

        manifest.config = fl_oci_describe(arena, FL_OCI_CONFIG, text);
        image_put_document(blobs, text);
    }
    manifest.layers = (struct fl_oci_descriptors){&layer.descriptor, 1};
    {
        FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_oci_manifest_encode(&manifest);

        taken.root = fl_oci_describe(arena, FL_OCI_MANIFEST, text);
        image_put_document(blobs, text);
    }
    taken.pinned.items = fl_new_array(arena, const char *, 3);
    taken.pinned.items[taken.pinned.count++] = layer.descriptor.digest;
    taken.pinned.items[taken.pinned.count++] = manifest.config.digest;
    taken.pinned.items[taken.pinned.count++] = taken.root.digest;
    return taken;
}

static inline int image_pull(void *user, const struct fl_image_request *request,
                             struct fl_blobs *blobs, const struct fl_registry_progress *progress,
                             struct fl_arena *arena, struct fl_oci_taken *ret_taken,
                             struct fl_error *err)
{
    struct image_world *world = user;

    {
        FL_LOCKED(world->lock);
        world->pulls++;
        (void)snprintf(world->username, sizeof(world->username), "%s",
                       fl_str_or(request->username, ""));
        (void)snprintf(world->password, sizeof(world->password), "%s",
                       fl_str_or(request->password, ""));
        if (world->fails != 0) {
            world->fails -= world->fails > 0;
            return fl_error_set(err, world->code, "the registry has a bad day");
        }
    }
    if (strcmp(request->reference.repository, "none") == 0)
        return fl_error_set(err, FL_E_NOT_FOUND, "there is no such image");
    while (world->stuck && progress->moved(progress->user, "x", 12000000, 80000000))
        (void)usleep(1000);
    if (world->stuck)
        return fl_error_set(err, FL_E_UNAVAILABLE, "broken off");
    *ret_taken = image_put(blobs, arena, world->platform);
    return 0;
}

static inline void image_world_init(struct image_world *world)
{
    struct fl_platform own = fl_platform_of_machine();

    world->lock = fl_lock_create();
    world->platform = strcmp(own.architecture, "arm64") == 0 ? "linux/arm64" : "linux/amd64";
    world->source = (struct fl_image_source){image_pull, world};
}

static inline void *container_begin_world(void)
{
    struct image_world *world = test_calloc(1, sizeof(*world));
    const char *slash;

    local_begin_in(&world->local);
    image_world_init(world);
    world->local.images = &world->source;
    /* build/…/reconcilers/workload/x_test and build/…/flops-init */
    slash = strstr(world->local.program, "/reconcilers/");
    assert_non_null(slash);
    (void)snprintf(world->first, sizeof(world->first), "%.*s/flops-init",
                   (int)(slash - world->local.program), world->local.program);
    world->local.first = world->first;
    return world;
}

static inline void container_end_world(void *user)
{
    struct image_world *world = user;

    local_end_in(&world->local);
    fl_lock_destroy(world->lock);
    test_free(world);
}

static inline void container_script(struct fl_arena *arena, const char *script,
                                    struct fl_workload_spec *spec)
{
    spec->image = "registry.test/busybox:1";
    spec->args.items = fl_new_array(arena, const char *, 2);
    spec->args.items[0] = "-c";
    spec->args.items[1] = script;
    spec->args.count = 2;
}

static inline void container_behave(void *world, struct fl_arena *arena, enum behaviour behaviour,
                                    struct fl_workload_spec *spec)
{
    local_behave(world, arena, behaviour, spec);
    spec->has_process = false;
    spec->process.program = NULL;
    spec->image = "registry.test/busybox:1";
    if (behaviour == CANNOT_BE) {
        spec->command.items = fl_new_array(arena, const char *, 1);
        spec->command.items[0] = "/there/is/no/such/program";
        spec->command.count = 1;
    }
}

static const struct harness container_harness = {
    .name = "local, containers",
    .begin = container_begin_world,
    .end = container_end_world,
    .open = local_open,
    .behave = container_behave,
    .let_pass = local_let_pass,
    .patience = 15000,
    .fetches = true,
};

#endif
