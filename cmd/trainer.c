/* `flops trainer`: not for people; a learner starts it, with a socket as descriptor 3, and speaks
 * the protocol of workloads/trainer/protocol.h with it. */
#include "cmd/command.h"
#include "cmd/options.h"
#include "cmd/training.h"
#include "lib/str.h"
#include "workloads/trainer/guest.h"
#include "workloads/trainer/protocol.h"

static const char help[] =
    "Usage: flops trainer --builtin NAME --data TAG [options]\n\n"
    "Trains for a learner, which starts this program with a socket as descriptor 3.\n\n"
    "      --builtin NAME   SoftmaxRegression, MLP or CNN\n"
    "      --options JSON   as FLProject.spec.source.builtin.options\n"
    "      --data TAG       a data set of this node, or a part of one (see `flops data`)\n"
    "      --test-data TAG  evaluate on this one, not on what is trained on\n"
    "      --data-dir DIR   where it keeps them (default $FLOPS_DATA_DIR, ~/.flops)\n"
    "\nExit status: 0 was told to stop; 1 failed; 2 wrong usage.\n";

/* What keeps the trainer from being made is told to the learner, which shows it to its people. */
static int serve(const struct fl_training_flags *flags, struct fl_arena *arena)
{
    FL_CLEANUP(fl_training_finish) struct fl_training training = {0};
    const struct fl_env env = fl_env_real(NULL);
    struct fl_error err = {0};
    int r = fl_training_open(flags, &env, arena, &training, &err);

    if (r < 0) {
        fl_trainer_refuse(FL_TRAINER_FD, &env, &err);
        return fl_command_fail("trainer", &err);
    }
    r = fl_trainer_serve(FL_TRAINER_FD, &env, training.trainer, fl_training_examples(&training),
                         &err);
    return r < 0 ? fl_command_fail("trainer", &err) : 0;
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_training_flags flags = {.number = -1};
    struct fl_words words = {0};
    const struct fl_option items[] = {
        {"builtin", 0, FL_OPTION_TEXT, &flags.builtin},
        {"options", 0, FL_OPTION_TEXT, &flags.options},
        {"data", 0, FL_OPTION_LIST, &flags.tags},
        {"test-data", 0, FL_OPTION_TEXT, &flags.test_data},
        {"data-dir", 0, FL_OPTION_TEXT, &flags.data_dir},
    };
    const struct fl_options options = {"trainer", help, items, FL_COUNT_OF(items)};
    int status = fl_options_parse(&options, arena, argc, argv, &words);

    if (status >= 0)
        return status;
    if (words.count > 0)
        return fl_command_usage("trainer", "\"%s\" is too much", words.items[0]);
    if (!flags.builtin || flags.tags.count == 0)
        return fl_command_usage("trainer", "%s is missing", flags.builtin ? "--data" : "--builtin");
    if (!flags.data_dir)
        flags.data_dir = fl_default_data_dir(arena);
    return serve(&flags, arena);
}

const struct fl_command fl_command_trainer = {"trainer", NULL, run};
