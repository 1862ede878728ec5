/* `flops try`: runs a folder's training code for a few rounds, here and now. */
#include "cmd/command.h"
#include "cmd/learner_data.h"
#include "cmd/options.h"
#include "cmd/parts.h"
#include "cmd/training.h"
#include "cmd/try_code.h"
#include "cmd/try_sample.h"
#include "lib/file.h"
#include "lib/str.h"
#include "workloads/strategy/strategy.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TAG          "sample"
#define LEARNERS_MAX 64
#define ROUNDS_MAX   1000
#define RANGE_BITS   14
#define SEED         42

static const char help[] =
    "Usage: flops try [DIR] [options]\n\n"
    "Runs the training code of a folder (default .) as learners would, with no image and no\n"
    "server: some learners train on parts of a sample, their models are averaged, and each judges\n"
    "the result. Says what is wrong with the code, in terms of the code.\n\n"
    "      --data TAG          train on this data set of the node (see `flops data`) and not on a\n"
    "                          sample\n"
    "      --data-dir DIR      where the node keeps its data (default $FLOPS_DATA_DIR, ~/.flops)\n"
    "      --shape SHAPE       of an example in the sample (default 28x28)\n"
    "      --classes N         in the sample (default 10)\n"
    "      --examples N        in the sample (default 600)\n"
    "      --learners N        (default 2)\n"
    "      --rounds N          (default 2)\n"
    "      --epochs N, --batch-size N, --learning-rate X\n"
    "                          what learners are told (default 1, 10 and 0.1)\n"
    "      --entrypoint M:O    class or object in the code, by module and name\n"
    "      --python PROGRAM    (default python3)\n"
    "      --timeout D         without a sign of work, before it is taken for hung (default 1m)\n"
    "\nExamples:\n"
    "  flops try\n"
    "  flops try my-code --shape 32x32x3 --python .venv/bin/python\n"
    "  flops try my-code --data mnist --rounds 5\n"
    "\nExit status: 0 it trains; 1 it does not; 2 wrong usage.\n";

struct command {
    const char *entrypoint, *python, *shape, *data_dir;
    struct fl_words tags;
    int64_t learners, rounds, timeout_ms;
    struct fl_sample sample;
    struct fl_fit_options fit;

    struct fl_arena *arena;
    struct fl_env env;
    const char *code, *adapter;
    char folder[64]; /* of the sample; "" : none */
    struct fl_data_store store;
    struct fl_trainer *trainers[LEARNERS_MAX];
    struct fl_strategy *strategy;
    struct fl_model *model;
    const struct fl_trainer *failed; /* whose fault it is */
};

static void command_finish(struct command *command)
{
    for (size_t i = 0; i < LEARNERS_MAX; i++)
        if (command->trainers[i])
            command->trainers[i]->ops->destroy(command->trainers[i]);
    fl_strategy_destroy(command->strategy);
    fl_model_unref(command->model);
    if (*command->folder)
        (void)fl_dir_remove(command->folder, NULL);
    fl_arena_destroy(command->arena);
}

/* --- what there is --- */

static int make_sample(struct command *command, struct fl_error *err)
{
    (void)snprintf(command->folder, sizeof(command->folder), "/tmp/flops-try-XXXXXX");
    if (!mkdtemp(command->folder)) {
        *command->folder = '\0';
        return fl_error_errno(err, errno, "make a temporary folder");
    }
    command->store.folder = command->folder;
    command->tags.items = fl_new_array(command->arena, const char *, 1);
    command->tags.items[0] = TAG;
    command->tags.count = 1;
    (void)printf("data: a sample of %" PRId64 " examples, %s each, of %" PRId64 " classes\n",
                 command->sample.examples, command->shape, command->sample.classes);
    return fl_sample_push(&command->sample, &command->store, TAG, (size_t)command->learners, err);
}

static int find_data(struct command *command, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *folder = realpath(command->data_dir, NULL);

    command->store.env = &command->env;
    if (command->tags.count == 0)
        return make_sample(command, err);
    command->store.folder =
        fl_arena_printf(command->arena, "%s/data", fl_str_or(folder, command->data_dir));
    return 0;
}

/* --- learners --- */

static void show_line(void *user, const char *line)
{
    (void)user;
    (void)fflush(stdout);
    (void)fprintf(stderr, "  | %s\n", line);
}

static const char **program_of(const struct command *command)
{
    const char **argv = fl_new_array(command->arena, const char *, 7);
    size_t count = 0;

    argv[count++] = command->python;
    argv[count++] = fl_arena_printf(command->arena, "%s/usr/bin/flops-trainer", command->adapter);
    argv[count++] = "--code";
    argv[count++] = command->code;
    if (command->entrypoint) {
        argv[count++] = "--entrypoint";
        argv[count++] = command->entrypoint;
    }
    return argv;
}

static int start_learner(struct command *command, int64_t number, struct fl_error *err)
{
    struct fl_words opened;
    FL_JSON data = NULL;
    struct fl_trainer_program program = {.argv = program_of(command),
                                         .environ = (const char *const *)environ,
                                         .silence_timeout_ms = command->timeout_ms,
                                         .output = show_line};
    int r = fl_learner_find_data(&command->store, command->arena, &command->tags, number, &opened,
                                 &data, err);

    program.data = data;
    return r < 0 ? r : fl_trainer_start(&program, &command->env, &command->trainers[number], err);
}

static int start_learners(struct command *command, struct fl_error *err)
{
    int r = 0;

    for (int64_t i = 0; i < command->learners && r == 0; i++)
        r = start_learner(command, i, err);
    return r;
}

/* --- rounds --- */

static int make_model(struct command *command, struct fl_error *err)
{
    struct fl_trainer *trainer = command->trainers[0];
    int r = trainer->ops->init(trainer, SEED, &command->model, err);

    if (r < 0) {
        command->failed = trainer;
        return r;
    }
    (void)printf("model: %zu arrays, %zu numbers\n", command->model->count,
                 command->model->parameters);
    return 0;
}

struct told {
    int64_t examples;
    double loss, accuracy; /* weighted sums */
    bool changed;
};

static int train_one(struct command *command, int64_t number, struct told *told,
                     struct fl_error *err)
{
    struct fl_trainer *trainer = command->trainers[number];
    struct fl_fit_result result = {0};
    struct fl_update_facts facts = {
        .learner = fl_arena_printf(command->arena, "learner-%" PRId64, number), .loss = NAN};
    int r = trainer->ops->fit(trainer, command->model, &command->fit, &result, err);

    if (r < 0) {
        command->failed = trainer;
        return r;
    }
    facts.examples = result.examples;
    facts.steps = result.steps;
    told->changed |= result.model->size > 0 &&
                     memcmp(result.model->data, command->model->data, result.model->size) != 0;
    r = fl_strategy_add(command->strategy, result.model, &facts, err);
    fl_model_unref(result.model);
    json_decref(result.metrics);
    return r;
}

static int train_all(struct command *command, struct told *told, struct fl_error *err)
{
    struct fl_exact_precision precision;
    struct fl_model *next = NULL;
    int r = fl_exact_plan(RANGE_BITS, (int64_t)1 << 24, &precision, err);

    if (r == 0)
        r = fl_strategy_begin(command->strategy, command->model, &precision, 0, err);
    for (int64_t i = 0; i < command->learners && r == 0; i++)
        r = train_one(command, i, told, err);
    if (r == 0)
        r = fl_strategy_finish(command->strategy, &next, err);
    if (r < 0)
        return r;
    fl_model_unref(command->model);
    command->model = next;
    return 0;
}

static int evaluate_all(struct command *command, struct told *told, struct fl_error *err)
{
    for (int64_t i = 0; i < command->learners; i++) {
        struct fl_trainer *trainer = command->trainers[i];
        struct fl_evaluation found = {0};
        int r = trainer->ops->evaluate(trainer, command->model, &found, err);

        if (r < 0) {
            command->failed = trainer;
            return r;
        }
        json_decref(found.metrics);
        told->examples += found.examples;
        told->loss += found.loss * (double)found.examples;
        told->accuracy += found.accuracy * (double)found.examples;
    }
    return 0;
}

static const char *mean(struct fl_arena *arena, double sum, int64_t examples)
{
    return isfinite(sum) && examples > 0 ? fl_arena_printf(arena, "%.4f", sum / (double)examples)
                                         : "not said";
}

static int run_round(struct command *command, int64_t number, struct fl_error *err)
{
    int64_t began = fl_monotonic_ms(&command->env);
    struct told told = {0};
    int r;

    command->fit.seed = SEED + (uint64_t)number;
    r = train_all(command, &told, err);
    if (r == 0)
        r = evaluate_all(command, &told, err);
    if (r < 0)
        return r;
    (void)printf("round %" PRId64 ": loss %s, accuracy %s on %" PRId64 " examples, %.1f s\n",
                 number, mean(command->arena, told.loss, told.examples),
                 mean(command->arena, told.accuracy, told.examples), told.examples,
                 (double)(fl_monotonic_ms(&command->env) - began) / 1000);
    if (!told.changed)
        (void)printf("warning: training changed nothing: are the parameters that are trained those "
                     "that are given back?\n");
    (void)fflush(stdout);
    return 0;
}

/* --- the end --- */

static const char *hint(const struct command *command, const char *reason, const char *message)
{
    if (strstr(message, "No module named"))
        return "this Python lacks what the code needs: install it (pip install -r "
               "requirements.txt), or name another Python by --python";
    if (*command->folder && strcmp(reason, "CodeFailed") == 0)
        return "if it is the data: this was a sample; --data names real data, --shape and "
               "--classes shape the sample";
    if (strcmp(reason, FL_TRAINER_HUNG) == 0)
        return "it used no processor time; --timeout gives it longer";
    return NULL;
}

static int fail(const struct command *command, const struct fl_error *err)
{
    const struct fl_trainer_failure *failure =
        command->failed ? fl_trainer_last_failure(command->failed) : NULL;
    const char *advice = failure ? hint(command, failure->reason, failure->message) : NULL;

    (void)fflush(stdout);
    (void)fprintf(stderr, "flops try: %s\n", err->msg);
    if (advice)
        (void)fprintf(stderr, "(%s)\n", advice);
    return 1;
}

static int try_it(struct command *command, struct fl_error *err)
{
    struct fl_strategy_options options;
    int r;

    fl_strategy_options_init(&options, "FedAvg");
    fl_try_look_at(command->arena, command->code);
    r = find_data(command, err);
    if (r == 0)
        r = fl_strategy_create(&options, &command->strategy, err);
    if (r == 0)
        r = start_learners(command, err);
    if (r == 0)
        r = make_model(command, err);
    for (int64_t i = 1; i <= command->rounds && r == 0; i++)
        r = run_round(command, i, err);
    return r;
}

static int check(struct command *command, const struct fl_words *words)
{
    const char *python = fl_find_program(command->arena, command->python);
    FL_CLEANUP(fl_freep) char *code = realpath(words->count ? words->items[0] : ".", NULL);

    if (words->count > 1)
        return fl_command_usage("try", "%s: one folder is enough", words->items[1]);
    if (!code)
        return fl_command_usage("try", "%s: there is no such folder", words->items[0]);
    if (!fl_sample_read_shape(command->shape, &command->sample))
        return fl_command_usage("try", "--shape %s: must be like 28x28 or 32x32x3", command->shape);
    if (command->learners < 1 || command->learners > LEARNERS_MAX || command->rounds < 1 ||
        command->rounds > ROUNDS_MAX)
        return fl_command_usage("try", "--learners and --rounds must be from 1 to %d and %d",
                                LEARNERS_MAX, ROUNDS_MAX);
    if (command->sample.classes < 1 || command->sample.classes > FL_DATASET_CLASSES_MAX ||
        command->sample.examples < command->learners)
        return fl_command_usage("try", "--classes and --examples: a class and an example for each "
                                       "learner are the least");
    if (!python)
        return fl_command_usage("try", "there is no program %s: --python names another",
                                command->python);
    command->python = python;
    command->code = fl_arena_strdup(command->arena, code);
    command->adapter = fl_part_adapter(command->arena);
    if (!command->adapter)
        return fl_command_usage("try", "the adapter for Python is not installed");
    if (!command->data_dir)
        command->data_dir = fl_default_data_dir(command->arena);
    return -1;
}

static int parse(struct command *command, int argc, char **argv)
{
    const struct fl_option items[] = {
        {"data", 0, FL_OPTION_LIST, &command->tags},
        {"data-dir", 0, FL_OPTION_TEXT, &command->data_dir},
        {"shape", 0, FL_OPTION_TEXT, &command->shape},
        {"classes", 0, FL_OPTION_INT, &command->sample.classes},
        {"examples", 0, FL_OPTION_INT, &command->sample.examples},
        {"learners", 0, FL_OPTION_INT, &command->learners},
        {"rounds", 0, FL_OPTION_INT, &command->rounds},
        {"epochs", 0, FL_OPTION_INT, &command->fit.epochs},
        {"batch-size", 0, FL_OPTION_INT, &command->fit.batch_size},
        {"learning-rate", 0, FL_OPTION_REAL, &command->fit.learning_rate},
        {"entrypoint", 0, FL_OPTION_TEXT, &command->entrypoint},
        {"python", 0, FL_OPTION_TEXT, &command->python},
        {"timeout", 0, FL_OPTION_DURATION, &command->timeout_ms},
    };
    const struct fl_options options = {"try", help, items, FL_COUNT_OF(items)};
    struct fl_words words = {0};
    int status = fl_options_parse(&options, command->arena, argc, argv, &words);

    return status >= 0 ? status : check(command, &words);
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(command_finish)
    struct command command = {.arena = fl_arena_create(),
                              .env = fl_env_real(NULL),
                              .shape = "28x28",
                              .python = "python3",
                              .learners = 2,
                              .rounds = 2,
                              .timeout_ms = 60000,
                              .sample = {.classes = 10, .examples = 600},
                              .fit = {.epochs = 1, .batch_size = 10, .learning_rate = 0.1}};
    struct fl_error err = {0};
    int status = parse(&command, argc, argv);

    if (status >= 0)
        return status;
    if (try_it(&command, &err) < 0)
        return fail(&command, &err);
    (void)printf("it trains\n");
    return 0;
}

const struct fl_command fl_command_try = {"try", "run training code here, for a few rounds", run};
