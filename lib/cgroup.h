/* Control groups: limits for some processes together, and a grip that none of them escapes.
 *
 * Works on what the machine has: version 1 (a hierarchy for each controller), version 2 (one for
 * all) and both side by side. A group is then a folder in each hierarchy that is of use; which
 * folders these are is all that needs to be remembered of it. What is not permitted here is not an
 * error: fl_cgroups_make says which limits hold. Any thread. */
#ifndef FL_LIB_CGROUP_H
#define FL_LIB_CGROUP_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FL_CGROUP_FOLDERS_MAX 8

struct fl_cgroup {
    const char *folders[FL_CGROUP_FOLDERS_MAX]; /* absolute */
    size_t count;                               /* 0: there is no group */
};

enum { FL_LIMIT_CPU = 1, FL_LIMIT_MEMORY = 2, FL_LIMIT_PIDS = 4 };

struct fl_cgroup_limits {
    int64_t cpu_milli, memory_bytes, pids; /* 0: none */
};

/* What the machine allows. Groups are made in a folder `base` below the caller's own group. */
struct fl_cgroups;
/* Looks below `root` ("" for the machine itself, a folder with a tree like it in tests). Where no
 * hierarchy may be written, the result has none and says so; never NULL. */
struct fl_cgroups *fl_cgroups_detect(const char *root, const char *base);
void fl_cgroups_destroy(struct fl_cgroups *cgroups);
FL_DEFINE_CLEANUP(struct fl_cgroups, fl_cgroups_destroy)
/* For people: "cpu, memory, pids (v1), kill (v2)"; "none: …". */
const char *fl_cgroups_describe(const struct fl_cgroups *cgroups);
bool fl_cgroups_usable(const struct fl_cgroups *cgroups);

/* A group, which may be there already; its limits are set anew. *ret_missing: FL_LIMIT_… that were
 * asked for and do not hold. Paths are in the arena. */
int fl_cgroups_make(const struct fl_cgroups *cgroups, const char *name,
                    const struct fl_cgroup_limits *limits, struct fl_arena *arena,
                    struct fl_cgroup *ret_cgroup, unsigned *ret_missing, struct fl_error *err);

/* What a container runtime takes as `cgroupsPath` so that the container is in the group of that
 * name: from the mounts where that is the same for all hierarchies, else from the caller's own
 * group (*ret_relative), which runc understands for version 1. NULL: neither. */
const char *fl_cgroups_path(const struct fl_cgroups *cgroups, const char *name,
                            struct fl_arena *arena, bool *ret_relative);
/* Whether version 1 and 2 are mounted side by side, which crun refuses. */
bool fl_cgroups_hybrid(const struct fl_cgroups *cgroups);

/* Puts the calling process into it. Returns 0 or the errno. Allocates nothing: between fork and
 * exec. */
int fl_cgroup_enter(const struct fl_cgroup *cgroup);
/* Kills all members once, those of groups below it too; false where there was none. New ones may
 * have been made meanwhile where the kernel has no cgroup.kill: call until it is false. */
bool fl_cgroup_kill(const struct fl_cgroup *cgroup);
/* How often the kernel killed a member because the memory limit was reached. */
int64_t fl_cgroup_oom_kills(const struct fl_cgroup *cgroup);
/* Removes what is empty, with what was made below. False while there are members. */
bool fl_cgroup_remove(const struct fl_cgroup *cgroup);

#endif
