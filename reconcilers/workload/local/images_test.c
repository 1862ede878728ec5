/* The store of images by itself: what is kept, what goes, what is refused. */
#include "lib/digest.h"
#include "lib/file.h"
#include "lib/folder.h"
#include "lib/oci/closure.h"
#include "lib/oci/tree.h"
#include "lib/process.h"
#include "lib/str.h"
#include "lib/thread.h"
#include "reconcilers/workload/local/images.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define LAYER_BYTES 4000

struct world {
    struct fl_env env;
    char folder[64];
    struct fl_images *images;
    struct fl_image_source source;
    int64_t max_layer_bytes;
    bool lies; /* about what its layers hold */
    struct fl_lock *lock;
    struct fl_signal *signal;
    struct fl_image *image;
    struct fl_error err;
    bool done;
};

static void put_document(struct fl_blobs *blobs, struct fl_arena *arena, struct fl_bytes *text,
                         struct fl_oci_taken *taken)
{
    char digest[FL_DIGEST_SIZE];

    assert_int_equal(fl_blobs_put(blobs, text->data, text->len, true, digest, NULL), 0);
    taken->pinned.items[taken->pinned.count++] = fl_arena_strdup(arena, digest);
}

/* One layer with one file: its text is the name of the repository, again and again. */
static int pull(void *user, const struct fl_image_request *request, struct fl_blobs *blobs,
                const struct fl_registry_progress *progress, struct fl_arena *arena,
                struct fl_oci_taken *ret_taken, struct fl_error *err)
{
    const struct world *w = user;
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *tree = fl_tree_create();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *config_text = NULL, *text = NULL;
    struct fl_oci_config config = {.platform = request->platforms[0]};
    struct fl_oci_manifest manifest = {.media_type = FL_OCI_MANIFEST};
    struct fl_oci_taken taken = {0};
    struct fl_layer layer = {0};
    char data[LAYER_BYTES];

    (void)progress;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = request->reference.repository[i % strlen(request->reference.repository)];
    assert_int_equal(fl_tree_add_text(tree, "file", data, sizeof(data), false, err), 0);
    assert_int_equal(
        fl_tree_write_layer(tree, FL_LAYER_ZSTD, 0, blobs, NULL, NULL, arena, &layer, err), 0);
    if (w->lies)
        layer.diff_id = layer.descriptor.digest;
    taken.pinned.items = fl_new_array(arena, const char *, 3);
    taken.pinned.items[taken.pinned.count++] = layer.descriptor.digest;
    config.diff_ids = (struct fl_oci_texts){&layer.diff_id, 1};
    config_text = fl_oci_config_encode(&config);
    manifest.config = fl_oci_describe(arena, FL_OCI_CONFIG, config_text);
    put_document(blobs, arena, config_text, &taken);
    manifest.layers = (struct fl_oci_descriptors){&layer.descriptor, 1};
    text = fl_oci_manifest_encode(&manifest);
    taken.root = fl_oci_describe(arena, FL_OCI_MANIFEST, text);
    put_document(blobs, arena, text, &taken);
    *ret_taken = taken;
    return 0;
}

static void open_store(struct world *w)
{
    const struct fl_images_options options = {
        .env = &w->env,
        .path = w->folder,
        .source = &w->source,
        .overlay = true,
        .keep_owners = fl_process_is_root(),
        .max_layer_bytes = w->max_layer_bytes,
    };
    struct fl_error err = {0};

    if (fl_images_open(&options, &w->images, &err) < 0)
        fail_msg("%s", err.msg);
}

static int set_up(void **state)
{
    struct world *w = test_calloc(1, sizeof(*w));

    w->env = fl_env_real(NULL);
    (void)snprintf(w->folder, sizeof(w->folder), "/tmp/flops-images-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    w->source = (struct fl_image_source){pull, w};
    w->lock = fl_lock_create();
    w->signal = fl_signal_create();
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    fl_images_close(w->images);
    fl_signal_destroy(w->signal);
    fl_lock_destroy(w->lock);
    assert_int_equal(fl_dir_remove(w->folder, NULL), 0);
    test_free(w);
    return 0;
}

static void on_done(void *user, struct fl_image *image, const struct fl_error *err)
{
    struct world *w = user;
    FL_LOCKED(w->lock);

    w->image = image;
    memset(&w->err, 0, sizeof(w->err));
    if (!image)
        w->err = *err;
    w->done = true;
    fl_signal_all(w->signal);
}

/* NULL: the world's error says why. */
static struct fl_image *get(struct world *w, const char *reference)
{
    struct fl_platform here = fl_platform_of_machine();
    struct fl_image_wish wish = {.reference = reference, .platforms = &here, .platform_count = 1};
    struct fl_image_job *job;
    struct fl_image *image;

    w->done = false;
    job = fl_images_want(w->images, &wish, on_done, NULL, w);
    {
        FL_LOCKED(w->lock);
        for (unsigned i = 0; i < 60 && !w->done; i++)
            (void)fl_signal_wait(w->signal, w->lock, 1000);
        assert_true(w->done);
        image = w->image;
        w->image = NULL;
    }
    fl_image_job_unref(job);
    return image;
}

static bool is_unpacked(const struct world *w, const char *layer)
{
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/layers/%s/file", w->folder, layer);

    return fl_path_exists(path);
}

static void what_is_in_use_stays(void **state)
{
    struct world *w = *state;
    struct fl_image *a, *b, *c;
    char first[64], second[64];

    w->max_layer_bytes = 2 * LAYER_BYTES;
    open_store(w);
    a = get(w, "registry.test/a:1");
    assert_non_null(a);
    assert_int_equal(a->layer_count, 1);
    (void)snprintf(first, sizeof(first), "%s", a->layers[0]);
    b = get(w, "registry.test/b:1");
    (void)snprintf(second, sizeof(second), "%s", b->layers[0]);
    fl_image_release(b);
    assert_true(is_unpacked(w, first) && is_unpacked(w, second));
    c = get(w, "registry.test/c:1"); /* b is not in use: it goes */
    assert_true(is_unpacked(w, first));
    assert_false(is_unpacked(w, second));
    assert_true(is_unpacked(w, c->layers[0]));
    b = get(w, "registry.test/b:1"); /* over the bound while all are in use */
    assert_true(is_unpacked(w, first) && is_unpacked(w, second) && is_unpacked(w, c->layers[0]));
    fl_image_release(a);
    fl_image_release(b);
    fl_image_release(c);
}

static void layers_are_found_again(void **state)
{
    struct world *w = *state;
    struct fl_image *image;
    char layer[64], note[256];
    const char *held = layer;

    open_store(w);
    image = get(w, "registry.test/a:1");
    (void)snprintf(layer, sizeof(layer), "%s", image->layers[0]);
    fl_image_release(image);
    fl_images_close(w->images);
    open_store(w);
    assert_true(is_unpacked(w, layer));
    assert_true(fl_images_hold(w->images, &held, 1));
    fl_images_unhold(w->images, &held, 1);
    fl_images_close(w->images);
    (void)snprintf(note, sizeof(note), "%s/layers/%s.json", w->folder, layer);
    assert_int_equal(unlink(note), 0); /* it was not whole */
    open_store(w);
    assert_false(is_unpacked(w, layer));
    assert_false(fl_images_hold(w->images, &held, 1));
}

static void lies_are_refused(void **state)
{
    struct world *w = *state;
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_folder_list list;
    char folder[128];

    w->lies = true;
    open_store(w);
    assert_null(get(w, "registry.test/a:1"));
    assert_int_equal(w->err.code, FL_E_INVALID);
    assert_non_null(strstr(w->err.msg, "should hold"));
    (void)snprintf(folder, sizeof(folder), "%s/layers", w->folder);
    assert_int_equal(fl_folder_list(arena, folder, false, 10, &list, NULL), 0);
    assert_int_equal(list.count, 0);
    assert_int_equal(fl_blobs_stats(fl_images_blobs(w->images)).pinned, 0);
    w->lies = false;
    fl_image_release(get(w, "registry.test/a:1"));
    assert_int_equal(w->err.code, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_in_use_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(layers_are_found_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lies_are_refused, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
