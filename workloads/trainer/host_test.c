/* Programs that train well and programs that do not: each is this one, started again with the name
 * of what it shall do. */
#include "workloads/trainer/host.h"

#include "lib/file.h"
#include "lib/process.h"
#include "lib/str.h"
#include "workloads/tensor/kernels.h"
#include "workloads/trainer/guest.h"
#include "workloads/trainer/link.h"
#include "workloads/trainer/trainer_testing.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
/* cmocka wants these first */
#include <cmocka.h>

#define LONG_MS  60000
#define SHORT_MS 300

static struct fl_env env;

static const struct fl_patterns patterns = {
    .count = 200, .height = 8, .width = 8, .classes = 10, .noise = 1, .seed = 3, .pattern_seed = 9};

/* Children */

static int (*real_fit)(struct fl_trainer *self, const struct fl_model *base,
                       const struct fl_fit_options *options, struct fl_fit_result *ret_result,
                       struct fl_error *err);
static const char *role;

static void take_memory(void)
{
    for (int i = 0; i < 2048; i++) {
        volatile char *piece = malloc(1 << 20);

        for (size_t at = 0; piece && at < 1 << 20; at += 1024)
            piece[at] = 1;
    }
    (void)pause();
}

static void misbehave(void)
{
    if (strcmp(role, "crash") == 0)
        (void)raise(SIGABRT);
    if (strcmp(role, "exit") == 0) {
        (void)write(2, "Traceback:\nKeyError: 'pixels'\n", 30);
        _exit(3);
    }
    if (strcmp(role, "hang") == 0)
        (void)pause();
    if (strcmp(role, "balloon") == 0)
        take_memory();
    if (strcmp(role, "garbage") == 0)
        (void)write(FL_TRAINER_FD, "Epoch 1/5: loss 0.3\nEpoch 2/5: loss 0.2\n", 40);
    if (strcmp(role, "close") == 0) {
        (void)close(FL_TRAINER_FD);
        (void)pause();
    }
}

static bool never(void *user)
{
    (void)user;
    return false;
}

static void spoil(struct fl_fit_result *result)
{
    if (strcmp(role, "nan") == 0)
        ((float *)result->model->data)[7] = NAN;
    if (strcmp(role, "empty") == 0)
        result->examples = 0;
    if (strcmp(role, "shape") == 0) {
        const struct fl_tensor other = {
            .name = "w", .dtype = FL_DTYPE_F32, .rank = 1, .shape = {3}};

        fl_model_unref(result->model);
        (void)fl_model_create(&other, 1, &result->model, NULL);
    }
}

static int fit_somehow(struct fl_trainer *self, const struct fl_model *base,
                       const struct fl_fit_options *options, struct fl_fit_result *ret_result,
                       struct fl_error *err)
{
    struct fl_fit_options changed = *options;
    int r;

    misbehave();
    if (strcmp(role, "deaf") == 0)
        changed.cancelled = never;
    while (strcmp(role, "slow") == 0)
        options->progress(options->user, 1, 2);
    if (strcmp(role, "chatter") == 0)
        for (int i = 0; i < 20000; i++)
            (void)write(1, "a line that nobody asked for\n", 29);
    r = real_fit(self, base, &changed, ret_result, err);
    if (r == 0)
        spoil(ret_result);
    return r;
}

/* Answers hello by itself, then says that a body comes which is as large as nothing is; or sends
 * memory that can still shrink. */
static int speak_badly(void)
{
    const struct fl_frame hello = {.type = FL_FRAME_RESULT, .id = 1};
    const struct fl_frame large = {
        .type = FL_FRAME_RESULT, .id = 2, .body_size = (uint64_t)1 << 50};
    const struct fl_frame shared = {
        .type = FL_FRAME_RESULT, .id = 2, .body_size = 100, .flags = FL_FRAME_DESCRIPTOR};
    const struct fl_frame other = {.type = FL_FRAME_RESULT, .id = 77};
    const struct fl_frame *second = strcmp(role, "large") == 0      ? &large
                                    : strcmp(role, "unsealed") == 0 ? &shared
                                                                    : &other;
    static const char head[] = "{\"version\":1,\"descriptors\":true}";
    unsigned char header[FL_TRAINER_HEADER_SIZE];
    struct iovec part = {header, sizeof(header)};
    int memory = memfd_create("open", MFD_ALLOW_SEALING);
    size_t sent;
    char ignored[65536];

    (void)ftruncate(memory, 100);
    fl_frame_header(&hello, strlen(head), header);
    (void)write(FL_TRAINER_FD, header, sizeof(header));
    (void)write(FL_TRAINER_FD, head, strlen(head));
    for (int i = 0; i < 4; i++) /* the hello, and what begins the next request */
        (void)read(FL_TRAINER_FD, ignored, i < 3 ? 24 : sizeof(ignored));
    fl_frame_header(second, 0, header);
    (void)fl_channel_send(FL_TRAINER_FD, &part, 1, second == &shared ? memory : -1, &sent, NULL);
    (void)pause();
    return 0;
}

static void answer(unsigned type, uint32_t id, const char *head)
{
    const struct fl_frame frame = {.type = type, .id = id};
    unsigned char header[FL_TRAINER_HEADER_SIZE];

    fl_frame_header(&frame, strlen(head), header);
    (void)write(FL_TRAINER_FD, header, sizeof(header));
    (void)write(FL_TRAINER_FD, head, strlen(head));
}

/* Writes down what hello said, and answers all else with an error that has a traceback. */
static int tell_all(void)
{
    unsigned char header[FL_TRAINER_HEADER_SIZE];
    char head[4096];

    for (uint32_t id = 1; read(FL_TRAINER_FD, header, sizeof(header)) == sizeof(header); id++) {
        size_t size = header[12] + ((size_t)header[13] << 8);

        if (read(FL_TRAINER_FD, head, size) != (ssize_t)size)
            return 7;
        if (id == 1) {
            (void)write(1, head, size);
            (void)write(1, "\n", 1);
            answer(FL_FRAME_RESULT, id, "{\"version\":1}");
        } else if (header[4] == FL_FRAME_STOP) {
            answer(FL_FRAME_RESULT, id, "{}");
            return 0;
        } else {
            answer(FL_FRAME_ERROR, id,
                   "{\"message\":\"pixels\",\"reason\":\"KeyError\","
                   "\"traceback\":\"Traceback:\\n  line 1\\nKeyError: pixels\"}");
        }
    }
    return 6;
}

static int serve(void)
{
    const struct fl_error why = {FL_E_NOT_FOUND, "there is no data of tag mnist"};
    struct fl_trainer_ops ops = *fl_trainer_find("MLP");
    struct fl_trainer *trainer = NULL;
    struct fl_dataset data;
    int r;

    env = fl_env_real(NULL);
    if (strcmp(role, "silent") == 0)
        (void)pause();
    if (strcmp(role, "tell") == 0)
        return tell_all();
    if (strcmp(role, "refuse") == 0) {
        fl_trainer_refuse(FL_TRAINER_FD, &env, &why);
        return 0;
    }
    if (strcmp(role, "large") == 0 || strcmp(role, "unsealed") == 0 || strcmp(role, "other") == 0)
        return speak_badly();
    fl_patterns_make(&patterns, &data);
    r = ops.create(NULL, &data, &trainer, NULL);
    if (r < 0)
        return 9;
    real_fit = ops.fit;
    ops.fit = fit_somehow;
    trainer->ops = &ops;
    r = fl_trainer_serve(FL_TRAINER_FD, &env, trainer, (int64_t)data.count, NULL);
    ops.destroy(trainer);
    fl_patterns_finish(&data);
    return r < 0 ? 8 : 0;
}

/* The host's tests */

struct lines {
    int count;
    char first[256], last[128];
};

static void on_line(void *user, const char *line)
{
    struct lines *lines = user;

    if (lines->count++ == 0)
        (void)snprintf(lines->first, sizeof(lines->first), "%.250s", line);
    (void)snprintf(lines->last, sizeof(lines->last), "%.100s", line);
}

static struct fl_trainer_program program_for(const char *const *argv, struct lines *lines)
{
    static const char *const nothing[] = {"ASAN_OPTIONS=detect_leaks=0", NULL};

    return (struct fl_trainer_program){.argv = argv,
                                       .environ = nothing,
                                       .start_timeout_ms = LONG_MS,
                                       .silence_timeout_ms = LONG_MS,
                                       .cancel_timeout_ms = LONG_MS,
                                       .output = on_line,
                                       .user = lines};
}

static void destroy_trainer(struct fl_trainer **trainer)
{
    if (*trainer)
        (*trainer)->ops->destroy(*trainer);
}
#define TRAINER FL_CLEANUP(destroy_trainer) struct fl_trainer *

static struct fl_trainer *start(const char *name, struct lines *lines)
{
    const char *const argv[] = {"/proc/self/exe", "child", name, NULL};
    struct fl_trainer_program program = program_for(argv, lines);
    struct fl_trainer *trainer = NULL;
    struct fl_error err = {0};

    if (strcmp(name, "hang") == 0)
        program.silence_timeout_ms = SHORT_MS;
    if (strcmp(name, "deaf") == 0 || strcmp(name, "close") == 0 || strcmp(name, "unsealed") == 0)
        program.cancel_timeout_ms = SHORT_MS;
    if (strcmp(name, "slow") == 0)
        program.work_timeout_ms = SHORT_MS;
    if (strcmp(name, "balloon") == 0)
        program.max_memory_bytes = (uint64_t)400 << 20;
    if (fl_trainer_start(&program, &env, &trainer, &err) < 0)
        fail_msg("%s", err.msg);
    return trainer;
}

static const struct fl_fit_options usual = {
    .epochs = 2, .batch_size = 10, .learning_rate = 0.05, .seed = 7};

/* Behind the protocol, a trainer gives the same bits as in this process. */
static void a_program_trains_like_one_of_ours(void **state)
{
    struct lines lines = {0};
    TRAINER program = start("good", &lines);
    TRAINER native = NULL;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *base = NULL, *same = NULL;
    struct fl_fit_result far = {0}, near = {0};
    struct fl_evaluation judged = {0};
    struct fl_dataset data;

    (void)state;
    fl_patterns_make(&patterns, &data);
    assert_int_equal(fl_trainer_find("MLP")->create(NULL, &data, &native, NULL), 0);
    assert_string_equal(fl_trainer_name(program), "MLP");
    assert_int_equal(fl_trainer_examples(program), 200);
    assert_true(fl_trainer_can(program, "fit"));
    assert_false(fl_trainer_can(program, "export"));
    assert_int_equal(program->ops->init(program, 5, &base, NULL), 0);
    assert_int_equal(native->ops->init(native, 5, &same, NULL), 0);
    assert_memory_equal(base->data, same->data, same->size);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(program->ops->fit(program, base, &usual, &far, NULL), 0);
        assert_int_equal(native->ops->fit(native, base, &usual, &near, NULL), 0);
        assert_memory_equal(far.model->data, near.model->data, near.model->size);
        assert_int_equal(far.examples, 200);
        assert_int_equal(far.steps, near.steps);
        assert_true(far.loss == near.loss && far.loss_before == near.loss_before);
        fl_model_unref(base);
        base = far.model;
        fl_model_unref(near.model);
    }
    assert_int_equal(program->ops->evaluate(program, base, &judged, NULL), 0);
    assert_true(judged.accuracy > 0.95);
    assert_string_equal(fl_trainer_last_failure(program)->reason, "");
    fl_patterns_finish(&data);
}

static void how_programs_fail_is_told(void **state)
{
    static const struct {
        const char *role;
        int code;
        const char *reason, *message;
        bool lives;
    } cases[] = {
        {"crash", FL_E_UNAVAILABLE, FL_TRAINER_CRASHED, "it was ended by SIGABRT", false},
        {"exit", FL_E_UNAVAILABLE, FL_TRAINER_EXITED,
         "it exited with status 3; the last line it wrote: KeyError: 'pixels'", false},
        {"hang", FL_E_UNAVAILABLE, FL_TRAINER_HUNG, "it said nothing for ", false},
        {"slow", FL_E_UNAVAILABLE, FL_TRAINER_TOO_SLOW, " ms when asked to FIT", false},
        {"balloon", FL_E_UNAVAILABLE, FL_TRAINER_TOO_BIG, " MiB of memory, more than 400", false},
        {"garbage", FL_E_INTERNAL, FL_TRAINER_PROTOCOL, "what came is no frame", false},
        {"close", FL_E_INTERNAL, FL_TRAINER_PROTOCOL, "it closed its connection and went on",
         false},
        {"large", FL_E_INTERNAL, FL_TRAINER_PROTOCOL, "a frame's body of ", false},
        {"other", FL_E_INTERNAL, FL_TRAINER_PROTOCOL,
         "it sent RESULT for request 77, which was not awaited", false},
        {"unsealed", FL_E_INVALID, FL_TRAINER_BAD_RESULT, "the memory is not sealed", true},
        {"nan", FL_E_INVALID, FL_TRAINER_BAD_RESULT, "", true},
        {"shape", FL_E_INVALID, FL_TRAINER_BAD_RESULT, "", true},
        {"empty", FL_E_INVALID, FL_TRAINER_BAD_RESULT, "examples must be above 0", true},
    };
    struct lines ignored = {0};
    TRAINER good = NULL;
    FL_CLEANUP(fl_model_unrefp) struct fl_model *base = NULL;

    (void)state;
    good = start("good", &ignored);
    assert_int_equal(good->ops->init(good, 5, &base, NULL), 0);
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct lines lines = {0};
        TRAINER trainer = start(cases[i].role, &lines);
        const struct fl_trainer_failure *failure = fl_trainer_last_failure(trainer);
        struct fl_fit_result result = {0};
        struct fl_error err = {0};
        int r = trainer->ops->fit(trainer, base, &usual, &result, &err);

        if (r != cases[i].code || strcmp(failure->reason, cases[i].reason) != 0 ||
            !strstr(failure->message, cases[i].message))
            fail_msg("%s: %d %s", cases[i].role, r, err.msg);
        assert_null(result.model);
        if (cases[i].lives)
            continue;
        r = trainer->ops->fit(trainer, base, &usual, &result, &err);
        assert_int_equal(r, FL_E_UNAVAILABLE);
        assert_non_null(strstr(err.msg, "the trainer has ended"));
    }
}

static void programs_that_do_not_start(void **state)
{
    static const struct {
        const char *path, *role;
        int code;
        const char *message;
    } cases[] = {
        {"/nowhere/trainer", "", FL_E_NOT_FOUND, "TrainerNotStarted: start /nowhere/trainer: "},
        {"/bin/true", "", FL_E_UNAVAILABLE, "TrainerNotStarted: TrainerExited: "},
        {"/proc/self/exe", "silent", FL_E_UNAVAILABLE,
         "TrainerNotStarted: TrainerHung: it said nothing for "},
        {"/proc/self/exe", "refuse", FL_E_INVALID,
         "TrainerNotStarted: NotFound: there is no data of tag mnist"},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        const char *const argv[] = {cases[i].path, "child", cases[i].role, NULL};
        struct lines lines = {0};
        struct fl_trainer_program program = program_for(argv, &lines);
        struct fl_trainer *trainer = NULL;
        struct fl_error err = {0};
        int r;

        if (strcmp(cases[i].role, "silent") == 0)
            program.start_timeout_ms = SHORT_MS;
        r = fl_trainer_start(&program, &env, &trainer, &err);
        if (r != cases[i].code || !strstr(err.msg, cases[i].message))
            fail_msg("%s %s: %d %s", cases[i].path, cases[i].role, r, err.msg);
        assert_null(trainer);
    }
}

struct watched {
    int64_t done, all;
    int calls;
};

static void on_steps(void *user, int64_t done, int64_t all)
{
    struct watched *watched = user;

    watched->done = done;
    watched->all = all;
    watched->calls++;
}

static bool once_it_moves(void *user)
{
    return ((struct watched *)user)->calls > 0;
}

static void a_fit_can_be_cancelled(void **state)
{
    static const struct {
        const char *role, *reason;
        bool lives;
    } cases[] = {{"good", "Cancelled", true}, {"deaf", FL_TRAINER_WOULD_NOT_STOP, false}};

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct lines lines = {0};
        struct watched watched = {0};
        struct fl_fit_options options = usual;
        struct fl_fit_result result = {0};
        TRAINER trainer = start(cases[i].role, &lines);
        FL_CLEANUP(fl_model_unrefp) struct fl_model *base = NULL;
        struct fl_evaluation judged;

        options.epochs = 10000; /* of 20 steps */
        options.cancelled = once_it_moves;
        options.progress = on_steps;
        options.user = &watched;
        assert_int_equal(trainer->ops->init(trainer, 5, &base, NULL), 0);
        assert_int_equal(trainer->ops->fit(trainer, base, &options, &result, NULL), FL_E_CONFLICT);
        assert_string_equal(fl_trainer_last_failure(trainer)->reason, cases[i].reason);
        assert_int_equal(fl_trainer_has_ended(trainer), !cases[i].lives);
        assert_int_equal(watched.all, 200000);
        assert_true(watched.done > 0 && watched.done < watched.all);
        assert_int_equal(trainer->ops->evaluate(trainer, base, &judged, NULL),
                         cases[i].lives ? 0 : FL_E_UNAVAILABLE);
    }
}

static void its_own_errors_leave_it_running(void **state)
{
    struct lines lines = {0};
    TRAINER trainer = start("good", &lines);
    FL_CLEANUP(fl_model_unrefp) struct fl_model *base = NULL;
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *exported = NULL;
    struct fl_fit_options options = usual;
    struct fl_fit_result result = {0};
    struct fl_error err = {0};

    (void)state;
    assert_int_equal(trainer->ops->init(trainer, 5, &base, NULL), 0);
    options.learning_rate = -1;
    assert_int_equal(trainer->ops->fit(trainer, base, &options, &result, &err), FL_E_INVALID);
    assert_string_equal(err.msg, "Invalid: learningRate: -1 is not above 0");
    options.learning_rate = 1e30;
    assert_int_equal(trainer->ops->fit(trainer, base, &options, &result, &err), FL_E_INVALID);
    assert_non_null(strstr(err.msg, "the loss is no longer a number at step "));
    assert_int_equal(fl_trainer_export(trainer, base, "onnx", &exported, &err),
                     FL_E_NOT_ACCEPTABLE);
    assert_string_equal(fl_trainer_last_failure(trainer)->reason, "Unsupported");
    assert_int_equal(trainer->ops->fit(trainer, base, &usual, &result, &err), 0);
    fl_model_unref(result.model);
}

static void data_is_told_and_tracebacks_are_written_down(void **state)
{
    static const char *const argv[] = {"/proc/self/exe", "child", "tell", NULL};
    FL_JSON data = json_pack("[{s:s}]", "name", "mnist.3");
    struct lines lines = {0};
    struct fl_trainer_program program = program_for(argv, &lines);
    FL_CLEANUP(destroy_trainer) struct fl_trainer *trainer = NULL;
    struct fl_model *model = NULL;
    struct fl_error err = {0};

    (void)state;
    program.data = data;
    assert_int_equal(fl_trainer_start(&program, &env, &trainer, &err), 0);
    assert_int_equal(trainer->ops->init(trainer, 1, &model, &err), FL_E_INVALID);
    assert_string_equal(err.msg, "KeyError: pixels");
    assert_non_null(strstr(lines.first, "\"data\":[{\"name\":\"mnist.3\"}]"));
    assert_int_equal(lines.count, 4);
    assert_string_equal(lines.last, "KeyError: pixels");
    assert_false(fl_trainer_has_ended(trainer));
}

static void output_is_passed_on(void **state)
{
    struct lines lines = {0};
    TRAINER trainer = start("chatter", &lines);
    FL_CLEANUP(fl_model_unrefp) struct fl_model *base = NULL;
    struct fl_fit_result result = {0};

    (void)state;
    assert_int_equal(trainer->ops->init(trainer, 5, &base, NULL), 0);
    assert_int_equal(trainer->ops->fit(trainer, base, &usual, &result, NULL), 0);
    assert_true(lines.count > 0);
    assert_string_equal(lines.last, "a line that nobody asked for");
    fl_model_unref(result.model);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_trains_like_one_of_ours),
        cmocka_unit_test(how_programs_fail_is_told),
        cmocka_unit_test(programs_that_do_not_start),
        cmocka_unit_test(a_fit_can_be_cancelled),
        cmocka_unit_test(its_own_errors_leave_it_running),
        cmocka_unit_test(data_is_told_and_tracebacks_are_written_down),
        cmocka_unit_test(output_is_passed_on),
    };

    if (fl_kernels_init(NULL) < 0)
        return 1;
    if (argc == 3 && strcmp(argv[1], "child") == 0) {
        role = argv[2];
        return serve();
    }
    env = fl_env_real(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
