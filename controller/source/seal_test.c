#include "controller/source/seal.h"

#include "lib/buf.h"
#include "lib/file.h"
#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct rig {
    char dir[64];
    struct fl_arena *arena;
    struct fl_seal_keys *keys;
    const char *public_key;
};

static int set_up(void **state)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));

    (void)snprintf(rig->dir, sizeof(rig->dir), "/tmp/seal_test.XXXXXX");
    assert_non_null(mkdtemp(rig->dir));
    rig->arena = fl_arena_create();
    assert_int_equal(fl_seal_keys_load(rig->dir, &rig->keys, NULL), 0);
    rig->public_key = fl_seal_public_key(rig->keys, rig->arena);
    *state = rig;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    fl_seal_keys_destroy(rig->keys);
    fl_arena_destroy(rig->arena);
    assert_int_equal(fl_dir_remove(rig->dir, NULL), 0);
    free(rig);
    return 0;
}

static json_t *parse(struct rig *rig, const char *text)
{
    json_t *value = NULL;

    assert_int_equal(fl_json_parse(text, strlen(text), NULL, NULL, NULL, &value, NULL), 0);
    return fl_json_in_arena(rig->arena, value);
}

#define HEAD   "{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":"
#define SECRET HEAD "{\"name\":\"s\",\"labels\":{\"a\":\"b\"}},\"type\":\"Opaque\","
#define FULL                                                                                       \
    SECRET "\"stringData\":{\"user\":\"joe\",\"empty\":\"\",\"both\":\"text\"},"                   \
           "\"data\":{\"bin\":\"AP/+\",\"both\":\"bm8=\"}}"

static json_t *sealed(struct rig *rig, const char *ns)
{
    json_t *secret = parse(rig, FULL);

    assert_int_equal(fl_seal_secret(rig->public_key, secret, ns, NULL), 0);
    return secret;
}

static void what_is_sealed_can_be_opened(void **state)
{
    struct rig *rig = *state;
    json_t *secret = sealed(rig, "team"), *value;
    const char *key, *text = fl_json_to_string(rig->arena, secret);

    assert_true(fl_seal_is_sealed(secret));
    assert_null(json_object_get(secret, "data"));
    assert_int_equal(json_object_size(json_object_get(secret, "stringData")), 4);
    json_object_foreach(json_object_get(secret, "stringData"), key, value)
        assert_true(fl_str_has_prefix(json_string_value(value), "flops-sealed-v1:"));
    assert_null(strstr(text, "joe"));
    assert_null(strstr(text, "AP/+"));
    assert_int_equal(fl_seal_open(rig->keys, secret, "team", NULL), 0);
    assert_string_equal(
        fl_json_to_string(rig->arena, secret),
        fl_json_to_string(rig->arena, parse(rig, SECRET "\"data\":{\"both\":\"dGV4dA==\","
                                                        "\"bin\":\"AP/+\",\"empty\":\"\","
                                                        "\"user\":\"am9l\"}}")));
    assert_false(fl_seal_is_sealed(secret));
}

static void the_same_twice_looks_different(void **state)
{
    struct rig *rig = *state;

    assert_false(json_equal(sealed(rig, "team"), sealed(rig, "team")));
}

/* Sealing again after adding one value leaves the others as they are. */
static void sealed_values_stay(void **state)
{
    struct rig *rig = *state;
    json_t *secret = sealed(rig, "team"), *before = json_object_get(secret, "stringData");
    const char *user = fl_arena_strdup(rig->arena, fl_json_str(before, "user"));

    fl_json_set_str(before, "more", "x");
    assert_int_equal(fl_seal_secret(rig->public_key, secret, "team", NULL), 0);
    assert_string_equal(fl_json_str(secret, "stringData.user"), user);
    assert_int_equal(fl_seal_open(rig->keys, secret, "team", NULL), 0);
    assert_string_equal(fl_json_str(secret, "data.more"), "eA==");
}

static void refuse_to_open(struct rig *rig, json_t *secret, const char *ns, const char *text)
{
    struct fl_error err = {0};
    FL_JSON before = json_deep_copy(secret);

    assert_int_equal(fl_seal_open(rig->keys, secret, ns, &err), FL_E_FORBIDDEN);
    if (!strstr(err.msg, text))
        fail_msg("\"%s\" is not in \"%s\"", text, err.msg);
    assert_null(strstr(err.msg, "joe"));
    assert_true(json_equal(before, secret));
}

static void a_value_cannot_be_moved(void **state)
{
    struct rig *rig = *state;
    json_t *secret = sealed(rig, "team"), *texts;

    refuse_to_open(rig, secret, "other", "for another namespace, name or key");
    secret = sealed(rig, "team");
    fl_json_set_str(json_object_get(secret, "metadata"), "name", "s2");
    refuse_to_open(rig, secret, "team", "for another namespace, name or key");
    secret = sealed(rig, "team");
    texts = json_object_get(secret, "stringData");
    json_object_set(texts, "shown", json_object_get(texts, "user"));
    refuse_to_open(rig, secret, "team", "shown was sealed for another");
    /* Parts do not run into each other. */
    secret = parse(rig, HEAD "{\"name\":\"b\"},\"stringData\":{\"c\":\"v\"}}");
    assert_int_equal(fl_seal_secret(rig->public_key, secret, "a", NULL), 0);
    fl_json_set_str(json_object_get(secret, "metadata"), "name", "bc");
    refuse_to_open(rig, secret, "a", "for another");
}

static void each_changed_letter_is_found(void **state)
{
    struct rig *rig = *state;
    json_t *secret = parse(rig, SECRET "\"stringData\":{\"k\":\"value\"}}");
    char *text;

    assert_int_equal(fl_seal_secret(rig->public_key, secret, "n", NULL), 0);
    text = fl_arena_strdup(rig->arena, fl_json_str(secret, "stringData.k"));
    for (size_t i = strlen("flops-sealed-v1:"); text[i]; i++) {
        char was = text[i];

        text[i] = was == 'A' ? 'B' : 'A';
        fl_json_set_str(json_object_get(secret, "stringData"), "k", text);
        refuse_to_open(rig, secret, "n", "damaged");
        text[i] = '\0';
        fl_json_set_str(json_object_get(secret, "stringData"), "k", text);
        refuse_to_open(rig, secret, "n", "damaged");
        text[i] = was;
    }
}

static void keys_are_kept_and_old_ones_stay_readable(void **state)
{
    struct rig *rig = *state;
    json_t *old = sealed(rig, "n"), *again = sealed(rig, "n"), *fresh = parse(rig, FULL);
    const char *path = fl_arena_printf(rig->arena, "%s/sealing.key", rig->dir), *newer;
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    fl_seal_keys_destroy(FL_TAKE(rig->keys));
    assert_int_equal(fl_seal_keys_load(rig->dir, &rig->keys, NULL), 0);
    assert_string_equal(fl_seal_public_key(rig->keys, rig->arena), rig->public_key);
    assert_int_equal(fl_seal_open(rig->keys, old, "n", NULL), 0);
    assert_int_equal(fl_seal_keys_rotate(rig->dir, NULL), 0);
    fl_seal_keys_destroy(FL_TAKE(rig->keys));
    assert_int_equal(fl_seal_keys_load(rig->dir, &rig->keys, NULL), 0);
    newer = fl_seal_public_key(rig->keys, rig->arena);
    assert_string_not_equal(newer, rig->public_key);
    assert_int_equal(fl_seal_open(rig->keys, again, "n", NULL), 0);
    assert_int_equal(fl_seal_secret(newer, fresh, "n", NULL), 0);
    assert_int_equal(fl_seal_open(rig->keys, fresh, "n", NULL), 0);
}

static void another_controllers_key_does_not_open(void **state)
{
    struct rig *rig = *state;
    json_t *secret = sealed(rig, "n");
    const char *other = fl_arena_printf(rig->arena, "%s/other", rig->dir);

    assert_int_equal(fl_dir_ensure(other, 0700, NULL), 0);
    fl_seal_keys_destroy(FL_TAKE(rig->keys));
    assert_int_equal(fl_seal_keys_load(other, &rig->keys, NULL), 0);
    refuse_to_open(rig, secret, "n", "another key");
}

static void a_broken_key_file_is_never_replaced(void **state)
{
    struct rig *rig = *state;
    const char *path = fl_arena_printf(rig->arena, "%s/sealing.key", rig->dir);
    static const char *const texts[] = {"", "x\n", "flops-sealing-keys-v1\n",
                                        "flops-sealing-keys-v1\nAAAA\n",
                                        "flops-sealing-keys-v1\n!\n"};

    for (size_t i = 0; i < FL_COUNT_OF(texts); i++) {
        struct fl_seal_keys *keys = NULL;
        struct fl_bytes *now = NULL;
        struct fl_error err = {0};

        assert_int_equal(fl_file_write(path, texts[i], strlen(texts[i]), 0600, NULL), 0);
        assert_int_equal(fl_seal_keys_load(rig->dir, &keys, &err), FL_E_INVALID);
        assert_null(keys);
        assert_int_equal(fl_file_read(path, 1000, &now, NULL), 0);
        assert_string_equal(now->data, texts[i]);
        fl_bytes_unref(now);
    }
}

static void what_cannot_be_sealed_is_told(void **state)
{
    struct rig *rig = *state;
    static const struct {
        const char *text, *ns, *message;
    } rows[] = {
        {"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"}}", "n",
         "no Secret"},
        {"[]", "n", "no Secret"},
        {HEAD "{\"generateName\":\"a\"}}", "n", "no name"},
        {HEAD "{\"name\":\"a\"}}", NULL, "must be known"},
        {HEAD "{\"name\":\"a\",\"namespace\":\"m\"}}", "n", "in namespace m, not in n"},
        {HEAD "{\"name\":\"a\"},\"data\":{\"k\":\"?\"}}", "n", "data.k is no base64"},
        {HEAD "{\"name\":\"a\"},\"data\":{\"k\":1}}", "n", "data.k is no text"},
        {HEAD "{\"name\":\"a\"},\"stringData\":[]}", "n", "stringData is no object"},
    };

    for (size_t i = 0; i < FL_COUNT_OF(rows); i++) {
        struct fl_error err = {0};

        assert_int_equal(
            fl_seal_secret(rig->public_key, parse(rig, rows[i].text), rows[i].ns, &err),
            FL_E_INVALID);
        if (!strstr(err.msg, rows[i].message))
            fail_msg("\"%s\" is not in \"%s\"", rows[i].message, err.msg);
    }
    assert_int_equal(
        fl_seal_secret("flops-seal-key-v1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
                       parse(rig, FULL), "n", NULL),
        FL_E_BAD_REQUEST);
    assert_int_equal(fl_seal_secret("flops-seal-key-v1:AAAA", parse(rig, FULL), "n", NULL),
                     FL_E_BAD_REQUEST);
    assert_int_equal(fl_seal_secret("nonsense", parse(rig, FULL), "n", NULL), FL_E_BAD_REQUEST);
}

static void sizes_are_bounded(void **state)
{
    struct rig *rig = *state;
    json_t *secret = parse(rig, HEAD "{\"name\":\"a\"},\"stringData\":{}}");
    char *large = fl_alloc(rig->arena, FL_SEAL_BYTES_MAX + 2);

    memset(large, 'x', FL_SEAL_BYTES_MAX + 1);
    fl_json_set_str(json_object_get(secret, "stringData"), "k", large);
    assert_int_equal(fl_seal_secret(rig->public_key, secret, "n", NULL), FL_E_TOO_LARGE);
    large[1000000] = '\0';
    fl_json_set_str(json_object_get(secret, "stringData"), "k", large);
    assert_int_equal(fl_seal_secret(rig->public_key, secret, "n", NULL), 0);
    assert_int_equal(fl_seal_open(rig->keys, secret, "n", NULL), 0);
    assert_int_equal(strlen(fl_json_str(secret, "data.k")), (1000000 + 2) / 3 * 4);
}

/* What was plain is not left in memory that others will get. */
static void plain_text_is_wiped(void **state)
{
    struct rig *rig = *state;
    json_t *secret =
        parse(rig, SECRET "\"stringData\":{\"k\":\"hidden\"},\"data\":{\"d\":\"aGk=\"}}");
    json_t *text = json_incref(fl_json_path(secret, "stringData.k"));
    json_t *data = json_incref(fl_json_path(secret, "data.d"));

    assert_int_equal(fl_seal_secret(rig->public_key, secret, "n", NULL), 0);
    assert_memory_equal(json_string_value(text), "\0\0\0\0\0\0", 6);
    assert_memory_equal(json_string_value(data), "\0\0\0\0", 4);
    json_decref(text);
    json_decref(data);
}

static void the_config_map_shows_the_key(void **state)
{
    struct rig *rig = *state;
    FL_JSON map = fl_seal_config_map(rig->keys);

    assert_string_equal(fl_json_str(map, "data.public-key"), rig->public_key);
    assert_string_equal(fl_json_str(map, "metadata.name"), "flops-sealing-key");
    assert_string_equal(fl_json_str(map, "metadata.namespace"), "kube-public");
    assert_string_equal(fl_json_str(map, "kind"), "ConfigMap");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(what_is_sealed_can_be_opened),
        TEST(the_same_twice_looks_different),
        TEST(sealed_values_stay),
        TEST(a_value_cannot_be_moved),
        TEST(each_changed_letter_is_found),
        TEST(keys_are_kept_and_old_ones_stay_readable),
        TEST(another_controllers_key_does_not_open),
        TEST(a_broken_key_file_is_never_replaced),
        TEST(what_cannot_be_sealed_is_told),
        TEST(sizes_are_bounded),
        TEST(plain_text_is_wiped),
        TEST(the_config_map_shows_the_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
