/* Files into objects: what a revision wants to exist, and what is wrong with it by file and line.
 *
 * Pure. A file may hold several documents; the line of an object is its document's. Lists are taken
 * apart: kind List, and typed ones (FooList), whose items may leave kind and apiVersion out. An
 * object without kind, apiVersion or name, one that no API could take (names beyond any server's
 * bounds), and one that stands twice, is a fault; of two the first counts.
 *
 * What one file has wrong does not spoil the others, and documents before a fault in a file count.
 * But then it is not known what the rest of that file wants: fl_manifests_may_want says of what is
 * not among the items whether it may be taken for gone. A broken file never prunes what it applied
 * before, nor what may have been moved into it. */
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
    bool incomplete; /* something could not be read, so what is not among the items may be wanted */
    const struct fl_source_file **unread; /* which files; none, and incomplete: it may be any */
    size_t unread_count;
    const char *hold; /* of the snapshot */
};
#define FL_MANIFESTS_MAX       5000 /* objects; beyond is a fault of the whole, and there are none */
#define FL_MANIFEST_FAULTS_MAX 1000 /* kept; a file of a million empty objects is no news */

void fl_manifests_read(const struct fl_snapshot *snapshot, struct fl_arena *arena,
                       struct fl_manifests *ret_manifests);

/* Whether an object that is not among the items, and was in `file` (NULL: not known) when it was
 * applied, may be wanted all the same: its file was not read in full, or one that was not has its
 * name somewhere, or could hide it. The snapshot is looked at. */
bool fl_manifests_may_want(const struct fl_manifests *manifests, const char *file,
                           const char *name);

#endif
