#include "controller/source/sshsig.h"

#include "lib/file.h"
#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MESSAGE "tree 0\n\nhello\n"

/* Real keys and signatures, made by ssh-keygen in a folder of their own. */
struct rig {
    char dir[64];
    struct fl_arena *arena;
    const char *ours, *theirs; /* lines of .pub files */
};

static void shell(struct rig *rig, const char *script)
{
    FL_CLEANUP(fl_freep) char *command = fl_asprintf("cd %s; set -e; %s", rig->dir, script);

    if (system(command) != 0)
        fail_msg("failed: %s", script);
}

static const char *read_text(struct rig *rig, const char *name)
{
    struct fl_bytes *bytes = NULL;
    char *text;

    assert_int_equal(
        fl_file_read(fl_arena_printf(rig->arena, "%s/%s", rig->dir, name), 1 << 20, &bytes, NULL),
        0);
    text = fl_arena_strndup(rig->arena, bytes->data, bytes->len);
    fl_bytes_unref(bytes);
    return text;
}

static int set_up(void **state)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));

    (void)snprintf(rig->dir, sizeof(rig->dir), "/tmp/sshsig_test.XXXXXX");
    assert_non_null(mkdtemp(rig->dir));
    rig->arena = fl_arena_create();
    assert_int_equal(fl_file_write(fl_arena_printf(rig->arena, "%s/message", rig->dir), MESSAGE,
                                   strlen(MESSAGE), 0600, NULL),
                     0);
    shell(rig, "ssh-keygen -q -t ed25519 -N '' -C 'our key' -f ours;"
               "ssh-keygen -q -t ed25519 -N '' -C 'their key' -f theirs;"
               "ssh-keygen -q -t ecdsa -N '' -f curve");
    rig->ours = read_text(rig, "ours.pub");
    rig->theirs = read_text(rig, "theirs.pub");
    ((char *)rig->ours)[strcspn(rig->ours, "\n")] = '\0';
    ((char *)rig->theirs)[strcspn(rig->theirs, "\n")] = '\0';
    *state = rig;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(fl_dir_remove(rig->dir, NULL), 0);
    fl_arena_destroy(rig->arena);
    free(rig);
    return 0;
}

static const char *sign(struct rig *rig, const char *key, const char *options)
{
    shell(rig, fl_arena_printf(rig->arena, "ssh-keygen -q -Y sign %s -f %s < message > sig",
                               options, key));
    return read_text(rig, "sig");
}

static int verify(struct rig *rig, const char *signature, const char *message,
                  const char **ret_signer, struct fl_error *err)
{
    const char *const allowed[] = {"ssh-rsa AAAA old", "nonsense", rig->ours};

    return fl_sshsig_verify(signature, strlen(signature), message, strlen(message), allowed,
                            FL_COUNT_OF(allowed), rig->arena, ret_signer, err);
}

static void refuse(struct rig *rig, const char *signature, const char *message, const char *text)
{
    const char *signer = NULL;
    struct fl_error err = {0};

    assert_int_equal(verify(rig, signature, message, &signer, &err), FL_E_FORBIDDEN);
    assert_null(signer);
    if (!strstr(err.msg, text))
        fail_msg("\"%s\" is not in \"%s\"", text, err.msg);
}

static void a_good_signature_names_its_signer(void **state)
{
    struct rig *rig = *state;
    static const char *const options[] = {"-n git", "-n git -O hashalg=sha256",
                                          "-n git -O hashalg=sha512"};

    for (size_t i = 0; i < FL_COUNT_OF(options); i++) {
        const char *signer = NULL, *listed;
        struct fl_error err = {0};

        if (verify(rig, sign(rig, "ours", options[i]), MESSAGE, &signer, &err) < 0)
            fail_msg("%s: %s", options[i], err.msg);
        shell(rig, "ssh-keygen -l -f ours.pub | cut -d' ' -f2-4 > print");
        listed = read_text(rig, "print");
        assert_memory_equal(signer, listed, strlen(signer));
        assert_true(fl_str_has_suffix(signer, " our key"));
    }
}

static void a_signature_is_of_one_content_key_and_purpose(void **state)
{
    struct rig *rig = *state;

    refuse(rig, sign(rig, "ours", "-n git"), "tree 1\n\nhello\n", "is of other content");
    refuse(rig, sign(rig, "ours", "-n git"), "", "is of other content");
    refuse(rig, sign(rig, "theirs", "-n git"), MESSAGE, "not an allowed signer");
    refuse(rig, sign(rig, "ours", "-n file"), MESSAGE, "namespace \"file\"");
    refuse(rig, sign(rig, "curve", "-n git"), MESSAGE, "not Ed25519");
}

static void what_is_no_signature_is_told(void **state)
{
    struct rig *rig = *state;
    const char *good = sign(rig, "ours", "-n git");

    refuse(rig, "", MESSAGE, "not one of SSH");
    refuse(rig, "-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n", MESSAGE,
           "GPG");
    refuse(rig, "-----BEGIN SIGNED MESSAGE-----\nx\n", MESSAGE, "X.509");
    refuse(rig, FL_SSHSIG_BEGIN "\n", MESSAGE, "cut off");
    refuse(rig, FL_SSHSIG_BEGIN "\nAAAA\n-----END SSH SIGNATURE-----\n", MESSAGE, "damaged");
    refuse(rig, FL_SSHSIG_BEGIN "\n!\n-----END SSH SIGNATURE-----\n", MESSAGE, "damaged");
    refuse(rig, fl_arena_printf(rig->arena, "%sx", good), MESSAGE, "behind");
    refuse(rig, fl_arena_printf(rig->arena, "%s%20000s", good, ""), MESSAGE, "too long");
}

/* No prefix is a signature, and no changed letter leaves it good. */
static void each_byte_counts(void **state)
{
    struct rig *rig = *state;
    const char *good = sign(rig, "ours", "-n git"), *signer;
    size_t len = strlen(good);

    for (size_t cut = 0; cut + 1 < len; cut++)
        refuse(rig, fl_arena_strndup(rig->arena, good, cut), MESSAGE, "");
    for (size_t i = 0; i + 1 < len; i++) {
        char *bad = fl_arena_strdup(rig->arena, good);

        if (good[i] == '\n')
            continue;
        bad[i] = bad[i] == 'A' ? 'B' : 'A';
        refuse(rig, bad, MESSAGE, "");
    }
    assert_int_equal(verify(rig, good, MESSAGE, &signer, NULL), 0);
}

static void keys_of_the_list_are_checked(void **state)
{
    struct rig *rig = *state;
    static const char *const bad[] = {"", "ssh-ed25519", "ssh-ed25519 ", "ssh-ed25519 AAAA x",
                                      "ssh-rsa AAAAB3NzaC1yc2E="};

    assert_int_equal(fl_sshsig_check_key(rig->ours, NULL), 0);
    for (size_t i = 0; i < FL_COUNT_OF(bad); i++)
        assert_int_equal(fl_sshsig_check_key(bad[i], NULL), FL_E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_signature_names_its_signer),
        cmocka_unit_test(a_signature_is_of_one_content_key_and_purpose),
        cmocka_unit_test(what_is_no_signature_is_told),
        cmocka_unit_test(each_byte_counts),
        cmocka_unit_test(keys_of_the_list_are_checked),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
