/* Files into objects: what a revision wants to exist, and what is wrong with it by file and line.
 *
 * Pure. Lists (kind List) are taken apart; an object without kind, apiVersion or name, and one that
 * stands twice, is a fault. What one file has wrong does not spoil the others. */
#ifndef FL_CONTROLLER_MANIFESTS_H
#define FL_CONTROLLER_MANIFESTS_H

#include "controller/source/source.h"
#include "lib/json.h"

struct fl_manifest {
    const char *file;
    size_t line;
    json_t *object;                                               /* owned by the arena */
    const char *api_version, *group, *version, *kind, *ns, *name; /* ns "" where none is named */
};

struct fl_fault {
    const char *file; /* NULL: about none */
    size_t line;
    const char *object; /* "Kind/name", NULL */
    const char *message;
};

struct fl_manifests {
    struct fl_manifest *items; /* in order of files, then lines */
    size_t count;
    struct fl_fault *faults;
    size_t fault_count;
};
#define FL_MANIFESTS_MAX 5000 /* objects; beyond is a fault of the whole */

void fl_manifests_read(const struct fl_snapshot *snapshot, struct fl_arena *arena,
                       struct fl_manifests *ret_manifests);

#endif
