/* How fast updates are aggregated as an aggregator does it: from their files (in the page cache) by
 * the folding thread; beside a plain loop that maps the same files and adds the same floats. */
#include "lib/file.h"
#include "lib/loop.h"
#include "workloads/aggregator/folding.h"
#include "workloads/strategy/exact.h"
#include "workloads/tensor/safetensors.h"

#include <stdio.h>
#include <unistd.h>

#define PARAMETERS 10000000
#define UPDATES    10
#define ROUNDS     5

struct bench {
    struct fl_loop *loop;
    struct fl_folding *folding;
    char folder[64], base[FL_DIGEST_SIZE], paths[UPDATES][96];
    struct fl_model *sum; /* of the plain loop: in memory like the other's */
};

static void die(const struct fl_error *err)
{
    (void)fprintf(stderr, "folding_bench: %s\n", err->msg);
    exit(1);
}

static void folded(void *user, const struct fl_fold_result *result)
{
    struct bench *bench = user;

    if (result->err)
        die(result->err);
    if (result->kind != FL_AGGREGATOR_BEGIN && result->ticket == UPDATES)
        fl_loop_stop(bench->loop);
}

static void make_updates(struct bench *bench, struct fl_blobs *blobs)
{
    const struct fl_tensor form = {
        .name = "w", .dtype = FL_DTYPE_F32, .rank = 1, .shape = {PARAMETERS}};
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *file = NULL;
    struct fl_error err = {0};

    if (fl_model_create(&form, 1, &model, &err) < 0)
        die(&err);
    if (fl_model_like(model, false, &bench->sum, &err) < 0)
        die(&err);
    for (int u = 0; u < UPDATES; u++) {
        for (size_t i = 0; i < PARAMETERS; i++)
            ((float *)model->data)[i] = (float)(i % 1000) / 1000 + (float)u;
        (void)snprintf(bench->paths[u], sizeof(bench->paths[u]), "%s/update%d", bench->folder, u);
        if (fl_safetensors_write(model, bench->paths[u], &err) < 0)
            die(&err);
    }
    if (fl_file_read(bench->paths[0], (size_t)1 << 30, &file, &err) < 0 ||
        fl_blobs_put(blobs, file->data, file->len, true, bench->base, &err) < 0)
        die(&err);
}

static int64_t fold_updates(struct bench *bench)
{
    struct fl_round_order defaults;
    struct fl_aggregator_action action = {.kind = FL_AGGREGATOR_BEGIN};
    struct fl_exact_precision exact;
    int64_t began;

    if (fl_exact_plan(7, 1 << 16, &exact, NULL) < 0)
        exit(1);
    fl_message_init(&fl_form_round_order, &defaults);
    defaults.strategy.name = "FedAvg";
    action.begin =
        (struct fl_aggregator_begin){.base = bench->base,
                                     .strategy = &defaults.strategy,
                                     .precision = {exact.range_bits, exact.bits, exact.max_weight},
                                     .local_learning_rate = 0.1,
                                     .max_examples = 1000};
    fl_folding_do(bench->folding, &action, NULL);
    began = fl_machine_monotonic_us();
    action = (struct fl_aggregator_action){.kind = FL_AGGREGATOR_FOLD};
    action.fold = (struct fl_aggregator_fold){
        .learner = "one", .base = bench->base, .digest = bench->base, .examples = 600, .steps = 1};
    for (int u = 0; u < UPDATES; u++) {
        action.ticket = (uint64_t)u + 1;
        fl_folding_do(bench->folding, &action, bench->paths[u]);
    }
    fl_loop_run(bench->loop);
    return fl_machine_monotonic_us() - began;
}

static int64_t add_plainly(struct bench *bench)
{
    const int64_t began = fl_machine_monotonic_us();

    for (int u = 0; u < UPDATES; u++) {
        FL_CLEANUP(fl_model_unrefp) struct fl_model *update = NULL;
        struct fl_error err = {0};
        const float *x;
        float *sum = (float *)bench->sum->data;

        if (fl_safetensors_open(bench->paths[u], NULL, &update, &err) < 0)
            die(&err);
        x = (const float *)update->data;
        for (size_t i = 0; i < PARAMETERS; i++)
            sum[i] += x[i];
    }
    return fl_machine_monotonic_us() - began;
}

static void print(const char *name, int64_t us)
{
    (void)printf("%-52s %6.2f GB/s of updates\n", name,
                 (double)PARAMETERS * sizeof(float) * UPDATES / (double)us / 1e3);
}

static void measure(struct bench *bench)
{
    int64_t best_fold = INT64_MAX, best_plain = INT64_MAX, us;

    for (int round = 0; round < ROUNDS; round++) {
        us = fold_updates(bench);
        best_fold = us < best_fold ? us : best_fold;
        us = add_plainly(bench);
        best_plain = us < best_plain ? us : best_plain;
    }
    print("a plain loop adds the floats of mapped files", best_plain);
    print("the folding thread adds the same files exactly", best_fold);
    (void)printf("%-52s %6.2f\n", "times the plain loop's time",
                 (double)best_fold / (double)best_plain);
}

int main(void)
{
    const struct fl_env env = fl_env_real(NULL);
    struct bench bench = {.folder = "/tmp/folding-bench-XXXXXX"};
    FL_CLEANUP(fl_freep) char *models = NULL;
    struct fl_blobs_options blobs_options = {.env = &env, .fleeting = true};
    struct fl_blobs *blobs = NULL;
    struct fl_folding_options options = {.env = &env, .folded = folded, .user = &bench};
    struct fl_error err = {0};

    if (!mkdtemp(bench.folder))
        return 1;
    models = fl_asprintf("%s/models", bench.folder);
    blobs_options.path = models;
    if (fl_loop_create(&bench.loop, &err) < 0 || fl_blobs_open(&blobs_options, &blobs, &err) < 0)
        die(&err);
    options.loop = bench.loop;
    options.blobs = blobs;
    options.spill_dir = bench.folder;
    if (fl_folding_create(&options, &bench.folding, &err) < 0)
        die(&err);
    make_updates(&bench, blobs);
    measure(&bench);
    fl_folding_destroy(bench.folding);
    fl_blobs_close(blobs);
    fl_loop_destroy(bench.loop);
    fl_model_unref(bench.sum);
    return fl_dir_remove(bench.folder, &err) < 0;
}
