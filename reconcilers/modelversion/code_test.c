/* Code out of images that were put together here. */
#include "reconcilers/modelversion/code.h"

#include "lib/file.h"
#include "lib/folder.h"
#include "lib/oci/tree.h"
#include "lib/process.h"
#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants these first */
#include <cmocka.h>

struct rig {
    struct fl_env env;
    char path[64];
    struct fl_blobs *blobs;
    struct fl_arena *arena;
};

static int set_up(void **state)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));
    struct fl_blobs_options options = {.env = &rig->env};

    rig->env = fl_env_real(NULL);
    rig->arena = fl_arena_create();
    (void)snprintf(rig->path, sizeof(rig->path), "/tmp/flops-code-XXXXXX");
    assert_non_null(mkdtemp(rig->path));
    options.path = fl_arena_printf(rig->arena, "%s/blobs", rig->path);
    assert_int_equal(fl_blobs_open(&options, &rig->blobs, NULL), 0);
    *state = rig;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    fl_blobs_close(rig->blobs);
    assert_int_equal(fl_dir_remove(rig->path, NULL), 0);
    fl_arena_destroy(rig->arena);
    free(rig);
    return 0;
}

static struct fl_oci_descriptor layer_of(struct rig *rig, const char *path, const char *text)
{
    FL_CLEANUP(fl_tree_destroyp) struct fl_tree *tree = fl_tree_create();
    struct fl_layer layer;

    assert_int_equal(fl_tree_add_text(tree, "etc/more", "more", 4, false, NULL), 0);
    assert_int_equal(fl_tree_add_text(tree, path, text, strlen(text), false, NULL), 0);
    assert_int_equal(fl_tree_write_layer(tree, FL_LAYER_GZIP, 0, rig->blobs, NULL, NULL, rig->arena,
                                         &layer, NULL),
                     0);
    return layer.descriptor;
}

static const char *put(struct rig *rig, const struct fl_oci_manifest *manifest, int64_t *ret_size)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = fl_oci_manifest_encode(manifest);
    char digest[FL_DIGEST_SIZE];

    assert_int_equal(fl_blobs_put(rig->blobs, text->data, text->len, false, digest, NULL), 0);
    *ret_size = (int64_t)text->len;
    return fl_arena_strdup(rig->arena, digest);
}

static const char *image_of(struct rig *rig, struct fl_oci_descriptor *layers, size_t count,
                            int64_t *ret_size)
{
    char config[FL_DIGEST_SIZE];

    assert_int_equal(fl_blobs_put(rig->blobs, "{}", 2, false, config, NULL), 0);
    return put(rig,
               &(struct fl_oci_manifest){.media_type = FL_OCI_MANIFEST,
                                         .config = {.media_type = FL_OCI_CONFIG,
                                                    .digest = fl_arena_strdup(rig->arena, config),
                                                    .size = 2},
                                         .layers = {layers, count}},
               ret_size);
}

static int unpack(struct rig *rig, const char *image, const char **ret_code)
{
    const char *folder = fl_arena_printf(rig->arena, "%s/unpacked", rig->path);

    assert_int_equal(fl_dir_remove(folder, NULL), 0);
    return fl_model_code_unpack(rig->blobs, image, folder, rig->arena, ret_code, NULL);
}

static void assert_file(struct rig *rig, const char *folder, const char *name, const char *text)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;

    assert_int_equal(
        fl_file_read(fl_arena_printf(rig->arena, "%s/%s", folder, name), 1000, &bytes, NULL), 0);
    assert_string_equal(bytes->data, text);
}

static void code_and_nothing_else(void **state)
{
    struct rig *rig = *state;
    struct fl_oci_descriptor layers[] = {
        layer_of(rig, "opt/flops/code/trainer.py", "old"),
        layer_of(rig, "opt/flops/code/trainer.py", "new"),
        layer_of(rig, "opt/flops/codex/other.py", "x"),
    };
    const char *code = NULL;
    int64_t size;

    assert_int_equal(unpack(rig, image_of(rig, layers, 3, &size), &code), 0);
    assert_file(rig, code, "trainer.py", "new");
    assert_false(fl_path_exists(fl_arena_printf(rig->arena, "%s/unpacked/etc", rig->path)));
    assert_false(fl_path_exists(fl_arena_printf(rig->arena, "%s/../codex", code)));
}

static void of_an_index_any_image_will_do(void **state)
{
    struct rig *rig = *state;
    struct fl_oci_descriptor layer = layer_of(rig, "opt/flops/code/a/b.py", "b");
    struct fl_oci_descriptor image = {.media_type = FL_OCI_MANIFEST};
    const char *code = NULL;
    int64_t size;

    image.digest = image_of(rig, &layer, 1, &image.size);
    assert_int_equal(
        unpack(rig,
               put(rig,
                   &(struct fl_oci_manifest){
                       .is_index = true, .media_type = FL_OCI_INDEX, .layers = {&image, 1}},
                   &size),
               &code),
        0);
    assert_file(rig, code, "a/b.py", "b");
}

static void what_is_not_here(void **state)
{
    struct rig *rig = *state;
    struct fl_oci_descriptor layer = layer_of(rig, "usr/bin/x", "x");
    char absent[FL_DIGEST_SIZE], junk[FL_DIGEST_SIZE];
    const char *code = NULL, *image;
    int64_t size;

    fl_digest_of("absent", 6, absent);
    assert_int_equal(unpack(rig, absent, &code), FL_E_NOT_FOUND);
    image = image_of(rig, &layer, 1, &size);
    assert_int_equal(unpack(rig, image, &code), FL_E_NOT_FOUND);
    assert_int_equal(fl_blobs_put(rig->blobs, "junk", 4, false, junk, NULL), 0);
    assert_true(unpack(rig, junk, &code) < 0);
    fl_blobs_unpin(rig->blobs, layer.digest);
    assert_int_equal(fl_blobs_remove(rig->blobs, layer.digest, NULL), 0);
    assert_int_equal(unpack(rig, image, &code), FL_E_NOT_FOUND);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(code_and_nothing_else),
        TEST(of_an_index_any_image_will_do),
        TEST(what_is_not_here),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
