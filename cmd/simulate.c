/* `flops simulate`: whole trainings in one process. */
#include "workloads/simulate/simulate.h"
#include "cmd/command.h"
#include "cmd/options.h"
#include "cmd/simulate_code.h"
#include "cmd/simulate_manifest.h"
#include "cmd/simulate_report.h"
#include "cmd/try_sample.h"
#include "lib/interrupt.h"
#include "lib/machine.h"
#include "lib/str.h"
#include "workloads/data/store.h"
#include "workloads/tensor/kernels.h"
#include "workloads/tensor/safetensors.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

/* Code may say that it had more examples than its learner was given: data of its own. */
#define CODE_MAX_WEIGHT ((int64_t)1 << 24)

static const char help[] =
    "Usage: flops simulate (--data TAG | --idx DIR) [options]\n"
    "       flops simulate CODE [options]\n\n"
    "Trains with many virtual learners in this process and evaluates the models. The same options\n"
    "give the same models, whatever the number of threads, with and without --protocol. With "
    "CODE,\n"
    "a folder, its training code does it, in a few programs that the learners share; what fails\n"
    "costs that learner a dropout.\n\n"
    "Data:\n"
    "      --data TAG            of `flops data`; --test TAG is its test set\n"
    "      --test-share S        without one: the share of the data kept for it (default 0.1)\n"
    "      --idx DIR             train-images-idx3-ubyte … t10k-labels-idx1-ubyte in DIR\n"
    "      --learners N          how many there are (default 10)\n"
    "      --shape SHAPE, --classes N, --examples N\n"
    "                            CODE without data trains on a sample (default 28x28, 10 and "
    "6000)\n"
    "      --partition KIND      IID (the default), Shards, Dirichlet, Labels or Quantity\n"
    "      --per-learner N       shards or labels of each (default 2)\n"
    "      --alpha X             of Dirichlet (default 0.5) and Quantity (default 1)\n"
    "      --partition-seed N    default: the seed\n"
    "CODE (default: what `flops try` finds in it):\n"
    "      --entrypoint M:O      class or object in it, by module and name\n"
    "      --python PROGRAM      (default python3)\n"
    "      --stateful            what the code of a learner keeps is there when it trains again;\n"
    "                            otherwise each training begins with code that is made anew\n"
    "      --timeout D           without a sign of work, before it is taken for hung (default 1m;\n"
    "                            nothing may work for longer than the round's deadline)\n"
    "Training:\n"
    "  -f, --filename FILE       an FLProject: its trainer, training and number of learners;\n"
    "                            other options change what it says\n"
    "      --trainer NAME        SoftmaxRegression, MLP (the default) or CNN\n"
    "      --options JSON        of the trainer, such as '{\"hiddenUnits\":[200,200]}', or CODE's "
    "own\n"
    "      --initial FILE        the model to begin with, as safetensors (default: the trainer's)\n"
    "      --rounds N            default 10\n"
    "      --epochs E, --batch B what a learner does in a round (default 1 and 32; batch 0: all)\n"
    "      --learning-rate X     default 0.01; --decay D: times D each round\n"
    "      --momentum X, --weight-decay X, --proximal-mu X\n"
    "      --strategy NAME       FedAvg (the default), FedAdam, Median, Krum …\n"
    "      --set NAME=VALUE      a parameter of it: trimFraction=0.3, byzantineLearners=2 …\n"
    "      --seed N              of everything random\n"
    "Rounds:\n"
    "      --mode MODE           Sync (the default); SemiSync and Async need --protocol\n"
    "  -c, --fraction C          share of learners in a round (default 1; 0: one learner)\n"
    "      --selection KIND      Random (the default), All, Availability or Oort\n"
    "      --over-selection X    asks X times as many, and takes the first\n"
    "      --quorum N            updates that a round needs (default: all that it wants)\n"
    "      --deadline D          virtual time of a round (default 10m)\n"
    "      --max-share S         bounds one learner's weight\n"
    "Learners' lot:\n"
    "      --delay D             median virtual time of a training (default 0)\n"
    "      --delay-spread X      between learners, --delay-jitter X between rounds: the "
    "deviations\n"
    "                            of its logarithm\n"
    "      --dropout P           how often a learner gives up\n"
    "      --attack KIND         SignFlip, Noise, LabelFlip or Scaled\n"
    "      --attackers N         how many do it, or a share: 20%\n"
    "      --attack-scale X      of the update (default 1, Scaled: 10), or the noise's deviation\n"
    "Running:\n"
    "      --every N             evaluates every so many rounds (default 1; 0: at the end)\n"
    "      --target A            ends at this accuracy\n"
    "      --protocol            aggregator and learners exchange their messages, in virtual time\n"
    "      --jobs N              threads, or programs of CODE (default: the processors)\n"
    "  -o, --output FORM         table, json or csv\n"
    "      --save FILE           the last model, as safetensors\n"
    "  -q, --quiet               does not tell how far it is\n"
    "      --data-dir DIR        data sets are in DIR/data (default $FLOPS_DATA_DIR, ~/.flops)\n"
    "\nData of CODE's learners lies in files below $TMPDIR (default /tmp) while it runs.\n"
    "\nExit status: 0 done; 1 failed, or --target was not reached; 2 wrong usage.\n";

struct command {
    const char *data, *test, *idx, *data_dir, *file, *trainer, *options, *partition, *strategy,
        *mode, *selection, *attack, *attackers, *output, *save, *shape, *initial;
    double test_share;
    int64_t learners, per_learner, min_examples, partition_seed, jobs;
    bool quiet, protocol;
    struct fl_words parameters;
    struct fl_sample sample;
    struct fl_code_options code_options;

    struct fl_arena *arena;
    struct fl_env env;
    struct fl_simulation simulation;
    struct fl_dataset *train_set, *test_set;
    struct fl_model *initial_model;
    struct fl_code code;
    struct fl_interrupt *interrupt;
    struct fl_report report;
};

static void command_finish(struct command *command)
{
    fl_dataset_unref(command->train_set);
    fl_dataset_unref(command->test_set);
    fl_model_unref(command->initial_model);
    fl_code_finish(&command->code);
    fl_interrupt_destroy(command->interrupt);
    fl_arena_destroy(command->arena);
}

/* --- options -------------------------------------------------------------------------------- */

static int read_options(struct command *command, int argc, char **argv)
{
    struct fl_simulation *simulation = &command->simulation;
    struct fl_round_order *spec = &simulation->spec;
    const struct fl_option items[] = {
        {"data", 0, FL_OPTION_TEXT, &command->data},
        {"test", 0, FL_OPTION_TEXT, &command->test},
        {"test-share", 0, FL_OPTION_REAL, &command->test_share},
        {"idx", 0, FL_OPTION_TEXT, &command->idx},
        {"data-dir", 0, FL_OPTION_TEXT, &command->data_dir},
        {"shape", 0, FL_OPTION_TEXT, &command->shape},
        {"classes", 0, FL_OPTION_INT, &command->sample.classes},
        {"examples", 0, FL_OPTION_INT, &command->sample.examples},
        {"entrypoint", 0, FL_OPTION_TEXT, &command->code_options.entrypoint},
        {"python", 0, FL_OPTION_TEXT, &command->code_options.python},
        {"stateful", 0, FL_OPTION_FLAG, &command->code_options.stateful},
        {"timeout", 0, FL_OPTION_DURATION, &command->code_options.timeout_ms},
        {"learners", 0, FL_OPTION_INT, &command->learners},
        {"partition", 0, FL_OPTION_TEXT, &command->partition},
        {"per-learner", 0, FL_OPTION_INT, &command->per_learner},
        {"min-examples", 0, FL_OPTION_INT, &command->min_examples},
        {"alpha", 0, FL_OPTION_REAL, &simulation->partition.alpha},
        {"partition-seed", 0, FL_OPTION_INT, &command->partition_seed},
        {"filename", 'f', FL_OPTION_TEXT, &command->file},
        {"trainer", 0, FL_OPTION_TEXT, &command->trainer},
        {"options", 0, FL_OPTION_TEXT, &command->options},
        {"initial", 0, FL_OPTION_TEXT, &command->initial},
        {"rounds", 0, FL_OPTION_INT, &simulation->rounds},
        {"epochs", 0, FL_OPTION_INT, &spec->local.epochs},
        {"batch", 0, FL_OPTION_INT, &spec->local.batch_size},
        {"learning-rate", 0, FL_OPTION_REAL, &spec->local.learning_rate},
        {"decay", 0, FL_OPTION_REAL, &simulation->learning_rate_decay},
        {"momentum", 0, FL_OPTION_REAL, &spec->local.momentum},
        {"weight-decay", 0, FL_OPTION_REAL, &spec->local.weight_decay},
        {"proximal-mu", 0, FL_OPTION_REAL, &spec->local.proximal_mu},
        {"strategy", 0, FL_OPTION_TEXT, &command->strategy},
        {"set", 0, FL_OPTION_LIST, &command->parameters},
        {"seed", 0, FL_OPTION_INT, &spec->seed},
        {"mode", 0, FL_OPTION_TEXT, &command->mode},
        {"fraction", 'c', FL_OPTION_REAL, &spec->participation.fraction},
        {"selection", 0, FL_OPTION_TEXT, &command->selection},
        {"over-selection", 0, FL_OPTION_REAL, &spec->participation.over_selection},
        {"quorum", 0, FL_OPTION_INT, &spec->participation.quorum},
        {"deadline", 0, FL_OPTION_DURATION, &spec->participation.deadline_ms},
        {"max-share", 0, FL_OPTION_REAL, &spec->participation.max_example_share},
        {"delay", 0, FL_OPTION_DURATION, &simulation->delays.median_ms},
        {"delay-spread", 0, FL_OPTION_REAL, &simulation->delays.spread},
        {"delay-jitter", 0, FL_OPTION_REAL, &simulation->delays.jitter},
        {"dropout", 0, FL_OPTION_REAL, &simulation->delays.dropout},
        {"attack", 0, FL_OPTION_TEXT, &command->attack},
        {"attackers", 0, FL_OPTION_TEXT, &command->attackers},
        {"attack-scale", 0, FL_OPTION_REAL, &simulation->attack.scale},
        {"every", 0, FL_OPTION_INT, &simulation->evaluate_every},
        {"target", 0, FL_OPTION_REAL, &simulation->target_accuracy},
        {"protocol", 0, FL_OPTION_FLAG, &command->protocol},
        {"jobs", 0, FL_OPTION_INT, &command->jobs},
        {"output", 'o', FL_OPTION_TEXT, &command->output},
        {"save", 0, FL_OPTION_TEXT, &command->save},
        {"quiet", 'q', FL_OPTION_FLAG, &command->quiet},
    };
    const struct fl_options options = {"simulate", help, items, FL_COUNT_OF(items)};
    struct fl_words words = {0};
    int status;

    command->parameters = (struct fl_words){0};
    status = fl_options_parse(&options, command->arena, argc, argv, &words);
    if (status < 0 && words.count > 1)
        return fl_command_usage("simulate", "unexpected argument \"%s\"", words.items[1]);
    if (words.count > 0)
        command->code_options.folder = words.items[0];
    return status;
}

/* Position of `text` among names, from 1; 0: none. NULL is `fallback`. */
static int find_name(const char *const *names, size_t count, const char *text, int fallback)
{
    for (size_t i = 0; text && i < count; i++)
        if (strcasecmp(names[i], text) == 0)
            return (int)i + 1;
    return text ? 0 : fallback;
}

static int read_names(struct command *command)
{
    struct fl_simulation *simulation = &command->simulation;
    struct fl_round_order *spec = &simulation->spec;
    struct fl_partition *partition = &simulation->partition;

    spec->mode = (enum fl_mode)find_name(fl_modes, 3, command->mode, (int)spec->mode);
    if (!spec->mode)
        return fl_command_usage("simulate", "--mode %s: must be Sync, SemiSync or Async",
                                command->mode);
    spec->participation.selection = (enum fl_selection)find_name(
        fl_selections, 4, command->selection, (int)spec->participation.selection);
    if (!spec->participation.selection)
        return fl_command_usage("simulate",
                                "--selection %s: must be All, Random, Availability or Oort",
                                command->selection);
    if (command->partition && !fl_partition_kind_find(command->partition, &partition->kind))
        return fl_command_usage(
            "simulate", "--partition %s: must be IID, Shards, Dirichlet, Labels or Quantity",
            command->partition);
    if (command->attack && !fl_attack_find(command->attack, &simulation->attack.kind))
        return fl_command_usage("simulate",
                                "--attack %s: must be None, SignFlip, Noise, LabelFlip or Scaled",
                                command->attack);
    if (!fl_report_form_find(command->output, &command->report.form))
        return fl_command_usage("simulate", "-o %s: must be table, json or csv", command->output);
    if (command->strategy)
        spec->strategy.name = command->strategy;
    return -1;
}

/* "3" or "20%" */
static int read_attackers(struct command *command)
{
    struct fl_attack *attack = &command->simulation.attack;
    const char *text = command->attackers;
    size_t len = text ? strlen(text) : 0;
    bool share = len > 0 && text[len - 1] == '%';
    const char *digits = share ? fl_arena_strndup(command->arena, text, len - 1) : text;
    int64_t number;

    if (!text)
        return attack->kind == FL_ATTACK_NONE
                   ? -1
                   : fl_command_usage("simulate", "--attack needs --attackers");
    if (!fl_str_to_int64(digits, 0, share ? 100 : command->learners, &number))
        return fl_command_usage("simulate",
                                "--attackers %s: must be a number of learners or a share", text);
    attack->learners = (size_t)(share ? number * command->learners / 100 : number);
    return -1;
}

static int read_parameters(struct command *command, struct fl_error *err)
{
    for (size_t i = 0; i < command->parameters.count; i++) {
        int r = fl_simulate_parameter(command->parameters.items[i],
                                      &command->simulation.spec.strategy, err);

        if (r < 0)
            return r;
    }
    return 0;
}

static int read_code(struct command *command, struct fl_error *err)
{
    struct fl_simulation *simulation = &command->simulation;
    int r;

    if (command->trainer)
        return fl_error_set(err, FL_E_INVALID, "one of --trainer and code of one's own");
    if (!fl_sample_read_shape(command->shape, &command->sample))
        return fl_error_set(err, FL_E_INVALID, "--shape %s: must be like 28x28 or 32x32x3",
                            command->shape);
    command->code_options.quiet = command->quiet;
    r = fl_code_prepare(&command->code_options, &command->env, command->arena, &command->code, err);
    if (r < 0)
        return r;
    simulation->trainer = NULL;
    simulation->code = &command->code.code;
    if (simulation->spec.max_weight == 0)
        simulation->spec.max_weight = CODE_MAX_WEIGHT;
    return 0;
}

static int read_native(struct command *command, struct fl_error *err)
{
    struct fl_simulation *simulation = &command->simulation;

    if (command->file && !command->trainer && !simulation->trainer)
        return fl_error_set(err, FL_E_INVALID,
                            "%s: its trainer is not a builtin one: --trainer must say which to "
                            "take instead",
                            command->file);
    if (command->trainer || !simulation->trainer)
        simulation->trainer = fl_trainer_find(fl_str_or(command->trainer, "MLP"));
    if (!simulation->trainer)
        return fl_error_set(err, FL_E_INVALID, "there is no builtin trainer \"%s\"",
                            command->trainer);
    return 0;
}

static int read_trainer(struct command *command, struct fl_error *err)
{
    struct fl_simulation *simulation = &command->simulation;
    json_t *options = NULL;
    int r = command->code_options.folder ? read_code(command, err) : read_native(command, err);

    if (r < 0 || !command->options)
        return r;
    r = fl_json_parse(command->options, strlen(command->options), NULL, NULL, NULL, &options, err);
    if (r < 0)
        return fl_error_wrap(err, "--options");
    if (simulation->code)
        simulation->spec.local.config = fl_json_in_arena(command->arena, options);
    else
        simulation->trainer_options = fl_json_in_arena(command->arena, options);
    return 0;
}

static void settle_numbers(struct command *command)
{
    struct fl_simulation *simulation = &command->simulation;
    struct fl_partition *partition = &simulation->partition;
    struct fl_participation_spec *part = &simulation->spec.participation;
    int64_t seed = command->partition_seed;

    partition->learners = (size_t)command->learners;
    partition->per_learner = (size_t)command->per_learner;
    partition->min_examples = (size_t)command->min_examples;
    partition->seed = (uint64_t)(seed >= 0 ? seed : simulation->spec.seed);
    if (part->fraction == 0) /* the paper's C = 0 */
        part->fraction = 1e-12;
    if (command->jobs == 0)
        command->jobs = fl_machine_get("/").cpus;
    simulation->jobs = (size_t)command->jobs;
    simulation->protocol = command->protocol;
}

/* What an FLProject says comes first, and then the options once more. */
static int read_file(struct command *command, int argc, char **argv)
{
    struct fl_error err = {0};
    const char *tag;
    int status;

    fl_simulation_init(&command->simulation);
    if (fl_simulate_manifest_read(command->arena, command->file, &command->simulation, &tag, &err) <
        0)
        return fl_command_fail("simulate", &err);
    command->learners = (int64_t)command->simulation.partition.learners;
    status = read_options(command, argc, argv);
    if (!command->data && !command->idx)
        command->data = tag;
    return status;
}

static int parse(struct command *command, int argc, char **argv)
{
    struct fl_error err = {0};
    int status = read_options(command, argc, argv);

    if (status < 0 && command->file)
        status = read_file(command, argc, argv);
    if (status >= 0)
        return status;
    if (status < 0 && command->data && command->idx)
        status = fl_command_usage("simulate", "one of --data and --idx is enough");
    if (status < 0 && !command->data && !command->idx && !command->code_options.folder)
        status = fl_command_usage("simulate", "one of --data and --idx is needed");
    if (status < 0)
        status = read_names(command);
    if (status < 0)
        status = read_attackers(command);
    if (status >= 0)
        return status;
    settle_numbers(command);
    if (read_parameters(command, &err) < 0 || read_trainer(command, &err) < 0)
        return fl_command_usage("simulate", "%s", err.msg);
    return -1;
}

/* --- data ----------------------------------------------------------------------------------- */

static int open_idx(struct command *command, struct fl_error *err)
{
    const char *dir = command->idx;
    struct fl_dataset_limits limits = {0};
    struct fl_arena *arena = command->arena;
    int r = fl_dataset_read_idx(fl_arena_printf(arena, "%s/train-images-idx3-ubyte", dir),
                                fl_arena_printf(arena, "%s/train-labels-idx1-ubyte", dir), &limits,
                                &command->train_set, err);

    if (r < 0)
        return r;
    limits.classes = command->train_set->classes;
    return fl_dataset_read_idx(fl_arena_printf(arena, "%s/t10k-images-idx3-ubyte", dir),
                               fl_arena_printf(arena, "%s/t10k-labels-idx1-ubyte", dir), &limits,
                               &command->test_set, err);
}

static int open_tags(struct command *command, struct fl_error *err)
{
    const char *dir = command->data_dir ? command->data_dir : fl_default_data_dir(command->arena);
    const struct fl_data_store store = {fl_arena_printf(command->arena, "%s/data", dir),
                                        &command->env};
    struct fl_dataset_limits limits = {0};
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *whole = NULL;
    int r = fl_data_store_open(&store, command->data, NULL, &whole, err);

    if (r < 0)
        return r;
    if (!command->test)
        return fl_dataset_split(whole, command->test_share, (uint64_t)command->simulation.spec.seed,
                                &command->test_set, &command->train_set, err);
    limits.classes = whole->classes;
    limits.class_names = whole->class_names;
    r = fl_data_store_open(&store, command->test, &limits, &command->test_set, err);
    if (r == 0)
        command->train_set = FL_TAKE(whole);
    return r;
}

static int make_sample(struct command *command, struct fl_error *err)
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *whole = NULL;
    int r = fl_sample_make(&command->sample, &whole, err);

    return r < 0 ? r
                 : fl_dataset_split(whole, command->test_share,
                                    (uint64_t)command->simulation.spec.seed, &command->test_set,
                                    &command->train_set, err);
}

static int open_data(struct command *command, struct fl_error *err)
{
    if (command->idx)
        return open_idx(command, err);
    return command->data ? open_tags(command, err) : make_sample(command, err);
}

/* Better now than after a night of training. */
static int check_save(const struct command *command, struct fl_error *err)
{
    const char *slash = command->save ? strrchr(command->save, '/') : NULL;
    const char *folder = ".";

    if (slash && slash == command->save)
        folder = "/";
    else if (slash)
        folder = fl_arena_strndup(command->arena, command->save, (size_t)(slash - command->save));
    if (command->save && access(folder, W_OK) != 0)
        return fl_error_set(err, FL_E_INVALID, "--save %s: cannot write there: %s", command->save,
                            strerror(errno));
    return 0;
}

static int start(struct command *command, struct fl_error *err)
{
    int r = check_save(command, err);

    if (r == 0)
        r = fl_interrupt_create(&command->interrupt, err);
    if (r == 0)
        r = fl_kernels_init(err);
    if (r == 0)
        r = open_data(command, err);
    if (r == 0 && command->initial)
        r = fl_safetensors_open(command->initial, NULL, &command->initial_model, err);
    if (r == 0 && command->simulation.code)
        r = fl_code_begin(&command->code, command->arena, command->simulation.jobs,
                          command->simulation.spec.participation.deadline_ms, command->interrupt,
                          err);
    command->simulation.train = command->train_set;
    command->simulation.test = command->test_set;
    command->simulation.initial = command->initial_model;
    return r;
}

/* --- running -------------------------------------------------------------------------------- */

static int simulate(struct command *command, struct fl_error *err)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    struct fl_simulation *simulation = &command->simulation;
    int r;

    simulation->update_done = fl_report_update;
    simulation->round_done = fl_report_round;
    simulation->interrupted = fl_report_interrupted;
    simulation->user = &command->report;
    command->report.interrupt = command->interrupt;
    command->report.simulation = simulation;
    command->report.env = &command->env;
    command->report.quiet = command->quiet;
    fl_report_begin(&command->report);
    r = fl_simulate(simulation, &model, err);
    fl_report_finish(&command->report, r < 0 ? err : NULL);
    if (r == 0 && command->save)
        r = fl_safetensors_write(model, command->save, err);
    return r;
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(command_finish)
    struct command command = {.arena = fl_arena_create(),
                              .env = fl_env_real(NULL),
                              .learners = 10,
                              .partition_seed = -1,
                              .test_share = 0.1,
                              .shape = "28x28",
                              .sample = {.classes = 10, .examples = 6000},
                              .code_options = {.python = "python3", .timeout_ms = 60000}};
    struct fl_error err = {0};
    int status;

    fl_simulation_init(&command.simulation);
    status = parse(&command, argc, argv);
    if (status >= 0)
        return status;
    if (start(&command, &err) < 0 || simulate(&command, &err) < 0)
        return fl_command_fail("simulate", &err);
    return !isnan(command.simulation.target_accuracy) && command.report.target_round == 0;
}

const struct fl_command fl_command_simulate = {"simulate", "train with virtual learners", run};
