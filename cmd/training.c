#include "cmd/training.h"

#include "cmd/learner_data.h"
#include "cmd/parts.h"
#include "lib/log.h"
#include "lib/str.h"
#include "workloads/data/store.h"
#include "workloads/tensor/kernels.h"
#include "workloads/trainer/holdout.h"
#include "workloads/trainer/tested.h"

#include <stdlib.h>
#include <unistd.h>

/* --- builtin ones --- */

/* Labels of a test set are those of the training set. */
static int open_data(const struct fl_training_flags *flags, struct fl_arena *arena,
                     struct fl_training *training, struct fl_error *err)
{
    const struct fl_data_store store = {fl_arena_printf(arena, "%s/data", flags->data_dir),
                                        training->env};
    struct fl_dataset_limits limits = {0};
    int r = fl_learner_open_data(&store, arena, &flags->tags, flags->number, &training->opened,
                                 &training->data, err);

    if (r < 0 || !flags->test_data)
        return r;
    limits.classes = training->data->classes;
    limits.class_names = training->data->class_names;
    r = fl_data_store_open(&store, flags->test_data, &limits, &training->test, err);
    if (r < 0)
        return fl_error_wrap(err, "--test-data %s", flags->test_data);
    if (training->test->width != training->data->width ||
        training->test->classes != training->data->classes)
        return fl_error_set(err, FL_E_INVALID,
                            "--test-data %s: its examples have %zu numbers and %lld classes, those "
                            "of %s %zu and %lld",
                            flags->test_data, training->test->width,
                            (long long)training->test->classes, training->opened.items[0],
                            training->data->width, (long long)training->data->classes);
    return 0;
}

/* A test set judges; without one, a share of the data does. */
static int make_builtin(const struct fl_trainer_ops *ops, const json_t *options, double share,
                        struct fl_training *training, struct fl_error *err)
{
    struct fl_trainer *trains = NULL, *judges = NULL;
    int r;

    if (!training->test)
        return fl_trainer_create_holdout(ops, options, training->data, share, &training->trainer,
                                         &training->examples, err);
    r = ops->create(options, training->data, &trains, err);
    if (r == 0)
        r = ops->create(options, training->test, &judges, err);
    if (r < 0) {
        if (trains)
            trains->ops->destroy(trains);
        return r;
    }
    training->examples = training->data->count;
    training->trainer = fl_trainer_tested(trains, judges);
    return 0;
}

static int open_builtin(const struct fl_training_flags *flags, struct fl_arena *arena,
                        struct fl_training *training, struct fl_error *err)
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
        r = open_data(flags, arena, training, err);
    return r < 0 ? r : make_builtin(ops, options, flags->share, training, err);
}

/* --- programs --- */

static void log_line(void *user, const char *line)
{
    const struct fl_training *training = user;

    fl_log_info(training->env->log, "the trainer says", FL_STR("line", line));
}

const char *fl_find_program(struct fl_arena *arena, const char *name)
{
    const char *path = getenv("PATH");

    if (strchr(name, '/'))
        return name;
    for (size_t len; path && *path; path += len + (path[len] == ':')) {
        const char *file;

        len = strcspn(path, ":");
        file = fl_arena_printf(arena, "%.*s/%s", (int)len, path, name);
        if (*file == '/' && access(file, X_OK) == 0)
            return file;
    }
    return NULL;
}

/* It sees the environment of who started the learner, and the data as it is now. */
static int start_program(struct fl_training *training, struct fl_trainer **ret_trainer,
                         struct fl_error *err)
{
    const struct fl_training_flags *limits = &training->limits;
    FL_JSON data = NULL;
    int r = fl_learner_find_data(&training->store, training->arena, &limits->tags, limits->number,
                                 &training->opened, &data, err);
    const struct fl_trainer_program program = {
        .data = data,
        .argv = training->argv,
        .environ = (const char *const *)environ,
        .start_timeout_ms = limits->start_ms,
        .silence_timeout_ms = limits->silence_ms,
        .cancel_timeout_ms = limits->cancel_ms,
        .max_memory_bytes = (uint64_t)limits->memory_mib << 20,
        .output = log_line,
        .user = training,
    };

    return r < 0 ? r : fl_trainer_start(&program, training->env, ret_trainer, err);
}

const char *fl_find_trainer(struct fl_arena *arena, const char *name)
{
    const char *path = fl_find_program(arena, name), *adapter;

    if (path || strcmp(name, "flops-trainer") != 0)
        return path;
    adapter = fl_part_adapter(arena);
    return adapter ? fl_arena_printf(arena, "%s/usr/bin/flops-trainer", adapter) : NULL;
}

static int open_program(const struct fl_training_flags *flags, struct fl_arena *arena,
                        struct fl_training *training, struct fl_error *err)
{
    const struct fl_words *words = &flags->program;
    const char *path = fl_find_trainer(arena, words->items[0]);
    FL_CLEANUP(fl_freep) char *folder = realpath(flags->data_dir, NULL);

    if (!path)
        return fl_error_set(err, FL_E_NOT_FOUND, "there is no program \"%s\"", words->items[0]);
    training->argv = fl_new_array(arena, const char *, words->count + 1);
    memcpy(training->argv, words->items, words->count * sizeof(*words->items));
    training->argv[0] = path;
    training->limits = *flags;
    training->arena = arena;
    /* The program may work in another folder. */
    training->store = (struct fl_data_store){
        fl_arena_printf(arena, "%s/data", fl_str_or(folder, flags->data_dir)), training->env};
    return start_program(training, &training->trainer, err);
}

/* A crash is UNAVAILABLE, so the task is tried again with another process; the learner sets the
 * limit. So is one that does not start: what it needs may come back. */
int fl_training_renew(void *user, struct fl_trainer **trainer, struct fl_error *err)
{
    struct fl_training *training = user;
    struct fl_trainer *fresh;
    struct fl_error why = {0};

    if (!training->argv || !fl_trainer_has_ended(*trainer))
        return 0;
    fl_log_warn(training->env->log, "the trainer has ended: it is started again",
                FL_STR("reason", fl_trainer_last_failure(*trainer)->reason),
                FL_STR("message", fl_trainer_last_failure(*trainer)->message));
    if (start_program(training, &fresh, &why) < 0)
        return fl_error_set(err, FL_E_UNAVAILABLE, "%s", why.msg);
    (*trainer)->ops->destroy(*trainer);
    *trainer = training->trainer = fresh;
    return 0;
}

const char *fl_training_why(const struct fl_trainer *trainer)
{
    return fl_trainer_last_failure(trainer)->reason;
}

/* --- either --- */

int fl_training_open(const struct fl_training_flags *flags, const struct fl_env *env,
                     struct fl_arena *arena, struct fl_training *training, struct fl_error *err)
{
    *training = (struct fl_training){.env = env};
    return flags->program.count > 0 ? open_program(flags, arena, training, err)
                                    : open_builtin(flags, arena, training, err);
}

void fl_training_finish(struct fl_training *training)
{
    if (training->trainer)
        training->trainer->ops->destroy(training->trainer);
    fl_dataset_unref(training->data);
    fl_dataset_unref(training->test);
}

int64_t fl_training_examples(const struct fl_training *training)
{
    return training->argv ? fl_trainer_examples(training->trainer) : (int64_t)training->examples;
}
