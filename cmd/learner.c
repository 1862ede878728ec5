/* `flops learner`: trains for an aggregator on this node's data. */
#include "workloads/learner/learner.h"
#include "cmd/command.h"
#include "cmd/learner_data.h"
#include "cmd/node.h"
#include "cmd/options.h"
#include "lib/log.h"
#include "lib/machine.h"
#include "lib/str.h"
#include "workloads/data/store.h"
#include "workloads/tensor/kernels.h"
#include "workloads/trainer/holdout.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define LEAVE_MS 5000 /* after it, it goes without a goodbye */

static const char help[] =
    "Usage: flops learner --aggregator URL --trainer NAME --name ID | --first N [options]\n\n"
    "Trains for an aggregator on a data set of this node (see `flops data`). It calls, nobody "
    "calls\n"
    "it; it waits for its aggregator as long as it runs.\n\n"
    "      --aggregator URL    where its tasks come from\n"
    "      --name ID           its own, stable: no two learners of a training have the same\n"
    "      --first N           its number in the training is N and that of its instance\n"
    "                          ($FLOPS_INSTANCE); its name then is learner-NUMBER\n"
    "      --data TAG          a data set of this node, or a part of one (default: the node's\n"
    "                          only one). With --first, of one that is divided, the part by "
    "number\n"
    "      --holdout SHARE     of its examples kept from training, for evaluation (default 0)\n"
    "      --trainer NAME      SoftmaxRegression, MLP or CNN\n"
    "      --options JSON      as FLProject.spec.source.builtin.options\n"
    "      --project NAME      train for this one only\n"
    "      --data-dir DIR      where the node keeps its data (default $FLOPS_DATA_DIR, ~/.flops)\n"
    "      --folder DIR        of its own (default DATA-DIR/learners/ID): killed and started "
    "again\n"
    "                          over the same folder, it offers the update it has\n"
    "      --ca FILE, --cert FILE, --key FILE   whom to trust, and as whom to call\n"
    "      --lost D            an aggregator that is silent for so long is gone (default 60s)\n"
    "      --log-level LEVEL   debug, info (the default), warn or error\n"
    "\nExit status: 0 training is over, or it was told to stop; 1 failed; 2 wrong "
    "usage.\n" FL_NODE_DEATH_HELP;

struct command {
    const char *aggregator, *name, *data, *holdout, *trainer_name, *options, *project, *data_dir,
        *folder, *level, *die_at;
    struct fl_node_flags flags;
    struct fl_words tags;
    int64_t lost_ms, first;
    double share;
    size_t examples; /* it trains on */

    struct fl_arena *arena;
    struct fl_node_death death;
    struct fl_env env;
    struct fl_loop *loop;
    struct fl_timer *leaving;
    struct fl_dataset *dataset;
    struct fl_trainer *trainer;
    struct fl_learner_node *node;
};

static void command_finish(struct command *command)
{
    fl_learner_node_destroy(command->node);
    fl_timer_destroy(command->leaving);
    fl_loop_destroy(command->loop);
    if (command->trainer)
        command->trainer->ops->destroy(command->trainer);
    fl_dataset_unref(command->dataset);
    fl_log_destroy(command->env.log);
    fl_arena_destroy(command->arena);
}

static int check(struct command *command)
{
    const struct {
        const char *option, *value;
    } required[] = {{"--aggregator", command->aggregator},
                    {"--name", command->name},
                    {"--trainer", command->trainer_name}};

    if (!fl_learner_read_share(command->holdout, &command->share))
        return fl_command_usage("learner", "--holdout %s: must be from 0 to below 1",
                                command->holdout);
    for (size_t i = 0; i < FL_COUNT_OF(required); i++)
        if (!required[i].value)
            return fl_command_usage("learner", "%s is missing", required[i].option);
    if (strchr(command->name, '/') || *command->name == '.' || !*command->name)
        return fl_command_usage("learner", "--name %s: that is no name", command->name);
    if (!command->data_dir)
        command->data_dir = fl_default_data_dir(command->arena);
    if (!command->folder)
        command->folder =
            fl_arena_printf(command->arena, "%s/learners/%s", command->data_dir, command->name);
    return -1;
}

static int parse(struct command *command, int argc, char **argv)
{
    const struct fl_option items[] = {
        FL_NODE_OPTIONS(command->flags),
        {"aggregator", 0, FL_OPTION_TEXT, &command->aggregator},
        {"name", 0, FL_OPTION_TEXT, &command->name},
        {"first", 0, FL_OPTION_INT, &command->first},
        {"data", 0, FL_OPTION_LIST, &command->tags},
        {"holdout", 0, FL_OPTION_TEXT, &command->holdout},
        {"trainer", 0, FL_OPTION_TEXT, &command->trainer_name},
        {"options", 0, FL_OPTION_TEXT, &command->options},
        {"project", 0, FL_OPTION_TEXT, &command->project},
        {"data-dir", 0, FL_OPTION_TEXT, &command->data_dir},
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
    if (words.count > 0)
        return fl_command_usage("learner", "unexpected argument \"%s\"", words.items[0]);
    if (command->first >= 0 && !command->name)
        command->name =
            fl_arena_printf(command->arena, "learner-%" PRId64, fl_learner_number(command->first));
    return check(command);
}

static int open_trainer(struct command *command, struct fl_error *err)
{
    const struct fl_trainer_ops *ops = fl_trainer_find(command->trainer_name);
    const struct fl_data_store store = {
        fl_arena_printf(command->arena, "%s/data", command->data_dir), &command->env};
    FL_JSON options = NULL;
    int r = 0;

    if (!ops)
        return fl_error_set(err, FL_E_INVALID, "there is no builtin trainer \"%s\"",
                            command->trainer_name);
    if (command->options)
        r = fl_json_parse(command->options, strlen(command->options), NULL, NULL, NULL, &options,
                          err);
    if (r < 0)
        return fl_error_wrap(err, "--options");
    r = fl_kernels_init(err);
    if (r == 0)
        r = fl_learner_open_data(&store, command->arena, &command->tags,
                                 command->first < 0 ? -1 : fl_learner_number(command->first),
                                 &command->data, &command->dataset, err);
    return r < 0 ? r
                 : fl_trainer_create_holdout(ops, options, command->dataset, command->share,
                                             &command->trainer, &command->examples, err);
}

static void ended(void *user, const char *message)
{
    struct command *command = user;

    fl_log_info(command->env.log, "the end", FL_STR("message", message));
    fl_loop_stop(command->loop);
}

static int open_node(struct command *command, struct fl_error *err)
{
    const struct fl_machine machine = fl_machine_get("/");
    /* A part is known by the name of the whole, too. */
    const char *tags[] = {command->data, fl_arena_strndup(command->arena, command->data,
                                                          strcspn(command->data, "."))};
    struct fl_learner_node_options options = {.env = &command->env,
                                              .loop = command->loop,
                                              .aggregator = command->aggregator,
                                              .http = fl_node_http(&command->flags),
                                              .folder = command->folder,
                                              .trainer = command->trainer,
                                              .lost_ms = command->lost_ms,
                                              .ended = ended,
                                              .user = command};

    fl_message_init(&fl_form_join, &options.join);
    options.join.protocol = FL_PROTOCOL_VERSION;
    options.join.learner = options.join.name = command->name;
    options.join.project = command->project;
    options.join.platform = machine.platform;
    options.join.examples = (int64_t)command->examples;
    options.join.tags.items = tags;
    options.join.tags.count = strcmp(tags[0], tags[1]) == 0 ? 1 : 2;
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
    int r = open_trainer(command, err);

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
    (void)printf("learner %s is ready: %zu examples\n", command.name, command.examples);
    (void)fflush(stdout);
    fl_loop_run(command.loop);
    return 0;
}

const struct fl_command fl_command_learner = {"learner", "train for an aggregator", run};
