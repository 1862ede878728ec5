/* Signatures as a remote may send them. Whatever a text holds, a signature that passes is of a
 * listed key, and of nothing but the payload that was signed. */
#include "controller/source/sshsig.h"

#include "lib/str.h"

#include <stdlib.h>

#define PAYLOAD "what was signed\n"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The key that made the good signatures of the corpus. */
static const char *const allowed[] = {
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMDWkO40aDL5KU3uoSUAunEz4q0QxmbBnvHCkug9vDOL corpus",
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *text = (const char *)data, *signer = NULL;
    struct fl_error err = {0};
    struct fl_sshsig signature;
    int r =
        fl_sshsig_verify(text, size, PAYLOAD, strlen(PAYLOAD), allowed, 1, arena, &signer, &err);

    if ((r == 0) != (signer != NULL) || (r < 0 && err.code != FL_E_FORBIDDEN))
        abort();
    if (r == 0 && (!fl_str_has_suffix(signer, " corpus") ||
                   fl_sshsig_parse(text, size, arena, &signature, &err) < 0 ||
                   !fl_streq(signature.ns, FL_SSHSIG_NAMESPACE)))
        abort();
    signer = NULL;
    if (fl_sshsig_verify(text, size, "other\n", 6, allowed, 1, arena, &signer, NULL) == 0)
        abort();
    return 0;
}
