/* A container as runc and crun want it told: the text of config.json (OCI runtime-spec 1.0.2).
 *
 * What is not asked for is not allowed: no capabilities, no new privileges, system calls of a list
 * (bundle_seccomp.c), the image's own files unchangeable with memory on /tmp and /run, no devices
 * but the harmless ones, the kernel's knobs masked or read-only, and processes, IPC, mounts and
 * host name of its own. `privileged` gives all of this back.
 *
 * The network is the machine's unless `no_network`: the caller chooses ports and tells the program
 * to bind them on an address of the machine's, mostly loopback. So services of the machine on
 * loopback and on abstract sockets can be reached from within; who runs code that must not do that
 * takes `no_network`.
 *
 * fl_bundle_encode is a pure function; fl_bundle_find_user reads files of the image. Any thread. */
#ifndef FL_LIB_OCI_BUNDLE_H
#define FL_LIB_OCI_BUNDLE_H

#include "lib/cgroup.h"
#include "lib/error.h"
#include "lib/oci/image.h"

#include <stdbool.h>
#include <stdint.h>

#define FL_BUNDLE_GROUPS_MAX 32

struct fl_bundle_user {
    int64_t user, group;
    int64_t groups[FL_BUNDLE_GROUPS_MAX]; /* besides */
    size_t group_count;
    const char *home; /* "/" where it is not known */
};

/* `text` is an image's "user", "uid", "user:group" and so on; NULL or "": 0:0. Names are looked up
 * in the first of `folders` (an image's layers, the highest first, or one folder with all of it)
 * that has /etc/passwd and /etc/group. INVALID for a name that is not there, or what is none. */
int fl_bundle_find_user(struct fl_arena *arena, const char *const *folders, size_t folder_count,
                        const char *text, struct fl_bundle_user *ret_user, struct fl_error *err);

struct fl_bundle_mount {
    const char *path;   /* in the container: absolute, or below the working folder */
    const char *source; /* a file or folder of the machine; absolute */
    bool read_only;
};

/* `count` ids from `inside` on are those from `outside` on. */
struct fl_bundle_ids {
    int64_t inside, outside, count;
};
#define FL_BUNDLE_IDS_MAX 2

struct fl_bundle {
    const struct fl_oci_config *image;
    const char *root;            /* the folder with its files; absolute */
    struct fl_oci_texts command; /* in place of the image's entry point and command; or empty */
    struct fl_oci_texts args;    /* in place of the image's command; or empty */
    const char *first;           /* a program before it, of a mount; NULL: none */
    struct fl_oci_texts env;     /* "NAME=value", before the image's of the same name */
    const char *working_folder;  /* NULL: the image's */
    struct fl_bundle_user user;
    const char *hostname;
    const struct fl_bundle_mount *mounts;
    size_t mount_count;
    bool read_only_root, no_network, privileged;
    uint64_t capabilities;          /* of this process, as in /proc: what privileged may give */
    const char *architecture;       /* of the machine, not of the image: "amd64" */
    struct fl_cgroup_limits limits; /* those that hold here */
    const char *cgroup_path;        /* NULL: the runtime's own choice */
    /* For who is not root: a user namespace with these. */
    bool rootless;
    struct fl_bundle_ids users[FL_BUNDLE_IDS_MAX], groups[FL_BUNDLE_IDS_MAX];
    size_t user_count, group_count;
};

/* INVALID: neither image nor command says what to run; a folder that is not absolute. It holds what
 * env holds, secrets too. */
int fl_bundle_encode(const struct fl_bundle *bundle, struct fl_bytes **ret_text,
                     struct fl_error *err);

/* The absolute path in the container of what a mount or file names. */
const char *fl_bundle_path(struct fl_arena *arena, const struct fl_bundle *bundle,
                           const char *path);

/* Within: what processes may ask the kernel for. The caller owns it. */
json_t *fl_bundle_seccomp(const char *architecture);

#endif
