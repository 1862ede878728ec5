/* Reads a folder's manifests whole, and watches every folder it went through.
 *
 * A folder is watched before it is read, so that whatever changes after the reading is heard of.
 * Names that begin with a dot are left out. Symbolic links are followed as long as they stay within
 * the root (a mounted ConfigMap is links through `..data`): the kernel holds every path, link or
 * not, to what is beneath the root. One thread. */
#ifndef FL_CONTROLLER_DIR_SCAN_H
#define FL_CONTROLLER_DIR_SCAN_H

#include "controller/source/source.h"
#include "lib/map.h"

/* What is watched: a descriptor of inotify's, and the folders it hears of. */
struct fl_dir_watch {
    int fd;                 /* -1: none */
    struct fl_map *folders; /* watch descriptor as text → itself */
};
int fl_dir_watch_open(struct fl_dir_watch *watch, struct fl_error *err);
void fl_dir_watch_close(struct fl_dir_watch *watch);

/* Everything below `root`, by path; the snapshot has no revision yet. What cannot be read is there
 * with its fault. Fails where the root itself cannot be read or watched, or all is TOO_LARGE.
 * `*ret_keys` says for each file under which name inotify tells of it: "WATCH/NAME". */
int fl_dir_scan(const char *root, struct fl_dir_watch *watch, struct fl_snapshot **ret_snapshot,
                const char *const **ret_keys, struct fl_error *err);

#endif
