/* What strangers attach to images: envelopes, statements, lists of parts, signatures and keys.
 * Whatever comes, the checks stay within their input, and nothing is signed by a key that nobody
 * has. */
#include "reconcilers/imagebuild/attest/attest.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DIGEST "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool promise)
{
    if (!promise)
        abort();
}

/* A key that was read is written as it was read. */
static void try_key(const char *text)
{
    struct fl_public_key key, again;
    char written[FL_PUBLIC_KEY_TEXT_SIZE];

    if (fl_public_key_parse(text, &key, NULL) < 0)
        return;
    fl_public_key_text(&key, written);
    check(fl_public_key_parse(written, &again, NULL) == 0);
    check(memcmp(&key, &again, sizeof(key)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    /* The point of order 2, under which a careless check finds signatures good. */
    static const struct fl_public_key weak = {{0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                               0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                               0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                               0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}};
    const char *text = fl_arena_strndup(arena, (const char *)data, size), *payload;
    struct fl_attest_verified verified = {0};
    struct fl_error err = {0};
    size_t len;

    check(fl_dsse_open(&weak, FL_INTOTO_TYPE, text, size, arena, &payload, &len, &err) < 0);
    check(!fl_signature_is_good(&weak, "", 0, text));
    (void)fl_attest_check_statement(text, size, DIGEST, arena, &verified, &err);
    if (fl_attest_check_sbom(text, size, DIGEST, &verified, &err) == 0)
        check(verified.packages <= size);
    (void)fl_simple_signing_check(text, size, DIGEST, &err);
    try_key(text);
    return 0;
}
