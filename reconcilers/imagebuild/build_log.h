/* What a build has said, kept on disk: a file for each ImageBuild, of lines that begin with their
 * time, all attempts one behind the other, rotated so that an object never has more than two files
 * of FL_BUILD_LOG_MAX. The process that builds writes it, so it is there after a restart of the
 * control plane; it goes with its object. */
#ifndef FL_RECONCILERS_BUILD_LOG_H
#define FL_RECONCILERS_BUILD_LOG_H

#include "controller/apiserver/subresource.h"
#include "lib/env.h"
#include "lib/mem.h"
#include "reconcilers/imagebuild/builder.h"

#define FL_BUILD_LOG_MAX ((size_t)1024 * 1024)

/* Of the object with this uid, below the builder's folder. In the arena. */
const char *fl_build_log_path(struct fl_arena *arena, const char *folder, const char *uid);
/* Gone already is fine. */
void fl_build_log_remove(const char *path);

/* Writing: one process, one thread. What the disk refuses is lost, and the build goes on. */
struct fl_build_log;
int fl_build_log_open(const struct fl_env *env, const char *path, struct fl_build_log **ret_log,
                      struct fl_error *err);
void fl_build_log_line(struct fl_build_log *log, const char *text); /* one line, without its end */
void fl_build_log_close(struct fl_build_log *log);

/* GET …/imagebuilds/NAME/log, with follow, tailLines and timestamps as of a Pod's log. A follower
 * stays until the attempt under way has ended. Loop thread; the loop and the folder are lent. */
struct fl_build_logs;
struct fl_build_logs *fl_build_logs_create(const struct fl_env *env, struct fl_loop *loop,
                                           const char *folder);
/* Which tells whether a build is under way; NULL: none is any more. */
void fl_build_logs_attach(struct fl_build_logs *logs, struct fl_builder *builder);
/* After the server has hung up. */
void fl_build_logs_destroy(struct fl_build_logs *logs);
struct fl_apiserver_subresource fl_build_logs_subresource(struct fl_build_logs *logs);

/* The builder's key of an attempt. In the arena. */
const char *fl_build_attempt_key(struct fl_arena *arena, const char *uid, int64_t attempt);

#endif
