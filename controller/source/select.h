/* Which files of a folder are manifests: by their name's end, less what exclude patterns name.
 *
 * In a pattern `*` stands for anything within one name, `**` for anything across folders; all else
 * for itself. A pattern that matches a folder leaves out all in it. Patterns are about the whole
 * path: a name in any folder is two stars, a slash, the name. Pure; any thread. */
#ifndef FL_CONTROLLER_SELECT_H
#define FL_CONTROLLER_SELECT_H

#include <stdbool.h>
#include <stddef.h>

#define FL_SELECT_PATTERN_MAX 512 /* a longer one matches nothing */

bool fl_select_is_manifest(const char *path); /* .yaml, .yml, .json */
/* `path` is a file's or folder's, relative to where the patterns are; folders above it are looked
 * at by the caller before. */
bool fl_select_is_excluded(const char *path, const char *const *patterns, size_t count);
bool fl_select_matches(const char *pattern, const char *path);

#endif
