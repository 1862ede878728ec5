/* `flops image-build`: one build in a process of its own, so that it can be killed, and what
 * strangers' archives do to it is done to it alone.
 *
 * The request comes as JSON on one descriptor; on the other go lines of JSON: {"stage", "state",
 * "message"} and {"log"} as it goes on, and at last {"result"} or {"error": {code, message,
 * stage}}. A program that uses fl_builder_process_create answers to these arguments: it is started
 * again with them. Tests do so in main. */
#ifndef FL_RECONCILERS_BUILD_CHILD_H
#define FL_RECONCILERS_BUILD_CHILD_H

#include "lib/json.h"
#include "reconcilers/imagebuild/builder.h"

#define FL_BUILD_CHILD_COMMAND "image-build"
#define FL_BUILD_GROUPS        "flops-builds" /* control groups are below it */
#define FL_BUILD_REQUEST_MAX   ((size_t)1024 * 1024)
#define FL_BUILD_LINE_MAX      ((size_t)256 * 1024)
#define FL_BUILD_LOG_LINE_MAX  2000

int fl_build_child_main(const struct fl_env *env, int in_fd, int out_fd);

static inline bool fl_build_is_child(int argc, char **argv)
{
    return argc == 2 && __builtin_strcmp(argv[1], FL_BUILD_CHILD_COMMAND) == 0;
}

/* Both ends (build_request.c). */
json_t *fl_build_encode(const struct fl_build *build);
void fl_build_wipe(json_t *value); /* overwrites the credentials in it */
/* Texts are of `value`, lists in the arena. */
int fl_build_decode(const json_t *value, struct fl_arena *arena, struct fl_build *ret_build,
                    struct fl_error *err);
json_t *fl_builder_result_json(const struct fl_builder_result *result);
int fl_builder_result_parse(const json_t *value, struct fl_arena *arena,
                            struct fl_builder_result *ret_result, struct fl_error *err);
const char *fl_stage_state_text(enum fl_stage_state state);
enum fl_stage_state fl_stage_state_parse(const char *text); /* 0: none */

#endif
