/* Images that a Containerfile makes, by the program buildah: for code that brings one, for packages
 * that must be compiled, and for bases that somebody else made.
 *
 * What runs here are strangers' commands, as root of a chroot with the machine's network, and they
 * are held: a mount and a process namespace of their own that end with the builder, however it
 * ends; a deadline; an environment with nothing of the machine's but proxies. Nothing of a user's
 * goes through a shell of ours: build arguments are arguments. Images and caches are in a store of
 * this builder's own below `folder` (overlay where it can be mounted, else copies); what a build
 * that was killed has left there goes when the next one begins.
 *
 * The same Containerfile, context and base give the same image as far as its RUN lines do: files
 * and documents have one time, and no host's names. Another machine's platform needs QEMU where
 * something is run.
 *
 * Blocking; one thread; one process a folder at a time. */
#ifndef FL_RECONCILERS_BUILDAH_H
#define FL_RECONCILERS_BUILDAH_H

#include "lib/blobs.h"
#include "lib/env.h"
#include "lib/error.h"
#include "lib/mem.h"
#include "lib/oci/closure.h"
#include "lib/oci/reference.h"

#include <stdbool.h>
#include <stdint.h>

#define FL_BUILDAH_ARGS_MAX 64

struct fl_buildah_options {
    const struct fl_env *env;
    const char *folder; /* state; made where it is not there */
    struct fl_blobs *blobs;
    const char *path;             /* PATH of programs; NULL: the usual one */
    const char *const *extra_env; /* proxies and the like: "NAME=value", ended by NULL; NULL */
    int64_t deadline_ms;          /* monotonic; of all calls */
    /* Each line that the build says, without its end and at most a few thousand bytes long, valid
     * UTF-8. May be NULL. */
    void (*line)(void *user, const char *line);
    bool (*keep_going)(void *user); /* false breaks off: UNAVAILABLE. May be NULL. */
    void *user;
};
struct fl_buildah;
/* UNAVAILABLE: the program is not on this machine; said with the package's name. */
int fl_buildah_open(const struct fl_buildah_options *options, struct fl_buildah **ret_buildah,
                    struct fl_error *err);
void fl_buildah_close(struct fl_buildah *buildah);
FL_DEFINE_CLEANUP(struct fl_buildah, fl_buildah_close)

/* For people: "overlay" or "vfs". */
const char *fl_buildah_driver(const struct fl_buildah *buildah);

/* An image of ours that the Containerfile calls by a name: `FROM name`. */
struct fl_buildah_base {
    const char *name;
    struct fl_oci_descriptor root;
};
/* A file of the machine that RUN lines may read while they run, and that is in no layer:
 * `RUN --mount=type=secret,id=…`. */
struct fl_buildah_secret {
    const char *id, *path;
};
#define FL_BUILDAH_BASES_MAX   4
#define FL_BUILDAH_SECRETS_MAX 4

struct fl_buildah_build {
    const char *context;       /* folder, absolute */
    const char *containerfile; /* absolute */
    const char *const *args;   /* "NAME=value", ended by NULL; NULL: none */
    const char *base_image; /* of the bases: takes the place of the first FROM; NULL: none does */
    struct fl_buildah_base bases[FL_BUILDAH_BASES_MAX];
    size_t base_count;
    struct fl_buildah_secret secrets[FL_BUILDAH_SECRETS_MAX];
    size_t secret_count;
    const struct fl_platform *platform;
    int64_t epoch_s; /* the time of all there is */
    /* Builds of one name take each other's place in the store, whose layers are caches for all. A
     * short text of letters, digits and '-'. */
    const char *name;
};
/* The image's manifest, in the blobs and pinned with all it names (fl_oci_unpin). INVALID: a step
 * failed, with its last lines; the Containerfile is wrong; or something must be run for a platform
 * that this machine does not run. TIMEOUT. */
int fl_buildah_build(struct fl_buildah *buildah, const struct fl_buildah_build *build,
                     struct fl_arena *arena, struct fl_oci_taken *ret_taken, struct fl_error *err);

#endif
