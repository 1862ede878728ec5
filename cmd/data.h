/* What the commands of `flops data` share. */
#ifndef FL_CMD_DATA_H
#define FL_CMD_DATA_H

#include "cmd/options.h"
#include "workloads/data/store.h"

struct fl_data_command {
    struct fl_arena *arena;
    const char *data_dir; /* as given; NULL: the default */
    struct fl_words words;
    struct fl_env env;
    struct fl_data_store store;
};

#define FL_DATA_HELP                                                                               \
    "      --data-dir DIR      data sets are in DIR/data (default $FLOPS_DATA_DIR, ~/.flops)\n"

/* After the options are read: where the store is. */
void fl_data_command_locate(struct fl_data_command *command);

int fl_data_push(struct fl_data_command *command, int argc, char **argv);

/* "60000 examples of 28 x 28, 10 classes" */
const char *fl_data_describe(struct fl_arena *arena, const struct fl_data_info *info);
/* "28x28"; "1" for one number. */
const char *fl_data_shape(struct fl_arena *arena, const struct fl_data_info *info,
                          const char *between);

#endif
