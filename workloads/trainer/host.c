#include "workloads/trainer/host_internal.h"

#include "lib/process.h"
#include "lib/str.h"
#include "workloads/trainer/messages.h"

#include <signal.h>
#include <string.h>

#define START_TIMEOUT_MS   (2 * 60 * 1000)
#define SILENCE_TIMEOUT_MS (5 * 60 * 1000)
#define CANCEL_TIMEOUT_MS  (10 * 1000)
#define CAN_MAX            16

/* The table */

static int create_unneeded(const json_t *options, const struct fl_dataset *data,
                           struct fl_trainer **ret_trainer, struct fl_error *err)
{
    (void)options, (void)data, (void)ret_trainer;
    return fl_error_set(err, FL_E_INTERNAL, "a program is started, not created");
}

static void stop(struct fl_host *host)
{
    const struct fl_host_question question = {.type = FL_FRAME_STOP,
                                              .timeout_ms = host->limits.cancel_timeout_ms};
    struct fl_channel_wait wait = {.fd = host->process};
    struct fl_frame frame = {.fd = -1};

    if (fl_host_ask(host, &question, &frame, NULL) == 0)
        (void)fl_channel_wait(&wait, 1, host->limits.cancel_timeout_ms);
    fl_frame_finish(&frame);
    if (!host->dead)
        fl_host_kill(host);
}

static void destroy(struct fl_trainer *self)
{
    struct fl_host *host = (struct fl_host *)self;

    if (!host)
        return;
    if (!host->dead && host->process >= 0)
        stop(host);
    fl_fd_closep(&host->socket);
    fl_fd_closep(&host->output);
    fl_fd_closep(&host->process);
    fl_link_finish(&host->link);
    fl_host_clear_failure(host);
    json_decref(host->hello);
    free(host);
}

static int init(struct fl_trainer *self, uint64_t seed, struct fl_model **ret_model,
                struct fl_error *err)
{
    struct fl_host *host = (struct fl_host *)self;
    const struct fl_host_question question = {.type = FL_FRAME_INIT,
                                              .head = fl_seed_to_head(seed),
                                              .timeout_ms = host->limits.silence_timeout_ms};
    FL_CLEANUP(fl_frame_finish) struct fl_frame frame = {.fd = -1};
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    struct fl_error why = {0};
    int r = fl_host_ask(host, &question, &frame, err);

    if (r < 0)
        return r;
    r = fl_link_model(&host->link, &frame, &model, &why);
    if (r == 0)
        r = fl_model_check_finite(model, &why);
    if (r < 0)
        return fl_host_bad_result(host, &why, err);
    *ret_model = FL_TAKE(model);
    return 0;
}

static int take_trained(const struct fl_host *host, const struct fl_frame *frame,
                        const struct fl_model *base, struct fl_fit_result *result,
                        struct fl_error *err)
{
    FL_CLEANUP(fl_model_unrefp) struct fl_model *model = NULL;
    int r = fl_link_model(&host->link, frame, &model, err);

    if (r == 0)
        r = fl_model_check_like(base, model, err);
    if (r == 0)
        r = fl_model_check_finite(model, err);
    if (r == 0)
        r = fl_fit_result_from_head(frame->head, result, err);
    if (r == 0)
        result->model = FL_TAKE(model);
    return r;
}

static int fit(struct fl_trainer *self, const struct fl_model *base,
               const struct fl_fit_options *options, struct fl_fit_result *ret_result,
               struct fl_error *err)
{
    struct fl_host *host = (struct fl_host *)self;
    const struct fl_body body = {.model = base};
    const struct fl_host_question question = {.type = FL_FRAME_FIT,
                                              .head = fl_fit_to_head(options),
                                              .body = &body,
                                              .timeout_ms = host->limits.silence_timeout_ms,
                                              .options = options};
    FL_CLEANUP(fl_frame_finish) struct fl_frame frame = {.fd = -1};
    struct fl_error why = {0};
    int r = fl_host_ask(host, &question, &frame, err);

    if (r < 0)
        return r;
    r = take_trained(host, &frame, base, ret_result, &why);
    return r < 0 ? fl_host_bad_result(host, &why, err) : 0;
}

static int evaluate(struct fl_trainer *self, const struct fl_model *model,
                    struct fl_evaluation *ret_evaluation, struct fl_error *err)
{
    struct fl_host *host = (struct fl_host *)self;
    const struct fl_body body = {.model = model};
    const struct fl_host_question question = {
        .type = FL_FRAME_EVALUATE, .body = &body, .timeout_ms = host->limits.silence_timeout_ms};
    FL_CLEANUP(fl_frame_finish) struct fl_frame frame = {.fd = -1};
    struct fl_error why = {0};
    int r = fl_host_ask(host, &question, &frame, err);

    if (r < 0)
        return r;
    r = fl_evaluation_from_head(frame.head, ret_evaluation, &why);
    return r < 0 ? fl_host_bad_result(host, &why, err) : 0;
}

/* Starting */

static int start_process(struct fl_host *host, const struct fl_trainer_program *program,
                         struct fl_error *err)
{
    FL_CLEANUP(fl_fd_closep) int theirs = -1, written = -1;
    struct fl_process_start start = {.argv = program->argv, .env = program->environ, .fd_count = 1};
    int channel[2], output[2], r;

    r = fl_channel_pair(channel, err);
    if (r < 0)
        return r;
    host->socket = channel[0];
    theirs = channel[1];
    r = fl_pipe_create(output, err);
    if (r < 0)
        return r;
    host->output = output[0];
    written = output[1];
    start.fds = &theirs;
    start.output = written;
    return fl_process_start(&start, &host->process, err);
}

static int say_hello(struct fl_host *host, const json_t *data, struct fl_error *err)
{
    json_t *head = json_pack("{s:i, s:b, s:I}", "version", FL_TRAINER_VERSION, "descriptors", 1,
                             "maxBodyBytes", (json_int_t)host->limits.max_model_bytes);
    const struct fl_host_question question = {
        .type = FL_FRAME_HELLO, .head = head, .timeout_ms = host->limits.start_timeout_ms};
    FL_CLEANUP(fl_frame_finish) struct fl_frame frame = {.fd = -1};
    int64_t body_max;
    int r;

    if (data)
        (void)json_object_set(head, "data", (json_t *)data);
    if (host->limits.predicts)
        (void)json_object_set_new(head, "predicts", json_true());
    if (host->limits.shared)
        (void)json_object_set_new(head, "shared", json_true());
    r = fl_host_ask(host, &question, &frame, err);
    if (r < 0)
        return r;
    if (fl_json_int(frame.head, "version", 0) != FL_TRAINER_VERSION)
        return fl_host_refuse(host, err, "it answered hello with another version than 1");
    host->hello = json_incref(frame.head);
    host->examples = fl_json_int(frame.head, "examples", 0);
    host->ops.name = fl_str_or(fl_json_str(frame.head, "name"), "trainer");
    host->link.descriptors = fl_json_bool(frame.head, "descriptors", false);
    body_max = fl_json_int(frame.head, "maxBodyBytes", 0);
    if (body_max > 0 && (uint64_t)body_max < host->link.body_max)
        host->link.body_max = (uint64_t)body_max;
    return 0;
}

static int64_t or_default(int64_t value, int64_t fallback)
{
    return value > 0 ? value : fallback;
}

static struct fl_host *make(const struct fl_trainer_program *program, const struct fl_env *env)
{
    struct fl_host *host = fl_calloc(1, sizeof(*host));

    host->ops = (struct fl_trainer_ops){.name = "trainer",
                                        .create = create_unneeded,
                                        .destroy = destroy,
                                        .init = init,
                                        .fit = fit,
                                        .evaluate = evaluate};
    host->base.ops = &host->ops;
    host->env = *env;
    host->limits = *program;
    host->limits.argv = host->limits.environ = NULL;
    host->limits.data = NULL;
    host->limits.start_timeout_ms = or_default(program->start_timeout_ms, START_TIMEOUT_MS);
    host->limits.silence_timeout_ms = or_default(program->silence_timeout_ms, SILENCE_TIMEOUT_MS);
    host->limits.cancel_timeout_ms = or_default(program->cancel_timeout_ms, CANCEL_TIMEOUT_MS);
    if (host->limits.max_model_bytes == 0)
        host->limits.max_model_bytes = FL_TRAINER_BODY_MAX;
    host->socket = host->output = host->process = -1;
    return host;
}

static void destroy_host(struct fl_host **host)
{
    destroy(*host ? &(*host)->base : NULL);
}

int fl_trainer_start(const struct fl_trainer_program *program, const struct fl_env *env,
                     struct fl_trainer **ret_trainer, struct fl_error *err)
{
    FL_CLEANUP(destroy_host) struct fl_host *host = make(program, env);
    int r = start_process(host, program, err);

    if (r < 0)
        return fl_error_wrap(err, FL_TRAINER_NOT_STARTED);
    fl_link_init(&host->link, host->socket, host->limits.max_model_bytes);
    r = say_hello(host, program->data, err);
    if (r < 0)
        return fl_error_wrap(err, FL_TRAINER_NOT_STARTED);
    *ret_trainer = &FL_TAKE(host)->base;
    return 0;
}

/* Of a trainer made here */

void fl_trainer_kill(struct fl_trainer *trainer)
{
    const struct fl_host *host = (struct fl_host *)trainer;

    if (!host->dead)
        fl_process_signal_group(host->process, SIGKILL);
}

bool fl_trainer_has_ended(const struct fl_trainer *trainer)
{
    return ((const struct fl_host *)trainer)->dead;
}

const struct fl_trainer_failure *fl_trainer_last_failure(const struct fl_trainer *trainer)
{
    return &((const struct fl_host *)trainer)->failure;
}

const char *fl_trainer_name(const struct fl_trainer *trainer)
{
    return ((const struct fl_host *)trainer)->ops.name;
}

int64_t fl_trainer_examples(const struct fl_trainer *trainer)
{
    return ((const struct fl_host *)trainer)->examples;
}

bool fl_trainer_can(const struct fl_trainer *trainer, const char *request)
{
    const json_t *can = json_object_get(((const struct fl_host *)trainer)->hello, "can");

    for (size_t i = 0; i < json_array_size(can) && i < CAN_MAX; i++)
        if (fl_streq(json_string_value(json_array_get(can, i)), request))
            return true;
    return false;
}

int fl_trainer_turn(struct fl_trainer *trainer, const struct fl_trainer_turn *turn,
                    struct fl_error *err)
{
    struct fl_host *host = (struct fl_host *)trainer;
    json_t *head = fl_seed_to_head(turn->seed);
    const struct fl_host_question question = {
        .type = FL_FRAME_LEARNER, .head = head, .timeout_ms = host->limits.silence_timeout_ms};
    FL_CLEANUP(fl_frame_finish) struct fl_frame frame = {.fd = -1};

    fl_json_set_str(head, "learner", turn->learner);
    (void)json_object_set_new(head, "part", json_integer((json_int_t)turn->part));
    (void)json_object_set_new(head, "parts", json_integer((json_int_t)turn->parts));
    (void)json_object_set_new(head, "keep", json_boolean(turn->keep));
    if (turn->data)
        (void)json_object_set(head, "data", (json_t *)turn->data);
    return fl_host_ask(host, &question, &frame, err);
}

int fl_trainer_export(struct fl_trainer *trainer, const struct fl_model *model, const char *format,
                      struct fl_bytes **ret_bytes, struct fl_error *err)
{
    struct fl_host *host = (struct fl_host *)trainer;
    json_t *head = json_object();
    const struct fl_body body = {.model = model};
    const struct fl_host_question question = {.type = FL_FRAME_EXPORT,
                                              .head = head,
                                              .body = &body,
                                              .timeout_ms = host->limits.silence_timeout_ms};
    FL_CLEANUP(fl_frame_finish) struct fl_frame frame = {.fd = -1};
    struct fl_error why = {0};
    int r;

    fl_json_set_str(head, "format", format);
    r = fl_host_ask(host, &question, &frame, err);
    if (r < 0)
        return r;
    *ret_bytes = fl_bytes_new(NULL, (size_t)frame.body_size);
    r = fl_host_copy_body(&frame, (*ret_bytes)->data, &why);
    if (r == 0)
        return 0;
    fl_bytes_unref(FL_TAKE(*ret_bytes));
    return fl_host_bad_result(host, &why, err);
}
