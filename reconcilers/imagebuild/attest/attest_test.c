/* What is attached to images: the same for the same image, found again by who has the key, and
 * refused when anything about it is another's. */
#include "lib/oci/registry_fake.h"
#include "reconcilers/imagebuild/attest/attest.h"

#define NAME    "team/image"
#define HEX_A   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX_B   "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define HEX_C   "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
#define ANOTHER "sha256:" HEX_C
#define COMMIT  "0123456789abcdef0123456789abcdef01234567"

static struct fl_package debian[] = {
    {FL_PACKAGE_DEBIAN, "libc6", "2.36-9+deb12u9", "amd64", "libc6_2.36.deb", "http://x/libc6.deb",
     "sha256:" HEX_A, 10},
};
static struct fl_package python[] = {
    {FL_PACKAGE_PYTHON, "Typing_Extensions", "4.12.2", NULL, "t.whl", "http://u:p@x/t.whl",
     "sha256:" HEX_B, 10},
};

struct test {
    struct fake fake;
    struct store store;
    struct fl_arena *arena;
    struct fl_registry *registry;
    struct fl_env env;
    struct fl_composed_platform platforms[2];
    struct fl_composed composed;
    struct fl_attest attest;
    struct fl_signing_key key, other;
    char folder[64];
};

static void open_registry(struct test *test)
{
    struct fl_registry_options options = {.env = &test->env, .plain_http = true, .backoff_ms = 1};
    struct fl_error err = {0};
    char host[64];

    fake_host(&test->fake, host);
    options.host = host;
    if (fl_registry_open(&options, &test->registry, &err) < 0)
        fail_msg("%s", err.msg);
}

static void make_keys(struct test *test)
{
    FL_CLEANUP(fl_freep) char *folder = NULL;

    (void)strcpy(test->folder, "/tmp/flops-attest-XXXXXX");
    assert_non_null(mkdtemp(test->folder));
    folder = fl_asprintf("%s/other", test->folder);
    assert_int_equal(fl_dir_ensure(folder, 0700, NULL), 0);
    assert_int_equal(fl_signing_key_ensure(test->folder, &test->key, NULL), 0);
    assert_int_equal(fl_signing_key_ensure(folder, &test->other, NULL), 0);
}

/* Two platforms of one image, which is in the registry. */
static void make_image(struct test *test)
{
    struct fl_registry_pushed pushed;
    struct fl_oci_descriptor images[2];
    const char *tag = "latest";

    for (size_t i = 0; i < 2; i++) {
        images[i] = store_image(&test->store, test->arena, i == 0 ? "amd64" : "arm64", 1000, NULL);
        test->platforms[i] = (struct fl_composed_platform){
            .platform = images[i].platform,
            .digest = images[i].digest,
            .debian = {debian, FL_COUNT_OF(debian)},
            .python = {python, FL_COUNT_OF(python)},
        };
    }
    test->composed = (struct fl_composed){
        .root = store_index(&test->store, test->arena, images, 2),
        .platforms = test->platforms,
        .platform_count = 2,
    };
    assert_int_equal(fl_registry_push(test->registry, NAME, NULL, &test->composed.root, &tag, 1,
                                      test->store.blobs, NULL, &pushed, NULL),
                     0);
    test->attest = (struct fl_attest){.name = "host/" NAME,
                                      .version = "1.2.3",
                                      .backend = "Compose",
                                      .target = "Learner",
                                      .lock_policy = "Prefer",
                                      .url = "https://user:secret@host/x.git",
                                      .commit = COMMIT,
                                      .path = ".",
                                      .key = ANOTHER,
                                      .epoch_s = 1700000000,
                                      .composed = &test->composed};
}

static int set_up(void **state)
{
    struct test *test = fl_calloc(1, sizeof(*test));

    test->env = fl_env_real(NULL);
    fake_start(&test->fake, false);
    store_open(&test->store, 0);
    test->arena = fl_arena_create();
    open_registry(test);
    make_keys(test);
    make_image(test);
    *state = test;
    return 0;
}

static int tear_down(void **state)
{
    struct test *test = *state;

    fl_registry_close(test->registry);
    fl_arena_destroy(test->arena);
    store_close(&test->store);
    fake_stop(&test->fake);
    (void)fl_dir_remove(test->folder, NULL);
    free(test);
    return 0;
}

/* --- documents --- */

static size_t count_of(const json_t *list, const char *field, const char *text)
{
    const json_t *item;
    size_t i, count = 0;

    json_array_foreach(list, i, item)
        count += fl_streq(fl_json_str(item, field), text);
    return count;
}

static void parts_are_listed_once(void **state)
{
    struct test *test = *state;
    FL_JSON sbom = fl_attest_sbom(&test->attest);
    FL_JSON again = fl_attest_sbom(&test->attest);
    const json_t *packages = json_object_get(sbom, "packages");
    const json_t *relations = json_object_get(sbom, "relationships");

    assert_true(json_equal(sbom, again));
    assert_string_equal(fl_json_str(sbom, "spdxVersion"), "SPDX-2.3");
    assert_string_equal(fl_json_str(sbom, "creationInfo.created"), "2023-11-14T22:13:20Z");
    assert_int_equal(json_array_size(packages), 1 + 2 + 2 + 2); /* index, images, own, packages */
    assert_int_equal(count_of(packages, "name", "libc6"), 1);
    assert_int_equal(count_of(packages, "downloadLocation", "git+https://host/x.git@" COMMIT), 1);
    assert_int_equal(count_of(relations, "relationshipType", "DESCRIBES"), 1);
    assert_int_equal(count_of(relations, "relatedSpdxElement", "SPDXRef-deb-" HEX_A), 2);
}

static void addresses_tell_no_secret(void **state)
{
    struct test *test = *state;
    FL_JSON sbom = fl_attest_sbom(&test->attest);
    FL_JSON provenance = fl_attest_provenance(&test->attest, ANOTHER);

    assert_null(strstr(fl_json_to_string(test->arena, sbom), "secret"));
    assert_null(strstr(fl_json_to_string(test->arena, provenance), "secret"));
    assert_null(strstr(fl_json_to_string(test->arena, provenance), "u:p@"));
}

static const struct {
    const char *url, *source;
} sources[] = {
    {"https://host/x.git", "git+https://host/x.git@" COMMIT},
    {"https://me:pw@host/x@y.git", "git+https://host/x@y.git@" COMMIT},
    {"ssh://git@host:22/x", "git+ssh://host:22/x@" COMMIT},
    {"https://me:p@w@host/x", "git+https://host/x@" COMMIT},
    {"https://me:pw@host", "git+https://host@" COMMIT},
    {"file:///home/somebody/x", NULL},
    {"git@host:x.git", NULL},
    {NULL, NULL},
};

static void sources_are_addresses(void **state)
{
    struct test *test = *state;

    for (size_t i = 0; i < FL_COUNT_OF(sources); i++) {
        const char *got = fl_attest_source(test->arena, sources[i].url, COMMIT);

        if (!fl_streq(got, sources[i].source) && (got || sources[i].source))
            fail_msg("%s: %s", fl_str_or(sources[i].url, "NULL"), fl_str_or(got, "NULL"));
    }
}

static void packages_have_addresses(void **state)
{
    struct test *test = *state;

    assert_string_equal(fl_attest_purl(test->arena, &debian[0]),
                        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u9?arch=amd64");
    assert_string_equal(fl_attest_purl(test->arena, &python[0]),
                        "pkg:pypi/typing-extensions@4.12.2");
}

static void provenance_says_how(void **state)
{
    struct test *test = *state;
    FL_JSON value = fl_attest_provenance(&test->attest, ANOTHER);
    const json_t *subjects = json_object_get(value, "subject");
    const json_t *materials = fl_json_path(value, "predicate.buildDefinition.resolvedDependencies");

    assert_string_equal(fl_json_str(value, "_type"), FL_STATEMENT_TYPE);
    assert_string_equal(fl_json_str(value, "predicateType"), FL_PROVENANCE_TYPE);
    assert_int_equal(json_array_size(subjects), 3);
    assert_int_equal(count_of(subjects, "digest.sha256", test->composed.root.digest + 7), 1);
    assert_int_equal(json_array_size(materials), 3); /* the commit, and each package once */
    assert_int_equal(count_of(materials, "digest.gitCommit", COMMIT), 1);
}

static void bases_are_named(void **state)
{
    static const char *const args[] = {"TOKEN=secret", NULL};
    struct test *test = *state;
    FL_JSON sbom = NULL;
    FL_JSON value = NULL;
    const json_t *materials;

    test->platforms[0].base = ANOTHER;
    test->attest.args = args;
    test->attest.containerfile = "Containerfile";
    sbom = fl_attest_sbom(&test->attest);
    value = fl_attest_provenance(&test->attest, ANOTHER);
    materials = fl_json_path(value, "predicate.buildDefinition.resolvedDependencies");
    assert_int_equal(count_of(materials, "digest.sha256", HEX_C), 1);
    assert_int_equal(
        count_of(json_object_get(sbom, "relationships"), "relationshipType", "DESCENDANT_OF"), 1);
    assert_string_equal(
        fl_json_str(value, "predicate.buildDefinition.externalParameters.containerfile"),
        "Containerfile");
    assert_non_null(strstr(fl_json_to_string(test->arena, value), "TOKEN"));
    assert_null(strstr(fl_json_to_string(test->arena, value), "secret"));
}

/* --- keys and signatures --- */

static void keys_stay(void **state)
{
    struct test *test = *state;
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/signing.pub", test->folder);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    struct fl_signing_key again;
    struct fl_public_key parsed;

    assert_int_equal(unlink(path), 0);
    assert_int_equal(fl_signing_key_ensure(test->folder, &again, NULL), 0);
    assert_memory_equal(&again, &test->key, sizeof(again));
    assert_memory_not_equal(&again, &test->other, sizeof(again));
    assert_int_equal(fl_file_read(path, 4096, &text, NULL), 0);
    assert_int_equal(fl_public_key_parse(text->data, &parsed, NULL), 0);
    assert_memory_equal(&parsed, &test->key.public_key, sizeof(parsed));
}

static void what_is_no_key_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "-----BEGIN PUBLIC KEY-----\n",
        "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n",
        /* X25519, which signs nothing */
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEAAAJhKne4rnnmJBEyAnaQhvUB8HEmE8TPp5LQMq5mjro=\n"
        "-----END PUBLIC KEY-----\n",
    };
    struct fl_public_key key;
    struct fl_error err = {0};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(texts); i++)
        assert_int_equal(fl_public_key_parse(texts[i], &key, &err), FL_E_INVALID);
}

static void damaged_keys_are_not_replaced(void **state)
{
    struct test *test = *state;
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/signing.key", test->folder);
    struct fl_signing_key key;
    struct fl_error err = {0};

    assert_int_equal(fl_file_write(path, "x", 1, 0600, NULL), 0);
    assert_int_equal(fl_signing_key_ensure(test->folder, &key, &err), FL_E_INVALID);
}

static void envelopes_open_for_their_key(void **state)
{
    struct test *test = *state;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *payload = fl_bytes_new("{}", 2);
    FL_JSON envelope = fl_dsse_sign(&test->key, "a/b", payload, test->arena);
    const char *text = fl_json_to_string(test->arena, envelope), *got;
    size_t len;

    assert_int_equal(fl_dsse_open(&test->key.public_key, "a/b", text, strlen(text), test->arena,
                                  &got, &len, NULL),
                     0);
    assert_int_equal(len, 2);
    assert_memory_equal(got, "{}", 2);
    assert_int_equal(fl_dsse_open(&test->other.public_key, "a/b", text, strlen(text), test->arena,
                                  &got, &len, NULL),
                     FL_E_INVALID);
    assert_int_equal(fl_dsse_open(&test->key.public_key, "a/c", text, strlen(text), test->arena,
                                  &got, &len, NULL),
                     FL_E_INVALID);
    (void)json_object_set_new(envelope, "payload", json_string("e30K")); /* a newline more */
    text = fl_json_to_string(test->arena, envelope);
    assert_int_equal(fl_dsse_open(&test->key.public_key, "a/b", text, strlen(text), test->arena,
                                  &got, &len, NULL),
                     FL_E_INVALID);
}

/* --- in a registry --- */

static struct fl_attestations attach(struct test *test, const struct fl_signing_key *key)
{
    struct fl_attestations all = {0};
    struct fl_error err = {0};

    if (fl_attest_put(&test->attest, key, test->store.blobs, test->arena, &all, &err) < 0 ||
        fl_attest_push(&all, test->registry, NAME, test->store.blobs, &err) < 0)
        fail_msg("%s", err.msg);
    return all;
}

static int verify(struct test *test, const struct fl_signing_key *key,
                  struct fl_attest_verified *ret_verified, struct fl_error *err)
{
    const struct fl_image_reference reference = {.repository = NAME, .tag = "latest"};

    return fl_attest_verify(test->registry, &reference, &key->public_key, test->arena, ret_verified,
                            err);
}

static void what_was_signed_is_found(void **state)
{
    struct test *test = *state;
    struct fl_attestations all = attach(test, &test->key);
    struct fl_attest_verified verified;
    struct fl_error err = {0};

    if (verify(test, &test->key, &verified, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(verified.digest, test->composed.root.digest);
    assert_string_equal(verified.sbom, all.sbom.digest);
    assert_string_equal(verified.signature, all.signature.digest);
    assert_string_equal(verified.provenance, all.provenance.digest);
    assert_string_equal(verified.source, "git+https://host/x.git@" COMMIT);
    assert_int_equal(verified.manifests, 2);
    assert_int_equal(verified.packages, 3); /* the program is one */
}

static void twice_is_once(void **state)
{
    struct test *test = *state;
    struct fl_attestations first = attach(test, &test->key), second = attach(test, &test->key);
    struct fl_oci_descriptors found;

    assert_string_equal(first.sbom.digest, second.sbom.digest);
    assert_string_equal(first.provenance.digest, second.provenance.digest);
    assert_string_equal(first.signature.digest, second.signature.digest);
    assert_int_equal(fl_registry_referrers(test->registry, NAME, test->composed.root.digest, NULL,
                                           test->arena, &found, NULL),
                     0);
    assert_int_equal(found.count, 3);
}

static void another_key_is_refused(void **state)
{
    struct test *test = *state;
    struct fl_attest_verified verified;
    struct fl_error err = {0};

    (void)attach(test, &test->key);
    assert_int_equal(verify(test, &test->other, &verified, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "not signed with this key"));
    (void)attach(test, &test->other); /* then both are good */
    assert_int_equal(verify(test, &test->other, &verified, &err), 0);
    assert_int_equal(verify(test, &test->key, &verified, &err), 0);
}

static void without_a_signature_it_is_refused(void **state)
{
    struct test *test = *state;
    struct fl_attest_verified verified;
    struct fl_error err = {0};

    assert_int_equal(verify(test, &test->key, &verified, &err), FL_E_NOT_FOUND);
    assert_non_null(strstr(err.msg, "has no signature"));
    assert_null(attach(test, NULL).signature.digest);
    assert_int_equal(verify(test, &test->key, &verified, &err), FL_E_NOT_FOUND);
}

/* A list of parts that leaves something out, in place of the one that was signed along. */
static void another_list_is_refused(void **state)
{
    struct test *test = *state;
    struct fl_attestations real = {0}, forged = {0};
    struct fl_attest_verified verified;
    struct fl_error err = {0};

    assert_int_equal(
        fl_attest_put(&test->attest, &test->key, test->store.blobs, test->arena, &real, NULL), 0);
    test->platforms[0].python.count = test->platforms[1].python.count = 0;
    assert_int_equal(
        fl_attest_put(&test->attest, &test->other, test->store.blobs, test->arena, &forged, NULL),
        0);
    real.sbom = forged.sbom;
    assert_int_equal(fl_attest_push(&real, test->registry, NAME, test->store.blobs, NULL), 0);
    assert_int_equal(verify(test, &test->key, &verified, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "not the one that the provenance names"));
}

static void documents_of_others_are_refused(void **state)
{
    struct test *test = *state;
    const char *digest = test->composed.root.digest;
    struct fl_attest_verified verified = {0};
    FL_JSON sbom = fl_attest_sbom(&test->attest);
    FL_JSON statement = fl_attest_provenance(&test->attest, ANOTHER);
    const char *list = fl_json_to_string(test->arena, sbom);
    const char *words = fl_json_to_string(test->arena, statement);
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *simple = fl_simple_signing("x", digest);

    assert_int_equal(fl_attest_check_sbom(list, strlen(list), digest, &verified, NULL), 0);
    assert_int_equal(fl_attest_check_sbom(list, strlen(list), ANOTHER, &verified, NULL),
                     FL_E_INVALID);
    assert_int_equal(
        fl_attest_check_statement(words, strlen(words), digest, test->arena, &verified, NULL), 0);
    assert_int_equal(
        fl_attest_check_statement(words, strlen(words), ANOTHER, test->arena, &verified, NULL),
        FL_E_INVALID);
    assert_int_equal(
        fl_attest_check_statement(list, strlen(list), digest, test->arena, &verified, NULL),
        FL_E_INVALID);
    assert_int_equal(fl_simple_signing_check(simple->data, simple->len, digest, NULL), 0);
    assert_int_equal(fl_simple_signing_check(simple->data, simple->len, ANOTHER, NULL),
                     FL_E_INVALID);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(parts_are_listed_once),
        TEST(addresses_tell_no_secret),
        TEST(sources_are_addresses),
        TEST(packages_have_addresses),
        TEST(provenance_says_how),
        TEST(bases_are_named),
        TEST(keys_stay),
        TEST(what_is_no_key_is_refused),
        TEST(damaged_keys_are_not_replaced),
        TEST(envelopes_open_for_their_key),
        TEST(what_was_signed_is_found),
        TEST(twice_is_once),
        TEST(another_key_is_refused),
        TEST(without_a_signature_it_is_refused),
        TEST(another_list_is_refused),
        TEST(documents_of_others_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
