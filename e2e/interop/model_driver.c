/* Models of every form for other people's runtimes to judge: model_driver FOLDER makes, in a folder
 * for each, model.safetensors, model.onnx, mlflow/, and random examples with our probabilities for
 * them: examples.f32 and probabilities.f32, whose shapes a line on standard output tells.
 * With four words: one MLflow directory, of a safetensors file and the code that it is for. */
#include "lib/file.h"
#include "workloads/model/mlflow.h"
#include "workloads/model/model_testing.h"
#include "workloads/model/onnx.h"
#include "workloads/model/predictor.h"
#include "workloads/tensor/kernels.h"

#include <stdio.h>
#include <stdlib.h>

#define EXAMPLES 37

static int write_file(const char *folder, const char *name, const void *data, size_t len,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/%s", folder, name);

    return fl_file_write(path, data, len, 0644, err);
}

static int write_answers(const char *folder, struct fl_model *model, struct fl_error *err)
{
    FL_CLEANUP(fl_predictor_destroyp) struct fl_predictor *predictor = NULL;
    FL_CLEANUP(fl_freep) float *examples = NULL;
    FL_CLEANUP(fl_freep) float *answers = NULL;
    struct fl_random random = fl_random_from(17, 0);
    const struct fl_description *description;
    size_t width, classes;
    int r = fl_predictor_create(model, 8, &predictor, err);

    if (r < 0)
        return r;
    description = fl_predictor_description(predictor);
    width = fl_description_width(description);
    classes = (size_t)description->classes;
    examples = fl_calloc(EXAMPLES * width, sizeof(*examples));
    answers = fl_calloc(EXAMPLES * classes, sizeof(*answers));
    for (size_t i = 0; i < EXAMPLES * width; i++)
        examples[i] = (float)(4 * fl_random_uniform(&random) - 2);
    fl_predictor_predict(predictor, FL_PROBABILITIES, examples, EXAMPLES, answers);
    (void)printf("%s %d %zu", folder, EXAMPLES, classes);
    for (unsigned i = 0; i < description->rank; i++)
        (void)printf(" %lld", (long long)description->shape[i]);
    (void)printf("\n");
    r = write_file(folder, "examples.f32", examples, EXAMPLES * width * sizeof(float), err);
    return r < 0 ? r
                 : write_file(folder, "probabilities.f32", answers,
                              EXAMPLES * classes * sizeof(float), err);
}

static int write_model(const char *folder, struct fl_model *model, struct fl_error *err)
{
    const struct fl_model_note lineage = {FL_ONNX_LINEAGE "project", "default/judged"};
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *onnx = NULL;
    FL_CLEANUP(fl_freep) char *mlflow = fl_asprintf("%s/mlflow", folder);
    FL_CLEANUP(fl_freep) char *tensors = fl_asprintf("%s/model.safetensors", folder);
    const struct fl_mlflow_options options = {.path = mlflow,
                                              .model_uuid = "0123456789abcdef0123456789abcdef",
                                              .lineage = &lineage,
                                              .lineage_count = 1};
    int r = fl_dir_ensure(folder, 0755, err);

    if (r == 0)
        r = fl_safetensors_write(model, tensors, err);
    if (r == 0)
        r = fl_onnx_encode(model, &lineage, 1, &onnx, err);
    if (r == 0)
        r = write_file(folder, "model.onnx", onnx->data, onnx->len, err);
    if (r == 0)
        r = fl_mlflow_write(model, &options, err);
    return r < 0 ? r : write_answers(folder, model, err);
}

/* A model of somebody's own code. */
static int write_python(char **words)
{
    const struct fl_mlflow_python python = {
        .content = words[0], .code = words[1], .adapter = words[2]};
    const struct fl_mlflow_options options = {.path = words[3],
                                              .model_uuid = "0123456789abcdef0123456789abcdef"};
    struct fl_error err = {0};

    if (fl_mlflow_write_python(&python, &options, &err) == 0)
        return 0;
    (void)fprintf(stderr, "%s\n", err.msg);
    return 1;
}

int main(int argc, char **argv)
{
    struct fl_error err = {0};

    if (argc == 5)
        return write_python(argv + 1);
    if (argc != 2 || fl_kernels_init(&err) < 0) {
        (void)fprintf(stderr, "usage: model_driver FOLDER | CONTENT CODE ADAPTER PATH\n%s\n",
                      err.msg);
        return 2;
    }
    for (size_t i = 0; i < FL_COUNT_OF(testing_forms); i++) {
        FL_CLEANUP(fl_model_unrefp) struct fl_model *model = testing_model(&testing_forms[i]);
        FL_CLEANUP(fl_freep) char *folder = fl_asprintf("%s/%zu", argv[1], i);

        if (!model || write_model(folder, model, &err) < 0) {
            (void)fprintf(stderr, "%s: %s\n", testing_forms[i].what, err.msg);
            return 1;
        }
    }
    return 0;
}
