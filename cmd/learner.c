/* `flops learner`: trains for an aggregator on this node's data. */
#include "workloads/learner/learner.h"
#include "cmd/command.h"
#include "cmd/learner_data.h"
#include "cmd/node.h"
#include "cmd/options.h"
#include "cmd/training.h"
#include "lib/log.h"
#include "lib/machine.h"
#include "lib/str.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define LEAVE_MS 5000 /* after it, it goes without a goodbye */

static const char help[] =
    "Usage: flops learner --aggregator URL --trainer NAME --name ID | --first N [options]\n"
    "       flops learner --aggregator URL --name ID | --first N [options] -- PROGRAM [ARG...]\n\n"
    "Trains for an aggregator on a data set of this node (see `flops data`). It calls, nobody "
    "calls\n"
    "it; it waits for its aggregator as long as it runs.\n\n"
    "      --aggregator URL    where its tasks come from\n"
    "      --name ID           its own, stable: no two learners of a training have the same\n"
    "      --first N           its number in the training is N and that of its instance\n"
    "                          ($FLOPS_INSTANCE); its name then is learner-NUMBER\n"
    "      --data TAG          a data set of this node, or a part of one; several count as one\n"
    "                          (default: all). With --first, of one that is divided, the part by\n"
    "                          number\n"
    "      --holdout SHARE     of its examples kept from training, for evaluation (default 0)\n"
    "      --test-data TAG     evaluate on this one, not on what is trained on\n"
    "      --trainer NAME      SoftmaxRegression, MLP or CNN\n"
    "      --options JSON      as FLProject.spec.source.builtin.options\n"
    "      --project NAME      train for this one only\n"
    "      --data-dir DIR      where the node keeps its data (default $FLOPS_DATA_DIR, ~/.flops)\n"
    "      --folder DIR        of its own (default DATA-DIR/learners/ID): killed and started "
    "again\n"
    "                          over the same folder, it offers the update it has\n"
    "      --ca FILE, --cert FILE, --key FILE   whom to trust, and as whom to call\n"
    "      --lost D            an aggregator that is silent for so long is gone (default 60s)\n"
    "\nA PROGRAM trains instead of a builtin trainer where one is given. It is started with a "
    "socket as\n"
    "descriptor 3 and speaks the protocol of workloads/trainer/protocol.h; it brings data of its "
    "own,\n"
    "and --data is the name by which that is known. It is started again when it has ended.\n\n"
    "      --trainer-start D   until it is ready (default 2m)\n"
    "      --trainer-silence D between two words of it while it works (default 5m)\n"
    "      --trainer-cancel D  until it stops what is not wanted any more (default 10s)\n"
    "      --trainer-memory N  MiB that it may have in use (default: any)\n\n"
    "      --log-level LEVEL   debug, info (the default), warn or error\n"
    "\nExit status: 0 training is over, or it was told to stop; 1 failed; 2 wrong "
    "usage.\n" FL_NODE_DEATH_HELP;

struct command {
    const char *aggregator, *name, *project, *folder, *level, *die_at, *holdout;
    int64_t first;
    struct fl_training_flags what;
    struct fl_node_flags flags;
    int64_t lost_ms;

    struct fl_arena *arena;
    struct fl_node_death death;
    struct fl_env env;
    struct fl_loop *loop;
    struct fl_timer *leaving;
    struct fl_training training;
    struct fl_learner_node *node;
};

static void command_finish(struct command *command)
{
    fl_learner_node_destroy(command->node);
    fl_timer_destroy(command->leaving);
    fl_loop_destroy(command->loop);
    fl_training_finish(&command->training);
    fl_log_destroy(command->env.log);
    fl_arena_destroy(command->arena);
}

static int check(struct command *command)
{
    struct fl_training_flags *what = &command->what;
    const bool program = what->program.count > 0;
    const struct {
        const char *option, *value;
    } required[] = {{"--aggregator", command->aggregator},
                    {"--name", command->name},
                    {"--trainer", program ? "its own" : command->what.builtin}};

    for (size_t i = 0; i < FL_COUNT_OF(required); i++)
        if (!required[i].value)
            return fl_command_usage("learner", "%s is missing", required[i].option);
    if (!fl_learner_read_share(command->holdout, &command->what.share))
        return fl_command_usage("learner", "--holdout %s: must be from 0 to below 1",
                                command->holdout);
    if (what->share > 0 && what->test_data)
        return fl_command_usage("learner", "--holdout and --test-data exclude each other");
    if (program && (what->builtin || what->options || what->test_data || what->share > 0))
        return fl_command_usage("learner",
                                "%s: a program that trains comes instead of --trainer, --options, "
                                "--holdout and --test-data",
                                what->program.items[0]);
    if (strchr(command->name, '/') || *command->name == '.' || !*command->name)
        return fl_command_usage("learner", "--name %s: that is no name", command->name);
    if (!what->data_dir)
        what->data_dir = fl_default_data_dir(command->arena);
    if (!command->folder)
        command->folder =
            fl_arena_printf(command->arena, "%s/learners/%s", what->data_dir, command->name);
    return -1;
}

static int parse(struct command *command, int argc, char **argv)
{
    const struct fl_option items[] = {
        FL_NODE_OPTIONS(command->flags),
        {"aggregator", 0, FL_OPTION_TEXT, &command->aggregator},
        {"name", 0, FL_OPTION_TEXT, &command->name},
        {"first", 0, FL_OPTION_INT, &command->first},
        {"data", 0, FL_OPTION_LIST, &command->what.tags},
        {"holdout", 0, FL_OPTION_TEXT, &command->holdout},
        {"test-data", 0, FL_OPTION_TEXT, &command->what.test_data},
        {"trainer", 0, FL_OPTION_TEXT, &command->what.builtin},
        {"trainer-start", 0, FL_OPTION_DURATION, &command->what.start_ms},
        {"trainer-silence", 0, FL_OPTION_DURATION, &command->what.silence_ms},
        {"trainer-cancel", 0, FL_OPTION_DURATION, &command->what.cancel_ms},
        {"trainer-memory", 0, FL_OPTION_INT, &command->what.memory_mib},
        {"options", 0, FL_OPTION_TEXT, &command->what.options},
        {"project", 0, FL_OPTION_TEXT, &command->project},
        {"data-dir", 0, FL_OPTION_TEXT, &command->what.data_dir},
        {"folder", 0, FL_OPTION_TEXT, &command->folder},
        {"lost", 0, FL_OPTION_DURATION, &command->lost_ms},
        {"log-level", 0, FL_OPTION_TEXT, &command->level},
        {"die-at", 0, FL_OPTION_TEXT, &command->die_at},
    };
    const struct fl_options options = {"learner", help, items, FL_COUNT_OF(items)};
    struct fl_words words = {0};
    int status = fl_options_parse(&options, command->arena, argc, argv, &words);

    if (status >= 0)
        return status;
    command->what.program = words;
    command->what.number = command->first < 0 ? -1 : fl_learner_number(command->first);
    if (command->first >= 0 && !command->name)
        command->name = fl_arena_printf(command->arena, "learner-%" PRId64, command->what.number);
    return check(command);
}

static int renew(void *user, struct fl_trainer **trainer, struct fl_error *err)
{
    struct command *command = user;

    return fl_training_renew(&command->training, trainer, err);
}

static void ended(void *user, const char *message)
{
    struct command *command = user;

    fl_log_info(command->env.log, "the end", FL_STR("message", message));
    fl_loop_stop(command->loop);
}

static int open_node(struct command *command, struct fl_error *err)
{
    const bool program = command->what.program.count > 0;
    const struct fl_machine machine = fl_machine_get("/");
    const struct fl_words tags = fl_learner_tags(command->arena, &command->training.opened);
    struct fl_learner_node_options options = {.env = &command->env,
                                              .loop = command->loop,
                                              .aggregator = command->aggregator,
                                              .http = fl_node_http(&command->flags),
                                              .folder = command->folder,
                                              .trainer = command->training.trainer,
                                              .why = program ? fl_training_why : NULL,
                                              .renew = program ? renew : NULL,
                                              .lost_ms = command->lost_ms,
                                              .ended = ended,
                                              .user = command};

    fl_message_init(&fl_form_join, &options.join);
    options.join.protocol = FL_PROTOCOL_VERSION;
    options.join.learner = options.join.name = command->name;
    options.join.project = command->project;
    options.join.platform = machine.platform;
    options.join.examples = fl_training_examples(&command->training);
    options.join.tags.items = tags.items;
    options.join.tags.count = tags.count;
    return fl_learner_node_create(&options, &command->node, err);
}

static void out_of_patience(void *user)
{
    struct command *command = user;

    fl_loop_stop(command->loop);
}

static void on_stop_signal(void *user)
{
    struct command *command = user;

    fl_timer_arm(command->leaving, LEAVE_MS);
    fl_learner_node_leave(command->node, "it was told to stop");
}

static int start(struct command *command, struct fl_error *err)
{
    int r =
        fl_training_open(&command->what, &command->env, command->arena, &command->training, err);

    if (r == 0)
        r = fl_loop_create(&command->loop, err);
    if (r < 0)
        return r;
    command->leaving = fl_timer_create(command->loop, out_of_patience, command);
    r = open_node(command, err);
    if (r == 0)
        r = fl_loop_on_signal(command->loop, SIGTERM, on_stop_signal, command, err);
    return r < 0 ? r : fl_loop_on_signal(command->loop, SIGINT, on_stop_signal, command, err);
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(command_finish)
    struct command command = {.level = "info", .first = -1, .arena = fl_arena_create()};
    enum fl_log_level level;
    struct fl_error err = {0};
    int status = parse(&command, argc, argv);

    if (status >= 0)
        return status;
    if (!fl_log_level_from_name(command.level, &level))
        return fl_command_usage("learner", "--log-level %s: there is no such level", command.level);
    command.env = fl_env_real(fl_log_create(STDERR_FILENO, level, false));
    status =
        fl_node_parse_death("learner", command.arena, command.die_at, &command.death, &command.env);
    if (status >= 0)
        return status;
    if (start(&command, &err) < 0)
        return fl_command_fail("learner", &err);
    (void)printf("learner %s is ready: %lld examples\n", command.name,
                 (long long)fl_training_examples(&command.training));
    (void)fflush(stdout);
    fl_loop_run(command.loop);
    return 0;
}

const struct fl_command fl_command_learner = {"learner", "train for an aggregator", run};
