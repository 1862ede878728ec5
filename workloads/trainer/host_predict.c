/* A program's predictions. */
#include "workloads/trainer/host_internal.h"

#include "lib/channel.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>

int fl_host_copy_body(const struct fl_frame *frame, void *out, struct fl_error *err)
{
    const size_t size = (size_t)frame->body_size;
    void *map;
    int r;

    if (frame->fd < 0) {
        if (size > 0)
            memcpy(out, frame->body, size);
        return 0;
    }
    r = fl_sealed_check(frame->fd, frame->body_size, err);
    if (r < 0)
        return r;
    map = size > 0 ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, frame->fd, 0) : MAP_FAILED;
    if (map == MAP_FAILED)
        return fl_error_set(err, FL_E_INVALID, "what it sent cannot be mapped");
    memcpy(out, map, size);
    (void)munmap(map, size);
    return 0;
}

/* Loading */

static int read_shape(const json_t *shape, struct fl_trainer_form *form, struct fl_error *err)
{
    int64_t width = 1;

    if (!json_is_array(shape) || json_array_size(shape) > FL_TENSOR_RANK_MAX)
        return fl_error_set(err, FL_E_INVALID, "input.shape: must be a list of at most %d sizes",
                            FL_TENSOR_RANK_MAX);
    form->rank = (unsigned)json_array_size(shape);
    for (unsigned i = 0; i < form->rank; i++) {
        const int64_t size = json_integer_value(json_array_get(shape, i));

        if (size < 1 || size > FL_TRAINER_WIDTH_MAX / width)
            return fl_error_set(err, FL_E_INVALID, "input.shape[%u]: must be a size", i);
        form->shape[i] = size;
        width *= size;
    }
    form->width = (size_t)width;
    return 0;
}

static int read_form(const json_t *head, struct fl_trainer_form *form, struct fl_error *err)
{
    const int64_t size = fl_json_int(head, "output.size", 0);

    *form = (struct fl_trainer_form){.answer = (size_t)size};
    if (size < 1 || size > FL_TRAINER_ANSWER_MAX)
        return fl_error_set(err, FL_E_INVALID, "output.size: must be from 1 to %" PRId64,
                            FL_TRAINER_ANSWER_MAX);
    return read_shape(fl_json_path((json_t *)head, "input.shape"), form, err);
}

int fl_trainer_load(struct fl_trainer *trainer, const void *file, size_t len,
                    struct fl_trainer_form *ret_form, struct fl_error *err)
{
    struct fl_host *host = (struct fl_host *)trainer;
    const struct fl_body body = {.data = file, .size = len};
    const struct fl_host_question question = {
        .type = FL_FRAME_LOAD, .body = &body, .timeout_ms = host->limits.start_timeout_ms};
    FL_CLEANUP(fl_frame_finish) struct fl_frame frame = {.fd = -1};
    struct fl_error why = {0};
    int r;

    if (!fl_trainer_can(trainer, "predict"))
        return fl_error_set(err, FL_E_NOT_ACCEPTABLE, "program %s does not predict",
                            fl_trainer_name(trainer));
    r = fl_host_ask(host, &question, &frame, err);
    if (r < 0)
        return r;
    r = read_form(frame.head, ret_form, &why);
    return r < 0 ? fl_host_bad_result(host, &why, err) : 0;
}

/* Predicting */

static int take_answers(const struct fl_frame *frame, size_t numbers, float *ret_answers,
                        struct fl_error *err)
{
    int r;

    if (frame->body_size != numbers * sizeof(float))
        return fl_error_set(err, FL_E_INVALID,
                            "it answered %" PRIu64 " bytes, where %zu numbers are due",
                            frame->body_size, numbers);
    r = fl_host_copy_body(frame, ret_answers, err);
    for (size_t i = 0; i < numbers && r == 0; i++)
        if (!isfinite(ret_answers[i]))
            r = fl_error_set(err, FL_E_INVALID, "number %zu of its answers is not finite", i);
    return r;
}

int fl_trainer_predict(struct fl_trainer *trainer, const struct fl_trainer_form *form,
                       const float *rows, size_t count, float *ret_answers, struct fl_error *err)
{
    struct fl_host *host = (struct fl_host *)trainer;
    const struct fl_body body = {.data = rows, .size = count * form->width * sizeof(float)};
    const struct fl_host_question question = {.type = FL_FRAME_PREDICT,
                                              .head = json_pack("{s:I}", "rows", (json_int_t)count),
                                              .body = &body,
                                              .timeout_ms = host->limits.silence_timeout_ms};
    FL_CLEANUP(fl_frame_finish) struct fl_frame frame = {.fd = -1};
    struct fl_error why = {0};
    int r = fl_host_ask(host, &question, &frame, err);

    if (r < 0)
        return r;
    r = take_answers(&frame, count * form->answer, ret_answers, &why);
    return r < 0 ? fl_host_bad_result(host, &why, err) : 0;
}
