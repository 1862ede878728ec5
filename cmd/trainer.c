/* `flops trainer`: not for people; a learner starts it, with a socket as descriptor 3, and speaks
 * the protocol of workloads/trainer/protocol.h with it. */
#include "cmd/command.h"
#include "cmd/options.h"
#include "lib/str.h"
#include "workloads/data/store.h"
#include "workloads/tensor/kernels.h"
#include "workloads/trainer/guest.h"
#include "workloads/trainer/protocol.h"

static const char help[] =
    "Usage: flops trainer --builtin NAME --data TAG [options]\n\n"
    "Trains for a learner, which starts this program with a socket as descriptor 3.\n\n"
    "      --builtin NAME   SoftmaxRegression, MLP or CNN\n"
    "      --options JSON   as FLProject.spec.source.builtin.options\n"
    "      --data TAG       a data set of this node, or a part of one (see `flops data`)\n"
    "      --data-dir DIR   where it keeps them (default $FLOPS_DATA_DIR, ~/.flops)\n"
    "\nExit status: 0 was told to stop; 1 failed; 2 wrong usage.\n";

struct flags {
    const char *builtin, *options, *data, *data_dir;
};

/* The data must outlive its trainer. */
struct work {
    struct fl_dataset *data;
    struct fl_trainer *trainer;
};

static void work_finish(struct work *work)
{
    if (work->trainer)
        work->trainer->ops->destroy(work->trainer);
    fl_dataset_unref(work->data);
}

static int open_data(const struct flags *flags, const struct fl_env *env, struct fl_arena *arena,
                     struct fl_dataset **ret_data, struct fl_error *err)
{
    const char *dir = flags->data_dir ? flags->data_dir : fl_default_data_dir(arena);
    const struct fl_data_store store = {fl_arena_printf(arena, "%s/data", dir), env};

    return fl_data_store_open(&store, flags->data, NULL, ret_data, err);
}

static int make(const struct flags *flags, const struct fl_env *env, struct fl_arena *arena,
                struct work *work, struct fl_error *err)
{
    const struct fl_trainer_ops *ops = fl_trainer_find(flags->builtin);
    FL_JSON options = NULL;
    int r = 0;

    if (!ops)
        return fl_error_set(err, FL_E_INVALID, "there is no builtin trainer \"%s\"",
                            flags->builtin);
    if (flags->options)
        r = fl_json_parse(flags->options, strlen(flags->options), NULL, NULL, NULL, &options, err);
    if (r < 0)
        return fl_error_wrap(err, "--options");
    r = fl_kernels_init(err);
    if (r == 0)
        r = open_data(flags, env, arena, &work->data, err);
    return r < 0 ? r : ops->create(options, work->data, &work->trainer, err);
}

/* What keeps the trainer from being made is told to the learner, which shows it to its people. */
static int serve(const struct flags *flags, struct fl_arena *arena)
{
    FL_CLEANUP(work_finish) struct work work = {0};
    const struct fl_env env = fl_env_real(NULL);
    struct fl_error err = {0};
    int r = make(flags, &env, arena, &work, &err);

    if (r < 0) {
        fl_trainer_refuse(FL_TRAINER_FD, &env, &err);
        return fl_command_fail("trainer", &err);
    }
    r = fl_trainer_serve(FL_TRAINER_FD, &env, work.trainer, (int64_t)work.data->count, &err);
    return r < 0 ? fl_command_fail("trainer", &err) : 0;
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct flags flags = {0};
    struct fl_words words = {0};
    const struct fl_option items[] = {
        {"builtin", 0, FL_OPTION_TEXT, &flags.builtin},
        {"options", 0, FL_OPTION_TEXT, &flags.options},
        {"data", 0, FL_OPTION_TEXT, &flags.data},
        {"data-dir", 0, FL_OPTION_TEXT, &flags.data_dir},
    };
    const struct fl_options options = {"trainer", help, items, FL_COUNT_OF(items)};
    int status = fl_options_parse(&options, arena, argc, argv, &words);

    if (status >= 0)
        return status;
    if (words.count > 0)
        return fl_command_usage("trainer", "\"%s\" is too much", words.items[0]);
    if (!flags.builtin || !flags.data)
        return fl_command_usage("trainer", "%s is missing", flags.builtin ? "--data" : "--builtin");
    return serve(&flags, arena);
}

const struct fl_command fl_command_trainer = {"trainer", NULL, run};
