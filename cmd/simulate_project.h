/* Reading an FLProject as plain JSON, apart from who uses it: some names of the API's types are
 * those of the data plane's, too. */
#ifndef FL_CMD_SIMULATE_PROJECT_H
#define FL_CMD_SIMULATE_PROJECT_H

#include "lib/error.h"
#include "lib/json.h"

/* The one in the file ("-": standard input), with its defaults filled in; the arena's. */
int fl_simulate_project_read(struct fl_arena *arena, const char *path, json_t **ret_object,
                             struct fl_error *err);

#endif
