/* What is in a folder, and moving it about. Any thread. */
#ifndef FL_LIB_FOLDER_H
#define FL_LIB_FOLDER_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>

struct fl_folder_list {
    const char **names; /* sorted bytewise, without those that begin with '.' */
    size_t count;
};

/* Names in a folder; `folders_only` leaves out all but real folders. A folder that is not there is
 * empty. TOO_LARGE above `max` names. */
int fl_folder_list(struct fl_arena *arena, const char *path, bool folders_only, size_t max,
                   struct fl_folder_list *ret_list, struct fl_error *err);

/* Makes `path` a link to `target`, in place of a link or nothing; ALREADY_EXISTS for all else. */
int fl_folder_link(const char *path, const char *target, struct fl_error *err);
/* ALREADY_EXISTS where `to` is there and not empty; NOT_FOUND. */
int fl_folder_move(const char *from, const char *to, struct fl_error *err);
/* Two names change what they name, at one moment; both must be there. */
int fl_folder_swap(const char *a, const char *b, struct fl_error *err);
/* What was made, moved or removed in it outlives a loss of power. */
int fl_folder_sync(const char *path, struct fl_error *err);
/* `to` becomes another name of the file `from`. Not every file system can. */
int fl_file_link(const char *from, const char *to, struct fl_error *err);
/* One process at a time changes a folder that holds the lock file `path`, which is made and stays.
 * CONFLICT at once where another has it. The descriptor is the caller's; closing it unlocks. */
int fl_file_lock(const char *path, int *ret_fd, struct fl_error *err);
void fl_file_unlockp(int *fd); /* for FL_CLEANUP; < 0 is fine */

bool fl_path_exists(const char *path);
bool fl_path_is_executable(const char *path); /* a file that may be executed by this process */
void fl_path_remove(const char *path);        /* a file or a link; gone already is fine */

/* A path that stays below the folder that it is relative to: no leading '/', no empty, "." or ".."
 * parts, no control characters. */
bool fl_path_is_below(const char *path);

/* Tells of changes in folders, on a loop of the caller's: readable when there is some. */
int fl_folder_watcher_open(int *ret_fd, struct fl_error *err);
void fl_folder_watcher_close(int watcher); /* < 0 is fine */
/* A number for the folder, the same for the same folder. */
int fl_folder_watch(int watcher, const char *path, int *ret_watch, struct fl_error *err);
void fl_folder_unwatch(int watcher, int watch);
/* The numbers of what changed, without waiting; how many of at most `max`. Repeats are possible. */
size_t fl_folder_changes(int watcher, int *out, size_t max);

#endif
