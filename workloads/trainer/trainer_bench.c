/* Samples a second of each trainer, beside the same multiplications and additions done by one large
 * matrix product: how near training comes to what the machine can do. */
#include "lib/env.h"
#include "workloads/tensor/kernels.h"
#include "workloads/trainer/trainer.h"
#include "workloads/trainer/trainer_testing.h"

#include <stdio.h>
#include <stdlib.h>

#define SIDE    1024 /* of the yardstick's matrices */
#define SECONDS 1.0

static double seconds_since(int64_t began_us)
{
    return (double)(fl_machine_monotonic_us() - began_us) / 1e6;
}

/* Floating-point operations a second of sgemm. */
static double measure_machine(void)
{
    float *a = fl_calloc(SIDE * SIDE, sizeof(float)), *b = fl_calloc(SIDE * SIDE, sizeof(float));
    float *c = fl_calloc(SIDE * SIDE, sizeof(float));
    int64_t began;
    double rate;
    int times = 0;

    fl_k_gemm(false, false, SIDE, SIDE, SIDE, 1, a, b, 0, c);
    began = fl_machine_monotonic_us();
    do {
        fl_k_gemm(false, false, SIDE, SIDE, SIDE, 1, a, b, 0, c);
        times++;
    } while (seconds_since(began) < SECONDS);
    rate = 2.0 * SIDE * SIDE * SIDE * times / seconds_since(began);
    free(a);
    free(b);
    free(c);
    return rate;
}

struct task {
    const char *name;
    int64_t batch_size;
    double momentum, proximal_mu;
    double flop; /* of a sample, forward and backward, products only */
};

#define SOFTMAX_FLOP (2.0 * 2 * 7840)
#define MLP_FLOP     (2.0 * (2 * 784 * 200 + 3 * 200 * 200 + 3 * 200 * 10))
#define CNN_FLOP     (2.0 * (2 * 25 * 32 * 784 + 3 * 800 * 64 * 196 + 3 * 3136 * 512 + 3 * 512 * 10))

static void run(const struct task *task, struct fl_dataset *data, double machine)
{
    const struct fl_fit_options options = {.epochs = 1,
                                           .batch_size = task->batch_size,
                                           .learning_rate = 0.01,
                                           .momentum = task->momentum,
                                           .proximal_mu = task->proximal_mu,
                                           .without_loss_before = true};
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    struct fl_trainer *trainer = NULL;
    struct fl_evaluation evaluation;
    double rate, seconds;
    int64_t began, samples = 0;

    if (fl_trainer_find(task->name)->create(NULL, data, &trainer, NULL) < 0 ||
        trainer->ops->init(trainer, 1, &model, NULL) < 0)
        exit(1);
    began = fl_machine_monotonic_us();
    do {
        struct fl_fit_result result;

        if (trainer->ops->fit(trainer, model, &options, &result, NULL) < 0)
            exit(1);
        samples += result.examples;
        fl_model_unref(result.model);
        seconds = seconds_since(began);
    } while (seconds < SECONDS);
    rate = (double)samples / seconds;
    began = fl_machine_monotonic_us();
    (void)trainer->ops->evaluate(trainer, model, &evaluation, NULL);
    (void)printf("%-18s B=%-4lld m=%.1f mu=%.1f  %10.0f samples/s  %6.2f GFLOP/s  %5.1f %% of sgemm"
                 "   evaluates %9.0f/s\n",
                 task->name, (long long)task->batch_size, task->momentum, task->proximal_mu, rate,
                 rate * task->flop / 1e9, 100 * rate * task->flop / machine,
                 (double)evaluation.examples / seconds_since(began));
    trainer->ops->destroy(trainer);
}

int main(int argc, char **argv)
{
    static const struct task tasks[] = {
        {"SoftmaxRegression", 10, 0, 0, SOFTMAX_FLOP},
        {"SoftmaxRegression", 0, 0, 0, SOFTMAX_FLOP},
        {"MLP", 10, 0, 0, MLP_FLOP},
        {"MLP", 10, 0.9, 0, MLP_FLOP},
        {"MLP", 10, 0, 0.1, MLP_FLOP},
        {"MLP", 50, 0, 0, MLP_FLOP},
        {"MLP", 0, 0, 0, MLP_FLOP},
        {"CNN", 10, 0, 0, CNN_FLOP},
        {"CNN", 50, 0, 0, CNN_FLOP},
        {"CNN", 10, 0.9, 0, CNN_FLOP},
    };
    const struct fl_patterns patterns = {
        .count = 600, .height = 28, .width = 28, .classes = 10, .noise = 1, .seed = 1};
    struct fl_dataset data;
    double machine;

    if (fl_kernels_init(NULL) < 0)
        return 1;
    machine = measure_machine();
    (void)printf("sgemm %d x %d: %.1f GFLOP/s\n", SIDE, SIDE, machine / 1e9);
    fl_patterns_make(&patterns, &data);
    for (size_t i = 0; i < FL_COUNT_OF(tasks); i++)
        if (argc < 2 || (size_t)atoi(argv[1]) == i)
            run(&tasks[i], &data, machine);
    fl_patterns_finish(&data);
    return 0;
}
