/* How fast updates are added up, beside a plain loop that only adds the same floats. */
#include "lib/env.h"
#include "workloads/strategy/exact.h"

#include <stdio.h>

#define PARAMETERS 10000000
#define ROUNDS     20

static void plain(size_t n, const float *x, float *sum)
{
    for (size_t i = 0; i < n; i++)
        sum[i] += x[i];
}

static double per_second(int64_t began_us)
{
    double seconds = (double)(fl_machine_monotonic_us() - began_us) / 1e6;

    return (double)PARAMETERS * sizeof(float) * ROUNDS / seconds / 1e9;
}

int main(void)
{
    const struct fl_tensor form = {
        .name = "w", .dtype = FL_DTYPE_F32, .rank = 1, .shape = {PARAMETERS}};
    FL_CLEANUP(fl_model_unrefp) struct fl_model *update = NULL;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *sum = NULL;
    FL_CLEANUP(fl_exact_destroyp) struct fl_exact *exact = NULL;
    struct fl_exact_precision precision;
    int64_t began;

    if (fl_model_create(&form, 1, &update, NULL) < 0 || fl_model_create(&form, 1, &sum, NULL) < 0 ||
        fl_exact_plan(4, 1 << 20, &precision, NULL) < 0 ||
        fl_exact_create(update, &precision, &exact, NULL) < 0)
        return 1;
    for (size_t i = 0; i < PARAMETERS; i++)
        ((float *)update->data)[i] = (float)(i % 1000) / 1000;
    plain(PARAMETERS, (const float *)update->data, (float *)sum->data);
    (void)fl_exact_fold(exact, update, 1.0, 1, NULL);
    began = fl_machine_monotonic_us();
    for (int i = 0; i < ROUNDS; i++)
        plain(PARAMETERS, (const float *)update->data, (float *)sum->data);
    (void)printf("plain float loop  %6.2f GB/s of updates\n", per_second(began));
    began = fl_machine_monotonic_us();
    for (int i = 0; i < ROUNDS; i++)
        (void)fl_exact_fold(exact, update, 1.0, 600, NULL);
    (void)printf("exact sums        %6.2f GB/s of updates\n", per_second(began));
    return 0;
}
