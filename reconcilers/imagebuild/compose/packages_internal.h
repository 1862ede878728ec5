/* The parts of packages among themselves. */
#ifndef FL_RECONCILERS_PACKAGES_INTERNAL_H
#define FL_RECONCILERS_PACKAGES_INTERNAL_H

#include "lib/buf.h"
#include "lib/http_client.h"
#include "lib/oci/unpack.h"
#include "reconcilers/imagebuild/compose/packages.h"

#define LOCK_MAX            4096
#define PACKAGE_ENTRIES_MAX 200000

struct fl_packages {
    struct fl_packages_options options;
    struct fl_arena *arena;
    const char *const *env; /* of programs that are started; ended by NULL */
    struct fl_buf pins;     /* digests, each with its NUL */
    int64_t scratches;
    struct fl_http_client *client; /* of who was asked last; keeps the connection open */
    char *client_base;
};

/* packages_run.c: a program to its end. `ret_output` is the caller's. INVALID with the program's
 * own words where it fails: the lines of its errors that begin with `marker`, the last where none
 * does; UNAVAILABLE where it did not reach what it asks. */
int fl_packages_run(struct fl_packages *packages, const char *const *argv, size_t output_max,
                    const char *marker, struct fl_bytes **ret_output, struct fl_error *err);
/* The first of these that can be executed; names without '/' are looked for on PATH. NULL: none. */
const char *fl_packages_program(struct fl_packages *packages, const char *const *names,
                                size_t count);
bool fl_packages_tell(const struct fl_packages *packages, const char *what, int64_t done,
                      int64_t total);
int64_t fl_packages_left_ms(const struct fl_packages *packages);

/* packages_pip.c: what pip said, for people: INVALID. And whether it has not reached its index,
 * which is another thing than that nothing is there. */
int fl_packages_explain_pip(struct fl_arena *arena, const char *said, const char *platform,
                            const char *python_version, struct fl_error *err);
bool fl_packages_is_offline(const char *errors);

/* download.c: what is at an address (http, https, file), into the content under its digest, pinned.
 */
int fl_package_download(struct fl_packages *packages, const struct fl_package *package,
                        int64_t *ret_size, struct fl_error *err);

/* packages_unpack.c: what is in a package, onto the disk. */
int fl_packages_unpack_one(struct fl_packages *packages, const struct fl_package *package,
                           enum fl_archive_format format, const char *folder, struct fl_error *err);
/* A folder that nobody has used, not made yet. */
const char *fl_packages_scratch(struct fl_packages *packages, struct fl_arena *arena);

/* Whether its parts are there, and can be names of files: a lock is what strangers say. */
bool fl_package_is_sound(const struct fl_package *package);

/* What apt-get and pip answer; a lock in the arena. */
int fl_apt_answer_parse(struct fl_arena *arena, const char *text, struct fl_package_lock *ret_lock,
                        struct fl_error *err);
int fl_pip_report_parse(struct fl_arena *arena, const void *data, size_t len,
                        struct fl_package_lock *ret_lock, struct fl_error *err);

/* packages_wheel.c: an unpacked wheel of this name into a tree, whose files stay in the folder. */
int fl_wheel_install(const char *folder, const char *name, const char *site, struct fl_tree *tree,
                     struct fl_error *err);

void fl_package_lock_sort(struct fl_package_lock *lock);

#endif
