#include "workloads/trainer/predicting_testing.h"

#include "lib/json.h"
#include "workloads/model/predictor.h"
#include "workloads/tensor/kernels.h"
#include "workloads/tensor/safetensors.h"
#include "workloads/trainer/link.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct fl_link link_up;
static float bias;
static struct fl_predictor *native;

static void answer(unsigned type, uint32_t id, json_t *head, const void *data, size_t size)
{
    const struct fl_body body = {.data = data, .size = size};
    struct fl_outgoing outgoing = {.fd = -1};

    if (fl_link_prepare(&link_up, type, id, head, &body, &outgoing, NULL) < 0)
        _exit(8);
    while (fl_link_push(&link_up, &outgoing, NULL) == 0) {
        struct fl_channel_wait wait = {.fd = FL_TRAINER_FD, .write = true};

        (void)fl_channel_wait(&wait, 1, 1000);
    }
    fl_outgoing_finish(&outgoing);
}

static const float *numbers_of(const struct fl_frame *frame)
{
    return frame->fd < 0
               ? frame->body
               : mmap(NULL, (size_t)frame->body_size, PROT_READ, MAP_PRIVATE, frame->fd, 0);
}

static void on_hello(const char *role, const struct fl_frame *frame)
{
    json_t *can = strcmp(role, "mute") == 0 ? json_array() : json_pack("[s]", "predict");

    if (!fl_json_bool(frame->head, "predicts", false))
        _exit(9);
    link_up.descriptors = true;
    answer(FL_FRAME_RESULT, frame->id,
           json_pack("{s:i, s:s, s:b, s:o}", "version", 1, "name", "sums", "descriptors", 1, "can",
                     can),
           NULL, 0);
}

static void fail(const struct fl_frame *frame, const char *reason, const char *message)
{
    answer(FL_FRAME_ERROR, frame->id, json_pack("{s:s, s:s}", "reason", reason, "message", message),
           NULL, 0);
}

static void load_native(const struct fl_frame *frame)
{
    struct fl_model *model = NULL;
    struct fl_error err = {0};
    const struct fl_description *description;
    json_t *shape = json_array();
    int r = fl_kernels_init(&err);

    if (r == 0)
        r = fl_link_model(&link_up, frame, &model, &err);
    if (r == 0)
        r = fl_predictor_create(model, 0, &native, &err);
    fl_model_unref(model);
    if (r < 0) {
        fail(frame, "Invalid", err.msg);
        json_decref(shape);
        return;
    }
    description = fl_predictor_description(native);
    for (unsigned i = 0; i < description->rank; i++)
        (void)json_array_append_new(shape, json_integer(description->shape[i]));
    answer(FL_FRAME_RESULT, frame->id,
           json_pack("{s:{s:o}, s:{s:I}}", "input", "shape", shape, "output", "size",
                     (json_int_t)description->classes),
           NULL, 0);
}

static void predict_native(const struct fl_frame *frame)
{
    const size_t count = (size_t)fl_json_int(frame->head, "rows", 0),
                 classes = (size_t)fl_predictor_description(native)->classes;
    float *answers = calloc(count * classes, sizeof(*answers));

    fl_predictor_predict(native, FL_PROBABILITIES, numbers_of(frame), count, answers);
    answer(FL_FRAME_RESULT, frame->id, json_pack("{s:I}", "rows", (json_int_t)count), answers,
           count * classes * sizeof(*answers));
    free(answers);
}

static void on_load(const char *role, const struct fl_frame *frame)
{
    const char *file = (const void *)numbers_of(frame);

    if (strcmp(role, "unloadable") == 0)
        _exit(3);
    if (!file)
        _exit(10);
    bias = (float)*file;
    answer(FL_FRAME_RESULT, frame->id,
           json_pack("{s:{s:[i]}, s:{s:i}}", "input", "shape", strcmp(role, "shape") == 0 ? -2 : 2,
                     "output", "size", strcmp(role, "size") == 0 ? 0 : 1),
           NULL, 0);
}

static void on_predict(const struct fl_frame *frame)
{
    const float *rows = numbers_of(frame);
    size_t count = (size_t)fl_json_int(frame->head, "rows", 0);
    float *answers = calloc(count + 1, sizeof(*answers));

    for (size_t i = 0; i < count; i++)
        answers[i] = rows[2 * i] + rows[2 * i + 1] + bias;
    switch ((int)rows[0]) {
    case FL_PREDICTING_KILL:
        (void)raise(SIGKILL);
        break;
    case FL_PREDICTING_HANG:
        (void)pause();
        break;
    case FL_PREDICTING_NAN:
        answers[count - 1] = NAN;
        break;
    case FL_PREDICTING_SHORT:
        count--;
        break;
    default:
        break;
    }
    if ((int)rows[0] == FL_PREDICTING_ERROR)
        fail(frame, "CodeFailed", "ValueError: bad luck");
    else
        answer(FL_FRAME_RESULT, frame->id, json_pack("{s:I}", "rows", (json_int_t)count), answers,
               count * sizeof(*answers));
    free(answers);
}

int fl_predicting_main(const char *role)
{
    struct fl_frame frame = {.fd = -1};

    if (*role == '/' && access(role, F_OK) == 0)
        return 4;
    if (fl_channel_adopt(FL_TRAINER_FD, NULL) < 0)
        return 7;
    fl_link_init(&link_up, FL_TRAINER_FD, FL_TRAINER_BODY_MAX);
    while (true) {
        struct fl_channel_wait wait = {.fd = FL_TRAINER_FD};
        int r = fl_link_pull(&link_up, &frame, NULL);

        if (r < 0)
            return 1;
        if (r == 0) {
            (void)fl_channel_wait(&wait, 1, 1000);
            continue;
        }
        if (frame.type == FL_FRAME_HELLO)
            on_hello(role, &frame);
        else if (frame.type == FL_FRAME_LOAD && strcmp(role, "native") == 0)
            load_native(&frame);
        else if (frame.type == FL_FRAME_LOAD)
            on_load(role, &frame);
        else if (frame.type == FL_FRAME_PREDICT && native)
            predict_native(&frame);
        else if (frame.type == FL_FRAME_PREDICT)
            on_predict(&frame);
        else if (frame.type == FL_FRAME_STOP)
            break;
        fl_frame_finish(&frame);
    }
    answer(FL_FRAME_RESULT, frame.id, NULL, NULL, 0);
    fl_frame_finish(&frame);
    fl_link_finish(&link_up);
    fl_predictor_destroy(native);
    return 0;
}
