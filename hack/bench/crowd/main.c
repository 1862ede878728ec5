/* crowd learners --aggregator 127.0.0.1:7070 --count N [--data DIR/TAG] [--frugal]
 *     runs N learners until their aggregator ends the training. They echo; with --data they train
 *     SoftmaxRegression, learner i on the part TAG.i.
 * crowd model FILE PARAMETERS [TENSORS]      writes a model of ones
 * crowd evaluate FILE DIR/TAG                prints SoftmaxRegression's loss and accuracy */
#include "hack/bench/crowd/crowd.h"
#include "lib/log.h"
#include "lib/str.h"
#include "workloads/data/store.h"
#include "workloads/tensor/kernels.h"
#include "workloads/tensor/safetensors.h"

#include <arpa/inet.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define TRAINER "SoftmaxRegression"

struct options {
    const char *aggregator, *data;
    int64_t count;
    bool frugal;
};

static int die(const char *what, const struct fl_error *err)
{
    (void)fprintf(stderr, "crowd: %s: %s\n", what, err->msg);
    exit(1);
}

static int usage(void)
{
    (void)fprintf(stderr,
                  "usage: crowd learners --aggregator ADDRESS:PORT --count N [--data DIR/TAG] "
                  "[--frugal]\n       crowd model FILE PARAMETERS [TENSORS]\n"
                  "       crowd evaluate FILE DIR/TAG\n");
    return 2;
}

/* "DIR/TAG" of a part or a whole. */
static struct fl_dataset *open_data(const struct fl_env *env, struct fl_arena *arena,
                                    const char *path)
{
    const char *slash = strrchr(path, '/');
    const struct fl_data_store store = {
        slash ? fl_arena_strndup(arena, path, (size_t)(slash - path)) : ".", env};
    struct fl_dataset *data = NULL;
    struct fl_error err = {0};

    if (fl_data_store_open(&store, slash ? slash + 1 : path, NULL, &data, &err) < 0)
        die(path, &err);
    return data;
}

static struct fl_trainer *make_trainer(const struct fl_dataset *data)
{
    struct fl_trainer *trainer = NULL;
    struct fl_error err = {0};

    if (fl_kernels_init(&err) < 0 ||
        fl_trainer_find(TRAINER)->create(NULL, data, &trainer, &err) < 0)
        die(TRAINER, &err);
    return trainer;
}

/* --- learners --- */

static bool parse(int argc, char **argv, struct options *options)
{
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--frugal") == 0)
            options->frugal = true;
        else if (strcmp(argv[i], "--aggregator") == 0 && i + 1 < argc)
            options->aggregator = argv[++i];
        else if (strcmp(argv[i], "--data") == 0 && i + 1 < argc)
            options->data = argv[++i];
        else if (strcmp(argv[i], "--count") != 0 || i + 1 >= argc ||
                 !fl_str_to_int64(argv[++i], 1, 1000000, &options->count))
            return false;
    }
    return options->aggregator && options->count > 0;
}

static bool parse_server(struct fl_arena *arena, struct crowd *crowd, const char *text)
{
    const char *colon = strrchr(text, ':');
    int64_t port;

    if (!colon || !fl_str_to_int64(colon + 1, 1, 65535, &port))
        return false;
    crowd->server.sin_family = AF_INET;
    crowd->server.sin_port = htons((uint16_t)port);
    crowd->address = fl_arena_printf(arena, "http://%s", text);
    return inet_pton(AF_INET, fl_arena_strndup(arena, text, (size_t)(colon - text)),
                     &crowd->server.sin_addr) == 1;
}

static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void stop(void *user)
{
    fl_loop_stop(user);
}

static struct member *make_member(struct crowd *crowd, struct fl_arena *arena,
                                  const struct options *options, int64_t i,
                                  struct fl_dataset **ret_data)
{
    struct fl_trainer *trainer = NULL;
    int64_t examples = 1;

    if (options->data) {
        *ret_data = open_data(crowd->env, arena,
                              fl_arena_printf(arena, "%s.%lld", options->data, (long long)i));
        trainer = make_trainer(*ret_data);
        examples = (int64_t)(*ret_data)->count;
    }
    return member_create(crowd, fl_arena_printf(arena, "learner-%05lld", (long long)i), trainer,
                         examples);
}

static int run_learners(int argc, char **argv)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_env env = fl_env_real(NULL);
    struct options options = {0};
    struct crowd crowd = {.env = &env};
    struct fl_error err = {0};
    struct member **members;
    struct fl_dataset **data;

    if (!parse(argc, argv, &options) || !parse_server(arena, &crowd, options.aggregator))
        return usage();
    crowd.frugal = options.frugal;
    raise_file_limit();
    /* Models are kept in memory here; their pages are used again. */
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 30);
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
    (void)mallopt(M_ARENA_MAX, 1);
    if (fl_loop_create(&crowd.loop, &err) < 0 ||
        fl_loop_on_signal(crowd.loop, SIGTERM, stop, crowd.loop, &err) < 0)
        die("loop", &err);
    members = fl_calloc((size_t)options.count, sizeof(struct member *));
    data = fl_calloc((size_t)options.count, sizeof(struct fl_dataset *));
    for (int64_t i = 0; i < options.count; i++)
        members[i] = make_member(&crowd, arena, &options, i, &data[i]);
    (void)printf("ready\n");
    (void)fflush(stdout);
    fl_loop_run(crowd.loop);
    _exit(0); /* what is under way on a worker is of no use any more */
}

/* --- models --- */

static int write_model(const char *path, const char *parameters, const char *tensors)
{
    int64_t all, count;
    struct fl_tensor forms[100] = {0};
    char names[100][16];
    struct fl_model *model = NULL;
    struct fl_error err = {0};

    if (!fl_str_to_int64(parameters, 1, INT64_C(10000000000), &all) ||
        !fl_str_to_int64(tensors, 1, 100, &count))
        return usage();
    for (int64_t i = 0; i < count; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "layer%lld", (long long)i);
        forms[i] = (struct fl_tensor){
            .name = names[i], .dtype = FL_DTYPE_F32, .rank = 1, .shape = {all / count}};
    }
    if (fl_model_create(forms, (size_t)count, &model, &err) < 0)
        die(path, &err);
    for (size_t i = 0; i < model->size / sizeof(float); i++)
        ((float *)model->data)[i] = 1.0F;
    if (fl_safetensors_write(model, path, &err) < 0)
        die(path, &err);
    fl_model_unref(model);
    return 0;
}

static int evaluate(const char *path, const char *data_path)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_env env = fl_env_real(NULL);
    struct fl_dataset *data = open_data(&env, arena, data_path);
    struct fl_trainer *trainer = make_trainer(data);
    struct fl_model *model = NULL;
    struct fl_evaluation result;
    struct fl_error err = {0};

    if (fl_safetensors_open(path, NULL, &model, &err) < 0 ||
        trainer->ops->evaluate(trainer, model, &result, &err) < 0)
        die(path, &err);
    (void)printf("loss %.4f accuracy %.4f\n", result.loss, result.accuracy);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "learners") == 0)
        return run_learners(argc, argv);
    if (argc >= 4 && strcmp(argv[1], "model") == 0)
        return write_model(argv[2], argv[3], argc > 4 ? argv[4] : "1");
    if (argc == 4 && strcmp(argv[1], "evaluate") == 0)
        return evaluate(argv[2], argv[3]);
    return usage();
}
