/* Packages that images are composed of: Debian's and Python's, found, locked, fetched and unpacked,
 * for any platform, without running anything of theirs.
 *
 * Finding is done by those who know best: apt-get with a state of its own (signatures and indexes
 * are checked by it, against the machine's sources and keys, and any architecture can be asked
 * for), and pip. What they answer is a lock: names, versions, addresses, sizes and SHA-256 of
 * files, sorted. All after that is ours: files are fetched by address into a folder of content,
 * refused where the digest is another one, and unpacked by lib/oci/unpack.h.
 *
 * Programs are started without a shell, with an environment of their own, a deadline and a bound on
 * what they say; their words become the error's where they fail. Blocking; one thread. */
#ifndef FL_RECONCILERS_PACKAGES_H
#define FL_RECONCILERS_PACKAGES_H

#include "lib/blobs.h"
#include "lib/env.h"
#include "lib/error.h"
#include "lib/json.h"
#include "lib/mem.h"
#include "lib/oci/reference.h"
#include "lib/oci/tree.h"

#include <stdbool.h>
#include <stdint.h>

enum fl_package_kind { FL_PACKAGE_DEBIAN = 1, FL_PACKAGE_PYTHON };

/* One file of a lock. */
struct fl_package {
    enum fl_package_kind kind;
    const char *name, *version;
    const char *architecture; /* Debian's; NULL for Python's */
    const char *file;         /* its file name: "numpy-1.26.4-cp311-cp311-…whl" */
    const char *url;          /* as who found it said; never logged with credentials */
    const char *digest;       /* "sha256:…" */
    int64_t size;             /* 0: not known */
};
struct fl_package_lock {
    struct fl_package *items; /* by name */
    size_t count;
};

/* The lock without addresses, canonical: two locks with the same digest hold the same files. */
json_t *fl_package_lock_json(const struct fl_package_lock *lock);
int fl_package_lock_parse(struct fl_arena *arena, const json_t *value,
                          struct fl_package_lock *ret_lock, struct fl_error *err);

struct fl_packages_options {
    const struct fl_env *env;
    const char *folder;           /* state of apt, scratch; made where it is not there */
    struct fl_blobs *blobs;       /* where packages are kept */
    int64_t deadline_ms;          /* monotonic; of all calls */
    const char *apt_sources;      /* a sources.list; NULL: the machine's */
    const char *python;           /* program that pip is run with; NULL: python3 on PATH */
    const char *path;             /* PATH of programs that are started; NULL: the usual one */
    const char *const *extra_env; /* for apt and pip: proxies, an index, configuration;
                                     "NAME=value", ended by NULL; may be NULL */
    /* What is going on, for people; false breaks off (UNAVAILABLE). May be NULL. */
    bool (*progress)(void *user, const char *what, int64_t done, int64_t total);
    void *user;
};
struct fl_packages;
int fl_packages_open(const struct fl_packages_options *options, struct fl_packages **ret_packages,
                     struct fl_error *err);
void fl_packages_close(struct fl_packages *packages);
FL_DEFINE_CLEANUP(struct fl_packages, fl_packages_close)

/* These and all they depend on (no Recommends), as the newest of the sources has it. Lists older
 * than a day, or without the architecture, are fetched first. INVALID: a name that is not there, or
 * packages that conflict (said after the lists were fetched anew), or a text that is no name:
 * "name" and "name=version" are; UNAVAILABLE: no apt-get, no network. */
int fl_packages_resolve_debian(struct fl_packages *packages, const struct fl_platform *platform,
                               const char *const *names, size_t count, struct fl_arena *arena,
                               struct fl_package_lock *ret_lock, struct fl_error *err);

enum fl_python_source {
    FL_PYTHON_PYLOCK,       /* pylock.toml (PEP 751) */
    FL_PYTHON_HASHED,       /* requirements.txt with --hash on all */
    FL_PYTHON_REQUIREMENTS, /* requirements.txt: solved */
    FL_PYTHON_PROJECT,      /* pyproject.toml: its [project] dependencies, solved */
};
/* In the message where a package has no wheel at all, of whatever version: it may be there as
 * source.
 */
#define FL_NO_WHEEL "has no wheel for "

/* Wheels for this platform and CPython version ("3.11"). `file`: the document on disk; it is never
 * run. `extra` (may be NULL): more requirements ("numpy>=1.22"), ended by NULL; they must be in a
 * lock already where it is one. INVALID names what cannot be had: a package that has no wheel for
 * the platform, a lock without hashes, a requirement that nothing fulfils. */
int fl_packages_resolve_python(struct fl_packages *packages, const struct fl_platform *platform,
                               const char *python_version, enum fl_python_source source,
                               const char *file, const char *const *extra, struct fl_arena *arena,
                               struct fl_package_lock *ret_lock, struct fl_error *err);

/* All files of the lock into the content, pinned until the packages are closed. What is there is
 * not fetched again. */
struct fl_packages_fetched {
    size_t there, fetched;
    int64_t bytes_fetched;
};
int fl_packages_fetch(struct fl_packages *packages, const struct fl_package_lock *lock,
                      struct fl_packages_fetched *ret_fetched, struct fl_error *err);

/* What is in them, into a tree, by way of a scratch folder that must stay until the tree was
 * written (*ret_scratch, in the arena: the caller removes it).
 *
 * Debian: without documentation, manuals, translations, headers (but those of packages named …-dev)
 * and the like; with what the packages'
 * scripts would have made, as far as images need it (alternatives such as libblas.so.3, passwd and
 * group, certificates, python3's link): each of these is one entry of a table. The tree has the
 * merged /usr.
 * Python: wheels under `site` ("usr/local/lib/python3.11/dist-packages"), scripts and those of
 * entry points under usr/local/bin for /usr/bin/python3, INSTALLER, and a RECORD of what was
 * installed; no byte code, no headers. INVALID: a wheel that does not hold exactly what its own
 * RECORD says, or is another package than the lock's, or another Wheel-Version than 1. */
int fl_packages_unpack_debian(struct fl_packages *packages, const struct fl_package_lock *lock,
                              struct fl_tree *tree, struct fl_arena *arena,
                              const char **ret_scratch, struct fl_error *err);
int fl_packages_unpack_python(struct fl_packages *packages, const struct fl_package_lock *lock,
                              const char *site, struct fl_tree *tree, struct fl_arena *arena,
                              const char **ret_scratch, struct fl_error *err);

#endif
