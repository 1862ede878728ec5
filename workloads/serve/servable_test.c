/* What every driver of predictor_driver.h must keep, held against each; and what is made of it. */
#include "workloads/serve/servable.h"

#include "lib/buf.h"
#include "workloads/model/predictor.h"
#include "workloads/serve/program.h"
#include "workloads/tensor/kernels.h"
#include "workloads/tensor/safetensors.h"
#include "workloads/trainer/host.h"
#include "workloads/trainer/predicting_testing.h"
#include "workloads/trainer/trainer_testing.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#define SEATS 3
#define BATCH 4
#define ROWS  10

static const struct fl_patterns patterns = {
    .count = ROWS, .height = 5, .width = 4, .channels = 1, .classes = 3, .noise = 1, .seed = 4};

static struct fl_env env;
static const char *const argv_of_program[] = {"/proc/self/exe", "predictor", "native", NULL};
static struct fl_trainer_program program = {.argv = argv_of_program};

static int begin(void **state)
{
    (void)state;
    env = fl_env_real(NULL);
    program.environ = (const char *const *)environ;
    return fl_kernels_init(NULL);
}

/* A file of each driver, and what its model answers to the patterns. */
struct sample {
    const struct fl_predictor_ops *ops;
    struct fl_buf file;
    struct fl_dataset data;
    float answers[ROWS * 3];
};

static void write_file(const struct fl_model *model, struct fl_buf *out)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *header = NULL;
    size_t size;

    header = fl_safetensors_header(model, &size);
    fl_buf_append(out, header->data, header->len);
    fl_buf_append(out, model->data, model->size);
    assert_int_equal(out->len, size);
}

static void native_sample(struct sample *sample)
{
    FL_CLEANUP(fl_predictor_destroyp) struct fl_predictor *predictor = NULL;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    struct fl_trainer *trainer = NULL;

    *sample = (struct sample){.ops = &fl_native_predictor};
    fl_patterns_make(&patterns, &sample->data);
    assert_int_equal(fl_trainer_find("MLP")->create(NULL, &sample->data, &trainer, NULL), 0);
    assert_int_equal(trainer->ops->init(trainer, 3, &model, NULL), 0);
    write_file(model, &sample->file);
    assert_int_equal(fl_predictor_create(model, 0, &predictor, NULL), 0);
    fl_predictor_predict(predictor, FL_PROBABILITIES, sample->data.features, ROWS, sample->answers);
    trainer->ops->destroy(trainer);
}

/* The same model, behind a socket. */
static void program_sample(struct sample *sample)
{
    native_sample(sample);
    sample->ops = &fl_program_predictor;
}

static void sample_finish(struct sample *sample)
{
    fl_buf_finish(&sample->file);
    fl_patterns_finish(&sample->data);
}

static void (*const samples[])(struct sample *sample) = {native_sample, program_sample};

static void assert_answers(const struct sample *sample, const float *answers, size_t first,
                           size_t count)
{
    for (size_t i = 0; i < count * 3; i++)
        assert_true(fabsf(answers[i] - sample->answers[first * 3 + i]) < 1e-5F);
}

static void drivers_keep_the_contract(void **state)
{
    (void)state;
    for (size_t s = 0; s < FL_COUNT_OF(samples); s++) {
        FL_CLEANUP(sample_finish) struct sample sample;
        float answers[ROWS * 3];
        void *model = NULL;
        struct fl_predictor_source source;

        samples[s](&sample);
        source = (struct fl_predictor_source){.data = sample.file.data,
                                              .len = sample.file.len,
                                              .seats = SEATS,
                                              .max_batch = BATCH,
                                              .program = &program,
                                              .env = &env};
        assert_true(sample.ops->knows(sample.file.data, sample.file.len));
        assert_false(sample.ops->knows("", 0));
        assert_false(sample.ops->knows("<html><body></body></html>", 26));
        assert_int_equal(sample.ops->load(&source, &model, NULL), 0);
        memset(sample.file.data, 0xFF, sample.file.len); /* lent for the call only */
        assert_int_equal(sample.ops->signature(model)->width, 20);
        assert_int_equal(sample.ops->signature(model)->classes, 3);
        assert_int_equal(sample.ops->signature(model)->rank, 3);
        assert_true(strlen(sample.ops->platform(model)) > 0);
        for (unsigned seat = 0; seat < SEATS; seat++)
            for (size_t count = 1; count <= ROWS; count += 3) { /* below the batch and above */
                assert_int_equal(sample.ops->predict(model, seat,
                                                     sample.data.features + 20 * (ROWS - count),
                                                     count, answers, NULL),
                                 0);
                assert_answers(&sample, answers, ROWS - count, count);
            }
        sample.ops->destroy(model);
        sample.ops->destroy(NULL);
    }
}

/* Cut off anywhere, or with a byte changed in its header: an error that says something, or a model
 * all the same; never a crash. */
static void drivers_refuse_what_is_broken(void **state)
{
    (void)state;
    for (size_t s = 0; s < FL_COUNT_OF(samples); s++) {
        FL_CLEANUP(sample_finish) struct sample sample;

        samples[s](&sample);
        for (size_t i = 0; i < 200; i += sample.ops->waits ? 20 : 1) {
            struct fl_predictor_source source = {.data = sample.file.data,
                                                 .len = i * 7,
                                                 .seats = 1,
                                                 .max_batch = 1,
                                                 .program = &program,
                                                 .env = &env};
            struct fl_error err = {0};
            void *model = NULL;

            assert_true(sample.ops->load(&source, &model, &err) < 0);
            assert_true(err.code < 0 && *err.msg && !model);
            sample.file.data[i] ^= 0x15;
            source.len = sample.file.len;
            if (sample.ops->load(&source, &model, &err) == 0)
                sample.ops->destroy(model);
            sample.file.data[i] ^= 0x15;
        }
    }
}

static void a_servable_is_warm_and_named(void **state)
{
    FL_CLEANUP(fl_servable_unrefp) struct fl_servable *served = NULL;
    FL_CLEANUP(sample_finish) struct sample sample;
    struct fl_servable_options options = {.seats = SEATS, .max_batch = BATCH};
    char digest[FL_DIGEST_SIZE];
    float answers[ROWS * 3];

    (void)state;
    native_sample(&sample);
    fl_digest_of(sample.file.data, sample.file.len, digest);
    options.expected_digest = digest;
    assert_int_equal(fl_servable_load(&options, sample.file.data, sample.file.len, &served, NULL),
                     0);
    assert_string_equal(fl_servable_digest(served), digest);
    assert_string_equal(fl_servable_platform(served), "flops_mlp");
    assert_true(fl_servable_run_us(served, 1) < 1e9);
    assert_true(fl_servable_run_us(served, 100) >= fl_servable_run_us(served, 1));
    assert_int_equal(fl_servable_predict(served, 2, sample.data.features, ROWS, answers, NULL), 0);
    assert_answers(&sample, answers, 0, ROWS);
}

/* Two numbers a row, of a model that does not say what it is. */
static void what_says_nothing_is_for_a_program(void **state)
{
    static const char file[] = "\x38\0\0\0\0\0\0\0{\"w\":{\"dtype\":\"F32\",\"shape\":[1],"
                               "\"data_offsets\":[0,4]}}  \0\0\0";
    static const char *const argv[] = {"/proc/self/exe", "predictor", "good", NULL};
    const struct fl_trainer_program good = {.argv = argv, .environ = program.environ};
    FL_CLEANUP(fl_servable_unrefp) struct fl_servable *served = NULL;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    struct fl_servable_options options = {.seats = 2, .max_batch = BATCH, .env = &env};
    struct fl_error err = {0};
    const float rows[] = {1, 2};
    float answer = 0;

    (void)state;
    assert_int_equal(fl_safetensors_read(file, sizeof(file), NULL, &model, &err), 0);
    assert_int_equal(fl_servable_load(&options, file, sizeof(file), &served, &err), FL_E_NOT_FOUND);
    options.program = &good;
    assert_int_equal(fl_servable_load(&options, file, sizeof(file), &served, &err), 0);
    assert_string_equal(fl_servable_platform(served), "flops_program");
    assert_true(isinf(fl_servable_run_us(served, 1)));
    assert_int_equal(fl_servable_predict(served, 1, rows, 1, &answer, &err), 0);
    assert_float_equal(answer, 1 + 2 + 0x38, 0);
}

static void what_cannot_be_served_says_why(void **state)
{
    FL_CLEANUP(sample_finish) struct sample sample;
    struct fl_servable_options options = {
        .expected_digest =
            "sha256:0000000000000000000000000000000000000000000000000000000000000000"};
    struct fl_servable *served = NULL;
    struct fl_error err = {0};

    (void)state;
    native_sample(&sample);
    assert_int_equal(fl_servable_load(&options, sample.file.data, sample.file.len, &served, &err),
                     FL_E_INVALID);
    assert_non_null(strstr(err.msg, "is expected"));
    options.expected_digest = NULL;
    assert_int_equal(fl_servable_load(&options, "<html>", 6, &served, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "no safetensors"));
    assert_int_equal(fl_servable_load(&options, sample.file.data, 100, &served, &err),
                     FL_E_INVALID);
    assert_non_null(strstr(err.msg, "cannot be served"));
    assert_null(served);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drivers_keep_the_contract),
        cmocka_unit_test(drivers_refuse_what_is_broken),
        cmocka_unit_test(a_servable_is_warm_and_named),
        cmocka_unit_test(what_says_nothing_is_for_a_program),
        cmocka_unit_test(what_cannot_be_served_says_why),
    };

    if (argc == 3 && strcmp(argv[1], "predictor") == 0)
        return fl_predicting_main(argv[2]);
    return cmocka_run_group_tests(tests, begin, NULL);
}
