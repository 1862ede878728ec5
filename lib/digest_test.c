#include "lib/digest.h"

#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants these first */
#include <cmocka.h>

/* FIPS 180-4's own examples. */
static const struct {
    const char *text, *digest;
} vectors[] = {
    {"", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "sha256:248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

static void known_texts(void **state)
{
    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(vectors); i++) {
        char out[FL_DIGEST_SIZE];

        fl_digest_of(vectors[i].text, strlen(vectors[i].text), out);
        assert_string_equal(out, vectors[i].digest);
        assert_true(fl_digest_is_valid(out));
    }
}

static void pieces_are_the_whole(void **state)
{
    FL_CLEANUP(fl_sha256_destroyp) struct fl_sha256 *hash = fl_sha256_create();
    char out[FL_DIGEST_SIZE];

    (void)state;
    for (int again = 0; again < 2; again++) { /* it begins anew by itself */
        fl_sha256_add(hash, "a", 1);
        fl_sha256_add(hash, "bc", 2);
        fl_sha256_end_text(hash, out);
        assert_string_equal(out, vectors[1].digest);
    }
}

/* As `xxhsum -H2` has them. */
static void known_texts_of_xxh128(void **state)
{
    static const struct {
        const char *text, *digest;
    } known[] = {
        {"", "xxh128:99aa06d3014798d86001c324468d497f"},
        {"abc", "xxh128:06b05ab6733a618578af5f94892f3950"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "xxh128:3d62d22a5169b016c0d894fd4828a1a7"},
    };
    FL_CLEANUP(fl_hash_destroyp) struct fl_hash *hash = fl_hash_create(FL_DIGEST_XXH128);
    unsigned char bytes[FL_XXH128_SIZE];
    char out[FL_DIGEST_SIZE], again[FL_DIGEST_SIZE];

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(known); i++) {
        for (const char *c = known[i].text; *c; c++)
            fl_hash_add(hash, c, 1);
        fl_hash_end(hash, out);
        assert_string_equal(out, known[i].digest);
        assert_int_equal(fl_digest_kind(out), FL_DIGEST_XXH128);
        assert_false(fl_digest_is_valid(out));
        assert_true(fl_xxh128_bytes(out, bytes));
        fl_xxh128_text(bytes, again);
        assert_string_equal(again, out);
    }
}

static void large_pieces_of_xxh128(void **state)
{
    FL_CLEANUP(fl_hash_destroyp) struct fl_hash *hash = fl_hash_create(FL_DIGEST_XXH128);
    char out[FL_DIGEST_SIZE];
    unsigned char data[100000];

    (void)state;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (unsigned char)(i % 251);
    for (size_t at = 0; at < sizeof(data); at += 777)
        fl_hash_add(hash, data + at, at + 777 < sizeof(data) ? 777 : sizeof(data) - at);
    fl_hash_end(hash, out);
    assert_string_equal(out, "xxh128:54182c58bbb1337c42c23aeead96750d");
}

static void kinds(void **state)
{
    FL_CLEANUP(fl_hash_destroyp) struct fl_hash *hash = fl_hash_create(FL_DIGEST_SHA256);
    unsigned char bytes[FL_XXH128_SIZE];
    char out[FL_DIGEST_SIZE];

    (void)state;
    fl_hash_add(hash, "abc", 3);
    fl_hash_end(hash, out);
    assert_string_equal(out, vectors[1].digest);
    assert_int_equal(fl_digest_kind(out), FL_DIGEST_SHA256);
    assert_string_equal(fl_digest_hex(out), vectors[1].digest + strlen("sha256:"));
    assert_false(fl_xxh128_bytes(out, bytes));
    assert_int_equal(fl_digest_kind(NULL), FL_DIGEST_NONE);
    assert_int_equal(fl_digest_kind("xxh128:99aa06d3014798d86001c324468d497"), FL_DIGEST_NONE);
    assert_int_equal(fl_digest_kind("xxh128:99aa06d3014798d86001c324468d497F"), FL_DIGEST_NONE);
    assert_int_equal(fl_digest_kind("sha256:99aa06d3014798d86001c324468d497f"), FL_DIGEST_NONE);
}

static void what_is_no_digest(void **state)
{
    char text[FL_DIGEST_SIZE + 1];

    (void)state;
    assert_false(fl_digest_is_valid(NULL));
    assert_false(fl_digest_is_valid("sha256:"));
    (void)strcpy(text, vectors[0].digest);
    text[20] = 'G';
    assert_false(fl_digest_is_valid(text));
    (void)strcpy(text, vectors[0].digest);
    text[71] = 'a', text[72] = '\0';
    assert_false(fl_digest_is_valid(text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_texts),
        cmocka_unit_test(pieces_are_the_whole),
        cmocka_unit_test(known_texts_of_xxh128),
        cmocka_unit_test(large_pieces_of_xxh128),
        cmocka_unit_test(kinds),
        cmocka_unit_test(what_is_no_digest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
