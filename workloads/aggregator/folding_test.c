/* The arithmetic on its thread: what it refuses and why, and where momenta come from. */
#include "workloads/aggregator/folding.h"

#include "lib/file.h"
#include "lib/str.h"
#include "workloads/tensor/kernels.h"
#include "workloads/tensor/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants these first */
#include <cmocka.h>

#define GENEROUS_MS 60000

struct rig {
    char path[40];
    struct fl_env env;
    struct fl_loop *loop;
    struct fl_blobs *blobs;
    struct fl_folding *folding;
    struct fl_strategy_spec rule;
    /* the last result */
    uint64_t ticket;
    int code;
    char reason[64], model[FL_DIGEST_SIZE], state[FL_DIGEST_SIZE];
    /* what became of the updates that were given together, one letter each */
    char outcomes[32];
    size_t awaited; /* results before the loop stops */
};

static void folded(void *user, const struct fl_fold_result *result)
{
    struct rig *rig = user;

    rig->ticket = result->ticket;
    rig->code = result->err ? result->err->code : 0;
    (void)snprintf(rig->reason, sizeof(rig->reason), "%s", fl_str_or(result->reason, ""));
    (void)snprintf(rig->model, sizeof(rig->model), "%s", fl_str_or(result->finished.model, ""));
    (void)snprintf(rig->state, sizeof(rig->state), "%s", fl_str_or(result->finished.state, ""));
    if (result->kind == FL_AGGREGATOR_FOLD && strlen(rig->outcomes) + 1 < sizeof(rig->outcomes))
        (void)strncat(rig->outcomes, rig->code == 0 ? "+" : fl_str_or(result->reason, "?"), 1);
    if (rig->awaited == 0 || --rig->awaited == 0)
        fl_loop_stop(rig->loop);
}

static void open_folding(struct rig *rig)
{
    const struct fl_folding_options options = {.env = &rig->env,
                                               .loop = rig->loop,
                                               .blobs = rig->blobs,
                                               .spill_dir = rig->path,
                                               .folded = folded,
                                               .user = rig};

    assert_int_equal(fl_folding_create(&options, &rig->folding, NULL), 0);
}

static int set_up(void **state)
{
    struct rig *rig = fl_calloc(1, sizeof(*rig));
    struct fl_blobs_options options = {.env = &rig->env};
    FL_CLEANUP(fl_freep) char *models = NULL;

    (void)snprintf(rig->path, sizeof(rig->path), "/tmp/folding_test.XXXXXX");
    assert_non_null(mkdtemp(rig->path));
    assert_int_equal(fl_kernels_init(NULL), 0);
    rig->env = fl_env_real(NULL);
    models = fl_asprintf("%s/models", rig->path);
    options.path = models;
    assert_int_equal(fl_blobs_open(&options, &rig->blobs, NULL), 0);
    assert_int_equal(fl_loop_create(&rig->loop, NULL), 0);
    open_folding(rig);
    rig->rule = (struct fl_strategy_spec){.name = "FedAvgM",
                                          .server_learning_rate = 1,
                                          .server_momentum = 0.5,
                                          .beta1 = (double)NAN,
                                          .beta2 = (double)NAN,
                                          .tau = (double)NAN,
                                          .q = (double)NAN,
                                          .trim_fraction = (double)NAN,
                                          .norm_bound = (double)NAN,
                                          .byzantine_learners = -1,
                                          .select_updates = -1,
                                          .max_iterations = -1,
                                          .buffer_size = -1};
    *state = rig;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    fl_folding_destroy(rig->folding);
    fl_loop_destroy(rig->loop);
    fl_blobs_close(rig->blobs);
    (void)fl_dir_remove(rig->path, NULL);
    free(rig);
    return 0;
}

static struct fl_bytes *file_of(const struct fl_model *model)
{
    size_t size;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *header = fl_safetensors_header(model, &size);
    struct fl_bytes *file = fl_bytes_new(NULL, size);

    memcpy(file->data, header->data, header->len);
    memcpy(file->data + header->len, model->data, model->size);
    return file;
}

static struct fl_bytes *model_of(size_t count, double value)
{
    const struct fl_tensor tensor = {
        .name = "w", .dtype = FL_DTYPE_F32, .rank = 1, .shape = {(int64_t)count}};
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;

    assert_int_equal(fl_model_create(&tensor, 1, &model, NULL), 0);
    for (size_t i = 0; i < count; i++)
        fl_tensor_set((struct fl_tensor *)fl_model_find(model, "w"), i, value);
    return file_of(model);
}

static void put_model(struct rig *rig, double value, char digest[FL_DIGEST_SIZE])
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *file = model_of(4, value);

    assert_int_equal(fl_blobs_put(rig->blobs, file->data, file->len, false, digest, NULL), 0);
}

static void await(struct rig *rig, uint64_t ticket)
{
    rig->ticket = 0;
    fl_loop_run_for(rig->loop, GENEROUS_MS);
    assert_int_equal(rig->ticket, ticket);
}

static void begin(struct rig *rig, const char *base, const char *state)
{
    static uint64_t tickets = 100;
    const struct fl_aggregator_action action = {
        .kind = FL_AGGREGATOR_BEGIN,
        .ticket = ++tickets,
        .begin = {.base = base,
                  .state = state && *state ? state : NULL,
                  .strategy = &rig->rule,
                  .local_learning_rate = 0.1,
                  .precision = {.range_bits = 7, .bits = 30, .max_weight = 1000}}};

    fl_folding_do(rig->folding, &action, NULL);
    await(rig, action.ticket);
}

static void fold_bytes(struct rig *rig, const void *data, size_t len, const char *learner)
{
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/update", rig->path);
    const struct fl_aggregator_action action = {
        .kind = FL_AGGREGATOR_FOLD,
        .ticket = 7,
        .fold = {.learner = learner, .examples = 10, .steps = 1, .loss_before = 1}};

    assert_int_equal(fl_file_write(path, data, len, 0600, NULL), 0);
    fl_folding_do(rig->folding, &action, path);
    await(rig, 7);
}

static void fold(struct rig *rig, size_t count, double value, const char *learner)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *file = model_of(count, value);

    fold_bytes(rig, file->data, file->len, learner);
}

static void finish(struct rig *rig)
{
    const struct fl_aggregator_action action = {.kind = FL_AGGREGATOR_FINISH, .ticket = 9};

    fl_folding_do(rig->folding, &action, NULL);
    await(rig, 9);
}

static void test_a_bad_update_is_refused_with_its_reason(void **state)
{
    static const struct {
        size_t count;
        double value;
        const char *reason;
    } cases[] = {{4, NAN, "NotFinite"}, {4, INFINITY, "NotFinite"}, {5, 1, "WrongShape"}};
    struct rig *rig = *state;
    char base[FL_DIGEST_SIZE], alone[FL_DIGEST_SIZE];

    put_model(rig, 0, base);
    begin(rig, base, NULL);
    fold(rig, 4, 1, "good");
    finish(rig);
    memcpy(alone, rig->model, sizeof(alone));
    begin(rig, base, NULL);
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        fold(rig, cases[i].count, cases[i].value, "bad");
        assert_int_equal(rig->code, FL_E_INVALID);
        assert_string_equal(rig->reason, cases[i].reason);
    }
    fold_bytes(rig, "junk", 4, "bad");
    assert_string_equal(rig->reason, "Malformed");
    fold(rig, 4, 1, "good");
    assert_int_equal(rig->code, 0);
    finish(rig);
    assert_string_equal(rig->model, alone); /* they cost the round nothing */
}

static void queue(struct rig *rig, int number, const char *data, size_t len)
{
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/update-%d", rig->path, number);
    const struct fl_aggregator_action action = {
        .kind = FL_AGGREGATOR_FOLD,
        .ticket = (uint64_t)number,
        .fold = {.learner = "l", .examples = 10, .steps = 1, .loss_before = 1}};

    assert_int_equal(fl_file_write(path, data, len, 0600, NULL), 0);
    fl_folding_do(rig->folding, &action, path);
}

/* However they meet on the thread, each has its own answer, in order, and the model is that of the
 * good ones. */
static void test_updates_that_wait_are_added_together(void **state)
{
    FL_CLEANUP(fl_bytes_unrefp)
    struct fl_bytes *good = model_of(4, 1), *wide = model_of(5, 1), *nan = model_of(4, NAN);
    struct rig *rig = *state;
    char base[FL_DIGEST_SIZE], alone[FL_DIGEST_SIZE];

    put_model(rig, 0, base);
    begin(rig, base, NULL);
    for (int i = 0; i < 4; i++)
        fold(rig, 4, 1, "good");
    finish(rig);
    memcpy(alone, rig->model, sizeof(alone));
    for (int round = 0; round < 20; round++) {
        const struct fl_bytes *const given[] = {good, nan, good, wide, wide, good, nan, good};

        begin(rig, base, NULL);
        rig->outcomes[0] = '\0';
        rig->awaited = FL_COUNT_OF(given) + 1;
        for (size_t i = 0; i < FL_COUNT_OF(given); i++)
            queue(rig, (int)i + 1, given[i]->data, given[i]->len);
        queue(rig, 99, "junk", 4);
        await(rig, 99);
        assert_string_equal(rig->outcomes, "+N+WW+N+M");
        finish(rig);
        assert_string_equal(rig->model, alone);
    }
}

/* The same model whether the process lived on or not, and whatever was finished and thrown away. */
static void test_momenta_are_those_that_are_named(void **state)
{
    struct rig *rig = *state;
    char base[FL_DIGEST_SIZE], first[FL_DIGEST_SIZE], momenta[FL_DIGEST_SIZE],
        second[FL_DIGEST_SIZE];

    put_model(rig, 0, base);
    begin(rig, base, NULL);
    fold(rig, 4, 1, "l");
    finish(rig);
    memcpy(first, rig->model, sizeof(first));
    memcpy(momenta, rig->state, sizeof(momenta));
    assert_true(*momenta);
    begin(rig, first, momenta);
    fold(rig, 4, 3, "l");
    finish(rig);
    memcpy(second, rig->model, sizeof(second));
    for (int life = 0; life < 2; life++) { /* what was made is not committed: once more */
        begin(rig, first, momenta);
        assert_int_equal(rig->code, 0);
        fold(rig, 4, 3, "l");
        finish(rig);
        assert_string_equal(rig->model, second);
        fl_folding_destroy(rig->folding);
        open_folding(rig);
    }
    begin(rig, first, NULL); /* without them it is another */
    fold(rig, 4, 3, "l");
    finish(rig);
    assert_string_not_equal(rig->model, second);
}

static void test_what_is_out_of_order_is_refused(void **state)
{
    struct rig *rig = *state;
    char base[FL_DIGEST_SIZE], absent[FL_DIGEST_SIZE];

    fl_digest_of("absent", 6, absent);
    begin(rig, absent, NULL);
    assert_int_equal(rig->code, FL_E_NOT_FOUND);
    fold(rig, 4, 1, "l");
    assert_int_equal(rig->code, FL_E_CONFLICT);
    finish(rig);
    assert_int_equal(rig->code, FL_E_CONFLICT);
    put_model(rig, 0, base);
    begin(rig, base, absent);
    assert_int_equal(rig->code, FL_E_NOT_FOUND);
    begin(rig, base, NULL);
    assert_int_equal(rig->code, 0);
}

/* Jobs that wait go with it, one that is done is not delivered. */
static void test_it_ends_in_the_middle(void **state)
{
    struct rig *rig = *state;
    char base[FL_DIGEST_SIZE];

    put_model(rig, 0, base);
    for (int i = 0; i < 20; i++) {
        const struct fl_aggregator_action action = {
            .kind = FL_AGGREGATOR_BEGIN,
            .ticket = 1,
            .begin = {.base = base,
                      .strategy = &rig->rule,
                      .precision = {.range_bits = 7, .bits = 30, .max_weight = 1000}}};

        fl_folding_do(rig->folding, &action, NULL);
        fl_folding_do(rig->folding, &action, NULL);
        rig->ticket = 0;
        fl_folding_destroy(rig->folding);
        fl_loop_run_for(rig->loop, 1);
        assert_int_equal(rig->ticket, 0);
        open_folding(rig);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_bad_update_is_refused_with_its_reason),
        TEST(test_updates_that_wait_are_added_together),
        TEST(test_momenta_are_those_that_are_named),
        TEST(test_what_is_out_of_order_is_refused),
        TEST(test_it_ends_in_the_middle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
