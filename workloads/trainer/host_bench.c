/* host_bench PROGRAM [ARG...]: what a trainer that is a program costs its learner, by models that
 * it gives back as they are: a small one for what a request costs, 40 MB for what moving them
 * costs, checks of what comes back included. */
#include "workloads/trainer/host.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define TIMES_MAX 200

static double now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1000 + (double)now.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double fit(struct fl_trainer *trainer, const struct fl_model *model)
{
    const struct fl_fit_options options = {.epochs = 1, .batch_size = 10, .learning_rate = 0.1};
    struct fl_fit_result result = {0};
    struct fl_error err = {0};
    double began = now_ms();

    if (trainer->ops->fit(trainer, model, &options, &result, &err) < 0) {
        (void)fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
    fl_model_unref(result.model);
    json_decref(result.metrics);
    return now_ms() - began;
}

static void measure(struct fl_trainer *trainer, const char *what, int64_t floats, size_t times)
{
    const struct fl_tensor form = {
        .name = "0", .dtype = FL_DTYPE_F32, .rank = 1, .shape = {floats}};
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    double took[TIMES_MAX];

    if (fl_model_create(&form, 1, &model, NULL) < 0)
        exit(1);
    (void)fit(trainer, model);
    for (size_t i = 0; i < times; i++)
        took[i] = fit(trainer, model);
    qsort(took, times, sizeof(*took), compare);
    (void)printf("%s: median %.2f ms, least %.2f ms, 95 %% %.2f ms\n", what, took[times / 2],
                 took[0], took[times * 95 / 100]);
}

int main(int argc, char **argv)
{
    const struct fl_env env = fl_env_real(NULL);
    const struct fl_trainer_program program = {.argv = (const char *const *)argv + 1,
                                               .environ = (const char *const *)environ};
    struct fl_trainer *trainer = NULL;
    struct fl_error err = {0};

    if (argc < 2 || fl_trainer_start(&program, &env, &trainer, &err) < 0) {
        (void)fprintf(stderr, "host_bench PROGRAM [ARG...]: %s\n", err.msg);
        return 2;
    }
    measure(trainer, "no-op round, 4 KB model", 1000, TIMES_MAX);
    measure(trainer, "40 MB model to the program and back, checked", 10000000, 20);
    trainer->ops->destroy(trainer);
    return 0;
}
