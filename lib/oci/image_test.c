#include "lib/oci/image.h"

#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define EMPTY_DIGEST "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
#define D1           "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define D2           "sha256:2222222222222222222222222222222222222222222222222222222222222222"

#define MANIFEST                                                                                   \
    "{\"annotations\":{\"a\":\"1\",\"b\":\"2\"},\"config\":{\"digest\":\"" D1                      \
    "\",\"mediaType\":\"" FL_OCI_CONFIG "\",\"size\":7},\"layers\":[{\"digest\":\"" D2             \
    "\",\"mediaType\":\"" FL_OCI_LAYER_GZIP "\",\"size\":9}],\"mediaType\":\"" FL_OCI_MANIFEST     \
    "\",\"schemaVersion\":2,\"subject\":{\"digest\":\"" D1 "\",\"mediaType\":\"" FL_OCI_INDEX      \
    "\",\"size\":3}}"

#define PLATFORM(arch) "\"platform\":{\"architecture\":\"" arch "\",\"os\":\"linux\"}"
#define INDEX                                                                                      \
    "{\"manifests\":[{\"digest\":\"" D1 "\",\"mediaType\":\"" FL_OCI_MANIFEST                      \
    "\"," PLATFORM("amd64") ",\"size\":1},{\"digest\":\"" D2 "\",\"mediaType\":\"" FL_OCI_MANIFEST \
                            "\"," PLATFORM("arm64") ",\"size\":2}],\"mediaType\":\"" FL_OCI_INDEX  \
                                                    "\",\"schemaVersion\":2}"

#define CONFIG                                                                                     \
    "{\"architecture\":\"arm64\",\"config\":{\"Cmd\":[\"b\"],\"Entrypoint\":[\"/a\"],"             \
    "\"Env\":[\"A=1\"],\"ExposedPorts\":{\"80/tcp\":{}},\"Labels\":{\"x\":\"y\"},"                 \
    "\"StopSignal\":\"SIGINT\",\"User\":\"9\",\"Volumes\":{\"/d\":{}},\"WorkingDir\":\"/w\"},"     \
    "\"created\":\"2020-01-02T03:04:05Z\",\"history\":[{\"created\":\"2020-01-02T03:04:05Z\","     \
    "\"created_by\":\"base\"}],\"os\":\"linux\",\"rootfs\":{\"diff_ids\":[\"" D1                   \
    "\"],\"type\":\"layers\"},\"variant\":\"v8\"}"

static int parse(struct fl_arena *arena, const char *text, const char *type,
                 struct fl_oci_manifest *ret, struct fl_error *err)
{
    return fl_oci_manifest_parse(arena, text, strlen(text), type, ret, err);
}

static void manifests_come_back_the_same(void **state)
{
    static const char *const texts[] = {MANIFEST, INDEX};
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(texts); i++) {
        FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *again = NULL;
        struct fl_oci_manifest manifest;

        assert_int_equal(parse(arena, texts[i], NULL, &manifest, NULL), 0);
        assert_int_equal(manifest.is_index, i == 1);
        again = fl_oci_manifest_encode(&manifest);
        assert_string_equal(again->data, texts[i]);
    }
}

static void a_manifest_is_read(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_oci_manifest m;

    (void)state;
    assert_int_equal(parse(arena, MANIFEST, FL_OCI_MANIFEST, &m, NULL), 0);
    assert_string_equal(m.config.digest, D1);
    assert_int_equal(m.config.size, 7);
    assert_int_equal(m.layers.count, 1);
    assert_string_equal(m.layers.items[0].media_type, FL_OCI_LAYER_GZIP);
    assert_true(m.has_subject);
    assert_string_equal(fl_oci_pair(&m.annotations, "b"), "2");
    assert_null(fl_oci_pair(&m.annotations, "c"));
    assert_string_equal(fl_oci_manifest_artifact_type(&m), FL_OCI_CONFIG);
}

#define WITH_CONFIG(config, layers)                                                                \
    "{\"schemaVersion\":2,\"config\":" config ",\"layers\":" layers "}"
#define GOOD_CONFIG "{\"digest\":\"" D1 "\",\"mediaType\":\"a/b\",\"size\":1}"

static const struct {
    const char *text, *type;
    int code;
    const char *says;
} refused[] = {
    {"", NULL, FL_E_INVALID, "JSON"},
    {"[]", NULL, FL_E_INVALID, "object"},
    {"{}", NULL, FL_E_INVALID, "schemaVersion"},
    {"{\"schemaVersion\":1}", NULL, FL_E_INVALID, "schemaVersion"},
    {MANIFEST, FL_OCI_INDEX, FL_E_INVALID, "sent as"},
    {"{\"schemaVersion\":2,\"mediaType\":\"text/plain\"}", NULL, FL_E_UNSUPPORTED_MEDIA, "neither"},
    {"{\"schemaVersion\":2,\"layers\":[]}", NULL, FL_E_INVALID, "config.mediaType"},
    {WITH_CONFIG("{\"digest\":\"" D1 "\",\"mediaType\":\"ab\",\"size\":1}", "[]"), NULL,
     FL_E_INVALID, "config.mediaType"},
    {WITH_CONFIG("{\"digest\":\"sha256:1\",\"mediaType\":\"a/b\",\"size\":1}", "[]"), NULL,
     FL_E_INVALID, "config.digest"},
    {WITH_CONFIG("{\"digest\":\"" D1 "\",\"mediaType\":\"a/b\",\"size\":-1}", "[]"), NULL,
     FL_E_INVALID, "config.size"},
    {WITH_CONFIG("{\"digest\":\"" D1 "\",\"mediaType\":\"a/b\",\"size\":1e3}", "[]"), NULL,
     FL_E_INVALID, "config.size"},
    {WITH_CONFIG(GOOD_CONFIG, "{}"), NULL, FL_E_INVALID, "layers"},
    {WITH_CONFIG(GOOD_CONFIG, "[7]"), NULL, FL_E_INVALID, "layers[0]"},
    {WITH_CONFIG(GOOD_CONFIG, "[],\"manifests\":[]"), FL_OCI_MANIFEST, FL_E_INVALID, "both"},
    {WITH_CONFIG(GOOD_CONFIG, "[],\"annotations\":{\"a\":1}"), NULL, FL_E_INVALID, "annotations.a"},
};

static void what_is_malformed_is_named(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(refused); i++) {
        struct fl_oci_manifest manifest;
        struct fl_error err = {0};

        if (parse(arena, refused[i].text, refused[i].type, &manifest, &err) != refused[i].code)
            fail_msg("%s: code %d, %s", refused[i].text, err.code, err.msg);
        if (!strstr(err.msg, refused[i].says))
            fail_msg("%s: %s", refused[i].text, err.msg);
    }
}

static void too_many_layers_are_refused(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    struct fl_oci_manifest manifest;

    (void)state;
    assert_int_equal(parse(arena, MANIFEST, NULL, &manifest, NULL), 0);
    struct fl_oci_descriptor *layers =
        fl_new_array(arena, struct fl_oci_descriptor, FL_OCI_LAYERS_MAX + 1);
    for (size_t i = 0; i <= FL_OCI_LAYERS_MAX; i++)
        layers[i] = manifest.layers.items[0];
    manifest.layers.items = layers, manifest.layers.count = FL_OCI_LAYERS_MAX + 1;
    text = fl_oci_manifest_encode(&manifest);
    assert_int_equal(parse(arena, text->data, NULL, &manifest, NULL), FL_E_INVALID);
}

static void an_index_chooses(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_platform arm = {"linux", "arm64", "v8"}, s390 = {"linux", "s390x", NULL};
    struct fl_oci_manifest index;
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(parse(arena, INDEX, NULL, &index, NULL), 0);
    assert_string_equal(fl_oci_index_choose(&index, &arm, &err)->digest, D2);
    assert_null(fl_oci_index_choose(&index, &s390, &err));
    assert_int_equal(err.code, FL_E_NOT_FOUND);
    assert_non_null(strstr(err.msg, "linux/amd64, linux/arm64"));
}

static void configs_come_back_the_same(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *again = NULL;
    static const char *const history[] = {"base"};
    struct fl_oci_config config;

    (void)state;
    assert_int_equal(fl_oci_config_parse(arena, CONFIG, strlen(CONFIG), &config, NULL), 0);
    assert_string_equal(config.working_folder, "/w");
    assert_string_equal(config.env.items[0], "A=1");
    assert_string_equal(config.ports.items[0], "80/tcp");
    assert_string_equal(fl_oci_pair(&config.labels, "x"), "y");
    config.history = (struct fl_oci_texts){(const char **)history, 1}; /* is not read */
    again = fl_oci_config_encode(&config);
    assert_string_equal(again->data, CONFIG);
}

static void bad_configs_are_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "7",
        "{\"os\":\"linux\"}",
        "{\"os\":\"l\",\"architecture\":\"a\",\"config\":{\"Env\":[\"A\"]}}",
        "{\"os\":\"l\",\"architecture\":\"a\",\"config\":{\"Env\":{}}}",
        "{\"os\":\"l\",\"architecture\":\"a\",\"config\":{\"Cmd\":[1]}}",
        "{\"os\":\"l\",\"architecture\":\"a\",\"config\":{\"Labels\":{\"a\":1}}}",
        "{\"os\":\"l\",\"architecture\":\"a\",\"rootfs\":{\"diff_ids\":[\"x\"]}}",
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_oci_config config;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(texts); i++)
        assert_int_equal(fl_oci_config_parse(arena, texts[i], strlen(texts[i]), &config, NULL),
                         FL_E_INVALID);
}

static void documents_are_described(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *empty = fl_bytes_new("{}", 2);
    struct fl_oci_descriptor descriptor = fl_oci_describe(arena, FL_OCI_EMPTY, empty);

    (void)state;
    assert_string_equal(descriptor.digest, EMPTY_DIGEST); /* image-spec names it */
    assert_int_equal(descriptor.size, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(manifests_come_back_the_same),
        cmocka_unit_test(a_manifest_is_read),
        cmocka_unit_test(what_is_malformed_is_named),
        cmocka_unit_test(too_many_layers_are_refused),
        cmocka_unit_test(an_index_chooses),
        cmocka_unit_test(configs_come_back_the_same),
        cmocka_unit_test(bad_configs_are_refused),
        cmocka_unit_test(documents_are_described),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
