/* Layouts there and back, and folders that are made to look like some. */
#include "lib/oci/layout.h"
#include "lib/oci/registry_fake.h"

#include <sys/stat.h>

struct test {
    struct store here, there;
    struct fl_arena *arena;
    char path[64];
    struct fl_error err;
};

static int set_up(void **state)
{
    struct test *test = fl_calloc(1, sizeof(*test));

    store_open(&test->here, 0);
    store_open(&test->there, 0);
    test->arena = fl_arena_create();
    (void)snprintf(test->path, sizeof(test->path), "/tmp/flops-test-XXXXXX");
    assert_non_null(mkdtemp(test->path));
    *state = test;
    return 0;
}

static int tear_down(void **state)
{
    struct test *test = *state;

    fl_arena_destroy(test->arena);
    store_check_clean(&test->there);
    store_close(&test->here);
    store_close(&test->there);
    assert_int_equal(fl_dir_remove(test->path, NULL), 0);
    free(test);
    return 0;
}

static const char *below(struct test *test, const char *name)
{
    return fl_arena_printf(test->arena, "%s/%s", test->path, name);
}

static const char *blob_path(struct test *test, const char *digest)
{
    return fl_arena_printf(test->arena, "%s/blobs/sha256/%s", test->path, digest + 7);
}

static void put_file(const char *path, const char *text)
{
    assert_int_equal(fl_file_write(path, text, strlen(text), 0644, NULL), 0);
}

static int read_image(struct test *test, const char *tag)
{
    struct fl_oci_taken taken = {0};
    int r = fl_layout_read(test->path, tag, test->there.blobs, test->arena, &taken, &test->err);

    if (r == 0)
        fl_oci_unpin(test->there.blobs, &taken);
    store_check_clean(&test->there);
    return r;
}

static struct fl_oci_descriptor write_index(struct test *test, const char *tag)
{
    struct fl_oci_descriptor images[] = {
        store_image(&test->here, test->arena, "amd64", 70000, NULL),
        store_image(&test->here, test->arena, "arm64", 80000, NULL),
    };
    struct fl_oci_descriptor index = store_index(&test->here, test->arena, images, 2);

    assert_int_equal(fl_layout_write(test->path, test->here.blobs, &index, tag, NULL), 0);
    return index;
}

static void test_there_and_back(void **state)
{
    struct test *test = *state;
    const struct fl_oci_descriptor index = write_index(test, "v1");
    struct fl_oci_taken taken;

    assert_int_equal(fl_layout_read(test->path, "v1", test->there.blobs, test->arena, &taken, NULL),
                     0);
    assert_string_equal(taken.root.digest, index.digest);
    assert_int_equal(taken.parts_taken, 8);
    assert_int_equal(fl_blobs_stats(test->there.blobs).pinned, 8);
    fl_oci_unpin(test->there.blobs, &taken);
    assert_int_equal(fl_layout_read(test->path, NULL, test->there.blobs, test->arena, &taken, NULL),
                     0);
    assert_int_equal(taken.parts_there, 8);
    fl_oci_unpin(test->there.blobs, &taken);
    assert_int_equal(read_image(test, index.digest), 0);
    assert_int_equal(read_image(test, "v2"), FL_E_NOT_FOUND);
    assert_non_null(strstr(test->err.msg, "v1"));
}

static size_t count_images(struct test *test)
{
    struct fl_oci_descriptors images;

    assert_int_equal(fl_layout_list(test->path, test->arena, &images, NULL), 0);
    return images.count;
}

static void test_several_images(void **state)
{
    struct test *test = *state;
    const struct fl_oci_descriptor other =
        store_image(&test->here, test->arena, "riscv64", 900, NULL);
    const struct fl_oci_descriptor index = write_index(test, "v1");
    struct fl_oci_taken taken;

    assert_int_equal(fl_layout_write(test->path, test->here.blobs, &other, "v2", NULL), 0);
    assert_int_equal(count_images(test), 2);
    assert_int_equal(read_image(test, NULL), FL_E_BAD_REQUEST); /* which? */
    assert_int_equal(fl_layout_write(test->path, test->here.blobs, &other, "v1", NULL), 0);
    assert_int_equal(count_images(test), 2); /* the index has lost its name, and its place */
    assert_int_equal(read_image(test, index.digest), FL_E_NOT_FOUND);
    assert_int_equal(fl_layout_read(test->path, "v1", test->there.blobs, test->arena, &taken, NULL),
                     0);
    assert_string_equal(taken.root.digest, other.digest);
    fl_oci_unpin(test->there.blobs, &taken);
    assert_int_equal(fl_layout_write(test->path, test->here.blobs, &other, NULL, NULL), 0);
    assert_int_equal(count_images(test), 2); /* it is there, and has names */
}

static void test_an_interrupted_one_goes_on(void **state)
{
    struct test *test = *state;
    const struct fl_oci_descriptor image =
        store_image(&test->here, test->arena, "amd64", 1000, NULL);
    struct fl_oci_descriptor broken = image;

    /* A part is missing: it is there as a layout, without the image. */
    broken.digest = "sha256:0123456789012345678901234567890123456789012345678901234567890123";
    assert_int_equal(fl_layout_write(test->path, test->here.blobs, &broken, "v", &test->err),
                     FL_E_NOT_FOUND);
    assert_int_equal(fl_layout_write(test->path, test->here.blobs, &image, "v", NULL), 0);
    put_file(blob_path(test, image.digest), "short"); /* half of it, of another tool */
    assert_int_equal(read_image(test, "v"), FL_E_INVALID);
    assert_int_equal(fl_layout_write(test->path, test->here.blobs, &image, "v", NULL), 0);
    assert_int_equal(read_image(test, "v"), 0);
}

static void test_other_folders_are_left_alone(void **state)
{
    struct test *test = *state;
    const struct fl_oci_descriptor image =
        store_image(&test->here, test->arena, "amd64", 1000, NULL);

    put_file(below(test, "thesis.tex"), "x");
    assert_int_equal(fl_layout_write(test->path, test->here.blobs, &image, "v", NULL),
                     FL_E_CONFLICT);
    assert_false(fl_path_exists(below(test, "blobs")));
    assert_int_equal(read_image(test, "v"), FL_E_NOT_FOUND);
}

static void test_documents_that_are_none(void **state)
{
    static const char *const indexes[] = {
        "",
        "{",
        "[]",
        "{\"schemaVersion\":2}",
        "{\"schemaVersion\":1,\"manifests\":[]}",
        "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"a/b\",\"digest\":\"sha256:../../x\","
        "\"size\":1}]}",
        "{\"schemaVersion\":2,\"manifests\":[]}"};
    static const char *const versions[] = {"", "{}", "{\"imageLayoutVersion\":\"2.0.0\"}",
                                           "{\"imageLayoutVersion\":1}"};
    struct test *test = *state;

    (void)write_index(test, "v");
    for (size_t i = 0; i < FL_COUNT_OF(indexes); i++) {
        put_file(below(test, "index.json"), indexes[i]);
        assert_true(read_image(test, NULL) < 0);
    }
    for (size_t i = 0; i < FL_COUNT_OF(versions); i++) {
        put_file(below(test, "oci-layout"), versions[i]);
        assert_int_equal(read_image(test, "v"), FL_E_INVALID);
    }
}

static void test_wrong_content(void **state)
{
    struct test *test = *state;
    const struct fl_oci_descriptor image =
        store_image(&test->here, test->arena, "amd64", 1000, NULL);
    char text[1024];
    struct fl_oci_manifest manifest;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *document = NULL;

    assert_int_equal(fl_oci_load_blob(test->here.blobs, &image, &document, NULL), 0);
    assert_int_equal(
        fl_oci_manifest_parse(test->arena, document->data, document->len, NULL, &manifest, NULL),
        0);
    assert_int_equal(fl_layout_write(test->path, test->here.blobs, &image, "v", NULL), 0);
    memcpy(text, document->data, document->len);
    text[document->len] = '\0';
    *strstr(text, "config.v1") = 'C'; /* as long as it was */
    put_file(blob_path(test, image.digest), text);
    assert_int_equal(read_image(test, "v"), FL_E_INVALID);
    put_file(blob_path(test, image.digest), document->data);
    memset(text, 'x', 1000);
    text[1000] = '\0';
    put_file(blob_path(test, manifest.layers.items[0].digest), text);
    assert_int_equal(read_image(test, "v"), FL_E_INVALID);
    assert_int_equal(unlink(blob_path(test, manifest.layers.items[0].digest)), 0);
    assert_int_equal(read_image(test, "v"), FL_E_NOT_FOUND);
}

/* Links lead out of the folder, pipes and folders answer never: none is followed or read. */
static void test_no_files(void **state)
{
    struct test *test = *state;
    const struct fl_oci_descriptor image =
        store_image(&test->here, test->arena, "amd64", 1000, NULL);
    const char *path = blob_path(test, image.digest), *away = below(test, "away");

    assert_int_equal(fl_layout_write(test->path, test->here.blobs, &image, "v", NULL), 0);
    assert_int_equal(rename(path, away), 0);
    assert_int_equal(symlink(away, path), 0);
    assert_int_equal(read_image(test, "v"), FL_E_INVALID);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(read_image(test, "v"), FL_E_INVALID);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(read_image(test, "v"), FL_E_INVALID);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rename(away, path), 0);
    assert_int_equal(read_image(test, "v"), 0);

    assert_int_equal(rename(below(test, "blobs"), away), 0);
    assert_int_equal(symlink(away, below(test, "blobs")), 0);
    assert_true(read_image(test, "v") < 0);
    assert_true(fl_layout_write(test->path, test->here.blobs, &image, "v", NULL) < 0);
}

/* What is written never goes through a link that is there. */
static void test_links_are_replaced(void **state)
{
    struct test *test = *state;
    const struct fl_oci_descriptor image =
        store_image(&test->here, test->arena, "amd64", 1000, NULL);
    const char *victim = below(test, "victim");
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;

    (void)write_index(test, "v1");
    put_file(victim, "mine");
    assert_int_equal(symlink(victim, blob_path(test, image.digest)), 0);
    assert_int_equal(fl_layout_write(test->path, test->here.blobs, &image, "v2", NULL), 0);
    assert_int_equal(fl_file_read(victim, 100, &text, NULL), 0);
    assert_string_equal(text->data, "mine");
    assert_int_equal(read_image(test, "v2"), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_there_and_back),
        TEST(test_several_images),
        TEST(test_an_interrupted_one_goes_on),
        TEST(test_other_folders_are_left_alone),
        TEST(test_documents_that_are_none),
        TEST(test_wrong_content),
        TEST(test_no_files),
        TEST(test_links_are_replaced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
