/* A watched folder as a source (fl_source_dir_create in source.h).
 *
 * Nothing polls: inotify tells of every folder of the tree, and when there has been quiet for a
 * moment the tree is read again, whole; a queue that overflowed is a reading like any other. News
 * are told when the content differs from what was told last, so that an editor's temporary files
 * and a touch are no news. A fetch reads the folder too, and finds what an event missed.
 *
 * Half-written files: a writer that keeps on writing delays the reading for at most SETTLE_MAX_MS.
 * A file that was written to and not closed yet is marked unfinished, so that what it does not say
 * yet is not pruned; a writer that has been silent for long counts as done. A folder that is gone
 * is a failure, not an empty set; one that has nothing at all in it forbids pruning, since that is
 * what a folder looks like that is not mounted.
 *
 * One thread of its own, for all folders of the source. */
#ifndef FL_CONTROLLER_DIR_H
#define FL_CONTROLLER_DIR_H

#define FL_DIR_QUIET_MS      100
#define FL_DIR_SETTLE_MAX_MS 2000
#define FL_DIR_WRITER_MS     30000 /* without a write: it has forgotten to close its file */
#define FL_DIR_KEYS_MAX      64    /* each has a descriptor of inotify's, of which users have few */

#endif
